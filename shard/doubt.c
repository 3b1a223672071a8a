/*
 * By which way a recipient went whose message was lost after the final dot, or that was greylisted.
 *
 * The receiver may have taken the former, and one that remembers what it took can only see the
 * double when it comes the same way. So the next attempt is made from the same source to the same
 * host first, as long as both are to be had; a connection is opened for it where none stands. One
 * that greylists knows the source address, sender and recipient again (RFC 6647 2.3): the next
 * attempt is made from the same source, to whichever host, as long as that source may be used.
 *
 * What is remembered is bounded. Where there is no room, what is in doubt takes the place of the
 * oldest, and what is greylisted is not remembered: if it took the oldest's place, a pool that
 * greylists more than there is room for would forget each before its time. A restart forgets all.
 * It goes along with a recipient that follows its queue to another shard.
 */
#include "core/mail/classify.h"
#include "shard/shard_int.h"

/* Connections that are opened for one recipient's sake. */
#define OPENS_MAX 2

void doubt_init(struct shard *shard)
{
    slab_init(&shard->doubts, sizeof(struct doubt), DOUBT_COUNT_MAX);
    table_init(&shard->doubt_table);
    list_init(&shard->doubt_list);
}

void doubt_fini(struct shard *shard)
{
    table_fini(&shard->doubt_table);
    slab_fini(&shard->doubts);
}

static bool is_of(uint32_t value, const void *key, void *context)
{
    const struct doubt *doubt = slab_at(&((struct shard *)context)->doubts, value);

    return doubt->queued == *(const uint32_t *)key;
}

struct doubt *doubt_find(const struct shard *shard, uint32_t queued_index)
{
    uint32_t index;

    if (shard->doubts.count_used == 0 || queued_index == NONE)
        return NULL;
    index = table_find(&shard->doubt_table, hash_u64(queued_index), is_of, &queued_index,
                       (struct shard *)(uintptr_t)shard);
    return index == TABLE_NONE ? NULL : slab_at(&shard->doubts, index);
}

static void forget(struct shard *shard, struct doubt *doubt)
{
    table_remove(&shard->doubt_table, hash_u64(doubt->queued), doubt->index);
    list_remove(&doubt->link);
    slab_free(&shard->doubts, doubt->index);
}

void doubt_forget(struct shard *shard, uint32_t queued_index)
{
    struct doubt *doubt = doubt_find(shard, queued_index);

    if (doubt)
        forget(shard, doubt);
}

struct doubt_way doubt_way_of(const struct shard *shard, uint32_t queued_index)
{
    const struct doubt *doubt = doubt_find(shard, queued_index);

    return doubt ? doubt->way : (struct doubt_way){.source.family = IPADDR_NONE};
}

void doubt_resume(struct shard *shard, uint32_t queued_index, const struct doubt_way *way)
{
    struct doubt *doubt;
    uint32_t index;

    if (way->source.family == IPADDR_NONE)
        return;
    must(!doubt_find(shard, queued_index));
    if (shard->doubts.count_used == DOUBT_COUNT_MAX && way->target.ip.family == IPADDR_NONE)
        return;
    if (shard->doubts.count_used == DOUBT_COUNT_MAX)
        forget(shard, container_of(shard->doubt_list.next, struct doubt, link));
    doubt = slab_alloc(&shard->doubts, &index);
    if (!doubt)
        return;
    doubt->index = index;
    doubt->queued = queued_index;
    doubt->way = *way;
    list_push_back(&shard->doubt_list, &doubt->link);
    if (!table_insert(&shard->doubt_table, hash_u64(queued_index), index)) {
        list_remove(&doubt->link);
        slab_free(&shard->doubts, index);
    }
}

/* Whether a receiver may know the recipient again by the source, and the queue has several. */
static bool is_greylisted(struct shard *shard, uint32_t queued_index,
                          const struct connection *connection, const struct verdict *verdict)
{
    const struct queued *queued = slab_at(&shard->queued, queued_index);
    const struct queue *queue = slab_at(&shard->queues, queued->queue);
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    return vmta && vmta->address_count > 1 &&
           react_is_greylisting(verdict, replies_host(shard, connection), shard->category_scratch);
}

void doubt_note(struct shard *shard, uint32_t queued_index, const struct connection *connection,
                const struct verdict *verdict)
{
    struct doubt_way way = {.source = connection->lane->source};
    const struct doubt *doubt = doubt_find(shard, queued_index);

    if ((verdict->flags & VERDICT_IN_DOUBT) != 0)
        way.target = connection->target_at;
    else if (!is_greylisted(shard, queued_index, connection, verdict))
        way.source.family = IPADDR_NONE;
    /* A receiver that has greylisted it knows it still, whatever it says now. */
    if (way.source.family == IPADDR_NONE && doubt && doubt->way.target.ip.family == IPADDR_NONE)
        return;
    doubt_forget(shard, queued_index);
    doubt_resume(shard, queued_index, &way);
}

bool doubt_goes_with(const struct shard *shard, uint32_t queued_index, uint32_t first_index)
{
    const struct doubt *doubt = doubt_find(shard, queued_index);
    const struct doubt *first = doubt_find(shard, first_index);

    return !doubt || (first && ipaddr_equal(&doubt->way.source, &first->way.source));
}

/* The index of the site's address that is named, while it is alive. */
static uint32_t find_target(const struct shard *shard, const struct site *site,
                            const struct ipaddr_port *at)
{
    for (uint32_t i = 0; i < site->target_count; i++)
        if (ipaddr_equal(&site->targets[i].at.ip, &at->ip) && site->targets[i].at.port == at->port)
            return site->targets[i].dead_until_ns <= io_now_ns(shard->io) ? i : NONE;
    return NONE;
}

uint32_t doubt_target(const struct shard *shard, const struct queue *queue)
{
    const struct doubt *doubt = doubt_find(shard, ready_peek(queue));

    if (!doubt || doubt->way.open_count == OPENS_MAX || !queue->site)
        return NONE;
    return find_target(shard, queue->site, &doubt->way.target);
}

const struct ipaddr *doubt_source(const struct shard *shard, const struct queue *queue)
{
    const struct doubt *doubt = doubt_find(shard, ready_peek(queue));

    if (!doubt || !queue->site)
        return NULL;
    if (doubt->way.target.ip.family != IPADDR_NONE && doubt_target(shard, queue) == NONE)
        return NULL;
    return &doubt->way.source;
}

bool doubt_fits(const struct shard *shard, const struct queue *queue,
                const struct connection *connection)
{
    const struct ipaddr *source = doubt_source(shard, queue);
    uint32_t target = doubt_target(shard, queue);
    const struct ipaddr_port *at = target == NONE ? NULL : &queue->site->targets[target].at;

    if (!source)
        return true;
    return ipaddr_equal(&connection->lane->source, source) &&
           (!at || (ipaddr_equal(&connection->target_at.ip, &at->ip) &&
                    connection->target_at.port == at->port));
}
