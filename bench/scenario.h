/*
 * scenario: one measured run: sink, relay and generator as child processes, from start to verdict.
 *
 * A run: the sink listens, the relay starts, a warm-up goes through and is delivered to the last
 * message, then the clocks are read, the load runs, and they are read again when the last message
 * has arrived. Every child is ended and the temporary directory removed, whatever happened. All
 * traffic stays on 127.0.0.0/8, on addresses made from the process id, so that runs that happen at
 * the same time do not meet.
 */
#pragma once

#include "bench/figures.h"
#include "bench/gen.h"
#include "bench/relay.h"
#include "bench/sink.h"

/* How far a run is; all figures may still move. */
struct scenario_look {
    const struct gen_shared *gen;
    const struct sink_shared *sink;
    const struct ledger *ledger;
    pid_t relay;    /* 0 = none */
    double seconds; /* since the measured load began */
};

struct scenario {
    enum relay_kind relay;
    struct gen_options gen;   /* targets, numbers and run are filled in */
    struct sink_options sink; /* addresses likewise */
    uint64_t sink_addresses;
    uint64_t sink_workers;
    uint64_t warmup;      /* messages before the measurement */
    uint64_t connections; /* from each source to each of the sink's addresses (relay.h) */
    uint64_t out_max;     /* the daemon's connections altogether */
    uint64_t vmtas;       /* source addresses, 127.0.0.2 and up */
    double idle_s;        /* looked at for so long after the last delivery, before the end */
    const char *daemon;   /* path */
    const char *extra;    /* file, or NULL */
    const char *spool;    /* directory on the disk to measure */
    double limit_s;       /* a run that takes longer has failed */
    double patience_s;    /* without any delivery for so long, the rest counts as lost */
    /* Called every so often during the measured part; NULL = not. */
    double progress_s;
    void (*progress)(void *context, const struct scenario_look *look);
    void *context;
};

/* Sensible values: the daemon beside this program, 200,000 messages after 20,000. */
void scenario_init(struct scenario *scenario);
/* 0 and the figures, or negative after the reason was printed. */
int scenario_run(const struct scenario *scenario, struct figures *ret_figures);
