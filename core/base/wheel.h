/*
 * wheel: a hierarchical timer wheel, 4 levels of 256 slots, 1 ms ticks.
 *
 * O(1) to arm and stop; a timer fires at or up to one tick after its time, never before. Times are
 * in nanoseconds of the owner's monotonic clock; those beyond the wheel's reach (49 days) are kept
 * in the last slot and moved on. One thread; timers are embedded in their owners and must be
 * stopped before the owner's memory goes.
 */
#pragma once

#include "core/base/list.h"

#include <stdint.h>

#define WHEEL_TICK_NS 1000000ull

struct wheel_timer {
    struct list link;
    uint64_t at_tick; /* 0 = not armed */
};

struct wheel {
    struct list slots[4][256];
    uint64_t bitmap[4][4]; /* which slots hold a timer */
    uint64_t now_tick;
    uint32_t armed_count;
};

void wheel_init(struct wheel *wheel, uint64_t now_ns);
void wheel_timer_init(struct wheel_timer *timer);
/* Arms, or moves, the timer. A time in the past fires at the next wheel_advance. */
void wheel_arm(struct wheel *wheel, struct wheel_timer *timer, uint64_t at_ns);
/* Safe on a timer that is not armed. */
void wheel_stop(struct wheel *wheel, struct wheel_timer *timer);
static inline bool wheel_is_armed(const struct wheel_timer *timer)
{
    return timer->at_tick != 0;
}
/*
 * Moves the clock on and collects every timer that is due, disarmed, into `due` (by `link`), in
 * order of their ticks. `due` is an initialised list and is appended to; the caller pops the timers
 * one by one. A timer may be stopped or re-armed while it still waits in `due`.
 */
void wheel_advance(struct wheel *wheel, uint64_t now_ns, struct list *due);
/* A time at or before the next firing, UINT64_MAX when nothing is armed. */
uint64_t wheel_next_ns(const struct wheel *wheel);
