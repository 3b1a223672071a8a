#include "bench/figures.h"
#include "tests/unit/core_base/unit.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void add(struct figures_series *series, double rate, double lost)
{
    struct figures figures;

    figures_clear(&figures);
    figures.of[FIGURE_rate] = rate;
    figures.of[FIGURE_lost] = lost;
    figures.of[FIGURE_duplicates] = 0;
    figures.of[FIGURE_damaged] = 0;
    figures_add(series, &figures);
}

static void medians_of_odd_and_even_counts(void **state)
{
    static struct figures_series series = {.name = "test"};

    assert_true(isnan(figures_median(&series, FIGURE_rate)));
    add(&series, 30, 0);
    add(&series, 10, 0);
    assert_true(figures_median(&series, FIGURE_rate) == 20);
    add(&series, 11, 0);
    assert_true(figures_median(&series, FIGURE_rate) == 11);
    assert_true(isnan(figures_median(&series, FIGURE_relay_calls)));
    assert_true(figures_faults(&series) == 0);
    add(&series, 12, 2);
    assert_true(figures_faults(&series) == 2);
}

static void json_has_no_nan(void **state)
{
    static struct figures_series series = {.name = "test"};
    char text[8192] = "";
    FILE *stream = fmemopen(text, sizeof(text), "w");

    add(&series, 10, 0);
    add(&series, 30, 0);
    figures_print_json(&series, stream);
    fclose(stream);
    assert_null(strstr(text, "nan"));
    assert_non_null(strstr(text, "{\"name\":\"test\",\"runs\":[{\"rate\":10,"));
    assert_non_null(strstr(text, "\"relay_calls\":null"));
    assert_non_null(strstr(text, "\"median\":{\"rate\":20,"));
    assert_non_null(strstr(text, "\"min\":{\"rate\":10,"));
    assert_non_null(strstr(text, "\"max\":{\"rate\":30,"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians_of_odd_and_even_counts),
        cmocka_unit_test(json_has_no_nan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
