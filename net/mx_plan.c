#include "net/mx_plan.h"

#include "core/base/hash.h"
#include "net/dane.h"
#include "net/dns_answer.h"

#include <stdio.h>

#define SECOND_NS   1000000000ull
#define TTL_MIN_S   30   /* as long as an answer is kept at least … */
#define TTL_MAX_S   3600 /* … and at most */
#define ROUTE_TTL_S TTL_MAX_S

void mx_plan_start(struct mx_plan *plan, const struct mx_rules *rules, struct rng *rng)
{
    /* Of the hosts only what counts is ever read. */
    plan->rules = rules;
    plan->rng = rng;
    plan->host_count = 0;
    plan->expires_s = ROUTE_TTL_S;
    plan->names_hash = 0;
    plan->names_mark = 0;
    plan->has_null_mx = false;
    plan->has_no_name = false;
    plan->has_temporary = false;
    plan->has_no_tlsa = false;
    plan->tlsa_room.used = 0;
    plan->tlsa_hash = 0;
    plan->self_count = 0;
    plan->refusal = MX_REFUSE_NOTHING;
}

/* ---- Hosts --------------------------------------------------------------------------------- */

/* In the order in which they are to be tried. */
static bool is_before(const struct mx_host *a, const struct mx_host *b)
{
    if (a->group != b->group)
        return a->group < b->group;
    if (a->preference != b->preference)
        return a->preference < b->preference;
    return a->draw < b->draw;
}

static void remove_host(struct mx_plan *plan, uint32_t index)
{
    memmove(&plan->hosts[index], &plan->hosts[index + 1],
            (plan->host_count - index - 1) * sizeof(plan->hosts[0]));
    plan->host_count--;
}

/* ---- Ourselves (A30) ----------------------------------------------------------------------- */

static void note_self(struct mx_plan *plan, uint16_t group, uint16_t preference)
{
    for (uint32_t i = 0; i < plan->self_count; i++) {
        struct mx_self *self = &plan->selves[i];

        if (self->group != group)
            continue;
        if (preference < self->preference)
            self->preference = preference;
        return;
    }
    if (plan->self_count < MX_SELF_COUNT_MAX)
        plan->selves[plan->self_count++] = (struct mx_self){group, preference};
}

/*
 * Hosts that are no better than ourselves must not get mail from us (RFC 5321 5.1): it would come
 * back. An address that the operator names is the operator's business.
 */
static bool is_behind_self(const struct mx_plan *plan, const struct mx_host *host)
{
    for (uint32_t i = 0; i < plan->self_count && !host->is_address; i++) {
        if (plan->selves[i].group == host->group && plan->selves[i].preference <= host->preference)
            return true;
    }
    return false;
}

static void drop_behind_selves(struct mx_plan *plan)
{
    for (uint32_t i = plan->host_count; i > 0; i--) {
        if (is_behind_self(plan, &plan->hosts[i - 1]))
            remove_host(plan, i - 1);
    }
}

static bool is_own_name(const struct mx_rules *rules, struct slice name)
{
    return rules->own_host_name != NULL &&
           slice_equal_nocase(name, slice_str(rules->own_host_name));
}

/* ---- Putting hosts in ---------------------------------------------------------------------- */

/* The same name twice counts at its better place (RFC 5321 says nothing; all senders do so). */
static bool is_worse_twin(struct mx_plan *plan, const struct mx_host *host)
{
    for (uint32_t i = 0; i < plan->host_count; i++) {
        const struct mx_host *other = &plan->hosts[i];

        if (other->port != host->port || strcmp(other->name, host->name) != 0)
            continue;
        if (!is_before(host, other))
            return true;
        remove_host(plan, i);
        return false;
    }
    return false;
}

/* Keeps the best MX_HOST_COUNT_MAX, in order. */
static void insert_host(struct mx_plan *plan, const struct mx_host *host)
{
    uint32_t at = 0;

    if (is_worse_twin(plan, host))
        return;
    while (at < plan->host_count && is_before(&plan->hosts[at], host))
        at++;
    if (at == MX_HOST_COUNT_MAX)
        return;
    if (plan->host_count == MX_HOST_COUNT_MAX)
        plan->host_count--;
    memmove(&plan->hosts[at + 1], &plan->hosts[at],
            (plan->host_count - at) * sizeof(plan->hosts[0]));
    plan->hosts[at] = *host;
    plan->host_count++;
}

static void hash_name(struct mx_plan *plan, struct slice name)
{
    plan->names_hash += hash_u64(hash_bytes(name.data, name.len));
    plan->names_mark += siphash(plan->rules->site_key, name);
}

/* A name in normal form. */
static void add_name(struct mx_plan *plan, uint16_t group, uint16_t preference, struct slice name,
                     uint16_t port, bool is_from_secure)
{
    struct mx_host host = {
        .is_from_secure = is_from_secure,
        .group = group,
        .preference = preference,
        .draw = (uint32_t)rng_u64(plan->rng),
        .port = port != 0 ? port : plan->rules->port,
    };

    if (is_own_name(plan->rules, name))
        note_self(plan, group, preference);
    memcpy(host.name, name.data, name.len);
    insert_host(plan, &host);
}

static void note_ttl(struct mx_plan *plan, const struct dns_query *answer)
{
    uint32_t ttl_s = answer->ttl_s;

    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        plan->has_temporary = true;
        ttl_s = TTL_MIN_S;
    }
    if (ttl_s < plan->expires_s)
        plan->expires_s = ttl_s;
}

/* Was this exchange in an earlier record? Names count once in the hash of the set. */
static bool was_before(const struct dns_query *answer, uint16_t end, struct slice exchange)
{
    uint16_t cursor = 0;
    struct slice rdata;

    while (dns_record_next(answer, &cursor, &rdata) && cursor < end) {
        if (slice_equal(dns_mx_exchange(rdata), exchange))
            return true;
    }
    return false;
}

static void add_records(struct mx_plan *plan, uint16_t group, const struct dns_query *answer)
{
    uint16_t cursor = 0;
    struct slice rdata;

    while (dns_record_next(answer, &cursor, &rdata)) {
        struct slice exchange = dns_mx_exchange(rdata);

        if (exchange.len == 0) {
            /* RFC 7505: alone it means "no mail", beside others it means nothing. */
            plan->has_null_mx = plan->has_null_mx || answer->record_count == 1;
            continue;
        }
        if (!was_before(answer, cursor, exchange))
            hash_name(plan, exchange);
        add_name(plan, group, dns_mx_preference(rdata), exchange, 0, answer->is_secure);
    }
}

static void add_host(struct mx_plan *plan, uint16_t group, struct slice name, uint16_t port,
                     bool is_from_secure)
{
    char room[DNS_NAME_MAX + 1];
    int len = dns_name_normalise(name, room);

    if (len < 0) {
        plan->has_no_name = true;
        return;
    }
    hash_name(plan, slice_of(room, (size_t)len));
    add_name(plan, group, 0, slice_of(room, (size_t)len), port, is_from_secure);
}

void mx_plan_add_mx(struct mx_plan *plan, uint16_t group, const struct dns_query *answer)
{
    note_ttl(plan, answer);
    if (answer->status == DNS_OK)
        add_records(plan, group, answer);
    else if (answer->status == DNS_NO_DATA)
        add_host(plan, group, slice_str(answer->name), 0, answer->is_secure);
    else if (answer->status == DNS_NO_NAME)
        plan->has_no_name = true;
}

void mx_plan_add_host(struct mx_plan *plan, uint16_t group, struct slice name, uint16_t port)
{
    add_host(plan, group, name, port, true);
}

void mx_plan_add_address(struct mx_plan *plan, uint16_t group, const struct ipaddr *ip,
                         uint16_t port)
{
    unsigned family = ip->family == IPADDR_V6;
    struct mx_host host = {
        .group = group,
        .draw = (uint32_t)rng_u64(plan->rng),
        .port = port != 0 ? port : plan->rules->port,
        .is_address = true,
    };

    if (!(family != 0 ? plan->rules->want_ipv6 : plan->rules->want_ipv4))
        return;
    ipaddr_format(ip, host.name);
    host.count[family] = 1;
    host.addresses[family][0] = *ip;
    insert_host(plan, &host);
}

void mx_plan_arrange(struct mx_plan *plan)
{
    drop_behind_selves(plan);
}

bool mx_plan_wants(const struct mx_plan *plan, uint32_t host, enum dns_type type)
{
    bool wants_family = type == DNS_A ? plan->rules->want_ipv4 : plan->rules->want_ipv6;

    return wants_family && !plan->hosts[host].is_address;
}

/* ---- Addresses (A27) ----------------------------------------------------------------------- */

static bool is_own(const struct mx_rules *rules, const struct ipaddr *ip)
{
    for (uint32_t i = 0; i < rules->own_address_count; i++) {
        if (ipaddr_equal(&rules->own_addresses[i], ip))
            return true;
    }
    return false;
}

static enum mx_refusal refusal_of(const struct mx_rules *rules, const struct ipaddr *ip)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    bool is_loopback = ipaddr_is_loopback(ip);

    /* An IPv4 address in disguise is how rules about IPv4 would be passed. */
    if (ip->family == IPADDR_V6 && memcmp(ip->bytes, mapped, sizeof(mapped)) == 0)
        return MX_REFUSE_NO_UNICAST;
    if (is_loopback)
        return rules->allow_loopback ? MX_REFUSE_NOTHING : MX_REFUSE_LOOPBACK;
    if (ipaddr_is_never_unicast(ip))
        return MX_REFUSE_NO_UNICAST;
    if (is_own(rules, ip))
        return MX_REFUSE_OWN;
    if (ipaddr_is_private(ip) && !rules->allow_private)
        return MX_REFUSE_PRIVATE;
    return MX_REFUSE_NOTHING;
}

static void take_address(struct mx_plan *plan, struct mx_host *host, const struct ipaddr *ip)
{
    unsigned family = ip->family == IPADDR_V6;
    enum mx_refusal refusal = refusal_of(plan->rules, ip);

    if (refusal == MX_REFUSE_OWN)
        note_self(plan, host->group, host->preference);
    if (refusal != MX_REFUSE_NOTHING) {
        if (plan->refusal == MX_REFUSE_NOTHING) {
            plan->refusal = refusal;
            plan->refused = *ip;
        }
        return;
    }
    if (host->count[family] < MX_ADDRESSES_PER_FAMILY)
        host->addresses[family][host->count[family]++] = *ip;
}

void mx_plan_take(struct mx_plan *plan, uint32_t host, enum dns_type type,
                  const struct dns_query *answer)
{
    struct ipaddr ip = {.family = type == DNS_A ? IPADDR_V4 : IPADDR_V6};
    uint16_t cursor = 0;
    struct slice rdata;

    note_ttl(plan, answer);
    if (answer->status == DNS_OK && !answer->is_secure)
        plan->hosts[host].has_insecure = true;
    while (answer->status == DNS_OK && dns_record_next(answer, &cursor, &rdata)) {
        if (rdata.len != (type == DNS_A ? 4 : 16))
            continue;
        memcpy(ip.bytes, rdata.data, rdata.len);
        take_address(plan, &plan->hosts[host], &ip);
    }
}

/* ---- TLSA records (RFC 7672 2.2) ------------------------------------------------------------- */

bool mx_plan_wants_tlsa(const struct mx_plan *plan, uint32_t host)
{
    const struct mx_host *at = &plan->hosts[host];

    return plan->rules->want_dane && at->is_from_secure && !at->is_address &&
           at->count[0] + at->count[1] > 0;
}

/* Resolvers turn records round: the order must not make another site of them. A certificate that
 * may be for the domain too makes a site of the domain's own. */
static uint64_t hash_of_tlsa(const char *host, struct slice domain, struct slice records)
{
    uint64_t hash = 0;
    uint64_t whose = hash_bytes(host, strlen(host));
    uint16_t cursor = 0;
    struct slice rdata;

    if (dane_minds_names(records))
        whose = hash_combine(whose, hash_bytes_nocase(domain.data, domain.len));
    while (dns_records_next(records, &cursor, &rdata))
        hash += hash_u64(hash_combine(whose, hash_bytes(rdata.data, rdata.len)));
    return hash;
}

static bool keep_tlsa(struct mx_tlsa_room *room, const struct tlsa_search *search,
                      struct mx_tlsa *ret_tlsa)
{
    size_t base_bytes = strlen(search->base) + 1;

    if (base_bytes + search->records.len > sizeof(room->data) - room->used)
        return false;
    *ret_tlsa = (struct mx_tlsa){.base = room->used,
                                 .records = (uint16_t)(room->used + base_bytes),
                                 .bytes = (uint16_t)search->records.len};
    memcpy(room->data + ret_tlsa->base, search->base, base_bytes);
    memcpy(room->data + ret_tlsa->records, search->records.data, search->records.len);
    room->used = (uint16_t)(ret_tlsa->records + ret_tlsa->bytes);
    return true;
}

void mx_plan_take_tlsa(struct mx_plan *plan, uint32_t host, struct slice domain,
                       const struct tlsa_search *search)
{
    struct mx_host *at = &plan->hosts[host];

    if (search->ttl_s < plan->expires_s)
        plan->expires_s = search->ttl_s;
    if (search->status == TLSA_NONE)
        return;
    if (search->status == TLSA_FOUND && keep_tlsa(&plan->tlsa_room, search, &at->tlsa)) {
        plan->tlsa_hash += hash_of_tlsa(at->name, domain, search->records);
        return;
    }
    /* Without them it could be anybody: the host has to wait, never the check. */
    at->count[0] = 0;
    at->count[1] = 0;
    plan->has_temporary = true;
    plan->has_no_tlsa = true;
    plan->no_tlsa = host;
    plan->expires_s = TTL_MIN_S;
}

/* ---- The answer ---------------------------------------------------------------------------- */

static void shuffle(struct rng *rng, struct ipaddr *addresses, uint32_t count)
{
    for (uint32_t i = count; i > 1; i--) {
        uint32_t other = (uint32_t)rng_below(rng, i);
        struct ipaddr swapped = addresses[i - 1];

        addresses[i - 1] = addresses[other];
        addresses[other] = swapped;
    }
}

/* Two names may have one address: it is tried once, at its better place. */
static bool is_known_target(const struct mx_answer *answer, const struct ipaddr_port *at)
{
    for (uint32_t i = 0; i < answer->target_count; i++) {
        if (answer->targets[i].at.port == at->port &&
            ipaddr_equal(&answer->targets[i].at.ip, &at->ip))
            return true;
    }
    return false;
}

static void add_targets(struct mx_plan *plan, struct mx_host *host, uint16_t place,
                        struct mx_answer *answer)
{
    uint16_t count_before = answer->target_count;

    for (unsigned turn = 0; turn < 2; turn++) {
        unsigned family = plan->rules->prefer_ipv6 ? 1 - turn : turn;

        shuffle(plan->rng, host->addresses[family], host->count[family]);
        for (uint32_t i = 0; i < host->count[family]; i++) {
            struct mx_target target = {
                .at = {.ip = host->addresses[family][i], .port = host->port},
                .preference = place,
                .host = answer->host_count,
            };

            if (answer->target_count < MX_TARGET_COUNT_MAX && !is_known_target(answer, &target.at))
                answer->targets[answer->target_count++] = target;
        }
    }
    if (answer->target_count > count_before) {
        answer->tlsas[answer->host_count] = host->tlsa;
        memcpy(answer->host_names[answer->host_count++], host->name, sizeof(host->name));
    }
}

static void compose(struct mx_plan *plan, struct mx_answer *answer)
{
    uint16_t place = 0;

    answer->host_count = 0;
    answer->target_count = 0;
    answer->no_tlsa_host[0] = '\0';
    if (plan->has_no_tlsa)
        memcpy(answer->no_tlsa_host, plan->hosts[plan->no_tlsa].name, sizeof(answer->no_tlsa_host));
    answer->tlsa_room.used = plan->tlsa_room.used;
    memcpy(answer->tlsa_room.data, plan->tlsa_room.data, plan->tlsa_room.used);
    for (uint32_t i = 0; i < plan->host_count; i++) {
        struct mx_host *host = &plan->hosts[i];

        if (i > 0 && (host[-1].group != host->group || host[-1].preference != host->preference))
            place++;
        add_targets(plan, host, place, answer);
    }
}

/* Why there is no target. */
static void explain(const struct mx_plan *plan, struct slice domain, struct verdict *verdict)
{
    static const char *const refusals[] = {
#define MX_REFUSAL_ROW(name, text) [name] = text,
        MX_REFUSAL_TABLE(MX_REFUSAL_ROW)
#undef MX_REFUSAL_ROW
    };
    static const uint8_t temporary[3] = {4, 4, 3};
    static const uint8_t no_tlsa[3] = {4, 7, 5};
    static const uint8_t null_mx[3] = {5, 1, 10};
    static const uint8_t loop[3] = {5, 4, 6};
    static const uint8_t no_domain[3] = {5, 1, 2};
    static const uint8_t no_route[3] = {5, 4, 4};
    char text[IPADDR_TEXT_MAX] = "";
    int len = domain.len < 255 ? (int)domain.len : 255;
    const char *name = (const char *)domain.data;

    if (plan->refusal != MX_REFUSE_NOTHING)
        ipaddr_format(&plan->refused, text);
    if (plan->has_no_tlsa)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_TRANSIENT, VERDICT_AT_DNS, 451, no_tlsa,
                          "the DNS has no answer about the TLSA records of %.*s just now", len,
                          name);
    else if (plan->has_temporary)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_TRANSIENT, VERDICT_AT_DNS, 451,
                          temporary, "the DNS has no answer about %.*s just now", len, name);
    else if (plan->has_null_mx)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 556, null_mx,
                          "%.*s takes no mail (null MX)", len, name);
    else if (plan->self_count > 0)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 554, loop,
                          "mail for %.*s would come back to us", len, name);
    else if (plan->refusal != MX_REFUSE_NOTHING)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 550, no_route,
                          "%.*s has no usable address: %s is %s", len, name, text,
                          refusals[plan->refusal]);
    else if (plan->has_no_name && plan->host_count == 0)
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 550,
                          no_domain, "%.*s does not exist", len, name);
    else
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 550, no_route,
                          "%.*s has no host with a usable address", len, name);
}

void mx_plan_finish(struct mx_plan *plan, struct slice domain, uint64_t now_ns,
                    struct mx_answer *ret_answer)
{
    static const uint8_t success[3] = {2, 0, 0};
    uint32_t valid_s = plan->expires_s;

    drop_behind_selves(plan);
    compose(plan, ret_answer);
    if (ret_answer->target_count > 0)
        verdict_set_local(&ret_answer->verdict, VERDICT_DOMAIN, VERDICT_SUCCESS, VERDICT_AT_DNS,
                          250, success, "found");
    else
        explain(plan, domain, &ret_answer->verdict);
    if (valid_s < TTL_MIN_S)
        valid_s = TTL_MIN_S;
    ret_answer->valid_until_ns = now_ns + valid_s * SECOND_NS;
}
