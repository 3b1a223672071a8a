/* show settings: what holds for a queue and which line of the configuration says so; and what an
 * operator has set for a time. */
#include "shard/control_int.h"

#include <stdio.h>

#define FROM_MAX 4200

static void add_setting(void *context, const struct conf_setting *setting)
{
    static const char *const effects[] = {
        [CONF_SETTING_ACTS] = "yes",
        [CONF_SETTING_NOT_YET] = "not yet",
        [CONF_SETTING_IGNORED] = "ignored",
        [CONF_SETTING_ADVISED] = "advised",
    };
    json_t *row = json_object();
    char from[FROM_MAX] = "default";

    /* An override stands in no line; what stands for its file says who, until when and why. */
    if (setting->file != NULL && setting->line > 0)
        snprintf(from, sizeof(from), "%s:%u", setting->file, setting->line);
    else if (setting->file != NULL)
        snprintf(from, sizeof(from), "%s", setting->file);
    json_object_set_new(row, "section", json_string(setting->section));
    json_object_set_new(row, "name", json_string(setting->keyword));
    json_object_set_new(row, "value", control_string(setting->value));
    json_object_set_new(row, "from", control_string(from));
    json_object_set_new(row, "effect", json_string(effects[setting->effect]));
    json_array_append_new(context, row);
}

static void settings_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"section", "section", false}, {"name", "keyword", false}, {"from", "from", false},
        {"effect", "effect", false},   {"value", "value", false},
    };
    const char *holder = json_string_value(json_object_get(data, "heldBy"));
    bool by_turn = json_is_true(json_object_get(data, "byTurn"));

    if (holder != NULL)
        text_format(out, "the mail of %s is in %s%s, whose settings these are\n",
                    json_string_value(json_object_get(data, "queue")),
                    by_turn ? "several queues by turns, one of them " : "", holder);
    render_table(json_object_get(data, "setting"), columns, sizeof(columns) / sizeof(columns[0]),
                 out);
}

void control_way_name(const struct conf *conf, const struct conf_way *way,
                      char room[CONTROL_QUEUE_MAX])
{
    snprintf(room, CONTROL_QUEUE_MAX, "%.*s/%s",
             way->domain.len < VERB_DOMAIN_MAX ? (int)way->domain.len : VERB_DOMAIN_MAX - 1,
             (const char *)way->domain.data, conf_vmta_name(conf, way->vmta_id));
}

/* The queue that has the mail, where it is another one than was asked about. */
static void add_holder(const struct conf *conf, const struct conf_way *way, json_t *data)
{
    char text[CONTROL_QUEUE_MAX];

    control_way_name(conf, way, text);
    json_object_set_new(data, "heldBy", control_string(text));
    if (way->by_turn)
        json_object_set_new(data, "byTurn", json_true());
}

void control_settings_verb(struct control *control, struct control_client *client)
{
    const struct verb_request *request = &client->request;
    struct control_answer answer = {.data = json_object(), .text = settings_text};
    char text[VERB_ERROR_MAX], missing[CONF_VMTA_MISSING_MAX];
    json_t *rows = json_array();
    struct conf_way way = {0};
    bool is_known = conf_settings_tell(control->conf, slice_str(request->domain),
                                       slice_str(request->vmta), add_setting, rows, &way);

    snprintf(text, sizeof(text), "%.150s/%.64s", request->domain, request->vmta);
    json_object_set_new(answer.data, "queue", control_string(text));
    if (way.is_elsewhere)
        add_holder(control->conf, &way, answer.data);
    json_object_set_new(answer.data, "setting", rows);
    if (is_known) {
        control_client_answer(client, &answer);
    } else {
        conf_vmta_missing(control->conf, request->vmta, false, missing);
        control_client_refuse(client, missing);
    }
    control_answer_free(&answer);
}

/* ---- show overrides -------------------------------------------------------------------------- */

static json_t *override_tree(const struct conf *conf, const struct override *override)
{
    json_t *row = json_object();
    char queue[2 * OVERRIDE_NAMES_MAX], origin[OVERRIDE_ORIGIN_MAX];

    snprintf(queue, sizeof(queue), "%s/%s", override->domain, override->vmta);
    json_object_set_new(row, "number", json_integer(override->number));
    json_object_set_new(row, "queue", control_string(queue));
    json_object_set_new(row, "keyword", control_string(override->keyword));
    json_object_set_new(row, "value", control_string(override->value));
    overrides_origin(override, origin);
    json_object_set_new(row, "effect",
                        json_string(conf_heeds_override(conf, origin) ? "yes" : "none"));
    json_object_set_new(row, "since", control_time(override->since_us));
    json_object_set_new(row, "until", control_time(override->until_us));
    json_object_set_new(row, "uid", json_integer(override->uid));
    json_object_set_new(row, "reason", control_string(override->reason));
    return row;
}

static void overrides_text(const json_t *data, struct text_buffer *out)
{
    static const struct text_column columns[] = {
        {"queue", "queue", false},   {"keyword", "keyword", false}, {"value", "value", false},
        {"effect", "effect", false}, {"until", "until", false},     {"uid", "uid", true},
        {"reason", "reason", false},
    };

    render_table(json_object_get(data, "override"), columns, sizeof(columns) / sizeof(columns[0]),
                 out);
}

void control_overrides_verb(struct control *control, struct control_client *client)
{
    const struct overrides *list = &control->reload.overrides;
    struct control_answer answer = {.data = json_object(), .text = overrides_text};
    json_t *rows = json_array();

    for (uint32_t i = 0; i < list->count; i++)
        json_array_append_new(rows, override_tree(control->conf, list->items[i]));
    json_object_set_new(answer.data, "override", rows);
    control_client_answer(client, &answer);
    control_answer_free(&answer);
}
