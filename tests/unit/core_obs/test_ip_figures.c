#include "core/obs/ip_figures.h"

#include "tests/unit/core_base/unit.h"

#include <string.h>

static void keys_are_all_different(void **state)
{
    for (int i = 0; i < IP_COUNTER_COUNT; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(ip_counter_key((enum ip_counter)i),
                                    ip_counter_key((enum ip_counter)k));
    assert_string_equal(ip_counter_key(IP_SYN_TIMEOUTS), "syn_timeouts");
}

static void looks_keep_the_least_and_the_last(void **state)
{
    struct ip_figures figures = {0};

    ip_figures_add_srtt(&figures, 0, 5);
    assert_int_equal(figures.counters[IP_SRTT_SAMPLES], 0);
    ip_figures_add_srtt(&figures, 300, 10);
    ip_figures_add_srtt(&figures, 100, 20);
    ip_figures_add_srtt(&figures, 200, 30);
    assert_int_equal(figures.counters[IP_SRTT_SAMPLES], 3);
    assert_int_equal(figures.counters[IP_SRTT_SUM_US], 600);
    assert_int_equal(figures.srtt_min_us, 100);
    assert_int_equal(figures.srtt_last_us, 200);
    assert_int_equal(figures.srtt_last_at_ns, 30);
}

static void only_what_is_new_is_added(void **state)
{
    struct ip_figures sum = {0}, before = {0}, now = {0};

    now.counters[IP_CONNECTS] = 10;
    ip_figures_add(&sum, &now, NULL);
    before = now;
    now.counters[IP_CONNECTS] = 14;
    now.counters[IP_RESETS] = 1;
    ip_figures_add(&sum, &now, &before);
    assert_int_equal(sum.counters[IP_CONNECTS], 14);
    assert_int_equal(sum.counters[IP_RESETS], 1);
    ip_figures_add(&sum, &now, &now);
    assert_int_equal(sum.counters[IP_CONNECTS], 14);
}

/* The kernel's map let the address go and met it again: all counters are new, not only those that
 * are smaller now. */
static void counters_that_begin_anew_go_on(void **state)
{
    struct ip_figures sum = {0}, before = {0}, now = {0};

    before.counters[IP_CONNECTS] = 100;
    before.counters[IP_BYTES_SENT] = 5;
    sum = before;
    now.counters[IP_CONNECTS] = 3;
    now.counters[IP_BYTES_SENT] = 7;
    ip_figures_add(&sum, &now, &before);
    assert_int_equal(sum.counters[IP_CONNECTS], 103);
    assert_int_equal(sum.counters[IP_BYTES_SENT], 12);
}

static void the_last_look_of_all_is_the_last(void **state)
{
    struct ip_figures sum = {0}, a = {0}, b = {0}, none = {0};

    ip_figures_add_srtt(&a, 70, 200);
    ip_figures_add_srtt(&b, 50, 100);
    ip_figures_add(&sum, &a, NULL);
    ip_figures_add(&sum, &b, NULL);
    ip_figures_add(&sum, &none, NULL);
    assert_int_equal(sum.srtt_last_us, 70);
    assert_int_equal(sum.srtt_min_us, 50);
    assert_int_equal(sum.counters[IP_SRTT_SUM_US], 120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_all_different),
        cmocka_unit_test(looks_keep_the_least_and_the_last),
        cmocka_unit_test(only_what_is_new_is_added),
        cmocka_unit_test(counters_that_begin_anew_go_on),
        cmocka_unit_test(the_last_look_of_all_is_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
