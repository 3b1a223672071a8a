#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/conf-include-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[2][256];
    static unsigned turn;

    turn = !turn;
    snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
    return path[turn];
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(path_of(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static struct conf *load_file(const char *name)
{
    struct findings findings = {0};
    struct conf *conf = NULL;

    if (conf_load(path_of(name), NULL, collect, &findings, &conf) != 0)
        fail_msg("%s", findings.text);
    return conf;
}

static void refuse_file(const char *name, struct findings *findings)
{
    struct conf *conf = NULL;

    *findings = (struct findings){0};
    assert_int_equal(conf_load(path_of(name), NULL, collect, findings, &conf), E_SYNTAX);
    assert_null(conf);
}

static void expect(const struct findings *findings, const char *file, const char *text)
{
    char wanted[512];

    snprintf(wanted, sizeof(wanted), "%s%s", path_of(file), text);
    if (strstr(findings->text, wanted) == NULL)
        fail_msg("no \"%s\" in:\n%s", wanted, findings->text);
}

/* Of a file that was cut off nothing is left; one that includes others says something. */
static void empty_files(void **state)
{
    static const char *const texts[] = {"", "\n\n", "# all of it a comment\n"};
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        put("empty.conf", texts[i]);
        refuse_file("empty.conf", &findings);
        expect(&findings, "empty.conf", ":0: the file is empty");
    }
    put("including.conf", "include empty.conf\n");
    conf_unref(load_file("including.conf"));
    put("section.conf", "<source 10/8>\n</source>\n");
    conf_unref(load_file("section.conf"));
}

/* At the top level, in sections, nested, by pattern; names start at the including file's folder. */
static void in_every_place(void **state)
{
    struct conf *conf;

    put("main", "include vmtas/*.conf\ninclude sources\n<domain *>\ninclude limits\n</domain>\n"
                "<smtp-pattern-list x>\ninclude patterns\n</smtp-pattern-list>\n");
    assert_int_equal(mkdir(path_of("vmtas"), 0700), 0);
    put("vmtas/1.conf", "<virtual-mta one>\ninclude ../host\n</virtual-mta>\n");
    put("vmtas/2.conf", "<virtual-mta two>\ninclude ../host\n</virtual-mta>\n");
    put("vmtas/3.not", "nonsense\n");
    put("host", "smtp-source-host 192.0.2.1 a\n<domain *>\nlog-commands yes\n</domain>\n");
    put("sources", "<source 10/8>\nmax-message-hops 7\n</source>\n");
    put("limits", "max-smtp-out 9\ninclude more-limits\n");
    put("more-limits", "connect-timeout 3s\n");
    put("patterns", "reply /421/ mode=backoff\n");
    conf = load_file("main");
    assert_int_equal(conf_vmta_count(conf), 3);
    assert_string_equal(conf_vmta_at(conf, 1)->name, "one");
    assert_int_equal(source_of(conf, "10.0.0.1", NULL)->max_message_hops, 7);
    assert_int_equal(queue_of(conf, "a", "two").max_smtp_out, 9);
    assert_int_equal(queue_of(conf, "a", "two").connect_timeout_ms, 3000);
    assert_true(queue_of(conf, "a", "two").log_commands);
    assert_false(queue_of(conf, "a", "{default}").log_commands);
    conf_unref(conf);
}

static void errors_name_the_file(void **state)
{
    struct findings findings;

    put("main", "\ninclude inner\nbogus 1\n");
    put("inner", "\n\nnonsense 1\n");
    refuse_file("main", &findings);
    expect(&findings, "inner", ":3: unknown directive \"nonsense\"");
    expect(&findings, "main", ":3: unknown directive \"bogus\"");
}

static void loops(void **state)
{
    struct findings findings;

    put("main", "include inner\n");
    put("inner", "include main\n");
    refuse_file("main", &findings);
    expect(&findings, "inner", ":1:");
    assert_non_null(strstr(findings.text, "includes itself"));
    put("self", "include self\n");
    refuse_file("self", &findings);
    assert_int_equal(findings.errors, 1);
    /* The same file twice, one after the other, is no loop. */
    put("twice", "include leaf\ninclude leaf\n");
    put("leaf", "# nothing\n");
    conf_unref(load_file("twice"));
}

static void depth_is_bounded(void **state)
{
    struct findings findings;

    for (int i = 0; i < 20; i++) {
        char name[32];
        char text[64];

        snprintf(name, sizeof(name), "deep-%d", i);
        snprintf(text, sizeof(text), "include deep-%d\n", i + 1);
        put(name, text);
    }
    put("deep-20", "");
    refuse_file("deep-0", &findings);
    assert_non_null(strstr(findings.text, "nested deeper than 16"));
    conf_unref(load_file("deep-5"));
}

/* A few files that include each other's successors many times over must not take for ever. */
static void number_is_bounded(void **state)
{
    struct findings findings;

    for (int i = 0; i < 10; i++) {
        char name[32];
        char text[2048];
        size_t len = 0;

        snprintf(name, sizeof(name), "wide-%d", i);
        for (int j = 0; j < 20; j++)
            len += (size_t)snprintf(text + len, sizeof(text) - len, "include wide-%d\n", i + 1);
        put(name, text);
    }
    put("wide-10", "");
    refuse_file("wide-0", &findings);
    assert_non_null(strstr(findings.text, "more than 10000 files"));
}

/* What one file opens it has to close. */
static void sections_end_in_their_file(void **state)
{
    struct findings findings;

    put("main", "<domain *>\ninclude closer\n</domain>\n");
    put("closer", "</domain>\n");
    refuse_file("main", &findings);
    expect(&findings, "closer", ":1: </domain> closes nothing");
    /* Nor may it end what lies further out. */
    put("main", "<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n<domain *>\ninclude closer\n"
                "</domain>\n</virtual-mta>\n");
    put("closer", "</virtual-mta>\n");
    refuse_file("main", &findings);
    expect(&findings, "closer", ":1: </virtual-mta> closes nothing");
    assert_int_equal(findings.errors, 1);
    put("main", "include opener\n</domain>\n");
    put("opener", "<domain *>\nmax-smtp-out 1\n");
    refuse_file("main", &findings);
    expect(&findings, "opener", ":1: <domain> is never closed");
    expect(&findings, "main", ":2: </domain> closes nothing");
}

static void what_is_no_file(void **state)
{
    struct findings findings;

    put("main", "include .\n");
    refuse_file("main", &findings);
    expect(&findings, "main", ":1: cannot include");
    put("main", "include /dev/zero\n");
    refuse_file("main", &findings);
    expect(&findings, "main", ":1: cannot include");
    assert_int_equal(mkfifo(path_of("pipe"), 0600), 0);
    put("main", "include pipe\n");
    refuse_file("main", &findings);
    expect(&findings, "main", ":1: cannot include");
    /* A pattern that matches nothing is an empty folder, not a mistake. */
    put("main", "include nothing-*\n");
    conf_unref(load_file("main"));
}

/* What names something that a missing file may have, one thing a row. */
static const char *const naming[] = {
    "<source 127.0.0.1>\ndefault-virtual-mta pool1\n</source>\n",
    "<source 127.0.0.1>\nallow-virtual-mta x,y\n</source>\n",
    "<source 127.0.0.1>\npattern-list x\n</source>\n",
    "<source 127.0.0.1>\nrewrite-list x\n</source>\n",
    "<source 127.0.0.1>\nsuppression-lists x,y\n</source>\n",
    "<source 127.0.0.1>\nsource-group x\n</source>\n",
    "<virtual-mta-pool p>\nvirtual-mta x\n</virtual-mta-pool>\n",
    "<virtual-mta v>\nrewrite-list x\nuse-proxy x\n</virtual-mta>\n",
    "<pattern-list l>\nrcpt-to /a/ virtual-mta=x\n* call-to:y\n</pattern-list>\n"
    "<source 10/8>\npattern-list l\n</source>\n",
    "<domain *>\nsmtp-pattern-list x\n</domain>\n",
    "<domain $x>\nmax-smtp-out 5\n</domain>\n",
    "<domain *>\nbackoff-reroute-to-virtual-mta x\n</domain>\n",
    "<address-list l>\ndomain $x\n</address-list>\n",
    "<limit l>\nvirtual-mta x\npool y\ndomain $z\nmax-smtp-out 5\n</limit>\n",
    "<warm-up w>\nschedule 50,100\noverflow x\n</warm-up>\n",
    "<smtp-user u>\npassword p\nsource {x}\nallow-virtual-mta y\n</smtp-user>\n",
    "<smtp-listener 127.0.0.1:25>\nsource {x}\n</smtp-listener>\n",
    "relay-domain $x\n",
    "domain-macro m a.com,$x\nrelay-domain $m\n",
    "domain-key s,$x,/k.pem\n",
    "mx-connection-limit $x 5\n",
    "invalid-virtual-mta-fallback x\n",
    "tls-report-virtual-mta x\n",
};

static int load_with(const char *include, const char *text, bool syntax_only,
                     struct findings *findings)
{
    const struct conf_load_options options = {.syntax_only = syntax_only, .lint = true};
    struct conf *conf = NULL;
    char whole[1024];
    int rc;

    *findings = (struct findings){0};
    snprintf(whole, sizeof(whole), "smtp-source-host 192.0.2.1 a\n%s%s", include, text);
    put("main", whole);
    rc = conf_load(path_of("main"), &options, collect, findings, &conf);
    conf_unref(conf);
    return rc;
}

/* With syntax_only files need not exist, so what is named may stand in one that does not; without
 * one, or without syntax_only, nobody could know the name. */
static void names_of_missing_files(void **state)
{
    static const char *const includes[] = {"include /nowhere/vmtas.conf\n",
                                           "include /nowhere/*.conf\n"};
    struct findings findings;
    char wanted[128];

    for (size_t i = 0; i < COUNT_OF(naming); i++) {
        for (size_t j = 0; j < COUNT_OF(includes); j++) {
            if (load_with(includes[j], naming[i], true, &findings) != 0)
                fail_msg("%s: %s", naming[i], findings.text);
            assert_int_equal(findings.errors, 0);
            snprintf(wanted, sizeof(wanted), "; it may stand in %.*s, which could not be read",
                     (int)strlen(includes[j]) - 9, includes[j] + 8);
            if (strstr(findings.text, wanted) == NULL)
                fail_msg("%s: no \"%s\" in %s", naming[i], wanted, findings.text);
        }
        if (load_with("", naming[i], true, &findings) != E_SYNTAX ||
            strstr(findings.text, "may stand in") != NULL)
            fail_msg("%s: %s", naming[i], findings.text);
        assert_int_equal(load_with(includes[1], naming[i], false, &findings), E_SYNTAX);
        assert_null(strstr(findings.text, "may stand in"));
    }
    /* What is wrong by itself stays so. */
    assert_int_equal(load_with(includes[0], "<domain mail.*>\n</domain>\n", true, &findings),
                     E_SYNTAX);
}

/* What a section needs may stand in what it includes. */
static void sections_of_missing_files(void **state)
{
    static const char *const texts[] = {
        "<virtual-mta-pool p>\ninclude /nowhere/members\n</virtual-mta-pool>\n",
        "<smtp-user u>\ninclude /nowhere/secret\n</smtp-user>\n",
        "<virtual-mta v>\nuse-proxy p\n</virtual-mta>\n"
        "<proxy p>\ninclude /nowhere/proxy\n</proxy>\n",
        "<warm-up w>\ninclude /nowhere/schedule\n</warm-up>\n",
    };
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (load_with("", texts[i], true, &findings) != 0)
            fail_msg("%s: %s", texts[i], findings.text);
        assert_int_equal(load_with("", texts[i], false, &findings), E_SYNTAX);
    }
}

static void from_text(void **state)
{
    struct conf *conf;
    char text[512];

    put("leaf", "total-max-smtp-in 5\n");
    snprintf(text, sizeof(text), "include %s\n", path_of("leaf"));
    conf = load(text);
    assert_int_equal(conf_global(conf)->total_max_smtp_in, 5);
    conf_unref(conf);
}

static int begin(void **state)
{
    return mkdtemp(folder) == NULL;
}

/* What no address or domain is stands for nobody, which somebody should know. */
static void lines_of_an_address_file(void **state)
{
    struct findings findings = {0};
    struct conf *conf = NULL;
    char text[512];

    put("addresses", "# gone\n\na@one.test\r\n@two.test\nthree.test\n\"a b\"@four.test\n"
                     "five@five.test,2024-01-01\n<six@six.test>\nseven eight\n");
    snprintf(text, sizeof(text), "<address-list l>\naddress-file %s\n</address-list>\n",
             path_of("addresses"));
    put("lists.conf", text);
    assert_int_equal(conf_load(path_of("lists.conf"), NULL, collect, &findings, &conf), 0);
    expect(&findings, "addresses",
           ": lines that are neither an address nor a domain: 3, the first is line 7");
    conf_unref(conf);
}

static int end(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_files),
        cmocka_unit_test(in_every_place),
        cmocka_unit_test(errors_name_the_file),
        cmocka_unit_test(loops),
        cmocka_unit_test(depth_is_bounded),
        cmocka_unit_test(number_is_bounded),
        cmocka_unit_test(sections_end_in_their_file),
        cmocka_unit_test(what_is_no_file),
        cmocka_unit_test(names_of_missing_files),
        cmocka_unit_test(sections_of_missing_files),
        cmocka_unit_test(from_text),
        cmocka_unit_test(lines_of_an_address_file),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
