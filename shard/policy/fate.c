#include "shard/policy/fate.h"

#include "core/base/must.h"
#include "core/base/planted.h"

static uint64_t delay_of(const uint64_t *steps_ms, uint32_t count, uint32_t attempts,
                         struct rng *rng)
{
    uint64_t delay_ms, spread_ms;

    must(count > 0 && count <= CONF_RETRY_STEPS_MAX);
    delay_ms = steps_ms[attempts < count ? attempts : count - 1];
    spread_ms = delay_ms / 10;
    return delay_ms - spread_ms + rng_between(rng, 0, 2 * spread_ms);
}

uint64_t fate_retry_delay_ms(const struct conf_queue *settings, uint32_t attempts, struct rng *rng)
{
    return delay_of(settings->retry_ms, settings->retry_count, attempts, rng);
}

/* A recipient that the receiver itself put off may have waits of its own. */
static uint64_t rcpt_delay_ms(const struct verdict *verdict, const struct conf_queue *settings,
                              uint32_t attempts, struct rng *rng)
{
    if (settings->rcpt_retry_count > 0 && verdict->scope == VERDICT_RECIPIENT &&
        (verdict->flags & VERDICT_FROM_REPLY) != 0)
        return delay_of(settings->rcpt_retry_ms, settings->rcpt_retry_count, attempts, rng);
    return fate_retry_delay_ms(settings, attempts, rng);
}

/* The user has said what a message becomes that was lost on its way over, by the network or by the
 * receiver's silence (x.4.x); what we break off ourselves is no such thing. */
static bool is_decided(const struct verdict *verdict, const struct conf_queue *settings,
                       enum fate_kind *ret_kind)
{
    bool is_lost = verdict->class == VERDICT_TRANSIENT &&
                   (verdict->flags & VERDICT_FROM_REPLY) == 0 && verdict->enhanced[1] == 4 &&
                   (verdict->stage == VERDICT_AT_BODY || verdict->stage == VERDICT_AT_DOT);

    if (!is_lost)
        return false;
    if (settings->assume_delivery_upon_timeout && (verdict->flags & VERDICT_IN_DOUBT) != 0 &&
        (verdict->flags & VERDICT_TIMED_OUT) != 0)
        *ret_kind = FATE_DELIVERED;
    else if (settings->bounce_upon_transfer_failure)
        *ret_kind = FATE_BOUNCED;
    else
        return false;
    return true;
}

/* Again after a delay, unless its time is over by then. */
static struct fate fate_after(const struct conf_queue *settings, uint64_t delay_ms, uint64_t age_ms)
{
    struct fate fate = {.kind = FATE_RETRY, .delay_ms = delay_ms, .category = ""};

    if (age_ms + delay_ms > settings->bounce_after_ms) {
        fate.kind = FATE_BOUNCED;
        fate.category = "message-expired";
    }
    return fate;
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
    if (is_decided(verdict, settings, &fate.kind))
        return fate;
    return fate_after(settings, rcpt_delay_ms(verdict, settings, attempts, rng), age_ms);
}

struct fate fate_of_held(const struct conf_queue *settings, uint32_t attempts, uint64_t age_ms,
                         struct rng *rng)
{
    return fate_after(settings, fate_retry_delay_ms(settings, attempts, rng), age_ms);
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
    bool is_reply = (verdict->flags & VERDICT_FROM_REPLY) != 0;

    if (verdict->scope == VERDICT_SOURCE_IP)
        return FATE_REST_SOURCE;
    if (verdict->code == 421 && settings->smtp_421_means_mx_unavailable &&
        (is_reply || (verdict->stage != VERDICT_AT_AUTH && verdict->stage != VERDICT_AT_TLS)))
        return FATE_NEXT_TARGET;
    switch (verdict->stage) {
    case VERDICT_AT_CONNECT:
    case VERDICT_AT_GREETING:
    case VERDICT_AT_EHLO:
        return is_reply ? FATE_REFUSED : FATE_NEXT_TARGET;
    case VERDICT_AT_AUTH:
        /* It answers, and does not know us. That is no fault of the host, which others may use. */
        return is_reply || verdict->enhanced[1] == 7 ? FATE_REFUSED : FATE_NEXT_TARGET;
    case VERDICT_AT_TLS:
        /* 421 is about the connection; anything else, about TLS there. */
        return is_reply && verdict->code == 421 ? FATE_REFUSED : FATE_NO_TLS;
    default:
        return FATE_CLOSE_ONLY;
    }
}
