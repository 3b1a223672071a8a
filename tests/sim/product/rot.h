/*
 * rot: bytes that change on the medium by themselves, between two lives.
 *
 * Only where the spool keeps what it needs twice, so that nothing may be lost by it: one copy of
 * the superblock, both headers of a segment of messages whose first batch stands, and a state
 * record of the newest checkpoint (the one before is kept for that).
 */
#pragma once

#include "tests/sim/sim.h"

/* Name, what it is. */
#define ROT_PLACES(X)                                                                              \
    X(super, "a copy of the superblock while both are good")                                       \
    X(header, "both copies of the header of a segment of messages")                                \
    X(state, "a record of the newest checkpoint; once in a history")

struct rot {
#define ROT_FIELD(name, text) uint64_t name;
    ROT_PLACES(ROT_FIELD)
#undef ROT_FIELD
};

/* Spoils one place of the spool in `directory`, if it finds one, and counts it. */
void rot_somewhere(struct rot *rot, struct sim_world *world, const char *directory);
