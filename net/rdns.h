/*
 * rdns: the names of an address that lead back to it (RFC 8601 2.7.3 iprev, RFC 7208 5.5).
 *
 * PTR first, then the addresses of the first RDNS_NAMES_MAX names, one question at a time. A value
 * of its owner's, on a shard's loop; nothing waits and nothing is allocated.
 */
#pragma once

#include "net/dns.h"

#define RDNS_NAMES_MAX    10u /* RFC 7208 4.6.4 */
#define RDNS_QUESTION_MAX 80u /* an IPv6 address in nibbles, its zone, NUL */

enum rdns_result {
    RDNS_PASS,      /* a name leads back */
    RDNS_FAIL,      /* there are names, and none does */
    RDNS_TEMPERROR, /* none does as far as could be found out */
    RDNS_PERMERROR, /* there is no name */
};

struct rdns {
    struct dns *dns;
    struct dns_lookup lookup;
    void (*on_done)(void *context, struct rdns *rdns);
    void *context;
    struct ipaddr ip;
    uint8_t result; /* enum rdns_result */
    uint8_t name_count;
    uint8_t at;
    bool has_failed; /* some question had no answer */
    bool is_confirmed[RDNS_NAMES_MAX];
    char names[RDNS_NAMES_MAX][DNS_NAME_MAX + 1];
};

/* on_done comes later, never from inside; the result and names stay until the next start. */
void rdns_start(struct rdns *rdns, struct dns *dns, const struct ipaddr *ip,
                void (*on_done)(void *context, struct rdns *rdns), void *context);
/* on_done will not come. Safe when nothing runs. */
void rdns_stop(struct rdns *rdns);
/* A name that leads back, the first; "" = none. */
const char *rdns_name(const struct rdns *rdns);

/* "4.3.2.1" for 1.2.3.4; of IPv6 the nibbles, last one first (or first one first). NUL at the end;
 * the length. */
size_t rdns_labels(const struct ipaddr *ip, bool is_reversed, char room[RDNS_QUESTION_MAX]);
