/*
 * breaker: when refusals for good jump far above what a key (a provider, a sender's domain) is
 * known for, and whether they are believed.
 *
 * Pure: counts that its owner keeps in one thread, and the time that the caller says. The fast
 * share is that of the last BREAKER_PARTS parts of about BREAKER_PART_COUNT verdicts, none older
 * than an hour; what leaves these parts makes the baseline, a share that decays with the count and
 * begins at 5 %. It trips when the fast share is above max(25 %, 5 x baseline), at most 75 %, with
 * BREAKER_HARD_MIN refusals at least, so a list of a hundred bad addresses does not trip it. Then
 * the counts begin anew, and it closes when of BREAKER_PROOF verdicts or more (after an hour:
 * BREAKER_PROOF_LATE) at most max(25 %, 2 x baseline) are refusals, or when nothing was counted for
 * twelve hours. Verdicts while it is open say nothing about the baseline.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_PARTS      10u
#define BREAKER_PART_COUNT 40u
#define BREAKER_HARD_MIN   120u
#define BREAKER_PROOF      100u
#define BREAKER_PROOF_LATE 20u

enum breaker_state {
    BREAKER_CLOSED,       /* refusals are believed */
    BREAKER_OPEN,         /* they are held */
    BREAKER_PASSING,      /* believed until until_ns, whatever their share: an operator said so */
    BREAKER_RECLASSIFIED, /* those of one code and status are transient: likewise */
};

struct breaker_part {
    uint64_t began_ns;
    uint32_t hard;
    uint32_t all;
};

struct breaker_book {
    struct breaker_part parts[BREAKER_PARTS];
    uint32_t newest;
    uint32_t base_hard; /* the baseline, as a fraction */
    uint32_t base_all;
    enum breaker_state state;
    uint64_t since_ns;   /* of the state */
    uint64_t until_ns;   /* PASSING */
    uint64_t counted_ns; /* the last verdict */
};

void breaker_begin(struct breaker_book *book, uint64_t now_ns);
/* So many refusals for good and deliveries more, a few dozen at most; none: only time has passed.
 * True when that changed the state. */
bool breaker_count(struct breaker_book *book, uint32_t hard, uint32_t good, uint64_t now_ns);
/* An operator, or what the log knows, sets the state; the counts begin anew. */
void breaker_set(struct breaker_book *book, enum breaker_state state, uint64_t until_ns,
                 uint64_t now_ns);
/* The fast share and what it is measured by, per mille. */
uint32_t breaker_share(const struct breaker_book *book, uint64_t now_ns);
uint32_t breaker_baseline(const struct breaker_book *book);
