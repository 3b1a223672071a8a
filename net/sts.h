/*
 * sts: what a domain says by MTA-STS (RFC 8461): its record in the DNS, and its policy.
 *
 * Texts come from strangers: lengths and counts are bounded, and what is wrong is no policy at all
 * rather than a part of one. Pure, no allocation, any thread. Never: fetches, keeps, or decides
 * what becomes of mail.
 */
#pragma once

#include "core/base/slice.h"

#include <stdint.h>

#define STS_ID_BYTES_MAX     32
#define STS_POLICY_BYTES_MAX 65536 /* a longer one is none */
#define STS_MAX_AGE_MAX_S    31557600
#define STS_MX_COUNT_MAX     32  /* a policy with more is none: one left out would shut a host */
#define STS_MX_BYTES_MAX     255 /* of a pattern */

/* Room for sts_policy_print. */
#define STS_TEXT_BYTES_MAX (STS_MX_COUNT_MAX * (STS_MX_BYTES_MAX + 5u) + 128u)

enum sts_mode {
    STS_NONE,    /* nothing is asked of anybody, and what was before is over */
    STS_TESTING, /* mail goes all the same */
    STS_ENFORCE, /* to hosts that match, by TLS with a certificate that holds, or not at all */
};

/* What the DNS says at _mta-sts.DOMAIN. */
enum sts_record {
    STS_RECORD_NONE,    /* no record, or one that is wrong */
    STS_RECORD_FOUND,   /* with an id */
    STS_RECORD_UNKNOWN, /* no answer just now */
};

struct sts_policy {
    enum sts_mode mode;
    uint32_t max_age_s; /* how long it may be kept */
    uint32_t mx_count;
    struct slice mx[STS_MX_COUNT_MAX]; /* within the text */
};

/*
 * The id of the one record among the texts of _mta-sts.DOMAIN. False when there is none, more than
 * one, or it is wrong: the domain has no policy then (RFC 8461 3.1).
 */
bool sts_id_find(const struct slice *texts, uint32_t count, struct slice *ret_id);
/* 0; E_TOO_LONG, E_RANGE above STS_MX_COUNT_MAX, or E_SYNTAX. The text must stay as long as the
 * policy. */
int sts_policy_parse(struct slice text, struct sts_policy *ret_policy);
/* The policy without what nobody knows, as sts_policy_parse reads it; its length. */
size_t sts_policy_print(const struct sts_policy *policy, char room[STS_TEXT_BYTES_MAX]);
/* "none", "testing" or "enforce"; static storage. */
const char *sts_mode_name(enum sts_mode mode);
/* Whether the policy names the MX host. "*.example" stands for exactly one label (RFC 8461 4.1). */
bool sts_policy_names(const struct sts_policy *policy, struct slice host);
