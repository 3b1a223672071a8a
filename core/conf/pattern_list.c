/* <pattern-list>: rules that choose the way out by sender, recipient or a header field. */
#include "core/conf/pattern_list.h"

#include "core/base/err.h"
#include "core/base/regex.h"
#include "core/conf/show.h"

#include <errno.h>

/* Lists that call each other may be nested so deep. */
#define DEPTH_MAX 8u

enum rule_subject {
    RULE_ANY,
    RULE_MAIL_FROM,
    RULE_RCPT_TO,
    RULE_HEADER,
};

struct pattern_rule {
    enum rule_subject subject;
    struct slice header;
    struct regex *regex;
    const char *virtual_mta; /* NULL: it calls a list, or only has a priority */
    struct slice call_name;
    const struct conf_pattern_list *call;
    uint8_t priority;
    bool has_priority;
    const struct list_line *line;
};

struct conf_pattern_list {
    struct slice name;
    struct pattern_rule *rules;
    uint32_t rule_count;
    bool uses_header; /* itself or a list that it calls */
};

/* ---- Reading --------------------------------------------------------------------------------- */

struct slice list_skip_flag(struct slice behind)
{
    bool is_flag = behind.len > 1 && behind.data[0] == 'i' && value_is_blank(behind.data[1]);

    return slice_trim(is_flag ? slice_after(behind, 1) : behind);
}

int list_next_regex(struct slice *rest, struct slice *ret_pattern)
{
    struct slice text = slice_trim(*rest);
    size_t end = 1;

    if (text.len == 0 || text.data[0] != '/')
        return 0;
    while (end < text.len && text.data[end] != '/')
        end += text.data[end] == '\\' ? 2 : 1;
    if (end >= text.len)
        return E_SYNTAX;
    *ret_pattern = slice_of(text.data + 1, end - 1);
    *rest = list_skip_flag(slice_after(text, end + 1));
    return 1;
}

struct regex *list_compile(struct build *build, const struct list_line *line, struct slice pattern)
{
    struct conf *conf = build->conf;
    struct conf_regex *held = arena_alloc(&conf->arena, sizeof(*held));
    char why[REGEX_WHY_MAX];

    if (regex_compile(pattern, &held->regex, why) < 0) {
        report_error(build->report, line->file, line->line, "/%.*s/: %s", SHOW(pattern), why);
        return NULL;
    }
    held->next = conf->regexes;
    conf->regexes = held;
    return held->regex;
}

static const char *copy_name(struct build *build, struct slice name)
{
    char *copy = arena_alloc(&build->conf->arena, name.len + 1);

    memcpy(copy, name.data, name.len);
    copy[name.len] = '\0';
    return copy;
}

static void read_virtual_mta(struct build *build, const struct list_line *line, struct slice name,
                             struct pattern_rule *rule)
{
    if (vmta_find(build->conf, name) == TABLE_NONE && pool_find(build->conf, name) == TABLE_NONE)
        build_missing_name(build, line->file, line->line,
                           "virtual-mta: there is no virtual MTA or pool \"%.*s\"", SHOW(name));
    rule->virtual_mta = copy_name(build, name);
}

static bool read_priority(struct build *build, const struct list_line *line, struct slice text,
                          struct pattern_rule *rule)
{
    uint64_t value;

    if (slice_to_u64(text, 100, &value) < 0) {
        report_error(build->report, line->file, line->line,
                     "recipient-priority: a number from 0 to 100, not \"%.*s\"", SHOW(text));
        return false;
    }
    rule->priority = (uint8_t)value;
    rule->has_priority = true;
    return true;
}

static const struct slice virtual_mta_is = {(const uint8_t *)"virtual-mta=", 12};
static const struct slice priority_is = {(const uint8_t *)"recipient-priority=", 19};
static const struct slice call_to = {(const uint8_t *)"call-to:", 8};

/* "virtual-mta=X[,recipient-priority=N]", "recipient-priority=N" or "call-to:LIST". */
static bool read_action(struct build *build, const struct list_line *line, struct slice text,
                        struct pattern_rule *rule)
{
    struct slice item;

    if (slice_starts_nocase(text, call_to)) {
        rule->call_name = slice_trim(slice_after(text, call_to.len));
        return true;
    }
    while (text.len > 0 && value_next_item(&text, &item)) {
        if (slice_starts_nocase(item, virtual_mta_is)) {
            read_virtual_mta(build, line, slice_after(item, virtual_mta_is.len), rule);
        } else if (slice_starts_nocase(item, priority_is)) {
            if (!read_priority(build, line, slice_after(item, priority_is.len), rule))
                return false;
        } else {
            report_error(
                build->report, line->file, line->line,
                "\"%.*s\" is neither virtual-mta=, recipient-priority= nor call-to:", SHOW(item));
            return false;
        }
    }
    /* One that only ranks recipients chooses nothing, so the next rules are asked. */
    if (rule->virtual_mta == NULL && !rule->has_priority)
        report_error(build->report, line->file, line->line,
                     "the rule says nothing of a virtual MTA");
    return rule->virtual_mta != NULL || rule->has_priority;
}

static struct slice take_word(struct slice *rest)
{
    struct slice text = *rest;
    size_t len = 0;

    while (len < text.len && text.data[len] != ' ' && text.data[len] != '\t')
        len++;
    *rest = slice_trim(slice_after(text, len));
    return slice_of(text.data, len);
}

static bool read_subject(struct slice word, struct slice *rest, struct pattern_rule *rule)
{
    if (slice_equal_nocase(word, SLICE_LITERAL("mail-from"))) {
        rule->subject = RULE_MAIL_FROM;
    } else if (slice_equal_nocase(word, SLICE_LITERAL("rcpt-to"))) {
        rule->subject = RULE_RCPT_TO;
    } else if (slice_equal_nocase(word, SLICE_LITERAL("header"))) {
        rule->subject = RULE_HEADER;
        rule->header = take_word(rest);
        if (rule->header.len > 0 && rule->header.data[rule->header.len - 1] == ':')
            rule->header.len--;
    } else {
        return false;
    }
    return true;
}

static bool read_rule(struct build *build, const struct list_line *line, struct pattern_rule *rule)
{
    struct slice rest = line->text;
    struct slice word;
    struct slice pattern;

    *rule = (struct pattern_rule){.line = line};
    if (slice_starts_nocase(rest, call_to))
        return read_action(build, line, rest, rule);
    word = take_word(&rest);
    if (slice_equal(word, SLICE_LITERAL("*")))
        return read_action(build, line, rest, rule);
    if (!read_subject(word, &rest, rule)) {
        report_error(build->report, line->file, line->line,
                     "\"%.*s\" is neither mail-from, rcpt-to, header, call-to: nor *%s", SHOW(word),
                     slice_equal_nocase(word, SLICE_LITERAL("reply"))
                         ? "; replies stand in an <smtp-pattern-list>"
                         : "");
        return false;
    }
    if (list_next_regex(&rest, &pattern) <= 0) {
        report_error(build->report, line->file, line->line, "a pattern between slashes is missing");
        return false;
    }
    rule->regex = list_compile(build, line, pattern);
    return rule->regex != NULL && read_action(build, line, rest, rule);
}

const struct conf_pattern_list *pattern_list_find(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->pattern_list_count; i++) {
        if (slice_equal_nocase(conf->pattern_lists[i].name, name))
            return &conf->pattern_lists[i];
    }
    return NULL;
}

static void read_list(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_pattern_list *list = &conf->pattern_lists[conf->pattern_list_count];
    uint32_t most = 0;

    if (pattern_list_find(conf, section->name) != NULL)
        report_error(build->report, section->file, section->line,
                     "<pattern-list %.*s> is given "
                     "twice",
                     SHOW(section->name));
    for (const struct list_line *line = section->lines; line != NULL; line = line->next)
        most++;
    *list = (struct conf_pattern_list){
        .name = section->name,
        .rules = arena_alloc(&conf->arena, most * sizeof(*list->rules)),
    };
    for (const struct list_line *line = section->lines; line != NULL; line = line->next) {
        struct pattern_rule *rule = &list->rules[list->rule_count];

        if (!read_rule(build, line, rule))
            continue;
        if (list->rule_count > 0 && list->rules[list->rule_count - 1].subject == RULE_ANY &&
            list->rules[list->rule_count - 1].virtual_mta != NULL)
            report_warning(build->report, line->file, line->line,
                           "the rule * before this one matches everything");
        list->rule_count++;
    }
    conf->pattern_list_count++;
}

/* ---- Lists that call each other -------------------------------------------------------------- */

/* Else it says itself what holds. */
static bool calls(const struct pattern_rule *rule)
{
    return rule->virtual_mta == NULL && !rule->has_priority;
}

static void find_calls(struct build *build, struct conf_pattern_list *list)
{
    for (uint32_t i = 0; i < list->rule_count; i++) {
        struct pattern_rule *rule = &list->rules[i];

        if (!calls(rule))
            continue;
        rule->call = pattern_list_find(build->conf, rule->call_name);
        if (rule->call == NULL)
            build_missing_name(build, rule->line->file, rule->line->line,
                               "call-to: there is no <pattern-list %.*s>", SHOW(rule->call_name));
    }
}

/* Whether a header decides anywhere below; false with an error when the depth has no end. */
static bool look_for_headers(struct build *build, const struct conf_pattern_list *list,
                             unsigned depth)
{
    bool uses = false;

    for (uint32_t i = 0; i < list->rule_count; i++) {
        const struct pattern_rule *rule = &list->rules[i];

        uses |= rule->subject == RULE_HEADER;
        if (rule->call == NULL)
            continue;
        if (depth == DEPTH_MAX) {
            report_error(build->report, rule->line->file, rule->line->line,
                         "call-to: lists call each other more than %u deep, or in a circle",
                         DEPTH_MAX);
            return false;
        }
        uses |= look_for_headers(build, rule->call, depth + 1);
        if (build->report->errors > 0)
            return false;
    }
    return uses;
}

void build_pattern_lists(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t most = 0;

    for (const struct section *at = top->children; at != NULL; at = at->next)
        most += pattern_list_is(at);
    conf->pattern_lists = arena_alloc(&conf->arena, most * sizeof(*conf->pattern_lists));
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (pattern_list_is(at))
            read_list(build, at);
    }
    for (uint32_t i = 0; i < conf->pattern_list_count; i++)
        find_calls(build, &conf->pattern_lists[i]);
    for (uint32_t i = 0; i < conf->pattern_list_count && build->report->errors == 0; i++)
        conf->pattern_lists[i].uses_header = look_for_headers(build, &conf->pattern_lists[i], 1);
}

/* ---- Asking ---------------------------------------------------------------------------------- */

bool conf_patterns_use_header(const struct conf_pattern_list *list)
{
    return list->uses_header;
}

static bool matches(const struct pattern_rule *rule, const struct conf_pattern_question *question,
                    struct regex_scratch *scratch)
{
    struct regex_subject subject;
    struct slice text = SLICE_EMPTY;

    switch (rule->subject) {
    case RULE_ANY:
        return true;
    case RULE_MAIL_FROM:
        text = question->sender;
        break;
    case RULE_RCPT_TO:
        text = question->rcpt;
        break;
    case RULE_HEADER:
        if (question->header == NULL || !question->header(question->context, rule->header, &text))
            return false;
        break;
    }
    regex_subject_set(&subject, text);
    return regex_match(rule->regex, &subject, scratch) == REGEX_YES;
}

static bool ask(const struct conf_pattern_list *list, const struct conf_pattern_question *question,
                struct regex_scratch *scratch, struct conf_pattern_answer *answer)
{
    uint64_t path = answer->path;

    for (uint32_t i = 0; i < list->rule_count; i++) {
        const struct pattern_rule *rule = &list->rules[i];

        if (!matches(rule, question, scratch))
            continue;
        if (rule->has_priority && !answer->has_priority) {
            answer->priority_path = hash_combine(path, i + 1);
            answer->priority = rule->priority;
            answer->has_priority = true;
        }
        answer->virtual_mta = rule->virtual_mta;
        if (rule->virtual_mta == NULL && rule->call == NULL)
            continue;
        answer->path = hash_combine(path, i + 1);
        if (rule->virtual_mta != NULL || ask(rule->call, question, scratch, answer))
            return true;
    }
    answer->path = path;
    return false;
}

void conf_patterns_ask(const struct conf_pattern_list *list,
                       const struct conf_pattern_question *question, struct regex_scratch *scratch,
                       struct conf_pattern_answer *ret_answer)
{
    *ret_answer = (struct conf_pattern_answer){0};
    if (!ask(list, question, scratch, ret_answer))
        ret_answer->virtual_mta = NULL;
}
