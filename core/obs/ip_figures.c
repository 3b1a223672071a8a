#include "core/obs/ip_figures.h"

#include "core/base/must.h"

void ip_figures_add_srtt(struct ip_figures *figures, uint32_t srtt_us, uint64_t now_ns)
{
    if (srtt_us == 0)
        return;
    figures->counters[IP_SRTT_SAMPLES]++;
    figures->counters[IP_SRTT_SUM_US] += srtt_us;
    if (figures->srtt_min_us == 0 || srtt_us < figures->srtt_min_us)
        figures->srtt_min_us = srtt_us;
    figures->srtt_last_us = srtt_us;
    figures->srtt_last_at_ns = now_ns;
}

static bool has_fallen(const struct ip_figures *now, const struct ip_figures *before)
{
    for (int i = 0; i < IP_COUNTER_COUNT; i++)
        if (now->counters[i] < before->counters[i])
            return true;
    return false;
}

void ip_figures_add(struct ip_figures *into, const struct ip_figures *from,
                    const struct ip_figures *before)
{
    static const struct ip_figures nothing;

    if (before == NULL || has_fallen(from, before))
        before = &nothing;
    for (int i = 0; i < IP_COUNTER_COUNT; i++)
        into->counters[i] += from->counters[i] - before->counters[i];
    if (from->srtt_min_us != 0 && (into->srtt_min_us == 0 || from->srtt_min_us < into->srtt_min_us))
        into->srtt_min_us = from->srtt_min_us;
    if (from->srtt_last_at_ns >= into->srtt_last_at_ns && from->srtt_last_us != 0) {
        into->srtt_last_us = from->srtt_last_us;
        into->srtt_last_at_ns = from->srtt_last_at_ns;
    }
}

const char *ip_counter_key(enum ip_counter counter)
{
    static const char *const keys[] = {
#define IP_COUNTER_KEY(name, key, heading) [name] = key,
        IP_COUNTERS(IP_COUNTER_KEY)
#undef IP_COUNTER_KEY
    };

    must((size_t)counter < sizeof(keys) / sizeof(keys[0]));
    return keys[counter];
}
