/*
 * slice: a view of bytes that somebody else owns.
 *
 * Not NUL-terminated, may hold any byte. A slice is valid as long as its owner says. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data;
    size_t len;
};

#define SLICE_LITERAL(text) ((struct slice){(const uint8_t *)("" text), sizeof(text) - 1})
#define SLICE_EMPTY         ((struct slice){(const uint8_t *)"", 0})

static inline struct slice slice_of(const void *data, size_t len)
{
    return (struct slice){data, len};
}

static inline struct slice slice_str(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* The rest of s after its first skip bytes; skip <= s.len. */
static inline struct slice slice_after(struct slice s, size_t skip)
{
    return (struct slice){s.data + skip, s.len - skip};
}

/* ASCII case only, here and below: octets above 127 stay and compare as they are. */
static inline uint8_t slice_lower_octet(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* s with small letters in room, which has s.len octets and may be those of s. */
struct slice slice_lower(struct slice s, void *room);
bool slice_equal_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice s, struct slice prefix);
/* Without leading and trailing blanks and tabs. */
struct slice slice_trim(struct slice s);
/* Index of the first byte c, or s.len. */
size_t slice_find(struct slice s, uint8_t c);
/*
 * Decimal digits only, no sign, whole slice. 0 and *ret_value set, E_SYNTAX when empty or not all
 * digits, E_RANGE above max.
 */
int slice_to_u64(struct slice s, uint64_t max, uint64_t *ret_value);
