/*
 * migrate: queues that go to another shard, and their recipients, which follow.
 *
 * A queue has a base, the shard that its name leads to and that alone says who owns it, and an
 * owner, which serves its destination (migrate.c says how they agree). A shard that neither has a
 * queue nor is its base refers to the base. Belongs to the shard's thread; recipients follow in
 * bounded steps, and what finds no room on the way stays where it is.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/mailbox.h"
#include "net/mx.h"
#include "shard/modes.h"
#include "shard/names.h"
#include "shard/rates.h"

struct queue;
struct report;
struct shard;

/* Whether the queue is this shard's; see migrate.c. */
enum queue_stay {
    QUEUE_HERE,
    QUEUE_MOVING, /* its state goes to the next owner, its recipients stay until that has it */
    QUEUE_GONE,   /* another shard owns it: what recipients are left here follow it */
};

/* A queue on its way to its next owner: what it is but for its recipients. Allocated by the shard
 * it leaves, returned there. */
struct migration {
    struct parcel parcel;
    uint32_t index;
    uint32_t queue; /* at the shard it leaves */
    uint32_t vmta_id;
    uint16_t from;
    uint32_t version; /* of the configuration that the answer was asked for under */
    bool is_refused;  /* there is no room for it there */
    bool has_answer;
    bool paused;
    bool rest_is_logged;
    uint16_t rest_failures;
    uint64_t rest_until_ns;
    uint64_t rest_until_us;
    uint64_t doubt_ends_ns;
    uint64_t doubt_ends_us;
    struct rates_past rates;
    uint64_t last_error_us;
    uint8_t domain_len;
    uint8_t domain[NAMES_BYTES_MAX];
    char last_error[200];
    struct queue_mode mode;
    struct mx_answer answer; /* has_answer: the base's */
};

/* A queue whose base is here and whose owner is another shard. */
struct away {
    uint32_t name; /* in shard.names */
    uint32_t vmta_id;
    uint16_t owner;
    bool paused;
};

/* Base to owner: an operator's order. */
struct pause_order {
    struct parcel parcel;
    struct report *report;
    struct slice domain; /* bytes of the base's names, held until the return */
    uint32_t name;
    uint32_t vmta_id;
    uint32_t index;
    uint16_t base;
    bool paused;
};

void migrate_init(struct shard *shard);
void migrate_fini(struct shard *shard);
/* Who to ask for a queue that this shard has not: its owner, as far as is known. This very shard
 * when the queue is to be made here. */
uint16_t migrate_owner_of(const struct shard *shard, struct slice domain, uint32_t vmta_id);
/* The queue goes to another shard; with an answer to use there, when this is the base. Nothing of
 * it is under way but deliveries. */
void migrate_queue(struct shard *shard, struct queue *queue, uint16_t owner,
                   const struct mx_answer *answer);
/* The shard that is to own a queue to this site. */
uint16_t migrate_place(const struct shard *shard, struct queue *queue, uint64_t site_hash);
/* Whether the configuration gives the queue's mail to another one: what waits goes there. */
void migrate_hand_on(struct shard *shard, struct queue *queue, bool hands_on);
/* A queue that is not HERE, or hands its mail on, has something to do. */
void migrate_reconsider(struct shard *shard, struct queue *queue);
/* So many of the queue's ready recipients go by the overflow of its warm-up, soon. */
void migrate_let_over(struct shard *shard, struct queue *queue, uint32_t count);
/* A recipient that is in no list (it was popped, and is not being sent) goes home: to go by the
 * overflow, or else to come back without a claim on its message. False when there is no room on the
 * way now. */
bool migrate_send_home(struct shard *shard, uint32_t queued_index, bool goes_over);
/* A queue that was GONE is here again. */
void migrate_revive(struct shard *shard, struct queue *queue);
/* A named state of the queue is durable. */
void migrate_on_record(struct shard *shard, struct queue *queue);
/* Whether a resolution may end with a queue that moves. */
bool migrate_has_room(const struct shard *shard);
/* An operator's order for a queue that is away; counts in the report. */
void migrate_order_pause(struct shard *shard, struct away *away, bool paused,
                         struct report *report);
void migrate_on_parcel(struct shard *shard, struct parcel *parcel);
/* Recipients follow their queues, a bounded number; called each turn. */
void migrate_turn(struct shard *shard);
bool migrate_is_busy(const struct shard *shard);
