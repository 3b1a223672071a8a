/*
 * What becomes of a transaction: each recipient's verdict and what follows from it, and the end.
 */
#include "shard/settle.h"
#include "shard/shard_int.h"
#include "shard/timely.h"

static struct queue *delivery_queue(const struct delivery *delivery)
{
    return slab_at(&delivery->shard->queues, delivery->queue);
}

/* A message has gone out once, however many recipients the receiver took it for. */
static void count_message(struct shard *shard, struct delivery *delivery)
{
    if (delivery->is_counted)
        return;
    delivery->is_counted = true;
    shard->totals.delivered_messages++;
    shard->totals.delivered_bytes += envelope_content_bytes(&delivery->message->envelope);
}

void deliver_on_rcpt(struct shard *shard, struct delivery *delivery, uint32_t index,
                     const struct verdict *verdict)
{
    struct queue *queue = delivery_queue(delivery);
    const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[index]);
    struct settle_facts facts = {
        .message_id = deliver_message_id(delivery),
        .message = delivery->message,
        .connection = delivery->connection,
        .address = delivery->addresses[index],
        .orcpt = delivery->orcpts[index],
        .notify = delivery->notifies[index],
        .dsn_is_passed_on = delivery->transaction.dsn != NULL,
    };
    struct outcome_parcel *parcel;
    struct verdict unreadable;
    struct react react;
    struct fate fate;

    must(delivery->open > 0);
    delivery->open--;
    if (delivery->feed)
        verdict = feed_verdict(delivery, verdict, &unreadable);
    react = replies_heed(shard, delivery->connection, queue, delivery->message, verdict);
    warm_note(shard, &delivery->warm, delivery->connection, verdict);
    fate = timely_fate(shard, delivery->message, &queue->settings, queued, verdict,
                       settle_age_ms(shard, queued));
    /* A receiver that took nobody before it called this one too many would be asked for ever. */
    if (fate.kind == FATE_RETRY_AT_ONCE && (verdict->flags & VERDICT_TOO_MANY_RCPT) != 0 &&
        (index == 0 || delivery->open == 0)) {
        fate.kind = FATE_RETRY;
        fate.delay_ms =
            fate_retry_delay_ms(&queue->settings, queued_attempts(queued), io_rng(shard->io));
    }
    if (fate.kind != FATE_DELIVERED && fate_is_ipv6_refusal(verdict) &&
        lane_leave_ipv6(shard, delivery->connection, queue)) {
        queues_note_error(shard, queue, verdict);
        fate.kind = FATE_RETRY_AT_ONCE;
    }
    replies_bend_fate(shard, delivery->connection, queue, &react, verdict, queued_attempts(queued),
                      settle_age_ms(shard, queued), &fate);
    hold_judge(shard, delivery, queued, verdict, settle_age_ms(shard, queued), &fate);
    if (fate.kind == FATE_DELIVERED) {
        count_message(shard, delivery);
        modes_on_delivered(shard, queue, delivery->connection->busy_since_ns);
        orders_on_progress(shard, queue, delivery->connection);
        orders_on_delivered(shard, delivery->connection);
        orders_mail_delivered(shard, delivery->orders, delivery->connection->busy_since_ns);
    }
    doubt_note(shard, delivery->rcpts[index], delivery->connection, verdict);
    parcel = settle_rcpt(shard, delivery->rcpts[index], &facts, verdict, &fate);
    replies_act(shard, queue, &react, verdict);
    if (!parcel)
        return;
    /* The client may still be sending the message's bytes: the last claim is kept until it is done
     * with them. The others' outcomes go at once: a slow receiver keeps none from the log. */
    if (delivery->open > 0) {
        notice_pass(shard, delivery, parcel);
        return;
    }
    delivery->last = parcel;
}

void deliver_on_done(struct shard *shard, struct delivery *delivery)
{
    must(delivery->open == 0);
    rates_settle(shard, delivery_queue(delivery), &delivery->receipt, delivery->is_counted);
    if (delivery->last)
        notice_pass(shard, delivery, delivery->last);
    delivery->last = NULL;
    mail_slots_pass_on(shard, delivery->connection);
    mail_slots_end(shard, delivery);
    notice_end(shard, delivery);
    if (!delivery->feed || !feed_must_wait(delivery))
        deliver_free(shard, delivery);
}

void deliver_on_carried(struct shard *shard, struct delivery *delivery,
                        const struct verdict *verdict)
{
    struct queue *queue = delivery_queue(delivery);
    struct verdict unreadable;

    if (delivery->feed)
        verdict = feed_verdict(delivery, verdict, &unreadable);
    if (verdict->class == VERDICT_SUCCESS)
        count_message(shard, delivery);
    deliver_settle(shard, delivery, verdict, delivery->carry->outcome_flags);
    queues_reconsider(shard, queue);
}

void deliver_on_content(struct connection *connection)
{
    must(connection->delivery->feed);
    feed_on_content(connection->shard, connection->delivery);
}
