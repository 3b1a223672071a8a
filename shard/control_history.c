/*
 * The configurations that were in force: which there were, their texts, what changed from one to
 * another. The one of the disk and the one in force can be compared like those that are kept.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "shard/control_int.h"
#include "shard/diff.h"

#include <stdio.h>

#define LINES_SHOWN_MAX 400000u
#define NAME_LINE_MAX   4200

/* ---- config history -------------------------------------------------------------------------- */

static json_t *entry_tree(const struct control *control, const struct history_entry *entry)
{
    json_t *row = json_object();
    char hash[17];

    snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)entry->hash);
    json_object_set_new(row, "number", json_integer(entry->number));
    json_object_set_new(row, "inForce",
                        json_boolean(entry->number == control->reload.in_force.number));
    json_object_set_new(row, "time", control_time(entry->at_us));
    json_object_set_new(row, "uid",
                        entry->uid != HISTORY_NO_UID ? json_integer(entry->uid) : json_null());
    json_object_set_new(row, "cause", json_string(history_cause_name(entry->cause)));
    json_object_set_new(row, "of", entry->of > 0 ? json_integer(entry->of) : json_null());
    json_object_set_new(row, "hash", json_string(hash));
    json_object_set_new(row, "files", json_integer(entry->file_count));
    json_object_set_new(row, "bytes", json_integer((json_int_t)entry->bytes));
    return row;
}

static void history_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"number", "number", true}, {"time", "time", false},  {"uid", "uid", true},
        {"cause", "cause", false},  {"of", "of", true},       {"hash", "hash", false},
        {"files", "files", true},   {"bytes", "bytes", true}, {"inForce", "in force", false},
    };

    render_table(json_object_get(data, "configuration"), columns,
                 sizeof(columns) / sizeof(columns[0]), out);
}

static void answer_history(struct control *control, struct control_client *client)
{
    const struct history *history = &control->reload.history;
    const struct verb_request *request = &client->request;
    uint32_t most =
        (request->given & VERB_BIT(OPTION_MAXITEMS)) != 0 ? request->maxitems : HISTORY_COUNT_MAX;
    struct control_answer answer = {.data = json_object(), .text = history_text};
    json_t *rows = json_array();

    for (uint32_t i = history->count; i > 0 && history->count - i < most; i--)
        json_array_append_new(rows, entry_tree(control, &history->entries[i - 1]));
    json_object_set_new(answer.data, "configuration", rows);
    control_client_answer(client, &answer);
    control_answer_free(&answer);
}

/* ---- Texts ----------------------------------------------------------------------------------- */

/* A configuration's texts on loan. */
struct texts {
    struct conf_files *files;
    bool is_own; /* to be freed */
    char name[32];
};

static void let_go(struct texts *texts)
{
    if (texts->is_own)
        conf_files_free(texts->files);
}

/* Of a number; 0 = the one in force. False when there is none, which the client is told. */
static bool texts_of(struct control *control, struct control_client *client, uint32_t number,
                     struct texts *ret_texts)
{
    const struct control_reload *state = &control->reload;
    char text[VERB_ERROR_MAX];
    int result = 0;

    *ret_texts = (struct texts){.files = state->files};
    if (number == 0) {
        snprintf(ret_texts->name, sizeof(ret_texts->name), "in force");
        result = state->files != NULL ? 0 : E_NOT_FOUND;
    } else if (number != state->in_force.number) {
        ret_texts->is_own = true;
        result = history_find(&state->history, number) != NULL
                     ? history_read(&state->history, number, &ret_texts->files)
                     : E_NOT_FOUND;
    }
    if (number != 0)
        snprintf(ret_texts->name, sizeof(ret_texts->name), "%u", number);
    if (result >= 0)
        return true;
    snprintf(text, sizeof(text), "configuration %s: %s", ret_texts->name, err_text(result));
    control_client_refuse(client, text);
    return false;
}

static void ignore_finding(void *context, enum conf_severity severity, const char *file,
                           unsigned line, const char *text)
{
}

/* What a reload would read now. Whether it would be refused is of no matter here; false when there
 * is nothing to read, which is not the same as an empty file and which the client is told. */
static bool texts_of_disk(struct control *control, struct control_client *client,
                          struct texts *ret_texts)
{
    char text[VERB_ERROR_MAX];

    const struct conf_load_options options = {.files = conf_files_new(), .syntax_only = true};
    struct conf *conf = NULL;

    if (conf_load(control->reload.path, &options, ignore_finding, NULL, &conf) >= 0)
        conf_unref(conf);
    *ret_texts = (struct texts){.files = options.files, .is_own = true};
    snprintf(ret_texts->name, sizeof(ret_texts->name), "on disk");
    if (conf_files_count(options.files) > 0)
        return true;
    let_go(ret_texts);
    snprintf(text, sizeof(text), "config diff: %.200s cannot be read", control->reload.path);
    control_client_refuse(client, text);
    return false;
}

static void lines_text(const json_t *data, struct text_buffer *out)
{
    const json_t *lines = json_object_get(data, "line");

    for (size_t i = 0; i < json_array_size(lines); i++)
        text_format(out, "%s\n", json_string_value(json_array_get(lines, i)));
}

static void add_line(json_t *lines, const char *mark, struct slice line)
{
    static const char hidden[] = " (secret)";
    size_t mark_len = strlen(mark);
    size_t shown = conf_shown_octets(line);
    char *text;

    if (json_array_size(lines) >= LINES_SHOWN_MAX)
        return;
    text = mem_alloc(mark_len + shown + sizeof(hidden));
    memcpy(text, mark, mark_len);
    memcpy(text + mark_len, line.data, shown);
    if (shown < line.len)
        memcpy(text + mark_len + shown, hidden, sizeof(hidden));
    json_array_append_new(lines, control_string(text));
    mem_free(text);
}

/* ---- config show ----------------------------------------------------------------------------- */

static void answer_show(struct control *control, struct control_client *client)
{
    struct control_answer answer = {.text = lines_text};
    struct texts texts;
    json_t *lines;

    if (!texts_of(control, client, client->request.numbers[0], &texts))
        return;
    lines = json_array();
    for (uint32_t i = 0; i < conf_files_count(texts.files); i++) {
        struct slice rest = conf_files_text(texts.files, i);

        if (conf_files_count(texts.files) > 1)
            add_line(lines, "# file ", slice_str(conf_files_name(texts.files, i)));
        while (rest.len > 0) {
            size_t len = slice_find(rest, '\n');

            add_line(lines, "", slice_of(rest.data, len));
            rest = slice_after(rest, len < rest.len ? len + 1 : len);
        }
    }
    let_go(&texts);
    answer.data = json_object();
    json_object_set_new(answer.data, "line", lines);
    control_client_answer(client, &answer);
    control_answer_free(&answer);
}

/* ---- config diff ----------------------------------------------------------------------------- */

struct comparing {
    json_t *lines;
    const char *name;
    bool is_named; /* the file's name stands there already */
};

static void on_line(void *context, char mark, struct slice line)
{
    struct comparing *comparing = context;
    const char mark_text[2] = {mark, '\0'};

    if (!comparing->is_named) {
        add_line(comparing->lines, "--- ", slice_str(comparing->name));
        add_line(comparing->lines, "+++ ", slice_str(comparing->name));
        comparing->is_named = true;
    }
    add_line(comparing->lines, mark == '@' ? "" : mark_text, line);
}

/* A file that only one of them has counts as an empty one of the other. */
static void compare_file(const struct texts *from, const struct texts *to, const char *name,
                         json_t *lines)
{
    struct comparing comparing = {.lines = lines, .name = name};
    uint32_t a = conf_files_find(from->files, name), b = conf_files_find(to->files, name);

    diff_texts(a != UINT32_MAX ? conf_files_text(from->files, a) : SLICE_EMPTY,
               b != UINT32_MAX ? conf_files_text(to->files, b) : SLICE_EMPTY, on_line, &comparing);
}

static json_t *compare(const struct texts *from, const struct texts *to)
{
    json_t *lines = json_array();

    for (uint32_t i = 0; i < conf_files_count(from->files); i++)
        compare_file(from, to, conf_files_name(from->files, i), lines);
    for (uint32_t i = 0; i < conf_files_count(to->files); i++) {
        if (conf_files_find(from->files, conf_files_name(to->files, i)) == UINT32_MAX)
            compare_file(from, to, conf_files_name(to->files, i), lines);
    }
    return lines;
}

static void answer_diff(struct control *control, struct control_client *client)
{
    const uint32_t *numbers = client->request.numbers;
    struct control_answer answer = {.text = lines_text};
    struct texts from, to;
    json_t *lines;

    if (numbers[0] == 0 && control->reload.path == NULL) {
        control_client_refuse(client, "config diff: there is no file to read");
        return;
    }
    if (!texts_of(control, client, numbers[0], &from))
        return;
    if (!(numbers[0] == 0 ? texts_of_disk(control, client, &to)
                          : texts_of(control, client, numbers[1], &to))) {
        let_go(&from);
        return;
    }
    lines = compare(&from, &to);
    answer.data = json_object();
    json_object_set_new(answer.data, "from", json_string(from.name));
    json_object_set_new(answer.data, "to", json_string(to.name));
    json_object_set_new(answer.data, "line", lines);
    if (json_array_size(lines) == 0 && conf_files_hash(from.files) == conf_files_hash(to.files))
        answer.message = mem_strdup("both are the same");
    else if (json_array_size(lines) == 0)
        answer.message = mem_strdup("both have the same lines; what differs is whether the last "
                                    "line of a file has an end, or a file that is empty");
    control_client_answer(client, &answer);
    control_answer_free(&answer);
    let_go(&from);
    let_go(&to);
}

void control_history_verb(struct control *control, struct control_client *client)
{
    switch (client->request.verb) {
    case VERB_CONFIG_HISTORY:
        answer_history(control, client);
        break;
    case VERB_CONFIG_SHOW:
        answer_show(control, client);
        break;
    default:
        answer_diff(control, client);
        break;
    }
}
