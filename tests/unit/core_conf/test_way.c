#include "tests/unit/core_conf/unit.h"

static const char vmtas[] = "<virtual-mta a>\n</virtual-mta>\n<virtual-mta b>\n</virtual-mta>\n"
                            "<virtual-mta c>\n</virtual-mta>\n"
                            "<virtual-mta-pool p>\nvirtual-mta b\nvirtual-mta c\n"
                            "</virtual-mta-pool>\n";

static const char *with_vmtas(const char *text)
{
    static char room[4096];

    snprintf(room, sizeof(room), "%s%s", vmtas, text);
    return room;
}

static struct conf_way way_of(const struct conf *conf, const char *domain, const char *vmta,
                              uint64_t turn)
{
    struct conf_way way;

    conf_way(conf, slice_str(domain), conf_vmta_named(conf, slice_str(vmta))->id, turn, &way);
    return way;
}

static void assert_way(const struct conf *conf, const char *domain, const char *vmta,
                       const char *to_domain, const char *to_vmta)
{
    struct conf_way way = way_of(conf, domain, vmta, 0);

    assert_true(slice_equal(way.domain, slice_str(to_domain)));
    assert_string_equal(conf_vmta_name(conf, way.vmta_id), to_vmta);
    assert_int_equal(way.is_elsewhere,
                     strcmp(domain, to_domain) != 0 || strcmp(vmta, to_vmta) != 0);
}

static void nothing_is_handed_on(void **state)
{
    struct conf *conf = load(with_vmtas("<domain x.com>\nqueue-to x.com\n</domain>\n"
                                        "<domain y.com>\nqueue-to z.com\nqueue-to \"\"\n"
                                        "reroute-to-virtual-mta nobody\n</domain>\n"));

    assert_way(conf, "x.com", "a", "x.com", "a");
    assert_way(conf, "y.com", "a", "y.com", "a");
    assert_way(conf, "z.com", "a", "z.com", "a");
    conf_unref(conf);
}

/* Step by step, at each queue by its own settings; a name of a queue is in lower case. */
static void chains(void **state)
{
    struct conf *conf = load(with_vmtas("<domain *>\nreroute-to-virtual-mta a\n</domain>\n"
                                        "<domain one.com>\nqueue-to Two.Queue\n</domain>\n"
                                        "<domain two.queue>\nqueue-to three.queue\n</domain>\n"
                                        "<domain three.queue>\nreroute-to-virtual-mta B\n"
                                        "</domain>\n"));

    assert_way(conf, "one.com", "{default}", "three.queue", "b");
    assert_way(conf, "one.com", "c", "three.queue", "b");
    assert_way(conf, "three.queue", "b", "three.queue", "b");
    assert_way(conf, "other.com", "c", "other.com", "a");
    assert_way(conf, "other.com", "a", "other.com", "a");
    conf_unref(conf);
}

/* The blocks of a virtual MTA count where the mail has come to. */
static void blocks_of_virtual_mtas(void **state)
{
    struct conf *conf =
        load("<virtual-mta a>\n<domain x.com>\nreroute-to-virtual-mta b\n</domain>\n"
             "</virtual-mta>\n"
             "<virtual-mta b>\n<domain x.com>\nqueue-to y.com\n</domain>\n</virtual-mta>\n");

    assert_way(conf, "x.com", "a", "y.com", "b");
    assert_way(conf, "x.com", "{default}", "x.com", "{default}");
    conf_unref(conf);
}

static void pools_take_turns(void **state)
{
    struct conf *conf = load(with_vmtas("<domain x.com>\nreroute-to-virtual-mta p\n</domain>\n"));
    struct conf_way way = way_of(conf, "x.com", "a", 4);

    assert_true(way.by_turn);
    assert_string_equal(conf_vmta_name(conf, way.vmta_id), "b");
    assert_string_equal(conf_vmta_name(conf, way_of(conf, "x.com", "a", 5).vmta_id), "c");
    assert_way(conf, "x.com", "c", "x.com", "c");
    conf_unref(conf);
}

/* A name that was read outlives its snapshot. */
static void names_outlive_snapshots(void **state)
{
    struct conf *conf = load("<domain x.com>\nqueue-to Kept.Queue\n</domain>\n");
    struct slice name = way_of(conf, "x.com", "{default}", 0).domain;

    conf_unref(conf);
    assert_true(slice_equal(name, SLICE_LITERAL("kept.queue")));
}

static void circles_are_refused(void **state)
{
    static const char *const texts[] = {
        "<domain x.com>\nqueue-to y.com\n</domain>\n<domain y.com>\nqueue-to x.com\n</domain>\n",
        "<domain [*.]x.com>\nqueue-to y.com\n</domain>\n"
        "<domain y.com>\nqueue-to z.x.com\n</domain>\n",
        "<domain *>\nreroute-to-virtual-mta a\n</domain>\n<virtual-mta-pool q>\nvirtual-mta a\n"
        "<domain *>\nreroute-to-virtual-mta b\n</domain>\n</virtual-mta-pool>\n",
        "<domain *>\nreroute-to-virtual-mta a\n</domain>\n<virtual-mta-pool q>\nvirtual-mta a\n"
        "<domain [192.0.2.0/24]>\nreroute-to-virtual-mta p\n</domain>\n</virtual-mta-pool>\n",
    };
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        refuse(with_vmtas(texts[i]), &findings);
        assert_non_null(strstr(findings.text, "the mail would go round in a circle"));
    }
    refuse("<domain x.com>\nqueue-to a/b\n</domain>\n", &findings);
    assert_non_null(
        strstr(findings.text, "error test:2: queue-to: \"a/b\" is the name of no queue"));
}

/* The way in backoff mode, by the virtual MTA's name; NULL: the queue keeps its mail. */
/* A name that only a queue can have needs smtp-hosts, or another way on, somewhere. */
static void queues_without_hosts_are_told(void **state)
{
    static const char *const told[] = {"{relay}", "relay", "x.rollup", "X.Queue"};
    static const char *const fine[] = {"x.example",     "[192.0.2.1]", "{hosts}",
                                       "by-vmta.queue", "file.queue",  "on.rollup"};
    static const char blocks[] =
        "<domain {hosts}>\nsmtp-hosts [192.0.2.1]\n</domain>\n"
        "<domain file.queue>\ntype discard\n</domain>\n"
        "<domain on.rollup>\nqueue-to x.example\n</domain>\n"
        "<virtual-mta d>\n<domain by-vmta.queue>\nsmtp-hosts [192.0.2.1]\n</domain>\n"
        "</virtual-mta>\n";

    for (size_t i = 0; i < COUNT_OF(told) + COUNT_OF(fine); i++) {
        bool is_told = i < COUNT_OF(told);
        char text[1024];
        struct findings findings = {0};
        struct conf *conf = NULL;

        snprintf(text, sizeof(text), "<domain a.example>\nqueue-to %s\n</domain>\n%s",
                 is_told ? told[i] : fine[i - COUNT_OF(told)], blocks);
        assert_int_equal(conf_load_text("test", text, NULL, collect, &findings, &conf), 0);
        assert_int_equal(strstr(findings.text, "warning test:2: queue-to ") != NULL, is_told);
        assert_int_equal(strstr(findings.text, "the mail has no way on") != NULL, is_told);
        conf_unref(conf);
    }
}

static const char *backoff_way_of(const struct conf *conf, const char *domain, const char *vmta,
                                  uint64_t turn)
{
    struct conf_way way = way_of(conf, domain, vmta, turn);

    if (!conf_hands_on_in_backoff(conf, slice_str(domain), way.vmta_id))
        return NULL;
    assert_true(conf_way_in_backoff(conf, turn, &way));
    assert_true(way.is_elsewhere && slice_equal(way.domain, slice_str(domain)));
    return conf_vmta_name(conf, way.vmta_id);
}

/* The keyword counts only where mail stays; the mail goes on from there as any other's would. */
static void backoff_mode_leads_elsewhere(void **state)
{
    struct conf *conf = load(
        with_vmtas("<domain *>\nbackoff-reroute-to-virtual-mta a\n</domain>\n"
                   "<domain y.com>\nbackoff-reroute-to-virtual-mta P\n</domain>\n"
                   "<domain z.com>\nbackoff-reroute-to-virtual-mta a\nqueue-to y.com\n</domain>\n"
                   "<domain w.com>\nbackoff-reroute-to-virtual-mta \"\"\n</domain>\n"
                   "<domain x.com>\nbackoff-reroute-to-virtual-mta \"\"\n</domain>\n"
                   "<virtual-mta-pool q>\nvirtual-mta a\n<domain x.com>\n"
                   "reroute-to-virtual-mta c\n</domain>\n</virtual-mta-pool>\n"
                   "<virtual-mta d>\n<domain x.com>\nbackoff-reroute-to-virtual-mta a\n"
                   "</domain>\n</virtual-mta>\n"));

    assert_way(conf, "v.com", "b", "v.com", "b");
    assert_string_equal(backoff_way_of(conf, "v.com", "b", 0), "a");
    assert_null(backoff_way_of(conf, "v.com", "a", 0));
    assert_string_equal(backoff_way_of(conf, "y.com", "a", 0), "b");
    assert_string_equal(backoff_way_of(conf, "y.com", "a", 1), "c");
    assert_null(backoff_way_of(conf, "y.com", "c", 1));
    assert_string_equal(backoff_way_of(conf, "x.com", "d", 0), "c");
    assert_false(conf_hands_on_in_backoff(conf, SLICE_LITERAL("z.com"), 0));
    assert_null(backoff_way_of(conf, "w.com", "b", 0));
    conf_unref(conf);
}

static void backoff_circles_are_refused(void **state)
{
    static const char *const texts[] = {
        "<virtual-mta d>\n<domain *>\nbackoff-reroute-to-virtual-mta a\n</domain>\n</virtual-mta>\n"
        "<domain x.com>\nbackoff-reroute-to-virtual-mta d\n</domain>\n",
        "<domain *>\nbackoff-reroute-to-virtual-mta a\n</domain>\n<virtual-mta-pool q>\n"
        "virtual-mta a\n<domain *>\nbackoff-reroute-to-virtual-mta p\n</domain>\n"
        "</virtual-mta-pool>\n",
        "<domain *>\nbackoff-reroute-to-virtual-mta a\n</domain>\n<virtual-mta-pool q>\n"
        "virtual-mta a\n<domain *>\nreroute-to-virtual-mta b\n</domain>\n</virtual-mta-pool>\n",
    };
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        refuse(with_vmtas(texts[i]), &findings);
        assert_non_null(
            strstr(findings.text, "in backoff mode the mail would go round in a circle"));
    }
    refuse("<domain x.com>\nbackoff-reroute-to-virtual-mta none\n</domain>\n", &findings);
    assert_non_null(strstr(findings.text, "error test:2: backoff-reroute-to-virtual-mta: there is "
                                          "no virtual MTA or pool none"));
    refuse(with_vmtas("<domain x.com>\nbackoff-reroute-to-virtual-mta a\n</domain>\n"
                      "<warm-up w>\nvirtual-mta a\nschedule 10,20\noverflow b\n</warm-up>\n"),
           &findings);
    assert_non_null(strstr(findings.text, "mail of a is under <warm-up w>, which overflows"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_handed_on),
        cmocka_unit_test(chains),
        cmocka_unit_test(blocks_of_virtual_mtas),
        cmocka_unit_test(pools_take_turns),
        cmocka_unit_test(names_outlive_snapshots),
        cmocka_unit_test(circles_are_refused),
        cmocka_unit_test(queues_without_hosts_are_told),
        cmocka_unit_test(backoff_mode_leads_elsewhere),
        cmocka_unit_test(backoff_circles_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
