/*
 * Headers that are edited as they leave: random messages in a few buffers, and what header_scan
 * says of the same octets.
 */
#include "core/base/err.h"
#include "core/base/rng.h"
#include "core/mail/header_scan.h"
#include "shard/shard_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define ROUNDS      3000u
#define OCTETS_MAX  200000u
#define LISTED      "x-gone,Received , X-2"
#define ENVELOPE    77u
#define PIECE_COUNT 12u

static struct shard shard;
static struct queue queue;
static struct delivery delivery;
static uint8_t content[OCTETS_MAX], expected[OCTETS_MAX], left[OCTETS_MAX];

static void open_all(void)
{
    memset(&delivery, 0, sizeof(delivery));
    memset(&queue, 0, sizeof(queue));
    message_pool_init(&shard.pool, 4 << 20, 4);
    queue.settings.signing.removed = LISTED;
    delivery.shard = &shard;
}

static void close_all(void)
{
    heading_free(&delivery);
    message_free(delivery.message);
    assert_int_equal(shard.pool.bytes_used, 0);
    message_pool_fini(&shard.pool);
}

/* Pieces of headers in any order; large in one of a few. */
static uint32_t make_content(struct rng *rng)
{
    static const char *const pieces[PIECE_COUNT] = {
        "X-GONE: 1\r\n",
        "x-gone : 2\r\n\tfolded\r\n",
        "Received:\r\n by us\r\n",
        "Received-By: no\r\n",
        "X-2: b\r\n",
        "Subject: x-gone: s\r\n",
        "X-Gone2: stays\r\n",
        "..X-Gone: dot\r\n",
        "To: a,\r\n b,\r\n\tc\r\n",
        "\r\n",
        "no field\r\n",
        "x-gone: \xff\r\n",
    };
    uint32_t octets = 0, count = (uint32_t)rng_below(rng, 14);

    for (uint32_t i = 0; i < count; i++) {
        const char *piece = pieces[rng_below(rng, PIECE_COUNT)];

        memcpy(content + octets, piece, strlen(piece));
        octets += (uint32_t)strlen(piece);
        if (rng_below(rng, 8) == 0) {
            uint32_t long_octets = 1 + (uint32_t)rng_below(rng, 12000);

            memcpy(content + octets, "L:", 2);
            memset(content + octets + 2, 'l', long_octets);
            memcpy(content + octets + 2 + long_octets, "\r\n", 2);
            octets += long_octets + 4;
        }
    }
    return octets;
}

static uint32_t expect(uint32_t octets)
{
    static struct header_facts facts;
    struct header_limits limits = {OCTETS_MAX, 1000};
    struct header_want wants[] = {{.name = SLICE_LITERAL("x-gone"), .strip = true},
                                  {.name = SLICE_LITERAL("received"), .strip = true},
                                  {.name = SLICE_LITERAL("x-2"), .strip = true}};
    uint32_t at = 0, to = 0;

    assert_int_equal(header_scan(slice_of(content, octets), true, &limits, wants, 3, &facts), 0);
    for (uint32_t i = 0; i < facts.cut_count; i++) {
        uint32_t part = (uint32_t)facts.cuts[i].offset - at;

        memcpy(expected + to, content + at, part);
        to += part;
        at += part + (uint32_t)facts.cuts[i].octets;
    }
    memcpy(expected + to, content + at, octets - at);
    return to + octets - at;
}

static void in_memory(struct rng *rng, uint32_t octets)
{
    static const uint8_t envelope[ENVELOPE];
    struct iovec iov[MESSAGE_IOV_MAX + 1];
    uint32_t count, got = 0;

    open_all();
    delivery.message = message_alloc(&shard.pool);
    assert_int_equal(message_append(delivery.message, envelope, ENVELOPE), 0);
    assert_int_equal(message_append(delivery.message, content, octets), 0);
    delivery.message->envelope.encoded_bytes = ENVELOPE;
    delivery.message->envelope.prefix_bytes = (uint32_t)rng_below(rng, octets + 1);
    delivery.message->envelope.body_bytes = octets - delivery.message->envelope.prefix_bytes;
    assert_int_equal(heading_make(&queue, &delivery), 0);
    count = heading_content(&delivery, iov);
    assert_true(count <= MESSAGE_IOV_MAX + 1);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(left + got, iov[i].iov_base, iov[i].iov_len);
        got += (uint32_t)iov[i].iov_len;
    }
    octets = expect(octets);
    assert_int_equal(got, octets);
    assert_memory_equal(left, expected, octets);
    close_all();
}

static void in_chunks(struct rng *rng, uint32_t octets)
{
    uint32_t wanted = expect(octets), got = 0, at = 0;
    bool is_last;

    open_all();
    do {
        uint32_t part = (uint32_t)rng_below(rng, octets - at + 1);
        struct iovec out;

        is_last = at + part == octets;
        assert_int_equal(heading_feed(&queue, &delivery, content + at, part, is_last, &out), 0);
        if (out.iov_len > 0)
            memcpy(left + got, out.iov_base, out.iov_len);
        got += (uint32_t)out.iov_len;
        at += part;
    } while (!is_last);
    assert_int_equal(got, wanted);
    assert_memory_equal(left, expected, wanted);
    close_all();
}

static void as_header_scan_has_it(void **state)
{
    struct rng rng;

    (void)state;
    rng_init(&rng, 5322);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint32_t octets = make_content(&rng);

        in_memory(&rng, octets);
        if (octets > 0)
            in_chunks(&rng, octets);
    }
}

static void a_header_without_end_is_bounded(void **state)
{
    struct iovec out;
    int result = 0;

    (void)state;
    open_all();
    memset(content, 'x', 65536);
    memcpy(content, "A:", 2);
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(heading_feed(&queue, &delivery, content, 65536, false, &out), 0);
        assert_int_equal(out.iov_len, 0);
    }
    result = heading_feed(&queue, &delivery, content, 1, false, &out);
    assert_int_equal(result, E_TOO_LONG);
    close_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_header_scan_has_it),
        cmocka_unit_test(a_header_without_end_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
