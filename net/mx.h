/*
 * mx: from a destination domain, or an operator's route, to an ordered list of addresses.
 *
 * RFC 5321 section 5, RFC 7505. MX by preference, equals shuffled; A/AAAA of the domain itself when
 * it has no MX (never after NXDOMAIN); null MX is final; we ourselves in the list drop equal and
 * worse preferences (A30); loopback, unspecified, multicast and our own addresses learnt from DNS
 * are refused (A27), private ones by setting; with allow_loopback a loopback address is also never
 * taken for our own. Addresses an operator names are always allowed, host names he names are looked
 * up and judged like any other.
 * Families without a source are left out; IPv4 first unless told otherwise. Only SERVFAIL and
 * timeouts are temporary. At most MX_HOST_COUNT_MAX hosts and MX_TARGET_COUNT_MAX addresses.
 * With want_sts the record of MTA-STS at _mta-sts.DOMAIN is looked up too (net/sts.h), unless there
 * is a route; what follows from it is the caller's business. With want_dane the TLSA records of
 * hosts come with them where signed zones lead there (net/tlsa.h); a host whose records cannot be
 * had is left out as long as that lasts.
 */
#pragma once

#include "core/base/siphash.h"
#include "core/conf/conf.h"
#include "core/mail/verdict.h"
#include "net/dns.h"
#include "net/sts.h"

#define MX_HOST_COUNT_MAX   20
#define MX_TARGET_COUNT_MAX 64
#define MX_TLSA_BYTES_MAX   4096 /* of all hosts */
#define MX_STS_BYTES_MAX    1024 /* of a policy, for reports; what is longer is cut */

struct mx_target {
    struct ipaddr_port at;
    uint16_t preference; /* 0 = best of all hosts; equal numbers are equally good */
    uint16_t host;       /* index into hosts */
};

/* The TLSA records of a host; places within a struct mx_tlsa_room. */
struct mx_tlsa {
    uint16_t base;    /* the name that they stand below, which is the certificate's too */
    uint16_t records; /* in the form of struct dns_query's data */
    uint16_t bytes;   /* of them; 0 = the host has none */
};

struct mx_tlsa_room {
    uint16_t used;
    uint8_t data[MX_TLSA_BYTES_MAX];
};

struct mx_answer {
    /* VERDICT_SUCCESS with at least one target; else why not (scope domain, stage DNS). */
    struct verdict verdict;
    uint64_t valid_until_ns; /* io_now_ns clock; also for failures */
    uint64_t set_hash;  /* of host names (or route), families wanted and TLSA records: names the
                       site, so it is made with the rules' key: nobody can choose hosts that
                       have another destination's */
    uint64_t site_hash; /* of the first alone */
    uint64_t tlsa_hash; /* of the last alone; 0 = there are none */
    /* The last host that was left out because its TLSA records could not be had; "" = none was. */
    char no_tlsa_host[DNS_NAME_MAX + 1];
    uint8_t sts_record; /* enum sts_record; NONE without want_sts */
    char sts_id[STS_ID_BYTES_MAX + 1];
    /* The caller's, by the policy: enum sts_mode, and unless that is NONE what it asks of whom, and
     * its text. */
    uint8_t sts;
    uint64_t sts_hash;
    uint16_t sts_bytes;
    char sts_text[MX_STS_BYTES_MAX];
    uint16_t host_count;
    uint16_t target_count;
    /* Those with a target; an address in text where the operator named one. */
    char host_names[MX_HOST_COUNT_MAX][DNS_NAME_MAX + 1];
    struct mx_target targets[MX_TARGET_COUNT_MAX]; /* in the order to be tried */
    struct mx_tlsa tlsas[MX_HOST_COUNT_MAX];
    struct mx_tlsa_room tlsa_room;
};

struct mx_rules {
    bool want_ipv4; /* a source of this family exists */
    bool want_ipv6;
    bool prefer_ipv6;
    bool allow_loopback;
    bool allow_private;
    bool want_dane;
    bool want_sts;
    uint16_t port;
    const struct ipaddr *own_addresses;
    uint32_t own_address_count;
    const char *own_host_name;
    uint8_t site_key[SIPHASH_KEY_BYTES]; /* one for all shards, and known to nobody else */
};

/* One resolution at a time, used again and again; about 30 KB with its answer. */
struct mx_resolution;

struct mx_resolution *mx_resolution_create(struct dns *dns, struct io *io);
void mx_resolution_destroy(struct mx_resolution *resolution);
/* What on_done got, which the owner may alter until the next start. */
struct mx_answer *mx_resolution_answer(struct mx_resolution *resolution);
/* Starts; on_done comes later, never from inside, answer valid until the next start. route_count 0:
 * by MX of the domain. The rules and route must stay in place until then. */
void mx_resolve(struct mx_resolution *resolution, struct slice domain,
                const struct conf_route_host *route, uint32_t route_count,
                const struct mx_rules *rules,
                void (*on_done)(void *context, const struct mx_answer *answer), void *context);
