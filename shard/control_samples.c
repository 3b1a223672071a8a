/* Totals are kept, differences shown: a sample that comes late only stretches its second. */
#include "shard/control_int.h"

/* Every member of struct traffic. */
#define TRAFFIC_FIELDS(X) X(out_rcp) X(out_msg) X(out_bytes) X(in_rcp) X(in_msg) X(in_bytes)

static struct traffic difference(const struct traffic *now, const struct traffic *before)
{
    struct traffic result;

#define SUBTRACT(field) result.field = now->field - before->field;
    TRAFFIC_FIELDS(SUBTRACT)
#undef SUBTRACT
    return result;
}

static void take_maximum(struct traffic *top, const struct traffic *now)
{
#define MAXIMUM(field)                                                                             \
    if (now->field > top->field)                                                                   \
        top->field = now->field;
    TRAFFIC_FIELDS(MAXIMUM)
#undef MAXIMUM
}

struct traffic samples_traffic_of(const struct report_status *status)
{
    return (struct traffic){
        .out_rcp = status->delivered,
        .out_msg = status->delivered_messages,
        .out_bytes = status->delivered_bytes,
        .in_rcp = status->accepted_rcpts,
        .in_msg = status->accepted_messages,
        .in_bytes = status->accepted_bytes,
    };
}

/* What passed between the oldest and the newest of the last samples of a ring. */
static struct traffic span_of(const struct traffic *ring, uint64_t count, const struct traffic *now)
{
    uint64_t oldest = count > SAMPLES_SPAN + 1 ? count - (SAMPLES_SPAN + 1) : 0;

    if (count == 0)
        return (struct traffic){0};
    return difference(now, &ring[oldest % (SAMPLES_SPAN + 1)]);
}

struct traffic samples_last_minute(const struct samples *samples, const struct traffic *now)
{
    return span_of(samples->seconds, samples->second_count, now);
}

struct traffic samples_last_hour(const struct samples *samples, const struct traffic *now)
{
    uint64_t minute_count = (samples->second_count + SAMPLES_SPAN - 1) / SAMPLES_SPAN;

    return span_of(samples->minutes, minute_count, now);
}

static void take_top(uint64_t *top, uint64_t now)
{
    if (now > *top)
        *top = now;
}

void samples_add(struct samples *samples, const struct report_status *status)
{
    uint64_t second = samples->second_count++;
    struct traffic total = samples_traffic_of(status);
    struct traffic span;

    samples->seconds[second % (SAMPLES_SPAN + 1)] = total;
    if (second % SAMPLES_SPAN == 0)
        samples->minutes[second / SAMPLES_SPAN % (SAMPLES_SPAN + 1)] = total;
    span = samples_last_minute(samples, &total);
    take_maximum(&samples->top_minute, &span);
    span = samples_last_hour(samples, &total);
    take_maximum(&samples->top_hour, &span);
    take_top(&samples->top_sessions_in, status->sessions_in);
    take_top(&samples->top_connections_out, status->connections_out);
}
