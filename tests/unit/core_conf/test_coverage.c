#include "core/conf/directives.h"

#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

#define LINE_ROOM 512

/* What the list of names says is known to the table, and how. */
struct coverage {
    struct directive_index index;
    const char *list_name;
    unsigned line;
    unsigned names;
    unsigned missing;
    unsigned by_effect[EFFECT_COUNT];
};

static bool scope_of_tag(struct slice tag, enum scope *ret_scope)
{
    const struct section_kind *kind = section_find(tag);

    if (slice_equal(tag, SLICE_LITERAL("global")))
        *ret_scope = SCOPE_GLOBAL;
    else if (kind != NULL)
        *ret_scope = kind->scope;
    else
        return false;
    return true;
}

static void check_section(struct coverage *coverage, const char *word)
{
    const struct section_kind *kind = section_find(slice_str(word));

    coverage->names++;
    if (kind != NULL) {
        coverage->by_effect[kind->effect]++;
        return;
    }
    print_message("%s:%u: there is no section <%s>\n", coverage->list_name, coverage->line, word);
    coverage->missing++;
}

static void check_keyword(struct coverage *coverage, enum scope scope, const char *word)
{
    const struct directive *row = directive_find(&coverage->index, slice_str(word), scope);

    coverage->names++;
    if (row != NULL) {
        coverage->by_effect[row->effect]++;
        return;
    }
    print_message("%s:%u: %s has no row in %s\n", coverage->list_name, coverage->line, word,
                  scope_title(scope));
    coverage->missing++;
}

static void check_line(struct coverage *coverage, char *line)
{
    char *rest = NULL;
    char *tag = strtok_r(line, ": \n", &rest);
    enum scope scope = SCOPE_GLOBAL;
    bool is_of_sections;

    if (tag == NULL || tag[0] == '#')
        return;
    is_of_sections = strcmp(tag, "sections") == 0;
    if (!is_of_sections && !scope_of_tag(slice_str(tag), &scope))
        fail_msg("%s:%u: there is no section <%s>", coverage->list_name, coverage->line, tag);
    for (char *word = strtok_r(NULL, " \n", &rest); word != NULL;
         word = strtok_r(NULL, " \n", &rest)) {
        if (is_of_sections)
            check_section(coverage, word);
        else
            check_keyword(coverage, scope, word);
    }
}

/* Every name that users of PowerMTA know stands in the table, in the section where it belongs. */
static void every_known_name_has_a_row(void **state)
{
    struct coverage coverage = {.list_name = getenv("POWERMTA_NAMES")};
    char line[LINE_ROOM];
    FILE *list;

    assert_non_null(coverage.list_name);
    list = fopen(coverage.list_name, "r");
    assert_non_null(list);
    assert_int_equal(directive_index_init(&coverage.index), 0);
    while (fgets(line, sizeof(line), list) != NULL) {
        coverage.line++;
        assert_true(strlen(line) < LINE_ROOM - 1);
        check_line(&coverage, line);
    }
    fclose(list);
    print_message("%u names: %u in effect, %u not yet, %u ignored with a reason, %u missing\n",
                  coverage.names, coverage.by_effect[EFFECT_DONE], coverage.by_effect[EFFECT_LATER],
                  coverage.by_effect[EFFECT_IGNORED], coverage.missing);
    assert_true(coverage.names > 370);
    assert_int_equal(coverage.missing, 0);
    directive_index_fini(&coverage.index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_known_name_has_a_row)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
