/* Recipients that end without a connection: what is said of them, and their outcomes. */
#include "shard/settle.h"
#include "shard/shard_int.h"
#include "shard/timely.h"

/* Behind "550 5.1.2 ", which a verdict of ours begins with; of a receiver's the second may miss. */
static const char *without_codes(const char *text)
{
    for (int i = 0; i < 2 && *text >= '0' && *text <= '9'; i++) {
        const char *blank = strchr(text, ' ');

        text = blank ? blank + 1 : text;
    }
    return text;
}

void deliver_local_verdict(const struct delivery *delivery, struct verdict *verdict)
{
    static const uint8_t expired[3] = {4, 4, 7}, deleted[3] = {5, 0, 0}, discarded[3] = {2, 0, 0};
    const struct queue *queue = slab_at(&delivery->shard->queues, delivery->queue);
    bool as_bounce = queue->settings.discard_as_bounce;

    switch (delivery->local) {
    case LOCAL_FAIL:
        verdict_set_local(verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS,
                          delivery->local_code, delivery->local_enhanced, "%s",
                          without_codes(delivery->local_error));
        break;
    case LOCAL_DELETE:
        /* No receiver has said anything: a status that puts it into no receiver's category. */
        verdict_set_local(verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 550,
                          deleted, "deleted by an operator");
        break;
    case LOCAL_DISCARD:
        verdict_set_local(verdict, VERDICT_RECIPIENT,
                          as_bounce ? VERDICT_PERMANENT : VERDICT_SUCCESS, VERDICT_AT_LOCAL,
                          as_bounce ? 550 : 250, as_bounce ? deleted : discarded,
                          "discarded by the configuration");
        break;
    default:
        verdict_set_local(verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 554,
                          expired, "expired in the queue; last error: %s", delivery->local_error);
    }
}

void deliver_find_addresses(struct shard *shard, struct delivery *delivery)
{
    const struct envelope *envelope = &delivery->message->envelope;
    struct envelope_rcpt rcpt = {0};
    struct wire_reader reader;
    uint32_t at = NONE;

    for (uint32_t i = 0; i < delivery->count; i++) {
        const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[i]);

        if (at == NONE || queued->ordinal <= at) {
            wire_reader_init(&reader, envelope->rcpts.data, envelope->rcpts.len);
            at = NONE;
        }
        while (at == NONE || at < queued->ordinal) {
            bool found = envelope_rcpt_next(&reader, &rcpt);

            must(found);
            at = at == NONE ? 0 : at + 1;
        }
        delivery->addresses[i] = rcpt.address;
        delivery->orcpts[i] = rcpt.orcpt;
        delivery->notifies[i] = rcpt.notify;
    }
}

void deliver_settle(struct shard *shard, struct delivery *delivery, const struct verdict *verdict,
                    uint8_t flags)
{
    struct queue *queue = slab_at(&shard->queues, delivery->queue);
    uint64_t message_id = deliver_message_id(delivery);

    for (uint32_t i = 0; i < delivery->count; i++) {
        const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[i]);
        uint64_t age = settle_age_ms(shard, queued);
        struct settle_facts facts = {
            .message_id = message_id,
            .message = delivery->message,
            .address = delivery->addresses[i],
            .orcpt = delivery->orcpts[i],
            .flags = flags,
            .notify = delivery->notifies[i],
            .is_carried = delivery->carry != NULL,
        };
        struct fate fate =
            timely_fate(shard, delivery->message, &queue->settings, queued, verdict, age);
        struct outcome_parcel *parcel;

        if (delivery->local == LOCAL_EXPIRED)
            fate.category = "message-expired";
        parcel = settle_rcpt(shard, delivery->rcpts[i], &facts, verdict, &fate);
        notice_pass(shard, delivery, parcel);
    }
    notice_end(shard, delivery);
    deliver_free(shard, delivery);
}
