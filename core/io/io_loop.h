/*
 * io_loop: the part of a loop that both worlds share: clock cache, timers, mailboxes, actors.
 *
 * Embedded as the first member of each implementation's struct io. Internal to implementations of
 * core/io/io.h; the product never includes it.
 */
#pragma once

#include "core/io/io.h"
#include "core/io/mailbox.h"

struct io_loop {
    struct wheel wheel;
    struct list due_timers; /* fired by the wheel, not yet run */
    struct list actors;
    struct list inboxes;    /* mailboxes this loop consumes */
    struct list outboxes;   /* mailboxes this loop feeds */
    struct rng rng;
    uint64_t now_ns;
    uint64_t wall_us;
    struct io_stats stats;
    _Atomic uint32_t sleeping; /* 1 while a producer must wake it */
    _Atomic uint32_t stop_asked;
};

void io_loop_init(struct io_loop *loop, uint64_t now_ns, uint64_t wall_us, uint64_t seed);

/* The phases between reaping completions and waiting: timers, mailboxes, actors, flush. */
void io_loop_phases(struct io_loop *loop);
/* Something to do now, without waiting: due timers, parcels, busy actors, unflushed mailboxes. */
bool io_loop_has_work(struct io_loop *loop);
/* When the next timer fires; UINT64_MAX = never. */
uint64_t io_loop_next_timer_ns(const struct io_loop *loop);

/* Implementation's duty: make target's wait return. from: the waking loop, NULL = foreign thread. */
void io_wake(struct io *target, struct io *from);
static inline struct io_loop *io_loop_of(struct io *io)
{
    return (struct io_loop *)io;
}
