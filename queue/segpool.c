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

static void on_job_done(struct io_op *op, int32_t result);

/* The turn that follows finds these gone and tries again. */
static void on_retry(struct io_timer *timer)
{
    struct segpool *pool = container_of(timer, struct segpool, retry);

    pool->stuck = false;
    pool->rests = false;
}

void segpool_init(struct segpool *pool, struct spool *spool, uint32_t slots)
{
    must(slots > 0 && slots < UINT16_MAX);
    memset(pool, 0, sizeof(*pool));
    pool->spool = spool;
    pool->segment_bytes = (uint32_t)spool->options.segment_bytes;
    pool->slot_count = slots;
    pool->slots = mem_alloc(slots * sizeof(*pool->slots));
    pool->published = mem_alloc(slots * sizeof(*pool->published));
    for (uint32_t i = 0; i < slots; i++) {
        pool->slots[i].fd = -1;
        pool->slots[i].slot = (uint16_t)i;
    }
    pool->zeros = mem_alloc_aligned(ZEROES_BYTES, SEGFMT_BLOCK);
    pool->block = mem_alloc_aligned(SEGFMT_BLOCK, SEGFMT_BLOCK);
    pool->serial_next = 1;
    pool->is_direct = true;
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
    mem_free(pool->slots);
    mem_free(pool->published);
    mem_free(pool->zeros);
    mem_free(pool->block);
}

int segpool_file_open(struct segpool *pool, uint16_t slot, bool create, int *ret_fd)
{
    struct io *io = pool->spool->io;
    char path[SPOOL_PATH_MAX + 32];
    unsigned flags = IO_FILE_READ | IO_FILE_WRITE;
    int result = -EINVAL;

    spool_segment_path(pool->spool->path, slot, path);
    if (pool->is_direct)
        result = io_file_open(
            io, path, flags | IO_FILE_DIRECT | (create ? IO_FILE_CREATE | IO_FILE_EXCLUSIVE : 0u),
            ret_fd);
    if (result != -EINVAL)
        return result;
    /* The file system knows no O_DIRECT (a refused open may have made the file all the same): the
     * page cache is then in between, the syncs stay. */
    pool->is_direct = false;
    return io_file_open(io, path, flags | (create ? IO_FILE_CREATE : 0u), ret_fd);
}

/* ---- Ends of use --------------------------------------------------------------------------- */

static int unlink_file(struct segpool *pool, const struct segment *segment)
{
    char path[SPOOL_PATH_MAX + 32];
    int result;

    spool_segment_path(pool->spool->path, segment->slot, path);
    result = io_file_unlink(pool->spool->io, path);
    if (result == 0 || result == -ENOENT)
        result = io_dir_sync(pool->spool->io, pool->spool->path);
    return result;
}

/* The slot of a file that nobody ever read from may be used again in this life. */
static void slot_gone(struct segpool *pool, struct segment *segment)
{
    segment->state = segment->was_used ? SEGMENT_GONE : SEGMENT_NONE;
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
        return;
    }
    slot_gone(pool, segment);
}

/* Files whose unlinking failed before. A few at a time, since each costs a sync. An error when
 * there are too many of them to make another. */
static int unlink_left(struct segpool *pool)
{
    uint32_t tried = 0;
    uint32_t left = 0;
    int result = 0;

    for (uint32_t i = 0; i < pool->slot_count && left < LEFT_MAX; i++) {
        struct segment *segment = &pool->slots[i];

        if (!segment->is_left)
            continue;
        if (result == 0 && tried++ < UNLINKS_MAX)
            result = unlink_file(pool, segment);
        if (result < 0 || tried > UNLINKS_MAX)
            left++;
        else
            slot_gone(pool, segment);
    }
    return left < LEFT_MAX ? 0 : result < 0 ? result : E_FULL;
}

void segpool_release(struct segpool *pool, struct segment *segment)
{
    must(segment->live == 0);
    must(segment->state == SEGMENT_SEALED || segment->state == SEGMENT_POISONED);
    atomic_store_explicit(&pool->published[segment->slot], 0, memory_order_seq_cst);
    segment->free_after = 0;
    spool_count(&pool->spool->counters.recycled, 1);
    if (segment->state == SEGMENT_POISONED || segment->odd_size ||
        pool->file_count > pool->spool->options.segment_count_max) {
        unlink_slot(pool, segment);
        return;
    }
    segment->state = SEGMENT_FREE;
    pool->free_count++;
}

/* Empty: free as soon as a checkpoint that begins from now on is complete. */
static void look_if_empty(struct segpool *pool, struct segment *segment)
{
    if (segment->stream != STREAM_MESSAGES || segment->live > 0)
        return;
    if (segment->state != SEGMENT_SEALED && segment->state != SEGMENT_POISONED)
        return;
    segment->free_after = pool->spool->checkpoint.number + 1;
    if (planted("queue/recycled-early"))
        segpool_release(pool, segment);
}

void segpool_seal(struct segpool *pool, struct segment *segment)
{
    must(segment->state == SEGMENT_ACTIVE);
    segment->state = SEGMENT_SEALED;
    look_if_empty(pool, segment);
}

void segpool_poison(struct segpool *pool, struct segment *segment)
{
    must(segment->state == SEGMENT_ACTIVE || segment->state == SEGMENT_SEALED);
    segment->state = SEGMENT_POISONED;
    segment->free_after = 0;
    look_if_empty(pool, segment);
}

void segpool_records_done(struct segpool *pool, struct segment *segment, uint32_t count,
                          uint64_t bytes)
{
    must(segment->stream == STREAM_MESSAGES && segment->live >= count);
    segment->live -= count;
    segment->live_bytes -= bytes < segment->live_bytes ? bytes : segment->live_bytes;
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
    atomic_store_explicit(&pool->published[segment->slot],
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
static uint32_t reserve_against(enum segfmt_stream stream)
{
    return stream == STREAM_MESSAGES ? SEGPOOL_RESERVE : 0;
}

/*
 * Whether a file may be made for the stream. Outcomes and checkpoints are what frees space, so when
 * everything else is used up they get files beyond the operator's count and free space.
 */
static bool may_grow(const struct segpool *pool, enum segfmt_stream stream)
{
    if (pool->stuck)
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
    if (pool->rests)
        return false;
    return pool->free_count > reserve_against(stream) || may_grow(pool, stream);
}

int segpool_shortage(const struct segpool *pool)
{
    return pool->failure == 0 ? E_LOW_SPACE : pool->failure;
}

bool segpool_is_low(const struct segpool *pool)
{
    if (pool->rests && pool->ready[STREAM_MESSAGES] == NULL)
        return true;
    return pool->free_count <= reserve_against(STREAM_MESSAGES) &&
           !may_grow(pool, STREAM_MESSAGES) && !(pool->job != JOB_NONE && pool->job_stream == 0);
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
    return pool->serial_next;
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
    struct spool *spool = pool->spool;
    uint64_t keep = stream == STREAM_OUTCOMES ? 0 : spool->options.min_free_bytes;
    uint64_t left = 0;
    int result = io_space_free(spool->io, spool->path, &left);

    if (result < 0)
        return result;
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
        result = segpool_file_open(pool, segment->slot, true, &segment->fd);
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
    int result = io_dir_sync(pool->spool->io, pool->spool->path);

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
static uint64_t super_prepare(struct segpool *pool, uint32_t more)
{
    struct segfmt_super super = {.life = pool->spool->life,
                                 .writes = pool->super_writes + 1,
                                 .serial_limit = pool->serial_next + more};

    must(more > 0 && super.serial_limit > pool->serial_next);
    memcpy(super.uuid, pool->spool->uuid, SEGFMT_UUID_BYTES);
    segfmt_super_encode(&super, pool->block);
    return (super.writes % 2) * SEGFMT_BLOCK;
}

static void super_written(struct segpool *pool)
{
    pool->super_writes++;
    pool->serial_limit = pool->serial_next + SERIALS_AHEAD;
}

/* The next use of the job's segment, in the pool's block. */
static void header_prepare(struct segpool *pool, struct segment *segment, uint8_t stream)
{
    struct segfmt_header header = {.stream = stream,
                                   .slot = segment->slot,
                                   .serial = pool->serial_next++,
                                   .life = pool->spool->life,
                                   .segment_bytes = segment->bytes,
                                   .sequence = pool->spool->sequence_next,
                                   .former = pool->newest[stream]};

    must(header.serial < pool->serial_limit);
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
    segment->open = 0;
    segment->free_after = 0;
    segment->has_void = false;
}

static void header_write(struct segpool *pool)
{
    pool->job = JOB_HEADER;
    header_prepare(pool, pool->job_segment, pool->job_stream);
    io_write(pool->spool->io, &pool->job_op, pool->job_segment->fd, pool->block, SEGFMT_BLOCK, 0,
             !pool->spool->commit_by_sync);
}

static void heading_start(struct segpool *pool, struct segment *segment, enum segfmt_stream stream)
{
    must(segment != NULL && segment->state == SEGMENT_FREE && pool->free_count > 0);
    pool->free_count--;
    segment->state = SEGMENT_HEADING;
    pool->job_segment = segment;
    pool->job_stream = (uint8_t)stream;
    if (pool->serial_next < pool->serial_limit) {
        header_write(pool);
        return;
    }
    pool->job = JOB_SUPER;
    io_write(pool->spool->io, &pool->job_op, pool->spool->super_fd, pool->block, SEGFMT_BLOCK,
             super_prepare(pool, SERIALS_AHEAD), true);
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
    if (!pool->spool->commit_by_sync) {
        heading_done(pool);
        return;
    }
    pool->job = JOB_HEADER_SYNC;
    io_sync(pool->spool->io, &pool->job_op, pool->job_segment->fd);
}

static void on_job_done(struct io_op *op, int32_t result)
{
    struct segpool *pool = container_of(op, struct segpool, job_op);
    bool is_block = pool->job == JOB_SUPER || pool->job == JOB_HEADER;
    int error = is_block ? write_error(result, SEGFMT_BLOCK) : result < 0 ? result : 0;

    if (pool->job == JOB_ZEROES) {
        on_zeroes_written(pool, result);
    } else if (pool->job == JOB_ZEROES_SYNC) {
        if (error < 0)
            making_failed(pool, pool->job_segment, error);
        else
            make_done(pool);
    } else if (error < 0) {
        heading_failed(pool, error);
    } else if (pool->job == JOB_SUPER) {
        super_written(pool);
        header_write(pool);
    } else if (pool->job == JOB_HEADER) {
        on_header_written(pool);
    } else {
        must(pool->job == JOB_HEADER_SYNC);
        heading_done(pool);
    }
}

static void publish_counts(struct segpool *pool)
{
    struct spool_counters *counters = &pool->spool->counters;

    atomic_store_explicit(&counters->segments_total, pool->file_count, memory_order_relaxed);
    atomic_store_explicit(&counters->segments_free, pool->free_count, memory_order_relaxed);
}

/* Outcomes first: they are what frees space. */
void segpool_turn(struct segpool *pool)
{
    static const uint8_t by_need[] = {STREAM_OUTCOMES, STREAM_MESSAGES};
    enum segfmt_stream most_needed = STREAM_MESSAGES;
    uint32_t wanted = SEGPOOL_RESERVE;

    if (pool->job != JOB_NONE || pool->rests)
        return;
    for (size_t i = 0; i < sizeof(by_need); i++) {
        if (pool->ready[by_need[i]] != NULL)
            continue;
        wanted++;
        if (by_need[i] == STREAM_OUTCOMES && pool->free_count == 0)
            most_needed = STREAM_OUTCOMES;
        if (pool->free_count > reserve_against(by_need[i])) {
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
    uint64_t offset = super_prepare(pool, SERIALS_AHEAD);
    int64_t written =
        io_file_write_now(io, pool->spool->super_fd, pool->block, SEGFMT_BLOCK, offset);

    if (written != SEGFMT_BLOCK)
        return written < 0 ? (int)written : -EIO;
    return io_file_sync_now(io, pool->spool->super_fd);
}

int segpool_super_write_now(struct segpool *pool)
{
    bool is_first = pool->super_writes == 0;
    int result = 0;

    if (is_first)
        result = io_file_truncate(pool->spool->io, pool->spool->super_fd, 0);
    if (result == 0)
        result = super_write_synced(pool);
    if (result == 0) {
        super_written(pool);
        return 0;
    }
    /* After a failed sync the system may show a block, and a size, that the disk does not have. The
     * next life must not build upon them. */
    if (is_first)
        (void)io_file_truncate(pool->spool->io, pool->spool->super_fd, 0);
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
    result = segpool_file_open(pool, segment->slot, true, &segment->fd);
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
        result = io_dir_sync(io, pool->spool->path);
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

        if (pool->free_count <= reserve_against(stream))
            result = make_now(pool, stream);
        /* Too little space for mail is a state to run in, not a reason not to start. */
        if (result == E_LOW_SPACE && stream == STREAM_MESSAGES)
            break;
        if (result == 0)
            result = head_now(pool, find_state(pool, SEGMENT_FREE), stream);
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
