#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

/* A file as users bring it along: it loads, and every remark is a warning. */
static void loads_with_warnings_only(void **state)
{
    const char *path = getenv("REALISTIC_CONF");
    struct findings findings = {0};
    struct conf *conf = NULL;
    struct conf_queue queue;

    assert_non_null(path);
    if (conf_load(path, NULL, collect, &findings, &conf) != 0)
        fail_msg("%s", findings.text);
    assert_int_equal(findings.errors, 0);
    assert_true(findings.warnings > 5);
    /* What has an effect is not warned of. */
    assert_null(strstr(findings.text, ": max-smtp-out"));
    assert_null(strstr(findings.text, ": smtp-hosts"));
    assert_null(strstr(findings.text, ": retry-after"));
    assert_null(strstr(findings.text, ": max-msg-rate"));
    assert_non_null(strstr(findings.text, ": http-access is accepted but has no effect yet"));
    assert_null(strstr(findings.text, "<mx-rollup-list> is accepted"));

    assert_int_equal(conf_vmta_count(conf), 5);
    assert_int_equal(conf_pool_count(conf), 2);
    assert_int_equal(conf_acct_file_count(conf), 3);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("mta1"))->max_smtp_out, 300);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("mta2"))->max_smtp_out, 500);
    queue = queue_of(conf, "mail.gmail.com", "mta1");
    assert_int_equal(queue.max_smtp_out, 10);
    assert_int_equal(queue.max_msg_per_connection, 200);
    assert_int_equal(queue.max_msg_rate.count, 2000);
    assert_int_equal(queue.max_msg_rate.interval_ms, 3600000);
    queue = queue_of(conf, "yahoo.co.uk", "mta1");
    assert_int_equal(queue.max_smtp_out, 8);
    assert_true(queue.smtp_421_means_mx_unavailable);
    assert_int_equal(queue_of(conf, "yahoo.co.uk", "mta3").max_smtp_out, 5);
    assert_int_equal(queue_of(conf, "live.it", "mta3").max_smtp_out, 6);
    assert_int_equal(queue_of(conf, "[192.0.2.9]", "mta1").max_smtp_out, 1);
    queue = queue_of(conf, "x.internal.mailer.example", "mta1");
    assert_int_equal(queue.route_count, 3);
    assert_true(source_of(conf, "127.0.0.1", NULL)->process_x_virtual_mta);
    assert_true(source_of(conf, "10.20.3.4", NULL)->always_allow_relaying);
    assert_false(source_of(conf, "10.21.3.4", NULL)->always_allow_relaying);
    assert_int_equal(source_of(conf, "10.20.3.4", "partners")->default_pool,
                     conf_pool_named(conf, SLICE_LITERAL("partners"))->id);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(loads_with_warnings_only)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
