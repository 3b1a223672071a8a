/*
 * warmup: how many recipients may be tried today on what is being warmed up, and tomorrow.
 *
 * A schedule is a row of caps, one for each step. A day's step holds all day; when the day is over
 * its result decides: one step up after at least used_percent of the cap was used with deferrals
 * under deferral_percent and no block, one step down after a block or twice as many deferrals, else
 * the same again. After idle_days without an attempt it begins anew. A schedule by days (PowerMTA's
 * ramps) goes one step with each day whatever came of it.
 *
 * Attempts are granted in blocks of 1/64 of the cap, at least one, and a block counts before anyone
 * may use it: what is granted is never above the cap, over crashes too, as long as the book that
 * grants is durable before the block is given away. What was granted and never used counts as
 * neither good nor bad: each of many shards may keep a part of a block. What was granted and never
 * reported, because the process died, counts as deferred: nobody knows what came of it.
 *
 * Days are the caller's numbers (core/base/zone.h); one that is smaller than the book's is taken
 * for the book's, so a clock that goes back grants nothing anew. Within the send-hours a cap is
 * spread evenly. Pure; no I/O, times are arguments.
 */
#pragma once

#include "core/base/slice.h"

#define WARMUP_STEPS_MAX  64u
#define WARMUP_BLOCKS     64u
#define WARMUP_BOOK_BYTES 64u
#define WARMUP_USED       80u /* percent */
#define WARMUP_DEFERRALS  5u  /* percent */
#define WARMUP_IDLE_DAYS  30u

struct warmup_schedule {
    uint64_t caps[WARMUP_STEPS_MAX]; /* attempts a day; the last one stays */
    uint32_t step_count;
    bool by_day;
    uint32_t used_percent;
    uint32_t deferral_percent;
    uint32_t idle_days;
};

/* What has come of the book's day so far. */
struct warmup_counts {
    uint64_t granted;
    uint64_t used; /* attempts that ended, well or not */
    uint64_t deferred;
    uint64_t blocked;
    uint64_t lost; /* granted before a crash, not reported: may have been used and deferred */
};

struct warmup_book {
    bool is_begun;
    int32_t day;
    int32_t last_used_day;
    uint32_t step;
    struct warmup_counts counts;
};

/* The step of the day after one of that step with those counts. */
uint32_t warmup_next_step(const struct warmup_schedule *schedule, uint32_t step,
                          const struct warmup_counts *counts);
/* The cap of the book's day. */
uint64_t warmup_cap(const struct warmup_schedule *schedule, const struct warmup_book *book);
/* The book goes on to that day; days between without mail leave the step as it is. True when it is
 * another day. */
bool warmup_turn_to(const struct warmup_schedule *schedule, struct warmup_book *book, int32_t day);
/*
 * The next block, counted as granted; 0 when there is none now. wanted bounds it. moment_s: the
 * time, from_s and until_s: the day's hours for sending, all UTC; both 0: nothing is spread. The
 * hours may have no length on a day on which the clock leaves them out: it grants nothing.
 */
uint64_t warmup_grant(const struct warmup_schedule *schedule, struct warmup_book *book,
                      uint64_t wanted, int64_t moment_s, int64_t from_s, int64_t until_s);
/* Attempts of that day have ended; those of a day before count no more. */
void warmup_report(struct warmup_book *book, int32_t day, uint64_t used, uint64_t deferred,
                   uint64_t blocked);
/* WARMUP_BOOK_BYTES at most; the length. */
size_t warmup_encode(const struct warmup_book *book, uint8_t *room);
/* After a restart: what was granted and not reported is lost. 0 or E_DAMAGED. */
int warmup_decode(struct slice value, struct warmup_book *ret_book);
