/* The disk format as bytes, batches as they are laid out, and the scan over a segment in memory. */
#include "tests/unit/core_base/unit.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/rng.h"
#include "queue/batch.h"
#include "queue/scan.h"
#include "queue/spool_int.h"

#include <string.h>

#define SEGMENT_BYTES 262144u

static const uint8_t uuid[SEGFMT_UUID_BYTES] = "0123456789abcde";

static uint32_t le32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put_le32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

/* ---- Headers -------------------------------------------------------------------------------- */

static void superblock_bytes(void **state)
{
    struct segfmt_super super = {.life = 5, .serial_limit = 1030, .writes = 9};
    struct segfmt_super out;
    uint8_t block[SEGFMT_BLOCK];

    memcpy(super.uuid, uuid, sizeof(uuid));
    segfmt_super_encode(&super, block);
    assert_memory_equal(block, "RPSB\1\0\0\0", 8);
    assert_memory_equal(block + 8, uuid, sizeof(uuid));
    assert_int_equal(block[24], 5);
    assert_int_equal(le32(block + 32), 1030);
    assert_int_equal(block[40], 9);
    assert_int_equal(le32(block + 60), crc32c(0, block, 60));
    assert_int_equal(segfmt_super_decode(block, &out), 0);
    assert_true(out.life == 5 && out.serial_limit == 1030 && out.writes == 9);
    for (size_t at = 0; at < 64; at++) {
        block[at] ^= 1;
        assert_int_equal(segfmt_super_decode(block, &out), E_DAMAGED);
        block[at] ^= 1;
    }
    memset(block, 0, sizeof(block));
    assert_int_equal(segfmt_super_decode(block, &out), E_DAMAGED);
}

/* A build that knows but one directory must refuse this: its version is another one. */
static void superblock_that_lists_directories(void **state)
{
    struct segfmt_super super = {.life = 5, .serial_limit = 1030, .writes = 9};
    struct segfmt_super out = {.life = 77};
    uint8_t block[SEGFMT_BLOCK];

    memcpy(super.uuid, uuid, sizeof(uuid));
    memset(super.ids[1], 0xa1, SEGFMT_ID_BYTES);
    memset(super.ids[6], 0xa6, SEGFMT_ID_BYTES);
    segfmt_super_encode(&super, block);
    assert_memory_equal(block, "RPSB\2\0\0\0", 8);
    assert_memory_equal(block + 8, uuid, sizeof(uuid));
    assert_int_equal(block[24], 5);
    assert_int_equal(le32(block + 60), crc32c(0, block, 60));
    assert_memory_equal(block + 64, super.ids[1], 16);
    assert_true(segfmt_id_is_none(block + 80));
    assert_memory_equal(block + 144, super.ids[6], 16);
    assert_int_equal(le32(block + 160), crc32c(0, block, 160));
    for (size_t at = 164; at < sizeof(block); at++)
        assert_int_equal(block[at], 0);
    for (size_t at = 0; at < 164; at++) {
        block[at] ^= 1;
        assert_int_equal(segfmt_super_decode(block, &out), E_DAMAGED);
        block[at] ^= 1;
    }
    assert_int_equal(out.life, 77);
    assert_int_equal(segfmt_super_decode(block, &out), 0);
    assert_memory_equal(out.ids, super.ids, sizeof(out.ids));
    assert_true(out.life == 5 && out.serial_limit == 1030 && out.writes == 9);
    /* One of a later version, whole and with its sums. */
    block[4] = 3;
    put_le32(block + 60, crc32c(0, block, 60));
    put_le32(block + 160, crc32c(0, block, 160));
    assert_int_equal(segfmt_super_decode(block, &out), E_VERSION);
}

/* The first version says nothing of directories, whatever stands behind it. */
static void superblock_of_one_directory(void **state)
{
    struct segfmt_super super = {.life = 5, .serial_limit = 1030, .writes = 9};
    struct segfmt_super out;
    uint8_t block[SEGFMT_BLOCK];

    memset(&out, 0xff, sizeof(out));
    memcpy(super.uuid, uuid, sizeof(uuid));
    segfmt_super_encode(&super, block);
    for (size_t at = 64; at < sizeof(block); at++)
        assert_int_equal(block[at], 0);
    memset(block + 64, 0x55, 100);
    assert_int_equal(segfmt_super_decode(block, &out), 0);
    for (uint32_t i = 0; i < SEGFMT_DEVICES; i++)
        assert_true(segfmt_id_is_none(out.ids[i]));
}

static void identity_bytes(void **state)
{
    struct segfmt_device device = {.number = 3};
    struct segfmt_device out;
    uint8_t block[SEGFMT_BLOCK];

    memcpy(device.uuid, uuid, sizeof(uuid));
    memset(device.id, 0xa3, sizeof(device.id));
    segfmt_device_encode(&device, block);
    assert_memory_equal(block, "RPDV\1\0\3\0", 8);
    assert_memory_equal(block + 8, uuid, sizeof(uuid));
    assert_memory_equal(block + 24, device.id, sizeof(device.id));
    for (size_t at = 40; at < 60; at++)
        assert_int_equal(block[at], 0);
    assert_int_equal(le32(block + 60), crc32c(0, block, 60));
    assert_int_equal(segfmt_device_decode(block, &out), 0);
    assert_memory_equal(&out, &device, sizeof(out));
    for (size_t at = 0; at < 64; at++) {
        block[at] ^= 1;
        assert_int_equal(segfmt_device_decode(block, &out), E_DAMAGED);
        block[at] ^= 1;
    }
    block[6] = SEGFMT_DEVICES;
    put_le32(block + 60, crc32c(0, block, 60));
    assert_int_equal(segfmt_device_decode(block, &out), E_VERSION);
}

/* Of one directory it is what it always was: 16 bytes. */
static void begin_of_a_checkpoint_names_directories(void **state)
{
    struct segfmt_begin begin = {.number = 7, .places = {{.serial = 11, .offset = 4096}}};
    struct segfmt_checkpoint one = {.number = 7, .serial = 11, .offset = 4096};
    struct segfmt_begin out;
    uint8_t room[SEGFMT_BEGIN_BYTES_MAX];
    uint8_t as_before[SEGFMT_CHECKPOINT_BYTES];

    segfmt_checkpoint_encode(&one, as_before);
    assert_int_equal(segfmt_begin_encode(&begin, room), SEGFMT_CHECKPOINT_BYTES);
    assert_memory_equal(room, as_before, sizeof(as_before));
    begin.places[2] = (struct segfmt_place){.serial = 12, .offset = 8192};
    begin.places[6] = (struct segfmt_place){.serial = 13, .offset = 4096};
    assert_int_equal(segfmt_begin_encode(&begin, room), 40);
    assert_memory_equal(room, as_before, sizeof(as_before));
    assert_memory_equal(room + 16, "\2\0\0\0\xc\0\0\0\0\x20\0\0\6\0\0\0\xd\0\0\0\0\x10\0\0", 24);
    assert_int_equal(segfmt_begin_decode(slice_of(room, 40), &out), 0);
    assert_memory_equal(&out, &begin, sizeof(out));
    for (size_t len = 0; len < 40; len++)
        assert_int_equal(segfmt_begin_decode(slice_of(room, len), &out),
                         len == 16 || len == 28 ? 0 : E_DAMAGED);
    /* The same directory twice, none of that number, and no place. */
    room[28] = 2;
    assert_int_equal(segfmt_begin_decode(slice_of(room, 40), &out), E_DAMAGED);
    room[28] = SEGFMT_DEVICES;
    assert_int_equal(segfmt_begin_decode(slice_of(room, 40), &out), E_DAMAGED);
    room[28] = 6;
    room[32] = 0;
    assert_int_equal(segfmt_begin_decode(slice_of(room, 40), &out), E_DAMAGED);
}

static void segment_header_stands_twice(void **state)
{
    struct segfmt_header header = {.stream = STREAM_OUTCOMES,
                                   .slot = 513,
                                   .serial = 77,
                                   .life = 3,
                                   .segment_bytes = SEGMENT_BYTES,
                                   .sequence = 1000,
                                   .former = 70};
    struct segfmt_header out;
    uint8_t block[SEGFMT_BLOCK];

    memcpy(header.uuid, uuid, sizeof(uuid));
    segfmt_header_encode(&header, block);
    assert_memory_equal(block, "RPSG\1\0\2\0", 8);
    assert_int_equal(le32(block + 8), 77);
    assert_memory_equal(block + 12, "\1\2", 2);
    assert_int_equal(le32(block + 56), 70);
    assert_memory_equal(block, block + SEGFMT_HEADER_COPY, SEGFMT_HEADER_BYTES);
    header.device = 5;
    segfmt_header_encode(&header, block);
    assert_memory_equal(block, "RPSG\1\0\2\5", 8);
    for (size_t at = 0; at < SEGFMT_HEADER_BYTES; at++) {
        block[at] ^= 0x10;
        assert_int_equal(segfmt_header_decode(block, &out), 0);
        assert_true(out.serial == 77 && out.slot == 513 && out.former == 70 && out.life == 3);
        block[SEGFMT_HEADER_COPY + at] ^= 0x10;
        assert_int_equal(segfmt_header_decode(block, &out), E_DAMAGED);
        block[at] ^= 0x10;
        block[SEGFMT_HEADER_COPY + at] ^= 0x10;
    }
}

static void record_sums_hold_serial_and_uuid(void **state)
{
    struct segfmt_record record = {.type = RECORD_OUTCOME,
                                   .flags = RECORD_MESSAGE_DONE,
                                   .payload_bytes = 5,
                                   .serial = 7,
                                   .sequence = 99};
    struct segfmt_record out;
    uint32_t seed = segfmt_seed(uuid, 7);
    uint8_t room[64] = {0};

    memcpy(room + SEGFMT_RECORD_BYTES, "hello", 5);
    segfmt_record_encode(&record, seed, room);
    assert_memory_equal(room, "RPRC\2\1\0\0\5\0\0\0\7\0\0\0\x63", 17);
    assert_true(segfmt_record_decode(room, seed, &out));
    assert_int_equal(out.crc, crc32c(segfmt_record_head_crc(room), "hello", 5));
    assert_int_equal(out.crc, crc32c(crc32c(0, room, 28), "hello", 5));
    assert_false(segfmt_record_decode(room, segfmt_seed(uuid, 8), &out));
    assert_false(
        segfmt_record_decode(room, segfmt_seed((const uint8_t *)"another spool's!", 7), &out));
    for (size_t at = 0; at < 28; at++) {
        room[at] ^= 1;
        assert_false(segfmt_record_decode(room, seed, &out));
        room[at] ^= 1;
    }
}

static void names_of_files(void **state)
{
    char room[SEGFMT_NAME_BYTES];
    uint16_t slot = 0;

    segfmt_name(42, room);
    assert_string_equal(room, "00042.seg");
    assert_true(segfmt_name_parse("00042.seg", &slot));
    assert_int_equal(slot, 42);
    assert_true(segfmt_name_parse("65534.seg", &slot));
    assert_false(segfmt_name_parse("65535.seg", &slot));
    assert_false(segfmt_name_parse("99999.seg", &slot));
    assert_false(segfmt_name_parse("0042.seg", &slot));
    assert_false(segfmt_name_parse("00042.sex", &slot));
    assert_false(segfmt_name_parse("0004x.seg", &slot));
    assert_false(segfmt_name_parse("super", &slot));
    assert_false(segfmt_name_parse("000042.seg", &slot));
}

/* ---- A segment in memory ----------------------------------------------------------------------
 */

struct image {
    uint8_t *bytes;
    uint64_t size;
    struct segment segment;
    uint64_t sequence;
    uint32_t end;
};

static int64_t image_read(void *context, void *data, size_t len, uint64_t offset)
{
    struct image *image = context;

    if (offset >= image->size)
        return 0;
    if (len > image->size - offset)
        len = (size_t)(image->size - offset);
    memcpy(data, image->bytes + offset, len);
    return (int64_t)len;
}

static void image_init(struct image *image, uint32_t serial)
{
    memset(image, 0, sizeof(*image));
    image->bytes = calloc(1, SEGMENT_BYTES);
    image->size = SEGMENT_BYTES;
    image->segment.serial = serial;
    image->segment.seed = segfmt_seed(uuid, serial);
    image->segment.bytes = SEGMENT_BYTES;
    image->sequence = 1;
    image->end = SEGFMT_BLOCK;
}

static void request_of(struct log_request *request, struct iovec *iov, void *bytes, uint32_t len)
{
    *iov = (struct iovec){bytes, len};
    *request = (struct log_request){.parcel.kind = SPOOL_APPEND_OUTCOME,
                                    .payload = iov,
                                    .payload_count = 1,
                                    .payload_bytes = len};
}

/* One commit of records of these sizes, filled with their number. */
static void image_commit(struct image *image, const uint32_t *sizes, uint32_t count)
{
    struct batch batch;
    uint8_t *bytes = calloc(1, 70000);

    batch_init(&batch, 65536);
    batch_begin(&batch, &image->segment, image->end);
    for (uint32_t i = 0; i < count; i++) {
        struct log_request request;
        struct iovec iov;

        memset(bytes, (int)image->sequence, sizes[i]);
        request_of(&request, &iov, bytes, sizes[i]);
        batch_put(&batch, &request, image->sequence++);
    }
    {
        uint32_t len = batch_finish(&batch, STREAM_OUTCOMES, 1);

        memcpy(image->bytes + image->end, batch.buffer, len);
        image->end += len;
    }
    batch_reset(&batch);
    batch_fini(&batch);
    free(bytes);
}

struct seen {
    uint32_t records;
    uint32_t gaps;
    uint32_t tail_gaps;
    uint64_t sequences[256];
    uint64_t end;
};

static struct seen scan_all(struct image *image, uint64_t from)
{
    struct scan_source source = {image_read, image};
    struct seen seen = {.records = 0};
    uint32_t gap_batches[256];
    struct scan_record record;
    enum scan_event event;
    struct scan scan;

    scan_init(&scan, &source, uuid, image->segment.serial, from, image->size);
    while ((event = scan_next(&scan, &record)) != SCAN_END) {
        if (event == SCAN_GAP) {
            gap_batches[seen.gaps++] = record.batch;
            continue;
        }
        for (uint32_t i = 0; i < record.payload_bytes; i++)
            assert_int_equal(record.payload.data[i], (uint8_t)record.sequence);
        seen.sequences[seen.records++] = record.sequence;
    }
    for (uint32_t i = 0; i < seen.gaps; i++)
        seen.tail_gaps += gap_batches[i] == scan.batches;
    seen.end = scan.end;
    scan_fini(&scan);
    return seen;
}

static void scan_reads_what_was_written(void **state)
{
    static const uint32_t one[] = {10, 0, 3000, 7};
    static const uint32_t two[] = {60000};
    struct image image;
    struct seen seen;

    image_init(&image, 9);
    image_commit(&image, one, 4);
    image_commit(&image, two, 1);
    image_commit(&image, one, 4);
    seen = scan_all(&image, SEGFMT_BLOCK);
    assert_int_equal(seen.records, 9);
    assert_int_equal(seen.gaps, 0);
    assert_int_equal(seen.end, image.end);
    /* From the middle of a batch: a place that a cursor remembered. */
    seen = scan_all(&image, SEGFMT_BLOCK + SEGFMT_BATCH_BYTES + 48 + 32);
    assert_int_equal(seen.records, 7);
    assert_int_equal(seen.sequences[0], 3);
    assert_int_equal(seen.gaps, 0);
    free(image.bytes);
}

static void another_serial_is_not_there(void **state)
{
    static const uint32_t sizes[] = {100, 200};
    struct image image;

    image_init(&image, 9);
    image_commit(&image, sizes, 2);
    image.segment.serial = 10;
    assert_int_equal(scan_all(&image, SEGFMT_BLOCK).records, 0);
    assert_int_equal(scan_all(&image, SEGFMT_BLOCK).gaps, 0);
    free(image.bytes);
}

/* Any single bad byte: at most one record is missing, and something is said about it. */
static void one_bad_byte_costs_one_record(void **state)
{
    static const uint32_t sizes[] = {10, 100, 0, 5000, 33};
    struct image image;

    image_init(&image, 9);
    for (int i = 0; i < 3; i++)
        image_commit(&image, sizes, 5);
    for (uint32_t at = SEGFMT_BLOCK; at < image.end; at++) {
        struct seen seen;

        image.bytes[at] ^= 0x40;
        seen = scan_all(&image, SEGFMT_BLOCK);
        assert_true(seen.records >= 14 && seen.records <= 15);
        if (seen.records == 14)
            assert_true(seen.gaps > 0);
        image.bytes[at] ^= 0x40;
    }
    free(image.bytes);
}

static void a_cut_at_every_sector_is_a_tail(void **state)
{
    static const uint32_t sizes[] = {3000, 3000, 3000, 3000};
    struct image image;
    uint32_t before;

    image_init(&image, 9);
    image_commit(&image, sizes, 4);
    before = image.end;
    image_commit(&image, sizes, 4);
    for (uint32_t at = before; at < image.end; at += 512) {
        uint8_t *saved = malloc(image.end - at);
        struct seen seen;

        memcpy(saved, image.bytes + at, image.end - at);
        memset(image.bytes + at, 0, image.end - at);
        seen = scan_all(&image, SEGFMT_BLOCK);
        assert_int_equal(seen.gaps, seen.tail_gaps);
        assert_true(seen.records >= 4);
        /* The file itself cut short gives the same records. */
        image.size = at;
        assert_int_equal(scan_all(&image, SEGFMT_BLOCK).records, seen.records);
        image.size = SEGMENT_BYTES;
        memcpy(image.bytes + at, saved, image.end - at);
        free(saved);
    }
    free(image.bytes);
}

/* A hole in the first blocks of the last commit, whose later blocks landed. */
static void islands_in_a_torn_commit_are_a_tail(void **state)
{
    static const uint32_t sizes[] = {4000, 4000, 4000, 4000};
    struct image image;
    struct seen seen;
    uint32_t before;

    image_init(&image, 9);
    image_commit(&image, sizes, 4);
    before = image.end;
    image_commit(&image, sizes, 4);
    memset(image.bytes + before, 0, 4096);
    seen = scan_all(&image, SEGFMT_BLOCK);
    assert_int_equal(seen.records, 4 + 2);
    assert_true(seen.gaps > 0 && seen.gaps == seen.tail_gaps);
    /* The same hole with a commit behind it is damage. */
    image_commit(&image, sizes, 1);
    seen = scan_all(&image, SEGFMT_BLOCK);
    assert_int_equal(seen.records, 4 + 2 + 1);
    assert_true(seen.gaps > 0 && seen.tail_gaps == 0);
    free(image.bytes);
}

/* Bytes that look like records inside a message must not become records when the scan looks there.
 */
static void records_inside_a_payload_stay_there(void **state)
{
    struct image inner;
    struct image image;
    static const uint32_t sizes[] = {50, 50, 50};
    struct log_request request;
    struct iovec iov;
    struct batch batch;
    struct seen seen;

    /* Somebody who knows everything but the uuid. */
    image_init(&inner, 9);
    inner.segment.seed = segfmt_seed((const uint8_t *)"a guessed uuid!!", 9);
    image_commit(&inner, sizes, 3);
    image_init(&image, 9);
    batch_init(&batch, 65536);
    batch_begin(&batch, &image.segment, image.end);
    request_of(&request, &iov, inner.bytes + SEGFMT_BLOCK, SEGFMT_BLOCK);
    batch_put(&batch, &request, 1);
    memcpy(image.bytes + image.end, batch.buffer, batch_finish(&batch, STREAM_OUTCOMES, 1));
    image.bytes[image.end + SEGFMT_BATCH_BYTES + 8] ^= 1;
    seen = scan_all(&image, SEGFMT_BLOCK);
    assert_int_equal(seen.records, 0);
    batch_reset(&batch);
    batch_fini(&batch);
    free(inner.bytes);
    free(image.bytes);
}

/* ---- Batches ----------------------------------------------------------------------------------
 */

static void a_batch_moves_to_another_segment(void **state)
{
    static uint8_t bytes[300];
    struct image old;
    struct image new;
    struct batch batch;
    uint64_t sequence = 50;
    struct seen seen;

    image_init(&old, 9);
    image_init(&new, 10);
    batch_init(&batch, 65536);
    batch_begin(&batch, &old.segment, SEGFMT_BLOCK);
    for (uint32_t i = 0; i < 3; i++) {
        struct log_request request;
        struct iovec iov;

        memset(bytes, (int)(50 + i), sizeof(bytes));
        request_of(&request, &iov, bytes, 100 * (i + 1));
        batch_put(&batch, &request, 1 + i);
    }
    batch_move(&batch, &new.segment, 8192, &sequence);
    assert_int_equal(sequence, 53);
    assert_true(batch.first == 50 && batch.last == 52);
    memcpy(new.bytes + 8192, batch.buffer, batch_finish(&batch, STREAM_OUTCOMES, 1));
    seen = scan_all(&new, 8192);
    assert_int_equal(seen.records, 3);
    assert_int_equal(seen.sequences[0], 50);
    batch_reset(&batch);
    batch_fini(&batch);
    free(old.bytes);
    free(new.bytes);
}

/* A record larger than the buffer, in scattered pieces, written piece by piece. */
static void a_large_record_passes_in_pieces(void **state)
{
    struct image image;
    struct batch batch;
    struct log_request request = {.parcel.kind = SPOOL_APPEND_OUTCOME};
    struct iovec iov[5];
    uint8_t *bytes = malloc(100000);
    uint32_t written = 0;
    uint32_t piece;

    memset(bytes, 7, 100000);
    iov[0] = (struct iovec){bytes, 1};
    iov[1] = (struct iovec){bytes + 1, 50000};
    iov[2] = (struct iovec){bytes, 0};
    iov[3] = (struct iovec){bytes + 50001, 4096};
    iov[4] = (struct iovec){bytes + 54097, 45903};
    request.payload = iov;
    request.payload_count = 5;
    request.payload_bytes = 100000;
    image_init(&image, 9);
    batch_init(&batch, 16384);
    batch_begin_large(&batch, &request, &image.segment, SEGFMT_BLOCK, 7);
    assert_false(batch_sum(&batch, 60000));
    assert_true(batch_sum(&batch, 60000));
    batch_finish_large(&batch, STREAM_OUTCOMES, 1);
    while ((piece = batch_piece(&batch, 16384)) > 0) {
        memcpy(image.bytes + SEGFMT_BLOCK + written, batch.buffer, piece);
        written += piece;
    }
    assert_int_equal(written, segfmt_align(48 + 32 + 100000, 4096));
    assert_int_equal(scan_all(&image, SEGFMT_BLOCK).records, 1);
    batch_reset(&batch);
    batch_fini(&batch);
    free(bytes);
    free(image.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(superblock_bytes),
        cmocka_unit_test(superblock_that_lists_directories),
        cmocka_unit_test(superblock_of_one_directory),
        cmocka_unit_test(identity_bytes),
        cmocka_unit_test(begin_of_a_checkpoint_names_directories),
        cmocka_unit_test(segment_header_stands_twice),
        cmocka_unit_test(record_sums_hold_serial_and_uuid),
        cmocka_unit_test(names_of_files),
        cmocka_unit_test(scan_reads_what_was_written),
        cmocka_unit_test(another_serial_is_not_there),
        cmocka_unit_test(one_bad_byte_costs_one_record),
        cmocka_unit_test(a_cut_at_every_sector_is_a_tail),
        cmocka_unit_test(islands_in_a_torn_commit_are_a_tail),
        cmocka_unit_test(records_inside_a_payload_stay_there),
        cmocka_unit_test(a_batch_moves_to_another_segment),
        cmocka_unit_test(a_large_record_passes_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
