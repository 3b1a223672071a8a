/*
 * Engine, lifecycle, stream events and the one timer of the SMTP client.
 *
 * Whatever ends a connection makes the flight's verdict and enters CLOSING; everything that is owed
 * to the owner (open recipients, the end of the transaction, the end of the connection) is said
 * from one place, connection_gone, when the loop holds no memory of ours or of the message any
 * more.
 */
#include "net/proxy_header.h"
#include "net/smtpc_int.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>

const struct smtpc_state_row smtpc_states[SMTPC_STATE_COUNT] = {
#define SMTPC_STATE_ROW(row_name, row_timeout, row_stage, row_scope, row_command, row_reply,       \
                        row_next)                                                                  \
    [SMTPC_##row_name] = {                                                                         \
        .name = #row_name,                                                                         \
        .timeout = row_timeout,                                                                    \
        .stage = row_stage,                                                                        \
        .scope = row_scope,                                                                        \
        .next = row_next,                                                                          \
        .command = row_command,                                                                    \
        .on_reply = row_reply,                                                                     \
    },
    SMTPC_STATE_TABLE(SMTPC_STATE_ROW)
#undef SMTPC_STATE_ROW
};

/* ---- State and time ------------------------------------------------------------------------ */

static uint64_t now_ns(const struct smtpc *conn)
{
    return io_now_ns(conn->engine->io);
}

static uint64_t timeout_ms(const struct smtpc *conn, enum smtpc_state state)
{
    uint64_t ms;

    memcpy(&ms, (const uint8_t *)&conn->options + smtpc_states[state].timeout, sizeof(ms));
    return ms;
}

void smtpc_arm_ms(struct smtpc *conn, uint64_t ms)
{
    io_timer_arm(conn->engine->io, &conn->timer, now_ns(conn) + ms * 1000000);
}

void smtpc_start_deadline(struct smtpc *conn)
{
    conn->deadline_ns = now_ns(conn) + conn->options.exchange_timeout_ms * 1000000;
}

static void arm_state(struct smtpc *conn)
{
    uint64_t ms = timeout_ms(conn, conn->state);
    uint64_t at_ns;

    if (conn->send_failed && ms > SMTPC_GRACE_MS)
        ms = SMTPC_GRACE_MS;
    at_ns = now_ns(conn) + ms * 1000000;
    /* The body has a rule of its own, progress. */
    if (conn->state != SMTPC_BODY && at_ns > conn->deadline_ns)
        at_ns = conn->deadline_ns;
    io_timer_arm(conn->engine->io, &conn->timer, at_ns);
}

void smtpc_enter(struct smtpc *conn, enum smtpc_state to)
{
    must((smtpc_row(conn)->next & (1u << to)) != 0);
    if (to == SMTPC_BODY && conn->state != SMTPC_BODY)
        conn->body_started_ns = now_ns(conn);
    if (conn->state == SMTPC_BODY && to == SMTPC_DOT)
        conn->deadline_ns += now_ns(conn) - conn->body_started_ns;
    conn->state = (uint8_t)to;
    if (smtpc_row(conn)->timeout == SMTPC_NO_TIMEOUT)
        io_timer_stop(conn->engine->io, &conn->timer);
    else
        arm_state(conn);
}

/* ---- The kernel's counters ------------------------------------------------------------------ */

/* The socket is about to be closed. */
static void keep_tcp_info(struct smtpc *conn)
{
    if (!conn->options.keep_tcp_info)
        return;
    if (conn->is_connected)
        conn->tcp_info_result = stream_tcp_info(&conn->stream, &conn->tcp_info);
    else
        conn->tcp_info_result = io_tcp_info(conn->engine->io, conn->fd, &conn->tcp_info);
}

int smtpc_tcp_info(const struct smtpc *conn, struct io_tcp_info *ret_info)
{
    if (conn->state != SMTPC_CLOSING && conn->is_connected)
        return stream_tcp_info(&conn->stream, ret_info);
    if (conn->state != SMTPC_CLOSING)
        return io_tcp_info(conn->engine->io, conn->fd, ret_info);
    if (conn->tcp_info_result >= 0)
        *ret_info = conn->tcp_info;
    return conn->tcp_info_result;
}

int32_t smtpc_connect_result(const struct smtpc *conn)
{
    return conn->connect_result;
}

/* ---- Ends ---------------------------------------------------------------------------------- */

void smtpc_close(struct smtpc *conn)
{
    bool was_connected = conn->is_connected;

    if (conn->state == SMTPC_CLOSING)
        return;
    smtpc_enter(conn, SMTPC_CLOSING);
    if (was_connected) {
        keep_tcp_info(conn);
        stream_close(&conn->stream);
    } else {
        io_cancel(conn->engine->io, &conn->connect_op);
    }
}

/*
 * Receivers end connections between messages without a word, and our MAIL may already be on its
 * way then: what is lost before the first reply of a later transaction was lost between messages.
 */
static enum verdict_stage stage_of(const struct smtpc *conn, enum smtpc_cause cause)
{
    bool is_later = conn->transaction.rcpt_count > 0 && conn->transaction_count > 0;

    if (cause == SMTPC_LOST && is_later && conn->flight != NULL && !conn->flight->had_reply)
        return VERDICT_AT_IDLE;
    /* These two are found out behind EHLO, before AUTH or STARTTLS is said. */
    if (cause == SMTPC_NO_LOGIN)
        return VERDICT_AT_AUTH;
    /* With TLS 1.3 a receiver that does not take our side of the handshake says so when we are
     * through with it. */
    if (cause == SMTPC_NO_TLS ||
        (cause == SMTPC_LOST && conn->state == SMTPC_EHLO && conn->tls != NULL))
        return VERDICT_AT_TLS;
    return smtpc_row(conn)->stage;
}

void smtpc_set_cause(struct smtpc *conn, enum smtpc_cause cause, const char *detail)
{
    static const struct {
        uint16_t code;
        uint8_t enhanced[3];
        const char *text;
    } causes[] = {
#define SMTPC_CAUSE_ROW(name, row_code, class, subject, row_detail, row_text)                      \
    [name] = {row_code, {class, subject, row_detail}, row_text},
        SMTPC_CAUSE_TABLE(SMTPC_CAUSE_ROW)
#undef SMTPC_CAUSE_ROW
    };
    enum verdict_scope scope =
        smtpc_row(conn)->scope == VERDICT_HOST ? VERDICT_HOST : VERDICT_SESSION;
    enum verdict_stage stage = stage_of(conn, cause);
    struct verdict *verdict;

    if (!smtpc_take_flight(conn))
        return; /* connection_gone will say so */
    verdict = &conn->flight->verdict;
    verdict_set_local(verdict, scope, VERDICT_TRANSIENT, stage, causes[cause].code,
                      causes[cause].enhanced, "%s%s%s (%s)", causes[cause].text,
                      detail != NULL ? ": " : "", detail != NULL ? detail : "",
                      verdict_stage_text(stage));
    conn->cause = (uint8_t)cause;
    /* Who answers nothing of what was sent ahead has most likely thrown it away. */
    if (cause == SMTPC_VIOLATION || (conn->is_tentative && !conn->flight->had_reply &&
                                     (cause == SMTPC_TIMED_OUT || cause == SMTPC_TOO_SLOW)))
        verdict->flags |= VERDICT_PROTOCOL;
    if (cause == SMTPC_TIMED_OUT)
        verdict->flags |= VERDICT_TIMED_OUT;
}

void smtpc_fail(struct smtpc *conn, enum smtpc_cause cause, const char *detail)
{
    if (conn->state == SMTPC_CLOSING)
        return;
    /* In QUIT the verdict is made already, and nothing that happens now can change it. */
    if (conn->state != SMTPC_QUIT)
        smtpc_set_cause(conn, cause, detail);
    smtpc_close(conn);
}

/* Code, class and scope stay those of the 421: only what is reported changes. */
static void explain_421(struct smtpc_flight *flight)
{
    struct verdict *verdict = &flight->verdict;

    if (flight->refusal_bytes == 0)
        return;
    memcpy(verdict->text, flight->refusal_text, flight->refusal_bytes);
    verdict->text_bytes = flight->refusal_bytes;
    memcpy(verdict->enhanced, flight->refusal_enhanced, sizeof(verdict->enhanced));
}

void smtpc_fail_reply(struct smtpc *conn)
{
    enum verdict_scope scope = smtpc_row(conn)->scope;

    /* 421 is about the connection, whatever it answers; while opening, about this host. */
    if (conn->flight->reply.code == 421 && scope != VERDICT_HOST)
        scope = VERDICT_SESSION;
    reply_to_verdict(&conn->flight->reply, scope, smtpc_row(conn)->stage, &conn->flight->verdict);
    if (conn->flight->reply.code == 421)
        explain_421(conn->flight);
    smtpc_close(conn);
}

static void set_success(struct smtpc *conn, const char *text)
{
    static const uint8_t enhanced[3] = {2, 0, 0};

    if (smtpc_take_flight(conn))
        verdict_set_local(&conn->flight->verdict, VERDICT_SESSION, VERDICT_SUCCESS, VERDICT_AT_IDLE,
                          221, enhanced, "%s", text);
}

/* Had the final dot left when the connection ended? Then the message may have been taken. */
bool smtpc_dot_has_left(const struct smtpc *conn)
{
    if (conn->flight == NULL)
        return false;
    /* Of a send that failed a part may have left: the commands behind the dot, or more. */
    if (conn->flight->dot == SMTPC_DOT_LEAVING)
        return conn->stream.sent_result >= 0 || conn->flight->dot_is_followed;
    return conn->flight->dot == SMTPC_DOT_SENT ||
           (conn->flight->dot == SMTPC_DOT_FAILED && conn->flight->dot_is_followed);
}

/* There was no memory to write down why the connection ends. */
static struct verdict *verdict_without_memory(struct verdict *verdict)
{
    static const uint8_t enhanced[3] = {4, 3, 0};

    verdict_set_local(verdict, VERDICT_SESSION, VERDICT_TRANSIENT, VERDICT_AT_IDLE, 421, enhanced,
                      "no memory left for the conversation");
    return verdict;
}

/* The loop holds nothing of this connection any more: say what is owed, then let it go. */
static void connection_gone(struct smtpc *conn)
{
    struct smtpc_engine *engine = conn->engine;
    struct verdict spare;
    struct verdict *verdict = conn->flight != NULL && conn->flight->verdict.code != 0
                                  ? &conn->flight->verdict
                                  : verdict_without_memory(&spare);

    must(conn->state == SMTPC_CLOSING);
    smtpc_drop_held(conn);
    if (conn->ahead.rcpt_count > 0) {
        conn->ahead.rcpt_count = 0;
        conn->events->on_returned(conn, conn->context, verdict);
    }
    if (conn->transaction.rcpt_count > 0 && smtpc_is_untouched(conn)) {
        conn->transaction.rcpt_count = 0;
        conn->events->on_returned(conn, conn->context, verdict);
    } else if (conn->transaction.rcpt_count > 0) {
        if (conn->refusal != SMTPC_REFUSE_NOTHING)
            smtpc_report_refusal(conn);
        if (conn->open_count > 0 && (verdict->flags & VERDICT_FROM_REPLY) == 0 &&
            smtpc_dot_has_left(conn)) {
            verdict_put_in_doubt(verdict);
        }
        smtpc_report_open(conn, verdict);
        conn->transaction.rcpt_count = 0;
        conn->events->on_transaction_done(conn, conn->context, false);
    }
    conn->events->on_closed(conn, conn->context, verdict);
    tls_close(conn->tls);
    if (conn->flight != NULL)
        slab_free(&engine->flights, conn->flight->slot);
    slab_free(&engine->connections, conn->slot);
}

/* ---- Events of the loop -------------------------------------------------------------------- */

static void on_timer(struct io_timer *timer)
{
    struct smtpc *conn = container_of(timer, struct smtpc, timer);

    if (conn->state == SMTPC_LOCAL) {
        smtpc_report_refusal(conn);
        smtpc_finish(conn);
    } else if (conn->send_failed) {
        smtpc_fail(conn, SMTPC_LOST, err_text(conn->send_error));
    } else if (conn->flight != NULL && conn->flight->reply_waits) {
        smtpc_on_body_stuck(conn);
    } else if (conn->state != SMTPC_BODY && now_ns(conn) >= conn->deadline_ns) {
        smtpc_fail(conn, SMTPC_TOO_SLOW, NULL);
    } else {
        smtpc_fail(conn, conn->state == SMTPC_CONNECTING ? SMTPC_NO_CONNECTION : SMTPC_TIMED_OUT,
                   NULL);
    }
}

/* The newest line of the reply, with its code. */
static void note_reply(struct smtpc *conn)
{
    const struct reply_parser *reply = &conn->flight->reply;

    smtpc_note(conn, SMTPC_NOTE_REPLY,
               slice_of(reply->text + reply->line_at, reply->text_bytes - reply->line_at));
}

static size_t on_stream_data(struct stream *stream, const uint8_t *data, size_t len)
{
    struct smtpc *conn = container_of(stream, struct smtpc, stream);
    size_t at = 0;

    if (conn->is_heralding && !conn->send_failed && conn->state != SMTPC_CLOSING)
        return 0;
    /* The handshake's octets go to the transform, once it is in place. */
    if (conn->state == SMTPC_TLS)
        smtpc_fail_clear(conn);
    while (at < len && conn->state != SMTPC_CLOSING) {
        size_t used = 0;
        enum reply_event event;

        if (!smtpc_take_flight(conn)) {
            smtpc_fail(conn, SMTPC_NO_MEMORY, NULL);
            return len;
        }
        if (conn->flight->reply_waits)
            return at; /* paused until the body has left */
        event = reply_feed(&conn->flight->reply, data + at, len - at, &used);
        at += used;
        if (event == REPLY_BAD) {
            smtpc_fail(conn, SMTPC_VIOLATION, reply_fault_text(conn->flight->reply.fault));
        } else if (event == REPLY_LINE) {
            note_reply(conn);
            smtpc_on_reply_line(conn);
        } else if (event == REPLY_DONE) {
            note_reply(conn);
            conn->has_surplus = at < len;
            smtpc_on_reply(conn);
            conn->has_surplus = false;
        }
    }
    return len;
}

static void on_stream_sent(struct stream *stream, int32_t result)
{
    struct smtpc *conn = container_of(stream, struct smtpc, stream);

    if (conn->flight != NULL && conn->flight->dot == SMTPC_DOT_LEAVING)
        conn->flight->dot = result >= 0 ? SMTPC_DOT_SENT : SMTPC_DOT_FAILED;
    if (conn->state == SMTPC_CLOSING)
        return;
    if (conn->is_heralding && result >= 0) {
        /* What the receiver has said meanwhile was not read. */
        conn->is_heralding = false;
        conn->flight->buffer_used = 0;
        stream_resume(&conn->stream);
        return;
    }
    if (result < 0) {
        /* The receiver may have said why before it closed: give its words a moment to arrive. */
        conn->send_failed = true;
        conn->send_error = result;
        if (conn->flight != NULL && conn->flight->reply_waits)
            smtpc_on_body_stuck(conn);
        else
            smtpc_arm_ms(conn, SMTPC_GRACE_MS);
    } else if (conn->state == SMTPC_IDLE) {
        smtpc_drop_flight(conn);
    } else if (conn->state == SMTPC_TLS) {
        smtpc_begin_tls(conn);
    } else if (conn->state == SMTPC_BODY) {
        smtpc_on_window_sent(conn);
    } else if (conn->flight != NULL && conn->flight->reply_waits) {
        smtpc_on_waited(conn);
    } else if (conn->state != SMTPC_LOCAL) {
        smtpc_proceed(conn);
    }
}

static void on_stream_end(struct stream *stream, int32_t reason)
{
    struct smtpc *conn = container_of(stream, struct smtpc, stream);

    if (conn->state == SMTPC_CLOSING)
        return;
    if (conn->state == SMTPC_IDLE &&
        (conn->flight == NULL || !reply_is_partial(&conn->flight->reply))) {
        set_success(conn, "the receiver ended the connection between messages");
        smtpc_close(conn);
    } else if (conn->state == SMTPC_TLS) {
        smtpc_fail_handshake(conn, reason);
    } else {
        smtpc_fail(conn, SMTPC_LOST, reason < 0 ? err_text(reason) : "closed by the receiver");
    }
}

static void on_stream_closed(struct stream *stream)
{
    connection_gone(container_of(stream, struct smtpc, stream));
}

static const struct stream_events stream_events = {
    .on_data = on_stream_data,
    .on_sent = on_stream_sent,
    .on_end = on_stream_end,
    .on_closed = on_stream_closed,
};

static void fail_connect(struct smtpc *conn, int32_t result)
{
    /* Not one address at this source is free for this target, or its proxy cannot be reached: that
     * is our side's trouble. */
    enum verdict_scope scope =
        result == -EADDRNOTAVAIL || conn->is_heralding ? VERDICT_SOURCE_IP : VERDICT_HOST;

    smtpc_fail(conn, SMTPC_NO_CONNECTION, err_text(result));
    conn->flight->verdict.scope = scope;
}

static void on_connect_done(struct io_op *op, int32_t result)
{
    struct smtpc *conn = container_of(op, struct smtpc, connect_op);

    conn->connect_result = result;
    if (conn->state != SMTPC_CLOSING && result < 0)
        fail_connect(conn, result);
    if (conn->state == SMTPC_CLOSING) {
        keep_tcp_info(conn);
        io_close_now(conn->engine->io, conn->fd);
        connection_gone(conn);
        return;
    }
    stream_open(&conn->stream, conn->engine->io, conn->fd, &stream_events);
    conn->is_connected = true;
    smtpc_expect(conn->flight, SMTPC_GREETING, 0);
    smtpc_enter(conn, SMTPC_GREETING);
    if (!conn->is_heralding)
        return;
    conn->flight->window[0] = (struct iovec){conn->flight->buffer, conn->flight->buffer_used};
    stream_send(&conn->stream, conn->flight->window, 1);
}

/* ---- Flights ------------------------------------------------------------------------------- */

bool smtpc_take_flight(struct smtpc *conn)
{
    uint32_t slot = 0;

    if (conn->flight != NULL)
        return true;
    conn->flight = slab_alloc_unset(&conn->engine->flights, &slot);
    if (conn->flight == NULL)
        return false;
    conn->flight->slot = slot;
    conn->flight->verdict.code = 0;
    reply_start(&conn->flight->reply);
    smtpc_flight_reset(conn->flight);
    return true;
}

void smtpc_drop_flight(struct smtpc *conn)
{
    if (conn->flight == NULL || stream_is_sending(&conn->stream) ||
        reply_is_partial(&conn->flight->reply))
        return;
    slab_free(&conn->engine->flights, conn->flight->slot);
    conn->flight = NULL;
}

/* ---- What the owner calls ------------------------------------------------------------------ */

struct smtpc_engine *smtpc_engine_create(struct io *io, uint32_t connection_count_max)
{
    struct smtpc_engine *engine = mem_alloc(sizeof(*engine));

    engine->io = io;
    slab_init(&engine->connections, sizeof(struct smtpc), connection_count_max);
    slab_init(&engine->flights, sizeof(struct smtpc_flight), connection_count_max);
    slab_init(&engine->held, sizeof(struct smtpc_held), SMTPC_HELD_MAX(connection_count_max));
    smtpc_make_extension_texts(engine);
    return engine;
}

void smtpc_engine_destroy(struct smtpc_engine *engine)
{
    if (engine == NULL)
        return;
    must(engine->connections.count_used == 0);
    slab_fini(&engine->connections);
    must(engine->held.count_used == 0);
    slab_fini(&engine->flights);
    slab_fini(&engine->held);
    mem_free(engine);
}

static void fill_defaults(struct smtpc_options *options)
{
    static const struct {
        uint16_t field;
        uint64_t ms;
    } defaults[] = {
        {SMTPC_TIME(connect_timeout_ms), 30 * 1000},
        {SMTPC_TIME(greeting_timeout_ms), 5 * 60 * 1000},
        {SMTPC_TIME(command_timeout_ms), 5 * 60 * 1000},
        {SMTPC_TIME(data_timeout_ms), 2 * 60 * 1000},
        {SMTPC_TIME(data_send_timeout_ms), 3 * 60 * 1000},
        {SMTPC_TIME(data_termination_timeout_ms), 10 * 60 * 1000},
        {SMTPC_TIME(quit_timeout_ms), 5 * 1000},
        {SMTPC_TIME(exchange_timeout_ms), 30 * 60 * 1000},
    };

    for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        uint64_t *field = (uint64_t *)(void *)((uint8_t *)options + defaults[i].field);

        if (*field == 0)
            *field = defaults[i].ms;
    }
}

int smtpc_open(struct smtpc_engine *engine, const struct smtpc_options *options,
               const struct smtpc_events *events, void *context, struct smtpc **ret_conn)
{
    uint32_t slot = 0;
    const struct smtpc_via *via = options->via;
    struct smtpc *conn;
    int result;
    int fd = -1;

    if (strlen(options->helo) > SMTPC_HELO_BYTES_MAX)
        return E_TOO_LONG;
    conn = slab_alloc(&engine->connections, &slot);
    if (conn == NULL)
        return E_FULL;
    conn->engine = engine;
    result = smtpc_take_flight(conn)
                 ? io_socket_open(engine->io, via ? &via->local : &options->source, &fd)
                 : E_FULL;
    if (result < 0) {
        if (conn->flight != NULL)
            slab_free(&engine->flights, conn->flight->slot);
        slab_free(&engine->connections, slot);
        return result;
    }
    conn->events = events;
    conn->context = context;
    conn->slot = slot;
    conn->fd = fd;
    conn->connect_result = -EINPROGRESS;
    conn->tcp_info_result = -ENOTCONN;
    conn->held_first = SMTPC_NO_HELD;
    conn->options = *options;
    fill_defaults(&conn->options);
    smtpc_keep_login(conn, options->login);
    io_timer_init(&conn->timer, on_timer);
    smtpc_start_deadline(conn);
    conn->state = SMTPC_CONNECTING;
    arm_state(conn);
    io_op_init(&conn->connect_op, on_connect_done);
    if (via)
        conn->flight->buffer_used = (uint32_t)proxy_header_write(
            via->version, &options->source, &options->target, conn->flight->buffer);
    conn->is_heralding = via != NULL;
    conn->options.via = NULL;
    io_connect(engine->io, &conn->connect_op, fd, via ? &via->server : &conn->options.target);
    *ret_conn = conn;
    return 0;
}

void smtpc_send(struct smtpc *conn, const struct smtpc_transaction *transaction)
{
    must(conn->state == SMTPC_IDLE);
    must(transaction->rcpt_count >= 1 && transaction->rcpt_count <= SMTPC_RCPT_COUNT_MAX);
    conn->transaction = *transaction;
    conn->open_count = transaction->rcpt_count;
    memset(conn->reported, 0, sizeof(conn->reported));
    conn->refusal = smtpc_check_transaction(conn, transaction);
    if (conn->refusal != SMTPC_REFUSE_NOTHING) {
        /* The verdicts come from the timer: never from inside this call. */
        smtpc_enter(conn, SMTPC_LOCAL);
        smtpc_arm_ms(conn, 0);
        return;
    }
    if (!smtpc_take_flight(conn)) {
        smtpc_fail(conn, SMTPC_NO_MEMORY, NULL);
        return;
    }
    smtpc_flight_reset(conn->flight);
    smtpc_start_deadline(conn);
    conn->flight->next_command = conn->needs_reset ? SMTPC_RSET : SMTPC_MAIL;
    smtpc_enter(conn, conn->flight->next_command);
    smtpc_proceed(conn);
}

void smtpc_quit(struct smtpc *conn)
{
    if (conn->state != SMTPC_IDLE) {
        smtpc_abort(conn);
        return;
    }
    set_success(conn, "ended in order");
    smtpc_say_quit(conn);
}

void smtpc_abort(struct smtpc *conn)
{
    smtpc_fail(conn, SMTPC_ABORTED, NULL);
}

bool smtpc_is_idle(const struct smtpc *conn)
{
    return conn->state == SMTPC_IDLE;
}

unsigned smtpc_extensions(const struct smtpc *conn)
{
    return conn->extensions;
}

bool smtpc_tells_apart(const struct smtpc *conn)
{
    return conn->tells_apart;
}

bool smtpc_refuses_chunks(const struct smtpc *conn)
{
    return conn->refuses_chunks;
}

uint64_t smtpc_size_limit(const struct smtpc *conn)
{
    return conn->size_limit;
}

struct slice smtpc_extension_text(const struct smtpc *conn)
{
    return slice_of(conn->engine->extension_texts[conn->extensions],
                    conn->engine->extension_text_bytes[conn->extensions]);
}

uint32_t smtpc_transaction_count(const struct smtpc *conn)
{
    return conn->transaction_count;
}

uint32_t smtpc_engine_open_count(const struct smtpc_engine *engine)
{
    return engine->connections.count_used;
}

uint64_t smtpc_engine_chunk_count(const struct smtpc_engine *engine)
{
    return engine->chunk_count;
}

static uint64_t used_bytes(const struct slab *slab)
{
    return (uint64_t)slab->count_used * (slab->object_bytes + sizeof(slab->generations[0]));
}

uint64_t smtpc_engine_used_bytes(const struct smtpc_engine *engine)
{
    return used_bytes(&engine->connections) + used_bytes(&engine->flights) +
           used_bytes(&engine->held);
}

void smtpc_engine_each_slab(struct smtpc_engine *engine,
                            void (*visit)(void *context, struct slab *slab), void *context)
{
    visit(context, &engine->connections);
    visit(context, &engine->flights);
    visit(context, &engine->held);
}
