/*
 * sts_fetch: keeps the helper program ringpost-sts running, has it fetch policies of MTA-STS, and
 * post reports about TLS.
 *
 * It is started when the first of them is wanted. One that ends, hangs or talks nonsense is ended;
 * what it was asked for is asked once more of the next one, which is started a second later, and
 * later still when that fails too. So it costs time and nothing else. Domains that find
 * STS_WIRE_FETCHES_MAX of them under way wait in line, and so do reports that find
 * STS_WIRE_REPORTS_MAX of their kind; neither waits for the other.
 *
 * Belongs to control and its loop.
 */
#pragma once

#include "net/sts_wire.h"

struct conf;
struct io;
struct sts_fetch;

/* What became of the domain of a sts_fetch_begin; never from inside of it. */
typedef void sts_fetch_done_fn(void *context, struct slice domain, enum sts_wire_result result,
                               struct slice text);

struct sts_post;

/* What became of a report: STS_WIRE_TAKEN, or another result; never from inside of sts_fetch_post.
 * It is the caller's again. */
typedef void sts_post_done_fn(struct sts_post *post, enum sts_wire_result result,
                              struct slice text);

/* The caller's, who leaves it be until on_done, or for good when the loop has ended. */
struct sts_post {
    struct slice uri;    /* https_uri_parse takes it */
    struct slice report; /* at most STS_WIRE_REPORT_BYTES_MAX, by gzip */
    sts_post_done_fn *on_done;
};

/* program: its path, copied; NULL = there is none, and everything fails. conf: where the snapshot
 * is found whose name servers, authorities and kinds of addresses count; one that runs with others
 * is asked no more and gives way when it has answered. */
struct sts_fetch *sts_fetch_create(struct io *io, const char *program, struct conf *const *conf,
                                   sts_fetch_done_fn *on_done, void *context);
/* After the loop has ended. NULL is fine. */
void sts_fetch_destroy(struct sts_fetch *fetch);
/* At most one of a domain at a time, whose name is at most STS_WIRE_DOMAIN_MAX long. */
void sts_fetch_begin(struct sts_fetch *fetch, struct slice domain);
void sts_fetch_post(struct sts_fetch *fetch, struct sts_post *post);
/* Nothing is fetched or posted any more. True when no helper is left; called until then. */
bool sts_fetch_stop(struct sts_fetch *fetch);
/* There is no such program, which the log has. */
bool sts_fetch_is_missing(const struct sts_fetch *fetch);
/* Helpers that ended without being told to. */
uint32_t sts_fetch_restarts(const struct sts_fetch *fetch);
