/*
 * mailbox: parcels from one thread to another, the only way that threads of ringpost meet.
 *
 * One mailbox has one producer and one consumer. Either end is a loop, or a foreign thread (a
 * library's, such as the resolver's). A parcel is embedded in an object that its sender owns; it
 * travels by pointer, and unless a kind says otherwise it comes home to be freed where it was
 * allocated. Order is kept. Posting never fails and never allocates: what does not fit into the
 * ring waits in a list threaded through the parcels and follows at the end of the producer's
 * turns; mailbox_backlog tells the producer to slow down.
 *
 * After publishing, a sleeping consumer is woken (MSG_RING between loops, eventfd from foreign
 * threads). Nothing else orders memory between the two sides: the ring's release and acquire do.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct io;
struct mailbox;

struct parcel {
    struct parcel *next; /* mailbox: waiting list; free for the holder otherwise */
    uint16_t kind;       /* meaning agreed by the two ends */
    uint16_t from;       /* sender's actor number, for the way home */
    uint32_t stamp;      /* meaning agreed by the two ends too */
};

/*
 * capacity: power of two. producer or consumer NULL = a foreign thread at that end. Created before
 * the threads run, destroyed after they ended.
 */
struct mailbox *mailbox_create(uint32_t capacity, struct io *producer, struct io *consumer);
void mailbox_destroy(struct mailbox *box);

/* Producer is a loop: published at the latest at the end of this turn. */
void mailbox_post(struct mailbox *box, struct parcel *parcel);
/* Parcels posted that the ring had no room for yet. Producer's side. */
uint32_t mailbox_backlog(const struct mailbox *box);

/* Consumer is a loop: on_parcel runs in its mailbox phase, at most a budget per turn. */
void mailbox_listen(struct mailbox *box, void (*on_parcel)(void *context, struct parcel *parcel),
                    void *context);

/* Producer is a foreign thread: pushes what fits and keeps the rest; returns parcels kept, to be
 * pushed by a later call (parcel may be NULL). */
uint32_t mailbox_post_foreign(struct mailbox *box, struct parcel *parcel);
/* Consumer is a foreign thread: a descriptor that polls readable when parcels may wait (-1 where
 * the world has none), and a pop that returns NULL when empty (and re-arms the descriptor). */
int mailbox_wait_fd(const struct mailbox *box);
struct parcel *mailbox_take_foreign(struct mailbox *box);
