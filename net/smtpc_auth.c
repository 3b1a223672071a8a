/*
 * AUTH (RFC 4954) behind EHLO, where the owner has a name and a password for the receiver: without
 * a login that was taken nothing of a message is said. Its refusal is never a fault of a message.
 */
#include "net/auth.h"
#include "net/smtpc_int.h"

#define PROMPTS_MAX 3

_Static_assert(SMTPC_LOGIN_TEXT_MAX == AUTH_TEXT_MAX, "what may be said");

void smtpc_note_mechanisms(struct smtpc *conn, struct slice names)
{
    while (names.len > 0) {
        struct slice name = slice_of(names.data, slice_find(names, ' '));
        enum auth_mechanism mechanism = auth_mechanism_named(name);

        /* Nobody logs in by a certificate here. */
        if (mechanism != AUTH_MECHANISMS && mechanism != AUTH_EXTERNAL)
            conn->auth_offers |= (uint8_t)AUTH_BIT(mechanism);
        names = slice_after(names, name.len < names.len ? name.len + 1 : name.len);
    }
}

void smtpc_keep_login(struct smtpc *conn, const struct smtpc_login *login)
{
    struct smtpc_flight *flight = conn->flight;

    conn->options.login = NULL;
    conn->wants_login = login != NULL;
    if (login == NULL)
        return;
    conn->shows_password = login->may_show_password;
    must(login->user.len <= SMTPC_LOGIN_TEXT_MAX && login->password.len <= SMTPC_LOGIN_TEXT_MAX);
    flight->login_user_bytes = (uint8_t)login->user.len;
    flight->login_password_bytes = (uint8_t)login->password.len;
    memcpy(flight->login_user, login->user.data, login->user.len);
    if (login->password.len > 0)
        memcpy(flight->login_password, login->password.data, login->password.len);
}

static void forget_login(struct smtpc *conn)
{
    auth_wipe(conn->flight->login_password, sizeof(conn->flight->login_password));
    auth_wipe(conn->flight->buffer, sizeof(conn->flight->buffer));
}

bool smtpc_log_in(struct smtpc *conn)
{
    bool may_show = conn->shows_password || smtpc_is_encrypted(conn);
    enum auth_mechanism mechanism = auth_client_choose(conn->auth_offers, may_show);

    if (!conn->wants_login)
        return false;
    if (mechanism == AUTH_MECHANISMS) {
        smtpc_set_cause(conn, SMTPC_NO_LOGIN,
                        conn->auth_offers == 0
                            ? "the receiver offers no mechanism that is known here"
                            : "the receiver offers only what shows the password, without TLS");
        smtpc_say_quit(conn);
        return true;
    }
    conn->auth_mechanism = (uint8_t)mechanism;
    conn->auth_prompts = 0;
    conn->flight->next_command = SMTPC_AUTH;
    smtpc_proceed(conn);
    return true;
}

void smtpc_write_auth(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;
    struct slice user = slice_of(flight->login_user, flight->login_user_bytes);
    struct slice password = slice_of(flight->login_password, flight->login_password_bytes);
    char room[AUTH_ANSWER_MAX];
    int len;

    if (conn->auth_prompts == 0) {
        smtpc_put(flight, SLICE_LITERAL("AUTH "));
        len = auth_client_start(conn->auth_mechanism, user, password, room);
    } else {
        len = auth_client_answer(conn->auth_mechanism, conn->auth_prompts - 1u,
                                 slice_trim(reply_line(&flight->reply)), user, password, room);
    }
    /* To a question that makes no sense the answer is that we give up. */
    smtpc_put(flight, len >= 0 ? slice_of(room, (size_t)len) : SLICE_LITERAL("*"));
    smtpc_put(flight, SLICE_LITERAL("\r\n"));
    auth_wipe(room, sizeof(room));
    smtpc_expect(flight, SMTPC_AUTH, 0);
    flight->next_command = SMTPC_NO_COMMAND;
}

void smtpc_on_auth(struct smtpc *conn, uint32_t rcpt)
{
    struct smtpc_flight *flight = conn->flight;

    if (flight->reply.code == 235) {
        forget_login(conn);
        conn->wants_login = false;
        smtpc_make_ready(conn);
    } else if (flight->reply.code == 334 && conn->auth_prompts < PROMPTS_MAX) {
        conn->auth_prompts++;
        flight->next_command = SMTPC_AUTH;
        smtpc_proceed(conn);
    } else if (flight->reply.code >= 400) {
        forget_login(conn);
        reply_to_verdict(&flight->reply, smtpc_row(conn)->scope, smtpc_row(conn)->stage,
                         &flight->verdict);
        /* A wrong password is put right some day: no mail is lost for it. */
        flight->verdict.class = VERDICT_TRANSIENT;
        smtpc_say_quit(conn);
    } else {
        smtpc_fail(conn, SMTPC_VIOLATION, "a reply that does not fit the command");
    }
}
