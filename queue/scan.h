/*
 * scan: the records of one segment in order, stepping over whatever is damaged.
 *
 * Reads through a window of about a megabyte; a record larger than that is summed up in passing and
 * only the part that is asked for is kept. Where a record or batch header is not valid, it looks
 * for the next valid one at every multiple of 8 bytes, so that damage costs only the records it
 * touches. What is torn and what is damaged cannot be told from one place alone: the scan counts
 * batch headers, and a gap that no batch header follows belongs to the last commit. Pure but for
 * the read function; one thread.
 */
#pragma once

#include "queue/segfmt.h"

struct scan_source {
    /* Fills len bytes (a multiple of 4096 at a multiple of 4096), or up to the end of the file; the
     * count, or negative. */
    int64_t (*read)(void *context, void *data, size_t len, uint64_t offset);
    void *context;
};

struct scan {
    struct scan_source source;
    uint8_t uuid[SEGFMT_UUID_BYTES];
    uint32_t serial;
    uint32_t seed;
    uint64_t at;
    uint64_t limit; /* nothing is read behind it */
    uint64_t batch_end;
    bool in_batch;
    bool batch_end_known; /* false after a resume: the end is where no record follows */
    uint32_t batches;     /* batch headers seen */
    uint64_t batch_at;    /* of the last one of them */
    uint32_t read_errors; /* blocks that could not be read, taken as zeros */
    uint64_t bytes_read;
    uint64_t end; /* behind the last valid record or batch header, a multiple of 4096 */
    uint8_t *window;
    size_t window_room;
    uint64_t window_at;
    size_t window_len;
};

enum scan_event {
    SCAN_END,    /* nothing valid up to the limit */
    SCAN_RECORD, /* a valid record */
    SCAN_GAP,    /* a stretch that should hold records and holds none */
};

struct scan_record {
    uint8_t type;
    uint8_t flags;
    uint64_t sequence;
    uint32_t offset; /* SCAN_GAP: where it begins */
    uint32_t payload_bytes;
    struct slice payload; /* whole; of a MESSAGE or COMMIT at least its
                            envelope, of a CHUNK nothing. Valid until the next call */
    const char *text;     /* SCAN_GAP: what was found there */
    uint32_t batch;       /* SCAN_GAP: batches seen before it */
};

/* from: 4096, or the offset of any record or batch. */
void scan_init(struct scan *scan, const struct scan_source *source, const uint8_t *uuid,
               uint32_t serial, uint64_t from, uint64_t limit);
/* The same for another segment, with the window of the one before. */
void scan_restart(struct scan *scan, const struct scan_source *source, const uint8_t *uuid,
                  uint32_t serial, uint64_t from, uint64_t limit);
void scan_fini(struct scan *scan);
/* The segment has grown. */
void scan_extend(struct scan *scan, uint64_t limit);
enum scan_event scan_next(struct scan *scan, struct scan_record *ret_record);
