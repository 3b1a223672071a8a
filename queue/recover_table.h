/*
 * recover_table: what recovery knows about each message while it reads the log.
 *
 * 56 bytes a message and 16 a recipient; names of domains and VMTAs are kept once. Facts may come
 * in any order that the log can hold them: a final outcome wins, else the one with more attempts,
 * else the later one. One thread.
 */
#pragma once

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/obs/outcome.h"
#include "queue/envelope.h"
#include "queue/spool.h"

struct recover_rcpt {
    uint64_t due_us;
    uint32_t domain; /* index of names */
    uint16_t attempts;
    uint8_t is_final;
};

struct recover_message {
    uint64_t id;
    uint64_t accepted_us;
    uint32_t expires_s; /* by its own terms, rounded up; 0 = they do not say */
    uint32_t serial;    /* place */
    uint32_t offset;
    uint32_t bytes;
    uint32_t vmta; /* index of names */
    uint32_t rcpt_first;
    uint32_t rcpt_count;
    uint32_t final_count : 24;
    uint32_t priority : 7; /* envelope_priority */
    uint32_t is_done : 1;
    uint16_t slot;  /* of the segment at serial, set once all is known */
    uint16_t large; /* as in struct log_place */
    uint32_t flow;  /* envelope_flow, 0 = unknown */
};
_Static_assert(sizeof(struct recover_message) == 56, "memory of a recovery");
_Static_assert(ENVELOPE_RCPT_COUNT_MAX < 1 << 24, "recipients are counted in 24 bits");

struct recover_table {
    struct recover_message *messages;
    struct recover_rcpt *rcpts;
    struct slice *names;
    uint32_t message_count;
    uint32_t message_room;
    uint32_t rcpt_count;
    uint32_t rcpt_room;
    uint32_t name_count;
    uint32_t name_room;
    struct table by_id;
    struct table by_name;
    struct arena arena;
};

void recover_table_init(struct recover_table *t);
void recover_table_fini(struct recover_table *t);
/* All return 0, -ENOMEM, or E_DAMAGED when the record contradicts what is known. */
/* is_relogged: this copy counts, not one that is known already, unless that was made by a later
 * life: logs of several devices are not read in order of time. */
int recover_table_message(struct recover_table *t, const struct envelope *envelope,
                          const struct log_place *place, bool is_relogged);
int recover_table_state(struct recover_table *t, const struct log_message_state *state);
int recover_table_outcome(struct recover_table *t, const struct outcome *outcome, bool is_done);
static inline bool recover_message_is_live(const struct recover_message *message)
{
    return !message->is_done && message->final_count < message->rcpt_count;
}
/* Indices of the live messages in order of their places; NULL when there are none or too little
 * memory (*ret_count tells which). Freed with mem_free. */
uint32_t *recover_table_sorted(const struct recover_table *t, uint32_t *ret_count);
/* Bytes that the recipients of a message may take when encoded. */
size_t recover_table_rcpts_max(const struct recover_table *t, const struct recover_message *m);
void recover_table_rcpts_put(const struct recover_table *t, const struct recover_message *m,
                             struct wire_writer *w);
