/*
 * Which device takes a message, and which are well.
 *
 * A batch belongs to one device. The messages of one turn gather on a device that is idle, and go
 * out at the turn's end; those of the next turn find it busy and gather on another. With all busy
 * they gather where the least waits, so that a slow disk gets as much as it gets done. Of several
 * idle ones the one with most room is taken. Only the devices of the highest priority that take
 * mail at all are looked at.
 *
 * A device on which a commit failed is shunned for a while, and one whose commit does not come back
 * for a second too; mail goes there only when no other device takes it. After a second failure in a
 * row it rests (seglog.h) and takes nothing.
 */
#include "core/base/err.h"
#include "queue/spool_int.h"

#define STUCK_NS 1000000000ull

enum rank {
    RANK_GATHERING, /* idle, and messages of this turn wait for its end */
    RANK_IDLE,
    RANK_BUSY,
    RANK_CROWDED, /* no place at this moment */
    RANKS,
};

static bool is_shunned(const struct seglog *log)
{
    uint64_t now_ns = io_now_ns(log->spool->io);

    if (log->failures_in_a_row > 0 && log->shunned_until_ns > now_ns)
        return true;
    return log->state != SEGLOG_IDLE && log->commit_began_ns + STUCK_NS <= now_ns;
}

static bool takes_mail(const struct spool_device *device)
{
    return device->pool.takes_mail && !segpool_is_low(&device->pool) &&
           !seglog_is_resting(&device->messages);
}

/* New mail goes where there is space for it; copies also take what is left where it is short. */
static bool may_take(const struct spool_device *device, const struct log_request *request)
{
    bool is_copy = (request->flags & LOG_IS_COPY) != 0;

    if (!device->pool.takes_mail || seglog_is_resting(&device->messages))
        return false;
    return (is_copy || takes_mail(device)) &&
           seglog_can_take(&device->messages, request->payload_bytes);
}

static enum rank rank_of(struct spool_device *device, uint32_t payload_bytes)
{
    struct seglog *log = &device->messages;

    if (!seglog_has_room(log, payload_bytes))
        return RANK_CROWDED;
    if (log->state != SEGLOG_IDLE)
        return RANK_BUSY;
    return log->fill->used > 0 ? RANK_GATHERING : RANK_IDLE;
}

/* Less is better, within one rank. */
static uint64_t load_of(const struct spool_device *device, enum rank rank)
{
    return rank == RANK_IDLE ? UINT64_MAX - segpool_room(&device->pool)
                             : seglog_waiting_bytes(&device->messages);
}

struct choice {
    struct spool_device *device; /* NULL = none yet */
    bool is_shunned;
    uint32_t priority;
    enum rank rank;
    uint64_t load;
};

static bool is_better(const struct choice *choice, const struct choice *than)
{
    if (than->device == NULL)
        return true;
    if (choice->is_shunned != than->is_shunned)
        return than->is_shunned;
    if (choice->priority != than->priority)
        return choice->priority > than->priority;
    if (choice->rank != than->rank)
        return choice->rank < than->rank;
    return choice->load < than->load;
}

static struct spool_device *choose(struct spool *spool, const struct log_request *request)
{
    struct choice best = {.device = NULL};

    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct spool_device *device = &spool->devices[i];
        struct choice choice = {.device = device, .priority = device->priority};

        if (!may_take(device, request))
            continue;
        choice.is_shunned = is_shunned(&device->messages);
        choice.rank = rank_of(device, request->payload_bytes);
        choice.load = load_of(device, choice.rank);
        if (is_better(&choice, &best))
            best = choice;
    }
    return best.device;
}

void route_message(struct spool *spool, struct log_request *request)
{
    bool is_copy = (request->flags & LOG_IS_COPY) != 0;
    struct spool_device *device = NULL;

    if (segfmt_record_room(request->payload_bytes) + SEGFMT_BATCH_BYTES >
        spool->devices[0].pool.segment_bytes - SEGFMT_BLOCK) {
        spool_answer(spool, request, E_TOO_LONG);
        return;
    }
    /* What is left when space is low is for copies, which make room. */
    if (is_copy || !spool_health_is_short(spool_health(spool)))
        device = choose(spool, request);
    if (device != NULL)
        seglog_append(&device->messages, request);
    else
        spool_answer(spool, request, route_refusal(spool));
}

bool route_has_other(const struct spool *spool, const struct spool_device *device)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        const struct spool_device *other = &spool->devices[i];

        if (other != device && takes_mail(other) && !is_shunned(&other->messages))
            return true;
    }
    return false;
}

bool route_takes_mail(const struct spool *spool)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        if (takes_mail(&spool->devices[i]))
            return true;
    }
    return false;
}

int route_refusal(const struct spool *spool)
{
    int error = E_LOW_SPACE;

    if (seglog_is_failing(&spool->outcomes))
        return spool->outcomes.failure;
    for (uint32_t i = 0; i < spool->device_count && error == E_LOW_SPACE; i++) {
        const struct spool_device *device = &spool->devices[i];

        error = seglog_is_resting(&device->messages) ? device->messages.failure
                                                     : segpool_shortage(&device->pool);
    }
    return error;
}

static enum spool_device_state state_of(const struct spool_device *device)
{
    if (device->pool.is_retired)
        return SPOOL_DEVICE_EMPTY;
    if (!device->pool.takes_mail)
        return SPOOL_DEVICE_DRAINING;
    if (segpool_is_low(&device->pool))
        return SPOOL_DEVICE_LOW_SPACE;
    if (seglog_is_resting(&device->messages) || is_shunned(&device->messages))
        return SPOOL_DEVICE_RESTING;
    return SPOOL_DEVICE_WELL;
}

void route_publish(struct spool *spool)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct spool_device *device = &spool->devices[i];

        atomic_store_explicit(&device->state, state_of(device), memory_order_relaxed);
    }
}
