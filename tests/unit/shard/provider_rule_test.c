/*
 * What the pack makes of replies. Counted over replies that people have judged: those in the tree
 * (core_mail/replies.tsv) and, where it is at hand, a corpus of others'
 * (shared/corpora/replies): each that is grave slows or holds something, and none that is not does.
 */
#include "shard/policy/provider_rule.h"

#include "core/base/regex.h"
#include "core/mail/classify.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

#define FIELDS_MAX 8

static struct regex_scratch *scratch;

static const struct conf_reply_rule *ask(const struct conf *conf, const char *provider,
                                         const char *text)
{
    struct verdict verdict = {.flags = VERDICT_FROM_REPLY,
                              .stage = VERDICT_AT_DOT,
                              .code = (uint16_t)atoi(text),
                              .class = text[0] == '2'   ? VERDICT_SUCCESS
                                       : text[0] == '4' ? VERDICT_TRANSIENT
                                                        : VERDICT_PERMANENT};
    uint64_t number =
        provider == NULL ? CONF_PROVIDER_NONE : conf_provider_named(slice_str(provider));

    snprintf(verdict.text, sizeof(verdict.text), "%s", text);
    verdict.text_bytes = (uint16_t)strlen(verdict.text);
    return provider_rule(conf, number, &verdict, SLICE_EMPTY, scratch);
}

static bool slows_or_holds(const struct conf_reply_rule *rule)
{
    return rule != NULL && (rule->actions & (CONF_REPLY_BACKOFF | CONF_REPLY_STOP |
                                             CONF_REPLY_DISABLE_SOURCE)) != 0;
}

static void lines_come_before_reactions(void **state)
{
    const char *frequency = "550 Ip frequency limited", *plain = "421 4.7.0 please try again later";
    struct conf *on = load("provider-pack on\n"), *advise = load("");
    const struct conf_reply_rule *rule = ask(on, "qq", frequency);
    struct verdict ours = {.code = 451, .class = VERDICT_TRANSIENT, .text_bytes = 3, .text = "451"};

    assert_true(rule->regex != NULL && (rule->actions & CONF_REPLY_DEFER_RCPT) != 0);
    rule = ask(on, NULL, frequency);
    assert_true(rule != NULL && rule->regex == NULL);
    assert_true(slows_or_holds(ask(on, "qq", plain)));
    assert_null(ask(on, "google", "250 2.0.0 OK"));
    assert_null(ask(on, "google",
                    "550 5.1.1 The email account that you tried to reach does not "
                    "exist"));
    /* A word of the provider's says that there is nothing to it. */
    rule = ask(on, "yahoo", "421 Max message per connection reached, closing transmission channel");
    assert_true(rule != NULL && rule->actions == 0);
    assert_null(ask(advise, "qq", frequency));
    assert_null(provider_rule(on, CONF_PROVIDER_NONE, &ours, SLICE_EMPTY, scratch));
    conf_unref(on);
    conf_unref(advise);
}

/* As they came over the wire, where lines end wherever a name or an address made them end. */
static void lines_of_a_reply_are_one(void **state)
{
    static const struct {
        const char *provider;
        const char *text;
        unsigned actions;
        enum conf_reply_scope scope;
    } rows[] = {
        {"google",
         "421-4.7.0 [192.0.2.1      15] Our system has detected an unusual rate of 421-4.7.0 "
         "unsolicited mail originating from your IP address. To protect our 421 4.7.0 users",
         CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT, CONF_REPLY_OF_SOURCE_IP},
        {"google",
         "421-4.7.28 Gmail has detected an unusual rate of mail originating from your DKIM "
         "421-4.7.28 domain [example.com      36]. To protect our users from spam, mail 421 4.7.28 "
         "sent from your domain has been temporarily rate limited.",
         CONF_REPLY_STOP, CONF_REPLY_OF_SENDER_DOMAIN},
        {"google",
         "421-4.7.0 [192.0.2.1      19] Our system has detected that this message is suspicious "
         "421-4.7.0 due to the very low reputation of the sending 421 4.7.0 domain.",
         CONF_REPLY_STOP | CONF_REPLY_DEFER_RCPT, CONF_REPLY_OF_SENDER_DOMAIN},
    };
    struct conf *conf = load("provider-pack on\n");

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct conf_reply_rule *rule = ask(conf, rows[i].provider, rows[i].text);

        assert_true(rule != NULL && rule->regex != NULL);
        assert_int_equal(rule->actions, rows[i].actions);
        assert_int_equal(rule->scope, rows[i].scope);
    }
    conf_unref(conf);
}

static uint32_t split(char *line, char *fields[FIELDS_MAX])
{
    uint32_t count = 0;

    line[strcspn(line, "\n")] = '\0';
    while (line != NULL && count < FIELDS_MAX)
        fields[count++] = strsep(&line, "\t");
    return count;
}

/* hard|soft|transient, yes|no|any, categories, reply */
static void grave_replies_of_the_tree(void **state)
{
    struct conf *conf = load("provider-pack on\n");
    unsigned grave = 0, found = 0, calm = 0, alarmed = 0;
    FILE *file = fopen(REPLIES, "r");
    char line[8192];

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        char *f[FIELDS_MAX];
        bool acts;

        if (line[0] == '#' || split(line, f) < 4)
            continue;
        acts = slows_or_holds(ask(conf, NULL, f[3]));
        grave += strcmp(f[1], "yes") == 0;
        found += strcmp(f[1], "yes") == 0 && acts;
        calm += strcmp(f[1], "no") == 0;
        alarmed += strcmp(f[1], "no") == 0 && acts;
    }
    fclose(file);
    print_message("acts on %u of %u grave ones, on %u of %u others\n", found, grave, alarmed, calm);
    assert_true(grave > 200 && calm > 200);
    assert_true(found * 100 >= grave * 99);
    assert_true(alarmed * 100 <= calm * 2);
    conf_unref(conf);
}

/* Where the classifier reads a refusal as one of our address or of the sender. */
static bool is_of_us(const char *text)
{
    struct classify_reply reply = {
        .text = slice_str(text), .code = (uint16_t)atoi(text), .stage = VERDICT_AT_DOT};
    struct classify_answer answer;

    classify(classify_shipped(), &reply, scratch, &answer);
    return answer.reaction == CLASSIFY_HOLD &&
           (answer.scope == CLASSIFY_SOURCE_IP || answer.scope == CLASSIFY_SENDER_DOMAIN);
}

/* A 5xx that is aimed at our address or at the sender bounces nobody, whoever says it: a line of
 * the pack that is there for something else must not stand in the way. */
static void refusals_of_us_bounce_nobody(void **state)
{
    static const char *const names[] = {
        "google",     "yahoo",    "yahoo-japan", "outlook",   "microsoft365", "apple",
        "comcast",    "cox",      "gmx",         "orange",    "laposte",      "tonline",
        "kpn",        "proton",   "mailru",      "yandex",    "qq",           "netease",
        "netvigator", "mimecast", "proofpoint",  "barracuda", "cisco",        "symantec"};
    static const char nemesis[] =
        "554-gmx.net (mxgmx016) Nemesis ESMTP Service not available 554-No SMTP service "
        "554-IP address is black listed. 554 For explanation visit postmaster.gmx.com";
    struct conf *conf = load("provider-pack on\n");
    const struct conf_reply_rule *rule = ask(conf, "gmx", nemesis);
    FILE *file = fopen(REPLIES, "r");
    unsigned asked = 0, bad = 0;
    char line[8192];

    assert_int_equal(rule->actions, CONF_REPLY_DISABLE_SOURCE | CONF_REPLY_DEFER_RCPT);
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        char *f[FIELDS_MAX];

        if (line[0] == '#' || split(line, f) < 4 || f[3][0] != '5' || !is_of_us(f[3]))
            continue;
        for (size_t i = 0; i < COUNT_OF(names); i++) {
            rule = ask(conf, names[i], f[3]);
            asked++;
            if (rule != NULL && (rule->actions & CONF_REPLY_DEFER_RCPT) != 0)
                continue;
            print_message("  %s: %s: %.150s\n", names[i], rule ? rule->text : "-", f[3]);
            bad++;
        }
    }
    fclose(file);
    print_message("%u of %u would bounce\n", bad, asked);
    assert_true(asked > 1000);
    assert_int_equal(bad, 0);
    conf_unref(conf);
}

static const char *provider_called(const char *name)
{
    static const char *const rows[][2] = {
        {"exchangeonline", "microsoft365"}, {"att", "yahoo"}, {"webde", "gmx"}};

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (strcmp(rows[i][0], name) == 0)
            return rows[i][1];
    return name;
}

/* id, source, provider, code, status, text, kind of label, label */
static void grave_replies_of_others(void **state)
{
    struct conf *conf = load("provider-pack on\n"), *none = load("provider-pack off\n");
    FILE *file = fopen(REPLY_LABELS "/provider-replies.tsv", "r");
    unsigned grave = 0, found = 0, by_line = 0;
    char line[8192];

    if (file == NULL) {
        print_message("SKIPPED: no corpus of replies at %s\n", REPLY_LABELS);
        skip();
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        const struct conf_reply_rule *rule;
        char *f[FIELDS_MAX], text[8192];

        if (split(line, f) < 8 || strcmp(f[6], "severity") != 0 || atoi(f[7]) < 3)
            continue;
        snprintf(text, sizeof(text), "%s %s", f[3], f[5]);
        rule = ask(conf, provider_called(f[2]), text);
        grave++;
        found += slows_or_holds(rule);
        by_line += rule != NULL && rule->regex != NULL;
        if (!slows_or_holds(rule))
            print_message("  %s: nothing happens: %.150s\n", f[0], text);
        assert_true(slows_or_holds(ask(conf, NULL, text)));
        assert_null(ask(none, f[2], text));
    }
    fclose(file);
    print_message("slows or holds for %u of %u, %u by a line of the provider's\n", found, grave,
                  by_line);
    assert_in_range(grave, 20, 100000);
    assert_int_equal(found, grave);
    conf_unref(conf);
    conf_unref(none);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_come_before_reactions),
        cmocka_unit_test(lines_of_a_reply_are_one),
        cmocka_unit_test(grave_replies_of_the_tree),
        cmocka_unit_test(refusals_of_us_bounce_nobody),
        cmocka_unit_test(grave_replies_of_others),
    };
    int failed;

    scratch = regex_scratch_new();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    regex_scratch_free(scratch);
    return failed;
}
