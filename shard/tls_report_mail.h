/*
 * tls_report_mail: looks up where a domain wants its report about TLS, and writes the mail.
 *
 * Control makes the report and sends it as an order to some shard, which asks for the TXT record of
 * _smtp._tls.DOMAIN (RFC 8460 3) and appends the mail like any notice: signed, from the null
 * sender, so that one which cannot be delivered is dropped without a word. Without a DKIM key no
 * mail is sent: receivers ignore reports that are not signed. The order comes home with what became
 * of it, and with the https addresses of the record, to which control posts the report
 * (tls_post.h). Belongs to the shard's thread.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/mailbox.h"
#include "core/mail/https_uri.h"
#include "core/mail/tlsrpt_mail.h"
#include "net/dns.h"

struct shard;

/* Of the mail: name, words for the log. */
#define TLS_REPORT_FATES(X)                                                                        \
    X(TLS_REPORT_SENT, "sent")                                                                     \
    X(TLS_REPORT_NOT_WANTED, "the domain wants none")                                              \
    X(TLS_REPORT_NO_ADDRESS, "the domain names no address that it could go to")                    \
    X(TLS_REPORT_NO_MAIL, "goes by https alone") /* or was mailed before */                        \
    X(TLS_REPORT_NOT_SIGNED, "there is no DKIM key to sign it with, or no memory")                 \
    X(TLS_REPORT_LATER, "the DNS has no answer just now")

enum tls_report_fate {
#define TLS_REPORT_ENUM(name, text) name,
    TLS_REPORT_FATES(TLS_REPORT_ENUM)
#undef TLS_REPORT_ENUM
        TLS_REPORT_FATE_COUNT,
};

/* Belongs to control; lent to a shard. */
struct tls_report_order {
    struct parcel parcel; /* TLS_REPORT_ORDER */
    /* The order. */
    char domain[DNS_NAME_MAX + 1];
    char report_id[DNS_NAME_MAX + 64];
    int64_t from_s; /* the span, wall clock */
    int64_t until_s;
    uint8_t *content; /* the report in JSON, by gzip; of the heap */
    size_t content_bytes;
    bool is_mailed; /* before: only https addresses are wanted */
    /* The shard's. */
    struct shard *shard;
    struct list link; /* in tls_report.orders */
    struct dns_lookup lookup;
    /* The answer. */
    uint8_t fate; /* enum tls_report_fate */
    uint8_t uri_count;
    char uris[TLSRPT_POST_TO_MAX][HTTPS_URI_MAX + 1];
};

void tls_report_mail_init(struct shard *shard);
/* What waits for the DNS goes home, and so does what comes later. */
void tls_report_mail_stop(struct shard *shard);
void tls_report_mail_on_order(struct shard *shard, struct parcel *parcel);
