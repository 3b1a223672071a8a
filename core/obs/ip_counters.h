/*
 * ip_counters: the one table of what is counted per source address of ours.
 *
 * Only macros, so that the eBPF programs of bpf/ can include it as well. All are counters since the
 * start of the daemon; docs/ips.md says what each means with either source.
 */
#pragma once

/* name, its key in JSON, its heading in text (NULL = not shown there). */
#define IP_COUNTERS(X)                                                                             \
    X(IP_CONNECTS, "connects", "connects")          /* SYNs that began a connection */             \
    X(IP_ESTABLISHED, "established", "established") /* of these, answered by SYN-ACK */            \
    X(IP_SYN_TIMEOUTS, "syn_timeouts", "syn-t/o")   /* given up without any answer */              \
    X(IP_REFUSED, "refused", "refused")             /* answered by RST or an ICMP error */         \
    X(IP_RESETS, "resets", "resets")                /* RST on an established connection */         \
    X(IP_RETRANSMITS, "retransmits", "retransmits") /* segments sent again, SYNs included */       \
    X(IP_BYTES_SENT, "bytes_sent", "bytes-sent")    /* payload, what was sent again included */    \
    X(IP_BYTES_RECEIVED, "bytes_received", "bytes-received") /* payload, in order */               \
    X(IP_SRTT_SAMPLES, "srtt_samples", NULL) /* looks at the smoothed round trip time */           \
    X(IP_SRTT_SUM_US, "srtt_sum_us", NULL)   /* and the sum of what they saw */

enum ip_counter {
#define IP_COUNTER_ENUM(name, key, heading) name,
    IP_COUNTERS(IP_COUNTER_ENUM)
#undef IP_COUNTER_ENUM
        IP_COUNTER_COUNT,
};
