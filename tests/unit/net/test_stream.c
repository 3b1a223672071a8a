/*
 * Streams in the simulator: plain, and through a transform. The cipher is a toy: it exists to have
 * state, to change lengths in both directions and to notice damage.
 */
#include "net/stream.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

#define S(n)  ((uint64_t)(n)*1000000000)
#define BYTES 300000

/* ---- The toy cipher: records of up to 100 octets, each with a length, and masked by a counter --
 */

#define RECORD_MAX 100

struct toy {
    uint8_t in[RECORD_MAX + 2]; /* of a record that is not complete */
    size_t in_bytes;
    size_t given; /* of a complete record's content */
    uint8_t in_mask;
    uint8_t out_mask;
};

static int toy_decode(void *state, const uint8_t *wire, size_t wire_bytes, size_t *ret_used,
                      uint8_t *plain, size_t plain_room, size_t *ret_plain)
{
    struct toy *toy = state;
    size_t used = 0;
    size_t filled = 0;

    for (;;) {
        size_t length = toy->in_bytes > 0 ? toy->in[0] : 0;

        if (toy->in_bytes > 0 && (length == 0 || length > RECORD_MAX))
            return E_DAMAGED;
        if (toy->in_bytes > 0 && toy->in_bytes == length + 2) {
            if (toy->in[length + 1] != toy->in_mask)
                return E_DAMAGED;
            while (toy->given < length && filled < plain_room)
                plain[filled++] = toy->in[1 + toy->given++] ^ toy->in_mask;
            if (toy->given < length)
                break;
            toy->in_bytes = 0;
            toy->given = 0;
            toy->in_mask++;
            continue;
        }
        if (used == wire_bytes)
            break;
        toy->in[toy->in_bytes++] = wire[used++];
    }
    *ret_used = used;
    *ret_plain = filled;
    return 0;
}

static int toy_encode(void *state, const uint8_t *plain, size_t plain_bytes, size_t *ret_used,
                      uint8_t *wire, size_t wire_room, size_t *ret_wire)
{
    struct toy *toy = state;
    size_t used = 0;
    size_t filled = 0;

    while (used < plain_bytes && wire_room - filled > 2) {
        size_t length = plain_bytes - used < RECORD_MAX ? plain_bytes - used : RECORD_MAX;

        if (length > wire_room - filled - 2)
            length = wire_room - filled - 2;
        wire[filled++] = (uint8_t)length;
        for (size_t i = 0; i < length; i++)
            wire[filled++] = plain[used++] ^ toy->out_mask;
        wire[filled++] = toy->out_mask++;
    }
    *ret_used = used;
    *ret_wire = filled;
    return 0;
}

static const struct stream_transform toy_transform = {.decode = toy_decode, .encode = toy_encode};

static int broken_encode(void *state, const uint8_t *plain, size_t plain_bytes, size_t *ret_used,
                         uint8_t *wire, size_t wire_room, size_t *ret_wire)
{
    return E_DAMAGED;
}

static const struct stream_transform broken_transform = {
    .decode = toy_decode,
    .encode = broken_encode,
};

/* ---- Two ends -------------------------------------------------------------------------------- */

/* One end: sends `out` in pieces, takes what comes at its own pace. */
struct end {
    struct stream stream;
    struct sim_process *process;
    struct io *io;
    struct toy toy;
    struct rng rng;
    struct io_timer resume_timer;
    struct iovec iov[3];
    uint8_t *out;
    size_t out_bytes;
    size_t sent;
    size_t asked; /* of the send that is under way */
    uint8_t *in;
    size_t in_bytes;
    size_t plain_line; /* octets before the cipher begins; 0 = from the start */
    int32_t end_reason;
    int32_t send_result;
    bool dawdles;
    bool open;
    bool ended;
    bool closed;
    bool inside; /* a call of ours is on the stack: no callback may come */
};

static struct sim_world *world;
static struct end ends[2];
static struct io_op connect_op;
static struct io_accept accept_op;
static int listen_fd;
static int connect_fd;

static void send_more(struct end *end)
{
    size_t rest = end->out_bytes - end->sent;
    uint32_t count = 0;

    end->asked = 0;
    while (rest > 0 && count < 3) {
        size_t piece = rng_between(&end->rng, 1, rest < 20000 ? rest : 20000);

        end->iov[count++] = (struct iovec){end->out + end->sent + end->asked, piece};
        end->asked += piece;
        rest -= piece;
    }
    if (count == 0)
        return;
    end->inside = true;
    stream_send(&end->stream, end->iov, count);
    end->inside = false;
}

/* Both plain lines must be over before either end turns to the cipher. */
static void go_on_behind_line(struct end *end)
{
    if (stream_is_sending(&end->stream))
        return;
    if (end->sent == end->out_bytes && end->in_bytes < end->plain_line)
        return;
    if (end->sent < end->plain_line) {
        end->out_bytes = end->plain_line;
    } else if (end->stream.transform == NULL) {
        assert_int_equal(stream_set_transform(&end->stream, &toy_transform, &end->toy), 0);
        end->out_bytes = BYTES;
        io_timer_arm(end->io, &end->resume_timer, 0);
    }
    send_more(end);
}

static void on_resume(struct io_timer *timer)
{
    struct end *end = container_of(timer, struct end, resume_timer);

    if (!end->open || end->stream.closing)
        return;
    end->inside = true;
    stream_resume(&end->stream);
    end->inside = false;
}

static size_t on_data(struct stream *stream, const uint8_t *data, size_t len)
{
    struct end *end = container_of(stream, struct end, stream);
    size_t used = len;

    assert_false(end->inside || end->ended);
    if (end->dawdles && rng_one_in(&end->rng, 3)) {
        used = rng_below(&end->rng, len + 1);
        /* All used, but wants no more for a while. */
        if (used == len) {
            end->inside = true;
            stream_pause(stream);
            end->inside = false;
        }
        io_timer_arm(end->io, &end->resume_timer,
                     io_now_ns(end->io) + rng_below(&end->rng, 5000000));
    }
    if (stream->transform == NULL && end->plain_line > 0) {
        size_t rest = end->plain_line - end->in_bytes;

        used = used < rest ? used : rest;
    }
    assert_true(end->in_bytes + used <= BYTES);
    memcpy(end->in + end->in_bytes, data, used);
    end->in_bytes += used;
    if (end->plain_line > 0)
        go_on_behind_line(end);
    return used;
}

static void on_sent(struct stream *stream, int32_t result)
{
    struct end *end = container_of(stream, struct end, stream);

    assert_false(end->inside);
    end->send_result = result;
    if (result < 0)
        return;
    assert_int_equal(result, end->asked);
    end->sent += end->asked;
    if (end->plain_line > 0)
        go_on_behind_line(end);
    else
        send_more(end);
}

static void on_end(struct stream *stream, int32_t reason)
{
    struct end *end = container_of(stream, struct end, stream);

    assert_false(end->inside || end->ended);
    end->ended = true;
    end->end_reason = reason;
}

static void on_closed(struct stream *stream)
{
    struct end *end = container_of(stream, struct end, stream);

    assert_false(end->inside || end->closed);
    end->closed = true;
    end->open = false;
}

static const struct stream_events events = {
    .on_data = on_data,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_closed = on_closed,
};

static void open_end(struct end *end, int fd, const struct stream_transform *transform)
{
    stream_open(&end->stream, end->io, fd, &events);
    end->open = true;
    if (transform != NULL && end->plain_line == 0)
        assert_int_equal(stream_set_transform(&end->stream, transform, &end->toy), 0);
    send_more(end);
}

static const struct stream_transform *chosen;

static void on_connected(struct io_op *op, int32_t result)
{
    assert_int_equal(result, 0);
    open_end(&ends[0], connect_fd, chosen);
}

static void on_accept(struct io_accept *accept, int32_t fd)
{
    if (fd >= 0)
        open_end(&ends[1], fd, chosen);
}

/* Connects ends[0] to ends[1]; both have out and out_bytes set already. */
static void start(uint64_t seed, const struct stream_transform *transform, bool crumbled)
{
    struct sim_options options = {.faults = sim_faults_none()};
    struct ipaddr_port at = {.port = 25};

    chosen = transform;
    world = sim_world_create(seed, &options);
    if (crumbled) {
        sim_faults(world)->segment_tiny = 4;
        sim_faults(world)->read_short = 4;
        sim_faults(world)->loop_stalled = 200;
    }
    assert_int_equal(ipaddr_parse(SLICE_LITERAL("192.0.2.1"), &at.ip), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct end *end = &ends[i];

        end->process = sim_process_create(world);
        sim_io_create(world, end->process, &end->io);
        rng_init(&end->rng, seed + i);
        io_timer_init(&end->resume_timer, on_resume);
    }
    sim_enter(ends[1].process);
    assert_int_equal(io_listen(ends[1].io, &at, 1, &listen_fd), 0);
    accept_op = (struct io_accept){.on_accept = on_accept};
    io_accept_start(ends[1].io, &accept_op, listen_fd);
    sim_leave(ends[1].process);
    sim_enter(ends[0].process);
    assert_int_equal(io_socket_open(ends[0].io, &at.ip, &connect_fd), 0);
    io_op_init(&connect_op, on_connected);
    io_connect(ends[0].io, &connect_op, connect_fd, &at);
    sim_leave(ends[0].process);
}

static void close_end(struct end *end)
{
    if (!end->open || end->stream.closing)
        return;
    sim_enter(end->process);
    end->inside = true;
    stream_close(&end->stream);
    end->inside = false;
    sim_leave(end->process);
}

static void finish(void)
{
    for (unsigned i = 0; i < 2; i++)
        close_end(&ends[i]);
    sim_run_for(world, S(20));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(ends[i].closed);
        assert_int_equal(sim_mem_blocks(ends[i].process), 0);
        free(ends[i].in);
        free(ends[i].out);
    }
    sim_world_destroy(world);
}

static void prepare(uint64_t seed, size_t bytes)
{
    struct rng rng;

    rng_init(&rng, seed);
    memset(ends, 0, sizeof(ends));
    for (unsigned i = 0; i < 2; i++) {
        ends[i].out = malloc(BYTES);
        ends[i].in = malloc(BYTES);
        ends[i].out_bytes = bytes;
        for (size_t at = 0; at < BYTES; at++)
            ends[i].out[at] = (uint8_t)rng_u64(&rng);
    }
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void bytes_arrive_whole_in_both_directions(void **state)
{
    static const struct stream_transform *const transforms[] = {NULL, &toy_transform};

    for (uint64_t seed = 1; seed <= 40; seed++) {
        prepare(seed, BYTES);
        ends[0].dawdles = seed % 2 == 0;
        ends[1].dawdles = seed % 3 == 0;
        start(seed, transforms[seed / 4 % 2], seed % 5 == 0);
        sim_run_for(world, S(600));
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(ends[i].sent, BYTES);
            assert_int_equal(ends[i].in_bytes, BYTES);
            assert_memory_equal(ends[i].in, ends[1 - i].out, BYTES);
            assert_false(ends[i].ended);
        }
        /* The end comes behind all octets, also to a reader that dawdles. */
        close_end(&ends[0]);
        sim_run_for(world, S(20));
        assert_true(ends[1].ended);
        assert_int_equal(ends[1].end_reason, 0);
        finish();
    }
}

static void the_end_waits_for_octets_that_are_held_back(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        prepare(seed, BYTES);
        ends[1].out_bytes = 0;
        ends[1].dawdles = true;
        start(seed, seed % 2 ? &toy_transform : NULL, false);
        while (ends[0].sent < BYTES)
            sim_run_for(world, 1000000);
        close_end(&ends[0]);
        sim_run_for(world, S(600));
        assert_int_equal(ends[1].in_bytes, BYTES);
        assert_memory_equal(ends[1].in, ends[0].out, BYTES);
        assert_true(ends[1].ended);
        finish();
    }
}

/* As STARTTLS does: a plain line first, the cipher from the next octet on. */
static void a_transform_begins_in_the_middle(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        prepare(seed, BYTES);
        ends[0].plain_line = ends[1].plain_line = 10;
        ends[0].out_bytes = 10;
        ends[1].out_bytes = 0;
        start(seed, &toy_transform, seed % 2 == 0);
        sim_run_for(world, S(600));
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(ends[i].in_bytes, BYTES);
            assert_memory_equal(ends[i].in, ends[1 - i].out, BYTES);
        }
        finish();
    }
}

static void damage_ends_the_stream_once(void **state)
{
    prepare(1, 1000);
    ends[0].out_bytes = 1000;
    ends[1].out_bytes = 0;
    /* ends[0] speaks plain where ends[1] expects records. */
    ends[0].plain_line = BYTES;
    memset(ends[0].out, 0, 1000);
    start(1, &toy_transform, false);
    sim_run_for(world, S(10));
    assert_true(ends[1].ended);
    assert_int_equal(ends[1].end_reason, E_DAMAGED);
    assert_int_equal(ends[1].in_bytes, 0);
    finish();
}

static void a_send_that_cannot_be_encoded_is_told_later(void **state)
{
    prepare(1, 1000);
    ends[1].out_bytes = 0;
    start(1, &broken_transform, false);
    sim_run_for(world, S(10));
    assert_int_equal(ends[0].send_result, E_DAMAGED);
    assert_int_equal(ends[1].in_bytes, 0);
    finish();
}

static void closing_in_the_middle_tells_nothing_more(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        prepare(seed, BYTES);
        ends[1].dawdles = true;
        start(seed, seed % 2 ? &toy_transform : NULL, false);
        sim_run_for(world, 30000000 + seed * 1000000);
        for (unsigned i = 0; i < 2; i++)
            close_end(&ends[i]);
        /* A callback would now stop the test, unless the connection is only being made. */
        for (unsigned i = 0; i < 2; i++)
            ends[i].ended = ends[i].stream.closing;
        sim_run_for(world, S(1));
        finish();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_whole_in_both_directions),
        cmocka_unit_test(the_end_waits_for_octets_that_are_held_back),
        cmocka_unit_test(a_transform_begins_in_the_middle),
        cmocka_unit_test(damage_ends_the_stream_once),
        cmocka_unit_test(a_send_that_cannot_be_encoded_is_told_later),
        cmocka_unit_test(closing_in_the_middle_tells_nothing_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
