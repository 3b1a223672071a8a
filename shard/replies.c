#include "shard/replies.h"

#include "shard/shard_int.h"

#include <stdio.h>

/* The queue does not use the source any more that the reply came to. */
static void disable_source(struct shard *shard, const struct connection *connection,
                           struct queue *queue, const struct react *react,
                           const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict);
    uint64_t for_ms = react->disabled_ms;
    char reason[ORDER_REASON_MAX];

    if (for_ms == CONF_REPLY_NO_TIME)
        for_ms = queue->settings.reenable_source_ip_after_ms;
    snprintf(reason, sizeof(reason), "%s:%u: %.*s", react->source_rule->file,
             react->source_rule->line, (int)text.len, (const char *)text.data);
    if (!orders_disable_source(shard, queue, &connection->lane->source, for_ms, reason))
        return;
    if (queue->settings.backoff_upon_all_sources_disabled && orders_disable_all(shard, queue))
        modes_back_off(shard, queue, "every source address is disabled");
}

struct react replies_heed(struct shard *shard, struct connection *connection, struct queue *queue,
                          const struct verdict *verdict)
{
    struct react react = react_to(queue->settings.replies, verdict, shard->category_scratch);

    modes_on_reply(shard, queue, &react, verdict);
    if (react.source_rule)
        disable_source(shard, connection, queue, &react, verdict);
    return react;
}

void replies_bend_fate(struct shard *shard, struct connection *connection,
                       const struct react *react, const struct verdict *verdict, struct fate *fate)
{
    const unsigned ends = CONF_REPLY_BOUNCE_RCPT | CONF_REPLY_BOUNCE_QUEUE;

    if (verdict->class == VERDICT_SUCCESS || fate->kind == FATE_RETRY_AT_ONCE)
        return;
    if ((react->actions & ends) != 0 && fate->kind == FATE_RETRY)
        *fate = (struct fate){.kind = FATE_BOUNCED, .category = ""};
    /* No attempt is counted as long as there is another host: each is asked once. */
    if ((react->actions & CONF_REPLY_SKIP_MX) != 0 && target_pass_by(shard, connection))
        *fate = (struct fate){.kind = FATE_RETRY_AT_ONCE, .category = ""};
}

void replies_act(struct shard *shard, struct queue *queue, const struct react *react,
                 const struct verdict *verdict)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (queue->stay != QUEUE_HERE || verdict->class == VERDICT_SUCCESS)
        return;
    if ((react->actions & CONF_REPLY_BOUNCE_QUEUE) != 0 && queue->local == LOCAL_NONE)
        queues_bounce(shard, queue, verdict);
    /* Refusals of what else was under way are the same one. */
    if ((react->actions & CONF_REPLY_DEFER_QUEUE) == 0 || queue->deferred_until_ns > now_ns)
        return;
    queues_rest(shard, queue, verdict);
    queue->deferred_until_ns = queue->rest_until_ns;
}
