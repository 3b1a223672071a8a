/*
 * explain: why a queue waits, in words.
 *
 * The shard says what holds the queue back at this moment, with the figures of the limits, and
 * which part of the last minutes each reason took. Here sentences are made of it, and one piece of
 * advice: when a limit of ours held mail back that the receiver would have taken.
 */
#include "core/conf/conf.h"
#include "shard/control_int.h"

#include <stdio.h>
#include <string.h>

#define DETAIL_MAX 1400
/* Parts of the time below are not worth a line. */
#define SHARE_MIN  0.005f
/* Of the time in which something waited: from here on a limit of ours is what it waits for. */
#define OURS_MIN   0.5f
/* An error since then means that the receiver does not take everything. */
#define QUIET_US   (300 * 1000000ull)

/* Reasons that a directive of the operator's makes. */
static const char *const ours[WAIT_REASON_COUNT] = {
    [WAIT_OWN_LIMIT] = "max-smtp-out of the queue",
    [WAIT_LIMIT] = "the limit of connections that it shares",
    [WAIT_RATE] = "max-msg-rate",
    [WAIT_VMTA_RATE] = "max-smtp-msg-rate of the virtual MTA",
    [WAIT_CONNECT_RATE] = "max-connect-rate",
    [WAIT_VOLUME] = "max-data-volume-rate",
    [WAIT_WARMUP] = "schedule of the <warm-up>",
    [WAIT_VMTA_VOLUME] = "max-smtp-data-volume-rate of the virtual MTA",
};

static void put_bound(char *room, size_t room_bytes, uint64_t bound)
{
    if (bound == CONF_UNLIMITED)
        snprintf(room, room_bytes, "unlimited");
    else
        snprintf(room, room_bytes, "%llu", (unsigned long long)bound);
}

/* Of a directive that has a twin for backoff mode: the one that counts now. */
static const char *in_mode(const struct explain_row *row, const char *normal, const char *backoff)
{
    return row->mode.is_backoff ? backoff : normal;
}

static void put_rate(char *room, size_t room_bytes, const char *keyword,
                     const struct explain_rate *rate)
{
    snprintf(room, room_bytes, "%s allows %llu in %.10g s", keyword,
             (unsigned long long)rate->count, (double)rate->interval_ms / 1000);
}

static void put_holder(const struct explain_row *row, char *room, size_t room_bytes)
{
    int len = snprintf(room, room_bytes, "%s, %llu, of which its shard uses %u", row->limit,
                       (unsigned long long)row->limit_max, row->limit_used);

    if (row->limit_top[0] != '\0' && len >= 0 && (size_t)len < room_bytes)
        snprintf(room + len, room_bytes - (size_t)len, ", most of them %s with %u", row->limit_top,
                 row->limit_top_count);
}

static void put_limits(const struct explain_row *row, char *room, size_t room_bytes)
{
    char of_vmta[24], of_all[24];
    int len;

    put_bound(of_vmta, sizeof(of_vmta), row->vmta_connections_max);
    put_bound(of_all, sizeof(of_all), row->all_connections_max);
    len =
        snprintf(room, room_bytes,
                 "the virtual MTA may have %s connections, all together %s; the queue's shard has "
                 "%u of the one and %u of the other, the queue %u",
                 of_vmta, of_all, row->vmta_connections, row->all_connections, row->connections);
    if (row->limit[0] == '\0' || len < 0 || (size_t)len >= room_bytes)
        return;
    room += len;
    room_bytes -= (size_t)len;
    len = snprintf(room, room_bytes, "; it waits for ");
    if (len >= 0 && (size_t)len < room_bytes)
        put_holder(row, room + len, room_bytes - (size_t)len);
}

/* Some of its mail waits for a limit by job, sender's domain or user, whatever the rest does. */
static void put_shut(const struct explain_row *row, char *room, size_t room_bytes)
{
    size_t len = strlen(room);
    int more;

    if (row->limit_rcpts == 0 || row->limit[0] == '\0' || row->reason == WAIT_LIMIT)
        return;
    room += len;
    room_bytes -= len;
    more = snprintf(room, room_bytes, "%s%u of its recipients wait for ", len > 0 ? "; " : "",
                    row->limit_rcpts);
    if (more >= 0 && (size_t)more < room_bytes)
        put_holder(row, room + more, room_bytes - (size_t)more);
}

/* One that waits for replies alone stands in no line, and has connections all the same. */
static void put_connections(const struct explain_row *row, char *room, size_t room_bytes)
{
    int len = row->lane_connections == 0
                  ? snprintf(room, room_bytes, "%u connections of the queue", row->connections)
                  : snprintf(room, room_bytes,
                             "%u connections from this source address, %u more coming up",
                             row->lane_connections - row->lane_connecting, row->lane_connecting);

    if (row->rcpt_ms > 0 && len >= 0 && (size_t)len < room_bytes)
        snprintf(room + len, room_bytes - (size_t)len, "; a recipient takes %u ms there",
                 row->rcpt_ms);
}

/* What the figures say about the present reason; nothing where the reason says it all. */
static void put_detail(const struct explain_row *row, char *room, size_t room_bytes)
{
    room[0] = '\0';
    switch ((enum wait_reason)row->reason) {
    case WAIT_CONNECTION:
        put_connections(row, room, room_bytes);
        break;
    case WAIT_OWN_LIMIT:
        snprintf(room, room_bytes, "%s allows %llu, and %u are in use",
                 in_mode(row, "max-smtp-out", "backoff-max-smtp-out"),
                 (unsigned long long)row->connections_max, row->connections);
        break;
    case WAIT_LIMIT:
        put_limits(row, room, room_bytes);
        break;
    case WAIT_RATE:
        put_rate(room, room_bytes, in_mode(row, "max-msg-rate", "backoff-max-msg-rate"),
                 &row->msg_rate);
        break;
    case WAIT_CONNECT_RATE:
        put_rate(room, room_bytes, in_mode(row, "max-connect-rate", "backoff-max-connect-rate"),
                 &row->connect_rate);
        break;
    case WAIT_VMTA_RATE:
        put_rate(room, room_bytes, "max-smtp-msg-rate", &row->vmta_rate);
        break;
    case WAIT_WARMUP:
    case WAIT_HELD:
    case WAIT_ORDER:
    case WAIT_MAIL_ORDER:
    case WAIT_HANDED_ON:
    case WAIT_RESOLVER:
        snprintf(room, room_bytes, "%s", row->order);
        break;
    case WAIT_VOLUME:
        put_rate(room, room_bytes, "max-data-volume-rate", &row->volume_rate);
        break;
    case WAIT_VMTA_VOLUME:
        put_rate(room, room_bytes, "max-smtp-data-volume-rate", &row->vmta_volume_rate);
        break;
    default:
        break;
    }
}

/* The limit of ours that took most of the time, if it took half of it and the receiver had nothing
 * to say against more; NULL otherwise. Backoff mode is there because somebody had. */
static const char *could_be_raised(const struct explain_row *row)
{
    float sum = 0, most = 0;
    const char *limit = NULL;

    if (row->mode.is_backoff)
        return NULL;
    if (row->last_error_us != 0 && row->now_us < row->last_error_us + QUIET_US)
        return NULL;
    for (unsigned i = 0; i < WAIT_REASON_COUNT; i++) {
        if (ours[i] == NULL)
            continue;
        sum += row->shares[i];
        if (row->shares[i] <= most)
            continue;
        most = row->shares[i];
        limit = ours[i];
    }
    return sum >= OURS_MIN ? limit : NULL;
}

static json_t *shares_of(const struct explain_row *row)
{
    json_t *array = json_array();

    for (unsigned i = 0; i < WAIT_REASON_COUNT; i++) {
        json_t *object;

        if (row->shares[i] < SHARE_MIN)
            continue;
        object = json_object();
        json_object_set_new(object, "reason", json_string(wait_reason_text(i)));
        json_object_set_new(object, "pct", json_real((int)(row->shares[i] * 1000 + 0.5f) / 10.0));
        json_array_append_new(array, object);
    }
    return array;
}

static const char *const event_kind_texts[] = {
    [EVENT_ERROR] = "error",       [EVENT_MODE] = "mode",       [EVENT_DELIVERED] = "delivered",
    [EVENT_DEFERRED] = "deferred", [EVENT_BOUNCED] = "bounced",
};

static json_t *events_of(const struct explain_row *row, enum event_series series)
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < row->event_counts[series]; i++) {
        const struct explain_event *event = &row->events[series][i];
        json_t *object = json_object();

        json_object_set_new(object, "time", control_time(event->at_us));
        json_object_set_new(object, "type", json_string(event_kind_texts[event->kind]));
        json_object_set_new(object, "times", json_integer(event->times));
        json_object_set_new(object, "text", control_string(event->text));
        json_array_append_new(array, object);
    }
    return array;
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

static void describe(json_t *data, const struct explain_row *row)
{
    const char *limit = could_be_raised(row);
    char detail[DETAIL_MAX];

    put_detail(row, detail, sizeof(detail));
    put_shut(row, detail, sizeof(detail));
    json_object_set_new(data, "queue", control_string(row->name));
    set_number(data, "ready", row->ready);
    set_number(data, "waiting", row->waiting);
    set_number(data, "sending", row->sending);
    set_number(data, "conn", row->connections);
    json_object_set_new(data, "reason", json_string(wait_reason_text(row->reason)));
    json_object_set_new(data, "reasonSince", control_time(row->reason_since_us));
    json_object_set_new(data, "detail", control_string(detail));
    json_object_set_new(data, "again", control_time(row->again_us));
    json_object_set_new(data, "lastError", control_string(row->last_error));
    json_object_set_new(data, "lastErrorTime", control_time(row->last_error_us));
    control_put_mode(data, &row->mode);
    json_object_set_new(data, "share", shares_of(row));
    json_object_set_new(data, "event", events_of(row, EVENTS_OF_QUEUE));
    json_object_set_new(data, "rcptEvent", events_of(row, EVENTS_OF_RCPTS));
    json_object_set_new(data, "raise", limit != NULL ? json_string(limit) : json_null());
}

/* A queue without mail may be one whose mail is in another one. */
static void put_elsewhere(const struct conf *conf, const struct verb_request *request,
                          char room[DETAIL_MAX])
{
    const struct conf_vmta *vmta = conf_vmta_named(conf, slice_str(request->vmta));
    char holder[CONTROL_QUEUE_MAX];
    struct conf_way way;

    room[0] = '\0';
    if (vmta == NULL) {
        conf_vmta_missing(conf, request->vmta, false, room);
        return;
    }
    conf_way(conf, slice_str(request->domain), vmta->id, 0, &way);
    if (way.is_elsewhere) {
        control_way_name(conf, &way, holder);
        snprintf(room, DETAIL_MAX,
                 "its mail is in the queue %s%s, by queue-to or reroute-to-virtual-mta", holder,
                 way.by_turn ? ", one of several by turns" : "");
    } else if (vmta->id == CONF_VMTA_DEFAULT) {
        snprintf(room, DETAIL_MAX,
                 "this is its queue without a virtual MTA, `show queues %s` has the others",
                 request->domain);
    }
}

static void describe_nothing(const struct conf *conf, json_t *data,
                             const struct verb_request *request)
{
    char name[CONTROL_QUEUE_MAX], detail[DETAIL_MAX];

    put_elsewhere(conf, request, detail);
    snprintf(name, sizeof(name), "%s/%s", request->domain, request->vmta);
    json_object_set_new(data, "queue", control_string(name));
    set_number(data, "ready", 0);
    set_number(data, "waiting", 0);
    set_number(data, "sending", 0);
    set_number(data, "conn", 0);
    json_object_set_new(data, "reason", json_string(wait_reason_text(WAIT_NOTHING)));
    json_object_set_new(data, "detail", control_string(detail));
    json_object_set_new(data, "share", json_array());
    json_object_set_new(data, "event", json_array());
    json_object_set_new(data, "rcptEvent", json_array());
    json_object_set_new(data, "raise", json_null());
}

json_t *control_explain_tree(const struct verb_request *request, const struct gather *gather)
{
    json_t *data = json_object();

    for (uint16_t i = 0; i < gather->control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct explain_row *rows = report->rows;

        for (uint32_t j = 0; j < report->row_count; j++)
            if (!rows[j].is_remainder)
                describe(data, &rows[j]);
    }
    if (json_object_get(data, "queue") == NULL)
        describe_nothing(gather->control->conf, data, request);
    return data;
}

/* ---- Text ------------------------------------------------------------------------------------ */

static const char *text_of(const json_t *data, const char *key)
{
    const char *text = json_string_value(json_object_get(data, key));

    return text != NULL ? text : "";
}

static long long number_of(const json_t *data, const char *key)
{
    return (long long)json_integer_value(json_object_get(data, key));
}

static void put_events(const json_t *data, const char *key, struct text_buffer *out)
{
    const json_t *events = json_object_get(data, key);

    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);

        text_format(out, "%s  %s %s, %lld times: %s\n", i == 0 ? "what happened lately:\n" : "",
                    text_of(event, "time"), text_of(event, "type"), number_of(event, "times"),
                    text_of(event, "text"));
    }
}

static void put_mode(const json_t *data, struct text_buffer *out)
{
    const char *until = text_of(data, "modeUntil");

    if (strcmp(text_of(data, "mode"), "backoff") == 0)
        text_format(out, "in backoff mode since %s%s%s: %s\n", text_of(data, "modeSince"),
                    until[0] != '\0' ? ", until " : "", until, text_of(data, "modeReason"));
}

void control_explain_text(const json_t *data, struct text_buffer *out)
{
    const json_t *shares = json_object_get(data, "share");
    const char *limit = json_string_value(json_object_get(data, "raise"));

    text_format(out, "%s: %lld recipients due, %lld waiting for their time, %lld being sent\n",
                text_of(data, "queue"), number_of(data, "ready"), number_of(data, "waiting"),
                number_of(data, "sending"));
    text_format(out, "now: %s", text_of(data, "reason"));
    if (text_of(data, "reasonSince")[0] != '\0')
        text_format(out, ", since %s", text_of(data, "reasonSince"));
    if (text_of(data, "detail")[0] != '\0')
        text_format(out, "; %s", text_of(data, "detail"));
    if (text_of(data, "again")[0] != '\0')
        text_format(out, "; looked at again at %s", text_of(data, "again"));
    text_format(out, "\n");
    put_mode(data, out);
    if (text_of(data, "lastError")[0] != '\0')
        text_format(out, "last error, at %s: %s\n", text_of(data, "lastErrorTime"),
                    text_of(data, "lastError"));
    for (size_t i = 0; i < json_array_size(shares); i++) {
        const json_t *share = json_array_get(shares, i);

        text_format(out, "%s%5.1f %%  %s\n", i == 0 ? "while something waited lately:\n" : "",
                    json_real_value(json_object_get(share, "pct")), text_of(share, "reason"));
    }
    put_events(data, "event", out);
    put_events(data, "rcptEvent", out);
    if (limit != NULL)
        text_format(out, "the receiver took everything meanwhile: %s can be raised\n", limit);
}
