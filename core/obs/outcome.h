/*
 * outcome: what became of one attempt for one recipient, as a self-contained record.
 *
 * The record is at once the truth for recovery (message id, recipient, final or not, attempts, next
 * due time) and the source of accounting (everything a CSV row needs), so that no row depends on
 * state that a crash could take away. Encoded little-endian with length-prefixed strings (wire.h):
 * remote text keeps every byte and is escaped only where it leaves. Pure functions, any thread.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"

enum outcome_kind {
    OUTCOME_DELIVERED = 'd',
    OUTCOME_BOUNCED = 'b',
    OUTCOME_TRANSIENT = 't',
    OUTCOME_RECEIVED = 'r', /* acceptance, one per recipient; only where a file wants it */
};

enum outcome_flags {
    OUTCOME_IN_DOUBT = 1,      /* the connection was lost after the final dot */
    OUTCOME_BY_OPERATOR = 2,   /* deleted by an operator */
    OUTCOME_NO_ACCOUNTING = 4, /* state for recovery only, no row */
    OUTCOME_DISCARDED = 8,     /* by the configuration, without a connection */
    OUTCOME_TO_FILE = 16,      /* there was none, it was written to a file */
    OUTCOME_TO_PROGRAM = 32,   /* likewise, a program took it */
};

#define OUTCOME_TEXT_MAX    512  /* bytes kept of a remote reply */
#define OUTCOME_HEADERS_MAX 1024 /* of the header fields that accounting files quote */
#define OUTCOME_BYTES_MAX   4096

struct outcome {
    uint8_t kind; /* enum outcome_kind */
    uint8_t flags;
    uint16_t attempts; /* made so far, this one included */
    uint32_t rcpt_ordinal;
    uint64_t message_id;
    uint64_t due_us;              /* next attempt, wall clock; 0 when final */
    uint64_t logged_us;           /* wall clock */
    uint64_t queued_us;           /* wall clock of acceptance */
    uint64_t size_bytes;          /* dlvSize: octets of the message delivered */
    struct ipaddr source_ip;      /* ours; family NONE when there was no connection */
    struct ipaddr destination_ip; /* theirs; for OUTCOME_RECEIVED: where we were reached */
    struct slice orig;            /* envelope sender, without brackets */
    struct slice rcpt;
    struct slice orcpt;
    struct slice status;  /* "5.1.1" alone; the text in brackets is added where it leaves */
    struct slice diag;    /* the reply as received, lines joined; without the "smtp;" */
    struct slice dsn_mta; /* host name */
    struct slice bounce_category;
    struct slice source_type; /* "smtp", "api", … */
    struct slice source_mta;  /* "helo (ip)" */
    struct slice esmtp;       /* extensions the receiver offered, comma-separated */
    struct slice vmta;
    struct slice pool;
    struct slice job_id;
    struct slice envelope_id;
    struct slice queue; /* "domain/vmta" */
    /* What only some configurations ask for. */
    uint64_t first_attempt_us; /* wall clock; 0 = not known */
    struct slice headers;      /* fields of the message, see noted_header.h */
    struct slice user;         /* who logged in to hand it over */
    struct slice tls_protocol; /* "TLSv1.3", where the connection was secured */
    struct slice tls_cipher;   /* IANA's name of the suite */
};

static inline bool outcome_is_final(const struct outcome *outcome)
{
    return outcome->kind == OUTCOME_DELIVERED || outcome->kind == OUTCOME_BOUNCED;
}

/* Bytes written, or E_TOO_LONG. Texts longer than OUTCOME_TEXT_MAX are cut, addresses never. */
int outcome_encode(const struct outcome *outcome, void *room, size_t room_bytes);
/* Slices point into data. 0, or E_DAMAGED. */
int outcome_decode(struct slice data, struct outcome *ret_outcome);
