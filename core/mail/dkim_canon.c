#include "core/mail/dkim_canon.h"

#include "core/mail/header_scan.h"

static const uint8_t crlf[] = {'\r', '\n'};
static const uint8_t blank[] = {' '};

/* ---- The body -------------------------------------------------------------------------------- */

void dkim_body_init(struct dkim_body *body, enum dkim_canon canon, bool is_stuffed,
                    uint64_t octets_max)
{
    *body = (struct dkim_body){
        .canon = canon,
        .is_stuffed = is_stuffed,
        .is_line_start = true,
        .octets_max = octets_max,
    };
}

static void pass(struct dkim_body *body, const uint8_t *data, size_t len,
                 const struct dkim_sink *sink)
{
    uint64_t room = body->octets < body->octets_max ? body->octets_max - body->octets : 0;

    if (len > room)
        len = (size_t)room;
    body->octets += len;
    if (len > 0)
        sink->put(sink->context, data, len);
}

/* Content follows: what was held back counts. */
static void pass_held(struct dkim_body *body, const struct dkim_sink *sink)
{
    for (; body->line_ends > 0; body->line_ends--)
        pass(body, crlf, sizeof(crlf), sink);
    if (body->has_blank)
        pass(body, blank, sizeof(blank), sink);
    body->has_blank = false;
    body->has_content = true;
    body->is_line_start = false;
}

static bool is_plain(uint8_t octet)
{
    return octet != ' ' && octet != '\t' && octet != '\r';
}

/* How many octets at the front of rest pass unaltered; a lone blank between words is one. */
static size_t plain_length(enum dkim_canon canon, struct slice rest)
{
    size_t at = 0;

    if (canon == DKIM_SIMPLE)
        return slice_find(rest, '\r');
    while (at < rest.len) {
        if (is_plain(rest.data[at]))
            at++;
        else if (rest.data[at] == ' ' && at > 0 && at + 1 < rest.len && is_plain(rest.data[at + 1]))
            at += 2;
        else
            break;
    }
    return at;
}

/* The octet behind a CR: true when it was used up. */
static bool end_line(struct dkim_body *body, uint8_t octet, const struct dkim_sink *sink)
{
    body->has_cr = false;
    if (octet != '\n') {
        /* A bare CR is content, and in no message that the daemon takes. */
        pass_held(body, sink);
        pass(body, crlf, 1, sink);
        return false;
    }
    body->has_blank = false;
    body->line_ends++;
    body->is_line_start = true;
    return true;
}

void dkim_body_put(struct dkim_body *body, const uint8_t *data, size_t len,
                   const struct dkim_sink *sink)
{
    struct slice rest = slice_of(data, len);

    while (rest.len > 0) {
        uint8_t octet = rest.data[0];
        size_t used = 1;

        if (body->has_cr) {
            used = end_line(body, octet, sink) ? 1 : 0;
        } else if (octet == '\r') {
            body->has_cr = true;
        } else if (body->is_line_start && body->is_stuffed && octet == '.') {
            body->is_line_start = false;
        } else if (body->canon == DKIM_RELAXED && !is_plain(octet)) {
            body->has_blank = true;
            body->is_line_start = false;
        } else {
            pass_held(body, sink);
            used = plain_length(body->canon, rest);
            pass(body, rest.data, used, sink);
        }
        rest = slice_after(rest, used);
    }
}

void dkim_body_end(struct dkim_body *body, const struct dkim_sink *sink)
{
    if (body->has_cr) {
        pass_held(body, sink);
        pass(body, crlf, 1, sink);
        body->has_cr = false;
    }
    body->line_ends = 0;
    if (body->canon == DKIM_SIMPLE || body->has_content)
        pass(body, crlf, sizeof(crlf), sink);
}

/* ---- Header fields --------------------------------------------------------------------------- */

static void put_name(struct slice name, const struct dkim_sink *sink)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t octet = slice_lower_octet(name.data[i]);

        sink->put(sink->context, &octet, 1);
    }
    sink->put(sink->context, (const uint8_t *)":", 1);
}

/* Words with one blank between them. CR and LF count only as the ends of folds. */
static void put_words(struct slice value, const struct dkim_sink *sink)
{
    while (value.len > 0) {
        size_t word = 0, gap;

        while (word < value.len && !header_is_white(value.data[word]))
            word++;
        gap = word;
        while (gap < value.len && header_is_white(value.data[gap]))
            gap++;
        sink->put(sink->context, value.data, word);
        if (gap < value.len)
            sink->put(sink->context, blank, 1);
        value = slice_after(value, gap);
    }
}

void dkim_header_put(enum dkim_canon canon, struct slice field, bool is_last,
                     const struct dkim_sink *sink)
{
    size_t colon;

    if (canon == DKIM_SIMPLE) {
        sink->put(sink->context, field.data, field.len);
        return;
    }
    colon = slice_find(field, ':');
    put_name(header_trim_folded(slice_of(field.data, colon)), sink);
    if (colon < field.len)
        put_words(header_trim_folded(slice_after(field, colon + 1)), sink);
    if (!is_last)
        sink->put(sink->context, crlf, sizeof(crlf));
}
