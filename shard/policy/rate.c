#include "shard/policy/rate.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/policy/volume.h"

uint64_t rate_step_ns(uint64_t count, uint64_t interval_ms)
{
    uint64_t interval_ns =
        interval_ms < RATE_STEP_MAX / 1000000 ? interval_ms * 1000000 : RATE_STEP_MAX;

    if (count == UINT64_MAX)
        return 0;
    if (count == 0)
        return RATE_STEP_MAX;
    /* The last of N + 1 in a row may be in time and the first one late. */
    interval_ns += RATE_LATE_NS;
    return interval_ns / count + (interval_ns % count > 0);
}

void rate_init(struct rate *rate, uint64_t step_ns, uint64_t now_ns)
{
    *rate = (struct rate){.step_ns = step_ns, .next_ns = now_ns + step_ns};
}

void rate_change(struct rate *rate, uint64_t step_ns, uint64_t now_ns)
{
    uint64_t used_ns;

    if (rate->step_ns == step_ns)
        return;
    if (rate->step_ns == 0) {
        rate_init(rate, step_ns, now_ns);
        return;
    }
    used_ns = rate->next_ns > rate->step_ns ? rate->next_ns - rate->step_ns : 0;
    rate->step_ns = step_ns;
    rate->next_ns = used_ns + step_ns;
}

void rate_set_burst(struct rate *rate, uint64_t count, uint64_t interval_ms, uint64_t burst,
                    uint64_t now_ns)
{
    if (rate->step_ns == 0 || burst <= 1) {
        rate_fini(rate);
        return;
    }
    if (rate->bank) {
        volume_change(rate->bank, count, interval_ms, burst, now_ns);
        return;
    }
    rate->bank = mem_alloc(sizeof(*rate->bank));
    volume_init(rate->bank, count, interval_ms, burst, now_ns);
}

void rate_fini(struct rate *rate)
{
    mem_free(rate->bank);
    rate->bank = NULL;
}

struct rate_past rate_past(const struct rate *rate, uint64_t now_ns)
{
    struct rate_past past = {.next_ns = rate->next_ns};

    if (rate->bank) {
        past.next_ns = rate->bank->free_ns;
        past.sum = volume_sum(rate->bank, now_ns, &past.last_ns);
    }
    return past;
}

void rate_resume(struct rate *rate, const struct rate_past *past)
{
    if (rate->bank)
        volume_resume(rate->bank, past->next_ns, past->sum, past->last_ns);
    else if (rate->step_ns != 0 && past->next_ns > rate->next_ns)
        rate->next_ns = past->next_ns;
}

uint64_t rate_due_ns(const struct rate *rate)
{
    return rate->bank ? volume_due_ns(rate->bank, 1) : rate->next_ns;
}

bool rate_is_owed(const struct rate *rate, uint64_t now_ns)
{
    if (rate->bank)
        return volume_is_owed(rate->bank, now_ns);
    return rate->step_ns != 0 && rate->next_ns > now_ns;
}

/* Older ones are lost. */
static uint64_t oldest_token_ns(const struct rate *rate, uint64_t now_ns)
{
    uint64_t floor_ns = now_ns > RATE_LATE_NS ? now_ns - RATE_LATE_NS : 0;

    return rate->next_ns > floor_ns ? rate->next_ns : floor_ns;
}

uint32_t rate_allowed(const struct rate *rate, uint64_t now_ns)
{
    uint64_t oldest_ns = oldest_token_ns(rate, now_ns), count;

    if (rate->step_ns == 0)
        return UINT32_MAX;
    if (rate->bank) {
        count = volume_allowed(rate->bank, now_ns, 0);
        return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
    }
    if (oldest_ns > now_ns)
        return 0;
    count = (now_ns - oldest_ns) / rate->step_ns + 1;
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

void rate_use(struct rate *rate, uint64_t now_ns, uint32_t count)
{
    if (rate->step_ns == 0 || count == 0)
        return;
    must(count <= rate_allowed(rate, now_ns));
    if (rate->bank) {
        volume_use(rate->bank, count, now_ns);
        return;
    }
    rate->next_ns = oldest_token_ns(rate, now_ns) + count * rate->step_ns;
}
