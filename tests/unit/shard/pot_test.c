/* The book of one limit: nothing is leased twice, everybody gets a turn. */
#include "shard/policy/pot.h"

#include "core/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SHARDS 4

/* Shards as greedy as can be: what they have is in use, and given back only when called back. */
struct stage {
    struct pot pot;
    uint32_t has[SHARDS];
    uint32_t recalled[SHARDS];
    uint64_t granted[SHARDS];
    bool in_line[SHARDS];
    bool told_short[SHARDS];
};

static void hear(struct stage *stage)
{
    uint32_t count;
    uint16_t to;

    while (pot_next_grant(&stage->pot, &to, &count)) {
        assert_true(count > 0 && stage->in_line[to]);
        stage->in_line[to] = false;
        stage->has[to] += count;
        stage->granted[to] += count;
    }
    for (to = 0; to < stage->pot.count; to++)
        while (pot_next_notice(&stage->pot, to, &count)) {
            stage->recalled[to] += count;
            stage->told_short[to] |= count == 0;
        }
    assert_true(pot_is_sound(&stage->pot));
}

static void ask(struct stage *stage, uint16_t shard, uint32_t wanted)
{
    stage->in_line[shard] = true;
    pot_ask(&stage->pot, shard, wanted);
    hear(stage);
}

static void give(struct stage *stage, uint16_t shard, uint32_t count)
{
    assert_true(count <= stage->has[shard]);
    stage->has[shard] -= count;
    stage->recalled[shard] -= count < stage->recalled[shard] ? count : stage->recalled[shard];
    pot_give(&stage->pot, shard, count);
    hear(stage);
}

static void stage_init(struct stage *stage, uint64_t limit, uint16_t shards)
{
    *stage = (struct stage){0};
    pot_init(&stage->pot, limit, shards);
}

static void test_grants_up_to_the_limit(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 10, 2);
    ask(&stage, 0, 4);
    assert_int_equal(stage.has[0], 4);
    ask(&stage, 1, 20);
    assert_int_equal(stage.has[1], 6);
    ask(&stage, 0, 1);
    assert_true(stage.in_line[0] && stage.told_short[0]);
    /* Six against four: one goes over, then they are equals. */
    assert_int_equal(stage.recalled[1], 1);
    give(&stage, 1, 1);
    assert_int_equal(stage.has[0], 5);
    ask(&stage, 0, 1);
    assert_int_equal(stage.recalled[1], 0);
    pot_fini(&stage.pot);
}

/* One slot each while others stand behind. */
static void test_the_line_is_served_in_order(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 3, 4);
    ask(&stage, 3, 3);
    ask(&stage, 1, 5);
    ask(&stage, 0, 5);
    ask(&stage, 2, 5);
    give(&stage, 3, 1);
    assert_true(!stage.in_line[1] && stage.in_line[0] && stage.in_line[2]);
    assert_int_equal(stage.has[1], 1);
    give(&stage, 3, 1);
    assert_true(!stage.in_line[0] && stage.in_line[2]);
    give(&stage, 3, 1);
    assert_true(!stage.in_line[2]);
    pot_fini(&stage.pot);
}

/* Whoever has nothing gets something in the end, however few slots there are. */
static void test_slots_go_round(void **state)
{
    for (uint64_t limit = 1; limit <= 9; limit++) {
        struct stage stage;

        (void)state;
        stage_init(&stage, limit, SHARDS);
        for (int round = 0; round < 400; round++) {
            for (uint16_t i = 0; i < SHARDS; i++)
                if (!stage.in_line[i])
                    ask(&stage, i, 3);
            for (uint16_t i = 0; i < SHARDS; i++)
                if (stage.recalled[i] > 0)
                    give(&stage, i, 1);
        }
        for (uint16_t i = 0; i < SHARDS; i++)
            assert_true(limit < SHARDS ? stage.granted[i] > 100 * limit / SHARDS
                                       : stage.has[i] >= limit / SHARDS);
        pot_fini(&stage.pot);
    }
}

/* Who asks between a slot's return and its grant to those who stood before gets nothing of it. */
static void test_who_comes_late_is_told(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 1, 2);
    ask(&stage, 0, 1);
    ask(&stage, 1, 1);
    stage.has[0]--;
    pot_give(&stage.pot, 0, 1);
    stage.told_short[0] = false;
    ask(&stage, 0, 1);
    assert_int_equal(stage.has[1], 1);
    assert_true(stage.told_short[0]);
    pot_fini(&stage.pot);
}

static void test_a_lowered_limit_is_called_back(void **state)
{
    struct stage stage;

    (void)state;
    stage_init(&stage, 10, 2);
    ask(&stage, 0, 5);
    ask(&stage, 1, 5);
    pot_set_limit(&stage.pot, 4);
    hear(&stage);
    assert_int_equal(stage.recalled[0] + stage.recalled[1], 6);
    assert_int_equal(stage.recalled[0], 3);
    give(&stage, 0, 3);
    give(&stage, 1, 3);
    assert_int_equal(stage.pot.free, 0);
    pot_set_limit(&stage.pot, 5);
    ask(&stage, 0, 3);
    assert_int_equal(stage.has[0], 3);
    pot_fini(&stage.pot);
}

/* Nobody else's slots lie idle: that must have been said by all since the question. */
static void test_a_prompt_pot_asks_around_before_it_says_none(void **state)
{
    struct pot pot;
    uint32_t count;
    uint16_t to;

    (void)state;
    pot_init_prompt(&pot, 7, 3);
    assert_int_equal(pot.shards[0].leased + pot.shards[1].leased + pot.shards[2].leased, 7);
    assert_int_equal(pot.shards[0].leased, 3);
    pot_ask(&pot, 1, 2);
    assert_false(pot_next_grant(&pot, &to, &count));
    assert_true(pot_next_poll(&pot, 0) && pot_next_poll(&pot, 2));
    assert_false(pot_next_poll(&pot, 0) || pot_next_poll(&pot, 1));
    pot_on_polled(&pot, 0, 0);
    assert_false(pot_next_grant(&pot, &to, &count));
    pot_on_polled(&pot, 2, 1);
    assert_true(pot_next_grant(&pot, &to, &count) && to == 1 && count == 1);
    /* A question that comes while a poll is under way has one of its own. */
    pot_ask(&pot, 0, 1);
    assert_false(pot_next_grant(&pot, &to, &count));
    assert_true(pot_next_poll(&pot, 1) && pot_next_poll(&pot, 2));
    pot_on_polled(&pot, 2, 1);
    assert_true(pot_next_grant(&pot, &to, &count) && to == 0 && count == 1);
    pot_ask(&pot, 2, 1);
    assert_false(pot_next_grant(&pot, &to, &count) || pot_next_poll(&pot, 1));
    pot_on_polled(&pot, 1, 0);
    assert_false(pot_next_grant(&pot, &to, &count));
    assert_true(pot_next_poll(&pot, 0) && pot_next_poll(&pot, 1));
    pot_on_polled(&pot, 0, 0);
    pot_on_polled(&pot, 1, 0);
    assert_true(pot_next_grant(&pot, &to, &count) && to == 2 && count == 0);
    assert_true(pot_is_sound(&pot));
    pot_fini(&pot);
}

/* Any order of questions, returns and changes: never more leased than there is. */
static void test_whatever_happens_it_is_sound(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 7);
    for (int history = 0; history < 200; history++) {
        struct stage stage;
        uint64_t limit = rng_between(&rng, 0, 12), highest = limit;

        stage_init(&stage, limit, SHARDS);
        for (int step = 0; step < 500; step++) {
            uint16_t shard = (uint16_t)rng_below(&rng, SHARDS);
            uint64_t sum = 0;

            if (rng_one_in(&rng, 50)) {
                limit = rng_between(&rng, 0, 12);
                highest = limit > highest ? limit : highest;
                pot_set_limit(&stage.pot, limit);
                hear(&stage);
            } else if (!stage.in_line[shard] && rng_one_in(&rng, 2)) {
                ask(&stage, shard, (uint32_t)rng_between(&rng, 1, 6));
            } else if (stage.has[shard] > 0) {
                give(&stage, shard, (uint32_t)rng_between(&rng, 1, stage.has[shard]));
            }
            for (int i = 0; i < SHARDS; i++)
                sum += stage.has[i];
            assert_true(sum <= highest);
        }
        pot_fini(&stage.pot);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grants_up_to_the_limit),
        cmocka_unit_test(test_the_line_is_served_in_order),
        cmocka_unit_test(test_slots_go_round),
        cmocka_unit_test(test_who_comes_late_is_told),
        cmocka_unit_test(test_a_lowered_limit_is_called_back),
        cmocka_unit_test(test_a_prompt_pot_asks_around_before_it_says_none),
        cmocka_unit_test(test_whatever_happens_it_is_sound),
    };

    return cmocka_run_group_tests_name("shard pot", tests, NULL, NULL);
}
