/* What must hold of standing orders over all shards, see audit.h. */
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

const char *audit_orders(struct shard *const *shards, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++) {
        const struct shard *shard = shards[i];
        const char *text = NULL;

        if (shard->orders.slab.count_used == 0)
            continue;
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
