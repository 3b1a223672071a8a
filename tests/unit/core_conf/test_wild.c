#include "core/base/regex.h"
#include "core/conf/dkim.h"
#include "core/conf/limit.h"
#include "core/conf/rollup.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

/*
 * Files written as those of users are: they load without an error, whatever machine this is, and
 * mean what they say.
 */
static struct conf *load_wild(const char *name, struct findings *findings)
{
    static const struct conf_load_options options = {.syntax_only = true, .lint = true};
    const char *folder = getenv("WILD_CONF");
    struct conf *conf = NULL;
    char path[4096];

    assert_non_null(folder);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    *findings = (struct findings){0};
    if (conf_load(path, &options, collect, findings, &conf) != 0)
        fail_msg("%s", findings->text);
    return conf;
}

static void one_server(void **state)
{
    static struct findings findings;
    struct conf *conf = load_wild("single.conf", &findings);
    struct conf_queue queue = queue_of(conf, "example.org", "pmta-vmta0");

    assert_int_equal(queue.max_smtp_out, 10);
    assert_int_equal(queue.max_msg_rate.count, 500);
    assert_int_equal(queue_of(conf, "example.org", "pmta-vmta1").max_msg_rate.count,
                     CONF_UNLIMITED);
    assert_int_equal(queue.retry_ms[0], 3600000);
    assert_int_equal(conf_pool_at(conf, 0)->vmta_count, 2);
    assert_int_equal(conf_global(conf)->listener_count, 2);
    assert_int_equal(source_of(conf, "192.0.2.7", "{auth}")->default_pool,
                     conf_pool_named(conf, SLICE_LITERAL("pmta-pool"))->id);
    assert_true(source_of(conf, "192.0.2.7", "{pmta-auth}")->always_allow_relaying);
    assert_false(source_of(conf, "192.0.2.7", NULL)->always_allow_relaying);
    conf_unref(conf);
}

/* Macros within macros, includes within sections, a literal domain beside its macro. */
static void agency(void **state)
{
    static struct findings findings;
    struct conf *conf = load_wild("agency.conf", &findings);
    struct conf_queue queue = queue_of(conf, "example.org", "{default}");

    assert_int_equal(queue.retry_count, CONF_RETRY_STEPS_MAX);
    assert_int_equal(queue.retry_ms[CONF_RETRY_STEPS_MAX - 1], 12 * 3600000);
    assert_int_equal(queue.bounce_after_ms, ((9 * 24 + 12) * 3600 + 30 * 60 + 5) * 1000ull);
    assert_int_equal(queue.max_connect_rate.interval_ms, 300000);
    assert_int_equal(queue.bounce_upon_no_mx_after_ms, 7200000);
    assert_int_equal(queue_of(conf, "live.com", "n1").max_msg_per_connection, CONF_UNLIMITED);
    assert_int_equal(queue_of(conf, "live.co.uk", "n1").max_msg_per_connection, 50);
    assert_int_equal(queue_of(conf, "adelphia.net", "n1").connect_timeout_ms, 45000);
    assert_int_equal(queue_of(conf, "yahoo.co.jp", "n1").max_smtp_out, 12);
    assert_int_equal(queue_of(conf, "yahoo.co.jp", "transactional").max_smtp_out, 25);
    assert_int_equal(queue_of(conf, "mail.gmail.com", "transactional").max_smtp_out, 100);
    assert_int_equal(queue_of(conf, "gmail.com", "n1").max_msg_rate.interval_ms, 7200000);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("n1"))->address_count, 2);
    assert_true(source_of(conf, "10.9.9.9", NULL)->process_x_virtual_mta);
    assert_int_equal(source_of(conf, "10.1.9.9", NULL)->default_virtual_mta,
                     conf_vmta_named(conf, SLICE_LITERAL("transactional"))->id);
    assert_int_equal(conf_global(conf)->name_server_count, 2);
    conf_unref(conf);
}

static void old(void **state)
{
    static struct findings findings;
    struct conf *conf = load_wild("old.conf", &findings);
    struct conf_queue queue = queue_of(conf, "wanadoo.example", "{default}");

    assert_string_equal(conf_global(conf)->spools[0].path, "/var/spool/pmta");
    assert_int_equal(conf_global(conf)->spool_count, 1);
    assert_int_equal(queue.route_count, 0);
    queue = queue_of(conf, "french.queue", "{default}");
    assert_int_equal(queue.route[0].kind, CONF_ROUTE_ADDRESS);
    assert_int_equal(queue.retry_ms[0], 1000);
    assert_int_equal(queue_of(conf, "gmx.example", "{default}").max_msg_rate.count, 0);
    assert_int_equal(conf_vmta_at(conf, 1)->address_count, 1);
    assert_int_equal(conf_global(conf)->listener_count, 1);
    assert_non_null(strstr(findings.text, "once is enough"));
    assert_non_null(strstr(findings.text, "the system chooses the address it sends from"));
    assert_int_equal(source_of(conf, "192.0.2.1", "{{server7}}")->default_pool,
                     conf_pool_at(conf, 0)->id);
    conf_unref(conf);
}

static const char *category_of(const struct conf *conf, const char *reply)
{
    struct conf_queue queue = queue_of(conf, "a.example", "{default}");
    struct regex_scratch *scratch = regex_scratch_new();
    static struct conf_category category;
    bool found = conf_category_ask(queue.categories, slice_str(reply), scratch, &category);

    regex_scratch_free(scratch);
    return found ? category.name : "none";
}

static const struct conf_limit *limit_of(const struct conf_queue *queue, const char *source_ip)
{
    struct ipaddr ip;

    assert_int_equal(ipaddr_parse(slice_str(source_ip), &ip), 0);
    return conf_limit_of_source(queue, CONF_OF_CONNECTIONS, &ip);
}

/* What a panel wrote years ago: old names, sections in one line, patterns that line ends got into.
 */
static void generator_of_old(void **state)
{
    static struct findings findings;
    struct conf *conf = load_wild("generator3.conf", &findings);
    const struct conf_global *global = conf_global(conf);
    struct conf_queue queue = queue_of(conf, "other.example", "{default}");

    assert_string_equal(global->host_name, "mta.hosting.example");
    assert_int_equal(global->listener_count, 4);
    assert_int_equal(global->listeners[3].at.port, 2525);
    assert_int_equal(global->listeners[3].at.ip.bytes[3], 11);
    assert_int_equal(global->spools[0].min_free_bytes, 500 << 20);
    assert_int_equal(global->total_max_smtp_out, 800);
    assert_true(queue.max_msg_rate.count == CONF_UNLIMITED && !queue.use_starttls);
    assert_int_equal(queue.backoff_max_msg_rate.count, 12);
    assert_int_equal(queue.backoff_retry_ms[0], 999 * 86400000ll);
    assert_int_equal(limit_of(&queue, "192.0.2.12")->max_smtp_out, 6);
    assert_int_equal(queue_of(conf, "x.example", "kunde-1").max_smtp_out, 4);
    assert_int_equal(queue_of(conf, "x.example", "kunde-2").max_smtp_out, 20);
    queue = queue_of(conf, "freemail.example", "kunde-2");
    assert_int_equal(queue.max_msg_rate.count, 40);
    assert_int_equal(queue.max_msg_rate.interval_ms, 3600000);
    assert_int_equal(queue.max_smtp_out, 2);
    assert_int_equal(queue_of(conf, "freemail.example", "kunde-1").max_msg_rate.count, 600);
    assert_int_equal(queue_of(conf, "portal.example", "{default}").max_smtp_out, 3);
    assert_int_equal(queue_of(conf, "gross.example", "{default}").max_smtp_out, 20);
    assert_int_equal(queue_of(conf, "intern.example", "kunde-1").route[0].port, 26);
    assert_string_equal(conf_vmta_named(conf, SLICE_LITERAL("kunde-1"))->addresses[0].helo,
                        "mx1.kunde1.example");
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("kunde-2"))->address_count, 2);
    assert_true(source_of(conf, "127.0.0.1", NULL)->process_x_virtual_mta);
    assert_false(source_of(conf, "192.0.2.99", NULL)->always_allow_relaying);
    assert_string_equal(conf_smtp_user(conf, SLICE_LITERAL("panel"))->source, "{pmta-auth}");
    assert_string_equal(category_of(conf, "550 no such recipient"), "bad-mailbox");
    assert_string_equal(category_of(conf, "552 mailbox is full"), "quota-issues");
    assert_string_equal(category_of(conf, "554 refused due to spam"), "spam-related");
    assert_string_equal(category_of(conf, "connection to mx timed out"), "bad-connection");
    assert_string_equal(category_of(conf, "no"), "other");
    assert_null(strstr(findings.text, "no closing slash"));
    conf_unref(conf);
}

/* All the ways to say where mail comes from and goes to that one agency could want at once. */
static void agency_of_today(void **state)
{
    static struct findings findings;
    struct conf *conf = load_wild("rollup5.conf", &findings);
    const struct conf_source *source = source_of(conf, "127.0.0.1", "{innen}");
    struct regex_scratch *scratch = regex_scratch_new();
    struct conf_queue queue = queue_of(conf, "post-b.example", "m1");
    struct conf_pattern_question question = {.sender = SLICE_LITERAL("a@eilig.example"),
                                             .rcpt = SLICE_LITERAL("b@anker.example")};
    struct conf_pattern_answer answer;
    char room[200];

    assert_int_equal(queue.max_smtp_out, 3);
    assert_int_equal(queue.retry_count, 4);
    assert_int_equal(queue.bounce_after_ms, 400 * 86400000ll);
    assert_int_equal(queue.backoff_max_msg_rate.count, 60);
    assert_int_equal(limit_of(&queue, "192.0.2.21")->max_smtp_out, 5);
    assert_true(limit_of(&queue, "192.0.2.22")->max_smtp_out == CONF_UNLIMITED);
    assert_int_equal(queue_of(conf, "fischpost.com.example", "eilig").max_msg_rate.count, 7);
    assert_true(queue_of(conf, "x.example", "eilig").max_msg_rate.count == CONF_UNLIMITED);
    assert_string_equal(queue_of(conf, "abmeldung.example", "m1").command,
                        "/opt/abmeldung --id \"$envid\" \"$to\"");
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("fern"))->address_count, 2);
    assert_string_equal(conf_rollup_of_host(conf, SLICE_LITERAL("mx9.fischpost.example")),
                        "fisch.rollup");
    assert_int_equal(queue_of(conf, "anker.rollup", "m1").route_count, 2);
    assert_true(conf_relays(conf, SLICE_LITERAL("x@ruecklauf.com.example"), scratch));
    assert_true(conf_relays(conf, SLICE_LITERAL("x@a.ruecklauf.example"), scratch));
    assert_false(conf_relays(conf, SLICE_LITERAL("x@agentur.example"), scratch));
    assert_true(conf_address_list_has(source->suppressions[0], SLICE_LITERAL("NoReply@x.example"),
                                      scratch));
    assert_true(conf_address_list_has(source->suppressions[0], SLICE_LITERAL("x@alt.com.example"),
                                      scratch));
    assert_false(
        conf_address_list_has(source->suppressions[0], SLICE_LITERAL("x@neu.example"), scratch));
    conf_patterns_ask(source->patterns, &question, scratch, &answer);
    assert_string_equal(answer.virtual_mta, "eilig");
    assert_true(slice_equal(
        conf_rewrite(source->rewrites, SLICE_LITERAL("antwort@kunde.example"), room, sizeof(room)),
        SLICE_LITERAL("antwort@ruecklauf.example")));
    assert_int_equal(conf_key_places(conf)->keys.count, 4);
    assert_string_equal(conf_smtp_user(conf, SLICE_LITERAL("werk"))->password, "ein \\ wort");
    assert_null(strstr(findings.text, "no closing slash"));
    assert_null(strstr(findings.text, "is not used"));
    regex_scratch_free(scratch);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_server), cmocka_unit_test(agency),
                                       cmocka_unit_test(old), cmocka_unit_test(generator_of_old),
                                       cmocka_unit_test(agency_of_today)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
