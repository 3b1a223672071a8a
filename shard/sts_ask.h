/*
 * sts_ask: what a shard asks control about the MTA-STS policy of a domain, and what it makes of it.
 *
 * The shard has looked the record up (struct mx_answer); control keeps the policies of all domains
 * (sts_book.h) and has them fetched (sts_fetch.h). A question belongs to its shard, travels to
 * control and comes back within STS_ASK_WAIT_MS, with what is known by then. Never: decides what
 * becomes of a recipient.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/mailbox.h"
#include "net/mx.h"
#include "net/sts_wire.h"

#define STS_ASK         0x900 /* struct sts_question: to control, and home */
#define STS_ASK_WAIT_MS 10000u
/* An answer that is not known yet, or has just failed, is asked for again after so long. */
#define STS_ASK_AGAIN_S 60u

struct shard;

struct sts_question {
    struct parcel parcel;
    struct list link; /* control's, as the next one */
    uint64_t ends_ns;
    void *owner; /* the shard's */
    enum sts_record record;
    char id[STS_ID_BYTES_MAX + 1];
    char domain[DNS_NAME_MAX + 1];
    bool may_wait; /* for a fetch */
    /* The answer: */
    bool is_open;                /* a fetch is still under way */
    enum sts_wire_result result; /* of the fetch that was waited for, else STS_WIRE_POLICY */
    uint64_t left_s;             /* the policy counts so long */
    uint32_t text_len;           /* of the policy; 0 = none counts */
    char text[STS_TEXT_BYTES_MAX];
};

/* False: there is nobody to ask. */
bool sts_ask(struct shard *shard, struct sts_question *question, struct slice domain,
             const struct mx_answer *answer);
/*
 * The policy shuts MX hosts out, or asks more of all of them: the answer loses hosts and becomes
 * another destination, or has none any more and a verdict that says why. Hosts with TLSA records
 * that can be used stay (RFC 8461 2). What there is to tell the domain's owner is counted
 * (tls_report.h).
 */
void sts_apply(struct shard *shard, const struct sts_question *question, struct mx_answer *answer);
