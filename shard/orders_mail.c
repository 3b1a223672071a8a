/*
 * Standing orders that hold the mail of a job, or of a sender's domain, from a provider.
 *
 * What an order holds is known when a message has been read: its recipients are put off, each to a
 * time of its own, so that they do not all come back at once. Of a probe a message takes what a
 * connection takes of a source's.
 */
#include "shard/author.h"
#include "shard/orders_int.h"

#include <stdio.h>

#define AGAIN_NS  300000000ull     /* until the probe is looked at again */
#define SPREAD_NS 2000000ull       /* from one that is put off to the next */
#define LATEST_NS 3600000000000ull /* looked at again, since the message may expire */

static const struct ipaddr from_anywhere = {.family = IPADDR_NONE};

/* What orders of that kind go by; empty when the message has none. In room, or in the message. */
static struct slice value_of(enum order_kind kind, const struct message *message,
                             uint8_t room[AUTHOR_BYTES_MAX])
{
    return kind == ORDER_JOB_STOP ? message->envelope.job_id : author_of(message, room);
}

/* The order's name; false when the message has nothing to be known by. */
static bool name_mail(enum order_kind kind, const struct site *site, const struct message *message,
                      char who[REPORT_NAME_MAX])
{
    uint8_t room[AUTHOR_BYTES_MAX];
    struct slice value = value_of(kind, message, room);
    char provider[REPORT_NAME_MAX];
    struct text text = text_in(who, REPORT_NAME_MAX);

    orders_name_provider(site, provider, sizeof(provider));
    text_put_str(&text, provider);
    text_put_char(&text, '/');
    text_put(&text, value);
    text_end(&text);
    return value.len > 0;
}

static struct order *order_of(const struct shard *shard, enum order_kind kind,
                              const struct site *site, const struct message *message)
{
    struct order_key key = {.kind = kind, .source = &from_anywhere};
    char who[REPORT_NAME_MAX];
    struct order *order;

    if (shard->orders.counts[kind] == 0 || !name_mail(kind, site, message, who))
        return NULL;
    key.who = slice_str(who);
    order = orders_find(shard, &key);
    return orders_is_in_force(shard, order) ? order : NULL;
}

bool orders_mail_is_free(const struct shard *shard, const struct site *site,
                         const struct message *message)
{
    return !order_of(shard, ORDER_SENDER_STOP, site, message) &&
           !order_of(shard, ORDER_JOB_STOP, site, message);
}

/* When the next one that the order holds is to be looked at again. */
static uint64_t turn_ns(const struct shard *shard, struct order *order)
{
    uint64_t now_ns = io_now_ns(shard->io);
    uint64_t first_ns = order->facts.until_ns > now_ns ? order->facts.until_ns : now_ns + AGAIN_NS;

    order->next_ns = order->next_ns < first_ns ? first_ns : order->next_ns + SPREAD_NS;
    return order->next_ns < now_ns + LATEST_NS ? order->next_ns : now_ns + LATEST_NS;
}

uint64_t orders_mail_put_off(struct shard *shard, const struct site *site,
                             const struct message *message)
{
    uint64_t now_ns = io_now_ns(shard->io), at_ns = 0;

    for (enum order_kind kind = ORDER_SENDER_STOP; kind <= ORDER_JOB_STOP; kind++) {
        struct order *order = order_of(shard, kind, site, message);
        uint64_t turn;

        if (!order || (order->facts.until_ns <= now_ns && order->used < order->granted))
            continue;
        if (order->facts.until_ns <= now_ns)
            orders_ask(shard, order);
        turn = turn_ns(shard, order);
        at_ns = turn > at_ns ? turn : at_ns;
    }
    return at_ns == 0 ? 0 : io_wall_us(shard->io) + (at_ns - now_ns) / 1000;
}

void orders_mail_take(struct shard *shard, const struct site *site, const struct message *message,
                      uint32_t ret_orders[ORDER_MAIL_KINDS])
{
    for (unsigned i = 0; i < ORDER_MAIL_KINDS; i++) {
        struct order *order = order_of(shard, ORDER_SENDER_STOP + i, site, message);

        ret_orders[i] = 0;
        if (!order)
            continue;
        must(order->used < order->granted);
        order->used++;
        ret_orders[i] = order->index + 1;
    }
}

void orders_mail_delivered(struct shard *shard, const uint32_t orders[ORDER_MAIL_KINDS],
                           uint64_t began_ns)
{
    for (unsigned i = 0; i < ORDER_MAIL_KINDS; i++) {
        struct order *order = orders[i] > 0 ? slab_at(&shard->orders.slab, orders[i] - 1) : NULL;

        if (!order || order->is_over || began_ns < order->facts.since_ns)
            continue;
        order->to_credit++;
        order->has_delivered = true;
    }
}

void orders_mail_end(struct shard *shard, uint32_t orders[ORDER_MAIL_KINDS])
{
    for (unsigned i = 0; i < ORDER_MAIL_KINDS; i++) {
        struct order *order = orders[i] > 0 ? slab_at(&shard->orders.slab, orders[i] - 1) : NULL;

        if (!order)
            continue;
        must(order->used > 0 && order->granted >= order->used);
        order->used--;
        order->granted--;
        order->to_return++;
        orders[i] = 0;
        orders_tell_owner(shard, order);
        orders_free_if_over(shard, order);
    }
}

bool orders_name_mail(const struct site *site, const struct message *message, bool by_job,
                      struct order_facts *facts)
{
    bool of_job = by_job && message->envelope.job_id.len > 0;

    facts->kind = of_job ? ORDER_JOB_STOP : ORDER_SENDER_STOP;
    facts->source = from_anywhere;
    return name_mail((enum order_kind)facts->kind, site, message, facts->who);
}

void orders_mail_explain(const struct shard *shard, const struct queue *queue, char *room,
                         size_t room_bytes)
{
    char provider[REPORT_NAME_MAX];
    size_t len;

    room[0] = '\0';
    if (!queue->site || queue->held_back_count == 0 ||
        shard->orders.counts[ORDER_SENDER_STOP] + shard->orders.counts[ORDER_JOB_STOP] == 0)
        return;
    orders_name_provider(queue->site, provider, sizeof(provider));
    len = strlen(provider);
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++) {
        const struct order *order =
            slab_is_live(&shard->orders.slab, i) ? slab_at(&shard->orders.slab, i) : NULL;

        if (!order || order->is_over || !order_is_of_mail(order->facts.kind) ||
            order->next_ns == 0 || strncmp(order->facts.who, provider, len) != 0 ||
            order->facts.who[len] != '/')
            continue;
        snprintf(room, room_bytes, "mail of %s %s is kept from %s: %s",
                 order->facts.kind == ORDER_JOB_STOP ? "the job" : "the sender's domain",
                 order->facts.who + len + 1, provider, order->facts.reason);
        return;
    }
}
