/*
 * pickup: messages that programs leave as files in a folder.
 *
 * A file begins with its envelope, `x-sender: ADDRESS` and then `x-receiver: ADDRESS` once for each
 * recipient; the message follows. Lines end in LF or CRLF. x-envid, x-job and x-virtual-mta may
 * stand among them and are the first fields of the message, for the source `{pickup}` to obey. The
 * settings are those of a client on loopback that comes by this source.
 *
 * A file is taken when it has not been altered for PICKUP_AGE_US, so one that is moved in is
 * taken whole; names that begin with a dot are not looked at, nor what is a link or has another
 * name besides (A42). It is unlinked when the log has its message, unless another file has its name
 * by then: a crash in between takes it twice and never loses it. What can never be taken is moved
 * to the bad folder, with a line in the log that says why; what cannot be taken now stays and is
 * tried again.
 *
 * Each shard takes the names that a hash gives it, PICKUP_JOBS at once, one list of names after the
 * other. Listing a folder and opening a file are synchronous calls of the loop; octets are read
 * asynchronously. Memory is taken when a folder is first configured. Belongs to the shard's thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PICKUP_AGE_US  1000000ull
#define PICKUP_SPAN_MS 1000  /* between two looks at a folder */
#define PICKUP_REST_MS 10000 /* after something could not be taken now */
#define PICKUP_JOBS    8u

struct pickup;
struct shard;

struct pickup *pickup_create(struct shard *shard);
/* Nothing may be under way. */
void pickup_destroy(struct pickup *pickup);
/* The shard has another configuration. */
void pickup_adopt(struct pickup *pickup);
/* No further file; messages that are not complete are given up, and their files stay. */
void pickup_stop(struct pickup *pickup);
/* After pickup_stop: nothing is under way. */
bool pickup_is_idle(const struct pickup *pickup);
