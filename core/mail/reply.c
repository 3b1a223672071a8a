/*
 * A line is read in two parts: its first four bytes one by one, because each has a meaning, and the
 * rest in runs up to the LF. Bounds are checked byte-exactly, so that a fault does not depend on
 * how the bytes were cut.
 */
#include "core/mail/reply.h"

#define CODE_BYTES 3
#define HEAD_BYTES 4 /* code and separator */

void reply_start(struct reply_parser *parser)
{
    /* The text is not cleared: only text_bytes of it count. */
    memset(parser, 0, offsetof(struct reply_parser, text));
}

bool reply_is_partial(const struct reply_parser *parser)
{
    return parser->reply_bytes > 0 && !parser->is_done;
}

static void keep(struct reply_parser *parser, const uint8_t *data, size_t len)
{
    size_t room = sizeof(parser->text) - parser->text_bytes;

    if (len > room)
        len = room;
    if (len == 0)
        return;
    memcpy(parser->text + parser->text_bytes, data, len);
    parser->text_bytes += (uint16_t)len;
}

static enum reply_event fail(struct reply_parser *parser, enum reply_fault fault)
{
    parser->fault = fault;
    return REPLY_BAD;
}

/* The byte at position line_bytes < HEAD_BYTES. The fault, or REPLY_FAULT_NONE. */
static enum reply_fault take_head_byte(struct reply_parser *parser, uint8_t byte)
{
    if (parser->line_bytes < CODE_BYTES) {
        if (byte < '0' || byte > '9')
            return REPLY_FAULT_CODE;
        parser->line_code = (uint16_t)(parser->line_code * 10 + (byte - '0'));
        if (parser->line_bytes == 0 && (byte < '2' || byte > '5'))
            return REPLY_FAULT_CODE;
        return REPLY_FAULT_NONE;
    }
    if (byte == '\r') {
        /* A code without any text; RFC 5321 4.2 wants it accepted. Only LF may follow. */
        parser->cr_held = true;
        parser->is_last = true;
        return REPLY_FAULT_NONE;
    }
    if (byte != ' ' && byte != '-')
        return REPLY_FAULT_SEPARATOR;
    parser->is_last = byte == ' ';
    return REPLY_FAULT_NONE;
}

/* The first bytes of a line; stops behind the head or in front of LF. */
static enum reply_fault take_head(struct reply_parser *parser, const uint8_t *data, size_t len,
                                  size_t *ret_used)
{
    enum reply_fault fault = REPLY_FAULT_NONE;
    size_t at = 0;

    while (at < len && parser->line_bytes < HEAD_BYTES && data[at] != '\n') {
        if (parser->line_bytes == 0) {
            if (parser->line_count > 0 && parser->text_bytes > 0)
                keep(parser, (const uint8_t *)" ", 1);
            parser->line_at = parser->text_bytes;
            parser->line_code = 0;
        }
        fault = take_head_byte(parser, data[at]);
        if (fault != REPLY_FAULT_NONE)
            break;
        if (!parser->cr_held)
            keep(parser, data + at, 1);
        parser->line_bytes++;
        at++;
    }
    *ret_used = at;
    return fault;
}

/* A run of bytes behind the head, without LF. */
static enum reply_fault take_text(struct reply_parser *parser, const uint8_t *data, size_t len)
{
    size_t room = REPLY_LINE_BYTES_MAX - parser->line_bytes;
    size_t run = len < room ? len : room;

    if (run > 0) {
        if (parser->line_bytes == HEAD_BYTES && parser->cr_held)
            return REPLY_FAULT_SEPARATOR; /* a code, CR, and no LF */
        if (parser->cr_held)
            keep(parser, (const uint8_t *)"\r", 1);
        parser->cr_held = data[run - 1] == '\r';
        if (memchr(data, '\0', run) != NULL)
            return REPLY_FAULT_NUL;
        keep(parser, data, run - (parser->cr_held ? 1 : 0));
        parser->line_bytes += (uint16_t)run;
    }
    return run < len ? REPLY_FAULT_LINE : REPLY_FAULT_NONE;
}

static enum reply_event end_line(struct reply_parser *parser)
{
    if (parser->line_bytes < CODE_BYTES)
        return fail(parser, REPLY_FAULT_CODE);
    if (parser->line_bytes == CODE_BYTES)
        parser->is_last = true;
    if (parser->line_count == 0)
        parser->code = parser->line_code;
    else if (parser->code != parser->line_code)
        return fail(parser, REPLY_FAULT_MIXED);
    parser->line_count++;
    parser->line_bytes = 0;
    parser->cr_held = false;
    if (parser->is_last) {
        parser->is_done = true;
        return REPLY_DONE;
    }
    if (parser->line_count == REPLY_LINE_COUNT_MAX)
        return fail(parser, REPLY_FAULT_ENDLESS);
    return REPLY_LINE;
}

enum reply_event reply_feed(struct reply_parser *parser, const uint8_t *data, size_t len,
                            size_t *ret_used)
{
    size_t room = REPLY_BYTES_MAX - parser->reply_bytes;
    size_t allowed = len < room ? len : room;
    const uint8_t *line_end = allowed > 0 ? memchr(data, '\n', allowed) : NULL;
    size_t line_len = line_end != NULL ? (size_t)(line_end - data) : allowed;
    size_t head_len = 0;
    enum reply_fault fault = take_head(parser, data, line_len, &head_len);

    if (fault == REPLY_FAULT_NONE)
        fault = take_text(parser, data + head_len, line_len - head_len);
    *ret_used = line_len + (line_end != NULL ? 1 : 0);
    parser->reply_bytes += (uint32_t)*ret_used;
    if (fault != REPLY_FAULT_NONE)
        return fail(parser, fault);
    if (line_end != NULL)
        return end_line(parser);
    return allowed < len ? fail(parser, REPLY_FAULT_ENDLESS) : REPLY_MORE;
}

struct slice reply_line(const struct reply_parser *parser)
{
    size_t skip = parser->line_at + (size_t)HEAD_BYTES;

    if (skip > parser->text_bytes)
        skip = parser->text_bytes;
    return slice_of(parser->text + skip, parser->text_bytes - skip);
}

void reply_forget_text(struct reply_parser *parser)
{
    parser->text_bytes = 0;
    parser->line_at = 0;
}

struct slice reply_text(const struct reply_parser *parser)
{
    return slice_of(parser->text, parser->text_bytes);
}

const char *reply_fault_text(enum reply_fault fault)
{
    static const char *const texts[] = {
#define REPLY_FAULT_ROW(name, text) [name] = text,
        REPLY_FAULT_TABLE(REPLY_FAULT_ROW)
#undef REPLY_FAULT_ROW
    };

    return texts[fault];
}

/* One number of one to three digits at *at; details above 255 are capped. False without digits. */
static bool take_number(struct slice text, size_t *at, uint8_t *ret_number)
{
    size_t start = *at;
    unsigned number = 0;

    while (*at < text.len && *at - start < 3 && text.data[*at] >= '0' && text.data[*at] <= '9') {
        number = number * 10 + (text.data[*at] - '0');
        ++*at;
    }
    *ret_number = (uint8_t)(number > 255 ? 255 : number);
    return *at > start;
}

/* What may follow an enhanced code: anything that could not make it a longer number or a word. */
static bool ends_enhanced(uint8_t byte)
{
    bool is_letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

    return !is_letter && byte != '.' && !(byte >= '0' && byte <= '9');
}

bool reply_enhanced(struct slice text, uint16_t code, uint8_t ret_enhanced[3])
{
    uint8_t numbers[3] = {0};
    size_t at = 0;

    memset(ret_enhanced, 0, 3);
    if (text.len > 0 && text.data[0] == '#') /* "550 #5.1.0 Address rejected" is in wide use */
        at++;
    for (unsigned i = 0; i < 3; i++) {
        if (i > 0 && (at >= text.len || text.data[at++] != '.'))
            return false;
        if (!take_number(text, &at, &numbers[i]))
            return false;
    }
    if (at < text.len && !ends_enhanced(text.data[at]))
        return false;
    if (numbers[0] != code / 100)
        return false;
    memcpy(ret_enhanced, numbers, 3);
    return true;
}

static enum verdict_class class_of(uint16_t code)
{
    static const uint8_t classes[] = {
        [2] = VERDICT_SUCCESS,
        [3] = VERDICT_SUCCESS,
        [4] = VERDICT_TRANSIENT,
        [5] = VERDICT_PERMANENT,
    };

    return classes[code / 100];
}

void reply_to_verdict(const struct reply_parser *parser, enum verdict_scope scope,
                      enum verdict_stage stage, struct verdict *ret_verdict)
{
    struct slice text = reply_text(parser);
    struct slice first = text.len > HEAD_BYTES ? slice_after(text, HEAD_BYTES) : SLICE_EMPTY;

    ret_verdict->scope = scope;
    ret_verdict->class = class_of(parser->code);
    ret_verdict->stage = stage;
    ret_verdict->flags = VERDICT_FROM_REPLY;
    ret_verdict->code = parser->code;
    reply_enhanced(first, parser->code, ret_verdict->enhanced);
    memcpy(ret_verdict->text, text.data, text.len);
    ret_verdict->text_bytes = (uint16_t)text.len;
}
