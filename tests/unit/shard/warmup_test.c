/* Steps and caps of a warm-up: what a day leads to, what is granted when, and thirty days of both
 * with crashes, where no day is above its cap and no bad day leads a step up. */
#include "shard/policy/warmup.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "core/base/zone.h"
#include "tests/unit/core_base/unit.h"

static const struct warmup_schedule ours = {
    .caps = {50, 100, 1000, 5000},
    .step_count = 4,
    .used_percent = WARMUP_USED,
    .deferral_percent = WARMUP_DEFERRALS,
    .idle_days = WARMUP_IDLE_DAYS,
};

static const struct warmup_schedule ramp = {
    .caps = {10, 20, 30},
    .step_count = 3,
    .by_day = true,
    .idle_days = WARMUP_IDLE_DAYS,
};

static uint32_t next(uint32_t step, uint64_t used, uint64_t deferred, uint64_t blocked)
{
    const struct warmup_counts counts = {used, used, deferred, blocked, 0};

    return warmup_next_step(&ours, step, &counts);
}

static void a_good_day_leads_one_step_up(void **state)
{
    assert_int_equal(next(1, 80, 3, 0), 2);
    assert_int_equal(next(1, 79, 0, 0), 1);
    assert_int_equal(next(1, 80, 4, 0), 1);
    assert_int_equal(next(3, 5000, 0, 0), 3);
}

static void a_bad_day_leads_down(void **state)
{
    assert_int_equal(next(2, 1000, 0, 1), 1);
    assert_int_equal(next(2, 1000, 99, 0), 2);
    assert_int_equal(next(2, 1000, 100, 0), 1);
    assert_int_equal(next(0, 50, 50, 3), 0);
}

/* Parts of blocks that shards kept are neither good nor bad. */
static void what_was_not_used_counts_as_nothing(void **state)
{
    struct warmup_counts counts = {.granted = 1000, .used = 800, .deferred = 39};

    assert_int_equal(warmup_next_step(&ours, 2, &counts), 3);
    counts.deferred = 40;
    assert_int_equal(warmup_next_step(&ours, 2, &counts), 2);
    counts = (struct warmup_counts){.granted = 1000, .used = 799};
    assert_int_equal(warmup_next_step(&ours, 2, &counts), 2);
}

static struct warmup_counts counts_after_crash(uint64_t used, uint64_t deferred)
{
    struct warmup_book book = {
        .is_begun = true,
        .counts = {.granted = 1000, .used = used, .deferred = deferred},
    };
    uint8_t room[WARMUP_BOOK_BYTES];
    size_t len = warmup_encode(&book, room);

    assert_int_equal(warmup_decode(slice_of(room, len), &book), 0);
    return book.counts;
}

/* What a crash took along may have been deferred. */
static void what_is_not_known_counts_as_deferred(void **state)
{
    struct warmup_counts counts = counts_after_crash(960, 5);

    assert_int_equal(counts.lost, 40);
    assert_int_equal(warmup_next_step(&ours, 2, &counts), 3);
    counts = counts_after_crash(950, 0);
    assert_int_equal(warmup_next_step(&ours, 2, &counts), 2);
}

static void idle_days_lead_to_the_start(void **state)
{
    struct warmup_book book = {0};

    warmup_turn_to(&ours, &book, 100);
    book.step = 2;
    book.counts = (struct warmup_counts){.granted = 500, .used = 500};
    assert_true(warmup_turn_to(&ours, &book, 101));
    assert_int_equal(book.step, 2);
    assert_true(warmup_turn_to(&ours, &book, 130));
    assert_int_equal(book.step, 2);
    assert_true(warmup_turn_to(&ours, &book, 131));
    assert_int_equal(book.step, 0);
    assert_false(warmup_turn_to(&ours, &book, 125));
    assert_int_equal(book.day, 131);
}

static void a_ramp_goes_with_the_days(void **state)
{
    struct warmup_book book = {0};

    warmup_turn_to(&ramp, &book, 7);
    assert_int_equal(warmup_cap(&ramp, &book), 10);
    warmup_turn_to(&ramp, &book, 8);
    assert_int_equal(warmup_cap(&ramp, &book), 20);
    book.counts = (struct warmup_counts){.granted = 20, .used = 20, .blocked = 20};
    warmup_turn_to(&ramp, &book, 11);
    assert_int_equal(warmup_cap(&ramp, &book), 30);
}

static void blocks_are_small_and_never_above_the_cap(void **state)
{
    struct warmup_book book = {0};
    uint64_t sum = 0, block, count = 0;

    assert_int_equal(warmup_grant(&ours, &book, 5, 0, 0, 0), 0);
    warmup_turn_to(&ours, &book, 1);
    book.step = 3;
    assert_int_equal(warmup_grant(&ours, &book, 5, 0, 0, 0), 5);
    for (sum = 5; (block = warmup_grant(&ours, &book, UINT64_MAX, 0, 0, 0)) > 0; sum += block) {
        assert_true(block <= 5000 / WARMUP_BLOCKS);
        count++;
    }
    assert_int_equal(sum, 5000);
    assert_true(count >= WARMUP_BLOCKS);
}

/* Ten hours for a thousand: after three of them three hundred, and the block that is begun. */
static void a_cap_is_spread_over_its_hours(void **state)
{
    struct warmup_book book = {0};
    uint64_t sum = 0, block;

    warmup_turn_to(&ours, &book, 1);
    book.step = 2;
    assert_int_equal(warmup_grant(&ours, &book, UINT64_MAX, 999, 1000, 37000), 0);
    while ((block = warmup_grant(&ours, &book, UINT64_MAX, 1000 + 3 * 3600, 1000, 37000)) > 0)
        sum += block;
    assert_int_equal(sum, 300 + 1000 / WARMUP_BLOCKS);
    assert_int_equal(warmup_grant(&ours, &book, UINT64_MAX, 37000, 1000, 37000), 0);
}

/* From two to three on the day on which the clock goes from two to three. */
static void hours_that_the_clock_leaves_out_grant_nothing(void **state)
{
    struct warmup_book book = {0};

    warmup_turn_to(&ours, &book, 1);
    assert_int_equal(warmup_grant(&ours, &book, UINT64_MAX, 99999, 100000, 100000), 0);
    assert_int_equal(warmup_grant(&ours, &book, UINT64_MAX, 100000, 100000, 100000), 0);
    assert_int_equal(warmup_grant(&ours, &book, UINT64_MAX, 100001, 100000, 100000), 0);
    assert_int_not_equal(warmup_grant(&ours, &book, UINT64_MAX, 100001, 0, 0), 0);
}

static void a_book_comes_back_as_it_was(void **state)
{
    struct warmup_book book = {true, -5, -9, 3, {1, 2, 3, UINT64_MAX, 0}}, read;
    uint8_t room[WARMUP_BOOK_BYTES];
    size_t len = warmup_encode(&book, room);

    assert_int_equal(warmup_decode(slice_of(room, len), &read), 0);
    assert_true(read.is_begun && read.day == book.day && read.last_used_day == book.last_used_day);
    assert_int_equal(read.step, book.step);
    assert_memory_equal(&read.counts, &book.counts, sizeof(book.counts));
    for (size_t i = 0; i < len; i++)
        assert_int_equal(warmup_decode(slice_of(room, i), &read), E_DAMAGED);
}

/* ---- Thirty days ----------------------------------------------------------------------------- */

#define SHARDS_MAX 16
#define MINUTE_S   60

/* A book that is written before a block goes out, and shards that each use up their blocks. */
struct scene {
    struct rng rng;
    struct warmup_book book;
    uint8_t disk[WARMUP_BOOK_BYTES];
    size_t disk_len;
    uint64_t left[SHARDS_MAX];
    uint64_t told[SHARDS_MAX];     /* used, not reported yet */
    uint64_t deferred[SHARDS_MAX]; /* of them */
    int32_t left_day[SHARDS_MAX];
    uint32_t shard_count;
    uint64_t sent[64]; /* by day */
    uint64_t bad[64];
    uint64_t blocked[64];
    uint32_t crashes;
};

static void store(struct scene *scene)
{
    scene->disk_len = warmup_encode(&scene->book, scene->disk);
}

static void crash(struct scene *scene)
{
    memset(scene->left, 0, sizeof(scene->left));
    memset(scene->told, 0, sizeof(scene->told));
    memset(scene->deferred, 0, sizeof(scene->deferred));
    assert_int_equal(warmup_decode(slice_of(scene->disk, scene->disk_len), &scene->book), 0);
    scene->shard_count = 1u << rng_below(&scene->rng, 5);
    scene->crashes++;
}

/* A shard that has nothing left says what came of the last block and asks for the next. */
static void ask(struct scene *scene, uint32_t shard, int32_t day, int64_t now_s, int64_t from_s,
                int64_t until_s)
{
    warmup_turn_to(&ours, &scene->book, day);
    warmup_report(&scene->book, scene->left_day[shard], scene->told[shard], scene->deferred[shard],
                  0);
    scene->told[shard] = 0;
    scene->deferred[shard] = 0;
    scene->left[shard] = warmup_grant(&ours, &scene->book, UINT64_MAX, now_s, from_s, until_s);
    scene->left_day[shard] = day;
    store(scene);
}

static void attempt(struct scene *scene, uint32_t shard, int32_t day, uint32_t nth_day,
                    uint32_t bad_percent)
{
    bool is_bad = rng_below(&scene->rng, 100) < bad_percent;

    if (scene->left[shard] == 0 || scene->left_day[shard] != day)
        return;
    scene->left[shard]--;
    scene->told[shard]++;
    scene->deferred[shard] += is_bad;
    scene->sent[nth_day]++;
    scene->bad[nth_day] += is_bad;
}

/* Receivers that defer nothing, a few, or a tenth and more; a block is told at once. */
static uint32_t weather_of(uint32_t nth_day)
{
    return nth_day % 7 == 3 ? 20 : nth_day % 5 == 4 ? 7 : 1;
}

static void one_minute(struct scene *scene, const struct zone *zone, int64_t now_s,
                       int32_t first_day)
{
    int32_t day = zone_day(zone, now_s, NULL);
    uint32_t nth_day = (uint32_t)(day - first_day);
    int64_t from_s = zone_moment(zone, day, 8 * 3600), until_s = zone_moment(zone, day, 20 * 3600);

    for (uint32_t i = 0; i < scene->shard_count; i++) {
        if (scene->left[i] == 0 || scene->left_day[i] != day)
            ask(scene, i, day, now_s, from_s, until_s);
        for (uint32_t n = 0; n < 12; n++)
            attempt(scene, i, day, nth_day, weather_of(nth_day));
    }
    if (nth_day % 9 == 8 && rng_one_in(&scene->rng, 600)) {
        warmup_turn_to(&ours, &scene->book, day);
        warmup_report(&scene->book, day, 0, 0, 1);
        store(scene);
        scene->blocked[nth_day]++;
    }
    if (rng_one_in(&scene->rng, 700))
        crash(scene);
}

static void judge(const struct scene *scene, const uint32_t *steps, uint32_t days)
{
    uint32_t ups = 0, downs = 0;

    for (uint32_t day = 0; day < days; day++) {
        uint64_t cap = ours.caps[steps[day]];
        bool is_bad = scene->blocked[day] > 0 || scene->bad[day] * 20 >= scene->sent[day] ||
                      scene->sent[day] * 100 < cap * WARMUP_USED;

        assert_true(scene->sent[day] <= cap);
        if (day + 1 == days)
            break;
        assert_true(steps[day + 1] <= steps[day] + 1);
        if (is_bad)
            assert_true(steps[day + 1] <= steps[day]);
        ups += steps[day + 1] > steps[day];
        downs += steps[day + 1] < steps[day];
    }
    assert_true(ups >= 3 && downs >= 2 && scene->crashes >= 20);
}

static void thirty_days_with_crashes_and_a_change_of_the_clock(void **state)
{
    struct zone zone;

    assert_int_equal(zone_load(&zone, "Europe/Berlin"), 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        /* 2026-10-15 22:00 UTC: midnight there, ten days before the day of 25 hours. */
        int64_t start_s = 1792101600;
        int32_t first_day = zone_day(&zone, start_s, NULL), day = 0;
        struct scene scene = {.shard_count = 4};
        uint32_t steps[32] = {0};

        rng_init(&scene.rng, seed);
        warmup_turn_to(&ours, &scene.book, first_day);
        store(&scene);
        for (int64_t now_s = start_s; day < 30; now_s += MINUTE_S) {
            day = zone_day(&zone, now_s, NULL) - first_day;
            if (day == 30)
                break;
            one_minute(&scene, &zone, now_s, first_day);
            if (scene.book.day - first_day == day)
                steps[day] = scene.book.step;
        }
        judge(&scene, steps, 30);
    }
    zone_fini(&zone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_day_leads_one_step_up),
        cmocka_unit_test(a_bad_day_leads_down),
        cmocka_unit_test(what_was_not_used_counts_as_nothing),
        cmocka_unit_test(what_is_not_known_counts_as_deferred),
        cmocka_unit_test(idle_days_lead_to_the_start),
        cmocka_unit_test(a_ramp_goes_with_the_days),
        cmocka_unit_test(blocks_are_small_and_never_above_the_cap),
        cmocka_unit_test(a_cap_is_spread_over_its_hours),
        cmocka_unit_test(hours_that_the_clock_leaves_out_grant_nothing),
        cmocka_unit_test(a_book_comes_back_as_it_was),
        cmocka_unit_test(thirty_days_with_crashes_and_a_change_of_the_clock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
