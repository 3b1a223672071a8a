/* What a reply leads to by a list of patterns: all lines that match, the first of those that
 * contradict each other. */
#include "shard/policy/react.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

static const char list_text[] = "smtp-source-host 192.0.2.1 a\n"
                                "<smtp-pattern-list l>\n"
                                "reply /too many/ mode=backoff,backoff-to-normal-after=1h\n"
                                "reply /^250/ mode=normal\n"
                                "reply /many errors/ mode=normal,skip-mx\n"
                                "reply /errors/ bounce-queue,defer-queue\n"
                                "reply /^421 .*blocked/ disable-source-ip,reenable-after=2h\n"
                                "reply /blocked/ disable-source-ip\n"
                                "reply /gone/ bounce-rcpt,mode=backoff\n"
                                "</smtp-pattern-list>\n"
                                "<domain *>\nsmtp-pattern-list l\n</domain>\n";

#define B CONF_REPLY_BACKOFF
#define N CONF_REPLY_NORMAL
#define S CONF_REPLY_SKIP_MX
#define Q CONF_REPLY_BOUNCE_QUEUE
#define R CONF_REPLY_BOUNCE_RCPT
#define D CONF_REPLY_DISABLE_SOURCE
#define W CONF_REPLY_DEFER_QUEUE

static const struct {
    const char *reply;
    uint8_t stage;
    unsigned actions;
    uint64_t backoff_ms;
    uint64_t disabled_ms;
    unsigned line; /* of the first that matches; 0 = none */
} cases[] = {
    {"450 4.2.0 greylisted", VERDICT_AT_RCPT, 0, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 0},
    {"421 4.7.0 TOO MANY connections", VERDICT_AT_GREETING, B, 3600000, CONF_REPLY_NO_TIME, 3},
    {"250 2.0.0 Ok", VERDICT_AT_DOT, N, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 4},
    /* Backoff first: the later line's other action counts all the same, and the one after that
     * contradicts it. */
    {"421 too many errors", VERDICT_AT_MAIL, B | S | W, 3600000, CONF_REPLY_NO_TIME, 3},
    {"421 errors", VERDICT_AT_MAIL, Q | W, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 6},
    /* The time is that of the line the action comes from. */
    {"421 blocked", VERDICT_AT_MAIL, D, CONF_REPLY_NO_TIME, 7200000, 7},
    {"550 blocked", VERDICT_AT_MAIL, D, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 8},
    /* Words that a line of the reply ends within, and the codes of the next line. */
    {"421-4.7.0 far too 421 4.7.0 many connections", VERDICT_AT_MAIL, B, 3600000,
     CONF_REPLY_NO_TIME, 3},
    {"421-4.7.0 far too  421-many 421 4.7.1 connections", VERDICT_AT_MAIL, B, 3600000,
     CONF_REPLY_NO_TIME, 3},
    {"421-far too 450 many", VERDICT_AT_MAIL, 0, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 0},
    /* bounce-rcpt: a 4xx to RCPT alone. */
    {"450 gone", VERDICT_AT_RCPT, R | B, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 9},
    {"450 gone", VERDICT_AT_MAIL, B, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 9},
    {"550 gone", VERDICT_AT_RCPT, B, CONF_REPLY_NO_TIME, CONF_REPLY_NO_TIME, 9},
};

static struct verdict verdict_of(const char *text, uint8_t stage)
{
    struct verdict verdict = {
        .class = text[0] == '2'   ? VERDICT_SUCCESS
                 : text[0] == '4' ? VERDICT_TRANSIENT
                                  : VERDICT_PERMANENT,
        .stage = stage,
        .flags = VERDICT_FROM_REPLY,
        .text_bytes = (uint16_t)strlen(text),
    };

    memcpy(verdict.text, text, strlen(text));
    return verdict;
}

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    if (severity == CONF_ERROR)
        print_error("%s:%u: %s\n", file, line, text);
}

static struct conf *load(const char *text, struct conf_queue *ret_settings)
{
    static const struct conf_load_options options = {.syntax_only = true};
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test", text, &options, on_finding, NULL, &conf), 0);
    conf_queue(conf, SLICE_LITERAL("a.example"), CONF_VMTA_DEFAULT, ret_settings);
    return conf;
}

static uint64_t backoff_ms(const struct react *react)
{
    const struct conf_reply_rule *mode = react->lines[REACT_OF_QUEUE].mode;

    return mode ? mode->backoff_ms : CONF_REPLY_NO_TIME;
}

static uint64_t disabled_ms(const struct react *react)
{
    const struct conf_reply_rule *source = react->lines[REACT_OF_QUEUE].source;

    return source ? source->disabled_ms : CONF_REPLY_NO_TIME;
}

static void every_line_counts_and_the_first_of_a_conflict_wins(void **state)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf_queue settings;
    struct conf *conf = load(list_text, &settings);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict verdict = verdict_of(cases[i].reply, cases[i].stage);
        struct react react = react_to(settings.replies, &verdict, scratch, NULL, NULL);

        if (react.actions != cases[i].actions || backoff_ms(&react) != cases[i].backoff_ms ||
            disabled_ms(&react) != cases[i].disabled_ms ||
            (react.rule == NULL ? 0 : react.rule->line) != cases[i].line)
            fail_msg("%s: actions %#x, backoff %llu, disabled %llu", cases[i].reply, react.actions,
                     (unsigned long long)backoff_ms(&react),
                     (unsigned long long)disabled_ms(&react));
    }
    regex_scratch_free(scratch);
    conf_unref(conf);
}

static unsigned line_of(const struct conf_reply_rule *rule)
{
    return rule ? rule->line : 0;
}

/* What is not of the same thing contradicts nothing; of one thing the first line counts. */
static void scopes_that_have_nothing_in_common_all_count(void **state)
{
    static const char text[] = "smtp-source-host 192.0.2.1 a\n"
                               "<smtp-pattern-list l>\n"
                               "reply /busy/ mode=backoff\n"
                               "reply /busy/ mode=backoff scope=source-ip\n"
                               "reply /busy/ mode=normal scope=provider\n"
                               "reply /busy/ stop=1h scope=provider\n"
                               "reply /busy/ stop=10m scope=source-ip\n"
                               "reply /busy/ stop=20m scope=job\n"
                               "reply /busy/ stop=30m\n"
                               "reply /busy/ disable-source-ip scope=sender-domain\n"
                               "reply /busy/ disable-source-ip\n"
                               "</smtp-pattern-list>\n"
                               "<domain *>\nsmtp-pattern-list l\n</domain>\n";
    struct regex_scratch *scratch = regex_scratch_new();
    struct verdict verdict = verdict_of("421 busy", VERDICT_AT_MAIL);
    struct conf_queue settings;
    struct conf *conf = load(text, &settings);
    struct react react = react_to(settings.replies, &verdict, scratch, NULL, NULL);

    assert_int_equal(line_of(react.lines[REACT_OF_QUEUE].mode), 3);
    assert_int_equal(line_of(react.lines[REACT_OF_QUEUE].stop), 9);
    assert_int_equal(line_of(react.lines[REACT_OF_QUEUE].source), 11);
    assert_int_equal(line_of(react.lines[REACT_OF_ADDRESSES].mode), 4);
    assert_int_equal(line_of(react.lines[REACT_OF_ADDRESSES].stop), 6);
    assert_null(react.lines[REACT_OF_ADDRESSES].source);
    assert_int_equal(line_of(react.lines[REACT_OF_JOB].stop), 8);
    assert_int_equal(line_of(react.lines[REACT_OF_SENDER_DOMAIN].source), 10);
    assert_int_equal(react.actions, B | D | CONF_REPLY_STOP);
    regex_scratch_free(scratch);
    conf_unref(conf);
}

/* A list that slows the queue says nothing of who bounces; any other word does, none too. */
static void slowing_leaves_the_rest_open(void **state)
{
    static const struct {
        unsigned actions;
        unsigned fired;
        bool slows;
    } rows[] = {
        {B, B, true},         {B, 0, true},  {N, N, true},
        {B | W, B | W, true}, {0, 0, false}, {B | Q, B | Q, false},
        {B | D, 0, false},    {S, S, false}, {B, B | R, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf_reply_rule rule = {.actions = rows[i].actions};
        struct react react = {.rule = &rule, .actions = rows[i].fired};

        assert_int_equal(react_only_slows(&react), rows[i].slows);
    }
    assert_false(react_only_slows(&(struct react){.rule = NULL}));
}

static void what_the_receiver_did_not_say_leads_to_nothing(void **state)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf_queue settings;
    struct conf *conf = load(list_text, &settings);
    struct verdict verdict = verdict_of("421 too many errors", VERDICT_AT_MAIL);

    assert_int_equal(react_to(NULL, &verdict, scratch, NULL, NULL).actions, 0);
    verdict.flags = 0;
    assert_int_equal(react_to(settings.replies, &verdict, scratch, NULL, NULL).actions, 0);
    regex_scratch_free(scratch);
    conf_unref(conf);
}

static void a_refusal_of_ourselves_bounces_nobody(void **state)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct verdict listed =
        verdict_of("554 5.7.1 Client host blocked using zen.spamhaus.org", VERDICT_AT_RCPT);
    struct verdict unknown = verdict_of("550 5.1.1 No such user", VERDICT_AT_RCPT);
    const struct conf_reply_rule *rule;

    listed.class = VERDICT_PERMANENT;
    unknown.class = VERDICT_PERMANENT;
    rule = react_unasked(&listed, SLICE_EMPTY, scratch);
    assert_non_null(rule);
    assert_int_equal(rule->actions, CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT);
    assert_null(react_unasked(&unknown, SLICE_EMPTY, scratch));
    listed.class = VERDICT_TRANSIENT;
    assert_null(react_unasked(&listed, SLICE_EMPTY, scratch));
    regex_scratch_free(scratch);
}

static void greylisting_is_told_from_limits(void **state)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct verdict grey =
        verdict_of("451 4.7.1 Greylisted, please try again in 300 seconds", VERDICT_AT_RCPT);
    struct verdict limit =
        verdict_of("421 4.7.0 Too many messages, try again in 10 minutes", VERDICT_AT_MAIL);

    grey.class = VERDICT_TRANSIENT;
    limit.class = VERDICT_TRANSIENT;
    assert_true(react_is_greylisting(&grey, SLICE_EMPTY, scratch));
    assert_false(react_is_greylisting(&limit, SLICE_EMPTY, scratch));
    grey.flags = 0;
    assert_false(react_is_greylisting(&grey, SLICE_EMPTY, scratch));
    regex_scratch_free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_line_counts_and_the_first_of_a_conflict_wins),
        cmocka_unit_test(a_refusal_of_ourselves_bounces_nobody),
        cmocka_unit_test(greylisting_is_told_from_limits),
        cmocka_unit_test(scopes_that_have_nothing_in_common_all_count),
        cmocka_unit_test(slowing_leaves_the_rest_open),
        cmocka_unit_test(what_the_receiver_did_not_say_leads_to_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
