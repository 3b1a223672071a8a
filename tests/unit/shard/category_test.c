/* The bounce category of an outcome: the user's lists by place and order, then the classifier. */
#include "shard/policy/category.h"

#include "core/base/regex.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

static const char lists[] = "smtp-source-host 192.0.2.1 a\n"
                            "<bounce-category-patterns>\n"
                            "/^5\\.1\\.1;550/ first\n"
                            "/user unknown/ second\n"
                            "/http://help/ third\n"
                            "/^2.*/ success\n"
                            "</bounce-category-patterns>\n"
                            "<virtual-mta v>\n"
                            "<bounce-category-patterns>\n"
                            "/user unknown/ of-vmta\n"
                            "</bounce-category-patterns>\n"
                            "<domain b.example>\n"
                            "<bounce-category-patterns>\n"
                            "/odd/ of-vmta-domain\n"
                            "</bounce-category-patterns>\n"
                            "</domain>\n"
                            "</virtual-mta>\n"
                            "<virtual-mta w>\n"
                            "</virtual-mta>\n"
                            "<virtual-mta-pool p>\n"
                            "virtual-mta w\n"
                            "<bounce-category-patterns>\n"
                            "/user unknown/ of-pool\n"
                            "</bounce-category-patterns>\n"
                            "</virtual-mta-pool>\n"
                            "<domain *.example>\n"
                            "<bounce-category-patterns>\n"
                            "/odd/ of-wide-domain\n"
                            "</bounce-category-patterns>\n"
                            "</domain>\n"
                            "<domain a.example>\n"
                            "<bounce-category-patterns>\n"
                            "/odd/ of-domain\n"
                            "</bounce-category-patterns>\n"
                            "</domain>\n";

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    snprintf(context, 512, "%s:%u: %s", file, line, text);
}

static int load(const char *text, struct conf **ret_conf, char *finding)
{
    static const struct conf_load_options options = {.syntax_only = true};

    finding[0] = '\0';
    return conf_load_text("test", text, &options, on_finding, finding, ret_conf);
}

static void set_reply(struct verdict *verdict, const char *text)
{
    unsigned code, e0 = 0, e1 = 0, e2 = 0;

    assert_true(sscanf(text, "%u %u.%u.%u", &code, &e0, &e1, &e2) >= 1);
    *verdict = (struct verdict){
        .class = code < 400   ? VERDICT_SUCCESS
                 : code < 500 ? VERDICT_TRANSIENT
                              : VERDICT_PERMANENT,
        .stage = VERDICT_AT_RCPT,
        .flags = VERDICT_FROM_REPLY,
        .code = (uint16_t)code,
        .enhanced = {(uint8_t)e0, (uint8_t)e1, (uint8_t)e2},
        .text_bytes = (uint16_t)strlen(text),
    };
    memcpy(verdict->text, text, strlen(text));
}

static void assert_category(const struct conf *conf, const char *domain, const char *vmta,
                            const struct verdict *verdict, const char *wanted)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf_queue settings;
    const struct category_facts facts = {verdict, &settings, SLICE_EMPTY};
    const char *category;

    conf_queue(conf, slice_str(domain), conf_vmta_id(conf, slice_str(vmta)), &settings);
    category = category_of(&facts, scratch);
    if (strcmp(category, wanted) != 0)
        fail_msg("%s/%s, %.*s: %s, not %s", domain, vmta, verdict->text_bytes, verdict->text,
                 category, wanted);
    regex_scratch_free(scratch);
}

static const struct {
    const char *domain;
    const char *vmta;
    const char *reply;
    const char *category;
} list_cases[] = {
    /* The order of the lines, and the subject "X.Y.Z;reply". */
    {"x.test", "", "550 5.1.1 user unknown", "first"},
    {"x.test", "", "553 5.1.1 user unknown", "second"},
    {"x.test", "", "450 4.1.1 USER unknown", "second"},
    {"x.test", "", "550 see http://help", "third"},
    /* What no line says, the classifier does. */
    {"x.test", "", "552 5.2.2 mailbox full", "quota-issues"},
    {"x.test", "", "451 4.7.1 greylisted", "policy-related"},
    /* Deliveries have a category only by a line that says success. */
    {"x.test", "", "250 2.0.0 user unknown, but taken", "success"},
    /* Domain before virtual MTA before pool before top level. */
    {"x.test", "v", "550 5.1.1 user unknown", "of-vmta"},
    {"x.test", "w", "550 5.1.1 user unknown", "of-pool"},
    {"x.test", "v", "550 see http://help", "third"},
    {"a.example", "v", "550 odd", "of-domain"},
    {"b.example", "v", "550 odd", "of-vmta-domain"},
    {"b.example", "w", "550 odd", "of-wide-domain"},
    {"a.example", "v", "550 5.1.1 user unknown", "of-vmta"},
};

static void lists_are_asked_by_place_and_order(void **state)
{
    struct conf *conf = NULL;
    char finding[512];

    assert_int_equal(load(lists, &conf, finding), 0);
    for (size_t i = 0; i < sizeof(list_cases) / sizeof(list_cases[0]); i++) {
        struct verdict verdict;

        set_reply(&verdict, list_cases[i].reply);
        assert_category(conf, list_cases[i].domain, list_cases[i].vmta, &verdict,
                        list_cases[i].category);
    }
    conf_unref(conf);
}

static void without_lists_the_classifier_decides(void **state)
{
    struct conf *conf = NULL;
    struct verdict verdict;
    char finding[512];

    assert_int_equal(load("smtp-source-host 192.0.2.1 a\n", &conf, finding), 0);
    set_reply(&verdict, "550 5.1.1 user unknown");
    assert_category(conf, "x.test", "", &verdict, "bad-mailbox");
    set_reply(&verdict, "550 5.7.606 banned");
    assert_category(conf, "x.test", "", &verdict, "spam-related");
    set_reply(&verdict, "250 2.0.0 user unknown");
    assert_category(conf, "x.test", "", &verdict, "");
    conf_unref(conf);
}

/* What we say may quote what a receiver said hours ago. */
static void our_own_verdicts_go_by_their_status(void **state)
{
    static const uint8_t expired[] = {5, 4, 7}, null_mx[] = {5, 1, 10}, deleted[] = {5, 0, 0};
    struct conf *conf = NULL;
    struct verdict verdict;
    char finding[512];

    assert_int_equal(load("smtp-source-host 192.0.2.1 a\n", &conf, finding), 0);
    verdict_set_local(&verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 554,
                      expired, "expired; last error: 450 4.1.1 user unknown");
    assert_category(conf, "x.test", "", &verdict, "message-expired");
    verdict_set_local(&verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_DNS, 556, null_mx,
                      "spam.example takes no mail");
    assert_category(conf, "x.test", "", &verdict, "bad-domain");
    verdict_set_local(&verdict, VERDICT_RECIPIENT, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 550,
                      deleted, "deleted by an operator");
    assert_category(conf, "x.test", "", &verdict, "other");
    conf_unref(conf);
}

static void bad_lines_are_refused(void **state)
{
    static const struct {
        const char *line;
        const char *why;
    } rows[] = {
        {"/x/", "test:3: <bounce-category-patterns>: \"/x/\" is not /PATTERN/ CATEGORY"},
        {"/x/ two words", "is not /PATTERN/ CATEGORY"},
        {"x other", "is not /PATTERN/ CATEGORY"},
        {"/x other", "is not /PATTERN/ CATEGORY"},
        {"/ other", "is not /PATTERN/ CATEGORY"},
        {"/(x/ other", "test:3: /(x/: "},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct conf *conf = NULL;
        char text[256], finding[512];

        snprintf(text, sizeof(text),
                 "smtp-source-host 192.0.2.1 a\n<bounce-category-patterns>\n%s\n"
                 "</bounce-category-patterns>\n",
                 rows[i].line);
        assert_true(load(text, &conf, finding) < 0);
        if (strstr(finding, rows[i].why) == NULL)
            fail_msg("%s: %s", rows[i].line, finding);
    }
}

/* The bare code says 5.1.1; a status or words of the receiver's own beat it. */
static void a_553_that_says_no_more(void **state)
{
    static const struct {
        const char *reply;
        const char *yes;
        const char *no;
    } cases[] = {
        {"553 xyz", "bad-mailbox", "other"},
        {"553 5.7.1 blocked", "spam-related", "spam-related"},
        {"550 xyz", "other", "other"},
    };
    struct conf *conf;
    char finding[512];
    struct verdict verdict;

    assert_int_equal(
        load("<domain no.example>\nsmtp-553-means-invalid-mailbox no\n</domain>\n", &conf, finding),
        0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        set_reply(&verdict, cases[i].reply);
        assert_category(conf, "a.example", "{default}", &verdict, cases[i].yes);
        assert_category(conf, "no.example", "{default}", &verdict, cases[i].no);
    }
    set_reply(&verdict, "553 xyz");
    verdict.stage = VERDICT_AT_MAIL;
    assert_category(conf, "a.example", "{default}", &verdict, "invalid-sender");
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_553_that_says_no_more),
        cmocka_unit_test(lists_are_asked_by_place_and_order),
        cmocka_unit_test(without_lists_the_classifier_decides),
        cmocka_unit_test(our_own_verdicts_go_by_their_status),
        cmocka_unit_test(bad_lines_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
