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

static void assert_answer_has(const char *line, const char *wanted)
{
    const char *answer = ask(&f, line);

    if (strstr(answer, wanted) == NULL)
        fail_msg("%s: no %s in %s", line, wanted, answer);
}

static void settings_name_their_line(void **state)
{
    assert_answer_has("show settings A.example/mta2 --json", "\"queue\":\"a.example/mta2\"");
    assert_answer_has("show settings a.example/mta2 --json",
                      "{\"section\":\"domain\",\"name\":\"max-smtp-out\",\"value\":\"7\","
                      "\"from\":\"test:13\",\"effect\":\"yes\"}");
    assert_answer_has("show settings a.example/mta2 --json",
                      "\"name\":\"bounce-after\",\"value\":\"4d12h\",\"from\":\"default\"");
    assert_answer_has("show settings a.example/mta2 --json",
                      "{\"section\":\"virtual-mta\",\"name\":\"smtp-source-host\","
                      "\"value\":\"127.0.0.2 mta2.example.com\"");
    /* Without a virtual MTA the one of its own does not count. */
    assert_answer_has("show settings a.example --json",
                      "\"name\":\"max-smtp-out\",\"value\":\"20\",\"from\":\"default\"");
    assert_answer_has("show settings a.example --dom", "setting[0].from=\"default\"");
    assert_answer_has("show settings a.example/mta2", "test:13");
    assert_answer_has("show settings a.example/none", "there is no virtual MTA \"none\"");
}

/* Of mail that another queue has, that one is named, and its values are told. */
static void settings_of_who_has_the_mail(void **state)
{
    const char *line = "show settings handed.test/mta2 --json";

    assert_answer_has(line, "\"queue\":\"handed.test/mta2\",\"heldBy\":\"a.example/mta2\"");
    assert_answer_has(line, "{\"section\":\"way\",\"name\":\"queue-to\",\"value\":\"a.example\","
                            "\"from\":\"test:17\",\"effect\":\"yes\"}");
    assert_answer_has(line, "\"name\":\"max-smtp-out\",\"value\":\"7\",\"from\":\"test:13\"");
    assert_answer_has(
        "show settings handed.test/mta2",
        "the mail of handed.test/mta2 is in a.example/mta2, whose settings these are");
    assert_null(strstr(ask(&f, "show settings a.example/mta2 --json"), "heldBy"));
}

/* Nothing waits in a queue that hands its mail on: where to look is said. */
static void explain_names_who_has_the_mail(void **state)
{
    assert_answer_has("explain handed.test/mta2",
                      "now: nothing is waiting; its mail is in the queue a.example/mta2, by "
                      "queue-to or reroute-to-virtual-mta\n");
    assert_answer_has("explain handed.test", "its mail is in the queue a.example/{default}, by");
    assert_answer_has("explain turned.test",
                      "its mail is in the queue turned.test/mta1, one of several by turns, by "
                      "queue-to or reroute-to-virtual-mta\n");
    /* A member of the pool keeps its mail. */
    assert_answer_has("explain turned.test/mta2 --json", "\"detail\":\"\"");
    assert_answer_has("explain a.example", "this is its queue without a virtual MTA");
    assert_answer_has("explain a.example/none", "there is no virtual MTA \"none\"");
}

static void a_pool_is_no_virtual_mta(void **state)
{
    static const char wanted[] = "\"news\" is a pool: name one of its virtual MTAs";

    assert_answer_has("explain a.example/news", wanted);
    assert_answer_has("show settings a.example/news --json", wanted);
    assert_null(strstr(ask(&f, "show settings a.example/news"), "* for all"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_name_their_line, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(settings_of_who_has_the_mail, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(explain_names_who_has_the_mail, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(a_pool_is_no_virtual_mta, open_fixture, close_fixture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
