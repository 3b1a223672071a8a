#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

/*
 * Files written as those of users are: they load without an error, whatever machine this is, and
 * mean what they say.
 */
static struct conf *load_wild(const char *name, struct findings *findings)
{
    static const struct conf_load_options options = {.syntax_only = true};
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_server), cmocka_unit_test(agency),
                                       cmocka_unit_test(old)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
