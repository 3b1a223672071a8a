/*
 * SPF: records and what they say of an address. The zone of RFC 7208 appendix A with its cases, the
 * macros of section 7.4, the limits of 4.6.4, and records of people who mean harm. Played in the
 * simulator against a scripted resolver; besides, terms of records by themselves.
 */
#include "net/spf.h"
#include "tests/unit/net/fake_dns.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

#define TXT(host, data)                                                                            \
    {                                                                                              \
        host, DNS_TXT, data, 0, 0                                                                  \
    }
#define MX(host, data)                                                                             \
    {                                                                                              \
        host, DNS_MX, data, 0, 0                                                                   \
    }
#define A(host, data)                                                                              \
    {                                                                                              \
        host, DNS_A, data, 0, 0                                                                    \
    }
#define AAAA(host, data)                                                                           \
    {                                                                                              \
        host, DNS_AAAA, data, 0, 0                                                                 \
    }
#define PTR(host, data)                                                                            \
    {                                                                                              \
        host, DNS_PTR, data, 0, 0                                                                  \
    }
#define DEAD(host, kind)                                                                           \
    {                                                                                              \
        host, kind, NULL, DNS_TIMEOUT, 0                                                           \
    }

/* What stands beside the record under test, which is at d.example.com. */
static const struct fake_record zone[] = {
    /* Appendix A.1. */
    MX("example.com", "10 mail-a.example.com"),
    MX("example.com", "20 mail-b.example.com"),
    A("example.com", "192.0.2.10"),
    A("example.com", "192.0.2.11"),
    A("amy.example.com", "192.0.2.65"),
    A("bob.example.com", "192.0.2.66"),
    A("mail-a.example.com", "192.0.2.129"),
    A("mail-b.example.com", "192.0.2.130"),
    MX("example.org", "10 mail-c.example.org"),
    A("mail-c.example.org", "192.0.2.140"),
    PTR("10.2.0.192.in-addr.arpa", "example.com"),
    PTR("11.2.0.192.in-addr.arpa", "example.com"),
    PTR("65.2.0.192.in-addr.arpa", "amy.example.com"),
    PTR("66.2.0.192.in-addr.arpa", "bob.example.com"),
    PTR("129.2.0.192.in-addr.arpa", "mail-a.example.com"),
    PTR("130.2.0.192.in-addr.arpa", "mail-b.example.com"),
    PTR("140.2.0.192.in-addr.arpa", "mail-c.example.org"),
    /* It says it is amy, and amy says no. */
    PTR("4.0.0.10.in-addr.arpa", "bob.example.com"),
    A("mary.mobile-users._spf.example.com", "127.0.0.2"),
    A("192.0.2.65._spf.example.com", "127.0.0.2"),
    A("5.2.0.192.in-addr._spf.example.com", "127.0.0.2"),
    A("strong-bad._spf.example.com", "127.0.0.2"),
    A("amy.example.com.p.example.com", "127.0.0.2"),
    A("unknown.p.example.com", "127.0.0.2"),
    AAAA("six.example.com", "2001:db8::1:0:0:1"),
    A("1.0.b.d.n.example.com", "127.0.0.2"),
    /* What others say. */
    TXT("pass.example.com", "v=spf1 +all"),
    TXT("fail.example.com", "v=spf1 -all"),
    TXT("soft.example.com", "v=spf1 ~all"),
    TXT("nothing.example.com", "v=spf1"),
    TXT("broken.example.com", "v=spf1 ip4:1.2.3"),
    TXT("amy-only.example.com", "v=spf1 a:amy.example.com -all"),
    TXT("loop.example.com", "v=spf1 include:loop.example.com -all"),
    TXT("circle.example.com", "v=spf1 redirect=circle.example.com"),
    TXT("two.example.com", "v=spf1 -all"),
    TXT("two.example.com", "v=spf1 +all"),
    TXT("other.example.com", "v=spf10 +all"),
    DEAD("dead.example.com", DNS_TXT),
    DEAD("dead.example.com", DNS_A),
    TXT("includes-dead.example.com", "v=spf1 include:dead.example.com +all"),
    A("many-mx.example.com", "192.0.2.1"),
    MX("many-mx.example.com", "1 m1.example.com"),
    MX("many-mx.example.com", "1 m2.example.com"),
    MX("many-mx.example.com", "1 m3.example.com"),
    MX("many-mx.example.com", "1 m4.example.com"),
    MX("many-mx.example.com", "1 m5.example.com"),
    MX("many-mx.example.com", "1 m6.example.com"),
    MX("many-mx.example.com", "1 m7.example.com"),
    MX("many-mx.example.com", "1 m8.example.com"),
    MX("many-mx.example.com", "1 m9.example.com"),
    MX("many-mx.example.com", "1 m10.example.com"),
    MX("many-mx.example.com", "1 m11.example.com"),
    MX("null-mx.example.com", "0 ."),
};

struct row {
    const char *record; /* NULL = there is none */
    const char *ip;     /* NULL = 192.0.2.65 */
    enum spf_result result;
    const char *mechanism; /* NULL = any */
};

#define AMY   "192.0.2.65"
#define MAILA "192.0.2.129"
#define SIX   "2001:db8::1:0:0:1"
#define TEN                                                                                        \
    "a:example.com a:example.com a:example.com a:example.com a:example.com "                       \
    "a:example.com a:example.com a:example.com a:example.com a:example.com "

static const struct row rows[] = {
    {NULL, NULL, SPF_NONE, NULL},
    {"something else", NULL, SPF_NONE, NULL},
    {"v=spf1", NULL, SPF_NEUTRAL, "default"},
    {"V=SPF1 +ALL", NULL, SPF_PASS, "+ALL"},
    {"v=spf1 -all", NULL, SPF_FAIL, "-all"},
    {"v=spf1 ~all", NULL, SPF_SOFTFAIL, "~all"},
    {"v=spf1 ?all", NULL, SPF_NEUTRAL, "?all"},
    {"v=spf1  all  ", NULL, SPF_PASS, "all"},
    /* A.1: who may send by a, mx, ptr, ip4. */
    {"v=spf1 a:example.com -all", "192.0.2.10", SPF_PASS, "a:example.com"},
    {"v=spf1 a:example.com -all", AMY, SPF_FAIL, "-all"},
    {"v=spf1 a:example.org -all", AMY, SPF_FAIL, "-all"},
    {"v=spf1 mx:example.com -all", MAILA, SPF_PASS, "mx:example.com"},
    {"v=spf1 mx:example.com -all", AMY, SPF_FAIL, NULL},
    {"v=spf1 mx:example.org -all", "192.0.2.140", SPF_PASS, NULL},
    {"v=spf1 mx:example.com mx:example.org -all", "192.0.2.140", SPF_PASS, "mx:example.org"},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.131", SPF_PASS,
     "mx:example.com/30"},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.143", SPF_PASS, NULL},
    {"v=spf1 mx:example.com/30 mx:example.org/30 -all", "192.0.2.132", SPF_FAIL, NULL},
    {"v=spf1 ptr:example.com -all", AMY, SPF_PASS, "ptr:example.com"},
    {"v=spf1 ptr:example.com -all", "192.0.2.140", SPF_FAIL, NULL},
    {"v=spf1 ptr:example.com -all", "10.0.0.4", SPF_FAIL, NULL},
    {"v=spf1 ip4:192.0.2.128/28 -all", AMY, SPF_FAIL, NULL},
    {"v=spf1 ip4:192.0.2.128/28 -all", MAILA, SPF_PASS, "ip4:192.0.2.128/28"},
    {"v=spf1 ip4:192.0.2.65 -all", AMY, SPF_PASS, NULL},
    {"v=spf1 ip4:0.0.0.0/0 -all", AMY, SPF_PASS, NULL},
    {"v=spf1 ip4:0.0.0.0/0 ip6:2001:db8::/32 -all", SIX, SPF_PASS, "ip6:2001:db8::/32"},
    {"v=spf1 ip6:::/0 -all", AMY, SPF_FAIL, NULL},
    {"v=spf1 ip6:::ffff:192.0.2.65 -all", AMY, SPF_FAIL, NULL},
    {"v=spf1 a:six.example.com//80 -all", "2001:db8::1:1:0:1", SPF_PASS, NULL},
    {"v=spf1 a:six.example.com/24//128 -all", "2001:db8::1:1:0:1", SPF_FAIL, NULL},
    {"v=spf1 a:amy.example.com/24//64 -all", "192.0.2.200", SPF_PASS, NULL},
    /* Others' records. */
    {"v=spf1 include:pass.example.com -all", NULL, SPF_PASS, "include:pass.example.com"},
    {"v=spf1 ~include:pass.example.com -all", NULL, SPF_SOFTFAIL, NULL},
    {"v=spf1 include:fail.example.com ?all", NULL, SPF_NEUTRAL, "?all"},
    {"v=spf1 include:soft.example.com -all", NULL, SPF_FAIL, NULL},
    {"v=spf1 include:nothing.example.com -all", NULL, SPF_FAIL, NULL},
    {"v=spf1 include:nowhere.example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 include:broken.example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 include:dead.example.com -all", NULL, SPF_TEMPERROR, NULL},
    {"v=spf1 include:includes-dead.example.com -all", NULL, SPF_TEMPERROR, NULL},
    {"v=spf1 include:two.example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 include:other.example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 include:amy-only.example.com ~all", NULL, SPF_PASS, "include:amy-only.example.com"},
    {"v=spf1 include:amy-only.example.com ~all", MAILA, SPF_SOFTFAIL, "~all"},
    {"v=spf1 a:dead.example.com -all", NULL, SPF_TEMPERROR, NULL},
    {"v=spf1 redirect=amy-only.example.com", NULL, SPF_PASS, "a:amy.example.com"},
    {"v=spf1 redirect=amy-only.example.com", MAILA, SPF_FAIL, NULL},
    {"v=spf1 redirect=amy-only.example.com ip4:192.0.2.129", MAILA, SPF_PASS, NULL},
    {"v=spf1 redirect=pass.example.com ?all", NULL, SPF_NEUTRAL, NULL},
    {"v=spf1 redirect=nowhere.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 redirect=dead.example.com", NULL, SPF_TEMPERROR, NULL},
    {"v=spf1 redirect=pass.example.com redirect=pass.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 exp=a.example.com exp=a.example.com +all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 exp=explain.example.com -all", NULL, SPF_FAIL, "-all"},
    {"v=spf1 moo=whatever.%{c}/%%%_ all", NULL, SPF_PASS, NULL},
    {"v=spf1 moo=%{x} all", NULL, SPF_PERMERROR, NULL},
    /* Macros. The sender is strong-bad@d.example.com. */
    {"v=spf1 exists:%{ir}.%{v}._spf.example.com -all", "192.0.2.5", SPF_PASS, NULL},
    {"v=spf1 exists:%{ir}.%{v}._spf.example.com -all", "192.0.2.6", SPF_FAIL, NULL},
    {"v=spf1 exists:%{i}._spf.example.com -all", AMY, SPF_PASS, NULL},
    {"v=spf1 exists:%{l}._spf.%{d2} -all", AMY, SPF_PASS, NULL},
    {"v=spf1 exists:%{L}._spf.%{D2} -all", AMY, SPF_PASS, NULL},
    {"v=spf1 exists:%{lr-}._spf.%{d2} -all", AMY, SPF_FAIL, NULL},
    {"v=spf1 a:%{h} -all", "192.0.2.66", SPF_PASS, NULL},
    {"v=spf1 exists:%{p}.p.example.com -all", AMY, SPF_PASS, NULL},
    {"v=spf1 exists:%{p}.p.example.com -all", "192.0.2.99", SPF_PASS, NULL},
    {"v=spf1 exists:%{p}.p.example.com -all", MAILA, SPF_FAIL, NULL},
    {"v=spf1 redirect=%{l1r-}.%{d2}", AMY, SPF_PERMERROR, NULL},
    {"v=spf1 include:%{d3r}", AMY, SPF_PERMERROR, NULL},
    /* What is not well-formed, wherever it stands. */
    {"v=spf1 +all moo", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 -all:foo.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 all/8", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all include", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all include:", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a:", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a/33", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a/", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a//129", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a/08", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a:localhost", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a:foo.123", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a:foo.-bar", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ip4:192.0.2.65/", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ip4:192.0.2.65/33", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ip4:2001:db8::1", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ip6:192.0.2.65", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ptr/24", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists:%{d", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists:%{d0}", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists:%d.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists:%", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all exists:%{c}.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all -redirect=pass.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all =foo", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all ++all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all +", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all\tall", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 +all a:\x80.example.com", NULL, SPF_PERMERROR, NULL},
    /* Limits. */
    {"v=spf1 " TEN "-all", NULL, SPF_FAIL, NULL},
    {"v=spf1 " TEN "a:example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 " TEN "redirect=pass.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 ip4:192.0.2.65 " TEN TEN "-all", NULL, SPF_PASS, NULL},
    {"v=spf1 include:loop.example.com -all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 redirect=circle.example.com", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 a:n1.example.com a:n2.example.com -all", NULL, SPF_FAIL, NULL},
    {"v=spf1 a:n1.example.com mx:n2.example.com exists:n3.example.com +all", NULL, SPF_PERMERROR,
     NULL},
    {"v=spf1 mx:many-mx.example.com +all", NULL, SPF_PERMERROR, NULL},
    {"v=spf1 mx:null-mx.example.com -all", NULL, SPF_FAIL, NULL},
    {"v=spf1 exists:%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}"
     ".%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}._spf.example.com -all",
     NULL, SPF_FAIL, NULL},
};

/* ---- One check ------------------------------------------------------------------------------- */

struct stage {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    struct spf_check check;
    struct spf_answer answer;
    struct rdns rdns;
    unsigned done_count;
};

static void on_done(void *context, const struct spf_answer *answer)
{
    struct stage *stage = context;

    stage->done_count++;
    stage->answer = *answer;
}

static void on_rdns(void *context, struct rdns *rdns)
{
    struct stage *stage = context;

    (void)rdns;
    stage->done_count++;
}

static bool is_done(void *context)
{
    const struct stage *stage = context;

    return stage->done_count > 0;
}

static void start(struct stage *stage, const struct fake_record *records)
{
    memset(stage, 0, sizeof(*stage));
    stage->world = sim_world_create(1, NULL);
    stage->process = sim_process_create(stage->world);
    sim_io_create(stage->world, stage->process, &stage->io);
    fake_dns_init(&stage->fake, stage->world, stage->process, stage->io, records);
    sim_enter(stage->process);
    stage->dns = dns_create(stage->io, stage->fake.questions, stage->fake.answers, 0, 256, 16);
    sim_leave(stage->process);
}

static void stop(struct stage *stage)
{
    sim_enter(stage->process);
    dns_destroy(stage->dns);
    fake_dns_fini(&stage->fake);
    sim_leave(stage->process);
    sim_world_destroy(stage->world);
}

static void begin(struct stage *stage, const char *ip)
{
    struct spf_question question = {
        .local = SLICE_LITERAL("strong-bad"),
        .domain = SLICE_LITERAL("d.example.com"),
        .helo = SLICE_LITERAL("bob.example.com"),
    };

    assert_int_equal(ipaddr_parse(slice_str(ip ? ip : AMY), &question.ip), 0);
    sim_enter(stage->process);
    spf_start(&stage->check, stage->dns, &question, on_done, stage);
    assert_int_equal(stage->done_count, 0);
    sim_leave(stage->process);
}

/* The zone, and the record under test. */
static struct fake_record *records_with(const char *record)
{
    static struct fake_record records[sizeof(zone) / sizeof(zone[0]) + 2];
    size_t count = sizeof(zone) / sizeof(zone[0]);

    memset(records, 0, sizeof(records));
    memcpy(records, zone, sizeof(zone));
    if (record)
        records[count] = (struct fake_record)TXT("d.example.com", record);
    return records;
}

static void check_row(const struct row *row)
{
    static struct stage stage;

    start(&stage, records_with(row->record));
    begin(&stage, row->ip);
    sim_run_until(stage.world, is_done, &stage, 3600000000000ull, 100000);
    assert_int_equal(stage.done_count, 1);
    if (stage.answer.result != row->result ||
        (row->mechanism && strcmp(stage.answer.mechanism, row->mechanism) != 0))
        print_error("%s for %s: %s by %s (%s), not %s\n", row->record, row->ip ? row->ip : AMY,
                    spf_result_name(stage.answer.result), stage.answer.mechanism, stage.answer.why,
                    spf_result_name(row->result));
    assert_int_equal(stage.answer.result, row->result);
    if (row->mechanism)
        assert_string_equal(stage.answer.mechanism, row->mechanism);
    assert_true((stage.answer.why[0] != '\0') ==
                (row->result == SPF_TEMPERROR || row->result == SPF_PERMERROR));
    /* 10 terms; of each 10 addresses at most, and the record's own question. */
    assert_true(stage.fake.asked_count <= 1 + 10 + 10 * 10);
    stop(&stage);
}

/* Whether the result is one for all senders of the domain. */
static void check_whose(const char *record, bool is_of_sender)
{
    static struct stage stage;

    start(&stage, records_with(record));
    begin(&stage, NULL);
    sim_run_until(stage.world, is_done, &stage, 3600000000000ull, 100000);
    assert_int_equal(stage.done_count, 1);
    assert_int_equal(stage.answer.is_of_sender, is_of_sender);
    stop(&stage);
}

static void a_result_says_whether_the_local_part_had_a_share(void **state)
{
    (void)state;
    check_whose("v=spf1 exists:%{l}._spf.%{d2} -all", true);
    check_whose("v=spf1 exists:%{S}.example.com -all", true);
    check_whose("v=spf1 redirect=%{l1r-}.%{d2}", true);
    check_whose("v=spf1 exists:%{o}.%{i}.example.com -all", false);
    check_whose("v=spf1 a:example.com -all", false);
    /* What stands behind the term that decides is not looked at. */
    check_whose("v=spf1 ip4:0.0.0.0/0 exists:%{l}.example.com", false);
}

static void records_and_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(&rows[i]);
}

static void records_that_are_too_long_together_are_an_error(void **state)
{
    static char longest[5000], inner[5000];
    static struct fake_record records[3];
    static struct stage stage;

    (void)state;
    /* Each fits into an answer; both do not fit into the room of a check. */
    snprintf(longest, sizeof(longest), "v=spf1 include:e.example.com x=%0*d", 4000, 0);
    snprintf(inner, sizeof(inner), "v=spf1 include:e.example.com y=%0*d", 4000, 0);
    records[0] = (struct fake_record)TXT("d.example.com", longest);
    records[1] = (struct fake_record)TXT("e.example.com", inner);
    start(&stage, records);
    begin(&stage, AMY);
    sim_run_until(stage.world, is_done, &stage, 3600000000000ull, 100000);
    assert_int_equal(stage.answer.result, SPF_PERMERROR);
    assert_string_equal(stage.answer.why, "the records are too long");
    stop(&stage);
}

static void a_check_that_is_stopped_says_nothing(void **state)
{
    static struct stage stage;

    (void)state;
    start(&stage, records_with("v=spf1 ptr:example.com include:amy-only.example.com -all"));
    for (unsigned steps = 0; steps < 40; steps++) {
        stage.done_count = 0;
        begin(&stage, "192.0.2.140");
        for (unsigned i = 0; i < steps && sim_step(stage.world); i++)
            ;
        sim_enter(stage.process);
        spf_stop(&stage.check);
        sim_leave(stage.process);
        if (stage.done_count == 0) {
            sim_run_until(stage.world, is_done, &stage, 10000000000ull, 1000);
            assert_int_equal(stage.done_count, 0);
        }
    }
    stop(&stage);
}

/* ---- Names of addresses ---------------------------------------------------------------------- */

static void names_have_to_lead_back(void **state)
{
    static const struct fake_record records[] = {
        PTR("1.2.0.192.in-addr.arpa", "a.example.com"),
        A("a.example.com", "192.0.2.1"),
        PTR("2.2.0.192.in-addr.arpa", "a.example.com"),
        PTR("3.2.0.192.in-addr.arpa", "dead.example.com"),
        DEAD("dead.example.com", DNS_A),
        DEAD("4.2.0.192.in-addr.arpa", DNS_PTR),
        PTR("6.2.0.192.in-addr.arpa", "dead.example.com"),
        PTR("6.2.0.192.in-addr.arpa", "six.example.com"),
        A("six.example.com", "192.0.2.6"),
        PTR("1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            "v6.example.com"),
        AAAA("v6.example.com", "2001:db8::1"),
        {NULL, 0, NULL, 0, 0},
    };
    static const struct {
        const char *ip;
        enum rdns_result result;
        const char *name;
    } cases[] = {
        {"192.0.2.1", RDNS_PASS, "a.example.com"},
        {"192.0.2.2", RDNS_FAIL, ""},
        {"192.0.2.3", RDNS_TEMPERROR, ""},
        {"192.0.2.4", RDNS_TEMPERROR, ""},
        {"192.0.2.5", RDNS_PERMERROR, ""},
        {"192.0.2.6", RDNS_PASS, "six.example.com"},
        {"2001:db8::1", RDNS_PASS, "v6.example.com"},
    };
    static struct stage stage;

    (void)state;
    start(&stage, records);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct ipaddr ip;

        stage.done_count = 0;
        assert_int_equal(ipaddr_parse(slice_str(cases[i].ip), &ip), 0);
        sim_enter(stage.process);
        rdns_start(&stage.rdns, stage.dns, &ip, on_rdns, &stage);
        sim_leave(stage.process);
        sim_run_until(stage.world, is_done, &stage, 3600000000000ull, 100000);
        assert_int_equal(stage.rdns.result, cases[i].result);
        assert_string_equal(rdns_name(&stage.rdns), cases[i].name);
    }
    stop(&stage);
}

/* ---- Macros ---------------------------------------------------------------------------------- */

/* RFC 7208 7.4, with its sender, domain and addresses. */
static void macros_expand(void **state)
{
    static const struct {
        const char *ip;
        const char *text;
        const char *expansion;
    } cases[] = {
        {"192.0.2.3", "%{s}", "strong-bad@email.example.com"},
        {"192.0.2.3", "%{o}", "email.example.com"},
        {"192.0.2.3", "%{d}", "email.example.com"},
        {"192.0.2.3", "%{d4}", "email.example.com"},
        {"192.0.2.3", "%{d3}", "email.example.com"},
        {"192.0.2.3", "%{d2}", "example.com"},
        {"192.0.2.3", "%{d1}", "com"},
        {"192.0.2.3", "%{dr}", "com.example.email"},
        {"192.0.2.3", "%{d2r}", "example.email"},
        {"192.0.2.3", "%{l}", "strong-bad"},
        {"192.0.2.3", "%{l-}", "strong.bad"},
        {"192.0.2.3", "%{lr}", "strong-bad"},
        {"192.0.2.3", "%{lr-}", "bad.strong"},
        {"192.0.2.3", "%{l1r-}", "strong"},
        {"192.0.2.3", "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
        {"192.0.2.3", "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"},
        {"192.0.2.3", "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}",
         "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
        {"192.0.2.3", "%{d2}.trusted-domains.example.net",
         "example.com.trusted-domains.example.net"},
        {"2001:db8::cb01", "%{ir}.%{v}._spf.%{d2}",
         "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"},
        {"192.0.2.3", "%{S}.%%%-x.%{H}", "strong-bad%40email.example.com.%%20x.helo.example"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spf_macros macros = {
            .local = SLICE_LITERAL("strong-bad"),
            .sender_domain = SLICE_LITERAL("email.example.com"),
            .domain = SLICE_LITERAL("email.example.com"),
            .helo = SLICE_LITERAL("helo.example"),
            .name = SLICE_LITERAL("unknown"),
        };
        char room[DNS_NAME_MAX + 1];

        assert_int_equal(ipaddr_parse(slice_str(cases[i].ip), &macros.ip), 0);
        assert_int_equal(spf_expand(slice_str(cases[i].text), &macros, room),
                         strlen(cases[i].expansion));
        assert_string_equal(room, cases[i].expansion);
    }
}

/* 7.3: what is too long loses labels at the left. */
static void a_long_name_loses_its_front(void **state)
{
    struct spf_macros macros = {
        .ip.family = IPADDR_V4,
        .local = SLICE_LITERAL("123456789012345678901234567890"),
        .domain = SLICE_LITERAL("d.example.com"),
    };
    char room[DNS_NAME_MAX + 1];
    int len = spf_expand(SLICE_LITERAL("%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{l}.%{d}"),
                         &macros, room);

    (void)state;
    assert_int_equal(len, 7 * 31 + 13);
    assert_true(len <= 253);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_and_what_they_say),
        cmocka_unit_test(a_result_says_whether_the_local_part_had_a_share),
        cmocka_unit_test(records_that_are_too_long_together_are_an_error),
        cmocka_unit_test(a_check_that_is_stopped_says_nothing),
        cmocka_unit_test(names_have_to_lead_back),
        cmocka_unit_test(macros_expand),
        cmocka_unit_test(a_long_name_loses_its_front),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
