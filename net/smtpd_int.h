/*
 * smtpd_int: what the parts of the SMTP server share: smtpd.c (sessions, listeners, time, replies),
 * smtpd_command.c (command lines), smtpd_data.c (DATA, BDAT and the taker's answer), smtpd_tls.c
 * (STARTTLS).
 *
 *   NEW → START → READY → MAIL → RCPT → DATA → WAIT → READY
 *                             RCPT → CHUNK ⇄ CHUNKED, CHUNK → WAIT
 *   a refused BDAT: START, READY, MAIL, RCPT, CHUNKED → CHUNK (octets thrown away) → START, READY
 *   READY → AUTH ⇄ AUTH → LOGIN → READY, AUTH → READY
 *   READY → SECURE → START by STARTTLS; NEW → SECURE → NEW where TLS comes first
 *   RSET, EHLO and every failed step → READY, with nothing left of the transaction (A12)
 *   every state → LEAVING (the last reply leaves) → CLOSING; every state → CLOSING
 */
#pragma once

#include "core/base/slab.h"
#include "core/mail/body_scan.h"
#include "net/smtpd.h"

/* ---- States ---------------------------------------------------------------------------------- */

/* name, which clock runs, states that may follow */
#define SMTPD_STATE_TABLE(X)                                                                       \
    X(NEW, GREETING, TO(START) | TO(SECURE) | TO(LEAVING))                                         \
    X(START, COMMAND, TO(START) | TO(READY) | TO(CHUNK) | TO(LEAVING))                             \
    X(READY, COMMAND, TO(READY) | TO(AUTH) | TO(SECURE) | TO(MAIL) | TO(CHUNK) | TO(LEAVING))      \
    X(AUTH, COMMAND, TO(AUTH) | TO(LOGIN) | TO(READY) | TO(LEAVING))                               \
    X(LOGIN, NONE, TO(READY) | TO(LEAVING))                                                        \
    X(SECURE, COMMAND, TO(NEW) | TO(START) | TO(LEAVING))                                          \
    X(MAIL, COMMAND, TO(READY) | TO(RCPT) | TO(CHUNK) | TO(LEAVING))                               \
    X(RCPT, COMMAND, TO(READY) | TO(RCPT) | TO(DATA) | TO(CHUNK) | TO(LEAVING))                    \
    X(DATA, OCTETS, TO(READY) | TO(WAIT) | TO(LEAVING))                                            \
    X(CHUNK, OCTETS, TO(START) | TO(READY) | TO(CHUNKED) | TO(WAIT) | TO(LEAVING))                 \
    X(CHUNKED, COMMAND, TO(READY) | TO(CHUNK) | TO(LEAVING))                                       \
    X(WAIT, NONE, TO(READY) | TO(LEAVING))                                                         \
    X(LEAVING, LEAVING, 0)                                                                         \
    X(CLOSING, NONE, 0)

enum smtpd_state {
#define SMTPD_STATE_ENUM(name, clock, next) SMTPD_##name,
    SMTPD_STATE_TABLE(SMTPD_STATE_ENUM)
#undef SMTPD_STATE_ENUM
        SMTPD_STATE_COUNT,
};

/* ---- Replies --------------------------------------------------------------------------------- */

#define SMTPD_REPLY_TABLE(X)                                                                       \
    X(SMTPD_NO_REPLY, "")                                                                          \
    X(SMTPD_GO_SECURE, "220 2.0.0 ready to start TLS")                                             \
    X(SMTPD_BYE, "221 2.0.0 closing connection")                                                   \
    X(SMTPD_OK, "250 2.0.0 ok")                                                                    \
    X(SMTPD_SENDER_OK, "250 2.1.0 sender ok")                                                      \
    X(SMTPD_RCPT_OK, "250 2.1.5 recipient ok")                                                     \
    X(SMTPD_CHUNK_OK, "250 2.0.0 chunk taken")                                                     \
    X(SMTPD_NO_VERIFY, "252 2.1.5 not verified, but mail for it may be accepted")                  \
    X(SMTPD_HELP, "214 2.0.0 see RFC 5321; this server takes mail to be sent out")                 \
    X(SMTPD_GO_AHEAD, "354 end data with <CR><LF>.<CR><LF>")                                       \
    X(SMTPD_STOPPING, "421 4.3.2 service is shutting down")                                        \
    X(SMTPD_TIMEOUT, "421 4.4.2 timeout, closing connection")                                      \
    X(SMTPD_TOO_MANY_ERRORS, "421 4.7.0 too many errors, closing connection")                      \
    X(SMTPD_TOO_MANY_RCPTS, "452 4.5.3 too many recipients")                                       \
    X(SMTPD_NO_TLS, "454 4.7.0 TLS is not available now")                                          \
    X(SMTPD_UNKNOWN, "500 5.5.2 command unrecognized")                                             \
    X(SMTPD_BAD_LINE, "500 5.5.2 control character, or line without CR LF")                        \
    X(SMTPD_LINE_TOO_LONG, "500 5.5.2 line too long, closing connection")                          \
    X(SMTPD_BAD_ARGUMENT, "501 5.5.4 syntax error in argument")                                    \
    X(SMTPD_BAD_SIZE, "501 5.5.4 bad chunk size, closing connection")                              \
    X(SMTPD_AUTH_CANCELLED, "501 5.7.0 login given up")                                            \
    X(SMTPD_AUTH_MALFORMED, "501 5.5.2 this is no answer in base64")                               \
    X(SMTPD_BAD_PARAM, "501 5.5.4 bad or repeated parameter")                                      \
    X(SMTPD_BAD_SENDER, "501 5.1.7 bad sender address syntax")                                     \
    X(SMTPD_BAD_RCPT, "501 5.1.3 bad recipient address syntax")                                    \
    X(SMTPD_NOT_OFFERED, "502 5.5.1 command not implemented")                                      \
    X(SMTPD_BAD_ORDER, "503 5.5.1 bad sequence of commands")                                       \
    X(SMTPD_NO_MECHANISM, "504 5.5.4 no such mechanism here")                                      \
    X(SMTPD_WRONG_LOGIN, "535 5.7.8 user or password is wrong")                                    \
    X(SMTPD_NEEDS_TLS, "538 5.7.11 this login needs an encrypted connection")                      \
    X(SMTPD_NO_RCPT, "554 5.5.1 no valid recipients")                                              \
    X(SMTPD_TOO_BIG, "552 5.3.4 message size exceeds the limit")                                   \
    X(SMTPD_RCPTS_FAIL, "552 5.5.3 too many recipients, the message is refused")                   \
    X(SMTPD_LONG_TEXT, "552 5.6.0 text line too long")                                             \
    X(SMTPD_NOT_ASCII, "553 5.6.7 address needs SMTPUTF8")                                         \
    X(SMTPD_BAD_LINE_ENDS, "554 5.6.0 bare CR, bare LF or NUL in message data")                    \
    X(SMTPD_UNKNOWN_PARAM, "555 5.5.4 parameter not recognized or not implemented")

enum smtpd_reply_id {
#define SMTPD_REPLY_ENUM(name, line) name,
    SMTPD_REPLY_TABLE(SMTPD_REPLY_ENUM)
#undef SMTPD_REPLY_ENUM
};

/* ---- Sessions -------------------------------------------------------------------------------- */

/* A command line with CRLF, and the replies of a flight, each have one such buffer while needed. */
#define SMTPD_BUFFER_BYTES 2048
/* Room for the largest reply (EHLO) and a 421 behind it. */
#define SMTPD_REPLY_ROOM   768

struct auth_server;

struct smtpd_session {
    struct smtpd *server;
    struct list link;
    uint32_t index; /* in the slab */
    uint8_t state;  /* enum smtpd_state */
    bool admitted;
    bool greeted_by_client; /* EHLO or HELO */
    bool seen_turn;         /* NEW: one turn has gone by */
    bool input_held;        /* on_data left octets with the loop */
    bool peer_ended;
    bool linger; /* LEAVING: read on for a moment, so that a reset does not eat the reply */
    bool smtputf8;
    bool chunk_is_last;
    bool write_failed;
    bool is_held;    /* the taker wants no more for now: nothing is read */
    uint8_t refusal; /* enum smtpd_reply_id: why this message will be refused */
    uint32_t rcpt_count;
    uint32_t error_count;
    uint64_t deadline_ns; /* UINT64_MAX = no clock runs */
    uint64_t armed_ns;    /* the timer's time; at or before the deadline */
    /* Octets of message data: of this DATA, or this chunk. */
    uint64_t octets_since_ns;
    uint64_t held_since_ns;
    uint64_t octets_last_ns;
    uint64_t octets;
    uint64_t chunk_left;
    uint64_t pass; /* of admit */
    struct intake_message *message;
    struct body_scan scan;
    /* Replies: [0, sending) is in flight, [sending, filled) follows. */
    uint8_t *replies;
    uint8_t *line; /* the front of a command line that came in parts */
    uint32_t replies_index;
    uint32_t replies_filled;
    uint32_t replies_sending;
    uint32_t line_index;
    uint32_t line_filled;
    struct tls *tls;             /* from the beginning of a handshake on */
    const char *listener_source; /* as the connection came in, whoever logs in */
    struct auth_server *auth;    /* a login in the making, in a buffer of its own, or NULL */
    uint32_t auth_index;
    struct iovec replies_iov;
    struct io_timer timer;
    struct stream stream;
    struct intake_client client;
    struct conf_source source; /* copied: the snapshot may go */
    char helo[ADDRESS_DOMAIN_MAX + 1];
};

struct smtpd {
    struct io *io;
    const struct intake_ops *intake;
    void *taker;
    struct smtpd_options options;
    struct slab sessions_slab;
    struct slab buffers;
    struct list sessions;
    struct list listeners;
    struct io_timer timer; /* accepting again, and the end of stopping */
    bool stopping;
    void (*done)(void *context);
    void *done_context;
    struct smtpd_stats stats;
    struct address postmaster; /* for "<postmaster>" without a domain */
    bool has_postmaster;
    char postmaster_text[ADDRESS_PATH_MAX];
};

/* smtpd.c */
void smtpd_enter(struct smtpd_session *session, enum smtpd_state state);
/* Restarts the clock of the state: a command was complete. */
void smtpd_touch(struct smtpd_session *session);
/* Replies need a buffer: there is one whenever input runs, everybody else asks first. */
bool smtpd_have_reply_buffer(struct smtpd_session *session);
void smtpd_put(struct smtpd_session *session, const void *data, size_t len);
void smtpd_reply(struct smtpd_session *session, enum smtpd_reply_id id);
/* A refused command: counts towards the cap of errors. */
void smtpd_fail(struct smtpd_session *session, enum smtpd_reply_id id);
/* The taker's words. True when the session may go on; else it is leaving or closing. */
bool smtpd_pass_on(struct smtpd_session *session, const struct intake_reply *reply);
/* No more commands: what is in the buffer leaves, then the connection closes. */
void smtpd_leave(struct smtpd_session *session, bool linger);
void smtpd_close(struct smtpd_session *session);
/* After an event from elsewhere than the client: sends replies, goes on reading. */
void smtpd_settle(struct smtpd_session *session);
/* Forgets the transaction, telling the taker; the state is the caller's to enter. */
void smtpd_drop_transaction(struct smtpd_session *session);
uint8_t *smtpd_buffer(struct smtpd_session *session, uint32_t *ret_index);

/* For the log; the caller has seen that the source wants it. */
static inline void smtpd_note(struct smtpd_session *session, enum intake_note kind,
                              struct slice text)
{
    if (session->server->intake->note != NULL)
        session->server->intake->note(session->server->taker, &session->client, kind, text);
}

/* smtpd_command.c: each returns the octets used; 0 = none can be used now. */
size_t smtpd_command_input(struct smtpd_session *session, const uint8_t *data, size_t len);

/* smtpd_auth.c */
/* " PLAIN LOGIN CRAM-MD5", those that may be used now; empty = AUTH is not to be had. */
struct slice smtpd_auth_offer(const struct smtpd_session *session);
void smtpd_on_auth(struct smtpd_session *session, struct slice arguments);
/* In AUTH: the client's answer, without its end. */
void smtpd_auth_line(struct smtpd_session *session, struct slice line);
/* Wipes what is kept of a login. */
void smtpd_auth_drop(struct smtpd_session *session);
/* Whether anybody may log in here, by whatever mechanism. */
static inline bool smtpd_takes_auth(const struct smtpd_session *session)
{
    return session->source.offers_auth && session->server->intake->login != NULL;
}
/* Whether nobody can read along. */
static inline bool smtpd_is_encrypted(const struct smtpd_session *session)
{
    return session->client.is_secured;
}

/* smtpd_tls.c */
/* Whether the EHLO reply offers it. */
bool smtpd_offers_starttls(const struct smtpd_session *session);
void smtpd_on_starttls(struct smtpd_session *session, struct slice arguments);
/* Where TLS comes first: in NEW, to SECURE. False when it does not. */
bool smtpd_secure_at_once(struct smtpd_session *session);
/* The 220 has left: from here on octets are TLS's, those too that lie unread. */
void smtpd_secure(struct smtpd_session *session);
/* Once nothing is left of the connection. */
void smtpd_tls_drop(struct smtpd_session *session);

/* Which of all sessions this one is, for answers that come later. */
static inline uint64_t smtpd_cookie(const struct smtpd_session *session)
{
    struct slab_handle handle = slab_handle(&session->server->sessions_slab, session->index);

    return (uint64_t)handle.generation << 32 | handle.index;
}

/* NULL when it is gone. */
static inline struct smtpd_session *smtpd_of_cookie(struct smtpd *server, uint64_t cookie)
{
    struct slab_handle handle = {(uint32_t)cookie, (uint32_t)(cookie >> 32)};

    return slab_get(&server->sessions_slab, handle);
}

/* smtpd_data.c */
size_t smtpd_data_input(struct smtpd_session *session, const uint8_t *data, size_t len);
size_t smtpd_chunk_input(struct smtpd_session *session, const uint8_t *data, size_t len);
void smtpd_start_data(struct smtpd_session *session);
void smtpd_start_chunk(struct smtpd_session *session, struct slice arguments);

/* Where a session without a transaction stands. */
static inline enum smtpd_state smtpd_rest_state(const struct smtpd_session *session)
{
    return session->greeted_by_client ? SMTPD_READY : SMTPD_START;
}

/* Back to that state with nothing left of the transaction. */
static inline void smtpd_reset(struct smtpd_session *session)
{
    smtpd_drop_transaction(session);
    smtpd_enter(session, smtpd_rest_state(session));
}
