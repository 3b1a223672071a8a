/*
 * tlsrpt_book: what all shards have counted of TLS in one span of time, by policy domain.
 *
 * A domain has policies, a policy has counters and details of failures. All of it is bounded: above
 * the bounds of a domain or of the book, details become one for each result without host and
 * source, policies one for each type without text, and domains are left out, which is counted.
 * Every session counts in the sums of its policy whatever becomes of its detail.
 *
 * Pure but for the heap; one owner, control. Never: decides when a report is due.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/slab.h"
#include "shard/policy/tlsrpt.h"

#define TLSRPT_DOMAINS_MAX          65536u
#define TLSRPT_POLICIES_MAX         131072u /* of the book */
#define TLSRPT_DETAILS_MAX          131072u
#define TLSRPT_POLICIES_EACH_DOMAIN 16u
#define TLSRPT_DETAILS_EACH_POLICY  64u
#define TLSRPT_TAKEN_MAX            4u /* by https; the oldest give way */

struct tlsrpt_detail {
    struct tlsrpt_detail *next;
    uint64_t count;
    struct ipaddr source;
    uint8_t result;
    struct slice host;
    struct slice reason;
    uint8_t texts[];
};

struct tlsrpt_policy {
    struct tlsrpt_policy *next;
    uint64_t successes;
    uint64_t failures;
    struct tlsrpt_detail *details;
    uint32_t detail_count;
    uint8_t type;
    struct slice text;
    struct slice host; /* of TLSA; else empty */
    uint8_t texts[];
};

struct tlsrpt_domain {
    struct tlsrpt_policy *policies;
    uint32_t policy_count;
    uint32_t index;
    /* Of its report: the owner's. */
    int64_t due_s;
    bool is_away;  /* on its way just now */
    bool is_begun; /* what goes by mail is gone, or cannot go; https has still to take it */
    uint8_t tries; /* by https, that failed */
    uint8_t taken_count;
    uint64_t taken[TLSRPT_TAKEN_MAX]; /* hashes of addresses that have it */
    char *why;                        /* what became of the newest try, of the heap; or NULL */
    uint8_t name_bytes;
    char name[TLSRPT_NAME_MAX + 1];
};

struct tlsrpt_book {
    int32_t day;     /* since 1970, UTC */
    int64_t from_s;  /* wall clock; counting began, at the begin of the day or later */
    int64_t until_s; /* it ended; 0 = it goes on */
    struct slab domains;
    struct table by_name;
    uint32_t policy_count;
    uint32_t detail_count;
    uint64_t left_out; /* sessions of domains for which there was no room */
};

void tlsrpt_book_init(struct tlsrpt_book *book, int32_t day, int64_t from_s);
void tlsrpt_book_fini(struct tlsrpt_book *book);
void tlsrpt_book_add(struct tlsrpt_book *book, const struct tlsrpt_count *count);
/* NULL when nothing was counted of it. */
struct tlsrpt_domain *tlsrpt_book_find(const struct tlsrpt_book *book, struct slice name);
/* The domain at that place; NULL where there is none. Places go up to tlsrpt_book_places. */
struct tlsrpt_domain *tlsrpt_book_at(const struct tlsrpt_book *book, uint32_t place);
static inline uint32_t tlsrpt_book_places(const struct tlsrpt_book *book)
{
    return book->domains.count_grown;
}
/* An address has the report: remembered, or asked. */
void tlsrpt_domain_note_taken(struct tlsrpt_domain *domain, uint64_t address_hash);
bool tlsrpt_domain_has_taken(const struct tlsrpt_domain *domain, uint64_t address_hash);
void tlsrpt_book_drop(struct tlsrpt_book *book, struct tlsrpt_domain *domain);
/* What would make the same of an empty book, count by count. */
void tlsrpt_domain_walk(const struct tlsrpt_domain *domain,
                        void (*each)(void *context, const struct tlsrpt_count *count),
                        void *context);
