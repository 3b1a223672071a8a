#include "core/mail/classify.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "core/mail/classify_rules.h"
#include "tests/fuzz/replay.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static struct classify_answer answer_of(const struct classify_rules *rules,
                                        struct classify_reply reply)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct classify_answer answer;

    classify(rules, &reply, scratch, &answer);
    regex_scratch_free(scratch);
    return answer;
}

static struct classify_rules *read_rules(const char *text)
{
    struct classify_rules *rules = NULL;
    char why[CLASSIFY_WHY_MAX];
    unsigned line;

    if (classify_rules_new("test", slice_str(text), &rules, &line, why) < 0)
        fail_msg("line %u: %s", line, why);
    return rules;
}

static struct classify_reply reply(const char *text)
{
    return (struct classify_reply){.text = slice_str(text), .stage = CLASSIFY_STAGE_UNKNOWN};
}

/* ---- The shipped rules ---------------------------------------------------------------------- */

static const struct {
    const char *text;
    const char *host;
    int stage;
    const char *category;
    enum classify_class class;
    enum classify_reaction reaction;
} shipped_cases[] = {
#define ROW(text, category, class, reaction)                                                       \
    {                                                                                              \
        text, "", CLASSIFY_STAGE_UNKNOWN, category, CLASSIFY_##class, CLASSIFY_##reaction          \
    }
    /* Dead addresses, in the words of Postfix, Exim, qmail, Exchange, Cisco, Gmail, Yahoo. */
    ROW("550 5.1.1 <a@b.example>: Recipient address rejected: User unknown in virtual alias table",
        "bad-mailbox", HARD, NO_REACTION),
    ROW("550 Unrouteable address", "bad-mailbox", HARD, NO_REACTION),
    ROW("550 sorry, no mailbox here by that name (#5.1.1 - chkuser)", "bad-mailbox", HARD,
        NO_REACTION),
    ROW("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found", "bad-mailbox", HARD,
        NO_REACTION),
    ROW("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", "bad-mailbox", HARD,
        NO_REACTION),
    ROW("550 #5.1.0 Address rejected.", "bad-mailbox", HARD, NO_REACTION),
    ROW("550-5.1.1 The email account that you tried to reach does not exist. Please try\r\n"
        "550 5.1.1 https://support.google.com/mail/?p=NoSuchUser - gsmtp",
        "bad-mailbox", HARD, NO_REACTION),
    ROW("554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]",
        "bad-mailbox", HARD, NO_REACTION),
    ROW("551 5.1.6 The user has moved", "inactive-mailbox", HARD, NO_REACTION),
    ROW("550 5.4.310 DNS domain gone.example does not exist", "bad-domain", HARD, NO_REACTION),
    ROW("556 5.1.10 gone.example takes no mail (null MX)", "bad-domain", HARD, NO_REACTION),
    /* The same words while it is temporary. */
    ROW("450 4.1.1 <a@b.example>: Recipient address rejected: User unknown", "bad-mailbox",
        TRANSIENT, NO_REACTION),
    /* Who is unknown is the sender. */
    ROW("550 5.1.1 <me@here.example>: Sender address rejected: User unknown", "invalid-sender",
        SOFT, HOLD),
    ROW("550-Verification failed for <me@here.example>\\r\\n550-No Such User Here\\r\\n550 Sender "
        "verify failed",
        "invalid-sender", SOFT, HOLD),
    /* The address lives. */
    ROW("552 5.2.2 Mailbox full", "quota-issues", SOFT, NO_REACTION),
    ROW("550 5.1.1 <a@b.example> is over quota", "quota-issues", SOFT, NO_REACTION),
    ROW("550 5.2.1 This account is temporarily suspended", "inactive-mailbox", SOFT, NO_REACTION),
    ROW("552 5.3.4 Message size exceeds fixed limit", "content-related", SOFT, NO_REACTION),
    ROW("554 5.7.1 Relay access denied", "relaying-issues", SOFT, NO_REACTION),
    ROW("554 5.4.6 Too many hops", "routing-errors", SOFT, HOLD),
    /* 5xx that are about our address, our domain or our pace. */
    ROW("550 5.7.1 Service unavailable; client [192.0.2.1] blocked using zen.spamhaus.org",
        "spam-related", TRANSIENT, HOLD),
    ROW("550 5.7.606 Access denied, banned sending IP [192.0.2.1]", "spam-related", TRANSIENT,
        HOLD),
    ROW("550 5.7.509 Access denied, sending domain here.example does not pass DMARC verification",
        "policy-related", SOFT, HOLD),
    ROW("550 5.7.25 The IP address sending this message does not have a PTR record",
        "policy-related", TRANSIENT, HOLD),
    ROW("550 Ip frequency limited", "policy-related", TRANSIENT, HOLD),
    ROW("554 IP=192.0.2.1 - A problem occurred. Contact tosa@rx.t-online.de (NOWL)", "spam-related",
        TRANSIENT, HOLD),
    ROW("421 4.7.28 Gmail has detected an unusual rate of mail originating from your IP address",
        "policy-related", TRANSIENT, SLOW),
    ROW("421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred",
        "policy-related", TRANSIENT, SLOW),
    ROW("451 4.7.1 Greylisted, try again in 300 seconds", "policy-related", TRANSIENT, NO_REACTION),
    ROW("550 too many unknown users from your host", "policy-related", TRANSIENT, SLOW),
    /* Content. */
    ROW("550 5.7.1 This message was classified as SPAM", "spam-related", SOFT, SLOW),
    ROW("550 Message contains malware (Win.Test.EICAR)", "virus-related", SOFT, HOLD),
    /* A sender in other languages, in UTF-8 and in Latin-1. */
    ROW("550 G\xc3\xb6nderen adresi bulunamad\xc4\xb1", "invalid-sender", SOFT, HOLD),
    ROW("550 Adresa expeditorului nu exist\xc4\x83", "invalid-sender", SOFT, HOLD),
    ROW("550 L'adresse de l'\xc3\xa9metteur n'existe pas", "invalid-sender", SOFT, HOLD),
    ROW("550 L'adresse de l'\xe9metteur n'existe pas", "invalid-sender", SOFT, HOLD),
    ROW("550 O endere\xc3\xa7o de origem n\xc3\xa3o existe", "invalid-sender", SOFT, HOLD),
    ROW("550 Adresse expediteur inconnue", "invalid-sender", SOFT, HOLD),
    /* Not there now, or not on a list. */
    ROW("550 5.1.2 Bad destination host 'DNS Soft Error looking up b.example (MX): Server Failed'",
        "routing-errors", TRANSIENT, NO_REACTION),
    ROW("550 5.4.4 no mail hosts for domain (lookup timed out)", "no-answer-from-host", TRANSIENT,
        NO_REACTION),
    ROW("550 Mailbox not available: locked by another process", "other", TRANSIENT, SLOW),
    ROW("550 User has left this mailing list", "other", SOFT, NO_REACTION),
    ROW("550 address [192.0.2.1] unknown", "other", SOFT, NO_REACTION),
    /* What these codes answer is no recipient. */
    ROW("503 RCPT first (no such recipient yet)", "protocol-errors", SOFT, NO_REACTION),
    ROW("535 user not found", "policy-related", SOFT, NO_REACTION),
    /* A pace that is too fast, and full mailboxes. */
    ROW("421 Zu viele Nachrichten in kurzer Zeit", "policy-related", TRANSIENT, SLOW),
    ROW("450 Demasiados mensajes desde su IP", "policy-related", TRANSIENT, SLOW),
    ROW("421 Trop de connexions", "policy-related", TRANSIENT, SLOW),
    ROW("421 Muitas conex\xc3\xb5"
        "es simult\xc3\xa2neas",
        "policy-related", TRANSIENT, SLOW),
    ROW("550 Postfach hat zu viele Nachrichten", "quota-issues", SOFT, NO_REACTION),
    ROW("550 El buz\xc3\xb3n est\xc3\xa1 lleno", "quota-issues", SOFT, NO_REACTION),
    ROW("550 El buz\xf3n est\xe1 lleno", "quota-issues", SOFT, NO_REACTION),
    /* Nothing but numbers, or not even those. */
    ROW("550 5.1.1", "bad-mailbox", HARD, NO_REACTION),
    ROW("5.1.1", "bad-mailbox", HARD, NO_REACTION),
    ROW("5.1.1 mailbox deleted", "inactive-mailbox", HARD, NO_REACTION),
    ROW("4.1.1", "bad-mailbox", TRANSIENT, NO_REACTION),
    ROW("5.7.1", "policy-related", SOFT, SLOW),
    ROW("503 5.5.1", "protocol-errors", SOFT, NO_REACTION),
    ROW("550", "other", SOFT, NO_REACTION),
    ROW("450", "other", TRANSIENT, NO_REACTION),
    ROW("", "other", SOFT, NO_REACTION),
    ROW("250 2.0.0 OK", "success", NO_BOUNCE, NO_REACTION),
    ROW("250 user unknown, forwarded all the same", "success", NO_BOUNCE, NO_REACTION),
#undef ROW
    /* Who said it, and when. */
    {"452 4.2.2 later", "aspmx.l.google.com.", CLASSIFY_STAGE_UNKNOWN, "quota-issues",
     CLASSIFY_TRANSIENT, CLASSIFY_NO_REACTION},
    {"554", "", VERDICT_AT_GREETING, "policy-related", CLASSIFY_TRANSIENT, CLASSIFY_HOLD},
    {"554", "", VERDICT_AT_MAIL, "invalid-sender", CLASSIFY_SOFT, CLASSIFY_NO_REACTION},
    {"554", "", VERDICT_AT_RCPT, "other", CLASSIFY_SOFT, CLASSIFY_NO_REACTION},
    /* Nobody has named a recipient yet, so it is somebody else who is unknown. */
    {"550 5.1.1 User unknown", "", VERDICT_AT_RCPT, "bad-mailbox", CLASSIFY_HARD,
     CLASSIFY_NO_REACTION},
    {"550 5.1.1 User unknown", "", VERDICT_AT_DOT, "bad-mailbox", CLASSIFY_HARD,
     CLASSIFY_NO_REACTION},
    {"550 5.1.1 User unknown", "", VERDICT_AT_MAIL, "invalid-sender", CLASSIFY_SOFT,
     CLASSIFY_NO_REACTION},
    {"553 no such domain", "", VERDICT_AT_MAIL, "invalid-sender", CLASSIFY_SOFT,
     CLASSIFY_NO_REACTION},
    {"550 5.1.1 unknown address", "", VERDICT_AT_GREETING, "policy-related", CLASSIFY_TRANSIENT,
     CLASSIFY_HOLD},
    {"535 user unknown or wrong password", "", VERDICT_AT_AUTH, "policy-related", CLASSIFY_SOFT,
     CLASSIFY_NO_REACTION},
    {"550 5.4.4 b.example: no such domain", "", VERDICT_AT_DNS, "bad-domain", CLASSIFY_HARD,
     CLASSIFY_NO_REACTION},
};

static void shipped_rules_know_what_receivers_say(void **state)
{
    for (size_t i = 0; i < sizeof(shipped_cases) / sizeof(shipped_cases[0]); i++) {
        struct classify_answer answer = answer_of(
            classify_shipped(), (struct classify_reply){.text = slice_str(shipped_cases[i].text),
                                                        .host = slice_str(shipped_cases[i].host),
                                                        .stage = shipped_cases[i].stage});

        if (strcmp(answer.category, shipped_cases[i].category) != 0 ||
            answer.class != shipped_cases[i].class || answer.reaction != shipped_cases[i].reaction)
            fail_msg("%s: %s %s %s by %s", shipped_cases[i].text, answer.category,
                     classify_class_text(answer.class), classify_reaction_text(answer.reaction),
                     answer.rule);
    }
}

/* A rule that every reply runs through costs more than all the others together. */
static void every_shipped_pattern_has_a_filter(void **state)
{
    const struct classify_rules *rules = classify_shipped();
    unsigned without = 0;

    assert_in_range(rules->rule_count, 100, CLASSIFY_RULES_MAX);
    for (uint32_t i = 0; i < rules->rule_count; i++) {
        if (rules->rules[i].regex == NULL || regex_has_filter(rules->rules[i].regex))
            continue;
        print_message("%s:%u: %s\n", rules->file, rules->rules[i].line, rules->rules[i].id);
        without++;
    }
    assert_int_equal(without, 0);
}

static void words_in_addresses_do_not_count(void **state)
{
    static const char *const texts[] = {
        "550 <user.unknown@b.example> refused for some reason or other, spam-filter@c.example",
        "550 mailbox-full@b.example: odd",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_string_not_equal(answer_of(classify_shipped(), reply(texts[i])).category,
                                "quota-issues");
    assert_string_not_equal(answer_of(classify_shipped(), reply(texts[0])).category,
                            "spam-related");
    assert_string_not_equal(answer_of(classify_shipped(), reply(texts[0])).category, "bad-mailbox");
}

/* However long and repetitive, every reply gets an answer. */
static void evil_replies_get_an_answer(void **state)
{
    static const char *const parts[] = {
        "a",           " ",     "550 ",           "user ",    "a@",
        "address is ", "not ",  "\r\n550-5.1.1 ", ".",        "mailbox",
        "your ",       "(((((", "5.1.1 5.1.",     "\xff\xfe", "message size "};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        static char text[70000];
        size_t len = 0;

        for (len = 0; len + strlen(parts[i]) < sizeof(text); len += strlen(parts[i]))
            memcpy(text + len, parts[i], strlen(parts[i]));
        text[len] = '\0';
        assert_non_null(answer_of(classify_shipped(), reply(text)).category);
    }
}

static void classifying_allocates_nothing(void **state)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct classify_reply one = reply("550 a reason that nobody has ever heard of before today");
    struct classify_answer answer;
    uint64_t before;

    classify(classify_shipped(), &one, scratch, &answer);
    before = mem_alloc_count();
    for (int i = 0; i < 1000; i++)
        classify(classify_shipped(), &one, scratch, &answer);
    assert_int_equal(mem_alloc_count(), before);
    regex_scratch_free(scratch);
}

/* ---- The language --------------------------------------------------------------------------- */

static void the_first_rule_whose_conditions_hold_decides(void **state)
{
    struct classify_rules *rules = read_rules("# comment\n"
                                              "provider p .p.example\n"
                                              "\n"
                                              "a policy-related soft slow:job from=p code=55 /x/\n"
                                              "b bad-mailbox hard - code=5 status=x.1.1 /x/\n"
                                              "c bad-domain hard - at=rcpt,data /x/\n"
                                              "d quota-issues soft hold:queue status=4.2\n"
                                              "e other soft -\n");
    struct classify_reply one = reply("550 5.1.1 x");
    struct classify_answer answer;

    answer = answer_of(rules, one);
    assert_string_equal(answer.rule, "b");
    assert_string_equal(answer.file, "test");
    assert_int_equal(answer.line, 5);
    one.host = SLICE_LITERAL("MX.p.EXAMPLE.");
    answer = answer_of(rules, one);
    assert_string_equal(answer.rule, "a");
    assert_int_equal(answer.scope, CLASSIFY_JOB);
    one.host = SLICE_LITERAL("notp.example");
    assert_string_equal(answer_of(rules, one).rule, "b");
    one = reply("450 4.1.1 x");
    assert_string_equal(answer_of(rules, one).rule, "e");
    assert_int_equal(answer_of(rules, one).class, CLASSIFY_TRANSIENT);
    one.stage = VERDICT_AT_DATA;
    assert_string_equal(answer_of(rules, one).rule, "c");
    one.stage = VERDICT_AT_MAIL;
    assert_string_equal(answer_of(rules, one).rule, "e");
    assert_string_equal(answer_of(rules, reply("4.2.77")).rule, "d");
    assert_string_equal(answer_of(rules, reply("550 4.2.77")).rule, "e");
    classify_rules_free(rules);
}

static void a_pattern_that_gives_up_does_not_match(void **state)
{
    struct classify_rules *rules = read_rules("a bad-mailbox hard - /^(a+)+$/\n"
                                              "b other soft -\n");
    struct classify_answer answer;
    char text[300];

    memset(text, 'a', sizeof(text));
    text[sizeof(text) - 2] = '!';
    text[sizeof(text) - 1] = '\0';
    answer = answer_of(rules, reply(text));
    assert_string_equal(answer.rule, "b");
    assert_true(answer.gave_up);
    text[20] = '\0';
    answer = answer_of(rules, reply(text));
    assert_string_equal(answer.rule, "a");
    assert_false(answer.gave_up);
    classify_rules_free(rules);
}

static const struct {
    const char *text;
    unsigned line;
    const char *why;
} bad_rules[] = {
    {"", 0, "no rule"},
    {"a other soft - code=5\n", 1, "the last rule has conditions"},
    {"a other soft -\nb other soft -\n", 1, "is ever tried"},
    {"\na nonsense soft -\n", 2, "category \"nonsense\""},
    {"a other harsh -\n", 1, "class \"harsh\""},
    {"a other soft stop:job\n", 1, "reaction \"stop\""},
    {"a other soft slow\n", 1, "scope \"\""},
    {"a other soft slow:moon\n", 1, "scope \"moon\""},
    {"a other soft - from=p\n", 1, "provider \"p\""},
    {"a other soft - at=lunch\n", 1, "stage \"lunch\""},
    {"a other soft - code=5x\n", 1, "\"5x\" is no code"},
    {"a other soft - status=5.y\n", 1, "\"5.y\" is no status"},
    {"a other soft - /x\n", 1, "ends with a slash"},
    {"a other soft - /(x/\n", 1, "at octet"},
    {"a other soft - colour=red\n", 1, "\"colour\" is no condition"},
    {"a other soft - code=5\na other soft -\n", 2, "stands in line 1"},
    {"provider p\n", 1, "has suffixes"},
};

static void bad_rules_are_refused_with_line_and_reason(void **state)
{
    for (size_t i = 0; i < sizeof(bad_rules) / sizeof(bad_rules[0]); i++) {
        struct classify_rules *rules = NULL;
        char why[CLASSIFY_WHY_MAX] = "";
        unsigned line = 77;

        assert_int_equal(
            classify_rules_new("test", slice_str(bad_rules[i].text), &rules, &line, why), E_SYNTAX);
        assert_null(rules);
        if (line != bad_rules[i].line || strstr(why, bad_rules[i].why) == NULL)
            fail_msg("%s: line %u: %s", bad_rules[i].text, line, why);
    }
}

static const struct {
    const char *text;
    uint16_t given[3];
    uint16_t code;
    uint16_t status[3];
} code_cases[] = {
    {"550 5.1.1 x", {0}, 550, {5, 1, 1}},
    {"550-5.7.511 x", {0}, 550, {5, 7, 511}},
    {"550 x (#5.1.1)", {0}, 550, {5, 1, 1}},
    {"550 x [192.0.2.1] 5.1.1.1", {0}, 550, {0, 0, 0}},
    {"550 4.1.1 x", {0}, 550, {0, 0, 0}},
    {"550 5.1.1 x", {5, 2, 2}, 550, {5, 2, 2}},
    {"550 5.1.1 x", {5, 0, 0}, 550, {5, 1, 1}},
    {"550 x", {5, 0, 0}, 550, {5, 0, 0}},
    {"550 x", {4, 2, 2}, 550, {0, 0, 0}},
    {"x", {5, 2, 2}, 0, {5, 2, 2}},
    {"5.1.1 x", {0}, 0, {5, 1, 1}},
    {"5501 x", {0}, 0, {0, 0, 0}},
    {"", {0}, 0, {0, 0, 0}},
};

static void codes_are_found_where_they_stand(void **state)
{
    for (size_t i = 0; i < sizeof(code_cases) / sizeof(code_cases[0]); i++) {
        struct classify_reply one = reply(code_cases[i].text);
        uint16_t code, status[3];

        memcpy(one.enhanced, code_cases[i].given, sizeof(one.enhanced));
        classify_codes(&one, &code, status);
        if (code != code_cases[i].code || memcmp(status, code_cases[i].status, sizeof(status)) != 0)
            fail_msg("%s: %u %u.%u.%u", code_cases[i].text, code, status[0], status[1], status[2]);
    }
}

/* ---- Any input ------------------------------------------------------------------------------- */

static void random_replies_never_break_the_rules_of_the_fuzz_target(void **state)
{
    static const char *const parts[] = {
        "550 ",     "450-",         "5.1.1 ",     "4.7.28 ",    "user ",
        "unknown",  "mailbox ",     "is full ",   "blocked ",   "your ",
        "ip ",      "address ",     "does not ",  "exist ",     "sender ",
        "spam",     "\r\n",         "\\r\\n",     "<",          "a.b@c.d",
        "> ",       "message ",     "rejected: ", "too many ",  "domain ",
        "quota ",   "relay ",       "denied ",    "listed at ", "zen.x.org ",
        "host ",    "not found ",   "\xff",       "(#5.2.2)",   "policy ",
        "timeout ", "temporarily ", "virus ",     "header ",    "no such user ",
        "account ", "disabled "};
    struct rng rng;

    rng_init(&rng, 19);
    for (unsigned round = 0; round < 20000; round++) {
        char text[512];
        uint8_t *exact;
        size_t len = 0;

        for (uint64_t words = rng_below(&rng, 12); words > 0; words--) {
            const char *part = parts[rng_below(&rng, sizeof(parts) / sizeof(parts[0]))];

            memcpy(text + len, part, strlen(part));
            len += strlen(part);
        }
        exact = malloc(len > 0 ? len : 1);
        memcpy(exact, text, len);
        LLVMFuzzerTestOneInput(exact, len);
        free(exact);
    }
}

static void fuzz_corpus_is_replayed(void **state)
{
    assert_true(replay_corpus(CLASSIFY_CORPUS) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_rules_know_what_receivers_say),
        cmocka_unit_test(every_shipped_pattern_has_a_filter),
        cmocka_unit_test(words_in_addresses_do_not_count),
        cmocka_unit_test(evil_replies_get_an_answer),
        cmocka_unit_test(classifying_allocates_nothing),
        cmocka_unit_test(the_first_rule_whose_conditions_hold_decides),
        cmocka_unit_test(a_pattern_that_gives_up_does_not_match),
        cmocka_unit_test(bad_rules_are_refused_with_line_and_reason),
        cmocka_unit_test(codes_are_found_where_they_stand),
        cmocka_unit_test(random_replies_never_break_the_rules_of_the_fuzz_target),
        cmocka_unit_test(fuzz_corpus_is_replayed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
