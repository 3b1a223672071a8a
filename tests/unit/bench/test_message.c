#include "bench/message.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

static const struct message_options options = {
    .run = 0x00c0ffee,
    .domains = 7,
    .extra_headers = "X-Job: spring\r\n",
};

static struct slice rcpt_of(uint64_t number, uint32_t k, char *room, size_t room_bytes)
{
    struct smtp_text text = {room, room + room_bytes, false};

    message_put_rcpt(&text, &options, number, k);
    assert_false(text.failed);
    return slice_of(room, (size_t)(text.at - room));
}

static void recipients_are_recognised(void **state)
{
    static const char *const foreign[] = {
        "",    "bounce@sender.test", "1.@d0.test",          ".1@d0.test",
        "1.2", "1.2x@d0.test",       "4294967296.1@d0.test"};
    char room[64];
    uint64_t number;
    uint32_t k;

    for (uint64_t i = 0; i < 100; i++) {
        assert_true(
            message_parse_rcpt(rcpt_of(i * 12345, (uint32_t)i, room, sizeof(room)), &number, &k));
        assert_int_equal(number, i * 12345);
        assert_int_equal(k, i);
    }
    assert_true(slice_equal(rcpt_of(9, 3, room, sizeof(room)), SLICE_LITERAL("3.9@d5.test")));
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++)
        assert_false(message_parse_rcpt(slice_str(foreign[i]), &number, &k));
}

/* 40 of each hundred go to the first domain, and the others share the rest evenly. */
static void a_hot_domain(void **state)
{
    static const struct message_options hot = {.run = 1, .domains = 11, .hot_percent = 40};
    uint32_t counts[11] = {0};

    for (uint64_t i = 0; i < 100000; i++) {
        char room[64] = "";
        struct smtp_text text = {room, room + sizeof(room), false};
        unsigned domain;

        message_put_rcpt(&text, &hot, i, 0);
        assert_int_equal(sscanf(strchr(room, '@'), "@d%u.test", &domain), 1);
        assert_in_range(domain, 0, 10);
        counts[domain]++;
    }
    assert_int_equal(counts[0], 40000);
    for (int i = 1; i <= 10; i++)
        assert_in_range(counts[i], 5900, 6100);
}

/* The message as a sink sees it: through the wire, in pieces of at most `piece` octets. */
static void read_back(const struct message_body *body, const char *before, size_t piece,
                      size_t damaged_at, struct message_reader *reader)
{
    static char wire[1 << 20];
    struct smtp_text text = {wire, wire + sizeof(wire), false};
    struct smtp_data data;
    size_t len;

    smtp_put_str(&text, before);
    message_put_head(&text, &options, 41, body);
    len = (size_t)(text.at - wire);
    smtp_put(&text, (const char *)body->wire, body->wire_bytes);
    assert_false(text.failed);
    if (damaged_at > 0)
        wire[len + damaged_at] ^= 1;
    len = (size_t)(text.at - wire);
    smtp_data_init(&data);
    message_reader_init(reader, true);
    for (size_t at = 0; at < len; at += piece) {
        struct slice rest = slice_of(wire + at, len - at < piece ? len - at : piece);
        struct slice span;

        while (rest.len > 0) {
            if (smtp_data_next(&data, &rest, &span) == SMTP_DATA_END)
                return;
            message_reader_feed(reader, span);
        }
    }
    fail_msg("the final dot was not found");
}

static void messages_survive_the_wire(void **state)
{
    static const size_t pieces[] = {1, 2, 7, 100, 1460, 1 << 20};
    static const uint64_t sizes[] = {100, 2048, 20480, 102400};
    static const char received[] =
        "Received: from x (x [127.0.0.1])\r\n\tby y with ESMTP;\r\n\tMon, 6 Jan 2025\r\n";

    for (size_t size = 0; size < 4; size++) {
        struct message_body body;

        message_body_make(&body, sizes[size], size % 2 == 1, (uint32_t)size);
        for (size_t i = 0; i < 6; i++) {
            struct message_reader reader;

            read_back(&body, i % 2 == 0 ? "" : received, pieces[i], 0, &reader);
            assert_true(reader.has_id);
            assert_int_equal(reader.id.run, 0x00c0ffee);
            assert_int_equal(reader.id.number, 41);
            assert_true(message_reader_is_intact(&reader));
            if (size > 0 && i % 2 == 0)
                assert_in_range(reader.bytes, sizes[size] - 64, sizes[size] + 64);
        }
        message_body_free(&body);
    }
}

static void one_wrong_bit_is_noticed(void **state)
{
    struct message_body body;
    struct message_reader reader;

    message_body_make(&body, 2048, true, 3);
    for (size_t at = 1; at + 5 < body.wire_bytes; at += 13) {
        /* Line ends and dots are left alone: they would change where the message ends. */
        if (body.wire[at] < 'a')
            continue;
        read_back(&body, "", 1000, at, &reader);
        assert_false(message_reader_is_intact(&reader));
    }
    message_body_free(&body);
}

static void bodies_differ(void **state)
{
    struct message_body a;
    struct message_body b;

    message_body_make(&a, 2048, false, 0);
    message_body_make(&b, 2048, false, 1);
    assert_int_not_equal(a.crc, b.crc);
    assert_int_equal(a.message_bytes, b.message_bytes);
    message_body_free(&a);
    message_body_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipients_are_recognised),
        cmocka_unit_test(a_hot_domain),
        cmocka_unit_test(messages_survive_the_wire),
        cmocka_unit_test(one_wrong_bit_is_noticed),
        cmocka_unit_test(bodies_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
