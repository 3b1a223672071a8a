/*
 * ledger: what a spool was told and what it answered, kept outside of it, and the judgement over
 * what a recovery brings back.
 *
 * Outcomes and named states go through one stream in order, so a durable answer to one makes all
 * before it sure. A check that fails is noted as text; the caller decides what that means.
 */
#pragma once

#include "queue/spool.h"

#define LEDGER_RCPTS 5
#define LEDGER_KEYS  4

enum ledger_standing {
    LEDGER_SENT,    /* no answer yet */
    LEDGER_KEPT,    /* answered 0, or found by a recovery */
    LEDGER_FOUND,   /* found by a recovery that is not to be trusted: may appear or not */
    LEDGER_REFUSED, /* answered negative: must never appear */
    LEDGER_UNKNOWN, /* no answer and never will be: may appear or not */
    LEDGER_DONE,    /* every recipient final, for sure */
};

struct ledger_rcpt {
    uint16_t attempts; /* as the client sees it */
    uint16_t attempts_sure;
    uint16_t attempts_told; /* the most that may be on the disk */
    bool is_final;
    bool is_final_sure;
    bool is_final_told;
};

struct ledger_message {
    struct list link; /* those the client may still do something with */
    uint64_t id;
    enum ledger_standing standing;
    uint32_t body_bytes;
    uint32_t rcpt_count;
    struct ledger_rcpt rcpts[LEDGER_RCPTS];
    bool is_done;        /* told, with LOG_MESSAGE_DONE */
    bool is_seen;        /* by the recovery under judgement */
    bool is_moving;      /* appended again, not answered yet: no outcomes meanwhile */
    bool is_uncommitted; /* only chunks of it were appended: it must never appear */
    struct log_place place;
    struct log_chunk *chunks; /* of a message in chunks, as far as known */
    uint32_t chunk_count;
};

struct ledger_named {
    uint64_t version; /* told; every fifth is empty */
    uint64_t version_sure;
};

enum ledger_fate {
    LEDGER_FATE_OUTCOME = 1,
    LEDGER_FATE_SURE = 2,
};

/* One step in the outcome stream, until it is sure. */
struct ledger_step {
    uint64_t number;
    struct ledger_message *message; /* NULL = named */
    uint32_t which;                 /* recipient or key */
    uint64_t what;                  /* attempts or version */
    bool is_final;
    bool is_done;
};

struct ledger {
    struct ledger_message **messages; /* by id - 1 */
    uint64_t message_count;
    uint64_t message_room;
    struct list live; /* kept and not done, as the client sees it */
    uint32_t live_count;
    struct ledger_named named[LEDGER_KEYS];
    bool named_seen[LEDGER_KEYS];
    struct ledger_step *steps;
    uint64_t step_first; /* numbers: steps[number % room] */
    uint64_t step_next;
    uint64_t step_room;
    uint8_t *fates; /* per step number: LEDGER_FATE_… */
    uint64_t fate_room;
    uint64_t cursor_read; /* number of the outcome that the cursor read last */
    struct log_place cursor_at;
    bool expects_damage;
    /* A failed sync may leave bytes that can be read now and are gone after a power cut. What only
     * a recovery has shown of outcomes, and no answer confirmed, may then vanish again. */
    bool doubts_recovery;
    bool doubts_messages; /* the same of messages, where a full disk may keep them from being made
                             durable before they are told */
    uint32_t damage_count;
    char failure[256]; /* empty = none yet */
    uint64_t checked;
    /* Of messages in chunks. */
    uint64_t chunked_kept;
    uint64_t chunked_moved;
    uint64_t chunked_dropped;
    uint64_t chunked_read;
};

void ledger_init(struct ledger *ledger);
void ledger_fini(struct ledger *ledger);
void ledger_fail(struct ledger *ledger, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static inline bool ledger_has_failed(const struct ledger *ledger)
{
    return ledger->failure[0] != 0;
}

struct ledger_message *ledger_message_new(struct ledger *ledger, uint32_t rcpt_count,
                                          uint32_t body_bytes);
void ledger_message_answered(struct ledger *ledger, struct ledger_message *message, int status,
                             const struct log_place *place);
/* Of its envelope: the normal one for most. */
uint8_t ledger_priority(const struct ledger_message *message);
/* Bytes of the record's payload, at most room_bytes. */
size_t ledger_payload(const struct ledger_message *message, uint8_t *room, size_t room_bytes);
uint64_t ledger_due(const struct ledger_message *message, uint32_t rcpt, uint16_t attempts);

/* Number of the step, for ledger_sure. */
uint64_t ledger_outcome(struct ledger *ledger, struct ledger_message *message, uint32_t rcpt,
                        bool is_final, bool is_done);
uint64_t ledger_named(struct ledger *ledger, uint32_t key);
/* Everything up to this step is durable. */
void ledger_sure(struct ledger *ledger, uint64_t step);
/* The life ended: what has no answer never gets one, steps that are not sure may be lost. */
void ledger_crashed(struct ledger *ledger);
/* The spool was closed in order: all is durable. */
void ledger_closed(struct ledger *ledger);

static inline bool ledger_is_live(const struct ledger_message *message)
{
    return !list_empty(&message->link) && !message->is_done;
}

/* Judging a recovery: begin, one call per thing it tells, end. A message that may be there and is
 * becomes one that must be there. */
void ledger_recovery_begin(struct ledger *ledger);
void ledger_recovered_message(struct ledger *ledger, const struct log_message_state *state);
void ledger_recovered_named(struct ledger *ledger, const struct log_named *named);
void ledger_recovery_end(struct ledger *ledger);
/* An outcome came out of the cursor; its number was given by the step. */
void ledger_cursor_read(struct ledger *ledger, uint64_t number);
/* The cursor has read all there is. */
void ledger_cursor_end(struct ledger *ledger);
