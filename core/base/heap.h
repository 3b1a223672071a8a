/*
 * heap: a 4-ary min-heap of (key, value) pairs, for due times by the million.
 *
 * 8 bytes an entry, no removal by value: an owner that changes its mind leaves a stale entry and
 * recognises it when it comes out. Grows by doubling (mem_try_alloc). One thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct heap_entry {
    uint32_t key;
    uint32_t value;
};

struct heap {
    struct heap_entry *entries;
    uint32_t count;
    uint32_t capacity;
};

void heap_init(struct heap *heap);
void heap_fini(struct heap *heap);
/* Room for so many entries altogether: pushes up to there succeed. False when memory is short. */
bool heap_reserve(struct heap *heap, uint32_t count);
/* False when memory is short; the heap is unchanged then. */
bool heap_push(struct heap *heap, struct heap_entry entry);
/* False when empty. */
bool heap_pop(struct heap *heap, struct heap_entry *ret_entry);
/* NULL when empty. */
const struct heap_entry *heap_top(const struct heap *heap);
