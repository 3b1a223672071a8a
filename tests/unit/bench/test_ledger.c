#include "bench/ledger.h"
#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

static void every_fate_is_counted_once(void **state)
{
    struct ledger *ledger = ledger_create(7, 10, 2);
    struct ledger_sums sums;

    assert_non_null(ledger);
    /* 0: fine. */
    ledger_give(ledger, 0, 0, LEDGER_ACCEPTED);
    ledger_arrive(ledger, 0, 0);
    /* 1: lost. */
    ledger_give(ledger, 1, 0, LEDGER_ACCEPTED);
    /* 2: twice too often. */
    ledger_give(ledger, 2, 1, LEDGER_ACCEPTED);
    for (int i = 0; i < 3; i++)
        ledger_arrive(ledger, 2, 1);
    /* 3: refused for good, 4: refused and then taken. */
    ledger_give(ledger, 3, 0, LEDGER_ACCEPTED);
    ledger_refuse(ledger, 3, 0);
    ledger_refuse(ledger, 3, 0);
    ledger_give(ledger, 4, 0, LEDGER_ACCEPTED);
    ledger_refuse(ledger, 4, 0);
    ledger_arrive(ledger, 4, 0);
    /* 5: in doubt, came; 6: in doubt, did not; both are fine. */
    ledger_give(ledger, 5, 0, LEDGER_IN_DOUBT);
    ledger_arrive(ledger, 5, 0);
    ledger_give(ledger, 6, 0, LEDGER_IN_DOUBT);
    /* 7: the generator was told no, and yet it came. */
    ledger_give(ledger, 7, 0, LEDGER_REFUSED);
    ledger_arrive(ledger, 7, 0);

    ledger_sum(ledger, 0, 10, &sums);
    assert_int_equal(sums.accepted, 5);
    assert_int_equal(sums.in_doubt, 2);
    assert_int_equal(sums.turned_away, 1);
    assert_int_equal(sums.arrived, 5);
    assert_int_equal(sums.bounced, 1);
    assert_int_equal(sums.lost, 1);
    assert_int_equal(sums.duplicates, 2);
    assert_int_equal(sums.unexpected, 1);
    assert_int_equal(ledger->arrived_different, 5);
    assert_int_equal(ledger->refused_different, 1);
    /* A part of it. */
    ledger_sum(ledger, 1, 2, &sums);
    assert_int_equal(sums.accepted, 2);
    assert_int_equal(sums.lost, 1);
    assert_false(ledger_holds(ledger, 10, 0));
    assert_false(ledger_holds(ledger, 9, 2));
    ledger_destroy(ledger);
}

static void arrivals_stop_counting_and_do_not_wrap(void **state)
{
    struct ledger *ledger = ledger_create(7, 1, 1);
    struct ledger_sums sums;

    ledger_give(ledger, 0, 0, LEDGER_ACCEPTED);
    for (int i = 0; i < 1000; i++)
        ledger_arrive(ledger, 0, 0);
    ledger_sum(ledger, 0, 1, &sums);
    assert_int_equal(sums.duplicates, 254);
    assert_int_equal(ledger->arrived_different, 1);
    ledger_destroy(ledger);
}

static void write_text(const char *path, const char *text)
{
    FILE *stream = fopen(path, "w");

    assert_non_null(stream);
    assert_true(fputs(text, stream) >= 0);
    assert_int_equal(fclose(stream), 0);
}

static void files_tell_the_same(void **state)
{
    static struct ledger_file file;
    char given[] = "/tmp/bench-ledger-XXXXXX";
    char arrived[] = "/tmp/bench-ledger-XXXXXX";
    const char *paths[2] = {given, arrived};
    struct ledger_sums sums;

    close(mkstemp(given));
    close(mkstemp(arrived));
    assert_int_equal(ledger_file_open(&file, given, true), 0);
    /* More than the file's room, so that it also flushes by itself. */
    for (uint64_t number = 0; number < 10000; number++)
        ledger_file_add(&file, 'a', 0xabc, number, 0);
    ledger_file_add(&file, 'i', 0xabc, 10000, 0);
    ledger_file_close(&file);
    assert_int_equal(ledger_file_open(&file, arrived, false), 0);
    /* 17 is missing, 18 comes twice, 19 is refused. Another run's 17 does not help. */
    for (uint64_t number = 0; number < 10000; number++) {
        if (number != 17 && number != 19)
            ledger_file_add(&file, 'd', 0xabc, number, 0);
    }
    ledger_file_add(&file, 'd', 0xabc, 18, 0);
    ledger_file_add(&file, 'b', 0xabc, 19, 0);
    ledger_file_add(&file, 'd', 0xabd, 17, 0);
    ledger_file_close(&file);
    assert_int_equal(ledger_files_sum(paths, 2, &sums), 0);
    assert_int_equal(sums.accepted, 10000);
    assert_int_equal(sums.in_doubt, 1);
    assert_int_equal(sums.lost, 1);
    assert_int_equal(sums.duplicates, 1);
    assert_int_equal(sums.bounced, 1);
    assert_int_equal(sums.unexpected, 1);
    unlink(given);
    unlink(arrived);
}

static void half_a_line_at_the_end_never_counted(void **state)
{
    char path[] = "/tmp/bench-ledger-XXXXXX";
    const char *paths[1] = {path};
    struct ledger_sums sums;

    close(mkstemp(path));
    write_text(path, "a 00000abc 1 0\na 00000abc 2 0\nd 00000abc 1 0\na 00000abc 3");
    assert_int_equal(ledger_files_sum(paths, 1, &sums), 0);
    assert_int_equal(sums.accepted, 2);
    assert_int_equal(sums.lost, 1);
    write_text(path, "a 00000abc 1 0\nnonsense\n");
    assert_int_equal(ledger_files_sum(paths, 1, &sums), E_DAMAGED);
    unlink(path);
}

/* Before the first message a sink does not know its run. */
static void a_refusal_before_the_run_is_known_counts(void **state)
{
    char path[] = "/tmp/bench-ledger-XXXXXX";
    const char *paths[1] = {path};
    struct ledger_sums sums;

    close(mkstemp(path));
    write_text(path, "b 00000000 0 0\na 00000abc 0 0\na 00000abc 1 0\nd 00000abc 1 0\n");
    assert_int_equal(ledger_files_sum(paths, 1, &sums), 0);
    assert_int_equal(sums.bounced, 1);
    assert_int_equal(sums.lost, 0);
    /* Of two runs nobody knows whose it is. */
    write_text(path, "b 00000000 0 0\na 00000abc 0 0\na 00000abd 0 0\n");
    assert_int_equal(ledger_files_sum(paths, 1, &sums), 0);
    assert_int_equal(sums.lost, 2);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fate_is_counted_once),
        cmocka_unit_test(arrivals_stop_counting_and_do_not_wrap),
        cmocka_unit_test(files_tell_the_same),
        cmocka_unit_test(half_a_line_at_the_end_never_counted),
        cmocka_unit_test(a_refusal_before_the_run_is_known_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
