#include "shard/meters.h"

#include "shard/shard_int.h"

/* A queue with limits for each of its sources has a meter for each of those. */
#define METERS_PER_QUEUE 2u
#define METERS_MORE      4096u

void meters_init(struct shard *shard)
{
    slab_init(&shard->meters.slab, sizeof(struct meter),
              shard->limits.queue_count_max * METERS_PER_QUEUE + METERS_MORE);
    table_init(&shard->meters.by_key);
    list_init(&shard->meters.all);
}

void meters_fini(struct shard *shard)
{
    table_fini(&shard->meters.by_key);
    slab_fini(&shard->meters.slab);
}

static bool match_key(uint32_t value, const void *key, void *context)
{
    const struct meter *meter = slab_at(&((const struct shard *)context)->meters.slab, value);

    return scope_key_equal(&meter->key, key);
}

struct meter *meters_find(const struct shard *shard, const struct meter_key *key)
{
    uint32_t index = table_find(&shard->meters.by_key, scope_key_hash(key), match_key, key,
                                (void *)(uintptr_t)shard);

    return index == TABLE_NONE ? NULL : slab_at(&shard->meters.slab, index);
}

struct meter *meters_obtain(struct shard *shard, const struct meter_key *key)
{
    struct meter *meter = meters_find(shard, key);
    uint32_t index;

    if (!meter) {
        meter = slab_alloc(&shard->meters.slab, &index);
        if (!meter)
            return NULL;
        if (!table_insert(&shard->meters.by_key, scope_key_hash(key), index)) {
            slab_free(&shard->meters.slab, index);
            return NULL;
        }
        list_push_back(&shard->meters.all, &meter->link);
        meter->key = *key;
        meter->index = index;
        /* The hash finds a place in a table by its lowest bits. */
        meter->owner = (uint16_t)((scope_key_hash(key) >> 32) % shard->count);
    }
    meter->refs++;
    return meter;
}

void meters_release(struct shard *shard, struct meter *meter)
{
    must(meter->refs > 0);
    if (--meter->refs > 0)
        return;
    must(!meter->share && !meter->owned);
    list_remove(&meter->link);
    table_remove(&shard->meters.by_key, scope_key_hash(&meter->key), meter->index);
    slab_free(&shard->meters.slab, meter->index);
}

const struct conf_limit *meters_limit(const struct conf *conf, const struct meter_key *key)
{
    return key->limit_id == SCOPE_OF_VMTA ? NULL : conf_limit(conf, key->limit_id);
}

uint64_t meters_connections(const struct conf *conf, const struct meter_key *key)
{
    const struct conf_limit *limit;

    if (key->limit_id == SCOPE_OF_VMTA) {
        const struct conf_vmta *vmta = conf_vmta(conf, (uint32_t)key->values);

        return vmta ? vmta->max_smtp_out : CONF_UNLIMITED;
    }
    limit = conf_limit(conf, key->limit_id);
    /* A block whose scopes were changed counts by other meters. */
    return limit && limit->scopes == key->scopes ? limit->max_smtp_out : CONF_UNLIMITED;
}
