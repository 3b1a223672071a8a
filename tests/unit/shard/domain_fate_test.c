/* What becomes of mail whose destination the DNS denies, as a table. */
#include "shard/policy/domain_fate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE_NS 60000000000ull
#define MINUTE_MS 60000ull
#define NOW_NS    (1000 * MINUTE_NS)

enum doubt {
    DOUBT_NONE,
    DOUBT_NEW,  /* DOMAIN_DOUBT_MS from now */
    DOUBT_KEPT, /* as before */
};

enum when {
    WHEN_FIRST,  /* no bad answer so far */
    WHEN_EARLY,  /* the first one is a minute too young */
    WHEN_SECOND, /* it is just old enough */
};

static const struct {
    const char *name;
    enum verdict_class class;
    uint8_t detail; /* 5.1.detail */
    enum dns_outlook outlook;
    enum when when;
    bool bounce_upon_no_mx;
    uint64_t bounce_after_ms;
    enum domain_fate_kind kind;
    uint64_t delay_min_ms;
    uint64_t delay_max_ms;
    uint64_t fail_age_ms;
    enum doubt doubt;
} cases[] = {
    {"found", VERDICT_SUCCESS, 0, 0, WHEN_EARLY, false, 0, DOMAIN_USE, 0, 0, 0, DOUBT_NONE},
    {"no answer", VERDICT_TRANSIENT, 0, 0, WHEN_FIRST, false, 0, DOMAIN_LATER, 24000, 30000, 0,
     DOUBT_NONE},
    {"no answer, whatever came before", VERDICT_TRANSIENT, 0, DNS_OUTLOOK_GOOD, WHEN_SECOND, true,
     0, DOMAIN_LATER, 24000, 30000, 0, DOUBT_KEPT},
    {"a31 null MX", VERDICT_PERMANENT, 10, DNS_OUTLOOK_BAD, WHEN_FIRST, false, 0, DOMAIN_FAIL, 0, 0,
     0, DOUBT_NONE},
    {"the first bad answer", VERDICT_PERMANENT, 2, DNS_OUTLOOK_GOOD, WHEN_FIRST, false, 0,
     DOMAIN_DOUBT, 9 * MINUTE_MS, 11 * MINUTE_MS, 0, DOUBT_NEW},
    {"another one too soon", VERDICT_PERMANENT, 2, DNS_OUTLOOK_GOOD, WHEN_EARLY, false, 0,
     DOMAIN_DOUBT, 9 * MINUTE_MS, 11 * MINUTE_MS, 0, DOUBT_KEPT},
    {"the second one", VERDICT_PERMANENT, 2, DNS_OUTLOOK_GOOD, WHEN_SECOND, false, 0, DOMAIN_FAIL,
     0, UINT64_MAX, 0, DOUBT_KEPT},
    {"the second one, nothing known of others", VERDICT_PERMANENT, 2, DNS_OUTLOOK_UNKNOWN,
     WHEN_SECOND, false, 0, DOMAIN_DOUBT, 5 * MINUTE_MS, 5 * MINUTE_MS, 0, DOUBT_KEPT},
    {"a29 the second one, most others fail too", VERDICT_PERMANENT, 2, DNS_OUTLOOK_BAD, WHEN_SECOND,
     false, 0, DOMAIN_DOUBT, 9 * MINUTE_MS, 11 * MINUTE_MS, 0, DOUBT_NEW},
    {"the operator believes the first", VERDICT_PERMANENT, 2, DNS_OUTLOOK_UNKNOWN, WHEN_FIRST, true,
     0, DOMAIN_FAIL, 0, UINT64_MAX, 0, DOUBT_NONE},
    {"for old mail", VERDICT_PERMANENT, 2, DNS_OUTLOOK_GOOD, WHEN_FIRST, true, 7 * MINUTE_MS,
     DOMAIN_FAIL, 9 * MINUTE_MS, 11 * MINUTE_MS, 7 * MINUTE_MS, DOUBT_NONE},
    {"a29 not when most others fail", VERDICT_PERMANENT, 2, DNS_OUTLOOK_BAD, WHEN_FIRST, true, 0,
     DOMAIN_DOUBT, 9 * MINUTE_MS, 11 * MINUTE_MS, 0, DOUBT_NEW},
};

static uint64_t doubt_of(enum when when)
{
    switch (when) {
    case WHEN_EARLY:
        return NOW_NS + MINUTE_NS;
    case WHEN_SECOND:
        return NOW_NS;
    default:
        return 0;
    }
}

static void domains_and_their_fates(void **state)
{
    struct rng rng;

    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct conf_queue settings = {
            .retry_ms = {10 * MINUTE_MS},
            .retry_count = 1,
            .dns_retry_ms = 30000,
            .bounce_upon_no_mx = cases[i].bounce_upon_no_mx,
            .bounce_upon_no_mx_after_ms = cases[i].bounce_after_ms,
        };
        struct verdict verdict = {.class = cases[i].class, .enhanced = {5, 1, cases[i].detail}};
        struct domain_facts facts = {
            .verdict = &verdict,
            .settings = &settings,
            .outlook = cases[i].outlook,
            .now_ns = NOW_NS,
            .doubt_ends_ns = doubt_of(cases[i].when),
        };

        for (unsigned j = 0; j < 100; j++) {
            struct domain_fate fate = domain_fate_of(&facts, &rng);
            uint64_t doubt = cases[i].doubt == DOUBT_NONE  ? 0
                             : cases[i].doubt == DOUBT_NEW ? NOW_NS + DOMAIN_DOUBT_MS * 1000000
                                                           : facts.doubt_ends_ns;

            if (fate.kind != cases[i].kind || fate.doubt_ends_ns != doubt)
                print_error("%s\n", cases[i].name);
            assert_int_equal(fate.kind, cases[i].kind);
            assert_in_range(fate.delay_ms, cases[i].delay_min_ms, cases[i].delay_max_ms);
            assert_int_equal(fate.fail_age_ms, cases[i].fail_age_ms);
            assert_int_equal(fate.doubt_ends_ns, doubt);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(domains_and_their_fates),
    };

    return cmocka_run_group_tests_name("domain fate", tests, NULL, NULL);
}
