#include "shard/policy/fate.h"

#include "core/base/must.h"
#include "core/base/planted.h"

uint64_t fate_retry_delay_ms(const struct conf_queue *settings, uint32_t attempts, struct rng *rng)
{
    uint32_t step = attempts < settings->retry_count ? attempts : settings->retry_count - 1;
    uint64_t delay_ms, spread_ms;

    must(settings->retry_count > 0 && settings->retry_count <= CONF_RETRY_STEPS_MAX);
    delay_ms = settings->retry_ms[step];
    spread_ms = delay_ms / 10;
    return delay_ms - spread_ms + rng_between(rng, 0, 2 * spread_ms);
}

struct fate fate_of_rcpt(const struct verdict *verdict, const struct conf_queue *settings,
                         uint32_t attempts, uint64_t age_ms, struct rng *rng)
{
    struct fate fate = {.kind = FATE_RETRY, .category = ""};

    if (verdict->class == VERDICT_SUCCESS ||
        (planted("shard/deferral-taken-for-delivery") && verdict->code == 450)) {
        fate.kind = FATE_DELIVERED;
        return fate;
    }
    if (verdict->flags & (VERDICT_TOO_MANY_RCPT | VERDICT_NO_CHUNKING)) {
        fate.kind = FATE_RETRY_AT_ONCE;
        return fate;
    }
    if (verdict->class == VERDICT_PERMANENT) {
        fate.kind = FATE_BOUNCED;
        return fate;
    }
    fate.delay_ms = fate_retry_delay_ms(settings, attempts, rng);
    if (age_ms + fate.delay_ms > settings->bounce_after_ms) {
        fate.kind = FATE_BOUNCED;
        fate.category = "message-expired";
    }
    return fate;
}

bool fate_is_ipv6_refusal(const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict), name = SLICE_LITERAL("ipv6");

    if (!(verdict->flags & VERDICT_FROM_REPLY) || verdict->class == VERDICT_SUCCESS)
        return false;
    if (verdict->class == VERDICT_PERMANENT && verdict->enhanced[1] == 7)
        return true;
    while (text.len >= name.len) {
        if (slice_starts_nocase(text, name))
            return true;
        text = slice_after(text, 1);
    }
    return false;
}

enum fate_route fate_of_session(const struct verdict *verdict, const struct conf_queue *settings)
{
    if (verdict->scope == VERDICT_SOURCE_IP)
        return FATE_REST_SOURCE;
    if (verdict->code == 421 && settings->smtp_421_means_mx_unavailable)
        return FATE_NEXT_TARGET;
    switch (verdict->stage) {
    case VERDICT_AT_CONNECT:
    case VERDICT_AT_GREETING:
    case VERDICT_AT_EHLO:
        return (verdict->flags & VERDICT_FROM_REPLY) != 0 ? FATE_REFUSED : FATE_NEXT_TARGET;
    default:
        return FATE_CLOSE_ONLY;
    }
}
