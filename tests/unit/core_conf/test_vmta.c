#include "tests/unit/core_conf/unit.h"

#include <pthread.h>
#include <stdlib.h>

static void default_vmta(void **state)
{
    struct conf *conf = load("host-name mail.example.com\nhost-name example.com\n");
    const struct conf_vmta *vmta = conf_vmta(conf, CONF_VMTA_DEFAULT);

    assert_int_equal(conf_vmta_count(conf), 1);
    assert_ptr_equal(conf_vmta_at(conf, 0), vmta);
    assert_ptr_equal(conf_vmta_named(conf, SLICE_LITERAL("{Default}")), vmta);
    assert_string_equal(vmta->name, "{default}");
    assert_int_equal(vmta->address_count, 1);
    assert_int_equal(vmta->addresses[0].ip.family, IPADDR_V4);
    assert_true(ipaddr_is_never_unicast(&vmta->addresses[0].ip));
    assert_string_equal(vmta->addresses[0].helo, "mail.example.com");
    assert_string_equal(conf_global(conf)->host_name, "mail.example.com");
    assert_true(vmta->max_smtp_out == CONF_UNLIMITED);
    conf_unref(conf);
    /* Without host-name it is whatever the machine is called. */
    conf = load("");
    assert_true(strlen(conf_global(conf)->host_name) > 0);
    conf_unref(conf);
}

static void source_hosts(void **state)
{
    struct conf *conf = load("host-name top.example.com\n"
                             "smtp-source-host 192.0.2.1 one.example.com\n"
                             "smtp-source-host 192.0.2.2\n"
                             "<virtual-mta none>\nhost-name unused.example.com\n</virtual-mta>\n"
                             "<virtual-mta own>\nsmtp-source-host 192.0.2.3 three.example.com\n"
                             "smtp-source-host 2001:db8::4\nhost-name own.example.com\n"
                             "</virtual-mta>\n"
                             "<virtual-mta local>\nsmtp-source-host 127.0.0.0/30 lo.example.com\n"
                             "</virtual-mta>\n");
    const struct conf_vmta *fallback = conf_vmta_at(conf, 0);
    const struct conf_vmta *none = conf_vmta_named(conf, SLICE_LITERAL("none"));
    const struct conf_vmta *own = conf_vmta_named(conf, SLICE_LITERAL("OWN"));
    const struct conf_vmta *local = conf_vmta_named(conf, SLICE_LITERAL("local"));

    assert_int_equal(fallback->address_count, 2);
    assert_string_equal(fallback->addresses[0].helo, "one.example.com");
    assert_string_equal(fallback->addresses[1].helo, "top.example.com");
    assert_int_equal(none->address_count, 2);
    assert_string_equal(none->addresses[0].helo, "one.example.com");
    assert_int_equal(own->address_count, 2);
    assert_string_equal(own->addresses[0].helo, "three.example.com");
    assert_string_equal(own->addresses[1].helo, "own.example.com");
    assert_int_equal(own->addresses[1].ip.family, IPADDR_V6);
    /* A block stands for what the machine has of it. */
    assert_int_equal(local->address_count, 1);
    assert_true(ipaddr_is_loopback(&local->addresses[0].ip));
    assert_int_equal(local->addresses[0].ip.bytes[3], 1);
    conf_unref(conf);
}

/* A block without any address of this machine matters only when the configuration is for it. */
static void blocks_of_elsewhere(void **state)
{
    static const char text[] = "smtp-source-host 198.51.100.0/24 a.example.com\n"
                               "smtp-listener 198.51.100.0/24:25\n";
    static const struct conf_load_options options = {.syntax_only = true};
    struct findings findings = {0};
    struct conf *conf = NULL;

    assert_int_equal(conf_load_text("test", text, &options, collect, &findings, &conf), 0);
    assert_int_equal(findings.errors, 0);
    conf_unref(conf);
    refuse(text, &findings);
    assert_int_equal(findings.errors, 2);
}

static void pools(void **state)
{
    struct conf *conf = load("smtp-source-host 192.0.2.1 a\n"
                             "<virtual-mta-pool p>\nvirtual-mta b\nvirtual-mta A\n"
                             "max-smtp-out 50\n</virtual-mta-pool>\n"
                             "<virtual-mta a>\n</virtual-mta>\n"
                             "<virtual-mta b>\nmax-smtp-out 70\n</virtual-mta>\n"
                             "<virtual-mta c>\nmax-smtp-out unlimited\n</virtual-mta>\n"
                             "<virtual-mta-pool q>\nvirtual-mta a\nvirtual-mta c\n"
                             "virtual-mta {default}\nmax-smtp-out 40\n</virtual-mta-pool>\n");
    const struct conf_pool *p = conf_pool_named(conf, SLICE_LITERAL("P"));
    const struct conf_vmta *a = conf_vmta_named(conf, SLICE_LITERAL("a"));
    const struct conf_vmta *b = conf_vmta_named(conf, SLICE_LITERAL("b"));

    assert_int_equal(conf_pool_count(conf), 2);
    assert_ptr_equal(conf_pool_at(conf, 0), p);
    assert_ptr_equal(conf_pool(conf, p->id), p);
    assert_null(conf_pool(conf, 1000000));
    assert_null(conf_vmta(conf, 1000000));
    assert_null(conf_vmta_named(conf, SLICE_LITERAL("p")));
    assert_null(conf_pool_named(conf, SLICE_LITERAL("a")));
    assert_int_equal(p->vmta_count, 2);
    assert_int_equal(p->vmta_ids[0], b->id);
    assert_int_equal(p->vmta_ids[1], a->id);
    assert_int_equal(a->max_smtp_out, 40);
    assert_int_equal(b->max_smtp_out, 70);
    assert_true(conf_vmta_named(conf, SLICE_LITERAL("c"))->max_smtp_out == CONF_UNLIMITED);
    assert_int_equal(conf_vmta_at(conf, 0)->max_smtp_out, 40);
    conf_unref(conf);
}

/* A VMTA may be in several pools as long as the domain settings have one place to come from. */
static void one_pool_with_domains(void **state)
{
    struct conf *conf = load("smtp-source-host 192.0.2.1 a\n<virtual-mta v>\n</virtual-mta>\n"
                             "<virtual-mta-pool p>\nvirtual-mta v\n</virtual-mta-pool>\n"
                             "<virtual-mta-pool q>\nvirtual-mta v\n<domain *>\nmax-smtp-out 3\n"
                             "</domain>\n</virtual-mta-pool>\n");

    assert_int_equal(queue_of(conf, "example.com", "v").max_smtp_out, 3);
    conf_unref(conf);
}

static const char many[] =
    "smtp-source-host 192.0.2.1 a\n"
    "<virtual-mta id-a>\n</virtual-mta>\n<virtual-mta id-b>\n</virtual-mta>\n"
    "<virtual-mta-pool id-p>\nvirtual-mta id-a\n</virtual-mta-pool>\n";

static void ids_outlive_snapshots(void **state)
{
    struct conf *first = load(many);
    uint32_t a = conf_vmta_named(first, SLICE_LITERAL("id-a"))->id;
    uint32_t b = conf_vmta_named(first, SLICE_LITERAL("id-b"))->id;
    uint32_t p = conf_pool_named(first, SLICE_LITERAL("id-p"))->id;
    struct conf *second = load("smtp-source-host 192.0.2.1 a\n"
                               "<virtual-mta id-c>\n</virtual-mta>\n"
                               "<virtual-mta ID-B>\n</virtual-mta>\n"
                               "<virtual-mta-pool id-q>\nvirtual-mta id-b\n</virtual-mta-pool>\n"
                               "<virtual-mta-pool id-p>\nvirtual-mta id-b\n</virtual-mta-pool>\n");

    conf_unref(first);
    assert_true(a != b);
    assert_null(conf_vmta(second, a));
    assert_string_equal(conf_vmta(second, b)->name, "ID-B");
    assert_true(conf_vmta_named(second, SLICE_LITERAL("id-c"))->id > b);
    assert_int_equal(conf_pool_named(second, SLICE_LITERAL("id-p"))->id, p);
    conf_unref(second);
    first = load(many);
    assert_int_equal(conf_vmta_named(first, SLICE_LITERAL("id-a"))->id, a);
    conf_unref(first);
}

static void *load_often(void *context)
{
    for (int i = 0; i < 50; i++) {
        struct conf *conf = NULL;

        if (conf_load_text("test", many, NULL, NULL, NULL, &conf) != 0)
            return conf;
        conf_unref(conf);
    }
    return context;
}

/* A reload and a command that checks a file may run at the same time. */
static void ids_from_many_threads(void **state)
{
    pthread_t threads[4];
    struct conf *conf = load(many);
    uint32_t before = conf_vmta_named(conf, SLICE_LITERAL("id-b"))->id;
    int mark;

    conf_unref(conf);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, load_often, &mark), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        void *result = NULL;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &mark);
    }
    conf = load(many);
    assert_int_equal(conf_vmta_named(conf, SLICE_LITERAL("id-b"))->id, before);
    conf_unref(conf);
}

static void references(void **state)
{
    struct conf *conf = load(many);

    assert_ptr_equal(conf_ref(conf), conf);
    conf_unref(conf);
    assert_int_equal(conf_vmta_count(conf), 3);
    conf_unref(conf);
    conf_unref(NULL);
}

/* Whose addresses a virtual MTA has: a proxy's clients, in the place of its own or beside them. */
static void proxies(void **state)
{
    static const char section[] =
        "<proxy p>\nserver [2001:db8::9]:5000\nserver 192.0.2.9:5001 192.0.2.8\n"
        "client 198.51.100.1 c1.test\nclient 198.51.100.2\nprotocol-version 2\n</proxy>\n"
        "<proxy q>\nserver 192.0.2.9:5001\nclient 198.51.100.3\n</proxy>\n";
    char text[2048];
    struct findings findings;
    const struct conf_vmta *vmta;
    struct conf *conf;

    snprintf(text, sizeof(text),
             "%s<virtual-mta a>\nsmtp-source-host 127.0.0.1 a.test\n</virtual-mta>\n"
             "<virtual-mta b>\nsmtp-source-host 127.0.0.2 b.test\nsmtp-proxy-source-host 127.0.0.1 "
             "192.0.2.9:5001 198.51.100.4 b4.test\nproxy-protocol 2\n</virtual-mta>\n"
             "<virtual-mta-pool v>\nvirtual-mta a\nuse-proxy p,q\n</virtual-mta-pool>\n",
             section);
    conf = load(text);
    vmta = conf_vmta_named(conf, SLICE_LITERAL("a"));
    assert_int_equal(vmta->address_count, 3);
    assert_int_equal(vmta->rank_count, 2);
    assert_string_equal(vmta->addresses[0].helo, "c1.test");
    assert_int_equal(vmta->addresses[0].proxy->server.ip.family, IPADDR_V6);
    assert_int_equal(vmta->addresses[0].proxy->version, 2);
    assert_int_equal(vmta->addresses[1].proxy->server.port, 5001);
    assert_int_equal(vmta->addresses[1].proxy->local.bytes[3], 8);
    assert_int_equal(vmta->addresses[2].rank, 1);
    assert_int_equal(vmta->addresses[2].proxy->version, 1);
    assert_int_equal(vmta->addresses[2].proxy->local.bytes[0], 127);
    vmta = conf_vmta_named(conf, SLICE_LITERAL("b"));
    assert_int_equal(vmta->address_count, 2);
    assert_null(vmta->addresses[0].proxy);
    assert_int_equal(vmta->addresses[1].ip.bytes[3], 4);
    assert_int_equal(vmta->addresses[1].proxy->version, 2);
    conf_unref(conf);
    refuse("use-proxy none\n", &findings);
    refuse("use-proxy p\n<proxy p>\nserver 192.0.2.9:1\n</proxy>\n", &findings);
    refuse("use-proxy p\n<proxy p>\nserver 192.0.2.9:0\nclient 192.0.2.1\n</proxy>\n", &findings);
    refuse("smtp-proxy-source-host ::1 192.0.2.9:1 192.0.2.1 h.test\n", &findings);
}

/* It has the settings of its section, and takes a share of that one's mail. */
static void cold_ones_of_our_own(void **state)
{
    struct conf *conf =
        load("<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\nmax-smtp-out 7\n"
             "auto-cold-virtual-mta 192.0.2.2 b.test\nauto-cold-virtual-mta 192.0.2.3 c.test\n"
             "<domain *>\nmax-msg-rate 5/h\n</domain>\n</virtual-mta>\n"
             "<virtual-mta w>\nsmtp-source-host 192.0.2.4 d\n</virtual-mta>\n"
             "<virtual-mta-pool p>\nvirtual-mta v\nvirtual-mta w\nmax-smtp-out 3\n"
             "auto-cold-virtual-mta 192.0.2.5 e.test\n</virtual-mta-pool>\n");
    const struct conf_vmta *v = conf_vmta_named(conf, slice_str("v"));
    const struct conf_vmta *w = conf_vmta_named(conf, slice_str("w"));
    const struct conf_vmta *cold = conf_vmta_named(conf, slice_str("v-cold"));
    struct conf_queue queue;

    assert_int_equal(v->cold_count, 1);
    assert_string_equal(v->cold_names[0], "v-cold");
    assert_string_equal(w->cold_names[0], "p-cold");
    assert_int_equal(cold->address_count, 2);
    assert_string_equal(cold->addresses[1].helo, "c.test");
    assert_int_equal(cold->max_smtp_out, 7);
    assert_int_equal(cold->cold_count, 0);
    conf_queue(conf, slice_str("a.test"), cold->id, &queue);
    assert_int_equal(queue.max_msg_rate.count, 5);
    cold = conf_vmta_named(conf, slice_str("p-cold"));
    assert_int_equal(cold->max_smtp_out, 3);
    assert_int_equal(conf_pool_named(conf, slice_str("p"))->vmta_count, 2);
    conf_unref(conf);
}

#define NAME_OF_63 "a23456789b23456789c23456789d23456789e23456789f23456789g23456789"

/* Else no verb could pause it, show it, or override anything of it. */
static void verbs_can_say_every_name(void **state)
{
    static const char *const refused[] = {
        NAME_OF_63 "x", "a*", "*", "a/b", "a b", "a\tb",
    };
    struct findings findings;
    struct conf *conf = load("<virtual-mta " NAME_OF_63 ">\nsmtp-source-host 192.0.2.1 a\n"
                             "</virtual-mta>\n");

    assert_non_null(conf_vmta_named(conf, slice_str(NAME_OF_63)));
    conf_unref(conf);
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        char text[512], wanted[256];

        snprintf(text, sizeof(text),
                 "<virtual-mta v>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
                 "<virtual-mta %s>\nsmtp-source-host 192.0.2.1 a\n</virtual-mta>\n"
                 "<virtual-mta-pool %s>\nvirtual-mta v\n</virtual-mta-pool>\n",
                 refused[i], refused[i]);
        refuse(text, &findings);
        for (int line = 4; line <= 7; line += 3) {
            snprintf(wanted, sizeof(wanted),
                     "error test:%d: <%s %s>: a name has at most 63 octets, and no blanks, slashes "
                     "or asterisks\n",
                     line, line == 4 ? "virtual-mta" : "virtual-mta-pool", refused[i]);
            if (strstr(findings.text, wanted) == NULL)
                fail_msg("%s is not in %s", wanted, findings.text);
        }
    }
    refuse("<virtual-mta " NAME_OF_63 ">\nsmtp-source-host 192.0.2.1 a\n"
           "auto-cold-virtual-mta 192.0.2.2 b.test\n</virtual-mta>\n",
           &findings);
    assert_string_equal(findings.text, "error test:1: auto-cold-virtual-mta: the name " NAME_OF_63
                                       "-cold has more than 63 octets\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_ones_of_our_own),
        cmocka_unit_test(verbs_can_say_every_name),
        cmocka_unit_test(default_vmta),
        cmocka_unit_test(source_hosts),
        cmocka_unit_test(blocks_of_elsewhere),
        cmocka_unit_test(pools),
        cmocka_unit_test(one_pool_with_domains),
        cmocka_unit_test(ids_outlive_snapshots),
        cmocka_unit_test(ids_from_many_threads),
        cmocka_unit_test(references),
        cmocka_unit_test(proxies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
