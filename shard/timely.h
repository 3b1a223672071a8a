/*
 * timely: what time does to messages: those that are too old, and those whose sender said when they
 * may be tried (queue/terms.h).
 *
 * Belongs to the shard's thread. Asks only; what follows from the answer is the caller's to do.
 */
#pragma once

#include "shard/policy/fate.h"

struct message;
struct queue;
struct queued;
struct shard;

bool timely_head_is_expired(struct shard *shard, const struct queue *queue);
/* Those that say themselves when they expire are in no order; the others are in that of their
 * acceptance. */
void timely_set_expired_apart(struct shard *shard, struct queue *queue);
/* Of a message with terms: 0 = it may be tried now, else when, or TERMS_NEVER. */
uint64_t timely_next_us(struct shard *shard, const struct message *message);
/* fate_of_rcpt, with the terms of the message if it has any; message may be NULL. */
struct fate timely_fate(struct shard *shard, const struct message *message,
                        const struct conf_queue *settings, const struct queued *queued,
                        const struct verdict *verdict, uint64_t age_ms);
