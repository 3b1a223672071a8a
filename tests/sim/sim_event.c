/* A binary heap of pointers whose entries know their place, so that any of them can be taken out.
 */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->sequence < b->sequence;
}

static void put(struct sim_queue *queue, uint32_t at, struct sim_event *event)
{
    queue->heap[at] = event;
    event->slot = at + 1;
}

static void sift_up(struct sim_queue *queue, uint32_t at, struct sim_event *event)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / 2;

        if (!is_before(event, queue->heap[parent]))
            break;
        put(queue, at, queue->heap[parent]);
        at = parent;
    }
    put(queue, at, event);
}

static void sift_down(struct sim_queue *queue, uint32_t at, struct sim_event *event)
{
    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child >= queue->count)
            break;
        if (child + 1 < queue->count && is_before(queue->heap[child + 1], queue->heap[child]))
            child++;
        if (!is_before(queue->heap[child], event))
            break;
        put(queue, at, queue->heap[child]);
        at = child;
    }
    put(queue, at, event);
}

void sim_event_stop(struct sim_world *world, struct sim_event *event)
{
    struct sim_queue *queue = &world->queue;
    uint32_t at = event->slot;
    struct sim_event *last;

    if (at-- == 0)
        return;
    must(queue->heap[at] == event);
    event->slot = 0;
    last = queue->heap[--queue->count];
    if (last == event)
        return;
    if (at > 0 && is_before(last, queue->heap[(at - 1) / 2]))
        sift_up(queue, at, last);
    else
        sift_down(queue, at, last);
}

void sim_event_at(struct sim_world *world, struct sim_event *event, uint64_t at_ns)
{
    struct sim_queue *queue = &world->queue;

    sim_event_stop(world, event);
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity != 0 ? queue->capacity * 2 : 256;
        queue->heap = sim_realloc(queue->heap, queue->capacity * sizeof(struct sim_event *));
    }
    event->at_ns = at_ns;
    event->sequence = queue->next_sequence++;
    sift_up(queue, queue->count++, event);
}

void sim_events_fire(struct sim_world *world)
{
    struct sim_queue *queue = &world->queue;

    while (queue->count > 0 && queue->heap[0]->at_ns <= world->now_ns) {
        struct sim_event *event = queue->heap[0];

        sim_event_stop(world, event);
        event->fire(world, event);
    }
}
