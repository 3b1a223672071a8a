/*
 * The SMTP server and its attackers; names carry the ids of the attack classes.
 */
#include "tests/unit/net/smtpd_stage.h"

#include <stdio.h>
#include <string.h>

#define EHLO     "EHLO x\r\n"
#define ENVELOPE "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
#define SECOND   "MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nevil\r\n.\r\n"

static struct stage stage;
static struct client client;

static int open_stage(void **state)
{
    stage_open(&stage, 7, NULL);
    return 0;
}

static int close_stage(void **state)
{
    stage_close(&stage);
    return 0;
}

static bool contains(const struct fake_message *m, const char *text)
{
    return m->body_bytes > 0 && memmem(m->body, m->body_bytes, text, strlen(text)) != NULL;
}

static const char *expect_codes(const char *bytes, size_t len, const char *codes)
{
    const char *came = stage_converse(&stage, bytes, len);

    if (strcmp(came, codes) != 0)
        print_error("for: %.*s\n", (int)len, bytes);
    assert_string_equal(came, codes);
    return came;
}

/* ---- A02, A03: smuggling --------------------------------------------------------------------- */

struct sequence {
    const char *bytes;
    size_t len;
};
#define SEQUENCE(text)                                                                             \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

/* None of these is CR LF . CR LF: the ten that smtpsmug tries, and the seven ends of data of the
 * study "SMTP smuggling". */
static const struct sequence smuggling[] = {
    SEQUENCE("\n.\n"),       SEQUENCE("\n.\r\n"),     SEQUENCE("\r.\r"),
    SEQUENCE("\r.\r\n"),     SEQUENCE("\r.\n"),       SEQUENCE("\n.\r"),
    SEQUENCE("\r\n.\n"),     SEQUENCE("\r\n.\r"),     SEQUENCE("\r\n\0.\r\n"),
    SEQUENCE("\r\n.\0\r\n"),

    SEQUENCE("\n\n.\n\n"),   SEQUENCE("\r\r.\r\r"),   SEQUENCE("\r\r\n.\r\r\n"),
    SEQUENCE("\n\r.\n\r"),   SEQUENCE("\r\n.\r\r\n"), SEQUENCE("\r\n\n.\n\r\n"),
    SEQUENCE("\r\n.\n\r\n"),
};
#define SMUGGLING_COUNT (sizeof(smuggling) / sizeof(smuggling[0]))

static size_t smuggle(char *room, size_t room_bytes, const struct sequence *sequence, bool by_bdat)
{
    size_t len;
    char inner[512];
    size_t inner_bytes;

    inner_bytes = (size_t)snprintf(inner, sizeof(inner), "Subject: x\r\n\r\nfirst");
    memcpy(inner + inner_bytes, sequence->bytes, sequence->len);
    inner_bytes += sequence->len;
    inner_bytes += (size_t)snprintf(inner + inner_bytes, sizeof(inner) - inner_bytes, SECOND);
    if (by_bdat)
        len = (size_t)snprintf(room, room_bytes, EHLO ENVELOPE "BDAT %zu LAST\r\n", inner_bytes);
    else
        len = (size_t)snprintf(room, room_bytes, EHLO ENVELOPE "DATA\r\n");
    memcpy(room + len, inner, inner_bytes);
    len += inner_bytes;
    len += (size_t)snprintf(room + len, room_bytes - len, "QUIT\r\n");
    return len;
}

static void a02_smuggled_envelopes_are_never_taken_with_reject(void **state)
{
    char text[1024];

    for (size_t i = 0; i < SMUGGLING_COUNT; i++) {
        /* The CRLF.CRLF that ends SECOND ends the only message, and it is refused. */
        size_t len = smuggle(text, sizeof(text), &smuggling[i], false);

        expect_codes(text, len, "250 250 250 354 554 221.");
        len = smuggle(text, sizeof(text), &smuggling[i], true);
        expect_codes(text, len, "250 250 250 554 221.");
    }
    assert_int_equal(stage.fake.message_count, 0);
}

/* What goes out again must not be taken for two messages by anybody (A03). */
static void expect_clean(const struct fake_message *m)
{
    for (size_t at = 0; at < m->body_bytes; at++) {
        bool behind_cr = at > 0 && m->body[at - 1] == '\r';
        bool at_start = at == 0 || m->body[at - 1] == '\n';

        assert_int_not_equal(m->body[at], 0);
        assert_int_equal(m->body[at] == '\n', behind_cr);
        if (at_start && m->body[at] == '.')
            assert_int_not_equal(m->body[at + 1], '\r');
    }
    assert_int_equal(m->body[m->body_bytes - 1], '\n');
}

static void a02_a03_smuggled_envelopes_become_text_with_fix(void **state)
{
    char text[1024];

    stage.fake.source.bad_line_ends = CONF_LINE_ENDS_FIX;
    for (size_t i = 0; i < SMUGGLING_COUNT; i++) {
        for (unsigned by_bdat = 0; by_bdat < 2; by_bdat++) {
            size_t len = smuggle(text, sizeof(text), &smuggling[i], by_bdat);
            const struct fake_message *m = &stage.fake.messages[stage.fake.message_count];

            if (stage.fake.message_count == FAKE_MESSAGE_COUNT_MAX)
                m = stage.fake.messages;
            expect_codes(text, len, by_bdat ? "250 250 250 250 221." : "250 250 250 354 250 221.");
            assert_string_equal(m->sender, "a@b.example");
            assert_true(contains(m, "RCPT TO:<victim@d.example>"));
            expect_clean(m);
        }
    }
    assert_int_equal(stage.fake.message_count, 2 * SMUGGLING_COUNT);
}

/* The true end is found although everything in front of it is rubbish, also in the tiniest
 * segments, and what follows is the next command. */
static void a02_true_end_is_found_in_any_segmentation(void **state)
{
    char text[1024];

    stage_crumble(&stage);
    for (size_t i = 0; i < SMUGGLING_COUNT; i++)
        expect_codes(text, smuggle(text, sizeof(text), &smuggling[i], false),
                     "250 250 250 354 554 221.");
    assert_int_equal(stage.fake.message_count, 0);
}

/* Commands, too, end with CRLF only. */
static void a02_a_bare_lf_ends_no_command(void **state)
{
    stage_expect(&stage,
                 EHLO "MAIL FROM:<a@b.example>\nRCPT TO:<c@d.example>\r\nNOOP\rRSET\r\n"
                      "NOOP\t\r\nNOOP \t\r\nNOOP \x01\r\nVRFY a\x7f\r\nHELP \x1b[2J\r\nQUIT\r\n",
                 "250 500 503 500 500 500 500 500 500 221.");
    expect_codes(EHLO "NOOP \0\r\nQUIT\r\n", sizeof(EHLO "NOOP \0\r\nQUIT\r\n") - 1,
                 "250 500 221.");
}

/* ---- A13: BDAT ------------------------------------------------------------------------------- */

static void a13_sizes_of_chunks(void **state)
{
    static const struct {
        const char *text;
        const char *codes;
    } rows[] = {
        {"BDAT 0 LAST\r\nQUIT\r\n", "250 250 250 250 221."},
        {"BDAT 0\r\nBDAT 0\r\nBDAT 0 LAST\r\nQUIT\r\n", "250 250 250 250 250 250 221."},
        {"BDAT 00003 last\r\nabcQUIT\r\n", "250 250 250 250 221."},
        /* The count cannot be known: nothing behind it is read as a command. */
        {"BDAT\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT x\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT -1\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT +1\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT 0x10\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT 1e3\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT LAST\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT 3 LAST LAST\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT 3 MORE\r\nMAIL FROM:<evil@b.example>\r\n", "250 250 250 501."},
        {"BDAT 99999999999999999999\r\nNOOP\r\n", "250 250 250 501."},
        {"BDAT 18446744073709551616\r\nNOOP\r\n", "250 250 250 501."},
        /* Too much to be read in vain. */
        {"BDAT 18446744073709551615\r\nNOOP\r\n", "250 250 250 552."},
        {"BDAT 9223372036854775808 LAST\r\nNOOP\r\n", "250 250 250 552."},
        {"BDAT 2147483648\r\nNOOP\r\n", "250 250 250 552."},
        /* Over the limit by a little: read in vain, and the next command is one. */
        {"RSET\r\n", "250 250 250 250"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[512];

        snprintf(text, sizeof(text), EHLO ENVELOPE "%s", rows[i].text);
        stage_expect(&stage, text, rows[i].codes);
    }
    assert_int_equal(stage.fake.message_count, 3);
}

static void a13_refused_chunks_are_counted_off(void **state)
{
    stage.fake.source.max_message_bytes = 20;
    stage_expect(&stage, EHLO "BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nRSET\r\nNOOP\r\nQUIT\r\n",
                 "250 503 503 250 221.");
    stage_expect(&stage, "BDAT 6\r\nEHLO x" EHLO "QUIT\r\n", "503 250 221.");
    stage_expect(&stage, EHLO "MAIL FROM:<a@b.example>\r\nBDAT 6\r\nQUIT\r\nDATA\r\nQUIT\r\n",
                 "250 250 554 503 221.");
    stage_expect(&stage, EHLO ENVELOPE "BDAT 21\r\nQUIT\r\nQUIT\r\nQUIT\r\nabcDATA\r\nQUIT\r\n",
                 "250 250 250 552 503 221.");
    /* The sum counts, not the single chunk. */
    stage_expect(&stage, EHLO ENVELOPE "BDAT 15\r\n123456789012345BDAT 6\r\nQUIT\r\nQUIT\r\n",
                 "250 250 250 250 552 221.");
    /* After LAST nothing of the transaction is left. */
    stage_expect(&stage, EHLO ENVELOPE "BDAT 6 LAST\r\n1234\r\nBDAT 6 LAST\r\nQUIT\r\nQUIT\r\n",
                 "250 250 250 250 503 221.");
    assert_int_equal(stage.fake.message_count, 1);
    stage.fake.source.allow_chunking = false;
    stage_expect(&stage, EHLO ENVELOPE "BDAT 6\r\nQUIT\r\nDATA\r\nQUIT\r\n",
                 "250 250 250 502 503 221.");
}

static void a13_bdat_and_data_do_not_mix(void **state)
{
    stage_expect(&stage, EHLO ENVELOPE "BDAT 3\r\nabcDATA\r\nRCPT TO:<e@d.example>\r\nQUIT\r\n",
                 "250 250 250 250 503 503 221.");
    stage_expect(&stage,
                 EHLO ENVELOPE "BDAT 3\r\nabcRCPT TO:<e@d.example>\r\nBDAT 3 LAST\r\nabcQUIT\r\n",
                 "250 250 250 250 503 503 221.");
    stage_expect(&stage,
                 EHLO ENVELOPE "BDAT 3\r\nabcMAIL FROM:<e@d.example>\r\nBDAT 0 LAST\r\nQUIT\r\n",
                 "250 250 250 250 503 503 221.");
    assert_int_equal(stage.fake.message_count, 0);
}

static void a13_a_line_end_over_two_chunks(void **state)
{
    const struct fake_message *m = &stage.fake.messages[0];

    stage_expect(&stage,
                 EHLO ENVELOPE "BDAT 2\r\na\rBDAT 1\r\n\nBDAT 1\r\n.BDAT 2\r\n\r\nBDAT 0 LAST\r\n"
                               "QUIT\r\n",
                 "250 250 250 250 250 250 250 250 221.");
    assert_int_equal(m->body_bytes, 7);
    assert_memory_equal(m->body, "a\r\n..\r\n", 7);
    /* A CR at the end of a chunk without its LF in the next is bare. */
    stage_expect(&stage, EHLO ENVELOPE "BDAT 2\r\na\rBDAT 1 LAST\r\nbQUIT\r\n",
                 "250 250 250 250 554 221.");
    stage_expect(&stage, EHLO ENVELOPE "BDAT 2 LAST\r\na\rQUIT\r\n", "250 250 250 554 221.");
}

/* A million chunks of one octet: lines of 99 octets and their CRLF. */
static void a13_a_million_chunks_of_one_octet_cost_no_memory(void **state)
{
    static char lines[10 * (99 * 9 + 10) + 1];
    uint64_t bytes;

    for (unsigned i = 0; i < 1000; i++)
        strcat(lines, i % 100 == 99 ? "BDAT 2\r\n\r\n" : "BDAT 1\r\nx");
    stage.fake.keep_bodies = false;
    stage.fake.source.max_message_bytes = CONF_UNLIMITED;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE);
    client_expect(&client, "250 250");
    bytes = sim_mem_bytes(stage.process);
    for (unsigned round = 0; round < 1000; round++) {
        client_send(&client, lines);
        sim_run_for(stage.world, S(2));
        assert_int_equal(client.out_bytes - client.read,
                         1000 * strlen("250 2.0.0 chunk taken\r\n"));
        client.read = 0;
        client.out_bytes = 0;
        client.out[0] = '\0';
        assert_true(sim_mem_bytes(stage.process) <= bytes + 8192);
    }
    client_send(&client, "BDAT 0 LAST\r\nQUIT\r\n");
    client_expect(&client, "250 221.");
    assert_int_equal(stage.fake.written_octets, 1010000);
    assert_int_equal(stage.fake.finished, 1);
}

/* ---- A14: long lines ------------------------------------------------------------------------- */

/* Sends `total` octets of one kind and tells how much memory the server took at most. */
static uint64_t flood(uint8_t octet, size_t total)
{
    static uint8_t block[65536];
    uint64_t before = sim_mem_bytes(stage.process);
    uint64_t most = before;

    memset(block, octet, sizeof(block));
    for (size_t sent = 0; sent < total && client.conn != NULL; sent += sizeof(block)) {
        client_send_bytes(&client, block, sizeof(block));
        sim_run_for(stage.world, MS(400));
        if (sim_mem_bytes(stage.process) > most)
            most = sim_mem_bytes(stage.process);
    }
    return most - before;
}

static void a14_a_command_without_end(void **state)
{
    client_greet(&stage, &client);
    assert_true(flood('x', 64u << 20) < 65536);
    client_expect(&client, "500");
    client_expect_end(&client);
}

/* Behind its last reply the server reads on for a moment, but not whatever comes. */
static void a14_octets_behind_the_last_reply_are_bounded(void **state)
{
    static uint8_t octets[8u << 20];
    uint64_t begun_ns;

    client_greet(&stage, &client);
    client_send(&client, "BDAT x\r\n");
    memset(octets, 'x', sizeof(octets));
    client_send_bytes(&client, octets, sizeof(octets));
    client_expect(&client, "501");
    begun_ns = sim_now_ns(stage.world);
    while (stage.fake.admitted_now > 0)
        sim_run_for(stage.world, MS(1));
    assert_true(sim_now_ns(stage.world) - begun_ns < MS(1500));
    client_drop(&client);
}

static void a14_the_longest_command(void **state)
{
    char line[2100];

    client_greet(&stage, &client);
    memset(line, 'x', sizeof(line));
    memcpy(line, "NOOP ", 5);
    memcpy(line + 2046, "\r\n", 3);
    client_send(&client, line);
    client_expect(&client, "250");
    memcpy(line + 2046, "x\r\n", 4);
    client_send(&client, line);
    client_expect(&client, "500.");
}

static void a14_text_without_end(void **state)
{
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    assert_true(flood('x', 64u << 20) < 65536);
    client_expect(&client, "552");
    client_expect_end(&client);
    assert_int_equal(stage.fake.aborted, 1);
}

static void a14_long_text_lines_are_refused_after_the_data(void **state)
{
    char text[3000] = EHLO ENVELOPE "DATA\r\n";
    size_t len = strlen(text);

    memset(text + len, 'x', 999);
    strcpy(text + len + 999, "\r\n.\r\n" ENVELOPE "DATA\r\nok\r\n.\r\nQUIT\r\n");
    stage_expect(&stage, text, "250 250 250 354 552 250 250 354 250 221.");
    assert_int_equal(stage.fake.message_count, 1);
}

static void a14_messages_over_the_limit_are_read_and_refused(void **state)
{
    char text[1024];

    stage.fake.source.max_message_bytes = 100;
    for (unsigned octets = 98; octets < 103; octets++) {
        size_t len = (size_t)snprintf(text, sizeof(text), EHLO ENVELOPE "DATA\r\n..");

        memset(text + len, 'x', octets - 3);
        snprintf(text + len + octets - 3, sizeof(text) - len - octets, "\r\n.\r\nQUIT\r\n");
        stage_expect(&stage, text,
                     octets <= 100 ? "250 250 250 354 250 221." : "250 250 250 354 552 221.");
    }
    /* Endless, but in lines: at some point nobody reads on. */
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    assert_true(flood('\n', 80u << 20) < 65536);
    client_expect(&client, "554");
    client_expect_end(&client);
}

/* ---- A16: parameters ------------------------------------------------------------------------- */

static const struct {
    const char *params;
    const char *code;
} mail_params[] = {
    {"", "250"},
    {" SIZE=0", "250"},
    {" SIZE=1000", "250"},
    {" size=1000 body=7bit smtputf8", "250"},
    {"  SIZE=1000  BODY=8BITMIME ", "250"},
    {" SIZE=10000000", "250"},
    {" SIZE=10000001", "552"},
    {" SIZE=18446744073709551615", "552"},
    {" SIZE=18446744073709551616", "501"},
    {" SIZE=99999999999999999999", "501"},
    {" SIZE=000000000000000000001", "501"},
    {" SIZE=", "501"},
    {" SIZE", "501"},
    {" SIZE=-1", "501"},
    {" SIZE=+1", "501"},
    {" SIZE=1k", "501"},
    {" SIZE=0x1", "501"},
    {" SIZE=1 SIZE=1", "501"},
    {" SIZE=1 size=2", "501"},
    {" SIZE==1", "501"},
    {" SIZE=1=1", "501"},
    {" =1", "501"},
    {" SI ZE=1", "555"},
    {" BODY=8BITMIME", "250"},
    {" BODY=BINARYMIME", "555"},
    {" BODY=9BIT", "555"},
    {" BODY=", "501"},
    {" BODY", "501"},
    {" BODY=7BIT BODY=8BITMIME", "501"},
    {" SMTPUTF8", "250"},
    {" SMTPUTF8=", "501"},
    {" SMTPUTF8=yes", "501"},
    {" SMTPUTF8 SMTPUTF8", "501"},
    {" RET=FULL", "250"},
    {" ret=hdrs ENVID=a+2Bb", "250"},
    {" RET=BODY", "501"},
    {" RET", "501"},
    {" RET=FULL RET=HDRS", "501"},
    {" ENVID=abc", "250"},
    {" ENVID=a+00b", "501"},
    {" ENVID", "501"},
    {" AUTH=<>", "555"},
    {" MT-PRIORITY=3", "555"},
    {" X", "555"},
    {" -X=1", "501"},
    {" X_Y=1", "501"},
    {" X%00=1", "501"},
    {"SIZE=1", "501"},
    {"x", "501"},
};
static const struct {
    const char *params;
    const char *code;
} rcpt_params[] = {
    {"", "250"},
    {" ", "250"},
    {" NOTIFY=NEVER", "250"},
    {" NOTIFY=SUCCESS,FAILURE", "250"},
    {" NOTIFY=NEVER,DELAY", "501"},
    {" NOTIFY=", "501"},
    {" NOTIFY", "501"},
    {" NOTIFY=DELAY ORCPT=rfc822;a+2Bb@d.example", "250"},
    {" ORCPT=rfc822;a+00b@d.example", "501"},
    {" ORCPT=a@d.example", "501"},
    {" ORCPT", "501"},
    {" RET=FULL", "555"},
    {" ORCPT=", "501"},
    {" ORCPT=a=b", "501"},
    {" SIZE=1", "555"},
    {" =", "501"},
    {" *", "501"},
    {"*", "501"},
};

static void a16_parameters_of_mail_and_rcpt(void **state)
{
    for (size_t i = 0; i < sizeof(mail_params) / sizeof(mail_params[0]); i++) {
        char text[256];
        char codes[64];

        snprintf(text, sizeof(text), EHLO "MAIL FROM:<a@b.example>%s\r\nQUIT\r\n",
                 mail_params[i].params);
        snprintf(codes, sizeof(codes), "250 %s 221.", mail_params[i].code);
        stage_expect(&stage, text, codes);
    }
    for (size_t i = 0; i < sizeof(rcpt_params) / sizeof(rcpt_params[0]); i++) {
        char text[256];
        char codes[64];

        snprintf(text, sizeof(text),
                 EHLO "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>%s\r\nQUIT\r\n",
                 rcpt_params[i].params);
        snprintf(codes, sizeof(codes), "250 250 %s 221.", rcpt_params[i].code);
        stage_expect(&stage, text, codes);
    }
}

/* ---- A17, A19: addresses --------------------------------------------------------------------- */

static void a17_one_form_goes_to_routing_and_wire(void **state)
{
    stage_expect(&stage,
                 EHLO "MAIL FROM:<\"a@x.example\"@b.example>\r\n"
                      "RCPT TO:<\"v@int.example\"@ext.example>\r\n"
                      "RCPT TO:<\"v@int.example> \"@ext.example>\r\n"
                      "RCPT TO:<@int.example:v@ext.example>\r\n"
                      "RCPT TO:<v@int.example@ext.example>\r\n"
                      "RCPT TO:<v@int.example>@ext.example\r\n"
                      "RCPT TO:v@ext.example\r\nRCPT TO:<>\r\nRCPT TO:\r\nRCPT\r\n"
                      "DATA\r\n.\r\nQUIT\r\n",
                 "250 250 250 250 250 501 501 501 501 501 501 354 250 221.");
    assert_int_equal(stage.fake.messages[0].rcpt_count, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_string_equal(stage.fake.messages[0].hosts[i], "ext.example");
    assert_string_equal(stage.fake.messages[0].rcpts[1], "\"v@int.example> \"@ext.example");
    assert_string_equal(stage.fake.messages[0].rcpts[2], "v@ext.example");
}

static void a19_utf8_addresses_need_the_parameter(void **state)
{
    stage_expect(&stage,
                 EHLO
                 "MAIL FROM:<\xc3\xa9@b.example>\r\nMAIL FROM:<\xc3\xa9@b.example> SMTPUTF8\r\n"
                 "RCPT TO:<\xc3\xa9@b\xc3\xbc"
                 "cher.example>\r\nDATA\r\n.\r\n"
                 "MAIL FROM:<a@b.example>\r\nRCPT TO:<\xc3\xa9@d.example>\r\n"
                 "RCPT TO:<a@b\xc3\xbc"
                 "cher.example>\r\nRCPT TO:<\xff@d.example>\r\nQUIT\r\n",
                 "250 553 250 250 354 250 250 553 553 553 221.");
    assert_true(stage.fake.messages[0].smtputf8);
    assert_string_equal(stage.fake.messages[0].hosts[0], "xn--bcher-kva.example");
    stage.fake.source.allow_smtputf8 = false;
    stage_expect(&stage, EHLO "MAIL FROM:<\xc3\xa9@b.example> SMTPUTF8\r\nQUIT\r\n",
                 "250 553 221.");
}

/* ---- A21: slow clients ----------------------------------------------------------------------- */

static void a21_message_data_that_stops(void **state)
{
    stage.fake.source.data_timeout_ms = 30000;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\nSubject: x\r\n");
    client_expect(&client, "250 250 354");
    client_expect_silence(&client, S(28));
    client_expect(&client, "421.");
    assert_int_equal(stage.fake.aborted, 1);
}

/* What came fast before buys no time to do nothing. */
static void a21_message_data_that_stops_after_a_good_start(void **state)
{
    stage.fake.source.data_timeout_ms = 30000;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    for (unsigned i = 0; i < 1000; i++)
        client_send(&client, "12345678901234567890123456789012345678901234567890123456789012345678"
                             "901234567890123456789012345678\r\n");
    client_expect_silence(&client, S(28));
    sim_run_for(stage.world, S(5));
    assert_null(client.conn);
    client_expect(&client, "421.");
}

/* Each octet in time, but 100 a second: ends after the time that 500 a second would allow. */
static void a21_message_data_that_trickles(void **state)
{
    unsigned seconds = 0;

    stage.fake.source.data_timeout_ms = 30000;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    while (client.conn != NULL && client.read == client.out_bytes && seconds < 200) {
        client_send(&client, "12345678901234567890123456789012345678901234567890123456789012345678"
                             "901234567890123456789012345678\r\n");
        sim_run_for(stage.world, S(1));
        seconds++;
    }
    assert_true(seconds > 30 && seconds < 45);
    client_expect(&client, "421.");
}

/* At 1,000 octets a second nobody is thrown out, however long it takes. */
static void a21_message_data_at_a_fair_rate(void **state)
{
    stage.fake.source.data_timeout_ms = 30000;
    stage.fake.keep_bodies = false;
    client_greet(&stage, &client);
    client_send(&client, ENVELOPE "DATA\r\n");
    client_expect(&client, "250 250 354");
    for (unsigned seconds = 0; seconds < 300; seconds++) {
        for (unsigned i = 0; i < 10; i++)
            client_send(&client, "12345678901234567890123456789012345678901234567890123456789012345"
                                 "678901234567890123456789012345678\r\n");
        sim_run_for(stage.world, S(1));
    }
    client_send(&client, ".\r\n");
    client_expect(&client, "250");
    client_drop(&client);
}

static void a21_a_command_that_trickles(void **state)
{
    unsigned seconds = 0;

    stage.fake.source.command_timeout_ms = 20000;
    client_greet(&stage, &client);
    while (client.conn != NULL && client.read == client.out_bytes && seconds < 100) {
        client_send(&client, "N");
        sim_run_for(stage.world, S(1));
        seconds++;
    }
    assert_true(seconds > 15 && seconds < 25);
    client_expect(&client, "421.");
}

static void a21_a_client_that_does_not_read(void **state)
{
    uint64_t bytes = sim_mem_bytes(stage.process);

    stage.fake.source.command_timeout_ms = 20000;
    client_greet(&stage, &client);
    sim_peer_pause(client.conn);
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned n = 0; n < 100; n++)
            client_send(&client, "NOOP\r\n");
        sim_run_for(stage.world, MS(100));
        assert_true(sim_mem_bytes(stage.process) < bytes + (1u << 20));
    }
    sim_run_for(stage.world, S(60));
    assert_int_equal(stage.fake.admitted_now, 0);
    client_drop(&client);
}

static void a21_slow_clients_hold_up_nobody(void **state)
{
    static struct client slow[40];

    for (unsigned i = 0; i < 40; i++) {
        client_connect(&stage, &slow[i]);
        client_expect(&slow[i], "220");
        client_send(&slow[i], "EH");
    }
    for (unsigned i = 0; i < 5; i++)
        stage_expect(&stage, EHLO ENVELOPE "DATA\r\n.\r\nQUIT\r\n", "250 250 250 354 250 221.");
    for (unsigned i = 0; i < 40; i++)
        client_drop(&slow[i]);
}

/* ---- A25, A35 and the cap of errors ---------------------------------------------------------- */

static void a25_replies_of_the_taker_are_censored(void **state)
{
    fake_refuse(&stage.fake, FAKE_BEGIN, 550, 5, 7, 1, "no\r\n250 ok\x1b[2J\x7f\xc3\xa9");
    client_greet(&stage, &client);
    client_send(&client, "MAIL FROM:<a@b.example>\r\n");
    client_expect(&client, "550");
    assert_non_null(strstr(client.out, "550 5.7.1 no??250 ok?[2J???\r\n"));
    client_drop(&client);
}

static void a35_other_protocols_are_dropped(void **state)
{
    static const char *const firsts[] = {
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\n" EHLO SECOND,
        "CONNECT mx.example:25 HTTP/1.1\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "\r\nGET / HTTP/1.1\r\n",
        "{\"json\": 1}\r\n",
    };

    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++)
        stage_expect(&stage, firsts[i], ".");
    /* Also later in a session. */
    client_greet(&stage, &client);
    client_send(&client, "POST / HTTP/1.1\r\n" SECOND);
    client_expect_end(&client);
    assert_int_equal(stage.fake.begun, 0);
}

/* Octets that are there when the connection is taken are seen before the greeting is sent. Whether
 * they are there in the same moment is up to the network, so only the count tells. */
static void a35_bytes_before_the_greeting(void **state)
{
    static struct client first;
    struct smtpd_options options = {.session_count_max = 1};
    unsigned dropped = 0;

    stage_close(&stage);
    stage_open(&stage, 9, &options);
    for (unsigned i = 0; i < 20; i++) {
        client_greet(&stage, &first);
        client_connect(&stage, &client);
        client_send(&client, EHLO SECOND);
        client_expect_silence(&client, S(5));
        client_drop(&first);
        sim_run_for(stage.world, S(5));
        if (client.conn == NULL) {
            assert_int_equal(client.out_bytes, 0);
            dropped++;
        }
        client_drop(&client);
        sim_run_for(stage.world, S(1));
    }
    assert_true(dropped > 0);
}

static void too_many_errors_end_the_session(void **state)
{
    struct smtpd_options options = {.session_count_max = 10, .bad_command_count_max = 5};

    stage_close(&stage);
    stage_open(&stage, 8, &options);
    stage_expect(&stage, "XX\r\nXX\r\nXX\r\nXX\r\nXX\r\nNOOP\r\n", "500 500 500 500 500 421.");
    stage_expect(&stage, EHLO "BDAT 1\r\n.BDAT 1\r\n.XX\r\nXX\r\nBDAT 5\r\nNOOP\r\n",
                 "250 503 503 500 500 503 421.");
    /* Refused recipients are no errors of the client's. */
    fake_refuse(&stage.fake, FAKE_RCPT, 550, 5, 1, 1, "no such user");
    stage_expect(&stage,
                 EHLO "MAIL FROM:<a@b.example>\r\n"
                      "RCPT TO:<a@d.example>\r\nRCPT TO:<a@d.example>\r\nRCPT TO:<a@d.example>\r\n"
                      "RCPT TO:<a@d.example>\r\nRCPT TO:<a@d.example>\r\nRCPT TO:<a@d.example>\r\n"
                      "QUIT\r\n",
                 "250 250 550 550 550 550 550 550 221.");
}

int main(void)
{
#define ON_STAGE(name) cmocka_unit_test_setup_teardown(name, open_stage, close_stage)
    const struct CMUnitTest tests[] = {
        ON_STAGE(a02_smuggled_envelopes_are_never_taken_with_reject),
        ON_STAGE(a02_a03_smuggled_envelopes_become_text_with_fix),
        ON_STAGE(a02_true_end_is_found_in_any_segmentation),
        ON_STAGE(a02_a_bare_lf_ends_no_command),
        ON_STAGE(a13_sizes_of_chunks),
        ON_STAGE(a13_refused_chunks_are_counted_off),
        ON_STAGE(a13_bdat_and_data_do_not_mix),
        ON_STAGE(a13_a_line_end_over_two_chunks),
        ON_STAGE(a13_a_million_chunks_of_one_octet_cost_no_memory),
        ON_STAGE(a14_a_command_without_end),
        ON_STAGE(a14_octets_behind_the_last_reply_are_bounded),
        ON_STAGE(a14_the_longest_command),
        ON_STAGE(a14_text_without_end),
        ON_STAGE(a14_long_text_lines_are_refused_after_the_data),
        ON_STAGE(a14_messages_over_the_limit_are_read_and_refused),
        ON_STAGE(a16_parameters_of_mail_and_rcpt),
        ON_STAGE(a17_one_form_goes_to_routing_and_wire),
        ON_STAGE(a19_utf8_addresses_need_the_parameter),
        ON_STAGE(a21_message_data_that_stops),
        ON_STAGE(a21_message_data_that_stops_after_a_good_start),
        ON_STAGE(a21_message_data_that_trickles),
        ON_STAGE(a21_message_data_at_a_fair_rate),
        ON_STAGE(a21_a_command_that_trickles),
        ON_STAGE(a21_a_client_that_does_not_read),
        ON_STAGE(a21_slow_clients_hold_up_nobody),
        ON_STAGE(a25_replies_of_the_taker_are_censored),
        ON_STAGE(a35_other_protocols_are_dropped),
        ON_STAGE(a35_bytes_before_the_greeting),
        ON_STAGE(too_many_errors_end_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
