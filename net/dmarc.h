/*
 * dmarc: what a domain says by DMARC (RFC 9989), and which domain it belongs to.
 *
 * One walk up the tree of names finds both (4.10): the record that counts for mail with the domain
 * in From, and the organization's domain, by which relaxed alignment is judged. At most
 * DMARC_QUESTIONS_MAX questions, one at a time. A value of its owner's, on a shard's or control's
 * loop; nothing waits and nothing is allocated. What is wrong with a record makes it none, as 4.7
 * has it. Never: judges a message, or reports to anybody.
 */
#pragma once

#include "net/dns.h"

#define DMARC_QUESTIONS_MAX 8u

enum dmarc_policy {
    DMARC_NO_ACTION,
    DMARC_QUARANTINE,
    DMARC_REJECT,
};

enum dmarc_psd {
    DMARC_PSD_UNKNOWN,
    DMARC_PSD_YES, /* others register domains below it */
    DMARC_PSD_NO,  /* it is the organization's */
};

struct dmarc_record {
    enum dmarc_policy policy;     /* p= */
    enum dmarc_policy sub_policy; /* sp=, else p= */
    enum dmarc_psd psd;
    bool is_strict_dkim; /* adkim=s: d= must be the very domain */
    bool is_strict_spf;  /* aspf=s: so must the sender's */
    bool is_testing;     /* t=y: the policy is the next weaker one */
    bool has_reports;    /* rua= */
};

const char *dmarc_policy_name(enum dmarc_policy policy);
/* Whether a TXT record is a DMARC record that counts. */
bool dmarc_parse(struct slice text, struct dmarc_record *ret_record);

enum dmarc_found {
    DMARC_NONE, /* neither the domain nor one above it says anything */
    DMARC_FOUND,
    DMARC_TEMPERROR, /* the DNS did not answer somewhere on the way */
};

struct dmarc_walk {
    struct dns *dns;
    struct dns_lookup lookup;
    void (*on_done)(void *context, struct dmarc_walk *walk);
    void *context;
    /* The result, once on_done has come; it stays until the next start. */
    uint8_t found;              /* enum dmarc_found */
    struct dmarc_record record; /* of DMARC_FOUND: the one that counts for the domain */
    const char *record_domain;  /* whose it is; in domain, like the next one */
    const char *organization;   /* the domain itself when none has a record */
    /* Inside: */
    const char *at;      /* that is asked about */
    bool is_own;         /* the record is the domain's own */
    bool is_above_known; /* a psd= has settled the organization */
    char domain[DNS_NAME_MAX + 1];
};

/* domain: lower case, no dot at its end. on_done comes later, never from inside. */
void dmarc_start(struct dmarc_walk *walk, struct dns *dns, struct slice domain,
                 void (*on_done)(void *context, struct dmarc_walk *walk), void *context);
/* on_done will not come. Safe when nothing runs, and on one of zeroes. */
void dmarc_stop(struct dmarc_walk *walk);
/* What the record asks for mail of the walk's domain: p= or sp=. */
enum dmarc_policy dmarc_policy_of(const struct dmarc_walk *walk);
/* Whether a domain that was authenticated (its walk) stands for that of From (4.4). */
bool dmarc_is_aligned(const struct dmarc_walk *from, const struct dmarc_walk *other,
                      bool is_strict);
