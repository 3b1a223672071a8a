#include "core/base/text.h"

#include "tests/unit/core_base/unit.h"

static void numbers_are_decimal_and_padded(void **state)
{
    char room[64];
    struct text text = text_in(room, sizeof(room));

    text_put_u64(&text, 0, 0);
    text_put_char(&text, ' ');
    text_put_u64(&text, UINT64_MAX, 0);
    text_put_char(&text, ' ');
    text_put_u64(&text, 7, 2);
    text_put_char(&text, ' ');
    text_put_u64(&text, 250, 2);
    assert_int_equal(text_end(&text), 29);
    assert_string_equal(room, "0 18446744073709551615 07 250");
    assert_false(text.is_cut);
}

static void wider_than_any_number_is_bounded(void **state)
{
    char room[64];
    struct text text = text_in(room, sizeof(room));

    text_put_u64(&text, 1, 1000);
    text_end(&text);
    assert_string_equal(room, "00000000000000000001");
}

static void what_does_not_fit_is_cut_and_known(void **state)
{
    char room[8 + 1];
    struct text text = text_in(room, 8);

    room[8] = '#';
    text_put_literal(&text, "1234567");
    assert_false(text.is_cut);
    text_put(&text, SLICE_EMPTY);
    assert_false(text.is_cut);
    text_put_char(&text, '8');
    assert_true(text.is_cut);
    assert_int_equal(text_end(&text), 7);
    assert_string_equal(room, "1234567");
    assert_int_equal(room[8], '#');
    assert_true(slice_equal(text_slice(&text), SLICE_LITERAL("1234567")));
}

static void octets_may_be_any(void **state)
{
    char room[16];
    struct text text = text_in(room, sizeof(room));

    text_put(&text, slice_of("a\0b", 3));
    text_put(&text, slice_of(NULL, 0));
    assert_true(slice_equal(text_slice(&text), slice_of("a\0b", 3)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_decimal_and_padded),
        cmocka_unit_test(wider_than_any_number_is_bounded),
        cmocka_unit_test(what_does_not_fit_is_cut_and_known),
        cmocka_unit_test(octets_may_be_any),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
