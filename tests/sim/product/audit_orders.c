/* What must hold of standing orders over all shards, see audit.h. */
#include "core/conf/provider.h"
#include "shard/shard_int.h"
#include "tests/sim/product/audit.h"

#include <string.h>

static struct order *order_at(const struct shard *shard, uint32_t index)
{
    return slab_is_live(&shard->orders.slab, index) ? slab_at(&shard->orders.slab, index) : NULL;
}

/* A shard's copy of the order. */
static const struct order *copy_of(const struct shard *shard, const struct order *order)
{
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        const struct order *copy = order_at(shard, i);

        if (copy && copy->hash == order->hash && copy->facts.kind == order->facts.kind &&
            strcmp(copy->facts.who, order->facts.who) == 0)
            return copy;
    }
    return NULL;
}

/* Connections of a probe that a shard has, or that are on their way from or to it. */
static uint32_t lent_to(const struct order *copy)
{
    uint32_t sum = copy->granted + copy->to_return;

    if (copy->tell_is_out && copy->tell.parcel.kind == SHARD_ORDER_TELL)
        sum += copy->tell.returned;
    if (copy->want_is_out && copy->want.parcel.kind == SHARD_ORDER_GRANT)
        sum += copy->want.is_granted;
    return sum;
}

static bool is_settled(const struct order *copy)
{
    return !copy->tell_is_out && !copy->must_tell && !copy->missed_news && !copy->news_is_out &&
           !copy->has_news;
}

static const char *audit_order(struct shard *const *shards, uint16_t count,
                               const struct order *order)
{
    uint32_t lent = 0;
    bool is_quiet = true, is_same = true;

    for (uint16_t i = 0; i < count; i++) {
        const struct order *copy = copy_of(shards[i], order);

        if (copy && copy->used > copy->granted)
            return "a shard has more connections of a probe than it was lent";
        lent += copy ? lent_to(copy) : 0;
        is_quiet = is_quiet && (!copy || is_settled(copy));
        is_same =
            is_same && (order->is_over || shards[i]->orders.forgotten > 0 ||
                        (copy && !copy->is_over && copy->facts.since_us == order->facts.since_us));
    }
    if (lent != order->lent)
        return "connections of a probe are lost or doubled";
    if (is_quiet && !is_same)
        return "a shard does not know a standing order";
    return NULL;
}

/* Nothing began on the connection that an order forbids. */
static const char *audit_connection(const struct shard *shard, const struct connection *connection)
{
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        const struct order *order = order_at(shard, i);
        char name[REPORT_NAME_MAX];

        if (!order || order->is_over ||
            !ipaddr_equal(&order->facts.source, &connection->lane->source))
            continue;
        if (order->facts.kind == ORDER_BACKOFF)
            continue;
        if (order->facts.kind == ORDER_STOP) {
            orders_name_provider(connection->lane->site, name, sizeof(name));
            if (strcmp(order->facts.who, name) == 0 &&
                connection->opened_ns > order->facts.since_ns && connection->order == 0)
                return "a connection was opened in spite of a stop";
            continue;
        }
        if (!connection->delivery || connection->was_ahead ||
            connection->busy_since_ns <= order->facts.since_ns ||
            (order->facts.until_us != 0 && order->facts.until_ns <= connection->busy_since_ns))
            continue;
        queues_name(shard, connection->queue, name, sizeof(name));
        if (strcmp(name, order->facts.who) == 0)
            return "a message went out from a source that its queue is kept from";
    }
    return NULL;
}

/* ---- Backoff mode ---------------------------------------------------------------------------- */

static bool is_address_of(const struct conf_vmta *vmta, const struct ipaddr *ip)
{
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (ipaddr_equal(&vmta->addresses[i].ip, ip))
            return true;
    return false;
}

/* Whether an order has the queue in backoff mode. */
static bool must_back_off(const struct shard *shard, const struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    char name[REPORT_NAME_MAX] = "";

    if (queue->site)
        orders_name_provider(queue->site, name, sizeof(name));
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        const struct order *order = order_at(shard, i);

        if (order && !order->is_over && order->facts.kind == ORDER_BACKOFF &&
            (!queue->site || strcmp(order->facts.who, name) == 0) &&
            is_address_of(vmta, &order->facts.source))
            return true;
    }
    return false;
}

static bool rates_equal(const struct conf_rate *a, const struct conf_rate *b)
{
    return a->count == b->count && a->interval_ms == b->interval_ms;
}

/* The twins count in backoff mode, and else the settings that they are twins of. */
static bool goes_by_mode(const struct shard *shard, const struct queue *queue)
{
    const struct conf_queue *now = &queue->settings;
    bool is_backoff = queue->mode.is_backoff || queue->hold.is_held;
    struct conf_queue said;

    conf_queue_at(shard->conf, names_text(&shard->names, queue->name), queue->vmta_id,
                  queue->site ? queue->site->provider : CONF_PROVIDER_NONE, &said);
    if (is_backoff)
        return now->max_smtp_out == said.backoff_max_smtp_out &&
               rates_equal(&now->max_msg_rate, &said.backoff_max_msg_rate) &&
               rates_equal(&now->max_connect_rate, &said.backoff_max_connect_rate) &&
               now->retry_ms[0] == said.backoff_retry_ms[0];
    return now->max_smtp_out == said.max_smtp_out &&
           rates_equal(&now->max_msg_rate, &said.max_msg_rate) &&
           rates_equal(&now->max_connect_rate, &said.max_connect_rate) &&
           now->retry_ms[0] == said.retry_ms[0];
}

static const char *audit_mode(const struct shard *shard, const struct queue *queue)
{
    bool is_held = queue->hold.is_held;

    if (queue->stay != QUEUE_HERE)
        return NULL;
    if ((queue->site || is_held) && is_held != must_back_off(shard, queue))
        return is_held ? "a queue is in backoff mode and no order has it there"
                       : "a queue is not in backoff mode in spite of an order";
    if (!goes_by_mode(shard, queue))
        return "a queue's settings are not those of its mode";
    return NULL;
}

/* Between a change of the orders or of the configuration and the end of the walk anything goes. */
static const char *audit_modes(const struct shard *shard)
{
    const char *text = NULL;

    for (uint32_t i = 0; i < shard->queues.count_grown && !text; i++)
        if (slab_is_live(&shard->queues, i) && shard->orders.walk_left == 0 && !shard->conf_before)
            text = audit_mode(shard, slab_at(&shard->queues, i));
    return text;
}

const char *audit_orders(struct shard *const *shards, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        const struct shard *shard = shards[i];
        const char *text = NULL;

        if (shard->orders.slab.count_used == 0 && shard->orders.held_back == 0)
            continue;
        text = audit_modes(shard);
        for (uint32_t j = 0; j < shard->orders.slab.count_grown && !text; j++) {
            const struct order *order = order_at(shard, j);

            if (order && order->hash % count == i)
                text = audit_order(shards, count, order);
        }
        for (uint32_t j = 0; j < shard->connections.count_grown && !text; j++)
            if (slab_is_live(&shard->connections, j))
                text = audit_connection(shard, slab_at(&shard->connections, j));
        if (text)
            return text;
    }
    return NULL;
}
