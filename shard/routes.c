/*
 * Routes: where recipients of (domain, virtual MTA, flow, priority) go by the configuration, and
 * who has that queue.
 */
#include "shard/routes.h"

#include "core/conf/rollup.h"
#include "core/conf/warmup.h"
#include "shard/place.h"
#include "shard/rollup.h"
#include "shard/shard_int.h"

struct route_key {
    uint32_t name;
    uint32_t vmta_id;
    uint32_t flow;
    uint8_t priority;
};

static bool route_matches(uint32_t value, const void *key, void *context)
{
    const struct route *route = slab_at(&((struct shard *)context)->routes, value);
    const struct route_key *wanted = key;

    return route->name == wanted->name && route->vmta_id == wanted->vmta_id &&
           route->flow == wanted->flow && route->priority == wanted->priority;
}

static uint64_t route_hash(const struct route_key *key)
{
    return hash_u64((uint64_t)key->name << 32 | key->vmta_id);
}

/* The configuration's way from the domain's queue, and from there to that of its MX hosts. */
static void follow(const struct shard *shard, const struct route *route, uint32_t vmta_id,
                   uint64_t turn, struct conf_way *ret_way)
{
    bool by_turn;

    conf_way(shard->conf, names_text(&shard->names, route->name), vmta_id, turn, ret_way);
    if (route->rolled_up == NULL)
        return;
    by_turn = ret_way->by_turn;
    conf_way(shard->conf, slice_str(route->rolled_up), ret_way->vmta_id, turn, ret_way);
    ret_way->by_turn |= by_turn;
}

/* The way of the route's recipients by the configuration in force. */
static void find_way(struct shard *shard, struct route *route)
{
    struct conf_way way;

    follow(shard, route, route->vmta_id, 0, &way);
    if (!route->way.domain.data || way.vmta_id != route->way.vmta_id ||
        !slice_equal(way.domain, route->way.domain))
        route->owner = place_base(shard->place, way.domain, way.vmta_id);
    route->has_cold =
        cold_is_configured(shard, names_text(&shard->names, route->name), route->vmta_id);
    route->way = way;
    route->way_version = shard->version;
}

/* By the overflow of the queue's warm-up, when the recipient goes there, and on from queues that
 * are or were in backoff mode; the base of the queue. */
static uint16_t flow_over(const struct shard *shard, const struct home_rcpt *rcpt, uint64_t turn,
                          struct conf_way *way)
{
    bool leads_on = true;

    if (rcpt->is_over)
        conf_way(shard->conf, way->domain,
                 conf_warmup_overflow(shard->conf, way->domain, way->vmta_id, turn), turn, way);
    for (unsigned i = 0; leads_on && i < rcpt->backed_off; i++)
        leads_on = conf_way_in_backoff(shard->conf, turn, way);
    return place_base(shard->place, way->domain, way->vmta_id);
}

/* The route's way is not the whole of the recipient's. */
static bool goes_further(const struct home_rcpt *rcpt)
{
    return rcpt->is_over || rcpt->backed_off > 0;
}

uint16_t routes_way(struct shard *shard, struct route *route, uint64_t message_id,
                    struct home_rcpt *rcpt, struct conf_way *ret_way)
{
    if (route->rolled_up != NULL &&
        (route->way_version != shard->version || route->rolled_until_ns <= io_now_ns(shard->io))) {
        route->rolled_up = NULL;
        find_way(shard, route);
    }
    if (route->way_version != shard->version)
        find_way(shard, route);
    if (route->has_cold && !rcpt->is_cold && rcpt->attempts == 0)
        rcpt->is_cold = cold_take(shard, route);
    if (rcpt->is_cold) {
        follow(shard, route, cold_vmta(shard, route->vmta_id, message_id), message_id, ret_way);
        return flow_over(shard, rcpt, message_id, ret_way);
    }
    *ret_way = route->way;
    if (!route->way.by_turn && !goes_further(rcpt))
        return route->owner;
    if (route->way.by_turn)
        follow(shard, route, route->vmta_id, message_id, ret_way);
    return flow_over(shard, rcpt, message_id, ret_way);
}

void routes_note_owner(struct route *route, const struct home_rcpt *rcpt, uint16_t owner)
{
    if (!route->way.by_turn && !rcpt->is_cold && !goes_further(rcpt))
        route->owner = owner;
}

void routes_roll_up(struct shard *shard, struct route *route, const char *name)
{
    if (!conf_is_rollup(shard->conf, slice_str(name)))
        return;
    route->rolled_until_ns = io_now_ns(shard->io) + ROLLUP_KEPT_MS * 1000000ull;
    if (route->rolled_up == name)
        return;
    route->rolled_up = name;
    find_way(shard, route);
}

uint32_t routes_get(struct shard *shard, struct slice domain, uint32_t vmta_id, uint32_t flow,
                    uint8_t priority)
{
    struct route_key key = {names_get(&shard->names, domain), vmta_id, flow, priority};
    struct route *route;
    uint32_t index;

    if (key.name == NAME_NONE)
        return NONE;
    index = table_find(&shard->route_table, route_hash(&key), route_matches, &key, shard);
    if (index != TABLE_NONE) {
        names_put(&shard->names, key.name);
        route = slab_at(&shard->routes, index);
        if (route->refs++ == 0)
            list_remove(&route->idle_link);
        return index;
    }
    route = slab_alloc(&shard->routes, &index);
    if (!route || !table_insert(&shard->route_table, route_hash(&key), index)) {
        if (route)
            slab_free(&shard->routes, index);
        names_put(&shard->names, key.name);
        return NONE;
    }
    route->name = key.name;
    route->vmta_id = vmta_id;
    route->flow = flow;
    route->priority = priority;
    route->refs = 1;
    list_init(&route->idle_link);
    find_way(shard, route);
    return index;
}

static void route_free(struct shard *shard, struct route *route)
{
    struct route_key key = {route->name, route->vmta_id, route->flow, route->priority};
    uint64_t hash = route_hash(&key);
    uint32_t index = table_find(&shard->route_table, hash, route_matches, &key, shard);

    list_remove(&route->idle_link);
    table_remove(&shard->route_table, hash, index);
    names_put(&shard->names, route->name);
    slab_free(&shard->routes, index);
}

void routes_put(struct shard *shard, uint32_t index)
{
    struct route *route = slab_at(&shard->routes, index);

    must(route->refs > 0);
    if (--route->refs > 0)
        return;
    route->idle_since_ns = io_now_ns(shard->io);
    list_push_back(&shard->idle_routes, &route->idle_link);
}

void routes_turn(struct shard *shard)
{
    while (!list_empty(&shard->idle_routes)) {
        struct route *route = container_of(shard->idle_routes.next, struct route, idle_link);

        if (route->idle_since_ns + queues_keep_ns(shard) > io_now_ns(shard->io))
            return;
        route_free(shard, route);
    }
}
