/*
 * firsts: when each recipient of a shard was tried first, where track-time-first-attempt is on.
 *
 * Beside the recipients, four octets each, in memory that is there only once a time was noted: who
 * does not ask for it pays nothing. The time travels with a recipient to another shard and ends
 * with the process. The shard's thread.
 */
#pragma once

#include <stdint.h>

struct firsts {
    uint32_t *at_s; /* by a recipient's index: wall clock, 0 = not known */
    uint32_t capacity;
};

struct shard;

void firsts_fini(struct shard *shard);
/* The recipient is new at this index; at_s: what another shard knows, or 0. */
void firsts_put(struct shard *shard, uint32_t queued_index, uint32_t at_s);
uint32_t firsts_at(const struct shard *shard, uint32_t queued_index);
/* Something was said of the recipient; first_us: when, wall clock, if by its first attempt, else 0.
 * The time of that attempt in whole seconds, 0 when it is not known or not to be known. */
uint64_t firsts_note(struct shard *shard, uint32_t queued_index, uint64_t first_us);
