/*
 * Lanes: a site seen from one of our addresses.
 *
 * Queues wait in line at a lane; by which lane a queue's mail goes follows from the addresses of
 * its virtual MTA, the families and hosts of the site that are alive, and from which sources the
 * receiver wants at all.
 */
#include "shard/probe.h"
#include "shard/shard_int.h"

/* Of a line, to find a place by age; behind these, it is as far as it was looked for. */
#define PLACES_LOOKED_AT 64u
#define TOKEN_TRIP_NS    2000000ull /* question and answer between shards, with time to spare */
#define ORDER_LOOK_MS    600000
#define AVOID_IPV6_MS    3600000 /* after a refusal that may be meant for IPv6 alone */

void lane_serve_later(struct lane *lane)
{
    if (list_empty(&lane->serve_link))
        list_push_back(&lane->shard->lanes_to_serve, &lane->serve_link);
}

void lane_on_claim_ready(struct lease_claim *claim)
{
    lane_serve_later(container_of(claim, struct lane, claim));
}

static void on_connect_timer(struct io_timer *timer)
{
    lane_serve_later(container_of(timer, struct lane, connect_timer));
}

const struct conf_source_address *lane_address(const struct lane *lane, uint32_t vmta_id)
{
    const struct conf_vmta *vmta = conf_vmta(lane->shard->conf, vmta_id);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, &lane->source))
            return &vmta->addresses[i];
    return NULL;
}

/* What a lane's connections have in common besides their addresses: what they draw on, how they are
 * secured, and who they are to the receiver. */
static uint64_t kind_of(const struct queue *queue, const struct scope_list *meters)
{
    const struct conf_queue *settings = &queue->settings;
    struct slice user, password;
    uint64_t hash = scope_list_hash(meters), tls_key = tls_out_key(queue);

    if (tls_key != 0)
        hash = hash_combine(hash, tls_key);
    if (!settings->auth_username)
        return hash;
    user = slice_str(settings->auth_username);
    password = settings->auth_password ? slice_str(settings->auth_password) : SLICE_EMPTY;
    hash = hash_combine(hash, hash_bytes(user.data, user.len));
    hash = hash_combine(hash, hash_bytes(password.data, password.len));
    return hash_combine(hash, settings->use_unencrypted_plain_auth);
}

bool lane_serves(struct shard *shard, const struct lane *lane, struct queue *queue)
{
    struct scope_list meters;

    return queue->site && lane_address(lane, queue->vmta_id) &&
           limits_of(shard, queue, &lane->source, &meters) &&
           kind_of(queue, &meters) == lane->meters_hash;
}

/* Bit n: somebody of rank n is in line. */
static uint32_t ranks_of(const struct lane *lane)
{
    uint32_t mask = 0;

    for (uint8_t rank = 0; rank < TURNS_RANKS; rank++)
        mask |= (uint32_t)!list_empty(&lane->ranks[rank]) << rank;
    return mask;
}

struct queue *lane_next(const struct lane *lane, bool *ret_is_express)
{
    uint8_t rank;

    *ret_is_express = !list_empty(&lane->express) && !lane->was_express;
    if (*ret_is_express)
        return container_of(lane->express.next, struct queue, express_link);
    if (list_empty(&lane->waiting))
        return NULL;
    rank = turns_next(&lane->turns, ranks_of(lane));
    return container_of(lane->ranks[rank].next, struct queue, rank_link);
}

uint8_t lane_rank(const struct lane *lane)
{
    uint32_t ranks = ranks_of(lane);

    return ranks == 0 ? TURNS_NORMAL : (uint8_t)(31 - __builtin_clz(ranks));
}

void lane_turn_over(struct shard *shard, struct queue *queue, bool is_express)
{
    queue->lane->was_express = is_express;
    if (!is_express)
        turns_served(&queue->lane->turns, queue->rank);
    if (is_express && ready_open_count(queue) > 0)
        list_remove(&queue->express_link);
    else
        lane_step_out(queue);
    if (queue->ready_count == 0 || !rates_admit(shard, queue) ||
        !mail_slots_admit(shard, queue, NULL))
        return;
    if (list_empty(&queue->lane_link))
        lane_enqueue(shard, queue);
    else
        lane_note_ready(queue);
}

void lane_note_ready(struct queue *queue)
{
    if (list_empty(&queue->lane_link) || !list_empty(&queue->express_link) ||
        !ready_has_light(queue))
        return;
    list_push_back(&queue->lane->express, &queue->express_link);
    lane_serve_later(queue->lane);
}

void lane_step_out(struct queue *queue)
{
    list_remove(&queue->lane_link);
    list_remove(&queue->rank_link);
    list_remove(&queue->express_link);
}

void lane_hold(struct shard *shard, struct queue *queue, bool is_express)
{
    if (is_express) {
        list_remove(&queue->express_link);
        return;
    }
    lane_step_out(queue);
    queues_set_reason(shard, queue, WAIT_OWN_LIMIT);
}

void lane_leave(struct queue *queue)
{
    lane_step_out(queue);
    /* It may have been all that the lane lived for. */
    lane_serve_later(queue->lane);
}

static struct lane *find_at(const struct site *site, const struct ipaddr *source,
                            uint64_t meters_hash)
{
    list_for_each (link, &site->lanes) {
        struct lane *lane = container_of(link, struct lane, site_link);

        if (ipaddr_equal(&lane->source, source) && lane->meters_hash == meters_hash)
            return lane;
    }
    return NULL;
}

static struct lane *lane_find(struct shard *shard, struct queue *queue,
                              const struct conf_source_address *address)
{
    struct scope_list meters;

    if (!limits_of(shard, queue, &address->ip, &meters))
        return NULL;
    return find_at(queue->site, &address->ip, kind_of(queue, &meters));
}

static struct lane *lane_obtain(struct shard *shard, struct queue *queue,
                                const struct conf_source_address *address)
{
    struct site *site = queue->site;
    struct scope_list meters;
    struct lane *lane;
    uint32_t index;

    if (!limits_of(shard, queue, &address->ip, &meters))
        return NULL;
    lane = find_at(site, &address->ip, kind_of(queue, &meters));
    if (lane)
        return lane;
    lane = slab_alloc(&shard->lanes, &index);
    if (!lane)
        return NULL;
    if (!lease_claim_init(shard, &lane->claim, &meters)) {
        slab_free(&shard->lanes, index);
        return NULL;
    }
    lane->index = index;
    lane->shard = shard;
    lane->site = site;
    lane->source = address->ip;
    lane->meters_hash = kind_of(queue, &meters);
    lane->tls_key = tls_out_key(queue);
    lane->hosts_mask = limits_of_hosts(shard, site);
    lane->provider = site->provider;
    demand_init(&lane->demand);
    /* Lanes go while their queues rest: what comes back after an outage begins with one. */
    if (site->is_failing)
        demand_on_connect_failed(&lane->demand);
    lane->standing = site->is_failing ? QUOTA_SLOW : QUOTA_NEW;
    list_init(&lane->waiting);
    list_init(&lane->express);
    for (uint8_t rank = 0; rank < TURNS_RANKS; rank++)
        list_init(&lane->ranks[rank]);
    list_init(&lane->idle);
    list_init(&lane->busy);
    list_init(&lane->serve_link);
    list_init(&lane->watch_link);
    list_init(&lane->order_link);
    lane->parked_until_ns = orders_stopped_until_ns(shard, site, &lane->source);
    if (site->parked_until_ns < lane->parked_until_ns)
        site->parked_until_ns = lane->parked_until_ns;
    io_timer_init(&lane->connect_timer, on_connect_timer);
    list_init(&lane->purse_link);
    list_push_back(&site->lanes, &lane->site_link);
    site->refs++;
    return lane;
}

void lane_release(struct shard *shard, struct lane *lane)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (lane->open_count > 0 || !list_empty(&lane->waiting) || lane->parked_until_ns > now_ns ||
        lane->refused_until_ns > now_ns)
        return;
    io_timer_stop(shard->io, &lane->connect_timer);
    list_remove(&lane->serve_link);
    list_remove(&lane->purse_link);
    list_remove(&lane->watch_link);
    list_remove(&lane->order_link);
    list_remove(&lane->site_link);
    lease_claim_fini(shard, &lane->claim);
    site_release(shard, lane->site);
    slab_free(&shard->lanes, lane->index);
}

static bool site_has_family(const struct site *site, uint8_t family)
{
    return site->has_family[family == IPADDR_V6];
}

/* The preference of the queue's best address of a family that is alive; NONE when none is. */
static uint32_t site_best(const struct shard *shard, const struct queue *queue, uint8_t family,
                          uint64_t now_ns)
{
    const struct site *site = queue->site;
    uint64_t tls_key = tls_out_key(queue);

    for (uint32_t i = 0; i < site->target_count && site_has_family(site, family); i++)
        if (site->targets[i].at.ip.family == family &&
            target_is_alive(shard, &site->targets[i], tls_key, now_ns))
            return site->targets[i].preference;
    return NONE;
}

/* Whether the VMTA has a source address of this family that is not parked here. */
static bool has_source(const struct shard *shard, const struct queue *queue, uint8_t family,
                       uint64_t now_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct site *site = queue->site;

    /* Nearly always: the site's targets are of families that the VMTA has sources for. */
    if (site->parked_until_ns <= now_ns && site->outage.latest_ns <= now_ns &&
        shard->orders.counts[ORDER_SOURCE_OFF] == 0)
        return site_has_family(site, family);
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        bool is_parked = outage_until_ns(&site->outage, &vmta->addresses[i].ip) > now_ns ||
                         orders_forbid(shard, queue, &vmta->addresses[i].ip);

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
    const struct site *site = queue->site;
    uint8_t first = queue->settings.prefer_ipv6 ? IPADDR_V6 : IPADDR_V4;
    uint8_t second = queue->settings.prefer_ipv6 ? IPADDR_V4 : IPADDR_V6;
    uint32_t best_of_first = NONE, best_of_second = NONE;

    if (has_source(shard, queue, first, now_ns))
        best_of_first = site_best(shard, queue, first, now_ns);
    if (has_source(shard, queue, second, now_ns))
        best_of_second = site_best(shard, queue, second, now_ns);
    if (best_of_first == NONE && best_of_second == NONE)
        return IPADDR_NONE;
    if (site->avoid_ipv6_until_ns > now_ns && best_of_first != NONE && best_of_second != NONE)
        return IPADDR_V4;
    return best_of_first <= best_of_second ? first : second;
}

bool lane_has_way(struct shard *shard, const struct queue *queue)
{
    return queue->site && queue_family(shard, queue, io_now_ns(shard->io)) != IPADDR_NONE;
}

bool lane_leave_ipv6(struct shard *shard, const struct connection *connection,
                     const struct queue *queue)
{
    struct site *site = connection->lane->site;
    uint64_t now_ns = io_now_ns(shard->io);

    if (connection->lane->source.family != IPADDR_V6 || site != queue->site ||
        !has_source(shard, queue, IPADDR_V4, now_ns) ||
        site_best(shard, queue, IPADDR_V4, now_ns) == NONE)
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
static struct lane *next_of_rank(struct shard *shard, struct queue *queue, uint32_t rank,
                                 bool with_connection, uint64_t *ret_refused_until_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    uint64_t now_ns = io_now_ns(shard->io);
    uint8_t family = queue_family(shard, queue, now_ns);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct conf_source_address *address =
            &vmta->addresses[queue->address_turn++ % vmta->address_count];
        struct lane *lane;

        /* When nothing is alive the first line says so. */
        if (address->rank != rank ||
            (family != IPADDR_NONE ? address->ip.family != family
                                   : !site_has_family(queue->site, address->ip.family)))
            continue;
        if (outage_until_ns(&queue->site->outage, &address->ip) > now_ns ||
            orders_forbid(shard, queue, &address->ip) || warm_is_spent(shard, queue, &address->ip))
            continue;
        lane =
            with_connection ? lane_find(shard, queue, address) : lane_obtain(shard, queue, address);
        if (lane && lane->refusal_count > 0 && lane->parked_until_ns > now_ns &&
            lane->parked_until_ns < *ret_refused_until_ns)
            *ret_refused_until_ns = lane->parked_until_ns;
        if (lane && lane->parked_until_ns <= now_ns && (!with_connection || lane->open_count > 0))
            return lane;
    }
    return NULL;
}

/* The lowest rank that has one. */
static struct lane *next_lane(struct shard *shard, struct queue *queue, bool with_connection,
                              uint64_t *ret_refused_until_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    struct lane *lane = NULL;

    for (uint32_t rank = 0; vmta && !lane && rank < vmta->rank_count; rank++)
        lane = next_of_rank(shard, queue, rank, with_connection, ret_refused_until_ns);
    return lane;
}

/* Whether the source may be used for the queue, and finds a host that is alive. */
static bool is_reachable(const struct shard *shard, const struct queue *queue,
                         const struct ipaddr *source)
{
    uint64_t now_ns = io_now_ns(shard->io);

    return site_best(shard, queue, source->family, now_ns) != NONE &&
           outage_until_ns(&queue->site->outage, source) <= now_ns &&
           !orders_forbid(shard, queue, source);
}

/* The lane of the source that the queue's first recipient is to come from first, or that it holds
 * slots for; NULL when that is all the same, or cannot be had. */
static struct lane *lane_wanted(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct ipaddr *source = doubt_source(shard, queue);
    struct lane *lane = NULL;

    if (!source)
        source = mail_slots_source(queue);

    for (uint32_t i = 0; vmta && source && i < vmta->address_count && !lane; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, source) && is_reachable(shard, queue, source))
            lane = lane_obtain(shard, queue, &vmta->addresses[i]);
    return lane && lane->parked_until_ns <= io_now_ns(shard->io) ? lane : NULL;
}

bool lane_sent_on(struct shard *shard, struct lane *lane, struct queue *queue)
{
    struct lane *wanted = lane_wanted(shard, queue);
    /* Its site has other hosts now, or another provider's: other limits may count. */
    bool is_stale = (lane->hosts_mask != limits_of_hosts(shard, lane->site) ||
                     lane->provider != lane->site->provider) &&
                    !lane_serves(shard, lane, queue);

    if ((!wanted || wanted == lane) && !is_stale && !orders_forbid(shard, queue, &lane->source) &&
        !warm_is_spent(shard, queue, &lane->source))
        return false;
    lane_step_out(queue);
    lane_enqueue(shard, queue);
    return true;
}

struct lane *lane_beside(struct shard *shard, struct queue *queue, uint32_t turn)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    struct lane *lane;

    if (!vmta || turn >= vmta->address_count || !queue->site || doubt_source(shard, queue))
        return NULL;
    lane = lane_find(shard, queue, &vmta->addresses[turn]);
    if (!lane || lane->open_count == 0 || lane->parked_until_ns > io_now_ns(shard->io) ||
        !is_reachable(shard, queue, &lane->source))
        return NULL;
    return lane;
}

/* Who comes back with a token stands where it stood before it went for one: it would be behind
 * those who stayed, or were served meanwhile, each time. */
static void take_place(struct list *line, struct queue *queue)
{
    struct list *behind = line->prev;

    for (uint32_t steps = 0;
         behind != line && steps < PLACES_LOOKED_AT &&
         container_of(behind, struct queue, rank_link)->lane_since_ns > queue->lane_since_ns;
         steps++)
        behind = behind->prev;
    list_push_front(behind, &queue->rank_link);
}

void lane_await(struct lane *lane, const struct queue *queue, uint64_t now_ns)
{
    if (lane->has_awaited)
        return;
    lane->awaited_queue = queue->index + 1;
    lane->awaited_until_ns = now_ns + TOKEN_TRIP_NS;
    lane->has_awaited = true;
}

bool lane_awaits(struct lane *lane, uint64_t now_ns)
{
    if (lane->awaited_until_ns <= now_ns)
        lane->awaited_queue = 0;
    return lane->awaited_queue != 0;
}

/* It is there, with its token. */
static void end_awaiting(struct lane *lane, const struct queue *queue)
{
    if (lane->awaited_queue != queue->index + 1)
        return;
    lane->awaited_queue = 0;
    lane->has_awaited = false;
}

void lane_change(struct shard *shard, struct queue *queue, struct lane *lane)
{
    bool comes_back = queue->purse_since_ns != 0 && rates_has_turn(queue);

    lane_step_out(queue);
    queue->rank = turns_rank(queue->settings.queue_priority);
    queue->lane_since_ns = comes_back ? queue->purse_since_ns : io_now_ns(shard->io);
    list_push_back(&lane->waiting, &queue->lane_link);
    take_place(&lane->ranks[queue->rank], queue);
    queue->lane = lane;
    end_awaiting(lane, queue);
    lane_note_ready(queue);
    queues_set_reason(shard, queue, WAIT_CONNECTION);
    lane_serve_later(lane);
}

/* One of the queue's lanes on which a connection is idle, for a queue that was given a token; NULL
 * when there is none any more. */
static struct lane *lane_with_idle(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        struct lane *lane = lane_find(shard, queue, &vmta->addresses[i]);

        if (queue->purse_source.family != IPADDR_NONE &&
            !ipaddr_equal(&queue->purse_source, &vmta->addresses[i].ip))
            continue;
        if (lane && !list_empty(&lane->idle) && lane->parked_until_ns <= io_now_ns(shard->io) &&
            !orders_forbid(shard, queue, &lane->source) &&
            !warm_is_spent(shard, queue, &lane->source))
            return lane;
    }
    return NULL;
}

/* Standing orders keep the queue from sources of its own: it waits until one ends, and looks again
 * before then, since they may end sooner. False when there are none. */
static bool wait_for_order(struct shard *shard, struct queue *queue)
{
    uint64_t latest_ns = io_now_ns(shard->io) + ORDER_LOOK_MS * 1000000ull, until_ns;

    if (!orders_holding(shard, queue, &until_ns))
        return false;
    queues_wait_until(shard, queue, until_ns < latest_ns ? until_ns : latest_ns, WAIT_ORDER);
    queues_expire(shard, queue);
    return true;
}

void lane_enqueue(struct shard *shard, struct queue *queue)
{
    uint64_t refused_until_ns = UINT64_MAX;
    struct lane *wanted, *lane;

    if (probe_holds(shard, queue))
        return;
    wanted = lane_wanted(shard, queue);
    if (wanted && warm_is_spent(shard, queue, &wanted->source) && warm_wait(shard, queue))
        return;
    lane = wanted ? wanted : rates_has_turn(queue) ? lane_with_idle(shard, queue) : NULL;
    if (!lane)
        lane = next_lane(shard, queue, false, &refused_until_ns);

    /* Where a limit is reached, addresses that have connections serve first: else one would be
     * closed for the other after each message. */
    if (lane && !wanted && lane->open_count == 0 && lease_is_at_limit(&lane->claim)) {
        struct lane *better = next_lane(shard, queue, true, &refused_until_ns);

        if (better) {
            /* Looked at once more, it may have nothing to live for. */
            lane_serve_later(lane);
            lane = better;
        }
    }
    if (!lane && (warm_wait(shard, queue) || wait_for_order(shard, queue)))
        return;
    if (!lane && refused_until_ns != UINT64_MAX) {
        rest_refused(shard, queue, refused_until_ns);
        return;
    }
    if (!lane) {
        queues_wait(shard, queue, LANE_SOURCE_PARK_MS, WAIT_SOURCE);
        return;
    }
    lane_change(shard, queue, lane);
}

uint64_t lane_rest_waiting(struct shard *shard, struct lane *lane, const struct verdict *verdict)
{
    uint64_t now_ns = io_now_ns(shard->io), first_due_ns = UINT64_MAX;
    struct list *link;

    while ((link = list_pop_front(&lane->waiting))) {
        struct queue *queue = container_of(link, struct queue, lane_link);

        lane_step_out(queue);
        if (queue_family(shard, queue, now_ns) != IPADDR_NONE) {
            queues_reconsider(shard, queue);
            continue;
        }
        queues_rest(shard, queue, verdict);
        if (probe_due_ns(shard, queue) < first_due_ns)
            first_due_ns = probe_due_ns(shard, queue);
    }
    if (first_due_ns == UINT64_MAX)
        return 0;
    /* When they come back everything is tried anew. */
    lane->unanswered_count = 0;
    tls_out_forget(shard, lane);
    for (uint32_t i = 0; i < lane->site->target_count; i++)
        lane->site->targets[i].dead_until_ns = 0;
    return first_due_ns;
}

void lane_park(struct shard *shard, struct lane *lane, uint64_t until_ns)
{
    struct list *link;

    lane->parked_until_ns = until_ns;
    if (lane->site->parked_until_ns < until_ns)
        lane->site->parked_until_ns = until_ns;
    /* Others of the VMTA's addresses may still work. */
    while ((link = list_pop_front(&lane->waiting))) {
        struct queue *queue = container_of(link, struct queue, lane_link);

        lane_step_out(queue);
        queues_reconsider(shard, queue);
    }
}
