/*
 * dns_outlook: does the DNS as a whole answer as it should?
 *
 * That a domain does not exist is believed only while most lookups of other domains succeed. What
 * counts are *witnesses*: domains that had an MX before. A domain that never had one says nothing
 * about the DNS, however often it is asked, so a list full of dead domains proves nothing, and a
 * resolver that suddenly denies everything is found out by the witnesses. The set is stable: a
 * witness that goes bad stays in it and counts, until it was bad for a day.
 *
 * Owned by one shard's dns module, which notes answers and asks witnesses again. Pure: no I/O, no
 * allocation; times are io_now_ns.
 */
#pragma once

#include "net/dns.h"

#define DNS_WITNESS_COUNT     16
#define DNS_WITNESS_COUNTS_NS (30 * 60 * 1000000000ull)   /* an answer counts for so long */
#define DNS_WITNESS_FRESH_NS  (30 * 1000000000ull)        /* older ones are worth a question */
#define DNS_WITNESS_BAD_NS    (24 * 3600 * 1000000000ull) /* then another takes its place */

struct dns_witness {
    char name[DNS_NAME_MAX + 1]; /* empty = a free place */
    uint64_t answered_ns;
    uint64_t good_ns; /* the last good answer */
    bool is_good;     /* the last answer was one */
};

struct dns_witnesses {
    struct dns_witness places[DNS_WITNESS_COUNT];
};

/* The answer to a question for MX of name, which is in normal form. */
void dns_witnesses_note(struct dns_witnesses *witnesses, struct slice name, enum dns_status status,
                        uint64_t now_ns);
/* What the witnesses other than except say. */
enum dns_outlook dns_witnesses_judge(const struct dns_witnesses *witnesses, struct slice except,
                                     uint64_t now_ns);
/* Whether this witness has not answered for DNS_WITNESS_FRESH_NS. False for a free place. */
bool dns_witness_is_stale(const struct dns_witness *witness, uint64_t now_ns);
