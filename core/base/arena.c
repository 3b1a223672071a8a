#include "core/base/arena.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdalign.h>

#define ARENA_BLOCK_BYTES 65536
#define ARENA_ALIGNMENT   16

/* The first block of the chain is the one that is being filled. */
struct arena_block {
    struct arena_block *next;
    size_t room_bytes;
    size_t used_bytes;
    alignas(ARENA_ALIGNMENT) uint8_t room[];
};

void arena_init(struct arena *arena)
{
    arena->blocks = NULL;
    arena->used_bytes = 0;
}

void arena_fini(struct arena *arena)
{
    while (arena->blocks != NULL) {
        struct arena_block *block = arena->blocks;

        arena->blocks = block->next;
        /* Who reads what is gone shall not find what it hopes for. */
        memset(block->room, 0xdd, block->used_bytes);
        mem_free(block);
    }
    arena->used_bytes = 0;
}

static struct arena_block *block_new(size_t room_bytes)
{
    struct arena_block *block = mem_alloc(sizeof(*block) + room_bytes);

    block->room_bytes = room_bytes;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    struct arena_block *block = arena->blocks;
    void *piece;

    must(bytes <= SIZE_MAX / 2);
    bytes = (bytes + ARENA_ALIGNMENT - 1) & ~(size_t)(ARENA_ALIGNMENT - 1);
    if (bytes == 0)
        bytes = ARENA_ALIGNMENT;
    if (bytes > ARENA_BLOCK_BYTES / 4 && block != NULL &&
        bytes > block->room_bytes - block->used_bytes) {
        /* A large piece goes behind the block in use, whose rest stays open for small ones. */
        struct arena_block *own = block_new(bytes);

        own->next = block->next;
        block->next = own;
        block = own;
    } else if (block == NULL || bytes > block->room_bytes - block->used_bytes) {
        block = block_new(bytes > ARENA_BLOCK_BYTES ? bytes : ARENA_BLOCK_BYTES);
        block->next = arena->blocks;
        arena->blocks = block;
    }
    piece = block->room + block->used_bytes;
    block->used_bytes += bytes;
    arena->used_bytes += bytes;
    return piece;
}

struct slice arena_copy(struct arena *arena, struct slice s)
{
    uint8_t *copy = arena_alloc(arena, s.len + 1);

    if (s.len > 0)
        memcpy(copy, s.data, s.len);
    return slice_of(copy, s.len);
}

char *arena_strdup(struct arena *arena, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = arena_alloc(arena, bytes);

    memcpy(copy, text, bytes);
    return copy;
}
