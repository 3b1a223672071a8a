#include "shard/timely.h"

#include "core/base/must.h"
#include "queue/terms.h"
#include "shard/shard_int.h"

static bool is_expired(struct shard *shard, const struct queue *queue, uint32_t index,
                       uint64_t now_us)
{
    const struct queued *queued = slab_at(&shard->queued, index);

    if (queued->has_expiry)
        return now_us / 1000000 >= expiries_get(&shard->expiries, index);
    return now_us > queued_accepted_us(queued) &&
           (now_us - queued_accepted_us(queued)) / 1000 > queue->settings.bounce_after_ms;
}

bool timely_head_is_expired(struct shard *shard, const struct queue *queue)
{
    const struct ready *ready = &queue->ready;
    uint32_t index = ready->apart_count > 0 ? ready->apart_head : ready_oldest(queue);

    return index != NONE && is_expired(shard, queue, index, io_wall_us(shard->io));
}

void timely_set_expired_apart(struct shard *shard, struct queue *queue)
{
    if (!expiries_are_empty(&shard->expiries))
        ready_set_apart_by(shard, queue, is_expired, io_wall_us(shard->io));
}

static void read_terms(const struct message *message, struct terms *terms)
{
    int result = terms_decode(message->envelope.terms, terms);

    /* The envelope would not have been decoded. */
    must(result == 0);
}

uint64_t timely_next_us(struct shard *shard, const struct message *message)
{
    uint64_t now_us = io_wall_us(shard->io), next_us;
    struct terms terms;

    read_terms(message, &terms);
    next_us = terms_next_us(&terms, now_us);
    return next_us == now_us ? 0 : next_us;
}

/* The queue's settings as the message's terms bend them. */
static void bend(const struct terms *terms, const struct message *message,
                 struct conf_queue *settings)
{
    uint64_t accepted_us = message->envelope.accepted_us;

    if (terms->expires_us > 0)
        settings->bounce_after_ms =
            terms->expires_us > accepted_us ? (terms->expires_us - accepted_us) / 1000 : 0;
    for (uint32_t i = 0; i < terms->retry_count; i++)
        settings->retry_ms[i] = (uint64_t)terms->retry_s[i] * 1000;
    if (terms->retry_count > 0) {
        settings->retry_count = terms->retry_count;
        settings->rcpt_retry_count = 0;
    }
}

struct fate timely_fate(struct shard *shard, const struct message *message,
                        const struct conf_queue *settings, const struct queued *queued,
                        const struct verdict *verdict, uint64_t age_ms)
{
    struct rng *rng = io_rng(shard->io);
    struct conf_queue bent;
    struct terms terms;
    struct fate fate;
    uint64_t due_us, next_us;

    if (!message || message->envelope.terms.len == 0)
        return fate_of_rcpt(verdict, settings, queued_attempts(queued), age_ms, rng);
    read_terms(message, &terms);
    bent = *settings;
    bend(&terms, message, &bent);
    fate = fate_of_rcpt(verdict, &bent, queued_attempts(queued), age_ms, rng);
    if (fate.kind != FATE_RETRY)
        return fate;
    due_us = io_wall_us(shard->io) + fate.delay_ms * 1000;
    next_us = terms_next_us(&terms, due_us);
    if (next_us == TERMS_NEVER)
        fate = (struct fate){.kind = FATE_BOUNCED, .category = "message-expired"};
    else
        fate.delay_ms += (next_us - due_us + 999) / 1000;
    return fate;
}
