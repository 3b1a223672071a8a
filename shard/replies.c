#include "shard/replies.h"

#include "shard/author.h"
#include "shard/policy/provider_rule.h"
#include "shard/shard_int.h"

#include <stdio.h>

/* For ever, of an order that ends by time. */
#define LONGEST_MS (1000 * 86400000ull)

/* Its scope is known when a message is. */
static bool is_of_message(const struct conf_reply_rule *rule)
{
    return rule->scope == CONF_REPLY_OF_SENDER_DOMAIN || rule->scope == CONF_REPLY_OF_JOB;
}

/* The queue does not use the source any more that the reply came to. */
static void disable_source(struct shard *shard, const struct connection *connection,
                           struct queue *queue, const struct conf_reply_rule *rule,
                           const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict);
    uint64_t for_ms = rule->disabled_ms;
    char reason[ORDER_REASON_MAX];

    if (for_ms == CONF_REPLY_NO_TIME)
        for_ms = queue->settings.reenable_source_ip_after_ms;
    snprintf(reason, sizeof(reason), "%s:%u: %.*s", rule->file, rule->line, (int)text.len,
             (const char *)text.data);
    if (!orders_disable_source(shard, queue, &connection->lane->source, for_ms, reason))
        return;
    if (queue->settings.backoff_upon_all_sources_disabled && orders_disable_all(shard, queue))
        modes_back_off(shard, queue, CONF_REPLY_NO_TIME, "every source address is disabled");
}

struct hit {
    struct shard *shard;
    struct connection *connection;
    struct queue *queue;
    const struct message *message; /* or NULL: the reply was to none */
    const struct verdict *verdict;
};

static void put_reason(const struct hit *hit, const struct conf_reply_rule *rule,
                       char reason[ORDER_REASON_MAX])
{
    struct slice text = verdict_text(hit->verdict);

    snprintf(reason, ORDER_REASON_MAX, "%s:%u: %.*s", rule->file, rule->line, (int)text.len,
             (const char *)text.data);
}

/* Whose state it would be. False when that is a message's, and the reply is to none. */
static bool name_order(const struct hit *hit, const struct conf_reply_rule *rule,
                       struct hit_facts *facts)
{
    const struct lane *lane = hit->connection->lane;

    if (is_of_message(rule))
        return hit->message && orders_name_mail(lane->site, hit->message,
                                                rule->scope == CONF_REPLY_OF_JOB, &facts->order);
    facts->order.kind = ORDER_STOP;
    facts->order.source = lane->source;
    facts->of_all_sources = rule->scope == CONF_REPLY_OF_PROVIDER;
    facts->of_netblock = rule->scope == CONF_REPLY_OF_NETBLOCK;
    orders_name_provider(lane->site, facts->order.who, sizeof(facts->order.who));
    return true;
}

static uint64_t at_most(uint64_t ms, uint64_t most_ms)
{
    return ms < most_ms ? ms : most_ms;
}

/* What is kept from going out, for how long. Of a message's mail there is no mode: less of it goes
 * out by stopping it. */
static void put_times(const struct hit *hit, const struct conf_reply_rule *rule,
                      struct hit_facts *facts)
{
    const struct conf_queue *settings = &hit->queue->settings;
    bool is_said = rule->backoff_ms != CONF_REPLY_NO_TIME;
    uint64_t disabled_ms = rule->disabled_ms != CONF_REPLY_NO_TIME
                               ? rule->disabled_ms
                               : settings->reenable_source_ip_after_ms;

    facts->stop_ms = rule->stop_ms;
    if ((facts->actions & CONF_REPLY_STOP) == 0)
        facts->stop_ms = at_most(disabled_ms, LONGEST_MS);
    if (facts->actions & CONF_REPLY_DISABLE_SOURCE)
        facts->actions |= CONF_REPLY_STOP;
    facts->backoff_ms = is_said ? rule->backoff_ms : settings->backoff_to_normal_after_ms;
    if (!is_of_message(rule) || (facts->actions & CONF_REPLY_BACKOFF) == 0)
        return;
    if ((facts->actions & CONF_REPLY_STOP) == 0)
        facts->stop_ms =
            at_most(is_said ? rule->backoff_ms : settings->backoff_retry_ms[0], LONGEST_MS);
    facts->actions |= CONF_REPLY_STOP;
}

/* What is needed to do those of the rule's actions whose scope is not the queue. */
static void note_actions(const struct hit *hit, const struct conf_reply_rule *rule,
                         unsigned actions, struct hit_facts *ret_facts)
{
    struct slice domain = names_text(&hit->shard->names, hit->queue->name);

    *ret_facts = (struct hit_facts){
        .actions = rule->actions & actions & CONF_REPLY_STANDING,
        .opened_ns = hit->connection->opened_ns,
        .began_ns = hit->connection->busy_since_ns,
        .vmta_id = hit->queue->vmta_id,
        .domain_len = (uint8_t)domain.len,
    };
    memcpy(ret_facts->domain, domain.data, domain.len);
    put_reason(hit, rule, ret_facts->order.reason);
    put_times(hit, rule, ret_facts);
    if (!name_order(hit, rule, ret_facts))
        ret_facts->actions = 0;
}

/* hits_fill_fn; of a line whose scope is not the queue. */
static void note_hit(const void *context, const struct conf_reply_rule *rule,
                     struct hit_facts *ret_facts)
{
    note_actions(context, rule, CONF_REPLY_STANDING, ret_facts);
}

/* What receivers take for one neighbour: an IPv4 /24, an IPv6 /64. */
static size_t netblock_bytes(const struct ipaddr *ip)
{
    return ip->family == IPADDR_V6 ? 8 : 3;
}

static struct ipaddr netblock_of(const struct ipaddr *ip)
{
    struct ipaddr block = *ip;
    size_t kept = netblock_bytes(ip);

    memset(block.bytes + kept, 0, sizeof(block.bytes) - kept);
    return block;
}

/* Asked of every address of ours, and by a line that matches deliveries for each of them. */
static bool are_neighbours(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, netblock_bytes(a)) == 0;
}

/* Of that source at the provider, or, where the source is none, of that mail. */
static void order_one(struct shard *shard, const struct hit_facts *facts,
                      const struct ipaddr *source)
{
    struct order_facts order = facts->order;
    bool is_of_mail = order_is_of_mail(order.kind);

    order.source = *source;
    if (facts->actions & CONF_REPLY_STOP)
        orders_stop(shard, &order, is_of_mail ? facts->began_ns : facts->opened_ns, facts->stop_ms);
    order.kind = is_of_mail ? order.kind : ORDER_BACKOFF;
    if ((facts->actions & CONF_REPLY_BACKOFF) != 0 && !is_of_mail)
        orders_back_off(shard, &order, facts->backoff_ms);
    if (facts->actions & CONF_REPLY_NORMAL)
        orders_let_end(shard, &order, facts->began_ns);
}

static void order_sources(struct shard *shard, const struct hit_facts *facts,
                          const struct conf_vmta *vmta)
{
    for (uint32_t i = 0; i < vmta->address_count; i++)
        if (!facts->of_netblock || are_neighbours(&vmta->addresses[i].ip, &facts->order.source))
            order_one(shard, facts, &vmta->addresses[i].ip);
}

/* At the provider, for the source, each source of the queue or each of the block; or for that mail.
 * The queue that saw the reply obeys within the turn. */
static void order_all(struct shard *shard, const struct hit_facts *facts, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, facts->vmta_id);

    if (facts->actions == 0)
        return;
    order_one(shard, facts, &facts->order.source);
    if (facts->of_all_sources && vmta)
        order_sources(shard, facts, vmta);
    for (uint32_t i = 0; facts->of_netblock && i < conf_vmta_count(shard->conf); i++)
        order_sources(shard, facts, conf_vmta_at(shard->conf, i));
    if (queue)
        orders_look_at(shard, queue);
}

void replies_on_fired(struct shard *shard, const struct hit_facts *facts)
{
    order_all(shard, facts,
              queues_find(shard, slice_of(facts->domain, facts->domain_len), facts->vmta_id));
}

/* Those of the rule's actions that no line before it contradicts. */
static unsigned granted(const struct react_lines *lines, const struct conf_reply_rule *rule)
{
    return (rule == lines->source ? CONF_REPLY_DISABLE_SOURCE : 0u) |
           (rule == lines->stop ? CONF_REPLY_STOP : 0u) |
           (rule == lines->mode ? CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL : 0u);
}

/* A line that each delivery may match, and nothing is in force that it could end. */
static bool ends_nothing(const struct shard *shard, unsigned actions)
{
    const uint32_t *counts = shard->orders.counts;

    return actions == CONF_REPLY_NORMAL &&
           counts[ORDER_BACKOFF] + counts[ORDER_SENDER_STOP] + counts[ORDER_JOB_STOP] == 0;
}

/* What lines of one group of scopes leave standing, but of the queue's. */
static void heed_lines(const struct hit *hit, const struct react_lines *lines)
{
    const struct conf_reply_rule *rules[] = {lines->source, lines->stop, lines->mode};
    struct hit_facts facts;

    for (unsigned i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        bool is_done = (i > 0 && rules[i] == rules[0]) || (i > 1 && rules[i] == rules[1]);

        if (!rules[i] || is_done || ends_nothing(hit->shard, granted(lines, rules[i])))
            continue;
        note_actions(hit, rules[i], granted(lines, rules[i]), &facts);
        order_all(hit->shard, &facts, hit->queue);
    }
}

/* What the reply leaves standing beyond the queue's mode. */
static void heed_orders(const struct hit *hit, const struct react *react)
{
    const struct conf_reply_rule *off = react->lines[REACT_OF_QUEUE].source;

    if (off)
        disable_source(hit->shard, hit->connection, hit->queue, off, hit->verdict);
    for (unsigned i = REACT_OF_QUEUE + 1; i < REACT_GROUPS; i++)
        heed_lines(hit, &react->lines[i]);
}

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

/* The value of the rule's scope; mail without a job counts by its sender's domain, and a reply to
 * no message by queue. */
static uint64_t value_of(const struct hit *hit, const struct conf_reply_rule *rule)
{
    const struct lane *lane = hit->connection->lane;
    uint8_t room[AUTHOR_BYTES_MAX];
    struct ipaddr block;
    struct slice value;

    if (is_of_message(rule) && hit->message) {
        value = hit->message->envelope.job_id;
        if (rule->scope == CONF_REPLY_OF_SENDER_DOMAIN || value.len == 0)
            value = author_of(hit->message, room);
        return hash_combine(lane->site->provider, hash_bytes(value.data, value.len));
    }
    if (rule->scope == CONF_REPLY_OF_PROVIDER)
        return lane->site->provider;
    block = netblock_of(&lane->source);
    if (rule->scope == CONF_REPLY_OF_NETBLOCK)
        return hash_combine(lane->site->provider, ipaddr_hash(&block));
    if (rule->scope == CONF_REPLY_OF_SOURCE_IP)
        return hash_combine(lane->site->provider, ipaddr_hash(&lane->source));
    return hash_combine(hash_u64(hit->queue->name), hit->queue->vmta_id);
}

/* Greylisting counts for nothing that would stand. */
static bool fires(void *context, const struct conf_reply_rule *rule)
{
    const struct hit *hit = context;

    return !is_greylisting(hit) && hits_count(hit->shard, rule, value_of(hit, rule), note_hit, hit);
}

/* conf_provider_share_fn: one attempt more for a line that asks for a share of them. */
static void count_attempt(void *context, const struct conf_reply_rule *rule)
{
    const struct hit *hit = context;

    if (rule->trigger.percent > 0 && !is_greylisting(hit))
        hits_attempt(hit->shard, rule, value_of(hit, rule));
}

/* For the lines of the queue's own list, and for those of its provider, which may be asked or not:
 * a share is of all attempts. */
static void count_attempts(struct hit *hit, const struct conf_reply_list *list)
{
    for (uint32_t i = 0; list && i < list->rule_count; i++)
        count_attempt(hit, &list->rules[i]);
    conf_provider_shares(hit->shard->conf, hit->connection->lane->site->provider, count_attempt,
                         hit);
}

/* What the queue's own list leaves open: the provider's lines are for replies that no line of it
 * matches, and a refusal that is aimed at us is none of the recipient's, unless somebody says so.
 */
static void add_unsaid(struct hit *hit, struct react *react)
{
    struct shard *shard = hit->shard;
    uint64_t provider = hit->connection->lane->site->provider;
    struct slice host = replies_host(shard, hit->connection);
    const struct conf_reply_rule *rule = NULL;

    if (react->rule == NULL && (hit->verdict->class != VERDICT_SUCCESS ||
                                conf_provider_heeds_success(shard->conf, provider)))
        rule = provider_rule(shard->conf, provider, hit->verdict, host, shard->category_scratch);
    if (rule)
        react_add(react, rule, hit->verdict, fires, hit);
    if (react->rule != NULL && !react_only_slows(react))
        return;
    rule = react_unasked(hit->verdict, host, shard->category_scratch);
    if (rule)
        react_add(react, rule, hit->verdict, fires, hit);
}

struct react replies_heed(struct shard *shard, struct connection *connection, struct queue *queue,
                          const struct message *message, const struct verdict *verdict)
{
    struct hit hit = {shard, connection, queue, message, verdict};
    struct react react;

    count_attempts(&hit, queue->settings.replies);
    react = react_to(queue->settings.replies, verdict, shard->category_scratch, fires, &hit);
    add_unsaid(&hit, &react);
    modes_on_reply(shard, queue, &react, verdict);
    heed_orders(&hit, &react);
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
    const struct conf_reply_rule *stop = react->lines[REACT_OF_QUEUE].stop;
    uint64_t now_ns = io_now_ns(shard->io);

    if (queue->stay != QUEUE_HERE || verdict->class == VERDICT_SUCCESS)
        return;
    if ((react->actions & CONF_REPLY_BOUNCE_QUEUE) != 0 && queue->local == LOCAL_NONE)
        queues_bounce(shard, queue, verdict);
    /* Refusals of what else was under way are the same one. */
    if (queue->deferred_until_ns > now_ns)
        return;
    if (stop)
        queues_rest_for(shard, queue, verdict, stop->stop_ms);
    else if (react->actions & CONF_REPLY_DEFER_QUEUE)
        queues_rest(shard, queue, verdict);
    else
        return;
    queue->deferred_until_ns = queue->rest_until_ns;
}
