/*
 * The storm: SMTP clients that are one simulated product process, servers that are peers. Each
 * reply to a message's end is written to a journal; a message is done when that is durable. A
 * connection that ends before is opened again, so everything is delivered in the end.
 */
#include "core/base/mem.h"
#include "tests/sim/sim_peer.h"
#include "tests/sim/sim_self.h"

#include <stdio.h>
#include <string.h>

#define SERVER_COUNT  4
#define MESSAGE_BYTES 2048
#define RECORD_BYTES  64
#define RETRY_NS      (100ull * 1000000)
#define STEPS_MAX     20000000ull

/* ---- The receiving side ---------------------------------------------------------------------- */

static void server_open(struct sim_peer_conn *conn)
{
    sim_peer_printf(conn, "220 here\r\n");
}

static void server_line(struct sim_peer_conn *conn, struct slice line)
{
    bool in_data = sim_peer_data(conn) != NULL;

    if (in_data && !slice_equal(line, SLICE_LITERAL(".")))
        return;
    if (in_data) {
        sim_peer_set_data(conn, NULL);
        sim_peer_printf(conn, "250 taken\r\n");
    } else if (slice_equal(line, SLICE_LITERAL("DATA"))) {
        sim_peer_set_data(conn, conn);
        sim_peer_printf(conn, "354 go on\r\n");
    } else {
        sim_peer_printf(conn, "250 ok\r\n");
    }
}

static const struct sim_peer_handlers server_handlers = {
    .on_open = server_open,
    .on_line = server_line,
};

/* ---- The sending side ------------------------------------------------------------------------ */

struct storm {
    struct io *io;
    struct client *clients;
    uint32_t client_count;
    int journal_fd;
    uint64_t journal_end;
    uint32_t left; /* messages nobody has taken up */
    uint32_t message_count;
    uint64_t delivered;
};

struct client {
    struct storm *storm;
    unsigned number;
    int fd;
    struct io_op connect;
    struct io_op send;
    struct io_op close;
    struct io_op append;
    struct io_recv recv;
    struct io_timer retry;
    struct iovec iov;
    char out[MESSAGE_BYTES + 256];
    unsigned replies;
    unsigned acted_on;
    bool has_message;
    bool closing;
    uint8_t record[RECORD_BYTES];
};

static void say(struct client *client, size_t len)
{
    client->iov = (struct iovec){client->out, len};
    io_send(client->storm->io, &client->send, client->fd, &client->iov, 1);
}

static void say_message(struct client *client)
{
    size_t len = 0;

    while (len < MESSAGE_BYTES)
        len += (size_t)snprintf(client->out + len, sizeof(client->out) - len, "line %zu of %u\r\n",
                                len, client->number);
    memcpy(client->out + len, ".\r\n", 3);
    say(client, len + 3);
}

static void end_connection(struct client *client)
{
    if (client->closing)
        return;
    client->closing = true;
    io_close(client->storm->io, &client->close, client->fd);
}

/* The connection is over and so is the journal write: try again, if there is anything to do. */
static void settle(struct client *client)
{
    struct storm *storm = client->storm;

    if (!client->closing || io_op_in_flight(&client->close) || io_op_in_flight(&client->append))
        return;
    if (client->has_message || storm->left > 0)
        io_timer_arm(storm->io, &client->retry, io_now_ns(storm->io) + RETRY_NS);
}

static void next_message(struct client *client)
{
    static const char envelope[] =
        "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n";

    if (!client->has_message) {
        if (client->storm->left == 0) {
            end_connection(client);
            return;
        }
        client->storm->left--;
        client->has_message = true;
    }
    memcpy(client->out, envelope, sizeof(envelope));
    say(client, sizeof(envelope) - 1);
}

/*
 * Does what the replies allow: 1 is the greeting, 4 go with the envelope, 5 with the message. A
 * reply may be here before the send that asked for it is known to be complete.
 */
static void advance(struct client *client)
{
    struct storm *storm = client->storm;

    if (client->closing || io_op_in_flight(&client->send) || client->replies == client->acted_on)
        return;
    client->acted_on = client->replies;
    if (client->replies == 1)
        next_message(client);
    else if (client->replies == 4)
        say_message(client);
    else if (client->replies == 5) {
        memset(client->record, (int)client->number, RECORD_BYTES);
        io_write(storm->io, &client->append, storm->journal_fd, client->record, RECORD_BYTES,
                 storm->journal_end, true);
        storm->journal_end += RECORD_BYTES;
    }
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct client *client = container_of(recv, struct client, recv);

    for (size_t i = 0; i < len && !client->closing; i++) {
        client->replies += data[i] == '\n';
        advance(client);
    }
    return len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    end_connection(container_of(recv, struct client, recv));
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct client *client = container_of(op, struct client, send);

    if (result < 0)
        end_connection(client);
    else
        advance(client);
}

static void on_appended(struct io_op *op, int32_t result)
{
    struct client *client = container_of(op, struct client, append);

    if (result == RECORD_BYTES) {
        client->storm->delivered++;
        client->has_message = false;
        client->replies = client->acted_on = 1;
        if (!client->closing)
            next_message(client);
    } else {
        /* Not in the journal: it has to be delivered once more. */
        end_connection(client);
    }
    settle(client);
}

static void on_connected(struct io_op *op, int32_t result)
{
    struct client *client = container_of(op, struct client, connect);

    if (result < 0)
        end_connection(client);
    else
        io_recv_start(client->storm->io, &client->recv, client->fd);
}

static void on_closed(struct io_op *op, int32_t result)
{
    settle(container_of(op, struct client, close));
}

static void on_retry(struct io_timer *timer)
{
    struct client *client = container_of(timer, struct client, retry);
    struct storm *storm = client->storm;
    struct ipaddr source = loopback((uint8_t)(100 + client->number % 8), 0).ip;
    struct ipaddr_port to = loopback((uint8_t)(1 + client->number % SERVER_COUNT), 25);

    client->closing = false;
    client->replies = 0;
    client->acted_on = 0;
    if (io_socket_open(storm->io, &source, &client->fd) < 0)
        io_timer_arm(storm->io, timer, io_now_ns(storm->io) + RETRY_NS);
    else
        io_connect(storm->io, &client->connect, client->fd, &to);
}

/* ---- The whole ------------------------------------------------------------------------------- */

static void init_client(struct storm *storm, unsigned number)
{
    struct client *client = &storm->clients[number];

    client->storm = storm;
    client->number = number;
    io_op_init(&client->connect, on_connected);
    io_op_init(&client->send, on_sent);
    io_op_init(&client->close, on_closed);
    io_op_init(&client->append, on_appended);
    io_timer_init(&client->retry, on_retry);
    client->recv.on_data = on_data;
    client->recv.on_end = on_end;
    io_timer_arm(storm->io, &client->retry, io_now_ns(storm->io));
}

static void storm_begin(void *context)
{
    struct storm *storm = context;

    storm->clients = mem_alloc(storm->client_count * sizeof(*storm->clients));
    while (io_file_open(storm->io, "/journal", IO_FILE_WRITE | IO_FILE_CREATE, &storm->journal_fd) <
           0)
        continue;
    for (unsigned i = 0; i < storm->client_count; i++)
        init_client(storm, i);
}

static bool is_delivered(void *context)
{
    const struct storm *storm = context;

    return storm->delivered == storm->message_count;
}

struct storm_result storm_run(uint64_t seed, const struct sim_options *options,
                              uint32_t message_count, uint32_t client_count)
{
    struct storm storm = {
        .left = message_count, .message_count = message_count, .client_count = client_count};
    struct sim_world *world = sim_world_create(seed, options);
    struct sim_process *process = sim_process_create(world);
    struct storm_result result = {0};
    uint64_t begun_ns = sim_now_ns(world);

    for (unsigned i = 0; i < SERVER_COUNT; i++) {
        struct ipaddr_port at = loopback((uint8_t)(1 + i), 25);

        sim_peer_listen(world, &at, &server_handlers, NULL);
    }
    sim_io_create(world, process, &storm.io);
    assert_true(sim_run_in(process, storm_begin, &storm));
    assert_true(sim_run_until(world, is_delivered, &storm, UINT64_MAX, STEPS_MAX));
    result.hash = sim_trace_hash(world);
    result.steps = sim_step_count(world);
    result.delivered = storm.delivered;
    result.virtual_ns = sim_now_ns(world) - begun_ns;
    coverage_add(world);
    sim_world_destroy(world);
    return result;
}
