#include "tests/sim/product/pace.h"

#include "shard/shard_int.h"

/* The shards' common distance between tokens, 0 when there is no bound, or they differ for now. */
static uint64_t common_limit_ns(struct shard *const *shards, uint16_t count, uint32_t id)
{
    uint64_t limit_ns = 0;

    for (uint16_t i = 0; i < count; i++) {
        const struct rates *rates = &shards[i]->rates;
        const struct purse *purse = id < rates->vmta_count ? rates->purses[id] : NULL;

        if (!purse || (i > 0 && purse->limit_ns != limit_ns))
            return 0;
        limit_ns = purse->limit_ns;
    }
    return limit_ns;
}

static uint64_t total_of(const struct shard *shard, uint32_t id)
{
    const struct rates *rates = &shard->rates;

    return id < rates->vmta_count && rates->purses[id] ? rates->purses[id]->taken : 0;
}

static const char *note(struct pace_vmta *seen, const struct conf_rate *rate, uint64_t now_ns)
{
    uint64_t *before_ns = &seen->times_ns[seen->count % rate->count];
    bool is_early = seen->count >= rate->count && now_ns - *before_ns < rate->interval_ms * 1000000;

    seen->count++;
    *before_ns = now_ns;
    return is_early ? "a virtual MTA's rate was exceeded" : NULL;
}

/* What shards have let through since the last look. */
static const char *look(struct pace_vmta *seen, const struct conf_rate *rate,
                        struct shard *const *shards, uint16_t count, uint32_t id)
{
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t total = total_of(shards[i], id);

        for (; seen->totals[i] < total; seen->totals[i]++)
            if (rate && !text)
                text = note(seen, rate, io_now_ns(shards[i]->io));
    }
    return text;
}

const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards, uint16_t count)
{
    const char *text = NULL;

    for (uint32_t id = 0; id < PACE_VMTAS_MAX && !text; id++) {
        const struct conf_vmta *vmta = conf_vmta(shards[0]->conf, id);
        const struct conf_rate *rate = vmta ? &vmta->max_smtp_msg_rate : NULL;
        uint64_t limit_ns = common_limit_ns(shards, count, id);
        struct pace_vmta *seen = &pace->vmtas[id];

        if (pace->life != life)
            memset(seen->totals, 0, sizeof(seen->totals));
        if (limit_ns != seen->limit_ns)
            seen->count = 0;
        seen->limit_ns = limit_ns;
        must(limit_ns == 0 || (rate && rate->count <= PACE_COUNT_MAX));
        text = look(seen, limit_ns != 0 ? rate : NULL, shards, count, id);
    }
    pace->life = life;
    return text;
}
