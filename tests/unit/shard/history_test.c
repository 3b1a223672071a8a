/* Configurations that were in force: kept over power cuts, listed, compared, applied again. Control
 * is the real one on a simulated disk; the configuration's own file lies on the machine. */
#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct fixture f;
static char path[] = "/tmp/ringpost-history-XXXXXX";

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "total-max-smtp-in 500\n"
                           "total-max-smtp-out 1500\n"
                           "<spool /spool>\n</spool>\n";

static int open_fixture(void **state)
{
    fixture_open_with_file(&f, path, base);
    fixture_keep_history(&f, base);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    return 0;
}

static void reload(const char *text)
{
    fixture_write_file(base, text);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
}

static uint64_t max_out(void)
{
    return conf_global(f.control->conf)->total_max_smtp_out;
}

/* ---- By verbs -------------------------------------------------------------------------------- */

static void each_text_in_force_is_kept_with_who_and_when(void **state)
{
    const char *answer;

    reload("total-max-smtp-out 77\n");
    reload("total-max-smtp-out 77\n");
    reload("total-max-smtp-out 78\n");
    answer = ask(&f, "config history --dom");
    assert_in(answer, "configuration[0].number=\"3\"\nconfiguration[0].inForce=\"true\"\n");
    assert_in(answer, "configuration[0].uid=\"1000\"\nconfiguration[0].cause=\"reload\"\n");
    assert_in(answer, "configuration[2].number=\"1\"\nconfiguration[2].inForce=\"false\"\n");
    assert_in(answer, "configuration[2].cause=\"start\"\n");
    assert_null(strstr(answer, "configuration[3]"));
    assert_null(strstr(ask(&f, "config history --dom --maxitems=2"), "configuration[2]"));
    assert_in(ask(&f, "show status --dom"), "configuration.number=\"3\"\n");
}

static void a_refused_text_is_not_kept(void **state)
{
    fixture_write_file(base, "unheard-of 1\n");
    assert_memory_equal(ask(&f, "reload"), "error ", 6);
    assert_in(ask(&f, "config history --dom"), "configuration[0].number=\"1\"\n");
}

static void what_changed_is_told(void **state)
{
    reload("total-max-smtp-out 77\n");
    reload("total-max-smtp-out 78\n#two\n");
    assert_in(ask(&f, "config diff 1"), " </spool>\n+total-max-smtp-out 78\n+#two\n");
    assert_in(ask(&f, "config diff 1 2"), " </spool>\n+total-max-smtp-out 77\n");
    assert_string_equal(ask(&f, "config diff 3"), "ok\nboth are the same\n");
    fixture_write_file(base, "total-max-smtp-out 79\n");
    assert_in(ask(&f, "config diff"), "-total-max-smtp-out 78\n-#two\n"
                                      "+total-max-smtp-out 79\n");
    assert_in(ask(&f, "config show 2"), "total-max-smtp-out 77\n");
    assert_in(ask(&f, "config show"), "total-max-smtp-out 78\n");
    assert_string_equal(ask(&f, "config show 9"), "error configuration 9: not found\n");
    assert_string_equal(ask(&f, "config diff 1 9"), "error configuration 9: not found\n");
    /* A reload would change nothing then, rather than take all of it away. */
    assert_int_equal(unlink(path), 0);
    assert_in(ask(&f, "config diff"), "error config diff: /");
    assert_in(ask(&f, "config diff"), " cannot be read\n");
    fixture_write_file(base, "");
}

/* Without the end of its last line a text has the same lines, and is another one all the same. */
static void the_end_of_the_last_line_is_a_change(void **state)
{
    static const char wanted[] = "ok\nboth have the same lines; what differs is whether the last "
                                 "line of a file has an end, or a file that is empty\n";

    reload("total-max-smtp-out 77\n");
    reload("total-max-smtp-out 77");
    assert_string_equal(ask(&f, "config diff 2 3"), wanted);
    assert_string_equal(ask(&f, "config diff 3"), "ok\nboth are the same\n");
    assert_string_equal(ask(&f, "config diff"), "ok\nboth are the same\n");
    fixture_write_file(base, "total-max-smtp-out 77\n");
    assert_string_equal(ask(&f, "config diff"), wanted);
}

static void an_old_text_is_in_force_again(void **state)
{
    const char *answer;

    reload("total-max-smtp-out 77\n");
    reload("total-max-smtp-out 78\n");
    assert_in(ask(&f, "config rollback 2"), "ok\nconfiguration 2 is in force again");
    assert_int_equal(max_out(), 77);
    for (int i = 0; i < FAKE_SHARDS; i++)
        assert_int_equal(f.shards[i].reload_stamp, 3);
    answer = ask(&f, "config history --dom");
    assert_in(answer, "configuration[0].number=\"4\"\n");
    assert_in(answer, "configuration[0].cause=\"rollback\"\nconfiguration[0].of=\"2\"\n");
    /* The file was never touched. */
    assert_in(ask(&f, "config diff"), "-total-max-smtp-out 77\n+total-max-smtp-out 78\n");
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    assert_int_equal(max_out(), 78);
    assert_string_equal(ask(&f, "config rollback 9"), "error configuration 9: not found\n");
}

/* An old text has to pass as a new one has: what it names may be gone by now. */
static void an_old_text_that_does_not_load_changes_nothing(void **state)
{
    char list[] = "/tmp/ringpost-list-XXXXXX", text[128];
    int fd = mkstemp(list);

    assert_true(fd >= 0 && close(fd) == 0);
    snprintf(text, sizeof(text), "<address-list l>\naddress-file %s\n</address-list>\n", list);
    reload(text);
    reload("total-max-smtp-out 78\n");
    assert_int_equal(unlink(list), 0);
    assert_in(ask(&f, "config rollback 2"), "error the configuration is not reloaded\n");
    assert_int_equal(max_out(), 78);
    assert_in(ask(&f, "config history --dom"), "configuration[0].number=\"3\"\n");
}

static void included_texts_come_back_as_they_were(void **state)
{
    char part[sizeof(path) + 16], text[128];
    FILE *file;

    snprintf(part, sizeof(part), "%s.part-1", path);
    for (int i = 0; i < 2; i++) {
        file = fopen(part, "w");
        assert_non_null(file);
        fprintf(file, "total-max-smtp-out %d\n", 81 + i);
        fclose(file);
        snprintf(text, sizeof(text), "include %s.part-*\n", path);
        reload(text);
    }
    assert_int_equal(unlink(part), 0);
    assert_in(ask(&f, "config diff 2 3"), "-total-max-smtp-out 81\n+total-max-smtp-out 82\n");
    assert_in(ask(&f, "config rollback 2"), "ok\n");
    assert_int_equal(max_out(), 81);
    assert_in(ask(&f, "config show 2"), ".part-1\ntotal-max-smtp-out 81\n");
}

static void a_full_disk_does_not_hold_a_reload_up(void **state)
{
    sim_disk_script(f.world, SIM_DISK_WRITE, "configurations", 1, -ENOSPC);
    fixture_write_file(base, "total-max-smtp-out 77\n");
    assert_in(ask(&f, "reload"), "the configuration's history: ");
    assert_int_equal(max_out(), 77);
    reload("total-max-smtp-out 78\n");
    assert_in(ask(&f, "config history --dom"), "configuration[0].number=\"2\"\n");
    assert_in(ask(&f, "config diff 1"), "+total-max-smtp-out 78\n");
}

/* Half of them broken: heap and descriptors are counted, to the block. */
static void a_thousand_reloads_leak_nothing(void **state)
{
    uint64_t bytes = 0, blocks = 0;
    uint32_t descriptors = 0;
    char text[64];

    for (int i = 0; i < 1200; i++) {
        if (i == 200) {
            sim_run_for(f.world, 1000000000ull);
            bytes = sim_mem_bytes(f.daemon);
            blocks = sim_mem_blocks(f.daemon);
            descriptors = sim_fd_count(f.daemon);
        }
        snprintf(text, sizeof(text), "total-max-smtp-out %d\n%s", 10 + i % 5,
                 i % 2 == 0 ? "unheard-of 1\n" : "");
        fixture_write_file(base, text);
        assert_memory_equal(ask(&f, "reload"), i % 2 == 0 ? "error " : "ok\n", 3);
    }
    sim_run_for(f.world, 1000000000ull);
    assert_int_equal(sim_mem_blocks(f.daemon), blocks);
    assert_int_equal(sim_mem_bytes(f.daemon), bytes);
    assert_int_equal(sim_fd_count(f.daemon), descriptors);
    assert_int_equal(conf_live_count(), 2);
    assert_in(ask(&f, "show status --dom"), "configuration.reloads=\"600\"");
    assert_int_equal(f.control->reload.history.count, HISTORY_COUNT_MAX);
    assert_int_equal(history_newest(&f.control->reload.history)->number, 601);
    assert_in(ask(&f, "config show 502"), "total-max-smtp-out ");
    assert_string_equal(ask(&f, "config show 501"), "error configuration 501: not found\n");
}

/* ---- On disk --------------------------------------------------------------------------------- */

#define DIRECTORY "/history"

static struct sim_world *world;
static struct sim_process *process;
static struct io *io;
static struct history history;

static void begin_life(void)
{
    process = sim_process_create(world);
    sim_io_create(world, process, &io);
    sim_enter(process);
    assert_int_equal(history_open(&history, io, DIRECTORY), 0);
    sim_leave(process);
}

static void forget_process(void *context)
{
    process = NULL;
}

static void add_one(void *context)
{
    struct history_entry entry = {.uid = 7, .cause = HISTORY_RELOAD, .at_us = io_wall_us(io)};
    struct conf_files *files = conf_files_new();
    char text[64];

    snprintf(text, sizeof(text), "text %u\n", history.last_number + 1);
    conf_files_add(files, slice_str("main"), slice_str(text));
    conf_files_add(files, slice_str("other\nname"), SLICE_EMPTY);
    *(int *)context = history_add(&history, &entry, files);
    conf_files_free(files);
}

static void assert_kept(uint32_t number)
{
    struct conf_files *files;
    char text[64];

    snprintf(text, sizeof(text), "text %u\n", number);
    assert_int_equal(history_read(&history, number, &files), 0);
    assert_int_equal(conf_files_count(files), 2);
    assert_string_equal(conf_files_name(files, 1), "other\nname");
    assert_true(slice_equal(conf_files_text(files, 0), slice_str(text)));
    conf_files_free(files);
}

/* Power fails just before each disk call of an addition: it is there whole or not at all. */
static void a_power_cut_leaves_whole_texts(void **state)
{
    struct sim_options options = {0};
    uint32_t lasting = 0, lost = 0;

    world = sim_world_create(3, &options);
    for (uint64_t nth = 1; nth <= 60; nth++) {
        uint32_t before;
        int result = -1;

        begin_life();
        before = history.last_number;
        sim_crash_after(process, SIM_POWER_CUT, 1 + nth % 12, forget_process, NULL);
        sim_run_in(process, add_one, &result);
        if (process != NULL)
            sim_crash(world, process, SIM_POWER_CUT);
        begin_life();
        if (result == 0)
            assert_true(history.last_number > before);
        for (uint32_t i = 0; i < history.count; i++)
            assert_kept(history.entries[i].number);
        lasting += history.last_number > before;
        lost += history.last_number == before;
        sim_crash(world, process, SIM_KILL);
    }
    assert_true(lasting >= 5 && lost >= 5);
    sim_world_destroy(world);
}

static void a_damaged_text_is_not_applied(void **state)
{
    struct sim_options options = {0};
    struct conf_files *files;
    int result;

    world = sim_world_create(3, &options);
    begin_life();
    sim_run_in(process, add_one, &result);
    assert_int_equal(result, 0);
    assert_true(sim_disk_poke(world, DIRECTORY "/00000001", "T", 1,
                              (uint64_t)sim_disk_size(world, DIRECTORY "/00000001") - 24) == 1);
    sim_enter(process);
    assert_int_equal(history_read(&history, 1, &files), E_DAMAGED);
    sim_leave(process);
    sim_crash(world, process, SIM_KILL);
    sim_world_destroy(world);
}

#define VERBS_OF(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        VERBS_OF(each_text_in_force_is_kept_with_who_and_when),
        VERBS_OF(a_refused_text_is_not_kept),
        VERBS_OF(what_changed_is_told),
        VERBS_OF(the_end_of_the_last_line_is_a_change),
        VERBS_OF(an_old_text_is_in_force_again),
        VERBS_OF(an_old_text_that_does_not_load_changes_nothing),
        VERBS_OF(included_texts_come_back_as_they_were),
        VERBS_OF(a_full_disk_does_not_hold_a_reload_up),
        VERBS_OF(a_thousand_reloads_leak_nothing),
        cmocka_unit_test(a_power_cut_leaves_whole_texts),
        cmocka_unit_test(a_damaged_text_is_not_applied),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
