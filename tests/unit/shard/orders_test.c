/* Orders of operators that cannot do anything are refused: a mistyped name must not look like
 * queues that are not there. */
#include "tests/unit/shard/control_fixture.h"

static struct fixture f;

static int open_fixture(void **state)
{
    fixture_open(&f, 1, false);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close(&f);
    return 0;
}

static void an_unknown_virtual_mta_is_an_error(void **state)
{
    assert_string_equal(ask(&f, "pause queue a.example/none"),
                        "error pause queue: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "resume queue */none"),
                        "error resume queue: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "set queue --mode=backoff a.example/none"),
                        "error set queue: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "schedule a.example/none"),
                        "error schedule: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "delete --queue=a.example/none"),
                        "error delete: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "disable source 127.0.0.1 a.example/none"),
                        "error disable source: there is no virtual MTA \"none\"\n");
    assert_string_equal(ask(&f, "enable source 127.0.0.1 */none"),
                        "error enable source: there is no virtual MTA \"none\"\n");
    /* Nothing is there, but it could be. */
    assert_string_equal(ask(&f, "resume queue a.example/mta1"), "ok\nqueues resumed: 0\n");
    assert_string_equal(ask(&f, "resume queue a.example/*"), "ok\nqueues resumed: 0\n");
    assert_string_equal(ask(&f, "enable job none"), "ok\nstops ended: 0\n");
}

/* A reload removed it, and its mail waits. */
static void its_queues_may_be_there_all_the_same(void **state)
{
    f.shards[1].affected = 1;
    assert_string_equal(ask(&f, "pause queue a.example/gone"), "ok\nqueues paused: 1\n");
    assert_string_equal(ask(&f, "delete --queue=a.example/gone"), "ok\nrecipients deleted: 1\n");
}

static void a_virtual_mta_has_its_own_addresses(void **state)
{
    f.shards[2].affected = 1;
    assert_string_equal(ask(&f, "disable source 127.0.0.2 a.example/mta1"),
                        "error disable source: virtual MTA \"mta1\" has no smtp-source-host "
                        "127.0.0.2\n");
    for (int i = 0; i < FAKE_SHARDS; i++)
        assert_int_equal(f.shards[i].asked, 0);
    assert_string_equal(ask(&f, "disable source 127.0.0.2 a.example/mta2"),
                        "ok\nsources disabled: 1\n");
    /* Who was disabled when the address was still there is to be let off. */
    assert_string_equal(ask(&f, "enable source 127.0.0.2 a.example/mta1"),
                        "ok\nsources enabled: 1\n");
}

static void a_pool_is_told_apart(void **state)
{
    assert_string_equal(ask(&f, "pause queue a.example/news"),
                        "error pause queue: \"news\" is a pool: name one of its virtual MTAs, or * "
                        "for all\n");
    assert_string_equal(ask(&f, "delete --queue=*/News"),
                        "error delete: \"News\" is a pool: name one of its virtual MTAs, or * for "
                        "all\n");
    assert_string_equal(ask(&f, "disable source 127.0.0.1 a.example/news"),
                        "error disable source: \"news\" is a pool: name one of its virtual MTAs\n");
}

static void a_breaker_that_is_not_there_is_an_error(void **state)
{
    assert_string_equal(ask(&f, "breaker release provider/gogle"),
                        "error breaker release: no breaker provider/gogle is in force, `show "
                        "orders` lists those that are\n");
    assert_string_equal(ask(&f, "breaker bounce sender/a.example"),
                        "error breaker bounce: no breaker sender/a.example is in force, `show "
                        "orders` lists those that are\n");
    assert_string_equal(ask(&f, "breaker reclassify sender/a.example"),
                        "error breaker reclassify: no breaker sender/a.example is in force, `show "
                        "orders` lists those that are\n");
    f.shards[1].affected = 1;
    assert_string_equal(ask(&f, "breaker release provider/google"), "ok\nbreakers closed: 1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_unknown_virtual_mta_is_an_error, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(a_pool_is_told_apart, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(a_breaker_that_is_not_there_is_an_error, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(its_queues_may_be_there_all_the_same, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(a_virtual_mta_has_its_own_addresses, open_fixture,
                                        close_fixture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
