/* What daemon and helper say to each other about policies and reports: read in any pieces, and
 * nothing else taken for it. */
#include "net/sts_wire.h"

#include "core/base/err.h"
#include "tests/fuzz/replay.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static struct sts_wire_reader reader;

static struct sts_wire_request_reader requests;

static void requests_come_in_pieces(void **state)
{
    char text[2000], name[STS_WIRE_LINE_MAX];
    struct slice uri = SLICE_LITERAL("https://reports.example.com:8443/a?b=c");
    size_t len = sts_wire_print_request(7, SLICE_LITERAL("a-1.Example"), text);

    len += sts_wire_print_report_head(8, uri, 9, text + len);
    memcpy(text + len, "9 a\n\0\x1f\x8b .", 9);
    len += 9;
    len += sts_wire_print_report_head(UINT32_MAX, uri, 0, text + len);
    len += sts_wire_print_request(0, SLICE_LITERAL("report"), text + len);
    for (size_t piece = 1; piece <= len; piece++) {
        unsigned count = 0;

        requests = (struct sts_wire_request_reader){0};
        for (size_t at = 0; at < len; at += piece) {
            struct slice octets = slice_of(text + at, len - at < piece ? len - at : piece);

            while (sts_wire_read_request(&requests, &octets) > 0) {
                static const uint32_t numbers[] = {7, 8, UINT32_MAX, 0};
                static const char *const domains[] = {"a-1.Example", "", "", "report"};
                const struct sts_wire_request *request = &requests.request;
                bool is_report = count == 1 || count == 2;

                assert_true(count < 4);
                assert_int_equal(request->number, numbers[count]);
                assert_true(slice_equal(request->domain, slice_str(domains[count])));
                assert_true(slice_equal(request->uri, is_report ? uri : SLICE_EMPTY));
                assert_int_equal(request->report.len, count == 1 ? 9 : 0);
                if (count == 1)
                    assert_memory_equal(request->report.data, "9 a\n\0\x1f\x8b .", 9);
                count++;
            }
            assert_int_equal(octets.len, 0);
        }
        assert_int_equal(count, 4);
    }
    memset(name, 'a', sizeof(name));
    assert_true(sts_wire_is_name(slice_of(name, STS_WIRE_DOMAIN_MAX)));
    assert_false(sts_wire_is_name(slice_of(name, STS_WIRE_DOMAIN_MAX + 1)));
}

static void what_is_no_request_ends_the_talk(void **state)
{
    static const char *const bad[] = {
        "",
        "7",
        "7 ",
        "x a.example",
        "-1 a.example",
        "7 a..example",
        "7 .a",
        "7 a.",
        "7 a/b",
        "7 a b",
        "7 a:80",
        "4294967296 a",
        "7 a\tb",
        "7  a",
        "7 a.example\r",
        "7 report ",
        "7 report 5",
        "7 report 5 ",
        "7 report x https://a.b",
        "7 report -1 https://a.b",
        "7 report 65537 https://a.b",
        "7 report 5  https://a.b",
        "7 report 5 https://a.b ",
        "7 report 5 https://a.b\r",
        "7 report 5 http://a.b",
        "7 report 5 file:///etc/passwd",
        "7 report 5 https://127.0.0.1",
        "7 report 5 https://a.b https://c.d",
        "7 post 5 https://a.b",
    };
    char line[STS_WIRE_REPORT_LINE_MAX + 2];
    struct slice octets;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(line, sizeof(line), "%s\n", bad[i]);
        octets = slice_str(line);
        requests = (struct sts_wire_request_reader){0};
        if (sts_wire_read_request(&requests, &octets) != E_SYNTAX)
            fail_msg("taken: %s", bad[i]);
    }
    memset(line, '1', sizeof(line));
    octets = slice_of(line, sizeof(line));
    requests = (struct sts_wire_request_reader){0};
    assert_int_equal(sts_wire_read_request(&requests, &octets), E_SYNTAX);
}

/* The longest of each has room. */
static void bounds_hold(void **state)
{
    static char text[STS_WIRE_REPORT_LINE_MAX + STS_WIRE_REPORT_BYTES_MAX + 1];
    char uri[HTTPS_URI_MAX];
    struct slice octets;
    size_t len;

    memset(uri, 'x', sizeof(uri));
    memcpy(uri, "https://a.b/", 12);
    len = sts_wire_print_report_head(UINT32_MAX, slice_of(uri, sizeof(uri)),
                                     STS_WIRE_REPORT_BYTES_MAX, text);
    assert_true(len <= STS_WIRE_REPORT_LINE_MAX - 1 && text[len - 1] == '\n');
    octets = slice_of(text, len + STS_WIRE_REPORT_BYTES_MAX + 1);
    requests = (struct sts_wire_request_reader){0};
    assert_int_equal(sts_wire_read_request(&requests, &octets), 1);
    assert_int_equal(requests.request.report.len, STS_WIRE_REPORT_BYTES_MAX);
    assert_int_equal(octets.len, 1);
}

static void answers_come_in_pieces(void **state)
{
    static const char text[] = "1 policy 5\nhello2 unreached 0\n3 taken 2\nab";
    static const char *const texts[] = {"hello", "", "ab"};
    static const enum sts_wire_result results[] = {STS_WIRE_POLICY, STS_WIRE_UNREACHED,
                                                   STS_WIRE_TAKEN};

    for (size_t piece = 1; piece < sizeof(text); piece++) {
        unsigned count = 0;

        reader = (struct sts_wire_reader){0};
        for (size_t at = 0; at < sizeof(text) - 1; at += piece) {
            size_t len = sizeof(text) - 1 - at < piece ? sizeof(text) - 1 - at : piece;
            struct slice octets = slice_of(text + at, len);

            while (sts_wire_read(&reader, &octets) > 0) {
                assert_true(count < 3);
                assert_int_equal(reader.answer.number, count + 1);
                assert_int_equal(reader.answer.result, results[count]);
                assert_true(slice_equal(reader.answer.text, slice_str(texts[count])));
                count++;
            }
            assert_int_equal(octets.len, 0);
        }
        assert_int_equal(count, 3);
    }
}

static void what_is_no_answer_ends_the_talk(void **state)
{
    static const char *const bad[] = {
        "\n",          "1\n",          "1 policy\n",   "1 policy 65537\n",
        "1 other 5\n", "x policy 5\n", "1 policy -\n",
    };
    char line[STS_WIRE_LINE_MAX + 2];
    struct slice octets;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        octets = slice_str(bad[i]);
        reader = (struct sts_wire_reader){0};
        assert_int_equal(sts_wire_read(&reader, &octets), E_SYNTAX);
    }
    memset(line, '1', sizeof(line));
    octets = slice_of(line, sizeof(line));
    reader = (struct sts_wire_reader){0};
    assert_int_equal(sts_wire_read(&reader, &octets), E_SYNTAX);
}

static void the_corpus_holds(void **state)
{
    assert_int_equal(replay_corpus(STS_CORPUS), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_in_pieces),
        cmocka_unit_test(what_is_no_request_ends_the_talk),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(answers_come_in_pieces),
        cmocka_unit_test(what_is_no_answer_ends_the_talk),
        cmocka_unit_test(the_corpus_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
