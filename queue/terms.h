/*
 * terms: what a message's sender has said of when and how it is to be tried, apart from the
 * settings of its queue. It stands in the envelope, so it lives as long as the message.
 *
 * Times are wall clock, microseconds. Pure functions, any thread.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"

#define TERMS_WINDOWS_MAX 16u
#define TERMS_RETRIES_MAX 16u

/* An upper bound of what terms_encode writes. */
#define TERMS_BYTES_MAX                                                                            \
    (1 + 8 + 1 + 1 + 16 * TERMS_WINDOWS_MAX + 1 + 1 + 4 * TERMS_RETRIES_MAX + 1 + 1)

struct terms_window {
    uint64_t from_us;
    uint64_t until_us; /* > from_us; not within it any more */
};

/* What connections a message goes by, besides what its queue asks of them. */
enum terms_tls {
    TERMS_TLS_ANY,
    TERMS_TLS_REQUIRED,
    TERMS_TLS_VERIFIED, /* the receiver has shown a certificate that holds, too */
};

struct terms {
    uint64_t expires_us; /* no attempt from then on; 0 = the queue's settings say it */
    struct terms_window windows[TERMS_WINDOWS_MAX]; /* attempts within one of them only */
    uint32_t window_count;                          /* 0 = at any time */
    uint32_t retry_s[TERMS_RETRIES_MAX];            /* the last one repeats */
    uint32_t retry_count;                           /* 0 = the queue's settings say it */
    enum terms_tls tls;
};

#define TERMS_NEVER UINT64_MAX

/* The first moment from now_us on at which the message may be tried, or TERMS_NEVER. */
uint64_t terms_next_us(const struct terms *terms, uint64_t now_us);

/* Sets w->failed when the room is too small. Writes nothing when the terms say nothing. */
void terms_encode(const struct terms *terms, struct wire_writer *w);
/* All of data; empty data are terms that say nothing. 0, or E_DAMAGED. */
int terms_decode(struct slice data, struct terms *ret_terms);
