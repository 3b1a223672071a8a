/*
 * AUTH as clients see it: what is offered, in which order it may come, and what it leads to.
 */
#include "tests/unit/net/smtpd_stage.h"

#include <stdio.h>
#include <string.h>

#define RIGHT "AHUAcA==" /* NUL u NUL p */
#define WRONG "AHUAcQ==" /* NUL u NUL q */

static struct stage stage;
static struct client client;

static int open_stage(void **state)
{
    stage_open(&stage, 1, NULL);
    stage.fake.source.offers_auth = true;
    stage.fake.source.allow_unencrypted_plain_auth = true;
    stage.fake.source_of_users = stage.fake.source;
    return 0;
}

static int close_stage(void **state)
{
    stage_close(&stage);
    return 0;
}

static void each_mechanism(void **state)
{
    stage_expect(&stage, "EHLO x\r\nAUTH PLAIN " RIGHT "\r\nQUIT\r\n", "250 235 221.");
    stage_expect(&stage, "EHLO x\r\nauth plain\r\n" RIGHT "\r\nQUIT\r\n", "250 334 235 221.");
    stage_expect(&stage, "EHLO x\r\nAUTH LOGIN\r\ndQ==\r\ncA==\r\nQUIT\r\n",
                 "250 334 334 235 221.");
    stage_expect(&stage, "EHLO x\r\nAUTH LOGIN dQ==\r\ncA==\r\nQUIT\r\n", "250 334 235 221.");
    stage_expect(&stage,
                 "EHLO x\r\nAUTH CRAM-MD5\r\n"
                 "dSBkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZA==\r\nQUIT\r\n",
                 "250 334 235 221.");
    assert_int_equal(stage.fake.logins, 5);
}

static void wrong_words(void **state)
{
    stage_expect(&stage,
                 "EHLO x\r\nAUTH PLAIN " WRONG "\r\nAUTH PLAIN\r\n" WRONG "\r\n"
                 "AUTH PLAIN " RIGHT "\r\nQUIT\r\n",
                 "250 535 334 535 235 221.");
    assert_int_equal(stage.fake.logins, 3);
    /* Somebody who asks to be somebody else is not even asked about. */
    stage_expect(&stage, "EHLO x\r\nAUTH PLAIN eAB1AHA=\r\nQUIT\r\n", "250 535 221.");
    assert_int_equal(stage.fake.logins, 3);
}

static void cancelled_and_malformed(void **state)
{
    stage_expect(&stage,
                 "EHLO x\r\nAUTH PLAIN\r\n*\r\nAUTH LOGIN\r\n*\r\nAUTH LOGIN\r\ndQ==\r\n*\r\n"
                 "AUTH CRAM-MD5\r\n*\r\nNOOP\r\nQUIT\r\n",
                 "250 334 501 334 501 334 334 501 334 501 250 221.");
    stage_expect(&stage,
                 "EHLO x\r\nAUTH PLAIN dQ=\r\nAUTH PLAIN\r\nQUIT\r\nAUTH LOGIN\r\n\r\n"
                 "AUTH LOGIN =\r\nAUTH CRAM-MD5 dQ==\r\nAUTH\r\nAUTH GSSAPI\r\nQUIT\r\n",
                 "250 501 334 501 334 501 501 501 504 504 221.");
    assert_int_equal(stage.fake.logins, 0);
}

static void out_of_order(void **state)
{
    stage_expect(&stage, "AUTH PLAIN " RIGHT "\r\nHELO x\r\nAUTH PLAIN " RIGHT "\r\nQUIT\r\n",
                 "503 250 503 221.");
    stage_expect(&stage, "EHLO x\r\nMAIL FROM:<a@b.example>\r\nAUTH PLAIN " RIGHT "\r\nQUIT\r\n",
                 "250 250 503 221.");
    stage_expect(&stage, "EHLO x\r\nAUTH PLAIN " RIGHT "\r\nAUTH PLAIN " RIGHT "\r\nQUIT\r\n",
                 "250 235 503 221.");
}

/* Of words in the clear nothing is taken that could be read along. */
static void without_encryption(void **state)
{
    stage.fake.source.allow_unencrypted_plain_auth = false;
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send(&client, "EHLO x\r\nAUTH PLAIN " RIGHT "\r\nAUTH LOGIN\r\nAUTH CRAM-MD5\r\n*\r\n");
    client_expect(&client, "250 538 538 334 501");
    assert_non_null(strstr(client.out, "250-AUTH CRAM-MD5\r\n"));
    client_send(&client, "QUIT\r\n");
    client_expect(&client, "221.");
    stage.fake.source.require_starttls_before_auth = true;
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send(&client, "EHLO x\r\nAUTH CRAM-MD5\r\nQUIT\r\n");
    client_expect(&client, "250 538 221.");
    assert_null(strstr(client.out, "AUTH"));
    assert_int_equal(stage.fake.logins, 0);
}

/* Sendmail and Exim say whose mail it was, where AUTH is offered: it is heard, and means nothing.
 */
static void who_handed_it_in_first(void **state)
{
    stage_expect(&stage,
                 "EHLO x\r\nMAIL FROM:<a@b.example> AUTH=<>\r\nRSET\r\n"
                 "AUTH PLAIN " RIGHT "\r\nMAIL FROM:<a@b.example> SIZE=7 AUTH=e+3Dmc2@b.example\r\n"
                 "RSET\r\nMAIL FROM:<a@b.example> AUTH=\r\nMAIL FROM:<a@b.example> AUTH\r\n"
                 "MAIL FROM:<a@b.example> AUTH=<> AUTH=<>\r\nQUIT\r\n",
                 "250 250 250 235 250 250 501 501 501 221.");
}

/* From then on the user's source counts, and messages say whose they are. */
static void the_users_source(void **state)
{
    stage.fake.source_of_users.max_message_bytes = 4711;
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send(&client, "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
                         "DATA\r\n.\r\nAUTH PLAIN " RIGHT "\r\nEHLO x\r\n");
    client_expect(&client, "250 250 250 354 250 235 250");
    assert_non_null(strstr(client.out, "250-AUTH PLAIN LOGIN CRAM-MD5\r\n"));
    assert_non_null(strstr(client.out, "250-SIZE 4711\r\n"));
    client_send(&client, "MAIL FROM:<a@b.example> SIZE=4712\r\nMAIL FROM:<a@b.example>\r\n"
                         "RCPT TO:<c@d.example>\r\nDATA\r\n.\r\nQUIT\r\n");
    client_expect(&client, "552 250 250 354 250 221.");
    assert_null(stage.fake.messages[0].user);
    assert_string_equal(stage.fake.messages[1].user, "u");
}

/* Guessing ends with the connection. */
static void too_many_errors(void **state)
{
    char text[2048] = "EHLO x\r\n", codes[512] = "250";

    for (int i = 0; i < 20; i++) {
        strcat(text, "AUTH PLAIN " WRONG "\r\n");
        strcat(codes, " 535");
    }
    strcat(codes, " 421.");
    stage_expect(&stage, text, codes);
    assert_int_equal(stage.fake.logins, 20);
}

/* Base64 of every length, and lines longer than any answer. */
static void hostile_lines(void **state)
{
    char text[4096];

    for (int len = 0; len <= 64; len++) {
        int at = snprintf(text, sizeof(text), "EHLO x\r\nAUTH PLAIN\r\n");

        memset(text + at, 'A', (size_t)len);
        snprintf(text + at + len, sizeof(text) - (size_t)(at + len), "\r\nNOOP\r\nQUIT\r\n");
        stage_expect(&stage, text, "250 334 501 250 221.");
    }
    memset(text, 'A', sizeof(text));
    memcpy(text, "EHLO x\r\nAUTH PLAIN\r\n", 20);
    text[sizeof(text) - 1] = '\0';
    stage_expect(&stage, text, "250 334 500.");
    assert_int_equal(stage.fake.logins, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_mechanism, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(wrong_words, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(cancelled_and_malformed, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(out_of_order, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(without_encryption, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(who_handed_it_in_first, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(the_users_source, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(too_many_errors, open_stage, close_stage),
        cmocka_unit_test_setup_teardown(hostile_lines, open_stage, close_stage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
