/*
 * signatures: how a message was signed when it was accepted, in its envelope: so that whoever
 * delivers it knows whether that still holds. The signed octets themselves are in its prefix.
 *
 * Rules name what the configuration said of signing for the queues of its recipients, ids each
 * signature with its key, in the order of their fields. They are filled in behind the encoding of
 * the envelope, so both have room that may stay free. Pure functions, any thread.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"

#define SIGNATURES_COUNT_MAX 8u
#define SIGNATURES_RULES_MAX 4u /* of more none is kept */

/* An upper bound of what signatures_encode writes, but for the options. */
#define SIGNATURES_BYTES_MAX (4 + 4 + 8 * (SIGNATURES_RULES_MAX + SIGNATURES_COUNT_MAX) + 1 + 2)

struct signatures {
    uint32_t rule_room; /* of the encoding */
    uint32_t rule_count;
    uint32_t room;
    uint32_t count;
    uint32_t expires_s; /* x= of the one that runs out first, Unix time; 0 = none does */
    uint64_t rules[SIGNATURES_RULES_MAX];
    uint64_t ids[SIGNATURES_COUNT_MAX];
    bool has_options;
    struct slice options; /* x-dkim-options, unfolded: what the message said of it */
};

/* Sets w->failed when the room is too small. As long for any counts within the same room. */
void signatures_encode(const struct signatures *signatures, struct wire_writer *w);
/* options point into data. 0, or E_DAMAGED. */
int signatures_decode(struct slice data, struct signatures *ret_signatures);
/* Whether they were made by these rules and none has run out: what a delivery costs that has
 * nothing to sign. True of empty data: nothing is known then. */
bool signatures_hold(struct slice data, uint64_t rules, uint64_t now_s);
