#include "core/base/wire.h"

#include <endian.h>

void wire_writer_init(struct wire_writer *w, void *room, size_t room_bytes)
{
    w->start = room;
    w->at = room;
    w->end = w->start + room_bytes;
    w->failed = false;
}

void wire_put_bytes(struct wire_writer *w, const void *data, size_t len)
{
    if (w->failed)
        return;
    if (len > (size_t)(w->end - w->at)) {
        w->failed = true;
        return;
    }
    if (len > 0)
        memcpy(w->at, data, len);
    w->at += len;
}

void wire_put_u8(struct wire_writer *w, uint8_t value)
{
    wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u16(struct wire_writer *w, uint16_t value)
{
    value = htole16(value);
    wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u32(struct wire_writer *w, uint32_t value)
{
    value = htole32(value);
    wire_put_bytes(w, &value, sizeof(value));
}

void wire_put_u64(struct wire_writer *w, uint64_t value)
{
    value = htole64(value);
    wire_put_bytes(w, &value, sizeof(value));
}

/* All or nothing: a prefix without its bytes must not be counted as written. */
static bool has_room(struct wire_writer *w, size_t prefix, size_t len, size_t len_max)
{
    size_t left = (size_t)(w->end - w->at);

    if (w->failed)
        return false;
    if (len > len_max || left < prefix || left - prefix < len) {
        w->failed = true;
        return false;
    }
    return true;
}

void wire_put_str8(struct wire_writer *w, struct slice s)
{
    if (!has_room(w, 1, s.len, UINT8_MAX))
        return;
    wire_put_u8(w, (uint8_t)s.len);
    wire_put_bytes(w, s.data, s.len);
}

void wire_put_str16(struct wire_writer *w, struct slice s)
{
    if (!has_room(w, 2, s.len, UINT16_MAX))
        return;
    wire_put_u16(w, (uint16_t)s.len);
    wire_put_bytes(w, s.data, s.len);
}

void wire_reader_init(struct wire_reader *r, const void *data, size_t len)
{
    r->at = data;
    r->end = r->at + len;
    r->failed = false;
}

/* The next len bytes, or NULL with `failed` set. */
static const uint8_t *take(struct wire_reader *r, size_t len)
{
    const uint8_t *at = r->at;

    if (r->failed || len > (size_t)(r->end - r->at)) {
        r->failed = true;
        return NULL;
    }
    r->at += len;
    return at;
}

uint8_t wire_get_u8(struct wire_reader *r)
{
    const uint8_t *at = take(r, 1);

    return at != NULL ? *at : 0;
}

uint16_t wire_get_u16(struct wire_reader *r)
{
    const uint8_t *at = take(r, sizeof(uint16_t));
    uint16_t value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

uint32_t wire_get_u32(struct wire_reader *r)
{
    const uint8_t *at = take(r, sizeof(uint32_t));
    uint32_t value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

uint64_t wire_get_u64(struct wire_reader *r)
{
    const uint8_t *at = take(r, sizeof(uint64_t));
    uint64_t value = 0;

    if (at != NULL)
        memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

struct slice wire_get_bytes(struct wire_reader *r, size_t len)
{
    const uint8_t *at = take(r, len);

    return at != NULL ? slice_of(at, len) : SLICE_EMPTY;
}

struct slice wire_get_str8(struct wire_reader *r)
{
    return wire_get_bytes(r, wire_get_u8(r));
}

struct slice wire_get_str16(struct wire_reader *r)
{
    return wire_get_bytes(r, wire_get_u16(r));
}
