/*
 * ready: the recipients of a queue that may go now, in fair turns between the flows (flows.h) whose
 * they are.
 *
 * Each flow has a strand for each rank of its mail's priority, served in the order in which its
 * recipients became ready. The ranks have weighted turns (turns.h), counted in recipients, however
 * many flows each has. Whose turn it is within one: the strand that has been served least since it
 * last began, counted likewise; one that begins goes ahead once of those that were there, and no
 * further. Recipients that end by a verdict
 * of ours, all of them (bounced, deleted), are set apart and go before all others. Without memory
 * for a strand its recipients wait in another flow's.
 *
 * A flow whose mail has to wait for a limit of its own is shut (mail_slots.h): its strands have no
 * turns, whatever becomes ready in them, until it is opened again. Whose strand it is says its
 * head.
 *
 * Belongs to the shard's thread. The queue's ready_count and sending_count are kept here.
 */
#pragma once

#include "core/base/slab.h"
#include "shard/flows.h"
#include "shard/policy/turns.h"

#include <stdbool.h>
#include <stdint.h>

struct queue;
struct shard;

struct ready_strand {
    uint32_t head;
    uint32_t tail;
    uint32_t count;
    uint32_t served; /* a clock of its own: it counts by difference alone */
    uint32_t next;   /* in the chain of the queue's, NONE at its end */
    uint8_t flow;
    uint8_t rank;
};

struct ready {
    struct ready_strand base; /* most queues have no other */
    uint32_t more;            /* chain of further ones, none of them empty */
    struct turns turns;       /* of the ranks */
    /* Of each: what the strand whose turn it was last had been served before. */
    uint32_t turn[TURNS_RANKS];
    uint32_t apart_head;
    uint32_t apart_count;
    uint32_t shut; /* bit n: the flow with the slot n */
};
_Static_assert(FLOW_SLOTS <= 32, "bits of shut");

void ready_init(struct ready *ready);

/* Whose turn it is, or NONE: of flows that are not shut. The same until something is pushed, popped
 * or shut. */
uint32_t ready_peek(const struct queue *queue);
/* Takes the recipient at the head of its strand, which is being sent now. The one behind it there,
 * or NONE. */
uint32_t ready_pop(struct shard *shard, struct queue *queue, uint32_t queued_index);
/* at_front: it was popped and comes back untried. */
void ready_push(struct shard *shard, struct queue *queue, uint32_t queued_index, bool at_front);
/* The same for one that was popped from those set apart. */
void ready_push_apart(struct shard *shard, struct queue *queue, uint32_t queued_index);
/* Sets apart those accepted before a time, 0 = all; how many are apart then. */
uint32_t ready_set_apart(struct shard *shard, struct queue *queue, uint64_t older_than_us);
/* The same for those that the function says are meant. */
typedef bool ready_meant_fn(struct shard *shard, const struct queue *queue, uint32_t queued_index,
                            uint64_t argument);
uint32_t ready_set_apart_by(struct shard *shard, struct queue *queue, ready_meant_fn *is_meant,
                            uint64_t argument);
/* How many are ready in flows that are not shut, or apart. */
uint32_t ready_open_count(const struct queue *queue);
/* What is next of the flow, shut or not; NONE when nothing of it is ready. */
uint32_t ready_head(const struct queue *queue, uint8_t flow);
/* Whether a flow that is light, and not shut, has something ready here. */
bool ready_has_light(const struct queue *queue);
/* The one that was accepted first, of those at the heads; NONE when nothing is ready. */
uint32_t ready_oldest(const struct queue *queue);
