/*
 * STARTTLS (RFC 3207) behind EHLO, where the owner wants TLS: before AUTH, and before anything of a
 * message. What the receiver said in the clear counts for nothing once the handshake is done (A07),
 * and what it says in the clear behind its answer to STARTTLS ends the connection (A06).
 *
 * Where TLS may be left out, a receiver that refuses STARTTLS gets its mail on the same connection;
 * a handshake that fails ends it, and whether the next one does without is the owner's choice.
 */
#include "core/base/err.h"
#include "net/smtpc_int.h"

#include <errno.h>

bool smtpc_start_tls(struct smtpc *conn)
{
    if (conn->options.tls == SMTPC_TLS_NEVER || conn->tls != NULL || conn->is_tls_refused)
        return false;
    if ((conn->extensions & SMTPC_STARTTLS) != 0) {
        conn->flight->next_command = SMTPC_STARTTLS_SAID;
        smtpc_proceed(conn);
        return true;
    }
    if (conn->options.tls != SMTPC_TLS_MUST)
        return false;
    smtpc_set_cause(conn, SMTPC_NO_TLS, "the receiver does not offer STARTTLS");
    smtpc_say_quit(conn);
    return true;
}

void smtpc_write_starttls(struct smtpc *conn)
{
    smtpc_put(conn->flight, SLICE_LITERAL("STARTTLS\r\n"));
    smtpc_expect(conn->flight, SMTPC_STARTTLS_SAID, 0);
    conn->flight->next_command = SMTPC_NO_COMMAND;
}

/* Called while received octets are handled: everything begins anew. */
static void on_secured(struct tls *tls, void *owner)
{
    struct smtpc *conn = owner;

    must(conn->state == SMTPC_TLS);
    conn->extensions = 0;
    conn->size_limit = 0;
    conn->flight->next_command = SMTPC_EHLO;
    smtpc_proceed(conn);
}

void smtpc_begin_tls(struct smtpc *conn)
{
    static const struct tls_events events = {.on_secured = on_secured};
    int rc;

    /* The answer can overtake the end of the send that carried the command. */
    if (conn->tls != NULL || stream_is_sending(&conn->stream))
        return;
    if (conn->send_failed) {
        smtpc_fail(conn, SMTPC_LOST, err_text(conn->send_error));
        return;
    }
    rc = conn->events->open_tls(conn, conn->context, &events, &conn->tls);
    if (rc == 0)
        rc = stream_set_transform(&conn->stream, &tls_transform, conn->tls);
    if (rc < 0)
        smtpc_fail(conn, SMTPC_NO_TLS, err_text(rc));
}

void smtpc_on_starttls(struct smtpc *conn, uint32_t rcpt)
{
    struct smtpc_flight *flight = conn->flight;

    if (flight->reply.code == 220 && conn->has_surplus) {
        smtpc_fail_clear(conn);
    } else if (flight->reply.code == 220) {
        smtpc_enter(conn, SMTPC_TLS);
        smtpc_begin_tls(conn);
    } else if (flight->reply.code < 400) {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply that does not fit the command");
    } else if (conn->options.tls == SMTPC_TLS_MUST) {
        reply_to_verdict(&flight->reply, smtpc_row(conn)->scope, smtpc_row(conn)->stage,
                         &flight->verdict);
        /* It is the connection that is refused, never the mail. */
        flight->verdict.class = VERDICT_TRANSIENT;
        smtpc_say_quit(conn);
    } else {
        conn->is_tls_refused = true;
        smtpc_make_ready(conn);
    }
}

void smtpc_fail_clear(struct smtpc *conn)
{
    smtpc_fail(conn, SMTPC_VIOLATION, "text in the clear behind the answer to STARTTLS");
}

void smtpc_fail_handshake(struct smtpc *conn, int32_t reason)
{
    const char *why = conn->tls != NULL ? tls_failure(conn->tls) : "";

    if (why[0] == '\0')
        why = reason < 0 ? err_text(reason) : "closed by the receiver";
    smtpc_fail(conn, SMTPC_NO_TLS, why);
}

bool smtpc_is_encrypted(const struct smtpc *conn)
{
    return conn->tls != NULL && tls_is_secured(conn->tls);
}

const struct tls *smtpc_tls(const struct smtpc *conn)
{
    return conn->tls;
}
