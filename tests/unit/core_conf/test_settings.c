#include "tests/unit/core_conf/unit.h"

#include "core/conf/limit.h"

/* What was told, one "section keyword=value@line" a line; line 0: the default. */
static void tell(void *context, const struct conf_setting *setting)
{
    struct findings *told = context;
    int len;

    /* What the pack has to say is test_provider.c's. */
    if (strncmp(setting->section, "provider ", 9) == 0)
        return;
    len = snprintf(told->text + told->len, sizeof(told->text) - told->len, "%s %s=%s@%u\n",
                   setting->section, setting->keyword, setting->value, setting->line);

    assert_true((setting->file == NULL) == (setting->line == 0));
    if (setting->file != NULL)
        assert_string_equal(setting->file, "test");
    told->len += (size_t)len;
    assert_true(told->len < sizeof(told->text));
}

static const char text[] = "smtp-source-host 192.0.2.1 top.example\n"
                           "domain-macro both b.example,c.example\n"
                           "<domain *>\n"
                           "    max-smtp-out 4\n"
                           "    retry-after 10m,20m\n"
                           "    source-ip-max-smtp-out 10/8 1\n"
                           "    source-ip-max-smtp-out 11/8 2\n"
                           "    dkim-sign yes\n"
                           "    route [192.0.2.9]\n"
                           "</domain>\n"
                           "<domain $both>\n"
                           "    max-smtp-out 5\n"
                           "    retry-after \"\"\n"
                           "    smtp-hosts [192.0.2.10]\n"
                           "</domain>\n"
                           "<domain b.example>\n"
                           "    max-smtp-out 6\n"
                           "    max-rcpt-per-transaction 7\n"
                           "</domain>\n"
                           "<virtual-mta v>\n"
                           "    smtp-source-host 192.0.2.2 v1.example\n"
                           "    smtp-source-host 192.0.2.3 v2.example\n"
                           "    <domain *>\n"
                           "        max-msg-rate 8/h\n"
                           "    </domain>\n"
                           "</virtual-mta>\n"
                           "<virtual-mta w>\n"
                           "    max-smtp-out 9\n"
                           "</virtual-mta>\n"
                           "<virtual-mta-pool p>\n"
                           "    virtual-mta v\n"
                           "    virtual-mta w\n"
                           "    max-smtp-out 11\n"
                           "    <domain b.example>\n"
                           "        max-msg-rate 12/h\n"
                           "        bounce-after 3h\n"
                           "    </domain>\n"
                           "</virtual-mta-pool>\n"
                           "<virtual-mta-pool tighter>\n"
                           "    virtual-mta v\n"
                           "    max-smtp-out 10\n"
                           "    max-smtp-msg-rate 100/h\n"
                           "</virtual-mta-pool>\n";

static void expect(const struct conf *conf, const char *domain, const char *vmta,
                   const char *const *lines, size_t count)
{
    static struct findings told;
    struct conf_way way;

    told = (struct findings){.text = "\n", .len = 1};
    assert_true(conf_settings_tell(conf, slice_str(domain), slice_str(vmta), tell, &told, &way));
    for (size_t i = 0; i < count; i++) {
        char whole[160];

        snprintf(whole, sizeof(whole), "\n%s\n", lines[i]);
        if (strstr(told.text, whole) == NULL)
            fail_msg("%s/%s: no \"%s\" in%s", domain, vmta, lines[i], told.text);
    }
    /* Each keyword is told once, under one of its names. */
    assert_null(strstr(told.text, "max-rcpt-per-transaction="));
    assert_null(strstr(told.text, " route="));
    assert_null(strstr(told.text, "max-smtp-out-per-source-ip="));
}

static void every_value_has_its_line(void **state)
{
    static const char *const of_default[] = {
        "domain max-smtp-out=4@4",
        "domain max-msg-rate=unlimited@0",
        "domain smtp-hosts=[192.0.2.9]@9",
        "domain source-ip-max-smtp-out=10/8 1@6",
        "domain source-ip-max-smtp-out=11/8 2@7",
        "domain dkim-sign=yes@8",
        "domain backoff-max-msg-rate=unlimited@0",
        "domain retry-recipients-after=10m,20m@5",
        "virtual-mta smtp-source-host=192.0.2.1 top.example@1",
        "virtual-mta max-smtp-out=unlimited@0",
    };
    static const char *const of_v[] = {
        "domain max-smtp-out=6@17",
        "domain retry-after=10m,20m,40m,1h,2h,4h@13",
        "domain smtp-hosts=[192.0.2.10]@14",
        "domain max-rcpt-per-message=7@18",
        "domain max-msg-rate=8/h@24",
        "domain bounce-after=3h@36",
        "virtual-mta smtp-source-host=192.0.2.2 v1.example@21",
        "virtual-mta smtp-source-host=192.0.2.3 v2.example@22",
        "virtual-mta max-smtp-out=10@41",
        "virtual-mta max-smtp-msg-rate=100/h@42",
    };
    static const char *const of_w[] = {
        "domain max-smtp-out=5@12",
        "domain max-msg-rate=unlimited@0",
        "virtual-mta max-smtp-out=9@28",
        "virtual-mta smtp-source-host=192.0.2.1 top.example@1",
        "virtual-mta max-smtp-msg-rate=unlimited@0",
    };
    struct conf *conf = load(text);

    expect(conf, "a.example", "{default}", of_default, COUNT_OF(of_default));
    expect(conf, "b.example", "v", of_v, COUNT_OF(of_v));
    expect(conf, "c.example", "W", of_w, COUNT_OF(of_w));
    assert_false(conf_settings_tell(conf, slice_str("a"), slice_str("none"), tell, NULL, NULL));
    /* What is told is what holds. */
    assert_int_equal(queue_of(conf, "b.example", "v").max_msg_rate.count, 8);
    assert_int_equal(queue_of(conf, "b.example", "v").max_rcpt_per_transaction, 7);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("v"))->max_smtp_out, 10);
    conf_unref(conf);
}

/* A number per hour is a rate by the name that it is told under. */
static void old_names_tell_rates(void **state)
{
    static const char old[] =
        "<domain *>\nmax-msg-per-hour 50\nbackoff-max-msg-per-hour unlimited\n"
        "</domain>\n<domain b.example>\nmax-msg-rate 70/m\n</domain>\n";
    static const char *const any[] = {"domain max-msg-rate=50/h@2",
                                      "domain backoff-max-msg-rate=unlimited@3"};
    static const char *const named[] = {"domain max-msg-rate=70/m@6"};
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test", old, NULL, NULL, NULL, &conf), 0);
    expect(conf, "a.example", "{default}", any, COUNT_OF(any));
    expect(conf, "b.example", "{default}", named, COUNT_OF(named));
    conf_unref(conf);
}

/* What is not given, or is taken back, is what another keyword says, with the line of that one. */
static void what_stands_in(void **state)
{
    static const char rates[] = "<domain *>\nretry-after 7m\nmax-msg-per-hour 60\n"
                                "backoff-max-msg-rate 5/h\nmax-connect-rate 9/m\n</domain>\n"
                                "<domain b.example>\nbackoff-max-msg-rate \"\"\n"
                                "retry-recipients-after 1m,2m\n"
                                "backoff-max-data-volume-rate 3m/h\n</domain>\n";
    static const char *const any[] = {
        "domain retry-recipients-after=7m@2", "domain backoff-max-msg-rate=5/h@4",
        "domain backoff-max-connect-rate=9/m@5", "domain backoff-max-data-volume-rate=unlimited@0"};
    static const char *const named[] = {"domain retry-recipients-after=1m,2m@9",
                                        "domain backoff-max-msg-rate=60/h@3",
                                        "domain backoff-max-data-volume-rate=3m/h@10"};
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test", rates, NULL, NULL, NULL, &conf), 0);
    expect(conf, "a.example", "{default}", any, COUNT_OF(any));
    expect(conf, "b.example", "{default}", named, COUNT_OF(named));
    assert_int_equal(queue_of(conf, "b.example", "{default}").backoff_max_msg_rate.count, 60);
    conf_unref(conf);
}

/* Mail that is another queue's is bound by what that one's blocks say. */
static void of_the_queue_that_has_the_mail(void **state)
{
    static const char handed[] = "smtp-source-host 192.0.2.1 top.example\n"
                                 "<virtual-mta v>\n</virtual-mta>\n"
                                 "<virtual-mta w>\nmax-smtp-out 6\n</virtual-mta>\n"
                                 "<domain a.example>\nmax-smtp-out 2\nqueue-to b.example\n"
                                 "</domain>\n"
                                 "<domain b.example>\nmax-smtp-out 3\n"
                                 "reroute-to-virtual-mta w\n</domain>\n"
                                 "<domain c.example>\nqueue-to c.example\nmax-smtp-out 4\n"
                                 "</domain>\n";
    static const char *const by_name[] = {"way queue-to=b.example@9", "domain max-smtp-out=3@12",
                                          "virtual-mta max-smtp-out=6@5"};
    static const char *const by_vmta[] = {"way reroute-to-virtual-mta=w@13",
                                          "domain max-smtp-out=3@12",
                                          "virtual-mta max-smtp-out=6@5"};
    static const char *const stays[] = {"domain max-smtp-out=4@17",
                                        "virtual-mta max-smtp-out=unlimited@0"};
    struct conf *conf = load(handed);
    struct findings told = {0};
    struct conf_way way;

    expect(conf, "a.example", "v", by_name, COUNT_OF(by_name));
    expect(conf, "b.example", "v", by_vmta, COUNT_OF(by_vmta));
    expect(conf, "c.example", "v", stays, COUNT_OF(stays));
    assert_true(conf_settings_tell(conf, SLICE_LITERAL("c.example"), SLICE_LITERAL("v"), tell,
                                   &told, &way));
    assert_false(way.is_elsewhere);
    assert_null(strstr(told.text, "way "));
    told = (struct findings){0};
    assert_true(conf_settings_tell(conf, SLICE_LITERAL("a.example"), SLICE_LITERAL("v"), tell,
                                   &told, &way));
    assert_true(way.is_elsewhere && slice_equal(way.domain, SLICE_LITERAL("b.example")));
    assert_string_equal(conf_vmta_name(conf, way.vmta_id), "w");
    assert_null(strstr(told.text, "max-smtp-out=2@"));
    conf_unref(conf);
}

/* Two names of one limit: whichever a narrower block has is what counts, and is told alone. */
static void old_name_of_a_limit_by_address(void **state)
{
    static const char old[] = "<domain *>\nmax-smtp-out-per-source-ip 7\n</domain>\n"
                              "<domain b.example>\nsource-ip-max-smtp-out 10/8 2\n"
                              "max-smtp-out-per-source-ip 3\n</domain>\n"
                              "<domain c.example>\nsource-ip-max-smtp-out \"\"\n</domain>\n"
                              "<domain d.example>\nmax-smtp-out-per-source-ip 5\n"
                              "source-ip-max-smtp-out \"\"\nsource-ip-max-smtp-out 11/8 6\n"
                              "</domain>\n";
    static const char *const any[] = {"domain source-ip-max-smtp-out=0/0 7@2"};
    static const char *const both[] = {"domain source-ip-max-smtp-out=10/8 2@5",
                                       "domain source-ip-max-smtp-out=0/0 3@6"};
    static const char *const cleared[] = {"domain source-ip-max-smtp-out=@9"};
    static const char *const after[] = {"domain source-ip-max-smtp-out=11/8 6@14"};
    struct conf *conf = load(old);
    struct conf_queue queue;

    expect(conf, "a.example", "{default}", any, COUNT_OF(any));
    expect(conf, "b.example", "{default}", both, COUNT_OF(both));
    expect(conf, "c.example", "{default}", cleared, COUNT_OF(cleared));
    expect(conf, "d.example", "{default}", after, COUNT_OF(after));
    queue = queue_of(conf, "c.example", "{default}");
    assert_int_equal(queue.source_limits[CONF_OF_CONNECTIONS].count, 0);
    queue = queue_of(conf, "d.example", "{default}");
    assert_int_equal(queue.source_limits[CONF_OF_CONNECTIONS].count, 1);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_has_its_line), cmocka_unit_test(old_names_tell_rates),
        cmocka_unit_test(what_stands_in), cmocka_unit_test(of_the_queue_that_has_the_mail),
        cmocka_unit_test(old_name_of_a_limit_by_address)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
