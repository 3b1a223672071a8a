/*
 * The reply parser: a table of replies with their events, each of them cut in every possible way;
 * hostile ones (A23), enhanced codes (A24), bytes kept as they are (A25), and what fuzzing found.
 */
#include "core/mail/reply.h"

#include "tests/unit/core_base/unit.h"

#include <dirent.h>
#include <stdio.h>

#define BIG_BYTES 100000

/* What a whole feeding came to. */
struct result {
    enum reply_event last;
    unsigned lines;    /* REPLY_LINE events */
    uint64_t line_sum; /* over the texts of all lines */
    struct reply_parser parser;
};

static uint64_t sum_of(struct slice s)
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < s.len; i++)
        sum = (sum ^ s.data[i]) * 1099511628211u;
    return sum;
}

/* Feeds pieces of step bytes (0 = all at once) until the reply is complete or bad. */
static struct result feed(struct slice bytes, size_t step)
{
    struct result result = {.last = REPLY_MORE};
    size_t at = 0;

    reply_start(&result.parser);
    while (at < bytes.len && result.last != REPLY_DONE && result.last != REPLY_BAD) {
        size_t len = step == 0 || step > bytes.len - at ? bytes.len - at : step;
        size_t used = 0;

        result.last = reply_feed(&result.parser, bytes.data + at, len, &used);
        assert_true(used <= len);
        assert_true(result.last != REPLY_MORE || used == len);
        if (result.last == REPLY_LINE)
            result.lines++;
        if (result.last == REPLY_LINE || result.last == REPLY_DONE)
            result.line_sum = result.line_sum * 31 + sum_of(reply_line(&result.parser));
        at += used;
    }
    if (result.last == REPLY_LINE)
        result.last = REPLY_MORE;
    return result;
}

static void assert_same(const struct result *a, const struct result *b)
{
    assert_int_equal(a->last, b->last);
    if (a->last == REPLY_BAD) {
        assert_int_equal(a->parser.fault, b->parser.fault);
        return;
    }
    assert_int_equal(a->lines, b->lines);
    assert_int_equal(a->parser.code, b->parser.code);
    assert_true(a->line_sum == b->line_sum);
    assert_true(slice_equal(reply_text(&a->parser), reply_text(&b->parser)));
}

/* However it is cut, one reply is one result. */
static struct result feed_all_ways(struct slice bytes)
{
    struct result whole = feed(bytes, 0);
    static const size_t steps[] = {1, 2, 3, 4, 5, 7, 64, 511, 513, 4096};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct result cut = feed(bytes, steps[i]);

        assert_same(&whole, &cut);
    }
    return whole;
}

/* In two pieces, at every place. */
static void feed_every_cut(struct slice bytes, const struct result *whole)
{
    for (size_t cut = 1; cut < bytes.len; cut++) {
        struct result result = {.last = REPLY_MORE};
        struct slice pieces[2] = {{bytes.data, cut}, slice_after(bytes, cut)};

        reply_start(&result.parser);
        for (unsigned i = 0; i < 2; i++) {
            while (pieces[i].len > 0 && result.last != REPLY_DONE && result.last != REPLY_BAD) {
                size_t used = 0;

                result.last = reply_feed(&result.parser, pieces[i].data, pieces[i].len, &used);
                if (result.last == REPLY_LINE || result.last == REPLY_DONE)
                    result.line_sum = result.line_sum * 31 + sum_of(reply_line(&result.parser));
                result.lines += result.last == REPLY_LINE;
                pieces[i] = slice_after(pieces[i], used);
            }
        }
        if (result.last == REPLY_LINE)
            result.last = REPLY_MORE;
        assert_same(whole, &result);
    }
}

struct good {
    const char *bytes;
    uint16_t code;
    uint8_t enhanced[3];
    const char *text;
};

static const struct good good[] = {
    {"250 ok\r\n", 250, {0, 0, 0}, "250 ok"},
    {"250 2.1.0 ok\r\n", 250, {2, 1, 0}, "250 2.1.0 ok"},
    {"250 ok\n", 250, {0, 0, 0}, "250 ok"},
    {"250 \r\n", 250, {0, 0, 0}, "250 "},
    /* No text at all is fine, RFC 5321 4.2. */
    {"250\r\n", 250, {0, 0, 0}, "250"},
    {"250\n", 250, {0, 0, 0}, "250"},
    {"250-a\r\n250-\r\n250\r\n", 250, {0, 0, 0}, "250-a 250- 250"},
    {"550-5.1.1 no such user\r\n550 5.1.1 go away\r\n",
     550,
     {5, 1, 1},
     "550-5.1.1 no such user 550 5.1.1 go away"},
    {"571 5.7.1 odd second digit\r\n", 571, {5, 7, 1}, "571 5.7.1 odd second digit"},
    {"599 x\r\n", 599, {0, 0, 0}, "599 x"},
    {"250 a\rb\r\n", 250, {0, 0, 0}, "250 a\rb"},
    {"250 a\r\r\n", 250, {0, 0, 0}, "250 a\r"},
    {"250 \t\x1b[31m=cmd,\"x\"\xff\r\n", 250, {0, 0, 0}, "250 \t\x1b[31m=cmd,\"x\"\xff"},
    {"354 go\r\n", 354, {0, 0, 0}, "354 go"},
};

static void good_replies_in_any_segmentation(void **state)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct slice bytes = slice_str(good[i].bytes);
        struct result result = feed_all_ways(bytes);
        struct verdict verdict;

        feed_every_cut(bytes, &result);
        assert_int_equal(result.last, REPLY_DONE);
        reply_to_verdict(&result.parser, VERDICT_MESSAGE, VERDICT_AT_DOT, &verdict);
        assert_int_equal(verdict.code, good[i].code);
        assert_memory_equal(verdict.enhanced, good[i].enhanced, 3);
        assert_true(slice_equal(verdict_text(&verdict), slice_str(good[i].text)));
        assert_int_equal(verdict.flags, VERDICT_FROM_REPLY);
    }
}

struct bad {
    const char *bytes;
    size_t len; /* 0 = as a string */
    enum reply_fault fault;
};

static const struct bad bad[] = {
    {"25\r\n", 0, REPLY_FAULT_CODE},
    {"2\r\n", 0, REPLY_FAULT_CODE},
    {"\r\n", 0, REPLY_FAULT_CODE},
    {"\n", 0, REPLY_FAULT_CODE},
    {"ddd\r\n", 0, REPLY_FAULT_CODE},
    {"hello\r\n", 0, REPLY_FAULT_CODE},
    {" 250 ok\r\n", 0, REPLY_FAULT_CODE},
    {"999 ok\r\n", 0, REPLY_FAULT_CODE},
    {"000 ok\r\n", 0, REPLY_FAULT_CODE},
    {"150 ok\r\n", 0, REPLY_FAULT_CODE},
    {"650 ok\r\n", 0, REPLY_FAULT_CODE},
    {"25a ok\r\n", 0, REPLY_FAULT_CODE},
    {"\xb2\xb5\xb0 ok\r\n", 0, REPLY_FAULT_CODE},
    {"2500 ok\r\n", 0, REPLY_FAULT_SEPARATOR},
    {"250+ok\r\n", 0, REPLY_FAULT_SEPARATOR},
    {"250\tok\r\n", 0, REPLY_FAULT_SEPARATOR},
    {"250\rx\r\n", 0, REPLY_FAULT_SEPARATOR},
    {"250\r\r\n", 0, REPLY_FAULT_SEPARATOR},
    {"250\0ok\r\n", 8, REPLY_FAULT_SEPARATOR},
    {"250-a\r\n550 b\r\n", 0, REPLY_FAULT_MIXED},
    {"550-a\r\n250 b\r\n", 0, REPLY_FAULT_MIXED},
    {"250-a\r\n251-b\r\n250 c\r\n", 0, REPLY_FAULT_MIXED},
    {"250-a\r\ngarbage\r\n250 c\r\n", 0, REPLY_FAULT_CODE},
    {"250-a\r\n\r\n250 c\r\n", 0, REPLY_FAULT_CODE},
    {"250 a\0b\r\n", 9, REPLY_FAULT_NUL},
    {"\0", 1, REPLY_FAULT_CODE},
};

static void a23_broken_replies_are_bad_in_any_segmentation(void **state)
{
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct slice bytes = slice_str(bad[i].bytes);
        struct result result;

        if (bad[i].len > 0)
            bytes.len = bad[i].len;
        result = feed_all_ways(bytes);
        feed_every_cut(bytes, &result);
        if (result.last != REPLY_BAD || result.parser.fault != bad[i].fault)
            print_error("row %zu: event %d, fault %d\n", i, (int)result.last, result.parser.fault);
        assert_int_equal(result.last, REPLY_BAD);
        assert_int_equal(result.parser.fault, bad[i].fault);
    }
}

static void a23_incomplete_replies_wait(void **state)
{
    static const char *const parts[] = {"",      "2",        "25",        "250",
                                        "250 o", "250 ok\r", "250-a\r\n", "250-a\r\n250"};

    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        struct result result = feed_all_ways(slice_str(parts[i]));

        assert_int_equal(result.last, REPLY_MORE);
        assert_int_equal(reply_is_partial(&result.parser), parts[i][0] != '\0');
    }
}

/* A gigabyte is refused after the bound, and nothing of it is kept beyond the text's room. */
static void a23_a_line_without_end_is_refused_at_its_bound(void **state)
{
    static char bytes[BIG_BYTES];
    struct result result;

    memset(bytes, 'x', sizeof(bytes));
    memcpy(bytes, "250 ", 4);
    result = feed_all_ways(slice_of(bytes, REPLY_LINE_BYTES_MAX));
    assert_int_equal(result.last, REPLY_MORE);
    result = feed_all_ways(slice_of(bytes, sizeof(bytes)));
    assert_int_equal(result.last, REPLY_BAD);
    assert_int_equal(result.parser.fault, REPLY_FAULT_LINE);
    assert_true(result.parser.text_bytes <= VERDICT_TEXT_MAX);
    /* The bound is exact: with its line end at the last place the line is fine. */
    bytes[REPLY_LINE_BYTES_MAX] = '\n';
    result = feed_all_ways(slice_of(bytes, REPLY_LINE_BYTES_MAX + 1));
    assert_int_equal(result.last, REPLY_DONE);
    assert_int_equal(result.parser.text_bytes, VERDICT_TEXT_MAX);
}

static void a23_lines_without_end_are_refused_at_their_bound(void **state)
{
    static char bytes[BIG_BYTES];
    size_t len = 0;
    struct result result;

    while (len + 8 < sizeof(bytes))
        len += (size_t)sprintf(bytes + len, "250-a\r\n");
    result = feed_all_ways(slice_of(bytes, len));
    assert_int_equal(result.last, REPLY_BAD);
    assert_int_equal(result.parser.fault, REPLY_FAULT_ENDLESS);
    assert_int_equal(result.parser.line_count, REPLY_LINE_COUNT_MAX);
    /* Few but long lines meet the other bound. */
    for (len = 0; len + 1002 < sizeof(bytes); len += 1002) {
        memset(bytes + len, 'y', 1002);
        memcpy(bytes + len, "250-", 4);
        memcpy(bytes + len + 1000, "\r\n", 2);
    }
    result = feed_all_ways(slice_of(bytes, len));
    assert_int_equal(result.last, REPLY_BAD);
    assert_int_equal(result.parser.fault, REPLY_FAULT_ENDLESS);
    assert_true(result.parser.reply_bytes <= REPLY_BYTES_MAX);
}

static void long_text_is_cut_and_lines_can_be_forgotten(void **state)
{
    char bytes[4 * 300 + 1];
    struct reply_parser parser;
    size_t at = 0;
    size_t used = 0;

    for (unsigned i = 0; i < 4; i++) {
        memset(bytes + i * 300, 'a' + (int)i, 300);
        memcpy(bytes + i * 300, i < 3 ? "250-" : "250 ", 4);
        memcpy(bytes + i * 300 + 298, "\r\n", 2);
    }
    reply_start(&parser);
    for (unsigned i = 0; i < 4; i++) {
        enum reply_event event = reply_feed(&parser, (uint8_t *)bytes + at, 1200 - at, &used);

        assert_int_equal(event, i < 3 ? REPLY_LINE : REPLY_DONE);
        at += used;
        assert_int_equal(parser.text_bytes, i == 0 ? 298 : 512);
        assert_int_equal(reply_line(&parser).len, i == 0 ? 294 : (i == 1 ? 512 - 299 - 4 : 0));
    }
    reply_start(&parser);
    at = 0;
    for (unsigned i = 0; i < 4; i++) {
        reply_feed(&parser, (uint8_t *)bytes + at, 1200 - at, &used);
        at += used;
        assert_int_equal(reply_line(&parser).len, 294);
        assert_int_equal(reply_line(&parser).data[0], 'a' + i);
        reply_forget_text(&parser);
    }
}

struct enhanced {
    const char *text;
    uint16_t code;
    uint8_t expect[3];
};

static const struct enhanced enhanced[] = {
    {"5.1.1 no", 550, {5, 1, 1}},
    {"5.1.1", 550, {5, 1, 1}},
    {"5.7.515 Access denied", 550, {5, 7, 255}}, /* capped */
    {"4.7.0 [TSS04]", 421, {4, 7, 0}},
    {"#5.1.0 Address rejected", 550, {5, 1, 0}},
    {"5.1.1: no", 550, {5, 1, 1}},
    {"5.1.1<x@y>", 550, {5, 1, 1}},
    /* A24: the basic code decides; Gmail documents the first of these. */
    {"5.7.32 rate", 421, {0, 0, 0}},
    {"4.2.1 rate", 550, {0, 0, 0}},
    {"2.0.0 ok", 550, {0, 0, 0}},
    {"5.0.0 no", 250, {0, 0, 0}},
    {"5.1.1.1 an address", 550, {0, 0, 0}},
    {"5.1.1a", 550, {0, 0, 0}},
    {"5.1.1111", 550, {0, 0, 0}},
    {"5.1", 550, {0, 0, 0}},
    {"5.1.", 550, {0, 0, 0}},
    {"5..1", 550, {0, 0, 0}},
    {"5", 550, {0, 0, 0}},
    {"5 1 1", 550, {0, 0, 0}},
    {"x5.1.1", 550, {0, 0, 0}},
    {" 5.1.1", 550, {0, 0, 0}},
    {"50.1.1", 550, {0, 0, 0}},
    {"#", 550, {0, 0, 0}},
    {"", 550, {0, 0, 0}},
};

static void a24_enhanced_codes_that_disagree_are_dropped(void **state)
{
    for (size_t i = 0; i < sizeof(enhanced) / sizeof(enhanced[0]); i++) {
        uint8_t found[3] = {9, 9, 9};
        /* A copy of exactly this length, so that reading behind it is seen. */
        size_t len = strlen(enhanced[i].text);
        uint8_t *copy = malloc(len + (len == 0));
        bool is_found;

        memcpy(copy, enhanced[i].text, len);
        is_found = reply_enhanced(slice_of(copy, len), enhanced[i].code, found);
        free(copy);
        assert_memory_equal(found, enhanced[i].expect, 3);
        assert_int_equal(is_found, enhanced[i].expect[0] != 0);
    }
}

static void a24_the_basic_code_decides_the_class(void **state)
{
    static const struct {
        const char *bytes;
        enum verdict_class class;
    } rows[] = {
        {"421 5.7.32 later\r\n", VERDICT_TRANSIENT},
        {"550 4.2.1 never\r\n", VERDICT_PERMANENT},
        {"250 5.0.0 fine\r\n", VERDICT_SUCCESS},
        {"354 go\r\n", VERDICT_SUCCESS},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct result result = feed(slice_str(rows[i].bytes), 0);
        struct verdict verdict;

        reply_to_verdict(&result.parser, VERDICT_RECIPIENT, VERDICT_AT_RCPT, &verdict);
        assert_int_equal(verdict.class, rows[i].class);
        assert_int_equal(verdict.enhanced[0], 0);
    }
}

static void local_verdicts_hold_their_bound(void **state)
{
    static const uint8_t enhanced_code[3] = {5, 3, 4};
    char text[2000];
    struct verdict verdict;

    memset(text, 'z', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    verdict_set_local(&verdict, VERDICT_MESSAGE, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 552,
                      enhanced_code, "%s", text);
    assert_int_equal(verdict.text_bytes, VERDICT_TEXT_MAX);
    assert_memory_equal(verdict.text, "552 5.3.4 zzz", 13);
    assert_int_equal(verdict.flags, 0);
    verdict_set_local(&verdict, VERDICT_HOST, VERDICT_TRANSIENT, VERDICT_AT_CONNECT, 421,
                      enhanced_code, "%s %d", "x", 7);
    assert_true(slice_equal(verdict_text(&verdict), slice_str("421 5.3.4 x 7")));
    assert_string_equal(verdict_stage_text(VERDICT_AT_DOT), "end of message");
}

/* The fuzzer's corpus: whatever it holds, cutting it makes no difference. */
static void fuzz_corpus_gives_one_result_per_reply(void **state)
{
    DIR *folder = opendir(REPLY_CORPUS);
    unsigned count = 0;

    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        static uint8_t bytes[1 << 16];
        char path[1024];
        FILE *file;
        size_t len;

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", REPLY_CORPUS, entry->d_name);
        file = fopen(path, "rb");
        assert_non_null(file);
        len = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        feed_all_ways(slice_of(bytes, len));
        count++;
    }
    closedir(folder);
    assert_true(count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_replies_in_any_segmentation),
        cmocka_unit_test(a23_broken_replies_are_bad_in_any_segmentation),
        cmocka_unit_test(a23_incomplete_replies_wait),
        cmocka_unit_test(a23_a_line_without_end_is_refused_at_its_bound),
        cmocka_unit_test(a23_lines_without_end_are_refused_at_their_bound),
        cmocka_unit_test(long_text_is_cut_and_lines_can_be_forgotten),
        cmocka_unit_test(a24_enhanced_codes_that_disagree_are_dropped),
        cmocka_unit_test(a24_the_basic_code_decides_the_class),
        cmocka_unit_test(local_verdicts_hold_their_bound),
        cmocka_unit_test(fuzz_corpus_gives_one_result_per_reply),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
