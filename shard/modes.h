/*
 * modes: the mode of a queue, normal or backoff, at the shard that owns the queue.
 *
 * In backoff mode the backoff twins of a queue's settings count. It is entered when a reply matches
 * a line mode=backoff of the queue's <smtp-pattern-list>, or by an operator; it ends by such a line
 * mode=normal, after its time, with a delivery, or by an operator.
 *
 * The mode is a named state of the log, "mode/" domain/vmta: tightened at once and logged in the
 * next commit, loosened when the log has it. So a crash may bring backoff mode back, and never
 * normal mode. It moves with the queue. Of a queue that is on its way replies count until its state
 * has left; an operator's order follows the queue by way of its base, as often as it takes.
 *
 * Standing orders may have a queue in backoff mode too, beside its own mode (orders.h): what lines
 * whose scope is not the queue leave standing is not here.
 *
 * All of it belongs to the thread of the shard. Times: _ns of the shard's clock, _us wall clock.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/policy/react.h"

struct connection;
struct log_request;
struct queue;
struct report;
struct shard;

#define MODE_REASON_MAX 200

struct queue_mode {
    bool is_backoff;
    bool is_logged;  /* a restart would bring it back */
    bool is_leaving; /* the log was told of its end and has not answered */
    uint64_t since_ns;
    uint64_t since_us;
    uint64_t until_ns;
    uint64_t until_us;            /* 0 = it does not end by time */
    char reason[MODE_REASON_MAX]; /* the line and the reply, or who ordered it */
};

/* Base to owner and back: an operator's order. */
struct mode_order {
    struct parcel parcel;
    struct report *report;
    struct slice domain; /* bytes of the base's names, held until the order is done */
    uint32_t name;
    uint32_t vmta_id;
    uint32_t index;
    uint16_t base;
    bool to_backoff;
    bool is_missed; /* the queue was not there */
    int32_t result;
};

void modes_init(struct shard *shard);
void modes_fini(struct shard *shard);
void modes_init_queue(struct queue *queue);
/* The queue's settings were derived anew: those of its mode count, its own or by an order, and
 * whether it hands its mail on in it. */
void modes_apply(struct shard *shard, struct queue *queue);
/* What the reply says of the mode of the queue. */
void modes_on_reply(struct shard *shard, struct queue *queue, const struct react *react,
                    const struct verdict *verdict);
/* Backoff mode; for_ms: CONF_REPLY_NO_TIME = for as long as the queue's settings say. */
void modes_back_off(struct shard *shard, struct queue *queue, uint64_t for_ms, const char *reason);
/* A message was delivered whose transaction began then. */
void modes_on_delivered(struct shard *shard, struct queue *queue, uint64_t began_ns);
/* The queue ends or leaves: no timer of it runs any more. */
void modes_stop(struct shard *shard, struct queue *queue);
/* The queue came with its mode, or could not leave. */
void modes_resume(struct shard *shard, struct queue *queue, const struct queue_mode *mode);
/* The log's answer to a record of the mode; order: waits for it, or NULL; queue: NULL = it ended.
 */
void modes_on_logged(struct shard *shard, struct queue *queue, struct mode_order *order,
                     bool is_loosening, int32_t status);
/* The log's last word, after a restart. */
void modes_recover(struct shard *shard, struct queue *queue, struct slice value);
/* An operator's order for one queue, by its base; counts in the report. */
void modes_order(struct shard *shard, struct slice domain, uint32_t vmta_id, bool to_backoff,
                 struct report *report);
void modes_on_parcel(struct shard *shard, struct parcel *parcel);
