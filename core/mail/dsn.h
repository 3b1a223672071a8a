/*
 * dsn: writes delivery status notices (RFC 3464 in a report of RFC 6522, and RFC 3834).
 *
 * From values to the octets of a message as the log has them: CRLF lines, dot-stuffed, without the
 * final dot. What comes from outside (addresses, replies, ids) is made harmless on its way into a
 * header or a report field: controls become blanks, octets above 127 become '?', in a recipient's
 * address the escapes of RFC 6533. The original message goes in as it is, or its header alone, in
 * which octets above 127 become '?' so that a notice can go to any receiver. Pure functions of
 * their arguments, any thread; nothing is allocated.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"
#include "core/base/text.h"

#include <sys/uio.h>

struct dsn_rcpt {
    struct slice address;
    struct slice orcpt;  /* "rfc822;a@b"; empty = none */
    struct slice status; /* "5.1.1" */
    struct slice diagnostic;
    struct slice remote_mta;  /* host name, or empty: nobody was asked, the diagnostic is ours */
    struct ipaddr remote_ip;  /* family NONE = likewise */
    uint64_t last_attempt_us; /* wall clock */
};

enum dsn_action {
    DSN_FAILED,
    DSN_RELAYED, /* to a receiver that does not send notices */
    DSN_DELAYED,
};

/* Recipients who fared alike, all of one message. */
struct dsn {
    enum dsn_action action;
    bool is_plain_text;   /* the report's fields alone, as text/plain */
    bool returns_content; /* the whole original, not its header alone */
    bool content_is_8bit; /* the original has octets above 127 */
    struct slice host;    /* of ours; also in the default From */
    struct slice id;      /* of the notice: for its Message-ID and the boundary */
    uint64_t now_us;      /* wall clock, and so arrival_us, of the original */
    uint64_t arrival_us;
    struct slice sender; /* of the original: whom the notice goes to */
    struct slice envelope_id;
    /* Templates with variables (docs/dsn.md), in ASCII; empty = ours. body has CRLF lines. */
    struct slice from;
    struct slice subject;
    struct slice body;
    const struct dsn_rcpt *rcpts;
    uint32_t rcpt_count;         /* at least 1 */
    const struct iovec *content; /* of the original, as it would go out; none = it is left out */
    uint32_t content_count;
};

/* Octets of the original's header that are brought back at most, cut at the end of a line. */
#define DSN_HEADER_MAX 16384u

struct dsn_facts {
    uint32_t stuffed_dots;
    bool is_8bit;
};

/* Room that is enough for the notice. */
size_t dsn_bytes_max(const struct dsn *dsn);
/* Writes it; text->is_cut when the room was too small. */
void dsn_write(const struct dsn *dsn, struct text *text, struct dsn_facts *ret_facts);

/* A notice to people: header and text in plain ASCII, to several addresses ("a@b, c@d"). Octets
 * that would not be ASCII become '?'. lines: LF between them, CRLF is written. */
struct dsn_note {
    struct slice host;
    struct slice id;
    uint64_t now_us;
    struct slice from; /* empty = ours */
    struct slice to;
    struct slice subject;
    struct slice lines;
};

size_t dsn_note_bytes_max(const struct dsn_note *note);
void dsn_note_write(const struct dsn_note *note, struct text *text, struct dsn_facts *ret_facts);
