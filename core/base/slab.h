/*
 * slab: fixed-size objects in stable memory, named by a 32-bit index and a generation.
 *
 * Objects never move. The slab grows by blocks of about 256 KB up to count_max objects; growth is
 * the only moment it allocates (mem_try_alloc). The lowest block with room is used first, so that
 * the highest ones empty as the load goes down, and slab_trim gives the memory of empty ones back
 * to the system; the room stays the slab's. Objects that were never handed out are not touched, so
 * what is reserved and not used takes address space only. Full is not an error: alloc returns NULL
 * and the caller stops taking work. One thread, the owner; other threads may read an object only
 * while its owner lent it to them. A handle that crosses turns is (index, generation): slab_get
 * returns NULL when the object it named has been freed since. Generations start at 1 and have 16
 * bits: a handle that is kept while its object's place is used 32768 times more may name another
 * one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slab_block {
    uint8_t *data;
    uint32_t free_head; /* position + 1 of the object that was given back last; 0 = none */
    uint32_t touched;   /* objects from here on hold no memory */
    uint32_t used;
    bool was_empty; /* at the last slab_trim, and since */
};

struct slab {
    struct slab_block *blocks;
    uint16_t *generations; /* per object; odd = live, even = free */
    uint32_t object_bytes; /* rounded up to 8 */
    uint32_t per_block_shift;
    uint32_t count_max;
    uint32_t count_grown;
    uint32_t count_used;
    uint32_t open_block; /* none below has room */
};

struct slab_handle {
    uint32_t index;
    uint32_t generation;
};

/* count_max >= 1; object_bytes >= 4. The generation table is reserved at once, untouched pages. */
void slab_init(struct slab *slab, uint32_t object_bytes, uint32_t count_max);
void slab_fini(struct slab *slab);
/* A zeroed object, or NULL when full. */
void *slab_alloc(struct slab *slab, uint32_t *ret_index);
/* The same with undefined content, for large objects whose users set what they read. */
void *slab_alloc_unset(struct slab *slab, uint32_t *ret_index);
void slab_free(struct slab *slab, uint32_t index);
/* The live object at index; must() when it is not live. */
void *slab_at(const struct slab *slab, uint32_t index);
static inline bool slab_is_live(const struct slab *slab, uint32_t index)
{
    return index < slab->count_grown && (slab->generations[index] & 1) != 0;
}
/*
 * Grows now so that at least count objects (or count_max) exist: boot-time warming. False when
 * memory is short.
 */
bool slab_reserve(struct slab *slab, uint32_t count);
/*
 * The memory of blocks that were empty at the call before, and since, goes back to the system: at
 * most blocks_max of them, tens of microseconds each. How many went; *ret_more: there are some for
 * the next call.
 */
uint32_t slab_trim(struct slab *slab, uint32_t blocks_max, bool *ret_more);
struct slab_handle slab_handle(const struct slab *slab, uint32_t index);
void *slab_get(const struct slab *slab, struct slab_handle handle);
