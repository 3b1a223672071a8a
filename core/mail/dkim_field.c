#include "core/mail/dkim_field.h"

#include "core/base/must.h"

#define LENGTH_DIGITS  10u
#define LINE_COLUMNS   76u
#define BASE64_COLUMNS 72u
#define TIME_MAX_S     9999999999ull /* ten digits, as t= and x= are written (RFC 6376 3.5: 12) */

const char dkim_usual_names[] =
    "From,Sender,Reply-To,To,Cc,Subject,Date,Message-ID,In-Reply-To,References,"
    "MIME-Version,Content-Type,Content-Transfer-Encoding,Content-ID,Content-Description,"
    "Resent-Date,Resent-From,Resent-Sender,Resent-To,Resent-Cc,Resent-Message-ID,"
    "List-Id,List-Help,List-Unsubscribe,List-Unsubscribe-Post,List-Subscribe,List-Post,"
    "List-Owner,List-Archive,Feedback-ID";

/* ---- Which fields ---------------------------------------------------------------------------- */

static bool next_name(struct slice *rest, struct slice *ret_name)
{
    while (rest->len > 0) {
        size_t comma = slice_find(*rest, ',');

        *ret_name = slice_trim(slice_of(rest->data, comma));
        *rest = slice_after(*rest, comma + (comma < rest->len));
        if (ret_name->len > 0)
            return true;
    }
    return false;
}

static bool has_name(const char *names, struct slice wanted)
{
    struct slice rest = slice_str(names);
    struct slice name;

    while (next_name(&rest, &name)) {
        if (slice_equal_nocase(name, wanted))
            return true;
    }
    return false;
}

/* The next field of that name above `below`. */
static uint32_t find_above(const struct dkim_field *fields, uint32_t below, struct slice name)
{
    while (below-- > 0) {
        if (slice_equal_nocase(fields[below].name, name))
            return below;
    }
    return DKIM_NO_FIELD;
}

static bool add_pick(struct dkim_picks *picks, struct slice name, uint32_t field)
{
    if (picks->count == DKIM_PICKS_MAX)
        return false;
    picks->at[picks->count++] = (struct dkim_pick){name, field};
    return true;
}

/* Where to look for the next field of that name: above the one that was picked last. */
static uint32_t lowest_picked(const struct dkim_picks *picks, struct slice name,
                              uint32_t field_count)
{
    for (uint32_t i = picks->count; i-- > 0;) {
        if (!slice_equal_nocase(picks->at[i].name, name))
            continue;
        return picks->at[i].field == DKIM_NO_FIELD ? 0 : picks->at[i].field;
    }
    return field_count;
}

bool dkim_pick_listed(const struct dkim_field *fields, uint32_t field_count, const char *names,
                      struct dkim_picks *ret_picks)
{
    struct slice rest = slice_str(names);
    struct slice name;

    ret_picks->count = 0;
    while (next_name(&rest, &name)) {
        uint32_t below = lowest_picked(ret_picks, name, field_count);

        if (!add_pick(ret_picks, name, find_above(fields, below, name)))
            return false;
    }
    return true;
}

/* All fields of a name, and with is_closed the place behind them. */
static bool pick_all(const struct dkim_field *fields, uint32_t field_count, struct slice name,
                     bool is_closed, struct dkim_picks *picks)
{
    uint32_t field = field_count;

    /* A name that is in two lists counts in the first of them. */
    if (lowest_picked(picks, name, field_count) < field_count)
        return true;
    while ((field = find_above(fields, field, name)) != DKIM_NO_FIELD) {
        if (!add_pick(picks, name, field))
            return false;
    }
    return !is_closed || add_pick(picks, name, DKIM_NO_FIELD);
}

bool dkim_pick_usual(const struct dkim_field *fields, uint32_t field_count, const char *more,
                     const char *closed, struct dkim_picks *ret_picks)
{
    const char *lists[] = {dkim_usual_names, more ? more : "", closed ? closed : ""};
    bool has_from;

    ret_picks->count = 0;
    /* RFC 6376 5.4: From must be signed, and a second one is what a forger would add. */
    has_from = pick_all(fields, field_count, SLICE_LITERAL("From"), true, ret_picks);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct slice rest = slice_str(lists[i]);
        struct slice name;

        while (next_name(&rest, &name))
            (void)pick_all(fields, field_count, name, has_name(lists[2], name), ret_picks);
    }
    return has_from;
}

void dkim_picks_drop(struct dkim_picks *picks, const char *names)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < picks->count; i++) {
        if (slice_equal_nocase(picks->at[i].name, SLICE_LITERAL("From")) ||
            !has_name(names, picks->at[i].name))
            picks->at[kept++] = picks->at[i];
    }
    picks->count = kept;
}

void dkim_picks_put(const struct dkim_picks *picks, const struct dkim_field *fields,
                    enum dkim_canon canon, const struct dkim_sink *sink)
{
    for (uint32_t i = 0; i < picks->count; i++) {
        if (picks->at[i].field != DKIM_NO_FIELD)
            dkim_header_put(canon, fields[picks->at[i].field].octets, false, sink);
    }
}

/* ---- The text -------------------------------------------------------------------------------- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* RFC 4648 section 4; a fold after so many columns, 0 = none. */
static void put_base64(struct text *text, struct slice octets, size_t columns)
{
    size_t column = 0;

    for (size_t i = 0; i < octets.len; i += 3) {
        size_t left = octets.len - i;
        uint32_t group = (uint32_t)octets.data[i] << 16 |
                         (left > 1 ? (uint32_t)octets.data[i + 1] << 8 : 0) |
                         (left > 2 ? octets.data[i + 2] : 0);
        char digits[4] = {
            base64_digits[group >> 18],
            base64_digits[group >> 12 & 63],
            left > 1 ? base64_digits[group >> 6 & 63] : '=',
            left > 2 ? base64_digits[group & 63] : '=',
        };

        if (columns > 0 && column == columns) {
            text_put_literal(text, "\r\n\t");
            column = 0;
        }
        text_put(text, slice_of(digits, sizeof(digits)));
        column += sizeof(digits);
    }
}

/* The columns of the line that is being written; a tab counts as one. */
static size_t column_of(const struct text *text)
{
    size_t at = text->len;

    while (at > 0 && text->data[at - 1] != '\n')
        at--;
    return text->len - at;
}

/* A blank, or a fold where the next `len` octets would not fit into the line any more. */
static void put_gap(struct text *text, size_t len)
{
    if (column_of(text) + 1 + len > LINE_COLUMNS)
        text_put_literal(text, "\r\n\t");
    else
        text_put_char(text, ' ');
}

static void put_tag(struct text *text, char name, struct slice value)
{
    put_gap(text, value.len + 3);
    text_put_char(text, name);
    text_put_char(text, '=');
    text_put(text, value);
    text_put_char(text, ';');
}

static void put_number(struct text *text, char name, uint64_t value, unsigned width)
{
    char room[24];
    struct text number = text_in(room, sizeof(room));

    text_put_u64(&number, value, width);
    put_tag(text, name, text_slice(&number));
}

/* RFC 6376 2.11, dkim-quoted-printable. */
static void put_identity(struct text *text, struct slice identity)
{
    static const char digits[] = "0123456789ABCDEF";

    put_gap(text, identity.len + 3);
    text_put_literal(text, "i=");
    for (size_t i = 0; i < identity.len; i++) {
        uint8_t octet = identity.data[i];

        if (octet > ' ' && octet < 0x7f && octet != ';' && octet != '=') {
            text_put_char(text, (char)octet);
        } else {
            text_put_char(text, '=');
            text_put_char(text, digits[octet >> 4]);
            text_put_char(text, digits[octet & 15]);
        }
    }
    text_put_char(text, ';');
}

static void put_names(struct text *text, const struct dkim_picks *picks)
{
    text_put_literal(text, "\r\n\th=");
    for (uint32_t i = 0; i < picks->count; i++) {
        struct slice name = picks->at[i].name;

        if (i > 0) {
            text_put_char(text, ':');
            if (column_of(text) + name.len + 1 > LINE_COLUMNS)
                text_put_literal(text, "\r\n\t ");
        }
        text_put(text, name);
    }
    text_put_char(text, ';');
}

static bool is_in_domain(struct slice identity, struct slice domain)
{
    size_t more;

    if (identity.len <= domain.len)
        return false;
    more = identity.len - domain.len;
    return slice_equal_nocase(slice_after(identity, more), domain) &&
           (identity.data[more - 1] == '@' || identity.data[more - 1] == '.');
}

/* Dots between labels of letters, digits, hyphens and underscores. */
static bool is_name(struct slice name)
{
    uint8_t before = '.';

    for (size_t i = 0; i < name.len; i++) {
        uint8_t octet = name.data[i];
        bool is_letter = (octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') ||
                         (octet >= '0' && octet <= '9') || octet == '-' || octet == '_';

        if (!is_letter && (octet != '.' || before == '.'))
            return false;
        before = octet;
    }
    return name.len <= DKIM_DOMAIN_MAX && before != '.';
}

static bool has_octet(struct slice text, const char *octets)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f || strchr(octets, text.data[i]) != NULL)
            return true;
    }
    return false;
}

const char *dkim_signature_check(const struct dkim_signature *signature)
{
    bool has_from = false;

    if (!is_name(signature->domain))
        return "d= is no domain name";
    if (!is_name(signature->selector))
        return "s= is no selector";
    if (signature->identity.len > 0 && !is_in_domain(signature->identity, signature->domain))
        return "i= is not of the domain in d= or one below it";
    if (signature->identity.len > 320)
        return "i= is longer than an address may be";
    if (has_octet(signature->query, ";=") || signature->query.len > 255)
        return "q= has octets that no query method has";
    if (signature->time_s > TIME_MAX_S || signature->expires_s > TIME_MAX_S)
        return "t= or x= has more than ten digits";
    if (signature->expires_s > 0 && signature->expires_s <= signature->time_s)
        return "x= is not later than t=";
    if (signature->signature_bytes == 0 || signature->signature_bytes > DKIM_SIGNATURE_MAX)
        return "the key is larger than RSA-4096";
    for (uint32_t i = 0; i < signature->picks->count; i++) {
        struct slice name = signature->picks->at[i].name;

        if (name.len > 255 || has_octet(name, ";:="))
            return "h= has what is no name of a header field";
        has_from |= slice_equal_nocase(name, SLICE_LITERAL("From"));
    }
    return has_from ? NULL : "h= does not have From";
}

void dkim_signature_open(const struct dkim_signature *signature,
                         const uint8_t body_hash[DKIM_BODY_HASH], uint64_t body_octets,
                         struct text *text, struct dkim_places *ret_places)
{
    size_t start = text->len;
    struct dkim_places places = {0};
    static const char *const canons[] = {[DKIM_RELAXED] = "relaxed", [DKIM_SIMPLE] = "simple"};
    char canon[20];
    struct text pair = text_in(canon, sizeof(canon));

    text_put_str(&pair, canons[signature->header_canon]);
    text_put_char(&pair, '/');
    text_put_str(&pair, canons[signature->body_canon]);
    text_put_literal(text, "DKIM-Signature: v=1;");
    put_tag(text, 'a', slice_str(signature->algorithm));
    put_tag(text, 'c', text_slice(&pair));
    put_tag(text, 'd', signature->domain);
    put_tag(text, 's', signature->selector);
    if (signature->has_time)
        put_number(text, 't', signature->time_s, 10);
    if (signature->expires_s > 0)
        put_number(text, 'x', signature->expires_s, 10);
    if (signature->has_length) {
        put_number(text, 'l', body_octets, LENGTH_DIGITS);
        /* In front of the semicolon. */
        places.length = (uint32_t)(text->len - start - 1 - LENGTH_DIGITS);
    }
    if (signature->query.len > 0)
        put_tag(text, 'q', signature->query);
    if (signature->identity.len > 0)
        put_identity(text, signature->identity);
    put_names(text, signature->picks);
    text_put_literal(text, "\r\n\tbh=");
    places.body_hash = (uint32_t)(text->len - start);
    put_base64(text, slice_of(body_hash, DKIM_BODY_HASH), 0);
    text_put_literal(text, ";\r\n\tb=");
    if (ret_places)
        *ret_places = places;
}

void dkim_signature_fill(const struct dkim_places *places, const uint8_t body_hash[DKIM_BODY_HASH],
                         uint64_t body_octets, char *text)
{
    char room[64];
    struct text value = text_in(room, sizeof(room));

    put_base64(&value, slice_of(body_hash, DKIM_BODY_HASH), 0);
    memcpy(text + places->body_hash, value.data, value.len);
    if (places->length == 0)
        return;
    value = text_in(room, sizeof(room));
    text_put_u64(&value, body_octets, LENGTH_DIGITS);
    memcpy(text + places->length, value.data, LENGTH_DIGITS);
}

void dkim_signature_close(struct slice octets, struct text *text)
{
    put_base64(text, octets, BASE64_COLUMNS);
    text_put_literal(text, "\r\n");
}
