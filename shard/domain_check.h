/*
 * domain_check: what receivers see of mail with a domain in From, as far as the DNS says it.
 *
 * For each source address: what the SPF record of the sender's domain says of it, whether its name
 * leads back to it, where its name in HELO leads. For the domain in From, the sender's and those
 * that sign: the DMARC record and the organization (net/dmarc.h). DOMAIN_CHECK_OPEN_MAX addresses
 * are looked at side by side, by the resolver that mail goes by; all is over after the time that
 * was given, and what is not known then says so. It holds all that it needs itself, so the
 * configuration may change meanwhile. Belongs to the thread of its loop; nothing waits. What came
 * of it is a value: nothing is decided here.
 */
#pragma once

#include "net/dmarc.h"
#include "net/spf.h"

#define DOMAIN_CHECK_OPEN_MAX    16u
#define DOMAIN_CHECK_SOURCES_MAX 4096u
#define DOMAIN_CHECK_WALKS_MAX   10u /* the domain in From, the sender's, and those that sign */

enum domain_helo {
    DOMAIN_HELO_UNKNOWN,
    DOMAIN_HELO_HERE,      /* one of its addresses is this one */
    DOMAIN_HELO_ELSEWHERE, /* it has addresses of this family, and this is none of them */
    DOMAIN_HELO_NOWHERE,   /* it has none */
};

struct domain_source {
    char *vmta;
    char *helo;
    struct ipaddr ip;
    /* The results: */
    bool is_done; /* else the time was over */
    enum spf_result spf;
    char spf_by[SPF_MECHANISM_MAX]; /* the term that decided, or why there is an error */
    bool spf_is_of_sender;          /* it says nothing of other local parts of the domain */
    enum rdns_result iprev;
    char name[DNS_NAME_MAX + 1]; /* that leads back; "" = none */
    enum domain_helo leads;
};

struct domain_check;

/* Domains are lower case A-labels. */
struct domain_check *domain_check_new(struct io *io, struct dns *dns, struct slice domain,
                                      struct slice sender_domain);
/* False when there are DOMAIN_CHECK_SOURCES_MAX already. */
bool domain_check_add_source(struct domain_check *check, const char *vmta, const struct ipaddr *ip,
                             const char *helo);
/* A domain that signs (d=). False when it is not looked at for want of room. */
bool domain_check_add_signer(struct domain_check *check, struct slice domain);
/* done comes once, not from inside; it may free the check. */
void domain_check_start(struct domain_check *check, uint32_t timeout_ms,
                        void (*done)(struct domain_check *check, void *context), void *context);
/* Also while it is under way. NULL is fine. */
void domain_check_free(struct domain_check *check);

const struct domain_source *domain_check_sources(const struct domain_check *check,
                                                 uint32_t *ret_count);
/* Of the domain in From, of the sender's, of one that signs. NULL for one that was not added. */
const struct dmarc_walk *domain_check_from(const struct domain_check *check);
const struct dmarc_walk *domain_check_sender(const struct domain_check *check);
const struct dmarc_walk *domain_check_signer(const struct domain_check *check, struct slice domain);
/* Whether mail of that domain is aligned with From; false when it is not known. */
bool domain_check_is_aligned(const struct domain_check *check, const struct dmarc_walk *other,
                             bool is_strict);
