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

size_t sts_wire_print_report_head(uint32_t number, struct slice uri, uint32_t octets,
                                  char room[STS_WIRE_REPORT_LINE_MAX])
{
    return (size_t)snprintf(room, STS_WIRE_REPORT_LINE_MAX, "%u report %u %.*s\n", number, octets,
                            (int)uri.len, (const char *)uri.data);
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
bool sts_wire_is_name(struct slice domain)
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

/* 1: the line is complete, without its end; 0: all was taken; E_SYNTAX: it is too long. */
static int read_line(struct sts_wire_progress *progress, char *line, size_t line_bytes,
                     struct slice *octets)
{
    size_t end = slice_find(*octets, '\n');

    if (end > line_bytes - progress->line_len)
        return E_SYNTAX;
    if (end > 0)
        memcpy(line + progress->line_len, octets->data, end);
    progress->line_len += (uint32_t)end;
    progress->has_line = end < octets->len;
    progress->octets_len = 0;
    *octets = slice_after(*octets, progress->has_line ? end + 1 : end);
    return progress->has_line;
}

/* 1: all of them are there, and the next line is another's; 0: all was taken. */
static int read_octets(struct sts_wire_progress *progress, uint8_t *room, size_t wanted,
                       struct slice *octets)
{
    size_t rest = wanted - progress->octets_len;

    if (rest > octets->len)
        rest = octets->len;
    if (rest > 0)
        memcpy(room + progress->octets_len, octets->data, rest);
    progress->octets_len += (uint32_t)rest;
    *octets = slice_after(*octets, rest);
    if (progress->octets_len < wanted)
        return 0;
    *progress = (struct sts_wire_progress){0};
    return 1;
}

static bool parse_report(struct slice line, struct sts_wire_request *request)
{
    struct slice word, octets;
    struct https_uri uri;
    uint32_t count;

    if (!take_word(&line, &word) || !slice_equal(word, SLICE_LITERAL("report")) ||
        !take_word(&line, &octets) || !take_number(octets, STS_WIRE_REPORT_BYTES_MAX, &count) ||
        !https_uri_parse(line, &uri))
        return false;
    request->uri = line;
    request->report.len = count;
    return true;
}

static bool parse_request(struct slice line, struct sts_wire_request *request)
{
    struct slice number;

    *request = (struct sts_wire_request){.domain = SLICE_EMPTY};
    if (!take_word(&line, &number) || !take_number(number, UINT32_MAX, &request->number))
        return false;
    if (!sts_wire_is_name(line))
        return parse_report(line, request);
    request->domain = line;
    return true;
}

int sts_wire_read_request(struct sts_wire_request_reader *reader, struct slice *octets)
{
    struct sts_wire_request *request = &reader->request;

    if (!reader->progress.has_line) {
        int rc = read_line(&reader->progress, reader->line, sizeof(reader->line), octets);

        if (rc <= 0)
            return rc;
        if (!parse_request(slice_of(reader->line, reader->progress.line_len), request))
            return E_SYNTAX;
        request->report.data = reader->report;
    }
    return read_octets(&reader->progress, reader->report, request->report.len, octets);
}

int sts_wire_read(struct sts_wire_reader *reader, struct slice *octets)
{
    if (!reader->progress.has_line) {
        int rc = read_line(&reader->progress, reader->line, sizeof(reader->line), octets);

        if (rc <= 0)
            return rc;
        reader->answer.text.data = reader->text;
        if (!parse_head(slice_of(reader->line, reader->progress.line_len), &reader->answer))
            return E_SYNTAX;
    }
    return read_octets(&reader->progress, reader->text, reader->answer.text.len, octets);
}

const char *sts_wire_result_type(enum sts_wire_result result)
{
    return results[result].report;
}
