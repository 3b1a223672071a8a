/*
 * watch: limits of connections and the turns of queues, watched from outside.
 *
 * Two promises of the product. The peak: of connections with both ends alive, no limit is ever
 * exceeded by one; looked at whenever a receiver gets a connection, in lives that keep their
 * configuration (a limit that is lowered is met when enough connections have ended). The turn:
 * while the world is calm, a queue that has something ready, whose receiver is up, and that nothing
 * but a connection is missing for, is served within a bound. It follows from the three lines that
 * it stands in: at its lane, and with each turn of the lane's for a slot of its virtual MTA, and
 * then for one of all:
 *
 *   queues * (lanes / slots + 1) * (claims / slots of all + 2) * turn + WATCH_SLACK_NS
 *   turn = LEASE_TURN_MS + 3 * (WATCH_SPAN_NS + receivers' own time)
 *
 * queues: those in line at its lane. lanes: of the virtual MTA on any shard, with queues in line.
 * slots: what a lane of this kind may have of the limit (shard/policy/quota.h), so half of it where
 * the receiver was slow. claims: of all virtual MTAs, as many lanes as their limits let stand in
 * the last line. Of the product of these the most at any time since this queue waits. A turn is
 * what a connection may keep its slots for while others wait: opening, a message under way and one
 * sent ahead of it may each come to its end. Receivers' own time is what the slowest of them made a
 * client wait for within one of these three (remote_owed_ns), so that only the product's share is
 * judged.
 */
#pragma once

#include "tests/sim/product/product.h"
#include "tests/sim/product/remote.h"

#define WATCH_SOURCES  5 /* 10.9.0.<1…4> of virtual MTAs, 5 of {default}, which sends notices */
#define WATCH_SPAN_NS  300000000ull
#define WATCH_SLACK_NS 5000000000ull

/* One queue's wait; forgotten when the queue is another one, is served, or need not be. */
struct watch_wait {
    uint64_t since_ns; /* 0 = it does not wait */
    uint32_t generation;
    uint32_t turns;           /* of others, before its own */
    uint32_t held_back_count; /* of the queue */
};

#define WATCH_QUEUES_MAX 256

struct watch {
    struct sim_world *world;
    struct ledger *ledger; /* violations go there */
    struct remote *remote;
    const struct product *product;
    uint64_t life;           /* the number of the life that was looked at last */
    const struct conf *conf; /* its configuration */
    uint64_t reloads;        /* before that */
    bool keeps_conf;         /* it is the one it began with */
    uint64_t reached_by_all; /* how often as many connections stood as may */
    uint64_t reached_by_vmta;
    struct watch_wait waits[PRODUCT_SHARDS_MAX][WATCH_QUEUES_MAX];
    uint32_t looks;
    uint32_t worst_percent; /* the longest wait so far, of what it might have been */
    bool is_over_said;
    bool is_said; /* one queue that starves is said once */
};

/* A life has come up. */
void watch_life(struct watch *watch);
/* A receiver got a connection. */
void watch_connections(struct watch *watch);
/* A calm life begins: nothing waits. */
void watch_begin(struct watch *watch);
/* Between steps of a calm life. */
void watch_turns(struct watch *watch);
