/* Messages that nobody can say are durable, made durable before anybody hears of them. */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/batch.h"
#include "queue/planted.h"
#include "queue/recover.h"

#include <errno.h>

#define RELOG_BATCH_BYTES (1u << 20)

/* Copying what is in doubt on one device into one segment of this life. */
struct relog {
    struct recover *recover;
    struct segpool *pool; /* where the copies go */
    uint32_t device;      /* index of the one in doubt */
    struct batch batch;
    uint32_t batch_bytes;
    struct segment *segment; /* NULL = none begun */
    uint32_t write_end;
    struct recover_message **moved; /* whose copies wait in the batch */
    uint32_t *moved_at;             /* distance of each from the batch's start */
    uint32_t moved_count;
    uint32_t moved_room;
};

/* ---- What is in doubt ------------------------------------------------------------------------ */

static bool was_written(const struct recover *recover, const struct segment *segment)
{
    const struct recover_seen *seen = &recover->seen[segment->slot];

    return seen->batches > 0 || seen->records > 0;
}

/* The newest life that is known to have run: what lives before it left in doubt, it made durable
 * before it wrote its first outcome. */
static uint64_t life_that_ran(const struct recover *recover)
{
    uint64_t life = 0;

    for (uint32_t i = 0; i < recover->outcomes.count; i++) {
        const struct segment *segment = recover->outcomes.segments[i];

        if (was_written(recover, segment) && segment->life > life)
            life = segment->life;
    }
    return life;
}

/* Whether the segment is the last that its life wrote messages into. */
static bool is_last_of_life(const struct recover *recover, const struct recover_order *order,
                            uint32_t at)
{
    struct segment **segments = order->segments;

    if (!was_written(recover, segments[at]))
        return false;
    for (uint32_t i = at + 1; i < order->count; i++) {
        if (segments[i]->life == segments[at]->life && was_written(recover, segments[i]))
            return false;
    }
    return true;
}

/* Per slot: where the doubt begins, UINT32_MAX = nowhere. True when it begins anywhere on the
 * device. */
static bool doubts_find(const struct recover *recover, uint32_t device, uint32_t *doubts)
{
    const struct recover_order *order = &recover->messages[device];
    uint64_t ran = life_that_ran(recover);
    bool any = false;

    for (uint32_t i = 0; i < order->count; i++) {
        const struct segment *segment = order->segments[i];

        if (segment->life < ran || !is_last_of_life(recover, order, i))
            continue;
        doubts[segment->slot] = recover->seen[segment->slot].tail;
        any = true;
    }
    return any;
}

/* ---- Copying --------------------------------------------------------------------------------- */

static int segment_begin(struct relog *relog)
{
    struct segpool *pool = relog->pool;
    int result = 0;

    if (relog->segment != NULL) {
        result = io_file_sync_now(relog->recover->spool->io, relog->segment->fd);
        if (result < 0)
            return result;
        segpool_seal(pool, relog->segment);
        relog->segment = NULL;
    }
    if (pool->ready[STREAM_MESSAGES] == NULL)
        result = segpool_prepare_beyond_limits_now(pool, STREAM_MESSAGES);
    if (result < 0)
        return result;
    relog->segment = segpool_take(pool, STREAM_MESSAGES);
    relog->write_end = SEGFMT_BLOCK;
    return 0;
}

/* The segment with room for so many bytes at write_end, the next one if need be. */
static int room_for(struct relog *relog, uint64_t bytes)
{
    if (relog->segment != NULL && relog->write_end + bytes <= relog->segment->bytes)
        return 0;
    return segment_begin(relog);
}

/* Written, not synced yet: the messages in the batch lie there now. */
static void batch_landed(struct relog *relog)
{
    struct spool *spool = relog->recover->spool;
    struct chunkbook *book = &spool->chunks;
    struct batch *batch = &relog->batch;

    for (uint32_t i = 0; i < relog->moved_count; i++) {
        struct recover_message *message = relog->moved[i];
        struct segment *from = &spool->segments[message->slot];

        uint32_t entry = CHUNKBOOK_NONE;

        if (message->large > 0)
            entry = chunkbook_find(book, message->id, message->serial, message->offset);
        segpool_message_done(spool_pool_of(spool, from), from, message->bytes);
        message->serial = relog->segment->serial;
        message->slot = relog->segment->slot;
        message->offset = batch->offset + relog->moved_at[i];
        relog->segment->live++;
        relog->segment->live_bytes += message->bytes;
        if (entry != CHUNKBOOK_NONE)
            chunkbook_place(book, entry, message->serial, message->offset);
    }
    relog->moved_count = 0;
    relog->write_end += (uint32_t)segfmt_align(batch->used, SEGFMT_BLOCK);
    relog->segment->end = relog->write_end;
    batch_reset(batch);
}

static int write_all(struct relog *relog, uint32_t bytes, uint32_t offset)
{
    struct io *io = relog->recover->spool->io;
    int64_t written = io_file_write_now(io, relog->segment->fd, relog->batch.buffer, bytes, offset);

    if (written == (int64_t)bytes)
        return 0;
    return written < 0 ? (int)written : -EIO;
}

static int batch_flush(struct relog *relog)
{
    struct batch *batch = &relog->batch;
    int result;

    if (batch->used == 0)
        return 0;
    result = write_all(relog, batch_finish(batch, STREAM_MESSAGES, relog->recover->spool->life),
                       batch->offset);
    if (result == 0)
        batch_landed(relog);
    return result;
}

static int put_large(struct relog *relog, struct log_request *request)
{
    struct spool *spool = relog->recover->spool;
    struct batch *batch = &relog->batch;
    uint32_t bytes;
    uint32_t at = 0;
    int result = 0;

    batch_begin_large(batch, request, relog->segment, relog->write_end, spool->sequence_next++);
    while (!batch_sum(batch, UINT32_MAX))
        continue;
    batch_finish_large(batch, STREAM_MESSAGES, spool->life);
    while (result == 0 && (bytes = batch_piece(batch, relog->batch_bytes)) > 0) {
        result = write_all(relog, bytes, batch->offset + at);
        at += bytes;
    }
    if (result == 0)
        batch_landed(relog);
    return result;
}

static void moved_note(struct relog *relog, struct recover_message *message, uint32_t distance)
{
    if (relog->moved_count == relog->moved_room) {
        uint32_t room = relog->moved_room == 0 ? 256 : relog->moved_room * 2;
        struct recover_message **moved = mem_alloc(room * sizeof(struct recover_message *));
        uint32_t *moved_at = mem_alloc(room * sizeof(*moved_at));

        for (uint32_t i = 0; i < relog->moved_count; i++) {
            moved[i] = relog->moved[i];
            moved_at[i] = relog->moved_at[i];
        }
        mem_free(relog->moved);
        mem_free(relog->moved_at);
        relog->moved = moved;
        relog->moved_at = moved_at;
        relog->moved_room = room;
    }
    relog->moved[relog->moved_count] = message;
    relog->moved_at[relog->moved_count++] = distance;
}

static int copy_message(struct relog *relog, struct recover_message *message)
{
    struct recover *recover = relog->recover;
    struct batch *batch = &relog->batch;
    uint32_t payload_bytes = message->bytes - SEGFMT_RECORD_BYTES;
    uint64_t room = segfmt_record_room(payload_bytes);
    struct iovec iov;
    struct log_request request = {
        .parcel = {.kind = message->large > 0 ? SPOOL_APPEND_COMMIT : SPOOL_APPEND_MESSAGE},
        .payload = &iov,
        .payload_count = 1,
        .payload_bytes = payload_bytes,
        .flags = LOG_IS_RELOGGED,
    };
    int result = recover_record(recover, message, &recover->record, &recover->record_room);

    if (result < 0)
        return result == E_DAMAGED ? 0 : result;
    recover->report->messages_relogged++;
    iov = (struct iovec){recover->record + SEGFMT_RECORD_BYTES, payload_bytes};
    if (batch->used > 0 && (batch->used + room > relog->batch_bytes ||
                            batch->offset + batch->used + room > relog->segment->bytes))
        result = batch_flush(relog);
    if (result == 0 && batch->used == 0)
        result = room_for(relog, SEGFMT_BATCH_BYTES + room);
    if (result < 0)
        return result;
    if (SEGFMT_BATCH_BYTES + room > relog->batch_bytes) {
        moved_note(relog, message, SEGFMT_BATCH_BYTES);
        return put_large(relog, &request);
    }
    if (batch->used == 0)
        batch_begin(batch, relog->segment, relog->write_end);
    moved_note(relog, message, batch->used);
    batch_put(batch, &request, recover->spool->sequence_next++);
    return 0;
}

static int copy_all(struct relog *relog, const uint32_t *doubts)
{
    struct recover_table *table = &relog->recover->table;
    uint32_t limit = relog->pool->segment_bytes - SEGFMT_BLOCK;
    int result = 0;
    int synced = 0;

    for (uint32_t i = 0; i < table->message_count && result == 0; i++) {
        struct recover_message *message = &table->messages[i];

        /* One that no longer fits, since the operator made segments smaller, stays. */
        if (recover_message_is_live(message) &&
            relog->recover->spool->segments[message->slot].device == relog->device &&
            message->offset >= doubts[message->slot] &&
            message->bytes + SEGFMT_BATCH_BYTES + SEGFMT_RECORD_ALIGN <= limit)
            result = copy_message(relog, message);
    }
    if (result == 0)
        result = batch_flush(relog);
    if (relog->segment != NULL)
        synced = io_file_sync_now(relog->recover->spool->io, relog->segment->fd);
    return synced < 0 ? synced : result;
}

/* ---- Without room for copies ----------------------------------------------------------------- */

/* Behind the last live message in doubt in that slot; 0 = there is none. */
static uint64_t doubt_end(const struct recover *recover, uint16_t slot, uint32_t begin)
{
    const struct recover_table *table = &recover->table;
    uint64_t end = 0;

    for (uint32_t i = 0; i < table->message_count; i++) {
        const struct recover_message *message = &table->messages[i];

        if (message->slot == slot && message->offset >= begin && recover_message_is_live(message) &&
            message->offset + message->bytes > end)
            end = message->offset + message->bytes;
    }
    return end;
}

/* The same bytes once more, in place, and then they are durable: a sync that failed may have left
 * them in the cache, taken for clean, where they are read and vanish in a power cut. */
static int write_again(struct recover *recover, struct segment *segment, uint32_t begin)
{
    struct io *io = recover->spool->io;
    uint8_t *block = spool_pool_of(recover->spool, segment)->block;
    uint64_t end = doubt_end(recover, segment->slot, begin);
    int64_t done = SEGFMT_BLOCK;

    for (uint64_t at = begin & ~(SEGFMT_BLOCK - 1); at < end && done == SEGFMT_BLOCK;
         at += SEGFMT_BLOCK) {
        done = recover_read(io, segment->fd, block, SEGFMT_BLOCK, at, recover->report);
        if (done == SEGFMT_BLOCK)
            done = io_file_write_now(io, segment->fd, block, SEGFMT_BLOCK, at);
    }
    if (done != SEGFMT_BLOCK)
        return done < 0 ? (int)done : -EIO;
    return end > 0 ? io_file_sync_now(io, segment->fd) : 0;
}

static int write_all_again(struct recover *recover, uint32_t device, const uint32_t *doubts)
{
    const struct recover_order *order = &recover->messages[device];
    int result = 0;

    for (uint32_t i = 0; i < order->count && result == 0; i++)
        if (doubts[order->segments[i]->slot] != UINT32_MAX)
            result = write_again(recover, order->segments[i], doubts[order->segments[i]->slot]);
    return result;
}

/* ---- Devices --------------------------------------------------------------------------------- */

/* What the copies of another device were put into before; NULL = nothing. */
static struct segment *begun_in(const struct segpool *pool)
{
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        if (pool->slots[i].state == SEGMENT_ACTIVE && pool->slots[i].stream == STREAM_MESSAGES)
            return &pool->slots[i];
    }
    return NULL;
}

static bool is_prepared(const struct segpool *pool)
{
    return pool->ready[STREAM_MESSAGES] != NULL || begun_in(pool) != NULL;
}

/* The same device, if it could be prepared; else one that could. */
static struct segpool *target_for(struct spool *spool, uint32_t device)
{
    struct segpool *own = &spool->devices[device].pool;

    if (is_prepared(own) || spool->device_count == 1)
        return own;
    for (uint32_t i = 0; i < spool->device_count; i++) {
        if (is_prepared(&spool->devices[i].pool))
            return &spool->devices[i].pool;
    }
    return own->takes_mail ? own : &spool->devices[0].pool;
}

static int relog_device(struct recover *recover, uint32_t device, const uint32_t *doubts)
{
    struct spool *spool = recover->spool;
    struct relog relog = {.recover = recover,
                          .pool = target_for(spool, device),
                          .device = device,
                          .batch_bytes = RELOG_BATCH_BYTES};
    int result;

    relog.segment = begun_in(relog.pool);
    if (relog.segment != NULL)
        relog.write_end = relog.segment->end;
    if (relog.batch_bytes > relog.pool->segment_bytes / 4)
        relog.batch_bytes = relog.pool->segment_bytes / 4 & ~(SEGFMT_BLOCK - 1);
    batch_init(&relog.batch, relog.batch_bytes);
    result = copy_all(&relog, doubts);
    batch_fini(&relog.batch);
    mem_free(relog.moved);
    mem_free(relog.moved_at);
    return result == E_LOW_SPACE ? write_all_again(recover, device, doubts) : result;
}

int recover_relog(struct recover *recover)
{
    struct spool *spool = recover->spool;
    uint32_t *doubts = mem_alloc(spool->segment_count * sizeof(*doubts));
    int result = 0;

    memset(doubts, 0xff, spool->segment_count * sizeof(*doubts));
    for (uint32_t i = 0; i < spool->device_count && result == 0; i++) {
        if (doubts_find(recover, i, doubts) && !planted("queue/told-before-durable"))
            result = relog_device(recover, i, doubts);
    }
    mem_free(doubts);
    return result;
}
