/* Policies of MTA-STS count for their time whatever happens, are fetched when they have to be, and
 * outlive the process within bounds. */
#include "shard/sts_book.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define NOW_S   1700000000ull
#define WEEK_S  604800u
#define ENFORCE "version: STSv1\nmode: enforce\nmx: a.example\nmax_age: 604800\n"
#define NONE    "version: STSv1\nmode: none\nmax_age: 604800\n"

static enum sts_need ask(struct sts_book *book, const char *domain, const char *id, uint64_t now_s,
                         struct sts_known **ret_known)
{
    return sts_book_ask(book, slice_str(domain), id ? STS_RECORD_FOUND : STS_RECORD_NONE,
                        slice_str(id ? id : ""), now_s, ret_known);
}

static struct sts_known *learn(struct sts_book *book, const char *domain, const char *id,
                               const char *text, uint64_t now_s)
{
    struct sts_known *known;

    assert_int_equal(ask(book, domain, id, now_s, &known), STS_NEED_FETCH);
    sts_book_open(known);
    assert_int_equal(sts_book_take(book, known, slice_str(text), now_s), 0);
    return known;
}

static void a_policy_counts_to_its_end_without_dns_and_host(void **state)
{
    struct sts_known *known, *found;
    struct sts_book book;

    sts_book_init(&book, 4);
    assert_int_equal(ask(&book, "a.example", NULL, NOW_S, &known), STS_NEED_NOTHING);
    assert_null(known);
    known = learn(&book, "a.example", "1", ENFORCE, NOW_S);
    assert_int_equal(known->mode, STS_ENFORCE);
    assert_int_equal(ask(&book, "a.example", "1", NOW_S + 1, &found), STS_NEED_NOTHING);
    assert_ptr_equal(found, known);
    /* The record has gone, or cannot be had. */
    assert_int_equal(ask(&book, "a.example", NULL, NOW_S + WEEK_S - 1, &found), STS_NEED_NOTHING);
    assert_true(sts_known_counts(found, NOW_S + WEEK_S - 1));
    assert_int_equal(sts_book_ask(&book, slice_str("a.example"), STS_RECORD_UNKNOWN, SLICE_EMPTY,
                                  NOW_S + 2, &found),
                     STS_NEED_NOTHING);
    assert_true(sts_known_counts(found, NOW_S + 2));
    assert_false(sts_known_counts(known, NOW_S + WEEK_S));
    /* The same version is fetched again when its time is over. */
    assert_int_equal(ask(&book, "a.example", "1", NOW_S + WEEK_S, &found), STS_NEED_FETCH);
    sts_book_fini(&book);
}

/* Mail would wait for its host all the time, and so would other domains for their turn. */
static void one_that_is_over_at_once_counts_for_a_while(void **state)
{
    struct sts_known *known, *found;
    struct sts_book book;

    sts_book_init(&book, 4);
    known = learn(&book, "a.example", "1", "version: STSv1\nmode: none\nmax_age: 0\n", NOW_S);
    assert_int_equal(ask(&book, "a.example", "1", NOW_S + STS_BOOK_RETRY_S - 1, &found),
                     STS_NEED_NOTHING);
    assert_true(sts_known_counts(known, NOW_S + STS_BOOK_RETRY_S - 1));
    assert_int_equal(ask(&book, "a.example", "1", NOW_S + STS_BOOK_RETRY_S, &found),
                     STS_NEED_FETCH);
    sts_book_fini(&book);
}

static void another_id_is_fetched_and_a_failure_keeps_what_is_known(void **state)
{
    struct sts_known *known, *found;
    struct sts_book book;

    sts_book_init(&book, 4);
    known = learn(&book, "a.example", "1", ENFORCE, NOW_S);
    assert_int_equal(ask(&book, "a.example", "2", NOW_S, &found), STS_NEED_FETCH);
    sts_book_open(known);
    assert_int_equal(ask(&book, "a.example", "2", NOW_S, &found), STS_NEED_WAIT);
    assert_int_equal(ask(&book, "a.example", "1", NOW_S, &found), STS_NEED_NOTHING);
    sts_book_fail(known, slice_str("no answer"), NOW_S);
    assert_string_equal(known->why, "no answer");
    assert_true(sts_known_counts(known, NOW_S));
    assert_string_equal(known->id, "1");
    /* Not again within five minutes, but for another version. */
    assert_int_equal(ask(&book, "a.example", "2", NOW_S + STS_BOOK_RETRY_S - 1, &found),
                     STS_NEED_NOTHING);
    assert_int_equal(ask(&book, "a.example", "3", NOW_S + 1, &found), STS_NEED_FETCH);
    assert_int_equal(ask(&book, "a.example", "2", NOW_S + 2, &found), STS_NEED_FETCH);
    sts_book_open(known);
    assert_int_equal(sts_book_take(&book, known, slice_str("mode: enforce\n"), NOW_S), E_SYNTAX);
    assert_true(sts_known_counts(known, NOW_S));
    assert_int_equal(ask(&book, "a.example", "2", NOW_S + STS_BOOK_RETRY_S, &found),
                     STS_NEED_FETCH);
    sts_book_open(known);
    assert_int_equal(sts_book_take(&book, known, slice_str(NONE), NOW_S), 0);
    assert_string_equal(known->id, "2");
    assert_int_equal(known->mode, STS_NONE);
    sts_book_fini(&book);
}

static void what_is_used_is_fetched_anew_in_time(void **state)
{
    uint64_t late_s = NOW_S + STS_BOOK_RENEW_S;
    struct sts_known *known;
    struct sts_book book;

    sts_book_init(&book, 4);
    known = learn(&book, "a.example", "1", ENFORCE, NOW_S);
    assert_null(sts_book_due(&book, late_s - 1));
    assert_ptr_equal(sts_book_due(&book, late_s), known);
    sts_book_open(known);
    assert_null(sts_book_due(&book, late_s));
    sts_book_fail(known, slice_str("no answer"), late_s);
    assert_null(sts_book_due(&book, late_s + STS_BOOK_AGAIN_S - 1));
    assert_ptr_equal(sts_book_due(&book, late_s + STS_BOOK_AGAIN_S), known);
    sts_book_open(known);
    assert_int_equal(sts_book_take(&book, known, slice_str(ENFORCE), late_s), 0);
    assert_string_equal(known->id, "1");
    assert_true(sts_known_counts(known, late_s + WEEK_S - 1));
    assert_null(sts_book_due(&book, late_s + 1));
    known->used_s = NOW_S;
    known->until_s = known->renew_s = NOW_S + STS_BOOK_UNUSED_S;
    assert_null(sts_book_due(&book, known->renew_s));
    sts_book_fini(&book);
}

/* The clock stood a year ahead when they were fetched, or could not be. */
static void a_clock_that_is_set_right_makes_nothing_count_longer(void **state)
{
    uint64_t wrong_s = NOW_S + 31536000;
    struct sts_known *known, *failed, *found;
    struct sts_book book;

    sts_book_init(&book, 4);
    known = learn(&book, "a.example", "1", ENFORCE, wrong_s);
    assert_int_equal(ask(&book, "b.example", "1", wrong_s, &failed), STS_NEED_FETCH);
    sts_book_open(failed);
    sts_book_fail(failed, slice_str("no answer"), wrong_s);
    assert_int_equal(ask(&book, "b.example", "1", NOW_S, &found), STS_NEED_FETCH);
    assert_int_equal(ask(&book, "a.example", "1", NOW_S, &found), STS_NEED_NOTHING);
    assert_ptr_equal(found, known);
    assert_true(sts_known_counts(known, NOW_S + WEEK_S - 1));
    assert_false(sts_known_counts(known, NOW_S + WEEK_S));
    assert_ptr_equal(sts_book_due(&book, NOW_S + STS_BOOK_RENEW_S), known);
    sts_book_fini(&book);
}

static void the_one_used_longest_ago_gives_way(void **state)
{
    struct sts_known *known, *found;
    struct sts_book book;

    sts_book_init(&book, 2);
    learn(&book, "a.example", "1", ENFORCE, NOW_S);
    learn(&book, "b.example", "1", ENFORCE, NOW_S);
    ask(&book, "a.example", "1", NOW_S, &known);
    assert_int_equal(ask(&book, "c.example", "1", NOW_S, &found), STS_NEED_FETCH);
    sts_book_open(found);
    assert_null(sts_book_find(&book, slice_str("b.example")));
    assert_int_equal(ask(&book, "d.example", "1", NOW_S, &found), STS_NEED_FETCH);
    sts_book_open(found);
    /* Both are being fetched. */
    assert_int_equal(ask(&book, "e.example", "1", NOW_S, &found), STS_NEED_NOTHING);
    assert_null(found);
    sts_book_fini(&book);
}

static void the_text_brings_back_what_counts(void **state)
{
    struct sts_book book, next;
    struct sts_known *known;
    size_t len;
    char *text;

    sts_book_init(&book, 4);
    learn(&book, "a.example", "1", ENFORCE, NOW_S);
    learn(&book, "b.example", "2", "version: STSv1\nmode: none\nmax_age: 310\nother: x\n", NOW_S);
    assert_int_equal(ask(&book, "c.example", "1", NOW_S, &known), STS_NEED_FETCH);
    assert_true(book.is_changed);
    text = sts_book_print(&book, NOW_S, &len);
    sts_book_fini(&book);

    sts_book_init(&next, 4);
    assert_int_equal(sts_book_load(&next, slice_of(text, len), NOW_S + 310), 0);
    assert_false(next.is_changed);
    assert_int_equal(next.slab.count_used, 1);
    known = sts_book_find(&next, slice_str("a.example"));
    assert_non_null(known);
    assert_string_equal(known->id, "1");
    assert_int_equal(known->mode, STS_ENFORCE);
    assert_true(sts_known_counts(known, NOW_S + WEEK_S - 1));
    assert_false(sts_known_counts(known, NOW_S + WEEK_S));
    assert_ptr_equal(sts_book_due(&next, NOW_S + STS_BOOK_RENEW_S), known);
    sts_book_fini(&next);

    /* A part of it, or another text, is what it is worth and no more. */
    for (size_t cut = 1; cut < len; cut++) {
        sts_book_init(&next, 4);
        sts_book_load(&next, slice_of(text, cut), NOW_S);
        sts_book_fini(&next);
    }
    sts_book_init(&next, 4);
    assert_int_equal(sts_book_load(&next, slice_str("a b c\n"), NOW_S), E_DAMAGED);
    assert_int_equal(next.slab.count_used, 0);
    sts_book_fini(&next);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_counts_to_its_end_without_dns_and_host),
        cmocka_unit_test(one_that_is_over_at_once_counts_for_a_while),
        cmocka_unit_test(another_id_is_fetched_and_a_failure_keeps_what_is_known),
        cmocka_unit_test(what_is_used_is_fetched_anew_in_time),
        cmocka_unit_test(a_clock_that_is_set_right_makes_nothing_count_longer),
        cmocka_unit_test(the_one_used_longest_ago_gives_way),
        cmocka_unit_test(the_text_brings_back_what_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
