/*
 * audit: what must hold of queues and recipients over all shards after any step.
 *
 * The simulator runs every shard in one thread, so it can look at all of them at once: each
 * recipient is in exactly one place, each queue has one owner, and a destination's connections are
 * where its site is placed.
 */
#pragma once

#include <stdint.h>

struct shard;

/* Every queue and lane: cheap. NULL, or what is wrong. */
const char *audit_owners(struct shard *const *shards, uint16_t count);
/* Every lane, between turns: cheap. NULL, or what is wrong. */
const char *audit_lanes(struct shard *const *shards, uint16_t count);
/* Every standing order and connection, where there are orders. NULL, or what is wrong. */
const char *audit_orders(struct shard *const *shards, uint16_t count);
/* Every recipient, with the parcels on their way: now and then. NULL, or what is wrong. */
const char *audit_recipients(struct shard *const *shards, uint16_t count);
