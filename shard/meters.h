/*
 * meters: the counts of limits that cut across shards, as one shard knows them.
 *
 * A meter is made when the first here refers to its key (policy/scope.h) and freed with the last.
 * What hangs on it belongs to lease.h (connections) and to whoever counts rates. Each has one owner
 * shard that keeps its book; who that is follows from the key, so that nobody needs to be asked,
 * and it stays while the process lives. Bounds are looked up in the shard's snapshot, never kept
 * here. Belongs to the shard's thread; memory comes from a slab.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "shard/policy/scope.h"

struct lease_owned;
struct lease_share;
struct shard;

struct meter {
    struct list link; /* in meters.all */
    struct meter_key key;
    uint32_t index;
    uint32_t refs;
    uint16_t owner;
    struct lease_share *share; /* lease's: this shard's part of its connections, or NULL */
    struct lease_owned *owned; /* likewise: the book, where this shard is the owner and has one */
};

struct meters {
    struct slab slab;
    struct table by_key;
    struct list all; /* meters_of_link */
};

void meters_init(struct shard *shard);
void meters_fini(struct shard *shard);
/* NULL when nobody here refers to it. */
struct meter *meters_find(const struct shard *shard, const struct meter_key *key);
/* With one reference more; NULL when memory is short. */
struct meter *meters_obtain(struct shard *shard, const struct meter_key *key);
void meters_release(struct shard *shard, struct meter *meter);
/* The limit that says its bounds; NULL when the snapshot has it no more, or when it is a virtual
 * MTA's own. */
const struct conf_limit *meters_limit(const struct conf *conf, const struct meter_key *key);
/* Connections that it allows; CONF_UNLIMITED without a bound. */
uint64_t meters_connections(const struct conf *conf, const struct meter_key *key);
static inline struct meter *meters_of_link(struct list *link)
{
    return container_of(link, struct meter, link);
}
