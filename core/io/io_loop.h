/*
 * io_loop: the part of a loop that both worlds share: clock cache, timers, mailboxes, actors.
 *
 * Embedded as the first member of each implementation's struct io. Internal to implementations of
 * core/io/io.h; the product never includes it.
 *
 * io_loop.c defines io_attach, io_run, io_stop, io_nap, io_now_ns, io_wall_us, io_rng,
 * io_stats_read, the timers and io_op_init for both worlds. An implementation defines everything
 * else of io.h, and io_wake and io_doorbell_open below. Its io_turn sets the clock, runs
 * completions, calls io_loop_phases, and sleeps only between io_loop_sleep_begin and
 * io_loop_sleep_end.
 */
#pragma once

#include "core/io/io.h"
#include "core/io/mailbox.h"

struct io_loop {
    struct wheel wheel;
    struct list due_timers; /* fired by the wheel, not yet run */
    struct list actors;
    struct list inboxes;  /* mailboxes this loop consumes */
    struct list outboxes; /* mailboxes this loop feeds that hold parcels not yet in the ring */
    struct rng rng;
    uint64_t now_ns;
    uint64_t wall_us;
    uint64_t nap_ns; /* asked for in this turn */
    struct io_stats stats;
    /* Other threads look here at the end of their turns; the counters above change all the time
     * and must not share the line. Padding, not alignment: whoever embeds a loop allocates it as
     * he likes. */
    char apart_before[128];
    _Atomic uint32_t sleeping; /* 1 while a producer must wake it */
    _Atomic uint32_t stop_asked;
    char apart_after[120];
};

void io_loop_init(struct io_loop *loop, uint64_t now_ns, uint64_t wall_us, uint64_t seed);
/* The clock of the turn that begins; a monotonic time that went back is ignored. */
void io_loop_set_clock(struct io_loop *loop, uint64_t now_ns, uint64_t wall_us);

/* The phases between reaping completions and waiting: timers, mailboxes, actors, flush. */
void io_loop_phases(struct io_loop *loop);
/* Something to do now, without waiting: due timers, parcels, busy actors, mailboxes that have
 * room again for what waits, a stop that was asked. */
bool io_loop_has_work(struct io_loop *loop);
/* When the next timer fires; UINT64_MAX = never. */
uint64_t io_loop_next_timer_ns(const struct io_loop *loop);

/*
 * Around a wait. After begin returned true every producer sees that this loop must be woken, and
 * nothing was there a moment later; false = there is work, do not wait.
 */
bool io_loop_sleep_begin(struct io_loop *loop);
void io_loop_sleep_end(struct io_loop *loop);

/* Defined in mailbox.c, called by io_loop.c. */
void io_loop_drain_inboxes(struct io_loop *loop);
void io_loop_flush_outboxes(struct io_loop *loop);
bool io_loop_has_parcels(struct io_loop *loop);

/*
 * Wakes target when it sleeps, at most once per sleep. The caller has published what target must
 * see and passed a sequentially consistent fence since.
 */
void io_loop_rouse(struct io *target, struct io *from);

/* Implementation's duty: make target's wait return. from: the waking loop, NULL = foreign thread.
 */
void io_wake(struct io *target, struct io *from);
/* Implementation's duty: a non-blocking eventfd for a mailbox whose consumer is a foreign thread,
 * negative where the world has none. The mailbox writes, reads and closes it. */
int io_doorbell_open(void);

static inline struct io_loop *io_loop_of(struct io *io)
{
    return (struct io_loop *)io;
}

/* Counters are written by the loop's thread only and may be read by any. */
static inline void io_loop_count(uint64_t *counter, uint64_t more)
{
    __atomic_store_n(counter, *counter + more, __ATOMIC_RELAXED);
}
