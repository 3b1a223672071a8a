/*
 * STARTTLS (RFC 3207), and TLS that comes first (RFC 8314).
 *
 * In SECURE nothing is read here: what the client says next lies with the loop until the 220 has
 * left, and is TLS's then. So no word that came in the clear can ever be taken for one that came
 * encrypted.
 */
#include "net/smtpd_int.h"
#include "net/tls.h"

#include <stdio.h>

static struct intake_tls ask_taker(const struct smtpd_session *session)
{
    const struct smtpd *server = session->server;
    struct intake_tls tls = {0};

    if (server->intake->secure != NULL)
        server->intake->secure(server->taker, &session->client.local, &tls);
    return tls;
}

bool smtpd_offers_starttls(const struct smtpd_session *session)
{
    return session->source.allow_starttls && session->tls == NULL &&
           ask_taker(session).context != NULL;
}

void smtpd_on_starttls(struct smtpd_session *session, struct slice arguments)
{
    if (!session->source.allow_starttls) {
        smtpd_fail(session, SMTPD_NOT_OFFERED);
    } else if (session->state != SMTPD_READY || session->tls != NULL) {
        smtpd_reset(session);
        smtpd_fail(session, SMTPD_BAD_ORDER);
    } else if (arguments.len > 0) {
        smtpd_fail(session, SMTPD_BAD_ARGUMENT);
    } else if (ask_taker(session).context == NULL) {
        smtpd_fail(session, SMTPD_NO_TLS);
    } else {
        smtpd_reply(session, SMTPD_GO_SECURE);
        smtpd_enter(session, SMTPD_SECURE);
    }
}

/* RFC 3207 4.2: what the client said of itself in the clear, anybody may have said. */
static void forget_client(struct smtpd_session *session)
{
    const struct intake_ops *intake = session->server->intake;

    session->greeted_by_client = false;
    session->client.helo = SLICE_EMPTY;
    session->client.esmtp = false;
    if (session->client.user == NULL)
        return;
    session->client.user = NULL;
    session->client.listener_source = session->listener_source;
    session->source =
        *intake->settings(session->server->taker, &session->client.peer, session->listener_source);
}

static bool tells_tls(const struct smtpd_session *session)
{
    return session->source.log_connections || session->source.log_tls;
}

static void note_secured(struct smtpd_session *session)
{
    char text[96];
    int len =
        snprintf(text, sizeof(text), "%s %s", tls_protocol(session->tls), tls_cipher(session->tls));

    if (tells_tls(session))
        smtpd_note(session, INTAKE_NOTE_SECURED, slice_of(text, (size_t)len));
}

static void on_secured(struct tls *tls, void *owner)
{
    struct smtpd_session *session = owner;
    bool was_first = !session->seen_turn;

    if (session->state != SMTPD_SECURE)
        return;
    forget_client(session);
    session->client.is_secured = true;
    note_secured(session);
    /* Who has not been greeted is greeted as others are: after a turn without a word (A35). */
    smtpd_enter(session, was_first ? SMTPD_NEW : SMTPD_START);
}

static const struct tls_events tls_events = {.on_secured = on_secured};

static void begin(struct smtpd_session *session, struct tls_context *context)
{
    if (context == NULL || tls_open(context, NULL, 0, &tls_events, session, &session->tls) < 0 ||
        stream_set_transform(&session->stream, &tls_transform, session->tls) < 0)
        smtpd_close(session);
}

bool smtpd_secure_at_once(struct smtpd_session *session)
{
    struct intake_tls tls = ask_taker(session);

    if (!tls.is_immediate)
        return false;
    smtpd_enter(session, SMTPD_SECURE);
    begin(session, tls.context);
    return true;
}

void smtpd_secure(struct smtpd_session *session)
{
    begin(session, ask_taker(session).context);
    if (session->state == SMTPD_CLOSING)
        return;
    session->input_held = false;
    stream_resume(&session->stream);
}

void smtpd_tls_drop(struct smtpd_session *session)
{
    if (session->tls != NULL && tells_tls(session) && tls_failure(session->tls)[0] != '\0')
        smtpd_note(session, INTAKE_NOTE_NO_TLS, slice_str(tls_failure(session->tls)));
    tls_close(session->tls);
    session->tls = NULL;
}
