/*
 * rates: limits on how often something may be tried, as a shard keeps them for its queues.
 *
 * The rates of a queue (max-msg-rate, max-connect-rate, max-data-volume-rate) belong to the shard
 * that owns it and are values in it (policy/rate.h, policy/volume.h). Those of a virtual MTA
 * (max-smtp-msg-rate, max-smtp-data-volume-rate) cut across shards; their tokens are in purses
 * (purse.h). A queue takes a token of each for every recipient, and for every octet of the content,
 * before MAIL leaves, so no limit is exceeded by one. Who finds none waits: for the time of its own
 * rate's next token, or in line at a purse.
 *
 * Several tokens must be had together, and each is good for RATE_LATE_NS: a queue stands in line
 * first at the purse where the next one is due last. The others, due for longer, answer within a
 * turn or two; what is not complete in time goes back unused and is struck again.
 *
 * Octets are given back when nobody took the message: of data volume successes alone count. All of
 * it belongs to the shard's thread. Rates without a bound cost a comparison.
 */
#pragma once

#include "core/conf/limit.h"
#include "shard/policy/rate.h"
#include "shard/purse.h"

struct queue;
struct shard;

struct lane;
struct message;

struct rates {
    bool are_of_vmtas;  /* some virtual MTA has a rate */
    bool are_of_blocks; /* there are <limit> blocks */
    uint64_t began_ns;
    uint64_t waits;    /* messages read back that waited for a token of a purse */
    uint64_t taken;    /* recipients let through, whether there was a bound or not */
    uint64_t returned; /* octets that came back */
};

/* Tokens that are spoken for by a message that is being read back. */
struct rates_reading {
    struct purse *purses[CONF_LIMIT_RATES_MAX];
    uint32_t purse_count;
    uint32_t octets;   /* of each purse of octets */
    uint64_t since_ns; /* its queue's purse_since_ns, when it came for them */
};

/* What is known of how a message goes: limits count by it. */
struct rates_way {
    const struct ipaddr *source;   /* NULL: by no connection */
    const struct message *message; /* NULL: it has not been read back yet */
    struct rates_reading *reading; /* of its delivery; NULL: there is none */
};

/* Octets that one message has taken, and of what. */
struct rates_receipt {
    uint64_t octets;
    uint64_t at_ns;
    const struct volume *own;
    struct purse *purses[CONF_LIMIT_RATES_MAX];
    uint32_t purse_count;
};

void rates_init(struct shard *shard);
void rates_fini(struct shard *shard);

/* The shard works with another snapshot: rates of virtual MTAs may have come, changed and gone. */
void rates_adopt(struct shard *shard);
/* The same for a queue whose settings were derived anew. */
void rates_adopt_queue(struct shard *shard, struct queue *queue);
/* The queue's own rates, from its settings. */
void rates_init_queue(struct shard *shard, struct queue *queue);
/* The queue goes: it waits for no token any more. */
void rates_forget_queue(struct shard *shard, struct queue *queue);
/* Its end: frees what its rates have. */
void rates_fini_queue(struct queue *queue);

/* What a queue's rates remember, on its way to another shard. */
struct rates_past {
    struct rate_past msgs;
    struct rate_past connects;
    struct rate_past octets;
};

void rates_pack_queue(const struct shard *shard, const struct queue *queue,
                      struct rates_past *ret_past);
/* Forgetting it would loosen a limit. */
bool rates_past_is_owed(const struct rates_past *past, uint64_t now_ns);
void rates_resume_queue(struct queue *queue, const struct rates_past *past);

/*
 * True when the queue's own rates allow its next message now, and it does not stand in line for a
 * token. Else it waits, out of every line of a lane, and is looked at again (queues_reconsider)
 * when it may.
 */
bool rates_admit(struct shard *shard, struct queue *queue);
/*
 * The same for the rates that it shares, to be asked when a connection from that source is there
 * for the queue: a token that meets none is lost. NULL: the mail goes by no connection.
 */
bool rates_get_token(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/* It was woken for a token. */
bool rates_has_turn(const struct queue *queue);
/* A message of so many octets is being read back for the tokens that rates_get_token has found:
 * they are spoken for, and the queue waits for others from now on. */
void rates_begin_read(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                      uint64_t octets, struct rates_reading *ret_reading);
/* They are so no more. May be called again. */
void rates_end_read(struct rates_reading *reading);
/* Whether nothing but the rates that it shares can hold the queue up: it may stand in line, for a
 * message of so many recipients and octets. */
bool rates_may_wait(struct shard *shard, struct queue *queue, const struct rates_way *way,
                    uint32_t rcpt_count, uint64_t octets);
/* It does so, out of every other line, for the message that is parked. deliver_on_token is called
 * when there is a token, perhaps at once. */
void rates_wait(struct shard *shard, struct queue *queue, const struct rates_way *way);
/* Forgetting the queue now would loosen a limit. */
bool rates_is_owed(const struct queue *queue, uint64_t now_ns);
/* How many recipients it may try now, at most UINT32_MAX. */
uint32_t rates_allowed(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/* The same for a message of so many octets that would go ahead of its turn: nothing while others
 * stand in line. */
uint32_t rates_allowed_ahead(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                             uint64_t octets);
/* How many recipients it can come to try in a span of time, as a measure of what connections are
 * worth; at most UINT32_MAX. */
uint32_t rates_within(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                      uint64_t span_ns);
/* Whether it shares a rate with other queues. */
bool rates_are_shared(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/* Whether that is one of recipients, or may be one when the message has been read. */
bool rates_count_rcpts(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/* Whether the rates that it shares allow a connection of the lane to be opened for it now. Else
 * the lane is served again when they may. */
bool rates_admit_connection(struct shard *shard, struct queue *queue, struct lane *lane);
/* Takes a token of each, and of its own, for a connection that is opened now and that was admitted
 * in this turn. */
void rates_take_connection(struct shard *shard, struct queue *queue, const struct ipaddr *source);
/*
 * Takes tokens for so many recipients, whose MAIL leaves now, and so many octets. False when there
 * are not so many; none is taken then. The receipt is to be settled. Ends way->reading.
 */
bool rates_take(struct shard *shard, struct queue *queue, const struct rates_way *way,
                uint32_t rcpt_count, uint64_t octets, struct rates_receipt *ret_receipt);
/* The message is done. Nobody took it: its octets do not count. May be called again. */
void rates_settle(struct shard *shard, struct queue *queue, struct rates_receipt *receipt,
                  bool is_success);
/* Tokens of a purse that the queue's next message needs at once: one, or its octets. */
uint32_t rates_need(const struct purse *purse, const struct queue *queue);
