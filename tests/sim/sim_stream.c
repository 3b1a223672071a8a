/*
 * Bytes between two ends of a connection. Each direction is kept at its receiving end: a ring of
 * bytes with three positions (written by the sender, arrived, consumed by the receiver's loop) and
 * the list of segments in flight. Latency differs from segment to segment, order does not.
 */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <errno.h>
#include <string.h>

#define RECV_BUFFER_BYTES 4096u
#define HELD_MAX          16u /* buffers the kernel fills before the loop runs */
#define HELD_PAUSED_MAX   4u
#define RING_BYTES_FIRST  1024u
#define DELAY_MIN_NS      100000000ull
#define DELAY_MAX_NS      5000000000ull

static void segments_arrive(struct sim_world *world, struct sim_event *event);
static void room_is_known(struct sim_world *world, struct sim_event *event);

void sim_stream_init(struct sim_world *world, struct sim_stream *stream)
{
    stream->window = (uint32_t)sim_between(world, world->options.window_min_bytes,
                                           world->options.window_max_bytes);
    list_init(&stream->segments);
    stream->arrival.fire = segments_arrive;
    stream->room.fire = room_is_known;
}

static void drop_segments(struct sim_world *world, struct sim_stream *stream)
{
    struct list *node;

    sim_event_stop(world, &stream->arrival);
    while ((node = list_pop_front(&stream->segments)) != NULL)
        sim_free(container_of(node, struct sim_segment, link));
}

void sim_stream_fini(struct sim_world *world, struct sim_stream *stream)
{
    drop_segments(world, stream);
    sim_event_stop(world, &stream->room);
    sim_free(stream->ring);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void ring_copy(const struct sim_stream *stream, uint64_t position, uint8_t *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t at = (position + done) & (stream->capacity - 1);
        size_t piece = len - done < stream->capacity - at ? len - done : stream->capacity - at;

        memcpy(out + done, stream->ring + at, piece);
        done += piece;
    }
}

static void ring_grow(struct sim_stream *stream, uint64_t bytes)
{
    uint64_t used = stream->written - stream->consumed;
    uint32_t capacity = stream->capacity != 0 ? stream->capacity : RING_BYTES_FIRST;
    uint8_t *ring;

    if (used + bytes <= stream->capacity)
        return;
    while (capacity < used + bytes)
        capacity *= 2;
    ring = sim_alloc(capacity);
    for (uint64_t done = 0; done < used;) {
        uint64_t position = stream->consumed + done;
        size_t at = position & (capacity - 1);
        size_t piece = used - done < capacity - at ? used - done : capacity - at;

        ring_copy(stream, position, ring + at, piece);
        done += piece;
    }
    sim_free(stream->ring);
    stream->ring = ring;
    stream->capacity = capacity;
}

static void ring_append(struct sim_stream *stream, const uint8_t *data, size_t len)
{
    while (len > 0) {
        size_t at = stream->written & (stream->capacity - 1);
        size_t piece = len < stream->capacity - at ? len : stream->capacity - at;

        memcpy(stream->ring + at, data, piece);
        stream->written += piece;
        data += piece;
        len -= piece;
    }
}

static void launch(struct sim_end *to, bool is_end)
{
    struct sim_world *world = to->conn->world;
    struct sim_stream *stream = &to->in;
    struct sim_segment *segment = sim_alloc(sizeof(*segment));
    uint64_t latency_ns = to->conn->latency_ns;
    uint64_t jitter_ns = latency_ns * world->options.jitter_percent / 100;
    uint64_t at_ns = world->now_ns + latency_ns + rng_below(&world->rng, jitter_ns + 1);

    if (sim_fault(world, SIM_COVER_segment_delayed))
        at_ns += sim_between(world, DELAY_MIN_NS, DELAY_MAX_NS);
    if (at_ns < stream->last_at_ns)
        at_ns = stream->last_at_ns;
    stream->last_at_ns = at_ns;
    segment->at_ns = at_ns;
    segment->end = stream->written;
    segment->is_end = is_end;
    list_push_back(&stream->segments, &segment->link);
    if (!sim_event_is_set(&stream->arrival))
        sim_event_at(world, &stream->arrival, at_ns);
}

static void finish_send(struct sim_end *end, int32_t result)
{
    struct sim_op *record = end->send;
    struct sim_world *world = end->conn->world;

    end->send = NULL;
    sim_op_end(world, record, result, sim_submit_delay(world));
}

/* Takes up to len bytes from what is left to send. The array is used up, as io.h allows. */
static void take_bytes(struct sim_op *record, struct sim_stream *stream, size_t len)
{
    ring_grow(stream, len);
    while (len > 0) {
        struct iovec *iov = record->send.iov;
        size_t piece = iov->iov_len < len ? iov->iov_len : len;

        ring_append(stream, iov->iov_base, piece);
        iov->iov_base = (uint8_t *)iov->iov_base + piece;
        iov->iov_len -= piece;
        record->send.sent += (uint32_t)piece;
        len -= piece;
        if (iov->iov_len == 0) {
            record->send.iov++;
            record->send.iov_count--;
        }
    }
}

static size_t segment_bytes(struct sim_world *world, uint64_t limit)
{
    uint64_t most = world->options.segment_bytes_max;
    uint64_t bytes;

    if (sim_fault(world, SIM_COVER_segment_tiny))
        bytes = sim_between(world, 1, 16);
    else
        bytes = sim_coin(world) ? most : sim_between(world, world->options.segment_bytes_min, most);
    return bytes < limit ? bytes : limit;
}

/* False when the send must wait for room, or for a reset that is under way. */
static bool send_pieces(struct sim_end *end)
{
    struct sim_world *world = end->conn->world;
    struct sim_end *other = sim_end_other(end);
    struct sim_op *record = end->send;
    uint32_t pieces = record->send.sent > 0;

    while (record->send.sent < record->send.total) {
        uint64_t room = other->in.window - (other->in.written - other->in.consumed);
        uint64_t left = record->send.total - record->send.sent;

        if (room == 0) {
            sim_cover(world, SIM_COVER_window_full);
            return false;
        }
        take_bytes(record, &other->in, segment_bytes(world, left < room ? left : room));
        if (pieces++ == 1)
            sim_cover(world, SIM_COVER_send_split);
        if (end->conn->cut)
            continue;
        launch(other, false);
        if (sim_fault(world, SIM_COVER_reset_mid_stream))
            sim_conn_reset(end->conn);
    }
    return true;
}

void sim_end_pump(struct sim_end *end)
{
    struct sim_world *world = end->conn->world;
    struct sim_op *record = end->send;
    int32_t error = end->error != 0 ? end->error : -EPIPE;

    if (end->dead || sim_end_other(end)->in.end_sent) {
        end->error = 0;
        finish_send(end, error);
        return;
    }
    if (!send_pieces(end))
        return;
    if (record->send.total > 0 && sim_fault(world, SIM_COVER_reset_after_send))
        sim_conn_reset(end->conn);
    finish_send(end, (int32_t)record->send.total);
}

void sim_end_send_end(struct sim_end *end)
{
    struct sim_end *other = sim_end_other(end);

    if (other->in.end_sent || end->conn->cut || end->dead)
        return;
    other->in.end_sent = true;
    launch(other, true);
}

static void room_is_known(struct sim_world *world, struct sim_event *event)
{
    struct sim_stream *stream = container_of(event, struct sim_stream, room);
    struct sim_end *sender = sim_end_other(container_of(stream, struct sim_end, in));

    if (sender->send != NULL)
        sim_end_pump(sender);
}

/* ---- Arriving -------------------------------------------------------------------------------- */

static void segments_arrive(struct sim_world *world, struct sim_event *event)
{
    struct sim_stream *stream = container_of(event, struct sim_stream, arrival);
    struct sim_end *end = container_of(stream, struct sim_end, in);

    while (!list_empty(&stream->segments)) {
        struct sim_segment *segment = container_of(stream->segments.next, struct sim_segment, link);

        if (segment->at_ns > world->now_ns)
            break;
        sim_trace(world, "segment", end->conn->number, segment->end, segment->is_end);
        if (segment->is_end) {
            stream->end_arrived = true;
        } else if (end->state == SIM_END_CLOSED) {
            sim_cover(world, SIM_COVER_reset_by_late_data);
            sim_end_reset_after(sim_end_other(end), end->conn->latency_ns);
            drop_segments(world, stream);
            return;
        } else {
            stream->arrived = segment->end;
        }
        list_remove(&segment->link);
        sim_free(segment);
    }
    if (!list_empty(&stream->segments))
        sim_event_at(world, event,
                     container_of(stream->segments.next, struct sim_segment, link)->at_ns);
    sim_end_pull(end);
}

static void reset_arrives(struct sim_world *world, struct sim_event *event)
{
    struct sim_end *end = container_of(event, struct sim_end, reset);

    sim_trace(world, "reset", end->conn->number, end == &end->conn->ends[1], 0);
    sim_cover(world, list_empty(&end->in.segments) ? SIM_COVER_reset_all_arrived
                                                   : SIM_COVER_reset_bytes_lost);
    drop_segments(world, &end->in);
    end->dead = true;
    /* As Linux words it, depending on whether the other side had ended its stream before. */
    end->error = end->in.end_arrived ? -EPIPE : -ECONNRESET;
    /* The reason is told once: whoever asks first has it, later senders get EPIPE, later readers
     * the end of the stream. */
    if (end->send != NULL && (end->recv == NULL || sim_coin(world)))
        sim_end_pump(end);
    sim_end_pull(end);
    if (end->send != NULL)
        sim_end_pump(end);
}

void sim_end_reset_after(struct sim_end *end, uint64_t delay_ns)
{
    struct sim_world *world = end->conn->world;

    if (end->state != SIM_END_UP || end->dead || sim_event_is_set(&end->reset))
        return;
    sim_event_at(world, &end->reset, world->now_ns + delay_ns);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static bool is_at_end(const struct sim_end *end)
{
    return end->in.arrived == end->in.consumed && (end->dead || end->in.end_arrived);
}

static void hold(struct sim_end *end, size_t len)
{
    struct sim_held *held = sim_alloc(sizeof(*held) + len);

    held->len = (uint32_t)len;
    ring_copy(&end->in, end->in.consumed, held->data, len);
    sim_trace_bytes(end->conn->world, "data", held->data, len);
    end->in.consumed += len;
    if (end->held_last != NULL)
        end->held_last->next = held;
    else
        end->held_first = held;
    end->held_last = held;
    end->held_count++;
}

static void drop_first_held(struct sim_end *end)
{
    struct sim_held *held = end->held_first;

    end->held_first = held->next;
    if (end->held_first == NULL)
        end->held_last = NULL;
    end->held_count--;
    sim_free(held);
}

void sim_end_drop_held(struct sim_end *end)
{
    while (end->held_first != NULL)
        drop_first_held(end);
}

/* Fills buffers as long as the loop lends some. True when any was filled. */
static bool fill_buffers(struct sim_end *end)
{
    struct sim_world *world = end->conn->world;
    uint32_t limit = end->recv->paused ? HELD_PAUSED_MAX : HELD_MAX;
    bool any = false;

    while (end->in.arrived > end->in.consumed && end->held_count < limit) {
        uint64_t len = end->in.arrived - end->in.consumed;

        if (sim_fault(world, SIM_COVER_receive_shortage)) {
            io_loop_count(&end->recv_io->loop.stats.recv_buffer_shortages, 1);
            sim_event_at(world, &end->look, world->now_ns + 1 + sim_submit_delay(world));
            break;
        }
        if (len > RECV_BUFFER_BYTES)
            len = RECV_BUFFER_BYTES;
        if (sim_fault(world, SIM_COVER_read_short))
            len = sim_between(world, 1, len);
        hold(end, len);
        any = true;
    }
    return any;
}

static void make_ready(struct sim_end *end)
{
    if (!list_empty(&end->ready_link))
        return;
    list_push_back(&end->recv_io->ready_ends, &end->ready_link);
    sim_io_ready(end->recv_io);
}

void sim_end_pull(struct sim_end *end)
{
    struct sim_world *world = end->conn->world;

    if (end->recv == NULL || end->recv->stopping || sim_event_is_set(&end->look))
        return;
    /* The sender hears of the room one latency later. */
    if (fill_buffers(end) && sim_end_other(end)->send != NULL && !sim_event_is_set(&end->in.room))
        sim_event_at(world, &end->in.room, world->now_ns + end->conn->latency_ns);
    if (!end->recv->paused && (end->held_first != NULL || is_at_end(end)))
        make_ready(end);
}

static void receive_looks(struct sim_world *world, struct sim_event *event)
{
    sim_end_pull(container_of(event, struct sim_end, look));
}

void sim_end_init_events(struct sim_end *end)
{
    end->look.fire = receive_looks;
    end->reset.fire = reset_arrives;
}

static void end_receive(struct sim_end *end, int32_t reason)
{
    struct io_recv *recv = end->recv;

    sim_trace(end->conn->world, "recv_end", end->conn->number, (uint64_t)(int64_t)reason, 0);
    sim_event_stop(end->conn->world, &end->look);
    list_remove(&end->ready_link);
    sim_end_drop_held(end);
    end->recv = NULL;
    recv->active = false;
    recv->op.in_flight = false;
    sim_desc_settle(end->desc);
    recv->on_end(recv, reason);
}

void sim_end_deliver(struct sim_end *end)
{
    struct io_recv *recv = end->recv;

    if (recv->stopping) {
        end_receive(end, -ECANCELED);
        return;
    }
    while (end->held_first != NULL && !recv->paused && !recv->stopping) {
        struct sim_held *held = end->held_first;
        size_t len = held->len - held->at;
        size_t used = recv->on_data(recv, held->data + held->at, len);

        must(used <= len);
        if (used == len) {
            drop_first_held(end);
        } else {
            held->at += (uint32_t)used;
            recv->paused = true;
        }
    }
    if (recv->paused || recv->stopping)
        return;
    sim_end_pull(end);
    if (end->held_first == NULL && is_at_end(end)) {
        int32_t reason = end->error;

        end->error = 0;
        end_receive(end, reason);
    }
}
