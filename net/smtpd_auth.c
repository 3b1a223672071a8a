/*
 * AUTH (RFC 4954): which mechanisms may be used, the lines between client and server, and what
 * becomes of a session whose client has logged in.
 *
 * Whether the words are right is the taker's to say. What a client says here is never noted for the
 * log, and wiped once it was asked about. A wrong login counts as a refused command.
 */
#include "core/base/must.h"
#include "core/base/text.h"
#include "net/auth.h"
#include "net/smtpd_int.h"
#include "net/tls.h"

_Static_assert(sizeof(struct auth_server) <= SMTPD_BUFFER_BYTES, "a login has one buffer");

static unsigned mechanisms_of(const struct smtpd_session *session)
{
    unsigned all = AUTH_BIT(AUTH_MECHANISMS) - 1;
    uint8_t digest[TLS_DIGEST_BYTES];
    bool is_encrypted = smtpd_is_encrypted(session);

    if (!is_encrypted || !tls_peer_digest(session->tls, digest))
        all &= ~AUTH_BIT(AUTH_EXTERNAL);
    if (!smtpd_takes_auth(session) ||
        (session->source.require_starttls_before_auth && !is_encrypted))
        return 0;
    if (!is_encrypted && !session->source.allow_unencrypted_plain_auth)
        return all & ~AUTH_IN_THE_CLEAR;
    return all;
}

struct slice smtpd_auth_offer(const struct smtpd_session *session)
{
    unsigned mechanisms = session->client.user != NULL ? 0 : mechanisms_of(session);

    if (mechanisms == 0)
        return SLICE_EMPTY;
    if ((mechanisms & AUTH_BIT(AUTH_EXTERNAL)) != 0)
        return SLICE_LITERAL(" PLAIN LOGIN CRAM-MD5 EXTERNAL");
    return (mechanisms & AUTH_IN_THE_CLEAR) != 0 ? SLICE_LITERAL(" PLAIN LOGIN CRAM-MD5")
                                                 : SLICE_LITERAL(" CRAM-MD5");
}

void smtpd_auth_drop(struct smtpd_session *session)
{
    if (session->auth == NULL)
        return;
    auth_wipe(session->auth, sizeof(*session->auth));
    slab_free(&session->server->buffers, session->auth_index);
    session->auth = NULL;
}

/* ---- The end of a login ---------------------------------------------------------------------- */

static void become(struct smtpd_session *session, const struct intake_identity *identity)
{
    session->client.user = identity->user;
    session->client.listener_source = identity->source_name;
    session->source = *identity->source;
}

static void on_login(void *asker, uint64_t cookie, const struct intake_identity *identity)
{
    struct smtpd_session *session = smtpd_of_cookie(asker, cookie);

    if (session == NULL || session->state != SMTPD_LOGIN)
        return;
    smtpd_auth_drop(session);
    if (!smtpd_have_reply_buffer(session)) {
        smtpd_close(session);
        return;
    }
    if (identity->user != NULL) {
        become(session, identity);
    } else {
        session->server->stats.refused_commands++;
        session->error_count++;
    }
    if (smtpd_pass_on(session, &identity->reply)) {
        smtpd_enter(session, SMTPD_READY);
        if (session->error_count >= session->server->options.bad_command_count_max) {
            smtpd_reply(session, SMTPD_TOO_MANY_ERRORS);
            smtpd_leave(session, true);
        }
    }
    if (session->state != SMTPD_CLOSING)
        smtpd_settle(session);
}

static void ask_taker(struct smtpd_session *session)
{
    const struct smtpd *server = session->server;
    uint8_t digest[TLS_DIGEST_BYTES];
    struct intake_login login = {
        .user = auth_server_user(session->auth),
        .secret = auth_server_secret(session->auth),
        .challenge = slice_of(session->auth->challenge, session->auth->challenge_bytes),
    };

    if (session->auth->mechanism == AUTH_EXTERNAL && tls_peer_digest(session->tls, digest))
        login.certificate = digest;
    smtpd_enter(session, SMTPD_LOGIN);
    server->intake->login(server->taker, &session->client, &login, on_login, session->server,
                          smtpd_cookie(session));
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static void refuse(struct smtpd_session *session, enum smtpd_reply_id id)
{
    smtpd_auth_drop(session);
    if (session->state == SMTPD_AUTH)
        smtpd_enter(session, SMTPD_READY);
    smtpd_fail(session, id);
}

static void go_on(struct smtpd_session *session, enum auth_progress progress, struct slice prompt)
{
    switch (progress) {
    case AUTH_GO_ON:
        smtpd_put(session, "334 ", 4);
        smtpd_put(session, prompt.data, prompt.len);
        smtpd_put(session, "\r\n", 2);
        smtpd_enter(session, SMTPD_AUTH);
        break;
    case AUTH_COMPLETE:
        if (session->state == SMTPD_READY)
            smtpd_enter(session, SMTPD_AUTH);
        ask_taker(session);
        break;
    case AUTH_MALFORMED:
        refuse(session, SMTPD_AUTH_MALFORMED);
        break;
    case AUTH_CANCELLED:
        refuse(session, SMTPD_AUTH_CANCELLED);
        break;
    case AUTH_REFUSED:
        refuse(session, SMTPD_WRONG_LOGIN);
        break;
    }
}

void smtpd_auth_line(struct smtpd_session *session, struct slice line)
{
    char room[AUTH_ANSWER_MAX];
    struct slice prompt = SLICE_EMPTY;
    enum auth_progress progress = auth_server_hear(session->auth, line, &prompt, room);

    go_on(session, progress, prompt);
}

/* RFC 2195 section 2: unlike any before, and in the form of a Message-ID. */
static void make_challenge(const struct smtpd_session *session, struct text *challenge)
{
    struct io *io = session->server->io;

    text_put_char(challenge, '<');
    text_put_u64(challenge, rng_u64(io_rng(io)), 0);
    text_put_char(challenge, '.');
    text_put_u64(challenge, rng_u64(io_rng(io)), 0);
    text_put_char(challenge, '.');
    text_put_u64(challenge, io_wall_us(io), 0);
    text_put_char(challenge, '@');
    text_put_str(challenge, session->server->options.host_name);
    if (challenge->len >= AUTH_CHALLENGE_MAX - 1)
        challenge->len = AUTH_CHALLENGE_MAX - 2;
    text_put_char(challenge, '>');
}

static void begin(struct smtpd_session *session, enum auth_mechanism mechanism,
                  struct slice initial)
{
    char words[AUTH_CHALLENGE_MAX], room[AUTH_ANSWER_MAX];
    struct text challenge = text_in(words, sizeof(words));
    struct slice prompt = SLICE_EMPTY;
    enum auth_progress progress;

    session->auth = (struct auth_server *)(void *)smtpd_buffer(session, &session->auth_index);
    if (session->auth == NULL) {
        smtpd_close(session);
        return;
    }
    if (mechanism == AUTH_CRAM_MD5)
        make_challenge(session, &challenge);
    auth_server_begin(session->auth, mechanism, text_slice(&challenge));
    progress = auth_server_start(session->auth, initial, &prompt, room);
    go_on(session, progress, prompt);
}

void smtpd_on_auth(struct smtpd_session *session, struct slice arguments)
{
    unsigned allowed = mechanisms_of(session);
    struct slice name = slice_of(arguments.data, slice_find(arguments, ' '));
    enum auth_mechanism mechanism = auth_mechanism_named(name);

    if (!smtpd_takes_auth(session)) {
        smtpd_fail(session, SMTPD_NOT_OFFERED);
    } else if (session->state != SMTPD_READY || !session->client.esmtp ||
               session->client.user != NULL) {
        smtpd_reset(session);
        smtpd_fail(session, SMTPD_BAD_ORDER);
    } else if (mechanism == AUTH_MECHANISMS) {
        smtpd_fail(session, SMTPD_NO_MECHANISM);
    } else if ((allowed & AUTH_BIT(mechanism)) == 0) {
        smtpd_fail(session, mechanism == AUTH_EXTERNAL && smtpd_is_encrypted(session)
                                ? SMTPD_NO_MECHANISM
                                : SMTPD_NEEDS_TLS);
    } else {
        begin(session, mechanism, slice_trim(slice_after(arguments, name.len)));
    }
}
