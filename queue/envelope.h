/*
 * envelope: who sent a message to whom, as it stands in front of the message in the log.
 *
 * A message record's payload is: envelope (encoded, self-delimiting), header prefix (the lines we
 * put in front), body. Prefix and body are the octets that go out: CRLF lines, dot-stuffed, without
 * the final dot; stuffed_dots says how many dots were doubled, so 0 means the same bytes serve
 * BDAT. The hot message in memory has exactly the record's payload, so that a message read back
 * from the log and one just accepted are the same thing. Pure functions, any thread.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"
#include "core/base/wire.h"

enum envelope_flags {
    ENVELOPE_8BIT = 1,          /* content has octets above 127 */
    ENVELOPE_SMTPUTF8 = 2,      /* the sender asked for SMTPUTF8 */
    ENVELOPE_BODY_8BITMIME = 4, /* BODY=8BITMIME was declared */
    ENVELOPE_NO_DSN = 8,        /* its source wants no failure notices */
    ENVELOPE_RETURN_FULL = 16,  /* they bring back the whole message */
    ENVELOPE_LOCAL = 32,        /* written here: a notice, or a copy */
    ENVELOPE_NOTIFY = 64,       /* its client said NOTIFY for some recipient */
    ENVELOPE_RETURN_SAID = 128, /* ... and by RET what a notice brings back */
};

#define ENVELOPE_RCPT_COUNT_MAX  20000
/* Of a message that says nothing else. */
#define ENVELOPE_PRIORITY_NORMAL 50u
#define ENVELOPE_PRIORITY_MAX    100u
#define ENVELOPE_ORCPT_MAX       4095u

struct envelope {
    uint64_t message_id;
    uint64_t accepted_us; /* wall clock */
    uint32_t flags;
    uint32_t stuffed_dots;
    uint32_t prefix_bytes;
    uint32_t body_bytes;
    uint32_t rcpt_count;
    struct ipaddr client_ip;
    struct ipaddr local_ip;
    struct slice sender; /* without brackets; empty = null reverse path */
    struct slice vmta;   /* chosen VMTA's name */
    struct slice pool;   /* the pool asked for, or empty */
    struct slice job_id;
    struct slice envelope_id;
    struct slice source_type;
    struct slice client_helo;
    struct slice rcpts;   /* encoded recipients; walk with envelope_rcpt_next */
    struct slice headers; /* that accounting files quote, see core/obs/noted_header.h */
    struct slice terms;   /* encoded, see terms.h; empty = the settings of its queues hold */
    struct slice user;    /* who logged in to hand it over, or empty */
    /* Encoded, see signatures.h; empty = nothing is known, and it leaves as it is. */
    struct slice signatures;
    uint32_t encoded_bytes; /* of the whole envelope, set by decode */
};

struct envelope_rcpt {
    struct slice address; /* as it goes out between the angle brackets */
    struct slice orcpt;   /* "type;address", decoded; at most ENVELOPE_ORCPT_MAX octets */
    struct slice host;    /* the domain for routing: lower-case A-label or literal; empty = exactly
                             what stands behind the last '@' of address */
    uint8_t notify;       /* enum dsn_notify; 0 = the client has not said */
};

/*
 * Whose mail it is when several wait for the same: a hash of the job, or, without one, of the
 * sender's domain and the client's address. Never 0. The same in every life: the log keeps it.
 */
uint32_t envelope_flow(const struct envelope *envelope);

/* What the flags of a message of that priority have besides: nothing for the normal one. */
uint32_t envelope_priority_flags(uint8_t priority);
/* 0 to 100: within a queue, mail of higher priority has more turns. */
uint8_t envelope_priority(const struct envelope *envelope);

/* The domain for routing of a recipient, see `host`. */
struct slice envelope_rcpt_host(const struct envelope_rcpt *rcpt);

/* Appends one recipient to a table that becomes envelope.rcpts. One with notify needs the flag
 * ENVELOPE_NOTIFY. */
void envelope_put_rcpt(struct wire_writer *w, const struct envelope_rcpt *rcpt);
/* Next recipient; false at the end. Start with a reader over envelope.rcpts. */
bool envelope_rcpt_next(struct wire_reader *r, struct envelope_rcpt *ret_rcpt);

/* An upper bound of the encoded size, for choosing the room. */
size_t envelope_bytes_max(const struct envelope *envelope);
/* Sets w->failed when the room is too small. */
void envelope_encode(const struct envelope *envelope, struct wire_writer *w);
/*
 * Writes the numbers that become known only with the body (flags, stuffed_dots, prefix_bytes,
 * body_bytes) into an envelope that was encoded at the front of w's room before.
 */
void envelope_encode_counts(const struct envelope *envelope, struct wire_writer *w);
/* Slices point into data; data may go on behind the envelope. 0, or E_DAMAGED. */
int envelope_decode(struct slice data, struct envelope *ret_envelope);
/* Content octets as a receiver counts them (RFC 1870): prefix and body without stuffed dots. */
static inline uint64_t envelope_content_bytes(const struct envelope *envelope)
{
    return (uint64_t)envelope->prefix_bytes + envelope->body_bytes - envelope->stuffed_dots;
}
