/*
 * home: messages that were taken by this shard, from the durable append to the last final outcome.
 *
 * Home alone writes records about its messages, in order. It hands recipients to the owners of
 * their queues, hears their outcomes, passes them on to the log, and tells the log the state of
 * what lives when a checkpoint asks for it. Belongs to the shard's thread; memory of messages and
 * recipients is promised before a message is accepted (home_reserve), so that what was answered
 * 250 has room. Times are wall clock seconds, rounded up.
 */
#pragma once

#include "core/conf/conf.h"
#include "queue/envelope.h"
#include "queue/spool.h"

struct handoff;
struct locate;
struct message;
struct outcome_parcel;
struct shard;

/* One live message. Lives from the durable append (or recovery) to its last final outcome. There
 * are millions: 48 bytes. Its virtual MTA, flow and priority are those of its recipients' routes.
 */
struct home_message {
    uint64_t id;
    struct log_place place;
    uint32_t accepted_s;     /* wall clock seconds, rounded up */
    uint32_t hot;            /* index in the message pool + 1; 0 = cold */
    uint32_t rcpt_first;     /* chain of home_rcpt by next */
    uint32_t handoff_next;   /* chain of messages with recipients to hand out */
    uint32_t handoff_rcpt;   /* the next recipient to hand out, NONE = all are */
    uint16_t rcpt_open;      /* not final yet */
    uint16_t claims : 15;    /* recipients out with a pointer to hot */
    uint16_t has_expiry : 1; /* of its own, in shard.home_expiries */
};
_Static_assert(ENVELOPE_RCPT_COUNT_MAX < 1 << 15, "recipients are counted in 15 bits");
_Static_assert(sizeof(struct home_message) == 48, "memory of a queued message");

/* One recipient of it: what recovery must know. */
struct home_rcpt {
    uint32_t next;
    uint32_t route;
    uint32_t due_s;        /* wall clock seconds, rounded up; 0 = never attempted */
    uint16_t ordinal : 15; /* in the envelope */
    uint16_t is_final : 1;
    uint16_t attempts : 12;  /* HOME_ATTEMPTS_MAX stands for all above it */
    uint16_t backed_off : 2; /* so often queues in backoff mode have handed it on */
    uint16_t is_over : 1;    /* goes where the overflow of a warm-up goes, see warm.h */
    uint16_t is_cold : 1;    /* goes to the cold virtual MTA of its own, see cold.h */
};
_Static_assert(sizeof(struct home_rcpt) == 16, "memory of a queued recipient");

#define HOME_ATTEMPTS_MAX 0xfffu
_Static_assert(CONF_BACKOFF_STEPS_MAX < 1 << 2, "steps are counted in 2 bits");

/* The shard's scratch memory, grown when need be; NULL when memory is short. */
uint8_t *home_scratch(struct shard *shard, size_t bytes);
void home_init(struct shard *shard);
void home_fini(struct shard *shard);
/* Room for a message with so many recipients: promised until home_register or home_unreserve. */
bool home_reserve(struct shard *shard, uint32_t rcpt_count);
void home_unreserve(struct shard *shard, uint32_t rcpt_count);
/* The append is durable: the message is ours now, at the latest when there is memory for it. */
void home_register(struct shard *shard, struct message *message);
/* Hands out recipients while there is room; called each turn. */
void home_turn(struct shard *shard);
bool home_is_busy(const struct shard *shard);
void home_on_handoff_return(struct shard *shard, struct handoff *handoff);
/* A recipient comes back because handoff.owner owns its queue now: it goes there. */
void home_on_handoff_back(struct shard *shard, struct handoff *handoff);
/* An outcome of a recipient at home here: updates, passes it on to the spool. */
void home_on_outcome(struct shard *shard, struct outcome_parcel *outcome);
void home_on_checkpoint(struct shard *shard, struct spool_notice *notice);
void home_on_state_answer(struct shard *shard, struct log_request *request);
/* Which message it is and where it lies now. */
void home_locate(const struct shard *shard, struct locate *locate);
/* Posts the message's state, with which the copy at `dead` is given up; false when there is no room
 * now. */
bool home_post_moved(struct shard *shard, uint32_t home_message, const struct log_place *dead);
/* Posts the outcome that was held back and lets go of the message, which it ends. */
void home_end_message(struct shard *shard, struct outcome_parcel *last);
