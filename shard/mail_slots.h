/*
 * mail_slots: slots of connections that count by what a message says: its job, its sender's domain,
 * who logged in.
 *
 * Of all connections together, over all shards, at most so many may be at a message of that mail as
 * its limits say. The slots are those of lease.h; what a message draws on is known when it has been
 * read, and from the last one of its flow (flows.h) mostly before. It takes them before MAIL. Where
 * there is none, its recipients go back to the front of their flow, and that flow of that queue is
 * shut: it has no turns (ready.h) until its claim has come to the head of the line, so that one
 * message is read back for each slot that comes free, and not a campaign. Other flows of the queue,
 * and connections, go on.
 *
 *      SHUT ──────────────► HELD ──────► USED ──► HELD: the queue has more of it
 *       ▲  the slots are     │  its next   │
 *       │  there: the flow   │  message    └────► freed: it has not, or others had to wait
 *       │  has turns again   │  leaves            for a turn
 *       ├──── ASIDE ◄────────┤
 *       │  for a while       │  others wait, and no connection comes for it
 *       └──── OPEN ◄─────────┘
 *             │ its message is at a connection: to USED if the slots are there
 *
 * Slots are held for MAIL_SLOTS_HOLD_MS while others wait for them, for MAIL_SLOTS_OPEN_MS while a
 * connection is being opened; who had to step aside has twice as long the next time, and gets in
 * line again when that connection has come up or failed. Where connections are short themselves, so
 * that the queue is still in line for one, slots are not held any longer: the flow is open without
 * them, and its message asks for them when it has a connection, which waits for the answer of
 * another shard for a moment and no longer. A turn is MAIL_SLOTS_TURN_MS, or longer in proportion
 * to what it took to begin, so that what is lost between turns is little.
 *
 * Owner: the shard; its thread. One claim for each flow of each queue that waits, and one for each
 * message under way; all of bounded slabs. Without such limits it costs a comparison.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/io/io.h"
#include "shard/flows.h"
#include "shard/lease.h"
#include "shard/limits.h"

struct connection;
struct delivery;
struct envelope;
struct message;
struct queue;
struct shard;

#define MAIL_SLOTS_HOLD_MS       250
#define MAIL_SLOTS_OPEN_MS       5000 /* held so long at most while one is being opened */
#define MAIL_SLOTS_ASIDE_MS      250  /* the first time; then twice as long each */
#define MAIL_SLOTS_ASIDE_MAX_MS  8000
#define MAIL_SLOTS_TURN_MS       1000
#define MAIL_SLOTS_TURN_SHORT_MS 250 /* where there are not enough connections either */
/* A turn is so many times what it took to begin, but no longer than this. */
#define MAIL_SLOTS_TURN_TIMES    24u
#define MAIL_SLOTS_TURN_MAX_MS   30000

enum mail_state {
    MAIL_SHUT,  /* stands in line */
    MAIL_ASIDE, /* waits to stand in line again */
    MAIL_HELD,  /* has its slots, for the queue's next message of the flow */
    MAIL_OPEN,  /* has none, and asks when the message is at a connection */
    MAIL_USED,  /* by a delivery */
    MAIL_STATES,
};

struct mail_claim {
    struct lease_claim claim;
    struct list link;         /* in queue.mail_claims, unless it is used */
    struct list granted_link; /* in mail_slots.granted: to be tried again */
    struct io_timer timer;    /* HELD, ASIDE */
    struct shard *shard;
    uint64_t meters_hash; /* scope_list_hash of what it draws on */
    uint64_t held_ns;     /* HELD since then */
    uint64_t granted_ns;  /* HELD for the first time of this turn */
    uint64_t begun_ns;    /* USED for the first time since then; 0 = not yet */
    struct ipaddr source; /* where it counts by that; else family IPADDR_NONE */
    uint32_t index;
    uint32_t queue;
    uint8_t flow;
    uint8_t state;
    uint8_t asides; /* in a row */
};

struct mail_slots {
    struct slab claims;
    struct list granted;
    uint64_t blocks;      /* bit n: the snapshot's n-th block counts connections by mail */
    uint32_t scopes;      /* of these */
    uint64_t counts_hash; /* of what they count */
    bool counts_others;   /* than they did in the snapshot before */
    uint64_t waits;       /* claims that stood in line, so far */
    struct {
        bool is_known;
        uint32_t flow; /* whose it is */
        uint32_t version;
        struct limits_mail mail; /* of its last message */
    } known[FLOW_SLOTS];
};

enum mail_taken {
    MAIL_TAKEN,
    MAIL_PUT_BACK, /* it waits: the flow is shut */
    MAIL_ASKED,    /* the same, but its slots may be there in a moment */
    MAIL_NO_ROOM,  /* no memory for a claim */
};

void mail_slots_init(struct shard *shard);
void mail_slots_fini(struct shard *shard);
/* The shard works with another snapshot. */
void mail_slots_adopt(struct shard *shard);
/* Its claims may be for slots that its mail does not draw on any more: it draws anew. */
void mail_slots_adopt_queue(struct shard *shard, struct queue *queue);
/* Claims that got a slot go on; called each turn. */
void mail_slots_turn(struct shard *shard);
bool mail_slots_is_busy(const struct shard *shard);

/* The number of a message's flow, which tells apart what the limits in force count apart. */
uint32_t mail_slots_flow(const struct shard *shard, const struct envelope *envelope);

/*
 * Whether the queue, which has a site, has something whose slots are held, or that needs none, as
 * far as is known: ready_peek says what. Else it is out of every line until a claim of its has its
 * turn. source: of the connection in question; NULL = not known yet.
 */
bool mail_slots_admit(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/* The source that slots are held for, of a queue for which they count by it; else NULL. */
const struct ipaddr *mail_slots_source(const struct queue *queue);
/* The delivery's message is about to be read: what is held for it is for no other. */
void mail_slots_reserve(struct shard *shard, struct delivery *delivery);
/* The message is in memory, and about to leave: takes its slots, unless it has them. */
enum mail_taken mail_slots_take(struct shard *shard, struct delivery *delivery);
/* The delivery's message is done, or does not leave after all. Nothing when it has none. */
void mail_slots_end(struct shard *shard, struct delivery *delivery);
/* Whether a message of the queue's may follow the one under way in its flight. *ret_shares: it is
 * of the same mail, and takes the slots over. */
bool mail_slots_goes_ahead(struct shard *shard, const struct connection *connection,
                           struct queue *queue, const struct message *message, bool *ret_shares);
/* The message that shares the slots of the connection's goes on with them. */
void mail_slots_pass_on(struct shard *shard, struct connection *connection);
/* The queue cannot send now, or is no more here: its flows have turns again and hold nothing. */
void mail_slots_forget(struct queue *queue);
/* The limit that a flow of the queue waits for; NULL when none does. */
const struct lease_share *mail_slots_waits_for(const struct queue *queue);
