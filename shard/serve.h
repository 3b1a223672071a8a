/*
 * serve: the turn of the lanes: queues that wait in line are given connections.
 *
 * Each lane that something happened to since its last turn (lane_serve_later) is looked at once a
 * turn: idle connections go to who is next in line; where there are none and a limit leaves room,
 * one more is opened for the first that may; and idle ones that nobody waits for make room for
 * others. Belongs to the shard's thread; what lacks memory comes back by itself.
 */
#pragma once

struct shard;

/* What a connection that comes up, or has served, waits at least for a token of its virtual MTA's
 * rate. */
#define TOKEN_WAIT_MS 1000
/* How long a connection is kept that holds a message which found no token: long enough for one to
 * come back. So is a lane's claim that has its slots and no token for a connection: tokens are good
 * for less than a turn, so none is kept while it stands in line for slots, and the two must meet.
 */
#define PARKED_MS     50

/* One turn; what still has something to do asks for the next one by itself. */
void serve_turn(struct shard *shard);
