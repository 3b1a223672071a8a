/*
 * ips_map: the maps of ips.bpf.c as its loader sees them. Included by both, so nothing but kernel
 * types and our tables. Both structs may grow at their ends: nothing is kept on disk or pinned.
 */
#pragma once

#include "core/obs/ip_counters.h"

#include <linux/types.h>

/* Network order; IPv4 as ::ffff:a.b.c.d. */
struct ips_key {
    __u32 source[4];
};

struct ips_value {
    __u64 counters[IP_COUNTER_COUNT];
    __u64 srtt_last_at_ns; /* CLOCK_MONOTONIC */
    __u32 srtt_min_us;     /* 0 = none yet */
    __u32 srtt_last_us;
};

#define IPS_KEY_COUNT_MAX 16384
