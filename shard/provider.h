/*
 * provider: whose receiving hosts a site consists of.
 *
 * A pure function of the hosts of the best preference and of the snapshot: they are a provider's
 * when all of them are, else the site is a provider of its own. So the number that a site has
 * follows its MX records, with the queue (resolve.c), and a new snapshot (site_adopt). What queues
 * draw on and what reactions are remembered of goes by site.provider, and by site.tenant where a
 * provider's customers are to be told apart; neither is known of a queue that is not resolved yet.
 * All of it belongs to the shard's thread.
 */
#pragma once

#include <stdint.h>

struct queue;
struct shard;
struct site;

/* The site has got its targets, or there is a new snapshot. */
void provider_set(const struct shard *shard, struct site *site);
/* Whose hosts the queue's mail goes to; CONF_PROVIDER_NONE when they are not known yet. */
uint64_t provider_of_queue(const struct queue *queue);
