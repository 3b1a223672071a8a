#include "core/conf/rewrite_list.h"

#include "core/base/err.h"
#include "core/base/text.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

/* Of an address what stands before the '@' and what stands behind it; "*" is any, or stays. */
struct halves {
    struct slice local;
    struct slice domain;
};

struct rewrite_rule {
    struct halves from;
    struct halves to;
};

struct conf_rewrite_list {
    struct slice name;
    struct rewrite_rule *rules;
    uint32_t rule_count;
};

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "rewrite-list") == 0;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* Without its quotes; empty where there is none. */
static struct slice next_word(struct slice *rest)
{
    struct slice word = SLICE_EMPTY;

    return value_next_word(rest, &word) > 0 ? word : SLICE_EMPTY;
}

static bool is_any(struct slice text)
{
    return slice_equal(text, SLICE_LITERAL("*"));
}

/* Quotes in a local part would let blanks and a second '@' in; nobody's bounces go there. */
static bool split_address(struct slice text, struct halves *ret)
{
    size_t at = slice_find(text, '@');

    if (at == 0 || at > 64 || at + 1 >= text.len)
        return false;
    *ret = (struct halves){slice_of(text.data, at), slice_after(text, at + 1)};
    return slice_find(text, '"') == text.len && slice_find(text, '<') == text.len &&
           slice_find(text, '>') == text.len &&
           (is_any(ret->local) || slice_find(ret->local, '*') == ret->local.len) &&
           (is_any(ret->domain) || value_is_host_name(ret->domain));
}

static bool split_domain(struct slice text, struct halves *ret)
{
    *ret = (struct halves){SLICE_LITERAL("*"), text};
    return text.len > 0 && value_is_host_name(text);
}

static void read_rule(struct build *build, const struct list_line *line,
                      struct conf_rewrite_list *list)
{
    struct rewrite_rule *rule = &list->rules[list->rule_count];
    struct slice rest = line->text;
    struct slice keyword = next_word(&rest);
    struct slice from = next_word(&rest), to = next_word(&rest);
    bool is_domain = slice_equal_nocase(keyword, SLICE_LITERAL("from-domain"));
    bool is_right = is_domain || slice_equal_nocase(keyword, SLICE_LITERAL("mail-from"));

    if (is_right && slice_trim(rest).len == 0 &&
        (is_domain ? split_domain(from, &rule->from) && split_domain(to, &rule->to)
                   : split_address(from, &rule->from) && split_address(to, &rule->to)))
        list->rule_count++;
    else if (is_right && !is_domain && slice_equal(from, SLICE_LITERAL("<>")) && to.len > 0)
        report_warning(build->report, line->file, line->line,
                       "the null sender is never rewritten: answers to notices would come back to "
                       "somebody and could be answered for ever");
    else
        report_error(build->report, line->file, line->line,
                     "\"%.*s\" is none of: mail-from ADDRESS ADDRESS, from-domain DOMAIN DOMAIN",
                     SHOW(line->text));
}

const struct conf_rewrite_list *rewrite_list_find(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->rewrite_list_count; i++) {
        if (slice_equal_nocase(conf->rewrite_lists[i].name, name))
            return &conf->rewrite_lists[i];
    }
    return NULL;
}

static void read_list(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_rewrite_list *list = &conf->rewrite_lists[conf->rewrite_list_count];
    uint32_t most = 0;

    if (rewrite_list_find(conf, section->name) != NULL)
        report_error(build->report, section->file, section->line,
                     "<rewrite-list %.*s> is given twice", SHOW(section->name));
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        most++;
    *list = (struct conf_rewrite_list){
        .name = section->name,
        .rules = arena_alloc(&conf->arena, most * sizeof(*list->rules)),
    };
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        read_rule(build, line, list);
    conf->rewrite_list_count++;
}

/* Sources are looked at by build_source.c. */
static void check_names(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (entry->cleared || strcmp(entry->row->name, "rewrite-list") != 0 ||
            rewrite_list_find(build->conf, slice_str(entry->value.text)) != NULL)
            continue;
        build_missing_name(build, entry->file, entry->line,
                           "rewrite-list: there is no list \"%.80s\"", entry->value.text);
    }
}

void build_rewrite_lists(struct build *build)
{
    const struct section *first = build->tree->top.children;
    struct conf *conf = build->conf;
    uint32_t most = 0;

    for (const struct section *at = first; at != NULL; at = at->next)
        most += is_ours(at);
    conf->rewrite_lists = arena_alloc(&conf->arena, most * sizeof(*conf->rewrite_lists));
    for (const struct section *at = first; at != NULL; at = at->next) {
        if (is_ours(at))
            read_list(build, at);
    }
    for (const struct section *at = first; at != NULL; at = at->next) {
        if (at->kind != NULL && (at->kind->scope == SCOPE_VMTA || at->kind->scope == SCOPE_POOL))
            check_names(build, at);
    }
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        struct conf_vmta *vmta = &conf->vmtas[i].vmta;

        if (vmta->rewrite_list != NULL)
            vmta->rewrites = rewrite_list_find(conf, slice_str(vmta->rewrite_list));
    }
}

/* ---- Asking ---------------------------------------------------------------------------------- */

static bool matches(struct slice half, struct slice text)
{
    return is_any(half) || slice_equal_nocase(half, text);
}

static void put_half(struct text *text, struct slice half, struct slice old)
{
    text_put(text, is_any(half) ? old : half);
}

struct slice conf_rewrite(const struct conf_rewrite_list *list, struct slice sender, char *room,
                          size_t room_bytes)
{
    struct text text = text_in(room, room_bytes);
    struct slice local = sender, domain;

    while (local.len > 0 && local.data[local.len - 1] != '@')
        local.len--;
    if (local.len == 0)
        return sender;
    domain = slice_after(sender, local.len);
    local.len--;
    for (uint32_t i = 0; i < list->rule_count; i++) {
        const struct rewrite_rule *rule = &list->rules[i];

        if (!matches(rule->from.local, local) || !matches(rule->from.domain, domain))
            continue;
        put_half(&text, rule->to.local, local);
        text_put(&text, SLICE_LITERAL("@"));
        put_half(&text, rule->to.domain, domain);
        return text.is_cut ? sender : text_slice(&text);
    }
    return sender;
}
