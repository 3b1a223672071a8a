/*
 * events: the last things that happened to a queue: errors and changes of its mode.
 *
 * As many of a queue as `max-events-recorded` says, of all queues of a shard EVENTS_MAX: then the
 * oldest of all gives way. One that says the same as the queue's newest one only counts it up.
 * Belongs to the shard's thread and stays there: neither a restart nor another shard brings a
 * queue's events back.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/slab.h"

#include <stdint.h>

struct queue;
struct report;
struct shard;

#define EVENTS_MAX     4096u
#define EVENT_TEXT_MAX 200
#define EVENTS_SHOWN   50u /* in an answer, the newest */

enum event_kind {
    EVENT_ERROR,
    EVENT_MODE,
};

struct event {
    struct list link; /* in queue->events, oldest first */
    struct list age;  /* in shard->events.by_age */
    uint32_t index;
    uint32_t queue;
    uint64_t at_us; /* the last of them, wall clock */
    uint32_t times;
    uint8_t kind; /* enum event_kind */
    char text[EVENT_TEXT_MAX];
};

struct events {
    struct slab slab;
    struct list by_age; /* oldest first */
};

void events_init(struct shard *shard);
void events_fini(struct shard *shard);
void events_note(struct shard *shard, struct queue *queue, enum event_kind kind, const char *text);
/* The queue ends. */
void events_forget(struct shard *shard, struct queue *queue);
