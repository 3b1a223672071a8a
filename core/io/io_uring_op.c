/*
 * The life of an operation: start, slot, completion, cancel; and of a descriptor: what is in
 * flight on it, and its close.
 *
 * A close has two halves. The first cancels everything on the descriptor and lets each of it end
 * with its own callback; only when nothing is left does the second half hand the number back to
 * the system, so that no late request can meet a descriptor that got the number anew.
 */
#include "core/io/io_uring_impl.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define FDS_AT_FIRST 1024u

/* ---- Descriptors --------------------------------------------------------------------------- */

struct io_fd *io_fd_of(struct io *io, int fd)
{
    must(fd >= 0);
    if ((uint32_t)fd >= io->fd_count) {
        uint32_t count = io->fd_count ? io->fd_count : FDS_AT_FIRST;
        struct io_fd *more;

        while (count <= (uint32_t)fd)
            count *= 2;
        more = mem_alloc(count * sizeof(*more));
        if (io->fd_count != 0)
            memcpy(more, io->fds, io->fd_count * sizeof(*more));
        mem_free(io->fds);
        io->fds = more;
        io->fd_count = count;
    }
    return &io->fds[fd];
}

void io_fd_hold(struct io *io, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);

    must(state->close == NULL);
    state->in_flight++;
}

void io_fd_release(struct io *io, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);

    must(state->in_flight > 0);
    state->in_flight--;
}

void io_fd_settle(struct io *io, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);
    struct io_op *op = state->close;

    if (op == NULL || state->in_flight > 0 || state->recv != NULL)
        return;
    /* The number may come back as a new descriptor before we see this close complete, and by way
     * of another loop. */
    state->close = NULL;
    state->is_unix = false;
    if (op->flags & IO_OP_PENDING)
        list_remove(&op->link);
    op->flags = 0;
    op->kind = IO_KIND_CLOSE;
    io_op_submit(io, op);
}

/* ---- Submission ---------------------------------------------------------------------------- */

static void prepare_send(struct io_op *op, struct io_uring_sqe *sqe)
{
    int flags = MSG_NOSIGNAL | MSG_WAITALL;

    if (op->iov_count == 1) {
        io_uring_prep_send(sqe, op->fd, op->iov->iov_base, op->iov->iov_len, flags);
        return;
    }
    memset(&op->header, 0, sizeof(op->header));
    op->header.msg_iov = op->iov;
    op->header.msg_iovlen = op->iov_count < IOV_MAX ? op->iov_count : IOV_MAX;
    io_uring_prep_sendmsg(sqe, op->fd, &op->header, (unsigned)flags);
}

static void prepare_recv(struct io_op *op, struct io_uring_sqe *sqe)
{
    /*
     * Where a Unix socket has data and its end when it is first polled, multishot of kernel 6.18
     * takes the data, is told that nothing more is queued, and waits for another event, which the
     * end no longer makes. So each receive there takes once and the next one looks. TCP counts the
     * end as something more.
     */
    if (op->flags & IO_OP_ONE_SHOT)
        io_uring_prep_recv(sqe, op->fd, NULL, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    /* A fresh connection has nothing to read yet; asking first would be a wasted attempt. */
    if (!(op->flags & IO_OP_RESTARTED))
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
}

static void prepare(struct io_op *op, struct io_uring_sqe *sqe)
{
    uint64_t tag = IO_TAG_OP;

    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
        io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_CLOEXEC);
        break;
    case IO_KIND_CONNECT:
        io_uring_prep_connect(sqe, op->fd, (struct sockaddr *)&op->address, op->iov_count);
        break;
    case IO_KIND_SEND:
        prepare_send(op, sqe);
        break;
    case IO_KIND_RECV:
        prepare_recv(op, sqe);
        break;
    case IO_KIND_READ:
        io_uring_prep_read(sqe, op->fd, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
        break;
    case IO_KIND_WRITE:
    case IO_KIND_WRITE_DURABLE:
        io_uring_prep_write(sqe, op->fd, op->iov->iov_base, (unsigned)op->iov->iov_len, op->offset);
        sqe->rw_flags = op->kind == IO_KIND_WRITE_DURABLE ? RWF_DSYNC : 0;
        break;
    case IO_KIND_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case IO_KIND_CANCEL_FD:
        io_uring_prep_cancel_fd(sqe, op->fd, IORING_ASYNC_CANCEL_ALL);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        tag = IO_TAG_IGNORE;
        break;
    case IO_KIND_CLOSE:
        io_uring_prep_close(sqe, op->fd);
        break;
    case IO_KIND_NOTHING:
    case IO_KIND_NONE:
        must(false);
    }
    sqe->user_data = tag == IO_TAG_OP ? (uint64_t)(uintptr_t)op : tag;
}

void io_op_submit(struct io *io, struct io_op *op)
{
    struct io_uring_sqe *sqe = list_empty(&io->pending) ? io_sqe(io) : NULL;

    if (sqe == NULL) {
        op->flags |= IO_OP_PENDING;
        list_push_back(&io->pending, &op->link);
        return;
    }
    prepare(op, sqe);
}

void io_op_start(struct io *io, struct io_op *op, enum io_kind kind, int fd)
{
    must(!op->in_flight);
    io_fd_hold(io, fd);
    op->in_flight = true;
    op->kind = (uint8_t)kind;
    op->flags = 0;
    op->fd = fd;
    op->transferred = 0;
    list_init(&op->link);
    if (kind != IO_KIND_NOTHING)
        io_op_submit(io, op);
}

static void prepare_cancel(struct io_op *op, struct io_uring_sqe *sqe)
{
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = IO_TAG_IGNORE;
}

bool io_op_flush_waiting(struct io *io)
{
    while (!list_empty(&io->cancels) || !list_empty(&io->pending)) {
        bool cancels = !list_empty(&io->cancels);
        struct list *node = cancels ? io->cancels.next : io->pending.next;
        struct io_op *op = container_of(node, struct io_op, link);
        struct io_uring_sqe *sqe = io_sqe(io);

        if (sqe == NULL)
            return false;
        list_remove(node);
        if (cancels) {
            op->flags &= (uint16_t)~IO_OP_CANCEL_DUE;
            prepare_cancel(op, sqe);
        } else {
            op->flags &= (uint16_t)~IO_OP_PENDING;
            prepare(op, sqe);
        }
    }
    return true;
}

/* ---- Completion ---------------------------------------------------------------------------- */

/* The end of an op: its memory is the owner's again. */
static void end_op(struct io *io, struct io_op *op, int32_t result)
{
    int fd = op->fd;
    bool was_close = op->kind == IO_KIND_CLOSE;

    op->in_flight = false;
    op->flags = 0;
    if (!was_close)
        io_fd_release(io, fd);
    op->done(op, result);
    if (!was_close)
        io_fd_settle(io, fd);
}

void io_op_finish_later(struct io *io, struct io_op *op, int32_t result)
{
    op->result = result;
    op->flags |= IO_OP_FINISHED;
    list_push_back(&io->finished, &op->link);
}

void io_op_run_finished(struct io *io)
{
    struct list batch;
    struct list *node;

    if (list_empty(&io->finished))
        return;
    /* What the callbacks finish runs in the next turn. */
    list_init(&batch);
    while ((node = list_pop_front(&io->finished)) != NULL)
        list_push_back(&batch, node);
    while ((node = list_pop_front(&batch)) != NULL) {
        struct io_op *op = container_of(node, struct io_op, link);

        if (op->kind == IO_KIND_ACCEPT)
            io_accept_complete(io, container_of(op, struct io_accept, op), op->result, 0);
        else if (op->kind == IO_KIND_RECV)
            io_recv_complete(io, container_of(op, struct io_recv, op), op->result, 0);
        else
            end_op(io, op, op->result);
    }
}

/* True when what is left of a transfer was submitted again. */
static bool continue_transfer(struct io *io, struct io_op *op, int32_t *result)
{
    bool is_read = op->kind == IO_KIND_READ;

    if (*result == -EINTR || (*result == -EAGAIN && op->kind != IO_KIND_SEND)) {
        if (op->flags & IO_OP_CANCELLED || io_fd_of(io, op->fd)->close != NULL) {
            *result = -ECANCELED;
            return false;
        }
        io_op_submit(io, op);
        return true;
    }
    if (*result < 0)
        return false;
    if (*result == 0 && !is_read) {
        *result = -EIO;
        return false;
    }
    op->transferred += *result;
    op->offset += (uint32_t)*result;
    if (*result == 0 || !io_op_advance(op, (uint32_t)*result)) {
        *result = op->transferred;
        return false;
    }
    if (op->flags & IO_OP_CANCELLED || io_fd_of(io, op->fd)->close != NULL) {
        *result = -ECANCELED;
        return false;
    }
    io_op_submit(io, op);
    return true;
}

void io_op_complete(struct io *io, struct io_op *op, int32_t result, uint32_t cqe_flags)
{
    if (op->flags & IO_OP_CANCEL_DUE && !(cqe_flags & IORING_CQE_F_MORE)) {
        list_remove(&op->link);
        op->flags &= (uint16_t)~IO_OP_CANCEL_DUE;
    }
    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
        io_accept_complete(io, container_of(op, struct io_accept, op), result, cqe_flags);
        return;
    case IO_KIND_RECV:
        io_recv_complete(io, container_of(op, struct io_recv, op), result, cqe_flags);
        return;
    case IO_KIND_SEND:
    case IO_KIND_READ:
    case IO_KIND_WRITE:
    case IO_KIND_WRITE_DURABLE:
        if (continue_transfer(io, op, &result))
            return;
        break;
    case IO_KIND_CLOSE:
        result = 0;
        break;
    default:
        break;
    }
    end_op(io, op, result);
}

bool io_op_advance(struct io_op *op, uint32_t done)
{
    while (op->iov_count > 0 && done >= op->iov->iov_len) {
        done -= (uint32_t)op->iov->iov_len;
        op->iov++;
        op->iov_count--;
    }
    if (op->iov_count == 0)
        return false;
    op->iov->iov_base = (char *)op->iov->iov_base + done;
    op->iov->iov_len -= done;
    return true;
}

/* ---- Cancel and close ---------------------------------------------------------------------- */

/* An op that the kernel has not seen yet ends at once. */
static void withdraw(struct io *io, struct io_op *op)
{
    list_remove(&op->link);
    op->flags &= (uint16_t)~IO_OP_PENDING;
    io_op_finish_later(io, op, -ECANCELED);
}

void io_cancel(struct io *io, struct io_op *op)
{
    struct io_uring_sqe *sqe;

    if (!op->in_flight || op->kind == IO_KIND_CLOSE || op->kind == IO_KIND_CANCEL_FD)
        return;
    if (op->flags & (IO_OP_CANCELLED | IO_OP_FINISHED))
        return;
    op->flags |= IO_OP_CANCELLED;
    if (op->flags & IO_OP_PENDING) {
        withdraw(io, op);
        return;
    }
    sqe = list_empty(&io->cancels) ? io_sqe(io) : NULL;
    if (sqe != NULL) {
        prepare_cancel(op, sqe);
        return;
    }
    op->flags |= IO_OP_CANCEL_DUE;
    list_push_back(&io->cancels, &op->link);
}

void io_close(struct io *io, struct io_op *op, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);

    must(!op->in_flight && state->close == NULL);
    op->in_flight = true;
    op->flags = 0;
    op->fd = fd;
    list_init(&op->link);
    state->close = op;
    if (state->recv != NULL)
        io_recv_abandon(io, state->recv);
    op->kind = IO_KIND_CANCEL_FD;
    /*
     * A cancel by descriptor walks over every request that the ring has armed, one by address only
     * over those of its hash: with ten thousand connections a hundred microseconds against two. A
     * receive is all that nearly every connection has.
     */
    if (state->in_flight == 1 && state->recv != NULL && state->recv->op.in_flight)
        io_cancel(io, &state->recv->op);
    else if (state->in_flight > 0)
        /* Requests that still wait for a slot are in front of this one and meet it too. */
        io_op_submit(io, op);
    else
        io_fd_settle(io, fd);
}

void io_close_now(struct io *io, int fd)
{
    struct io_fd *state = io_fd_of(io, fd);

    must(state->in_flight == 0 && state->recv == NULL && state->close == NULL);
    state->is_unix = false;
    io_count_call(io);
    close(fd);
}
