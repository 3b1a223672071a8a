/*
 * rates: limits on how often something may be tried, as a shard keeps them.
 *
 * The rates of a queue (max-msg-rate, max-connect-rate) belong to the shard that owns it and are
 * values in it (policy/rate.h). The rate of a virtual MTA (max-smtp-msg-rate) cuts across shards:
 * one shard is its mint (policy/mint.h) and gives out tokens, each with its time; what a shard has
 * of them is a purse. A queue takes a token of each for every recipient before MAIL leaves, so no
 * limit is exceeded by one. Who finds none waits: for the time of its own rate's next token, or in
 * line at the purse, which asks the mint for as many as its line can use.
 *
 * A purse has at most one question under way, and the same parcel brings the answer. Tokens it
 * cannot use in time go back with the next question. All of it belongs to the shard's thread. Rates
 * without a bound cost a comparison.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/policy/mint.h"
#include "shard/policy/rate.h"

struct queue;
struct shard;

enum rates_parcel_kind {
    RATES_ASK = 0x580, /* purse to mint */
    RATES_GRANT,       /* the same on its way back */
};

struct rates_parcel {
    struct parcel parcel;
    uint32_t vmta_id;
    uint32_t wanted;         /* ASK; 0 = only gives back */
    uint32_t unused;         /* ASK: of the last grant, at its end */
    struct mint_batch batch; /* GRANT */
};

/* This shard's tokens of one virtual MTA's rate. */
struct purse {
    uint32_t vmta_id;
    uint16_t owner;
    bool is_asking;
    bool is_settling;  /* queues are being woken */
    uint64_t limit_ns; /* between tokens, by the configuration; 0 = no bound any more */
    uint64_t step_ns;  /* between those held */
    uint64_t first_ns; /* time of the next one */
    uint32_t held;
    uint32_t tail;         /* tokens of the last grant behind the last one used */
    uint64_t taken;        /* recipients, so far */
    uint32_t turn_count;   /* tokens for queues that were woken for them … */
    uint64_t turns_end_ns; /* … and have not come until now */
    uint32_t waiting_count;
    struct list waiting; /* queues, by purse_link */
    struct rates_parcel ask;
    struct io_timer timer; /* a token's time comes, or is past */
    struct shard *shard;
};

/* The mint of one virtual MTA's rate, at its owner. */
struct rates_owned {
    struct mint mint;
    bool is_closed; /* there is no bound any more */
    uint32_t vmta_id;
    struct rates_parcel **asked; /* [shard count]: questions that stand in line here */
    struct io_timer timer;       /* the next token can be given out */
    struct shard *shard;
};

struct rates {
    struct purse **purses;      /* [vmta_count] by id; NULL = no bound */
    struct rates_owned **owned; /* [vmta_count]; NULL = not ours */
    uint32_t vmta_count;        /* ids are below */
    uint64_t began_ns;
    uint64_t waits; /* messages read back that waited for a token of a virtual MTA's */
    uint64_t taken; /* recipients let through, whether there was a bound or not */
};

void rates_init(struct shard *shard);
void rates_fini(struct shard *shard);
void rates_on_parcel(struct shard *shard, struct parcel *parcel);

/* The shard works with another snapshot: rates of virtual MTAs may have come, changed and gone. */
void rates_adopt(struct shard *shard);
/* The same for a queue whose settings were derived anew. */
void rates_adopt_queue(struct shard *shard, struct queue *queue);
/* The queue's own rates, from its settings. */
void rates_init_queue(struct shard *shard, struct queue *queue);
/* The queue goes: it waits for no token any more. */
void rates_forget_queue(struct shard *shard, struct queue *queue);
/*
 * True when the queue's own rate allows a recipient now, and it does not stand in line for a token.
 * Else it waits, out of every line of a lane, and is looked at again (queues_reconsider) when it
 * may.
 */
bool rates_admit(struct shard *shard, struct queue *queue);
/*
 * The same for the rate of its virtual MTA, to be asked when a connection is there for the queue: a
 * token that meets none is lost.
 */
bool rates_get_token(struct shard *shard, struct queue *queue);
/* Whether nothing but the rate of its virtual MTA can hold the queue up: it may stand in line. */
bool rates_may_wait(const struct shard *shard, const struct queue *queue);
/* It does so, unless it did: out of every line of a lane, for the message that is parked.
 * deliver_on_token is called when there is a token, perhaps at once. */
void rates_wait(struct shard *shard, struct queue *queue);
/* Forgetting the queue now would loosen a limit. */
bool rates_is_owed(const struct queue *queue, uint64_t now_ns);
/* How many recipients it may try now, at most UINT32_MAX. */
uint32_t rates_allowed(const struct shard *shard, const struct queue *queue);
/* The same for a message that would go ahead of its turn: nothing while others stand in line. */
uint32_t rates_allowed_ahead(const struct shard *shard, const struct queue *queue);
/* How many recipients it can come to try in a span of time, as a measure of what connections are
 * worth; at most UINT32_MAX. */
uint32_t rates_within(const struct shard *shard, const struct queue *queue, uint64_t span_ns);
/* Whether its virtual MTA has a rate of its own. */
bool rates_are_shared(const struct shard *shard, const struct queue *queue);
/* Takes tokens for so many recipients, whose MAIL leaves now. False when there are not so many;
 * none is taken then. */
bool rates_take(struct shard *shard, struct queue *queue, uint32_t count);

/* For the simulator: NULL when every token that was struck is used, lost, or held once, else what
 * is wrong. */
const char *rates_audit(struct shard *const *shards, uint16_t count);
