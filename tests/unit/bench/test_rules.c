#include "bench/models.h"
#include "bench/rules.h"
#include "bench/rules_memory.h"
#include "core/base/err.h"
#include "core/base/hash.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

#define SECOND_NS 1000000000ull

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

/* So many of `count` events, one each `step_ns` from `start_ns` on, met the rule. */
static int count_met(struct rules *rules, struct rule_event event, uint64_t start_ns,
                     uint64_t step_ns, int count)
{
    int met = 0;

    for (int i = 0; i < count; i++) {
        event.age_ns = start_ns + (uint64_t)i * step_ns;
        met += ask(rules, event).action != RULE_BEHAVE;
    }
    return met;
}

static void hidden_rates(void **state)
{
    struct rules *rules = rules_of("mail rate=10/1 421 too fast", NULL);
    struct rule_event mail = {.stage = RULE_MAIL};

    /* At once: the bucket's ten. Then a tenth of a second brings one more. */
    assert_int_equal(count_met(rules, mail, 0, 0, 25), 15);
    assert_int_equal(count_met(rules, mail, SECOND_NS / 10, 0, 5), 4);
    /* At the very rate, and at twice the rate once the bucket is empty. */
    assert_int_equal(count_met(rules, mail, 2 * SECOND_NS, SECOND_NS / 10, 100), 0);
    assert_in_range(count_met(rules, mail, 20 * SECOND_NS, SECOND_NS / 20, 200), 90, 95);
    rules_destroy(rules);
}

static void penalties(void **state)
{
    struct rules *rules = rules_of("mail rate=5/1 penalty=60 421 4.7.28 limited", NULL);
    struct rule_event mail = {.stage = RULE_MAIL};

    assert_int_equal(count_met(rules, mail, 0, 0, 6), 1);
    /* However slow, nothing passes until the time is over, and asking does not make it longer. */
    assert_int_equal(count_met(rules, mail, SECOND_NS, SECOND_NS, 59), 59);
    assert_int_equal(count_met(rules, mail, 60 * SECOND_NS, 0, 5), 0);
    rules_destroy(rules);
}

static void rates_of_whom(void **state)
{
    struct rules *rules = rules_of("rcpt per=domain rate=2/100 451 later", NULL);
    struct rule_event rcpt = {.stage = RULE_RCPT, .rcpt = slice_str("a@d1.test")};

    assert_int_equal(count_met(rules, rcpt, 0, 0, 3), 1);
    rcpt.rcpt = slice_str("b@D1.test");
    assert_int_equal(count_met(rules, rcpt, 0, 0, 1), 1);
    rcpt.rcpt = slice_str("a@d2.test");
    assert_int_equal(count_met(rules, rcpt, 0, 0, 2), 0);
    rules_destroy(rules);

    rules = rules_of("mail per=sender rate=1/100 451 later", NULL);
    assert_true(rules_want_sender(rules));
    for (int i = 0; i < 2; i++) {
        struct rule_event mail = {.stage = RULE_MAIL, .sender = slice_str(i ? "x@y" : "a@b")};

        assert_int_equal(count_met(rules, mail, 0, 0, 2), 1);
    }
    rules_destroy(rules);
}

/* Two rules of one stage keep books of their own. */
static void clients_have_their_own_rates(void **state)
{
    struct rules *rules = rules_of("mail rate=1/10 421 first", "mail rate=2/10 421 second");
    struct ipaddr called = ip_of("127.0.1.1");
    struct rng rng = {{1, 2, 3, 4}};
    int met = 0;

    for (int client = 0; client < 5; client++) {
        struct ipaddr ip = {IPADDR_V4, {127, 0, 0, (uint8_t)client}};
        struct rule_event mail = {.stage = RULE_MAIL, .client = &ip, .called = &called};
        struct rule_verdict verdict;

        for (int i = 0; i < 2; i++) {
            rules_ask(rules, &mail, &rng, &verdict);
            met += verdict.action == RULE_REPLY;
        }
    }
    assert_int_equal(met, 5);
    rules_destroy(rules);
}

static void grey_lists(void **state)
{
    struct rules *rules = rules_of("rcpt grey=300 450 4.7.1 grey", NULL);
    struct rule_event rcpt = {
        .stage = RULE_RCPT, .rcpt = slice_str("a@d.test"), .sender = slice_str("s@x")};

    assert_int_equal(count_met(rules, rcpt, SECOND_NS, 100 * SECOND_NS, 5), 3);
    /* Another sender is another triple. */
    rcpt.sender = slice_str("t@x");
    assert_int_equal(count_met(rules, rcpt, 1000 * SECOND_NS, 100 * SECOND_NS, 5), 3);
    rcpt.sender = slice_str("s@x");
    assert_int_equal(count_met(rules, rcpt, 2000 * SECOND_NS, SECOND_NS, 5), 0);
    rules_destroy(rules);
}

/* More keys than are remembered: the latest ones are, and the oldest are forgotten. */
static void memory_is_bounded(void **state)
{
    struct rules_memory memory = {0};
    uint32_t count = RULES_MEMORY_MAX * 2;
    uint32_t kept = 0;
    bool is_new;

    for (uint32_t i = 0; i < count; i++)
        rules_memory_note(&memory, hash_u64(i), i, &is_new)->at_ns = i + 1;
    assert_true(memory.room <= RULES_MEMORY_MAX);
    for (uint32_t i = count - 1000; i < count; i++)
        kept += rules_memory_note(&memory, hash_u64(i), count, &is_new)->at_ns == i + 1;
    assert_true(kept > 900);
    rules_memory_note(&memory, hash_u64(0), count, &is_new);
    assert_true(is_new);
    rules_memory_fini(&memory);
}

static void periods_and_pace(void **state)
{
    struct rules *rules = rules_create();
    struct rule_event mail = {.stage = RULE_MAIL};

    rules_set_pace(rules, 10);
    assert_int_equal(rules_add(rules, "mail period=100 after=20 until=50 drop"), 0);
    assert_int_equal(count_met(rules, mail, 0, SECOND_NS, 100), 30);
    mail.age_ns = 11 * SECOND_NS;
    assert_int_equal(ask(rules, mail).action, RULE_BEHAVE);
    mail.age_ns = 12 * SECOND_NS;
    assert_int_equal(ask(rules, mail).action, RULE_DROP);
    rules_destroy(rules);
}

static void how_replies_end(void **state)
{
    struct rules *rules = rules_of("dot messages=5 cut=3", "dot messages=2 close 250 2.0.0 bye");
    struct rule_event dot = {.stage = RULE_DOT};
    struct rule_verdict verdict;

    assert_int_equal(rules_add(rules, "dot say 2x0\\r\\n\\x00"), 0);
    verdict = ask(rules, dot);
    assert_int_equal(verdict.action, RULE_SAY);
    assert_memory_equal(verdict.reply, "2x0\r\n", 6);
    assert_int_equal(verdict.reply_len, 6);
    assert_int_equal(rule_verdict_class(&verdict, "250 Ok"), '\0');
    dot.connection_messages = 2;
    verdict = ask(rules, dot);
    assert_true(verdict.ends);
    assert_int_equal(verdict.cut, RULE_UNCUT);
    assert_int_equal(rule_verdict_class(&verdict, "451 no"), '2');
    dot.connection_messages = 5;
    verdict = ask(rules, dot);
    assert_int_equal(verdict.action, RULE_BEHAVE);
    assert_int_equal(verdict.cut, 3);
    assert_true(verdict.ends);
    assert_int_equal(rule_verdict_class(&verdict, "451 no"), '4');
    assert_int_equal(rules_played(rules, 0), 1);
    assert_int_equal(rules_played(rules, 2), 1);
    rules_destroy(rules);
}

static void any_stage_and_many_lines(void **state)
{
    struct rules *rules = rules_of("any every=5 421 4.3.2 First\\nsecond", NULL);
    int met = 0;

    for (int stage = 0; stage < RULE_STAGE_COUNT; stage++) {
        struct rule_verdict verdict = ask(rules, (struct rule_event){.stage = stage});

        met += verdict.action == RULE_REPLY;
        if (verdict.action == RULE_REPLY)
            assert_string_equal(verdict.reply, "421-4.3.2 First\r\n421 second");
    }
    /* One count over nine stages: nothing is answered at the tenth. */
    assert_int_equal(met, 1);
    assert_false(rules_speak_of(rules, RULE_CONTENT));
    rules_destroy(rules);
}

static void delays_by_chance(void **state)
{
    struct rules *rules = rules_of("dot delay=10-19", NULL);
    uint64_t seen = 0;

    for (int i = 0; i < 1000; i++) {
        uint64_t delay_ms = ask(rules, (struct rule_event){.stage = RULE_DOT}).delay_ms;

        assert_in_range(delay_ms, 10, 19);
        seen |= 1u << delay_ms;
    }
    assert_int_equal(seen, 0xffc00);
    rules_destroy(rules);
}

static void what_is_offered(void **state)
{
    struct rules *rules = rules_create();

    assert_int_equal(rules_offers(rules, RULE_OFFER(SIZE)), RULE_OFFER(SIZE));
    assert_int_equal(rules_add(rules, "offer pipelining  8bitmime"), 0);
    assert_int_equal(rules_offers(rules, RULE_OFFER(SIZE)),
                     RULE_OFFER(PIPELINING) | RULE_OFFER(8BITMIME));
    assert_int_equal(rules_add(rules, "lag 20"), 0);
    assert_int_equal(rules_lag_ms(rules), 20);
    rules_destroy(rules);
}

/* Every model is understood, and each but the first does something. */
static void models_are_rules(void **state)
{
    assert_null(model_find("no such model"));
    for (size_t i = 0; i < model_count; i++) {
        struct rules *rules = rules_create();

        assert_ptr_equal(model_find(models[i].name), &models[i]);
        model_add(&models[i], rules);
        assert_int_equal(rules_count(rules) == 0, i == 0);
        rules_destroy(rules);
    }
}

/*
 * 200 a second, where 50 are allowed: the bucket of 3,000 is empty after 20 s, and nothing passes
 * for the ten minutes that follow.
 */
static void a_model_at_work(void **state)
{
    struct rules *rules = rules_create();
    struct rule_event dot = {.stage = RULE_DOT};

    model_add(model_find("gmail-like"), rules);
    assert_in_range(count_met(rules, dot, 0, SECOND_NS / 200, 12000), 7990, 8010);
    assert_int_equal(count_met(rules, dot, 70 * SECOND_NS, SECOND_NS, 500), 500);
    assert_int_equal(count_met(rules, dot, 700 * SECOND_NS, SECOND_NS, 500), 0);
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
        "mailx drop",
        "mail",
        "mail percent=101 drop",
        "mail to=x drop",
        "mail foo=1 drop",
        "mail dropped",
        "rcpt 999 no",
        "mail from=x drop",
        "mail every=x drop",
        "mail rate=5 drop",
        "mail rate=0/5 drop",
        "mail penalty=5 drop",
        "mail per=all drop",
        "mail rate=1/1 per=rcpt drop",
        "mail grey=5 drop",
        "rcpt grey=0 drop",
        "mail delay=5-3",
        "mail cut=3 drop",
        "mail cut=x",
        "content close",
        "content 250 ok",
        "content flood",
        "content cut=1",
        "connect sender=x drop",
        "any to=x drop",
        "mail say",
        "mail say \\x0",
        "mail close what",
        "mail 2x0 no",
        "offer what",
        "lag x",
        "mail period=0 drop",
        "mail after=5s drop",
        "mail delay=0",
    };
    static const char *const nothing[] = {"", "   ", "# mail drop", "\n"};
    struct rules *rules = rules_create();

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_true(rules_add(rules, wrong[i]) < 0);
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
        assert_int_equal(rules_add(rules, nothing[i]), 0);
    for (int stage = 0; stage < RULE_STAGE_COUNT; stage++)
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
        cmocka_unit_test(hidden_rates),
        cmocka_unit_test(penalties),
        cmocka_unit_test(rates_of_whom),
        cmocka_unit_test(clients_have_their_own_rates),
        cmocka_unit_test(grey_lists),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(periods_and_pace),
        cmocka_unit_test(how_replies_end),
        cmocka_unit_test(any_stage_and_many_lines),
        cmocka_unit_test(delays_by_chance),
        cmocka_unit_test(what_is_offered),
        cmocka_unit_test(models_are_rules),
        cmocka_unit_test(a_model_at_work),
        cmocka_unit_test(chance),
        cmocka_unit_test(what_is_no_rule),
        cmocka_unit_test(a_file_names_its_wrong_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
