/*
 * The transaction that is sent ahead: whose reply is whose, what the end of a connection means for
 * it, and that a receiver which answers once too often, or not at all, decides no recipient.
 */
#include "tests/unit/net/smtpc_stage.h"

#include <stdio.h>
#include <string.h>

/* A first message with a second one's commands behind it, its dot not yet answered. */
#define FIRST PIPELINED, FLIGHT_0, OK, OK, GO, MESSAGE, FLIGHT_0
#define FIRST_OF_2                                                                                 \
    PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, OK, GO, MESSAGE, MAIL_0, RCPT_0, RCPT_1, DATA

#define SECOND .transaction_count = 2, .sends_ahead = true, .ready_count = 1

#define REFUSED(code, stage, scope) SAID(VERDICT_PERMANENT, code, stage, scope)

static const struct scene scenes[] = {
    {
        .name = "one round trip a message",
        .steps = {FIRST, OK, OK, OK, GO, MESSAGE, FLIGHT_0, OK, OK, OK, GO, MESSAGE, OK, BYE, END},
        .transaction_count = 3,
        .sends_ahead = true,
        .ready_count = 1,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .done_count = 3,
        .continued = 1,
    },
    {
        .name = "all replies to both in one segment",
        .steps = {FIRST, SEND("250 taken\r\n250 mail\r\n250 rcpt\r\n354 go\r\n"), MESSAGE, OK, BYE,
                  END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "a receiver without PIPELINING is never sent anything ahead",
        .steps = {PLAIN,          MAIL_0, OK,     RCPT_0, OK,     DATA, GO,   MESSAGE,
                  PROBE_MS(1000), OK,     MAIL_0, OK,     RCPT_0, OK,   DATA, GO,
                  MESSAGE,        OK,     BYE,    END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 2,
    },
    {
        .name = "a refusal of the first message decides the first alone",
        .steps = {FIRST, SEND("554 5.7.1 spam\r\n"), OK, OK, GO, MESSAGE, OK, BYE, END},
        SECOND,
        .rcpts = {REFUSED(554, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "421 to the dot is the first one's, the second comes back",
        .steps = {FIRST, SEND("421 4.3.2 down\r\n"), CLOSE, END},
        SECOND,
        .rcpts = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_DOT, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_DOT, VERDICT_SESSION),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "closed instead of an answer: the first is in doubt, the second comes back",
        .steps = {FIRST, CLOSE, END},
        SECOND,
        .rcpts = {LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "closed behind the answer: nothing happened to the second",
        .steps = {FIRST, OK, CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .closed = LOST(VERDICT_AT_IDLE, 0),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "closed behind a refusal: nothing happened to the second either",
        .steps = {FIRST, SEND("450 4.7.1 later\r\n"), CLOSE, END},
        SECOND,
        .rcpts = {SAID(VERDICT_TRANSIENT, 450, VERDICT_AT_DOT, VERDICT_MESSAGE)},
        .closed = LOST(VERDICT_AT_IDLE, 0),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "421 to MAIL is about the connection: the second comes back",
        .steps = {FIRST, OK, SEND("421 4.7.0 enough for one connection\r\n"), CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "421 to RCPT is the second one's",
        .steps = {FIRST, OK, OK, SEND("421 4.7.0 too fast\r\n"), CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION),
        .done_count = 2,
    },
    {
        .name = "421 to the RSET that asks for step: an attempt",
        .steps = {FIRST, OK, OK, SEND("550 5.1.1 no\r\n503 no\r\n"), EXPECT("RSET"),
                  SEND("421 4.7.0 enough\r\n"), CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION),
        .done_count = 2,
    },
    {
        .name = "closed behind the answer to MAIL: an attempt",
        .steps = {FIRST, OK, OK, CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {LOST(VERDICT_AT_RCPT, 0)},
        .closed = LOST(VERDICT_AT_RCPT, 0),
        .done_count = 2,
    },
    {
        .name = "some recipients taken, some not",
        .steps = {FIRST_OF_2, OK, OK, SEND("550 5.1.1 no\r\n"), OK, GO, MESSAGE, OK, BYE, END},
        SECOND,
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        .second = {REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT), TAKEN},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "no recipient taken and 354: a lone dot",
        .steps = {FIRST, OK, OK, SEND("550 5.1.1 no\r\n"), GO, BODY_IS(""),
                  SEND("554 no recipients\r\n"), BYE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "no recipient taken: told when RSET proves step",
        .steps = {FIRST, OK, OK, SEND("550 5.1.1 no\r\n503 no recipients\r\n"), EXPECT("RSET"), OK,
                  BYE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "the sender refused: told when RSET proves step",
        .steps = {FIRST_OF_2, OK, SEND("550 5.7.1 no\r\n503 a\r\n503 b\r\n503 c\r\n"),
                  EXPECT("RSET"), OK, BYE, END},
        SECOND,
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        .second = {REFUSED(550, VERDICT_AT_MAIL, VERDICT_MESSAGE)},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "DATA refused: told when RSET proves step",
        .steps = {FIRST_OF_2, OK, OK, OK, SEND("550 5.1.1 no\r\n552 5.2.2 full\r\n"),
                  EXPECT("RSET"), OK, BYE, END},
        SECOND,
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        .second = {REFUSED(552, VERDICT_AT_DATA, VERDICT_MESSAGE),
                   REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    },
    {
        .name = "a connection lost before RSET is answered refuses nobody",
        .steps = {FIRST, OK, OK, SEND("550 5.1.1 no\r\n503 no\r\n"), EXPECT("RSET"), CLOSE, END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {LOST(VERDICT_AT_MAIL, 0)},
        .closed = LOST(VERDICT_AT_MAIL, 0),
        .done_count = 2,
    },
    /* ---- Receivers out of step ---- */
    {
        .name = "a23: two answers to the dot, and DATA meets a recipient's 250",
        .steps = {FIRST, SEND("250 taken\r\n250 twice\r\n250 mail\r\n250 rcpt\r\n"), END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {BROKEN(VERDICT_AT_DATA, 0)},
        .closed = BROKEN(VERDICT_AT_DATA, 0),
        .done_count = 2,
    },
    {
        .name = "a23: two answers to the dot, and RSET meets DATA's 503",
        .steps = {FIRST, SEND("250 taken\r\n250 twice\r\n"), OK, SEND("550 5.1.1 no\r\n"),
                  EXPECT("RSET"), SEND("503 no recipients\r\n"), END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {BROKEN(ANY, 0)},
        .closed = BROKEN(ANY, 0),
        .done_count = 2,
    },
    {
        .name = "a23: two answers to the dot, and RSET meets DATA's 354",
        .steps = {FIRST_OF_2, SEND("250 taken\r\n250 twice\r\n"), OK, OK, SEND("550 5.1.1 no\r\n"),
                  EXPECT("RSET"), GO, END},
        SECOND,
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        .second = {BROKEN(ANY, 0)},
        .closed = BROKEN(ANY, 0),
        .done_count = 2,
    },
    {
        .name = "a23: the surplus is seen before RSET leaves",
        .steps = {FIRST, SEND("250 taken\r\n250 twice\r\n250 mail\r\n550 no\r\n503 none\r\n"), END},
        SECOND,
        .is_cut_sensitive = true,
        .rcpts = {TAKEN},
        .second = {BROKEN(ANY, 0)},
        .closed = BROKEN(ANY, 0),
        .done_count = 2,
    },
    {
        .name = "a23: an answer for each recipient, as LMTP has it",
        .steps = {FIRST_OF_2, SEND("250 r0\r\n550 r1\r\n"), OK, OK, OK, END},
        SECOND,
        .rcpt_count = 2,
        .rcpts = {TAKEN},
        .second = {BROKEN(VERDICT_AT_DATA, 0)},
        .closed = BROKEN(VERDICT_AT_DATA, 0),
        .done_count = 2,
    },
    {
        .name = "a23: a receiver that lost MAIL speaks of a bad sequence",
        .steps = {FIRST, OK, SEND("503 5.5.1 MAIL first\r\n"), END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {BROKEN(VERDICT_AT_MAIL, 0)},
        .closed = BROKEN(VERDICT_AT_MAIL, 0),
        .done_count = 2,
    },
    {
        .name = "a23: a receiver that lost RCPT does likewise",
        .steps = {FIRST, OK, OK, SEND("503 5.5.1 RCPT first\r\n"), END},
        SECOND,
        .rcpts = {TAKEN},
        .second = {BROKEN(VERDICT_AT_RCPT, 0)},
        .closed = BROKEN(VERDICT_AT_RCPT, 0),
        .done_count = 2,
    },
    {
        .name = "a23: an answer that does not fit the dot leaves the second unharmed",
        .steps = {FIRST, SEND("354 what\r\n"), END},
        SECOND,
        .rcpts = {BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .done_count = 1,
        .returned = 1,
    },
    {
        .name = "a22: a receiver that throws away what lies behind the dot",
        .steps = {FIRST, OK, END},
        SECOND,
        .rcpts = {TAKEN},
        .closed = BROKEN(VERDICT_AT_MAIL, 0),
        .done_count = 1,
        .returned = 1,
        .seconds_min = 300,
        .seconds_max = 301,
    },
};

static void replies_belong_to_the_message_they_answer(void **state)
{
    stage_check_all(scenes, sizeof(scenes) / sizeof(scenes[0]));
}

/* More commands than one buffer holds: the rest follows while the dot's reply is awaited. */
static void a_long_envelope_leaves_in_pieces(void **state)
{
    static char address[250], line[300];
    static struct slice rcpts[12];
    static struct scene scene = {
        .name = "a long envelope ahead",
        .steps = {PIPELINED},
        SECOND,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .done_count = 2,
        .continued = 1,
    };
    static const struct step whole[] = {OK, MESSAGE, BYE};
    size_t at = 0;

    memset(address, 'x', sizeof(address));
    memcpy(address + sizeof(address) - 10, "@e.example", 10);
    snprintf(line, sizeof(line), "RCPT TO:<%.250s>", address);
    for (size_t i = 0; i < 12; i++)
        rcpts[i] = slice_of(address, sizeof(address));
    scene.transaction = (struct smtpc_transaction){.rcpts = rcpts, .rcpt_count = 12};
    while (scene.steps[at].kind != STEP_END)
        at++;
    for (unsigned message = 0; message < 2; message++) {
        static const struct step opening = MAIL_0, ending = DATA;
        static const struct step replies[] = {
            SEND("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
            SEND("250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")};

        scene.steps[at++] = opening;
        for (unsigned i = 0; i < 12; i++)
            scene.steps[at++] = (struct step)EXPECT(line);
        scene.steps[at++] = ending;
        /* The second one's envelope is read to its end before the first message is answered. */
        if (message == 1)
            scene.steps[at++] = whole[0];
        scene.steps[at++] = replies[0];
        scene.steps[at++] = replies[1];
        scene.steps[at++] = whole[1];
    }
    scene.steps[at++] = whole[0];
    for (size_t i = 2; i < sizeof(whole) / sizeof(whole[0]); i++)
        scene.steps[at++] = whole[i];
    assert_true(at < sizeof(scene.steps) / sizeof(scene.steps[0]));
    stage_check_all(&scene, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_belong_to_the_message_they_answer),
        cmocka_unit_test(a_long_envelope_leaves_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
