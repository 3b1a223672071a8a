#include "queue/segpool.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/planted.h"
#include "queue/spool_int.h"

#include <errno.h>

#define ZEROES_BYTES   (1u << 20)
#define SERIALS_AHEAD  1024u /* reserved in the superblock at a time */
#define RETRY_AFTER_NS 1000000000ull
#define UNLINKS_MAX    4u  /* of files left over, in one go */
#define LEFT_MAX       16u /* of them, before no more files are made */
#define SPARE          1u  /* free segments made ahead where there is no reserve */

static void on_job_done(struct io_op *op, int32_t result);

/* The turn that follows finds these gone and tries again. */
static void on_retry(struct io_timer *timer)
{
    struct segpool *pool = container_of(timer, struct segpool, retry);

    pool->stuck = false;
    pool->rests = false;
}

void segpool_path(const struct segpool *pool, uint16_t slot, char *room)
{
    must(slot >= pool->slot_base && slot - pool->slot_base < pool->slot_count);
    spool_segment_path(pool->path, (uint16_t)(slot - pool->slot_base), room);
}

const char *segpool_told_name(const struct segpool *pool, const struct segment *segment, char *room)
{
    segpool_path(pool, segment->slot, room);
    return pool->has_outcomes ? strrchr(room, '/') + 1 : room;
}

/* The number in the file's name. */
static uint16_t file_of(const struct segpool *pool, const struct segment *segment)
{
    return (uint16_t)(segment->slot - pool->slot_base);
}

void segpool_init(struct segpool *pool, struct spool *spool, struct segment *slots, uint32_t base,
                  uint32_t count)
{
    must(base + count <= UINT16_MAX && pool->spool == NULL);
    pool->spool = spool;
    pool->segment_bytes = (uint32_t)spool->options.segment_bytes;
    pool->slot_base = base;
    pool->slot_count = count;
    pool->slots = slots;
    pool->published = mem_alloc(count * sizeof(*pool->published));
    for (uint32_t i = 0; i < count; i++) {
        pool->slots[i].fd = -1;
        pool->slots[i].slot = (uint16_t)(base + i);
        pool->slots[i].device = pool->device;
        pool->slots[i].number = pool->number;
    }
    pool->zeros = mem_alloc_aligned(ZEROES_BYTES, SEGFMT_BLOCK);
    pool->block = mem_alloc_aligned(SEGFMT_BLOCK, SEGFMT_BLOCK);
    pool->is_direct = true;
    pool->space_left = UINT64_MAX;
    io_op_init(&pool->job_op, on_job_done);
    io_timer_init(&pool->retry, on_retry);
}

void segpool_fini(struct segpool *pool)
{
    if (pool->spool == NULL)
        return;
    must(!io_op_in_flight(&pool->job_op));
    io_timer_stop(pool->spool->io, &pool->retry);
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        if (pool->slots[i].fd >= 0)
            io_close_now(pool->spool->io, pool->slots[i].fd);
    }
    mem_free(pool->published);
    mem_free(pool->zeros);
    mem_free(pool->block);
}

int segpool_file_open(struct segpool *pool, struct segment *segment, bool create)
{
    struct io *io = pool->spool->io;
    char path[SPOOL_PATH_MAX + 32];
    unsigned flags = IO_FILE_READ | IO_FILE_WRITE;
    int result = -EINVAL;

    segpool_path(pool, segment->slot, path);
    if (pool->is_direct)
        result = io_file_open(
            io, path, flags | IO_FILE_DIRECT | (create ? IO_FILE_CREATE | IO_FILE_EXCLUSIVE : 0u),
            &segment->fd);
    if (result != -EINVAL)
        return result;
    /* The file system knows no O_DIRECT (a refused open may have made the file all the same): the
     * page cache is then in between, the syncs stay. */
    pool->is_direct = false;
    return io_file_open(io, path, flags | (create ? IO_FILE_CREATE : 0u), &segment->fd);
}

/* ---- Ends of use --------------------------------------------------------------------------- */

static int unlink_file(struct segpool *pool, const struct segment *segment)
{
    char path[SPOOL_PATH_MAX + 32];
    int result;

    segpool_path(pool, segment->slot, path);
    result = io_file_unlink(pool->spool->io, path);
    if (result == 0 || result == -ENOENT)
        result = io_dir_sync(pool->spool->io, pool->path);
    return result;
}

/* The slot of a file that nobody ever read from may be used again in this life. */
static void slot_gone(struct segpool *pool, struct segment *segment)
{
    segment->state = segment->was_used ? SEGMENT_GONE : SEGMENT_NONE;
    pool->left_count -= segment->is_left ? 1 : 0;
    segment->is_left = false;
    segment->has_void = false;
    pool->file_count--;
}

static void unlink_slot(struct segpool *pool, struct segment *segment)
{
    io_close_now(pool->spool->io, segment->fd);
    segment->fd = -1;
    if (unlink_file(pool, segment) < 0) {
        /* It may come back after a crash, so what is void in it must still be known as void. */
        segment->state = SEGMENT_FOREIGN;
        segment->is_left = true;
        pool->left_count++;
        return;
    }
    slot_gone(pool, segment);
}

/* Files whose unlinking failed before. A few at a time, since each costs a sync. An error when
 * there are too many of them to make another. */
static int unlink_left(struct segpool *pool)
{
    uint32_t tried = 0;
    int result = 0;

    for (uint32_t i = 0; i < pool->slot_count && pool->left_count > 0; i++) {
        struct segment *segment = &pool->slots[i];

        if (!segment->is_left)
            continue;
        if (tried++ == UNLINKS_MAX)
            break;
        result = unlink_file(pool, segment);
        if (result < 0)
            break;
        slot_gone(pool, segment);
    }
    return pool->left_count < LEFT_MAX ? 0 : result < 0 ? result : E_FULL;
}

/* Of no use to anybody once its files are empty. */
static bool is_leaving(const struct segpool *pool)
{
    return !pool->takes_mail && !pool->has_outcomes;
}

/* A file beyond the operator's count stays while outcomes live on such: unlinking it only to make
 * another one would use up the slots of this life. */
static bool is_one_too_many(const struct segpool *pool)
{
    return pool->file_count > pool->spool->options.segment_count_max &&
           pool->free_count > SEGPOOL_RESERVE;
}

void segpool_release(struct segpool *pool, struct segment *segment)
{
    must(segment->live == 0);
    must(segment->state == SEGMENT_SEALED || segment->state == SEGMENT_POISONED);
    atomic_store_explicit(&pool->published[file_of(pool, segment)], 0, memory_order_seq_cst);
    segment->free_after = 0;
    spool_count(&pool->spool->counters.recycled, 1);
    if (segment->state == SEGMENT_POISONED || segment->odd_size || is_leaving(pool) ||
        is_one_too_many(pool)) {
        unlink_slot(pool, segment);
        return;
    }
    segment->state = SEGMENT_FREE;
    pool->free_count++;
}

void segpool_note_empty(struct segpool *pool, struct segment *segment)
{
    segment->free_after = pool->spool->checkpoint.number + 1;
    pool->free_after_max = segment->free_after;
}

static void look_if_empty(struct segpool *pool, struct segment *segment)
{
    if (segment->stream != STREAM_MESSAGES || segment->live > 0)
        return;
    if (segment->state != SEGMENT_SEALED && segment->state != SEGMENT_POISONED)
        return;
    segpool_note_empty(pool, segment);
    if (planted("queue/recycled-early"))
        segpool_release(pool, segment);
}

static void note_full(struct segpool *pool, const struct segment *segment)
{
    if (segment->stream == STREAM_OUTCOMES && segment->serial < pool->outcomes_floor)
        pool->outcomes_floor = segment->serial;
}

void segpool_seal(struct segpool *pool, struct segment *segment)
{
    must(segment->state == SEGMENT_ACTIVE);
    segment->state = SEGMENT_SEALED;
    note_full(pool, segment);
    look_if_empty(pool, segment);
}

void segpool_poison(struct segpool *pool, struct segment *segment)
{
    must(segment->state == SEGMENT_ACTIVE || segment->state == SEGMENT_SEALED);
    segment->state = SEGMENT_POISONED;
    segment->free_after = 0;
    note_full(pool, segment);
    look_if_empty(pool, segment);
}

void segpool_records_done(struct segpool *pool, struct segment *segment, uint32_t count,
                          uint64_t bytes)
{
    must(segment->stream == STREAM_MESSAGES && segment->live >= count);
    segment->live -= count;
    segment->live_bytes -= bytes < segment->live_bytes ? bytes : segment->live_bytes;
    segment->ended_bytes += bytes;
    look_if_empty(pool, segment);
}

void segpool_records_leave(struct segment *segment, uint32_t count, uint64_t bytes)
{
    segment->leaving += count;
    segment->leaving_bytes += bytes;
}

void segpool_records_left(struct segpool *pool, struct segment *segment, uint32_t count,
                          uint64_t bytes)
{
    must(segment->leaving >= count && segment->leaving_bytes >= bytes);
    segment->leaving -= count;
    segment->leaving_bytes -= bytes;
    segpool_records_done(pool, segment, count, bytes);
}

void segpool_publish(struct segpool *pool, struct segment *segment)
{
    must(segment->stream == STREAM_OUTCOMES);
    atomic_store_explicit(&pool->published[file_of(pool, segment)],
                          (uint64_t)segment->serial << 32 | segment->end, memory_order_release);
}

/* ---- Preparing ----------------------------------------------------------------------------- */

static struct segment *find_state(struct segpool *pool, enum segment_state state)
{
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        if (pool->slots[i].state == state)
            return &pool->slots[i];
    }
    return NULL;
}

/* Free segments that the stream may not touch. */
static uint32_t reserve_against(const struct segpool *pool, enum segfmt_stream stream)
{
    return stream == STREAM_MESSAGES && pool->has_outcomes ? SEGPOOL_RESERVE : 0;
}

/*
 * Whether a file may be made for the stream. Outcomes and checkpoints are what frees space, so when
 * everything else is used up they get files beyond the operator's count and free space.
 */
static bool may_grow(const struct segpool *pool, enum segfmt_stream stream)
{
    if (pool->stuck || (stream == STREAM_MESSAGES && !pool->takes_mail))
        return false;
    if (pool->file_count < pool->spool->options.segment_count_max)
        return true;
    return stream == STREAM_OUTCOMES && pool->free_count == 0;
}

bool segpool_can_serve(const struct segpool *pool, enum segfmt_stream stream)
{
    if (pool->ready[stream] != NULL)
        return true;
    if (pool->job != JOB_NONE && (pool->job_stream == stream || pool->job_stream == 0))
        return true;
    if (pool->rests || (stream == STREAM_MESSAGES && !pool->takes_mail))
        return false;
    return pool->free_count > reserve_against(pool, stream) || may_grow(pool, stream);
}

int segpool_shortage(const struct segpool *pool)
{
    return pool->failure == 0 ? E_LOW_SPACE : pool->failure;
}

bool segpool_is_low(const struct segpool *pool)
{
    if (pool->rests && pool->ready[STREAM_MESSAGES] == NULL)
        return true;
    return pool->free_count <= reserve_against(pool, STREAM_MESSAGES) &&
           !may_grow(pool, STREAM_MESSAGES) && !(pool->job != JOB_NONE && pool->job_stream == 0);
}

uint64_t segpool_room(const struct segpool *pool)
{
    uint32_t count_max = pool->spool->options.segment_count_max;
    uint64_t growable = pool->file_count < count_max ? count_max - pool->file_count : 0;
    uint64_t by_space = pool->space_left / pool->segment_bytes;

    return pool->free_count + (growable < by_space ? growable : by_space);
}

struct segment *segpool_take(struct segpool *pool, enum segfmt_stream stream)
{
    struct segment *segment = pool->ready[stream];

    if (segment == NULL)
        return NULL;
    must(segment->state == SEGMENT_READY && segment->stream == stream);
    pool->ready[stream] = NULL;
    segment->state = SEGMENT_ACTIVE;
    segment->was_used = true;
    segment->end = SEGFMT_BLOCK;
    return segment;
}

uint32_t segpool_next_serial(const struct segpool *pool, enum segfmt_stream stream)
{
    bool is_heading = pool->job == JOB_HEADER || pool->job == JOB_HEADER_SYNC;

    if (pool->ready[stream] != NULL)
        return pool->ready[stream]->serial;
    if (is_heading && pool->job_stream == stream)
        return pool->job_segment->serial;
    return pool->spool->serials.next;
}

static void retry_later(struct segpool *pool, int error)
{
    must(error < 0);
    pool->failure = segpool_error(error);
    io_timer_arm(pool->spool->io, &pool->retry, io_now_ns(pool->spool->io) + RETRY_AFTER_NS);
}

static void job_stuck(struct segpool *pool, int error)
{
    pool->stuck = true;
    retry_later(pool, error);
}

/* A file of which nothing was ever used: away with it, its name may be tried again. */
static void making_failed(struct segpool *pool, struct segment *segment, int error)
{
    pool->job = JOB_NONE;
    unlink_slot(pool, segment);
    job_stuck(pool, error);
}

/* Less than asked for is a failure too. */
static int write_error(int32_t result, uint32_t bytes)
{
    if (result < 0)
        return result;
    return (uint32_t)result == bytes ? 0 : -EIO;
}

/* 0, or why there is none. */
static int check_space(struct segpool *pool, enum segfmt_stream stream)
{
    uint64_t keep = stream == STREAM_OUTCOMES ? 0 : pool->min_free_bytes;
    uint64_t left = 0;
    int result = io_space_free(pool->spool->io, pool->path, &left);

    if (result < 0)
        return result;
    pool->space_left = left > pool->min_free_bytes ? left - pool->min_free_bytes : 0;
    return left >= keep + pool->segment_bytes ? 0 : E_LOW_SPACE;
}

static void write_zeroes(struct segpool *pool)
{
    uint32_t left = pool->segment_bytes - pool->job_at;
    uint32_t bytes = left < ZEROES_BYTES ? left : ZEROES_BYTES;

    if (left == 0) {
        pool->job = JOB_ZEROES_SYNC;
        io_sync(pool->spool->io, &pool->job_op, pool->job_segment->fd);
        return;
    }
    pool->job = JOB_ZEROES;
    io_write(pool->spool->io, &pool->job_op, pool->job_segment->fd, pool->zeros, bytes,
             pool->job_at, false);
}

static void make_start(struct segpool *pool, enum segfmt_stream stream)
{
    struct segment *segment = find_state(pool, SEGMENT_NONE);
    int result = unlink_left(pool);

    if (result == 0)
        result = check_space(pool, stream);
    if (result == 0 && segment == NULL)
        result = E_FULL;
    if (result == 0)
        result = segpool_file_open(pool, segment, true);
    if (result < 0) {
        job_stuck(pool, result);
        return;
    }
    pool->file_count++;
    segment->state = SEGMENT_MAKING;
    segment->was_used = false;
    segment->bytes = pool->segment_bytes;
    result = io_file_lock(pool->spool->io, segment->fd);
    if (result < 0) {
        making_failed(pool, segment, result);
        return;
    }
    pool->job_segment = segment;
    pool->job_stream = 0;
    pool->job_at = 0;
    write_zeroes(pool);
}

static void make_done(struct segpool *pool)
{
    struct segment *segment = pool->job_segment;
    int result = io_dir_sync(pool->spool->io, pool->path);

    if (result < 0) {
        making_failed(pool, segment, result);
        return;
    }
    pool->job = JOB_NONE;
    pool->failure = 0;
    segment->state = SEGMENT_FREE;
    pool->free_count++;
}

/* Fills the pool's block with what the superblock will hold; returns where it goes. */
static uint64_t super_prepare(struct segpool *pool)
{
    struct spool *spool = pool->spool;
    struct segpool_serials *serials = &spool->serials;
    struct segfmt_super super = {.life = spool->life, .writes = serials->super_writes + 1};

    must(!serials->is_writing && serials->next < UINT32_MAX - SERIALS_AHEAD);
    serials->is_writing = true;
    serials->wanted = serials->next + SERIALS_AHEAD;
    super.serial_limit = serials->wanted;
    memcpy(super.uuid, spool->uuid, SEGFMT_UUID_BYTES);
    for (uint32_t i = 0; i < spool->device_count; i++) {
        const struct spool_device *device = &spool->devices[i];

        if (!device->pool.is_retired && device->pool.job != JOB_RETIRE)
            memcpy(super.ids[device->pool.number], device->id, SEGFMT_ID_BYTES);
    }
    segfmt_super_encode(&super, pool->block);
    return (super.writes % 2) * SEGFMT_BLOCK;
}

static void super_written(struct segpool_serials *serials, bool is_good)
{
    serials->is_writing = false;
    if (!is_good)
        return;
    serials->super_writes++;
    serials->limit = serials->wanted;
}

/* The next use of the job's segment, in the pool's block. */
static void header_prepare(struct segpool *pool, struct segment *segment, uint8_t stream)
{
    struct segfmt_header header = {.stream = stream,
                                   .device = pool->number,
                                   .slot = file_of(pool, segment),
                                   .serial = pool->spool->serials.next++,
                                   .life = pool->spool->life,
                                   .segment_bytes = segment->bytes,
                                   .sequence = pool->spool->sequence_next,
                                   .former = pool->newest[stream]};

    must(header.serial < pool->spool->serials.limit);
    memcpy(header.uuid, pool->spool->uuid, SEGFMT_UUID_BYTES);
    segfmt_header_encode(&header, pool->block);
    segment->serial = header.serial;
    segment->seed = segfmt_seed(header.uuid, header.serial);
    segment->stream = stream;
    segment->life = header.life;
    segment->former = header.former;
    segment->end = SEGFMT_BLOCK;
    segment->live = 0;
    segment->live_bytes = 0;
    segment->ended_bytes = 0;
    segment->open = 0;
    segment->free_after = 0;
    segment->has_void = false;
}

static void header_write(struct segpool *pool)
{
    pool->job = JOB_HEADER;
    header_prepare(pool, pool->job_segment, pool->job_stream);
    io_write(pool->spool->io, &pool->job_op, pool->job_segment->fd, pool->block, SEGFMT_BLOCK, 0,
             !pool->by_sync);
}

static void super_write(struct segpool *pool, enum segpool_job job)
{
    pool->job = job;
    io_write(pool->spool->io, &pool->job_op, pool->spool->super_fd, pool->block, SEGFMT_BLOCK,
             super_prepare(pool), true);
}

/* While another device's pool reserves serials, this one waits for them. */
static bool may_head(const struct segpool *pool)
{
    const struct segpool_serials *serials = &pool->spool->serials;

    return serials->next < serials->limit || !serials->is_writing;
}

static void heading_start(struct segpool *pool, struct segment *segment, enum segfmt_stream stream)
{
    must(segment != NULL && segment->state == SEGMENT_FREE && pool->free_count > 0);
    pool->free_count--;
    segment->state = SEGMENT_HEADING;
    pool->job_segment = segment;
    pool->job_stream = (uint8_t)stream;
    if (pool->spool->serials.next < pool->spool->serials.limit)
        header_write(pool);
    else
        super_write(pool, JOB_SUPER);
}

static void heading_done(struct segpool *pool)
{
    struct segment *segment = pool->job_segment;

    must(pool->ready[pool->job_stream] == NULL);
    pool->job = JOB_NONE;
    pool->failure = 0;
    segment->state = SEGMENT_READY;
    pool->ready[pool->job_stream] = segment;
    pool->newest[pool->job_stream] = segment->serial;
}

/* Nothing in it counts, but its medium is not to be trusted: it is not tried again. */
static void heading_failed(struct segpool *pool, int error)
{
    struct segment *segment = pool->job_segment;

    pool->job = JOB_NONE;
    segment->state = SEGMENT_POISONED;
    segpool_release(pool, segment);
    pool->rests = true;
    retry_later(pool, error);
}

static void on_zeroes_written(struct segpool *pool, int32_t result)
{
    uint32_t left = pool->segment_bytes - pool->job_at;
    int error = write_error(result, left < ZEROES_BYTES ? left : ZEROES_BYTES);

    if (error < 0) {
        making_failed(pool, pool->job_segment, error);
        return;
    }
    pool->job_at += (uint32_t)result;
    write_zeroes(pool);
}

static void on_header_written(struct segpool *pool)
{
    if (!pool->by_sync) {
        heading_done(pool);
        return;
    }
    pool->job = JOB_HEADER_SYNC;
    io_sync(pool->spool->io, &pool->job_op, pool->job_segment->fd);
}

/* The superblock lies on the first device: its failure says nothing about another one's segment. */
static void on_super_written(struct segpool *pool, int error)
{
    if (pool->job == JOB_RETIRE) {
        pool->job = JOB_NONE;
        pool->is_retired = error == 0;
        if (error < 0)
            job_stuck(pool, error);
    } else if (error == 0) {
        header_write(pool);
    } else if (pool->has_outcomes) {
        heading_failed(pool, error);
    } else {
        pool->job = JOB_NONE;
        pool->job_segment->state = SEGMENT_FREE;
        pool->free_count++;
        pool->rests = true;
        retry_later(pool, error);
    }
}

static void on_job_done(struct io_op *op, int32_t result)
{
    struct segpool *pool = container_of(op, struct segpool, job_op);
    bool is_block = pool->job == JOB_SUPER || pool->job == JOB_RETIRE || pool->job == JOB_HEADER;
    int error = is_block ? write_error(result, SEGFMT_BLOCK) : result < 0 ? result : 0;

    if (pool->job == JOB_ZEROES) {
        on_zeroes_written(pool, result);
    } else if (pool->job == JOB_ZEROES_SYNC) {
        if (error < 0)
            making_failed(pool, pool->job_segment, error);
        else
            make_done(pool);
    } else if (pool->job == JOB_SUPER || pool->job == JOB_RETIRE) {
        super_written(&pool->spool->serials, error == 0);
        on_super_written(pool, error);
    } else if (error < 0) {
        heading_failed(pool, error);
    } else if (pool->job == JOB_HEADER) {
        on_header_written(pool);
    } else {
        must(pool->job == JOB_HEADER_SYNC);
        heading_done(pool);
    }
}

static void publish_counts(struct segpool *pool)
{
    struct spool_device *device = &pool->spool->devices[pool->device];

    atomic_store_explicit(&device->segments_total, pool->file_count, memory_order_relaxed);
    atomic_store_explicit(&device->segments_free, pool->free_count, memory_order_relaxed);
}

static bool has_stream(const struct segpool *pool, enum segfmt_stream stream)
{
    return stream == STREAM_OUTCOMES ? pool->has_outcomes : pool->takes_mail;
}

/* A device that only delivers, and has nothing any more: the superblock need not name it. */
static void look_if_retired(struct segpool *pool)
{
    int result = 0;

    if (pool->is_retired || pool->stuck || pool->spool->serials.is_writing)
        return;
    if (pool->left_count > 0)
        result = unlink_left(pool);
    if (segpool_is_empty(pool))
        super_write(pool, JOB_RETIRE);
    else if (pool->left_count > 0)
        job_stuck(pool, result < 0 ? result : E_FULL);
}

/* Outcomes first: they are what frees space. */
void segpool_turn(struct segpool *pool)
{
    static const uint8_t by_need[] = {STREAM_OUTCOMES, STREAM_MESSAGES};
    enum segfmt_stream most_needed = STREAM_MESSAGES;
    uint32_t wanted = pool->has_outcomes ? SEGPOOL_RESERVE : SPARE;

    if (pool->job != JOB_NONE || pool->rests)
        return;
    if (is_leaving(pool)) {
        look_if_retired(pool);
        publish_counts(pool);
        return;
    }
    for (size_t i = 0; i < sizeof(by_need); i++) {
        if (pool->ready[by_need[i]] != NULL || !has_stream(pool, by_need[i]))
            continue;
        wanted++;
        if (by_need[i] == STREAM_OUTCOMES && pool->free_count == 0)
            most_needed = STREAM_OUTCOMES;
        if (pool->free_count > reserve_against(pool, by_need[i]) && may_head(pool)) {
            heading_start(pool, find_state(pool, SEGMENT_FREE), by_need[i]);
            return;
        }
    }
    if (pool->free_count < wanted && may_grow(pool, most_needed))
        make_start(pool, most_needed);
    publish_counts(pool);
}

/* ---- Before anything runs ------------------------------------------------------------------ */

static int super_write_synced(struct segpool *pool)
{
    struct io *io = pool->spool->io;
    uint64_t offset = super_prepare(pool);
    int64_t written =
        io_file_write_now(io, pool->spool->super_fd, pool->block, SEGFMT_BLOCK, offset);

    if (written != SEGFMT_BLOCK)
        return written < 0 ? (int)written : -EIO;
    return io_file_sync_now(io, pool->spool->super_fd);
}

int segpool_super_write_now(struct spool *spool)
{
    bool is_first = spool->serials.super_writes == 0;
    int result = 0;

    if (is_first)
        result = io_file_truncate(spool->io, spool->super_fd, 0);
    if (result == 0) {
        result = super_write_synced(&spool->devices[0].pool);
        super_written(&spool->serials, result == 0);
    }
    if (result == 0)
        return 0;
    /* After a failed sync the system may show a block, and a size, that the disk does not have. The
     * next life must not build upon them. */
    if (is_first)
        (void)io_file_truncate(spool->io, spool->super_fd, 0);
    return result;
}

/* Outcomes get a file beyond the operator's count if need be: a spool that cannot open helps
 * nobody, and they are what empties it. */
static int make_now(struct segpool *pool, enum segfmt_stream stream)
{
    struct io *io = pool->spool->io;
    struct segment *segment = find_state(pool, SEGMENT_NONE);
    int64_t written = 0;
    int result;

    if (segment == NULL || check_space(pool, stream) < 0)
        return E_LOW_SPACE;
    if (stream == STREAM_MESSAGES && pool->file_count >= pool->spool->options.segment_count_max)
        return E_LOW_SPACE;
    result = segpool_file_open(pool, segment, true);
    if (result < 0)
        return result;
    pool->file_count++;
    segment->bytes = pool->segment_bytes;
    result = io_file_lock(io, segment->fd);
    for (uint32_t at = 0; at < segment->bytes && result == 0; at += (uint32_t)written) {
        uint32_t left = segment->bytes - at;

        written = io_file_write_now(io, segment->fd, pool->zeros,
                                    left < ZEROES_BYTES ? left : ZEROES_BYTES, at);
        result = written < 0 ? (int)written : written == 0 ? -EIO : 0;
    }
    if (result == 0)
        result = io_file_sync_now(io, segment->fd);
    if (result == 0)
        result = io_dir_sync(io, pool->path);
    if (result < 0) {
        unlink_slot(pool, segment);
        return result;
    }
    segment->state = SEGMENT_FREE;
    pool->free_count++;
    return 0;
}

static int head_now(struct segpool *pool, struct segment *segment, enum segfmt_stream stream)
{
    struct io *io = pool->spool->io;
    int64_t written;
    int result;

    must(segment != NULL && segment->state == SEGMENT_FREE);
    header_prepare(pool, segment, (uint8_t)stream);
    pool->free_count--;
    written = io_file_write_now(io, segment->fd, pool->block, SEGFMT_BLOCK, 0);
    result = written == SEGFMT_BLOCK ? io_file_sync_now(io, segment->fd) : -EIO;
    if (result < 0) {
        segment->state = SEGMENT_POISONED;
        segpool_release(pool, segment);
        return written < 0 ? (int)written : result;
    }
    segment->state = SEGMENT_READY;
    pool->ready[stream] = segment;
    pool->newest[stream] = segment->serial;
    return 0;
}

int segpool_prepare_now(struct segpool *pool)
{
    static const uint8_t by_need[] = {STREAM_OUTCOMES, STREAM_MESSAGES};

    for (size_t i = 0; i < sizeof(by_need); i++) {
        enum segfmt_stream stream = by_need[i];
        int result = 0;

        if (!has_stream(pool, stream))
            continue;
        if (pool->free_count <= reserve_against(pool, stream))
            result = make_now(pool, stream);
        /* Too little space for mail is a state to run in, not a reason not to start. */
        if (result == E_LOW_SPACE && stream == STREAM_MESSAGES)
            break;
        if (result == 0)
            result = head_now(pool, find_state(pool, SEGMENT_FREE), stream);
        if (result < 0 && !pool->has_outcomes) {
            job_stuck(pool, result);
            break;
        }
        if (result < 0)
            return result;
    }
    publish_counts(pool);
    return 0;
}

int segpool_prepare_beyond_limits_now(struct segpool *pool, enum segfmt_stream stream)
{
    int result = pool->free_count > 0 ? 0 : make_now(pool, STREAM_OUTCOMES);

    must(pool->ready[stream] == NULL);
    if (result == 0)
        result = head_now(pool, find_state(pool, SEGMENT_FREE), stream);
    publish_counts(pool);
    return result;
}
