#include "core/conf/category_list.h"

#include "core/base/regex.h"
#include "core/conf/pattern_list.h"
#include "core/conf/show.h"
#include "core/conf/wrap.h"

struct category_pattern {
    const struct regex *regex;
    const char *category;
    const char *file;
    unsigned line;
};

struct conf_category_list {
    uint32_t count;
    struct category_pattern patterns[];
};

/* ---- Reading --------------------------------------------------------------------------------- */

static bool is_ours(const struct section *section)
{
    return section->kind != NULL && strcmp(section->kind->tag, "bounce-category-patterns") == 0;
}

static uint32_t count_lines(const struct section *section)
{
    uint32_t count = 0;

    for (const struct section *child = section->children; child != NULL; child = child->next) {
        for (const struct list_line *line = is_ours(child) ? child->lines : NULL; line != NULL;
             line = line->next)
            count++;
    }
    return count;
}

static bool read_pattern(struct build *build, const struct list_line *line,
                         struct category_pattern *pattern)
{
    struct slice regex;
    struct slice category;

    if (!wrap_split(line->text, &regex, &category)) {
        report_error(build->report, line->file, line->line,
                     "<bounce-category-patterns>: \"%.*s\" is not /PATTERN/ CATEGORY",
                     SHOW(line->text));
        return false;
    }
    pattern->regex = list_compile(build, line, regex);
    pattern->category = (const char *)arena_copy(&build->conf->arena, category).data;
    pattern->line = line->line;
    return pattern->regex != NULL;
}

const struct conf_category_list *build_categories(struct build *build,
                                                  const struct section *section)
{
    uint32_t count = count_lines(section);
    struct conf_category_list *list;
    const char *file = NULL, *copy = NULL;

    if (count == 0)
        return NULL;
    list = arena_alloc(&build->conf->arena, sizeof(*list) + count * sizeof(list->patterns[0]));
    for (const struct section *child = section->children; child != NULL; child = child->next) {
        for (const struct list_line *line = is_ours(child) ? child->lines : NULL; line != NULL;
             line = line->next) {
            if (line->file != file)
                copy = arena_strdup(&build->conf->arena, line->file);
            file = line->file;
            list->patterns[list->count].file = copy;
            list->count += read_pattern(build, line, &list->patterns[list->count]);
        }
    }
    return list;
}

/* ---- Asking ---------------------------------------------------------------------------------- */

/* Among the patterns of a category, or all (NULL). */
static bool ask(const struct conf_category_list *const lists[CONF_CATEGORY_LISTS],
                const char *category, struct slice subject, struct regex_scratch *scratch,
                struct conf_category *ret_category)
{
    struct regex_subject known;
    bool is_set = false;

    for (uint32_t i = 0; i < CONF_CATEGORY_LISTS; i++) {
        for (uint32_t j = 0; lists[i] != NULL && j < lists[i]->count; j++) {
            const struct category_pattern *pattern = &lists[i]->patterns[j];

            if (category != NULL && strcmp(pattern->category, category) != 0)
                continue;
            if (!is_set)
                regex_subject_set(&known, subject);
            is_set = true;
            if (regex_match(pattern->regex, &known, scratch) != REGEX_YES)
                continue;
            *ret_category = (struct conf_category){pattern->category, pattern->file, pattern->line};
            return true;
        }
    }
    return false;
}

bool conf_category_ask(const struct conf_category_list *const lists[CONF_CATEGORY_LISTS],
                       struct slice subject, struct regex_scratch *scratch,
                       struct conf_category *ret_category)
{
    return ask(lists, NULL, subject, scratch, ret_category);
}

bool conf_category_ask_success(const struct conf_category_list *const lists[CONF_CATEGORY_LISTS],
                               struct slice subject, struct regex_scratch *scratch,
                               struct conf_category *ret_category)
{
    return ask(lists, "success", subject, scratch, ret_category);
}
