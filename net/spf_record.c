/*
 * Terms are cut at blanks; a macro string cannot hold one. One function walks a macro string, for
 * whoever checks it and for whoever wants it expanded, so that the two cannot differ.
 */
#include "net/spf_record.h"

#include "core/base/err.h"
#include "core/base/text.h"
#include "net/rdns.h"

#define NAME_MAX_OCTETS 253u
#define EXPANSION_MAX   2048u
#define PARTS_MAX       512u
#define VALUE_MAX       512u

const char *spf_result_name(enum spf_result result)
{
    static const char *const names[] = {
        [SPF_NONE] = "none",           [SPF_NEUTRAL] = "neutral",   [SPF_PASS] = "pass",
        [SPF_FAIL] = "fail",           [SPF_SOFTFAIL] = "softfail", [SPF_TEMPERROR] = "temperror",
        [SPF_PERMERROR] = "permerror",
    };

    return names[result];
}

static bool is_alpha(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* ---- Macros ---------------------------------------------------------------------------------- */

/* "%{" letter, digits, r, delimiters "}". */
struct macro {
    uint8_t letter; /* small */
    bool is_escaped;
    bool is_reversed;
    uint32_t parts; /* 0 = all */
    struct slice delimiters;
};

static bool is_delimiter(uint8_t c)
{
    return memchr(".-+,/_=", c, 7) != NULL;
}

/* text: behind "%{". The octets used with "}", or 0 when it is no macro. */
static size_t parse_macro(struct slice text, const char *letters, struct macro *macro)
{
    size_t at = 0, start;

    *macro = (struct macro){.delimiters = SLICE_LITERAL(".")};
    if (text.len == 0 || !is_alpha(text.data[0]) || !strchr(letters, text.data[0] | 0x20))
        return 0;
    macro->letter = text.data[0] | 0x20;
    macro->is_escaped = text.data[at++] < 'a';
    start = at;
    while (at < text.len && is_digit(text.data[at]) && at - start < 3)
        macro->parts = macro->parts * 10 + (text.data[at++] - '0');
    if (at > start && macro->parts == 0)
        return 0;
    if (at < text.len && (text.data[at] | 0x20) == 'r') {
        macro->is_reversed = true;
        at++;
    }
    start = at;
    while (at < text.len && is_delimiter(text.data[at]))
        at++;
    if (at > start)
        macro->delimiters = slice_of(text.data + start, at - start);
    return at < text.len && text.data[at] == '}' ? at + 1 : 0;
}

static struct slice value_of(const struct macro *macro, const struct spf_macros *macros,
                             char room[VALUE_MAX])
{
    struct text text = text_in(room, VALUE_MAX);

    switch (macro->letter) {
    case 's':
        text_put(&text, macros->local);
        text_put_char(&text, '@');
        text_put(&text, macros->sender_domain);
        return text_slice(&text);
    case 'l':
        return macros->local;
    case 'o':
        return macros->sender_domain;
    case 'd':
        return macros->domain;
    case 'h':
        return macros->helo;
    case 'p':
        return macros->name;
    case 'v':
        return macros->ip.family == IPADDR_V6 ? SLICE_LITERAL("ip6") : SLICE_LITERAL("in-addr");
    default:
        return slice_of(room, rdns_labels(&macros->ip, false, room));
    }
}

static void put_escaped(struct text *out, struct slice value, bool is_escaped)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.data[i];

        if (!is_escaped || is_alpha(c) || is_digit(c) || memchr("-._~", c, 4) != NULL) {
            text_put_char(out, (char)c);
        } else {
            text_put_char(out, '%');
            text_put_char(out, digits[c >> 4]);
            text_put_char(out, digits[c & 15]);
        }
    }
}

/* RFC 7208 7.3: cut at the delimiters, turned round, the last ones of it, joined by dots. */
static void put_macro(struct text *out, const struct macro *macro, const struct spf_macros *macros)
{
    char room[VALUE_MAX];
    struct slice value = value_of(macro, macros, room);
    struct slice parts[PARTS_MAX];
    uint32_t count = 0, first;
    size_t start = 0;

    for (size_t i = 0; i <= value.len && count < PARTS_MAX; i++) {
        if (i < value.len && !memchr(macro->delimiters.data, value.data[i], macro->delimiters.len))
            continue;
        parts[count++] = slice_of(value.data + start, i - start);
        start = i + 1;
    }
    first = macro->parts > 0 && macro->parts < count ? count - macro->parts : 0;
    for (uint32_t i = first; i < count; i++) {
        uint32_t at = macro->is_reversed ? count - 1 - i : i;

        if (i > first)
            text_put_char(out, '.');
        put_escaped(out, parts[at], macro->is_escaped);
    }
}

/* Walks a macro string: false when it is none. out: NULL = only checked. ret_ends: the last thing
 * in it was a macro. */
static bool walk(struct slice spec, const char *letters, const struct spf_macros *macros,
                 struct text *out, bool *ret_ends)
{
    static const char escapes[][2] = {{'%', '%'}, {'_', ' '}, {'-', 0}};
    struct macro macro;

    *ret_ends = false;
    for (size_t at = 0; at < spec.len;) {
        uint8_t c = spec.data[at];
        size_t used;

        *ret_ends = c == '%';
        if (c < 0x21 || c > 0x7e)
            return false;
        if (c != '%') {
            if (out)
                text_put_char(out, (char)c);
            at++;
            continue;
        }
        if (at + 1 == spec.len)
            return false;
        c = spec.data[at + 1];
        at += 2;
        if (c == '{') {
            used = parse_macro(slice_after(spec, at), letters, &macro);
            if (used == 0)
                return false;
            if (out)
                put_macro(out, &macro, macros);
            at += used;
            continue;
        }
        if (c != '%' && c != '_' && c != '-')
            return false;
        for (size_t i = 0; out && i < 3; i++) {
            if (escapes[i][0] == (char)c)
                text_put(out, c == '-' ? SLICE_LITERAL("%20") : slice_of(&escapes[i][1], 1));
        }
    }
    return true;
}

static const char domain_letters[] = "slodiphv";
static const char all_letters[] = "slodiphcrtv";

/* 7.1: it ends with a macro, or with a dot and a label that is not a number. */
static bool is_domain_spec(struct slice spec)
{
    bool ends_in_macro, has_alpha = false;
    size_t len = spec.len, start;

    if (spec.len == 0 || !walk(spec, domain_letters, NULL, NULL, &ends_in_macro))
        return false;
    if (ends_in_macro)
        return true;
    if (spec.data[len - 1] == '.')
        len--;
    for (start = len; start > 0 && spec.data[start - 1] != '.'; start--) {
        uint8_t c = spec.data[start - 1];

        if (!is_alpha(c) && !is_digit(c) && c != '-')
            return false;
        has_alpha |= !is_digit(c);
    }
    return start > 0 && start < len && has_alpha && spec.data[start] != '-' &&
           spec.data[len - 1] != '-';
}

static bool has_macro(struct slice domain_spec, uint8_t letter)
{
    for (size_t i = 0; i + 2 < domain_spec.len; i++) {
        if (domain_spec.data[i] != '%')
            continue;
        if (domain_spec.data[i + 1] == '{' && (domain_spec.data[i + 2] | 0x20) == letter)
            return true;
        i++;
    }
    return false;
}

bool spf_wants_name(struct slice domain_spec)
{
    return has_macro(domain_spec, 'p');
}

bool spf_wants_sender(struct slice domain_spec)
{
    return has_macro(domain_spec, 'l') || has_macro(domain_spec, 's');
}

int spf_expand(struct slice domain_spec, const struct spf_macros *macros,
               char room[DNS_NAME_MAX + 1])
{
    char expansion[EXPANSION_MAX];
    struct text out = text_in(expansion, sizeof(expansion));
    struct slice name;
    bool ends_in_macro;

    walk(domain_spec, domain_letters, macros, &out, &ends_in_macro);
    name = text_slice(&out);
    while (name.len > NAME_MAX_OCTETS) {
        size_t dot = slice_find(name, '.');

        if (dot == name.len)
            return E_TOO_LONG;
        name = slice_after(name, dot + 1);
    }
    if (out.is_cut)
        return E_TOO_LONG;
    memcpy(room, name.data, name.len);
    room[name.len] = '\0';
    return (int)name.len;
}

/* ---- Terms ----------------------------------------------------------------------------------- */

bool spf_is_record(struct slice text, struct slice *ret_terms)
{
    static const struct slice version = SLICE_LITERAL("v=spf1");

    if (!slice_starts_nocase(text, version))
        return false;
    *ret_terms = slice_after(text, version.len);
    return ret_terms->len == 0 || ret_terms->data[0] == ' ';
}

/* "/N" at the end of *spec: taken off, with its number. False when the number is none. mark: what
 * stands before it. */
static bool take_bits(struct slice *spec, struct slice mark, unsigned most, uint8_t *bits)
{
    size_t digits = spec->len;
    uint64_t value;

    while (digits > 0 && is_digit(spec->data[digits - 1]))
        digits--;
    if (digits < mark.len || !slice_equal(slice_of(spec->data + digits - mark.len, mark.len), mark))
        return true;
    if (digits == spec->len)
        return false;
    if (spec->data[digits] == '0' && spec->len - digits > 1)
        return false;
    if (slice_to_u64(slice_after(*spec, digits), most, &value) < 0)
        return false;
    *bits = (uint8_t)value;
    spec->len = digits - mark.len;
    return true;
}

/* value: what follows the name, with its ":" or "/". */
static bool parse_hosts(struct slice value, struct spf_term *term)
{
    term->bits4 = 32;
    term->bits6 = 128;
    if (!take_bits(&value, SLICE_LITERAL("//"), 128, &term->bits6) ||
        !take_bits(&value, SLICE_LITERAL("/"), 32, &term->bits4))
        return false;
    if (value.len == 0)
        return true;
    term->domain = slice_after(value, 1);
    return value.data[0] == ':' && is_domain_spec(term->domain);
}

static bool parse_block(struct slice value, enum ipaddr_family family, struct spf_term *term)
{
    unsigned most = family == IPADDR_V4 ? 32 : 128;
    uint8_t bits = (uint8_t)most;
    bool has_colons;

    if (value.len == 0 || value.data[0] != ':' ||
        !take_bits(&value, SLICE_LITERAL("/"), most, &bits))
        return false;
    value = slice_after(value, 1);
    has_colons = slice_find(value, ':') < value.len;
    if (has_colons != (family == IPADDR_V6) || ipaddr_parse(value, &term->block.ip) < 0)
        return false;
    /* An IPv4 address in the form of IPv6 is of neither kind; no client has one. */
    term->block.prefix_bits = term->block.ip.family == (uint8_t)family ? bits : 0;
    if (term->block.ip.family != (uint8_t)family)
        term->block.ip.family = IPADDR_NONE;
    return true;
}

static bool parse_mechanism(struct slice name, struct slice value, struct spf_term *term)
{
    static const struct {
        struct slice name;
        enum spf_kind kind;
    } kinds[] = {
        {SLICE_LITERAL("all"), SPF_ALL}, {SLICE_LITERAL("include"), SPF_INCLUDE},
        {SLICE_LITERAL("a"), SPF_A},     {SLICE_LITERAL("mx"), SPF_MX},
        {SLICE_LITERAL("ptr"), SPF_PTR}, {SLICE_LITERAL("ip4"), SPF_IP4},
        {SLICE_LITERAL("ip6"), SPF_IP6}, {SLICE_LITERAL("exists"), SPF_EXISTS},
    };
    size_t at = 0, count = sizeof(kinds) / sizeof(kinds[0]);

    while (at < count && !slice_equal_nocase(name, kinds[at].name))
        at++;
    if (at == count)
        return false;
    term->kind = kinds[at].kind;
    switch (term->kind) {
    case SPF_ALL:
        return value.len == 0;
    case SPF_A:
    case SPF_MX:
        return parse_hosts(value, term);
    case SPF_IP4:
        return parse_block(value, IPADDR_V4, term);
    case SPF_IP6:
        return parse_block(value, IPADDR_V6, term);
    default:
        if (value.len == 0)
            return term->kind == SPF_PTR;
        term->domain = slice_after(value, 1);
        return value.data[0] == ':' && is_domain_spec(term->domain);
    }
}

static bool parse_modifier(struct slice name, struct slice value, struct spf_term *term)
{
    bool ends_in_macro;

    if (name.len == 0 || !is_alpha(name.data[0]))
        return false;
    term->domain = value;
    if (slice_equal_nocase(name, SLICE_LITERAL("redirect")))
        term->kind = SPF_REDIRECT;
    else if (slice_equal_nocase(name, SLICE_LITERAL("exp")))
        term->kind = SPF_EXP;
    else
        term->kind = SPF_OTHER;
    if (term->kind != SPF_OTHER)
        return is_domain_spec(value);
    return walk(value, all_letters, NULL, NULL, &ends_in_macro);
}

static bool parse_term(struct slice text, struct spf_term *term)
{
    static const char marks[] = "+-~?";
    static const enum spf_result meanings[] = {SPF_PASS, SPF_FAIL, SPF_SOFTFAIL, SPF_NEUTRAL};
    const char *mark = strchr(marks, text.data[0]);
    struct slice rest = text;
    size_t len = 0;

    *term = (struct spf_term){.text = text, .qualifier = SPF_PASS, .domain = SLICE_EMPTY};
    if (mark) {
        term->qualifier = meanings[mark - marks];
        rest = slice_after(rest, 1);
    }
    while (len < rest.len && (is_alpha(rest.data[len]) || is_digit(rest.data[len]) ||
                              memchr("-_.", rest.data[len], 3) != NULL))
        len++;
    if (len < rest.len && rest.data[len] == '=')
        return !mark && parse_modifier(slice_of(rest.data, len), slice_after(rest, len + 1), term);
    return parse_mechanism(slice_of(rest.data, len), slice_after(rest, len), term);
}

int spf_term_next(struct slice *rest, struct spf_term *ret_term)
{
    size_t len;

    while (rest->len > 0 && rest->data[0] == ' ')
        *rest = slice_after(*rest, 1);
    if (rest->len == 0)
        return 0;
    len = slice_find(*rest, ' ');
    /* A NUL would end the names that are looked for. */
    if (memchr(rest->data, '\0', len) != NULL || !parse_term(slice_of(rest->data, len), ret_term))
        return E_SYNTAX;
    *rest = slice_after(*rest, len);
    return 1;
}

int spf_terms_check(struct slice terms, struct spf_term *ret_redirect)
{
    unsigned redirects = 0, explanations = 0;
    bool has_all = false;
    struct spf_term term;
    int more;

    *ret_redirect = (struct spf_term){.kind = SPF_OTHER};
    while ((more = spf_term_next(&terms, &term)) > 0) {
        has_all |= term.kind == SPF_ALL;
        redirects += term.kind == SPF_REDIRECT;
        explanations += term.kind == SPF_EXP;
        if (term.kind == SPF_REDIRECT)
            *ret_redirect = term;
    }
    if (has_all)
        ret_redirect->kind = SPF_OTHER;
    return more < 0 || redirects > 1 || explanations > 1 ? E_SYNTAX : 0;
}
