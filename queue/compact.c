/*
 * Compaction: the stragglers of nearly empty segments are copied forward.
 *
 * One segment is evacuated at a time. The spool knows how much is live in each segment and chooses;
 * the clients know which messages those are, and append them again. The segment is then empty like
 * any other whose messages are done, and free as soon as a checkpoint no longer names it: a copy is
 * durable before its state says so, and its state is durable before the first copy is given up.
 *
 * With space enough only what is nearly empty and old is worth it: a copy costs at most a sixteenth
 * of what was written once, and the tail of deferred mail takes a sixteenth of the files it would.
 * Where space is low anything is chosen that frees a quarter of a segment. A device that only
 * delivers is emptied whole while another one takes mail. Copies go where new mail would go.
 */
#include "core/base/mem.h"
#include "queue/spool_int.h"

#define LOOK_AGAIN_NS  200000000ull
#define RETRY_NS       1000000000ull
#define RETRY_NS_MAX   (32 * RETRY_NS)
#define STRAGGLERS_IN  16u /* of the segment's bytes, one part in so many */
#define OLD_BY_SERIALS 16u

/* The turn that follows looks. */
static void on_timer(struct io_timer *timer)
{
    (void)timer;
}

void compaction_init(struct spool *spool)
{
    io_timer_init(&spool->compaction.timer, on_timer);
    spool->compaction.retry_ns = RETRY_NS;
}

void compaction_fini(struct spool *spool)
{
    if (spool->actor.turn != NULL)
        io_timer_stop(spool->io, &spool->compaction.timer);
    mem_free(spool->compaction.commits);
}

/* What is left to move. What was moved, or has ended, leaves with the next commit of outcomes. */
static bool is_left(const struct segment *segment)
{
    return segment->live > segment->leaving;
}

static uint64_t bytes_left(const struct segment *segment)
{
    return segment->live_bytes > segment->leaving_bytes
               ? segment->live_bytes - segment->leaving_bytes
               : 0;
}

static uint32_t newest_serial(const struct spool *spool)
{
    uint32_t newest = 0;

    for (uint32_t i = 0; i < spool->device_count; i++) {
        if (spool->devices[i].pool.newest[STREAM_MESSAGES] > newest)
            newest = spool->devices[i].pool.newest[STREAM_MESSAGES];
    }
    return newest;
}

static bool is_worth_it(const struct spool *spool, const struct segment *segment)
{
    const struct segpool *pool = &spool->devices[segment->device].pool;

    /* Chunks of a message in the making cannot be moved: the segment would not become empty. */
    if (segment->stream != STREAM_MESSAGES || !is_left(segment) || segment->open > 0)
        return false;
    if (segment->state != SEGMENT_SEALED && segment->state != SEGMENT_POISONED)
        return false;
    if (!pool->takes_mail)
        return route_has_other(spool, &spool->devices[segment->device]);
    /* What is not live need not have lived: batches are padded. A copy of one small message after
     * the other would be as empty as what it was copied from, and copied again without end. */
    if (segpool_is_low(pool))
        return bytes_left(segment) <= segment->bytes / 4 * 3 &&
               segment->ended_bytes + segment->leaving_bytes >= segment->bytes / 4;
    return bytes_left(segment) <= segment->bytes / STRAGGLERS_IN &&
           segment->serial + OLD_BY_SERIALS <= newest_serial(spool);
}

/* The segment with the least to copy; NULL when none is worth it. */
static struct segment *choose(struct spool *spool)
{
    struct segment *best = NULL;

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct segment *segment = &spool->segments[i];

        if (is_worth_it(spool, segment) && (best == NULL || bytes_left(segment) < bytes_left(best)))
            best = segment;
    }
    return best;
}

static void evacuate(struct spool *spool, const struct segment *segment)
{
    struct compaction *compaction = &spool->compaction;
    uint32_t commit_count = 0;

    mem_free(compaction->commits);
    compaction->commits = chunkbook_commits_of(&spool->chunks, segment, &commit_count);
    if (compaction->commits == NULL)
        commit_count = 0;
    compaction->serial = segment->serial;
    compaction->slot = segment->slot;
    compaction->live_bytes = bytes_left(segment);
    compaction->clients_left = 0;
    spool_count(&spool->counters.evacuations, 1);
    for (uint16_t i = 0; i < spool->client_count; i++) {
        struct spool_client *client = spool->clients[i];

        if (!client->wants_checkpoints)
            continue;
        compaction->clients_left++;
        client->evacuate = (struct spool_notice){
            .parcel = {.kind = SPOOL_EVACUATE, .from = i},
            .number = segment->serial,
            .place = {.serial = segment->serial, .slot = segment->slot},
            .commits = compaction->commits,
            .commit_count = commit_count,
        };
        mailbox_post(client->answers, &client->evacuate.parcel);
    }
}

static bool is_any_low(const struct spool *spool)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        if (segpool_is_low(&spool->devices[i].pool))
            return true;
    }
    return false;
}

void compaction_turn(struct spool *spool)
{
    struct compaction *compaction = &spool->compaction;
    uint64_t now_ns = io_now_ns(spool->io);
    const struct segment *victim;

    if (compaction->serial != 0 || now_ns < compaction->look_at_ns || spool->closing ||
        spool_is_poisoned(spool) || spool->checkpoint_client_count == 0)
        return;
    compaction->look_at_ns = now_ns + LOOK_AGAIN_NS;
    victim = choose(spool);
    if (victim != NULL)
        evacuate(spool, victim);
    /* With mail refused nothing else may bring a turn about. */
    else if (is_any_low(spool))
        io_timer_arm(spool->io, &compaction->timer, now_ns + RETRY_NS);
}

/* When to look again after an evacuation. What could not be moved is not tried again at once, and
 * less and less often while nothing at all moves: its messages are in memory, or copies find no
 * room. */
static uint64_t next_look_ns(struct compaction *compaction, const struct segment *segment,
                             uint64_t now_ns)
{
    bool is_there = segment->serial == compaction->serial && is_left(segment);
    uint64_t wait_ns = compaction->retry_ns;

    if (is_there && bytes_left(segment) >= compaction->live_bytes) {
        if (compaction->retry_ns < RETRY_NS_MAX)
            compaction->retry_ns *= 2;
        return now_ns + wait_ns;
    }
    compaction->retry_ns = RETRY_NS;
    return is_there ? now_ns + RETRY_NS : now_ns;
}

void compaction_on_done(struct spool *spool, struct spool_client *client,
                        struct spool_notice *notice)
{
    struct compaction *compaction = &spool->compaction;
    uint64_t now_ns = io_now_ns(spool->io);
    const struct segment *segment = &spool->segments[compaction->slot];

    must(notice == &client->evacuate && notice->number == compaction->serial);
    must(compaction->clients_left > 0);
    if (--compaction->clients_left > 0)
        return;
    compaction->look_at_ns = next_look_ns(compaction, segment, now_ns);
    compaction->serial = 0;
    io_timer_arm(spool->io, &compaction->timer,
                 compaction->look_at_ns > now_ns ? compaction->look_at_ns : now_ns + 1);
}
