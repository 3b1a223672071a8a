#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/control_int.h"

static void gather_free(struct gather *gather)
{
    struct control *control = gather->control;

    for (uint16_t i = 0; i < control->shard_count; i++)
        mem_free(gather->parts[i].report.rows);
    io_timer_stop(control->io, &gather->timer);
    control->gather_count--;
    mem_free(gather->parts);
    mem_free(gather);
}

static void finish(struct gather *gather)
{
    void (*done)(struct gather * gather) = gather->done;

    io_timer_stop(gather->control->io, &gather->timer);
    if (done != NULL) {
        gather->done = NULL;
        done(gather);
    } else if (gather->waiting == 0) {
        gather_free(gather);
    }
}

static void on_timeout(struct io_timer *timer)
{
    struct gather *gather = container_of(timer, struct gather, timer);

    gather->timed_out = true;
    finish(gather);
}

struct gather *gather_start(struct control *control, const struct report *question,
                            uint32_t timeout_ms, void (*done)(struct gather *gather), void *context)
{
    struct gather *gather = mem_alloc(sizeof(*gather));

    gather->control = control;
    gather->done = done;
    gather->context = context;
    gather->waiting = control->shard_count;
    gather->parts = mem_alloc(sizeof(*gather->parts) * control->shard_count);
    control->gather_count++;
    io_timer_init(&gather->timer, on_timeout);
    io_timer_arm(control->io, &gather->timer, io_now_ns(control->io) + timeout_ms * 1000000ull);
    for (uint16_t i = 0; i < control->shard_count; i++) {
        struct gather_part *part = &gather->parts[i];

        part->report = *question;
        part->gather = gather;
        mailbox_post(control->wiring.to_shards[i], &part->report.parcel);
    }
    return gather;
}

void gather_leave(struct gather *gather)
{
    gather->done = NULL;
    io_timer_stop(gather->control->io, &gather->timer);
    if (gather->waiting == 0)
        gather_free(gather);
}

void gather_on_report(struct control *control, struct report *report)
{
    struct gather_part *part = container_of(report, struct gather_part, report);
    struct gather *gather = part->gather;

    must(gather->control == control && gather->waiting > 0);
    gather->waiting--;
    if (report->result < 0 && gather->result >= 0)
        gather->result = report->result;
    gather->affected += report->affected;
#define STATUS_SUM(name) gather->status.name += report->status.name;
    STATUS_COUNTERS(STATUS_SUM)
    STATUS_GAUGES(STATUS_SUM)
#undef STATUS_SUM
    if (gather->waiting == 0)
        finish(gather);
}
