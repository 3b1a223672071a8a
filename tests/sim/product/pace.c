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

static uint64_t total_of(struct shard *const *shards, uint16_t count, uint32_t id)
{
    uint64_t total = 0;

    for (uint16_t i = 0; i < count; i++) {
        const struct rates *rates = &shards[i]->rates;

        if (id < rates->vmta_count && rates->purses[id])
            total += rates->purses[id]->taken;
    }
    return total;
}

static const char *note(struct pace_vmta *seen, const struct conf_rate *rate, uint64_t now_ns)
{
    uint64_t *before_ns = &seen->times_ns[seen->count % rate->count];
    bool is_early = seen->count >= rate->count && now_ns - *before_ns < rate->interval_ms * 1000000;

    seen->count++;
    *before_ns = now_ns;
    return is_early ? "a virtual MTA's rate was exceeded" : NULL;
}

const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards, uint16_t count,
                      uint64_t now_ns)
{
    const char *text = NULL;

    for (uint32_t id = 0; id < PACE_VMTAS_MAX && !text; id++) {
        const struct conf_vmta *vmta = conf_vmta(shards[0]->conf, id);
        uint64_t limit_ns = common_limit_ns(shards, count, id);
        struct pace_vmta *seen = &pace->vmtas[id];
        uint64_t total = total_of(shards, count, id);
        uint64_t before = pace->life == life ? seen->total : 0;

        seen->total = total;
        if (limit_ns != seen->limit_ns)
            seen->count = 0;
        seen->limit_ns = limit_ns;
        must(limit_ns == 0 || (vmta && vmta->max_smtp_msg_rate.count <= PACE_COUNT_MAX));
        for (uint64_t i = before; i < total && limit_ns != 0 && !text; i++)
            text = note(seen, &vmta->max_smtp_msg_rate, now_ns);
    }
    pace->life = life;
    return text;
}
