/*
 * pace: watches that the rates of virtual MTAs hold over all shards and lives.
 *
 * After each step it reads how many recipients every shard has let through since its start, and
 * notes the time of each by the clock of that shard, which a turn that stalls does not move.
 * Whoever came N before, at a rate of N in a span, must have come a span before.
 */
#pragma once

#include "shard/shard.h"

#define PACE_SHARDS_MAX 16
#define PACE_VMTAS_MAX  8
#define PACE_COUNT_MAX  64

struct pace_vmta {
    uint64_t totals[PACE_SHARDS_MAX]; /* let through in this life, at the last look */
    uint64_t limit_ns;                /* between tokens, then; 0 = no bound */
    uint64_t count;                   /* let through since that holds, over lives */
    uint64_t times_ns[PACE_COUNT_MAX];
};

struct pace {
    uint64_t life;
    struct pace_vmta vmtas[PACE_VMTAS_MAX]; /* by id */
};

/* NULL, or what is wrong. life: of these shards, another number for each. Rates of the
 * configuration have counts up to PACE_COUNT_MAX. */
const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards,
                      uint16_t count);
