/*
 * The turn of the lanes: queues in line are given idle connections, or connections are opened.
 *
 * Something is asked for before a queue may go (tokens of rates, slots of limits, a warm-up's
 * grant), in the order of what is dearest to keep; what was had and cannot be used yet is kept for
 * as long as the rest takes to come, and no longer.
 */
#include "shard/serve.h"

#include "shard/shard_int.h"
#include "shard/standing.h"

#define NO_ROOM_WAIT_MS  1000
#define QUEUES_LOOKED_AT 32 /* for one that may open a connection */
/* How long a lane keeps slots when it was told of a token whose time is to come. */
#define CALLED_MS        (MINT_EARLY_NS / 1000000 + PARKED_MS)
/* A lane that has its slots keeps them so long for a probe's connection that it has asked for: what
 * is lent to it does not wait for slots either, and the two must meet. */
#define ORDER_WAIT_MS    200

/* The idle connection that is to serve the queue, which is in line; NULL when one is being opened
 * for it (it is out of the line then), or there is none any more. */
static struct connection *idle_for(struct shard *shard, struct lane *lane, struct queue *queue)
{
    list_for_each (link, &lane->idle) {
        struct connection *connection = container_of(link, struct connection, link);

        /* Where only the source counts, the right one is this lane's, or cannot be had. */
        if (doubt_target(shard, queue) == NONE || doubt_fits(shard, queue, connection))
            return connection;
    }
    if (lane->refused_until_ns <= io_now_ns(shard->io) &&
        rate_allowed(&queue->connect_rate, io_now_ns(shard->io)) > 0 &&
        rates_admit_connection(shard, queue, lane) && orders_admit(shard, lane) &&
        standing_claim(shard, lane) && site_open(shard, lane, queue) == LANE_OPENED) {
        lane_step_out(queue);
        return NULL;
    }
    /* While the claim was tried, the last idle one may have made room for somebody. */
    if (list_empty(&lane->idle))
        return NULL;
    return container_of(lane->idle.next, struct connection, link);
}

/* Whether the queue in line, whose turn it is, may send; else it is out of the line, or in it or
 * another again. */
static bool may_start(struct shard *shard, struct lane *lane, struct queue *queue)
{
    bool had_turn = rates_has_turn(queue);

    if (!rates_admit(shard, queue) || !warm_admit(shard, lane, queue) ||
        !mail_slots_admit(shard, queue, &lane->source))
        return false;
    if (rates_get_token(shard, queue, &lane->source))
        return true;
    lane->token_asked_ns = io_now_ns(shard->io);
    if (had_turn && purse_is_asked_elsewhere(queue))
        lane_await(lane, queue, lane->token_asked_ns);
    return false;
}

/* One queue of the line on one idle connection. False when nothing more can start now. */
static bool start_one(struct shard *shard, struct lane *lane)
{
    bool is_express;
    struct queue *queue = lane_next(lane, &is_express);
    struct connection *connection;

    if (lane_sent_on(shard, lane, queue))
        return true;
    if (queue->connection_count >= queue->settings.max_smtp_out) {
        lane_hold(shard, queue, is_express);
        return true;
    }
    if (!may_start(shard, lane, queue))
        return true;
    connection = idle_for(shard, lane, queue);
    if (!connection)
        return true;
    io_timer_stop(shard->io, &connection->idle_timer);
    lease_slots_busy(&connection->slots);
    connection->busy_since_ns = io_now_ns(shard->io);
    /* Its message may turn out not to go, and the connection be idle again, before this returns. */
    list_remove(&connection->link);
    list_push_back(&lane->busy, &connection->link);
    if (!deliver_start(shard, connection, queue)) {
        queues_set_reason(shard, queue, WAIT_MEMORY);
        shard->is_starved = true;
        if (site_connection_is_usable(connection))
            site_connection_idle(shard, connection);
        return false;
    }
    /* It was held back, and the connection is idle again: on with the next one next turn. */
    if (!connection->queue) {
        if (!list_empty(&queue->lane_link))
            lane_turn_over(shard, queue, is_express);
        return false;
    }
    growth_on_start(shard, lane);
    lane->has_awaited = false;
    lane_turn_over(shard, queue, is_express);
    return true;
}

/* Nothing of this lane is under way that would serve it again, so its queues must come back by
 * themselves. */
static void put_off(struct shard *shard, struct lane *lane, enum lane_opened cause)
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
    while ((link = list_pop_front(&lane->waiting))) {
        struct queue *queue = container_of(link, struct queue, lane_link);

        lane_step_out(queue);
        queues_wait(shard, queue, NO_ROOM_WAIT_MS, cause == LANE_NO_LOG ? WAIT_DISK : WAIT_MEMORY);
    }
}

/* Slots come before the token: while it stands in line for them it asks for none, which would be
 * past by then and kept from those who could use it. */
static bool claims_first(const struct lane *lane, uint64_t now_ns)
{
    return lease_claim_is_in_line(&lane->claim) || lane->called_until_ns > now_ns;
}

/*
 * The first in line that may open a connection now, or when the lane has slots; NULL when none of
 * the first ones may, and then the lane is served again as soon as one does.
 */
static struct queue *next_to_connect(struct shard *shard, struct lane *lane, uint64_t now_ns)
{
    uint64_t may_ns = UINT64_MAX;
    uint32_t looked_at = 0;

    list_for_each (link, &lane->waiting) {
        struct queue *queue = container_of(link, struct queue, lane_link);

        if (lane_sent_on(shard, lane, queue))
            continue;
        if (queue->connection_count >= queue->settings.max_smtp_out) {
            lane_hold(shard, queue, false);
            continue;
        }
        if (!mail_slots_admit(shard, queue, &lane->source))
            continue;
        if (rate_allowed(&queue->connect_rate, now_ns) == 0) {
            queues_set_reason(shard, queue, WAIT_CONNECT_RATE);
            if (rate_due_ns(&queue->connect_rate) < may_ns)
                may_ns = rate_due_ns(&queue->connect_rate);
        } else if (claims_first(lane, now_ns) || rates_admit_connection(shard, queue, lane)) {
            return queue;
        } else {
            queues_set_reason(shard, queue, WAIT_LIMIT_RATE);
        }
        if (++looked_at == QUEUES_LOOKED_AT)
            break;
    }
    if (may_ns != UINT64_MAX)
        io_timer_arm(shard->io, &lane->connect_timer, may_ns);
    return NULL;
}

static void open_more(struct shard *shard, struct lane *lane)
{
    uint64_t now_ns = io_now_ns(shard->io);
    enum lane_opened opened = LANE_OPENED;

    if (lane->refused_until_ns > now_ns)
        return;
    /* A lane that has connections serves by these what must not wait. */
    lease_claim_hurry(shard, &lane->claim, lane->open_count == 0 && !list_empty(&lane->express),
                      lane_rank(lane));
    while (!list_empty(&lane->waiting) && opened == LANE_OPENED &&
           (lease_claim_is_begun(&lane->claim) || growth_is_wanted(lane, now_ns))) {
        struct queue *queue = next_to_connect(shard, lane, now_ns);

        if (!queue)
            break;
        if (claims_first(lane, now_ns) && !standing_claim(shard, lane)) {
            queues_set_reason(shard, queue, WAIT_LIMIT);
            break;
        }
        /* They are not short: it has them when it needs them, and others may meanwhile. */
        if (now_ns < lane->called_ns + PARKED_MS * 1000000ull)
            lane->called_until_ns = 0;
        if (!rates_admit_connection(shard, queue, lane)) {
            queues_set_reason(shard, queue, WAIT_LIMIT_RATE);
            break;
        }
        if (!orders_admit(shard, lane)) {
            queues_set_reason(shard, queue, WAIT_ORDER);
            break;
        }
        if (!standing_claim(shard, lane)) {
            queues_set_reason(shard, queue, WAIT_LIMIT);
            break;
        }
        queues_set_reason(shard, queue, WAIT_CONNECTING);
        opened = site_open(shard, lane, queue);
    }
    if (opened == LANE_NO_TARGET || opened == LANE_NO_ROOM)
        put_off(shard, lane, opened);
}

/* Nothing waits for the lane's idle connections: they may make room for others. */
static void note_idle(struct shard *shard, struct lane *lane)
{
    uint64_t now_ns = io_now_ns(shard->io), wait_ns = TOKEN_WAIT_MS * 1000000ull;
    bool awaits_token = lane->token_asked_ns != 0 && lane->token_asked_ns + wait_ns > now_ns;

    list_for_each (link, &lane->idle) {
        struct connection *connection = container_of(link, struct connection, link);

        /* A token that is under way should find it; not for ever, others wait for its slot. */
        if (awaits_token && connection->busy_since_ns + wait_ns > now_ns)
            io_timer_arm(shard->io, &lane->connect_timer, connection->busy_since_ns + wait_ns);
        else if (!lease_slots_idle(shard, &connection->slots))
            break;
    }
    lease_make_room(shard, &lane->claim);
    demand_on_idle(&lane->demand);
}

/* For how long the lane keeps slots that it cannot use yet: what it lacks is on its way. */
static uint64_t keep_ms_of(struct shard *shard, struct lane *lane)
{
    if (!lease_claim_is_begun(&lane->claim))
        return 0;
    if (orders_is_asking(shard, lane))
        return ORDER_WAIT_MS;
    if (list_empty(&lane->purse_link))
        return 0;
    return lane->called_until_ns > io_now_ns(shard->io) ? CALLED_MS : PARKED_MS;
}

/* Whether the claim, which is for those in line, stands in line itself, or has slots to keep. */
static bool keeps_claim(struct shard *shard, struct lane *lane)
{
    bool is_in_line = lease_claim_is_in_line(&lane->claim);
    uint64_t now_ns = io_now_ns(shard->io), end_ns;
    uint64_t keep_ms = is_in_line ? 0 : keep_ms_of(shard, lane);

    if (keep_ms > 0 && lane->kept_since_ns == 0)
        lane->kept_since_ns = now_ns;
    end_ns = lane->kept_since_ns + keep_ms * 1000000;
    if (keep_ms == 0 || end_ns <= now_ns) {
        lane->kept_since_ns = 0;
        return is_in_line;
    }
    io_timer_arm(shard->io, &lane->connect_timer, end_ns);
    return true;
}

static void serve_lane(struct shard *shard, struct lane *lane)
{
    /* While connections stand they serve what is in line here; then other sources do. */
    if (lane->refused_until_ns > io_now_ns(shard->io) && lane->open_count == 0)
        lane_park(shard, lane, lane->refused_until_ns);
    if (shard_holds_deliveries(shard)) {
        put_off(shard, lane, LANE_NO_LOG);
    } else {
        while (!list_empty(&lane->waiting) && !list_empty(&lane->idle) &&
               !lane_awaits(lane, io_now_ns(shard->io)))
            if (!start_one(shard, lane))
                return;
        if (!list_empty(&lane->idle))
            note_idle(shard, lane);
        else if (!list_empty(&lane->waiting) && !shard->stopping)
            open_more(shard, lane);
        if (!list_empty(&lane->waiting) && list_empty(&lane->idle))
            growth_on_wait(shard, lane);
    }
    if (list_empty(&lane->waiting))
        purse_leave_lane(lane);
    if (list_empty(&lane->waiting) || !keeps_claim(shard, lane))
        lease_claim_cancel(shard, &lane->claim);
    if (lane_awaits(lane, io_now_ns(shard->io)))
        io_timer_arm(shard->io, &lane->connect_timer, lane->awaited_until_ns);
    lane_release(shard, lane);
}

void serve_turn(struct shard *shard)
{
    struct list batch, *link;

    mail_slots_turn(shard);
    purse_turn(shard);
    /* A lane that asks to be served again while it is served has its next chance next turn. */
    list_init(&batch);
    shard->is_starved = false;
    while ((link = list_pop_front(&shard->lanes_to_serve)))
        list_push_back(&batch, link);
    while ((link = list_pop_front(&batch)))
        serve_lane(shard, container_of(link, struct lane, serve_link));
}
