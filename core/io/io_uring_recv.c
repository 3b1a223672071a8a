/*
 * Receiving with one ring of buffers that the kernel fills in the order in which data arrives.
 *
 * A buffer goes back in the turn that brought it, unless its receiver is paused; then it is held,
 * and a receiver that holds more than a few loses its armed receive until it goes on. Held buffers
 * are missed by all other connections of the loop: when the ring runs low they are copied to the
 * heap and given back, so that receivers which do not go on can never starve those which would.
 *
 * What a receiver needs next is decided in one place, step(), which runs in a phase of its own and
 * never below a call of the owner.
 */
#include "core/io/io_uring_impl.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <string.h>

/* Measured: a body of 100 KB costs a third less with 16 KB a piece than with 4 KB, and small
 * messages cost the same. */
#define BUFFER_COUNT_DEFAULT 512
#define BUFFER_BYTES_DEFAULT 16384
#define BUFFER_GROUP         0
#define PAGE_BYTES           4096
#define HELD_MAX             4 /* of a paused receiver; above, its receive is cancelled */

/* ---- The ring of buffers ------------------------------------------------------------------- */

static void give_back(struct io *io, uint16_t id)
{
    io_uring_buf_ring_add(io->buffer_ring, io->buffer_memory + (size_t)id * io->buffer_bytes,
                          io->buffer_bytes, id, io_uring_buf_ring_mask(io->buffer_count),
                          (int)io->buffers_added);
    io->buffers_added++;
    io->buffers_free++;
}

static void publish(struct io *io)
{
    if (io->buffers_added == 0)
        return;
    io_uring_buf_ring_advance(io->buffer_ring, (int)io->buffers_added);
    io->buffers_added = 0;
}

static bool runs_low(const struct io *io)
{
    return io->buffers_free < io->buffer_count / 4;
}

int io_recv_buffers_create(struct io *io, const struct io_options *options)
{
    struct io_uring_buf_reg registration = {.bgid = BUFFER_GROUP};
    int code;

    io->buffer_count =
        options->recv_buffer_count ? options->recv_buffer_count : BUFFER_COUNT_DEFAULT;
    io->buffer_bytes =
        options->recv_buffer_bytes ? options->recv_buffer_bytes : BUFFER_BYTES_DEFAULT;
    must(io->buffer_count <= 32768 && (io->buffer_count & (io->buffer_count - 1)) == 0);
    io->buffers = mem_alloc(io->buffer_count * sizeof(*io->buffers));
    io->buffer_memory = mem_alloc_aligned((size_t)io->buffer_count * io->buffer_bytes, PAGE_BYTES);
    io->buffer_ring = mem_alloc_aligned(io->buffer_count * sizeof(struct io_uring_buf), PAGE_BYTES);
    registration.ring_addr = (uint64_t)(uintptr_t)io->buffer_ring;
    registration.ring_entries = io->buffer_count;
    io_count_call(io);
    code = io_uring_register_buf_ring(&io->ring, &registration, 0);
    if (code < 0) {
        log_error("%s: io_uring of this kernel cannot register a ring of receive buffers: %s",
                  io->name, err_text(code));
        return code;
    }
    io_uring_buf_ring_init(io->buffer_ring);
    for (uint32_t id = 0; id < io->buffer_count; id++)
        give_back(io, (uint16_t)id);
    publish(io);
    return 0;
}

void io_recv_buffers_destroy(struct io *io)
{
    mem_free(io->buffer_ring);
    mem_free(io->buffer_memory);
    mem_free(io->buffers);
}

/* ---- Held data ----------------------------------------------------------------------------- */

static struct io_recv_buffer *copy_to_heap(struct io *io, const uint8_t *data, uint32_t len)
{
    struct io_recv_buffer *copy = mem_try_alloc(sizeof(*copy) + len);

    if (copy == NULL)
        return NULL;
    memcpy(copy + 1, data, len);
    copy->data = (const uint8_t *)(copy + 1);
    copy->copied = true;
    return copy;
}

/* Keeps data of buffer `id` for later; takes care of the buffer. */
static void hold(struct io *io, struct io_recv *recv, uint16_t id, const uint8_t *data,
                 uint32_t len)
{
    struct io_recv_buffer *held = NULL;

    if (runs_low(io))
        held = copy_to_heap(io, data, len);
    if (held != NULL) {
        give_back(io, id);
    } else {
        held = &io->buffers[id];
        held->data = data;
        held->id = id;
        held->copied = false;
    }
    held->len = len;
    held->next = NULL;
    if (recv->held_last != NULL)
        recv->held_last->next = held;
    else
        recv->held_first = held;
    recv->held_last = held;
    recv->held_count++;
    if (recv->held_count > HELD_MAX || held->copied)
        io_cancel(io, &recv->op);
}

static void drop_first_held(struct io *io, struct io_recv *recv)
{
    struct io_recv_buffer *held = recv->held_first;

    recv->held_first = held->next;
    if (recv->held_first == NULL)
        recv->held_last = NULL;
    recv->held_count--;
    if (held->copied)
        mem_free(held);
    else
        give_back(io, held->id);
}

static void deliver_held(struct io *io, struct io_recv *recv)
{
    while (recv->held_first != NULL && !recv->paused && !recv->stopping) {
        struct io_recv_buffer *held = recv->held_first;
        size_t used = recv->on_data(recv, held->data, held->len);

        must(used <= held->len);
        if (used == held->len) {
            drop_first_held(io, recv);
            continue;
        }
        held->data += used;
        held->len -= (uint32_t)used;
        recv->paused = true;
    }
}

/* ---- The receiver -------------------------------------------------------------------------- */

static void schedule(struct io *io, struct io_recv *recv)
{
    list_remove(&recv->run_link);
    list_push_back(&io->runs, &recv->run_link);
}

static void arm(struct io *io, struct io_recv *recv)
{
    uint16_t restarted = recv->armed ? IO_OP_RESTARTED : 0;

    recv->armed = true;
    io_fd_hold(io, recv->op.fd);
    recv->op.in_flight = true;
    recv->op.flags = restarted | (io_fd_of(io, recv->op.fd)->is_unix ? IO_OP_ONE_SHOT : 0);
    io_op_submit(io, &recv->op);
}

static void finish(struct io *io, struct io_recv *recv, int32_t reason)
{
    int fd = recv->op.fd;

    list_remove(&recv->run_link);
    io_fd_of(io, fd)->recv = NULL;
    recv->active = false;
    recv->on_end(recv, reason);
    io_fd_settle(io, fd);
}

/* Does what the receiver needs next, if anything. */
static void step(struct io *io, struct io_recv *recv)
{
    deliver_held(io, recv);
    if (recv->stopping) {
        while (recv->held_first != NULL)
            drop_first_held(io, recv);
        if (!recv->op.in_flight)
            finish(io, recv, -ECANCELED);
        return;
    }
    if (recv->paused || recv->op.in_flight)
        return;
    if (recv->ended)
        finish(io, recv, recv->end_reason);
    else if (io->buffers_free == 0)
        list_push_back(&io->starved, &recv->run_link);
    else
        arm(io, recv);
}

void io_recv_run_due(struct io *io)
{
    struct list batch;
    struct list *node;

    if (list_empty(&io->runs))
        return;
    list_init(&batch);
    while ((node = list_pop_front(&io->runs)) != NULL)
        list_push_back(&batch, node);
    while ((node = list_pop_front(&batch)) != NULL)
        step(io, container_of(node, struct io_recv, run_link));
}

void io_recv_refill(struct io *io)
{
    uint32_t room = io->buffers_free;

    /* One receiver per free buffer: more would only run dry again. */
    while (room-- > 0 && !list_empty(&io->starved))
        arm(io, container_of(list_pop_front(&io->starved), struct io_recv, run_link));
    publish(io);
}

/* Fresh data in buffer `id`. */
static void take_data(struct io *io, struct io_recv *recv, uint16_t id, uint32_t len)
{
    const uint8_t *data = io->buffer_memory + (size_t)id * io->buffer_bytes;
    size_t used = 0;

    if (recv->stopping || len == 0) {
        give_back(io, id);
        return;
    }
    if (!recv->paused && recv->held_first == NULL) {
        used = recv->on_data(recv, data, len);
        must(used <= len);
        if (used == len || recv->stopping) {
            give_back(io, id);
            return;
        }
        recv->paused = true;
    }
    hold(io, recv, id, data + used, len - (uint32_t)used);
}

void io_recv_complete(struct io *io, struct io_recv *recv, int32_t result, uint32_t cqe_flags)
{
    if (!(cqe_flags & IORING_CQE_F_MORE)) {
        recv->op.in_flight = false;
        recv->op.flags = 0;
        io_fd_release(io, recv->op.fd);
    }
    if (cqe_flags & IORING_CQE_F_BUFFER) {
        io->buffers_free--;
        take_data(io, recv, (uint16_t)(cqe_flags >> IORING_CQE_BUFFER_SHIFT),
                  result > 0 ? (uint32_t)result : 0);
    }
    if (recv->op.in_flight)
        return;
    if (result == -ENOBUFS) {
        io_loop_count(&io->loop.stats.recv_buffer_shortages, 1);
    } else if (result <= 0 && result != -ECANCELED && result != -EINTR) {
        recv->ended = true;
        recv->end_reason = result;
    }
    schedule(io, recv);
}

void io_recv_start(struct io *io, struct io_recv *recv, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);

    must(!recv->active && state->recv == NULL && state->close == NULL);
    state->recv = recv;
    memset(&recv->op, 0, sizeof(recv->op));
    list_init(&recv->op.link);
    list_init(&recv->run_link);
    recv->op.kind = IO_KIND_RECV;
    recv->op.fd = fd;
    recv->held_first = NULL;
    recv->held_last = NULL;
    recv->held_count = 0;
    recv->end_reason = 0;
    recv->armed = false;
    recv->paused = false;
    recv->ended = false;
    recv->stopping = false;
    recv->active = true;
    arm(io, recv);
}

void io_recv_pause(struct io *io, struct io_recv *recv)
{
    must(recv->active);
    recv->paused = true;
}

void io_recv_resume(struct io *io, struct io_recv *recv)
{
    must(recv->active);
    if (!recv->paused)
        return;
    recv->paused = false;
    if (recv->held_first != NULL || !recv->op.in_flight)
        schedule(io, recv);
}

void io_recv_abandon(struct io *io, struct io_recv *recv)
{
    /* What is held goes later: on_data may be reading it at this moment. */
    recv->stopping = true;
    schedule(io, recv);
}

void io_recv_stop(struct io *io, struct io_recv *recv)
{
    if (!recv->active || recv->stopping)
        return;
    io_recv_abandon(io, recv);
    io_cancel(io, &recv->op);
}
