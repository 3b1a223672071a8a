#include "core/conf/build.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/aliases.h"
#include "core/conf/category_list.h"
#include "core/conf/certificates.h"
#include "core/conf/field.h"
#include "core/conf/included.h"
#include "core/conf/keys.h"
#include "core/conf/lint.h"
#include "core/conf/override.h"
#include "core/conf/pattern_list.h"
#include "core/conf/provider_build.h"
#include "core/conf/reply_list.h"
#include "core/conf/rewrite_list.h"
#include "core/conf/show.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define TEXT_MAX 320

/* ---- For the parts ------------------------------------------------------------------------- */

static void report_missing(struct build *build, const char *file, unsigned line, const char *text)
{
    if (build->tree->missing == NULL)
        report_error(build->report, file, line, "%s", text);
    else
        report_warning(build->report, file, line,
                       "%s; it may stand in %.150s, which could not be read", text,
                       build->tree->missing);
}

void build_missing_name(struct build *build, const char *file, unsigned line, const char *format,
                        ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    report_missing(build, file, line, text);
}

void build_macro_error(struct build *build, const char *file, unsigned line, const char *format,
                       ...)
{
    char text[TEXT_MAX + MACRO_WHY_MAX];
    va_list arguments;
    size_t len;

    va_start(arguments, format);
    vsnprintf(text, TEXT_MAX, format, arguments);
    va_end(arguments);
    len = strlen(text);
    snprintf(text + len, sizeof(text) - len, ": %s", build->macros.why);
    if (build->macros.is_unknown)
        report_missing(build, file, line, text);
    else
        report_error(build->report, file, line, "%s", text);
}

struct entry_list build_entries(struct build *build, const struct section *section,
                                enum directive_store store)
{
    struct entry_list list = {0};
    uint32_t most = 0;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        most += entry->row->store == store;
    list.items = arena_alloc(&build->conf->arena, most * sizeof(struct entry *));
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (entry->row->store != store)
            continue;
        if (entry->cleared)
            list.count = 0;
        else
            list.items[list.count++] = entry;
    }
    return list;
}

uint32_t build_count_children(const struct section *section, enum scope scope)
{
    uint32_t count = 0;

    for (const struct section *child = section->children; child != NULL; child = child->next)
        count += child->kind->scope == scope;
    return count;
}

static struct value value_of(struct build *build, const struct entry *entry)
{
    struct value value = entry->value;

    if (entry->cleared)
        return build->conf->presets[directive_position(entry->row)];
    if (certificates_are_about(entry->row))
        certificates_resolve(build, entry->row, entry->file, entry->line, &value);
    return value;
}

void build_field(struct build *build, const struct entry *entry, void *target)
{
    struct value value = value_of(build, entry);

    field_store(target, entry->row, &value);
}

void build_fields(struct build *build, const struct section *section, void *target)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (field_is_set_by(entry->row))
            build_field(build, entry, target);
    }
}

static bool has_effect(const struct entry *entry, enum directive_store also)
{
    return field_is_set_by(entry->row) || (also != STORE_NOTHING && entry->row->store == also);
}

static struct setting setting_of(struct build *build, const struct entry *entry)
{
    return (struct setting){.row = entry->row,
                            .value = value_of(build, entry),
                            .text = entry->text,
                            .file = entry->file,
                            .line = entry->line,
                            .cleared = entry->cleared};
}

const struct settings *build_settings(struct build *build, const struct section *section,
                                      enum directive_store also)
{
    struct settings *settings = arena_alloc(&build->conf->arena, sizeof(*settings));
    struct setting *items;
    uint32_t most = 0;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        most++;
    items = arena_alloc(&build->conf->arena, most * sizeof(*items));
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (has_effect(entry, also))
            items[settings->count++] = setting_of(build, entry);
    }
    settings->all_count = settings->count;
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (!has_effect(entry, also))
            items[settings->all_count++] = setting_of(build, entry);
    }
    settings->items = items;
    settings->categories = build_categories(build, section);
    build_source_limits(build, section, settings);
    return settings;
}

/* ---- Defaults ------------------------------------------------------------------------------ */

/* A default of the table that its own parser refuses is a fault of ours. */
void build_presets(struct build *build)
{
    struct conf *conf = build->conf;

    conf->presets = arena_alloc(&conf->arena, directive_count() * sizeof(*conf->presets));
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);
        char why[VALUE_WHY_MAX];

        if (row->preset != NULL)
            must(value_parse(row, slice_str(row->preset), &conf->arena, &conf->presets[i], why) ==
                 0);
    }
    field_store_presets(&conf->queue_preset, SCOPE_DOMAIN, conf->presets);
}

/* ---- Spools and accounting files ----------------------------------------------------------- */

struct spool_list {
    struct conf_spool *items;
    uint32_t count;
};

/* The next one with its defaults, or NULL where there is no room for it or no such path. */
static struct conf_spool *add_spool(struct build *build, struct spool_list *list, const char *path,
                                    const char *file, unsigned line)
{
    struct conf_spool *spool = &list->items[list->count];

    if (list->count == CONF_SPOOLS_MAX) {
        report_error(build->report, file, line, "<spool %.80s>: at most %u folders can be used",
                     path, CONF_SPOOLS_MAX);
        return NULL;
    }
    if (path[0] != '/')
        report_error(build->report, file, line, "<spool>: \"%.80s\" is not an absolute path", path);
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->items[i].path, path) == 0)
            report_error(build->report, file, line, "<spool %.80s> is given twice", path);
    }
    spool->path = path;
    field_store_presets(spool, SCOPE_SPOOL, build->conf->presets);
    spool->min_free_bytes = (uint64_t)build->conf->global.spool_min_free_megabytes << 20;
    list->count++;
    return spool;
}

void build_spools(struct build *build)
{
    static const char default_path[] = "/var/spool/ringpost";
    struct conf *conf = build->conf;
    const struct section *top = &build->tree->top;
    struct entry_list lines = build_entries(build, top, STORE_SPOOL);
    struct spool_list list = {0};

    list.items = arena_alloc(&conf->arena, (CONF_SPOOLS_MAX + 1) * sizeof(*list.items));
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        struct conf_spool *spool;

        if (at->kind->scope != SCOPE_SPOOL)
            continue;
        spool = add_spool(build, &list, (const char *)at->name.data, at->file, at->line);
        if (spool != NULL)
            build_fields(build, at, spool);
    }
    for (uint32_t i = 0; i < lines.count; i++)
        add_spool(build, &list, lines.items[i]->value.text, lines.items[i]->file,
                  lines.items[i]->line);
    if (list.count == 0)
        add_spool(build, &list, default_path, top->file, 0);
    conf->global.spools = list.items;
    conf->global.spool_count = list.count;
}

/* ---- The whole ----------------------------------------------------------------------------- */

int build_snapshot(struct conf *conf, const struct tree *tree,
                   const struct conf_load_options *options, struct report *report)
{
    static const struct conf_load_options no_options;
    struct build build = {.conf = conf, .tree = tree, .report = report, .layers = 1};
    int rc;

    build.options = options != NULL ? options : &no_options;
    build_presets(&build);
    build_global(&build);
    conf->top = build_settings(&build, &tree->top, STORE_NOTHING);
    build_spools(&build);
    build_acct_files(&build);
    build_precache(&build);
    macro_set_init(&build.macros, &conf->arena);
    rc = build_macros(&build);
    if (rc == 0)
        rc = build_vmtas(&build);
    if (rc == 0)
        build_proxies(&build);
    if (rc == 0)
        rc = build_blocks(&build, &tree->top, LAYER_GLOBAL);
    if (rc == 0) {
        build_pattern_lists(&build);
        build_address_lists(&build);
        build_relay(&build);
        build_aliases(&build);
        build_included(&build);
        build_notices(&build);
        build_reply_lists(&build);
        build_rewrite_lists(&build);
        rc = build_keys(&build);
        if (rc == 0)
            rc = build_groups(&build);
        if (rc == 0)
            rc = build_sources(&build);
        if (rc == 0)
            rc = build_users(&build);
    }
    if (rc == 0)
        rc = build_providers(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_intern(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_limits(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_warmups(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_ways(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_rollups(&build);
    if (rc == 0 && report->errors == 0)
        rc = build_overrides(&build);
    if (rc == 0 && report->errors == 0)
        certificates_add_system(&build);
    if (rc == 0 && report->errors == 0)
        build_source_effects(&build);
    if (rc == 0 && report->errors == 0 && build.options->lint)
        rc = lint_all(&build);
    macro_set_fini(&build.macros);
    return rc;
}
