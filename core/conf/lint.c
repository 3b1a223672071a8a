#include "core/conf/lint.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/conf/certificates.h"
#include "core/conf/show.h"

#include <errno.h>
#include <limits.h>
#include <unistd.h>

int lint_all(struct build *build)
{
    int rc = lint_references(build);

    if (rc == 0)
        rc = lint_shadows(build);
    if (rc == 0)
        rc = lint_limits(build);
    if (rc == 0)
        rc = lint_lists(build);
    if (rc == 0)
        lint_reports(build);
    if (rc == 0)
        lint_pack(build);
    return rc;
}

/* ---- Sections by tag and name -------------------------------------------------------------- */

struct names {
    struct table table;
    const struct section **items;
    uint32_t count;
    bool *used;
};

static uint64_t hash_section(struct slice tag, struct slice name)
{
    return hash_combine(hash_bytes_nocase(tag.data, tag.len),
                        hash_bytes_nocase(name.data, name.len));
}

struct section_key {
    struct slice tag;
    struct slice name;
};

static bool match_section(uint32_t value, const void *key, void *context)
{
    const struct names *names = context;
    const struct section_key *wanted = key;

    return slice_equal_nocase(slice_str(names->items[value]->kind->tag), wanted->tag) &&
           slice_equal_nocase(names->items[value]->name, wanted->name);
}

static uint32_t find_section(const struct names *names, const char *tag, struct slice name)
{
    struct section_key key = {slice_str(tag), name};

    return table_find(&names->table, hash_section(key.tag, name), match_section, &key,
                      (void *)(uintptr_t)names);
}

/* Of sections with one name the first stands in the table. */
static int gather_names(struct build *build, struct names *names)
{
    const struct section *top = &build->tree->top;
    uint32_t most = 0;

    *names = (struct names){0};
    table_init(&names->table);
    for (const struct section *at = top->children; at != NULL; at = at->next)
        most++;
    names->items = arena_alloc(&build->conf->arena, most * sizeof(struct section *));
    names->used = arena_alloc(&build->conf->arena, most * sizeof(bool));
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (find_section(names, at->kind->tag, at->name) != TABLE_NONE)
            continue;
        names->items[names->count] = at;
        if (!table_insert(&names->table, hash_section(slice_str(at->kind->tag), at->name),
                          names->count))
            return -ENOMEM;
        names->count++;
    }
    return 0;
}

/* ---- References ---------------------------------------------------------------------------- */

/* Keywords whose value is the name of a section; several tags: any of them will do. */
static const struct reference {
    const char *keyword;
    const char *tags[2];
    bool is_list;
} references[] = {
    {"smtp-pattern-list", {"smtp-pattern-list"}, false},
    {"pattern-list", {"pattern-list"}, false},
    {"rewrite-list", {"rewrite-list"}, false},
    {"suppression-lists", {"address-list"}, true},
    {"source-group", {"source-group"}, false},
    {"use-proxy", {"proxy"}, true},
    {"source", {"source"}, false},
    {"cold-virtual-mta", {"virtual-mta"}, false},
    {"reroute-to-virtual-mta", {"virtual-mta", "virtual-mta-pool"}, false},
    {"backoff-reroute-to-virtual-mta", {"virtual-mta", "virtual-mta-pool"}, false},
    {"invalid-virtual-mta-fallback", {"virtual-mta", "virtual-mta-pool"}, false},
};

static bool mark_section(struct names *names, const struct reference *reference, struct slice name)
{
    bool found = false;

    for (unsigned i = 0; i < 2 && reference->tags[i] != NULL; i++) {
        uint32_t position = find_section(names, reference->tags[i], name);

        if (position == TABLE_NONE)
            continue;
        names->used[position] = true;
        found = true;
    }
    return found;
}

static void check_name(struct build *build, struct names *names, const struct entry *entry,
                       const struct reference *reference, struct slice name)
{
    /* Names in braces are built in; what files that are missing may have was told before. */
    if (!mark_section(names, reference, name) && name.data[0] != '{' &&
        build->tree->missing == NULL)
        report_warning(build->report, entry->file, entry->line, "%s: there is no <%s %.*s>",
                       entry->row->name, reference->tags[0], SHOW(name));
}

/* The file in a value of several parts: the last of a key's, the first of a certificate's. */
static struct slice file_in(const struct entry *entry)
{
    const struct directive *row = entry->row;
    struct slice rest = slice_str(entry->text);
    struct slice item = SLICE_EMPTY;

    if (row->type == TYPE_PATH && (row->store == STORE_NOTHING || row->store == STORE_AUTHORITIES))
        return slice_str(entry->value.text);
    if (strcmp(row->name, "domain-key") == 0) {
        while (value_next_item(&rest, &item))
            continue;
        return item;
    }
    if (row->type == TYPE_WORDS && strcmp(row->choices, "FILE [PASSWORD]") == 0 &&
        value_next_word(&rest, &item) > 0)
        return item;
    return SLICE_EMPTY;
}

static void check_file(struct build *build, const struct entry *entry)
{
    struct slice file = file_in(entry);
    char path[PATH_MAX];

    /* Who reads certificates has found out. */
    if (file.len == 0 || file.len >= sizeof(path) ||
        (certificates_are_about(entry->row) && build->options->tls_ops != NULL))
        return;
    memcpy(path, file.data, file.len);
    path[file.len] = '\0';
    if (access(path, F_OK) < 0)
        report_warning(build->report, entry->file, entry->line, "%s: there is no file %.*s",
                       entry->row->name, SHOW(file));
}

static void check_entry(struct build *build, struct names *names, const struct entry *entry)
{
    for (size_t i = 0; !entry->cleared && i < sizeof(references) / sizeof(references[0]); i++) {
        struct slice rest;
        struct slice name;

        if (strcmp(references[i].keyword, entry->row->name) != 0)
            continue;
        rest = slice_str(entry->value.text);
        if (!references[i].is_list) {
            check_name(build, names, entry, &references[i], rest);
            continue;
        }
        while (value_next_item(&rest, &name))
            check_name(build, names, entry, &references[i], name);
    }
    if (!entry->cleared && !build->options->syntax_only)
        check_file(build, entry);
}

/* A list may be called by another: "call-to:NAME". */
static void check_calls(struct names *names, const struct section *section)
{
    static const struct reference list = {"", {"pattern-list"}, false};
    const struct slice call = SLICE_LITERAL("call-to:");

    for (const struct list_line *line = section->lines; line != NULL; line = line->next) {
        for (size_t at = 0; at + call.len < line->text.len; at++) {
            struct slice rest = slice_after(line->text, at);

            if (slice_starts_nocase(rest, call))
                mark_section(names, &list, slice_trim(slice_after(rest, call.len)));
        }
    }
}

static void check_section(struct build *build, struct names *names, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        check_entry(build, names, entry);
    if (section->lines != NULL && strcmp(section->kind->tag, "pattern-list") == 0)
        check_calls(names, section);
    for (const struct section *at = section->children; at != NULL; at = at->next)
        check_section(build, names, at);
}

static void report_unused(struct build *build, const struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        const struct section *section = names->items[i];

        if (names->used[i] || section->name.len == 0)
            continue;
        for (size_t k = 0; k < sizeof(references) / sizeof(references[0]); k++) {
            const struct reference *reference = &references[k];

            /* Virtual MTAs are named by messages too, sources are found by address. */
            if (section->kind->scope == SCOPE_VMTA || section->kind->scope == SCOPE_POOL ||
                section->kind->scope == SCOPE_SOURCE ||
                strcmp(reference->tags[0], section->kind->tag) != 0)
                continue;
            report_warning(build->report, section->file, section->line,
                           "<%s %.*s> is not used: no %s names it", section->kind->tag,
                           SHOW(section->name), reference->keyword);
            break;
        }
    }
}

/* ---- Macros -------------------------------------------------------------------------------- */

/* Values that may hold macros. */
static bool may_hold_macros(const struct directive *row)
{
    return row->type == TYPE_DOMAIN_LIST || row->type == TYPE_NAME_LIST || row->type == TYPE_WORDS;
}

static void mark_macros(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (may_hold_macros(entry->row))
            macro_mark_used(&build->macros, slice_str(entry->text));
    }
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        macro_mark_used(&build->macros, line->text);
    for (const struct section *at = section->children; at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_DOMAIN)
            macro_mark_used(&build->macros, at->name);
        mark_macros(build, at);
    }
}

static void report_unused_macros(struct build *build)
{
    mark_macros(build, &build->tree->top);
    for (const struct entry *entry = build->tree->top.entries; entry != NULL; entry = entry->next) {
        if (entry->row->type == TYPE_MACRO && !entry->cleared &&
            !macro_is_used(&build->macros, entry->value.macro->name))
            report_warning(build->report, entry->file, entry->line,
                           "domain-macro %.*s is not used: nothing names it",
                           SHOW(entry->value.macro->name));
    }
}

int lint_references(struct build *build)
{
    struct names names;
    int rc = gather_names(build, &names);

    if (rc == 0) {
        check_section(build, &names, &build->tree->top);
        report_unused(build, &names);
        report_unused_macros(build);
    }
    table_fini(&names.table);
    return rc;
}
