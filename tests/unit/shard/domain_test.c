/* check domain: what receivers see of our addresses, and what of it is wrong. The key file is a
 * real one; shards and the DNS are the test's. */
#include "shard/control_int.h"
#include "tests/unit/shard/control_fixture.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
/* RFC 8032 7.1, the first one. */
#define SEED      "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="
#define PUBLIC    "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="

static struct fixture f;
static char path[] = "/tmp/ringpost-domain-XXXXXX";
static char key[64];

static const char base[] = "host-name mail.example.com\n"
                           "control-socket /run/control.sock\n"
                           "<spool /spool>\n</spool>\n"
                           "<domain *>\n dkim-sign yes\n</domain>\n"
                           "<virtual-mta good>\n smtp-source-host 127.0.9.1 good.shop.test\n"
                           "</virtual-mta>\n";

#define TXT(host, data)                                                                            \
    {                                                                                              \
        host, DNS_TXT, data, DNS_OK, 0, false                                                      \
    }

static struct fake_record records[] = {
    TXT("shop.test", "v=spf1 ip4:127.0.9.1 ip4:127.0.9.3 -all"),
    TXT("bounce.shop.test", "v=spf1 ip4:127.0.9.1 -all"),
    TXT("else.test", "v=spf1 ip4:127.0.9.1 -all"),
    TXT("_dmarc.shop.test", "v=DMARC1; p=reject; sp=quarantine; rua=mailto:a@shop.test"),
    TXT("_dmarc.strict.test", "v=DMARC1; p=reject; adkim=s; aspf=s"),
    TXT("strict.test", "v=spf1 ip4:127.0.9.1 -all"),
    TXT("b.strict.test", "v=spf1 ip4:127.0.9.1 -all"),
    TXT("s1._domainkey.shop.test", "v=DKIM1; k=ed25519; p=" PUBLIC),
    TXT("s1._domainkey.strict.test", "v=DKIM1; k=ed25519; p=" PUBLIC),
    {"1.9.0.127.in-addr.arpa", DNS_PTR, "good.shop.test", DNS_OK, 0, false},
    {"good.shop.test", DNS_A, "127.0.9.1", DNS_OK, 0, false},
    {"2.9.0.127.in-addr.arpa", DNS_PTR, "good.shop.test", DNS_OK, 0, false},
    {"moved.shop.test", DNS_A, "127.0.9.9", DNS_OK, 0, false},
    {"3.9.0.127.in-addr.arpa", DNS_PTR, NULL, DNS_FAILURE, 0, false},
    {"dark.test", DNS_TXT, NULL, DNS_TIMEOUT, 0, false},
    {"_dmarc.dark.test", DNS_TXT, NULL, DNS_TIMEOUT, 0, false},
    {NULL, DNS_TXT, NULL, DNS_OK, 0, false},
};

static int open_fixture(void **state)
{
    FILE *file;

    snprintf(key, sizeof(key), "/tmp/ringpost-domain-%d", (int)getpid());
    file = fopen(key, "w");
    assert_non_null(file);
    fprintf(file, "%s\n", SEED);
    fclose(file);
    assert_int_equal(chmod(key, 0600), 0);
    fixture_records = records;
    fixture_open_with_file(&f, path, base);
    fixture_keep_history(&f, base);
    return 0;
}

static int close_fixture(void **state)
{
    fixture_close_clean(&f);
    fixture_records = NULL;
    unlink(key);
    return 0;
}

/* The configuration has these lines too, %s for the key's file. */
static void reload_with(const char *format)
{
    char text[4096];

    snprintf(text, sizeof(text), format, key);
    fixture_write_file(base, text);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
}

static void what_is_right_is_right(void **state)
{
    const char *answer;

    reload_with("domain-key s1,shop.test,%s\n");
    answer = ask(&f, "check domain SHOP.test --json");
    assert_memory_equal(answer, "ok\n", 3);
    assert_in(answer, "\"domain\":\"shop.test\",\"sender\":\"shop.test\"");
    assert_in(answer, "\"found\":\"found\",\"domain\":\"shop.test\",\"policy\":\"reject\"");
    assert_in(answer, "\"vmta\":\"good\",\"ip\":\"127.0.9.1\",\"helo\":\"good.shop.test\","
                      "\"heloLeads\":\"here\",\"name\":\"good.shop.test\",\"iprev\":\"pass\","
                      "\"spf\":\"pass\",\"spfBy\":\"ip4:127.0.9.1\",\"spfAligned\":true,"
                      "\"spfIsOfSender\":false,\"dkim\":\"aligned\",\"dmarc\":\"pass\","
                      "\"wrong\":\"\"");
    assert_in(answer, "\"selector\":\"s1\",\"domain\":\"shop.test\"");
    answer = ask(&f, "check domain shop.test");
    assert_in(answer, "From shop.test, sender shop.test\nDMARC: p=reject by the record of "
                      "shop.test; alignment of DKIM relaxed, of SPF relaxed\n");
    /* A domain below has its policy, its key, and is aligned by it. */
    answer = ask(&f, "check domain news.shop.test --sender=bounce.shop.test --json");
    assert_memory_equal(answer, "ok\n", 3);
    assert_in(answer, "\"domain\":\"shop.test\",\"policy\":\"quarantine\"");
    assert_in(answer, "\"spfAligned\":true");
}

static void every_fault_is_named(void **state)
{
    const char *answer;

    reload_with("domain-key s1,shop.test,%s\n"
                "<virtual-mta other>\n smtp-source-host 127.0.9.2 moved.shop.test\n</virtual-mta>\n"
                "<virtual-mta third>\n smtp-source-host 127.0.9.3 lost.shop.test\n</virtual-mta>\n"
                "<virtual-mta any>\n</virtual-mta>\n");
    answer = ask(&f, "check domain shop.test --json");
    assert_memory_equal(answer, "error 2 of 3 source addresses", 29);
    /* Its name in HELO leads to another address, which is not held against it; its own name does
     * not lead back, and SPF lets it not send. DMARC is content with the signature. */
    assert_in(answer,
              "\"ip\":\"127.0.9.2\",\"helo\":\"moved.shop.test\",\"heloLeads\":\"elsewhere\","
              "\"name\":\"\",\"iprev\":\"fail\",\"spf\":\"fail\",\"spfBy\":\"-all\"");
    assert_in(answer, "\"dmarc\":\"pass\",\"wrong\":\"SPF, reverse name\"");
    assert_in(answer, "\"helo\":\"lost.shop.test\",\"heloLeads\":\"nowhere\",\"name\":\"\","
                      "\"iprev\":\"temperror\",\"spf\":\"pass\"");
    assert_in(answer, "\"wrong\":\"reverse name, HELO\"");
    assert_in(answer, "\"unknown\":[\"any\"]");
    answer = ask(&f, "check domain shop.test");
    assert_in(answer, "whose address the system chooses (smtp-source-host): any\n");
    assert_memory_equal(ask(&f, "check domain shop.test/good"), "ok\n", 3);
    assert_memory_equal(ask(&f, "check domain shop.test/third"), "error 1 of 1", 12);
}

static void alignment_counts(void **state)
{
    const char *answer;

    /* The sender's domain is not related; the key is there, and that is enough. */
    reload_with("domain-key s1,shop.test,%s\n");
    answer = ask(&f, "check domain shop.test --sender=else.test --json");
    assert_memory_equal(answer, "ok\n", 3);
    assert_in(answer, "\"spf\":\"pass\",\"spfBy\":\"ip4:127.0.9.1\",\"spfAligned\":false");
    /* Without a key that is too little. */
    reload_with("domain-key s1,none.test,%s\n");
    answer = ask(&f, "check domain shop.test --sender=else.test --json");
    assert_in(answer, "\"dkim\":\"no key\",\"dmarc\":\"fail\",\"wrong\":\"DKIM, DMARC\"");
    /* Strict: a domain below is another one. */
    reload_with("domain-key s1,strict.test,%s\n");
    answer = ask(&f, "check domain strict.test --sender=b.strict.test --json");
    assert_memory_equal(answer, "ok\n", 3);
    assert_in(answer, "\"spfAligned\":false");
    answer = ask(&f, "check domain b.strict.test --sender=strict.test --json");
    assert_in(answer, "\"dkim\":\"not aligned\",\"dmarc\":\"fail\",\"wrong\":\"DMARC\"");
    assert_in(answer, "\"aligned\":false");
    /* There is no record, so receivers ask for no alignment; but they ask for a record. */
    answer = ask(&f, "check domain else.test");
    assert_in(answer, "DMARC: there is no record\n");
    assert_memory_equal(answer, "error 1 of 1", 12);
}

static void questions_that_are_none(void **state)
{
    assert_in(ask(&f, "check domain shop.test/nobody"), "error check domain: there is no such");
    assert_in(ask(&f, "check domain [127.0.0.1]"), "error check domain: that is no domain's name");
    assert_in(ask(&f, "check domain"), "error check domain wants DOMAIN or DOMAIN/VMTA");
    assert_in(ask(&f, "check domain *"), "error check domain wants DOMAIN or DOMAIN/VMTA");
    assert_in(ask(&f, "check domain a.test --sender=a..b"), "error check domain: that is no");
}

/* More addresses than are looked at side by side; who asks leaves; a DNS that says nothing. */
static void it_ends_whatever_the_dns_does(void **state)
{
    static char text[65536];
    struct operator_conn *conn;
    size_t len = 0;

    for (int i = 0; i < 200; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "<virtual-mta v%d>\n smtp-source-host 127.0.8.%d h%d.shop.test\n"
                                "</virtual-mta>\n",
                                i, i + 1, i);
    fixture_write_file(base, text);
    assert_string_equal(ask(&f, "reload"), "ok\nconfiguration reloaded\n");
    f.dns.delay_ns = SECOND_NS / 10;
    conn = operator_open(&f, OPERATOR_UID);
    operator_send(conn, "check domain shop.test\n", 23);
    sim_run_for(f.world, SECOND_NS / 4);
    operator_drop(conn);
    sim_run_for(f.world, 10 * SECOND_NS);
    operator_free(conn);
    assert_memory_equal(ask(&f, "check domain shop.test"), "error 201 of 201", 16);
    assert_in_range(f.dns.held_max, 1, 64);
    f.dns.holds = true;
    assert_in(ask(&f, "check domain dark.test"), "DMARC: the DNS did not answer\n");
    f.dns.holds = false;
    fake_dns_release(&f.dns);
}

#define DOMAIN(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN(what_is_right_is_right),
        DOMAIN(every_fault_is_named),
        DOMAIN(alignment_counts),
        DOMAIN(questions_that_are_none),
        DOMAIN(it_ends_whatever_the_dns_does),
    };

    return fixture_run_with_file(tests, sizeof(tests) / sizeof(tests[0]), path);
}
