/*
 * The SMTP server as well-behaved clients see it.
 */
#include "tests/unit/net/smtpd_stage.h"

#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>

#define ENVELOPE "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

static struct stage stage;
static struct client client;

static int open_stage(void **state)
{
    stage_open(&stage, 1, NULL);
    return 0;
}

static int close_stage(void **state)
{
    stage_close(&stage);
    return 0;
}

static void expect_message(uint32_t number, const char *sender, const char *rcpt, const char *body)
{
    const struct fake_message *m = &stage.fake.messages[number];

    assert_true(stage.fake.message_count > number);
    assert_string_equal(m->sender, sender);
    assert_int_equal(m->rcpt_count, 1);
    assert_string_equal(m->rcpts[0], rcpt);
    assert_int_equal(m->body_bytes, strlen(body));
    if (m->body_bytes > 0)
        assert_memory_equal(m->body, body, m->body_bytes);
}

static void a_message_by_data(void **state)
{
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send(&client, "EHLO Client.Example\r\n");
    client_expect(&client, "250");
    client_send(&client, "MAIL FROM:<a@b.example> SIZE=30 BODY=8BITMIME\r\n");
    client_expect(&client, "250");
    client_send(&client, "RCPT TO:<\"c x\"@D.Example>\r\n");
    client_expect(&client, "250");
    client_send(&client, "DATA\r\n");
    client_expect(&client, "354");
    client_send(&client, "Subject: x\r\n\r\n..dot\r\n\xc3\xbc\r\n.\r\n");
    client_expect(&client, "250");
    client_send(&client, "QUIT\r\n");
    client_expect(&client, "221.");
    assert_string_equal(client.out, "220 mx.example ESMTP ringpost\r\n"
                                    "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 10000000\r\n"
                                    "250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n"
                                    "250 ENHANCEDSTATUSCODES\r\n"
                                    "250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n"
                                    "354 end data with <CR><LF>.<CR><LF>\r\n250 2.0.0 id 1\r\n"
                                    "221 2.0.0 closing connection\r\n");
    expect_message(0, "a@b.example", "\"c x\"@D.Example",
                   "Subject: x\r\n\r\n..dot\r\n\xc3\xbc\r\n");
    assert_string_equal(stage.fake.messages[0].hosts[0], "d.example");
    assert_string_equal(stage.fake.messages[0].helo, "Client.Example");
    assert_true(stage.fake.messages[0].esmtp && stage.fake.messages[0].body_8bitmime);
    assert_int_equal(stage.fake.messages[0].size_bytes, 30);
    assert_int_equal(stage.fake.messages[0].facts.stuffed_dots, 1);
    assert_true(stage.fake.messages[0].facts.has_8bit);
}

static void a_message_by_bdat(void **state)
{
    stage_expect(&stage,
                 "EHLO x\r\n" ENVELOPE
                 "BDAT 9\r\nA: 1\r\n\r\n.BDAT 0\r\nBDAT 4 LAST\r\n\r\n.xQUIT\r\n",
                 "250 250 250 250 250 250 221.");
    expect_message(0, "a@b.example", "c@d.example", "A: 1\r\n\r\n..\r\n..x\r\n");
    assert_int_equal(stage.fake.messages[0].facts.stuffed_dots, 2);
}

static void helo_and_case_and_blanks(void **state)
{
    stage_expect(&stage,
                 "helo x\r\nmail from: <a@b.example>  \r\nRcPt tO: <c@d.example>\r\n"
                 "data\r\n.\r\nquit\r\n",
                 "250 250 250 354 250 221.");
    expect_message(0, "a@b.example", "c@d.example", "");
    assert_false(stage.fake.messages[0].esmtp);
}

static void null_sender_postmaster_and_route(void **state)
{
    stage_expect(&stage,
                 "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n.\r\n"
                 "MAIL FROM:<@r.example:a@b.example>\r\nRCPT TO:<@r.example:c@d.example>\r\n"
                 "DATA\r\n.\r\nQUIT\r\n",
                 "250 250 250 354 250 250 250 354 250 221.");
    expect_message(0, "", "postmaster@mx.example", "");
    expect_message(1, "a@b.example", "c@d.example", "");
}

static void commands_outside_of_transactions(void **state)
{
    stage_expect(
        &stage,
        "NOOP\r\nNOOP with words\r\nVRFY a\r\nVRFY\r\nHELP\r\nHELP me\r\nRSET\r\nRSET x\r\n"
        "EXPN list\r\nAUTH PLAIN\r\nSTARTTLS\r\nETRN x\r\nTURN\r\nXXXX\r\nX\r\nQUIT\r\n",
        "250 250 252 501 214 214 250 501 502 502 502 502 502 500 500 221.");
    stage_expect(&stage, "EHLO x\r\n\r\nTOOLONGVERB\r\nQUITE\r\nQUIT now\r\n",
                 "250 500 500 500 221.");
    stage_expect(&stage, "MAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nQUIT\r\n",
                 "503 503 503 221.");
    stage_expect(&stage,
                 "EHLO\r\nEHLO a b\r\nEHLO a(b)\r\nEHLO a\"b\r\nEHLO \xc3\xbc.example\r\n"
                 "EHLO [IPv6:::1]\r\nEHLO my_host\r\nQUIT\r\n",
                 "501 501 501 501 501 250 250 221.");
}

static void offers_follow_the_source(void **state)
{
    stage.fake.source.allow_chunking = false;
    stage.fake.source.allow_smtputf8 = false;
    stage.fake.source.max_message_bytes = CONF_UNLIMITED;
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send(&client, "EHLO x\r\nMAIL FROM:<a@b.example> SMTPUTF8\r\nBDAT 3\r\nabcQUIT\r\n");
    client_expect(&client, "250 555 502 221.");
    assert_non_null(strstr(client.out, "250-SIZE\r\n"));
    assert_null(strstr(client.out, "CHUNKING"));
    assert_null(strstr(client.out, "SMTPUTF8"));
}

/* RFC 2920: what came in one flight is answered in one. */
static void replies_of_a_flight_leave_in_one_send(void **state)
{
    client_greet(&stage, &client);
    client.pieces = 0;
    client_send(&client, ENVELOPE "RCPT TO:<e@d.example>\r\nDATA\r\n");
    client_expect(&client, "250 250 250 354");
    assert_int_equal(client.pieces, 1);
    client_send(&client, "x\r\n.\r\n" ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 250 354");
    assert_int_equal(client.pieces, 2);
    client_send(&client, ".\r\nQUIT\r\n");
    client_expect(&client, "250 221.");
}

static void input_behind_a_message_waits_for_its_answer(void **state)
{
    stage.fake.hold_answers = true;
    client_greet(&stage, &client);
    client.pieces = 0;
    client_send(&client,
                ENVELOPE "DATA\r\nfirst\r\n.\r\n" ENVELOPE "DATA\r\nsecond\r\n.\r\nQUIT\r\n");
    client_expect(&client, "250 250 354");
    client_expect_silence(&client, S(60));
    assert_int_equal(stage.fake.begun, 1);
    stage_answer(&stage, 250);
    client_expect(&client, "250 250 250 354");
    client_expect_silence(&client, S(60));
    assert_int_equal(client.pieces, 2);
    assert_int_equal(stage.fake.begun, 2);
    stage_answer(&stage, 451);
    client_expect(&client, "451 221.");
}

/* More replies than one buffer takes: all come, in order. */
static void a_flight_of_many_recipients(void **state)
{
    char flight[16384] = "MAIL FROM:<a@b.example>\r\n";
    size_t len = strlen(flight);
    char codes[1024] = "250";

    for (unsigned i = 0; i < 100; i++) {
        len +=
            (size_t)snprintf(flight + len, sizeof(flight) - len, "RCPT TO:<r%u@d.example>\r\n", i);
        strcat(codes, " 250");
    }
    strcat(flight, "RCPT TO:<over@d.example>\r\nDATA\r\n.\r\nQUIT\r\n");
    strcat(codes, " 452 354 250 221.");
    client_greet(&stage, &client);
    client_send(&client, flight);
    client_expect(&client, codes);
    assert_int_equal(stage.fake.messages[0].rcpt_count, 100);
    assert_string_equal(stage.fake.messages[0].rcpts[99], "r99@d.example");
}

/* ---- The taker's words ----------------------------------------------------------------------- */

static void refusals_of_the_taker_are_passed_on(void **state)
{
    static const struct {
        enum fake_step step;
        const char *codes;
    } rows[] = {
        {FAKE_BEGIN, "250 452 503 503 221."},
        {FAKE_RCPT, "250 250 452 554 221."},
        {FAKE_START_BODY, "250 250 250 452 221."},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fake_refuse(&stage.fake, rows[i].step, 452, 4, 3, 1, "disk \xc3\xbc low\r\n250 forged");
        stage_expect(&stage, "EHLO x\r\n" ENVELOPE "DATA\r\nQUIT\r\n", rows[i].codes);
        stage.fake.refuses[rows[i].step] = false;
    }
    fake_refuse(&stage.fake, FAKE_WRITE, 452, 4, 3, 1, "no room");
    stage_expect(&stage, "EHLO x\r\n" ENVELOPE "DATA\r\na\r\n.\r\nQUIT\r\n",
                 "250 250 250 354 452 221.");
    stage_expect(&stage,
                 "EHLO x\r\n" ENVELOPE "BDAT 3\r\na\r\nBDAT 3\r\nb\r\nBDAT 3 LAST\r\nc\r\nQUIT\r\n",
                 "250 250 250 250 250 452 221.");
    stage.fake.refuses[FAKE_WRITE] = false;
    fake_refuse(&stage.fake, FAKE_FINISH, 451, 4, 3, 0, "not now");
    stage_expect(&stage, "EHLO x\r\n" ENVELOPE "DATA\r\na\r\n.\r\nQUIT\r\n",
                 "250 250 250 354 451 221.");
    assert_int_equal(stage.fake.message_count, 0);
}

static void code_421_ends_the_session_at_any_step(void **state)
{
    static const char *const codes[FAKE_STEP_COUNT] = {
        [FAKE_BEGIN] = "250 421.",
        [FAKE_RCPT] = "250 250 421.",
        [FAKE_START_BODY] = "250 250 250 421.",
        [FAKE_WRITE] = "250 250 250 354 421.",
        [FAKE_FINISH] = "250 250 250 354 421.",
    };

    for (int step = FAKE_BEGIN; step < FAKE_STEP_COUNT; step++) {
        fake_refuse(&stage.fake, step, 421, 4, 3, 2, "go away");
        stage_expect(&stage, "EHLO x\r\n" ENVELOPE "DATA\r\na\r\n.\r\nNOOP\r\n", codes[step]);
        stage.fake.refuses[step] = false;
    }
}

static void code_0_closes_without_a_word_at_any_step(void **state)
{
    static const char text[] = "EHLO x\r\n" ENVELOPE "DATA\r\na\r\n.\r\nNOOP\r\n";

    for (int step = FAKE_BEGIN; step < FAKE_STEP_COUNT; step++) {
        fake_refuse(&stage.fake, step, 0, 0, 0, 0, "");
        /* Replies that were not sent by then go with the connection. */
        assert_string_equal(stage_converse(&stage, text, sizeof(text) - 1), ".");
        stage.fake.refuses[step] = false;
    }
    assert_int_equal(stage.fake.message_count, 0);
}

static void a_refused_peer_hears_why_in_place_of_the_greeting(void **state)
{
    fake_refuse(&stage.fake, FAKE_ADMIT, 554, 5, 7, 1, "no relaying for you");
    client_connect(&stage, &client);
    client_expect(&client, "554");
    assert_string_equal(client.out, "554 5.7.1 no relaying for you\r\n");
    client_expect_end(&client);
    fake_refuse(&stage.fake, FAKE_ADMIT, 0, 0, 0, 0, "");
    client_connect(&stage, &client);
    client_expect_end(&client);
}

/* The connection is gone, or just going, when the answer comes. */
static void an_answer_finds_its_session_or_nobody(void **state)
{
    stage.fake.hold_answers = true;
    for (unsigned steps = 0; steps < 60; steps++) {
        client_greet(&stage, &client);
        client_send(&client, ENVELOPE "DATA\r\n.\r\n");
        client_expect(&client, "250 250 354");
        sim_reset(sim_peer_io(stage.peer), sim_peer_fd(client.conn));
        for (unsigned i = 0; i < steps; i++)
            sim_step(stage.world);
        stage_answer(&stage, 250);
        sim_run_for(stage.world, S(5));
        assert_int_equal(stage.fake.admitted_now, 0);
    }
    assert_int_equal(stage.fake.message_count, 60);
}

/* A client that only ended its own side still gets its answer. */
static void an_answer_reaches_a_client_that_has_ended_its_side(void **state)
{
    stage.fake.hold_answers = true;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n.\r\n");
    client_expect(&client, "250 250 354");
    sim_send_end(sim_peer_io(stage.peer), sim_peer_fd(client.conn));
    client_expect_silence(&client, S(60));
    stage_answer(&stage, 250);
    client_expect(&client, "250.");
}

/* ---- Time and bounds ------------------------------------------------------------------------- */

static void an_idle_client_is_timed_out(void **state)
{
    stage.fake.source.command_timeout_ms = 60000;
    client_greet(&stage, &client);
    client_expect_silence(&client, S(58));
    client_send(&client, "NOOP\r\n");
    client_expect(&client, "250");
    client_expect_silence(&client, S(58));
    client_send(&client, "NO");
    client_expect_silence(&client, S(1));
    client_expect(&client, "421.");
}

static void sessions_over_the_bound_wait_for_a_place(void **state)
{
    struct smtpd_options options = {.session_count_max = 2};
    static struct client clients[3];

    stage_close(&stage);
    stage_open(&stage, 2, &options);
    client_greet(&stage, &clients[0]);
    client_greet(&stage, &clients[1]);
    client_connect(&stage, &clients[2]);
    client_expect_silence(&clients[2], S(5));
    client_drop(&clients[0]);
    client_expect(&clients[2], "220");
    client_send(&clients[1], "QUIT\r\n");
    client_expect(&clients[1], "221.");
    client_drop(&clients[2]);
}

/* A40: the process is out of descriptors; accepting goes on alone. */
static void a40_accepting_resumes_after_a_shortage(void **state)
{
    sim_faults(stage.world)->accept_failed = 2;
    for (unsigned i = 0; i < 20; i++) {
        client_greet(&stage, &client);
        client_send(&client, "QUIT\r\n");
        client_expect(&client, "221.");
    }
    sim_faults(stage.world)->accept_failed = 0;
}

static void stopping_ends_the_idle_and_answers_the_rest(void **state)
{
    static struct client idle;
    static struct client sending;
    static struct client waiting;

    stage.fake.hold_answers = true;
    client_greet(&stage, &idle);
    client_greet(&stage, &sending);
    client_send(&sending, ENVELOPE "DATA\r\nhalf");
    client_expect(&sending, "250 250 354");
    client_greet(&stage, &waiting);
    client_send(&waiting, ENVELOPE "DATA\r\n.\r\nNOOP\r\n");
    client_expect(&waiting, "250 250 354");
    stage_stop_server(&stage);
    client_expect(&idle, "421.");
    client_expect_silence(&waiting, S(10));
    stage_answer(&stage, 250);
    client_expect(&waiting, "250 421.");
    assert_false(stage.stopped);
    stage.fake.hold_answers = false;
    client_send(&sending, " and half\r\n.\r\n");
    client_expect(&sending, "250 421.");
    sim_run_for(stage.world, S(10));
    assert_true(stage.stopped);
    assert_int_equal(stage.fake.message_count, 2);
}

/* Data that is refused by the server itself, and a chunk that is not the last. */
static void stopping_lets_data_end_and_says_so(void **state)
{
    static struct client bad;
    static struct client chunked;

    client_greet(&stage, &bad);
    client_send(&bad, ENVELOPE "DATA\r\nhalf");
    client_expect(&bad, "250 250 354");
    client_greet(&stage, &chunked);
    client_send(&chunked, ENVELOPE "BDAT 4\r\nab");
    client_expect(&chunked, "250 250");
    stage_stop_server(&stage);
    sim_run_for(stage.world, S(1));
    client_send(&bad, "\n\r\n.\r\n" ENVELOPE);
    client_expect(&bad, "554 421.");
    client_send(&chunked, "cdBDAT 0 LAST\r\n");
    client_expect(&chunked, "250 421.");
    assert_int_equal(stage.fake.message_count, 0);
}

static void statistics_count(void **state)
{
    struct smtpd_stats stats;

    stage_expect(&stage,
                 "EHLO x\r\n" ENVELOPE "DATA\r\n.\r\n" ENVELOPE
                 "DATA\r\n\n\r\n.\r\nXXXX\r\nQUIT\r\n",
                 "250 250 250 354 250 250 250 354 554 500 221.");
    smtpd_stats_read(stage.server, &stats);
    assert_int_equal(stats.sessions_total, 1);
    assert_int_equal(stats.messages, 1);
    assert_int_equal(stats.refused_messages, 1);
    assert_int_equal(stats.refused_commands, 1);
}

int main(void)
{
#define ON_STAGE(name) cmocka_unit_test_setup_teardown(name, open_stage, close_stage)
    const struct CMUnitTest tests[] = {
        ON_STAGE(a_message_by_data),
        ON_STAGE(a_message_by_bdat),
        ON_STAGE(helo_and_case_and_blanks),
        ON_STAGE(null_sender_postmaster_and_route),
        ON_STAGE(commands_outside_of_transactions),
        ON_STAGE(offers_follow_the_source),
        ON_STAGE(replies_of_a_flight_leave_in_one_send),
        ON_STAGE(input_behind_a_message_waits_for_its_answer),
        ON_STAGE(a_flight_of_many_recipients),
        ON_STAGE(refusals_of_the_taker_are_passed_on),
        ON_STAGE(code_421_ends_the_session_at_any_step),
        ON_STAGE(code_0_closes_without_a_word_at_any_step),
        ON_STAGE(a_refused_peer_hears_why_in_place_of_the_greeting),
        ON_STAGE(an_answer_finds_its_session_or_nobody),
        ON_STAGE(an_answer_reaches_a_client_that_has_ended_its_side),
        ON_STAGE(an_idle_client_is_timed_out),
        ON_STAGE(sessions_over_the_bound_wait_for_a_place),
        ON_STAGE(a40_accepting_resumes_after_a_shortage),
        ON_STAGE(stopping_ends_the_idle_and_answers_the_rest),
        ON_STAGE(stopping_lets_data_end_and_says_so),
        ON_STAGE(statistics_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
