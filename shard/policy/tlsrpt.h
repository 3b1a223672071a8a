/*
 * tlsrpt: counts of how TLS went, as reports to receivers have them (RFC 8460).
 *
 * A count says: so many connections for a policy domain (that of the recipients), under a policy,
 * ended like that. A batch is what a shard has counted since it handed over the last one: a row
 * of records in a fixed room, of one UTC day, in which equal ones are one; adding allocates
 * nothing. It travels to the book (policy/tlsrpt_book.h), where the batches of all shards are
 * joined.
 *
 * Pure; whoever owns the batch. Texts are cut to their bounds, never refused. Never: decides what
 * becomes of mail.
 */
#pragma once

#include "core/base/ipaddr.h"

#define TLSRPT_NAME_MAX    255u
#define TLSRPT_REASON_MAX  100u
#define TLSRPT_POLICY_MAX  1024u
#define TLSRPT_BATCH_BYTES 32768u
#define TLSRPT_SLOTS       1024u /* a power of two; more than records fit */
#define TLSRPT_RECORD_MAX  (2 * (TLSRPT_NAME_MAX + 1) + TLSRPT_REASON_MAX + TLSRPT_POLICY_MAX + 40)

/* What a session was judged by: name, RFC 8460 4.4 "policy-type". */
#define TLSRPT_TYPES(X)                                                                            \
    X(TLSRPT_NO_POLICY, "no-policy-found")                                                         \
    X(TLSRPT_TLSA, "tlsa")                                                                         \
    X(TLSRPT_STS, "sts")

/* How it ended: name, RFC 8460 4.3 "result-type". */
#define TLSRPT_RESULTS(X)                                                                          \
    X(TLSRPT_SUCCESS, "success")                                                                   \
    X(TLSRPT_NO_STARTTLS, "starttls-not-supported")                                                \
    X(TLSRPT_HOST_MISMATCH, "certificate-host-mismatch")                                           \
    X(TLSRPT_EXPIRED, "certificate-expired")                                                       \
    X(TLSRPT_NOT_TRUSTED, "certificate-not-trusted")                                               \
    X(TLSRPT_FAILURE, "validation-failure")                                                        \
    X(TLSRPT_TLSA_INVALID, "tlsa-invalid")                                                         \
    X(TLSRPT_DNSSEC_INVALID, "dnssec-invalid")                                                     \
    X(TLSRPT_DANE_REQUIRED, "dane-required")                                                       \
    X(TLSRPT_STS_FETCH_ERROR, "sts-policy-fetch-error")                                            \
    X(TLSRPT_STS_INVALID, "sts-policy-invalid")                                                    \
    X(TLSRPT_STS_WEBPKI, "sts-webpki-invalid")

#define TLSRPT_ENUM(name, text) name,
enum tlsrpt_type { TLSRPT_TYPES(TLSRPT_ENUM) TLSRPT_TYPE_COUNT };
enum tlsrpt_result { TLSRPT_RESULTS(TLSRPT_ENUM) TLSRPT_RESULT_COUNT };
#undef TLSRPT_ENUM

const char *tlsrpt_type_text(enum tlsrpt_type type);
const char *tlsrpt_result_text(enum tlsrpt_result result);

struct tlsrpt_count {
    uint8_t type;         /* enum tlsrpt_type */
    uint8_t result;       /* enum tlsrpt_result */
    struct ipaddr source; /* ours; family NONE = not known */
    struct slice domain;  /* the policy domain, lower case */
    /* The policy as it was published, in lines (LF between them): of TLSA the records in
     * presentation form, of STS the lines of the policy. Empty = none. */
    struct slice policy;
    struct slice host;   /* MX host; of successes heeded for TLSA alone, whose policy is its own */
    struct slice reason; /* in words, of failures; may be empty */
    uint64_t count;
};

/* On disk and in batches: the count but for its number. Returns the octets, at most
 * TLSRPT_RECORD_MAX. */
size_t tlsrpt_encode(const struct tlsrpt_count *count, uint8_t room[TLSRPT_RECORD_MAX]);
/* Leaves r->failed set when it is damaged. Texts lie in the reader's octets. */
void tlsrpt_decode(struct wire_reader *r, struct tlsrpt_count *ret_count);

struct tlsrpt_batch {
    int32_t day; /* since 1970, UTC; of all that is in it */
    uint32_t used;
    uint32_t record_count;
    uint16_t slots[TLSRPT_SLOTS]; /* places of records in the room, + 1; 0 = free */
    uint8_t room[TLSRPT_BATCH_BYTES];
};

void tlsrpt_batch_init(struct tlsrpt_batch *batch, int32_t day);
/* count->count is added to the equal one. False when there is no room for one more. */
bool tlsrpt_batch_add(struct tlsrpt_batch *batch, const struct tlsrpt_count *count);
/* Begin with *place = 0. Texts are valid as long as the batch. False at the end. */
bool tlsrpt_batch_next(const struct tlsrpt_batch *batch, uint32_t *place,
                       struct tlsrpt_count *ret_count);
