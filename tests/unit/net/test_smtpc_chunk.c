/* The message as one chunk behind its commands: when it goes so, and whose reply is whose. */
#include "tests/unit/net/smtpc_stage.h"

#include <stdio.h>
#include <string.h>

#define CHUNKING HELLO, OFFER("250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n")
#define CHUNK    EXPECT("BDAT 22 LAST"), EXPECT("Subject: hi"), EXPECT(""), EXPECT("hello")
#define ONCE     MAIL_0, RCPT_0, CHUNK
#define ONE_OF_2 MAIL_0, RCPT_0, RCPT_1, CHUNK
#define NO_USER  SEND("550 5.1.1 no such user\r\n")

#define UNSTUFFED .transaction = {.may_chunk = true}

#define REFUSED(code, stage, scope) SAID(VERDICT_PERMANENT, code, stage, scope)
#define RCPT_REFUSED                REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)
#define NOT_KNOWN(code)                                                                            \
    TOLD(VERDICT_TRANSIENT, code, VERDICT_AT_DOT, VERDICT_SESSION,                                 \
         VERDICT_FROM_REPLY | VERDICT_NO_CHUNKING)

static void ignore_chunking(struct smtpc_options *options)
{
    options->ignore_chunking = true;
}

static const struct scene scenes[] = {
    {
        .name = "one flight",
        .steps = {CHUNKING, ONCE, OK, OK, OK, BYE, END},
        UNSTUFFED,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "one after the other on one connection",
        .steps = {CHUNKING, ONCE, SEND("250 2.1.0 mail\r\n250 2.1.5 rcpt\r\n250 2.6.0 taken\r\n"),
                  ONCE, OK, OK, OK, BYE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "nothing is sent ahead behind a chunk",
        .steps = {CHUNKING, ONCE, PROBE_MS(1000), OK, OK, OK, ONCE, OK, OK, OK, BYE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .sends_ahead = true,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "a stuffed dot: by DATA, whose end carries the next one's commands as ever",
        .steps = {CHUNKING, FLIGHT_0, OK, OK, GO, MESSAGE, FLIGHT_0, OK, OK, OK, GO, MESSAGE, OK,
                  BYE, END},
        .transaction_count = 2,
        .sends_ahead = true,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "without PIPELINING by DATA",
        .steps = {HELLO, OFFER("250 CHUNKING\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO,
                  BODY_IS("Subject: hi\r\n\r\nhello\r\n"), OK, BYE, END},
        UNSTUFFED,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "ignored",
        .steps = {CHUNKING, FLIGHT_0, OK, OK, GO, BODY_IS("Subject: hi\r\n\r\nhello\r\n"), OK, BYE,
                  END},
        UNSTUFFED,
        .tune = ignore_chunking,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "some recipients taken, some not",
        .steps = {CHUNKING, ONE_OF_2, OK, NO_USER, OK, OK, BYE, END},
        UNSTUFFED,
        .rcpt_count = 2,
        .rcpts = {RCPT_REFUSED, TAKEN},
        FINISHED,
    },
    {
        .name = "no recipient taken: BDAT is refused, and RSET leads the next flight",
        .steps = {CHUNKING, ONCE, OK, NO_USER, SEND("503 5.5.1 no recipients\r\n"), EXPECT("RSET"),
                  ONCE, OK, OK, OK, OK, BYE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {RCPT_REFUSED},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "MAIL refused",
        .steps = {CHUNKING, ONCE, SEND("550 5.7.1 no\r\n503 a\r\n503 b\r\n"), EXPECT("RSET"), ONCE,
                  OK, OK, OK, OK, BYE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {REFUSED(550, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "the message refused: its own verdict, and RSET",
        .steps = {CHUNKING, ONCE, OK, OK, SEND("554 5.7.1 spam\r\n"), EXPECT("RSET"), ONCE, OK, OK,
                  OK, OK, BYE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {REFUSED(554, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "the message deferred",
        .steps = {CHUNKING, ONCE, OK, OK, SEND("451 4.3.0 later\r\n"), BYE, END},
        UNSTUFFED,
        .rcpts = {SAID(VERDICT_TRANSIENT, 451, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        FINISHED,
    },
    {
        .name = "a liar: BDAT is not known, and no line of the message is answered for",
        .steps = {CHUNKING, ONCE, OK, OK, SEND("500 5.5.1 unknown\r\n500 a\r\n500 b\r\n"), END},
        UNSTUFFED,
        .rcpts = {NOT_KNOWN(500)},
        .closed = BROKEN(VERDICT_AT_DOT, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "a liar, one recipient refused before",
        .steps = {CHUNKING, ONE_OF_2, OK, NO_USER, OK, SEND("502 5.5.1 not here\r\n"), END},
        UNSTUFFED,
        .rcpt_count = 2,
        .rcpts = {RCPT_REFUSED, NOT_KNOWN(502)},
        .closed = BROKEN(VERDICT_AT_DOT, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "a23: 354 is no answer to BDAT",
        .steps = {CHUNKING, ONCE, OK, OK, GO, END},
        UNSTUFFED,
        .rcpts = {BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "a23: 250 for a message that nobody was to get",
        .steps = {CHUNKING, ONCE, OK, NO_USER, OK, END},
        UNSTUFFED,
        .rcpts = {RCPT_REFUSED},
        .closed = BROKEN(VERDICT_AT_DOT, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "lost before any answer, on a new connection: in doubt",
        .steps = {CHUNKING, ONCE, CLOSE, END},
        UNSTUFFED,
        .rcpts = {LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "lost behind the recipient's answer: in doubt",
        .steps = {CHUNKING, ONCE, OK, OK, CLOSE, END},
        UNSTUFFED,
        .rcpts = {LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "closed between messages, behind the second one: it may have been read",
        .steps = {CHUNKING, ONCE, OK, OK, OK, ONCE, CLOSE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .second = {LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "421 to the second MAIL: it comes back",
        .steps = {CHUNKING, ONCE, OK, OK, OK, ONCE, SEND("421 4.7.0 enough\r\n"), CLOSE, END},
        UNSTUFFED,
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
        .returned = 1,
    },
    {
        .name = "421 to BDAT",
        .steps = {CHUNKING, ONCE, OK, OK, SEND("421 4.3.2 down\r\n"), CLOSE, END},
        UNSTUFFED,
        .rcpts = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_DOT, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_DOT, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
    },
};

static void a_small_message_goes_as_a_chunk(void **state)
{
    stage_check_all(scenes, sizeof(scenes) / sizeof(scenes[0]));
}

/* Octets of lines of 64, dots at none of their beginnings. */
static uint8_t large[SMTPC_CHUNK_BYTES_MAX + 64];

/* A receiver that answers before it has read, and then reads slowly or never: the reply waits until
 * the message's memory is not needed any more. */
static void an_answer_that_overtakes_the_message(void **state)
{
    static struct iovec content;
    struct scene scene = {
        .name = "early refusal",
        .steps = {CHUNKING, PAUSE, WAIT_MS(1000),
                  SEND("250 mail\r\n250 rcpt\r\n552 5.3.4 too large\r\n"), WAIT_MS(5000), END},
        .rcpts = {REFUSED(552, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        .closed = REFUSED(552, VERDICT_AT_DOT, VERDICT_MESSAGE),
        .ready_count = 1,
        .done_count = 1,
        .is_cut_sensitive = true,
    };

    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = (uint8_t)(i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : 'x');
    content = (struct iovec){large, SMTPC_CHUNK_BYTES_MAX};
    scene.transaction = (struct smtpc_transaction){.content = &content,
                                                   .content_count = 1,
                                                   .content_bytes = content.iov_len,
                                                   .may_chunk = true};
    stage_check(&scene, 1, false);
}

/* One octet more than the bound, or no CRLF at the end: by DATA. */
static void what_does_not_fit_goes_by_data(void **state)
{
    static const struct {
        size_t bytes;
        bool is_chunk;
    } rows[] = {
        {SMTPC_CHUNK_BYTES_MAX, true},
        {SMTPC_CHUNK_BYTES_MAX + 64, false},
        {SMTPC_CHUNK_BYTES_MAX - 64, true},
        {SMTPC_CHUNK_BYTES_MAX - 1, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct iovec content;
        static struct play play;
        static const struct step by_data[] = {EXPECT("DATA"), OK, OK, GO, BODY, OK, BYE, END};
        char bdat[32];
        struct scene scene = {.name = "size", .steps = {CHUNKING, MAIL_0, RCPT_0, END}};
        size_t at = 0;

        content = (struct iovec){large, rows[i].bytes};
        scene.transaction = (struct smtpc_transaction){.content = &content,
                                                       .content_count = 1,
                                                       .content_bytes = content.iov_len,
                                                       .may_chunk = true};
        while (scene.steps[at].kind != STEP_END)
            at++;
        snprintf(bdat, sizeof(bdat), "BDAT %zu LAST", rows[i].bytes);
        if (rows[i].is_chunk)
            scene.steps[at] = (struct step)EXPECT(bdat);
        else
            memcpy(&scene.steps[at], by_data, sizeof(by_data));
        stage_play(&scene, 1, false, &play);
        /* The script ends where the octets of a chunk begin. */
        assert_true(play.steps_played >= at + (rows[i].is_chunk ? 1 : 7));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_message_goes_as_a_chunk),
        cmocka_unit_test(an_answer_that_overtakes_the_message),
        cmocka_unit_test(what_does_not_fit_goes_by_data),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
