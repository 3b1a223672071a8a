/* Who may have slots that are short: every state of a small limit, against its meaning. */
#include "shard/policy/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SLOTS_MAX 6

static uint32_t sum_from(const uint32_t counts[QUOTA_KINDS], unsigned kind)
{
    uint32_t sum = 0;

    for (unsigned i = kind; i < QUOTA_KINDS; i++)
        sum += counts[i];
    return sum;
}

/* Gives slots to those that wait, the worst first; how many still wait. */
static uint32_t serve(struct quota *quota, uint32_t slots)
{
    for (unsigned kind = QUOTA_KINDS; kind-- > 0;)
        while (quota->waiting[kind] > 0 && quota_admits(quota, slots, kind)) {
            quota->waiting[kind]--;
            quota->used[kind]++;
        }
    return sum_from(quota->waiting, 0);
}

static uint32_t left_after(struct quota quota, uint32_t slots, unsigned kind, uint32_t released)
{
    quota.used[kind] -= released;
    return serve(&quota, slots);
}

/* Calls for every way in which slots are used and waited for. */
static void for_each_state(void (*judge)(const struct quota *quota, uint32_t slots))
{
    for (uint32_t slots = 1; slots <= SLOTS_MAX; slots++)
        for (uint32_t i = 0; i < 4 * 4 * 4 * 7 * 7 * 7; i++) {
            struct quota quota = {.waiting = {i % 4, i / 4 % 4, i / 16 % 4},
                                  .used = {i / 64 % 7, i / 448 % 7, i / 3136 % 7}};

            if (sum_from(quota.used, 0) > slots)
                continue;
            judge(&quota, slots);
            /* Something is known of the last minute: that good ones wanted no more than now. New
             * ones that end are wanted no more, which lets slow ones in: not said of them here. */
            quota.span_end_ns = 1;
            quota.peak = quota.used[QUOTA_PROVED] + quota.waiting[QUOTA_PROVED];
            if (quota.used[QUOTA_NEW] + quota.waiting[QUOTA_NEW] == 0)
                judge(&quota, slots);
        }
}

/* A slot is given only where the kind and all worse ones stay within what they may have. */
static void judge_admission(const struct quota *quota, uint32_t slots)
{
    for (unsigned kind = 0; kind < QUOTA_KINDS; kind++) {
        bool fits = true;

        for (unsigned i = 0; i <= kind; i++)
            fits &= sum_from(quota->used, i) < quota_slots(quota, slots, i);
        assert_int_equal(quota_admits(quota, slots, kind), fits);
    }
}

static void bounds_are_nested(void **state)
{
    const struct quota unknown = {0};

    (void)state;
    for_each_state(judge_admission);
    for (uint32_t slots = 1; slots < 100; slots++) {
        assert_true(slots - quota_slots(&unknown, slots, QUOTA_NEW) == slots / 4);
        assert_true(slots - quota_slots(&unknown, slots, QUOTA_SLOW) == slots / 2);
        for (uint32_t wanted = 0; wanted < 30; wanted++) {
            const struct quota quota = {
                .used = {wanted / 2}, .waiting = {wanted - wanted / 2}, .span_end_ns = 1};

            assert_int_equal(quota_slots(&quota, slots, QUOTA_PROVED), slots);
            assert_true(quota_slots(&quota, slots, QUOTA_SLOW) >= slots - slots / 2);
            assert_true(quota_slots(&quota, slots, QUOTA_NEW) >= slots - slots / 4);
            assert_true(quota_slots(&quota, slots, QUOTA_SLOW) <=
                        quota_slots(&quota, slots, QUOTA_NEW));
        }
    }
}

/* ---- What is kept follows what is wanted ----------------------------------------------------- */

#define SLOTS 96

static uint32_t kept(const struct quota *quota, enum quota_kind kind)
{
    return SLOTS - quota_slots(quota, SLOTS, kind);
}

/* The counts stay what they are for so long, with a note in each second. */
static void pass(struct quota *quota, uint64_t *now_ns, uint32_t seconds)
{
    for (uint32_t i = 0; i < seconds; i++) {
        quota_note(quota, *now_ns);
        *now_ns += 1000000000;
    }
    quota_note(quota, *now_ns);
}

static void what_nobody_good_wants_is_not_kept(void **state)
{
    struct quota quota = {.used = {0, 0, SLOTS / 2}, .waiting = {0, 0, 10}};
    uint64_t now_ns = 5;

    (void)state;
    pass(&quota, &now_ns, 59);
    assert_int_equal(kept(&quota, QUOTA_SLOW), SLOTS / 2);
    assert_int_equal(kept(&quota, QUOTA_NEW), SLOTS / 4);
    assert_false(quota_admits(&quota, SLOTS, QUOTA_SLOW));
    pass(&quota, &now_ns, 1);
    assert_int_equal(kept(&quota, QUOTA_SLOW), SLOTS / QUOTA_FLOOR);
    assert_int_equal(kept(&quota, QUOTA_NEW), SLOTS / QUOTA_FLOOR);
    assert_true(quota_admits(&quota, SLOTS, QUOTA_SLOW));
    assert_false(quota_is_lent(&quota, SLOTS, QUOTA_SLOW));
    quota.used[QUOTA_SLOW]++;
    assert_true(quota_is_lent(&quota, SLOTS, QUOTA_SLOW));
}

static void a_want_counts_at_once_and_for_a_while(void **state)
{
    struct quota quota = {.used = {0, 0, SLOTS - 3}};
    uint64_t now_ns = 5, ended_ns;

    (void)state;
    pass(&quota, &now_ns, 60);
    assert_false(quota_is_overdrawn(&quota, SLOTS));
    quota.waiting[QUOTA_PROVED] = 5;
    /* Before anybody has noted it. */
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3 + 5 * QUOTA_ROOM);
    assert_int_equal(kept(&quota, QUOTA_NEW), 3 + 5 * QUOTA_ROOM);
    assert_true(quota_is_overdrawn(&quota, SLOTS));
    quota.waiting[QUOTA_PROVED] = 50;
    assert_int_equal(kept(&quota, QUOTA_SLOW), SLOTS / 2);
    assert_int_equal(kept(&quota, QUOTA_NEW), SLOTS / 4);
    pass(&quota, &now_ns, 100);
    quota.waiting[QUOTA_PROVED] = 0;
    ended_ns = now_ns;
    while (kept(&quota, QUOTA_SLOW) == SLOTS / 2)
        pass(&quota, &now_ns, 1);
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3);
    assert_true(now_ns - ended_ns >= QUOTA_SPAN_NS);
    assert_true(now_ns - ended_ns <= 2 * QUOTA_SPAN_NS);
}

/* They need one each, for a try, as long as they are new: of slow ones alone that is kept free. */
static void new_ones_find_room_beside_slow_ones(void **state)
{
    struct quota quota = {.used = {0, 0, SLOTS - 3}};
    uint64_t now_ns = 5;

    (void)state;
    pass(&quota, &now_ns, 60);
    quota.waiting[QUOTA_NEW] = 7;
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3 + 7);
    assert_int_equal(kept(&quota, QUOTA_NEW), 3);
    assert_int_equal(quota_pressure(&quota, SLOTS, QUOTA_SLOW, true), 7);
    quota.waiting[QUOTA_NEW] = 0;
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3);
}

static void after_a_silence_nothing_is_known(void **state)
{
    struct quota quota = {0};
    uint64_t now_ns = 5;

    (void)state;
    pass(&quota, &now_ns, 100);
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3);
    now_ns += 3 * QUOTA_SPAN_NS;
    pass(&quota, &now_ns, 59);
    assert_int_equal(kept(&quota, QUOTA_SLOW), SLOTS / 2);
    pass(&quota, &now_ns, 1);
    assert_int_equal(kept(&quota, QUOTA_SLOW), 3);
}

/* As many connections are pressed to end as help somebody: not one more, where nobody is over. */
static void judge_pressure(const struct quota *quota, uint32_t slots)
{
    struct quota served = *quota;

    /* Whoever may have a slot has it already when anybody is pressed. */
    serve(&served, slots);
    for (unsigned i = 0; i < QUOTA_KINDS; i++)
        if (sum_from(served.used, i) > quota_slots(&served, slots, i))
            return;
    for (unsigned kind = 0; kind < QUOTA_KINDS; kind++) {
        uint32_t pressure = quota_pressure(&served, slots, kind, true);
        uint32_t ends = pressure < served.used[kind] ? pressure : served.used[kind];
        uint32_t all = served.used[kind];

        assert_int_equal(left_after(served, slots, kind, ends),
                         left_after(served, slots, kind, all));
        assert_true(ends == 0 || left_after(served, slots, kind, ends - 1) >
                                     left_after(served, slots, kind, ends));
        assert_int_equal(quota_pressure(&served, slots, kind, false), 0);
    }
}

static void pressure_is_what_helps(void **state)
{
    (void)state;
    for_each_state(judge_pressure);
}

static void what_comes_back_need_not_be_asked_for_twice(void **state)
{
    struct quota quota = {.used = {4, 2, 2}, .waiting = {3, 0, 0}};

    (void)state;
    assert_int_equal(quota_pressure(&quota, 8, QUOTA_PROVED, true), 3);
    quota.closing[QUOTA_NEW] = 1;
    quota.closing[QUOTA_PROVED] = 1;
    assert_int_equal(quota_pressure(&quota, 8, QUOTA_PROVED, true), 1);
    /* A limit that was lowered, and nobody waits. */
    quota = (struct quota){.used = {4, 2, 2}};
    assert_int_equal(quota_pressure(&quota, 5, QUOTA_PROVED, false), 3);
}

static void slow_ones_are_overdrawn_when_others_wait(void **state)
{
    struct quota quota = {.used = {0, 0, 5}, .waiting = {0, 0, 3}};

    (void)state;
    assert_false(quota_is_overdrawn(&quota, 8));
    quota.waiting[QUOTA_NEW] = 1;
    assert_true(quota_is_overdrawn(&quota, 8));
    quota.closing[QUOTA_SLOW] = 1;
    assert_false(quota_is_overdrawn(&quota, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_are_nested),
        cmocka_unit_test(what_nobody_good_wants_is_not_kept),
        cmocka_unit_test(a_want_counts_at_once_and_for_a_while),
        cmocka_unit_test(new_ones_find_room_beside_slow_ones),
        cmocka_unit_test(after_a_silence_nothing_is_known),
        cmocka_unit_test(pressure_is_what_helps),
        cmocka_unit_test(what_comes_back_need_not_be_asked_for_twice),
        cmocka_unit_test(slow_ones_are_overdrawn_when_others_wait),
    };

    return cmocka_run_group_tests_name("shard quota", tests, NULL, NULL);
}
