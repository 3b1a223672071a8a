/*
 * resolve: from a queue to its site: resolutions, a bounded number at a time, in the order asked.
 *
 * A queue that needs addresses gets its site later, or rests with a verdict. Belongs to the shard's
 * thread.
 */
#pragma once

struct mx_answer;
struct parcel;
struct queue;
struct shard;

/* Our own addresses and name follow the snapshot. */
void resolve_adopt(struct shard *shard);
void resolve_init(struct shard *shard);
void resolve_fini(struct shard *shard);
/* The dns module exists: resolutions can run. */
void resolve_wire(struct shard *shard);
/* The queue needs addresses: starts or joins a resolution, sets queue->site later. */
void resolve_queue(struct shard *shard, struct queue *queue);
/* Word of a domain's policy (sts_ask.h) has come home. */
void resolve_on_policy(struct shard *shard, struct parcel *parcel);
/* The queue goes by this answer; its site is this shard's. */
void resolve_set_site(struct shard *shard, struct queue *queue, const struct mx_answer *answer);
/* Starts what waits for a place. */
void resolve_next(struct shard *shard);
