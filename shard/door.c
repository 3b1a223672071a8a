/* How a connection comes to its session: over to the shard with less to do, past those who know of
 * slots, and through a wait for its place. */
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Connections accepted by one shard that are on their way or wait. One more begins where it came
 * in, and is refused should there be no slot at hand. */
#define ARRIVALS_MAX 256
/* How often who waits looks for a place that became free elsewhere. */
#define LOOK_NS      (100 * 1000000ull)
#define HOLD_NS      (300 * 1000000000ull)

static void on_slot_answer(struct shard *shard);
static void on_look(struct io_timer *timer);

void door_init(struct shard *shard)
{
    slab_init(&shard->door.arrivals, sizeof(struct arrival), ARRIVALS_MAX);
    list_init(&shard->door.waiting);
    list_init(&shard->door.held);
    io_timer_init(&shard->door.timer, on_look);
    shard->leases.session_answered = on_slot_answer;
}

void door_fini(struct shard *shard)
{
    io_timer_stop(shard->io, &shard->door.timer);
    slab_fini(&shard->door.arrivals);
}

/* ---- How many sessions ----------------------------------------------------------------------- */

static uint32_t load_of(const struct shard *shard, uint16_t at)
{
    return atomic_load_explicit(&shard->wiring.loads[at].session_count, memory_order_relaxed);
}

static void load_add(struct shard *shard, uint16_t at)
{
    atomic_fetch_add_explicit(&shard->wiring.loads[at].session_count, 1, memory_order_relaxed);
}

static void load_drop(struct shard *shard)
{
    uint32_t before = atomic_fetch_sub_explicit(&shard->wiring.loads[shard->number].session_count,
                                                1, memory_order_relaxed);

    must(before > 0);
}

bool door_enter(struct shard *shard, const struct conf_source *source, struct guest *ret_guest)
{
    if (!guests_enter(shard->wiring.guests, shard->conf, source->group_id, ret_guest))
        return false;
    if (!lease_session_take(shard)) {
        guests_leave(shard->wiring.guests, *ret_guest);
        return false;
    }
    load_add(shard, shard->number);
    return true;
}

void door_leave(struct shard *shard, struct guest guest)
{
    load_drop(shard);
    lease_session_release(shard);
    guests_leave(shard->wiring.guests, guest);
    /* Not now: this is a session's last call. */
    if (!list_empty(&shard->door.held))
        io_timer_arm(shard->io, &shard->door.timer, io_now_ns(shard->io));
}

bool door_is_idle(const struct shard *shard)
{
    return shard->door.arrivals.count_used == 0;
}

/*
 * The shard with the fewest sessions, when a move is worth it: when the difference is more than an
 * eighth of what is here. Who looks from different places finds different ones of equals first, so
 * that not everybody's surplus goes to one.
 */
static uint16_t better_place(const struct shard *shard)
{
    uint32_t here = load_of(shard, shard->number);
    uint32_t fewest = here - here / 8;
    uint16_t best = shard->number;

    for (uint16_t i = 1; i < shard->count && fewest > 0; i++) {
        uint16_t at = (uint16_t)((shard->number + i) % shard->count);
        uint32_t there = load_of(shard, at);

        if (there >= fewest)
            continue;
        fewest = there;
        best = at;
    }
    return best;
}

/* ---- Arrivals -------------------------------------------------------------------------------- */

/* Where it was accepted: its session has begun, here or elsewhere, or there is no room for it. */
static void finish(struct shard *shard, struct arrival *arrival)
{
    if (arrival->fd >= 0)
        io_close_now(shard->io, arrival->fd);
    slab_free(&shard->door.arrivals, arrival->index);
}

/* As far as its source group goes. One that is gone finds its end anywhere. */
static bool group_has_place(const struct shard *shard, int fd, const char *listener_source)
{
    struct ipaddr_port peer;

    return io_peer_address(shard->io, fd, &peer) < 0 ||
           guests_have_place(shard->wiring.guests, shard->conf,
                             conf_source(shard->conf, &peer.ip, listener_source)->group_id);
}

/* Whether the connection's session would find no place, and its listener lets it wait. */
static bool must_wait(struct shard *shard, int fd, const char *listener_source)
{
    struct ipaddr_port local;

    if (shard->stopping ||
        (lease_session_has_place(shard) && group_has_place(shard, fd, listener_source)))
        return false;
    return io_local_address(shard->io, fd, &local) >= 0 && conf_awaits_slot(shard->conf, &local);
}

static bool must_hold(struct shard *shard, const struct arrival *arrival)
{
    if (arrival->held_since_ns > 0 && io_now_ns(shard->io) - arrival->held_since_ns >= HOLD_NS)
        return false;
    return must_wait(shard, arrival->fd, arrival->source_name);
}

static void hold(struct shard *shard, struct arrival *arrival)
{
    if (arrival->held_since_ns > 0)
        list_push_front(&shard->door.held, &arrival->link);
    else
        list_push_back(&shard->door.held, &arrival->link);
    if (arrival->held_since_ns == 0)
        arrival->held_since_ns = io_now_ns(shard->io);
    if (!io_timer_is_armed(&shard->door.timer))
        io_timer_arm(shard->io, &shard->door.timer, io_now_ns(shard->io) + LOOK_NS);
}

static void begin(struct shard *shard, struct arrival *arrival)
{
    if (must_hold(shard, arrival)) {
        hold(shard, arrival);
        return;
    }
    if (!planted("shard/move-counted-twice"))
        load_drop(shard);
    if (smtpd_adopt(shard->smtpd, arrival->fd, arrival->source_name))
        arrival->fd = -1;
    if (arrival->home == shard->number) {
        finish(shard, arrival);
        return;
    }
    arrival->parcel.kind = SHARD_ARRIVAL_RETURN;
    shard_post(shard, arrival->home, &arrival->parcel);
}

static void on_slot_answer(struct shard *shard)
{
    begin(shard, container_of(list_pop_front(&shard->door.waiting), struct arrival, link));
}

void door_on_arrival(struct shard *shard, struct arrival *arrival)
{
    if (!lease_session_must_wait(shard)) {
        begin(shard, arrival);
        return;
    }
    list_push_back(&shard->door.waiting, &arrival->link);
    lease_session_wait(shard);
}

/* One question at a time: whether another shard has a slot. */
static void ask_elsewhere(struct shard *shard)
{
    list_for_each (node, &shard->door.held) {
        struct arrival *arrival = container_of(node, struct arrival, link);

        if (!group_has_place(shard, arrival->fd, arrival->source_name))
            continue;
        list_remove(node);
        door_on_arrival(shard, arrival);
        return;
    }
}

/* Those of other groups need not wait for the first one's place. */
static void on_look(struct io_timer *timer)
{
    struct door *door = container_of(timer, struct door, timer);
    struct shard *shard = container_of(door, struct shard, door);
    struct list still;

    list_init(&still);
    for (struct list *node; (node = list_pop_front(&door->held)) != NULL;) {
        struct arrival *arrival = container_of(node, struct arrival, link);

        if (must_hold(shard, arrival))
            list_push_back(&still, node);
        else
            begin(shard, arrival);
    }
    for (struct list *node; (node = list_pop_front(&still)) != NULL;)
        list_push_back(&door->held, node);
    if (list_empty(&door->held))
        return;
    io_timer_arm(shard->io, timer, io_now_ns(shard->io) + LOOK_NS);
    if (lease_session_must_wait(shard) && list_empty(&door->waiting))
        ask_elsewhere(shard);
}

void door_on_arrival_return(struct shard *shard, struct arrival *arrival)
{
    if (arrival->fd < 0) {
        shard->totals.sessions_moved++;
        finish(shard, arrival);
        return;
    }
    /* There was no room for it there. */
    arrival->parcel.kind = SHARD_ARRIVAL;
    load_add(shard, shard->number);
    door_on_arrival(shard, arrival);
}

bool door_arrive(void *taker, int fd, const char *listener_source)
{
    struct shard *shard = taker;
    uint16_t to = better_place(shard);
    bool is_simple = to == shard->number && !lease_session_must_wait(shard) &&
                     !must_wait(shard, fd, listener_source);
    struct arrival *arrival;
    uint32_t index;

    arrival = is_simple ? NULL : slab_alloc(&shard->door.arrivals, &index);
    if (!arrival)
        return false;
    arrival->parcel.kind = SHARD_ARRIVAL;
    list_init(&arrival->link);
    arrival->source_name = listener_source;
    arrival->index = index;
    arrival->home = shard->number;
    arrival->held_since_ns = 0;
    arrival->fd = fd;
    load_add(shard, to);
    if (to == shard->number)
        door_on_arrival(shard, arrival);
    else
        shard_post(shard, to, &arrival->parcel);
    return true;
}

/* ---- The audit ------------------------------------------------------------------------------- */

static uint32_t arrivals_here(const struct shard *shard)
{
    uint32_t sum = 0;

    /* Mostly there are none, and this is looked at after every step. */
    const struct slab *arrivals = &shard->door.arrivals;

    for (uint32_t i = 0; arrivals->count_used > 0 && i < arrivals->count_grown; i++)
        if (slab_is_live(arrivals, i))
            sum += ((const struct arrival *)slab_at(arrivals, i))->parcel.kind == SHARD_ARRIVAL;
    return sum;
}

const char *door_audit(struct shard *const *shards, uint16_t count)
{
    uint32_t sessions = 0;
    uint32_t loads = 0;
    uint32_t admitted = 0;

    for (uint16_t i = 0; i < count; i++) {
        struct smtpd_stats stats;

        smtpd_stats_read(shards[i]->smtpd, &stats);
        sessions += stats.sessions_admitted;
        admitted += stats.sessions_admitted;
        loads += load_of(shards[i], i);
        if (!lease_session_audit(shards[i], stats.sessions_admitted))
            return "sessions are not those that hold slots";
        sessions += arrivals_here(shards[i]);
    }
    if (guests_count(shards[0]->wiring.guests) != admitted)
        return "sessions are not those that have places";
    return loads != sessions ? "sessions and arrivals are not those that are counted" : NULL;
}
