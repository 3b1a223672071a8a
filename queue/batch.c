#include "queue/batch.h"

#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/spool_int.h"

void batch_init(struct batch *batch, uint32_t buffer_bytes)
{
    must(buffer_bytes % SEGFMT_BLOCK == 0 && buffer_bytes > 0);
    memset(batch, 0, sizeof(*batch));
    batch->buffer = mem_alloc_aligned(buffer_bytes, SEGFMT_BLOCK);
    batch->done_slots = mem_alloc(BATCH_DONE_MAX * sizeof(*batch->done_slots));
    batch->done_bytes = mem_alloc(BATCH_DONE_MAX * sizeof(*batch->done_bytes));
    batch->done_chunks = CHUNKBOOK_NONE;
    list_init(&batch->waiting);
}

void batch_fini(struct batch *batch)
{
    mem_free(batch->buffer);
    mem_free(batch->done_slots);
    mem_free(batch->done_bytes);
}

void batch_reset(struct batch *batch)
{
    must(list_empty(&batch->waiting));
    batch->used = 0;
    batch->records = 0;
    batch->outcomes = 0;
    batch->is_urgent = false;
    batch->is_closed = false;
    batch->is_adrift = false;
    batch->done_count = 0;
    batch->done_chunks = CHUNKBOOK_NONE;
    batch->chunk_count = 0;
    batch->segment = NULL;
    batch->large = NULL;
}

enum record_type batch_record_type(const struct log_request *request)
{
    switch (request->parcel.kind) {
    case SPOOL_APPEND_MESSAGE:
        return RECORD_MESSAGE;
    case SPOOL_APPEND_CHUNK:
        return RECORD_CHUNK;
    case SPOOL_APPEND_COMMIT:
        return RECORD_COMMIT;
    case SPOOL_APPEND_OUTCOME:
        return RECORD_OUTCOME;
    case SPOOL_APPEND_STATE:
        return RECORD_STATE;
    case SPOOL_APPEND_NAMED:
    case SPOOL_OWN_NAMED:
        return RECORD_NAMED;
    case SPOOL_OWN_VOID:
    case SPOOL_OWN_OLD_VOID:
        return RECORD_VOID;
    case SPOOL_OWN_BEGIN:
        return RECORD_CHECKPOINT_BEGIN;
    default:
        must(request->parcel.kind == SPOOL_OWN_END);
        return RECORD_CHECKPOINT_END;
    }
}

static void describe(const struct batch *batch, const struct log_request *request,
                     uint64_t sequence, struct segfmt_record *ret_record)
{
    bool is_done =
        request->parcel.kind == SPOOL_APPEND_OUTCOME && (request->flags & LOG_MESSAGE_DONE) != 0;

    ret_record->type = (uint8_t)batch_record_type(request);
    ret_record->flags = is_done ? RECORD_MESSAGE_DONE : 0;
    if ((request->flags & LOG_IS_RELOGGED) != 0)
        ret_record->flags |= RECORD_RELOGGED;
    ret_record->payload_bytes = request->payload_bytes;
    ret_record->serial = batch->segment->serial;
    ret_record->sequence = sequence;
}

/* Requests that learn their place carry the distance from the batch's start until then. */
static void note_place(struct log_request *request, uint32_t distance)
{
    if (!batch_request_is_mail(request) && request->parcel.kind != SPOOL_OWN_BEGIN)
        return;
    request->place.offset = distance;
    request->place.bytes = SEGFMT_RECORD_BYTES + request->payload_bytes;
}

void batch_begin(struct batch *batch, struct segment *segment, uint32_t offset)
{
    must(batch->used == 0 && offset % SEGFMT_BLOCK == 0 && offset > 0);
    batch->segment = segment;
    batch->offset = offset;
    batch->used = SEGFMT_BATCH_BYTES;
}

void batch_put(struct batch *batch, struct log_request *request, uint64_t sequence)
{
    uint8_t *room = batch->buffer + batch->used;
    uint8_t *at = room + SEGFMT_RECORD_BYTES;
    struct segfmt_record record;
    uint32_t whole = (uint32_t)segfmt_record_room(request->payload_bytes);

    for (uint32_t i = 0; i < request->payload_count; i++) {
        memcpy(at, request->payload[i].iov_base, request->payload[i].iov_len);
        at += request->payload[i].iov_len;
    }
    must(at == room + SEGFMT_RECORD_BYTES + request->payload_bytes);
    memset(at, 0, (size_t)(room + whole - at));
    describe(batch, request, sequence, &record);
    segfmt_record_encode(&record, batch->segment->seed, room);
    note_place(request, batch->used);
    if (batch->records == 0)
        batch->first = sequence;
    batch->last = sequence;
    batch->records++;
    batch->outcomes += record.type == RECORD_OUTCOME;
    batch->used += whole;
}

static void header_put(struct batch *batch, enum segfmt_stream stream, uint64_t life, uint8_t *room)
{
    struct segfmt_batch header = {
        .stream = (uint8_t)stream,
        .device = batch->segment->number,
        .serial = batch->segment->serial,
        .records = batch->records,
        .bytes = batch->used,
        .sequence = batch->first,
        .life = life,
    };

    segfmt_batch_encode(&header, batch->segment->seed, room);
}

uint32_t batch_finish(struct batch *batch, enum segfmt_stream stream, uint64_t life)
{
    uint32_t bytes = (uint32_t)segfmt_align(batch->used, SEGFMT_BLOCK);

    must(batch->records > 0 && batch->large == NULL && !batch->is_adrift);
    must(batch->offset + bytes <= batch->segment->bytes);
    header_put(batch, stream, life, batch->buffer);
    memset(batch->buffer + batch->used, 0, bytes - batch->used);
    return bytes;
}

/* Each record anew for its new segment; payload and length stay. */
static void restamp(struct batch *batch, uint64_t *sequence_next)
{
    uint32_t at = SEGFMT_BATCH_BYTES;
    struct segfmt_record record = {0};

    batch->first = *sequence_next;
    for (uint32_t i = 0; i < batch->records; i++) {
        uint8_t *room = batch->buffer + at;
        struct wire_reader r;

        record.type = room[4];
        record.flags = room[5];
        wire_reader_init(&r, room + 8, 4);
        record.payload_bytes = wire_get_u32(&r);
        record.serial = batch->segment->serial;
        record.sequence = (*sequence_next)++;
        segfmt_record_encode(&record, batch->segment->seed, room);
        at += (uint32_t)segfmt_record_room(record.payload_bytes);
    }
    must(at == batch->used);
    batch->last = record.sequence;
}

void batch_move(struct batch *batch, struct segment *segment, uint32_t offset,
                uint64_t *sequence_next)
{
    must(batch->records > 0 && offset % SEGFMT_BLOCK == 0);
    batch->segment = segment;
    batch->offset = offset;
    batch->is_adrift = false;
    if (batch->large != NULL) {
        struct log_request *request = batch->large;

        batch->used = 0;
        batch_begin_large(batch, request, segment, offset, (*sequence_next)++);
        return;
    }
    restamp(batch, sequence_next);
}

/* ---- A record larger than the buffer ------------------------------------------------------- */

void batch_begin_large(struct batch *batch, struct log_request *request, struct segment *segment,
                       uint32_t offset, uint64_t sequence)
{
    struct segfmt_record record;

    batch_begin(batch, segment, offset);
    batch->large = request;
    batch->records = 1;
    batch->first = sequence;
    batch->last = sequence;
    batch->large_done = 0;
    describe(batch, request, sequence, &record);
    batch->large_crc =
        segfmt_record_begin(&record, segment->seed, batch->large_head + SEGFMT_BATCH_BYTES);
    note_place(request, batch->used);
    batch->used += (uint32_t)segfmt_record_room(request->payload_bytes);
    must(offset + segfmt_align(batch->used, SEGFMT_BLOCK) <= segment->bytes);
}

/* The piece of the payload at `at`, at most max bytes, contiguous. */
static struct slice payload_at(const struct log_request *request, uint32_t at, uint32_t max)
{
    for (uint32_t i = 0; i < request->payload_count; i++) {
        size_t len = request->payload[i].iov_len;

        if (at < len) {
            len -= at;
            return slice_of((const uint8_t *)request->payload[i].iov_base + at,
                            len < max ? len : max);
        }
        at -= (uint32_t)len;
    }
    return SLICE_EMPTY;
}

bool batch_sum(struct batch *batch, uint32_t budget)
{
    const struct log_request *request = batch->large;

    while (batch->large_done < request->payload_bytes && budget > 0) {
        struct slice piece = payload_at(request, batch->large_done, budget);

        must(piece.len > 0);
        batch->large_crc = crc32c(batch->large_crc, piece.data, piece.len);
        batch->large_done += (uint32_t)piece.len;
        budget -= (uint32_t)piece.len;
    }
    return batch->large_done == request->payload_bytes;
}

void batch_finish_large(struct batch *batch, enum segfmt_stream stream, uint64_t life)
{
    must(batch->large != NULL && batch->large_done == batch->large->payload_bytes);
    header_put(batch, stream, life, batch->large_head);
    segfmt_record_finish(batch->large_head + SEGFMT_BATCH_BYTES, batch->large_crc);
    batch->large_done = 0;
}

uint32_t batch_piece(struct batch *batch, uint32_t buffer_bytes)
{
    const uint32_t head = sizeof(batch->large_head);
    uint32_t total = (uint32_t)segfmt_align(batch->used, SEGFMT_BLOCK);
    uint32_t payload_end = head + batch->large->payload_bytes;
    uint32_t bytes = total - batch->large_done;
    uint32_t filled = 0;

    if (bytes > buffer_bytes)
        bytes = buffer_bytes;
    if (batch->large_done == 0) {
        memcpy(batch->buffer, batch->large_head, head);
        filled = head;
    }
    while (filled < bytes && batch->large_done + filled < payload_end) {
        uint32_t at = batch->large_done + filled - head;
        struct slice piece = payload_at(batch->large, at, bytes - filled);

        must(piece.len > 0);
        memcpy(batch->buffer + filled, piece.data, piece.len);
        filled += (uint32_t)piece.len;
    }
    memset(batch->buffer + filled, 0, bytes - filled);
    batch->large_done += bytes;
    return bytes;
}
