/*
 * smtp: the little of SMTP that sink, generator and bare relay share.
 *
 * Written apart from the product's own parsers on purpose: a mistake there must not be hidden by
 * the same mistake here. Pure functions over bytes.
 */
#pragma once

#include "core/base/slice.h"

enum smtp_verb {
    SMTP_UNKNOWN,
    SMTP_HELO,
    SMTP_EHLO,
    SMTP_STARTTLS,
    SMTP_MAIL,
    SMTP_RCPT,
    SMTP_DATA,
    SMTP_BDAT,
    SMTP_RSET,
    SMTP_NOOP,
    SMTP_QUIT,
};

enum smtp_verb smtp_verb_of(struct slice line);
/* What stands between '<' and '>' of a MAIL or RCPT line; empty when there is none. */
struct slice smtp_path_of(struct slice line);

/*
 * Lines out of a stream that comes in pieces. A piece of a line is kept until its rest arrives;
 * lines longer than the room are cut, so that memory stays bounded.
 */
#define SMTP_LINE_MAX 1000

struct smtp_lines {
    uint16_t kept;
    char room[SMTP_LINE_MAX];
};

/*
 * Takes the next line from *rest and moves *rest behind it. True: *ret_line is a line without its
 * line end, valid until the next call. False: *rest is used up.
 */
bool smtp_next_line(struct smtp_lines *lines, struct slice *rest, struct slice *ret_line);

/*
 * The data of a message as it follows 354: finds its end and takes the stuffing dots out. Call
 * smtp_data_next until *rest is empty or it says SMTP_DATA_END; each call yields one span of
 * content (possibly empty).
 */
struct smtp_data {
    uint8_t state; /* where in CR LF . CR LF the stream stands */
};

enum smtp_data_answer {
    SMTP_DATA_MORE,
    SMTP_DATA_END,
};

void smtp_data_init(struct smtp_data *data);
enum smtp_data_answer smtp_data_next(struct smtp_data *data, struct slice *rest,
                                     struct slice *ret_span);

/* Text put together without format strings; what does not fit sets `failed`. */
struct smtp_text {
    char *at;
    char *end;
    bool failed;
};

static inline void smtp_put(struct smtp_text *text, const char *bytes, size_t len)
{
    if ((size_t)(text->end - text->at) < len) {
        text->failed = true;
        return;
    }
    memcpy(text->at, bytes, len);
    text->at += len;
}

#define smtp_put_literal(text, literal) smtp_put((text), "" literal, sizeof(literal) - 1)

void smtp_put_str(struct smtp_text *text, const char *bytes);
void smtp_put_u64(struct smtp_text *text, uint64_t value);
/* Eight hexadecimal digits. */
void smtp_put_hex32(struct smtp_text *text, uint32_t value);
