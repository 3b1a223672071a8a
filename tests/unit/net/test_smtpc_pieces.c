/*
 * A message that is handed over piece by piece: what arrives is the content, wherever it was cut,
 * and nothing that happens between two pieces ends it with a dot.
 */
#include "tests/unit/net/smtpc_stage.h"

#include <stdio.h>
#include <string.h>

#define START  PIPELINED, FLIGHT_0, OK, OK, GO
#define CUT    "Subject: hi\r\n\r\none\r\n..two\r\nthree\r\n"
#define ARRIVE START, BODY_IS(CUT), OK, BYE, END

#define REFUSED(code, stage, scope) SAID(VERDICT_PERMANENT, code, stage, scope)
#define DROPPED(stage)              LOST(stage, 0)

static const struct scene cuts[] = {
    {
        .name = "between lines",
        .steps = {ARRIVE},
        .pieces = {"Subject: hi\r\n\r\none\r\n", "..two\r\n", "three\r\n"},
        .pieces_given = 2,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "between the two dots, and between CR and LF",
        .steps = {ARRIVE},
        .pieces = {"Subject: hi\r\n\r\none\r\n.", ".two\r", "\nthree\r\n"},
        .pieces_given = 2,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "before both dots, and the last piece is CR LF alone",
        .steps = {ARRIVE},
        .pieces = {"Subject: hi\r\n\r\none\r", "\n", "..two\r\nthree", "\r\n"},
        .pieces_given = 3,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "nothing is there at first",
        .steps = {ARRIVE},
        .pieces = {"", CUT},
        .pieces_given = 1,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "each piece a second later",
        .steps = {ARRIVE},
        .pieces = {"Subject: hi\r\n\r\none\r\n.", ".two\r", "\nthree\r\n"},
        .piece_ms = 1000,
        .pieces_given = 2,
        .rcpts = {TAKEN},
        FINISHED,
        .seconds_min = 2,
    },
    {
        .name = "no end of line at the end: it is put there",
        .steps = {ARRIVE},
        .pieces = {"Subject: hi\r\n\r\none\r\n..two\r\n", "three"},
        .pieces_given = 1,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "CHUNKING is offered: by DATA all the same, since not all of it is there",
        .steps = {HELLO, OFFER("250-PIPELINING\r\n250 CHUNKING\r\n"), FLIGHT_0, OK, OK, GO,
                  BODY_IS("Subject: hi\r\n\r\nhello\r\n"), OK, BYE, END},
        .transaction = {.may_chunk = true},
        .pieces = {"Subject: hi\r\n\r\n", "hello\r\n"},
        .pieces_given = 1,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "two of them on one connection",
        .steps = {START, BODY_IS(CUT), OK, FLIGHT_0, OK, OK, GO, BODY_IS(CUT), OK, BYE, END},
        .transaction_count = 2,
        .pieces = {"Subject: hi\r\n\r\none\r\n.", ".two\r\nthree\r\n"},
        .pieces_given = 2,
        .rcpts = {TAKEN},
        .second = {TAKEN},
        .closed = IN_ORDER,
        .ready_count = 1,
        .done_count = 2,
        .continued = 2,
    },
};

static void what_arrives_is_the_content(void **state)
{
    (void)state;
    stage_check_all(cuts, sizeof(cuts) / sizeof(cuts[0]));
}

#define THREE                                                                                      \
    .pieces = {"Subject: hi\r\n\r\none\r\n", "..two\r\n", "three\r\n"}, .piece_ms = 60000,         \
    .ready_count = 1, .done_count = 1
/* What has arrived by then; the script would complain about a dot. */
#define ONE EXPECT("Subject: hi"), EXPECT(""), EXPECT("one")

static const struct scene early[] = {
    {
        .name = "no while the next piece is awaited: the answer to the message",
        .steps = {START, ONE, SEND("552 5.3.4 too large\r\n"), PROBE_MS(100000), END},
        THREE,
        .rcpts = {REFUSED(552, VERDICT_AT_BODY, VERDICT_MESSAGE)},
        .closed = REFUSED(552, VERDICT_AT_BODY, VERDICT_MESSAGE),
        .seconds_max = 30,
    },
    {
        .name = "421 while the next piece is awaited",
        .steps = {START, ONE, EXPECT("..two"), SEND("421 4.3.2 down\r\n"), CLOSE, END},
        THREE,
        .pieces_given = 1,
        .rcpts = {SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_BODY, VERDICT_SESSION)},
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_BODY, VERDICT_SESSION),
    },
    {
        .name = "yes before the end is none",
        .steps = {START, ONE, SEND("250 2.0.0 taken\r\n"), PROBE_MS(100000), END},
        THREE,
        .rcpts = {BROKEN(VERDICT_AT_BODY, 0)},
        .closed = BROKEN(VERDICT_AT_BODY, 0),
    },
    {
        .name = "closed while the next piece is awaited: nothing is in doubt",
        .steps = {START, ONE, CLOSE, END},
        THREE,
        .rcpts = {DROPPED(VERDICT_AT_BODY)},
        .closed = DROPPED(VERDICT_AT_BODY),
        .seconds_max = 30,
    },
    {
        .name = "reset while the next piece is awaited",
        .steps = {START, ONE, RESET, END},
        THREE,
        .rcpts = {DROPPED(VERDICT_AT_BODY)},
        .closed = DROPPED(VERDICT_AT_BODY),
        .seconds_max = 30,
    },
    {
        .name = "the owner cannot go on: no dot, nothing in doubt",
        .steps = {START, ONE, EXPECT("..two"), PROBE_MS(100000), END},
        THREE,
        .piece_aborts = 2,
        .pieces_given = 1,
        .rcpts = {LOST(VERDICT_AT_BODY, 0)},
        .closed = LOST(VERDICT_AT_BODY, 0),
    },
    {
        .name = "closed behind the dot: in doubt",
        .steps = {START, BODY, CLOSE, END},
        THREE,
        .pieces_given = 2,
        .rcpts = {LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT)},
        .closed = LOST(VERDICT_AT_DOT, VERDICT_IN_DOUBT),
    },
    {
        .name = "no recipient taken and 354: a lone dot, and no piece is asked for",
        .steps = {PIPELINED, FLIGHT_0, OK, SEND("550 5.1.1 no such user\r\n"), GO, EXPECT("."),
                  SEND("554 5.5.1 no recipients\r\n"), BYE, END},
        .pieces = {"Subject: hi\r\n\r\none\r\n", "two\r\n"},
        .rcpts = {REFUSED(550, VERDICT_AT_RCPT, VERDICT_RECIPIENT)},
        FINISHED,
    },
};

static void what_comes_between_pieces_ends_it_without_a_dot(void **state)
{
    (void)state;
    stage_check_all(early, sizeof(early) / sizeof(early[0]));
}

/* Pieces that are larger than what leaves at once, taken slowly: none is touched too late. */
static void large_pieces_arrive_whole(void **state)
{
    static const char line[] =
        "..0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 ABCDEFGHIJKL\r\n";
    const struct scene scene = {
        .name = "pieces of 650 KB",
        .steps = {START, SLOW_BODY(3), OK, BYE, END},
        .pieces = {line, line, line},
        .piece_times = 10000,
        .pieces_given = 2,
        .rcpts = {TAKEN},
        FINISHED,
    };
    uint64_t hash = STAGE_HASH_START;

    (void)state;
    for (unsigned i = 0; i < 3 * scene.piece_times; i++)
        hash = stage_hash(hash, slice_str(line));
    for (uint64_t seed = 1; seed <= 4; seed++) {
        static struct play play;

        stage_check(&scene, seed, seed > 1);
        stage_play(&scene, seed, seed > 1, &play);
        assert_true(play.body_bytes == 3 * scene.piece_times * (sizeof(line) - 1));
        assert_true(play.body_hash == hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_arrives_is_the_content),
        cmocka_unit_test(what_comes_between_pieces_ends_it_without_a_dot),
        cmocka_unit_test(large_pieces_arrive_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
