#include "tests/unit/core_conf/unit.h"

#define MINUTE 60000ull
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static void defaults(void **state)
{
    static const uint64_t retry[] = {10 * MINUTE, 20 * MINUTE, 40 * MINUTE,
                                     1 * HOUR,    2 * HOUR,    4 * HOUR};
    struct conf *conf = load("");
    struct conf_queue queue = queue_of(conf, "example.com", "{default}");

    assert_int_equal(queue.route_count, 0);
    assert_int_equal(queue.route_hash, 0);
    assert_int_equal(queue.default_port, 25);
    assert_int_equal(queue.max_smtp_out, 20);
    assert_true(queue.max_msg_per_connection == CONF_UNLIMITED);
    assert_true(queue.max_errors_per_connection == CONF_UNLIMITED);
    assert_int_equal(queue.max_rcpt_per_transaction, 1000);
    assert_int_equal(queue.connection_idle_ms, 5000);
    assert_int_equal(queue.retry_count, COUNT_OF(retry));
    assert_memory_equal(queue.retry_ms, retry, sizeof(retry));
    assert_int_equal(queue.bounce_after_ms, 4 * DAY + 12 * HOUR);
    assert_int_equal(queue.connect_timeout_ms, 2 * MINUTE);
    assert_int_equal(queue.greeting_timeout_ms, 5 * MINUTE);
    assert_int_equal(queue.command_timeout_ms, 5 * MINUTE);
    assert_int_equal(queue.data_timeout_ms, 2 * MINUTE);
    assert_int_equal(queue.data_send_timeout_ms, 3 * MINUTE);
    assert_int_equal(queue.data_termination_timeout_ms, 10 * MINUTE);
    assert_false(queue.bounce_upon_no_mx);
    assert_false(queue.bounce_upon_5xx_greeting);
    assert_false(queue.smtp_421_means_mx_unavailable);
    assert_false(queue.ignore_pipelining);
    assert_int_equal(queue.pipeline_across_messages, CONF_PIPELINE_AUTO);
    assert_false(queue.ignore_8bitmime);
    assert_false(queue.prefer_ipv6);
    assert_false(queue.log_commands);
    assert_false(queue.log_connections);
    conf_unref(conf);
}

/* The order in the file is the wrong one on purpose. */
static void most_specific_wins(void **state)
{
    static const struct {
        const char *domain;
        unsigned max_smtp_out;
    } cases[] = {
        {"mail.example.com", 6},
        {"example.com", 5},
        {"other.example.com", 4},
        {"a.b.example.com", 4},
        {"com", 3},
        {"else.com", 2},
        {"else.org", 1},
        {"ample.com", 2},
        {"xexample.com", 2},
        {"MAIL.Example.COM", 6},
        {"[192.0.2.7]", 8},
        {"[192.0.2.200]", 7},
        {"[198.51.100.1]", 1},
        {"[IPv6:2001:db8::1]", 9},
        {"both.net", 11},
        {"x.both.net", 10},
        {"", 1},
        {".", 1},
    };
    struct conf *conf = load("<domain mail.example.com>\nmax-smtp-out 6\n</domain>\n"
                             "<domain example.com>\nmax-smtp-out 5\n</domain>\n"
                             "<domain *.example.com>\nmax-smtp-out 4\n</domain>\n"
                             "<domain [*.]com>\nmax-smtp-out 3\n</domain>\n"
                             "<domain *.com>\nmax-smtp-out 2\n</domain>\n"
                             "<domain both.net>\nmax-smtp-out 11\n</domain>\n"
                             "<domain [*.]both.net>\nmax-smtp-out 10\n</domain>\n"
                             "<domain [192.0.2.0/24]>\nmax-smtp-out 7\n</domain>\n"
                             "<domain [192.0.2.7]>\nmax-smtp-out 8\n</domain>\n"
                             "<domain [IPv6:2001:db8::/32]>\nmax-smtp-out 9\n</domain>\n"
                             "<domain *>\nmax-smtp-out 1\n</domain>\n");

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf_queue queue = queue_of(conf, cases[i].domain, "{default}");

        if (queue.max_smtp_out != cases[i].max_smtp_out)
            print_message("%s: %lu\n", cases[i].domain, (unsigned long)queue.max_smtp_out);
        assert_int_equal(queue.max_smtp_out, cases[i].max_smtp_out);
    }
    conf_unref(conf);
}

/* Each directive is inherited on its own. */
static void values_merge(void **state)
{
    struct conf *conf = load("<domain *>\nmax-smtp-out 1\nconnect-timeout 1s\n"
                             "bounce-after 1h\n</domain>\n"
                             "<domain [*.]example.com>\nconnect-timeout 2s\nbounce-after 2h\n"
                             "</domain>\n"
                             "<domain a.example.com>\nbounce-after 3h\n</domain>\n"
                             "<domain a.example.com>\nlog-commands yes\n</domain>\n");
    struct conf_queue queue = queue_of(conf, "a.example.com", "{default}");

    assert_int_equal(queue.max_smtp_out, 1);
    assert_int_equal(queue.connect_timeout_ms, 2000);
    assert_int_equal(queue.bounce_after_ms, 3 * HOUR);
    assert_true(queue.log_commands);
    conf_unref(conf);
}

static void clearing(void **state)
{
    struct conf *conf = load("<domain *>\nmax-smtp-out 3\nretry-after 5m\nsmtp-hosts relay:2525\n"
                             "max-rcpt-per-transaction 7\nsmtp-ip-preference ipv6\n</domain>\n"
                             "<domain example.com>\nmax-smtp-out \"\"\nretry-after \"\"\n"
                             "smtp-hosts \"\"\nmax-rcpt-per-transaction \"\"\n"
                             "smtp-ip-preference \"\"\n</domain>\n");
    struct conf_queue inherited = queue_of(conf, "example.org", "{default}");
    struct conf_queue cleared = queue_of(conf, "example.com", "{default}");

    assert_int_equal(inherited.max_smtp_out, 3);
    assert_int_equal(inherited.retry_count, 1);
    assert_int_equal(inherited.route_count, 1);
    assert_int_equal(inherited.max_rcpt_per_transaction, 7);
    assert_true(inherited.prefer_ipv6);
    assert_int_equal(cleared.max_smtp_out, 20);
    assert_int_equal(cleared.retry_count, 6);
    assert_int_equal(cleared.retry_ms[0], 10 * MINUTE);
    assert_int_equal(cleared.route_count, 0);
    assert_null(cleared.route);
    assert_int_equal(cleared.route_hash, 0);
    assert_int_equal(cleared.max_rcpt_per_transaction, 1000);
    assert_false(cleared.prefer_ipv6);
    conf_unref(conf);
}

/* Inside the virtual MTA beats inside its pool beats the top level, whatever the patterns. */
static void layers(void **state)
{
    struct conf *conf = load("smtp-source-host 192.0.2.1 mail.example.com\n"
                             "<domain example.com>\nmax-smtp-out 1\nconnect-timeout 1s\n"
                             "bounce-after 1h\n</domain>\n"
                             "<virtual-mta v1>\n<domain *>\nmax-smtp-out 3\n</domain>\n"
                             "</virtual-mta>\n"
                             "<virtual-mta v2>\n</virtual-mta>\n"
                             "<virtual-mta-pool p>\nvirtual-mta v1\nvirtual-mta v2\n"
                             "<domain *>\nmax-smtp-out 2\nconnect-timeout 2s\n</domain>\n"
                             "</virtual-mta-pool>\n");
    struct conf_queue queue = queue_of(conf, "example.com", "v1");

    assert_int_equal(queue.max_smtp_out, 3);
    assert_int_equal(queue.connect_timeout_ms, 2000);
    assert_int_equal(queue.bounce_after_ms, HOUR);
    queue = queue_of(conf, "example.com", "v2");
    assert_int_equal(queue.max_smtp_out, 2);
    queue = queue_of(conf, "example.com", "{default}");
    assert_int_equal(queue.max_smtp_out, 1);
    assert_int_equal(queue.connect_timeout_ms, 1000);
    conf_queue(conf, SLICE_LITERAL("example.com"), 4000000, &queue);
    assert_int_equal(queue.max_smtp_out, 1);
    conf_unref(conf);
}

static void macros(void **state)
{
    static const struct {
        const char *domain;
        unsigned max_smtp_out;
    } cases[] = {
        {"yahoo.com", 5},    {"yahoo.co.uk", 5},   {"yahoo.de", 20}, {"mail.yahoo.com", 6},
        {"ymail.com", 5},    {"hotmail.com", 7},   {"live.com", 7},  {"aol.com", 5},
        {"smtp.live.fr", 9}, {"smtp.live.com", 9},
    };
    /* The list goes on in further lines, a macro is used before it is given, and it is nested. */
    struct conf *conf = load("<domain $yahoo>\nmax-smtp-out 5\n</domain>\n"
                             "<domain *.yahoo.$tld>\nmax-smtp-out 6\n</domain>\n"
                             "<domain hotmail.com>\nmax-smtp-out 7\n</domain>\n"
                             "<domain $microsoft>\nmax-smtp-out 8\n</domain>\n"
                             "<domain live.com>\nmax-smtp-out 7\n</domain>\n"
                             "<domain *.live.$west>\nmax-smtp-out 9\n</domain>\n"
                             "domain-macro Yahoo yahoo.$tld, ymail.com, # and\n"
                             "    # a remark of its own\n"
                             "  aol.com\n"
                             "domain-macro west fr, $TLD\n"
                             "domain-macro tld com,co.uk\n"
                             "domain-macro microsoft hotmail.com,live.com\n");

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct conf_queue queue = queue_of(conf, cases[i].domain, "{default}");

        if (queue.max_smtp_out != cases[i].max_smtp_out)
            print_message("%s: %lu\n", cases[i].domain, (unsigned long)queue.max_smtp_out);
        assert_int_equal(queue.max_smtp_out, cases[i].max_smtp_out);
    }
    conf_unref(conf);
}

static void routes(void **state)
{
    struct conf *conf = load("<domain a>\nsmtp-hosts MX1.example.com,[192.0.2.5]:2525; "
                             "lookup-mx:example.org ; 192.0.2.6, [IPv6:2001:db8::1]\n</domain>\n"
                             "<domain b>\nsmtp-hosts [192.0.2.5]:2525,mx1.example.com;"
                             "lookup-mx:Example.ORG;[192.0.2.6],[2001:db8::1]\n</domain>\n"
                             "<domain c>\nsmtp-hosts mx1.example.com;[192.0.2.5]:2525,"
                             "lookup-mx:example.org;[192.0.2.6],[2001:db8::1]\n</domain>\n"
                             "<domain d>\nroute mx1.example.com:25\n</domain>\n"
                             "<domain e>\nsmtp-hosts mx1.example.com:26\n</domain>\n"
                             "<domain f>\nsmtp-hosts mx1.example.com\n</domain>\n"
                             "<domain g>\nsmtp-hosts mx1.example.com\ndefault-smtp-port 26\n"
                             "</domain>\n");
    struct conf_queue a = queue_of(conf, "a", "{default}");
    struct conf_queue b = queue_of(conf, "b", "{default}");
    struct conf_queue f = queue_of(conf, "f", "{default}");
    struct conf_queue g = queue_of(conf, "g", "{default}");
    char room[IPADDR_TEXT_MAX];

    assert_int_equal(a.route_count, 5);
    assert_int_equal(a.route[0].kind, CONF_ROUTE_HOST);
    assert_string_equal(a.route[0].name, "mx1.example.com");
    assert_int_equal(a.route[0].port, 0);
    assert_int_equal(a.route[0].preference, 0);
    assert_int_equal(a.route[1].kind, CONF_ROUTE_ADDRESS);
    assert_int_equal(a.route[1].port, 2525);
    assert_int_equal(a.route[1].preference, 0);
    assert_int_equal(a.route[2].kind, CONF_ROUTE_LOOKUP_MX);
    assert_string_equal(a.route[2].name, "example.org");
    assert_int_equal(a.route[2].preference, 1);
    assert_int_equal(a.route[3].preference, 2);
    ipaddr_format(&a.route[4].ip, room);
    assert_string_equal(room, "2001:db8::1");
    /* The order of equals and the case of names do not matter, groups and ports do. */
    assert_true(a.route_hash == b.route_hash && a.route_hash != 0);
    assert_true(a.route_hash != queue_of(conf, "c", "{default}").route_hash);
    assert_true(queue_of(conf, "d", "{default}").route_hash !=
                queue_of(conf, "e", "{default}").route_hash);
    assert_true(f.route_hash != g.route_hash);
    assert_int_equal(g.default_port, 26);
    conf_unref(conf);
}

static void no_mx(void **state)
{
    struct conf *conf = load("<domain a>\nbounce-upon-no-mx yes\n</domain>\n"
                             "<domain b>\nbounce-upon-no-mx 2h\n</domain>\n"
                             "<domain c>\nbounce-upon-no-mx no\n</domain>\n");
    struct conf_queue a = queue_of(conf, "a", "{default}");
    struct conf_queue b = queue_of(conf, "b", "{default}");

    assert_true(a.bounce_upon_no_mx);
    assert_int_equal(a.bounce_upon_no_mx_after_ms, 0);
    assert_true(b.bounce_upon_no_mx);
    assert_int_equal(b.bounce_upon_no_mx_after_ms, 2 * HOUR);
    assert_false(queue_of(conf, "c", "{default}").bounce_upon_no_mx);
    conf_unref(conf);
}

/* A pause between connections is a rate, unless the rate that is given is lower. */
static void pauses_between_connections(void **state)
{
    static const char block[] = "<domain *>\nsmtp-out-rampup-interval 20s\n%s</domain>\n";
    static const struct {
        const char *more;
        uint64_t count;
        uint64_t interval_ms;
    } cases[] = {
        {"", 1, 20000},
        {"max-connect-rate 10/min\n", 1, 20000},
        {"max-connect-rate 2/min\n", 2, MINUTE},
        {"smtp-out-rampup-interval 0\n", CONF_UNLIMITED, 0},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[256];
        struct conf *conf;
        struct conf_rate rate;

        snprintf(text, sizeof(text), block, cases[i].more);
        conf = load(text);
        rate = queue_of(conf, "x.com", "{default}").max_connect_rate;
        assert_true(rate.count == cases[i].count);
        if (rate.count != CONF_UNLIMITED)
            assert_int_equal(rate.interval_ms, cases[i].interval_ms);
        conf_unref(conf);
    }
}

/* Short names and long ones; types of delivery that are not built are said aloud. */
static void records_and_types(void **state)
{
    struct findings findings = {0};
    struct conf *conf = load("<domain *>\ndisable-acct-records delivery,t\n</domain>\n");

    assert_int_equal(queue_of(conf, "x.com", "{default}").unwanted_records,
                     CONF_ACCT_DELIVERED | CONF_ACCT_TRANSIENT);
    assert_int_equal(queue_of(conf, "x.com", "{default}").delivery, CONF_DELIVERY_SMTP);
    conf_unref(conf);
    assert_int_equal(conf_load_text("test",
                                    "<domain x.com>\ntype discard\n</domain>\n"
                                    "<domain y.com>\ntype http-delivery\n</domain>\n",
                                    NULL, collect, &findings, &conf),
                     0);
    assert_int_equal(queue_of(conf, "x.com", "{default}").delivery, CONF_DELIVERY_DISCARD);
    assert_null(strstr(findings.text, "test:2: type"));
    assert_non_null(strstr(findings.text, "warning test:5: type http-delivery is accepted"));
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pauses_between_connections),
        cmocka_unit_test(records_and_types),
        cmocka_unit_test(defaults),
        cmocka_unit_test(most_specific_wins),
        cmocka_unit_test(values_merge),
        cmocka_unit_test(clearing),
        cmocka_unit_test(layers),
        cmocka_unit_test(macros),
        cmocka_unit_test(routes),
        cmocka_unit_test(no_mx),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
