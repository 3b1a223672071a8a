/* Keywords that an operator sets for a time: in force at once, above the file, told, gone by
 * themselves, and kept over power cuts. Control is the real one on a simulated disk. */
#include "core/base/log.h"
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <stdio.h>
#include <stdlib.h>

static struct fixture f;
static char path[] = "/tmp/ringpost-overrides-XXXXXX";

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "total-max-smtp-in 500\n"
                           "total-max-smtp-out 1500\n"
                           "<spool /spool>\n</spool>\n"
                           "<virtual-mta v1>\nsmtp-source-host 192.0.2.1 a.example.com\n"
                           "<domain a.test>\nmax-smtp-out 4\n</domain>\n</virtual-mta>\n"
                           "<domain *>\nmax-smtp-out 7\nretry-after 5m\n</domain>\n"
                           "<smtp-pattern-list l1>\nreply /x/ mode=backoff\n"
                           "</smtp-pattern-list>\n"
                           "<domain handed.test>\nqueue-to a.test\n</domain>\n"
                           "<domain turned.test>\nreroute-to-virtual-mta p1\n</domain>\n"
                           "<virtual-mta-pool p1>\nvirtual-mta v1\n</virtual-mta-pool>\n";

static const char *ask_ok(const char *line)
{
    const char *answer = ask(&f, line);

    if (memcmp(answer, "ok\n", 3) != 0)
        fail_msg("%s: %s", line, answer);
    return answer;
}

static int open_fixture(void **state)
{
    fixture_open_with_file(&f, path, base);
    fixture_keep_history(&f, base);
    ask_ok("reload");
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    return 0;
}

static uint64_t max_out(const char *domain, const char *vmta)
{
    struct conf_queue queue;

    conf_queue(f.control->conf, slice_str(domain), conf_vmta_id(f.control->conf, slice_str(vmta)),
               &queue);
    return queue.max_smtp_out;
}

#define MINUTE_NS 60000000000ull

static void it_is_above_the_file_and_ends_by_itself(void **state)
{
    uint32_t stamp = f.shards[0].reload_stamp;

    assert_int_equal(max_out("a.test", "v1"), 4);
    assert_string_equal(
        ask_ok("override a.test/v1 max-smtp-out=2 --for 2h --reason \"they asked\""),
        "ok\nthe override is in force\n");
    assert_int_equal(f.shards[0].reload_stamp, stamp + 1);
    assert_int_equal(max_out("a.test", "v1"), 2);
    assert_int_equal(max_out("b.test", "v1"), 7);
    assert_int_equal(max_out("a.test", "{default}"), 7);
    sim_run_for(f.world, 119 * MINUTE_NS);
    assert_int_equal(max_out("a.test", "v1"), 2);
    sim_run_for(f.world, 2 * MINUTE_NS);
    assert_int_equal(max_out("a.test", "v1"), 4);
    assert_int_equal(f.shards[0].reload_stamp, stamp + 2);
    assert_null(strstr(ask_ok("show overrides --dom"), "override[0]"));
}

static void who_until_when_and_why_is_shown(void **state)
{
    const char *answer;

    ask_ok("override a.test/v1 max-smtp-out=2 --for=2h --reason=ticket");
    answer = ask_ok("show settings a.test/v1");
    assert_in(answer, "override 1 of uid 1000 until ");
    assert_in(answer, " UTC: ticket");
    answer = ask_ok("show overrides --dom");
    assert_in(answer, "override[0].queue=\"a.test/v1\"\noverride[0].keyword=\"max-smtp-out\"\n"
                      "override[0].value=\"2\"\n");
    assert_in(answer, "override[0].uid=\"1000\"\noverride[0].reason=\"ticket\"\n");
    assert_in(ask_ok("show overrides"), "ticket");
}

static void the_narrower_one_counts(void **state)
{
    ask_ok("override a.test/v1 max-smtp-out=1 --for=2h --reason=x");
    ask_ok("override */* max-smtp-out=30 --for=2h --reason=x");
    ask_ok("override */v1 max-smtp-out=20 --for=2h --reason=x");
    ask_ok("override b.test/* max-smtp-out=10 --for=2h --reason=x");
    assert_int_equal(max_out("a.test", "v1"), 1);
    assert_int_equal(max_out("b.test", "v1"), 10);
    assert_int_equal(max_out("c.test", "v1"), 20);
    assert_int_equal(max_out("c.test", "{default}"), 30);
    assert_string_equal(ask_ok("override */v1 --clear"), "ok\noverrides cleared\n");
    assert_int_equal(max_out("c.test", "v1"), 30);
    ask_ok("override */* max-smtp-out=31 --for=2h --reason=x");
    assert_int_equal(max_out("c.test", "v1"), 31);
    assert_null(strstr(ask_ok("show overrides --dom"), "override[3]"));
}

static void what_is_wrong_is_refused_and_changes_nothing(void **state)
{
    uint32_t stamp = f.shards[0].reload_stamp;

    assert_in(ask(&f, "override a.test/v1 max-smtp-ot=2 --for=2h --reason=x"),
              "did you mean \"max-smtp-out\"?");
    assert_in(ask(&f, "override a.test/v1 max-smtp-out=many --for=2h --reason=x"),
              "max-smtp-out: ");
    assert_in(ask(&f, "override a.test/v9 max-smtp-out=2 --for=2h --reason=x"),
              "there is no virtual MTA \"v9\"");
    assert_in(ask(&f, "override a.test/p1 max-smtp-out=2 --for=2h --reason=x"),
              "\"p1\" is a pool: name one of its virtual MTAs, or * for all\n");
    assert_in(ask(&f, "override a.test/v1 smtp-pattern-list=l2 --for=2h --reason=x"),
              "there is no list \"l2\"");
    assert_in(ask(&f, "override a.test/v1 max-cold-virtual-mta-msg=5/h --for=2h --reason=x"),
              "\"5/h\" is no list of counts a day");
    assert_in(ask(&f, "override a.test/v1 queue-to=b.test --for=2h --reason=x"),
              "queue-to cannot be overridden");
    assert_in(ask(&f, "override a.test/v1 max-smtp-out=2 --for=2h"), "--reason=TEXT");
    assert_in(ask(&f, "override a.test/v1 --clear"), "there is none of that queue");
    sim_disk_script(f.world, SIM_DISK_WRITE, "overrides", 1, -28);
    assert_in(ask(&f, "override a.test/v1 max-smtp-out=2 --for=2h --reason=x"),
              "error the overrides are as they were\nthe list of overrides: ");
    assert_int_equal(f.shards[0].reload_stamp, stamp);
    assert_null(strstr(ask_ok("show overrides --dom"), "override[0]"));
}

/* A reload and a rollback keep it; where its virtual MTA went away, it waits without effect,
 * and is said to. */
/* What is set for a queue that hands its mail on has effect on none, which is told. */
static void a_queue_whose_mail_is_elsewhere_is_warned_of(void **state)
{
    assert_string_equal(ask_ok("override handed.test/v1 max-smtp-out=2 --for=2h --reason=x"),
                        "ok\nthe mail of handed.test/v1 is in a.test/v1, override that one\n"
                        "the override is in force\n");
    assert_in(ask_ok("override turned.test/{default} max-smtp-out=2 --for=2h --reason=x"),
              "the mail of turned.test/{default} is in several queues by turns, one of them "
              "turned.test/v1, override that one\n");
    assert_null(
        strstr(ask_ok("override handed.test/* max-smtp-out=2 --for=2h --reason=x"), "the mail of"));
    assert_null(
        strstr(ask_ok("override a.test/v1 max-smtp-out=2 --for=2h --reason=x"), "the mail of"));
    assert_null(strstr(ask_ok("override handed.test/v1 --clear"), "the mail of"));
}

static void late_answers_name_their_verb(void **state)
{
    f.shards[2].is_silent = true;
    assert_in(ask(&f, "override a.test/v1 max-smtp-out=2 --for=2h --reason=x"),
              "error override: it goes on, but not every shard has taken the new configuration in "
              "time\n");
    f.shards[2].is_silent = false;
    answer_kept(&f.shards[2]);
    sim_run_for(f.world, 1000000000ull);
    assert_int_equal(max_out("a.test", "v1"), 2);
}

static void it_outlives_reloads(void **state)
{
    const char *answer;

    ask_ok("override */v1 smtp-pattern-list=l1 --for=2h --reason=x");
    ask_ok("override a.test/* max-smtp-out=9 --for=2h --reason=x");
    fixture_write_file("host-name mail.example.com\ncontrol-socket /run/control.sock\n"
                       "total-max-smtp-in 500\ntotal-max-smtp-out 1500\n<spool /spool>\n</spool>\n",
                       "");
    answer = ask_ok("reload");
    assert_in(answer, "override 1 of uid 1000 until ");
    assert_in(answer, " UTC: x: has no effect: ");
    assert_null(strstr(answer, "override 2 of"));
    assert_int_equal(max_out("a.test", "{default}"), 9);
    answer = ask_ok("show overrides --dom");
    assert_in(answer, "override[0].queue=\"*/v1\"");
    assert_in(answer, "override[0].effect=\"none\"");
    assert_in(answer, "override[1].effect=\"yes\"");
    assert_null(strstr(ask_ok("config rollback 1"), "has no effect"));
    assert_int_equal(max_out("a.test", "v1"), 9);
    assert_in(ask_ok("show overrides --dom"), "override[0].effect=\"yes\"");
    fixture_write_file(base, "");
}

/* ---- On disk --------------------------------------------------------------------------------- */

static struct sim_world *world;
static struct sim_process *process;
static struct io *io;
static struct overrides list;

static void begin_life(void)
{
    process = sim_process_create(world);
    sim_io_create(world, process, &io);
    sim_enter(process);
    io_dir_create(io, "/spool");
    io_dir_sync(io, "/");
    overrides_open(&list, io, "/spool");
    sim_leave(process);
}

static void forget_process(void *context)
{
    process = NULL;
}

static void add_one(void *context)
{
    struct override override = {.uid = 7, .since_us = 5, .until_us = UINT64_MAX};

    snprintf(override.domain, sizeof(override.domain), "d%u.test", list.last_number);
    snprintf(override.vmta, sizeof(override.vmta), "*");
    snprintf(override.keyword, sizeof(override.keyword), "max-smtp-out");
    snprintf(override.value, sizeof(override.value), "%u", list.last_number + 1);
    snprintf(override.reason, sizeof(override.reason), "a reason = with, signs");
    if (list.count > 20)
        overrides_clear(&list, list.items[0]->domain, "*", "");
    assert_int_equal(overrides_add(&list, &override), 0);
    *(int *)context = overrides_store(&list);
}

/* Power fails just before each disk call: the former list is there, or the new one. */
static void a_power_cut_leaves_a_whole_list(void **state)
{
    struct sim_options options = {0};
    uint32_t lasting = 0, lost = 0;

    world = sim_world_create(4, &options);
    for (uint64_t nth = 0; nth < 60; nth++) {
        uint32_t before;
        int result = -1;

        begin_life();
        before = list.last_number;
        sim_crash_after(process, SIM_POWER_CUT, 1 + nth % 9, forget_process, NULL);
        sim_run_in(process, add_one, &result);
        if (process != NULL)
            sim_crash(world, process, SIM_POWER_CUT);
        begin_life();
        assert_true(list.last_number == before + 1 || (result != 0 && list.last_number == before));
        if (list.count > 0) {
            const struct override *last = list.items[list.count - 1];

            assert_int_equal(last->number, list.last_number);
            assert_int_equal(atoi(last->value), (int)last->number);
            assert_string_equal(last->reason, "a reason = with, signs");
        }
        lasting += list.last_number > before;
        lost += list.last_number == before;
        sim_crash(world, process, SIM_KILL);
    }
    assert_true(lasting >= 5 && lost >= 5);
    sim_world_destroy(world);
}

#define VERBS_OF(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERBS_OF(it_is_above_the_file_and_ends_by_itself),
        VERBS_OF(who_until_when_and_why_is_shown),
        VERBS_OF(the_narrower_one_counts),
        VERBS_OF(what_is_wrong_is_refused_and_changes_nothing),
        VERBS_OF(a_queue_whose_mail_is_elsewhere_is_warned_of),
        VERBS_OF(late_answers_name_their_verb),
        VERBS_OF(it_outlives_reloads),
        cmocka_unit_test(a_power_cut_leaves_a_whole_list),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
