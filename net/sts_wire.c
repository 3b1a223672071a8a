#include "net/sts_wire.h"

#include "core/base/err.h"

#include <stdio.h>

static const struct {
    const char *word;
    const char *report;
} results[] = {
#define STS_WIRE_ROW(name, word, report) [name] = {word, report},
    STS_WIRE_RESULTS(STS_WIRE_ROW)
#undef STS_WIRE_ROW
};

size_t sts_wire_print_request(uint32_t number, struct slice domain, char room[STS_WIRE_LINE_MAX])
{
    return (size_t)snprintf(room, STS_WIRE_LINE_MAX, "%u %.*s\n", number, (int)domain.len,
                            (const char *)domain.data);
}

size_t sts_wire_print_head(uint32_t number, enum sts_wire_result result, uint32_t octets,
                           char room[STS_WIRE_LINE_MAX])
{
    return (size_t)snprintf(room, STS_WIRE_LINE_MAX, "%u %s %u\n", number, results[result].word,
                            octets);
}

/* The first word of the line, which loses it; false when there is none behind it. */
static bool take_word(struct slice *line, struct slice *ret_word)
{
    size_t end = slice_find(*line, ' ');

    if (end == line->len)
        return false;
    *ret_word = slice_of(line->data, end);
    *line = slice_after(*line, end + 1);
    return true;
}

static bool take_number(struct slice word, uint32_t max, uint32_t *ret_number)
{
    uint64_t number;

    if (slice_to_u64(word, max, &number) < 0)
        return false;
    *ret_number = (uint32_t)number;
    return true;
}

/* Of a host: what stands in a URL must be nothing else. */
static bool is_name(struct slice domain)
{
    size_t label = 0;

    for (size_t i = 0; i < domain.len; i++) {
        uint8_t c = slice_lower_octet(domain.data[i]);
        bool is_alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

        if (c == '.' ? label == 0 : !is_alnum && c != '-' && c != '_')
            return false;
        label = c == '.' ? 0 : label + 1;
    }
    return label > 0 && domain.len <= STS_WIRE_DOMAIN_MAX;
}

bool sts_wire_parse_request(struct slice line, uint32_t *ret_number, struct slice *ret_domain)
{
    struct slice word;

    *ret_domain = SLICE_EMPTY;
    if (!take_word(&line, &word) || !take_number(word, UINT32_MAX, ret_number) || !is_name(line))
        return false;
    *ret_domain = line;
    return true;
}

static bool parse_head(struct slice line, struct sts_wire_answer *answer)
{
    struct slice number, word;
    uint32_t octets;

    if (!take_word(&line, &number) || !take_number(number, UINT32_MAX, &answer->number) ||
        !take_word(&line, &word) || !take_number(line, STS_POLICY_BYTES_MAX, &octets))
        return false;
    answer->text.len = octets;
    for (unsigned i = 0; i < STS_WIRE_RESULT_COUNT; i++) {
        answer->result = (enum sts_wire_result)i;
        if (slice_equal(word, slice_str(results[i].word)))
            return true;
    }
    return false;
}

static int read_head(struct sts_wire_reader *reader, struct slice *octets)
{
    size_t end = slice_find(*octets, '\n');

    if (end > sizeof(reader->line) - reader->line_len)
        return E_SYNTAX;
    memcpy(reader->line + reader->line_len, octets->data, end);
    reader->line_len += (uint32_t)end;
    reader->has_head = end < octets->len;
    *octets = slice_after(*octets, reader->has_head ? end + 1 : end);
    if (!reader->has_head)
        return 0;
    reader->text_len = 0;
    reader->answer.text.data = reader->text;
    return parse_head(slice_of(reader->line, reader->line_len), &reader->answer) ? 0 : E_SYNTAX;
}

int sts_wire_read(struct sts_wire_reader *reader, struct slice *octets)
{
    size_t rest;

    if (!reader->has_head) {
        int rc = octets->len > 0 ? read_head(reader, octets) : 0;

        if (rc < 0 || !reader->has_head)
            return rc;
    }
    rest = reader->answer.text.len - reader->text_len;
    if (rest > octets->len)
        rest = octets->len;
    if (rest > 0)
        memcpy(reader->text + reader->text_len, octets->data, rest);
    reader->text_len += (uint32_t)rest;
    *octets = slice_after(*octets, rest);
    if (reader->text_len < reader->answer.text.len)
        return 0;
    reader->has_head = false;
    reader->line_len = 0;
    return 1;
}

const char *sts_wire_result_type(enum sts_wire_result result)
{
    return results[result].report;
}
