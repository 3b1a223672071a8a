/*
 * limits: which meters of connections a queue draws on when its mail leaves from a source.
 *
 * What is known of a queue without a message: its virtual MTA's own limit, `<limit>` blocks that
 * fit it, source-ip-max-smtp-out, and those by the hosts of its site. Which blocks fit is kept with
 * the queue while the snapshot stays the same; which hosts match is kept with the site while its
 * addresses do. Without limits it costs a few comparisons. Belongs to the shard's thread.
 */
#pragma once

#include "shard/policy/scope.h"

struct queue;
struct shard;
struct site;

/* The queue has a site. False when the mail would draw on more meters than a claim has room for. */
bool limits_of(struct shard *shard, struct queue *queue, const struct ipaddr *source,
               struct scope_list *ret_meters);
/* Bit n: the n-th of the snapshot's blocks fits the queue, as far as that is known without a
 * message. */
uint64_t limits_of_blocks(const struct shard *shard, struct queue *queue);
/* Bit n: the n-th of the snapshot's limits by host counts connections to the site. */
uint64_t limits_of_hosts(struct shard *shard, struct site *site);
/* The site's addresses have changed. */
void limits_forget_hosts(struct site *site);
