/*
 * A free object holds the next free one of its block (position + 1) in its first four bytes. Under
 * the address sanitizer the bytes of free objects are poisoned, so that a stale pointer is caught
 * at its use.
 */
#include "core/base/slab.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(at, bytes)   __asan_poison_memory_region(at, bytes)
#define UNPOISON(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define POISON(at, bytes)   ((void)(at), (void)(bytes))
#define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

#define SLAB_BLOCK_BYTES (256u * 1024)

static uint32_t blocks_max(const struct slab *slab)
{
    uint64_t per_block = 1ull << slab->per_block_shift;

    return (uint32_t)((slab->count_max + per_block - 1) >> slab->per_block_shift);
}

/* The last block may be a short one. */
static uint32_t objects_in_block(const struct slab *slab, uint32_t block)
{
    uint32_t first = block << slab->per_block_shift;
    uint32_t rest = slab->count_max - first;

    return rest < (1u << slab->per_block_shift) ? rest : 1u << slab->per_block_shift;
}

static uint32_t position_of(const struct slab *slab, uint32_t index)
{
    return index & ((1u << slab->per_block_shift) - 1);
}

static uint8_t *object_at(const struct slab *slab, uint32_t index)
{
    return slab->blocks[index >> slab->per_block_shift].data +
           (size_t)position_of(slab, index) * slab->object_bytes;
}

void slab_init(struct slab *slab, uint32_t object_bytes, uint32_t count_max)
{
    must(count_max >= 1 && count_max < UINT32_MAX);
    must(object_bytes >= 4 && object_bytes <= UINT32_MAX - 8);
    *slab = (struct slab){
        .object_bytes = (object_bytes + 7) & ~7u,
        .count_max = count_max,
    };
    while (((uint64_t)slab->object_bytes << (slab->per_block_shift + 1)) <= SLAB_BLOCK_BYTES)
        slab->per_block_shift++;
    slab->blocks = mem_alloc(blocks_max(slab) * sizeof(*slab->blocks));
    slab->generations = mem_alloc(count_max * sizeof(*slab->generations));
}

void slab_fini(struct slab *slab)
{
    for (uint32_t block = 0; slab->blocks != NULL && block < blocks_max(slab); block++) {
        uint8_t *data = slab->blocks[block].data;

        if (data == NULL)
            break;
        UNPOISON(data, (size_t)objects_in_block(slab, block) * slab->object_bytes);
        mem_free(data);
    }
    mem_free(slab->blocks);
    mem_free(slab->generations);
    *slab = (struct slab){0};
}

/* Adds one block. False when count_max is reached or memory is short. */
static bool slab_grow(struct slab *slab)
{
    uint32_t block = slab->count_grown >> slab->per_block_shift;
    uint32_t count;

    if (slab->count_grown == slab->count_max)
        return false;
    count = objects_in_block(slab, block);
    slab->blocks[block].data = mem_try_alloc((size_t)count * slab->object_bytes);
    if (slab->blocks[block].data == NULL)
        return false;
    POISON(slab->blocks[block].data, (size_t)count * slab->object_bytes);
    slab->count_grown += count;
    return true;
}

/* The lowest block that has room, grown when there is none; NULL when the slab is full. */
static struct slab_block *open_block(struct slab *slab)
{
    for (;; slab->open_block++) {
        bool is_grown = (uint64_t)slab->open_block << slab->per_block_shift < slab->count_grown;

        if (!is_grown && !slab_grow(slab))
            return NULL;
        if (slab->blocks[slab->open_block].used < objects_in_block(slab, slab->open_block))
            return &slab->blocks[slab->open_block];
    }
}

void *slab_alloc_unset(struct slab *slab, uint32_t *ret_index)
{
    struct slab_block *block = open_block(slab);
    uint32_t index;
    uint8_t *object;

    if (block == NULL)
        return NULL;
    index = (slab->open_block << slab->per_block_shift) +
            (block->free_head != 0 ? block->free_head - 1 : block->touched++);
    must_slow((slab->generations[index] & 1) == 0);
    object = object_at(slab, index);
    UNPOISON(object, slab->object_bytes);
    if (block->free_head != 0)
        memcpy(&block->free_head, object, sizeof(block->free_head));
    block->used++;
    block->was_empty = false;
    slab->generations[index]++;
    slab->count_used++;
    *ret_index = index;
    return object;
}

void *slab_alloc(struct slab *slab, uint32_t *ret_index)
{
    void *object = slab_alloc_unset(slab, ret_index);

    if (object)
        memset(object, 0, slab->object_bytes);
    return object;
}

void slab_free(struct slab *slab, uint32_t index)
{
    uint32_t number = index >> slab->per_block_shift;
    struct slab_block *block = &slab->blocks[number];
    uint8_t *object;

    must(slab_is_live(slab, index));
    object = object_at(slab, index);
    slab->generations[index]++;
    slab->count_used--;
    memcpy(object, &block->free_head, sizeof(block->free_head));
    POISON(object, slab->object_bytes);
    block->free_head = position_of(slab, index) + 1;
    block->used--;
    if (number < slab->open_block)
        slab->open_block = number;
}

uint32_t slab_trim(struct slab *slab, uint32_t blocks_max, bool *ret_more)
{
    uint32_t grown =
        (slab->count_grown + (1u << slab->per_block_shift) - 1) >> slab->per_block_shift;
    uint32_t trimmed = 0;
    bool more = false;

    for (uint32_t i = 0; i < grown; i++) {
        struct slab_block *block = &slab->blocks[i];

        if (block->used > 0 || block->touched == 0)
            continue;
        if (!block->was_empty || trimmed == blocks_max) {
            block->was_empty = more = true;
            continue;
        }
        UNPOISON(block->data, (size_t)objects_in_block(slab, i) * slab->object_bytes);
        mem_drop(block->data, (size_t)objects_in_block(slab, i) * slab->object_bytes);
        POISON(block->data, (size_t)objects_in_block(slab, i) * slab->object_bytes);
        block->free_head = block->touched = 0;
        trimmed++;
    }
    *ret_more = more;
    return trimmed;
}

void *slab_at(const struct slab *slab, uint32_t index)
{
    must(slab_is_live(slab, index));
    return object_at(slab, index);
}

bool slab_reserve(struct slab *slab, uint32_t count)
{
    if (count > slab->count_max)
        count = slab->count_max;
    while (slab->count_grown < count) {
        if (!slab_grow(slab))
            return false;
    }
    return true;
}

struct slab_handle slab_handle(const struct slab *slab, uint32_t index)
{
    must(slab_is_live(slab, index));
    return (struct slab_handle){.index = index, .generation = slab->generations[index]};
}

void *slab_get(const struct slab *slab, struct slab_handle handle)
{
    /* An even generation is never handed out; a forged one must not reach a free object. */
    if (!slab_is_live(slab, handle.index) || slab->generations[handle.index] != handle.generation)
        return NULL;
    return object_at(slab, handle.index);
}
