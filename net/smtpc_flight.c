/*
 * What leaves: commands gathered into flights, and the body in windows.
 *
 * Each command pushes what it expects onto the ring when it is written into the buffer. With
 * PIPELINING (RFC 2920) a flight is RSET?, MAIL, all RCPT, DATA; without it, one command. A flight
 * longer than the buffer leaves in several sends, while the replies to its first part are read
 * already, so neither side can wait for the other for ever.
 */
#include "core/base/text.h"
#include "core/mail/dsn_request.h"
#include "net/smtpc_int.h"

/* ---- The ring of expected replies ---------------------------------------------------------- */

void smtpc_flight_reset(struct smtpc_flight *flight)
{
    flight->expected_first = 0;
    flight->expected_end = 0;
    flight->next_command = SMTPC_NO_COMMAND;
    flight->dot = SMTPC_DOT_HELD;
    flight->had_reply = false;
    flight->refusal_bytes = 0;
    flight->reply_waits = false;
    flight->dot_is_followed = false;
    flight->next_rcpt = 0;
    flight->accepted_count = 0;
    flight->rcpts_are_told = true;
    flight->content_at = 0;
    flight->content_offset = 0;
}

void smtpc_expect(struct smtpc_flight *flight, enum smtpc_state state, uint32_t rcpt)
{
    must(flight->expected_end - flight->expected_first < SMTPC_EXPECTED_MAX);
    flight->expected[flight->expected_end % SMTPC_EXPECTED_MAX] =
        (struct smtpc_expected){.state = (uint8_t)state, .rcpt = (uint8_t)rcpt};
    flight->expected_end++;
}

struct smtpc_expected smtpc_expected_pop(struct smtpc_flight *flight)
{
    must(smtpc_expects(flight));
    return flight->expected[flight->expected_first++ % SMTPC_EXPECTED_MAX];
}

static enum smtpc_state expected_state(const struct smtpc_flight *flight)
{
    return flight->expected[flight->expected_first % SMTPC_EXPECTED_MAX].state;
}

/* ---- For the log --------------------------------------------------------------------------- */

void smtpc_note(struct smtpc *conn, enum smtpc_note kind, struct slice text)
{
    if (conn->options.note_commands && conn->events->on_note != NULL && text.len > 0)
        conn->events->on_note(conn, conn->context, kind, text);
}

/* What a login says is nobody's business. */
static void note_commands(struct smtpc *conn)
{
    const struct smtpc_flight *flight = conn->flight;

    if (smtpc_expects(flight) && expected_state(flight) == SMTPC_AUTH)
        smtpc_note(conn, SMTPC_NOTE_COMMAND, SLICE_LITERAL("AUTH (what it says is not shown)"));
    else
        smtpc_note(conn, SMTPC_NOTE_COMMAND, slice_of(flight->buffer, flight->buffer_used));
}

/* The parts of the window from first on that are the message's. */
static void note_data(struct smtpc *conn, uint32_t first, uint32_t end)
{
    if (!conn->options.note_data)
        return;
    for (uint32_t i = first; i < end; i++)
        smtpc_note(conn, SMTPC_NOTE_DATA,
                   slice_of(conn->flight->window[i].iov_base, conn->flight->window[i].iov_len));
}

/* ---- Commands ------------------------------------------------------------------------------ */

void smtpc_put(struct smtpc_flight *flight, struct slice s)
{
    must(s.len <= SMTPC_BUFFER_BYTES - flight->buffer_used);
    memcpy(flight->buffer + flight->buffer_used, s.data, s.len);
    flight->buffer_used += (uint32_t)s.len;
}

#define PUT_LITERAL(flight, text) smtpc_put(flight, SLICE_LITERAL(text))

void smtpc_write_ehlo(struct smtpc *conn)
{
    conn->auth_offers = 0;
    PUT_LITERAL(conn->flight, "EHLO ");
    smtpc_put(conn->flight, slice_str(conn->options.helo));
    PUT_LITERAL(conn->flight, "\r\n");
    smtpc_expect(conn->flight, SMTPC_EHLO, 0);
    conn->flight->next_command = SMTPC_NO_COMMAND;
}

void smtpc_write_helo(struct smtpc *conn)
{
    PUT_LITERAL(conn->flight, "HELO ");
    smtpc_put(conn->flight, slice_str(conn->options.helo));
    PUT_LITERAL(conn->flight, "\r\n");
    smtpc_expect(conn->flight, SMTPC_HELO, 0);
    conn->flight->next_command = SMTPC_NO_COMMAND;
}

void smtpc_write_rset(struct smtpc *conn)
{
    PUT_LITERAL(conn->flight, "RSET\r\n");
    smtpc_expect(conn->flight, SMTPC_RSET, 0);
    conn->flight->next_command = conn->is_tentative ? SMTPC_NO_COMMAND : SMTPC_MAIL;
}

/* Whose commands are being written. */
static const struct smtpc_transaction *writing(const struct smtpc *conn)
{
    return conn->ahead.rcpt_count > 0 ? &conn->ahead : &conn->transaction;
}

static bool has_8bit(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] >= 0x80)
            return true;
    }
    return false;
}

static bool needs_smtputf8(const struct smtpc_transaction *transaction)
{
    if (transaction->wants_smtputf8 || has_8bit(transaction->sender))
        return true;
    for (uint32_t i = 0; i < transaction->rcpt_count; i++) {
        if (has_8bit(transaction->rcpts[i]))
            return true;
    }
    return false;
}

static void put_mail_dsn(struct smtpc_flight *flight, const struct smtpc_dsn_request *dsn)
{
    char room[DSN_REQUEST_ENVID_MAX + 32];
    struct text text = text_in(room, sizeof(room));

    if (dsn->has_ret)
        text_put(&text,
                 dsn->returns_full ? SLICE_LITERAL(" RET=FULL") : SLICE_LITERAL(" RET=HDRS"));
    dsn_request_put_envid(&text, dsn->envelope_id);
    smtpc_put(flight, text_slice(&text));
}

static void put_rcpt_dsn(struct smtpc_flight *flight, const struct smtpc_dsn_request *dsn,
                         uint32_t rcpt)
{
    char room[DSN_REQUEST_ORCPT_MAX + 64];
    struct text text = text_in(room, sizeof(room));

    dsn_request_put_notify(&text, dsn->notifies[rcpt]);
    dsn_request_put_orcpt(&text, dsn->orcpts[rcpt]);
    smtpc_put(flight, text_slice(&text));
}

void smtpc_write_mail(struct smtpc *conn)
{
    const struct smtpc_transaction *transaction = writing(conn);
    struct smtpc_flight *flight = conn->flight;

    PUT_LITERAL(flight, "MAIL FROM:<");
    smtpc_put(flight, transaction->sender);
    PUT_LITERAL(flight, ">");
    if ((conn->extensions & SMTPC_SIZE) != 0) {
        char room[32];
        struct text size = text_in(room, sizeof(room));

        text_put_literal(&size, " SIZE=");
        text_put_u64(&size, transaction->content_bytes, 0);
        smtpc_put(flight, text_slice(&size));
    }
    if (transaction->content_is_8bit && (conn->extensions & SMTPC_8BITMIME) != 0 &&
        !conn->options.ignore_8bitmime)
        PUT_LITERAL(flight, " BODY=8BITMIME");
    if ((conn->extensions & SMTPC_SMTPUTF8) != 0 && needs_smtputf8(transaction))
        PUT_LITERAL(flight, " SMTPUTF8");
    if (transaction->dsn)
        put_mail_dsn(flight, transaction->dsn);
    PUT_LITERAL(flight, "\r\n");
    smtpc_expect(flight, SMTPC_MAIL, 0);
    flight->next_command = SMTPC_RCPT;
}

void smtpc_write_rcpt(struct smtpc *conn)
{
    const struct smtpc_transaction *transaction = writing(conn);
    struct smtpc_flight *flight = conn->flight;
    uint32_t rcpt = flight->next_rcpt++;

    PUT_LITERAL(flight, "RCPT TO:<");
    smtpc_put(flight, transaction->rcpts[rcpt]);
    PUT_LITERAL(flight, ">");
    if (transaction->dsn)
        put_rcpt_dsn(flight, transaction->dsn, rcpt);
    PUT_LITERAL(flight, "\r\n");
    smtpc_expect(flight, SMTPC_RCPT, rcpt);
    if (flight->next_rcpt == transaction->rcpt_count)
        flight->next_command = smtpc_goes_as_chunk(conn) ? SMTPC_BDAT : SMTPC_DATA;
}

void smtpc_write_data(struct smtpc *conn)
{
    PUT_LITERAL(conn->flight, "DATA\r\n");
    smtpc_expect(conn->flight, SMTPC_DATA, 0);
    conn->flight->next_command = SMTPC_NO_COMMAND;
}

void smtpc_write_quit(struct smtpc *conn)
{
    PUT_LITERAL(conn->flight, "QUIT\r\n");
    smtpc_expect(conn->flight, SMTPC_QUIT, 0);
    conn->flight->next_command = SMTPC_NO_COMMAND;
}

/* ---- Flights ------------------------------------------------------------------------------- */

/* May the next command leave while replies are still expected? */
static bool may_pipeline(const struct smtpc *conn)
{
    return (conn->extensions & SMTPC_PIPELINING) != 0 && !conn->options.ignore_pipelining &&
           conn->flight->next_command >= SMTPC_RSET && conn->flight->next_command <= SMTPC_BDAT;
}

/* Room that the next command may need. */
static uint32_t command_bytes_max(const struct smtpc *conn)
{
    return conn->flight->next_command == SMTPC_RCPT && writing(conn)->dsn ? SMTPC_RCPT_BYTES_MAX
                                                                          : SMTPC_COMMAND_BYTES_MAX;
}

void smtpc_write_commands(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    flight->buffer_used = 0;
    while (SMTPC_BUFFER_BYTES - flight->buffer_used >= command_bytes_max(conn)) {
        bool is_first = !smtpc_expects(flight);

        /* All have been refused before DATA left: there is nothing to ask for. */
        if (is_first && flight->accepted_count == 0 &&
            (flight->next_command == SMTPC_DATA || flight->next_command == SMTPC_BDAT))
            flight->next_command = SMTPC_NO_COMMAND;
        if (flight->next_command == SMTPC_NO_COMMAND || (!is_first && !may_pipeline(conn)))
            break;
        smtpc_states[flight->next_command].command(conn);
    }
}

/* Adds parts of the content behind `count`, up to `count_max`; returns how many parts of the window
 * are used. */
static uint32_t fill_window(struct smtpc *conn, uint32_t count, uint32_t count_max)
{
    const struct smtpc_transaction *transaction = &conn->transaction;
    struct smtpc_flight *flight = conn->flight;
    size_t room = SMTPC_WINDOW_BYTES;

    while (flight->content_at < transaction->content_count && count < count_max && room > 0) {
        const struct iovec *part = &transaction->content[flight->content_at];
        size_t len = part->iov_len - flight->content_offset;
        size_t take = len < room ? len : room;

        if (take > 0) {
            flight->window[count++] = (struct iovec){
                .iov_base = (uint8_t *)part->iov_base + flight->content_offset,
                .iov_len = take,
            };
        }
        room -= take;
        flight->content_offset += take;
        if (take == len) {
            flight->content_at++;
            flight->content_offset = 0;
        }
    }
    return count;
}

static void send_commands(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;
    bool is_first = !smtpc_expects(flight);
    uint32_t count = 1;

    if (stream_is_sending(&conn->stream) || conn->send_failed)
        return;
    smtpc_write_commands(conn);
    if (flight->buffer_used == 0)
        return;
    if (is_first && conn->has_surplus && conn->state != SMTPC_QUIT) {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply before its command");
        return;
    }
    flight->window[0] = (struct iovec){.iov_base = flight->buffer, .iov_len = flight->buffer_used};
    if (flight->dot == SMTPC_DOT_LEAVING)
        count = fill_window(conn, count, SMTPC_WINDOW_PARTS);
    note_commands(conn);
    note_data(conn, 1, count);
    stream_send(&conn->stream, flight->window, count);
}

void smtpc_proceed(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    /* The end of a transaction that no 354 has confirmed: RSET asks whether we are in step. */
    if (conn->is_tentative && !smtpc_expects(flight) && flight->next_command == SMTPC_NO_COMMAND)
        flight->next_command = SMTPC_RSET;
    send_commands(conn);
    if (conn->state == SMTPC_CLOSING)
        return;
    if (smtpc_expects(flight)) {
        /* Also when the state stays the same: each reply has the whole time of its own. */
        if (conn->state != expected_state(flight) || conn->state == SMTPC_RCPT)
            smtpc_enter(conn, expected_state(flight));
    } else if (flight->next_command == SMTPC_NO_COMMAND) {
        smtpc_finish(conn);
    }
}

/* ---- The body ------------------------------------------------------------------------------ */

/* The last two bytes sent before the dot must be CRLF; DATA's own stand in front of no body. */
bool smtpc_ends_line(const struct smtpc_transaction *transaction)
{
    uint8_t last[2] = {'\r', '\n'};
    uint32_t found = 0;

    for (uint32_t i = transaction->content_count; i > 0 && found < 2; i--) {
        const struct iovec *part = &transaction->content[i - 1];

        for (size_t at = part->iov_len; at > 0 && found < 2; at--)
            last[1 - found++] = ((const uint8_t *)part->iov_base)[at - 1];
    }
    return last[0] == '\r' && last[1] == '\n';
}

static void send_window(struct smtpc *conn)
{
    static char dot[] = "\r\n.\r\n";
    struct smtpc_flight *flight = conn->flight;
    /* Two parts stay free: for the dot, and for the commands behind it. */
    uint32_t count = fill_window(conn, 0, SMTPC_WINDOW_PARTS - 2);

    note_data(conn, 0, count);
    if (count == 0 && conn->transaction.content_goes_on) {
        conn->events->on_content(conn, conn->context);
        return;
    }
    if (flight->content_at == conn->transaction.content_count &&
        !conn->transaction.content_goes_on) {
        size_t skip = conn->open_count == 0 || smtpc_ends_line(&conn->transaction) ? 2 : 0;

        flight->window[count++] = (struct iovec){
            .iov_base = dot + skip,
            .iov_len = sizeof(dot) - 1 - skip,
        };
        flight->dot = SMTPC_DOT_LEAVING;
        smtpc_expect(flight, SMTPC_DOT, 0);
        smtpc_note(conn, SMTPC_NOTE_COMMAND, SLICE_LITERAL("."));
        if (smtpc_write_ahead(conn)) {
            flight->window[count++] = (struct iovec){
                .iov_base = flight->buffer,
                .iov_len = flight->buffer_used,
            };
            note_commands(conn);
        }
    }
    stream_send(&conn->stream, flight->window, count);
}

void smtpc_start_body(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    if (conn->has_surplus) {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply before the message");
        return;
    }
    if (conn->open_count == 0 && flight->accepted_count > 0) {
        /* MAIL was refused but a recipient taken: a lone dot might deliver an empty message. */
        smtpc_fail(conn, SMTPC_VIOLATION, "a recipient was taken without a sender");
        return;
    }
    if (conn->open_count == 0) { /* RFC 2920 3.1 */
        flight->content_at = conn->transaction.content_count;
        conn->transaction.content_goes_on = false;
    }
    smtpc_enter(conn, SMTPC_BODY);
    /* The reply to DATA can overtake the end of the send that carried it. */
    if (!stream_is_sending(&conn->stream) && !conn->send_failed)
        send_window(conn);
}

void smtpc_continue(struct smtpc *conn, const struct iovec *content, uint32_t content_count,
                    bool goes_on)
{
    if (conn->state != SMTPC_BODY)
        return;
    must(conn->transaction.content_goes_on && !stream_is_sending(&conn->stream));
    conn->transaction.content = content;
    conn->transaction.content_count = content_count;
    conn->transaction.content_goes_on = goes_on;
    conn->flight->content_at = 0;
    conn->flight->content_offset = 0;
    smtpc_enter(conn, SMTPC_BODY);
    if (!conn->send_failed)
        send_window(conn);
}

void smtpc_on_window_sent(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    if (flight->dot != SMTPC_DOT_SENT) {
        smtpc_enter(conn, SMTPC_BODY); /* progress: the time begins anew */
        send_window(conn);
        return;
    }
    smtpc_enter(conn, SMTPC_DOT);
    if (!flight->reply_waits) {
        smtpc_proceed(conn); /* commands sent ahead may be more than went along */
        return;
    }
    smtpc_on_waited(conn);
}

void smtpc_on_waited(struct smtpc *conn)
{
    conn->flight->reply_waits = false;
    smtpc_dispatch(conn);
    if (conn->state != SMTPC_CLOSING)
        stream_resume(&conn->stream);
}

void smtpc_on_body_stuck(struct smtpc *conn)
{
    if (conn->flight->reply.code >= 400)
        smtpc_fail_reply(conn);
    else if (conn->flight->dot_is_followed)
        smtpc_fail(conn, SMTPC_LOST, "not everything has left");
    else
        smtpc_fail(conn, SMTPC_VIOLATION, "an answer before the end of the message");
}

/* ---- What we refuse ourselves -------------------------------------------------------------- */

/*
 * Could this address break out of its brackets, or not be said at all? Blanks and brackets are fine
 * within quotes only, control bytes nowhere (A18).
 */
static bool can_be_said(struct slice address)
{
    bool is_quoted = false;

    if (address.len > SMTPC_ADDRESS_BYTES_MAX)
        return false;
    for (size_t i = 0; i < address.len; i++) {
        uint8_t byte = address.data[i];

        if (byte < ' ' || byte == 0x7f)
            return false;
        if (byte == '"')
            is_quoted = !is_quoted;
        else if (byte == '\\' && is_quoted && i + 1 < address.len && address.data[i + 1] >= ' ' &&
                 address.data[i + 1] != 0x7f)
            i++;
        else if ((byte == ' ' || byte == '<' || byte == '>') && !is_quoted)
            return false;
    }
    return !is_quoted;
}

enum smtpc_refusal smtpc_check_transaction(const struct smtpc *conn,
                                           const struct smtpc_transaction *transaction)
{
    if (!can_be_said(transaction->sender))
        return SMTPC_REFUSE_SENDER;
    for (uint32_t i = 0; i < transaction->rcpt_count; i++) {
        if (transaction->rcpts[i].len == 0 || !can_be_said(transaction->rcpts[i]))
            return SMTPC_REFUSE_RCPT;
    }
    if (conn->size_limit > 0 && transaction->content_bytes > conn->size_limit)
        return SMTPC_REFUSE_SIZE;
    if (transaction->content_is_8bit && (conn->extensions & SMTPC_8BITMIME) == 0 &&
        !conn->options.ignore_8bitmime)
        return SMTPC_REFUSE_8BIT;
    if ((conn->extensions & SMTPC_SMTPUTF8) == 0 && needs_smtputf8(transaction))
        return SMTPC_REFUSE_UTF8;
    return SMTPC_REFUSE_NOTHING;
}
