/*
 * sim_peer: remote programs of the simulated world that talk in lines, or in bytes.
 *
 * A peer is a process of its own with one loop, written against io.h like everything else: what it
 * sends and receives passes the simulated network with all its faults. Handlers run in the peer's
 * turns; the calls below may be made there or by the test between steps.
 */
#pragma once

#include "core/base/slice.h"
#include "tests/sim/sim.h"

struct sim_peer;
struct sim_peer_conn;

struct sim_peer_handlers {
    /* All may be NULL. A connection exists until on_end has returned and it was closed. */
    void (*on_open)(struct sim_peer_conn *conn);
    /* One line without its end (LF, or CR LF). NULL = on_data gets the bytes as they come. */
    void (*on_line)(struct sim_peer_conn *conn, struct slice line);
    void (*on_data)(struct sim_peer_conn *conn, struct slice data);
    /* reason as in io.h, also of a connect that failed. The connection is closed afterwards. */
    void (*on_end)(struct sim_peer_conn *conn, int32_t reason);
};

/* A program that listens; it goes with its process (sim_peer_process). */
struct sim_peer *sim_peer_listen(struct sim_world *world, const struct ipaddr_port *at,
                                 const struct sim_peer_handlers *handlers, void *context);
/* A program that only connects. */
struct sim_peer *sim_peer_create(struct sim_world *world, const struct sim_peer_handlers *handlers,
                                 void *context);
struct sim_peer_conn *sim_peer_connect(struct sim_peer *peer, const struct ipaddr *source,
                                       const struct ipaddr_port *to);
struct sim_process *sim_peer_process(struct sim_peer *peer);
struct io *sim_peer_io(struct sim_peer *peer);
void *sim_peer_context(struct sim_peer *peer);
/* Connections open now, and so far. */
uint32_t sim_peer_open_count(const struct sim_peer *peer);
uint64_t sim_peer_total_count(const struct sim_peer *peer);

struct sim_peer *sim_peer_of(struct sim_peer_conn *conn);
/* The test's own word about a connection, NULL at first. */
void *sim_peer_data(struct sim_peer_conn *conn);
void sim_peer_set_data(struct sim_peer_conn *conn, void *data);
int sim_peer_fd(const struct sim_peer_conn *conn);
/* Zeroed memory of the peer's own, for that word: given back by mem_free, or with its process, as
 * the end of a world tells no handler of the connections that are still open. */
void *sim_peer_alloc(struct sim_peer *peer, size_t bytes);

/* Copies; goes out in order. */
void sim_peer_send(struct sim_peer_conn *conn, const void *bytes, size_t len);
void sim_peer_printf(struct sim_peer_conn *conn, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Stops and starts reading: a slow reader. Handlers stop after the present line. */
void sim_peer_pause(struct sim_peer_conn *conn);
void sim_peer_resume(struct sim_peer_conn *conn);
/* Closes when everything is sent; on_end comes no more. */
void sim_peer_close(struct sim_peer_conn *conn);
/* Ends at once, whatever waits to be sent or read. */
void sim_peer_drop(struct sim_peer_conn *conn);
