/*
 * tls_post: brings reports about TLS to the https addresses of their domains (RFC 8460 5.4), each
 * once, by way of the helper program (sts_fetch.h).
 *
 * What becomes of an address that does not take its report is the owner's: it is told when all of
 * a report's addresses have answered, or did not in time. Only so many reports are on their way at
 * once, each with its octets, and fewer to the same host: thousands of domains may name one, which
 * is not to have all that at once, nor, when it hangs, to hold up the reports to others. Belongs to
 * control and its loop. Never: tries again, or keeps anything over a restart.
 */
#pragma once

#include "shard/sts_fetch.h"
#include "shard/tls_report_mail.h"

#define TLS_POSTS_MAX      64u
#define TLS_POSTS_HOST_MAX 8u /* half of STS_WIRE_REPORTS_MAX */
#define TLS_POST_WHY_MAX   256u

struct tls_posts;

/* One address of a report. */
struct tls_post_copy {
    struct sts_post post;
    struct tls_post *of;
    bool is_open; /* without an answer */
    bool is_taken;
    struct slice host; /* in the URI */
    char uri[HTTPS_URI_MAX + 1];
};

struct tls_post {
    struct tls_posts *posts;
    struct list link;
    char domain[DNS_NAME_MAX + 1];
    int64_t from_s; /* of the report's span, which tells its book */
    int64_t until_s;
    uint8_t *content; /* of the heap */
    uint32_t copy_count;
    uint32_t open_count;
    uint32_t taken_count;       /* by so many addresses */
    char why[TLS_POST_WHY_MAX]; /* the newest of the others did not; or "" */
    struct tls_post_copy copies[TLSRPT_POST_TO_MAX];
};

/* All addresses have answered; the post is gone behind it. Never from inside of tls_posts_begin. */
typedef void tls_post_done_fn(struct tls_posts *posts, const struct tls_post *post);

struct tls_posts {
    struct sts_fetch *fetch;
    tls_post_done_fn *on_done;
    struct list under_way;
    uint32_t count;
};

void tls_posts_init(struct tls_posts *posts, struct sts_fetch *fetch, tls_post_done_fn *on_done);
/* After the loop has ended. */
void tls_posts_fini(struct tls_posts *posts);
/* Takes the order's content, and its addresses, of which there is one at least. False when as many
 * as can be are on their way, at all or to one of the hosts. */
bool tls_posts_begin(struct tls_posts *posts, struct tls_report_order *order);
