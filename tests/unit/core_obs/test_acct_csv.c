/* The parser below was written from RFC 4180 alone and shares nothing with the product. */
#include "core/obs/acct_layout.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <iconv.h>
#include <stdio.h>
#include <time.h>

#define FIELDS_MAX 32
#define FIELD_MAX  8192

static const char delivery_header[] =
    "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,"
    "srcType,srcMta,dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,"
    "envId,queue,vmtaPool";

/* ---- An independent reader ------------------------------------------------------------------ */

struct record {
    char fields[FIELDS_MAX][FIELD_MAX];
    size_t lens[FIELDS_MAX];
    size_t count;
};

/* Reads exactly one record that ends with the text. */
static void parse_record(const char *text, size_t len, struct record *record)
{
    bool quoted = false;
    size_t i = 0;

    memset(record->lens, 0, sizeof(record->lens));
    record->count = 1;
    assert_true(len >= 2 && memcmp(text + len - 2, "\r\n", 2) == 0);
    len -= 2;
    while (i < len) {
        size_t field = record->count - 1;
        bool at_start = record->lens[field] == 0;
        char c = text[i++];

        if (quoted && c == '"' && i < len && text[i] == '"') {
            i++;
        } else if (quoted && c == '"') {
            quoted = false;
            assert_true(i == len || text[i] == ',');
            continue;
        } else if (!quoted && c == '"') {
            assert_true(at_start);
            quoted = true;
            continue;
        } else if (!quoted && c == ',') {
            assert_true(record->count < FIELDS_MAX);
            record->count++;
            continue;
        }
        assert_true(record->lens[field] < FIELD_MAX);
        record->fields[field][record->lens[field]++] = c;
    }
    assert_false(quoted);
}

static int hex_value(char c)
{
    const char *digits = "0123456789abcdef";
    const char *found = c == '\0' ? NULL : strchr(digits, c);

    return found == NULL ? -1 : (int)(found - digits);
}

static size_t undo_escapes(const char *text, size_t len, char *room)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        if (i + 3 < len && text[i] == '\\' && text[i + 1] == 'x' && hex_value(text[i + 2]) >= 0 &&
            hex_value(text[i + 3]) >= 0) {
            room[out++] = (char)(hex_value(text[i + 2]) * 16 + hex_value(text[i + 3]));
            i += 3;
        } else {
            room[out++] = text[i];
        }
    }
    return out;
}

static bool is_utf8(const char *text, size_t len)
{
    static char wide[4 * 65536];
    iconv_t converter = iconv_open("UTF-32LE", "UTF-8");
    char *from = (char *)(uintptr_t)text;
    char *to = wide;
    size_t to_len = sizeof(wide);
    size_t result;

    assert_true(converter != (iconv_t)-1);
    result = iconv(converter, &from, &len, &to, &to_len);
    iconv_close(converter);
    return result == 0;
}

/* ---- Examples ------------------------------------------------------------------------------- */

static struct ipaddr ip(const char *text)
{
    struct ipaddr parsed;

    assert_int_equal(ipaddr_parse(slice_str(text), &parsed), 0);
    return parsed;
}

static struct outcome example(uint8_t kind)
{
    return (struct outcome){
        .kind = kind,
        .attempts = 1,
        .logged_us = 1549662845999999,
        .queued_us = 1549662840000001,
        .size_bytes = 20480,
        .source_ip = ip("192.0.2.10"),
        .destination_ip = ip("2001:db8::25"),
        .orig = SLICE_LITERAL("news@example.com"),
        .rcpt = SLICE_LITERAL("ann@example.net"),
        .orcpt = SLICE_LITERAL("rfc822;ann@example.net"),
        .status = SLICE_LITERAL("5.1.1"),
        .diag = SLICE_LITERAL("550 5.1.1 <ann@example.net>: no \"ann\", sorry"),
        .dsn_mta = SLICE_LITERAL("mx.example.net"),
        .bounce_category = SLICE_LITERAL("bad-mailbox"),
        .source_type = SLICE_LITERAL("smtp"),
        .source_mta = SLICE_LITERAL("feeder (127.0.0.1)"),
        .esmtp = SLICE_LITERAL("PIPELINING,8BITMIME"),
        .vmta = SLICE_LITERAL("mta1"),
        .pool = SLICE_LITERAL("pool"),
        .job_id = SLICE_LITERAL("job7"),
        .envelope_id = SLICE_EMPTY,
        .queue = SLICE_LITERAL("example.net/mta1"),
    };
}

static struct acct_csv_layout layout_of(bool deliveries, bool receipts, bool iso_times)
{
    struct acct_csv_layout layout;

    acct_layout_usual(&layout,
                      (deliveries ? ACCT_DELIVERED | ACCT_BOUNCED | ACCT_TRANSIENT : 0) |
                          (receipts ? ACCT_RECEIVED : 0),
                      iso_times);
    return layout;
}

static void assert_row(const struct acct_csv_layout *layout, const struct outcome *outcome,
                       const char *wanted)
{
    char room[ACCT_CSV_ROW_MAX];
    int len = acct_csv_row(layout, outcome, room, sizeof(room));

    assert_true(len > 2);
    room[len] = '\0';
    assert_int_equal(room[len - 2], '\r');
    assert_int_equal(room[len - 1], '\n');
    room[len - 2] = '\0';
    assert_string_equal(room, wanted);
}

static void assert_header(bool deliveries, bool receipts, const char *wanted)
{
    struct acct_csv_layout layout = layout_of(deliveries, receipts, true);
    char room[1024];
    char whole[1024];
    int len = acct_csv_header(&layout, room, sizeof(room));

    snprintf(whole, sizeof(whole), "%s\r\n", wanted);
    assert_int_equal(len, (int)strlen(whole));
    assert_memory_equal(room, whole, (size_t)len);
    assert_int_equal(acct_csv_header(&layout, room, (size_t)len), len);
    assert_int_equal(acct_csv_header(&layout, room, (size_t)len - 1), E_TOO_LONG);
}

static void headers_have_their_columns_in_order(void **state)
{
    char mixed[1024];

    assert_header(true, false, delivery_header);
    assert_header(false, true,
                  "type,timeLogged,orig,rcpt,orcpt,srcType,srcMta,rcvSourceIp,rcvDestinationIp,"
                  "vmta,jobId,envId");
    snprintf(mixed, sizeof(mixed), "%s,rcvSourceIp,rcvDestinationIp", delivery_header);
    assert_header(true, true, mixed);
}

static void a_delivery_has_size_and_no_category(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, true);
    struct outcome outcome = example(OUTCOME_DELIVERED);

    outcome.status = SLICE_LITERAL("2.0.0");
    outcome.diag = SLICE_LITERAL("250 2.0.0 OK");
    assert_row(&layout, &outcome,
               "d,2019-02-08 21:54:05+0000,2019-02-08 21:54:00+0000,news@example.com,"
               "ann@example.net,rfc822;ann@example.net,relayed,2.0.0 (success),"
               "smtp;250 2.0.0 OK,mx.example.net (2001:db8::25),,smtp,feeder (127.0.0.1),smtp,"
               "192.0.2.10,2001:db8::25,\"PIPELINING,8BITMIME\",20480,mta1,job7,,"
               "example.net/mta1,pool");
}

static void a_bounce_has_category_and_no_size(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, false);
    struct outcome outcome = example(OUTCOME_BOUNCED);

    assert_row(&layout, &outcome,
               "b,1549662845,1549662840,news@example.com,ann@example.net,rfc822;ann@example.net,"
               "failed,5.1.1 (bad destination mailbox address),"
               "\"smtp;550 5.1.1 <ann@example.net>: no \"\"ann\"\", sorry\","
               "mx.example.net (2001:db8::25),bad-mailbox,smtp,feeder (127.0.0.1),smtp,192.0.2.10,"
               "2001:db8::25,\"PIPELINING,8BITMIME\",,mta1,job7,,example.net/mta1,pool");
}

static void what_is_missing_stays_empty(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, false);
    struct outcome outcome = {
        .kind = OUTCOME_TRANSIENT,
        .rcpt = SLICE_LITERAL("a@b.c"),
        .dsn_mta = SLICE_LITERAL("host"),
    };

    assert_row(&layout, &outcome, "t,0,0,,a@b.c,,delayed,,,host,,,,smtp,,,,,,,,,");
    outcome.dsn_mta = SLICE_EMPTY;
    outcome.destination_ip = ip("192.0.2.1");
    assert_row(&layout, &outcome, "t,0,0,,a@b.c,,delayed,,,(192.0.2.1),,,,smtp,,192.0.2.1,,,,,,,");
}

static void receipts_name_what_was_asked_for(void **state)
{
    struct acct_csv_layout alone = layout_of(false, true, false);
    struct acct_csv_layout mixed = layout_of(true, true, false);
    struct outcome outcome = example(OUTCOME_RECEIVED);

    assert_row(&alone, &outcome,
               "r,1549662845,news@example.com,ann@example.net,rfc822;ann@example.net,smtp,"
               "feeder (127.0.0.1),192.0.2.10,2001:db8::25,pool,job7,");
    outcome.pool = SLICE_EMPTY;
    assert_row(&mixed, &outcome,
               "r,1549662845,,news@example.com,ann@example.net,rfc822;ann@example.net,,,,,,smtp,"
               "feeder (127.0.0.1),,,,,,mta1,job7,,,,192.0.2.10,2001:db8::25");
    outcome = example(OUTCOME_BOUNCED);
    outcome.diag = SLICE_EMPTY;
    outcome.esmtp = SLICE_EMPTY;
    assert_row(&mixed, &outcome,
               "b,1549662845,1549662840,news@example.com,ann@example.net,rfc822;ann@example.net,"
               "failed,5.1.1 (bad destination mailbox address),,mx.example.net (2001:db8::25),"
               "bad-mailbox,smtp,feeder (127.0.0.1),smtp,192.0.2.10,2001:db8::25,,,mta1,job7,,"
               "example.net/mta1,pool,,");
}

static void assert_status(const char *status, const char *wanted)
{
    assert_string_equal(acct_csv_status_text(slice_str(status)), wanted);
}

static void status_codes_have_texts(void **state)
{
    assert_status("2.0.0", "success");
    assert_status("5.1.1", "bad destination mailbox address");
    assert_status("4.1.1", "bad destination mailbox address");
    assert_status("4.4.1", "no answer from host");
    assert_status("5.7.26", "several authentication checks failed");
    assert_status("5.7.999", "problem with security or policy");
    assert_status("5.0.0", "undefined status");
    assert_status("5.8.1", "undefined status");
    assert_status("5.999.999", "undefined status");
    assert_status("5.1", "undefined status");
    assert_status("5.1.1.1", "undefined status");
    assert_status("5.1.1 ", "undefined status");
    assert_status("", "undefined status");
}

static void times_agree_with_the_system(void **state)
{
    struct rng rng;
    char room[ACCT_CSV_TIME_MAX];

    rng_init(&rng, 4);
    for (int i = 0; i < 20000; i++) {
        time_t seconds = (time_t)rng_below(&rng, 253402300800ull);
        char wanted[64];
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(wanted, sizeof(wanted), "%Y-%m-%d %H:%M:%S+0000", &tm);
        assert_int_equal(
            acct_csv_time((uint64_t)seconds * 1000000 + rng_below(&rng, 1000000), room),
            strlen(wanted));
        assert_string_equal(room, wanted);
    }
    assert_true(acct_csv_time(UINT64_MAX, room) < ACCT_CSV_TIME_MAX);
}

/* ---- Whatever the remote side writes -------------------------------------------------------- */

struct random_field {
    enum acct_csv_column column;
    size_t at;
    const char *prefix;
};

static const struct random_field random_fields[] = {
    {ACCT_CSV_orig, offsetof(struct outcome, orig), ""},
    {ACCT_CSV_rcpt, offsetof(struct outcome, rcpt), ""},
    {ACCT_CSV_orcpt, offsetof(struct outcome, orcpt), ""},
    {ACCT_CSV_dsnDiag, offsetof(struct outcome, diag), "smtp;"},
    {ACCT_CSV_dsnMta, offsetof(struct outcome, dsn_mta), ""},
    {ACCT_CSV_bounceCat, offsetof(struct outcome, bounce_category), ""},
    {ACCT_CSV_srcType, offsetof(struct outcome, source_type), ""},
    {ACCT_CSV_srcMta, offsetof(struct outcome, source_mta), ""},
    {ACCT_CSV_dlvEsmtpAvailable, offsetof(struct outcome, esmtp), ""},
    {ACCT_CSV_vmta, offsetof(struct outcome, vmta), ""},
    {ACCT_CSV_jobId, offsetof(struct outcome, job_id), ""},
    {ACCT_CSV_envId, offsetof(struct outcome, envelope_id), ""},
    {ACCT_CSV_queue, offsetof(struct outcome, queue), ""},
    {ACCT_CSV_vmtaPool, offsetof(struct outcome, pool), ""},
};

#define RANDOM_FIELD_COUNT (sizeof(random_fields) / sizeof(random_fields[0]))

/* Bytes that matter more often than chance would have it. */
static uint8_t random_byte(struct rng *rng, uint64_t mode)
{
    static const char nasty[] = "\r\n\",\\x0d;\xc2\x85\xe2\x80\xa8\xa9\xed\xa0\x80\xf4\x90\xff ";

    if (mode == 0)
        return (uint8_t)rng_u64(rng);
    if (mode == 1)
        return (uint8_t)nasty[rng_below(rng, sizeof(nasty))];
    return (uint8_t)rng_between(rng, ' ', '~');
}

static void fill_randomly(struct rng *rng, struct outcome *outcome, char bytes[][256])
{
    for (size_t i = 0; i < RANDOM_FIELD_COUNT; i++) {
        struct slice text = {(const uint8_t *)bytes[i], rng_below(rng, 257)};
        uint64_t mode = rng_below(rng, 3);

        for (size_t k = 0; k < text.len; k++)
            bytes[i][k] = (char)random_byte(rng, mode);
        memcpy((char *)outcome + random_fields[i].at, &text, sizeof(text));
    }
}

static void assert_one_line(const char *row, size_t len)
{
    for (size_t i = 0; i + 2 < len; i++)
        assert_true((uint8_t)row[i] >= 0x20 && row[i] != 0x7f);
    assert_true(is_utf8(row, len));
    assert_null(memmem(row, len, "\xe2\x80\xa8", 3));
    assert_null(memmem(row, len, "\xe2\x80\xa9", 3));
    assert_null(memmem(row, len, "\xc2\x85", 2));
}

static void assert_fields_come_back(const struct outcome *outcome, const struct record *record)
{
    static char text[FIELD_MAX];

    for (size_t i = 0; i < RANDOM_FIELD_COUNT; i++) {
        const struct random_field *field = &random_fields[i];
        size_t prefix = strlen(field->prefix);
        struct slice wanted;
        size_t len = undo_escapes(record->fields[field->column], record->lens[field->column], text);

        memcpy(&wanted, (const char *)outcome + field->at, sizeof(wanted));
        if (wanted.len == 0)
            prefix = 0;
        assert_int_equal(len, wanted.len + prefix);
        assert_memory_equal(text, field->prefix, prefix);
        assert_memory_equal(text + prefix, wanted.data, wanted.len);
    }
}

static void a26_any_bytes_parse_back_equal(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, true);
    static char bytes[RANDOM_FIELD_COUNT][256];
    static char row[4 * sizeof(bytes) + 1024];
    static struct record record;
    struct rng rng;

    rng_init(&rng, 26);
    for (int round = 0; round < 3000; round++) {
        struct outcome outcome = {.kind = OUTCOME_BOUNCED};
        int len;

        fill_randomly(&rng, &outcome, bytes);
        len = acct_csv_row(&layout, &outcome, row, sizeof(row));
        assert_true(len > 0);
        assert_one_line(row, (size_t)len);
        parse_record(row, (size_t)len, &record);
        assert_int_equal(record.count, 23);
        assert_fields_come_back(&outcome, &record);
    }
}

static void the_longest_record_fits_its_room(void **state)
{
    struct acct_csv_layout layout = layout_of(true, true, true);
    struct outcome outcome = example(OUTCOME_BOUNCED);
    static char worst[OUTCOME_BYTES_MAX];
    static char row[ACCT_CSV_ROW_MAX];

    memset(worst, 0xff, sizeof(worst));
    outcome.diag = slice_of(worst, sizeof(worst));
    assert_true(acct_csv_row(&layout, &outcome, row, sizeof(row)) > OUTCOME_BYTES_MAX * 4);
    memset(worst, '"', sizeof(worst));
    assert_true(acct_csv_row(&layout, &outcome, row, sizeof(row)) > OUTCOME_BYTES_MAX * 2);
}

static void a_short_room_is_refused_and_not_left(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, true);
    struct outcome outcome = example(OUTCOME_BOUNCED);
    char wanted[2048];
    char room[2048];
    int len = acct_csv_row(&layout, &outcome, wanted, sizeof(wanted));

    for (size_t size = 0; size < sizeof(room); size++) {
        int got;

        memset(room, 'Z', sizeof(room));
        got = acct_csv_row(&layout, &outcome, room, size);
        assert_true(got == E_TOO_LONG || got == len);
        assert_true(size >= (size_t)len || got == E_TOO_LONG);
        assert_true(size < (size_t)len + 8 || got == len);
        for (size_t i = size; i < sizeof(room); i++)
            assert_int_equal(room[i], 'Z');
    }
}

static void escaping_cuts_at_characters(void **state)
{
    char room[8];

    assert_int_equal(acct_csv_escape(SLICE_LITERAL("ab\r"), room, sizeof(room)), 6);
    assert_string_equal(room, "ab\\x0d");
    assert_int_equal(acct_csv_escape(SLICE_LITERAL("abcd\r"), room, sizeof(room)), 4);
    assert_string_equal(room, "abcd");
    assert_int_equal(acct_csv_escape(SLICE_LITERAL("abcdef\xc3\xa4"), room, sizeof(room)), 6);
    assert_string_equal(room, "abcdef");
    assert_int_equal(acct_csv_escape(SLICE_LITERAL("abcde\xc3\xa4"), room, sizeof(room)), 7);
    assert_string_equal(room, "abcde\xc3\xa4");
    assert_int_equal(acct_csv_escape(SLICE_EMPTY, room, 1), 0);
}

/* Not a check, a figure: machines differ. */
static void rows_are_quick(void **state)
{
    struct acct_csv_layout layout = layout_of(true, false, true);
    struct outcome outcome = example(OUTCOME_DELIVERED);
    char row[ACCT_CSV_ROW_MAX];
    struct timespec start;
    struct timespec end;
    int64_t bytes = 0;
    const int rounds = 100000;

    outcome.destination_ip = ip("198.51.100.25");
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < rounds; i++)
        bytes += acct_csv_row(&layout, &outcome, row, sizeof(row));
    clock_gettime(CLOCK_MONOTONIC, &end);
    print_message(
        "%.0f ns for a row of %.0f bytes\n",
        ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
            rounds,
        (double)bytes / rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_have_their_columns_in_order),
        cmocka_unit_test(a_delivery_has_size_and_no_category),
        cmocka_unit_test(a_bounce_has_category_and_no_size),
        cmocka_unit_test(what_is_missing_stays_empty),
        cmocka_unit_test(receipts_name_what_was_asked_for),
        cmocka_unit_test(status_codes_have_texts),
        cmocka_unit_test(times_agree_with_the_system),
        cmocka_unit_test(a26_any_bytes_parse_back_equal),
        cmocka_unit_test(the_longest_record_fits_its_room),
        cmocka_unit_test(a_short_room_is_refused_and_not_left),
        cmocka_unit_test(escaping_cuts_at_characters),
        cmocka_unit_test(rows_are_quick),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
