#include "core/obs/acct_layout.h"
#include "tests/unit/core_conf/unit.h"

static void defaults(void **state)
{
    struct conf *conf = load("");
    const struct conf_global *global = conf_global(conf);

    assert_null(global->log_file);
    assert_null(global->run_as_user);
    assert_string_equal(global->control_socket, "/run/ringpost/control");
    assert_int_equal(global->listener_count, 1);
    assert_int_equal(global->listeners[0].at.port, 25);
    assert_int_equal(global->listeners[0].at.ip.family, IPADDR_V4);
    assert_null(global->listeners[0].source_name);
    assert_int_equal(global->spool_count, 1);
    assert_string_equal(global->spools[0].path, "/var/spool/ringpost");
    assert_int_equal(global->spools[0].segment_bytes, 64 << 20);
    assert_int_equal(global->spools[0].min_free_bytes, 0);
    assert_int_equal(global->name_server_count, 0);
    assert_int_equal(global->shard_count, 0);
    assert_int_equal(global->shard_cpu_count, 0);
    assert_false(global->shard_smt);
    assert_int_equal(global->total_max_smtp_in, 100);
    assert_int_equal(global->total_max_smtp_out, 1200);
    assert_int_equal(global->hot_set_bytes, 256 << 20);
    assert_int_equal(global->outcome_commit_ms, 20);
    assert_false(global->committer_thread);
    assert_int_equal(global->resolver_timeout_ms, 10000);
    assert_int_equal(global->text_line_octets_max, 1000);
    assert_false(global->allow_loopback_mx);
    assert_true(global->allow_private_mx);
    assert_int_equal(conf_acct_file_count(conf), 0);
    conf_unref(conf);
}

/* Byte order mark, CRLF, blanks, mixed case, comments, no end of line at the end. */
static void everything_of_ours(void **state)
{
    struct conf *conf = load("\xef\xbb\xbf# one\r\n"
                             "  Control-Socket\t/run/x/control   # two\r\n"
                             "\r\n"
                             "run-as-user ringpost\n"
                             "shards 3\n"
                             "shard-cpus 1, 4-5\n"
                             "shard-smt yes\n"
                             "committer-thread true\n"
                             "hot-set-size 1g\n"
                             "outcome-commit-interval 5ms\n"
                             "resolver-timeout 1500ms\n"
                             "text-line-max 4000\n"
                             "allow-loopback-destinations yes\n"
                             "allow-private-destinations no\n"
                             "name-server 192.0.2.53\n"
                             "NAME-SERVER [2001:db8::53]:5353\n"
                             "log-file \"/var/log/with blank\"\n"
                             "total-max-smtp-in 7\n"
                             "total-max-smtp-out 8\n"
                             "smtp-listener 127.0.0.1:2525\n"
                             "smtp-listener [::1]:2525\n"
                             "<SPOOL /a>\nsegment-size 8m\nmin-free-space 1g\n</spool>\n"
                             "<spool \"/b c\">\n</Spool>");
    const struct conf_global *global = conf_global(conf);

    assert_string_equal(global->control_socket, "/run/x/control");
    assert_string_equal(global->run_as_user, "ringpost");
    assert_int_equal(global->shard_count, 3);
    assert_int_equal(global->shard_cpu_count, 3);
    assert_int_equal(global->shard_cpus[0], 1);
    assert_int_equal(global->shard_cpus[2], 5);
    assert_true(global->shard_smt);
    assert_true(global->committer_thread);
    assert_int_equal(global->hot_set_bytes, 1 << 30);
    assert_int_equal(global->outcome_commit_ms, 5);
    assert_int_equal(global->resolver_timeout_ms, 1500);
    assert_int_equal(global->text_line_octets_max, 4000);
    assert_true(global->allow_loopback_mx);
    assert_false(global->allow_private_mx);
    assert_int_equal(global->name_server_count, 2);
    assert_string_equal(global->name_servers[0], "192.0.2.53");
    assert_string_equal(global->name_servers[1], "2001:db8::53@5353");
    assert_string_equal(global->log_file, "/var/log/with blank");
    assert_int_equal(global->total_max_smtp_in, 7);
    assert_int_equal(global->total_max_smtp_out, 8);
    assert_int_equal(global->listener_count, 2);
    assert_int_equal(global->listeners[1].at.ip.family, IPADDR_V6);
    assert_int_equal(global->spool_count, 2);
    assert_string_equal(global->spools[0].path, "/a");
    assert_int_equal(global->spools[0].segment_bytes, 8 << 20);
    assert_int_equal(global->spools[0].min_free_bytes, 1 << 30);
    assert_string_equal(global->spools[1].path, "/b c");
    conf_unref(conf);
}

static void listeners_by_block(void **state)
{
    struct conf *conf = load("smtp-listener 0/0:25\nsmtp-listener 127.0.0.0/30:26\n");
    const struct conf_global *global = conf_global(conf);

    assert_int_equal(global->listener_count, 2);
    assert_int_equal(global->listeners[0].at.ip.bytes[0], 0);
    assert_true(ipaddr_is_loopback(&global->listeners[1].at.ip));
    assert_int_equal(global->listeners[1].at.port, 26);
    conf_unref(conf);
}

static void accounting(void **state)
{
    struct conf *conf = load("<acct-file /var/log/acct.csv>\n</acct-file>\n"
                             "<acct-file /var/log/diag.csv>\nrecords t, receipt\nmove-to /moved\n"
                             "move-interval 5m\nmax-size 50M\ndelete-after never\niso-times no\n"
                             "world-readable yes\n</acct-file>\n"
                             "<acct-file |/usr/bin/consumer --all>\nrecords d\n</acct-file>\n"
                             "<acct-file /var/log/remote.csv>\nrecords rb,f\n</acct-file>\n"
                             "<acct-file /var/log/mixed.csv>\nrecords delivery,rb\n</acct-file>\n");
    const struct conf_acct_file *file = conf_acct_file_at(conf, 0);

    /* The file of what we do not write yet is not there. */
    assert_int_equal(conf_acct_file_count(conf), 4);
    assert_string_equal(file->path, "/var/log/acct.csv");
    assert_int_equal(file->records, CONF_ACCT_DELIVERED | CONF_ACCT_BOUNCED);
    assert_null(file->move_to);
    assert_int_equal(file->move_interval_ms, 86400000);
    assert_int_equal(file->max_size_bytes, 250 << 20);
    assert_int_equal(file->delete_after_ms, 8ull * 86400000);
    assert_true(file->iso_times);
    assert_false(file->world_readable);
    file = conf_acct_file_at(conf, 1);
    assert_int_equal(file->records, CONF_ACCT_TRANSIENT | CONF_ACCT_RECEIVED);
    assert_string_equal(file->move_to, "/moved");
    assert_int_equal(file->move_interval_ms, 300000);
    assert_int_equal(file->max_size_bytes, 50 << 20);
    assert_true(file->delete_after_ms == CONF_UNLIMITED);
    assert_false(file->iso_times);
    assert_true(file->world_readable);
    file = conf_acct_file_at(conf, 2);
    assert_string_equal(file->path, "|/usr/bin/consumer --all");
    assert_int_equal(file->retry_ms, 300000);
    assert_int_equal(file->timeout_ms, 60000);
    assert_int_equal(file->records, CONF_ACCT_DELIVERED);
    conf_unref(conf);
}

static void accounting_columns(void **state)
{
    struct conf *conf =
        load("<acct-file /a.csv>\nrecords d,r\nrecord-fields d *,header_Subject\n"
             "record-fields f *,header_Z\nmap-header-to-field d header_X-Job jobId\n"
             "map-header-to-field d header_subject envId\nuser-string \"mta 1\"\n"
             "privacy-policy siphash\nqueue-filter [*.]a.test/*,!b.a.test/V1\n"
             "queue-filter c.test/v2\ncount-moved-records yes\n</acct-file>\n"
             "<acct-file /b.csv>\n</acct-file>\n");
    const struct conf_acct_file *file = conf_acct_file_at(conf, 0);
    char why[CONF_FILTER_WHY_MAX];
    struct conf_queue_filter *filter;
    const struct slice *names;
    uint32_t count;

    names = conf_noted_headers(conf, &count);
    assert_int_equal(count, 2);
    assert_true(slice_equal_nocase(names[0], SLICE_LITERAL("subject")));
    assert_true(slice_equal_nocase(names[1], SLICE_LITERAL("x-job")));
    assert_true(file->count_moved_records);
    assert_int_equal(file->layout->place_count, 26);
    assert_int_equal(conf_acct_file_at(conf, 1)->layout->place_count, 23);
    assert_int_equal(file->layout->privacy.key_bytes, PRIVACY_KEY_BYTES);
    assert_int_equal(conf_queue_filter_new(file->queue_filter, &filter, why), 0);
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("a.test/v1")));
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("x.b.a.test/v1")));
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("b.a.test/v2")));
    assert_false(conf_queue_filter_has(filter, SLICE_LITERAL("b.a.test/v1")));
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("c.test/v2")));
    assert_false(conf_queue_filter_has(filter, SLICE_LITERAL("c.test/v1")));
    assert_false(conf_queue_filter_has(filter, SLICE_LITERAL("xa.test/v1")));
    conf_queue_filter_free(filter);
    /* Nothing but exceptions: all others are in. */
    assert_int_equal(conf_queue_filter_new("!*.a.test/*,![192.0.2.0/24]/v", &filter, why), 0);
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("a.test/v")));
    assert_false(conf_queue_filter_has(filter, SLICE_LITERAL("b.a.test/{default}")));
    assert_false(conf_queue_filter_has(filter, SLICE_LITERAL("[192.0.2.7]/v")));
    assert_true(conf_queue_filter_has(filter, SLICE_LITERAL("[192.0.3.7]/v")));
    conf_queue_filter_free(filter);
    conf_unref(conf);
}

static void warnings(void **state)
{
    static const struct {
        const char *text;
        const char *fragment;
        unsigned count;
    } cases[] = {
        {"run-as-root yes\n", "test:1: run-as-root is accepted and ignored:", 1},
        {"http-access 10/8 none\nhttp-access 11/8 none\n",
         "test:1: http-access is accepted but has no effect yet", 1},
        {"<domain a>\nhttp-delivery-url x\n</domain>\n<domain b>\nhttp-delivery-url y\n</domain>\n",
         "test:2: http-delivery-url", 1},
        {"<source 0/0>\nallow-mailmerge yes\n</source>\n",
         "test:2: allow-mailmerge is accepted but has no effect yet", 1},
        {"<email-patterns>\na b\n</email-patterns>\n<email-patterns>\n\n</email-patterns>\n",
         "test:4: <email-patterns> is accepted", 2},
        {"<signals>\nanything at all\n</signals>\n", "<signals> is accepted and ignored", 1},
        {"<bounce-processor>\n<address-list>\ndomain x\n</address-list>\n</bounce-processor>\n",
         "test:1: <bounce-processor>", 1},
        {"<dns>\nprecached-domains-file /nowhere/at/all\n</dns>\n",
         "test:1: precached-domains-file /nowhere/at/all: No such file", 1},
        {"log-file /a\nlog-file /b\n", "test:2: log-file is given twice", 1},
        {"domain-macro a b\ndomain-macro A c\n", "test:2: domain-macro A is given again", 1},
        {"host-name a\nhost-name b\nlog-file /a\n<domain *>\nmax-smtp-out 1\n</domain>\n", "", 0},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct findings findings = {0};
        struct conf *conf = NULL;

        assert_int_equal(conf_load_text("test", cases[i].text, NULL, collect, &findings, &conf), 0);
        if (strstr(findings.text, cases[i].fragment) == NULL)
            fail_msg("no \"%s\" in:\n%s", cases[i].fragment, findings.text);
        if (findings.warnings != cases[i].count)
            fail_msg("%u warnings:\n%s", findings.warnings, findings.text);
        conf_unref(conf);
    }
}

/* Of two values in one section the later one counts, as the warning says. */
static void the_later_counts(void **state)
{
    struct conf *conf = load("log-file /a\nlog-file /b\nname-server 192.0.2.1\nname-server \"\"\n"
                             "name-server 192.0.2.2\n");

    assert_string_equal(conf_global(conf)->log_file, "/b");
    assert_int_equal(conf_global(conf)->name_server_count, 1);
    assert_string_equal(conf_global(conf)->name_servers[0], "192.0.2.2");
    conf_unref(conf);
}

static void reports_about_tls(void **state)
{
    static const char *const wrong[][2] = {
        {"tls-report-virtual-mta x\n", "there is no virtual MTA \"x\""},
        {"tls-report-from nobody\n", "tls-report-from"},
        {"tls-report-organization \"M\xc3\xbcller\"\n", "no printable ASCII"},
    };
    struct conf *conf = load("<virtual-mta r>\nsmtp-source-host 192.0.2.1 r.example.com\n"
                             "</virtual-mta>\ntls-report-from tls@example.com\n"
                             "tls-report-organization \"Example Ltd\"\ntls-report-virtual-mta r\n");
    struct findings findings;

    assert_string_equal(conf_global(conf)->tls_report_from, "tls@example.com");
    assert_string_equal(conf_global(conf)->tls_report_organization, "Example Ltd");
    assert_null(conf_global(conf)->tls_report_contact);
    assert_string_equal(conf_global(conf)->tls_report_vmta, "r");
    conf_unref(conf);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        refuse(wrong[i][0], &findings);
        if (strstr(findings.text, wrong[i][1]) == NULL)
            fail_msg("no \"%s\" in:\n%s", wrong[i][1], findings.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),           cmocka_unit_test(everything_of_ours),
        cmocka_unit_test(listeners_by_block), cmocka_unit_test(accounting),
        cmocka_unit_test(accounting_columns), cmocka_unit_test(warnings),
        cmocka_unit_test(the_later_counts),   cmocka_unit_test(reports_about_tls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
