#include "tests/unit/queue/large.h"

#include "core/base/crc32c.h"
#include "core/base/must.h"
#include "queue/envelope.h"
#include "queue/segfmt.h"

#include <stdlib.h>

#define PAYLOAD_MAX   (128u * 1024)
#define IN_FLIGHT_MAX 2u

/* One message on its way into the log, or from one place in it to another. */
struct making {
    struct list link; /* in life.makings */
    struct life *life;
    struct ledger_message *message;
    uint8_t *payload; /* envelope and content */
    size_t content_at;
    size_t content_bytes;
    uint32_t chunk_octets;
    struct log_chunk *chunks;
    bool *is_wanted; /* to be appended */
    bool *is_placed;
    uint8_t *entries;
    uint8_t *tail; /* what stands behind the envelope in the commit record */
    uint32_t chunk_count;
    uint32_t next;
    uint32_t in_flight;
    uint32_t gives_up_at; /* chunks; UINT32_MAX = never */
    int failure;
    bool is_move;
    struct log_place from;
    struct log_request request; /* commit or drop */
    struct iovec iov[2];
};

struct chunk_sent {
    struct log_request request; /* first */
    struct list link;           /* in life.chunks */
    struct making *making;
    uint32_t index;
    struct iovec iov[2];
    uint8_t head[LOG_CHUNK_HEAD_BYTES];
};

static void making_free(struct making *making)
{
    list_remove(&making->link);
    free(making->payload);
    free(making->chunks);
    free(making->is_wanted);
    free(making->is_placed);
    free(making->entries);
    free(making->tail);
    free(making);
}

static size_t chunk_at(const struct making *making, uint32_t index)
{
    size_t at = making->content_at;

    for (uint32_t i = 0; i < index; i++)
        at += making->chunks[i].octets;
    return at;
}

static struct making *making_new(struct life *life, struct ledger_message *message)
{
    struct making *making = calloc(1, sizeof(*making));
    struct envelope envelope;
    size_t len;

    must(making != NULL);
    making->life = life;
    making->message = message;
    making->payload = malloc(PAYLOAD_MAX);
    len = ledger_payload(message, making->payload, PAYLOAD_MAX);
    must(envelope_decode(slice_of(making->payload, len), &envelope) == 0);
    making->content_at = envelope.encoded_bytes;
    making->content_bytes = len - envelope.encoded_bytes;
    making->gives_up_at = UINT32_MAX;
    list_push_back(&life->makings, &making->link);
    return making;
}

static void making_room(struct making *making, uint32_t chunk_count)
{
    making->chunk_count = chunk_count;
    making->chunks = calloc(chunk_count, sizeof(*making->chunks));
    making->is_wanted = calloc(chunk_count, sizeof(bool));
    making->is_placed = calloc(chunk_count, sizeof(bool));
    making->entries = calloc(chunk_count, LOG_CHUNK_BYTES);
}

static void post_chunk(struct making *making, uint32_t index)
{
    struct chunk_sent *sent = calloc(1, sizeof(*sent));
    struct life *life = making->life;
    uint32_t octets = making->chunks[index].octets;

    must(sent != NULL);
    sent->making = making;
    sent->index = index;
    log_chunk_head_put(making->message->id, index, sent->head);
    sent->iov[0] = (struct iovec){sent->head, sizeof(sent->head)};
    sent->iov[1] = (struct iovec){making->payload + chunk_at(making, index), octets};
    sent->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_CHUNK, .from = life->client},
        .payload = sent->iov,
        .payload_count = 2,
        .payload_bytes = LOG_CHUNK_HEAD_BYTES + octets,
        .flags = making->is_move ? LOG_IS_COPY : 0,
    };
    making->in_flight++;
    list_push_back(&life->chunks, &sent->link);
    life->request_count++;
    mailbox_post(life->to_spool, &sent->request.parcel);
}

/* Those that were answered 0, and for a commit record those it takes over. */
static uint32_t put_entries(struct making *making, bool with_old)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < making->chunk_count; i++) {
        struct log_chunk *chunk = &making->chunks[i];

        if (!making->is_placed[i] || (!making->is_wanted[i] && !with_old))
            continue;
        chunk->is_fresh = making->is_wanted[i];
        log_chunk_put(chunk, making->entries, count++);
    }
    return count;
}

static void post_drop(struct making *making)
{
    making->request = (struct log_request){
        .parcel = {.kind = SPOOL_DROP_CHUNKS, .from = making->life->client},
        .chunks = making->entries,
        .chunk_count = put_entries(making, false),
    };
    making->life->request_count++;
    mailbox_post(making->life->to_spool, &making->request.parcel);
}

static void post_commit(struct making *making)
{
    struct life *life = making->life;
    size_t rest_at = chunk_at(making, making->chunk_count);
    size_t rest = making->content_at + making->content_bytes - rest_at;
    uint32_t count = put_entries(making, true);
    size_t entries = (size_t)count * LOG_CHUNK_BYTES;

    must(count == making->chunk_count);
    making->tail = malloc(4 + entries + rest);
    for (int i = 0; i < 4; i++)
        making->tail[i] = (uint8_t)(count >> (8 * i));
    memcpy(making->tail + 4, making->entries, entries);
    memcpy(making->tail + 4 + entries, making->payload + rest_at, rest);
    making->iov[0] = (struct iovec){making->payload, making->content_at};
    making->iov[1] = (struct iovec){making->tail, 4 + entries + rest};
    making->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_COMMIT, .from = life->client},
        .payload = making->iov,
        .payload_count = 2,
        .payload_bytes = (uint32_t)(making->content_at + 4 + entries + rest),
        .flags = making->is_move ? LOG_IS_COPY : 0,
        .message_id = making->message->id,
        .place.large = log_large_of(making->content_bytes),
        .chunks = making->entries,
        .chunk_count = count,
    };
    making->message->is_uncommitted = false;
    life->request_count++;
    mailbox_post(life->to_spool, &making->request.parcel);
}

static void go_on(struct making *making)
{
    if (making->next >= making->gives_up_at && making->failure == 0)
        making->failure = -1;
    while (making->failure == 0 && making->in_flight < IN_FLIGHT_MAX &&
           making->next < making->chunk_count) {
        if (making->is_wanted[making->next])
            post_chunk(making, making->next);
        making->next++;
    }
    if (making->in_flight > 0)
        return;
    if (making->failure != 0)
        post_drop(making);
    else
        post_commit(making);
}

void large_send(struct life *life, uint32_t rcpt_count, uint32_t body_bytes, uint32_t chunk_octets,
                bool gives_up)
{
    struct ledger_message *message = ledger_message_new(life->ledger, rcpt_count, body_bytes);
    struct making *making = making_new(life, message);

    must(body_bytes >= 2 * chunk_octets);
    message->is_uncommitted = true;
    /* The rest is between nothing and nearly a chunk. */
    making_room(making, body_bytes / chunk_octets);
    for (uint32_t i = 0; i < making->chunk_count; i++) {
        making->chunks[i].octets = chunk_octets;
        making->is_wanted[i] = true;
    }
    if (gives_up)
        making->gives_up_at = (uint32_t)rng_between(&life->rng, 1, making->chunk_count);
    go_on(making);
}

/* ---- Moving ---------------------------------------------------------------------------------- */

bool large_is_asked_for(const struct ledger_message *message, const struct spool_notice *notice)
{
    uint64_t place = (uint64_t)message->place.serial << 32 | message->place.offset;

    if (message->place.serial == notice->place.serial)
        return true;
    for (uint32_t i = 0; i < notice->commit_count; i++) {
        if (notice->commits[i] == place)
            return true;
    }
    return false;
}

void large_move(struct life *life, struct ledger_message *message,
                const struct spool_notice *evacuation)
{
    struct making *making = making_new(life, message);

    must(!message->is_moving && message->chunk_count > 0);
    message->is_moving = true;
    making->is_move = true;
    making->from = message->place;
    making_room(making, message->chunk_count);
    for (uint32_t i = 0; i < message->chunk_count; i++) {
        making->chunks[i] = message->chunks[i];
        making->is_placed[i] = true;
        making->is_wanted[i] = evacuation != NULL
                                   ? message->chunks[i].serial == evacuation->place.serial
                                   : rng_one_in(&life->rng, 2);
        if (making->is_wanted[i])
            making->is_placed[i] = false;
    }
    go_on(making);
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void keep_chunks(struct ledger_message *message, const struct log_chunk *chunks,
                        uint32_t count)
{
    free(message->chunks);
    message->chunks = calloc(count, sizeof(*chunks));
    must(message->chunks != NULL);
    memcpy(message->chunks, chunks, count * sizeof(*chunks));
    message->chunk_count = count;
}

static void on_chunk(struct chunk_sent *sent)
{
    struct making *making = sent->making;
    struct log_chunk *chunk = &making->chunks[sent->index];
    const struct log_place *place = &sent->request.place;

    making->in_flight--;
    if (sent->request.status < 0) {
        making->failure = sent->request.status;
    } else {
        chunk->serial = place->serial;
        chunk->offset = place->offset;
        chunk->slot = place->slot;
        chunk->crc = crc32c(0, sent->iov[1].iov_base, sent->iov[1].iov_len);
        making->is_placed[sent->index] = true;
    }
    list_remove(&sent->link);
    free(sent);
    go_on(making);
}

static void on_commit(struct making *making)
{
    struct ledger_message *message = making->message;
    struct log_place from = making->from;
    struct life *life = making->life;

    if (making->request.status < 0) {
        making->failure = making->request.status;
        post_drop(making);
        return;
    }
    keep_chunks(message, making->chunks, making->chunk_count);
    if (making->is_move) {
        life->ledger->chunked_moved++;
        message->is_moving = false;
        message->place = making->request.place;
        life_send_moved(life, message, &from);
    } else {
        life->ledger->chunked_kept++;
        ledger_message_answered(life->ledger, message, 0, &making->request.place);
    }
    making_free(making);
}

static void on_dropped(struct making *making)
{
    making->life->ledger->chunked_dropped++;
    if (making->is_move)
        making->message->is_moving = false;
    else
        ledger_message_answered(making->life->ledger, making->message, making->failure, NULL);
    making_free(making);
}

void large_on_answer(struct life *life, struct log_request *request)
{
    life->request_count--;
    if (request->parcel.kind == SPOOL_APPEND_CHUNK)
        on_chunk(container_of(request, struct chunk_sent, request));
    else if (request->parcel.kind == SPOOL_APPEND_COMMIT)
        on_commit(container_of(request, struct making, request));
    else
        on_dropped(container_of(request, struct making, request));
}

void large_forget(struct life *life)
{
    struct list *node;

    while ((node = list_pop_front(&life->chunks)) != NULL)
        free(container_of(node, struct chunk_sent, link));
    while (!list_empty(&life->makings))
        making_free(container_of(life->makings.next, struct making, link));
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool read_at(struct life *life, struct spool_reader *reader, uint16_t slot, uint64_t offset,
                    uint8_t *room, uint32_t bytes)
{
    struct log_place place = {.slot = slot};
    int fd = spool_reader_fd(reader, &place);

    return fd >= 0 && io_file_read_now(life->spool_io, fd, room, bytes, offset) == bytes;
}

static const char *read_chunks(struct life *life, struct spool_reader *reader,
                               struct ledger_message *message, const struct log_commit *commit,
                               const uint8_t *wanted)
{
    struct log_chunk *chunks = calloc(commit->chunk_count + 1, sizeof(*chunks));
    uint8_t *octets = malloc(LOG_CHUNK_OCTETS_MAX);
    const char *text = NULL;

    for (uint32_t i = 0; i < commit->chunk_count && text == NULL; i++) {
        log_chunk_get(commit->chunks, i, &chunks[i]);
        if (!read_at(life, reader, chunks[i].slot, log_chunk_octets_at(&chunks[i]), octets,
                     chunks[i].octets))
            text = "has a chunk that cannot be read";
        else if (crc32c(0, octets, chunks[i].octets) != chunks[i].crc)
            text = "has a chunk that does not sum up";
        else if (memcmp(octets, wanted, chunks[i].octets) != 0)
            text = "has a chunk with other octets";
        wanted += chunks[i].octets;
    }
    if (text == NULL && memcmp(commit->rest.data, wanted, commit->rest.len) != 0)
        text = "has other octets at its end";
    if (text == NULL)
        keep_chunks(message, chunks, commit->chunk_count);
    free(chunks);
    free(octets);
    return text;
}

const char *large_read_back(struct life *life, const struct log_message_state *state)
{
    struct ledger_message *message = life->ledger->messages[state->message_id - 1];
    struct spool_reader *reader = spool_reader_create(life->spool_io, life->spool);
    uint8_t *found = malloc(state->place.bytes);
    uint8_t *wanted = malloc(PAYLOAD_MAX);
    size_t len = ledger_payload(message, wanted, PAYLOAD_MAX);
    struct iovec iov = {found, state->place.bytes};
    struct slice payload =
        slice_of(found + LOG_RECORD_HEADER_BYTES, state->place.bytes - LOG_RECORD_HEADER_BYTES);
    struct envelope envelope;
    struct log_commit commit;
    const char *text = NULL;

    life->ledger->chunked_read++;
    if (!read_at(life, reader, state->place.slot, state->place.offset, found, state->place.bytes) ||
        spool_reader_check(&state->place, state->message_id, &iov, 1) < 0)
        text = "has a commit record that cannot be read";
    else if (envelope_decode(payload, &envelope) < 0 ||
             memcmp(payload.data, wanted, envelope.encoded_bytes) != 0 ||
             log_commit_decode(slice_after(payload, envelope.encoded_bytes),
                               len - envelope.encoded_bytes, &commit) < 0 ||
             log_large_of(len - envelope.encoded_bytes) != state->place.large)
        text = "has a commit record that is not as it was";
    else
        text = read_chunks(life, reader, message, &commit, wanted + envelope.encoded_bytes);
    free(found);
    free(wanted);
    spool_reader_destroy(reader);
    return text;
}
