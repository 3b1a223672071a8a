/*
 * Asks what mx_plan wants to know and hands its answer over. MX questions first (one for a domain,
 * some for a route), then A and AAAA of all hosts at once, then the TLSA records of those that
 * signed zones lead to.
 */
#include "net/mx.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "net/mx_plan.h"

#define ROUTE_MX_MAX  8 /* lookup-mx entries of a route; further ones are left out */
#define LOOKUP_COUNT  (2 * MX_HOST_COUNT_MAX)
#define STS_LABEL     "_mta-sts."
#define STS_TTL_MIN_S 60 /* what a record says is kept at least so long */
#define STS_TEXTS_MAX 16 /* records at _mta-sts.DOMAIN; of one with more none counts */

_Static_assert(ROUTE_MX_MAX <= LOOKUP_COUNT, "one array serves both rounds");

struct mx_lookup {
    struct dns_lookup lookup;
    struct mx_resolution *resolution;
    uint16_t number; /* group of the MX question, or index of the host */
    uint8_t type;    /* enum dns_type */
};

struct mx_tlsa_lookup {
    struct tlsa_search search;
    struct mx_resolution *resolution;
};

struct mx_resolution {
    struct dns *dns;
    struct io *io;
    struct io_timer timer; /* an answer that needs no question comes from here */
    void (*on_done)(void *context, const struct mx_answer *answer);
    void *context;
    uint32_t open_count; /* lookups under way */
    bool is_running;
    uint8_t domain_len;
    char domain[DNS_NAME_MAX];
    uint64_t route_hash; /* 0 = the names are the site */
    uint16_t port;
    struct mx_lookup lookups[LOOKUP_COUNT];
    struct mx_tlsa_lookup tlsa_lookups[MX_HOST_COUNT_MAX];
    struct mx_plan plan;
    struct mx_answer answer;
};

static void finish(struct mx_resolution *resolution)
{
    struct mx_answer *answer = &resolution->answer;
    struct slice domain = slice_of(resolution->domain, resolution->domain_len);
    uint64_t who = resolution->route_hash;

    mx_plan_finish(&resolution->plan, domain, io_now_ns(resolution->io), answer);
    answer->site_hash = who;
    if (who == 0) {
        answer->site_hash = hash_combine(resolution->plan.names_hash, resolution->port);
        who = hash_combine(resolution->plan.names_mark, resolution->port);
    }
    /* Who has sources of another family sees other addresses of the same hosts. */
    answer->set_hash = hash_combine(who, resolution->plan.rules->want_ipv4 * 2u +
                                             resolution->plan.rules->want_ipv6);
    answer->tlsa_hash = resolution->plan.tlsa_hash;
    if (answer->tlsa_hash != 0)
        answer->set_hash = hash_combine(answer->set_hash, answer->tlsa_hash);
    resolution->is_running = false;
    /* The owner may start the next resolution from inside. */
    resolution->on_done(resolution->context, answer);
}

static void on_timer(struct io_timer *timer)
{
    finish(container_of(timer, struct mx_resolution, timer));
}

static void on_tlsa(struct tlsa_search *search)
{
    struct mx_tlsa_lookup *asked = container_of(search, struct mx_tlsa_lookup, search);
    struct mx_resolution *resolution = asked->resolution;

    mx_plan_take_tlsa(&resolution->plan, (uint32_t)(asked - resolution->tlsa_lookups),
                      slice_of(resolution->domain, resolution->domain_len), search);
    if (--resolution->open_count == 0)
        finish(resolution);
}

/* All addresses are known. */
static void ask_tlsas(struct mx_resolution *resolution)
{
    struct mx_plan *plan = &resolution->plan;

    for (uint32_t i = 0; i < plan->host_count; i++) {
        if (!mx_plan_wants_tlsa(plan, i))
            continue;
        resolution->open_count++;
        tlsa_search_start(&resolution->tlsa_lookups[i].search, resolution->dns, plan->hosts[i].name,
                          plan->hosts[i].port, !plan->hosts[i].has_insecure, on_tlsa);
    }
    if (resolution->open_count == 0)
        finish(resolution);
}

static void on_address(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct mx_lookup *asked = container_of(lookup, struct mx_lookup, lookup);
    struct mx_resolution *resolution = asked->resolution;

    mx_plan_take(&resolution->plan, asked->number, asked->type, answer);
    if (--resolution->open_count == 0)
        ask_tlsas(resolution);
}

static void ask(struct mx_resolution *resolution, struct slice name, enum dns_type type,
                uint16_t number, void (*on_answer)(struct dns_lookup *, const struct dns_query *))
{
    struct mx_lookup *lookup = &resolution->lookups[resolution->open_count++];

    lookup->number = number;
    lookup->type = (uint8_t)type;
    lookup->lookup.on_answer = on_answer;
    dns_ask(resolution->dns, &lookup->lookup, name, type);
}

/* All hosts are known: ask for their addresses. */
static void ask_addresses(struct mx_resolution *resolution)
{
    static const enum dns_type types[] = {DNS_A, DNS_AAAA};
    struct mx_plan *plan = &resolution->plan;

    mx_plan_arrange(plan);
    for (uint32_t host = 0; host < plan->host_count; host++) {
        for (unsigned i = 0; i < 2; i++) {
            if (mx_plan_wants(plan, host, types[i]))
                ask(resolution, slice_str(plan->hosts[host].name), types[i], (uint16_t)host,
                    on_address);
        }
    }
    if (resolution->open_count == 0)
        io_timer_arm(resolution->io, &resolution->timer, io_now_ns(resolution->io));
}

static void on_mx(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct mx_lookup *asked = container_of(lookup, struct mx_lookup, lookup);
    struct mx_resolution *resolution = asked->resolution;

    mx_plan_add_mx(&resolution->plan, asked->number, answer);
    if (--resolution->open_count == 0)
        ask_addresses(resolution);
}

/* Without an answer there is no new policy, and that is all (RFC 8461 3.1). */
static void on_sts(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct mx_resolution *resolution = container_of(lookup, struct mx_lookup, lookup)->resolution;
    uint32_t ttl_s = answer->ttl_s > STS_TTL_MIN_S ? answer->ttl_s : STS_TTL_MIN_S;
    struct mx_answer *result = &resolution->answer;
    struct slice texts[STS_TEXTS_MAX], id;
    uint16_t cursor = 0;
    uint32_t count = 0;

    while (answer->status == DNS_OK && count < STS_TEXTS_MAX &&
           dns_record_next(answer, &cursor, &texts[count]))
        count++;
    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        result->sts_record = STS_RECORD_UNKNOWN;
    } else if (count < STS_TEXTS_MAX && sts_id_find(texts, count, &id)) {
        result->sts_record = STS_RECORD_FOUND;
        memcpy(result->sts_id, id.data, id.len);
        result->sts_id[id.len] = '\0';
    }
    if (ttl_s < resolution->plan.expires_s)
        resolution->plan.expires_s = ttl_s;
    if (--resolution->open_count == 0)
        ask_addresses(resolution);
}

static void ask_sts(struct mx_resolution *resolution)
{
    char name[DNS_NAME_MAX + sizeof(STS_LABEL)];
    size_t len = sizeof(STS_LABEL) - 1;

    memcpy(name, STS_LABEL, len);
    memcpy(name + len, resolution->domain, resolution->domain_len);
    ask(resolution, slice_of(name, len + resolution->domain_len), DNS_TXT, 0, on_sts);
}

static void add_route_entry(struct mx_resolution *resolution, const struct conf_route_host *entry)
{
    struct mx_plan *plan = &resolution->plan;

    switch (entry->kind) {
    case CONF_ROUTE_HOST:
        mx_plan_add_host(plan, entry->preference, slice_str(entry->name), entry->port);
        break;
    case CONF_ROUTE_ADDRESS:
        mx_plan_add_address(plan, entry->preference, &entry->ip, entry->port);
        break;
    case CONF_ROUTE_LOOKUP_MX:
        if (resolution->open_count < ROUTE_MX_MAX)
            ask(resolution, slice_str(entry->name), DNS_MX, entry->preference, on_mx);
        break;
    }
}

/* Two queues with one route are one site, whatever their domains. */
static uint64_t hash_route(const struct conf_route_host *route, uint32_t count, uint16_t port)
{
    uint64_t hash = hash_u64(count);

    for (uint32_t i = 0; i < count; i++) {
        const struct conf_route_host *entry = &route[i];
        uint16_t entry_port = entry->port != 0 ? entry->port : port;

        hash = hash_combine(hash, (uint64_t)entry->kind << 32 | (uint64_t)entry->preference << 16 |
                                      entry_port);
        hash = hash_combine(hash, entry->kind == CONF_ROUTE_ADDRESS
                                      ? ipaddr_hash(&entry->ip)
                                      : hash_bytes_nocase(entry->name, strlen(entry->name)));
    }
    return hash != 0 ? hash : 1;
}

struct mx_resolution *mx_resolution_create(struct dns *dns, struct io *io)
{
    struct mx_resolution *resolution = mem_alloc(sizeof(*resolution));

    resolution->dns = dns;
    resolution->io = io;
    io_timer_init(&resolution->timer, on_timer);
    for (unsigned i = 0; i < MX_HOST_COUNT_MAX; i++)
        resolution->tlsa_lookups[i].resolution = resolution;
    for (unsigned i = 0; i < LOOKUP_COUNT; i++) {
        resolution->lookups[i].resolution = resolution;
        list_init(&resolution->lookups[i].lookup.link);
    }
    return resolution;
}

void mx_resolution_destroy(struct mx_resolution *resolution)
{
    if (resolution == NULL)
        return;
    io_timer_stop(resolution->io, &resolution->timer);
    for (unsigned i = 0; i < LOOKUP_COUNT; i++)
        dns_forget(resolution->dns, &resolution->lookups[i].lookup);
    for (unsigned i = 0; i < MX_HOST_COUNT_MAX; i++)
        tlsa_search_stop(&resolution->tlsa_lookups[i].search);
    mem_free(resolution);
}

struct mx_answer *mx_resolution_answer(struct mx_resolution *resolution)
{
    return &resolution->answer;
}

void mx_resolve(struct mx_resolution *resolution, struct slice domain,
                const struct conf_route_host *route, uint32_t route_count,
                const struct mx_rules *rules,
                void (*on_done)(void *context, const struct mx_answer *answer), void *context)
{
    must(!resolution->is_running);
    resolution->is_running = true;
    resolution->on_done = on_done;
    resolution->context = context;
    resolution->open_count = 0;
    resolution->port = rules->port;
    resolution->domain_len = (uint8_t)(domain.len < DNS_NAME_MAX ? domain.len : DNS_NAME_MAX);
    memcpy(resolution->domain, domain.data, resolution->domain_len);
    resolution->route_hash = route_count > 0 ? hash_route(route, route_count, rules->port) : 0;
    mx_plan_start(&resolution->plan, rules, io_rng(resolution->io));
    resolution->answer.sts_record = STS_RECORD_NONE;
    resolution->answer.sts = STS_NONE;
    resolution->answer.sts_hash = 0;
    resolution->answer.sts_bytes = 0;
    if (route_count == 0)
        ask(resolution, domain, DNS_MX, 0, on_mx);
    if (route_count == 0 && rules->want_sts)
        ask_sts(resolution);
    for (uint32_t i = 0; i < route_count; i++)
        add_route_entry(resolution, &route[i]);
    if (resolution->open_count == 0)
        ask_addresses(resolution);
}
