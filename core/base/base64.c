#include "core/base/base64.h"

#include "core/base/err.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* 0 to 63, or negative. */
static int value_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

/* Octets of a group of four, 1 to 3, or E_SYNTAX. Only the last one may be padded. */
static int decode_group(const uint8_t *text, bool is_last, uint8_t octets[3])
{
    int padding = text[3] != '=' ? 0 : text[2] != '=' ? 1 : 2;
    uint32_t bits = 0;

    if (padding > 0 && !is_last)
        return E_SYNTAX;
    for (int i = 0; i < 4; i++) {
        int value = i < 4 - padding ? value_of(text[i]) : 0;

        if (value < 0)
            return E_SYNTAX;
        bits = bits << 6 | (uint32_t)value;
    }
    if ((bits & ((1u << 8 * padding) - 1)) != 0)
        return E_SYNTAX;
    octets[0] = (uint8_t)(bits >> 16);
    octets[1] = (uint8_t)(bits >> 8);
    octets[2] = (uint8_t)bits;
    return 3 - padding;
}

int base64_decode(struct slice text, void *room, size_t room_bytes)
{
    uint8_t *out = room;
    size_t len = 0;

    if (text.len % 4 != 0)
        return E_SYNTAX;
    for (size_t at = 0; at < text.len; at += 4) {
        uint8_t octets[3];
        int count = decode_group(text.data + at, at + 4 == text.len, octets);

        if (count < 0)
            return E_SYNTAX;
        if (len + (size_t)count > room_bytes)
            return E_TOO_LONG;
        memcpy(out + len, octets, (size_t)count);
        len += (size_t)count;
    }
    return (int)len;
}

int base64_encode(struct slice octets, char *room, size_t room_bytes)
{
    size_t len = 0;

    if (BASE64_BYTES(octets.len) > room_bytes)
        return E_TOO_LONG;
    for (size_t at = 0; at < octets.len; at += 3) {
        size_t count = octets.len - at < 3 ? octets.len - at : 3;
        uint32_t bits = (uint32_t)octets.data[at] << 16;

        if (count > 1)
            bits |= (uint32_t)octets.data[at + 1] << 8;
        if (count > 2)
            bits |= octets.data[at + 2];
        room[len++] = letters[bits >> 18 & 63];
        room[len++] = letters[bits >> 12 & 63];
        room[len++] = count > 1 ? letters[bits >> 6 & 63] : '=';
        room[len++] = count > 2 ? letters[bits & 63] : '=';
    }
    return (int)len;
}
