/*
 * A taker that asks for a pause while a message arrives: nothing more is read until it resumes,
 * nothing is lost or said twice, and the time that it takes is not the client's.
 */
#include "tests/unit/net/smtpd_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENVELOPE    "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
#define BODY_BYTES  400000u
#define CHUNK       65536u
#define FEED        16384u /* what a session may have read already */
#define RESUMES_MAX 1000u

static struct stage stage;
static struct client client;
static char body[BODY_BYTES + 1]; /* lines, none of which begins with a dot */

static int open_stage(void **state)
{
    (void)state;
    stage_open(&stage, 11, NULL);
    stage.fake.pause_octets = CHUNK;
    for (size_t i = 0; i < BODY_BYTES; i++)
        body[i] = (char)(i % 50 == 48 ? '\r' : i % 50 == 49 ? '\n' : 'a' + (int)(i * i % 26));
    client_greet(&stage, &client);
    return 0;
}

static int close_stage(void **state)
{
    (void)state;
    client_drop(&client);
    stage_close(&stage);
    return 0;
}

/* Until so many messages were finished; returns how often it took. */
static unsigned resume_until(uint32_t messages)
{
    unsigned count = 0;

    while (stage.fake.message_count < messages) {
        assert_true(count++ < RESUMES_MAX);
        stage_resume(&stage);
    }
    return count;
}

static void assert_body(uint32_t number)
{
    assert_int_equal(stage.fake.messages[number].body_bytes, BODY_BYTES);
    assert_memory_equal(stage.fake.messages[number].body, body, BODY_BYTES);
}

static void send_data(void)
{
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    client_send_bytes(&client, body, BODY_BYTES);
    client_send(&client, ".\r\n");
}

static void nothing_is_read_until_the_taker_resumes(void **state)
{
    uint64_t written;

    (void)state;
    send_data();
    client_send(&client, "NOOP\r\n");
    client_expect_silence(&client, S(3000));
    written = stage.fake.written_octets;
    assert_in_range(written, CHUNK, CHUNK + FEED);
    stage_resume(&stage);
    client_expect_silence(&client, S(3000));
    assert_in_range(stage.fake.written_octets, written + CHUNK, written + CHUNK + FEED);
    /* Everything in its time: each pause lets one chunk pass, and what was read with it. */
    assert_in_range(resume_until(1), BODY_BYTES / (CHUNK + FEED) - 2, BODY_BYTES / CHUNK);
    assert_in_range(stage.fake.octets_in_pause_max, 0, FEED);
    client_expect(&client, "250 250");
    assert_body(0);
}

static void a_chunk_of_bdat_is_answered_and_what_follows_waits(void **state)
{
    (void)state;
    client_send(&client, ENVELOPE "BDAT 65536\r\n");
    client_send_bytes(&client, body, CHUNK);
    client_expect(&client, "250 250 250");
    assert_int_equal(stage.fake.pauses, 1);
    client_send(&client, "BDAT 334464 LAST\r\n");
    client_send_bytes(&client, body + CHUNK, BODY_BYTES - CHUNK);
    client_send(&client, "NOOP\r\n");
    /* Longer than a client may take for a command. */
    client_expect_silence(&client, S(1000));
    assert_int_equal(stage.fake.written_octets, CHUNK);
    resume_until(1);
    client_expect(&client, "250 250");
    assert_body(0);
}

static void a_message_that_ends_in_a_pause_is_finished(void **state)
{
    (void)state;
    stage.fake.pause_octets = BODY_BYTES;
    for (uint32_t number = 0; number < 2; number++) {
        client_send(&client, ENVELOPE "BDAT 400000 LAST\r\n");
        client_send_bytes(&client, body, BODY_BYTES);
        client_expect(&client, "250 250 250");
        assert_int_equal(stage.fake.pauses, 1);
        assert_body(number);
        /* Too late: it is nobody's any more, and the next one is not held by it. */
        stage_resume(&stage);
        stage.fake.pause_octets = 0;
    }
}

static void who_goes_in_a_pause_leaves_nothing(void **state)
{
    (void)state;
    send_data();
    client_expect_silence(&client, S(1));
    client_drop(&client);
    /* Its octets are not waited for: the taker resumes, the end is read and the message given up;
     * stage_close sees whether anything is left. */
    for (unsigned i = 0; i < 20; i++)
        stage_resume(&stage);
    assert_int_equal(stage.fake.message_count + stage.fake.aborted, 1);
    client_greet(&stage, &client);
    stage.fake.pause_octets = 0;
    send_data();
    client_expect(&client, "250");
}

static void what_is_too_large_is_read_in_vain_without_a_pause(void **state)
{
    (void)state;
    stage.fake.source.max_message_bytes = 60000;
    stage.fake.pause_octets = 60000;
    client_drop(&client);
    client_greet(&stage, &client);
    send_data();
    client_expect(&client, "552");
    /* The octets that went too far were those that asked for the pause. */
    assert_int_equal(stage.fake.pauses, 1);
    assert_int_equal(stage.fake.aborted, 1);
    /* The next one is not held by what is over. */
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    client_send(&client, "Subject: x\r\n\r\nx\r\n.\r\n");
    client_expect(&client, "250");
}

static void a_pause_is_not_the_clients_time(void **state)
{
    (void)state;
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    client_send_bytes(&client, body, CHUNK);
    client_expect_silence(&client, S(3000));
    stage_resume(&stage);
    /* From here on it is: 180 s for the next octet, and 500 octets a second on the whole. */
    client_expect_silence(&client, S(170));
    client_send_bytes(&client, body + CHUNK, 50);
    client_expect_silence(&client, S(100));
    client_expect(&client, "421.");
    assert_int_equal(stage.fake.aborted, 1);
}

static void a_server_that_stops_waits_for_the_message(void **state)
{
    (void)state;
    send_data();
    client_expect_silence(&client, S(1));
    stage_stop_server(&stage);
    client_expect_silence(&client, S(10));
    resume_until(1);
    client_expect(&client, "250 421.");
    assert_body(0);
}

/* Whatever the network does, and however much is between two pauses. */
static void bodies_arrive_whole(void **state)
{
    const size_t len = 40000;

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        bool by_bdat = seed % 2 == 0;

        stage_open(&stage, seed, NULL);
        stage_crumble(&stage);
        stage.fake.pause_octets = 200 + seed * seed * 97;
        client_greet(&stage, &client);
        client_send(&client, by_bdat ? ENVELOPE "BDAT 40000 LAST\r\n" : ENVELOPE "DATA\r\n");
        client_expect(&client, by_bdat ? "250 250" : "250 250 354");
        client_send_bytes(&client, body, len);
        client_send(&client, by_bdat ? "NOOP\r\n" : ".\r\nNOOP\r\n");
        for (unsigned i = 0; stage.fake.message_count == 0; i++) {
            assert_true(i < RESUMES_MAX);
            stage_resume(&stage);
        }
        client_expect(&client, "250 250");
        assert_true(stage.fake.pauses > 0 && stage.fake.octets_in_pause_max == 0);
        assert_int_equal(stage.fake.messages[0].body_bytes, len);
        assert_memory_equal(stage.fake.messages[0].body, body, len);
        client_drop(&client);
        stage_close(&stage);
    }
}

int main(void)
{
#define ON_STAGE(test) cmocka_unit_test_setup_teardown(test, open_stage, close_stage)
    const struct CMUnitTest tests[] = {
        ON_STAGE(nothing_is_read_until_the_taker_resumes),
        ON_STAGE(a_chunk_of_bdat_is_answered_and_what_follows_waits),
        ON_STAGE(a_message_that_ends_in_a_pause_is_finished),
        ON_STAGE(who_goes_in_a_pause_leaves_nothing),
        ON_STAGE(what_is_too_large_is_read_in_vain_without_a_pause),
        ON_STAGE(a_pause_is_not_the_clients_time),
        ON_STAGE(a_server_that_stops_waits_for_the_message),
        cmocka_unit_test(bodies_arrive_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
