/*
 * carrier_int: the inside of the carrier, shared by carrier*.c and by nobody else.
 *
 *   carrier.c          jobs, files
 *   carrier_program.c  programs
 */
#pragma once

#include "core/io/io.h"
#include "shard/carrier.h"
#include "shard/carry.h"

/* Programs that run at once; further messages wait. */
#define CARRIER_PROGRAMS_MAX 64u

struct carrier {
    struct io_actor actor; /* first */
    struct io *io;
    struct mailbox *const *to_shards;
    struct list jobs;     /* to be done */
    struct list waiting;  /* for a lock */
    struct list queueing; /* for a program to end */
    struct list programs; /* running */
    uint32_t program_count;
    bool is_over; /* the grace of a shutdown */
    struct io_timer look_timer;
    struct io_timer stop_timer;
    uint8_t room[65536];
};

void carrier_send_home(struct carrier *carrier, struct carry *carry, enum carry_kind kind);

/* carrier_program.c */
/* One parcel of a message that goes to a program. Takes it. */
void carrier_program_run(struct carrier *carrier, struct carry *carry);
/* The grace is over: ends them all, and starts none. */
void carrier_program_on_stop(struct io_timer *timer);
