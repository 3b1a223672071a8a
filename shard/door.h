/*
 * door: where injectors' connections come in, on which shard, and whether at all.
 *
 * SO_REUSEPORT deals them out by a hash, which for few of them is anything but even (84 of 100 on
 * one of two shards was seen), and a session stays where it began: so a connection whose session
 * would begin on a shard that has clearly more of them than another goes there instead, before a
 * word is said.
 *
 * Who finds no place (total-max-smtp-in, or what its source group may have, see guests.h) waits
 * here without a greeting, where its listener says so, in order within a shard, for five minutes at
 * most: so long
 * clients wait (RFC 5321 4.5.3.2.1). Else its session begins, and is refused. At most ARRIVALS_MAX
 * of a shard's connections wait or are on their way. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/guests.h"

struct conf_source;
struct shard;

/* An accepted connection whose session begins elsewhere or later. Allocated by the shard that
 * accepted it, returned there. */
struct arrival {
    struct parcel parcel;
    struct list link;        /* in waiting or held of the shard where it is */
    const char *source_name; /* the listener's, valid until the return */
    uint64_t held_since_ns;  /* 0 = it has not been held */
    uint32_t index;          /* in the slab of the shard that accepted it */
    uint16_t home;           /* that shard */
    int fd;                  /* -1: its session has begun */
};

struct door {
    struct slab arrivals;
    struct list waiting;   /* for the answer whether another shard has a slot for it */
    struct list held;      /* for a place, the first one first */
    struct io_timer timer; /* while some are held: looks for places that others have left */
};

void door_init(struct shard *shard);
void door_fini(struct shard *shard);
/* The intake's arrive(). */
bool door_arrive(void *taker, int fd, const char *listener_source);
void door_on_arrival(struct shard *shard, struct arrival *arrival);
void door_on_arrival_return(struct shard *shard, struct arrival *arrival);
/* A session of that source begins here: false when there are as many as may be, in all shards. Or
 * one has ended, with what it got here. */
bool door_enter(struct shard *shard, const struct conf_source *source, struct guest *ret_guest);
void door_leave(struct shard *shard, struct guest guest);
/* Nothing is on its way. */
bool door_is_idle(const struct shard *shard);
/* For the simulator: NULL when the shards' loads are what is there, else what is wrong. */
const char *door_audit(struct shard *const *shards, uint16_t count);
