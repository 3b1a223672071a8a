/*
 * rng: a small seeded generator (xoshiro256**), not for secrets.
 *
 * One state per owner and thread; the same seed gives the same numbers for ever. The product takes
 * its seed from the loop (core/io), which draws it from the system or from the simulator's seed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_init(struct rng *rng, uint64_t seed);
uint64_t rng_u64(struct rng *rng);
/* Even in [0, bound); bound >= 1. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* Even in [low, high], low <= high. */
uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high);
/* True about once in `odds` calls. */
bool rng_one_in(struct rng *rng, uint64_t odds);
