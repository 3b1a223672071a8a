/*
 * Completions in orders that a loop may choose but no world can be made to: the reply to something
 * comes before the end of the send that carried it. The stream and the loop are stubs here, and
 * each test says what happens next.
 */
#include "core/base/must.h"
#include "net/smtpc.h"
#include "net/stream.h"

#include "tests/unit/core_base/unit.h"

#include <errno.h>
#include <string.h>

/* ---- The stubs ----------------------------------------------------------------------------- */

struct io {
    uint64_t now_ns;
    struct wheel wheel;
};

static struct io world;
static struct io_op *connecting;
static struct stream *stream;
static char outgoing[4096]; /* of the send under way */
static struct iovec sending[8];
static uint32_t sending_count;
static bool is_sending;
static bool is_paused;
static bool is_closing;

uint64_t io_now_ns(const struct io *io)
{
    return io->now_ns;
}

uint64_t io_wall_us(const struct io *io)
{
    return io->now_ns / 1000;
}

void io_timer_init(struct io_timer *timer, void (*on_fire)(struct io_timer *timer))
{
    wheel_timer_init(&timer->node);
    timer->on_fire = on_fire;
}

void io_timer_arm(struct io *io, struct io_timer *timer, uint64_t at_ns)
{
    wheel_arm(&io->wheel, &timer->node, at_ns);
}

void io_timer_stop(struct io *io, struct io_timer *timer)
{
    wheel_stop(&io->wheel, &timer->node);
}

void io_op_init(struct io_op *op, void (*done)(struct io_op *op, int32_t result))
{
    op->done = done;
}

int io_tcp_info(struct io *io, int fd, struct io_tcp_info *ret_info)
{
    return -EOPNOTSUPP;
}

int stream_tcp_info(const struct stream *the_stream, struct io_tcp_info *ret_info)
{
    return -EOPNOTSUPP;
}

void io_cancel(struct io *io, struct io_op *op)
{
}

int io_socket_open(struct io *io, const struct ipaddr *source, int *ret_fd)
{
    *ret_fd = 3;
    return 0;
}

void io_connect(struct io *io, struct io_op *op, int fd, const struct ipaddr_port *to)
{
    connecting = op;
}

void io_close_now(struct io *io, int fd)
{
}

void stream_open(struct stream *opened, struct io *io, int fd, const struct stream_events *events)
{
    *opened = (struct stream){.io = io, .events = events, .fd = fd};
    stream = opened;
}

int stream_set_transform(struct stream *changed, const struct stream_transform *transform,
                         void *state)
{
    must(!is_sending);
    changed->transform = transform;
    return 0;
}

void stream_send(struct stream *sender, struct iovec *iov, uint32_t iov_count)
{
    size_t used = 0;

    must(!is_sending && !is_closing);
    is_sending = true;
    sender->sent_result = -ECANCELED;
    for (uint32_t i = 0; i < iov_count; i++) {
        memcpy(outgoing + used, iov[i].iov_base, iov[i].iov_len);
        used += iov[i].iov_len;
        sending[i] = iov[i];
    }
    sending_count = iov_count;
    outgoing[used] = '\0';
}

bool stream_is_sending(const struct stream *sender)
{
    return is_sending;
}

void stream_pause(struct stream *paused)
{
    is_paused = true;
}

void stream_resume(struct stream *resumed)
{
    is_paused = false;
}

void stream_close(struct stream *closed)
{
    is_closing = true;
}

/* ---- What happens -------------------------------------------------------------------------- */

static void say(const char *text)
{
    assert_false(is_paused);
    assert_int_equal(stream->events->on_data(stream, (const uint8_t *)text, strlen(text)),
                     strlen(text));
}

static void sent(int32_t result)
{
    size_t used = 0;

    assert_true(is_sending);
    /* A kernel may read it as late as now. */
    for (uint32_t i = 0; i < sending_count; i++) {
        assert_memory_equal(outgoing + used, sending[i].iov_base, sending[i].iov_len);
        used += sending[i].iov_len;
    }
    is_sending = false;
    stream->sent_result = result;
    if (!is_closing)
        stream->events->on_sent(stream, result);
}

static void pass(uint64_t seconds)
{
    struct list due;
    struct list *link;

    list_init(&due);
    world.now_ns += seconds * 1000000000;
    wheel_advance(&world.wheel, world.now_ns, &due);
    while ((link = list_pop_front(&due)) != NULL) {
        struct io_timer *timer = container_of(link, struct io_timer, node.link);

        timer->on_fire(timer);
    }
}

static struct smtpc_engine *engine;
static struct smtpc *client;
static struct verdict told;
static unsigned told_count;
static unsigned done_count;
static unsigned closed_count;
static unsigned returned_count;
static bool sends_ahead;

static void on_ready(struct smtpc *conn, void *context)
{
}

static void on_rcpt(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    told = *verdict;
    told_count++;
}

static void on_transaction_done(struct smtpc *conn, void *context, bool may_continue)
{
    /* The contract: the message's memory is the owner's again. */
    assert_false(is_sending && strstr(outgoing, "hello") != NULL);
    done_count++;
}

static void on_closed(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    closed_count++;
}

static void on_returned(struct smtpc *conn, void *context, const struct verdict *verdict)
{
    returned_count++;
}

static struct smtpc_transaction one(void)
{
    static struct slice rcpt;
    static char body[] = "hello\r\n";
    static const struct iovec content = {body, sizeof(body) - 1};
    struct smtpc_transaction transaction = {
        .sender = slice_str("s@x"),
        .rcpts = &rcpt,
        .rcpt_count = 1,
        .content = &content,
        .content_count = 1,
        .content_bytes = 7,
    };

    rcpt = slice_str("r@x");
    return transaction;
}

static void send_one(void)
{
    struct smtpc_transaction transaction = one();

    smtpc_send(client, &transaction);
}

static void on_ending(struct smtpc *conn, void *context)
{
    struct smtpc_transaction transaction = one();

    if (sends_ahead)
        assert_true(smtpc_send_ahead(conn, &transaction));
}

static int start(void **state)
{
    static const struct smtpc_events events = {on_ready,  on_rcpt,     on_transaction_done,
                                               on_closed, on_returned, on_ending};
    struct smtpc_options options = {.helo = "me"};

    is_sending = is_paused = is_closing = false;
    told_count = done_count = closed_count = returned_count = 0;
    sends_ahead = false;
    world.now_ns = 1000000000;
    wheel_init(&world.wheel, world.now_ns);
    engine = smtpc_engine_create(&world, 1);
    assert_int_equal(smtpc_open(engine, &options, &events, NULL, &client), 0);
    connecting->done(connecting, 0);
    say("220 hi\r\n");
    sent(9);
    say("250-x\r\n250 PIPELINING\r\n");
    assert_true(smtpc_is_idle(client));
    return 0;
}

static int stop(void **state)
{
    if (!is_closing)
        smtpc_abort(client);
    if (is_sending)
        sent(-ECANCELED);
    stream->events->on_closed(stream);
    assert_int_equal(closed_count, 1);
    smtpc_engine_destroy(engine);
    return 0;
}

/* ---- The tests ----------------------------------------------------------------------------- */

static void the_dots_reply_waits_for_the_end_of_the_send(void **state)
{
    send_one();
    sent(30);
    say("250 a\r\n250 b\r\n354 c\r\n");
    assert_string_equal(outgoing, "hello\r\n.\r\n");
    say("250 taken\r\n");
    assert_int_equal(told_count, 0);
    assert_true(is_paused);
    sent(10);
    assert_int_equal(told_count, 1);
    assert_int_equal(told.class, VERDICT_SUCCESS);
    assert_int_equal(done_count, 1);
    assert_false(is_paused);
    assert_true(smtpc_is_idle(client));
}

static void a_refusal_stands_though_the_send_failed(void **state)
{
    send_one();
    sent(30);
    say("250 a\r\n250 b\r\n354 c\r\n");
    say("554 no\r\n");
    sent(-EPIPE);
    assert_true(is_closing);
    stream->events->on_closed(stream);
    assert_int_equal(told.class, VERDICT_PERMANENT);
    assert_int_equal(told.flags, VERDICT_FROM_REPLY);
    assert_int_equal(closed_count, 1);
    smtpc_engine_destroy(engine);
}

static void a_yes_does_not_stand_when_the_send_failed(void **state)
{
    send_one();
    sent(30);
    say("250 a\r\n250 b\r\n354 c\r\n");
    say("250 taken\r\n");
    sent(-EPIPE);
    stream->events->on_closed(stream);
    assert_int_equal(told.class, VERDICT_TRANSIENT);
    assert_int_equal(told.flags, VERDICT_PROTOCOL);
    smtpc_engine_destroy(engine);
}

/* The end of the connection is seen first, the end of the send that carried the dot later. */
static void what_is_in_doubt_is_known_only_in_the_end(void **state)
{
    static const int32_t results[] = {10, -ECANCELED};

    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(start(state), 0);
        send_one();
        sent(30);
        say("250 a\r\n250 b\r\n354 c\r\n");
        stream->events->on_end(stream, -ECONNRESET);
        assert_true(is_closing);
        sent(results[i]);
        stream->events->on_closed(stream);
        assert_int_equal(told_count, 1);
        assert_int_equal(told.class, VERDICT_TRANSIENT);
        assert_int_equal(told.flags, results[i] > 0 ? VERDICT_IN_DOUBT : 0);
        assert_int_equal(told.stage, results[i] > 0 ? VERDICT_AT_DOT : VERDICT_AT_BODY);
        smtpc_engine_destroy(engine);
    }
}

static void the_last_words_are_heard_after_a_failed_send(void **state)
{
    send_one();
    sent(-EPIPE);
    assert_false(is_closing);
    say("421 4.7.0 go away\r\n");
    assert_true(is_closing);
    stream->events->on_closed(stream);
    assert_int_equal(told.code, 421);
    assert_int_equal(told.flags, VERDICT_FROM_REPLY);
    smtpc_engine_destroy(engine);
}

static void without_last_words_a_failed_send_is_a_loss(void **state)
{
    send_one();
    sent(-EPIPE);
    pass(3);
    assert_true(is_closing);
    stream->events->on_closed(stream);
    assert_int_equal(told.class, VERDICT_TRANSIENT);
    assert_int_equal(told.flags, 0);
    smtpc_engine_destroy(engine);
}

/* The flight's buffer is still being read when its replies are here. */
static void replies_overtake_the_end_of_the_flight(void **state)
{
    send_one();
    say("250 a\r\n250 b\r\n354 c\r\n");
    assert_memory_equal(outgoing, "MAIL", 4);
    sent(30);
    assert_string_equal(outgoing, "hello\r\n.\r\n");
    sent(10);
    say("250 taken\r\n");
    assert_int_equal(told.class, VERDICT_SUCCESS);
}

static void the_next_flight_waits_for_the_end_of_the_last(void **state)
{
    send_one();
    say("550 a\r\n503 b\r\n503 c\r\n");
    assert_int_equal(done_count, 1);
    assert_true(smtpc_is_idle(client));
    send_one();
    assert_int_equal(told_count, 1);
    sent(30);
    assert_true(is_sending);
    sent(30);
    say("250 a\r\n250 b\r\n354 c\r\n");
    sent(10);
    say("250 taken\r\n");
    assert_int_equal(told_count, 2);
    assert_int_equal(told.class, VERDICT_SUCCESS);
    assert_int_equal(smtpc_transaction_count(client), 2);
}

static void quit_waits_for_the_end_of_the_last_flight(void **state)
{
    send_one();
    say("550 a\r\n503 b\r\n503 c\r\n");
    smtpc_quit(client);
    sent(30);
    assert_string_equal(outgoing, "QUIT\r\n");
}

#define ENVELOPE "MAIL FROM:<s@x>\r\nRCPT TO:<r@x>\r\nDATA\r\n"

static void send_two(void)
{
    sends_ahead = true;
    send_one();
    sent(30);
    say("250 a\r\n250 b\r\n354 c\r\n");
    assert_string_equal(outgoing, "hello\r\n.\r\n" ENVELOPE);
}

/* The replies to what went along must not be read before the message's memory is free. */
static void all_replies_wait_for_the_end_of_the_send(void **state)
{
    static const char text[] = "250 taken\r\n250 a\r\n250 b\r\n354 c\r\n";
    size_t used;

    send_two();
    used = stream->events->on_data(stream, (const uint8_t *)text, sizeof(text) - 1);
    assert_int_equal(used, 11);
    assert_true(is_paused);
    assert_int_equal(told_count, 0);
    sends_ahead = false;
    sent(60);
    assert_false(is_paused);
    assert_int_equal(told_count, 1);
    assert_int_equal(done_count, 1);
    say(text + used);
    assert_string_equal(outgoing, "hello\r\n.\r\n");
    sent(10);
    say("250 taken\r\n");
    assert_int_equal(told_count, 2);
    assert_int_equal(done_count, 2);
    assert_true(smtpc_is_idle(client));
}

/* Whether the dot was in the part that left, nobody knows. */
static void a_failed_send_with_commands_behind_the_dot_leaves_doubt(void **state)
{
    send_two();
    say("250 taken\r\n");
    sent(-EPIPE);
    stream->events->on_closed(stream);
    assert_int_equal(told_count, 1);
    assert_int_equal(told.class, VERDICT_TRANSIENT);
    assert_int_equal(told.flags, VERDICT_IN_DOUBT);
    assert_int_equal(returned_count, 1);
    assert_int_equal(closed_count, 1);
    smtpc_engine_destroy(engine);
}

static void a_refusal_stands_though_what_went_along_failed(void **state)
{
    send_two();
    sent(-EPIPE);
    say("554 no\r\n");
    stream->events->on_closed(stream);
    assert_int_equal(told_count, 1);
    assert_int_equal(told.class, VERDICT_PERMANENT);
    assert_int_equal(told.flags, VERDICT_FROM_REPLY);
    assert_int_equal(returned_count, 1);
    smtpc_engine_destroy(engine);
}

/* ---- STARTTLS -------------------------------------------------------------------------------- */

static int open_count;

/* As far as this file goes: that it is asked for at the right moment. */
static int open_tls(struct smtpc *conn, void *context, const struct tls_events *events,
                    struct tls **ret_tls)
{
    assert_false(is_sending);
    open_count++;
    return -ENOMEM;
}

static void start_tls(void)
{
    static const struct smtpc_events events = {
        .on_ready = on_ready, .on_closed = on_closed, .open_tls = open_tls};
    struct smtpc_options options = {.helo = "me", .tls = SMTPC_TLS_MAY};

    is_sending = is_paused = is_closing = false;
    closed_count = 0;
    open_count = 0;
    world.now_ns = 1000000000;
    wheel_init(&world.wheel, world.now_ns);
    engine = smtpc_engine_create(&world, 1);
    assert_int_equal(smtpc_open(engine, &options, &events, NULL, &client), 0);
    connecting->done(connecting, 0);
    say("220 hi\r\n");
    sent(9);
    say("250-x\r\n250 STARTTLS\r\n");
    assert_string_equal(outgoing, "STARTTLS\r\n");
}

static void the_handshake_waits_for_the_end_of_the_send(void **state)
{
    start_tls();
    say("220 go\r\n");
    assert_int_equal(open_count, 0);
    sent(10);
    assert_int_equal(open_count, 1);
    assert_true(is_closing);
    stream->events->on_closed(stream);
    assert_int_equal(closed_count, 1);
    smtpc_engine_destroy(engine);
}

static void what_comes_before_the_handshake_ends_it(void **state)
{
    start_tls();
    say("220 go\r\n");
    say("250 AUTH PLAIN\r\n");
    assert_true(is_closing);
    sent(10);
    assert_int_equal(open_count, 0);
    stream->events->on_closed(stream);
    assert_int_equal(closed_count, 1);
    smtpc_engine_destroy(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_dots_reply_waits_for_the_end_of_the_send, start, stop),
        cmocka_unit_test_setup(a_refusal_stands_though_the_send_failed, start),
        cmocka_unit_test_setup(a_yes_does_not_stand_when_the_send_failed, start),
        cmocka_unit_test(what_is_in_doubt_is_known_only_in_the_end),
        cmocka_unit_test_setup(the_last_words_are_heard_after_a_failed_send, start),
        cmocka_unit_test_setup(without_last_words_a_failed_send_is_a_loss, start),
        cmocka_unit_test_setup_teardown(replies_overtake_the_end_of_the_flight, start, stop),
        cmocka_unit_test_setup_teardown(the_next_flight_waits_for_the_end_of_the_last, start, stop),
        cmocka_unit_test_setup_teardown(quit_waits_for_the_end_of_the_last_flight, start, stop),
        cmocka_unit_test_setup_teardown(all_replies_wait_for_the_end_of_the_send, start, stop),
        cmocka_unit_test_setup(a_failed_send_with_commands_behind_the_dot_leaves_doubt, start),
        cmocka_unit_test_setup(a_refusal_stands_though_what_went_along_failed, start),
        cmocka_unit_test(the_handshake_waits_for_the_end_of_the_send),
        cmocka_unit_test(what_comes_before_the_handshake_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
