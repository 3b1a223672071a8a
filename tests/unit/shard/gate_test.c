/* What passes the gate: repetitions within their window, and counts within any interval. */
#include "core/base/rng.h"
#include "shard/gate.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct gate gate;

static int open_gate(void **state)
{
    gate_init(&gate);
    return 0;
}

static int close_gate(void **state)
{
    gate_fini(&gate);
    return 0;
}

static struct gate_key key_of(const char *rcpt)
{
    return gate_key_of((struct gate_key){1, 1}, slice_str(rcpt));
}

static enum gate_answer claim(uint64_t message, uint64_t now_ms, struct gate_key *keys,
                              uint32_t count)
{
    struct gate_ask ask = {
        .kind = GATE_CLAIM, .message_id = message, .keys = keys, .key_count = count};

    gate_decide(&gate, &ask, now_ms);
    return ask.answer;
}

static enum gate_answer claim_one(uint64_t message, uint64_t now_ms, const char *rcpt)
{
    struct gate_key key = key_of(rcpt);

    return claim(message, now_ms, &key, 1);
}

static void settle(uint64_t message, uint64_t now_ms, const char *rcpt, bool is_accepted)
{
    struct gate_key key = key_of(rcpt);
    struct gate_ask ask = {.kind = GATE_SETTLE,
                           .message_id = message,
                           .keys = &key,
                           .key_count = 1,
                           .span_ms = 1000,
                           .is_accepted = is_accepted};

    gate_decide(&gate, &ask, now_ms);
}

static void a_repetition_is_known_within_its_window(void **state)
{
    assert_int_equal(claim_one(1, 0, "a"), GATE_YES);
    /* Nobody knows yet what becomes of the first one. */
    assert_int_equal(claim_one(2, 5, "a"), GATE_BUSY);
    assert_int_equal(claim_one(2, 5, "b"), GATE_YES);
    settle(2, 5, "a", true);
    assert_int_equal(claim_one(3, 6, "a"), GATE_BUSY);
    settle(1, 10, "a", true);
    assert_int_equal(claim_one(3, 11, "a"), GATE_ALL);
    assert_int_equal(claim_one(3, 1009, "a"), GATE_ALL);
    assert_int_equal(claim_one(3, 1010, "a"), GATE_YES);
    assert_int_equal(gate.entries.count_used, 2);
}

static void what_was_not_accepted_is_nothing(void **state)
{
    assert_int_equal(claim_one(1, 0, "a"), GATE_YES);
    settle(1, 1, "a", false);
    assert_int_equal(gate.entries.count_used, 0);
    assert_int_equal(claim_one(2, 2, "a"), GATE_YES);
    settle(1, 3, "a", false);
    assert_int_equal(claim_one(3, 4, "a"), GATE_BUSY);
}

static void recipients_are_told_apart(void **state)
{
    struct gate_key keys[] = {key_of("a"), key_of("b"), key_of("c"), key_of("b")};

    claim_one(1, 0, "b");
    settle(1, 0, "b", true);
    assert_int_equal(claim(2, 1, keys, 4), GATE_SOME);
    assert_true(keys[0].a != 0 && keys[2].a != 0);
    assert_true(keys[1].a == 0 && keys[1].b == 0 && keys[3].a == 0 && keys[3].b == 0);
    settle(2, 1, "a", true);
    /* One of them pending: nothing of the others is claimed, and they stay as they were. */
    keys[0] = key_of("d");
    keys[1] = key_of("c");
    assert_int_equal(claim(3, 2, keys, 2), GATE_BUSY);
    assert_int_equal(claim_one(4, 2, "d"), GATE_YES);
    /* Twice in one message is not a repetition of it. */
    keys[0] = keys[1] = key_of("e");
    assert_int_equal(claim(5, 3, keys, 2), GATE_YES);
}

static void memory_is_bounded_and_the_oldest_goes(void **state)
{
    struct gate_key key;

    for (uint64_t i = 0; i < GATE_ENTRIES_MAX + 100ull; i++) {
        struct gate_ask ask = {.kind = GATE_SETTLE,
                               .message_id = i + 1,
                               .keys = &key,
                               .key_count = 1,
                               .span_ms = 2000000,
                               .is_accepted = true};

        key = (struct gate_key){hash_u64(i), i + 1};
        assert_int_equal(claim(i + 1, i, &key, 1), GATE_YES);
        gate_decide(&gate, &ask, i);
        assert_true(gate.entries.count_used <= GATE_ENTRIES_MAX);
    }
    key = (struct gate_key){hash_u64(101), 102};
    assert_int_equal(claim(UINT64_MAX, GATE_ENTRIES_MAX, &key, 1), GATE_ALL);
    key = (struct gate_key){hash_u64(3), 4};
    assert_int_equal(claim(UINT64_MAX, GATE_ENTRIES_MAX, &key, 1), GATE_YES);
}

static bool count(uint64_t now_ms, uint32_t rcpts, uint64_t limit, uint64_t span_ms)
{
    struct gate_ask ask = {.kind = GATE_COUNT,
                           .rcpt_count = rcpts,
                           .limit = limit,
                           .span_ms = span_ms,
                           .limit_key = span_ms};

    gate_decide(&gate, &ask, now_ms);
    return ask.answer == GATE_YES;
}

/* In no interval more than the limit; and what keeps a little below it is never refused. */
static void no_interval_holds_more(void **state)
{
    enum { COUNT_MAX = 4000 };
    static uint64_t at_ms[COUNT_MAX];
    static uint32_t rcpts[COUNT_MAX];
    struct rng rng;

    rng_init(&rng, 4711);
    for (uint64_t span_ms = 100; span_ms < 4000000; span_ms = span_ms * 3 + 1) {
        const uint64_t limit = 100, most_ms = (GATE_SPANS + 1) * ((span_ms + 59) / 60);
        uint64_t now_ms = 1000000007, refused = 0;
        uint32_t taken = 0, first = 0;

        for (int i = 0; i < 3000; i++) {
            uint32_t more = (uint32_t)rng_between(&rng, 1, 9);
            uint64_t sum = 0;

            now_ms += rng_between(&rng, 0, span_ms / 10);
            while (first < taken && at_ms[first] + span_ms <= now_ms)
                first++;
            for (uint32_t j = first; j < taken; j++)
                sum += rcpts[j];
            if (!count(now_ms, more, limit, span_ms)) {
                uint64_t wider = sum;

                for (uint32_t j = first; j-- > 0 && at_ms[j] + most_ms > now_ms;)
                    wider += rcpts[j];
                refused++;
                assert_true(wider + more > limit);
                continue;
            }
            assert_true(sum + more <= limit);
            at_ms[taken] = now_ms;
            rcpts[taken++] = more;
        }
        assert_true(refused > 0 && taken > 100);
    }
}

static enum gate_answer login(enum gate_kind kind, uint64_t client, uint64_t now_ms)
{
    struct gate_ask ask = {.kind = (uint8_t)kind,
                           .is_login = true,
                           .rcpt_count = 1,
                           .limit = 2,
                           .span_ms = 600,
                           .limit_key = hash_u64(client)};

    gate_decide(&gate, &ask, now_ms);
    return ask.answer;
}

/* However many clients come, each finds its place; who only asks leaves nothing behind. */
static void no_number_of_clients_fills_the_counts(void **state)
{
    assert_true(count(1, 5, 5, 3600000));
    for (uint64_t i = 0; i < 2ull * GATE_COUNTS_MAX; i++)
        assert_int_equal(login(GATE_LOOK, i, 2), GATE_YES);
    assert_int_equal(gate.logins.slab.count_used, 0);
    for (uint64_t i = 0; i < 2ull * GATE_COUNTS_MAX; i++) {
        assert_int_equal(login(GATE_COUNT, i, 3), GATE_YES);
        assert_int_equal(login(GATE_COUNT, i, 3), GATE_YES);
        assert_int_equal(login(GATE_LOOK, i, 3), GATE_NO_FIRST);
    }
    assert_int_equal(gate.logins.slab.count_used, GATE_COUNTS_MAX);
    /* Those that came last are known, and no user's count went for them. */
    assert_int_equal(login(GATE_LOOK, 2ull * GATE_COUNTS_MAX - 1, 3), GATE_NO);
    assert_int_equal(login(GATE_LOOK, 0, 3), GATE_YES);
    assert_false(count(4, 1, 5, 3600000));
    /* What is over goes as others come. */
    for (uint64_t i = 0; i < GATE_COUNTS_MAX / 3; i++)
        assert_int_equal(login(GATE_COUNT, 3ull * GATE_COUNTS_MAX + i, 1000), GATE_YES);
    assert_in_range(gate.logins.slab.count_used, 1, GATE_COUNTS_MAX / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_repetition_is_known_within_its_window, open_gate,
                                        close_gate),
        cmocka_unit_test_setup_teardown(what_was_not_accepted_is_nothing, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(recipients_are_told_apart, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(memory_is_bounded_and_the_oldest_goes, open_gate,
                                        close_gate),
        cmocka_unit_test_setup_teardown(no_interval_holds_more, open_gate, close_gate),
        cmocka_unit_test_setup_teardown(no_number_of_clients_fills_the_counts, open_gate,
                                        close_gate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
