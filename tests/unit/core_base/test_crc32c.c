#include "core/base/crc32c.h"

#include "tests/unit/core_base/unit.h"

#include <string.h>

/* Bit by bit, straight from the polynomial. */
static uint32_t reference(const uint8_t *data, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* RFC 3720, B.4, and the check value of the catalogues. */
static void published_values(void **state)
{
    uint8_t bytes[32];

    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32c(0, NULL, 0), 0);
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, bytes, sizeof(bytes)), 0x113fdb5c);
}

static uint8_t data[8192];

static int fill(void **state)
{
    uint32_t number = 1;

    for (size_t i = 0; i < sizeof(data); i++) {
        number = number * 1664525 + 1013904223;
        data[i] = (uint8_t)(number >> 24);
    }
    return 0;
}

/* Lengths around the block of 1008 bytes and its multiples, at every alignment. */
static void every_length_and_alignment(void **state)
{
    for (size_t len = 0; len < 80; len++) {
        for (size_t start = 0; start < 9; start++)
            assert_int_equal(crc32c(0, data + start, len), reference(data + start, len));
    }
    for (size_t blocks = 1; blocks <= 6; blocks++) {
        for (size_t len = blocks * 1008 - 17; len <= blocks * 1008 + 17; len++)
            assert_int_equal(crc32c(0, data + len % 8, len), reference(data + len % 8, len));
    }
}

static void a_sum_can_be_continued_anywhere(void **state)
{
    uint32_t whole = crc32c(0, data, 3000);

    for (size_t cut = 0; cut <= 3000; cut += 7) {
        uint32_t running = crc32c(0, data, cut);

        assert_int_equal(crc32c(running, data + cut, 3000 - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_values),
        cmocka_unit_test(every_length_and_alignment),
        cmocka_unit_test(a_sum_can_be_continued_anywhere),
    };

    return cmocka_run_group_tests(tests, fill, NULL);
}
