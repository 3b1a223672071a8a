/*
 * rollup: mail of a domain that goes to the queue of its MX hosts (core/conf/rollup.h).
 *
 * A domain's queue learns that when it is resolved, and then keeps no mail: its recipients go home,
 * and home hands them and those that follow to the queue of that name (home.c). What home knows of
 * it is good for a minute, then the next recipient finds out anew; so mail follows the MX records.
 * `queue-to` comes first: such a queue is never resolved. All of it belongs to the shard's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct mx_answer;
struct queue;
struct shard;

/* How long home sends mail of a domain to where it went last, and a queue believes an answer at
 * least. */
#define ROLLUP_KEPT_MS 60000u

/* The queue is resolved: true when its mail goes to another one, and it is on its way. */
bool rollup_take(struct shard *shard, struct queue *queue, const struct mx_answer *answer);
/* Its answer is too old, or the configuration is another: the queue is to be resolved anew. */
void rollup_end(struct shard *shard, struct queue *queue);
bool rollup_is_over(const struct shard *shard, const struct queue *queue);
