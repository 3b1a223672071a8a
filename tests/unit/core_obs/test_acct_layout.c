#include "core/obs/acct_layout.h"

#include "core/base/err.h"
#include "core/obs/noted_header.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define D_B_T (ACCT_DELIVERED | ACCT_BOUNCED | ACCT_TRANSIENT)

static struct acct_csv_layout layout;

/* Lines "fields …" and "map …", one after the other. */
static int make(unsigned kinds, const char *const *lines)
{
    struct acct_layout_draft draft;
    char why[ACCT_LAYOUT_WHY_MAX];
    int result = 0;

    acct_layout_begin(&draft, &layout, kinds, false);
    for (; *lines != NULL && result == 0; lines++) {
        struct slice line = slice_str(*lines);

        if (slice_starts_nocase(line, SLICE_LITERAL("map ")))
            result = acct_layout_map(&draft, slice_after(line, 4), why);
        else
            result = acct_layout_fields(&draft, line, why);
    }
    if (result < 0) {
        assert_true(strlen(why) > 0);
        return result;
    }
    assert_int_equal(acct_layout_user_string(&draft, SLICE_LITERAL("mta, 7")), 0);
    return acct_layout_end(&draft, why);
}

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void assert_header(const char *wanted)
{
    char room[2048];
    int len = acct_csv_header(&layout, room, sizeof(room));

    assert_true(len > 2);
    room[len - 2] = '\0';
    assert_string_equal(room, wanted);
}

static void assert_row(const struct outcome *outcome, const char *wanted)
{
    char room[ACCT_CSV_ROW_MAX];
    int len = acct_csv_row(&layout, outcome, room, sizeof(room));

    assert_true(len > 2);
    room[len - 2] = '\0';
    assert_string_equal(room, wanted);
}

static struct outcome example(uint8_t kind)
{
    return (struct outcome){
        .kind = kind,
        .logged_us = 1549662845999999,
        .queued_us = 1549662840000001,
        .first_attempt_us = 1549662841000000,
        .orig = SLICE_LITERAL("news@example.com"),
        .rcpt = SLICE_LITERAL("ann@example.net"),
        .orcpt = SLICE_LITERAL("rfc822;ann+x@example.net"),
        .status = SLICE_LITERAL("5.1.1"),
        .diag = SLICE_LITERAL("550 <Ann@example.net> is not ann@example.net"),
        .vmta = SLICE_LITERAL("mta1"),
        .job_id = SLICE_LITERAL("job7"),
        .queue = SLICE_LITERAL("example.net/mta1"),
    };
}

static void columns_as_listed(void **state)
{
    assert_int_equal(make(D_B_T, LINES("d,b rcpt,queue userString", "t rcpt")), 0);
    assert_header("type,rcpt,queue,userString");
    struct outcome outcome = example(OUTCOME_BOUNCED);
    assert_row(&outcome, "b,ann@example.net,example.net/mta1,\"mta, 7\"");
    outcome.kind = OUTCOME_TRANSIENT;
    assert_row(&outcome, "t,ann@example.net,,");
}

static void a_star_and_what_is_taken_away(void **state)
{
    assert_int_equal(make(ACCT_DELIVERED, LINES("delivery *,!orcpt,!dsnDiag,!type,!dlvTlsCipher,"
                                                "totalSecondsQueued,HEADER_Subject")),
                     0);
    assert_header("type,timeLogged,timeQueued,orig,rcpt,dsnAction,dsnStatus,dsnMta,bounceCat,"
                  "srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,"
                  "vmta,jobId,envId,queue,vmtaPool,totalSecondsQueued,header_Subject");
    /* Further lines of a kind go on where the first one ended. */
    assert_int_equal(make(ACCT_DELIVERED, LINES("d rcpt", "d orig,!rcpt", "d \"orig, vmta\"")), 0);
    assert_header("type,orig,vmta");
}

static void a_mixed_file_has_the_first_kinds_columns_first(void **state)
{
    struct outcome outcome = example(OUTCOME_RECEIVED);

    assert_int_equal(make(ACCT_DELIVERED | ACCT_RECEIVED,
                          LINES("r vmta,rcvSourceIp,rcpt", "d rcpt,vmta,timeFirstAttempt")),
                     0);
    assert_header("type,rcpt,vmta,timeFirstAttempt,rcvSourceIp");
    assert_row(&outcome, "r,ann@example.net,mta1,,");
    outcome.kind = OUTCOME_DELIVERED;
    assert_row(&outcome, "d,ann@example.net,mta1,1549662841,");
    outcome.first_attempt_us = 0;
    assert_row(&outcome, "d,ann@example.net,mta1,,");
}

static void bad_lines_are_refused(void **state)
{
    assert_int_equal(make(D_B_T, LINES("d nonsense")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("p rcpt")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("d rcvSourceIp")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("r queue")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("d header_")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("d header_*")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("map d rcpt jobId")), E_SYNTAX);
    assert_int_equal(make(D_B_T, LINES("map d header_X-Job type")), E_SYNTAX);
    /* Kinds without records yet: nothing to check against. */
    assert_int_equal(make(D_B_T, LINES("f *,header_X,arf_Y", "map rb header_A whatever")), 0);
}

static void too_much_is_refused(void **state)
{
    static char line[8192];

    strcpy(line, "d *");
    for (int i = 0; i < 60; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), ",header_X%d", i);
    assert_int_equal(make(D_B_T, LINES(line)), E_FULL);
    strcpy(line, "d header_");
    memset(line + strlen(line), 'x', 200);
    for (int i = 0; i < 12; i++)
        snprintf(line + strlen(line), sizeof(line) - strlen(line), "%d,header_%0200d", i, i);
    assert_int_equal(make(D_B_T, LINES(line)), E_TOO_LONG);
}

static void headers_are_quoted(void **state)
{
    struct outcome outcome = example(OUTCOME_DELIVERED);
    uint8_t noted[OUTCOME_HEADERS_MAX];
    struct slice name;
    struct wire_writer w;

    wire_writer_init(&w, noted, sizeof(noted));
    noted_header_put(&w, SLICE_LITERAL("subject"), SLICE_LITERAL("one,\r\n\ttwo"));
    noted_header_put(&w, SLICE_LITERAL("X-Campaign"), SLICE_LITERAL("c7"));
    outcome.headers = slice_of(noted, wire_written(&w));
    assert_int_equal(
        make(ACCT_DELIVERED | ACCT_TRANSIENT,
             LINES("d,t rcpt,header_Subject,header_X-Other,jobId", "map d header_X-None jobId",
                   "map d header_x-campaign jobId", "map d header_Subject jobId")),
        0);
    assert_row(&outcome, "d,ann@example.net,\"one, two\",,c7");
    outcome.kind = OUTCOME_TRANSIENT;
    assert_row(&outcome, "t,ann@example.net,\"one, two\",,job7");
    outcome.kind = OUTCOME_DELIVERED;
    outcome.headers = SLICE_EMPTY;
    assert_row(&outcome, "d,ann@example.net,,,job7");
    assert_true(acct_layout_header(&layout, 0, &name) &&
                slice_equal(name, SLICE_LITERAL("Subject")));
    assert_true(acct_layout_header(&layout, 3, &name) &&
                slice_equal(name, SLICE_LITERAL("x-campaign")));
    assert_false(acct_layout_header(&layout, 5, &name));
}

static void long_headers_are_cut_at_a_character(void **state)
{
    uint8_t noted[OUTCOME_HEADERS_MAX];
    char text[NOTED_VALUE_MAX + 10];
    struct wire_writer w;
    struct slice value;

    for (size_t i = 0; i + 1 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 2);
    memmove(text + 1, text, sizeof(text) - 1);
    text[0] = 'x';
    wire_writer_init(&w, noted, sizeof(noted));
    for (int i = 0; i < 8; i++)
        noted_header_put(&w, SLICE_LITERAL("name"), slice_of(text, sizeof(text)));
    assert_false(w.failed);
    assert_true(
        noted_header_find(slice_of(noted, wire_written(&w)), SLICE_LITERAL("NAME"), &value));
    assert_int_equal(value.len, NOTED_VALUE_MAX - 1);
    assert_int_equal(value.data[value.len - 1], 0xa9);
    assert_int_equal(wire_written(&w), 3 * (1 + 4 + 2 + (NOTED_VALUE_MAX - 1)));
}

static void assert_private(const char *policy, const char *wanted)
{
    struct outcome outcome = example(OUTCOME_BOUNCED);

    assert_int_equal(make(ACCT_BOUNCED, LINES("b orig,rcpt,orcpt,dsnDiag")), 0);
    assert_int_equal(privacy_parse(slice_str(policy), &layout.privacy), 0);
    assert_row(&outcome, wanted);
}

/* The hashes were made with Python's hmac, and with OpenSSL's SIPHASH. */
static void addresses_are_hidden(void **state)
{
    assert_private("retain", "b,news@example.com,ann@example.net,rfc822;ann+x@example.net,"
                             "smtp;550 <Ann@example.net> is not ann@example.net");
    assert_private("REDACT", "b,,,,smtp;550 <redacted> is not redacted");
    assert_private(
        "hmac-sha256-00ff",
        "b,21668ccb63f389bb065315563aa3e5b49e05789956274c741d8a41b62bf2b493,"
        "d2f86964e1ab40dfc3db2d91de82b2a3d5efa176683c8ef9a6ef3c90b520dad6,"
        "rfc822;b14631045b044798d87fff71880aee2e75c8eddf31b4ac26b86414c43770b0e3,"
        "smtp;550 <1cf27242aabef27dfb7c35bb3673a78f21827fdcbb5624605bd318c9377cde58> is not "
        "d2f86964e1ab40dfc3db2d91de82b2a3d5efa176683c8ef9a6ef3c90b520dad6");
    assert_private("siphash-000102030405060708090a0b0c0d0e0f",
                   "b,644acd94f8ff288a,1ddaccce3a649a54,"
                   "rfc822;aad3d34b8bc18710,"
                   "smtp;550 <1c2264557ddf19cb> is not "
                   "1ddaccce3a649a54");
}

static void bad_policies_are_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "hide",
                                      "redact-00",
                                      "siphash-",
                                      "siphash-0001",
                                      "siphash-000102030405060708090a0b0c0d0e0g",
                                      "siphash000102030405060708090a0b0c0d0e0f",
                                      "hmac-sha256-0",
                                      "hmac-sha256 ",
                                      "hmac-sha256 \"\"",
                                      "siphash-hexkey",
                                      "siphash-hexkey 0001",
                                      "redact X",
                                      "retained"};
    struct privacy privacy;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(privacy_parse(slice_str(bad[i]), &privacy), E_SYNTAX);
    assert_int_equal(privacy_parse(SLICE_LITERAL("siphash"), &privacy), 0);
    assert_int_equal(privacy.key_bytes, 0);
    assert_int_equal(privacy_parse(SLICE_LITERAL("hmac-sha256 \"a b\""), &privacy), 0);
    assert_true(privacy.key_bytes == 3 && memcmp(privacy.key, "a b", 3) == 0);
    assert_int_equal(privacy_parse(SLICE_LITERAL("siphash  abc"), &privacy), 0);
    assert_true(privacy.key_bytes == 16 && privacy.key[0] == 0xba && privacy.key[15] == 0x23);
    assert_int_equal(
        privacy_parse(SLICE_LITERAL("siphash-hexkey 000102030405060708090a0b0c0d0e0f"), &privacy),
        0);
    assert_true(privacy.key_bytes == 16 && privacy.key[15] == 0x0f);
}

static void outcomes_carry_what_is_asked_for(void **state)
{
    struct outcome outcome = example(OUTCOME_TRANSIENT), back;
    uint8_t room[OUTCOME_BYTES_MAX], headers[OUTCOME_HEADERS_MAX] = {1};
    int len, plain;

    outcome.headers = slice_of(headers, sizeof(headers));
    len = outcome_encode(&outcome, room, sizeof(room));
    assert_true(len > 0);
    assert_int_equal(outcome_decode(slice_of(room, (size_t)len), &back), 0);
    assert_true(slice_equal(back.headers, outcome.headers));
    assert_true(back.first_attempt_us == outcome.first_attempt_us);
    for (int cut = 0; cut < len; cut++)
        assert_int_equal(outcome_decode(slice_of(room, (size_t)cut), &back), E_DAMAGED);
    /* Too little room is no reason to lose the outcome itself. */
    assert_true(outcome_encode(&outcome, room, (size_t)len - 1) > 0);
    assert_int_equal(outcome_decode(slice_of(room, (size_t)len - sizeof(headers)), &back), 0);
    assert_int_equal(back.headers.len, 0);
    /* Who asks for nothing writes what was always written. */
    outcome.headers = SLICE_EMPTY;
    outcome.first_attempt_us = 0;
    plain = outcome_encode(&outcome, room, sizeof(room));
    assert_int_equal(plain, len - 8 - 2 - (int)sizeof(headers));
    assert_int_equal(room[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_as_listed),
        cmocka_unit_test(a_star_and_what_is_taken_away),
        cmocka_unit_test(a_mixed_file_has_the_first_kinds_columns_first),
        cmocka_unit_test(bad_lines_are_refused),
        cmocka_unit_test(too_much_is_refused),
        cmocka_unit_test(headers_are_quoted),
        cmocka_unit_test(long_headers_are_cut_at_a_character),
        cmocka_unit_test(addresses_are_hidden),
        cmocka_unit_test(bad_policies_are_refused),
        cmocka_unit_test(outcomes_carry_what_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
