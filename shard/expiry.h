/*
 * expiry: when messages expire that say so themselves, by the index of what they are kept as.
 *
 * Few messages do, so it stands apart from those that do not: home keeps a book by home_message, an
 * owner by queued. Seconds of the wall clock. One thread, the shard's. Memory grows with the number
 * of entries and is bounded by that of what they belong to.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slab.h"

struct expiries {
    struct table table;
    struct slab slab;
};

void expiries_init(struct expiries *expiries, uint32_t count_max);
void expiries_fini(struct expiries *expiries);
/* False when memory is short. There is no entry of that index yet. */
bool expiries_put(struct expiries *expiries, uint32_t index, uint32_t expires_s);
/* There is one. */
uint32_t expiries_get(const struct expiries *expiries, uint32_t index);
void expiries_drop(struct expiries *expiries, uint32_t index);
static inline bool expiries_are_empty(const struct expiries *expiries)
{
    return expiries->table.count == 0;
}
