/*
 * When a lane gets one connection more: what waits there is counted, policy/demand.h decides. And
 * lanes whose first message is not answered yet are looked at while the silence lasts.
 */
#include "shard/shard_int.h"

#define BACKLOG_QUEUES 32 /* queues looked at to judge what waits */
#define SILENCE_NS     (DEMAND_SLOW_MS * 1000000ull)
/* A look that comes later than that: this process stood still, and whoever was silent is not known.
 */
#define LATE_NS        (SILENCE_NS / 2)

static void on_silence(struct io_timer *timer);

void growth_init(struct shard *shard)
{
    list_init(&shard->silent_lanes);
    io_timer_init(&shard->silence_timer, on_silence);
}

void growth_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->silence_timer);
}

/* Whether so many recipients wait at the lane, judged by its first queues. */
static bool has_backlog(const struct lane *lane, uint32_t needed)
{
    uint32_t backlog = 0, looked_at = 0;

    list_for_each (link, &lane->waiting) {
        backlog += container_of(link, struct queue, lane_link)->ready_count;
        if (backlog >= needed)
            return true;
        if (++looked_at == BACKLOG_QUEUES)
            break;
    }
    return false;
}

bool growth_is_wanted(struct lane *lane, uint64_t now_ns)
{
    uint32_t needed =
        demand_backlog_needed(&lane->demand, now_ns, lane->open_count, lane->connecting_count);

    return needed != UINT32_MAX && has_backlog(lane, needed) &&
           demand_may_open(&lane->demand, now_ns, lane->open_count, lane->connecting_count);
}

/* ---- Silence --------------------------------------------------------------------------------- */

static void watch(struct shard *shard, struct lane *lane)
{
    lane->silent_since_ns = io_now_ns(shard->io);
    list_push_back(&shard->silent_lanes, &lane->silent_link);
    if (!io_timer_is_armed(&shard->silence_timer))
        io_timer_arm(shard->io, &shard->silence_timer, lane->silent_since_ns + SILENCE_NS);
}

void growth_on_start(struct shard *shard, struct lane *lane)
{
    const struct demand *demand = &lane->demand;

    if (!demand->has_served && demand->on_credit == 0 && list_empty(&lane->silent_link))
        watch(shard, lane);
}

/* Nothing was answered for so long, or the lane is watched no more. */
static void look(struct shard *shard, struct lane *lane, uint64_t silent_ns)
{
    struct demand *demand = &lane->demand;

    list_remove(&lane->silent_link);
    if (demand->has_served || lane->open_count == lane->connecting_count)
        return;
    if (silent_ns < SILENCE_NS + LATE_NS) {
        demand_on_silence(demand);
        if (demand->on_credit == 0)
            return;
        site_serve_later(lane);
    }
    if (demand->on_credit < DEMAND_SILENT_MAX)
        watch(shard, lane);
}

static void on_silence(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, silence_timer);
    uint64_t now_ns = io_now_ns(shard->io);

    while (!list_empty(&shard->silent_lanes)) {
        struct lane *lane = container_of(shard->silent_lanes.next, struct lane, silent_link);

        if (lane->silent_since_ns + SILENCE_NS > now_ns) {
            io_timer_arm(shard->io, timer, lane->silent_since_ns + SILENCE_NS);
            return;
        }
        look(shard, lane, now_ns - lane->silent_since_ns);
    }
}
