/*
 * recover: what the log says, read at the start and told once everything is known.
 *
 * The outcome stream is read first, whole, for voids and checkpoints; then each device's message
 * stream from the place that the chosen checkpoint names; then the outcome stream again from that
 * checkpoint's BEGIN. Nothing on the disk is changed, so reading twice gives the same. Records or
 * formats that this build does not know end it before anything was told.
 */
#pragma once

#include "queue/recover_table.h"
#include "queue/scan.h"
#include "queue/spool_int.h"

/* Stretches of a segment that should hold records and do not, with no batch header in between. */
struct recover_gap {
    struct segment *segment;
    uint32_t offset; /* where the first one begins */
    uint32_t last;   /* ... and the last one */
    uint32_t count;
    uint32_t batch; /* headers seen before it: is it in the last commit of its segment? */
    const char *text;
};

/* What of one file's damage was not told line by line. */
struct recover_untold {
    uint32_t told;
    uint64_t count;
    uint64_t first;
    uint64_t last;
};

/* A checkpoint as found in the log. */
struct recover_checkpoint {
    uint64_t number;
    uint32_t begin_serial;
    uint32_t begin_offset;
    uint32_t end_serial; /* 0 = not complete */
    uint32_t end_offset;
    struct segfmt_begin point; /* of BEGIN: where the message streams must be read from */
    bool is_void;
};

struct recover_seen {
    uint32_t batches; /* headers */
    uint32_t records;
    uint32_t tail;   /* offset of the last header, or where the reading began */
    bool from_start; /* the whole segment was read */
};

/* The segments of one log, by serial. */
struct recover_order {
    struct segment **segments;
    uint32_t count;
};

struct recover {
    struct spool *spool;
    const struct spool_recovery *callbacks;
    struct spool_report *report;
    struct recover_table table;
    struct named_table *named;
    struct recover_order outcomes;
    struct recover_order messages[SPOOL_DEVICES_MAX]; /* by the device's index */
    struct recover_seen *seen;                        /* per slot */
    struct recover_untold *untold;                    /* per slot */
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
    uint8_t *record;      /* room for one, see recover_record */
    size_t record_room;
};

/* The segments stand in the spool's pool, opened, locked and with their headers read. */
int recover_run(struct recover *recover, struct spool *spool,
                const struct spool_recovery *callbacks, struct spool_report *report);
/* The log that the segment is part of. */
static inline const struct recover_order *recover_order_of(const struct recover *recover,
                                                           const struct segment *segment)
{
    return segment->stream == STREAM_OUTCOMES ? &recover->outcomes
                                              : &recover->messages[segment->device];
}
/* Sets the segments' states: former lives' are read, never written. */
void recover_settle(struct recover *recover);
/* Calls on_message and on_named for everything that is live. */
int recover_tell(struct recover *recover);
void recover_fini(struct recover *recover);
/*
 * io_file_read_now for a start: what fails is tried again a few times, since a record that was not
 * read now is given up for good once this life has checkpointed without it.
 */
int64_t recover_read(struct io *io, int fd, void *data, size_t len, uint64_t offset,
                     struct spool_report *report);

/* recover_gaps.c: damage, and what gaps mean. */

/* Reports damage through the callbacks: the first few places of each file one by one. */
void recover_damage(struct recover *recover, uint16_t slot, uint64_t offset, const char *text);
/* The rest, one line a file: how many places and between which offsets. */
void recover_damage_end(struct recover *recover);
/* 0 or -ENOMEM. */
int recover_gap_note(struct recover *recover, struct segment *segment,
                     const struct scan_record *found);
/* Damage between the checkpoint's BEGIN and END may have cost STATE records. */
bool recover_gaps_spare(const struct recover *recover, const struct recover_checkpoint *point);
/* Once all is read: tells torn tails from damage. */
void recover_gaps_judge(struct recover *recover);

/* recover_chunks.c */

/*
 * Reads the commit record of a live message and enters its chunks into the spool's book; their
 * segments are kept. When an older checkpoint is read and a chunk's segment has been used again
 * since, the message counts as done. Damage is reported and costs the message when it is read. 0 or
 * -ENOMEM.
 */
int recover_chunks(struct recover *recover, struct recover_message *message);
/* The message's record at its place, summed up: 0, E_DAMAGED, or what reading it said. Room is
 * grown as needed; the record begins at *room. */
int recover_record(struct recover *recover, const struct recover_message *message, uint8_t **room,
                   size_t *room_bytes);
struct segment *recover_segment(struct recover *recover, uint32_t serial);

/* recover_relog.c */

/*
 * Makes durable what is about to be told and may not be: after a failed sync the system may show
 * bytes that the disk does not have, and syncing again does not bring them there. What the last
 * commit of each message stream wrote is in doubt, since nothing testifies that it succeeded; the
 * live messages in it are appended again to a segment of this life, on the same device where that
 * can be. Synchronous. 0, or negative
 * when that cannot be made durable; with no space at all they are left where they are.
 */
int recover_relog(struct recover *recover);
