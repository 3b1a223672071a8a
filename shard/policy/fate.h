/*
 * fate: what becomes of a recipient, from a verdict and the settings of its queue.
 *
 * The only place where a remote result turns into a decision. Pure functions of their arguments.
 */
#pragma once

#include "core/base/rng.h"
#include "core/conf/conf.h"
#include "core/mail/verdict.h"

enum fate_kind {
    FATE_DELIVERED,
    FATE_RETRY,         /* again after delay_ms, counted as an attempt */
    FATE_RETRY_AT_ONCE, /* again without delay and without counting: too many recipients, or BDAT
                           offered and not known */
    FATE_BOUNCED,
};

struct fate {
    enum fate_kind kind;
    uint64_t delay_ms;
    /* "message-expired" when that is why it bounced, else "": the verdict says (category.h). */
    const char *category;
};

/*
 * attempts: made before this one. age_ms: since acceptance. A retry that would come after
 * bounce_after_ms is a bounce with category message-expired.
 */
struct fate fate_of_rcpt(const struct verdict *verdict, const struct conf_queue *settings,
                         uint32_t attempts, uint64_t age_ms, struct rng *rng);

/* A recipient that a 5xx does not give up: FATE_RETRY, or expired. */
struct fate fate_of_held(const struct conf_queue *settings, uint32_t attempts, uint64_t age_ms,
                         struct rng *rng);

/* A refusal that may be meant for our IPv6 address alone: receivers ask more of it than of IPv4 (a
 * name, a signature) and say so with x.7.x, or by naming IPv6. Nothing is said about IPv4 by it. */
bool fate_is_ipv6_refusal(const struct verdict *verdict);

/* Delay before attempt number attempts + 1: the settings' list, its last step repeated, ±10 %. */
uint64_t fate_retry_delay_ms(const struct conf_queue *settings, uint32_t attempts, struct rng *rng);

/* What a failure of the way to a host asks of the connections there. */
enum fate_route {
    FATE_NEXT_TARGET, /* this address of this host rests, the next one is tried */
    FATE_NO_TLS,      /* TLS could not be begun: without, or at another host; see tls_out.h */
    FATE_REST_SOURCE, /* our source address rests (bind failed) */
    FATE_REFUSED,     /* the host answers, and does not want this source now: the source rests
                         here, and no other host is asked in its place; another source may be */
    FATE_CLOSE_ONLY,  /* nothing is wrong with the host */
};

enum fate_route fate_of_session(const struct verdict *verdict, const struct conf_queue *settings);
