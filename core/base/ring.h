/*
 * ring: a bounded lock-free queue of pointers, one producer thread and one consumer thread.
 *
 * Each side caches the other's index and touches the shared line only when its cache says full or
 * empty. The two sides and their caches live 128 bytes apart (adjacent-line prefetch). A push is
 * published by a release store, seen by an acquire load. Full and empty are ordinary answers.
 */
#pragma once

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct ring {
    alignas(128) _Atomic uint32_t tail; /* producer writes */
    uint32_t head_cached;               /* producer's copy of head */
    alignas(128) _Atomic uint32_t head; /* consumer writes */
    uint32_t tail_cached;               /* consumer's copy of tail */
    alignas(128) void **slots;
    uint32_t mask;
};

/* capacity: a power of two, at least 2. */
void ring_init(struct ring *ring, uint32_t capacity);
void ring_fini(struct ring *ring);

/* Producer. Returns how many of the count items went in. */
uint32_t ring_push(struct ring *ring, void *const *items, uint32_t count);
/* Consumer. Returns how many items came out, at most count_max. */
uint32_t ring_pop(struct ring *ring, void **items, uint32_t count_max);
/* Consumer: nothing to pop at this moment (acquires the producer's index). */
bool ring_is_empty(struct ring *ring);
/* Either side, approximate: items inside. */
uint32_t ring_depth(const struct ring *ring);
