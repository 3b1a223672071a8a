#include "bench/smtp.h"

#include <string.h>

static uint32_t word_of(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof(word));
    /* Bit 5 is the case of an ASCII letter. */
    return word | 0x20202020u;
}

enum smtp_verb smtp_verb_of(struct slice line)
{
    static const struct {
        char text[4];
        enum smtp_verb verb;
    } verbs[] = {
        /* In the order in which they are met most often. */
        {{'r', 'c', 'p', 't'}, SMTP_RCPT}, {{'m', 'a', 'i', 'l'}, SMTP_MAIL},
        {{'d', 'a', 't', 'a'}, SMTP_DATA}, {{'b', 'd', 'a', 't'}, SMTP_BDAT},
        {{'r', 's', 'e', 't'}, SMTP_RSET}, {{'q', 'u', 'i', 't'}, SMTP_QUIT},
        {{'e', 'h', 'l', 'o'}, SMTP_EHLO}, {{'h', 'e', 'l', 'o'}, SMTP_HELO},
        {{'n', 'o', 'o', 'p'}, SMTP_NOOP},
    };

    if (slice_equal_nocase(line, SLICE_LITERAL("STARTTLS")))
        return SMTP_STARTTLS;
    if (line.len < 4 || (line.len > 4 && line.data[4] != ' '))
        return SMTP_UNKNOWN;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (word_of((const uint8_t *)verbs[i].text) == word_of(line.data))
            return verbs[i].verb;
    }
    return SMTP_UNKNOWN;
}

struct slice smtp_path_of(struct slice line)
{
    size_t open = slice_find(line, '<');
    struct slice path;

    if (open == line.len)
        return SLICE_EMPTY;
    path = slice_after(line, open + 1);
    path.len = slice_find(path, '>');
    return path;
}

static void keep(struct smtp_lines *lines, const uint8_t *bytes, size_t len)
{
    size_t room = sizeof(lines->room) - lines->kept;

    if (len > room)
        len = room;
    memcpy(lines->room + lines->kept, bytes, len);
    lines->kept = (uint16_t)(lines->kept + len);
}

bool smtp_next_line(struct smtp_lines *lines, struct slice *rest, struct slice *ret_line)
{
    const uint8_t *newline = rest->len == 0 ? NULL : memchr(rest->data, '\n', rest->len);
    struct slice line;

    if (newline == NULL) {
        keep(lines, rest->data, rest->len);
        rest->len = 0;
        return false;
    }
    line = slice_of(rest->data, (size_t)(newline - rest->data));
    *rest = slice_after(*rest, line.len + 1);
    if (lines->kept > 0) {
        keep(lines, line.data, line.len);
        line = slice_of(lines->room, lines->kept);
        lines->kept = 0;
    }
    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    *ret_line = line;
    return true;
}

enum data_state {
    LINE_START,
    IN_TEXT,
    AFTER_CR, /* in text, the last byte was CR */
    AFTER_DOT,
    AFTER_DOT_CR,
};

void smtp_data_init(struct smtp_data *data)
{
    data->state = LINE_START;
}

/* Text up to the next dot at the start of a line, or to the end of what is there. */
static struct slice take_text(struct smtp_data *data, struct slice *rest)
{
    const uint8_t *start = rest->data;
    const uint8_t *end = start + rest->len;
    const uint8_t *at = start;

    while (at < end) {
        const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
        bool after_cr;

        if (newline == NULL) {
            data->state = end[-1] == '\r' ? AFTER_CR : IN_TEXT;
            at = end;
            break;
        }
        after_cr = newline > start ? newline[-1] == '\r' : data->state == AFTER_CR;
        at = newline + 1;
        data->state = after_cr ? LINE_START : IN_TEXT;
        if (after_cr && at < end && *at == '.')
            break;
    }
    *rest = slice_of(at, (size_t)(end - at));
    return slice_of(start, (size_t)(at - start));
}

enum smtp_data_answer smtp_data_next(struct smtp_data *data, struct slice *rest,
                                     struct slice *ret_span)
{
    *ret_span = SLICE_EMPTY;
    if (rest->len == 0)
        return SMTP_DATA_MORE;
    if (data->state == LINE_START && rest->data[0] == '.') {
        data->state = AFTER_DOT;
        *rest = slice_after(*rest, 1);
        if (rest->len == 0)
            return SMTP_DATA_MORE;
    }
    if (data->state == AFTER_DOT && rest->data[0] == '\r') {
        data->state = AFTER_DOT_CR;
        *rest = slice_after(*rest, 1);
        if (rest->len == 0)
            return SMTP_DATA_MORE;
    }
    if (data->state == AFTER_DOT_CR) {
        if (rest->data[0] == '\n') {
            *rest = slice_after(*rest, 1);
            data->state = LINE_START;
            return SMTP_DATA_END;
        }
        /* Not the end: the CR was content, and the next byte comes with the next call. */
        data->state = AFTER_CR;
        *ret_span = SLICE_LITERAL("\r");
        return SMTP_DATA_MORE;
    }
    *ret_span = take_text(data, rest);
    return SMTP_DATA_MORE;
}

void smtp_put_str(struct smtp_text *text, const char *bytes)
{
    smtp_put(text, bytes, strlen(bytes));
}

void smtp_put_u64(struct smtp_text *text, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    smtp_put(text, digits + at, sizeof(digits) - at);
}

void smtp_put_hex32(struct smtp_text *text, uint32_t value)
{
    static const char hex[] = "0123456789abcdef";
    char digits[8];

    for (int i = 0; i < 8; i++)
        digits[i] = hex[value >> (28 - 4 * i) & 15];
    smtp_put(text, digits, sizeof(digits));
}
