/*
 * names: the simulated resolver: an actor that answers dns questions from a small made-up zone.
 *
 * d<k>.test has two MX hosts m<a>.test (preference 10) and m<b>.test (20), each with the address of
 * a receiver. Answers may fail or time out at given rates. Stands where libunbound's thread stands
 * in the real world; lives in the product's process.
 */
#pragma once

#include "core/io/mailbox.h"
#include "tests/sim/sim.h"

struct names_zone {
    struct sim_world *world;
    uint32_t receiver_count;
    uint32_t failure_rate; /* SERVFAIL about once in so many questions; 0 = never */
    uint64_t failures;
    struct mailbox *const *answers; /* [shard] */
};

void names_serve(struct names_zone *zone, struct mailbox *const *questions,
                 struct mailbox *const *answers, uint16_t shard_count);
