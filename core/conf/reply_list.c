#include "core/conf/reply_list.h"

#include "core/conf/show.h"

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "smtp-pattern-list") == 0;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

const struct conf_reply_list *reply_list_find(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->reply_list_count; i++) {
        if (slice_equal_nocase(slice_str(conf->reply_lists[i].name), name))
            return &conf->reply_lists[i];
    }
    return NULL;
}

static void read_list(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_reply_list *list = &conf->reply_lists[conf->reply_list_count];
    struct conf_reply_rule *rules;
    const char *file = NULL, *copy = NULL;
    uint32_t most = 0;

    if (reply_list_find(conf, section->name) != NULL)
        report_error(build->report, section->file, section->line,
                     "<smtp-pattern-list %.*s> is given twice", SHOW(section->name));
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        most++;
    rules = arena_alloc(&conf->arena, most * sizeof(*rules));
    *list = (struct conf_reply_list){.name = (const char *)section->name.data, .rules = rules};
    for (const struct list_line *line = section->lines; line != NULL; line = line->next) {
        struct conf_reply_rule *rule = &rules[list->rule_count];

        if (!reply_rule_read(build, list->name, line, rule))
            continue;
        if (line->file != file)
            copy = arena_strdup(&conf->arena, line->file);
        file = line->file;
        rule->file = copy;
        list->rule_count++;
    }
    reply_rules_tell_apart(&conf->arena, NULL, rules, list->rule_count);
    conf->reply_list_count++;
}

static void check_names(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (strcmp(entry->row->name, "smtp-pattern-list") == 0 && !entry->cleared &&
            reply_list_find(build->conf, slice_str(entry->value.text)) == NULL)
            build_missing_name(build, entry->file, entry->line,
                               "smtp-pattern-list: there is no <smtp-pattern-list %.80s>",
                               entry->value.text);
    }
    for (const struct section *child = section->children; child != NULL; child = child->next)
        check_names(build, child);
}

void build_reply_lists(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t most = 0;

    for (const struct section *at = top->children; at != NULL; at = at->next)
        most += is_ours(at);
    conf->reply_lists = arena_alloc(&conf->arena, most * sizeof(*conf->reply_lists));
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (is_ours(at))
            read_list(build, at);
    }
    check_names(build, top);
}
