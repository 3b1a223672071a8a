/*
 * rules_memory: what a receiver remembers of its clients: two times under a 64-bit key.
 *
 * A table that grows by doubling up to a bound; then the oldest of a few neighbours gives way. Keys
 * are hashes and are taken as unique. One thread; memory is allocated with the first key.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rules_note {
    uint64_t key; /* 0 = free */
    uint64_t used_ns;
    uint64_t at_ns;
    uint64_t until_ns;
};

struct rules_memory {
    struct rules_note *notes;
    uint32_t room; /* a power of two, or 0 */
    uint32_t count;
};

#define RULES_MEMORY_MAX (1u << 20)

void rules_memory_fini(struct rules_memory *memory);
/* The note under the key, zero but for the key when it is new. Valid until the next call. */
struct rules_note *rules_memory_note(struct rules_memory *memory, uint64_t key, uint64_t now_ns,
                                     bool *ret_is_new);
