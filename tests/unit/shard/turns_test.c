/* Ranks in line: four times the turns for each step up, nobody left out, nothing saved up. */
#include "shard/policy/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define ALL ((1u << TURNS_RANKS) - 1)

static void serve(struct turns *turns, uint32_t mask, unsigned count, unsigned *served)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t rank = turns_next(turns, mask);

        assert_true((mask & 1u << rank) != 0);
        served[rank]++;
        turns_served(turns, rank);
    }
}

static void each_step_is_four_times_the_turns(void **state)
{
    unsigned served[TURNS_RANKS] = {0}, expected = 10;
    struct turns turns = {0};

    serve(&turns, ALL, 10 * (1 + 4 + 16 + 64 + 256), served);
    for (unsigned rank = 0; rank < TURNS_RANKS; rank++, expected *= 4)
        assert_in_range(served[rank], expected - 1, expected + 1);
}

static void a_rank_alone_has_all(void **state)
{
    unsigned served[TURNS_RANKS] = {0};
    struct turns turns = {0};

    serve(&turns, 1u << 0, 1000, served);
    assert_int_equal(served[0], 1000);
}

/* Neither is the one that comes back owed for the time that it was away, nor does it pay for what
 * it had while it was alone. */
static void nothing_is_saved_up(void **state)
{
    unsigned alone[TURNS_RANKS] = {0}, served[TURNS_RANKS] = {0};
    struct turns turns = {0};

    serve(&turns, 1u << 0, 1000, alone);
    serve(&turns, 1u << 0 | 1u << 4, 257, served);
    assert_in_range(served[0], 0, 1);
    served[0] = 0;
    serve(&turns, 1u << 4, 100000, alone);
    serve(&turns, 1u << 0 | 1u << 4, 257, served);
    assert_in_range(served[0], 1, 2);
}

/* What a rank has beyond its turn is paid for, and what it gives back is not. */
static void more_and_less_are_counted(void **state)
{
    unsigned served[TURNS_RANKS] = {0};
    struct turns turns = {0};

    turns_served(&turns, 2);
    for (unsigned i = 0; i < 9; i++)
        turns_more(&turns, 2);
    serve(&turns, 1u << 1 | 1u << 2, 2, served);
    assert_int_equal(served[1], 2);
    for (unsigned i = 0; i < 6; i++)
        turns_less(&turns, 2);
    assert_int_equal(turns_next(&turns, 1u << 1 | 1u << 2), 2);
    turns_less(&turns, 2);
    turns_less(&turns, 2);
    turns_less(&turns, 2);
    turns_served(&turns, 2);
    served[1] = served[2] = 0;
    serve(&turns, 1u << 1 | 1u << 2, 100, served);
    assert_in_range(served[1], 19, 21);
}

static void priorities_have_ranks(void **state)
{
    assert_int_equal(turns_rank(0), 0);
    assert_int_equal(turns_rank(50), TURNS_NORMAL);
    assert_int_equal(turns_rank(59), TURNS_NORMAL);
    assert_int_equal(turns_rank(60), TURNS_NORMAL + 1);
    assert_int_equal(turns_rank(100), TURNS_RANKS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_step_is_four_times_the_turns),
        cmocka_unit_test(a_rank_alone_has_all),
        cmocka_unit_test(nothing_is_saved_up),
        cmocka_unit_test(more_and_less_are_counted),
        cmocka_unit_test(priorities_have_ranks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
