/*
 * seglog: one stream of the log: batches, group commit, and what happens when a commit fails.
 *
 * There is one for the messages of each device, and one for all outcomes, on the first device.
 * Records are copied into the batch that fills while the batch before it is in flight; one commit
 * is in flight per stream. Messages are committed as soon as the former commit is done; outcomes
 * when somebody waits for them, when the batch is full, or when the oldest has waited long enough.
 *
 *             ┌────────────────────────── done ──────────────────────────┐
 *   IDLE ─► SUMMING ─► WRITING ─► SYNCING ─┬─► IDLE                        │
 *     └──────────────────┘                 └─► (write or sync failed)      │
 *   messages:  VOID_WAITS (the outcome stream makes it durable) ───────────┤
 *   outcomes:  VOID_DUE ─► VOID_WRITING ─► VOID_SYNCING ─► REDO_DUE ─► WRITING …
 *                 ▲             └───────────────┴─► (write or sync failed)
 *                 └──────────────── after a rest ──────────┘
 *   DEAD: poisoned
 *
 * Outcomes are not given up: while the disk refuses them the stream tries again, each time in a
 * fresh segment and after a longer rest, up to 16 seconds, and what comes meanwhile waits. A void
 * that could not be made durable is itself void, and said to be by the next one. SEGLOG_VOIDS_MAX
 * of them in a row, each behind a header that the disk took, end it.
 *
 * SUMMING is for a record larger than the batch buffer: its checksum is taken a piece a turn, then
 * it is written in several pieces and made durable by one sync at the end.
 */
#pragma once

#include "queue/batch.h"

enum seglog_state {
    SEGLOG_IDLE,
    SEGLOG_SUMMING,
    SEGLOG_WRITING,
    SEGLOG_SYNCING,
    SEGLOG_VOID_WAITS,
    SEGLOG_VOID_DUE,
    SEGLOG_VOID_WRITING,
    SEGLOG_VOID_SYNCING,
    SEGLOG_REDO_DUE,
    SEGLOG_DEAD,
};

#define SEGLOG_BATCH_BYTES (1u << 20)
#define SEGLOG_VOIDS_MAX   32u /* of the outcome stream, due at once: they fill a block */

struct seglog {
    struct spool *spool;
    struct spool_device *device;
    struct segpool *pool; /* the device's */
    enum segfmt_stream stream;
    enum seglog_state state;
    struct segment *active; /* NULL before the first record and after a failure */
    uint32_t write_end;     /* where the next batch goes */
    uint32_t batch_bytes;   /* size of the buffers */
    struct batch batches[2];
    struct batch *fill;
    struct batch *flight;
    struct list pending; /* requests not copied yet, in order */
    uint64_t pending_bytes;
    struct io_op op;
    struct io_timer hold;
    struct io_timer watch; /* a commit of outcomes is late, or a rest is over */
    uint64_t commit_began_ns;
    uint64_t rest_until_ns;
    uint64_t shunned_until_ns; /* messages: other devices come first, from the first failure on */
    uint32_t piece;            /* bytes in flight */
    int failure;               /* why the flight, or its void, failed */
    uint32_t failures_in_a_row;
    uint8_t *void_block; /* outcomes from here on */
    uint32_t void_offset;
    uint64_t void_sequence;
    struct segfmt_void voids[SEGLOG_VOIDS_MAX]; /* to be made durable before the redo */
    uint32_t void_count;
    struct log_request void_request; /* messages: the void on its way through the outcome stream */
    struct iovec void_payload;
    uint8_t void_bytes[SEGFMT_VOID_BYTES];
};

void seglog_init(struct seglog *log, struct spool_device *device, enum segfmt_stream stream);
void seglog_fini(struct seglog *log);
/* Takes the request: copied at once or as soon as there is room; answered through spool_answer. */
void seglog_append(struct seglog *log, struct log_request *request);
/* Copies what waits, starts the commit that is due. */
void seglog_turn(struct seglog *log);
/* The void of a failed batch of messages is durable. */
void seglog_on_void_durable(struct seglog *log);
/* Every request inside is answered with status; nothing is written any more. */
void seglog_kill(struct seglog *log, int status);
/* Nothing waits and nothing is in flight. */
bool seglog_is_idle(const struct seglog *log);
/* Work is left that no completion or timer will bring. */
bool seglog_is_busy(const struct seglog *log);
/* A record of so many payload bytes would be copied at once, and could go out at once if the log is
 * idle. */
bool seglog_has_room(struct seglog *log, uint32_t payload_bytes);
/* It has a place, or one can be made as things are. */
bool seglog_can_take(const struct seglog *log, uint32_t payload_bytes);
/* Bytes collected and waiting, which are not on their way yet. */
static inline uint64_t seglog_waiting_bytes(const struct seglog *log)
{
    return log->fill->used + log->pending_bytes;
}
/* Records are there that have no place yet. */
bool seglog_is_waiting(const struct seglog *log);
/* Outcomes: the disk refused a commit and then its void or its repetition too, and has taken none
 * since. */
bool seglog_is_failing(const struct seglog *log);
/* The disk failed again and again: nothing is tried for a while. */
bool seglog_is_resting(const struct seglog *log);
/* Outcomes: a commit is under way for so long that no more should depend on it. */
bool seglog_is_late(const struct seglog *log);
/*
 * Messages, while the disk fails: what was not written yet goes to another device, or is refused.
 * With for_good the void
 * cannot be had either: who waits for the failed batch gets E_POISONED, since nobody can say what
 * is on the disk. The void follows all the same.
 */
void seglog_release_waiting(struct seglog *log, bool for_good);
/* Where the next record that is not yet durable goes: everything before has been answered. */
void seglog_durable_place(const struct seglog *log, uint32_t *ret_serial, uint32_t *ret_offset);
