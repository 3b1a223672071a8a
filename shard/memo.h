/*
 * memo: named states of the log: what of queues, standing orders and books a shard keeps over
 * restarts.
 *
 * A state is written as a whole under its key; an empty one ends it. The record travels to the
 * spool and back in memory of the shard's slab. All of it belongs to the shard's thread.
 */
#pragma once

#include "core/base/slice.h"

struct log_request;
struct mode_order;
struct queue;
struct report;
struct shard;

void memo_init(struct shard *shard);
/* The rest of the queue and what DNS said of it; is_last: the queue ends. */
void memo_rest(struct shard *shard, struct queue *queue, bool is_last);
/* The pause of a queue as named state, durable before the report is answered. By its base alone. */
void queues_persist_pause(struct shard *shard, struct slice domain, uint32_t vmta_id, bool paused,
                          struct report *report);
/* The mode of the queue as named state; empty: normal, answered when durable. order: waits for it,
 * durable too, or NULL. False when there is no room, or the name is too long. */
bool queues_persist_mode(struct shard *shard, struct queue *queue, struct slice value,
                         struct mode_order *order);
/* A standing order as named state; order: of its end, answered when durable, else NONE. report:
 * waits for it, or NULL. False when there is no room, or the key is too long. */
bool queues_persist_order(struct shard *shard, struct slice key, struct slice value, uint32_t order,
                          struct report *report);
/* The book of a cold virtual MTA as named state, answered when durable. False when the log has no
 * room for it now. */
bool memo_cold(struct shard *shard, struct slice domain, uint32_t vmta_id, struct slice value,
               uint32_t book);
/* The same for the book of a <warm-up>; name: as in its key. */
bool memo_warm(struct shard *shard, struct slice name, struct slice value, uint32_t book);
void queues_on_named_answer(struct shard *shard, struct log_request *request);
