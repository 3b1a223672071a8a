#include "shard/events.h"

#include "shard/shard_int.h"

#include <stdio.h>

static enum event_series series_of(enum event_kind kind)
{
    return kind >= EVENT_DELIVERED ? EVENTS_OF_RCPTS : EVENTS_OF_QUEUE;
}

void events_init(struct shard *shard)
{
    for (uint32_t i = 0; i < EVENT_SERIES_COUNT; i++) {
        slab_init(&shard->events.series[i].slab, sizeof(struct event), EVENTS_MAX);
        list_init(&shard->events.series[i].by_age);
    }
}

void events_fini(struct shard *shard)
{
    for (uint32_t i = 0; i < EVENT_SERIES_COUNT; i++)
        slab_fini(&shard->events.series[i].slab);
}

void events_init_queue(struct queue *queue)
{
    for (uint32_t i = 0; i < EVENT_SERIES_COUNT; i++)
        list_init(&queue->series[i].events);
}

static void drop(struct shard *shard, struct event *event)
{
    struct queue *queue = slab_at(&shard->queues, event->queue);
    enum event_series series = series_of(event->kind);

    must(queue->series[series].count > 0);
    queue->series[series].count--;
    list_remove(&event->link);
    list_remove(&event->age);
    slab_free(&shard->events.series[series].slab, event->index);
}

static struct event *oldest_of(const struct queue *queue, enum event_series series)
{
    return container_of(queue->series[series].events.next, struct event, link);
}

static struct event *newest_of(const struct queue *queue, enum event_series series)
{
    const struct list *events = &queue->series[series].events;

    return list_empty(events) ? NULL : container_of(events->prev, struct event, link);
}

/* How many the queue remembers. */
static uint32_t count_max(const struct queue *queue, enum event_series series)
{
    if (series == EVENTS_OF_QUEUE)
        return queue->settings.max_events_recorded;
    return queue->settings.track_recipient_events ? EVENTS_OF_RCPTS_MAX : 0;
}

/* A place for one more; the queue's oldest give theirs, or the oldest of all. */
static struct event *obtain(struct shard *shard, struct queue *queue, enum event_series series)
{
    struct slab *slab = &shard->events.series[series].slab;
    struct event *event;
    uint32_t index;

    while (queue->series[series].count >= count_max(queue, series))
        drop(shard, oldest_of(queue, series));
    if (slab->count_used == EVENTS_MAX)
        drop(shard, container_of(shard->events.series[series].by_age.next, struct event, age));
    event = slab_alloc(slab, &index);
    if (!event)
        return NULL;
    event->index = index;
    event->queue = queue->index;
    list_init(&event->link);
    list_init(&event->age);
    list_push_back(&queue->series[series].events, &event->link);
    queue->series[series].count++;
    return event;
}

void events_note(struct shard *shard, struct queue *queue, enum event_kind kind, const char *text)
{
    enum event_series series = series_of(kind);
    struct event *event = newest_of(queue, series);

    if (count_max(queue, series) == 0)
        return;
    if (!event || event->kind != kind || strncmp(event->text, text, EVENT_TEXT_MAX - 1) != 0) {
        event = obtain(shard, queue, series);
        if (!event)
            return;
        event->times = 0;
        event->kind = (uint8_t)kind;
        snprintf(event->text, sizeof(event->text), "%s", text);
    }
    event->times++;
    event->at_us = io_wall_us(shard->io);
    list_remove(&event->age);
    list_push_back(&shard->events.series[series].by_age, &event->age);
}

void events_forget(struct shard *shard, struct queue *queue)
{
    for (uint32_t i = 0; i < EVENT_SERIES_COUNT; i++)
        while (queue->series[i].count > 0)
            drop(shard, oldest_of(queue, i));
}
