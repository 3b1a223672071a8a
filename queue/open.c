/* The start of a spool: locks, superblock, segment files, recovery, and this life's first segments.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/devices.h"
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
int opening_lock(struct opening *opening, int fd)
{
    struct spool *spool = opening->spool;
    bool was_held = false;
    int result;

    if (planted("queue/lock-not-waited-for"))
        return 0;
    while ((result = io_file_lock(spool->io, fd)) == E_LOCKED) {
        opening->report->locks_waited_for += was_held ? 0 : 1;
        was_held = true;
        if (io_now_ns(spool->io) >= opening->deadline_ns)
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

static int super_read(struct opening *opening)
{
    struct spool *spool = opening->spool;
    struct super_seen *ret_seen = &opening->super;
    struct spool_report *report = opening->report;
    uint8_t *blocks = mem_alloc(SEGFMT_SUPER_BYTES);
    int64_t got = recover_read(spool->io, spool->super_fd, blocks, SEGFMT_SUPER_BYTES, 0, report);
    bool is_damaged = false;
    int result = got < 0 ? (int)got : 0;

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

static int super_open(struct opening *opening, bool create)
{
    struct spool *spool = opening->spool;
    char path[SPOOL_PATH_MAX + 32];
    int result;

    spool_file_path(spool->devices[0].path, "super", path);
    result =
        io_file_open(spool->io, path, IO_FILE_READ | IO_FILE_WRITE | (create ? IO_FILE_CREATE : 0u),
                     &spool->super_fd);
    if (result < 0) {
        spool->super_fd = -1;
        return result == -ENOENT && !create ? 0 : result;
    }
    result = opening_lock(opening, spool->super_fd);
    if (result == 0)
        result = io_file_sync_now(spool->io, spool->super_fd);
    if (result < 0)
        return result;
    return super_read(opening);
}

/* Where there is none: not before the directory is known to be the right one, since a superblock in
 * a further directory of a spool would make that one look like the first. */
static int super_make(struct opening *opening)
{
    int result;

    if (opening->spool->super_fd >= 0)
        return 0;
    result = super_open(opening, true);
    /* Somebody else has made the spool meanwhile. */
    return result == 0 && opening->super.found ? E_LOCKED : result;
}

/* ---- Segment files ------------------------------------------------------------------------- */

/* What is known of an open file before its records are read. */
struct opened {
    struct segment *segment;
    struct segfmt_header header;
    uint64_t size;
    int header_result;
    bool is_blank; /* nothing but zeros: a file whose making was cut short */
};

/* The whole file: zeros in place of the header alone are damage, and the records may be there. */
static bool file_is_zero(struct opening *opening, int fd, uint64_t size)
{
    uint8_t *window = mem_alloc_aligned(BLANK_WINDOW_BYTES, SEGFMT_BLOCK);
    bool is_blank = true;
    int64_t got = 1;

    for (uint64_t at = 0; at < size && is_blank && got > 0; at += (uint64_t)got) {
        got = recover_read(opening->spool->io, fd, window, BLANK_WINDOW_BYTES, at, opening->report);
        is_blank = got >= 0 && is_zero(window, (size_t)got);
    }
    mem_free(window);
    return is_blank;
}

/* A header that rotted away is put together again from the first batch, which repeats most of it.
 */
static int header_from_batch(struct opening *opening, struct opened *opened)
{
    struct spool *spool = opening->spool;
    struct segfmt_header *header = &opened->header;
    const struct segpool *pool = spool_pool_of(spool, opened->segment);
    struct segfmt_batch batch;
    int64_t got = recover_read(spool->io, opened->segment->fd, pool->block, SEGFMT_BLOCK,
                               SEGFMT_BLOCK, opening->report);

    if (got != SEGFMT_BLOCK || !segfmt_batch_decode(pool->block, spool->uuid, &batch))
        return E_DAMAGED;
    memset(header, 0, sizeof(*header));
    memcpy(header->uuid, spool->uuid, SEGFMT_UUID_BYTES);
    header->stream = batch.stream;
    header->device = batch.device;
    header->serial = batch.serial;
    header->slot = (uint16_t)(opened->segment->slot - pool->slot_base);
    header->life = batch.life;
    header->segment_bytes = opened->size < SEGFMT_SEGMENT_MAX ? opened->size : SEGFMT_SEGMENT_MAX;
    header->sequence = batch.sequence;
    return 0;
}

static int segment_open(struct opening *opening, struct segment *segment, struct opened *ret_opened)
{
    struct spool *spool = opening->spool;
    struct segpool *pool = spool_pool_of(spool, segment);
    int64_t got;
    int result;

    memset(ret_opened, 0, sizeof(*ret_opened));
    ret_opened->segment = segment;
    result = segpool_file_open(pool, segment, false);
    if (result < 0)
        return result;
    pool->file_count++;
    segment->state = SEGMENT_FOREIGN;
    result = opening_lock(opening, segment->fd);
    if (result == 0)
        result = io_file_size(spool->io, segment->fd, &ret_opened->size);
    /* What is read below must not vanish in a power cut after it was acted upon. */
    if (result == 0)
        result = io_file_sync_now(spool->io, segment->fd);
    if (result < 0)
        return result;
    got = recover_read(spool->io, segment->fd, pool->block, SEGFMT_BLOCK, 0, opening->report);
    if (got < (int64_t)SEGFMT_BLOCK) {
        ret_opened->is_blank = got >= 0 && is_zero(pool->block, (size_t)got);
        ret_opened->header_result = E_DAMAGED;
        return 0;
    }
    ret_opened->is_blank =
        is_zero(pool->block, SEGFMT_BLOCK) && file_is_zero(opening, segment->fd, ret_opened->size);
    ret_opened->header_result = segfmt_header_decode(pool->block, &ret_opened->header);
    return ret_opened->header_result == E_VERSION ? E_VERSION : 0;
}

void opening_damage(struct opening *opening, const char *file, const char *text)
{
    opening->report->damage_count++;
    opening->recovery->on_damage(opening->recovery->context, file, 0, text);
}

static void segment_damage(struct opening *opening, const struct segment *segment, const char *text)
{
    char room[SPOOL_PATH_MAX + 32];

    opening_damage(opening,
                   segpool_told_name(spool_pool_of(opening->spool, segment), segment, room), text);
}

/* NULL when the file is this segment's; else what it is. */
static const char *why_not_ours(const struct opening *opening, const struct opened *opened)
{
    const struct segfmt_header *header = &opened->header;
    const struct segpool *pool = spool_pool_of(opening->spool, opened->segment);

    if (memcmp(header->uuid, opening->spool->uuid, SEGFMT_UUID_BYTES) != 0)
        return "the segment belongs to another spool: file left alone";
    if (header->device != pool->number)
        return "the segment belongs into another directory of the spool: left alone";
    if (header->slot != opened->segment->slot - pool->slot_base)
        return "the file is a copy of another segment: left alone";
    if (header->stream == STREAM_OUTCOMES && !pool->has_outcomes)
        return "outcomes do not belong into this directory: file left alone";
    return NULL;
}

static void spool_numbers_take(struct spool *spool, const struct segfmt_header *header)
{
    if (header->serial >= spool->serials.next)
        spool->serials.next = header->serial + 1;
    if (header->sequence >= spool->sequence_next)
        spool->sequence_next = header->sequence;
    if (header->life > spool->life)
        spool->life = header->life;
}

/* Takes the file into the pool as a sealed segment, if it is one of ours. */
static void segment_take(struct opening *opening, struct opened *opened)
{
    struct segment *segment = opened->segment;
    struct segfmt_header *header = &opened->header;
    const struct segpool *pool = spool_pool_of(opening->spool, segment);
    const char *why;

    if (opened->header_result < 0) {
        if (header_from_batch(opening, opened) < 0) {
            segment_damage(opening, segment, "the segment's header is damaged: file left alone");
            return;
        }
        opening->report->headers_rebuilt++;
        segment_damage(opening, segment, "the segment's header is damaged, its records are not");
        segment->is_rebuilt = true;
    }
    why = why_not_ours(opening, opened);
    if (why != NULL) {
        segment_damage(opening, segment, why);
        return;
    }
    if (opened->size < header->segment_bytes)
        segment_damage(opening, segment, "the file is shorter than its header says");
    segment->state = SEGMENT_SEALED;
    segment->was_used = true;
    segment->stream = header->stream;
    segment->serial = header->serial;
    segment->seed = segfmt_seed(header->uuid, header->serial);
    segment->life = header->life;
    segment->former = header->former;
    segment->odd_size =
        header->segment_bytes != pool->segment_bytes || opened->size != header->segment_bytes;
    segment->bytes =
        (uint32_t)(opened->size < header->segment_bytes ? opened->size : header->segment_bytes);
    segment->end = SEGFMT_BLOCK;
    spool_numbers_take(opening->spool, header);
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
static void choose_uuid(const struct opening *opening, const struct opened *opened, uint32_t count)
{
    struct spool *spool = opening->spool;
    uint32_t most = 0;

    if (opening->super.found) {
        memcpy(spool->uuid, opening->super.super.uuid, SEGFMT_UUID_BYTES);
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

static void note_super(struct opening *opening, bool has_segments)
{
    struct spool *spool = opening->spool;
    const struct segfmt_super *super = &opening->super.super;

    spool->serials.next = 1;
    if (!opening->super.found) {
        /* Without segments it is the first start, or one that a power cut ended at once. */
        if (has_segments)
            opening_damage(opening, "super", "the superblock is missing or damaged");
        return;
    }
    spool->life = super->life;
    spool->serials.super_writes = super->writes;
    spool->serials.next = super->serial_limit;
}

/* Slots of the only device there is. */
static uint32_t slots_wanted(const struct opening *opening)
{
    uint32_t wanted = opening->spool->options.segment_count_max * 2;
    uint32_t highest = opening->seen[0].listing.highest;

    return (highest + 1 > wanted ? highest + 1 : wanted) + SLOTS_SPARE;
}

static bool has_too_many_files(const struct opening *opening)
{
    for (uint32_t i = 0; i < opening->spool->device_count; i++) {
        if (opening->seen[i].listing.highest >= SEGFMT_DEVICE_SLOTS)
            return true;
    }
    return opening->spool->options.segment_count_max > SEGFMT_DEVICE_SLOTS / 2;
}

/* A slot names its device for ever: with several each has its range, by its number. */
static int slots_make(struct opening *opening)
{
    struct spool *spool = opening->spool;
    uint32_t highest = 0;

    for (uint32_t i = 0; i < spool->device_count; i++)
        highest = spool->devices[i].pool.number > highest ? spool->devices[i].pool.number : highest;
    if (spool->device_count > 1 && has_too_many_files(opening)) {
        opening_refuse(opening, spool->devices[0].path,
                       "with several directories a segment file's number must be below 9216");
        return E_RANGE;
    }
    spool->segment_count =
        spool->device_count == 1 ? slots_wanted(opening) : (highest + 1) * SEGFMT_DEVICE_SLOTS;
    must(spool->segment_count < UINT16_MAX);
    spool->segments = mem_alloc(spool->segment_count * sizeof(*spool->segments));
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct segpool *pool = &spool->devices[i].pool;
        uint32_t base = pool->number * SEGFMT_DEVICE_SLOTS;
        uint32_t count = spool->device_count == 1 ? spool->segment_count : SEGFMT_DEVICE_SLOTS;

        /* One that was not taken in has none. */
        segpool_init(pool, spool, &spool->segments[base], base, pool->is_retired ? 0 : count);
    }
    chunkbook_init(&spool->chunks, spool);
    return 0;
}

/* Opens every segment file; *ret_count of them. */
static int files_open(struct opening *opening, struct opened *opened, uint32_t *ret_count)
{
    struct spool *spool = opening->spool;
    uint32_t count = 0;
    int result = 0;

    for (uint32_t i = 0; i < spool->device_count; i++) {
        const struct listing *listing = &opening->seen[i].listing;

        for (uint32_t j = 0; j < listing->count && result == 0; j++) {
            struct segment *segment = &spool->devices[i].pool.slots[listing->slots[j]];

            result = segment_open(opening, segment, &opened[count]);
            count++;
        }
    }
    *ret_count = count;
    return result;
}

static int files_take(struct opening *opening)
{
    struct spool *spool = opening->spool;
    struct opened *opened = mem_alloc((spool->segment_count + 1) * sizeof(*opened));
    bool has_segments = false;
    uint32_t count = 0;
    int result = files_open(opening, opened, &count);

    for (uint32_t i = 0; i < count && result == 0; i++)
        has_segments |= opened[i].header_result == 0;
    if (result == 0) {
        choose_uuid(opening, opened, count);
        note_super(opening, has_segments);
        result = devices_match_uuid(opening);
    }
    for (uint32_t i = 0; i < count && result == 0; i++) {
        if (!opened[i].is_blank) {
            segment_take(opening, &opened[i]);
            continue;
        }
        opened[i].segment->state = SEGMENT_MAKING;
        opening->report->files_unfinished++;
    }
    mem_free(opened);
    return result;
}

/*
 * Files that never had a header. They are made anew even where they look finished: after a failed
 * sync the system may show zeros, a size and a name that the disk does not have.
 */
static void settle_unfinished(struct spool *spool)
{
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        struct segment *segment = &spool->segments[i];

        if (segment->state != SEGMENT_MAKING)
            continue;
        segment->state = SEGMENT_POISONED;
        segpool_release(spool_pool_of(spool, segment), segment);
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

static const struct segment *segment_to_try(const struct segpool *pool)
{
    return pool->ready[pool->has_outcomes ? STREAM_OUTCOMES : STREAM_MESSAGES];
}

/* One commit of a block of zeros at the end of a segment that holds nothing yet. */
static int try_commit(struct segpool *pool, struct trial *trial, uint64_t number, bool by_sync)
{
    struct spool *spool = pool->spool;
    const struct segment *segment = segment_to_try(pool);
    uint64_t offset = segment->bytes - SEGFMT_BLOCK * (1 + number % 8);
    int result;

    io_write(spool->io, &trial->op, segment->fd, pool->zeros, SEGFMT_BLOCK, offset, !by_sync);
    result = trial_wait(spool, trial);
    if (result < 0 || !by_sync)
        return result;
    io_sync(spool->io, &trial->op, segment->fd);
    return trial_wait(spool, trial);
}

/* The two ways take turns, so that whatever else the disk does hits both; the first round warms up
 * and does not count. */
static int try_modes(struct segpool *pool, uint64_t ret_ns[2], uint64_t *ret_rounds)
{
    struct spool *spool = pool->spool;
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
                result = try_commit(pool, &trial, i, by_sync);
            if (round > 0)
                ret_ns[by_sync] += io_now_ns(spool->io) - began_ns;
        }
        *ret_rounds = round;
    }
    return result;
}

static int calibrate(struct spool_device *device)
{
    struct segpool *pool = &device->pool;
    uint64_t ns[2] = {0, 0};
    uint64_t rounds = 0;
    int result;

    if (pool->spool->options.calibrate_ms == 0 || segment_to_try(pool) == NULL) {
        snprintf(device->commit_mode, sizeof(device->commit_mode), "direct-dsync (not calibrated)");
        return 0;
    }
    result = try_modes(pool, ns, &rounds);
    if (result < 0)
        return result;
    pool->by_sync = ns[1] < ns[0];
    rounds *= TRIAL_COMMITS * 1000;
    snprintf(device->commit_mode, sizeof(device->commit_mode),
             "%s (%s; microseconds a commit: dsync %llu, fdatasync %llu)",
             pool->by_sync ? "fdatasync" : "direct-dsync",
             pool->is_direct ? "O_DIRECT" : "page cache", (unsigned long long)(ns[0] / rounds),
             (unsigned long long)(ns[1] / rounds));
    return 0;
}

/* ---- Open and destroy ---------------------------------------------------------------------- */

static int check_options(const struct spool_options *options)
{
    if (options->segment_bytes < SEGFMT_SEGMENT_MIN || options->segment_bytes > SEGFMT_SEGMENT_MAX)
        return E_RANGE;
    if (options->segment_bytes % SEGFMT_BLOCK != 0 || options->directories[0].path == NULL)
        return E_RANGE;
    for (uint32_t i = 0; i < SPOOL_DEVICES_MAX && options->directories[i].path != NULL; i++) {
        if (strlen(options->directories[i].path) >= SPOOL_PATH_MAX)
            return E_RANGE;
    }
    if (options->segment_count_max < SEGPOOL_COUNT_MIN ||
        options->segment_count_max > SLOTS_MAX / 2)
        return E_RANGE;
    return 0;
}

static void devices_describe(struct spool *spool, const struct spool_options *options)
{
    for (uint32_t i = 0; i < SPOOL_DEVICES_MAX && options->directories[i].path != NULL; i++) {
        const struct spool_directory *directory = &options->directories[i];
        struct spool_device *device = &spool->devices[i];

        snprintf(device->path, sizeof(device->path), "%s", directory->path);
        device->fd = -1;
        device->priority = directory->priority;
        device->pool.path = device->path;
        device->pool.device = (uint8_t)i;
        device->pool.takes_mail = !directory->deliver_only;
        device->pool.has_outcomes = i == 0;
        device->pool.min_free_bytes = directory->min_free_bytes;
        spool->device_count++;
    }
}

/* What fails on another device than the first does not keep the spool from starting. */
static int devices_prepare(struct spool *spool)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct spool_device *device = &spool->devices[i];
        int result = segpool_prepare_now(&device->pool);

        if (result == 0)
            result = calibrate(device);
        if (result < 0 && i == 0)
            return result;
    }
    return 0;
}

static int start_life(struct opening *opening, struct recover *recover)
{
    struct spool *spool = opening->spool;
    struct spool_report *report = opening->report;
    int result;

    if (recover->sequence_max >= spool->sequence_next)
        spool->sequence_next = recover->sequence_max + 1;
    spool->life++;
    result = devices_make(opening);
    if (result == 0)
        result = segpool_super_write_now(spool);
    if (result == 0)
        result = io_dir_sync(spool->io, spool->devices[0].path);
    if (result < 0)
        return result;
    recover_settle(recover);
    settle_unfinished(spool);
    result = devices_prepare(spool);
    if (result < 0)
        return result;
    if (!route_takes_mail(spool)) {
        atomic_store_explicit(&spool->health, SPOOL_LOW_SPACE, memory_order_release);
        atomic_store_explicit(&spool->trouble, E_LOW_SPACE, memory_order_relaxed);
        atomic_store_explicit(&spool->trouble_since_ns, io_now_ns(spool->io), memory_order_relaxed);
        report->starts_without_room++;
    }
    /* A checkpoint is due when so much must be read again. */
    spool->checkpoint.bytes_at_begin = 0 - report->bytes_read;
    report->life = spool->life;
    report->commit_mode = spool->devices[0].commit_mode;
    result = recover_relog(recover);
    return result < 0 ? result : recover_tell(recover);
}

static int find_files(struct opening *opening)
{
    int result = devices_directory_make(opening->spool, opening->spool->devices[0].path);

    if (result == 0)
        result = super_open(opening, false);
    if (result == 0)
        result = devices_look(opening);
    if (result == 0)
        result = devices_match(opening);
    if (result == 0)
        result = super_make(opening);
    if (result == 0)
        result = slots_make(opening);
    return result == 0 ? files_take(opening) : result;
}

static int open_all(struct spool *spool, const struct spool_recovery *recovery,
                    struct spool_report *report)
{
    struct opening opening = {
        .spool = spool,
        .recovery = recovery,
        .report = report,
        .deadline_ns = io_now_ns(spool->io) + LOCK_WAIT_NS,
    };
    struct recover recover;
    int result = find_files(&opening);

    if (result == 0) {
        result = recover_run(&recover, spool, recovery, report);
        if (result == 0)
            result = start_life(&opening, &recover);
        recover_fini(&recover);
    }
    opening_fini(&opening);
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
    devices_describe(spool, options);
    named_init(&spool->named);
    result = open_all(spool, recovery, &report);
    if (result < 0) {
        spool_destroy(spool);
        return result;
    }
    compaction_init(spool);
    for (uint32_t i = 0; i < spool->device_count; i++)
        seglog_init(&spool->devices[i].messages, &spool->devices[i], STREAM_MESSAGES);
    seglog_init(&spool->outcomes, &spool->devices[0], STREAM_OUTCOMES);
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
    seglog_fini(&spool->outcomes);
    chunkbook_fini(&spool->chunks);
    for (uint32_t i = 0; i < spool->device_count; i++) {
        seglog_fini(&spool->devices[i].messages);
        segpool_fini(&spool->devices[i].pool);
        if (spool->devices[i].fd >= 0)
            io_close_now(spool->io, spool->devices[i].fd);
    }
    named_fini(&spool->named);
    mem_free(spool->segments);
    if (spool->super_fd >= 0)
        io_close_now(spool->io, spool->super_fd);
    for (uint16_t i = 0; i < spool->client_count; i++)
        mem_free(spool->clients[i]);
    if (spool->actor.turn != NULL)
        list_remove(&spool->actor.link);
    mem_free(spool);
}
