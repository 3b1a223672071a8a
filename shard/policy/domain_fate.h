/*
 * domain_fate: what becomes of a queue's mail, from what the DNS said about its destination.
 *
 * The only place that decides it. Pure functions of their arguments. No answer (SERVFAIL, timeout)
 * is no fate. A null MX is final (RFC 7505). That a domain does not exist, or has no host that can
 * be used, is final only when it was said twice, half an hour apart, while most other lookups
 * succeed: registries, name servers and resolvers have bad hours, and mail that is returned in them
 * is lost for good. `bounce-upon-no-mx` makes the first answer enough.
 */
#pragma once

#include "core/base/rng.h"
#include "core/conf/conf.h"
#include "core/mail/verdict.h"

/* From one answer to the next that counts: so there is half an hour between them though either may
 * have been kept in a cache for a while. */
#define DOMAIN_DOUBT_MS (40 * 60000ull)

enum domain_fate_kind {
    DOMAIN_USE,   /* it has addresses */
    DOMAIN_LATER, /* no answer: again after delay_ms, nothing is held against the domain */
    DOMAIN_DOUBT, /* a bad answer: again after delay_ms; see doubt_ends_ns */
    DOMAIN_FAIL,  /* final for mail older than fail_age_ms */
};

struct domain_facts {
    const struct verdict *verdict; /* of the resolution (net/mx.h) */
    const struct conf_queue *settings;
    enum dns_outlook outlook;
    uint32_t failures; /* of the queue so far, for the delay */
    uint64_t now_ns;
    uint64_t doubt_ends_ns; /* a bad answer after this is the second one; 0 = there was none yet */
};

struct domain_fate {
    enum domain_fate_kind kind;
    uint64_t delay_ms;
    uint64_t fail_age_ms;
    uint64_t doubt_ends_ns; /* to be kept for the next time, over restarts too */
};

struct domain_fate domain_fate_of(const struct domain_facts *facts, struct rng *rng);
