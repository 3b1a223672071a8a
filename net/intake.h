/*
 * intake: the "take this message" table, which whoever receives mail calls upward.
 *
 * The SMTP server knows nothing of queues; it hands what it parsed to the functions below, which
 * the shard provides. The table speaks of messages, not of SMTP, so that other entrances can use
 * it. All calls come on the shard's loop. Order for one message: begin, add_rcpt…, start_body,
 * write…, finish; or abort at any point before finish. After finish the message belongs to the
 * taker, and answer() comes exactly once, later, even when the asker's client has gone meanwhile:
 * the cookie tells the asker whom it concerns.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"
#include "core/conf/conf.h"
#include "core/mail/address.h"

#include <stdbool.h>

struct intake_message; /* the taker's */
struct tls_context;

/* A reply for the client: basic code, enhanced code, text without codes. */
struct intake_reply {
    uint16_t code; /* 0 = close the connection without any reply */
    uint8_t enhanced[3];
    char text[256];
};

/* Who is asking; slices and pointers live while the call runs. */
struct intake_client {
    struct ipaddr_port peer;
    struct ipaddr_port local;
    struct slice helo;
    struct slice type;                /* how it comes, for accounting: a constant; empty = "smtp" */
    bool esmtp;                       /* EHLO rather than HELO */
    bool is_secured;                  /* by TLS */
    const char *user;                 /* who logged in, or NULL; kept by the process */
    const struct conf_source *source; /* settings as they were when admit() let the client in */
    const char *listener_source;      /* the listener's named source, or the user's, or NULL */
};

/* Somebody says who they are. */
struct intake_login {
    struct slice user;      /* at most 255 octets, as the secret */
    struct slice secret;    /* the password, or the digest of CRAM-MD5 */
    struct slice challenge; /* of CRAM-MD5; empty = the secret is the password */
    /* Of the certificate that the client has shown, SHA-256; then there is no secret, and without a
     * user it may be any whose certificate it is. NULL = by the secret. */
    const uint8_t *certificate;
};

/* Whether TLS can be had on a connection, and how. */
struct intake_tls {
    struct tls_context *context; /* for tls_open now, not to be kept; NULL = it cannot */
    bool is_immediate;
};

/* Who it is. Pointers to settings live while the call runs. */
struct intake_identity {
    const char *user;                 /* lives as long as the process; NULL = the reply says no */
    const char *source_name;          /* the named source that counts from now on; likewise */
    const struct conf_source *source; /* its settings for this client */
    struct intake_reply reply;
};

/* RFC 3461 4.3: what failure notices bring back. */
enum intake_return {
    INTAKE_RETURN_UNSAID,
    INTAKE_RETURN_HEADERS,
    INTAKE_RETURN_FULL,
};

struct intake_params {
    bool smtputf8;
    bool body_8bitmime;
    uint64_t size_bytes; /* SIZE= declared, 0 = not */
    uint8_t ret;         /* enum intake_return */
    uint8_t notify;      /* of the recipient: enum dsn_notify, 0 = not said */
    struct slice envelope_id;
    struct slice orcpt; /* "type;address", decoded */
};

struct intake_body_facts {
    uint32_t stuffed_dots;
    bool has_8bit;
};

/* answer: reply->text of a success carries the message id. */
typedef void intake_answer_fn(void *asker, uint64_t cookie, const struct intake_reply *reply);
/* The taker has room again, see write. Comes from outside of any call. */
typedef void intake_resume_fn(void *asker, uint64_t cookie);

/* Of write: the octets were taken, but their like comes faster than it can be stored. */
#define INTAKE_PAUSE 1

/* identity->reply is for the client in any case. */
typedef void intake_login_fn(void *asker, uint64_t cookie, const struct intake_identity *identity);

/* What a session has to say for the log, where its source wants that. */
enum intake_note {
    INTAKE_NOTE_CONNECTED,
    INTAKE_NOTE_GONE,
    INTAKE_NOTE_COMMAND, /* a line of the client, without its end */
    INTAKE_NOTE_REPLY,   /* lines of ours with their ends */
    INTAKE_NOTE_DATA,    /* octets of message data, lines cut anywhere */
    INTAKE_NOTE_SECURED, /* version and cipher suite */
    INTAKE_NOTE_NO_TLS,  /* why the handshake failed */
};

struct intake_ops {
    /* NULL: nobody wants to know. */
    void (*note)(void *taker, const struct intake_client *client, enum intake_note kind,
                 struct slice text);
    /* A connection was accepted: true when the taker sees to it from here on (it calls smtpd_adopt,
     * here or on another shard's loop, or closes it). NULL: never. */
    bool (*arrive)(void *taker, int fd, const char *listener_source);
    /* May this peer talk to us at all, and under which settings? 0, or negative with *ret_reply
     * (421, 554). The asker copies **ret_source at once, and keeps *ret_pass for leave. */
    int (*admit)(void *taker, const struct ipaddr_port *peer, const struct ipaddr_port *local,
                 const char *listener_source, const struct conf_source **ret_source,
                 uint64_t *ret_pass, struct intake_reply *ret_reply);
    /* How TLS is spoken with who connected to `local`. NULL: it is not. */
    void (*secure)(void *taker, const struct ipaddr_port *local, struct intake_tls *ret_tls);
    /* The settings of a client who is nobody any more; to be copied at once. With `secure`. */
    const struct conf_source *(*settings)(void *taker, const struct ipaddr_port *peer,
                                          const char *listener_source);
    /* Whether these words are right. The answer comes exactly once, now or later, also when the
     * client has gone. NULL: nobody can log in. */
    void (*login)(void *taker, const struct intake_client *client, const struct intake_login *login,
                  intake_login_fn *answer, void *asker, uint64_t cookie);
    /* The session that admit let in has ended. */
    void (*leave)(void *taker, uint64_t pass);
    /* 0 and a message, or negative and *ret_reply says why (452, 421, 550 …). sender->text is empty
     * for the null reverse path. Addresses come parsed, so that routing and wire cannot disagree
     * (A17); they live while the call runs. */
    int (*begin)(void *taker, const struct intake_client *client, const struct address *sender,
                 const struct intake_params *params, struct intake_message **ret_message,
                 struct intake_reply *ret_reply);
    int (*add_rcpt)(struct intake_message *message, const struct intake_client *client,
                    const struct address *rcpt, const struct intake_params *params,
                    struct intake_reply *ret_reply);
    /* Called once all recipients are known, before the first octet. */
    int (*start_body)(struct intake_message *message, const struct intake_client *client,
                      intake_resume_fn *resume, void *asker, uint64_t cookie,
                      struct intake_reply *ret_reply);
    /* Octets as they go out: CRLF lines, dot-stuffed, without the final dot. 0, INTAKE_PAUSE or
     * negative. After INTAKE_PAUSE the asker reads nothing more from its client until resume comes
     * (unless it finishes or aborts first); what it had read already it may still write. After a
     * failure it goes on reading and throws away, and finish answers with the cause. */
    int (*write)(struct intake_message *message, const uint8_t *data, size_t len);
    void (*finish)(struct intake_message *message, const struct intake_body_facts *facts,
                   intake_answer_fn *answer, void *asker, uint64_t cookie);
    void (*abort)(struct intake_message *message);
};
