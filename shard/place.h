/*
 * place: which shard owns the queue domain/vmta.
 *
 * The unit that shards share work by. A queue belongs to the destination's site: the set of its MX
 * hosts, or its configured route, so that the connections of a site serve all its queues. A site is
 * spread over shards by the VMTAs: (site, VMTA) makes the place. Virtual MTAs are dealt out through
 * a table: within each pool, whichever its members are, the shards get equal numbers of them, give
 * or take one where a member stands in several pools; so one hot receiver is served by all cores.
 *
 * There are two hops. A queue begins at its base, which follows from its name and VMTA alone, so
 * that every shard knows it, whatever the configuration or the DNS say at the moment. The base
 * finds out where the destination is served and hands the queue to that owner (migrate.c).
 *
 * The table follows from the snapshots alone, in the order in which they came: every shard builds
 * the same and nothing is shared.
 */
#pragma once

#include "core/conf/conf.h"

struct place;

struct place *place_create(const struct conf *conf, uint16_t shard_count);
/* A new snapshot: virtual MTAs that it adds are dealt out, all others keep their place. */
void place_update(struct place *place, const struct conf *conf);
void place_destroy(struct place *place);
/* The base of the queue domain/vmta. */
uint16_t place_base(const struct place *place, struct slice domain, uint32_t vmta_id);
/* The owner of the VMTA's queues to a site: conf_queue.route_hash, or mx_answer.site_hash where
 * there is no route. */
uint16_t place_site(const struct place *place, uint64_t site_hash, uint32_t vmta_id);
