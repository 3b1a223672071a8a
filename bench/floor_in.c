/* Who sends to the bare relay. */
#include "bench/floor_int.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <string.h>

#define BACKLOG   4096
#define OUT_BYTES 2048
#define REPLY_MAX 128

struct floor_in {
    struct floor *floor;
    int fd;
    bool in_data;
    bool awaits_commit; /* the final dot came; the 250 follows the commit */
    bool sending;
    bool crowded; /* input waits for room in `out` */
    bool held;    /* the loop keeps input that was not used */
    bool gone;    /* the client has left */
    bool closed;
    struct floor_message *message;
    struct io_recv recv;
    struct io_op send;
    struct io_op close;
    struct iovec iov;
    struct list link;
    uint16_t out_used;
    uint8_t out_which;
    char out[2][OUT_BYTES];
    struct smtp_data data;
    struct smtp_lines lines;
};

static void put_reply(struct floor_in *in, const char *text, size_t len)
{
    must(in->out_used + len <= OUT_BYTES);
    memcpy(in->out[in->out_which] + in->out_used, text, len);
    in->out_used = (uint16_t)(in->out_used + len);
    if (list_empty(&in->link))
        list_push_back(&in->floor->talkative, &in->link);
}

#define put_reply_literal(in, text) put_reply((in), text "\r\n", sizeof(text "\r\n") - 1)

static void on_closed(struct io_op *op, int32_t result)
{
    mem_free(container_of(op, struct floor_in, close));
}

static void close_in(struct floor_in *in)
{
    if (in->closed)
        return;
    in->closed = true;
    list_remove(&in->link);
    if (in->message != NULL)
        floor_message_free(in->floor, in->message);
    io_close(in->floor->io, &in->close, in->fd);
}

static void add_line(struct floor_in *in, struct slice line)
{
    in->message = floor_message_add(in->floor, in->message, line.data, line.len);
    in->message = floor_message_add(in->floor, in->message, "\r\n", 2);
}

static void on_command(struct floor_in *in, struct slice line)
{
    enum smtp_verb verb = smtp_verb_of(line);

    if (verb == SMTP_EHLO) {
        put_reply_literal(in, "250-floor.test\r\n250-PIPELINING\r\n250 8BITMIME");
    } else if (verb == SMTP_MAIL && in->message == NULL) {
        in->message = floor_message_new(in->floor);
        add_line(in, line);
        put_reply_literal(in, "250 2.1.0 Ok");
    } else if (verb == SMTP_RCPT && in->message != NULL) {
        add_line(in, line);
        in->message->rcpts++;
        put_reply_literal(in, "250 2.1.5 Ok");
    } else if (verb == SMTP_DATA && in->message != NULL && in->message->rcpts > 0) {
        add_line(in, line);
        in->message->envelope_bytes = in->message->used;
        in->in_data = true;
        smtp_data_init(&in->data);
        put_reply_literal(in, "354 Go ahead");
    } else if (verb == SMTP_QUIT) {
        close_in(in);
    } else {
        put_reply_literal(in, "503 5.5.1 Not here");
    }
}

/* The content is kept as it came, dots and all; only its end is looked for. */
static void take_data(struct floor_in *in, struct slice *rest)
{
    const uint8_t *start = rest->data;
    enum smtp_data_answer answer = SMTP_DATA_MORE;
    struct slice span;

    while (rest->len > 0 && answer == SMTP_DATA_MORE)
        answer = smtp_data_next(&in->data, rest, &span);
    in->message = floor_message_add(in->floor, in->message, start, (size_t)(rest->data - start));
    if (answer == SMTP_DATA_MORE)
        return;
    in->in_data = false;
    in->awaits_commit = true;
    in->message->from = in;
    list_push_back(&in->floor->waiting, &in->message->link);
    in->message = NULL;
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct floor_in *in = container_of(recv, struct floor_in, recv);
    struct slice rest = {data, len};
    struct slice line;

    while (rest.len > 0 && !in->awaits_commit && !in->closed) {
        in->crowded = OUT_BYTES - in->out_used < REPLY_MAX;
        if (in->crowded)
            break;
        if (in->in_data)
            take_data(in, &rest);
        else if (smtp_next_line(&in->lines, &rest, &line))
            on_command(in, line);
    }
    in->held = rest.len > 0;
    return len - rest.len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct floor_in *in = container_of(recv, struct floor_in, recv);

    /* The message that is being committed still points here. */
    if (in->awaits_commit)
        in->gone = true;
    else
        close_in(in);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct floor_in *in = container_of(op, struct floor_in, send);

    in->sending = false;
    if (in->closed)
        return;
    if (result >= 0 && in->out_used > 0 && list_empty(&in->link))
        list_push_back(&in->floor->talkative, &in->link);
}

void floor_in_accepted(struct floor_in *in)
{
    in->awaits_commit = false;
    if (in->gone) {
        close_in(in);
        return;
    }
    put_reply_literal(in, "250 2.0.0 Ok");
    if (in->held)
        io_recv_resume(in->floor->io, &in->recv);
}

void floor_in_flush_all(struct floor *floor)
{
    struct list *node;

    while ((node = list_pop_front(&floor->talkative)) != NULL) {
        struct floor_in *in = container_of(node, struct floor_in, link);

        if (in->sending || in->out_used == 0)
            continue;
        in->iov = (struct iovec){in->out[in->out_which], in->out_used};
        in->out_which ^= 1;
        in->out_used = 0;
        in->sending = true;
        io_send(floor->io, &in->send, in->fd, &in->iov, 1);
        if (in->crowded && in->held)
            io_recv_resume(floor->io, &in->recv);
        in->crowded = false;
    }
}

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct floor *floor = container_of(accept, struct floor, accept);
    struct floor_in *in;

    if (fd < 0) {
        floor_fail(floor, "cannot accept", fd);
        return;
    }
    in = mem_alloc(sizeof(*in));
    in->floor = floor;
    in->fd = fd;
    in->recv.on_data = on_data;
    in->recv.on_end = on_end;
    io_op_init(&in->send, on_sent);
    io_op_init(&in->close, on_closed);
    list_init(&in->link);
    io_recv_start(floor->io, &in->recv, fd);
    put_reply_literal(in, "220 floor.test ESMTP");
}

int floor_in_listen(struct floor *floor)
{
    int error = io_listen(floor->io, &floor->options->listen, BACKLOG, &floor->listen_fd);

    if (error < 0)
        return error;
    floor->accept.on_accept = on_accept;
    io_accept_start(floor->io, &floor->accept, floor->listen_fd);
    return 0;
}
