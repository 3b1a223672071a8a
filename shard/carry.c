#include "shard/carry.h"

#include "core/base/err.h"
#include "shard/shard_int.h"

void carry_init(struct shard *shard)
{
    slab_init(&shard->carries, sizeof(struct carry), shard->limits.connection_count_max);
}

void carry_fini(struct shard *shard)
{
    slab_fini(&shard->carries);
}

static void post(struct carry *carry, enum carry_kind kind)
{
    carry->parcel.kind = (uint16_t)kind;
    mailbox_post(carry->delivery->shard->wiring.to_carrier, &carry->parcel);
}

int carry_start(struct shard *shard, struct delivery *delivery, uint32_t part_count)
{
    const struct queue *queue = slab_at(&shard->queues, delivery->queue);
    const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[0]);
    const struct envelope *envelope = &delivery->message->envelope;
    bool is_program = queue->settings.delivery == CONF_DELIVERY_PIPE;
    const char *way = is_program ? queue->settings.command : queue->settings.file_destination;
    uint32_t index;
    struct carry *carry = slab_alloc(&shard->carries, &index);

    if (!carry)
        return E_FULL;
    must(delivery->count == 1 && shard->wiring.to_carrier);
    carry->delivery = delivery;
    carry->index = index;
    carry->shard = shard->number;
    carry->is_program = is_program;
    carry->outcome_flags = is_program ? OUTCOME_TO_PROGRAM : OUTCOME_TO_FILE;
    carry->send_ms = queue->settings.data_send_timeout_ms;
    carry->termination_ms = queue->settings.data_termination_timeout_ms;
    carry->format = (uint8_t)queue->settings.file_format;
    carry->values = (struct conf_delivery_values){
        .from = envelope->sender,
        .to = delivery->addresses[0],
        .envelope_id = envelope->envelope_id,
        .is_8bit = (envelope->flags & ENVELOPE_8BIT) != 0,
        .now_us = io_wall_us(shard->io),
    };
    carry->message_id = envelope->message_id;
    carry->accepted_us = envelope->accepted_us;
    carry->ordinal = queued->ordinal;
    carry->parts = delivery->content;
    carry->part_count = part_count;
    carry->goes_on = delivery->feed != NULL;
    snprintf(carry->way, sizeof(carry->way), "%s", way ? way : "");
    delivery->carry = carry;
    post(carry, CARRY_START);
    return 0;
}

void carry_continue(struct delivery *delivery, const struct iovec *parts, uint32_t part_count,
                    bool goes_on)
{
    struct carry *carry = delivery->carry;

    carry->parts = parts;
    carry->part_count = part_count;
    carry->goes_on = goes_on;
    post(carry, CARRY_ON);
}

void carry_abort(struct delivery *delivery)
{
    post(delivery->carry, CARRY_OFF);
}

void carry_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct carry *carry = container_of(parcel, struct carry, parcel);
    struct delivery *delivery = carry->delivery;

    if (parcel->kind == CARRY_MORE) {
        feed_on_content(shard, delivery);
        return;
    }
    must(parcel->kind == CARRY_DONE);
    deliver_on_carried(shard, delivery, &carry->verdict);
    slab_free(&shard->carries, carry->index);
}
