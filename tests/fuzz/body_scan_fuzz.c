/*
 * The scanner of message data against itself: the first octet chooses the flags and how the rest is
 * cut; whole and cut must agree, and with repair the stored form must be clean.
 */
#include "core/base/must.h"
#include "core/mail/body_scan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct stored {
    uint8_t *octets;
    size_t len;
    size_t used;
    struct body_scan scan;
};

static void scan(struct stored *out, unsigned flags, const uint8_t *data, size_t len, size_t step)
{
    struct slice piece;

    /* At worst each octet becomes four ("..CRLF"), and a CRLF is added. */
    out->octets = malloc(4 * len + 8);
    out->len = 0;
    out->used = 0;
    body_scan_init(&out->scan, flags, 100);
    while (out->used < len && !out->scan.ended) {
        size_t end = out->used + step < len ? out->used + step : len;

        while (out->used < end && !out->scan.ended) {
            size_t used = body_scan_next(&out->scan, data + out->used, end - out->used, &piece);

            must(used > 0 || piece.len > 0);
            memcpy(out->octets + out->len, piece.data, piece.len);
            out->len += piece.len;
            out->used += used;
        }
    }
    if ((flags & BODY_SCAN_RAW) != 0) {
        body_scan_finish(&out->scan, &piece);
        memcpy(out->octets + out->len, piece.data, piece.len);
        out->len += piece.len;
    }
    must(out->scan.stored_octets == out->len);
}

static void check_clean(const struct stored *out)
{
    for (size_t at = 0; at < out->len; at++) {
        uint8_t octet = out->octets[at];
        bool behind_cr = at > 0 && out->octets[at - 1] == '\r';
        bool at_start = at == 0 || out->octets[at - 1] == '\n';

        must(octet != 0);
        must((octet == '\n') == behind_cr);
        must(!at_start || octet != '.' || at + 1 == out->len || out->octets[at + 1] != '\r');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct stored whole;
    struct stored cut;
    unsigned flags;
    size_t step;

    if (len == 0)
        return 0;
    flags = data[0] & 3;
    step = 1 + (data[0] >> 2);
    scan(&whole, flags, data + 1, len - 1, len);
    scan(&cut, flags, data + 1, len - 1, step);
    must(whole.scan.ended == cut.scan.ended && whole.used == cut.used);
    must(whole.scan.findings == cut.scan.findings);
    must(whole.scan.stuffed_dots == cut.scan.stuffed_dots);
    must(whole.len == cut.len);
    must(whole.len == 0 || memcmp(whole.octets, cut.octets, whole.len) == 0);
    if ((flags & BODY_SCAN_REPAIR) != 0)
        check_clean(&whole);
    free(whole.octets);
    free(cut.octets);
    return 0;
}
