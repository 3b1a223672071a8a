#include "core/mail/header_scan.h"

#include "core/base/err.h"

void header_walk_init(struct header_walk *walk, struct slice octets, bool is_whole)
{
    *walk = (struct header_walk){
        .octets = octets,
        .end = HEADER_GOES_ON,
        .is_whole = is_whole,
    };
}

/* Length of the line at the front of rest with its CRLF, 0 when it is not complete. */
static size_t line_length(struct slice rest)
{
    size_t lf = slice_find(rest, '\n');

    return lf < rest.len ? lf + 1 : 0;
}

static bool starts_blank(struct slice rest)
{
    return rest.len > 0 && (rest.data[0] == ' ' || rest.data[0] == '\t');
}

bool header_is_white(uint8_t octet)
{
    return octet == ' ' || octet == '\t' || octet == '\r' || octet == '\n';
}

struct slice header_trim_folded(struct slice s)
{
    while (s.len > 0 && header_is_white(s.data[0]))
        s = slice_after(s, 1);
    while (s.len > 0 && header_is_white(s.data[s.len - 1]))
        s.len--;
    return s;
}

/*
 * Splits "Name: value". The name is ftext (RFC 5322 2.2); blanks in front of the colon are the
 * obsolete form of section 4.5 and still make a field. False when the line is no field.
 */
static bool split_field(struct slice line, struct header_field *field)
{
    size_t name = 0;
    size_t colon;

    while (name < line.len && line.data[name] > ' ' && line.data[name] < 0x7f &&
           line.data[name] != ':')
        name++;
    colon = name;
    while (colon < line.len && (line.data[colon] == ' ' || line.data[colon] == '\t'))
        colon++;
    if (name == 0 || colon == line.len || line.data[colon] != ':')
        return false;
    field->name = slice_of(line.data, name);
    field->value = slice_after(line, colon + 1);
    return true;
}

/*
 * Octets of the field at the front of rest whose first line has `length`, continuation lines
 * included; 0 when its end is not there yet.
 */
static size_t field_length(struct slice rest, size_t length, bool is_whole)
{
    size_t octets = length;

    while (octets < rest.len && starts_blank(slice_after(rest, octets))) {
        length = line_length(slice_after(rest, octets));
        if (length == 0)
            return 0;
        octets += length;
    }
    /* Only the line behind shows that the field is not continued. */
    return octets < rest.len || is_whole ? octets : 0;
}

bool header_walk_next(struct header_walk *walk, struct header_field *ret_field)
{
    struct slice rest = slice_after(walk->octets, walk->at);
    size_t length = line_length(rest);
    struct header_field field;

    if (walk->is_whole)
        walk->end = HEADER_ENDS_MESSAGE;
    if (length == 0)
        return false;
    if (length == 2 && rest.data[0] == '\r') {
        walk->end = HEADER_ENDS_EMPTY;
        return false;
    }
    if (!split_field(slice_of(rest.data, length), &field)) {
        walk->end = HEADER_ENDS_NO_FIELD;
        return false;
    }
    field.offset = walk->at;
    field.octets = field_length(rest, length, walk->is_whole);
    if (field.octets == 0)
        return false;
    field.value.len = (size_t)(rest.data + field.octets - field.value.data);
    field.value = header_trim_folded(field.value);
    walk->at += field.octets;
    walk->end = HEADER_GOES_ON;
    *ret_field = field;
    return true;
}

bool header_edge_find(struct header_edge *edge, struct slice octets)
{
    struct header_field field;

    for (;;) {
        struct slice rest = slice_after(octets, edge->scanned);
        size_t lf = slice_find(rest, '\n');
        struct slice line;

        if (lf == rest.len) {
            edge->scanned = octets.len;
            return false;
        }
        line = slice_of(octets.data + edge->line, edge->scanned + lf + 1 - edge->line);
        if (line.len == 2 && line.data[0] == '\r')
            return true;
        if (!(edge->has_field && starts_blank(line)) && !split_field(line, &field))
            return true;
        edge->has_field = true;
        edge->line += line.len;
        edge->scanned = edge->line;
    }
}

/* Enters one field into wants and cuts. */
static int note_field(const struct header_field *field, struct header_want *wants,
                      uint32_t want_count, struct header_facts *facts)
{
    bool is_cut = false;

    for (uint32_t i = 0; i < want_count; i++) {
        struct header_want *want = &wants[i];

        if (!slice_equal_nocase(field->name, want->name))
            continue;
        if (want->count++ == 0)
            want->first = *field;
        is_cut |= want->strip && (!want->strips || want->strips(want->context, field->value));
    }
    if (!is_cut)
        return 0;
    if (facts->cut_count == HEADER_CUT_COUNT_MAX)
        return E_RANGE;
    facts->cuts[facts->cut_count++] = (struct header_cut){field->offset, field->octets};
    return 0;
}

int header_scan(struct slice octets, bool is_whole, const struct header_limits *limits,
                struct header_want *wants, uint32_t want_count, struct header_facts *ret_facts)
{
    bool over = octets.len > limits->octets_max;
    struct header_walk walk;
    struct header_field field;
    int rc;

    for (uint32_t i = 0; i < want_count; i++)
        wants[i].count = 0;
    ret_facts->field_count = 0;
    ret_facts->cut_count = 0;
    if (over)
        octets.len = limits->octets_max;
    header_walk_init(&walk, octets, is_whole && !over);
    while (header_walk_next(&walk, &field)) {
        if (ret_facts->field_count++ == limits->field_count_max)
            return E_TOO_LONG;
        rc = note_field(&field, wants, want_count, ret_facts);
        if (rc < 0)
            return rc;
    }
    if (walk.end == HEADER_GOES_ON && over)
        return E_TOO_LONG;
    ret_facts->end = walk.end;
    ret_facts->header_octets = walk.at;
    ret_facts->body_offset = walk.at;
    if (walk.end == HEADER_ENDS_EMPTY)
        ret_facts->body_offset += line_length(slice_after(octets, walk.at));
    return 0;
}
