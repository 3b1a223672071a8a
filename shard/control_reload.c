/*
 * A reload: the file is read anew, and the new snapshot goes to every shard.
 *
 * A file with errors changes nothing. A rollback is a reload of texts that were in force before.
 * One reload at a time: a verb that comes meanwhile is refused, a signal is remembered and the file
 * read once more.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "net/sign.h"
#include "net/tls.h"
#include "shard/control_int.h"

#include <stdio.h>

#define FINDING_TEXT_MAX   512
#define ERRORS_SHOWN_MAX   100
#define ANSWER_TIMEOUT_NS  60000000000ull
#define OVERRIDES_RETRY_NS 60000000000ull /* one that has ended and could not be taken away */

/* What reading a file has found; texts of JSON. */
struct findings {
    json_t *errors;
    json_t *warnings;
    bool warnings_count; /* of the reload itself; what keywords say of themselves is known … */
    const struct conf_override *overrides; /* … but not that one of these has no effect any more */
    uint32_t override_count;
};

static struct findings no_findings(void)
{
    return (struct findings){.errors = json_array(), .warnings = json_array()};
}

static bool is_of_override(const struct findings *findings, const char *file)
{
    for (uint32_t i = 0; i < findings->override_count; i++)
        if (strcmp(findings->overrides[i].origin, file) == 0)
            return true;
    return false;
}

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
    } else if (findings->warnings_count || is_of_override(findings, file)) {
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
    char text[VERB_ERROR_MAX];

    forget_client(state);
    if (client == NULL)
        return;
    snprintf(text, sizeof(text),
             "%s: it goes on, but not every shard has taken the new configuration in time",
             verbs_words(client->request.verb));
    control_client_refuse(client, text);
}

void control_reload_leave(struct control_client *client)
{
    if (client->control->reload.client == client)
        forget_client(&client->control->reload);
}

/* ---- The reload ------------------------------------------------------------------------------ */

/* Keeps what is in force from now on; a disk that fails costs the entry and nothing else. */
static void remember(struct control *control, struct conf_files *files,
                     const struct history_entry *wish, struct findings *findings)
{
    struct control_reload *state = &control->reload;
    struct history_entry entry = *wish;
    int result;

    conf_files_free(state->files);
    state->files = files;
    state->wish = *wish;
    entry.at_us = io_wall_us(control->io);
    result = history_add(&state->history, &entry, files);
    state->in_force = entry;
    if (result >= 0)
        return;
    state->in_force.number = 0;
    if (result != E_CLOSED && findings != NULL)
        on_finding(findings, CONF_WARNING, "the configuration's history", 0, err_text(result));
    else if (result != E_CLOSED)
        log_warn("the configuration's history: %s", err_text(result));
}

/* What was read becomes what runs, and goes to the shards. */
static void take(struct control *control, struct conf *next, const char *path,
                 struct findings *findings)
{
    conf_keep_running(next, control->conf, path, on_finding, findings);
    control_keys_hold(control, next);
    conf_unref(control->conf);
    control->conf = conf_ref(next);
    control_keys_adopt(control);
    reload_start(&control->reload.reload, next);
}

/*
 * False when the configuration was refused; *findings says why. files: what is applied, which is
 * taken over; NULL: the file as it lies on the disk.
 */
static bool begin(struct control *control, struct conf_files *files,
                  const struct history_entry *wish, struct findings *findings)
{
    struct control_reload *state = &control->reload;
    struct conf_load_options options = {.files = files,
                                        .files_only = files != NULL,
                                        .key_ops = &sign_key_ops,
                                        .tls_ops = &tls_conf_ops};
    const char *path = files != NULL ? conf_files_name(files, 0) : state->path;
    struct conf_override *overrides = overrides_for_load(&state->overrides, 0);
    struct conf *next;
    int result;

    if (files == NULL)
        options.files = files = conf_files_new();
    options.overrides = overrides;
    options.override_count = state->overrides.count;
    findings->overrides = overrides;
    findings->override_count = state->overrides.count;
    result = conf_load(path, &options, on_finding, findings, &next);
    findings->override_count = 0;
    mem_free(overrides);
    if (result < 0) {
        state->refused++;
        log_error("reload: %s is refused, the running configuration stays", path);
        conf_files_free(files);
        return false;
    }
    findings->warnings_count = true;
    remember(control, files, wish, findings);
    take(control, next, conf_files_name(files, 0), findings);
    return true;
}

static void begin_unasked(struct control *control)
{
    const struct history_entry wish = {.cause = HISTORY_SIGNAL, .uid = HISTORY_NO_UID};
    struct findings findings = no_findings();

    begin(control, NULL, &wish, &findings);
    json_decref(findings.errors);
    json_decref(findings.warnings);
}

/* ---- Overrides ------------------------------------------------------------------------------- */

/*
 * The running texts with another list, which is on the disk before it is in force. False when that
 * failed, and everything is as it was; findings say why.
 */
static bool begin_with(struct control *control, struct overrides *list, uint32_t new_number,
                       struct findings *findings)
{
    struct control_reload *state = &control->reload;
    struct conf_override *overrides = overrides_for_load(list, new_number);
    const struct conf_load_options options = {
        .files = state->files,
        .files_only = true,
        .overrides = overrides,
        .override_count = list->count,
        .key_ops = &sign_key_ops,
        .tls_ops = &tls_conf_ops,
    };
    const char *path = conf_files_name(state->files, 0);
    struct conf *next = NULL;
    int result = conf_load(path, &options, on_finding, findings, &next);

    mem_free(overrides);
    if (result < 0) {
        overrides_close(list);
        return false;
    }
    result = overrides_store(list);
    if (result < 0) {
        on_finding(findings, CONF_ERROR, "the list of overrides", 0, err_text(result));
        overrides_close(list);
        conf_unref(next);
        return false;
    }
    overrides_take(&state->overrides, list);
    state->wish = (struct history_entry){0};
    take(control, next, path, findings);
    return true;
}

bool control_reload_again(struct control *control)
{
    struct control_reload *state = &control->reload;
    struct conf_override *overrides = overrides_for_load(&state->overrides, 0);
    const struct conf_load_options options = {
        .files = state->files,
        .files_only = true,
        .overrides = overrides,
        .override_count = state->overrides.count,
        .key_ops = &sign_key_ops,
        .tls_ops = &tls_conf_ops,
    };
    struct findings findings = no_findings();
    struct conf *next;
    bool is_begun = state->files != NULL && conf_load(conf_files_name(state->files, 0), &options,
                                                      on_finding, &findings, &next) >= 0;

    if (is_begun) {
        state->wish = (struct history_entry){0};
        take(control, next, conf_files_name(state->files, 0), &findings);
    }
    mem_free(overrides);
    json_decref(findings.errors);
    json_decref(findings.warnings);
    return is_begun;
}

void control_overrides_tick(struct control *control)
{
    struct control_reload *state = &control->reload;
    uint64_t now_ns = io_now_ns(control->io);
    struct findings findings = {0};
    struct overrides list;
    uint32_t ended;

    if (state->overrides.count == 0 || now_ns < state->overrides_retry_ns ||
        control->phase != CONTROL_RUNNING || reload_is_under_way(&state->reload))
        return;
    overrides_copy(&state->overrides, &list);
    ended = overrides_expire(&list, io_wall_us(control->io));
    if (ended == 0) {
        overrides_close(&list);
        return;
    }
    findings.errors = json_array();
    findings.warnings = json_array();
    if (begin_with(control, &list, 0, &findings))
        log_info("overrides: %u have ended", ended);
    else
        state->overrides_retry_ns = now_ns + OVERRIDES_RETRY_NS;
    json_decref(findings.errors);
    json_decref(findings.warnings);
}

static char *done_message(const struct control_reload *state, const struct control_client *client)
{
    char text[160];

    if (client->request.verb == VERB_OVERRIDE)
        return mem_strdup((client->request.given & VERB_BIT(OPTION_CLEAR)) != 0
                              ? "overrides cleared"
                              : "the override is in force");
    if (state->wish.cause != HISTORY_ROLLBACK)
        return mem_strdup("configuration reloaded");
    snprintf(text, sizeof(text),
             "configuration %u is in force again; the file itself is as it was, and the next "
             "reload or start reads it",
             state->wish.of);
    return mem_strdup(text);
}

static void on_done(void *context)
{
    struct control *control = context;
    struct control_reload *state = &control->reload;
    struct control_client *client = state->client;

    state->done++;
    log_info("reload: the configuration of %s is in force",
             state->files != NULL ? conf_files_name(state->files, 0) : state->path);
    io_timer_stop(control->io, &state->timer);
    if (client != NULL) {
        struct control_answer answer = {
            .data = json_incref(state->data),
            .message = done_message(state, client),
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

/* True when no configuration can be applied now, which the client is told. */
static bool refuse_now(struct control *control, struct control_client *client)
{
    const struct control_reload *state = &control->reload;
    const char *words = verbs_words(client->request.verb);
    char text[VERB_ERROR_MAX];
    const char *why = state->path == NULL                   ? "there is no file to read"
                      : control->phase != CONTROL_RUNNING   ? "the daemon is stopping"
                      : reload_is_under_way(&state->reload) ? "another one is under way, try again"
                                                            : NULL;

    if (why == NULL)
        return false;
    snprintf(text, sizeof(text), "%s: %s", words, why);
    control_client_refuse(client, text);
    return true;
}

/* What was begun is answered when it is done; what was refused at once. */
static void answer_later(struct control *control, struct control_client *client, bool is_begun,
                         struct findings *findings)
{
    struct control_reload *state = &control->reload;
    json_t *data = data_of(findings);

    if (is_begun) {
        state->client = client;
        state->data = json_incref(data);
        io_timer_arm(control->io, &state->timer, io_now_ns(control->io) + ANSWER_TIMEOUT_NS);
    } else {
        bool is_override = client->request.verb == VERB_OVERRIDE;
        struct control_answer answer = {.data = data, .text = text_findings};

        /* Above all the errors it is easy to miss that mail goes on as before. */
        answer.message = mem_strdup(is_override ? "the overrides are as they were"
                                                : "the running configuration stays in force");
        control_client_refuse_with(client,
                                   is_override ? "the overrides are as they were"
                                               : "the configuration is not reloaded",
                                   &answer);
        mem_free(answer.message);
    }
    json_decref(data);
    json_decref(findings->errors);
    json_decref(findings->warnings);
}

static void begin_for(struct control *control, struct control_client *client,
                      struct conf_files *files, const struct history_entry *wish)
{
    struct findings findings = no_findings();
    bool is_begun = begin(control, files, wish, &findings);

    answer_later(control, client, is_begun, &findings);
}

/* The list as the verb wants it; the number of a new one, 0 for none, or why not. */
static int64_t change_list(const struct control *control, const struct control_client *client,
                           struct overrides *list)
{
    const struct verb_request *request = &client->request;
    struct override *override;
    uint64_t now_us = io_wall_us(control->io);
    int64_t result;

    if ((request->given & VERB_BIT(OPTION_CLEAR)) != 0)
        return overrides_clear(list, request->domain, request->vmta, request->keyword) > 0
                   ? 0
                   : E_NOT_FOUND;
    override = mem_alloc(sizeof(*override));
    *override = (struct override){.uid = client->uid, .since_us = now_us};
    override->until_us = now_us + request->for_ms * 1000;
    snprintf(override->domain, sizeof(override->domain), "%s", request->domain);
    snprintf(override->vmta, sizeof(override->vmta), "%s", request->vmta);
    snprintf(override->keyword, sizeof(override->keyword), "%s", request->keyword);
    snprintf(override->value, sizeof(override->value), "%s", request->value);
    snprintf(override->reason, sizeof(override->reason), "%s", request->reason);
    result = overrides_add(list, override);
    if (result == 0)
        result = override->number;
    mem_free(override);
    return result;
}

/* What the mail's own queue says counts, so such an override would have no effect. */
static void warn_of_way(const struct control *control, const struct verb_request *request,
                        struct findings *findings)
{
    const struct conf_vmta *vmta = conf_vmta_named(control->conf, slice_str(request->vmta));
    char holder[CONTROL_QUEUE_MAX], text[FINDING_TEXT_MAX + CONTROL_QUEUE_MAX];
    struct conf_way way;

    if (vmta == NULL || strcmp(request->domain, "*") == 0 ||
        (request->given & VERB_BIT(OPTION_CLEAR)) != 0)
        return;
    conf_way(control->conf, slice_str(request->domain), vmta->id, 0, &way);
    if (!way.is_elsewhere)
        return;
    control_way_name(control->conf, &way, holder);
    snprintf(text, sizeof(text), "the mail of %s/%s is in %s%s, override that one", request->domain,
             request->vmta, way.by_turn ? "several queues by turns, one of them " : "", holder);
    log_warn("override: %s", text);
    json_array_append_new(findings->warnings, control_string(text));
}

void control_override_verb(struct control *control, struct control_client *client)
{
    struct control_reload *state = &control->reload;
    struct findings findings;
    struct overrides list;
    char text[VERB_ERROR_MAX];
    int64_t number;
    bool is_begun;

    if (refuse_now(control, client))
        return;
    if (state->files == NULL) {
        control_client_refuse(client, "override: what is in force is not known");
        return;
    }
    overrides_copy(&state->overrides, &list);
    number = change_list(control, client, &list);
    if (number < 0) {
        overrides_close(&list);
        snprintf(text, sizeof(text), "override: %s",
                 number == E_NOT_FOUND ? "there is none of that queue and keyword"
                                       : err_text((int)number));
        control_client_refuse(client, text);
        return;
    }
    findings = no_findings();
    is_begun = begin_with(control, &list, (uint32_t)number, &findings);
    if (is_begun)
        warn_of_way(control, &client->request, &findings);
    answer_later(control, client, is_begun, &findings);
}

void control_reload_verb(struct control *control, struct control_client *client)
{
    const struct history_entry wish = {.cause = HISTORY_RELOAD, .uid = client->uid};

    if (!refuse_now(control, client))
        begin_for(control, client, NULL, &wish);
}

void control_rollback_verb(struct control *control, struct control_client *client)
{
    const struct history_entry wish = {
        .cause = HISTORY_ROLLBACK,
        .uid = client->uid,
        .of = client->request.numbers[0],
    };
    struct conf_files *files;
    char text[VERB_ERROR_MAX];
    int result;

    if (refuse_now(control, client))
        return;
    result = history_find(&control->reload.history, wish.of) != NULL
                 ? history_read(&control->reload.history, wish.of, &files)
                 : E_NOT_FOUND;
    if (result >= 0) {
        begin_for(control, client, files, &wish);
        return;
    }
    snprintf(text, sizeof(text), "configuration %u: %s", wish.of, err_text(result));
    control_client_refuse(client, text);
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

void control_start_history(struct control *control, struct conf_files *files)
{
    const struct conf_global *global = conf_global(control->conf);
    const struct history_entry wish = {.cause = HISTORY_START, .uid = control->user_id};
    char path[CONTROL_PATH_MAX];
    int result;

    snprintf(path, sizeof(path), "%s/configurations", global->spools[0].path);
    result = history_open(&control->reload.history, control->io, path);
    if (result < 0)
        log_error("%s: %s; no history of the configuration is kept", path, err_text(result));
    remember(control, files, &wish, NULL);
    overrides_open(&control->reload.overrides, control->io, global->spools[0].path);
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
    history_close(&control->reload.history);
    conf_files_free(control->reload.files);
    overrides_close(&control->reload.overrides);
    mem_free(control->reload.path);
}

json_t *control_reload_tree(const struct control *control)
{
    const struct control_reload *state = &control->reload;
    json_t *data = json_object();

    json_object_set_new(data, "file",
                        state->path != NULL ? control_string(state->path) : json_null());
    json_object_set_new(data, "number", json_integer(state->in_force.number));
    json_object_set_new(data, "reloads", json_integer((json_int_t)state->done));
    json_object_set_new(data, "refused", json_integer((json_int_t)state->refused));
    json_object_set_new(data, "underWay", json_boolean(reload_is_under_way(&state->reload)));
    json_object_set_new(data, "snapshots", json_integer((json_int_t)conf_live_count()));
    return data;
}
