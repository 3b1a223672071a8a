/* mem, arena and slab. */
#include "core/base/arena.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/base/slab.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool all_zero(const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != 0)
            return false;
    }
    return true;
}

static void mem_counts_and_zeroes(void **state)
{
    uint64_t before = mem_alloc_count();
    uint8_t *aligned = NULL;
    char *text = NULL;

    /* Dirty memory is likely to come back from the allocator. */
    for (int i = 0; i < 64; i++) {
        uint8_t *block = mem_alloc(500);

        assert_true(all_zero(block, 500));
        memset(block, 0xff, 500);
        mem_free(block);
    }
    assert_int_equal(mem_alloc_count() - before, 64);
    aligned = mem_alloc_aligned(100, 4096);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    assert_true(all_zero(aligned, 100));
    text = mem_strdup("twice");
    assert_string_equal(text, "twice");
    assert_int_equal(mem_alloc_count() - before, 66);
    mem_free(aligned);
    mem_free(text);
    mem_free(NULL);
    assert_int_equal(mem_alloc_count() - before, 66);
}

static void mem_grows_with_its_content(void **state)
{
    uint64_t before = mem_alloc_count();
    uint8_t *block = mem_try_grow(NULL, 100);
    uint8_t *grown;

    assert_non_null(block);
    memset(block, 0x5a, 100);
    grown = mem_try_grow(block, 1 << 20);
    assert_non_null(grown);
    for (int i = 0; i < 100; i++)
        assert_int_equal(grown[i], 0x5a);
    assert_int_equal(mem_alloc_count() - before, 2);
    mem_free(grown);
    mem_give_back();
}

static void mem_zero_bytes_is_not_a_shortage(void **state)
{
    void *block = mem_try_alloc(0);

    assert_non_null(block);
    mem_free(block);
}

/* Out of sight of the compiler, which refuses such sizes when it knows them. */
static volatile size_t far_too_much = SIZE_MAX / 2;

static void alloc_too_much(void *context)
{
    mem_free(mem_alloc(far_too_much));
}

static void mem_shortage(void **state)
{
#ifdef __SANITIZE_ADDRESS__
    /* The sanitizer treats such a request as an error of its own. */
    skip();
#endif
    assert_null(mem_try_alloc(far_too_much));
    assert_true(stops(alloc_too_much, NULL));
}

static void arena_pieces_are_apart_aligned_and_zero(void **state)
{
    struct arena arena;
    struct rng rng;
    uint8_t *pieces[2000];
    size_t sizes[2000];

    arena_init(&arena);
    rng_init(&rng, 1);
    for (int i = 0; i < 2000; i++) {
        /* Some larger than a block of the arena. */
        sizes[i] = rng_one_in(&rng, 100) ? rng_below(&rng, 200000) : rng_below(&rng, 300);
        pieces[i] = arena_alloc(&arena, sizes[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        assert_true(all_zero(pieces[i], sizes[i]));
        memset(pieces[i], 1 + i % 255, sizes[i]);
    }
    /* Nobody wrote into another's piece. */
    for (int i = 0; i < 2000; i++) {
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(pieces[i][at], 1 + i % 255);
    }
    arena_fini(&arena);
    assert_null(arena.blocks);
}

static void arena_copies_end_in_nul(void **state)
{
    struct arena arena;
    struct slice copy;
    const char text[] = "some words";

    arena_init(&arena);
    copy = arena_copy(&arena, slice_of(text, 4));
    assert_int_equal(copy.len, 4);
    assert_string_equal((const char *)copy.data, "some");
    copy = arena_copy(&arena, slice_of(NULL, 0));
    assert_int_equal(copy.len, 0);
    assert_string_equal((const char *)copy.data, "");
    assert_string_equal(arena_strdup(&arena, text), text);
    arena_fini(&arena);
}

static void slab_is_full_at_its_limit_and_goes_on(void **state)
{
    struct slab slab;
    uint32_t index = 0;
    uint32_t untouched = 77;

    slab_init(&slab, 24, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_non_null(slab_alloc(&slab, &index));
        assert_int_equal(index, i);
    }
    assert_null(slab_alloc(&slab, &untouched));
    assert_int_equal(untouched, 77);
    slab_free(&slab, 1);
    assert_non_null(slab_alloc(&slab, &index));
    assert_int_equal(index, 1);
    assert_int_equal(slab.count_used, 3);
    slab_fini(&slab);
}

static void slab_objects_come_zeroed_and_stay_in_place(void **state)
{
    enum { COUNT = 30000 };
    struct slab slab;
    uint8_t **objects = mem_alloc(COUNT * sizeof(*objects));
    uint32_t index = 0;

    /* 52 bytes are rounded up to 56, and several blocks are needed. */
    slab_init(&slab, 52, COUNT);
    assert_int_equal(slab.object_bytes, 56);
    for (uint32_t i = 0; i < COUNT; i++) {
        objects[i] = slab_alloc(&slab, &index);
        assert_int_equal(index, i);
        assert_true(all_zero(objects[i], 56));
        memset(objects[i], (int)(i % 251) + 1, 56);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ptr_equal(slab_at(&slab, i), objects[i]);
        assert_int_equal(objects[i][0], i % 251 + 1);
        assert_int_equal(objects[i][55], i % 251 + 1);
    }
    for (uint32_t i = 0; i < COUNT; i += 3)
        slab_free(&slab, i);
    for (uint32_t i = 0; i < COUNT; i += 3)
        assert_true(all_zero(slab_alloc(&slab, &index), 56));
    assert_int_equal(slab.count_used, COUNT);
    assert_null(slab_alloc(&slab, &index));
    slab_fini(&slab);
    mem_free(objects);
}

/* Resident bytes of this process. */
static uint64_t resident_bytes(void)
{
    unsigned long all = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%lu %lu", &all, &resident), 2);
    fclose(file);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void slab_room_that_is_only_reserved_takes_no_memory(void **state)
{
    enum { COUNT = 16384, BYTES = 4096 };

    struct slab slab;
    uint64_t before;
    uint32_t index;

    slab_init(&slab, BYTES, COUNT);
    before = resident_bytes();
    assert_true(slab_reserve(&slab, COUNT));
    /* The address sanitizer keeps an eighth of its own. */
    assert_true(resident_bytes() < before + (uint64_t)COUNT * BYTES / 4);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_non_null(slab_alloc(&slab, &index));
        assert_int_equal(index, i);
    }
    assert_true(resident_bytes() > before + (uint64_t)COUNT * BYTES / 4 * 3);
    slab_fini(&slab);
}

/* Up to what the load is, and down again: what is empty goes, what is live stays. */
static void slab_memory_follows_the_load(void **state)
{
    enum { COUNT = 16384, BYTES = 4096, KEPT = 100 };

    struct slab slab;
    uint64_t before;
    uint32_t index;
    bool is_more = false;

    slab_init(&slab, BYTES, COUNT);
    before = resident_bytes();
    for (uint32_t i = 0; i < COUNT; i++)
        memset(slab_alloc(&slab, &index), 0x5a, BYTES);
    for (uint32_t i = KEPT; i < COUNT; i++)
        slab_free(&slab, i);
    assert_int_equal(slab_trim(&slab, UINT32_MAX, &is_more), 0);
    assert_true(is_more);
    assert_int_equal(slab_trim(&slab, 10, &is_more), 10);
    assert_true(is_more);
    assert_true(slab_trim(&slab, UINT32_MAX, &is_more) > 200);
    assert_false(is_more);
    assert_int_equal(slab_trim(&slab, UINT32_MAX, &is_more), 0);
    assert_true(resident_bytes() < before + (uint64_t)COUNT * BYTES / 4);
    for (uint32_t i = 0; i < KEPT; i++)
        assert_int_equal(((uint8_t *)slab_at(&slab, i))[BYTES - 1], 0x5a);
    /* The room is there still, zeroed as ever, and the lowest first. */
    for (uint32_t i = KEPT; i < COUNT; i++) {
        const uint8_t *object = slab_alloc(&slab, &index);

        assert_non_null(object);
        assert_true(all_zero(object, BYTES));
        assert_true(i < 128 || index == i);
    }
    assert_null(slab_alloc(&slab, &index));
    slab_fini(&slab);
}

/* A block that was used between two looks is not empty, whatever it was at both. */
static void slab_trim_spares_what_is_in_use(void **state)
{
    struct slab slab;
    uint32_t index;
    bool is_more;

    (void)state;
    slab_init(&slab, 4096, 100);
    for (int i = 0; i < 5; i++) {
        assert_non_null(slab_alloc(&slab, &index));
        slab_free(&slab, index);
        assert_int_equal(slab_trim(&slab, UINT32_MAX, &is_more), 0);
        assert_true(is_more);
    }
    assert_int_equal(slab_trim(&slab, UINT32_MAX, &is_more), 1);
    slab_fini(&slab);
}

static void slab_handles_outlive_their_object_as_null(void **state)
{
    struct slab slab;
    struct slab_handle first;
    struct slab_handle second;
    struct slab_handle forged;
    uint32_t index = 0;

    slab_init(&slab, 4, 100);
    assert_null(slab_get(&slab, (struct slab_handle){0}));
    slab_alloc(&slab, &index);
    first = slab_handle(&slab, index);
    assert_int_equal(first.generation, 1);
    assert_ptr_equal(slab_get(&slab, first), slab_at(&slab, index));
    slab_free(&slab, index);
    assert_null(slab_get(&slab, first));
    /* The generation of a free object does not open it. */
    forged = (struct slab_handle){.index = index, .generation = 2};
    assert_null(slab_get(&slab, forged));
    slab_alloc(&slab, &index);
    second = slab_handle(&slab, index);
    assert_int_equal(second.index, first.index);
    assert_null(slab_get(&slab, first));
    assert_non_null(slab_get(&slab, second));
    assert_null(slab_get(&slab, (struct slab_handle){.index = 5000000, .generation = 1}));
    slab_fini(&slab);
}

static void free_twice(void *context)
{
    slab_free(context, 0);
    slab_free(context, 0);
}

static void look_at_free(void *context)
{
    slab_at(context, 1);
}

static void look_beyond(void *context)
{
    slab_at(context, 1000);
}

static void slab_misuse_stops(void **state)
{
    struct slab slab;
    uint32_t index = 0;

    slab_init(&slab, 8, 10);
    slab_alloc(&slab, &index);
    assert_true(slab_is_live(&slab, 0));
    assert_false(slab_is_live(&slab, 1));
    assert_false(slab_is_live(&slab, UINT32_MAX));
    assert_true(stops(free_twice, &slab));
    assert_true(stops(look_at_free, &slab));
    assert_true(stops(look_beyond, &slab));
    slab_fini(&slab);
}

static void slab_reserve_spares_later_allocations(void **state)
{
    struct slab slab;
    uint64_t before = 0;
    uint32_t index = 0;

    slab_init(&slab, 1000, 5000);
    assert_true(slab_reserve(&slab, 1000));
    assert_true(slab.count_grown >= 1000);
    before = mem_alloc_count();
    for (int i = 0; i < 1000; i++)
        assert_non_null(slab_alloc(&slab, &index));
    assert_int_equal(mem_alloc_count(), before);
    /* More than the limit is the limit. */
    assert_true(slab_reserve(&slab, UINT32_MAX));
    assert_int_equal(slab.count_grown, 5000);
    slab_fini(&slab);
}

static void slab_takes_objects_larger_than_a_block(void **state)
{
    struct slab slab;
    uint8_t *objects[3];
    uint32_t index = 0;

    slab_init(&slab, 300000, 3);
    for (int i = 0; i < 3; i++) {
        objects[i] = slab_alloc(&slab, &index);
        memset(objects[i], i + 1, 300000);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(objects[i][0], i + 1);
        assert_int_equal(objects[i][299999], i + 1);
    }
    slab_fini(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mem_counts_and_zeroes),
        cmocka_unit_test(mem_grows_with_its_content),
        cmocka_unit_test(mem_zero_bytes_is_not_a_shortage),
        cmocka_unit_test(mem_shortage),
        cmocka_unit_test(arena_pieces_are_apart_aligned_and_zero),
        cmocka_unit_test(arena_copies_end_in_nul),
        cmocka_unit_test(slab_is_full_at_its_limit_and_goes_on),
        cmocka_unit_test(slab_objects_come_zeroed_and_stay_in_place),
        cmocka_unit_test(slab_room_that_is_only_reserved_takes_no_memory),
        cmocka_unit_test(slab_memory_follows_the_load),
        cmocka_unit_test(slab_trim_spares_what_is_in_use),
        cmocka_unit_test(slab_handles_outlive_their_object_as_null),
        cmocka_unit_test(slab_misuse_stops),
        cmocka_unit_test(slab_reserve_spares_later_allocations),
        cmocka_unit_test(slab_takes_objects_larger_than_a_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
