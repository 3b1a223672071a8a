/* Whole runs over loopback, small ones. */
#include "bench/process.h"
#include "bench/scenario.h"
#include "tests/unit/core_base/unit.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <string.h>

enum { MESSAGES = 2000 };

/* A directory of the test's own, so that what is left behind shows. */
static char spool[] = "/tmp/bench-runs-XXXXXX";

static struct scenario small(enum relay_kind relay)
{
    struct scenario scenario;

    scenario_init(&scenario);
    scenario.relay = relay;
    scenario.spool = spool;
    scenario.warmup = 500;
    scenario.gen.messages = MESSAGES;
    scenario.gen.sessions = 20;
    scenario.sink.check_body = true;
    scenario.patience_s = 2;
    return scenario;
}

static void assert_nothing_left(void)
{
    DIR *dir = opendir(spool);
    struct dirent *entry;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        assert_int_equal(entry->d_name[0], '.');
    closedir(dir);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static struct figures run(const struct scenario *scenario)
{
    struct figures figures;

    assert_int_equal(scenario_run(scenario, &figures), 0);
    assert_nothing_left();
    return figures;
}

static void assert_all_arrived(const struct figures *figures, double recipients)
{
    assert_true(figures->of[FIGURE_arrived] == recipients);
    assert_true(figures->of[FIGURE_lost] == 0);
    assert_true(figures->of[FIGURE_duplicates] == 0);
    assert_true(figures->of[FIGURE_damaged] == 0);
    assert_true(figures->of[FIGURE_rate] > 0);
    assert_true(figures->of[FIGURE_max_ms] >= figures->of[FIGURE_p50_ms]);
}

static void straight_into_the_sink(void **state)
{
    static const enum gen_pipelining ways[] = {GEN_LOCKSTEP, GEN_ENVELOPE, GEN_FULL};

    for (int i = 0; i < 3; i++) {
        struct scenario scenario = small(RELAY_NONE);
        struct figures figures;

        scenario.gen.pipelining = ways[i];
        scenario.gen.rcpts = (uint64_t)i + 1;
        scenario.gen.dots = true;
        scenario.sink_workers = (uint64_t)i + 1;
        figures = run(&scenario);
        assert_all_arrived(&figures, MESSAGES * (i + 1.0));
        assert_true(isnan(figures.of[FIGURE_relay_cpu_us]));
    }
}

static void through_the_bare_relay(void **state)
{
    static const enum gen_pipelining ways[] = {GEN_LOCKSTEP, GEN_ENVELOPE, GEN_FULL};

    for (int i = 0; i < 3; i++) {
        struct scenario scenario = small(RELAY_FLOOR);
        struct figures figures;

        scenario.gen.pipelining = ways[i];
        scenario.gen.rcpts = (uint64_t)i + 1;
        scenario.gen.dots = true;
        /* Beyond one receive buffer, and beyond the smallest memory class. */
        scenario.gen.sizes[0] = (struct gen_size){2048, 9};
        scenario.gen.sizes[1] = (struct gen_size){100000, 1};
        scenario.gen.size_count = 2;
        figures = run(&scenario);
        assert_all_arrived(&figures, MESSAGES * (i + 1.0));
        assert_true(figures.of[FIGURE_relay_calls] > 0);
    }
}

/* Every 500th record of warm-up and run together is lost: 1 in the warm-up, 4 in the run. */
static void a_loss_is_seen(void **state)
{
    struct scenario scenario = small(RELAY_NONE);
    struct figures figures;

    scenario.sink.lose_every = 500;
    scenario.patience_s = 0.3;
    figures = run(&scenario);
    assert_true(figures.of[FIGURE_lost] == 4);
    assert_true(figures.of[FIGURE_duplicates] == 0);
    assert_true(figures.of[FIGURE_arrived] == MESSAGES - 4);
}

static void a_duplicate_is_seen(void **state)
{
    struct scenario scenario = small(RELAY_FLOOR);
    struct figures figures;

    scenario.sink.double_every = 250;
    figures = run(&scenario);
    assert_true(figures.of[FIGURE_lost] == 0);
    assert_true(figures.of[FIGURE_duplicates] == 8);
    assert_true(figures.of[FIGURE_arrived] == MESSAGES);
}

/* Refusals of every kind, straight at the generator: it repeats what was put off. */
static void refusals_are_told_from_losses(void **state)
{
    static const char *const rules[] = {
        "mail every=50 451 4.3.0 Not now",       "rcpt to=*@d7.test 550 5.1.1 No such user",
        "rcpt every=90 452 4.2.2 Full",          "data every=120 451 4.3.0 Not now",
        "dot every=70 450 4.3.0 Not now",        "mail messages=40 421 4.7.0 Enough",
        "dot every=400 554 5.6.0 Not like this",
    };
    static const enum gen_pipelining ways[] = {GEN_LOCKSTEP, GEN_ENVELOPE, GEN_FULL};

    for (int i = 0; i < 3; i++) {
        struct scenario scenario = small(RELAY_NONE);
        struct figures figures;

        scenario.warmup = 0;
        scenario.gen.pipelining = ways[i];
        scenario.gen.domains = 10;
        scenario.sink.rules = rules;
        scenario.sink.rule_count = sizeof(rules) / sizeof(rules[0]);
        figures = run(&scenario);
        assert_true(figures.of[FIGURE_lost] == 0);
        assert_true(figures.of[FIGURE_duplicates] == 0);
        /* All but a tenth, and the few whose content was refused. */
        assert_in_range((int)figures.of[FIGURE_arrived], MESSAGES * 9 / 10 - 10,
                        MESSAGES * 9 / 10 - 1);
        assert_true(figures.of[FIGURE_deferrals] > 50);
    }
}

/* Connections that die at every stage; the generator goes on, and nothing it was promised is
 * missing. A dot whose connection died leaves the message in doubt, never lost. */
static void dying_connections(void **state)
{
    static const char *const rules[] = {
        "connect every=9 drop", "ehlo every=11 reset", "mail every=300 drop",
        "rcpt every=310 reset", "data every=320 drop", "dot every=150 drop",
    };
    struct scenario scenario = small(RELAY_NONE);
    struct figures figures;

    scenario.warmup = 0;
    scenario.gen.survive = true;
    scenario.gen.pipelining = GEN_FULL;
    scenario.sink.rules = rules;
    scenario.sink.rule_count = sizeof(rules) / sizeof(rules[0]);
    figures = run(&scenario);
    assert_true(figures.of[FIGURE_lost] == 0);
    assert_true(figures.of[FIGURE_duplicates] == 0);
    assert_in_range((int)figures.of[FIGURE_messages], MESSAGES - 50, MESSAGES - 5);
    assert_true(figures.of[FIGURE_arrived] >= figures.of[FIGURE_messages]);
    assert_true(figures.of[FIGURE_arrived] < MESSAGES);
}

static void a_slow_receiver_is_felt(void **state)
{
    static const char *const rules[] = {"dot delay=30"};
    struct scenario scenario = small(RELAY_NONE);
    struct figures figures;

    scenario.warmup = 0;
    scenario.gen.messages = 200;
    scenario.sink.rules = rules;
    scenario.sink.rule_count = 1;
    figures = run(&scenario);
    assert_all_arrived(&figures, 200);
    assert_true(figures.of[FIGURE_p50_ms] >= 30);
    /* 20 sessions with 30 ms each are at most 667 a second; an open loop of twice as much must
     * show the waiting that a closed loop hides. */
    scenario.gen.rate = 1300;
    scenario.gen.messages = 600;
    figures = run(&scenario);
    assert_all_arrived(&figures, 600);
    assert_true(figures.of[FIGURE_max_ms] >= 300);
    assert_true(figures.of[FIGURE_p50_ms] >= 150);
}

static void a_run_has_a_limit(void **state)
{
    static const char *const rules[] = {"dot delay=200"};
    struct scenario scenario = small(RELAY_NONE);
    struct figures figures;

    scenario.sink.rules = rules;
    scenario.sink.rule_count = 1;
    scenario.limit_s = 0.5;
    assert_int_equal(scenario_run(&scenario, &figures), -ETIMEDOUT);
    assert_nothing_left();
}

static void a_relay_that_cannot_start_is_an_error(void **state)
{
    struct scenario scenario = small(RELAY_DAEMON);
    struct figures figures;

    scenario.daemon = "/nonexistent/ringpostd";
    assert_true(scenario_run(&scenario, &figures) < 0);
    assert_nothing_left();
    scenario.daemon = "/bin/false";
    assert_true(scenario_run(&scenario, &figures) < 0);
    assert_nothing_left();
}

static int make_spool(void **state)
{
    process_init();
    return mkdtemp(spool) == NULL;
}

static int remove_spool(void **state)
{
    return rmdir(spool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(straight_into_the_sink),
        cmocka_unit_test(through_the_bare_relay),
        cmocka_unit_test(a_loss_is_seen),
        cmocka_unit_test(a_duplicate_is_seen),
        cmocka_unit_test(refusals_are_told_from_losses),
        cmocka_unit_test(dying_connections),
        cmocka_unit_test(a_slow_receiver_is_felt),
        cmocka_unit_test(a_run_has_a_limit),
        cmocka_unit_test(a_relay_that_cannot_start_is_an_error),
    };

    return cmocka_run_group_tests(tests, make_spool, remove_spool);
}
