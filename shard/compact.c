/*
 * Moving live messages out of a segment that is nearly empty, so that its file can be used again.
 *
 * The spool names the segment (SPOOL_EVACUATE). Each message at home here that lies in it is read,
 * appended again as it is, and when the copy is durable its state says where it lies now; with that
 * the spool gives the first copy up. A few at a time, so that mail passes by. Owners of recipients
 * need not be told: they ask where a message lies when they want to read it.
 *
 *   READING ─► APPENDING ─► MOVED (its state waits for room) ─► gone
 *      ├─► CHUNKS ─► APPENDING
 *      │      └─► DROPPING ─► gone
 *      └─► gone, when it cannot be read, or ended meanwhile
 *
 * Of a message in chunks those that lie in the segment are copied one by one (CHUNKS), then its
 * commit record, which names them and the others. Copies that are of no use are dropped.
 *
 * A message that would end while it is being appended ends when that is answered: a copy that
 * becomes durable behind the message's last outcome would bring it back to life.
 */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

#include <stdlib.h>

#define MOVES_MAX      8u
#define STEPS_PER_TURN 4096u

enum move_state {
    MOVE_READING,
    MOVE_CHUNKS,
    MOVE_DROPPING,
    MOVE_APPENDING,
    MOVE_MOVED,
};

struct move {
    struct io_op read_op;
    struct shard *shard;
    struct message *message;
    struct list link; /* MOVED: in shard.moves_done */
    struct log_place from;
    uint64_t message_id;
    struct outcome_parcel *last; /* ends the message, held back */
    uint32_t home_message;
    uint32_t index;
    uint8_t state; /* enum move_state */
    bool is_void;  /* READING, CHUNKS: the message ended */
    /* Of a message in chunks: entries of its commit record, which are set anew one by one. */
    uint8_t *entries;
    uint32_t entry_count;
    uint32_t entry; /* the one at hand */
    uint32_t fresh_count;
    uint32_t serial; /* of the segment that is evacuated */
    struct log_request request;
    struct iovec payload[2];
    uint8_t head[LOG_CHUNK_HEAD_BYTES];
};

static void on_read(struct io_op *op, int32_t result);

void compact_init(struct shard *shard)
{
    slab_init(&shard->moves, sizeof(struct move), MOVES_MAX);
    list_init(&shard->moves_done);
}

void compact_fini(struct shard *shard)
{
    slab_fini(&shard->moves);
}

void compact_on_evacuate(struct shard *shard, struct spool_notice *notice)
{
    must(!shard->evacuation);
    shard->evacuation = notice;
    shard->evacuation_cursor = 0;
}

static struct move *move_of(struct shard *shard, uint32_t home_message)
{
    for (uint32_t i = 0; shard->moves.count_used > 0 && i < shard->moves.count_grown; i++) {
        struct move *move = slab_is_live(&shard->moves, i) ? slab_at(&shard->moves, i) : NULL;

        if (move && move->home_message == home_message && !move->is_void)
            return move;
    }
    return NULL;
}

static void move_free(struct shard *shard, struct move *move)
{
    message_free(move->message);
    slab_free(&shard->moves, move->index);
}

/* ---- One message ----------------------------------------------------------------------------- */

/* False when it cannot be tried now. */
static bool move_start(struct shard *shard, uint32_t home_message)
{
    const struct home_message *home = slab_at(&shard->home_messages, home_message);
    int fd = spool_reader_fd(shard->reader, &home->place);
    struct message *message = fd < 0 ? NULL : message_alloc(&shard->pool);
    struct move *move;
    uint32_t index;

    if (!message)
        return false;
    move = message_buffer_need(message, home->place.bytes) < 0 ? NULL
                                                               : slab_alloc(&shard->moves, &index);
    if (!move) {
        message_free(message);
        return false;
    }
    move->shard = shard;
    move->message = message;
    move->from = home->place;
    move->message_id = home->id;
    move->home_message = home_message;
    move->serial = shard->evacuation->place.serial;
    move->index = index;
    list_init(&move->link);
    io_op_init(&move->read_op, on_read);
    io_read(shard->io, &move->read_op, fd, message->buffers[0].data, home->place.bytes,
            home->place.offset);
    return true;
}

static void append_record(struct shard *shard, struct move *move)
{
    struct message *message = move->message;

    message->home = move->index;
    message->payload[0] = (struct iovec){message->buffers[0].data + LOG_RECORD_HEADER_BYTES,
                                         move->from.bytes - LOG_RECORD_HEADER_BYTES};
    message->append = (struct log_request){
        .parcel = {.kind = move->from.large > 0 ? SPOOL_APPEND_COMMIT : SPOOL_APPEND_MESSAGE,
                   .from = shard->wiring.spool_client},
        .payload = message->payload,
        .payload_count = 1,
        .payload_bytes = move->from.bytes - LOG_RECORD_HEADER_BYTES,
        .flags = LOG_IS_COPY,
        .message_id = move->message_id,
        .place.large = move->from.large,
        .chunks = move->entries,
        .chunk_count = move->entry_count,
    };
    list_init(&message->append.link);
    move->state = MOVE_APPENDING;
    mailbox_post(shard->wiring.to_spool, &message->append.parcel);
}

/* ---- Its chunks ------------------------------------------------------------------------------ */

/* Gives the move up. */
static void abandon(struct shard *shard, struct move *move)
{
    if (move->fresh_count == 0) {
        move_free(shard, move);
        return;
    }
    move->state = MOVE_DROPPING;
    move->is_void = true;
    move->request = (struct log_request){
        .parcel = {.kind = SPOOL_DROP_CHUNKS, .from = shard->wiring.spool_client},
        .flags = LOG_IS_COPY,
        .chunks = move->entries,
        .chunk_count = move->entry_count,
    };
    mailbox_post(shard->wiring.to_spool, &move->request.parcel);
}

/* Reads the next chunk that lies in the segment; the commit record when there is none. False when
 * it cannot be read now. */
static bool next_chunk(struct shard *shard, struct move *move)
{
    struct message *message = move->message;
    struct log_place place = {0};
    struct log_chunk chunk;
    int fd;

    for (; move->entry < move->entry_count; move->entry++) {
        log_chunk_get(move->entries, move->entry, &chunk);
        if (chunk.serial == move->serial && !chunk.is_fresh)
            break;
    }
    if (move->entry == move->entry_count) {
        append_record(shard, move);
        return true;
    }
    if (message->buffer_count == 1 && message_buffer_add(message, LOG_CHUNK_OCTETS_MAX) < 0)
        return false;
    place.slot = chunk.slot;
    fd = spool_reader_fd(shard->reader, &place);
    if (fd < 0)
        return false;
    move->state = MOVE_CHUNKS;
    io_read(shard->io, &move->read_op, fd, message->buffers[1].data, chunk.octets,
            log_chunk_octets_at(&chunk));
    return true;
}

static void on_chunk_read(struct shard *shard, struct move *move, int32_t result)
{
    uint8_t *octets = move->message->buffers[1].data;
    struct log_chunk chunk;

    log_chunk_get(move->entries, move->entry, &chunk);
    if (move->is_void || result < (int32_t)chunk.octets ||
        crc32c(0, octets, chunk.octets) != chunk.crc) {
        abandon(shard, move);
        return;
    }
    log_chunk_head_put(move->message_id, move->entry, move->head);
    move->payload[0] = (struct iovec){move->head, sizeof(move->head)};
    move->payload[1] = (struct iovec){octets, chunk.octets};
    move->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_CHUNK, .from = shard->wiring.spool_client},
        .payload = move->payload,
        .payload_count = 2,
        .payload_bytes = LOG_CHUNK_HEAD_BYTES + chunk.octets,
        .flags = LOG_IS_COPY,
    };
    mailbox_post(shard->wiring.to_spool, &move->request.parcel);
}

void compact_on_chunk(struct shard *shard, struct log_request *request)
{
    struct move *move = container_of(request, struct move, request);
    struct log_chunk chunk;

    if (move->state == MOVE_DROPPING) {
        move_free(shard, move);
        return;
    }
    must(move->state == MOVE_CHUNKS);
    if (request->status == 0) {
        log_chunk_get(move->entries, move->entry, &chunk);
        chunk.serial = request->place.serial;
        chunk.offset = request->place.offset;
        chunk.slot = request->place.slot;
        chunk.is_fresh = true;
        log_chunk_put(&chunk, move->entries, move->entry++);
        move->fresh_count++;
        shard->chunk_counts.moved++;
    }
    if (request->status < 0 || move->is_void || !next_chunk(shard, move))
        abandon(shard, move);
}

/* All its chunks are old ones; false when it is no commit record. */
static bool begin_chunks(struct move *move)
{
    uint8_t *payload = move->message->buffers[0].data + LOG_RECORD_HEADER_BYTES;
    struct slice record = slice_of(payload, move->from.bytes - LOG_RECORD_HEADER_BYTES);
    struct envelope envelope;
    struct log_commit commit;
    struct log_chunk chunk;

    if (envelope_decode(record, &envelope) < 0 ||
        log_commit_decode(slice_after(record, envelope.encoded_bytes),
                          (uint64_t)envelope.prefix_bytes + envelope.body_bytes, &commit) < 0)
        return false;
    move->entries = payload + (commit.chunks - payload);
    move->entry_count = commit.chunk_count;
    for (uint32_t i = 0; i < commit.chunk_count; i++) {
        log_chunk_get(move->entries, i, &chunk);
        chunk.is_fresh = false;
        log_chunk_put(&chunk, move->entries, i);
    }
    return true;
}

static void on_read(struct io_op *op, int32_t result)
{
    struct move *move = container_of(op, struct move, read_op);
    struct shard *shard = move->shard;
    struct iovec iov = {move->message->buffers[0].data, move->from.bytes};

    if (move->state == MOVE_CHUNKS) {
        on_chunk_read(shard, move, result);
        return;
    }
    /* What cannot be read stays where it is: its delivery will find that out. */
    if (move->is_void || result < (int32_t)move->from.bytes ||
        spool_reader_check(&move->from, move->message_id, &iov, 1) < 0 ||
        (move->from.large > 0 && !begin_chunks(move)) || !next_chunk(shard, move))
        abandon(shard, move);
}

static void move_end(struct shard *shard, struct move *move)
{
    if (move->last)
        home_end_message(shard, move->last);
    move_free(shard, move);
}

/* The copy counts as soon as the message's state says so, in order before its last outcome. */
static void tell_moved(struct shard *shard)
{
    while (!list_empty(&shard->moves_done)) {
        struct move *move = container_of(shard->moves_done.next, struct move, link);

        if (!home_post_moved(shard, move->home_message, &move->from))
            return;
        list_remove(&move->link);
        move_end(shard, move);
    }
}

void compact_on_appended(struct shard *shard, struct message *message)
{
    struct move *move = slab_at(&shard->moves, message->home);
    struct home_message *home = slab_at(&shard->home_messages, move->home_message);

    must(move->state == MOVE_APPENDING && move->message == message);
    must(home->id == move->message_id);
    if (message->append.status < 0) {
        if (move->last)
            home_end_message(shard, move->last);
        move->last = NULL;
        abandon(shard, move);
        return;
    }
    home->place = message->append.place;
    move->state = MOVE_MOVED;
    list_push_back(&shard->moves_done, &move->link);
    tell_moved(shard);
}

bool compact_holds(struct shard *shard, uint32_t home_message, struct outcome_parcel *last)
{
    struct move *move = move_of(shard, home_message);

    if (!move || planted("shard/ends-while-it-moves"))
        return false;
    if (move->state == MOVE_READING || move->state == MOVE_CHUNKS) {
        move->is_void = true;
        return false;
    }
    must(!move->last);
    move->last = last;
    return true;
}

/* ---- The segment ----------------------------------------------------------------------------- */

static int compare(const void *key, const void *item)
{
    uint64_t a = *(const uint64_t *)key;
    uint64_t b = *(const uint64_t *)item;

    return a < b ? -1 : a > b;
}

/* The message's record, or a chunk of it. */
static bool lies_in(const struct log_place *place, const struct spool_notice *evacuation)
{
    uint64_t key = (uint64_t)place->serial << 32 | place->offset;

    if (place->serial == evacuation->place.serial)
        return true;
    return place->large > 0 && evacuation->commit_count > 0 &&
           bsearch(&key, evacuation->commits, evacuation->commit_count, sizeof(key), compare);
}

/* A message in memory is about to be tried, and most of those end with that. */
static bool is_wanted(struct shard *shard, uint32_t home_message)
{
    const struct home_message *home = slab_at(&shard->home_messages, home_message);

    return lies_in(&home->place, shard->evacuation) && !home->hot && home->rcpt_open > 0 &&
           !move_of(shard, home_message);
}

static void answer(struct shard *shard)
{
    shard->evacuation->parcel.kind = SPOOL_EVACUATE_DONE;
    shard->evacuation->parcel.from = shard->wiring.spool_client;
    mailbox_post(shard->wiring.to_spool, &shard->evacuation->parcel);
    shard->evacuation = NULL;
}

void compact_turn(struct shard *shard)
{
    const struct slab *slab = &shard->home_messages;
    uint32_t steps = STEPS_PER_TURN;

    tell_moved(shard);
    if (!shard->evacuation)
        return;
    for (; shard->evacuation_cursor < slab->count_grown && !shard->stopping && steps > 0;
         shard->evacuation_cursor++, steps--) {
        if (!slab_is_live(slab, shard->evacuation_cursor) ||
            !is_wanted(shard, shard->evacuation_cursor))
            continue;
        if (shard->moves.count_used == MOVES_MAX)
            return;
        /* What there is no memory for now is asked for again. */
        (void)move_start(shard, shard->evacuation_cursor);
    }
    if ((shard->evacuation_cursor >= slab->count_grown || shard->stopping) &&
        shard->moves.count_used == 0)
        answer(shard);
}

bool compact_is_busy(const struct shard *shard)
{
    return shard->evacuation && shard->moves.count_used < MOVES_MAX &&
           shard->evacuation_cursor < shard->home_messages.count_grown;
}
