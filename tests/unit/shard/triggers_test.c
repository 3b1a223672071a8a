/* A line that asks for several hits fires when they lie close enough together, value by value. */
#include "shard/triggers.h"

#include "tests/unit/core_base/unit.h"

#define MINUTE_NS 60000000000ull

static const struct conf_reply_rule three = {.id = 7,
                                             .trigger = {.count = 3, .interval_ms = 600000}};

static void hits_within_the_span_fire_and_begin_anew(void **state)
{
    struct triggers triggers;

    triggers_init(&triggers);
    assert_false(triggers_hit(&triggers, &three, 1, 100 * MINUTE_NS));
    assert_false(triggers_hit(&triggers, &three, 1, 103 * MINUTE_NS));
    assert_false(triggers_hit(&triggers, &three, 2, 104 * MINUTE_NS));
    assert_true(triggers_hit(&triggers, &three, 1, 108 * MINUTE_NS));
    assert_false(triggers_hit(&triggers, &three, 1, 109 * MINUTE_NS));
    triggers_fini(&triggers);
}

static void hits_that_lie_apart_do_not(void **state)
{
    struct triggers triggers;

    triggers_init(&triggers);
    for (uint64_t at = 100; at < 200; at += 6)
        assert_false(triggers_hit(&triggers, &three, 1, at * MINUTE_NS));
    assert_true(triggers_hit(&triggers, &three, 1, 197 * MINUTE_NS));
    triggers_fini(&triggers);
}

static void the_oldest_is_forgotten(void **state)
{
    struct triggers triggers;

    triggers_init(&triggers);
    for (uint64_t value = 0; value <= TRIGGER_COUNT_MAX; value++)
        for (int i = 0; i < 2; i++)
            assert_false(triggers_hit(&triggers, &three, value, MINUTE_NS));
    assert_false(triggers_hit(&triggers, &three, 0, MINUTE_NS));
    assert_true(triggers_hit(&triggers, &three, TRIGGER_COUNT_MAX, MINUTE_NS));
    triggers_fini(&triggers);
}

static const struct conf_reply_rule share = {
    .id = 8, .trigger = {.count = 10, .percent = 40, .interval_ms = 600000}};

static void a_share_is_of_enough_attempts_of_the_span(void **state)
{
    struct triggers triggers;

    triggers_init(&triggers);
    for (unsigned i = 0; i < 9; i++) {
        triggers_attempt(&triggers, &share, 1, 1, 100 * MINUTE_NS);
        assert_false(triggers_hit(&triggers, &share, 1, 100 * MINUTE_NS));
    }
    /* Those are over by now: 3 of 10, then 4 of 10. */
    for (unsigned i = 0; i < 10; i++) {
        triggers_attempt(&triggers, &share, 1, 1, 120 * MINUTE_NS);
        triggers_attempt(&triggers, &share, 2, 1, 120 * MINUTE_NS);
    }
    for (unsigned i = 0; i < 3; i++)
        assert_false(triggers_hit(&triggers, &share, 1, 120 * MINUTE_NS));
    assert_true(triggers_hit(&triggers, &share, 1, 120 * MINUTE_NS));
    assert_false(triggers_hit(&triggers, &share, 2, 120 * MINUTE_NS));
    triggers_fini(&triggers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_within_the_span_fire_and_begin_anew),
        cmocka_unit_test(hits_that_lie_apart_do_not),
        cmocka_unit_test(the_oldest_is_forgotten),
        cmocka_unit_test(a_share_is_of_enough_attempts_of_the_span),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
