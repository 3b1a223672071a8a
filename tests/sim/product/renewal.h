/*
 * renewal: configurations drawn by the seed, and when a life takes another one.
 *
 * Each is a variation: limits of connections, of all and of virtual MTAs, settings of queues, a
 * route, HELO names, source addresses, and virtual MTAs that are there or not; in half of the
 * histories rates too, of virtual MTAs, of recipients and of connections; in half of them limits
 * that compose, by blocks and by addresses; in a third the source looks into headers and takes a
 * field out; in another third queues hand their mail on to others (queue-to,
 * reroute-to-virtual-mta). A text has been loaded once outside of any life before it is used, so
 * that no life owns the names in it.
 */
#pragma once

#include "tests/sim/product/product.h"

struct renewal {
    struct rng *rng;
    struct rng rates_rng; /* what has no rates is the same history with and without them */
    bool has_modes;
    bool has_wide_modes; /* of whole providers, by standing orders */
    bool has_rates;
    bool has_jobs;       /* in every configuration of the history, or in none */
    bool is_signed;      /* likewise: all mail */
    struct rng ways_rng; /* likewise */
    struct rng signing_rng;
    bool has_ways;
    uint64_t missing;      /* the virtual MTA that the text leaves out, counted from 0; or none */
    struct rng limits_rng; /* likewise */
    bool has_limits;
    struct rng mail_rng; /* likewise */
    bool has_mail_limits;
    char text[8192]; /* that the life at hand works with, or will in a moment */
    uint64_t next_ns;
};

/* The first configuration of a history. */
void renewal_init(struct renewal *renewal, struct rng *rng, uint64_t seed);
/* is_whole: with every virtual MTA, so that no mail has to wait for one. */
void renewal_draw(struct renewal *renewal, bool is_whole);
/* A life begins: when it is to take another configuration. */
void renewal_begin(struct renewal *renewal, struct sim_world *world);
/* Between steps. */
void renewal_tend(struct renewal *renewal, struct product *product, bool is_whole);
