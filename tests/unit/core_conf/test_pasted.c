/* Text that was copied from elsewhere, with what nobody sees in it, and slips that it has. */
#include "core/conf/reader.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

static struct conf *load_with(const char *text, struct findings *findings)
{
    struct conf *conf = NULL;

    *findings = (struct findings){0};
    if (conf_load_text("test", text, NULL, collect, findings, &conf) != 0)
        fail_msg("%s", findings->text);
    return conf;
}

/* ---- What nobody sees ----------------------------------------------------------------------- */

static void blanks_that_are_none(void **state)
{
    struct findings findings;
    struct conf *conf =
        load_with("# \u00a0 in a comment\n\u00a0\u00a0\n"
                  "<domain\u00a0a.test>\u3000\n\u00a0\u2003max-smtp-out\u00a07\u202f\n"
                  "auth-password\u00a0s\u00e9cret\n</domain>\u00a0\n"
                  "<bounce-category-patterns>\n\u00a0/mail\u00a0box/\u00a0odd\n"
                  "</bounce-category-patterns>\n",
                  &findings);
    struct conf_queue queue = queue_of(conf, "a.test", "{default}");

    assert_int_equal(queue.max_smtp_out, 7);
    assert_string_equal(queue.auth_password, "s\u00e9cret");
    assert_int_equal(findings.warnings, 1);
    assert_non_null(strstr(findings.text, "warning test:3: the line holds the character U+00A0, "
                                          "which only looks like a blank: it counts as one "
                                          "(lines with such: 5)"));
    conf_unref(conf);
}

static void characters_without_width(void **state)
{
    struct findings findings;
    struct conf *conf = load_with("\ufeffhost-name a.test\n\u200b<domain a.test>\u200f\n"
                                  "max\u00ad-smtp-out \u202a7\u202c\n\ufeff</domain>\n",
                                  &findings);

    assert_int_equal(queue_of(conf, "a.test", "{default}").max_smtp_out, 7);
    assert_int_equal(findings.warnings, 1);
    assert_non_null(strstr(findings.text, "warning test:2: the line holds the character U+200B, "
                                          "which cannot be seen: it does not count "
                                          "(lines with such: 3)"));
    conf_unref(conf);
}

/* Letters may be joined by one; it is part of the text. */
static void joiners_stay(void **state)
{
    struct findings findings;
    struct conf *conf = load_with("<domain a.test>\nauth-password \u0646\u200c\u0645\u200d\n"
                                  "</domain>\n",
                                  &findings);

    assert_string_equal(queue_of(conf, "a.test", "{default}").auth_password,
                        "\u0646\u200c\u0645\u200d");
    assert_int_equal(findings.warnings, 0);
    conf_unref(conf);
}

/* Lines that belong together are put together where the blanks of the one end. */
static void odd_lines_are_joined(void **state)
{
    struct findings findings;
    struct conf *conf = load_with("domain-macro m a.test,\u00a0\n\u00a0\u00a0b.test\u00a0,\n#\n"
                                  "\u00a0c.test\n<domain $m>\nmax-smtp-out 7\n</domain>\n"
                                  "<bounce-category-patterns>\n/box\u200b\u200b is fu\n"
                                  "\u00a0ll/ quota-issues\n</bounce-category-patterns>\n",
                                  &findings);

    assert_int_equal(queue_of(conf, "a.test", "{default}").max_smtp_out, 7);
    assert_int_equal(queue_of(conf, "b.test", "{default}").max_smtp_out, 7);
    assert_non_null(strstr(findings.text, ".../box is full/ quota-issues..."));
    conf_unref(conf);
}

static void typographic_quotes(void **state)
{
    struct findings findings;
    struct conf *conf =
        load_with("<domain a.test>\nauth-password \u201csecret\u201d\n</domain>\n"
                  "<domain b.test>\nauth-password sec\u201dret\n</domain>\n"
                  "<domain c.test>\nhttp-delivery-extra-headers \u00aball\u00bb\n</domain>\n",
                  &findings);

    assert_string_equal(queue_of(conf, "a.test", "{default}").auth_password, "\u201csecret\u201d");
    assert_null(strstr(findings.text, "\u00ab"));
    assert_null(strstr(findings.text, "test:5"));
    assert_non_null(strstr(findings.text, "warning test:2: auth-password: the value begins with "
                                          "\u201c, which belongs to it: only \" quotes it"));
    conf_unref(conf);
}

/* ---- Encodings and ends of lines ------------------------------------------------------------ */

static void ends_of_lines(void **state)
{
    struct findings findings;
    struct conf *conf =
        load_with("<domain a.test>\r\r\nmax-smtp-out 7 # all\r\n</domain>\r", &findings);

    assert_int_equal(queue_of(conf, "a.test", "{default}").max_smtp_out, 7);
    assert_int_equal(findings.warnings, 0);
    conf_unref(conf);
    refuse("host-name a.test\rhost-name b.test\r", &findings);
    assert_non_null(strstr(findings.text, "error test:1: the line holds the control character "
                                          "0x0d, in column 17 (are these line ends of an old"));
    refuse("host-name a.test\n\x0c\n", &findings);
    assert_non_null(strstr(findings.text, "error test:2: the line holds the control character "
                                          "0x0c, in column 1\n"));
}

static void other_encodings(void **state)
{
    struct findings findings;

    conf_unref(load_with("# caf\xe9\n", &findings));
    assert_int_equal(findings.warnings, 0);
    refuse("relay-domain a.test,\nb\xe9.test\n", &findings);
    assert_non_null(strstr(findings.text, "error test:2: the line is not UTF-8 text: there is an "
                                          "octet 0xe9 in column 2 (is the file in ISO 8859-1"));
    /* The rest of such a file is all wrong, and one error says it. */
    refuse("\xff\xfeh\n\xff\n\xff\n", &findings);
    assert_non_null(strstr(findings.text, "error test:1: the file is in UTF-16; it has to be in"));
    assert_int_equal(findings.errors, 1);
    refuse("\xfe\xff\n\xff\n", &findings);
    assert_int_equal(findings.errors, 1);
}

/* A comment may be as long as it likes. */
static void long_comments(void **state)
{
    struct findings findings;
    size_t len = READER_LINE_MAX + 100;
    char *text = malloc(len + 64);

    memset(text, 'c', len);
    memcpy(text, "log-file /l #", 13);
    strcpy(text + len, "\nlog-rotate 3\n");
    conf_unref(load_with(text, &findings));
    free(text);
}

/* ---- Slips ---------------------------------------------------------------------------------- */

/* One slip is one error: what follows is read as it was meant. */
static const struct {
    const char *text;
    const char *error;
} slips[] = {
    {"<domain a.test\nmax-smtp-out 7\n</domain>\n",
     "test:1: the line starts with < but does not end with >"},
    {"<domain a.test>\nmax-smtp-out 7\n</domain\nhost-name a.test\n",
     "test:3: the line starts with < but does not end with >"},
    {"<nothing that is known\nhost-name a.test\n",
     "test:1: the line starts with < but does not end with >"},
    {"<domain a.test>\nmax-smtp-out 7\n</domian>\n<source 0/0>\n</source>\n",
     "test:3: </domian> closes nothing that is open in this file; did you mean </domain>?"},
    {"<!-- of several\nhost-name a.test\n", "test:1: this is no section; comments begin with #"},
    {"<log-file /var/log/x>\nhost-name a.test\n",
     "test:1: log-file is no section: it stands without < and >"},
    {"acct-file /var/log/acct.csv\n",
     "test:1: acct-file is a section: it begins with <acct-file PATH> and ends with </acct-file>"},
    {"mx-rollup-list\n",
     "test:1: mx-rollup-list is a section: it begins with <mx-rollup-list> and ends with"},
    {"host-name = a.test\n", "test:1: host-name: the value stands behind a blank, without ="},
    {"domain-macro top com,de,fr\n<domain a_\\$top>\n</domain>\n",
     "test:2: <domain>: \"a_\\com\" is no domain pattern"},
    {"<domain a.test,b.test>\n</domain>\n", "test:1: <domain>: \"a.test,b.test\" is no domain "
                                            "pattern (one block for several domains is"},
    {"<pattern-list p>\nreply /x/ mode=backoff\n</pattern-list>\n",
     "test:2: \"reply\" is neither mail-from, rcpt-to, header, call-to: nor *; replies stand in an "
     "<smtp-pattern-list>"},
    {"smtp-source-host 192.0.2.1-192.0.2.9 a.test\n",
     "test:1: smtp-source-host: \"192.0.2.1-192.0.2.9\" is not an address or address block"},
    {"<acct-file /a.csv>\nrecords d b\n</acct-file>\n",
     "test:2: records: \"d b\": commas stand between the words"},
    {"pickup c:\\in c:\\bad\n", "test:1: pickup: \"c:\\in\" is no absolute path"},
    {"<source 0/0>\ndefault-virtual-mta-pool p\n</source>\n",
     "test:2: there is no directive \"default-virtual-mta-pool\": the keyword is default-virtual-"},
    {"<virtual-mta v>\nsmtp-source-host YOUR_IP a.test\n</virtual-mta>\n",
     "test:2: smtp-source-host: \"YOUR_IP\" is not an address or address block"},
    {"smtp-source-host YOUR_IP a.test\n<virtual-mta v>\n</virtual-mta>\n",
     "test:1: smtp-source-host: \"YOUR_IP\" is not an address or address block"},
    {"smtp-source-host 0.0.0.0 a.test\n<virtual-mta v>\n</virtual-mta>\n"
     "<virtual-mta-pool p>\nvirtual-mta v weight 9\n</virtual-mta-pool>\n",
     "test:5: virtual-mta: unexpected \"weight\" behind the value"},
};

static void one_slip_is_one_error(void **state)
{
    for (size_t i = 0; i < COUNT_OF(slips); i++) {
        struct findings findings;

        refuse(slips[i].text, &findings);
        if (findings.errors != 1 || strstr(findings.text, slips[i].error) == NULL ||
            strstr(findings.text, "has no smtp-source-host") != NULL)
            fail_msg("%s\n%s", slips[i].text, findings.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blanks_that_are_none),  cmocka_unit_test(characters_without_width),
        cmocka_unit_test(joiners_stay),          cmocka_unit_test(odd_lines_are_joined),
        cmocka_unit_test(typographic_quotes),    cmocka_unit_test(ends_of_lines),
        cmocka_unit_test(other_encodings),       cmocka_unit_test(long_comments),
        cmocka_unit_test(one_slip_is_one_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
