/*
 * reply: a resumable parser of SMTP replies (RFC 5321 4.2), fed with whatever has arrived.
 *
 * The same bytes give the same events however they are cut. Everything is bounded (A23): the length
 * of a line, the number of lines, the bytes of a reply, and the text that is kept of it. What
 * breaks the grammar is REPLY_BAD: a line that does not begin with a code of 200 to 599, a
 * separator other than blank or hyphen, codes that differ between lines, a NUL, or a bound that was
 * passed. Lenient where RFC 5321 asks for it or nothing can go wrong: a code without any text, a
 * bare LF as line end, any second digit.
 *
 * The kept text is the lines as they came, codes included, joined by a blank; bytes are kept as
 * they are and escaped only where they leave (A25). Pure, no allocation, any thread.
 */
#pragma once

#include "core/mail/verdict.h"

#define REPLY_LINE_BYTES_MAX 2048  /* RFC 5321 4.5.3.1.5 says 512; the rest is tolerance */
#define REPLY_LINE_COUNT_MAX 200   /* lines of one reply */
#define REPLY_BYTES_MAX      32768 /* bytes of one reply */

/* What is wrong with a reply. name, text */
#define REPLY_FAULT_TABLE(X)                                                                       \
    X(REPLY_FAULT_NONE, "nothing")                                                                 \
    X(REPLY_FAULT_CODE, "a line does not begin with a reply code")                                 \
    X(REPLY_FAULT_SEPARATOR, "neither blank nor hyphen behind the reply code")                     \
    X(REPLY_FAULT_MIXED, "the lines of a reply have different codes")                              \
    X(REPLY_FAULT_NUL, "a NUL in a reply")                                                         \
    X(REPLY_FAULT_LINE, "a reply line without end")                                                \
    X(REPLY_FAULT_ENDLESS, "a reply without end")

enum reply_fault {
#define REPLY_FAULT_ENUM(name, text) name,
    REPLY_FAULT_TABLE(REPLY_FAULT_ENUM)
#undef REPLY_FAULT_ENUM
};

enum reply_event {
    REPLY_MORE, /* everything used, the reply goes on */
    REPLY_LINE, /* a line that others follow is complete: reply_line */
    REPLY_DONE, /* the last line is complete, and so is the reply */
    REPLY_BAD,  /* the receiver broke the protocol: fault; no more may be fed */
};

struct reply_parser {
    uint16_t code;       /* of the first line */
    uint16_t line_bytes; /* of the line being read, without its LF */
    uint16_t line_count; /* complete lines */
    uint16_t line_at;    /* where the newest line begins in text */
    uint16_t text_bytes;
    uint8_t fault; /* enum reply_fault */
    bool cr_held;  /* a CR that is part of the line end, or else of the text */
    bool is_last;  /* the line being read is the last one */
    bool is_done;
    uint16_t line_code;
    uint32_t reply_bytes;
    char text[VERDICT_TEXT_MAX];
};

/* Ready for the next reply. */
void reply_start(struct reply_parser *parser);
/*
 * Uses bytes up to the next event. After REPLY_DONE reply_start must come first; *ret_used is
 * always set.
 */
enum reply_event reply_feed(struct reply_parser *parser, const uint8_t *data, size_t len,
                            size_t *ret_used);
/* True between the first byte of a reply and its end. */
bool reply_is_partial(const struct reply_parser *parser);

/* After REPLY_LINE or REPLY_DONE: the newest line behind its code, as far as it was kept. */
struct slice reply_line(const struct reply_parser *parser);
/* Drops the text kept so far, so that the next line of a long reply has all the room (EHLO). */
void reply_forget_text(struct reply_parser *parser);
struct slice reply_text(const struct reply_parser *parser);
const char *reply_fault_text(enum reply_fault fault);

/*
 * The enhanced status code that text (of a line, behind its code) begins with. False and 0.0.0 when
 * there is none or its class is not the first digit of code: the basic code decides (A24).
 */
bool reply_enhanced(struct slice text, uint16_t code, uint8_t ret_enhanced[3]);

/* The verdict that a complete reply means; scope and stage are the caller's knowledge. */
void reply_to_verdict(const struct reply_parser *parser, enum verdict_scope scope,
                      enum verdict_stage stage, struct verdict *ret_verdict);
