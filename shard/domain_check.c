#include "shard/domain_check.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stdio.h>

#define NS_PER_MS 1000000ull

/* One address that is being looked at. */
struct probe {
    struct domain_check *check;
    struct domain_source *source; /* NULL = free */
    struct spf_check spf;
    struct rdns rdns;
    struct dns_lookup helo;
    uint8_t open_count; /* of the three */
};

struct walk {
    struct domain_check *check;
    struct dmarc_walk dmarc;
    bool is_done;
    char domain[DNS_NAME_MAX + 1];
};

struct domain_check {
    struct io *io;
    struct dns *dns;
    struct io_timer timer; /* all must be over by then; or it is, and says so */
    void (*done)(struct domain_check *check, void *context);
    void *context;
    uint32_t source_count;
    uint32_t source_capacity;
    uint32_t next; /* source to look at */
    struct domain_source *sources;
    uint32_t walk_count;
    uint32_t sender_walk;
    struct walk walks[DOMAIN_CHECK_WALKS_MAX]; /* the first one is that of From */
    struct probe probes[DOMAIN_CHECK_OPEN_MAX];
};

static void on_timer(struct io_timer *timer);

/* ---- What is looked at ----------------------------------------------------------------------- */

static struct walk *find_walk(const struct domain_check *check, struct slice domain)
{
    for (uint32_t i = 0; i < check->walk_count; i++) {
        if (slice_equal(slice_str(check->walks[i].domain), domain))
            return (struct walk *)&check->walks[i];
    }
    return NULL;
}

bool domain_check_add_signer(struct domain_check *check, struct slice domain)
{
    struct walk *walk;

    if (find_walk(check, domain) != NULL)
        return true;
    if (check->walk_count == DOMAIN_CHECK_WALKS_MAX || domain.len == 0 || domain.len > DNS_NAME_MAX)
        return false;
    walk = &check->walks[check->walk_count++];
    walk->check = check;
    memcpy(walk->domain, domain.data, domain.len);
    return true;
}

struct domain_check *domain_check_new(struct io *io, struct dns *dns, struct slice domain,
                                      struct slice sender_domain)
{
    struct domain_check *check = mem_alloc(sizeof(*check));

    check->io = io;
    check->dns = dns;
    io_timer_init(&check->timer, on_timer);
    for (uint32_t i = 0; i < DOMAIN_CHECK_OPEN_MAX; i++)
        check->probes[i].check = check;
    must(domain_check_add_signer(check, domain));
    must(domain_check_add_signer(check, sender_domain));
    check->sender_walk = (uint32_t)(find_walk(check, sender_domain) - check->walks);
    return check;
}

bool domain_check_add_source(struct domain_check *check, const char *vmta, const struct ipaddr *ip,
                             const char *helo)
{
    if (check->source_count == DOMAIN_CHECK_SOURCES_MAX)
        return false;
    if (check->source_count == check->source_capacity) {
        uint32_t capacity = check->source_capacity > 0 ? check->source_capacity * 2 : 16;

        check->sources =
            mem_alloc_larger(check->sources, check->source_count * sizeof(*check->sources),
                             capacity * sizeof(*check->sources));
        check->source_capacity = capacity;
    }
    check->sources[check->source_count++] = (struct domain_source){
        .vmta = mem_strdup(vmta),
        .helo = mem_strdup(helo),
        .ip = *ip,
    };
    return true;
}

static void stop(struct domain_check *check)
{
    for (uint32_t i = 0; i < DOMAIN_CHECK_OPEN_MAX; i++) {
        struct probe *probe = &check->probes[i];

        if (probe->source == NULL)
            continue;
        spf_stop(&probe->spf);
        rdns_stop(&probe->rdns);
        dns_forget(check->dns, &probe->helo);
        probe->source = NULL;
    }
    for (uint32_t i = 0; i < check->walk_count; i++)
        dmarc_stop(&check->walks[i].dmarc);
}

void domain_check_free(struct domain_check *check)
{
    if (check == NULL)
        return;
    stop(check);
    io_timer_stop(check->io, &check->timer);
    for (uint32_t i = 0; i < check->source_count; i++) {
        mem_free(check->sources[i].vmta);
        mem_free(check->sources[i].helo);
    }
    mem_free(check->sources);
    mem_free(check);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static void look_at_more(struct domain_check *check);

static void part_is_done(struct probe *probe)
{
    must(probe->open_count > 0);
    if (--probe->open_count > 0)
        return;
    probe->source->is_done = true;
    probe->source = NULL;
    look_at_more(probe->check);
}

static void on_spf(void *context, const struct spf_answer *answer)
{
    struct probe *probe = context;
    struct domain_source *source = probe->source;

    source->spf = answer->result;
    source->spf_is_of_sender = answer->is_of_sender;
    snprintf(source->spf_by, sizeof(source->spf_by), "%s",
             answer->why[0] != '\0' ? answer->why : answer->mechanism);
    part_is_done(probe);
}

static void on_name(void *context, struct rdns *rdns)
{
    struct probe *probe = context;

    probe->source->iprev = (enum rdns_result)rdns->result;
    snprintf(probe->source->name, sizeof(probe->source->name), "%s", rdns_name(rdns));
    part_is_done(probe);
}

static void on_helo(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct probe *probe = container_of(lookup, struct probe, helo);
    struct domain_source *source = probe->source;
    uint16_t cursor = 0;
    struct slice rdata;

    if (answer->status == DNS_OK)
        source->leads = DOMAIN_HELO_ELSEWHERE;
    else if (answer->status == DNS_NO_DATA || answer->status == DNS_NO_NAME)
        source->leads = DOMAIN_HELO_NOWHERE;
    while (dns_record_next(answer, &cursor, &rdata)) {
        if (memcmp(rdata.data, source->ip.bytes, rdata.len) == 0)
            source->leads = DOMAIN_HELO_HERE;
    }
    part_is_done(probe);
}

static void look_at(struct probe *probe, struct domain_source *source)
{
    struct domain_check *check = probe->check;
    const struct spf_question question = {
        .ip = source->ip,
        .local = SLICE_LITERAL("postmaster"),
        .domain = slice_str(check->walks[check->sender_walk].domain),
        .helo = slice_str(source->helo),
    };

    probe->source = source;
    probe->open_count = 3;
    memset(&probe->spf, 0, sizeof(probe->spf));
    spf_start(&probe->spf, check->dns, &question, on_spf, probe);
    rdns_start(&probe->rdns, check->dns, &source->ip, on_name, probe);
    probe->helo = (struct dns_lookup){.on_answer = on_helo};
    dns_ask(check->dns, &probe->helo, slice_str(source->helo),
            source->ip.family == IPADDR_V6 ? DNS_AAAA : DNS_A);
}

static bool is_over(const struct domain_check *check)
{
    for (uint32_t i = 0; i < DOMAIN_CHECK_OPEN_MAX; i++) {
        if (check->probes[i].source != NULL)
            return false;
    }
    for (uint32_t i = 0; i < check->walk_count; i++) {
        if (!check->walks[i].is_done)
            return false;
    }
    return check->next == check->source_count;
}

/* The end comes by the timer, so never from inside. */
static void look_at_more(struct domain_check *check)
{
    for (uint32_t i = 0; i < DOMAIN_CHECK_OPEN_MAX; i++) {
        if (check->probes[i].source == NULL && check->next < check->source_count)
            look_at(&check->probes[i], &check->sources[check->next++]);
    }
    if (is_over(check))
        io_timer_arm(check->io, &check->timer, io_now_ns(check->io));
}

static void on_walked(void *context, struct dmarc_walk *dmarc)
{
    struct walk *walk = context;

    (void)dmarc;
    walk->is_done = true;
    if (is_over(walk->check))
        io_timer_arm(walk->check->io, &walk->check->timer, io_now_ns(walk->check->io));
}

/* ---- From begin to end ----------------------------------------------------------------------- */

static void on_timer(struct io_timer *timer)
{
    struct domain_check *check = container_of(timer, struct domain_check, timer);

    stop(check);
    check->next = check->source_count;
    for (uint32_t i = 0; i < check->walk_count; i++) {
        if (!check->walks[i].is_done)
            check->walks[i].dmarc.found = DMARC_TEMPERROR;
        check->walks[i].is_done = true;
    }
    check->done(check, check->context);
}

void domain_check_start(struct domain_check *check, uint32_t timeout_ms,
                        void (*done)(struct domain_check *check, void *context), void *context)
{
    check->done = done;
    check->context = context;
    io_timer_arm(check->io, &check->timer, io_now_ns(check->io) + timeout_ms * NS_PER_MS);
    for (uint32_t i = 0; i < check->walk_count; i++) {
        struct walk *walk = &check->walks[i];

        dmarc_start(&walk->dmarc, check->dns, slice_str(walk->domain), on_walked, walk);
    }
    look_at_more(check);
}

/* ---- What came of it ------------------------------------------------------------------------- */

const struct domain_source *domain_check_sources(const struct domain_check *check,
                                                 uint32_t *ret_count)
{
    *ret_count = check->source_count;
    return check->sources;
}

const struct dmarc_walk *domain_check_from(const struct domain_check *check)
{
    return &check->walks[0].dmarc;
}

const struct dmarc_walk *domain_check_sender(const struct domain_check *check)
{
    return &check->walks[check->sender_walk].dmarc;
}

const struct dmarc_walk *domain_check_signer(const struct domain_check *check, struct slice domain)
{
    const struct walk *walk = find_walk(check, domain);

    return walk != NULL ? &walk->dmarc : NULL;
}

bool domain_check_is_aligned(const struct domain_check *check, const struct dmarc_walk *other,
                             bool is_strict)
{
    const struct dmarc_walk *from = domain_check_from(check);

    if (other == NULL)
        return false;
    /* One domain is aligned with itself, whatever the DNS says. */
    if (other != from && (from->found == DMARC_TEMPERROR || other->found == DMARC_TEMPERROR))
        return false;
    return dmarc_is_aligned(from, other, is_strict);
}
