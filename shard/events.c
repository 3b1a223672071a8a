#include "shard/events.h"

#include "shard/shard_int.h"

#include <stdio.h>

void events_init(struct shard *shard)
{
    slab_init(&shard->events.slab, sizeof(struct event), EVENTS_MAX);
    list_init(&shard->events.by_age);
}

void events_fini(struct shard *shard)
{
    slab_fini(&shard->events.slab);
}

static void drop(struct shard *shard, struct event *event)
{
    struct queue *queue = slab_at(&shard->queues, event->queue);

    must(queue->event_count > 0);
    queue->event_count--;
    list_remove(&event->link);
    list_remove(&event->age);
    slab_free(&shard->events.slab, event->index);
}

static struct event *newest_of(const struct queue *queue)
{
    return list_empty(&queue->events) ? NULL : container_of(queue->events.prev, struct event, link);
}

/* A place for one more; the queue's oldest give theirs, or the oldest of all. */
static struct event *obtain(struct shard *shard, struct queue *queue)
{
    struct list *by_age = &shard->events.by_age;
    struct event *event;
    uint32_t index;

    while (queue->event_count >= queue->settings.max_events_recorded)
        drop(shard, container_of(queue->events.next, struct event, link));
    if (shard->events.slab.count_used == EVENTS_MAX)
        drop(shard, container_of(by_age->next, struct event, age));
    event = slab_alloc(&shard->events.slab, &index);
    if (!event)
        return NULL;
    event->index = index;
    event->queue = queue->index;
    list_init(&event->link);
    list_init(&event->age);
    list_push_back(&queue->events, &event->link);
    queue->event_count++;
    return event;
}

void events_note(struct shard *shard, struct queue *queue, enum event_kind kind, const char *text)
{
    struct event *event = newest_of(queue);

    if (queue->settings.max_events_recorded == 0)
        return;
    if (!event || event->kind != kind || strncmp(event->text, text, EVENT_TEXT_MAX - 1) != 0) {
        event = obtain(shard, queue);
        if (!event)
            return;
        event->times = 0;
        event->kind = (uint8_t)kind;
        snprintf(event->text, sizeof(event->text), "%s", text);
    }
    event->times++;
    event->at_us = io_wall_us(shard->io);
    list_remove(&event->age);
    list_push_back(&shard->events.by_age, &event->age);
}

void events_forget(struct shard *shard, struct queue *queue)
{
    while (queue->event_count > 0)
        drop(shard, container_of(queue->events.next, struct event, link));
}
