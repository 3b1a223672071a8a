/* Connecting, accepting, sending, cancelling, closing. */
#include "tests/unit/core_io/conformance.h"

#include "core/base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct ipaddr loopback = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}};

/* ---- Connect ------------------------------------------------------------------------------- */

static void connect_is_refused(void **state)
{
    struct ipaddr_port at = {.ip = loopback, .port = backend_free_port(the_world)};
    struct waited connect;
    struct waited end;
    int fd = -1;

    waited_init(&connect);
    waited_init(&end);
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, &at));
    assert_int_equal(waited_wait(&connect), -ECONNREFUSED);
    START(io_close(the_io, &end.op, fd));
    assert_int_equal(waited_wait(&end), 0);
    assert_int_equal(connect.calls, 1);
}

static void connect_is_cancelled(void **state)
{
    struct ipaddr_port at = backend_silent_address(the_world);
    struct waited connect;
    int fd = -1;

    waited_init(&connect);
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_cancel(the_io, &connect.op));
    START(io_connect(the_io, &connect.op, fd, &at));
    run_for_ms(20);
    assert_int_equal(connect.calls, 0);
    START(io_cancel(the_io, &connect.op));
    START(io_cancel(the_io, &connect.op));
    assert_int_equal(waited_wait(&connect), -ECANCELED);
    run_for_ms(2);
    assert_int_equal(connect.calls, 1);
    io_close_now(the_io, fd);
}

/* Behind so many other operations that some loops have not even submitted it. */
static void connect_is_cancelled_before_it_began(void **state)
{
    enum { READS = 50 };
    struct ipaddr_port at = backend_silent_address(the_world);
    struct waited reads[READS];
    struct waited connect;
    uint8_t room[READS];
    int file = -1;
    int fd = -1;

    waited_init(&connect);
    assert_int_equal(io_file_open(the_io, backend_path(the_world, "file"),
                                  IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE, &file),
                     0);
    assert_int_equal(io_file_write_now(the_io, file, "x", 1, 0), 1);
    for (unsigned i = 0; i < READS; i++) {
        waited_init(&reads[i]);
        START(io_read(the_io, &reads[i].op, file, &room[i], 1, 0));
    }
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, &at));
    START(io_cancel(the_io, &connect.op));
    assert_int_equal(waited_wait(&connect), -ECANCELED);
    assert_int_equal(connect.calls, 1);
    for (unsigned i = 0; i < READS; i++)
        assert_int_equal(waited_wait(&reads[i]), 1);
    io_close_now(the_io, fd);
    io_close_now(the_io, file);
}

static void close_ends_a_connect(void **state)
{
    struct ipaddr_port at = backend_silent_address(the_world);
    struct waited connect;
    struct waited end;
    int fd = -1;

    waited_init(&connect);
    waited_init(&end);
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, &at));
    run_for_ms(5);
    START(io_close(the_io, &end.op, fd));
    assert_int_equal(waited_wait(&end), 0);
    assert_int_equal(connect.calls, 1);
    assert_int_equal(connect.result, -ECANCELED);
}

static void addresses_of_both_ends_agree(void **state)
{
    struct ipaddr_port here;
    struct ipaddr_port there;
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    assert_int_equal(io_local_address(the_io, a.fd, &here), 0);
    assert_int_equal(io_peer_address(the_io, b.fd, &there), 0);
    assert_true(ipaddr_equal(&here.ip, &there.ip));
    assert_int_equal(here.port, there.port);
    assert_int_equal(io_peer_address(the_io, a.fd, &here), 0);
    assert_int_equal(io_local_address(the_io, b.fd, &there), 0);
    assert_true(ipaddr_equal(&here.ip, &there.ip));
    assert_int_equal(here.port, there.port);
    stream_close(&a);
    stream_close(&b);
}

/* ---- Accept -------------------------------------------------------------------------------- */

struct acceptor {
    struct io_accept accept;
    int fds[64];
    uint64_t count;
    uint64_t stopped;
};

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct acceptor *acceptor = container_of(accept, struct acceptor, accept);

    assert_not_within_start();
    assert_int_equal(acceptor->stopped, 0);
    if (fd < 0) {
        assert_int_equal(fd, -ECANCELED);
        acceptor->stopped++;
        return;
    }
    assert_true(acceptor->count < 64);
    acceptor->fds[acceptor->count++] = fd;
}

static int connect_to(const struct ipaddr_port *at)
{
    struct waited connect;
    int fd = -1;

    waited_init(&connect);
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, at));
    assert_int_equal(waited_wait(&connect), 0);
    return fd;
}

static void one_accept_takes_many_connections(void **state)
{
    struct acceptor acceptor = {.accept.on_accept = on_accept};
    struct ipaddr_port at;
    struct waited end;
    int listener = listen_somewhere(&at);
    int fds[20];

    waited_init(&end);
    START(io_accept_stop(the_io, &acceptor.accept));
    START(io_accept_start(the_io, &acceptor.accept, listener));
    for (unsigned i = 0; i < 20; i++)
        fds[i] = connect_to(&at);
    run_until_count(&acceptor.count, 20);
    START(io_accept_stop(the_io, &acceptor.accept));
    run_until_count(&acceptor.stopped, 1);
    run_for_ms(2);
    assert_int_equal(acceptor.stopped, 1);

    /* And once more after the stop; this time the close of the listener ends it. */
    acceptor.stopped = 0;
    START(io_accept_start(the_io, &acceptor.accept, listener));
    io_close_now(the_io, connect_to(&at));
    run_until_count(&acceptor.count, 21);
    START(io_close(the_io, &end.op, listener));
    assert_int_equal(waited_wait(&end), 0);
    assert_int_equal(acceptor.stopped, 1);
    for (unsigned i = 0; i < 20; i++)
        io_close_now(the_io, fds[i]);
    for (unsigned i = 0; i < 21; i++)
        io_close_now(the_io, acceptor.fds[i]);
}

/* The calls of the suite from here on are made on this loop. */
static void go_to_loop(unsigned number)
{
    the_io = backend_loop(the_world, number);
}

/* Accepted on one loop, used and closed on the other; then the number comes back. */
static void a_connection_moves_to_another_loop(void **state)
{
    static const char text[] = "220 here\r\n";

    for (unsigned round = 0; round < 3; round++) {
        struct ipaddr_port here;
        struct ipaddr_port there;
        struct stream a;
        struct stream b;

        stream_pair(&a, &b);
        stream_receive(&a);
        assert_int_equal(io_peer_address(the_io, b.fd, &here), 0);
        go_to_loop(1);
        assert_int_equal(io_peer_address(the_io, b.fd, &there), 0);
        assert_true(ipaddr_equal(&here.ip, &there.ip) && here.port == there.port);
        stream_receive(&b);
        stream_send(&b, text, sizeof(text));
        run_until_used(&a, sizeof(text));
        go_to_loop(0);
        stream_send(&a, text, sizeof(text));
        run_until_used(&b, sizeof(text));
        assert_memory_equal(b.data, text, sizeof(text));
        go_to_loop(1);
        stream_close(&b);
        assert_int_equal(b.end_reason, -ECANCELED);
        go_to_loop(0);
        run_until_count(&a.ends, 1);
        assert_int_equal(a.end_reason, 0);
        stream_close(&a);
    }
}

/* ---- Echo ---------------------------------------------------------------------------------- */

static void send_back(struct stream *stream)
{
    static uint8_t room[65536];
    size_t len = stream->data_len;

    /* The last answer is on its way: what came meanwhile follows when it is done. */
    if (io_op_in_flight(&stream->send.op))
        return;
    assert_true(len <= sizeof(room));
    memcpy(room, stream->data, len);
    stream->data_len = 0;
    stream_start_send(stream, room, len);
}

static void ping_pong(struct stream *a, struct stream *b, unsigned rounds)
{
    char text[32] = "250 2.0.0 take one of these\r\n";

    for (unsigned i = 0; i < rounds; i++) {
        uint64_t goal = a->used_total + sizeof(text);

        a->data_len = 0;
        text[0] = (char)('0' + i % 10);
        stream_send(a, text, sizeof(text));
        run_until_used(a, goal);
        assert_memory_equal(a->data, text, sizeof(text));
    }
    assert_int_equal(b->ends, 0);
}

static void echo_answers(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.after_data = send_back;
    stream_receive(&a);
    stream_receive(&b);
    ping_pong(&a, &b, 50);
    stream_close(&a);
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, 0);
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end_reason, -ECANCELED);
    stream_close(&b);
}

static void steady_turns_allocate_nothing(void **state)
{
    struct stream a;
    struct stream b;
    uint64_t allocations;

    stream_pair(&a, &b);
    b.after_data = send_back;
    stream_receive(&a);
    stream_receive(&b);
    ping_pong(&a, &b, 20);
    allocations = mem_alloc_count();
    ping_pong(&a, &b, 200);
    assert_int_equal(mem_alloc_count(), allocations);
    stream_close(&a);
    stream_close(&b);
}

/* ---- Send ---------------------------------------------------------------------------------- */

static void send_of_nothing_is_done(void **state)
{
    struct iovec pieces[2] = {{(void *)"", 0}, {(void *)"", 0}};
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    START(io_send(the_io, &a.send.op, a.fd, pieces, 2));
    assert_int_equal(waited_wait(&a.send), 0);
    START(io_send(the_io, &a.send.op, a.fd, pieces, 0));
    assert_int_equal(waited_wait(&a.send), 0);
    stream_close(&a);
    stream_close(&b);
}

static void send_gathers_many_pieces(void **state)
{
    enum { PIECES = 3000 };
    static uint8_t text[PIECES * 7];
    static struct iovec pieces[PIECES];
    struct stream a;
    struct stream b;
    size_t at = 0;

    pattern_fill(text, 0, sizeof(text));
    for (unsigned i = 0; i < PIECES; i++) {
        pieces[i].iov_base = text + at;
        pieces[i].iov_len = i % 14; /* empty ones too, the first among them */
        at += i % 14;
    }
    stream_pair(&a, &b);
    stream_receive(&b);
    START(io_send(the_io, &a.send.op, a.fd, pieces, PIECES));
    assert_int_equal(waited_wait(&a.send), at);
    run_until_used(&b, at);
    assert_memory_equal(b.data, text, at);
    stream_close(&a);
    stream_close(&b);
}

struct slow_reader {
    struct io_timer timer;
    struct stream *stream;
};

static void on_read_on(struct io_timer *timer)
{
    struct slow_reader *reader = container_of(timer, struct slow_reader, timer);

    if (io_recv_is_active(&reader->stream->recv))
        START(io_recv_resume(the_io, &reader->stream->recv));
}

/* Every 64 KB the reader takes a rest. */
static void read_slowly(struct stream *stream)
{
    struct slow_reader *reader = stream->context;

    if (stream->data_calls % 16 != 0)
        return;
    START(io_recv_pause(the_io, &stream->recv));
    START(io_timer_arm(the_io, &reader->timer, io_now_ns(the_io) + 1000000));
}

static void big_send_through_a_slow_reader(void **state)
{
    enum { BYTES = 10 * 1024 * 1024, CUT = 777777 };
    uint8_t *text = malloc(BYTES);
    struct slow_reader reader;
    struct iovec pieces[2];
    struct stream a;
    struct stream b;

    assert_non_null(text);
    pattern_fill(text, 0, BYTES);
    pieces[0] = (struct iovec){text, CUT};
    pieces[1] = (struct iovec){text + CUT, BYTES - CUT};
    stream_pair(&a, &b);
    io_timer_init(&reader.timer, on_read_on);
    reader.stream = &b;
    b.context = &reader;
    b.after_data = read_slowly;
    stream_receive(&b);
    START(io_send(the_io, &a.send.op, a.fd, pieces, 2));
    run_until_used(&b, BYTES);
    assert_int_equal(waited_wait(&a.send), BYTES);
    assert_memory_equal(b.data, text, BYTES);
    stream_close(&a);
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, 0);
    io_timer_stop(the_io, &reader.timer);
    stream_close(&b);
    free(text);
}

static void send_to_a_vanished_peer_fails(void **state)
{
    static const char text[4096];
    struct stream a;
    struct stream b;
    int32_t result = 1;

    stream_pair(&a, &b);
    stream_send(&a, text, sizeof(text));
    run_for_ms(200);
    /* Closed with unread data: the peer is told by a reset. */
    stream_close(&b);
    for (unsigned i = 0; i < 100 && result > 0; i++) {
        stream_start_send(&a, text, sizeof(text));
        result = waited_wait(&a.send);
        run_for_ms(10);
    }
    assert_true(result == -EPIPE || result == -ECONNRESET);
    stream_close(&a);
}

static void reset_ends_the_receive(void **state)
{
    static const char text[4096];
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&a);
    stream_send(&a, text, sizeof(text));
    run_for_ms(200);
    stream_close(&b);
    run_until_count(&a.ends, 1);
    assert_int_equal(a.end_reason, -ECONNRESET);
    stream_close(&a);
}

/* ---- The kernel's counters ------------------------------------------------------------------- */

static void octets_of_a_connection_are_counted(void **state)
{
    static const char text[4096];
    struct io_tcp_info info;
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    assert_int_equal(io_tcp_info(the_io, a.fd, &info), 0);
    assert_int_equal(info.bytes_sent, 0);
    assert_int_equal(info.bytes_received, 0);
    assert_true(info.srtt_us > 0 && !info.is_dead);
    stream_receive(&a);
    stream_receive(&b);
    stream_send(&a, text, sizeof(text));
    run_until_used(&b, sizeof(text));
    stream_send(&b, text, 100);
    run_until_used(&a, 100);
    assert_int_equal(io_tcp_info(the_io, a.fd, &info), 0);
    assert_int_equal(info.bytes_sent, sizeof(text));
    assert_int_equal(info.bytes_received, 100);
    assert_int_equal(io_tcp_info(the_io, b.fd, &info), 0);
    assert_int_equal(info.bytes_sent, 100);
    assert_int_equal(info.bytes_received, sizeof(text));
    stream_close(&b);
    run_until_count(&a.ends, 1);
    assert_int_equal(io_tcp_info(the_io, a.fd, &info), 0);
    assert_false(info.is_dead);
    stream_close(&a);
}

static void a_connection_that_was_reset_is_dead(void **state)
{
    static const char text[4096];
    struct io_tcp_info info;
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&a);
    stream_send(&a, text, sizeof(text));
    run_for_ms(200);
    stream_close(&b); /* with octets that nobody read */
    run_until_count(&a.ends, 1);
    assert_int_equal(io_tcp_info(the_io, a.fd, &info), 0);
    assert_true(info.is_dead);
    assert_int_equal(info.bytes_sent, sizeof(text));
    stream_close(&a);
}

static void an_attempt_has_no_octets(void **state)
{
    struct ipaddr_port at = backend_silent_address(the_world);
    struct io_tcp_info info;
    struct waited connect;
    int fd = -1;

    waited_init(&connect);
    assert_int_equal(io_socket_open(the_io, &loopback, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, &at));
    run_for_ms(20);
    assert_int_equal(io_tcp_info(the_io, fd, &info), 0);
    assert_int_equal(info.bytes_sent, 0);
    assert_int_equal(info.srtt_us, 0);
    START(io_cancel(the_io, &connect.op));
    assert_int_equal(waited_wait(&connect), -ECANCELED);
    assert_int_equal(io_tcp_info(the_io, fd, &info), 0);
    io_close_now(the_io, fd);
}

/* ---- Cancel and close ---------------------------------------------------------------------- */

/* A send that cannot end: nobody reads at the other end. */
static uint8_t *start_stuck_send(struct stream *stream)
{
    enum { BYTES = 64 * 1024 * 1024 };
    uint8_t *text = calloc(1, BYTES);

    assert_non_null(text);
    stream_start_send(stream, text, BYTES);
    run_for_ms(20);
    assert_true(io_op_in_flight(&stream->send.op));
    return text;
}

static void send_is_cancelled(void **state)
{
    struct stream a;
    struct stream b;
    uint8_t *text;

    stream_pair(&a, &b);
    text = start_stuck_send(&a);
    START(io_cancel(the_io, &a.send.op));
    assert_int_equal(waited_wait(&a.send), -ECANCELED);
    assert_int_equal(a.send.calls, 1);
    stream_close(&a);
    stream_close(&b);
    free(text);
}

struct close_order {
    struct waited *send;
    struct stream *stream;
    struct io_op op;
    uint64_t closed;
};

static void on_closed_last(struct io_op *op, int32_t result)
{
    struct close_order *order = container_of(op, struct close_order, op);

    assert_not_within_start();
    assert_int_equal(result, 0);
    assert_int_equal(order->send->calls, 1);
    assert_int_equal(order->stream->ends, 1);
    order->closed++;
}

static void close_ends_everything_first(void **state)
{
    static const char text[30000];
    struct close_order order;
    struct stream a;
    struct stream b;
    uint8_t *stuck;

    stream_pair(&a, &b);
    a.use_at_most = 10;
    stream_receive(&a);
    stream_send(&b, text, sizeof(text));
    run_until_used(&a, 10); /* the rest is held, the receive paused */
    stuck = start_stuck_send(&a);
    order = (struct close_order){.send = &a.send, .stream = &a};
    io_op_init(&order.op, on_closed_last);
    START(io_close(the_io, &order.op, a.fd));
    run_until_count(&order.closed, 1);
    assert_int_equal(a.send.result, -ECANCELED);
    assert_int_equal(a.end_reason, -ECANCELED);
    assert_int_equal(a.used_total, 10);
    run_for_ms(2);
    assert_int_equal(a.send.calls + a.ends + order.closed, 3);
    stream_free(&a);
    stream_close(&b);
    free(stuck);
}

static void close_right_after_start(void **state)
{
    static const char text[100];
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&a);
    stream_start_send(&a, text, sizeof(text));
    START(io_close(the_io, &a.close.op, a.fd));
    assert_int_equal(waited_wait(&a.close), 0);
    assert_int_equal(a.send.calls, 1);
    assert_true(a.send.result == -ECANCELED || a.send.result == sizeof(text));
    assert_int_equal(a.ends, 1);
    assert_int_equal(a.end_reason, -ECANCELED);
    stream_free(&a);
    stream_close(&b);
}

static void close_itself_from_data(struct stream *stream)
{
    if (!io_op_in_flight(&stream->close.op))
        START(io_close(the_io, &stream->close.op, stream->fd));
}

static void close_inside_on_data(void **state)
{
    static const char text[30000];
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 1;
    b.after_data = close_itself_from_data;
    stream_receive(&b);
    stream_send(&a, text, sizeof(text));
    run_until_count(&b.close.calls, 1);
    assert_int_equal(b.data_calls, 1);
    assert_int_equal(b.ends, 1);
    assert_int_equal(b.end_reason, -ECANCELED);
    stream_free(&b);
    stream_close(&a);
}

static void descriptors_are_used_again_cleanly(void **state)
{
    for (unsigned round = 0; round < 30; round++) {
        struct stream a[4];
        struct stream b[4];

        for (unsigned i = 0; i < 4; i++) {
            stream_pair(&a[i], &b[i]);
            b[i].after_data = send_back;
            stream_receive(&a[i]);
            stream_receive(&b[i]);
            ping_pong(&a[i], &b[i], 1);
        }
        for (unsigned i = 0; i < 4; i++) {
            START(io_close(the_io, &a[i].close.op, a[i].fd));
            START(io_close(the_io, &b[i].close.op, b[i].fd));
        }
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(waited_wait(&a[i].close), 0);
            assert_int_equal(waited_wait(&b[i].close), 0);
            assert_int_equal(a[i].ends, 1);
            assert_int_equal(b[i].ends, 1);
            stream_free(&a[i]);
            stream_free(&b[i]);
        }
    }
}

const struct CMUnitTest net_tests[] = {
    WORLD_TEST(connect_is_refused),
    WORLD_TEST(connect_is_cancelled),
    WORLD_TEST(connect_is_cancelled_before_it_began),
    WORLD_TEST(close_ends_a_connect),
    WORLD_TEST(addresses_of_both_ends_agree),
    WORLD_TEST(one_accept_takes_many_connections),
    TWO_LOOP_TEST(a_connection_moves_to_another_loop),
    WORLD_TEST(echo_answers),
    WORLD_TEST(steady_turns_allocate_nothing),
    WORLD_TEST(send_of_nothing_is_done),
    WORLD_TEST(send_gathers_many_pieces),
    WORLD_TEST(big_send_through_a_slow_reader),
    WORLD_TEST(send_to_a_vanished_peer_fails),
    WORLD_TEST(reset_ends_the_receive),
    WORLD_TEST(octets_of_a_connection_are_counted),
    WORLD_TEST(a_connection_that_was_reset_is_dead),
    WORLD_TEST(an_attempt_has_no_octets),
    WORLD_TEST(send_is_cancelled),
    WORLD_TEST(close_ends_everything_first),
    WORLD_TEST(close_right_after_start),
    WORLD_TEST(close_inside_on_data),
    WORLD_TEST(descriptors_are_used_again_cleanly),
};
const size_t net_test_count = sizeof(net_tests) / sizeof(net_tests[0]);
