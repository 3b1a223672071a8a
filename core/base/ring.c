/*
 * Indices run freely through 32 bits and are masked only to find a slot, so full and empty differ
 * without a spare slot.
 */
#include "core/base/ring.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stddef.h>
#include <string.h>

void ring_init(struct ring *ring, uint32_t capacity)
{
    must(capacity >= 2 && (capacity & (capacity - 1)) == 0);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->head, 0);
    ring->head_cached = 0;
    ring->tail_cached = 0;
    ring->slots = mem_alloc_aligned((size_t)capacity * sizeof(void *), 128);
    ring->mask = capacity - 1;
}

void ring_fini(struct ring *ring)
{
    mem_free(ring->slots);
    ring->slots = NULL;
}

uint32_t ring_push(struct ring *ring, void *const *items, uint32_t count)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t room = ring->mask + 1 - (tail - ring->head_cached);
    uint32_t until_wrap;

    if (room < count) {
        /* Acquire: the consumer has read the slots before we write them anew. */
        ring->head_cached = atomic_load_explicit(&ring->head, memory_order_acquire);
        room = ring->mask + 1 - (tail - ring->head_cached);
        if (count > room)
            count = room;
    }
    if (count == 0)
        return 0;
    until_wrap = ring->mask + 1 - (tail & ring->mask);
    if (until_wrap > count)
        until_wrap = count;
    memcpy(ring->slots + (tail & ring->mask), items, until_wrap * sizeof(void *));
    memcpy(ring->slots, items + until_wrap, (count - until_wrap) * sizeof(void *));
    atomic_store_explicit(&ring->tail, tail + count, memory_order_release);
    return count;
}

uint32_t ring_pop(struct ring *ring, void **items, uint32_t count_max)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t count = ring->tail_cached - head;
    uint32_t until_wrap;

    if (count < count_max) {
        ring->tail_cached = atomic_load_explicit(&ring->tail, memory_order_acquire);
        count = ring->tail_cached - head;
    }
    if (count > count_max)
        count = count_max;
    if (count == 0)
        return 0;
    until_wrap = ring->mask + 1 - (head & ring->mask);
    if (until_wrap > count)
        until_wrap = count;
    memcpy(items, ring->slots + (head & ring->mask), until_wrap * sizeof(void *));
    memcpy(items + until_wrap, ring->slots, (count - until_wrap) * sizeof(void *));
    /* Release: the slots have been read before the producer may take them again. */
    atomic_store_explicit(&ring->head, head + count, memory_order_release);
    return count;
}

bool ring_is_empty(struct ring *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    ring->tail_cached = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return ring->tail_cached == head;
}

uint32_t ring_depth(const struct ring *ring)
{
    /* The head first: read later it could overtake the tail, and the difference would wrap. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint32_t depth = tail - head;

    return depth <= ring->mask + 1 ? depth : ring->mask + 1;
}
