/* How many connections a lane gets, against receivers that are a few lines of arithmetic. */
#include "shard/policy/demand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MS              1000000ull
#define CONNECTIONS_MAX 4096

/* One lane and its receiver. A connection takes reply_ns for a message; `per_second` is the most
 * that all connections together get through (0 = no bound). */
struct stage {
    struct demand demand;
    uint64_t now_ns;
    uint64_t reply_ns;
    uint64_t setup_ns;
    uint64_t per_second;
    uint64_t backlog;
    uint64_t arrivals_per_second;
    double arrival_due;
    uint64_t free_at_ns; /* when the shared bottleneck can take the next message */
    uint32_t limit;      /* what other rules allow */
    uint32_t open;
    uint32_t connecting;
    uint32_t open_max;
    uint64_t served;
    uint64_t look_ns; /* the next look at the silence before the first answer; 0 = none begun */
    uint64_t done_ns[CONNECTIONS_MAX]; /* 0 = idle */
    uint64_t start_ns[CONNECTIONS_MAX];
    uint64_t ready_ns[CONNECTIONS_MAX]; /* 0 = ready */
};

static void stage_init(struct stage *stage)
{
    *stage = (struct stage){.now_ns = 1000 * MS, .limit = CONNECTIONS_MAX};
    demand_init(&stage->demand);
}

static void close_last(struct stage *stage, uint32_t index)
{
    stage->open--;
    stage->done_ns[index] = stage->done_ns[stage->open];
    stage->start_ns[index] = stage->start_ns[stage->open];
    stage->ready_ns[index] = stage->ready_ns[stage->open];
}

static void give_work(struct stage *stage, uint32_t index)
{
    uint64_t begin_ns = stage->now_ns;

    stage->backlog--;
    stage->start_ns[index] = stage->now_ns;
    if (stage->look_ns == 0)
        stage->look_ns = stage->now_ns + DEMAND_SLOW_MS * MS;
    if (stage->per_second > 0) {
        if (stage->free_at_ns > begin_ns)
            begin_ns = stage->free_at_ns;
        stage->free_at_ns = begin_ns + 1000000000ull / stage->per_second;
        begin_ns = stage->free_at_ns;
    }
    stage->done_ns[index] = begin_ns + stage->reply_ns;
}

static void finish(struct stage *stage)
{
    for (uint32_t i = 0; i < stage->open; i++) {
        if (stage->ready_ns[i] != 0 && stage->ready_ns[i] <= stage->now_ns) {
            stage->ready_ns[i] = 0;
            stage->connecting--;
            demand_on_connected(&stage->demand, stage->setup_ns);
        }
        if (stage->done_ns[i] == 0 || stage->done_ns[i] > stage->now_ns)
            continue;
        demand_on_served(&stage->demand, stage->start_ns[i], stage->now_ns, 1);
        stage->served++;
        stage->done_ns[i] = 0;
        if (demand_is_surplus(&stage->demand, stage->open))
            close_last(stage, i--);
    }
}

static void serve(struct stage *stage)
{
    uint32_t idle = 0;

    for (uint32_t i = 0; i < stage->open; i++) {
        if (stage->ready_ns[i] != 0 || stage->done_ns[i] != 0)
            continue;
        if (stage->backlog > 0)
            give_work(stage, i);
        else
            idle++;
    }
    if (idle > 0)
        demand_on_idle(&stage->demand);
    while (idle == 0 && stage->backlog > 0 && stage->open < stage->limit) {
        uint32_t needed =
            demand_backlog_needed(&stage->demand, stage->now_ns, stage->open, stage->connecting);

        if (needed == UINT32_MAX || stage->backlog < needed ||
            !demand_may_open(&stage->demand, stage->now_ns, stage->open, stage->connecting))
            break;
        stage->ready_ns[stage->open] = stage->now_ns + stage->setup_ns;
        stage->done_ns[stage->open++] = 0;
        stage->connecting++;
    }
    if (stage->open > stage->open_max)
        stage->open_max = stage->open;
}

static void run(struct stage *stage, uint64_t ms)
{
    uint64_t end_ns = stage->now_ns + ms * MS;

    for (; stage->now_ns < end_ns; stage->now_ns += MS / 10) {
        stage->arrival_due += (double)stage->arrivals_per_second / 10000;
        while (stage->arrival_due >= 1) {
            stage->arrival_due -= 1;
            stage->backlog++;
        }
        finish(stage);
        if (stage->look_ns != 0 && stage->served == 0 && stage->now_ns >= stage->look_ns) {
            demand_on_silence(&stage->demand);
            stage->look_ns += DEMAND_SLOW_MS * MS;
        }
        serve(stage);
    }
}

/* Replies that take 200 ms, three to a message: all that other rules allow, in a few seconds. */
static void test_slow_receiver_gets_all_there_is(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 600 * MS;
    stage.setup_ns = 600 * MS;
    stage.limit = 1000;
    stage.backlog = 1000000;
    run(&stage, 8000);
    assert_int_equal(stage.open, 1000);
}

/* It greets at once and is slow for messages only: the first reply tells. */
static void test_slow_after_a_fast_greeting(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 600 * MS;
    stage.setup_ns = 1 * MS;
    stage.limit = 1000;
    stage.backlog = 1000000;
    run(&stage, 1500);
    assert_int_equal(stage.open, 1000);
}

/* Until that reply the silence speaks: connections double with each DEMAND_SLOW_MS of it. */
static void test_silence_is_an_answer(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 5000 * MS;
    stage.setup_ns = 1 * MS;
    stage.limit = 1000;
    stage.backlog = 1000000;
    run(&stage, 40);
    assert_int_equal(stage.open, DEMAND_START);
    run(&stage, 50);
    assert_int_equal(stage.open, 2 * DEMAND_START);
    run(&stage, 200);
    assert_int_equal(stage.open, DEMAND_SILENT_MAX);
    run(&stage, 4000);
    assert_int_equal(stage.open, DEMAND_SILENT_MAX);
    assert_int_equal(stage.served, 0);
    run(&stage, 7000);
    assert_int_equal(stage.open, 1000);
}

/* No more of them than messages, and a limit is a limit. */
static void test_silence_asks_for_no_more_than_there_is(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 5000 * MS;
    stage.setup_ns = 1 * MS;
    stage.backlog = 12;
    run(&stage, 1000);
    assert_int_equal(stage.open, 12);
    stage_init(&stage);
    stage.reply_ns = 5000 * MS;
    stage.setup_ns = 1 * MS;
    stage.backlog = 1000000;
    stage.limit = 7;
    run(&stage, 1000);
    assert_int_equal(stage.open, 7);
}

/* The first answer was late, and then it is quick: what was opened on credit goes again. */
static void test_what_silence_opened_goes_again(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 300 * MS;
    stage.setup_ns = 1 * MS;
    stage.backlog = 1000000;
    run(&stage, 299);
    assert_int_equal(stage.open, DEMAND_SILENT_MAX);
    stage.reply_ns = MS / 10;
    stage.per_second = 2000;
    run(&stage, 1000);
    assert_in_range(stage.open, 2, 4);
    assert_int_equal(stage.open_max, DEMAND_SILENT_MAX);
    run(&stage, 19000);
    assert_int_equal(stage.open_max, DEMAND_SILENT_MAX);
    assert_true(stage.served > 18 * 2000);
}

/* A slow receiver with little mail gets no more connections than messages. */
static void test_slow_receiver_with_little_mail(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 600 * MS;
    stage.setup_ns = 600 * MS;
    stage.backlog = 5;
    run(&stage, 5000);
    assert_int_equal(stage.served, 5);
    assert_in_range(stage.open_max, 1, 5);
}

/* One that answers at once and works no faster for more connections keeps few, whatever waits. */
static void test_shared_bottleneck_keeps_few(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = MS / 10;
    stage.setup_ns = 1 * MS;
    stage.per_second = 2000;
    stage.backlog = 1000000;
    run(&stage, 20000);
    assert_in_range(stage.open_max, 2, 4);
    assert_true(stage.served > 19 * 2000);
}

/* Fast replies, no bottleneck: connections grow while each brings its share. */
static void test_fast_receiver_grows_while_it_pays(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 10 * MS;
    stage.setup_ns = 10 * MS;
    stage.per_second = 3000;
    stage.backlog = 1000000;
    run(&stage, 5000);
    /* 3,000 a second of 10 ms each keep 30 busy; the trial of 64 does not pay. */
    assert_in_range(stage.open, 30, 32);
    assert_in_range(stage.open_max, 32, 64);
}

/* What arrives is served by few; nothing waits for long. */
static void test_light_load_needs_no_more(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 1 * MS;
    stage.setup_ns = 3 * MS;
    stage.arrivals_per_second = 800;
    run(&stage, 5000);
    assert_in_range(stage.open_max, 1, 2);
    assert_in_range(stage.backlog, 0, 20);
}

/* Growing load is followed, and what waits stays below what is cleared in DEMAND_CLEAR_MS. */
static void test_load_is_followed(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 30 * MS;
    stage.setup_ns = 60 * MS;
    stage.arrivals_per_second = 1000;
    run(&stage, 10000);
    assert_in_range(stage.open, 30, 100);
    assert_in_range(stage.backlog, 0, 1000 * 2 * DEMAND_CLEAR_MS / 1000);
}

/* A stall of our own for half a second is not taken for a slow receiver. */
static void test_a_stall_changes_nothing(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = MS / 10;
    stage.setup_ns = 1 * MS;
    stage.per_second = 2000;
    stage.backlog = 1000000;
    for (int i = 0; i < 10; i++) {
        run(&stage, 1000);
        stage.now_ns += 500 * MS;
    }
    assert_in_range(stage.open_max, 2, 4);
}

/* After a failure one connection at a time, until one comes up. */
static void test_failure_closes_the_window(void **state)
{
    struct demand demand;

    (void)state;
    demand_init(&demand);
    demand_on_connected(&demand, 600 * MS);
    assert_int_not_equal(demand_backlog_needed(&demand, MS, 4, 2), UINT32_MAX);
    assert_int_equal(demand_backlog_needed(&demand, MS, 4, 3), UINT32_MAX);
    demand_on_connect_failed(&demand);
    assert_int_equal(demand_backlog_needed(&demand, MS, 4, 3), UINT32_MAX);
    assert_int_equal(demand_backlog_needed(&demand, MS, 4, 1), UINT32_MAX);
    assert_int_not_equal(demand_backlog_needed(&demand, MS, 4, 0), UINT32_MAX);
    demand_on_connected(&demand, 600 * MS);
    assert_int_not_equal(demand_backlog_needed(&demand, MS, 4, 1), UINT32_MAX);
}

/* The way back after an outage: one connection, and twice as many with each round that came up. */
static void test_after_a_failure_connections_double(void **state)
{
    static struct stage stage;

    (void)state;
    stage_init(&stage);
    stage.reply_ns = 100 * 1000 * MS;
    stage.setup_ns = 600 * MS;
    stage.limit = 1000;
    stage.backlog = 1000000;
    demand_on_connect_failed(&stage.demand);
    run(&stage, 300);
    for (uint32_t opening = 1; stage.open < stage.limit; opening *= 2) {
        uint32_t all = 2 * opening - 1; /* this round's, and those of all before it */

        assert_int_equal(stage.open, all < stage.limit ? all : stage.limit);
        run(&stage, 601);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slow_receiver_gets_all_there_is),
        cmocka_unit_test(test_slow_after_a_fast_greeting),
        cmocka_unit_test(test_silence_is_an_answer),
        cmocka_unit_test(test_silence_asks_for_no_more_than_there_is),
        cmocka_unit_test(test_what_silence_opened_goes_again),
        cmocka_unit_test(test_slow_receiver_with_little_mail),
        cmocka_unit_test(test_shared_bottleneck_keeps_few),
        cmocka_unit_test(test_fast_receiver_grows_while_it_pays),
        cmocka_unit_test(test_light_load_needs_no_more),
        cmocka_unit_test(test_load_is_followed),
        cmocka_unit_test(test_a_stall_changes_nothing),
        cmocka_unit_test(test_failure_closes_the_window),
        cmocka_unit_test(test_after_a_failure_connections_double),
    };

    return cmocka_run_group_tests_name("shard demand", tests, NULL, NULL);
}
