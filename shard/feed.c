/*
 * The content of a message in chunks, read from the log while it is sent.
 *
 * One chunk is in memory at a time: the socket's buffer is full while the next one is read. The
 * message may be moved meanwhile (a slow receiver takes hours), and what lay where its chunks were
 * may be something else now; then its home is asked again, and its new commit record says where to
 * go on. What cannot be read ends the connection without a dot, so the receiver has nothing.
 */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/shard_int.h"

/* In a row, for one chunk: it may be moved once more while its new place is asked for. */
#define LOCATED_MAX 3u

/* Buffers of the message. */
enum {
    BUFFER_RECORD, /* the commit record as first read; the transaction points into it */
    BUFFER_CHUNK,
    BUFFER_AGAIN, /* the commit record from another place */
};

static int decode(struct delivery *delivery, const struct message_buffer *record,
                  struct log_commit *ret_commit)
{
    const struct envelope *envelope = &delivery->message->envelope;
    struct slice payload = slice_of(record->data + LOG_RECORD_HEADER_BYTES,
                                    delivery->place.bytes - LOG_RECORD_HEADER_BYTES);

    return log_commit_decode(slice_after(payload, envelope->encoded_bytes),
                             (uint64_t)envelope->prefix_bytes + envelope->body_bytes, ret_commit);
}

int feed_create(struct shard *shard, struct delivery *delivery)
{
    const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[0]);
    struct message *message = delivery->message;
    struct feed *feed;
    uint32_t index;
    int result;

    must(!delivery->feed && message->buffer_count == 1);
    if (message_buffer_need(message, LOG_CHUNK_OCTETS_MAX) < 0)
        return E_FULL;
    feed = slab_alloc(&shard->feeds, &index);
    if (!feed)
        return E_FULL;
    result = decode(delivery, &message->buffers[BUFFER_RECORD], &feed->commit);
    if (result < 0) {
        slab_free(&shard->feeds, index);
        return result;
    }
    feed->index = index;
    feed->home = queued->home;
    delivery->feed = feed;
    return 0;
}

void feed_free(struct shard *shard, struct feed *feed)
{
    slab_free(&shard->feeds, feed->index);
}

/* To whom the delivery goes: a client, or the carrier. */
static void hand_on(struct delivery *delivery, uint32_t count, bool goes_on)
{
    if (delivery->connection)
        smtpc_continue(delivery->connection->smtpc, delivery->feed->parts, count, goes_on);
    else
        carry_continue(delivery, delivery->feed->parts, count, goes_on);
}

/* ---- Ends ------------------------------------------------------------------------------------ */

static void give_up(struct delivery *delivery, int error)
{
    char id[14];

    if (resign_is_reading(delivery)) {
        deliver_on_unreadable(delivery->shard, delivery, error);
        return;
    }
    inject_format_id(delivery->locate.message_id, id);
    if (error == E_CHANGED)
        log_info("message %s begins anew: %s", id, err_text(error));
    else
        log_error("message %s cannot be read to its end (chunk %u): %s", id, delivery->feed->next,
                  err_text(error));
    delivery->feed->error = error;
    if (delivery->connection)
        smtpc_abort(delivery->connection->smtpc);
    else
        carry_abort(delivery);
}

bool feed_must_wait(struct delivery *delivery)
{
    delivery->feed->is_over = true;
    return delivery->feed->is_locating || io_op_in_flight(&delivery->read_op);
}

const struct verdict *feed_verdict(const struct delivery *delivery, const struct verdict *verdict,
                                   struct verdict *room)
{
    static const uint8_t enhanced[3] = {5, 3, 0};

    int error = delivery->feed->error;

    if ((error != E_DAMAGED && error != E_TOO_LONG) || (verdict->flags & VERDICT_FROM_REPLY) != 0)
        return verdict;
    verdict_set_local(room, VERDICT_MESSAGE, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 554, enhanced,
                      error == E_TOO_LONG ? "its header, of which fields are to be removed: %s"
                                          : "the message cannot be read back from the queue: %s",
                      err_text(error));
    return room;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static void read_chunk(struct shard *shard, struct delivery *delivery)
{
    struct log_place place = {0};
    struct log_chunk chunk;
    int fd;

    log_chunk_get(delivery->feed->commit.chunks, delivery->feed->next, &chunk);
    place.slot = chunk.slot;
    fd = spool_reader_fd(shard->reader, &place);
    if (fd < 0) {
        give_up(delivery, fd);
        return;
    }
    io_read(shard->io, &delivery->read_op, fd, delivery->message->buffers[BUFFER_CHUNK].data,
            chunk.octets, log_chunk_octets_at(&chunk));
}

/* Octets that are to leave, behind `count` parts; returns how many there are then, or negative. */
static int put_part(struct delivery *delivery, int count, const uint8_t *data, uint32_t octets,
                    bool is_last)
{
    struct queue *queue = slab_at(&delivery->shard->queues, delivery->queue);
    struct iovec *part = &delivery->feed->parts[count];
    int result;

    if (delivery->heading.is_signed)
        return count + heading_feed_signed(delivery, (uint8_t *)data, octets, part);
    *part = (struct iovec){(void *)data, octets};
    if (!heading_is_edited(queue))
        return count + (octets > 0);
    /* What is taken out now may be signed. */
    if (!delivery->heading.is_over && resign_is_stale(delivery))
        return E_CHANGED;
    result = heading_feed(queue, delivery, part->iov_base, octets, is_last, part);
    return result < 0 ? result : count + (part->iov_len > 0);
}

/* The end of the content, behind `count` parts. */
static void send_rest(struct delivery *delivery, int count)
{
    const struct slice rest = delivery->feed->commit.rest;

    count = put_part(delivery, count, rest.data, (uint32_t)rest.len, true);
    if (count < 0)
        give_up(delivery, count);
    else
        hand_on(delivery, (uint32_t)count, false);
}

/* The last chunk leaves with the rest, so that the end of the content is in one piece. */
static void send_chunk(struct delivery *delivery, uint32_t octets)
{
    struct feed *feed = delivery->feed;
    bool is_last = ++feed->next == feed->commit.chunk_count;
    int count = put_part(delivery, 0, delivery->message->buffers[BUFFER_CHUNK].data, octets, false);

    /* What was found is sound: another move, hours later, is no damage. */
    feed->located_count = 0;
    delivery->shard->chunk_counts.fed++;
    if (count < 0)
        give_up(delivery, count);
    else if (is_last)
        send_rest(delivery, count);
    else if (count == 0)
        read_chunk(delivery->shard, delivery);
    else
        hand_on(delivery, (uint32_t)count, true);
}

void feed_rewind(struct delivery *delivery)
{
    delivery->feed->next = 0;
}

void feed_scan(struct shard *shard, struct delivery *delivery)
{
    struct feed *feed = delivery->feed;

    if (feed->next < feed->commit.chunk_count)
        read_chunk(shard, delivery);
    else
        resign_feed(delivery, feed->commit.rest.data, (uint32_t)feed->commit.rest.len, true);
}

static void scan_chunk(struct delivery *delivery, uint32_t octets)
{
    delivery->feed->next++;
    delivery->feed->located_count = 0;
    if (resign_feed(delivery, delivery->message->buffers[BUFFER_CHUNK].data, octets, false))
        feed_scan(delivery->shard, delivery);
}

void feed_on_content(struct shard *shard, struct delivery *delivery)
{
    struct feed *feed = delivery->feed;

    if (feed->next < feed->commit.chunk_count) {
        read_chunk(shard, delivery);
        return;
    }
    send_rest(delivery, 0);
}

/* ---- Elsewhere now --------------------------------------------------------------------------- */

static void reread(struct shard *shard, struct delivery *delivery)
{
    const struct log_place *place = &delivery->locate.place;
    struct message *message = delivery->message;
    int fd = spool_reader_fd(shard->reader, place);

    if (message->buffer_count > BUFFER_AGAIN)
        message_buffers_drop(message, BUFFER_AGAIN, 1);
    if (fd >= 0 && place->large == 0)
        fd = E_DAMAGED;
    if (fd >= 0 && message_buffer_need(message, place->bytes) < 0)
        fd = E_FULL;
    if (fd < 0) {
        give_up(delivery, fd);
        return;
    }
    delivery->place = *place;
    delivery->feed->is_rereading = true;
    io_read(shard->io, &delivery->read_op, fd, message->buffers[BUFFER_AGAIN].data, place->bytes,
            place->offset);
}

static void locate_again(struct shard *shard, struct delivery *delivery)
{
    struct feed *feed = delivery->feed;
    struct locate *locate = &delivery->locate;

    feed->located_count++;
    locate->parcel = (struct parcel){.kind = SHARD_LOCATE, .from = shard->number};
    locate->asker = shard->number;
    if (feed->home == shard->number) {
        home_locate(shard, locate);
        reread(shard, delivery);
        return;
    }
    feed->is_locating = true;
    shard_post(shard, feed->home, &locate->parcel);
}

bool feed_on_located(struct shard *shard, struct delivery *delivery)
{
    delivery->feed->is_locating = false;
    if (delivery->feed->is_over)
        return true;
    reread(shard, delivery);
    return false;
}

static int check_again(struct delivery *delivery, int32_t result)
{
    const struct message_buffer *record = &delivery->message->buffers[BUFFER_AGAIN];
    struct iovec iov = {record->data, delivery->place.bytes};
    struct log_commit commit;

    if (result < 0)
        return result;
    if ((uint32_t)result < delivery->place.bytes ||
        spool_reader_check(&delivery->place, delivery->locate.message_id, &iov, 1) < 0 ||
        decode(delivery, record, &commit) < 0 ||
        commit.chunk_count != delivery->feed->commit.chunk_count)
        return E_DAMAGED;
    delivery->feed->commit = commit;
    return 0;
}

static int check_chunk(const struct delivery *delivery, int32_t result, struct log_chunk *ret_chunk)
{
    const struct feed *feed = delivery->feed;

    log_chunk_get(feed->commit.chunks, feed->next, ret_chunk);
    if (result < 0)
        return result;
    if ((uint32_t)result < ret_chunk->octets ||
        crc32c(0, delivery->message->buffers[BUFFER_CHUNK].data, ret_chunk->octets) !=
            ret_chunk->crc)
        return E_DAMAGED;
    return 0;
}

bool feed_on_read(struct shard *shard, struct delivery *delivery, int32_t result)
{
    struct feed *feed = delivery->feed;
    bool was_record = feed->is_rereading;
    struct log_chunk chunk;
    int error;

    feed->is_rereading = false;
    if (feed->is_over)
        return true;
    error = was_record ? check_again(delivery, result) : check_chunk(delivery, result, &chunk);
    if (error == E_DAMAGED && feed->located_count < LOCATED_MAX)
        locate_again(shard, delivery);
    else if (error < 0)
        give_up(delivery, error);
    else if (was_record)
        read_chunk(shard, delivery);
    else if (resign_is_reading(delivery))
        scan_chunk(delivery, chunk.octets);
    else
        send_chunk(delivery, chunk.octets);
    return false;
}
