/*
 * Where injectors' connections come in. SO_REUSEPORT deals them out by a hash, which for few of
 * them is anything but even (84 of 100 on one of two shards was seen), and a session stays where it
 * began: so a connection whose session would begin on a shard that has clearly more of them than
 * another goes there instead, before a word is said.
 */
#include "shard/planted.h"
#include "shard/shard_int.h"

/* Connections that one shard has on their way to others; one more begins where it came in. */
#define ARRIVALS_MAX 256

void door_init(struct shard *shard)
{
    slab_init(&shard->arrivals, sizeof(struct arrival), ARRIVALS_MAX);
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

void door_enter(struct shard *shard)
{
    load_add(shard, shard->number);
}

void door_leave(struct shard *shard)
{
    load_drop(shard);
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

const char *door_audit(struct shard *const *shards, uint16_t count)
{
    uint32_t sessions = 0;
    uint32_t loads = 0;

    for (uint16_t i = 0; i < count; i++) {
        struct smtpd_stats stats;

        smtpd_stats_read(shards[i]->smtpd, &stats);
        sessions += stats.sessions_now;
        loads += load_of(shards[i], i);
        for (uint32_t j = 0; j < shards[i]->arrivals.count_grown; j++)
            if (slab_is_live(&shards[i]->arrivals, j))
                sessions += ((const struct arrival *)slab_at(&shards[i]->arrivals, j))->fd >= 0;
    }
    /* A session that is refused, or whose descriptor was brought home, counts for nobody. */
    return loads > sessions ? "more sessions are counted than there are" : NULL;
}

/* ---- Moving ---------------------------------------------------------------------------------- */

bool door_arrive(void *taker, int fd, const char *listener_source)
{
    struct shard *shard = taker;
    uint16_t to = better_place(shard);
    struct arrival *arrival;
    uint32_t index;

    arrival = to == shard->number ? NULL : slab_alloc(&shard->arrivals, &index);
    if (!arrival)
        return false;
    arrival->parcel.kind = SHARD_ARRIVAL;
    arrival->source_name = listener_source;
    arrival->index = index;
    arrival->home = shard->number;
    arrival->fd = fd;
    load_add(shard, to);
    shard_post(shard, to, &arrival->parcel);
    return true;
}

void door_on_arrival(struct shard *shard, struct arrival *arrival)
{
    if (!planted("shard/move-counted-twice"))
        load_drop(shard);
    if (smtpd_adopt(shard->smtpd, arrival->fd, arrival->source_name))
        arrival->fd = -1;
    arrival->parcel.kind = SHARD_ARRIVAL_RETURN;
    shard_post(shard, arrival->home, &arrival->parcel);
}

void door_on_arrival_return(struct shard *shard, struct arrival *arrival)
{
    if (arrival->fd < 0)
        shard->totals.sessions_moved++;
    else if (!smtpd_adopt(shard->smtpd, arrival->fd, arrival->source_name))
        /* There was no room for it there, and there is none here. */
        io_close_now(shard->io, arrival->fd);
    slab_free(&shard->arrivals, arrival->index);
}
