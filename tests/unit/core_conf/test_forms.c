/* Forms of writing that files of users have, besides the usual one, and old names of keywords. */
#include "core/base/regex.h"
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
                       "/whole/ other\n"
                       "</bounce-category-patterns>\n";

    assert_int_equal(conf_load_text("test", text, NULL, collect, &findings, &conf), 0);
    assert_string_equal(category_of(conf, "550 mailbox is soon  closed"), "inactive-mailbox");
    assert_string_equal(category_of(conf, "550 mailbox closed"), "inactive-mailbox");
    assert_string_equal(category_of(conf, "552 box is full"), "quota-issues");
    assert_string_equal(category_of(conf, "550 gone to sea"), "bad-mailbox");
    assert_string_equal(category_of(conf, "550 a whole one"), "other");
    assert_int_equal(findings.warnings, 3);
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
        cmocka_unit_test(tags_share_lines),  cmocka_unit_test(tags_that_share_lines_are_checked),
        cmocka_unit_test(ends_with_names),   cmocka_unit_test(broken_patterns),
        cmocka_unit_test(hopeless_patterns), cmocka_unit_test(old_limits),
        cmocka_unit_test(old_addresses),     cmocka_unit_test(old_listeners),
        cmocka_unit_test(old_spool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
