#include "shard/firsts.h"

#include "core/base/mem.h"
#include "shard/shard_int.h"

#define FIRSTS_MIN 1024u

void firsts_fini(struct shard *shard)
{
    mem_free(shard->firsts.at_s);
    shard->firsts = (struct firsts){0};
}

/* Without memory the time is not known. */
static void grow(struct firsts *firsts, uint32_t count)
{
    uint32_t capacity = firsts->capacity > 0 ? firsts->capacity : FIRSTS_MIN;
    uint32_t *at_s;

    while (capacity < count)
        capacity = capacity > UINT32_MAX / 2 ? UINT32_MAX : capacity * 2;
    at_s = mem_try_grow(firsts->at_s, (size_t)capacity * sizeof(*at_s));
    if (!at_s)
        return;
    memset(at_s + firsts->capacity, 0, (size_t)(capacity - firsts->capacity) * sizeof(*at_s));
    firsts->at_s = at_s;
    firsts->capacity = capacity;
}

void firsts_put(struct shard *shard, uint32_t queued_index, uint32_t at_s)
{
    struct firsts *firsts = &shard->firsts;

    if (at_s != 0 && queued_index >= firsts->capacity)
        grow(firsts, queued_index + 1);
    if (queued_index < firsts->capacity)
        firsts->at_s[queued_index] = at_s;
}

uint32_t firsts_at(const struct shard *shard, uint32_t queued_index)
{
    const struct firsts *firsts = &shard->firsts;

    return queued_index < firsts->capacity ? firsts->at_s[queued_index] : 0;
}

uint64_t firsts_note(struct shard *shard, uint32_t queued_index, uint64_t first_us)
{
    if (!conf_global(shard->conf)->track_first_attempt)
        return 0;
    if (first_us != 0)
        firsts_put(shard, queued_index, (uint32_t)(first_us / 1000000));
    return (uint64_t)firsts_at(shard, queued_index) * 1000000;
}
