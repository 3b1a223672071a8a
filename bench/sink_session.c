/* One connection of the sink. */
#include "bench/sink_int.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <string.h>
#include <sys/socket.h>

#define RCPTS_MAX   10000
#define FLOOD_BYTES (1u << 20)

/* ---- Ending -------------------------------------------------------------------------------- */

static void on_closed(struct io_op *op, int32_t result)
{
    sink_session_end(container_of(op, struct sink_session, close));
}

static void close_session(struct sink_session *session)
{
    if (session->closed)
        return;
    session->closed = true;
    sink_session_over(session);
    io_timer_stop(session->worker->io, &session->timer);
    io_timer_stop(session->worker->io, &session->lag_timer);
    list_remove(&session->talkative_link);
    io_close(session->worker->io, &session->close, session->fd);
}

static void drop(struct sink_session *session, bool by_reset)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    sink_count(&session->worker->shared->counters.dropped, 1);
    if (by_reset)
        setsockopt(session->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    /* What was answered before this command still goes out, unless the reset takes it away. */
    if (!by_reset && (session->sending || session->out_used > 0))
        session->closing = true;
    else
        close_session(session);
}

/* ---- Replies ------------------------------------------------------------------------------- */

static void want_flush(struct sink_session *session)
{
    if (list_empty(&session->talkative_link))
        list_push_back(&session->worker->talkative, &session->talkative_link);
}

static void put_octets(struct sink_session *session, const char *octets, size_t len)
{
    must(session->out_used + len <= SINK_OUT_BYTES);
    memcpy(session->out[session->out_which] + session->out_used, octets, len);
    session->out_used = (uint16_t)(session->out_used + len);
    want_flush(session);
}

static void put_reply(struct sink_session *session, const char *text)
{
    size_t len = strlen(text);

    must(len + 2 <= SINK_REPLY_MAX);
    put_octets(session, text, len);
    put_octets(session, "\r\n", 2);
    if (text[0] == '4')
        sink_count(&session->worker->shared->counters.refused_4xx, 1);
    else if (text[0] == '5')
        sink_count(&session->worker->shared->counters.refused_5xx, 1);
    if (strncmp(text, "421", 3) == 0 || strncmp(text, "221", 3) == 0)
        session->closing = true;
}

static void on_sent(struct io_op *op, int32_t result)
{
    struct sink_session *session = container_of(op, struct sink_session, send);

    session->sending = false;
    if (session->closed)
        return;
    if (result < 0 || (session->closing && session->out_used == 0))
        close_session(session);
    else if (session->out_used > 0 || session->flood_left > 0)
        want_flush(session);
}

/* A client that has closed its side sends nothing more to go on with. */
static void read_on(struct sink_session *session)
{
    if (io_recv_is_active(&session->recv))
        io_recv_resume(session->worker->io, &session->recv);
}

/* The next piece of a reply that goes on and on. */
static void flood(struct sink_session *session)
{
    static const char line[] = "250-and so on, and so on, and so on, and so on, and so on\r\n";

    while (session->flood_left >= sizeof(line) - 1 &&
           SINK_OUT_BYTES - session->out_used >= SINK_REPLY_MAX) {
        put_octets(session, line, sizeof(line) - 1);
        session->flood_left -= sizeof(line) - 1;
    }
    if (session->flood_left < sizeof(line) - 1)
        session->flood_left = 0;
}

/* What was put since the last call leaves later; a table that is full sends late, not early. */
static void note_lag(struct sink_session *session)
{
    uint32_t noted = session->lag_count == 0 ? 0 : session->lags[session->lag_count - 1].end;
    uint8_t at = session->lag_count;

    if (session->out_used == noted)
        return;
    if (at == SINK_LAGS_MAX)
        at--;
    session->lags[at] = (struct sink_lag){
        .due_ns = io_now_ns(session->worker->io) + session->worker->lag_ns,
        .end = session->out_used,
    };
    session->lag_count = (uint8_t)(at + 1);
}

/* Octets whose time has come. */
static uint32_t take_due(struct sink_session *session)
{
    struct sink_worker *worker = session->worker;
    uint64_t now = io_now_ns(worker->io);
    uint32_t due = 0;
    uint8_t gone = 0;

    if (worker->lag_ns == 0)
        return session->out_used;
    note_lag(session);
    while (gone < session->lag_count && session->lags[gone].due_ns <= now)
        due = session->lags[gone++].end;
    session->lag_count = (uint8_t)(session->lag_count - gone);
    memmove(session->lags, session->lags + gone, session->lag_count * sizeof(session->lags[0]));
    for (uint8_t i = 0; i < session->lag_count; i++)
        session->lags[i].end -= due;
    if (session->lag_count > 0)
        io_timer_arm(worker->io, &session->lag_timer, session->lags[0].due_ns);
    return due;
}

static void on_lag_over(struct io_timer *timer)
{
    want_flush(container_of(timer, struct sink_session, lag_timer));
}

void sink_session_flush(struct sink_session *session)
{
    const char *out;
    uint32_t due;

    if (session->closed)
        return;
    if (session->flood_left > 0)
        flood(session);
    if (session->worker->lag_ns > 0)
        note_lag(session);
    /* One send at a time: what is left waits for on_sent. */
    if (session->sending)
        return;
    due = take_due(session);
    if (due == 0)
        return;
    out = session->out[session->out_which];
    session->out_which ^= 1;
    session->out_used = (uint16_t)(session->out_used - due);
    memcpy(session->out[session->out_which], out + due, session->out_used);
    session->iov = (struct iovec){(void *)out, due};
    session->sending = true;
    io_send(session->worker->io, &session->send, session->fd, &session->iov, 1);
    if (session->crowded) {
        session->crowded = false;
        read_on(session);
    }
}

/* ---- The ledger ---------------------------------------------------------------------------- */

/* The table follows the first run it meets, when it was made for any. */
static bool is_of_this_run(struct ledger *ledger, uint32_t run)
{
    uint32_t any = 0;

    if (__atomic_load_n(&ledger->run, __ATOMIC_RELAXED) == run)
        return true;
    return __atomic_compare_exchange_n(&ledger->run, &any, run, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED) ||
           any == run;
}

static void record_arrival(struct sink_worker *worker, const struct sink_rcpt *rcpt, uint32_t run)
{
    const struct sink_options *options = worker->options;
    uint64_t count = ++worker->recorded;
    uint64_t times = 1;

    if (options->lose_every != 0 && count % options->lose_every == 0)
        times = 0;
    else if (options->double_every != 0 && count % options->double_every == 0)
        times = 2;
    for (uint64_t i = 0; i < times; i++) {
        ledger_file_add(&worker->file, 'd', run, rcpt->number, rcpt->k);
        if (is_of_this_run(worker->ledger, run))
            ledger_arrive(worker->ledger, rcpt->number, rcpt->k);
    }
}

static void record_refusal(struct sink_worker *worker, uint64_t number, uint32_t k)
{
    uint32_t run = __atomic_load_n(&worker->ledger->run, __ATOMIC_RELAXED);

    ledger_file_add(&worker->file, 'b', run, number, k);
    ledger_refuse(worker->ledger, number, k);
}

/* A late neighbour may have stored a later moment: then there was no gap. */
static void record_moment(struct sink_worker *worker)
{
    uint64_t *longest_us = &worker->shared->counters.longest_gap_us;
    uint64_t now_ns = io_now_ns(worker->io);
    uint64_t before_ns =
        __atomic_exchange_n(&worker->shared->last_arrival_ns, now_ns, __ATOMIC_RELAXED);
    uint64_t gap_us = before_ns != 0 && now_ns > before_ns ? (now_ns - before_ns) / 1000 : 0;

    if (gap_us > __atomic_load_n(longest_us, __ATOMIC_RELAXED))
        __atomic_store_n(longest_us, gap_us, __ATOMIC_RELAXED);
}

static void record_message(struct sink_session *session)
{
    struct sink_worker *worker = session->worker;
    struct sink_counters *counters = &worker->shared->counters;
    const struct message_reader *reader = &session->reader;

    session->messages++;
    sink_count(&counters->messages, 1);
    sink_count(&counters->recipients, session->rcpt_count);
    sink_count(&counters->bytes, reader->bytes);
    sink_count(&session->peer->messages, 1);
    sink_count(&session->peer->recipients, session->rcpt_count);
    if (!message_reader_is_intact(reader))
        sink_count(&counters->damaged, 1);
    record_moment(worker);
    if (!reader->has_id) {
        sink_count(&counters->foreign, 1);
        return;
    }
    if (!is_of_this_run(worker->ledger, reader->id.run))
        sink_count(&counters->other_run, 1);
    for (uint32_t i = 0; i < session->rcpt_count; i++) {
        const struct sink_rcpt *rcpt = &session->rcpts[i];

        if (!rcpt->is_ours)
            sink_count(&counters->foreign, 1);
        else if (rcpt->number != reader->id.number)
            sink_count(&counters->mixed_up, 1);
        else
            record_arrival(worker, rcpt, reader->id.run);
    }
}

/* reply_class '\0': the client gets no reply to it. */
static void end_message(struct sink_session *session, char reply_class)
{
    if (reply_class == '2') {
        record_message(session);
    } else if (reply_class == '5') {
        for (uint32_t i = 0; i < session->rcpt_count; i++) {
            if (session->rcpts[i].is_ours)
                record_refusal(session->worker, session->rcpts[i].number, session->rcpts[i].k);
        }
    }
    session->has_mail = false;
    session->rcpt_count = 0;
    session->chunk_last = false;
}

/* ---- Deciding ------------------------------------------------------------------------------ */

/* Only the first octets of the reply leave. */
static void put_cut(struct sink_session *session, const char *reply, size_t len, uint32_t cut)
{
    char line[SINK_REPLY_MAX];

    must(len + 2 <= sizeof(line));
    memcpy(line, reply, len);
    memcpy(line + len, "\r\n", 2);
    put_octets(session, line, cut < len + 2 ? cut : len + 2);
}

static void answer(struct sink_session *session, const struct rule_verdict *verdict,
                   const char *usual)
{
    const char *reply = verdict->action == RULE_BEHAVE ? usual : verdict->reply;

    /* The first octets of a content are not answered. */
    if (reply == NULL)
        return;
    if (verdict->cut != RULE_UNCUT || verdict->action == RULE_SAY)
        put_cut(session, reply, verdict->action == RULE_BEHAVE ? strlen(reply) : verdict->reply_len,
                verdict->cut);
    else
        put_reply(session, reply);
    if (!verdict->ends)
        return;
    sink_count(&session->worker->shared->counters.dropped, 1);
    session->closing = true;
    if (!session->sending && session->out_used == 0)
        close_session(session);
}

static void carry_out(struct sink_session *session, const struct rule_verdict *verdict,
                      const char *usual)
{
    if (session->ends_message)
        end_message(session, rule_verdict_class(verdict, usual));
    session->ends_message = false;
    switch (verdict->action) {
    case RULE_BEHAVE:
    case RULE_REPLY:
    case RULE_SAY:
        answer(session, verdict, usual);
        break;
    case RULE_DROP:
        drop(session, false);
        break;
    case RULE_RESET:
        drop(session, true);
        break;
    case RULE_HANG:
        session->state = SINK_DEAF;
        break;
    case RULE_FLOOD:
        session->flood_left = FLOOD_BYTES;
        session->state = SINK_DEAF;
        want_flush(session);
        break;
    }
}

static void on_delay_over(struct io_timer *timer)
{
    struct sink_session *session = container_of(timer, struct sink_session, timer);

    session->delayed = false;
    carry_out(session, &session->delayed_verdict, session->delayed_reply);
    if (!session->closed)
        read_on(session);
}

static uint64_t age_of(const struct sink_worker *worker)
{
    uint64_t now = io_now_ns(worker->io);
    uint64_t from = __atomic_load_n(&worker->shared->age_from_ns, __ATOMIC_RELAXED);

    if (from == 0)
        from = worker->start_ns;
    return now > from ? now - from : 0;
}

static void ask(struct sink_session *session, enum rule_stage stage, struct slice rcpt,
                struct rule_verdict *ret_verdict)
{
    struct sink_worker *worker = session->worker;
    struct rule_event event = {
        .stage = stage,
        .rcpt = rcpt,
        .sender = {(const uint8_t *)session->sender, session->sender_len},
        .client = &session->client,
        .called = &session->called,
        .client_connections = __atomic_load_n(&session->peer->open, __ATOMIC_RELAXED),
        .all_connections = __atomic_load_n(&worker->shared->counters.open, __ATOMIC_RELAXED),
        .connection_messages = session->messages,
        .connection_commands = session->commands,
        .transaction_rcpts = session->rcpt_count,
        .age_ns = age_of(worker),
    };

    /* The recipient in question stands in the list already. */
    if (stage == RULE_RCPT)
        event.transaction_rcpts--;
    rules_ask(worker->rules, &event, io_rng(worker->io), ret_verdict);
}

/*
 * Answers a stage as the rules say, with `usual` where they say nothing. Returns the first digit
 * of the reply, 0 when there is none. A delayed reply holds up the client, as a slow server would.
 */
static char decide(struct sink_session *session, enum rule_stage stage, struct slice rcpt,
                   const char *usual)
{
    struct sink_worker *worker = session->worker;
    struct rule_verdict verdict = {.action = RULE_BEHAVE, .cut = RULE_UNCUT};

    if (rules_speak_of(worker->rules, stage))
        ask(session, stage, rcpt, &verdict);
    session->ends_message = stage == RULE_DOT;
    if (verdict.delay_ms > 0) {
        session->delayed = true;
        session->delayed_verdict = verdict;
        session->delayed_reply = usual;
        io_timer_arm(worker->io, &session->timer,
                     io_now_ns(worker->io) + verdict.delay_ms * 1000000);
    } else {
        carry_out(session, &verdict, usual);
    }
    return usual == NULL ? '\0' : rule_verdict_class(&verdict, usual);
}

/* ---- Commands ------------------------------------------------------------------------------ */

static bool add_rcpt(struct sink_session *session, struct slice path)
{
    struct sink_rcpt *rcpt;

    if (session->rcpt_count == session->rcpt_room) {
        uint32_t room = session->rcpt_room == 0 ? 4 : 2 * session->rcpt_room;
        struct sink_rcpt *rcpts = mem_try_alloc(room * sizeof(*rcpts));

        if (rcpts == NULL)
            return false;
        if (session->rcpt_count > 0)
            memcpy(rcpts, session->rcpts, session->rcpt_count * sizeof(*rcpts));
        mem_free(session->rcpts);
        session->rcpts = rcpts;
        session->rcpt_room = room;
    }
    rcpt = &session->rcpts[session->rcpt_count++];
    rcpt->is_ours = message_parse_rcpt(path, &rcpt->number, &rcpt->k) &&
                    ledger_holds(session->worker->ledger, rcpt->number, rcpt->k);
    return true;
}

/* Written when there is a bufferful: a rate is not to be disturbed by what measures it. */
static void note_time(const struct sink_session *session)
{
    char text[IPADDR_TEXT_MAX];

    if (session->worker->times == NULL)
        return;
    ipaddr_format(&session->called, text);
    fprintf(session->worker->times, "%lu %s\n", io_now_ns(session->worker->io), text);
}

static void on_rcpt(struct sink_session *session, struct slice line)
{
    struct slice path = smtp_path_of(line);
    uint64_t number;
    uint32_t k;

    if (!session->has_mail || path.len == 0) {
        put_reply(session, "503 5.5.1 MAIL comes first");
        return;
    }
    if (session->rcpt_count >= RCPTS_MAX || !add_rcpt(session, path)) {
        put_reply(session, "452 4.5.3 Too many recipients");
        return;
    }
    note_time(session);
    switch (decide(session, RULE_RCPT, path, "250 2.1.5 Ok")) {
    case '2':
        return;
    case '5':
        if (message_parse_rcpt(path, &number, &k) &&
            ledger_holds(session->worker->ledger, number, k))
            record_refusal(session->worker, number, k);
        break;
    default:
        break;
    }
    session->rcpt_count--;
}

/* Only where rules may ask for it. */
static void keep_sender(struct sink_session *session, struct slice path)
{
    mem_free(session->sender);
    session->sender_len = 0;
    session->sender = mem_try_alloc(path.len + 1);
    if (session->sender == NULL)
        return;
    memcpy(session->sender, path.data, path.len);
    session->sender_len = path.len;
}

static void on_mail(struct sink_session *session, struct slice line)
{
    if (session->has_mail) {
        put_reply(session, "503 5.5.1 A transaction is open");
        return;
    }
    session->rcpt_count = 0;
    if (rules_want_sender(session->worker->rules))
        keep_sender(session, smtp_path_of(line));
    session->has_mail = decide(session, RULE_MAIL, SLICE_EMPTY, "250 2.1.0 Ok") == '2';
}

static void start_content(struct sink_session *session, enum sink_state state)
{
    session->state = state;
    session->content_due = rules_speak_of(session->worker->rules, RULE_CONTENT);
    smtp_data_init(&session->data);
    message_reader_init(&session->reader, session->worker->options->check_body);
}

static void on_data_command(struct sink_session *session)
{
    if (session->rcpt_count == 0)
        put_reply(session, "503 5.5.1 RCPT comes first");
    else if (decide(session, RULE_DATA, SLICE_EMPTY, "354 Go ahead") == '3')
        start_content(session, SINK_DATA);
}

/* BDAT SIZE [LAST] */
static void on_bdat(struct sink_session *session, struct slice line)
{
    struct slice rest = slice_trim(slice_after(line, 4));
    struct slice size = {rest.data, slice_find(rest, ' ')};
    uint64_t bytes;

    /* A size that cannot be read leaves no way to find the next command. */
    if (slice_to_u64(size, session->worker->options->size_max, &bytes) != 0) {
        put_reply(session, "421 4.5.0 Bad chunk");
        return;
    }
    rest = slice_trim(slice_after(rest, size.len));
    if (session->rcpt_count > 0 && !session->in_chunks)
        start_content(session, SINK_CHUNK);
    session->in_chunks = session->rcpt_count > 0;
    session->state = SINK_CHUNK;
    session->chunk_left = bytes;
    session->chunk_last = slice_equal_nocase(rest, SLICE_LITERAL("LAST"));
}

static void reset(struct sink_session *session)
{
    session->has_mail = false;
    session->in_chunks = false;
    session->rcpt_count = 0;
}

static void on_starttls(struct sink_session *session)
{
    if ((session->worker->offers & RULE_OFFER(STARTTLS)) == 0)
        put_reply(session, "502 5.5.1 Not offered");
    else
        decide(session, RULE_STARTTLS, SLICE_EMPTY, "454 4.7.0 TLS not available");
}

static void on_command(struct sink_session *session, struct slice line)
{
    struct sink_worker *worker = session->worker;

    session->commands++;
    switch (smtp_verb_of(line)) {
    case SMTP_EHLO:
        reset(session);
        decide(session, RULE_EHLO, SLICE_EMPTY, worker->ehlo);
        break;
    case SMTP_HELO:
        reset(session);
        decide(session, RULE_EHLO, SLICE_EMPTY, "250 Hello");
        break;
    case SMTP_STARTTLS:
        on_starttls(session);
        break;
    case SMTP_MAIL:
        on_mail(session, line);
        break;
    case SMTP_RCPT:
        on_rcpt(session, line);
        break;
    case SMTP_DATA:
        on_data_command(session);
        break;
    case SMTP_BDAT:
        on_bdat(session, line);
        break;
    case SMTP_RSET:
        reset(session);
        decide(session, RULE_RSET, SLICE_EMPTY, "250 2.0.0 Ok");
        break;
    case SMTP_NOOP:
        put_reply(session, "250 2.0.0 Ok");
        break;
    case SMTP_QUIT:
        decide(session, RULE_QUIT, SLICE_EMPTY, "221 2.0.0 Bye");
        break;
    case SMTP_UNKNOWN:
        put_reply(session, "500 5.5.2 Unknown command");
        break;
    }
}

/* ---- Content ------------------------------------------------------------------------------- */

static void end_content(struct sink_session *session)
{
    session->state = SINK_COMMANDS;
    session->in_chunks = false;
    if (session->reader.bytes > session->worker->options->size_max) {
        end_message(session, '5');
        put_reply(session, "552 5.3.4 Too big");
    } else {
        decide(session, RULE_DOT, SLICE_EMPTY, "250 2.0.0 Ok");
    }
}

static void take_data(struct sink_session *session, struct slice *rest)
{
    struct slice span;

    while (rest->len > 0) {
        enum smtp_data_answer answer = smtp_data_next(&session->data, rest, &span);

        if (span.len > 0)
            message_reader_feed(&session->reader, span);
        if (answer == SMTP_DATA_END) {
            end_content(session);
            return;
        }
    }
}

/* Octets of a chunk without recipients are thrown away, and the client is told (RFC 3030). */
static void take_chunk(struct sink_session *session, struct slice *rest)
{
    size_t len = rest->len < session->chunk_left ? rest->len : session->chunk_left;

    if (session->in_chunks)
        message_reader_feed(&session->reader, slice_of(rest->data, len));
    *rest = slice_after(*rest, len);
    session->chunk_left -= len;
    if (session->chunk_left > 0)
        return;
    session->state = SINK_COMMANDS;
    if (!session->in_chunks)
        put_reply(session, "503 5.5.1 RCPT comes first");
    else if (session->chunk_last)
        end_content(session);
    else
        put_reply(session, "250 2.0.0 Ok");
}

/* ---- Input --------------------------------------------------------------------------------- */

static bool is_held(struct sink_session *session)
{
    session->crowded = SINK_OUT_BYTES - session->out_used < SINK_REPLY_MAX;
    return session->crowded || session->delayed || session->closing || session->closed;
}

/* True when rules had a word about the first octets: the loop looks again at what they did. */
static bool look_at_content(struct sink_session *session)
{
    bool is_due = session->content_due;

    session->content_due = false;
    if (is_due)
        decide(session, RULE_CONTENT, SLICE_EMPTY, NULL);
    return is_due;
}

static size_t on_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct sink_session *session = container_of(recv, struct sink_session, recv);
    struct slice rest = {data, len};
    struct slice line;

    for (;;) {
        /* A chunk of no octets is complete as soon as its command was read. */
        if (session->state == SINK_CHUNK && session->chunk_left == 0 && !is_held(session))
            take_chunk(session, &rest);
        if (rest.len == 0 || is_held(session))
            break;
        switch (session->state) {
        case SINK_COMMANDS:
            if (smtp_next_line(&session->lines, &rest, &line))
                on_command(session, line);
            break;
        case SINK_DATA:
            if (look_at_content(session))
                break;
            take_data(session, &rest);
            break;
        case SINK_CHUNK:
            if (look_at_content(session))
                break;
            take_chunk(session, &rest);
            break;
        case SINK_DEAF:
            rest.len = 0;
            break;
        }
    }
    return len - rest.len;
}

static void on_end(struct io_recv *recv, int32_t reason)
{
    struct sink_session *session = container_of(recv, struct sink_session, recv);

    if (session->closed)
        return;
    /* A client that closes behind its last command still gets its replies. */
    if (reason == 0 && (session->sending || session->out_used > 0))
        session->closing = true;
    else
        close_session(session);
}

void sink_session_start(struct sink_session *session)
{
    struct sink_worker *worker = session->worker;

    io_op_init(&session->send, on_sent);
    io_op_init(&session->close, on_closed);
    io_timer_init(&session->timer, on_delay_over);
    io_timer_init(&session->lag_timer, on_lag_over);
    list_init(&session->talkative_link);
    session->recv.on_data = on_data;
    session->recv.on_end = on_end;
    io_recv_start(worker->io, &session->recv, session->fd);
    decide(session, RULE_CONNECT, SLICE_EMPTY, worker->greeting);
}
