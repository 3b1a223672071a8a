/* One connection of the generator. */
#include "bench/gen_int.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <string.h>

#define RECONNECT_NS    100000000ull
#define RETRY_NS        100000000ull
#define COMMANDS_FIXED  256 /* RSET, MAIL, DATA, QUIT or EHLO */
#define COMMANDS_A_RCPT 64

static void lose(struct gen_session *session, int code);

void gen_session_init(struct gen *gen, struct gen_session *session, uint32_t index)
{
    session->gen = gen;
    session->index = index;
    session->fd = -1;
    session->commands_room = COMMANDS_FIXED + COMMANDS_A_RCPT * (uint32_t)gen->options->rcpts;
    session->commands = mem_alloc(session->commands_room);
    for (int i = 0; i < 2; i++) {
        session->messages[i].rcpt_states = mem_alloc(gen->options->rcpts);
        session->messages[i].head = mem_alloc(MESSAGE_HEAD_MAX);
    }
    list_init(&session->link);
}

static void want_flush(struct gen_session *session)
{
    list_remove(&session->link);
    list_push_back(&session->gen->unflushed, &session->link);
}

static void update_busy(struct gen_session *session)
{
    bool is_busy = session->opening != NULL || session->ending != NULL;

    if (is_busy != session->is_busy)
        session->gen->busy_sessions += is_busy ? 1 : UINT32_MAX;
    session->is_busy = is_busy;
}

/* ---- What becomes of a message -------------------------------------------------------------- */

static void release(struct gen_session *session, struct gen_message *message)
{
    message->in_use = false;
    if (session->ending == message)
        session->ending = NULL;
    if (session->opening == message)
        session->opening = NULL;
    update_busy(session);
}

static void settle_rcpts(struct gen *gen, struct gen_message *message, enum ledger_given given)
{
    for (uint32_t k = 0; k < gen->options->rcpts; k++) {
        if (message->rcpt_states[k] == LEDGER_ACCEPTED)
            ledger_give(gen->ledger, message->number, k, given);
    }
}

static void file_rcpts(struct gen *gen, struct gen_message *message, char letter)
{
    for (uint32_t k = 0; k < gen->options->rcpts; k++) {
        if (message->rcpt_states[k] == LEDGER_ACCEPTED)
            ledger_file_add(&gen->file, letter, gen->options->run, message->number, k);
    }
}

/* Not accepted this time: for good after a 5xx, else it is sent again later. */
static void reject(struct gen_session *session, struct gen_message *message, bool for_good)
{
    struct gen *gen = session->gen;
    uint64_t now = io_now_ns(gen->io);

    gen->last_progress_ns = now;
    if (for_good) {
        for (uint32_t k = 0; k < gen->options->rcpts; k++)
            ledger_give(gen->ledger, message->number, k, LEDGER_REFUSED);
        gen->shared->refused++;
    } else {
        settle_rcpts(gen, message, LEDGER_NOT_GIVEN);
        gen->shared->deferred++;
        gen_put_back(gen, message->number, now + RETRY_NS, message->from_ns);
    }
    release(session, message);
}

static void on_dot_reply(struct gen_session *session, char reply_class)
{
    struct gen *gen = session->gen;
    struct gen_message *message = session->ending;
    uint64_t now = io_now_ns(gen->io);

    if (message->rcpts_ok == 0) {
        reject(session, message, message->refused);
        return;
    }
    if (reply_class != '2') {
        reject(session, message, reply_class == '5');
        return;
    }
    settle_rcpts(gen, message, LEDGER_ACCEPTED);
    if (gen->file.fd >= 0)
        file_rcpts(gen, message, 'a');
    histogram_record(&gen->shared->latency, now - message->from_ns);
    __atomic_store_n(&gen->shared->accepted, gen->shared->accepted + 1, __ATOMIC_RELAXED);
    gen->shared->end_ns = now;
    gen->last_progress_ns = now;
    release(session, message);
}

/* ---- Replies ------------------------------------------------------------------------------- */

static void abandon_envelope(struct gen_session *session)
{
    struct gen_message *message = session->opening;

    session->needs_rset = true;
    reject(session, message, message->refused && !message->deferred);
}

static void on_mail_reply(struct gen_session *session, char reply_class)
{
    if (reply_class == '2')
        return;
    session->opening->refused = reply_class == '5';
    session->opening->deferred = reply_class != '5';
    session->opening->mail_failed = true;
    if (!session->pipelining)
        abandon_envelope(session);
}

static void on_rcpt_reply(struct gen_session *session, uint32_t k, char reply_class)
{
    struct gen_message *message = session->opening;

    /* Behind a refused MAIL the replies only say that the order is wrong. */
    if (!message->mail_failed) {
        if (reply_class == '2') {
            message->rcpt_states[k] = LEDGER_ACCEPTED;
            message->rcpts_ok++;
        } else if (reply_class == '5') {
            ledger_give(session->gen->ledger, message->number, k, LEDGER_REFUSED);
            message->refused = true;
        } else {
            message->deferred = true;
        }
    }
    if (!session->pipelining && session->lockstep_next > session->gen->options->rcpts &&
        message->rcpts_ok == 0)
        abandon_envelope(session);
}

static void on_data_reply(struct gen_session *session, char reply_class)
{
    struct gen_message *message = session->opening;

    if (reply_class == '3') {
        session->body_wanted = true;
        return;
    }
    if (message->rcpts_ok > 0) {
        message->refused = reply_class == '5';
        message->deferred = reply_class != '5';
    }
    abandon_envelope(session);
}

/* Replies come in the order of the commands. False: this one answers nothing. */
static bool on_transaction_reply(struct gen_session *session, char reply_class)
{
    struct gen_awaited *awaited = &session->awaited;

    if (awaited->dot) {
        awaited->dot = false;
        on_dot_reply(session, reply_class);
    } else if (awaited->rset) {
        awaited->rset = false;
    } else if (awaited->mail) {
        awaited->mail = false;
        on_mail_reply(session, reply_class);
    } else if (awaited->rcpt_next < awaited->rcpt_end) {
        on_rcpt_reply(session, awaited->rcpt_next++, reply_class);
    } else if (awaited->data) {
        awaited->data = false;
        on_data_reply(session, reply_class);
    } else {
        return false;
    }
    return true;
}

static void on_ehlo_line(struct gen_session *session, struct slice line, bool is_last)
{
    struct slice word = slice_after(line, 4);

    if (slice_equal_nocase(word, SLICE_LITERAL("PIPELINING")))
        session->pipelining = session->gen->options->pipelining != GEN_LOCKSTEP;
    else if (slice_starts_nocase(word, SLICE_LITERAL("SIZE")))
        session->size_offered = true;
    if (is_last)
        session->state = GEN_READY;
}

static void on_reply_line(struct gen_session *session, struct slice line)
{
    bool is_last = line.len == 3 || (line.len > 3 && line.data[3] == ' ');

    if (line.len < 3 || (!is_last && line.data[3] != '-')) {
        lose(session, -EPROTO);
        return;
    }
    if (line.data[0] == '4' && memcmp(line.data, "421", 3) == 0)
        session->told_to_go = true;
    switch (session->state) {
    case GEN_GREETING:
        if (line.data[0] != '2')
            lose(session, -ECONNREFUSED);
        else if (is_last)
            session->state = GEN_EHLO;
        break;
    case GEN_EHLO:
        if (line.data[0] != '2')
            lose(session, -ECONNREFUSED);
        else if (line.len > 4)
            on_ehlo_line(session, line, is_last);
        break;
    case GEN_READY:
        if (is_last && !on_transaction_reply(session, (char)line.data[0]) && !session->told_to_go)
            lose(session, -EPROTO);
        break;
    default:
        break;
    }
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct gen_session *session = container_of(recv, struct gen_session, recv);
    struct slice rest = {data, len};
    struct slice line;

    while (!session->closing && smtp_next_line(&session->lines, &rest, &line))
        on_reply_line(session, line);
    if (!session->closing)
        want_flush(session);
    return len;
}

/* ---- Flights ------------------------------------------------------------------------------- */

static struct gen_message *free_message(struct gen_session *session)
{
    return session->messages[0].in_use ? &session->messages[1] : &session->messages[0];
}

static bool may_open(const struct gen_session *session)
{
    const struct gen_options *options = session->gen->options;

    if (session->opening != NULL || session->told_to_go)
        return false;
    if (session->ending != NULL && (options->pipelining != GEN_FULL || !session->pipelining))
        return false;
    return options->per_connection == 0 || session->on_connection < options->per_connection;
}

static void open_message(struct gen_session *session)
{
    struct gen_message *message = free_message(session);
    uint64_t number;
    uint64_t from_ns;

    if (!gen_take_number(session->gen, &number, &from_ns))
        return;
    must(!message->in_use);
    message->in_use = true;
    message->number = number;
    message->from_ns = from_ns;
    message->refused = false;
    message->deferred = false;
    message->mail_failed = false;
    message->rcpts_ok = 0;
    memset(message->rcpt_states, LEDGER_NOT_GIVEN, session->gen->options->rcpts);
    session->opening = message;
    session->lockstep_next = 0;
    update_busy(session);
}

static void put_mail(struct gen_session *session, struct smtp_text *text)
{
    struct gen *gen = session->gen;

    if (session->needs_rset) {
        smtp_put_literal(text, "RSET\r\n");
        session->needs_rset = false;
        session->awaited.rset = true;
    }
    smtp_put_literal(text, "MAIL FROM:<bounce@sender.test>");
    if (session->size_offered) {
        smtp_put_literal(text, " SIZE=");
        smtp_put_u64(text, gen_body_of(gen, session->opening->number)->message_bytes);
    }
    smtp_put_literal(text, "\r\n");
    session->awaited.mail = true;
}

/* Command `step` of the envelope: MAIL, the recipients, DATA. */
static void put_command(struct gen_session *session, uint32_t step, struct smtp_text *text)
{
    struct gen *gen = session->gen;

    if (step == 0) {
        put_mail(session, text);
        session->awaited.rcpt_next = 0;
        session->awaited.rcpt_end = 0;
    } else if (step <= gen->options->rcpts) {
        smtp_put_literal(text, "RCPT TO:<");
        message_put_rcpt(text, &gen->message, session->opening->number, step - 1);
        smtp_put_literal(text, ">\r\n");
        session->awaited.rcpt_end = step;
    } else {
        smtp_put_literal(text, "DATA\r\n");
        session->awaited.data = true;
    }
}

static bool awaits_envelope(const struct gen_awaited *awaited)
{
    return awaited->rset || awaited->mail || awaited->rcpt_next < awaited->rcpt_end ||
           awaited->data;
}

static void put_envelope(struct gen_session *session, struct smtp_text *text)
{
    uint32_t steps = (uint32_t)session->gen->options->rcpts + 2;

    if (session->opening == NULL || (!session->pipelining && awaits_envelope(&session->awaited)))
        return;
    while (session->lockstep_next < steps) {
        put_command(session, session->lockstep_next++, text);
        if (!session->pipelining)
            return;
    }
}

/* The message whose 354 came; returns the number of iovecs. */
static uint32_t put_body(struct gen_session *session)
{
    struct gen *gen = session->gen;
    struct gen_message *message = session->opening;
    const struct message_body *body = gen_body_of(gen, message->number);
    struct smtp_text head = {message->head, message->head + MESSAGE_HEAD_MAX, false};

    session->body_wanted = false;
    session->awaited.dot = true;
    session->ending = message;
    session->opening = NULL;
    session->on_connection++;
    if (message->rcpts_ok == 0) {
        /* A server that wants data for nobody gets none. */
        session->iov[0] = (struct iovec){(void *)".\r\n", 3};
        return 1;
    }
    message_put_head(&head, &gen->message, message->number, body);
    must(!head.failed);
    settle_rcpts(gen, message, LEDGER_IN_DOUBT);
    if (message->from_ns == 0)
        message->from_ns = io_now_ns(gen->io);
    session->iov[0] = (struct iovec){message->head, (size_t)(head.at - message->head)};
    session->iov[1] = (struct iovec){body->wire, body->wire_bytes};
    return 2;
}

static void put_idle(struct gen_session *session, struct smtp_text *text)
{
    const struct gen_options *options = session->gen->options;
    bool is_worn =
        options->per_connection != 0 && session->on_connection >= options->per_connection;

    if (session->gen->quitting || is_worn) {
        smtp_put_literal(text, "QUIT\r\n");
        session->state = GEN_QUITTING;
    } else if (!session->told_to_go) {
        list_push_back(&session->gen->idle, &session->link);
    }
}

static uint32_t fill_flight(struct gen_session *session, struct smtp_text *text)
{
    uint32_t count = 0;

    if (session->state == GEN_EHLO && !session->greeted) {
        smtp_put_literal(text, "EHLO generator.test\r\n");
        session->greeted = true;
    }
    if (session->state != GEN_READY)
        return 0;
    if (session->body_wanted)
        count = put_body(session);
    if (may_open(session))
        open_message(session);
    put_envelope(session, text);
    if (session->opening == NULL && session->ending == NULL)
        put_idle(session, text);
    return count;
}

void gen_session_flush(struct gen_session *session)
{
    struct smtp_text text = {session->commands, session->commands + session->commands_room, false};
    uint32_t count;

    if (session->sending || session->closing)
        return;
    count = fill_flight(session, &text);
    must(!text.failed);
    if (text.at > session->commands)
        session->iov[count++] =
            (struct iovec){session->commands, (size_t)(text.at - session->commands)};
    if (count == 0)
        return;
    session->sending = true;
    io_send(session->gen->io, &session->send, session->fd, session->iov, count);
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct gen_session *session = container_of(op, struct gen_session, send);

    session->sending = false;
    if (session->closing)
        return;
    if (result < 0)
        lose(session, result);
    else
        want_flush(session);
}

/* ---- Connections --------------------------------------------------------------------------- */

static void on_reconnect(struct io_timer *timer)
{
    gen_session_connect(container_of(timer, struct gen_session, timer));
}

static void wait_to_reconnect(struct gen_session *session)
{
    struct gen *gen = session->gen;
    bool was_quit = session->state == GEN_QUITTING;

    if (gen->quitting) {
        session->state = GEN_CLOSED;
        gen->open_sessions--;
        return;
    }
    session->state = GEN_WAITING;
    io_timer_init(&session->timer, on_reconnect);
    io_timer_arm(gen->io, &session->timer, io_now_ns(gen->io) + (was_quit ? 0 : RECONNECT_NS));
}

static void on_closed(struct io_op *op, int32_t result)
{
    struct gen_session *session = container_of(op, struct gen_session, close);

    session->fd = -1;
    wait_to_reconnect(session);
}

static void close_session(struct gen_session *session)
{
    session->closing = true;
    list_remove(&session->link);
    io_close(session->gen->io, &session->close, session->fd);
}

/* The connection is of no more use; what was in work on it is put back, or in doubt. */
static void lose(struct gen_session *session, int code)
{
    struct gen *gen = session->gen;
    uint64_t now = io_now_ns(gen->io);

    if (session->closing)
        return;
    gen->shared->lost_connections++;
    if (!gen->options->survive && !session->told_to_go)
        gen_fail(gen, "a connection was lost", code);
    if (session->ending != NULL) {
        gen->shared->in_doubt++;
        file_rcpts(gen, session->ending, 'i');
        release(session, session->ending);
    }
    if (session->opening != NULL) {
        gen_put_back(gen, session->opening->number, now + RETRY_NS, session->opening->from_ns);
        release(session, session->opening);
    }
    close_session(session);
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct gen_session *session = container_of(recv, struct gen_session, recv);

    if (session->closing)
        return;
    if (session->state == GEN_QUITTING)
        close_session(session);
    else
        lose(session, reason < 0 ? reason : E_CLOSED);
}

static void on_connected(struct io_op *op, int32_t result)
{
    struct gen_session *session = container_of(op, struct gen_session, connect);

    if (session->closing)
        return;
    if (result < 0) {
        lose(session, result);
        return;
    }
    session->gen->shared->connections++;
    session->state = GEN_GREETING;
    io_recv_start(session->gen->io, &session->recv, session->fd);
}

static void start_afresh(struct gen_session *session)
{
    io_op_init(&session->connect, on_connected);
    io_op_init(&session->send, on_sent);
    io_op_init(&session->close, on_closed);
    memset(&session->recv, 0, sizeof(session->recv));
    memset(&session->awaited, 0, sizeof(session->awaited));
    session->recv.on_data = on_data;
    session->recv.on_end = on_end;
    session->lines.kept = 0;
    session->pipelining = false;
    session->size_offered = false;
    session->sending = false;
    session->closing = false;
    session->greeted = false;
    session->told_to_go = false;
    session->needs_rset = false;
    session->body_wanted = false;
    session->on_connection = 0;
}

void gen_session_connect(struct gen_session *session)
{
    struct gen *gen = session->gen;
    const struct gen_options *options = gen->options;
    struct ipaddr source = {.family = IPADDR_V4};
    int error;

    if (options->source_count > 0)
        source = options->sources[session->index % options->source_count];
    start_afresh(session);
    error = io_socket_open(gen->io, &source, &session->fd);
    if (error < 0) {
        gen_fail(gen, "no socket", error);
        wait_to_reconnect(session);
        return;
    }
    session->state = GEN_CONNECTING;
    io_connect(gen->io, &session->connect, session->fd,
               &options->targets[session->index % options->target_count]);
}

void gen_session_quit(struct gen_session *session)
{
    struct gen *gen = session->gen;

    if (session->state == GEN_WAITING) {
        io_timer_stop(gen->io, &session->timer);
        wait_to_reconnect(session);
    } else if (session->closing) {
        return;
    } else if (session->state == GEN_READY && gen->error == 0) {
        want_flush(session);
    } else {
        close_session(session);
    }
}
