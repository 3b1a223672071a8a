/*
 * figures: what one run measured, and how several runs are summed up and printed.
 *
 * All figures are doubles in one table, so that medians, ranges, text and JSON come from the same
 * list; NAN stands for what could not be measured.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#define FIGURES_RUNS_MAX 64

/* name, unit, decimals in text */
#define FIGURES(X)                                                                                 \
    X(rate, "messages/s delivered", 0)                                                             \
    X(accept_rate, "messages/s accepted", 0)                                                       \
    X(relay_cpu_us, "us CPU a message, relay", 2)                                                  \
    X(relay_calls, "system calls a message, relay", 3)                                             \
    X(sink_cpu_us, "us CPU a message, sink", 2)                                                    \
    X(gen_cpu_us, "us CPU a message, generator", 2)                                                \
    X(p50_ms, "ms acceptance, median", 3)                                                          \
    X(p99_ms, "ms acceptance, 99 %", 3)                                                            \
    X(p999_ms, "ms acceptance, 99.9 %", 3)                                                         \
    X(max_ms, "ms acceptance, longest", 3)                                                         \
    X(connections, "connections to the sink at once", 0)                                           \
    X(flushes, "device flushes", 0)                                                                \
    X(messages, "messages accepted", 0)                                                            \
    X(arrived, "recipients delivered", 0)                                                          \
    X(bounced, "recipients refused by the sink", 0)                                                \
    X(deferrals, "temporary refusals by the sink", 0)                                              \
    X(lost, "recipients lost", 0)                                                                  \
    X(duplicates, "recipients doubled", 0)                                                         \
    X(damaged, "messages damaged or mixed up", 0)                                                  \
    X(seconds, "s until the last delivery", 2)

enum figure {
#define FIGURE_ENUM(name, unit, decimals) FIGURE_##name,
    FIGURES(FIGURE_ENUM)
#undef FIGURE_ENUM
        FIGURE_COUNT,
};

struct figures {
    double of[FIGURE_COUNT];
};

/* Several runs of one thing. */
struct figures_series {
    const char *name;
    struct figures runs[FIGURES_RUNS_MAX];
    uint32_t count;
};

void figures_clear(struct figures *figures);
void figures_add(struct figures_series *series, const struct figures *figures);
/* NAN when no run has the figure. */
double figures_median(const struct figures_series *series, enum figure figure);
/* Recipients lost or doubled and messages damaged, over all runs. */
double figures_faults(const struct figures_series *series);

void figures_print(const struct figures_series *series, FILE *stream);
/* {"name":…,"runs":[{…}],"median":{…},"min":{…},"max":{…}} */
void figures_print_json(const struct figures_series *series, FILE *stream);
