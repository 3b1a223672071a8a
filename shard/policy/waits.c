#include "shard/policy/waits.h"

#include "core/base/must.h"

#include <math.h>

#define SECOND_NS 1000000000ull
#define HALF_S    (WAITS_HALF_MS / 1000.0f)
/* A moment of a steady reason is worth as much as this many seconds at the end. */
#define MEAN_S    (HALF_S / 0.69314718f)

static float seconds_between(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (float)(to_ns - from_ns) / (float)SECOND_NS : 0;
}

void waits_init(struct waits *waits, uint64_t now_ns)
{
    *waits = (struct waits){.since_ns = now_ns, .faded_ns = now_ns};
}

void waits_note(struct waits *waits, uint8_t reason, uint64_t now_ns)
{
    float spent_s = seconds_between(waits->since_ns, now_ns);
    float left;

    must(reason < WAITS_KINDS);
    waits->since_ns = now_ns;
    /* Reasons change several times with each message: nothing fades within a second. */
    if (now_ns < waits->faded_ns + SECOND_NS) {
        waits->seconds[reason] += spent_s;
        return;
    }
    left = exp2f(-seconds_between(waits->faded_ns, now_ns) / HALF_S);
    for (unsigned i = 0; i < WAITS_KINDS; i++)
        waits->seconds[i] *= left;
    waits->seconds[reason] += MEAN_S * (1 - exp2f(-spent_s / HALF_S));
    waits->faded_ns = now_ns;
}

void waits_shares(const struct waits *waits, float ret_shares[WAITS_KINDS])
{
    float sum = 0;

    for (unsigned i = 1; i < WAITS_KINDS; i++)
        sum += waits->seconds[i];
    ret_shares[0] = 0;
    for (unsigned i = 1; i < WAITS_KINDS; i++)
        ret_shares[i] = sum > 0 ? waits->seconds[i] / sum : 0;
}
