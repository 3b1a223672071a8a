/*
 * Loss, silence and 421 at each stage: one table of stages, multiplied with the ways to end. In
 * doubt is only what was lost after the final dot.
 */
#include "tests/unit/net/smtpc_stage.h"

#include <stdio.h>
#include <string.h>

/* A stage: the steps that lead to it, and what is true there. */
struct stage_row {
    const char *name;
    struct step steps[24];
    enum verdict_stage stage;
    enum verdict_scope scope;
    bool has_message; /* a transaction is open: its recipients must be told */
    bool is_after_dot;
    uint64_t timeout_s; /* RFC 5321 4.5.3.2, as the defaults are */
};

static const struct stage_row rows[] = {
    {"greeting", {END}, VERDICT_AT_GREETING, VERDICT_HOST, false, false, 300},
    {"EHLO", {HELLO, END}, VERDICT_AT_EHLO, VERDICT_HOST, false, false, 300},
    {"HELO",
     {HELLO, SEND("500 what\r\n"), EXPECT("HELO out.example"), END},
     VERDICT_AT_EHLO,
     VERDICT_HOST,
     false,
     false,
     300},
    {"MAIL", {PLAIN, MAIL_0, END}, VERDICT_AT_MAIL, VERDICT_SESSION, true, false, 300},
    {"MAIL in a flight",
     {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, END},
     VERDICT_AT_MAIL,
     VERDICT_SESSION,
     true,
     false,
     300},
    {"first RCPT",
     {PLAIN, MAIL_0, OK, RCPT_0, END},
     VERDICT_AT_RCPT,
     VERDICT_SESSION,
     true,
     false,
     300},
    {"second RCPT in a flight",
     {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, END},
     VERDICT_AT_RCPT,
     VERDICT_SESSION,
     true,
     false,
     300},
    {"DATA",
     {PLAIN, MAIL_0, OK, RCPT_0, OK, RCPT_1, OK, DATA, END},
     VERDICT_AT_DATA,
     VERDICT_SESSION,
     true,
     false,
     120},
    {"DATA in a flight",
     {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, OK, END},
     VERDICT_AT_DATA,
     VERDICT_SESSION,
     true,
     false,
     120},
    {"after the dot",
     {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, OK, OK, GO, BODY, END},
     VERDICT_AT_DOT,
     VERDICT_SESSION,
     true,
     true,
     600},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static struct scene scene_of(const struct stage_row *row, const struct step *more,
                             size_t more_count, const char *how)
{
    static char name[128];
    struct scene scene = {.name = name, .rcpt_count = 2};
    size_t count = 0;

    snprintf(name, sizeof(name), "%s: %s", row->name, how);
    while (row->steps[count].kind != STEP_END) {
        scene.steps[count] = row->steps[count];
        count++;
    }
    for (size_t i = 0; i < more_count; i++)
        scene.steps[count++] = more[i];
    scene.steps[count].kind = STEP_END;
    scene.ready_count = row->stage > VERDICT_AT_EHLO;
    scene.done_count = row->has_message;
    return scene;
}

static void expect_loss(struct scene *scene, const struct stage_row *row)
{
    struct expected_verdict lost = {VERDICT_TRANSIENT, 421, (int)row->stage, (int)row->scope,
                                    row->is_after_dot ? VERDICT_IN_DOUBT : 0};

    scene->rcpts[0] = lost;
    scene->closed = lost;
}

static void check(const struct scene *scene)
{
    stage_check(scene, 1, false);
    for (uint64_t seed = 2; seed < 20 && scene->seconds_min == 0; seed++)
        stage_check(scene, seed, true);
}

static void closed_by_the_receiver_at_each_stage(void **state)
{
    static const struct step more[] = {CLOSE};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 1, "closed");

        expect_loss(&scene, &rows[i]);
        check(&scene);
    }
}

static void half_closed_by_the_receiver_at_each_stage(void **state)
{
    static const struct step more[] = {WAIT_MS(500), HALF_CLOSE};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 2, "half closed");

        expect_loss(&scene, &rows[i]);
        check(&scene);
    }
}

static void reset_at_each_stage(void **state)
{
    static const struct step more[] = {WAIT_MS(500), RESET};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 2, "reset");

        expect_loss(&scene, &rows[i]);
        check(&scene);
    }
}

static void a_reply_cut_short_is_a_loss(void **state)
{
    static const struct step more[] = {SEND("250 2.0.0 o"), CLOSE};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 2, "half a reply");

        expect_loss(&scene, &rows[i]);
        check(&scene);
    }
}

/* RFC 5321 4.5.3.2: the times, and not a second less. */
static void a22_silence_at_each_stage_ends_at_its_time(void **state)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], NULL, 0, "silence");

        expect_loss(&scene, &rows[i]);
        scene.seconds_min = rows[i].timeout_s;
        scene.seconds_max = rows[i].timeout_s + 1;
        check(&scene);
    }
}

/* Bytes that do not make a reply win no time. */
static void a22_dribbling_at_each_stage_wins_no_time(void **state)
{
    static const struct step more[] = {SEND("2"),      WAIT_MS(60000), SEND("5"),
                                       WAIT_MS(40000), SEND("0"),      SEND("-x\r\n250-"),
                                       WAIT_MS(15000), SEND("y")};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 8, "dribbling");

        expect_loss(&scene, &rows[i]);
        scene.seconds_min = rows[i].timeout_s;
        scene.seconds_max = rows[i].timeout_s + 1;
        check(&scene);
    }
}

static void short_times(struct smtpc_options *options)
{
    options->greeting_timeout_ms = 1000;
    options->command_timeout_ms = 2000;
    options->data_timeout_ms = 3000;
    options->data_termination_timeout_ms = 4000;
}

static void times_are_settings(void **state)
{
    static const uint64_t seconds[ROW_COUNT] = {1, 2, 2, 2, 2, 2, 2, 3, 3, 4};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], NULL, 0, "silence, short times");

        expect_loss(&scene, &rows[i]);
        scene.tune = short_times;
        scene.seconds_min = seconds[i];
        scene.seconds_max = seconds[i] + 1;
        check(&scene);
    }
}

static void a_421_at_each_stage_ends_the_session(void **state)
{
    static const struct step more[] = {SEND("421 4.3.2 shutting down\r\n"), CLOSE};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 2, "421");
        struct expected_verdict said = {VERDICT_TRANSIENT, 421, (int)rows[i].stage,
                                        (int)rows[i].scope, VERDICT_FROM_REPLY};

        scene.rcpts[0] = said;
        scene.closed = said;
        check(&scene);
    }
}

/* It closes although the receiver does not. */
static void a_421_without_a_close_is_closed_by_us(void **state)
{
    static const struct step more[] = {SEND("421-4.3.2 shutting\r\n421 4.3.2 down\r\n")};

    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct scene scene = scene_of(&rows[i], more, 1, "421, no close");
        struct expected_verdict said = {VERDICT_TRANSIENT, 421, (int)rows[i].stage,
                                        (int)rows[i].scope, VERDICT_FROM_REPLY};

        scene.rcpts[0] = said;
        scene.closed = said;
        scene.seconds_max = 1;
        check(&scene);
    }
}

static void a23_garbage_at_each_stage_is_a_violation(void **state)
{
    static const char *const garbage[] = {
        "hello\r\n",
        "25\r\n",
        "999 x\r\n",
        "\r\n",
        "250-a\r\n550 b\r\n",
        "150 hm\r\n",
        "250\trather\r\n",
        "HTTP/1.1 200 OK\r\n",
        "\x16\x03\x01\x02\x01\x01\r\n",
    };

    for (size_t i = 0; i < ROW_COUNT; i++) {
        for (size_t g = 0; g < sizeof(garbage) / sizeof(garbage[0]); g++) {
            struct step more[] = {SEND(garbage[g])};
            struct scene scene = scene_of(&rows[i], more, 1, "garbage");

            expect_loss(&scene, &rows[i]);
            scene.rcpts[0].flags |= VERDICT_PROTOCOL;
            scene.closed.flags |= VERDICT_PROTOCOL;
            scene.seconds_max = 1;
            check(&scene);
        }
    }
}

/* A code that is fine elsewhere says that we and the receiver have lost step. */
static void a23_replies_of_another_command_are_violations(void **state)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        static const char *const odd[] = {"354 go\r\n", "221 bye\r\n", "220 again\r\n"};

        for (size_t o = 0; o < sizeof(odd) / sizeof(odd[0]); o++) {
            struct step more[] = {SEND(odd[o])};
            struct scene scene = scene_of(&rows[i], more, 1, odd[o]);
            bool is_fine = (rows[i].stage == VERDICT_AT_DATA && o == 0) ||
                           (rows[i].stage == VERDICT_AT_GREETING && o > 0);

            if (is_fine)
                continue;
            expect_loss(&scene, &rows[i]);
            scene.rcpts[0].flags |= VERDICT_PROTOCOL;
            scene.closed.flags |= VERDICT_PROTOCOL;
            check(&scene);
        }
    }
}

static void a23_floods_at_each_stage_are_bounded(void **state)
{
    static const struct {
        const char *text;
        uint64_t count;
    } floods[] = {
        {"250-and so on\r\n", 50000},
        {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 20000},
        {"250 yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", 20000},
    };

    for (size_t i = 0; i < ROW_COUNT; i++) {
        for (size_t f = 0; f < sizeof(floods) / sizeof(floods[0]); f++) {
            struct step more[] = {FLOOD(floods[f].text, floods[f].count)};
            struct scene scene = scene_of(&rows[i], more, 1, "flood");

            expect_loss(&scene, &rows[i]);
            scene.rcpts[0].flags |= VERDICT_PROTOCOL;
            scene.closed.flags |= VERDICT_PROTOCOL;
            stage_check(&scene, 1, false);
        }
    }
}

static void aborted_by_the_owner_while_telling(void **state)
{
    static const struct scene scene = {
        .name = "abort from inside on_rcpt",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, OK, SEND("550 no\r\n"), END},
        .rcpt_count = 2,
        .aborts_in_rcpt = true,
        .rcpts = {{VERDICT_PERMANENT, 550, VERDICT_AT_RCPT, VERDICT_RECIPIENT, VERDICT_FROM_REPLY},
                  {VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION, 0}},
        .closed = {VERDICT_TRANSIENT, 421, VERDICT_AT_RCPT, VERDICT_SESSION, 0},
        .ready_count = 1,
        .done_count = 1,
    };
    static const struct scene at_mail = {
        .name = "abort while all recipients are being told",
        .steps = {PIPELINED, MAIL_0, RCPT_0, RCPT_1, DATA, SEND("550 no\r\n"), END},
        .rcpt_count = 2,
        .aborts_in_rcpt = true,
        .rcpts = {{VERDICT_PERMANENT, 550, VERDICT_AT_MAIL, VERDICT_MESSAGE, VERDICT_FROM_REPLY}},
        .closed = {VERDICT_TRANSIENT, 421, VERDICT_AT_MAIL, VERDICT_SESSION, 0},
        .ready_count = 1,
        .done_count = 1,
    };

    check(&scene);
    check(&at_mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed_by_the_receiver_at_each_stage),
        cmocka_unit_test(half_closed_by_the_receiver_at_each_stage),
        cmocka_unit_test(reset_at_each_stage),
        cmocka_unit_test(a_reply_cut_short_is_a_loss),
        cmocka_unit_test(a22_silence_at_each_stage_ends_at_its_time),
        cmocka_unit_test(a22_dribbling_at_each_stage_wins_no_time),
        cmocka_unit_test(times_are_settings),
        cmocka_unit_test(a_421_at_each_stage_ends_the_session),
        cmocka_unit_test(a_421_without_a_close_is_closed_by_us),
        cmocka_unit_test(a23_garbage_at_each_stage_is_a_violation),
        cmocka_unit_test(a23_replies_of_another_command_are_violations),
        cmocka_unit_test(a23_floods_at_each_stage_are_bounded),
        cmocka_unit_test(aborted_by_the_owner_while_telling),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
