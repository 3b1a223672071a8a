/*
 * carrier: writes the messages of queues whose type is file or pipe (carry.h), on control's loop.
 *
 * A new file is written under another name in its folder, synced, and then gets its own, made of
 * the message's arrival and id and the recipient's number, so it is there whole or not at all, it
 * replaces nothing, and a delivery that is repeated after a crash finds what it did before. A
 * mailbox is locked (flock), appended to, synced, and cut back when that fails. Only then is a
 * message delivered. A message for a program goes to its standard input (carrier_program.c). A few
 * files are written in each turn, so that control goes on with its other work.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct carrier;
struct io;
struct mailbox;
struct parcel;

/* to_shards: borrowed, by their numbers. */
struct carrier *carrier_create(struct io *io, struct mailbox *const *to_shards);
/* After the loop has ended. NULL is fine. */
void carrier_destroy(struct carrier *carrier);
/* Whether the parcel is the carrier's; then it has taken it. */
bool carrier_take(struct carrier *carrier, struct parcel *parcel);
/* The daemon ends: after so much time programs that still run are ended, and nobody waits for a
 * lock any more. */
void carrier_stop(struct carrier *carrier, uint32_t grace_ms);
/* True when there is more to do at once. */
bool carrier_turn(struct carrier *carrier);
