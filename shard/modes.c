#include "shard/modes.h"

#include "core/base/err.h"
#include "core/base/wire.h"
#include "shard/shard_int.h"

#include <stdio.h>

#define LOG_WAIT_MS 1000 /* until the log is told again what it had no room for */

static void on_mode_timer(struct io_timer *timer);

void modes_init(struct shard *shard)
{
    slab_init(&shard->mode_orders, sizeof(struct mode_order), shard->limits.queue_count_max);
}

void modes_fini(struct shard *shard)
{
    slab_fini(&shard->mode_orders);
}

void modes_init_queue(struct queue *queue)
{
    io_timer_init(&queue->mode_timer, on_mode_timer);
}

void modes_apply(struct shard *shard, struct queue *queue)
{
    struct conf_queue *settings = &queue->settings;

    queue->backs_off = false;
    if (!orders_hold_back(shard, queue) && !queue->mode.is_backoff)
        return;
    queue->backs_off = conf_hands_on_in_backoff(shard->conf, names_text(&shard->names, queue->name),
                                                queue->vmta_id);
    settings->max_smtp_out = settings->backoff_max_smtp_out;
    settings->max_msg_rate = settings->backoff_max_msg_rate;
    settings->max_connect_rate = settings->backoff_max_connect_rate;
    settings->max_data_volume_rate = settings->backoff_max_data_volume_rate;
    settings->retry_count = settings->backoff_retry_count;
    memcpy(settings->retry_ms, settings->backoff_retry_ms, sizeof(settings->retry_ms));
}

/* Its state has not left for another shard. */
static bool is_ours(const struct queue *queue)
{
    return queue->stay == QUEUE_HERE || (queue->stay == QUEUE_MOVING && queue->migration);
}

static void arm(struct shard *shard, struct queue *queue)
{
    if (queue->mode.is_backoff && queue->mode.until_us != 0)
        io_timer_arm(shard->io, &queue->mode_timer, queue->mode.until_ns);
    else
        io_timer_stop(shard->io, &queue->mode_timer);
}

/* What follows from another mode. */
static void take_effect(struct shard *shard, struct queue *queue)
{
    arm(shard, queue);
    adopt_settings(shard, queue);
    if (queue->stay == QUEUE_HERE)
        queues_reconsider(shard, queue);
}

/* ---- Entering and leaving -------------------------------------------------------------------- */

/* False when the log has no room for it now, or the name is too long for its keys. */
static bool log_mode(struct shard *shard, struct queue *queue, struct mode_order *order)
{
    const struct queue_mode *mode = &queue->mode;
    uint8_t room[16 + MODE_REASON_MAX];
    struct slice value = SLICE_EMPTY;
    struct wire_writer w;

    if (!mode->is_leaving) {
        wire_writer_init(&w, room, sizeof(room));
        wire_put_u64(&w, mode->since_us);
        wire_put_u64(&w, mode->until_us);
        wire_put_bytes(&w, mode->reason, strlen(mode->reason));
        value = slice_of(room, wire_written(&w));
    }
    return queues_persist_mode(shard, queue, value, order);
}

static void finish_order(struct shard *shard, struct mode_order *order);

static void enter(struct shard *shard, struct queue *queue, uint64_t for_ms, const char *reason,
                  struct mode_order *order)
{
    struct queue_mode *mode = &queue->mode;

    /* One that is being left goes on, and the log is told so behind the record of its end. */
    if (mode->is_backoff && !mode->is_leaving && !order)
        return;
    shard->mode_counts.entered += !mode->is_backoff;
    if (!mode->is_backoff) {
        char text[EVENT_TEXT_MAX];

        snprintf(text, sizeof(text), "backoff: %s", reason);
        events_note(shard, queue, EVENT_MODE, text);
        if (!queue->hold.is_held)
            note_mode(shard, queue, reason);
    }
    *mode = (struct queue_mode){
        .is_backoff = true, .since_ns = io_now_ns(shard->io), .since_us = io_wall_us(shard->io)};
    if (for_ms != CONF_UNLIMITED) {
        mode->until_ns = mode->since_ns + for_ms * 1000000;
        mode->until_us = mode->since_us + for_ms * 1000;
    }
    snprintf(mode->reason, sizeof(mode->reason), "%s", reason);
    mode->is_logged = log_mode(shard, queue, order);
    if (order && !mode->is_logged) {
        order->result = E_FULL;
        finish_order(shard, order);
    }
    take_effect(shard, queue);
}

/* Normal from now on. */
static void loosen(struct shard *shard, struct queue *queue)
{
    shard->mode_counts.left++;
    if (!queue->hold.is_held)
        note_mode(shard, queue, NULL);
    events_note(shard, queue, EVENT_MODE, "normal");
    queue->mode = (struct queue_mode){0};
    take_effect(shard, queue);
}

static void leave(struct shard *shard, struct queue *queue, struct mode_order *order)
{
    struct queue_mode *mode = &queue->mode;

    if (!mode->is_backoff || (mode->is_leaving && !order)) {
        if (order)
            finish_order(shard, order);
        return;
    }
    mode->is_leaving = true;
    if (log_mode(shard, queue, order))
        return;
    mode->is_leaving = false;
    if (!mode->is_logged) {
        loosen(shard, queue);
    } else {
        if (order)
            order->result = E_FULL;
        io_timer_arm(shard->io, &queue->mode_timer,
                     io_now_ns(shard->io) + LOG_WAIT_MS * 1000000ull);
    }
    if (order)
        finish_order(shard, order);
}

void modes_on_logged(struct shard *shard, struct queue *queue, struct mode_order *order,
                     bool is_loosening, int32_t status)
{
    if (queue && is_loosening && queue->mode.is_leaving) {
        if (status == 0) {
            loosen(shard, queue);
        } else {
            queue->mode.is_leaving = false;
            io_timer_arm(shard->io, &queue->mode_timer,
                         io_now_ns(shard->io) + LOG_WAIT_MS * 1000000ull);
        }
    }
    if (!order)
        return;
    order->result = status < 0 ? status : order->result;
    finish_order(shard, order);
}

static void on_mode_timer(struct io_timer *timer)
{
    struct queue *queue = container_of(timer, struct queue, mode_timer);

    leave(queue->shard, queue, NULL);
}

void modes_stop(struct shard *shard, struct queue *queue)
{
    io_timer_stop(shard->io, &queue->mode_timer);
}

void modes_resume(struct shard *shard, struct queue *queue, const struct queue_mode *mode)
{
    if (mode != &queue->mode)
        queue->mode = *mode;
    arm(shard, queue);
    adopt_settings(shard, queue);
}

void modes_recover(struct shard *shard, struct queue *queue, struct slice value)
{
    struct queue_mode mode = {.is_backoff = true, .is_logged = true};
    uint64_t now_us = io_wall_us(shard->io);
    struct slice reason;
    struct wire_reader r;

    wire_reader_init(&r, value.data, value.len);
    mode.since_us = wire_get_u64(&r);
    mode.until_us = wire_get_u64(&r);
    reason = slice_after(value, value.len < 16 ? value.len : 16);
    snprintf(mode.reason, sizeof(mode.reason), "%.*s", (int)reason.len, (const char *)reason.data);
    mode.since_ns = io_now_ns(shard->io);
    mode.until_ns = io_now_ns(shard->io);
    if (mode.until_us > now_us)
        mode.until_ns += (mode.until_us - now_us) * 1000;
    modes_resume(shard, queue, &mode);
}

/* ---- Replies and deliveries ------------------------------------------------------------------ */

void modes_on_reply(struct shard *shard, struct queue *queue, const struct react *react,
                    const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict);
    char reason[MODE_REASON_MAX];
    const struct conf_reply_rule *rule = react->lines[REACT_OF_QUEUE].mode;
    uint64_t for_ms;

    if (!is_ours(queue) || !rule)
        return;
    if (rule->actions & CONF_REPLY_NORMAL) {
        leave(shard, queue, NULL);
        return;
    }
    for_ms = rule->backoff_ms;
    if (for_ms == CONF_REPLY_NO_TIME)
        for_ms = queue->settings.backoff_to_normal_after_ms;
    snprintf(reason, sizeof(reason), "%s:%u: %.*s", rule->file, rule->line, (int)text.len,
             (const char *)text.data);
    enter(shard, queue, for_ms, reason, NULL);
}

void modes_back_off(struct shard *shard, struct queue *queue, uint64_t for_ms, const char *reason)
{
    if (for_ms == CONF_REPLY_NO_TIME)
        for_ms = queue->settings.backoff_to_normal_after_ms;
    if (is_ours(queue))
        enter(shard, queue, for_ms, reason, NULL);
}

void modes_on_delivered(struct shard *shard, struct queue *queue, uint64_t began_ns)
{
    /* What was under way when the receiver refused says nothing about the time after. */
    if (queue->mode.is_backoff && is_ours(queue) && began_ns >= queue->mode.since_ns &&
        queue->settings.backoff_to_normal_after_delivery)
        leave(shard, queue, NULL);
}

/* ---- Operators ------------------------------------------------------------------------------- */

/* The order is carried out, by whomever: its base counts it. */
static void end_order(struct shard *shard, struct mode_order *order)
{
    struct report *report = order->report;

    if (order->result < 0)
        report->result = order->result;
    names_put(&shard->names, order->name);
    slab_free(&shard->mode_orders, order->index);
    reports_on_persisted(shard, report);
}

static void finish_order(struct shard *shard, struct mode_order *order)
{
    if (order->base == shard->number) {
        end_order(shard, order);
        return;
    }
    order->parcel.kind = SHARD_MODE_SET;
    shard_post(shard, order->base, &order->parcel);
}

static void carry_out(struct shard *shard, struct queue *queue, struct mode_order *order)
{
    if (order->to_backoff)
        enter(shard, queue, queue->settings.backoff_to_normal_after_ms, "set by an operator",
              order);
    else
        leave(shard, queue, order);
}

/* By the base: here, at the shard where the queue is, or made for the order's sake. */
static void direct(struct shard *shard, struct mode_order *order)
{
    struct queue *queue = queues_find(shard, order->domain, order->vmta_id);
    uint16_t owner = migrate_owner_of(shard, order->domain, order->vmta_id);

    if (owner != shard->number) {
        shard_post(shard, owner, &order->parcel);
        return;
    }
    if (order->to_backoff && (!queue || queue->stay != QUEUE_HERE))
        queue = queues_obtain(shard, order->domain, order->vmta_id);
    if (!queue && order->to_backoff)
        order->result = E_FULL;
    if (queue && queue->stay == QUEUE_HERE)
        carry_out(shard, queue, order);
    else
        finish_order(shard, order);
}

void modes_order(struct shard *shard, struct slice domain, uint32_t vmta_id, bool to_backoff,
                 struct report *report)
{
    struct mode_order *order;
    uint32_t index, name;

    order = slab_alloc(&shard->mode_orders, &index);
    name = order ? names_get(&shard->names, domain) : NAME_NONE;
    if (name == NAME_NONE) {
        if (order)
            slab_free(&shard->mode_orders, index);
        report->result = E_FULL;
        return;
    }
    *order = (struct mode_order){
        .parcel = {.kind = SHARD_MODE, .from = shard->number},
        .report = report,
        .domain = names_text(&shard->names, name),
        .name = name,
        .vmta_id = vmta_id,
        .index = index,
        .base = shard->number,
        .to_backoff = to_backoff,
    };
    report->pending++;
    report->affected++;
    direct(shard, order);
}

static void on_order(struct shard *shard, struct mode_order *order)
{
    struct queue *queue = queues_find(shard, order->domain, order->vmta_id);

    if (queue && queue->stay == QUEUE_HERE) {
        carry_out(shard, queue, order);
        return;
    }
    /* It is on its way, or went: its base hears of that before this parcel is back, or later. */
    order->is_missed = true;
    finish_order(shard, order);
}

void modes_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct mode_order *order = container_of(parcel, struct mode_order, parcel);

    if (parcel->kind == SHARD_MODE) {
        on_order(shard, order);
        return;
    }
    if (!order->is_missed) {
        end_order(shard, order);
        return;
    }
    order->is_missed = false;
    order->parcel.kind = SHARD_MODE;
    direct(shard, order);
}
