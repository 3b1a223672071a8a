#include "core/base/wire.h"

#include "tests/unit/core_base/unit.h"

static void numbers_are_little_endian(void **state)
{
    static const uint8_t wanted[] = {0x01, 0x23, 0x01, 0x67, 0x45, 0x23, 0x01, 0xef,
                                     0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    uint8_t room[sizeof(wanted)];
    struct wire_writer w;
    struct wire_reader r;

    wire_writer_init(&w, room, sizeof(room));
    wire_put_u8(&w, 0x01);
    wire_put_u16(&w, 0x0123);
    wire_put_u32(&w, 0x01234567);
    wire_put_u64(&w, 0x0123456789abcdef);
    assert_false(w.failed);
    assert_int_equal(wire_written(&w), sizeof(wanted));
    assert_memory_equal(room, wanted, sizeof(wanted));

    wire_reader_init(&r, room, sizeof(room));
    assert_int_equal(wire_get_u8(&r), 0x01);
    assert_int_equal(wire_get_u16(&r), 0x0123);
    assert_int_equal(wire_get_u32(&r), 0x01234567);
    assert_true(wire_get_u64(&r) == 0x0123456789abcdef);
    assert_false(r.failed);
    assert_int_equal(wire_left(&r), 0);
}

static void strings_keep_every_byte(void **state)
{
    uint8_t room[600];
    uint8_t bytes[300];
    struct wire_writer w;
    struct wire_reader r;

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    wire_writer_init(&w, room, sizeof(room));
    wire_put_str8(&w, SLICE_EMPTY);
    wire_put_str8(&w, slice_of(bytes, 255));
    wire_put_str16(&w, slice_of(bytes, 256));
    wire_put_str16(&w, slice_of(NULL, 0));
    assert_false(w.failed);

    wire_reader_init(&r, room, wire_written(&w));
    assert_int_equal(wire_get_str8(&r).len, 0);
    assert_true(slice_equal(wire_get_str8(&r), slice_of(bytes, 255)));
    assert_true(slice_equal(wire_get_str16(&r), slice_of(bytes, 256)));
    assert_int_equal(wire_get_str16(&r).len, 0);
    assert_false(r.failed);
    assert_int_equal(wire_left(&r), 0);
}

static void a_failed_writer_stays_failed(void **state)
{
    uint8_t room[8] = {0};
    struct wire_writer w;

    wire_writer_init(&w, room, 3);
    wire_put_u16(&w, 0x0201);
    wire_put_u16(&w, 0x0403);
    assert_true(w.failed);
    /* One byte would fit, but what follows a gap must not be written. */
    wire_put_u8(&w, 9);
    wire_put_bytes(&w, "", 0);
    assert_true(w.failed);
    assert_int_equal(wire_written(&w), 2);
    assert_int_equal(room[2], 0);
    assert_int_equal(room[3], 0);
}

static void strings_are_written_whole_or_not_at_all(void **state)
{
    uint8_t room[70000] = {0};
    uint8_t bytes[65536] = {0};
    struct wire_writer w;

    wire_writer_init(&w, room, sizeof(room));
    wire_put_str8(&w, slice_of(bytes, 256));
    assert_true(w.failed);
    assert_int_equal(wire_written(&w), 0);

    wire_writer_init(&w, room, sizeof(room));
    wire_put_str16(&w, slice_of(bytes, 65535));
    assert_false(w.failed);
    wire_writer_init(&w, room, sizeof(room));
    wire_put_str16(&w, slice_of(bytes, 65536));
    assert_true(w.failed);

    /* Room for the prefix, but one byte short of the string. */
    wire_writer_init(&w, room, 4);
    wire_put_str8(&w, slice_str("abcd"));
    assert_true(w.failed);
    assert_int_equal(wire_written(&w), 0);
    wire_writer_init(&w, room, 5);
    wire_put_str8(&w, slice_str("abcd"));
    assert_false(w.failed);
    wire_writer_init(&w, room, 1);
    wire_put_str16(&w, SLICE_EMPTY);
    assert_true(w.failed);
    wire_writer_init(&w, room, 0);
    wire_put_str8(&w, SLICE_EMPTY);
    assert_true(w.failed);
}

static void a_failed_reader_gives_nothing_more(void **state)
{
    static const uint8_t bytes[] = {1, 2, 3};
    struct wire_reader r;

    wire_reader_init(&r, bytes, sizeof(bytes));
    assert_int_equal(wire_get_u8(&r), 1);
    assert_int_equal(wire_get_u32(&r), 0);
    assert_true(r.failed);
    assert_int_equal(wire_get_u8(&r), 0);
    assert_int_equal(wire_get_u64(&r), 0);
    assert_int_equal(wire_get_bytes(&r, 1).len, 0);
    assert_true(r.failed);
}

static void a_length_beyond_the_end_fails(void **state)
{
    static const uint8_t short8[] = {4, 'a', 'b', 'c'};
    static const uint8_t short16[] = {0xff, 0xff, 'a'};
    struct wire_reader r;
    struct slice s;

    wire_reader_init(&r, short8, sizeof(short8));
    s = wire_get_str8(&r);
    assert_true(r.failed);
    assert_int_equal(s.len, 0);
    assert_non_null(s.data);

    wire_reader_init(&r, short16, sizeof(short16));
    assert_int_equal(wire_get_str16(&r).len, 0);
    assert_true(r.failed);

    wire_reader_init(&r, short8, sizeof(short8));
    assert_int_equal(wire_get_bytes(&r, SIZE_MAX).len, 0);
    assert_true(r.failed);

    wire_reader_init(&r, NULL, 0);
    assert_int_equal(wire_get_u8(&r), 0);
    assert_true(r.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(strings_keep_every_byte),
        cmocka_unit_test(a_failed_writer_stays_failed),
        cmocka_unit_test(strings_are_written_whole_or_not_at_all),
        cmocka_unit_test(a_failed_reader_gives_nothing_more),
        cmocka_unit_test(a_length_beyond_the_end_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
