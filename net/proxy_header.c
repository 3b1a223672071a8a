#include "net/proxy_header.h"

#include "core/base/must.h"
#include "core/base/text.h"

/* Version 1: "PROXY TCP4 SOURCE TARGET PORT PORT" and CRLF. */
static size_t write_text(const struct ipaddr *source, const struct ipaddr_port *target,
                         uint8_t *room)
{
    struct text text = text_in((char *)room, PROXY_HEADER_BYTES_MAX);
    char from[IPADDR_TEXT_MAX], to[IPADDR_TEXT_MAX];

    ipaddr_format(source, from);
    ipaddr_format(&target->ip, to);
    text_put_str(&text, source->family == IPADDR_V6 ? "PROXY TCP6 " : "PROXY TCP4 ");
    text_put_str(&text, from);
    text_put_char(&text, ' ');
    text_put_str(&text, to);
    text_put_literal(&text, " 0 ");
    text_put_u64(&text, target->port, 0);
    text_put_literal(&text, "\r\n");
    must(!text.is_cut);
    return text.len;
}

/* Version 2: signature, command PROXY, family and stream, length, addresses, ports. */
static size_t write_binary(const struct ipaddr *source, const struct ipaddr_port *target,
                           uint8_t *room)
{
    static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                          0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
    size_t bytes = source->family == IPADDR_V6 ? 16 : 4;
    uint8_t *ports = room + 16 + 2 * bytes;

    memcpy(room, signature, sizeof(signature));
    room[12] = 0x21;
    room[13] = source->family == IPADDR_V6 ? 0x21 : 0x11;
    room[14] = 0;
    room[15] = (uint8_t)(2 * bytes + 4);
    memcpy(room + 16, source->bytes, bytes);
    memcpy(room + 16 + bytes, target->ip.bytes, bytes);
    ports[0] = 0;
    ports[1] = 0;
    ports[2] = (uint8_t)(target->port >> 8);
    ports[3] = (uint8_t)target->port;
    return 16 + 2 * bytes + 4;
}

size_t proxy_header_write(unsigned version, const struct ipaddr *source,
                          const struct ipaddr_port *target, uint8_t *room)
{
    must(source->family == target->ip.family && (version == 1 || version == 2));
    return version == 1 ? write_text(source, target, room) : write_binary(source, target, room);
}
