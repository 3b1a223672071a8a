/* Where the bare relay's mail goes. */
#include "bench/floor_int.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>

/*
 * One flight ends message n (its content) and begins n+1 (its envelope), so a busy connection needs
 * one round trip a message.
 */
struct floor_out {
    struct floor *floor;
    int fd;
    bool greeted;
    bool open; /* EHLO was answered */
    bool sending;
    bool content_wanted;           /* 354 came */
    struct floor_message *ending;  /* content sent, reply awaited */
    struct floor_message *opening; /* envelope sent */
    uint32_t envelope_awaited;     /* replies */
    struct io_recv recv;
    struct io_op connect;
    struct io_op send;
    struct iovec iov[2];
    struct list link; /* idle or eager */
    struct smtp_lines lines;
};

static void make_eager(struct floor_out *out)
{
    list_remove(&out->link);
    list_push_back(&out->floor->eager, &out->link);
}

static void on_delivered(struct floor_out *out)
{
    struct floor *floor = out->floor;

    floor->undelivered_bytes -= out->ending->used;
    floor->shared->messages++;
    floor_message_free(floor, out->ending);
    out->ending = NULL;
}

static void on_reply(struct floor_out *out, struct slice line)
{
    char wanted = '2';

    if (line.len < 3) {
        floor_fail(out->floor, "no reply", -EPROTO);
        return;
    }
    if (line.len > 3 && line.data[3] == '-')
        return;
    if (out->open && out->ending == NULL && out->envelope_awaited == 1)
        wanted = '3';
    if (line.data[0] != wanted) {
        floor_fail(out->floor, "refused", E_REFUSED);
        return;
    }
    if (!out->greeted) {
        out->greeted = true;
        out->iov[0] = (struct iovec){(void *)"EHLO floor.test\r\n", 17};
        out->sending = true;
        io_send(out->floor->io, &out->send, out->fd, out->iov, 1);
    } else if (!out->open) {
        out->open = true;
    } else if (out->ending != NULL) {
        on_delivered(out);
    } else {
        out->envelope_awaited--;
        out->content_wanted = out->envelope_awaited == 0;
    }
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct floor_out *out = container_of(recv, struct floor_out, recv);
    struct slice rest = {data, len};
    struct slice line;

    while (out->floor->error == 0 && smtp_next_line(&out->lines, &rest, &line))
        on_reply(out, line);
    make_eager(out);
    return len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct floor_out *out = container_of(recv, struct floor_out, recv);

    floor_fail(out->floor, "a connection to the sink was lost", reason < 0 ? reason : E_CLOSED);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct floor_out *out = container_of(op, struct floor_out, send);

    out->sending = false;
    if (result < 0)
        floor_fail(out->floor, "cannot send", result);
    make_eager(out);
}

static void flush(struct floor_out *out)
{
    struct floor *floor = out->floor;
    uint32_t count = 0;

    if (out->sending || !out->open)
        return;
    if (out->content_wanted) {
        struct floor_message *message = out->opening;

        out->content_wanted = false;
        out->iov[count++] = (struct iovec){message->bytes + message->envelope_bytes,
                                           message->used - message->envelope_bytes};
        out->ending = message;
        out->opening = NULL;
    }
    if (out->opening == NULL && !list_empty(&floor->ready)) {
        out->opening = container_of(list_pop_front(&floor->ready), struct floor_message, link);
        out->iov[count++] = (struct iovec){out->opening->bytes, out->opening->envelope_bytes};
        out->envelope_awaited = out->opening->rcpts + 2;
    }
    if (count > 0) {
        out->sending = true;
        io_send(floor->io, &out->send, out->fd, out->iov, count);
    } else if (out->opening == NULL && out->ending == NULL) {
        list_push_back(&floor->idle, &out->link);
    }
}

void floor_out_flush_all(struct floor *floor)
{
    struct list *node;

    while ((node = list_pop_front(&floor->eager)) != NULL)
        flush(container_of(node, struct floor_out, link));
    while (!list_empty(&floor->ready) && (node = list_pop_front(&floor->idle)) != NULL)
        flush(container_of(node, struct floor_out, link));
}

static void on_connected(struct io_op *op, int32_t result)
{
    struct floor_out *out = container_of(op, struct floor_out, connect);

    if (result < 0)
        floor_fail(out->floor, "cannot connect to the sink", result);
    else
        io_recv_start(out->floor->io, &out->recv, out->fd);
}

void floor_out_connect_all(struct floor *floor)
{
    const struct floor_options *options = floor->options;

    floor->outs = mem_alloc(options->connections * sizeof(*floor->outs));
    for (uint32_t i = 0; i < options->connections; i++) {
        struct floor_out *out = &floor->outs[i];
        struct ipaddr source = {.family = IPADDR_V4};
        int error;

        out->floor = floor;
        out->recv.on_data = on_data;
        out->recv.on_end = on_end;
        io_op_init(&out->connect, on_connected);
        io_op_init(&out->send, on_sent);
        list_init(&out->link);
        if (options->source_count > 0)
            source = options->sources[i % options->source_count];
        error = io_socket_open(floor->io, &source, &out->fd);
        if (error < 0) {
            floor_fail(floor, "no socket", error);
            return;
        }
        io_connect(floor->io, &out->connect, out->fd,
                   &options->targets[i / (options->source_count > 0 ? options->source_count : 1) %
                                     options->target_count]);
    }
}
