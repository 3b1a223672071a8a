/*
 * The message as one chunk (RFC 3030): MAIL, all RCPT, BDAT … LAST and the octets leave in one
 * flight, so a message needs one round trip, on a new connection too.
 *
 * No 354 proves then that replies and commands are in step, and a 250 too many before BDAT's own
 * would pass for it. So chunks are for receivers whose enhanced codes tell the two apart (RFC 2034:
 * 2.1.x for an address, another subject for a message), which they must have shown with a message
 * by DATA before, and a reply of the other kind ends the connection, the message in doubt.
 *
 * Nothing is known of the recipients by then; that is why only small messages go so. Nothing is
 * sent ahead behind a chunk, and no chunk is sent ahead: there would be no 354 to prove step, and
 * nothing to gain. A receiver that offers CHUNKING and does not know BDAT takes the octets for
 * commands; the connection ends with its first word, and the owner is told (VERDICT_NO_CHUNKING).
 */
#include "core/base/text.h"
#include "net/smtpc_int.h"

static uint64_t content_octets(const struct smtpc_transaction *transaction)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < transaction->content_count; i++)
        sum += transaction->content[i].iov_len;
    return sum;
}

bool smtpc_goes_as_chunk(const struct smtpc *conn)
{
    const struct smtpc_transaction *transaction = &conn->transaction;
    unsigned needed = SMTPC_CHUNKING | SMTPC_PIPELINING;

    return (conn->extensions & needed) == needed && !conn->options.ignore_chunking &&
           !conn->options.ignore_pipelining && transaction->may_chunk && !conn->is_tentative &&
           conn->ahead.rcpt_count == 0 && !transaction->content_goes_on &&
           transaction->content_count <= SMTPC_WINDOW_PARTS - 1 &&
           content_octets(transaction) <= SMTPC_CHUNK_BYTES_MAX && smtpc_ends_line(transaction);
}

void smtpc_write_bdat(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;
    char room[64];
    struct text line = text_in(room, sizeof(room));

    text_put_literal(&line, "BDAT ");
    text_put_u64(&line, content_octets(&conn->transaction), 0);
    text_put_literal(&line, " LAST\r\n");
    smtpc_put(flight, text_slice(&line));
    smtpc_expect(flight, SMTPC_BDAT, 0);
    flight->next_command = SMTPC_NO_COMMAND;
    conn->engine->chunk_count++;
    /* send_commands puts the octets behind it. */
    flight->dot = SMTPC_DOT_LEAVING;
}

static uint8_t subject_of(const struct smtpc *conn)
{
    struct slice text = reply_text(&conn->flight->reply);
    uint8_t enhanced[3];

    /* Behind the code and the blank. */
    if (text.len < 4 || !reply_enhanced(slice_after(text, 4), conn->flight->reply.code, enhanced))
        return UINT8_MAX;
    return enhanced[1];
}

bool smtpc_speaks_of_address(const struct smtpc *conn)
{
    return subject_of(conn) == 1;
}

bool smtpc_speaks_of_message(const struct smtpc *conn)
{
    uint8_t subject = subject_of(conn);

    return subject != 1 && subject != UINT8_MAX;
}

/* The receiver took the octets for commands, or is about to; or it knows nothing of recipients that
 * it took. */
static bool is_unknown(const struct smtpc *conn)
{
    uint16_t code = conn->flight->reply.code;

    return code == 500 || code == 502 || code == 504 || (code == 503 && conn->open_count > 0);
}

static void on_unknown(struct smtpc *conn)
{
    struct verdict verdict;

    conn->refuses_chunks = true;
    reply_to_verdict(&conn->flight->reply, VERDICT_SESSION, VERDICT_AT_DOT, &verdict);
    verdict.class = VERDICT_TRANSIENT;
    verdict.flags |= VERDICT_NO_CHUNKING;
    smtpc_report_open(conn, &verdict);
    smtpc_fail(conn, SMTPC_VIOLATION, "CHUNKING is offered and BDAT not known");
}

void smtpc_on_bdat(struct smtpc *conn, uint32_t rcpt)
{
    uint16_t code = conn->flight->reply.code;
    struct verdict verdict;

    if (is_unknown(conn)) {
        on_unknown(conn);
        return;
    }
    /* 250 for a message without recipients is no answer to it, nor is one that speaks of one. */
    if (code < 400 &&
        (code != 250 || conn->flight->accepted_count == 0 || !smtpc_speaks_of_message(conn))) {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply that does not fit the command");
        return;
    }
    reply_to_verdict(&conn->flight->reply, VERDICT_MESSAGE, VERDICT_AT_DOT, &verdict);
    /* RFC 3030 2: what failed is ended by RSET. */
    conn->needs_reset = verdict.class != VERDICT_SUCCESS;
    conn->has_taken |= verdict.class == VERDICT_SUCCESS;
    smtpc_report_open(conn, &verdict);
    if (conn->state != SMTPC_CLOSING)
        smtpc_finish(conn);
}
