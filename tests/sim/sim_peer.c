#include "tests/sim/sim_peer.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_BYTES_MAX (1u << 20)

struct sim_peer {
    struct sim_process *process;
    struct io *io;
    struct io_accept accept;
    int listen_fd;
    struct sim_peer_handlers handlers;
    void *context;
    uint32_t open_count;
    uint64_t total_count;
};

/* Bytes that grow at the end and are used up from the front. */
struct pile {
    uint8_t *bytes;
    size_t from;
    size_t end;
    size_t capacity;
};

struct sim_peer_conn {
    struct sim_peer *peer;
    void *data;
    int fd;
    struct io_op connect;
    struct io_op send;
    struct io_op close;
    struct io_recv recv;
    struct iovec iov;
    struct pile out;     /* not given to the loop yet */
    struct pile sending; /* belongs to the loop */
    struct pile in;      /* an unfinished line */
    bool closing;        /* close when all is sent */
    bool ended;          /* nothing more comes */
    bool paused;
    int32_t send_error;
};

/* ---- Piles ----------------------------------------------------------------------------------- */

static void pile_add(struct pile *pile, const void *bytes, size_t len)
{
    if (pile->end + len > pile->capacity) {
        size_t used = pile->end - pile->from;
        size_t capacity = (used + len) * 2;
        uint8_t *room = mem_alloc(capacity);

        if (used > 0)
            memcpy(room, pile->bytes + pile->from, used);
        mem_free(pile->bytes);
        *pile = (struct pile){.bytes = room, .end = used, .capacity = capacity};
    }
    if (len > 0)
        memcpy(pile->bytes + pile->end, bytes, len);
    pile->end += len;
}

static void pile_clear(struct pile *pile)
{
    mem_free(pile->bytes);
    *pile = (struct pile){0};
}

/* ---- The end of a connection ----------------------------------------------------------------- */

static void on_closed(struct io_op *op, int32_t result)
{
    struct sim_peer_conn *conn = container_of(op, struct sim_peer_conn, close);

    conn->peer->open_count--;
    pile_clear(&conn->out);
    pile_clear(&conn->sending);
    pile_clear(&conn->in);
    mem_free(conn);
}

static void close_conn(struct sim_peer_conn *conn)
{
    if (!io_op_in_flight(&conn->close))
        io_close(conn->peer->io, &conn->close, conn->fd);
}

static void end_conn(struct sim_peer_conn *conn, int32_t reason)
{
    conn->ended = true;
    if (!conn->closing && conn->peer->handlers.on_end != NULL)
        conn->peer->handlers.on_end(conn, reason);
    /* What the handler said last still goes out, unless the other side is gone for good. */
    conn->closing = true;
    if (reason < 0 || (!io_op_in_flight(&conn->send) && conn->out.end == conn->out.from))
        close_conn(conn);
}

/* ---- Sending --------------------------------------------------------------------------------- */

static void send_more(struct sim_peer_conn *conn)
{
    if (io_op_in_flight(&conn->send) || io_op_in_flight(&conn->connect) ||
        io_op_in_flight(&conn->close))
        return;
    if (conn->out.end == conn->out.from) {
        if (conn->closing)
            close_conn(conn);
        return;
    }
    pile_clear(&conn->sending);
    conn->sending = conn->out;
    conn->out = (struct pile){0};
    conn->iov.iov_base = conn->sending.bytes + conn->sending.from;
    conn->iov.iov_len = conn->sending.end - conn->sending.from;
    io_send(conn->peer->io, &conn->send, conn->fd, &conn->iov, 1);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct sim_peer_conn *conn = container_of(op, struct sim_peer_conn, send);

    if (io_op_in_flight(&conn->close))
        return;
    if (result < 0) {
        /* The receive tells the handler, if it has not yet. It may get a mere end of the stream:
         * a reset is reported once. */
        conn->send_error = result;
        pile_clear(&conn->out);
        if (conn->ended || conn->closing)
            close_conn(conn);
        return;
    }
    send_more(conn);
}

/* Calls of a test between steps count as the peer's own. */
static bool enter(struct sim_peer *peer)
{
    if (peer->process->world->entered == peer->process)
        return false;
    sim_enter(peer->process);
    return true;
}

static void leave(struct sim_peer *peer, bool entered)
{
    if (entered)
        sim_leave(peer->process);
}

void sim_peer_send(struct sim_peer_conn *conn, const void *bytes, size_t len)
{
    struct sim_peer *peer = conn->peer;
    bool entered = enter(peer);

    pile_add(&conn->out, bytes, len);
    send_more(conn);
    leave(peer, entered);
}

void sim_peer_printf(struct sim_peer_conn *conn, const char *format, ...)
{
    char text[4096];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    must(len >= 0 && (size_t)len < sizeof(text));
    sim_peer_send(conn, text, (size_t)len);
}

/* ---- Receiving ------------------------------------------------------------------------------- */

static void give_lines(struct sim_peer_conn *conn)
{
    while (!conn->paused && !conn->closing) {
        struct slice rest = slice_of(conn->in.bytes + conn->in.from, conn->in.end - conn->in.from);
        size_t len = slice_find(rest, '\n');

        if (len == rest.len)
            break;
        conn->in.from += len + 1;
        rest.len = len > 0 && rest.data[len - 1] == '\r' ? len - 1 : len;
        conn->peer->handlers.on_line(conn, rest);
    }
    if (conn->in.from == conn->in.end)
        conn->in.from = conn->in.end = 0;
    must(conn->in.end - conn->in.from < LINE_BYTES_MAX);
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct sim_peer_conn *conn = container_of(recv, struct sim_peer_conn, recv);

    if (conn->closing)
        return len;
    if (conn->peer->handlers.on_line == NULL) {
        if (conn->peer->handlers.on_data != NULL)
            conn->peer->handlers.on_data(conn, slice_of(data, len));
        return len;
    }
    pile_add(&conn->in, data, len);
    give_lines(conn);
    return len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct sim_peer_conn *conn = container_of(recv, struct sim_peer_conn, recv);

    if (!io_op_in_flight(&conn->close))
        end_conn(conn, reason != 0 ? reason : conn->send_error);
}

void sim_peer_pause(struct sim_peer_conn *conn)
{
    conn->paused = true;
    io_recv_pause(conn->peer->io, &conn->recv);
}

void sim_peer_resume(struct sim_peer_conn *conn)
{
    struct sim_peer *peer = conn->peer;
    bool entered = enter(peer);

    conn->paused = false;
    if (peer->handlers.on_line != NULL && conn->in.end > conn->in.from)
        give_lines(conn);
    if (!conn->paused)
        io_recv_resume(peer->io, &conn->recv);
    leave(peer, entered);
}

void sim_peer_close(struct sim_peer_conn *conn)
{
    struct sim_peer *peer = conn->peer;
    bool entered = enter(peer);

    conn->closing = true;
    send_more(conn);
    leave(peer, entered);
}

void sim_peer_drop(struct sim_peer_conn *conn)
{
    struct sim_peer *peer = conn->peer;
    bool entered = enter(peer);

    conn->closing = true;
    close_conn(conn);
    leave(peer, entered);
}

/* ---- Beginnings ------------------------------------------------------------------------------ */

static void open_conn(struct sim_peer_conn *conn)
{
    io_recv_start(conn->peer->io, &conn->recv, conn->fd);
    if (conn->peer->handlers.on_open != NULL)
        conn->peer->handlers.on_open(conn);
    send_more(conn);
}

static void on_connected(struct io_op *op, int32_t result)
{
    struct sim_peer_conn *conn = container_of(op, struct sim_peer_conn, connect);

    if (io_op_in_flight(&conn->close))
        return;
    if (result < 0)
        end_conn(conn, result);
    else
        open_conn(conn);
}

static struct sim_peer_conn *create_conn(struct sim_peer *peer, int fd)
{
    struct sim_peer_conn *conn = mem_alloc(sizeof(*conn));

    conn->peer = peer;
    conn->fd = fd;
    conn->recv.on_data = on_data;
    conn->recv.on_end = on_end;
    io_op_init(&conn->connect, on_connected);
    io_op_init(&conn->send, on_sent);
    io_op_init(&conn->close, on_closed);
    peer->open_count++;
    peer->total_count++;
    return conn;
}

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct sim_peer *peer = container_of(accept, struct sim_peer, accept);

    if (fd >= 0)
        open_conn(create_conn(peer, fd));
    else
        io_accept_start(peer->io, accept, peer->listen_fd);
}

struct sim_peer *sim_peer_create(struct sim_world *world, const struct sim_peer_handlers *handlers,
                                 void *context)
{
    struct sim_process *process = sim_process_create(world);
    struct sim_peer *peer;

    sim_enter(process);
    peer = mem_alloc(sizeof(*peer));
    sim_leave(process);
    peer->process = process;
    peer->listen_fd = -1;
    peer->handlers = *handlers;
    peer->context = context;
    sim_io_create(world, process, &peer->io);
    return peer;
}

struct sim_peer *sim_peer_listen(struct sim_world *world, const struct ipaddr_port *at,
                                 const struct sim_peer_handlers *handlers, void *context)
{
    struct sim_peer *peer = sim_peer_create(world, handlers, context);

    sim_enter(peer->process);
    must(io_listen(peer->io, at, 128, &peer->listen_fd) == 0);
    peer->accept.on_accept = on_accept;
    io_accept_start(peer->io, &peer->accept, peer->listen_fd);
    sim_leave(peer->process);
    return peer;
}

struct sim_peer_conn *sim_peer_connect(struct sim_peer *peer, const struct ipaddr *source,
                                       const struct ipaddr_port *to)
{
    bool entered = enter(peer);
    struct sim_peer_conn *conn;
    int fd = -1;

    /* A refused source is a matter of the product's, not of its peers. */
    while (io_socket_open(peer->io, source, &fd) < 0)
        must(sim_fd_count(peer->process) < 10000);
    conn = create_conn(peer, fd);
    io_connect(peer->io, &conn->connect, fd, to);
    leave(peer, entered);
    return conn;
}

struct sim_process *sim_peer_process(struct sim_peer *peer)
{
    return peer->process;
}

struct io *sim_peer_io(struct sim_peer *peer)
{
    return peer->io;
}

void *sim_peer_context(struct sim_peer *peer)
{
    return peer->context;
}

uint32_t sim_peer_open_count(const struct sim_peer *peer)
{
    return peer->open_count;
}

uint64_t sim_peer_total_count(const struct sim_peer *peer)
{
    return peer->total_count;
}

struct sim_peer *sim_peer_of(struct sim_peer_conn *conn)
{
    return conn->peer;
}

void *sim_peer_data(struct sim_peer_conn *conn)
{
    return conn->data;
}

void sim_peer_set_data(struct sim_peer_conn *conn, void *data)
{
    conn->data = data;
}

int sim_peer_fd(const struct sim_peer_conn *conn)
{
    return conn->fd;
}

void *sim_peer_alloc(struct sim_peer *peer, size_t bytes)
{
    bool entered = enter(peer);
    void *block = mem_alloc(bytes);

    leave(peer, entered);
    return block;
}
