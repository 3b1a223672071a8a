/*
 * The way into TLS of the SMTP server, against clients who never get there: words in the clear
 * behind STARTTLS in whatever pieces, silence, the end of the server. Those who do are in
 * tests/e2e/test_tls_in.py.
 */
#include "net/tls.h"
#include "tests/unit/net/smtpd_stage.h"
#include "tests/unit/net/tls_paper.h"

#include <string.h>

#define EVIL                                                                                       \
    "MAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"

static struct stage stage;
static struct client client;
static struct tls_engine *engine;
static struct tls_context *context;
static struct tls_certificate *certificate;

static void open_stage(uint64_t seed, bool is_immediate)
{
    const struct tls_settings settings = {.is_server = true, .certificate = certificate};
    char why[TLS_WHY_MAX];

    stage_open(&stage, seed, NULL);
    sim_enter(stage.process);
    engine = tls_engine_create(stage.io);
    assert_int_equal(tls_context_create(engine, &settings, why, &context), 0);
    sim_leave(stage.process);
    stage.fake.source.allow_starttls = true;
    stage.fake.tls = (struct intake_tls){.context = context, .is_immediate = is_immediate};
    memset(&client, 0, sizeof(client));
}

static void close_stage(void)
{
    struct tls_stats stats;

    sim_run_for(stage.world, S(20));
    tls_stats_read(engine, &stats);
    assert_int_equal(stats.open_count, 0);
    assert_int_equal(stats.handshakes, 0);
    assert_int_equal(stage.fake.begun, 0);
    sim_enter(stage.process);
    tls_context_free(context);
    tls_engine_destroy(engine);
    sim_leave(stage.process);
    stage_close(&stage);
}

/* An alert may come before. */
static void expect_end(void)
{
    sim_run_for(stage.world, S(400));
    assert_null(client.conn);
}

/* A05, cut anywhere and at any time: none of it is ever acted on. */
static void words_behind_starttls(void **state)
{
    uint32_t reached = 0;

    for (uint64_t seed = 1; seed <= 60; seed++) {
        open_stage(seed, false);
        if (seed % 4 != 0)
            stage_crumble(&stage);
        client_connect(&stage, &client);
        client_expect(&client, "220");
        if (seed % 2 == 0) {
            client_send(&client, "EHLO client.example\r\nSTARTTLS\r\n" EVIL EVIL);
        } else {
            client_send(&client, "EHLO client.example\r\nSTARTTLS\r\n");
            client_send(&client, EVIL EVIL);
        }
        expect_end();
        reached += strstr(client.out, "220 2.0.0 ready") != NULL;
        assert_null(strstr(client.out, "250 2."));
        assert_null(strstr(client.out, "354"));
        close_stage();
    }
    /* Both ways were gone: the session ended at once, and the words came to the handshake. */
    assert_in_range(reached, 1, 59);
}

static void silence_ends(void **state)
{
    for (int is_immediate = 0; is_immediate < 2; is_immediate++) {
        open_stage(1, is_immediate);
        client_connect(&stage, &client);
        if (!is_immediate) {
            client_expect(&client, "220");
            client_send(&client, "EHLO client.example\r\n");
            client_expect(&client, "250");
            client_send(&client, "STARTTLS\r\n");
            client_expect(&client, "220");
        }
        client.out_bytes = client.read = 0;
        client_expect_silence(&client, S(290));
        client_expect_end(&client);
        assert_int_equal(client.out_bytes, 0);
        close_stage();
    }
}

static void plain_words_where_tls_comes_first(void **state)
{
    open_stage(1, true);
    client_connect(&stage, &client);
    client_send(&client, "EHLO client.example\r\n" EVIL);
    expect_end();
    assert_null(strstr(client.out, "250"));
    assert_null(strstr(client.out, "220"));
    close_stage();
}

/* Nobody waits for a handshake when the server stops. */
static void the_server_stops(void **state)
{
    open_stage(1, true);
    client_connect(&stage, &client);
    client_expect_silence(&client, S(1));
    stage_stop_server(&stage);
    client_expect_end(&client);
    assert_true(stage.stopped);
    close_stage();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_behind_starttls),
        cmocka_unit_test(silence_ends),
        cmocka_unit_test(plain_words_where_tls_comes_first),
        cmocka_unit_test(the_server_stops),
    };
    struct paper_wish wish = {.name = "mx.example", .until_s = 4000000000};
    char why[TLS_WHY_MAX];
    int failures = 1;

    if (tls_certificate_parse(paper_make(&wish), NULL, true, &certificate, why) == 0)
        failures = cmocka_run_group_tests(tests, NULL, NULL);
    tls_certificate_free(certificate);
    paper_end();
    return failures;
}
