/*
 * note: what operators are told by mail: backoff-notify, disabled-source-ip-notify.
 *
 * Each list of addresses has a digest. What happens within two seconds goes into one note, and the
 * next one to the same list follows an hour later at the earliest, with all that happened
 * meanwhile; of that a few KB are kept and the rest counted. So a storm costs a mail an hour for
 * each shard and list. A digest lives in memory: a crash or a stop forgets what was not sent, which
 * the log has. On the shard's thread; while nothing happens it costs nothing.
 */
#pragma once

#include "core/base/slab.h"
#include "core/io/io.h"

struct order_facts;
struct queue;
struct shard;

#define NOTE_TO_MAX    800  /* octets of a list of addresses; of a longer one nobody is told */
#define NOTE_LINES_MAX 6000 /* octets of what happened */

struct notes {
    struct slab slab; /* digests */
    struct io_timer timer;
    uint64_t dropped; /* events of lists for which there was no digest */
};

void note_init(struct shard *shard);
void note_fini(struct shard *shard);
/* The queue went into backoff mode, or is in normal mode again (reason NULL). */
void note_mode(struct shard *shard, const struct queue *queue, const char *reason);
/* A standing order begins or is over: is logged, and told where it concerns a source address. */
void note_order(struct shard *shard, const struct order_facts *facts, bool begins);
