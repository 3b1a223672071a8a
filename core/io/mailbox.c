#include "core/io/mailbox.h"

#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/ring.h"
#include "core/io/io_loop.h"

#include <errno.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <unistd.h>

#define BATCH           64  /* pointers moved per publish */
#define BUDGET_PER_TURN 512 /* parcels one mailbox may deliver before others get their turn */

struct mailbox {
    struct ring ring;
    struct io *producer;
    struct io *consumer;
    int wait_fd; /* rung for a foreign consumer; -1 = none */

    /* Consumer's side. */
    alignas(128) struct list inbox_link; /* in the consumer loop's inboxes */
    void (*on_parcel)(void *context, struct parcel *parcel);
    void *context;
    _Atomic uint32_t parked; /* a foreign consumer found it empty and wants wait_fd rung */

    /* Producer's side. */
    alignas(128) struct list outbox_link; /* in the producer loop's outboxes while parcels wait */
    struct parcel *waiting_first;
    struct parcel *waiting_last;
    uint32_t waiting_count;
    _Atomic uint32_t starved; /* the ring was full: the consumer wakes us when it made room */
};

struct mailbox *mailbox_create(uint32_t capacity, struct io *producer, struct io *consumer)
{
    struct mailbox *box = mem_alloc_aligned(sizeof(*box), alignof(struct mailbox));

    ring_init(&box->ring, capacity);
    box->producer = producer;
    box->consumer = consumer;
    box->wait_fd = -1;
    list_init(&box->inbox_link);
    box->on_parcel = NULL;
    box->context = NULL;
    atomic_init(&box->parked, 0);
    list_init(&box->outbox_link);
    box->waiting_first = NULL;
    box->waiting_last = NULL;
    box->waiting_count = 0;
    atomic_init(&box->starved, 0);
    if (consumer == NULL) {
        int fd = io_doorbell_open();

        box->wait_fd = fd >= 0 ? fd : -1;
    }
    return box;
}

void mailbox_destroy(struct mailbox *box)
{
    if (box == NULL)
        return;
    list_remove(&box->inbox_link);
    list_remove(&box->outbox_link);
    if (box->wait_fd >= 0)
        close(box->wait_fd);
    ring_fini(&box->ring);
    mem_free(box);
}

/* ---- Producer ------------------------------------------------------------------------------ */

static void append_waiting(struct mailbox *box, struct parcel *parcel)
{
    parcel->next = NULL;
    if (box->waiting_last != NULL)
        box->waiting_last->next = parcel;
    else
        box->waiting_first = parcel;
    box->waiting_last = parcel;
    box->waiting_count++;
}

/*
 * Moves what fits into the ring. A parcel belongs to the consumer the moment it is in the ring, so
 * the links are read before the push.
 */
static void push_waiting(struct mailbox *box)
{
    while (box->waiting_first != NULL) {
        void *items[BATCH];
        struct parcel *rest = box->waiting_first;
        uint32_t count = 0;
        uint32_t pushed;

        while (rest != NULL && count < BATCH) {
            items[count++] = rest;
            rest = rest->next;
        }
        pushed = ring_push(&box->ring, items, count);
        box->waiting_count -= pushed;
        if (pushed < count) {
            box->waiting_first = items[pushed];
            return;
        }
        box->waiting_first = rest;
    }
    box->waiting_last = NULL;
}

static void ring_bell(struct mailbox *box)
{
    uint64_t one = 1;

    if (box->wait_fd < 0 || atomic_load_explicit(&box->parked, memory_order_relaxed) == 0)
        return;
    if (atomic_exchange_explicit(&box->parked, 0, memory_order_relaxed) == 0)
        return;
    io_loop_count(&io_loop_of(box->producer)->stats.system_calls, 1);
    io_loop_count(&io_loop_of(box->producer)->stats.wakes_sent, 1);
    while (write(box->wait_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void mailbox_post(struct mailbox *box, struct parcel *parcel)
{
    must(box->producer != NULL);
    append_waiting(box, parcel);
    if (list_empty(&box->outbox_link))
        list_push_back(&io_loop_of(box->producer)->outboxes, &box->outbox_link);
}

uint32_t mailbox_backlog(const struct mailbox *box)
{
    return box->waiting_count;
}

uint32_t mailbox_post_foreign(struct mailbox *box, struct parcel *parcel)
{
    uint32_t waiting_before;

    must(box->producer == NULL && box->consumer != NULL);
    if (parcel != NULL)
        append_waiting(box, parcel);
    waiting_before = box->waiting_count;
    push_waiting(box);
    if (box->waiting_count != waiting_before) {
        atomic_thread_fence(memory_order_seq_cst);
        io_loop_rouse(box->consumer, NULL);
    }
    return box->waiting_count;
}

/* One fence serves all mailboxes of the turn: publish everywhere first, then look who sleeps. */
void io_loop_flush_outboxes(struct io_loop *loop)
{
    if (list_empty(&loop->outboxes))
        return;
    list_for_each (node, &loop->outboxes) {
        struct mailbox *box = container_of(node, struct mailbox, outbox_link);

        push_waiting(box);
        atomic_store_explicit(&box->starved, box->waiting_first != NULL, memory_order_relaxed);
    }
    atomic_thread_fence(memory_order_seq_cst);
    list_for_each (node, &loop->outboxes) {
        struct mailbox *box = container_of(node, struct mailbox, outbox_link);

        if (box->consumer != NULL)
            io_loop_rouse(box->consumer, box->producer);
        else
            ring_bell(box);
        if (box->waiting_first == NULL)
            list_remove(node);
    }
}

/* ---- Consumer ------------------------------------------------------------------------------ */

void mailbox_listen(struct mailbox *box, void (*on_parcel)(void *context, struct parcel *parcel),
                    void *context)
{
    must(box->consumer != NULL && on_parcel != NULL);
    box->on_parcel = on_parcel;
    box->context = context;
    if (list_empty(&box->inbox_link))
        list_push_back(&io_loop_of(box->consumer)->inboxes, &box->inbox_link);
}

/* A producer that sleeps on a full ring is woken once there is room. */
static void rouse_starved_producer(struct mailbox *box, struct io *from)
{
    if (box->producer == NULL)
        return;
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&box->starved, memory_order_relaxed) != 0)
        io_loop_rouse(box->producer, from);
}

void io_loop_drain_inboxes(struct io_loop *loop)
{
    list_for_each (node, &loop->inboxes) {
        struct mailbox *box = container_of(node, struct mailbox, inbox_link);
        uint32_t taken = 0;

        while (taken < BUDGET_PER_TURN) {
            void *items[BATCH];
            uint32_t count = ring_pop(&box->ring, items, BATCH);

            for (uint32_t i = 0; i < count; i++)
                box->on_parcel(box->context, items[i]);
            taken += count;
            if (count < BATCH)
                break;
        }
        if (taken > 0)
            rouse_starved_producer(box, box->consumer);
    }
}

bool io_loop_has_parcels(struct io_loop *loop)
{
    list_for_each (node, &loop->inboxes) {
        struct mailbox *box = container_of(node, struct mailbox, inbox_link);

        if (!ring_is_empty(&box->ring))
            return true;
    }
    list_for_each (node, &loop->outboxes) {
        struct mailbox *box = container_of(node, struct mailbox, outbox_link);

        if (ring_depth(&box->ring) <= box->ring.mask)
            return true;
    }
    return false;
}

int mailbox_wait_fd(const struct mailbox *box)
{
    return box->wait_fd;
}

struct parcel *mailbox_take_foreign(struct mailbox *box)
{
    uint64_t rung;
    void *item;

    must(box->consumer == NULL);
    if (ring_pop(&box->ring, &item, 1) == 0) {
        /* The old ring of the bell is taken off before the new one is asked for. */
        if (box->wait_fd >= 0 && read(box->wait_fd, &rung, sizeof(rung)) < 0)
            must(errno == EAGAIN || errno == EINTR);
        atomic_store_explicit(&box->parked, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if (ring_pop(&box->ring, &item, 1) == 0)
            return NULL;
    }
    rouse_starved_producer(box, NULL);
    return item;
}
