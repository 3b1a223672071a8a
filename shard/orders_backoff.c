/*
 * Standing orders that have every queue of a provider, by one of our addresses, in backoff mode.
 *
 * They are beside the queue's own mode, which is neither altered nor logged for their sake. What a
 * queue's settings were derived with is kept in it (struct order_hold), so that a walk derives only
 * those anew for which it has changed.
 */
#include "core/conf/provider.h"
#include "shard/orders_int.h"
#include "shard/planted.h"

#include <stdio.h>

/* A queue that hands its mail on in the mode has no site meanwhile: what it had last counts. */
static uint64_t provider_of(const struct queue *queue)
{
    return queue->site ? queue->site->provider : queue->hold.provider;
}

static bool ends_later(const struct order_facts *a, const struct order_facts *b)
{
    return b->until_us != 0 && (a->until_us == 0 || a->until_us > b->until_us);
}

const struct order *orders_backoff_of(const struct shard *shard, const struct queue *queue)
{
    const struct order *last = NULL;
    const struct conf_vmta *vmta;
    char name[REPORT_NAME_MAX];

    if (shard->orders.counts[ORDER_BACKOFF] == 0 || queue->stay == QUEUE_GONE ||
        provider_of(queue) == CONF_PROVIDER_NONE)
        return NULL;
    vmta = conf_vmta(shard->conf, queue->vmta_id);
    orders_name_number(provider_of(queue), name, sizeof(name));
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        struct order_key key = {ORDER_BACKOFF, &vmta->addresses[i].ip, slice_str(name)};
        const struct order *order = orders_find(shard, &key);

        if (orders_is_in_force(shard, order) && (!last || ends_later(&order->facts, &last->facts)))
            last = order;
    }
    return last;
}

bool orders_hold_back(struct shard *shard, struct queue *queue)
{
    bool is_held = !planted("shard/backoff-order-overlooked") && orders_backoff_of(shard, queue);

    shard->orders.held_back += is_held && !queue->hold.is_held;
    queue->hold.provider = is_held ? provider_of(queue) : CONF_PROVIDER_NONE;
    queue->hold.is_held = is_held;
    return is_held;
}

bool orders_look_at(struct shard *shard, struct queue *queue)
{
    const struct order *order;

    if (shard->orders.counts[ORDER_BACKOFF] == 0 && !queue->hold.is_held)
        return false;
    order = orders_backoff_of(shard, queue);
    if ((order != NULL) == queue->hold.is_held)
        return false;
    if (!queue->mode.is_backoff)
        note_mode(shard, queue, order ? order->facts.reason : NULL);
    adopt_settings(shard, queue);
    if (queue->stay == QUEUE_HERE)
        queues_reconsider(shard, queue);
    return true;
}

/* ---- What makes and ends them ---------------------------------------------------------------- */

void orders_back_off(struct shard *shard, const struct order_facts *wanted, uint64_t for_ms)
{
    struct order_facts facts = *wanted;
    struct order_key key = orders_key_of(&facts);
    const struct order *present = orders_find(shard, &key);
    bool goes_on = orders_is_in_force(shard, present) && !present->is_ending &&
                   !present->is_loosening &&
                   (present->facts.until_us == 0 || present->facts.until_ns > io_now_ns(shard->io));

    /* Further refusals do not prolong it. One that is about to end goes on, and its owner tells the
     * log so behind the record of its end. */
    if (goes_on)
        return;
    orders_set_times(shard, &facts, for_ms);
    orders_put_in_force(shard, &facts);
}

void orders_let_end(struct shard *shard, const struct order_facts *wanted, uint64_t began_ns)
{
    struct order_key key = orders_key_of(wanted);
    struct order *order = orders_find(shard, &key);

    /* What was under way when the receiver refused says nothing about the time after. */
    if (!orders_is_in_force(shard, order) || order->is_ending || began_ns <= order->facts.since_ns)
        return;
    order->is_ending = order->must_end = true;
    orders_tell_owner(shard, order);
}

void orders_on_progress(struct shard *shard, struct queue *queue,
                        const struct connection *connection)
{
    struct order_facts facts = {.kind = ORDER_BACKOFF};

    if (shard->orders.counts[ORDER_BACKOFF] == 0 ||
        !queue->settings.backoff_to_normal_after_delivery)
        return;
    facts.source = connection->lane->source;
    orders_name_provider(connection->lane->site, facts.who, sizeof(facts.who));
    orders_let_end(shard, &facts, connection->busy_since_ns);
}

/* ---- Reports --------------------------------------------------------------------------------- */

void orders_report_mode(const struct shard *shard, const struct queue *queue,
                        struct report_mode *ret_mode)
{
    const struct order *order = queue->hold.is_held ? orders_backoff_of(shard, queue) : NULL;
    const struct queue_mode *own = &queue->mode;
    char address[IPADDR_TEXT_MAX];

    *ret_mode = (struct report_mode){.is_backoff = own->is_backoff || order};
    if (own->is_backoff &&
        (!order || own->until_us == 0 ||
         (order->facts.until_us != 0 && order->facts.until_us < own->until_us))) {
        ret_mode->since_us = own->since_us;
        ret_mode->until_us = own->until_us;
        snprintf(ret_mode->reason, sizeof(ret_mode->reason), "%s", own->reason);
    } else if (order) {
        ret_mode->since_us = order->facts.since_us;
        ret_mode->until_us = order->facts.until_us;
        ipaddr_format(&order->facts.source, address);
        snprintf(ret_mode->reason, sizeof(ret_mode->reason), "%s at %.100s: %s", address,
                 order->facts.who, order->facts.reason);
    }
}
