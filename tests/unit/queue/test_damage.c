/*
 * Bit rot and torn tails: a spool with a history is copied, hurt in one place, and opened. What is
 * missing then must be what the wound touched, it must be reported, and opening again must show
 * the same. Runs on the simulator's disk.
 */
#include "tests/unit/core_base/unit.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/must.h"
#include "queue/envelope.h"
#include "queue/scan.h"
#include "queue/spool_int.h"
#include "tests/sim/sim.h"
#include "tests/unit/queue/life.h"

#include <stdio.h>

#define MS           1000000ull
#define FILES_MAX    40
#define RECORDS_MAX  20000
#define MESSAGES_MAX 4000
#define TRIALS       700

/* A record of the unhurt spool. */
struct spot {
    char path[32];
    uint32_t from;
    uint32_t to;
    uint8_t type;
    uint64_t message; /* 0 = of none */
};

struct found {
    uint64_t id;
    uint64_t digest;
};

struct shown {
    struct found messages[MESSAGES_MAX];
    uint32_t count;
    uint32_t named;
    uint32_t damage;
    uint64_t torn;
    int result;
};

struct scene {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct ledger ledger;
    struct life life;
    struct life_options options;
    char files[FILES_MAX][32];
    uint32_t file_count;
    struct spot *spots;
    uint32_t spot_count;
    struct shown whole; /* what the unhurt spool shows */
    struct shown now;
};

/* ---- Opening and looking --------------------------------------------------------------------- */

static void on_message(void *context, const struct log_message_state *state)
{
    struct shown *shown = context;
    struct found *found = &shown->messages[shown->count++];

    assert_true(shown->count < MESSAGES_MAX);
    found->id = state->message_id;
    found->digest = hash_bytes(state->rcpts.data, state->rcpts.len) ^ state->accepted_us;
}

static void on_named(void *context, const struct log_named *named)
{
    struct shown *shown = context;

    shown->named += named->value.len > 0;
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    struct shown *shown = context;

    shown->damage++;
    if (getenv("TELL") != NULL)
        fprintf(stderr, "    %s at %llu: %s\n", file, (unsigned long long)offset, text);
}

static void open_and_look(void *context)
{
    struct scene *scene = context;
    struct spool_recovery recovery = {&scene->now, on_message, on_named, on_damage};
    struct spool_options options = scene->options.spool;
    struct spool_report report = {0};
    struct spool *spool;

    options.path = "/t";
    memset(&scene->now, 0, sizeof(scene->now));
    scene->now.result = spool_open(scene->io, &options, &recovery, &spool, &report);
    scene->now.torn = report.torn_tails_cut;
}

static void look(struct scene *scene)
{
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    assert_true(sim_run_in(scene->process, open_and_look, scene));
    sim_crash(scene->world, scene->process, SIM_KILL);
    sim_run_for(scene->world, 100 * MS);
}

/* Three numbers of the state without the bytes: compared by the test of idempotence. */
static bool shows_the_same(const struct shown *a, const struct shown *b)
{
    return a->count == b->count && a->named == b->named &&
           memcmp(a->messages, b->messages, a->count * sizeof(a->messages[0])) == 0;
}

/* ---- The scene: a spool with a history ---------------------------------------------------------
 */

static void note_file(void *context, const char *path)
{
    struct scene *scene = context;

    if (strncmp(path, "/spool/", 7) != 0)
        return;
    assert_true(scene->file_count < FILES_MAX);
    snprintf(scene->files[scene->file_count++], 32, "%s", path + 7);
}

struct peeked {
    struct sim_world *world;
    const char *path;
};

static int64_t peek(void *context, void *data, size_t len, uint64_t offset)
{
    struct peeked *peeked = context;

    return sim_disk_peek(peeked->world, peeked->path, data, len, offset);
}

static uint64_t message_of(const struct scan_record *record)
{
    struct log_message_state state;
    struct envelope envelope;
    struct outcome outcome;

    if (record->type == RECORD_MESSAGE && envelope_decode(record->payload, &envelope) == 0)
        return envelope.message_id;
    if (record->type == RECORD_OUTCOME && outcome_decode(record->payload, &outcome) == 0)
        return outcome.message_id;
    if (record->type == RECORD_STATE && log_message_state_decode(record->payload, &state) == 0)
        return state.message_id;
    return 0;
}

static void note_spots(struct scene *scene, const char *name)
{
    char path[64];
    struct peeked peeked = {scene->world, path};
    struct scan_source source = {peek, &peeked};
    uint8_t block[SEGFMT_BLOCK];
    struct segfmt_header header;
    struct scan_record record;
    struct scan scan;

    snprintf(path, sizeof(path), "/spool/%s", name);
    if (peek(&peeked, block, sizeof(block), 0) != sizeof(block) ||
        segfmt_header_decode(block, &header) < 0)
        return;
    scan_init(&scan, &source, header.uuid, header.serial, SEGFMT_BLOCK, header.segment_bytes);
    while (scan_next(&scan, &record) == SCAN_RECORD) {
        struct spot *spot = &scene->spots[scene->spot_count++];

        assert_true(scene->spot_count < RECORDS_MAX);
        snprintf(spot->path, sizeof(spot->path), "%s", name);
        spot->from = record.offset;
        spot->to = record.offset + SEGFMT_RECORD_BYTES + record.payload_bytes;
        spot->type = record.type;
        spot->message = message_of(&record);
    }
    scan_fini(&scan);
}

static void copy_spool(struct scene *scene)
{
    char from[64];
    char to[64];

    for (uint32_t i = 0; i < scene->file_count; i++) {
        snprintf(from, sizeof(from), "/spool/%s", scene->files[i]);
        snprintf(to, sizeof(to), "/t/%s", scene->files[i]);
        assert_int_equal(sim_disk_copy(scene->world, from, to), 0);
    }
}

struct paths {
    char paths[FILES_MAX * 2][32];
    uint32_t count;
};

static void note_trial_file(void *context, const char *path)
{
    struct paths *paths = context;

    if (strncmp(path, "/t/", 3) == 0 && paths->count < FILES_MAX * 2)
        snprintf(paths->paths[paths->count++], 32, "%s", path);
}

static void remove_copy(struct scene *scene)
{
    struct paths paths = {.count = 0};

    sim_disk_list(scene->world, note_trial_file, &paths);
    for (uint32_t i = 0; i < paths.count; i++)
        sim_disk_remove(scene->world, paths.paths[i]);
}

static void make_directory(void *context)
{
    struct scene *scene = context;

    assert_int_equal(io_dir_create(scene->io, "/t"), 0);
    assert_int_equal(io_dir_sync(scene->io, "/"), 0);
}

static void open_life(void *context)
{
    struct scene *scene = context;

    assert_int_equal(life_open(&scene->life, &scene->options, &scene->ledger, scene->io, scene->io,
                               sim_now_ns(scene->world)),
                     0);
}

static void close_life(void *context)
{
    struct scene *scene = context;

    life_close(&scene->life);
}

static bool is_settled(void *context)
{
    struct scene *scene = context;

    return life_is_settled(&scene->life);
}

static bool is_closed(void *context)
{
    struct scene *scene = context;

    return scene->life.is_closed;
}

/* A few lives, each closed in order, so that nothing is torn. */
static struct scene *scene_make(uint64_t seed, bool with_checkpoints)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct sim_options options = {.fd_count_max = 0};

    assert_non_null(scene);
    scene->spots = calloc(RECORDS_MAX, sizeof(*scene->spots));
    ledger_init(&scene->ledger);
    scene->world = sim_world_create(seed, &options);
    scene->options.spool = (struct spool_options){.path = "/spool",
                                                  .segment_bytes = 65536,
                                                  .outcome_hold_ms = 3,
                                                  .segment_count_max = 30,
                                                  .checkpoint_bytes = 150000};
    scene->options.live_max = 60;
    scene->options.burst_max = 8;
    scene->options.large_one_in = 40;
    scene->options.no_cursor = true;
    scene->options.no_checkpoints = !with_checkpoints;
    for (int lives = 0; lives < 3; lives++) {
        scene->process = sim_process_create(scene->world);
        sim_io_create(scene->world, scene->process, &scene->io);
        sim_run_in(scene->process, open_life, scene);
        sim_run_for(scene->world, 25 * MS);
        scene->life.is_quiet = true;
        assert_true(sim_run_until(scene->world, is_settled, scene, 10000 * MS, 1000000));
        sim_run_in(scene->process, close_life, scene);
        assert_true(sim_run_until(scene->world, is_closed, scene, 10000 * MS, 1000000));
        ledger_closed(&scene->ledger);
        assert_string_equal(scene->ledger.failure, "");
        if (lives == 2)
            sim_run_in(scene->process, make_directory, scene);
        sim_crash(scene->world, scene->process, SIM_KILL);
        life_forget(&scene->life);
        sim_run_for(scene->world, 100 * MS);
    }
    sim_disk_list(scene->world, note_file, scene);
    for (uint32_t i = 0; i < scene->file_count; i++)
        note_spots(scene, scene->files[i]);
    copy_spool(scene);
    look(scene);
    assert_int_equal(scene->now.result, 0);
    assert_int_equal(scene->now.damage, 0);
    assert_int_equal(scene->now.count, scene->ledger.live_count);
    assert_true(scene->now.count > 10 && scene->spot_count > 100);
    scene->whole = scene->now;
    remove_copy(scene);
    return scene;
}

static void scene_end(struct scene *scene)
{
    sim_world_destroy(scene->world);
    ledger_fini(&scene->ledger);
    free(scene->spots);
    free(scene);
}

/* ---- Judgement ---------------------------------------------------------------------------------
 */

static const struct found *find(const struct shown *shown, uint64_t id)
{
    for (uint32_t i = 0; i < shown->count; i++) {
        if (shown->messages[i].id == id)
            return &shown->messages[i];
    }
    return NULL;
}

/* The wound [from, to) of the file touched a record of this message. */
static bool is_touched(const struct scene *scene, const char *name, uint64_t from, uint64_t to,
                       uint64_t id)
{
    for (uint32_t i = 0; i < scene->spot_count; i++) {
        const struct spot *spot = &scene->spots[i];

        if (spot->message == id && strcmp(spot->path, name) == 0 && spot->from < to &&
            spot->to > from)
            return true;
    }
    return false;
}

/* Every difference to the unhurt spool must come from the wound; returns how many there are. */
static uint32_t judge(const struct scene *scene, const char *name, uint64_t from, uint64_t to)
{
    uint32_t differences = 0;

    for (uint32_t i = 0; i < scene->whole.count; i++) {
        const struct found *before = &scene->whole.messages[i];
        const struct found *after = find(&scene->now, before->id);

        if (after != NULL && after->digest == before->digest)
            continue;
        differences++;
        if (!is_touched(scene, name, from, to, before->id))
            fail_msg("%s [%llu, %llu): message %llu is %s", name, (unsigned long long)from,
                     (unsigned long long)to, (unsigned long long)before->id,
                     after == NULL ? "lost" : "changed");
    }
    for (uint32_t i = 0; i < scene->now.count; i++) {
        uint64_t id = scene->now.messages[i].id;

        if (find(&scene->whole, id) != NULL)
            continue;
        differences++;
        if (!is_touched(scene, name, from, to, id))
            fail_msg("%s [%llu, %llu): message %llu came back", name, (unsigned long long)from,
                     (unsigned long long)to, (unsigned long long)id);
    }
    return differences;
}

/* Opening twice must show the same. */
static void look_again(struct scene *scene)
{
    static struct shown first;

    first = scene->now;
    look(scene);
    assert_int_equal(scene->now.result, 0);
    assert_true(shows_the_same(&first, &scene->now));
}

static void flip(struct scene *scene, const char *name, uint64_t at, uint8_t mask)
{
    char path[64];
    uint8_t byte;

    snprintf(path, sizeof(path), "/t/%s", name);
    assert_int_equal(sim_disk_peek(scene->world, path, &byte, 1, at), 1);
    byte ^= mask;
    assert_int_equal(sim_disk_poke(scene->world, path, &byte, 1, at), 1);
}

static uint64_t size_of(struct scene *scene, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/spool/%s", name);
    return (uint64_t)sim_disk_size(scene->world, path);
}

/* ---- Tests -------------------------------------------------------------------------------------
 */

static void flip_one(struct scene *scene, const char *name, uint64_t at, uint8_t mask)
{
    uint32_t differences;

    copy_spool(scene);
    flip(scene, name, at, mask);
    look(scene);
    assert_int_equal(scene->now.result, 0);
    differences = judge(scene, name, at, at + 1);
    if (differences > 0)
        assert_true(scene->now.damage > 0 || scene->now.torn > 0);
    look_again(scene);
    remove_copy(scene);
}

static void flipped_bytes(struct scene *scene)
{
    struct rng rng;

    rng_init(&rng, 5);
    for (uint32_t i = 0; i < TRIALS; i++) {
        const char *name = scene->files[rng_below(&rng, scene->file_count)];
        uint64_t size = size_of(scene, name);

        /* Half of them in the front, where headers are. */
        if (rng_one_in(&rng, 2) && size > 16384)
            size = 16384;
        flip_one(scene, name, rng_below(&rng, size), (uint8_t)(1u << rng_below(&rng, 8)));
    }
    for (uint32_t i = 0; i < TRIALS; i++) {
        const struct spot *spot = &scene->spots[rng_below(&rng, scene->spot_count)];

        flip_one(scene, spot->path, spot->from + rng_below(&rng, spot->to - spot->from),
                 (uint8_t)rng_between(&rng, 1, 255));
    }
}

static void flipped_bytes_cost_what_they_touch(void **state)
{
    for (int with = 0; with <= 1; with++) {
        struct scene *scene = scene_make(11 + (uint64_t)with, with);

        flipped_bytes(scene);
        scene_end(scene);
    }
}

static void a_whole_bad_sector_costs_what_it_touches(void **state)
{
    struct scene *scene = scene_make(21, false);
    uint8_t noise[512];
    char path[64];
    struct rng rng;

    rng_init(&rng, 6);
    for (uint32_t i = 0; i < TRIALS; i++) {
        const struct spot *spot = &scene->spots[rng_below(&rng, scene->spot_count)];
        uint64_t at = spot->from & ~511ull;

        for (size_t k = 0; k < sizeof(noise); k++)
            noise[k] = (uint8_t)rng_u64(&rng);
        copy_spool(scene);
        snprintf(path, sizeof(path), "/t/%s", spot->path);
        assert_int_equal(sim_disk_poke(scene->world, path, noise, sizeof(noise), at), 512);
        look(scene);
        assert_int_equal(scene->now.result, 0);
        judge(scene, spot->path, at, at + sizeof(noise));
        remove_copy(scene);
    }
    scene_end(scene);
}

static void truncated_files_cost_what_was_cut_off(void **state)
{
    struct scene *scene = scene_make(31, false);
    char path[64];

    for (uint32_t i = 0; i < scene->file_count; i++) {
        uint64_t size = size_of(scene, scene->files[i]);

        if (strstr(scene->files[i], ".seg") == NULL)
            continue;
        for (uint64_t at = 0; at < size; at += 2560) {
            copy_spool(scene);
            snprintf(path, sizeof(path), "/t/%s", scene->files[i]);
            assert_int_equal(sim_disk_resize(scene->world, path, at), 0);
            look(scene);
            assert_int_equal(scene->now.result, 0);
            /* An empty file looks as if its making had been cut short. */
            if (judge(scene, scene->files[i], at, size) > 0 && at > 0)
                assert_true(scene->now.damage > 0);
            remove_copy(scene);
        }
    }
    scene_end(scene);
}

static uint32_t serial_of(struct scene *scene, const char *name, uint32_t *ret_former)
{
    struct segfmt_header header;
    uint8_t block[SEGFMT_BLOCK];
    char path[64];

    snprintf(path, sizeof(path), "/spool/%s", name);
    sim_disk_peek(scene->world, path, block, sizeof(block), 0);
    if (segfmt_header_decode(block, &header) < 0)
        return 0;
    *ret_former = header.former;
    return header.serial;
}

/* Some segment that holds records names this one as the one before it. */
static bool is_followed(struct scene *scene, const char *name)
{
    uint32_t former = 0;
    uint32_t serial = serial_of(scene, name, &former);

    for (uint32_t i = 0; i < scene->spot_count; i++) {
        if (serial_of(scene, scene->spots[i].path, &former) != 0 && former == serial)
            return true;
    }
    return false;
}

static void a_missing_segment_costs_what_was_in_it(void **state)
{
    for (int with = 0; with <= 1; with++) {
        struct scene *scene = scene_make(41 + (uint64_t)with, with);
        char path[64];

        for (uint32_t i = 0; i < scene->file_count; i++) {
            uint32_t differences;

            copy_spool(scene);
            snprintf(path, sizeof(path), "/t/%s", scene->files[i]);
            assert_int_equal(sim_disk_remove(scene->world, path), 0);
            look(scene);
            assert_int_equal(scene->now.result, 0);
            differences = judge(scene, scene->files[i], 0, 1ull << 40);
            /* The newest of its stream leaves no trace when it is gone. */
            if (differences > 0 && is_followed(scene, scene->files[i]))
                assert_true(scene->now.damage > 0);
            look_again(scene);
            remove_copy(scene);
        }
        scene_end(scene);
    }
}

static void a_copied_segment_changes_nothing(void **state)
{
    struct scene *scene = scene_make(51, true);
    char path[64];

    for (uint32_t i = 0; i < scene->file_count; i++) {
        if (strstr(scene->files[i], ".seg") == NULL)
            continue;
        copy_spool(scene);
        snprintf(path, sizeof(path), "/spool/%s", scene->files[i]);
        assert_int_equal(sim_disk_copy(scene->world, path, "/t/00029.seg"), 0);
        look(scene);
        assert_int_equal(scene->now.result, 0);
        assert_true(shows_the_same(&scene->whole, &scene->now));
        remove_copy(scene);
    }
    scene_end(scene);
}

/* The last batch of the newest message segment, as an interrupted write leaves it. */
static void torn_tails_are_cut(void **state)
{
    struct scene *scene = scene_make(61, false);
    const struct spot *last = NULL;
    uint8_t zeros[SEGFMT_BLOCK * 16] = {0};
    uint32_t newest = 0;
    uint64_t batch;
    uint64_t end;
    char path[64];

    for (uint32_t i = 0; i < scene->spot_count; i++) {
        const struct spot *spot = &scene->spots[i];
        uint32_t former;

        if (spot->type != RECORD_MESSAGE)
            continue;
        if (serial_of(scene, spot->path, &former) < newest)
            continue;
        newest = serial_of(scene, spot->path, &former);
        last = spot;
    }
    must(last != NULL);
    batch = last->from & ~(uint64_t)(SEGFMT_BLOCK - 1);
    end = segfmt_align(last->to, SEGFMT_BLOCK);
    for (uint64_t at = batch; at < end; at += 512) {
        copy_spool(scene);
        snprintf(path, sizeof(path), "/t/%s", last->path);
        assert_int_equal(sim_disk_poke(scene->world, path, zeros, end - at, at), end - at);
        look(scene);
        assert_int_equal(scene->now.result, 0);
        judge(scene, last->path, at, end);
        assert_int_equal(scene->now.damage, 0);
        look_again(scene);
        remove_copy(scene);
    }
    scene_end(scene);
}

static void an_unknown_record_type_refuses_and_touches_nothing(void **state)
{
    struct scene *scene = scene_make(71, false);
    const struct spot *spot = &scene->spots[scene->spot_count / 2];
    struct segfmt_record record;
    struct segfmt_header header;
    uint8_t block[SEGFMT_BLOCK];
    uint8_t bytes[SEGFMT_SUPER_BYTES];
    uint8_t again[SEGFMT_SUPER_BYTES];
    uint8_t data[65536];
    uint32_t len = spot->to - spot->from;
    char path[64];

    copy_spool(scene);
    snprintf(path, sizeof(path), "/t/%s", spot->path);
    sim_disk_peek(scene->world, path, block, sizeof(block), 0);
    assert_int_equal(segfmt_header_decode(block, &header), 0);
    sim_disk_peek(scene->world, path, data, len, spot->from);
    assert_true(segfmt_record_decode(data, segfmt_seed(header.uuid, header.serial), &record));
    /* Encoded as a known type, then given an unknown one with right sums. */
    data[4] = 99;
    {
        uint32_t seed = segfmt_seed(header.uuid, header.serial);
        uint32_t crc = crc32c(seed, data, 24);

        memcpy(data + 24, &crc, 4);
        crc = crc32c(segfmt_record_head_crc(data), data + 32, len - 32);
        memcpy(data + 28, &crc, 4);
    }
    sim_disk_poke(scene->world, path, data, len, spot->from);
    sim_disk_peek(scene->world, "/t/super", bytes, sizeof(bytes), 0);
    look(scene);
    assert_int_equal(scene->now.result, E_VERSION);
    assert_int_equal(scene->now.count, 0);
    sim_disk_peek(scene->world, "/t/super", again, sizeof(again), 0);
    assert_memory_equal(bytes, again, sizeof(bytes));
    scene_end(scene);
}

static void a_newer_format_is_refused(void **state)
{
    struct scene *scene = scene_make(81, false);
    uint8_t block[SEGFMT_BLOCK];
    uint32_t crc;

    copy_spool(scene);
    sim_disk_peek(scene->world, "/t/00000.seg", block, sizeof(block), 0);
    block[4] = SEGFMT_VERSION + 1;
    crc = crc32c(0, block, 60);
    memcpy(block + 60, &crc, 4);
    sim_disk_poke(scene->world, "/t/00000.seg", block, sizeof(block), 0);
    look(scene);
    assert_int_equal(scene->now.result, E_VERSION);
    scene_end(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bytes_cost_what_they_touch),
        cmocka_unit_test(a_whole_bad_sector_costs_what_it_touches),
        cmocka_unit_test(truncated_files_cost_what_was_cut_off),
        cmocka_unit_test(a_missing_segment_costs_what_was_in_it),
        cmocka_unit_test(a_copied_segment_changes_nothing),
        cmocka_unit_test(torn_tails_are_cut),
        cmocka_unit_test(an_unknown_record_type_refuses_and_touches_nothing),
        cmocka_unit_test(a_newer_format_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
