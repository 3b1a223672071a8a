/*
 * rate: at most so many in a span of time, paced evenly.
 *
 * A rate of N in a span M is a row of tokens whose times lie (M + RATE_LATE_NS)/N apart. A token is
 * used at its time or at most RATE_LATE_NS later; one that is older is lost, so that nothing is
 * made up for. So N + 1 uses in a row take M at least, and no window of that length, wherever it
 * begins, holds more than N. A rate that is made anew begins with a token one step later: a restart
 * is never looser than what it interrupts.
 *
 * Several uses at one moment are allowed when as many tokens are due within RATE_LATE_NS: at 1,000
 * a second that is nine, at 100 or less one.
 *
 * A rate with a burst keeps a volume (policy/volume.h) instead of a row: as many as it has saved,
 * up to the burst, may be used at one moment, and no window holds more than N all the same.
 *
 * A value of its owner: one thread, no I/O, pure functions of the arguments. Times in nanoseconds
 * of one monotonic clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define RATE_LATE_NS  9000000ull /* a tenth less than the promise of 10 ms: a clock has steps */
/* Between the tokens of a rate of none at all. */
#define RATE_STEP_MAX (UINT64_MAX / 4)

struct volume;

struct rate {
    uint64_t step_ns;    /* 0 = no bound */
    uint64_t next_ns;    /* time of the next token */
    struct volume *bank; /* of a rate with a burst; else NULL, and next_ns counts */
};

/* Between two tokens, rounded up. count UINT64_MAX = no bound (0), count 0 = none ever. */
uint64_t rate_step_ns(uint64_t count, uint64_t interval_ms);
void rate_init(struct rate *rate, uint64_t step_ns, uint64_t now_ns);
/* Gives a rate with a bound, just made or changed, a burst of so many; 0 or 1 takes it away. Memory
 * is of the heap. */
void rate_set_burst(struct rate *rate, uint64_t count, uint64_t interval_ms, uint64_t burst,
                    uint64_t now_ns);
void rate_fini(struct rate *rate);
/* Another step from now on; the last use still counts. */
void rate_change(struct rate *rate, uint64_t step_ns, uint64_t now_ns);
/* What another owner of the same rate must know to go on with it. */
struct rate_past {
    uint64_t next_ns;
    uint64_t sum; /* with a burst, as the next */
    uint64_t last_ns;
};

struct rate_past rate_past(const struct rate *rate, uint64_t now_ns);
/* It goes on from what another owner of the same rate had reached. */
void rate_resume(struct rate *rate, const struct rate_past *past);
/* When the next one may be used. */
uint64_t rate_due_ns(const struct rate *rate);
/* How many may be used now, at most UINT32_MAX. */
uint32_t rate_allowed(const struct rate *rate, uint64_t now_ns);
/* Uses tokens that rate_allowed has promised at this time. */
void rate_use(struct rate *rate, uint64_t now_ns, uint32_t count);
/* True while the time of the last use forbids another: forgetting the rate would loosen it. */
bool rate_is_owed(const struct rate *rate, uint64_t now_ns);
