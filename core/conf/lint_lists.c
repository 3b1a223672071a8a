#include "core/conf/lint.h"

#include "core/base/err.h"
#include "core/base/regex.h"
#include "core/conf/reply_list.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#include <errno.h>

/* ---- Taking a line apart ------------------------------------------------------------------- */

/* "what /regex/ action" with an empty regex where there is none. */
struct rule {
    struct slice what;
    struct slice regex;
    bool has_regex;
    struct slice action;
};

static bool is_blank(const struct slice text, size_t at)
{
    return at >= text.len || text.data[at] == ' ' || text.data[at] == '\t';
}

/* The slash that ends a pattern has a blank or nothing behind it, or the flag i; others belong to
 * the pattern, but for the last one where there is none of that kind. */
static size_t find_close(struct slice text, size_t open)
{
    size_t close = open + 1, last = text.len;

    while (close < text.len) {
        bool is_slash = text.data[close] == '/';

        if (is_slash && (is_blank(text, close + 1) ||
                         (text.data[close + 1] == 'i' && is_blank(text, close + 2))))
            return close;
        if (is_slash)
            last = close;
        close += text.data[close] == '\\' ? 2 : 1;
    }
    return last;
}

static bool read_rule(struct slice text, struct rule *ret_rule)
{
    size_t open = slice_find(text, '/');
    size_t close;

    *ret_rule = (struct rule){.what = text, .regex = SLICE_EMPTY, .action = SLICE_EMPTY};
    if (open == text.len)
        return true;
    close = find_close(text, open);
    if (close >= text.len)
        return false;
    ret_rule->what = slice_trim(slice_of(text.data, open));
    ret_rule->regex = slice_of(text.data + open + 1, close - open - 1);
    ret_rule->has_regex = true;
    ret_rule->action = slice_trim(slice_after(text, close + 1));
    return true;
}

/* ---- Lines that are never reached ---------------------------------------------------------- */

static bool ends_list(const struct section *section, const struct rule *rule)
{
    if (strcmp(section->kind->tag, "pattern-list") == 0)
        return rule->what.len > 0 && rule->what.data[0] == '*';
    return rule->has_regex && rule->regex.len == 0;
}

/* Whether `before` matches whatever `rule` does. A list that it calls may have no answer, and then
 * the lines behind it are looked at. */
static bool covers(const struct section *section, const struct rule *before,
                   const struct rule *rule)
{
    static const struct slice call = {(const uint8_t *)"call-to:", 8};
    struct slice answer =
        before->has_regex ? before->action : slice_trim(slice_after(before->what, 1));

    if (slice_starts_nocase(answer, call))
        return false;
    return ends_list(section, before) ||
           (before->has_regex && rule->has_regex && slice_equal(before->regex, rule->regex) &&
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
static const struct list_line *find_shadow(const struct section *section,
                                           const struct conf_reply_rule *replies,
                                           const struct list_line *at, uint32_t index,
                                           const struct rule *rule)
{
    unsigned left = replies != NULL ? replies[index].actions : 0;
    uint32_t i = 0;

    for (const struct list_line *line = section->lines; line != at; line = line->next, i++) {
        struct rule before;

        if (!read_rule(line->text, &before) || !covers(section, &before, rule))
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

static void check_list(struct build *build, const struct section *section)
{
    const struct conf_reply_rule *replies = replies_of(build, section);
    uint32_t i = 0;

    for (const struct list_line *line = section->lines; line != NULL && i < LINES_MAX;
         line = line->next, i++) {
        const struct list_line *shadow;
        struct rule rule;

        if (!read_rule(line->text, &rule)) {
            report_warning(build->report, line->file, line->line,
                           "the regex has no closing slash (a # starts a comment; write \\x23)");
            continue;
        }
        shadow = find_shadow(section, replies, line, i, &rule);
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
    static const char *const tags[] = {"smtp-pattern-list", "pattern-list",
                                       "bounce-category-patterns"};

    for (const struct section *at = outer->children; at != NULL; at = at->next) {
        for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
            if (strcmp(at->kind->tag, tags[i]) == 0)
                check_list(build, at);
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
