#include "core/conf/reply_list.h"

#include "core/conf/pattern_list.h"
#include "core/conf/show.h"

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "smtp-pattern-list") == 0;
}

/* ---- Actions --------------------------------------------------------------------------------- */

/* Words alone; those with a value are read by themselves. */
static const struct {
    const char *word;
    enum conf_reply_action action;
} actions[] = {
    {"mode=backoff", CONF_REPLY_BACKOFF},    {"mode=normal", CONF_REPLY_NORMAL},
    {"skip-mx", CONF_REPLY_SKIP_MX},         {"bounce-queue", CONF_REPLY_BOUNCE_QUEUE},
    {"bounce-rcpt", CONF_REPLY_BOUNCE_RCPT}, {"disable-source-ip", CONF_REPLY_DISABLE_SOURCE},
    {"defer-queue", CONF_REPLY_DEFER_QUEUE},
};

static const struct slice backoff_for = {(const uint8_t *)"backoff-to-normal-after=", 24};
static const struct slice disabled_for = {(const uint8_t *)"reenable-after=", 15};

/* A time as the directives of these names have it; false after an error. */
static bool read_time(struct build *build, const struct list_line *line, const char *name,
                      struct slice text, uint64_t *ret_ms)
{
    const struct directive row = {
        .name = name, .type = TYPE_TIME, .max = UINT64_MAX, .flags = FLAG_UNLIMITED};
    char why[VALUE_WHY_MAX];
    struct value value;

    if (text.len > 0 && value_parse(&row, text, &build->conf->arena, &value, why) == 0) {
        *ret_ms = value.number;
        return true;
    }
    report_error(build->report, line->file, line->line, "%s: \"%.*s\" is no time", name,
                 SHOW(text));
    return false;
}

static bool read_action(struct build *build, const struct list_line *line, struct slice item,
                        struct conf_reply_rule *rule)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (slice_equal_nocase(item, slice_str(actions[i].word))) {
            rule->actions |= actions[i].action;
            return true;
        }
    }
    if (slice_starts_nocase(item, backoff_for))
        return read_time(build, line, "backoff-to-normal-after", slice_after(item, backoff_for.len),
                         &rule->backoff_ms);
    if (slice_starts_nocase(item, disabled_for))
        return read_time(build, line, "reenable-after", slice_after(item, disabled_for.len),
                         &rule->disabled_ms);
    report_error(build->report, line->file, line->line, "unknown action \"%.*s\"", SHOW(item));
    return false;
}

static bool check_actions(struct build *build, const struct list_line *line,
                          const struct conf_reply_rule *rule)
{
    const unsigned modes = CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL;
    const unsigned ways = CONF_REPLY_SKIP_MX | CONF_REPLY_BOUNCE_QUEUE;
    const char *text = NULL;

    if ((rule->actions & modes) == modes)
        text = "mode=backoff and mode=normal contradict each other";
    else if ((rule->actions & ways) == ways)
        text = "skip-mx and bounce-queue contradict each other";
    else if (rule->disabled_ms != CONF_REPLY_NO_TIME &&
             (rule->actions & CONF_REPLY_DISABLE_SOURCE) == 0)
        text = "reenable-after does nothing without disable-source-ip";
    else if (rule->backoff_ms != CONF_REPLY_NO_TIME && (rule->actions & CONF_REPLY_BACKOFF) == 0)
        text = "backoff-to-normal-after does nothing without mode=backoff";
    if (text != NULL)
        report_error(build->report, line->file, line->line, "%s", text);
    return text == NULL;
}

/* ---- Lists ----------------------------------------------------------------------------------- */

/* "reply /PATTERN/ ACTION[,ACTION]": the pattern ends at the last slash, so that it may hold some.
 */
static bool read_rule(struct build *build, const struct list_line *line,
                      struct conf_reply_rule *rule)
{
    static const struct slice reply = {(const uint8_t *)"reply", 5};
    struct slice rest = slice_trim(slice_after(
                     line->text, slice_starts_nocase(line->text, reply) ? reply.len : 0)),
                 item;
    size_t end = rest.len;

    *rule = (struct conf_reply_rule){
        .backoff_ms = CONF_REPLY_NO_TIME, .disabled_ms = CONF_REPLY_NO_TIME, .line = line->line};
    while (end > 1 && rest.data[end - 1] != '/')
        end--;
    if (rest.len == line->text.len || rest.len == 0 || rest.data[0] != '/' || end < 2 ||
        slice_trim(slice_after(rest, end)).len == 0) {
        report_error(build->report, line->file, line->line,
                     "\"%.*s\" is not of the form: reply /REGEX/ ACTION,... (a # starts a "
                     "comment; write \\x23)",
                     SHOW(line->text));
        return false;
    }
    rule->regex = list_compile(build, line, slice_of(rest.data + 1, end - 2));
    rest = slice_trim(slice_after(rest, end));
    while (value_next_item(&rest, &item)) {
        if (!read_action(build, line, item, rule))
            return false;
    }
    return rule->regex != NULL && check_actions(build, line, rule);
}

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

        if (!read_rule(build, line, rule))
            continue;
        if (line->file != file)
            copy = arena_strdup(&conf->arena, line->file);
        file = line->file;
        rule->file = copy;
        list->rule_count++;
    }
    conf->reply_list_count++;
}

static void check_names(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (strcmp(entry->row->name, "smtp-pattern-list") == 0 && !entry->cleared &&
            reply_list_find(build->conf, slice_str(entry->value.text)) == NULL)
            report_error(build->report, entry->file, entry->line,
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
