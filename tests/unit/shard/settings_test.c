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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_name_their_line, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(settings_of_who_has_the_mail, open_fixture, close_fixture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
