/*
 * The header walker and scanner: where headers end, what is found, what is cut, and how the time
 * grows with hostile headers (A20).
 */
#include "core/mail/header_scan.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>
#include <time.h>

static const struct header_limits limits = {.octets_max = 65536, .field_count_max = 1000};

static struct header_facts scan(const char *text, bool is_whole, struct header_want *wants,
                                uint32_t want_count)
{
    struct header_facts facts;

    assert_int_equal(header_scan(slice_str(text), is_whole, &limits, wants, want_count, &facts), 0);
    return facts;
}

static void assert_slice(struct slice is, const char *should)
{
    assert_int_equal(is.len, strlen(should));
    assert_memory_equal(is.data, should, is.len);
}

static void a04_one_rule_says_where_the_header_ends(void **state)
{
    static const struct {
        const char *text;
        bool is_whole;
        enum header_end end;
        uint32_t fields;
        size_t header;
        size_t body;
    } rows[] = {
        {"A: 1\r\n\r\nB: 2\r\n", false, HEADER_ENDS_EMPTY, 1, 6, 8},
        {"\r\nbody\r\n", false, HEADER_ENDS_EMPTY, 0, 0, 2},
        {"A: 1\r\n fold\r\n\tfold\r\nB:2\r\n\r\n", false, HEADER_ENDS_EMPTY, 2, 25, 27},
        {"A: 1\r\n \r\nB: 2\r\n\r\n", false, HEADER_ENDS_EMPTY, 2, 15, 17},
        {"A: 1\r\nno field\r\n\r\n", false, HEADER_ENDS_NO_FIELD, 1, 6, 6},
        {" A: 1\r\n\r\n", false, HEADER_ENDS_NO_FIELD, 0, 0, 0},
        {"From x Mon\r\nA: 1\r\n\r\n", false, HEADER_ENDS_NO_FIELD, 0, 0, 0},
        {": 1\r\n\r\n", false, HEADER_ENDS_NO_FIELD, 0, 0, 0},
        {"A\x01: 1\r\n\r\n", false, HEADER_ENDS_NO_FIELD, 0, 0, 0},
        {"A : 1\r\n\r\n", false, HEADER_ENDS_EMPTY, 1, 7, 9},
        {"A: 1\r\n", false, HEADER_GOES_ON, 0, 0, 0},
        {"A: 1\r\n", true, HEADER_ENDS_MESSAGE, 1, 6, 6},
        {"A: 1\r\nB: 2\r\n c\r\n", true, HEADER_ENDS_MESSAGE, 2, 16, 16},
        {"A: 1\r\nB: 2", false, HEADER_GOES_ON, 1, 6, 6},
        {"A: 1\r\n B", false, HEADER_GOES_ON, 0, 0, 0},
        {"", true, HEADER_ENDS_MESSAGE, 0, 0, 0},
        {"", false, HEADER_GOES_ON, 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct header_facts facts = scan(rows[i].text, rows[i].is_whole, NULL, 0);

        if (facts.end != rows[i].end)
            print_error("row %zu\n", i);
        assert_int_equal(facts.end, rows[i].end);
        assert_int_equal(facts.field_count, rows[i].fields);
        assert_int_equal(facts.header_octets, rows[i].header);
        assert_int_equal(facts.body_offset, rows[i].body);
    }
}

static void a30_received_fields_are_counted(void **state)
{
    struct header_want wants[] = {{.name = SLICE_LITERAL("Received")}};
    struct header_facts facts = scan("Received: a\r\nRECEIVED: b\r\n c\r\nReceived-SPF: no\r\n"
                                     "X: Received: no\r\nreceived:\r\n\r\nReceived: body\r\n",
                                     true, wants, 1);

    assert_int_equal(wants[0].count, 3);
    assert_slice(wants[0].first.value, "a");
    assert_int_equal(facts.field_count, 5);
    assert_int_equal(facts.cut_count, 0);
}

/* Cutting out what was found leaves exactly the other fields. */
static void wanted_fields_are_found_and_can_be_cut(void **state)
{
    static const char text[] = "From: a\r\nX-Job:  one\r\n two \r\nTo: b\r\nx-virtual-mta: v\r\n"
                               "X-JOB: again\r\nDate: d\r\n\r\nX-Job: body\r\n";
    struct header_want wants[] = {
        {.name = SLICE_LITERAL("X-Virtual-MTA"), .strip = true},
        {.name = SLICE_LITERAL("X-Job"), .strip = true},
        {.name = SLICE_LITERAL("Message-ID")},
    };
    struct header_facts facts = scan(text, true, wants, 3);
    char left[sizeof(text)] = "";
    size_t at = 0;

    assert_int_equal(wants[0].count, 1);
    assert_slice(wants[0].first.name, "x-virtual-mta");
    assert_slice(wants[0].first.value, "v");
    assert_int_equal(wants[1].count, 2);
    assert_slice(wants[1].first.value, "one\r\n two");
    assert_int_equal(wants[2].count, 0);
    assert_int_equal(facts.cut_count, 3);
    for (uint32_t i = 0; i < facts.cut_count; i++) {
        assert_true(facts.cuts[i].offset >= at);
        strncat(left, text + at, facts.cuts[i].offset - at);
        at = facts.cuts[i].offset + facts.cuts[i].octets;
    }
    strcat(left, text + at);
    assert_string_equal(left, "From: a\r\nTo: b\r\nDate: d\r\n\r\nX-Job: body\r\n");
}

/* Whatever wants a name sees all of its fields, and one that is to be cut is cut once. */
static void several_want_the_same_field(void **state)
{
    struct header_want wants[] = {
        {.name = SLICE_LITERAL("X-Job")},
        {.name = SLICE_LITERAL("x-job"), .strip = true},
        {.name = SLICE_LITERAL("X-JOB"), .strip = true},
    };
    struct header_facts facts = scan("X-Job: a\r\nTo: b\r\nX-Job: c\r\n\r\n", true, wants, 3);

    for (int i = 0; i < 3; i++) {
        assert_int_equal(wants[i].count, 2);
        assert_slice(wants[i].first.value, "a");
    }
    assert_int_equal(facts.cut_count, 2);
    assert_int_equal(facts.cuts[1].offset, 17);
}

static void a20_limits_end_the_scan(void **state)
{
    struct header_want want = {.name = SLICE_LITERAL("A"), .strip = true};
    struct header_limits small = {.octets_max = 20, .field_count_max = 3};
    struct header_facts facts;
    static char many[(HEADER_CUT_COUNT_MAX + 1) * 6 + 1];

    assert_int_equal(
        header_scan(SLICE_LITERAL("A: 1\r\nB: 2\r\n\r\n"), true, &small, NULL, 0, &facts), 0);
    assert_int_equal(header_scan(SLICE_LITERAL("A: 1\r\nB: 2\r\nC:3\r\nD:4\r\n\r\n"), true, &small,
                                 NULL, 0, &facts),
                     E_TOO_LONG);
    small.field_count_max = 100;
    assert_int_equal(header_scan(SLICE_LITERAL("A: a long value that is too long\r\n\r\n"), true,
                                 &small, NULL, 0, &facts),
                     E_TOO_LONG);
    assert_int_equal(header_scan(SLICE_LITERAL("A: 1\r\n\r\na long body behind it\r\n"), true,
                                 &small, NULL, 0, &facts),
                     0);
    for (unsigned i = 0; i < sizeof(many) / 6; i++)
        memcpy(many + i * (size_t)6, "A: 1\r\n", 6);
    small = (struct header_limits){.octets_max = 65536, .field_count_max = UINT32_MAX};
    assert_int_equal(header_scan(slice_str(many), true, &small, &want, 1, &facts), E_RANGE);
}

static double scan_seconds(const uint8_t *data, size_t len)
{
    struct header_limits wide = {.octets_max = SIZE_MAX, .field_count_max = UINT32_MAX};
    struct header_want wants[] = {{.name = SLICE_LITERAL("Received")},
                                  {.name = SLICE_LITERAL("X-Job")}};
    struct header_facts facts;
    struct timespec from;
    struct timespec to;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    header_scan(slice_of(data, len), true, &wide, wants, 2, &facts);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

/* 10 MB each: one field, one field of folds, empty values, blanks, no line end. None may take more
 * than a crawl; a quadratic scanner takes minutes. */
static void a20_hostile_headers_take_linear_time(void **state)
{
    static const char *const units[] = {
        "x", "\r\n ", "A:\r\n", "A: 1\r\n", "A:\r\n\r", "Received: x\r\n \r\n", "__proto__: x\r\n",
    };
    size_t room = 10u << 20;
    uint8_t *data = malloc(room);

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t bytes = strlen(units[i]);

        memcpy(data, "A: ", 3);
        for (size_t at = 3; at < room; at++)
            data[at] = (uint8_t)units[i][(at - 3) % bytes];
        assert_true(scan_seconds(data, room) < 2.0);
    }
    free(data);
}

/* Octet by octet the end is found exactly when the walk has enough to see it, at the same place. */
static void assert_edge(const uint8_t *octets, size_t len)
{
    struct header_edge edge = {0};

    for (size_t have = 0; have <= len; have++) {
        struct header_walk walk;
        struct header_field field;
        bool found = header_edge_find(&edge, slice_of(octets, have));

        header_walk_init(&walk, slice_of(octets, have), false);
        while (header_walk_next(&walk, &field))
            continue;
        assert_int_equal(found, walk.end != HEADER_GOES_ON);
        if (!found)
            continue;
        assert_int_equal(edge.line, walk.at);
        return;
    }
}

static void random_headers_are_walked_within_bounds(void **state)
{
    static const char *const parts[] = {"A",        ":",  " ",  "\r\n", "\r\n ",
                                        "\r\n\r\n", "\r", "\n", "b"};
    struct rng rng;

    rng_init(&rng, 4);
    for (unsigned round = 0; round < 100000; round++) {
        struct header_walk walk;
        struct header_field field;
        char text[64] = "";
        uint8_t *exact;
        size_t len;
        size_t at = 0;

        for (uint64_t words = rng_below(&rng, 16); words > 0; words--)
            strcat(text, parts[rng_below(&rng, sizeof(parts) / sizeof(parts[0]))]);
        len = strlen(text);
        exact = malloc(len > 0 ? len : 1);
        memcpy(exact, text, len);
        header_walk_init(&walk, slice_of(exact, len), round % 2 != 0);
        while (header_walk_next(&walk, &field)) {
            assert_int_equal(field.offset, at);
            assert_true(field.octets >= 3 && field.octets <= len - at);
            assert_true(field.name.data == exact + at && field.name.len > 0);
            assert_true(field.value.data + field.value.len <= exact + at + field.octets);
            at += field.octets;
            assert_int_equal(exact[at - 1], '\n');
        }
        assert_int_equal(walk.at, at);
        assert_edge(exact, len);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a04_one_rule_says_where_the_header_ends),
        cmocka_unit_test(a30_received_fields_are_counted),
        cmocka_unit_test(wanted_fields_are_found_and_can_be_cut),
        cmocka_unit_test(several_want_the_same_field),
        cmocka_unit_test(a20_limits_end_the_scan),
        cmocka_unit_test(a20_hostile_headers_take_linear_time),
        cmocka_unit_test(random_headers_are_walked_within_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
