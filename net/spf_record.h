/*
 * spf_record: the text of an SPF record (RFC 7208 sections 4.5 to 7): its terms, and macros.
 *
 * A record is the words of whoever owns the domain, so nothing of it is believed: every term is
 * checked before the first one counts, and what a macro makes is cut to a domain's length. Pure; no
 * allocation, any thread.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "net/dns.h"

enum spf_result {
    SPF_NONE,
    SPF_NEUTRAL,
    SPF_PASS,
    SPF_FAIL,
    SPF_SOFTFAIL,
    SPF_TEMPERROR,
    SPF_PERMERROR,
};

/* As Authentication-Results and Received-SPF call it. */
const char *spf_result_name(enum spf_result result);

enum spf_kind {
    SPF_ALL,
    SPF_INCLUDE,
    SPF_A,
    SPF_MX,
    SPF_PTR,
    SPF_IP4,
    SPF_IP6,
    SPF_EXISTS,
    SPF_REDIRECT,
    SPF_EXP,   /* its syntax is checked, its text is nobody's to show here */
    SPF_OTHER, /* a modifier that means nothing */
};

struct spf_term {
    struct slice text; /* all of it, as it stands in the record */
    enum spf_kind kind;
    enum spf_result qualifier; /* what a match means */
    struct slice domain;       /* macros and all; empty = the domain whose record this is */
    struct cidr block;         /* of ip4 and ip6 */
    uint8_t bits4;             /* of a and mx */
    uint8_t bits6;
};

/* Whether a TXT record is an SPF record at all; *ret_terms is what follows its version. */
bool spf_is_record(struct slice text, struct slice *ret_terms);
/* The next term off the front of *rest: 1, 0 at the end, or E_SYNTAX. */
int spf_term_next(struct slice *rest, struct spf_term *ret_term);
/* Every term is well-formed, and redirect and exp stand there at most once (6): 0 or E_SYNTAX.
 * *ret_redirect has kind SPF_REDIRECT when there is one that counts: no `all` stands beside it. */
int spf_terms_check(struct slice terms, struct spf_term *ret_redirect);

/* What macros stand for. */
struct spf_macros {
    struct ipaddr ip;
    struct slice local; /* of the sender */
    struct slice sender_domain;
    struct slice domain; /* whose record this is */
    struct slice helo;
    struct slice name; /* of the address, confirmed; "unknown" */
};

/* Whether %{p} stands in it: then the address's name has to be found out first. */
bool spf_wants_name(struct slice domain_spec);
/* Whether %{l} or %{s} does: the sender's local part has a say in it. */
bool spf_wants_sender(struct slice domain_spec);
/* A domain-spec that was checked, into a name of at most 253 octets, labels left out at the left
 * (7.3). Its length, or E_TOO_LONG. */
int spf_expand(struct slice domain_spec, const struct spf_macros *macros,
               char room[DNS_NAME_MAX + 1]);
