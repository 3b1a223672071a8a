/* The start of a spool: locks, superblock, segment files, recovery, and this life's first segments.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/planted.h"
#include "queue/recover.h"

#include <errno.h>
#include <stdio.h>

#define LOCK_WAIT_NS       5000000000ull
#define LOCK_RETRY_NS      5000000ull
#define SLOTS_SPARE        64u /* slots that unlinked files may use up in one life */
#define SLOTS_MAX          60000u
#define TRIAL_COMMITS      4u /* of each mode in one round */
#define BLANK_WINDOW_BYTES (1u << 20)

/*
 * A killed life's writes may land after its process is gone; the lock on the descriptor they go
 * through is held until then. So nothing is read before every lock is ours.
 */
static int lock_wait(struct spool *spool, int fd, uint64_t deadline_ns, struct spool_report *report)
{
    bool was_held = false;
    int result;

    if (planted("queue/lock-not-waited-for"))
        return 0;
    while ((result = io_file_lock(spool->io, fd)) == E_LOCKED) {
        report->locks_waited_for += was_held ? 0 : 1;
        was_held = true;
        if (io_now_ns(spool->io) >= deadline_ns)
            return E_LOCKED;
        io_turn(spool->io, LOCK_RETRY_NS);
    }
    return result;
}

static bool is_zero(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

/* ---- Superblock ---------------------------------------------------------------------------- */

struct super_seen {
    struct segfmt_super super;
    bool found;
};

static int super_read(struct spool *spool, struct super_seen *ret_seen, struct spool_report *report)
{
    uint8_t *blocks = mem_alloc(SEGFMT_SUPER_BYTES);
    int64_t got = recover_read(spool->io, spool->super_fd, blocks, SEGFMT_SUPER_BYTES, 0, report);
    bool is_damaged = false;
    int result = got < 0 ? (int)got : 0;

    memset(ret_seen, 0, sizeof(*ret_seen));
    for (uint32_t at = 0; at + SEGFMT_BLOCK <= SEGFMT_SUPER_BYTES && result == 0;
         at += SEGFMT_BLOCK) {
        struct segfmt_super super;

        result = segfmt_super_decode(blocks + at, &super);
        if (result == 0 && (!ret_seen->found || super.writes > ret_seen->super.writes)) {
            ret_seen->super = super;
            ret_seen->found = true;
        }
        if (result == E_DAMAGED) {
            /* The second copy is blank until the second start. */
            is_damaged |= !is_zero(blocks + at, SEGFMT_BLOCK);
            result = 0;
        }
    }
    report->supers_damaged += is_damaged && ret_seen->found ? 1 : 0;
    mem_free(blocks);
    return result;
}

static int super_open(struct spool *spool, uint64_t deadline_ns, struct super_seen *ret_seen,
                      struct spool_report *report)
{
    char path[SPOOL_PATH_MAX + 32];
    int result;

    spool_file_path(spool->path, "super", path);
    result = io_file_open(spool->io, path, IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE,
                          &spool->super_fd);
    if (result < 0)
        return result;
    result = lock_wait(spool, spool->super_fd, deadline_ns, report);
    if (result == 0)
        result = io_file_sync_now(spool->io, spool->super_fd);
    if (result < 0)
        return result;
    return super_read(spool, ret_seen, report);
}

/* ---- Segment files ------------------------------------------------------------------------- */

struct listing {
    uint16_t *slots;
    uint32_t count;
    uint32_t room;
    uint32_t highest;
};

static void note_name(void *context, const char *name)
{
    struct listing *listing = context;
    uint16_t slot;

    if (!segfmt_name_parse(name, &slot))
        return;
    if (listing->count == listing->room) {
        uint32_t room = listing->room == 0 ? 256 : listing->room * 2;
        uint16_t *larger = mem_alloc(room * sizeof(*larger));

        if (listing->count > 0)
            memcpy(larger, listing->slots, listing->count * sizeof(*larger));
        mem_free(listing->slots);
        listing->slots = larger;
        listing->room = room;
    }
    listing->slots[listing->count++] = slot;
    if (slot > listing->highest)
        listing->highest = slot;
}

/* What is known of an open file before its records are read. */
struct opened {
    struct segfmt_header header;
    uint64_t size;
    int header_result;
    bool is_blank; /* nothing but zeros: a file whose making was cut short */
};

/* The whole file: zeros in place of the header alone are damage, and the records may be there. */
static bool file_is_zero(struct spool *spool, int fd, uint64_t size, struct spool_report *report)
{
    uint8_t *window = mem_alloc_aligned(BLANK_WINDOW_BYTES, SEGFMT_BLOCK);
    bool is_blank = true;
    int64_t got = 1;

    for (uint64_t at = 0; at < size && is_blank && got > 0; at += (uint64_t)got) {
        got = recover_read(spool->io, fd, window, BLANK_WINDOW_BYTES, at, report);
        is_blank = got >= 0 && is_zero(window, (size_t)got);
    }
    mem_free(window);
    return is_blank;
}

/* A header that rotted away is put together again from the first batch, which repeats most of it.
 */
static int header_from_batch(struct spool *spool, uint16_t slot, uint64_t size,
                             struct segfmt_header *ret_header, struct spool_report *report)
{
    uint8_t *block = spool->pool.block;
    struct segfmt_batch batch;
    int64_t got = recover_read(spool->io, spool->pool.slots[slot].fd, block, SEGFMT_BLOCK,
                               SEGFMT_BLOCK, report);

    if (got != SEGFMT_BLOCK || !segfmt_batch_decode(block, spool->uuid, &batch))
        return E_DAMAGED;
    memset(ret_header, 0, sizeof(*ret_header));
    memcpy(ret_header->uuid, spool->uuid, SEGFMT_UUID_BYTES);
    ret_header->stream = batch.stream;
    ret_header->serial = batch.serial;
    ret_header->slot = slot;
    ret_header->life = batch.life;
    ret_header->segment_bytes = size < SEGFMT_SEGMENT_MAX ? size : SEGFMT_SEGMENT_MAX;
    ret_header->sequence = batch.sequence;
    return 0;
}

static int segment_open(struct spool *spool, uint16_t slot, uint64_t deadline_ns,
                        struct opened *ret_opened, struct spool_report *report)
{
    struct segment *segment = &spool->pool.slots[slot];
    int64_t got;
    int result;

    memset(ret_opened, 0, sizeof(*ret_opened));
    result = segpool_file_open(&spool->pool, slot, false, &segment->fd);
    if (result < 0)
        return result;
    spool->pool.file_count++;
    segment->state = SEGMENT_FOREIGN;
    result = lock_wait(spool, segment->fd, deadline_ns, report);
    if (result == 0)
        result = io_file_size(spool->io, segment->fd, &ret_opened->size);
    /* What is read below must not vanish in a power cut after it was acted upon. */
    if (result == 0)
        result = io_file_sync_now(spool->io, segment->fd);
    if (result < 0)
        return result;
    got = recover_read(spool->io, segment->fd, spool->pool.block, SEGFMT_BLOCK, 0, report);
    if (got < (int64_t)SEGFMT_BLOCK) {
        ret_opened->is_blank = got >= 0 && is_zero(spool->pool.block, (size_t)got);
        ret_opened->header_result = E_DAMAGED;
        return 0;
    }
    ret_opened->is_blank = is_zero(spool->pool.block, SEGFMT_BLOCK) &&
                           file_is_zero(spool, segment->fd, ret_opened->size, report);
    ret_opened->header_result = segfmt_header_decode(spool->pool.block, &ret_opened->header);
    return ret_opened->header_result == E_VERSION ? E_VERSION : 0;
}

/* Damage that is found before the recovery proper. */
static void damage(const struct spool_recovery *recovery, struct spool_report *report,
                   uint16_t slot, const char *text)
{
    char name[SEGFMT_NAME_BYTES] = "super";

    if (slot != UINT16_MAX)
        segfmt_name(slot, name);
    report->damage_count++;
    recovery->on_damage(recovery->context, name, 0, text);
}

/* Takes the file into the pool as a sealed segment, if it is one of ours. */
static void segment_take(struct spool *spool, uint16_t slot, struct opened *opened,
                         const struct spool_recovery *recovery, struct spool_report *report)
{
    struct segment *segment = &spool->pool.slots[slot];
    struct segfmt_header *header = &opened->header;

    if (opened->header_result < 0) {
        if (header_from_batch(spool, slot, opened->size, header, report) < 0) {
            damage(recovery, report, slot, "the segment's header is damaged: file left alone");
            return;
        }
        report->headers_rebuilt++;
        damage(recovery, report, slot, "the segment's header is damaged, its records are not");
        segment->is_rebuilt = true;
    }
    if (memcmp(header->uuid, spool->uuid, SEGFMT_UUID_BYTES) != 0) {
        damage(recovery, report, slot, "the segment belongs to another spool: file left alone");
        return;
    }
    if (header->slot != slot) {
        damage(recovery, report, slot, "the file is a copy of another segment: left alone");
        return;
    }
    if (opened->size < header->segment_bytes)
        damage(recovery, report, slot, "the file is shorter than its header says");
    segment->state = SEGMENT_SEALED;
    segment->was_used = true;
    segment->stream = header->stream;
    segment->serial = header->serial;
    segment->seed = segfmt_seed(header->uuid, header->serial);
    segment->life = header->life;
    segment->former = header->former;
    segment->odd_size =
        header->segment_bytes != spool->pool.segment_bytes || opened->size != header->segment_bytes;
    segment->bytes =
        (uint32_t)(opened->size < header->segment_bytes ? opened->size : header->segment_bytes);
    segment->end = SEGFMT_BLOCK;
    if (header->serial >= spool->pool.serial_next)
        spool->pool.serial_next = header->serial + 1;
    if (header->sequence >= spool->sequence_next)
        spool->sequence_next = header->sequence;
    if (header->life > spool->life)
        spool->life = header->life;
}

static uint32_t headers_with(const struct opened *opened, uint32_t count, const uint8_t *uuid)
{
    uint32_t votes = 0;

    for (uint32_t i = 0; i < count; i++)
        votes += opened[i].header_result == 0 &&
                 memcmp(opened[i].header.uuid, uuid, SEGFMT_UUID_BYTES) == 0;
    return votes;
}

/* The uuid is what all files agree on; the superblock has it, and every header too: without the
 * superblock the most of them decide, since one may have strayed here from another spool. */
static void choose_uuid(struct spool *spool, const struct super_seen *seen,
                        const struct opened *opened, uint32_t count)
{
    uint32_t most = 0;

    if (seen->found) {
        memcpy(spool->uuid, seen->super.uuid, SEGFMT_UUID_BYTES);
        return;
    }
    for (uint32_t i = 0; i < SEGFMT_UUID_BYTES; i++)
        spool->uuid[i] = (uint8_t)rng_below(io_rng(spool->io), 256);
    for (uint32_t i = 0; i < count && most <= count / 2; i++) {
        uint32_t votes;

        if (opened[i].header_result != 0)
            continue;
        votes = headers_with(opened, count, opened[i].header.uuid);
        if (votes <= most)
            continue;
        most = votes;
        memcpy(spool->uuid, opened[i].header.uuid, SEGFMT_UUID_BYTES);
    }
}

static void note_super(struct spool *spool, const struct super_seen *seen, bool has_segments,
                       const struct spool_recovery *recovery, struct spool_report *report)
{
    if (!seen->found) {
        /* Without segments it is the first start, or one that a power cut ended at once. */
        if (has_segments)
            damage(recovery, report, UINT16_MAX, "the superblock is missing or damaged");
        return;
    }
    spool->life = seen->super.life;
    spool->pool.super_writes = seen->super.writes;
    spool->pool.serial_next = seen->super.serial_limit;
}

static int files_open(struct spool *spool, const struct listing *listing,
                      const struct super_seen *seen, uint64_t deadline_ns,
                      const struct spool_recovery *recovery, struct spool_report *report)
{
    struct opened *opened = mem_alloc((listing->count + 1) * sizeof(*opened));
    bool has_segments = false;
    int result = 0;

    for (uint32_t i = 0; i < listing->count && result == 0; i++) {
        result = segment_open(spool, listing->slots[i], deadline_ns, &opened[i], report);
        has_segments |= opened[i].header_result == 0;
    }
    if (result == 0) {
        choose_uuid(spool, seen, opened, listing->count);
        note_super(spool, seen, has_segments, recovery, report);
    }
    for (uint32_t i = 0; i < listing->count && result == 0; i++) {
        struct segment *segment = &spool->pool.slots[listing->slots[i]];

        if (!opened[i].is_blank) {
            segment_take(spool, listing->slots[i], &opened[i], recovery, report);
            continue;
        }
        segment->state = SEGMENT_MAKING;
        report->files_unfinished++;
    }
    mem_free(opened);
    return result;
}

/*
 * Files that never had a header. They are made anew even where they look finished: after a failed
 * sync the system may show zeros, a size and a name that the disk does not have.
 */
static void settle_unfinished(struct segpool *pool)
{
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        struct segment *segment = &pool->slots[i];

        if (segment->state != SEGMENT_MAKING)
            continue;
        segment->state = SEGMENT_POISONED;
        segpool_release(pool, segment);
    }
}

/* ---- Calibration --------------------------------------------------------------------------- */

struct trial {
    struct io_op op;
    int32_t result;
    bool done;
};

static void on_trial_done(struct io_op *op, int32_t result)
{
    struct trial *trial = container_of(op, struct trial, op);

    trial->result = result;
    trial->done = true;
}

static int trial_wait(struct spool *spool, struct trial *trial)
{
    /* The first turn sleeps until the completion is there, the second one delivers it: a single one
     * would deliver it and then sleep once more, for nothing. */
    while (!trial->done) {
        io_turn(spool->io, 1000000);
        io_turn(spool->io, 0);
    }
    trial->done = false;
    return trial->result < 0 ? trial->result : 0;
}

/* One commit of a block of zeros at the end of a segment that holds nothing yet. */
static int try_commit(struct spool *spool, struct trial *trial, uint64_t number, bool by_sync)
{
    const struct segment *segment = spool->pool.ready[STREAM_OUTCOMES];
    uint64_t offset = segment->bytes - SEGFMT_BLOCK * (1 + number % 8);
    int result;

    io_write(spool->io, &trial->op, segment->fd, spool->pool.zeros, SEGFMT_BLOCK, offset, !by_sync);
    result = trial_wait(spool, trial);
    if (result < 0 || !by_sync)
        return result;
    io_sync(spool->io, &trial->op, segment->fd);
    return trial_wait(spool, trial);
}

/* The two ways take turns, so that whatever else the disk does hits both; the first round warms up
 * and does not count. */
static int try_modes(struct spool *spool, uint64_t ret_ns[2], uint64_t *ret_rounds)
{
    uint64_t until_ns = io_now_ns(spool->io) + spool->options.calibrate_ms * 1000000ull;
    struct trial trial = {.done = false};
    int result = 0;

    io_op_init(&trial.op, on_trial_done);
    for (uint64_t round = 0; result == 0; round++) {
        if (round > 1 && io_now_ns(spool->io) >= until_ns)
            break;
        for (int by_sync = 0; by_sync <= 1 && result == 0; by_sync++) {
            uint64_t began_ns = io_now_ns(spool->io);

            for (uint64_t i = 0; i < TRIAL_COMMITS && result == 0; i++)
                result = try_commit(spool, &trial, i, by_sync);
            if (round > 0)
                ret_ns[by_sync] += io_now_ns(spool->io) - began_ns;
        }
        *ret_rounds = round;
    }
    return result;
}

static int calibrate(struct spool *spool)
{
    uint64_t ns[2] = {0, 0};
    uint64_t rounds = 0;
    int result;

    if (spool->options.calibrate_ms == 0) {
        snprintf(spool->commit_mode, sizeof(spool->commit_mode), "direct-dsync (not calibrated)");
        return 0;
    }
    result = try_modes(spool, ns, &rounds);
    if (result < 0)
        return result;
    spool->commit_by_sync = ns[1] < ns[0];
    rounds *= TRIAL_COMMITS * 1000;
    snprintf(spool->commit_mode, sizeof(spool->commit_mode),
             "%s (%s; microseconds a commit: dsync %llu, fdatasync %llu)",
             spool->commit_by_sync ? "fdatasync" : "direct-dsync",
             spool->pool.is_direct ? "O_DIRECT" : "page cache",
             (unsigned long long)(ns[0] / rounds), (unsigned long long)(ns[1] / rounds));
    return 0;
}

/* ---- Open and destroy ---------------------------------------------------------------------- */

static int check_options(const struct spool_options *options)
{
    if (options->segment_bytes < SEGFMT_SEGMENT_MIN || options->segment_bytes > SEGFMT_SEGMENT_MAX)
        return E_RANGE;
    if (options->segment_bytes % SEGFMT_BLOCK != 0 || strlen(options->path) >= SPOOL_PATH_MAX)
        return E_RANGE;
    if (options->segment_count_max < SEGPOOL_COUNT_MIN ||
        options->segment_count_max > SLOTS_MAX / 2)
        return E_RANGE;
    return 0;
}

static int start_life(struct spool *spool, struct recover *recover, struct spool_report *report)
{
    int result;

    if (recover->sequence_max >= spool->sequence_next)
        spool->sequence_next = recover->sequence_max + 1;
    spool->life++;
    result = segpool_super_write_now(&spool->pool);
    if (result == 0)
        result = io_dir_sync(spool->io, spool->path);
    if (result < 0)
        return result;
    recover_settle(recover);
    settle_unfinished(&spool->pool);
    result = segpool_prepare_now(&spool->pool);
    if (result == 0)
        result = calibrate(spool);
    if (result < 0)
        return result;
    if (segpool_is_low(&spool->pool)) {
        atomic_store_explicit(&spool->health, SPOOL_LOW_SPACE, memory_order_release);
        atomic_store_explicit(&spool->trouble, E_LOW_SPACE, memory_order_relaxed);
        atomic_store_explicit(&spool->trouble_since_ns, io_now_ns(spool->io), memory_order_relaxed);
        report->starts_without_room++;
    }
    /* A checkpoint is due when so much must be read again. */
    spool->checkpoint.bytes_at_begin = 0 - report->bytes_read;
    report->life = spool->life;
    report->commit_mode = spool->commit_mode;
    result = recover_relog(recover);
    return result < 0 ? result : recover_tell(recover);
}

/* The directory's own name must last, or a power cut takes the whole spool away. */
static int directory_make(struct spool *spool)
{
    char parent[SPOOL_PATH_MAX];
    char *slash;
    int result = io_dir_create(spool->io, spool->path);

    if (result < 0)
        return result;
    snprintf(parent, sizeof(parent), "%s", spool->path);
    slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof(parent), ".");
    else
        slash[slash == parent ? 1 : 0] = 0;
    result = io_dir_sync(spool->io, parent);
    /* A parent that we may not even read was made by somebody who saw to that. */
    return result == -EACCES || result == -EPERM ? 0 : result;
}

static int open_all(struct spool *spool, const struct spool_recovery *recovery,
                    struct spool_report *report)
{
    uint64_t deadline_ns = io_now_ns(spool->io) + LOCK_WAIT_NS;
    struct listing listing = {0};
    struct super_seen seen;
    struct recover recover;
    uint32_t slots;
    int result = directory_make(spool);

    if (result == 0)
        result = super_open(spool, deadline_ns, &seen, report);
    if (result == 0)
        result = io_dir_list(spool->io, spool->path, note_name, &listing);
    if (result < 0) {
        mem_free(listing.slots);
        return result;
    }
    slots = spool->options.segment_count_max * 2;
    if (listing.highest + 1 > slots)
        slots = listing.highest + 1;
    segpool_init(&spool->pool, spool, slots + SLOTS_SPARE);
    chunkbook_init(&spool->chunks, &spool->pool);
    result = files_open(spool, &listing, &seen, deadline_ns, recovery, report);
    mem_free(listing.slots);
    if (result < 0)
        return result;
    result = recover_run(&recover, spool, recovery, report);
    if (result == 0)
        result = start_life(spool, &recover, report);
    recover_fini(&recover);
    return result;
}

int spool_open(struct io *io, const struct spool_options *options,
               const struct spool_recovery *recovery, struct spool **ret_spool,
               struct spool_report *ret_report)
{
    struct spool_report report = {0};
    struct spool *spool;
    int result = check_options(options);

    if (result < 0)
        return result;
    spool = mem_alloc(sizeof(*spool));
    spool->io = io;
    spool->options = *options;
    spool->super_fd = -1;
    spool->sequence_next = 1;
    snprintf(spool->path, sizeof(spool->path), "%s", options->path);
    spool->options.path = spool->path;
    named_init(&spool->named);
    result = open_all(spool, recovery, &report);
    if (result < 0) {
        spool_destroy(spool);
        return result;
    }
    compaction_init(spool);
    seglog_init(&spool->messages, spool, STREAM_MESSAGES);
    seglog_init(&spool->outcomes, spool, STREAM_OUTCOMES);
    spool->actor.turn = spool_turn;
    spool->actor.is_busy = spool_is_busy;
    io_attach(io, &spool->actor);
    *ret_spool = spool;
    *ret_report = report;
    return 0;
}

void spool_destroy(struct spool *spool)
{
    if (spool == NULL)
        return;
    compaction_fini(spool);
    seglog_fini(&spool->messages);
    seglog_fini(&spool->outcomes);
    chunkbook_fini(&spool->chunks);
    segpool_fini(&spool->pool);
    named_fini(&spool->named);
    if (spool->super_fd >= 0)
        io_close_now(spool->io, spool->super_fd);
    for (uint16_t i = 0; i < spool->client_count; i++)
        mem_free(spool->clients[i]);
    if (spool->actor.turn != NULL)
        list_remove(&spool->actor.link);
    mem_free(spool);
}
