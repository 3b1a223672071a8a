/*
 * A reload: the file is read anew, and the new snapshot goes to every shard.
 *
 * A file with errors changes nothing. One reload at a time: a verb that comes meanwhile is refused,
 * a signal is remembered and the file read once more.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "shard/control_int.h"

#include <stdio.h>

#define FINDING_TEXT_MAX  512
#define ERRORS_SHOWN_MAX  100
#define ANSWER_TIMEOUT_NS 60000000000ull

/* What reading a file has found; texts of JSON. */
struct findings {
    json_t *errors;
    json_t *warnings;
    bool warnings_count; /* of the reload itself; what keywords say of themselves is known */
};

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    struct findings *findings = context;
    char room[FINDING_TEXT_MAX];

    if (line > 0)
        snprintf(room, sizeof(room), "%s:%u: %s", file, line, text);
    else
        snprintf(room, sizeof(room), "%s: %s", file, text);
    if (severity == CONF_ERROR) {
        log_error("reload: %s", room);
        if (json_array_size(findings->errors) < ERRORS_SHOWN_MAX)
            json_array_append_new(findings->errors, control_string(room));
    } else if (findings->warnings_count) {
        log_warn("reload: %s", room);
        json_array_append_new(findings->warnings, control_string(room));
    }
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void text_findings(const json_t *data, struct text_buffer *out)
{
    static const char *const keys[] = {"errors", "warnings"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *array = json_object_get(data, keys[i]);

        for (size_t j = 0; j < json_array_size(array); j++)
            text_format(out, "%s\n", json_string_value(json_array_get(array, j)));
    }
}

static json_t *data_of(const struct findings *findings)
{
    json_t *data = json_object();

    json_object_set(data, "errors", findings->errors);
    json_object_set(data, "warnings", findings->warnings);
    return data;
}

static void forget_client(struct control_reload *state)
{
    state->client = NULL;
    json_decref(state->data);
    state->data = NULL;
}

static void on_timeout(struct io_timer *timer)
{
    struct control_reload *state = container_of(timer, struct control_reload, timer);
    struct control_client *client = state->client;

    forget_client(state);
    if (client != NULL)
        control_client_refuse(client, "reload: it goes on, but not every shard has taken the new "
                                      "configuration in time");
}

void control_reload_leave(struct control_client *client)
{
    if (client->control->reload.client == client)
        forget_client(&client->control->reload);
}

/* ---- The reload ------------------------------------------------------------------------------ */

/* False when the file was refused; *findings says why. */
static bool begin(struct control *control, struct findings *findings)
{
    struct control_reload *state = &control->reload;
    struct conf *next;

    if (conf_load(state->path, NULL, on_finding, findings, &next) < 0) {
        state->refused++;
        log_error("reload: %s is refused, the running configuration stays", state->path);
        return false;
    }
    findings->warnings_count = true;
    conf_keep_running(next, control->conf, state->path, on_finding, findings);
    conf_unref(control->conf);
    control->conf = conf_ref(next);
    reload_start(&state->reload, next);
    return true;
}

static void begin_unasked(struct control *control)
{
    struct findings findings = {json_array(), json_array(), false};

    begin(control, &findings);
    json_decref(findings.errors);
    json_decref(findings.warnings);
}

static void on_done(void *context)
{
    struct control *control = context;
    struct control_reload *state = &control->reload;
    struct control_client *client = state->client;

    state->done++;
    log_info("reload: the configuration of %s is in force", state->path);
    io_timer_stop(control->io, &state->timer);
    if (client != NULL) {
        struct control_answer answer = {
            .data = json_incref(state->data),
            .message = mem_strdup("configuration reloaded"),
            .text = text_findings,
        };

        forget_client(state);
        control_client_answer(client, &answer);
        control_answer_free(&answer);
    }
    if (state->again) {
        state->again = false;
        begin_unasked(control);
    }
}

void control_reload_verb(struct control *control, struct control_client *client)
{
    struct control_reload *state = &control->reload;
    struct findings findings = {0};
    bool is_begun;
    json_t *data;

    if (state->path == NULL || control->phase != CONTROL_RUNNING ||
        reload_is_under_way(&state->reload)) {
        control_client_refuse(client, state->path == NULL ? "reload: there is no file to read"
                                      : control->phase != CONTROL_RUNNING
                                          ? "reload: the daemon is stopping"
                                          : "reload: another one is under way, try again");
        return;
    }
    findings.errors = json_array();
    findings.warnings = json_array();
    is_begun = begin(control, &findings);
    data = data_of(&findings);
    if (is_begun) {
        state->client = client;
        state->data = json_incref(data);
        io_timer_arm(control->io, &state->timer, io_now_ns(control->io) + ANSWER_TIMEOUT_NS);
    } else {
        const struct control_answer answer = {.data = data, .text = text_findings};

        control_client_refuse_with(client, "the configuration is not reloaded", &answer);
    }
    json_decref(data);
    json_decref(findings.errors);
    json_decref(findings.warnings);
}

void control_reload(struct control *control)
{
    struct control_reload *state = &control->reload;

    if (state->path == NULL || control->phase != CONTROL_RUNNING)
        return;
    if (reload_is_under_way(&state->reload))
        state->again = true;
    else
        begin_unasked(control);
}

void control_reload_init(struct control *control, const char *path)
{
    control->reload.path = path != NULL ? mem_strdup(path) : NULL;
    io_timer_init(&control->reload.timer, on_timeout);
}

void control_reload_wire(struct control *control)
{
    reload_init(&control->reload.reload, control->wiring.published, control->wiring.to_shards,
                control->shard_count, on_done, control);
}

void control_reload_fini(struct control *control)
{
    io_timer_stop(control->io, &control->reload.timer);
    forget_client(&control->reload);
    reload_fini(&control->reload.reload);
    mem_free(control->reload.path);
}

json_t *control_reload_tree(const struct control *control)
{
    const struct control_reload *state = &control->reload;
    json_t *data = json_object();

    json_object_set_new(data, "file",
                        state->path != NULL ? control_string(state->path) : json_null());
    json_object_set_new(data, "reloads", json_integer((json_int_t)state->done));
    json_object_set_new(data, "refused", json_integer((json_int_t)state->refused));
    json_object_set_new(data, "underWay", json_boolean(reload_is_under_way(&state->reload)));
    json_object_set_new(data, "snapshots", json_integer((json_int_t)conf_live_count()));
    return data;
}
