#include "bench/message.h"

#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/rng.h"

#include <string.h>

#define ID_HEADER  "X-Bench-Id: "
#define CRC_HEADER "X-Bench-Crc: "

/* About what message_put_head writes, so that sizes asked for are met. */
#define HEAD_BYTES_ABOUT 330
#define LINE_WIDTH       72

/* ---- Making -------------------------------------------------------------------------------- */

struct body_writer {
    uint8_t *wire;
    uint32_t used;
    uint32_t crc;
};

static void put_line(struct body_writer *writer, const uint8_t *line, uint32_t len)
{
    writer->crc = crc32c(writer->crc, line, len);
    if (line[0] == '.')
        writer->wire[writer->used++] = '.';
    memcpy(writer->wire + writer->used, line, len);
    writer->used += len;
}

/* A line of letters and blanks, CR LF included. */
static uint32_t make_line(struct rng *rng, uint8_t *line, uint32_t width, bool dot)
{
    for (uint32_t i = 0; i < width; i++) {
        uint64_t letter = rng_below(rng, 30);

        line[i] = letter < 26 ? (uint8_t)('a' + letter) : ' ';
    }
    line[0] = dot ? '.' : 'T';
    line[width] = '\r';
    line[width + 1] = '\n';
    return width + 2;
}

void message_body_make(struct message_body *body, uint64_t message_bytes, bool dots,
                       uint32_t variant)
{
    uint64_t wanted = message_bytes > HEAD_BYTES_ABOUT + LINE_WIDTH + 2
                          ? message_bytes - HEAD_BYTES_ABOUT
                          : LINE_WIDTH + 2;
    struct body_writer writer = {0};
    uint64_t content = 0;
    struct rng rng;

    must(wanted < UINT32_MAX / 2);
    rng_init(&rng, variant + 1);
    writer.wire = mem_alloc(wanted + wanted / 8 + 256);
    while (content < wanted) {
        uint8_t line[LINE_WIDTH + 2];
        uint64_t left = wanted - content;
        uint32_t width = left >= 2 * (LINE_WIDTH + 2) ? LINE_WIDTH
                         : left >= LINE_WIDTH + 2     ? (uint32_t)(left / 2)
                         : left > 3                   ? (uint32_t)left - 2
                                                      : 1;
        uint32_t len = make_line(&rng, line, width, dots && rng_one_in(&rng, 12));

        put_line(&writer, line, len);
        content += len;
    }
    memcpy(writer.wire + writer.used, ".\r\n", 3);
    body->wire = writer.wire;
    body->wire_bytes = writer.used + 3;
    body->message_bytes = (uint32_t)content + HEAD_BYTES_ABOUT;
    body->crc = writer.crc;
}

void message_body_free(struct message_body *body)
{
    mem_free(body->wire);
    body->wire = NULL;
}

static uint64_t domain_of(const struct message_options *options, uint64_t number)
{
    /* 61 has no divisor in common with 100: each hundred meets each remainder once. */
    if (options->hot_percent == 0 || options->domains < 2)
        return number % options->domains;
    if (number * 61 % 100 < options->hot_percent)
        return 0;
    return 1 + number % (options->domains - 1);
}

void message_put_rcpt(struct smtp_text *text, const struct message_options *options,
                      uint64_t number, uint32_t k)
{
    smtp_put_u64(text, k);
    smtp_put_literal(text, ".");
    smtp_put_u64(text, number);
    smtp_put_literal(text, "@d");
    smtp_put_u64(text, domain_of(options, number + k));
    smtp_put_literal(text, ".test");
}

void message_put_head(struct smtp_text *text, const struct message_options *options,
                      uint64_t number, const struct message_body *body)
{
    smtp_put_literal(text, "From: The generator <news@sender.test>\r\nTo: <");
    message_put_rcpt(text, options, number, 0);
    smtp_put_literal(text, ">\r\nSubject: Message ");
    smtp_put_u64(text, number);
    smtp_put_literal(text, "\r\nDate: Mon, 06 Jan 2025 08:00:00 +0000\r\nMessage-ID: <");
    smtp_put_hex32(text, options->run);
    smtp_put_literal(text, ".");
    smtp_put_u64(text, number);
    smtp_put_literal(text, "@sender.test>\r\n" ID_HEADER);
    smtp_put_hex32(text, options->run);
    smtp_put_literal(text, "/");
    smtp_put_u64(text, number);
    smtp_put_literal(text, "\r\n" CRC_HEADER);
    smtp_put_hex32(text, body->crc);
    smtp_put_literal(text, "\r\n");
    if (options->extra_headers != NULL)
        smtp_put_str(text, options->extra_headers);
    smtp_put_literal(text, "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n");
}

/* ---- Reading ------------------------------------------------------------------------------- */

/* Decimal digits at the front of *rest, at most 15, moving past them. */
static bool take_decimal(struct slice *rest, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t len = 0;

    while (len < rest->len && len < 15 && (uint8_t)(rest->data[len] - '0') < 10)
        value = value * 10 + (uint8_t)(rest->data[len++] - '0');
    *rest = slice_after(*rest, len);
    *ret_value = value;
    return len > 0;
}

static bool take_hex32(struct slice *rest, uint32_t *ret_value)
{
    uint32_t value = 0;

    if (rest->len < 8)
        return false;
    for (size_t i = 0; i < 8; i++) {
        uint8_t c = rest->data[i];

        if ((uint8_t)(c - '0') < 10)
            value = value << 4 | (uint8_t)(c - '0');
        else if ((uint8_t)(c - 'a') < 6)
            value = value << 4 | (uint8_t)(c - 'a' + 10);
        else
            return false;
    }
    *rest = slice_after(*rest, 8);
    *ret_value = value;
    return true;
}

static bool take_byte(struct slice *rest, uint8_t byte)
{
    if (rest->len == 0 || rest->data[0] != byte)
        return false;
    *rest = slice_after(*rest, 1);
    return true;
}

bool message_parse_rcpt(struct slice address, uint64_t *ret_number, uint32_t *ret_k)
{
    uint64_t k;
    uint64_t number;

    if (!take_decimal(&address, &k) || k > UINT32_MAX || !take_byte(&address, '.') ||
        !take_decimal(&address, &number) || !take_byte(&address, '@'))
        return false;
    *ret_k = (uint32_t)k;
    *ret_number = number;
    return true;
}

void message_reader_init(struct message_reader *reader, bool with_crc)
{
    reader->bytes = 0;
    reader->crc = 0;
    reader->with_crc = with_crc;
    reader->in_body = false;
    reader->has_id = false;
    reader->has_crc = false;
    reader->lines.kept = 0;
}

static void read_header_line(struct message_reader *reader, struct slice line)
{
    static const struct slice id_header = SLICE_LITERAL(ID_HEADER);
    static const struct slice crc_header = SLICE_LITERAL(CRC_HEADER);
    struct slice rest;

    if (line.len == 0) {
        reader->in_body = true;
        return;
    }
    /* All of ours begin with an X: most lines are done with here. */
    if ((line.data[0] | 0x20) != 'x')
        return;
    if (slice_starts_nocase(line, id_header)) {
        rest = slice_after(line, id_header.len);
        reader->has_id = take_hex32(&rest, &reader->id.run) && take_byte(&rest, '/') &&
                         take_decimal(&rest, &reader->id.number) && rest.len == 0;
    } else if (slice_starts_nocase(line, crc_header)) {
        rest = slice_after(line, crc_header.len);
        reader->has_crc = take_hex32(&rest, &reader->crc_wanted) && rest.len == 0;
    }
}

void message_reader_feed(struct message_reader *reader, struct slice content)
{
    struct slice line;

    reader->bytes += content.len;
    while (!reader->in_body) {
        if (!smtp_next_line(&reader->lines, &content, &line))
            return;
        read_header_line(reader, line);
    }
    if (reader->with_crc)
        reader->crc = crc32c(reader->crc, content.data, content.len);
}

bool message_reader_is_intact(const struct message_reader *reader)
{
    return !reader->with_crc || (reader->has_crc && reader->crc == reader->crc_wanted);
}
