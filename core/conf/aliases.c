#include "core/conf/aliases.h"

#include "core/conf/show.h"

#include <errno.h>

#define TARGETS_MAX 64u

struct alias {
    struct slice address;
    struct slice *targets;
    uint32_t target_count;
    const char *file;
    unsigned line;
};

struct alias_table {
    struct table by_address;
    struct alias *items;
    uint32_t count;
};

static bool match_alias(uint32_t value, const void *key, void *context)
{
    const struct alias_table *aliases = context;

    return slice_equal_nocase(aliases->items[value].address, *(const struct slice *)key);
}

static const struct alias *find_alias(const struct alias_table *aliases, struct slice address)
{
    uint32_t number = table_find(&aliases->by_address, hash_bytes_nocase(address.data, address.len),
                                 match_alias, &address, (void *)(uintptr_t)aliases);

    return number == TABLE_NONE ? NULL : &aliases->items[number];
}

/* ---- Reading --------------------------------------------------------------------------------- */

static bool is_address(struct build *build, struct slice text)
{
    static const struct directive row = {.name = "alias", .type = TYPE_ADDRESS, .max = 254};
    char why[VALUE_WHY_MAX];
    struct value value;

    return text.len > 0 && value_parse(&row, text, &build->conf->arena, &value, why) == 0;
}

/* ADDRESS, blanks, then ADDRESS,...; each of the two may stand in quotes. */
static bool read_alias(struct build *build, struct slice text, struct alias *alias)
{
    struct slice item, list;

    if (value_next_word(&text, &alias->address) <= 0 || !is_address(build, alias->address))
        return false;
    list = slice_trim(text);
    if (list.len > 0 && list.data[0] == '"') {
        text = list;
        if (value_next_word(&text, &list) <= 0 || slice_trim(text).len > 0)
            return false;
    }
    text = list;
    if (text.len == 0)
        return false;
    alias->targets = arena_alloc(&build->conf->arena, TARGETS_MAX * sizeof(*alias->targets));
    while (text.len > 0 && value_next_item(&text, &item)) {
        item = slice_trim(item);
        if (alias->target_count == TARGETS_MAX || !is_address(build, item))
            return false;
        alias->targets[alias->target_count++] = item;
    }
    return alias->target_count > 0;
}

static void add_alias(struct build *build, struct slice text, const char *file, unsigned line)
{
    struct alias_table *aliases = build->conf->aliases;
    struct alias *alias = &aliases->items[aliases->count];

    *alias = (struct alias){.file = file, .line = line};
    if (!read_alias(build, text, alias))
        report_error(build->report, file, line,
                     "\"%.*s\" is not of the form ADDRESS ADDRESS,... with at most %u of them",
                     SHOW(text), TARGETS_MAX);
    else if (find_alias(aliases, alias->address) != NULL)
        report_error(build->report, file, line, "alias %.*s is given twice", SHOW(alias->address));
    else if (!table_insert(&aliases->by_address,
                           hash_bytes_nocase(alias->address.data, alias->address.len),
                           aliases->count))
        report_error(build->report, file, line, "too little memory");
    else
        aliases->count++;
}

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "aliases") == 0;
}

static uint32_t count_lines(const struct section *top, uint32_t count)
{
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        for (const struct list_line *line = is_ours(at) ? at->lines : NULL; line != NULL;
             line = line->next)
            count++;
    }
    return count;
}

/* One step is all that is gone, so that nothing goes in a circle. */
static void check_targets(struct build *build)
{
    const struct alias_table *aliases = build->conf->aliases;

    for (uint32_t i = 0; i < aliases->count; i++) {
        const struct alias *alias = &aliases->items[i];

        for (uint32_t j = 0; j < alias->target_count; j++) {
            if (find_alias(aliases, alias->targets[j]) != NULL)
                report_error(build->report, alias->file, alias->line,
                             "alias %.*s: %.*s is an alias itself", SHOW(alias->address),
                             SHOW(alias->targets[j]));
        }
    }
}

void build_aliases(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct entry_list lines = build_entries(build, top, STORE_ALIAS);
    uint32_t most = count_lines(top, lines.count);
    struct conf *conf = build->conf;

    if (most == 0)
        return;
    conf->aliases = arena_alloc(&conf->arena, sizeof(*conf->aliases));
    *conf->aliases = (struct alias_table){
        .items = arena_alloc(&conf->arena, most * sizeof(struct alias)),
    };
    table_init(&conf->aliases->by_address);
    for (uint32_t i = 0; i < lines.count; i++)
        add_alias(build, slice_str(lines.items[i]->value.text), lines.items[i]->file,
                  lines.items[i]->line);
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        for (const struct list_line *line = is_ours(at) ? at->lines : NULL; line != NULL;
             line = line->next)
            add_alias(build, line->text, line->file, line->line);
    }
    check_targets(build);
}

void aliases_fini(struct conf *conf)
{
    if (conf->aliases != NULL)
        table_fini(&conf->aliases->by_address);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* RFC 5321 4.5.1: mail to postmaster here must reach somebody. */
static bool is_postmaster(const struct conf *conf, struct slice address)
{
    static const struct slice local = SLICE_LITERAL("postmaster@");

    if (conf->postmaster_count == 0 || !slice_starts_nocase(address, local))
        return false;
    for (uint32_t i = 0; i < conf->own_name_count; i++)
        if (slice_equal_nocase(slice_after(address, local.len), conf->own_names[i]))
            return true;
    return false;
}

uint32_t conf_alias(const struct conf *conf, struct slice address, const struct slice **ret_targets)
{
    const struct alias *alias = conf->aliases != NULL ? find_alias(conf->aliases, address) : NULL;

    if (alias == NULL && is_postmaster(conf, address)) {
        *ret_targets = conf->postmasters;
        return conf->postmaster_count;
    }
    *ret_targets = alias != NULL ? alias->targets : NULL;
    return alias != NULL ? alias->target_count : 0;
}
