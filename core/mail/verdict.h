/*
 * verdict: what a receiver, or the way to it, said about a recipient, a message or a session.
 *
 * A value, never an error: net produces it, policy alone turns it into delivery, retry, bounce or
 * anything else. The basic code decides the class; an enhanced code that does not match it is
 * dropped (RFC 3463, RFC 5248; Gmail really sends "421 5.7.32").
 */
#pragma once

#include "core/base/slice.h"

enum verdict_scope {
    VERDICT_RECIPIENT,
    VERDICT_MESSAGE,
    VERDICT_SESSION,   /* this connection */
    VERDICT_HOST,      /* this address of this MX host */
    VERDICT_SOURCE_IP, /* our address could not be used */
    VERDICT_DOMAIN,    /* the destination domain: DNS */
};

enum verdict_class {
    VERDICT_SUCCESS,
    VERDICT_TRANSIENT,
    VERDICT_PERMANENT,
};

/* Where the conversation stood. name, text */
#define VERDICT_STAGE_TABLE(X)                                                                     \
    X(VERDICT_AT_DNS, "looking up the destination")                                                \
    X(VERDICT_AT_BIND, "binding the source address")                                               \
    X(VERDICT_AT_CONNECT, "connecting")                                                            \
    X(VERDICT_AT_GREETING, "waiting for the greeting")                                             \
    X(VERDICT_AT_EHLO, "EHLO")                                                                     \
    X(VERDICT_AT_MAIL, "MAIL FROM")                                                                \
    X(VERDICT_AT_RCPT, "RCPT TO")                                                                  \
    X(VERDICT_AT_DATA, "DATA")                                                                     \
    X(VERDICT_AT_BODY, "sending the message")                                                      \
    X(VERDICT_AT_DOT, "end of message")                                                            \
    X(VERDICT_AT_IDLE, "between messages")                                                         \
    X(VERDICT_AT_LOCAL, "local decision")                                                          \
    X(VERDICT_AT_AUTH, "logging in")                                                               \
    X(VERDICT_AT_TLS, "starting TLS")

enum verdict_stage {
#define VERDICT_STAGE_ENUM(name, text) name,
    VERDICT_STAGE_TABLE(VERDICT_STAGE_ENUM)
#undef VERDICT_STAGE_ENUM
};

enum verdict_flags {
    VERDICT_IN_DOUBT = 1,      /* lost after the final dot: may or may not have been taken */
    VERDICT_FROM_REPLY = 2,    /* code and text are the receiver's; else they are ours */
    VERDICT_TOO_MANY_RCPT = 4, /* 452 4.5.3 (RFC 5321 4.5.3.1.10): split, at once, no penalty */
    VERDICT_PROTOCOL = 8,      /* the receiver broke the protocol */
    VERDICT_NO_CHUNKING = 16,  /* BDAT was offered and not known: by DATA, at once, no penalty */
    VERDICT_TIMED_OUT = 32,    /* nothing came within the time that the queue's settings give */
};

#define VERDICT_TEXT_MAX 512

struct text;

struct verdict {
    uint8_t scope;       /* enum verdict_scope */
    uint8_t class;       /* enum verdict_class */
    uint8_t stage;       /* enum verdict_stage */
    uint8_t flags;       /* enum verdict_flags */
    uint16_t code;       /* basic code, or the one we chose for a local cause */
    uint8_t enhanced[3]; /* class, subject, detail (detail capped at 255); 0.0.0 = none */
    uint16_t text_bytes;
    /* Reply lines joined by a blank, codes included; ours begin with the codes too. No NUL. */
    char text[VERDICT_TEXT_MAX];
};

/* What is known of the DNS as a whole (net/dns_outlook.h). */
enum dns_outlook {
    DNS_OUTLOOK_UNKNOWN, /* no other domain was looked up lately */
    DNS_OUTLOOK_GOOD,    /* most lookups of domains that had an MX before succeed */
    DNS_OUTLOOK_BAD,     /* most fail: what the DNS denies is not to be believed */
};

/* A verdict of ours: printf-like text, enhanced code as three numbers. */
void verdict_set_local(struct verdict *verdict, enum verdict_scope scope, enum verdict_class class,
                       enum verdict_stage stage, uint16_t code, const uint8_t enhanced[3],
                       const char *format, ...) __attribute__((format(printf, 7, 8)));
/* The connection was lost after the final dot, which the text says too from now on. */
void verdict_put_in_doubt(struct verdict *verdict);
/*
 * The reply as if it had come in one line: of its lines but the first the codes are gone,
 * "421-4.7.28 at a rate 421 4.7.28 of" is "421 4.7.28 at a rate of". Where the receiver broke the
 * lines depends on the names in them, and no pattern should. The text itself when it is but one
 * line; else in room.
 */
struct slice verdict_in_one_line(const struct verdict *verdict, uint8_t room[VERDICT_TEXT_MAX]);
static inline struct slice verdict_text(const struct verdict *verdict)
{
    return (struct slice){(const uint8_t *)verdict->text, verdict->text_bytes};
}
const char *verdict_stage_text(enum verdict_stage stage);
/* Its status as "X.Y.Z" (RFC 3463); without an enhanced code of the receiver's, the class of its
 * reply code. */
void verdict_put_status(struct text *text, const struct verdict *verdict);
