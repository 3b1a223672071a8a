/*
 * spf_known: what SPF records said lately of who may send from where.
 *
 * A bounded memory of results by a hash of what was asked. A result counts for SPF_KNOWN_KEEP_NS, a
 * temporary error for less; shortly before its end it is due to be asked for again, while it still
 * counts, so that bulk mail never waits a second time. Where there is no room, the one that was
 * used longest ago gives way, unless it is being asked for.
 *
 * A value of its owner: one thread, no I/O, times are arguments in nanoseconds of one monotonic
 * clock.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "net/spf.h"

#define SPF_KNOWN_KEEP_NS     (300 * 1000000000ull)
#define SPF_KNOWN_KEEP_ERR_NS (60 * 1000000000ull)
#define SPF_KNOWN_AHEAD_NS    (60 * 1000000000ull)
#define SPF_KNOWN_WHY_MAX     128u

struct spf_fact {
    struct list link; /* by use, longest ago first */
    uint64_t hash;
    uint64_t until_ns; /* the result counts so long; 0 = there is none yet */
    uint64_t began_ns; /* is_open: when it was asked for */
    uint32_t index;
    uint8_t result; /* enum spf_result */
    bool is_of_sender;
    bool is_open;                /* it is being asked for */
    char why[SPF_KNOWN_WHY_MAX]; /* the term that decided, or what the error is; may be empty */
};

struct spf_known {
    struct slab slab;
    struct table table;
    struct list by_use;
};

void spf_known_init(struct spf_known *known, uint32_t count_max);
void spf_known_fini(struct spf_known *known);
/* The fact, new if need be; NULL when there is no room. Valid until the next call that makes one,
 * and as long as it is open. */
struct spf_fact *spf_known_obtain(struct spf_known *known, uint64_t hash);
static inline bool spf_fact_counts(const struct spf_fact *fact, uint64_t now_ns)
{
    return now_ns < fact->until_ns;
}
/* Nobody asks for it, and somebody should. */
bool spf_fact_is_due(const struct spf_fact *fact, uint64_t now_ns);
void spf_fact_open(struct spf_fact *fact, uint64_t now_ns);
/* The answer to it; a temporary error takes no result away that still counts. */
void spf_fact_close(struct spf_fact *fact, const struct spf_answer *answer, uint64_t now_ns);
