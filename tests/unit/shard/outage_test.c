/* Which sources need not try a dead site. */
#include "shard/policy/outage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct ipaddr source(uint8_t number)
{
    return (struct ipaddr){IPADDR_V4, {10, 0, 0, number}};
}

static void each_source_has_its_own(void **state)
{
    struct outage outage = {0};
    struct ipaddr one = source(1), two = source(2), six = {IPADDR_V6, {10, 0, 0, 1}};

    (void)state;
    assert_int_equal(outage_until_ns(&outage, &one), 0);
    outage_note(&outage, &one, 100);
    assert_int_equal(outage_until_ns(&outage, &one), 100);
    assert_int_equal(outage_until_ns(&outage, &two), 0);
    assert_int_equal(outage_until_ns(&outage, &six), 0);
    outage_note(&outage, &two, 200);
    outage_note(&outage, &one, 300);
    assert_int_equal(outage_until_ns(&outage, &one), 300);
    assert_int_equal(outage_until_ns(&outage, &two), 200);
    assert_int_equal(outage.latest_ns, 300);
    outage_end(&outage, &one);
    assert_int_equal(outage_until_ns(&outage, &one), 0);
    assert_int_equal(outage_until_ns(&outage, &two), 200);
    outage_note(&outage, &two, 0);
    assert_int_equal(outage_until_ns(&outage, &two), 200);
}

/* Too many: those that may try soonest are forgotten, the others stay. */
static void the_latest_are_remembered(void **state)
{
    struct outage outage = {0};

    (void)state;
    for (uint8_t i = 1; i <= 3 * OUTAGE_SOURCES; i++) {
        struct ipaddr at = source(i);

        outage_note(&outage, &at, 1000 + i);
    }
    for (uint8_t i = 1; i <= 3 * OUTAGE_SOURCES; i++) {
        struct ipaddr at = source(i);
        uint64_t expected = i > 2 * OUTAGE_SOURCES ? 1000 + i : 0;

        assert_int_equal(outage_until_ns(&outage, &at), expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_source_has_its_own),
        cmocka_unit_test(the_latest_are_remembered),
    };

    return cmocka_run_group_tests_name("shard outage", tests, NULL, NULL);
}
