/*
 * floor: the least that a durable relay can be, as the yardstick for the real one.
 *
 * One thread: it accepts, gathers what all sessions sent into one write that is on stable storage
 * before any 250, and forwards over persistent connections, envelope lines and content as they
 * came. No queues, no policy, no retries, no recovery: whatever goes wrong ends it.
 */
#pragma once

#include "core/base/ipaddr.h"

#define FLOOR_ADDRESSES_MAX 256

struct floor_options {
    struct ipaddr_port listen;
    struct ipaddr_port targets[FLOOR_ADDRESSES_MAX]; /* connections take turns */
    uint32_t target_count;
    struct ipaddr sources[FLOOR_ADDRESSES_MAX];
    uint32_t source_count; /* 0 = the system chooses */
    uint64_t connections;
    const char *spool; /* directory of the log file */
};

/* In shared memory, read by the parent. */
struct floor_shared {
    uint32_t ready;
    uint32_t stop;
    int32_t error;
    uint64_t messages;
    uint64_t commits;
    uint64_t system_calls;
};

/* Until shared->stop or a signal. 0 or negative. */
int floor_run(const struct floor_options *options, struct floor_shared *shared);
