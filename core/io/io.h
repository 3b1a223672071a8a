/*
 * io: the completion loop, the one door to every wait: sockets, disk, timers, mailboxes, clock.
 *
 * One loop belongs to one thread; everything below is called on that thread unless it says
 * otherwise. Two implementations of this contract exist and are chosen at link time: io_uring
 * (core/io/io_uring.c) and the simulator (tests/sim/io_sim.c); one conformance suite runs against
 * both. Product code reads time, randomness, network and disk only through here.
 *
 * A turn: read the clock, reap completions and run their callbacks, fire timers, drain mailboxes,
 * give every actor its turn, flush mailboxes, then one submit-and-wait. Starting an operation never
 * calls back: callbacks run in a later phase or turn, so no callback is ever re-entered from a call
 * below. Callbacks may start, pause, stop and close anything.
 *
 * Memory that an operation touches (the op itself, buffers, iovecs) belongs to the loop from the
 * start until its callback; the owner frees it only after that.
 *
 * Results are >= 0, or negative codes of core/base/err.h (-errno mostly). Times are nanoseconds of
 * the monotonic clock unless the name says otherwise.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/list.h"
#include "core/base/rng.h"
#include "core/base/wheel.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct io;
struct io_recv_buffer;

/* ---- The loop ------------------------------------------------------------------------------ */

/* Work that wants a slice of each turn. Attached once, before the loop runs. */
struct io_actor {
    struct list link;
    /* One turn's worth of work, within the actor's own budget. */
    void (*turn)(struct io_actor *actor);
    /* True when the actor has work left that no completion, timer or parcel will bring: the loop
     * then does not sleep. NULL = never. */
    bool (*is_busy)(struct io_actor *actor);
};

void io_attach(struct io *io, struct io_actor *actor);

/*
 * What comes in the sleep that ends this turn may be left for nap_ns, unless it is much: for a loop
 * that waits for something slow, and does better to meet what comes meanwhile in one turn than to
 * wake for each. Timers fire as ever. Only a hint; where it is not understood, each wakes the loop.
 */
void io_nap(struct io *io, uint64_t nap_ns);

/* Runs one turn; sleeps at most wait_ns when there is nothing to do (0 = never sleeps). */
void io_turn(struct io *io, uint64_t wait_ns);
/* Turns until io_stop. */
void io_run(struct io *io);
/* Ends io_run after the current turn. Any thread. */
void io_stop(struct io *io);

/* The clock as read at the start of the turn; never goes back. */
uint64_t io_now_ns(const struct io *io);
/* Wall clock in microseconds since 1970, read at the start of the turn; may jump. */
uint64_t io_wall_us(const struct io *io);
/* The loop's own generator, seeded from the system or from the simulation's seed. */
struct rng *io_rng(struct io *io);

struct io_stats {
    uint64_t turns;
    uint64_t system_calls; /* every system call made on behalf of this loop */
    uint64_t completions;
    uint64_t wakes_sent;
    uint64_t sleeps;
    uint64_t recv_buffer_shortages;
    uint64_t busy_ns; /* CPU time of the loop's thread; may lag by 100 ms */
};

/* Relaxed snapshot; any thread. */
void io_stats_read(const struct io *io, struct io_stats *ret_stats);

/* ---- Timers -------------------------------------------------------------------------------- */

struct io_timer {
    struct wheel_timer node;
    void (*on_fire)(struct io_timer *timer);
};

void io_timer_init(struct io_timer *timer, void (*on_fire)(struct io_timer *timer));
/* Arms or moves; fires once, at or up to one tick (1 ms) after at_ns. */
void io_timer_arm(struct io *io, struct io_timer *timer, uint64_t at_ns);
/* Safe when not armed; after it the timer does not fire. */
void io_timer_stop(struct io *io, struct io_timer *timer);
static inline bool io_timer_is_armed(const struct io_timer *timer)
{
    return wheel_is_armed(&timer->node);
}

/* ---- Operations ---------------------------------------------------------------------------- */

/*
 * One asynchronous operation, embedded in its owner. The owner sets `done` with io_op_init once;
 * the rest is the loop's. At most one start may be outstanding per op (must()).
 */
struct io_op {
    void (*done)(struct io_op *op, int32_t result);
    struct list link;    /* loop: waiting for a submission slot, or completed and not yet run */
    struct iovec *iov;   /* loop: what is left to transfer */
    uint32_t iov_count;  /* loop */
    int32_t fd;          /* loop */
    uint64_t offset;     /* loop */
    int32_t transferred; /* loop */
    int32_t result;      /* loop */
    uint8_t kind;        /* loop */
    bool in_flight;      /* loop; read it through io_op_in_flight */
    uint16_t flags;      /* loop */
    union {
        struct msghdr header;        /* loop: a scattered send */
        struct sockaddr_in6 address; /* loop: a connect, either family */
    };
    struct iovec single; /* loop: the iovec of the one-buffer calls */
};

void io_op_init(struct io_op *op, void (*done)(struct io_op *op, int32_t result));
static inline bool io_op_in_flight(const struct io_op *op)
{
    return op->in_flight;
}
/* Asks for an early end; `done` still comes exactly once (-ECANCELED, or its result if that was
 * quicker). Safe when the op is not in flight. */
void io_cancel(struct io *io, struct io_op *op);

/* ---- Sockets ------------------------------------------------------------------------------- */

/* Listening TCP socket with SO_REUSEADDR and SO_REUSEPORT. Synchronous; boot or reload only. */
int io_listen(struct io *io, const struct ipaddr_port *at, int backlog, int *ret_fd);
/* Listening Unix stream socket at path, mode 0600; an old socket file is replaced. */
int io_listen_unix(struct io *io, const char *path, int *ret_fd);

struct io_accept {
    struct io_op op; /* loop; zeroed by the owner before the first start */
    /* fd >= 0: a new connection, now the owner's. fd < 0: accepting met a local error (-EMFILE,
     * -ENFILE, -ENOMEM …); the loop has stopped accepting, the owner starts again when it will.
     * A TCP connection on which nothing was started yet may go to another loop of the process (the
     * number travels by mailbox) and is that loop's from then on. */
    void (*on_accept)(struct io_accept *accept, int32_t fd);
};

void io_accept_start(struct io *io, struct io_accept *accept, int listen_fd);
/* on_accept comes once more with -ECANCELED; connections that arrive in between are closed. Safe
 * when it is not accepting (nothing comes then). */
void io_accept_stop(struct io *io, struct io_accept *accept);

int io_peer_address(struct io *io, int fd, struct ipaddr_port *ret_at);
int io_local_address(struct io *io, int fd, struct ipaddr_port *ret_at);
/* User id of the process at the other end of a Unix connection. */
int io_peer_uid(struct io *io, int fd, uint32_t *ret_uid);

/* What the kernel counted for one TCP connection. */
struct io_tcp_info {
    uint64_t bytes_sent;     /* payload, what was sent again included */
    uint64_t bytes_received; /* payload, in order */
    uint32_t retransmits;    /* segments, SYNs included */
    uint32_t srtt_us;        /* smoothed round trip time; 0 = none seen yet */
    bool is_dead;            /* reset by the peer, or given up by the kernel */
};

/* One system call; also before and after the connection stands. The simulator loses no segments:
 * there retransmits is always 0. */
int io_tcp_info(struct io *io, int fd, struct io_tcp_info *ret_info);

/*
 * A TCP socket of the family of `source`, bound to it (port chosen at connect time), TCP_NODELAY.
 * Never falls back to another address: a source that cannot be bound is an error. source->family
 * must not be IPADDR_NONE. Synchronous, a few system calls.
 */
int io_socket_open(struct io *io, const struct ipaddr *source, int *ret_fd);
/* done: 0, or the reason (-ECONNREFUSED, -ETIMEDOUT, -ECANCELED …). */
void io_connect(struct io *io, struct io_op *op, int fd, const struct ipaddr_port *to);
/*
 * Sends everything, in order; done: the total, or the reason when not all could be sent. One send
 * at a time per socket. The iovec array and the bytes belong to the loop until done; the loop may
 * alter the array.
 */
void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, uint32_t iov_count);
/*
 * Cancels whatever is in flight on fd (each op and recv gets its own callback first), closes, then
 * calls done with 0. Sockets and files. The number is not used again before. Nothing may be
 * started on fd after this call, nor inside the callbacks of what it cancels (must()).
 */
void io_close(struct io *io, struct io_op *op, int fd);
/* At once and synchronously; only for descriptors with nothing in flight. */
void io_close_now(struct io *io, int fd);

/*
 * Receiving: one armed receive feeds on_data from buffers of the loop until the end.
 * on_data returns how many bytes it used. Using less than len means "no more now": the receive is
 * then paused, the rest is kept by the loop and comes first after io_recv_resume. While paused
 * neither on_data nor on_end comes (but for -ECANCELED), and the loop stops reading the socket once
 * a few buffers are held, so the peer feels it.
 * on_end comes exactly once, after all data was used: 0 = orderly end by the peer, negative = the
 * connection is gone, -ECANCELED = io_recv_stop or io_close (kept data is dropped then).
 */
struct io_recv {
    size_t (*on_data)(struct io_recv *recv, const uint8_t *data, size_t len);
    void (*on_end)(struct io_recv *recv, int32_t reason);
    /* loop; zeroed by the owner before the first start: */
    struct io_op op;
    struct list run_link;
    struct io_recv_buffer *held_first;
    struct io_recv_buffer *held_last;
    int32_t end_reason;
    uint16_t held_count;
    bool armed; /* at least once */
    bool paused;
    bool ended;
    bool stopping;
    bool active;
};

/* True from io_recv_start until on_end; false for zeroed memory. */
static inline bool io_recv_is_active(const struct io_recv *recv)
{
    return recv->active;
}
/* At most one receive per descriptor at a time. */
void io_recv_start(struct io *io, struct io_recv *recv, int fd);
/* Allowed inside on_data too (the bytes not returned as used are kept). */
void io_recv_pause(struct io *io, struct io_recv *recv);
void io_recv_resume(struct io *io, struct io_recv *recv);
/* Safe when it is not receiving (nothing comes then). The descriptor stays open. */
void io_recv_stop(struct io *io, struct io_recv *recv);

/* ---- Files --------------------------------------------------------------------------------- */

enum io_file_flags {
    IO_FILE_READ = 1,
    IO_FILE_WRITE = 2,
    IO_FILE_CREATE = 4,    /* mode 0600 */
    IO_FILE_EXCLUSIVE = 8, /* with CREATE: fail when it exists */
    IO_FILE_DIRECT = 16,   /* O_DIRECT: 4096-byte alignment of memory, offset and length */
    IO_FILE_APPEND = 32,
    IO_FILE_WORLD_READABLE = 64, /* with CREATE: mode 0644 */
    IO_FILE_REGULAR = 128,       /* anything else is E_UNKNOWN, and not waited for (a pipe) */
    IO_FILE_ALONE = 256,         /* with REGULAR: nor what has another name, or is only a link */
};

/* Synchronous calls, for start-up and for rare events (a new segment); negative on failure. */
int io_file_open(struct io *io, const char *path, unsigned flags, int *ret_fd);
int io_file_size(struct io *io, int fd, uint64_t *ret_bytes);
/* When its content was altered last, by the wall clock. */
int io_file_changed(struct io *io, int fd, uint64_t *ret_us);
/* 1 when it is what has that name, 0 when something else has it, or nothing; else negative. */
int io_file_is_named(struct io *io, int fd, const char *path);
int io_file_truncate(struct io *io, int fd, uint64_t bytes);
/* flock LOCK_EX without waiting, on the very descriptor; E_LOCKED when another holds it. */
int io_file_lock(struct io *io, int fd);
/* Reads or writes everything asked, or up to the end of the file; the count, or negative. */
int64_t io_file_read_now(struct io *io, int fd, void *data, size_t len, uint64_t offset);
int64_t io_file_write_now(struct io *io, int fd, const void *data, size_t len, uint64_t offset);
int io_file_sync_now(struct io *io, int fd);
int io_file_rename(struct io *io, const char *from, const char *to);
/* -EEXIST when there is something of that name. */
int io_file_rename_new(struct io *io, const char *from, const char *to);
int io_file_unlink(struct io *io, const char *path);
/* Creates one directory, mode 0700; 0 also when it is there already. */
int io_dir_create(struct io *io, const char *path);
int io_dir_sync(struct io *io, const char *path);
/* Calls each with every name but "." and "..", in byte order. */
int io_dir_list(struct io *io, const char *path, void (*each)(void *context, const char *name),
                void *context);
/* Bytes an ordinary user could still write on the file system of path. */
int io_space_free(struct io *io, const char *path, uint64_t *ret_bytes);

/* ---- Programs ------------------------------------------------------------------------------ */

/*
 * Starts a program (arguments[0]: its absolute path) in a process group of its own, with a bare
 * environment. *ret_fd is a socket that is its standard input and its output of both kinds, and
 * now the owner's; to be sent to, received from and closed like any other. Takes a moment: not for
 * the loop of a shard. The simulated world has no programs: there it is -ENOENT.
 */
int io_program_start(struct io *io, char *const arguments[], int *ret_fd, int *ret_process);
/* No more input: it reads the end behind what was sent. */
void io_program_end_input(struct io *io, int fd);
/* Octets of its input that it has not read yet; UINT64_MAX = it has gone, and nobody knows. */
uint64_t io_program_unread(struct io *io, int fd);
/* True once, with its exit code, or minus the signal that ended it; asked by who started it. */
bool io_program_has_ended(struct io *io, int process, int *ret_status);
/* The program and all that it has started: asked to end, or ended at once. Not after it has ended.
 */
void io_program_kill(struct io *io, int process, bool at_once);

/* ---- The machine --------------------------------------------------------------------------- */

/* Share of its memory that is neither free nor to be had by dropping caches, 0 to 100. Three system
 * calls; 0, or negative when the system does not say. */
int io_memory_used(struct io *io, uint32_t *ret_percent);

/* ---- Operations on files ------------------------------------------------------------------- */

/* Asynchronous. done: bytes transferred (less than asked only at the end of the file), or the
 * reason. With durable, the write is on stable storage before done (RWF_DSYNC). */
void io_read(struct io *io, struct io_op *op, int fd, void *data, uint32_t len, uint64_t offset);
void io_write(struct io *io, struct io_op *op, int fd, const void *data, uint32_t len,
              uint64_t offset, bool durable);
/* fdatasync; done: 0 or the reason. A failed sync is never trusted by a later one that succeeds. */
void io_sync(struct io *io, struct io_op *op, int fd);
