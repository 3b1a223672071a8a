/* Envelope, outcome, named and message state: what goes in comes out, and no cut byte goes far. */
#include "tests/unit/core_base/unit.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "core/obs/outcome.h"
#include "queue/envelope.h"
#include "queue/signatures.h"
#include "queue/state.h"
#include "queue/terms.h"

#include <string.h>

static struct ipaddr ip(const char *text)
{
    struct ipaddr ip = {0};

    assert_int_equal(ipaddr_parse(slice_str(text), &ip), 0);
    return ip;
}

/* A copy of exactly len bytes, so that the sanitizer sees a read behind the end. */
static uint8_t *exact(const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, data, len);
    return copy;
}

/* ---- Envelope ------------------------------------------------------------------------------- */

static size_t envelope_sample(uint8_t *room, size_t room_bytes, struct envelope *envelope)
{
    static uint8_t rcpts[512];
    struct envelope_rcpt one = {SLICE_LITERAL("a@one.example"), SLICE_LITERAL("rfc822;a@x"),
                                SLICE_LITERAL("xn--one.example")};
    struct envelope_rcpt two = {SLICE_LITERAL("b@two.example"), SLICE_EMPTY, SLICE_EMPTY};
    struct wire_writer w;

    wire_writer_init(&w, rcpts, sizeof(rcpts));
    envelope_put_rcpt(&w, &one);
    envelope_put_rcpt(&w, &two);
    *envelope = (struct envelope){
        .message_id = 0x123456789abcdef0ull,
        .accepted_us = 1700000000000000ull,
        .flags = ENVELOPE_8BIT | ENVELOPE_BODY_8BITMIME,
        .stuffed_dots = 3,
        .prefix_bytes = 200,
        .body_bytes = 5000,
        .rcpt_count = 2,
        .client_ip = ip("192.0.2.7"),
        .local_ip = ip("2001:db8::25"),
        .sender = SLICE_LITERAL("bounce+\xff\x00x@sender.example"),
        .vmta = SLICE_LITERAL("vmta-7"),
        .pool = SLICE_LITERAL("pool-a"),
        .job_id = SLICE_LITERAL("job 2026"),
        .envelope_id = SLICE_LITERAL("QQ314159"),
        .source_type = SLICE_LITERAL("smtp"),
        .client_helo = SLICE_LITERAL("client.example"),
        .rcpts = slice_of(rcpts, wire_written(&w)),
    };
    assert_true(envelope_bytes_max(envelope) <= room_bytes);
    wire_writer_init(&w, room, room_bytes);
    envelope_encode(envelope, &w);
    assert_false(w.failed);
    assert_true(wire_written(&w) <= envelope_bytes_max(envelope));
    return wire_written(&w);
}

static void envelope_comes_back(void **state)
{
    uint8_t room[2048];
    struct envelope in;
    struct envelope out;
    struct envelope_rcpt rcpt;
    struct wire_reader r;
    size_t len = envelope_sample(room, sizeof(room), &in);

    /* Something behind it does not matter. */
    memset(room + len, 'x', 10);
    assert_int_equal(envelope_decode(slice_of(room, len + 10), &out), 0);
    assert_int_equal(out.encoded_bytes, len);
    assert_true(out.message_id == in.message_id && out.accepted_us == in.accepted_us);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(envelope_content_bytes(&out), 5197);
    assert_true(ipaddr_equal(&out.client_ip, &in.client_ip));
    assert_true(ipaddr_equal(&out.local_ip, &in.local_ip));
    assert_true(slice_equal(out.sender, in.sender) && slice_equal(out.vmta, in.vmta));
    assert_true(slice_equal(out.pool, in.pool) && slice_equal(out.job_id, in.job_id));
    assert_true(slice_equal(out.envelope_id, in.envelope_id));
    assert_true(slice_equal(out.source_type, in.source_type));
    assert_true(slice_equal(out.client_helo, in.client_helo));
    wire_reader_init(&r, out.rcpts.data, out.rcpts.len);
    assert_true(envelope_rcpt_next(&r, &rcpt));
    assert_true(slice_equal(rcpt.address, SLICE_LITERAL("a@one.example")));
    assert_true(slice_equal(rcpt.orcpt, SLICE_LITERAL("rfc822;a@x")));
    assert_true(slice_equal(envelope_rcpt_host(&rcpt), SLICE_LITERAL("xn--one.example")));
    assert_true(envelope_rcpt_next(&r, &rcpt));
    assert_int_equal(rcpt.orcpt.len, 0);
    assert_true(slice_equal(envelope_rcpt_host(&rcpt), SLICE_LITERAL("two.example")));
    assert_false(envelope_rcpt_next(&r, &rcpt));
}

static void envelope_tells_flows_apart(void **state)
{
    struct envelope bulk = {.sender = SLICE_LITERAL("b1@news.test"),
                            .client_ip = {IPADDR_V4, {192, 0, 2, 1}}};
    struct envelope other = bulk;
    uint32_t flow = envelope_flow(&bulk);

    other.sender = SLICE_LITERAL("b2@NEWS.test");
    assert_int_equal(envelope_flow(&other), flow);
    other.client_ip.bytes[3] = 2;
    assert_int_not_equal(envelope_flow(&other), flow);
    other = bulk;
    other.sender = SLICE_LITERAL("b1@shop.test");
    assert_int_not_equal(envelope_flow(&other), flow);
    other.job_id = SLICE_LITERAL("reset");
    bulk.job_id = SLICE_LITERAL("reset");
    assert_int_equal(envelope_flow(&other), envelope_flow(&bulk));
    bulk.job_id = SLICE_LITERAL("news");
    assert_int_not_equal(envelope_flow(&other), envelope_flow(&bulk));
    memset(&other, 0, sizeof(other));
    assert_int_not_equal(envelope_flow(&other), 0);
}

/* The normal one leaves the record as earlier versions wrote it. */
static void envelope_has_a_priority(void **state)
{
    static const uint8_t priorities[] = {0, 1, 49, ENVELOPE_PRIORITY_NORMAL, 51, 100};
    uint8_t room[2048];
    struct wire_writer w;
    struct envelope in, out;

    envelope_sample(room, sizeof(room), &in);
    for (size_t i = 0; i < sizeof(priorities); i++) {
        struct envelope with = in;

        with.flags |= envelope_priority_flags(priorities[i]);
        assert_true((with.flags == in.flags) == (priorities[i] == ENVELOPE_PRIORITY_NORMAL));
        wire_writer_init(&w, room, sizeof(room));
        envelope_encode(&with, &w);
        assert_int_equal(envelope_decode(slice_of(room, wire_written(&w)), &out), 0);
        assert_int_equal(envelope_priority(&out), priorities[i]);
        assert_int_equal(out.flags & 0xff, in.flags);
    }
    in.flags |= 102u << 8;
    wire_writer_init(&w, room, sizeof(room));
    envelope_encode(&in, &w);
    assert_int_equal(envelope_decode(slice_of(room, wire_written(&w)), &out), E_DAMAGED);
}

static void envelope_cut_anywhere_is_damaged(void **state)
{
    uint8_t room[2048];
    struct envelope in;
    struct envelope out;
    size_t len = envelope_sample(room, sizeof(room), &in);

    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = exact(room, cut);

        assert_int_equal(envelope_decode(slice_of(copy, cut), &out), E_DAMAGED);
        free(copy);
        /* And so is a room that is too small for writing. */
        {
            uint8_t *small = malloc(cut + 1);
            struct wire_writer w;

            wire_writer_init(&w, small, cut);
            envelope_encode(&in, &w);
            assert_true(w.failed);
            free(small);
        }
    }
}

static void envelope_with_other_bytes_is_safe(void **state)
{
    uint8_t room[2048];
    struct envelope in;
    struct envelope out;
    struct rng rng;
    size_t len = envelope_sample(room, sizeof(room), &in);

    rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        uint8_t *copy = exact(room, len);

        for (uint64_t flips = rng_between(&rng, 1, 4); flips > 0; flips--)
            copy[rng_below(&rng, len)] = (uint8_t)rng_u64(&rng);
        if (envelope_decode(slice_of(copy, len), &out) == 0) {
            struct envelope_rcpt rcpt;
            struct wire_reader r;
            uint32_t count = 0;

            wire_reader_init(&r, out.rcpts.data, out.rcpts.len);
            while (envelope_rcpt_next(&r, &rcpt))
                count++;
            assert_int_equal(count, out.rcpt_count);
        }
        free(copy);
    }
}

static void check_terms_and_user(const struct slice *user)
{
    uint8_t room[2048], terms[64];
    struct envelope in, out;
    struct terms said = {.expires_us = 77, .window_count = 1, .windows = {{5, 9}}}, heard;
    struct wire_writer w;
    size_t len;

    envelope_sample(room, sizeof(room), &in);
    wire_writer_init(&w, terms, sizeof(terms));
    terms_encode(&said, &w);
    in.terms = slice_of(terms, wire_written(&w));
    in.user = *user;
    wire_writer_init(&w, room, envelope_bytes_max(&in));
    envelope_encode(&in, &w);
    assert_false(w.failed);
    len = wire_written(&w);
    assert_true(len <= envelope_bytes_max(&in));
    assert_int_equal(envelope_decode(slice_of(room, len + 10), &out), 0);
    assert_int_equal(out.encoded_bytes, len);
    assert_int_equal(terms_decode(out.terms, &heard), 0);
    assert_int_equal(heard.expires_us, 77);
    assert_int_equal(heard.windows[0].until_us, 9);
    assert_true(slice_equal(out.user, *user));
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(envelope_decode(slice_of(room, cut), &out), E_DAMAGED);
    /* A tag that this build does not know. */
    room[len - in.terms.len - (user->len > 0 ? 2 + user->len : 0)] = 99;
    assert_int_equal(envelope_decode(slice_of(room, len), &out), E_DAMAGED);
}

static void envelope_with_terms(void **state)
{
    static const struct slice nobody, user = SLICE_LITERAL("anna");

    check_terms_and_user(&nobody);
    check_terms_and_user(&user);
}

/* What is filled in later leaves the length as it is. */
static void envelope_with_signatures(void **state)
{
    static const struct slice users[] = {{0}, SLICE_LITERAL("anna")};
    uint8_t room[2048], encoded[256], filled[256];
    struct signatures s = {.rule_room = 2, .room = 3, .has_options = true}, heard;
    struct envelope in, out;
    struct wire_writer w;
    size_t len;

    s.options = SLICE_LITERAL("s=a; d=b.test");
    wire_writer_init(&w, encoded, sizeof(encoded));
    signatures_encode(&s, &w);
    len = wire_written(&w);
    s.rules[s.rule_count++] = 11;
    s.rules[s.rule_count++] = 12;
    s.ids[s.count++] = 21;
    s.expires_s = 1000;
    wire_writer_init(&w, filled, sizeof(filled));
    signatures_encode(&s, &w);
    assert_int_equal(wire_written(&w), len);
    assert_true(len - s.options.len <= SIGNATURES_BYTES_MAX);
    assert_int_equal(signatures_decode(slice_of(filled, len), &heard), 0);
    assert_int_equal(heard.rule_count, 2);
    assert_int_equal(heard.rules[1], 12);
    assert_int_equal(heard.count, 1);
    assert_int_equal(heard.ids[0], 21);
    assert_true(heard.has_options && slice_equal(heard.options, s.options));
    assert_true(signatures_hold(slice_of(filled, len), 12, 999));
    assert_false(signatures_hold(slice_of(filled, len), 12, 1000));
    assert_false(signatures_hold(slice_of(filled, len), 13, 0));
    assert_false(signatures_hold(slice_of(encoded, len), 0, 0));
    assert_true(signatures_hold(SLICE_EMPTY, 13, 2000));
    for (size_t i = 0; i < 2; i++) {
        size_t bytes;

        envelope_sample(room, sizeof(room), &in);
        in.user = users[i];
        in.signatures = slice_of(filled, len);
        wire_writer_init(&w, room, envelope_bytes_max(&in));
        envelope_encode(&in, &w);
        assert_false(w.failed);
        bytes = wire_written(&w);
        assert_int_equal(room[4], 6);
        assert_int_equal(envelope_decode(slice_of(room, bytes), &out), 0);
        assert_true(slice_equal(out.signatures, in.signatures));
        assert_true(slice_equal(out.user, users[i]));
        for (size_t cut = 0; cut < bytes; cut++)
            assert_int_equal(envelope_decode(slice_of(room, cut), &out), E_DAMAGED);
        /* More than there is room for. */
        room[bytes - len + 3] = 4;
        assert_int_equal(envelope_decode(slice_of(room, bytes), &out), E_DAMAGED);
    }
}

/* NOTIFY of each recipient and RET, with terms and without; and a record without them is the same
 * octets as ever. */
static void envelope_with_what_is_asked_of_notices(void **state)
{
    uint8_t room[2048], rcpts[256];
    struct envelope_rcpt asking = {.address = SLICE_LITERAL("a@one.example"),
                                   .orcpt = SLICE_LITERAL("rfc822;a@x"),
                                   .notify = 15};
    struct envelope_rcpt silent = {.address = SLICE_LITERAL("b@two.example")}, rcpt;
    struct envelope in, out;
    struct wire_writer w;
    struct wire_reader r;
    size_t len;

    envelope_sample(room, sizeof(room), &in);
    assert_int_equal(room[4], 1);
    wire_writer_init(&w, rcpts, sizeof(rcpts));
    envelope_put_rcpt(&w, &asking);
    envelope_put_rcpt(&w, &silent);
    in.rcpts = slice_of(rcpts, wire_written(&w));
    in.flags |= ENVELOPE_NOTIFY | ENVELOPE_RETURN_SAID;
    wire_writer_init(&w, room, envelope_bytes_max(&in));
    envelope_encode(&in, &w);
    assert_false(w.failed);
    len = wire_written(&w);
    assert_int_equal(room[4], 4);
    assert_int_equal(envelope_decode(slice_of(room, len), &out), 0);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.terms.len, 0);
    wire_reader_init(&r, out.rcpts.data, out.rcpts.len);
    assert_true(envelope_rcpt_next(&r, &rcpt));
    assert_int_equal(rcpt.notify, 15);
    assert_true(slice_equal(rcpt.orcpt, asking.orcpt) && slice_equal(rcpt.address, asking.address));
    assert_true(envelope_rcpt_next(&r, &rcpt));
    assert_int_equal(rcpt.notify, 0);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(envelope_decode(slice_of(room, cut), &out), E_DAMAGED);
}

static void envelope_counts_can_come_later(void **state)
{
    uint8_t room[2048];
    struct envelope in;
    struct envelope out;
    struct wire_writer w;
    size_t len = envelope_sample(room, sizeof(room), &in);

    in.flags = ENVELOPE_SMTPUTF8;
    in.stuffed_dots = 9;
    in.prefix_bytes = 10;
    in.body_bytes = 11;
    wire_writer_init(&w, room, sizeof(room));
    envelope_encode_counts(&in, &w);
    assert_int_equal(envelope_decode(slice_of(room, len), &out), 0);
    assert_int_equal(out.flags, ENVELOPE_SMTPUTF8);
    assert_true(out.stuffed_dots == 9 && out.prefix_bytes == 10 && out.body_bytes == 11);
    assert_true(out.message_id == in.message_id && out.rcpt_count == 2);
}

static void envelope_of_a_null_sender(void **state)
{
    struct envelope in = {.sender = SLICE_EMPTY};
    struct envelope out;
    struct wire_writer w;
    uint8_t room[256];

    wire_writer_init(&w, room, sizeof(room));
    envelope_encode(&in, &w);
    assert_false(w.failed);
    assert_int_equal(envelope_decode(slice_of(room, wire_written(&w)), &out), 0);
    assert_int_equal(out.sender.len, 0);
    assert_int_equal(out.client_ip.family, IPADDR_NONE);
    assert_int_equal(out.rcpt_count, 0);
}

/* ---- Outcome -------------------------------------------------------------------------------- */

static struct outcome outcome_full(void)
{
    return (struct outcome){
        .kind = OUTCOME_BOUNCED,
        .flags = OUTCOME_IN_DOUBT,
        .attempts = 300,
        .rcpt_ordinal = 19999,
        .message_id = 77,
        .due_us = 5,
        .logged_us = 6,
        .queued_us = 7,
        .size_bytes = 1ull << 40,
        .source_ip = ip("198.51.100.1"),
        .destination_ip = ip("2001:db8::1"),
        .orig = SLICE_LITERAL("o@o.example"),
        .rcpt = SLICE_LITERAL("r@r.example"),
        .orcpt = SLICE_LITERAL("rfc822;r"),
        .status = SLICE_LITERAL("5.1.1"),
        .diag = SLICE_LITERAL("550 5.1.1 \"no\", he\r\nsaid\0!"),
        .dsn_mta = SLICE_LITERAL("mx.r.example"),
        .bounce_category = SLICE_LITERAL("bad-mailbox"),
        .source_type = SLICE_LITERAL("api"),
        .source_mta = SLICE_LITERAL("helo (192.0.2.1)"),
        .esmtp = SLICE_LITERAL("PIPELINING,SIZE"),
        .vmta = SLICE_LITERAL("v"),
        .pool = SLICE_LITERAL("p"),
        .job_id = SLICE_LITERAL("j"),
        .envelope_id = SLICE_LITERAL("e"),
        .queue = SLICE_LITERAL("r.example/v"),
    };
}

static void outcome_comes_back(void **state)
{
    struct outcome in = outcome_full();
    struct outcome out;
    uint8_t room[OUTCOME_BYTES_MAX];
    int len = outcome_encode(&in, room, sizeof(room));

    assert_true(len > 0);
    assert_int_equal(outcome_decode(slice_of(room, (size_t)len), &out), 0);
    assert_int_equal(out.kind, in.kind);
    assert_int_equal(out.flags, in.flags);
    assert_int_equal(out.attempts, 300);
    assert_int_equal(out.rcpt_ordinal, 19999);
    assert_true(out.message_id == 77 && out.due_us == 5 && out.logged_us == 6);
    assert_true(out.queued_us == 7 && out.size_bytes == 1ull << 40);
    assert_true(ipaddr_equal(&out.source_ip, &in.source_ip));
    assert_true(ipaddr_equal(&out.destination_ip, &in.destination_ip));
    assert_true(slice_equal(out.orig, in.orig) && slice_equal(out.rcpt, in.rcpt));
    assert_true(slice_equal(out.orcpt, in.orcpt) && slice_equal(out.status, in.status));
    assert_true(slice_equal(out.diag, in.diag) && slice_equal(out.dsn_mta, in.dsn_mta));
    assert_true(slice_equal(out.bounce_category, in.bounce_category));
    assert_true(slice_equal(out.source_type, in.source_type));
    assert_true(slice_equal(out.source_mta, in.source_mta) && slice_equal(out.esmtp, in.esmtp));
    assert_true(slice_equal(out.vmta, in.vmta) && slice_equal(out.pool, in.pool));
    assert_true(slice_equal(out.job_id, in.job_id) && slice_equal(out.queue, in.queue));
    assert_true(slice_equal(out.envelope_id, in.envelope_id));
    assert_true(outcome_is_final(&out));
}

/* What only some records have, each behind the other; cut anywhere it is damaged. */
static void outcome_with_tls_comes_back(void **state)
{
    static const struct slice users[] = {SLICE_LITERAL("anna"), SLICE_LITERAL("")};

    for (size_t i = 0; i < 2; i++) {
        struct outcome in = outcome_full();
        struct outcome out;
        uint8_t room[OUTCOME_BYTES_MAX];
        int len;

        in.user = users[i];
        in.headers = SLICE_LITERAL("h");
        in.tls_protocol = SLICE_LITERAL("TLSv1.3");
        in.tls_cipher = SLICE_LITERAL("TLS_AES_128_GCM_SHA256");
        len = outcome_encode(&in, room, sizeof(room));
        assert_true(len > 0);
        assert_int_equal(outcome_decode(slice_of(room, (size_t)len), &out), 0);
        assert_true(slice_equal(out.user, in.user) && slice_equal(out.headers, in.headers));
        assert_true(slice_equal(out.tls_protocol, in.tls_protocol));
        assert_true(slice_equal(out.tls_cipher, in.tls_cipher));
        for (int cut = 0; cut < len; cut++)
            assert_int_equal(outcome_decode(slice_of(room, (size_t)cut), &out), E_DAMAGED);
    }
}

static void outcome_cut_anywhere_is_damaged(void **state)
{
    struct outcome in = outcome_full();
    struct outcome out;
    uint8_t room[OUTCOME_BYTES_MAX];
    int len = outcome_encode(&in, room, sizeof(room));

    for (int cut = 0; cut < len; cut++) {
        uint8_t *copy = exact(room, (size_t)cut);

        assert_int_equal(outcome_decode(slice_of(copy, (size_t)cut), &out), E_DAMAGED);
        assert_int_equal(outcome_encode(&in, copy, (size_t)cut), E_TOO_LONG);
        free(copy);
    }
}

static void outcome_texts_are_cut_and_addresses_are_not(void **state)
{
    struct outcome in = outcome_full();
    struct outcome out;
    static uint8_t text[3000];
    uint8_t room[OUTCOME_BYTES_MAX];
    int len;

    memset(text, 'x', sizeof(text));
    in.diag = slice_of(text, sizeof(text));
    in.rcpt = slice_of(text, 1200);
    len = outcome_encode(&in, room, sizeof(room));
    assert_true(len > 0);
    assert_int_equal(outcome_decode(slice_of(room, (size_t)len), &out), 0);
    assert_int_equal(out.diag.len, OUTCOME_TEXT_MAX);
    assert_int_equal(out.rcpt.len, 1200);
    in.orig = slice_of(text, 3000);
    assert_int_equal(outcome_encode(&in, room, sizeof(room)), E_TOO_LONG);
}

static void outcome_with_other_bytes_is_safe(void **state)
{
    struct outcome in = outcome_full();
    struct outcome out;
    uint8_t room[OUTCOME_BYTES_MAX];
    int len = outcome_encode(&in, room, sizeof(room));
    struct rng rng;

    rng_init(&rng, 4);
    for (int i = 0; i < 20000; i++) {
        uint8_t *copy = exact(room, (size_t)len);

        copy[rng_below(&rng, (uint64_t)len)] = (uint8_t)rng_u64(&rng);
        copy[rng_below(&rng, (uint64_t)len)] ^= 0x80;
        (void)outcome_decode(slice_of(copy, (size_t)len), &out);
        free(copy);
    }
    room[1] = 'z';
    assert_int_equal(outcome_decode(slice_of(room, (size_t)len), &out), E_DAMAGED);
}

/* ---- Named and message state ------------------------------------------------------------------
 */

static void named_has_its_limits(void **state)
{
    uint8_t room[2048];
    uint8_t text[1025] = {0};
    struct log_named in = {slice_of(text, 255), slice_of(text, 1024)};
    struct log_named out;
    int len = log_named_encode(&in, room, sizeof(room));

    assert_int_equal(len, 1 + 255 + 2 + 1024);
    assert_int_equal(log_named_decode(slice_of(room, (size_t)len), &out), 0);
    assert_true(slice_equal(in.key, out.key) && slice_equal(in.value, out.value));
    for (int cut = 0; cut < len; cut++) {
        uint8_t *copy = exact(room, (size_t)cut);

        assert_int_equal(log_named_decode(slice_of(copy, (size_t)cut), &out), E_DAMAGED);
        free(copy);
    }
    in.key.len = 256;
    assert_int_equal(log_named_encode(&in, room, sizeof(room)), E_RANGE);
    in.key.len = 0;
    assert_int_equal(log_named_encode(&in, room, sizeof(room)), E_RANGE);
    in.key.len = 1;
    in.value.len = 1025;
    assert_int_equal(log_named_encode(&in, room, sizeof(room)), E_RANGE);
    in.value.len = 0;
    assert_int_equal(log_named_encode(&in, room, 3), E_TOO_LONG);
    assert_int_equal(log_named_encode(&in, room, 4), 4);
}

static size_t state_sample(uint8_t *room, size_t room_bytes)
{
    static const struct log_state_rcpt rcpts[] = {
        {SLICE_LITERAL("one.example"), false, 0, 0},
        {SLICE_EMPTY, false, 3, 1234567},
        {SLICE_LITERAL("two.example"), true, 0, 0},
        {SLICE_EMPTY, true, 0, 0},
    };
    static uint8_t table[256];
    struct log_message_state state = {.message_id = 9,
                                      .accepted_us = 10,
                                      .place = {11, 12, 13, 14},
                                      .vmta = SLICE_LITERAL("v"),
                                      .rcpt_count = 4,
                                      .flow = 77,
                                      .priority = ENVELOPE_PRIORITY_NORMAL};
    struct wire_writer w;
    int len;

    wire_writer_init(&w, table, sizeof(table));
    for (int i = 0; i < 4; i++)
        log_state_rcpt_put(&w, &rcpts[i]);
    state.rcpts = slice_of(table, wire_written(&w));
    len = log_message_state_encode(&state, room, room_bytes);
    assert_true(len > 0);
    return (size_t)len;
}

static void message_state_comes_back(void **state)
{
    uint8_t room[512];
    size_t len = state_sample(room, sizeof(room));
    struct log_message_state out;
    struct log_state_rcpt rcpt;
    struct wire_reader r;

    assert_int_equal(log_message_state_decode(slice_of(room, len), &out), 0);
    assert_true(out.message_id == 9 && out.accepted_us == 10 && out.rcpt_count == 4);
    assert_true(out.place.serial == 11 && out.place.offset == 12 && out.place.bytes == 13);
    assert_int_equal(out.place.slot, 14);
    assert_int_equal(out.flow, 77);
    wire_reader_init(&r, out.rcpts.data, out.rcpts.len);
    assert_true(log_state_rcpt_next(&r, &rcpt));
    assert_true(slice_equal(rcpt.domain, SLICE_LITERAL("one.example")) && rcpt.attempts == 0);
    assert_true(log_state_rcpt_next(&r, &rcpt));
    assert_true(rcpt.domain.len == 0 && rcpt.attempts == 3 && rcpt.due_us == 1234567);
    assert_true(log_state_rcpt_next(&r, &rcpt));
    assert_true(rcpt.is_final && rcpt.domain.len > 0);
    assert_true(log_state_rcpt_next(&r, &rcpt));
    assert_true(rcpt.is_final && rcpt.domain.len == 0);
    assert_false(log_state_rcpt_next(&r, &rcpt));
}

static void message_state_with_an_expiry(void **state)
{
    uint8_t room[512];
    size_t len = state_sample(room, sizeof(room)), longer;
    struct log_message_state out;

    assert_int_equal(log_message_state_decode(slice_of(room, len), &out), 0);
    assert_int_equal(out.expires_us, 0);
    out.expires_us = 1234567890123;
    memcpy(room + 256, room, len);
    out.rcpts.data += 256;
    out.vmta.data += 256;
    longer = (size_t)log_message_state_encode(&out, room, 256);
    assert_int_equal(longer, len + 8);
    assert_int_equal(log_message_state_decode(slice_of(room, longer), &out), 0);
    assert_int_equal(out.expires_us, 1234567890123);
    for (size_t cut = len + 1; cut < longer; cut++)
        assert_int_equal(log_message_state_decode(slice_of(room, cut), &out), E_DAMAGED);
}

/* Behind an expiry, which is there for it; a record without one is of the normal priority. */
static void message_state_with_a_priority(void **state)
{
    uint8_t room[512];
    size_t len = state_sample(room, sizeof(room)), longer;
    struct log_message_state out;

    assert_int_equal(log_message_state_decode(slice_of(room, len), &out), 0);
    assert_int_equal(out.priority, ENVELOPE_PRIORITY_NORMAL);
    out.priority = 0;
    memcpy(room + 256, room, len);
    out.rcpts.data += 256;
    out.vmta.data += 256;
    longer = (size_t)log_message_state_encode(&out, room, 256);
    assert_int_equal(longer, len + 9);
    assert_int_equal(log_message_state_decode(slice_of(room, longer), &out), 0);
    assert_int_equal(out.priority, 0);
    assert_int_equal(out.expires_us, 0);
    room[longer - 1] = ENVELOPE_PRIORITY_MAX + 1;
    assert_int_equal(log_message_state_decode(slice_of(room, longer), &out), E_DAMAGED);
}

/* But in front of the flow, where it ends in logs of earlier versions. */
static void message_state_cut_anywhere_is_damaged(void **state)
{
    uint8_t room[512];
    size_t len = state_sample(room, sizeof(room));
    struct log_message_state out;

    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = exact(room, cut);
        int result = log_message_state_decode(slice_of(copy, cut), &out);

        assert_int_equal(result, cut == len - sizeof(out.flow) ? 0 : E_DAMAGED);
        if (result == 0)
            assert_int_equal(out.flow, 0);
        free(copy);
    }
    for (size_t at = 0; at < len; at++) {
        uint8_t *copy = exact(room, len);

        copy[at] ^= 0xff;
        (void)log_message_state_decode(slice_of(copy, len), &out);
        free(copy);
    }
}

/* ---- Messages in chunks ---------------------------------------------------------------------- */

static void a_large_place_comes_back(void **state)
{
    static const uint16_t sizes[] = {0, 1, 2400, UINT16_MAX};
    struct log_message_state out;
    uint8_t room[256];

    for (size_t i = 0; i < 4; i++) {
        struct log_message_state in = {.place = {11, 12, (1u << 30) - 1, 14, sizes[i]}};
        int len = log_message_state_encode(&in, room, sizeof(room));

        assert_true(len > 0);
        assert_int_equal(log_message_state_decode(slice_of(room, (size_t)len), &out), 0);
        assert_int_equal(out.place.bytes, (1u << 30) - 1);
        assert_int_equal(out.place.slot, 14);
        assert_int_equal(out.place.large, sizes[i]);
    }
    assert_int_equal(log_large_of(0), 1);
    assert_int_equal(log_large_of(65536), 1);
    assert_int_equal(log_large_of(65537), 2);
    assert_int_equal(log_large_of(1ull << 40), UINT16_MAX);
}

#define SAMPLE_CHUNKS 3u

/* The part of a commit record behind its envelope: 3 chunks of 1000, 1 and 65536 octets, and a rest
 * of 5. */
static size_t commit_sample(uint8_t *room)
{
    static const uint32_t octets[SAMPLE_CHUNKS] = {1000, 1, LOG_CHUNK_OCTETS_MAX};

    memset(room, 0, 4);
    room[0] = SAMPLE_CHUNKS;
    for (uint32_t i = 0; i < SAMPLE_CHUNKS; i++) {
        struct log_chunk chunk = {.serial = 100 + i,
                                  .offset = 4096 + i,
                                  .octets = octets[i],
                                  .crc = 0x01020304 + i,
                                  .slot = (uint16_t)(7 + i),
                                  .is_fresh = i != 1};

        log_chunk_put(&chunk, room + 4, i);
    }
    memcpy(room + 4 + SAMPLE_CHUNKS * LOG_CHUNK_BYTES, "rest.", 5);
    return 4 + SAMPLE_CHUNKS * LOG_CHUNK_BYTES + 5;
}

static void a_commit_record_comes_back(void **state)
{
    const uint64_t content = 1000 + 1 + LOG_CHUNK_OCTETS_MAX + 5;
    uint8_t room[256];
    size_t len = commit_sample(room);
    struct log_commit commit;
    struct log_chunk chunk;

    assert_int_equal(log_commit_decode(slice_of(room, len), content, &commit), 0);
    assert_int_equal(commit.chunk_count, SAMPLE_CHUNKS);
    assert_true(slice_equal(commit.rest, SLICE_LITERAL("rest.")));
    log_chunk_get(commit.chunks, 1, &chunk);
    assert_true(chunk.serial == 101 && chunk.offset == 4097 && chunk.octets == 1);
    assert_true(chunk.crc == 0x01020305 && chunk.slot == 8 && !chunk.is_fresh);
    assert_int_equal(log_chunk_octets_at(&chunk), 4097 + 32 + 12);
    log_chunk_get(commit.chunks, 2, &chunk);
    assert_true(chunk.octets == LOG_CHUNK_OCTETS_MAX && chunk.is_fresh);
    /* Byte by byte, as segfmt.h says. */
    assert_memory_equal(commit.chunks + LOG_CHUNK_BYTES,
                        "\x65\0\0\0\x01\x10\0\0\x01\0\0\0\x05\x03\x02\x01\x08\0\0\0",
                        LOG_CHUNK_BYTES);
}

static void a_commit_record_must_fit_its_content(void **state)
{
    const uint64_t content = 1000 + 1 + LOG_CHUNK_OCTETS_MAX + 5;
    uint8_t room[256];
    size_t len = commit_sample(room);
    struct log_commit commit;

    assert_int_equal(log_commit_decode(slice_of(room, len), content + 1, &commit), E_DAMAGED);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = exact(room, cut);

        assert_int_equal(log_commit_decode(slice_of(copy, cut), content, &commit), E_DAMAGED);
        free(copy);
    }
    room[0] = 0xff;
    assert_int_equal(log_commit_decode(slice_of(room, len), content, &commit), E_DAMAGED);
    commit_sample(room);
    room[4 + 8] = 0;
    room[4 + 9] = 0; /* a chunk of nothing */
    assert_int_equal(log_commit_decode(slice_of(room, len), content - 1000, &commit), E_DAMAGED);
    commit_sample(room);
    room[4 + 2 * LOG_CHUNK_BYTES + 8] = 1; /* more than a chunk may have */
    assert_int_equal(log_commit_decode(slice_of(room, len), content + 1, &commit), E_DAMAGED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_place_comes_back),
        cmocka_unit_test(a_commit_record_comes_back),
        cmocka_unit_test(a_commit_record_must_fit_its_content),
        cmocka_unit_test(envelope_comes_back),
        cmocka_unit_test(envelope_tells_flows_apart),
        cmocka_unit_test(envelope_has_a_priority),
        cmocka_unit_test(envelope_cut_anywhere_is_damaged),
        cmocka_unit_test(envelope_with_other_bytes_is_safe),
        cmocka_unit_test(envelope_with_terms),
        cmocka_unit_test(envelope_with_signatures),
        cmocka_unit_test(envelope_with_what_is_asked_of_notices),
        cmocka_unit_test(envelope_counts_can_come_later),
        cmocka_unit_test(envelope_of_a_null_sender),
        cmocka_unit_test(outcome_comes_back),
        cmocka_unit_test(outcome_with_tls_comes_back),
        cmocka_unit_test(outcome_cut_anywhere_is_damaged),
        cmocka_unit_test(outcome_texts_are_cut_and_addresses_are_not),
        cmocka_unit_test(outcome_with_other_bytes_is_safe),
        cmocka_unit_test(named_has_its_limits),
        cmocka_unit_test(message_state_comes_back),
        cmocka_unit_test(message_state_with_an_expiry),
        cmocka_unit_test(message_state_with_a_priority),
        cmocka_unit_test(message_state_cut_anywhere_is_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
