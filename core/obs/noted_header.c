#include "core/obs/noted_header.h"

/* RFC 5322 2.2.3: the line breaks of folds go, what stands behind them stays. */
static size_t unfold(struct slice value, uint8_t room[NOTED_VALUE_MAX])
{
    size_t len = 0;

    for (size_t i = 0; i < value.len && len < NOTED_VALUE_MAX; i++) {
        if (value.data[i] != '\r' && value.data[i] != '\n')
            room[len++] = value.data[i] == '\t' ? ' ' : value.data[i];
    }
    /* The room is full: not in the middle of a character of UTF-8. */
    if (len == NOTED_VALUE_MAX) {
        size_t start = len - 1;

        while (start > len - 4 && (room[start] & 0xc0) == 0x80)
            start--;
        if (room[start] >= 0xc0)
            len = start;
    }
    return len;
}

void noted_header_put(struct wire_writer *w, struct slice name, struct slice value)
{
    uint8_t room[NOTED_VALUE_MAX];
    size_t len = unfold(value, room);

    if (name.len > UINT8_MAX || (size_t)(w->end - w->at) < 1 + name.len + 2 + len)
        return;
    wire_put_str8(w, name);
    wire_put_str16(w, slice_of(room, len));
}

bool noted_header_find(struct slice headers, struct slice name, struct slice *ret_value)
{
    struct wire_reader r;

    wire_reader_init(&r, headers.data, headers.len);
    while (!r.failed && wire_left(&r) > 0) {
        struct slice noted = wire_get_str8(&r);
        struct slice value = wire_get_str16(&r);

        if (r.failed || !slice_equal_nocase(noted, name))
            continue;
        *ret_value = value;
        return true;
    }
    return false;
}
