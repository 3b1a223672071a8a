/*
 * mx_plan: the pure half of mx: hosts and their addresses are put in, an answer comes out.
 *
 * 1. mx_plan_start; mx_plan_add_mx, _add_host, _add_address for everything that names a host;
 * 2. mx_plan_arrange, then one A and one AAAA lookup per host as mx_plan_wants says;
 * 3. mx_plan_take for each answer, mx_plan_take_tlsa where mx_plan_wants_tlsa; mx_plan_finish.
 * No I/O, no allocation; the caller brings clock and randomness. The order of the calls within a
 * step changes nothing but the draw of equals.
 */
#pragma once

#include "core/base/rng.h"
#include "net/mx.h"
#include "net/tlsa.h"

#define MX_ADDRESSES_PER_FAMILY 16 /* of one host; further ones are left out */

/* Why an address that DNS named is not used. name, text */
#define MX_REFUSAL_TABLE(X)                                                                        \
    X(MX_REFUSE_NOTHING, "")                                                                       \
    X(MX_REFUSE_NO_UNICAST, "not an address of one host")                                          \
    X(MX_REFUSE_LOOPBACK, "a loopback address")                                                    \
    X(MX_REFUSE_PRIVATE, "a private address")                                                      \
    X(MX_REFUSE_OWN, "an address of our own")

enum mx_refusal {
#define MX_REFUSAL_ENUM(name, text) name,
    MX_REFUSAL_TABLE(MX_REFUSAL_ENUM)
#undef MX_REFUSAL_ENUM
};

struct mx_host {
    char name[DNS_NAME_MAX + 1]; /* an address in text when the operator gave one */
    uint16_t group;              /* of the operator's route; 0 without one */
    uint16_t preference;
    uint32_t draw; /* orders equals */
    uint16_t port;
    bool is_address;     /* the operator's own, not to be looked up, never refused */
    bool is_from_secure; /* its name came from a secure answer, or from the operator */
    bool has_insecure;   /* an address that was not validated */
    struct mx_tlsa tlsa;
    uint8_t count[2]; /* by family: 0 = IPv4, 1 = IPv6 */
    struct ipaddr addresses[2][MX_ADDRESSES_PER_FAMILY];
};

/* We ourselves stand at this place of the list. */
struct mx_self {
    uint16_t group;
    uint16_t preference;
};

#define MX_SELF_COUNT_MAX 8 /* groups in which we stand; a route has few */

struct mx_plan {
    const struct mx_rules *rules;
    struct rng *rng;
    struct mx_host hosts[MX_HOST_COUNT_MAX]; /* always the best of those put in, in order */
    uint32_t host_count;
    struct mx_self selves[MX_SELF_COUNT_MAX]; /* the best place per group */
    uint32_t self_count;
    uint32_t expires_s;  /* the smallest time to live of what was used */
    uint64_t names_hash; /* of all names put in, whatever their order; anybody can find others
                            with the same one */
    uint64_t names_mark; /* likewise, and without the rules' key nobody can */
    bool has_null_mx;
    bool has_no_name;   /* a domain that does not exist */
    bool has_temporary; /* a lookup that may succeed later */
    bool has_no_tlsa;   /* has_temporary: for want of TLSA records */
    uint32_t no_tlsa;   /* the last host of which that is so */
    struct mx_tlsa_room tlsa_room;
    uint64_t tlsa_hash; /* of all records and their hosts, whatever their order; 0 = none */
    uint8_t refusal;    /* enum mx_refusal, of the first address refused */
    struct ipaddr refused;
};

void mx_plan_start(struct mx_plan *plan, const struct mx_rules *rules, struct rng *rng);
/* The answer to a question for MX. When it has no records though the name exists, the name itself
 * is the host (RFC 5321 5.1). */
void mx_plan_add_mx(struct mx_plan *plan, uint16_t group, const struct dns_query *answer);
/* From the operator's route; port 0 = that of the rules. */
void mx_plan_add_host(struct mx_plan *plan, uint16_t group, struct slice name, uint16_t port);
void mx_plan_add_address(struct mx_plan *plan, uint16_t group, const struct ipaddr *ip,
                         uint16_t port);

/* All hosts are in: drops what our own name says is ourselves or behind us (A30). */
void mx_plan_arrange(struct mx_plan *plan);
/* Is this host's A or AAAA to be looked up? */
bool mx_plan_wants(const struct mx_plan *plan, uint32_t host, enum dns_type type);
/* The answer to it; type A or AAAA. */
void mx_plan_take(struct mx_plan *plan, uint32_t host, enum dns_type type,
                  const struct dns_query *answer);
/* Are this host's TLSA records to be looked up? After all its addresses. */
bool mx_plan_wants_tlsa(const struct mx_plan *plan, uint32_t host);
/* They are there, or are not, or could not be had. domain: a name that certificates may be for. */
void mx_plan_take_tlsa(struct mx_plan *plan, uint32_t host, struct slice domain,
                       const struct tlsa_search *search);
/* Fills everything but set_hash. domain: for the verdict's text. */
void mx_plan_finish(struct mx_plan *plan, struct slice domain, uint64_t now_ns,
                    struct mx_answer *ret_answer);
