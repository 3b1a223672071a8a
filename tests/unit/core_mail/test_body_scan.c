/*
 * body_scan against a plain model of the same rules that sees all octets at once, in random
 * segmentations. Built three times: with AVX2, with SSE2, and in portable C.
 */
#include "tests/unit/core_base/unit.h"

#include "core/base/rng.h"
#include "core/mail/body_scan.h"
#include "tests/fuzz/replay.h"

#include <stdio.h>
#include <string.h>

#define ROOM 8192

/* ---- The model ------------------------------------------------------------------------------- */

struct outcome {
    uint8_t stored[4 * ROOM];
    size_t stored_bytes;
    size_t used;
    uint32_t stuffed_dots;
    unsigned findings;
    bool ended;
};

static bool has_crlf_at(const uint8_t *data, size_t len, size_t at)
{
    return at + 1 < len && data[at] == '\r' && data[at + 1] == '\n';
}

/* Where "CRLF . CRLF" stands, taking the start of the data for a line's start. */
static bool find_end(const uint8_t *data, size_t len, size_t *ret_at)
{
    for (size_t at = 0; at + 2 < len; at++) {
        if (data[at] == '.' && has_crlf_at(data, len, at + 1) &&
            (at == 0 || (at >= 2 && has_crlf_at(data, len, at - 2)))) {
            *ret_at = at;
            return true;
        }
    }
    return false;
}

static void put(struct outcome *out, uint8_t octet)
{
    out->stored[out->stored_bytes++] = octet;
}

static bool is_bare(const uint8_t *data, size_t len, size_t at)
{
    if (data[at] == '\r')
        return !has_crlf_at(data, len, at);
    return data[at] == '\n' && (at == 0 || data[at - 1] != '\r');
}

/* Text in front of the end, octet by octet. */
static void model_text(const uint8_t *data, size_t len, unsigned flags, struct outcome *out)
{
    bool repair = (flags & BODY_SCAN_REPAIR) != 0;
    bool at_start = true;
    bool was_stuffed = (flags & BODY_SCAN_RAW) == 0;

    for (size_t at = 0; at < len; at++) {
        uint8_t octet = data[at];

        out->findings |= octet >= 0x80 ? BODY_8BIT : 0;
        out->findings |= octet == 0 ? BODY_NUL : 0;
        if (is_bare(data, len, at)) {
            out->findings |= octet == '\r' ? BODY_BARE_CR : BODY_BARE_LF;
            if (!repair) {
                put(out, octet);
                at_start = false;
                continue;
            }
            put(out, '\r');
            put(out, '\n');
            at_start = true;
            was_stuffed = false;
            continue;
        }
        if (at_start && octet == '.') {
            bool lonely = repair && at + 1 < len && is_bare(data, len, at + 1);

            out->stuffed_dots++;
            if (!was_stuffed || lonely)
                put(out, '.');
        }
        put(out, repair && octet == 0 ? ' ' : octet);
        at_start = octet == '\n';
        was_stuffed = (flags & BODY_SCAN_RAW) == 0;
    }
}

/* Lines of the stored form without stuffed dots, compared with the limit. */
static void model_lines(struct outcome *out, uint32_t line_octets_max)
{
    size_t start = 0;

    for (size_t at = 0; at < out->stored_bytes; at++) {
        size_t length = at + 1 - start;

        length -= out->stored[start] == '.';
        if (length > line_octets_max)
            out->findings |= BODY_LONG_LINE;
        if (out->stored[at] == '\n')
            start = at + 1;
    }
}

static void model(const uint8_t *data, size_t len, unsigned flags, uint32_t line_octets_max,
                  struct outcome *out)
{
    size_t text = len;

    *out = (struct outcome){0};
    if ((flags & BODY_SCAN_RAW) == 0) {
        out->ended = find_end(data, len, &text);
        assert_true(out->ended);
        out->used = text + 3;
    } else {
        out->used = len;
    }
    model_text(data, text, flags, out);
    if ((flags & BODY_SCAN_RAW) != 0 && out->stored_bytes > 0 &&
        (out->stored_bytes < 2 || memcmp(out->stored + out->stored_bytes - 2, "\r\n", 2) != 0)) {
        if (out->stored[out->stored_bytes - 1] == '\r')
            out->stored_bytes--;
        put(out, '\r');
        put(out, '\n');
    }
    model_lines(out, line_octets_max);
}

/* ---- The real one ---------------------------------------------------------------------------- */

/* Spans end at random places; each lies in memory of its own, so that a sanitizer sees its end. */
static void scan_cut(const uint8_t *data, size_t len, unsigned flags, uint32_t line_octets_max,
                     struct rng *rng, uint64_t span_max, struct outcome *out)
{
    struct body_scan scan;
    struct slice piece;

    *out = (struct outcome){0};
    body_scan_init(&scan, flags, line_octets_max);
    while (out->used < len && !scan.ended) {
        size_t rest = len - out->used;
        size_t span = rng != NULL ? rng_between(rng, 1, span_max) : rest;
        uint8_t *copy;

        span = span < rest ? span : rest;
        copy = malloc(span);
        memcpy(copy, data + out->used, span);
        for (size_t at = 0; at < span && !scan.ended;) {
            size_t used = body_scan_next(&scan, copy + at, span - at, &piece);

            assert_true(used <= span - at && (used > 0 || piece.len > 0));
            memcpy(out->stored + out->stored_bytes, piece.data, piece.len);
            out->stored_bytes += piece.len;
            at += used;
            out->used += used;
        }
        free(copy);
    }
    if ((flags & BODY_SCAN_RAW) != 0) {
        body_scan_finish(&scan, &piece);
        memcpy(out->stored + out->stored_bytes, piece.data, piece.len);
        out->stored_bytes += piece.len;
    }
    assert_int_equal(scan.stored_octets, out->stored_bytes);
    assert_int_equal(body_scan_content_octets(&scan), out->stored_bytes - scan.stuffed_dots);
    out->ended = scan.ended;
    out->stuffed_dots = scan.stuffed_dots;
    out->findings = scan.findings;
}

static void expect_equal(const struct outcome *is, const struct outcome *should, unsigned flags)
{
    unsigned bad = BODY_BARE_CR | BODY_BARE_LF | BODY_NUL;
    unsigned ignored = 0;

    /* Without repair the lengths of broken lines mean nothing. */
    if ((flags & BODY_SCAN_REPAIR) == 0 && (should->findings & bad) != 0)
        ignored = BODY_LONG_LINE;
    assert_int_equal(is->findings & ~ignored, should->findings & ~ignored);
    assert_int_equal(is->ended, should->ended);
    assert_int_equal(is->used, should->used);
    if (ignored != 0)
        return;
    assert_int_equal(is->stored_bytes, should->stored_bytes);
    assert_memory_equal(is->stored, should->stored, should->stored_bytes);
    assert_int_equal(is->stuffed_dots, should->stuffed_dots);
}

static void compare(const uint8_t *data, size_t len, uint32_t line_octets_max, struct rng *rng)
{
    static struct outcome should;
    static struct outcome is;

    for (unsigned flags = 0; flags < 4; flags++) {
        model(data, len, flags, line_octets_max, &should);
        scan_cut(data, len, flags, line_octets_max, NULL, 0, &is);
        expect_equal(&is, &should, flags);
        for (unsigned round = 0; round < 4; round++) {
            scan_cut(data, len, flags, line_octets_max, rng, 1 + rng_below(rng, 200), &is);
            expect_equal(&is, &should, flags);
        }
    }
}

static void random_octets_in_any_segmentation_agree_with_the_model(void **state)
{
    static const uint8_t hostile[] = {'\r', '\n', '.', 0, 'a', 0x80};
    static const char *const words[] = {"\r\n", "\r\n.",      "\r\n.\r\n", "\n.\n",
                                        ".",    "text ",      "\r",        "\n.\r\n",
                                        "\r\n", "0123456789", "\r\n..",    "\0"};
    struct rng rng;
    uint8_t data[ROOM];

    rng_init(&rng, 20260101);
    for (unsigned round = 0; round < 30000; round++) {
        size_t want = rng_below(&rng, round % 10 == 0 ? 1500 : 40);
        size_t len = 0;

        while (len < want) {
            if (round % 2 == 0) {
                data[len++] = hostile[rng_below(&rng, sizeof(hostile))];
            } else {
                const char *word = words[rng_below(&rng, sizeof(words) / sizeof(words[0]))];
                size_t bytes = *word == '\0' ? 1 : strlen(word);

                memcpy(data + len, word, bytes);
                len += bytes;
            }
        }
        memcpy(data + len, "\r\n.\r\nQUIT\r\n", 11);
        compare(data, len + 11, 64, &rng);
    }
}

/* Lines around the limit, with and without a dot in front and a NUL inside, ending anywhere in a
 * block. */
static void a14_line_length_is_exact(void **state)
{
    struct rng rng;
    uint8_t data[ROOM];

    rng_init(&rng, 14);
    for (unsigned before = 0; before < 70; before += 3) {
        for (unsigned length = 150; length < 165; length++) {
            for (unsigned kind = 0; kind < 4; kind++) {
                size_t len = before;

                memset(data, 'x', sizeof(data));
                memcpy(data + len, "\r\n", 2);
                len += 2;
                if (kind & 1)
                    data[len++] = '.';
                if (kind & 2)
                    data[len + rng_below(&rng, length)] = 0;
                len += length;
                memcpy(data + len, "\r\nshort\r\n.\r\n", 12);
                compare(data, len + 12, 160, &rng);
            }
        }
    }
}

static void limit_of_1000_counts_crlf_but_no_stuffed_dot(void **state)
{
    static const struct {
        unsigned text;
        bool dotted;
        bool is_long;
    } rows[] = {{998, false, false}, {999, false, true}, {998, true, false}, {999, true, true}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct outcome out;
        uint8_t data[2048];
        size_t len = 0;

        memcpy(data, "a\r\n", 3);
        len = 3;
        if (rows[i].dotted)
            data[len++] = '.';
        memset(data + len, 'x', rows[i].text);
        len += rows[i].text;
        memcpy(data + len, "\r\n.\r\n", 5);
        scan_cut(data, len + 5, 0, 1000, NULL, 0, &out);
        assert_true(out.ended);
        assert_int_equal((out.findings & BODY_LONG_LINE) != 0, rows[i].is_long);
    }
}

/* ---- What must hold whatever the model says -------------------------------------------------- */

/* The sequences of smtpsmug and of the end-of-data study; none is CRLF.CRLF. */
static const char *const smuggling[] = {
    "\n.\n",         "\n.\r\n",     "\r.\r",      "\r.\r\n",    "\r\n.\n",     "\r\n.\r",
    "\n.\r",         "\r.\n",       "\n\n.\r\n",  "\r\r.\r\n",  "\n\r.\r\n",   "\r\n.\r\r\n",
    "\r\r\n.\r\r\n", "\r\n\\.\r\n", "\r\n..\r\n", "\r\n. \r\n", "\r\n.\t\r\n",
};

static void a02_only_crlf_dot_crlf_ends_the_data(void **state)
{
    for (size_t i = 0; i < sizeof(smuggling) / sizeof(smuggling[0]); i++) {
        for (unsigned repair = 0; repair < 2; repair++) {
            static struct outcome out;
            char data[256];
            int len = snprintf(data, sizeof(data), "first%sMAIL FROM:<a@b>\r\n", smuggling[i]);

            scan_cut((const uint8_t *)data, (size_t)len, repair ? BODY_SCAN_REPAIR : 0, 1000, NULL,
                     0, &out);
            assert_false(out.ended);
            assert_int_equal(out.used, len);
        }
    }
}

/* What a receiver makes of the stored form: its lines, and no end before the end. */
static void expect_clean(const struct outcome *out)
{
    for (size_t at = 0; at < out->stored_bytes; at++) {
        assert_false(is_bare(out->stored, out->stored_bytes, at));
        assert_int_not_equal(out->stored[at], 0);
        if (out->stored[at] == '.' && (at == 0 || out->stored[at - 1] == '\n'))
            assert_false(has_crlf_at(out->stored, out->stored_bytes, at + 1));
    }
    assert_true(out->stored_bytes == 0 || out->stored[out->stored_bytes - 1] == '\n');
}

static void a03_repaired_data_is_crlf_lines_without_an_early_end(void **state)
{
    static const uint8_t hostile[] = {'\r', '\n', '.', '.', 0, 'a'};
    struct rng rng;

    rng_init(&rng, 3);
    for (unsigned round = 0; round < 100000; round++) {
        static struct outcome out;
        uint8_t data[48];
        size_t len = rng_below(&rng, 40);
        unsigned flags = BODY_SCAN_REPAIR | (round % 2 ? BODY_SCAN_RAW : 0);

        for (size_t i = 0; i < len; i++)
            data[i] = hostile[rng_below(&rng, sizeof(hostile))];
        if (round % 2 == 0) {
            memcpy(data + len, "\r\n.\r\n", 5);
            len += 5;
        }
        scan_cut(data, len, flags, 1000, &rng, 7, &out);
        expect_clean(&out);
    }
}

static void a03_raw_input_is_stuffed_and_gets_its_last_line_end(void **state)
{
    static const struct {
        const char *raw;
        const char *stored;
        uint32_t dots;
    } rows[] = {
        {"", "", 0},
        {".", "..\r\n", 1},
        {".\r\n", "..\r\n", 1},
        {"a\r\n.\r\nb", "a\r\n..\r\nb\r\n", 1},
        {"..\r\n", "...\r\n", 1},
        {"a\r\n", "a\r\n", 0},
        {"a.\r\n", "a.\r\n", 0},
        {".\r\n.\r\n", "..\r\n..\r\n", 2},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct outcome out;

        scan_cut((const uint8_t *)rows[i].raw, strlen(rows[i].raw), BODY_SCAN_RAW, 1000, NULL, 0,
                 &out);
        assert_int_equal(out.stored_bytes, strlen(rows[i].stored));
        assert_memory_equal(out.stored, rows[i].stored, out.stored_bytes);
        assert_int_equal(out.stuffed_dots, rows[i].dots);
        assert_int_equal(out.findings, 0);
    }
}

static void an_empty_message_ends_at_once(void **state)
{
    static struct outcome out;

    scan_cut((const uint8_t *)".\r\nNOOP\r\n", 9, 0, 1000, NULL, 0, &out);
    assert_true(out.ended);
    assert_int_equal(out.used, 3);
    assert_int_equal(out.stored_bytes, 0);
}

/* Ordinary text passes as one piece that is the input itself. */
static void clean_text_is_not_copied(void **state)
{
    uint8_t data[4096];
    struct body_scan scan;
    struct slice piece;
    size_t len = 0;

    while (len + 80 < sizeof(data)) {
        memset(data + len, 'x', 76);
        memcpy(data + len + 76, "\r\n", 2);
        len += 78;
    }
    memcpy(data + len, ".\r\n", 3);
    body_scan_init(&scan, 0, 1000);
    assert_int_equal(body_scan_next(&scan, data, len + 3, &piece), len + 1);
    assert_ptr_equal(piece.data, data);
    assert_int_equal(piece.len, len);
}

static void fuzz_corpus_is_replayed(void **state)
{
    assert_true(replay_corpus(BODY_SCAN_CORPUS) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_octets_in_any_segmentation_agree_with_the_model),
        cmocka_unit_test(a14_line_length_is_exact),
        cmocka_unit_test(limit_of_1000_counts_crlf_but_no_stuffed_dot),
        cmocka_unit_test(a02_only_crlf_dot_crlf_ends_the_data),
        cmocka_unit_test(a03_repaired_data_is_crlf_lines_without_an_early_end),
        cmocka_unit_test(a03_raw_input_is_stuffed_and_gets_its_last_line_end),
        cmocka_unit_test(an_empty_message_ends_at_once),
        cmocka_unit_test(clean_text_is_not_copied),
        cmocka_unit_test(fuzz_corpus_is_replayed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
