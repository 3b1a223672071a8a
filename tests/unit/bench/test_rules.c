#include "bench/rules.h"
#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

static struct ipaddr ip_of(const char *text)
{
    struct ipaddr ip = {0};

    assert_int_equal(ipaddr_parse(slice_str(text), &ip), 0);
    return ip;
}

static struct rules *rules_of(const char *first, const char *second)
{
    struct rules *rules = rules_create();

    assert_int_equal(rules_add(rules, first), 0);
    if (second != NULL)
        assert_int_equal(rules_add(rules, second), 0);
    return rules;
}

static struct rule_verdict ask(struct rules *rules, struct rule_event event)
{
    static struct rng rng = {{1, 2, 3, 4}};
    struct ipaddr client = ip_of("127.0.0.3");
    struct ipaddr called = ip_of("127.0.1.1");
    struct rule_verdict verdict;

    event.client = &client;
    event.called = &called;
    rules_ask(rules, &event, &rng, &verdict);
    return verdict;
}

static struct rule_verdict ask_rcpt(struct rules *rules, const char *rcpt)
{
    return ask(rules, (struct rule_event){.stage = RULE_RCPT, .rcpt = slice_str(rcpt)});
}

static void replies_by_recipient(void **state)
{
    struct rules *rules = rules_of("rcpt to=*@d3.test 450 4.2.1 a=b, later", NULL);

    assert_true(rules_speak_of(rules, RULE_RCPT));
    assert_false(rules_speak_of(rules, RULE_MAIL));
    assert_int_equal(ask_rcpt(rules, "x@d4.test").action, RULE_BEHAVE);
    assert_int_equal(ask_rcpt(rules, "x@D3.test").action, RULE_REPLY);
    assert_string_equal(ask_rcpt(rules, "x@d3.test").reply, "450 4.2.1 a=b, later");
    rules_destroy(rules);
}

static void delays_add_up_until_a_rule_decides(void **state)
{
    struct rules *rules = rules_of("dot delay=20", "dot delay=5 drop");
    struct rule_verdict verdict;

    assert_int_equal(rules_add(rules, "dot delay=100 451 not reached"), 0);
    verdict = ask(rules, (struct rule_event){.stage = RULE_DOT});
    assert_int_equal(verdict.action, RULE_DROP);
    assert_int_equal(verdict.delay_ms, 25);
    rules_destroy(rules);
}

static void counting_conditions(void **state)
{
    struct rules *rules = rules_of("mail every=3 reset", NULL);
    int resets = 0;

    for (int i = 1; i <= 9; i++)
        resets += ask(rules, (struct rule_event){.stage = RULE_MAIL}).action == RULE_RESET;
    assert_int_equal(resets, 3);
    rules_destroy(rules);

    rules = rules_of("mail first=2 hang", NULL);
    assert_int_equal(ask(rules, (struct rule_event){.stage = RULE_MAIL}).action, RULE_HANG);
    assert_int_equal(ask(rules, (struct rule_event){.stage = RULE_MAIL}).action, RULE_HANG);
    assert_int_equal(ask(rules, (struct rule_event){.stage = RULE_MAIL}).action, RULE_BEHAVE);
    rules_destroy(rules);
}

static void conditions_about_the_connection(void **state)
{
    struct rules *rules = rules_of("connect connections=2 421 busy", "mail messages=10 421 enough");
    struct rule_event connect = {.stage = RULE_CONNECT, .client_connections = 2};
    struct rule_event mail = {.stage = RULE_MAIL, .connection_messages = 9};

    assert_int_equal(ask(rules, connect).action, RULE_BEHAVE);
    connect.client_connections = 3;
    assert_int_equal(ask(rules, connect).action, RULE_REPLY);
    assert_int_equal(ask(rules, mail).action, RULE_BEHAVE);
    mail.connection_messages = 10;
    assert_int_equal(ask(rules, mail).action, RULE_REPLY);
    rules_destroy(rules);
}

static void conditions_about_addresses_and_time(void **state)
{
    struct rules *rules = rules_of("connect from=127.0.0.3/32 at=127.0.1.0/24 drop", NULL);
    struct rule_event event = {.stage = RULE_CONNECT};

    assert_int_equal(ask(rules, event).action, RULE_DROP);
    rules_destroy(rules);
    rules = rules_of("connect from=127.0.0.4 drop", "connect at=127.0.2/24 drop");
    assert_int_equal(ask(rules, event).action, RULE_BEHAVE);
    rules_destroy(rules);

    rules = rules_of("connect after=2 until=5 drop", NULL);
    for (uint64_t second = 0; second < 10; second++) {
        event.age_ns = second * 1000000000;
        assert_int_equal(ask(rules, event).action,
                         second >= 2 && second < 5 ? RULE_DROP : RULE_BEHAVE);
    }
    rules_destroy(rules);
}

static void chance(void **state)
{
    struct rules *rules = rules_of("mail percent=10 drop", NULL);
    int drops = 0;

    for (int i = 0; i < 10000; i++)
        drops += ask(rules, (struct rule_event){.stage = RULE_MAIL}).action == RULE_DROP;
    assert_in_range(drops, 850, 1150);
    rules_destroy(rules);
}

static void what_is_no_rule(void **state)
{
    static const char *const wrong[] = {
        "mailx drop",        "mail",         "mail percent=101 drop", "mail to=x drop",
        "mail foo=1 drop",   "mail dropped", "rcpt 999 no",           "mail from=x drop",
        "mail every=x drop",
    };
    static const char *const nothing[] = {"", "   ", "# mail drop", "\n"};
    struct rules *rules = rules_create();

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_true(rules_add(rules, wrong[i]) < 0);
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
        assert_int_equal(rules_add(rules, nothing[i]), 0);
    for (int stage = 0; stage < RULE_STAGES; stage++)
        assert_false(rules_speak_of(rules, (enum rule_stage)stage));
    rules_destroy(rules);
}

static void a_file_names_its_wrong_line(void **state)
{
    char path[] = "/tmp/bench-rules-XXXXXX";
    struct rules *rules = rules_create();
    int fd = mkstemp(path);
    static const char text[] = "# two good lines\nmail drop\nmail drop it\n";
    unsigned line;

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_int_equal(rules_load(rules, path, &line), E_SYNTAX);
    assert_int_equal(line, 3);
    unlink(path);
    rules_destroy(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_by_recipient),
        cmocka_unit_test(delays_add_up_until_a_rule_decides),
        cmocka_unit_test(counting_conditions),
        cmocka_unit_test(conditions_about_the_connection),
        cmocka_unit_test(conditions_about_addresses_and_time),
        cmocka_unit_test(chance),
        cmocka_unit_test(what_is_no_rule),
        cmocka_unit_test(a_file_names_its_wrong_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
