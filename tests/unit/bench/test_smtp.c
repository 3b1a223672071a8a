#include "bench/smtp.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

static void verbs(void **state)
{
    static const struct {
        const char *line;
        enum smtp_verb verb;
    } cases[] = {
        {"MAIL FROM:<a@b>", SMTP_MAIL}, {"rcpt to:<a@b>", SMTP_RCPT}, {"DaTa", SMTP_DATA},
        {"BDAT 10 LAST", SMTP_BDAT},    {"QUIT", SMTP_QUIT},          {"EHLO x", SMTP_EHLO},
        {"HELO x", SMTP_HELO},          {"NOOP", SMTP_NOOP},          {"RSET", SMTP_RSET},
        {"DATAX", SMTP_UNKNOWN},        {"DAT", SMTP_UNKNOWN},        {"", SMTP_UNKNOWN},
        {"\r\n.\r\n", SMTP_UNKNOWN},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(smtp_verb_of(slice_str(cases[i].line)), cases[i].verb);
    assert_true(
        slice_equal(smtp_path_of(slice_str("RCPT TO:<a@b> NOTIFY=NEVER")), SLICE_LITERAL("a@b")));
    assert_int_equal(smtp_path_of(slice_str("MAIL FROM:<>")).len, 0);
    assert_int_equal(smtp_path_of(slice_str("MAIL FROM:a@b")).len, 0);
}

/* Every cut of a text gives the same lines. */
static void lines_in_any_pieces(void **state)
{
    static const char text[] = "one\r\n\r\ntwo\nthree\r\nfour";
    static const char *const wanted[] = {"one", "", "two", "three"};

    for (size_t cut = 0; cut <= strlen(text); cut++) {
        struct smtp_lines lines = {0};
        struct slice parts[2] = {{(const uint8_t *)text, cut},
                                 {(const uint8_t *)text + cut, strlen(text) - cut}};
        struct slice line;
        size_t count = 0;

        for (int part = 0; part < 2; part++) {
            while (smtp_next_line(&lines, &parts[part], &line)) {
                assert_true(count < 4);
                assert_true(slice_equal(line, slice_str(wanted[count])));
                count++;
            }
        }
        assert_int_equal(count, 4);
        assert_int_equal(lines.kept, 4);
    }
}

static void long_lines_are_cut(void **state)
{
    static char text[5000];
    struct smtp_lines lines = {0};
    struct slice rest;
    struct slice line;

    memset(text, 'x', sizeof(text));
    for (int i = 0; i < 3; i++) {
        rest = slice_of(text, sizeof(text));
        assert_false(smtp_next_line(&lines, &rest, &line));
    }
    rest = SLICE_LITERAL("y\r\nnext\r\n");
    assert_true(smtp_next_line(&lines, &rest, &line));
    assert_int_equal(line.len, SMTP_LINE_MAX);
    assert_true(smtp_next_line(&lines, &rest, &line));
    assert_true(slice_equal(line, SLICE_LITERAL("next")));
}

/* The content of a stuffed stream, taken in two pieces; returns how many octets it had. */
static size_t read_data(const char *wire, size_t len, size_t cut, char *room, size_t *ret_used)
{
    struct slice parts[2] = {{(const uint8_t *)wire, cut},
                             {(const uint8_t *)wire + cut, len - cut}};
    struct smtp_data data;
    size_t used = 0;

    smtp_data_init(&data);
    for (int part = 0; part < 2; part++) {
        while (parts[part].len > 0) {
            struct slice span;
            enum smtp_data_answer answer = smtp_data_next(&data, &parts[part], &span);

            memcpy(room + used, span.data, span.len);
            used += span.len;
            if (answer == SMTP_DATA_END) {
                *ret_used = len - parts[part].len - (part == 0 ? len - cut : 0);
                return used;
            }
        }
    }
    *ret_used = 0;
    return used;
}

static void data_ends_where_it_should(void **state)
{
    static const struct {
        const char *wire;
        const char *content;
        bool ends;
    } cases[] = {
        {"a\r\n.\r\n", "a\r\n", true},
        {".\r\n", "", true},
        {"..\r\n.\r\n", ".\r\n", true},
        {".a\r\n.\r\n", "a\r\n", true},
        {"a\n.\r\nb\r\n.\r\n", "a\n.\r\nb\r\n", true},
        {"a\r\n.\nb\r\n.\r\n", "a\r\n\nb\r\n", true},
        {"a\r\n.\r\r\n.\r\n", "a\r\n\r\r\n", true},
        {"a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n", true},
        {"a\r.\r\n.\r\n", "a\r.\r\n", true},
        {"\r\n\r\n.\r\n", "\r\n\r\n", true},
        {"a\r\n...\r\n.\r\n", "a\r\n..\r\n", true},
        {"a.\r\n", "a.\r\n", false},
        {"a\r\n.", "a\r\n", false},
        {"a\n.\n", "a\n.\n", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = strlen(cases[i].wire);

        for (size_t cut = 0; cut <= len; cut++) {
            char room[64];
            size_t used;
            size_t got = read_data(cases[i].wire, len, cut, room, &used);

            assert_int_equal(got, strlen(cases[i].content));
            assert_memory_equal(room, cases[i].content, got);
            assert_int_equal(used, cases[i].ends ? len : 0);
        }
    }
}

/* Random texts of the four octets that matter, stuffed as RFC 5321 says, come back as they were. */
static void stuffed_texts_come_back(void **state)
{
    static const char octets[] = {'\r', '\n', '.', 'x'};
    struct rng rng;

    rng_init(&rng, 5);
    for (int round = 0; round < 20000; round++) {
        char content[32];
        char wire[80];
        char room[80];
        size_t len = rng_below(&rng, 20);
        size_t wire_len = 0;
        size_t used;
        bool line_start = true;

        for (size_t i = 0; i < len; i++)
            content[i] = octets[rng_below(&rng, 4)];
        memcpy(content + len, "\r\n", 2);
        len += 2;
        for (size_t i = 0; i < len; i++) {
            if (line_start && content[i] == '.')
                wire[wire_len++] = '.';
            wire[wire_len++] = content[i];
            line_start = i > 0 && content[i - 1] == '\r' && content[i] == '\n';
        }
        memcpy(wire + wire_len, ".\r\n", 3);
        wire_len += 3;
        assert_int_equal(read_data(wire, wire_len, rng_below(&rng, wire_len + 1), room, &used),
                         len);
        assert_memory_equal(room, content, len);
        assert_int_equal(used, wire_len);
    }
}

static void text_without_formats(void **state)
{
    char room[64];
    struct smtp_text text = {room, room + sizeof(room), false};

    smtp_put_u64(&text, 0);
    smtp_put_str(&text, " ");
    smtp_put_u64(&text, UINT64_MAX);
    smtp_put_literal(&text, " ");
    smtp_put_hex32(&text, 0x12abc);
    assert_false(text.failed);
    assert_int_equal(text.at - room, 31);
    assert_memory_equal(room, "0 18446744073709551615 00012abc", 31);
    for (int i = 0; i < 10; i++)
        smtp_put_hex32(&text, 1);
    assert_true(text.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verbs),
        cmocka_unit_test(lines_in_any_pieces),
        cmocka_unit_test(long_lines_are_cut),
        cmocka_unit_test(data_ends_where_it_should),
        cmocka_unit_test(stuffed_texts_come_back),
        cmocka_unit_test(text_without_formats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
