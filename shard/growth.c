#include "shard/growth.h"

#include "shard/shard_int.h"
#include "shard/standing.h"

#define BACKLOG_QUEUES  32  /* queues looked at to judge what waits */
#define STUCK_TIMES     4   /* what a recipient takes as a rule */
#define STUCK_COUNT_MAX 256 /* connections looked at to find those that hang */

static void on_span_over(struct io_timer *timer);
static void look_silent(struct shard *shard, struct lane *lane, bool is_late);
static void look_waiting(struct shard *shard, struct lane *lane, bool is_late);

static void watch_init(struct growth_watch *watch, struct shard *shard, uint64_t span_ms,
                       void (*look)(struct shard *shard, struct lane *lane, bool is_late))
{
    watch->shard = shard;
    watch->span_ns = span_ms * 1000000;
    watch->look = look;
    list_init(&watch->lanes);
    io_timer_init(&watch->timer, on_span_over);
}

void growth_init(struct shard *shard)
{
    watch_init(&shard->growth.silent, shard, DEMAND_SLOW_MS, look_silent);
    watch_init(&shard->growth.waiting, shard, GROWTH_STUCK_MS, look_waiting);
}

void growth_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->growth.silent.timer);
    io_timer_stop(shard->io, &shard->growth.waiting.timer);
}

/* Whether so many recipients wait at the lane, judged by its first queues. For a first connection
 * whoever stands there is looked at: those whose mail is shut (mail_slots.h) leave the line then,
 * and else nothing would serve the lane again. */
static bool has_backlog(const struct lane *lane, uint32_t needed)
{
    uint64_t backlog = 0;
    uint32_t looked_at = 0;

    if (lane->open_count == 0)
        return true;
    list_for_each (link, &lane->waiting) {
        struct queue *queue = container_of(link, struct queue, lane_link);
        uint32_t within =
            rates_within(lane->shard, queue, &lane->source, DEMAND_CLEAR_MS * 1000000ull);

        uint32_t open_count = ready_open_count(queue);

        backlog += open_count < within ? open_count : within;
        if (backlog >= needed)
            return true;
        if (++looked_at == BACKLOG_QUEUES)
            break;
    }
    return false;
}

/* Connections that can be reckoned with. Where none is left it still counts as one: how fast the
 * first may be followed is not for hanging ones to say. */
static uint32_t working_count(const struct lane *lane)
{
    return lane->open_count > lane->stuck_count ? lane->open_count - lane->stuck_count
                                                : lane->open_count > 0;
}

bool growth_is_wanted(struct lane *lane, uint64_t now_ns)
{
    uint32_t open_count = working_count(lane);
    uint32_t needed =
        demand_backlog_needed(&lane->demand, now_ns, open_count, lane->connecting_count);

    return needed != UINT32_MAX && has_backlog(lane, needed) &&
           demand_may_open(&lane->demand, now_ns, open_count, lane->connecting_count);
}

bool growth_is_surplus(const struct lane *lane)
{
    return demand_is_surplus(&lane->demand, working_count(lane));
}

/* ---- By the clock ---------------------------------------------------------------------------- */

static void watch(struct growth_watch *watch, struct lane *lane)
{
    lane->watched_since_ns = io_now_ns(watch->shard->io);
    list_push_back(&watch->lanes, &lane->watch_link);
    if (!io_timer_is_armed(&watch->timer))
        io_timer_arm(watch->shard->io, &watch->timer, lane->watched_since_ns + watch->span_ns);
}

void growth_on_start(struct shard *shard, struct lane *lane)
{
    const struct demand *demand = &lane->demand;

    if (!demand->has_served && demand->on_credit == 0 && list_empty(&lane->watch_link))
        watch(&shard->growth.silent, lane);
}

void growth_on_wait(struct shard *shard, struct lane *lane)
{
    if (list_empty(&lane->watch_link))
        watch(&shard->growth.waiting, lane);
}

static void look_silent(struct shard *shard, struct lane *lane, bool is_late)
{
    struct demand *demand = &lane->demand;
    bool has_connection = lane->open_count > lane->connecting_count;

    if (has_connection && !demand->has_served && !is_late) {
        demand_on_silence(demand);
        lane_serve_later(lane);
    }
    if (has_connection && !demand->has_served &&
        (is_late || (demand->on_credit > 0 && demand->on_credit < DEMAND_SILENT_MAX)))
        watch(&shard->growth.silent, lane);
    else if (!list_empty(&lane->waiting))
        watch(&shard->growth.waiting, lane);
}

/* Connections that have been at one message for so long. */
static uint32_t count_stuck(const struct lane *lane, uint64_t before_ns)
{
    uint32_t looked_at = 0, count = 0;

    list_for_each (link, &lane->busy) {
        const struct connection *connection = container_of(link, struct connection, link);

        count += connection->is_ready && connection->busy_since_ns <= before_ns;
        if (++looked_at == STUCK_COUNT_MAX)
            break;
    }
    return count;
}

static void look_waiting(struct shard *shard, struct lane *lane, bool is_late)
{
    uint64_t stuck_ns = shard->growth.waiting.span_ns;

    /* Where messages take their time, a long one does not hang. */
    if (stuck_ns < STUCK_TIMES * lane->demand.rcpt_ns)
        stuck_ns = STUCK_TIMES * lane->demand.rcpt_ns;
    lane->stuck_count = 0;
    if (!is_late && !list_empty(&lane->waiting))
        lane->stuck_count = count_stuck(lane, io_now_ns(shard->io) - stuck_ns);
    standing_recount(lane);
    if (list_empty(&lane->waiting) || lane->open_count == 0)
        return;
    if (lane->stuck_count > 0)
        lane_serve_later(lane);
    watch(&shard->growth.waiting, lane);
}

static void on_span_over(struct io_timer *timer)
{
    struct growth_watch *watch = container_of(timer, struct growth_watch, timer);
    uint64_t now_ns = io_now_ns(watch->shard->io);

    while (!list_empty(&watch->lanes)) {
        struct lane *lane = container_of(watch->lanes.next, struct lane, watch_link);
        uint64_t end_ns = lane->watched_since_ns + watch->span_ns;

        if (end_ns > now_ns) {
            io_timer_arm(watch->shard->io, timer, end_ns);
            return;
        }
        list_remove(&lane->watch_link);
        /* A look that comes much later than that: this process stood still, and whoever was silent
         * is not known. */
        watch->look(watch->shard, lane, now_ns - end_ns >= watch->span_ns / 2);
    }
}
