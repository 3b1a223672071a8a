/*
 * body_scan: one pass over message data as it arrives, in any segmentation.
 *
 * Finds the end of DATA (CRLF.CRLF and nothing else, A02), reports what must not be passed on, and
 * yields the stored form: CRLF lines, dot-stuffed, without the final dot, so that what leaves can
 * go out as it is (A03). Input of DATA is stuffed already and mostly passes as it came; input of
 * BDAT is not, and gets its dots doubled here.
 *
 *   data:  A LINE .. CR LF | B "." | C "." CR  ->  CR LF "." CR LF ends it
 *
 * Nothing is copied: pieces of the stored form point into the input or to constants. A few octets
 * are held back at the end of a span until the next one shows what they are (a CR, a dot that may
 * end the data).
 *
 * With repair, a bare CR and a bare LF each become CRLF, NUL becomes a blank, and a dot at the
 * start of a line that a repair began is doubled, so that a repair can never make a line that ends
 * the data at the next hop. Without repair the octets pass and only the flag tells: such a message
 * must be refused. Pure; any thread.
 */
#pragma once

#include "core/base/slice.h"

enum body_findings {
    BODY_BARE_CR = 1,
    BODY_BARE_LF = 2,
    BODY_NUL = 4,
    BODY_LONG_LINE = 8, /* longer than line_octets_max, CRLF included */
    BODY_8BIT = 16,     /* octets above 127 */
};

enum body_scan_flags {
    BODY_SCAN_RAW = 1,    /* BDAT: no dot-stuffing in the input, no dot ends it */
    BODY_SCAN_REPAIR = 2, /* bare CR, bare LF and NUL are repaired */
};

#define BODY_LINE_OCTETS_MIN 64

struct body_scan {
    uint64_t stored_octets; /* length of all pieces so far */
    uint32_t stuffed_dots;  /* lines of the stored form with a doubled dot at their start */
    uint32_t line_octets;   /* of the line that is being read */
    uint32_t line_octets_max;
    uint8_t findings; /* enum body_findings */
    uint8_t flags;    /* enum body_scan_flags */
    uint8_t state;
    bool ended; /* the final dot was read */
};

/* line_octets_max: at least BODY_LINE_OCTETS_MIN. */
void body_scan_init(struct body_scan *scan, unsigned flags, uint32_t line_octets_max);

/*
 * Reads on. Returns how many octets it used; *ret_piece is what comes next in the stored form,
 * often the very octets used, perhaps nothing, perhaps with nothing used. Call it until all of
 * len is used or scan->ended is set: octets behind the final dot are not touched.
 */
size_t body_scan_next(struct body_scan *scan, const uint8_t *data, size_t len,
                      struct slice *ret_piece);

/* The last octet of raw input was read: what is still to be stored, a missing CRLF above all. */
void body_scan_finish(struct body_scan *scan, struct slice *ret_piece);

/* Octets of the content as RFC 1870 counts them. */
static inline uint64_t body_scan_content_octets(const struct body_scan *scan)
{
    return scan->stored_octets - scan->stuffed_dots;
}
