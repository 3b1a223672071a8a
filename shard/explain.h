/*
 * explain: what holds a queue back, as a row of a report that control makes sentences of.
 *
 * Belongs to the shard's thread; only looks.
 */
#pragma once

struct queue;
struct report;
struct shard;

/* Adds the row that says why the queue waits. */
void explain_queue(struct shard *shard, struct report *report, const struct queue *queue);
