/*
 * message: what the generator's messages look like, and how the sink recognises them.
 *
 * Message `number` of a run carries "X-Bench-Id: RUN/NUMBER" (eight hexadecimal digits, decimal)
 * and "X-Bench-Crc: SUM", the CRC32C of its body as it was before dot-stuffing. Recipient k of it
 * is "k.NUMBER@dD.test": an envelope that got mixed up with another message's is seen at once.
 */
#pragma once

#include "bench/smtp.h"

struct message_id {
    uint32_t run;
    uint64_t number;
};

/* ---- Making -------------------------------------------------------------------------------- */

#define MESSAGE_HEAD_MAX 2048

struct message_options {
    uint32_t run;
    uint32_t domains;
    uint32_t hot_percent;      /* of the recipients that go to the first domain; 0 = all evenly */
    bool dots;                 /* bodies with lines that begin with dots */
    const char *extra_headers; /* whole lines with CR LF, or NULL */
};

/* One body, as it goes over the wire: stuffed, the final dot included. */
struct message_body {
    uint8_t *wire;
    uint32_t wire_bytes;
    uint32_t message_bytes; /* head and body unstuffed, about */
    uint32_t crc;
};

/*
 * A body for a message of about message_bytes in all; each variant has other words, so that bodies
 * swapped between messages are noticed.
 */
void message_body_make(struct message_body *body, uint64_t message_bytes, bool dots,
                       uint32_t variant);
void message_body_free(struct message_body *body);

/* "k.NUMBER@dD.test". The domain follows from number and k: all are served evenly, but for a hot
 * one. */
void message_put_rcpt(struct smtp_text *text, const struct message_options *options,
                      uint64_t number, uint32_t k);
/* The header section with the empty line after it. */
void message_put_head(struct smtp_text *text, const struct message_options *options,
                      uint64_t number, const struct message_body *body);

/* ---- Reading ------------------------------------------------------------------------------- */

/* The k and number of a recipient; false when it is none of ours. */
bool message_parse_rcpt(struct slice address, uint64_t *ret_number, uint32_t *ret_k);

/* Reads the content of one message as it arrives in pieces. */
struct message_reader {
    struct message_id id;
    uint64_t bytes;
    uint32_t crc_wanted;
    uint32_t crc;
    bool with_crc; /* the body is summed */
    bool in_body;
    bool has_id;
    bool has_crc;
    struct smtp_lines lines;
};

void message_reader_init(struct message_reader *reader, bool with_crc);
void message_reader_feed(struct message_reader *reader, struct slice content);
/* False when a sum was asked for and is missing or wrong. */
bool message_reader_is_intact(const struct message_reader *reader);
