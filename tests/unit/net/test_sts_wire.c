/* What daemon and helper say to each other about policies: read in any pieces, and nothing else
 * taken for it. */
#include "net/sts_wire.h"

#include "core/base/err.h"
#include "tests/fuzz/replay.h"
#include "tests/unit/core_base/unit.h"

static struct sts_wire_reader reader;

static void requests(void **state)
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
    };
    char line[STS_WIRE_LINE_MAX];
    struct slice domain;
    uint32_t number;
    size_t len = sts_wire_print_request(7, slice_str("a-1.Example"), line);

    assert_int_equal(line[len - 1], '\n');
    assert_true(sts_wire_parse_request(slice_of(line, len - 1), &number, &domain));
    assert_int_equal(number, 7);
    assert_true(slice_equal(domain, slice_str("a-1.Example")));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(sts_wire_parse_request(slice_str(bad[i]), &number, &domain));
}

static void answers_come_in_pieces(void **state)
{
    static const char text[] = "1 policy 5\nhello2 unreached 0\n3 unfit 2\nab";
    static const char *const texts[] = {"hello", "", "ab"};
    static const enum sts_wire_result results[] = {STS_WIRE_POLICY, STS_WIRE_UNREACHED,
                                                   STS_WIRE_UNFIT};

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
    assert_int_equal(replay_corpus(STS_CORPUS), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),
        cmocka_unit_test(answers_come_in_pieces),
        cmocka_unit_test(what_is_no_answer_ends_the_talk),
        cmocka_unit_test(the_corpus_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
