/*
 * core/io/io.h in the simulator: turns, operations, and the calls on sockets. Files are in
 * sim_disk.c. Starting an operation only schedules the moment at which the kernel would see it, so
 * that memory that changes or goes in between is noticed.
 */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <errno.h>

/* ---- Turns ----------------------------------------------------------------------------------- */

static void run_completions(struct io *io)
{
    struct list *node;

    /* Callbacks cannot add to the list: completions come from events, between turns. */
    while ((node = list_pop_front(&io->completed)) != NULL) {
        struct sim_op *record = container_of(node, struct sim_op, link);
        struct io_op *op = record->op;
        struct sim_desc *desc = record->desc;
        int32_t result = record->result;
        bool is_close = record->kind == SIM_OP_CLOSE;

        sim_trace(io->world, "done", io->number, record->kind, (uint64_t)(int64_t)result);
        sim_op_free(io->world, record);
        op->in_flight = false;
        if (desc != NULL && is_close)
            sim_desc_free(desc);
        else if (desc != NULL)
            sim_desc_settle(desc);
        io_loop_count(&io->loop.stats.completions, 1);
        op->done(op, result);
    }
}

static void run_receives(struct io *io)
{
    struct list *node;

    /* What becomes ready by these callbacks waits for the next turn. */
    while ((node = list_pop_front(&io->ready_ends)) != NULL)
        list_push_back(&io->batch_ends, node);
    while ((node = list_pop_front(&io->batch_ends)) != NULL) {
        io_loop_count(&io->loop.stats.completions, 1);
        sim_end_deliver(container_of(node, struct sim_end, ready_link));
    }
}

static void end_accept(struct sim_listener *listener, int32_t reason)
{
    struct io_accept *accept = listener->accept;

    listener->accept = NULL;
    listener->accept_stopping = false;
    list_remove(&listener->ready_link);
    accept->op.in_flight = false;
    sim_desc_settle(listener->desc);
    accept->on_accept(accept, reason);
}

static void accept_one(struct io *io, struct sim_listener *listener)
{
    struct sim_end *end =
        container_of(list_pop_front(&listener->queue), struct sim_end, accept_link);
    struct sim_desc *desc = NULL;

    if (!sim_fault(io->world, SIM_COVER_accept_failed))
        desc = sim_desc_create(io->process, SIM_DESC_SOCKET);
    if (desc == NULL) {
        list_push_front(&listener->queue, &end->accept_link);
        end_accept(listener, -EMFILE);
        return;
    }
    listener->queue_count--;
    end->listener = NULL;
    end->desc = desc;
    desc->end = end;
    sim_trace(io->world, "accept", io->number, end->conn->number, (uint64_t)desc->fd);
    listener->accept->on_accept(listener->accept, desc->fd);
}

/* Connections that came while the accept was being stopped may be lost, as io.h says. */
static void stop_accept(struct io *io, struct sim_listener *listener)
{
    if (sim_coin(io->world)) {
        for (uint32_t left = listener->queue_count; left > 0; left--)
            sim_cover(io->world, SIM_COVER_accept_dropped);
        sim_listener_drop_queue(listener);
    }
    end_accept(listener, -ECANCELED);
}

static void run_accepts(struct io *io)
{
    struct list *node;

    while ((node = list_pop_front(&io->ready_accepts)) != NULL) {
        struct sim_listener *listener = container_of(node, struct sim_listener, ready_link);

        io_loop_count(&io->loop.stats.completions, 1);
        while (listener->accept != NULL && !listener->accept_stopping &&
               !list_empty(&listener->queue))
            accept_one(io, listener);
        if (listener->accept != NULL && listener->accept_stopping)
            stop_accept(io, listener);
    }
}

/* The kinds of completions come in any order, as they do from a ring. */
static void reap(struct io *io)
{
    static void (*const runs[3])(struct io * io) = {run_completions, run_receives, run_accepts};
    uint64_t first = rng_below(&io->world->rng, 3);
    uint64_t step = 1 + rng_below(&io->world->rng, 2);

    for (uint64_t i = 0; i < 3; i++)
        runs[(first + i * step) % 3](io);
}

static bool has_completions(const struct io *io)
{
    return !list_empty(&io->completed) || !list_empty(&io->ready_ends) ||
           !list_empty(&io->ready_accepts);
}

/* Lets the world go on until this loop has something to do, or wait_ns are over. */
static void wait_for_events(struct io *io, uint64_t wait_ns)
{
    struct sim_world *world = io->world;
    uint64_t end_ns = wait_ns < UINT64_MAX - world->now_ns ? world->now_ns + wait_ns : UINT64_MAX;

    while (io->runnable_slot == 0 && world->now_ns < end_ns) {
        uint64_t next_ns = world->queue.count > 0 ? world->queue.heap[0]->at_ns : UINT64_MAX;

        /* Nothing will ever wake it: waiting without a limit would be for ever. */
        must(next_ns != UINT64_MAX || end_ns != UINT64_MAX);
        sim_clock_move(world, next_ns < end_ns ? next_ns : end_ns);
        sim_events_fire(world);
    }
}

static void end_turn(struct io *io, uint64_t wait_ns)
{
    struct sim_world *world = io->world;
    uint64_t timer_ns = io_loop_next_timer_ns(&io->loop);

    if (timer_ns == UINT64_MAX)
        sim_event_stop(world, &io->timer);
    else if (!sim_event_is_set(&io->timer) || io->timer.at_ns != timer_ns)
        sim_event_at(world, &io->timer, timer_ns);
    io_loop_count(&io->loop.stats.system_calls, 1);
    if (has_completions(io) || !io_loop_sleep_begin(&io->loop)) {
        sim_io_ready(io);
        return;
    }
    io_loop_count(&io->loop.stats.sleeps, 1);
    sim_io_asleep(io);
    if (wait_ns > 0)
        wait_for_events(io, wait_ns);
}

void io_turn(struct io *io, uint64_t wait_ns)
{
    struct sim_world *world = io->world;
    uint64_t cost_ns = sim_between(world, world->options.turn_min_ns, world->options.turn_max_ns);
    struct sim_mem_tag *outer;
    bool nested = world->entered == io->process;

    must(nested || world->entered == NULL);
    if (!nested)
        sim_events_fire(world);
    world->entered = io->process;
    outer = sim_mem_switch(&io->process->memory);
    if (!nested)
        world->outer_memory = outer;
    io_loop_sleep_end(&io->loop);
    io_loop_set_clock(&io->loop, world->now_ns, sim_wall_us(world));
    reap(io);
    io_loop_phases(&io->loop);
    io_loop_count(&io->loop.stats.busy_ns, cost_ns);
    sim_mem_switch(outer);
    if (!nested)
        world->entered = NULL;
    sim_clock_move(world, world->now_ns + cost_ns);
    end_turn(io, wait_ns);
}

void io_wake(struct io *target, struct io *from)
{
    sim_trace(target->world, "wake", target->number, from != NULL ? from->number : 0, 0);
    sim_io_ready(target);
}

int io_doorbell_open(void)
{
    return -ENOSYS;
}

/* ---- Operations ------------------------------------------------------------------------------ */

/* An operation finds its record by a field that nobody else needs here. */
static struct sim_op *record_of(const struct io_op *op)
{
    return (struct sim_op *)(uintptr_t)op->offset;
}

struct sim_op *sim_op_begin(struct io *io, struct io_op *op, int fd, enum sim_op_kind kind,
                            void (*fire)(struct sim_world *world, struct sim_event *event))
{
    struct sim_desc *desc = sim_desc_find(io->process, fd);
    struct sim_op *record = sim_alloc(sizeof(*record));

    must(!op->in_flight && op->done != NULL);
    /* Nothing may be started on what is being closed. */
    must(desc == NULL || (desc->close == NULL && desc->kind != SIM_DESC_CLOSED));
    record->op = op;
    record->io = io;
    record->desc = desc;
    record->kind = kind;
    record->event.fire = fire;
    list_init(&record->link);
    op->in_flight = true;
    op->fd = fd;
    op->offset = (uintptr_t)record;
    sim_trace(io->world, "op", io->number, kind, (uint64_t)fd);
    if (desc == NULL) {
        list_push_back(&io->process->strays, &record->desc_link);
        sim_op_end(io->world, record, -EBADF, sim_submit_delay(io->world));
        return NULL;
    }
    list_push_back(&desc->ops, &record->desc_link);
    if (kind == SIM_OP_CLOSE)
        desc->close = record;
    else
        desc->op_count++;
    return record;
}

static void completion_arrives(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);

    record->phase = SIM_PHASE_COMPLETED;
    list_push_back(&record->io->completed, &record->link);
    sim_io_ready(record->io);
}

void sim_op_end(struct sim_world *world, struct sim_op *record, int32_t result, uint64_t delay_ns)
{
    must(record->phase < SIM_PHASE_ENDING);
    record->phase = SIM_PHASE_ENDING;
    record->result = result;
    record->event.fire = completion_arrives;
    sim_event_at(world, &record->event, world->now_ns + delay_ns);
}

void sim_op_free(struct sim_world *world, struct sim_op *record)
{
    sim_event_stop(world, &record->event);
    list_remove(&record->desc_link);
    list_remove(&record->link);
    if (record->kind == SIM_OP_WRITE)
        sim_free(record->disk.copy);
    if (record->kind == SIM_OP_SEND && record->desc != NULL &&
        record->desc->kind == SIM_DESC_SOCKET && record->desc->end->send == record)
        record->desc->end->send = NULL;
    sim_free(record);
}

void sim_op_cancel(struct sim_world *world, struct sim_op *record)
{
    bool on_disk = record->kind >= SIM_OP_READ;

    if (record->kind == SIM_OP_CLOSE || record->cancelled)
        return;
    record->cancelled = true;
    /* What the disk has begun it finishes; and a cancel may come a moment too late anywhere. */
    if (record->phase >= SIM_PHASE_ENDING ||
        (on_disk && (record->phase != SIM_PHASE_SUBMITTED || sim_coin(world)))) {
        sim_cover(world, SIM_COVER_cancel_lost);
        return;
    }
    sim_cover(world, SIM_COVER_cancel_won);
    if (record->kind == SIM_OP_SEND && record->desc->end->send == record)
        record->desc->end->send = NULL;
    sim_op_end(world, record, -ECANCELED, sim_submit_delay(world));
}

void io_cancel(struct io *io, struct io_op *op)
{
    if (op->in_flight)
        sim_op_cancel(io->world, record_of(op));
}

/* ---- Close ----------------------------------------------------------------------------------- */

void sim_desc_close(struct sim_desc *desc)
{
    must(desc->op_count == 0);
    switch (desc->kind) {
    case SIM_DESC_SOCKET:
        sim_end_close(desc->end, SIM_CLOSE_ORDERLY);
        break;
    case SIM_DESC_LISTENER:
        sim_listener_close(desc->listener);
        break;
    case SIM_DESC_FILE:
        sim_file_close(desc->file);
        break;
    case SIM_DESC_CLOSED:
        must(false);
    }
    desc->kind = SIM_DESC_CLOSED;
}

static void close_looks(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);

    sim_desc_close(record->desc);
    sim_op_end(world, record, 0, sim_submit_delay(world));
}

/* The close goes on by an event, so the last callback of others has returned by then. */
void sim_desc_settle(struct sim_desc *desc)
{
    struct sim_world *world = desc->process->world;

    must(desc->op_count > 0);
    if (--desc->op_count == 0 && desc->close != NULL)
        sim_event_at(world, &desc->close->event, world->now_ns + sim_submit_delay(world));
}

static void ready_end(struct sim_end *end)
{
    list_remove(&end->ready_link);
    list_push_back(&end->recv_io->ready_ends, &end->ready_link);
    sim_io_ready(end->recv_io);
}

static void ready_listener(struct sim_listener *listener)
{
    list_remove(&listener->ready_link);
    list_push_back(&listener->accept_io->ready_accepts, &listener->ready_link);
    sim_io_ready(listener->accept_io);
}

void io_close(struct io *io, struct io_op *op, int fd)
{
    struct sim_op *record = sim_op_begin(io, op, fd, SIM_OP_CLOSE, close_looks);
    struct sim_desc *desc;

    if (record == NULL)
        return;
    desc = record->desc;
    list_for_each (node, &desc->ops)
        sim_op_cancel(io->world, container_of(node, struct sim_op, desc_link));
    if (desc->kind == SIM_DESC_SOCKET && desc->end->recv != NULL) {
        desc->end->recv->stopping = true;
        ready_end(desc->end);
    }
    if (desc->kind == SIM_DESC_LISTENER && desc->listener->accept != NULL) {
        desc->listener->accept_stopping = true;
        ready_listener(desc->listener);
    }
    if (desc->op_count == 0)
        sim_event_at(io->world, &record->event, io->world->now_ns + sim_submit_delay(io->world));
}

void io_close_now(struct io *io, int fd)
{
    struct sim_desc *desc = sim_desc_find(io->process, fd);

    must(desc != NULL && desc->close == NULL);
    sim_trace(io->world, "close_now", io->number, (uint64_t)fd, 0);
    sim_desc_close(desc);
    sim_desc_free(desc);
}

/* ---- Sockets --------------------------------------------------------------------------------- */

void io_accept_start(struct io *io, struct io_accept *accept, int listen_fd)
{
    struct sim_desc *desc = sim_desc_get(io->process, listen_fd, SIM_DESC_LISTENER);
    struct sim_listener *listener = desc->listener;

    must(listener->accept == NULL && desc->close == NULL && !accept->op.in_flight);
    listener->accept = accept;
    listener->accept_io = io;
    accept->op.in_flight = true;
    accept->op.fd = listen_fd;
    desc->op_count++;
    if (!list_empty(&listener->queue))
        ready_listener(listener);
}

void io_accept_stop(struct io *io, struct io_accept *accept)
{
    struct sim_listener *listener;

    if (!accept->op.in_flight)
        return;
    listener = sim_desc_get(io->process, accept->op.fd, SIM_DESC_LISTENER)->listener;
    must(listener->accept == accept && listener->accept_io == io);
    listener->accept_stopping = true;
    ready_listener(listener);
}

static struct sim_end *end_at(struct io *io, int fd)
{
    struct sim_desc *desc = sim_desc_find(io->process, fd);

    return desc != NULL && desc->kind == SIM_DESC_SOCKET ? desc->end : NULL;
}

int io_peer_address(struct io *io, int fd, struct ipaddr_port *ret_at)
{
    struct sim_end *end = end_at(io, fd);

    if (end == NULL)
        return -ENOTSOCK;
    if (end->state != SIM_END_UP)
        return -ENOTCONN;
    *ret_at = sim_end_other(end)->local;
    return 0;
}

int io_local_address(struct io *io, int fd, struct ipaddr_port *ret_at)
{
    struct sim_desc *desc = sim_desc_find(io->process, fd);

    if (desc != NULL && desc->kind == SIM_DESC_LISTENER)
        *ret_at = desc->listener->at;
    else if (desc != NULL && desc->kind == SIM_DESC_SOCKET)
        *ret_at = desc->end->local;
    else
        return -ENOTSOCK;
    return 0;
}

int io_peer_uid(struct io *io, int fd, uint32_t *ret_uid)
{
    struct sim_end *end = end_at(io, fd);

    if (end == NULL || !end->conn->is_local)
        return -ENOTSOCK;
    *ret_uid = end->conn->uid;
    return 0;
}

static void send_looks(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_end *end = record->desc->end;

    record->phase = SIM_PHASE_UNDER_WAY;
    if (end->state != SIM_END_UP) {
        sim_op_end(world, record, -ENOTCONN, 0);
        return;
    }
    must(end->send == NULL);
    end->send = record;
    sim_end_pump(end);
}

void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, uint32_t iov_count)
{
    struct sim_op *record = sim_op_begin(io, op, fd, SIM_OP_SEND, send_looks);
    uint64_t total = 0;

    if (record == NULL)
        return;
    must(record->desc->kind == SIM_DESC_SOCKET);
    list_for_each (node, &record->desc->ops) {
        struct sim_op *other = container_of(node, struct sim_op, desc_link);

        /* One send at a time. */
        must(other == record || other->kind != SIM_OP_SEND);
    }
    for (uint32_t i = 0; i < iov_count; i++)
        total += iov[i].iov_len;
    must(total <= INT32_MAX);
    record->send.iov = iov;
    record->send.iov_count = iov_count;
    record->send.total = (uint32_t)total;
    sim_event_at(io->world, &record->event, io->world->now_ns + sim_submit_delay(io->world));
}

/* ---- Receives -------------------------------------------------------------------------------- */

void io_recv_start(struct io *io, struct io_recv *recv, int fd)
{
    struct sim_desc *desc = sim_desc_get(io->process, fd, SIM_DESC_SOCKET);
    struct sim_end *end = desc->end;

    must(end->recv == NULL && desc->close == NULL && end->state == SIM_END_UP);
    must(recv->on_data != NULL && recv->on_end != NULL);
    recv->paused = false;
    recv->stopping = false;
    recv->active = true;
    recv->op.in_flight = true;
    recv->op.fd = fd;
    end->recv = recv;
    end->recv_io = io;
    desc->op_count++;
    sim_event_at(io->world, &end->look, io->world->now_ns + sim_submit_delay(io->world));
}

static struct sim_end *end_of_recv(struct io *io, struct io_recv *recv)
{
    struct sim_end *end = sim_desc_get(io->process, recv->op.fd, SIM_DESC_SOCKET)->end;

    must(end->recv == recv && end->recv_io == io);
    return end;
}

void io_recv_pause(struct io *io, struct io_recv *recv)
{
    recv->paused = true;
}

void io_recv_resume(struct io *io, struct io_recv *recv)
{
    if (!recv->paused)
        return;
    recv->paused = false;
    if (recv->active)
        ready_end(end_of_recv(io, recv));
}

void io_recv_stop(struct io *io, struct io_recv *recv)
{
    if (!recv->active)
        return;
    recv->stopping = true;
    ready_end(end_of_recv(io, recv));
}
