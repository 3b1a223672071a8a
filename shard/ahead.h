/*
 * ahead: the message that follows the one under way on a connection, in the flight that ends it.
 *
 * At most one. Whether a receiver bears it is remembered at its site. Belongs to the shard's
 * thread.
 */
#pragma once

#include <stdbool.h>

struct connection;
struct queue;
struct shard;
struct verdict;

/* A message is about to end on the connection: the next one may go along. */
void ahead_start(struct shard *shard, struct connection *connection);
/* The message before is done: what was ahead is the connection's delivery now. */
void ahead_take_over(struct shard *shard, struct connection *connection);
/* The newest of the connection's deliveries comes back; the connection is ending, with a verdict.
 */
void ahead_return(struct shard *shard, struct connection *connection,
                  const struct verdict *verdict);
/* Whether the queue's message may go as a chunk. */
bool ahead_may_chunk(const struct connection *connection, const struct queue *queue);
/* A message was answered, or the connection ended by a verdict: does the site keep step? */
void ahead_note_clean(struct connection *connection);
void ahead_note_closed(struct connection *connection, const struct verdict *verdict);
