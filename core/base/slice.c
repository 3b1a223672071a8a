#include "core/base/slice.h"

#include "core/base/err.h"

struct slice slice_lower(struct slice s, void *room)
{
    uint8_t *octets = room;

    for (size_t i = 0; i < s.len; i++)
        octets[i] = slice_lower_octet(s.data[i]);
    return slice_of(octets, s.len);
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (slice_lower_octet(a.data[i]) != slice_lower_octet(b.data[i]))
            return false;
    }
    return true;
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
    if (s.len < prefix.len)
        return false;
    return slice_equal_nocase(slice_of(s.data, prefix.len), prefix);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.data[s.len - 1]))
        s.len--;
    return s;
}

size_t slice_find(struct slice s, uint8_t c)
{
    const uint8_t *at = s.len > 0 ? memchr(s.data, c, s.len) : NULL;

    return at != NULL ? (size_t)(at - s.data) : s.len;
}

int slice_to_u64(struct slice s, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    bool over = false;

    if (s.len == 0)
        return E_SYNTAX;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t digit = (uint8_t)(s.data[i] - '0');

        if (digit > 9)
            return E_SYNTAX;
        /* The scan goes on when the value is too large: a later letter is still E_SYNTAX. */
        over = over || __builtin_mul_overflow(value, 10, &value) ||
               __builtin_add_overflow(value, digit, &value);
    }
    if (over || value > max)
        return E_RANGE;
    *ret_value = value;
    return 0;
}
