/*
 * life: one start of a spool with a client that uses it as a shard would, kept honest by a ledger.
 *
 * The client sends messages, outcomes and named states at random, emits its state when a checkpoint
 * begins, reads outcomes through a cursor, and reads recovered messages back. Runs in any world:
 * the spool and the client may have one loop or two. Requests live outside of the process's heap,
 * since a simulated crash takes that away.
 */
#pragma once

#include "tests/unit/queue/ledger.h"

struct life_options {
    struct spool_options spool;
    uint32_t live_max;       /* messages the client keeps at most */
    uint32_t large_one_in;   /* messages larger than the batch buffer; 0 = none */
    uint32_t chunked_one_in; /* messages in chunks, some larger than a segment; 0 = none */
    uint32_t burst_max;      /* actions per wake */
    bool no_cursor;
    bool no_checkpoints;
};

struct life {
    struct life_options options;
    struct ledger *ledger;
    struct rng rng;
    struct io *spool_io;
    struct io *client_io;
    struct spool *spool;
    struct spool_report report;
    struct spool_reader *reader;
    struct spool_cursor *cursor;
    struct mailbox *to_spool;
    struct mailbox *from_spool;
    uint16_t client;
    struct io_timer timer;
    struct list requests; /* out */
    struct list makings;  /* large.c */
    struct list chunks;
    uint32_t request_count;
    struct spool_notice *checkpoint; /* being answered */
    uint64_t checkpoint_at;          /* message ids below were emitted */
    uint32_t checkpoints_seen;
    struct spool_notice *evacuation; /* being answered */
    uint64_t evacuation_at;
    uint32_t evacuations_seen;
    struct spool_notice cursor_notice;
    bool cursor_notice_out;
    bool is_quiet; /* sends nothing new */
    bool is_closed;
    bool is_open;
    char refusal[600]; /* why it did not open */
    uint8_t *scratch;
};

/* Opens and judges the recovery. 0, or what spool_open said. spool_io and client_io may be one. */
int life_open(struct life *life, const struct life_options *options, struct ledger *ledger,
              struct io *spool_io, struct io *client_io, uint64_t seed);
/* Frees everything of an orderly end (is_closed), when the loops are at rest. */
void life_destroy(struct life *life);
/* Frees what a crash leaves behind outside of the process. */
void life_forget(struct life *life);
void life_close(struct life *life);
/* Nothing of the client is unanswered. */
static inline bool life_is_settled(const struct life *life)
{
    return life->request_count == 0 && life->checkpoint == NULL && life->evacuation == NULL &&
           !life->cursor_notice_out;
}

void life_send_message(struct life *life, uint32_t rcpt_count, uint32_t body_bytes);
/* An outcome for the next recipient of the message that is not final. */
void life_send_outcome(struct life *life, struct ledger_message *message, bool is_final,
                       bool wants_sync);
/* Appends the message again and, when that is durable, gives its old place free. */
void life_move_message(struct life *life, struct ledger_message *message);
/* The message lies at its new place: its state, with which the copy at `old` is dead. */
void life_send_moved(struct life *life, struct ledger_message *message,
                     const struct log_place *old);
void life_send_named(struct life *life, uint32_t key, bool wants_sync);
/* Reads all that the cursor can give. */
void life_read_cursor(struct life *life);
