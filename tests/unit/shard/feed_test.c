/*
 * A large message that is read from the log while it is sent, and moved meanwhile: on a disk, at a
 * home and with a client that are the test's. Whatever is read from where the message no longer
 * lies is noise; what the client is handed must be the content all the same, or nothing.
 */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/wire.h"
#include "shard/shard_int.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define CHUNKS         40u
#define CHUNK_OCTETS   100u
#define REST_OCTETS    30u
#define CONTENT_OCTETS (CHUNKS * CHUNK_OCTETS + REST_OCTETS)
#define ENVELOPE_BYTES 50u
#define RECORD_BYTES                                                                               \
    (LOG_RECORD_HEADER_BYTES + ENVELOPE_BYTES + 4 + CHUNKS * LOG_CHUNK_BYTES + REST_OCTETS)
#define MESSAGE_ID 77u
#define STEPS_MAX  2000u
#define ALWAYS     UINT32_MAX

static struct stage {
    struct shard shard;
    struct connection connection;
    struct delivery delivery;
    uint32_t rcpt;
    uint8_t content[CONTENT_OCTETS];
    uint8_t record[RECORD_BYTES]; /* as it lies on the disk now */
    uint16_t slot;                /* where all of it lies now: record and chunks */
    uint32_t moves;
    /* What is asked for. */
    bool reads;
    bool locates;
    bool wants_content;
    int read_slot;
    uint8_t *read_data;
    uint32_t read_len;
    uint64_t read_at;
    /* What the client was handed. */
    uint8_t sent[CONTENT_OCTETS + CHUNK_OCTETS];
    uint32_t sent_octets;
    bool is_complete;
    bool is_aborted;
    /* What is looked at before that. */
    bool is_looked_at;
    uint32_t looked_octets;
    uint32_t looks_for; /* octets of it, at least */
    int unreadable;
    bool is_stale;          /* what was found out then does not hold any more */
    uint32_t damaged_chunk; /* the disk has lost it wherever it is moved; ALWAYS = none */
} stage;

/* ---- The disk -------------------------------------------------------------------------------- */

static uint32_t chunk_offset(uint32_t chunk)
{
    return 4096 + chunk * 512;
}

/* All of the message lies in another segment from now on, and the one before holds other mail. */
static void move_message(void)
{
    uint8_t *at = stage.record + LOG_RECORD_HEADER_BYTES + ENVELOPE_BYTES;
    struct wire_writer w;

    stage.moves++;
    stage.slot++;
    wire_writer_init(&w, at, 4);
    wire_put_u32(&w, CHUNKS);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct log_chunk chunk = {
            .serial = stage.slot,
            .offset = chunk_offset(i),
            .octets = CHUNK_OCTETS,
            .crc = crc32c(0, stage.content + i * CHUNK_OCTETS, CHUNK_OCTETS),
            .slot = stage.slot,
        };

        log_chunk_put(&chunk, at + 4, i);
    }
    memcpy(at + 4 + CHUNKS * LOG_CHUNK_BYTES, stage.content + CHUNKS * CHUNK_OCTETS, REST_OCTETS);
}

static void read_disk(void)
{
    uint32_t head = LOG_RECORD_HEADER_BYTES + LOG_CHUNK_HEAD_BYTES;

    memset(stage.read_data, '#', stage.read_len);
    if (stage.read_slot != stage.slot)
        return;
    if (stage.read_at == 0) {
        assert_int_equal(stage.read_len, RECORD_BYTES);
        memcpy(stage.read_data, stage.record, RECORD_BYTES);
        return;
    }
    for (uint32_t i = 0; i < CHUNKS; i++) {
        if (stage.read_at != chunk_offset(i) + head || i == stage.damaged_chunk)
            continue;
        assert_int_equal(stage.read_len, CHUNK_OCTETS);
        memcpy(stage.read_data, stage.content + i * CHUNK_OCTETS, CHUNK_OCTETS);
    }
}

void io_read(struct io *io, struct io_op *op, int fd, void *data, uint32_t len, uint64_t offset)
{
    (void)io;
    must(!stage.reads && !stage.locates && op == &stage.delivery.read_op);
    op->in_flight = true;
    stage.reads = true;
    stage.read_slot = fd;
    stage.read_data = data;
    stage.read_len = len;
    stage.read_at = offset;
}

int spool_reader_fd(struct spool_reader *reader, const struct log_place *place)
{
    (void)reader;
    return place->slot;
}

int spool_reader_check(const struct log_place *place, uint64_t message_id, const struct iovec *iov,
                       uint32_t count)
{
    assert_int_equal(message_id, MESSAGE_ID);
    assert_int_equal(count, 1);
    return memcmp(iov->iov_base, stage.record, LOG_RECORD_HEADER_BYTES) == 0 && place->large > 0
               ? 0
               : E_DAMAGED;
}

/* ---- The home, the client, and what else is called ------------------------------------------- */

void home_locate(const struct shard *shard, struct locate *locate)
{
    (void)shard;
    locate->message_id = MESSAGE_ID;
    locate->place = (struct log_place){
        .serial = stage.slot, .slot = stage.slot, .bytes = RECORD_BYTES, .large = 1};
}

void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel)
{
    (void)shard;
    must(to == 1 && parcel->kind == SHARD_LOCATE && !stage.reads && !stage.locates);
    stage.locates = true;
}

void smtpc_continue(struct smtpc *conn, const struct iovec *content, uint32_t content_count,
                    bool goes_on)
{
    (void)conn;
    must(!stage.is_aborted && !stage.is_complete);
    for (uint32_t i = 0; i < content_count; i++) {
        must(stage.sent_octets + content[i].iov_len <= sizeof(stage.sent));
        memcpy(stage.sent + stage.sent_octets, content[i].iov_base, content[i].iov_len);
        stage.sent_octets += (uint32_t)content[i].iov_len;
    }
    stage.is_complete = !goes_on;
    stage.wants_content = goes_on;
}

void smtpc_abort(struct smtpc *conn)
{
    (void)conn;
    stage.is_aborted = true;
}

void carry_continue(struct delivery *delivery, const struct iovec *parts, uint32_t part_count,
                    bool goes_on)
{
    must(!delivery->connection);
    smtpc_continue(NULL, parts, part_count, goes_on);
}

void carry_abort(struct delivery *delivery)
{
    must(!delivery->connection);
    smtpc_abort(NULL);
}

/* Somebody who looks at the first octets, or at all, and then replaces what is before `replaced`.
 */
bool resign_is_reading(const struct delivery *delivery)
{
    (void)delivery;
    return stage.is_looked_at;
}

bool resign_is_stale(const struct delivery *delivery)
{
    (void)delivery;
    return stage.is_stale;
}

#define REPLACED   (2 * CHUNK_OCTETS + 17)
#define NEW_HEADER "A: new header\r\n\r\n"

static void end_look(struct delivery *delivery)
{
    struct message_buffer header = {0};

    stage.is_looked_at = false;
    stage.wants_content = true;
    assert_int_equal(heading_room(&stage.shard, &header, 5000), 0);
    memcpy(header.data, NEW_HEADER, strlen(NEW_HEADER));
    header.used = (uint32_t)strlen(NEW_HEADER);
    heading_replace(delivery, &header, REPLACED);
    feed_rewind(delivery);
}

bool resign_feed(struct delivery *delivery, const uint8_t *data, uint32_t octets, bool is_last)
{
    assert_memory_equal(data, stage.content + stage.looked_octets, octets);
    stage.looked_octets += octets;
    assert_int_equal(is_last, stage.looked_octets == CONTENT_OCTETS);
    if (!is_last && stage.looked_octets < stage.looks_for)
        return true;
    end_look(delivery);
    return false;
}

void deliver_on_unreadable(struct shard *shard, struct delivery *delivery, int error)
{
    (void)shard;
    (void)delivery;
    stage.unreadable = error;
    stage.is_aborted = true;
}

void inject_format_id(uint64_t id, char *room)
{
    snprintf(room, 14, "%llu", (unsigned long long)id);
}

/* ---- The stage ------------------------------------------------------------------------------- */

/* is_remote: the message's home is another shard. */
static void stage_open(bool is_remote)
{
    struct shard *shard = &stage.shard;
    struct queued *queued;

    memset(&stage, 0, sizeof(stage));
    stage.damaged_chunk = ALWAYS;
    for (uint32_t i = 0; i < CONTENT_OCTETS; i++)
        stage.content[i] = (uint8_t)('a' + (i * i / 7 + i) % 26);
    memset(stage.record, 'h', LOG_RECORD_HEADER_BYTES);
    move_message();
    stage.moves = 0;
    message_pool_init(&shard->pool, 1 << 20, 10);
    slab_init(&shard->feeds, sizeof(struct feed), 10);
    slab_init(&shard->queued, sizeof(struct queued), 10);
    queued = slab_alloc(&shard->queued, &stage.rcpt);
    queued->home = is_remote;
    slab_init(&shard->queues, sizeof(struct queue), 10);
    slab_alloc(&shard->queues, &stage.delivery.queue);
    stage.delivery.shard = shard;
    stage.delivery.connection = &stage.connection;
    stage.delivery.rcpts = &stage.rcpt;
    stage.delivery.message = message_alloc(&shard->pool);
    stage.delivery.message->envelope.encoded_bytes = ENVELOPE_BYTES;
    stage.delivery.message->envelope.prefix_bytes = 10;
    stage.delivery.message->envelope.body_bytes = CONTENT_OCTETS - 10;
    home_locate(shard, &stage.delivery.locate);
    stage.delivery.place = stage.delivery.locate.place;
    assert_int_equal(message_buffer_need(stage.delivery.message, RECORD_BYTES), 0);
    memcpy(stage.delivery.message->buffers[0].data, stage.record, RECORD_BYTES);
    assert_int_equal(feed_create(shard, &stage.delivery), 0);
    stage.wants_content = true;
}

static void stage_close(void)
{
    feed_free(&stage.shard, stage.delivery.feed);
    heading_free(&stage.delivery);
    message_free(stage.delivery.message);
    assert_int_equal(stage.shard.feeds.count_used, 0);
    assert_int_equal(stage.shard.pool.bytes_used, 0);
    slab_fini(&stage.shard.feeds);
    slab_fini(&stage.shard.queued);
    slab_fini(&stage.shard.queues);
    message_pool_fini(&stage.shard.pool);
}

/* One thing happens; false when nothing is left to happen. */
static bool step(void)
{
    if (stage.is_aborted || stage.is_complete)
        return false;
    if (stage.wants_content) {
        stage.wants_content = false;
        feed_on_content(&stage.shard, &stage.delivery);
    } else if (stage.locates) {
        stage.locates = false;
        home_locate(&stage.shard, &stage.delivery.locate);
        assert_false(feed_on_located(&stage.shard, &stage.delivery));
    } else {
        must(stage.reads);
        stage.reads = false;
        read_disk();
        stage.delivery.read_op.in_flight = false;
        assert_false(feed_on_read(&stage.shard, &stage.delivery, (int32_t)stage.read_len));
    }
    return true;
}

static void assert_all_was_sent(void)
{
    assert_true(stage.is_complete);
    assert_int_equal(stage.sent_octets, CONTENT_OCTETS);
    assert_memory_equal(stage.sent, stage.content, CONTENT_OCTETS);
    assert_int_equal(stage.delivery.feed->error, 0);
}

/* Plays to the end, with so many moves for each chunk, one before each of its first reads. */
static void play(uint32_t moves_each)
{
    uint32_t chunk = UINT32_MAX, moved = 0;

    for (uint32_t i = 0; i < STEPS_MAX; i++) {
        if (chunk != stage.delivery.feed->next) {
            chunk = stage.delivery.feed->next;
            moved = 0;
        }
        /* A place that was asked for is old when it is read at. */
        if (stage.reads && moved < moves_each) {
            move_message();
            moved++;
        }
        if (!step())
            return;
    }
    fail_msg("no end");
}

/* ---- Tests ----------------------------------------------------------------------------------- */

static void a_message_that_is_not_moved_is_read_once(void **state)
{
    (void)state;
    stage_open(false);
    play(0);
    assert_all_was_sent();
    assert_int_equal(stage.shard.chunk_counts.fed, CHUNKS);
    stage_close();
}

/* A receiver that takes hours: there is a move before each chunk, forty in all. */
static void often_moved_is_not_damaged(void **state)
{
    (void)state;
    for (unsigned is_remote = 0; is_remote < 2; is_remote++) {
        stage_open(is_remote);
        play(1);
        assert_all_was_sent();
        assert_int_equal(stage.moves, CHUNKS);
        stage_close();
    }
}

/* It may be moved again while its new place is asked for, three times for one chunk. */
static void moved_while_its_place_is_asked_for(void **state)
{
    (void)state;
    for (uint32_t moves = 2; moves <= 3; moves++) {
        for (unsigned is_remote = 0; is_remote < 2; is_remote++) {
            stage_open(is_remote);
            play(moves);
            assert_all_was_sent();
            assert_int_equal(stage.moves, moves * CHUNKS);
            stage_close();
        }
    }
}

/* Fields are left out although they lie across chunks, and in a header that outgrows several; a
 * header without an end goes on to the end of the message. */
static void fields_are_left_out(void **state)
{
    static const char before[] = "Subject: s\r\nX-Gone: 1\r\n\tfolded\r\nFrom: a@b\r\n";
    static const char behind[] = "x-gone: 2\r\nTo: c\r\n";
    static const char kept[] = "Subject: s\r\nFrom: a@b\r\n";

    (void)state;
    for (uint32_t filler = 37; filler < 2 * CONTENT_OCTETS; filler += 37) {
        uint8_t expected[CONTENT_OCTETS];
        uint32_t at = sizeof(before) - 1, to = sizeof(kept) - 1;
        uint32_t behind_octets = sizeof(behind) - 1;

        stage_open(false);
        memcpy(stage.content, before, at);
        memcpy(expected, kept, to);
        if (at + filler + behind_octets + 15 < CONTENT_OCTETS) {
            /* A field of letters that ends there, one that goes, and the end of the header. */
            memcpy(stage.content + at + filler, "\r\n", 2);
            memcpy(stage.content + at, "X:", 2);
            memcpy(expected + to, stage.content + at, filler + 2);
            memcpy(stage.content + at + filler + 2, behind, behind_octets);
            at += filler + 2 + behind_octets;
            to += filler + 2;
            memcpy(expected + to, "To: c\r\n", 7);
            to += 7;
            memcpy(stage.content + at, "\r\nX-Gone: stays", 15);
        } else {
            memcpy(stage.content + at, "Y:", 2);
        }
        memcpy(expected + to, stage.content + at, CONTENT_OCTETS - at);
        to += CONTENT_OCTETS - at;
        ((struct queue *)slab_at(&stage.shard.queues, stage.delivery.queue))
            ->settings.signing.removed = "Y-Gone,X-GONE";
        move_message();
        memcpy(stage.delivery.message->buffers[0].data, stage.record, RECORD_BYTES);
        play(1);
        assert_true(stage.is_complete);
        assert_int_equal(stage.sent_octets, to);
        assert_memory_equal(stage.sent, expected, to);
        stage_close();
    }
}

/* Its header, or all of it, is read before it is sent with another header; moved meanwhile. */
static void looked_at_before_it_is_sent(void **state)
{
    static const uint32_t looks[] = {1, 500, CONTENT_OCTETS - REST_OCTETS, CONTENT_OCTETS};
    uint32_t header = (uint32_t)strlen(NEW_HEADER);

    (void)state;
    for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
        for (uint32_t moves = 0; moves < 3; moves++) {
            stage_open(moves == 2);
            stage.is_looked_at = true;
            stage.wants_content = false;
            stage.looks_for = looks[i];
            feed_scan(&stage.shard, &stage.delivery);
            play(moves);
            assert_true(stage.is_complete);
            assert_true(stage.looked_octets >= looks[i]);
            assert_int_equal(stage.sent_octets, header + CONTENT_OCTETS - REPLACED);
            assert_memory_equal(stage.sent, NEW_HEADER, header);
            assert_memory_equal(stage.sent + header, stage.content + REPLACED,
                                CONTENT_OCTETS - REPLACED);
            stage_close();
        }
    }
    stage_open(false);
    stage.is_looked_at = true;
    stage.wants_content = false;
    stage.looks_for = CONTENT_OCTETS;
    stage.damaged_chunk = 5;
    feed_scan(&stage.shard, &stage.delivery);
    play(0);
    assert_int_equal(stage.unreadable, E_DAMAGED);
    assert_int_equal(stage.looked_octets, 5 * CHUNK_OCTETS);
    stage_close();
}

/* What the message's recipients are told when the receiver said nothing. */
static void assert_verdict(bool is_damaged)
{
    struct verdict lost = {.class = VERDICT_TRANSIENT, .code = 421}, room;
    struct verdict said = {.class = VERDICT_TRANSIENT, .code = 451, .flags = VERDICT_FROM_REPLY};
    const struct verdict *verdict = feed_verdict(&stage.delivery, &lost, &room);

    assert_ptr_equal(feed_verdict(&stage.delivery, &said, &room), &said);
    if (!is_damaged) {
        assert_ptr_equal(verdict, &lost);
        return;
    }
    assert_int_equal(verdict->class, VERDICT_PERMANENT);
    assert_int_equal(verdict->code, 554);
}

static void a_chunk_that_is_damaged_ends_it(void **state)
{
    (void)state;
    stage_open(true);
    stage.damaged_chunk = 20;
    play(0);
    assert_true(stage.is_aborted && !stage.is_complete);
    assert_int_equal(stage.sent_octets, 20 * CHUNK_OCTETS);
    assert_memory_equal(stage.sent, stage.content, stage.sent_octets);
    assert_verdict(true);
    stage_close();
}

/* A read that fails says nothing about the message: it is tried again another time. */
static void a_read_that_fails_is_no_damage(void **state)
{
    (void)state;
    stage_open(false);
    while (stage.delivery.feed->next < 5)
        assert_true(step());
    while (!stage.reads)
        assert_true(step());
    stage.reads = false;
    stage.delivery.read_op.in_flight = false;
    assert_false(feed_on_read(&stage.shard, &stage.delivery, -EIO));
    assert_true(stage.is_aborted);
    assert_verdict(false);
    stage_close();
}

/* A reload says in the middle that fields are taken out: they may be signed. */
static void fields_that_may_be_signed_stay(void **state)
{
    (void)state;
    for (uint32_t is_stale = 0; is_stale < 2; is_stale++) {
        stage_open(true);
        stage.is_stale = is_stale;
        ((struct queue *)slab_at(&stage.shard.queues, stage.delivery.queue))
            ->settings.signing.removed = "Y-Gone";
        play(0);
        assert_int_equal(stage.is_aborted, is_stale);
        assert_int_equal(stage.is_complete, !is_stale);
        assert_int_equal(stage.sent_octets, is_stale ? 0 : CONTENT_OCTETS);
        if (is_stale)
            assert_verdict(false);
        stage_close();
    }
}

/* The connection ends while a chunk is read, or its place is asked for: the delivery outlives it.
 */
static void what_is_under_way_ends_first(void **state)
{
    (void)state;
    stage_open(true);
    assert_true(step() && stage.reads);
    assert_true(feed_must_wait(&stage.delivery));
    stage.delivery.read_op.in_flight = false;
    assert_true(feed_on_read(&stage.shard, &stage.delivery, CHUNK_OCTETS));
    stage_close();
    stage_open(true);
    assert_true(step());
    move_message();
    assert_true(step() && stage.locates);
    assert_true(feed_must_wait(&stage.delivery));
    assert_true(feed_on_located(&stage.shard, &stage.delivery));
    assert_int_equal(stage.sent_octets, 0);
    stage_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_that_is_not_moved_is_read_once),
        cmocka_unit_test(often_moved_is_not_damaged),
        cmocka_unit_test(fields_are_left_out),
        cmocka_unit_test(looked_at_before_it_is_sent),
        cmocka_unit_test(moved_while_its_place_is_asked_for),
        cmocka_unit_test(a_chunk_that_is_damaged_ends_it),
        cmocka_unit_test(a_read_that_fails_is_no_damage),
        cmocka_unit_test(fields_that_may_be_signed_stay),
        cmocka_unit_test(what_is_under_way_ends_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
