/*
 * Destinations: lanes, connections.
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

#define SOURCE_PARK_MS  60000
#define AVOID_IPV6_MS   3600000 /* after a refusal that may be meant for IPv6 alone */
#define NO_ROOM_WAIT_MS 1000
#define QUIT_TIMEOUT_MS 5000

static const struct smtpc_events client_events;

static void on_claim_ready(struct lease_claim *claim);
static void end_to_make_room(struct lease_slots *slots);

void site_init(struct shard *shard)
{
    slab_init(&shard->sites, sizeof(struct site), shard->limits.queue_count_max);
    slab_init(&shard->lanes, sizeof(struct lane), shard->limits.queue_count_max);
    slab_init(&shard->connections, sizeof(struct connection), shard->limits.connection_count_max);
    list_init(&shard->site_list);
    table_init(&shard->site_table);
    list_init(&shard->lanes_to_serve);
    growth_init(shard);
    lease_init(shard, on_claim_ready, end_to_make_room);
    resolve_init(shard);
}

void site_fini(struct shard *shard)
{
    growth_fini(shard);
    resolve_fini(shard);
    list_for_each (link, &shard->site_list)
        mem_free(container_of(link, struct site, link)->targets);
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

struct site *site_obtain(struct shard *shard, const struct mx_answer *answer)
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

/* ---- Lanes ----------------------------------------------------------------------------------- */

void site_serve_later(struct lane *lane)
{
    if (list_empty(&lane->serve_link))
        list_push_back(&lane->shard->lanes_to_serve, &lane->serve_link);
}

static void on_claim_ready(struct lease_claim *claim)
{
    site_serve_later(container_of(claim, struct lane, claim));
}

/* Connections of a virtual MTA with a limit of its own serve nobody else, so that it counts them
 * all and no others. */
static uint32_t lane_vmta(const struct shard *shard, uint32_t vmta_id)
{
    return lease_limits_vmta(shard, vmta_id) ? vmta_id : CONF_NONE;
}

bool site_lane_serves(const struct shard *shard, const struct lane *lane, uint32_t vmta_id)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, vmta_id);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, &lane->source))
            return lane->vmta_id == lane_vmta(shard, vmta_id);
    return false;
}

void site_leave_line(struct queue *queue)
{
    list_remove(&queue->lane_link);
    /* It may have been all that the lane lived for. */
    site_serve_later(queue->lane);
}

static struct lane *lane_find(const struct shard *shard, const struct site *site, uint32_t vmta_id,
                              const struct conf_source_address *address)
{
    uint32_t limited = lane_vmta(shard, vmta_id);

    list_for_each (link, &site->lanes) {
        struct lane *lane = container_of(link, struct lane, site_link);

        if (ipaddr_equal(&lane->source, &address->ip) && lane->vmta_id == limited)
            return lane;
    }
    return NULL;
}

static struct lane *lane_obtain(struct shard *shard, struct site *site, uint32_t vmta_id,
                                const struct conf_source_address *address)
{
    struct lane *lane = lane_find(shard, site, vmta_id, address);
    uint32_t index;

    if (lane)
        return lane;
    lane = slab_alloc(&shard->lanes, &index);
    if (!lane)
        return NULL;
    lane->index = index;
    lane->shard = shard;
    lane->site = site;
    lane->source = address->ip;
    lane->vmta_id = lane_vmta(shard, vmta_id);
    lease_claim_init(shard, &lane->claim, vmta_id);
    demand_init(&lane->demand);
    /* Lanes go while their queues rest: what comes back after an outage begins with one. */
    if (site->is_failing)
        demand_on_connect_failed(&lane->demand);
    list_init(&lane->waiting);
    list_init(&lane->idle);
    list_init(&lane->busy);
    list_init(&lane->serve_link);
    list_init(&lane->watch_link);
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
    list_remove(&lane->watch_link);
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

/*
 * The lane of the queue's next address in turn; with_connection: the next that has some, none is
 * made. *ret_refused_until_ns: when the first of the sources that were refused may ask again,
 * lowered where that is sooner.
 */
static struct lane *next_lane(struct shard *shard, struct queue *queue, bool with_connection,
                              uint64_t *ret_refused_until_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    uint64_t now_ns = io_now_ns(shard->io);
    uint8_t family = queue_family(shard, queue, now_ns);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct conf_source_address *address =
            &vmta->addresses[queue->address_turn++ % vmta->address_count];
        struct lane *lane;

        /* When nothing is alive the first line says so. */
        if (family != IPADDR_NONE ? address->ip.family != family
                                  : !site_has_family(queue->site, address->ip.family))
            continue;
        lane = with_connection ? lane_find(shard, queue->site, queue->vmta_id, address)
                               : lane_obtain(shard, queue->site, queue->vmta_id, address);
        if (lane && lane->refusal_count > 0 && lane->parked_until_ns > now_ns &&
            lane->parked_until_ns < *ret_refused_until_ns)
            *ret_refused_until_ns = lane->parked_until_ns;
        if (lane && lane->parked_until_ns <= now_ns && (!with_connection || lane->open_count > 0))
            return lane;
    }
    return NULL;
}

/* The lane of the source that the queue's first recipient is to come from first; NULL when that is
 * all the same, or cannot be had. */
static struct lane *doubt_lane(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct doubt *doubt;
    struct lane *lane = NULL;

    if (!vmta || doubt_target(shard, queue) == NONE)
        return NULL;
    doubt = doubt_find(shard, queues_peek(queue));
    for (uint32_t i = 0; i < vmta->address_count && !lane; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, &doubt->source))
            lane = lane_obtain(shard, queue->site, queue->vmta_id, &vmta->addresses[i]);
    return lane && lane->parked_until_ns <= io_now_ns(shard->io) ? lane : NULL;
}

/* Whether the queue, in line at the lane, was sent to another for its first recipient's sake. */
static bool lane_sent_on(struct shard *shard, struct lane *lane, struct queue *queue)
{
    struct lane *wanted = doubt_lane(shard, queue);

    if (!wanted || wanted == lane)
        return false;
    list_remove(&queue->lane_link);
    site_enqueue(shard, queue);
    return true;
}

void site_enqueue(struct shard *shard, struct queue *queue)
{
    uint64_t refused_until_ns = UINT64_MAX;
    struct lane *wanted = doubt_lane(shard, queue);
    struct lane *lane = wanted ? wanted : next_lane(shard, queue, false, &refused_until_ns);

    /* Where a limit is reached, addresses that have connections serve first: else one would be
     * closed for the other after each message. */
    if (lane && !wanted && lane->open_count == 0 && lease_is_at_limit(&lane->claim)) {
        struct lane *better = next_lane(shard, queue, true, &refused_until_ns);

        if (better) {
            /* Looked at once more, it may have nothing to live for. */
            site_serve_later(lane);
            lane = better;
        }
    }
    if (!lane && refused_until_ns != UINT64_MAX) {
        rest_refused(shard, queue, refused_until_ns);
        return;
    }
    if (!lane) {
        queues_wait(shard, queue, SOURCE_PARK_MS, WAIT_SOURCE);
        return;
    }
    list_push_back(&lane->waiting, &queue->lane_link);
    queue->lane = lane;
    queues_set_reason(shard, queue, WAIT_CONNECTION);
    site_serve_later(lane);
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
    lease_slots_release(shard, &connection->slots);
    if (connection->host != NAME_NONE)
        names_put(&shard->names, connection->host);
    slab_free(&shard->connections, connection->index);
    must(lane->open_count > 0);
    lane->open_count--;
    site_serve_later(lane);
}

/* The name that the lane's source gives itself; it lives as long as the process. */
static const char *helo_of(const struct shard *shard, const struct lane *lane, uint32_t vmta_id)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, vmta_id);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, &lane->source))
            return vmta->addresses[i].helo;
    return conf_global(shard->conf)->host_name;
}

static void fill_options(const struct lane *lane, const struct queue *queue,
                         const struct site_target *target, struct smtpc_options *ret_options)
{
    const struct conf_queue *settings = &queue->settings;

    *ret_options = (struct smtpc_options){
        .source = lane->source,
        .target = target->at,
        .helo = helo_of(lane->shard, lane, queue->vmta_id),
        .connect_timeout_ms = settings->connect_timeout_ms,
        .greeting_timeout_ms = settings->greeting_timeout_ms,
        .command_timeout_ms = settings->command_timeout_ms,
        .data_timeout_ms = settings->data_timeout_ms,
        .data_send_timeout_ms = settings->data_send_timeout_ms,
        .data_termination_timeout_ms = settings->data_termination_timeout_ms,
        .quit_timeout_ms = QUIT_TIMEOUT_MS,
        .keep_tcp_info = lane->shard->counts_ips,
        .ignore_pipelining = settings->ignore_pipelining,
        .ignore_chunking = settings->ignore_chunking,
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

/* The address for a connection of the queue's; NONE when none is alive. */
static uint32_t pick_target(struct shard *shard, struct lane *lane, const struct queue *queue)
{
    uint32_t target_index = doubt_target(shard, queue);

    if (target_index == NONE)
        return target_pick(lane, io_now_ns(shard->io));
    doubt_find(shard, queues_peek(queue))->open_count++;
    return target_index;
}

/* Opens a connection for the queue at the head of the line. */
static enum lane_opened lane_open(struct shard *shard, struct lane *lane, struct queue *queue)
{
    uint32_t target_index = pick_target(shard, lane, queue), index;
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
    connection->vmta_id = queue->vmta_id;
    connection->idle_ms = queue->settings.connection_idle_ms;
    connection->target_at = target->at;
    connection->opened_ns = io_now_ns(shard->io);
    connection->busy_since_ns = connection->opened_ns;
    lease_claim_use(&lane->claim, &connection->slots);
    connection->host = names_get(&shard->names, slice_str(lane->site->host_names[target->host]));
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
    if (shard->stopping || connection->is_leaving) {
        list_push_back(&lane->busy, &connection->link);
        smtpc_quit(connection->smtpc);
        return;
    }
    list_push_front(&lane->idle, &connection->link);
    io_timer_arm(shard->io, &connection->idle_timer,
                 io_now_ns(shard->io) + connection->idle_ms * 1000000ull);
    site_serve_later(lane);
}

static void connection_done(struct shard *shard, struct connection *connection, bool may_continue)
{
    struct queue *queue = connection->queue;
    const struct conf_queue *settings = &queue->settings;
    bool is_spent =
        ++connection->served >= settings->max_msg_per_connection || connection->is_leaving ||
        connection->error_count >= settings->max_errors_per_connection ||
        growth_is_surplus(connection->lane) ||
        lease_slots_must_end(&connection->slots, io_now_ns(shard->io) - connection->opened_ns);

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

    if (verdict->class != VERDICT_SUCCESS)
        connection->error_count++;
    connection->lane->site->refuses_chunks |= smtpc_refuses_chunks(smtpc);
    deliver_on_rcpt(connection->shard, connection->delivery, index, verdict);
}

static void on_transaction_done(struct smtpc *smtpc, void *context, bool may_continue)
{
    struct connection *connection = context;
    uint64_t now_ns = io_now_ns(connection->shard->io);

    demand_on_served(&connection->lane->demand, connection->busy_since_ns, now_ns,
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

    connection->lane->site->refuses_chunks |= smtpc_refuses_chunks(smtpc);
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

static void on_returned(struct smtpc *smtpc, void *context, const struct verdict *verdict)
{
    struct connection *connection = context;

    ahead_return(connection->shard, connection, verdict);
}

static void on_content(struct smtpc *smtpc, void *context)
{
    deliver_on_content(context);
}

static void on_ending(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;

    ahead_start(connection->shard, connection);
}

static const struct smtpc_events client_events = {
    .on_ready = on_ready,
    .on_rcpt = on_rcpt,
    .on_transaction_done = on_transaction_done,
    .on_closed = on_closed,
    .on_returned = on_returned,
    .on_ending = on_ending,
    .on_content = on_content,
};

/* ---- The turn -------------------------------------------------------------------------------- */

/* The idle connection that is to serve the queue; NULL when one is being opened for it, or there is
 * none any more (it is in line again then). */
static struct connection *lane_idle_for(struct shard *shard, struct lane *lane, struct queue *queue)
{
    list_for_each (link, &lane->idle) {
        struct connection *connection = container_of(link, struct connection, link);

        if (doubt_fits(shard, queue, connection))
            return connection;
    }
    if (lane->refused_until_ns <= io_now_ns(shard->io) && lease_claim_try(shard, &lane->claim) &&
        lane_open(shard, lane, queue) == LANE_OPENED)
        return NULL;
    /* While the claim was tried, the last idle one may have made room for somebody. */
    if (list_empty(&lane->idle)) {
        list_push_front(&lane->waiting, &queue->lane_link);
        return NULL;
    }
    return container_of(lane->idle.next, struct connection, link);
}

/* One queue of the line on one idle connection. False when nothing more can start now. */
static bool lane_start_one(struct shard *shard, struct lane *lane)
{
    struct queue *queue = container_of(lane->waiting.next, struct queue, lane_link);
    struct connection *connection;

    if (lane_sent_on(shard, lane, queue))
        return true;
    list_remove(&queue->lane_link);
    if (queue->connection_count >= queue->settings.max_smtp_out)
        /* It gets in line again when one of its connections has done its work. */
        return true;
    connection = lane_idle_for(shard, lane, queue);
    if (!connection)
        return true;
    io_timer_stop(shard->io, &connection->idle_timer);
    lease_slots_busy(&connection->slots);
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
    growth_on_start(shard, lane);
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
    uint64_t now_ns = io_now_ns(shard->io);
    enum lane_opened opened = LANE_OPENED;

    if (lane->refused_until_ns > now_ns)
        return;
    while (!list_empty(&lane->waiting) && opened == LANE_OPENED &&
           (lease_claim_is_held(&lane->claim) || growth_is_wanted(lane, now_ns))) {
        struct queue *queue = container_of(lane->waiting.next, struct queue, lane_link);

        if (lane_sent_on(shard, lane, queue))
            continue;
        if (queue->connection_count >= queue->settings.max_smtp_out) {
            /* It gets in line again when one of its connections has done its work. */
            list_remove(&queue->lane_link);
            continue;
        }
        if (!lease_claim_try(shard, &lane->claim)) {
            queues_set_reason(shard, queue, WAIT_LIMIT);
            break;
        }
        queues_set_reason(shard, queue, WAIT_CONNECTING);
        opened = lane_open(shard, lane, queue);
    }
    if (opened == LANE_NO_TARGET || opened == LANE_NO_ROOM)
        lane_put_off(shard, lane, opened);
}

/* Nothing waits for the lane's idle connections: they may make room for others. */
static void lane_note_idle(struct shard *shard, struct lane *lane)
{
    list_for_each (link, &lane->idle)
        if (!lease_slots_idle(&container_of(link, struct connection, link)->slots))
            break;
    lease_make_room(shard, &lane->claim);
    demand_on_idle(&lane->demand);
}

static void lane_serve(struct shard *shard, struct lane *lane)
{
    /* While connections stand they serve what is in line here; then other sources do. */
    if (lane->refused_until_ns > io_now_ns(shard->io) && lane->open_count == 0)
        lane_park(shard, lane, lane->refused_until_ns);
    if (spool_health_holds_deliveries(spool_health(shard->wiring.spool))) {
        lane_put_off(shard, lane, LANE_NO_LOG);
    } else {
        while (!list_empty(&lane->waiting) && !list_empty(&lane->idle))
            if (!lane_start_one(shard, lane))
                return;
        if (!list_empty(&lane->idle))
            lane_note_idle(shard, lane);
        else if (!list_empty(&lane->waiting) && !shard->stopping)
            lane_open_more(shard, lane);
        if (!list_empty(&lane->waiting) && list_empty(&lane->idle))
            growth_on_wait(shard, lane);
    }
    if (list_empty(&lane->waiting) || lease_claim_is_held(&lane->claim))
        lease_claim_cancel(shard, &lane->claim);
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

static void end_idle(struct shard *shard, struct connection *connection)
{
    io_timer_stop(shard->io, &connection->idle_timer);
    list_remove(&connection->link);
    list_push_back(&connection->lane->busy, &connection->link);
    smtpc_quit(connection->smtpc);
}

static void end_to_make_room(struct lease_slots *slots)
{
    struct connection *connection = container_of(slots, struct connection, slots);

    end_idle(connection->shard, connection);
}

void site_adopt(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        struct connection *connection;

        if (!slab_is_live(&shard->connections, i))
            continue;
        connection = slab_at(&shard->connections, i);
        if (site_lane_serves(shard, connection->lane, connection->vmta_id))
            continue;
        connection->is_leaving = true;
        if (io_timer_is_armed(&connection->idle_timer))
            end_idle(shard, connection);
    }
}

void site_stop(struct shard *shard)
{
    list_for_each (site_node, &shard->site_list) {
        struct site *site = container_of(site_node, struct site, link);

        list_for_each (lane_node, &site->lanes) {
            struct lane *lane = container_of(lane_node, struct lane, site_link);

            list_for_each (node, &lane->idle)
                end_idle(shard, container_of(node, struct connection, link));
        }
    }
}

void site_abort(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->connections.count_grown; i++)
        if (slab_is_live(&shard->connections, i))
            smtpc_abort(((struct connection *)slab_at(&shard->connections, i))->smtpc);
}
