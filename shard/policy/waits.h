/*
 * waits: for what reasons a queue has waited within the last minutes, and for what part of the
 * time.
 *
 * Seconds spent for each reason fade: what lies WAITS_HALF_MS back counts half. A value of its
 * owner, which notes every change of reason: one thread, no I/O, times are arguments in
 * nanoseconds of one monotonic clock. Reasons are numbers below WAITS_KINDS; number 0 stands for
 * "nothing waits" and has no share.
 */
#pragma once

#include <stdint.h>

#define WAITS_KINDS   28
#define WAITS_HALF_MS 120000

struct waits {
    uint64_t since_ns; /* of the present reason, or of the last note */
    uint64_t faded_ns; /* seconds are as they were to be at this time */
    float seconds[WAITS_KINDS];
};

void waits_init(struct waits *waits, uint64_t now_ns);
/* The reason held until now. */
void waits_note(struct waits *waits, uint8_t reason, uint64_t now_ns);
/* Parts of the time in which something waited, by reason: they add up to 1, or are all 0. */
void waits_shares(const struct waits *waits, float ret_shares[WAITS_KINDS]);
