#include "core/conf/directives.h"

#include "core/conf/value.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

static char *read_whole(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = calloc(1, 1 << 20);

    assert_non_null(file);
    assert_true(fread(text, 1, (1 << 20) - 1, file) > 0);
    fclose(file);
    return text;
}

/* With RINGPOST_WRITE_DOCS=1 in the environment the file is written instead. */
static void assert_file_agrees(const char *path, void (*print)(FILE *out))
{
    char *printed = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&printed, &len);
    char *page;

    assert_non_null(path);
    assert_non_null(out);
    print(out);
    assert_int_equal(fclose(out), 0);
    if (getenv("RINGPOST_WRITE_DOCS") != NULL) {
        out = fopen(path, "w");
        assert_non_null(out);
        assert_int_equal(fwrite(printed, 1, len, out), len);
        assert_int_equal(fclose(out), 0);
    }
    page = read_whole(path);
    assert_int_equal(strlen(page), len);
    assert_memory_equal(page, printed, len);
    free(page);
    free(printed);
}

/*
 * The page in the tree and the table agree to the letter: nothing that is documented is missing
 * in the program and nothing in the program is undocumented.
 */
static void docs_agree(void **state)
{
    assert_file_agrees(getenv("DIRECTIVES_PAGE"), conf_directives_print);
}

/* What a fuzzer would take long to guess: the words of the language. */
static void print_dictionary(FILE *out)
{
    static const char *const values[] = {
        "unlimited", "never",      "auto",           "yes",          "no",       "10m,20m,1h",
        "100/15min", "20m/h",      "10/8",           "0/0",          "[*.]",     "$",
        "\\\"\\\"",  "reply /",    "mode=backoff",   "virtual-mta=", "call-to:", "/ ",
        "(?i)",      "lookup-mx:", "[192.0.2.1]:25", "{default}",    "{auth}",
    };

    fprintf(out, "# Made from the table of directives; do not edit it by hand.\n");
    for (uint32_t i = 0; i < section_count(); i++)
        fprintf(out, "\"<%s \"\n\"</%s>\\x0a\"\n", section_at(i)->tag, section_at(i)->tag);
    for (uint32_t i = 0; i < directive_count(); i++)
        fprintf(out, "\"\\x0a%s \"\n", directive_at(i)->name);
    for (size_t i = 0; i < COUNT_OF(values); i++)
        fprintf(out, "\"%s\"\n", values[i]);
}

static void the_fuzzers_dictionary_agrees(void **state)
{
    assert_file_agrees(getenv("CONF_DICTIONARY"), print_dictionary);
}

static bool share_a_name(const struct directive *a, const struct directive *b)
{
    return slice_equal_nocase(slice_str(a->name), slice_str(b->name));
}

/* What the parser relies on. */
static void rows_are_sound(void **state)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        assert_true(strlen(row->name) > 0 && strlen(row->doc) > 0);
        assert_int_equal(row->doc[strlen(row->doc) - 1], '.');
        assert_true(row->scopes != 0);
        assert_true(row->max >= row->min);
        assert_int_equal(directive_position(row), i);
        assert_true((row->effect >= EFFECT_IGNORED) == (row->reason != NULL));
        /* What is ignored for good or refused is not even kept. */
        assert_true(row->effect < EFFECT_IGNORED || row->store == STORE_NOTHING);
        if (row->type == TYPE_ENUM || row->type == TYPE_ENUM_LIST || row->type == TYPE_WORDS)
            assert_non_null(row->choices);
        for (uint32_t j = 0; j < i; j++) {
            if (share_a_name(row, directive_at(j)) && (row->scopes & directive_at(j)->scopes) != 0)
                fail_msg("%s has two rows in one scope", row->name);
        }
    }
}

static void defaults_are_values(void **state)
{
    struct arena arena;

    arena_init(&arena);
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);
        char why[VALUE_WHY_MAX];
        struct value value;

        if (row->preset != NULL &&
            value_parse(row, slice_str(row->preset), &arena, &value, why) != 0)
            fail_msg("%s: default \"%s\": %s", row->name, row->preset, why);
    }
    arena_fini(&arena);
}

static void every_row_is_found(void **state)
{
    struct directive_index index;

    assert_int_equal(directive_index_init(&index), 0);
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
            if ((row->scopes & SCOPE_BIT(scope)) != 0)
                assert_ptr_equal(directive_find(&index, slice_str(row->name), scope), row);
        }
    }
    assert_null(directive_find(&index, SLICE_LITERAL("retry-after"), SCOPE_GLOBAL));
    assert_non_null(directive_find_anywhere(&index, SLICE_LITERAL("RETRY-after")));
    assert_null(directive_find_anywhere(&index, SLICE_LITERAL("")));
    directive_index_fini(&index);
}

static void sections_are_sound(void **state)
{
    for (uint32_t i = 0; i < section_count(); i++) {
        const struct section_kind *kind = section_at(i);

        assert_ptr_equal(section_find(slice_str(kind->tag)), kind);
        assert_int_equal(section_position(kind), i);
        assert_true(kind->parents != 0);
        assert_true((kind->effect >= EFFECT_IGNORED) == (kind->reason != NULL));
    }
    assert_int_equal(section_find(SLICE_LITERAL("queue"))->effect, EFFECT_REFUSED);
    assert_null(section_find(SLICE_LITERAL("queues")));
}

static void hints(void **state)
{
    static const struct {
        const char *written;
        enum scope scope;
        const char *meant;
    } cases[] = {
        {"max-smpt-out", SCOPE_DOMAIN, "max-smtp-out"},
        {"maxsmtpout", SCOPE_DOMAIN, "max-smtp-out"},
        {"retry_after", SCOPE_DOMAIN, "retry-after"},
        {"RETRY-AFTR", SCOPE_DOMAIN, "retry-after"},
        {"tpye", SCOPE_DOMAIN, "type"},
        {"logfile", SCOPE_GLOBAL, "log-file"},
        {"smtp-listner", SCOPE_GLOBAL, "smtp-listener"},
        {"always-allow-relay", SCOPE_SOURCE, "always-allow-relaying"},
        {"move-too", SCOPE_ACCT_FILE, "move-to"},
        {"x", SCOPE_GLOBAL, NULL},
        {"completely-different-thing", SCOPE_GLOBAL, NULL},
        {"", SCOPE_GLOBAL, NULL},
    };
    char longest[3000];

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *near = directive_nearest(slice_str(cases[i].written), cases[i].scope);

        if (cases[i].meant == NULL)
            assert_null(near);
        else if (near == NULL || strcmp(near, cases[i].meant) != 0)
            fail_msg("\"%s\" is near \"%s\"", cases[i].written, near ? near : "nothing");
    }
    memset(longest, 'a', sizeof(longest));
    assert_null(directive_nearest(slice_of(longest, sizeof(longest)), SCOPE_GLOBAL));
    assert_string_equal(section_nearest(SLICE_LITERAL("virtual-mta-pol")), "virtual-mta-pool");
    assert_null(section_nearest(SLICE_LITERAL("zzzzz")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fuzzers_dictionary_agrees),
        cmocka_unit_test(docs_agree),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(defaults_are_values),
        cmocka_unit_test(every_row_is_found),
        cmocka_unit_test(sections_are_sound),
        cmocka_unit_test(hints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
