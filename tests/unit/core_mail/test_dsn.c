/*
 * Notices as they are written: one golden report, what hostile values make of it, how much of the
 * original comes back, and that dsn_bytes_max() is room enough.
 */
#include "core/mail/dsn.h"

#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <string.h>

#define NOON_US (1700000000ull * 1000000)

static char room[1 << 20];

static const char original[] = "Subject: hi\r\n"
                               "From: a@sender.test\r\n"
                               "\r\n"
                               "..dot\r\n"
                               "body\r\n";

static struct iovec pieces[3];

static struct dsn example(const struct dsn_rcpt *rcpt)
{
    /* Cut in the middle of the empty line. */
    pieces[0] = (struct iovec){(void *)(uintptr_t)original, 33};
    pieces[1] = (struct iovec){(void *)(uintptr_t)(original + 33), 2};
    pieces[2] = (struct iovec){(void *)(uintptr_t)(original + 35), sizeof(original) - 36};
    return (struct dsn){
        .host = SLICE_LITERAL("relay.test"),
        .id = SLICE_LITERAL("0ABC"),
        .now_us = NOON_US,
        .arrival_us = NOON_US - 60000000,
        .sender = SLICE_LITERAL("a@sender.test"),
        .rcpts = rcpt,
        .rcpt_count = 1,
        .content = pieces,
        .content_count = 3,
    };
}

static const struct dsn_rcpt unknown_user = {
    .address = SLICE_LITERAL("x@dest.test"),
    .status = SLICE_LITERAL("5.1.1"),
    .diagnostic = SLICE_LITERAL("550 5.1.1 no such user"),
    .remote_mta = SLICE_LITERAL("mx.dest.test"),
    .remote_ip = {.family = IPADDR_V4, .bytes = {192, 0, 2, 1}},
    .last_attempt_us = NOON_US,
};

static const char *compose(const struct dsn *dsn, struct dsn_facts *facts)
{
    struct text text = text_in(room, dsn_bytes_max(dsn));

    dsn_write(dsn, &text, facts);
    assert_false(text.is_cut);
    text_end(&text);
    return room;
}

static void golden_report(void **state)
{
    struct dsn dsn = example(&unknown_user);
    struct dsn_facts facts;

    assert_string_equal(
        compose(&dsn, &facts),
        "From: Mail Delivery System <postmaster@relay.test>\r\n"
        "To: <a@sender.test>\r\n"
        "Subject: Delivery failed: your message was returned\r\n"
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        "Message-ID: <0ABC.notice@relay.test>\r\n"
        "MIME-Version: 1.0\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        "\tboundary=\"=_0ABC.report\"\r\n"
        "\r\n"
        "--=_0ABC.report\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\n"
        "\r\n"
        "This is the mail system at relay.test.\r\n"
        "\r\n"
        "Your message could not be delivered to the recipients below. No further\r\n"
        "attempts are made.\r\n"
        "\r\n"
        "  x@dest.test\r\n"
        "    mx.dest.test answered: 550 5.1.1 no such user\r\n"
        "\r\n"
        "--=_0ABC.report\r\n"
        "Content-Type: message/delivery-status\r\n"
        "\r\n"
        "Reporting-MTA: dns; relay.test\r\n"
        "Arrival-Date: Tue, 14 Nov 2023 22:12:20 +0000\r\n"
        "\r\n"
        "Final-Recipient: rfc822; x@dest.test\r\n"
        "Action: failed\r\n"
        "Status: 5.1.1\r\n"
        "Remote-MTA: dns; mx.dest.test (192.0.2.1)\r\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        "\r\n"
        "--=_0ABC.report\r\n"
        "Content-Type: text/rfc822-headers\r\n"
        "\r\n"
        "Subject: hi\r\n"
        "From: a@sender.test\r\n"
        "\r\n"
        "--=_0ABC.report--\r\n");
    assert_int_equal(facts.stuffed_dots, 0);
    assert_false(facts.is_8bit);
}

static void other_kinds_say_so(void **state)
{
    struct dsn_rcpt rcpt = unknown_user;
    struct dsn dsn = example(&rcpt);
    struct dsn_facts facts;
    const char *text;

    dsn.action = DSN_RELAYED;
    rcpt.orcpt = SLICE_LITERAL("rfc822;\"a b\"@old.test");
    text = compose(&dsn, &facts);
    assert_non_null(strstr(text, "Subject: Your message was relayed\r\n"));
    assert_non_null(strstr(text, "Action: relayed\r\n"));
    assert_non_null(strstr(text, "Original-Recipient: rfc822;\"a b\"@old.test\r\n"));
    dsn.action = DSN_DELAYED;
    rcpt.orcpt = SLICE_LITERAL("rfc822;\xc3\xbc@old.test");
    text = compose(&dsn, &facts);
    assert_non_null(strstr(text, "Subject: Delivery is delayed\r\n"));
    assert_non_null(strstr(text, "Action: delayed\r\n"));
    assert_non_null(strstr(text, "Original-Recipient: utf-8;\\x{FC}@old.test\r\n"));
    assert_null(strstr(text, "failed"));
}

static void full_content_keeps_its_dots(void **state)
{
    struct dsn dsn = example(&unknown_user);
    struct dsn_facts facts;

    dsn.returns_content = true;
    assert_non_null(strstr(compose(&dsn, &facts), "Content-Type: message/rfc822\r\n\r\nSubject: hi"
                                                  "\r\nFrom: a@sender.test\r\n\r\n..dot\r\nbody\r\n"
                                                  "\r\n--=_0ABC.report--\r\n"));
    assert_int_equal(facts.stuffed_dots, 1);
}

static void plain_text_is_the_report_alone(void **state)
{
    struct dsn dsn = example(&unknown_user);
    struct dsn_facts facts;
    const char *text;

    dsn.is_plain_text = true;
    text = compose(&dsn, &facts);
    assert_non_null(
        strstr(text, "Content-Type: text/plain; charset=us-ascii\r\n\r\nReporting-MTA: "));
    assert_null(strstr(text, "multipart"));
    assert_null(strstr(text, "Subject: hi"));
}

static void templates_know_their_variables(void **state)
{
    struct dsn dsn = example(&unknown_user);
    struct dsn_facts facts;
    const char *text;

    dsn.from = SLICE_LITERAL("Bounces <b@{host}>");
    dsn.subject = SLICE_LITERAL("{recipient}: {status} {what}");
    dsn.body = SLICE_LITERAL("Sorry, {sender}\r\n.dot\r\n");
    text = compose(&dsn, &facts);
    assert_non_null(strstr(text, "From: Bounces <b@relay.test>\r\n"));
    assert_non_null(strstr(text, "Subject: x@dest.test: 5.1.1 {what}\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nSorry, a@sender.test\r\n..dot\r\n"));
    assert_int_equal(facts.stuffed_dots, 1);
}

static void a25_values_cannot_break_out(void **state)
{
    struct dsn_rcpt rcpt = unknown_user;
    struct dsn dsn = example(&rcpt);
    struct dsn_facts facts;
    const char *text;

    rcpt.diagnostic = SLICE_LITERAL("550 a\r\n\r\n--=_0ABC.report--\r\nBcc: v\x1b\xff");
    rcpt.orcpt = SLICE_LITERAL("rfc822;a\r\nX-Evil: 1");
    dsn.envelope_id = SLICE_LITERAL("id\nX-Evil: 2");
    dsn.subject = SLICE_LITERAL("{diagnostic}");
    text = compose(&dsn, &facts);
    assert_null(strstr(text, "\nX-Evil"));
    assert_null(strstr(text, "\nBcc"));
    assert_non_null(
        strstr(text, "Diagnostic-Code: smtp; 550 a    --=_0ABC.report--  Bcc: v ?\r\n"));
    assert_non_null(strstr(text, "Original-Recipient: rfc822;a  X-Evil: 1\r\n"));
    assert_false(facts.is_8bit);
}

static void addresses_in_utf8_are_escaped(void **state)
{
    struct dsn_rcpt rcpt = unknown_user;
    struct dsn dsn = example(&rcpt);
    struct dsn_facts facts;

    rcpt.address = SLICE_LITERAL("\xc3\xbc\xf0\x9f\x98\x80@dest.test");
    assert_non_null(
        strstr(compose(&dsn, &facts), "Final-Recipient: utf-8; \\x{FC}\\x{1F600}@dest.test\r\n"));
    assert_false(facts.is_8bit);
    dsn.sender = SLICE_LITERAL("\xc3\xbc@sender.test");
    compose(&dsn, &facts);
    assert_true(facts.is_8bit);
}

static void long_header_is_cut_at_a_line(void **state)
{
    static char header[40000];
    struct dsn dsn = example(&unknown_user);
    struct dsn_facts facts;
    const char *text;

    for (size_t i = 0; i < sizeof(header); i += 100) {
        memset(header + i, 'x', 98);
        memcpy(header + i, "X-A: \xff", 6);
        memcpy(header + i + 98, "\r\n", 2);
    }
    pieces[0] = (struct iovec){header, sizeof(header)};
    dsn.content_count = 1;
    text = strstr(compose(&dsn, &facts), "text/rfc822-headers\r\n\r\n");
    assert_non_null(text);
    text += strlen("text/rfc822-headers\r\n\r\n");
    assert_memory_equal(text, "X-A: ?x", 7);
    assert_memory_equal(text + DSN_HEADER_MAX / 100 * 100, "\r\n--=_0ABC.report--\r\n", 21);
}

static void any_values_have_room(void **state)
{
    static uint8_t noise[4096];
    struct rng rng;

    rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (uint8_t)(rng_below(&rng, 8) == 0 ? '.' : rng_below(&rng, 256));
    for (int i = 0; i < 2000; i++) {
        struct slice any[8];
        struct dsn_rcpt rcpts[3];
        struct dsn_facts facts;
        struct dsn dsn = example(rcpts);

        for (int j = 0; j < 8; j++)
            any[j] = slice_of(noise + rng_below(&rng, 2000), rng_below(&rng, 512));
        for (int j = 0; j < 3; j++)
            rcpts[j] = (struct dsn_rcpt){.address = any[j],
                                         .orcpt = any[j + 1],
                                         .diagnostic = any[j + 2],
                                         .remote_mta = any[j + 3],
                                         .status = any[j + 4]};
        dsn.rcpt_count = 3;
        dsn.envelope_id = any[6];
        dsn.sender = any[7];
        dsn.body = i % 2 ? SLICE_LITERAL("{diagnostic}{diagnostic}{recipient}{sender}\r\n")
                         : slice_of(noise, 4096);
        dsn.subject = dsn.body;
        dsn.returns_content = i % 3 == 0;
        compose(&dsn, &facts);
    }
}

static void note_golden(void **state)
{
    struct dsn_note note = {
        .host = SLICE_LITERAL("relay.test"),
        .id = SLICE_LITERAL("0ABC"),
        .now_us = NOON_US,
        .to = SLICE_LITERAL("ops@a.test, b@c.test"),
        .subject = SLICE_LITERAL("backoff: a.test/v"),
        .lines = SLICE_LITERAL("one\n.two \xff"),
    };
    struct text text = text_in(room, dsn_note_bytes_max(&note));
    struct dsn_facts facts;

    dsn_note_write(&note, &text, &facts);
    text_end(&text);
    assert_string_equal(room, "From: Mail Delivery System <postmaster@relay.test>\r\n"
                              "To: ops@a.test, b@c.test\r\n"
                              "Subject: backoff: a.test/v\r\n"
                              "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
                              "Message-ID: <0ABC.notice@relay.test>\r\n"
                              "MIME-Version: 1.0\r\n"
                              "Auto-Submitted: auto-generated\r\n"
                              "Content-Type: text/plain; charset=us-ascii\r\n"
                              "\r\n"
                              "one\r\n"
                              "..two ?\r\n");
    assert_int_equal(facts.stuffed_dots, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_report),
        cmocka_unit_test(other_kinds_say_so),
        cmocka_unit_test(full_content_keeps_its_dots),
        cmocka_unit_test(plain_text_is_the_report_alone),
        cmocka_unit_test(templates_know_their_variables),
        cmocka_unit_test(a25_values_cannot_break_out),
        cmocka_unit_test(addresses_in_utf8_are_escaped),
        cmocka_unit_test(long_header_is_cut_at_a_line),
        cmocka_unit_test(any_values_have_room),
        cmocka_unit_test(note_golden),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
