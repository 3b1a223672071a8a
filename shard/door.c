/*
 * Where injectors' connections come in, on which shard and whether at all.
 *
 * SO_REUSEPORT deals them out by a hash, which for few of them is anything but even (84 of 100 on
 * one of two shards was seen), and a session stays where it began: so a connection whose session
 * would begin on a shard that has clearly more of them than another goes there instead, before a
 * word is said. Where it finds no slot of total-max-smtp-in at hand it waits until every shard was
 * asked for one (lease.h).
 */
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Connections accepted by one shard that are on their way or wait. One more begins where it came
 * in, and is refused should there be no slot at hand. */
#define ARRIVALS_MAX 256

static void on_slot_answer(struct shard *shard);

void door_init(struct shard *shard)
{
    slab_init(&shard->arrivals, sizeof(struct arrival), ARRIVALS_MAX);
    list_init(&shard->arrivals_waiting);
    shard->leases.session_answered = on_slot_answer;
}

void door_fini(struct shard *shard)
{
    slab_fini(&shard->arrivals);
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

bool door_enter(struct shard *shard)
{
    if (!lease_session_take(shard))
        return false;
    load_add(shard, shard->number);
    return true;
}

void door_leave(struct shard *shard)
{
    load_drop(shard);
    lease_session_release(shard);
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
    slab_free(&shard->arrivals, arrival->index);
}

static void begin(struct shard *shard, struct arrival *arrival)
{
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
    begin(shard, container_of(list_pop_front(&shard->arrivals_waiting), struct arrival, link));
}

void door_on_arrival(struct shard *shard, struct arrival *arrival)
{
    if (!lease_session_must_wait(shard)) {
        begin(shard, arrival);
        return;
    }
    list_push_back(&shard->arrivals_waiting, &arrival->link);
    lease_session_wait(shard);
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
    bool is_simple = to == shard->number && !lease_session_must_wait(shard);
    struct arrival *arrival;
    uint32_t index;

    arrival = is_simple ? NULL : slab_alloc(&shard->arrivals, &index);
    if (!arrival)
        return false;
    arrival->parcel.kind = SHARD_ARRIVAL;
    list_init(&arrival->link);
    arrival->source_name = listener_source;
    arrival->index = index;
    arrival->home = shard->number;
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
    for (uint32_t i = 0; shard->arrivals.count_used > 0 && i < shard->arrivals.count_grown; i++)
        if (slab_is_live(&shard->arrivals, i))
            sum += ((const struct arrival *)slab_at(&shard->arrivals, i))->parcel.kind ==
                   SHARD_ARRIVAL;
    return sum;
}

const char *door_audit(struct shard *const *shards, uint16_t count)
{
    uint32_t sessions = 0;
    uint32_t loads = 0;

    for (uint16_t i = 0; i < count; i++) {
        struct smtpd_stats stats;

        smtpd_stats_read(shards[i]->smtpd, &stats);
        sessions += stats.sessions_admitted;
        loads += load_of(shards[i], i);
        if (!lease_session_audit(shards[i], stats.sessions_admitted))
            return "sessions are not those that hold slots";
        sessions += arrivals_here(shards[i]);
    }
    return loads != sessions ? "sessions and arrivals are not those that are counted" : NULL;
}
