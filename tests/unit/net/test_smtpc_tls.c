/*
 * STARTTLS of the SMTP client: what is said in which order, what is forgotten, and what becomes of
 * the connection when TLS cannot be had, at each level.
 */
#include "tests/unit/net/smtpc_stage.h"
#include "tests/unit/net/tls_paper.h"

#include <string.h>

#define NAME "mx.example.net"

static struct tls_settings server, old_server, late_server;
static struct tls_settings client, strict_client;
static struct smtpc_login login;

static void may(struct smtpc_options *options)
{
    options->tls = SMTPC_TLS_MAY;
}

static void must_have(struct smtpc_options *options)
{
    options->tls = SMTPC_TLS_MUST;
}

static void log_in(struct smtpc_options *options)
{
    options->tls = SMTPC_TLS_MAY;
    login = (struct smtpc_login){SLICE_LITERAL("me"), SLICE_LITERAL("pw"), false};
    options->login = &login;
}

#define OFFER_TLS          HELLO, OFFER("250-PIPELINING\r\n250-SIZE 10\r\n250 STARTTLS\r\n")
#define SAY_TLS            OFFER_TLS, EXPECT("STARTTLS")
#define SECURED            SAY_TLS, SEND("220 go\r\n"), START_TLS, EXPECT("EHLO out.example")
#define TLS_BOTH           .tls_server = &server, .tls_client = &client
#define NO_TLS(flags)      TOLD(VERDICT_TRANSIENT, 454, VERDICT_AT_TLS, VERDICT_HOST, flags)
#define LOST_IN_TLS(flags) TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_TLS, VERDICT_HOST, flags)

static const struct scene scenes[] = {
    {
        /* SIZE and PIPELINING were offered in the clear alone. */
        .name = "what was said before counts for nothing",
        .steps = {SECURED, OFFER("250 8BITMIME\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK,
                  BYE, END},
        .tune = may,
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "a flight in TLS",
        .steps = {SECURED, OFFER("250 PIPELINING\r\n"), FLIGHT_0, OK, OK, GO, MESSAGE, OK, BYE,
                  END},
        .tune = must_have,
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        /* Offered in the clear, AUTH CRAM-MD5 is not used; PLAIN is, where nobody reads along. */
        .name = "the password goes in TLS",
        .steps = {HELLO, OFFER("250-AUTH CRAM-MD5\r\n250 STARTTLS\r\n"), EXPECT("STARTTLS"),
                  SEND("220 go\r\n"), START_TLS, EXPECT("EHLO out.example"),
                  OFFER("250 AUTH PLAIN\r\n"), EXPECT("AUTH PLAIN AG1lAHB3"),
                  SEND("235 welcome\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK, BYE, END},
        .tune = log_in,
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "a login by certificates alone",
        .steps = {HELLO, OFFER("250-AUTH EXTERNAL\r\n250 STARTTLS\r\n"), EXPECT("STARTTLS"),
                  SEND("220 go\r\n"), START_TLS, EXPECT("EHLO out.example"),
                  OFFER("250 AUTH EXTERNAL\r\n"), BYE, END},
        .tune = log_in,
        TLS_BOTH,
        .closed = TOLD(VERDICT_TRANSIENT, 421, VERDICT_AT_AUTH, VERDICT_HOST, 0),
    },
    {
        .name = "not offered",
        .steps = {PLAIN, MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK, BYE, END},
        .tune = may,
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "not offered and needed",
        .steps = {PLAIN, BYE, END},
        .tune = must_have,
        TLS_BOTH,
        .closed = NO_TLS(0),
    },
    {
        .name = "no EHLO and needed",
        .steps = {HELLO, SEND("502 no\r\n"), EXPECT("HELO out.example"), OK, BYE, END},
        .tune = must_have,
        TLS_BOTH,
        .closed = NO_TLS(0),
    },
    {
        .name = "not wanted",
        .steps = {HELLO, OFFER("250 STARTTLS\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK,
                  BYE, END},
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "refused",
        .steps = {HELLO, OFFER("250 STARTTLS\r\n"), EXPECT("STARTTLS"), SEND("454 not now\r\n"),
                  MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK, BYE, END},
        .tune = may,
        TLS_BOTH,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "refused and needed",
        .steps = {SAY_TLS, SEND("554 never\r\n"), BYE, END},
        .tune = must_have,
        TLS_BOTH,
        .closed = SAID(VERDICT_TRANSIENT, 554, VERDICT_AT_TLS, VERDICT_HOST),
    },
    {
        .name = "421 to STARTTLS",
        .steps = {SAY_TLS, SEND("421 too many\r\n"), CLOSE, END},
        .tune = may,
        TLS_BOTH,
        .closed = SAID(VERDICT_TRANSIENT, 421, VERDICT_AT_TLS, VERDICT_HOST),
    },
    {
        .name = "250 to STARTTLS",
        .steps = {SAY_TLS, SEND("250 ok\r\n"), END},
        .tune = may,
        TLS_BOTH,
        .closed = BROKEN(VERDICT_AT_TLS, 0),
    },
    {
        .name = "injection in the segment of the 220",
        .steps = {SAY_TLS, SEND("220 go\r\n250-mx.example\r\n250 AUTH PLAIN\r\n"), END},
        .tune = may,
        TLS_BOTH,
        .is_cut_sensitive = true,
        .closed = BROKEN(VERDICT_AT_TLS, 0),
    },
    {
        .name = "injection behind it",
        .steps = {SAY_TLS, DEAF, SEND("220 go\r\n"), WAIT_MS(500), SEND("250 ok\r\n"), END},
        .tune = may,
        TLS_BOTH,
        .closed = NO_TLS(0),
    },
    {
        .name = "closed in the handshake",
        .steps = {SAY_TLS, DEAF, SEND("220 go\r\n"), WAIT_MS(500), CLOSE, END},
        .tune = must_have,
        TLS_BOTH,
        .closed = NO_TLS(0),
    },
    {
        .name = "no word in the handshake",
        .steps = {SAY_TLS, DEAF, SEND("220 go\r\n"), END},
        .tune = may,
        TLS_BOTH,
        .seconds_min = 300,
        .seconds_max = 301,
        .closed = LOST_IN_TLS(0),
    },
    {
        /* With TLS 1.3 a receiver that does not like what we showed says so when we are through. */
        .name = "closed behind the handshake",
        .steps = {SECURED, CLOSE, END},
        .tune = may,
        TLS_BOTH,
        .closed = LOST_IN_TLS(0),
    },
    {
        .name = "no version in common",
        .steps = {SAY_TLS, SEND("220 go\r\n"), START_TLS, END},
        .tune = may,
        .tls_server = &old_server,
        .tls_client = &client,
        .closed = NO_TLS(0),
    },
    {
        .name = "a certificate that is trusted",
        .steps = {SECURED, OFFER("250 HELP\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK,
                  BYE, END},
        .tune = must_have,
        .tls_server = &server,
        .tls_client = &strict_client,
        .rcpts = {TAKEN},
        FINISHED,
    },
    {
        .name = "a certificate that is out of date",
        .steps = {SAY_TLS, SEND("220 go\r\n"), START_TLS, END},
        .tune = must_have,
        .tls_server = &late_server,
        .tls_client = &strict_client,
        .closed = NO_TLS(0),
    },
    {
        .name = "out of date, and nobody looks",
        .steps = {SECURED, OFFER("250 HELP\r\n"), MAIL_0, OK, RCPT_0, OK, DATA, GO, MESSAGE, OK,
                  BYE, END},
        .tune = must_have,
        .tls_server = &late_server,
        .tls_client = &client,
        .rcpts = {TAKEN},
        FINISHED,
    },
};

static void test_scenes(void **state)
{
    stage_check_all(scenes, sizeof(scenes) / sizeof(scenes[0]));
}

static const struct scene *scene_named(const char *name)
{
    for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        if (strcmp(scenes[i].name, name) == 0)
            return &scenes[i];
    }
    fail_msg("no scene \"%s\"", name);
    return NULL;
}

static void test_words(void **state)
{
    static struct play play;

    stage_play(scene_named("a flight in TLS"), 1, false, &play);
    assert_string_equal(play.tls_protocol, "TLSv1.3");
    stage_play(scene_named("a certificate that is out of date"), 1, false, &play);
    assert_string_equal(play.tls_protocol, "");
    assert_true(play.was_distrusted);
    assert_non_null(
        memmem(play.closed.text, play.closed.text_bytes, "certificate has expired", 23));
    stage_play(scene_named("not offered and needed"), 1, false, &play);
    assert_non_null(memmem(play.closed.text, play.closed.text_bytes, "not offer STARTTLS", 18));
    stage_play(scene_named("a login by certificates alone"), 1, false, &play);
    assert_non_null(
        memmem(play.closed.text, play.closed.text_bytes, "no mechanism that is known", 26));
}

static struct tls_certificate *papers[2];
static struct tls_authorities *trust;

static struct tls_certificate *certificate_of(const struct paper_wish *wish)
{
    struct tls_certificate *certificate = NULL;
    char why[TLS_WHY_MAX];

    assert_int_equal(tls_certificate_parse(paper_make(wish), NULL, true, &certificate, why), 0);
    return certificate;
}

static int make_settings(void **state)
{
    char why[TLS_WHY_MAX];
    struct paper_wish good = {.name = NAME, .until_s = 4000000000};
    struct paper_wish late = {.name = NAME, .until_s = 1000000000};

    papers[0] = certificate_of(&good);
    papers[1] = certificate_of(&late);
    assert_int_equal(tls_authorities_parse(paper_authority(), &trust, why), 0);
    server = (struct tls_settings){.is_server = true, .certificate = papers[0]};
    old_server = server;
    old_server.versions = TLS_VERSION_1_0;
    late_server = (struct tls_settings){.is_server = true, .certificate = papers[1]};
    strict_client = (struct tls_settings){.verifies = true, .authorities = trust};
    return 0;
}

static int drop_settings(void **state)
{
    tls_certificate_free(papers[0]);
    tls_certificate_free(papers[1]);
    tls_authorities_free(trust);
    paper_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenes),
        cmocka_unit_test(test_words),
    };

    return cmocka_run_group_tests(tests, make_settings, drop_settings);
}
