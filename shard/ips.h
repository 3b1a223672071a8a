/*
 * ips: figures per source address, from what a shard sees of its own connections (TCP_INFO).
 *
 * Stands aside where they come from outside the process. Belongs to the shard's thread; a lost
 * look is a gap in the figures and nothing else.
 */
#pragma once

#include <stdbool.h>

struct connection;
struct report;
struct shard;

void ips_init(struct shard *shard, bool counts_ips);
void ips_fini(struct shard *shard);
/* The connect was started. */
void ips_on_open(struct shard *shard, struct connection *connection);
/* The connection stands, or a message ended on it: looks at it when the last look is old. */
void ips_on_progress(struct shard *shard, struct connection *connection);
/* It is gone; inside smtpc's on_closed. */
void ips_on_closed(struct shard *shard, struct connection *connection);
void ips_report(const struct shard *shard, struct report *report);
