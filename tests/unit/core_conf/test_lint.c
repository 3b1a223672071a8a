#include "tests/unit/core_conf/unit.h"

static const struct conf_load_options options = {.syntax_only = true, .lint = true};

/* Each text loads, and the report holds the fragment. */
static const struct {
    const char *name;
    const char *text;
    const char *fragment;
} odd[] = {
    {"unused macro",
     "domain-macro a b.example\ndomain-macro c d.example,$e\ndomain-macro e f.example\n"
     "<domain $a>\n</domain>\n",
     "warning test:3: domain-macro e is not used"},
    {"macro that only an unused one names",
     "domain-macro a b.example,$c\ndomain-macro c d.example\n",
     "warning test:2: domain-macro c is not used"},
    {"missing way out", "<domain *>\nreroute-to-virtual-mta none\n</domain>\n",
     "test:2: reroute-to-virtual-mta: there is no <virtual-mta none>"},
    {"unused list", "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
     "warning test:1: <smtp-pattern-list l> is not used: no smtp-pattern-list names it"},
    {"domain given twice",
     "<domain a.example>\nmax-smtp-out 1\nbounce-after 1d\n</domain>\n"
     "<domain A.example>\nmax-smtp-out 2\n</domain>\n",
     "warning test:5: <domain A.example> is given again, also in line 1"},
    {"block made void",
     "<domain a.example>\nmax-smtp-out 1\n</domain>\n"
     "<domain a.example>\nmax-smtp-out 2\nbounce-after 1d\n</domain>\n",
     "warning test:1: <domain a.example> does nothing: all it says is said again by the one in "
     "line 4"},
    {"domain in two macros",
     "domain-macro a x.example,y.example\ndomain-macro b z.example,y.example\n"
     "<domain $a>\nmax-smtp-out 1\n</domain>\n<domain $b>\nmax-smtp-out 2\n</domain>\n",
     "warning test:6: y.example is in <domain $b> and in <domain $a> (line 3 of test)"},
    {"source given twice", "<source 10/8>\n</source>\n<source 10/8>\n</source>\n",
     "warning test:3: <source 10/8> is given again, also in line 1"},
    {"reports about themselves", "tls-report-from a@b.example\ndomain-key s,b.example,/k\n",
     "warning test:0: tls-report-from without tls-report-virtual-mta: the connections"},
    {"unreachable access", "http-access 0/0 monitor\nhttp-access 10.1/16 admin\n",
     "warning test:2: http-access 10.1/16 admin is never reached"},
    {"file that is never moved", "<acct-file /a.csv>\nmove-interval 5m\n</acct-file>\n",
     "warning test:2: move-interval does nothing without move-to"},
    {"source that nobody can come from", "<source 192.0.2.1,192.0.2.2>\n</source>\n",
     "warning test:1: <source 192.0.2.1,192.0.2.2> is not used: it is no address, and no "},
    {"logins wanted and forbidden", "<source 0/0>\nallow-auth no\nrequire-auth yes\n</source>\n",
     "warning test:3: require-auth contradicts allow-auth no (line 2)"},
    {"group with more than it has",
     "<source 0/0>\nsource-group g\n</source>\n"
     "<source-group g>\nmax-smtp-in 5\nreserved-smtp-in 6\n</source-group>\n",
     "warning test:6: reserved-smtp-in 6 is more than max-smtp-in 5"},
    {"backoff rate equal to the normal one, from elsewhere",
     "<domain *>\nmax-msg-rate 60/h\n</domain>\n"
     "<domain a.example>\nbackoff-max-msg-rate 1/min\n</domain>\n",
     "warning test:5: backoff-max-msg-rate 1/min is no tighter than max-msg-rate 60/h (line 2 of "
     "test)"},
    {"backoff connections more than the default",
     "<domain *>\nbackoff-max-smtp-out 30\n</domain>\n",
     "warning test:2: backoff-max-smtp-out 30 is no tighter than max-smtp-out 20 (the default)"},
    {"backoff that rests shorter",
     "<domain *>\nretry-after 1h,2h\nbackoff-retry-after 30m\n</domain>\n",
     "warning test:3: backoff-retry-after 30m is no longer than retry-after 1h,2h"},
    {"backoff without limits",
     "<domain *>\nsmtp-pattern-list l\n</domain>\n"
     "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
     "warning test:2: smtp-pattern-list l: no backoff limit is given"},
    {"backoff that allows more connections",
     "<domain *>\nmax-smtp-out 3\nsmtp-pattern-list l\n</domain>\n"
     "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
     "warning test:3: smtp-pattern-list l: backoff-max-smtp-out is 20 unless given: backoff mode "
     "would allow more connections than max-smtp-out 3 (line 2 of test)"},
    {"backoff that allows more connections, of a tighter rate",
     "<domain *>\nmax-smtp-out 3\nmax-msg-rate 10/h\nbackoff-max-msg-rate 1/h\n"
     "smtp-pattern-list l\n</domain>\n"
     "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
     "warning test:5: smtp-pattern-list l: backoff-max-smtp-out is 20 unless given"},
    {"signatures without a key", "<domain *>\ndkim-sign yes\n</domain>\n",
     "warning test:2: dkim-sign yes: there is no domain-key for mail of virtual MTA {default}, so "
     "it is put off with 451 (dkim-missing-key)"},
    {"signatures without a key in a pool",
     "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
     "<virtual-mta-pool p>\nvirtual-mta a\n<domain *>\ndkim-sign yes\n"
     "dkim-missing-key reject\n</domain>\n</virtual-mta-pool>\n",
     "warning test:7: dkim-sign yes: there is no domain-key for mail of virtual MTA a, so it is "
     "refused"},
    {"signatures with a key of another virtual MTA",
     "<domain *>\ndkim-sign yes\n</domain>\n"
     "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\ndomain-key s,*,/k\n</virtual-mta>\n"
     "<virtual-mta b>\nsmtp-source-host 192.0.2.2 b\n</virtual-mta>\n",
     "warning test:2: dkim-sign yes: there is no domain-key for mail of virtual MTA b"},
    {"programs without a command", "<domain a.example>\ntype pipe\n</domain>\n",
     "warning test:2: type pipe needs a command: no mail can be delivered"},
    {"command of another block that is cleared",
     "<domain *>\ncommand /bin/a\n</domain>\n<domain a.example>\ntype pipe\ncommand \"\"\n"
     "</domain>\n",
     "warning test:5: type pipe needs a command: no mail can be delivered"},
    {"files without a place", "<domain a.example>\ntype file\n</domain>\n",
     "warning test:2: type file needs a file-destination: no mail can be delivered"},
    {"command that nothing runs",
     "<domain a.example>\ntype file\nfile-destination /a\n"
     "command /bin/a\n</domain>\n",
     "warning test:4: command has no effect without type pipe"},
    {"given up before the second attempt",
     "<domain *>\nretry-after 2h\nbounce-after 1h\n</domain>\n",
     "warning test:3: bounce-after 1h is no longer than the first wait of retry-after 2h"},
    {"TLS wanted and forbidden",
     "<domain *>\nrequire-starttls yes\n</domain>\n<domain a.example>\nuse-starttls "
     "no\n</domain>\n",
     "warning test:2: require-starttls yes contradicts use-starttls no (line 5 of test)"},
    {"SPF of an address that the system chooses",
     "smtp-source-host 192.0.2.1 a\n<virtual-mta v>\nsmtp-source-host 0.0.0.0 b\n</virtual-mta>\n"
     "<domain *>\ncheck-spf-outbound yes\n</domain>\n",
     "warning test:6: check-spf-outbound does not check mail of virtual MTA v"},
    {"limit of nothing", "<domain *>\nmax-smtp-out 0\n</domain>\n",
     "warning test:2: max-smtp-out 0 lets nothing through"},
    {"rate out of reach",
     "<domain *>\nmax-msg-rate 100/min\nmax-connect-rate 1/min\nmax-msg-per-connection 10\n"
     "max-rcpt-per-message 1\n</domain>\n",
     "warning test:2: max-msg-rate 100/min is out of reach by max-connect-rate 1/min"},
    {"more than the virtual MTA allows",
     "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\nmax-smtp-out 10\n<domain *.a.example>\n"
     "max-smtp-out 50\n</domain>\n</virtual-mta>\n",
     "warning test:5: max-smtp-out 50 is more than the whole virtual MTA's max-smtp-out 10"},
    {"more than all connections", "total-max-smtp-out 10\n<domain *>\nmax-smtp-out 11\n</domain>\n",
     "warning test:3: max-smtp-out 11 is more than total-max-smtp-out 10: it can never be reached"},
    {"backoff in a pool",
     "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
     "<virtual-mta-pool p>\nvirtual-mta a\n<domain a.example>\nmax-msg-rate 5/h\n</domain>\n"
     "</virtual-mta-pool>\n<domain *>\nbackoff-max-msg-rate 9/h\n</domain>\n",
     "warning test:11: backoff-max-msg-rate 9/h is no tighter than max-msg-rate 5/h (line 7 of "
     "test)"},
    {"short wait", "<domain *>\nretry-after 5m,30s\n</domain>\n",
     "warning test:2: retry-after 5m,30s: the interval is under a minute"},
    {"short span", "<domain *>\nmax-msg-rate 10/30sec\n</domain>\n",
     "warning test:2: max-msg-rate 10/30sec: the interval is under a minute"},
    {"line behind a final *",
     "<source 0/0>\npattern-list l\n</source>\n"
     "<pattern-list l>\n* virtual-mta={default}\nmail-from /a/ virtual-mta={default}\n"
     "</pattern-list>\n",
     "warning test:6: the line is never reached: line 5 of test matches before"},
    {"category behind everything",
     "<bounce-category-patterns>\n// other\n/spam/ spam-related\n</bounce-category-patterns>\n",
     "warning test:3: the line is never reached: line 2"},
    {"the same regex twice",
     "<bounce-category-patterns>\n/spam/ spam-related\n/quota/ quota-issues\n/spam/ other\n"
     "</bounce-category-patterns>\n",
     "warning test:4: the line is never reached: line 2"},
    {"the same regex in other letters",
     "<bounce-category-patterns>\n/(?:spam)/ spam-related\n/(?:SPAM)/ other\n"
     "</bounce-category-patterns>\n",
     "warning test:3: the line is never reached: line 2"},
    {"regex with slashes and blanks, twice",
     "<bounce-category-patterns>\n/a/ b/ spam-related\n/a/ c/ other\n/a/ b/ other\n"
     "</bounce-category-patterns>\n",
     "warning test:4: the line is never reached: line 2"},
    {"reply twice",
     "<smtp-pattern-list l>\nreply /a/ mode=backoff\nreply /a/ mode=normal\n"
     "</smtp-pattern-list>\n",
     "warning test:3: line 2 of test matches before and decides all that this one asks for"},
    {"reply that two others decide",
     "<smtp-pattern-list l>\nreply /a/ mode=backoff\nreply // skip-mx\n"
     "reply /a/ bounce-queue,mode=normal\n</smtp-pattern-list>\n",
     "warning test:4: line 3 of test matches before"},
    {"queue that one reply ends",
     "<smtp-pattern-list l>\nreply /a/ skip-mx\nreply /b/ mode=backoff,bounce-queue\n"
     "</smtp-pattern-list>\n",
     "warning test:3: bounce-queue: one reply bounces all that waits"},
    {"greeting that ends a queue",
     "<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n<domain *>\nbounce-upon-5xx-greeting yes\n"
     "</domain>\n</virtual-mta>\n",
     "warning test:4: bounce-upon-5xx-greeting: all that waits"},
    {"keyword without effect", "run-as-root no\n", "warning test:1: run-as-root is accepted and "},
    {"file to include is elsewhere", "include /nowhere/at/all.conf\n",
     "warning test:1: cannot include /nowhere/at/all.conf"},
};

static void what_is_odd_is_told(void **state)
{
    static struct findings findings;

    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        struct conf *conf = NULL;

        findings = (struct findings){0};
        if (conf_load_text("test", odd[i].text, &options, collect, &findings, &conf) != 0)
            fail_msg("%s: %s", odd[i].name, findings.text);
        if (strstr(findings.text, odd[i].fragment) == NULL)
            fail_msg("%s: no \"%s\" in\n%s", odd[i].name, odd[i].fragment, findings.text);
        conf_unref(conf);
    }
}

/* Unless only the syntax counts, files that are named must be there. */
static void files_are_looked_for(void **state)
{
    static const struct conf_load_options here = {.lint = true};
    static const char text[] = "domain-key s1,a.example,/nowhere/key.pem\n"
                               "domain-key s2,*,/dev/null\n"
                               "smtp-server-tls-certificate /nowhere/cert.pem word\n"
                               "smtp-server-tls-ca-file /nowhere/ca.pem\n";
    static struct findings findings;
    struct conf *conf = NULL;

    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", text, &here, collect, &findings, &conf), 0);
    assert_non_null(strstr(findings.text, "test:1: domain-key: there is no file /nowhere/key.pem"));
    assert_null(strstr(findings.text, "/dev/null"));
    assert_non_null(strstr(findings.text, "test:3: smtp-server-tls-certificate: there is no file "
                                          "/nowhere/cert.pem"));
    assert_non_null(strstr(findings.text, "test:4: smtp-server-tls-ca-file: there is no file"));
    conf_unref(conf);
    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", text, &options, collect, &findings, &conf), 0);
    assert_null(strstr(findings.text, "there is no file"));
    conf_unref(conf);
}

/* Without being asked to, a load says nothing of all this. */
static void a_plain_load_is_quiet(void **state)
{
    static struct findings findings;

    for (size_t i = 0; i < COUNT_OF(odd); i++) {
        static const struct conf_load_options plain = {.syntax_only = true};
        struct conf *conf = NULL;

        findings = (struct findings){0};
        conf_load_text("test", odd[i].text, &plain, collect, &findings, &conf);
        if (strstr(odd[i].fragment, "is accepted and") == NULL &&
            strstr(odd[i].fragment, "cannot include") == NULL &&
            strstr(findings.text, odd[i].fragment) != NULL)
            fail_msg("%s: %s", odd[i].name, findings.text);
        conf_unref(conf);
    }
}

/* What is sound gets no remark but of keywords without effect. */
static void what_is_sound_is_not(void **state)
{
    static const char sound[] =
        "domain-macro big big.example,$more\ndomain-macro more other.example\n"
        "tls-report-from a@Sub.b.example\ntls-report-virtual-mta r\ndomain-key s,b.example,/k\n"
        "<virtual-mta r>\nsmtp-source-host 192.0.2.1 r\n</virtual-mta>\n"
        "http-access 127.0.0.1 admin\nhttp-access 10.0/16 admin\nhttp-access 10/8 "
        "monitor\nhttp-access 0/0 none\n"
        "total-max-smtp-out 20\n<domain *>\nmax-smtp-out 20\nmax-msg-rate 1000/h\nretry-after "
        "10m\nbounce-after 4d\n"
        "command /bin/a\nbackoff-max-msg-rate 10/h\nbackoff-max-smtp-out 4\nbackoff-retry-after "
        "1h\nsmtp-pattern-list l\n</domain>\n"
        "<domain $big>\nmax-smtp-out 10\nbounce-upon-5xx-greeting no\n</domain>\n"
        "<domain big.example>\nmax-smtp-out 15\nmax-msg-rate unlimited\n</domain>\n"
        "<domain p.example>\ntype pipe\n</domain>\n"
        "<domain f.example>\ntype file\nfile-destination /a\n</domain>\n"
        "<domain [*.]big.example>\nmax-smtp-out 15\n</domain>\n"
        "<smtp-pattern-list l>\nreply /busy \\/ later/ mode=backoff,skip-mx\n"
        "reply /^4.*http:\\/\\/x/ disable-source-ip,reenable-after=1h\n"
        "reply /busy \\/ later/ defer-queue\nreply /a/ stop trigger=5/1m\nreply // stop\n"
        "reply /a/ skip-mx\nreply /see http://x.com/ for/ mode=backoff\n"
        "reply /see http://x.com/ against/ mode=backoff\nreply /\\sx/ skip-mx\n"
        "reply /\\Sx/ skip-mx\nreply /(?-i)x/ skip-mx\nreply /(?-i)X/ skip-mx\n"
        "</smtp-pattern-list>\n"
        "<source 0/0>\npattern-list p\n</source>\n<source {auth}>\n</source>\n"
        "<source by-line>\n</source>\nsmtp-listener 0/0:25 source=By-Line\n"
        "<source by-block>\n</source>\n<smtp-listener 0/0:26>\nsource by-block\n</smtp-listener>\n"
        "<source {of-user}>\n</source>\n<smtp-user u>\npassword p\nsource {of-user}\n</smtp-user>\n"
        "<pattern-list p>\nmail-from /a/ call-to:q\nmail-from /a/ virtual-mta=a\n* call-to:q\n"
        "rcpt-to /b/ virtual-mta=a\n</pattern-list>\n"
        "<pattern-list q>\nrcpt-to /a/ virtual-mta=a\n</pattern-list>\n"
        "<bounce-category-patterns>\n/spam/ spam-related\n/see a/ b/ spam-related\n"
        "/see a/ c/ other\n// other\n</bounce-category-patterns>\n"
        "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\nmax-smtp-out 100\n<domain *>\n"
        "max-smtp-out 5\ncheck-spf-outbound yes\n</domain>\n</virtual-mta>\n"
        "<acct-file /a.csv>\nmove-to /b\nmove-interval 5m\n</acct-file>\n";
    static struct findings findings;
    struct conf *conf = NULL;
    char *line = findings.text;

    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", sound, &options, collect, &findings, &conf), 0);
    for (char *end = strchr(line, '\n'); end != NULL; line = end + 1, end = strchr(line, '\n')) {
        *end = '\0';
        if (strstr(line, "accepted but has no effect yet") == NULL &&
            strncmp(line, "note ", 5) != 0)
            fail_msg("%s", line);
    }
    conf_unref(conf);
}

static unsigned count_of(const char *text, const char *fragment)
{
    unsigned count = 0;

    while ((text = strstr(text, fragment)) != NULL) {
        text++;
        count++;
    }
    return count;
}

/* Each text loads, and the report holds the fragment so many times. */
static void findings_are_counted(void **state)
{
    static const struct {
        const char *text;
        const char *fragment;
        unsigned count;
    } rows[] = {
        /* What many domains inherit is said once, at the line that they have it from. */
        {"<domain *>\nmax-smtp-out 3\nsmtp-pattern-list l\n</domain>\n"
         "<domain a.example>\nbounce-after 1d\n</domain>\n"
         "<domain b.example>\nmax-smtp-out 2\n</domain>\n"
         "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
         "unless given", 1},
        /* The default is a limit of more, no list asks for backoff, a provider says how many. */
        {"<domain *>\nmax-smtp-out 300\nsmtp-pattern-list l\n</domain>\n"
         "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
         "warning", 0},
        {"<domain *>\nmax-smtp-out 3\nsmtp-pattern-list l\n</domain>\n"
         "<smtp-pattern-list l>\nreply /a/ skip-mx\n</smtp-pattern-list>\n",
         "warning", 0},
        {"provider-pack on\n<domain *>\nmax-smtp-out 3\nsmtp-pattern-list l\n</domain>\n"
         "<smtp-pattern-list l>\nreply /a/ mode=backoff\n</smtp-pattern-list>\n",
         "warning", 0},
        {"<domain *>\ndkim-sign yes\n</domain>\n<domain a.example>\nbounce-after 1d\n</domain>\n"
         "<domain b.example>\nbounce-after 1d\n</domain>\n",
         "domain-key", 1},
        /* It is sent unsigned, signed with a key of the top level, of each that has mail, or of
         * the pool, or brings its key; one without says that it does not want it. */
        {"<domain *>\ndkim-sign yes\ndkim-missing-key send\n</domain>\n", "domain-key", 0},
        {"domain-key s,*,/k\n<domain *>\ndkim-sign yes\n</domain>\n", "domain-key", 0},
        {"<domain *>\ndkim-sign yes\n</domain>\n<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\n"
         "</virtual-mta>\n<virtual-mta b>\nsmtp-source-host 192.0.2.2 b\n<domain *>\ndkim-sign no\n"
         "</domain>\n</virtual-mta>\n<virtual-mta-pool p>\nvirtual-mta a\ndomain-key s,*,/k\n"
         "</virtual-mta-pool>\n",
         "domain-key", 0},
        {"<source 0/0>\nprocess-x-dkim-options yes\nprocess-x-dkim-key yes\n</source>\n"
         "<domain *>\ndkim-sign yes\n</domain>\n",
         "domain-key", 0},
        {"<domain *>\ntype pipe\n</domain>\n<domain a.example>\nbounce-after 1d\n</domain>\n",
         "needs a command", 1},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static struct findings findings;
        char *note;
        struct conf *conf = NULL;
        unsigned count;

        findings = (struct findings){0};
        assert_int_equal(conf_load_text("test", rows[i].text, &options, collect, &findings, &conf),
                         0);
        note = strstr(findings.text, "note ");
        if (note != NULL)
            *note = '\0';
        count = count_of(findings.text, rows[i].fragment);
        if (count != rows[i].count)
            fail_msg("%zu: \"%s\" %u times in\n%s", i, rows[i].fragment, count, findings.text);
        conf_unref(conf);
    }
}

/* Columns for rows that are not written. */
static void fields_of_no_records(void **state)
{
    static const struct conf_load_options lint = {.lint = true};
    static const char text[] = "smtp-source-host 10.0.0.1 h\n<acct-file /a.csv>\nrecords d,bounce\n"
                               "record-fields d,b *\nrecord-fields t,receipt *\n"
                               "record-fields tq *\nmap-header-to-field t header_X dsnMta\n"
                               "</acct-file>\n";
    static struct findings findings;
    struct conf *conf = NULL;

    findings = (struct findings){0};
    assert_int_equal(conf_load_text("test", text, &lint, collect, &findings, &conf), 0);
    assert_null(strstr(findings.text, "test:4:"));
    assert_non_null(
        strstr(findings.text, "warning test:5: record-fields: `records` does not name t,"));
    assert_non_null(
        strstr(findings.text, "warning test:5: record-fields: `records` does not name r,"));
    assert_non_null(
        strstr(findings.text, "warning test:7: map-header-to-field: `records` does not "));
    assert_int_equal(findings.warnings, 3);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_odd_is_told),   cmocka_unit_test(files_are_looked_for),
        cmocka_unit_test(a_plain_load_is_quiet), cmocka_unit_test(what_is_sound_is_not),
        cmocka_unit_test(fields_of_no_records),  cmocka_unit_test(findings_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
