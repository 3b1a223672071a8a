/* hash and table. */
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

#include "tests/unit/core_base/unit.h"

#include <ctype.h>

static int compare_u64(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* Every length, every byte and every bit counts, on all paths of the loop and its tail. */
static void hash_sees_every_byte(void **state)
{
    uint8_t bytes[70] = {0};
    uint64_t seen[70 * 71 * 3];
    size_t count = 0;

    for (size_t len = 0; len <= sizeof(bytes); len++) {
        seen[count++] = hash_bytes(bytes, len);
        for (size_t at = 0; at < len; at++) {
            bytes[at] = 1;
            seen[count++] = hash_bytes(bytes, len);
            bytes[at] = 0x80;
            seen[count++] = hash_bytes(bytes, len);
            bytes[at] = 0;
        }
    }
    qsort(seen, count, sizeof(seen[0]), compare_u64);
    for (size_t i = 1; i < count; i++)
        assert_true(seen[i - 1] != seen[i]);
}

static void hash_does_not_depend_on_the_address(void **state)
{
    uint8_t room[128];

    for (size_t len = 0; len < 64; len++) {
        uint64_t wanted = 0;

        for (size_t start = 0; start < 9; start++) {
            /* What lies around the bytes differs each time. */
            memset(room, (int)start + 1, sizeof(room));
            for (size_t i = 0; i < len; i++)
                room[start + i] = (uint8_t)(i * 7);
            if (start == 0)
                wanted = hash_bytes(room, len);
            assert_true(hash_bytes(room + start, len) == wanted);
        }
    }
}

/* Pinned: a trace of an older build must replay with the same placement. */
static void hash_is_stable(void **state)
{
    assert_true(hash_bytes("", 0) == 0x2a094ee10bc3ac55);
    assert_true(hash_bytes("example.com", 11) == 0x45a4204b1e45308a);
    assert_true(hash_bytes("a.rather.long.name.example.com", 30) == 0x2b580bd14a738be9);
    assert_true(hash_u64(1) == 0x910a2dec89025cc1);
}

static void nocase_is_the_hash_of_the_small_letters(void **state)
{
    struct rng rng;

    rng_init(&rng, 11);
    for (int round = 0; round < 2000; round++) {
        uint8_t bytes[60];
        uint8_t small[60];
        size_t len = rng_below(&rng, sizeof(bytes) + 1);

        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)rng_u64(&rng);
            small[i] = bytes[i] < 0x80 ? (uint8_t)tolower(bytes[i]) : bytes[i];
        }
        assert_true(hash_bytes_nocase(bytes, len) == hash_bytes(small, len));
    }
    assert_true(hash_bytes_nocase("EXAMPLE.Com", 11) == hash_bytes_nocase("example.com", 11));
    assert_true(hash_bytes_nocase("@", 1) != hash_bytes_nocase("`", 1));
}

static void hash_flips_half_of_the_bits(void **state)
{
    uint64_t flipped = 0;

    for (uint64_t value = 0; value < 1000; value++) {
        for (int bit = 0; bit < 64; bit++) {
            uint64_t other = value ^ 1ull << bit;

            flipped += (uint64_t)__builtin_popcountll(hash_u64(value) ^ hash_u64(other));
            flipped += (uint64_t)__builtin_popcountll(hash_bytes(&value, sizeof(value)) ^
                                                      hash_bytes(&other, sizeof(other)));
        }
    }
    assert_in_range(flipped, 1000 * 64 * 63, 1000 * 64 * 65);
}

static void combine_depends_on_the_order(void **state)
{
    assert_true(hash_combine(1, 2) != hash_combine(2, 1));
    assert_true(hash_combine(0, 0) != hash_combine(0, 1));
    assert_true(hash_combine(0, 0) != 0);
}

/* The keys of the tests: an object's key is keys[value]. */
struct keys {
    uint64_t *keys;
    uint32_t compared;
};

static bool match(uint32_t value, const void *key, void *context)
{
    struct keys *keys = context;

    keys->compared++;
    return keys->keys[value] == *(const uint64_t *)key;
}

static uint32_t find(const struct table *table, struct keys *keys, uint64_t key, uint64_t hash)
{
    return table_find(table, hash, match, &key, keys);
}

static void table_finds_what_is_in(void **state)
{
    enum { COUNT = 10000 };
    struct table table;
    struct keys keys = {.keys = mem_alloc(2 * COUNT * sizeof(uint64_t))};

    table_init(&table);
    assert_int_equal(find(&table, &keys, 1, hash_u64(1)), TABLE_NONE);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        keys.keys[i] = i * 1000;
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(table_insert(&table, hash_u64(keys.keys[i]), i));
    assert_int_equal(table.count, COUNT);
    for (uint32_t i = 0; i < 2 * COUNT; i++)
        assert_int_equal(find(&table, &keys, keys.keys[i], hash_u64(keys.keys[i])),
                         i < COUNT ? i : TABLE_NONE);
    /* The stored hash spares the callback for all but the entry itself. */
    assert_in_range(keys.compared, COUNT, COUNT + 10);
    table_fini(&table);
    mem_free(keys.keys);
}

/* All keys of one hash: equality alone tells them apart. */
static void table_with_equal_hashes(void **state)
{
    struct table table;
    uint64_t list[300];
    struct keys keys = {.keys = list};

    table_init(&table);
    for (uint32_t i = 0; i < 300; i++) {
        list[i] = i;
        assert_true(table_insert(&table, 12345, i));
    }
    for (uint32_t i = 0; i < 300; i += 2)
        table_remove(&table, 12345, i);
    for (uint32_t i = 0; i < 300; i++)
        assert_int_equal(find(&table, &keys, i, 12345), i % 2 == 1 ? i : TABLE_NONE);
    assert_int_equal(table.count, 150);
    table_fini(&table);
}

/* A long random life against a plain array, with hashes that collide and wrap around the end. */
static void table_against_a_model(void **state)
{
    enum { KEYS = 700 };
    struct table table;
    struct rng rng;
    uint64_t list[KEYS];
    uint64_t hashes[KEYS];
    bool inside[KEYS] = {false};
    struct keys keys = {.keys = list};
    uint32_t count = 0;

    table_init(&table);
    rng_init(&rng, 12);
    for (uint32_t i = 0; i < KEYS; i++) {
        list[i] = i;
        /* A third crowds at the last slots of whatever capacity. */
        hashes[i] = i % 3 == 0 ? UINT32_MAX - rng_below(&rng, 4) : rng_u64(&rng);
    }
    for (int step = 0; step < 300000; step++) {
        uint32_t i = (uint32_t)rng_below(&rng, KEYS);

        assert_int_equal(find(&table, &keys, i, hashes[i]), inside[i] ? i : TABLE_NONE);
        if (inside[i]) {
            table_remove(&table, hashes[i], i);
            count--;
        } else if (rng_one_in(&rng, 1 + (uint64_t)step / 60000)) {
            assert_true(table_insert(&table, hashes[i], i));
            count++;
        } else {
            continue;
        }
        inside[i] = !inside[i];
        assert_int_equal(table.count, count);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        assert_int_equal(find(&table, &keys, i, hashes[i]), inside[i] ? i : TABLE_NONE);
    table_fini(&table);
}

static void table_steady_life_never_allocates(void **state)
{
    struct table table;
    uint64_t before = 0;
    uint32_t capacity = 0;
    uint32_t oldest = 0;

    table_init(&table);
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(table_insert(&table, hash_u64(i), i));
    before = mem_alloc_count();
    capacity = table.capacity;
    for (uint32_t i = 1000; i < 500000; i++) {
        table_remove(&table, hash_u64(oldest), oldest);
        oldest++;
        assert_true(table_insert(&table, hash_u64(i), i));
    }
    assert_int_equal(mem_alloc_count(), before);
    assert_int_equal(table.capacity, capacity);
    assert_int_equal(table.count, 1000);
    table_fini(&table);
}

static void table_walk_meets_each_value_once_while_some_leave(void **state)
{
    enum { COUNT = 5000 };
    struct table table;
    uint8_t *met = mem_alloc(COUNT);
    uint32_t cursor = 0;
    uint32_t value = 0;
    uint32_t left = 0;

    table_init(&table);
    assert_int_equal(table_next(&table, &cursor), TABLE_NONE);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_true(table_insert(&table, hash_u64(i), i));
    cursor = 0;
    while ((value = table_next(&table, &cursor)) != TABLE_NONE) {
        assert_int_equal(met[value]++, 0);
        if (value % 3 != 0)
            table_remove(&table, hash_u64(value), value);
    }
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(met[i], 1);
    cursor = 0;
    while ((value = table_next(&table, &cursor)) != TABLE_NONE) {
        assert_int_equal(value % 3, 0);
        left++;
    }
    assert_int_equal(left, table.count);
    table_fini(&table);
    mem_free(met);
}

static void remove_absent_value(void *context)
{
    table_remove(context, 1, 99);
}

static void remove_absent_hash(void *context)
{
    table_remove(context, 2, 5);
}

static void insert_reserved(void *context)
{
    table_insert(context, 1, TABLE_NONE);
}

static void table_misuse_stops(void **state)
{
    struct table table;

    table_init(&table);
    assert_true(stops(remove_absent_value, &table));
    assert_true(table_insert(&table, 1, 5));
    assert_true(stops(remove_absent_value, &table));
    assert_true(stops(remove_absent_hash, &table));
    assert_true(stops(insert_reserved, &table));
    table_remove(&table, 1, 5);
    assert_int_equal(table.count, 0);
    table_fini(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_sees_every_byte),
        cmocka_unit_test(hash_does_not_depend_on_the_address),
        cmocka_unit_test(hash_is_stable),
        cmocka_unit_test(nocase_is_the_hash_of_the_small_letters),
        cmocka_unit_test(hash_flips_half_of_the_bits),
        cmocka_unit_test(combine_depends_on_the_order),
        cmocka_unit_test(table_finds_what_is_in),
        cmocka_unit_test(table_with_equal_hashes),
        cmocka_unit_test(table_against_a_model),
        cmocka_unit_test(table_steady_life_never_allocates),
        cmocka_unit_test(table_walk_meets_each_value_once_while_some_leave),
        cmocka_unit_test(table_misuse_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
