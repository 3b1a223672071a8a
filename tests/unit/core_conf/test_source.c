#include "tests/unit/core_conf/unit.h"

static void without_any_source(void **state)
{
    struct conf *conf = load("");
    const struct conf_source *local = source_of(conf, "127.0.0.1", NULL);
    const struct conf_source *other = source_of(conf, "192.0.2.1", NULL);

    assert_true(local->always_allow_relaying);
    assert_true(source_of(conf, "127.8.9.1", NULL)->always_allow_relaying);
    assert_true(source_of(conf, "::1", NULL)->always_allow_relaying);
    assert_true(source_of(conf, "::ffff:127.0.0.1", NULL)->always_allow_relaying);
    assert_false(other->always_allow_relaying);
    assert_false(source_of(conf, "2001:db8::1", NULL)->always_allow_relaying);
    assert_false(source_of(conf, "10.0.0.1", NULL)->always_allow_relaying);
    assert_true(other->smtp_service);
    assert_false(other->process_x_virtual_mta);
    assert_false(other->process_x_job);
    assert_true(other->add_received_header);
    assert_false(other->hide_message_source);
    assert_true(other->allow_chunking);
    assert_true(other->allow_smtputf8);
    assert_int_equal(other->default_virtual_mta, CONF_NONE);
    assert_int_equal(other->default_pool, CONF_NONE);
    assert_true(other->max_message_bytes == CONF_UNLIMITED);
    assert_true(other->max_rcpt_per_message == CONF_UNLIMITED);
    assert_int_equal(other->max_message_hops, 100);
    assert_int_equal(other->command_timeout_ms, 600000);
    assert_int_equal(other->data_timeout_ms, 600000);
    assert_int_equal(other->bad_line_ends, CONF_LINE_ENDS_REJECT);
    /* An unknown family of address gets no more than a stranger. */
    assert_false(conf_source(conf, &(struct ipaddr){0}, NULL)->always_allow_relaying);
    conf_unref(conf);
}

/* Old files have netmasks; one that is no prefix is told as what it is. */
static void netmasks(void **state)
{
    struct findings findings;
    struct conf *conf = load("<source 192.0.2.0/255.255.255.240>\nlog-commands yes\n</source>\n"
                             "<source 192.0.2.0/28>\nlog-data yes\n</source>\n");

    assert_true(source_of(conf, "192.0.2.15", NULL)->log_commands);
    assert_true(source_of(conf, "192.0.2.15", NULL)->log_data);
    assert_false(source_of(conf, "192.0.2.16", NULL)->log_commands);
    conf_unref(conf);
    conf = load("smtp-listener 127.0.0.0/255.0.0.0:2525\n"
                "<domain *>\nsource-ip-max-smtp-out 10.0.0.0/255.0.0.0 3\n</domain>\n");
    conf_unref(conf);
    refuse("<source 192.0.2.0/255.0.255.0>\n</source>\n", &findings);
    assert_non_null(strstr(findings.text, "error test:1: <source>: \"192.0.2.0/255.0.255.0\" has a "
                                          "netmask with holes"));
    refuse("<domain *>\nsource-ip-max-smtp-out 10.0.0.0/255.0.0.1 3\n</domain>\n", &findings);
    assert_non_null(strstr(findings.text, "error test:2: source-ip-max-smtp-out: "
                                          "\"10.0.0.0/255.0.0.1\" has a netmask with holes"));
}

/* Loopback keeps its right until a source that matches it says no, however wide that one is. */
static void loopback(void **state)
{
    struct conf *conf = load("<source 0/0>\nlog-commands yes\n</source>\n");

    assert_true(source_of(conf, "127.0.0.1", NULL)->always_allow_relaying);
    assert_true(source_of(conf, "127.0.0.1", NULL)->log_commands);
    assert_false(source_of(conf, "192.0.2.1", NULL)->always_allow_relaying);
    conf_unref(conf);
    conf = load("<source 0/0>\nalways-allow-relaying no\n</source>\n");
    assert_false(source_of(conf, "127.0.0.1", NULL)->always_allow_relaying);
    assert_false(source_of(conf, "::1", NULL)->always_allow_relaying);
    conf_unref(conf);
    conf = load("<source 127.0.0.1>\nalways-allow-relaying no\n</source>\n");
    assert_false(source_of(conf, "127.0.0.1", NULL)->always_allow_relaying);
    assert_true(source_of(conf, "127.0.0.2", NULL)->always_allow_relaying);
    assert_true(source_of(conf, "::1", NULL)->always_allow_relaying);
    conf_unref(conf);
    conf = load("<source strict>\nalways-allow-relaying no\n</source>\n");
    assert_true(source_of(conf, "127.0.0.1", NULL)->always_allow_relaying);
    assert_false(source_of(conf, "127.0.0.1", "strict")->always_allow_relaying);
    conf_unref(conf);
}

#define USER(more) "<smtp-user u>\n" more "</smtp-user>\n"
#define SALTED     "{pbkdf2-sha256}1000$c2FsdHNhbHQ=$"
#define KEY        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

static void users(void **state)
{
    static const char *const wrong[] = {
        USER(""),
        USER("password \"\"\n"),
        USER("password x\nauthentication-method system\n"),
        USER("authentication-method certificate\n"),
        USER("password x\nsource none\n"),
        USER("password x\n") USER("password y\n"),
        USER("password \"" SALTED "\"\n"),
        USER("password \"{pbkdf2-sha256}0$c2FsdHNhbHQ=$" KEY "\"\n"),
        USER("password \"{pbkdf2-sha256}1000001$c2FsdHNhbHQ=$" KEY "\"\n"),
        USER("password \"{pbkdf2-sha256}1000$c2FsdA==$" KEY "\"\n"),
        USER("password \"" SALTED KEY "AAAA\"\n"),
        USER("password x\nallow-virtual-mta w\n"),
    };
    struct findings findings;
    struct conf *conf = load("<source in>\nrequire-auth yes\n</source>\n"
                             "<source 10.0.0.0/8>\nallow-auth no\n</source>\n"
                             "<smtp-user Anna>\npassword x\nsource in\n</smtp-user>\n" USER(
                                 "password \"" SALTED KEY "\"\n"));
    const struct conf_smtp_user *user = conf_smtp_user(conf, SLICE_LITERAL("anna"));

    assert_non_null(user);
    assert_string_equal(user->name, "Anna");
    assert_string_equal(user->source, "in");
    assert_string_equal(user->password, "x");
    user = conf_smtp_user(conf, SLICE_LITERAL("u"));
    assert_null(user->password);
    assert_null(user->source);
    assert_int_equal(user->hash.iterations, 1000);
    assert_int_equal(user->hash.salt_bytes, 8);
    assert_int_equal(conf_login_iterations(conf), 1000);
    assert_null(conf_smtp_user(conf, SLICE_LITERAL("x")));
    assert_true(source_of(conf, "192.0.2.1", NULL)->offers_auth);
    assert_false(source_of(conf, "10.0.0.1", NULL)->offers_auth);
    conf_unref(conf);
    conf = load("");
    assert_false(source_of(conf, "192.0.2.1", NULL)->offers_auth);
    conf_unref(conf);
    conf = load("<source {auth}>\n</source>\n" USER("password x\n"));
    assert_string_equal(conf_smtp_user(conf, SLICE_LITERAL("u"))->source, "{auth}");
    conf_unref(conf);
    conf = load("smtp-source-host 192.0.2.1 a\n<virtual-mta v>\n</virtual-mta>\n" USER(
        "password x\nallow-virtual-mta v\n"));
    assert_string_equal(conf_smtp_user(conf, SLICE_LITERAL("u"))->allow_virtual_mta, "v");
    conf_unref(conf);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refuse(wrong[i], &findings);
    /* What is built in counts without a section; a name that nothing has is told at its line. */
    conf = load(USER("password x\nsource {auth}\n"));
    assert_string_equal(conf_smtp_user(conf, SLICE_LITERAL("u"))->source, "{auth}");
    conf_unref(conf);
    refuse(USER("password x\nsource none\n"), &findings);
    assert_non_null(strstr(findings.text, "test:3: there is no <source none>"));
}

static void groups(void **state)
{
    struct conf *conf =
        load("total-max-smtp-in 5\nsmtp-await-slot no\n"
             "<source-group g>\nmax-smtp-in 3\nreserved-smtp-in 2\n</source-group>\n"
             "<smtp-listener 127.0.0.1:2525>\nawait-slot yes\n</smtp-listener>\n"
             "smtp-listener 127.0.0.2:2525\n"
             "<source 10.0.0.0/8>\nsource-group G\n</source>\n");
    struct ipaddr_port at = {.port = 2525};
    const struct conf_source_group *group;
    struct findings findings;

    assert_int_equal(source_of(conf, "192.0.2.1", NULL)->group_id, CONF_NONE);
    group = conf_source_group(conf, source_of(conf, "10.0.0.1", NULL)->group_id);
    assert_non_null(group);
    assert_int_equal(group->max_smtp_in, 3);
    assert_int_equal(group->reserved_smtp_in, 2);
    assert_int_equal(conf_global(conf)->reserved_smtp_in, 2);
    assert_int_equal(ipaddr_parse(slice_str("127.0.0.1"), &at.ip), 0);
    assert_true(conf_awaits_slot(conf, &at));
    assert_int_equal(ipaddr_parse(slice_str("127.0.0.2"), &at.ip), 0);
    assert_false(conf_awaits_slot(conf, &at));
    conf_unref(conf);
    refuse("<source 10.0.0.0/8>\nsource-group none\n</source>\n", &findings);
    assert_int_equal(findings.errors, 1);
    refuse("total-max-smtp-in 5\n<source-group g>\nreserved-smtp-in 6\n</source-group>\n",
           &findings);
    assert_int_equal(findings.errors, 1);
}

/* The order in the file is the wrong one on purpose. */
static void blocks_merge(void **state)
{
    struct conf *conf = load("<source 10.1.2.3>\nmax-message-size 3m\n</source>\n"
                             "<source 10.1/16>\nmax-message-size 2m\nmax-message-hops 20\n"
                             "</source>\n"
                             "<source 10/8>\nmax-message-size 1m\nmax-message-hops 10\n"
                             "always-allow-relaying yes\n</source>\n"
                             "<source 0/0>\nhide-message-source yes\n</source>\n"
                             "<source 2001:db8::/32>\nmax-message-hops 30\n</source>\n"
                             "<source 10.1.0.0/16>\nlog-connections yes\n</source>\n");
    const struct conf_source *source = source_of(conf, "10.1.2.3", NULL);

    assert_int_equal(source->max_message_bytes, 3 << 20);
    assert_int_equal(source->max_message_hops, 20);
    assert_true(source->always_allow_relaying);
    assert_true(source->hide_message_source);
    assert_true(source->log_connections);
    source = source_of(conf, "10.1.2.4", NULL);
    assert_int_equal(source->max_message_bytes, 2 << 20);
    source = source_of(conf, "10.2.2.4", NULL);
    assert_int_equal(source->max_message_bytes, 1 << 20);
    assert_int_equal(source->max_message_hops, 10);
    source = source_of(conf, "192.0.2.1", NULL);
    assert_true(source->max_message_bytes == CONF_UNLIMITED);
    assert_true(source->hide_message_source);
    assert_false(source->always_allow_relaying);
    /* 0/0 is everybody, not only IPv4. */
    source = source_of(conf, "2001:db8::1", NULL);
    assert_true(source->hide_message_source);
    assert_int_equal(source->max_message_hops, 30);
    assert_true(source_of(conf, "2001:db9::1", NULL)->hide_message_source);
    conf_unref(conf);
}

static void names_override(void **state)
{
    struct conf *conf = load("smtp-listener 127.0.0.1:2525 source=bulk\n"
                             "<smtp-listener 127.0.0.1:2526>\nsource {auth}\n</smtp-listener>\n"
                             "<source bulk>\nmax-message-hops 5\nbad-line-ends fix\n</source>\n"
                             "<source 10/8>\nmax-message-hops 10\nprocess-x-job yes\n</source>\n");
    const struct conf_global *global = conf_global(conf);
    const struct conf_source *source = source_of(conf, "10.0.0.1", "BULK");

    assert_int_equal(global->listener_count, 2);
    assert_string_equal(global->listeners[0].source_name, "bulk");
    assert_string_equal(global->listeners[1].source_name, "{auth}");
    assert_int_equal(source->max_message_hops, 5);
    assert_int_equal(source->bad_line_ends, CONF_LINE_ENDS_FIX);
    assert_true(source->process_x_job);
    assert_int_equal(source_of(conf, "10.0.0.1", NULL)->max_message_hops, 10);
    assert_int_equal(source_of(conf, "10.0.0.1", "unknown")->max_message_hops, 10);
    assert_int_equal(source_of(conf, "192.0.2.1", "bulk")->max_message_hops, 5);
    assert_false(source_of(conf, "192.0.2.1", "bulk")->process_x_job);
    conf_unref(conf);
}

static void default_virtual_mta(void **state)
{
    struct conf *conf = load("smtp-source-host 192.0.2.1 a\n"
                             "<source 10/8>\ndefault-virtual-mta V\n</source>\n"
                             "<source 10.1/16>\ndefault-virtual-mta p\n</source>\n"
                             "<source 10.1.1/24>\ndefault-virtual-mta \"\"\n</source>\n"
                             "<source 10.2/16>\ndefault-virtual-mta by-smtp-source-ip\n</source>\n"
                             "<virtual-mta v>\n</virtual-mta>\n"
                             "<virtual-mta-pool p>\nvirtual-mta v\n</virtual-mta-pool>\n");
    const struct conf_vmta *vmta = conf_vmta_named(conf, SLICE_LITERAL("v"));
    const struct conf_pool *pool = conf_pool_named(conf, SLICE_LITERAL("P"));

    assert_int_equal(source_of(conf, "10.0.0.1", NULL)->default_virtual_mta, vmta->id);
    assert_int_equal(source_of(conf, "10.0.0.1", NULL)->default_pool, CONF_NONE);
    assert_int_equal(source_of(conf, "10.1.0.1", NULL)->default_virtual_mta, CONF_NONE);
    assert_int_equal(source_of(conf, "10.1.0.1", NULL)->default_pool, pool->id);
    assert_int_equal(source_of(conf, "10.1.1.1", NULL)->default_virtual_mta, CONF_NONE);
    assert_int_equal(source_of(conf, "10.1.1.1", NULL)->default_pool, CONF_NONE);
    assert_int_equal(source_of(conf, "10.2.0.1", NULL)->default_virtual_mta, CONF_NONE);
    assert_true(source_of(conf, "10.2.0.1", NULL)->default_by_local_ip);
    assert_false(source_of(conf, "10.1.0.1", NULL)->default_by_local_ip);
    conf_unref(conf);
}

/* Each of these alone makes the header worth looking at, and nothing else does. */
static void settings_that_need_the_header(void **state)
{
    static const struct {
        const char *line;
        bool needs;
    } rows[] = {
        {"process-x-virtual-mta yes", true},  {"process-x-job yes", true},
        {"process-x-envid yes", true},        {"remove-received-headers yes", true},
        {"remove-header A,B", true},          {"add-message-id-header yes", true},
        {"add-date-header yes", true},        {"add-date-header override", true},
        {"add-date-header no", false},        {"add-x-virtual-mta-header yes", false},
        {"retain-x-job yes", false},          {"hide-message-source yes", false},
        {"jobid-header X-Other", false},      {"remove-header \"\"", false},
        {"check-spf-inbound yes", true},      {"check-iprev-inbound yes", true},
        {"check-mfrom-inbound yes", true},    {"trace-spf-check yes", false},
        {"reject-spf-check-fail yes", false},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char text[128];
        struct conf *conf;

        snprintf(text, sizeof(text), "<source 10/8>\n%s\n</source>\n", rows[i].line);
        conf = load(text);
        if (source_of(conf, "10.0.0.1", NULL)->needs_header != rows[i].needs)
            print_error("%s\n", rows[i].line);
        assert_int_equal(source_of(conf, "10.0.0.1", NULL)->needs_header, rows[i].needs);
        assert_false(source_of(conf, "192.0.2.1", NULL)->needs_header);
        conf_unref(conf);
    }
}

static void a_check_for_all_sources_but_those_that_say_otherwise(void **state)
{
    struct conf *conf = load("check-mfrom-inbound yes\n"
                             "<source 10/8>\ncheck-mfrom-inbound no\n</source>\n");

    assert_true(source_of(conf, "192.0.2.1", NULL)->check_mfrom);
    assert_true(source_of(conf, "192.0.2.1", NULL)->needs_header);
    assert_true(source_of(conf, "127.0.0.1", NULL)->check_mfrom);
    assert_false(source_of(conf, "10.0.0.1", NULL)->check_mfrom);
    assert_false(source_of(conf, "10.0.0.1", NULL)->needs_header);
    conf_unref(conf);
}

static void names_of_ways_must_exist(void **state)
{
    static const char *const lines[] = {
        "invalid-virtual-mta-fallback w",
        "allow-virtual-mta v,w",
        "default-virtual-mta w",
    };
    char many[256] = "<source 10/8>\nremove-header a";
    struct findings findings;

    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        char text[256];

        snprintf(text, sizeof(text),
                 "smtp-source-host 192.0.2.1 a\n<virtual-mta v>\n</virtual-mta>\n"
                 "<source 10/8>\n%s\n</source>\n",
                 lines[i]);
        refuse(text, &findings);
        assert_non_null(strstr(findings.text, "test:5: "));
        assert_non_null(strstr(findings.text, "there is no virtual MTA or pool \"w\""));
    }
    for (unsigned i = 0; i < CONF_REMOVE_HEADERS_MAX; i++)
        strcat(many, ",a");
    strcat(many, "\n</source>\n");
    refuse(many, &findings);
    assert_non_null(strstr(findings.text, "remove-header: at most 24 names, not 25"));
}

/* A place of the template that stands for nothing is told, and written as it is. */
static void templates(void **state)
{
    static const struct {
        const char *line;
        const char *told; /* NULL = nothing is */
    } rows[] = {
        {"feedback-id {job}:{VMTA}:{pool}:x", NULL},
        {"feedback-id x", NULL},
        {"feedback-id \"\"", NULL},
        {"feedback-id {job}:{user}:{vmta}", "warning test:2: feedback-id: only {job}, {vmta} and"},
        {"feedback-id {vmta}{", "\"{\" is written as it is"},
        {"jobid-prefix {user}", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static struct findings findings;
        struct conf *conf = NULL;
        char text[128];

        findings = (struct findings){0};
        snprintf(text, sizeof(text), "<source 10/8>\n%s\n</source>\n", rows[i].line);
        assert_int_equal(conf_load_text("test", text, NULL, collect, &findings, &conf), 0);
        if (rows[i].told == NULL)
            assert_string_equal(findings.text, "");
        else
            assert_non_null(strstr(findings.text, rows[i].told));
        conf_unref(conf);
    }
}

/* A virtual MTA's own address says more than that of the top level. */
static void virtual_mta_of_an_address(void **state)
{
    struct conf *conf = load("smtp-source-host 192.0.2.1 a\nsmtp-source-host 192.0.2.2 b\n"
                             "<virtual-mta shared>\n</virtual-mta>\n"
                             "<virtual-mta v>\nsmtp-source-host 192.0.2.2 v\n</virtual-mta>\n"
                             "<virtual-mta w>\nsmtp-source-host 192.0.2.2 w\n</virtual-mta>\n");
    static const struct {
        const char *address;
        const char *vmta;
    } rows[] = {{"192.0.2.1", "{default}"}, {"192.0.2.2", "v"}, {"192.0.2.3", NULL}};

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        const struct conf_vmta *vmta;
        struct ipaddr ip;

        assert_int_equal(ipaddr_parse(slice_str(rows[i].address), &ip), 0);
        vmta = conf_vmta_of_address(conf, &ip);
        if (rows[i].vmta == NULL)
            assert_null(vmta);
        else
            assert_string_equal(vmta->name, rows[i].vmta);
    }
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_any_source),
        cmocka_unit_test(netmasks),
        cmocka_unit_test(loopback),
        cmocka_unit_test(blocks_merge),
        cmocka_unit_test(names_override),
        cmocka_unit_test(default_virtual_mta),
        cmocka_unit_test(settings_that_need_the_header),
        cmocka_unit_test(a_check_for_all_sources_but_those_that_say_otherwise),
        cmocka_unit_test(names_of_ways_must_exist),
        cmocka_unit_test(templates),
        cmocka_unit_test(virtual_mta_of_an_address),
        cmocka_unit_test(users),
        cmocka_unit_test(groups),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
