/* The only place where remote results become decisions, as tables; and who owns a queue. */
#include "core/base/hash.h"
#include "shard/names.h"
#include "shard/place.h"
#include "shard/policy/fate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE_MS 60000ull

static const struct conf_queue settings = {
    .retry_ms = {10 * MINUTE_MS, 20 * MINUTE_MS, 60 * MINUTE_MS},
    .retry_count = 3,
    .bounce_after_ms = 120 * MINUTE_MS,
};

static const struct {
    const char *name;
    uint8_t class;
    uint8_t flags;
    uint16_t code;
    uint8_t enhanced[3];
    uint32_t attempts;
    uint64_t age_ms;
    enum fate_kind kind;
    const char *category;
} rcpt_cases[] = {
    {"accepted", VERDICT_SUCCESS, 0, 250, {2, 1, 5}, 0, 0, FATE_DELIVERED, ""},
    {"deferred", VERDICT_TRANSIENT, 0, 450, {4, 2, 1}, 0, 0, FATE_RETRY, ""},
    {"in doubt", VERDICT_TRANSIENT, VERDICT_IN_DOUBT, 0, {0}, 3, 0, FATE_RETRY, ""},
    {"too many",
     VERDICT_TRANSIENT,
     VERDICT_TOO_MANY_RCPT,
     452,
     {4, 5, 3},
     0,
     0,
     FATE_RETRY_AT_ONCE,
     ""},
    {"no user", VERDICT_PERMANENT, 0, 550, {5, 1, 1}, 0, 0, FATE_BOUNCED, ""},
    {"null MX", VERDICT_PERMANENT, 0, 556, {5, 1, 10}, 0, 0, FATE_BOUNCED, ""},
    {"full", VERDICT_PERMANENT, 0, 552, {5, 2, 2}, 0, 0, FATE_BOUNCED, ""},
    {"policy", VERDICT_PERMANENT, 0, 554, {5, 7, 1}, 0, 0, FATE_BOUNCED, ""},
    {"bare 5xx", VERDICT_PERMANENT, 0, 554, {0}, 0, 0, FATE_BOUNCED, ""},
    {"deferred, next try too late",
     VERDICT_TRANSIENT,
     0,
     450,
     {4, 2, 1},
     2,
     100 * MINUTE_MS,
     FATE_BOUNCED,
     "message-expired"},
    {"expired already",
     VERDICT_TRANSIENT,
     0,
     450,
     {4, 2, 1},
     0,
     121 * MINUTE_MS,
     FATE_BOUNCED,
     "message-expired"},
};

static void rcpt_fates(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof(rcpt_cases) / sizeof(rcpt_cases[0]); i++) {
        struct verdict verdict = {
            .class = rcpt_cases[i].class, .flags = rcpt_cases[i].flags, .code = rcpt_cases[i].code};
        struct fate fate;

        memcpy(verdict.enhanced, rcpt_cases[i].enhanced, 3);
        fate =
            fate_of_rcpt(&verdict, &settings, rcpt_cases[i].attempts, rcpt_cases[i].age_ms, &rng);
        if (fate.kind != rcpt_cases[i].kind)
            fail_msg("%s: kind %d", rcpt_cases[i].name, fate.kind);
        assert_string_equal(fate.category, rcpt_cases[i].category);
    }
}

/* Within 10 % of the step, both sides reached, and the last step repeats for ever. */
static void retry_delays(void **state)
{
    static const uint64_t steps_ms[] = {10, 20, 60, 60, 60};
    struct rng rng;

    (void)state;
    rng_init(&rng, 2);
    for (uint32_t attempt = 0; attempt < 5; attempt++) {
        uint64_t step = steps_ms[attempt] * MINUTE_MS, low = UINT64_MAX, high = 0;

        for (int i = 0; i < 2000; i++) {
            uint64_t delay = fate_retry_delay_ms(&settings, attempt, &rng);

            low = delay < low ? delay : low;
            high = delay > high ? delay : high;
        }
        assert_in_range(low, step * 90 / 100, step * 91 / 100);
        assert_in_range(high, step * 109 / 100, step * 110 / 100);
    }
}

/* A recipient that was put off by a reply of its own has waits of its own, where they are given. */
static void recipients_own_delays(void **state)
{
    static const uint64_t own_ms[] = {1000, 5000};
    struct verdict verdict = {.class = VERDICT_TRANSIENT,
                              .scope = VERDICT_RECIPIENT,
                              .flags = VERDICT_FROM_REPLY,
                              .stage = VERDICT_AT_RCPT,
                              .code = 450};
    struct conf_queue queue = settings;
    struct rng rng;

    (void)state;
    rng_init(&rng, 3);
    queue.rcpt_retry_ms = own_ms;
    queue.rcpt_retry_count = 2;
    assert_in_range(fate_of_rcpt(&verdict, &queue, 0, 0, &rng).delay_ms, 900, 1100);
    assert_in_range(fate_of_rcpt(&verdict, &queue, 7, 0, &rng).delay_ms, 4500, 5500);
    verdict.scope = VERDICT_MESSAGE;
    assert_in_range(fate_of_rcpt(&verdict, &queue, 0, 0, &rng).delay_ms, 9 * MINUTE_MS,
                    11 * MINUTE_MS);
    verdict.scope = VERDICT_RECIPIENT;
    verdict.flags = 0;
    assert_in_range(fate_of_rcpt(&verdict, &queue, 0, 0, &rng).delay_ms, 9 * MINUTE_MS,
                    11 * MINUTE_MS);
}

/* What the user says of messages that are lost on their way over. */
static void lost_messages(void **state)
{
    static const struct {
        uint8_t stage;
        uint8_t flags;
        uint8_t subject;
        bool bounces;
        bool assumes;
        enum fate_kind kind;
    } cases[] = {
        {VERDICT_AT_BODY, 0, 4, false, false, FATE_RETRY},
        {VERDICT_AT_BODY, 0, 4, true, false, FATE_BOUNCED},
        {VERDICT_AT_DOT, VERDICT_IN_DOUBT, 4, true, false, FATE_BOUNCED},
        {VERDICT_AT_DOT, VERDICT_FROM_REPLY, 4, true, true, FATE_RETRY},
        {VERDICT_AT_RCPT, 0, 4, true, true, FATE_RETRY},
        {VERDICT_AT_BODY, 0, 3, true, true, FATE_RETRY},
        {VERDICT_AT_DOT, VERDICT_IN_DOUBT | VERDICT_TIMED_OUT, 4, true, true, FATE_DELIVERED},
        {VERDICT_AT_DOT, VERDICT_IN_DOUBT | VERDICT_TIMED_OUT, 4, false, false, FATE_RETRY},
        {VERDICT_AT_DOT, VERDICT_IN_DOUBT, 4, false, true, FATE_RETRY},
        {VERDICT_AT_BODY, VERDICT_TIMED_OUT, 4, false, true, FATE_RETRY},
    };
    struct rng rng;

    (void)state;
    rng_init(&rng, 4);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict verdict = {.class = VERDICT_TRANSIENT,
                                  .scope = VERDICT_SESSION,
                                  .stage = cases[i].stage,
                                  .flags = cases[i].flags,
                                  .enhanced = {4, cases[i].subject, 2},
                                  .code = 421};
        struct conf_queue queue = settings;

        queue.bounce_upon_transfer_failure = cases[i].bounces;
        queue.assume_delivery_upon_timeout = cases[i].assumes;
        if (fate_of_rcpt(&verdict, &queue, 0, 0, &rng).kind != cases[i].kind)
            fail_msg("case %zu", i);
    }
}

static void session_fates(void **state)
{
    static const struct {
        uint8_t scope;
        uint8_t stage;
        uint16_t code;
        bool is_reply;
        bool means_unavailable;
        enum fate_route route;
    } cases[] = {
        {VERDICT_SOURCE_IP, VERDICT_AT_BIND, 451, false, false, FATE_REST_SOURCE},
        {VERDICT_HOST, VERDICT_AT_CONNECT, 0, false, false, FATE_NEXT_TARGET},
        {VERDICT_HOST, VERDICT_AT_GREETING, 421, false, false, FATE_NEXT_TARGET},
        {VERDICT_HOST, VERDICT_AT_EHLO, 0, false, false, FATE_NEXT_TARGET},
        {VERDICT_HOST, VERDICT_AT_GREETING, 554, true, false, FATE_REFUSED},
        {VERDICT_HOST, VERDICT_AT_GREETING, 421, true, false, FATE_REFUSED},
        {VERDICT_HOST, VERDICT_AT_GREETING, 421, true, true, FATE_NEXT_TARGET},
        {VERDICT_HOST, VERDICT_AT_EHLO, 450, true, true, FATE_REFUSED},
        {VERDICT_SESSION, VERDICT_AT_RCPT, 421, true, false, FATE_CLOSE_ONLY},
        {VERDICT_SESSION, VERDICT_AT_RCPT, 421, true, true, FATE_NEXT_TARGET},
        {VERDICT_SESSION, VERDICT_AT_DOT, 0, false, true, FATE_CLOSE_ONLY},
        {VERDICT_HOST, VERDICT_AT_AUTH, 535, true, false, FATE_REFUSED},
        {VERDICT_HOST, VERDICT_AT_AUTH, 421, true, true, FATE_NEXT_TARGET},
        {VERDICT_HOST, VERDICT_AT_AUTH, 421, false, false, FATE_NEXT_TARGET}, /* lost */
        {VERDICT_HOST, VERDICT_AT_TLS, 454, true, false, FATE_NO_TLS},
        {VERDICT_HOST, VERDICT_AT_TLS, 454, false, true, FATE_NO_TLS},
        {VERDICT_HOST, VERDICT_AT_TLS, 421, false, true, FATE_NO_TLS}, /* lost in the handshake */
        {VERDICT_HOST, VERDICT_AT_TLS, 421, true, false, FATE_REFUSED},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct verdict verdict = {.scope = cases[i].scope,
                                  .stage = cases[i].stage,
                                  .flags = cases[i].is_reply ? VERDICT_FROM_REPLY : 0,
                                  .code = cases[i].code};
        struct conf_queue queue = settings;

        queue.smtp_421_means_mx_unavailable = cases[i].means_unavailable;
        assert_int_equal(fate_of_session(&verdict, &queue), cases[i].route);
    }
}

/* No login that may be used: the host is well, whatever a 421 of its own would mean. */
static void a_login_that_cannot_be_made(void **state)
{
    struct verdict verdict = {
        .scope = VERDICT_HOST, .stage = VERDICT_AT_AUTH, .code = 421, .enhanced = {4, 7, 0}};
    struct conf_queue queue = settings;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        queue.smtp_421_means_mx_unavailable = i > 0;
        assert_int_equal(fate_of_session(&verdict, &queue), FATE_REFUSED);
    }
}

static void ignore_report(void *context, enum conf_severity severity, const char *file,
                          unsigned line, const char *text)
{
    (void)context;
    (void)severity;
    (void)file;
    (void)line;
    (void)text;
}

/* Queues begin all over the shards, by their names; the queues to a site are dealt out by VMTA. */
static void places(void **state)
{
    static const char text[] =
        "host-name a.test\nsmtp-source-host 127.0.0.1 a.test\n<spool /x>\n</spool>\n"
        "<virtual-mta v1>\n smtp-source-host 127.0.0.2 b.test\n</virtual-mta>\n"
        "<virtual-mta v2>\n smtp-source-host 127.0.0.3 c.test\n</virtual-mta>\n"
        "<domain routed.test>\n smtp-hosts [127.0.0.9]:25\n</domain>\n";
    struct place *two, *four;
    struct conf *conf;
    uint32_t owned[4] = {0};
    uint32_t first, second;

    (void)state;
    assert_int_equal(conf_load_text("t", text, NULL, ignore_report, NULL, &conf), 0);
    first = conf_vmta_named(conf, SLICE_LITERAL("v1"))->id;
    second = conf_vmta_named(conf, SLICE_LITERAL("v2"))->id;
    two = place_create(conf, 2);
    four = place_create(conf, 4);
    for (int i = 0; i < 4000; i++) {
        char name[32];
        uint16_t owner;

        snprintf(name, sizeof(name), "d%d.test", i);
        owner = place_base(four, slice_str(name), first);
        assert_true(owner < 4);
        assert_int_equal(owner, place_base(four, slice_str(name), first));
        owned[owner]++;
    }
    for (int i = 0; i < 4; i++)
        assert_in_range(owned[i], 850, 1150);
    for (uint64_t site = 0; site < 100; site++) {
        assert_int_not_equal(place_site(two, hash_u64(site), first),
                             place_site(two, hash_u64(site), second));
        assert_true(place_site(four, hash_u64(site), first) < 4);
    }
    place_destroy(two);
    place_destroy(four);
    conf_unref(conf);
}

/* However a pool picks its members, the shards share them evenly. */
static void pools_are_dealt_evenly(void **state)
{
    char text[4096];
    int len = snprintf(text, sizeof(text), "host-name a.test\n<spool /x>\n</spool>\n");
    struct conf *conf;

    (void)state;
    for (int i = 0; i < 16; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len,
                        "<virtual-mta v%d>\n smtp-source-host 127.0.0.%d b.test\n</virtual-mta>\n",
                        i, i + 1);
    len += snprintf(text + len, sizeof(text) - (size_t)len, "<virtual-mta-pool odd>\n");
    for (int i = 1; i < 16; i += 2)
        len += snprintf(text + len, sizeof(text) - (size_t)len, " virtual-mta v%d\n", i);
    snprintf(text + len, sizeof(text) - (size_t)len, "</virtual-mta-pool>\n");
    assert_int_equal(conf_load_text("t", text, NULL, ignore_report, NULL, &conf), 0);
    for (uint16_t shards = 2; shards <= 8; shards++) {
        struct place *place = place_create(conf, shards);
        const struct conf_pool *pool = conf_pool_named(conf, SLICE_LITERAL("odd"));
        uint32_t owned[8] = {0};

        for (uint32_t i = 0; i < pool->vmta_count; i++)
            owned[place_site(place, hash_u64(shards), pool->vmta_ids[i])]++;
        for (uint16_t i = 0; i < shards; i++)
            assert_in_range(owned[i], 8 / shards, (8 + shards - 1) / shards);
        place_destroy(place);
    }
    conf_unref(conf);
}

/* One name, one id, however long; gone with its last reference. */
static void interned_names(void **state)
{
    struct names names;
    char text[NAMES_BYTES_MAX + 2];
    uint32_t ids[3];

    (void)state;
    names_init(&names, 16);
    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 3; i++) {
        struct slice name = slice_of(text, i == 0 ? 5 : i == 1 ? 40 : NAMES_BYTES_MAX);

        ids[i] = names_get(&names, name);
        assert_int_equal(names_get(&names, name), ids[i]);
        assert_true(slice_equal(names_text(&names, ids[i]), name));
    }
    assert_int_equal(names_get(&names, slice_of(text, NAMES_BYTES_MAX + 1)), NAME_NONE);
    for (int i = 0; i < 3; i++) {
        names_put(&names, ids[i]);
        names_put(&names, ids[i]);
    }
    assert_int_equal(names.entries.count_used, 0);
    assert_int_equal(names.table.count, 0);
    names_fini(&names);
}

static void refusals_of_ipv6(void **state)
{
    static const struct {
        const char *text;
        enum verdict_class class;
        uint8_t enhanced[3];
        bool is_ours;
        bool is_refusal;
    } rows[] = {
        {"550 5.7.1 no", VERDICT_PERMANENT, {5, 7, 1}, false, true},
        {"550 5.7.25 no name", VERDICT_PERMANENT, {5, 7, 25}, false, true},
        {"550 we take no mail over IPv6", VERDICT_PERMANENT, {0}, false, true},
        {"421 4.7.0 IPV6 not now", VERDICT_TRANSIENT, {4, 7, 0}, false, true},
        {"421 4.7.0 slow down", VERDICT_TRANSIENT, {4, 7, 0}, false, false},
        {"550 5.1.1 nobody", VERDICT_PERMANENT, {5, 1, 1}, false, false},
        {"250 2.0.0 by ipv6", VERDICT_SUCCESS, {2, 0, 0}, false, false},
        {"550 5.7.0 of ours", VERDICT_PERMANENT, {5, 7, 0}, true, false},
        {"ipv", VERDICT_TRANSIENT, {0}, false, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct verdict verdict = {
            .class = (uint8_t)rows[i].class,
            .flags = rows[i].is_ours ? 0 : VERDICT_FROM_REPLY,
            .text_bytes = (uint16_t)strlen(rows[i].text),
        };

        memcpy(verdict.enhanced, rows[i].enhanced, sizeof(verdict.enhanced));
        memcpy(verdict.text, rows[i].text, verdict.text_bytes);
        assert_int_equal(fate_is_ipv6_refusal(&verdict), rows[i].is_refusal);
    }
}

static struct conf *load(const char *vmtas)
{
    char text[512];
    struct conf *conf;

    snprintf(text, sizeof(text), "smtp-source-host 127.0.0.1 x\n%s", vmtas);
    assert_int_equal(conf_load_text("t", text, NULL, ignore_report, NULL, &conf), 0);
    return conf;
}

/* A new snapshot: old virtual MTAs stay where they are, also when they went in between. */
static void places_last_over_reloads(void **state)
{
    const uint64_t site = 12345;
    struct conf *first = load("<virtual-mta p1>\n</virtual-mta>\n<virtual-mta p2>\n</virtual-mta>\n"
                              "<virtual-mta p3>\n</virtual-mta>\n");
    struct conf *second =
        load("<virtual-mta p4>\n</virtual-mta>\n<virtual-mta p3>\n</virtual-mta>\n");
    struct place *place = place_create(first, 4);
    struct place *other = place_create(first, 4);
    uint16_t before[3];

    for (int i = 0; i < 3; i++)
        before[i] = place_site(place, site, conf_vmta_at(first, (uint32_t)i + 1)->id);
    place_update(place, second);
    place_update(other, second);
    assert_int_equal(place_site(place, site, conf_vmta_at(second, 2)->id), before[2]);
    assert_int_equal(place_site(place, site, conf_vmta_at(second, 1)->id),
                     place_site(other, site, conf_vmta_at(second, 1)->id));
    place_update(place, first);
    for (int i = 0; i < 3; i++)
        assert_int_equal(place_site(place, site, conf_vmta_at(first, (uint32_t)i + 1)->id),
                         before[i]);
    place_destroy(place);
    place_destroy(other);
    conf_unref(first);
    conf_unref(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rcpt_fates),
        cmocka_unit_test(retry_delays),
        cmocka_unit_test(recipients_own_delays),
        cmocka_unit_test(lost_messages),
        cmocka_unit_test(session_fates),
        cmocka_unit_test(a_login_that_cannot_be_made),
        cmocka_unit_test(places),
        cmocka_unit_test(places_last_over_reloads),
        cmocka_unit_test(pools_are_dealt_evenly),
        cmocka_unit_test(interned_names),
        cmocka_unit_test(refusals_of_ipv6),
    };

    return cmocka_run_group_tests_name("shard/policy", tests, NULL, NULL);
}
