#include "core/mail/dsn.h"

/* RFC 5322 2.1.1 allows 998 octets a line; what templates make of a header stays below. */
#define HEADER_VALUE_MAX 900u
/* What stands around the values, and for each recipient around his. */
#define FRAME_BYTES      2048u
#define RCPT_FRAME_BYTES 512u
/* What the variables of a body template make of it at most, more than it is. */
#define BODY_GROWTH_MAX  4096u

struct writer {
    struct text *text;
    bool is_inside_line;
    uint32_t dots;
    bool is_8bit;
};

/* ---- Octets ---------------------------------------------------------------------------------- */

static void put_octet(struct writer *w, uint8_t c)
{
    text_put_char(w->text, (char)c);
    w->is_inside_line = c != '\n';
    w->is_8bit |= c > 127;
}

/* Octets of ours: dots at the front of lines are doubled. */
static void put(struct writer *w, struct slice octets)
{
    for (size_t i = 0; i < octets.len; i++) {
        if (!w->is_inside_line && octets.data[i] == '.') {
            text_put_char(w->text, '.');
            w->dots++;
        }
        put_octet(w, octets.data[i]);
    }
}

#define put_literal(w, literal) put((w), SLICE_LITERAL(literal))

/* What comes from outside, made harmless for a header or a field of the report (A25). */
static void put_clean(struct writer *w, struct slice octets)
{
    for (size_t i = 0; i < octets.len; i++) {
        uint8_t c = octets.data[i];
        uint8_t clean = c < ' ' || c == 127 ? ' ' : c > 127 ? '?' : c;

        put(w, slice_of(&clean, 1));
    }
}

static void put_date(struct writer *w, struct slice name, uint64_t wall_us)
{
    char room[48];
    struct text date = text_in(room, sizeof(room));

    text_put_date(&date, wall_us);
    put(w, name);
    put(w, text_slice(&date));
    put_literal(w, "\r\n");
}

static void put_field(struct writer *w, struct slice name, struct slice value)
{
    put(w, name);
    put_clean(w, value);
    put_literal(w, "\r\n");
}

static bool is_ascii(struct slice octets)
{
    for (size_t i = 0; i < octets.len; i++)
        if (octets.data[i] > 127)
            return false;
    return true;
}

/* ---- Addresses ------------------------------------------------------------------------------- */

/* The code point at the front of UTF-8 that was checked when the address was taken. */
static uint32_t code_point(struct slice text, size_t *ret_len)
{
    uint8_t first = text.data[0];
    size_t len = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t point = len == 1 ? first : first & (0xffu >> (len + 1));

    if (len > text.len)
        len = text.len;
    for (size_t i = 1; i < len; i++)
        point = point << 6 | (text.data[i] & 0x3f);
    *ret_len = len;
    return point;
}

/* RFC 6533 section 3: utf-8-addr-xtext. */
static void put_utf8_address(struct writer *w, struct slice address)
{
    static const char hex[] = "0123456789ABCDEF";

    while (address.len > 0) {
        size_t len;
        uint32_t point = code_point(address, &len);
        unsigned shift = 28;

        if (point > 127 || point == '\\' || point == '+' || point == '=') {
            while (shift > 4 && point >> shift == 0)
                shift -= 4;
            put_literal(w, "\\x{");
            for (unsigned at = shift + 4; at > 0; at -= 4)
                put(w, slice_of(hex + (point >> (at - 4) & 15), 1));
            put_literal(w, "}");
        } else {
            put_clean(w, slice_of(address.data, len));
        }
        address = slice_after(address, len);
    }
}

static void put_address_field(struct writer *w, struct slice name, struct slice address)
{
    put(w, name);
    if (is_ascii(address)) {
        put_literal(w, "rfc822; ");
        put_clean(w, address);
    } else {
        put_literal(w, "utf-8; ");
        put_utf8_address(w, address);
    }
    put_literal(w, "\r\n");
}

/* It comes with its type. One of our own making can be UTF-8 (RFC 6533 section 3). */
static void put_original_rcpt(struct writer *w, struct slice orcpt)
{
    size_t front = slice_find(orcpt, ';');

    put_literal(w, "Original-Recipient: ");
    if (is_ascii(orcpt) || front == orcpt.len) {
        put_clean(w, orcpt);
    } else {
        put_literal(w, "utf-8;");
        put_utf8_address(w, slice_after(orcpt, front + 1));
    }
    put_literal(w, "\r\n");
}

/* ---- Kinds of notices ------------------------------------------------------------------------ */

static const struct {
    struct slice action; /* RFC 3464 2.3.3 */
    struct slice subject;
    struct slice text;
} action_texts[] = {
    [DSN_FAILED] = {SLICE_LITERAL("failed"),
                    SLICE_LITERAL("Delivery failed: your message was returned"),
                    SLICE_LITERAL("Your message could not be delivered to the recipients below. No "
                                  "further\r\nattempts are made.\r\n")},
    [DSN_RELAYED] = {SLICE_LITERAL("relayed"), SLICE_LITERAL("Your message was relayed"),
                     SLICE_LITERAL("Your message was handed to the receivers of the recipients "
                                   "below, which do\r\nnot tell of its further way.\r\n")},
    [DSN_DELAYED] = {SLICE_LITERAL("delayed"), SLICE_LITERAL("Delivery is delayed"),
                     SLICE_LITERAL("Your message could not be delivered to the recipients below so "
                                   "far.\r\nFurther attempts are made: you need not send it "
                                   "again.\r\n")},
};

/* ---- Templates ------------------------------------------------------------------------------- */

/* What a place in braces at the front of text stands for; false when it is none of ours. */
static bool place_value(const struct dsn *dsn, struct slice text, struct slice *ret_value,
                        size_t *ret_used)
{
    const struct dsn_rcpt *rcpt = &dsn->rcpts[0];
    const struct {
        struct slice name;
        struct slice value;
    } places[] = {
        {SLICE_LITERAL("{host}"), dsn->host},
        {SLICE_LITERAL("{sender}"), dsn->sender},
        {SLICE_LITERAL("{recipient}"), rcpt->address},
        {SLICE_LITERAL("{status}"), rcpt->status},
        {SLICE_LITERAL("{diagnostic}"), rcpt->diagnostic},
        {SLICE_LITERAL("{envid}"), dsn->envelope_id},
    };

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!slice_starts_nocase(text, places[i].name))
            continue;
        *ret_value = places[i].value;
        *ret_used = places[i].name.len;
        return true;
    }
    return false;
}

/* octets_max: of the result, roughly. */
static void put_template(struct writer *w, const struct dsn *dsn, struct slice rest,
                         size_t octets_max)
{
    size_t end = w->text->len + octets_max;

    while (rest.len > 0 && w->text->len < end) {
        struct slice value;
        size_t used = 1;

        if (place_value(dsn, rest, &value, &used)) {
            size_t room = end - w->text->len;

            put_clean(w, slice_of(value.data, value.len < room ? value.len : room));
        } else {
            put(w, slice_of(rest.data, 1));
        }
        rest = slice_after(rest, used);
    }
}

/* ---- Header ---------------------------------------------------------------------------------- */

static void put_identity(struct writer *w, struct slice id, struct slice host, uint64_t now_us)
{
    put_date(w, SLICE_LITERAL("Date: "), now_us);
    put_literal(w, "Message-ID: <");
    put_clean(w, id);
    put_literal(w, ".notice@");
    put_clean(w, host);
    put_literal(w, ">\r\nMIME-Version: 1.0\r\n");
}

static void put_default_from(struct writer *w, struct slice host)
{
    put_literal(w, "Mail Delivery System <postmaster@");
    put_clean(w, host);
    put_literal(w, ">");
}

static void put_boundary(struct writer *w, const struct dsn *dsn)
{
    put_literal(w, "=_");
    put_clean(w, dsn->id);
    put_literal(w, ".report");
}

static void put_part(struct writer *w, const struct dsn *dsn, struct slice type)
{
    put_literal(w, "--");
    put_boundary(w, dsn);
    put_literal(w, "\r\nContent-Type: ");
    put(w, type);
    put_literal(w, "\r\n");
}

static void put_header(struct writer *w, const struct dsn *dsn)
{
    put_literal(w, "From: ");
    if (dsn->from.len > 0)
        put_template(w, dsn, dsn->from, HEADER_VALUE_MAX);
    else
        put_default_from(w, dsn->host);
    put_literal(w, "\r\nTo: <");
    put(w, dsn->sender); /* as it was parsed; the receiver must take SMTPUTF8 if need be */
    put_literal(w, ">\r\nSubject: ");
    if (dsn->subject.len > 0)
        put_template(w, dsn, dsn->subject, HEADER_VALUE_MAX);
    else
        put(w, action_texts[dsn->action].subject);
    put_literal(w, "\r\n");
    put_identity(w, dsn->id, dsn->host, dsn->now_us);
    put_literal(w, "Auto-Submitted: auto-replied\r\n");
    if (dsn->is_plain_text) {
        put_literal(w, "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
        return;
    }
    put_literal(w, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"");
    put_boundary(w, dsn);
    put_literal(w, "\"\r\n");
    if (dsn->returns_content && dsn->content_is_8bit)
        put_literal(w, "Content-Transfer-Encoding: 8bit\r\n");
    put_literal(w, "\r\n");
}

/* ---- Parts ----------------------------------------------------------------------------------- */

static void put_explanation(struct writer *w, const struct dsn *dsn)
{
    if (dsn->body.len > 0) {
        put_template(w, dsn, dsn->body, dsn->body.len + BODY_GROWTH_MAX);
    } else {
        put_literal(w, "This is the mail system at ");
        put_clean(w, dsn->host);
        put_literal(w, ".\r\n\r\n");
        put(w, action_texts[dsn->action].text);
    }
    for (uint32_t i = 0; i < dsn->rcpt_count; i++) {
        const struct dsn_rcpt *rcpt = &dsn->rcpts[i];

        put_literal(w, "\r\n  ");
        put_clean(w, rcpt->address);
        put_literal(w, "\r\n    ");
        if (rcpt->remote_mta.len > 0) {
            put_clean(w, rcpt->remote_mta);
            put_literal(w, " answered: ");
        }
        put_clean(w, rcpt->diagnostic);
        put_literal(w, "\r\n");
    }
    put_literal(w, "\r\n");
}

static void put_remote(struct writer *w, const struct dsn_rcpt *rcpt)
{
    char ip[IPADDR_TEXT_MAX];

    if (rcpt->remote_mta.len == 0)
        return;
    put_literal(w, "Remote-MTA: dns; ");
    put_clean(w, rcpt->remote_mta);
    if (rcpt->remote_ip.family != IPADDR_NONE) {
        ipaddr_format(&rcpt->remote_ip, ip);
        put_literal(w, " (");
        put(w, slice_str(ip));
        put_literal(w, ")");
    }
    put_literal(w, "\r\n");
}

/* RFC 3464 2.3. */
static void put_rcpt(struct writer *w, enum dsn_action action, const struct dsn_rcpt *rcpt)
{
    put_literal(w, "\r\n");
    if (rcpt->orcpt.len > 0)
        put_original_rcpt(w, rcpt->orcpt);
    put_address_field(w, SLICE_LITERAL("Final-Recipient: "), rcpt->address);
    put_field(w, SLICE_LITERAL("Action: "), action_texts[action].action);
    put_field(w, SLICE_LITERAL("Status: "), rcpt->status);
    put_remote(w, rcpt);
    put_field(w,
              rcpt->remote_mta.len > 0 ? SLICE_LITERAL("Diagnostic-Code: smtp; ")
                                       : SLICE_LITERAL("Diagnostic-Code: x-ringpost; "),
              rcpt->diagnostic);
    if (rcpt->last_attempt_us > 0)
        put_date(w, SLICE_LITERAL("Last-Attempt-Date: "), rcpt->last_attempt_us);
}

/* RFC 3464 2.2 and 2.3. */
static void put_report(struct writer *w, const struct dsn *dsn)
{
    put_field(w, SLICE_LITERAL("Reporting-MTA: dns; "), dsn->host);
    if (dsn->envelope_id.len > 0)
        put_field(w, SLICE_LITERAL("Original-Envelope-Id: "), dsn->envelope_id);
    put_date(w, SLICE_LITERAL("Arrival-Date: "), dsn->arrival_us);
    for (uint32_t i = 0; i < dsn->rcpt_count; i++)
        put_rcpt(w, dsn->action, &dsn->rcpts[i]);
}

/* One octet of the original, which is dot-stuffed already. */
static void put_stuffed(struct writer *w, uint8_t c)
{
    w->dots += !w->is_inside_line && c == '.';
    put_octet(w, c);
}

static void put_whole(struct writer *w, const struct dsn *dsn)
{
    for (uint32_t i = 0; i < dsn->content_count; i++) {
        const uint8_t *octets = dsn->content[i].iov_base;

        for (size_t j = 0; j < dsn->content[i].iov_len; j++)
            put_stuffed(w, octets[j]);
    }
}

/* Up to the empty line, or as far as there is room for whole lines. */
static void put_original_header(struct writer *w, const struct dsn *dsn)
{
    size_t start = w->text->len;
    struct writer line = *w; /* as it was at the start of the line */
    size_t line_at = start;

    for (uint32_t i = 0; i < dsn->content_count; i++) {
        const uint8_t *octets = dsn->content[i].iov_base;

        for (size_t j = 0; j < dsn->content[i].iov_len; j++) {
            uint8_t c = octets[j];

            if (!w->is_inside_line) {
                line = *w;
                line_at = w->text->len;
                if (c == '\r')
                    return;
            }
            if (w->text->len - start == DSN_HEADER_MAX) {
                *w = line;
                w->text->len = line_at;
                return;
            }
            put_stuffed(w, c > 127 ? '?' : c);
        }
    }
}

static void put_original(struct writer *w, const struct dsn *dsn)
{
    if (dsn->content_count == 0)
        return;
    if (dsn->returns_content) {
        put_part(w, dsn, SLICE_LITERAL("message/rfc822"));
        if (dsn->content_is_8bit)
            put_literal(w, "Content-Transfer-Encoding: 8bit\r\n");
        put_literal(w, "\r\n");
        put_whole(w, dsn);
    } else {
        put_part(w, dsn, SLICE_LITERAL("text/rfc822-headers"));
        put_literal(w, "\r\n");
        put_original_header(w, dsn);
    }
    if (w->is_inside_line)
        put_literal(w, "\r\n");
    put_literal(w, "\r\n");
}

/* ---- Whole notices --------------------------------------------------------------------------- */

size_t dsn_bytes_max(const struct dsn *dsn)
{
    size_t bytes = FRAME_BYTES + 2 * HEADER_VALUE_MAX + dsn->host.len * 8 + dsn->sender.len +
                   dsn->envelope_id.len +
                   (dsn->body.len > 0 ? dsn->body.len * 2 + BODY_GROWTH_MAX : 0);
    size_t content = 0;

    /* An address stands plainly in the text, and in the report with escapes. */
    for (uint32_t i = 0; i < dsn->rcpt_count; i++) {
        const struct dsn_rcpt *rcpt = &dsn->rcpts[i];

        bytes += RCPT_FRAME_BYTES + rcpt->address.len * 9 + rcpt->orcpt.len * 8 +
                 rcpt->diagnostic.len * 2 + rcpt->remote_mta.len * 2 + rcpt->status.len;
    }
    for (uint32_t i = 0; i < dsn->content_count; i++)
        content += dsn->content[i].iov_len;
    return bytes + (dsn->returns_content || content < DSN_HEADER_MAX ? content : DSN_HEADER_MAX);
}

void dsn_write(const struct dsn *dsn, struct text *text, struct dsn_facts *ret_facts)
{
    struct writer w = {.text = text};

    put_header(&w, dsn);
    if (dsn->is_plain_text) {
        put_report(&w, dsn);
    } else {
        put_part(&w, dsn, SLICE_LITERAL("text/plain; charset=us-ascii"));
        put_literal(&w, "\r\n");
        put_explanation(&w, dsn);
        put_part(&w, dsn, SLICE_LITERAL("message/delivery-status"));
        put_literal(&w, "\r\n");
        put_report(&w, dsn);
        put_literal(&w, "\r\n");
        put_original(&w, dsn);
        put_literal(&w, "--");
        put_boundary(&w, dsn);
        put_literal(&w, "--\r\n");
    }
    *ret_facts = (struct dsn_facts){.stuffed_dots = w.dots, .is_8bit = w.is_8bit};
}

size_t dsn_note_bytes_max(const struct dsn_note *note)
{
    return FRAME_BYTES + note->host.len * 3 + note->id.len + note->from.len + note->to.len +
           note->subject.len + note->lines.len * 3;
}

void dsn_note_write(const struct dsn_note *note, struct text *text, struct dsn_facts *ret_facts)
{
    struct writer w = {.text = text};
    struct slice rest = note->lines;

    put_literal(&w, "From: ");
    if (note->from.len > 0)
        put_clean(&w, note->from);
    else
        put_default_from(&w, note->host);
    put_field(&w, SLICE_LITERAL("\r\nTo: "), note->to);
    put_field(&w, SLICE_LITERAL("Subject: "), note->subject);
    put_identity(&w, note->id, note->host, note->now_us);
    put_literal(&w, "Auto-Submitted: auto-generated\r\n"
                    "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    while (rest.len > 0) {
        size_t len = slice_find(rest, '\n');

        put_clean(&w, slice_of(rest.data, len));
        put_literal(&w, "\r\n");
        rest = slice_after(rest, len < rest.len ? len + 1 : len);
    }
    *ret_facts = (struct dsn_facts){.stuffed_dots = w.dots, .is_8bit = w.is_8bit};
}
