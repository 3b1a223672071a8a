/*
 * place: which shard owns the queue domain/vmta.
 *
 * The unit that shards share work by. A domain with a configured route is spread by (route, VMTA),
 * a domain that goes by MX by (domain, VMTA). Virtual MTAs are dealt out through a table: within
 * each pool, whichever its members are, the shards get equal numbers of them, give or take one
 * where a member stands in several pools; so one hot receiver is served by all cores. The table
 * follows from the snapshots alone, in the order in which they came: every shard builds the same
 * and nothing is shared. Placing by
 * the MX set, in two hops, and moving queues between shards will change this room only.
 */
#pragma once

#include "core/conf/conf.h"

struct place;

struct place *place_create(const struct conf *conf, uint16_t shard_count);
/* A new snapshot: virtual MTAs that it adds are dealt out, all others keep their place. */
void place_update(struct place *place, const struct conf *conf);
void place_destroy(struct place *place);
/* conf: the snapshot that the table was made from. */
uint16_t place_owner(const struct place *place, const struct conf *conf, struct slice domain,
                     uint32_t vmta_id);
