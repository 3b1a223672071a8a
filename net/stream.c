/*
 * Without a transform this is a thin layer: the loop's buffers go up, the caller's iovecs go down.
 * With one, a coder holds one buffer of decoded and one of encoded octets. What the coder must
 * tell its owner outside of a completion (held octets after a resume, a send that could not be
 * encoded) waits for a timer, because no callback may come from inside a call.
 */
#include "net/stream.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>

#define CODER_PLAIN_BYTES 4096
#define CODER_WIRE_BYTES  4096

struct stream_coder {
    struct stream *stream;
    struct io_timer timer;
    struct iovec *iov; /* plain octets still to be encoded */
    struct iovec wire_iov;
    uint32_t iov_count;
    uint32_t plain_from; /* decoded octets that wait for the owner */
    uint32_t plain_to;
    int32_t sent_octets;
    int32_t send_result; /* told by the timer when negative */
    int32_t end_reason;
    bool sending;
    bool paused;
    bool end_waits; /* the peer's end, told once the owner has taken all octets */
    bool failed;    /* decode found garbage: nothing more is read */
    uint8_t plain[CODER_PLAIN_BYTES];
    uint8_t wire[CODER_WIRE_BYTES];
};

/* ---- Receiving ------------------------------------------------------------------------------- */

static void tell_end(struct stream *stream, int32_t reason)
{
    stream->events->on_end(stream, reason);
}

/* Offers decoded octets to the owner. True when all are gone and more may be decoded. */
static bool offer_plain(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;

    while (coder->plain_from < coder->plain_to) {
        size_t len = coder->plain_to - coder->plain_from;
        size_t used;

        if (coder->paused)
            return false;
        used = stream->events->on_data(stream, coder->plain + coder->plain_from, len);
        must(used <= len);
        if (stream->closing)
            return false;
        coder->plain_from += (uint32_t)used;
        coder->paused = coder->paused || used < len;
    }
    return !coder->paused;
}

/* Decodes and delivers; returns the wire octets used. */
static size_t take_wire(struct stream *stream, const uint8_t *data, size_t len)
{
    struct stream_coder *coder = stream->coder;
    size_t used = 0;

    while (!coder->failed && offer_plain(stream)) {
        size_t consumed = 0;
        size_t produced = 0;
        int rc =
            stream->transform->decode(stream->transform_state, data + used, len - used, &consumed,
                                      coder->plain, sizeof(coder->plain), &produced);

        must(consumed <= len - used && produced <= sizeof(coder->plain));
        used += consumed;
        coder->plain_from = 0;
        coder->plain_to = (uint32_t)produced;
        if (rc < 0) {
            coder->failed = true;
            tell_end(stream, rc);
            return len;
        }
        if (consumed == 0 && produced == 0)
            break;
    }
    return stream->closing || coder->failed ? len : used;
}

static size_t on_recv_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct stream *stream = container_of(recv, struct stream, recv);

    if (stream->closing)
        return len;
    if (stream->coder == NULL)
        return stream->events->on_data(stream, data, len);
    return take_wire(stream, data, len);
}

static void on_recv_end(struct io_recv *recv, int32_t reason)
{
    struct stream *stream = container_of(recv, struct stream, recv);
    struct stream_coder *coder = stream->coder;

    if (stream->closing || (coder != NULL && coder->failed))
        return;
    if (coder != NULL && coder->plain_from < coder->plain_to) {
        coder->end_waits = true;
        coder->end_reason = reason;
        return;
    }
    tell_end(stream, reason);
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* Encodes as much as the buffer takes and sends it. Negative when that is impossible. */
static int encode_more(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;
    size_t filled = 0;

    while (coder->iov_count > 0) {
        struct iovec *iov = coder->iov;
        size_t consumed = 0;
        size_t produced = 0;
        int rc = stream->transform->encode(stream->transform_state, iov->iov_base, iov->iov_len,
                                           &consumed, coder->wire + filled,
                                           sizeof(coder->wire) - filled, &produced);

        if (rc < 0)
            return rc;
        must(consumed <= iov->iov_len && produced <= sizeof(coder->wire) - filled);
        filled += produced;
        coder->sent_octets += (int32_t)consumed;
        iov->iov_base = (uint8_t *)iov->iov_base + consumed;
        iov->iov_len -= consumed;
        if (iov->iov_len == 0) {
            coder->iov++;
            coder->iov_count--;
        } else if (consumed == 0 && produced == 0) {
            break;
        }
    }
    if (filled == 0)
        return coder->iov_count == 0 ? 0 : E_FULL;
    coder->wire_iov = (struct iovec){coder->wire, filled};
    io_send(stream->io, &stream->send_op, stream->fd, &coder->wire_iov, 1);
    return 0;
}

static void on_send_done(struct io_op *op, int32_t result)
{
    struct stream *stream = container_of(op, struct stream, send_op);
    struct stream_coder *coder = stream->coder;

    if (stream->closing) {
        bool is_whole = coder == NULL || coder->iov_count == 0;

        stream->sent_result = result >= 0 && !is_whole ? -ECANCELED : result;
        return;
    }
    if (coder != NULL) {
        if (result >= 0 && coder->iov_count > 0) {
            result = encode_more(stream);
            if (result >= 0)
                return;
        }
        coder->sending = false;
        result = result < 0 ? result : coder->sent_octets;
    }
    stream->sent_result = result;
    stream->events->on_sent(stream, result);
}

void stream_send(struct stream *stream, struct iovec *iov, uint32_t iov_count)
{
    struct stream_coder *coder = stream->coder;
    int rc;

    must(!stream->closing && !stream_is_sending(stream));
    stream->sent_result = -ECANCELED;
    if (coder == NULL) {
        io_send(stream->io, &stream->send_op, stream->fd, iov, iov_count);
        return;
    }
    coder->iov = iov;
    coder->iov_count = iov_count;
    coder->sent_octets = 0;
    coder->sending = true;
    rc = encode_more(stream);
    if (rc < 0 || !io_op_in_flight(&stream->send_op)) {
        coder->send_result = rc;
        io_timer_arm(stream->io, &coder->timer, 0);
    }
}

bool stream_is_sending(const struct stream *stream)
{
    return io_op_in_flight(&stream->send_op) || (stream->coder != NULL && stream->coder->sending);
}

/* ---- What the coder tells later -------------------------------------------------------------- */

static void on_coder_timer(struct io_timer *timer)
{
    struct stream_coder *coder = container_of(timer, struct stream_coder, timer);
    struct stream *stream = coder->stream;

    if (coder->sending && !io_op_in_flight(&stream->send_op)) {
        coder->sending = false;
        stream->events->on_sent(stream,
                                coder->send_result < 0 ? coder->send_result : coder->sent_octets);
    }
    if (stream->closing || coder->paused)
        return;
    take_wire(stream, (const uint8_t *)"", 0);
    if (stream->closing || coder->failed || coder->paused)
        return;
    if (coder->end_waits) {
        coder->end_waits = false;
        tell_end(stream, coder->end_reason);
    } else if (io_recv_is_active(&stream->recv)) {
        io_recv_resume(stream->io, &stream->recv);
    }
}

void stream_pause(struct stream *stream)
{
    if (stream->coder != NULL)
        stream->coder->paused = true;
    if (io_recv_is_active(&stream->recv))
        io_recv_pause(stream->io, &stream->recv);
}

void stream_resume(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;

    if (stream->closing)
        return;
    if (coder != NULL && coder->paused) {
        coder->paused = false;
        io_timer_arm(stream->io, &coder->timer, 0);
    } else if (io_recv_is_active(&stream->recv)) {
        io_recv_resume(stream->io, &stream->recv);
    }
}

int stream_tcp_info(const struct stream *stream, struct io_tcp_info *ret_info)
{
    must(!stream->closing);
    return io_tcp_info(stream->io, stream->fd, ret_info);
}

/* ---- Life ------------------------------------------------------------------------------------ */

static void drop_coder(struct stream *stream)
{
    if (stream->coder != NULL)
        io_timer_stop(stream->io, &stream->coder->timer);
    mem_free(stream->coder);
    stream->coder = NULL;
    stream->transform = NULL;
    stream->transform_state = NULL;
}

static void on_close_done(struct io_op *op, int32_t result)
{
    struct stream *stream = container_of(op, struct stream, close_op);

    drop_coder(stream);
    stream->fd = -1;
    stream->events->on_closed(stream);
}

void stream_open(struct stream *stream, struct io *io, int fd, const struct stream_events *events)
{
    *stream = (struct stream){
        .io = io,
        .events = events,
        .recv = {.on_data = on_recv_data, .on_end = on_recv_end},
        .fd = fd,
    };
    io_op_init(&stream->send_op, on_send_done);
    io_op_init(&stream->close_op, on_close_done);
    io_recv_start(io, &stream->recv, fd);
}

int stream_set_transform(struct stream *stream, const struct stream_transform *transform,
                         void *state)
{
    struct stream_coder *coder;

    must(!stream_is_sending(stream));
    /* Octets decoded by the old transform belong to nobody any more. */
    drop_coder(stream);
    if (transform == NULL)
        return 0;
    coder = mem_try_alloc(sizeof(*coder));
    if (coder == NULL)
        return -ENOMEM;
    coder->stream = stream;
    io_timer_init(&coder->timer, on_coder_timer);
    stream->coder = coder;
    stream->transform = transform;
    stream->transform_state = state;
    return 0;
}

void stream_close(struct stream *stream)
{
    must(!stream->closing);
    stream->closing = true;
    if (stream->coder != NULL)
        io_timer_stop(stream->io, &stream->coder->timer);
    io_close(stream->io, &stream->close_op, stream->fd);
}
