/*
 * A12: every event that ends or could confuse a transaction, followed by every command. After each
 * pair a whole fresh transaction must come through with its own recipient alone. And: any
 * conversation gives the same replies and messages however the network cuts it.
 */
#include "tests/unit/net/smtpd_stage.h"

#include "core/base/rng.h"

#include <stdio.h>
#include <string.h>

#define SENDER "MAIL FROM:<old@b.example>\r\n"
#define RCPT   "RCPT TO:<old@d.example>\r\n"

static struct stage stage;
static struct client client;

/* Where a session stands after an event. */
enum standing {
    BEFORE_EHLO,
    EMPTY,      /* no transaction */
    HAS_SENDER, /* MAIL was taken */
    HAS_RCPT,
    IN_CHUNKS, /* a BDAT without LAST was taken */
    STANDINGS,
};

struct event {
    const char *name;
    const char *text;
    const char *codes;
    enum standing after;
    enum fake_step refuses; /* with 450, while the event lasts; FAKE_ADMIT = nothing */
};

#define NONE FAKE_ADMIT

static const struct event events[] = {
    {"nothing", "", "", EMPTY, NONE},
    {"sender", SENDER, "250", HAS_SENDER, NONE},
    {"rcpt", SENDER RCPT, "250 250", HAS_RCPT, NONE},
    {"chunk", SENDER RCPT "BDAT 3\r\nold", "250 250 250", IN_CHUNKS, NONE},
    {"chunk of nothing", SENDER RCPT "BDAT 0\r\n", "250 250 250", IN_CHUNKS, NONE},
    {"whole message", SENDER RCPT "DATA\r\nold\r\n.\r\n", "250 250 354 250", EMPTY, NONE},
    {"whole message in chunks", SENDER RCPT "BDAT 5 LAST\r\nold\r\n", "250 250 250", EMPTY, NONE},

    {"bad sender", "MAIL FROM:<old\r\n", "501", EMPTY, NONE},
    {"bad parameter", "MAIL FROM:<old@b.example> SIZE=x\r\n", "501", EMPTY, NONE},
    {"unknown parameter", "MAIL FROM:<old@b.example> X=1\r\n", "555", EMPTY, NONE},
    {"too large", "MAIL FROM:<old@b.example> SIZE=99999999\r\n", "552", EMPTY, NONE},
    {"sender refused", SENDER, "450", EMPTY, FAKE_BEGIN},
    {"nested sender", SENDER RCPT SENDER, "250 250 503", EMPTY, NONE},
    {"nested sender without rcpt", SENDER SENDER, "250 503", EMPTY, NONE},
    {"rcpt first", RCPT, "503", EMPTY, NONE},
    {"data first", "DATA\r\n", "503", EMPTY, NONE},
    {"data without rcpt", SENDER "DATA\r\n", "250 554", EMPTY, NONE},
    {"data with argument", SENDER RCPT "DATA x\r\n", "250 250 501", EMPTY, NONE},
    {"data refused", SENDER RCPT "DATA\r\n", "250 250 450", EMPTY, FAKE_START_BODY},
    {"write failed", SENDER RCPT "DATA\r\nold\r\n.\r\n", "250 250 354 450", EMPTY, FAKE_WRITE},
    {"finish refused", SENDER RCPT "DATA\r\nold\r\n.\r\n", "250 250 354 450", EMPTY, FAKE_FINISH},
    {"bare LF in data", SENDER RCPT "DATA\r\no\nd\r\n.\r\n", "250 250 354 554", EMPTY, NONE},
    {"bare CR in data", SENDER RCPT "DATA\r\no\rd\r\n.\r\n", "250 250 354 554", EMPTY, NONE},
    {"long line in data", NULL, "250 250 354 552", EMPTY, NONE},

    {"chunk first", "BDAT 3 LAST\r\nold", "503", EMPTY, NONE},
    {"chunk without rcpt", SENDER "BDAT 3 LAST\r\nold", "250 554", EMPTY, NONE},
    {"chunk too large", SENDER RCPT "BDAT 10000001\r\n", NULL, EMPTY, NONE},
    {"chunk refused", SENDER RCPT "BDAT 3\r\nold", "250 250 450", EMPTY, FAKE_START_BODY},
    {"last chunk refused", SENDER RCPT "BDAT 3 LAST\r\nold", "250 250 450", EMPTY, FAKE_START_BODY},
    {"chunk write failed", SENDER RCPT "BDAT 3\r\noldBDAT 0 LAST\r\n", "250 250 250 450", EMPTY,
     FAKE_WRITE},
    {"chunk finish refused", SENDER RCPT "BDAT 3 LAST\r\nold", "250 250 450", EMPTY, FAKE_FINISH},
    {"bare LF in chunk", SENDER RCPT "BDAT 3\r\no\nd", "250 250 554", EMPTY, NONE},
    {"bare LF in last chunk", SENDER RCPT "BDAT 3 LAST\r\no\nd", "250 250 554", EMPTY, NONE},
    {"bare CR at the very end", SENDER RCPT "BDAT 3\r\nol\rBDAT 0 LAST\r\n", "250 250 250 554",
     EMPTY, NONE},
    {"chunk, then data", SENDER RCPT "BDAT 3\r\noldDATA\r\n", "250 250 250 503", EMPTY, NONE},
    {"chunk, then sender", SENDER RCPT "BDAT 3\r\nold" SENDER, "250 250 250 503", EMPTY, NONE},
    {"chunk, then rcpt", SENDER RCPT "BDAT 3\r\nold" RCPT, "250 250 250 503", EMPTY, NONE},

    {"reset", SENDER RCPT "RSET\r\n", "250 250 250", EMPTY, NONE},
    {"reset among chunks", SENDER RCPT "BDAT 3\r\noldRSET\r\n", "250 250 250 250", EMPTY, NONE},
    {"ehlo again", SENDER RCPT "EHLO y\r\n", "250 250 250", EMPTY, NONE},
    {"ehlo among chunks", SENDER RCPT "BDAT 3\r\noldEHLO y\r\n", "250 250 250 250", EMPTY, NONE},
    {"helo again", SENDER RCPT "HELO y\r\n", "250 250 250", EMPTY, NONE},

    /* These say no, or nothing, about something else: the transaction stays. */
    {"rcpt refused", SENDER RCPT, "250 450", HAS_SENDER, FAKE_RCPT},
    {"bad rcpt", SENDER "RCPT TO:<old\r\n", "250 501", HAS_SENDER, NONE},
    {"rcpt with parameter", SENDER "RCPT TO:<old@d.example> X=1\r\n", "250 555", HAS_SENDER, NONE},
    {"bad rcpt behind a good one", SENDER RCPT "RCPT TO:<old\r\n", "250 250 501", HAS_RCPT, NONE},
    {"noop", SENDER RCPT "NOOP\r\n", "250 250 250", HAS_RCPT, NONE},
    {"vrfy", SENDER RCPT "VRFY x\r\n", "250 250 252", HAS_RCPT, NONE},
    {"help", SENDER RCPT "HELP\r\n", "250 250 214", HAS_RCPT, NONE},
    {"unknown", SENDER RCPT "XXXX\r\n", "250 250 500", HAS_RCPT, NONE},
    {"not offered", SENDER RCPT "STARTTLS\r\n", "250 250 502", HAS_RCPT, NONE},
    {"bare LF line", SENDER RCPT "DATA\n", NULL, HAS_RCPT, NONE},
    {"bad reset", SENDER RCPT "RSET x\r\n", "250 250 501", HAS_RCPT, NONE},
    {"bad ehlo", SENDER RCPT "EHLO\r\n", "250 250 501", HAS_RCPT, NONE},
    {"unknown among chunks", SENDER RCPT "BDAT 3\r\noldXXXX\r\n", "250 250 250 500", IN_CHUNKS,
     NONE},
};
#define EVENT_COUNT (sizeof(events) / sizeof(events[0]))

/* The next command, and its codes by where the session stands. */
static const struct {
    const char *text;
    const char *codes[STANDINGS];
} nexts[] = {
    {"EHLO z\r\n", {"250", "250", "250", "250", "250"}},
    {"HELO z\r\n", {"250", "250", "250", "250", "250"}},
    {"MAIL FROM:<next@b.example>\r\n", {"503", "250", "503", "503", "503"}},
    {"MAIL FROM:<next\r\n", {"503", "501", "503", "503", "503"}},
    {"RCPT TO:<next@d.example>\r\n", {"503", "503", "250", "250", "503"}},
    {"RCPT TO:<next\r\n", {"503", "503", "501", "501", "503"}},
    {"DATA\r\nnext\r\n.\r\n", {NULL, NULL, NULL, "354 250", NULL}},
    {"DATA\r\n", {"503", "503", "554", NULL, "503"}},
    {"BDAT 6\r\nnext\r\n", {"503", "503", "554", "250", "250"}},
    {"BDAT 6 LAST\r\nnext\r\n", {"503", "503", "554", "250", "250"}},
    {"BDAT 0 LAST\r\n", {"503", "503", "554", "250", "250"}},
    {"RSET\r\n", {"250", "250", "250", "250", "250"}},
    {"NOOP\r\n", {"250", "250", "250", "250", "250"}},
    {"VRFY x\r\n", {"252", "252", "252", "252", "252"}},
    {"HELP\r\n", {"214", "214", "214", "214", "214"}},
    {"XXXX\r\n", {"500", "500", "500", "500", "500"}},
};
#define NEXT_COUNT (sizeof(nexts) / sizeof(nexts[0]))

/* Whether the message of the event is finished by the next command. */
static bool takes_message(enum standing standing, const char *next)
{
    return (standing == HAS_RCPT || standing == IN_CHUNKS) &&
           (strstr(next, "LAST") != NULL || strstr(next, "\r\n.\r\n") != NULL);
}

/* Events whose text or codes are too long or too odd for the table. */
static void say_event(const struct event *event)
{
    char text[1200];

    if (event->text == NULL) {
        memset(text, 'x', 1100);
        strcpy(text + 1100, "\r\n.\r\n");
        client_send(&client, SENDER RCPT "DATA\r\n");
        client_send(&client, text);
        client_expect(&client, event->codes);
    } else if (strstr(event->text, "10000001") != NULL) {
        static char octets[10000001];

        memset(octets, 'x', sizeof(octets));
        client_send(&client, event->text);
        client_expect(&client, "250 250 552");
        client_send_bytes(&client, octets, sizeof(octets));
    } else if (event->codes == NULL) {
        client_send(&client, event->text);
        client_expect(&client, "250 250 500");
    } else {
        client_send(&client, event->text);
        client_expect(&client, event->codes);
    }
}

/* A transaction of its own must find no trace of another. */
static void prove_clean(const char *name)
{
    const struct fake_message *m =
        &stage.fake.messages[stage.fake.message_count % FAKE_MESSAGE_COUNT_MAX];

    client_send(&client, "EHLO last\r\nMAIL FROM:<last@b.example>\r\nRCPT TO:<last@d.example>\r\n"
                         "DATA\r\nlast\r\n.\r\nQUIT\r\n");
    client_expect(&client, "250 250 250 354 250 221.");
    if (strcmp(m->sender, "last@b.example") != 0 || m->rcpt_count != 1)
        print_error("something is left after: %s\n", name);
    assert_string_equal(m->sender, "last@b.example");
    assert_int_equal(m->rcpt_count, 1);
    assert_string_equal(m->rcpts[0], "last@d.example");
    assert_int_equal(m->body_bytes, 6);
    assert_memory_equal(m->body, "last\r\n", 6);
}

static void run_pair(const struct event *event, size_t next)
{
    uint32_t before;

    if (nexts[next].codes[event->after] == NULL)
        return;
    client_greet(&stage, &client);
    stage.fake.refuses[event->refuses] = event->refuses != NONE;
    say_event(event);
    if (event->refuses != NONE)
        stage.fake.refuses[event->refuses] = false;
    before = stage.fake.message_count;
    client_send(&client, nexts[next].text);
    client_expect(&client, nexts[next].codes[event->after]);
    assert_int_equal(stage.fake.message_count - before,
                     takes_message(event->after, nexts[next].text));
    prove_clean(event->name);
    assert_int_equal(stage.fake.message_count - before,
                     1 + takes_message(event->after, nexts[next].text));
}

static void a12_every_event_before_every_command(void **state)
{
    static const char *const no_ehlo[] = {"MAIL FROM:<old@b.example>\r\n", "RCPT TO:<o@d>\r\n",
                                          "BDAT 3\r\nold", "XXXX\r\n", "NOOP\r\n"};
    static const char *const no_ehlo_codes[] = {"503", "503", "503", "500", "250"};

    stage_open(&stage, 12, NULL);
    for (int step = FAKE_BEGIN; step < FAKE_STEP_COUNT; step++) {
        fake_refuse(&stage.fake, step, 450, 4, 0, 0, "not now");
        stage.fake.refuses[step] = false;
    }
    for (size_t i = 0; i < EVENT_COUNT; i++) {
        for (size_t next = 0; next < NEXT_COUNT; next++)
            run_pair(&events[i], next);
    }
    for (size_t i = 0; i < sizeof(no_ehlo) / sizeof(no_ehlo[0]); i++) {
        for (size_t next = 0; next < NEXT_COUNT; next++) {
            if (nexts[next].codes[BEFORE_EHLO] == NULL)
                continue;
            client_connect(&stage, &client);
            client_expect(&client, "220");
            client_send(&client, no_ehlo[i]);
            client_expect(&client, no_ehlo_codes[i]);
            client_send(&client, nexts[next].text);
            client_expect(&client, nexts[next].codes[BEFORE_EHLO]);
            prove_clean(no_ehlo[i]);
        }
    }
    stage_close(&stage);
}

/* The client vanishes instead of saying a next command. */
static void a12_every_event_before_a_lost_connection(void **state)
{
    stage_open(&stage, 13, NULL);
    for (int step = FAKE_BEGIN; step < FAKE_STEP_COUNT; step++) {
        fake_refuse(&stage.fake, step, 450, 4, 0, 0, "not now");
        stage.fake.refuses[step] = false;
    }
    for (size_t i = 0; i < EVENT_COUNT; i++) {
        uint32_t before;

        client_greet(&stage, &client);
        stage.fake.refuses[events[i].refuses] = events[i].refuses != NONE;
        say_event(&events[i]);
        if (events[i].refuses != NONE)
            stage.fake.refuses[events[i].refuses] = false;
        before = stage.fake.message_count;
        client_drop(&client);
        sim_run_for(stage.world, S(2));
        assert_int_equal(stage.fake.admitted_now, 0);
        assert_int_equal(stage.fake.begun, stage.fake.aborted + stage.fake.finished);
        assert_int_equal(stage.fake.message_count, before);
    }
    stage_close(&stage);
}

/* ---- Segmentation ---------------------------------------------------------------------------- */

static const char *const fragments[] = {
    "EHLO x\r\n",
    "HELO x\r\n",
    "MAIL FROM:<a@b.example>\r\n",
    "MAIL FROM:<> SIZE=10 BODY=8BITMIME\r\n",
    "MAIL FROM:<a@b.example> X=1\r\n",
    "RCPT TO:<c@d.example>\r\n",
    "RCPT TO:<\"c d\"@[192.0.2.1]>\r\n",
    "RCPT TO:<c\r\n",
    "DATA\r\n",
    "Subject: x\r\n\r\ntext\r\n",
    ".dot\r\n",
    "..\r\n",
    ".\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "lone\nline feed\r\n",
    "lone\rreturn\r\n",
    "BDAT 4\r\nabcd",
    "BDAT 6\r\nab\r\ncd",
    "BDAT 3 LAST\r\n\r\n.",
    "BDAT 0 LAST\r\n",
    "BDAT 100\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "XXXX\r\n",
    "VRFY x\r\n",
    "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n",
    "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 5\r\nabc\r\n",
};
#define FRAGMENT_COUNT (sizeof(fragments) / sizeof(fragments[0]))

struct record {
    char out[sizeof(client.out)];
    size_t out_bytes;
    bool ended;
    uint32_t message_count;
    uint64_t written;
    uint64_t aborted;
    struct fake_message messages[FAKE_MESSAGE_COUNT_MAX];
    uint8_t bodies[1 << 16];
    size_t body_bytes;
};

static void converse(const char *text, size_t len, uint64_t seed, bool crumbled, bool fix,
                     struct record *record)
{
    stage_open(&stage, seed, NULL);
    if (fix)
        stage.fake.source.bad_line_ends = CONF_LINE_ENDS_FIX;
    if (crumbled)
        stage_crumble(&stage);
    client_connect(&stage, &client);
    client_expect(&client, "220");
    client_send_bytes(&client, text, len);
    sim_run_for(stage.world, S(120));
    record->ended = client.conn == NULL;
    client_drop(&client);
    sim_run_for(stage.world, S(2));
    memcpy(record->out, client.out, sizeof(record->out));
    record->out_bytes = client.out_bytes;
    record->message_count = stage.fake.message_count;
    record->written = stage.fake.written_octets;
    record->aborted = stage.fake.aborted;
    record->body_bytes = 0;
    for (uint32_t i = 0; i < stage.fake.message_count; i++) {
        const struct fake_message *m = &stage.fake.messages[i];

        record->messages[i] = *m;
        record->messages[i].body = NULL;
        if (m->body_bytes > 0)
            memcpy(record->bodies + record->body_bytes, m->body, m->body_bytes);
        record->body_bytes += m->body_bytes;
    }
    stage_close(&stage);
}

static void expect_same(const struct record *a, const struct record *b)
{
    assert_string_equal(a->out, b->out);
    assert_int_equal(a->ended, b->ended);
    assert_int_equal(a->message_count, b->message_count);
    assert_int_equal(a->aborted, b->aborted);
    assert_int_equal(a->body_bytes, b->body_bytes);
    assert_memory_equal(a->bodies, b->bodies, a->body_bytes);
    for (uint32_t i = 0; i < a->message_count; i++) {
        const struct fake_message *m = &a->messages[i];
        const struct fake_message *n = &b->messages[i];

        assert_string_equal(m->sender, n->sender);
        assert_int_equal(m->rcpt_count, n->rcpt_count);
        assert_int_equal(m->body_bytes, n->body_bytes);
        assert_int_equal(m->facts.stuffed_dots, n->facts.stuffed_dots);
        assert_int_equal(m->facts.has_8bit, n->facts.has_8bit);
        for (uint32_t r = 0; r < m->rcpt_count; r++)
            assert_string_equal(m->rcpts[r], n->rcpts[r]);
    }
}

static void any_segmentation_gives_the_same_conversation(void **state)
{
    static struct record whole;
    static struct record cut;
    struct rng rng;

    rng_init(&rng, 99);
    for (unsigned round = 0; round < 300; round++) {
        char text[4096] = "EHLO x\r\n";
        bool fix = rng_one_in(&rng, 2);

        for (uint64_t words = rng_between(&rng, 1, 30); words > 0; words--)
            strcat(text, fragments[rng_below(&rng, FRAGMENT_COUNT)]);
        converse(text, strlen(text), 2 * round + 1, false, fix, &whole);
        converse(text, strlen(text), 2 * round + 2, true, fix, &cut);
        expect_same(&whole, &cut);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a12_every_event_before_every_command),
        cmocka_unit_test(a12_every_event_before_a_lost_connection),
        cmocka_unit_test(any_segmentation_gives_the_same_conversation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
