/*
 * ip_figures: what is known about the connections from one of our source addresses.
 *
 * Rows are plain values, copied between actors. They come from an eBPF program (bpf/ips.h) or,
 * where that cannot run, from the shards' looks at TCP_INFO; struct ip_source is how control reads
 * the former without knowing it. Times are nanoseconds of the monotonic clock.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/obs/ip_counters.h"

struct ip_figures {
    struct ipaddr source;
    uint64_t counters[IP_COUNTER_COUNT]; /* never fall */
    uint32_t srtt_min_us;                /* 0 = no sample yet */
    uint32_t srtt_last_us;
    uint64_t srtt_last_at_ns;
};

/* Most addresses that are told apart; the least recently used ones give way in the kernel. */
#define IP_FIGURES_COUNT_MAX 16384

struct ip_source {
    /* Copies at most row_count_max rows; their number, or negative. Called by control's thread. */
    int (*read)(void *context, struct ip_figures *rows, uint32_t row_count_max);
    void *context;
};

/* One look at a connection's smoothed round trip time; 0 is no look. */
void ip_figures_add_srtt(struct ip_figures *figures, uint32_t srtt_us, uint64_t now_ns);
/* Adds what `from` counted since `before`, an older copy of it (NULL = since its start). Counters
 * that fell since then began anew. */
void ip_figures_add(struct ip_figures *into, const struct ip_figures *from,
                    const struct ip_figures *before);
/* "connects" for IP_CONNECTS. */
const char *ip_counter_key(enum ip_counter counter);
