/*
 * deliver: transactions, from the recipients that are taken from a queue to what became of each;
 * and the content of a large message, fed to the client in chunks.
 *
 * A delivery is freed when its message is done and nothing of it is being read; room for its
 * outcomes is reserved before it begins. Errors are said at each function. Belongs to the shard's
 * thread.
 */
#pragma once

#include "queue/spool.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct connection;
struct delivery;
struct feed;
struct locate;
struct queue;
struct shard;
struct verdict;

/* deliver.c */
void deliver_init(struct shard *shard);
void deliver_fini(struct shard *shard);
/* Starts a transaction for the queue on an idle connection. False when nothing was started (no
 * memory, nothing ready). */
bool deliver_start(struct shard *shard, struct connection *connection, struct queue *queue);
/* Ends the first ready recipients of a queue by its local verdict. False when nothing could be
 * started now. */
bool deliver_local(struct shard *shard, struct queue *queue);
void deliver_on_rcpt(struct shard *shard, struct delivery *delivery, uint32_t index,
                     const struct verdict *verdict);
void deliver_on_done(struct shard *shard, struct delivery *delivery);
/* The message's home says where it lies. */
void deliver_on_located(struct shard *shard, struct locate *locate);
/* What was wrong with its signatures is seen to, see resign.h: on with it. */
void deliver_on_signed(struct shard *shard, struct delivery *delivery);
/* The message cannot be had: the delivery ends. */
void deliver_on_unreadable(struct shard *shard, struct delivery *delivery, int error);
/* Hands the queue's next message to the client while the one before ends. False when nothing was
 * started. */
bool deliver_start_ahead(struct shard *shard, struct connection *connection, struct queue *queue);
/* The receiver has not begun it: the recipients are ready again, no attempt is counted. Returns
 * their queue. */
struct queue *deliver_return(struct shard *shard, struct delivery *delivery);

/* A token has come for the message that is parked at the queue. */
void deliver_on_token(struct shard *shard, struct queue *queue);
/* No longer: gives the delivery back, unless its message is being read. */
void deliver_unpark(struct shard *shard, struct delivery *delivery);
/* The carrier is done with it; frees the delivery. */
void deliver_on_carried(struct shard *shard, struct delivery *delivery,
                        const struct verdict *verdict);
/* The client wants more of the content. */
void deliver_on_content(struct connection *connection);

/* Nothing of it is under way. */
void deliver_free(struct shard *shard, struct delivery *delivery);
/* What could not be read back has at least been located. */
uint64_t deliver_message_id(const struct delivery *delivery);

/* deliver_local.c */
/* What is said of recipients that end by local work. */
void deliver_local_verdict(const struct delivery *delivery, struct verdict *verdict);
/* Addresses of the recipients taken, by one walk over the envelope; their ordinals ascend within a
 * message unless retries mixed them, so the walk starts over where they do not. */
void deliver_find_addresses(struct shard *shard, struct delivery *delivery);
/* Settles every recipient of a delivery that went over no connection, and frees it. Its message may
 * be missing. */
void deliver_settle(struct shard *shard, struct delivery *delivery, const struct verdict *verdict,
                    uint8_t flags);

/* feed.c */
/* The content of a message in chunks on its way from the log to the client. */
struct feed {
    struct log_commit commit; /* as it was read last */
    uint32_t next;            /* chunk */
    uint32_t index;
    uint16_t home;
    uint8_t located_count; /* how often its home was asked again where it lies */
    bool is_locating;      /* ... right now */
    bool is_rereading;     /* its commit record, from another place */
    bool is_over;          /* the client is done with the message */
    int error;             /* why it was given up; 0 = it was not */
    struct iovec parts[3]; /* a header of its own, a chunk, the rest */
};

/* The commit record is in the message's first buffer. 0, E_DAMAGED, or E_FULL. */
int feed_create(struct shard *shard, struct delivery *delivery);
void feed_free(struct shard *shard, struct feed *feed);
/* Reads the next chunk for the client, or hands it the rest. */
void feed_on_content(struct shard *shard, struct delivery *delivery);
/* Reads on for resign_feed, from the start at first; and from the start again, for the client. */
void feed_scan(struct shard *shard, struct delivery *delivery);
void feed_rewind(struct delivery *delivery);
/* The delivery's read is done, its home has answered. True when the delivery was only kept for
 * that: it is to be freed. */
bool feed_on_read(struct shard *shard, struct delivery *delivery, int32_t result);
bool feed_on_located(struct shard *shard, struct delivery *delivery);
/* The client is done with the message. True when a read or a question is still under way: the
 * delivery must stay until that ends. */
bool feed_must_wait(struct delivery *delivery);
/* A verdict of ours for what could not be read to its end; else the client's. */
const struct verdict *feed_verdict(const struct delivery *delivery, const struct verdict *verdict,
                                   struct verdict *room);
