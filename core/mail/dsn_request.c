#include "core/mail/dsn_request.h"

static const struct notify_word {
    struct slice word;
    uint8_t flag;
} notify_words[] = {
    {SLICE_LITERAL("NEVER"), DSN_NOTIFY_NEVER},
    {SLICE_LITERAL("SUCCESS"), DSN_NOTIFY_SUCCESS},
    {SLICE_LITERAL("FAILURE"), DSN_NOTIFY_FAILURE},
    {SLICE_LITERAL("DELAY"), DSN_NOTIFY_DELAY},
};
#define NOTIFY_WORD_COUNT (sizeof(notify_words) / sizeof(notify_words[0]))

static uint8_t notify_flag(struct slice word)
{
    for (size_t i = 0; i < NOTIFY_WORD_COUNT; i++)
        if (slice_equal_nocase(word, notify_words[i].word))
            return notify_words[i].flag;
    return 0;
}

bool dsn_request_notify(struct slice value, uint8_t *ret_notify)
{
    uint8_t notify = 0;

    for (;;) {
        size_t comma = slice_find(value, ',');
        uint8_t flag = notify_flag(slice_of(value.data, comma));

        if (flag == 0 || (notify & flag) != 0)
            return false;
        notify |= flag;
        if (comma == value.len)
            break;
        value = slice_after(value, comma + 1);
    }
    *ret_notify = notify;
    return notify == DSN_NOTIFY_NEVER || (notify & DSN_NOTIFY_NEVER) == 0;
}

/* ---- xtext ----------------------------------------------------------------------------------- */

/* Upper-case alone (RFC 3461 section 4); negative for anything else. */
static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool is_printable(uint8_t c)
{
    return c >= ' ' && c <= '~';
}

static bool is_xchar(uint8_t c)
{
    return c > ' ' && c <= '~' && c != '+' && c != '=';
}

/* room is not smaller than the text. False when it is no xtext, or stands for what is no printable
 * ASCII. */
static bool decode(struct slice text, uint8_t *room, size_t *ret_len)
{
    size_t len = 0;

    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];

        if (c == '+') {
            int high = text.len - i > 2 ? hex_digit(text.data[i + 1]) : -1;
            int low = text.len - i > 2 ? hex_digit(text.data[i + 2]) : -1;

            if (high < 0 || low < 0 || !is_printable((uint8_t)(high * 16 + low)))
                return false;
            c = (uint8_t)(high * 16 + low);
            i += 2;
        } else if (!is_xchar(c)) {
            return false;
        }
        room[len++] = c;
    }
    *ret_len = len;
    return len > 0;
}

/* False, and nothing was put, when it cannot be said in so many octets. */
static bool encode(struct text *text, struct slice octets, size_t octets_max)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t bytes = octets.len;

    for (size_t i = 0; i < octets.len; i++) {
        if (!is_printable(octets.data[i]))
            return false;
        bytes += is_xchar(octets.data[i]) ? 0 : 2;
    }
    if (octets.len == 0 || bytes > octets_max)
        return false;
    for (size_t i = 0; i < octets.len; i++) {
        uint8_t c = octets.data[i];

        if (is_xchar(c)) {
            text_put_char(text, (char)c);
        } else {
            text_put_char(text, '+');
            text_put_char(text, hex[c >> 4]);
            text_put_char(text, hex[c & 15]);
        }
    }
    return true;
}

/* Octets of "type" in front of ';', or 0: letters, digits and hyphens. */
static size_t type_bytes(struct slice value)
{
    size_t end = slice_find(value, ';');

    for (size_t i = 0; i < end; i++) {
        uint8_t letter = value.data[i] | 0x20;

        if ((letter < 'a' || letter > 'z') && (value.data[i] < '0' || value.data[i] > '9') &&
            value.data[i] != '-')
            return 0;
    }
    return end < value.len ? end : 0;
}

bool dsn_request_orcpt(struct slice value, uint8_t *room, struct slice *ret_orcpt)
{
    size_t front = type_bytes(value) + 1, len = 0;

    if (front == 1 || value.len > DSN_REQUEST_ORCPT_MAX)
        return false;
    memcpy(room, value.data, front);
    if (!decode(slice_after(value, front), room + front, &len))
        return false;
    *ret_orcpt = slice_of(room, front + len);
    return true;
}

bool dsn_request_envid(struct slice value, uint8_t *room, struct slice *ret_envid)
{
    size_t len = 0;

    if (value.len > DSN_REQUEST_ENVID_MAX || !decode(value, room, &len))
        return false;
    *ret_envid = slice_of(room, len);
    return true;
}

/* ---- On their way out ------------------------------------------------------------------------ */

void dsn_request_put_notify(struct text *text, uint8_t notify)
{
    struct slice between = SLICE_LITERAL(" NOTIFY=");

    for (size_t i = 0; i < NOTIFY_WORD_COUNT; i++) {
        if ((notify & notify_words[i].flag) == 0)
            continue;
        text_put(text, between);
        text_put(text, notify_words[i].word);
        between = SLICE_LITERAL(",");
    }
}

void dsn_request_put_orcpt(struct text *text, struct slice orcpt)
{
    size_t front = type_bytes(orcpt) + 1, before = text->len;

    if (front == 1 || front >= DSN_REQUEST_ORCPT_MAX)
        return;
    text_put_literal(text, " ORCPT=");
    text_put(text, slice_of(orcpt.data, front));
    if (!encode(text, slice_after(orcpt, front), DSN_REQUEST_ORCPT_MAX - front))
        text->len = before;
}

void dsn_request_put_envid(struct text *text, struct slice envid)
{
    size_t before = text->len;

    text_put_literal(text, " ENVID=");
    if (!encode(text, envid, DSN_REQUEST_ENVID_MAX))
        text->len = before;
}
