/* When refusals for good are held: storms, lists, and the way back. */
#include "shard/policy/breaker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND_NS 1000000000ull
#define START_NS  (1000 * SECOND_NS)

struct run {
    struct breaker_book book;
    uint64_t now_ns;
    uint64_t step_ns;
    uint32_t passed;
    uint32_t held;
    uint32_t trips;
};

static void begin(struct run *run, uint64_t step_ns)
{
    *run = (struct run){.now_ns = START_NS, .step_ns = step_ns};
    breaker_begin(&run->book, run->now_ns);
}

static void one(struct run *run, bool is_hard)
{
    bool is_open = run->book.state == BREAKER_OPEN;

    run->now_ns += run->step_ns;
    run->passed += is_hard && !is_open;
    run->held += is_hard && is_open;
    breaker_count(&run->book, is_hard, !is_hard, run->now_ns);
    run->trips += !is_open && run->book.state == BREAKER_OPEN;
}

/* So many verdicts, of which so many of a thousand are refusals, by lot. */
static void mix(struct run *run, uint32_t count, uint32_t per_mille, uint64_t seed)
{
    for (uint32_t i = 0; i < count; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        one(run, (seed >> 33) % 1000 < per_mille);
    }
}

static void storm_after_clean_mail(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 60000, 20, 1);
    assert_int_equal(run.trips, 0);
    assert_in_range(breaker_baseline(&run.book), 15, 25);
    run.passed = 0;
    mix(&run, 30 * 60 * 100, 1000, 2);
    assert_int_equal(run.trips, 1);
    assert_in_range(run.passed, 100, 140);
    assert_int_equal(run.book.state, BREAKER_OPEN);
    assert_int_equal(breaker_share(&run.book, run.now_ns), 1000);
    assert_in_range(breaker_baseline(&run.book), 10, 30);
    /* The way back: the first hundred that are as before. */
    mix(&run, 600, 20, 3);
    assert_int_equal(run.book.state, BREAKER_CLOSED);
    assert_int_equal(run.trips, 1);
}

static void storm_at_a_new_key(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 5000, 1000, 1);
    assert_int_equal(run.passed, BREAKER_HARD_MIN);
    assert_int_equal(run.held, 5000 - BREAKER_HARD_MIN);
}

static void small_and_usual_lists_pass(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 100, 1000, 1);
    assert_int_equal(run.trips, 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        begin(&run, SECOND_NS / 100);
        mix(&run, 100000, 20, seed);
        assert_int_equal(run.held, 0);
        begin(&run, SECOND_NS / 100);
        mix(&run, 10000, 200, seed);
        assert_int_equal(run.held, 0);
    }
}

/* Refusals that lie hours apart are no jump. */
static void slow_refusals_pass(void **state)
{
    struct run run;

    begin(&run, 60 * SECOND_NS);
    mix(&run, 3000, 1000, 1);
    assert_int_equal(run.trips, 0);
}

static void half_a_storm_is_held_throughout(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct run run;

        begin(&run, SECOND_NS / 100);
        mix(&run, 20000, 20, seed);
        run.passed = 0;
        mix(&run, 180000, 500, seed);
        assert_int_equal(run.trips, 1);
        assert_in_range(run.passed, 100, 300);
    }
}

static void who_is_always_bad_is_known_for_it(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 40000, 180, 1);
    assert_int_equal(run.trips, 0);
    mix(&run, 4000, 600, 2);
    assert_int_equal(run.trips, 0);
    mix(&run, 4000, 1000, 3);
    assert_int_equal(run.trips, 1);
}

static void silence_closes(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 200, 1000, 1);
    assert_int_equal(run.book.state, BREAKER_OPEN);
    assert_false(breaker_count(&run.book, 0, 0, run.now_ns + 11 * 3600 * SECOND_NS));
    assert_true(breaker_count(&run.book, 0, 0, run.now_ns + 13 * 3600 * SECOND_NS));
    assert_int_equal(run.book.state, BREAKER_CLOSED);
}

static void an_operator_lets_them_pass(void **state)
{
    struct run run;

    begin(&run, SECOND_NS / 100);
    mix(&run, 200, 1000, 1);
    breaker_set(&run.book, BREAKER_PASSING, run.now_ns + 3600 * SECOND_NS, run.now_ns);
    mix(&run, 3599 * 100, 1000, 2);
    assert_int_equal(run.book.state, BREAKER_PASSING);
    mix(&run, 1000, 1000, 3);
    assert_int_equal(run.book.state, BREAKER_OPEN);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(storm_after_clean_mail),
        cmocka_unit_test(storm_at_a_new_key),
        cmocka_unit_test(small_and_usual_lists_pass),
        cmocka_unit_test(slow_refusals_pass),
        cmocka_unit_test(half_a_storm_is_held_throughout),
        cmocka_unit_test(who_is_always_bad_is_known_for_it),
        cmocka_unit_test(silence_closes),
        cmocka_unit_test(an_operator_lets_them_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
