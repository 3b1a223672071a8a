/*
 * growth: when a lane gets one connection more.
 *
 * What waits at the lane is counted, and policy/demand.h decides. That is asked whenever something
 * happens on the lane; but a receiver that says nothing makes nothing happen, so lanes are also
 * watched by the clock: while their first message is not answered, and while queues wait for busy
 * connections. One that has been at a message for GROWTH_STUCK_MS, and for several times of what is
 * usual there, is not reckoned with any more: it may hang, and must not hold up what waits behind
 * it for as long as its timeouts allow.
 *
 * Part of a shard and its thread. Costs one timer for each kind of watch, and a look at each
 * watched lane at its end.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/io.h"

#define GROWTH_STUCK_MS 1000

struct lane;
struct shard;

/* Lanes that are looked at when they have been here for a span, the oldest first. */
struct growth_watch {
    struct shard *shard;
    struct list lanes;
    struct io_timer timer;
    uint64_t span_ns;
    void (*look)(struct shard *shard, struct lane *lane, bool is_late);
};

struct growth {
    struct growth_watch silent;  /* nothing was answered yet */
    struct growth_watch waiting; /* queues wait for busy connections */
};

void growth_init(struct shard *shard);
void growth_fini(struct shard *shard);
/* Whether one connection more would pay. */
bool growth_is_wanted(struct lane *lane, uint64_t now_ns);
/* Whether a connection that has just served may go. */
bool growth_is_surplus(const struct lane *lane);
/* A transaction begins on the lane. */
void growth_on_start(struct shard *shard, struct lane *lane);
/* Queues wait at the lane, and none of its connections is idle. */
void growth_on_wait(struct shard *shard, struct lane *lane);
