/*
 * standing: what is known of a lane when it wants a slot of a limit (policy/quota.h), and who must
 * give back slots in the middle of opening.
 *
 * A lane is new at first, with one connection for a try; proved once a message was answered within
 * STANDING_PATIENCE_MS (on a connection that is not proved: since that was opened); slow when a
 * connection cannot be made or makes us wait for longer. Connections have a kind of their own: one
 * that is slow counts as such until it is gone, or was only once.
 *
 * While somebody waits for a slot all connections are looked at once in a second or so. One that is
 * being opened by a lane that was new, or proved, and turns out to be slow ends when slow ones hold
 * more than they may: nothing was begun on it, its queue waits for its turn among the slow, and is
 * met with all patience then. So dead receivers that nobody knew cannot take all slots for longer
 * than STANDING_PATIENCE_MS, and a receiver whose greeting is late is still served.
 *
 * All of it belongs to the shard's thread. A look costs a bounded number of connections.
 */
#pragma once

#include "shard/shard_int.h"

#define STANDING_PATIENCE_MS 5000

void standing_init(struct shard *shard);
void standing_fini(struct shard *shard);
/* How many connections the lane has that can be reckoned with may have changed: its claim says so.
 */
void standing_recount(struct lane *lane);
/* As lease_claim_try, for the lane's next connection. */
bool standing_claim(struct shard *shard, struct lane *lane);
void standing_set(struct lane *lane, enum quota_kind kind);
/* The connection's message was answered, or lost with it. */
void standing_on_served(struct connection *connection, uint64_t now_ns);
/* The connection was ended before it was ready, to make room: that says nothing of its target. */
bool standing_has_yielded(const struct connection *connection);
