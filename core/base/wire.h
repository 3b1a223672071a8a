/*
 * wire: little-endian readers and writers with a sticky error.
 *
 * A writer that runs out of room and a reader that runs out of bytes set `failed` and from then on
 * do nothing; the caller checks once at the end. Strings are length-prefixed (u8, u16 or u32), so
 * remote text keeps every byte it had. Any thread; owns nothing.
 */
#pragma once

#include "core/base/slice.h"

struct wire_writer {
    uint8_t *at;
    uint8_t *end;
    uint8_t *start;
    bool failed;
};

struct wire_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

void wire_writer_init(struct wire_writer *w, void *room, size_t room_bytes);
void wire_put_u8(struct wire_writer *w, uint8_t value);
void wire_put_u16(struct wire_writer *w, uint16_t value);
void wire_put_u32(struct wire_writer *w, uint32_t value);
void wire_put_u64(struct wire_writer *w, uint64_t value);
void wire_put_bytes(struct wire_writer *w, const void *data, size_t len);
/* Length prefix of 1 or 2 bytes, then the bytes. Longer than the prefix can say sets failed. */
void wire_put_str8(struct wire_writer *w, struct slice s);
void wire_put_str16(struct wire_writer *w, struct slice s);
static inline size_t wire_written(const struct wire_writer *w)
{
    return (size_t)(w->at - w->start);
}

void wire_reader_init(struct wire_reader *r, const void *data, size_t len);
uint8_t wire_get_u8(struct wire_reader *r);
uint16_t wire_get_u16(struct wire_reader *r);
uint32_t wire_get_u32(struct wire_reader *r);
uint64_t wire_get_u64(struct wire_reader *r);
/* Views into the reader's bytes; empty once failed. */
struct slice wire_get_bytes(struct wire_reader *r, size_t len);
struct slice wire_get_str8(struct wire_reader *r);
struct slice wire_get_str16(struct wire_reader *r);
static inline size_t wire_left(const struct wire_reader *r)
{
    return (size_t)(r->end - r->at);
}
