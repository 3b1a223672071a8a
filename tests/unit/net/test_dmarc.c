/*
 * DMARC: records as their owners write them, and the walk up the tree of names, against a scripted
 * resolver in the simulator.
 */
#include "net/dmarc.h"
#include "tests/unit/net/fake_dns.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define TXT(host, data)                                                                            \
    {                                                                                              \
        host, DNS_TXT, data, 0, 0                                                                  \
    }

static const struct fake_record zone[] = {
    TXT("_dmarc.example.com", "v=DMARC1; p=quarantine; sp=reject; rua=mailto:r@example.com"),
    TXT("_dmarc.own.example.com", "v=DMARC1; p=none; adkim=s"),
    TXT("_dmarc.two.example.org", "v=DMARC1; p=reject"),
    TXT("_dmarc.two.example.org", "v=DMARC1; p=none"),
    TXT("_dmarc.two.example.org", "something else"),
    /* A registry's suffix, an organization that says that it is one below another. */
    TXT("_dmarc.suffix.test", "v=DMARC1; p=reject; psd=y"),
    TXT("_dmarc.part.whole.test", "v=DMARC1; p=none; psd=n"),
    TXT("_dmarc.whole.test", "v=DMARC1; p=reject"),
    TXT("_dmarc.b.c.d.e.f.g.test", "v=DMARC1; p=reject"),
    TXT("_dmarc.1.2.b.c.d.e.f.g.test", "v=DMARC1; p=none"),
    {"_dmarc.broken.test", DNS_TXT, NULL, DNS_TIMEOUT, 0},
    {0},
};

struct stage {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    unsigned done_count;
};

static int set_up(void **state)
{
    struct stage *stage = calloc(1, sizeof(*stage));

    stage->world = sim_world_create(1, NULL);
    stage->process = sim_process_create(stage->world);
    sim_io_create(stage->world, stage->process, &stage->io);
    fake_dns_init(&stage->fake, stage->world, stage->process, stage->io, zone);
    sim_enter(stage->process);
    stage->dns = dns_create(stage->io, stage->fake.questions, stage->fake.answers, 0, 256, 16);
    sim_leave(stage->process);
    *state = stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *stage = *state;

    sim_enter(stage->process);
    dns_destroy(stage->dns);
    fake_dns_fini(&stage->fake);
    sim_leave(stage->process);
    sim_world_destroy(stage->world);
    free(stage);
    return 0;
}

static void on_done(void *context, struct dmarc_walk *walk)
{
    struct stage *stage = context;

    (void)walk;
    stage->done_count++;
}

static bool is_done(void *context)
{
    const struct stage *stage = context;

    return stage->done_count > 0;
}

static void look(struct stage *stage, const char *domain, struct dmarc_walk *walk)
{
    stage->done_count = 0;
    sim_enter(stage->process);
    dmarc_start(walk, stage->dns, slice_str(domain), on_done, stage);
    sim_leave(stage->process);
    assert_int_equal(stage->done_count, 0);
    sim_run_until(stage->world, is_done, stage, 3600000000000ull, 100000);
    assert_int_equal(stage->done_count, 1);
}

static void test_records(void **state)
{
    static const struct {
        const char *text;
        bool counts;
        struct dmarc_record record;
    } cases[] = {
        {"v=DMARC1;p=none", true, {.policy = DMARC_NO_ACTION}},
        {"v=DMARC1 ; P = REJECT ;", true, {.policy = DMARC_REJECT, .sub_policy = DMARC_REJECT}},
        {"v = DMARC1; p=reject; sp=none; t=y; adkim=s; aspf=s; psd=u; pct=10",
         true,
         {.policy = DMARC_REJECT,
          .is_testing = true,
          .is_strict_dkim = true,
          .is_strict_spf = true}},
        {"v=DMARC1; p=reject; aspf=x; adkim=r",
         true,
         {.policy = DMARC_REJECT, .sub_policy = DMARC_REJECT}},
        {"v=DMARC1; p=nonsense; rua=mailto:a@b.test", true, {.has_reports = true}},
        {"v=DMARC1; p=reject; sp=nonsense; rua=mailto:a@b.test", true, {.has_reports = true}},
        {"v=DMARC1; p=nonsense", false, {0}},
        {"v=DMARC1", false, {0}},
        {"v=DMARC1; rua=mailto:a@b.test", true, {.has_reports = true}},
        {"v=dmarc1; p=none", false, {0}},
        {"p=none; v=DMARC1", false, {0}},
        {"v=DMARC1 p=none", false, {0}},
        {"", false, {0}},
        {";", false, {0}},
    };
    struct dmarc_record record;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct dmarc_record *want = &cases[i].record;

        assert_int_equal(dmarc_parse(slice_str(cases[i].text), &record), cases[i].counts);
        if (!cases[i].counts)
            continue;
        assert_int_equal(record.policy, want->policy);
        assert_int_equal(record.sub_policy, want->sub_policy);
        assert_int_equal(record.psd, want->psd);
        assert_int_equal(record.is_strict_dkim, want->is_strict_dkim);
        assert_int_equal(record.is_strict_spf, want->is_strict_spf);
        assert_int_equal(record.is_testing, want->is_testing);
        assert_int_equal(record.has_reports, want->has_reports);
    }
}

static void test_walks(void **state)
{
    static const struct {
        const char *domain;
        enum dmarc_found found;
        const char *record_domain;
        const char *organization;
        enum dmarc_policy policy;
    } cases[] = {
        {"example.com", DMARC_FOUND, "example.com", "example.com", DMARC_QUARANTINE},
        {"mail.example.com", DMARC_FOUND, "example.com", "example.com", DMARC_REJECT},
        {"own.example.com", DMARC_FOUND, "own.example.com", "example.com", DMARC_NO_ACTION},
        {"a.own.example.com", DMARC_FOUND, "example.com", "example.com", DMARC_REJECT},
        /* Several records are none. */
        {"two.example.org", DMARC_NONE, "two.example.org", "two.example.org", DMARC_NO_ACTION},
        {"shop.suffix.test", DMARC_FOUND, "suffix.test", "shop.suffix.test", DMARC_REJECT},
        {"a.shop.suffix.test", DMARC_FOUND, "suffix.test", "shop.suffix.test", DMARC_REJECT},
        {"suffix.test", DMARC_FOUND, "suffix.test", "suffix.test", DMARC_REJECT},
        {"part.whole.test", DMARC_FOUND, "part.whole.test", "part.whole.test", DMARC_NO_ACTION},
        {"x.part.whole.test", DMARC_FOUND, "part.whole.test", "part.whole.test", DMARC_NO_ACTION},
        {"test", DMARC_NONE, "test", "test", DMARC_NO_ACTION},
        {"broken.test", DMARC_TEMPERROR, "broken.test", "broken.test", DMARC_NO_ACTION},
        {"below.broken.test", DMARC_TEMPERROR, "below.broken.test", "below.broken.test",
         DMARC_NO_ACTION},
        /* Ten labels, then seven: what stands between is not asked for. */
        {"0.1.2.b.c.d.e.f.g.test", DMARC_FOUND, "b.c.d.e.f.g.test", "b.c.d.e.f.g.test",
         DMARC_REJECT},
    };
    struct stage *stage = *state;
    struct dmarc_walk walk;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        look(stage, cases[i].domain, &walk);
        assert_int_equal(walk.found, cases[i].found);
        assert_string_equal(walk.record_domain, cases[i].record_domain);
        assert_string_equal(walk.organization, cases[i].organization);
        assert_int_equal(dmarc_policy_of(&walk), cases[i].policy);
    }
}

static void test_questions_are_bounded(void **state)
{
    struct stage *stage = *state;
    struct dmarc_walk walk;

    look(stage, "l.k.j.i.h.g.f.e.d.c.b.a.nobody.invalid", &walk);
    assert_int_equal(walk.found, DMARC_NONE);
    assert_int_equal(stage->fake.asked_count, DMARC_QUESTIONS_MAX);
}

static void test_alignment(void **state)
{
    struct stage *stage = *state;
    struct dmarc_walk from, other;

    look(stage, "mail.example.com", &from);
    look(stage, "bounce.example.com", &other);
    assert_true(dmarc_is_aligned(&from, &other, false));
    assert_false(dmarc_is_aligned(&from, &other, true));
    assert_true(dmarc_is_aligned(&from, &from, true));
    look(stage, "two.example.org", &other);
    assert_false(dmarc_is_aligned(&from, &other, false));
    /* Below a public suffix nobody is related. */
    look(stage, "a.suffix.test", &from);
    look(stage, "b.suffix.test", &other);
    assert_false(dmarc_is_aligned(&from, &other, false));
}

static void test_a_walk_that_is_stopped(void **state)
{
    struct stage *stage = *state;
    struct dmarc_walk walk, empty = {0};

    sim_enter(stage->process);
    dmarc_start(&walk, stage->dns, slice_str("example.com"), on_done, stage);
    dmarc_stop(&walk);
    dmarc_stop(&empty);
    sim_leave(stage->process);
    sim_run_until(stage->world, is_done, stage, 60000000000ull, 100000);
    assert_int_equal(stage->done_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test_setup_teardown(test_walks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_questions_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_alignment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_walk_that_is_stopped, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
