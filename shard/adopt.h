/*
 * adopt: a new snapshot of the configuration takes the place of the old one, on one shard.
 *
 * Control sends each shard an order with the snapshot; queues take their settings from it over the
 * next turns, a bounded number each, and the order goes home when nothing points into the old one.
 * Belongs to the shard's thread; never waits, and allocates no more than the tables that follow
 * from a snapshot.
 */
#pragma once

#include "core/io/mailbox.h"

struct queue;
struct shard;

/* A parcel from control or another shard is about to be looked at: what it follows from is taken
 * first. */
void adopt_look(struct shard *shard, const struct parcel *parcel);
/* Control's order; it goes home when nothing is left of the old snapshot. */
void adopt_on_order(struct shard *shard, struct parcel *order);
void adopt_turn(struct shard *shard);
/* The queue's settings are those of the snapshot in force, before its turn has come. */
void adopt_ahead(struct shard *shard, struct queue *queue);
/* The same when its mode is another one: its settings are derived anew. */
void adopt_settings(struct shard *shard, struct queue *queue);
