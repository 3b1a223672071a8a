/* heap and rng. */
#include "core/base/heap.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

#include "tests/unit/core_base/unit.h"

static void heap_sorts_with_what_it_carries(void **state)
{
    struct heap heap;
    struct heap_entry entry = {0};
    struct rng rng;
    uint32_t keys[5000];
    uint64_t last = 0;
    uint64_t sum = 0;

    heap_init(&heap);
    rng_init(&rng, 3);
    /* Few different keys, so that many are equal. */
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t key = (uint32_t)rng_below(&rng, 700);

        keys[i] = key;
        assert_true(heap_push(&heap, (struct heap_entry){key, i}));
    }
    assert_int_equal(heap.count, 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        assert_true(heap_top(&heap)->key >= last);
        assert_true(heap_pop(&heap, &entry));
        assert_true(entry.key >= last);
        assert_int_equal(entry.key, keys[entry.value]);
        last = entry.key;
        sum += entry.value;
    }
    assert_int_equal(sum, 5000ull * 4999 / 2);
    assert_false(heap_pop(&heap, &entry));
    assert_null(heap_top(&heap));
    heap_fini(&heap);
}

static void heap_keeps_order_while_it_comes_and_goes(void **state)
{
    struct heap heap;
    struct heap_entry entry = {0};
    struct rng rng;
    uint32_t counts[256] = {0};

    heap_init(&heap);
    rng_init(&rng, 4);
    for (int step = 0; step < 100000; step++) {
        if (rng_one_in(&rng, 2)) {
            uint32_t key = (uint32_t)rng_below(&rng, 256);

            assert_true(heap_push(&heap, (struct heap_entry){.key = key}));
            counts[key]++;
        } else if (heap_pop(&heap, &entry)) {
            for (uint64_t key = 0; key < entry.key; key++)
                assert_int_equal(counts[key], 0);
            assert_true(counts[entry.key] > 0);
            counts[entry.key]--;
        }
    }
    heap_fini(&heap);
}

static void heap_reserved_needs_no_memory(void **state)
{
    struct heap heap;
    uint64_t allocs;

    heap_init(&heap);
    assert_true(heap_push(&heap, (struct heap_entry){.key = 7}));
    assert_true(heap_reserve(&heap, 1000));
    allocs = mem_alloc_count();
    assert_true(heap_reserve(&heap, 10));
    for (uint32_t i = 1; i < 1000; i++)
        assert_true(heap_push(&heap, (struct heap_entry){.key = 8 + i}));
    assert_int_equal(mem_alloc_count(), allocs);
    assert_int_equal(heap.count, 1000);
    assert_int_equal(heap_top(&heap)->key, 7);
    heap_fini(&heap);
}

static void heap_extreme_keys(void **state)
{
    struct heap heap;
    struct heap_entry entry = {0};

    heap_init(&heap);
    assert_true(heap_push(&heap, (struct heap_entry){.key = UINT32_MAX}));
    assert_true(heap_push(&heap, (struct heap_entry){.key = 0}));
    assert_true(heap_push(&heap, (struct heap_entry){.key = 1u << 31}));
    assert_true(heap_pop(&heap, &entry) && entry.key == 0);
    assert_true(heap_pop(&heap, &entry) && entry.key == 1u << 31);
    assert_true(heap_pop(&heap, &entry) && entry.key == UINT32_MAX);
    heap_fini(&heap);
}

/* From the authors' reference code: splitmix64 of 0, and xoshiro256** of the state 1, 2, 3, 4. */
static void rng_gives_the_published_numbers(void **state)
{
    static const uint64_t wanted[] = {11520, 0, 1509978240, 1215971899390074240,
                                      1216172134540287360};
    struct rng rng;

    rng_init(&rng, 0);
    assert_true(rng.state[0] == 0xe220a8397b1dcdaf);
    assert_true(rng.state[1] == 0x6e789e6aa1b965f4);
    assert_true(rng.state[2] == 0x06c45d188009454f);
    rng = (struct rng){{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        assert_true(rng_u64(&rng) == wanted[i]);
}

static void rng_same_seed_same_numbers(void **state)
{
    struct rng a;
    struct rng b;
    struct rng c;
    int same = 0;

    rng_init(&a, 42);
    rng_init(&b, 42);
    rng_init(&c, 43);
    for (int i = 0; i < 1000; i++) {
        uint64_t number = rng_u64(&a);

        assert_true(number == rng_u64(&b));
        same += number == rng_u64(&c);
    }
    assert_int_equal(same, 0);
}

static void rng_below_is_even(void **state)
{
    struct rng rng;
    uint32_t counts[7] = {0};
    uint32_t upper_third = 0;

    rng_init(&rng, 5);
    for (int i = 0; i < 70000; i++)
        counts[rng_below(&rng, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rng_below(&rng, 1), 0);
    /*
     * With a bound of three quarters of the range a plain product or remainder would favour one
     * third of the answers twice over.
     */
    for (int i = 0; i < 30000; i++) {
        uint64_t bound = 3ull << 62;
        uint64_t number = rng_below(&rng, bound);

        assert_true(number < bound);
        upper_third += number >= 1ull << 63;
    }
    assert_in_range(upper_third, 9500, 10500);
}

static void rng_between_includes_both_ends(void **state)
{
    struct rng rng;
    uint32_t counts[3] = {0};
    uint64_t high_bits = 0;
    uint32_t hits = 0;

    rng_init(&rng, 6);
    for (int i = 0; i < 3000; i++)
        counts[rng_between(&rng, 10, 12) - 10]++;
    for (int i = 0; i < 3; i++)
        assert_in_range(counts[i], 800, 1200);
    assert_int_equal(rng_between(&rng, 9, 9), 9);
    assert_true(rng_between(&rng, UINT64_MAX, UINT64_MAX) == UINT64_MAX);
    for (int i = 0; i < 100; i++)
        high_bits |= rng_between(&rng, 0, UINT64_MAX);
    assert_true(high_bits == UINT64_MAX);
    for (int i = 0; i < 10000; i++)
        hits += rng_one_in(&rng, 10);
    assert_in_range(hits, 850, 1150);
    assert_true(rng_one_in(&rng, 1));
}

static void below_nothing(void *context)
{
    rng_below(context, 0);
}

static void rng_bound_zero_stops(void **state)
{
    struct rng rng;

    rng_init(&rng, 7);
    assert_true(stops(below_nothing, &rng));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_sorts_with_what_it_carries),
        cmocka_unit_test(heap_keeps_order_while_it_comes_and_goes),
        cmocka_unit_test(heap_reserved_needs_no_memory),
        cmocka_unit_test(heap_extreme_keys),
        cmocka_unit_test(rng_gives_the_published_numbers),
        cmocka_unit_test(rng_same_seed_same_numbers),
        cmocka_unit_test(rng_below_is_even),
        cmocka_unit_test(rng_between_includes_both_ends),
        cmocka_unit_test(rng_bound_zero_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
