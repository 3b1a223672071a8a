#include "shard/expiry.h"

#include "core/base/must.h"

struct expiry {
    uint32_t index;
    uint32_t expires_s;
};

void expiries_init(struct expiries *expiries, uint32_t count_max)
{
    table_init(&expiries->table);
    slab_init(&expiries->slab, sizeof(struct expiry), count_max);
}

void expiries_fini(struct expiries *expiries)
{
    table_fini(&expiries->table);
    slab_fini(&expiries->slab);
}

static bool match_index(uint32_t value, const void *key, void *context)
{
    const struct slab *slab = context;
    const struct expiry *expiry = slab_at(slab, value);

    return expiry->index == *(const uint32_t *)key;
}

static uint32_t find(const struct expiries *expiries, uint32_t index)
{
    uint32_t place = table_find(&expiries->table, hash_u64(index), match_index, &index,
                                (void *)(uintptr_t)&expiries->slab);

    must(place != TABLE_NONE);
    return place;
}

bool expiries_put(struct expiries *expiries, uint32_t index, uint32_t expires_s)
{
    struct expiry *expiry;
    uint32_t place;

    expiry = slab_alloc(&expiries->slab, &place);
    if (!expiry)
        return false;
    *expiry = (struct expiry){index, expires_s};
    if (table_insert(&expiries->table, hash_u64(index), place))
        return true;
    slab_free(&expiries->slab, place);
    return false;
}

uint32_t expiries_get(const struct expiries *expiries, uint32_t index)
{
    const struct expiry *expiry = slab_at(&expiries->slab, find(expiries, index));

    return expiry->expires_s;
}

void expiries_drop(struct expiries *expiries, uint32_t index)
{
    uint32_t place = find(expiries, index);

    table_remove(&expiries->table, hash_u64(index), place);
    slab_free(&expiries->slab, place);
}
