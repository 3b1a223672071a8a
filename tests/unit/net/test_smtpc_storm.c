/*
 * The SMTP client in bad weather: many connections, a network with faults, receivers that answer
 * right most of the time and anything at all the rest of it. What must hold for every recipient:
 *
 * - told exactly once, in the order of the contract;
 * - success only if the receiver had the whole message and said 2xx to it;
 * - if the receiver had the whole message and we heard neither yes nor no: in doubt;
 * - what comes back was never read to its end by the receiver.
 */
#include "core/base/mem.h"
#include "net/smtpc.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_peer.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 6
#define MESSAGES    60
#define RCPT_MAX    5
#define HOUR_NS     3600000000000ull
#define SEEDS       150

struct message {
    char content[64];
    struct iovec iov;
    struct slice rcpts[RCPT_MAX];
    struct smtpc_transaction transaction;
    uint8_t told[RCPT_MAX];
    bool was_sent;
    bool was_done;
    bool is_back;  /* to be sent again */
    bool arrived;  /* the receiver has read the dot */
    bool said_yes; /* … and has answered 2xx */
};

struct storm {
    struct sim_world *world;
    struct rng *rng;
    struct sim_process *process;
    struct io *io;
    struct io_timer timer; /* opens connections again */
    struct smtpc_engine *engine;
    struct smtpc_options options;
    struct message messages[MESSAGES];
    unsigned next_message;
    unsigned done_count;
    uint32_t oddness; /* once in so many replies; 0 = never */
    bool has_lies;
    unsigned successes;
    unsigned doubts;
    unsigned sent_ahead;
    unsigned returned;
};

/* ---- The receiver -------------------------------------------------------------------------- */

/* Per connection. */
struct session {
    struct storm *storm;
    bool reads_body;
    bool is_mute; /* one that swallows an answer and then goes on is beyond us */
    unsigned accepted;
    int message; /* number in the body, -1 = none seen */
};

static const char *const odd_replies[] = {
    "250",
    "250-",
    "garbage\r\n",
    "25\r\n",
    "550 5.1.1 no\r\n",
    "450 4.2.1 later\r\n",
    "421 4.3.2 down\r\n",
    "221 bye\r\n",
    "220 again\r\n",
    "452 4.5.3 enough\r\n",
    "250-a\r\n251 b\r\n",
    "599 what\r\n",
    "\r\n",
    "", /* silence */
    /* Lies, by which a receiver may seem to have taken what it has not. */
    "250 ok\r\n250 ok\r\n",
    "354 go\r\n",
};

#define ODD_COUNT (sizeof(odd_replies) / sizeof(odd_replies[0]))
#define LIE_COUNT 2

/* Says what is right, or something else. True when it was right. */
static bool say(struct sim_peer_conn *conn, const char *right)
{
    struct session *session = sim_peer_data(conn);
    struct storm *storm = session->storm;
    uint64_t choice;

    if (session->is_mute)
        return false;
    if (storm->oddness == 0 || !rng_one_in(storm->rng, storm->oddness)) {
        sim_peer_printf(conn, "%s", right);
        return true;
    }
    choice = rng_below(storm->rng, ODD_COUNT - (storm->has_lies ? 0 : LIE_COUNT) + 2);
    if (choice == 0)
        sim_peer_close(conn);
    else if (choice == 1)
        sim_peer_drop(conn);
    else if (odd_replies[choice - 2][0] != '\0')
        sim_peer_printf(conn, "%s", odd_replies[choice - 2]);
    else
        session->is_mute = true;
    return false;
}

static void end_message(struct sim_peer_conn *conn, struct session *session)
{
    struct storm *storm = session->storm;
    struct message *message = session->message >= 0 ? &storm->messages[session->message] : NULL;
    bool is_refused;
    bool said_right;

    session->reads_body = false;
    if (message != NULL)
        message->arrived = true;
    is_refused = rng_one_in(storm->rng, 10);
    said_right = say(conn, is_refused ? "554 5.7.1 spam\r\n" : "250 2.0.0 taken\r\n");
    /* Some of the odd replies begin with a 2xx of their own. */
    if (message != NULL && (is_refused ? !said_right : said_right || storm->oddness != 0))
        message->said_yes = true;
}

static void on_peer_line(struct sim_peer_conn *conn, struct slice line)
{
    struct session *session = sim_peer_data(conn);

    if (session->reads_body) {
        if (slice_equal(line, SLICE_LITERAL(".")))
            end_message(conn, session);
        else if (slice_starts_nocase(line, SLICE_LITERAL("X-Number: ")))
            session->message = atoi((const char *)line.data + 10);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        say(conn,
            rng_one_in(session->storm->rng, 3) ? "250 plain\r\n" : "250-mx\r\n250 PIPELINING\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        bool is_refused = rng_one_in(session->storm->rng, 4);

        session->accepted += say(conn, is_refused ? "550 5.1.1 no\r\n" : "250 ok\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("DATA"))) {
        session->message = -1;
        session->reads_body = say(conn, "354 go\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 bye\r\n");
        sim_peer_close(conn);
    } else {
        say(conn, "250 ok\r\n");
    }
}

static void on_peer_open(struct sim_peer_conn *conn)
{
    struct session *session = mem_alloc(sizeof(*session)); /* goes with the peer's life */

    session->storm = sim_peer_context(sim_peer_of(conn));
    sim_peer_set_data(conn, session);
    say(conn, "220 mx\r\n");
}

/* ---- The client ---------------------------------------------------------------------------- */

/* What came back goes first. NULL when nothing is left. */
static struct message *next_message(struct storm *storm)
{
    for (unsigned i = 0; i < storm->next_message; i++) {
        if (storm->messages[i].is_back) {
            storm->messages[i].is_back = false;
            return &storm->messages[i];
        }
    }
    return storm->next_message < MESSAGES ? &storm->messages[storm->next_message++] : NULL;
}

/* What this connection is sending, and what goes along with its end. */
struct client {
    struct storm *storm;
    struct smtpc *conn;
    struct message *current;
    struct message *ahead;
};

static struct client clients[CONNECTIONS];

static void start_message(struct client *client)
{
    struct storm *storm = client->storm;
    struct message *message = rng_one_in(storm->rng, 20) ? NULL : next_message(storm);

    client->current = message;
    if (message == NULL) {
        smtpc_quit(client->conn);
        return;
    }
    message->was_sent = true;
    message->transaction.wants_smtputf8 = rng_one_in(storm->rng, 30); /* refused by ourselves */
    smtpc_send(client->conn, &message->transaction);
    if (rng_one_in(storm->rng, 40))
        smtpc_abort(client->conn);
}

static void on_ending(struct smtpc *conn, void *context)
{
    struct client *client = context;
    struct message *message =
        rng_one_in(client->storm->rng, 4) ? NULL : next_message(client->storm);

    assert_null(client->ahead);
    if (message == NULL)
        return;
    message->was_sent = true;
    if (!smtpc_send_ahead(conn, &message->transaction)) {
        message->is_back = true;
        return;
    }
    client->ahead = message;
    client->storm->sent_ahead++;
}

static void on_returned(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct client *client = context;
    struct message **newest = client->ahead != NULL ? &client->ahead : &client->current;

    assert_false((*newest)->arrived && !client->storm->has_lies);
    for (unsigned i = 0; i < RCPT_MAX; i++)
        assert_int_equal((*newest)->told[i], 0);
    (*newest)->is_back = true;
    *newest = NULL;
    client->storm->returned++;
}

static void on_ready(struct smtpc *conn, void *context)
{
    struct client *client = context;

    assert_null(client->current);
    start_message(client);
}

static void on_rcpt(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct client *client = context;
    struct message *message = client->current;
    bool is_answer = (verdict->flags & VERDICT_FROM_REPLY) != 0;

    assert_non_null(message);
    assert_true(index < message->transaction.rcpt_count);
    assert_int_equal(message->told[index], 0);
    message->told[index] = 1;
    if (verdict->class == VERDICT_SUCCESS) {
        assert_true(client->storm->has_lies || (message->arrived && message->said_yes));
        client->storm->successes++;
    } else if (!is_answer && verdict->stage != VERDICT_AT_LOCAL && message->arrived) {
        assert_true((verdict->flags & VERDICT_IN_DOUBT) != 0);
    }
    if ((verdict->flags & VERDICT_IN_DOUBT) != 0) {
        assert_int_equal(verdict->class, VERDICT_TRANSIENT);
        client->storm->doubts++;
    }
    if (rng_one_in(client->storm->rng, 200))
        smtpc_abort(conn);
}

static void on_transaction_done(struct smtpc *conn, void *context, bool may_continue)
{
    struct client *client = context;
    struct message *message = client->current;

    for (uint32_t i = 0; i < message->transaction.rcpt_count; i++)
        assert_int_equal(message->told[i], 1);
    message->was_done = true;
    client->storm->done_count++;
    client->current = client->ahead;
    client->ahead = NULL;
    /* The contract: nothing of the message is touched from now on. */
    memset(message->content, 'Z', sizeof(message->content));
    if (may_continue)
        start_message(client);
}

static void on_closed(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    struct client *client = context;

    assert_null(client->current);
    assert_true(verdict->text_bytes > 0);
    client->conn = NULL;
}

static const struct smtpc_events events = {on_ready,  on_rcpt,     on_transaction_done,
                                           on_closed, on_returned, on_ending};

static void open_all(struct io_timer *timer)
{
    struct storm *storm = container_of(timer, struct storm, timer);

    for (unsigned i = 0; i < CONNECTIONS && storm->done_count < MESSAGES; i++) {
        struct client *client = &clients[i];

        client->storm = storm;
        if (client->conn == NULL &&
            smtpc_open(storm->engine, &storm->options, &events, client, &client->conn) < 0)
            client->conn = NULL;
    }
    io_timer_arm(storm->io, timer, io_now_ns(storm->io) + 100000000);
}

static void fill_message(struct storm *storm, unsigned number)
{
    static char names[RCPT_MAX][8] = {"r0@x", "r1@x", "r2@x", "r3@x", "r4@x"};
    struct message *message = &storm->messages[number];

    message->iov.iov_base = message->content;
    message->iov.iov_len = (size_t)snprintf(message->content, sizeof(message->content),
                                            "X-Number: %u\r\n\r\nRSET\r\n", number);
    for (unsigned i = 0; i < RCPT_MAX; i++)
        message->rcpts[i] = slice_str(names[i]);
    message->transaction = (struct smtpc_transaction){
        .sender = slice_str("s@x"),
        .rcpts = message->rcpts,
        .rcpt_count = (uint32_t)rng_between(storm->rng, 1, RCPT_MAX),
        .content = &message->iov,
        .content_count = 1,
        .content_bytes = message->iov.iov_len,
    };
}

static bool is_over(void *context)
{
    const struct storm *storm = context;

    if (storm->done_count < MESSAGES)
        return false;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        if (clients[i].conn != NULL)
            return false;
    }
    return true;
}

static unsigned ahead_count;
static unsigned returned_count;

static void play(uint64_t seed, const struct sim_options *options, uint32_t oddness, bool has_lies,
                 unsigned *successes, unsigned *doubts)
{
    static const struct sim_peer_handlers handlers = {.on_open = on_peer_open,
                                                      .on_line = on_peer_line};
    static struct storm storm;

    memset(&storm, 0, sizeof(storm));
    memset(clients, 0, sizeof(clients));
    storm.world = sim_world_create(seed, options);
    storm.rng = sim_rng(storm.world);
    storm.oddness = oddness;
    storm.has_lies = has_lies;
    assert_int_equal(ipaddr_parse(slice_str("192.0.2.1"), &storm.options.source), 0);
    assert_int_equal(ipaddr_parse(slice_str("192.0.2.2"), &storm.options.target.ip), 0);
    storm.options.target.port = 25;
    storm.options.helo = "out.example";
    for (unsigned i = 0; i < MESSAGES; i++)
        fill_message(&storm, i);
    sim_peer_listen(storm.world, &storm.options.target, &handlers, &storm);
    storm.process = sim_process_create(storm.world);
    sim_io_create(storm.world, storm.process, &storm.io);
    sim_enter(storm.process);
    storm.engine = smtpc_engine_create(storm.io, CONNECTIONS - 1); /* one finds no room */
    io_timer_init(&storm.timer, open_all);
    io_timer_arm(storm.io, &storm.timer, 0);
    sim_leave(storm.process);
    sim_run_until(storm.world, is_over, &storm, 100 * HOUR_NS, 100000000);
    assert_true(is_over(&storm));
    sim_enter(storm.process);
    io_timer_stop(storm.io, &storm.timer);
    smtpc_engine_destroy(storm.engine);
    sim_leave(storm.process);
    assert_int_equal(sim_fd_count(storm.process), 0);
    *successes += storm.successes;
    *doubts += storm.doubts;
    ahead_count += storm.sent_ahead;
    returned_count += storm.returned;
    sim_world_destroy(storm.world);
}

static void print_and_check(unsigned successes, unsigned doubts)
{
    print_message("%u delivered, %u in doubt, %u sent ahead, %u came back\n", successes, doubts,
                  ahead_count, returned_count);
    assert_true(successes > 1000 && doubts > 10 && ahead_count > 1000 && returned_count > 100);
    ahead_count = 0;
    returned_count = 0;
}

static void bad_network(void **state)
{
    struct sim_options options = {.faults = sim_faults_mild()};
    unsigned successes = 0;
    unsigned doubts = 0;

    options.faults.alloc_failed = 50;
    options.faults.reset_mid_stream = 50;
    options.faults.reset_after_send = 30;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        play(seed, &options, 0, false, &successes, &doubts);
    print_and_check(successes, doubts);
}

static void odd_receivers(void **state)
{
    struct sim_options options = {.faults = {.segment_tiny = 4, .read_short = 4}};
    unsigned successes = 0;
    unsigned doubts = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        play(seed, &options, 8, false, &successes, &doubts);
    print_and_check(successes, doubts);
}

static void both(void **state)
{
    struct sim_options options = {.faults = sim_faults_mild()};
    unsigned successes = 0;
    unsigned doubts = 0;

    options.faults.alloc_failed = 100;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        play(seed, &options, 15, seed % 2 == 0, &successes, &doubts);
    print_and_check(successes, doubts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_network),
        cmocka_unit_test(odd_receivers),
        cmocka_unit_test(both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
