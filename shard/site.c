/*
 * Destinations: resolution, lanes, connections.
 *
 * A site is an MX set or a route; a lane is a site seen from one of our addresses. Connections
 * belong to a lane and serve any queue of that site, one transaction at a time; queues wait in line
 * at a lane and are served in turn, so no queue starves another. How many connections a lane opens
 * follows from what waits and from what they bring (policy/demand.h).
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "shard/shard_int.h"

#include <errno.h>
#include <stdio.h>

#define RESOLVE_JOBS        64
#define LANE_BACKLOG_QUEUES 32 /* queues looked at to judge what waits */
#define SOURCE_PARK_MS      60000
#define AVOID_IPV6_MS       3600000 /* after a refusal that may be meant for IPv6 alone */
#define NO_ROOM_WAIT_MS     1000
#define QUIT_TIMEOUT_MS     5000

_Static_assert(DOMAIN_DOUBT_MS >= (30 * 60 + 2 * DNS_DENIAL_KEPT_MAX_S) * 1000ull,
               "two answers that count are two answers, half an hour apart");

struct resolve_job {
    struct mx_resolution *resolution;
    struct shard *shard;
    struct queue *queue;
    struct mx_rules rules;
    uint32_t next_free;
};

static const struct smtpc_events client_events;

static void collect_own_addresses(struct shard *shard)
{
    const struct conf_global *global = conf_global(shard->conf);
    uint32_t count = global->listener_count;

    for (uint32_t i = 0; i < conf_vmta_count(shard->conf); i++)
        count += conf_vmta_at(shard->conf, i)->address_count;
    shard->own_addresses = mem_alloc((count + 1) * sizeof(struct ipaddr));
    for (uint32_t i = 0; i < global->listener_count; i++)
        shard->own_addresses[shard->own_address_count++] = global->listeners[i].at.ip;
    for (uint32_t i = 0; i < conf_vmta_count(shard->conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(shard->conf, i);

        for (uint32_t j = 0; j < vmta->address_count; j++)
            shard->own_addresses[shard->own_address_count++] = vmta->addresses[j].ip;
    }
}

void site_init(struct shard *shard)
{
    slab_init(&shard->sites, sizeof(struct site), shard->limits.queue_count_max);
    slab_init(&shard->lanes, sizeof(struct lane), shard->limits.queue_count_max);
    slab_init(&shard->connections, sizeof(struct connection), shard->limits.connection_count_max);
    list_init(&shard->site_list);
    table_init(&shard->site_table);
    list_init(&shard->resolve_waiting);
    list_init(&shard->lanes_to_serve);
    collect_own_addresses(shard);
    shard->resolve_jobs = mem_alloc(RESOLVE_JOBS * sizeof(struct resolve_job));
    shard->resolve_job_free = NONE;
}

/* The resolver's mailboxes are known only after wiring. */
void site_start_resolving(struct shard *shard)
{
    for (uint32_t i = 0; i < RESOLVE_JOBS; i++) {
        struct resolve_job *job = &shard->resolve_jobs[i];

        job->shard = shard;
        job->resolution = mx_resolution_create(shard->dns, shard->io);
        job->next_free = shard->resolve_job_free;
        shard->resolve_job_free = i;
    }
}

void site_fini(struct shard *shard)
{
    for (uint32_t i = 0; i < RESOLVE_JOBS; i++)
        if (shard->resolve_jobs[i].resolution)
            mx_resolution_destroy(shard->resolve_jobs[i].resolution);
    list_for_each (link, &shard->site_list)
        mem_free(container_of(link, struct site, link)->targets);
    mem_free(shard->resolve_jobs);
    mem_free(shard->own_addresses);
    slab_fini(&shard->connections);
    slab_fini(&shard->lanes);
    table_fini(&shard->site_table);
    slab_fini(&shard->sites);
}

/* ---- Sites ----------------------------------------------------------------------------------- */

void site_release(struct shard *shard, struct site *site)
{
    must(site->refs > 0);
    if (--site->refs > 0)
        return;
    must(list_empty(&site->lanes));
    table_remove(&shard->site_table, hash_u64(site->set_hash), site->index);
    list_remove(&site->link);
    mem_free(site->targets);
    slab_free(&shard->sites, site->index);
}

/* Copies an answer's targets and names into one block of the heap; false when memory is short. */
static bool site_set_targets(struct shard *shard, struct site *site, const struct mx_answer *answer)
{
    size_t targets_bytes = answer->target_count * sizeof(struct site_target);
    size_t names_bytes = answer->host_count * sizeof(answer->host_names[0]);
    struct site_target *block = mem_try_alloc(targets_bytes + names_bytes);

    if (!block)
        return false;
    for (uint32_t i = 0; i < answer->target_count; i++) {
        block[i] = (struct site_target){.at = answer->targets[i].at,
                                        .preference = answer->targets[i].preference,
                                        .host = answer->targets[i].host};
        /* What is known to be dead stays so over a new answer. */
        for (uint32_t j = 0; j < site->target_count; j++)
            if (ipaddr_equal(&site->targets[j].at.ip, &block[i].at.ip) &&
                site->targets[j].at.port == block[i].at.port)
                block[i].dead_until_ns = site->targets[j].dead_until_ns;
    }
    memcpy((uint8_t *)block + targets_bytes, answer->host_names, names_bytes);
    site->has_family[0] = false;
    site->has_family[1] = false;
    for (uint32_t i = 0; i < answer->target_count; i++)
        site->has_family[answer->targets[i].at.ip.family == IPADDR_V6] = true;
    mem_free(site->targets);
    site->targets = block;
    site->host_names = (char(*)[DNS_NAME_MAX + 1])((uint8_t *)block + targets_bytes);
    site->target_count = answer->target_count;
    site->host_count = answer->host_count;
    (void)shard;
    return true;
}

static bool site_matches(uint32_t value, const void *key, void *context)
{
    const struct site *site = slab_at(&((struct shard *)context)->sites, value);

    return site->set_hash == *(const uint64_t *)key;
}

/* The site of an answer with one reference more; NULL when memory is short. */
static struct site *site_obtain(struct shard *shard, const struct mx_answer *answer)
{
    uint64_t hash = hash_u64(answer->set_hash);
    uint32_t index = table_find(&shard->site_table, hash, site_matches, &answer->set_hash, shard);
    struct site *site = index == TABLE_NONE ? NULL : slab_at(&shard->sites, index);

    if (!site) {
        site = slab_alloc(&shard->sites, &index);
        if (!site)
            return NULL;
        if (!table_insert(&shard->site_table, hash, index)) {
            slab_free(&shard->sites, index);
            return NULL;
        }
        site->index = index;
        site->set_hash = answer->set_hash;
        list_init(&site->lanes);
        list_push_front(&shard->site_list, &site->link);
    }
    site->refs++;
    if (!site_set_targets(shard, site, answer)) {
        site_release(shard, site);
        return NULL;
    }
    return site;
}

/* ---- Resolution ------------------------------------------------------------------------------ */

static void resolve_next(struct shard *shard);

static void use_site(struct shard *shard, struct queue *queue, const struct mx_answer *answer)
{
    struct site *site = site_obtain(shard, answer);

    if (queue->site)
        site_release(shard, queue->site);
    queue->site = site;
    queue->site_until_ns = answer->valid_until_ns;
    queues_end_doubt(shard, queue);
    if (site)
        queues_reconsider(shard, queue);
    else
        queues_wait(shard, queue, NO_ROOM_WAIT_MS, WAIT_MEMORY);
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

    if (verdict->class == VERDICT_PERMANENT)
        facts.outlook = dns_outlook(shard->dns, names_text(&shard->names, queue->name));
    fate = domain_fate_of(&facts, io_rng(shard->io));
    if (fate.doubt_ends_ns != queue->doubt_ends_ns) {
        queue->doubt_ends_ns = fate.doubt_ends_ns;
        queue->doubt_ends_us = now_us + (fate.doubt_ends_ns - facts.now_ns) / 1000;
    }
    if (queue->ready_count == 0) {
        queues_reconsider(shard, queue);
        return;
    }
    if (fate.kind == DOMAIN_FAIL &&
        queues_fail_all(shard, queue, verdict,
                        fate.fail_age_ms ? now_us - fate.fail_age_ms * 1000 : 0) > 0)
        return;
    if (fate.kind != DOMAIN_LATER && queue->rest_failures < UINT16_MAX)
        queue->rest_failures++;
    queues_rest_for(shard, queue, verdict, fate.delay_ms);
}

static void on_resolved(void *context, const struct mx_answer *answer)
{
    struct resolve_job *job = context;
    struct shard *shard = job->shard;
    struct queue *queue = job->queue;

    job->queue = NULL;
    job->next_free = shard->resolve_job_free;
    shard->resolve_job_free = (uint32_t)(job - shard->resolve_jobs);
    queue->resolving = false;
    if (answer->verdict.class == VERDICT_SUCCESS)
        use_site(shard, queue, answer);
    else
        do_without_site(shard, queue, &answer->verdict);
    resolve_next(shard);
}

static void resolve_start(struct shard *shard, struct queue *queue)
{
    struct resolve_job *job = &shard->resolve_jobs[shard->resolve_job_free];
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct conf_global *global = conf_global(shard->conf);

    shard->resolve_job_free = job->next_free;
    job->queue = queue;
    job->rules = (struct mx_rules){
        .prefer_ipv6 = queue->settings.prefer_ipv6,
        .allow_loopback = global->allow_loopback_mx,
        .allow_private = global->allow_private_mx,
        .port = queue->settings.default_port,
        .own_addresses = shard->own_addresses,
        .own_address_count = shard->own_address_count,
        .own_host_name = global->host_name,
    };
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        job->rules.want_ipv4 |= vmta->addresses[i].ip.family == IPADDR_V4;
        job->rules.want_ipv6 |= vmta->addresses[i].ip.family == IPADDR_V6;
    }
    mx_resolve(job->resolution, names_text(&shard->names, queue->name), queue->settings.route,
               queue->settings.route_count, &job->rules, on_resolved, job);
}

static void resolve_next(struct shard *shard)
{
    struct list *link;

    while (shard->resolve_job_free != NONE && (link = list_pop_front(&shard->resolve_waiting)))
        resolve_start(shard, container_of(link, struct queue, resolve_link));
}

void site_resolve(struct shard *shard, struct queue *queue)
{
    must(!queue->resolving);
    queue->resolving = true;
    list_push_back(&shard->resolve_waiting, &queue->resolve_link);
    resolve_next(shard);
}

/* ---- Lanes ----------------------------------------------------------------------------------- */

static void lane_serve_later(struct lane *lane)
{
    if (list_empty(&lane->serve_link))
        list_push_back(&lane->shard->lanes_to_serve, &lane->serve_link);
}

static struct lane *lane_obtain(struct shard *shard, struct site *site,
                                const struct conf_source_address *address)
{
    struct lane *lane;
    uint32_t index;

    list_for_each (link, &site->lanes) {
        lane = container_of(link, struct lane, site_link);
        if (ipaddr_equal(&lane->source, &address->ip))
            return lane;
    }
    lane = slab_alloc(&shard->lanes, &index);
    if (!lane)
        return NULL;
    lane->index = index;
    lane->shard = shard;
    lane->site = site;
    lane->source = address->ip;
    lane->helo = address->helo;
    demand_init(&lane->demand);
    /* Lanes go while their queues rest: what comes back after an outage begins with one. */
    if (site->is_failing)
        demand_on_connect_failed(&lane->demand);
    list_init(&lane->waiting);
    list_init(&lane->idle);
    list_init(&lane->busy);
    list_init(&lane->serve_link);
    list_push_back(&site->lanes, &lane->site_link);
    site->refs++;
    return lane;
}

static void lane_release(struct shard *shard, struct lane *lane)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (lane->open_count > 0 || !list_empty(&lane->waiting) || lane->parked_until_ns > now_ns ||
        lane->refused_until_ns > now_ns)
        return;
    list_remove(&lane->serve_link);
    list_remove(&lane->site_link);
    site_release(shard, lane->site);
    slab_free(&shard->lanes, lane->index);
}

static bool site_has_family(const struct site *site, uint8_t family)
{
    return site->has_family[family == IPADDR_V6];
}

/* The preference of the best address of a family that is alive; NONE when none is. */
static uint32_t site_best(const struct site *site, uint8_t family, uint64_t now_ns)
{
    for (uint32_t i = 0; i < site->target_count && site_has_family(site, family); i++)
        if (site->targets[i].at.ip.family == family && site->targets[i].dead_until_ns <= now_ns)
            return site->targets[i].preference;
    return NONE;
}

/* Whether the VMTA has a source address of this family that is not parked here. */
static bool has_source(const struct site *site, const struct conf_vmta *vmta, uint8_t family,
                       uint64_t now_ns)
{
    /* Nearly always: the site's targets are of families that the VMTA has sources for. */
    if (site->parked_until_ns <= now_ns)
        return site_has_family(site, family);
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        bool is_parked = false;

        list_for_each (link, &site->lanes) {
            const struct lane *lane = container_of(link, struct lane, site_link);

            is_parked |= lane->parked_until_ns > now_ns &&
                         ipaddr_equal(&lane->source, &vmta->addresses[i].ip);
        }
        if (vmta->addresses[i].ip.family == family && !is_parked)
            return true;
    }
    return false;
}

/*
 * The family by which the queue's mail can go now: that of the best host alive (RFC 5321 5.1), of
 * equals the preferred one. IPADDR_NONE when no address can be reached.
 */
static uint8_t queue_family(struct shard *shard, const struct queue *queue, uint64_t now_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct site *site = queue->site;
    uint8_t first = queue->settings.prefer_ipv6 ? IPADDR_V6 : IPADDR_V4;
    uint8_t second = queue->settings.prefer_ipv6 ? IPADDR_V4 : IPADDR_V6;
    uint32_t best_of_first = NONE, best_of_second = NONE;

    if (has_source(site, vmta, first, now_ns))
        best_of_first = site_best(site, first, now_ns);
    if (has_source(site, vmta, second, now_ns))
        best_of_second = site_best(site, second, now_ns);
    if (best_of_first == NONE && best_of_second == NONE)
        return IPADDR_NONE;
    if (site->avoid_ipv6_until_ns > now_ns && best_of_first != NONE && best_of_second != NONE)
        return IPADDR_V4;
    return best_of_first <= best_of_second ? first : second;
}

bool site_leave_ipv6(struct shard *shard, const struct connection *connection,
                     const struct queue *queue)
{
    struct site *site = connection->lane->site;
    uint64_t now_ns = io_now_ns(shard->io);

    if (connection->lane->source.family != IPADDR_V6 || site != queue->site ||
        !has_source(site, conf_vmta(shard->conf, queue->vmta_id), IPADDR_V4, now_ns) ||
        site_best(site, IPADDR_V4, now_ns) == NONE)
        return false;
    site->avoid_ipv6_until_ns = now_ns + AVOID_IPV6_MS * 1000000ull;
    return true;
}

/* Every source of the queue is refused at the greeting: it rests until one may ask again. */
static void rest_refused(struct shard *shard, struct queue *queue, uint64_t refused_until_ns)
{
    const uint8_t enhanced[3] = {4, 4, 1};
    char last_error[sizeof(queue->last_error)];
    struct verdict verdict;

    memcpy(last_error, queue->last_error, sizeof(last_error));
    verdict_set_local(&verdict, VERDICT_HOST, VERDICT_TRANSIENT, VERDICT_AT_GREETING, 451, enhanced,
                      "no source address is welcome: %s", last_error);
    queues_rest(shard, queue, &verdict);
    memcpy(queue->last_error, last_error, sizeof(last_error));
    if (queue->rest_until_ns < refused_until_ns)
        queues_wait(shard, queue, (refused_until_ns - io_now_ns(shard->io)) / 1000000 + 1,
                    WAIT_REST);
}

void site_enqueue(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    uint64_t now_ns = io_now_ns(shard->io), refused_until_ns = UINT64_MAX;
    uint8_t family = queue_family(shard, queue, now_ns);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct conf_source_address *address =
            &vmta->addresses[queue->address_turn++ % vmta->address_count];
        struct lane *lane;

        /* When nothing is alive the first line says so. */
        if (family != IPADDR_NONE ? address->ip.family != family
                                  : !site_has_family(queue->site, address->ip.family))
            continue;
        lane = lane_obtain(shard, queue->site, address);
        if (lane && lane->refusal_count > 0 && lane->parked_until_ns > now_ns &&
            lane->parked_until_ns < refused_until_ns)
            refused_until_ns = lane->parked_until_ns;
        if (!lane || lane->parked_until_ns > now_ns)
            continue;
        list_push_back(&lane->waiting, &queue->lane_link);
        queue->lane = lane;
        queues_set_reason(shard, queue, WAIT_CONNECTION);
        lane_serve_later(lane);
        return;
    }
    if (refused_until_ns == UINT64_MAX)
        queues_wait(shard, queue, SOURCE_PARK_MS, WAIT_SOURCE);
    else
        rest_refused(shard, queue, refused_until_ns);
}

/* Whether so many recipients wait at the lane, judged by its first queues. */
static bool lane_has_backlog(const struct lane *lane, uint32_t needed)
{
    uint32_t backlog = 0, looked_at = 0;

    list_for_each (link, &lane->waiting) {
        backlog += container_of(link, struct queue, lane_link)->ready_count;
        if (backlog >= needed)
            return true;
        if (++looked_at == LANE_BACKLOG_QUEUES)
            break;
    }
    return false;
}

/* Whether one connection more would pay. */
static bool lane_wants_more(struct lane *lane, uint64_t now_ns)
{
    uint32_t needed =
        demand_backlog_needed(&lane->demand, now_ns, lane->open_count, lane->connecting_count);

    return needed != UINT32_MAX && lane_has_backlog(lane, needed) &&
           demand_may_open(&lane->demand, now_ns, lane->open_count, lane->connecting_count);
}

/* The destination cannot be reached from this source: queues in line that have another way go by
 * that, the others rest. */
static void lane_rest_waiting(struct shard *shard, struct lane *lane, const struct verdict *verdict)
{
    uint64_t now_ns = io_now_ns(shard->io);
    bool has_rested = false;
    struct list *link;

    while ((link = list_pop_front(&lane->waiting))) {
        struct queue *queue = container_of(link, struct queue, lane_link);

        if (queue_family(shard, queue, now_ns) != IPADDR_NONE) {
            queues_reconsider(shard, queue);
            continue;
        }
        queues_rest(shard, queue, verdict);
        has_rested = true;
    }
    if (!has_rested)
        return;
    /* When they come back everything is tried anew. */
    for (uint32_t i = 0; i < lane->site->target_count; i++)
        lane->site->targets[i].dead_until_ns = 0;
}

static void lane_park(struct shard *shard, struct lane *lane, uint64_t until_ns)
{
    struct list *link;

    lane->parked_until_ns = until_ns;
    if (lane->site->parked_until_ns < until_ns)
        lane->site->parked_until_ns = until_ns;
    /* Others of the VMTA's addresses may still work. */
    while ((link = list_pop_front(&lane->waiting)))
        queues_reconsider(shard, container_of(link, struct queue, lane_link));
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void on_idle_timeout(struct io_timer *timer)
{
    struct connection *connection = container_of(timer, struct connection, idle_timer);

    smtpc_quit(connection->smtpc);
}

static void connection_free(struct shard *shard, struct connection *connection)
{
    struct lane *lane = connection->lane;

    io_timer_stop(shard->io, &connection->idle_timer);
    list_remove(&connection->link);
    slab_free(&shard->connections, connection->index);
    must(lane->open_count > 0);
    lane->open_count--;
    lane_serve_later(lane);
}

static void fill_options(const struct lane *lane, const struct queue *queue,
                         const struct site_target *target, struct smtpc_options *ret_options)
{
    const struct conf_queue *settings = &queue->settings;

    *ret_options = (struct smtpc_options){
        .source = lane->source,
        .target = target->at,
        .helo = lane->helo,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .greeting_timeout_ms = settings->greeting_timeout_ms,
        .command_timeout_ms = settings->command_timeout_ms,
        .data_timeout_ms = settings->data_timeout_ms,
        .data_send_timeout_ms = settings->data_send_timeout_ms,
        .data_termination_timeout_ms = settings->data_termination_timeout_ms,
        .quit_timeout_ms = QUIT_TIMEOUT_MS,
        .keep_tcp_info = lane->shard->counts_ips,
        .ignore_pipelining = settings->ignore_pipelining,
        .ignore_8bitmime = settings->ignore_8bitmime,
    };
}

enum lane_opened {
    LANE_OPENED,
    LANE_NO_TARGET, /* every address rests */
    LANE_NO_ROOM,   /* connections, descriptors or memory are out */
    LANE_PARKED,    /* the source cannot be used */
    LANE_NO_LOG,    /* outcomes cannot be recorded: nothing may be sent */
};

/* No socket: either nothing is free now, or this source address cannot be used at all. */
static enum lane_opened on_socket_refused(struct shard *shard, struct lane *lane,
                                          struct queue *queue, int error)
{
    const uint8_t enhanced[3] = {4, 4, 5};
    struct verdict verdict;

    if (error == E_FULL || error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
        error == -ENOMEM)
        return LANE_NO_ROOM;
    verdict_set_local(&verdict, VERDICT_SOURCE_IP, VERDICT_TRANSIENT, VERDICT_AT_BIND, 451,
                      enhanced, "source address cannot be used: %s", err_text(error));
    queues_note_error(shard, queue, &verdict);
    lane_park(shard, lane, io_now_ns(shard->io) + SOURCE_PARK_MS * 1000000ull);
    return LANE_PARKED;
}

/* Opens a connection for the queue at the head of the line. */
static enum lane_opened lane_open(struct shard *shard, struct lane *lane, struct queue *queue)
{
    uint32_t target_index = target_pick(lane, io_now_ns(shard->io)), index;
    const struct site_target *target;
    struct connection *connection;
    struct smtpc_options options;
    int result;

    if (target_index == NONE)
        return LANE_NO_TARGET;
    connection = slab_alloc(&shard->connections, &index);
    if (!connection)
        return LANE_NO_ROOM;
    target = &lane->site->targets[target_index];
    fill_options(lane, queue, target, &options);
    result = smtpc_open(shard->smtpc, &options, &client_events, connection, &connection->smtpc);
    if (result < 0) {
        slab_free(&shard->connections, index);
        return on_socket_refused(shard, lane, queue, result);
    }
    connection->index = index;
    connection->shard = shard;
    connection->lane = lane;
    connection->queue = queue;
    connection->idle_ms = queue->settings.connection_idle_ms;
    connection->target_at = target->at;
    connection->busy_since_ns = io_now_ns(shard->io);
    snprintf(connection->host_name, sizeof(connection->host_name), "%s",
             lane->site->host_names[target->host]);
    io_timer_init(&connection->idle_timer, on_idle_timeout);
    list_push_back(&lane->busy, &connection->link);
    queue->connection_count++;
    lane->open_count++;
    lane->connecting_count++;
    shard->totals.connects++;
    ips_on_open(shard, connection);
    return LANE_OPENED;
}

static void on_ready(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;
    struct shard *shard = connection->shard;
    struct lane *lane = connection->lane;
    struct queue *queue = connection->queue;

    (void)smtpc;
    must(lane->connecting_count > 0 && queue->connection_count > 0);
    ips_on_progress(shard, connection);
    connection->is_ready = true;
    lane->site->is_failing = false;
    lane->refused_until_ns = 0;
    lane->refusal_count = 0;
    lane->connecting_count--;
    demand_on_connected(&lane->demand, io_now_ns(shard->io) - connection->busy_since_ns);
    queue->connection_count--;
    connection->queue = NULL;
    queues_note_success(shard, queue);
    site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

void site_connection_idle(struct shard *shard, struct connection *connection)
{
    struct lane *lane = connection->lane;

    must(!connection->queue && !connection->delivery);
    list_remove(&connection->link);
    if (shard->stopping) {
        list_push_back(&lane->busy, &connection->link);
        smtpc_quit(connection->smtpc);
        return;
    }
    list_push_front(&lane->idle, &connection->link);
    io_timer_arm(shard->io, &connection->idle_timer,
                 io_now_ns(shard->io) + connection->idle_ms * 1000000ull);
    lane_serve_later(lane);
}

static void connection_done(struct shard *shard, struct connection *connection, bool may_continue)
{
    struct queue *queue = connection->queue;
    const struct conf_queue *settings = &queue->settings;
    bool is_spent = ++connection->served >= settings->max_msg_per_connection ||
                    connection->error_count >= settings->max_errors_per_connection ||
                    demand_is_surplus(&connection->lane->demand, connection->lane->open_count);

    connection->idle_ms = settings->connection_idle_ms;
    must(queue->connection_count > 0);
    queue->connection_count--;
    connection->queue = NULL;
    if (may_continue && is_spent)
        smtpc_quit(connection->smtpc);
    else if (may_continue)
        site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

/* A connection that never became ready: the next address, or rest when there is none. */
static void on_open_failed(struct shard *shard, struct connection *connection,
                           const struct verdict *verdict)
{
    struct lane *lane = connection->lane;
    struct queue *queue = connection->queue;

    must(lane->connecting_count > 0 && queue->connection_count > 0);
    lane->connecting_count--;
    demand_on_connect_failed(&lane->demand);
    lane->site->is_failing = true;
    queue->connection_count--;
    shard->totals.connect_failures++;
    queues_note_error(shard, queue, verdict);
    switch (fate_of_session(verdict, &queue->settings)) {
    case FATE_NEXT_TARGET:
        target_mark_dead(shard, connection);
        break;
    case FATE_REFUSED:
        target_on_refused(shard, connection, verdict);
        break;
    case FATE_REST_SOURCE:
    case FATE_CLOSE_ONLY:
        break;
    }
    connection->queue = NULL;
    queues_reconsider(shard, queue);
    /* Connections that stand prove that the site lives, whatever this attempt met. */
    if (target_pick(lane, io_now_ns(shard->io)) == NONE && list_empty(&lane->idle) &&
        lane->open_count == 1)
        lane_rest_waiting(shard, lane, verdict);
}

static void on_rcpt(struct smtpc *smtpc, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct connection *connection = context;

    (void)smtpc;
    if (verdict->class != VERDICT_SUCCESS)
        connection->error_count++;
    deliver_on_rcpt(connection->shard, connection->delivery, index, verdict);
}

static void on_transaction_done(struct smtpc *smtpc, void *context, bool may_continue)
{
    struct connection *connection = context;
    uint64_t now_ns = io_now_ns(connection->shard->io);

    (void)smtpc;
    demand_on_served(&connection->lane->demand, now_ns - connection->busy_since_ns,
                     connection->delivery->count);
    connection->busy_since_ns = now_ns;
    deliver_on_done(connection->shard, connection->delivery);
    connection->delivery = NULL;
    ips_on_progress(connection->shard, connection);
    if (may_continue || connection->ahead)
        ahead_note_clean(connection);
    if (connection->ahead)
        ahead_take_over(connection->shard, connection);
    else
        connection_done(connection->shard, connection, may_continue);
}

static void on_closed(struct smtpc *smtpc, void *context, const struct verdict *verdict)
{
    struct connection *connection = context;
    struct shard *shard = connection->shard;

    (void)smtpc;
    ips_on_closed(shard, connection);
    connection->is_closed = true;
    ahead_note_closed(connection, verdict);
    /* A message is being read for it: the reading ends first, see site_connection_lost. */
    if (connection->delivery)
        return;
    if (!connection->is_ready)
        on_open_failed(shard, connection, verdict);
    connection_free(shard, connection);
}

bool site_connection_is_usable(const struct connection *connection)
{
    return !connection->is_closed && smtpc_is_idle(connection->smtpc);
}

void site_connection_lost(struct shard *shard, struct connection *connection)
{
    struct queue *queue = connection->queue;

    must(!connection->delivery && queue->connection_count > 0);
    queue->connection_count--;
    connection->queue = NULL;
    if (connection->is_closed)
        connection_free(shard, connection);
    else if (smtpc_is_idle(connection->smtpc))
        site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

static void on_returned(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;

    (void)smtpc;
    ahead_return(connection->shard, connection);
}

static void on_ending(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;

    (void)smtpc;
    ahead_start(connection->shard, connection);
}

static const struct smtpc_events client_events = {
    .on_ready = on_ready,
    .on_rcpt = on_rcpt,
    .on_transaction_done = on_transaction_done,
    .on_closed = on_closed,
    .on_returned = on_returned,
    .on_ending = on_ending,
};

/* ---- The turn -------------------------------------------------------------------------------- */

/* One queue of the line on one idle connection. False when nothing more can start now. */
static bool lane_start_one(struct shard *shard, struct lane *lane)
{
    struct queue *queue = container_of(lane->waiting.next, struct queue, lane_link);
    struct connection *connection = container_of(lane->idle.next, struct connection, link);

    list_remove(&queue->lane_link);
    if (queue->connection_count >= queue->settings.max_smtp_out)
        /* It gets in line again when one of its connections has done its work. */
        return true;
    io_timer_stop(shard->io, &connection->idle_timer);
    connection->busy_since_ns = io_now_ns(shard->io);
    if (!deliver_start(shard, connection, queue)) {
        list_push_front(&lane->waiting, &queue->lane_link);
        queues_set_reason(shard, queue, WAIT_MEMORY);
        shard->is_starved = true;
        if (site_connection_is_usable(connection))
            site_connection_idle(shard, connection);
        else
            list_remove(&connection->link);
        return false;
    }
    list_remove(&connection->link);
    list_push_back(&lane->busy, &connection->link);
    if (queue->ready_count > 0)
        site_enqueue(shard, queue);
    return true;
}

/* Nothing of this lane is under way that would serve it again, so its queues must come back by
 * themselves. */
static void lane_put_off(struct shard *shard, struct lane *lane, enum lane_opened cause)
{
    const uint8_t enhanced[3] = {4, 4, 1};
    struct verdict verdict;
    struct list *link;

    if (lane->open_count > 0 && cause != LANE_NO_LOG)
        return;
    if (cause == LANE_NO_TARGET) {
        verdict_set_local(&verdict, VERDICT_HOST, VERDICT_TRANSIENT, VERDICT_AT_CONNECT, 451,
                          enhanced, "no address of the destination answers");
        lane_rest_waiting(shard, lane, &verdict);
        return;
    }
    while ((link = list_pop_front(&lane->waiting)))
        queues_wait(shard, container_of(link, struct queue, lane_link), NO_ROOM_WAIT_MS,
                    cause == LANE_NO_LOG ? WAIT_DISK : WAIT_MEMORY);
}

static void lane_open_more(struct shard *shard, struct lane *lane)
{
    uint64_t out_max = conf_global(shard->conf)->total_max_smtp_out / shard->count;
    uint64_t now_ns = io_now_ns(shard->io);
    enum lane_opened opened = LANE_OPENED;

    if (lane->refused_until_ns > now_ns)
        return;
    while (!list_empty(&lane->waiting) && opened == LANE_OPENED && lane_wants_more(lane, now_ns)) {
        struct queue *queue = container_of(lane->waiting.next, struct queue, lane_link);

        if (queue->connection_count >= queue->settings.max_smtp_out) {
            /* It gets in line again when one of its connections has done its work. */
            list_remove(&queue->lane_link);
            continue;
        }
        queues_set_reason(shard, queue, WAIT_CONNECTING);
        if (smtpc_engine_open_count(shard->smtpc) < (out_max ? out_max : 1))
            opened = lane_open(shard, lane, queue);
        else
            opened = LANE_NO_ROOM;
    }
    if (opened == LANE_NO_TARGET || opened == LANE_NO_ROOM)
        lane_put_off(shard, lane, opened);
}

static void lane_serve(struct shard *shard, struct lane *lane)
{
    /* While connections stand they serve what is in line here; then other sources do. */
    if (lane->refused_until_ns > io_now_ns(shard->io) && lane->open_count == 0)
        lane_park(shard, lane, lane->refused_until_ns);
    if (spool_health(shard->wiring.spool) == SPOOL_POISONED) {
        lane_put_off(shard, lane, LANE_NO_LOG);
        return;
    }
    while (!list_empty(&lane->waiting) && !list_empty(&lane->idle))
        if (!lane_start_one(shard, lane))
            return;
    if (!list_empty(&lane->idle))
        demand_on_idle(&lane->demand);
    else if (!list_empty(&lane->waiting) && !shard->stopping)
        lane_open_more(shard, lane);
    lane_release(shard, lane);
}

void site_turn(struct shard *shard)
{
    struct list batch, *link;

    /* A lane that asks to be served again while it is served has its next chance next turn. */
    list_init(&batch);
    shard->is_starved = false;
    while ((link = list_pop_front(&shard->lanes_to_serve)))
        list_push_back(&batch, link);
    while ((link = list_pop_front(&batch)))
        lane_serve(shard, container_of(link, struct lane, serve_link));
}

uint32_t site_open_connections(const struct shard *shard)
{
    return smtpc_engine_open_count(shard->smtpc);
}

void site_stop(struct shard *shard)
{
    list_for_each (site_node, &shard->site_list) {
        struct site *site = container_of(site_node, struct site, link);

        list_for_each (lane_node, &site->lanes) {
            struct lane *lane = container_of(lane_node, struct lane, site_link);

            list_for_each (node, &lane->idle) {
                struct connection *connection = container_of(node, struct connection, link);

                io_timer_stop(shard->io, &connection->idle_timer);
                list_remove(&connection->link);
                list_push_back(&lane->busy, &connection->link);
                smtpc_quit(connection->smtpc);
            }
        }
    }
}

void site_abort(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->connections.count_grown; i++)
        if (slab_is_live(&shard->connections, i))
            smtpc_abort(((struct connection *)slab_at(&shard->connections, i))->smtpc);
}
