/* Cursors: outcome records in log order, read on another thread than the spool's. */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/scan.h"
#include "queue/spool_int.h"

#include <errno.h>

struct spool_cursor {
    struct spool *spool;
    struct io *io;
    struct spool_pin *pin;
    uint32_t serial; /* of the segment being read; 0 = none yet */
    uint32_t offset; /* behind the last record read */
    uint16_t slot;
    int fd; /* -1 = none */
    bool scanning;
    struct scan scan;
};

static uint64_t published(const struct spool *spool, uint32_t slot)
{
    return atomic_load_explicit(&spool->devices[0].pool.published[slot], memory_order_acquire);
}

/* The oldest readable outcome segment with a serial of at least `serial`. */
static bool find_segment(const struct spool *spool, uint32_t serial, uint16_t *ret_slot,
                         uint32_t *ret_serial)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < spool->devices[0].pool.slot_count; i++) {
        uint32_t found = (uint32_t)(published(spool, i) >> 32);

        if (found == 0 || found < serial || found >= best)
            continue;
        best = found;
        *ret_slot = (uint16_t)i;
    }
    *ret_serial = best;
    return best != UINT32_MAX;
}

struct spool_cursor *spool_cursor_create(struct spool *spool, struct io *io, uint64_t number,
                                         const struct log_place *from)
{
    struct spool_cursor *cursor = mem_alloc(sizeof(*cursor));

    cursor->spool = spool;
    cursor->io = io;
    cursor->fd = -1;
    /* The pin stands before the first look at what is there, so nothing found is recycled. */
    cursor->pin = spool_pin_get(spool, number);
    must(cursor->pin != NULL);
    atomic_store(&cursor->pin->serial, from->serial);
    cursor->serial = from->serial;
    cursor->offset = from->offset;
    return cursor;
}

static void leave_segment(struct spool_cursor *cursor)
{
    cursor->scanning = false;
    if (cursor->fd >= 0)
        io_close_now(cursor->io, cursor->fd);
    cursor->fd = -1;
}

void spool_cursor_destroy(struct spool_cursor *cursor)
{
    if (cursor == NULL)
        return;
    leave_segment(cursor);
    scan_fini(&cursor->scan);
    atomic_store(&cursor->pin->number, 0);
    mem_free(cursor);
}

static int64_t read_segment(void *context, void *data, size_t len, uint64_t offset)
{
    struct spool_cursor *cursor = context;

    return io_file_read_now(cursor->io, cursor->fd, data, len, offset);
}

/* Past the page cache: what it read ahead behind the durable end would be in the way of the spool's
 * direct writes there. */
static int segment_open(struct spool_cursor *cursor)
{
    char path[SPOOL_PATH_MAX + 32];
    int result;

    spool_segment_path(cursor->spool->devices[0].path, cursor->slot, path);
    result = io_file_open(cursor->io, path, IO_FILE_READ | IO_FILE_DIRECT, &cursor->fd);
    if (result == -EINVAL)
        result = io_file_open(cursor->io, path, IO_FILE_READ, &cursor->fd);
    return result;
}

/* Opens the segment that holds the cursor's place, or the oldest one behind it. */
static int enter_segment(struct spool_cursor *cursor)
{
    struct scan_source source = {read_segment, cursor};
    uint32_t serial;
    uint64_t from;
    int result;

    if (!find_segment(cursor->spool, cursor->serial, &cursor->slot, &serial))
        return 0;
    if (serial != cursor->serial)
        cursor->offset = SEGFMT_BLOCK;
    result = segment_open(cursor);
    if (result < 0)
        return result;
    cursor->serial = serial;
    from = cursor->offset < SEGFMT_BLOCK ? SEGFMT_BLOCK : cursor->offset;
    if (cursor->scan.window == NULL)
        scan_init(&cursor->scan, &source, cursor->spool->uuid, serial, from, from);
    else
        scan_restart(&cursor->scan, &source, cursor->spool->uuid, serial, from, from);
    cursor->scanning = true;
    return 1;
}

/* True when there is more to read here now, or a later segment that says that there never will be
 * (*ret_over). */
static bool look_further(struct spool_cursor *cursor, bool *ret_over)
{
    uint16_t slot;
    uint32_t serial;
    bool is_last = !find_segment(cursor->spool, cursor->serial + 1, &slot, &serial);
    uint64_t state = published(cursor->spool, cursor->slot);
    uint32_t end = (uint32_t)state;

    *ret_over = !is_last;
    if ((uint32_t)(state >> 32) != cursor->serial)
        return false;
    if (end <= cursor->scan.limit)
        return false;
    scan_extend(&cursor->scan, end);
    return true;
}

int spool_cursor_next(struct spool_cursor *cursor, struct slice *ret_outcome,
                      struct log_place *ret_after)
{
    for (;;) {
        struct scan_record record;
        enum scan_event event = SCAN_END;
        bool over;

        if (!cursor->scanning) {
            int result = enter_segment(cursor);

            if (result <= 0)
                return result;
        }
        event = scan_next(&cursor->scan, &record);
        if (event == SCAN_END) {
            if (look_further(cursor, &over))
                continue;
            if (!over)
                return 0;
            leave_segment(cursor);
            cursor->serial++;
            cursor->offset = SEGFMT_BLOCK;
            continue;
        }
        if (event != SCAN_RECORD)
            continue;
        cursor->offset = record.offset + (uint32_t)segfmt_record_room(record.payload_bytes);
        if (record.type != RECORD_OUTCOME)
            continue;
        *ret_outcome = record.payload;
        ret_after->serial = cursor->serial;
        ret_after->offset = cursor->offset;
        ret_after->bytes = 0;
        ret_after->slot = cursor->slot;
        return 1;
    }
}
