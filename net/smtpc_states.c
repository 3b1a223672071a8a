/*
 * What a reply means in each state, and what the owner is told.
 *
 * The basic code alone decides, by its first digit (RFC 5321 4.2.1); 421 ends the session wherever
 * it comes. 220 and 221 belong to the greeting and to QUIT: anywhere else they say that the
 * receiver and we have lost step, and a message must not count as delivered for them.
 */
#include "net/smtpc_int.h"

/* ---- What the owner is told ---------------------------------------------------------------- */

static bool is_reported(const struct smtpc *conn, uint32_t rcpt)
{
    return (conn->reported[rcpt / 64] >> (rcpt % 64) & 1) != 0;
}

void smtpc_report(struct smtpc *conn, uint32_t rcpt, const struct verdict *verdict)
{
    must(rcpt < conn->transaction.rcpt_count && !is_reported(conn, rcpt));
    conn->reported[rcpt / 64] |= 1ull << (rcpt % 64);
    conn->open_count--;
    conn->events->on_rcpt(conn, conn->context, rcpt, verdict);
}

void smtpc_report_open(struct smtpc *conn, const struct verdict *verdict)
{
    for (uint32_t rcpt = 0; conn->open_count > 0 && rcpt < conn->transaction.rcpt_count; rcpt++) {
        if (!is_reported(conn, rcpt))
            smtpc_report(conn, rcpt, verdict);
    }
}

void smtpc_report_refusal(struct smtpc *conn)
{
    static const struct {
        uint16_t code;
        uint8_t enhanced[3];
        const char *text;
    } refusals[] = {
#define SMTPC_REFUSAL_ROW(name, row_code, class, subject, detail, row_text)                        \
    [name] = {row_code, {class, subject, detail}, row_text},
        SMTPC_REFUSAL_TABLE(SMTPC_REFUSAL_ROW)
#undef SMTPC_REFUSAL_ROW
    };
    struct verdict verdict;

    verdict_set_local(&verdict, VERDICT_MESSAGE, VERDICT_PERMANENT, VERDICT_AT_LOCAL,
                      refusals[conn->refusal].code, refusals[conn->refusal].enhanced, "%s",
                      refusals[conn->refusal].text);
    smtpc_report_open(conn, &verdict);
}

void smtpc_finish(struct smtpc *conn)
{
    bool may_continue = !conn->has_surplus && !conn->send_failed;

    must(conn->open_count == 0);
    if (conn->state == SMTPC_CLOSING)
        return;
    if (conn->refusal == SMTPC_REFUSE_NOTHING)
        conn->transaction_count++;
    if (conn->ahead.rcpt_count > 0) {
        smtpc_go_ahead(conn);
        return;
    }
    conn->refusal = SMTPC_REFUSE_NOTHING;
    conn->transaction.rcpt_count = 0;
    smtpc_enter(conn, SMTPC_IDLE);
    smtpc_drop_flight(conn);
    conn->events->on_transaction_done(conn, conn->context, may_continue);
    if (may_continue || conn->state != SMTPC_IDLE)
        return;
    if (conn->send_failed) {
        smtpc_fail(conn, SMTPC_LOST, NULL);
        return;
    }
    /* Nobody asked for what lies behind the reply. If it is a 421, its words are worth reading. */
    smtpc_set_cause(conn, SMTPC_VIOLATION, "more than one answer");
    smtpc_start_deadline(conn);
    smtpc_enter(conn, SMTPC_QUIT);
}

void smtpc_make_ready(struct smtpc *conn)
{
    if (conn->has_surplus) {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply before its command");
        return;
    }
    if (smtpc_start_tls(conn) || smtpc_log_in(conn))
        return;
    smtpc_enter(conn, SMTPC_IDLE);
    smtpc_drop_flight(conn);
    conn->events->on_ready(conn, conn->context);
}

void smtpc_say_quit(struct smtpc *conn)
{
    if (conn->send_failed || !smtpc_take_flight(conn)) {
        smtpc_close(conn);
        return;
    }
    smtpc_flight_reset(conn->flight);
    conn->flight->next_command = SMTPC_QUIT;
    smtpc_start_deadline(conn);
    smtpc_enter(conn, SMTPC_QUIT);
    smtpc_proceed(conn);
}

/* The receiver does not want to talk to us: its words are the verdict of the connection. */
static void end_refused(struct smtpc *conn)
{
    reply_to_verdict(&conn->flight->reply, smtpc_row(conn)->scope, smtpc_row(conn)->stage,
                     &conn->flight->verdict);
    smtpc_say_quit(conn);
}

/* ---- Replies ------------------------------------------------------------------------------- */

enum answer {
    ANSWER_YES,
    ANSWER_NO,
    ANSWER_ODD, /* means nothing here */
};

static enum answer answer_of(const struct smtpc *conn)
{
    uint16_t code = conn->flight->reply.code;

    if (code >= 400)
        return ANSWER_NO;
    return code < 300 && code != 220 && code != 221 ? ANSWER_YES : ANSWER_ODD;
}

static void fail_odd(struct smtpc *conn)
{
    smtpc_fail(conn, SMTPC_VIOLATION, "a reply that does not fit the command");
}

static void reply_to_state(const struct smtpc *conn, struct verdict *ret_verdict)
{
    reply_to_verdict(&conn->flight->reply, smtpc_row(conn)->scope, smtpc_row(conn)->stage,
                     ret_verdict);
}

/* What a 421 answers: the first command of a transaction that is not the connection's first. RSET
 * stands in front of MAIL, or at the end of what was sent ahead. */
static bool is_later_beginning(const struct smtpc *conn)
{
    return conn->transaction_count > 0 &&
           (conn->state == SMTPC_MAIL || (conn->state == SMTPC_RSET && !conn->is_tentative));
}

/* Kept for a 421 that may follow in the same transaction. */
static void note_refusal(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;
    struct slice text = reply_text(&flight->reply);

    if (!conn->options.replace_421 || flight->reply.code < 400 || conn->state < SMTPC_MAIL)
        return;
    flight->refusal_bytes =
        (uint16_t)(text.len < SMTPC_REFUSAL_BYTES_MAX ? text.len : SMTPC_REFUSAL_BYTES_MAX);
    memcpy(flight->refusal_text, text.data, flight->refusal_bytes);
    memset(flight->refusal_enhanced, 0, sizeof(flight->refusal_enhanced));
    /* Behind the code and the blank. The attempt is put off, whatever was refused for good. */
    if (text.len >= 4 &&
        reply_enhanced(slice_after(text, 4), flight->reply.code, flight->refusal_enhanced))
        flight->refusal_enhanced[0] = 4;
}

void smtpc_dispatch(struct smtpc *conn)
{
    struct smtpc_expected expected = smtpc_expected_pop(conn->flight);

    must(expected.state == conn->state);
    conn->flight->had_reply = true;
    if (conn->flight->reply.code == 421) {
        conn->is_sent_away = is_later_beginning(conn);
        smtpc_fail_reply(conn);
    } else {
        note_refusal(conn);
        smtpc_row(conn)->on_reply(conn, expected.rcpt);
    }
    /* With the end of a transaction the flight may have gone, and the reply with it. */
    if (conn->flight != NULL)
        reply_start(&conn->flight->reply);
}

/* A reply that no command of ours can have caused. */
static void on_unasked(struct smtpc *conn)
{
    /* A receiver that has seen enough of the body may say no and close: that is its answer. */
    bool is_answer = conn->state == SMTPC_BODY && conn->flight->reply.code >= 400;

    if (conn->flight->reply.code == 421 || is_answer)
        smtpc_fail_reply(conn);
    else
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply that nobody asked for");
}

/*
 * A reply while the end of the body is leaving. The send's own end may just be later than the
 * reply to it; until it comes the message's memory is in use, so the reply waits.
 */
static void on_reply_to_leaving_dot(struct smtpc *conn)
{
    if (conn->flight->dot != SMTPC_DOT_LEAVING) {
        smtpc_on_body_stuck(conn);
        return;
    }
    conn->flight->reply_waits = true;
    stream_pause(&conn->stream);
    smtpc_arm_ms(conn, SMTPC_GRACE_MS);
}

void smtpc_on_reply(struct smtpc *conn)
{
    if (conn->state == SMTPC_QUIT)
        smtpc_on_quit(conn, 0);
    else if (conn->flight == NULL || !smtpc_expects(conn->flight))
        on_unasked(conn);
    else if (conn->state == SMTPC_BODY ||
             (conn->state == SMTPC_BDAT && conn->flight->dot != SMTPC_DOT_SENT))
        on_reply_to_leaving_dot(conn);
    else
        smtpc_dispatch(conn);
}

void smtpc_on_greeting(struct smtpc *conn, uint32_t rcpt)
{
    uint16_t code = conn->flight->reply.code;

    if (code >= 400) {
        end_refused(conn);
    } else if (code < 300) {
        conn->flight->next_command = SMTPC_EHLO;
        smtpc_proceed(conn);
    } else {
        fail_odd(conn);
    }
}

/* ---- EHLO ---------------------------------------------------------------------------------- */

static const char *const extension_names[SMTPC_EXTENSION_COUNT] = {
    "PIPELINING",          /* 1 */
    "SIZE",                /* 2 */
    "8BITMIME",            /* 4 */
    "SMTPUTF8",            /* 8 */
    "ENHANCEDSTATUSCODES", /* 16 */
    "CHUNKING",            /* 32 */
    "DSN",                 /* 64 */
    "STARTTLS",            /* 128 */
};

void smtpc_make_extension_texts(struct smtpc_engine *engine)
{
    for (unsigned set = 0; set < 1u << SMTPC_EXTENSION_COUNT; set++) {
        char *text = engine->extension_texts[set];
        size_t used = 0;

        for (unsigned i = 0; i < SMTPC_EXTENSION_COUNT; i++) {
            size_t len = strlen(extension_names[i]);

            if ((set >> i & 1) == 0)
                continue;
            must(used + 1 + len <= SMTPC_EXTENSION_TEXT_BYTES);
            if (used > 0)
                text[used++] = ',';
            memcpy(text + used, extension_names[i], len);
            used += len;
        }
        engine->extension_text_bytes[set] = (uint8_t)used;
    }
}

/* "SIZE 52428800"; no number, or one that makes no sense, is no limit. */
static uint64_t parse_size(struct slice argument)
{
    uint64_t limit = 0;

    if (slice_to_u64(slice_trim(argument), UINT64_MAX, &limit) < 0)
        return 0;
    return limit;
}

static void note_extension(struct smtpc *conn, struct slice line)
{
    struct slice keyword = slice_trim(line);
    struct slice argument = SLICE_EMPTY;
    size_t end = slice_find(keyword, ' ');

    if (end < keyword.len) {
        argument = slice_after(keyword, end + 1);
        keyword.len = end;
    }
    if (slice_equal_nocase(keyword, SLICE_LITERAL("AUTH")))
        smtpc_note_mechanisms(conn, argument);
    for (unsigned i = 0; i < SMTPC_EXTENSION_COUNT; i++) {
        if (!slice_equal_nocase(keyword, slice_str(extension_names[i])))
            continue;
        conn->extensions |= (uint8_t)(1u << i);
        if (1u << i == SMTPC_SIZE)
            conn->size_limit = parse_size(argument);
    }
}

void smtpc_on_reply_line(struct smtpc *conn)
{
    if (conn->state != SMTPC_EHLO || conn->flight->reply.code >= 300)
        return;
    if (conn->flight->reply.line_count > 1)
        note_extension(conn, reply_line(&conn->flight->reply));
    /* All the lines together may be more than is kept of a reply. */
    reply_forget_text(&conn->flight->reply);
}

void smtpc_on_ehlo(struct smtpc *conn, uint32_t rcpt)
{
    switch (answer_of(conn)) {
    case ANSWER_YES:
        if (conn->flight->reply.line_count > 1)
            note_extension(conn, reply_line(&conn->flight->reply));
        smtpc_make_ready(conn);
        break;
    case ANSWER_NO:
        if (conn->flight->reply.code < 500) {
            end_refused(conn);
            break;
        }
        conn->flight->next_command = SMTPC_HELO;
        smtpc_proceed(conn);
        break;
    case ANSWER_ODD:
        fail_odd(conn);
        break;
    }
}

void smtpc_on_helo(struct smtpc *conn, uint32_t rcpt)
{
    switch (answer_of(conn)) {
    case ANSWER_YES:
        smtpc_make_ready(conn);
        break;
    case ANSWER_NO:
        end_refused(conn);
        break;
    case ANSWER_ODD:
        fail_odd(conn);
        break;
    }
}

/* ---- A transaction ------------------------------------------------------------------------- */

void smtpc_on_rset(struct smtpc *conn, uint32_t rcpt)
{
    if (answer_of(conn) != ANSWER_YES) {
        /* Says nothing about the message, but nothing can be begun anew on this connection. */
        smtpc_fail(conn, SMTPC_VIOLATION, "RSET was not taken");
        return;
    }
    conn->needs_reset = false;
    smtpc_confirm(conn);
    if (conn->state != SMTPC_CLOSING)
        smtpc_proceed(conn);
}

/*
 * A receiver that lost what was sent ahead, or a part of it, understands what follows only half.
 * The verdict would be one on our way to talk, not on the message.
 */
static bool has_lost_step(const struct smtpc *conn)
{
    uint16_t code = conn->flight->reply.code;

    return conn->is_tentative && (code == 500 || code == 502 || code == 503);
}

/* All open recipients got this answer. */
static void tell_open(struct smtpc *conn)
{
    struct verdict verdict;

    reply_to_state(conn, &verdict);
    if (conn->is_tentative)
        smtpc_hold(conn, SMTPC_HELD_OPEN, &verdict);
    else
        smtpc_report_open(conn, &verdict);
}

void smtpc_on_mail(struct smtpc *conn, uint32_t rcpt)
{
    if (has_lost_step(conn)) {
        fail_odd(conn);
        return;
    }
    switch (answer_of(conn)) {
    case ANSWER_YES:
        conn->needs_reset = true;
        smtpc_proceed(conn);
        break;
    case ANSWER_NO:
        /* The replies to what is on its way already are read and mean nothing any more. */
        conn->flight->next_command = SMTPC_NO_COMMAND;
        tell_open(conn);
        if (conn->state != SMTPC_CLOSING)
            smtpc_proceed(conn);
        break;
    case ANSWER_ODD:
        fail_odd(conn);
        break;
    }
}

/*
 * RFC 5321 4.5.3.1.10: a receiver with enough recipients says 452, formerly 552. An enhanced code
 * of x.5.3 says so beyond doubt; a bare 452 can mean little else once one was taken.
 */
static void mark_too_many(const struct smtpc *conn, struct verdict *verdict)
{
    static const uint8_t none[3] = {0, 0, 0};
    bool says_so = verdict->enhanced[1] == 5 && verdict->enhanced[2] == 3;
    bool is_bare = memcmp(verdict->enhanced, none, sizeof(none)) == 0;
    bool has_some = conn->flight->accepted_count > 0;

    if (verdict->code == 552 && says_so && has_some)
        verdict->class = VERDICT_TRANSIENT;
    if (verdict->class == VERDICT_TRANSIENT &&
        (says_so || (verdict->code == 452 && is_bare && has_some)))
        verdict->flags |= VERDICT_TOO_MANY_RCPT;
}

static void on_rcpt_refused(struct smtpc *conn, uint32_t rcpt)
{
    struct verdict verdict;

    if (is_reported(conn, rcpt) || conn->all_held)
        return;
    if (has_lost_step(conn)) {
        fail_odd(conn);
        return;
    }
    reply_to_state(conn, &verdict);
    mark_too_many(conn, &verdict);
    if (conn->is_tentative)
        smtpc_hold(conn, (uint8_t)rcpt, &verdict);
    else
        smtpc_report(conn, rcpt, &verdict);
}

void smtpc_on_rcpt(struct smtpc *conn, uint32_t rcpt)
{
    switch (answer_of(conn)) {
    case ANSWER_YES:
        conn->needs_reset = true;
        conn->flight->accepted_count++;
        conn->flight->rcpts_are_told &= smtpc_speaks_of_address(conn);
        break;
    case ANSWER_NO:
        on_rcpt_refused(conn, rcpt);
        break;
    case ANSWER_ODD:
        fail_odd(conn);
        break;
    }
    if (conn->state != SMTPC_CLOSING)
        smtpc_proceed(conn);
}

void smtpc_on_data_reply(struct smtpc *conn, uint32_t rcpt)
{
    if (conn->flight->reply.code == 354) {
        smtpc_confirm(conn);
        if (conn->state != SMTPC_CLOSING)
            smtpc_start_body(conn);
    } else if (answer_of(conn) == ANSWER_NO) {
        tell_open(conn);
        if (conn->state != SMTPC_CLOSING)
            smtpc_proceed(conn);
    } else {
        fail_odd(conn);
    }
}

void smtpc_on_dot(struct smtpc *conn, uint32_t rcpt)
{
    struct verdict verdict;

    if (answer_of(conn) == ANSWER_ODD) {
        fail_odd(conn);
        return;
    }
    conn->needs_reset = false;
    reply_to_state(conn, &verdict);
    if (verdict.class == VERDICT_SUCCESS && conn->flight->accepted_count > 0) {
        conn->has_taken = true;
        conn->tells_apart |= conn->flight->rcpts_are_told && smtpc_speaks_of_message(conn);
    }
    smtpc_report_open(conn, &verdict);
    if (conn->state != SMTPC_CLOSING)
        smtpc_finish(conn);
}

void smtpc_on_quit(struct smtpc *conn, uint32_t rcpt)
{
    /* Any reply will do; but one that says why we were cut off is worth keeping. */
    if (conn->flight->reply.code == 421 && (conn->flight->verdict.flags & VERDICT_PROTOCOL) != 0)
        reply_to_verdict(&conn->flight->reply, VERDICT_SESSION, VERDICT_AT_IDLE,
                         &conn->flight->verdict);
    smtpc_close(conn);
}
