#include "core/mail/https_uri.h"

#define PORT_DEFAULT 443u
#define LABEL_MAX    63u

static bool is_letter(uint8_t c)
{
    c = slice_lower_octet(c);
    return c >= 'a' && c <= 'z';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(uint8_t c)
{
    c = slice_lower_octet(c);
    return is_digit(c) || (c >= 'a' && c <= 'f');
}

static bool is_label(struct slice label)
{
    if (label.len == 0 || label.len > LABEL_MAX || label.data[0] == '-' ||
        label.data[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_letter(label.data[i]) && !is_digit(label.data[i]) && label.data[i] != '-' &&
            label.data[i] != '_')
            return false;
    return true;
}

static bool is_host(struct slice host)
{
    struct slice rest = host;
    size_t end = slice_find(rest, '.');

    if (host.len > HTTPS_HOST_MAX || end == rest.len)
        return false;
    for (; end < rest.len; end = slice_find(rest, '.')) {
        if (!is_label(slice_of(rest.data, end)))
            return false;
        rest = slice_after(rest, end + 1);
    }
    return is_label(rest) && is_letter(rest.data[0]);
}

/* Path and query: "pchar" of RFC 3986 3.3, and what divides them. */
static bool is_rest(struct slice text)
{
    static const struct slice marks = SLICE_LITERAL("-._~$&'()*+=:@/?");

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c == '%') {
            if (i + 2 >= text.len || !is_hex(text.data[i + 1]) || !is_hex(text.data[i + 2]))
                return false;
            i += 2;
        } else if (!is_letter(c) && !is_digit(c) && slice_find(marks, c) == marks.len) {
            return false;
        }
    }
    return true;
}

static bool take_port(struct slice text, uint16_t *ret_port)
{
    uint64_t port;

    if (slice_to_u64(text, UINT16_MAX, &port) < 0 || port == 0)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

bool https_uri_parse(struct slice text, struct https_uri *ret_uri)
{
    static const struct slice scheme = SLICE_LITERAL("https://");
    struct slice rest, authority;
    size_t end = 0, colon;

    if (text.len > HTTPS_URI_MAX || !slice_starts_nocase(text, scheme))
        return false;
    rest = slice_after(text, scheme.len);
    while (end < rest.len && rest.data[end] != '/' && rest.data[end] != '?')
        end++;
    authority = slice_of(rest.data, end);
    colon = slice_find(authority, ':');
    *ret_uri = (struct https_uri){.host = slice_of(authority.data, colon), .port = PORT_DEFAULT};
    return is_host(ret_uri->host) && is_rest(slice_after(rest, end)) &&
           (colon == authority.len || take_port(slice_after(authority, colon + 1), &ret_uri->port));
}
