/*
 * assembly: puts shards, spool and control together: who has a mailbox to whom.
 *
 * The same for the daemon and for the simulator, which differ only in where loops come from. All
 * calls are made before the loops run, by one thread at a time. The order: shards and control are
 * created on their own threads, assembly_recover on the thread of the committer's loop, then
 * assembly_wire while every loop stands still. Mailboxes and the carrier belong to the assembly.
 */
#pragma once

#include "queue/spool.h"
#include "shard/control.h"
#include "shard/shard.h"

struct assembly;

struct assembly_options {
    struct conf *conf; /* that of the shards and of control, which take references of their own */
    uint16_t shard_count;
    struct io *const *shard_loops; /* [shard_count] */
    struct shard *const *shards;   /* [shard_count] */
    struct io *committer_loop;     /* one of shard_loops, or its own */
    struct io *control_loop;       /* NULL = no control */
    struct control *control;       /* NULL: somebody else sits on that loop, if there is one */
    struct io *carrier_loop;       /* NULL = no carrier, and no mail for files or programs */
    struct io *resolver_loop;      /* NULL = the resolver is a foreign thread */
    const struct spool_options *spool;
};

struct assembly *assembly_create(const struct assembly_options *options);
/*
 * Opens the spool and gives every live message to its home. Damage is logged. 0 or negative, as
 * spool_open; E_FULL when the queue is larger than the shards' limits.
 */
int assembly_recover(struct assembly *assembly, struct spool_report *ret_report);
void assembly_wire(struct assembly *assembly);
struct spool *assembly_spool(const struct assembly *assembly);
/* For who stands in for control: the snapshot that shards work with, the ways to them and back
 * ([shard_count] each). */
struct published *assembly_published(struct assembly *assembly);
struct mailbox *const *assembly_to_shards(const struct assembly *assembly);
struct mailbox *const *assembly_from_shards(const struct assembly *assembly);
/* The resolver's ends, [shard_count] each. */
struct mailbox *const *assembly_questions(const struct assembly *assembly);
struct mailbox *const *assembly_answers(const struct assembly *assembly);
/* After the loops have ended. The spool is destroyed too. */
void assembly_destroy(struct assembly *assembly);
