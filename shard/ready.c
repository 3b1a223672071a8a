#include "shard/ready.h"

#include "shard/shard_int.h"

void ready_init(struct ready *ready)
{
    ready->base = (struct ready_strand){.head = NONE, .tail = NONE, .next = NONE};
    ready->more = NONE;
    ready->apart_head = NONE;
}

/* The strand behind this one, NULL at the end. */
static struct ready_strand *next_strand(const struct queue *queue,
                                        const struct ready_strand *strand)
{
    uint32_t index = strand == &queue->ready.base ? queue->ready.more : strand->next;

    return index == NONE ? NULL : slab_at(&queue->shard->strands, index);
}

/* Whether a was served less than b; the clocks run over. */
static bool is_behind(const struct ready_strand *a, const struct ready_strand *b)
{
    return (int32_t)(a->served - b->served) < 0;
}

static uint8_t flow_of(const struct queue *queue, const struct ready_strand *strand)
{
    return ((const struct queued *)slab_at(&queue->shard->queued, strand->head))->flow;
}

static bool is_shut(const struct queue *queue, const struct ready_strand *strand)
{
    return queue->ready.shut != 0 && (queue->ready.shut & 1u << flow_of(queue, strand)) != 0;
}

uint32_t ready_open_count(const struct queue *queue)
{
    const struct ready_strand *strand = &queue->ready.base;
    uint32_t count = queue->ready.apart_count;

    if (queue->ready.shut == 0)
        return queue->ready_count;
    for (; strand; strand = next_strand(queue, strand))
        if (strand->count > 0 && !is_shut(queue, strand))
            count += strand->count;
    return count;
}

uint32_t ready_head(const struct queue *queue, uint8_t flow)
{
    const struct ready_strand *strand = &queue->ready.base;
    uint32_t heads[TURNS_RANKS], ranks = 0;

    for (; strand; strand = next_strand(queue, strand)) {
        if (strand->count == 0 || flow_of(queue, strand) != flow ||
            (ranks & 1u << strand->rank) != 0)
            continue;
        heads[strand->rank] = strand->head;
        ranks |= 1u << strand->rank;
    }
    return ranks != 0 ? heads[turns_next(&queue->ready.turns, ranks)] : NONE;
}

uint32_t ready_oldest(const struct queue *queue)
{
    const struct ready_strand *strand = &queue->ready.base;
    const struct queued *oldest = NULL;
    uint32_t index = NONE;

    for (; strand; strand = next_strand(queue, strand)) {
        const struct queued *head;

        if (strand->count == 0)
            continue;
        head = slab_at(&queue->shard->queued, strand->head);
        if (oldest && oldest->accepted_s <= head->accepted_s)
            continue;
        oldest = head;
        index = strand->head;
    }
    return index;
}

bool ready_has_light(const struct queue *queue)
{
    const struct ready_strand *strand = &queue->ready.base;

    for (; strand; strand = next_strand(queue, strand))
        if (strand->count > 0 && flows_is_light(&queue->shard->flows, strand->flow) &&
            !is_shut(queue, strand))
            return true;
    return false;
}

/* The strand whose turn it is, of the rank whose turn it is; NULL when there is none. */
static const struct ready_strand *next_turn(const struct queue *queue)
{
    const struct ready_strand *best[TURNS_RANKS], *strand = &queue->ready.base;
    uint32_t ranks = 0;

    for (; strand; strand = next_strand(queue, strand)) {
        uint32_t rank = 1u << strand->rank;

        if (strand->count == 0 || is_shut(queue, strand) ||
            ((ranks & rank) != 0 && !is_behind(strand, best[strand->rank])))
            continue;
        best[strand->rank] = strand;
        ranks |= rank;
    }
    return ranks != 0 ? best[turns_next(&queue->ready.turns, ranks)] : NULL;
}

uint32_t ready_peek(const struct queue *queue)
{
    const struct ready_strand *strand;

    if (queue->ready.apart_count > 0)
        return queue->ready.apart_head;
    if (queue->ready.more == NONE && queue->ready.shut == 0)
        return queue->ready.base.head;
    if (queue->local == LOCAL_EXPIRED)
        return ready_oldest(queue);
    strand = next_turn(queue);
    return strand ? strand->head : NONE;
}

/* ---- Strands --------------------------------------------------------------------------------- */

/* Only the base may be empty. */
static void free_if_empty(struct shard *shard, struct queue *queue, struct ready_strand *strand)
{
    uint32_t *link = &queue->ready.more;
    uint32_t index;

    if (strand->count > 0 || strand == &queue->ready.base)
        return;
    while (slab_at(&shard->strands, *link) != strand)
        link = &((struct ready_strand *)slab_at(&shard->strands, *link))->next;
    index = *link;
    *link = strand->next;
    slab_free(&shard->strands, index);
}

static struct ready_strand *begin(struct queue *queue, struct ready_strand *strand,
                                  const struct queued *queued)
{
    strand->head = NONE;
    strand->tail = NONE;
    strand->count = 0;
    strand->served = queue->ready.turn[queued->rank];
    strand->flow = queued->flow;
    strand->rank = queued->rank;
    return strand;
}

/* The strand of the recipient's flow and rank, begun if need be. */
static struct ready_strand *strand_of(struct shard *shard, struct queue *queue,
                                      const struct queued *queued)
{
    struct ready_strand *base = &queue->ready.base, *strand;
    uint32_t index;

    for (strand = base; strand; strand = next_strand(queue, strand))
        if (strand->count > 0 && strand->flow == queued->flow && strand->rank == queued->rank)
            return strand;
    if (base->count == 0)
        return begin(queue, base, queued);
    strand = slab_alloc(&shard->strands, &index);
    if (!strand)
        return base;
    strand->next = queue->ready.more;
    queue->ready.more = index;
    return begin(queue, strand, queued);
}

void ready_push(struct shard *shard, struct queue *queue, uint32_t queued_index, bool at_front)
{
    struct queued *queued = slab_at(&shard->queued, queued_index);
    struct ready_strand *strand = strand_of(shard, queue, queued);

    queued->state = QUEUED_READY;
    queued->next = at_front ? strand->head : NONE;
    if (strand->head == NONE) {
        strand->head = queued_index;
        strand->tail = queued_index;
    } else if (at_front) {
        strand->head = queued_index;
    } else {
        ((struct queued *)slab_at(&shard->queued, strand->tail))->next = queued_index;
        strand->tail = queued_index;
    }
    /* It was not served after all. */
    if (at_front && strand->count > 0)
        strand->served--;
    if (at_front)
        turns_less(&queue->ready.turns, strand->rank);
    strand->count++;
    queue->ready_count++;
    flows_count_ready(&shard->flows, queued->flow, 1);
}

static struct ready_strand *strand_headed_by(const struct queue *queue, uint32_t queued_index)
{
    struct ready_strand *strand = (struct ready_strand *)&queue->ready.base;

    while (strand && (strand->count == 0 || strand->head != queued_index))
        strand = next_strand(queue, strand);
    return strand;
}

/* One of the strand's has gone, which may not have been its rank's turn: those that go with one of
 * the same message do not ask for it. */
static void count_served(struct queue *queue, struct ready_strand *strand)
{
    const struct ready_strand *next = next_turn(queue);
    struct ready *ready = &queue->ready;

    if (next && next->rank == strand->rank)
        turns_served(&ready->turns, strand->rank);
    else
        turns_more(&ready->turns, strand->rank);
    ready->turn[strand->rank] = strand->served++;
}

uint32_t ready_pop(struct shard *shard, struct queue *queue, uint32_t queued_index)
{
    struct queued *queued = slab_at(&shard->queued, queued_index);
    uint32_t behind = queued->next;
    struct ready_strand *strand;

    must(queued->state == QUEUED_READY && queue->ready_count > 0);
    if (queue->ready.apart_count > 0) {
        must(queue->ready.apart_head == queued_index);
        queue->ready.apart_head = behind;
        queue->ready.apart_count--;
    } else {
        strand = strand_headed_by(queue, queued_index);
        must(strand);
        count_served(queue, strand);
        strand->head = behind;
        if (behind == NONE)
            strand->tail = NONE;
        strand->count--;
        free_if_empty(shard, queue, strand);
    }
    queue->ready_count--;
    queue->sending_count++;
    flows_count_ready(&shard->flows, queued->flow, -1);
    queued->state = QUEUED_SENDING;
    queued->next = NONE;
    return behind;
}

/* ---- Apart ----------------------------------------------------------------------------------- */

void ready_push_apart(struct shard *shard, struct queue *queue, uint32_t queued_index)
{
    struct queued *queued = slab_at(&shard->queued, queued_index);

    queued->state = QUEUED_READY;
    queued->next = queue->ready.apart_head;
    queue->ready.apart_head = queued_index;
    queue->ready.apart_count++;
    queue->ready_count++;
    flows_count_ready(&shard->flows, queued->flow, 1);
}

static bool is_older(struct shard *shard, const struct queue *queue, uint32_t index,
                     uint64_t older_than_us)
{
    const struct queued *queued = slab_at(&shard->queued, index);

    return !older_than_us || queued_accepted_us(queued) < older_than_us;
}

/* Takes out of the strand what is meant, and puts it at *tail. */
static void sift(struct shard *shard, struct queue *queue, struct ready_strand *strand,
                 ready_meant_fn *is_meant_fn, uint64_t argument, uint32_t *tail)
{
    struct ready *ready = &queue->ready;
    uint32_t index = strand->head, kept_tail = NONE;

    strand->head = NONE;
    strand->count = 0;
    while (index != NONE) {
        struct queued *queued = slab_at(&shard->queued, index);
        uint32_t next = queued->next;
        bool is_meant = is_meant_fn(shard, queue, index, argument);
        uint32_t *end = is_meant ? tail : &kept_tail;
        uint32_t *head = is_meant ? &ready->apart_head : &strand->head;

        if (*end == NONE)
            *head = index;
        else
            ((struct queued *)slab_at(&shard->queued, *end))->next = index;
        *end = index;
        queued->next = NONE;
        *(is_meant ? &ready->apart_count : &strand->count) += 1;
        index = next;
    }
    strand->tail = kept_tail;
}

uint32_t ready_set_apart_by(struct shard *shard, struct queue *queue, ready_meant_fn *is_meant,
                            uint64_t argument)
{
    struct ready_strand *strand = &queue->ready.base, *next;
    uint32_t tail = queue->ready.apart_head;

    while (tail != NONE && ((struct queued *)slab_at(&shard->queued, tail))->next != NONE)
        tail = ((struct queued *)slab_at(&shard->queued, tail))->next;
    for (; strand; strand = next) {
        next = next_strand(queue, strand);
        sift(shard, queue, strand, is_meant, argument, &tail);
        free_if_empty(shard, queue, strand);
    }
    return queue->ready.apart_count;
}

uint32_t ready_set_apart(struct shard *shard, struct queue *queue, uint64_t older_than_us)
{
    return ready_set_apart_by(shard, queue, is_older, older_than_us);
}
