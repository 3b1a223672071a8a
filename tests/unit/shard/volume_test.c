/* Volumes: octets in a span of time, and rates with a burst, of one owner and over shards. */
#include "core/base/rng.h"
#include "shard/policy/mint.h"
#include "shard/policy/volume.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define MS       1000000ull
#define SECOND   (1000 * MS)
#define USES_MAX 40000

struct use {
    uint64_t at_ns;
    uint64_t amount;
};

struct uses {
    struct use list[USES_MAX];
    uint32_t count;
};

static void note(struct uses *uses, uint64_t at_ns, uint64_t amount)
{
    if (uses->count < USES_MAX)
        uses->list[uses->count++] = (struct use){at_ns, amount};
}

/* In no window that begins with a use is there more, unless it holds one large one alone. */
static void assert_kept(const struct uses *uses, uint64_t amount_max, uint64_t interval_ns)
{
    uint64_t sum = 0;
    uint32_t end = 0;

    for (uint32_t i = 0; i < uses->count; i++) {
        for (; end < uses->count && uses->list[end].at_ns < uses->list[i].at_ns + interval_ns;
             end++)
            sum += uses->list[end].amount;
        assert_true(sum <= amount_max || end == i + 1);
        sum -= uses->list[i].amount;
    }
}

static uint64_t total(const struct uses *uses)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < uses->count; i++)
        sum += uses->list[i].amount;
    return sum;
}

static const struct {
    uint64_t amount, interval_ms, size_max;
} volumes[] = {{20 << 20, 3600000, 200 << 10},
               {1 << 20, 1000, 60 << 10},
               {100 << 10, 60000, 30 << 10},
               {64, 1000, 100},
               {500 << 20, 1000, 1 << 20}};

/* Messages of any size one after the other, each as soon as it may, or a little late. */
static void octets_hold_in_every_window(void **state)
{
    static struct uses uses;
    struct rng rng;

    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof(volumes) / sizeof(volumes[0]); i++) {
        uint64_t interval_ns = volumes[i].interval_ms * MS, began_ns = 5 * SECOND;
        uint64_t now_ns = began_ns, used_ns = 0;
        double most;
        struct volume volume;

        uses.count = 0;
        volume_init(&volume, volumes[i].amount, volumes[i].interval_ms, 0, now_ns);
        while (uses.count < 4000) {
            uint64_t size = rng_between(&rng, 1, volumes[i].size_max);

            if (volume_due_ns(&volume, size) > now_ns)
                now_ns = volume_due_ns(&volume, size);
            volume_use(&volume, size, now_ns);
            used_ns = rng_one_in(&rng, 2) && used_ns > now_ns ? used_ns : now_ns;
            if (used_ns < now_ns + 9 * MS)
                used_ns += rng_below(&rng, MS);
            note(&uses, used_ns, size);
        }
        assert_kept(&uses, volumes[i].amount, interval_ns);
        most = (double)volumes[i].amount * (double)(now_ns - began_ns) / (double)interval_ns;
        /* Where messages are large, what is left of a window often holds no other one. */
        if (volumes[i].size_max < volumes[i].amount / 64)
            assert_true((double)total(&uses) >= 0.96 * most);
        else if (volumes[i].size_max < volumes[i].amount)
            assert_true((double)total(&uses) >= 0.7 * most);
    }
}

static void what_is_larger_than_all_goes_alone(void **state)
{
    struct volume volume;

    volume_init(&volume, 1000, 1000, 0, 0);
    assert_int_equal(volume_due_ns(&volume, 5000) < SECOND, true);
    volume_use(&volume, 5000, SECOND);
    assert_true(volume_due_ns(&volume, 1) >= 6 * SECOND);
    volume_use(&volume, 400, 7 * SECOND);
    assert_true(volume_due_ns(&volume, 5000) >= 8 * SECOND);
    volume_init(&volume, 0, 1000, 0, 0);
    assert_true(volume_due_ns(&volume, 1) == VOLUME_NEVER_NS);
    assert_int_equal(volume_allowed(&volume, 1000 * SECOND, 0), 0);
    /* From nothing at all to something. */
    volume_change(&volume, 1000, 1000, 0, 5 * SECOND);
    assert_true(volume_due_ns(&volume, 100) <= 5 * SECOND);
}

static void what_was_refused_makes_room(void **state)
{
    struct volume volume;
    uint64_t last_ns;

    volume_init(&volume, 1000, 60000, 0, 0);
    volume_use(&volume, 900, 100 * SECOND);
    assert_true(volume_is_owed(&volume, 110 * SECOND));
    assert_true(volume_due_ns(&volume, 900) >= 160 * SECOND);
    volume_give_back(&volume, 900, 0);
    assert_true(volume_due_ns(&volume, 900) <= 100 * SECOND);
    assert_false(volume_is_owed(&volume, 110 * SECOND));
    /* At another owner it is what it was. */
    volume_use(&volume, 700, 110 * SECOND);
    assert_int_equal(volume_sum(&volume, 120 * SECOND, &last_ns), 700);
    assert_int_equal(last_ns, 110 * SECOND);
    {
        struct volume other;

        volume_init(&other, 1000, 60000, 0, 0);
        volume_resume(&other, volume.free_ns, 700, last_ns);
        assert_true(volume_due_ns(&other, 400) >= 170 * SECOND);
        assert_true(volume_due_ns(&other, 400) == volume_due_ns(&volume, 400));
    }
}

static void a_burst_is_saved_and_no_window_holds_more(void **state)
{
    static const struct {
        uint64_t count, interval_ms, burst;
    } cases[] = {{100, 1000, 20}, {60, 60000, 60}, {1000, 1000, 1000}, {5, 3600000, 2}};
    static struct uses uses;
    struct rng rng;

    rng_init(&rng, 2);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t interval_ns = cases[i].interval_ms * MS, now_ns = SECOND, began_ns, busy_ns = 0;
        struct volume volume;

        uses.count = 0;
        volume_init(&volume, cases[i].count, cases[i].interval_ms, cases[i].burst, now_ns);
        assert_int_equal(volume_allowed(&volume, now_ns, 0), 0);
        now_ns += 5 * interval_ns;
        assert_int_equal(volume_allowed(&volume, now_ns, 0), cases[i].burst);
        while (uses.count < 6000) {
            uint64_t allowed;

            began_ns = now_ns;
            if (volume_due_ns(&volume, 1) > now_ns)
                now_ns = volume_due_ns(&volume, 1);
            allowed = volume_allowed(&volume, now_ns, 0);
            assert_true(allowed >= 1 && allowed <= cases[i].burst);
            volume_use(&volume, allowed, now_ns);
            while (allowed-- > 0)
                note(&uses, now_ns, 1);
            busy_ns += now_ns - began_ns;
            if (rng_one_in(&rng, 100))
                now_ns += rng_below(&rng, 2 * interval_ns);
        }
        assert_kept(&uses, cases[i].count, interval_ns);
        assert_true(uses.count >= (uint64_t)(0.95 * (double)cases[i].count * (double)busy_ns /
                                             (double)interval_ns));
    }
}

/* Shards that ask for what they need, use some of it, late, and give back the rest. */
static void run_shards(uint64_t seed, const struct mint_limit *limit, uint64_t size_max)
{
    static struct uses uses;
    uint64_t now_ns = SECOND, began_ns;
    uint32_t unused[16] = {0};
    bool stands[16] = {false};
    uint16_t count, to;
    struct mint mint;
    struct rng rng;

    rng_init(&rng, seed);
    count = (uint16_t)rng_between(&rng, 1, 16);
    mint_init(&mint, mint_limit_step_ns(limit), count, now_ns);
    mint_set_volume(&mint, limit, now_ns);
    now_ns += 2 * limit->interval_ms * MS;
    began_ns = now_ns;
    uses.count = 0;
    while (uses.count < 1500) {
        struct mint_batch batch;

        for (uint16_t i = 0; i < count; i++) {
            uint32_t need = (uint32_t)rng_between(&rng, 1, size_max);

            if (!stands[i])
                mint_ask(&mint, i, need * (uint32_t)rng_between(&rng, 1, 9), need, unused[i]);
            stands[i] = true;
        }
        if (mint_due_ns(&mint) > now_ns)
            now_ns = mint_due_ns(&mint);
        while (mint_next_batch(&mint, now_ns, &to, &batch)) {
            uint32_t used = rng_one_in(&rng, 5) ? 0 : batch.count;

            assert_true(batch.step_ns == 0 && batch.first_ns == now_ns && batch.count >= 1);
            stands[to] = false;
            unused[to] = batch.count - used;
            if (used > 0)
                note(&uses, now_ns + rng_below(&rng, 10 * MS), used);
            now_ns += rng_below(&rng, MS / 10);
        }
    }
    assert_kept(&uses, limit->count, limit->interval_ms * MS);
    assert_true(total(&uses) >=
                    (uint64_t)(0.85 * (double)limit->count * (double)(now_ns - began_ns) /
                               (double)(limit->interval_ms * MS)) ||
                now_ns - began_ns < limit->interval_ms * MS);
    mint_fini(&mint);
}

static void a_mint_of_a_volume_never_gives_too_much(void **state)
{
    static const struct mint_limit octets = {10 << 20, 60000, 0, true};
    static const struct mint_limit burst = {600, 60000, 50, false};

    for (uint64_t seed = 1; seed <= 10; seed++) {
        run_shards(seed, &octets, 50 << 10);
        run_shards(seed, &burst, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(octets_hold_in_every_window),
        cmocka_unit_test(what_is_larger_than_all_goes_alone),
        cmocka_unit_test(what_was_refused_makes_room),
        cmocka_unit_test(a_burst_is_saved_and_no_window_holds_more),
        cmocka_unit_test(a_mint_of_a_volume_never_gives_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
