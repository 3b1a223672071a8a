/* Resolution: from a queue to its site, a bounded number at a time, in the order they were asked.
 */
#include "core/base/mem.h"
#include "core/conf/provider.h"
#include "shard/provider.h"
#include "shard/rollup.h"
#include "shard/shard_int.h"
#include "shard/sts_ask.h"

#define NO_ROOM_WAIT_MS 1000

_Static_assert(DOMAIN_DOUBT_MS >= (30 * 60 + 2 * DNS_DENIAL_KEPT_MAX_S) * 1000ull,
               "two answers that count are two answers, half an hour apart");

/* Of one snapshot; kept while resolutions that began under it go on. */
struct own_addresses {
    uint32_t refs;
    uint32_t count;
    struct ipaddr items[];
};

struct resolve_job {
    struct mx_resolution *resolution;
    struct shard *shard;
    struct queue *queue;
    struct own_addresses *own_addresses;
    struct mx_rules rules;
    struct sts_question *question; /* made when it is wanted first; away, or not in use */
    uint32_t version;              /* of the configuration */
    uint32_t next_free;
};

/* Each has a question under way nearly always. */
static uint32_t job_count(const struct shard *shard)
{
    uint32_t in_flight_max = shard->limits.dns_in_flight_max;

    return in_flight_max < RESOLVE_JOBS ? in_flight_max : RESOLVE_JOBS;
}

static struct own_addresses *collect_own_addresses(const struct conf *conf)
{
    const struct conf_global *global = conf_global(conf);
    uint32_t count = global->listener_count;
    struct own_addresses *own;

    for (uint32_t i = 0; i < conf_vmta_count(conf); i++)
        count += conf_vmta_at(conf, i)->address_count;
    own = mem_alloc(sizeof(*own) + count * sizeof(struct ipaddr));
    own->refs = 1;
    for (uint32_t i = 0; i < global->listener_count; i++)
        own->items[own->count++] = global->listeners[i].at.ip;
    for (uint32_t i = 0; i < conf_vmta_count(conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(conf, i);

        for (uint32_t j = 0; j < vmta->address_count; j++)
            own->items[own->count++] = vmta->addresses[j].ip;
    }
    return own;
}

static void own_addresses_put(struct own_addresses *own)
{
    if (own && --own->refs == 0)
        mem_free(own);
}

void resolve_adopt(struct shard *shard)
{
    own_addresses_put(shard->own_addresses);
    shard->own_addresses = collect_own_addresses(shard->conf);
}

void resolve_init(struct shard *shard)
{
    list_init(&shard->resolve_waiting);
    shard->own_addresses = collect_own_addresses(shard->conf);
    shard->resolve_jobs = mem_alloc(job_count(shard) * sizeof(struct resolve_job));
    shard->resolve_job_free = NONE;
}

/* The resolver's mailboxes are known only after wiring. */
void resolve_wire(struct shard *shard)
{
    for (uint32_t i = 0; i < job_count(shard); i++) {
        struct resolve_job *job = &shard->resolve_jobs[i];

        job->shard = shard;
        job->resolution = mx_resolution_create(shard->dns, shard->io);
        job->next_free = shard->resolve_job_free;
        shard->resolve_job_free = i;
    }
}

void resolve_fini(struct shard *shard)
{
    for (uint32_t i = 0; i < job_count(shard); i++) {
        if (shard->resolve_jobs[i].resolution)
            mx_resolution_destroy(shard->resolve_jobs[i].resolution);
        own_addresses_put(shard->resolve_jobs[i].own_addresses);
        mem_free(shard->resolve_jobs[i].question);
    }
    mem_free(shard->resolve_jobs);
    own_addresses_put(shard->own_addresses);
}

/* What places the queue: its route, or the MX hosts that it goes by. */
static uint64_t site_hash_of(const struct queue *queue, const struct mx_answer *answer)
{
    return queue->settings.route_count > 0 ? queue->settings.route_hash : answer->site_hash;
}

void resolve_set_site(struct shard *shard, struct queue *queue, const struct mx_answer *answer)
{
    uint64_t provider = provider_of_queue(queue);
    struct site *site = site_obtain(shard, answer);

    if (queue->site)
        site_release(shard, queue->site);
    queue->site = site;
    queue->site_until_ns = answer->valid_until_ns;
    if (site) {
        site->site_hash = site_hash_of(queue, answer);
        provider_set(shard, site);
        if (provider_of_queue(queue) != provider &&
            (conf_providers_act(shard->conf) || shard->orders.counts[ORDER_BACKOFF] > 0))
            adopt_settings(shard, queue);
        queues_reconsider(shard, queue);
    } else {
        queues_wait(shard, queue, NO_ROOM_WAIT_MS, WAIT_MEMORY);
    }
}

/* There are addresses: the queue is served by the shard that serves those. */
static void use_answer(struct shard *shard, struct queue *queue, const struct mx_answer *answer)
{
    uint16_t owner;

    queue->rests_by_dns = false;
    queues_end_doubt(shard, queue);
    if (rollup_take(shard, queue, answer))
        return;
    owner = migrate_place(shard, queue, site_hash_of(queue, answer));
    if (owner != shard->number)
        migrate_queue(shard, queue, owner, answer);
    else
        resolve_set_site(shard, queue, answer);
}

/* There is nowhere to go: later, or never (shard/policy/domain_fate.h). */
static void do_without_site(struct shard *shard, struct queue *queue, const struct verdict *verdict)
{
    uint64_t now_us = io_wall_us(shard->io);
    struct domain_facts facts = {
        .verdict = verdict,
        .settings = &queue->settings,
        .failures = queue->rest_failures,
        .now_ns = io_now_ns(shard->io),
        .doubt_ends_ns = queue->doubt_ends_ns,
    };
    struct domain_fate fate;

    if (verdict->class != VERDICT_SUCCESS)
        facts.outlook = outlook_on_denial(shard, queue, verdict);
    fate = domain_fate_of(&facts, io_rng(shard->io));
    if (fate.doubt_ends_ns != queue->doubt_ends_ns) {
        queue->doubt_ends_ns = fate.doubt_ends_ns;
        queue->doubt_ends_us = now_us + (fate.doubt_ends_ns - facts.now_ns) / 1000;
    }
    if (queue->ready_count == 0 || queue->hands_on) {
        queues_reconsider(shard, queue);
        return;
    }
    if (fate.kind == DOMAIN_FAIL &&
        queues_fail_all(shard, queue, verdict,
                        fate.fail_age_ms ? now_us - fate.fail_age_ms * 1000 : 0) > 0)
        return;
    if (fate.kind != DOMAIN_LATER && facts.outlook != DNS_OUTLOOK_BAD &&
        queue->rest_failures < UINT16_MAX)
        queue->rest_failures++;
    queue->rests_by_dns = true;
    queues_rest_for(shard, queue, verdict, fate.delay_ms);
    if (queue->reason == WAIT_REST && outlook_holds(shard, queue))
        queues_set_reason(shard, queue, WAIT_RESOLVER);
}

static void finish(struct resolve_job *job, const struct mx_answer *answer)
{
    struct shard *shard = job->shard;
    struct queue *queue = job->queue;

    job->queue = NULL;
    job->next_free = shard->resolve_job_free;
    shard->resolve_job_free = (uint32_t)(job - shard->resolve_jobs);
    own_addresses_put(job->own_addresses);
    job->own_addresses = NULL;
    queue->resolving = false;
    talk_resolved(shard, queue, answer);
    if (answer->no_tlsa_host[0] != '\0')
        tls_report_left_out(shard, queue, slice_str(answer->no_tlsa_host));
    /* The answer to a question of another configuration: asked again, mostly out of the cache. */
    if (job->version != shard->version)
        resolve_queue(shard, queue);
    else if (answer->verdict.class == VERDICT_SUCCESS)
        use_answer(shard, queue, answer);
    else
        do_without_site(shard, queue, &answer->verdict);
    resolve_next(shard);
}

/* Whether the answer has to wait for word of the domain's policy. */
static bool ask_for_policy(struct resolve_job *job, const struct mx_answer *answer)
{
    struct shard *shard = job->shard;

    if (!job->rules.want_sts || answer->verdict.class != VERDICT_SUCCESS ||
        job->queue->settings.route_count > 0)
        return false;
    if (!job->question)
        job->question = mem_alloc(sizeof(*job->question));
    job->question->owner = job;
    /* Hosts of policies that do not answer must not keep all domains from being resolved. */
    job->question->may_wait = shard->resolve_asks < job_count(shard) / 2;
    if (!sts_ask(shard, job->question, names_text(&shard->names, job->queue->name), answer))
        return false;
    shard->resolve_asks++;
    return true;
}

static void on_resolved(void *context, const struct mx_answer *answer)
{
    if (!ask_for_policy(context, answer))
        finish(context, answer);
}

void resolve_on_policy(struct shard *shard, struct parcel *parcel)
{
    struct sts_question *question = container_of(parcel, struct sts_question, parcel);
    struct resolve_job *job = question->owner;
    struct mx_answer *answer = mx_resolution_answer(job->resolution);

    shard->resolve_asks--;
    sts_apply(shard, question, answer);
    finish(job, answer);
}

/* A queue with a route need not be looked up to know who owns it. True when it goes there. */
static bool follow_route(struct shard *shard, struct queue *queue)
{
    uint16_t owner;

    if (queue->settings.route_count == 0)
        return false;
    owner = migrate_place(shard, queue, queue->settings.route_hash);
    if (owner == shard->number)
        return false;
    queue->resolving = false;
    migrate_queue(shard, queue, owner, NULL);
    return true;
}

static void resolve_start(struct shard *shard, struct queue *queue)
{
    struct resolve_job *job = &shard->resolve_jobs[shard->resolve_job_free];
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct conf_global *global = conf_global(shard->conf);

    shard->resolve_job_free = job->next_free;
    job->queue = queue;
    job->version = shard->version;
    job->own_addresses = shard->own_addresses;
    job->own_addresses->refs++;
    job->rules = (struct mx_rules){
        .prefer_ipv6 = queue->settings.prefer_ipv6,
        .allow_loopback = global->allow_loopback_mx,
        .allow_private = global->allow_private_mx,
        .want_dane = global->trust_anchor_file && tls_out_heeds_tlsa(&queue->settings),
        .want_sts = global->mta_sts_authorities && tls_out_heeds_sts(&queue->settings),
        .port = queue->settings.default_port,
        .own_addresses = shard->own_addresses->items,
        .own_address_count = shard->own_addresses->count,
        .own_host_name = global->host_name,
    };
    memcpy(job->rules.site_key, shard->wiring.site_key, sizeof(job->rules.site_key));
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        job->rules.want_ipv4 |= vmta->addresses[i].ip.family == IPADDR_V4;
        job->rules.want_ipv6 |= vmta->addresses[i].ip.family == IPADDR_V6;
    }
    mx_resolve(job->resolution, names_text(&shard->names, queue->name), queue->settings.route,
               queue->settings.route_count, &job->rules, on_resolved, job);
}

/* A reload may have taken the queue's virtual MTA away while it waited, or its mail: without
 * source addresses no host would have a usable one, which says nothing about the domain. */
static bool needs_site(const struct queue *queue)
{
    return queue->has_vmta && !queue->hands_on && !conf_delivery_is_local(queue->settings.delivery);
}

void resolve_next(struct shard *shard)
{
    struct list *link;

    while (shard->resolve_job_free != NONE && migrate_has_room(shard) &&
           (link = list_pop_front(&shard->resolve_waiting))) {
        struct queue *queue = container_of(link, struct queue, resolve_link);

        /* The question carries the version of the shard, so it must be that version's question. */
        adopt_ahead(shard, queue);
        if (!needs_site(queue)) {
            queue->resolving = false;
            queues_reconsider(shard, queue);
        } else if (!follow_route(shard, queue)) {
            resolve_start(shard, queue);
        }
    }
}

void resolve_queue(struct shard *shard, struct queue *queue)
{
    must(!queue->resolving);
    queue->resolving = true;
    list_push_back(&shard->resolve_waiting, &queue->resolve_link);
    resolve_next(shard);
}
