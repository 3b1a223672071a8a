/*
 * fake_dns: a resolver that answers from a table, as an actor of its own in the simulator.
 */
#pragma once

#include "net/dns.h"
#include "tests/sim/sim.h"

struct fake_record {
    const char *name;
    enum dns_type type;
    const char *data; /* "10 mx.example" (exchange "." = the root), an address, a name or text; NULL
                         = a status */
    enum dns_status status; /* with data NULL */
    uint32_t ttl_s;         /* 0 = 300 */
    bool is_secure;         /* so is what is said of the name's other types */
};

/* Names of the table without records of the type asked for have no data; other names no answer at
 * all: NXDOMAIN. An array ends with a record of no name. */
struct fake_dns {
    struct mailbox *questions;
    struct mailbox *answers;
    struct io *io;
    struct io_timer timer;
    struct list waiting;
    const struct fake_record *records;
    uint64_t delay_ns;    /* before each answer */
    bool holds;           /* answers nothing until let go */
    uint32_t asked_count; /* questions so far */
    uint32_t held_count;  /* with us right now */
    uint32_t held_max;
};

/* Two mailboxes between client's loop and one of ours, in the same process. */
void fake_dns_init(struct fake_dns *fake, struct sim_world *world, struct sim_process *process,
                   struct io *client, const struct fake_record *records);
void fake_dns_fini(struct fake_dns *fake);
/* After holds was cleared: answers what waits. */
void fake_dns_release(struct fake_dns *fake);
/* Fills an answer from a table; for tests that need no actor. */
void fake_dns_fill(const struct fake_record *records, struct dns_query *query);
