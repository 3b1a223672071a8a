#include "core/conf/build.h"

#include "core/base/err.h"
#include "core/conf/certificates.h"
#include "core/conf/cold.h"
#include "core/conf/delivery.h"
#include "core/conf/keys.h"
#include "core/conf/show.h"

#include <errno.h>

/* Macros are known as a whole before the first one is used: their order in the file is free. */
int build_macros(struct build *build)
{
    const struct section *top = &build->tree->top;

    for (const struct entry *entry = top->entries; entry != NULL; entry = entry->next) {
        const struct value_macro *macro = entry->value.macro;
        int rc;

        if (entry->row->type != TYPE_MACRO || entry->cleared)
            continue;
        rc = macro_set_add(&build->macros, macro->name, macro->items);
        if (rc == E_EXISTS)
            report_warning(build->report, entry->file, entry->line,
                           "domain-macro %.*s is given again; the later list counts",
                           SHOW(macro->name));
        else if (rc < 0)
            return rc;
    }
    for (const struct entry *entry = top->entries; entry != NULL; entry = entry->next) {
        int rc;

        if (entry->row->type != TYPE_MACRO || entry->cleared)
            continue;
        rc = macro_check(&build->macros, entry->value.macro->name);
        if (rc == E_SYNTAX)
            build_macro_error(build, entry->file, entry->line, "domain-macro");
        else if (rc < 0)
            return rc;
    }
    return 0;
}

/* One <domain> block on its way into the index. */
struct block {
    struct build *build;
    const struct section *section;
    const struct settings *settings;
    uint32_t layer;
    bool is_bad; /* what is wrong with one domain of a macro mostly is with all */
};

static void note_transfers(struct conf *conf, const struct settings *settings)
{
    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        conf->keeps_transfers |=
            setting->row->store == STORE_BOOL &&
            (setting->row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0 &&
            setting->row->offset == offsetof(struct conf_queue, allow_cancel_during_transfer) &&
            !setting->cleared && setting->value.number == 0;
    }
}

bool conf_keeps_transfers(const struct conf *conf)
{
    return conf->keeps_transfers;
}

/* What whoever wrote it may have meant. */
static const char *hint_for(struct slice text)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] >= 0x80)
            return "international names are written as xn--...";
    if (slice_find(text, ' ') < text.len || slice_find(text, ',') < text.len)
        return "one block for several domains is <domain $NAME>, with a domain-macro NAME";
    return "its forms are *, DOMAIN, *.DOMAIN, [*.]DOMAIN and [IP/MASK]";
}

static int add_pattern(void *context, struct slice text, bool from_macro)
{
    struct block *block = context;
    char room[PATTERN_TEXT_MAX];
    struct pattern pattern;

    if (pattern_parse(text, room, &pattern) == 0) {
        build_way_note(block->build, &pattern, block->layer, block->settings);
        note_transfers(block->build->conf, block->settings);
        return pattern_index_add(&block->build->conf->domains, block->layer, &pattern,
                                 block->settings, from_macro);
    }
    if (block->is_bad)
        return 0;
    block->is_bad = true;
    report_error(block->build->report, block->section->file, block->section->line,
                 "<domain>: \"%.*s\" is no domain pattern (%s)", SHOW(text), hint_for(text));
    return report_is_full(block->build->report) ? E_FULL : 0;
}

/* A value that is read and not obeyed is said aloud, as a keyword would be. */
static void warn_of_delivery(struct build *build, const struct settings *settings)
{
    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        if (setting->row->offset == offsetof(struct conf_queue, delivery) &&
            setting->row->store == STORE_U32 && setting->value.number != CONF_DELIVERY_SMTP &&
            !conf_delivery_is_local((enum conf_delivery)setting->value.number))
            report_warning(build->report, setting->file, setting->line,
                           "type %s is accepted but has no effect yet: the mail goes by SMTP",
                           setting->text);
    }
}

bool build_delivery_why(const struct setting *setting, const char **ret_why)
{
    const struct directive *row = setting->row;

    *ret_why = NULL;
    if (setting->cleared || row->store != STORE_TEXT ||
        (row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) == 0 ||
        (row->offset != offsetof(struct conf_queue, file_destination) &&
         row->offset != offsetof(struct conf_queue, command)))
        return false;
    *ret_why = conf_delivery_check(setting->value.text);
    if (*ret_why == NULL && setting->value.text[0] != '/')
        *ret_why = "it does not begin with a slash";
    return *ret_why != NULL;
}

static void check_delivery(struct build *build, const struct settings *settings)
{
    const char *why;

    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        if (build_delivery_why(setting, &why))
            report_error(build->report, setting->file, setting->line, "%s: %s", setting->row->name,
                         why);
    }
}

static void check_ramp(struct build *build, const struct settings *settings)
{
    uint64_t counts[CONF_COLD_DAYS_MAX];
    uint32_t count;

    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        if (setting->row->offset == offsetof(struct conf_queue, max_cold_msg) &&
            setting->row->store == STORE_TEXT &&
            (setting->row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0 &&
            conf_cold_ramp(slice_str(setting->value.text), counts, &count) < 0)
            report_error(build->report, setting->file, setting->line,
                         "%s: \"%.80s\" is no list of counts a day, as 500/d,1000/d,2000/d",
                         setting->row->name, setting->text);
    }
}

int build_blocks(struct build *build, const struct section *section, uint32_t layer)
{
    for (const struct section *at = section->children; at != NULL; at = at->next) {
        struct block block = {.build = build, .section = at, .layer = layer};
        int rc;

        if (at->kind->scope != SCOPE_DOMAIN)
            continue;
        block.settings = build_settings(build, at, STORE_NOTHING);
        warn_of_delivery(build, block.settings);
        check_delivery(build, block.settings);
        check_ramp(build, block.settings);
        for (uint32_t i = 0; i < block.settings->count; i++) {
            build_signing_check(build, &block.settings->items[i]);
            certificates_note(build, &block.settings->items[i]);
        }
        rc = macro_expand(&build->macros, at->name, add_pattern, &block);
        if (rc == E_SYNTAX)
            build_macro_error(build, at->file, at->line, "<domain %.*s>", SHOW(at->name));
        else if (rc == E_FULL)
            return 0;
        else if (rc < 0)
            return rc;
    }
    return 0;
}
