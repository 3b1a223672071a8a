#include "core/conf/override.h"

#include "core/conf/certificates.h"
#include "core/conf/cold.h"
#include "core/conf/field.h"
#include "core/conf/keys.h"
#include "core/conf/reply_list.h"

#include <stdarg.h>

#define ANY "*"

struct override_layer {
    struct slice domain;
    bool any_domain;
    bool any_vmta;
    uint32_t vmta_id;
    struct settings settings;
    struct setting setting;
};

__attribute__((format(printf, 3, 4))) static void
complain(struct build *build, const struct conf_override *override, const char *format, ...)
{
    char text[VALUE_WHY_MAX + 128];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (override->is_new)
        report_error(build->report, override->origin, 0, "%s", text);
    else
        report_warning(build->report, override->origin, 0, "has no effect: %s", text);
}

/* Both lead mail into other queues, which the file alone may do: there circles are looked for. */
static bool is_way(const struct directive *row)
{
    return row->store == STORE_TEXT &&
           (row->offset == offsetof(struct conf_queue, queue_to) ||
            row->offset == offsetof(struct conf_queue, reroute_to) ||
            row->offset == offsetof(struct conf_queue, backoff_reroute_to));
}

static const struct directive *find_row(struct build *build, const struct directive_index *index,
                                        const struct conf_override *override)
{
    struct slice keyword = slice_str(override->keyword);
    const struct directive *row = directive_find(index, keyword, SCOPE_DOMAIN);
    const char *near;

    if (row == NULL) {
        near = directive_nearest(keyword, SCOPE_DOMAIN);
        complain(build, override, "unknown directive \"%.80s\" in <domain>%s%s%s",
                 override->keyword, near != NULL ? "; did you mean \"" : "",
                 near != NULL ? near : "", near != NULL ? "\"?" : "");
        return NULL;
    }
    if (row->effect == EFFECT_DONE && field_is_set_by(row) && !is_way(row) &&
        !certificates_are_about(row))
        return row;
    complain(build, override, "%s cannot be overridden: %s", row->name,
             row->effect != EFFECT_DONE ? "it has no effect"
                                        : "only the configuration itself may say so");
    return NULL;
}

/* False after the reason was told. */
static bool read_value(struct build *build, const struct conf_override *override,
                       const struct directive *row, struct setting *setting)
{
    struct arena *arena = &build->conf->arena;
    uint64_t counts[CONF_COLD_DAYS_MAX];
    const char *unusable;
    char why[VALUE_WHY_MAX];
    uint32_t count;

    *setting = (struct setting){.row = row,
                                .text = arena_strdup(arena, override->value),
                                .file = arena_strdup(arena, override->origin)};
    setting->cleared = override->value[0] == '\0';
    if (setting->cleared) {
        setting->value = build->conf->presets[directive_position(row)];
        return true;
    }
    if (value_parse(row, slice_str(setting->text), arena, &setting->value, why) < 0) {
        complain(build, override, "%s: %s", row->name, why);
        return false;
    }
    if (row->store == STORE_TEXT && row->offset == offsetof(struct conf_queue, reply_list_name) &&
        reply_list_find(build->conf, slice_str(setting->value.text)) == NULL) {
        complain(build, override, "%s: there is no list \"%.80s\"", row->name, setting->text);
        return false;
    }
    if (row->store == STORE_TEXT && row->offset == offsetof(struct conf_queue, max_cold_msg) &&
        conf_cold_ramp(slice_str(setting->value.text), counts, &count) < 0) {
        complain(build, override, "%s: \"%.80s\" is no list of counts a day", row->name,
                 setting->text);
        return false;
    }
    if (build_delivery_why(setting, &unusable)) {
        complain(build, override, "%s: %s", row->name, unusable);
        return false;
    }
    build_signing_check(build, setting);
    certificates_note(build, setting);
    return true;
}

static bool read_layer(struct build *build, const struct directive_index *index,
                       const struct conf_override *override, struct override_layer *layer)
{
    struct conf *conf = build->conf;
    const struct conf_vmta *vmta = conf_vmta_named(conf, slice_str(override->vmta));
    const struct directive *row = find_row(build, index, override);
    char missing[CONF_VMTA_MISSING_MAX];

    if (row == NULL || !read_value(build, override, row, &layer->setting))
        return false;
    layer->any_domain = strcmp(override->domain, ANY) == 0;
    layer->any_vmta = strcmp(override->vmta, ANY) == 0;
    layer->domain = arena_copy(&conf->arena, slice_str(override->domain));
    if (!layer->any_vmta && vmta == NULL) {
        conf_vmta_missing(conf, override->vmta, true, missing);
        complain(build, override, "%s", missing);
        return false;
    }
    layer->vmta_id = vmta != NULL ? vmta->id : CONF_NONE;
    layer->settings = (struct settings){.items = &layer->setting, .count = 1, .all_count = 1};
    return true;
}

/* How narrow a layer is: 0 for all queues, 3 for one. */
static unsigned narrowness(const struct override_layer *layer)
{
    return (layer->any_domain ? 0u : 2u) + (layer->any_vmta ? 0u : 1u);
}

int build_overrides(struct build *build)
{
    const struct conf_load_options *options = build->options;
    struct conf *conf = build->conf;
    struct override_layer *found, *sorted;
    struct directive_index index;
    uint32_t count = 0;
    int rc;

    if (options->override_count == 0)
        return 0;
    rc = directive_index_init(&index);
    if (rc < 0)
        return rc;
    found = arena_alloc(&conf->arena, options->override_count * sizeof(*found));
    for (uint32_t i = 0; i < options->override_count; i++)
        count += read_layer(build, &index, &options->overrides[i], &found[count]);
    directive_index_fini(&index);
    sorted = arena_alloc(&conf->arena, count * sizeof(*sorted));
    for (unsigned narrow = 0; narrow <= 3; narrow++) {
        for (uint32_t i = 0; i < count; i++) {
            struct override_layer *to = &sorted[conf->override_count];

            if (narrowness(&found[i]) != narrow)
                continue;
            *to = found[i];
            to->settings.items = &to->setting;
            conf->override_count++;
        }
    }
    conf->overrides = sorted;
    return 0;
}

bool conf_heeds_override(const struct conf *conf, const char *origin)
{
    for (uint32_t i = 0; i < conf->override_count; i++)
        if (strcmp(conf->overrides[i].setting.file, origin) == 0)
            return true;
    return false;
}

void override_visit(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                    void (*visit)(void *context, const struct settings *settings), void *context)
{
    for (uint32_t i = 0; i < conf->override_count; i++) {
        const struct override_layer *layer = &conf->overrides[i];

        if ((layer->any_vmta || layer->vmta_id == vmta_id) &&
            (layer->any_domain || slice_equal(layer->domain, domain)))
            visit(context, &layer->settings);
    }
}
