/* The shard's answers to control: counters, rows, orders. */
#include "shard/report.h"

#include "core/base/mem.h"
#include "shard/place.h"
#include "shard/shard_int.h"

#include <stdio.h>

/* ---- Matching ---------------------------------------------------------------------------------
 */

static bool matches(const char *pattern, struct slice text)
{
    return strcmp(pattern, "*") == 0 || slice_equal_nocase(slice_str(pattern), text);
}

static bool name_matches(const struct shard *shard, const struct report *report, uint32_t name,
                         uint32_t vmta_id)
{
    return matches(report->domain_pattern, names_text(&shard->names, name)) &&
           matches(report->vmta_pattern, slice_str(conf_vmta_name(shard->conf, vmta_id)));
}

static bool queue_matches(struct shard *shard, const struct report *report,
                          const struct queue *queue)
{
    return name_matches(shard, report, queue->name, queue->vmta_id);
}

/* ---- Status and rows --------------------------------------------------------------------------
 */

static void add_status(struct shard *shard, struct report *report)
{
    struct report_status now = shard->totals;
    struct smtpd_stats smtpd;
    struct tls_stats tls;
    struct io_stats io;

    smtpd_stats_read(shard->smtpd, &smtpd);
    contexts_stats(shard, &tls);
    io_stats_read(shard->io, &io);
    now.turns = io.turns;
    now.system_calls = io.system_calls;
    now.completions = io.completions;
    now.sleeps = io.sleeps;
    now.queued_messages = shard->home_messages.count_used;
    now.queued_rcpts = shard->rcpts_open;
    now.placed_rcpts = shard->queued.count_used;
    now.sessions_in = smtpd.sessions_now;
    now.connections_out = site_open_connections(shard);
    now.tls_handshakes = tls.handshakes;
    now.tls_resumed = tls.resumed;
    now.tls_failures = tls.failures;
    now.tls_steps_put_off = tls.put_off;
    now.tls_connections = tls.open_count;
    now.tls_sessions_kept = tls.session_count;
    now.hot_bytes = shard->pool.bytes_used;
    now.sent_chunked = smtpc_engine_chunk_count(shard->smtpc);
    now.allocations = mem_alloc_count() - shard->allocations_before;
    for (uint32_t i = 0; i < shard->queues.count_grown; i++)
        if (slab_is_live(&shard->queues, i)) {
            const struct queue *queue = slab_at(&shard->queues, i);

            now.queues += queue->stay != QUEUE_GONE;
            now.waiting_rcpts += queue->deferred_count;
            now.queued_bytes += queue->queued_kilobytes * 1024;
        }
#define STATUS_ADD(name) report->status.name += now.name;
    STATUS_COUNTERS(STATUS_ADD)
    STATUS_GAUGES(STATUS_ADD)
#undef STATUS_ADD
}

static void add_queue_row(struct shard *shard, struct report *report, const struct queue *queue)
{
    uint32_t rcpts = queue->ready_count + queue->deferred_count + queue->sending_count;
    struct queue_row *row;

    /* Its owner has a row for it; what is left here counts there, see control_rows.c. */
    if (queue->stay == QUEUE_GONE && rcpts == 0)
        return;
    row = report_row_add(report, sizeof(*row));
    if (!row)
        return;
    queues_name(shard, queue, row->name, sizeof(row->name));
    row->rcpts = rcpts;
    row->is_remainder = queue->stay == QUEUE_GONE;
    row->bytes = queue->queued_kilobytes * 1024;
    row->connections = queue->connection_count;
    row->paused = queue->paused;
    row->reason = queue->reason;
    row->shard = shard->number;
    row->reason_since_us = queue->reason_since_us;
    row->next_attempt_us = queue->rest_until_ns ? queue->rest_until_us : 0;
    row->last_error_us = queue->last_error_us;
    snprintf(row->last_error, sizeof(row->last_error), "%s", queue->last_error);
    orders_report_mode(shard, queue, &row->mode);
}

/* Rows of one message that stand side by side, from `first` on, are filled together. */
static void fill_hot(struct report *report, uint32_t first, const struct message *hot)
{
    struct rcpt_row *rows = report->rows;

    if (hot)
        rcpt_rows_fill(&rows[first], report->row_count - first, &hot->envelope);
}

static void add_rcpt_rows(struct shard *shard, struct report *report)
{
    const struct message *hot = NULL;
    uint32_t first = 0;

    for (uint32_t i = 0; i < shard->queued.count_grown; i++) {
        const struct queued *queued;
        const struct queue *queue;
        struct rcpt_row *row;

        if (!slab_is_live(&shard->queued, i))
            continue;
        queued = slab_at(&shard->queued, i);
        queue = slab_at(&shard->queues, queued->queue);
        if (!queue_matches(shard, report, queue))
            continue;
        if (queued_hot(queued) != hot) {
            fill_hot(report, first, hot);
            first = report->row_count;
            hot = queued_hot(queued);
        }
        row = report_row_add(report, sizeof(*row));
        if (!row)
            break;
        queues_name(shard, queue, row->queue, sizeof(row->queue));
        row->message_id = hot ? hot->envelope.message_id : 0;
        row->id_check = hot ? (uint8_t)row->message_id : queued->cold.id_check;
        row->attempts = queued_attempts(queued);
        row->accepted_us = queued_accepted_us(queued);
        row->due_us = queued->state == QUEUED_DEFERRED ? (uint64_t)queued->cold.due_s * 1000000 : 0;
        row->home = queued->home;
        row->home_message = queued->home_message;
        row->ordinal = queued->ordinal;
    }
    fill_hot(report, first, hot);
}

/* ---- Orders -----------------------------------------------------------------------------------
 */

/* The base orders the pause of its queues, wherever they are; it alone tells the log. */
static void order_pause(struct shard *shard, struct report *report, struct queue *queue,
                        bool paused)
{
    if (queue->is_guest || queue->stay != QUEUE_HERE)
        return;
    queue->paused = paused;
    queues_persist_pause(shard, names_text(&shard->names, queue->name), queue->vmta_id, paused,
                         report);
    report->affected++;
    queues_reconsider(shard, queue);
}

static bool is_mode_order(const struct report *report)
{
    return report->parcel.kind == REPORT_MODE_BACKOFF || report->parcel.kind == REPORT_MODE_NORMAL;
}

/* The base orders the mode of its queues, wherever they are. */
static void order_mode(struct shard *shard, struct report *report, struct queue *queue)
{
    if (queue->is_guest || queue->stay != QUEUE_HERE)
        return;
    modes_order(shard, names_text(&shard->names, queue->name), queue->vmta_id,
                report->parcel.kind == REPORT_MODE_BACKOFF, report);
}

static void order_queue(struct shard *shard, struct report *report, struct queue *queue)
{
    switch (report->parcel.kind) {
    case REPORT_QUEUES:
        add_queue_row(shard, report, queue);
        break;
    case REPORT_EXPLAIN:
        explain_queue(shard, report, queue);
        break;
    case REPORT_PAUSE:
        order_pause(shard, report, queue, true);
        break;
    case REPORT_RESUME:
        order_pause(shard, report, queue, false);
        break;
    case REPORT_MODE_BACKOFF:
    case REPORT_MODE_NORMAL:
        order_mode(shard, report, queue);
        break;
    case REPORT_SCHEDULE:
        /* The rest of a destination ends too: what stands behind it is due in earnest now. */
        if (queue->reason == WAIT_REST)
            report->affected += queue->ready_count;
        report->affected += queues_schedule(shard, queue);
        break;
    case REPORT_DELETE:
        report->affected += queues_delete(shard, queue, report->older_than_us);
        break;
    default:
        must(false);
    }
}

/* A literal queue that does not exist yet can be paused, or go into backoff mode. */
static void make_named_queue(struct shard *shard, const struct report *report)
{
    const struct conf_vmta *vmta = conf_vmta_named(shard->conf, slice_str(report->vmta_pattern));
    struct slice domain = slice_str(report->domain_pattern);

    if (strcmp(report->domain_pattern, "*") == 0 || !vmta)
        return;
    if (place_base(shard->place, domain, vmta->id) == shard->number &&
        migrate_owner_of(shard, domain, vmta->id) == shard->number)
        queues_obtain(shard, domain, vmta->id);
}

/* Queues whose base is here and whose owner is another shard. */
static void order_aways(struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->aways.count_grown; i++) {
        struct away *away = slab_is_live(&shard->aways, i) ? slab_at(&shard->aways, i) : NULL;

        if (!away || !name_matches(shard, report, away->name, away->vmta_id))
            continue;
        if (is_mode_order(report))
            modes_order(shard, names_text(&shard->names, away->name), away->vmta_id,
                        report->parcel.kind == REPORT_MODE_BACKOFF, report);
        else
            migrate_order_pause(shard, away, report->parcel.kind == REPORT_PAUSE, report);
    }
}

static void answer(struct shard *shard, struct report *report)
{
    mailbox_post(shard->wiring.to_control, &report->parcel);
}

void reports_on_persisted(struct shard *shard, struct report *report)
{
    must(report->pending > 0);
    if (--report->pending == 0)
        answer(shard, report);
}

void reports_on_stopped(struct shard *shard)
{
    tls_report_hand_over(shard, true);
    if (shard->stop_report)
        answer(shard, shard->stop_report);
    shard->stop_report = NULL;
}

/* A message may have ended since its owner wrote the row, and its place here be another's. */
static bool is_of_message(const struct rcpt_row *row, const struct home_message *home)
{
    return (uint8_t)home->id == row->id_check &&
           (uint64_t)home->accepted_s * 1000000 == row->accepted_us &&
           (row->message_id == 0 || row->message_id == home->id);
}

static void fill_places(const struct shard *shard, struct report *report)
{
    struct rcpt_row *rows = report->rows;

    for (uint32_t i = 0; i < report->row_count; i++) {
        const struct home_message *home;

        if (rows[i].home != shard->number ||
            !slab_is_live(&shard->home_messages, rows[i].home_message))
            continue;
        home = slab_at(&shard->home_messages, rows[i].home_message);
        if (!is_of_message(&rows[i], home))
            continue;
        rows[i].message_id = home->id;
        rows[i].place = home->place;
    }
}

/* What home did not know any more is queued no longer. */
static void drop_ended(struct report *report)
{
    struct rcpt_row *rows = report->rows;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < report->row_count; i++) {
        if (rows[i].message_id != 0)
            rows[kept++] = rows[i];
    }
    report->row_count = kept;
}

void reports_on_list(struct shard *shard, struct report *report)
{
    fill_places(shard, report);
    if (++report->shards_passed == shard->count) {
        drop_ended(report);
        report->parcel.kind = REPORT_LIST;
        answer(shard, report);
        return;
    }
    report->parcel.kind = SHARD_LIST;
    shard_post(shard, (uint16_t)((shard->number + 1) % shard->count), &report->parcel);
}

void reports_on_request(struct shard *shard, struct report *report)
{
    if (report->parcel.kind == REPORT_STOP) {
        shard->stop_report = report;
        shard_stop(shard, report->grace_ms, NULL, NULL);
        return;
    }
    if (report->parcel.kind == REPORT_STATUS) {
        add_status(shard, report);
        answer(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_TLS) {
        tls_report_hand_over(shard, false);
        answer(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_IPS) {
        ips_report(shard, report);
        answer(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_ORDERS) {
        orders_report(shard, report);
        hold_report(shard, report);
        outlook_report(shard, report);
        answer(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_WARMUP) {
        warm_report(shard, report);
        answer(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_DISABLE || report->parcel.kind == REPORT_ENABLE) {
        report->pending = 1;
        if (report->parcel.kind == REPORT_DISABLE)
            orders_on_disable(shard, report);
        else
            orders_on_enable(shard, report);
        reports_on_persisted(shard, report);
        return;
    }
    if (report->parcel.kind >= REPORT_BREAKER_RELEASE &&
        report->parcel.kind <= REPORT_BREAKER_RECLASSIFY) {
        report->pending = 1;
        hold_on_verb(shard, report);
        outlook_on_verb(shard, report);
        reports_on_persisted(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_LIST) {
        add_rcpt_rows(shard, report);
        report->shards_passed = 0;
        reports_on_list(shard, report);
        return;
    }
    if (report->parcel.kind == REPORT_PAUSE || report->parcel.kind == REPORT_MODE_BACKOFF)
        make_named_queue(shard, report);
    /* Held until the walk is over, whatever the first orders' answers do meanwhile. */
    report->pending = 1;
    if (report->parcel.kind == REPORT_PAUSE || report->parcel.kind == REPORT_RESUME ||
        is_mode_order(report))
        order_aways(shard, report);
    for (uint32_t i = 0; i < shard->queues.count_grown; i++)
        if (slab_is_live(&shard->queues, i)) {
            struct queue *queue = slab_at(&shard->queues, i);

            if (queue_matches(shard, report, queue))
                order_queue(shard, report, queue);
        }
    reports_on_persisted(shard, report);
}
