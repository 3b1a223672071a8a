/*
 * quota: who may have the slots of a limit while there are not enough of them.
 *
 * A slot that a bad receiver holds is away for minutes, one that a good receiver holds comes back
 * after a turn. Served in order of arrival, bad ones would end up with all. So what is known of who
 * wants a slot counts:
 *
 *   proved   its latest message was answered soon: it may have every slot
 *   new      nothing was answered yet: up to a quarter of the slots is kept free of it and of slow
 *            ones
 *   slow     it keeps connections waiting, or cannot be reached: up to half of the slots is kept
 *            free of it
 *
 * Among those that may have a slot the first to come is served first, so nobody starves: a slow one
 * waits for its turn on half of the slots, as it would on half the limit.
 *
 * What is kept free follows from what proved ones wanted within the last minute: QUOTA_ROOM slots
 * for each that they had or waited for at once, and for slow ones one more for each that new ones
 * have or wait for now; but never more than those parts, and 1/QUOTA_FLOOR of the slots at least.
 * All of it rounded down: with a few slots nothing is kept of which nobody good has need. A want
 * counts at once, and for QUOTA_SPAN_NS to twice that after its end. While nothing is known, for as
 * long after the first note or after a silence, the whole part is kept.
 *
 * A value of its owner, who keeps the counts true: one thread, no I/O. Times in nanoseconds of one
 * monotonic clock. Kinds are nested: what is said of a kind bounds it together with the worse ones.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define QUOTA_SPAN_NS 30000000000ull
#define QUOTA_ROOM    4
#define QUOTA_FLOOR   32

/* Worse ones come later. */
enum quota_kind {
    QUOTA_PROVED,
    QUOTA_NEW,
    QUOTA_SLOW,
    QUOTA_KINDS,
};

struct quota {
    uint32_t used[QUOTA_KINDS];
    uint32_t waiting[QUOTA_KINDS]; /* who wants a slot and has none */
    uint32_t closing[QUOTA_KINDS]; /* of those used, soon to come back */
    uint64_t span_end_ns;          /* 0 = nothing was noted yet */
    uint32_t peak;                 /* proved ones' slots, had and waited for, in this span */
    uint32_t peak_before;          /* in the one before */
};

/* The counts may have changed: to be called then, and now and then while somebody waits. */
void quota_note(struct quota *quota, uint64_t now_ns);
/* Of `slots` in all, as many as this kind and the worse ones may have together. */
uint32_t quota_slots(const struct quota *quota, uint32_t slots, enum quota_kind kind);
/* This kind and the worse ones have more than they might if better ones wanted the rest. */
bool quota_is_lent(const struct quota *quota, uint32_t slots, enum quota_kind kind);
/* Whether one more of this kind may have a slot. */
bool quota_admits(const struct quota *quota, uint32_t slots, enum quota_kind kind);
/*
 * How many of the slots that this kind uses should be made free: those that wait and would get one,
 * less what is free and coming back, or what is used beyond `slots`. is_short: nothing else will
 * come, so those that wait count.
 */
uint32_t quota_pressure(const struct quota *quota, uint32_t slots, enum quota_kind kind,
                        bool is_short);
/* Slow ones have more than is theirs (they were new when they got it, or nobody better wanted it),
 * and better ones wait. */
bool quota_is_overdrawn(const struct quota *quota, uint32_t slots);
