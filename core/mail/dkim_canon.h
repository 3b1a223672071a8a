/*
 * dkim_canon: the two ways RFC 6376 section 3.4 levels a message before it is hashed.
 *
 * The body is read once, in any segmentation; nothing is kept of it but a few counters. What is to
 * be hashed goes to a sink in pieces, which mostly point into the input. Bodies may be as they are
 * stored, with doubled dots; a signature is about the octets without them (RFC 6376 3.7 speaks of
 * the message before SMTP's dot-stuffing). Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum dkim_canon {
    DKIM_RELAXED, /* in the order of the directives' choices */
    DKIM_SIMPLE,
};

struct dkim_sink {
    void (*put)(void *context, const uint8_t *data, size_t len);
    void *context;
};

struct dkim_body {
    enum dkim_canon canon;
    bool is_stuffed;
    bool is_line_start;
    bool has_cr;         /* one was read, and it is not known yet whether it ends a line */
    bool has_blank;      /* relaxed: blanks were read that count when the line goes on */
    bool has_content;    /* something but empty lines was there */
    uint64_t line_ends;  /* read and not passed on yet: they may be the last ones */
    uint64_t octets;     /* that the sink has got: what l= says in the end */
    uint64_t octets_max; /* only so many of them go to the sink (l=) */
};

/* octets_max: UINT64_MAX hashes all of it. */
void dkim_body_init(struct dkim_body *body, enum dkim_canon canon, bool is_stuffed,
                    uint64_t octets_max);
void dkim_body_put(struct dkim_body *body, const uint8_t *data, size_t len,
                   const struct dkim_sink *sink);
/* The body is over: what RFC 6376 3.4.3 and 3.4.4 say of its last lines. */
void dkim_body_end(struct dkim_body *body, const struct dkim_sink *sink);

/*
 * One whole header field (RFC 6376 3.4.1, 3.4.2): name, colon, value, folds. With or without the
 * last CRLF; it comes out as it went in with `simple`, and with one by `relaxed`. The field that is
 * the signature itself counts without (3.7): leave its CRLF out and set is_last.
 */
void dkim_header_put(enum dkim_canon canon, struct slice field, bool is_last,
                     const struct dkim_sink *sink);
