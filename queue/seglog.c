#include "queue/seglog.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/planted.h"
#include "queue/spool_int.h"

#include <errno.h>

#define LARGE_STEP_BYTES (1u << 20)    /* summed up in one turn */
#define REST_NS          1000000000ull /* after the second failure in a row; doubles */
#define REST_DOUBLINGS   4u
#define LATE_NS          1000000000ull /* a commit of outcomes under way for so long */

#define TO(state) (1u << (state))

static const uint16_t allowed_next[] = {
    [SEGLOG_IDLE] = TO(SEGLOG_SUMMING) | TO(SEGLOG_WRITING) | TO(SEGLOG_DEAD),
    [SEGLOG_SUMMING] = TO(SEGLOG_WRITING) | TO(SEGLOG_DEAD),
    [SEGLOG_WRITING] = TO(SEGLOG_IDLE) | TO(SEGLOG_SYNCING) | TO(SEGLOG_VOID_WAITS) |
                       TO(SEGLOG_VOID_DUE) | TO(SEGLOG_DEAD),
    [SEGLOG_SYNCING] =
        TO(SEGLOG_IDLE) | TO(SEGLOG_VOID_WAITS) | TO(SEGLOG_VOID_DUE) | TO(SEGLOG_DEAD),
    [SEGLOG_VOID_WAITS] = TO(SEGLOG_IDLE) | TO(SEGLOG_DEAD),
    [SEGLOG_VOID_DUE] = TO(SEGLOG_VOID_WRITING) | TO(SEGLOG_DEAD),
    [SEGLOG_VOID_WRITING] =
        TO(SEGLOG_VOID_SYNCING) | TO(SEGLOG_REDO_DUE) | TO(SEGLOG_VOID_DUE) | TO(SEGLOG_DEAD),
    [SEGLOG_VOID_SYNCING] = TO(SEGLOG_REDO_DUE) | TO(SEGLOG_VOID_DUE) | TO(SEGLOG_DEAD),
    [SEGLOG_REDO_DUE] = TO(SEGLOG_SUMMING) | TO(SEGLOG_WRITING) | TO(SEGLOG_DEAD),
    [SEGLOG_DEAD] = 0,
};

static void enter(struct seglog *log, enum seglog_state state)
{
    must((allowed_next[log->state] & TO(state)) != 0);
    log->state = state;
}

static void on_op_done(struct io_op *op, int32_t result);

/* The turn that follows looks at the clock itself; the timer only brings that turn about. */
static void on_hold_over(struct io_timer *timer)
{
    struct seglog *log = container_of(timer, struct seglog, hold);

    must(log->stream == STREAM_OUTCOMES);
}

/* The same: health is looked at in each turn, and so is the end of a rest. */
static void on_watch(struct io_timer *timer)
{
    (void)timer;
}

/* Goes on in the segment that the recovery of this very life began, if it did. */
static void resume(struct seglog *log)
{
    struct segpool *pool = log->pool;

    for (uint32_t i = 0; i < pool->slot_count; i++) {
        struct segment *segment = &pool->slots[i];

        if (segment->state != SEGMENT_ACTIVE || segment->stream != log->stream)
            continue;
        if (!pool->takes_mail && log->stream == STREAM_MESSAGES) {
            segpool_seal(pool, segment);
            continue;
        }
        log->active = segment;
        log->write_end = segment->end;
    }
}

void seglog_init(struct seglog *log, struct spool_device *device, enum segfmt_stream stream)
{
    struct spool *spool = device->pool.spool;
    uint64_t quarter = spool->options.segment_bytes / 4;

    memset(log, 0, sizeof(*log));
    log->spool = spool;
    log->device = device;
    log->pool = &device->pool;
    log->stream = stream;
    log->batch_bytes = quarter < SEGLOG_BATCH_BYTES ? (uint32_t)quarter : SEGLOG_BATCH_BYTES;
    log->batch_bytes &= ~(SEGFMT_BLOCK - 1);
    for (int i = 0; i < 2; i++)
        batch_init(&log->batches[i], log->batch_bytes);
    log->fill = &log->batches[0];
    log->flight = &log->batches[1];
    log->void_block = mem_alloc_aligned(SEGFMT_BLOCK, SEGFMT_BLOCK);
    list_init(&log->pending);
    io_op_init(&log->op, on_op_done);
    io_timer_init(&log->hold, on_hold_over);
    io_timer_init(&log->watch, on_watch);
    resume(log);
}

void seglog_fini(struct seglog *log)
{
    if (log->spool == NULL)
        return;
    must(!io_op_in_flight(&log->op));
    io_timer_stop(log->spool->io, &log->hold);
    io_timer_stop(log->spool->io, &log->watch);
    for (int i = 0; i < 2; i++)
        batch_fini(&log->batches[i]);
    mem_free(log->void_block);
}

/* ---- Taking records ------------------------------------------------------------------------ */

static void pending_push(struct seglog *log, struct log_request *request)
{
    list_push_back(&log->pending, &request->link);
    log->pending_bytes += request->payload_bytes;
}

static struct log_request *pending_pop(struct seglog *log)
{
    struct list *node = list_pop_front(&log->pending);
    struct log_request *request;

    if (node == NULL)
        return NULL;
    request = container_of(node, struct log_request, link);
    log->pending_bytes -= request->payload_bytes;
    return request;
}

static bool active_has_room(const struct seglog *log, uint64_t bytes)
{
    return log->active != NULL && log->write_end + bytes <= log->active->bytes;
}

/* An active segment with room for `bytes` at write_end, the next one if need be. */
static bool room_for(struct seglog *log, uint64_t bytes)
{
    struct segpool *pool = log->pool;
    struct segment *next;

    must(bytes <= pool->segment_bytes - SEGFMT_BLOCK);
    if (active_has_room(log, bytes))
        return true;
    next = segpool_take(pool, log->stream);
    if (next == NULL)
        return false;
    if (log->active != NULL)
        segpool_seal(pool, log->active);
    log->active = next;
    log->write_end = SEGFMT_BLOCK;
    return true;
}

static uint64_t batch_size_of(const struct log_request *request)
{
    return SEGFMT_BATCH_BYTES + segfmt_record_room(request->payload_bytes);
}

static void fill_begin(struct seglog *log)
{
    uint64_t hold_ns = log->spool->options.outcome_hold_ms * 1000000ull;

    batch_begin(log->fill, log->active, log->write_end);
    log->fill->since_ns = io_now_ns(log->spool->io);
    if (log->stream == STREAM_OUTCOMES)
        io_timer_arm(log->spool->io, &log->hold, log->fill->since_ns + hold_ns);
}

/* Between a failed commit of outcomes and its repetition nothing else may take a place. */
static bool is_mending(const struct seglog *log)
{
    return log->state >= SEGLOG_VOID_DUE && log->state <= SEGLOG_REDO_DUE;
}

/* The batch that fills has room for this record, or a new one was begun for it. */
static bool fill_has_room(struct seglog *log, const struct log_request *request)
{
    struct batch *fill = log->fill;
    uint64_t room = segfmt_record_room(request->payload_bytes);

    if (fill->is_adrift || fill->is_closed || is_mending(log))
        return false;
    if (fill->used == 0) {
        if (!room_for(log, batch_size_of(request)))
            return false;
        fill_begin(log);
        return true;
    }
    if (fill->used + room > log->batch_bytes ||
        fill->offset + fill->used + room > fill->segment->bytes ||
        fill->done_count == BATCH_DONE_MAX) {
        fill->is_closed = true;
        return false;
    }
    return true;
}

/* The book's entry for the chunks that a commit record names; false, and the request is answered,
 * without memory for it. */
static bool enter_chunks(struct seglog *log, struct log_request *request)
{
    if (request->parcel.kind != SPOOL_APPEND_COMMIT)
        return true;
    request->book = chunkbook_enter_all(&log->spool->chunks, request);
    if (request->book != CHUNKBOOK_NONE)
        return true;
    spool_answer(log->spool, request, -ENOMEM);
    return false;
}

/* The message ends with this record, once that is durable. */
static void account_done(struct seglog *log, struct batch *batch, const struct log_request *request)
{
    struct spool *spool = log->spool;
    const struct log_place *place = &request->place;
    struct segment *segment;

    must(place->slot < spool->segment_count && batch->done_count < BATCH_DONE_MAX);
    segment = &spool->segments[place->slot];
    must(segment->serial == place->serial && segment->stream == STREAM_MESSAGES);
    if (planted("queue/recycled-early")) {
        segpool_message_done(spool_pool_of(spool, segment), segment, place->bytes);
        return;
    }
    segpool_records_leave(segment, 1, place->bytes);
    batch->done_bytes[batch->done_count] = place->bytes;
    batch->done_slots[batch->done_count++] = place->slot;
    if (place->large > 0)
        batch->done_chunks = chunkbook_detach(&log->spool->chunks, request, batch->done_chunks);
}

/* What the spool must remember about a record besides its bytes. */
static void account(struct seglog *log, struct batch *batch, const struct log_request *request)
{
    bool is_chunk = request->parcel.kind == SPOOL_APPEND_CHUNK;

    if (log->stream == STREAM_MESSAGES) {
        batch->segment->live++;
        batch->segment->live_bytes += request->place.bytes;
        batch->segment->open += is_chunk;
        batch->chunk_count += is_chunk;
    } else if ((request->flags & LOG_MESSAGE_DONE) != 0) {
        account_done(log, batch, request);
    }
}

/* No commit record that waits for this batch will count. */
static void forget_chunks(struct seglog *log, const struct batch *batch)
{
    list_for_each (node, &batch->waiting) {
        const struct log_request *request = container_of(node, struct log_request, link);

        if (request->parcel.kind == SPOOL_APPEND_COMMIT)
            chunkbook_forget(&log->spool->chunks, request->book);
    }
}

/* The records of a batch of the message stream were not written, or never happened. */
static void unaccount(struct seglog *log, struct batch *batch)
{
    forget_chunks(log, batch);
    batch->segment->open -= batch->chunk_count;
    segpool_records_done(log->pool, batch->segment, batch->records, batch->used);
}

/* A seeded bug for the tests: an outcome is answered, but nobody wrote it down. */
static bool is_dropped(const struct seglog *log, const struct log_request *request)
{
    return planted("queue/outcome-dropped") && request->parcel.kind == SPOOL_APPEND_OUTCOME &&
           log->state != SEGLOG_IDLE && !batch_request_waits(request);
}

/* A seeded bug for the tests: a chunk is answered when it has its place, not when it is durable. */
static bool is_too_early(const struct batch *fill, struct log_request *request)
{
    if (!planted("queue/chunk-answered-early") || request->parcel.kind != SPOOL_APPEND_CHUNK)
        return false;
    request->place.serial = fill->segment->serial;
    request->place.slot = fill->segment->slot;
    request->place.offset += fill->offset;
    return true;
}

static bool copy_in(struct seglog *log, struct log_request *request)
{
    struct batch *fill = log->fill;

    if (batch_size_of(request) > log->batch_bytes) {
        fill->is_closed = fill->used > 0;
        return false;
    }
    if (!fill_has_room(log, request))
        return false;
    if (is_dropped(log, request)) {
        spool_answer(log->spool, request, 0);
        return true;
    }
    if (!enter_chunks(log, request)) {
        if (fill->records == 0)
            batch_reset(fill);
        return true;
    }
    batch_put(fill, request, log->spool->sequence_next++);
    account(log, fill, request);
    if (batch_request_waits(request) && !is_too_early(fill, request)) {
        list_push_back(&fill->waiting, &request->link);
        fill->is_urgent |= (request->flags & LOG_WANTS_SYNC) != 0;
    } else {
        spool_answer(log->spool, request, 0);
    }
    return true;
}

void seglog_append(struct seglog *log, struct log_request *request)
{
    list_init(&request->link);
    if (log->state == SEGLOG_DEAD) {
        spool_answer(log->spool, request, E_POISONED);
        return;
    }
    if (batch_size_of(request) > log->pool->segment_bytes - SEGFMT_BLOCK) {
        spool_answer(log->spool, request, E_TOO_LONG);
        return;
    }
    if (list_empty(&log->pending) && copy_in(log, request))
        return;
    pending_push(log, request);
}

bool seglog_has_room(struct seglog *log, uint32_t payload_bytes)
{
    const struct batch *fill = log->fill;
    uint64_t room = segfmt_record_room(payload_bytes);

    if (!list_empty(&log->pending) || fill->is_adrift || fill->is_closed)
        return false;
    if (fill->used > 0)
        return fill->used + room <= log->batch_bytes &&
               fill->offset + fill->used + room <= fill->segment->bytes;
    return active_has_room(log, SEGFMT_BATCH_BYTES + room) || log->pool->ready[log->stream] != NULL;
}

static struct log_request *pending_first(const struct seglog *log)
{
    must(!list_empty(&log->pending));
    return container_of(log->pending.next, struct log_request, link);
}

static void answer_list(struct spool *spool, struct list *requests, int status)
{
    struct list *node;

    while ((node = list_pop_front(requests)) != NULL)
        spool_answer(spool, container_of(node, struct log_request, link), status);
}

/* No segment to go to and none in sight: only for messages, the reserve is for the others. */
static bool is_out_of_space(const struct seglog *log, uint64_t bytes)
{
    return log->stream == STREAM_MESSAGES && !active_has_room(log, bytes) &&
           !segpool_can_serve(log->pool, log->stream);
}

bool seglog_can_take(const struct seglog *log, uint32_t payload_bytes)
{
    return log->state != SEGLOG_DEAD &&
           !is_out_of_space(log, SEGFMT_BATCH_BYTES + segfmt_record_room(payload_bytes));
}

/* Messages that were never written here: another device takes them, or they are refused. */
static void pass_on(struct seglog *log, struct list *requests)
{
    struct list *node;

    while ((node = list_pop_front(requests)) != NULL)
        route_message(log->spool, container_of(node, struct log_request, link));
}

static void pass_on_pending(struct seglog *log)
{
    struct list requests;
    struct log_request *request;

    list_init(&requests);
    while ((request = pending_pop(log)) != NULL)
        list_push_back(&requests, &request->link);
    pass_on(log, &requests);
}

/* Empties the batch that fills: nothing of it was written, and nothing needs to be void. */
static void fill_take_back(struct seglog *log, struct list *requests)
{
    struct batch *fill = log->fill;
    struct list *node;

    list_init(requests);
    if (fill->used == 0)
        return;
    unaccount(log, fill);
    while ((node = list_pop_front(&fill->waiting)) != NULL)
        list_push_back(requests, node);
    batch_reset(fill);
}

static void pass_on_fill(struct seglog *log)
{
    struct list requests;

    fill_take_back(log, &requests);
    pass_on(log, &requests);
}

/* Copies what waits. Messages without space were never written: they are refused, not void. */
static void take_pending(struct seglog *log)
{
    while (!list_empty(&log->pending)) {
        struct log_request *request = pending_first(log);

        pending_pop(log);
        if (copy_in(log, request))
            continue;
        list_push_front(&log->pending, &request->link);
        log->pending_bytes += request->payload_bytes;
        if (log->fill->used == 0 && is_out_of_space(log, batch_size_of(request)))
            pass_on_pending(log);
        return;
    }
}

/* ---- Commits ------------------------------------------------------------------------------- */

static void write_bytes(struct seglog *log, struct segment *segment, const void *data,
                        uint32_t bytes, uint32_t offset, bool durable)
{
    must(segment->fd >= 0 && offset % SEGFMT_BLOCK == 0 && bytes % SEGFMT_BLOCK == 0);
    log->piece = bytes;
    io_write(log->spool->io, &log->op, segment->fd, data, bytes, offset, durable);
    spool_count(&log->spool->counters.bytes_written, bytes);
    spool_count(&log->device->bytes_written, bytes);
}

/* Writes the flight, which stands complete in its buffer, and takes its room in the segment. */
static void flight_write(struct seglog *log)
{
    struct batch *flight = log->flight;
    uint32_t bytes = batch_finish(flight, log->stream, log->spool->life);
    bool durable = !log->pool->by_sync && !planted("queue/answer-before-sync");

    must(flight->segment == log->active && flight->offset == log->write_end);
    log->write_end += bytes;
    enter(log, SEGLOG_WRITING);
    write_bytes(log, flight->segment, flight->buffer, bytes, flight->offset, durable);
}

static void large_write_piece(struct seglog *log)
{
    struct batch *flight = log->flight;
    uint32_t at = flight->large_done;
    uint32_t bytes = batch_piece(flight, log->batch_bytes);

    if (bytes > 0) {
        write_bytes(log, flight->segment, flight->buffer, bytes, flight->offset + at, false);
        return;
    }
    enter(log, SEGLOG_SYNCING);
    io_sync(log->spool->io, &log->op, flight->segment->fd);
}

static void large_sum(struct seglog *log)
{
    struct batch *flight = log->flight;

    if (!batch_sum(flight, LARGE_STEP_BYTES))
        return;
    batch_finish_large(flight, log->stream, log->spool->life);
    enter(log, SEGLOG_WRITING);
    large_write_piece(log);
}

/* The flight was given its place: now it goes, at once or by steps. */
static void flight_start(struct seglog *log)
{
    log->commit_began_ns = io_now_ns(log->spool->io);
    if (log->stream == STREAM_OUTCOMES)
        io_timer_arm(log->spool->io, &log->watch, log->commit_began_ns + LATE_NS);
    if (log->flight->large == NULL) {
        flight_write(log);
        return;
    }
    must(log->flight->segment == log->active && log->flight->offset == log->write_end);
    log->write_end += (uint32_t)segfmt_align(log->flight->used, SEGFMT_BLOCK);
    enter(log, SEGLOG_SUMMING);
}

static void swap_batches(struct seglog *log)
{
    struct batch *former = log->flight;

    must(former->used == 0);
    log->flight = log->fill;
    log->fill = former;
}

static bool fill_is_due(const struct seglog *log)
{
    const struct batch *fill = log->fill;
    uint64_t hold_ns = log->spool->options.outcome_hold_ms * 1000000ull;

    if (fill->used == 0 || fill->is_adrift)
        return false;
    if (log->stream == STREAM_MESSAGES || fill->is_urgent || fill->is_closed)
        return true;
    return log->spool->closing || fill->used >= log->batch_bytes / 2 ||
           fill->done_count >= BATCH_DONE_MAX / 2 ||
           io_now_ns(log->spool->io) >= fill->since_ns + hold_ns;
}

/* A batch whose segment was poisoned before it could be written there. */
static void fill_settle(struct seglog *log)
{
    struct batch *fill = log->fill;

    if (room_for(log, fill->used)) {
        if (log->stream == STREAM_MESSAGES) {
            fill->segment->open -= fill->chunk_count;
            segpool_records_done(log->pool, fill->segment, fill->records, fill->used);
            log->active->live += fill->records;
            log->active->live_bytes += fill->used;
            log->active->open += fill->chunk_count;
        }
        batch_move(fill, log->active, log->write_end, &log->spool->sequence_next);
        return;
    }
    if (is_out_of_space(log, fill->used))
        pass_on_fill(log);
}

static void start_due(struct seglog *log)
{
    struct log_request *request;

    if (seglog_is_resting(log))
        return;
    if (log->fill->is_adrift)
        fill_settle(log);
    if (fill_is_due(log)) {
        swap_batches(log);
        flight_start(log);
        return;
    }
    if (log->fill->used > 0 || list_empty(&log->pending))
        return;
    request = pending_first(log);
    if (batch_size_of(request) <= log->batch_bytes || !room_for(log, batch_size_of(request)))
        return;
    pending_pop(log);
    if (!enter_chunks(log, request))
        return;
    batch_begin_large(log->flight, request, log->active, log->write_end,
                      log->spool->sequence_next++);
    account(log, log->flight, request);
    list_push_back(&log->flight->waiting, &request->link);
    flight_start(log);
}

/* ---- The end of a commit ------------------------------------------------------------------- */

static void answer_durable(struct seglog *log, struct batch *batch)
{
    struct list *node;

    while ((node = list_pop_front(&batch->waiting)) != NULL) {
        struct log_request *request = container_of(node, struct log_request, link);

        if (batch_request_is_mail(request) || request->parcel.kind == SPOOL_OWN_BEGIN) {
            request->place.serial = batch->segment->serial;
            request->place.slot = batch->segment->slot;
            request->place.offset += batch->offset;
        }
        if (request->parcel.kind == SPOOL_APPEND_COMMIT)
            chunkbook_commit(&log->spool->chunks, request);
        spool_answer(log->spool, request, 0);
    }
}

/* A seeded bug for the tests: what is on its way to other devices is answered too. */
static void answer_others(struct seglog *log)
{
    struct spool *spool = log->spool;

    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct seglog *other = &spool->devices[i].messages;

        if (other != log && (other->state == SEGLOG_WRITING || other->state == SEGLOG_SYNCING))
            answer_durable(other, other->flight);
    }
}

static void flight_durable(struct seglog *log)
{
    struct batch *flight = log->flight;
    struct spool_counters *counters = &log->spool->counters;
    uint64_t took_ns = io_now_ns(log->spool->io) - log->commit_began_ns;

    flight->segment->end = flight->offset + (uint32_t)segfmt_align(flight->used, SEGFMT_BLOCK);
    log->failures_in_a_row = 0;
    spool_count(&counters->commit_ns_total, took_ns);
    if (log->stream == STREAM_MESSAGES) {
        spool_count(&log->device->commits, 1);
        spool_count(&log->device->messages_kept, flight->records - flight->chunk_count);
        if (planted("queue/answer-at-other-sync"))
            answer_others(log);
    } else {
        spool_count(&counters->outcome_commits, 1);
        spool_count(&counters->outcomes, flight->outcomes);
        segpool_publish(log->pool, flight->segment);
    }
    for (uint32_t i = 0; i < flight->done_count; i++) {
        struct segment *segment = &log->spool->segments[flight->done_slots[i]];

        segpool_records_left(spool_pool_of(log->spool, segment), segment, 1, flight->done_bytes[i]);
    }
    chunkbook_done(&log->spool->chunks, flight->done_chunks);
    answer_durable(log, flight);
    batch_reset(flight);
    enter(log, SEGLOG_IDLE);
}

static struct segfmt_void void_of(const struct batch *batch)
{
    return (struct segfmt_void){
        .serial = batch->segment->serial,
        .offset = batch->offset,
        .first = batch->first,
        .last = batch->last,
    };
}

/* What is void at the end of a segment stays known as long as its file exists. */
static void void_note(struct segment *segment, const struct segfmt_void *gone)
{
    segment->gone = *gone;
    segment->has_void = true;
}

/* After a second failure in a row the disk is given a rest: each try costs a file. */
static void note_failure(struct seglog *log, int error)
{
    struct io *io = log->spool->io;
    uint32_t before = log->failures_in_a_row++;

    spool_count(&log->spool->counters.failed_commits, 1);
    log->failure = segpool_error(error);
    log->shunned_until_ns =
        io_now_ns(io) + (REST_NS << (before < REST_DOUBLINGS ? before : REST_DOUBLINGS));
    if (before == 0)
        return;
    log->rest_until_ns =
        io_now_ns(io) + (REST_NS << (before <= REST_DOUBLINGS ? before - 1 : REST_DOUBLINGS));
    io_timer_arm(io, &log->watch, log->rest_until_ns);
}

/* The outcome stream must make this void durable before it goes on. */
static void mend(struct seglog *log, struct segment *segment, const struct segfmt_void *gone)
{
    void_note(segment, gone);
    enter(log, SEGLOG_VOID_DUE);
    if (log->void_count == SEGLOG_VOIDS_MAX)
        spool_poison(log->spool);
    else
        log->voids[log->void_count++] = *gone;
}

/*
 * The batch may or may not be on the disk. Nothing of that segment is written again; what becomes
 * of its records is said by a durable void before anybody hears of it.
 */
static void flight_failed(struct seglog *log, int error)
{
    struct spool *spool = log->spool;
    struct batch *flight = log->flight;
    struct segfmt_void gone = void_of(flight);

    must(error < 0);
    note_failure(log, error);
    segpool_poison(log->pool, flight->segment);
    if (log->active == flight->segment)
        log->active = NULL;
    log->fill->is_adrift = log->fill->used > 0;
    if (log->stream == STREAM_OUTCOMES) {
        mend(log, flight->segment, &gone);
        return;
    }
    void_note(flight->segment, &gone);
    segfmt_void_encode(&gone, log->void_bytes);
    spool_count(&log->device->failed_commits, 1);
    enter(log, SEGLOG_VOID_WAITS);
    if (planted("queue/void-missing")) {
        flight->segment->has_void = false;
        seglog_on_void_durable(log);
        return;
    }
    log->void_request = (struct log_request){
        .parcel = {.kind = SPOOL_OWN_VOID, .from = SPOOL_FROM_SELF},
        .payload = &log->void_payload,
        .payload_count = 1,
        .payload_bytes = SEGFMT_VOID_BYTES,
        .flags = LOG_WANTS_SYNC,
    };
    log->void_payload = (struct iovec){log->void_bytes, SEGFMT_VOID_BYTES};
    seglog_append(&spool->outcomes, &log->void_request);
    /* What was not written yet need not fail with it. */
    if (!route_has_other(spool, log->device))
        return;
    if (log->fill->is_adrift)
        pass_on_fill(log);
    pass_on_pending(log);
}

void seglog_on_void_durable(struct seglog *log)
{
    struct batch *flight = log->flight;

    must(log->stream == STREAM_MESSAGES);
    if (log->state == SEGLOG_DEAD)
        return;
    spool_count(&log->spool->counters.voids, 1);
    unaccount(log, flight);
    answer_list(log->spool, &flight->waiting, log->failure);
    batch_reset(flight);
    enter(log, SEGLOG_IDLE);
}

void seglog_release_waiting(struct seglog *log, bool for_good)
{
    struct list requests;

    must(log->stream == STREAM_MESSAGES);
    if (log->state != SEGLOG_VOID_WAITS && log->state != SEGLOG_IDLE)
        return;
    if (for_good) {
        forget_chunks(log, log->flight);
        answer_list(log->spool, &log->flight->waiting, E_POISONED);
    }
    if (!seglog_is_resting(log) && log->state == SEGLOG_IDLE)
        return;
    if (!for_good) {
        pass_on_fill(log);
        pass_on_pending(log);
        return;
    }
    fill_take_back(log, &requests);
    answer_list(log->spool, &requests, log->failure);
    answer_list(log->spool, &log->pending, log->failure);
    log->pending_bytes = 0;
}

/* The voids that are due, as one batch of records in the block. */
static void void_block_fill(struct seglog *log)
{
    struct spool *spool = log->spool;
    struct segfmt_batch header = {
        .stream = (uint8_t)log->stream,
        .serial = log->active->serial,
        .records = log->void_count,
        .sequence = spool->sequence_next,
        .life = spool->life,
        .bytes = SEGFMT_BATCH_BYTES,
    };

    log->void_sequence = spool->sequence_next;
    memset(log->void_block, 0, SEGFMT_BLOCK);
    for (uint32_t i = 0; i < log->void_count; i++) {
        struct segfmt_record record = {.type = RECORD_VOID,
                                       .payload_bytes = SEGFMT_VOID_BYTES,
                                       .serial = log->active->serial,
                                       .sequence = spool->sequence_next++};
        uint8_t *at = log->void_block + header.bytes;

        segfmt_void_encode(&log->voids[i], at + SEGFMT_RECORD_BYTES);
        segfmt_record_encode(&record, log->active->seed, at);
        header.bytes += (uint32_t)segfmt_record_room(SEGFMT_VOID_BYTES);
    }
    must(header.bytes <= SEGFMT_BLOCK);
    segfmt_batch_encode(&header, log->active->seed, log->void_block);
}

/* The outcome stream's own voids: a batch by itself at the start of a fresh segment. */
static void void_write(struct seglog *log)
{

    if (seglog_is_resting(log) || !room_for(log, SEGFMT_BLOCK))
        return;
    void_block_fill(log);
    log->void_offset = log->write_end;
    log->write_end += SEGFMT_BLOCK;
    enter(log, SEGLOG_VOID_WRITING);
    write_bytes(log, log->active, log->void_block, SEGFMT_BLOCK, log->void_offset,
                !log->pool->by_sync);
}

/* The void may or may not be there; the next one says that it never was. */
static void void_failed(struct seglog *log, int error)
{
    struct segment *segment = log->active;
    struct segfmt_void gone = {.serial = segment->serial,
                               .offset = log->void_offset,
                               .first = log->void_sequence,
                               .last = log->void_sequence + log->void_count - 1};

    note_failure(log, error);
    log->active = NULL;
    segpool_poison(log->pool, segment);
    mend(log, segment, &gone);
}

static void void_durable(struct seglog *log)
{
    log->active->end = log->write_end;
    segpool_publish(log->pool, log->active);
    spool_count(&log->spool->counters.voids, log->void_count);
    log->void_count = 0;
    enter(log, SEGLOG_REDO_DUE);
}

/* Outcomes are never given up: the same records again, behind their void. */
static void redo(struct seglog *log)
{
    if (!room_for(log, log->flight->used))
        return;
    batch_move(log->flight, log->active, log->write_end, &log->spool->sequence_next);
    flight_start(log);
}

static int write_error(const struct seglog *log, int32_t result)
{
    if (result < 0)
        return result;
    return (uint32_t)result == log->piece ? 0 : -EIO;
}

static void on_written(struct seglog *log, int32_t result)
{
    int error = write_error(log, result);

    if (error < 0) {
        flight_failed(log, error);
    } else if (log->flight->large != NULL) {
        large_write_piece(log);
    } else if (log->pool->by_sync && !planted("queue/answer-before-sync")) {
        enter(log, SEGLOG_SYNCING);
        io_sync(log->spool->io, &log->op, log->flight->segment->fd);
    } else {
        flight_durable(log);
    }
}

static void on_void_written(struct seglog *log, int32_t result)
{
    int error = write_error(log, result);

    if (error < 0) {
        void_failed(log, error);
    } else if (log->pool->by_sync) {
        enter(log, SEGLOG_VOID_SYNCING);
        io_sync(log->spool->io, &log->op, log->active->fd);
    } else {
        void_durable(log);
    }
}

static void on_op_done(struct io_op *op, int32_t result)
{
    struct seglog *log = container_of(op, struct seglog, op);

    switch (log->state) {
    case SEGLOG_WRITING:
        on_written(log, result);
        break;
    case SEGLOG_SYNCING:
        if (result < 0)
            flight_failed(log, result);
        else
            flight_durable(log);
        break;
    case SEGLOG_VOID_WRITING:
        on_void_written(log, result);
        break;
    case SEGLOG_VOID_SYNCING:
        if (result < 0)
            void_failed(log, result);
        else
            void_durable(log);
        break;
    default:
        must(log->state == SEGLOG_DEAD);
        break;
    }
}

/* ---- The turn ------------------------------------------------------------------------------ */

void seglog_turn(struct seglog *log)
{
    take_pending(log);
    switch (log->state) {
    case SEGLOG_IDLE:
        start_due(log);
        take_pending(log);
        break;
    case SEGLOG_SUMMING:
        large_sum(log);
        break;
    case SEGLOG_VOID_DUE:
        void_write(log);
        break;
    case SEGLOG_REDO_DUE:
        redo(log);
        break;
    default:
        break;
    }
}

void seglog_kill(struct seglog *log, int status)
{
    if (log->state == SEGLOG_DEAD)
        return;
    enter(log, SEGLOG_DEAD);
    io_timer_stop(log->spool->io, &log->hold);
    io_timer_stop(log->spool->io, &log->watch);
    answer_list(log->spool, &log->flight->waiting, status);
    answer_list(log->spool, &log->fill->waiting, status);
    answer_list(log->spool, &log->pending, status);
    log->pending_bytes = 0;
}

bool seglog_is_idle(const struct seglog *log)
{
    if (io_op_in_flight(&log->op))
        return false;
    if (log->state == SEGLOG_DEAD)
        return true;
    return log->state == SEGLOG_IDLE && log->fill->used == 0 && list_empty(&log->pending);
}

bool seglog_is_waiting(const struct seglog *log)
{
    return !list_empty(&log->pending) || log->fill->is_adrift || log->state == SEGLOG_VOID_DUE ||
           log->state == SEGLOG_REDO_DUE;
}

bool seglog_is_failing(const struct seglog *log)
{
    return log->failures_in_a_row > 1;
}

bool seglog_is_resting(const struct seglog *log)
{
    return log->rest_until_ns > 0 && log->rest_until_ns > io_now_ns(log->spool->io);
}

bool seglog_is_late(const struct seglog *log)
{
    return io_op_in_flight(&log->op) && io_now_ns(log->spool->io) >= log->commit_began_ns + LATE_NS;
}

bool seglog_is_busy(const struct seglog *log)
{
    return log->state == SEGLOG_SUMMING;
}

void seglog_durable_place(const struct seglog *log, uint32_t *ret_serial, uint32_t *ret_offset)
{
    const struct segpool *pool = log->pool;
    const struct batch *oldest = log->flight->used > 0 ? log->flight : log->fill;

    if (oldest->used > 0 && !oldest->is_adrift) {
        *ret_serial = oldest->segment->serial;
        *ret_offset = oldest->offset;
    } else if (log->active != NULL) {
        *ret_serial = log->active->serial;
        *ret_offset = log->write_end;
    } else {
        *ret_serial = segpool_next_serial(pool, log->stream);
        *ret_offset = SEGFMT_BLOCK;
    }
}
