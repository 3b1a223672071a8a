#include "tests/unit/core_io/conformance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct backend *the_world;
struct io *the_io;
int starting_depth;

static int setup(unsigned loop_count)
{
    the_world = backend_create(loop_count);
    assert_non_null(the_world);
    the_io = backend_loop(the_world, 0);
    starting_depth = 0;
    return 0;
}

int world_setup(void **state)
{
    return setup(1);
}

int world_setup_two_loops(void **state)
{
    return setup(2);
}

int world_teardown(void **state)
{
    backend_destroy(the_world);
    return 0;
}

/* ---- Running ------------------------------------------------------------------------------- */

static bool is_flag_set(void *context)
{
    return *(const bool *)context;
}

void run_until_flag(const bool *flag)
{
    assert_true(backend_run(the_world, is_flag_set, (void *)flag));
}

struct count_goal {
    const uint64_t *count;
    uint64_t at_least;
};

static bool is_count_reached(void *context)
{
    const struct count_goal *goal = context;

    return *goal->count >= goal->at_least;
}

void run_until_count(const uint64_t *count, uint64_t at_least)
{
    struct count_goal goal = {count, at_least};

    assert_true(backend_run(the_world, is_count_reached, &goal));
}

void run_for_ms(uint64_t ms)
{
    backend_run_for(the_world, ms * 1000000);
}

/* ---- Ops that are waited for --------------------------------------------------------------- */

static void on_waited(struct io_op *op, int32_t result)
{
    struct waited *waited = container_of(op, struct waited, op);

    assert_not_within_start();
    assert_false(io_op_in_flight(op));
    waited->result = result;
    waited->calls++;
}

void waited_init(struct waited *waited)
{
    memset(waited, 0, sizeof(*waited));
    io_op_init(&waited->op, on_waited);
}

int32_t waited_wait(struct waited *waited)
{
    run_until_count(&waited->calls, waited->calls + (io_op_in_flight(&waited->op) ? 1 : 0));
    return waited->result;
}

/* ---- Streams ------------------------------------------------------------------------------- */

static void remember(struct stream *stream, const uint8_t *data, size_t len)
{
    if (stream->data_len + len > stream->data_capacity) {
        stream->data_capacity = (stream->data_len + len) * 2;
        stream->data = realloc(stream->data, stream->data_capacity);
        assert_non_null(stream->data);
    }
    memcpy(stream->data + stream->data_len, data, len);
    stream->data_len += len;
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct stream *stream = container_of(recv, struct stream, recv);
    size_t used = len < stream->use_at_most ? len : stream->use_at_most;

    assert_not_within_start();
    assert_true(len > 0);
    assert_int_equal(stream->ends, 0);
    stream->data_calls++;
    remember(stream, data, used);
    stream->used_total += used;
    if (stream->pause_each_time)
        io_recv_pause(the_io, recv);
    if (stream->after_data != NULL)
        stream->after_data(stream);
    return used;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct stream *stream = container_of(recv, struct stream, recv);

    assert_not_within_start();
    assert_false(io_recv_is_active(recv));
    stream->ends++;
    stream->end_reason = reason;
}

void stream_init(struct stream *stream, int fd)
{
    memset(stream, 0, sizeof(*stream));
    stream->fd = fd;
    stream->use_at_most = SIZE_MAX;
    stream->recv.on_data = on_data;
    stream->recv.on_end = on_end;
    waited_init(&stream->send);
    waited_init(&stream->close);
}

void stream_free(struct stream *stream)
{
    free(stream->data);
    stream->data = NULL;
}

void stream_receive(struct stream *stream)
{
    START(io_recv_start(the_io, &stream->recv, stream->fd));
}

void stream_start_send(struct stream *stream, const void *data, size_t len)
{
    stream->piece = (struct iovec){(void *)data, len};
    START(io_send(the_io, &stream->send.op, stream->fd, &stream->piece, 1));
}

void stream_send(struct stream *stream, const void *data, size_t len)
{
    stream_start_send(stream, data, len);
    assert_int_equal(waited_wait(&stream->send), len);
}

void stream_close(struct stream *stream)
{
    START(io_close(the_io, &stream->close.op, stream->fd));
    assert_int_equal(waited_wait(&stream->close), 0);
    stream_free(stream);
}

void run_until_used(struct stream *stream, uint64_t bytes)
{
    run_until_count(&stream->used_total, bytes);
    assert_int_equal(stream->used_total, bytes);
}

int listen_somewhere(struct ipaddr_port *ret_at)
{
    struct ipaddr_port at = {.ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}}};
    int fd = -1;

    at.port = backend_free_port(the_world);
    assert_int_equal(io_listen(the_io, &at, 64, &fd), 0);
    assert_true(fd >= 0);
    *ret_at = at;
    return fd;
}

struct one_accept {
    struct io_accept accept;
    int fd;
    uint64_t accepted;
    uint64_t stopped;
};

static void on_one_accept(struct io_accept *accept, int32_t fd)
{
    struct one_accept *one = container_of(accept, struct one_accept, accept);

    if (fd == -ECANCELED) {
        one->stopped++;
        return;
    }
    assert_true(fd >= 0);
    one->fd = fd;
    one->accepted++;
}

void stream_pair(struct stream *a, struct stream *b)
{
    struct one_accept one = {.accept.on_accept = on_one_accept};
    struct ipaddr source = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}};
    struct ipaddr_port at;
    struct waited connect;
    int listener = listen_somewhere(&at);
    int fd = -1;

    waited_init(&connect);
    START(io_accept_start(the_io, &one.accept, listener));
    assert_int_equal(io_socket_open(the_io, &source, &fd), 0);
    START(io_connect(the_io, &connect.op, fd, &at));
    assert_int_equal(waited_wait(&connect), 0);
    run_until_count(&one.accepted, 1);
    START(io_accept_stop(the_io, &one.accept));
    run_until_count(&one.stopped, 1);
    io_close_now(the_io, listener);
    stream_init(a, fd);
    stream_init(b, one.fd);
}

/* ---- Pattern ------------------------------------------------------------------------------- */

uint8_t pattern_byte(uint64_t at)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15ull) >> 56);
}

void pattern_fill(uint8_t *room, uint64_t at, size_t len)
{
    for (size_t i = 0; i < len; i++)
        room[i] = pattern_byte(at + i);
}
