/*
 * relay: what stands between generator and sink in a measurement, started and stopped.
 *
 * Either nothing (the generator talks to the sink itself), the bare relay in a forked process, or
 * the real daemon with a configuration written for the occasion: some virtual MTAs in a pool, a
 * route to the sink for each domain, an accounting file, everything durable.
 */
#pragma once

#include "bench/floor.h"
#include "core/base/ipaddr.h"

#include <limits.h>
#include <sys/types.h>

enum relay_kind {
    RELAY_NONE,
    RELAY_FLOOR,
    RELAY_DAEMON,
};

#define RELAY_SOURCES_MAX 64

struct relay_options {
    enum relay_kind kind;
    const char *daemon; /* path of ringpostd */
    const char *dir;    /* temporary, on the disk to measure: spool, configuration, log */
    const char *extra;  /* file whose lines end the configuration, or NULL */
    struct ipaddr_port listen;
    const struct ipaddr_port *targets; /* the sink's addresses */
    uint32_t target_count;
    struct ipaddr sources[RELAY_SOURCES_MAX]; /* one virtual MTA each */
    uint32_t source_count;
    uint64_t domains;
    uint64_t connections; /* to each target from each source; the daemon takes it for each queue */
    uint64_t out_max;     /* the daemon's connections altogether */
};

struct relay {
    const struct relay_options *options;
    pid_t pid; /* 0 = none */
    struct floor_options floor;
    struct floor_shared *floor_shared;
    char log_path[PATH_MAX];
    char control_path[108]; /* as long as a socket address allows */
};

/* Returns once it takes mail. 0, or negative after the reason was printed. */
int relay_start(struct relay *relay, const struct relay_options *options);
/* Orderly; by force after a while. Safe on one that was never started. */
void relay_stop(struct relay *relay);
/* False when it has died; prints what it said last. */
bool relay_is_alive(struct relay *relay);
/* Both since its start; system calls are -1 when they are not known. */
uint64_t relay_cpu_us(const struct relay *relay);
int64_t relay_system_calls(const struct relay *relay);
