/*
 * smtpc_int: what the files of the SMTP client share; nobody else includes it.
 *
 * smtpc.c         engine, lifecycle, the one enter(), stream events, timer
 * smtpc_states.c  one small function per state: what a reply means
 * smtpc_flight.c  commands into flights, the ring of expected replies, the body in windows
 * smtpc_chunk.c   the message as one chunk, behind its commands
 * smtpc_tls.c     STARTTLS, where TLS is wanted
 * smtpc_auth.c    AUTH, where there is a login
 * smtpc_ahead.c   the transaction whose commands leave behind the body of the one before
 *
 * A connection that is not IDLE holds a flight: the buffer of commands, the ring of expectations,
 * the reply being read and the verdict of the end. An idle one does without, and stays small; a
 * word from the receiver gives it one.
 */
#pragma once

#include "core/base/must.h"
#include "core/base/slab.h"
#include "core/mail/reply.h"
#include "net/smtpc.h"
#include "net/stream.h"
#include "net/tls.h"

/* ---- States -------------------------------------------------------------------------------- */

#define SMTPC_NO_TIMEOUT  UINT16_MAX
#define SMTPC_TIME(field) offsetof(struct smtpc_options, field)
#define SMTPC_TO(state)   (1u << SMTPC_##state)

/*
 * name: what is waited for.
 * timeout: field of struct smtpc_options.
 * stage, scope: of a verdict that is made in this state.
 * command: writes the command whose reply is waited for; NULL = none is sent.
 * on_reply: NULL = no reply is expected.
 * next: where it may lead.
 */
#define SMTPC_STATE_TABLE(X)                                                                       \
    X(CONNECTING, SMTPC_TIME(connect_timeout_ms), VERDICT_AT_CONNECT, VERDICT_HOST, NULL, NULL,    \
      SMTPC_TO(GREETING) | SMTPC_TO(CLOSING))                                                      \
    X(GREETING, SMTPC_TIME(greeting_timeout_ms), VERDICT_AT_GREETING, VERDICT_HOST, NULL,          \
      smtpc_on_greeting, SMTPC_TO(EHLO) | SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))                      \
    X(EHLO, SMTPC_TIME(command_timeout_ms), VERDICT_AT_EHLO, VERDICT_HOST, smtpc_write_ehlo,       \
      smtpc_on_ehlo,                                                                               \
      SMTPC_TO(HELO) | SMTPC_TO(STARTTLS_SAID) | SMTPC_TO(AUTH) | SMTPC_TO(IDLE) |                 \
          SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))                                                      \
    X(HELO, SMTPC_TIME(command_timeout_ms), VERDICT_AT_EHLO, VERDICT_HOST, smtpc_write_helo,       \
      smtpc_on_helo, SMTPC_TO(IDLE) | SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))                          \
    X(STARTTLS_SAID, SMTPC_TIME(command_timeout_ms), VERDICT_AT_TLS, VERDICT_HOST,                 \
      smtpc_write_starttls, smtpc_on_starttls,                                                     \
      SMTPC_TO(TLS) | SMTPC_TO(AUTH) | SMTPC_TO(IDLE) | SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))        \
    X(TLS, SMTPC_TIME(command_timeout_ms), VERDICT_AT_TLS, VERDICT_HOST, NULL, NULL,               \
      SMTPC_TO(EHLO) | SMTPC_TO(CLOSING))                                                          \
    X(AUTH, SMTPC_TIME(command_timeout_ms), VERDICT_AT_AUTH, VERDICT_HOST, smtpc_write_auth,       \
      smtpc_on_auth, SMTPC_TO(IDLE) | SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))                          \
    X(IDLE, SMTPC_NO_TIMEOUT, VERDICT_AT_IDLE, VERDICT_SESSION, NULL, NULL,                        \
      SMTPC_TO(RSET) | SMTPC_TO(MAIL) | SMTPC_TO(LOCAL) | SMTPC_TO(QUIT) | SMTPC_TO(CLOSING))      \
    X(LOCAL, SMTPC_NO_TIMEOUT, VERDICT_AT_LOCAL, VERDICT_MESSAGE, NULL, NULL,                      \
      SMTPC_TO(IDLE) | SMTPC_TO(CLOSING))                                                          \
    X(RSET, SMTPC_TIME(command_timeout_ms), VERDICT_AT_MAIL, VERDICT_SESSION, smtpc_write_rset,    \
      smtpc_on_rset, SMTPC_TO(MAIL) | SMTPC_TO(IDLE) | SMTPC_TO(CLOSING))                          \
    X(MAIL, SMTPC_TIME(command_timeout_ms), VERDICT_AT_MAIL, VERDICT_MESSAGE, smtpc_write_mail,    \
      smtpc_on_mail, SMTPC_TO(RCPT) | SMTPC_TO(IDLE) | SMTPC_TO(RSET) | SMTPC_TO(CLOSING))         \
    X(RCPT, SMTPC_TIME(command_timeout_ms), VERDICT_AT_RCPT, VERDICT_RECIPIENT, smtpc_write_rcpt,  \
      smtpc_on_rcpt,                                                                               \
      SMTPC_TO(RCPT) | SMTPC_TO(DATA) | SMTPC_TO(BDAT) | SMTPC_TO(IDLE) | SMTPC_TO(RSET) |         \
          SMTPC_TO(CLOSING))                                                                       \
    X(DATA, SMTPC_TIME(data_timeout_ms), VERDICT_AT_DATA, VERDICT_MESSAGE, smtpc_write_data,       \
      smtpc_on_data_reply, SMTPC_TO(BODY) | SMTPC_TO(IDLE) | SMTPC_TO(RSET) | SMTPC_TO(CLOSING))   \
    X(BDAT, SMTPC_TIME(data_termination_timeout_ms), VERDICT_AT_DOT, VERDICT_MESSAGE,              \
      smtpc_write_bdat, smtpc_on_bdat, SMTPC_TO(IDLE) | SMTPC_TO(CLOSING))                         \
    X(BODY, SMTPC_TIME(data_send_timeout_ms), VERDICT_AT_BODY, VERDICT_MESSAGE, NULL, NULL,        \
      SMTPC_TO(BODY) | SMTPC_TO(DOT) | SMTPC_TO(CLOSING))                                          \
    X(DOT, SMTPC_TIME(data_termination_timeout_ms), VERDICT_AT_DOT, VERDICT_MESSAGE, NULL,         \
      smtpc_on_dot, SMTPC_TO(IDLE) | SMTPC_TO(MAIL) | SMTPC_TO(CLOSING))                           \
    X(QUIT, SMTPC_TIME(quit_timeout_ms), VERDICT_AT_IDLE, VERDICT_SESSION, smtpc_write_quit,       \
      smtpc_on_quit, SMTPC_TO(CLOSING))                                                            \
    X(CLOSING, SMTPC_NO_TIMEOUT, VERDICT_AT_IDLE, VERDICT_SESSION, NULL, NULL, 0)

enum smtpc_state {
#define SMTPC_STATE_ENUM(name, timeout, stage, scope, command, on_reply, next) SMTPC_##name,
    SMTPC_STATE_TABLE(SMTPC_STATE_ENUM)
#undef SMTPC_STATE_ENUM
        SMTPC_STATE_COUNT,
};

/* Instead of a state where a command to be sent is named. */
#define SMTPC_NO_COMMAND SMTPC_STATE_COUNT

struct smtpc_state_row {
    const char *name;
    uint16_t timeout; /* offset in struct smtpc_options, or SMTPC_NO_TIMEOUT */
    uint8_t stage;
    uint8_t scope;
    uint32_t next; /* bits 1 << state */
    /* Appends one command to the flight's buffer. */
    void (*command)(struct smtpc *conn);
    /* The reply stands in the flight; rcpt is its recipient's index in a transaction. */
    void (*on_reply)(struct smtpc *conn, uint32_t rcpt);
};

extern const struct smtpc_state_row smtpc_states[SMTPC_STATE_COUNT];

/* ---- Connection and flight ----------------------------------------------------------------- */

#define SMTPC_BUFFER_BYTES      2048
#define SMTPC_COMMAND_BYTES_MAX 512 /* RFC 5321 4.5.3.1.4 and the parameters of the extensions */
/* RCPT with NOTIFY and ORCPT, RFC 3461 4.1 and 4.2. */
#define SMTPC_RCPT_BYTES_MAX    1024
#define SMTPC_HELO_BYTES_MAX    255
#define SMTPC_ADDRESS_BYTES_MAX 320          /* RFC 5321 4.5.3.1: 64 + 1 + 255 */
#define SMTPC_EXPECTED_MAX      128          /* power of two; RSET, MAIL, 100 RCPT, DATA fit */
#define SMTPC_WINDOW_BYTES      (256 * 1024) /* of the body in one send: each is progress */
#define SMTPC_WINDOW_PARTS      8
#define SMTPC_GRACE_MS          2000 /* for the receiver's last words once sending failed */

_Static_assert(SMTPC_EXPECTED_MAX >= SMTPC_RCPT_COUNT_MAX + 4,
               "one transaction and the dot before it fit the ring");

struct smtpc_expected {
    uint8_t state; /* enum smtpc_state that handles the reply */
    uint8_t rcpt;
};

enum smtpc_dot {
    SMTPC_DOT_HELD,    /* not yet given to the stream */
    SMTPC_DOT_LEAVING, /* given; whether it has left is not known yet */
    SMTPC_DOT_SENT,
    SMTPC_DOT_FAILED, /* the stream could not send it */
};

#define SMTPC_REFUSAL_BYTES_MAX 256 /* kept of a refusal that explains a 421 */

struct smtpc_flight {
    uint32_t slot;
    struct smtpc_expected expected[SMTPC_EXPECTED_MAX];
    uint32_t expected_first; /* running numbers; index modulo the size */
    uint32_t expected_end;
    uint8_t next_command; /* enum smtpc_state, or SMTPC_NO_COMMAND */
    uint8_t dot;          /* enum smtpc_dot */
    bool had_reply;       /* some reply of this transaction has come */
    bool reply_waits;     /* the dot's reply stands in `reply`, the body has not quite left */
    bool dot_is_followed; /* commands leave in the send that carries it */
    uint32_t next_rcpt;   /* the next RCPT to be written */
    uint32_t accepted_count;
    bool rcpts_are_told;   /* each was taken with an enhanced code of its own kind, 2.1.x */
    uint32_t content_at;   /* the body: the next part to be sent … */
    size_t content_offset; /* … and the byte in it */
    struct iovec window[SMTPC_WINDOW_PARTS];
    uint8_t refusal_enhanced[3]; /* of the last refusal, for replace_421 */
    uint16_t refusal_bytes;      /* 0 = none */
    char refusal_text[SMTPC_REFUSAL_BYTES_MAX];
    struct reply_parser reply;
    struct verdict
        verdict; /* why the connection ends; made before QUIT or CLOSING; code 0 = none */
    uint8_t login_user_bytes; /* until the receiver has taken the login */
    uint8_t login_password_bytes;
    char login_user[SMTPC_LOGIN_TEXT_MAX];
    char login_password[SMTPC_LOGIN_TEXT_MAX];
    uint32_t buffer_used;
    uint8_t buffer[SMTPC_BUFFER_BYTES];
};

/* What a tentative transaction's recipient was told. */
struct smtpc_held {
    uint32_t next; /* slot, or SMTPC_NO_HELD */
    uint8_t rcpt;  /* or SMTPC_HELD_OPEN */
    struct verdict verdict;
};

/* A connection holds few as a rule; where there is no room it ends. */
#define SMTPC_HELD_MAX(connections) ((connections) + SMTPC_RCPT_COUNT_MAX)

#define SMTPC_NO_HELD   UINT32_MAX
#define SMTPC_HELD_OPEN UINT8_MAX /* all that are open then */

struct smtpc {
    struct smtpc_engine *engine;
    struct smtpc_flight *flight; /* NULL = IDLE or LOCAL, and no word of the receiver's */
    struct tls *tls;             /* NULL = none was begun */
    const struct smtpc_events *events;
    void *context;
    uint32_t slot;
    int fd;              /* while connecting */
    uint8_t state;       /* enum smtpc_state; smtpc_enter alone writes it */
    uint8_t extensions;  /* enum smtpc_extension, as offered */
    uint8_t refusal;     /* enum smtpc_refusal, in LOCAL */
    bool is_connected;   /* the union holds the stream */
    bool needs_reset;    /* the receiver still has a transaction open */
    bool send_failed;    /* nothing more can be sent; the receiver's last words may still come */
    bool has_surplus;    /* bytes lie behind the reply that is being handled */
    bool is_ending;      /* inside on_ending */
    bool is_tentative;   /* the transaction was sent ahead, and no reply has proved step yet */
    bool all_held;       /* … and the fate of all its recipients is held */
    bool has_taken;      /* some message was taken on this connection */
    bool tells_apart;    /* see smtpc_tells_apart */
    bool refuses_chunks; /* it offered CHUNKING and did not know BDAT */
    bool is_heralding;   /* a proxy has not been told yet where the connection goes */
    bool wants_login;    /* and has not logged in yet */
    bool shows_password; /* without TLS too */
    uint8_t auth_offers; /* AUTH_BIT of each mechanism */
    uint8_t auth_mechanism;
    uint8_t auth_prompts; /* the receiver's so far */
    bool is_tls_refused;  /* STARTTLS was offered and then refused */
    bool is_sent_away; /* 421 came before the receiver had seen anything of a later transaction */
    uint8_t cause;     /* enum smtpc_cause, of a verdict of ours */
    int32_t send_error;
    int32_t connect_result;  /* -EINPROGRESS until it is known */
    int32_t tcp_info_result; /* of the look at the end */
    uint32_t transaction_count;
    struct io_tcp_info tcp_info; /* what it saw */
    uint64_t size_limit;
    uint64_t deadline_ns;     /* of the opening or of the transaction (A22) */
    uint64_t body_started_ns; /* the deadline stands still while the body makes progress */
    struct smtpc_transaction transaction; /* rcpt_count 0 = none */
    struct smtpc_transaction ahead;       /* likewise; it follows that one */
    uint32_t open_count;                  /* recipients not yet reported */
    uint32_t held_first;                  /* slots of struct smtpc_held, in order */
    uint32_t held_last;
    uint64_t reported[2];
    struct io_timer timer; /* the one timer */
    struct smtpc_options options;
    union {
        struct io_op connect_op;
        struct stream stream;
    };
};

_Static_assert(SMTPC_RCPT_COUNT_MAX <= 128, "two words of bits");
_Static_assert(sizeof(struct smtpc) <= 1024, "memory of an idle connection");

#define SMTPC_EXTENSION_COUNT      8
#define SMTPC_EXTENSION_TEXT_BYTES 80

struct smtpc_engine {
    struct io *io;
    struct slab connections;
    struct slab flights;
    struct slab held;
    uint64_t chunk_count;
    /* Every combination's text, made once. */
    uint8_t extension_text_bytes[1 << SMTPC_EXTENSION_COUNT];
    char extension_texts[1 << SMTPC_EXTENSION_COUNT][SMTPC_EXTENSION_TEXT_BYTES];
};

static inline const struct smtpc_state_row *smtpc_row(const struct smtpc *conn)
{
    return &smtpc_states[conn->state];
}

/* ---- Ends of our own making ---------------------------------------------------------------- */

/* name, code, enhanced code, text */
#define SMTPC_CAUSE_TABLE(X)                                                                       \
    X(SMTPC_NO_CONNECTION, 421, 4, 4, 1, "no connection")                                          \
    X(SMTPC_LOST, 421, 4, 4, 2, "connection lost")                                                 \
    X(SMTPC_TIMED_OUT, 421, 4, 4, 2, "no answer in time")                                          \
    X(SMTPC_TOO_SLOW, 421, 4, 4, 2, "the receiver takes too long in all")                          \
    X(SMTPC_VIOLATION, 421, 4, 5, 0, "protocol violation")                                         \
    X(SMTPC_NO_TLS, 454, 4, 7, 5, "TLS could not be begun")                                        \
    X(SMTPC_NO_LOGIN, 421, 4, 7, 0, "no login is possible")                                        \
    X(SMTPC_NO_MEMORY, 421, 4, 3, 0, "no memory left for the conversation")                        \
    X(SMTPC_ABORTED, 421, 4, 3, 0, "ended by ourselves")

enum smtpc_cause {
#define SMTPC_CAUSE_ENUM(name, code, class, subject, detail, text) name,
    SMTPC_CAUSE_TABLE(SMTPC_CAUSE_ENUM)
#undef SMTPC_CAUSE_ENUM
};

/* Why a transaction cannot be sent to this receiver at all: permanent, without a word to it.
 * name, code, enhanced code, text */
#define SMTPC_REFUSAL_TABLE(X)                                                                     \
    X(SMTPC_REFUSE_NOTHING, 250, 2, 0, 0, "")                                                      \
    X(SMTPC_REFUSE_SENDER, 553, 5, 1, 7, "the sender's address cannot be said in SMTP")            \
    X(SMTPC_REFUSE_RCPT, 553, 5, 1, 3, "a recipient's address cannot be said in SMTP")             \
    X(SMTPC_REFUSE_SIZE, 552, 5, 3, 4, "the message is larger than the receiver allows")           \
    X(SMTPC_REFUSE_8BIT, 554, 5, 6, 3, "8-bit content, and the receiver does not offer 8BITMIME")  \
    X(SMTPC_REFUSE_UTF8, 553, 5, 6, 7, "SMTPUTF8 is needed, and the receiver does not offer it")

enum smtpc_refusal {
#define SMTPC_REFUSAL_ENUM(name, code, class, subject, detail, text) name,
    SMTPC_REFUSAL_TABLE(SMTPC_REFUSAL_ENUM)
#undef SMTPC_REFUSAL_ENUM
};

/* ---- smtpc.c ------------------------------------------------------------------------------- */

/* The only writer of state: checks the edge, arms the timer. */
void smtpc_enter(struct smtpc *conn, enum smtpc_state to);
/* Ends the connection now, with the flight's verdict; the reports follow when the loop has done
 * with it. */
void smtpc_close(struct smtpc *conn);
/* Makes the verdict, one of ours; detail may be NULL. */
void smtpc_set_cause(struct smtpc *conn, enum smtpc_cause cause, const char *detail);
/* Both. A verdict that was made before QUIT stays. */
void smtpc_fail(struct smtpc *conn, enum smtpc_cause cause, const char *detail);
/* The same with the flight's reply as the verdict. */
void smtpc_fail_reply(struct smtpc *conn);
/* Takes a flight if the connection has none; one that it has stays as it is. False without memory.
 */
bool smtpc_take_flight(struct smtpc *conn);
/* Gives it back unless a send still reads from it, or a reply has begun. */
void smtpc_drop_flight(struct smtpc *conn);
/* Had the end of the message left when the connection ended? Then it may have been taken. */
bool smtpc_dot_has_left(const struct smtpc *conn);
/* The time for one opening or one transaction begins now. */
void smtpc_start_deadline(struct smtpc *conn);
void smtpc_arm_ms(struct smtpc *conn, uint64_t ms);

/* ---- smtpc_flight.c ------------------------------------------------------------------------ */

/* Nothing expected, nothing to be sent. */
void smtpc_flight_reset(struct smtpc_flight *flight);
static inline bool smtpc_expects(const struct smtpc_flight *flight)
{
    return flight->expected_first != flight->expected_end;
}
void smtpc_expect(struct smtpc_flight *flight, enum smtpc_state state, uint32_t rcpt);
struct smtpc_expected smtpc_expected_pop(struct smtpc_flight *flight);
/* Sends the commands that may leave now and enters the state of the reply that comes next; ends
 * the transaction when nothing is left of it. */
void smtpc_proceed(struct smtpc *conn);
/* The receiver said 354: the body, or a lone dot when no recipient was taken. */
void smtpc_start_body(struct smtpc *conn);
/* Writes commands into the flight's buffer, as many as may leave now. */
void smtpc_write_commands(struct smtpc *conn);
/* Appends to the flight's buffer; there is room. */
void smtpc_put(struct smtpc_flight *flight, struct slice s);
/* Does the content end with CRLF, and so without a byte more of ours? */
bool smtpc_ends_line(const struct smtpc_transaction *transaction);
/* Tells on_note where note_commands asks for it. */
void smtpc_note(struct smtpc *conn, enum smtpc_note kind, struct slice text);
/* The reply that waited for the end of the body is handled now. */
void smtpc_on_waited(struct smtpc *conn);
/* A window of the body has been sent. */
void smtpc_on_window_sent(struct smtpc *conn);
/* The dot's reply is here, but the receiver does not take the rest of the body. */
void smtpc_on_body_stuck(struct smtpc *conn);
enum smtpc_refusal smtpc_check_transaction(const struct smtpc *conn,
                                           const struct smtpc_transaction *transaction);

void smtpc_write_ehlo(struct smtpc *conn);
void smtpc_write_helo(struct smtpc *conn);
void smtpc_write_rset(struct smtpc *conn);
void smtpc_write_mail(struct smtpc *conn);
void smtpc_write_rcpt(struct smtpc *conn);
void smtpc_write_data(struct smtpc *conn);
void smtpc_write_quit(struct smtpc *conn);

/* ---- smtpc_chunk.c ------------------------------------------------------------------------- */

/* Whether BDAT follows the recipients whose commands are being written, or DATA. */
bool smtpc_goes_as_chunk(const struct smtpc *conn);
void smtpc_write_bdat(struct smtpc *conn);
/* Whether the reply in the flight speaks of an address (2.1.x), or of something else (any other
 * enhanced code of success). */
bool smtpc_speaks_of_address(const struct smtpc *conn);
bool smtpc_speaks_of_message(const struct smtpc *conn);
void smtpc_on_bdat(struct smtpc *conn, uint32_t rcpt);

/* ---- smtpc_ahead.c ------------------------------------------------------------------------- */

/* The dot is in the window: asks the owner for a transaction to follow it and writes its commands
 * into the flight's buffer. False when there is none. */
bool smtpc_write_ahead(struct smtpc *conn);
/* The transaction is over and the one that was sent ahead takes its place. */
void smtpc_go_ahead(struct smtpc *conn);
/* The transaction is tentative: keeps back what a recipient (SMTPC_HELD_OPEN: all) was told. */
void smtpc_hold(struct smtpc *conn, uint8_t rcpt, const struct verdict *verdict);
/* Replies and commands are in step: reports what was held. */
void smtpc_confirm(struct smtpc *conn);
void smtpc_drop_held(struct smtpc *conn);
/* The connection is gone: was the current transaction not begun in the receiver's eyes? */
bool smtpc_is_untouched(const struct smtpc *conn);

/* ---- smtpc_auth.c -------------------------------------------------------------------------- */

/* Copies what is to be said into the flight; NULL = there is no login. */
void smtpc_keep_login(struct smtpc *conn, const struct smtpc_login *login);
/* The argument of EHLO's AUTH. */
void smtpc_note_mechanisms(struct smtpc *conn, struct slice names);
/* The opening is over: goes on to AUTH, or to the end where that cannot be. False: there is no
 * login, or it has been taken. */
bool smtpc_log_in(struct smtpc *conn);
void smtpc_write_auth(struct smtpc *conn);
void smtpc_on_auth(struct smtpc *conn, uint32_t rcpt);

/* ---- smtpc_tls.c --------------------------------------------------------------------------- */

/* Behind EHLO or HELO: goes on to STARTTLS, or to the end where TLS is needed and not offered.
 * False: the connection goes on as it is. */
bool smtpc_start_tls(struct smtpc *conn);
void smtpc_write_starttls(struct smtpc *conn);
void smtpc_on_starttls(struct smtpc *conn, uint32_t rcpt);
/* In TLS: begins the handshake as soon as nothing is being sent any more. */
void smtpc_begin_tls(struct smtpc *conn);
/* In TLS: the stream has ended. */
void smtpc_fail_handshake(struct smtpc *conn, int32_t reason);
/* Something came in the clear that is no handshake. */
void smtpc_fail_clear(struct smtpc *conn);
/* Whether nobody can read along. */
bool smtpc_is_encrypted(const struct smtpc *conn);

/* ---- smtpc_states.c ------------------------------------------------------------------------ */

/* A complete reply stands in the flight. */
void smtpc_on_reply(struct smtpc *conn);
/* The one that the ring says is next gets it. */
void smtpc_dispatch(struct smtpc *conn);
/* A line of it that others follow is complete. */
void smtpc_on_reply_line(struct smtpc *conn);
/* One recipient's verdict; it must be open. */
void smtpc_report(struct smtpc *conn, uint32_t rcpt, const struct verdict *verdict);
/* All recipients that are still open get this verdict. */
void smtpc_report_open(struct smtpc *conn, const struct verdict *verdict);
/* In LOCAL: reports our refusal. */
void smtpc_report_refusal(struct smtpc *conn);
/* The transaction is over and all are reported: IDLE again. */
void smtpc_finish(struct smtpc *conn);
/* Opened: the connection takes transactions, once it has logged in. */
void smtpc_make_ready(struct smtpc *conn);
/* Says QUIT; the verdict is made already. */
void smtpc_say_quit(struct smtpc *conn);
void smtpc_make_extension_texts(struct smtpc_engine *engine);

void smtpc_on_greeting(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_ehlo(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_helo(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_rset(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_mail(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_rcpt(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_data_reply(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_dot(struct smtpc *conn, uint32_t rcpt);
void smtpc_on_quit(struct smtpc *conn, uint32_t rcpt);
