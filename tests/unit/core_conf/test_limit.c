#include "core/conf/limit.h"
#include "tests/unit/core_conf/unit.h"

static const char vmtas[] = "<virtual-mta a>\nsmtp-source-host 192.0.2.1 a.test\n</virtual-mta>\n"
                            "<virtual-mta b>\nsmtp-source-host 192.0.2.2 b.test\n</virtual-mta>\n"
                            "<virtual-mta c>\nsmtp-source-host 192.0.2.3 c.test\n</virtual-mta>\n"
                            "<virtual-mta-pool p>\nvirtual-mta a\nvirtual-mta b\n"
                            "</virtual-mta-pool>\n"
                            "<virtual-mta-pool q>\nvirtual-mta b\n</virtual-mta-pool>\n";

static struct conf *load_with(const char *text)
{
    char whole[8192];

    snprintf(whole, sizeof(whole), "host-name t.test\ndomain-macro big gmail.com,yahoo.com\n%s%s",
             vmtas, text);
    return load(whole);
}

static uint32_t id_of(const struct conf *conf, const char *name)
{
    return conf_vmta_named(conf, slice_str(name))->id;
}

static bool fits(const struct conf *conf, uint32_t position, const char *domain, const char *vmta)
{
    return conf_limit_fits(conf_limit_block_at(conf, position), slice_str(domain),
                           id_of(conf, vmta));
}

static void blocks(void **state)
{
    struct conf *conf = load_with("<limit one>\nscope provider,source-ip\n"
                                  "domain [*.]big.test,$big\nmax-smtp-out 20\n</limit>\n"
                                  "<limit two>\nscope queue,user\npool p\nvirtual-mta b,c\n"
                                  "job news*,order\nmax-msg-rate 100/s\n</limit>\n"
                                  "<limit all>\nmax-smtp-out 7\n</limit>\n");
    const struct conf_limit *one = conf_limit_block_at(conf, 0);
    const struct conf_limit *two = conf_limit_block_at(conf, 1);

    assert_int_equal(conf_limit_block_count(conf), 3);
    assert_int_equal(one->scopes, CONF_SCOPE_PROVIDER | CONF_SCOPE_SOURCE_IP);
    assert_int_equal(one->max_smtp_out, 20);
    assert_true(one->max_msg_rate.count == CONF_UNLIMITED);
    assert_false(conf_limit_is_of_message(one));
    assert_true(fits(conf, 0, "big.test", "a") && fits(conf, 0, "x.y.big.test", "c"));
    assert_true(fits(conf, 0, "gmail.com", "a") && fits(conf, 0, "yahoo.com", "a"));
    assert_false(fits(conf, 0, "xbig.test", "a") || fits(conf, 0, "x.gmail.com", "a"));
    assert_int_equal(two->scopes, CONF_SCOPE_VMTA | CONF_SCOPE_DOMAIN | CONF_SCOPE_USER);
    assert_true(two->max_smtp_out == CONF_UNLIMITED && two->max_msg_rate.count == 100);
    assert_true(conf_limit_is_of_message(two));
    /* Both lists must fit: c is no member of p, a is not named. */
    assert_true(fits(conf, 1, "x.test", "b"));
    assert_false(fits(conf, 1, "x.test", "a") || fits(conf, 1, "x.test", "c"));
    assert_true(conf_limit_fits_message(two, slice_str("NEWS-7"), SLICE_EMPTY));
    assert_true(conf_limit_fits_message(two, slice_str("order"), SLICE_EMPTY));
    assert_false(conf_limit_fits_message(two, slice_str("order2"), SLICE_EMPTY));
    assert_true(conf_limit_mask(conf, slice_str("gmail.com"), id_of(conf, "b")) == 7);
    assert_true(conf_limit_mask(conf, slice_str("x.test"), id_of(conf, "a")) == 4);
    assert_ptr_equal(conf_limit(conf, one->id), one);
    /* The last pool counts. */
    assert_int_equal(conf_vmta_named(conf, slice_str("b"))->pool_id,
                     conf_pool_named(conf, slice_str("q"))->id);
    assert_int_equal(conf_vmta_named(conf, slice_str("c"))->pool_id, CONF_NONE);
    conf_unref(conf);
}

/* So many rates that all hold for what is below a.test, two of them each for another virtual MTA.
 */
static void put_crowd(char *text, size_t room, unsigned count, bool are_apart)
{
    static const char *const vmtas_of[] = {"virtual-mta a\n", "virtual-mta b\n"};
    size_t used = 0;

    for (unsigned i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, room - used,
                                 "<limit r%u>\n%s max-msg-rate %u/s\n%s</limit>\n", i,
                                 i % 2 ? "domain [*.]a.test,other.test\n" : "domain *.a.test\n",
                                 i + 1, are_apart && i < 2 ? vmtas_of[i] : "");
}

static void a_queue_has_so_many_rates(void **state)
{
    struct findings findings;
    char text[4096], whole[8192];

    put_crowd(text, sizeof(text), 11, false);
    conf_unref(load_with(text));
    put_crowd(text, sizeof(text), 12, true);
    conf_unref(load_with(text));
    put_crowd(text, sizeof(text), 12, false);
    snprintf(whole, sizeof(whole), "host-name t.test\n%s", text);
    refuse(whole, &findings);
    assert_non_null(strstr(findings.text, "<limit r11>: too many rates of <limit> blocks apply to "
                                          "queue ?.a.test/{default}: 11 are possible"));
}

/* A message draws on so many at once, and no more. */
static void so_many_count_connections_by_mail(void **state)
{
    static const char *const whats[] = {"scope job\n", "scope provider,sender-domain\n",
                                        "scope user\n", "job news*\n"};
    struct findings findings;
    char whole[2048];
    size_t used = 0;

    for (unsigned i = 0; i < 9; i++) {
        if (i == 8)
            conf_unref(load_with(whole));
        used += (size_t)snprintf(whole + used, sizeof(whole) - used,
                                 "<limit x%u>\n%smax-smtp-out 2\n</limit>\n", i,
                                 whats[i % COUNT_OF(whats)]);
    }
    memmove(whole + strlen("host-name t.test\n"), whole, used + 1);
    memcpy(whole, "host-name t.test\n", strlen("host-name t.test\n"));
    refuse(whole, &findings);
    assert_non_null(strstr(findings.text, "<limit x8>: too many max-smtp-out by job, sender-domain "
                                          "or user of <limit> blocks apply to queue "));
}

static void ids_last(void **state)
{
    struct conf *before = load_with("<limit x>\nmax-smtp-out 1\n</limit>\n"
                                    "<limit y>\nmax-smtp-out 2\n</limit>\n");
    struct conf *after = load_with("<limit y>\nmax-smtp-out 3\n</limit>\n");
    const struct conf_limit *y = conf_limit_block_at(before, 1);

    assert_int_equal(y->id, conf_limit_block_at(after, 0)->id);
    assert_int_equal(conf_limit(after, y->id)->max_smtp_out, 3);
    assert_null(conf_limit(after, conf_limit_block_at(before, 0)->id));
    assert_string_equal(conf_limit_name(after, conf_limit_block_at(before, 0)->id), "x");
    conf_unref(before);
    conf_unref(after);
}

static void of_source(void **state)
{
    struct conf *conf = load_with("<domain *>\nsource-ip-max-smtp-out \"10.0.0.0/8\" \"5\"\n"
                                  "source-ip-max-smtp-out 10.1.0.0/16 2\n</domain>\n"
                                  "<domain d.test>\nsource-ip-max-smtp-out 0/0 9\n</domain>\n"
                                  "<domain e.test>\nsource-ip-max-smtp-out \"\"\n</domain>\n"
                                  "<domain f.test>\nmax-smtp-out 3\n</domain>\n"
                                  "<domain d.test>\nretry-after 1h\n</domain>\n");
    struct ipaddr wide, narrow, other;
    struct conf_queue queue;

    ipaddr_parse(slice_str("10.2.0.1"), &wide);
    ipaddr_parse(slice_str("10.1.0.1"), &narrow);
    ipaddr_parse(slice_str("192.0.2.1"), &other);
    conf_queue(conf, slice_str("f.test"), CONF_VMTA_DEFAULT, &queue);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &wide)->max_smtp_out, 5);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &narrow)->max_smtp_out, 2);
    assert_null(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &other));
    assert_null(conf_limit_of_source(&queue, CONF_OF_RECIPIENTS, &wide));
    conf_queue(conf, slice_str("d.test"), CONF_VMTA_DEFAULT, &queue);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &other)->max_smtp_out, 9);
    assert_int_equal(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &narrow)->max_smtp_out, 9);
    conf_queue(conf, slice_str("e.test"), CONF_VMTA_DEFAULT, &queue);
    assert_null(conf_limit_of_source(&queue, CONF_OF_CONNECTIONS, &wide));
    conf_unref(conf);
}

static void hosts(void **state)
{
    struct conf *conf = load_with("mx-connection-limit \"[*.]mx.test\" \"50\"\n"
                                  "ip-connection-limit 198.51.100.0/24 4\n");
    const struct conf_limit *mx = conf_limit_host_at(conf, 0), *ip = conf_limit_host_at(conf, 1);
    struct ipaddr in, out;

    ipaddr_parse(slice_str("198.51.100.9"), &in);
    ipaddr_parse(slice_str("203.0.113.9"), &out);
    assert_int_equal(conf_limit_host_count(conf), 2);
    assert_int_equal(mx->max_smtp_out, 50);
    assert_int_equal(mx->scopes, CONF_SCOPE_SOURCE_IP);
    assert_true(conf_limit_fits_host(mx, slice_str("a.mx.test"), &out));
    assert_false(conf_limit_fits_host(mx, slice_str("mx2.test"), &in));
    assert_int_equal(ip->max_smtp_out, 4);
    assert_true(conf_limit_fits_host(ip, slice_str("a.mx.test"), &in));
    assert_false(conf_limit_fits_host(ip, slice_str("a.mx.test"), &out));
    conf_unref(conf);
}

static void assert_fault(const char *text, const char *what)
{
    static struct findings findings;

    refuse(text, &findings);
    assert_non_null(strstr(findings.text, what));
}

static void faults(void **state)
{
    assert_fault("<limit x>\nvirtual-mta nobody\n</limit>\n", "there is no <virtual-mta nobody>");
    assert_fault("<limit x>\npool nobody\n</limit>\n", "there is no <virtual-mta-pool nobody>");
    assert_fault("<limit x>\ndomain a..b\n</limit>\n", "no domain pattern");
    assert_fault("<limit x>\n</limit>\n<limit X>\n</limit>\n", "given twice");
    assert_fault("<limit x>\nscope planet\n</limit>\n", "planet");
    assert_fault("mx-connection-limit *.x.test many\n", "not a number");
    assert_fault("mx-connection-limit mx*.x.test 5\n",
                 ": mx-connection-limit: \"mx*.x.test\" is no domain pattern");
    assert_fault("mx-connection-limit $x 5\n", ": mx-connection-limit: there is no domain-macro");
    assert_fault("mx-connection-limit \"\" 5\n", "a domain pattern is missing");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),
        cmocka_unit_test(a_queue_has_so_many_rates),
        cmocka_unit_test(so_many_count_connections_by_mail),
        cmocka_unit_test(ids_last),
        cmocka_unit_test(of_source),
        cmocka_unit_test(hosts),
        cmocka_unit_test(faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
