/*
 * probe: one connection in an interval tries a dead site for all queues that go there.
 *
 * When the connection of a queue met no living address, and every queue in line with it rests, the
 * source is noted at the site (policy/outage.h) for as long as the first of these rests, and for
 * the first step of its retry schedule at most. A queue that comes before then, from a rest of its
 * own or with fresh mail, waits with the site unless it has another source to try; it wakes a
 * little later than that, so that the first one to wake tries alone. Its own schedule does not move
 * on by it, and what is past bounce-after bounces as after an attempt. The note goes when the
 * source has reached the site, when the site has got another address, and when an operator says
 * `schedule`.
 *
 * All of it belongs to the shard's thread; nothing of it outlives the site in memory.
 */
#pragma once

#include "shard/shard_int.h"

/* The queue rests after a connection that met nobody: when the site may be tried for it. */
uint64_t probe_due_ns(const struct shard *shard, const struct queue *queue);
/* True when the queue, which has mail to send, has been put to rest until its site is tried. */
bool probe_holds(struct shard *shard, struct queue *queue);
/* An address of a new answer for the site: what is known to be dead stays so, and with one that is
 * new it may be tried at once. */
void probe_carry_over(struct site *site, struct site_target *target);
/* Whoever goes to the queue's site may try at once. */
void probe_forget(struct queue *queue);
