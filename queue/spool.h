/*
 * spool: the durable queue: messages, outcomes and state in a segment log with group commit.
 *
 * One spool owns one directory or several, each meant for a disk of its own (a *device*), and runs
 * on one loop in the committer's role; shards reach it only by parcels over mailboxes and get every
 * request back with its status. Each device has a stream of segments for messages, committed as
 * soon as the device's former commit is done: commits of different devices are under way at once.
 * The first one has the only stream of outcomes too (committed at latest outcome_hold_ms after the
 * first one waits). The format stands byte by byte in segfmt.h.
 *
 * What it promises: a log_message that comes back with status 0 is on stable storage. One that
 * comes back negative but not E_POISONED is void for ever: a durable void record says so, and no
 * recovery will show it. E_POISONED means that this cannot be written at present: the client must
 * get no reply at all, and nothing is accepted until the disk works again. A device that is short
 * of space, or on which commits fail, gets no new messages while another one takes them. Segments
 * are recycled only when they are empty, the outcomes that emptied them are durable, a complete
 * checkpoint began later, and (outcome segments) every cursor has passed. What it never does:
 * decide about delivery, read the clock of the wall, allocate in a steady turn, rewrite a block
 * that holds acknowledged bytes.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "core/obs/outcome.h"

struct spool;

/* Bytes of a record's header: the payload starts so far behind place.offset. */
#define LOG_RECORD_HEADER_BYTES 32u

/* ---- Places in the log ---------------------------------------------------------------------- */

/* Where a record lies. serial is the segment's number, unique for ever over all devices; slot names
 * its file, and with it the device. */
struct log_place {
    uint32_t serial;
    uint32_t offset; /* of the record's header */
    uint32_t bytes;  /* header and payload */
    uint16_t slot;
    uint16_t large; /* 0: a whole message, or no message. Else a commit record, whose content lies
                       in chunks: its octets in units of LOG_LARGE_UNIT, rounded up */
};

/*
 * ---- Messages in chunks -----------------------------------------------------------------------
 *
 * A message above one chunk is written while it arrives: SPOOL_APPEND_CHUNK for each, and when all
 * of them are answered 0, SPOOL_APPEND_COMMIT, whose record names them and makes the message.
 * Chunks that no commit will name are given up by SPOOL_DROP_CHUNKS; a crash gives up by itself.
 */
#define LOG_CHUNK_OCTETS_MAX 65536u
#define LOG_CHUNK_HEAD_BYTES 12u /* in front of a chunk's octets: u64 message id, u32 number */
#define LOG_CHUNK_BYTES      20u /* of a chunk's entry in a commit record */
#define LOG_LARGE_UNIT       65536u

struct log_chunk {
    uint32_t serial;
    uint32_t offset; /* of the record's header */
    uint32_t octets;
    uint32_t crc; /* CRC32C of the octets */
    uint16_t slot;
    bool is_fresh; /* written for this commit record */
};

/* What stands behind the envelope of a commit record. Views. */
struct log_commit {
    const uint8_t *chunks; /* entries */
    uint32_t chunk_count;
    struct slice rest; /* of the content, behind the chunks */
};

/* The most octets that a chunk of this spool should have. */
uint32_t log_chunk_octets(uint64_t segment_bytes);
/* place.large of a message with so much content. */
uint16_t log_large_of(uint64_t content_octets);
/* LOG_CHUNK_HEAD_BYTES. */
void log_chunk_head_put(uint64_t message_id, uint32_t number, uint8_t *room);
/* LOG_CHUNK_BYTES at entries + LOG_CHUNK_BYTES * index. */
void log_chunk_put(const struct log_chunk *chunk, uint8_t *entries, uint32_t index);
void log_chunk_get(const uint8_t *entries, uint32_t index, struct log_chunk *ret_chunk);
/* Where the chunk's octets begin in its file. */
static inline uint64_t log_chunk_octets_at(const struct log_chunk *chunk)
{
    return (uint64_t)chunk->offset + LOG_RECORD_HEADER_BYTES + LOG_CHUNK_HEAD_BYTES;
}
/* 0, or E_DAMAGED when the payload behind the envelope cannot be that of a commit record with
 * content_octets in all. */
int log_commit_decode(struct slice payload, uint64_t content_octets, struct log_commit *ret_commit);

/* ---- Requests: parcels from shards, all answered -------------------------------------------- */

enum spool_parcel_kind {
    SPOOL_APPEND_MESSAGE = 0x100, /* struct log_request; answered when durable or void */
    SPOOL_APPEND_OUTCOME,         /* struct log_request; answered once copied, or when durable if
                                     LOG_WANTS_SYNC is set */
    SPOOL_APPEND_STATE,           /* struct log_request: checkpoint state of one message */
    SPOOL_APPEND_NAMED,           /* struct log_request: named state, see log_named */
    SPOOL_CHECKPOINT_DONE,        /* the notice of SPOOL_CHECKPOINT_BEGIN on its way home, kind
                                     changed: this shard has posted all of its state */
    SPOOL_CURSOR_AT,              /* struct spool_notice: a cursor needs nothing before `place`;
                                     answered with the same parcel */
    SPOOL_EVACUATE_DONE,          /* the notice of SPOOL_EVACUATE on its way home, kind changed:
                                     what could be moved has been */
    SPOOL_APPEND_CHUNK,           /* struct log_request; answered when durable or void */
    SPOOL_APPEND_COMMIT,          /* struct log_request with its chunks; likewise */
    SPOOL_DROP_CHUNKS,            /* struct log_request with chunks, all answered 0 before: those
                                     that are fresh are dead. Answered at once */
    /* From the spool: */
    SPOOL_CHECKPOINT_BEGIN = 0x180, /* struct spool_notice: emit your state now, then DONE. State
                                       of every message whose append was answered 0 and that is
                                       not done, posted behind all else that concerns it */
    SPOOL_EVACUATE, /* struct spool_notice: copy forward what is live in the segment place.serial,
                       then DONE. Each message: append it again (LOG_IS_COPY), and when that is
                       answered 0, its state with LOG_MESSAGE_DONE. In between its last recipient
                       must not become final. Of a message in chunks only those that lie there need
                       be appended again: the new commit record takes over the others */
};

enum log_request_flags {
    LOG_WANTS_SYNC = 1,   /* outcome, named state: answer only when durable, commit at once */
    LOG_MESSAGE_DONE = 2, /* outcome: with it the message's last recipient is final. The bytes at
                             `place` are dead once this is durable. On APPEND_STATE: the message was
                             appended again, that is answered 0, the state names the new place,
                             and the copy at `place` is dead */
    LOG_IS_COPY = 4, /* message, chunk, commit: it is moved, see SPOOL_EVACUATE; taken while new
                        mail is refused */
};

/*
 * One append. Embedded in its owner's object; the payload must stay in place until the answer.
 * The parcel comes back with status set on the answer mailbox of the client named in parcel.from,
 * which need not be the client whose mailbox brought it: a home passes on its owners' outcomes.
 *
 * Negative for a message: E_LOW_SPACE, E_TOO_LONG (larger than a segment holds), E_CLOSED, or
 * the error of the disk; in all these cases the message will never be seen again. The same for a
 * chunk and a commit record, whose chunks are then still to be dropped. For everything
 * else only E_POISONED, E_CLOSED, E_TOO_LONG, and for named state also E_DAMAGED (not encoded) and
 * -ENOMEM.
 */
struct log_request {
    struct parcel parcel; /* kind; from = client number, see spool_client_add */
    struct list link;     /* spool: batch membership */
    const struct iovec *payload;
    uint32_t payload_count;
    uint32_t payload_bytes;
    uint16_t flags;
    int32_t status;         /* answer: 0 or negative */
    uint64_t message_id;    /* APPEND_MESSAGE, APPEND_COMMIT, whatever has LOG_MESSAGE_DONE */
    struct log_place place; /* answer to APPEND_MESSAGE, _CHUNK and _COMMIT (whose place.large is
                               set by the asker); with LOG_MESSAGE_DONE: the place whose bytes are
                               dead */
    const uint8_t *chunks;  /* APPEND_COMMIT, DROP_CHUNKS: entries, in place until the answer */
    uint32_t chunk_count;
    uint32_t book; /* the spool's own */
};

struct spool_notice {
    struct parcel parcel;
    uint64_t number;        /* checkpoint number; cursor number */
    struct log_place place; /* SPOOL_CURSOR_AT */
    /* SPOOL_EVACUATE: messages with chunks there, whose commit records may lie elsewhere: the
     * places of these, serial << 32 | offset, ascending. In place until DONE. */
    const uint64_t *commits;
    uint32_t commit_count;
};

/* Named state: small facts that survive a restart, last one wins (queue paused, …). */
struct log_named {
    struct slice key;   /* 1 to 255 bytes */
    struct slice value; /* up to 1024 bytes; empty = the fact is gone */
};
int log_named_encode(const struct log_named *named, void *room, size_t room_bytes);

/* Checkpoint state of one live message: all that the restart needs without reading the message. */
struct log_message_state {
    uint64_t message_id;
    uint64_t accepted_us;
    struct log_place place;
    struct slice vmta; /* name of the VMTA the message is queued for */
    uint32_t rcpt_count;
    struct slice rcpts;  /* encoded; see log_state_rcpt_put / _next */
    uint32_t flow;       /* envelope_flow; 0 = unknown, written by an earlier version */
    uint64_t expires_us; /* by the message's own terms (terms.h); 0 = they do not say */
    uint8_t priority;    /* envelope_priority */
};

struct log_state_rcpt {
    struct slice domain; /* empty = the same as the recipient before; recovery gives
                            envelope_rcpt_host, "." where that is empty */
    bool is_final;       /* attempts and due_us are then not kept */
    uint16_t attempts;
    uint64_t due_us; /* wall clock; 0 = never attempted, due at once */
};

void log_state_rcpt_put(struct wire_writer *w, const struct log_state_rcpt *rcpt);
bool log_state_rcpt_next(struct wire_reader *r, struct log_state_rcpt *ret_rcpt);
int log_message_state_encode(const struct log_message_state *state, void *room, size_t room_bytes);
int log_message_state_decode(struct slice data, struct log_message_state *ret_state);

/* ---- Opening and recovery ------------------------------------------------------------------- */

#define SPOOL_DEVICES_MAX 7u

struct spool_directory {
    const char *path;        /* NULL ends the list */
    uint64_t min_free_bytes; /* file system space below which no new segment is made for mail */
    uint32_t priority;       /* mail goes to the devices with the highest one that take it */
    bool deliver_only;       /* takes no mail, and is emptied: see spool_device_state */
};

struct spool_options {
    struct spool_directory directories[SPOOL_DEVICES_MAX]; /* the first has the outcome log */
    uint64_t segment_bytes;                                /* multiple of 4096, 64 KiB to 1 GiB */
    uint32_t outcome_hold_ms;   /* longest wait of an outcome for its commit */
    uint32_t segment_count_max; /* files on each device, 8 to 30000 (4500 with several); more only
                                   when outcomes would have no place to go */
    uint32_t calibrate_ms;      /* how long to try commit modes at open, on each device; 0 =
                                   O_DIRECT + DSYNC */
    uint32_t checkpoint_bytes;  /* a checkpoint is due after so many bytes of log; 0 = default */
};

/* Called on the opening thread, before anything runs. */
struct spool_recovery {
    void *context;
    /* Each message with at least one recipient not final, once, by log place, which is about the
     * order of acceptance. rcpts of the state as in log_message_state. */
    void (*on_message)(void *context, const struct log_message_state *state);
    /* Each named state whose value is not empty, once. */
    void (*on_named)(void *context, const struct log_named *named);
    /* Damage that was found and stepped over: segment file, offset, text. Costs only what it
     * touched; the caller logs it. */
    void (*on_damage)(void *context, const char *file, uint64_t offset, const char *text);
    /* Why the spool does not open, where the error alone does not say it: the directory, and what
     * is wrong with it. Nothing was changed then. NULL = nobody listens. */
    void (*on_refusal)(void *context, const char *path, const char *text);
};

/* Branches that a start can take: name of the counter, what it counts. */
#define SPOOL_RECOVERY_BRANCHES(X)                                                                 \
    X(torn_tails_cut, "commits that a crash cut short, of which nobody had been told")             \
    X(damage_count, "places that should hold something and do not")                                \
    X(voids_applied, "batches taken back after their commit had failed")                           \
    X(locks_waited_for, "files that a killed life still held")                                     \
    X(reads_repeated, "reads that failed, and worked at a further try")                            \
    X(supers_damaged, "the superblock had only one good copy")                                     \
    X(headers_rebuilt, "segments whose header was put together from their first batch")            \
    X(files_unfinished, "files whose making was cut short, made anew")                             \
    X(messages_relogged, "messages of a commit in doubt, appended again")                          \
    X(starts_whole, "no checkpoint was complete: everything was read")                             \
    X(starts_at_newest, "read from the newest checkpoint")                                         \
    X(starts_at_older, "read from the checkpoint before the newest, which is damaged")             \
    X(starts_without_room, "no space for mail: started to deliver, not to accept")                 \
    X(devices_added, "directories that became a device of this spool")

struct spool_report {
    uint64_t life; /* number of this start of the spool, from 1, durable */
    uint64_t messages_live;
    uint64_t rcpts_live;
    uint64_t records_read;
#define SPOOL_REPORT_BRANCH(name, text) uint64_t name;
    SPOOL_RECOVERY_BRANCHES(SPOOL_REPORT_BRANCH)
#undef SPOOL_REPORT_BRANCH
    uint64_t bytes_read;
    const char *commit_mode; /* of the first device: "direct-dsync" or "fdatasync", with the
                                calibration's figures */
};

/*
 * Locks, recovers, makes this life's number durable and prepares the first segments. Synchronous
 * and possibly long. 0 or negative: E_LOCKED when another process has the spool, E_VERSION for
 * record types or formats that this build does not know, E_FOREIGN when a device of this spool is
 * not among the directories or one of them belongs elsewhere (on_refusal tells; nothing is touched
 * then). Recovering twice gives the same state; segments of former lives are never appended to. It
 * may turn the loop while it waits for the locks of a killed life (at most 5 s) and while it
 * calibrates: attach other actors afterwards. The callbacks come last, when everything else has
 * succeeded.
 */
int spool_open(struct io *io, const struct spool_options *options,
               const struct spool_recovery *recovery, struct spool **ret_spool,
               struct spool_report *ret_report);
/* Commits what waits and ends: done is called when all is durable and nothing is in flight. */
void spool_close(struct spool *spool, void (*done)(void *context), void *context);
/* Frees memory and descriptors; nothing may be in flight (after spool_close, or before running). */
void spool_destroy(struct spool *spool);

/*
 * Registers a client before the loops run: its requests come in on `requests` (consumer: the
 * spool's loop), answers go out on `answers`. Returns the client's number, to be put into
 * parcel.from. wants_checkpoints: the client emits state when asked (a shard; not a cursor).
 */
uint16_t spool_client_add(struct spool *spool, struct mailbox *requests, struct mailbox *answers,
                          bool wants_checkpoints);

/* ---- What others may look at ---------------------------------------------------------------- */

enum spool_health {
    SPOOL_HEALTHY,
    SPOOL_LOW_SPACE, /* no device takes new mail; outcomes still commit, from the reserve if need be
                      */
    SPOOL_LATE,      /* a commit of outcomes takes longer than a second: start no delivery, whose
                        outcome a crash would forget */
    SPOOL_STALLED,   /* outcomes find no segment, or the disk refuses them: accept no mail and start
                        no delivery */
    SPOOL_POISONED,  /* accept nothing, deliver nothing: only a restart helps */
};

/* All but the last end by themselves. */
struct spool_trouble {
    enum spool_health health;
    int error;         /* why it is not healthy: E_LOW_SPACE also for a full disk or quota, E_LATE,
                          E_POISONED, or what the disk says; 0 = healthy */
    uint64_t since_ns; /* of the clock of the loops */
};

struct spool_stats {
    uint64_t message_commits;
    uint64_t outcome_commits;
    uint64_t messages;
    uint64_t outcomes; /* that are durable; states, names and voids beside them do not count */
    uint64_t bytes_written;
    uint64_t commit_ns_total; /* time commits were in flight, summed */
    uint64_t failed_commits;
    uint64_t voids;
    uint64_t checkpoints;
    uint64_t recycled;
    uint64_t evacuations; /* segments whose stragglers were asked to move */
    uint32_t segments_total;
    uint32_t segments_free;
};

enum spool_device_state {
    SPOOL_DEVICE_WELL,      /* takes mail */
    SPOOL_DEVICE_LOW_SPACE, /* takes none for want of space */
    SPOOL_DEVICE_RESTING,   /* a commit failed there a moment ago: others come first */
    SPOOL_DEVICE_DRAINING,  /* deliver-only: what it holds is delivered, or copied to others */
    SPOOL_DEVICE_EMPTY,     /* deliver-only: holds nothing and is no part of the spool any more */
};

struct spool_device_stats {
    const char *path; /* valid as long as the spool */
    const char *commit_mode;
    uint32_t number; /* on the disk; 0 = the first, which has the outcome log */
    enum spool_device_state state;
    uint64_t commits;  /* of messages */
    uint64_t messages; /* made durable here */
    uint64_t bytes_written;
    uint64_t failed_commits; /* of messages */
    uint32_t segments_total;
    uint32_t segments_free;
};

/* No space for new mail: what is left is for outcomes, and for copies, which make some. */
static inline bool spool_health_is_short(enum spool_health health)
{
    return health == SPOOL_LOW_SPACE || health == SPOOL_STALLED;
}

/* A delivery that is started now might have to be repeated after a crash. */
static inline bool spool_health_holds_deliveries(enum spool_health health)
{
    return health >= SPOOL_LATE;
}

/* Relaxed reads; any thread. */
void spool_trouble_read(const struct spool *spool, struct spool_trouble *ret_trouble);
enum spool_health spool_health(const struct spool *spool);
void spool_stats_read(const struct spool *spool, struct spool_stats *ret_stats);
uint32_t spool_device_count(const struct spool *spool);
void spool_device_read(const struct spool *spool, uint32_t index,
                       struct spool_device_stats *ret_stats);

/* ---- Reading messages back ------------------------------------------------------------------ */

/* One per shard loop: keeps read descriptors of segment files. The spool outlives it. */
struct spool_reader;

struct spool_reader *spool_reader_create(struct io *io, const struct spool *spool);
void spool_reader_destroy(struct spool_reader *reader);
/* A descriptor to io_read the record at place.offset; negative on failure. */
int spool_reader_fd(struct spool_reader *reader, const struct log_place *place);
/*
 * Checks a message record that was read (header and payload, scattered over iov in order) against
 * its place and id. 0, or E_DAMAGED. For place.large it must be a commit record.
 */
int spool_reader_check(const struct log_place *place, uint64_t message_id, const struct iovec *iov,
                       uint32_t iov_count);

/* ---- Cursors on the outcome log ------------------------------------------------------------- */

/*
 * A cursor reads outcome records in log order, only durable and not void ones. It lives on the
 * control thread and reads with io_file_read_now; the spool publishes how far is durable. Tell the
 * spool by SPOOL_CURSOR_AT what may go.
 */
struct spool_cursor;

/*
 * from: serial 0 = the oldest outcome kept. number: distinct per cursor. A cursor of a former life
 * is created before the spool's loop runs, or what it has not read may be recycled meanwhile.
 */
struct spool_cursor *spool_cursor_create(struct spool *spool, struct io *io, uint64_t number,
                                         const struct log_place *from);
void spool_cursor_destroy(struct spool_cursor *cursor);
/*
 * 1 and the payload of the next outcome (valid until the next call) with the place just behind it
 * in *ret_after; 0 when all that is durable has been read; negative on failure.
 */
int spool_cursor_next(struct spool_cursor *cursor, struct slice *ret_outcome,
                      struct log_place *ret_after);
