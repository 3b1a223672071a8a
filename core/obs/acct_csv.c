/*
 * A field is written unquoted first, while the writer notes whether it met a byte that needs
 * quotes; only then is it opened up. Most fields need none, and those that do are short.
 */
#include "core/obs/acct_csv.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/obs/noted_header.h"

struct csv_writer {
    char *at;
    char *end;
    bool failed;
    bool needs_quotes; /* the field under way */
};

/* ---- Bytes ---------------------------------------------------------------------------------- */

#define EVERY_BYTE 0x0101010101010101ull
#define HIGH_BITS  0x8080808080808080ull

static uint64_t has_zero_byte(uint64_t word)
{
    return (word - EVERY_BYTE) & ~word & HIGH_BITS;
}

/* Eight bytes that may be copied as they are: printable ASCII but for , " and backslash. */
static bool is_plain_word(uint64_t word)
{
    uint64_t below_space = (word - EVERY_BYTE * 0x20) & ~word & HIGH_BITS;
    uint64_t special =
        has_zero_byte(word ^ (EVERY_BYTE * ',')) | has_zero_byte(word ^ (EVERY_BYTE * '"')) |
        has_zero_byte(word ^ (EVERY_BYTE * '\\')) | has_zero_byte(word ^ (EVERY_BYTE * 0x7f));

    return ((word & HIGH_BITS) | below_space | special) == 0;
}

static bool is_plain_byte(uint8_t c)
{
    return c >= 0x20 && c < 0x7f && c != '\\';
}

static bool is_hex_digit(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* A backslash here would read as the start of an escape. */
static bool looks_like_escape(struct slice rest)
{
    return rest.len >= 4 && rest.data[1] == 'x' && is_hex_digit(rest.data[2]) &&
           is_hex_digit(rest.data[3]);
}

/* Length of the UTF-8 character at the start of s, 0 when it is none (RFC 3629). */
static size_t utf8_length(struct slice s)
{
    uint8_t lead = s.data[0];
    uint8_t second_min = 0x80;
    uint8_t second_max = 0xbf;
    size_t len;

    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (lead == 0xe0)
        second_min = 0xa0;
    else if (lead == 0xed)
        second_max = 0x9f;
    else if (lead == 0xf0)
        second_min = 0x90;
    else if (lead == 0xf4)
        second_max = 0x8f;
    if (s.len < len || s.data[1] < second_min || s.data[1] > second_max)
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (s.data[i] < 0x80 || s.data[i] > 0xbf)
            return 0;
    }
    return len;
}

/* Characters that programs take for the end of a line or for a command: U+0080 to U+009F, U+2028
 * and U+2029. */
static bool is_control_character(const uint8_t *data, size_t len)
{
    if (len == 2)
        return data[0] == 0xc2 && data[1] < 0xa0;
    return len == 3 && data[0] == 0xe2 && data[1] == 0x80 && (data[2] == 0xa8 || data[2] == 0xa9);
}

/* Bytes at the start of s that stand for themselves (one character), 0 when the first must be
 * escaped. */
static size_t printable_length(struct slice s)
{
    uint8_t c = s.data[0];
    size_t len;

    if (c == '\\')
        return looks_like_escape(s) ? 0 : 1;
    if (c < 0x80)
        return c >= 0x20 && c != 0x7f ? 1 : 0;
    len = utf8_length(s);
    return len != 0 && !is_control_character(s.data, len) ? len : 0;
}

static void put_escaped_byte(char *room, uint8_t c)
{
    static const char digits[] = "0123456789abcdef";

    room[0] = '\\';
    room[1] = 'x';
    room[2] = digits[c >> 4];
    room[3] = digits[c & 15];
}

/* ---- Fields --------------------------------------------------------------------------------- */

static void put_character(struct csv_writer *w, struct slice rest, size_t len)
{
    size_t room = (size_t)(w->end - w->at);

    if (room < 4) {
        w->failed = true;
        return;
    }
    if (len == 0) {
        put_escaped_byte(w->at, rest.data[0]);
        w->at += 4;
        return;
    }
    if (rest.data[0] == ',' || rest.data[0] == '"')
        w->needs_quotes = true;
    memcpy(w->at, rest.data, len);
    w->at += len;
}

/* Text from outside. Needs up to four bytes of room more than it writes. */
static void put_text(struct csv_writer *w, struct slice text)
{
    while (text.len > 0 && !w->failed) {
        uint64_t word;
        size_t len;

        if (text.len >= sizeof(word) && (size_t)(w->end - w->at) >= sizeof(word)) {
            memcpy(&word, text.data, sizeof(word));
            if (is_plain_word(word)) {
                memcpy(w->at, &word, sizeof(word));
                w->at += sizeof(word);
                text = slice_after(text, sizeof(word));
                continue;
            }
        }
        len = is_plain_byte(text.data[0]) ? 1 : printable_length(text);
        put_character(w, text, len);
        text = slice_after(text, len == 0 ? 1 : len);
    }
}

/* Our own words: nothing to escape. */
static void put_plain(struct csv_writer *w, const char *text, size_t len)
{
    if ((size_t)(w->end - w->at) < len) {
        w->failed = true;
        return;
    }
    memcpy(w->at, text, len);
    w->at += len;
}

static void put_word(struct csv_writer *w, const char *text)
{
    put_plain(w, text, strlen(text));
}

static size_t format_u64(uint64_t value, char *room)
{
    char digits[20];
    size_t len = 0;

    do {
        digits[sizeof(digits) - ++len] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    memcpy(room, digits + sizeof(digits) - len, len);
    return len;
}

static void put_u64(struct csv_writer *w, uint64_t value)
{
    char room[20];

    put_plain(w, room, format_u64(value, room));
}

/* IPv4 by hand: the system's function costs as much as the rest of a row. */
static void put_ip(struct csv_writer *w, const struct ipaddr *ip)
{
    char room[IPADDR_TEXT_MAX];
    size_t len = 0;

    if (ip->family == IPADDR_NONE)
        return;
    if (ip->family == IPADDR_V4) {
        for (int i = 0; i < 4; i++) {
            if (i > 0)
                room[len++] = '.';
            len += format_u64(ip->bytes[i], room + len);
        }
    } else {
        len = ipaddr_format(ip, room);
    }
    put_plain(w, room, len);
}

/* Opens the finished field up: doubles its quotes and puts it between two. */
static void quote_field(struct csv_writer *w, char *start)
{
    size_t extra = 2;
    char *from;
    char *to;

    for (char *c = start; c < w->at; c++)
        extra += *c == '"';
    if ((size_t)(w->end - w->at) < extra) {
        w->failed = true;
        return;
    }
    from = w->at;
    to = w->at + extra;
    w->at = to;
    *--to = '"';
    while (from > start) {
        *--to = *--from;
        if (*from == '"')
            *--to = '"';
    }
    *--to = '"';
}

/* ---- Times ---------------------------------------------------------------------------------- */

static char *put_digits(char *at, uint64_t value, size_t count)
{
    for (size_t i = count; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + count;
}

/* Day count since 1970 to year, month, day; years are counted from March, in eras of 400. */
static void civil_from_days(uint64_t days, uint64_t *ret_year, uint64_t *ret_month,
                            uint64_t *ret_day)
{
    uint64_t since_era = days + 719468;
    uint64_t era = since_era / 146097;
    uint64_t of_era = since_era % 146097;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    uint64_t month = (5 * of_year + 2) / 153;

    *ret_day = of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = year + era * 400 + (*ret_month <= 2 ? 1 : 0);
}

size_t acct_csv_time(uint64_t wall_us, char *room)
{
    uint64_t seconds = wall_us / 1000000;
    uint64_t of_day = seconds % 86400;
    uint64_t year;
    uint64_t month;
    uint64_t day;
    char *at = room;

    civil_from_days(seconds / 86400, &year, &month, &day);
    /* A wall clock of microseconds in 64 bits may lie far beyond year 9999; four digits stay. */
    at = put_digits(at, year > 9999 ? 9999 : year, 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    at = put_digits(at, day, 2);
    *at++ = ' ';
    at = put_digits(at, of_day / 3600, 2);
    *at++ = ':';
    at = put_digits(at, of_day / 60 % 60, 2);
    *at++ = ':';
    at = put_digits(at, of_day % 60, 2);
    memcpy(at, "+0000", sizeof("+0000"));
    return (size_t)(at - room) + sizeof("+0000") - 1;
}

static void put_time(struct csv_writer *w, const struct acct_csv_layout *layout, uint64_t wall_us)
{
    char room[ACCT_CSV_TIME_MAX];

    if (layout->iso_times)
        put_plain(w, room, acct_csv_time(wall_us, room));
    else
        put_u64(w, wall_us / 1000000);
}

/* ---- Status texts --------------------------------------------------------------------------- */

/* Subject and detail of the code; the class changes nothing but for 2.0.0. */
#define STATUS_TEXTS(X)                                                                            \
    X(0, 0, "undefined status")                                                                    \
    X(1, 0, "problem with an address")                                                             \
    X(1, 1, "bad destination mailbox address")                                                     \
    X(1, 2, "bad destination system address")                                                      \
    X(1, 3, "destination address is malformed")                                                    \
    X(1, 4, "destination address is ambiguous")                                                    \
    X(1, 5, "destination address is valid")                                                        \
    X(1, 6, "mailbox has moved, new address unknown")                                              \
    X(1, 7, "sender address is malformed")                                                         \
    X(1, 8, "bad sender system address")                                                           \
    X(1, 9, "relayed to a system without delivery reports")                                        \
    X(1, 10, "recipient domain accepts no mail")                                                   \
    X(2, 0, "problem with the mailbox")                                                            \
    X(2, 1, "mailbox disabled")                                                                    \
    X(2, 2, "mailbox full")                                                                        \
    X(2, 3, "message too long for the mailbox")                                                    \
    X(2, 4, "mailing list cannot be expanded")                                                     \
    X(3, 0, "problem with the receiving system")                                                   \
    X(3, 1, "receiving system is full")                                                            \
    X(3, 2, "receiving system takes no messages now")                                              \
    X(3, 3, "receiving system lacks a needed feature")                                             \
    X(3, 4, "message too big for the receiving system")                                            \
    X(3, 5, "receiving system is misconfigured")                                                   \
    X(3, 6, "requested priority was changed")                                                      \
    X(4, 0, "problem with the network or routing")                                                 \
    X(4, 1, "no answer from host")                                                                 \
    X(4, 2, "bad connection")                                                                      \
    X(4, 3, "directory server failed")                                                             \
    X(4, 4, "no route to the destination")                                                         \
    X(4, 5, "receiving system is congested")                                                       \
    X(4, 6, "mail loop found")                                                                     \
    X(4, 7, "delivery time expired")                                                               \
    X(5, 0, "problem with the mail protocol")                                                      \
    X(5, 1, "command not valid here")                                                              \
    X(5, 2, "command has a syntax error")                                                          \
    X(5, 3, "too many recipients")                                                                 \
    X(5, 4, "command arguments not valid")                                                         \
    X(5, 5, "protocol version does not match")                                                     \
    X(5, 6, "authentication exchange line too long")                                               \
    X(6, 0, "problem with the content")                                                            \
    X(6, 1, "content type not supported")                                                          \
    X(6, 2, "conversion needed but forbidden")                                                     \
    X(6, 3, "conversion needed but not supported")                                                 \
    X(6, 4, "conversion lost something")                                                           \
    X(6, 5, "conversion failed")                                                                   \
    X(6, 6, "message content not available")                                                       \
    X(6, 7, "addresses outside ASCII not accepted")                                                \
    X(6, 8, "reply in UTF-8 needed but not allowed")                                               \
    X(6, 9, "header in UTF-8 cannot be passed on")                                                 \
    X(7, 0, "problem with security or policy")                                                     \
    X(7, 1, "delivery not authorized")                                                             \
    X(7, 2, "expansion of the mailing list not allowed")                                           \
    X(7, 3, "security conversion needed but not possible")                                         \
    X(7, 4, "security feature not supported")                                                      \
    X(7, 5, "cryptographic failure")                                                               \
    X(7, 6, "cryptographic algorithm not supported")                                               \
    X(7, 7, "message integrity failed")                                                            \
    X(7, 8, "credentials not valid")                                                               \
    X(7, 9, "authentication mechanism too weak")                                                   \
    X(7, 10, "encryption needed")                                                                  \
    X(7, 11, "encryption needed for this authentication")                                          \
    X(7, 12, "password must be changed first")                                                     \
    X(7, 13, "account disabled")                                                                   \
    X(7, 14, "trust relationship needed")                                                          \
    X(7, 15, "priority too low")                                                                   \
    X(7, 16, "message too big for its priority")                                                   \
    X(7, 17, "mailbox owner has changed")                                                          \
    X(7, 18, "domain owner has changed")                                                           \
    X(7, 19, "test of the mailbox owner not possible")                                             \
    X(7, 20, "no passing DKIM signature")                                                          \
    X(7, 21, "no acceptable DKIM signature")                                                       \
    X(7, 22, "no DKIM signature that matches the author")                                          \
    X(7, 23, "SPF check failed")                                                                   \
    X(7, 24, "SPF check ended in an error")                                                        \
    X(7, 25, "reverse DNS check failed")                                                           \
    X(7, 26, "several authentication checks failed")                                               \
    X(7, 27, "sender domain accepts no mail")                                                      \
    X(7, 28, "sent too fast for the receiver")                                                     \
    X(7, 29, "ARC check failed")                                                                   \
    X(7, 30, "TLS needed end to end")

#define SUBJECT_COUNT 8
#define DETAIL_COUNT  31

static const char *const status_texts[SUBJECT_COUNT][DETAIL_COUNT] = {
#define STATUS_TEXT_ROW(subject, detail, text) [subject][detail] = text,
    STATUS_TEXTS(STATUS_TEXT_ROW)
#undef STATUS_TEXT_ROW
};

/* "5.1.1" to its three numbers. */
static bool status_parse(struct slice status, uint64_t parts[3])
{
    for (int i = 0; i < 3; i++) {
        size_t dot = slice_find(status, '.');

        if ((i < 2) != (dot < status.len))
            return false;
        if (slice_to_u64(slice_of(status.data, dot), 999, &parts[i]) < 0)
            return false;
        status = slice_after(status, dot < status.len ? dot + 1 : dot);
    }
    return true;
}

const char *acct_csv_status_text(struct slice status)
{
    uint64_t parts[3];
    const char *text = NULL;

    if (!status_parse(status, parts) || parts[1] >= SUBJECT_COUNT)
        return status_texts[0][0];
    if (parts[0] == 2 && parts[1] == 0 && parts[2] == 0)
        return "success";
    if (parts[2] < DETAIL_COUNT)
        text = status_texts[parts[1]][parts[2]];
    return text != NULL ? text : status_texts[parts[1]][0];
}

/* ---- Columns -------------------------------------------------------------------------------- */

/* One put function per column; at is the offset of a field in struct outcome where it has one. */
struct csv_source {
    const struct acct_csv_layout *layout;
    const struct outcome *outcome;
};

static void put_kind(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    put_plain(w, (const char *)&from->outcome->kind, 1);
}

static void put_text_at(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    struct slice text;

    memcpy(&text, (const char *)from->outcome + at, sizeof(text));
    put_text(w, text);
}

/* An address of a person, after its type in an orcpt. */
static void put_address_at(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    const struct privacy *privacy = &from->layout->privacy;
    char room[PRIVACY_TEXT_MAX];
    struct slice address;
    size_t type;

    memcpy(&address, (const char *)from->outcome + at, sizeof(address));
    if (privacy->kind == PRIVACY_RETAIN || address.len == 0) {
        put_text(w, address);
        return;
    }
    type = slice_find(address, ';');
    if (privacy->kind != PRIVACY_REDACT && type < address.len) {
        put_text(w, slice_of(address.data, type + 1));
        address = slice_after(address, type + 1);
    }
    put_plain(w, room, privacy_replace(privacy, address, room));
}

static void put_ip_at(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    struct ipaddr ip;

    memcpy(&ip, (const char *)from->outcome + at, sizeof(ip));
    put_ip(w, &ip);
}

static void put_time_at(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    uint64_t wall_us;

    memcpy(&wall_us, (const char *)from->outcome + at, sizeof(wall_us));
    put_time(w, from->layout, wall_us);
}

static void put_action(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    switch (from->outcome->kind) {
    case OUTCOME_DELIVERED:
        put_word(w, "relayed");
        break;
    case OUTCOME_BOUNCED:
        put_word(w, "failed");
        break;
    default:
        put_word(w, "delayed");
        break;
    }
}

static void put_status(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    struct slice status = from->outcome->status;

    if (status.len == 0)
        return;
    put_text(w, status);
    put_word(w, " (");
    put_word(w, acct_csv_status_text(status));
    put_word(w, ")");
}

/* An address of the message at the front of text, or an empty slice. */
static struct slice address_at_front(const struct outcome *outcome, struct slice text)
{
    struct slice orcpt = outcome->orcpt;
    size_t type = slice_find(orcpt, ';');
    const struct slice addresses[] = {
        outcome->rcpt,
        outcome->orig,
        type < orcpt.len ? slice_after(orcpt, type + 1) : orcpt,
    };

    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        if (addresses[i].len > 0 && slice_starts_nocase(text, addresses[i]))
            return slice_of(text.data, addresses[i].len);
    }
    return SLICE_EMPTY;
}

/* Receivers like to name the address that they refuse. */
static void put_private_text(struct csv_writer *w, const struct csv_source *from, struct slice text)
{
    const struct privacy *privacy = &from->layout->privacy;
    size_t start = 0;

    for (size_t at = 0; at < text.len;) {
        struct slice address = address_at_front(from->outcome, slice_after(text, at));
        char room[PRIVACY_TEXT_MAX];

        if (address.len == 0) {
            at++;
            continue;
        }
        put_text(w, slice_of(text.data + start, at - start));
        if (privacy->kind == PRIVACY_REDACT)
            put_word(w, "redacted");
        else
            put_plain(w, room, privacy_replace(privacy, address, room));
        at += address.len;
        start = at;
    }
    put_text(w, slice_after(text, start));
}

static void put_diagnostic(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    if (from->outcome->diag.len == 0)
        return;
    put_word(w, "smtp;");
    if (from->layout->privacy.kind == PRIVACY_RETAIN)
        put_text(w, from->outcome->diag);
    else
        put_private_text(w, from, from->outcome->diag);
}

static void put_dsn_mta(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    const struct outcome *o = from->outcome;

    put_text(w, o->dsn_mta);
    if (o->destination_ip.family == IPADDR_NONE)
        return;
    put_word(w, o->dsn_mta.len > 0 ? " (" : "(");
    put_ip(w, &o->destination_ip);
    put_word(w, ")");
}

static void put_category(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    if (from->outcome->kind != OUTCOME_DELIVERED)
        put_text(w, from->outcome->bounce_category);
}

static void put_delivery_type(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    uint8_t flags = from->outcome->flags;

    put_word(w, flags & OUTCOME_DISCARDED    ? "discard"
                : flags & OUTCOME_TO_FILE    ? "file"
                : flags & OUTCOME_TO_PROGRAM ? "pipe"
                                             : "smtp");
}

static void put_size(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    if (from->outcome->kind == OUTCOME_DELIVERED)
        put_u64(w, from->outcome->size_bytes);
}

static void put_seconds_queued(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    const struct outcome *o = from->outcome;

    put_u64(w, o->logged_us > o->queued_us ? (o->logged_us - o->queued_us) / 1000000 : 0);
}

static void put_first_attempt(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    if (from->outcome->first_attempt_us != 0)
        put_time(w, from->layout, from->outcome->first_attempt_us);
}

static void put_user_string(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    put_text(w, acct_text_of(from->layout, from->layout->user_string));
}

/* Of what no part of ringpost knows; timeImprinted is a column of PowerMTA 3 and 4.0. */
static void put_nothing(struct csv_writer *w, const struct csv_source *from, size_t at)
{
}

/* PowerMTA reports in a receipt's vmta column what was asked for, which may be a pool. */
static void put_vmta(struct csv_writer *w, const struct csv_source *from, size_t at)
{
    const struct outcome *o = from->outcome;

    put_text(w, o->kind == OUTCOME_RECEIVED && o->pool.len > 0 ? o->pool : o->vmta);
}

enum csv_column_kinds {
    IN_DELIVERY = ACCT_DELIVERED | ACCT_BOUNCED | ACCT_TRANSIENT,
    IN_RECEIPT = ACCT_RECEIVED,
    IN_BOTH = IN_DELIVERY | IN_RECEIPT,
};

static const struct csv_column {
    const char *name;
    void (*put)(struct csv_writer *w, const struct csv_source *from, size_t at);
    uint16_t at;
    uint16_t kinds;
} columns[] = {
#define COLUMN(name, kinds, put, ...) [ACCT_CSV_##name] = {#name, put, 0 __VA_ARGS__, kinds}
#define AT(field)                     +offsetof(struct outcome, field)
    COLUMN(type, IN_BOTH, put_kind),
    COLUMN(timeLogged, IN_BOTH, put_time_at, AT(logged_us)),
    COLUMN(timeQueued, IN_DELIVERY, put_time_at, AT(queued_us)),
    COLUMN(orig, IN_BOTH, put_address_at, AT(orig)),
    COLUMN(rcpt, IN_BOTH, put_address_at, AT(rcpt)),
    COLUMN(orcpt, IN_BOTH, put_address_at, AT(orcpt)),
    COLUMN(dsnAction, IN_DELIVERY, put_action),
    COLUMN(dsnStatus, IN_DELIVERY, put_status),
    COLUMN(dsnDiag, IN_DELIVERY, put_diagnostic),
    COLUMN(dsnMta, IN_DELIVERY, put_dsn_mta),
    COLUMN(bounceCat, IN_DELIVERY, put_category),
    COLUMN(srcType, IN_BOTH, put_text_at, AT(source_type)),
    COLUMN(srcMta, IN_BOTH, put_text_at, AT(source_mta)),
    COLUMN(dlvType, IN_DELIVERY, put_delivery_type),
    COLUMN(dlvSourceIp, IN_DELIVERY, put_ip_at, AT(source_ip)),
    COLUMN(dlvDestinationIp, IN_DELIVERY, put_ip_at, AT(destination_ip)),
    COLUMN(dlvEsmtpAvailable, IN_DELIVERY, put_text_at, AT(esmtp)),
    COLUMN(dlvSize, IN_DELIVERY, put_size),
    COLUMN(vmta, IN_BOTH, put_vmta),
    COLUMN(jobId, IN_BOTH, put_text_at, AT(job_id)),
    COLUMN(envId, IN_BOTH, put_text_at, AT(envelope_id)),
    COLUMN(queue, IN_DELIVERY, put_text_at, AT(queue)),
    COLUMN(vmtaPool, IN_DELIVERY, put_text_at, AT(pool)),
    COLUMN(rcvSourceIp, IN_RECEIPT, put_ip_at, AT(source_ip)),
    COLUMN(rcvDestinationIp, IN_RECEIPT, put_ip_at, AT(destination_ip)),
    COLUMN(totalSecondsQueued, IN_DELIVERY, put_seconds_queued),
    COLUMN(timeFirstAttempt, IN_DELIVERY, put_first_attempt),
    COLUMN(dlvTlsProtocol, IN_DELIVERY, put_text_at, AT(tls_protocol)),
    COLUMN(dlvTlsCipher, IN_DELIVERY, put_text_at, AT(tls_cipher)),
    COLUMN(rcvSmtpUser, IN_BOTH, put_text_at, AT(user)),
    COLUMN(userString, IN_BOTH, put_user_string),
    COLUMN(timeImprinted, IN_DELIVERY, put_nothing),
#undef AT
#undef COLUMN
};

bool acct_csv_column_named(struct slice name, uint8_t *ret_column)
{
    for (uint8_t i = 0; i < ACCT_CSV_COLUMN_COUNT; i++) {
        if (!slice_equal_nocase(name, slice_str(columns[i].name)))
            continue;
        *ret_column = i;
        return true;
    }
    return false;
}

unsigned acct_csv_column_kinds(uint8_t column)
{
    return column == ACCT_CSV_header ? IN_BOTH : columns[column].kinds;
}

/* ---- Lines ---------------------------------------------------------------------------------- */

unsigned acct_kind_of(const struct outcome *outcome)
{
    switch (outcome->kind) {
    case OUTCOME_DELIVERED:
        return ACCT_DELIVERED;
    case OUTCOME_BOUNCED:
        return ACCT_BOUNCED;
    case OUTCOME_TRANSIENT:
        return ACCT_TRANSIENT;
    case OUTCOME_RECEIVED:
        return ACCT_RECEIVED;
    default:
        return 0;
    }
}

static int finish_line(struct csv_writer *w, const char *room)
{
    put_plain(w, "\r\n", 2);
    return w->failed ? E_TOO_LONG : (int)(w->at - room);
}

int acct_csv_header(const struct acct_csv_layout *layout, char *room, size_t room_bytes)
{
    struct csv_writer w = {.at = room, .end = room + room_bytes};

    for (uint32_t i = 0; i < layout->place_count; i++) {
        const struct acct_csv_place *place = &layout->places[i];

        if (i > 0)
            put_word(&w, ",");
        if (place->column == ACCT_CSV_header) {
            put_word(&w, "header_");
            put_text(&w, acct_text_of(layout, place->header));
        } else {
            put_word(&w, columns[place->column].name);
        }
    }
    return finish_line(&w, room);
}

/* What map-header-to-field has for the column; the first header that is there wins. */
static bool put_mapped(struct csv_writer *w, const struct csv_source *from, unsigned kind,
                       const struct acct_csv_place *place)
{
    const struct acct_csv_layout *layout = from->layout;

    for (uint32_t i = 0; i < layout->map_count; i++) {
        const struct acct_csv_map *map = &layout->maps[i];
        struct slice value;

        if ((map->kinds & kind) == 0 || map->column != place->column ||
            (map->column == ACCT_CSV_header &&
             !slice_equal_nocase(acct_text_of(layout, map->filled),
                                 acct_text_of(layout, place->header))) ||
            !noted_header_find(from->outcome->headers, acct_text_of(layout, map->header), &value))
            continue;
        put_text(w, value);
        return true;
    }
    return false;
}

static void put_place(struct csv_writer *w, const struct csv_source *from, unsigned kind,
                      const struct acct_csv_place *place)
{
    struct slice value;

    if ((place->kinds & kind) == 0 || put_mapped(w, from, kind, place))
        return;
    if (place->column != ACCT_CSV_header)
        columns[place->column].put(w, from, columns[place->column].at);
    else if (noted_header_find(from->outcome->headers, acct_text_of(from->layout, place->header),
                               &value))
        put_text(w, value);
}

int acct_csv_row(const struct acct_csv_layout *layout, const struct outcome *outcome, char *room,
                 size_t room_bytes)
{
    const struct csv_source from = {layout, outcome};
    struct csv_writer w = {.at = room, .end = room + room_bytes};
    unsigned kind = acct_kind_of(outcome);

    for (uint32_t i = 0; i < layout->place_count; i++) {
        char *start;

        if (i > 0)
            put_plain(&w, ",", 1);
        start = w.at;
        w.needs_quotes = false;
        put_place(&w, &from, kind, &layout->places[i]);
        if (w.needs_quotes && !w.failed)
            quote_field(&w, start);
    }
    return finish_line(&w, room);
}

size_t acct_csv_escape(struct slice text, char *room, size_t room_bytes)
{
    size_t len = 0;

    must(room_bytes > 0);
    while (text.len > 0) {
        size_t taken = printable_length(text);
        size_t needed = taken == 0 ? 4 : taken;

        if (len + needed >= room_bytes)
            break;
        if (taken == 0)
            put_escaped_byte(room + len, text.data[0]);
        else
            memcpy(room + len, text.data, taken);
        len += needed;
        text = slice_after(text, taken == 0 ? 1 : taken);
    }
    room[len] = '\0';
    return len;
}
