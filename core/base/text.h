/*
 * text: lines put together in a caller's buffer, without a format string.
 *
 * For what every message writes (replies, Received, log records), where interpreting a format
 * costs more than the octets. Whatever no longer fits is cut and remembered in is_cut; the buffer
 * never overflows and is never NUL-terminated except by text_end. Any thread.
 */
#pragma once

#include "core/base/slice.h"

struct text {
    char *data;
    size_t len;
    size_t size;
    bool is_cut;
};

/* size > 0: one octet of it stays free for text_end. */
static inline struct text text_in(char *room, size_t size)
{
    return (struct text){.data = room, .size = size};
}

void text_put(struct text *text, struct slice octets);
/* Decimal, with leading zeros up to width digits; width 0 = as many as the number has. */
void text_put_u64(struct text *text, uint64_t value, unsigned width);
/* "Sun, 22 Nov 2026 22:08:23 +0000" (RFC 5322 3.3), of a wall clock time. */
void text_put_date(struct text *text, uint64_t wall_us);
/* Terminates it with a NUL; returns its length without. */
size_t text_end(struct text *text);

static inline void text_put_str(struct text *text, const char *str)
{
    text_put(text, slice_str(str));
}

static inline void text_put_char(struct text *text, char c)
{
    text_put(text, slice_of(&c, 1));
}

#define text_put_literal(text, literal) text_put((text), SLICE_LITERAL(literal))

static inline struct slice text_slice(const struct text *text)
{
    return slice_of(text->data, text->len);
}
