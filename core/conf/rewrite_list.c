#include "core/conf/rewrite_list.h"

#include "core/base/err.h"
#include "core/base/text.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

struct rewrite_rule {
    struct slice from;
    struct slice to;
    bool is_domain; /* both are what stands behind the '@' */
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

static struct slice next_word(struct slice *rest)
{
    struct slice text = slice_trim(*rest);
    size_t len = 0;

    while (len < text.len && !value_is_blank(text.data[len]))
        len++;
    *rest = slice_after(text, len);
    return slice_of(text.data, len);
}

/* Quotes in a local part would let blanks and a second '@' in; nobody's bounces go there. */
static bool is_address(struct slice text)
{
    size_t at = slice_find(text, '@');

    return at > 0 && at <= 64 && at + 1 < text.len && slice_find(text, '"') == text.len &&
           slice_find(text, '<') == text.len && slice_find(text, '>') == text.len &&
           value_is_host_name(slice_after(text, at + 1));
}

static bool is_right(const struct rewrite_rule *rule, struct slice text)
{
    return rule->is_domain ? text.len > 0 && value_is_host_name(text) : is_address(text);
}

static void read_rule(struct build *build, const struct list_line *line,
                      struct conf_rewrite_list *list)
{
    struct rewrite_rule *rule = &list->rules[list->rule_count];
    struct slice rest = line->text;
    struct slice word = next_word(&rest);

    *rule = (struct rewrite_rule){
        .is_domain = slice_equal_nocase(word, SLICE_LITERAL("from-domain")),
    };
    rule->from = next_word(&rest);
    rule->to = next_word(&rest);
    if ((!rule->is_domain && !slice_equal_nocase(word, SLICE_LITERAL("mail-from"))) ||
        slice_trim(rest).len > 0 || !is_right(rule, rule->from) || !is_right(rule, rule->to)) {
        report_error(build->report, line->file, line->line,
                     "\"%.*s\" is none of: mail-from ADDRESS ADDRESS, from-domain DOMAIN DOMAIN",
                     SHOW(line->text));
        return;
    }
    list->rule_count++;
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
        report_error(build->report, entry->file, entry->line,
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

static bool applies(const struct rewrite_rule *rule, struct slice sender)
{
    size_t at = sender.len;

    if (!rule->is_domain)
        return slice_equal_nocase(sender, rule->from);
    while (at > 0 && sender.data[at - 1] != '@')
        at--;
    return at > 0 && slice_equal_nocase(slice_after(sender, at), rule->from);
}

struct slice conf_rewrite(const struct conf_rewrite_list *list, struct slice sender, char *room,
                          size_t room_bytes)
{
    struct text text = text_in(room, room_bytes);

    if (sender.len == 0)
        return sender;
    for (uint32_t i = 0; i < list->rule_count; i++) {
        const struct rewrite_rule *rule = &list->rules[i];

        if (!applies(rule, sender))
            continue;
        if (rule->is_domain)
            text_put(&text, slice_of(sender.data, sender.len - rule->from.len));
        text_put(&text, rule->to);
        return text.is_cut ? sender : text_slice(&text);
    }
    return sender;
}
