#include "shard/outlook.h"

#include "core/base/log.h"
#include "shard/shard_int.h"

#include <inttypes.h>
#include <stdio.h>

#define POLL_NS    (OUTLOOK_POLL_MS * 1000000ull)
#define PASSING_US (86400 * 1000000ull) /* how long `breaker bounce` holds */

static void enter(struct shard *shard, enum breaker_state state)
{
    struct outlook *outlook = &shard->outlook;

    outlook->state = state;
    outlook->since_us = io_wall_us(shard->io);
    outlook->until_us = 0;
    if (state == BREAKER_OPEN) {
        outlook->held = 0;
        io_timer_arm(shard->io, &outlook->timer, io_now_ns(shard->io) + POLL_NS);
        log_warn("breaker of the resolver opens at shard %u: most domains known to exist are "
                 "denied or not answered for, nothing is returned by its word: %s",
                 shard->number, outlook->reason);
        return;
    }
    io_timer_stop(shard->io, &outlook->timer);
    if (state == BREAKER_PASSING) {
        outlook->until_us = outlook->since_us + PASSING_US;
        outlook->until_ns = io_now_ns(shard->io) + PASSING_US * 1000;
    } else {
        log_warn("breaker of the resolver closes at shard %u: its word counts again, %" PRIu64
                 " answers did not",
                 shard->number, outlook->held);
    }
    dns_doubt_denials(shard->dns);
    outlook->release_next = 0;
}

/* What the witnesses said since the last time, then the next question to them. */
static void on_poll(struct io_timer *timer)
{
    struct outlook *outlook = container_of(timer, struct outlook, timer);
    struct shard *shard = container_of(outlook, struct shard, outlook);

    if (dns_outlook(shard->dns, SLICE_EMPTY) == DNS_OUTLOOK_GOOD) {
        enter(shard, BREAKER_CLOSED);
        return;
    }
    dns_ask_witnesses(shard->dns);
    io_timer_arm(shard->io, timer, io_now_ns(shard->io) + POLL_NS);
}

void outlook_init(struct shard *shard)
{
    io_timer_init(&shard->outlook.timer, on_poll);
    shard->outlook.state = BREAKER_CLOSED;
    shard->outlook.release_next = NONE;
}

enum dns_outlook outlook_on_denial(struct shard *shard, const struct queue *queue,
                                   const struct verdict *verdict)
{
    struct outlook *outlook = &shard->outlook;
    enum dns_outlook known = dns_outlook(shard->dns, names_text(&shard->names, queue->name));

    if (outlook->state == BREAKER_PASSING && io_now_ns(shard->io) < outlook->until_ns)
        return DNS_OUTLOOK_GOOD;
    if (outlook->state == BREAKER_PASSING)
        outlook->state = BREAKER_CLOSED;
    if (outlook->state == BREAKER_CLOSED &&
        dns_outlook(shard->dns, SLICE_EMPTY) == DNS_OUTLOOK_BAD) {
        struct slice text = verdict_text(verdict);

        snprintf(outlook->reason, sizeof(outlook->reason), "%.*s", (int)text.len,
                 (const char *)text.data);
        enter(shard, BREAKER_OPEN);
    }
    if (outlook->state != BREAKER_OPEN)
        return known;
    outlook->held++;
    return DNS_OUTLOOK_BAD;
}

bool outlook_holds(const struct shard *shard, const struct queue *queue)
{
    return shard->outlook.state == BREAKER_OPEN && queue->rests_by_dns &&
           queue->rest_until_ns > io_now_ns(shard->io);
}

void outlook_turn(struct shard *shard)
{
    struct outlook *outlook = &shard->outlook;

    for (unsigned i = 0; i < OUTLOOK_RELEASE_MAX && outlook->release_next != NONE; i++) {
        uint32_t index = outlook->release_next++;
        struct queue *queue;

        if (index >= shard->queues.count_grown) {
            outlook->release_next = NONE;
            return;
        }
        queue = slab_is_live(&shard->queues, index) ? slab_at(&shard->queues, index) : NULL;
        if (!queue || !queue->rests_by_dns || queue->stay != QUEUE_HERE)
            continue;
        queue->rests_by_dns = false;
        queue->rest_failures = 0;
        queue->rest_until_ns = 0;
        queues_reconsider(shard, queue);
    }
}

bool outlook_is_busy(const struct shard *shard)
{
    return shard->outlook.release_next != NONE;
}

/* ---- Operators ------------------------------------------------------------------------------- */

void outlook_report(const struct shard *shard, struct report *report)
{
    const struct outlook *outlook = &shard->outlook;
    struct order_row *row;

    if (outlook->state == BREAKER_CLOSED ||
        (outlook->state == BREAKER_PASSING && io_now_ns(shard->io) >= outlook->until_ns))
        return;
    row = report_row_add(report, sizeof(*row));
    if (!row)
        return;
    row->kind = outlook->state == BREAKER_PASSING ? "hold, off" : "hold";
    row->held = outlook->held;
    row->since_us = outlook->since_us;
    row->until_us = outlook->until_us;
    snprintf(row->who, sizeof(row->who), OUTLOOK_KIND "/%u", shard->number);
    snprintf(row->reason, sizeof(row->reason), "%s", outlook->reason);
}

void outlook_on_verb(struct shard *shard, struct report *report)
{
    char number[8];

    snprintf(number, sizeof(number), "%u", shard->number);
    if (strcmp(report->vmta_pattern, OUTLOOK_KIND) != 0 ||
        (strcmp(report->domain_pattern, "*") != 0 && strcmp(report->domain_pattern, number) != 0) ||
        shard->outlook.state == BREAKER_CLOSED || report->parcel.kind == REPORT_BREAKER_RECLASSIFY)
        return;
    enter(shard, report->parcel.kind == REPORT_BREAKER_BOUNCE ? BREAKER_PASSING : BREAKER_CLOSED);
    report->affected++;
}
