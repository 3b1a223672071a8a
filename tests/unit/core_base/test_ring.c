/* The ring's arithmetic, on one thread; test_ring_threads.c has two. */
#include "core/base/ring.h"
#include "core/base/rng.h"

#include "tests/unit/core_base/unit.h"

static void *item(uintptr_t number)
{
    return (void *)number;
}

static void full_and_empty_are_ordinary(void **state)
{
    struct ring ring;
    void *items[6] = {item(1), item(2), item(3), item(4), item(5), item(6)};
    void *out[8];

    ring_init(&ring, 4);
    assert_true(ring_is_empty(&ring));
    assert_int_equal(ring_pop(&ring, out, 8), 0);
    assert_int_equal(ring_push(&ring, items, 0), 0);
    /* All four slots are of use, and a push takes what fits. */
    assert_int_equal(ring_push(&ring, items, 6), 4);
    assert_int_equal(ring_push(&ring, items, 1), 0);
    assert_int_equal(ring_depth(&ring), 4);
    assert_false(ring_is_empty(&ring));
    assert_int_equal(ring_pop(&ring, out, 0), 0);
    assert_int_equal(ring_pop(&ring, out, 1), 1);
    assert_ptr_equal(out[0], item(1));
    assert_int_equal(ring_push(&ring, items + 4, 2), 1);
    assert_int_equal(ring_pop(&ring, out, 8), 4);
    for (uintptr_t i = 0; i < 4; i++)
        assert_ptr_equal(out[i], item(i + 2));
    assert_true(ring_is_empty(&ring));
    assert_int_equal(ring_depth(&ring), 0);
    ring_fini(&ring);
}

/* As after years: the indices pass 2^32 while the ring is in use. */
static void indices_wrap(void **state)
{
    struct ring ring;
    struct rng rng;
    uintptr_t pushed = 1;
    uintptr_t popped = 1;

    ring_init(&ring, 8);
    rng_init(&rng, 31);
    atomic_store(&ring.head, UINT32_MAX - 100);
    atomic_store(&ring.tail, UINT32_MAX - 100);
    ring.head_cached = UINT32_MAX - 100;
    ring.tail_cached = UINT32_MAX - 100;
    for (int step = 0; step < 2000; step++) {
        void *batch[12];
        uint32_t count = (uint32_t)rng_below(&rng, 12);
        uint32_t room = 8 - ring_depth(&ring);
        uint32_t done = 0;

        for (uint32_t i = 0; i < count; i++)
            batch[i] = item(pushed + i);
        done = ring_push(&ring, batch, count);
        assert_int_equal(done, count < room ? count : room);
        pushed += done;
        assert_int_equal(ring_depth(&ring), pushed - popped);
        done = ring_pop(&ring, batch, (uint32_t)rng_below(&rng, 12));
        for (uint32_t i = 0; i < done; i++)
            assert_ptr_equal(batch[i], item(popped++));
        assert_true(ring_is_empty(&ring) == (pushed == popped));
    }
    assert_true(pushed > 2000);
    ring_fini(&ring);
}

static void the_sides_are_two_lines_apart(void **state)
{
    assert_true(offsetof(struct ring, head) - offsetof(struct ring, tail) >= 128);
    assert_true(offsetof(struct ring, slots) - offsetof(struct ring, head) >= 128);
    assert_int_equal(sizeof(struct ring) % 128, 0);
}

static void init_with(void *context)
{
    struct ring ring;

    ring_init(&ring, *(const uint32_t *)context);
}

static void odd_capacities_stop(void **state)
{
    uint32_t capacities[] = {0, 1, 3, 100};

    for (size_t i = 0; i < 4; i++)
        assert_true(stops(init_with, &capacities[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_empty_are_ordinary),
        cmocka_unit_test(indices_wrap),
        cmocka_unit_test(the_sides_are_two_lines_apart),
        cmocka_unit_test(odd_capacities_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
