/*
 * purse: tokens of rates that cut across shards.
 *
 * One shard is the mint of such a rate (policy/mint.h): it gives out tokens, each with its time,
 * and nobody else can. What a shard has of them is its purse, with a line of the queues that wait
 * for them. A purse asks the mint for as many as its line can use; it has at most one question
 * under way, and the same parcel brings the answer. Tokens that it cannot use in time go back with
 * the next question, and so do octets of messages that nobody took: of data volume successes alone
 * count.
 *
 * A queue stands in one line at a time. One that has mail of a light flow (flows.h) goes ahead
 * every other time, and keeps its place for the rest: it is away until it comes back, or until that
 * place is the first. What it is woken for is kept for it (its turn) as long as a
 * token is good, so that it can be had together with tokens of other purses; for a moment only, if
 * one of these is scarcer (of equal ones, if it is that which all shards hold for the scarcer).
 * Lines are in the order of how long queues have waited since their last message, so that nobody
 * comes from one line to the front of another for ever. Lanes that want to open a connection have a
 * line of their own, in the order of how long they have waited since their last one. The token of
 * a slow rate comes before its time, and the first in line is woken twice for it: when it comes, to
 * open a connection or to stand in line for slots if it needs to, and when its time has come.
 *
 * While a message is read back for its tokens these are spoken for: no other is begun for them, and
 * its queue stands in line for more. One that is in memory may take them; what was read too late
 * stands in line with the turn that it had.
 *
 * A rate is known by its meter's key (policy/scope.h): a virtual MTA's own, or one count of a
 * limit. A purse is made when something here first draws on it, a mint when it is first asked; both
 * are freed when nothing is left of them. Who is the mint follows from the key. Bounds are those of
 * the shard's snapshot.
 *
 * All of it belongs to the shard's thread; shards speak by parcels. A purse that has nobody in line
 * and holds nothing does nothing.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/policy/mint.h"
#include "shard/policy/scope.h"
#include "shard/policy/turns.h"

struct lane;
struct queue;
struct shard;

enum purse_parcel_kind {
    PURSE_ASK = 0x580, /* purse to mint */
    PURSE_GRANT,       /* the same on its way back */
};

/* What a rate counts. */
enum purse_quantity {
    PURSE_RCPTS,  /* recipients tried */
    PURSE_OCTETS, /* of content, once for a transaction */
    PURSE_CONNECTS,
    PURSE_QUANTITIES,
};

struct purse_parcel {
    struct parcel parcel;
    struct meter_key key;
    uint16_t quantity;
    uint32_t wanted;         /* ASK; 0 = only gives back */
    uint32_t need;           /* ASK: so many at least, or none */
    uint32_t unused;         /* ASK: of the last grant, at its end */
    uint64_t returned;       /* ASK: octets that were used and do not count */
    struct mint_limit limit; /* GRANT: what it was struck under */
    struct mint_batch batch; /* GRANT */
};

/* This shard's tokens of one rate. */
struct purse {
    struct meter_key key;
    uint32_t index;
    uint32_t refs; /* turns and receipts */
    uint16_t quantity;
    uint16_t owner;
    bool is_asking;
    bool is_settling; /* queues are being woken */
    bool gives_back;  /* what is held is kept until turns_end_ns for one that waits elsewhere */
    struct mint_limit limit;
    uint64_t limit_ns;  /* between tokens, by the configuration; 0 = no bound any more */
    uint64_t step_ns;   /* between those held; 0 = all are for one time */
    uint64_t first_ns;  /* time of the next one */
    uint64_t called_ns; /* time of the one that somebody was told of before */
    uint64_t due_ns;    /* when the one behind those held can be had, as far as is known here */
    uint32_t held;
    uint32_t spoken_for;            /* messages are being read back for so many … */
    uint64_t spoken_ns;             /* … the last of them since then */
    uint32_t tail;                  /* tokens of the last grant behind the last one used */
    uint64_t taken;                 /* so far */
    uint64_t returned;              /* octets, for the next question */
    uint32_t turn_count;            /* tokens for queues that were woken for them … */
    uint64_t turns_end_ns;          /* … and have not come until now */
    uint32_t waiting_count;         /* but for those that are away */
    struct list waiting;            /* queues, by purse_link */
    struct list express;            /* those with light mail, by purse_express_link */
    bool was_express;               /* the last one that was woken */
    struct list ranks[TURNS_RANKS]; /* all of them, by purse_rank_link */
    struct turns turns;
    struct list lanes;     /* that want to open a connection, by purse_link */
    struct list used_link; /* in purses.used */
    struct purse_parcel ask;
    struct io_timer timer; /* a token's time comes, or is past */
    struct shard *shard;
};

#define PURSE_TURNS_MAX 16

/* What a queue was woken for at one purse. */
struct purse_turn {
    uint32_t purse; /* its index and one; 0 = nothing */
    uint32_t count;
};

void purse_init(struct shard *shard);
void purse_fini(struct shard *shard);
/* The shard works with another snapshot: rates may have come, changed and gone. */
void purse_adopt(struct shard *shard);
void purse_on_parcel(struct shard *shard, struct parcel *parcel);
/* To a shard, which may be this one; for purses and their mints alone. */
void purse_send(struct shard *shard, uint16_t to, struct purse_parcel *parcel, uint16_t kind);

struct purses {
    struct slab purses;
    struct slab mints;
    struct table purse_by_key;
    struct table mint_by_key;
    struct list used;    /* purses that something was taken of since the last turn */
    uint32_t purse_hand; /* looked at next for being of no use any more */
    uint32_t mint_hand;
    uint32_t to_tidy;    /* made, since somebody looked for others */
    uint64_t take_count; /* of tokens, or octets that came back, over all purses */
};

/* Made if need be; NULL when memory is short. Stays for as long as somebody is in line, has a turn
 * or a reference, and at least to the end of the turn. */
struct purse *purse_obtain(struct shard *shard, const struct meter_key *key,
                           enum purse_quantity quantity);
void purse_release(struct purse *purse);
/* NULL when there is none. */
struct purse *purse_find(const struct shard *shard, const struct meter_key *key,
                         enum purse_quantity quantity);
/* Serves the lines of purses that something was taken of, and frees a few that are of no use any
 * more. */
void purse_turn(struct shard *shard);
/* The next turn has to come soon. */
bool purse_is_busy(const struct shard *shard);
/* Whether so many are there for the queue now, ahead of nobody in line. */
bool purse_has(const struct purse *purse, const struct queue *queue, uint32_t count);
/* How many may be used now. */
uint32_t purse_usable(const struct purse *purse, uint64_t now_ns);
/* How many of these are not spoken for. */
uint32_t purse_open(const struct purse *purse, uint64_t now_ns);
/* How many nobody was woken for; none while anybody stands in line. */
uint32_t purse_spare(const struct purse *purse, uint64_t now_ns);
/* The queue, in no line or another one, stands in this one; it may be woken at once. */
void purse_stand(struct purse *purse, struct queue *queue);
/* Whether the queue stands in some line. */
bool purse_is_stood_at(const struct queue *queue);
/* Whether the token that it stands in line for was asked of another shard. */
bool purse_is_asked_elsewhere(const struct queue *queue);
/* Something of it became ready. */
void purse_note_ready(struct queue *queue);
/* The queue leaves the line that it stands in, if it does, and needs none of its turns. */
void purse_leave(struct shard *shard, struct queue *queue);
/* Uses tokens that purse_usable has promised at this time. Nobody is woken before the next turn: it
 * could take what the caller has yet to take of other purses. */
void purse_take(struct purse *purse, struct queue *queue, uint32_t count);
/* So many tokens, which purse_has has promised the queue, are spoken for until purse_end_read, or
 * for as long as reading takes as a rule. Holds a reference. */
void purse_begin_read(struct purse *purse, struct queue *queue, uint32_t count);
void purse_end_read(struct purse *purse, uint32_t count);
/* What was read for them does not leave: the queue has its turn again, and them if they are there.
 */
void purse_return_turn(struct purse *purse, struct queue *queue);
/* The lane, in no line, is served when there is a token for a connection; it keeps none for it. */
void purse_stand_lane(struct purse *purse, struct lane *lane);
/* The lane has had its token, or needs none any more. */
void purse_leave_lane(struct lane *lane);
/* Octets that were taken and do not count. */
void purse_give_back(struct purse *purse, uint64_t amount);

/* For the simulator: NULL when every token that one shard's mints have struck is used, lost, or
 * held once, else what is wrong. */
const char *purse_audit(struct shard *const *shards, uint16_t count, uint16_t which);
