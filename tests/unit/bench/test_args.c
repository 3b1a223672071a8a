#include "bench/args.h"
#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

struct values {
    bool flag;
    uint64_t count;
    double number;
    const char *text;
    uint64_t each_sum;
};

static int take_each(void *into, const char *value)
{
    *(uint64_t *)into += strlen(value);
    return value[0] == 'x' ? E_SYNTAX : 0;
}

static enum args_answer parse(struct values *values, int argc, const char *const *argv)
{
    const struct arg table[] = {
        {"flag", ARG_FLAG, &values->flag, NULL, "", NULL},
        {"count", ARG_COUNT, &values->count, "N", "", NULL},
        {"number", ARG_NUMBER, &values->number, "N", "", NULL},
        {"text", ARG_TEXT, &values->text, "TEXT", "", NULL},
        {"each", ARG_EACH, &values->each_sum, "TEXT", "", take_each},
    };

    return args_parse("", table, 5, argc, (char **)argv);
}

static void every_kind_in_both_forms(void **state)
{
    const char *const argv[] = {"test", "--count", "7",    "--flag", "--number=1.5", "--text",
                                "a b",  "--each",  "four", "--each", "seventy"};
    struct values values = {0};

    assert_int_equal(parse(&values, 11, argv), ARGS_GO);
    assert_true(values.flag);
    assert_int_equal(values.count, 7);
    assert_true(values.number == 1.5);
    assert_string_equal(values.text, "a b");
    assert_int_equal(values.each_sum, 4 + 7);
}

static void wrong_lines_are_refused(void **state)
{
    static const char *const lines[][3] = {
        {"test", "--nothing", "1"}, {"test", "--count", NULL},    {"test", "--count", "-1"},
        {"test", "--count", "1k"},  {"test", "--number", "-0.5"}, {"test", "--number", "1x"},
        {"test", "--flag=yes", ""}, {"test", "count", "1"},       {"test", "--each", "xyz"},
        {"test", "--counter", "1"}, {"test", "--coun", "1"},      {"test", "-count", "1"},
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct values values = {0};

        assert_int_equal(parse(&values, lines[i][2] == NULL ? 2 : 3, lines[i]), ARGS_WRONG);
    }
}

static void bytes_in_steps_of_1024(void **state)
{
    uint64_t bytes = 5;

    assert_int_equal(args_bytes("2048", &bytes), 0);
    assert_int_equal(bytes, 2048);
    assert_int_equal(args_bytes("20k", &bytes), 0);
    assert_int_equal(bytes, 20480);
    assert_int_equal(args_bytes("3M", &bytes), 0);
    assert_int_equal(bytes, 3 << 20);
    assert_int_equal(args_bytes("", &bytes), E_SYNTAX);
    assert_int_equal(args_bytes("k", &bytes), E_SYNTAX);
    assert_int_equal(args_bytes("2g", &bytes), E_SYNTAX);
    assert_int_equal(args_bytes("99999999999999999999", &bytes), E_RANGE);
    assert_int_equal(bytes, 3 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_in_both_forms),
        cmocka_unit_test(wrong_lines_are_refused),
        cmocka_unit_test(bytes_in_steps_of_1024),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
