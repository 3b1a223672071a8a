/* What SPF records said is remembered for a while, within bounds, and asked for ahead of its end.
 */
#include "shard/spf_known.h"

#include "tests/unit/core_base/unit.h"

#define NS_PER_S 1000000000ull

static const struct spf_answer pass = {.result = SPF_PASS, .why = "", .mechanism = "mx"};
static const struct spf_answer fail = {.result = SPF_FAIL, .why = "", .mechanism = "-all"};
static const struct spf_answer error = {.result = SPF_TEMPERROR, .why = "no answer"};

static struct spf_fact *learn(struct spf_known *known, uint64_t hash,
                              const struct spf_answer *answer, uint64_t now_ns)
{
    struct spf_fact *fact = spf_known_obtain(known, hash);

    assert_non_null(fact);
    spf_fact_open(fact, now_ns);
    spf_fact_close(fact, answer, now_ns);
    return fact;
}

static void a_result_counts_for_a_while_and_is_renewed_meanwhile(void **state)
{
    struct spf_known known;
    struct spf_fact *fact;
    uint64_t now_ns = 1000 * NS_PER_S, end_ns = now_ns + SPF_KNOWN_KEEP_NS;

    spf_known_init(&known, 4);
    fact = spf_known_obtain(&known, 7);
    assert_false(spf_fact_counts(fact, now_ns));
    assert_true(spf_fact_is_due(fact, now_ns));
    spf_fact_open(fact, now_ns);
    assert_false(spf_fact_is_due(fact, now_ns + NS_PER_S));
    spf_fact_close(fact, &pass, now_ns);
    assert_ptr_equal(spf_known_obtain(&known, 7), fact);
    assert_int_equal(fact->result, SPF_PASS);
    assert_string_equal(fact->why, "mx");
    assert_false(spf_fact_is_due(fact, end_ns - SPF_KNOWN_AHEAD_NS - 1));
    /* All mail but the first goes on by the old result while the new one is found out. */
    assert_true(spf_fact_is_due(fact, end_ns - SPF_KNOWN_AHEAD_NS));
    spf_fact_open(fact, end_ns - SPF_KNOWN_AHEAD_NS);
    assert_false(spf_fact_is_due(fact, end_ns - 1));
    assert_true(spf_fact_counts(fact, end_ns - 1));
    assert_false(spf_fact_counts(fact, end_ns));
    spf_fact_close(fact, &fail, end_ns);
    assert_int_equal(fact->result, SPF_FAIL);
    assert_true(spf_fact_counts(fact, end_ns));
    spf_known_fini(&known);
}

static void a_temporary_error_is_short_and_displaces_nothing(void **state)
{
    struct spf_known known;
    uint64_t now_ns = 1000 * NS_PER_S, late_ns = now_ns + SPF_KNOWN_KEEP_NS - 1;
    struct spf_fact *fact;

    spf_known_init(&known, 4);
    fact = learn(&known, 1, &pass, now_ns);
    spf_fact_open(fact, late_ns);
    spf_fact_close(fact, &error, late_ns);
    assert_int_equal(fact->result, SPF_PASS);
    assert_false(spf_fact_counts(fact, late_ns + 1));
    fact = learn(&known, 2, &error, now_ns);
    assert_int_equal(fact->result, SPF_TEMPERROR);
    assert_string_equal(fact->why, "no answer");
    assert_false(spf_fact_is_due(fact, now_ns + SPF_KNOWN_KEEP_ERR_NS - 1));
    assert_true(spf_fact_is_due(fact, now_ns + SPF_KNOWN_KEEP_ERR_NS));
    spf_known_fini(&known);
}

static void the_one_used_longest_ago_gives_way_unless_it_is_open(void **state)
{
    struct spf_known known;
    uint64_t now_ns = 1000 * NS_PER_S;
    struct spf_fact *open;

    spf_known_init(&known, 3);
    open = spf_known_obtain(&known, 1);
    spf_fact_open(open, now_ns);
    learn(&known, 2, &pass, now_ns);
    learn(&known, 3, &pass, now_ns);
    assert_true(spf_fact_counts(spf_known_obtain(&known, 2), now_ns));
    learn(&known, 4, &pass, now_ns);
    assert_int_equal(known.slab.count_used, 3);
    assert_true(spf_fact_counts(spf_known_obtain(&known, 2), now_ns));
    assert_ptr_equal(spf_known_obtain(&known, 1), open);
    assert_true(open->is_open);
    spf_fact_open(spf_known_obtain(&known, 2), now_ns);
    /* 3 went for 4, and 4 goes for it. */
    assert_false(spf_fact_counts(spf_known_obtain(&known, 3), now_ns));
    spf_fact_open(spf_known_obtain(&known, 3), now_ns);
    assert_null(spf_known_obtain(&known, 4));
    spf_known_fini(&known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_result_counts_for_a_while_and_is_renewed_meanwhile),
        cmocka_unit_test(a_temporary_error_is_short_and_displaces_nothing),
        cmocka_unit_test(the_one_used_longest_ago_gives_way_unless_it_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
