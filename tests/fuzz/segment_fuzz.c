/*
 * The scan of a segment: whatever the bytes are, it ends, every record it gives lies inside of the
 * segment with a right sum, in order, and can be found again from its own place; what recovery and
 * the readers do with the payloads stays inside of them.
 *
 * The first octet chooses: 1 = put right the sums of everything that looks like a batch or record,
 * so that the fuzzer gets behind them; 2 = the segment is cut at an odd length.
 */
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/recover_table.h"
#include "queue/scan.h"
#include "queue/spool_int.h"
#include "queue/state.h"

#include <stdlib.h>

#define SERIAL 7u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static const uint8_t uuid[SEGFMT_UUID_BYTES] = "fuzzed uuid 0123";

struct image {
    uint8_t *bytes;
    size_t len;
};

static int64_t read_image(void *context, void *data, size_t len, uint64_t offset)
{
    const struct image *image = context;

    if (offset >= image->len)
        return 0;
    if (len > image->len - offset)
        len = image->len - (size_t)offset;
    memcpy(data, image->bytes + offset, len);
    return (int64_t)len;
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static void store32(uint8_t *at, uint32_t value)
{
    memcpy(at, &value, sizeof(value));
}

static void put_sums_right(struct image *image)
{
    uint32_t seed = segfmt_seed(uuid, SERIAL);

    for (size_t at = SEGFMT_BLOCK; at + SEGFMT_BATCH_BYTES <= image->len; at += 8) {
        uint8_t *here = image->bytes + at;
        uint32_t payload = load32(here + 8);

        if (load32(here) == SEGFMT_MAGIC_BATCH) {
            store32(here + 4, SERIAL);
            store32(here + 44, crc32c(seed, here, 44));
        }
        if (load32(here) != SEGFMT_MAGIC_RECORD)
            continue;
        store32(here + 12, SERIAL);
        store32(here + 24, crc32c(seed, here, 24));
        if (payload <= image->len - at - SEGFMT_RECORD_BYTES)
            store32(here + 28, crc32c(segfmt_record_head_crc(here), here + 32, payload));
    }
}

/* As recovery would use it. */
static void use(struct recover_table *table, const struct scan_record *record)
{
    struct log_place place = {.serial = SERIAL,
                              .offset = record->offset,
                              .bytes = 64,
                              .large = record->type == RECORD_COMMIT};
    struct log_commit commit;
    struct segfmt_checkpoint point;
    struct log_message_state state;
    struct segfmt_void gone;
    struct log_named named;
    struct envelope envelope;
    struct outcome outcome;

    if ((record->type == RECORD_MESSAGE || record->type == RECORD_COMMIT) &&
        envelope_decode(record->payload, &envelope) == 0)
        must(recover_table_message(table, &envelope, &place, place.offset % 3 == 0) <= 0);
    if (record->type == RECORD_STATE && log_message_state_decode(record->payload, &state) == 0)
        must(recover_table_state(table, &state) <= 0);
    if (record->type == RECORD_OUTCOME && outcome_decode(record->payload, &outcome) == 0)
        must(recover_table_outcome(table, &outcome, (record->flags & RECORD_MESSAGE_DONE) != 0) <=
             0);
    if (log_named_decode(record->payload, &named) == 0)
        must(named.key.len > 0);
    if (record->type == RECORD_CHUNK)
        must(record->payload.len == 0);
    (void)log_commit_decode(record->payload, record->payload.len, &commit);
    (void)segfmt_void_decode(record->payload, &gone);
    (void)segfmt_checkpoint_decode(record->payload, &point);
}

/* What was recovered must be tellable. */
static void tell(struct recover_table *table)
{
    uint32_t count = 0;
    uint32_t *sorted = recover_table_sorted(table, &count);

    for (uint32_t i = 0; i < count; i++) {
        const struct recover_message *message = &table->messages[sorted[i]];
        size_t room_bytes = recover_table_rcpts_max(table, message);
        uint8_t *room = malloc(room_bytes + 1);
        struct log_state_rcpt rcpt;
        struct wire_writer w;
        struct wire_reader r;
        uint32_t rcpts = 0;

        must(room != NULL);
        wire_writer_init(&w, room, room_bytes);
        recover_table_rcpts_put(table, message, &w);
        must(!w.failed);
        wire_reader_init(&r, room, wire_written(&w));
        while (log_state_rcpt_next(&r, &rcpt))
            rcpts++;
        must(rcpts == message->rcpt_count);
        free(room);
    }
    mem_free(sorted);
}

/* Windows are made once: a megabyte a run would be all that the fuzzer does. */
static void scan_begin(struct scan *scan, struct image *image, uint64_t from)
{
    struct scan_source source = {read_image, image};

    if (scan->window == NULL)
        scan_init(scan, &source, uuid, SERIAL, from, image->len);
    else
        scan_restart(scan, &source, uuid, SERIAL, from, image->len);
}

static void check_resume(struct image *image, const struct scan_record *record)
{
    static struct scan scan;
    struct scan_record again;

    scan_begin(&scan, image, record->offset);
    must(scan_next(&scan, &again) == SCAN_RECORD);
    must(again.offset == record->offset && again.sequence == record->sequence);
    must(slice_equal(again.payload, record->payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct image image = {.len = SEGFMT_BLOCK + len};
    static struct scan scan;
    struct recover_table table;
    struct scan_record record;
    enum scan_event event;
    uint64_t last = 0;
    uint32_t events = 0;
    unsigned choice = 0;

    if (len == 0 || len > (1u << 20))
        return 0;
    choice = data[0];
    image.bytes = calloc(1, image.len);
    must(image.bytes != NULL);
    memcpy(image.bytes + SEGFMT_BLOCK, data + 1, len - 1);
    if ((choice & 2) == 0)
        image.len &= ~(size_t)(SEGFMT_BLOCK - 1);
    if ((choice & 1) != 0)
        put_sums_right(&image);
    recover_table_init(&table);
    scan_begin(&scan, &image, SEGFMT_BLOCK);
    while ((event = scan_next(&scan, &record)) != SCAN_END) {
        must(++events <= 2 + image.len / 4);
        must(record.offset >= SEGFMT_BLOCK && record.offset < image.len);
        if (event != SCAN_RECORD)
            continue;
        must(record.offset > last && record.payload.len <= record.payload_bytes);
        must(record.offset + SEGFMT_RECORD_BYTES + (uint64_t)record.payload_bytes <= image.len);
        last = record.offset;
        use(&table, &record);
        if (events < 8)
            check_resume(&image, &record);
    }
    must(scan.end % SEGFMT_BLOCK == 0);
    tell(&table);
    recover_table_fini(&table);
    free(image.bytes);
    return 0;
}
