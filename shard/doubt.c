/*
 * By which way a recipient went whose message was lost after the final dot.
 *
 * The receiver may have taken it, and one that remembers what it took can only see the double when
 * it comes the same way. So the next attempt is made from the same source to the same host first,
 * as long as both are to be had; a connection is opened for it where none stands. What is
 * remembered is bounded: the oldest is forgotten, and a restart forgets all. It goes along with a
 * recipient that follows its queue to another shard.
 */
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

void doubt_note(struct shard *shard, uint32_t queued_index, const struct connection *connection)
{
    struct doubt_way way = {.source = connection->lane->source, .target = connection->target_at};

    doubt_resume(shard, queued_index, &way);
}

uint32_t doubt_target(const struct shard *shard, const struct queue *queue)
{
    const struct doubt *doubt = doubt_find(shard, ready_peek(queue));
    const struct site *site = queue->site;

    if (!doubt || doubt->way.open_count == OPENS_MAX || !site)
        return NONE;
    for (uint32_t i = 0; i < site->target_count; i++)
        if (ipaddr_equal(&site->targets[i].at.ip, &doubt->way.target.ip) &&
            site->targets[i].at.port == doubt->way.target.port)
            return site->targets[i].dead_until_ns <= io_now_ns(shard->io) ? i : NONE;
    return NONE;
}

bool doubt_fits(const struct shard *shard, const struct queue *queue,
                const struct connection *connection)
{
    uint32_t target = doubt_target(shard, queue);
    const struct doubt *doubt;

    if (target == NONE)
        return true;
    doubt = doubt_find(shard, ready_peek(queue));
    return ipaddr_equal(&connection->lane->source, &doubt->way.source) &&
           ipaddr_equal(&connection->target_at.ip, &doubt->way.target.ip) &&
           connection->target_at.port == doubt->way.target.port;
}
