/*
 * io_uring_impl: what the files of the io_uring backend share. Private to core/io.
 *
 * user_data of a request is the address of its io_op with a tag in the low bits. The op outlives
 * its completion by contract, so a plain op needs no generation; completions that could arrive
 * after an op is gone (results of cancel requests) carry a tag and no op.
 */
#pragma once

#include "core/io/io_loop.h"
#include "core/io/io_uring.h"

#include <liburing.h>

enum io_tag {
    IO_TAG_OP = 0,
    IO_TAG_IGNORE = 1, /* nobody waits for this result */
    IO_TAG_WAKE = 2,   /* another loop rang */
    IO_TAG_KNOCK = 3,  /* our ring of another loop failed; the address is that loop */
};
#define IO_TAG_MASK 7ull

enum io_kind {
    IO_KIND_NONE,
    IO_KIND_ACCEPT,
    IO_KIND_CONNECT,
    IO_KIND_SEND,
    IO_KIND_RECV,
    IO_KIND_READ,
    IO_KIND_WRITE,
    IO_KIND_WRITE_DURABLE,
    IO_KIND_SYNC,
    IO_KIND_CANCEL_FD, /* first half of a close */
    IO_KIND_CLOSE,
    IO_KIND_NOTHING, /* completes with a result known in advance */
};

enum io_op_flag {
    IO_OP_PENDING = 1,    /* on io->pending: no submission slot yet */
    IO_OP_FINISHED = 2,   /* on io->finished: `result` is final, callback not yet run */
    IO_OP_CANCELLED = 4,  /* asked to end: never continued or started anew */
    IO_OP_CANCEL_DUE = 8, /* on io->cancels: the cancel request has no slot yet */
    IO_OP_RESTARTED = 16, /* a receive armed before: data may be waiting already */
    IO_OP_ONE_SHOT = 32,  /* a receive that ends with its first data */
};

/* A buffer of the ring that was filled, or a copy of one, while its receiver is paused. */
struct io_recv_buffer {
    struct io_recv_buffer *next;
    const uint8_t *data;
    uint32_t len;
    uint16_t id;
    bool copied; /* on the heap: the ring has its buffer back */
};

/* What the loop knows about a descriptor. */
struct io_fd {
    uint32_t in_flight;   /* ops between start and callback, receives only while armed */
    struct io_op *close;  /* waits for the others to end */
    struct io_recv *recv; /* from start to on_end */
    bool is_unix;         /* listens at a path, or was accepted there; see prepare_recv */
};

struct io {
    struct io_loop loop; /* first: see io_loop_of */
    struct io_uring ring;
    const char *name;
    unsigned enter_flags;
    int enter_fd;
    bool has_taskrun_flag;
    bool has_message_wakes;
    bool has_naps;
    bool has_buffer_ring;

    int event_fd; /* wakes from threads without a ring */
    struct io_op event_op;
    uint64_t event_value;

    struct list pending;  /* ops without a submission slot */
    struct list cancels;  /* ops in flight whose cancel request has no slot */
    struct list finished; /* ops whose callback is due */
    struct list runs;     /* receivers with something to deliver, end or arm */
    struct list starved;  /* receivers that wait for a free buffer */
    struct io_fd *fds;
    uint32_t fd_count;

    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffer_memory;
    struct io_recv_buffer *buffers;
    uint32_t buffer_bytes;
    uint32_t buffer_count;
    uint32_t buffers_free;  /* in the ring, or returned and about to be */
    uint32_t buffers_added; /* returned, not yet published to the kernel */

    uint64_t busy_read_ns; /* when busy_ns was read last */
};

/* io_uring.c */
struct io_uring_sqe *io_sqe(struct io *io); /* NULL when the queue is full */
static inline void io_count_call(struct io *io)
{
    io_loop_count(&io->loop.stats.system_calls, 1);
}

/* io_uring_op.c */
struct io_fd *io_fd_of(struct io *io, int fd);
void io_op_start(struct io *io, struct io_op *op, enum io_kind kind, int fd);
void io_op_submit(struct io *io, struct io_op *op);
/* Ends the op with a result that needs no kernel; the callback runs in a later phase. */
void io_op_finish_later(struct io *io, struct io_op *op, int32_t result);
/* A completion arrived for op. */
void io_op_complete(struct io *io, struct io_op *op, int32_t result, uint32_t cqe_flags);
void io_op_run_finished(struct io *io);
/* Gives waiting requests their slots; false when the queue is full again. */
bool io_op_flush_waiting(struct io *io);
void io_fd_hold(struct io *io, int fd);
void io_fd_release(struct io *io, int fd);
/* Goes on with a close when nothing is left on fd. */
void io_fd_settle(struct io *io, int fd);

/* io_uring_recv.c */
int io_recv_buffers_create(struct io *io, const struct io_options *options);
void io_recv_buffers_destroy(struct io *io);
void io_recv_complete(struct io *io, struct io_recv *recv, int32_t result, uint32_t cqe_flags);
/* Marks it as stopped; whoever calls sees to the cancelling. */
void io_recv_abandon(struct io *io, struct io_recv *recv);
void io_recv_run_due(struct io *io);
/* Before entering the kernel: hands buffers back, then arms receivers that had found none. */
void io_recv_refill(struct io *io);

/* io_uring_socket.c */
void io_accept_complete(struct io *io, struct io_accept *accept, int32_t result,
                        uint32_t cqe_flags);
/* Moves the iovec on by `done` bytes; false when nothing is left. */
bool io_op_advance(struct io_op *op, uint32_t done);
