/* Addresses, listeners, and the birth and death of connections. */
#include "core/base/hash.h"
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <errno.h>
#include <string.h>

#define LISTEN_PORT_FIRST    20000
#define SOURCE_PORT_FIRST    32768
#define SYN_RETRY_NS         1000000000ull
#define POWER_CUT_SILENCE_NS 5000000000ull

/* The address of what has a path instead. */
static const struct ipaddr_port nowhere;

void sim_net_init(struct sim_world *world)
{
    for (int i = 0; i < SIM_LISTENER_BUCKETS; i++)
        list_init(&world->net.listeners[i]);
    list_init(&world->net.conns);
    world->net.next_port = LISTEN_PORT_FIRST;
}

static void free_conn(struct sim_conn *conn)
{
    struct sim_world *world = conn->world;

    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &conn->ends[i];

        must(end->recv == NULL && end->send == NULL && end->held_first == NULL);
        sim_event_stop(world, &end->reset);
        sim_event_stop(world, &end->look);
        sim_stream_fini(world, &end->in);
    }
    list_remove(&conn->link);
    world->net.conn_count--;
    sim_free(conn);
}

void sim_net_fini(struct sim_world *world)
{
    must(list_empty(&world->net.conns));
    sim_free(world->net.rules);
    sim_free(world->net.disabled);
}

uint32_t sim_connection_count(const struct sim_world *world)
{
    uint32_t count = 0;

    list_for_each (node, &world->net.conns) {
        struct sim_conn *conn = container_of(node, struct sim_conn, link);

        count += conn->ends[0].desc != NULL && conn->ends[1].desc != NULL;
    }
    return count;
}

uint32_t sim_connection_count_from(const struct sim_world *world, const struct ipaddr *source)
{
    uint32_t count = 0;

    list_for_each (node, &world->net.conns) {
        struct sim_conn *conn = container_of(node, struct sim_conn, link);

        count += conn->ends[0].desc != NULL && conn->ends[1].desc != NULL &&
                 ipaddr_equal(&conn->ends[0].local.ip, source);
    }
    return count;
}

/* ---- Rules ----------------------------------------------------------------------------------- */

void sim_source_disable(struct sim_world *world, const struct ipaddr *source, bool disabled)
{
    struct sim_net *net = &world->net;

    for (uint32_t i = 0; i < net->disabled_count; i++) {
        if (ipaddr_equal(&net->disabled[i], source)) {
            net->disabled[i] = net->disabled[--net->disabled_count];
            break;
        }
    }
    if (!disabled)
        return;
    net->disabled = sim_realloc(net->disabled, (net->disabled_count + 1) * sizeof(*net->disabled));
    net->disabled[net->disabled_count++] = *source;
}

static bool source_is_disabled(const struct sim_net *net, const struct ipaddr *source)
{
    for (uint32_t i = 0; i < net->disabled_count; i++) {
        if (ipaddr_equal(&net->disabled[i], source))
            return true;
    }
    return false;
}

void sim_route(struct sim_world *world, const struct cidr *to, enum sim_route route)
{
    struct sim_net *net = &world->net;

    net->rules = sim_realloc(net->rules, (net->rule_count + 1) * sizeof(*net->rules));
    net->rules[net->rule_count++] = (struct sim_route_rule){.to = *to, .route = route};
}

static enum sim_route route_to(const struct sim_net *net, const struct ipaddr *ip)
{
    for (uint32_t i = net->rule_count; i > 0; i--) {
        if (cidr_contains(&net->rules[i - 1].to, ip))
            return net->rules[i - 1].route;
    }
    return SIM_ROUTE_OPEN;
}

/* ---- Listeners ------------------------------------------------------------------------------- */

static struct list *bucket_of(struct sim_world *world, const struct ipaddr_port *at,
                              const char *path)
{
    uint64_t hash = path != NULL ? hash_bytes(path, strlen(path))
                                 : hash_combine(ipaddr_hash(&at->ip), at->port);

    return &world->net.listeners[hash % SIM_LISTENER_BUCKETS];
}

static bool listens_at(const struct sim_listener *listener, const struct ipaddr_port *at,
                       const char *path)
{
    if (path != NULL || listener->path != NULL)
        return path != NULL && listener->path != NULL && strcmp(path, listener->path) == 0;
    return listener->at.port == at->port && ipaddr_equal(&listener->at.ip, &at->ip);
}

struct sim_listener *sim_listener_find(struct sim_world *world, const struct ipaddr_port *at,
                                       const char *path)
{
    struct list *bucket = bucket_of(world, at, path);
    struct ipaddr_port any = {.port = at->port};
    uint64_t count = 0;

    list_for_each (node, bucket)
        count += listens_at(container_of(node, struct sim_listener, link), at, path);
    if (count == 0 && path == NULL) {
        any.ip.family = at->ip.family;
        if (!ipaddr_equal(&any.ip, &at->ip))
            return sim_listener_find(world, &any, NULL);
    }
    if (count == 0)
        return NULL;
    count = rng_below(&world->rng, count);
    list_for_each (node, bucket) {
        struct sim_listener *listener = container_of(node, struct sim_listener, link);

        if (listens_at(listener, at, path) && count-- == 0)
            return listener;
    }
    must(false);
    return NULL;
}

static int listen_on(struct io *io, const struct ipaddr_port *at, const char *path, int backlog,
                     int *ret_fd)
{
    struct sim_world *world = io->world;
    struct sim_desc *desc = sim_desc_create(io->process, SIM_DESC_LISTENER);
    struct sim_listener *listener;

    if (desc == NULL)
        return -EMFILE;
    listener = sim_alloc(sizeof(*listener));
    listener->desc = desc;
    listener->at = *at;
    if (path == NULL && at->port == 0) {
        listener->at.port = world->net.next_port++;
        must(world->net.next_port < SOURCE_PORT_FIRST);
    }
    if (path != NULL)
        listener->path = sim_strdup(path);
    listener->backlog = backlog > 0 ? (uint32_t)backlog : 1;
    list_init(&listener->queue);
    list_init(&listener->ready_link);
    list_push_back(bucket_of(world, &listener->at, listener->path), &listener->link);
    desc->listener = listener;
    *ret_fd = desc->fd;
    sim_trace(world, "listen", io->number, listener->at.port, (uint64_t)desc->fd);
    return 0;
}

int io_listen(struct io *io, const struct ipaddr_port *at, int backlog, int *ret_fd)
{
    if (at->ip.family == IPADDR_NONE)
        return -EAFNOSUPPORT;
    return listen_on(io, at, NULL, backlog, ret_fd);
}

int io_listen_unix(struct io *io, const char *path, int *ret_fd)
{
    struct list *bucket = bucket_of(io->world, &nowhere, path);

    /* An old listener stays open, but its name now leads to the new one. */
    list_for_each (node, bucket) {
        if (listens_at(container_of(node, struct sim_listener, link), &nowhere, path))
            list_remove(node);
    }
    return listen_on(io, &nowhere, path, 128, ret_fd);
}

void sim_listener_drop_queue(struct sim_listener *listener)
{
    struct list *node;

    while ((node = list_pop_front(&listener->queue)) != NULL) {
        struct sim_end *end = container_of(node, struct sim_end, accept_link);

        end->listener = NULL;
        sim_end_reset_after(sim_end_other(end), end->conn->latency_ns);
        sim_end_close(end, SIM_CLOSE_ORDERLY);
    }
    listener->queue_count = 0;
}

void sim_listener_close(struct sim_listener *listener)
{
    list_remove(&listener->ready_link);
    list_remove(&listener->link);
    sim_listener_drop_queue(listener);
    sim_free(listener->path);
    sim_free(listener);
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void init_end(struct sim_conn *conn, struct sim_end *end)
{
    end->conn = conn;
    list_init(&end->accept_link);
    list_init(&end->ready_link);
    sim_end_init_events(end);
    sim_stream_init(conn->world, &end->in);
}

struct sim_end *sim_end_create(struct sim_world *world, const struct ipaddr *source)
{
    struct sim_conn *conn = sim_alloc(sizeof(*conn));
    uint64_t most_ns =
        sim_between(world, world->options.latency_min_ns, world->options.latency_max_ns);

    conn->world = world;
    conn->number = ++world->net.next_number;
    /* Drawn twice: most receivers are near, some are far. */
    conn->latency_ns = sim_between(world, world->options.latency_min_ns, most_ns);
    init_end(conn, &conn->ends[0]);
    init_end(conn, &conn->ends[1]);
    conn->ends[0].state = SIM_END_OPEN;
    if (source != NULL)
        conn->ends[0].local.ip = *source;
    list_push_back(&world->net.conns, &conn->link);
    world->net.conn_count++;
    return &conn->ends[0];
}

int io_tcp_info(struct io *io, int fd, struct io_tcp_info *ret_info)
{
    const struct sim_end *end = sim_desc_get(io->process, fd, SIM_DESC_SOCKET)->end;
    const struct sim_conn *conn = end->conn;
    const struct sim_end *other = end == &conn->ends[0] ? &conn->ends[1] : &conn->ends[0];

    *ret_info = (struct io_tcp_info){
        .bytes_sent = other->in.written,
        .bytes_received = end->in.arrived,
        .srtt_us = end->state == SIM_END_UP ? (uint32_t)(2 * conn->latency_ns / 1000) : 0,
        .is_dead = end->dead,
    };
    return 0;
}

int io_socket_open(struct io *io, const struct ipaddr *source, int *ret_fd)
{
    struct sim_world *world = io->world;
    struct sim_desc *desc;

    must(source->family != IPADDR_NONE);
    if (source_is_disabled(&world->net, source)) {
        sim_cover(world, SIM_COVER_source_disabled);
        return -EADDRNOTAVAIL;
    }
    if (sim_fault(world, SIM_COVER_bind_failed))
        return -EADDRNOTAVAIL;
    desc = sim_desc_create(io->process, SIM_DESC_SOCKET);
    if (desc == NULL)
        return -EMFILE;
    desc->end = sim_end_create(world, source);
    desc->end->desc = desc;
    *ret_fd = desc->fd;
    sim_trace(world, "socket", io->number, desc->end->conn->number, (uint64_t)desc->fd);
    return 0;
}

void sim_conn_establish(struct sim_end *end, struct sim_listener *listener)
{
    struct sim_world *world = end->conn->world;
    struct sim_end *other = sim_end_other(end);

    must(other->state == SIM_END_NONE);
    end->state = SIM_END_UP;
    other->state = SIM_END_UP;
    other->local = listener->at;
    /* Nothing the server says may be there before the connect is done. */
    end->in.last_at_ns = world->now_ns + end->conn->latency_ns;
    other->listener = listener;
    list_push_back(&listener->queue, &other->accept_link);
    listener->queue_count++;
    sim_trace(world, "established", end->conn->number, end->conn->latency_ns, 0);
    if (listener->accept != NULL) {
        list_remove(&listener->ready_link);
        list_push_back(&listener->accept_io->ready_accepts, &listener->ready_link);
        sim_io_ready(listener->accept_io);
    }
}

static void connect_gives_up(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);

    record->desc->end->state = SIM_END_OPEN;
    sim_op_end(world, record, record->result, 0);
}

/* Until delay_ns are over it can still be cancelled. */
static void connect_fails(struct sim_world *world, struct sim_op *record, int error,
                          uint64_t delay_ns)
{
    record->phase = SIM_PHASE_UNDER_WAY;
    record->result = error;
    record->event.fire = connect_gives_up;
    sim_event_at(world, &record->event, world->now_ns + delay_ns);
}

static void syn_arrives(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_end *end = record->desc->end;
    struct sim_listener *listener = sim_listener_find(world, &record->connect.to, NULL);

    if (listener == NULL || sim_fault(world, SIM_COVER_connect_refused)) {
        connect_fails(world, record, -ECONNREFUSED, end->conn->latency_ns);
        return;
    }
    if (listener->queue_count >= listener->backlog) {
        /* The packet is dropped and sent again. */
        sim_cover(world, SIM_COVER_backlog_full);
        if (world->now_ns + SYN_RETRY_NS > record->connect.give_up_ns)
            connect_fails(world, record, -ETIMEDOUT, SYN_RETRY_NS);
        else
            sim_event_at(world, event, world->now_ns + SYN_RETRY_NS);
        return;
    }
    sim_conn_establish(end, listener);
    /* Behind a wildcard the address that was called is the local one. */
    sim_end_other(end)->local = record->connect.to;
    sim_op_end(world, record, 0, end->conn->latency_ns);
}

/* 0 when the connect may go on, otherwise how it ends; *ret_delay_ns says when. */
static int connect_obstacle(struct sim_world *world, struct sim_op *record, uint64_t *ret_delay_ns)
{
    const struct ipaddr *to = &record->connect.to.ip;
    struct sim_end *end = record->desc->end;
    enum sim_route route = route_to(&world->net, to);

    *ret_delay_ns = 0;
    if (to->family != end->local.ip.family)
        return -EAFNOSUPPORT;
    if (sim_fault(world, SIM_COVER_connect_no_port))
        return -EADDRNOTAVAIL;
    *ret_delay_ns = 2 * end->conn->latency_ns;
    if (route == SIM_ROUTE_REFUSE || route == SIM_ROUTE_NO_HOST) {
        sim_cover(world, SIM_COVER_route_refused);
        return route == SIM_ROUTE_REFUSE ? -ECONNREFUSED : -EHOSTUNREACH;
    }
    if (sim_fault(world, SIM_COVER_connect_unreachable))
        return -EHOSTUNREACH;
    *ret_delay_ns = world->options.connect_timeout_ns;
    if (route == SIM_ROUTE_DROP) {
        sim_cover(world, SIM_COVER_route_dropped);
        return -ETIMEDOUT;
    }
    return sim_fault(world, SIM_COVER_connect_timeout) ? -ETIMEDOUT : 0;
}

static void connect_looks(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_end *end = record->desc->end;
    uint64_t delay_ns = 0;
    int obstacle = connect_obstacle(world, record, &delay_ns);

    if (obstacle != 0) {
        connect_fails(world, record, obstacle, delay_ns);
        return;
    }
    record->phase = SIM_PHASE_UNDER_WAY;
    record->event.fire = syn_arrives;
    end->local.port =
        (uint16_t)(SOURCE_PORT_FIRST + rng_below(&world->rng, 65536 - SOURCE_PORT_FIRST));
    sim_event_at(world, event, world->now_ns + end->conn->latency_ns);
}

void io_connect(struct io *io, struct io_op *op, int fd, const struct ipaddr_port *to)
{
    struct sim_op *record = sim_op_begin(io, op, fd, SIM_OP_CONNECT, connect_looks);

    if (record == NULL)
        return;
    must(record->desc->kind == SIM_DESC_SOCKET && record->desc->end->state == SIM_END_OPEN);
    record->desc->end->state = SIM_END_CONNECTING;
    record->connect.to = *to;
    record->connect.give_up_ns = io->world->now_ns + io->world->options.connect_timeout_ns;
    sim_event_at(io->world, &record->event, io->world->now_ns + sim_submit_delay(io->world));
}

int sim_connect_unix(struct io *io, const char *path, uint32_t uid, int *ret_fd)
{
    struct sim_listener *listener = sim_listener_find(io->world, &nowhere, path);
    struct sim_desc *desc;

    if (listener == NULL || listener->queue_count >= listener->backlog)
        return listener == NULL ? -ECONNREFUSED : -EAGAIN;
    desc = sim_desc_create(io->process, SIM_DESC_SOCKET);
    if (desc == NULL)
        return -EMFILE;
    desc->end = sim_end_create(io->world, NULL);
    desc->end->desc = desc;
    desc->end->conn->is_local = true;
    desc->end->conn->uid = uid;
    desc->end->conn->latency_ns = 1000;
    sim_conn_establish(desc->end, listener);
    *ret_fd = desc->fd;
    return 0;
}

/* What the closing of one end tells the other. */
static void tell_other(struct sim_end *end, bool had_unread, enum sim_close_kind kind)
{
    struct sim_world *world = end->conn->world;
    struct sim_end *other = sim_end_other(end);
    uint64_t latency_ns = end->conn->latency_ns;

    if (other->state != SIM_END_UP || end->conn->cut || end->dead)
        return;
    if (kind == SIM_CLOSE_POWER_CUT) {
        sim_cover(world, SIM_COVER_reset_by_crash);
        sim_end_reset_after(other, latency_ns + rng_below(&world->rng, POWER_CUT_SILENCE_NS));
    } else if (had_unread) {
        sim_cover(world, SIM_COVER_reset_by_unread);
        sim_end_reset_after(other, latency_ns);
    } else if (kind == SIM_CLOSE_KILLED && sim_coin(world)) {
        sim_cover(world, SIM_COVER_reset_by_crash);
        sim_end_reset_after(other, latency_ns);
    } else {
        sim_end_send_end(end);
    }
}

void sim_end_close(struct sim_end *end, enum sim_close_kind kind)
{
    struct sim_world *world = end->conn->world;
    struct sim_end *other = sim_end_other(end);
    bool was_up = end->state == SIM_END_UP;

    sim_trace(world, "end_close", end->conn->number, kind, end->in.arrived - end->in.consumed);
    must(end->send == NULL);
    sim_event_stop(world, &end->look);
    sim_event_stop(world, &end->reset);
    list_remove(&end->ready_link);
    sim_end_drop_held(end);
    end->recv = NULL;
    end->desc = NULL;
    end->state = SIM_END_CLOSED;
    if (was_up)
        tell_other(end, end->in.arrived > end->in.consumed, kind);
    if (other->state == SIM_END_NONE || other->state == SIM_END_CLOSED)
        free_conn(end->conn);
}

void sim_conn_reset(struct sim_conn *conn)
{
    struct sim_world *world = conn->world;

    conn->cut = true;
    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &conn->ends[i];
        uint64_t delay_ns = rng_below(&world->rng, conn->latency_ns + 1);

        /* Either it overtakes what is in flight, or it comes after that. */
        if (sim_coin(world) && end->in.last_at_ns > world->now_ns)
            delay_ns += end->in.last_at_ns - world->now_ns;
        sim_end_reset_after(end, delay_ns);
    }
}

static struct sim_end *up_end(struct io *io, int fd)
{
    struct sim_end *end = sim_desc_get(io->process, fd, SIM_DESC_SOCKET)->end;

    must(end->state == SIM_END_UP);
    return end;
}

void sim_reset(struct io *io, int fd)
{
    sim_conn_reset(up_end(io, fd)->conn);
}

void sim_send_end(struct io *io, int fd)
{
    sim_end_send_end(up_end(io, fd));
}
