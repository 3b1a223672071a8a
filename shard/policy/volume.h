/*
 * volume: at most so much in a span of time, where one use may take a lot or several are let
 * through at once: octets of messages, and rates with a burst.
 *
 * Two bounds hold together. The pace: what is used takes its part of the span before more may
 * follow. Octets have no burst: a message may go when what went before is paid for, whatever its
 * own size. Units with a burst of K are saved up to K while nobody uses them. The window: what was
 * used is remembered until its span is over, in VOLUME_PARTS_MAX parts at most, each of which is
 * kept until its youngest use is old enough; so no window of that length, wherever it begins, holds
 * more than the amount, and at least 98 % of it can be used. Something larger than the whole amount
 * goes when the window is empty, or it would never go.
 *
 * What comes back unused, or was refused where successes alone count, makes room at once. A use may
 * come up to RATE_LATE_NS after the time that was promised here. A volume that is made anew is in
 * debt as if something had just been used: a restart is hardly ever looser than what it interrupts
 * (by what one message exceeds VOLUME_DEBT_OCTETS, for octets; never with a burst).
 *
 * A value of its owner, about 1.6 KB: one thread, no I/O, pure functions of the arguments. Times in
 * nanoseconds of one monotonic clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define VOLUME_PARTS_MAX   64
#define VOLUME_DEBT_OCTETS 65536
#define VOLUME_NEVER_NS    (UINT64_MAX / 2)

struct volume_part {
    uint64_t first_ns; /* of its uses */
    uint64_t last_ns;
    uint64_t amount;
};

struct volume {
    uint64_t amount_max; /* in any window; 0 = nothing ever */
    uint64_t span_ns;    /* of the window, with what a use may be late */
    uint64_t burst;      /* units that are saved; 0: octets */
    uint64_t free_ns;    /* when what was used is paid for */
    uint64_t sum;        /* of the parts */
    uint32_t first;      /* ring of parts */
    uint32_t count;
    struct volume_part parts[VOLUME_PARTS_MAX];
};

/* burst: at most amount_max. */
void volume_init(struct volume *volume, uint64_t amount_max, uint64_t interval_ms, uint64_t burst,
                 uint64_t now_ns);
/* Other bounds from now on; what was used counts. */
void volume_change(struct volume *volume, uint64_t amount_max, uint64_t interval_ms, uint64_t burst,
                   uint64_t now_ns);
/* From when on so much may be used, unless more is used before. With a burst, at most as much as
 * that. */
uint64_t volume_due_ns(const struct volume *volume, uint64_t amount);
/* How many units may be used now; of octets, how many are due within ahead_ns. */
uint64_t volume_allowed(const struct volume *volume, uint64_t now_ns, uint64_t ahead_ns);
/* Uses it, now; nothing is checked. */
void volume_use(struct volume *volume, uint64_t amount, uint64_t now_ns);
/* So much of what was used at used_ns was not (0: at an unknown time). */
void volume_give_back(struct volume *volume, uint64_t amount, uint64_t used_ns);
/* Forgetting it would loosen it. */
bool volume_is_owed(const struct volume *volume, uint64_t now_ns);
/* All that another owner of the same volume remembers: so much, the last of it at last_ns. */
uint64_t volume_sum(const struct volume *volume, uint64_t now_ns, uint64_t *ret_last_ns);
/* It goes on from what that other owner had reached. */
void volume_resume(struct volume *volume, uint64_t free_ns, uint64_t sum, uint64_t last_ns);
