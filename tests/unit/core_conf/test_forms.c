/* Forms of writing that files of users have, besides the usual one, and old names of keywords. */
#include "core/base/regex.h"
#include "core/conf/dkim.h"
#include "core/conf/limit.h"
#include "tests/unit/core_conf/unit.h"

static const char *category_of(const struct conf *conf, const char *reply)
{
    struct conf_queue queue = queue_of(conf, "a.test", "{default}");
    struct regex_scratch *scratch = regex_scratch_new();
    static struct conf_category category;
    bool found = conf_category_ask(queue.categories, slice_str(reply), scratch, &category);

    regex_scratch_free(scratch);
    return found ? category.name : "none";
}

/* ---- Tags and lines ------------------------------------------------------------------------- */

static void tags_share_lines(void **state)
{
    struct conf *conf = load("<virtual-mta v1>smtp-source-host 192.0.2.1 one.test\n"
                             "<domain *> max-smtp-out 3\n"
                             "</domain></virtual-mta>\n"
                             "<domain a.test></domain>\n"
                             "<domain b.test> max-smtp-out 4 </domain>\n"
                             "<domain c.test>\n\tmax-smtp-out 5 </domain> # done\n"
                             "<acct-file |/usr/bin/keep 2>/dev/null>\n</acct-file>\n"
                             "<bounce-category-patterns> /a<b>/ odd\n"
                             "/no such <user>/ bad-mailbox </bounce-category-patterns>\n");

    assert_int_equal(queue_of(conf, "a.test", "v1").max_smtp_out, 3);
    assert_int_equal(queue_of(conf, "a.test", "{default}").max_smtp_out, 20);
    assert_int_equal(queue_of(conf, "b.test", "{default}").max_smtp_out, 4);
    assert_int_equal(queue_of(conf, "c.test", "{default}").max_smtp_out, 5);
    assert_string_equal(conf_vmta_named(conf, SLICE_LITERAL("v1"))->addresses[0].helo, "one.test");
    assert_string_equal(category_of(conf, "550 no such <user>"), "bad-mailbox");
    assert_string_equal(category_of(conf, "550 a<b>"), "odd");
    conf_unref(conf);
}

static void tags_that_share_lines_are_checked(void **state)
{
    struct findings findings;

    refuse("<domain a.test> max-smtp-out many </domain>\n<domain b.test>\nmax-smtp-out x\n"
           "</domain>\n",
           &findings);
    assert_int_equal(findings.errors, 2);
    refuse("<unknown x> anything 1 </unknown>\n<domain b.test> max-smtp-out x </domain>\n",
           &findings);
    assert_int_equal(findings.errors, 2);
}

/* What other programs would write costs its own line only. */
static void strangers(void **state)
{
    struct findings findings;

    refuse("<!-- listeners -->\n<?xml version=1?>\nsmtp-source-host a.test 192.0.2.1\n"
           "<domain a.test b.test>\n</domain>\nbogus 1\n",
           &findings);
    assert_int_equal(findings.errors, 5);
    assert_non_null(strstr(findings.text, "test:1: this is no section; comments begin with #"));
    assert_non_null(strstr(findings.text, "test:2: this is no section"));
    assert_non_null(strstr(findings.text, "test:3: smtp-source-host: the address stands in front"));
    assert_non_null(strstr(findings.text, "test:6: unknown directive"));
    refuse("<domain a.test b.test>\n</domain>\n", &findings);
    assert_non_null(strstr(findings.text, "<domain $NAME>, with a domain-macro"));
}

/* The name may be said again at the end, and has to be the right one. */
static void ends_with_names(void **state)
{
    struct findings findings;
    struct conf *conf = load("<domain a.test>\nmax-smtp-out 4\n</domain A.test>\n"
                             "<domain-key-list keys>\n</domain-key-list  keys >\n");

    assert_int_equal(queue_of(conf, "a.test", "{default}").max_smtp_out, 4);
    conf_unref(conf);
    refuse("<domain a.test>\nmax-smtp-out 4\n</domain b.test>\n</domain>\n", &findings);
    assert_non_null(strstr(findings.text, "</domain b.test> closes nothing"));
}

/* ---- Patterns that are broken off ----------------------------------------------------------- */

static void broken_patterns(void **state)
{
    struct findings findings = {0};
    struct conf *conf = NULL;
    const char *text = "<bounce-category-patterns>\n"
                       "/mailbox (is )?(now|soon \n   +)?closed/ inactive-mailbox\r\n"
                       "/box is fu\n\n# in between\nll/ quota-issues\n"
                       "/gone to \r\nsea/\n   bad-mailbox\n"
                       "/one \ntwo \nthree/ other\n"
                       "</bounce-category-patterns>\n";

    assert_int_equal(conf_load_text("test", text, NULL, collect, &findings, &conf), 0);
    assert_string_equal(category_of(conf, "550 mailbox is soon  closed"), "inactive-mailbox");
    assert_string_equal(category_of(conf, "550 mailbox closed"), "inactive-mailbox");
    assert_string_equal(category_of(conf, "552 box is full"), "quota-issues");
    assert_string_equal(category_of(conf, "550 gone to sea"), "bad-mailbox");
    assert_string_equal(category_of(conf, "550 one two three"), "other");
    assert_int_equal(findings.warnings, 4);
    assert_non_null(strstr(findings.text, "warning test:2: the pattern is broken off"));
    assert_non_null(
        strstr(findings.text, ".../mailbox (is )?(now|soon +)?closed/ inactive-mai..."));
    conf_unref(conf);
}

/* What no end is found for stays an error of its own line, and costs no line behind it. */
static void hopeless_patterns(void **state)
{
    struct findings findings;

    refuse("<bounce-category-patterns>\n/never ends\nnor here\n/fine/ other\n/last\n"
           "</bounce-category-patterns>\nbogus 1\n",
           &findings);
    assert_non_null(strstr(findings.text, "test:2: <bounce-category-patterns>: \"/never ends\""));
    assert_non_null(strstr(findings.text, "test:3: "));
    assert_non_null(strstr(findings.text, "test:5: "));
    assert_non_null(strstr(findings.text, "test:7: unknown directive"));
}

/* ---- Flags of patterns ---------------------------------------------------------------------- */

/* Case is ignored anyway, so a flag that says so changes nothing. */
static void flags(void **state)
{
    struct findings findings;
    struct conf *conf =
        load("<bounce-category-patterns>\n/Gone Away/i bad-mailbox\n"
             "/i/i  other\n</bounce-category-patterns>\n"
             "<smtp-pattern-list l>\nreply /421 too fast/i mode=backoff\n"
             "reply /a/ b/ skip-mx\n</smtp-pattern-list>\n"
             "<virtual-mta v>\nsmtp-source-host 192.0.2.1 v.test\n</virtual-mta>\n"
             "<pattern-list p>\nrcpt-to /@a.test/i virtual-mta=v\n"
             "mail-from /@b.test/ recipient-priority=80\n</pattern-list>\n"
             "<source 10/8>\npattern-list p\n</source>\n"
             "<address-list s>\naddress /x@y/i\n</address-list>\n"
             "<domain *>\nsmtp-pattern-list l\nbackoff-max-smtp-out 1\n</domain>\n");
    const struct conf_source *source = source_of(conf, "10.0.0.1", NULL);
    struct conf_pattern_question question = {.sender = SLICE_LITERAL("s@b.test"),
                                             .rcpt = SLICE_LITERAL("r@A.test")};
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf_pattern_answer answer;

    assert_string_equal(category_of(conf, "550 gone away"), "bad-mailbox");
    assert_string_equal(category_of(conf, "i"), "other");
    conf_patterns_ask(source->patterns, &question, scratch, &answer);
    assert_string_equal(answer.virtual_mta, "v");
    regex_scratch_free(scratch);
    conf_unref(conf);
    refuse("<smtp-pattern-list l>\nreply /x/g mode=backoff\n</smtp-pattern-list>\n", &findings);
    refuse("<virtual-mta v>\nsmtp-source-host 192.0.2.1 v.test\n</virtual-mta>\n"
           "<pattern-list p>\nrcpt-to /x/i\n</pattern-list>\n",
           &findings);
}

/* ---- Macros ------------------------------------------------------------------------------- */

static void macros_everywhere(void **state)
{
    static const char *const bad[] = {
        "relay-domain a.$none\n",
        "domain-key k,$none,/k\n",
        "<address-list s>\ndomain $none.x\n</address-list>\n",
        "domain-macro m a..b\ndomain-key k,$m x,/k\n",
    };
    struct findings findings = {0};
    const struct conf_load_options options = {.lint = true, .syntax_only = true};
    struct regex_scratch *scratch = regex_scratch_new();
    const struct conf_address_list *list;
    const struct conf_key_place *place;
    struct conf *conf = NULL;

    assert_int_equal(
        conf_load_text(
            "test",
            "domain-macro top .com,.co.test\ndomain-macro big mail$top\n"
            "domain-macro own own.test\n"
            "relay-domain in$top\nrelay-domain $big, one.test\n"
            "domain-key k1, one.test, /k\ndomain-key k2,by$top,/k\n"
            "<address-list s>\ndomain $big\ndomain out$top\ndomain $own\n</address-list>\n"
            "<source 0/0>\nsuppression-lists s\n</source>\n",
            &options, collect, &findings, &conf),
        0);
    assert_null(strstr(findings.text, "domain-macro"));
    assert_true(conf_relays(conf, SLICE_LITERAL("x@in.co.test"), scratch));
    assert_true(conf_relays(conf, SLICE_LITERAL("x@mail.com"), scratch));
    assert_true(conf_relays(conf, SLICE_LITERAL("x@one.test"), scratch));
    assert_false(conf_relays(conf, SLICE_LITERAL("x@two.test"), scratch));
    list = source_of(conf, "10.0.0.1", NULL)->suppressions[0];
    assert_true(conf_address_list_has(list, SLICE_LITERAL("x@mail.co.test"), scratch));
    assert_true(conf_address_list_has(list, SLICE_LITERAL("x@out.com"), scratch));
    assert_false(conf_address_list_has(list, SLICE_LITERAL("x@out.test"), scratch));
    place = conf_key_places(conf);
    assert_int_equal(place->keys.count, 3);
    assert_true(slice_equal(place->keys.items[1].domain, SLICE_LITERAL("by.com")));
    assert_true(slice_equal(place->keys.items[2].domain, SLICE_LITERAL("by.co.test")));
    assert_string_equal(place->keys.items[2].selector, "k2");
    regex_scratch_free(scratch);
    conf_unref(conf);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        refuse(bad[i], &findings);
}

/* ---- Values ------------------------------------------------------------------------------- */

static void values(void **state)
{
    struct findings findings;
    struct conf *conf =
        load("<domain a.test>\nlog-connections on\nuse-starttls OFF\n"
             "max-rcpt-per-message unlimited\nbackoff-retry-after 999d\n"
             "source-ip-max-smtp-out 0/0 3\nsource-ip-max-smtp-out 10/8 unlimited\n"
             "source-ip-max-msg-rate 0/0 unlimited\n</domain>\n"
             "<domain b.test>\nmax-rcpt-per-transaction 0\ntype pipe\n"
             "command \"/bin/keep \\\"$envid\\\" \\\"$to\\\"\"\n</domain>\n"
             "<virtual-mta v>\n"
             "smtp-proxy-source-host 10.0.0.1 10.0.0.2:99 192.0.2.7:0 p.test\n"
             "</virtual-mta>\n"
             "<proxy p>\nserver 10.0.0.2:99\nclient [2001:db8::1]:25 h.test\n</proxy>\n"
             "<virtual-mta w>\nuse-proxy p\n</virtual-mta>\n");
    struct conf_queue queue = queue_of(conf, "a.test", "{default}");
    struct ipaddr free_one, other;

    assert_int_equal(ipaddr_parse(SLICE_LITERAL("10.1.1.1"), &free_one), 0);
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.1"), &other), 0);
    assert_true(queue.log_connections && !queue.use_starttls);
    assert_true(queue.max_rcpt_per_transaction == CONF_UNLIMITED);
    assert_int_equal(queue.backoff_retry_ms[0], 999 * 86400000ll);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &other)->max_smtp_out, 3);
    assert_true(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &free_one)->max_smtp_out ==
                CONF_UNLIMITED);
    queue = queue_of(conf, "b.test", "{default}");
    assert_true(queue.max_rcpt_per_transaction == CONF_UNLIMITED);
    assert_string_equal(queue.command, "/bin/keep \"$envid\" \"$to\"");
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("v"))->addresses[0].ip.bytes[3], 7);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("w"))->addresses[0].ip.family, IPADDR_V6);
    conf_unref(conf);
    refuse("<domain b.test>\ncommand \"/bin/keep \\\"$to\" more\n</domain>\n", &findings);
    refuse("<domain b.test>\ncommand \"/bin/keep \\\"$to\\\"\n</domain>\n", &findings);
    refuse("<proxy p>\nserver 10.0.0.2:99\nclient 192.0.2.1:x h.test\n</proxy>\n"
           "<virtual-mta w>\nuse-proxy p\n</virtual-mta>\n",
           &findings);
}

/* What is taken, but not as the writer may think, is said. */
static void values_with_remarks(void **state)
{
    struct findings findings = {0};
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test",
                                    "edns-udp-length 100\n<domain *>\n"
                                    "dkim-headers /x-.*/, Subject\n"
                                    "second-dkim-disallow-adding-headers /y/\n"
                                    "second-dkim-headers To,X-A/B\n</domain>\n",
                                    NULL, collect, &findings, &conf),
                     0);
    assert_int_equal(conf_global(conf)->edns_udp_bytes, 512);
    assert_non_null(strstr(findings.text, "edns-udp-length 100 counts as 512"));
    assert_non_null(strstr(findings.text, "test:3: dkim-headers: \"/x-.*/\" signs nothing"));
    assert_non_null(strstr(findings.text, "test:4: second-dkim-disallow-adding-headers: \"/y/\""));
    assert_int_equal(findings.warnings, 3);
    conf_unref(conf);
}

static void rewritten(const struct conf *conf, const char *sender, const char *expected)
{
    const struct conf_source *source = source_of(conf, "10.0.0.1", NULL);
    char room[400];
    struct slice got = conf_rewrite(source->rewrites, slice_str(sender), room, sizeof(room));

    assert_true(slice_equal(got, slice_str(expected)));
}

static void rewriting_by_pattern(void **state)
{
    struct findings findings;
    struct conf *conf = load("<rewrite-list l>\nmail-from news@* post@b.test\n"
                             "mail-from *@old.test *@new.test\nmail-from *@one.test all@*\n"
                             "from-domain two.test three.test\nmail-from last@d.test x@e.test\n"
                             "mail-from <> x@e.test\n"
                             "</rewrite-list>\n<source 0/0>\nrewrite-list l\n</source>\n");

    rewritten(conf, "News@old.test", "post@b.test");
    rewritten(conf, "joe@OLD.test", "joe@new.test");
    rewritten(conf, "joe@one.test", "all@one.test");
    rewritten(conf, "joe@two.test", "joe@three.test");
    rewritten(conf, "joe@x.two.test", "joe@x.two.test");
    rewritten(conf, "last@d.test", "x@e.test");
    rewritten(conf, "", "");
    conf_unref(conf);
    refuse("<rewrite-list l>\nmail-from a@b.test <>\n</rewrite-list>\n", &findings);
    refuse("<rewrite-list l>\nmail-from *a@b.test c@d.test\n</rewrite-list>\n", &findings);
    refuse("<rewrite-list l>\nmail-from a@*.test c@d.test\n</rewrite-list>\n", &findings);
    refuse("<rewrite-list l>\nfrom-domain * d.test\n</rewrite-list>\n", &findings);
}

/* ---- Old names ------------------------------------------------------------------------------ */

static void old_limits(void **state)
{
    struct conf *conf = load("<domain *>\nmax-msg-per-hour 500\nbackoff-max-msg-per-hour 20\n"
                             "max-smtp-out-per-source-ip 3\n</domain>\n"
                             "<domain a.test>\nmax-msg-per-hour unlimited\n</domain>\n"
                             "<domain b.test>\nmax-msg-rate 7/s\n</domain>\n"
                             "<domain c.test>\nmax-smtp-out-per-source-ip 9\n"
                             "source-ip-max-smtp-out 192.0.2.0/24 2\n</domain>\n");
    struct conf_queue queue = queue_of(conf, "x.test", "{default}");
    struct ipaddr inside, outside;

    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.9"), &inside), 0);
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("198.51.100.9"), &outside), 0);
    assert_int_equal(queue.max_msg_rate.count, 500);
    assert_int_equal(queue.max_msg_rate.interval_ms, 3600000);
    assert_int_equal(queue.backoff_max_msg_rate.count, 20);
    assert_int_equal(queue.backoff_max_msg_rate.interval_ms, 3600000);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &inside)->max_smtp_out, 3);
    assert_true(queue_of(conf, "a.test", "{default}").max_msg_rate.count == CONF_UNLIMITED);
    queue = queue_of(conf, "b.test", "{default}");
    assert_int_equal(queue.max_msg_rate.count, 7);
    assert_int_equal(queue.max_msg_rate.interval_ms, 1000);
    queue = queue_of(conf, "c.test", "{default}");
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &inside)->max_smtp_out, 2);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &outside)->max_smtp_out, 9);
    conf_unref(conf);
}

static void old_addresses(void **state)
{
    struct conf *conf = load("host-name mail.test\nsmtp-source-ip 192.0.2.1\n"
                             "<virtual-mta v>\nsmtp-source-ip 192.0.2.2\nhost-name v.test\n"
                             "</virtual-mta>\n");
    const struct conf_vmta *vmta = conf_vmta_named(conf, SLICE_LITERAL("v"));

    assert_int_equal(vmta->address_count, 1);
    assert_string_equal(vmta->addresses[0].helo, "v.test");
    vmta = conf_vmta_named(conf, SLICE_LITERAL("{default}"));
    assert_int_equal(vmta->address_count, 1);
    assert_string_equal(vmta->addresses[0].helo, "mail.test");
    conf_unref(conf);
}

static void old_listeners(void **state)
{
    struct findings findings = {0};
    struct conf *conf = load("smtp-port 25\nsmtp-port 2525\nsmtp-ip 127.0.0.1\nsmtp-ip ::1\n");
    const struct conf_global *global = conf_global(conf);

    assert_int_equal(global->listener_count, 4);
    assert_int_equal(global->listeners[1].at.port, 2525);
    assert_int_equal(global->listeners[2].at.port, 25);
    assert_int_equal(global->listeners[2].at.ip.family, IPADDR_V6);
    conf_unref(conf);
    conf = load("smtp-ip 127.0.0.1\n");
    assert_int_equal(conf_global(conf)->listener_count, 1);
    assert_int_equal(conf_global(conf)->listeners[0].at.port, 25);
    conf_unref(conf);
    assert_int_equal(conf_load_text("test", "smtp-port 2525\nsmtp-listener 127.0.0.1:26 tls=no\n",
                                    NULL, collect, &findings, &conf),
                     0);
    assert_int_equal(conf_global(conf)->listener_count, 1);
    assert_non_null(strstr(findings.text, "smtp-port counts only where there is no smtp-listener"));
    conf_unref(conf);
    refuse("smtp-ip here\nsmtp-port 70000\nsmtp-listener 127.0.0.1:26 tls=yes\n", &findings);
    assert_int_equal(findings.errors, 3);
    assert_non_null(strstr(findings.text, "immediate-tls in <smtp-listener>"));
    refuse("smtp-ip here\n", &findings);
}

static void old_spool(void **state)
{
    struct conf *conf = load("spool-min-free-space 200\nspool /var/one\n"
                             "<spool /var/two>\nmin-free-space 1g\n</spool>\n");
    const struct conf_global *global = conf_global(conf);

    assert_int_equal(global->spool_count, 2);
    assert_string_equal(global->spools[0].path, "/var/two");
    assert_int_equal(global->spools[0].min_free_bytes, 1 << 30);
    assert_int_equal(global->spools[1].min_free_bytes, 200 << 20);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_share_lines),
        cmocka_unit_test(tags_that_share_lines_are_checked),
        cmocka_unit_test(strangers),
        cmocka_unit_test(ends_with_names),
        cmocka_unit_test(broken_patterns),
        cmocka_unit_test(hopeless_patterns),
        cmocka_unit_test(flags),
        cmocka_unit_test(macros_everywhere),
        cmocka_unit_test(values),
        cmocka_unit_test(values_with_remarks),
        cmocka_unit_test(rewriting_by_pattern),
        cmocka_unit_test(old_limits),
        cmocka_unit_test(old_addresses),
        cmocka_unit_test(old_listeners),
        cmocka_unit_test(old_spool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
