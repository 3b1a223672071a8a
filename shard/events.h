/*
 * events: the last things that happened to a queue: errors and changes of its mode; and, with
 * `track-recipient-events`, to its recipients.
 *
 * Of the former as many of a queue as `max-events-recorded` says, of the latter
 * EVENTS_OF_RCPTS_MAX; of all queues of a shard EVENTS_MAX of each: then the oldest of all gives
 * way. One that says the same as the queue's newest one of its series only counts it up. Belongs to
 * the shard's thread and stays there: neither a restart nor another shard brings a queue's events
 * back.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/slab.h"

#include <stdint.h>

struct queue;
struct report;
struct shard;

#define EVENTS_MAX          4096u
#define EVENT_TEXT_MAX      200
#define EVENTS_SHOWN        50u /* in an answer, the newest */
#define EVENTS_OF_RCPTS_MAX 50u

enum event_kind {
    EVENT_ERROR,
    EVENT_MODE,
    EVENT_DELIVERED, /* from here on: of a recipient */
    EVENT_DEFERRED,
    EVENT_BOUNCED,
};

enum event_series {
    EVENTS_OF_QUEUE,
    EVENTS_OF_RCPTS,
    EVENT_SERIES_COUNT,
};

/* Of one queue. */
struct event_series_of_queue {
    struct list events; /* oldest first */
    uint32_t count;
};

struct event {
    struct list link; /* in its series of the queue, oldest first */
    struct list age;  /* in by_age of the series */
    uint32_t index;
    uint32_t queue;
    uint64_t at_us; /* the last of them, wall clock */
    uint32_t times;
    uint8_t kind; /* enum event_kind */
    char text[EVENT_TEXT_MAX];
};

/* Of all queues of a shard. */
struct events {
    struct {
        struct slab slab;
        struct list by_age; /* oldest first */
    } series[EVENT_SERIES_COUNT];
};

void events_init(struct shard *shard);
void events_fini(struct shard *shard);
void events_note(struct shard *shard, struct queue *queue, enum event_kind kind, const char *text);
void events_init_queue(struct queue *queue);
/* The queue ends. */
void events_forget(struct shard *shard, struct queue *queue);
