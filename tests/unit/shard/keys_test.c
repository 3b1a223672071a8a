/* DKIM keys and their records as control sees them: the verb, and new keys that wait. Key files are
 * real ones; shards and the DNS are the test's. */
#include "core/base/log.h"
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
/* RFC 8032 7.1, the first two: seeds, and what belongs to them. */
#define SEED_A    "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
#define PUBLIC_A  "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define SEED_B    "TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs="
#define PUBLIC_B  "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="

static struct fixture f;
static char path[] = "/tmp/ringpost-keys-XXXXXX";
static char key_a[64], key_b[64], told[65536];

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "<spool /spool>\n</spool>\n"
                           "<domain *>\n dkim-sign yes\n</domain>\n";

/* The place of the new key's record comes first. */
static struct fake_record records[] = {
    {"s2._domainkey.shop.test", DNS_A, "192.0.2.1", DNS_OK, 0, false},
    {"s1._domainkey.shop.test", DNS_TXT, "v=DKIM1; k=ed25519; p=" PUBLIC_A, DNS_OK, 0, false},
    {"gone._domainkey.shop.test", DNS_TXT, "v=DKIM1; k=ed25519; p=", DNS_OK, 0, false},
    {"rsa._domainkey.shop.test", DNS_TXT, "v=DKIM1; p=" PUBLIC_A, DNS_OK, 0, false},
    {"two._domainkey.shop.test", DNS_TXT, "v=DKIM1; k=ed25519; p=" PUBLIC_A, DNS_OK, 0, false},
    {"two._domainkey.shop.test", DNS_TXT, "v=DKIM1; k=ed25519; p=" PUBLIC_B, DNS_OK, 0, false},
    {"lost._domainkey.shop.test", DNS_TXT, NULL, DNS_FAILURE, 0, false},
    {"t._domainkey.shop.test", DNS_TXT, "v=DKIM1; k=ed25519; t=s; p=" PUBLIC_A, DNS_OK, 0, false},
    {NULL, DNS_TXT, NULL, DNS_OK, 0, false},
};

static void publish(const char *record)
{
    records[0] = (struct fake_record){"s2._domainkey.shop.test",
                                      record ? DNS_TXT : DNS_A,
                                      record ? record : "192.0.2.1",
                                      DNS_OK,
                                      1,
                                      false};
}

static void keep_lines(void *context, enum log_level level, const char *line)
{
    size_t len = strlen(told);

    snprintf(told + len, sizeof(told) - len, "%s\n", line);
}

static void write_key(char room[64], const char *name, const char *seed)
{
    FILE *file;

    snprintf(room, 64, "/tmp/ringpost-keys-%d-%s", (int)getpid(), name);
    file = fopen(room, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", seed);
    fclose(file);
    assert_int_equal(chmod(room, 0600), 0);
}

static int open_fixture(void **state)
{
    publish(NULL);
    write_key(key_a, "a", SEED_A);
    write_key(key_b, "b", SEED_B);
    fixture_records = records;
    fixture_open_with_file(&f, path, base);
    fixture_keep_history(&f, base);
    told[0] = '\0';
    log_set_sink(keep_lines, NULL);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    fixture_records = NULL;
    unlink(key_a);
    unlink(key_b);
    return 0;
}

/* The configuration has these keys now: SELECTOR and the file, 'a' or 'b'. */
static void reload_with(const char *more, const char *lines)
{
    char text[4096] = "";
    size_t len = 0;

    len += (size_t)snprintf(text, sizeof(text), "%s", more);
    for (const char *at = lines; *at != '\0';) {
        int used = (int)strcspn(at, " ");

        len += (size_t)snprintf(text + len, sizeof(text) - len, "domain-key %.*s,%s\n", used - 1,
                                at, at[used - 1] == 'a' ? key_a : key_b);
        at += used + (at[used] == ' ');
    }
    fixture_write_file(base, text);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
}

static const char *signer(void)
{
    const struct conf_domain_key *key =
        conf_domain_key(atomic_load(&f.published.conf), CONF_VMTA_DEFAULT,
                        SLICE_LITERAL("shop.test"), CONF_DKIM_ED25519, SLICE_EMPTY);

    return key ? key->selector : "none";
}

static void the_verb_says_what_is_wrong(void **state)
{
    static const char *const wanted[] = {
        "\"record\":\"matches\"", "\"selector\":\"s1\"",      "\"record\":\"revoked\"",
        "\"record\":\"unfit\"",   "\"record\":\"several\"",   "\"record\":\"unknown\"",
        "\"record\":\"missing\"", "\"record\":\"other-key\"", "\"record\":\"any\"",
        "\"strict\":true",
    };
    const char *answer;

    reload_with("", "s1,shop.testa");
    assert_memory_equal(ask(&f, "check dkim"), "ok\n", 3);
    assert_memory_equal(ask(&f, "check dkim s1,SHOP.test"), "ok\n", 3);
    assert_memory_equal(ask(&f, "check dkim s9,shop.test"), "error check dkim: there is no", 29);
    assert_memory_equal(ask(&f, "check dkim s1"), "error check dkim wants", 22);
    reload_with("", "s1,shop.testa gone,shop.testa rsa,shop.testa two,shop.testa "
                    "lost,shop.testa t,shop.testa nowhere,shop.testa s1,shop.testb s1,*a");
    answer = ask(&f, "check dkim all --json");
    assert_memory_equal(answer, "error 6 of 9 records", 20);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        assert_in(answer, wanted[i]);
    assert_memory_equal(ask(&f, "check dkim t,shop.test"), "ok\n", 3);
    assert_memory_equal(ask(&f, "check dkim gone,shop.test"), "error 1 of 1", 12);
    /* The line for any domain, for this one. */
    assert_in(ask(&f, "check dkim s1,else.test --json"), "\"domain\":\"else.test\"");
}

static void a_new_key_waits(void **state)
{
    reload_with("", "s1,shop.testa");
    sim_run_for(f.world, 2 * SECOND_NS);
    assert_string_equal(told[0] ? strstr(told, "WARN") ? told : "" : "", "");
    reload_with("", "s2,shop.testb");
    assert_string_equal(signer(), "s1");
    sim_run_for(f.world, 2 * SECOND_NS);
    assert_in(told, "key s2,shop.test: the record s2._domainkey.shop.test is missing: there is no "
                    "such record; s1 signs until it is there");
    assert_in(ask(&f, "show status --dom"), "signing.keysWaiting=\"1\"");
    assert_in(ask(&f, "check dkim --json"), "\"signs\":\"s1\"");
    /* Somebody else's does not count, and an override changes nothing. */
    publish("v=DKIM1; k=ed25519; p=" PUBLIC_A);
    sim_run_for(f.world, 200 * SECOND_NS);
    assert_string_equal(signer(), "s1");
    assert_in(told, "is other-key");
    assert_in(ask(&f, "override x.test/* max-smtp-out=3 --for=1h --reason=test"), "ok\n");
    assert_string_equal(signer(), "s1");
    publish("v=DKIM1; k=ed25519; p=" PUBLIC_B);
    sim_run_for(f.world, 70 * SECOND_NS);
    assert_string_equal(signer(), "s2");
    assert_in(told, "the record of key s2,shop.test is there, it signs from now on");
    assert_in(ask(&f, "show status --dom"), "signing.keysWaiting=\"0\"");
    /* For good: it does not go back when the record goes. */
    publish(NULL);
    reload_with("", "s2,shop.testb");
    sim_run_for(f.world, 70 * SECOND_NS);
    assert_string_equal(signer(), "s2");
}

static void the_verb_ends_the_wait_too(void **state)
{
    reload_with("", "s1,shop.testa");
    reload_with("", "s2,shop.testb");
    sim_run_for(f.world, 2 * SECOND_NS);
    assert_string_equal(signer(), "s1");
    publish("v=DKIM1; k=ed25519; p=" PUBLIC_B);
    assert_memory_equal(ask(&f, "check dkim s2,shop.test"), "ok\n", 3);
    sim_run_for(f.world, 2 * SECOND_NS);
    assert_string_equal(signer(), "s2");
}

static void one_whose_record_is_there_signs_soon(void **state)
{
    publish("v=DKIM1; k=ed25519; p=" PUBLIC_B);
    reload_with("", "s1,shop.testa");
    reload_with("", "s2,shop.testb");
    sim_run_for(f.world, 3 * SECOND_NS);
    assert_string_equal(signer(), "s2");
    assert_null(strstr(told, "missing"));
}

/* The running texts name a file that cannot be read just when the record has come. */
static void what_cannot_be_applied_is_tried_again(void **state)
{
    reload_with("", "s1,shop.testa");
    reload_with("", "s2,shop.testb");
    sim_run_for(f.world, 2 * SECOND_NS);
    unlink(key_b);
    publish("v=DKIM1; k=ed25519; p=" PUBLIC_B);
    sim_run_for(f.world, 70 * SECOND_NS);
    assert_string_equal(signer(), "s1");
    assert_in(told, "-b: No such file");
    write_key(key_b, "b", SEED_B);
    sim_run_for(f.world, 70 * SECOND_NS);
    assert_string_equal(signer(), "s2");
}

static void who_does_not_want_it_signs_at_once(void **state)
{
    reload_with("", "s1,shop.testa");
    reload_with("dkim-wait-for-record no\n", "s2,shop.testb");
    assert_string_equal(signer(), "s2");
}

/* Names that lead nowhere, more than are looked up at once; and who asks leaves. */
static void many_keys_are_looked_up_a_few_at_a_time(void **state)
{
    static char text[65536];
    struct operator_conn *conn;
    size_t len = 0;

    for (int i = 0; i < 500; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "domain-key k%d,shop%d.test,%s\n",
                                i, i, key_a);
    fixture_write_file(base, text);
    f.dns.delay_ns = SECOND_NS / 10;
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    sim_run_for(f.world, 30 * SECOND_NS);
    assert_in(told, "the same of 480 more keys");
    assert_in_range(f.dns.held_max, 1, 32);
    assert_int_equal(f.dns.asked_count, 500);
    conn = operator_open(&f, OPERATOR_UID);
    operator_send(conn, "check dkim\n", 11);
    sim_run_for(f.world, SECOND_NS / 2);
    operator_drop(conn);
    sim_run_for(f.world, 10 * SECOND_NS);
    operator_free(conn);
    assert_memory_equal(ask(&f, "check dkim"), "error 500 of 500", 16);
    /* One that says nothing: the verb ends all the same. */
    f.dns.holds = true;
    sim_run_for(f.world, 400 * SECOND_NS);
    assert_in(ask(&f, "check dkim k1,shop1.test"), "error 1 of 1");
    f.dns.holds = false;
    fake_dns_release(&f.dns);
}

#define KEYS(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEYS(the_verb_says_what_is_wrong),
        KEYS(a_new_key_waits),
        KEYS(the_verb_ends_the_wait_too),
        KEYS(one_whose_record_is_there_signs_soon),
        KEYS(who_does_not_want_it_signs_at_once),
        KEYS(many_keys_are_looked_up_a_few_at_a_time),
        KEYS(what_cannot_be_applied_is_tried_again),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
