/*
 * Which address of a site the next connection goes to, and what is remembered of addresses that did
 * not answer, or did not want us.
 *
 * An address that cannot be reached is dead for all sources of the site for a while. One that
 * answers with a refusal at its greeting is not: it does not want one source. That source rests at
 * the whole site, so that a throttle is never evaded by the next host; where it was turned away for
 * good it asks last when the rest is over. A host that a <smtp-pattern-list> says to pass by
 * (skip-mx) is dead like one that does not answer.
 */
#include "shard/shard_int.h"

#define DEAD_TARGET_MS  300000
#define AVOID_TARGET_MS 3600000 /* a host that turned the source away for good */

static bool is_same_target(const struct ipaddr_port *a, const struct ipaddr_port *b)
{
    return ipaddr_equal(&a->ip, &b->ip) && a->port == b->port;
}

bool target_is_alive(const struct shard *shard, const struct site_target *target, uint64_t tls_key,
                     uint64_t now_ns)
{
    return target->dead_until_ns <= now_ns && !tls_out_is_shut(shard, &target->at, tls_key);
}

static bool is_alive(const struct lane *lane, const struct site_target *target, uint64_t now_ns,
                     bool avoid)
{
    return target_is_alive(lane->shard, target, lane->tls_key, now_ns) &&
           target->at.ip.family == lane->source.family &&
           !(avoid && is_same_target(&target->at, &lane->avoided));
}

/* The best preference that is alive, its equals in turn. */
static uint32_t lane_pick(struct lane *lane, uint64_t now_ns, bool avoid)
{
    const struct site *site = lane->site;
    uint32_t first = NONE, count = 0, turn;

    for (uint32_t i = 0; i < site->target_count; i++) {
        const struct site_target *target = &site->targets[i];

        if (!is_alive(lane, target, now_ns, avoid))
            continue;
        if (first == NONE)
            first = i;
        else if (target->preference != site->targets[first].preference)
            break;
        count++;
    }
    if (first == NONE)
        return NONE;
    turn = lane->target_turn++ % count;
    for (uint32_t i = first; i < site->target_count; i++) {
        if (is_alive(lane, &site->targets[i], now_ns, avoid) && turn-- == 0)
            return i;
    }
    must(false);
    return NONE;
}

uint32_t target_pick(struct lane *lane, uint64_t now_ns)
{
    uint32_t index = NONE;

    if (lane->avoided_until_ns > now_ns)
        index = lane_pick(lane, now_ns, true);
    return index == NONE ? lane_pick(lane, now_ns, false) : index;
}

void target_mark_dead(struct shard *shard, const struct connection *connection)
{
    struct lane *lane = connection->lane;
    struct site *site = lane->site;
    uint64_t now_ns = io_now_ns(shard->io), until_ns = now_ns + DEAD_TARGET_MS * 1000000ull;
    bool is_enough;

    for (uint32_t i = 0; i < site->target_count; i++) {
        struct site_target *target = &site->targets[i];

        if (!is_same_target(&target->at, &connection->target_at))
            continue;
        lane->unanswered_count += target->dead_until_ns <= now_ns;
        target->dead_until_ns = until_ns;
    }
    is_enough = lane->unanswered_count >= connection->queue->settings.mx_connection_attempts;
    for (uint32_t i = 0; i < site->target_count && is_enough; i++)
        site->targets[i].dead_until_ns = until_ns;
}

bool target_pass_by(struct shard *shard, struct connection *connection)
{
    struct site *site = connection->lane->site;
    uint64_t until_ns = io_now_ns(shard->io) + DEAD_TARGET_MS * 1000000ull;
    uint32_t host = NONE;

    for (uint32_t i = 0; i < site->target_count; i++)
        if (is_same_target(&site->targets[i].at, &connection->target_at))
            host = site->targets[i].host;
    for (uint32_t i = 0; i < site->target_count; i++)
        if (site->targets[i].host == host)
            site->targets[i].dead_until_ns = until_ns;
    connection->is_leaving = true;
    return target_pick(connection->lane, io_now_ns(shard->io)) != NONE;
}

void target_on_refused(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict)
{
    struct lane *lane = connection->lane;
    const struct conf_queue *settings = &connection->queue->settings;
    uint64_t now_ns = io_now_ns(shard->io);
    uint64_t rest_ms = fate_retry_delay_ms(settings, lane->refusal_count, io_rng(shard->io));

    lane->refusal_count++;
    lane->refused_until_ns = now_ns + rest_ms * 1000000;
    if (verdict->class != VERDICT_PERMANENT)
        return;
    lane->avoided = connection->target_at;
    lane->avoided_until_ns = now_ns + AVOID_TARGET_MS * 1000000ull;
    if (settings->bounce_upon_5xx_greeting)
        queues_fail_all(shard, connection->queue, verdict, 0);
}
