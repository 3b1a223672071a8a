/*
 * lease: limits on connections that cut across shards, drawn on without a shared lock.
 *
 * A limit counts on meters (meters.h), each of which has one owner shard that keeps its book
 * (policy/pot.h) and leases slots to shards; a shard's part of a meter is a share. Who wants to
 * open a connection makes a claim: it collects one slot of each of its meters, in the order of
 * their keys (policy/scope.h), which is the same everywhere, and of the bound of all connections
 * last.
 *
 * A claim keeps what it has while it waits for the next. Nobody waits for ever for that: who holds
 * a slot and waits, waits for one of a higher place in the order, so a circle of claims that wait
 * for each other would have to rise for ever; and who holds all its slots waits for nothing but the
 * receiver. Those that count less come first, because they are the tight ones: what waits for one
 * receiver's limit holds nothing that mail to others could use. Within a shard those who wait for a
 * share are served in order; across shards the owner sees to it. Slots that nobody here uses go
 * back after LEASE_HOLD_MS.
 *
 * A claim in a hurry, of a lane that has mail of a light flow (flows.h) and no connection, goes
 * ahead of the others every other time.
 *
 * Claims and slots have a kind (policy/quota.h): of the slots that a shard holds, some are kept
 * free of those that are known to hold them long, or of which nothing is known. In order means
 * among those that may have a slot.
 *
 * Where somebody waits, connections make room: idle ones at once; busy ones that have been open for
 * LEASE_TURN_MS when their message is done, if they are of somebody who has clearly more than one
 * of those that wait, if one waits that has none, or when the shard itself must give back. Lanes
 * that all want more end with about as many each and keep what they have, where turns alone would
 * open connections without end.
 *
 * The limit on injectors' sessions (total-max-smtp-in) is drawn on by sessions that are at the door
 * and cannot wait long: each shard holds an equal part from the start and takes from it without
 * asking. One that finds nothing at hand asks the owner, who asks every other shard for what lies
 * idle there (half of it, and one at least, comes); only when nobody has any, the answer is none.
 *
 * A claim of mail (mail_slots.h) is for the slots of one message: it collects in the same order,
 * and without the bound of all. What it holds is its own until it is cancelled; when others want it
 * is for its owner to ask.
 *
 * On one shard the share is the whole limit and no parcel travels. With more, a shard and an owner
 * have at most one question, one return and one notice under way per meter. A share ends when no
 * claim can draw on it any more and all it held has gone back; a book ends when nothing is leased.
 * All of it belongs to the shard's thread. Limits without a bound cost nothing.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/meters.h"
#include "shard/policy/pot.h"
#include "shard/policy/quota.h"
#include "shard/policy/turns.h"

#define LEASE_HOLD_MS 50
#define LEASE_TURN_MS 1000
/* Levels of how many connections somebody has, see lease_share.c. */
#define LEASE_LEVELS  128

/* In place of a limit's id in the key of a meter: total-max-smtp-out, total-max-smtp-in. */
#define LEASE_OF_ALL      (SCOPE_OF_VMTA - 1)
#define LEASE_OF_SESSIONS (SCOPE_OF_VMTA - 2)
/* Shares that one claim draws on: its meters', and that of all. */
#define LEASE_SHARES_MAX  (SCOPE_METERS_MAX + 1)

struct conf;
struct shard;

enum lease_parcel_kind {
    LEASE_ASK = 0x500,   /* share to owner */
    LEASE_GRANT,         /* the same on its way back, with what was granted */
    LEASE_GIVE,          /* share to owner: slots come back */
    LEASE_GIVE_RETURN,   /* the same, empty, on its way back */
    LEASE_NOTICE,        /* owner to share: count more slots are wanted back, 0: nothing is free */
    LEASE_NOTICE_RETURN, /* the same on its way back */
    LEASE_POLL,          /* owner to share: what lies idle? */
    LEASE_POLL_RETURN,   /* the same on its way back, with slots */
};

struct lease_parcel {
    struct parcel parcel;
    struct meter_key key;
    struct lease_parcel *next; /* at the owner, while there is no memory for a book */
    uint32_t count;            /* slots asked for, granted, given back, called back */
    bool is_away;
};

/* This shard's part of one meter. */
struct lease_share {
    struct meter *meter;
    uint32_t index;
    uint32_t refs; /* claims that can draw on it; 0 = it ends */
    uint16_t owner;
    bool is_prompt;    /* who asks wants an answer, see policy/pot.h */
    bool is_short;     /* the owner has said that nothing is free */
    bool is_spare;     /* slots lay idle at the last look */
    uint32_t held;     /* leased to this shard */
    uint32_t used;     /* of these, by connections and claims */
    uint32_t recalled; /* of those held, wanted back */
    uint32_t waiting_count;
    uint32_t asked;     /* of the sessions that wait, by the question that is away */
    struct quota quota; /* of claims and connections */
    uint64_t next_ticket;
    struct list spare_link; /* in leases.spare: slots may lie idle */
    struct list wait_link;  /* in leases.waited_for */
    /* Claims, in the order of their tickets. */
    struct list waiting[QUOTA_KINDS][TURNS_RANKS];
    struct turns turns;
    struct list express[QUOTA_KINDS];               /* those that are in a hurry, likewise */
    bool was_express;                               /* the last one that was served */
    uint32_t waiting_at[QUOTA_KINDS][LEASE_LEVELS]; /* their number, by what they have already */
    struct list idle[QUOTA_KINDS]; /* slots of idle connections, the longest idle last */
    struct lease_parcel ask;
    struct lease_parcel give;
};

/* What a claim and its connections draw on, in order; the last is the bound of all, but for claims
 * of mail. */
struct lease_draws {
    uint32_t index;
    uint8_t count;
    struct lease_share *shares[LEASE_SHARES_MAX];
};

/* Slots to be had before a connection is opened. Embedded in the object that opens it, which lives
 * as long as its connections. */
struct lease_claim {
    struct list link; /* in the waiting line of shares[waits_for] */
    uint64_t ticket;  /* its place in it */
    struct lease_draws *draws;
    uint16_t has; /* bit n: a slot of shares[n] */
    uint8_t kind; /* enum quota_kind */
    uint8_t waits_for;
    uint8_t level; /* of the connections that it was used for and that work */
    uint8_t rank;  /* of the line that it stands in, see turns.h */
    bool is_express;
    bool is_of_mail;
};
_Static_assert(LEASE_SHARES_MAX <= 16, "bits of has");

/* Where connections with meters stand among the idle ones of each. */
struct lease_idle {
    struct list link;
    struct lease_slots *slots;
};

struct lease_wide {
    uint32_t index;
    struct lease_idle idle[SCOPE_METERS_MAX];
};

/* Slots of an open connection. Embedded in it. */
struct lease_slots {
    struct list idle_link; /* of the bound of all */
    const struct lease_claim *claim;
    struct lease_wide *wide; /* NULL = it draws on nothing else */
    uint8_t kind;            /* enum quota_kind */
    uint8_t first_kind;      /* what it was when they were claimed; not slow when they are lent */
    bool is_closing;         /* it ends to make room */
};

/* The owner's side of one meter. */
struct lease_owned {
    struct meter *meter;
    struct list close_link; /* in leases.closing */
    struct pot pot;
    struct lease_parcel **asked;  /* [shard count]: questions that stand in line here */
    struct lease_parcel *notices; /* [shard count] */
};

struct leases {
    struct shard *shard;
    struct slab shares;
    struct slab draws;
    struct slab wides;
    struct lease_share *all;
    struct lease_share *sessions; /* NULL = no bound */
    struct lease_draws none;      /* on nothing but `all` */
    struct list spare;            /* shares, looked at by `timer` */
    struct list waited_for;       /* shares that claims wait for */
    struct list closing;          /* books of which nothing is leased */
    struct lease_parcel *put_off; /* questions, while there is no memory for a book */
    uint32_t claims_waiting;
    struct io_timer look_timer; /* standing.c's, while claims wait */
    uint32_t look_turn;         /* the connection that is looked at next */
    uint64_t look_again_ns;     /* lease_look's */
    struct io_timer timer;
    void (*ready)(struct lease_claim *claim);      /* a claim got a slot: try it again, later */
    void (*mail_ready)(struct lease_claim *claim); /* the same of mail; NULL = there are none */
    void (*make_room)(struct lease_slots *slots);  /* end this idle connection, later or now */
    void (*session_answered)(struct shard *shard); /* one of those who wait: try again now */
};

/* Needs meters_init and shard->limits. */
void lease_init(struct shard *shard, void (*ready)(struct lease_claim *claim),
                void (*make_room)(struct lease_slots *slots));
void lease_fini(struct shard *shard);
/*
 * Limits follow the shard's new snapshot. One that is lowered calls slots back: idle connections
 * end, others when their message is done. Which meters there are follows from who claims.
 */
void lease_adopt(struct shard *shard);
void lease_on_parcel(struct shard *shard, struct parcel *parcel);

/* The claim of one of whom nothing is known, on these meters. False when memory is short. */
bool lease_claim_init(struct shard *shard, struct lease_claim *claim,
                      const struct scope_list *meters);
/* The same of a claim of mail, which stands in line as one of those that are known to be good. */
bool lease_claim_init_of_mail(struct shard *shard, struct lease_claim *claim,
                              const struct scope_list *meters);
/* Somebody else could use what it holds. */
bool lease_claim_is_wanted(const struct lease_claim *claim);
/* It and its connections hold nothing any more. */
void lease_claim_fini(struct shard *shard, struct lease_claim *claim);
/* Slots of a meter that this shard uses; 0 when it draws on none. */
uint32_t lease_used(const struct shard *shard, const struct meter_key *key);
/* What the claim stands in line for; NULL when it is in no line. */
const struct lease_share *lease_waits_for(const struct lease_claim *claim);
/* Whether the claim and its connections draw on it. */
bool lease_draws_on(const struct lease_claim *claim, const struct lease_share *share);
/* The bound that the shard's snapshot sets; a large number without one. */
uint64_t lease_bound(const struct shard *shard, const struct meter_key *key);
/* True when every slot is held. Else the claim stands in line; `ready` says when to try again. */
bool lease_claim_try(struct shard *shard, struct lease_claim *claim);
static inline bool lease_claim_is_in_line(const struct lease_claim *claim)
{
    return !list_empty(&claim->link);
}
/* Whether it stands in line or has some slot: it is tried until it is held, or cancelled. */
static inline bool lease_claim_is_begun(const struct lease_claim *claim)
{
    return claim->has != 0 || lease_claim_is_in_line(claim);
}
/* What is known of it has changed: one in line stands last in the line of that kind. */
void lease_claim_rank(struct shard *shard, struct lease_claim *claim, enum quota_kind kind);
/* Whether it goes ahead of the others every other time, for the sake of those who wait for little;
 * and its rank among the others (turns.h). One in line that changes stands last among its like. */
void lease_claim_hurry(struct shard *shard, struct lease_claim *claim, bool is_express,
                       uint8_t rank);
/* Of the connections that it was used for so many are there and can be reckoned with. */
void lease_claim_count(struct lease_claim *claim, uint32_t open_count);
/* No connection is wanted any more: slots go back, the place in line too. */
void lease_claim_cancel(struct shard *shard, struct lease_claim *claim);
/* Whether a slot that the claim has not got could only come from somebody else's. */
bool lease_is_at_limit(const struct lease_claim *claim);
/* A connection is to be opened: memory for its slots; false when there is none. */
bool lease_slots_init(struct shard *shard, const struct lease_claim *claim,
                      struct lease_slots *slots);
/* It is not opened after all. */
void lease_slots_fini(struct shard *shard, struct lease_slots *slots);
/* It is opened: the held slots are its own from now on; the claim is empty again. */
void lease_claim_use(struct lease_claim *claim, struct lease_slots *slots);

/* The connection has nothing to do, or something again. False when that was known. */
bool lease_slots_idle(struct shard *shard, struct lease_slots *slots);
void lease_slots_busy(struct lease_slots *slots);
/* Connections became idle that hold slots as this claim asks for: some may be in demand. */
void lease_make_room(struct shard *shard, const struct lease_claim *claim);
/* Its message is done: whether it must end now to make room. age_ns: since it was opened;
 * open_count: what its lane has, it included. */
bool lease_slots_must_end(struct lease_slots *slots, uint64_t age_ns, uint32_t open_count);
/* What is known of a connection that is not idle has changed. */
void lease_slots_rank(struct shard *shard, struct lease_slots *slots, enum quota_kind kind);
/* Whether it must end now, in the middle of opening: it got its slots as one that might be good, or
 * because nobody better wanted them, is slow, and stands in the way of others. */
bool lease_slots_must_yield(struct lease_slots *slots);
/* Time passes while claims wait: what is kept free of some of them may have become less. */
void lease_look(struct shard *shard);
/* The connection is gone. */
void lease_slots_release(struct shard *shard, struct lease_slots *slots);

/* Sessions. A slot is taken at once, or not. */
bool lease_session_take(struct shard *shard);
void lease_session_release(struct shard *shard);
/* Whether lease_session_take would get one. */
bool lease_session_has_place(const struct shard *shard);
/* There is no slot at hand, but there may be elsewhere: to be asked for by lease_session_wait. */
bool lease_session_must_wait(const struct shard *shard);
/* session_answered comes once for each who waits, in order: there is a slot then, or none in any
 * shard. */
void lease_session_wait(struct shard *shard);

/* For the simulator: whether slots are taken for so many sessions. */
bool lease_session_audit(const struct shard *shard, uint32_t session_count);
/*
 * For the simulator, which runs all shards in one thread: sums what every shard holds, uses and has
 * under way. On the shard with the number `recount` each connection and lane is looked at
 * besides; a number that is no shard's means none. NULL when leases + free = limit everywhere, else
 * what is wrong.
 */
const char *lease_audit(struct shard *const *shards, uint16_t count, uint32_t recount);
