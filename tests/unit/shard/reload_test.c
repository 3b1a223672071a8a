/* A reload as control does it: the file, the shards' acknowledgements, who waits for them. The file
 * is a real one; shards are the test's. */
#include "core/base/log.h"
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <stdio.h>
#include <unistd.h>

static struct fixture f;
static char path[] = "/tmp/ringpost-reload-XXXXXX";

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "total-max-smtp-in 500\n"
                           "total-max-smtp-out 1500\n"
                           "<spool /spool>\n</spool>\n";

static int open_fixture(void **state)
{
    fixture_open_with_file(&f, path, base);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    return 0;
}

static bool is_in(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static void every_shard_takes_it_and_the_old_one_is_freed(void **state)
{
    fixture_write_file(base, "<domain *>\n max-smtp-out 3\n</domain>\n");
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    for (int i = 0; i < FAKE_SHARDS; i++)
        assert_int_equal(f.shards[i].reload_stamp, 1);
    /* The first one is held by the fixture too. */
    assert_int_equal(conf_live_count(), 2);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    assert_int_equal(f.shards[0].reload_stamp, 2);
    assert_int_equal(conf_live_count(), 2);
}

static void what_runs_is_what_status_shows(void **state)
{
    fixture_write_file(base, "total-max-smtp-out 77\nhost-name ignored.example.com\n");
    ask(&f, "reload");
    assert_true(is_in(ask(&f, "show status --dom"), "smtpOut.max=\"77\""));
    assert_true(is_in(ask(&f, "show status --dom"), "configuration.reloads=\"1\""));
}

static void a_bad_file_changes_nothing(void **state)
{
    char line[64];
    const char *answer;

    fixture_write_file(base, "max-smtp-outt 5\n<domain x.test>\n max-smtp-out many\n</domain>\n");
    answer = ask(&f, "reload");
    assert_memory_equal(answer, "error the configuration is not reloaded\n", 40);
    snprintf(line, sizeof(line), "%s:7: ", path);
    assert_true(is_in(answer, line));
    snprintf(line, sizeof(line), "%s:9: ", path);
    assert_true(is_in(answer, line));
    assert_true(is_in(answer, "\nthe running configuration stays in force\n"));
    assert_int_equal(f.shards[0].reload_stamp, 0);
    assert_int_equal(conf_live_count(), 1);
    assert_true(is_in(ask(&f, "reload --json"), "\"status\":\"error\""));
    assert_true(is_in(ask(&f, "show status --dom"), "configuration.refused=\"2\""));
}

static void a_missing_file_changes_nothing(void **state)
{
    assert_int_equal(unlink(path), 0);
    assert_memory_equal(ask(&f, "reload"), "error ", 6);
    assert_int_equal(f.shards[0].reload_stamp, 0);
    fixture_write_file(base, "");
}

static void what_needs_a_restart_is_named_and_stays(void **state)
{
    const char *answer;

    fixture_write_file(base,
                       "shards 7\nsmtp-listener 127.0.0.1:2626\nname-server 127.0.0.9\n"
                       "<spool /elsewhere>\n</spool>\n<acct-file /acct/new.csv>\n</acct-file>\n");
    answer = ask(&f, "reload");
    assert_memory_equal(answer, "ok\n", 3);
    assert_true(is_in(answer, ": shards: a change counts after a restart"));
    assert_true(is_in(answer, ": smtp-listener: a change counts after a restart"));
    assert_true(is_in(answer, ": name-server: a change counts after a restart"));
    assert_true(is_in(answer, ": <spool>: a change counts after a restart"));
    assert_true(is_in(answer, ": <acct-file>: a change counts after a restart"));
    assert_int_equal(conf_global(f.control->conf)->shard_count, 0);
    assert_int_equal(conf_global(f.control->conf)->listeners[0].at.port, 25);
    assert_int_equal(conf_global(f.control->conf)->name_server_count, 0);
    assert_string_equal(conf_global(f.control->conf)->spools[0].path, "/spool");
    assert_int_equal(conf_acct_file_count(f.control->conf), 0);
}

static void the_old_one_lives_until_the_last_shard_has_let_go(void **state)
{
    struct operator_conn *conn;

    f.shards[1].is_silent = true;
    ask(&f, "show version");
    conn = operator_open(&f, OPERATOR_UID);
    operator_send(conn, "reload\n", 7);
    assert_false(operator_wait(conn, 5));
    assert_int_equal(conf_live_count(), 2);
    assert_int_equal(f.shards[1].reload_stamp, 1);
    assert_string_equal(ask(&f, "reload"), "error reload: another one is under way, try again\n");
    f.shards[1].is_silent = false;
    answer_kept(&f.shards[1]);
    assert_true(operator_wait(conn, 5));
    assert_string_equal(conn->answer, "ok\nconfiguration reloaded\n");
    operator_free(conn);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    assert_int_equal(conf_live_count(), 2);
}

static void who_waits_too_long_is_told(void **state)
{
    f.shards[2].is_silent = true;
    assert_true(is_in(ask(&f, "reload"), "error reload: it goes on"));
    f.shards[2].is_silent = false;
    answer_kept(&f.shards[2]);
    sim_run_for(f.world, 1000000000ull);
    assert_true(is_in(ask(&f, "show status --dom"), "configuration.reloads=\"1\""));
}

static void who_leaves_does_not_take_the_reload_along(void **state)
{
    struct operator_conn *conn = operator_open(&f, OPERATOR_UID);

    f.shards[0].is_silent = true;
    operator_send(conn, "reload\n", 7);
    sim_run_for(f.world, 1000000000ull);
    operator_drop(conn);
    sim_run_for(f.world, 100000000000ull);
    f.shards[0].is_silent = false;
    answer_kept(&f.shards[0]);
    sim_run_for(f.world, 1000000000ull);
    operator_free(conn);
    assert_true(is_in(ask(&f, "show status --dom"), "configuration.reloads=\"1\""));
}

static void signal_reload(void *context)
{
    control_reload(f.control);
}

static void a_signal_meanwhile_reads_the_file_once_more(void **state)
{
    f.shards[0].is_silent = true;
    sim_run_in(f.daemon, signal_reload, NULL);
    sim_run_in(f.daemon, signal_reload, NULL);
    sim_run_in(f.daemon, signal_reload, NULL);
    sim_run_for(f.world, 1000000000ull);
    assert_int_equal(f.shards[0].reload_stamp, 1);
    fixture_write_file(base, "total-max-smtp-out 78\n");
    f.shards[0].is_silent = false;
    answer_kept(&f.shards[0]);
    sim_run_for(f.world, 1000000000ull);
    assert_int_equal(f.shards[0].reload_stamp, 2);
    assert_true(is_in(ask(&f, "show status --dom"), "smtpOut.max=\"78\""));
}

#define RELOADS(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        RELOADS(every_shard_takes_it_and_the_old_one_is_freed),
        RELOADS(what_runs_is_what_status_shows),
        RELOADS(a_bad_file_changes_nothing),
        RELOADS(a_missing_file_changes_nothing),
        RELOADS(what_needs_a_restart_is_named_and_stays),
        RELOADS(the_old_one_lives_until_the_last_shard_has_let_go),
        RELOADS(who_waits_too_long_is_told),
        RELOADS(who_leaves_does_not_take_the_reload_along),
        RELOADS(a_signal_meanwhile_reads_the_file_once_more),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
