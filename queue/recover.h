/*
 * recover: what the log says, read at the start and told once everything is known.
 *
 * The outcome stream is read first, whole, for voids and checkpoints; then the message stream from
 * the place that the chosen checkpoint names; then the outcome stream again from that checkpoint's
 * BEGIN. Nothing on the disk is changed, so reading twice gives the same. Records or formats that
 * this build does not know end it before anything was told.
 */
#pragma once

#include "queue/recover_table.h"
#include "queue/scan.h"
#include "queue/spool_int.h"

/* A stretch of a segment that should hold records and does not. */
struct recover_gap {
    struct segment *segment;
    uint32_t offset;
    uint32_t batch; /* headers seen before it: is it in the last commit of its segment? */
    const char *text;
};

/* A checkpoint as found in the log. */
struct recover_checkpoint {
    uint64_t number;
    uint32_t begin_serial;
    uint32_t begin_offset;
    uint32_t end_serial; /* 0 = not complete */
    uint32_t end_offset;
    struct segfmt_checkpoint point; /* of BEGIN: where the message stream must be read from */
    bool is_void;
};

struct recover_seen {
    uint32_t batches; /* headers */
    uint32_t records;
    bool from_start; /* the whole segment was read */
};

struct recover {
    struct spool *spool;
    const struct spool_recovery *callbacks;
    struct spool_report *report;
    struct recover_table table;
    struct named_table *named;
    struct segment **order[STREAM_OUTCOMES + 1]; /* by serial */
    uint32_t order_count[STREAM_OUTCOMES + 1];
    struct recover_seen *seen; /* per slot */
    struct recover_gap *gaps;
    uint32_t gap_count;
    uint32_t gap_room;
    struct recover_checkpoint *points;
    uint32_t point_count;
    uint32_t point_room;
    const struct recover_checkpoint *chosen; /* NULL = read everything */
    const struct recover_checkpoint *newest; /* complete; not chosen when damage touched it */
    bool is_fallback; /* an older checkpoint than the newest complete one was chosen */
    uint64_t sequence_max;
    uint32_t lost_serial; /* the missing segment that was reported last */
};

/* The segments stand in the spool's pool, opened, locked and with their headers read. */
int recover_run(struct recover *recover, struct spool *spool,
                const struct spool_recovery *callbacks, struct spool_report *report);
/* Sets the segments' states: former lives' are read, never written. */
void recover_settle(struct recover *recover);
/* Calls on_message and on_named for everything that is live. */
int recover_tell(struct recover *recover);
void recover_fini(struct recover *recover);
/* Reports damage through the callbacks. */
void recover_damage(struct recover *recover, uint16_t slot, uint64_t offset, const char *text);
