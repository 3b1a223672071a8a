#include "shard/replies.h"

#include "shard/policy/provider_rule.h"
#include "shard/shard_int.h"

#include <stdio.h>

/* For ever, of an order that ends by time. */
#define LONGEST_MS (1000 * 86400000ull)

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

/* Nothing new to the provider from the source for a while, or from each source of the queue. */
static void stop(struct shard *shard, struct connection *connection, struct queue *queue,
                 const struct conf_reply_rule *rule, uint64_t for_ms, const struct verdict *verdict)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    struct slice text = verdict_text(verdict);
    char reason[ORDER_REASON_MAX];

    snprintf(reason, sizeof(reason), "%s:%u: %.*s", rule->file, rule->line, (int)text.len,
             (const char *)text.data);
    orders_stop(shard, connection, &connection->lane->source, for_ms, reason);
    for (uint32_t i = 0; rule->scope == CONF_REPLY_OF_PROVIDER && vmta && i < vmta->address_count;
         i++)
        orders_stop(shard, connection, &vmta->addresses[i].ip, for_ms, reason);
}

/* What the reply leaves standing beyond the queue's mode. */
static void heed_orders(struct shard *shard, struct connection *connection, struct queue *queue,
                        const struct react *react, const struct verdict *verdict)
{
    const struct conf_reply_rule *rule = react->source_rule;

    if (rule && (rule->scope == CONF_REPLY_OF_SOURCE_IP || rule->scope == CONF_REPLY_OF_PROVIDER))
        stop(shard, connection, queue, rule,
             rule->disabled_ms < LONGEST_MS ? rule->disabled_ms : LONGEST_MS, verdict);
    else if (rule)
        disable_source(shard, connection, queue, react, verdict);
    rule = react->stop_rule;
    if (rule && (rule->scope == CONF_REPLY_OF_SOURCE_IP || rule->scope == CONF_REPLY_OF_PROVIDER))
        stop(shard, connection, queue, rule, rule->stop_ms, verdict);
}

struct hit {
    struct shard *shard;
    const struct connection *connection;
    const struct queue *queue;
    const struct verdict *verdict;
};

struct slice replies_host(const struct shard *shard, const struct connection *connection)
{
    return connection->host != NAME_NONE ? names_text(&shard->names, connection->host)
                                         : SLICE_EMPTY;
}

static bool is_greylisting(const struct hit *hit)
{
    return react_is_greylisting(hit->verdict, replies_host(hit->shard, hit->connection),
                                hit->shard->category_scratch);
}

/* The value of the rule's scope; what the message says is not known here and counts by queue. */
static uint64_t value_of(const struct hit *hit, const struct conf_reply_rule *rule)
{
    const struct lane *lane = hit->connection->lane;

    if (rule->scope == CONF_REPLY_OF_PROVIDER)
        return lane->site->provider;
    if (rule->scope == CONF_REPLY_OF_SOURCE_IP)
        return hash_combine(lane->site->provider, ipaddr_hash(&lane->source));
    return hash_combine(hash_u64(hit->queue->name), hit->queue->vmta_id);
}

/* Greylisting counts for nothing that would stand. */
static bool fires(void *context, const struct conf_reply_rule *rule)
{
    const struct hit *hit = context;

    return !is_greylisting(hit) && triggers_hit(&hit->shard->triggers, rule, value_of(hit, rule),
                                                io_now_ns(hit->shard->io));
}

/* One attempt more for lines that ask for a share of them. */
static void count_attempt(const struct hit *hit, const struct conf_reply_list *list)
{
    for (uint32_t i = 0; list && i < list->rule_count; i++)
        if (list->rules[i].trigger.percent > 0 && !is_greylisting(hit))
            triggers_attempt(&hit->shard->triggers, &list->rules[i], value_of(hit, &list->rules[i]),
                             io_now_ns(hit->shard->io));
}

struct react replies_heed(struct shard *shard, struct connection *connection, struct queue *queue,
                          const struct verdict *verdict)
{
    struct hit hit = {shard, connection, queue, verdict};
    struct react react;
    struct slice host = replies_host(shard, connection);
    const struct conf_reply_rule *rule;

    count_attempt(&hit, queue->settings.replies);
    react = react_to(queue->settings.replies, verdict, shard->category_scratch, fires, &hit);
    if (react.rule == NULL && verdict->class != VERDICT_SUCCESS) {
        rule = provider_rule(shard->conf, connection->lane->site->provider, verdict, host,
                             shard->category_scratch);
        if (rule == NULL)
            rule = react_unasked(verdict, host, shard->category_scratch);
        if (rule)
            react_add(&react, rule, verdict, fires, &hit);
    }
    modes_on_reply(shard, queue, &react, verdict);
    heed_orders(shard, connection, queue, &react, verdict);
    return react;
}

/* A 5xx that gives nobody up: at once by another source when this one is stopped, else later. */
static void put_off(struct shard *shard, const struct connection *connection,
                    const struct queue *queue, uint32_t attempts, uint64_t age_ms,
                    struct fate *fate)
{
    const struct lane *lane = connection->lane;
    bool is_stopped = orders_stopped_until_ns(shard, lane->site, &lane->source) > 0 ||
                      orders_forbid(shard, queue, &lane->source);

    if (is_stopped && queue->site == lane->site && lane_has_way(shard, queue))
        *fate = (struct fate){.kind = FATE_RETRY_AT_ONCE, .category = ""};
    else
        *fate = fate_of_held(&queue->settings, attempts, age_ms, io_rng(shard->io));
}

void replies_bend_fate(struct shard *shard, struct connection *connection,
                       const struct queue *queue, const struct react *react,
                       const struct verdict *verdict, uint32_t attempts, uint64_t age_ms,
                       struct fate *fate)
{
    const unsigned ends = CONF_REPLY_BOUNCE_RCPT | CONF_REPLY_BOUNCE_QUEUE;

    if (verdict->class == VERDICT_SUCCESS || fate->kind == FATE_RETRY_AT_ONCE)
        return;
    if ((react->actions & ends) != 0 && fate->kind == FATE_RETRY)
        *fate = (struct fate){.kind = FATE_BOUNCED, .category = ""};
    if ((react->actions & CONF_REPLY_DEFER_RCPT) != 0 && (react->actions & ends) == 0 &&
        verdict->class == VERDICT_PERMANENT)
        put_off(shard, connection, queue, attempts, age_ms, fate);
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
    if (react->stop_rule && react->stop_rule->scope == CONF_REPLY_OF_QUEUE) {
        queues_rest_for(shard, queue, verdict, react->stop_rule->stop_ms);
        queue->deferred_until_ns = queue->rest_until_ns;
        return;
    }
    if ((react->actions & CONF_REPLY_DEFER_QUEUE) == 0 || queue->deferred_until_ns > now_ns)
        return;
    queues_rest(shard, queue, verdict);
    queue->deferred_until_ns = queue->rest_until_ns;
}
