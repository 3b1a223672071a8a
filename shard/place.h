/*
 * place: which shard owns the queue domain/vmta.
 *
 * The unit that shards share work by. A domain with a configured route is spread by (route, VMTA),
 * so that one hot receiver is served by all cores, in turn over its VMTAs; a domain that goes by MX
 * is placed by (domain, VMTA). Every shard computes the same answer from the same snapshot, so no
 * table is shared. Placing by the MX set, in two hops, and moving queues between shards will change
 * this one function.
 */
#pragma once

#include "core/conf/conf.h"

uint16_t place_owner(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                     uint16_t shard_count);
