#include "core/obs/histogram.h"

#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdlib.h>
#include <string.h>

static void nothing_recorded(void **state)
{
    struct histogram histogram;

    histogram_init(&histogram);
    assert_int_equal(histogram.count, 0);
    assert_true(histogram_quantile(&histogram, 0) == 0);
    assert_true(histogram_quantile(&histogram, 1) == 0);
    assert_true(histogram_mean(&histogram) == 0);
}

static void small_values_are_exact(void **state)
{
    struct histogram histogram;

    histogram_init(&histogram);
    for (uint64_t value = 1; value <= 100; value++)
        histogram_record(&histogram, value);
    assert_true(histogram_quantile(&histogram, 0) == 1);
    assert_true(histogram_quantile(&histogram, 0.01) == 1);
    assert_true(histogram_quantile(&histogram, 0.5) == 50);
    assert_true(histogram_quantile(&histogram, 0.99) == 99);
    assert_true(histogram_quantile(&histogram, 0.991) == 100);
    assert_true(histogram_quantile(&histogram, 1) == 100);
    assert_true(histogram_mean(&histogram) == 50.5);
    assert_true(histogram.min == 1 && histogram.max == 100);
}

/* Tops rise by one bucket at a time, and every value falls under the top it was counted at. */
static void buckets_leave_no_gap(void **state)
{
    uint64_t before = histogram_bucket_top(0);

    assert_true(before == 0);
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t top = histogram_bucket_top(i);

        assert_true(top > before);
        assert_true(top - before <= (before >> HISTOGRAM_SUB_BITS) + 1);
        before = top;
    }
    assert_true(before == (1ull << HISTOGRAM_MAX_BITS) - 1);
}

static void one_value_at_every_edge(void **state)
{
    struct histogram histogram;

    for (uint32_t i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        uint64_t top = histogram_bucket_top(i);

        histogram_init(&histogram);
        histogram_record(&histogram, top);
        histogram_record(&histogram, top + 1);
        assert_int_equal(histogram.buckets[i], 1);
        assert_int_equal(histogram.buckets[i + 1], 1);
        assert_true(histogram_quantile(&histogram, 0.5) == top);
        assert_true(histogram_quantile(&histogram, 1) == top + 1);
    }
}

static void huge_values_keep_their_maximum(void **state)
{
    struct histogram histogram;

    histogram_init(&histogram);
    histogram_record(&histogram, 7);
    histogram_record(&histogram, UINT64_MAX);
    assert_int_equal(histogram.buckets[HISTOGRAM_BUCKETS - 1], 1);
    assert_true(histogram_quantile(&histogram, 0.5) == 7);
    assert_true(histogram_quantile(&histogram, 0.9) == UINT64_MAX);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* Against the sorted list itself: never below the true quantile, at most 1/64 above it. */
static void quantiles_against_a_sorted_list(void **state)
{
    enum { COUNT = 20000 };
    static uint64_t values[COUNT];
    static const double quantiles[] = {0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
    struct histogram histogram;
    struct rng rng;

    rng_init(&rng, 9);
    histogram_init(&histogram);
    for (int i = 0; i < COUNT; i++) {
        values[i] = rng_below(&rng, 1ull << (1 + rng_below(&rng, 41)));
        histogram_record(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), by_value);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        uint64_t exact = values[(size_t)(quantiles[i] * COUNT + 0.5) - 1];
        uint64_t told = histogram_quantile(&histogram, quantiles[i]);

        assert_true(told >= exact);
        assert_true(told <= exact + exact / 64 + 1);
    }
}

static void parts_merge_to_the_whole(void **state)
{
    struct histogram whole;
    struct histogram parts[3];
    struct histogram sum;
    struct rng rng;

    rng_init(&rng, 10);
    histogram_init(&whole);
    histogram_init(&sum);
    for (int i = 0; i < 3; i++)
        histogram_init(&parts[i]);
    for (int i = 0; i < 5000; i++) {
        uint64_t value = rng_u64(&rng) >> rng_below(&rng, 64);

        histogram_record(&whole, value);
        histogram_record(&parts[i % 2], value);
    }
    /* The third part stays empty: it must change neither minimum nor maximum. */
    for (int i = 2; i >= 0; i--)
        histogram_merge(&sum, &parts[i]);
    assert_memory_equal(&sum, &whole, sizeof(whole));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_recorded),
        cmocka_unit_test(small_values_are_exact),
        cmocka_unit_test(buckets_leave_no_gap),
        cmocka_unit_test(one_value_at_every_edge),
        cmocka_unit_test(huge_values_keep_their_maximum),
        cmocka_unit_test(quantiles_against_a_sorted_list),
        cmocka_unit_test(parts_merge_to_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
