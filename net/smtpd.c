/*
 * Sessions and listeners. Everything a session waits for ends in one of four places: on_data,
 * on_sent, its timer, or the taker's answer; each of them leaves the session with its replies on
 * the way and input either read, held by the loop, or thrown away.
 */
#include "net/smtpd.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "net/smtpd_int.h"

#include <errno.h>
#include <stdio.h>

#define NS_PER_MS           1000000ull
#define NS_PER_S            1000000000ull
#define MIN_OCTETS_PER_S    500 /* of message data (A21) */
#define LINGER_NS           (2 * NS_PER_S)
#define LINGER_OCTETS_MAX   (1u << 20)
#define ACCEPT_RETRY_NS     (100 * NS_PER_MS)
#define ERROR_COUNT_DEFAULT 20
#define TEXT_OCTETS_DEFAULT 1000
#define BUFFERS_PER_SESSION 3

struct listener {
    struct list link;
    struct smtpd *server;
    struct io_accept accept;
    char *source_name;
    int fd;
    bool accepting; /* until on_accept says that it ended */
};

static const struct stream_events session_events;

/* ---- States ---------------------------------------------------------------------------------- */

enum clock_kind {
    CLOCK_NONE,
    CLOCK_GREETING, /* the next turn */
    CLOCK_COMMAND,
    CLOCK_OCTETS,
    CLOCK_LEAVING,
};

static const struct {
    enum clock_kind clock;
    uint32_t next;
} states[SMTPD_STATE_COUNT] = {
#define TO(name)                           (1u << SMTPD_##name)
#define SMTPD_STATE_ROW(name, clock, next) [SMTPD_##name] = {CLOCK_##clock, next},
    SMTPD_STATE_TABLE(SMTPD_STATE_ROW)
#undef SMTPD_STATE_ROW
#undef TO
};

static uint64_t add_ms(uint64_t at_ns, uint64_t ms)
{
    uint64_t ns;

    if (__builtin_mul_overflow(ms, NS_PER_MS, &ns) || __builtin_add_overflow(at_ns, ns, &ns))
        return UINT64_MAX - 1;
    return ns;
}

/* The earlier of: no octet for too long, and octets too slowly on the whole. */
static uint64_t octets_deadline(const struct smtpd_session *session)
{
    uint64_t idle_ns = add_ms(session->octets_last_ns, session->source.data_timeout_ms);
    uint64_t slow_ms = session->source.data_timeout_ms;
    uint64_t slow_ns;

    /* It is not the client who is slow. */
    if (session->is_held)
        return UINT64_MAX;
    slow_ms += session->octets / MIN_OCTETS_PER_S * 1000;
    slow_ns = add_ms(session->octets_since_ns, slow_ms);
    return idle_ns < slow_ns ? idle_ns : slow_ns;
}

static uint64_t deadline_of(const struct smtpd_session *session)
{
    uint64_t now_ns = io_now_ns(session->server->io);

    switch (states[session->state].clock) {
    case CLOCK_GREETING:
        return 0;
    case CLOCK_COMMAND:
        /* Between two chunks it may be us who do not read. */
        return session->is_held ? UINT64_MAX : add_ms(now_ns, session->source.command_timeout_ms);
    case CLOCK_OCTETS:
        return octets_deadline(session);
    case CLOCK_LEAVING:
        return now_ns + LINGER_NS;
    case CLOCK_NONE:
        break;
    }
    return UINT64_MAX;
}

/* The timer is moved only when it would fire too late; when it fires early it is armed again. */
void smtpd_touch(struct smtpd_session *session)
{
    session->deadline_ns = deadline_of(session);
    if (session->deadline_ns >= session->armed_ns)
        return;
    session->armed_ns = session->deadline_ns;
    io_timer_arm(session->server->io, &session->timer, session->armed_ns);
}

void smtpd_enter(struct smtpd_session *session, enum smtpd_state state)
{
    must(session->state != SMTPD_CLOSING);
    must(state == SMTPD_CLOSING || (states[session->state].next & (1u << state)) != 0);
    session->state = (uint8_t)state;
    if (states[state].clock == CLOCK_OCTETS) {
        session->octets_since_ns = io_now_ns(session->server->io);
        session->octets_last_ns = session->octets_since_ns;
        session->octets = 0;
    }
    smtpd_touch(session);
}

/* ---- Replies --------------------------------------------------------------------------------- */

uint8_t *smtpd_buffer(struct smtpd_session *session, uint32_t *ret_index)
{
    return slab_alloc(&session->server->buffers, ret_index);
}

bool smtpd_have_reply_buffer(struct smtpd_session *session)
{
    if (session->replies == NULL)
        session->replies = smtpd_buffer(session, &session->replies_index);
    return session->replies != NULL;
}

static bool has_reply_room(const struct smtpd_session *session)
{
    return session->replies_filled + SMTPD_REPLY_ROOM <= SMTPD_BUFFER_BYTES;
}

void smtpd_put(struct smtpd_session *session, const void *data, size_t len)
{
    must(session->replies_filled + len <= SMTPD_BUFFER_BYTES);
    memcpy(session->replies + session->replies_filled, data, len);
    session->replies_filled += (uint32_t)len;
    if (session->source.log_commands)
        smtpd_note(session, INTAKE_NOTE_REPLY, slice_of(data, len));
}

void smtpd_reply(struct smtpd_session *session, enum smtpd_reply_id id)
{
    static const struct slice lines[] = {
#define SMTPD_REPLY_ROW(name, line) [name] = SLICE_LITERAL(line "\r\n"),
        SMTPD_REPLY_TABLE(SMTPD_REPLY_ROW)
#undef SMTPD_REPLY_ROW
    };

    smtpd_put(session, lines[id].data, lines[id].len);
}

void smtpd_fail(struct smtpd_session *session, enum smtpd_reply_id id)
{
    session->server->stats.refused_commands++;
    session->error_count++;
    smtpd_reply(session, id);
    if (session->error_count < session->server->options.bad_command_count_max)
        return;
    smtpd_reply(session, SMTPD_TOO_MANY_ERRORS);
    smtpd_leave(session, true);
}

bool smtpd_pass_on(struct smtpd_session *session, const struct intake_reply *reply)
{
    char room[sizeof(reply->text) + 32];
    struct text line = text_in(room, sizeof(room));
    size_t first;

    if (reply->code == 0) {
        smtpd_close(session);
        return false;
    }
    must(reply->code >= 200 && reply->code <= 599);
    text_put_u64(&line, reply->code, 3);
    text_put_char(&line, ' ');
    for (int i = 0; i < 3; i++) {
        text_put_u64(&line, reply->enhanced[i], 0);
        text_put_char(&line, i < 2 ? '.' : ' ');
    }
    first = line.len;
    text_put(&line, slice_of(reply->text, strnlen(reply->text, sizeof(reply->text))));
    for (size_t i = first; i < line.len; i++) {
        if (line.data[i] < ' ' || line.data[i] > '~')
            line.data[i] = '?';
    }
    text_put_literal(&line, "\r\n");
    must(!line.is_cut);
    smtpd_put(session, line.data, line.len);
    if (reply->code != 421 &&
        !(reply->code / 100 == 4 && session->source.disconnect_on_transient_error))
        return true;
    smtpd_leave(session, true);
    return false;
}

/* Sends what has gathered, unless a send is under way: its end sends the rest. */
static void flush(struct smtpd_session *session)
{
    if (session->state == SMTPD_CLOSING || session->replies_sending > 0)
        return;
    if (session->replies_filled > 0) {
        session->replies_sending = session->replies_filled;
        session->replies_iov = (struct iovec){session->replies, session->replies_filled};
        stream_send(&session->stream, &session->replies_iov, 1);
        return;
    }
    if (session->state == SMTPD_LEAVING && (!session->linger || session->peer_ended))
        smtpd_close(session);
}

void smtpd_leave(struct smtpd_session *session, bool linger)
{
    smtpd_drop_transaction(session);
    session->linger = linger;
    session->octets = 0;
    smtpd_enter(session, SMTPD_LEAVING);
}

/* ---- Input ----------------------------------------------------------------------------------- */

static size_t linger_input(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    session->octets += len;
    if (session->octets > LINGER_OCTETS_MAX)
        smtpd_close(session);
    return len;
}

/* Bytes before the greeting are no SMTP client's (A35). */
static size_t early_input(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    session->server->stats.refused_commands++;
    smtpd_close(session);
    return len;
}

typedef size_t input_fn(struct smtpd_session *session, const uint8_t *data, size_t len);

/* NULL: later input waits with the loop. */
static input_fn *const inputs[SMTPD_STATE_COUNT] = {
    [SMTPD_NEW] = early_input,           [SMTPD_START] = smtpd_command_input,
    [SMTPD_READY] = smtpd_command_input, [SMTPD_MAIL] = smtpd_command_input,
    [SMTPD_RCPT] = smtpd_command_input,  [SMTPD_DATA] = smtpd_data_input,
    [SMTPD_CHUNK] = smtpd_chunk_input,   [SMTPD_CHUNKED] = smtpd_command_input,
    [SMTPD_AUTH] = smtpd_command_input,  [SMTPD_LEAVING] = linger_input,
};

static bool takes_input(const struct smtpd_session *session)
{
    return inputs[session->state] != NULL &&
           (session->state == SMTPD_LEAVING || (has_reply_room(session) && !session->is_held));
}

static void resume_input(struct smtpd_session *session)
{
    if (!session->input_held || !takes_input(session))
        return;
    session->input_held = false;
    stream_resume(&session->stream);
}

/* While the server stops, a session that is between two steps is told so. */
static void leave_if_stopping(struct smtpd_session *session)
{
    if (!session->server->stopping || inputs[session->state] != smtpd_command_input)
        return;
    smtpd_reply(session, SMTPD_STOPPING);
    smtpd_leave(session, true);
}

static size_t on_data(struct stream *stream, const uint8_t *data, size_t len)
{
    struct smtpd_session *session = container_of(stream, struct smtpd_session, stream);
    size_t used = 0;

    session->input_held = false;
    if (!smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return len;
    }
    while (used < len && takes_input(session)) {
        used += inputs[session->state](session, data + used, len - used);
        leave_if_stopping(session);
    }
    /* Somebody put words behind STARTTLS, before our reply to it: nobody who may (A05). */
    if (session->state == SMTPD_SECURE && used > 0 && used < len) {
        session->server->stats.refused_commands++;
        smtpd_close(session);
    }
    if (session->state == SMTPD_CLOSING)
        return len;
    session->input_held = used < len;
    flush(session);
    return used;
}

void smtpd_settle(struct smtpd_session *session)
{
    leave_if_stopping(session);
    if (session->peer_ended && session->state != SMTPD_LEAVING)
        smtpd_leave(session, false);
    /* Held input comes soon and its replies go with these. */
    if (session->state == SMTPD_LEAVING || !session->input_held || !takes_input(session))
        flush(session);
    if (session->state != SMTPD_CLOSING)
        resume_input(session);
}

static void on_sent(struct stream *stream, int32_t result)
{
    struct smtpd_session *session = container_of(stream, struct smtpd_session, stream);
    uint32_t rest = session->replies_filled - session->replies_sending;

    if (session->state == SMTPD_CLOSING)
        return;
    if (result < 0) {
        smtpd_close(session);
        return;
    }
    memmove(session->replies, session->replies + session->replies_sending, rest);
    session->replies_filled = rest;
    session->replies_sending = 0;
    flush(session);
    if (session->state == SMTPD_CLOSING)
        return;
    if (session->replies_filled == 0) {
        slab_free(&session->server->buffers, session->replies_index);
        session->replies = NULL;
    }
    if (session->state == SMTPD_SECURE && session->replies == NULL)
        smtpd_secure(session);
    else
        resume_input(session);
}

static void on_end(struct stream *stream, int32_t reason)
{
    struct smtpd_session *session = container_of(stream, struct smtpd_session, stream);

    if (session->state == SMTPD_CLOSING)
        return;
    session->peer_ended = true;
    if (reason < 0) {
        smtpd_close(session);
    } else if (session->state != SMTPD_WAIT && session->state != SMTPD_LOGIN) {
        /* What was answered still goes out; a half message is dropped. */
        if (session->state != SMTPD_LEAVING)
            smtpd_leave(session, false);
        flush(session);
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void greet(struct smtpd_session *session)
{
    char line[320];
    int len;

    if (!smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return;
    }
    len = snprintf(line, sizeof(line), "220 %.255s ESMTP ringpost\r\n",
                   session->server->options.host_name);
    smtpd_put(session, line, (size_t)len);
    smtpd_enter(session, SMTPD_START);
    flush(session);
}

static void time_out(struct smtpd_session *session)
{
    session->server->stats.timeouts++;
    /* A client that does not read its replies gets no further one. */
    if (session->state == SMTPD_LEAVING || session->state == SMTPD_SECURE ||
        session->replies_sending > 0 || !smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return;
    }
    smtpd_reply(session, SMTPD_TIMEOUT);
    smtpd_leave(session, true);
    flush(session);
}

static void on_timer(struct io_timer *timer)
{
    struct smtpd_session *session = container_of(timer, struct smtpd_session, timer);
    uint64_t now_ns = io_now_ns(session->server->io);

    session->armed_ns = UINT64_MAX;
    if (session->state == SMTPD_NEW) {
        /* One whole turn passes before the greeting, so that bytes which came with the connection
         * are seen first. */
        if (session->seen_turn) {
            greet(session);
            return;
        }
        session->seen_turn = true;
    } else if (states[session->state].clock == CLOCK_OCTETS) {
        session->deadline_ns = octets_deadline(session);
    }
    if (session->state != SMTPD_NEW && session->deadline_ns <= now_ns) {
        time_out(session);
    } else if (session->deadline_ns != UINT64_MAX) {
        session->armed_ns = session->deadline_ns;
        io_timer_arm(session->server->io, timer, session->armed_ns);
    }
}

/* ---- The life of a session ------------------------------------------------------------------- */

static void accept_all(struct smtpd *server)
{
    list_for_each (node, &server->listeners) {
        struct listener *listener = container_of(node, struct listener, link);

        if (listener->accepting)
            continue;
        listener->accepting = true;
        io_accept_start(server->io, &listener->accept, listener->fd);
    }
}

static void accept_none(struct smtpd *server)
{
    list_for_each (node, &server->listeners)
        io_accept_stop(server->io, &container_of(node, struct listener, link)->accept);
}

/* Tells when the last session and the last accept have gone. */
static void check_stopped(struct smtpd *server)
{
    void (*done)(void *context) = server->done;

    if (!server->stopping || done == NULL || server->stats.sessions_now > 0)
        return;
    list_for_each (node, &server->listeners) {
        if (container_of(node, struct listener, link)->accepting)
            return;
    }
    io_timer_stop(server->io, &server->timer);
    server->done = NULL;
    done(server->done_context);
}

void smtpd_drop_transaction(struct smtpd_session *session)
{
    /* From WAIT on the message is the taker's. */
    if (session->message != NULL && session->state != SMTPD_WAIT)
        session->server->intake->abort(session->message);
    session->message = NULL;
    session->rcpt_count = 0;
    session->smtputf8 = false;
    session->write_failed = false;
    session->is_held = false;
    session->refusal = SMTPD_NO_REPLY;
}

void smtpd_close(struct smtpd_session *session)
{
    if (session->state == SMTPD_CLOSING)
        return;
    smtpd_drop_transaction(session);
    smtpd_enter(session, SMTPD_CLOSING);
    io_timer_stop(session->server->io, &session->timer);
    stream_close(&session->stream);
}

static void on_closed(struct stream *stream)
{
    struct smtpd_session *session = container_of(stream, struct smtpd_session, stream);
    struct smtpd *server = session->server;

    if (session->replies != NULL)
        slab_free(&server->buffers, session->replies_index);
    if (session->line != NULL)
        slab_free(&server->buffers, session->line_index);
    smtpd_auth_drop(session);
    smtpd_tls_drop(session);
    if (session->admitted) {
        if (session->source.log_connections)
            smtpd_note(session, INTAKE_NOTE_GONE, SLICE_EMPTY);
        server->stats.sessions_admitted--;
        server->intake->leave(server->taker, session->pass);
    }
    list_remove(&session->link);
    slab_free(&server->sessions_slab, session->index);
    server->stats.sessions_now--;
    if (server->stopping)
        check_stopped(server);
    else
        accept_all(server);
}

static const struct stream_events session_events = {
    .on_data = on_data,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_closed = on_closed,
};

/* Asks the taker whether this peer may come in; its refusal stands in place of the greeting. */
static void admit(struct smtpd_session *session, const char *source_name)
{
    struct smtpd *server = session->server;
    const struct conf_source *source = NULL;
    struct intake_reply reply = {0};
    bool is_secure;
    int rc;

    is_secure = smtpd_secure_at_once(session);
    session->client.source = &session->source;
    session->client.listener_source = source_name;
    session->listener_source = source_name;
    rc = server->intake->admit(server->taker, &session->client.peer, &session->client.local,
                               source_name, &source, &session->pass, &reply);
    if (rc >= 0) {
        session->source = *source;
        session->admitted = true;
        if (session->source.log_connections)
            smtpd_note(session, INTAKE_NOTE_CONNECTED, SLICE_EMPTY);
        server->stats.sessions_admitted++;
        if (session->state != SMTPD_CLOSING)
            smtpd_touch(session);
        return;
    }
    if (is_secure || !smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return;
    }
    if (smtpd_pass_on(session, &reply))
        smtpd_leave(session, true);
    flush(session);
}

bool smtpd_adopt(struct smtpd *server, int fd, const char *source_name)
{
    struct ipaddr_port peer;
    struct ipaddr_port local;
    struct smtpd_session *session = NULL;
    uint32_t index = 0;

    if (!server->stopping && io_peer_address(server->io, fd, &peer) >= 0 &&
        io_local_address(server->io, fd, &local) >= 0)
        session = slab_alloc(&server->sessions_slab, &index);
    if (session == NULL)
        return false;
    session->server = server;
    session->index = index;
    session->client.peer = peer;
    session->client.local = local;
    session->armed_ns = UINT64_MAX;
    session->deadline_ns = UINT64_MAX;
    list_push_back(&server->sessions, &session->link);
    server->stats.sessions_total++;
    server->stats.sessions_now++;
    io_timer_init(&session->timer, on_timer);
    stream_open(&session->stream, server->io, fd, &session_events);
    admit(session, source_name);
    if (server->stats.sessions_now == server->options.session_count_max)
        accept_none(server);
    return true;
}

/* ---- Listeners ------------------------------------------------------------------------------- */

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct listener *listener = container_of(accept, struct listener, accept);
    struct smtpd *server = listener->server;
    const struct intake_ops *intake = server->intake;

    if (fd >= 0) {
        if (!server->stopping && intake->arrive != NULL &&
            intake->arrive(server->taker, fd, listener->source_name))
            return;
        if (!smtpd_adopt(server, fd, listener->source_name))
            io_close_now(server->io, fd);
        return;
    }
    listener->accepting = false;
    if (server->stopping)
        check_stopped(server);
    else
        /* Out of descriptors, or a pause of ours that a session's end did not see yet. */
        io_timer_arm(server->io, &server->timer, io_now_ns(server->io) + ACCEPT_RETRY_NS);
}

static void on_server_timer(struct io_timer *timer)
{
    struct smtpd *server = container_of(timer, struct smtpd, timer);

    if (server->stopping)
        check_stopped(server);
    else if (server->stats.sessions_now < server->options.session_count_max)
        accept_all(server);
}

int smtpd_listen(struct smtpd *server, int listen_fd, const char *source_name)
{
    struct listener *listener = mem_try_alloc(sizeof(*listener));

    if (listener == NULL)
        return -ENOMEM;
    listener->server = server;
    listener->fd = listen_fd;
    listener->accept.on_accept = on_accept;
    listener->source_name = source_name != NULL ? mem_strdup(source_name) : NULL;
    list_push_back(&server->listeners, &listener->link);
    if (server->stats.sessions_now < server->options.session_count_max) {
        listener->accepting = true;
        io_accept_start(server->io, &listener->accept, listen_fd);
    }
    return 0;
}

/* ---- The server ------------------------------------------------------------------------------ */

static void set_postmaster(struct smtpd *server)
{
    int len = snprintf(server->postmaster_text, sizeof(server->postmaster_text), "postmaster@%s",
                       server->options.host_name);

    server->has_postmaster =
        len > 0 && (size_t)len < sizeof(server->postmaster_text) &&
        address_parse(slice_str(server->postmaster_text), 0, &server->postmaster) == 0;
}

void smtpd_set_host_name(struct smtpd *server, const char *host_name)
{
    server->options.host_name = host_name;
    set_postmaster(server);
}

struct smtpd *smtpd_create(struct io *io, const struct smtpd_options *options,
                           const struct intake_ops *intake, void *taker)
{
    struct smtpd *server = mem_alloc(sizeof(*server));

    must(options->session_count_max > 0);
    server->io = io;
    server->intake = intake;
    server->taker = taker;
    server->options = *options;
    if (server->options.bad_command_count_max == 0)
        server->options.bad_command_count_max = ERROR_COUNT_DEFAULT;
    if (server->options.text_line_octets_max == 0)
        server->options.text_line_octets_max = TEXT_OCTETS_DEFAULT;
    slab_init(&server->sessions_slab, sizeof(struct smtpd_session), options->session_count_max);
    slab_init(&server->buffers, SMTPD_BUFFER_BYTES,
              options->session_count_max * BUFFERS_PER_SESSION);
    list_init(&server->sessions);
    list_init(&server->listeners);
    io_timer_init(&server->timer, on_server_timer);
    set_postmaster(server);
    return server;
}

void smtpd_stop(struct smtpd *server, void (*done)(void *context), void *context)
{
    must(!server->stopping);
    server->stopping = true;
    server->done = done;
    server->done_context = context;
    accept_none(server);
    list_for_each (node, &server->sessions) {
        struct smtpd_session *session = container_of(node, struct smtpd_session, link);

        if (session->state == SMTPD_SECURE) {
            smtpd_close(session);
            continue;
        }
        /* Message data may still arrive in full, and is then answered. */
        if (inputs[session->state] != smtpd_command_input && session->state != SMTPD_NEW)
            continue;
        if (!smtpd_have_reply_buffer(session) || !has_reply_room(session)) {
            smtpd_close(session);
            continue;
        }
        smtpd_reply(session, SMTPD_STOPPING);
        smtpd_leave(session, true);
        resume_input(session);
        flush(session);
    }
    io_timer_arm(server->io, &server->timer, 0);
}

void smtpd_destroy(struct smtpd *server)
{
    struct list *node;

    if (server == NULL)
        return;
    must(server->stats.sessions_now == 0);
    io_timer_stop(server->io, &server->timer);
    while ((node = list_pop_front(&server->listeners)) != NULL) {
        struct listener *listener = container_of(node, struct listener, link);

        must(!listener->accepting);
        mem_free(listener->source_name);
        mem_free(listener);
    }
    slab_fini(&server->buffers);
    slab_fini(&server->sessions_slab);
    mem_free(server);
}

void smtpd_stats_read(const struct smtpd *server, struct smtpd_stats *ret_stats)
{
    *ret_stats = server->stats;
}

void smtpd_each_slab(struct smtpd *server, void (*visit)(void *context, struct slab *slab),
                     void *context)
{
    visit(context, &server->sessions_slab);
    visit(context, &server->buffers);
}
