/*
 * dane: TLSA records, and whether a receiver's certificates are those that they name.
 *
 * RFC 6698, RFC 7671, and what RFC 7672 makes of them for SMTP: usages 2 (DANE-TA) and 3 (DANE-EE)
 * count, 0 and 1 are unusable. Records are one slice in the form of struct dns_query's data; that
 * they were validated is the caller's business. Pure but for allocations of BoringSSL's own, which
 * are gone when a call returns; any thread. Records and certificates are hostile: whatever cannot
 * be read matches nothing.
 *
 * Never: looks into DNS, trusts an authority that the records do not name, minds names and dates
 * of a certificate that usage 3 names.
 */
#pragma once

#include "core/base/slice.h"

#include <stdint.h>

/* Further certificates of a chain are not looked at. */
#define DANE_CHAIN_COUNT_MAX 16

enum dane_worth {
    DANE_NOTHING,  /* no record */
    DANE_UNUSABLE, /* records, none of which we can use: TLS it must be, by whatever certificate */
    DANE_USABLE,   /* at least one: TLS it must be, and a certificate that matches */
};

/* What the receiver has shown. */
struct dane_peer {
    const struct slice *chain; /* DER, its own certificate first */
    uint32_t chain_count;
    const char *const *names; /* usage 2: the certificate has to be for one of them */
    uint32_t name_count;
    uint64_t now_s; /* usage 2: the date, seconds since 1970 */
};

enum dane_worth dane_worth_of(struct slice records);
/* Whether names decide, so that a connection that was good for one domain may not be for another.
 */
bool dane_minds_names(struct slice records);
/* What dane_judge says of a certificate that is fine but for its names. */
#define DANE_WRONG_NAME "the certificate is for another name"
/* NULL when one usable record names it; otherwise why none does, static storage. */
const char *dane_judge(struct slice records, const struct dane_peer *peer);
