/*
 * Message data: DATA until its final dot, BDAT by count, and the taker's answer.
 */
#include "core/base/must.h"
#include "net/smtpd_int.h"

/* A line of this length is no text any more, and nobody waits for its end. */
#define LINE_FLOOD_OCTETS       (1u << 20)
/* How much of a message is read on after it was refused, so that the reply finds its reader. */
#define READ_IN_VAIN_OCTETS_MAX (64ull << 20)
/* Handed to the taker at once: so much it may get after it asked for a pause. */
#define FEED_OCTETS_MAX         16384u

static const uint8_t bad_findings = BODY_BARE_CR | BODY_BARE_LF | BODY_NUL;

/* ---- The taker's side ------------------------------------------------------------------------ */

static void on_answer(void *asker, uint64_t cookie, const struct intake_reply *reply)
{
    struct smtpd *server = asker;
    struct smtpd_session *session = smtpd_of_cookie(server, cookie);

    if (session == NULL || session->state != SMTPD_WAIT)
        return;
    if (!smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return;
    }
    if (reply->code / 100 == 2)
        server->stats.messages++;
    else
        server->stats.refused_messages++;
    if (smtpd_pass_on(session, reply))
        smtpd_reset(session);
    if (session->state != SMTPD_CLOSING)
        smtpd_settle(session);
}

static void on_resume(void *asker, uint64_t cookie)
{
    struct smtpd *server = asker;
    struct smtpd_session *session = smtpd_of_cookie(server, cookie);
    uint64_t now_ns = io_now_ns(server->io);

    if (session == NULL || !session->is_held)
        return;
    session->is_held = false;
    session->octets_last_ns = now_ns;
    session->octets_since_ns += now_ns - session->held_since_ns;
    smtpd_touch(session);
    smtpd_settle(session);
}

static void finish(struct smtpd_session *session)
{
    struct intake_body_facts facts = {
        .stuffed_dots = session->scan.stuffed_dots,
        .has_8bit = (session->scan.findings & BODY_8BIT) != 0,
    };
    struct intake_message *message = session->message;

    session->is_held = false;
    smtpd_enter(session, SMTPD_WAIT);
    session->message = NULL;
    session->server->intake->finish(message, &facts, on_answer, session->server,
                                    smtpd_cookie(session));
}

/* A message that was refused by us before the taker had all of it. */
static void refuse_message(struct smtpd_session *session)
{
    enum smtpd_reply_id refusal = session->refusal;

    session->server->stats.refused_messages++;
    smtpd_reset(session);
    smtpd_reply(session, refusal);
}

/* start_body, once per message. True when data may come. */
static bool start_body(struct smtpd_session *session, unsigned scan_flags)
{
    struct intake_reply reply = {0};

    if (session->server->intake->start_body(session->message, &session->client, on_resume,
                                            session->server, smtpd_cookie(session), &reply) < 0) {
        if (smtpd_pass_on(session, &reply))
            smtpd_reset(session);
        return false;
    }
    if (session->source.bad_line_ends == CONF_LINE_ENDS_FIX)
        scan_flags |= BODY_SCAN_REPAIR;
    body_scan_init(&session->scan, scan_flags, session->server->options.text_line_octets_max);
    return true;
}

/* ---- Octets ---------------------------------------------------------------------------------- */

static void write_piece(struct smtpd_session *session, struct slice piece)
{
    int result;

    if (piece.len == 0 || session->message == NULL || session->write_failed)
        return;
    if (session->source.log_data)
        smtpd_note(session, INTAKE_NOTE_DATA, piece);
    /* After a failure the taker's answer names the cause; the rest is only read. */
    result = session->server->intake->write(session->message, piece.data, piece.len);
    session->write_failed = result < 0;
    if (result != INTAKE_PAUSE || session->is_held)
        return;
    session->is_held = true;
    session->held_since_ns = io_now_ns(session->server->io);
}

/* Gives the message up as soon as it is known that it will be refused. */
static void judge(struct smtpd_session *session)
{
    const struct body_scan *scan = &session->scan;

    if (session->refusal != SMTPD_NO_REPLY)
        return;
    if ((scan->findings & bad_findings) != 0 && (scan->flags & BODY_SCAN_REPAIR) == 0)
        session->refusal = SMTPD_BAD_LINE_ENDS;
    else if ((scan->findings & BODY_LONG_LINE) != 0)
        session->refusal = SMTPD_LONG_TEXT;
    else if (body_scan_content_octets(scan) > session->source.max_message_bytes)
        session->refusal = SMTPD_TOO_BIG;
    else
        return;
    session->server->intake->abort(session->message);
    session->message = NULL;
    session->is_held = false;
}

/* Nothing sensible will end this message: true when the session was made to leave. */
static bool is_flood(struct smtpd_session *session)
{
    enum smtpd_reply_id refusal = session->refusal;
    bool in_vain = refusal != SMTPD_NO_REPLY || session->write_failed;

    if (session->scan.line_octets < LINE_FLOOD_OCTETS &&
        !(in_vain && session->octets > READ_IN_VAIN_OCTETS_MAX))
        return false;
    session->server->stats.refused_messages++;
    smtpd_reply(session, refusal != SMTPD_NO_REPLY ? refusal : SMTPD_TOO_BIG);
    smtpd_leave(session, true);
    return true;
}

/* Scans a span and hands it on; returns the octets used, which is less only behind a final dot, or
 * when the taker wants no more for now. */
static size_t feed(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    struct body_scan *scan = &session->scan;
    size_t used = 0;

    while (used < len && !scan->ended && !session->is_held) {
        struct slice piece;

        used += body_scan_next(scan, data + used,
                               len - used < FEED_OCTETS_MAX ? len - used : FEED_OCTETS_MAX, &piece);
        write_piece(session, piece);
    }
    session->octets += used;
    session->octets_last_ns = io_now_ns(session->server->io);
    judge(session);
    return used;
}

/* ---- DATA ------------------------------------------------------------------------------------ */

void smtpd_start_data(struct smtpd_session *session)
{
    if (session->refusal != SMTPD_NO_REPLY) {
        refuse_message(session);
        return;
    }
    if (!start_body(session, 0))
        return;
    smtpd_enter(session, SMTPD_DATA);
    smtpd_reply(session, SMTPD_GO_AHEAD);
}

size_t smtpd_data_input(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    size_t used = feed(session, data, len);

    if (!session->scan.ended)
        is_flood(session);
    else if (session->refusal != SMTPD_NO_REPLY)
        refuse_message(session);
    else
        finish(session);
    return used;
}

/* ---- BDAT ------------------------------------------------------------------------------------ */

/* "SIZE" or "SIZE LAST"; false when the count cannot be known. */
static bool parse_chunk(struct slice arguments, uint64_t *ret_count, bool *ret_is_last)
{
    size_t digits = slice_find(arguments, ' ');
    struct slice rest = slice_trim(slice_after(arguments, digits));

    *ret_is_last = rest.len > 0;
    if (rest.len > 0 && !slice_equal_nocase(rest, SLICE_LITERAL("LAST")))
        return false;
    return slice_to_u64(slice_of(arguments.data, digits), UINT64_MAX, ret_count) == 0;
}

/* Why a chunk of so many octets is refused before it comes; the sum of chunks is judged as it
 * grows. */
static enum smtpd_reply_id chunk_fault(const struct smtpd_session *session, uint64_t count)
{
    if (!session->source.allow_chunking)
        return SMTPD_NOT_OFFERED;
    if (session->state == SMTPD_MAIL)
        return SMTPD_NO_RCPT;
    if (session->state != SMTPD_RCPT && session->state != SMTPD_CHUNKED)
        return SMTPD_BAD_ORDER;
    if (session->refusal != SMTPD_NO_REPLY)
        return session->refusal;
    return count > session->source.max_message_bytes ? SMTPD_TOO_BIG : SMTPD_NO_REPLY;
}

/* The chunk has been refused and answered; its octets are still to come (A13). */
static void throw_away(struct smtpd_session *session, uint64_t count)
{
    if (count > READ_IN_VAIN_OCTETS_MAX) {
        smtpd_leave(session, true);
        return;
    }
    smtpd_drop_transaction(session);
    session->chunk_left = count;
    smtpd_enter(session, count > 0 ? SMTPD_CHUNK : smtpd_rest_state(session));
}

static void end_chunk(struct smtpd_session *session)
{
    struct slice rest;

    if (session->chunk_is_last && session->refusal == SMTPD_NO_REPLY) {
        body_scan_finish(&session->scan, &rest);
        write_piece(session, rest);
        judge(session);
    }
    if (session->refusal != SMTPD_NO_REPLY) {
        refuse_message(session);
    } else if (session->chunk_is_last) {
        finish(session);
    } else {
        smtpd_enter(session, SMTPD_CHUNKED);
        smtpd_reply(session, SMTPD_CHUNK_OK);
    }
}

void smtpd_start_chunk(struct smtpd_session *session, struct slice arguments)
{
    uint64_t count = 0;
    bool is_last = false;
    enum smtpd_reply_id fault;

    if (!parse_chunk(arguments, &count, &is_last)) {
        session->server->stats.refused_commands++;
        smtpd_reply(session, SMTPD_BAD_SIZE);
        smtpd_leave(session, true);
        return;
    }
    fault = chunk_fault(session, count);
    if (fault != SMTPD_NO_REPLY) {
        smtpd_fail(session, fault);
        if (session->state != SMTPD_LEAVING)
            throw_away(session, count);
        return;
    }
    if (session->state == SMTPD_RCPT && !start_body(session, BODY_SCAN_RAW)) {
        if (session->state == SMTPD_READY)
            throw_away(session, count);
        return;
    }
    session->chunk_left = count;
    session->chunk_is_last = is_last;
    smtpd_enter(session, SMTPD_CHUNK);
    if (count == 0)
        end_chunk(session);
}

size_t smtpd_chunk_input(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    bool in_vain = session->message == NULL && session->refusal == SMTPD_NO_REPLY;

    if (len > session->chunk_left)
        len = (size_t)session->chunk_left;
    if (in_vain) {
        session->chunk_left -= len;
        session->octets += len;
        session->octets_last_ns = io_now_ns(session->server->io);
        if (session->chunk_left == 0)
            smtpd_enter(session, smtpd_rest_state(session));
        return len;
    }
    len = feed(session, data, len);
    session->chunk_left -= len;
    if (!is_flood(session) && session->chunk_left == 0)
        end_chunk(session);
    return len;
}
