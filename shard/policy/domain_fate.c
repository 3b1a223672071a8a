#include "shard/policy/domain_fate.h"

#include "core/base/planted.h"
#include "shard/policy/fate.h"

#define MS_NS      1000000ull
#define OUTLOOK_MS 300000 /* the witnesses that were asked again have answered by then */

/* RFC 7505 section 4: the only bad answer that somebody must have meant. */
static bool is_null_mx(const struct verdict *verdict)
{
    static const uint8_t null_mx[3] = {5, 1, 10};

    return memcmp(verdict->enhanced, null_mx, sizeof(null_mx)) == 0;
}

/* Spread downwards only: the directive is the longest wait. */
static uint64_t no_answer_delay_ms(const struct conf_queue *settings, struct rng *rng)
{
    return settings->dns_retry_ms - rng_between(rng, 0, settings->dns_retry_ms / 5);
}

static struct domain_fate second_answer(const struct domain_facts *facts, struct rng *rng)
{
    struct domain_fate fate = {
        .kind = DOMAIN_DOUBT,
        .delay_ms = fate_retry_delay_ms(facts->settings, facts->failures, rng),
        .doubt_ends_ns = facts->doubt_ends_ns,
    };

    if (facts->doubt_ends_ns == 0 || facts->outlook == DNS_OUTLOOK_BAD) {
        /* The first, or one that proves nothing, nor do those before it. */
        fate.doubt_ends_ns = facts->now_ns + DOMAIN_DOUBT_MS * MS_NS;
    } else if (facts->now_ns >= facts->doubt_ends_ns) {
        if (facts->outlook == DNS_OUTLOOK_GOOD)
            fate.kind = DOMAIN_FAIL;
        else
            fate.delay_ms = OUTLOOK_MS;
    }
    return fate;
}

struct domain_fate domain_fate_of(const struct domain_facts *facts, struct rng *rng)
{
    const struct conf_queue *settings = facts->settings;
    struct domain_fate fate = {.doubt_ends_ns = facts->doubt_ends_ns};

    if (facts->verdict->class == VERDICT_SUCCESS) {
        fate.kind = DOMAIN_USE;
        fate.doubt_ends_ns = 0;
    } else if (facts->verdict->class == VERDICT_TRANSIENT) {
        fate.kind = DOMAIN_LATER;
        fate.delay_ms = no_answer_delay_ms(settings, rng);
    } else if (is_null_mx(facts->verdict) || planted("shard/first-bad-answer-is-final")) {
        fate.kind = DOMAIN_FAIL;
    } else if (settings->bounce_upon_no_mx && facts->outlook != DNS_OUTLOOK_BAD) {
        fate.kind = DOMAIN_FAIL;
        fate.fail_age_ms = settings->bounce_upon_no_mx_after_ms;
        /* For the mail that is too young. */
        fate.delay_ms = fate_retry_delay_ms(settings, facts->failures, rng);
    } else {
        fate = second_answer(facts, rng);
    }
    return fate;
}
