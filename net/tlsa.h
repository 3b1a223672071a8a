/*
 * tlsa: asks for the TLSA records of one MX host, as RFC 7672 2.2 has it.
 *
 * Only answers that DNSSEC has validated count. Where the host's name is an alias its last name is
 * asked first, then its own. What cannot be had and was not denied by a signed zone is a failure:
 * mail for the host has to wait, or whoever can suppress an answer could take TLS away.
 * One loop and its thread; a search is embedded in its owner and used again and again.
 */
#pragma once

#include "net/dns.h"

enum tlsa_status {
    TLSA_NONE,   /* securely none, or nothing that could be relied on */
    TLSA_FOUND,  /* at least one, usable or not: net/dane.h judges */
    TLSA_FAILED, /* not known now */
};

struct tlsa_search {
    struct dns *dns;
    struct dns_lookup lookup;
    void (*on_done)(struct tlsa_search *search);
    char host[DNS_NAME_MAX + 1];
    char base[DNS_NAME_MAX + 1]; /* where they stand below _PORT._tcp; the certificate's name too */
    uint16_t port;
    uint8_t alias_count;
    bool is_secure; /* the host's addresses are */
    /* The result, during on_done. */
    uint8_t status;       /* enum tlsa_status */
    uint32_t ttl_s;       /* the smallest of what was answered */
    struct slice records; /* in the form of struct dns_query's data */
};

/*
 * host: a name that came from a secure answer, or from the operator. is_secure: every address that
 * was found of it was validated. on_done comes later, never from inside.
 */
void tlsa_search_start(struct tlsa_search *search, struct dns *dns, const char *host, uint16_t port,
                       bool is_secure, void (*on_done)(struct tlsa_search *search));
/* on_done will not be called. Fine on one of zeroes. */
void tlsa_search_stop(struct tlsa_search *search);
