/*
 * smtpc: the SMTP client, one connection at a time in one struct, thousands per loop.
 *
 * Parameters in, an opaque context, callbacks out. It speaks the protocol and reports verdicts; it
 * never decides the fate of a recipient, never retries, never chooses another host. Replies are
 * matched to commands by a ring of expectations, so MAIL, RCPT…, DATA leave in one flight where
 * PIPELINING is offered (RFC 2920). Everything that a receiver may send is bounded: reply line,
 * reply lines, session time (A22, A23).
 *
 *   CONNECTING → GREETING → EHLO (→ HELO) → IDLE → (RSET →) MAIL → RCPT → DATA → BODY → DOT → IDLE
 *   EHLO → STARTTLS → TLS → EHLO, where TLS is wanted and offered; refused: on from EHLO
 *   EHLO → AUTH → IDLE, where there is a login
 *   IDLE → QUIT → CLOSING; every state → CLOSING by loss, timeout or smtpc_abort
 *   GREETING, EHLO, HELO → QUIT when the receiver wants no mail
 *   RCPT → BDAT → IDLE where the message goes as a chunk
 *   IDLE → LOCAL → IDLE when a transaction is refused by ourselves
 *   DOT → MAIL when the next transaction was sent ahead; its end without 354: → RSET → IDLE
 *
 * The state is what is waited for: with a flight under way, the reply that comes next. The table is
 * in smtpc_int.h.
 *
 * Rules of a transaction: a recipient that is refused is reported at once; recipients that were
 * accepted are reported with the verdict of the message. If none was accepted and 354 came all the
 * same, a lone dot ends it (RFC 2920 3.1); a lone dot is never sent when any was accepted.
 * 421 anywhere closes the connection after the report. Loss after the final dot left is reported
 * as VERDICT_IN_DOUBT. Receivers end connections between messages without a word: a transaction of
 * which nothing was answered when that happened comes back unharmed (on_returned). So does a later
 * one whose MAIL (or the RSET before it) was answered 421: the receiver has had enough of the
 * connection and has seen nothing of the message. The first message of a connection never does.
 *
 * Ahead: the flight that ends a message may carry the commands of the next (RFC 2920 3.1), so that
 * a warm connection needs one round trip a message. Such a transaction is tentative until 354
 * proves that replies and commands are in step; what was refused by then is reported only when it
 * does, or when RSET was answered as it should be. So a reply too many or too few can cost an
 * attempt, and never decides a recipient.
 *
 * Chunks: where CHUNKING and PIPELINING are offered, a message of at most SMTPC_CHUNK_BYTES_MAX
 * that needed no dot-stuffing leaves behind its commands, by BDAT … LAST (RFC 3030), in one round
 * trip. What is lost then is in doubt as soon as everything has left, though nothing was answered.
 * A receiver that answers BDAT with 500, 502 or 504, or with 503 for recipients that it
 * took, does not know what it offered: the recipients are reported with VERDICT_NO_CHUNKING,
 * smtpc_refuses_chunks says so, and the connection ends.
 *
 * Replies that nobody asked for, or that came before the command left, end the session
 * (VERDICT_PROTOCOL); one that refuses the message while its body is being sent counts as its
 * answer. A transaction that was left open (DATA refused, no recipient taken) is followed by RSET
 * in the next flight.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "core/mail/verdict.h"

struct smtpc; /* one connection */
struct tls;
struct tls_events;
struct smtpc_engine; /* the connections of one loop */

/* What the receiver offered. */
enum smtpc_extension {
    SMTPC_PIPELINING = 1,
    SMTPC_SIZE = 2,
    SMTPC_8BITMIME = 4,
    SMTPC_SMTPUTF8 = 8,
    SMTPC_ENHANCEDSTATUSCODES = 16,
    SMTPC_CHUNKING = 32,
    SMTPC_DSN = 64,
    SMTPC_STARTTLS = 128,
};

#define SMTPC_LOGIN_TEXT_MAX 255

/* Who we are to the receiver; each text at most SMTPC_LOGIN_TEXT_MAX octets. */
struct smtpc_login {
    struct slice user;
    struct slice password;
    bool may_show_password; /* without TLS too, to whoever reads along */
};

enum smtpc_tls_level {
    SMTPC_TLS_NEVER,
    SMTPC_TLS_MAY,  /* where it is offered and not refused */
    SMTPC_TLS_MUST, /* else no mail is said: a transient verdict at VERDICT_AT_TLS */
};

struct smtpc_via {
    struct ipaddr local; /* the socket is bound to it; zeros of the server's family = any */
    struct ipaddr_port server;
    uint8_t version; /* of the PROXY protocol, 1 or 2 */
};

/* The texts must stay in place while the connection lives; the struct is copied. A time of 0 is the
 * default: RFC 5321 4.5.3.2, 30 s to connect, 5 s for QUIT. */
struct smtpc_options {
    struct ipaddr source; /* without via the socket is bound to it */
    struct ipaddr_port target;
    /* The connection goes to a proxy first, which connects from source to target. Read while it is
     * opened and not later; NULL = straight. */
    const struct smtpc_via *via;
    /* NULL = nobody; likewise. A receiver that does not take the login gets no mail, and the
     * connection ends with a transient verdict at VERDICT_AT_AUTH. */
    const struct smtpc_login *login;
    const char *helo; /* belongs to the source address; at most 255 bytes */
    uint64_t connect_timeout_ms;
    uint64_t greeting_timeout_ms;
    uint64_t command_timeout_ms;
    uint64_t data_timeout_ms;
    uint64_t data_send_timeout_ms; /* per progress of the body */
    uint64_t data_termination_timeout_ms;
    uint64_t quit_timeout_ms;
    /* The cap against tarpits (A22) on a whole opening or a whole transaction, the time in which
     * the body made progress left out; 0 = 30 minutes. */
    uint64_t exchange_timeout_ms;
    bool ignore_pipelining;
    bool keep_tcp_info; /* look at the kernel's counters at the end: one system call */
    bool ignore_chunking;
    bool replace_421;     /* its verdict has the words of the transaction's last refusal, if any */
    bool note_commands;   /* on_note is told what both sides say */
    bool note_data;       /* … and the messages */
    bool ignore_8bitmime; /* BODY= is never said and 8-bit content never refused by ourselves */
    uint8_t tls; /* enum smtpc_tls_level; a handshake that fails ends the connection at each */
};

/* Parameters of RFC 3461. */
struct smtpc_dsn_request {
    bool has_ret;
    bool returns_full;          /* RET=FULL, else HDRS */
    struct slice envelope_id;   /* empty = none; decoded, as what follows */
    const struct slice *orcpts; /* one each recipient; empty = none */
    const uint8_t *notifies;    /* likewise: enum dsn_notify, 0 = none */
};

/* One transaction. What it points to stays in place until on_transaction_done. A large content may
 * come piece by piece: then only the first is there, or nothing. Addresses are
 * checked once more: one that could break the command line is refused with a local verdict. */
struct smtpc_transaction {
    struct slice sender; /* without brackets */
    const struct slice *rcpts;
    uint32_t rcpt_count;         /* 1 to SMTPC_RCPT_COUNT_MAX */
    const struct iovec *content; /* prefix and body: CRLF lines, dot-stuffed, no final dot */
    uint32_t content_count;
    bool content_goes_on;   /* that is not all of it: see on_content */
    uint64_t content_bytes; /* for SIZE=, without stuffed dots */
    bool content_is_8bit;
    bool may_chunk; /* no dot is stuffed, and the receiver tells apart what it answers */
    bool wants_smtputf8;
    const struct smtpc_dsn_request *dsn; /* NULL: nothing of it is said */
};

#define SMTPC_RCPT_COUNT_MAX  100
#define SMTPC_CHUNK_BYTES_MAX 65536 /* it leaves before any recipient was answered */

enum smtpc_note {
    SMTPC_NOTE_COMMAND, /* one or more lines that leave together */
    SMTPC_NOTE_REPLY,   /* one line, as far as it is kept */
    SMTPC_NOTE_DATA,    /* a part of a message, as it leaves */
};

struct smtpc_events {
    /* Greeting and EHLO are done; the connection is IDLE and takes a transaction. */
    void (*on_ready)(struct smtpc *conn, void *context);
    /* Verdict for recipient `index` of the transaction: exactly once each, all before
     * on_transaction_done. conn->... is still usable. */
    void (*on_rcpt)(struct smtpc *conn, void *context, uint32_t index,
                    const struct verdict *verdict);
    /* The transaction is over. may_continue: IDLE again, another may start (also from inside). One
     * that was sent ahead is the current one from now on. */
    void (*on_transaction_done)(struct smtpc *conn, void *context, bool may_continue);
    /* The connection is gone, exactly once, last call; open recipients were reported before. The
     * verdict says why: success = we ended it in order, or the receiver closed while IDLE without
     * a word (a 421 while IDLE is passed on as it is, stage VERDICT_AT_IDLE). The memory is the
     * engine's again when this returns. */
    void (*on_closed)(struct smtpc *conn, void *context, const struct verdict *verdict);
    /* The newest transaction was not begun in the receiver's eyes: no recipient of it is reported
     * and on_transaction_done does not come for it. The connection is ending, with this verdict.
     */
    void (*on_returned)(struct smtpc *conn, void *context, const struct verdict *verdict);
    /* The end of a message is about to leave: smtpc_send_ahead may be called from inside, nothing
     * else. NULL: nothing is ever sent ahead. */
    void (*on_ending)(struct smtpc *conn, void *context);
    /* All of the content that is there has been sent, and more was announced: smtpc_continue is to
     * follow, from inside or later, or smtpc_abort. The content before is no longer referred to. */
    void (*on_content)(struct smtpc *conn, void *context);
    /* TLS is about to begin, where the options want it: to make the connection's state, by tls_open
     * with these events and conn as the owner. It is the client's then. 0 or negative. */
    int (*open_tls)(struct smtpc *conn, void *context, const struct tls_events *events,
                    struct tls **ret_tls);
    /* For a log, where the options ask for it; NULL: nothing is told. Nothing of the connection's
     * may be called from inside. */
    void (*on_note)(struct smtpc *conn, void *context, enum smtpc_note kind, struct slice text);
};

struct smtpc_engine *smtpc_engine_create(struct io *io, uint32_t connection_count_max);
void smtpc_engine_destroy(struct smtpc_engine *engine); /* no connection may be open */

/*
 * Opens a connection. 0 and *ret_conn; E_FULL when the engine has no room; E_TOO_LONG for the HELO
 * name; another negative when the socket could not be made or bound to the source (the caller's
 * verdict: source IP).
 */
int smtpc_open(struct smtpc_engine *engine, const struct smtpc_options *options,
               const struct smtpc_events *events, void *context, struct smtpc **ret_conn);
/* Starts a transaction; the connection must be IDLE (after on_ready or may_continue). */
void smtpc_send(struct smtpc *conn, const struct smtpc_transaction *transaction);
/*
 * The next piece of the content after on_content, which stays in place until the next on_content or
 * the end of the transaction. The last one has at least two octets. Does nothing when the
 * connection is ending.
 */
void smtpc_continue(struct smtpc *conn, const struct iovec *content, uint32_t content_count,
                    bool goes_on);
/* From inside on_ending: the transaction follows the one that ends, in the same flight. False, and
 * nothing happened, when it would be refused by ourselves. */
bool smtpc_send_ahead(struct smtpc *conn, const struct smtpc_transaction *transaction);
/* Ends in order: QUIT when IDLE, at once otherwise; on_closed follows. */
void smtpc_quit(struct smtpc *conn);
/* Ends now; open recipients are reported (in doubt after the dot), then on_closed. */
void smtpc_abort(struct smtpc *conn);

bool smtpc_is_idle(const struct smtpc *conn);
unsigned smtpc_extensions(const struct smtpc *conn); /* enum smtpc_extension */
/* Its replies to recipients and to messages differ by their enhanced codes, as a message by DATA
 * has shown: chunks may be sent to it. */
bool smtpc_tells_apart(const struct smtpc *conn);
/* It offered CHUNKING and does not know BDAT; also inside on_rcpt and on_closed. */
bool smtpc_refuses_chunks(const struct smtpc *conn);
/* What is known of TLS, also inside on_closed; NULL = none was begun. */
const struct tls *smtpc_tls(const struct smtpc *conn);
uint64_t smtpc_size_limit(const struct smtpc *conn); /* SIZE's argument, 0 = none given */
/* "PIPELINING,SIZE,8BITMIME" as offered, in the table's order; valid while the engine lives. */
struct slice smtpc_extension_text(const struct smtpc *conn);
/* Messages completed on this connection, whatever their verdicts. */
uint32_t smtpc_transaction_count(const struct smtpc *conn);
/* How the attempt to connect ended: 0, negative, or -EINPROGRESS. Also inside on_closed. */
int32_t smtpc_connect_result(const struct smtpc *conn);
/* The kernel's counters of this moment; inside on_closed those of the end, for which keep_tcp_info
 * must have been set. 0 or negative. */
int smtpc_tcp_info(const struct smtpc *conn, struct io_tcp_info *ret_info);

uint32_t smtpc_engine_open_count(const struct smtpc_engine *engine);
/* Messages that left by BDAT, whatever became of them. */
uint64_t smtpc_engine_chunk_count(const struct smtpc_engine *engine);
/* Memory of the connections that are open now, in bytes. */
uint64_t smtpc_engine_used_bytes(const struct smtpc_engine *engine);
/* For whoever sees to it that memory goes back to the system (slab_trim). */
void smtpc_engine_each_slab(struct smtpc_engine *engine,
                            void (*visit)(void *context, struct slab *slab), void *context);
