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
