/*
 * The ring of the io_uring backend: set-up, the turn, waking.
 *
 * The kernel is entered at most once per turn in the ordinary case: requests made by callbacks,
 * timers and actors gather in the submission queue, and the enter that submits them also runs the
 * deferred completions and waits. The enter call is made here and not by liburing's helpers, so
 * that it is counted and never repeated behind our back.
 */
#include "core/io/io_uring_impl.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SUBMIT_ENTRIES_DEFAULT 2048
#define COMPLETIONS_PER_SUBMIT 8 /* multishot requests post in bursts */
#define BUSY_REFRESH_NS        100000000ull
#define NS_PER_S               1000000000ull
#define NAP_COMPLETIONS        64u /* so many end a nap */

/* Linux 6.12; liburing 2.3 does not name it. It stands for a kernel whose MSG_RING reaches a
 * deferring ring directly (6.11), which older ones do slowly or, early ones, unreliably. */
#define FEATURE_MIN_TIMEOUT (1u << 15)

/* struct io_uring_getevents_arg of Linux 6.12: liburing 2.3 has no name for min_wait_us. */
struct wait_argument {
    uint64_t signals;
    uint32_t signals_bytes;
    uint32_t min_wait_us; /* before it is over only as many as were wanted end the wait */
    uint64_t limit;
};
_Static_assert(sizeof(struct wait_argument) == sizeof(struct io_uring_getevents_arg), "the same");

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- Set-up -------------------------------------------------------------------------------- */

/* In the order in which kernels learnt them, newest first: an old kernel refuses flags it does not
 * know without naming them, so they are given up one after the other. */
static const struct {
    unsigned flag;
    const char *name;
} optional_flags[] = {
    {IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"}, {IORING_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"},
    {IORING_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"},   {IORING_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
    {IORING_SETUP_SUBMIT_ALL, "SUBMIT_ALL"},
};
#define OPTIONAL_FLAG_COUNT (sizeof(optional_flags) / sizeof(optional_flags[0]))

static void log_blocked(const char *name, int code)
{
    const char *cause = err_text(code);

    if (code == -EPERM)
        cause = "not permitted: the sysctl kernel.io_uring_disabled is set, or a seccomp filter "
                "(such as a container's default profile) blocks io_uring";
    else if (code == -ENOSYS)
        cause = "this kernel has no io_uring, or a seccomp filter hides it";
    log_error("%s: cannot set up io_uring: %s", name, cause);
}

static int ring_create(struct io *io, const struct io_options *options, unsigned entries)
{
    unsigned flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SUBMIT_ALL |
                     IORING_SETUP_TASKRUN_FLAG;
    size_t given_up = 0;
    int code;

    if (options->forbid_features)
        flags |= IORING_SETUP_COOP_TASKRUN;
    else
        flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    for (;;) {
        struct io_uring_params params = {
            .flags = flags,
            .cq_entries = entries * COMPLETIONS_PER_SUBMIT,
        };

        io_count_call(io);
        code = io_uring_queue_init_params(entries, &io->ring, &params);
        if (code != -EINVAL || given_up == OPTIONAL_FLAG_COUNT)
            break;
        while (given_up < OPTIONAL_FLAG_COUNT && !(flags & optional_flags[given_up].flag))
            given_up++;
        if (given_up == OPTIONAL_FLAG_COUNT)
            break;
        log_warn("%s: io_uring of this kernel lacks %s; continuing without", io->name,
                 optional_flags[given_up].name);
        flags &= ~optional_flags[given_up].flag;
        if (optional_flags[given_up++].flag == IORING_SETUP_DEFER_TASKRUN)
            flags |= IORING_SETUP_COOP_TASKRUN;
    }
    if (code < 0) {
        log_blocked(io->name, code);
        return code;
    }
    io->has_taskrun_flag = (flags & IORING_SETUP_TASKRUN_FLAG) != 0;
    return 0;
}

/* What may be missing without harm. */
static void ring_probe(struct io *io, const struct io_options *options)
{
    io->enter_fd = io->ring.ring_fd;
    io->enter_flags = IORING_ENTER_GETEVENTS;
    if (options->forbid_features)
        return;
    io->has_naps = (io->ring.features & FEATURE_MIN_TIMEOUT) != 0;
    io->has_message_wakes =
        (io->ring.features & FEATURE_MIN_TIMEOUT) != 0 && !options->forbid_message_wakes;
    io_count_call(io);
    if (io_uring_register_ring_fd(&io->ring) == 1) {
        io->enter_fd = io->ring.enter_ring_fd;
        io->enter_flags |= IORING_ENTER_REGISTERED_RING;
    } else {
        log_warn("%s: io_uring of this kernel cannot register its ring descriptor; continuing "
                 "without",
                 io->name);
    }
}

static void on_event(struct io_op *op, int32_t result)
{
    struct io *io = container_of(op, struct io, event_op);

    must(result == sizeof(io->event_value));
    io_read(io, op, io->event_fd, &io->event_value, sizeof(io->event_value), 0);
}

static uint64_t seed_of_system(struct io *io)
{
    uint64_t seed = 0;

    io_count_call(io);
    if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
        seed = clock_ns(CLOCK_MONOTONIC) ^ (uintptr_t)io;
    return seed;
}

int io_create(const struct io_options *options, struct io **ret_io)
{
    struct io *io = mem_alloc(sizeof(*io));
    unsigned entries = options->submit_entries ? options->submit_entries : SUBMIT_ENTRIES_DEFAULT;
    int code;

    io_loop_init(&io->loop, clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME) / 1000,
                 seed_of_system(io));
    io->name = options->name ? options->name : "io";
    io->event_fd = -1;
    list_init(&io->pending);
    list_init(&io->cancels);
    list_init(&io->finished);
    list_init(&io->runs);
    list_init(&io->starved);
    code = ring_create(io, options, entries);
    if (code < 0) {
        mem_free(io);
        return code;
    }
    ring_probe(io, options);
    code = io_recv_buffers_create(io, options);
    if (code == 0) {
        io_count_call(io);
        /* Blocking on purpose: the ring would fail a read of a non-blocking one with -EAGAIN
         * where it can wait for this one. */
        io->event_fd = eventfd(0, EFD_CLOEXEC);
        code = io->event_fd < 0 ? -errno : 0;
        if (code < 0)
            log_error("%s: cannot create an eventfd: %s", io->name, err_text(code));
    }
    if (code < 0) {
        io_destroy(io);
        return code;
    }
    io_op_init(&io->event_op, on_event);
    io_read(io, &io->event_op, io->event_fd, &io->event_value, sizeof(io->event_value), 0);
    *ret_io = io;
    return 0;
}

void io_destroy(struct io *io)
{
    if (io == NULL)
        return;
    /* The ring goes first: its end waits for nothing of ours, and afterwards no request can write
     * into the memory that is freed below. */
    io_uring_queue_exit(&io->ring);
    io_recv_buffers_destroy(io);
    if (io->event_fd >= 0)
        close(io->event_fd);
    mem_free(io->fds);
    mem_free(io);
}

/* ---- Waking -------------------------------------------------------------------------------- */

static void write_event(struct io *target, struct io *from)
{
    uint64_t one = 1;

    if (from != NULL)
        io_count_call(from);
    while (write(target->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

/*
 * The message is a doorbell only: what the target must see is in a mailbox. It leaves with the
 * enter that ends the sender's turn, so it costs no system call.
 */
void io_wake(struct io *target, struct io *from)
{
    struct io_uring_sqe *sqe = NULL;

    if (from != NULL && from->has_message_wakes)
        sqe = io_sqe(from);
    if (sqe == NULL) {
        write_event(target, from);
        return;
    }
    io_uring_prep_msg_ring(sqe, target->ring.ring_fd, 0, IO_TAG_WAKE, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = (uint64_t)(uintptr_t)target | IO_TAG_KNOCK;
}

int io_doorbell_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

/* ---- The turn ------------------------------------------------------------------------------ */

struct io_uring_sqe *io_sqe(struct io *io)
{
    return io_uring_get_sqe(&io->ring);
}

static void refresh_clock(struct io *io)
{
    struct io_loop *loop = &io->loop;

    io_loop_set_clock(loop, clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME) / 1000);
    if (loop->now_ns - io->busy_read_ns < BUSY_REFRESH_NS)
        return;
    io->busy_read_ns = loop->now_ns;
    io_count_call(io);
    __atomic_store_n(&loop->stats.busy_ns, clock_ns(CLOCK_THREAD_CPUTIME_ID), __ATOMIC_RELAXED);
}

static void handle_completion(struct io *io, const struct io_uring_cqe *cqe)
{
    uintptr_t address = (uintptr_t)(cqe->user_data & ~IO_TAG_MASK);

    switch ((enum io_tag)(cqe->user_data & IO_TAG_MASK)) {
    case IO_TAG_OP:
        io_op_complete(io, (struct io_op *)address, cqe->res, cqe->flags);
        break;
    case IO_TAG_KNOCK:
        write_event((struct io *)address, io);
        break;
    case IO_TAG_IGNORE:
    case IO_TAG_WAKE:
        break;
    }
}

/*
 * Callbacks run straight from the completion queue. They cannot enter the kernel's ring (a full
 * submission queue makes ops wait on a list), so the queue's head is moved once for all.
 */
static void reap(struct io *io)
{
    struct io_uring_cq *cq = &io->ring.cq;
    unsigned head = *cq->khead;
    unsigned tail = io_uring_smp_load_acquire(cq->ktail);

    io_loop_count(&io->loop.stats.completions, tail - head);
    while (head != tail) {
        handle_completion(io, &cq->cqes[head & cq->ring_mask]);
        head++;
    }
    io_uring_smp_store_release(cq->khead, head);
}

/* The kernel keeps completions that only an enter brings into the queue. */
static bool kernel_has_more(const struct io *io)
{
    unsigned flags = IO_URING_READ_ONCE(*io->ring.sq.kflags);

    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

static bool has_local_work(struct io *io)
{
    return !list_empty(&io->finished) || !list_empty(&io->runs) || !list_empty(&io->pending) ||
           !list_empty(&io->cancels) || io_uring_cq_ready(&io->ring) != 0;
}

/* Submits what is prepared; waits for one completion at most wait_ns long (0 = does not wait), of
 * which nap_ns for more than that one. */
static void enter(struct io *io, uint64_t wait_ns, uint64_t nap_ns)
{
    struct io_uring_sq *sq = &io->ring.sq;
    struct __kernel_timespec limit;
    struct wait_argument arg = {0};
    unsigned flags = io->enter_flags;
    unsigned wanted = wait_ns != 0;
    unsigned count;
    int code;

    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    count = sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
    if (wait_ns != 0) {
        flags |= IORING_ENTER_EXT_ARG;
        if (wait_ns != UINT64_MAX) {
            limit.tv_sec = (int64_t)(wait_ns / NS_PER_S);
            limit.tv_nsec = (int64_t)(wait_ns % NS_PER_S);
            arg.limit = (uint64_t)(uintptr_t)&limit;
        }
        if (nap_ns != 0 && io->has_naps) {
            arg.min_wait_us = (uint32_t)((nap_ns < wait_ns ? nap_ns : wait_ns) / 1000);
            wanted = arg.min_wait_us != 0 ? NAP_COMPLETIONS : 1;
        }
        io_loop_count(&io->loop.stats.sleeps, 1);
    }
    io_count_call(io);
    code = io_uring_enter2((unsigned)io->enter_fd, count, wanted, flags,
                           wait_ns != 0 ? (sigset_t *)&arg : NULL,
                           wait_ns != 0 ? sizeof(arg) : _NSIG / 8);
    /* Nothing came in time, a signal, or the kernel is short of memory or queue space for the
     * moment: what was not submitted is still queued and goes with the next turn. */
    must(code >= 0 || code == -ETIME || code == -EINTR || code == -EAGAIN || code == -EBUSY ||
         code == -ENOMEM);
}

/* How long the thread may sleep now; 0 = not at all. */
static uint64_t wait_allowed(struct io *io, uint64_t wait_ns)
{
    uint64_t timer_ns = io_loop_next_timer_ns(&io->loop);
    uint64_t now;

    if (wait_ns == UINT64_MAX && timer_ns == UINT64_MAX)
        return UINT64_MAX;
    now = clock_ns(CLOCK_MONOTONIC);
    if (timer_ns <= now)
        return 0;
    return timer_ns - now < wait_ns ? timer_ns - now : wait_ns;
}

static void submit_and_wait(struct io *io, uint64_t wait_ns)
{
    uint64_t nap_ns = io->loop.nap_ns;

    io->loop.nap_ns = 0;
    io_recv_refill(io);
    /* More requests than slots: enters in between make room. */
    while (!io_op_flush_waiting(io)) {
        unsigned waiting = io_uring_sq_ready(&io->ring);

        enter(io, 0, 0);
        if (io_uring_sq_space_left(&io->ring) == 0 && io_uring_sq_ready(&io->ring) >= waiting)
            break; /* the kernel takes nothing now; the next turn tries again */
    }
    /* Completions that the kernel still keeps do not stand in the way: the waiting enter fetches
     * them first and returns at once. */
    if (wait_ns != 0 && !has_local_work(io) && io_loop_sleep_begin(&io->loop)) {
        enter(io, wait_allowed(io, wait_ns), nap_ns);
        io_loop_sleep_end(&io->loop);
        return;
    }
    /* Without the flag nothing tells whether an enter would bring completions. */
    if (io_uring_sq_ready(&io->ring) != 0 || kernel_has_more(io) || !io->has_taskrun_flag)
        enter(io, 0, 0);
}

void io_turn(struct io *io, uint64_t wait_ns)
{
    refresh_clock(io);
    reap(io);
    io_op_run_finished(io);
    io_recv_run_due(io);
    io_loop_phases(&io->loop);
    submit_and_wait(io, wait_ns);
}
