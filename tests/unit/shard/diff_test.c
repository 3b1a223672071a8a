/* What changed between two texts: examples, and that each answer leads from one to the other. */
#include "shard/diff.h"

#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <stdlib.h>

struct told {
    char text[65536];
    size_t len;
};

static void on_line(void *context, char mark, struct slice line)
{
    struct told *told = context;

    if (mark != '@')
        told->text[told->len++] = mark;
    memcpy(told->text + told->len, line.data, line.len);
    told->len += line.len;
    told->text[told->len++] = '\n';
    told->text[told->len] = '\0';
}

static const char *diff(const char *from, const char *to)
{
    static struct told told;

    told.len = 0;
    told.text[0] = '\0';
    diff_texts(slice_str(from), slice_str(to), on_line, &told);
    return told.text;
}

static void the_same_has_no_lines(void **state)
{
    assert_string_equal(diff("", ""), "");
    assert_string_equal(diff("a\nb\n", "a\nb\n"), "");
    assert_string_equal(diff("a\nb", "a\nb\n"), "");
}

static void a_changed_line_stands_between_its_neighbours(void **state)
{
    assert_string_equal(diff("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n"),
                        "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
    assert_string_equal(diff("", "a\n"), "@@ -1,0 +1,1 @@\n+a\n");
    assert_string_equal(diff("a\nb\n", "b\n"), "@@ -1,2 +1,1 @@\n-a\n b\n");
}

static void changes_far_apart_are_told_apart(void **state)
{
    assert_string_equal(diff("a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n"),
                        "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n"
                        "@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
    assert_string_equal(diff("a\n1\n2\n3\n4\n5\n6\nb\n", "A\n1\n2\n3\n4\n5\n6\nB\n"),
                        "@@ -1,8 +1,8 @@\n-a\n+A\n 1\n 2\n 3\n 4\n 5\n 6\n-b\n+B\n");
}

/* Carries the answer out, line by line. */
struct patch {
    struct slice from; /* what is left of it */
    char text[65536];
    size_t len;
    uint32_t line; /* of from */
    uint32_t changes;
};

static struct slice take(struct patch *patch)
{
    size_t len = slice_find(patch->from, '\n');
    struct slice line = slice_of(patch->from.data, len + 1);

    assert_true(len < patch->from.len);
    patch->from = slice_after(patch->from, len + 1);
    patch->line++;
    return line;
}

static void keep(struct patch *patch, struct slice line)
{
    memcpy(patch->text + patch->len, line.data, line.len);
    patch->len += line.len;
}

static void on_patch(void *context, char mark, struct slice line)
{
    struct patch *patch = context;
    unsigned start;

    if (mark == '@') {
        assert_int_equal(sscanf((const char *)line.data, "@@ -%u,", &start), 1);
        while (patch->line + 1 < start)
            keep(patch, take(patch));
        return;
    }
    patch->changes += mark != ' ';
    if (mark != '+')
        assert_true(slice_equal(take(patch), slice_of(line.data, line.len + 1)));
    if (mark != '-')
        keep(patch, slice_of(line.data, line.len + 1));
}

static size_t fill(struct rng *rng, char *text, uint32_t lines, uint32_t kinds)
{
    size_t len = 0;

    for (uint32_t i = 0; i < lines; i++)
        len += (size_t)sprintf(text + len, "%u\n", (unsigned)rng_below(rng, kinds));
    return len;
}

static void each_answer_leads_from_one_to_the_other(void **state)
{
    static char from[32768], to[32768];
    static struct patch patch;
    struct rng rng;
    uint32_t long_ones = 0;

    rng_init(&rng, 5);
    for (int round = 0; round < 400; round++) {
        uint32_t kinds = round % 2 == 0 ? 3 : 1000, most = round % 20 == 0 ? 1500 : 40;
        size_t from_len = fill(&rng, from, (uint32_t)rng_below(&rng, most), kinds);
        size_t to_len = fill(&rng, to, (uint32_t)rng_below(&rng, most), kinds);

        patch = (struct patch){.from = slice_of(from, from_len)};
        diff_texts(slice_of(from, from_len), slice_of(to, to_len), on_patch, &patch);
        keep(&patch, patch.from);
        assert_int_equal(patch.len, to_len);
        assert_memory_equal(patch.text, to, to_len);
        long_ones += patch.changes > DIFF_CHANGES_MAX;
    }
    /* Beyond the bound the answer is longer than need be, and right all the same. */
    assert_true(long_ones > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_has_no_lines),
        cmocka_unit_test(a_changed_line_stands_between_its_neighbours),
        cmocka_unit_test(changes_far_apart_are_told_apart),
        cmocka_unit_test(each_answer_leads_from_one_to_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
