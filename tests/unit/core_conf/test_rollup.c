/* <mx-rollup-list>: which hosts roll up where, and where the queues of that name go. */
#include "core/conf/rollup.h"

#include "tests/unit/core_conf/unit.h"

static const char *of_host(const struct conf *conf, const char *host)
{
    const char *name = conf_rollup_of_host(conf, slice_str(host));

    return name != NULL ? name : "";
}

static void lines_name_queues(void **state)
{
    struct conf *conf = load("<mx-rollup-list>\nmx *.google.com Gmail.rollup\n"
                             "mx aspmx.l.google.com gmail.rollup\n"
                             "mx *.outlook.com outlook.rollup rollup-by-ip\n"
                             "mx [*.]lost.example lost.rollup\n</mx-rollup-list>\n"
                             "<domain outlook.rollup>\nsmtp-hosts [192.0.2.1],b.example\n"
                             "max-smtp-out 7\n</domain>\n");
    struct conf *none = load("");
    struct conf_queue queue;

    assert_true(conf_has_rollups(conf) && !conf_has_rollups(none));
    assert_string_equal(of_host(conf, "ALT1.aspmx.l.google.com"), "gmail.rollup");
    assert_string_equal(of_host(conf, "aspmx.l.google.com"), "gmail.rollup");
    assert_ptr_equal(conf_rollup_of_host(conf, slice_str("a.google.com")),
                     conf_rollup_of_host(conf, slice_str("b.google.com")));
    assert_string_equal(of_host(conf, "google.com"), "");
    assert_string_equal(of_host(conf, "x.outlook.com"), "outlook.rollup");
    /* A name that leads nowhere rolls nothing up. */
    assert_string_equal(of_host(conf, "mx.lost.example"), "");
    assert_true(conf_is_rollup(conf, slice_str("gmail.rollup")));
    assert_false(conf_is_rollup(conf, slice_str("lost.rollup")));
    assert_false(conf_is_rollup(none, slice_str("gmail.rollup")));
    /* Hosts named in full are the way, where the queue has no other. */
    queue = queue_of(conf, "gmail.rollup", "{default}");
    assert_int_equal(queue.route_count, 1);
    assert_string_equal(queue.route[0].name, "aspmx.l.google.com");
    assert_true(queue.route_hash != 0);
    queue = queue_of(conf, "outlook.rollup", "{default}");
    assert_int_equal(queue.route_count, 2);
    assert_int_equal(queue.max_smtp_out, 7);
    assert_int_equal(queue_of(conf, "gmail.com", "{default}").route_count, 0);
    conf_unref(conf);
    conf_unref(none);
}

static void bad_lines_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"mx a.example", "test:2: the line is not of the form: mx PATTERN NAME"},
        {"mx a.example b.rollup by-ip", "test:2: the line is not of the form"},
        {"mx a.example b.rollup rollup-by-ip more", "test:2: the line is not of the form"},
        {"host a.example b.rollup", "test:2: the line is not of the form"},
        {"mx a..b c.rollup", "test:2: the line is not of the form"},
        {"mx a.example b/c", "test:2: the line is not of the form"},
        {"mx *.example b.rollup",
         "test:2: nothing rolls up to b.rollup: its <domain> has no smtp-hosts, and "
         "no line of it names a host in full\n"},
        {"mx *.example b.rollup rollup-by-ip",
         "names a host in full; rollup-by-ip is accepted and ignored, write `smtp-hosts "
         "lookup-mx:DOMAIN` in that <domain>"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static struct findings findings;
        struct conf *conf = NULL;
        char text[200];

        findings = (struct findings){0};
        snprintf(text, sizeof(text), "<mx-rollup-list>\n%s\n</mx-rollup-list>\n", rows[i][0]);
        assert_int_equal(conf_load_text("test", text, NULL, collect, &findings, &conf), 0);
        if (strstr(findings.text, rows[i][1]) == NULL)
            fail_msg("\"%s\" gives \"%s\"", rows[i][0], findings.text);
        assert_string_equal(of_host(conf, "a.example"), "");
        conf_unref(conf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_name_queues),
        cmocka_unit_test(bad_lines_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
