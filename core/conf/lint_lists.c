#include "core/conf/lint.h"

#include "core/conf/pattern_list.h"
#include "core/conf/reply_list.h"
#include "core/conf/wrap.h"

/* ---- Taking a line apart ------------------------------------------------------------------- */

/* "what /regex/ action" with an empty regex where there is none. */
struct rule {
    struct slice what;
    struct slice regex;
    bool has_regex;
    struct slice action;
};

/* A line of a <pattern-list>: its pattern ends at the first slash that nothing guards. */
static bool split_choice(struct slice text, struct slice *ret_regex, struct slice *ret_action)
{
    *ret_action = slice_after(text, slice_find(text, '/'));
    return list_next_regex(ret_action, ret_regex) > 0;
}

/* As those who read the lists take their lines apart: each has another slash to end a pattern. */
static const struct kind {
    const char *tag;
    bool (*split)(struct slice text, struct slice *ret_regex, struct slice *ret_action);
} kinds[] = {
    {"smtp-pattern-list", reply_rule_split},
    {"pattern-list", split_choice},
    {"bounce-category-patterns", wrap_split},
};

static struct rule read_rule(const struct kind *kind, struct slice text)
{
    struct rule rule = {.what = text};

    if (!kind->split(text, &rule.regex, &rule.action))
        return (struct rule){.what = text};
    rule.what = slice_trim(slice_of(text.data, (size_t)(rule.regex.data - text.data) - 1));
    rule.has_regex = true;
    return rule;
}

/* ---- Lines that are never reached ---------------------------------------------------------- */

static bool ends_list(const struct kind *kind, const struct rule *rule)
{
    if (kind->split == split_choice)
        return rule->what.len > 0 && rule->what.data[0] == '*';
    return rule->has_regex && rule->regex.len == 0;
}

/* Case is ignored, but for what a backslash or a group may say: \S is not \s, and (?-i) ends it. */
static bool minds_case(struct slice regex)
{
    for (size_t i = 0; i < regex.len; i++) {
        bool is_group = regex.data[i] == '(' && i + 2 < regex.len && regex.data[i + 1] == '?';

        if (regex.data[i] == '\\' || (is_group && strchr(":=!", regex.data[i + 2]) == NULL))
            return true;
    }
    return false;
}

static bool is_same_regex(struct slice a, struct slice b)
{
    return slice_equal(a, b) || (slice_equal_nocase(a, b) && !minds_case(a));
}

/* Whether `before` matches whatever `rule` does. A list that it calls may have no answer, and then
 * the lines behind it are looked at. */
static bool covers(const struct kind *kind, const struct rule *before, const struct rule *rule)
{
    static const struct slice call = {(const uint8_t *)"call-to:", 8};
    struct slice answer =
        before->has_regex ? before->action : slice_trim(slice_after(before->what, 1));

    if (slice_starts_nocase(answer, call))
        return false;
    return ends_list(kind, before) ||
           (before->has_regex && rule->has_regex && is_same_regex(before->regex, rule->regex) &&
            slice_equal_nocase(before->what, rule->what));
}

/* What a line of a reply list leaves to none behind it that matches the same: of actions that
 * contradict each other the first counts. One with a trigger may leave all that stays. */
static unsigned decided_by(const struct conf_reply_rule *rule)
{
    const unsigned modes = CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL;
    const unsigned ways = CONF_REPLY_SKIP_MX | CONF_REPLY_BOUNCE_QUEUE;
    unsigned actions = rule->actions;

    if (rule->trigger.count > 1 || rule->trigger.percent > 0)
        actions &= ~CONF_REPLY_STANDING;
    if (actions & modes)
        actions |= modes;
    if (actions & ways)
        actions |= ways;
    return actions;
}

/* The line before `at` that makes it void, or NULL. replies: the rules of a list of which all lines
 * that match count; NULL where the first one does. index: of `at`. */
static const struct list_line *find_shadow(const struct kind *kind, const struct section *section,
                                           const struct conf_reply_rule *replies,
                                           const struct list_line *at, uint32_t index)
{
    const struct rule rule = read_rule(kind, at->text);
    unsigned left = replies != NULL ? replies[index].actions : 0;
    uint32_t i = 0;

    for (const struct list_line *line = section->lines; line != at; line = line->next, i++) {
        struct rule before = read_rule(kind, line->text);

        if (!covers(kind, &before, &rule))
            continue;
        if (replies == NULL)
            return line;
        left &= ~decided_by(&replies[i]);
        if (left == 0)
            return line;
    }
    return NULL;
}

/* Of a list of which all lines that match count: a rule for each line, since the tree made a
 * snapshot without errors. NULL for others. */
static const struct conf_reply_rule *replies_of(const struct build *build,
                                                const struct section *section)
{
    return strcmp(section->kind->tag, "smtp-pattern-list") == 0
               ? reply_list_find(build->conf, section->name)->rules
               : NULL;
}

/* Pairs of lines are compared, so a list that no person wrote is left alone. */
#define LINES_MAX 2000u

static void check_list(struct build *build, const struct kind *kind, const struct section *section)
{
    const struct conf_reply_rule *replies = replies_of(build, section);
    uint32_t i = 0;

    for (const struct list_line *line = section->lines; line != NULL && i < LINES_MAX;
         line = line->next, i++) {
        const struct list_line *shadow = find_shadow(kind, section, replies, line, i);

        if (shadow != NULL)
            report_warning(build->report, line->file, line->line,
                           replies == NULL
                               ? "the line is never reached: line %u of %s matches before"
                               : "line %u of %s matches before and decides all that this one asks "
                                 "for",
                           shadow->line, shadow->file);
        if (replies != NULL && (replies[i].actions & CONF_REPLY_BOUNCE_QUEUE) != 0)
            report_warning(build->report, line->file, line->line,
                           "bounce-queue: one reply bounces all that waits in the queue, also one "
                           "that is aimed at our address or at the sender");
    }
}

/* An explicit word of the user's is obeyed, and gives up recipients for what is no fault of theirs.
 */
static void check_domain(struct build *build, const struct section *section)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        if (strcmp(entry->row->name, "bounce-upon-5xx-greeting") == 0 && !entry->cleared &&
            entry->value.number != 0)
            report_warning(build->report, entry->file, entry->line,
                           "bounce-upon-5xx-greeting: all that waits for the receiver bounces, and "
                           "such a greeting is aimed at our address as a rule");
}

static void check_lists(struct build *build, const struct section *outer)
{
    for (const struct section *at = outer->children; at != NULL; at = at->next) {
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
            if (strcmp(at->kind->tag, kinds[i].tag) == 0)
                check_list(build, &kinds[i], at);
        }
        if (at->kind->scope == SCOPE_DOMAIN)
            check_domain(build, at);
        check_lists(build, at);
    }
}

int lint_lists(struct build *build)
{
    check_lists(build, &build->tree->top);
    return 0;
}
