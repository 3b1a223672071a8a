#include "core/conf/lint.h"

#include "core/base/err.h"
#include "core/base/regex.h"
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

/* The line before `at` that matches whatever `at` does, or NULL. */
static const struct list_line *find_shadow(const struct section *section,
                                           const struct list_line *at, const struct rule *rule)
{
    for (const struct list_line *line = section->lines; line != at; line = line->next) {
        struct rule before;

        if (!read_rule(line->text, &before))
            continue;
        if (ends_list(section, &before) ||
            (before.has_regex && rule->has_regex && slice_equal(before.regex, rule->regex) &&
             slice_equal_nocase(before.what, rule->what)))
            return line;
    }
    return NULL;
}

/* Pairs of lines are compared, so a list that no person wrote is left alone. */
#define LINES_MAX 2000u

static void check_list(struct build *build, const struct section *section)
{
    uint32_t left = LINES_MAX;

    for (const struct list_line *line = section->lines; line != NULL && left > 0;
         line = line->next, left--) {
        const struct list_line *shadow;
        struct rule rule;

        if (!read_rule(line->text, &rule)) {
            report_warning(build->report, line->file, line->line,
                           "the regex has no closing slash (a # starts a comment; write \\x23)");
            continue;
        }
        shadow = find_shadow(section, line, &rule);
        if (shadow != NULL)
            report_warning(build->report, line->file, line->line,
                           "the line is never reached: line %u of %s matches before", shadow->line,
                           shadow->file);
    }
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
        check_lists(build, at);
    }
}

int lint_lists(struct build *build)
{
    check_lists(build, &build->tree->top);
    return 0;
}
