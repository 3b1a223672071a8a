/* list and wheel. */
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/base/wheel.h"

#include "tests/unit/core_base/unit.h"

#define MS  WHEEL_TICK_NS
#define DAY (86400000ull * MS)

static void list_order_and_removal(void **state)
{
    struct list head;
    struct list nodes[4];
    unsigned seen = 0;

    list_init(&head);
    assert_true(list_empty(&head));
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 4; i++)
        list_init(&nodes[i]);
    list_push_back(&head, &nodes[1]);
    list_push_back(&head, &nodes[3]);
    list_push_front(&head, &nodes[0]);
    list_insert_before(&nodes[3], &nodes[2]);
    list_for_each (node, &head) {
        assert_ptr_equal(node, &nodes[seen]);
        seen++;
        list_remove(node);
    }
    assert_int_equal(seen, 4);
    assert_true(list_empty(&head));
    /* Unlinked twice is fine. */
    list_remove(&nodes[0]);
    list_push_back(&head, &nodes[0]);
    assert_ptr_equal(list_pop_front(&head), &nodes[0]);
    assert_true(list_empty(&head));
    assert_true(list_empty(&nodes[0]));
}

/* Advances to at_ns and counts what came due. */
static unsigned fired(struct wheel *wheel, uint64_t at_ns)
{
    struct list due;
    unsigned count = 0;

    list_init(&due);
    wheel_advance(wheel, at_ns, &due);
    while (list_pop_front(&due) != NULL)
        count++;
    return count;
}

static void fires_at_its_tick_and_never_before(void **state)
{
    /* Either side of where one level ends and the next begins, and of a turn of the wheel. */
    static const uint64_t delays[] = {
        1,       2,        255,       256,        257,     65535,       65536,      65537,
        1 << 24, 0xffffff, 0x1000001, 0xfe000000, 1 << 30, 0xfffffffff, 1ull << 32, 1ull << 34};
    static const uint64_t starts[] = {0,      1,        255,        256,
                                      0xfffe, 0xffffff, 0xfffffffe, (1ull << 32) + 12345};

    for (size_t s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
        for (size_t d = 0; d < sizeof(delays) / sizeof(delays[0]); d++) {
            struct wheel wheel;
            struct wheel_timer timer;
            uint64_t at_tick = starts[s] + delays[d];

            wheel_init(&wheel, starts[s] * MS);
            wheel_timer_init(&timer);
            wheel_arm(&wheel, &timer, at_tick * MS);
            assert_true(wheel_is_armed(&timer));
            assert_int_equal(fired(&wheel, at_tick * MS - 1), 0);
            assert_int_equal(fired(&wheel, at_tick * MS), 1);
            assert_false(wheel_is_armed(&timer));
            assert_int_equal(wheel.armed_count, 0);
        }
    }
}

static void a_fraction_of_a_tick_rounds_up(void **state)
{
    struct wheel wheel;
    struct wheel_timer timer;

    wheel_init(&wheel, 10 * MS + 3);
    wheel_timer_init(&timer);
    wheel_arm(&wheel, &timer, 12 * MS + 1);
    assert_int_equal(fired(&wheel, 12 * MS + 1), 0);
    assert_int_equal(fired(&wheel, 13 * MS - 1), 0);
    assert_int_equal(fired(&wheel, 13 * MS), 1);
}

static void a_past_time_fires_at_the_next_advance(void **state)
{
    struct wheel wheel;
    struct wheel_timer timers[3];

    wheel_init(&wheel, 1000 * MS);
    for (int i = 0; i < 3; i++)
        wheel_timer_init(&timers[i]);
    wheel_arm(&wheel, &timers[0], 0);
    wheel_arm(&wheel, &timers[1], 999 * MS);
    wheel_arm(&wheel, &timers[2], 1000 * MS);
    assert_true(wheel_next_ns(&wheel) <= 1000 * MS);
    /* The clock has not moved, and even one that runs backwards does no harm. */
    assert_int_equal(fired(&wheel, 500 * MS), 3);
    assert_int_equal(wheel.now_tick, 1000);
    assert_true(wheel_next_ns(&wheel) == UINT64_MAX);
}

static void due_comes_in_order_of_ticks(void **state)
{
    static const unsigned delays[] = {70000, 3, 256, 65536, 255, 1, 20000000, 257, 4, 69999};
    enum { COUNT = sizeof(delays) / sizeof(delays[0]) };
    struct wheel wheel;
    struct wheel_timer timers[COUNT];
    struct list due;
    struct list *node;
    unsigned last = 0;
    unsigned count = 0;

    wheel_init(&wheel, 0);
    list_init(&due);
    for (int i = 0; i < COUNT; i++) {
        wheel_timer_init(&timers[i]);
        wheel_arm(&wheel, &timers[i], delays[i] * MS);
    }
    wheel_advance(&wheel, 30000000 * MS, &due);
    while ((node = list_pop_front(&due)) != NULL) {
        size_t which = (size_t)(container_of(node, struct wheel_timer, link) - timers);

        assert_true(delays[which] > last);
        last = delays[which];
        count++;
    }
    assert_int_equal(count, COUNT);
}

static void stop_and_move(void **state)
{
    struct wheel wheel;
    struct wheel_timer timer;

    wheel_init(&wheel, 0);
    wheel_timer_init(&timer);
    wheel_stop(&wheel, &timer);
    wheel_arm(&wheel, &timer, 50 * MS);
    wheel_arm(&wheel, &timer, 100000 * MS);
    assert_int_equal(wheel.armed_count, 1);
    assert_int_equal(fired(&wheel, 99999 * MS), 0);
    wheel_stop(&wheel, &timer);
    wheel_stop(&wheel, &timer);
    assert_int_equal(wheel.armed_count, 0);
    assert_true(wheel_next_ns(&wheel) == UINT64_MAX);
    assert_int_equal(fired(&wheel, 200000 * MS), 0);
}

/* The handler of one timer may stop or re-arm those that wait behind it. */
static void due_survives_stop_and_rearm(void **state)
{
    struct wheel wheel;
    struct wheel_timer timers[5];
    struct list due;

    wheel_init(&wheel, 0);
    list_init(&due);
    for (int i = 0; i < 5; i++) {
        wheel_timer_init(&timers[i]);
        wheel_arm(&wheel, &timers[i], 10 * MS);
    }
    wheel_advance(&wheel, 10 * MS, &due);
    assert_int_equal(wheel.armed_count, 0);
    assert_ptr_equal(list_pop_front(&due), &timers[0].link);
    wheel_stop(&wheel, &timers[1]);
    wheel_arm(&wheel, &timers[3], 10 * MS);
    wheel_arm(&wheel, &timers[0], 20 * MS);
    assert_int_equal(wheel.armed_count, 2);
    assert_ptr_equal(list_pop_front(&due), &timers[2].link);
    /* Alone in `due`, whose head is no slot of the wheel. */
    wheel_stop(&wheel, &timers[4]);
    assert_null(list_pop_front(&due));
    assert_int_equal(wheel.armed_count, 2);
    /* Timer 3 was armed for a time that is due already. */
    assert_int_equal(fired(&wheel, 10 * MS), 1);
    assert_int_equal(fired(&wheel, 20 * MS), 1);
}

static void due_is_appended_to(void **state)
{
    struct wheel wheel;
    struct wheel_timer timers[2];
    struct list due;

    wheel_init(&wheel, 0);
    list_init(&due);
    for (unsigned i = 0; i < 2; i++) {
        wheel_timer_init(&timers[i]);
        wheel_arm(&wheel, &timers[i], (i + 1) * MS);
    }
    wheel_advance(&wheel, MS, &due);
    wheel_advance(&wheel, 2 * MS, &due);
    assert_ptr_equal(list_pop_front(&due), &timers[0].link);
    assert_ptr_equal(list_pop_front(&due), &timers[1].link);
}

static void far_times_are_kept(void **state)
{
    struct wheel wheel;
    struct wheel_timer year;
    struct wheel_timer never;
    uint64_t now = 7 * DAY;

    wheel_init(&wheel, now);
    wheel_timer_init(&year);
    wheel_timer_init(&never);
    wheel_arm(&wheel, &year, now + 365 * DAY);
    wheel_arm(&wheel, &never, UINT64_MAX);
    for (unsigned day = 1; day < 365; day++)
        assert_int_equal(fired(&wheel, now + day * DAY), 0);
    assert_int_equal(fired(&wheel, now + 365 * DAY - 1), 0);
    assert_int_equal(fired(&wheel, now + 365 * DAY), 1);
    assert_false(wheel_is_armed(&year));
    assert_true(wheel_is_armed(&never));
    wheel_stop(&wheel, &never);
    assert_int_equal(wheel.armed_count, 0);
}

/* Sleeping until wheel_next_ns each time gets to a far timer, on time and in few steps. */
static void next_leads_to_the_timer(void **state)
{
    static const uint64_t delays[] = {1, 300, 70000, 17000000, 3000000000, 86400000ull * 365};

    for (size_t i = 0; i < sizeof(delays) / sizeof(delays[0]); i++) {
        struct wheel wheel;
        struct wheel_timer timer;
        uint64_t at = 987654321 * MS + delays[i] * MS;
        uint64_t next = 0;
        unsigned steps = 0;

        wheel_init(&wheel, 987654321 * MS);
        wheel_timer_init(&timer);
        wheel_arm(&wheel, &timer, at);
        do {
            next = wheel_next_ns(&wheel);
            assert_true(next <= at);
            steps++;
        } while (fired(&wheel, next) == 0);
        assert_true(next == at);
        assert_in_range(steps, 1, 12);
    }
}

enum { TIMERS = 300 };

struct world {
    struct wheel wheel;
    struct wheel_timer timers[TIMERS];
    uint64_t wanted[TIMERS]; /* 0 = not armed */
    struct rng rng;
    uint64_t now;
};

static uint64_t earliest(const struct world *world)
{
    uint64_t at = UINT64_MAX;

    for (int i = 0; i < TIMERS; i++) {
        if (world->wanted[i] != 0 && world->wanted[i] < at)
            at = world->wanted[i];
    }
    return at;
}

static void check_bitmaps(const struct wheel *wheel)
{
    for (unsigned level = 0; level < 4; level++) {
        for (unsigned slot = 0; slot < 256; slot++) {
            bool marked = wheel->bitmap[level][slot / 64] >> (slot % 64) & 1;

            assert_true(marked == !list_empty(&wheel->slots[level][slot]));
        }
    }
}

static void advance_and_check(struct world *world)
{
    struct list due;
    struct list *node;
    uint64_t last_tick = 0;

    list_init(&due);
    wheel_advance(&world->wheel, world->now, &due);
    while ((node = list_pop_front(&due)) != NULL) {
        struct wheel_timer *timer = container_of(node, struct wheel_timer, link);
        size_t which = (size_t)(timer - world->timers);
        uint64_t tick = (world->wanted[which] + MS - 1) / MS;

        assert_true(world->wanted[which] != 0);
        assert_true(world->wanted[which] <= world->now);
        assert_true(tick >= last_tick);
        last_tick = tick;
        world->wanted[which] = 0;
    }
    for (int i = 0; i < TIMERS; i++) {
        /* Nothing that is due by a whole tick was left behind. */
        if (world->wanted[i] != 0)
            assert_true((world->wanted[i] + MS - 1) / MS > world->now / MS);
        assert_true(wheel_is_armed(&world->timers[i]) == (world->wanted[i] != 0));
    }
}

static void a_random_life_against_a_model(void **state)
{
    struct world *world = mem_alloc(sizeof(*world));

    rng_init(&world->rng, 21);
    world->now = 0xfff00ull * MS;
    wheel_init(&world->wheel, world->now);
    for (int i = 0; i < TIMERS; i++)
        wheel_timer_init(&world->timers[i]);
    for (int step = 0; step < 60000; step++) {
        uint64_t reach = 1ull << rng_below(&world->rng, 54);
        size_t i = rng_below(&world->rng, TIMERS);
        uint64_t action = rng_below(&world->rng, 10);

        if (action < 6) {
            world->wanted[i] = world->now + 1 + rng_below(&world->rng, reach);
            wheel_arm(&world->wheel, &world->timers[i], world->wanted[i]);
        } else if (action < 7) {
            world->wanted[i] = 0;
            wheel_stop(&world->wheel, &world->timers[i]);
        } else {
            uint64_t next = earliest(world);

            if (next != UINT64_MAX)
                assert_true(wheel_next_ns(&world->wheel) <= (next + MS - 1) / MS * MS);
            else
                assert_true(wheel_next_ns(&world->wheel) == UINT64_MAX);
            if (action == 7 && next != UINT64_MAX && next > world->now)
                world->now = next + rng_below(&world->rng, 3) * MS;
            else
                world->now += rng_below(&world->rng, 1ull << rng_below(&world->rng, 50));
            advance_and_check(world);
        }
        if (step % 100 == 0)
            check_bitmaps(&world->wheel);
    }
    mem_free(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_order_and_removal),
        cmocka_unit_test(fires_at_its_tick_and_never_before),
        cmocka_unit_test(a_fraction_of_a_tick_rounds_up),
        cmocka_unit_test(a_past_time_fires_at_the_next_advance),
        cmocka_unit_test(due_comes_in_order_of_ticks),
        cmocka_unit_test(stop_and_move),
        cmocka_unit_test(due_survives_stop_and_rearm),
        cmocka_unit_test(due_is_appended_to),
        cmocka_unit_test(far_times_are_kept),
        cmocka_unit_test(next_leads_to_the_timer),
        cmocka_unit_test(a_random_life_against_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
