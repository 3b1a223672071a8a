/*
 * spf: whether a domain lets an address send for it (RFC 7208), asked step by step.
 *
 * A walk over records: each answer of the DNS leads to the next question or to the result. Bounds
 * are those of section 4.6.4: 10 terms that need look-ups, 2 of them without an answer, 10 hosts of
 * an MX and 10 names of an address; records that are open at once have 8 KB together. A circle of
 * records meets the first of these. Whoever asks also bounds the time, and ends it with spf_stop.
 *
 * Belongs to its owner, on a shard's loop; about 14 KB; nothing is allocated and nothing waits.
 * Names with octets that no host name has are taken for names that do not exist (net/dns.h).
 */
#pragma once

#include "net/rdns.h"
#include "net/spf_record.h"

#define SPF_LOOKUP_COUNT_MAX 10u
#define SPF_VOID_COUNT_MAX   2u
#define SPF_MX_COUNT_MAX     10u
#define SPF_DEPTH_MAX        (SPF_LOOKUP_COUNT_MAX + 1u)
#define SPF_TEXT_BYTES       8192u
#define SPF_MECHANISM_MAX    128u

struct spf_question {
    struct ipaddr ip;
    struct slice local;  /* of the sender; of a null sender "postmaster" */
    struct slice domain; /* of the sender; of a null sender the name in HELO */
    struct slice helo;
};

struct spf_answer {
    enum spf_result result;
    const char *why;                   /* of an error: constant text; else "" */
    char mechanism[SPF_MECHANISM_MAX]; /* of the domain's own record; "default": none matched */
    bool is_of_sender; /* a macro had the sender's local part: it says nothing of other senders */
};

/* A record that is being gone through, in the room of texts. */
struct spf_frame {
    uint16_t start; /* of what belongs to it: its domain, then the terms */
    uint16_t domain_bytes;
    uint16_t terms;
    uint16_t terms_bytes;
    uint16_t at; /* octets of the terms that are behind us */
    bool is_redirected;
    uint8_t qualifier; /* of the include that led on from here */
};

struct spf_check {
    struct dns *dns;
    struct dns_lookup lookup;
    struct rdns names;
    void (*on_done)(void *context, const struct spf_answer *answer);
    /* NULL, or who wants to see each step. */
    void (*note)(void *context, const char *domain, struct slice term, const char *what);
    void *context;
    struct ipaddr ip;
    bool has_names;
    uint8_t lookup_count;
    uint8_t void_count;
    uint8_t depth;
    uint8_t mx_count;
    uint8_t mx_at;
    uint16_t text_bytes;  /* in use */
    struct spf_term term; /* the one that a question is about */
    char target[DNS_NAME_MAX + 1];
    struct spf_frame frames[SPF_DEPTH_MAX];
    struct spf_answer answer;
    uint16_t local_bytes; /* of identity: the sender's local part, domain, then HELO */
    uint16_t domain_bytes;
    uint16_t helo_bytes;
    char identity[1024];
    char mx[SPF_MX_COUNT_MAX][DNS_NAME_MAX + 1];
    char text[SPF_TEXT_BYTES];
};

/* on_done comes later, never from inside. check->note is the caller's to set before. */
void spf_start(struct spf_check *check, struct dns *dns, const struct spf_question *question,
               void (*on_done)(void *context, const struct spf_answer *answer), void *context);
/* on_done will not come. Safe when nothing runs, and on one of zeroes. */
void spf_stop(struct spf_check *check);
