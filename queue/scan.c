#include "queue/scan.h"

#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/planted.h"

#define WINDOW_BYTES (1u << 20)

void scan_restart(struct scan *scan, const struct scan_source *source, const uint8_t *uuid,
                  uint32_t serial, uint64_t from, uint64_t limit)
{
    uint8_t *window = scan->window;
    size_t window_room = scan->window_room;

    must(window != NULL && from % SEGFMT_RECORD_ALIGN == 0);
    memset(scan, 0, sizeof(*scan));
    scan->source = *source;
    memcpy(scan->uuid, uuid, SEGFMT_UUID_BYTES);
    scan->serial = serial;
    scan->seed = segfmt_seed(uuid, serial);
    scan->at = from < SEGFMT_BLOCK ? SEGFMT_BLOCK : from;
    scan->limit = limit;
    scan->end = segfmt_align(scan->at, SEGFMT_BLOCK);
    /* A record may stand there as well as a batch: the looser state takes both. */
    scan->in_batch = true;
    scan->window = window;
    scan->window_room = window_room;
}

void scan_init(struct scan *scan, const struct scan_source *source, const uint8_t *uuid,
               uint32_t serial, uint64_t from, uint64_t limit)
{
    memset(scan, 0, sizeof(*scan));
    scan->window_room = WINDOW_BYTES;
    scan->window = mem_alloc_aligned(scan->window_room, SEGFMT_BLOCK);
    scan_restart(scan, source, uuid, serial, from, limit);
}

void scan_fini(struct scan *scan)
{
    mem_free(scan->window);
    scan->window = NULL;
}

void scan_extend(struct scan *scan, uint64_t limit)
{
    must(limit >= scan->limit);
    scan->limit = limit;
}

/* ---- The window ---------------------------------------------------------------------------- */

/* Block by block around whatever cannot be read. */
static size_t read_by_blocks(struct scan *scan, uint8_t *data, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        int64_t got =
            scan->source.read(scan->source.context, data + done, SEGFMT_BLOCK, offset + done);

        if (got < 0) {
            memset(data + done, 0, SEGFMT_BLOCK);
            scan->read_errors++;
            got = SEGFMT_BLOCK;
        }
        done += (size_t)got;
        if (got < (int64_t)SEGFMT_BLOCK)
            break;
    }
    return done;
}

static void window_load(struct scan *scan, uint64_t offset)
{
    uint64_t from = offset & ~(uint64_t)(SEGFMT_BLOCK - 1);
    uint64_t upto = segfmt_align(scan->limit, SEGFMT_BLOCK);
    size_t len = scan->window_room;
    int64_t got;

    if (upto - from < len)
        len = (size_t)(upto - from);
    got = scan->source.read(scan->source.context, scan->window, len, from);
    if (got < 0)
        got = (int64_t)read_by_blocks(scan, scan->window, len, from);
    scan->window_at = from;
    scan->window_len = (size_t)got;
    scan->bytes_read += (uint64_t)got;
    /* What lies behind the limit may be written at this moment. */
    if (scan->window_at + scan->window_len > scan->limit)
        scan->window_len = (size_t)(scan->limit - scan->window_at);
}

static void window_grow(struct scan *scan, size_t room)
{
    room = segfmt_align(room, SEGFMT_BLOCK);
    mem_free(scan->window);
    scan->window = mem_alloc_aligned(room, SEGFMT_BLOCK);
    scan->window_room = room;
    scan->window_len = 0;
}

/* len bytes at offset, or NULL when the segment does not go so far. The window may move. */
static const uint8_t *view(struct scan *scan, uint64_t offset, size_t len)
{
    if (offset + len > scan->limit)
        return NULL;
    if (offset < scan->window_at || offset + len > scan->window_at + scan->window_len) {
        size_t lead = offset % SEGFMT_BLOCK;

        if (lead + len > scan->window_room)
            window_grow(scan, lead + len);
        window_load(scan, offset);
        if (offset + len > scan->window_at + scan->window_len)
            return NULL;
    }
    return scan->window + (offset - scan->window_at);
}

/* ---- Records ------------------------------------------------------------------------------- */

static bool payload_sums_up(struct scan *scan, uint64_t offset, uint32_t crc,
                            const struct segfmt_record *record)
{
    uint32_t done = 0;

    while (done < record->payload_bytes) {
        uint32_t left = record->payload_bytes - done;
        uint32_t piece = left < WINDOW_BYTES / 2 ? left : WINDOW_BYTES / 2;
        const uint8_t *data = view(scan, offset + done, piece);

        if (data == NULL)
            return false;
        crc = crc32c(crc, data, piece);
        done += piece;
    }
    return crc == record->crc || planted("queue/torn-tail-accepted");
}

/* How much of the payload the reader of such a record wants: of a message its envelope, which
 * begins with its own length; of a chunk nothing. */
static uint32_t payload_wanted(struct scan *scan, uint64_t offset,
                               const struct segfmt_record *record)
{
    struct wire_reader r;
    const uint8_t *data;
    uint32_t wanted;

    if (record->type == RECORD_CHUNK)
        return 0;
    if ((record->type != RECORD_MESSAGE && record->type != RECORD_COMMIT) ||
        record->payload_bytes < sizeof(uint32_t))
        return record->payload_bytes;
    data = view(scan, offset, sizeof(uint32_t));
    must(data != NULL);
    wire_reader_init(&r, data, sizeof(uint32_t));
    wanted = wire_get_u32(&r);
    return wanted < record->payload_bytes ? wanted : record->payload_bytes;
}

enum found {
    FOUND_NOTHING,
    FOUND_HEADER, /* the header is valid, the payload is not */
    FOUND_RECORD,
};

static enum found record_at(struct scan *scan, uint64_t offset, struct segfmt_record *ret_record)
{
    const uint8_t *head = view(scan, offset, SEGFMT_RECORD_BYTES);
    uint32_t crc;

    if (head == NULL || !segfmt_record_decode(head, scan->seed, ret_record))
        return FOUND_NOTHING;
    if (ret_record->serial != scan->serial && !planted("queue/crc-without-serial"))
        return FOUND_NOTHING;
    crc = segfmt_record_head_crc(head);
    /* One load for both, so that what is told later are the very bytes that were summed up. */
    if (ret_record->payload_bytes <= WINDOW_BYTES / 2)
        view(scan, offset, SEGFMT_RECORD_BYTES + ret_record->payload_bytes);
    if (!payload_sums_up(scan, offset + SEGFMT_RECORD_BYTES, crc, ret_record))
        return FOUND_HEADER;
    return FOUND_RECORD;
}

static void record_tell(struct scan *scan, uint64_t offset, const struct segfmt_record *record,
                        struct scan_record *ret_record)
{
    uint32_t wanted = payload_wanted(scan, offset + SEGFMT_RECORD_BYTES, record);
    const uint8_t *data = view(scan, offset + SEGFMT_RECORD_BYTES, wanted);

    must(data != NULL);
    memset(ret_record, 0, sizeof(*ret_record));
    ret_record->type = record->type;
    ret_record->flags = record->flags;
    ret_record->sequence = record->sequence;
    ret_record->offset = (uint32_t)offset;
    ret_record->payload_bytes = record->payload_bytes;
    ret_record->payload = slice_of(data, wanted);
}

static bool batch_at(struct scan *scan, uint64_t offset, struct segfmt_batch *ret_batch)
{
    const uint8_t *data = view(scan, offset, SEGFMT_BATCH_BYTES);

    if (data == NULL || !segfmt_batch_decode(data, scan->uuid, ret_batch))
        return false;
    return ret_batch->serial == scan->serial || planted("queue/crc-without-serial");
}

static void batch_enter(struct scan *scan, uint64_t offset, const struct segfmt_batch *batch)
{
    scan->batches++;
    scan->batch_at = offset;
    scan->in_batch = true;
    scan->batch_end_known = true;
    scan->batch_end = offset + batch->bytes;
    scan->at = offset + SEGFMT_BATCH_BYTES;
    if (segfmt_align(scan->at, SEGFMT_BLOCK) > scan->end)
        scan->end = segfmt_align(scan->at, SEGFMT_BLOCK);
}

static void record_pass(struct scan *scan, uint64_t offset, const struct segfmt_record *record)
{
    scan->at = offset + segfmt_record_room(record->payload_bytes);
    if (segfmt_align(scan->at, SEGFMT_BLOCK) > scan->end)
        scan->end = segfmt_align(scan->at, SEGFMT_BLOCK);
    if (scan->batch_end_known && scan->at >= scan->batch_end) {
        scan->in_batch = false;
        scan->at = segfmt_align(scan->at, SEGFMT_BLOCK);
    }
}

/* ---- After damage -------------------------------------------------------------------------- */

static uint32_t magic_at(const uint8_t *data)
{
    return (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
           (uint32_t)data[3] << 24;
}

/* The next place at or behind `from` that looks valid by its own header; UINT64_MAX = none. */
static uint64_t search(struct scan *scan, uint64_t from)
{
    for (uint64_t at = segfmt_align(from, SEGFMT_RECORD_ALIGN);
         at + SEGFMT_RECORD_BYTES <= scan->limit; at += SEGFMT_RECORD_ALIGN) {
        const uint8_t *data = view(scan, at, SEGFMT_RECORD_BYTES);
        struct segfmt_record record;
        struct segfmt_batch batch;

        if (data == NULL)
            return UINT64_MAX;
        if (magic_at(data) == SEGFMT_MAGIC_RECORD &&
            segfmt_record_decode(data, scan->seed, &record) &&
            (record.serial == scan->serial || planted("queue/crc-without-serial")))
            return at;
        if (magic_at(data) == SEGFMT_MAGIC_BATCH && at % SEGFMT_BLOCK == 0 &&
            batch_at(scan, at, &batch))
            return at;
    }
    return UINT64_MAX;
}

static enum scan_event gap(const struct scan *scan, uint64_t offset, const char *text,
                           struct scan_record *ret_record)
{
    memset(ret_record, 0, sizeof(*ret_record));
    ret_record->offset = (uint32_t)offset;
    ret_record->text = text;
    ret_record->batch = scan->batches;
    return SCAN_GAP;
}

/* Goes on at the next valid place. True when what was passed over is a gap worth telling. */
static bool resync(struct scan *scan, uint64_t from)
{
    bool was_in_known_batch = scan->in_batch && scan->batch_end_known;
    uint64_t found = search(scan, from);
    struct segfmt_batch batch;

    if (found == UINT64_MAX) {
        scan->at = scan->limit;
        scan->in_batch = false;
        return was_in_known_batch;
    }
    scan->at = found;
    if (found % SEGFMT_BLOCK == 0 && batch_at(scan, found, &batch)) {
        scan->in_batch = false;
        return was_in_known_batch || found != segfmt_align(from, SEGFMT_BLOCK);
    }
    scan->in_batch = true;
    if (was_in_known_batch && found < scan->batch_end)
        return true;
    scan->batch_end_known = false;
    return true;
}

static enum scan_event next_in_batch(struct scan *scan, struct scan_record *ret_record)
{
    struct segfmt_record record;
    uint64_t at = scan->at;

    switch (record_at(scan, at, &record)) {
    case FOUND_RECORD:
        record_pass(scan, at, &record);
        record_tell(scan, at, &record, ret_record);
        return SCAN_RECORD;
    case FOUND_HEADER:
        /* Its length can be trusted, unless it leads out of the segment. */
        if (at + segfmt_record_room(record.payload_bytes) <= scan->limit) {
            record_pass(scan, at, &record);
            return gap(scan, at, "a record's payload is damaged", ret_record);
        }
        resync(scan, at + SEGFMT_RECORD_ALIGN);
        return gap(scan, at, "a record ends behind the segment", ret_record);
    default:
        break;
    }
    if (resync(scan, at))
        return gap(scan, at, "a record's header is damaged", ret_record);
    return SCAN_END;
}

enum scan_event scan_next(struct scan *scan, struct scan_record *ret_record)
{
    for (;;) {
        struct segfmt_batch batch;
        uint64_t at = scan->at;
        enum scan_event event;

        if (at + SEGFMT_RECORD_BYTES > scan->limit)
            return SCAN_END;
        if (scan->in_batch) {
            event = next_in_batch(scan, ret_record);
            if (event != SCAN_END)
                return event;
            continue;
        }
        if (batch_at(scan, at, &batch)) {
            batch_enter(scan, at, &batch);
            continue;
        }
        if (resync(scan, at))
            return gap(scan, at, "a batch's header is damaged", ret_record);
    }
}
