/* What the simulated network keeps, and what it breaks. */
#include "core/base/mem.h"
#include "tests/sim/sim_peer.h"
#include "tests/sim/sim_self.h"

#include <errno.h>
#include <string.h>

#define SEEDS 100

/* ---- Bytes between two peers ----------------------------------------------------------------- */

/* A sequence in which neither shifts nor gaps go unnoticed. */
static uint8_t pattern(uint64_t at)
{
    return (uint8_t)((at * 0x9e3779b97f4a7c15ull) >> 56);
}

struct talk {
    struct sim_world *world;
    struct sim_peer *server;
    struct sim_peer *client;
    struct sim_peer_conn *accepted;
    struct sim_peer_conn *connected;
    uint64_t received;
    bool damaged;
    bool server_ended;
    int32_t server_reason;
    bool client_ended;
    int32_t client_reason;
};

static struct talk *talk_of(struct sim_peer_conn *conn)
{
    return sim_peer_context(sim_peer_of(conn));
}

static void server_opens(struct sim_peer_conn *conn)
{
    talk_of(conn)->accepted = conn;
}

static void server_hears(struct sim_peer_conn *conn, struct slice data)
{
    struct talk *talk = talk_of(conn);

    for (size_t i = 0; i < data.len; i++)
        talk->damaged = talk->damaged || data.data[i] != pattern(talk->received + i);
    talk->received += data.len;
}

static void server_ends(struct sim_peer_conn *conn, int32_t reason)
{
    struct talk *talk = talk_of(conn);

    talk->accepted = NULL;
    talk->server_ended = true;
    talk->server_reason = reason;
}

static void client_ends(struct sim_peer_conn *conn, int32_t reason)
{
    struct talk *talk = talk_of(conn);

    talk->connected = NULL;
    talk->client_ended = true;
    talk->client_reason = reason;
}

static const struct sim_peer_handlers server_handlers = {
    .on_open = server_opens, .on_data = server_hears, .on_end = server_ends};
static const struct sim_peer_handlers client_handlers = {.on_end = client_ends};

static void talk_begin(struct talk *talk, uint64_t seed, const struct sim_options *options)
{
    struct ipaddr_port at = loopback(1, 25);
    struct ipaddr source = loopback(9, 0).ip;

    memset(talk, 0, sizeof(*talk));
    talk->world = sim_world_create(seed, options);
    talk->server = sim_peer_listen(talk->world, &at, &server_handlers, talk);
    talk->client = sim_peer_create(talk->world, &client_handlers, talk);
    talk->connected = sim_peer_connect(talk->client, &source, &at);
}

static void talk_send(struct talk *talk, uint64_t from, size_t len)
{
    uint8_t *bytes = test_malloc(len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(from + i);
    sim_peer_send(talk->connected, bytes, len);
    test_free(bytes);
}

static void talk_end(struct talk *talk)
{
    coverage_add(talk->world);
    sim_world_destroy(talk->world);
}

static void bytes_arrive_in_order_and_whole(void **state)
{
    struct sim_options options = {.faults = {.segment_tiny = 3,
                                             .segment_delayed = 50,
                                             .read_short = 3,
                                             .receive_shortage = 10,
                                             .loop_stalled = 50,
                                             .turn_spurious = 10}};

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct talk talk;
        uint64_t total = 0;

        talk_begin(&talk, seed, &options);
        for (unsigned i = 0; i < 20; i++) {
            size_t len = (size_t)rng_between(sim_rng(talk.world), 1, 20000);

            talk_send(&talk, total, len);
            total += len;
            sim_run_for(talk.world, rng_below(sim_rng(talk.world), 50000000));
        }
        sim_peer_close(talk.connected);
        sim_run_for(talk.world, 10 * MINUTE_NS);
        assert_int_equal(talk.received, total);
        assert_false(talk.damaged);
        assert_true(talk.server_ended);
        assert_int_equal(talk.server_reason, 0);
        assert_int_equal(sim_connection_count(talk.world), 0);
        assert_int_equal(sim_peer_open_count(talk.server), 0);
        talk_end(&talk);
    }
}

static void resets_happen_at_any_byte(void **state)
{
    struct sim_options options = {.faults = {.reset_mid_stream = 10, .reset_after_send = 5}};
    unsigned whole = 0;
    unsigned part = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct talk talk;

        talk_begin(&talk, seed, &options);
        talk_send(&talk, 0, 50000);
        sim_run_for(talk.world, MINUTE_NS);
        assert_false(talk.damaged);
        if (talk.server_ended) {
            assert_true(talk.server_reason == -ECONNRESET);
            assert_true(talk.client_ended);
            whole += talk.received == 50000;
            part += talk.received < 50000;
        } else {
            assert_int_equal(talk.received, 50000);
        }
        talk_end(&talk);
    }
    assert_true(whole > 3 && part > SEEDS / 10);
}

static void slow_reader_blocks_the_sender(void **state)
{
    struct talk talk;
    uint64_t stuck;

    talk_begin(&talk, 1, NULL);
    sim_run_for(talk.world, SECOND_NS);
    sim_peer_pause(talk.accepted);
    talk_send(&talk, 0, 1000000);
    sim_run_for(talk.world, MINUTE_NS);
    /* What the window and a few buffers of the loop hold is all that can be gone. */
    assert_int_equal(talk.received, 0);
    assert_true(sim_coverage(talk.world)[SIM_COVER_window_full].count > 0);
    sim_peer_resume(talk.accepted);
    sim_run_for(talk.world, 20000000);
    stuck = talk.received;
    assert_true(stuck > 0 && stuck < 1000000);
    sim_run_for(talk.world, MINUTE_NS);
    assert_int_equal(talk.received, 1000000);
    assert_false(talk.damaged);
    talk_end(&talk);
}

static void half_closed_connection_goes_on_the_other_way(void **state)
{
    struct talk talk;

    talk_begin(&talk, 1, NULL);
    sim_run_for(talk.world, SECOND_NS);
    sim_send_end(sim_peer_io(talk.server), sim_peer_fd(talk.accepted));
    talk_send(&talk, 0, 100);
    sim_run_for(talk.world, SECOND_NS);
    assert_true(talk.client_ended);
    assert_int_equal(talk.client_reason, 0);
    assert_int_equal(talk.received, 100);
    talk_end(&talk);
}

static void close_with_unread_data_resets(void **state)
{
    /* More than the buffers of a paused loop take. */
    struct sim_options options = {.window_min_bytes = 65536};
    struct talk talk;

    talk_begin(&talk, 1, &options);
    sim_run_for(talk.world, SECOND_NS);
    sim_peer_pause(talk.accepted);
    talk_send(&talk, 0, 100000);
    sim_run_for(talk.world, SECOND_NS);
    sim_peer_drop(talk.accepted);
    sim_run_for(talk.world, SECOND_NS);
    /* The reset may have been told to the pending send, so the reason of the end is not asked. */
    assert_true(talk.client_ended);
    assert_int_equal(sim_peer_open_count(talk.client), 0);
    assert_int_equal(sim_coverage(talk.world)[SIM_COVER_reset_by_unread].count, 1);
    talk_end(&talk);
}

/* The other side has closed; what is sent then comes back as a reset, behind the end of the
 * stream. */
static void late_data_reset(void **state)
{
    uint64_t resets = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct talk talk;

        talk_begin(&talk, seed, NULL);
        sim_run_for(talk.world, SECOND_NS);
        talk_send(&talk, 0, 30000);
        sim_run_for(talk.world, rng_below(sim_rng(talk.world), 20000000));
        sim_peer_drop(talk.accepted);
        sim_run_for(talk.world, MINUTE_NS);
        assert_true(talk.client_ended);
        assert_int_equal(sim_peer_open_count(talk.client), 0);
        resets += sim_coverage(talk.world)[SIM_COVER_reset_by_late_data].count;
        talk_end(&talk);
    }
    assert_true(resets > SEEDS / 10);
}

/* The world ends with the connection open, and no handler hears of it. */
static void what_a_peer_keeps_of_a_connection_goes_with_it(void **state)
{
    struct talk talk;
    uint64_t blocks;
    uint8_t *word;

    talk_begin(&talk, 1, NULL);
    sim_run_for(talk.world, SECOND_NS);
    assert_non_null(talk.accepted);
    blocks = sim_mem_blocks(sim_peer_process(talk.server));
    word = sim_peer_alloc(talk.server, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(word[i], 0);
    sim_peer_set_data(talk.accepted, sim_peer_alloc(talk.server, 100));
    assert_int_equal(sim_mem_blocks(sim_peer_process(talk.server)), blocks + 2);
    mem_free(word);
    assert_int_equal(sim_mem_blocks(sim_peer_process(talk.server)), blocks + 1);
    sim_world_destroy(talk.world);
}

static void peers_of_a_crashed_life_see_its_end(void **state)
{
    unsigned resets = 0;
    unsigned ends = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct talk talk;

        talk_begin(&talk, seed, NULL);
        talk_send(&talk, 0, 10000);
        sim_run_for(talk.world, seed % 2 == 0 ? SECOND_NS : seed * 1000000);
        sim_crash(talk.world, sim_peer_process(talk.server),
                  seed % 4 < 2 ? SIM_KILL : SIM_POWER_CUT);
        sim_run_for(talk.world, MINUTE_NS);
        assert_true(talk.client_ended);
        resets += talk.client_reason < 0;
        ends += talk.client_reason == 0;
        assert_int_equal(sim_peer_open_count(talk.client), 0);
        talk_end(&talk);
    }
    assert_true(resets > SEEDS / 10 && ends > SEEDS / 20);
}

/* ---- Connecting ------------------------------------------------------------------------------ */

struct caller {
    struct sim_world *world;
    struct io *io;
};

static void caller_begin(struct caller *caller, uint64_t seed, const struct sim_options *options)
{
    caller->world = sim_world_create(seed, options);
    sim_io_create(caller->world, sim_process_create(caller->world), &caller->io);
}

static void caller_end(struct caller *caller)
{
    coverage_add(caller->world);
    sim_world_destroy(caller->world);
}

/* The result of one connect, after which the socket is closed; *ret_ns is how long it took. */
static int32_t call(struct caller *caller, const struct ipaddr_port *to, uint64_t *ret_ns)
{
    struct ipaddr source = loopback(9, 0).ip;
    uint64_t begun_ns = sim_now_ns(caller->world);
    struct waited connect;
    int32_t result;
    int fd = -1;
    int r = io_socket_open(caller->io, &source, &fd);

    if (r < 0)
        return r;
    waited_init(&connect);
    io_connect(caller->io, &connect.op, fd, to);
    result = waited_wait(caller->world, &connect);
    *ret_ns = sim_now_ns(caller->world) - begun_ns;
    io_close_now(caller->io, fd);
    return result;
}

static void connects_end_as_routes_say(void **state)
{
    struct ipaddr_port server = loopback(1, 25);
    struct ipaddr_port nobody = loopback(1, 26);
    struct cidr block = {.ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 0}}, .prefix_bits = 24};
    struct ipaddr source = loopback(9, 0).ip;
    struct caller caller;
    uint64_t ns = 0;

    caller_begin(&caller, 1, NULL);
    sim_peer_listen(caller.world, &server, &(struct sim_peer_handlers){0}, NULL);
    assert_int_equal(call(&caller, &server, &ns), 0);
    assert_int_equal(call(&caller, &nobody, &ns), -ECONNREFUSED);
    sim_route(caller.world, &block, SIM_ROUTE_DROP);
    assert_int_equal(call(&caller, &server, &ns), -ETIMEDOUT);
    assert_true(ns > 100 * SECOND_NS);
    sim_route(caller.world, &block, SIM_ROUTE_NO_HOST);
    assert_int_equal(call(&caller, &server, &ns), -EHOSTUNREACH);
    sim_route(caller.world, &block, SIM_ROUTE_REFUSE);
    assert_int_equal(call(&caller, &server, &ns), -ECONNREFUSED);
    sim_route(caller.world, &block, SIM_ROUTE_OPEN);
    sim_source_disable(caller.world, &source, true);
    assert_int_equal(call(&caller, &server, &ns), -EADDRNOTAVAIL);
    sim_source_disable(caller.world, &source, false);
    assert_int_equal(call(&caller, &server, &ns), 0);
    caller_end(&caller);
}

static void connects_fail_by_rate(void **state)
{
    struct sim_options options = {.faults = {.connect_refused = 5,
                                             .connect_timeout = 5,
                                             .connect_unreachable = 5,
                                             .connect_no_port = 5,
                                             .bind_failed = 5,
                                             .accept_failed = 2}};
    struct ipaddr_port server = loopback(1, 25);
    struct caller caller;
    unsigned good = 0;
    uint64_t ns = 0;

    caller_begin(&caller, 1, &options);
    sim_peer_listen(caller.world, &server, &(struct sim_peer_handlers){0}, NULL);
    for (unsigned i = 0; i < 200; i++)
        good += call(&caller, &server, &ns) == 0;
    assert_in_range(good, 30, 120);
    caller_end(&caller);
}

/* Nobody accepts: a queue of two, and the third has to try again and again. */
static void full_backlog_makes_connects_wait(void **state)
{
    struct ipaddr_port at = loopback(1, 25);
    struct caller caller;
    struct caller server;
    uint64_t ns = 0;
    int fd = -1;

    caller_begin(&caller, 1, NULL);
    server.world = caller.world;
    sim_io_create(server.world, sim_process_create(server.world), &server.io);
    assert_int_equal(io_listen(server.io, &at, 2, &fd), 0);
    assert_int_equal(call(&caller, &at, &ns), 0);
    assert_int_equal(call(&caller, &at, &ns), 0);
    assert_int_equal(call(&caller, &at, &ns), -ETIMEDOUT);
    caller_end(&caller);
}

static void refuse_quietly(struct io_accept *accept, int32_t fd)
{
}

static void stopping_an_accept_may_lose_connections(void **state)
{
    struct ipaddr_port at = loopback(1, 25);

    for (uint64_t seed = 0; seed < 10; seed++) {
        struct io_accept accept = {.on_accept = refuse_quietly};
        struct caller caller;
        struct io *io;
        uint64_t ns = 0;
        int fd = -1;

        caller_begin(&caller, seed, NULL);
        sim_io_create(caller.world, sim_process_create(caller.world), &io);
        assert_int_equal(io_listen(io, &at, 5, &fd), 0);
        assert_int_equal(call(&caller, &at, &ns), 0);
        io_accept_start(io, &accept, fd);
        io_accept_stop(io, &accept);
        sim_run_for(caller.world, SECOND_NS);
        assert_false(accept.op.in_flight);
        caller_end(&caller);
    }
}

static void listeners_of_one_address_share(void **state)
{
    struct ipaddr_port at = loopback(1, 25);
    struct caller caller;
    struct sim_peer *servers[3];
    uint64_t ns = 0;

    caller_begin(&caller, 1, NULL);
    for (unsigned i = 0; i < 3; i++)
        servers[i] = sim_peer_listen(caller.world, &at, &(struct sim_peer_handlers){0}, NULL);
    for (unsigned i = 0; i < 90; i++)
        assert_int_equal(call(&caller, &at, &ns), 0);
    sim_run_for(caller.world, SECOND_NS);
    for (unsigned i = 0; i < 3; i++)
        assert_in_range(sim_peer_total_count(servers[i]), 15, 50);
    caller_end(&caller);
}

const struct CMUnitTest net_tests[] = {
    cmocka_unit_test(bytes_arrive_in_order_and_whole),
    cmocka_unit_test(resets_happen_at_any_byte),
    cmocka_unit_test(slow_reader_blocks_the_sender),
    cmocka_unit_test(half_closed_connection_goes_on_the_other_way),
    cmocka_unit_test(close_with_unread_data_resets),
    cmocka_unit_test(late_data_reset),
    cmocka_unit_test(what_a_peer_keeps_of_a_connection_goes_with_it),
    cmocka_unit_test(peers_of_a_crashed_life_see_its_end),
    cmocka_unit_test(connects_end_as_routes_say),
    cmocka_unit_test(connects_fail_by_rate),
    cmocka_unit_test(full_backlog_makes_connects_wait),
    cmocka_unit_test(stopping_an_accept_may_lose_connections),
    cmocka_unit_test(listeners_of_one_address_share),
};
const size_t net_test_count = sizeof(net_tests) / sizeof(net_tests[0]);
