/* show: what a file says, in messages about it; printed as %.*s and cut when it is long. */
#pragma once

#include "core/base/slice.h"

#define SHOW_MAX 80

/* Never cuts within a character: what goes on in octets 10xxxxxx goes as a whole. */
static inline int show_length(struct slice text)
{
    size_t len = text.len;

    if (len <= SHOW_MAX)
        return (int)len;
    len = SHOW_MAX;
    while (len > 0 && (text.data[len] & 0xc0) == 0x80)
        len--;
    return (int)len;
}

#define SHOW(text) show_length(text), (const char *)(text).data
