/* What holds a queue back: the row that control makes sentences of. */
#include "core/conf/warmup.h"
#include "shard/report.h"
#include "shard/shard_int.h"

#include <stdio.h>

_Static_assert(WAIT_NOTHING == 0 && WAIT_REASON_COUNT <= WAITS_KINDS, "policy/waits.h");

static struct explain_rate rate_of(const struct conf_rate *rate)
{
    return (struct explain_rate){rate->count, rate->interval_ms};
}

static void add_limits(const struct shard *shard, const struct queue *queue,
                       struct explain_row *row)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    struct meter_key of_vmta = scope_key_of_vmta(queue->vmta_id);

    row->connections = queue->connection_count;
    row->connections_max = queue->settings.max_smtp_out;
    row->vmta_connections_max = vmta ? vmta->max_smtp_out : CONF_UNLIMITED;
    row->all_connections_max = conf_global(shard->conf)->total_max_smtp_out;
    row->vmta_connections = lease_used(shard, &of_vmta);
    row->all_connections = site_open_connections(shard);
    row->msg_rate = rate_of(&queue->settings.max_msg_rate);
    row->connect_rate = rate_of(&queue->settings.max_connect_rate);
    row->volume_rate = rate_of(&queue->settings.max_data_volume_rate);
    row->vmta_rate.count = CONF_UNLIMITED;
    row->vmta_volume_rate.count = CONF_UNLIMITED;
    if (!vmta)
        return;
    row->vmta_rate = rate_of(&vmta->max_smtp_msg_rate);
    row->vmta_volume_rate = rate_of(&vmta->max_smtp_data_volume_rate);
}

static void name_limit(const struct shard *shard, const struct meter_key *key, char *room,
                       size_t room_bytes)
{
    const struct conf_limit *limit = meters_limit(shard->conf, key);

    if (key->limit_id == LEASE_OF_ALL)
        snprintf(room, room_bytes, "total-max-smtp-out");
    else if (key->limit_id == SCOPE_OF_VMTA)
        snprintf(room, room_bytes, "max-smtp-out of the virtual MTA %s",
                 conf_vmta_name(shard->conf, (uint32_t)key->values));
    else if (limit && conf_limit_is_block(limit))
        snprintf(room, room_bytes, "<limit %s>", limit->name);
    else
        snprintf(room, room_bytes, "%s", conf_limit_name(shard->conf, key->limit_id));
}

/* Itself, or the message that it is at. */
static bool draws_on(const struct connection *connection, const struct lease_share *share)
{
    const struct mail_claim *mail = connection->delivery ? connection->delivery->mail : NULL;

    return lease_draws_on(connection->slots.claim, share) ||
           (mail && lease_draws_on(&mail->claim, share));
}

/* The queue's connections that draw on the meter: others of them may be at other mail. */
static uint32_t count_drawing(const struct shard *shard, const struct lease_share *share,
                              const struct queue *queue)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        const struct connection *connection =
            slab_is_live(&shard->connections, i) ? slab_at(&shard->connections, i) : NULL;

        count += connection && connection->queue == queue && draws_on(connection, share);
    }
    return count;
}

/* Of the connections here that draw on the meter: the queue that most of them are at. */
static void find_top(const struct shard *shard, const struct lease_share *share,
                     struct explain_row *row)
{
    const struct queue *top = NULL;

    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        const struct connection *connection =
            slab_is_live(&shard->connections, i) ? slab_at(&shard->connections, i) : NULL;
        const struct queue *queue = connection ? connection->queue : NULL;

        if (queue && draws_on(connection, share) &&
            (!top || queue->connection_count > top->connection_count))
            top = queue;
    }
    if (!top)
        return;
    row->limit_top_count = count_drawing(shard, share, top);
    queues_name(shard, top, row->limit_top, sizeof(row->limit_top));
}

/* The limit that the queue's lane stands in line for, or else that some of its mail does. */
static void add_holder(const struct shard *shard, const struct queue *queue,
                       struct explain_row *row)
{
    const struct lease_share *share =
        list_empty(&queue->lane_link) ? NULL : lease_waits_for(&queue->lane->claim);

    row->limit_rcpts = queue->ready_count - ready_open_count(queue);
    if (!share)
        share = mail_slots_waits_for(queue);
    if (!share)
        return;
    name_limit(shard, &share->meter->key, row->limit, sizeof(row->limit));
    row->limit_max = lease_bound(shard, &share->meter->key);
    row->limit_used = share->used;
    find_top(shard, share, row);
}

/* What puts recipients off one by one: the queue itself waits for nothing. */
static void put_hold(const struct shard *shard, const struct queue *queue, struct explain_row *row)
{
    char text[sizeof(row->order)];

    if (queue->reason != WAIT_WARMUP && queue->reason != WAIT_RETRY)
        return;
    warm_explain(shard, queue, text, sizeof(text));
    if (text[0] != '\0') {
        row->reason = WAIT_WARMUP;
    } else if (queue->reason == WAIT_RETRY) {
        hold_explain(shard, queue, text, sizeof(text));
        if (text[0] != '\0')
            row->reason = WAIT_HELD;
    }
    if (text[0] == '\0' && queue->reason == WAIT_RETRY) {
        orders_mail_explain(shard, queue, text, sizeof(text));
        if (text[0] != '\0')
            row->reason = WAIT_MAIL_ORDER;
    }
    if (text[0] != '\0')
        snprintf(row->order, sizeof(row->order), "%s", text);
}

/* The order that keeps the queue from a source and ends first. */
static void put_order(const struct shard *shard, const struct queue *queue, struct explain_row *row)
{
    uint64_t until_ns;
    const struct order *order = orders_holding(shard, queue, &until_ns);
    char address[IPADDR_TEXT_MAX];

    if (!order)
        return;
    ipaddr_format(&order->facts.source, address);
    snprintf(row->order, sizeof(row->order), "%s is kept from %s: %s", address, order->facts.who,
             order->facts.reason);
}

static void add_events(const struct queue *queue, enum event_series series, struct explain_row *row)
{
    uint32_t count = queue->series[series].count;
    uint32_t skip = count > EVENTS_SHOWN ? count - EVENTS_SHOWN : 0;

    list_for_each (link, &queue->series[series].events) {
        const struct event *event = container_of(link, struct event, link);
        struct explain_event *shown = &row->events[series][row->event_counts[series]];

        if (skip > 0) {
            skip--;
            continue;
        }
        shown->at_us = event->at_us;
        shown->times = event->times;
        shown->kind = event->kind;
        memcpy(shown->text, event->text, sizeof(shown->text));
        row->event_counts[series]++;
    }
}

void explain_queue(struct shard *shard, struct report *report, const struct queue *queue)
{
    struct explain_row *row = report_row_add(report, sizeof(*row));
    struct waits waits = queue->waits;
    float shares[WAITS_KINDS];

    if (!row)
        return;
    queues_name(shard, queue, row->name, sizeof(row->name));
    row->is_remainder = queue->stay == QUEUE_GONE;
    row->ready = queue->ready_count;
    row->waiting = queue->deferred_count;
    row->sending = queue->sending_count;
    row->reason = queue->reason;
    row->reason_since_us = queue->reason_since_us;
    row->now_us = io_wall_us(shard->io);
    row->again_us = queue->rest_until_ns > io_now_ns(shard->io) ? queue->rest_until_us : 0;
    add_limits(shard, queue, row);
    add_holder(shard, queue, row);
    if (!list_empty(&queue->lane_link)) {
        row->lane_connections = queue->lane->open_count;
        row->lane_connecting = queue->lane->connecting_count;
        row->rcpt_ms = (uint32_t)(queue->lane->demand.rcpt_ns / 1000000);
    }
    put_order(shard, queue, row);
    put_hold(shard, queue, row);
    orders_report_mode(shard, queue, &row->mode);
    if (queue->backs_off)
        snprintf(row->order, sizeof(row->order), "in backoff mode %s takes it: %s",
                 queue->settings.backoff_reroute_to, row->mode.reason);
    add_events(queue, EVENTS_OF_QUEUE, row);
    add_events(queue, EVENTS_OF_RCPTS, row);
    if (outlook_holds(shard, queue)) {
        row->reason = WAIT_RESOLVER;
        snprintf(row->order, sizeof(row->order), "breaker resolver/%u: %s", shard->number,
                 shard->outlook.reason);
    }
    waits_note(&waits, queue->reason, io_now_ns(shard->io));
    waits_shares(&waits, shares);
    memcpy(row->shares, shares, sizeof(row->shares));
    row->last_error_us = queue->last_error_us;
    snprintf(row->last_error, sizeof(row->last_error), "%s", queue->last_error);
}
