/*
 * One transaction: take recipients of one message from a queue, have its bytes, send, settle.
 *
 * A delivery without a connection ends recipients by a verdict of ours (expired, deleted, refused
 * by DNS): it loads the message for the sake of its record and settles. Room for the outcomes of a
 * delivery is reserved before it starts, so settling never fails.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/regex.h"
#include "core/mail/classify.h"
#include "queue/terms.h"
#include "shard/planted.h"
#include "shard/policy/category.h"
#include "shard/settle.h"
#include "shard/shard_int.h"
#include "shard/timely.h"

#define UNREADABLE_RETRY_MS 60000
/* Until a message is read back once more that had to be put away again. */
#define READ_AGAIN_MS       20
#define HOLD_BACK_WAIT_MS   20

static void on_read(struct io_op *op, int32_t result);

void deliver_init(struct shard *shard)
{
    uint32_t count_max = shard->limits.connection_count_max + 64;

    slab_init(&shard->deliveries, sizeof(struct delivery), count_max);
    slab_init(&shard->wides, sizeof(struct delivery_wide), count_max);
    slab_init(&shard->feeds, sizeof(struct feed), count_max);
    carry_init(shard);
    shard->category_scratch = regex_scratch_new();
    classify_shipped(); /* read now rather than at the first bounce */
}

void deliver_fini(struct shard *shard)
{
    slab_fini(&shard->deliveries);
    slab_fini(&shard->wides);
    slab_fini(&shard->feeds);
    carry_fini(shard);
    regex_scratch_free(shard->category_scratch);
}

/* ---- Starting -------------------------------------------------------------------------------- */

static struct queue *delivery_queue(const struct delivery *delivery)
{
    return slab_at(&delivery->shard->queues, delivery->queue);
}

/* False when there is no memory for more recipients: those taken make a transaction too. */
static bool has_room(struct shard *shard, struct delivery *delivery)
{
    if (delivery->count < DELIVERY_FEW || delivery->wide)
        return true;
    delivery->wide = slab_alloc_unset(&shard->wides, &delivery->wide_index);
    if (!delivery->wide)
        return false;
    memcpy(delivery->wide->rcpts, delivery->rcpts, sizeof(delivery->few_rcpts));
    delivery->rcpts = delivery->wide->rcpts;
    delivery->addresses = delivery->wide->addresses;
    delivery->orcpts = delivery->wide->orcpts;
    delivery->notifies = delivery->wide->notifies;
    return true;
}

/* The next ready recipients of one message, at most count_max. */
static void take_rcpts(struct shard *shard, struct delivery *delivery, struct queue *queue,
                       uint32_t count_max)
{
    uint32_t index = ready_peek(queue);
    const struct queued *first = slab_at(&shard->queued, index);
    uint16_t home = first->home;
    uint32_t home_message = first->home_message;

    while (delivery->count < count_max && index != NONE) {
        const struct queued *next = slab_at(&shard->queued, index);

        if (next->home != home || next->home_message != home_message ||
            !doubt_goes_with(shard, index, delivery->count > 0 ? delivery->rcpts[0] : index) ||
            !has_room(shard, delivery))
            break;
        delivery->rcpts[delivery->count++] = index;
        index = ready_pop(shard, queue, index);
    }
    delivery->open = delivery->count;
}

/* is_apart: they were taken from those set apart. */
static void untake_rcpts(struct shard *shard, struct delivery *delivery, struct queue *queue,
                         bool is_apart)
{
    while (delivery->count > 0) {
        uint32_t index = delivery->rcpts[--delivery->count];

        queue->sending_count--;
        if (is_apart)
            ready_push_apart(shard, queue, index);
        else
            ready_push(shard, queue, index, true);
    }
}

void deliver_free(struct shard *shard, struct delivery *delivery)
{
    must(!io_op_in_flight(&delivery->read_op) && !delivery->last && list_empty(&delivery->held));
    if (delivery->is_loaded)
        message_free(delivery->message);
    if (delivery->wide)
        slab_free(&shard->wides, delivery->wide_index);
    if (delivery->feed)
        feed_free(shard, delivery->feed);
    rates_end_read(&delivery->reading);
    resign_end(delivery);
    heading_free(delivery);
    orders_mail_end(shard, delivery->orders);
    mail_slots_end(shard, delivery);
    slab_free(&shard->deliveries, delivery->index);
}

/* A delivery with recipients taken and outcomes reserved; NULL when there is no room now. */
static struct delivery *delivery_create(struct shard *shard, struct queue *queue,
                                        uint32_t count_max)
{
    uint64_t outcomes = (uint64_t)shard->outcomes.count_used + shard->outcomes_reserved + count_max;
    struct delivery *delivery;
    uint32_t index;

    if (outcomes > shard->outcomes.count_max || !slab_reserve(&shard->outcomes, (uint32_t)outcomes))
        return NULL;
    delivery = slab_alloc_unset(&shard->deliveries, &index);
    if (!delivery)
        return NULL;
    memset(delivery, 0, offsetof(struct delivery, content));
    delivery->index = index;
    delivery->shard = shard;
    delivery->rcpts = delivery->few_rcpts;
    delivery->addresses = delivery->few_addresses;
    delivery->orcpts = delivery->few_orcpts;
    delivery->notifies = delivery->few_notifies;
    delivery->queue = queue->index;
    io_op_init(&delivery->read_op, on_read);
    list_init(&delivery->held);
    take_rcpts(shard, delivery, queue, count_max);
    for (uint32_t i = 0; i < delivery->count; i++) {
        delivery->addresses[i] = SLICE_EMPTY;
        delivery->orcpts[i] = SLICE_EMPTY;
        delivery->notifies[i] = 0;
    }
    shard->outcomes_reserved += delivery->count;
    return delivery;
}

static void delivery_cancel(struct shard *shard, struct delivery *delivery, struct queue *queue)
{
    shard->outcomes_reserved -= delivery->count;
    untake_rcpts(shard, delivery, queue,
                 delivery->local == LOCAL_FAIL || delivery->local == LOCAL_DELETE);
    deliver_free(shard, delivery);
}

/* What could not be read back has at least been located. */
uint64_t deliver_message_id(const struct delivery *delivery)
{
    return delivery->message ? delivery->message->envelope.message_id : delivery->locate.message_id;
}

static void finish_local(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);
    struct verdict verdict;

    deliver_local_verdict(delivery, &verdict);
    deliver_find_addresses(shard, delivery);
    deliver_settle(shard, delivery, &verdict,
                   delivery->local == LOCAL_DELETE    ? OUTCOME_BY_OPERATOR
                   : delivery->local == LOCAL_DISCARD ? OUTCOME_DISCARDED
                                                      : 0);
    queues_reconsider(shard, queue);
}

/* What the sender asked for of notices, for the receiver that can see to it; else NULL. */
static const struct smtpc_dsn_request *dsn_request(struct delivery *delivery)
{
    const struct envelope *envelope = &delivery->message->envelope;

    if ((smtpc_extensions(delivery->connection->smtpc) & SMTPC_DSN) == 0 ||
        delivery_queue(delivery)->settings.ignore_dsn)
        return NULL;
    delivery->dsn = (struct smtpc_dsn_request){
        .has_ret = (envelope->flags & ENVELOPE_RETURN_SAID) != 0,
        .returns_full = (envelope->flags & ENVELOPE_RETURN_FULL) != 0,
        .envelope_id = envelope->envelope_id,
        .orcpts = delivery->orcpts,
        .notifies = delivery->notifies,
    };
    return &delivery->dsn;
}

/* What the client is given of the content at once. */
static uint32_t fill_content(struct delivery *delivery)
{
    if (delivery->feed)
        return 0;
    return heading_is_there(delivery) ? heading_content(delivery, delivery->content)
                                      : message_content(delivery->message, delivery->content);
}

/* Its header is to be edited here, and was not when it was signed. */
static bool needs_heading(const struct delivery *delivery, const struct queue *queue)
{
    return !delivery->feed && !delivery->heading.is_signed && heading_is_edited(queue);
}

/* 0, or E_FULL when there is no memory for its header. */
static int fill_transaction(struct shard *shard, struct delivery *delivery)
{
    const struct envelope *envelope = &delivery->message->envelope;
    struct queue *queue = delivery_queue(delivery);

    if (needs_heading(delivery, queue) && heading_make(queue, delivery) < 0)
        return E_FULL;
    deliver_find_addresses(shard, delivery);
    delivery->transaction = (struct smtpc_transaction){
        .sender = envelope->sender,
        .rcpts = delivery->addresses,
        .rcpt_count = delivery->count,
        .content = delivery->content,
        .content_count = fill_content(delivery),
        .content_goes_on = delivery->feed != NULL,
        .content_bytes = envelope_content_bytes(envelope) + heading_growth(delivery),
        .may_chunk = envelope->stuffed_dots == 0 && ahead_may_chunk(delivery->connection, queue),
        .content_is_8bit = (envelope->flags & ENVELOPE_8BIT) != 0,
        /* Asking for it binds only a message that needs it: ASCII alone may go to any receiver.
         * What needs it in the addresses the client sees itself. */
        .wants_smtputf8 =
            (envelope->flags & ENVELOPE_SMTPUTF8) != 0 && (envelope->flags & ENVELOPE_8BIT) != 0,
        .dsn = dsn_request(delivery),
    };
    return 0;
}

/* The connection went while the message was being read, or others used the tokens of the queue's
 * rates: the recipients go back unharmed. */
static void give_back(struct shard *shard, struct delivery *delivery)
{
    struct connection *connection = delivery->connection;

    connection->delivery = NULL;
    delivery_cancel(shard, delivery, delivery_queue(delivery));
    site_connection_lost(shard, connection);
}

/* The same of a message that rates keep and that cannot wait for its tokens. It must not be read
 * back again and again. */
static void give_back_for_later(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);
    bool is_loaded = delivery->is_loaded;

    give_back(shard, delivery);
    if (is_loaded && queue->stay == QUEUE_HERE && queue->ready_count > 0 &&
        queue->rest_until_ns <= io_now_ns(shard->io))
        queues_wait(shard, queue, READ_AGAIN_MS, WAIT_RATE);
}

/* There is no memory for its header, or for a claim. */
static void give_back_for_room(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);

    rates_settle(shard, queue, &delivery->receipt, false);
    give_back(shard, delivery);
    queues_wait(shard, queue, READ_AGAIN_MS, WAIT_MEMORY);
}

static struct rates_way way_of(struct delivery *delivery)
{
    return (struct rates_way){.source =
                                  delivery->connection ? &delivery->connection->lane->source : NULL,
                              .message = delivery->message,
                              .reading = &delivery->reading};
}

static void send_message(struct shard *shard, struct delivery *delivery);

/* Reading the message took longer than its token could wait: it keeps its connection for a while
 * and stands in line for another, or a slow disk would never get it out. False when it cannot. */
static bool park(struct shard *shard, struct delivery *delivery)
{
    struct rates_way way = way_of(delivery);
    struct queue *queue = delivery_queue(delivery);

    /* Nor would a slow signature. */
    if ((!delivery->is_loaded && delivery->resign.state != RESIGN_DONE) || queue->parked ||
        !rates_may_wait(shard, queue, &way, delivery->count,
                        envelope_content_bytes(&delivery->message->envelope)))
        return false;
    queue->parked = delivery;
    site_hold_for_token(shard, delivery->connection);
    /* The token may be there at once. */
    rates_wait(shard, queue, &way);
    return true;
}

/* Slots of its job, say, were asked for at another shard: they may be free. */
static bool park_for_slot(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);

    if (queue->parked)
        return false;
    delivery->awaits_slot = true;
    queue->parked = delivery;
    site_hold_for_token(shard, delivery->connection);
    return true;
}

void deliver_on_token(struct shard *shard, struct queue *queue)
{
    struct delivery *delivery = queue->parked;

    queue->parked = NULL;
    io_timer_stop(shard->io, &delivery->connection->idle_timer);
    if (site_connection_is_usable(delivery->connection))
        send_message(shard, delivery);
    else
        give_back(shard, delivery);
}

void deliver_unpark(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);

    /* Else it is being read, which ends first. */
    if (queue->parked != delivery)
        return;
    queue->parked = NULL;
    give_back(shard, delivery);
}

/* Nothing leaves by it now: by the connection, or to the carrier, if there is none. What is behind
 * may go. */
static void let_go(struct shard *shard, struct connection *connection, struct queue *queue)
{
    if (connection)
        site_connection_lost(shard, connection);
    else
        queues_reconsider(shard, queue);
}

/* Another time, as its sender has said. Nothing of it is in memory but for this delivery, so nobody
 * waits for a claim. */
static void defer_all(struct shard *shard, struct delivery *delivery, uint64_t due_us)
{
    struct queue *queue = delivery_queue(delivery);

    shard->outcomes_reserved -= delivery->count;
    while (delivery->count > 0) {
        queue->sending_count--;
        queues_defer(shard, delivery->rcpts[--delivery->count], due_us);
    }
    deliver_free(shard, delivery);
}

/* False when it is not the time for the message: it has been seen to. */
static bool is_timely(struct shard *shard, struct delivery *delivery)
{
    struct connection *connection = delivery->connection;
    struct queue *queue = delivery_queue(delivery);
    uint64_t next_us;

    if ((!connection && delivery->local != LOCAL_CARRY) ||
        delivery->message->envelope.terms.len == 0)
        return true;
    next_us = timely_next_us(shard, delivery->message);
    if (next_us == 0)
        return true;
    if (connection)
        connection->delivery = NULL;
    if (next_us == TERMS_NEVER) {
        delivery->connection = NULL;
        delivery->local = LOCAL_EXPIRED;
        snprintf(delivery->local_error, sizeof(delivery->local_error), "%s", queue->last_error);
        finish_local(shard, delivery);
    } else {
        defer_all(shard, delivery, next_us);
    }
    let_go(shard, connection, queue);
    return false;
}

/* Put off, or on its way by the overflow. A claim on a message in memory ends at home first. False
 * when there is no room for that now. */
static bool hold_back_one(struct shard *shard, struct queue *queue, uint32_t index, uint64_t due_us,
                          bool goes_over)
{
    const struct queued *queued = slab_at(&shard->queued, index);

    queue->sending_count--;
    if (goes_over || queued->is_hot) {
        if (migrate_send_home(shard, index, goes_over))
            return true;
        ready_push(shard, queue, index, true);
        return false;
    }
    queues_defer(shard, index, due_us);
    return true;
}

/* The last ones are held back until `left` remain. False when the delivery is over with that. */
static bool hold_back(struct shard *shard, struct delivery *delivery, uint32_t left,
                      uint64_t due_us, bool goes_over)
{
    struct connection *connection = delivery->connection;
    struct queue *queue = delivery_queue(delivery);
    uint32_t count = delivery->count - left;
    bool has_room = true;

    queue->held_back_count++;
    shard->outcomes_reserved -= count;
    for (; count > 0; count--)
        has_room &=
            hold_back_one(shard, queue, delivery->rcpts[--delivery->count], due_us, goes_over);
    delivery->open = delivery->count;
    if (delivery->count > 0)
        return true;
    if (connection)
        connection->delivery = NULL;
    deliver_free(shard, delivery);
    if (!has_room)
        queues_wait(shard, queue, HOLD_BACK_WAIT_MS, WAIT_MEMORY);
    let_go(shard, connection, queue);
    return false;
}

/* It is over for all of it, without any receiver being asked. */
static void settle_unsent(struct shard *shard, struct delivery *delivery,
                          const struct verdict *verdict)
{
    struct connection *connection = delivery->connection;

    if (verdict->class == VERDICT_TRANSIENT)
        queues_note_error(shard, delivery_queue(delivery), verdict);
    deliver_find_addresses(shard, delivery);
    connection->delivery = NULL;
    deliver_settle(shard, delivery, verdict, 0);
    site_connection_lost(shard, connection);
}

/* False when the SPF record of its sender is against it, or not known yet: it has been seen to. */
static bool is_sent_rightly(struct shard *shard, struct delivery *delivery)
{
    struct connection *connection = delivery->connection;
    struct queue *queue = delivery_queue(delivery);
    struct verdict verdict;
    enum spf_out_answer answer;
    uint64_t due_us;

    answer = spf_out_ask(shard, connection->lane, queue, delivery->message, &verdict, &due_us);
    if (answer == SPF_OUT_GOES)
        return true;
    if (answer == SPF_OUT_WAITS)
        return hold_back(shard, delivery, 0, due_us, false);
    settle_unsent(shard, delivery, &verdict);
    return false;
}

/* False when it wants TLS, and the connection is not secured as it wants it. */
static bool is_secured_enough(struct shard *shard, struct delivery *delivery)
{
    struct verdict verdict;

    if (tls_out_carries(delivery->connection, delivery->message, &verdict))
        return true;
    settle_unsent(shard, delivery, &verdict);
    return false;
}

/* False when standing orders, TLS, SPF or the sender's warm-up keep all of it. Nobody of a message
 * in memory goes alone: a claim that ends may be the last one on it. */
static bool is_let_out(struct shard *shard, struct delivery *delivery)
{
    const struct connection *connection = delivery->connection;
    struct queue *queue = delivery_queue(delivery);
    uint64_t due_us;
    bool goes_over;
    uint32_t left;

    if (!connection)
        return true;
    due_us = orders_mail_put_off(shard, connection->lane->site, delivery->message);
    if (due_us > 0)
        return hold_back(shard, delivery, 0, due_us, false);
    if (delivery->message->envelope.terms.len > 0 && !is_secured_enough(shard, delivery))
        return false;
    if (queue->settings.check_spf_outbound && !is_sent_rightly(shard, delivery))
        return false;
    left = warm_sender_allowed(shard, connection->lane, queue, delivery->message);
    if (left >= delivery->count)
        return true;
    /* Its sender's domain is being warmed up, and too little is left of the day or the hour. */
    left = delivery->is_loaded ? left : 0;
    due_us = warm_sender_put_off(shard, connection->lane, queue, delivery->message,
                                 delivery->count - left, &goes_over);
    return hold_back(shard, delivery, left, due_us, goes_over);
}

/* There was no memory for its header. */
static void wait_for_room(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);

    if (delivery->connection) {
        give_back_for_room(shard, delivery);
        return;
    }
    delivery_cancel(shard, delivery, queue);
    queues_wait(shard, queue, READ_AGAIN_MS, WAIT_MEMORY);
}

/* False when it is signed first, or has to wait: it has been seen to. */
static bool is_signed_rightly(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);
    struct verdict verdict;

    switch (resign_ask(shard, delivery, &verdict)) {
    case RESIGN_GOES:
        return true;
    case RESIGN_WAITS:
        return false;
    case RESIGN_STAYS:
        queues_note_error(shard, queue, &verdict);
        return hold_back(shard, delivery, 0, io_wall_us(shard->io) + RESIGN_KEY_WAIT_S * 1000000ull,
                         false);
    case RESIGN_NO_ROOM:
        wait_for_room(shard, delivery);
        return false;
    }
    return true;
}

/* Off to the carrier. */
static void carry_message(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);
    int result = 0;

    if (needs_heading(delivery, queue))
        result = heading_make(queue, delivery);
    deliver_find_addresses(shard, delivery);
    if (result == 0)
        result = carry_start(shard, delivery, fill_content(delivery));
    if (result < 0)
        wait_for_room(shard, delivery);
}

/* The message is in memory: off it goes. */
static void send_message(struct shard *shard, struct delivery *delivery)
{
    struct rates_way way = way_of(delivery);
    enum mail_taken taken;

    if (!is_timely(shard, delivery) || !is_let_out(shard, delivery))
        return;
    if ((delivery->connection || delivery->local == LOCAL_CARRY) &&
        !is_signed_rightly(shard, delivery))
        return;
    if (delivery->local == LOCAL_CARRY) {
        carry_message(shard, delivery);
    } else if (!delivery->connection) {
        finish_local(shard, delivery);
    } else if (warm_allowed(shard, delivery->connection->lane, delivery_queue(delivery)) <
               delivery->count) {
        give_back(shard, delivery);
    } else if ((taken = mail_slots_take(shard, delivery)) == MAIL_PUT_BACK || taken == MAIL_ASKED) {
        if (taken == MAIL_PUT_BACK || !park_for_slot(shard, delivery))
            give_back(shard, delivery);
    } else if (taken == MAIL_NO_ROOM) {
        give_back_for_room(shard, delivery);
    } else if (!rates_take(shard, delivery_queue(delivery), &way, delivery->count,
                           envelope_content_bytes(&delivery->message->envelope),
                           &delivery->receipt)) {
        if (!park(shard, delivery))
            give_back_for_later(shard, delivery);
    } else if (fill_transaction(shard, delivery) < 0) {
        give_back_for_room(shard, delivery);
    } else {
        warm_take(shard, delivery->connection->lane, delivery_queue(delivery), delivery->message,
                  delivery->count, &delivery->warm);
        orders_mail_take(shard, delivery->connection->lane->site, delivery->message,
                         delivery->orders);
        smtpc_send(delivery->connection->smtpc, &delivery->transaction);
    }
}

void deliver_on_signed(struct shard *shard, struct delivery *delivery)
{
    if (delivery->connection && !site_connection_is_usable(delivery->connection))
        give_back(shard, delivery);
    else
        send_message(shard, delivery);
}

/* ---- Loading --------------------------------------------------------------------------------- */

/* Reads the message back from `place` into its first buffer; negative when it cannot be tried now.
 */
static int read_at(struct shard *shard, struct delivery *delivery, const struct log_place *place)
{
    struct message *message = delivery->message;
    int fd = spool_reader_fd(shard->reader, place);

    if (fd < 0)
        return fd;
    if (message->buffers[0].size < place->bytes) {
        if (message_buffer_need(message, place->bytes) < 0)
            return E_FULL;
        message_buffer_drop_first(message);
    }
    delivery->place = *place;
    io_read(shard->io, &delivery->read_op, fd, message->buffers[0].data, place->bytes,
            place->offset);
    return 0;
}

/* Asks where the message lies, which only its home knows, and reads it there. Negative when it
 * cannot be tried now. */
static int locate(struct shard *shard, struct delivery *delivery)
{
    const struct queued *queued = slab_at(&shard->queued, delivery->rcpts[0]);

    delivery->locate = (struct locate){
        .parcel = {.kind = SHARD_LOCATE, .from = shard->number},
        .home_message = queued->home_message,
        .asker = shard->number,
        .id_check = queued->cold.id_check,
    };
    if (queued->home == shard->number) {
        home_locate(shard, &delivery->locate);
        return read_at(shard, delivery, &delivery->locate.place);
    }
    shard_post(shard, queued->home, &delivery->locate.parcel);
    return 0;
}

/* Starts having the message read back; negative when it cannot be tried now. */
static int load(struct shard *shard, struct delivery *delivery)
{
    struct message *message = message_alloc(&shard->pool);
    int result = E_FULL;

    if (!message)
        return E_FULL;
    delivery->message = message;
    delivery->is_loaded = true;
    if (message_buffer_need(message, 1) == 0)
        result = locate(shard, delivery);
    if (result < 0) {
        message_free(message);
        delivery->message = NULL;
        delivery->is_loaded = false;
        return result;
    }
    shard->totals.cold_reads++;
    return 0;
}

static int check_loaded(struct shard *shard, struct delivery *delivery, int32_t result)
{
    const struct log_place *place = &delivery->place;
    struct message *message = delivery->message;
    struct message_buffer *buffer = &message->buffers[0];
    struct iovec iov = {buffer->data, place->bytes};

    if (result < 0)
        return result;
    if ((uint32_t)result < place->bytes ||
        spool_reader_check(place, delivery->locate.message_id, &iov, 1) < 0 ||
        envelope_decode(slice_of(buffer->data + LOG_RECORD_HEADER_BYTES,
                                 place->bytes - LOG_RECORD_HEADER_BYTES),
                        &message->envelope) < 0)
        return E_DAMAGED;
    message->payload_offset = LOG_RECORD_HEADER_BYTES;
    buffer->used = place->bytes;
    message->bytes = place->bytes - LOG_RECORD_HEADER_BYTES;
    return 0;
}

/*
 * The message cannot be had. Damage is final and costs this message alone, with a record that says
 * so; a read that failed is tried again later.
 */
void deliver_on_unreadable(struct shard *shard, struct delivery *delivery, int error)
{
    const uint8_t enhanced[3] = {error == E_DAMAGED ? 5 : 4, 3, 0};
    struct connection *connection = delivery->connection;
    struct queue *queue = delivery_queue(delivery);
    struct verdict verdict;
    char id[14];

    inject_format_id(delivery->locate.message_id, id);
    log_error("message %s cannot be read back (segment %u, offset %u): %s", id,
              delivery->place.serial, delivery->place.offset, err_text(error));
    message_free(delivery->message);
    delivery->message = NULL;
    delivery->is_loaded = false;
    verdict_set_local(&verdict, VERDICT_MESSAGE,
                      error == E_DAMAGED ? VERDICT_PERMANENT : VERDICT_TRANSIENT, VERDICT_AT_LOCAL,
                      error == E_DAMAGED ? 554 : 451, enhanced,
                      "the message cannot be read back from the queue: %s", err_text(error));
    deliver_settle(shard, delivery, &verdict, 0);
    if (connection) {
        connection->delivery = NULL;
        site_connection_lost(shard, connection);
    } else {
        queues_reconsider(shard, queue);
    }
}

static void on_read(struct io_op *op, int32_t result)
{
    struct delivery *delivery = container_of(op, struct delivery, read_op);
    struct shard *shard = delivery->shard;
    int error;

    if (delivery->feed) {
        if (feed_on_read(shard, delivery, result))
            deliver_free(shard, delivery);
        return;
    }
    error = check_loaded(shard, delivery, result);
    if (error == 0 && delivery->place.large > 0 &&
        (delivery->connection || delivery->local == LOCAL_CARRY))
        error = feed_create(shard, delivery);
    /* It may have been moved, and its segment used again, since its home was asked. */
    if (error == E_DAMAGED && !delivery->is_located_twice) {
        delivery->is_located_twice = true;
        error = locate(shard, delivery);
        if (error == 0)
            return;
    }
    if (error < 0)
        deliver_on_unreadable(shard, delivery, error);
    else
        deliver_on_signed(shard, delivery);
}

void deliver_on_located(struct shard *shard, struct locate *locate)
{
    struct delivery *delivery = container_of(locate, struct delivery, locate);
    int error;

    if (delivery->feed) {
        if (feed_on_located(shard, delivery))
            deliver_free(shard, delivery);
        return;
    }
    if (delivery->connection && !site_connection_is_usable(delivery->connection)) {
        give_back(shard, delivery);
        return;
    }
    error = read_at(shard, delivery, &locate->place);
    if (error < 0)
        deliver_on_unreadable(shard, delivery, error);
}

/* Recipients of one transaction, of so many that the queue's rates allow. */
static uint32_t rcpt_count_max(const struct queue *queue, uint32_t allowed)
{
    uint64_t count_max = queue->settings.max_rcpt_per_transaction;

    if (allowed < count_max)
        count_max = allowed;
    return count_max < SMTPC_RCPT_COUNT_MAX ? (uint32_t)count_max : SMTPC_RCPT_COUNT_MAX;
}

/* Of a message in memory no more than its sender's warm-up lets out, as far as that lets out any.
 */
static uint32_t sender_bound(struct shard *shard, const struct connection *connection,
                             const struct queue *queue, const struct queued *first,
                             uint32_t allowed)
{
    uint32_t left = UINT32_MAX;

    if (first->is_hot)
        left = warm_sender_allowed(shard, connection->lane, queue, first->hot);
    return left > 0 && left < allowed ? left : allowed;
}

bool deliver_start(struct shard *shard, struct connection *connection, struct queue *queue)
{
    uint32_t first_index = ready_peek(queue);
    uint32_t allowed = warm_bound(shard, connection->lane, queue,
                                  rates_allowed(shard, queue, &connection->lane->source));
    uint64_t octets = queues_next_octets(queue);
    const struct queued *first;
    struct delivery *delivery;

    if (first_index == NONE || !site_connection_is_usable(connection))
        return false;
    first = slab_at(&shard->queued, first_index);
    /* The tokens may be past when it has been read; one more is always to be had. */
    if (!first->is_hot && rates_count_rcpts(shard, queue, &connection->lane->source))
        allowed = 1;
    allowed = sender_bound(shard, connection, queue, first, allowed);
    delivery = delivery_create(shard, queue, rcpt_count_max(queue, allowed));
    if (!delivery)
        return false;
    delivery->connection = connection;
    mail_slots_reserve(shard, delivery);
    if (!first->is_hot && load(shard, delivery) < 0) {
        delivery_cancel(shard, delivery, queue);
        return false;
    }
    connection->queue = queue;
    connection->vmta_id = queue->vmta_id;
    connection->queue_index = queue->index;
    connection->delivery = delivery;
    queue->connection_count++;
    if (first->is_hot) {
        delivery->message = first->hot;
        send_message(shard, delivery);
    } else {
        rates_begin_read(shard, queue, &connection->lane->source, octets, &delivery->reading);
    }
    return true;
}

bool deliver_start_ahead(struct shard *shard, struct connection *connection, struct queue *queue)
{
    const struct queued *first = slab_at(&shard->queued, ready_peek(queue));
    struct delivery *delivery;
    struct rates_way way;
    uint32_t allowed;
    uint64_t octets;
    bool is_taken, shares_mail;

    /* Reading it back takes longer than the flight can wait. */
    if (!first->is_hot || !orders_mail_is_free(shard, connection->lane->site, first->hot) ||
        !spf_out_goes(shard, connection->lane, queue, first->hot) ||
        !resign_holds(shard, queue, first->hot) ||
        !mail_slots_goes_ahead(shard, connection, queue, first->hot, &shares_mail))
        return false;
    octets = envelope_content_bytes(&first->hot->envelope);
    allowed = warm_bound(shard, connection->lane, queue,
                         rates_allowed_ahead(shard, queue, &connection->lane->source, octets));
    if (allowed == 0 || warm_sender_allowed(shard, connection->lane, queue, first->hot) <
                            rcpt_count_max(queue, allowed))
        return false;
    delivery = delivery_create(shard, queue, rcpt_count_max(queue, allowed));
    if (!delivery)
        return false;
    delivery->connection = connection;
    delivery->message = first->hot;
    if (fill_transaction(shard, delivery) < 0 ||
        !smtpc_send_ahead(connection->smtpc, &delivery->transaction)) {
        delivery_cancel(shard, delivery, queue);
        return false;
    }
    way = way_of(delivery);
    is_taken = planted("shard/no-tokens-when-ahead") ||
               rates_take(shard, queue, &way, delivery->count, octets, &delivery->receipt);
    must(is_taken);
    warm_take(shard, connection->lane, queue, delivery->message, delivery->count, &delivery->warm);
    delivery->shares_mail = shares_mail;
    connection->ahead = delivery;
    return true;
}

struct queue *deliver_return(struct shard *shard, struct delivery *delivery)
{
    struct queue *queue = delivery_queue(delivery);

    must(delivery->open == delivery->count);
    rates_settle(shard, queue, &delivery->receipt, false);
    warm_pass(shard, &delivery->warm, delivery->count);
    delivery_cancel(shard, delivery, queue);
    return queue;
}

static bool is_by_rates(uint8_t local)
{
    return local == LOCAL_DISCARD || local == LOCAL_CARRY;
}

/* Recipients that may end at once, by its rates; those that are carried, each for itself. */
static uint32_t local_count_max(struct shard *shard, struct queue *queue)
{
    uint32_t count = queue->local_left, allowed;

    if (is_by_rates(queue->local)) {
        allowed = queues_ends_here(shard, queue) ? rates_allowed(shard, queue, NULL) : 0;
        count = allowed < count ? allowed : count;
    }
    if (queue->local == LOCAL_CARRY && count > 0)
        count = queue->sending_count < queue->settings.max_smtp_out;
    return count < SMTPC_RCPT_COUNT_MAX ? count : SMTPC_RCPT_COUNT_MAX;
}

bool deliver_local(struct shard *shard, struct queue *queue)
{
    uint32_t count_max = local_count_max(shard, queue);
    struct delivery *delivery;
    const struct queued *first;
    uint32_t count;

    /* Looked at again when it may go on. */
    if (count_max == 0) {
        queue->local_left = 0;
        return true;
    }
    delivery = delivery_create(shard, queue, count_max);
    if (!delivery)
        return false;
    count = delivery->count;
    /* A message that must be read back ends when the queue may have other work. */
    delivery->local = queue->local;
    delivery->local_code = queue->local_code;
    memcpy(delivery->local_enhanced, queue->local_enhanced, sizeof(delivery->local_enhanced));
    snprintf(delivery->local_error, sizeof(delivery->local_error), "%s", queue->last_error);
    first = slab_at(&shard->queued, delivery->rcpts[0]);
    if (!first->is_hot && load(shard, delivery) < 0) {
        delivery_cancel(shard, delivery, queue);
        return false;
    }
    queue->local_left -= count;
    if (is_by_rates(delivery->local)) {
        struct rates_way way = {.message = queued_hot(first)};
        bool is_taken = rates_take(shard, queue, &way, count, 0, &delivery->receipt);

        must(is_taken);
        rates_settle(shard, queue, &delivery->receipt, true);
    }
    if (first->is_hot) {
        delivery->message = first->hot;
        send_message(shard, delivery);
    }
    return true;
}
