#include "core/base/err.h"
#include "core/base/slice.h"

#include "tests/unit/core_base/unit.h"

static void equality_is_by_bytes(void **state)
{
    assert_true(slice_equal(SLICE_LITERAL("a\0b"), slice_of("a\0b", 3)));
    assert_false(slice_equal(SLICE_LITERAL("a\0b"), SLICE_LITERAL("a\0c")));
    assert_false(slice_equal(SLICE_LITERAL("ab"), SLICE_LITERAL("abc")));
    /* An empty slice may have no address at all. */
    assert_true(slice_equal(slice_of(NULL, 0), SLICE_EMPTY));
}

static void nocase_folds_ascii_letters_only(void **state)
{
    assert_true(slice_equal_nocase(slice_str("EHLO [x]"), slice_str("ehlo [X]")));
    /* The neighbours of the letters differ by 32 as well. */
    assert_false(slice_equal_nocase(slice_str("@"), slice_str("`")));
    assert_false(slice_equal_nocase(slice_str("["), slice_str("{")));
    /* Latin-1 capital and small a-umlaut. */
    assert_false(slice_equal_nocase(slice_str("\xc4"), slice_str("\xe4")));
    assert_false(slice_equal_nocase(slice_str("ab"), slice_str("abc")));
}

static void starts_with_prefix(void **state)
{
    assert_true(slice_starts_nocase(slice_str("Content-Type: x"), slice_str("content-type:")));
    assert_true(slice_starts_nocase(slice_str("abc"), SLICE_EMPTY));
    assert_true(slice_starts_nocase(slice_str("abc"), slice_str("ABC")));
    assert_false(slice_starts_nocase(slice_str("ab"), slice_str("abc")));
}

static void trim_takes_blanks_from_both_ends(void **state)
{
    assert_true(slice_equal(slice_trim(slice_str(" \t a b\t ")), slice_str("a b")));
    assert_int_equal(slice_trim(slice_str(" \t ")).len, 0);
    assert_int_equal(slice_trim(SLICE_EMPTY).len, 0);
    /* Line ends are not blanks. */
    assert_true(slice_equal(slice_trim(slice_str(" \r\n ")), slice_str("\r\n")));
}

static void find_gives_the_first_or_the_length(void **state)
{
    assert_int_equal(slice_find(slice_str("a.b.c"), '.'), 1);
    assert_int_equal(slice_find(slice_str("abc"), '.'), 3);
    assert_int_equal(slice_find(slice_of(NULL, 0), '.'), 0);
    assert_int_equal(slice_find(slice_of("a\0b", 3), 0), 1);
}

static int parse(const char *text, uint64_t max, uint64_t *ret_value)
{
    return slice_to_u64(slice_str(text), max, ret_value);
}

static void numbers_within_their_limit(void **state)
{
    uint64_t value = 7;

    assert_int_equal(parse("0", 0, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(parse("00042", 100, &value), 0);
    assert_int_equal(value, 42);
    assert_int_equal(parse("18446744073709551615", UINT64_MAX, &value), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(parse("255", 255, &value), 0);
    assert_int_equal(value, 255);
}

static void numbers_refused_leave_the_result_alone(void **state)
{
    uint64_t value = 7;

    assert_int_equal(parse("", 10, &value), E_SYNTAX);
    assert_int_equal(parse("+1", 10, &value), E_SYNTAX);
    assert_int_equal(parse("-1", 10, &value), E_SYNTAX);
    assert_int_equal(parse(" 1", 10, &value), E_SYNTAX);
    assert_int_equal(parse("1a", 10, &value), E_SYNTAX);
    assert_int_equal(parse("1/", 10, &value), E_SYNTAX);
    assert_int_equal(parse("1:", 10, &value), E_SYNTAX);
    assert_int_equal(parse("256", 255, &value), E_RANGE);
    assert_int_equal(parse("18446744073709551616", UINT64_MAX, &value), E_RANGE);
    /* Twice around 64 bits would be a small number again. */
    assert_int_equal(parse("36893488147419103233", UINT64_MAX, &value), E_RANGE);
    assert_int_equal(parse("99999999999999999999999x", UINT64_MAX, &value), E_SYNTAX);
    assert_int_equal(value, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equality_is_by_bytes),
        cmocka_unit_test(nocase_folds_ascii_letters_only),
        cmocka_unit_test(starts_with_prefix),
        cmocka_unit_test(trim_takes_blanks_from_both_ends),
        cmocka_unit_test(find_gives_the_first_or_the_length),
        cmocka_unit_test(numbers_within_their_limit),
        cmocka_unit_test(numbers_refused_leave_the_result_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
