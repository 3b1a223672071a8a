/*
 * segpool: the files of one device, who may write into which, and when one may be used again.
 *
 * A segment goes NONE → MAKING (written with zeros, synced) → FREE → HEADING (its new header is
 * being made durable) → READY → ACTIVE → SEALED → FREE again; a failed write makes it POISONED, and
 * once empty it is unlinked (GONE) instead of reused. READY segments are prepared ahead, one per
 * stream, so that a commit never waits for a file. On the first device, which has the outcome
 * stream, at least SEGPOOL_RESERVE free ones are kept for outcomes and checkpoints, which free
 * space: the message stream gets only what is above them. When nothing is above them and no file
 * can be made, the pool is low: mail goes to other devices or is refused, and what the message
 * stream still has here (the rest of its active segment and the READY one) is for the copies of
 * stragglers, which free segments too.
 *
 * What the disk refuses is tried again each second and no faster, and files that could not be
 * unlinked are, before another one is made: a fault that lasts uses up nothing.
 *
 * A device that only delivers gets no new segments for mail, and every segment that becomes empty
 * is unlinked. When it has no file left, the superblock forgets it: it may be taken away.
 */
#pragma once

#include "core/base/err.h"
#include "core/io/io.h"
#include "queue/segfmt.h"
#include "queue/spool.h"

#include <errno.h>
#include <stdatomic.h>

#define SEGPOOL_RESERVE   2u
#define SEGPOOL_COUNT_MIN 8u /* files without which the spool cannot turn over */

enum segment_state {
    SEGMENT_NONE,     /* no file */
    SEGMENT_MAKING,   /* being written with zeros */
    SEGMENT_FREE,     /* nothing in it is needed */
    SEGMENT_HEADING,  /* the new header is being written */
    SEGMENT_READY,    /* prepared for its stream */
    SEGMENT_ACTIVE,   /* takes commits */
    SEGMENT_SEALED,   /* takes no more */
    SEGMENT_POISONED, /* a write failed, or the file is not as its header says; never reused */
    SEGMENT_FOREIGN,  /* not of this spool, or unreadable: never touched */
    SEGMENT_GONE,     /* unlinked; the slot rests until the next life, for readers' descriptors */
};

struct segment {
    int fd; /* -1 = none */
    uint32_t serial;
    uint32_t seed;
    uint32_t bytes;
    uint32_t end;        /* behind the last durable batch */
    uint32_t live;       /* records of messages appended here and not yet done */
    uint64_t live_bytes; /* about: of these records */
    uint32_t open;       /* of them chunks of messages in the making */
    uint32_t leaving;    /* of them done, by outcomes that are not durable yet */
    uint64_t leaving_bytes;
    uint64_t
        ended_bytes; /* of those that are done; what stood here at a start and is not live, too */
    uint32_t former; /* serial of the one before it in its stream */
    uint16_t slot;   /* over all devices; its file's name counts from the device's first one */
    uint8_t device;  /* index of the spool's devices */
    uint8_t number;  /* the device's, on the disk */
    uint8_t state;   /* enum segment_state */
    uint8_t stream;
    bool odd_size;       /* not of the size now asked for: unlinked when empty */
    bool is_rebuilt;     /* its header is damaged and was put together from the first batch */
    bool is_left;        /* FOREIGN because it could not be unlinked: that is tried again */
    bool was_used;       /* readers may have its file open */
    bool has_void;       /* `gone` holds for a batch at its end */
    uint64_t life;       /* that wrote it */
    uint64_t free_after; /* empty: this checkpoint must be complete before it is FREE; 0 = not */
    struct segfmt_void gone;
};

enum segpool_job {
    JOB_NONE,
    JOB_ZEROES,      /* a chunk of zeros is in flight */
    JOB_ZEROES_SYNC, /* ... and then their sync */
    JOB_SUPER,       /* more serials are being reserved */
    JOB_RETIRE,      /* the superblock is told to forget the device */
    JOB_HEADER,      /* the header is in flight */
    JOB_HEADER_SYNC,
};

/* A full disk and a met quota have one name, whoever says so. */
static inline int segpool_error(int error)
{
    return error == -ENOSPC || error == -EDQUOT ? E_LOW_SPACE : error;
}

struct spool;

/* Serials, given out to all devices from the one superblock. */
struct segpool_serials {
    uint32_t next;
    uint32_t limit;
    uint32_t wanted;       /* the limit that is being written */
    uint64_t super_writes; /* of the superblock, ever */
    bool is_writing;       /* by some pool's job */
};

struct segpool {
    struct spool *spool;
    const char *path;  /* of the device */
    uint8_t device;    /* index of the spool's devices */
    uint8_t number;    /* of the device, on the disk */
    bool takes_mail;   /* else it only delivers */
    bool has_outcomes; /* the first device */
    bool is_retired;   /* the superblock names it no more */
    bool by_sync;      /* write + fdatasync instead of one durable write */
    uint64_t min_free_bytes;
    struct segment *slots; /* of all of the spool's, those of this device */
    uint32_t slot_base;    /* their first one's number */
    uint32_t slot_count;
    uint32_t file_count; /* files that exist */
    uint32_t free_count;
    uint32_t left_count; /* files that could not be unlinked */
    uint32_t segment_bytes;
    uint64_t
        free_after_max; /* of any segment, ever: later checkpoints free no more than earlier ones */
    /* No outcome segment that takes no more commits has a lower serial. Raised by who looks through
     * them all (checkpoint.c). */
    uint32_t outcomes_floor;
    uint64_t space_left; /* of the file system above min_free_bytes, when last asked */
    struct segment *ready[STREAM_OUTCOMES + 1];
    uint32_t newest[STREAM_OUTCOMES + 1]; /* serials: the chain that shows a missing segment */
    /* How far each slot's outcome segment may be read: serial << 32 | end; 0 = not at all. */
    _Atomic uint64_t *published; /* by distance from slot_base */

    enum segpool_job job;
    struct segment *job_segment;
    uint8_t job_stream;
    uint32_t job_at;
    struct io_op job_op;
    struct io_timer retry;
    bool stuck;     /* no file can be made at present; the timer tries again */
    bool rests;     /* a header could not be written; the timer tries again */
    int failure;    /* why stuck or resting, 0 when the last job went well */
    bool is_direct; /* descriptors are O_DIRECT */
    uint8_t *zeros;
    uint8_t *block;
};

/* slots: one per file that may ever exist in this life; owned by the spool. The description of the
 * device (path to min_free_bytes) is filled in already. */
void segpool_init(struct segpool *pool, struct spool *spool, struct segment *slots, uint32_t base,
                  uint32_t count);
void segpool_fini(struct segpool *pool);
/* Starts the preparation that is wanted most. */
void segpool_turn(struct segpool *pool);
static inline bool segpool_is_idle(const struct segpool *pool)
{
    return pool->job == JOB_NONE;
}
/* The prepared segment of the stream, now its owner's and ACTIVE; NULL = not yet. */
struct segment *segpool_take(struct segpool *pool, enum segfmt_stream stream);
/* False when none is prepared for the stream and none can be made as things are. */
bool segpool_can_serve(const struct segpool *pool, enum segfmt_stream stream);
/* Why there is none: E_LOW_SPACE, also for a full disk or quota, or what else the disk said. */
int segpool_shortage(const struct segpool *pool);
/* What is left is for outcomes and for copies of stragglers. */
bool segpool_is_low(const struct segpool *pool);
/* About how many segments mail could still take here. */
uint64_t segpool_room(const struct segpool *pool);
/* Every file is gone and the superblock could forget the device. */
static inline bool segpool_is_empty(const struct segpool *pool)
{
    return pool->file_count == 0 && pool->job == JOB_NONE;
}
/* The lowest serial that the stream's next segment may have. */
uint32_t segpool_next_serial(const struct segpool *pool, enum segfmt_stream stream);
/* Path of the slot's file, into room of SPOOL_PATH_MAX + 32 bytes; any thread. */
void segpool_path(const struct segpool *pool, uint16_t slot, char *room);
/* How messages to the operator name a file: on the first device without the directory. */
const char *segpool_told_name(const struct segpool *pool, const struct segment *segment,
                              char *room);
/* Nothing in it lives: free as soon as a checkpoint that begins from now on is complete. */
void segpool_note_empty(struct segpool *pool, struct segment *segment);
/* No more commits go in. */
void segpool_seal(struct segpool *pool, struct segment *segment);
void segpool_poison(struct segpool *pool, struct segment *segment);
/* So many records of this segment, of so many bytes in all, are dead as soon as an outcome on its
 * way to the disk is durable; and that it is. */
void segpool_records_leave(struct segment *segment, uint32_t count, uint64_t bytes);
void segpool_records_left(struct segpool *pool, struct segment *segment, uint32_t count,
                          uint64_t bytes);
/* So many records of this segment, of so many bytes in all, are dead, durably. */
void segpool_records_done(struct segpool *pool, struct segment *segment, uint32_t count,
                          uint64_t bytes);
static inline void segpool_message_done(struct segpool *pool, struct segment *segment,
                                        uint32_t bytes)
{
    segpool_records_done(pool, segment, 1, bytes);
}
/* Nothing in it is needed any more: FREE, or unlinked when it must not be used again. */
void segpool_release(struct segpool *pool, struct segment *segment);
/* Readers of other threads may read up to `end`. Not before the first commit here is durable: to
 * them it says that the segment before is complete. */
void segpool_publish(struct segpool *pool, struct segment *segment);
/* Opens (or creates) the segment's file for reading and writing, O_DIRECT where that works. */
int segpool_file_open(struct segpool *pool, struct segment *segment, bool create);
/* Synchronous, before anything runs: makes the READY segments of the device's streams. What fails
 * for messages on another device than the first is tried again later. */
int segpool_prepare_now(struct segpool *pool);
/* Synchronous: the READY segment of a stream that has none, from the reserve or beyond the
 * operator's limits if need be. */
int segpool_prepare_beyond_limits_now(struct segpool *pool, enum segfmt_stream stream);
/* Synchronous: the superblock with the spool's life and more serials reserved. */
int segpool_super_write_now(struct spool *spool);
