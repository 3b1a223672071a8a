/* The clock, timers and actors. */
#include "tests/unit/core_io/conformance.h"

#define MS 1000000ull

struct alarm {
    struct io_timer timer;
    uint64_t armed_for_ns;
    uint64_t fired_at_ns;
    uint64_t fired;
    uint64_t place; /* in the order of firing, from 1 */
    uint64_t again; /* times to arm itself once more */
    struct alarm *stops;
};

static uint64_t fired_total;

static void on_alarm(struct io_timer *timer)
{
    struct alarm *alarm = container_of(timer, struct alarm, timer);

    assert_not_within_start();
    assert_false(io_timer_is_armed(timer));
    alarm->fired++;
    alarm->fired_at_ns = io_now_ns(the_io);
    alarm->place = ++fired_total;
    assert_true(alarm->fired_at_ns >= alarm->armed_for_ns);
    if (alarm->stops != NULL)
        io_timer_stop(the_io, &alarm->stops->timer);
    if (alarm->again > 0) {
        alarm->again--;
        alarm->armed_for_ns = io_now_ns(the_io) + MS;
        START(io_timer_arm(the_io, timer, alarm->armed_for_ns));
    }
}

static void alarm_arm(struct alarm *alarm, uint64_t in_ns)
{
    alarm->armed_for_ns = io_now_ns(the_io) + in_ns;
    START(io_timer_arm(the_io, &alarm->timer, alarm->armed_for_ns));
    assert_true(io_timer_is_armed(&alarm->timer));
}

static void alarms_init(struct alarm *alarms, size_t count)
{
    fired_total = 0;
    for (size_t i = 0; i < count; i++) {
        alarms[i] = (struct alarm){0};
        io_timer_init(&alarms[i].timer, on_alarm);
        assert_false(io_timer_is_armed(&alarms[i].timer));
    }
}

static void timers_fire_in_order_and_on_time(void **state)
{
    static const unsigned in_ms[] = {90, 10, 300, 30, 31, 1, 0, 270};
    static const unsigned place[] = {6, 3, 8, 4, 5, 2, 1, 7};
    struct alarm alarms[8];

    alarms_init(alarms, 8);
    for (unsigned i = 0; i < 8; i++)
        alarm_arm(&alarms[i], in_ms[i] * MS);
    run_until_count(&fired_total, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(alarms[i].fired, 1);
        assert_int_equal(alarms[i].place, place[i]);
        assert_in_range(alarms[i].fired_at_ns, alarms[i].armed_for_ns,
                        alarms[i].armed_for_ns + backend_lateness_ns());
    }
}

static void timer_moves_when_armed_again(void **state)
{
    struct alarm alarms[2];

    alarms_init(alarms, 2);
    alarm_arm(&alarms[0], 5 * MS);
    alarm_arm(&alarms[1], 60 * MS);
    alarm_arm(&alarms[0], 120 * MS);
    alarm_arm(&alarms[1], 20 * MS);
    run_until_count(&fired_total, 2);
    assert_int_equal(alarms[1].place, 1);
    assert_int_equal(alarms[0].place, 2);
    assert_int_equal(alarms[0].fired + alarms[1].fired, 2);
}

static void timer_stopped_does_not_fire(void **state)
{
    struct alarm alarms[2];

    alarms_init(alarms, 2);
    io_timer_stop(the_io, &alarms[0].timer);
    alarm_arm(&alarms[0], 5 * MS);
    alarm_arm(&alarms[1], 30 * MS);
    io_timer_stop(the_io, &alarms[0].timer);
    assert_false(io_timer_is_armed(&alarms[0].timer));
    run_until_count(&fired_total, 1);
    run_for_ms(5);
    assert_int_equal(alarms[0].fired, 0);
    assert_int_equal(alarms[1].fired, 1);
}

static void timer_stops_another_of_the_same_tick(void **state)
{
    struct alarm alarms[3];

    alarms_init(alarms, 3);
    alarms[0].stops = &alarms[1];
    for (unsigned i = 0; i < 3; i++)
        alarm_arm(&alarms[i], 10 * MS);
    run_until_count(&alarms[2].fired, 1);
    run_for_ms(5);
    assert_int_equal(alarms[0].fired, 1);
    assert_int_equal(alarms[1].fired, 0);
}

static void timer_arms_itself_again(void **state)
{
    struct alarm alarms[1];
    uint64_t start_ns = io_now_ns(the_io);

    alarms_init(alarms, 1);
    alarms[0].again = 9;
    alarm_arm(&alarms[0], MS);
    run_until_count(&alarms[0].fired, 10);
    run_for_ms(5);
    assert_int_equal(alarms[0].fired, 10);
    assert_true(alarms[0].fired_at_ns >= start_ns + 10 * MS);
}

static void clock_goes_forward(void **state)
{
    uint64_t now_ns = io_now_ns(the_io);

    /* Later than 2020. */
    assert_true(io_wall_us(the_io) > 1577836800ull * 1000000);
    for (unsigned i = 0; i < 20; i++) {
        run_for_ms(1);
        assert_true(io_now_ns(the_io) >= now_ns);
        now_ns = io_now_ns(the_io);
    }
}

struct worker {
    struct io_actor actor;
    uint64_t turns;
    uint64_t left;
};

static void worker_turn(struct io_actor *actor)
{
    struct worker *worker = container_of(actor, struct worker, actor);

    worker->turns++;
    if (worker->left > 0)
        worker->left--;
}

static bool worker_is_busy(struct io_actor *actor)
{
    return container_of(actor, struct worker, actor)->left > 0;
}

static void busy_actor_gets_turns_without_events(void **state)
{
    struct worker worker = {.actor = {.turn = worker_turn, .is_busy = worker_is_busy}};
    uint64_t begun_ns = io_now_ns(the_io);

    worker.left = 200;
    io_attach(the_io, &worker.actor);
    run_until_count(&worker.turns, 200);
    assert_int_equal(worker.left, 0);
    /* Had the loop slept a tick each turn, this would have taken as many. */
    assert_true(io_now_ns(the_io) - begun_ns < 200 * MS + backend_lateness_ns());
}

static void random_numbers_differ(void **state)
{
    assert_true(rng_u64(io_rng(the_io)) != rng_u64(io_rng(the_io)));
}

static void statistics_count_turns(void **state)
{
    struct io_stats before;
    struct io_stats after;

    io_stats_read(the_io, &before);
    run_for_ms(3);
    io_stats_read(the_io, &after);
    assert_true(after.turns > before.turns);
}

const struct CMUnitTest loop_tests[] = {
    WORLD_TEST(timers_fire_in_order_and_on_time),
    WORLD_TEST(timer_moves_when_armed_again),
    WORLD_TEST(timer_stopped_does_not_fire),
    WORLD_TEST(timer_stops_another_of_the_same_tick),
    WORLD_TEST(timer_arms_itself_again),
    WORLD_TEST(clock_goes_forward),
    WORLD_TEST(busy_actor_gets_turns_without_events),
    WORLD_TEST(random_numbers_differ),
    WORLD_TEST(statistics_count_turns),
};
const size_t loop_test_count = sizeof(loop_tests) / sizeof(loop_tests[0]);
