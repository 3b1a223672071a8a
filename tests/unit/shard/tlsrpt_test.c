/* Counts of TLS in batches: equal ones are one, others are not, and a full batch says so. */
#include "shard/policy/tlsrpt.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static const struct tlsrpt_count failure = {
    .type = TLSRPT_TLSA,
    .result = TLSRPT_EXPIRED,
    .source = {.family = IPADDR_V4, .bytes = {192, 0, 2, 7}},
    .domain = SLICE_LITERAL("a.example"),
    .policy = SLICE_LITERAL("3 1 1 00ff\n2 0 1 abcd"),
    .host = SLICE_LITERAL("mx.a.example"),
    .reason = SLICE_LITERAL("certificate has expired"),
    .count = 1,
};

static struct tlsrpt_batch *new_batch(void)
{
    static struct tlsrpt_batch batch;

    tlsrpt_batch_init(&batch, 20000);
    return &batch;
}

static void assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    assert_memory_equal(slice.data, text, slice.len);
}

static void counts_come_out_as_they_went_in(void **state)
{
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count;
    uint32_t place = 0;

    for (int i = 0; i < 3; i++)
        assert_true(tlsrpt_batch_add(batch, &failure));
    assert_int_equal(batch->record_count, 1);
    assert_true(tlsrpt_batch_next(batch, &place, &count));
    assert_int_equal(count.count, 3);
    assert_int_equal(count.type, TLSRPT_TLSA);
    assert_int_equal(count.result, TLSRPT_EXPIRED);
    assert_true(ipaddr_equal(&count.source, &failure.source));
    assert_slice(count.domain, "a.example");
    assert_slice(count.policy, "3 1 1 00ff\n2 0 1 abcd");
    assert_slice(count.host, "mx.a.example");
    assert_slice(count.reason, "certificate has expired");
    assert_false(tlsrpt_batch_next(batch, &place, &count));
}

static void what_differs_is_counted_apart(void **state)
{
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count[7];

    for (int i = 0; i < 7; i++)
        count[i] = failure;
    count[1].type = TLSRPT_STS;
    count[2].result = TLSRPT_FAILURE;
    count[3].source.bytes[3] = 8;
    count[4].domain = SLICE_LITERAL("b.example");
    count[5].host = SLICE_LITERAL("mx2.a.example");
    count[6].policy = SLICE_LITERAL("3 1 1 00fe");
    for (int i = 0; i < 7; i++)
        assert_true(tlsrpt_batch_add(batch, &count[i]));
    assert_int_equal(batch->record_count, 7);
}

/* Where and from where is of no matter to what went well; records of TLSA are a host's own. */
static void successes_are_one_for_a_policy(void **state)
{
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count = failure;

    count.result = TLSRPT_SUCCESS;
    count.type = TLSRPT_NO_POLICY;
    assert_true(tlsrpt_batch_add(batch, &count));
    count.source.bytes[3] = 9;
    count.host = SLICE_LITERAL("mx2.a.example");
    assert_true(tlsrpt_batch_add(batch, &count));
    assert_int_equal(batch->record_count, 1);
    count.type = TLSRPT_TLSA;
    assert_true(tlsrpt_batch_add(batch, &count));
    count.host = SLICE_LITERAL("mx3.a.example");
    assert_true(tlsrpt_batch_add(batch, &count));
    assert_int_equal(batch->record_count, 3);
}

static void a_full_batch_takes_what_it_knows(void **state)
{
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count = failure, first, read;
    char name[32];
    uint32_t place = 0, taken = 0, read_count = 0;

    for (;; taken++) {
        snprintf(name, sizeof(name), "%u.example", taken);
        count.domain = slice_str(name);
        if (!tlsrpt_batch_add(batch, &count))
            break;
    }
    assert_in_range(taken, 100, TLSRPT_SLOTS);
    first = failure;
    first.domain = SLICE_LITERAL("0.example");
    assert_true(tlsrpt_batch_add(batch, &first));
    while (tlsrpt_batch_next(batch, &place, &read))
        read_count++;
    assert_int_equal(read_count, taken);
}

static void short_records_leave_slots_free(void **state)
{
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count = {.domain = SLICE_LITERAL(""), .count = 1};
    char name[8];
    uint32_t taken = 0;

    for (;; taken++) {
        snprintf(name, sizeof(name), "%x", taken);
        count.domain = slice_str(name);
        if (!tlsrpt_batch_add(batch, &count))
            break;
    }
    assert_int_equal(taken, TLSRPT_SLOTS / 4 * 3);
}

static void long_texts_are_cut(void **state)
{
    static char lines[3000], name[400];
    struct tlsrpt_batch *batch = new_batch();
    struct tlsrpt_count count = failure;
    uint32_t place = 0;

    memset(name, 'x', sizeof(name));
    for (size_t i = 0; i < sizeof(lines); i++)
        lines[i] = i % 100 == 99 ? '\n' : 'l';
    count.policy = slice_of(lines, sizeof(lines));
    count.host = slice_of(name, sizeof(name));
    count.reason = slice_of(name, sizeof(name));
    assert_true(tlsrpt_batch_add(batch, &count));
    assert_true(tlsrpt_batch_next(batch, &place, &count));
    assert_int_equal(count.policy.len, 999); /* ten whole lines, without the last LF */
    assert_int_equal(count.host.len, TLSRPT_NAME_MAX);
    assert_int_equal(count.reason.len, TLSRPT_REASON_MAX);
}

static void damage_is_seen(void **state)
{
    uint8_t room[TLSRPT_RECORD_MAX];
    size_t len = tlsrpt_encode(&failure, room);
    struct tlsrpt_count count;
    struct wire_reader r;

    for (size_t cut = 0; cut < len; cut++) {
        wire_reader_init(&r, room, cut);
        tlsrpt_decode(&r, &count);
        assert_true(r.failed);
    }
    room[1] = TLSRPT_RESULT_COUNT;
    wire_reader_init(&r, room, len);
    tlsrpt_decode(&r, &count);
    assert_true(r.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_come_out_as_they_went_in),
        cmocka_unit_test(what_differs_is_counted_apart),
        cmocka_unit_test(successes_are_one_for_a_policy),
        cmocka_unit_test(a_full_batch_takes_what_it_knows),
        cmocka_unit_test(short_records_leave_slots_free),
        cmocka_unit_test(long_texts_are_cut),
        cmocka_unit_test(damage_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
