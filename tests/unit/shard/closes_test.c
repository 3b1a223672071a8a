/* Connections that are closed behind the same count show a limit, one that goes further ends it. */
#include "shard/policy/closes.h"

#include "tests/unit/core_base/unit.h"

static void the_same_count_in_a_row_is_a_limit(void **state)
{
    struct closes closes = {0};

    closes_note(&closes, 20);
    closes_note(&closes, 20);
    closes_note(&closes, 7);
    closes_note(&closes, 20);
    closes_note(&closes, 20);
    assert_false(closes_is_due(&closes, 20));
    closes_note(&closes, 20);
    assert_false(closes_is_due(&closes, 19));
    assert_true(closes_is_due(&closes, 20));
}

static void few_connections_look_whether_it_still_is(void **state)
{
    struct closes closes = {0};
    unsigned free_count = 0;

    for (unsigned i = 0; i < 200; i++)
        assert_false(closes_on_open(&closes));
    for (unsigned i = 0; i < CLOSES_SEEN; i++)
        closes_note(&closes, 20);
    for (unsigned i = 0; i < 2 * CLOSES_PROBE; i++)
        free_count += closes_on_open(&closes);
    assert_int_equal(free_count, 2);
    closes_on_served(&closes, 20);
    assert_true(closes_is_due(&closes, 20));
    closes_on_served(&closes, 21);
    assert_false(closes_is_due(&closes, 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_count_in_a_row_is_a_limit),
        cmocka_unit_test(few_connections_look_whether_it_still_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
