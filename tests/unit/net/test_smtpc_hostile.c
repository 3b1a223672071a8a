/*
 * Receivers that mean ill, or are merely odd: greetings, early and surplus replies, tarpits, the
 * body and its end, idle connections, addresses nobody listens at.
 */
#include "tests/unit/net/smtpc_stage.h"

#include <stdio.h>
#include <string.h>

#define FLIGHT MAIL_0, RCPT_0, DATA

/* ---- Greetings ----------------------------------------------------------------------------- */

static const struct scene greeting_scenes[] = {
    {
        .name = "554: QUIT, and its words are the verdict",
        .steps = {SEND("554 5.7.1 bad reputation\r\n"), BYE, END},
        .closed = SAID(VERDICT_PERMANENT, 554, VERDICT_AT_GREETING, VERDICT_HOST),
    },
    {
        .name = "a multi-line 554",
        .steps = {SEND("554-go\r\n554 away\r\n"), BYE, END},
        .closed = SAID(VERDICT_PERMANENT, 554, VERDICT_AT_GREETING, VERDICT_HOST),
    },
    {
        .name = "521 and a close (RFC 7504)",
        .steps = {SEND("521 no mail here\r\n"), EXPECT("QUIT"), CLOSE, END},
        .closed = SAID(VERDICT_PERMANENT, 521, VERDICT_AT_GREETING, VERDICT_HOST),
    },
    {
        .name = "450, then silence: QUIT has its short time",
        .steps = {SEND("450 4.3.2 busy\r\n"), EXPECT("QUIT"), END},
        .closed = SAID(VERDICT_TRANSIENT, 450, VERDICT_AT_GREETING, VERDICT_HOST),
        .seconds_min = 5,
        .seconds_max = 6,
    },
    {
        .name = "354 as a greeting",
        .steps = {SEND("354 Start mail input\r\n"), PROBE_MS(1000), END},
        .closed = BROKEN(VERDICT_AT_GREETING, 0),
    },
    {
        .name = "late, but in time",
        .steps = {WAIT_MS(299000), PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, BYE, END},
        .rcpts = {TAKEN},
        FINISHED,
        .seconds_min = 299,
        .seconds_max = 300,
    },
    {
        .name = "the reply to EHLO before EHLO was said",
        .steps = {SEND("220 hi\r\n250 mx.example\r\n"), PROBE_MS(1000), END},
        .closed = BROKEN(VERDICT_AT_GREETING, 0),
        .is_cut_sensitive = true,
    },
    {
        .name = "a second greeting instead of the reply to EHLO",
        .steps = {HELLO, SEND("220 hi again\r\n"), PROBE_MS(1000), END},
        .closed = BROKEN(VERDICT_AT_EHLO, 0),
    },
};

static void a23_greetings(void **state)
{
    stage_check_all(greeting_scenes, sizeof(greeting_scenes) / sizeof(greeting_scenes[0]));
}

/* ---- Replies out of step (A23) ------------------------------------------------------------- */

static const struct scene step_scenes[] = {
    {
        .name = "garbage between the replies of a flight, after it all commands taken",
        .steps = {PIPELINED, FLIGHT, OK, SEND("hm\r\n250 ok\r\n354 go\r\n250 ok\r\n"),
                  PROBE_MS(1000), END},
        .rcpts = {BROKEN(VERDICT_AT_RCPT, 0)},
        .closed = BROKEN(VERDICT_AT_RCPT, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "one reply too many: the message must not go out",
        .steps = {PIPELINED, FLIGHT, SEND("250 a\r\n250 b\r\n250 c\r\n354 go\r\n250 taken\r\n"),
                  PROBE_MS(1000), END},
        .rcpts = {BROKEN(VERDICT_AT_DATA, 0)},
        .closed = BROKEN(VERDICT_AT_DATA, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "not pipelined: the next reply before its command",
        .steps = {PLAIN, MAIL_0, SEND("250 a\r\n250 b\r\n"), PROBE_MS(1000), END},
        .rcpts = {BROKEN(VERDICT_AT_MAIL, 0)},
        .closed = BROKEN(VERDICT_AT_MAIL, 0),
        .ready_count = 1,
        .done_count = 1,
        .is_cut_sensitive = true,
    },
    {
        .name = "garbage after the dot, then 221 as if for a pipelined QUIT: not delivered",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, SEND("garbage\r\n221 bye\r\n"), CLOSE,
                  END},
        .rcpts = {BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "221 alone after the dot: not delivered",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, SEND("221 bye\r\n"), CLOSE, END},
        .rcpts = {BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = BROKEN(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "two answers to the dot: the first counts, the session ends",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, SEND("250 ok\r\n550 or not\r\n"),
                  PROBE_MS(1000), END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = BROKEN(VERDICT_AT_IDLE, 0),
        .ready_count = 1,
        .done_count = 1,
        .is_cut_sensitive = true,
    },
    {
        .name = "250 and 421 together: delivered, and the 421 is passed on",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE,
                  SEND("250 ok\r\n421 4.7.0 enough for today\r\n"), PROBE_MS(1000), END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_IDLE, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
        .is_cut_sensitive = true,
    },
    {
        .name = "the last EHLO line and more behind it",
        .steps = {HELLO, SEND("250-x\r\n250 PIPELINING\r\n250 x\r\n"), PROBE_MS(1000), END},
        .closed = BROKEN(VERDICT_AT_EHLO, 0),
        .is_cut_sensitive = true,
    },
};

static void a23_replies_out_of_step(void **state)
{
    stage_check_all(step_scenes, sizeof(step_scenes) / sizeof(step_scenes[0]));
}

/* That the answer came too early shows only when it comes together with 354. */
static void a23_an_answer_before_the_message_is_none(void **state)
{
    static const struct scene scene = {
        .name = "the dot is answered together with 354",
        .steps = {PIPELINED, FLIGHT, SEND("250 a\r\n250 b\r\n354 go\r\n250 taken\r\n"),
                  PROBE_MS(1000), END},
        .rcpts = {BROKEN(VERDICT_AT_DATA, 0)},
        .closed = BROKEN(VERDICT_AT_DATA, 0),
        .ready_count = 1,
        .done_count = 1,
        .is_cut_sensitive = true,
    };

    stage_check(&scene, 1, false);
}

/* However the surplus is cut, no message counts as delivered without an answer to its dot. */
static void a23_no_cut_makes_surplus_a_delivery(void **state)
{
    static struct play play;

    for (size_t i = 0; i < sizeof(step_scenes) / sizeof(step_scenes[0]); i++) {
        bool saw_dot = false;

        for (const struct step *step = step_scenes[i].steps; step->kind != STEP_END; step++)
            saw_dot = saw_dot || step->kind == STEP_BODY;
        for (uint64_t seed = 1; seed < 200 && !saw_dot; seed++) {
            stage_play(&step_scenes[i], seed, true, &play);
            assert_int_equal(play.closed.class, VERDICT_TRANSIENT);
            assert_true(play.done_count == 0 || play.verdicts[0][0].class == VERDICT_TRANSIENT);
        }
    }
}

/* ---- Tarpits (A22) ------------------------------------------------------------------------- */

static void cap_of_100_s(struct smtpc_options *options)
{
    options->exchange_timeout_ms = 100000;
}

static void cap_of_700_s(struct smtpc_options *options)
{
    options->exchange_timeout_ms = 700000;
}

static const struct scene tarpit_scenes[] = {
    {
        .name = "every reply just in time: the whole is capped at half an hour",
        .steps = {PLAIN,
                  MAIL_0,
                  WAIT_MS(290000),
                  OK,
                  RCPT_0,
                  WAIT_MS(290000),
                  OK,
                  RCPT_1,
                  WAIT_MS(290000),
                  OK,
                  RCPT_2,
                  WAIT_MS(290000),
                  OK,
                  EXPECT("RCPT TO:<r3@example.org>"),
                  WAIT_MS(290000),
                  OK,
                  EXPECT("RCPT TO:<r4@example.org>"),
                  WAIT_MS(290000),
                  OK,
                  EXPECT("RCPT TO:<r5@example.org>"),
                  END},
        .rcpt_count = 20,
        .rcpts = {LOST(VERDICT_AT_RCPT, 0)},
        .closed = LOST(VERDICT_AT_RCPT, 0),
        .ready_count = 1,
        .done_count = 1,
        .seconds_min = 1800,
        .seconds_max = 1801,
    },
    {
        .name = "the opening is capped too",
        .steps = {WAIT_MS(70000), HELLO, WAIT_MS(20000), SEND("500 what\r\n"),
                  EXPECT("HELO out.example"), END},
        .tune = cap_of_100_s,
        .closed = {VERDICT_TRANSIENT, 421, VERDICT_AT_EHLO, VERDICT_HOST, 0},
        .seconds_min = 100,
        .seconds_max = 101,
    },
    {
        .name = "the cap begins anew with each transaction",
        .steps = {WAIT_MS(50000), PIPELINED, FLIGHT, WAIT_MS(80000), OK, OK, GO, MESSAGE, OK,
                  FLIGHT, WAIT_MS(80000), OK, OK, GO, MESSAGE, OK, BYE, END},
        .tune = cap_of_100_s,
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
        .seconds_min = 210,
        .seconds_max = 211,
    },
};

static void a22_the_whole_is_capped(void **state)
{
    stage_check_all(tarpit_scenes, sizeof(tarpit_scenes) / sizeof(tarpit_scenes[0]));
}

/* ---- The body ------------------------------------------------------------------------------ */

#define BIG_BYTES (3 * 1024 * 1024)

static char big[BIG_BYTES + 1];
static struct iovec big_parts[40];
static const struct iovec two_parts[] = {
    {(void *)(uintptr_t) "Subject: a\r\n\r\nb\r", 16},
    {(void *)(uintptr_t) "\n", 1},
};
static const struct iovec open_end[] = {{(void *)(uintptr_t) "Subject: a\r\n\r\nb", 15}};
static const struct iovec half_end[] = {{(void *)(uintptr_t) "Subject: a\r\n\r\nb\n", 16}};
static const struct iovec empty_parts[] = {
    {(void *)(uintptr_t) "", 0},
    {(void *)(uintptr_t) "x\r\n", 3},
    {(void *)(uintptr_t) "", 0},
};

static void make_big(void)
{
    size_t at = 0;

    for (size_t i = 0; i < BIG_BYTES; i++)
        big[i] = i % 64 == 62 ? '\r' : (i % 64 == 63 ? '\n' : (char)('a' + i % 26));
    big[BIG_BYTES] = '\0';
    /* In parts of very different lengths. */
    for (size_t i = 0; i < 40; i++) {
        size_t len = i == 39 ? BIG_BYTES - at : (i % 3 == 0 ? 1 : 40000 + i * 1000);

        big_parts[i] = (struct iovec){big + at, len};
        at += len;
    }
}

#define BIG .content = big_parts, .content_count = 40, .content_bytes = BIG_BYTES

static const struct scene body_scenes[] = {
    {
        .name = "in two parts, the line end between them",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, BODY_IS("Subject: a\r\n\r\nb\r\n"), OK, BYE, END},
        .transaction = {.content = two_parts, .content_count = 2},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "an open last line is ended before the dot",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, BODY_IS("Subject: a\r\n\r\nb\r\n"), OK, BYE, END},
        .transaction = {.content = open_end, .content_count = 1},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "LF alone ends no line",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, BODY_IS("Subject: a\r\n\r\nb\n\r\n"), OK, BYE,
                  END},
        .transaction = {.content = half_end, .content_count = 1},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "empty parts",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, BODY_IS("x\r\n"), OK, BYE, END},
        .transaction = {.content = empty_parts, .content_count = 3},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "large, in many parts, byte for byte",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, BODY, OK, BYE, END},
        .transaction = {BIG},
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "refused while the body is being sent, then closed: that is the answer",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(2500),
                  SEND("552 5.3.4 too big\r\n"), WAIT_MS(5000), END},
        .transaction = {BIG},
        .rcpts = {SAID(VERDICT_PERMANENT, 552, VERDICT_AT_BODY, VERDICT_MESSAGE)},
        .closed = SAID(VERDICT_PERMANENT, 552, VERDICT_AT_BODY, VERDICT_MESSAGE),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "421 while the body is being sent",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(2000), SEND("421 4.3.2 down\r\n"),
                  WAIT_MS(5000), END},
        .transaction = {BIG},
        .rcpts = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_BODY, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_BODY, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "250 while the body is being sent is no delivery",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(2000), SEND("250 taken\r\n"),
                  WAIT_MS(5000), END},
        .transaction = {BIG},
        .rcpts = {BROKEN(VERDICT_AT_BODY, 0)},
        .closed = BROKEN(VERDICT_AT_BODY, 0),
        .ready_count = 1,
        .done_count = 1,
    },
    {
        .name = "a receiver that stops reading: three minutes without progress, not in doubt",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, END},
        .transaction = {BIG},
        .rcpts = {LOST(VERDICT_AT_BODY, 0)},
        .closed = LOST(VERDICT_AT_BODY, 0),
        .ready_count = 1,
        .done_count = 1,
        .seconds_min = 180,
        .seconds_max = 200,
    },
    {
        .name = "reset in the middle of the body: not in doubt",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(3000), RESET, END},
        .transaction = {BIG},
        .rcpts = {LOST(VERDICT_AT_BODY, 0)},
        .closed = LOST(VERDICT_AT_BODY, 0),
        .ready_count = 1,
        .done_count = 1,
    },
};

static void bodies_and_their_ends(void **state)
{
    make_big();
    for (size_t i = 0; i < sizeof(body_scenes) / sizeof(body_scenes[0]); i++) {
        stage_check(&body_scenes[i], 1, false);
        for (uint64_t seed = 2; seed < 8; seed++)
            stage_check(&body_scenes[i], seed, true);
    }
}

static void a_large_body_arrives_byte_for_byte(void **state)
{
    static struct play play;

    make_big();
    for (uint64_t seed = 1; seed < 6; seed++) {
        stage_play(&body_scenes[4], seed, true, &play);
        assert_true(play.body_bytes == BIG_BYTES);
        assert_true(play.body_hash == stage_hash(STAGE_HASH_START, slice_of(big, BIG_BYTES)));
    }
}

/* The last window is given to the loop together with the dot, but does not fit on its way. */
static void the_dot_in_a_stuck_window_is_not_in_doubt(void **state)
{
    static struct iovec content = {big, 200 * 1024};
    static const struct step endings[] = {RESET, CLOSE, END};

    make_big();
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        struct scene scene = {
            .name = "one window, stuck",
            .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(3000), endings[i], END},
            .transaction = {.content = &content, .content_count = 1},
            .rcpts = {LOST(VERDICT_AT_BODY, 0)},
            .closed = LOST(VERDICT_AT_BODY, 0),
            .ready_count = 1,
            .done_count = 1,
        };

        for (uint64_t seed = 1; seed < 10; seed++)
            stage_check(&scene, seed, false);
    }
}

/* An answer to it comes too early, then: only a refusal counts. */
static void a_stuck_window_is_not_answered_by_yes(void **state)
{
    static struct iovec content = {big, 200 * 1024};
    static const struct scene scenes[] = {
        {
            .name = "yes before the end of the message",
            .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(3000), SEND("250 taken\r\n"),
                      WAIT_MS(9000), END},
            .transaction = {.content = &content, .content_count = 1},
            .rcpts = {BROKEN(VERDICT_AT_BODY, 0)},
            .closed = BROKEN(VERDICT_AT_BODY, 0),
            .ready_count = 1,
            .done_count = 1,
        },
        {
            .name = "no before the end of the message",
            .steps = {PIPELINED, FLIGHT, OK, OK, GO, PAUSE, WAIT_MS(3000),
                      SEND("552 5.3.4 too big\r\n"), WAIT_MS(9000), END},
            .transaction = {.content = &content, .content_count = 1},
            .rcpts = {SAID(VERDICT_PERMANENT, 552, VERDICT_AT_BODY, VERDICT_MESSAGE)},
            .closed = SAID(VERDICT_PERMANENT, 552, VERDICT_AT_BODY, VERDICT_MESSAGE),
            .ready_count = 1,
            .done_count = 1,
        },
    };

    make_big();
    stage_check_all(scenes, sizeof(scenes) / sizeof(scenes[0]));
}

/* Each window that leaves is progress: a body may take longer than any of the times. */
static void a22_a_slow_reader_that_makes_progress_is_waited_for(void **state)
{
    static const struct scene scene = {
        .name = "the whole body takes longer than the time for one window",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, SLOW_BODY(1000), WAIT_MS(590000), OK, BYE, END},
        .transaction = {BIG},
        .rcpts = {TAKEN},
        FINISHED,
        .tune = cap_of_700_s, /* nor does the cap on the whole count it */
        .seconds_min = 590 + 400,
    };

    make_big();
    stage_check(&scene, 1, false);
}

/* ---- Idle connections ---------------------------------------------------------------------- */

static const struct scene idle_scenes[] = {
    {
        .name = "closed while idle, without a word: in order",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, WAIT_MS(10000), CLOSE, END},
        .quits_never = true,
        .rcpts = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
    },
    {
        .name = "reset while idle",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, WAIT_MS(10000), RESET, END},
        .quits_never = true,
        .rcpts = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
    },
    {
        .name = "421 while idle is passed on",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, WAIT_MS(300000),
                  SEND("421 4.4.2 idle too long\r\n"), CLOSE, END},
        .quits_never = true,
        .rcpts = {TAKEN},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_IDLE, VERDICT_SESSION),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
    },
    {
        .name = "anything else while idle is a violation",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, WAIT_MS(1000),
                  SEND("250 still here\r\n"), END},
        .quits_never = true,
        .rcpts = {TAKEN},
        .closed = BROKEN(VERDICT_AT_IDLE, 0),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
    },
    {
        .name = "an idle connection has no time limit of its own",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, WAIT_MS(7200000), CLOSE, END},
        .quits_never = true,
        .rcpts = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
        .seconds_min = 7200,
    },
    {
        .name = "closed right behind 250: the next message comes back unharmed",
        .steps = {PIPELINED, FLIGHT, OK, OK, GO, MESSAGE, OK, CLOSE, END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = LOST(VERDICT_AT_IDLE, 0),
        .ready_count = 1,
        .done_count = 1,
        .continued = 1,
        .returned = 1,
    },
    {
        .name = "closed after MAIL was answered is a loss at that stage",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK, MAIL_0, OK, RCPT_0, CLOSE,
                  END},
        .transaction_count = 2,
        .rcpts = {TAKEN},
        .closed = LOST(VERDICT_AT_RCPT, 0),
        .ready_count = 1,
        .done_count = 2,
        .continued = 1,
    },
};

static void idle_connections(void **state)
{
    stage_check_all(idle_scenes, sizeof(idle_scenes) / sizeof(idle_scenes[0]));
}

/* ---- Many recipients ----------------------------------------------------------------------- */

/* 100 RCPT are more than one buffer: the flight leaves in parts while replies come. */
static void a_hundred_recipients_leave_in_one_flight(void **state)
{
    static char lines[SCENE_RCPT_MAX][64];
    static char replies[SCENE_RCPT_MAX * 64];
    static struct scene scene;
    static struct play play;
    size_t count = 0;
    size_t len = 0;
    static const struct step opening[] = {PIPELINED, MAIL_0};

    scene = (struct scene){.name = "100 recipients",
                           .rcpt_count = 100,
                           .closed = IN_ORDER,
                           .ready_count = 1,
                           .done_count = 1,
                           .continued = 1};
    for (size_t i = 0; i < sizeof(opening) / sizeof(opening[0]); i++)
        scene.steps[count++] = opening[i];
    /* The script expects the first and the last few; the rest is counted by their replies. */
    for (unsigned i = 0; i < 50; i++) {
        snprintf(lines[i], sizeof(lines[i]), "RCPT TO:<r%u@example.org>", i);
        scene.steps[count++] = (struct step)EXPECT(lines[i]);
    }
    len += (size_t)snprintf(replies + len, sizeof(replies) - len, "250 sender\r\n");
    for (unsigned i = 0; i < 100; i++)
        len += (size_t)snprintf(replies + len, sizeof(replies) - len,
                                i % 3 == 0 ? "550 5.1.1 r%u\r\n" : "250 r%u\r\n", i);
    scene.steps[count++] = (struct step)SEND(replies);
    scene.steps[count++] = (struct step)END;
    for (uint64_t seed = 1; seed < 20; seed++) {
        stage_play(&scene, seed, seed > 1, &play);
        assert_int_equal(play.done_count, 1);
        for (unsigned i = 0; i < 100; i++) {
            const struct verdict *verdict = &play.verdicts[0][i];
            char expected[32];

            snprintf(expected, sizeof(expected), "550 5.1.1 r%u", i);
            assert_int_equal(verdict->class, i % 3 == 0 ? VERDICT_PERMANENT : VERDICT_TRANSIENT);
            if (i % 3 == 0)
                assert_true(slice_equal(verdict_text(verdict), slice_str(expected)));
        }
    }
}

/* ---- Connecting ---------------------------------------------------------------------------- */

static void somewhere_else(struct smtpc_options *options)
{
    options->target.port = 26;
}

static void route_all(struct sim_world *world, enum sim_route route)
{
    struct cidr all;

    assert_int_equal(cidr_parse(slice_str("0/0"), &all), 0);
    sim_route(world, &all, route);
}

static void drop_all(struct sim_world *world)
{
    route_all(world, SIM_ROUTE_DROP);
}

static void no_host(struct sim_world *world)
{
    route_all(world, SIM_ROUTE_NO_HOST);
}

static void no_port_left(struct sim_world *world)
{
    sim_faults(world)->connect_no_port = 1;
}

static const struct scene connect_scenes[] = {
    {
        .name = "nobody listens there",
        .steps = {END},
        .tune = somewhere_else,
        .closed = TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_CONNECT, VERDICT_HOST, 0),
        .seconds_max = 1,
    },
    {
        .name = "nobody answers: our own patience ends first",
        .steps = {END},
        .weather = drop_all,
        .closed = TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_CONNECT, VERDICT_HOST, 0),
        .seconds_min = 30,
        .seconds_max = 31,
    },
    {
        .name = "no way there",
        .steps = {END},
        .weather = no_host,
        .closed = TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_CONNECT, VERDICT_HOST, 0),
    },
    {
        .name = "no port is left at our source address",
        .steps = {END},
        .weather = no_port_left,
        .closed = TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_CONNECT, VERDICT_SOURCE_IP, 0),
    },
};

static void connections_that_are_not_made(void **state)
{
    for (size_t i = 0; i < sizeof(connect_scenes) / sizeof(connect_scenes[0]); i++)
        stage_check(&connect_scenes[i], 1, false);
}

/* ---- Texts (A25) --------------------------------------------------------------------------- */

static void a25_remote_text_is_kept_byte_for_byte_and_bounded(void **state)
{
    static const char text[] = "550 5.1.1 \"x\",=cmd|'/c'!A0\t\x1b[2J\xff\xfe \r lone";
    static const struct scene scene = {
        .name = "a reply that would like to be something else",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0,
                  SEND("550 5.1.1 \"x\",=cmd|'/c'!A0\t\x1b[2J\xff\xfe \r lone\r\n"), BYE, END},
        .rcpts = {SAID(VERDICT_PERMANENT, 550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        FINISHED,
    };
    static const struct scene long_scene = {
        .name = "a long one is cut",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, SEND("550 "),
                  FLOOD("0123456789012345678901234567890123456789", 40), SEND("\r\n"), BYE, END},
        .rcpts = {SAID(VERDICT_PERMANENT, 550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        FINISHED,
    };
    static struct play play;

    for (uint64_t seed = 1; seed < 10; seed++) {
        stage_check(&scene, seed, true);
        stage_play(&scene, seed, true, &play);
        assert_true(slice_equal(verdict_text(&play.verdicts[0][0]), slice_str(text)));
        stage_check(&long_scene, seed, true);
        stage_play(&long_scene, seed, true, &play);
        assert_int_equal(play.verdicts[0][0].text_bytes, VERDICT_TEXT_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a23_greetings),
        cmocka_unit_test(a23_replies_out_of_step),
        cmocka_unit_test(a23_an_answer_before_the_message_is_none),
        cmocka_unit_test(a23_no_cut_makes_surplus_a_delivery),
        cmocka_unit_test(a22_the_whole_is_capped),
        cmocka_unit_test(bodies_and_their_ends),
        cmocka_unit_test(a_large_body_arrives_byte_for_byte),
        cmocka_unit_test(the_dot_in_a_stuck_window_is_not_in_doubt),
        cmocka_unit_test(a_stuck_window_is_not_answered_by_yes),
        cmocka_unit_test(a22_a_slow_reader_that_makes_progress_is_waited_for),
        cmocka_unit_test(idle_connections),
        cmocka_unit_test(a_hundred_recipients_leave_in_one_flight),
        cmocka_unit_test(connections_that_are_not_made),
        cmocka_unit_test(a25_remote_text_is_kept_byte_for_byte_and_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
