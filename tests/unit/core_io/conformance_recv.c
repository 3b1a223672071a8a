/* Receiving: pausing, holding, going on, stopping, ends. */
#include "tests/unit/core_io/conformance.h"

#include "core/base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 200000 };

static uint8_t text[TEXT_BYTES];

static int fill_text(void **state)
{
    pattern_fill(text, 0, sizeof(text));
    return world_setup(state);
}

#define TEXT_TEST(function) cmocka_unit_test_setup_teardown(function, fill_text, world_teardown)

/* Goes on each time the receive stopped on its own, until all has come. */
static void drain(struct stream *stream, uint64_t bytes)
{
    while (stream->used_total < bytes) {
        uint64_t calls = stream->data_calls;

        START(io_recv_resume(the_io, &stream->recv));
        run_until_count(&stream->data_calls, calls + 1);
    }
    assert_int_equal(stream->used_total, bytes);
}

static void partial_use_keeps_order(void **state)
{
    static const size_t sizes[] = {1, 7, 100, 511, 512, 513, 1000, 4095, 4096, 4097};
    struct stream a;
    struct stream b;

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t bytes = sizes[i] * 40;

        stream_pair(&a, &b);
        b.use_at_most = sizes[i];
        stream_receive(&b);
        stream_start_send(&a, text, bytes);
        drain(&b, bytes);
        assert_memory_equal(b.data, text, bytes);
        waited_wait(&a.send);
        stream_close(&a);
        stream_close(&b);
    }
}

static void paused_receiver_is_left_alone(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&b);
    io_recv_pause(the_io, &b.recv);
    stream_start_send(&a, text, TEXT_BYTES);
    run_for_ms(20);
    assert_int_equal(b.data_calls, 0);
    START(io_recv_resume(the_io, &b.recv));
    run_until_used(&b, TEXT_BYTES);
    assert_memory_equal(b.data, text, TEXT_BYTES);
    waited_wait(&a.send);
    stream_close(&a);
    stream_close(&b);
}

/* Using everything and pausing are two things. */
static void pause_inside_on_data(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.pause_each_time = true;
    stream_receive(&b);
    stream_start_send(&a, text, TEXT_BYTES);
    run_until_count(&b.data_calls, 1);
    run_for_ms(10);
    assert_int_equal(b.data_calls, 1);
    drain(&b, TEXT_BYTES);
    assert_memory_equal(b.data, text, TEXT_BYTES);
    waited_wait(&a.send);
    stream_close(&a);
    stream_close(&b);
}

static void quick_pause_and_resume_change_nothing(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&b);
    START(io_recv_resume(the_io, &b.recv));
    for (unsigned i = 0; i < 50; i++) {
        io_recv_pause(the_io, &b.recv);
        START(io_recv_resume(the_io, &b.recv));
        stream_send(&a, text + i * 100, 100);
        io_recv_pause(the_io, &b.recv);
        if (i % 3 == 0)
            run_for_ms(1);
        START(io_recv_resume(the_io, &b.recv));
    }
    run_until_used(&b, 5000);
    assert_memory_equal(b.data, text, 5000);
    stream_close(&a);
    stream_close(&b);
}

static void paused_receiver_stops_its_peer(void **state)
{
    enum { BYTES = 64 * 1024 * 1024 };
    uint8_t *much = calloc(1, BYTES);
    struct stream a;
    struct stream b;

    assert_non_null(much);
    stream_pair(&a, &b);
    b.use_at_most = 1;
    stream_receive(&b);
    stream_start_send(&a, much, BYTES);
    run_for_ms(100);
    assert_true(io_op_in_flight(&a.send.op));
    assert_int_equal(b.data_calls, 1);
    stream_close(&a);
    stream_close(&b);
    free(much);
}

/* Small pieces fill buffers as well as large ones do. */
static void paused_receiver_holds_few_buffers(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 1;
    stream_receive(&b);
    for (unsigned i = 0; i < 200; i++) {
        stream_send(&a, text + i * 10, 10);
        run_for_ms(1);
    }
    assert_int_equal(b.data_calls, 1);
    /* What is held comes in one turn. */
    b.use_at_most = SIZE_MAX;
    START(io_recv_resume(the_io, &b.recv));
    run_until_count(&b.data_calls, 2);
    assert_true(b.data_calls < 50);
    run_until_used(&b, 2000);
    assert_memory_equal(b.data, text, 2000);
    stream_close(&a);
    stream_close(&b);
}

static void end_comes_after_all_data(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 300;
    stream_receive(&b);
    stream_send(&a, text, 30000);
    stream_close(&a);
    run_for_ms(10);
    assert_int_equal(b.used_total, 300);
    assert_int_equal(b.ends, 0);
    drain(&b, 30000);
    assert_memory_equal(b.data, text, 30000);
    START(if (io_recv_is_active(&b.recv)) io_recv_resume(the_io, &b.recv));
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, 0);
    run_for_ms(2);
    assert_int_equal(b.ends, 1);
    stream_close(&b);
}

static void pause_holds_back_the_end(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&b);
    io_recv_pause(the_io, &b.recv);
    stream_close(&a);
    run_for_ms(10);
    assert_int_equal(b.ends, 0);
    START(io_recv_resume(the_io, &b.recv));
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, 0);
    stream_close(&b);
}

static void stop_ends_once_and_allows_another_start(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    START(io_recv_stop(the_io, &b.recv));
    stream_receive(&b);
    run_for_ms(2);
    START(io_recv_stop(the_io, &b.recv));
    START(io_recv_stop(the_io, &b.recv));
    run_until_count(&b.ends, 1);
    run_for_ms(2);
    assert_int_equal(b.ends, 1);
    assert_int_equal(b.end_reason, -ECANCELED);
    assert_int_equal(b.data_calls, 0);

    b.ends = 0;
    stream_receive(&b);
    stream_send(&a, text, 5000);
    run_until_used(&b, 5000);
    assert_memory_equal(b.data, text, 5000);
    stream_close(&a);
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, 0);
    stream_close(&b);
}

static void stop_right_after_start(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    stream_receive(&b);
    START(io_recv_stop(the_io, &b.recv));
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, -ECANCELED);
    stream_close(&a);
    stream_close(&b);
}

static void stop_drops_what_is_held(void **state)
{
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 5;
    stream_receive(&b);
    stream_send(&a, text, 3000);
    run_until_used(&b, 5);
    START(io_recv_stop(the_io, &b.recv));
    run_until_count(&b.ends, 1);
    assert_int_equal(b.end_reason, -ECANCELED);
    assert_int_equal(b.data_calls, 1);
    stream_close(&a);
    stream_close(&b);
}

static void stop_itself(struct stream *stream)
{
    START(io_recv_stop(the_io, &stream->recv));
}

static void stop_inside_on_data(void **state)
{
    struct stream a;
    struct stream b;

    /* From fresh data, then from held data. */
    for (unsigned held = 0; held < 2; held++) {
        stream_pair(&a, &b);
        b.use_at_most = 1;
        b.after_data = held ? NULL : stop_itself;
        stream_receive(&b);
        stream_send(&a, text, 3000);
        run_until_used(&b, 1);
        if (held) {
            b.after_data = stop_itself;
            START(io_recv_resume(the_io, &b.recv));
        }
        run_until_count(&b.ends, 1);
        assert_int_equal(b.end_reason, -ECANCELED);
        assert_int_equal(b.data_calls, 1 + held);
        stream_close(&a);
        stream_close(&b);
    }
}

static void pausing_allocates_nothing(void **state)
{
    struct stream a;
    struct stream b;
    uint64_t allocations = 0;

    stream_pair(&a, &b);
    b.use_at_most = 1;
    stream_receive(&b);
    for (uint64_t i = 1; i <= 1000; i++) {
        stream_send(&a, "ab", 2);
        run_until_count(&b.used_total, 2 * i - 1);
        /* Often two bytes come at once and the second is held; if not, there is nothing to do. */
        START(io_recv_resume(the_io, &b.recv));
        run_until_used(&b, 2 * i);
        START(io_recv_resume(the_io, &b.recv));
        if (i == 20)
            allocations = mem_alloc_count();
    }
    assert_int_equal(mem_alloc_count(), allocations);
    stream_close(&a);
    stream_close(&b);
}

/* What is done inside a turn meets what arrives at its end. */
struct later {
    struct io_timer timer;
    struct stream *a;
    struct stream *b;
    uint64_t fired;
};

static void later_init(struct later *later, void (*on_fire)(struct io_timer *timer),
                       struct stream *a, struct stream *b)
{
    *later = (struct later){.a = a, .b = b};
    io_timer_init(&later->timer, on_fire);
    io_timer_arm(the_io, &later->timer, io_now_ns(the_io) + 3000000);
}

static void on_resume_and_send(struct io_timer *timer)
{
    struct later *later = container_of(timer, struct later, timer);

    later->b->use_at_most = SIZE_MAX;
    START(io_recv_resume(the_io, &later->b->recv));
    stream_start_send(later->a, text + 1000, 1000);
    later->fired++;
}

static void held_data_come_before_fresh(void **state)
{
    struct later later;
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 10;
    stream_receive(&b);
    stream_send(&a, text, 1000);
    run_until_used(&b, 10);
    run_for_ms(5);
    later_init(&later, on_resume_and_send, &a, &b);
    run_until_used(&b, 2000);
    assert_memory_equal(b.data, text, 2000);
    waited_wait(&a.send);
    stream_close(&a);
    stream_close(&b);
}

static void on_closed_after_end(struct io_op *op, int32_t result)
{
    struct stream *stream = container_of(op, struct stream, close.op);

    assert_int_equal(result, 0);
    assert_int_equal(stream->ends, 1);
    stream->close.calls++;
}

static void on_close_time(struct io_timer *timer)
{
    struct later *later = container_of(timer, struct later, timer);

    START(io_close(the_io, &later->b->close.op, later->b->fd));
    later->fired++;
}

/* So much is held that nothing is armed any more; the end comes before the close all the same. */
static void close_of_an_idle_receiver(void **state)
{
    struct later later;
    struct stream a;
    struct stream b;

    stream_pair(&a, &b);
    b.use_at_most = 1;
    stream_receive(&b);
    stream_start_send(&a, text, TEXT_BYTES);
    run_for_ms(20);
    io_op_init(&b.close.op, on_closed_after_end);
    later_init(&later, on_close_time, &a, &b);
    run_until_count(&b.close.calls, 1);
    assert_int_equal(b.end_reason, -ECANCELED);
    stream_free(&b);
    waited_wait(&a.send);
    stream_close(&a);
}

/* Many receivers that do not go on must not starve the one that would. */
static void paused_receivers_starve_nobody(void **state)
{
    enum { PAUSED = 40 };
    struct stream a[PAUSED];
    struct stream b[PAUSED];
    struct stream from;
    struct stream to;

    for (unsigned i = 0; i < PAUSED; i++) {
        stream_pair(&a[i], &b[i]);
        b[i].use_at_most = 1;
        stream_receive(&b[i]);
        stream_start_send(&a[i], text, TEXT_BYTES);
    }
    for (unsigned i = 0; i < PAUSED; i++)
        run_until_used(&b[i], 1);
    stream_pair(&from, &to);
    stream_receive(&to);
    stream_start_send(&from, text, TEXT_BYTES);
    run_until_used(&to, TEXT_BYTES);
    assert_memory_equal(to.data, text, TEXT_BYTES);
    waited_wait(&from.send);
    stream_close(&from);
    stream_close(&to);

    for (unsigned i = 0; i < PAUSED; i++) {
        b[i].use_at_most = SIZE_MAX;
        drain(&b[i], TEXT_BYTES);
        assert_memory_equal(b[i].data, text, TEXT_BYTES);
        waited_wait(&a[i].send);
        stream_close(&a[i]);
        stream_close(&b[i]);
    }
}

/* More data at once than the loop has buffers. */
static void many_receivers_at_once(void **state)
{
    enum { STREAMS = 30 };
    struct stream a[STREAMS];
    struct stream b[STREAMS];

    for (unsigned i = 0; i < STREAMS; i++) {
        stream_pair(&a[i], &b[i]);
        stream_receive(&b[i]);
    }
    for (unsigned i = 0; i < STREAMS; i++)
        stream_start_send(&a[i], text + i, TEXT_BYTES - i);
    for (unsigned i = 0; i < STREAMS; i++) {
        run_until_used(&b[i], TEXT_BYTES - i);
        assert_memory_equal(b[i].data, text + i, TEXT_BYTES - i);
        assert_int_equal(waited_wait(&a[i].send), TEXT_BYTES - i);
        stream_close(&a[i]);
        stream_close(&b[i]);
    }
}

const struct CMUnitTest recv_tests[] = {
    TEXT_TEST(partial_use_keeps_order),
    TEXT_TEST(paused_receiver_is_left_alone),
    TEXT_TEST(pause_inside_on_data),
    TEXT_TEST(quick_pause_and_resume_change_nothing),
    TEXT_TEST(paused_receiver_stops_its_peer),
    TEXT_TEST(paused_receiver_holds_few_buffers),
    TEXT_TEST(end_comes_after_all_data),
    TEXT_TEST(pause_holds_back_the_end),
    TEXT_TEST(stop_ends_once_and_allows_another_start),
    TEXT_TEST(stop_right_after_start),
    TEXT_TEST(stop_drops_what_is_held),
    TEXT_TEST(stop_inside_on_data),
    TEXT_TEST(pausing_allocates_nothing),
    TEXT_TEST(held_data_come_before_fresh),
    TEXT_TEST(close_of_an_idle_receiver),
    TEXT_TEST(paused_receivers_starve_nobody),
    TEXT_TEST(many_receivers_at_once),
};
const size_t recv_test_count = sizeof(recv_tests) / sizeof(recv_tests[0]);
