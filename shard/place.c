#include "shard/place.h"

#include "core/base/hash.h"
#include "core/base/mem.h"

#define NOT_DEALT UINT16_MAX

struct place {
    uint16_t shard_count;
    uint32_t id_count;
    uint16_t *turns; /* [id_count]: a VMTA's shard, counted from that of the site */
    uint32_t *loads; /* [shard_count]: members of the pool at hand, while the table is made */
};

static uint16_t least_loaded(const struct place *place)
{
    uint16_t best = 0;

    for (uint16_t i = 1; i < place->shard_count; i++)
        if (place->loads[i] < place->loads[best])
            best = i;
    return best;
}

static void deal(struct place *place, uint32_t vmta_id)
{
    if (place->turns[vmta_id] == NOT_DEALT)
        place->turns[vmta_id] = least_loaded(place);
    place->loads[place->turns[vmta_id]]++;
}

static void deal_pool(struct place *place, const struct conf_pool *pool)
{
    memset(place->loads, 0, place->shard_count * sizeof(*place->loads));
    /* Those that an earlier pool has placed come first: the others make up for them. */
    for (uint32_t i = 0; i < pool->vmta_count; i++)
        if (place->turns[pool->vmta_ids[i]] != NOT_DEALT)
            deal(place, pool->vmta_ids[i]);
    for (uint32_t i = 0; i < pool->vmta_count; i++)
        if (place->turns[pool->vmta_ids[i]] == NOT_DEALT)
            deal(place, pool->vmta_ids[i]);
}

/* Room for every id of the snapshot. */
static void grow(struct place *place, const struct conf *conf)
{
    uint32_t id_count = conf_vmta_id_end(conf);

    if (id_count <= place->id_count)
        return;
    place->turns = mem_alloc_larger(place->turns, place->id_count * sizeof(*place->turns),
                                    id_count * sizeof(*place->turns));
    while (place->id_count < id_count)
        place->turns[place->id_count++] = NOT_DEALT;
}

void place_update(struct place *place, const struct conf *conf)
{
    uint32_t vmta_count = conf_vmta_count(conf);

    grow(place, conf);
    for (uint32_t i = 0; i < conf_pool_count(conf); i++)
        deal_pool(place, conf_pool_at(conf, i));
    memset(place->loads, 0, place->shard_count * sizeof(*place->loads));
    for (uint32_t i = 0; i < vmta_count; i++)
        if (place->turns[conf_vmta_at(conf, i)->id] == NOT_DEALT)
            deal(place, conf_vmta_at(conf, i)->id);
}

struct place *place_create(const struct conf *conf, uint16_t shard_count)
{
    struct place *place = mem_alloc(sizeof(*place));

    place->shard_count = shard_count;
    place->loads = mem_alloc(shard_count * sizeof(*place->loads));
    place_update(place, conf);
    return place;
}

void place_destroy(struct place *place)
{
    if (!place)
        return;
    mem_free(place->turns);
    mem_free(place->loads);
    mem_free(place);
}

uint16_t place_site(const struct place *place, uint64_t site_hash, uint32_t vmta_id)
{
    uint16_t turn = vmta_id < place->id_count ? place->turns[vmta_id] : NOT_DEALT;

    return (uint16_t)((site_hash + (turn == NOT_DEALT ? 0 : turn)) % place->shard_count);
}

uint16_t place_base(const struct place *place, struct slice domain, uint32_t vmta_id)
{
    uint64_t hash = hash_combine(hash_bytes(domain.data, domain.len), vmta_id);

    return (uint16_t)(hash % place->shard_count);
}
