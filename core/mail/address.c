#include "core/mail/address.h"

#include "core/base/err.h"

#include <errno.h>
#include <idn2.h>

/* What an ASCII octet may be part of. */
enum octet_class {
    IN_ATOM = 1,   /* atext, RFC 5322 3.2.3 */
    IN_LABEL = 2,  /* Let-dig or '-' */
    IN_QUOTES = 4, /* qtextSMTP */
    IS_DIGIT = 8,
};

static const uint8_t octet_classes[256] = {
    [' '] = IN_QUOTES,
    ['!'] = IN_ATOM | IN_QUOTES,
    ['#' ... '\''] = IN_ATOM | IN_QUOTES,
    ['('] = IN_QUOTES,
    [')'] = IN_QUOTES,
    ['*'] = IN_ATOM | IN_QUOTES,
    ['+'] = IN_ATOM | IN_QUOTES,
    [','] = IN_QUOTES,
    ['-'] = IN_ATOM | IN_QUOTES | IN_LABEL,
    ['.'] = IN_QUOTES,
    ['/'] = IN_ATOM | IN_QUOTES,
    ['0' ... '9'] = IN_ATOM | IN_QUOTES | IN_LABEL | IS_DIGIT,
    [':' ... '<'] = IN_QUOTES,
    ['='] = IN_ATOM | IN_QUOTES,
    ['>'] = IN_QUOTES,
    ['?'] = IN_ATOM | IN_QUOTES,
    ['@'] = IN_QUOTES,
    ['A' ... 'Z'] = IN_ATOM | IN_QUOTES | IN_LABEL,
    ['['] = IN_QUOTES,
    [']'] = IN_QUOTES,
    ['^' ... '`'] = IN_ATOM | IN_QUOTES,
    ['a' ... 'z'] = IN_ATOM | IN_QUOTES | IN_LABEL,
    ['{' ... '~'] = IN_ATOM | IN_QUOTES,
};

#define LABEL_MAX 63

static bool is_continuation(uint8_t octet)
{
    return (octet & 0xc0) == 0x80;
}

/*
 * Length of the UTF-8 character at the front of text, or E_SYNTAX: not the shortest form, a
 * surrogate, above U+10FFFF, cut off, or a control character of the second page (U+0080 to U+009F).
 */
static int utf8_length(struct slice text)
{
    /* Lead octets by length, with the least value that needs so many octets. */
    static const struct {
        uint8_t mask;
        uint8_t lead;
        uint32_t least;
    } forms[] = {{0xe0, 0xc0, 0xa0}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

    for (unsigned form = 0; form < 3; form++) {
        size_t length = form + 2;
        uint32_t value;

        if ((text.data[0] & forms[form].mask) != forms[form].lead)
            continue;
        if (text.len < length)
            return E_SYNTAX;
        value = text.data[0] & (uint8_t)~forms[form].mask;
        for (size_t i = 1; i < length; i++) {
            if (!is_continuation(text.data[i]))
                return E_SYNTAX;
            value = value << 6 | (text.data[i] & 0x3f);
        }
        if (value < forms[form].least || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
            return E_SYNTAX;
        return (int)length;
    }
    return E_SYNTAX;
}

/* Octets of one character at text that belongs to class, 0 when it does not, or an error. */
static int character_length(struct slice text, unsigned flags, uint8_t class)
{
    if (text.len == 0)
        return 0;
    if (text.data[0] < 0x80)
        return (octet_classes[text.data[0]] & class) != 0;
    return (flags & ADDRESS_ALLOW_UTF8) != 0 ? utf8_length(text) : E_REFUSED;
}

static int parse_dot_string(struct slice text, unsigned flags, size_t *ret_used)
{
    size_t at = 0;

    for (;;) {
        size_t atom = at;
        int length;

        while ((length = character_length(slice_after(text, at), flags, IN_ATOM)) > 0)
            at += (size_t)length;
        if (length < 0)
            return length;
        if (at == atom)
            return E_SYNTAX;
        if (at == text.len || text.data[at] != '.')
            break;
        at++;
    }
    *ret_used = at;
    return 0;
}

static int parse_quoted_string(struct slice text, unsigned flags, size_t *ret_used)
{
    size_t at = 1;

    while (at < text.len && text.data[at] != '"') {
        int length;

        if (text.data[at] == '\\') {
            /* quoted-pairSMTP: any printable ASCII behind the backslash. */
            if (at + 1 == text.len || text.data[at + 1] < ' ' || text.data[at + 1] > '~')
                return E_SYNTAX;
            at += 2;
            continue;
        }
        length = character_length(slice_after(text, at), flags, IN_QUOTES);
        if (length <= 0)
            return length < 0 ? length : E_SYNTAX;
        at += (size_t)length;
    }
    if (at >= text.len)
        return E_SYNTAX;
    *ret_used = at + 1;
    return 0;
}

/* Labels of letters, digits and hyphens. Returns the length of the lower-cased copy in ret_host. */
static int ascii_host(struct slice text, char *ret_host)
{
    size_t label = 0;
    uint8_t common = 0xff;

    if (text.len > ADDRESS_HOST_MAX)
        return E_TOO_LONG;
    for (size_t i = 0; i <= text.len; i++) {
        if (i < text.len && (octet_classes[text.data[i]] & IN_LABEL) != 0) {
            common &= octet_classes[text.data[i]];
            ret_host[i] = (char)slice_lower_octet(text.data[i]);
            continue;
        }
        if (i < text.len && text.data[i] != '.')
            return E_SYNTAX;
        if (i == label || text.data[label] == '-' || text.data[i - 1] == '-')
            return E_SYNTAX;
        if (i - label > LABEL_MAX)
            return E_TOO_LONG;
        if (i == text.len)
            break;
        ret_host[i] = '.';
        label = i + 1;
        common = 0xff;
    }
    /* No top-level domain is a number: "a@10.1.2.3" means an address to some and a name to others.
     */
    if ((common & IS_DIGIT) != 0)
        return E_SYNTAX;
    ret_host[text.len] = '\0';
    return (int)text.len;
}

static unsigned dot_count(struct slice text)
{
    unsigned count = 0;

    for (size_t i = 0; i < text.len; i++)
        count += text.data[i] == '.';
    return count;
}

/* Turns U-labels into A-labels. */
static int unicode_host(struct slice text, char *ret_host)
{
    char room[ADDRESS_DOMAIN_MAX + 1];
    struct slice ascii;
    char *output = NULL;
    int rc;

    memcpy(room, text.data, text.len);
    room[text.len] = '\0';
    rc = idn2_to_ascii_8z(room, &output, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
    if (rc != IDN2_OK)
        return rc == IDN2_MALLOC ? -ENOMEM : E_SYNTAX;
    ascii = slice_str(output);
    /* The mapping knows other characters for a full stop; labels that only we see are refused. */
    rc = dot_count(ascii) == dot_count(text) ? ascii_host(ascii, ret_host) : E_SYNTAX;
    idn2_free(output);
    return rc;
}

static int parse_name(struct slice text, unsigned flags, char *ret_host)
{
    bool is_ascii = true;
    int length;

    if (text.len > ADDRESS_DOMAIN_MAX)
        return E_TOO_LONG;
    for (size_t at = 0; at < text.len; at += (size_t)length) {
        length = 1;
        if (text.data[at] < 0x80)
            continue;
        is_ascii = false;
        length = character_length(slice_after(text, at), flags, IN_LABEL);
        if (length < 0)
            return length;
    }
    return is_ascii ? ascii_host(text, ret_host) : unicode_host(text, ret_host);
}

/* text: with both brackets. */
static int parse_literal(struct slice text, struct ipaddr *ret_ip, char *ret_host)
{
    static const struct slice tag = SLICE_LITERAL("IPv6:");
    struct slice inner = slice_of(text.data + 1, text.len - 2);
    bool tagged = slice_starts_nocase(inner, tag);
    struct ipaddr ip;
    size_t length;
    int rc;

    if (tagged)
        inner = slice_after(inner, tag.len);
    /* A dotted quad needs no tag, a colon form must have it. */
    if ((slice_find(inner, ':') < inner.len) != tagged)
        return E_SYNTAX;
    rc = ipaddr_parse(inner, &ip);
    if (rc < 0)
        return rc;
    ret_host[0] = '[';
    length = 1 + ipaddr_format(&ip, ret_host + 1);
    ret_host[length++] = ']';
    ret_host[length] = '\0';
    *ret_ip = ip;
    return (int)length;
}

/* How far the domain at the front of text reaches. */
static size_t domain_extent(struct slice text)
{
    size_t end = 0;

    if (text.len > 0 && text.data[0] == '[') {
        end = slice_find(text, ']');
        return end < text.len ? end + 1 : 0;
    }
    while (end < text.len && (text.data[end] >= 0x80 || text.data[end] == '.' ||
                              (octet_classes[text.data[end]] & IN_LABEL) != 0))
        end++;
    return end;
}

static int parse_domain(struct slice text, unsigned flags, struct ipaddr *ret_ip, char *ret_host)
{
    ret_ip->family = IPADDR_NONE;
    if (text.len == 0)
        return E_SYNTAX;
    if (text.data[0] == '[')
        return text.len > 2 ? parse_literal(text, ret_ip, ret_host) : E_SYNTAX;
    return parse_name(text, flags, ret_host);
}

static bool has_high_octet(struct slice text)
{
    uint8_t all = 0;

    for (size_t i = 0; i < text.len; i++)
        all |= text.data[i];
    return all >= 0x80;
}

static void set_empty(struct address *address)
{
    address->text = SLICE_EMPTY;
    address->local = SLICE_EMPTY;
    address->domain = SLICE_EMPTY;
    address->literal.family = IPADDR_NONE;
    address->is_utf8 = false;
    address->is_local_only = false;
    address->host_bytes = 0;
    address->host[0] = '\0';
}

/* A mailbox at the front of text; what follows it is the caller's to judge. */
static int parse_mailbox(struct slice text, unsigned flags, struct address *ret_address,
                         size_t *ret_used)
{
    static const struct slice postmaster = SLICE_LITERAL("postmaster");
    size_t local_bytes = 0;
    int rc;

    if (text.len > 0 && text.data[0] == '"')
        rc = parse_quoted_string(text, flags, &local_bytes);
    else
        rc = parse_dot_string(text, flags, &local_bytes);
    if (rc < 0)
        return rc;
    if (local_bytes > ADDRESS_LOCAL_MAX &&
        ((flags & ADDRESS_ALLOW_LONG_LOCAL) == 0 || text.data[0] == '"'))
        return E_TOO_LONG;
    ret_address->local = slice_of(text.data, local_bytes);
    ret_address->is_local_only = false;
    if (local_bytes == text.len || text.data[local_bytes] != '@') {
        if ((flags & ADDRESS_ALLOW_POSTMASTER) == 0 ||
            !slice_equal_nocase(ret_address->local, postmaster))
            return E_SYNTAX;
        ret_address->is_local_only = true;
        ret_address->domain = SLICE_EMPTY;
        ret_address->literal.family = IPADDR_NONE;
        ret_address->host[0] = '\0';
        rc = 0;
    } else {
        struct slice rest = slice_after(text, local_bytes + 1);

        ret_address->domain = slice_of(rest.data, domain_extent(rest));
        rc = parse_domain(ret_address->domain, flags, &ret_address->literal, ret_address->host);
        if (rc < 0)
            return rc;
    }
    *ret_used = local_bytes + !ret_address->is_local_only + ret_address->domain.len;
    if (*ret_used > ADDRESS_PATH_MAX - 2)
        return E_TOO_LONG;
    ret_address->host_bytes = (uint8_t)rc;
    ret_address->text = slice_of(text.data, *ret_used);
    ret_address->is_utf8 = has_high_octet(ret_address->text);
    return 0;
}

int address_parse(struct slice text, unsigned flags, struct address *ret_address)
{
    size_t used = 0;
    int rc;

    if (text.len == 0 && (flags & ADDRESS_ALLOW_NULL) != 0) {
        set_empty(ret_address);
        return 0;
    }
    rc = parse_mailbox(text, flags, ret_address, &used);
    if (rc < 0)
        return rc;
    return used == text.len ? 0 : E_SYNTAX;
}

/* "@one,@two:" at the front of text; *ret_used is 0 when there is none. */
static int skip_source_route(struct slice text, unsigned flags, size_t *ret_used)
{
    char host[ADDRESS_HOST_MAX + 1];
    size_t at = 0;

    if (text.len == 0 || text.data[0] != '@') {
        *ret_used = 0;
        return 0;
    }
    while (at < text.len && text.data[at] == '@') {
        struct slice rest = slice_after(text, at + 1);
        size_t extent = domain_extent(rest);
        int rc;

        if (extent == 0 || rest.data[0] == '[' || extent == rest.len)
            return E_SYNTAX;
        rc = parse_name(slice_of(rest.data, extent), flags, host);
        if (rc < 0)
            return rc;
        at += 1 + extent + 1;
        if (rest.data[extent] == ':') {
            *ret_used = at;
            return 0;
        }
        if (rest.data[extent] != ',')
            return E_SYNTAX;
    }
    return E_SYNTAX;
}

int address_parse_path(struct slice text, unsigned flags, struct address *ret_address,
                       size_t *ret_used)
{
    size_t route = 0;
    size_t used = 0;
    int rc;

    if (text.len < 2 || text.data[0] != '<')
        return E_SYNTAX;
    if (text.data[1] == '>') {
        if ((flags & ADDRESS_ALLOW_NULL) == 0)
            return E_SYNTAX;
        set_empty(ret_address);
        *ret_used = 2;
        return 0;
    }
    rc = skip_source_route(slice_after(text, 1), flags, &route);
    if (rc < 0)
        return rc;
    rc = parse_mailbox(slice_after(text, 1 + route), flags, ret_address, &used);
    if (rc < 0)
        return rc;
    used += 1 + route;
    if (used == text.len || text.data[used] != '>')
        return E_SYNTAX;
    if (used + 1 > ADDRESS_PATH_MAX)
        return E_TOO_LONG;
    *ret_used = used + 1;
    return 0;
}

int address_domain_parse(struct slice text, unsigned flags, char *ret_host)
{
    struct ipaddr literal;

    if (domain_extent(text) != text.len)
        return E_SYNTAX;
    return parse_domain(text, flags, &literal, ret_host);
}
