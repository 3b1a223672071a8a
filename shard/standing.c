#include "shard/standing.h"

#define PATIENCE_NS (STANDING_PATIENCE_MS * 1000000ull)
#define LOOK_NS     (50 * 1000000ull)
#define LOOKS       20 /* for all connections */
#define LOOK_MAX    4096

static void on_look(struct io_timer *timer);

void standing_init(struct shard *shard)
{
    io_timer_init(&shard->leases.look_timer, on_look);
}

void standing_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->leases.look_timer);
}

/* The kind of the next connection. */
static enum quota_kind next_kind(const struct lane *lane)
{
    return lane->standing == QUOTA_NEW && lane->open_count > 0 ? QUOTA_SLOW : lane->standing;
}

void standing_set(struct lane *lane, enum quota_kind kind)
{
    lane->standing = (uint8_t)kind;
    lease_claim_rank(lane->shard, &lane->claim, next_kind(lane));
}

void standing_recount(struct lane *lane)
{
    uint32_t stuck_count = lane->stuck_count;

    if (stuck_count > lane->open_count)
        stuck_count = lane->open_count;
    lease_claim_count(&lane->claim, lane->open_count - stuck_count);
}

bool standing_claim(struct shard *shard, struct lane *lane)
{
    standing_recount(lane);
    lease_claim_rank(shard, &lane->claim, next_kind(lane));
    if (lease_claim_try(shard, &lane->claim))
        return true;
    if (!io_timer_is_armed(&shard->leases.look_timer))
        io_timer_arm(shard->io, &shard->leases.look_timer, io_now_ns(shard->io) + LOOK_NS);
    return false;
}

void standing_on_served(struct connection *connection, uint64_t now_ns)
{
    bool is_soon = now_ns - connection->busy_since_ns <= PATIENCE_NS;
    enum quota_kind kind = QUOTA_SLOW;

    if (is_soon &&
        (connection->slots.kind == QUOTA_PROVED || now_ns - connection->opened_ns <= PATIENCE_NS))
        kind = QUOTA_PROVED;
    lease_slots_rank(connection->shard, &connection->slots, kind);
    standing_set(connection->lane, kind);
}

/* ---- Who makes us wait ----------------------------------------------------------------------- */

static void look(struct shard *shard, struct connection *connection, uint64_t now_ns)
{
    bool is_opening = !connection->is_ready && !connection->is_closed;

    if ((!is_opening && !connection->delivery) || now_ns - connection->busy_since_ns <= PATIENCE_NS)
        return;
    if (connection->slots.kind != QUOTA_SLOW) {
        lease_slots_rank(shard, &connection->slots, QUOTA_SLOW);
        standing_set(connection->lane, QUOTA_SLOW);
    }
    if (is_opening && lease_slots_must_yield(&connection->slots))
        smtpc_abort(connection->smtpc);
}

static void on_look(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, leases.look_timer);
    uint32_t count = shard->connections.count_grown, looks = (count + LOOKS - 1) / LOOKS;

    for (uint32_t i = 0; i < looks && i < LOOK_MAX; i++) {
        uint32_t at = shard->leases.look_turn++ % count;

        if (slab_is_live(&shard->connections, at))
            look(shard, slab_at(&shard->connections, at), io_now_ns(shard->io));
    }
    lease_look(shard);
    if (shard->leases.claims_waiting > 0)
        io_timer_arm(shard->io, timer, io_now_ns(shard->io) + LOOK_NS);
}

bool standing_has_yielded(const struct connection *connection)
{
    return !connection->is_ready && connection->slots.is_closing;
}
