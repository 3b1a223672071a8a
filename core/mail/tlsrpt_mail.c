#include "core/mail/tlsrpt_mail.h"

#include "core/base/base64.h"
#include "core/base/must.h"
#include "core/mail/https_uri.h"

#define FRAME_BYTES 2048u
#define LINE_OCTETS 57u /* of content; 76 characters in base64 */

/* ---- The record ------------------------------------------------------------------------------ */

static const struct slice version = SLICE_LITERAL("v=TLSRPTv1");

/* The next field of a record, without the blanks around it. */
static struct slice take_field(struct slice *text)
{
    size_t end = slice_find(*text, ';');
    struct slice field = slice_trim(slice_of(text->data, end));

    *text = slice_after(*text, end < text->len ? end + 1 : end);
    return field;
}

static bool find_rua(struct slice text, struct slice *ret_rua)
{
    bool has_rua = false;

    while (text.len > 0) {
        struct slice field = take_field(&text);
        size_t mark = slice_find(field, '=');

        if (!slice_equal(slice_trim(slice_of(field.data, mark)), SLICE_LITERAL("rua")) ||
            mark == field.len)
            continue;
        if (has_rua)
            return false;
        *ret_rua = slice_trim(slice_after(field, mark + 1));
        has_rua = ret_rua->len > 0;
    }
    return has_rua;
}

bool tlsrpt_record_find(const struct slice *texts, uint32_t count, struct slice *ret_rua)
{
    struct slice fields = SLICE_EMPTY;
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct slice rest = texts[i];

        if (!slice_equal(take_field(&rest), version))
            continue;
        fields = rest;
        found++;
    }
    return found == 1 && find_rua(fields, ret_rua);
}

static int hex_value(uint8_t c)
{
    c = slice_lower_octet(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 2.1. Empty when it is wrong, or does not fit. */
static struct slice decode(struct slice uri, char *room, size_t room_bytes)
{
    size_t len = 0;

    for (size_t i = 0; i < uri.len && uri.data[i] != '?'; i++) {
        uint8_t c = uri.data[i];

        if (c == '%') {
            int high = i + 2 < uri.len ? hex_value(uri.data[i + 1]) : -1;
            int low = i + 2 < uri.len ? hex_value(uri.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return SLICE_EMPTY;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        if (len == room_bytes)
            return SLICE_EMPTY;
        room[len++] = (char)c;
    }
    return slice_of(room, len);
}

bool tlsrpt_rua_next(struct slice *rua, char *room, size_t room_bytes,
                     enum tlsrpt_scheme *ret_scheme, struct slice *ret_target)
{
    static const struct slice mailto = SLICE_LITERAL("mailto:");
    size_t end = slice_find(*rua, ',');
    struct slice uri = slice_trim(slice_of(rua->data, end));
    struct https_uri parsed;

    if (rua->len == 0)
        return false;
    *rua = slice_after(*rua, end < rua->len ? end + 1 : end);
    *ret_scheme = TLSRPT_NO_SCHEME;
    *ret_target = SLICE_EMPTY;
    if (slice_starts_nocase(uri, mailto)) {
        *ret_target = decode(slice_after(uri, mailto.len), room, room_bytes);
        *ret_scheme = ret_target->len > 0 ? TLSRPT_MAILTO : TLSRPT_NO_SCHEME;
    } else if (https_uri_parse(uri, &parsed)) {
        *ret_target = uri;
        *ret_scheme = TLSRPT_HTTPS;
    }
    return true;
}

/* ---- The mail -------------------------------------------------------------------------------- */

/* What comes from outside, made harmless for a header (A25). */
static void put_clean(struct text *text, struct slice octets)
{
    for (size_t i = 0; i < octets.len; i++) {
        uint8_t c = octets.data[i];

        text_put_char(text, c < ' ' || c == 127 ? ' ' : c > 127 ? '?' : (char)c);
    }
}

static struct slice submitter_of(const struct tlsrpt_mail *mail)
{
    size_t at = slice_find(mail->from, '@');

    return at < mail->from.len ? slice_after(mail->from, at + 1) : mail->host;
}

static void put_boundary(struct text *text, const struct tlsrpt_mail *mail)
{
    text_put_literal(text, "tlsrpt=_");
    text_put(text, mail->id);
}

static void put_header(struct text *text, const struct tlsrpt_mail *mail)
{
    text_put_literal(text, "From: ");
    put_clean(text, mail->from);
    text_put_literal(text, "\r\nTo: ");
    put_clean(text, mail->to);
    text_put_literal(text, "\r\nDate: ");
    text_put_date(text, mail->now_us);
    text_put_literal(text, "\r\nSubject: Report Domain: ");
    put_clean(text, mail->domain);
    text_put_literal(text, "\r\n Submitter: ");
    put_clean(text, submitter_of(mail));
    text_put_literal(text, "\r\n Report-ID: <");
    put_clean(text, mail->report_id);
    text_put_literal(text, ">\r\nTLS-Report-Domain: ");
    put_clean(text, mail->domain);
    text_put_literal(text, "\r\nTLS-Report-Submitter: ");
    put_clean(text, submitter_of(mail));
    text_put_literal(text, "\r\nMessage-ID: <");
    text_put(text, mail->id);
    text_put_char(text, '@');
    put_clean(text, mail->host);
    /* RFC 8689 5: a report is to arrive though TLS fails, which is what it may be about. */
    text_put_literal(text, ">\r\nTLS-Required: No\r\n"
                           "Auto-Submitted: auto-generated\r\n"
                           "MIME-Version: 1.0\r\n"
                           "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n"
                           " boundary=\"");
    put_boundary(text, mail);
    text_put_literal(text, "\"\r\n\r\n");
}

static void put_content(struct text *text, struct slice content)
{
    char line[BASE64_BYTES(LINE_OCTETS)];

    while (content.len > 0) {
        size_t octets = content.len < LINE_OCTETS ? content.len : LINE_OCTETS;
        int len = base64_encode(slice_of(content.data, octets), line, sizeof(line));

        must(len > 0);
        text_put(text, slice_of(line, (size_t)len));
        text_put_literal(text, "\r\n");
        content = slice_after(content, octets);
    }
}

/* RFC 8460 5.1. */
static void put_file_name(struct text *text, const struct tlsrpt_mail *mail)
{
    put_clean(text, submitter_of(mail));
    text_put_char(text, '!');
    put_clean(text, mail->domain);
    text_put_char(text, '!');
    text_put_u64(text, (uint64_t)mail->from_s, 0);
    text_put_char(text, '!');
    text_put_u64(text, (uint64_t)mail->until_s, 0);
    text_put_literal(text, ".json.gz");
}

size_t tlsrpt_mail_bytes_max(const struct tlsrpt_mail *mail)
{
    size_t lines = mail->content.len / LINE_OCTETS + 1;

    return FRAME_BYTES + 8 * mail->from.len + mail->to.len + 4 * mail->domain.len +
           mail->organization.len + mail->report_id.len + 8 * mail->host.len + 6 * mail->id.len +
           lines * (BASE64_BYTES(LINE_OCTETS) + 2);
}

void tlsrpt_mail_write(const struct tlsrpt_mail *mail, struct text *text)
{
    put_header(text, mail);
    text_put_literal(text, "--");
    put_boundary(text, mail);
    text_put_literal(text, "\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
                           "This is a report by ");
    put_clean(text, mail->organization);
    text_put_literal(text, "\r\nof how TLS went in connections for mail to ");
    put_clean(text, mail->domain);
    text_put_literal(text, " (RFC 8460).\r\n\r\n--");
    put_boundary(text, mail);
    text_put_literal(text, "\r\nContent-Type: application/tlsrpt+gzip\r\n"
                           "Content-Transfer-Encoding: base64\r\n"
                           "Content-Disposition: attachment;\r\n filename=\"");
    put_file_name(text, mail);
    text_put_literal(text, "\"\r\n\r\n");
    put_content(text, mail->content);
    text_put_literal(text, "\r\n--");
    put_boundary(text, mail);
    text_put_literal(text, "--\r\n");
}
