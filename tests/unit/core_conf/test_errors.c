#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

/* Each text is refused with a report that holds all the fragments. */
static const struct {
    const char *name;
    const char *text;
    const char *fragments[3];
} bad[] = {
    {"unknown directive", "\nmax-smpt-out 20\n", {"test:2:", "\"max-smpt-out\""}},
    {"rights that web clients do not have",
     "http-access 10/8 superuser\nhttp-access foo admin\n",
     {"error test:1: http-access: behind the block stands none, monitor", "error test:2: "
                                                                          "http-access: \"foo\""}},
    {"nearest name",
     "<domain *>\nmax-smpt-out 20\n</domain>\n",
     {"test:2:", "in <domain>", "did you mean \"max-smtp-out\"?"}},
    {"keyword of rumour",
     "<domain *>\ndkim-selector s1\n</domain>\n",
     {"test:2: there is no directive \"dkim-selector\"", "domain-key"}},
    {"section of rumour",
     "<queue a/b>\nmax-smtp-out 1\nnonsense\n</queue>\n",
     {"error test:1: there is no <queue>: settings of queues stand in <domain>"}},
    {"no hint for nonsense", "<domain *>\nqqqqqqqq 20\n</domain>\n", {"<domain>\n"}},
    {"right keyword, wrong place",
     "retry-after 10m\n",
     {"test:1:", "\"retry-after\" is not known in the top level", "it belongs in <domain>"}},
    {"several right places", "always-allow-relaying yes\n", {"belongs in <source>"}},
    {"unknown section", "<domian *>\n</domian>\n", {"test:1:", "did you mean <domain>?"}},
    {"unknown section far off", "<zzzzzzz>\n</zzzzzzz>\n", {"unknown section <zzzzzzz>\n"}},
    {"section without its argument", "<domain>\n</domain>\n", {"test:1:", "<domain PATTERN>"}},
    {"section never closed", "<domain *>\nmax-smtp-out 1\n", {"test:1:", "never closed"}},
    {"section closed twice", "<domain *>\n</domain>\n</domain>\n", {"test:3:", "closes nothing"}},
    {"missing end of a section",
     "<domain a>\nmax-smtp-out 1\n<domain b>\nmax-smtp-out x\n</domain>\n",
     {"test:3:", "opened in line 1", "test:4:"}},
    {"crossed sections",
     "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a\n<domain *>\n</virtual-mta>\n</domain>\n",
     {"test:3: <domain> is never closed", "test:5:"}},
    {"section in the wrong place",
     "<spool /a>\n<domain *>\n</domain>\n</spool>\n",
     {"test:2:", "<domain> cannot stand in <spool>"}},
    {"no end of a tag", "<domain *\n", {"test:1:", "does not end with >"}},
    {"empty tag", "<>\n", {"test:1:"}},
    {"keyword without value", "log-file\n", {"test:1:", "log-file needs a value"}},
    {"too many words", "log-file /a /b\n", {"test:1:", "unexpected \"/b\""}},
    {"open quote", "log-file \"/a\n", {"test:1:", "quote"}},
    {"comment within quotes", "log-file \"/a#b\"\n", {"test:1:", "quote"}},
    {"relative path", "log-file a.log\n", {"absolute path"}},
    {"bad boolean", "shard-smt maybe\n", {"test:1:", "shard-smt", "none of"}},
    {"out of range",
     "outcome-commit-interval 1h\n",
     {"test:1:", "outcome-commit-interval: must be between 1ms and 10s"}},
    {"size out of range",
     "<spool /a>\nsegment-size 1k\n</spool>\n",
     {"test:2:", "must be between 1m and 4g"}},
    {"counts of a warm-up by the hour",
     "<domain *>\nmax-cold-virtual-mta-msg 5/d,7/h\n</domain>\n",
     {"test:2: max-cold-virtual-mta-msg: \"5/d,7/h\" is no list of counts a day"}},
    {"warm-up without a schedule",
     "<warm-up a>\n</warm-up>\n",
     {"test:1: <warm-up a>: there is no schedule"}},
    {"warm-up that falls",
     "\n<warm-up a>\nschedule 50,40\n</warm-up>\n",
     {"test:2: <warm-up a>: schedule: at most 64 steps, each at least 1 and no smaller"}},
    {"warm-up of nothing", "<warm-up a>\nschedule 0,40\n</warm-up>\n", {"test:1:", "at least 1"}},
    {"warm-up in words",
     "<warm-up a>\nschedule slowly\n</warm-up>\n",
     {"test:1:", "neither a list like 50,100,200 nor start=50 factor=1.5 days=20"}},
    {"warm-up that does not grow",
     "<warm-up a>\nschedule start=5 factor=1 days=9\n</warm-up>\n",
     {"test:1:", "with a factor above 1"}},
    {"warm-up that is too long",
     "<warm-up a>\nschedule start=5 factor=1.1 days=65\n</warm-up>\n",
     {"test:1:", "at most 64 steps"}},
    {"warm-up by night",
     "<warm-up a>\nschedule 5\nsend-hours 20:00-8:00\n</warm-up>\n",
     {"test:1: <warm-up a>: send-hours: no span of a day"}},
    {"warm-up by half a scope",
     "<warm-up a>\nschedule 5\nscope provider\n</warm-up>\n",
     {"test:1: <warm-up a>: scope: it has to be provider,source-ip"}},
    {"warm-up of senders by queue",
     "<warm-up a>\nschedule 5\nsender-domain a.test\n</warm-up>\n",
     {"test:1: <warm-up a>: sender-domain: that needs scope sender-domain"}},
    {"warm-up that overflows nowhere",
     "<warm-up a>\nschedule 5\noverflow v\n</warm-up>\n",
     {"test:1: <warm-up a>: overflow: there is no virtual MTA or pool v"}},
    {"warm-up that overflows into itself",
     "<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
     "<warm-up a>\nschedule 5\noverflow v\n</warm-up>\n",
     {"test:4: <warm-up a>: overflow: mail of v is itself under <warm-up a>, which overflows"}},
    {"warm-up of nobody",
     "<warm-up a>\nschedule 5\nvirtual-mta v\n</warm-up>\n",
     {"test:1: <warm-up a>: there is no <virtual-mta v>"}},
    {"warm-up given twice",
     "<warm-up a>\nschedule 5\n</warm-up>\n<warm-up A>\nschedule 5\n</warm-up>\n",
     {"test:4: <warm-up A>: it is given twice"}},
    {"no such time zone",
     "warm-up-time-zone Europe/Nowhere\n",
     {"warm-up-time-zone: \"Europe/Nowhere\": "}},
    {"milliseconds elsewhere", "<domain *>\nbounce-after 10ms\n</domain>\n", {"test:2:"}},
    {"control character", "log-file /a\x01\n", {"test:1:", "control character 0x01, in column 12"}},
    {"not UTF-8", "log-file /\xff\n", {"test:1:", "UTF-8"}},
    {"overlong UTF-8", "log-file /\xc0\xaf\n", {"test:1:", "UTF-8"}},
    {"overlong UTF-8 of three", "log-file /\xe0\x80\xaf\n", {"test:1:", "UTF-8"}},
    {"overlong UTF-8 of four", "log-file /\xf0\x80\x80\xaf\n", {"test:1:", "UTF-8"}},
    {"beyond Unicode", "log-file /\xf4\x90\x80\x80\n", {"test:1:", "UTF-8"}},
    {"cut UTF-8", "log-file /\xf0\x90\x80\n", {"test:1:", "UTF-8"}},
    {"surrogate", "log-file /\xed\xa0\x80\n", {"test:1:", "UTF-8"}},
    {"bad pattern", "<domain a..b>\n</domain>\n", {"test:1:", "\"a..b\""}},
    {"wildcard in the middle", "<domain a.*.b>\n</domain>\n", {"test:1:"}},
    {"wildcard elsewhere", "<domain mail.*>\n</domain>\n", {"test:1:", "(its forms are *, DOMAIN"}},
    {"international pattern", "<domain b\xc3\xbc.example>\n</domain>\n", {"xn--"}},
    {"unknown macro", "<domain $none>\n</domain>\n", {"test:1:", "no domain-macro \"none\""}},
    {"macro that contains itself",
     "domain-macro a $b\ndomain-macro b x,$a\n",
     {"test:1:", "contains itself"}},
    {"macro with a bad domain",
     "domain-macro a ok.example,b..d\n<domain $a>\n</domain>\n",
     {"test:2:", "\"b..d\""}},
    {"macro too long",
     "domain-macro a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
     "<domain $a.$a.$a.$a>\n</domain>\n",
     {"test:2:", "too long"}},
    {"reserved name",
     "smtp-source-host 192.0.2.1 a\n<virtual-mta {default}>\n</virtual-mta>\n",
     {"test:2:", "reserved"}},
    {"two of one name",
     "smtp-source-host 192.0.2.1 a\n<virtual-mta a>\n</virtual-mta>\n"
     "<virtual-mta-pool A>\nvirtual-mta a\n</virtual-mta-pool>\n",
     {"test:4:", "already"}},
    {"unknown member",
     "<virtual-mta-pool p>\nvirtual-mta nobody\n</virtual-mta-pool>\n",
     {"test:2:", "<virtual-mta nobody>"}},
    {"empty pool", "<virtual-mta-pool p>\n</virtual-mta-pool>\n", {"test:1:", "no virtual-mta"}},
    {"two pools with domain blocks",
     "smtp-source-host 192.0.2.1 a\n<virtual-mta v>\n</virtual-mta>\n"
     "<virtual-mta-pool p>\nvirtual-mta v\n<domain *>\n</domain>\n</virtual-mta-pool>\n"
     "<virtual-mta-pool q>\nvirtual-mta v\n<domain *>\n</domain>\n</virtual-mta-pool>\n",
     {"test:10:", "two pools"}},
    {"unknown default virtual MTA",
     "<source 0/0>\ndefault-virtual-mta nobody\n</source>\n",
     {"test:2:", "\"nobody\""}},
    {"bad address of a source", "<source 192.0.2.0/33>\n</source>\n", {"test:1:"}},
    {"unknown source of a listener",
     "\nsmtp-listener 127.0.0.1:2525 source=nobody\n"
     "<smtp-listener 127.0.0.1:2526>\nsource no-one\n</smtp-listener>\n",
     {"test:2: there is no <source nobody>", "test:4: there is no <source no-one>"}},
    {"listener given twice, with another source",
     "smtp-listener 127.0.0.1:25\nsmtp-listener 127.0.0.1:25 source=a\n<source {a}>\n</source>\n",
     {"test:2:", "twice"}},
    {"listener on a multicast address", "smtp-listener 224.0.0.1:25\n", {"test:1:"}},
    {"source host that cannot be", "smtp-source-host 224.0.0.1 a\n", {"test:1:"}},
    {"relative spool", "<spool var>\n</spool>\n", {"test:1:", "absolute"}},
    {"spool given twice", "<spool /a>\n</spool>\n<spool /a>\n</spool>\n", {"test:3:", "twice"}},
    {"relative acct-file", "<acct-file a.csv>\n</acct-file>\n", {"test:1:", "absolute"}},
    {"acct-file of a relative program",
     "<acct-file |cat>\n</acct-file>\n",
     {"test:1:", "absolute"}},
    {"acct-file given twice",
     "<acct-file /a>\n</acct-file>\n<acct-file /a>\n</acct-file>\n",
     {"test:3:", "twice"}},
    {"unknown field",
     "<acct-file /a>\nrecord-fields d *,nonsense\n</acct-file>\n",
     {"test:2: record-fields:", "\"nonsense\""}},
    {"field of another kind",
     "<acct-file /a>\nrecord-fields d rcvSourceIp\n</acct-file>\n",
     {"test:2: record-fields:"}},
    {"map from no header",
     "<acct-file /a>\nmap-header-to-field d rcpt jobId\n</acct-file>\n",
     {"test:2: map-header-to-field:", "header_NAME"}},
    {"filter without a virtual MTA",
     "<acct-file /a>\nqueue-filter a.test/v,b.test\n</acct-file>\n",
     {"test:2: queue-filter:", "\"b.test\""}},
    {"filter with a bad pattern",
     "<acct-file /a>\nqueue-filter !a*b.test/v\n</acct-file>\n",
     {"test:2: queue-filter:"}},
    {"unknown privacy",
     "<acct-file /a>\nprivacy-policy siphash-00\n</acct-file>\n",
     {"privacy-policy: write retain"}},
    {"bad host id", "host-id a.b\n", {"host-id:"}},
    {"unknown record", "<acct-file /a>\nrecords d,p\n</acct-file>\n", {"test:2:", "\"p\""}},
    {"shards and CPUs", "shards 2\nshard-cpus 0-2\n", {"shards is 2", "3 CPUs"}},
    {"web include", "include http://example.com/x\n", {"test:1:", "not supported"}},
    {"missing include", "include /nonexistent/x\n", {"test:1:", "/nonexistent/x"}},
    {"control socket too long",
     "control-socket "
     "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
     {"test:1:", "between"}},
};

static void texts(void **state)
{
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        struct findings findings;

        refuse(bad[i].text, &findings);
        for (size_t j = 0; j < COUNT_OF(bad[i].fragments) && bad[i].fragments[j] != NULL; j++) {
            if (strstr(findings.text, bad[i].fragments[j]) == NULL)
                fail_msg("%s: no \"%s\" in:\n%s", bad[i].name, bad[i].fragments[j], findings.text);
        }
    }
}

/* One run shows everything that is wrong, each with its line. */
static void all_errors_are_reported(void **state)
{
    struct findings findings;

    refuse("nonsense 1\nlog-file\n<domain *>\nmax-smtp-out x\nbogus y\n</domain>\n"
           "<unknown z>\nwhatever\n<nested>\n</nested>\n</unknown>\n"
           "total-max-smtp-in 0\n<source 0/0>\ndefault-virtual-mta nobody\n</source>\n",
           &findings);
    assert_int_equal(findings.errors, 7);
    assert_non_null(strstr(findings.text, "test:1:"));
    assert_non_null(strstr(findings.text, "test:2:"));
    assert_non_null(strstr(findings.text, "test:4:"));
    assert_non_null(strstr(findings.text, "test:5:"));
    assert_non_null(strstr(findings.text, "test:7:"));
    assert_non_null(strstr(findings.text, "test:12:"));
    assert_non_null(strstr(findings.text, "test:14:"));
}

/* A file that is no configuration at all ends soon. */
static void errors_are_bounded(void **state)
{
    struct findings findings;
    char *text = malloc(200000);
    size_t len = 0;

    for (int i = 0; i < 5000; i++)
        len += (size_t)sprintf(text + len, "nonsense-%d 1\n", i);
    refuse(text, &findings);
    free(text);
    assert_int_equal(findings.errors, 101);
    assert_non_null(strstr(findings.text, "too many errors"));
}

static void long_lines(void **state)
{
    struct findings findings;
    size_t len = 70000;
    char *text = malloc(len + 64);

    memset(text, 'a', len);
    memcpy(text, "log-file /", 10);
    strcpy(text + len, "\nnonsense 1\n");
    refuse(text, &findings);
    assert_non_null(strstr(findings.text, "test:1: the line is longer than"));
    assert_non_null(strstr(findings.text, "test:2:"));
    /* Short of the bound it is the value's turn to object. */
    text[60000] = '\n';
    text[60001] = '#';
    refuse(text, &findings);
    assert_null(strstr(findings.text, "test:1:"));
    free(text);
}

/* Thirty-two macros deep is refused before the stack is at stake, a million domains too. */
static void macros_are_bounded(void **state)
{
    struct findings findings;
    char text[8192];
    size_t len = 0;

    for (int i = 0; i < 200; i++)
        len += (size_t)sprintf(text + len, "domain-macro m%d $m%d\n", i, i + 1);
    len += (size_t)sprintf(text + len, "domain-macro m200 a\n<domain $m0>\n</domain>\n");
    refuse(text, &findings);
    assert_non_null(strstr(findings.text, "nested deeper"));
    len = 0;
    len += (size_t)sprintf(text + len, "domain-macro d 0,1,2,3,4,5,6,7,8,9\n");
    len += (size_t)sprintf(text + len, "<domain a$d$d$d$d$d$d$d.example>\n</domain>\n");
    refuse(text, &findings);
    assert_non_null(strstr(findings.text, "more than 1000000 domains"));
}

/* What is quoted is cut, but never within a character. */
static void quotes_are_cut(void **state)
{
    struct findings findings;
    char text[512] = "log-file x";

    for (int i = 0; i < 60; i++)
        strcat(text, "\xc3\xbc");
    strcat(text, "\n");
    refuse(text, &findings);
    assert_non_null(strstr(findings.text, "\xc3\xbc\" is not an absolute path"));
    assert_null(strstr(findings.text, "\xc3\""));
    assert_true(findings.len < 150);
}

static void no_includes(void **state)
{
    static const struct conf_load_options options = {.no_includes = true};
    struct findings findings = {0};
    struct conf *conf = NULL;

    assert_int_equal(
        conf_load_text("test", "include /etc/passwd\n", &options, collect, &findings, &conf),
        E_SYNTAX);
    assert_non_null(strstr(findings.text, "test:1: include is not allowed here"));
}

static void unreadable(void **state)
{
    struct findings findings = {0};
    struct conf *conf = NULL;

    assert_int_equal(conf_load("/nonexistent/config", NULL, collect, &findings, &conf), -2);
    assert_int_equal(findings.errors, 1);
    assert_non_null(strstr(findings.text, "/nonexistent/config:0: cannot be read"));
    assert_true(conf_load("/", NULL, collect, &findings, &conf) < 0);
    assert_null(conf);
}

/* Nobody has to listen. */
static void without_a_listener(void **state)
{
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test", "nonsense\n", NULL, NULL, NULL, &conf), E_SYNTAX);
    assert_null(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),
        cmocka_unit_test(all_errors_are_reported),
        cmocka_unit_test(errors_are_bounded),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(macros_are_bounded),
        cmocka_unit_test(quotes_are_cut),
        cmocka_unit_test(no_includes),
        cmocka_unit_test(unreadable),
        cmocka_unit_test(without_a_listener),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
