/*
 * tls_report: counts how TLS went with receivers, for the daily reports to them (RFC 8460).
 *
 * One count for each connection that a queue without a route opened: when it is ready, or when it
 * ended because TLS could not be begun. What it is counted under follows from tls_out_way, which
 * says the policy (way.policy, way.policy_text). What fails without a connection (a policy that
 * cannot be fetched, a host that a policy shuts out) is told by tls_report_trouble. Under a policy
 * that is only being tried out TLS goes on, and the connection has a fault nevertheless.
 *
 * What is counted lies in a batch (policy/tlsrpt.h), which goes to control when it is full, when
 * control asks, and when the UTC day is over; control joins those of all shards
 * (control_tls_report.c). A second batch fills meanwhile; what finds room in neither is counted as
 * lost. Belongs to the shard's thread; allocates nothing; without tls-report-from it costs a
 * comparison. Never: decides anything.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/mailbox.h"
#include "shard/policy/tlsrpt.h"

struct connection;
struct queue;
struct shard;
struct verdict;

#define TLS_REPORT_COUNTS 0x800 /* struct tls_report_batch: to control, and home */
#define TLS_REPORT_ORDER  0x801 /* control's, see tls_report_mail.h */

struct tls_report_batch {
    struct parcel parcel;
    bool is_away;
    bool is_last;  /* the shard stops: it does not come home */
    uint64_t lost; /* counts for which there was no room, since the batch before */
    struct tlsrpt_batch counts;
};

struct tls_report {
    struct tls_report_batch *batches; /* [2] */
    uint32_t filling;
    uint64_t lost;
    struct list orders; /* that wait for the DNS, see tls_report_mail.h */
};

void tls_report_init(struct shard *shard);
/* No batch may be away any more, or control must have ended. */
void tls_report_fini(struct shard *shard);
/* The connection is ready; its queue is still the one that it was opened for. */
void tls_report_ready(struct shard *shard, const struct connection *connection);
/* It never became ready; likewise. */
void tls_report_failed(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict);
/*
 * Trouble of a policy of the domain's, once each time it kept us from something: with type STS or
 * TLSA, one of the results but success, and the MX host if it is about one (else empty). policy: as
 * in struct tlsrpt_count, empty where it could not be had; reason: a few words, or "". A domain
 * that has a route is the caller's to leave out.
 */
void tls_report_trouble(struct shard *shard, struct slice domain, enum tlsrpt_type type,
                        struct slice policy, enum tlsrpt_result result, struct slice host,
                        const char *reason);
/* An MX host of the queue's domain was left out because its TLSA records could not be had: its
 * signatures do not hold, or nobody answers. */
void tls_report_left_out(struct shard *shard, const struct queue *queue, struct slice host);
/* What is counted goes to control now: before the answer to a question of control's. */
void tls_report_hand_over(struct shard *shard, bool is_last);
void tls_report_on_home(struct shard *shard, struct parcel *parcel);
