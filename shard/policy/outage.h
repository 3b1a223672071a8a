/*
 * outage: which sources have met no living address of a site, and until when nobody need try again.
 *
 * Many queues go to one site. When none of its addresses can be reached from a source, each of them
 * would find that out by a connection of its own; so the first to fail notes it here, and the
 * others wait with it. The first that comes after that tries for all. Sources are told apart by a
 * hash of their address; of more than OUTAGE_SOURCES the one that may try soonest is forgotten,
 * which costs connections and nothing else.
 *
 * A value of its owner, all zero in the beginning: one thread, no I/O. Times in nanoseconds of one
 * monotonic clock.
 */
#pragma once

#include "core/base/ipaddr.h"

#define OUTAGE_SOURCES 8

struct outage {
    uint64_t latest_ns;                /* of all of them, so far */
    uint64_t until_ns[OUTAGE_SOURCES]; /* 0 = unused */
    uint32_t sources[OUTAGE_SOURCES];  /* hashes */
};

/* Nobody need try from the source until then; 0: nothing is to be noted. */
void outage_note(struct outage *outage, const struct ipaddr *source, uint64_t until_ns);
/* The source has reached it. */
void outage_end(struct outage *outage, const struct ipaddr *source);
/* When the source may try; 0 = at any time. */
uint64_t outage_until_ns(const struct outage *outage, const struct ipaddr *source);
