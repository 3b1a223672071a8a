/*
 * gen: the load: many SMTP sessions that inject numbered messages and time their acceptance.
 *
 * Closed loop: each session sends its next message as soon as the last was answered; the latency of
 * a message runs from its final dot to the 250. Open loop (rate > 0): messages are due on a fixed
 * schedule, and their latency runs from the scheduled time, whether or not a session was free then:
 * a server that stalls cannot hide it by slowing down the load (no coordinated omission).
 *
 * Each number is sent until it is answered for good: 4xx sends it again, a lost connection too
 * unless the final dot was out. Then it is in doubt, and its number is never used again.
 */
#pragma once

#include "bench/ledger.h"
#include "core/base/ipaddr.h"
#include "core/obs/histogram.h"

#define GEN_ADDRESSES_MAX 64
#define GEN_SIZES_MAX     8
#define GEN_RCPTS_MAX     1000

enum gen_pipelining {
    GEN_LOCKSTEP, /* one command at a time */
    GEN_ENVELOPE, /* MAIL, RCPT, DATA in one flight: what injectors usually do */
    GEN_FULL,     /* the flight that ends a message carries the next envelope too */
};

struct gen_size {
    uint64_t bytes;
    uint32_t weight;
};

struct gen_options {
    struct ipaddr_port targets[GEN_ADDRESSES_MAX]; /* sessions take turns */
    uint32_t target_count;
    struct ipaddr sources[GEN_ADDRESSES_MAX];
    uint32_t source_count; /* 0 = the system chooses */
    uint64_t sessions;
    uint64_t first_number;
    uint64_t messages; /* at most */
    double seconds;    /* 0 = until the messages are sent */
    double rate;       /* messages/s of the open loop; 0 = closed loop */
    uint64_t rcpts;
    uint64_t domains;
    uint64_t hot_percent; /* of the recipients that go to the first domain; 0 = all evenly */
    struct gen_size sizes[GEN_SIZES_MAX];
    uint32_t size_count;
    enum gen_pipelining pipelining;
    uint64_t per_connection; /* messages, then a new connection; 0 = no cap */
    bool dots;
    bool survive;     /* the server may die: reconnect and go on */
    double give_up_s; /* survive: without any answer for so long, stop */
    uint32_t run;
    const char *extra_headers;
    const char *ledger_path;
    bool ledger_sync;
};

struct gen_shared {
    uint32_t stop;
    uint64_t issued;   /* numbers taken into work */
    uint64_t accepted; /* messages */
    uint64_t refused;
    uint64_t in_doubt;
    uint64_t deferred; /* 4xx answers */
    uint64_t connections;
    uint64_t lost_connections;
    uint64_t start_ns; /* monotonic clock: the first message's start */
    uint64_t end_ns;   /* the last answer */
    uint64_t system_calls;
    uint64_t cpu_us;
    struct histogram latency; /* ns */
};

struct gen_shared *gen_shared_create(void);
void gen_shared_destroy(struct gen_shared *shared);

/* Sensible values: 2 KB, 100 sessions, 100 domains, one recipient, envelope pipelining. */
void gen_options_init(struct gen_options *options);
/*
 * Runs until everything is answered, time is up, or shared->stop is set. ledger: at least
 * first_number + messages long, rcpts wide. 0, or negative when the server was lost and the run
 * could not go on (the reason is logged).
 */
int gen_run(const struct gen_options *options, struct gen_shared *shared, struct ledger *ledger);
