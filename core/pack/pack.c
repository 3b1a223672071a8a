#include "core/pack/pack.h"

extern const unsigned char provider_pack_bytes[];
extern const size_t provider_pack_bytes_bytes;

struct slice pack_text(void)
{
    return slice_of(provider_pack_bytes, provider_pack_bytes_bytes);
}

static struct slice take_line(struct slice *text)
{
    size_t end = slice_find(*text, '\n');
    struct slice line = slice_of(text->data, end);

    *text = slice_after(*text, end < text->len ? end + 1 : end);
    return slice_trim(slice_of(line.data, slice_find(line, '#')));
}

bool pack_next_hosts(struct slice *text, struct slice *provider, struct pack_hosts *ret_hosts)
{
    const struct slice opening = SLICE_LITERAL("<provider ");
    const struct slice mx = SLICE_LITERAL("mx ");

    while (text->len > 0) {
        struct slice line = take_line(text);

        if (slice_starts_nocase(line, opening) && line.data[line.len - 1] == '>')
            *provider = slice_trim(slice_of(line.data + opening.len, line.len - opening.len - 1));
        if (!slice_starts_nocase(line, mx))
            continue;
        *ret_hosts = (struct pack_hosts){*provider, slice_trim(slice_after(line, mx.len))};
        return true;
    }
    return false;
}
