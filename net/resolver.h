/*
 * resolver: the real world's answerer of dns questions: libunbound on a thread of its own.
 *
 * A foreign thread (cmd/ starts it with resolver_run): it meets the shards only through mailboxes.
 * libunbound validates (DNSSEC), caches and works asynchronously; ub_ctx_async is set before any
 * other call, or it would fork. Never touches a shard's memory but the query it was lent.
 */
#pragma once

#include "core/io/mailbox.h"

#include <stdint.h>

struct resolver;

struct resolver_options {
    const char *const *name_servers; /* "ip" or "ip@port"; empty = the system's resolv.conf */
    uint32_t name_server_count;
    const char *trust_anchor_file; /* NULL = no validation */
    uint32_t edns_udp_bytes;       /* told to servers; 0 = 1232 */
    uint64_t timeout_ms;           /* a question unanswered for so long is DNS_TIMEOUT */
};

/* questions[i], answers[i] belong to shard i; count of them. 0 or negative; what libunbound does
 * not like is logged. */
int resolver_create(const struct resolver_options *options, struct mailbox *const *questions,
                    struct mailbox *const *answers, uint32_t count, struct resolver **ret_resolver);
/* Runs until resolver_stop; then answers what is open with DNS_FAILURE. */
void resolver_run(struct resolver *resolver);
/* Any thread. */
void resolver_stop(struct resolver *resolver);
void resolver_destroy(struct resolver *resolver);
