/*
 * header_scan: the header fields at the front of a stored message (CRLF lines, dot-stuffed).
 *
 * One rule says where the header ends, for everybody who asks (A04): at the first empty line, or
 * in front of the first line that is neither a field nor the continuation of one. Each octet is
 * looked at a fixed number of times, however the fields are made (A20); memory is the caller's.
 * Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum header_end {
    HEADER_GOES_ON,       /* octets given end inside the header: it may continue behind them */
    HEADER_ENDS_EMPTY,    /* the empty line was found */
    HEADER_ENDS_NO_FIELD, /* a line that is no field stands where the empty line should be */
    HEADER_ENDS_MESSAGE,  /* the message has no more octets */
};

/* One field. name and value point into the scanned octets; value runs from behind the colon to
 * the last octet before the final CRLF, folds included, blanks at both ends left out. */
struct header_field {
    struct slice name;
    struct slice value;
    size_t offset; /* of the whole field */
    size_t octets; /* continuation lines and the final CRLF included */
};

/* White space of a folded field: blank, tab, CR, LF. */
bool header_is_white(uint8_t octet);
/* Without it at both ends. */
struct slice header_trim_folded(struct slice s);

struct header_walk {
    struct slice octets;
    size_t at;
    enum header_end end;
    bool is_whole;
};

/* octets: a message from its start; is_whole: to its end. */
void header_walk_init(struct header_walk *walk, struct slice octets, bool is_whole);
/*
 * The next whole field, or false with walk->end set and walk->at where the header stops: at the
 * empty line, at the line that is no field, or at the incomplete field.
 */
bool header_walk_next(struct header_walk *walk, struct header_field *ret_field);

/*
 * Finds where the header ends while octets still arrive, each line looked at once however they are
 * cut up. Starts as zeros; octets grow between the calls and keep their beginning.
 */
struct header_edge {
    size_t line;    /* where the line begins that is not complete yet; the end, once found */
    size_t scanned; /* octets in which no further line end was found */
    bool has_field;
};

/* True once the end is among octets. It is where header_scan, given these octets, will see it. */
bool header_edge_find(struct header_edge *edge, struct slice octets);

/* What the caller wants to know about one name (ASCII case ignored); others may be about the same.
 */
struct header_want {
    struct slice name;
    bool strip; /* every occurrence becomes a cut */
    /* NULL, or which of them do, by their value. */
    bool (*strips)(const void *context, struct slice value);
    const void *context;
    uint32_t count;            /* out */
    struct header_field first; /* out; valid when count > 0 */
};

struct header_cut {
    size_t offset;
    size_t octets;
};

#define HEADER_CUT_COUNT_MAX 1000

struct header_limits {
    size_t octets_max;
    uint32_t field_count_max;
};

struct header_facts {
    enum header_end end;
    size_t header_octets; /* up to the empty line, or to where the header stops */
    size_t body_offset;   /* behind the empty line; = header_octets when there is none */
    uint32_t field_count;
    uint32_t cut_count;
    struct header_cut cuts[HEADER_CUT_COUNT_MAX]; /* ascending, apart from each other */
};

/*
 * Scans the header at the front of octets (as for header_walk_init) and fills wants and
 * *ret_facts. 0; E_TOO_LONG when the header or its number of fields exceeds the limits; E_RANGE
 * when there is more to strip than HEADER_CUT_COUNT_MAX fields.
 */
int header_scan(struct slice octets, bool is_whole, const struct header_limits *limits,
                struct header_want *wants, uint32_t want_count, struct header_facts *ret_facts);
