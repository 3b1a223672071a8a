/* Messages that are larger than a chunk, written while they arrive. */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "shard/inject_int.h"

#include <errno.h>

/* A message in more buffers than these does not become a hot one: a session's memory is bounded. */
#define HOT_BUFFERS_MAX 8u
#define TABLE_HEAD      4u /* the number of chunks, in front of their entries */

static void post(struct intake_message *intake)
{
    intake->chunks.is_out = true;
    intake->shard->append_count++;
    mailbox_post(intake->shard->wiring.to_spool, &intake->chunks.request.parcel);
}

/* ---- Chunks ---------------------------------------------------------------------------------- */

/* The chunk of that number in the buffers [from, end): all of them are closed. */
static void post_chunk(struct intake_message *intake, uint32_t from, uint32_t end, uint32_t number)
{
    struct intake_chunks *chunks = &intake->chunks;
    const struct message *message = intake->message;
    uint32_t parts = 1;

    log_chunk_head_put(message->envelope.message_id, number, chunks->head);
    chunks->payload[0] = (struct iovec){chunks->head, sizeof(chunks->head)};
    chunks->octets = 0;
    chunks->crc = 0;
    for (uint32_t i = from; i < end; i++) {
        const struct message_buffer *buffer = &message->buffers[i];
        uint32_t skip = i == 0 ? message->envelope.encoded_bytes : 0;
        uint32_t octets = buffer->used - skip;

        if (octets == 0)
            continue;
        must(parts < INTAKE_CHUNK_PARTS_MAX);
        chunks->payload[parts++] = (struct iovec){buffer->data + skip, octets};
        chunks->crc = crc32c(chunks->crc, buffer->data + skip, octets);
        chunks->octets += octets;
    }
    chunks->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_CHUNK, .from = intake->shard->wiring.spool_client},
        .payload = chunks->payload,
        .payload_count = parts,
        .payload_bytes = LOG_CHUNK_HEAD_BYTES + chunks->octets,
    };
    post(intake);
}

/* Room for one entry more, before its chunk is written: what is durable must be known, or nobody
 * could drop it. 0 or E_FULL. */
static int table_reserve(struct intake_message *intake)
{
    struct message_pool *pool = &intake->shard->pool;
    struct intake_chunks *chunks = &intake->chunks;
    uint32_t used = TABLE_HEAD + chunks->count * LOG_CHUNK_BYTES;
    struct message_buffer larger;

    if (used + LOG_CHUNK_BYTES <= chunks->table.size)
        return 0;
    if (message_pool_take(pool, used * 2, &larger) < 0)
        return E_FULL;
    if (chunks->table.size > 0) {
        memcpy(larger.data, chunks->table.data, used);
        message_pool_give(pool, &chunks->table);
    }
    chunks->table = larger;
    return 0;
}

static void post_next(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    uint32_t from;

    if (chunks->is_out || intake->failure < 0)
        return;
    if (chunks->posted == chunks->closed) {
        /* The one that was kept comes last, when its signatures are in it. */
        chunks->is_first_out = chunks->is_finishing && chunks->kept > 0;
        if (chunks->is_first_out)
            post_chunk(intake, 0, chunks->kept, 0);
        return;
    }
    intake->failure = table_reserve(intake);
    if (intake->failure < 0)
        return;
    from = chunks->posted;
    /* The first chunk is posted as soon as it is full, so nothing else is closed then. */
    chunks->posted = from == 0 ? chunks->closed : from + 1;
    post_chunk(intake, from, chunks->posted, chunks->count);
}

/* The header with the signatures, and with what those are worth that came along, is in the first
 * chunk, and both are known when all of the body is there: it stays, and its place in the table is
 * kept. */
static void keep_first(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;

    intake->failure = table_reserve(intake);
    chunks->kept = chunks->closed;
    chunks->posted = chunks->closed;
    chunks->durable = chunks->closed;
    chunks->count = 1;
}

/* What is durable need not be in memory, but for the envelope. */
static void forget_durable(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    struct message *message = intake->message;
    uint32_t stays = chunks->kept > 0 ? chunks->kept : 1;
    uint32_t gone = chunks->durable > stays ? chunks->durable - stays : 0;

    if (!message->is_partial || chunks->durable == 0)
        return;
    if (chunks->kept == 0)
        message->buffers[0].used = message->envelope.encoded_bytes;
    message_buffers_drop(message, stays, gone);
    chunks->durable -= gone;
    chunks->posted -= gone;
    chunks->closed -= gone;
}

/* The chunk that fills is full, and more of the content is there. */
static void close_chunk(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    struct message *message = intake->message;
    bool is_first;

    /* The header is in the first chunk, or it is an odd one. */
    if (chunks->closed == 0 && !intake->is_header_done)
        intake->is_looping = inject_is_looping(intake);
    is_first = chunks->closed == 0;
    chunks->closed = message->buffer_count;
    chunks->filled = 0;
    if (is_first && (intake->signing || intake->verify))
        keep_first(intake);
    message->is_partial |=
        message_pool_is_tight(&intake->shard->pool) || message->buffer_count > HOT_BUFFERS_MAX;
    forget_durable(intake);
    post_next(intake);
}

int inject_chunks_write(struct intake_message *intake, const uint8_t *data, size_t len)
{
    struct intake_chunks *chunks = &intake->chunks;
    struct message *message = intake->message;

    while (len > 0) {
        uint32_t room = chunks->octets_max - chunks->filled;
        size_t part = len < room ? len : room;
        int result = 0;

        if (room == 0) {
            close_chunk(intake);
            continue;
        }
        if (chunks->closed > 0 && chunks->closed == message->buffer_count)
            result = message_buffer_add(message, chunks->octets_max);
        if (result == 0)
            result = message_append(message, data, part);
        if (result < 0)
            return result;
        chunks->filled += (uint32_t)part;
        data += part;
        len -= part;
    }
    if (intake->failure < 0)
        return intake->failure;
    chunks->is_held = chunks->posted < chunks->closed;
    return chunks->is_held ? INTAKE_PAUSE : 0;
}

/* ---- Answers --------------------------------------------------------------------------------- */

static int note_chunk(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    const struct log_place *place = &chunks->request.place;
    struct log_chunk chunk = {
        .serial = place->serial,
        .offset = place->offset,
        .octets = chunks->octets,
        .crc = chunks->crc,
        .slot = place->slot,
        .is_fresh = true,
    };
    int result = chunks->request.status;

    /* Whatever is on the disk: without a commit record it is nothing. */
    if (result < 0 && !planted("shard/failed-chunk-ignored"))
        return result == E_POISONED ? -EIO : result;
    intake->shard->chunk_counts.written++;
    if (chunks->is_first_out) {
        log_chunk_put(&chunk, chunks->table.data + TABLE_HEAD, 0);
        chunks->is_first_out = false;
        chunks->kept = 0;
    } else {
        log_chunk_put(&chunk, chunks->table.data + TABLE_HEAD, chunks->count++);
    }
    chunks->durable = chunks->posted;
    forget_durable(intake);
    return 0;
}

static void go_on(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;

    post_next(intake);
    if (chunks->is_finishing) {
        if (!chunks->is_out)
            inject_finish_chunked(intake);
    } else if (chunks->is_held && (chunks->posted == chunks->closed || intake->failure < 0)) {
        chunks->is_held = false;
        chunks->resume(intake->asker, intake->cookie);
    }
}

void inject_on_chunk(struct shard *shard, struct log_request *request)
{
    struct intake_message *intake = container_of(request, struct intake_message, chunks.request);
    bool is_drop = request->parcel.kind == SPOOL_DROP_CHUNKS;
    int result;

    must(intake->chunks.is_out && shard->append_count > 0);
    shard->append_count--;
    intake->chunks.is_out = false;
    if (is_drop) {
        inject_free(intake);
        return;
    }
    result = note_chunk(intake);
    if (intake->failure == 0)
        intake->failure = result;
    if (intake->chunks.is_over)
        inject_chunks_end(intake);
    else
        go_on(intake);
}

/* ---- The end --------------------------------------------------------------------------------- */

void inject_chunks_finish(struct intake_message *intake)
{
    intake->chunks.is_finishing = true;
    post_next(intake);
    if (!intake->chunks.is_out)
        inject_finish_chunked(intake);
}

void inject_chunks_commit(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    struct message *message = intake->message;
    uint32_t content = message->bytes - message->envelope.encoded_bytes;
    uint32_t table_bytes = TABLE_HEAD + chunks->count * LOG_CHUNK_BYTES;
    uint32_t bytes = message->envelope.encoded_bytes + table_bytes;
    uint32_t parts = 2;
    struct wire_writer w;

    must(chunks->posted == chunks->closed && !chunks->is_out && chunks->count > 0 &&
         chunks->kept == 0);
    wire_writer_init(&w, chunks->table.data, TABLE_HEAD);
    wire_put_u32(&w, chunks->count);
    message->payload[0] = (struct iovec){message->buffers[0].data + message->payload_offset,
                                         message->envelope.encoded_bytes};
    message->payload[1] = (struct iovec){chunks->table.data, table_bytes};
    for (uint32_t i = chunks->closed; i < message->buffer_count; i++) {
        message->payload[parts++] =
            (struct iovec){message->buffers[i].data, message->buffers[i].used};
        bytes += message->buffers[i].used;
    }
    message->append = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_COMMIT, .from = intake->shard->wiring.spool_client},
        .payload = message->payload,
        .payload_count = parts,
        .payload_bytes = bytes,
        .message_id = message->envelope.message_id,
        .place.large = log_large_of(content),
        .chunks = chunks->table.data + TABLE_HEAD,
        .chunk_count = chunks->count,
    };
}

void inject_chunks_end(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;
    uint32_t absent = chunks->kept > 0 ? 1 : 0;

    chunks->is_over = true;
    if (chunks->is_out)
        return;
    if (chunks->count == absent) {
        inject_free(intake);
        return;
    }
    chunks->request = (struct log_request){
        .parcel = {.kind = SPOOL_DROP_CHUNKS, .from = intake->shard->wiring.spool_client},
        .chunks = chunks->table.data + TABLE_HEAD + absent * LOG_CHUNK_BYTES,
        .chunk_count = chunks->count - absent,
    };
    intake->shard->chunk_counts.dropped++;
    post(intake);
}

void inject_chunks_release(struct intake_message *intake)
{
    struct intake_chunks *chunks = &intake->chunks;

    if (chunks->table.size > 0)
        message_pool_give(&intake->shard->pool, &chunks->table);
    chunks->table.size = 0;
    chunks->closed = 0;
}
