/*
 * carrier: writes the messages of queues whose type is file or pipe (carry.h), on a loop and a
 * thread of its own: a file system that hangs, or one slow to give a program, holds up nothing
 * else.
 *
 * A new file is written under another name in its folder, synced, and then gets its own, made of
 * the message's arrival and id and the recipient's number, so it is there whole or not at all, it
 * replaces nothing, and a delivery that is repeated after a crash finds what it did before. A
 * mailbox is locked (flock), appended to, synced, and cut back when that fails. Only then is a
 * message delivered. A message for a program goes to its standard input (carrier_program.c). A few
 * files are written in each turn, so that programs are served meanwhile.
 */
#pragma once

#include "core/io/mailbox.h"

#define CARRIER_STOP 0x710 /* struct carrier_order: from control, which gets it back never */

struct carrier;
struct io;

struct carrier_order {
    struct parcel parcel;
    uint32_t grace_ms; /* as of carrier_stop */
};

/* to_shards: borrowed, by their numbers. */
struct carrier *carrier_create(struct io *io, struct mailbox *const *to_shards);
/* After the loop has ended. NULL is fine. */
void carrier_destroy(struct carrier *carrier);
/* Once, before the loop runs: the ways from shards, by their numbers, and from control. From now on
 * it works by itself. */
void carrier_wire(struct carrier *carrier, struct mailbox *const *from_shards, uint16_t shard_count,
                  struct mailbox *from_control);
/* Takes a parcel, which is a carry. */
void carrier_take(struct carrier *carrier, struct parcel *parcel);
/* The daemon ends: after so much time programs that still run are ended, and nobody waits for a
 * lock any more. */
void carrier_stop(struct carrier *carrier, uint32_t grace_ms);
/* True when there is more to do at once. */
bool carrier_turn(struct carrier *carrier);
