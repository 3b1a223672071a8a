#include "core/base/text.h"

#include <time.h>

#define DIGITS_MAX 20 /* of 2^64 - 1 */

void text_put(struct text *text, struct slice octets)
{
    size_t room = text->size - 1 - text->len;
    size_t taken = octets.len <= room ? octets.len : room;

    if (taken > 0)
        memcpy(text->data + text->len, octets.data, taken);
    text->len += taken;
    if (taken < octets.len)
        text->is_cut = true;
}

void text_put_u64(struct text *text, uint64_t value, unsigned width)
{
    char digits[DIGITS_MAX];
    unsigned first = DIGITS_MAX;

    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    while (first > 0 && DIGITS_MAX - first < width)
        digits[--first] = '0';
    text_put(text, slice_of(digits + first, DIGITS_MAX - first));
}

void text_put_date(struct text *text, uint64_t wall_us)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm tm;

    gmtime_r(&seconds, &tm);
    text_put(text, slice_of(days + tm.tm_wday * 3, 3));
    text_put_literal(text, ", ");
    text_put_u64(text, (uint64_t)tm.tm_mday, 0);
    text_put_char(text, ' ');
    text_put(text, slice_of(months + tm.tm_mon * 3, 3));
    text_put_char(text, ' ');
    text_put_u64(text, (uint64_t)tm.tm_year + 1900, 0);
    text_put_char(text, ' ');
    text_put_u64(text, (uint64_t)tm.tm_hour, 2);
    text_put_char(text, ':');
    text_put_u64(text, (uint64_t)tm.tm_min, 2);
    text_put_char(text, ':');
    text_put_u64(text, (uint64_t)tm.tm_sec, 2);
    text_put_literal(text, " +0000");
}

size_t text_end(struct text *text)
{
    text->data[text->len] = '\0';
    return text->len;
}
