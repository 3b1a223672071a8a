/*
 * Checkpoints: everything recovery needs, written again while the work goes on.
 *
 * BEGIN goes into the outcome stream with the place in each device's message stream up to which
 * every answer has been sent; the clients are asked at the same moment, and since a client's
 * mailbox keeps order, each has heard of all messages before that place when it starts. Their STATE
 * records come in between ordinary ones. When all are DONE and the spool has written its own named
 * states and voids, END makes the checkpoint count: recovery may start at its BEGIN.
 *
 * The two last complete checkpoints are kept, so that damage in the newest costs nothing.
 */
#include "core/base/err.h"
#include "queue/planted.h"
#include "queue/spool_int.h"

#define CHECKPOINT_SEGMENTS                                                                        \
    4u /* of log between two checkpoints, when the operator says nothing                           \
        */

static uint64_t log_bytes(const struct spool *spool)
{
    return atomic_load_explicit(&spool->counters.bytes_written, memory_order_relaxed);
}

/* The oldest outcome segment that a cursor still needs. */
static uint32_t pins_lowest(struct spool *spool)
{
    uint32_t lowest = UINT32_MAX;

    for (int i = 0; i < SPOOL_PINS_MAX; i++) {
        struct spool_pin *pin = &spool->pins[i];
        uint32_t serial;

        if (atomic_load_explicit(&pin->number, memory_order_acquire) == 0)
            continue;
        serial = atomic_load_explicit(&pin->serial, memory_order_acquire);
        if (serial < lowest)
            lowest = serial;
    }
    return lowest;
}

static bool is_full(const struct segment *segment, enum segfmt_stream stream)
{
    return segment->stream == stream &&
           (segment->state == SEGMENT_SEALED || segment->state == SEGMENT_POISONED);
}

/* A segment of messages on this device is empty since the last checkpoint began: the next one frees
 * it. It need not be a record that emptied it: chunks are dropped without a word in the log. */
static bool would_free_messages(const struct spool *spool, const struct segpool *pool)
{
    /* Asked at every turn while segments are short, and mostly there is none. */
    if (pool->free_after_max <= spool->checkpoint.number)
        return false;
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        const struct segment *segment = &pool->slots[i];

        if (is_full(segment, STREAM_MESSAGES) && segment->free_after > spool->checkpoint.number)
            return true;
    }
    return false;
}

/* The same for outcomes; each checkpoint writes some, so this alone would go in a circle. */
static bool would_free_outcomes(struct spool *spool, struct segpool *pool)
{
    uint32_t pinned = pins_lowest(spool), last = spool->checkpoint.last.serial;
    uint32_t needed = pinned < last ? pinned : last, lowest = UINT32_MAX;

    /* Likewise: they are looked through when a checkpoint or a cursor has gone on. */
    if (!pool->has_outcomes || pool->outcomes_floor >= needed)
        return false;
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        const struct segment *segment = &pool->slots[i];

        if (is_full(segment, STREAM_OUTCOMES) && segment->serial < lowest)
            lowest = segment->serial;
    }
    pool->outcomes_floor = lowest;
    return lowest < needed;
}

/* Low on segments; or, where it only delivers, the files that are left stand in the way of its
 * going. */
static bool is_pressed(const struct spool *spool, const struct segpool *pool)
{
    uint32_t reserve = pool->has_outcomes ? SEGPOOL_RESERVE : 0;
    uint32_t growable = 0;

    if (!pool->takes_mail && !pool->has_outcomes)
        return true;
    if (!pool->stuck && pool->file_count < spool->options.segment_count_max)
        growable = spool->options.segment_count_max - pool->file_count;
    return pool->free_count + growable <= reserve + 1;
}

static bool is_due(struct spool *spool)
{
    uint64_t every = spool->options.checkpoint_bytes;

    if (spool->checkpoint_client_count == 0 || spool->closing)
        return false;
    if (every == 0)
        every = CHECKPOINT_SEGMENTS * spool->options.segment_bytes;
    /* What checkpoints write is never more than half of the log: of a queue whose states are more
     * than `every` one would follow the other for ever. */
    if (every < 2 * spool->checkpoint.bytes_taken)
        every = 2 * spool->checkpoint.bytes_taken;
    if (log_bytes(spool) - spool->checkpoint.bytes_at_begin >= every)
        return true;
    /* Else not without a reason, and not in a circle. */
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct segpool *pool = &spool->devices[i].pool;

        if (is_pressed(spool, pool) && (would_free_messages(spool, pool) ||
                                        (log_bytes(spool) != spool->checkpoint.bytes_at_begin &&
                                         would_free_outcomes(spool, pool))))
            return true;
    }
    return false;
}

/* One append of the spool's own; its answer comes back to checkpoint_on_answer. */
static void emit(struct spool *spool, uint16_t kind, uint32_t bytes, uint16_t flags)
{
    struct checkpoint *checkpoint = &spool->checkpoint;

    must(!checkpoint->own_in_flight && bytes <= sizeof(checkpoint->own_bytes));
    checkpoint->own_in_flight = true;
    checkpoint->own_payload = (struct iovec){checkpoint->own_bytes, bytes};
    checkpoint->own = (struct log_request){
        .parcel = {.kind = kind, .from = SPOOL_FROM_SELF},
        .payload = &checkpoint->own_payload,
        .payload_count = 1,
        .payload_bytes = bytes,
        .flags = flags,
    };
    seglog_append(&spool->outcomes, &checkpoint->own);
}

static void begin(struct spool *spool)
{
    struct checkpoint *checkpoint = &spool->checkpoint;
    struct segfmt_begin places = {.number = ++checkpoint->number};
    uint32_t bytes;

    must(checkpoint->state == CHECKPOINT_IDLE);
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct segfmt_place *place = &places.places[spool->devices[i].pool.number];

        if (!spool->devices[i].pool.is_retired)
            seglog_durable_place(&spool->devices[i].messages, &place->serial, &place->offset);
    }
    bytes = segfmt_begin_encode(&places, checkpoint->own_bytes);
    checkpoint->state = CHECKPOINT_BEGINNING;
    checkpoint->bytes_at_begin = log_bytes(spool);
    checkpoint->named_at = 0;
    checkpoint->void_at = 0;
    checkpoint->clients_left = 0;
    emit(spool, SPOOL_OWN_BEGIN, bytes, LOG_WANTS_DURABLE);
    for (uint16_t i = 0; i < spool->client_count; i++) {
        struct spool_client *client = spool->clients[i];

        if (!client->wants_checkpoints)
            continue;
        must(!client->asked);
        client->asked = true;
        checkpoint->clients_left++;
        client->notice.parcel.kind = SPOOL_CHECKPOINT_BEGIN;
        client->notice.parcel.from = i;
        client->notice.number = checkpoint->number;
        mailbox_post(client->answers, &client->notice.parcel);
    }
}

void checkpoint_on_done(struct spool *spool, struct spool_client *client,
                        struct spool_notice *notice)
{
    must(client->asked && notice == &client->notice);
    must(notice->number == spool->checkpoint.number && spool->checkpoint.clients_left > 0);
    client->asked = false;
    spool->checkpoint.clients_left--;
}

static bool emit_next_void(struct spool *spool)
{
    struct checkpoint *checkpoint = &spool->checkpoint;

    for (; checkpoint->void_at < spool->segment_count; checkpoint->void_at++) {
        const struct segment *segment = &spool->segments[checkpoint->void_at];

        if (!segment->has_void)
            continue;
        checkpoint->void_at++;
        segfmt_void_encode(&segment->gone, checkpoint->own_bytes);
        emit(spool, SPOOL_OWN_OLD_VOID, SEGFMT_VOID_BYTES, 0);
        return true;
    }
    return false;
}

static bool emit_next_named(struct spool *spool)
{
    struct checkpoint *checkpoint = &spool->checkpoint;
    struct log_named named;
    int bytes;

    if (!named_at(&spool->named, &checkpoint->named_at, &named))
        return false;
    checkpoint->named_at++;
    bytes = log_named_encode(&named, checkpoint->own_bytes, sizeof(checkpoint->own_bytes));
    must(bytes > 0);
    emit(spool, SPOOL_OWN_NAMED, (uint32_t)bytes, 0);
    return true;
}

/* Voids first: the order does not matter to recovery, but they are few and weigh more. */
static void emit_own(struct spool *spool)
{
    for (int budget = 64; budget > 0 && !spool->checkpoint.own_in_flight; budget--) {
        if (spool_is_poisoned(spool))
            return;
        if (!emit_next_void(spool) && !emit_next_named(spool)) {
            spool->checkpoint.state = CHECKPOINT_WAITING;
            return;
        }
    }
}

static void end(struct spool *spool)
{
    struct checkpoint *checkpoint = &spool->checkpoint;
    struct segfmt_checkpoint point = {.number = checkpoint->number,
                                      .serial = checkpoint->running.serial,
                                      .offset = checkpoint->running.offset};

    must(checkpoint->running.number == checkpoint->number);
    segfmt_checkpoint_encode(&point, checkpoint->own_bytes);
    checkpoint->state = CHECKPOINT_ENDING;
    emit(spool, SPOOL_OWN_END, SEGFMT_CHECKPOINT_BYTES, LOG_WANTS_SYNC);
}

void checkpoint_on_answer(struct spool *spool, struct log_request *request)
{
    struct checkpoint *checkpoint = &spool->checkpoint;

    must(request == &checkpoint->own && checkpoint->own_in_flight);
    checkpoint->own_in_flight = false;
    if (request->status < 0)
        return;
    if (request->parcel.kind == SPOOL_OWN_BEGIN) {
        checkpoint->running.number = checkpoint->number;
        checkpoint->running.serial = request->place.serial;
        checkpoint->running.offset = request->place.offset;
        checkpoint->state = CHECKPOINT_EMITTING;
    } else if (request->parcel.kind == SPOOL_OWN_END) {
        checkpoint->before = checkpoint->last;
        checkpoint->last = checkpoint->running;
        checkpoint->state = CHECKPOINT_IDLE;
        checkpoint->bytes_taken = log_bytes(spool) - checkpoint->bytes_at_begin;
        spool_count(&spool->counters.checkpoints, 1);
        checkpoint_recycle(spool);
    }
}

void checkpoint_recycle(struct spool *spool)
{
    const struct checkpoint *checkpoint = &spool->checkpoint;
    uint32_t pinned = pins_lowest(spool);

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct segment *segment = &spool->segments[i];
        struct segpool *pool = spool_pool_of(spool, segment);

        if (segment->state != SEGMENT_SEALED && segment->state != SEGMENT_POISONED)
            continue;
        if (segment->stream == STREAM_MESSAGES) {
            if (segment->free_after != 0 && segment->free_after <= checkpoint->last.number)
                segpool_release(pool, segment);
        } else if (segment->serial < checkpoint->before.serial && segment->serial < pinned) {
            segpool_release(pool, segment);
        }
    }
}

bool checkpoint_is_busy(const struct spool *spool)
{
    const struct checkpoint *checkpoint = &spool->checkpoint;

    return checkpoint->state == CHECKPOINT_EMITTING && !checkpoint->own_in_flight &&
           !spool_is_poisoned(spool) && !spool->closing;
}

void checkpoint_turn(struct spool *spool)
{
    struct checkpoint *checkpoint = &spool->checkpoint;

    if (spool_is_poisoned(spool) || spool->closing)
        return;
    if (checkpoint->state == CHECKPOINT_IDLE && is_due(spool))
        begin(spool);
    if (checkpoint->state == CHECKPOINT_EMITTING)
        emit_own(spool);
    if (checkpoint->state == CHECKPOINT_WAITING &&
        (checkpoint->clients_left == 0 || planted("queue/end-before-done")))
        end(spool);
    if (spool->pins_moved) {
        spool->pins_moved = false;
        checkpoint_recycle(spool);
    }
}
