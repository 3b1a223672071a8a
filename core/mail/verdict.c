#include "core/mail/verdict.h"

#include "core/base/text.h"

#include <stdarg.h>
#include <stdio.h>

void verdict_set_local(struct verdict *verdict, enum verdict_scope scope, enum verdict_class class,
                       enum verdict_stage stage, uint16_t code, const uint8_t enhanced[3],
                       const char *format, ...)
{
    char text[VERDICT_TEXT_MAX + 1]; /* vsnprintf wants room for its NUL */
    int head =
        snprintf(text, sizeof(text), "%u %u.%u.%u ", code, enhanced[0], enhanced[1], enhanced[2]);
    size_t len = (size_t)head;
    va_list arguments;
    int rest;

    va_start(arguments, format);
    rest = vsnprintf(text + len, sizeof(text) - len, format, arguments);
    va_end(arguments);
    if (rest > 0)
        len += (size_t)rest;
    if (len > VERDICT_TEXT_MAX)
        len = VERDICT_TEXT_MAX;
    *verdict = (struct verdict){
        .scope = scope,
        .class = class,
        .stage = stage,
        .code = code,
        .enhanced = {enhanced[0], enhanced[1], enhanced[2]},
        .text_bytes = (uint16_t)len,
    };
    memcpy(verdict->text, text, len);
}

void verdict_put_in_doubt(struct verdict *verdict)
{
    static const char words[] = "; in doubt: the message may have been taken";
    size_t room = sizeof(verdict->text) - verdict->text_bytes;
    size_t len = sizeof(words) - 1 < room ? sizeof(words) - 1 : room;

    verdict->flags |= VERDICT_IN_DOUBT;
    verdict->stage = VERDICT_AT_DOT;
    memcpy(verdict->text + verdict->text_bytes, words, len);
    verdict->text_bytes += (uint16_t)len;
}

/* Octets of the enhanced code at the front of text, with the blank behind it; 0 = none. */
static size_t status_bytes(struct slice text)
{
    unsigned dots = 0;
    size_t len = 0;

    while (len < text.len && memchr("0123456789.", text.data[len], 11) != NULL)
        dots += text.data[len++] == '.';
    return dots == 2 && len < text.len && text.data[len] == ' ' ? len + 1 : 0;
}

/* Octets of the codes that a further line begins with: "421-4.7.28 ". status: of the first line. */
static size_t head_bytes(struct slice text, struct slice code, struct slice status)
{
    size_t len = code.len + 1;

    if (!slice_starts_nocase(text, code))
        return 0;
    if (text.len <= len)
        return text.len == code.len || text.data[code.len] == '-' ? text.len : 0;
    if (text.data[code.len] != '-' && text.data[code.len] != ' ')
        return 0;
    if (status.len > 0 && slice_starts_nocase(slice_after(text, len), status))
        len += status.len;
    return len;
}

struct slice verdict_in_one_line(const struct verdict *verdict, uint8_t room[VERDICT_TEXT_MAX])
{
    struct slice text = verdict_text(verdict), code, status;
    size_t len = 0;

    if ((verdict->flags & VERDICT_FROM_REPLY) == 0 || text.len < 4 || text.data[3] != '-')
        return text;
    code = slice_of(text.data, 3);
    status = slice_after(text, 4);
    status.len = status_bytes(status);
    for (size_t at = 0; at < text.len;) {
        bool at_word = at > 0 && text.data[at - 1] == ' ';
        size_t head = at_word ? head_bytes(slice_after(text, at), code, status) : 0;

        while (head > 0 && len > 1 && room[len - 2] == ' ')
            len--;
        at += head;
        if (head == 0)
            room[len++] = at == 3 ? ' ' : text.data[at];
        at += head == 0;
    }
    return slice_of(room, len);
}

const char *verdict_stage_text(enum verdict_stage stage)
{
    static const char *const texts[] = {
#define VERDICT_STAGE_ROW(name, text) [name] = text,
        VERDICT_STAGE_TABLE(VERDICT_STAGE_ROW)
#undef VERDICT_STAGE_ROW
    };

    return texts[stage];
}

void verdict_put_status(struct text *text, const struct verdict *verdict)
{
    bool is_enhanced = verdict->enhanced[0] != 0;

    text_put_u64(text, is_enhanced ? verdict->enhanced[0] : verdict->code / 100, 0);
    text_put_char(text, '.');
    text_put_u64(text, is_enhanced ? verdict->enhanced[1] : 0, 0);
    text_put_char(text, '.');
    text_put_u64(text, is_enhanced ? verdict->enhanced[2] : 0, 0);
}
