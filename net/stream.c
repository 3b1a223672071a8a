/*
 * Without a transform this is a thin layer: the loop's buffers go up, the caller's iovecs go down.
 * With one, octets are decoded into room of the moment and go straight up; what the owner does not
 * take is kept aside. Encoded octets have a buffer while they are being sent. An idle connection
 * has neither. What the coder must tell its owner outside of a completion (kept octets after a
 * resume, a send that could not be encoded) waits for a timer, because no callback may come from
 * inside a call.
 */
#include "net/stream.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>

#define CODER_PLAIN_BYTES    16384 /* one record of TLS */
#define CODER_WIRE_BYTES_MAX 65536
#define CODER_WIRE_BYTES_MIN 2048
#define CODER_PART_BYTES     64 /* what encoding adds to each part of a send, at least */
#define LATER_NS             1000000
#define GOODBYE_NS           1000000000ull

struct stream_coder {
    struct stream *stream;
    struct io_timer timer;
    struct iovec *iov; /* plain octets still to be encoded */
    struct iovec wire_iov;
    uint8_t *wire; /* while it is being sent */
    uint8_t *kept; /* decoded octets that wait for the owner; NULL = none */
    size_t kept_bytes;
    size_t kept_from;
    size_t wire_room;
    uint32_t iov_count;
    int32_t sent_octets;
    int32_t send_result; /* told by the timer when negative */
    int32_t end_reason;
    bool sending; /* for the owner */
    bool paused;
    bool end_waits;  /* the peer's end, told once the owner has taken all octets */
    bool failed;     /* decode found garbage, or the peer's last word: nothing more is read */
    bool is_told;    /* the end, by decode */
    bool is_later;   /* the transform wants another turn */
    bool is_leaving; /* closing once the goodbye has left */
};

static void flush_output(struct stream *stream);

/* ---- Receiving ------------------------------------------------------------------------------- */

static void tell_end(struct stream *stream, int32_t reason)
{
    stream->events->on_end(stream, reason);
}

/* Nothing more is read; what the transform has to say of it leaves first. */
static void end_reading(struct stream *stream, int32_t reason)
{
    stream->coder->failed = true;
    flush_output(stream);
    tell_end(stream, reason);
}

static void keep_rest(struct stream *stream, const uint8_t *plain, size_t len)
{
    struct stream_coder *coder = stream->coder;

    coder->paused = true;
    coder->kept = mem_try_alloc(len);
    if (coder->kept == NULL) {
        end_reading(stream, -ENOMEM);
        return;
    }
    memcpy(coder->kept, plain, len);
    coder->kept_bytes = len;
    coder->kept_from = 0;
}

/* Offers octets that were just decoded; what is not used is kept. */
static void offer_fresh(struct stream *stream, const uint8_t *plain, size_t len)
{
    size_t used = stream->events->on_data(stream, plain, len);

    must(used <= len);
    if (!stream->closing && used < len)
        keep_rest(stream, plain + used, len - used);
}

/* Offers what was kept. True when all is gone and more may be decoded. */
static bool offer_kept(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;
    size_t used;

    if (coder->paused || coder->kept == NULL)
        return !coder->paused;
    used = stream->events->on_data(stream, coder->kept + coder->kept_from,
                                   coder->kept_bytes - coder->kept_from);
    must(used <= coder->kept_bytes - coder->kept_from);
    if (stream->closing)
        return false;
    coder->kept_from += used;
    if (coder->kept_from < coder->kept_bytes) {
        coder->paused = true;
        return false;
    }
    mem_free(coder->kept);
    coder->kept = NULL;
    return !coder->paused;
}

/* What decode said of itself. True when it may be asked again. */
static bool heed(struct stream *stream, int rc, bool has_moved)
{
    struct stream_coder *coder = stream->coder;

    if (rc == STREAM_LATER) {
        coder->is_later = true;
        io_timer_arm(stream->io, &coder->timer, io_now_ns(stream->io) + LATER_NS);
        return false;
    }
    if (rc == STREAM_ENDED) {
        coder->is_told = true;
        end_reading(stream, 0);
    } else if (rc < 0) {
        end_reading(stream, rc);
    }
    return rc == 0 && has_moved;
}

/* Decodes and delivers; returns the wire octets used. */
static size_t take_wire(struct stream *stream, const uint8_t *data, size_t len)
{
    struct stream_coder *coder = stream->coder;
    uint8_t plain[CODER_PLAIN_BYTES];
    bool goes_on = !coder->failed && offer_kept(stream);
    size_t used = 0;

    while (goes_on) {
        size_t consumed = 0;
        size_t produced = 0;
        int rc = stream->transform->decode(stream->transform_state, data + used, len - used,
                                           &consumed, plain, sizeof(plain), &produced);

        must(consumed <= len - used && produced <= sizeof(plain));
        used += consumed;
        if (stream->closing)
            return len;
        if (produced > 0)
            offer_fresh(stream, plain, produced);
        if (stream->closing || coder->failed)
            return len;
        goes_on = heed(stream, rc, consumed > 0 || produced > 0) && !coder->paused;
    }
    if (stream->closing || coder->failed)
        return len;
    flush_output(stream);
    return used;
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
    if (coder != NULL && reason == 0 && stream->transform->marks_end && !coder->is_told)
        reason = E_CUT_OFF;
    if (coder != NULL && coder->kept != NULL) {
        coder->end_waits = true;
        coder->end_reason = reason;
        return;
    }
    tell_end(stream, reason);
}

/* ---- Sending --------------------------------------------------------------------------------- */

/* Room for the octets still to be encoded, as far as one send goes. */
static bool have_wire(struct stream_coder *coder)
{
    size_t room = CODER_WIRE_BYTES_MIN;

    for (uint32_t i = 0; i < coder->iov_count && room < CODER_WIRE_BYTES_MAX; i++)
        room += coder->iov[i].iov_len + CODER_PART_BYTES;
    if (room > CODER_WIRE_BYTES_MAX)
        room = CODER_WIRE_BYTES_MAX;
    if (coder->wire != NULL && coder->wire_room >= room)
        return true;
    mem_free(coder->wire);
    coder->wire = mem_try_grow(NULL, room);
    coder->wire_room = coder->wire != NULL ? room : 0;
    return coder->wire != NULL;
}

static void drop_wire(struct stream_coder *coder)
{
    mem_free(coder->wire);
    coder->wire = NULL;
    coder->wire_room = 0;
}

static bool has_output(const struct stream *stream)
{
    return stream->transform->has_output != NULL &&
           stream->transform->has_output(stream->transform_state);
}

/* One call of encode behind what is filled; 0, negative, or STREAM_LATER. *ret_moved: it did
 * something. */
static int encode_part(struct stream *stream, size_t *filled, bool *ret_moved)
{
    struct stream_coder *coder = stream->coder;
    struct iovec nothing = {.iov_base = NULL};
    struct iovec *iov = coder->iov_count > 0 ? coder->iov : &nothing;
    size_t consumed = 0;
    size_t produced = 0;
    int rc =
        stream->transform->encode(stream->transform_state, iov->iov_base, iov->iov_len, &consumed,
                                  coder->wire + *filled, coder->wire_room - *filled, &produced);

    *ret_moved = consumed > 0 || produced > 0;
    if (rc < 0)
        return rc;
    must(consumed <= iov->iov_len && produced <= coder->wire_room - *filled);
    *filled += produced;
    if (coder->iov_count == 0)
        return rc;
    coder->sent_octets += (int32_t)consumed;
    iov->iov_base = (uint8_t *)iov->iov_base + consumed;
    iov->iov_len -= consumed;
    if (iov->iov_len == 0) {
        coder->iov++;
        coder->iov_count--;
        *ret_moved = true;
    }
    return rc;
}

/* Encodes as much as the buffer takes and sends it. Negative when that is impossible. */
static int encode_more(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;
    bool has_moved = true;
    size_t filled = 0;
    int rc = 0;

    if (!have_wire(coder))
        return -ENOMEM;
    while (has_moved && rc == 0 && (coder->iov_count > 0 || has_output(stream)))
        rc = encode_part(stream, &filled, &has_moved);
    if (rc < 0)
        return rc;
    if (rc == STREAM_LATER) {
        coder->is_later = true;
        io_timer_arm(stream->io, &coder->timer, io_now_ns(stream->io) + LATER_NS);
    }
    if (filled == 0) {
        drop_wire(coder);
        return coder->iov_count == 0 || rc == STREAM_LATER ? 0 : E_FULL;
    }
    coder->wire_iov = (struct iovec){coder->wire, filled};
    io_send(stream->io, &stream->send_op, stream->fd, &coder->wire_iov, 1);
    return 0;
}

/* What the transform wants to say, unless a send is under way: its end sees to it. */
static void flush_output(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;

    if (io_op_in_flight(&stream->send_op) || coder->sending || !has_output(stream))
        return;
    /* Without memory, or after garbage, nobody waits for these words in earnest. */
    (void)encode_more(stream);
}

static void on_closing_sent(struct stream *stream, int32_t result)
{
    struct stream_coder *coder = stream->coder;

    if (coder != NULL && coder->is_leaving) {
        coder->is_leaving = false;
        io_timer_stop(stream->io, &coder->timer);
        io_close(stream->io, &stream->close_op, stream->fd);
        return;
    }
    if (coder == NULL || coder->sending)
        stream->sent_result =
            result >= 0 && coder != NULL && coder->iov_count > 0 ? -ECANCELED : result;
}

static void on_send_done(struct io_op *op, int32_t result)
{
    struct stream *stream = container_of(op, struct stream, send_op);
    struct stream_coder *coder = stream->coder;

    if (stream->closing) {
        on_closing_sent(stream, result);
        return;
    }
    if (coder != NULL) {
        if (result >= 0 && (coder->iov_count > 0 || has_output(stream))) {
            result = encode_more(stream);
            if (result >= 0 && io_op_in_flight(&stream->send_op))
                return;
        }
        drop_wire(coder);
        /* It was the transform's own; that the way out is broken is seen by who sends or reads. */
        if (!coder->sending)
            return;
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
    if (io_op_in_flight(&stream->send_op))
        return; /* the transform's own words; these follow */
    rc = encode_more(stream);
    if (rc < 0 || !io_op_in_flight(&stream->send_op)) {
        coder->send_result = rc;
        io_timer_arm(stream->io, &coder->timer, 0);
    }
}

bool stream_is_sending(const struct stream *stream)
{
    return stream->coder != NULL ? stream->coder->sending : io_op_in_flight(&stream->send_op);
}

/* ---- What the coder tells later -------------------------------------------------------------- */

static void on_coder_timer(struct io_timer *timer)
{
    struct stream_coder *coder = container_of(timer, struct stream_coder, timer);
    struct stream *stream = coder->stream;

    if (coder->is_leaving) {
        coder->is_leaving = false;
        io_close(stream->io, &stream->close_op, stream->fd);
        return;
    }
    if (coder->sending && !io_op_in_flight(&stream->send_op)) {
        coder->sending = false;
        stream->events->on_sent(stream,
                                coder->send_result < 0 ? coder->send_result : coder->sent_octets);
    }
    coder->is_later = false;
    if (stream->closing || coder->paused)
        return;
    take_wire(stream, (const uint8_t *)"", 0);
    if (stream->closing || coder->failed || coder->paused || coder->is_later)
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
    if (stream->coder != NULL) {
        io_timer_stop(stream->io, &stream->coder->timer);
        mem_free(stream->coder->kept);
        drop_wire(stream->coder);
    }
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

    must(!io_op_in_flight(&stream->send_op) && !stream_is_sending(stream));
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
    flush_output(stream);
    return 0;
}

/* The transform's last words. False when there are none, or something is still being sent: a part
 * of it may be missing, and there is nothing to be said behind that. */
static bool say_goodbye(struct stream *stream)
{
    struct stream_coder *coder = stream->coder;

    io_timer_stop(stream->io, &coder->timer);
    if (coder->sending || stream->transform->finish == NULL)
        return false;
    if (!io_op_in_flight(&stream->send_op)) {
        stream->transform->finish(stream->transform_state);
        coder->iov_count = 0;
        flush_output(stream);
    }
    if (!io_op_in_flight(&stream->send_op))
        return false;
    coder->is_leaving = true;
    io_timer_arm(stream->io, &coder->timer, io_now_ns(stream->io) + GOODBYE_NS);
    return true;
}

void stream_close(struct stream *stream)
{
    must(!stream->closing);
    stream->closing = true;
    if (stream->coder != NULL && say_goodbye(stream))
        return;
    io_close(stream->io, &stream->close_op, stream->fd);
}
