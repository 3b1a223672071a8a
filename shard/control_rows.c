/* Rows of queues and recipients: gathered, filtered, summed up, sorted, as trees and tables. */
#include "core/base/mem.h"
#include "shard/control_int.h"

#include <stdio.h>
#include <stdlib.h>

/* Rows shown when nobody asks for a number. */
#define QUEUE_ROWS_DEFAULT 10000u
#define TOP_ROWS_DEFAULT   10u

/* A queue, or several of one domain or VMTA summed up. */
struct group {
    char name[REPORT_NAME_MAX];
    const struct queue_row *row; /* the queue itself; NULL for sums */
    uint64_t members;
    uint64_t rcpts;
    uint64_t bytes;
    uint64_t connections;
};

struct groups {
    struct group *items;
    uint32_t count;
    uint32_t capacity;
};

/* ---- Collecting ------------------------------------------------------------------------------ */

static bool is_shown(const struct verb_request *request, const struct group *queue)
{
    if ((request->given & VERB_BIT(OPTION_PAUSED)) != 0 && queue->row->paused != request->paused)
        return false;
    if ((request->given & VERB_BIT(OPTION_MODE)) != 0 &&
        queue->row->mode.is_backoff != request->backoff)
        return false;
    if ((request->given & VERB_BIT(OPTION_CONNECTED)) != 0 &&
        (queue->connections > 0) != request->connected)
        return false;
    return true;
}

static struct group *add_group(struct groups *groups, const char *name)
{
    struct group *group;

    if (groups->count == groups->capacity) {
        uint32_t capacity = groups->capacity != 0 ? groups->capacity * 2 : 256;
        struct group *items = mem_try_alloc(capacity * sizeof(*items));

        if (items == NULL)
            return NULL;
        if (groups->count > 0)
            memcpy(items, groups->items, groups->count * sizeof(*items));
        mem_free(groups->items);
        groups->items = items;
        groups->capacity = capacity;
    }
    group = &groups->items[groups->count++];
    *group = (struct group){0};
    snprintf(group->name, sizeof(group->name), "%s", name);
    return group;
}

/* The part of "domain/vmta" that rows are summed up by. */
static void set_group_name(enum verb verb, struct group *group)
{
    const char *queue = group->row->name;
    const char *slash = strchr(queue, '/');

    if (verb == VERB_SHOW_DOMAINS && slash != NULL)
        snprintf(group->name, sizeof(group->name), "%.*s", (int)(slash - queue), queue);
    else if (verb == VERB_SHOW_VMTAS && slash != NULL)
        snprintf(group->name, sizeof(group->name), "%s", slash + 1);
}

static void collect(const struct gather *gather, struct groups *groups)
{
    for (uint16_t i = 0; i < gather->control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct queue_row *rows = report->rows;

        for (uint32_t k = 0; k < report->row_count; k++) {
            struct group *group = add_group(groups, rows[k].name);

            if (group == NULL)
                return;
            group->row = &rows[k];
            group->members = 1;
            group->rcpts = rows[k].rcpts;
            group->bytes = rows[k].bytes;
            group->connections = rows[k].connections;
        }
    }
}

/* ---- Order ----------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct group *)a)->name, ((const struct group *)b)->name);
}

/* Larger first, then by name. */
static int by_number(uint64_t a_number, uint64_t b_number, const void *a, const void *b)
{
    if (a_number != b_number)
        return a_number > b_number ? -1 : 1;
    return by_name(a, b);
}

static int by_rcpts(const void *a, const void *b)
{
    return by_number(((const struct group *)a)->rcpts, ((const struct group *)b)->rcpts, a, b);
}

static int by_bytes(const void *a, const void *b)
{
    return by_number(((const struct group *)a)->bytes, ((const struct group *)b)->bytes, a, b);
}

static int by_connections(const void *a, const void *b)
{
    return by_number(((const struct group *)a)->connections, ((const struct group *)b)->connections,
                     a, b);
}

static void sort_groups(struct groups *groups, int (*compare)(const void *a, const void *b))
{
    if (groups->count > 1)
        qsort(groups->items, groups->count, sizeof(groups->items[0]), compare);
}

static void add_to(struct group *sum, const struct group *group)
{
    sum->rcpts += group->rcpts;
    sum->bytes += group->bytes;
    sum->connections += group->connections;
}

/* Sorted by name: a queue that is leaving a shard has a row there and one at its owner, whose word
 * it is. Only queues that are asked for remain. */
static void unite_queues(const struct verb_request *request, struct groups *groups)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < groups->count;) {
        struct group queue = groups->items[i++];

        for (; i < groups->count && strcmp(groups->items[i].name, queue.name) == 0; i++) {
            if (queue.row->is_remainder)
                queue.row = groups->items[i].row;
            add_to(&queue, &groups->items[i]);
        }
        if (!is_shown(request, &queue))
            continue;
        set_group_name(request->verb, &queue);
        groups->items[kept++] = queue;
    }
    groups->count = kept;
}

/* Sorted by name: neighbours of one name become one. */
static void sum_up(struct groups *groups)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < groups->count; i++) {
        struct group *group = &groups->items[i];

        group->row = NULL;
        if (kept > 0 && strcmp(groups->items[kept - 1].name, group->name) == 0) {
            groups->items[kept - 1].members += group->members;
            add_to(&groups->items[kept - 1], group);
        } else {
            groups->items[kept++] = *group;
        }
    }
    groups->count = kept;
}

/* Virtual MTAs without a queue are shown too, unless only some rows are wanted. */
static void add_idle_vmtas(const struct conf *conf, const struct verb_request *request,
                           struct groups *groups)
{
    uint32_t named = groups->count;

    if ((request->given &
         (VERB_BIT(OPTION_PAUSED) | VERB_BIT(OPTION_CONNECTED) | VERB_BIT(OPTION_MODE))) != 0 ||
        strcmp(request->domain, "*") != 0 || strcmp(request->vmta, "*") != 0)
        return;
    for (uint32_t i = 0; i < conf_vmta_count(conf); i++) {
        struct group key;

        snprintf(key.name, sizeof(key.name), "%s", conf_vmta_at(conf, i)->name);
        if (named == 0 || bsearch(&key, groups->items, named, sizeof(key), by_name) == NULL)
            add_group(groups, key.name);
    }
}

/* ---- Trees ----------------------------------------------------------------------------------- */

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

static json_t *event_of(const struct queue_row *row)
{
    json_t *event = json_object();

    set(event, "type", json_string("error"));
    set(event, "time", control_time(row->last_error_us));
    set(event, "text", control_string(row->last_error));
    return event;
}

/* Why nothing is sent now, with the last error where there was one. */
static json_t *explain(const struct queue_row *row)
{
    char text[1024];
    const char *reason = wait_reason_text((enum wait_reason)row->reason);
    int len = snprintf(text, sizeof(text), "%s", reason);

    if (row->mode.is_backoff)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "; backoff mode: %s",
                        row->mode.reason);
    if (row->last_error[0] != '\0')
        snprintf(text + len, sizeof(text) - (size_t)len, "; last error: %s", row->last_error);
    return control_string(text);
}

void control_put_mode(json_t *object, const struct report_mode *mode)
{
    set(object, "mode", json_string(mode->is_backoff ? "backoff" : "normal"));
    if (!mode->is_backoff)
        return;
    set(object, "modeReason", control_string(mode->reason));
    set(object, "modeSince", control_time(mode->since_us));
    set(object, "modeUntil", control_time(mode->until_us));
}

static json_t *queue_tree(const struct group *queue)
{
    const struct queue_row *row = queue->row;
    json_t *object = json_object();
    json_t *events = json_array();

    set(object, "name", control_string(row->name));
    set_number(object, "rcp", queue->rcpts);
    set_number(object, "kb", queue->bytes / 1024);
    set_number(object, "conn", queue->connections);
    set(object, "paused", json_boolean(row->paused));
    control_put_mode(object, &row->mode);
    set(object, "retryTime", control_time(row->next_attempt_us));
    set(object, "reason", control_string(wait_reason_text((enum wait_reason)row->reason)));
    set(object, "reasonSince", control_time(row->reason_since_us));
    set(object, "explain", explain(row));
    set_number(object, "shard", row->shard);
    if (row->last_error[0] != '\0')
        json_array_append_new(events, event_of(row));
    set(object, "event", events);
    return object;
}

static json_t *group_tree(const struct group *group, const char *members_key, uint64_t all_rcpts)
{
    json_t *object = json_object();
    double percent = all_rcpts > 0 ? 100.0 * (double)group->rcpts / (double)all_rcpts : 0;

    set(object, "name", control_string(group->name));
    set_number(object, members_key, group->members);
    set_number(object, "rcp", group->rcpts);
    set(object, "pct", json_real(percent));
    set_number(object, "kb", group->bytes / 1024);
    set_number(object, "conn", group->connections);
    return object;
}

static json_t *groups_tree(const struct verb_request *request, const struct groups *groups)
{
    json_t *array = json_array();
    uint64_t all_rcpts = 0;
    uint32_t count = (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0 ? request->maxitems
                     : request->verb == VERB_SHOW_TOPQUEUES            ? TOP_ROWS_DEFAULT
                                                                       : QUEUE_ROWS_DEFAULT;

    for (uint32_t i = 0; i < groups->count; i++)
        all_rcpts += groups->items[i].rcpts;
    for (uint32_t i = 0; i < groups->count && i < count; i++) {
        const struct group *group = &groups->items[i];
        json_t *item = group->row != NULL ? queue_tree(group)
                       : request->verb == VERB_SHOW_DOMAINS
                           ? group_tree(group, "vmtas", all_rcpts)
                           : group_tree(group, "domains", all_rcpts);

        json_array_append_new(array, item);
    }
    return array;
}

json_t *control_queues_tree(struct control *control, const struct verb_request *request,
                            const struct gather *gather)
{
    static int (*const orders[])(const void *a, const void *b) = {
        [SORT_NAME] = by_name,
        [SORT_RCPT] = by_rcpts,
        [SORT_KB] = by_bytes,
        [SORT_CONN] = by_connections,
    };
    enum verb_sort sort = request->sort;
    struct groups groups = {0};
    const char *key = "queue";
    json_t *data = json_object();

    collect(gather, &groups);
    sort_groups(&groups, by_name);
    unite_queues(request, &groups);
    if (request->verb == VERB_SHOW_DOMAINS || request->verb == VERB_SHOW_VMTAS) {
        sort_groups(&groups, by_name);
        sum_up(&groups);
        key = request->verb == VERB_SHOW_DOMAINS ? "domain" : "vmta";
    }
    if (request->verb == VERB_SHOW_VMTAS)
        add_idle_vmtas(control->conf, request, &groups);
    if ((request->given & VERB_BIT(OPTION_SORT)) == 0 && request->verb == VERB_SHOW_TOPQUEUES)
        sort = SORT_RCPT;
    sort_groups(&groups, orders[sort]);
    set(data, key, groups_tree(request, &groups));
    mem_free(groups.items);
    return data;
}

/* ---- Recipients ------------------------------------------------------------------------------ */

/* As it stands in replies, in Received and in the log. */
static void format_id(uint64_t id, char room[14])
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    for (int i = 12; i >= 0; i--) {
        room[i] = digits[id & 31];
        id >>= 5;
    }
    room[13] = '\0';
}

static json_t *rcpt_tree(const struct rcpt_row *row)
{
    json_t *object = json_object();
    char id[14];

    format_id(row->message_id, id);
    set(object, "id", json_string(id));
    set(object, "rcpt", control_string(row->rcpt));
    set(object, "orig", control_string(row->sender));
    set(object, "queue", control_string(row->queue));
    set(object, "priority", row->rcpt[0] != '\0' ? json_integer(row->priority) : json_null());
    set_number(object, "attempts", row->attempts);
    set(object, "timeQueued", control_time(row->accepted_us));
    set(object, "retryTime", control_time(row->due_us));
    return object;
}

json_t *control_rcpts_tree(const struct gather *gather, uint32_t count_max)
{
    json_t *data = json_object();
    json_t *array = json_array();

    for (uint16_t i = 0; i < gather->control->shard_count; i++) {
        const struct report *report = &gather->parts[i].report;
        const struct rcpt_row *rows = report->rows;

        for (uint32_t k = 0; k < report->row_count && json_array_size(array) < count_max; k++)
            json_array_append_new(array, rcpt_tree(&rows[k]));
    }
    set(data, "rcpt", array);
    return data;
}

/* ---- As text --------------------------------------------------------------------------------- */

void control_rows_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column queue[] = {
        {"name", "queue", false},      {"rcp", "#rcpt", true},       {"kb", "kbytes", true},
        {"conn", "conn", true},        {"paused", "paused", false},  {"mode", "mode", false},
        {"retryTime", "retry", false}, {"explain", "reason", false},
    };
    static const struct text_column domain[] = {
        {"name", "domain", false}, {"vmtas", "vmtas", true}, {"rcp", "#rcpt", true},
        {"pct", "%total", true},   {"kb", "kbytes", true},   {"conn", "conn", true},
    };
    static const struct text_column vmta[] = {
        {"name", "name", false}, {"domains", "domains", true}, {"rcp", "#rcpt", true},
        {"pct", "%total", true}, {"kb", "kbytes", true},       {"conn", "conn", true},
    };
    static const struct text_column rcpt[] = {
        {"rcpt", "rcpt", false},        {"orig", "orig", false},
        {"queue", "queue", false},      {"priority", "priority", true},
        {"attempts", "attempts", true}, {"timeQueued", "queued", false},
        {"retryTime", "retry", false},  {"id", "id", false},
    };
    static const struct {
        const char *key;
        const struct text_column *columns;
        size_t count;
    } tables[] = {
        {"queue", queue, sizeof(queue) / sizeof(queue[0])},
        {"domain", domain, sizeof(domain) / sizeof(domain[0])},
        {"vmta", vmta, sizeof(vmta) / sizeof(vmta[0])},
        {"rcpt", rcpt, sizeof(rcpt) / sizeof(rcpt[0])},
    };

    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const json_t *array = json_object_get(data, tables[i].key);

        if (array != NULL)
            render_table(array, tables[i].columns, tables[i].count, out);
    }
}
