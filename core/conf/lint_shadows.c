#include "core/conf/lint.h"

#include "core/base/hash.h"
#include "core/conf/show.h"

#include <errno.h>

/* ---- Blocks of one domain ------------------------------------------------------------------ */

/* Who spoke of a domain first among the blocks of one section; pairs are told once. */
struct claim {
    struct slice text;
    const struct section *by;
};

struct claims {
    struct build *build;
    struct table table;
    struct claim *items;
    uint32_t count;
    uint32_t capacity;
    const struct section *block;     /* whose pattern is being expanded */
    const struct section *told_with; /* the last block that it was compared with */
};

static bool match_claim(uint32_t value, const void *key, void *context)
{
    const struct claims *claims = context;

    return slice_equal_nocase(claims->items[value].text, *(const struct slice *)key);
}

static bool says(const struct section *section, const struct directive *row)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (entry->row == row)
            return true;
    }
    return false;
}

/* How many keywords of the earlier block the later one gives again. */
static unsigned count_common(const struct section *earlier, const struct section *later,
                             unsigned *ret_all)
{
    unsigned common = 0;

    *ret_all = 0;
    for (const struct entry *entry = earlier->entries; entry != NULL; entry = entry->next) {
        (*ret_all)++;
        common += says(later, entry->row);
    }
    return common;
}

static void compare(struct claims *claims, const struct section *earlier, struct slice text)
{
    const struct section *later = claims->block;
    unsigned all = 0;
    unsigned common = count_common(earlier, later, &all);
    bool is_same = slice_equal_nocase(earlier->name, later->name);

    if (claims->told_with == earlier || earlier == later || (common == 0 && !is_same))
        return;
    claims->told_with = earlier;
    if (is_same && common == all)
        report_warning(claims->build->report, earlier->file, earlier->line,
                       "<domain %.*s> does nothing: all it says is said again by the one in line "
                       "%u of %s",
                       SHOW(earlier->name), later->line, later->file);
    else if (is_same)
        report_warning(claims->build->report, later->file, later->line,
                       "<domain %.*s> is given again, also in line %u of %s; both count, and this "
                       "one where they differ",
                       SHOW(later->name), earlier->line, earlier->file);
    else
        report_warning(claims->build->report, later->file, later->line,
                       "%.*s is in <domain %.*s> and in <domain %.*s> (line %u of %s); the later "
                       "one counts where they differ",
                       SHOW(text), SHOW(later->name), SHOW(earlier->name), earlier->line,
                       earlier->file);
}

static int claim(void *context, struct slice text, bool from_macro)
{
    struct claims *claims = context;
    struct arena *arena = &claims->build->conf->arena;
    /* A literal domain beats one out of a macro, which is how exceptions are written. */
    uint64_t hash = hash_combine(hash_bytes_nocase(text.data, text.len), from_macro);
    uint32_t position = table_find(&claims->table, hash, match_claim, &text, claims);

    if (position != TABLE_NONE) {
        compare(claims, claims->items[position].by, text);
        return 0;
    }
    if (claims->count == claims->capacity) {
        uint32_t bigger = claims->capacity == 0 ? 64 : claims->capacity * 2;
        struct claim *items = arena_alloc(arena, bigger * sizeof(*items));

        if (claims->count > 0)
            memcpy(items, claims->items, claims->count * sizeof(*items));
        claims->items = items;
        claims->capacity = bigger;
    }
    claims->items[claims->count] = (struct claim){arena_copy(arena, text), claims->block};
    return table_insert(&claims->table, hash, claims->count++) ? 0 : -ENOMEM;
}

static int check_domains(struct build *build, const struct section *outer)
{
    struct claims claims = {.build = build};
    int rc = 0;

    table_init(&claims.table);
    for (const struct section *at = outer->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_DOMAIN) {
            claims.block = at;
            claims.told_with = NULL;
            rc = macro_expand(&build->macros, at->name, claim, &claims);
        } else if (at->kind->scope == SCOPE_VMTA || at->kind->scope == SCOPE_POOL) {
            rc = check_domains(build, at);
        }
    }
    table_fini(&claims.table);
    return rc == -ENOMEM ? rc : 0;
}

/* ---- Other blocks that are given twice ----------------------------------------------------- */

static bool is_same_block(const struct section *a, const struct section *b)
{
    return a->kind == b->kind && a->name.len > 0 && slice_equal_nocase(a->name, b->name);
}

/* Sources and lists are few, so every pair is looked at. */
static void check_pairs(struct build *build)
{
    const struct section *top = &build->tree->top;
    uint32_t left = 2000;

    for (const struct section *at = top->children; at != NULL && left > 0; at = at->next) {
        if (at->kind->scope != SCOPE_SOURCE && at->kind->scope != SCOPE_LINES &&
            at->kind->scope != SCOPE_SMTP_USER)
            continue;
        left--;
        for (const struct section *before = top->children; before != at; before = before->next) {
            if (is_same_block(before, at))
                report_warning(build->report, at->file, at->line,
                               "<%s %.*s> is given again, also in line %u of %s", at->kind->tag,
                               SHOW(at->name), before->line, before->file);
        }
    }
}

/* ---- Lines that an earlier one makes void -------------------------------------------------- */

static bool block_of(const struct entry *entry, struct cidr *ret_block)
{
    struct slice rest = slice_str(entry->text);
    struct slice word;

    return value_next_word(&rest, &word) > 0 && cidr_parse(word, ret_block) == 0;
}

/* The first match counts, so what lies within an earlier block is never asked for. */
static void check_access(struct build *build)
{
    const struct entry *first = build->tree->top.entries;

    for (const struct entry *at = first; at != NULL; at = at->next) {
        struct cidr block;

        if (strcmp(at->row->name, "http-access") != 0 || at->cleared || !block_of(at, &block))
            continue;
        for (const struct entry *before = first; before != at; before = before->next) {
            struct cidr wider;

            if (before->row != at->row || before->cleared || !block_of(before, &wider) ||
                wider.prefix_bits > block.prefix_bits || !cidr_contains(&wider, &block.ip))
                continue;
            report_warning(build->report, at->file, at->line,
                           "http-access %.80s is never reached: the first match counts, and line "
                           "%u of %s matches all of it",
                           at->text, before->line, before->file);
            break;
        }
    }
}

static const struct entry *entry_named(const struct section *section, const char *keyword)
{
    const struct entry *found = NULL;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (strcmp(entry->row->name, keyword) == 0)
            found = entry;
    }
    return found != NULL && found->cleared ? NULL : found;
}

static void check_acct_file(struct build *build, const struct section *section)
{
    const struct entry *move_to = entry_named(section, "move-to");
    const struct entry *interval = entry_named(section, "move-interval");
    const struct entry *age = entry_named(section, "delete-after");

    if (move_to == NULL && interval != NULL)
        report_warning(build->report, interval->file, interval->line,
                       "move-interval does nothing without move-to");
    if (move_to != NULL && age != NULL)
        report_warning(build->report, age->file, age->line,
                       "delete-after does nothing beside move-to (line %u of %s)", move_to->line,
                       move_to->file);
}

static bool is_switch(const struct entry *entry, bool on)
{
    return entry != NULL && (entry->value.number != 0) == on;
}

static bool has_certificate(const struct conf *conf)
{
    bool has = conf->global.tls_in.certificate != NULL;

    for (uint32_t i = 0; i < conf->global.listener_count; i++)
        has |= conf->global.listeners[i].tls.certificate != NULL;
    return has;
}

static bool is_named(const struct conf *conf, struct slice source)
{
    bool is_named = source_is_built_in(source);

    for (uint32_t i = 0; i < conf->global.listener_count; i++) {
        const char *name = conf->global.listeners[i].source_name;

        is_named |= name != NULL && slice_equal_nocase(slice_str(name), source);
    }
    for (uint32_t i = 0; i < conf->user_count; i++) {
        const char *name = conf->users[i].source;

        is_named |= name != NULL && slice_equal_nocase(slice_str(name), source);
    }
    return is_named;
}

static void check_source(struct build *build, const struct section *section)
{
    struct cidr block;
    const struct entry *wants = entry_named(section, "require-auth");
    const struct entry *may = entry_named(section, "allow-auth");
    const struct entry *wants_tls = entry_named(section, "require-starttls-before-auth");
    const struct entry *may_tls = entry_named(section, "allow-starttls");

    if (cidr_parse(section->name, &block) < 0 && !is_named(build->conf, section->name))
        report_warning(build->report, section->file, section->line,
                       "<source %.*s> is not used: it is no address, and no smtp-listener or "
                       "smtp-user names it",
                       SHOW(section->name));
    if (is_switch(wants, true) && is_switch(may, false))
        report_warning(build->report, wants->file, wants->line,
                       "require-auth contradicts allow-auth no (line %u): nobody can send",
                       may->line);
    if (is_switch(wants_tls, true) && is_switch(may_tls, false))
        report_warning(build->report, wants_tls->file, wants_tls->line,
                       "require-starttls-before-auth contradicts allow-starttls no (line %u): "
                       "nobody can log in",
                       may_tls->line);
    if (is_switch(may_tls, true) && !has_certificate(build->conf))
        report_warning(build->report, may_tls->file, may_tls->line,
                       "allow-starttls does nothing without smtp-server-tls-certificate, or the "
                       "tls-certificate of a listener");
}

static void check_group(struct build *build, const struct section *section)
{
    const struct entry *most = entry_named(section, "max-smtp-in");
    const struct entry *reserved = entry_named(section, "reserved-smtp-in");

    if (most != NULL && reserved != NULL && reserved->value.number > most->value.number)
        report_warning(build->report, reserved->file, reserved->line,
                       "reserved-smtp-in %s is more than max-smtp-in %s (line %u) allows",
                       reserved->text, most->text, most->line);
}

int lint_shadows(struct build *build)
{
    int rc = check_domains(build, &build->tree->top);

    check_pairs(build);
    check_access(build);
    for (const struct section *at = build->tree->top.children; at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_ACCT_FILE)
            check_acct_file(build, at);
        else if (at->kind->scope == SCOPE_SOURCE)
            check_source(build, at);
        else if (at->kind->scope == SCOPE_SOURCE_GROUP)
            check_group(build, at);
    }
    return rc;
}
