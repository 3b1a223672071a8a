/* For what a queue has waited lately: shares, and how they fade. */
#include "shard/policy/waits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SECOND_NS 1000000000ull

static float share(const struct waits *waits, unsigned reason)
{
    float shares[WAITS_KINDS];
    float sum = 0;

    waits_shares(waits, shares);
    for (unsigned i = 0; i < WAITS_KINDS; i++)
        sum += shares[i];
    assert_true(sum == 0 || (sum > 0.999f && sum < 1.001f));
    return shares[reason];
}

static void assert_near(float value, float wanted)
{
    assert_true(value > wanted - 0.01f && value < wanted + 0.01f);
}

static void shares_follow_the_time(void **state)
{
    struct waits waits;
    uint64_t now_ns = 7 * SECOND_NS;

    (void)state;
    waits_init(&waits, now_ns);
    assert_near(share(&waits, 3), 0);
    /* A thousand messages, each of which waits 1 ms for one thing and 3 ms for another. */
    for (int i = 0; i < 1000; i++) {
        waits_note(&waits, 3, now_ns += SECOND_NS / 1000);
        waits_note(&waits, 5, now_ns += SECOND_NS * 3 / 1000);
    }
    assert_near(share(&waits, 3), 0.25f);
    assert_near(share(&waits, 5), 0.75f);
    /* That nothing waits is no reason. */
    waits_note(&waits, 0, now_ns += 60 * SECOND_NS);
    assert_near(share(&waits, 0), 0);
    assert_near(share(&waits, 5), 0.75f);
}

static void what_is_long_ago_fades(void **state)
{
    struct waits waits;
    uint64_t now_ns = SECOND_NS, half_ns = WAITS_HALF_MS * 1000000ull;

    (void)state;
    waits_init(&waits, now_ns);
    waits_note(&waits, 1, now_ns += 20 * half_ns);
    assert_near(share(&waits, 1), 1);
    /* A half of all that counts has faded, and this stands in its place. */
    waits_note(&waits, 2, now_ns += half_ns);
    assert_near(share(&waits, 1), 0.5f);
    /* In one stretch or in many: the same. */
    for (int i = 0; i < 1000; i++)
        waits_note(&waits, 2, now_ns += half_ns / 1000);
    assert_near(share(&waits, 1), 0.25f);
    waits_note(&waits, 2, now_ns += 1000 * half_ns);
    assert_near(share(&waits, 1), 0);
    assert_near(share(&waits, 2), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_follow_the_time),
        cmocka_unit_test(what_is_long_ago_fades),
    };

    return cmocka_run_group_tests_name("shard waits", tests, NULL, NULL);
}
