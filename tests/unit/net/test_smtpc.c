/* The SMTP client's protocol: transactions, flights, extensions, refusals of ours. */
#include "core/mail/dsn_request.h"
#include "tests/unit/net/smtpc_stage.h"

#define REFUSED(code) SAID(VERDICT_PERMANENT, code, VERDICT_AT_RCPT, VERDICT_RECIPIENT)
#define DELAYED(code, flags)                                                                       \
    TOLD(VERDICT_TRANSIENT, code, VERDICT_AT_RCPT, VERDICT_RECIPIENT, VERDICT_FROM_REPLY | (flags))
#define LOCAL(code) TOLD(VERDICT_PERMANENT, code, VERDICT_AT_LOCAL, VERDICT_MESSAGE, 0)

static void ignore_pipelining(struct smtpc_options *options)
{
    options->ignore_pipelining = true;
}

static void ignore_8bitmime(struct smtpc_options *options)
{
    options->ignore_8bitmime = true;
}

/* ---- One message, all went well ------------------------------------------------------------ */

static const struct scene plain_scenes[] = {
    {
        .name = "pipelined: one flight, then body and dot",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, OK, GO, MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "pipelined: nothing is waited for before DATA",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, RCPT_2, DATA, PROBE_MS(1000), OK, OK, OK,
                  SEND("250 ok\r\n354 go\r\n"), MESSAGE, OK, BYE, END},
        .rcpt_count = 3,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "not pipelined: command by command",
        .steps = {PLAIN, MAIL_0, PROBE_MS(500), OK, RCPT_0, PROBE_MS(500), OK, RCPT_1,
                  PROBE_MS(500), OK, DATA, PROBE_MS(500), GO, MESSAGE, PROBE_MS(500), OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "PIPELINING offered but ignored by setting",
        .steps = {PIPELINED, MAIL_0, PROBE_MS(500), OK, RCPT_0, PROBE_MS(500), OK, DATA, GO,
                  MESSAGE, OK, BYE, END},
        .tune = ignore_pipelining,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "multi-line greeting and replies",
        .steps = {SEND("220-mx.example ESMTP\r\n220-no spam here\r\n220 please\r\n"),
                  EXPECT("EHLO out.example"), OFFER("250-PIPELINING\r\n250-\r\n250 HELP\r\n"),
                  MAIL_0, RCPT_0, DATA, SEND("250-2.1.0 sender\r\n250 2.1.0 ok\r\n"),
                  SEND("250-a\r\n250-b\r\n250 c\r\n"), SEND("354-so\r\n354 go\r\n"), MESSAGE,
                  SEND("250-2.0.0 queued\r\n250 2.0.0 as 17\r\n"), BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "replies without any text",
        .steps = {SEND("220\r\n"), EXPECT("EHLO out.example"), SEND("250\r\n"), MAIL_0,
                  SEND("250\r\n"), RCPT_0, SEND("250\r\n"), DATA, SEND("354\r\n"), MESSAGE,
                  SEND("250\r\n"), EXPECT("QUIT"), SEND("221\r\n"), CLOSE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "251, 252 and other codes of class 2 take a recipient",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, RCPT_2, DATA, OK, SEND("251 forwards\r\n"),
                  SEND("252 perhaps\r\n"), SEND("299 ok\r\n"), GO, MESSAGE, OK, BYE, END},
        .rcpt_count = 3,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "the receiver hangs up after QUIT without a word",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, OK, GO, MESSAGE, OK, EXPECT("QUIT"), CLOSE,
                  END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "the receiver never answers QUIT",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, OK, GO, MESSAGE, OK, EXPECT("QUIT"), END},
        .rcpts = {TAKEN},
        FINISHED,
        .seconds_min = 5,
        .seconds_max = 6,
    },
};

static void messages_go_out(void **state)
{
    stage_check_all(plain_scenes, sizeof(plain_scenes) / sizeof(plain_scenes[0]));
}

/* ---- Recipients with different answers ----------------------------------------------------- */

#define NO_USER SEND("550 5.1.1 no such user\r\n")

static const struct scene rcpt_scenes[] = {
    {
        .name = "pipelined: one taken, one refused, one put off",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, RCPT_2, DATA, OK, OK, NO_USER,
                  SEND("450 4.2.1 slower\r\n"), GO, MESSAGE, OK, BYE, END},
        .rcpt_count = 3,
        .rcpts = {TAKEN, REFUSED(550), DELAYED(450, 0)},
        FINISHED,
    },
    {
        .name = "not pipelined: one put off, one refused, one taken",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, SEND("450 4.2.1 slower\r\n"), RCPT_1, NO_USER, RCPT_2,
                  OK, DATA, GO, MESSAGE, OK, BYE, END},
        .rcpt_count = 3,
        .rcpts = {DELAYED(450, 0), REFUSED(550), TAKEN},
        FINISHED,
    },
    {
        .name = "pipelined: none taken, DATA refused",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, NO_USER, NO_USER,
                  SEND("503 5.5.1 no recipients\r\n"), BYE, END},
        .rcpt_count = 2,
        .rcpts = {REFUSED(550)},
        FINISHED,
    },
    {
        .name = "pipelined: none taken, but 354: a lone dot (RFC 2920 3.1)",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, NO_USER, NO_USER, GO, BODY_IS(""),
                  SEND("554 5.5.1 no valid recipients\r\n"), BYE, END},
        .rcpt_count = 2,
        .rcpts = {REFUSED(550)},
        FINISHED,
    },
    {
        .name = "a lone dot that is taken delivers nothing",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, NO_USER, GO, BODY_IS(""), OK, BYE, END},
        .rcpts = {REFUSED(550)},
        FINISHED,
    },
    {
        .name = "not pipelined: none taken, DATA is not even said",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, NO_USER, BYE, END},
        .rcpts = {REFUSED(550)},
        FINISHED,
    },
    {
        .name = "MAIL refused: all recipients, replies to the rest read and dropped",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, SEND("550 5.7.1 not you\r\n"),
                  SEND("503 no sender\r\n"), SEND("503 no sender\r\n"), SEND("503 no sender\r\n"),
                  BYE, END},
        .rcpt_count = 2,
        .rcpts = {SAID(VERDICT_PERMANENT, 550, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "MAIL put off, not pipelined",
        .steps = {PLAIN, MAIL_0, SEND("451 4.7.1 later\r\n"), BYE, END},
        .rcpt_count = 2,
        .rcpts = {SAID(VERDICT_TRANSIENT, 451, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "MAIL refused, yet a recipient taken and 354: no dot, no second use",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, SEND("550 5.7.1 not you\r\n"), OK, GO,
                  PROBE_MS(2000), END},
        .rcpts = {SAID(VERDICT_PERMANENT, 550, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        .closed = BROKEN(VERDICT_AT_DATA, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "DATA refused: those taken get its verdict",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, NO_USER, OK,
                  SEND("451 4.3.0 disk\r\n"), BYE, END},
        .rcpt_count = 2,
        .rcpts = {REFUSED(550), SAID(VERDICT_TRANSIENT, 451, VERDICT_AT_DATA, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "the message refused after the dot",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, NO_USER, OK, GO, MESSAGE,
                  SEND("554 5.7.1 spam\r\n"), BYE, END},
        .rcpt_count = 2,
        .rcpts = {REFUSED(550), SAID(VERDICT_PERMANENT, 554, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "the message put off after the dot",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, OK, GO, MESSAGE,
                  SEND("451 4.7.650 slow down\r\n"), BYE, END},
        .rcpts = {SAID(VERDICT_TRANSIENT, 451, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "452 4.5.3 is too many recipients, even at the first",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, SEND("452 4.5.3 enough\r\n"), GO,
                  MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN, DELAYED(452, VERDICT_TOO_MANY_RCPT)},
        FINISHED,
    },
    {
        .name = "a bare 452 is too many recipients after one was taken",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, SEND("452 enough\r\n"), GO,
                  MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN, DELAYED(452, VERDICT_TOO_MANY_RCPT)},
        FINISHED,
    },
    {
        .name = "a bare 452 at the first is not",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, SEND("452 no room\r\n"), OK, GO,
                  MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {DELAYED(452, 0), TAKEN},
        FINISHED,
    },
    {
        .name = "452 with another cause is not",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK,
                  SEND("452 4.2.2 mailbox full\r\n"), GO, MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN, DELAYED(452, 0)},
        FINISHED,
    },
    {
        .name = "552 5.5.3 is the old way to say it (RFC 5321 4.5.3.1.10)",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, SEND("552 5.5.3 enough\r\n"), GO,
                  MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN, DELAYED(552, VERDICT_TOO_MANY_RCPT)},
        FINISHED,
    },
    {
        .name = "552 5.2.2 is a full mailbox",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, SEND("552 5.2.2 full\r\n"), GO,
                  MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .rcpts = {TAKEN, REFUSED(552)},
        FINISHED,
    },
};

static void recipients_are_told_one_by_one(void **state)
{
    stage_check_all(rcpt_scenes, sizeof(rcpt_scenes) / sizeof(rcpt_scenes[0]));
}

/* ---- EHLO and the extensions --------------------------------------------------------------- */

static const char eight_bits[] = "Subject: \xc3\xa4\r\n\r\nx\r\n";
static const struct iovec eight_bit_content = {(void *)(uintptr_t)eight_bits,
                                               sizeof(eight_bits) - 1};
static const struct slice utf8_rcpt[] = {{(const uint8_t *)"\xc3\xa4@example.org", 14}};
static const struct slice good_and_bad_rcpts[] = {
    {(const uint8_t *)"good@example.org", 16},
    {(const uint8_t *)"bad\r\nRSET@example.org", 21},
};
static const struct slice bracket_rcpt[] = {{(const uint8_t *)"a> NOTIFY=NEVER <b@c", 20}};
static const struct slice quoted_rcpt[] = {{(const uint8_t *)"\"a> b\\\"\"@c.example", 18}};
static const struct slice empty_rcpt[] = {{(const uint8_t *)"", 0}};

#define CONTENT_8BIT                                                                               \
    .content = &eight_bit_content, .content_count = 1, .content_bytes = sizeof(eight_bits) - 1,    \
    .content_is_8bit = true

static const struct scene extension_scenes[] = {
    {
        .name = "EHLO refused with 500, HELO taken",
        .steps = {HELLO, SEND("500 what\r\n"), EXPECT("HELO out.example"), OK, MAIL_0, OK, RCPT_0,
                  OK, DATA, GO, MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "EHLO refused with 502, HELO refused",
        .steps = {HELLO, SEND("502 what\r\n"), EXPECT("HELO out.example"), SEND("504 no\r\n"), BYE,
                  END},
        .closed = SAID(VERDICT_PERMANENT, 504, VERDICT_AT_EHLO, VERDICT_HOST),
    },
    {
        .name = "EHLO put off is not tried as HELO",
        .steps = {HELLO, SEND("451 4.3.0 later\r\n"), BYE, END},
        .closed = SAID(VERDICT_TRANSIENT, 451, VERDICT_AT_EHLO, VERDICT_HOST),
    },
    {
        .name = "SIZE is said when it was offered, in any case of letters",
        .steps = {HELLO, OFFER("250-pipelining\r\n250 size 1000\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SIZE=23"), RCPT_0, DATA, OK, OK, GO,
                  MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "SIZE without a number, or zero, is no limit",
        .steps = {HELLO, OFFER("250-SIZE\r\n250 SIZE 0\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SIZE=99999999"), OK, RCPT_0, OK, DATA, GO,
                  MESSAGE, OK, BYE, END},
        .transaction = {.content_bytes = 99999999},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "SIZE beyond all numbers is no limit",
        .steps = {HELLO, OFFER("250 SIZE 99999999999999999999999\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SIZE=23"), OK, RCPT_0, OK, DATA, GO,
                  MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "larger than SIZE allows: 552 5.3.4 without a word (RFC 1870)",
        .steps = {HELLO, OFFER("250-PIPELINING\r\n250 SIZE 1000\r\n"), BYE, END},
        .rcpt_count = 2,
        .transaction = {.content_bytes = 1001},
        .rcpts = {LOCAL(552)},
        FINISHED,
    },
    {
        .name = "as large as SIZE allows",
        .steps = {HELLO, OFFER("250 SIZE 1000\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SIZE=1000"), OK, RCPT_0, OK, DATA, GO,
                  MESSAGE, OK, BYE, END},
        .transaction = {.content_bytes = 1000},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "8-bit content with 8BITMIME",
        .steps = {PIPELINED, EXPECT("MAIL FROM:<sender@out.example> BODY=8BITMIME"), RCPT_0, DATA,
                  OK, OK, GO, BODY_IS(eight_bits), OK, BYE, END},
        .transaction = {CONTENT_8BIT},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "8-bit content without 8BITMIME: 5.6.3 (RFC 6152)",
        .steps = {HELLO, OFFER("250 PIPELINING\r\n"), BYE, END},
        .rcpt_count = 2,
        .transaction = {CONTENT_8BIT},
        .rcpts = {LOCAL(554)},
        FINISHED,
    },
    {
        .name = "8-bit content, 8BITMIME ignored by setting",
        .steps = {HELLO, OFFER("250 PIPELINING\r\n"), MAIL_0, RCPT_0, DATA, OK, OK, GO,
                  BODY_IS(eight_bits), OK, BYE, END},
        .tune = ignore_8bitmime,
        .transaction = {CONTENT_8BIT},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "SMTPUTF8 wanted and offered",
        .steps = {HELLO, OFFER("250-SMTPUTF8\r\n250 PIPELINING\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SMTPUTF8"), RCPT_0, DATA, OK, OK, GO,
                  MESSAGE, OK, BYE, END},
        .transaction = {.wants_smtputf8 = true},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "SMTPUTF8 wanted and not offered: 5.6.7 (RFC 6531)",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.wants_smtputf8 = true},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "an address beyond ASCII wants SMTPUTF8 by itself",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.rcpts = utf8_rcpt, .rcpt_count = 1},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "a line end in an address never reaches the wire (A18)",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.rcpts = good_and_bad_rcpts, .rcpt_count = 2},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "nor do brackets outside quotes",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.rcpts = bracket_rcpt, .rcpt_count = 1},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "nor an empty recipient",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.rcpts = empty_rcpt, .rcpt_count = 1},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "within quotes they may stand",
        .steps = {PIPELINED, MAIL_0, EXPECT("RCPT TO:<\"a> b\\\"\"@c.example>"), DATA, OK, OK, GO,
                  MESSAGE, OK, BYE, END},
        .transaction = {.rcpts = quoted_rcpt, .rcpt_count = 1},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "a sender's line end neither",
        .steps = {PIPELINED, BYE, END},
        .transaction = {.sender = {(const uint8_t *)"a\n@b", 4}},
        .rcpts = {LOCAL(553)},
        FINISHED,
    },
    {
        .name = "the null sender",
        .steps = {PIPELINED, EXPECT("MAIL FROM:<>"), RCPT_0, DATA, OK, OK, GO, MESSAGE, OK, BYE,
                  END},
        .transaction = {.sender = {(const uint8_t *)"", 0}},
        .rcpts = {TAKEN},
        FINISHED,
    },
};

static void extensions_are_used_as_offered(void **state)
{
    stage_check_all(extension_scenes, sizeof(extension_scenes) / sizeof(extension_scenes[0]));
}

/* To a receiver that offers DSN; long ones leave in several writes. */
static void what_is_asked_of_notices_is_said(void **state)
{
    static const struct slice orcpts[] = {SLICE_LITERAL("rfc822;old+0@example.org"), SLICE_EMPTY};
    static const uint8_t notifies[] = {DSN_NOTIFY_SUCCESS | DSN_NOTIFY_DELAY, 0};
    static const struct smtpc_dsn_request dsn = {.has_ret = true,
                                                 .envelope_id = SLICE_LITERAL("Q 1"),
                                                 .orcpts = orcpts,
                                                 .notifies = notifies};
    static const struct scene scene = {
        .name = "parameters of RFC 3461",
        .steps = {HELLO, OFFER("250-DSN\r\n250 PIPELINING\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> RET=HDRS ENVID=Q+201"),
                  EXPECT("RCPT TO:<r0@example.org> NOTIFY=SUCCESS,DELAY "
                         "ORCPT=rfc822;old+2B0@example.org"),
                  EXPECT("RCPT TO:<r1@example.org>"), DATA, OK, OK, OK, GO, MESSAGE, OK, BYE, END},
        .rcpt_count = 2,
        .transaction = {.dsn = &dsn},
        .rcpts = {TAKEN},
        FINISHED,
    };

    stage_check(&scene, 1, false);
}

static void what_was_offered_can_be_read(void **state)
{
    static const struct scene scene = {
        .name = "all of it, in an order of its own, longer than the text kept of a reply",
        .steps = {HELLO,
                  OFFER("250-STARTTLS\r\n250-DSN\r\n250-X-UNKNOWN and so on\r\n"
                        "250-AUTH PLAIN LOGIN\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n"),
                  FLOOD("250-XPADDING 0123456789012345678901234567890123456789\r\n", 40),
                  SEND("250-SMTPUTF8\r\n250-SIZE  52428800 \r\n250-8BITMIME\r\n250 PIPELINING\r\n"),
                  EXPECT("MAIL FROM:<sender@out.example> SIZE=23"), RCPT_0, DATA, OK, OK, GO,
                  MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
    };
    static struct play play;

    stage_check(&scene, 1, false);
    stage_play(&scene, 2, true, &play);
    assert_string_equal(play.extension_text, "PIPELINING,SIZE,8BITMIME,SMTPUTF8,"
                                             "ENHANCEDSTATUSCODES,CHUNKING,DSN,STARTTLS");
    assert_int_equal(play.extensions, 255);
    assert_true(play.size_limit == 52428800);
}

/* ---- One message after the other ----------------------------------------------------------- */

#define ONCE MAIL_0, RCPT_0, DATA, OK, OK, GO, MESSAGE, OK

static const struct scene reuse_scenes[] = {
    {
        .name = "clean transactions follow without RSET",
        .steps = {PIPELINED, ONCE, ONCE, ONCE, BYE, END},
        .transaction_count = 3,
        .rcpts = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 3,
        .continued = 3,
    },
    {
        .name = "no RSET after a message that was refused at the dot, or had refused recipients",
        .steps = {PIPELINED,
                  MAIL_0,
                  RCPT_0,
                  RCPT_1,
                  DATA,
                  OK,
                  OK,
                  NO_USER,
                  GO,
                  MESSAGE,
                  SEND("554 5.7.1 spam\r\n"),
                  MAIL_0,
                  RCPT_0,
                  RCPT_1,
                  DATA,
                  OK,
                  OK,
                  OK,
                  GO,
                  MESSAGE,
                  OK,
                  BYE,
                  END},
        .transaction_count = 2,
        .rcpt_count = 2,
        .rcpts = {SAID(VERDICT_PERMANENT, 554, VERDICT_AT_DOT, VERDICT_MESSAGE), REFUSED(550)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "none taken: RSET leads the next flight",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, NO_USER, SEND("554 no\r\n"), EXPECT("RSET"),
                  MAIL_0, RCPT_0, DATA, OK, OK, OK, GO, MESSAGE, OK, BYE, END},
        .transaction_count = 2,
        .rcpts = {REFUSED(550)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "none taken, not pipelined: RSET is a step of its own",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, NO_USER, EXPECT("RSET"), PROBE_MS(500), OK, MAIL_0, OK,
                  RCPT_0, OK, DATA, GO, MESSAGE, OK, BYE, END},
        .transaction_count = 2,
        .rcpts = {REFUSED(550)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "after a lone dot no RSET is needed",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, OK, NO_USER, GO, BODY_IS(""), SEND("554 no\r\n"),
                  ONCE, BYE, END},
        .transaction_count = 2,
        .rcpts = {REFUSED(550)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "after MAIL was refused no RSET is needed",
        .steps = {PIPELINED, MAIL_0, RCPT_0, DATA, SEND("550 no\r\n503 a\r\n503 b\r\n"), ONCE, BYE,
                  END},
        .transaction_count = 2,
        .rcpts = {SAID(VERDICT_PERMANENT, 550, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "RSET refused: the session is not used again",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, NO_USER, EXPECT("RSET"), SEND("501 no\r\n"), END},
        .transaction_count = 2,
        .rcpts = {REFUSED(550)},
        .closed = BROKEN(VERDICT_AT_MAIL, 0),
        .ready_count = 1,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "421 to the second MAIL is about the connection: that message comes back",
        .steps = {PIPELINED, ONCE, MAIL_0, RCPT_0, DATA, SEND("421 4.7.0 enough\r\n"), CLOSE, END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
        .returned = 1,
    },
    {
        .name = "421 to the RSET before the second MAIL likewise, whatever became of the first",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, NO_USER, EXPECT("RSET"), SEND("421 4.7.0 enough\r\n"),
                  CLOSE, END},
        .transaction_count = 2,
        .rcpts = {REFUSED(550)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
        .returned = 1,
    },
    {
        .name = "421 to the second RCPT is the second message's",
        .steps = {PIPELINED, ONCE, MAIL_0, RCPT_0, DATA, OK, SEND("421 4.7.0 enough\r\n"), CLOSE,
                  END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .second = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "refusals of ours leave the session alone",
        .steps = {HELLO, OFFER("250-PIPELINING\r\n250 SIZE 10\r\n"), BYE, END},
        .transaction_count = 5,
        .transaction = {.content_bytes = 11},
        .rcpts = {LOCAL(552)},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 5,
        .continued = 5,
    },
};

static void transactions_follow_each_other(void **state)
{
    stage_check_all(reuse_scenes, sizeof(reuse_scenes) / sizeof(reuse_scenes[0]));
}

static void replace_421(struct smtpc_options *options)
{
    options->replace_421 = true;
}

static void assert_told(const struct verdict *verdict, const char *text, uint8_t subject)
{
    assert_int_equal(verdict->code, 421);
    assert_int_equal(verdict->class, VERDICT_TRANSIENT);
    assert_int_equal(verdict->enhanced[0], 4);
    assert_int_equal(verdict->enhanced[1], subject);
    assert_true(slice_equal(verdict_text(verdict), slice_str(text)));
}

/* The last refusal of the same transaction, and only where it is asked for. */
static void a_421_is_explained(void **state)
{
    static struct scene scene = {
        .name = "421 behind a refusal",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, SEND("550 5.7.1 too many bad ones\r\n"), RCPT_1,
                  SEND("421 4.3.2 bye\r\n"), CLOSE, END},
        .rcpt_count = 2,
        .tune = replace_421,
    };
    static struct scene next = {
        .name = "421 in the transaction after it",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, NO_USER, EXPECT("RSET"), OK, MAIL_0, OK, RCPT_0,
                  SEND("421 4.3.2 bye\r\n"), CLOSE, END},
        .transaction_count = 2,
        .tune = replace_421,
    };
    static struct play play;

    stage_play(&scene, 1, false, &play);
    assert_string_equal(play.trouble, "");
    assert_told(&play.verdicts[0][1], "550 5.7.1 too many bad ones", 7);
    scene.tune = NULL;
    stage_play(&scene, 1, false, &play);
    assert_told(&play.verdicts[0][1], "421 4.3.2 bye", 3);
    stage_play(&next, 1, false, &play);
    assert_string_equal(play.trouble, "");
    assert_told(&play.verdicts[1][0], "421 4.3.2 bye", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_go_out),
        cmocka_unit_test(a_421_is_explained),
        cmocka_unit_test(recipients_are_told_one_by_one),
        cmocka_unit_test(extensions_are_used_as_offered),
        cmocka_unit_test(what_is_asked_of_notices_is_said),
        cmocka_unit_test(what_was_offered_can_be_read),
        cmocka_unit_test(transactions_follow_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
