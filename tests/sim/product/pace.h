/*
 * pace: watches that rates hold: those of virtual MTAs and of limits over all shards and lives,
 * those of queues (max-msg-rate, max-connect-rate, max-data-volume-rate) over moves, reloads and
 * lives.
 *
 * After each step it reads how many recipients every shard has let through since its start, of
 * which queue, and which connections were opened for which queue, and notes the time of each by the
 * clock of that shard, which a turn that stalls does not move. Whoever came N before, at a rate of
 * N in a span, must have come a span before. Nothing of it is asked of the code that keeps the
 * rates.
 */
#pragma once

#include "shard/policy/scope.h"
#include "shard/shard.h"

#define PACE_SHARDS_MAX  16
#define PACE_VMTAS_MAX   8
#define PACE_METERS_MAX  128 /* rates that are shared; those met later are not watched */
#define PACE_COUNT_MAX   64
#define PACE_USES_MAX    256 /* of a volume within its span */
#define PACE_DOMAINS_MAX 16  /* d<number>.test; those with a higher number are not watched */
#define PACE_QUEUES_MAX  256 /* of a shard; likewise */

/* Uses of one rate. */
struct pace_row {
    uint64_t limit_ns; /* between tokens; 0 = no bound */
    uint64_t count;    /* used since that holds, over lives */
    uint64_t times_ns[PACE_COUNT_MAX];
};

/* Octets of one rate, younger than its span. */
struct pace_volume {
    uint64_t limit_ns; /* between two; 0 = no bound */
    uint32_t version;  /* of the configuration, where a bound that goes and comes begins anew */
    uint64_t sum;
    uint32_t first; /* ring */
    uint32_t count;
    struct {
        uint64_t at_ns;
        uint64_t octets;
    } uses[PACE_USES_MAX];
};

/* One rate that shards share. */
struct pace_meter {
    struct meter_key key;
    uint16_t quantity;
    uint64_t totals[PACE_SHARDS_MAX]; /* let through in this life, at the last look */
    struct pace_row row;
    struct pace_volume volume; /* of octets, instead */
};

struct pace_queue {
    struct pace_row messages; /* recipients */
    struct pace_row connects;
    struct pace_volume volume;
};

/* What one shard had at the last look. */
struct pace_shard {
    uint64_t taken;
    uint64_t returned;
    uint64_t connects;
    struct {
        uint64_t tried;
        uint64_t octets;
        uint32_t generation;
    } queues[PACE_QUEUES_MAX];
};

struct pace {
    uint64_t life;
    struct pace_meter meters[PACE_METERS_MAX];
    uint32_t meter_count;
    uint64_t take_count; /* of all shards, at the last look at meters */
    struct pace_queue queues[PACE_DOMAINS_MAX][PACE_VMTAS_MAX];
    struct pace_shard shards[PACE_SHARDS_MAX];
};

/* NULL, or what is wrong. life: of these shards, another number for each. Rates of the
 * configuration have counts up to PACE_COUNT_MAX. */
const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards,
                      uint16_t count);
