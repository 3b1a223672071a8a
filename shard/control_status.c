/* The tree of show status: PowerMTA's /status as far as we measure it, and a flat object of our own
 * counters beside it. */
#include "core/base/err.h"
#include "core/obs/acct_csv.h"
#include "net/signer.h"
#include "shard/control_int.h"

#include <stdio.h>

/* ---- Values ---------------------------------------------------------------------------------- */

json_t *control_string(const char *text)
{
    char room[2048];

    acct_csv_escape(slice_str(text), room, sizeof(room));
    return json_string(room);
}

/* "2019-02-08T21:54:05+00:00" */
json_t *control_time(uint64_t wall_us)
{
    char stamp[ACCT_CSV_TIME_MAX];
    char room[ACCT_CSV_TIME_MAX];

    if (wall_us == 0)
        return json_null();
    acct_csv_time(wall_us, stamp);
    snprintf(room, sizeof(room), "%.10sT%.8s+00:00", stamp, stamp + 11);
    return json_string(room);
}

static void set(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    set(object, key, json_integer((json_int_t)value));
}

static json_t *object_of(json_t *parent, const char *key)
{
    json_t *object = json_object();

    set(parent, key, object);
    return object;
}

/* ---- PowerMTA's part ------------------------------------------------------------------------- */

static void put_flow(json_t *parent, const char *key, uint64_t rcp, uint64_t msg, uint64_t bytes)
{
    json_t *flow = object_of(parent, key);

    set_number(flow, "rcp", rcp);
    set_number(flow, "msg", msg);
    set_number(flow, "kb", bytes / 1024);
}

static void put_traffic(json_t *parent, const char *key, struct traffic traffic)
{
    json_t *object = object_of(parent, key);

    put_flow(object, "out", traffic.out_rcp, traffic.out_msg, traffic.out_bytes);
    put_flow(object, "in", traffic.in_rcp, traffic.in_msg, traffic.in_bytes);
}

/* max 0 stands for no limit. */
static void put_connections(json_t *parent, const char *key, uint64_t now, uint64_t max,
                            uint64_t top)
{
    json_t *object = object_of(parent, key);

    set_number(object, "cur", now);
    set_number(object, "max", max == CONF_UNLIMITED ? 0 : max);
    set_number(object, "top", top > now ? top : now);
}

static void put_mta(struct control *control, json_t *data)
{
    json_t *mta = object_of(data, "mta");
    json_t *product = object_of(mta, "product");

    set(product, "name", json_string("ringpost"));
    set(product, "version", control_string(control->version));
    set_number(product, "bits", sizeof(void *) * 8);
    set(mta, "fullHostName", control_string(conf_global(control->conf)->host_name));
}

static void put_spool(struct control *control, json_t *parent, const struct report_status *status)
{
    json_t *spool = object_of(parent, "spool");
    json_t *files = object_of(spool, "files");
    struct spool_stats stats;

    spool_stats_read(control->wiring.spool, &stats);
    set_number(spool, "initPct", 100);
    set_number(files, "inUse", stats.segments_total - stats.segments_free);
    set_number(files, "recycled", stats.segments_free);
    set_number(files, "total", stats.segments_total);
    set_number(spool, "totalRcp", status->queued_rcpts);
    control_directories_put(control, spool);
    control_health_put(control, spool);
}

static void put_status(struct control *control, json_t *data, const struct report_status *now)
{
    const struct conf_global *global = conf_global(control->conf);
    const struct samples *samples = &control->samples;
    const struct traffic total = samples_traffic_of(now);
    json_t *status = object_of(data, "status");
    json_t *part;

    set(status, "timeNow", control_time(io_wall_us(control->io)));
    set(status, "startupTime", control_time(control->started_us));
    set(status, "shuttingDown", json_boolean(control->phase != CONTROL_RUNNING));
    part = object_of(status, "traffic");
    put_traffic(part, "total", total);
    put_traffic(part, "lastHr", samples_last_hour(samples, &total));
    put_traffic(part, "lastMin", samples_last_minute(samples, &total));
    put_traffic(part, "topPerHr", samples->top_hour);
    put_traffic(part, "topPerMin", samples->top_minute);
    part = object_of(status, "conn");
    put_connections(part, "smtpIn", now->sessions_in, global->total_max_smtp_in,
                    samples->top_sessions_in);
    put_connections(part, "smtpOut", now->connections_out, global->total_max_smtp_out,
                    samples->top_connections_out);
    part = object_of(object_of(status, "queue"), "smtp");
    set_number(part, "rcp", now->queued_rcpts);
    set_number(part, "dom", now->queues);
    set_number(part, "kb", now->queued_bytes / 1024);
    put_spool(control, status, now);
    set(status, "status",
        json_string(control->phase == CONTROL_RUNNING ? "running" : "shutting down"));
}

/* ---- Ours ------------------------------------------------------------------------------------ */

#define SPOOL_COUNTERS(X)                                                                          \
    X(message_commits)                                                                             \
    X(outcome_commits)                                                                             \
    X(messages)                                                                                    \
    X(outcomes)                                                                                    \
    X(bytes_written)                                                                               \
    X(commit_ns_total)                                                                             \
    X(failed_commits)                                                                              \
    X(voids)                                                                                       \
    X(checkpoints)                                                                                 \
    X(recycled)                                                                                    \
    X(evacuations)                                                                                 \
    X(segments_total)                                                                              \
    X(segments_free)

#define LOOP_COUNTERS(X)                                                                           \
    X(turns)                                                                                       \
    X(system_calls)                                                                                \
    X(completions)                                                                                 \
    X(sleeps)                                                                                      \
    X(wakes_sent)                                                                                  \
    X(recv_buffer_shortages)                                                                       \
    X(busy_ns)

/* Sums over all loops replace what shards said of their own: committer and control count too. */
static void put_loops(struct control *control, json_t *counters)
{
    struct io_stats sum = {0};

    for (uint32_t i = 0; i < control->wiring.loop_count; i++) {
        struct io_stats stats;

        io_stats_read(control->wiring.loops[i], &stats);
#define LOOP_SUM(name) sum.name += stats.name;
        LOOP_COUNTERS(LOOP_SUM)
#undef LOOP_SUM
    }
#define LOOP_SET(name) set_number(counters, #name, sum.name);
    LOOP_COUNTERS(LOOP_SET)
#undef LOOP_SET
}

static void put_counters(struct control *control, json_t *data, const struct report_status *status)
{
    json_t *counters = object_of(data, "counters");
    struct spool_stats spool;

#define STATUS_SET(name) set_number(counters, #name, status->name);
    STATUS_COUNTERS(STATUS_SET)
    STATUS_GAUGES(STATUS_SET)
#undef STATUS_SET
    if (control->wiring.loop_count > 0)
        put_loops(control, counters);
    spool_stats_read(control->wiring.spool, &spool);
#define SPOOL_SET(name) set_number(counters, #name, spool.name);
    SPOOL_COUNTERS(SPOOL_SET)
#undef SPOOL_SET
    set(counters, "spool_health",
        json_string(control_health_name(spool_health(control->wiring.spool))));
}

static void warn(json_t *warnings, const char *text)
{
    json_array_append_new(warnings, control_string(text));
}

static void put_accounting(struct control *control, json_t *data, json_t *warnings)
{
    json_t *array = json_array();

    set(data, "accounting", array);
    for (uint32_t i = 0; i < control->account_count; i++) {
        struct account_status status;
        json_t *object = json_object();
        char text[512];

        account_status_read(control->accounts[i].account, &status);
        set(object, "path", control_string(status.path));
        set(object, "file", control_string(status.file));
        set_number(object, "rows", status.rows);
        set_number(object, "unreadable", status.skipped);
        set_number(object, "stalledSeconds", status.stalled_ns / 1000000000);
        set(object, "error", status.error < 0 ? json_string(err_text(status.error)) : json_null());
        json_array_append_new(array, object);
        if (status.stalled_ns == 0)
            continue;
        snprintf(text, sizeof(text), "accounting file %s cannot be written since %llu s: %s",
                 status.path, (unsigned long long)(status.stalled_ns / 1000000000),
                 err_text(status.error));
        warn(warnings, text);
    }
}

/* Who signs with which kind of key, and how many signatures a second of a processor each makes. */
static void put_signing(struct control *control, json_t *data)
{
    static const char *const kinds[] = {[SIGN_RSA] = "rsa", [SIGN_ED25519] = "ed25519"};
    static const char *const withs[] = {"auto", "daemon", "helper"};
    const struct sign_service *service = control->signing;
    json_t *signing = object_of(data, "signing");
    uint32_t running = 0;

    set(signing, "with", json_string(withs[conf_global(control->conf)->dkim_sign_with]));
    for (uint32_t i = 0; service && i < service->helper_count; i++)
        running += atomic_load(&service->helpers[i].life) > 0;
    set_number(signing, "helpers", running);
    set_number(signing, "helpersRestarted", service ? atomic_load(&service->restarts) : 0);
    set_number(signing, "keysWaiting", control->keys.waiting);
    for (uint32_t i = 0; i < SIGN_RING_KINDS; i++) {
        json_t *kind = object_of(signing, kinds[i]);
        bool is_helped = service && running > 0 && atomic_load(&service->helps[i]);

        set(kind, "backend", json_string(is_helped ? "openssl" : "boringssl"));
        set_number(kind, "boringsslRate", service ? atomic_load(&service->daemon_rates[i]) : 0);
        set_number(kind, "opensslRate", service ? atomic_load(&service->helper_rates[i]) : 0);
    }
}

static void warn_of_spool(struct control *control, json_t *warnings)
{
    char text[256];

    if (control_health_say(control, text, sizeof(text)))
        warn(warnings, text);
    control_directories_warn(control, warnings);
}

json_t *control_status_tree(struct control *control, const struct report_status *status)
{
    json_t *data = json_object();
    json_t *warnings = json_array();

    put_mta(control, data);
    put_status(control, data, status);
    put_counters(control, data, status);
    put_signing(control, data);
    put_accounting(control, data, warnings);
    set(data, "configuration", control_reload_tree(control));
    warn_of_spool(control, warnings);
    set(data, "warning", warnings);
    return data;
}

/* ---- As text --------------------------------------------------------------------------------- */

static const json_t *member(const json_t *object, const char *key)
{
    return json_object_get(object, key);
}

static long long number_at(const json_t *object, const char *first, const char *second)
{
    return (long long)json_integer_value(member(member(object, first), second));
}

static const char *text_at(const json_t *object, const char *key)
{
    const char *text = json_string_value(member(object, key));

    return text != NULL ? text : "-";
}

static void text_traffic(const json_t *traffic, struct text_buffer *out)
{
    static const struct {
        const char *key;
        const char *label;
    } lines[] = {
        {"total", "Total"},        {"lastHr", "LastHour"},      {"topPerHr", "Top/Hour"},
        {"lastMin", "LastMinute"}, {"topPerMin", "Top/Minute"},
    };

    text_format(out, "%-12s %12s %12s %12s %12s %12s %12s\n", "Traffic", "in-rcpt", "in-msg",
                "in-kb", "out-rcpt", "out-msg", "out-kb");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const json_t *line = member(traffic, lines[i].key);

        text_format(out, "%-12s %12lld %12lld %12lld %12lld %12lld %12lld\n", lines[i].label,
                    number_at(line, "in", "rcp"), number_at(line, "in", "msg"),
                    number_at(line, "in", "kb"), number_at(line, "out", "rcp"),
                    number_at(line, "out", "msg"), number_at(line, "out", "kb"));
    }
}

static void text_connections(const json_t *conn, struct text_buffer *out)
{
    static const char *const keys[] = {"smtpIn", "smtpOut"};

    text_format(out, "\n%-12s %12s %12s %12s\n", "Connections", "current", "max", "top");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        text_format(out, "%-12s %12lld %12lld %12lld\n", keys[i], number_at(conn, keys[i], "cur"),
                    number_at(conn, keys[i], "max"), number_at(conn, keys[i], "top"));
}

static void text_accounting(const json_t *array, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"path", "Accounting", false},         {"file", "file", false},   {"rows", "rows", true},
        {"stalledSeconds", "stalled-s", true}, {"error", "error", false},
    };

    if (json_array_size(array) == 0)
        return;
    text_format(out, "\n");
    render_table(array, columns, sizeof(columns) / sizeof(columns[0]), out);
}

/* Nothing where no mail has been signed: no rate is known then. */
static void text_signing(const json_t *signing, struct text_buffer *out)
{
    static const char *const kinds[] = {"rsa", "ed25519"};
    json_int_t waiting = json_integer_value(member(signing, "keysWaiting"));

    if (waiting > 0)
        text_format(out, "\n%lld DKIM keys wait for their records; see ringpost check dkim\n",
                    (long long)waiting);
    if (number_at(signing, kinds[0], "boringsslRate") == 0)
        return;
    text_format(out, "\n%-12s %12s %14s %14s\n", "Signing", "backend", "boringssl/s", "openssl/s");
    for (size_t i = 0; i < 2; i++)
        text_format(out, "%-12s %12s %14lld %14lld\n", kinds[i],
                    text_at(member(signing, kinds[i]), "backend"),
                    number_at(signing, kinds[i], "boringsslRate"),
                    number_at(signing, kinds[i], "opensslRate"));
    text_format(out, "%-12s %12lld running, %lld restarted\n", "helpers",
                (long long)json_integer_value(member(signing, "helpers")),
                (long long)json_integer_value(member(signing, "helpersRestarted")));
}

static void text_directories(const json_t *array, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"path", "Spool", false},          {"state", "state", false},
        {"files", "files", true},          {"filesFree", "free", true},
        {"messages", "taken", true},       {"commits", "commits", true},
        {"commitsFailed", "failed", true},
    };

    text_format(out, "\n");
    render_table(array, columns, sizeof(columns) / sizeof(columns[0]), out);
}

void control_status_text(const json_t *data, struct text_buffer *out)
{
    const json_t *status = member(data, "status");
    const json_t *warnings = member(data, "warning");
    const json_t *counters = member(data, "counters");
    const char *key;
    json_t *value;

    text_format(out, "%s %s, %s, %s since %s, now %s\n\n",
                text_at(member(member(data, "mta"), "product"), "name"),
                text_at(member(member(data, "mta"), "product"), "version"),
                text_at(member(data, "mta"), "fullHostName"), text_at(status, "status"),
                text_at(status, "startupTime"), text_at(status, "timeNow"));
    for (size_t i = 0; i < json_array_size(warnings); i++)
        text_format(out, "WARNING: %s\n", json_string_value(json_array_get(warnings, i)));
    text_traffic(member(status, "traffic"), out);
    text_connections(member(status, "conn"), out);
    text_format(out, "\n%-12s %12s %12s %12s %12s\n", "Queue", "rcpt", "queues", "kb", "spool");
    text_format(out, "%-12s %12lld %12lld %12lld %12s\n", "smtp",
                number_at(member(status, "queue"), "smtp", "rcp"),
                number_at(member(status, "queue"), "smtp", "dom"),
                number_at(member(status, "queue"), "smtp", "kb"),
                text_at(member(status, "spool"), "health"));
    text_format(out, "\n%-14s %10s %12s %12s\n", "Configuration", "reloads", "refused",
                "snapshots");
    text_format(
        out, "%-14s %10lld %12lld %12lld\n", "", number_at(data, "configuration", "reloads"),
        number_at(data, "configuration", "refused"), number_at(data, "configuration", "snapshots"));
    text_signing(member(data, "signing"), out);
    text_directories(member(member(status, "spool"), "directory"), out);
    text_accounting(member(data, "accounting"), out);
    text_format(out, "\n%-24s %20s\n", "Counter", "value");
    json_object_foreach((json_t *)(uintptr_t)counters, key, value)
    {
        if (json_is_integer(value))
            text_format(out, "%-24s %20lld\n", key, (long long)json_integer_value(value));
    }
}
