#include "tests/unit/queue/scene.h"

#include "tests/unit/core_base/unit.h"

#include "core/base/hash.h"
#include "queue/envelope.h"
#include "queue/spool_int.h"

#include <stdio.h>

/* ---- Opening and looking --------------------------------------------------------------------- */

static void on_message(void *context, const struct log_message_state *state)
{
    struct scene *scene = context;
    struct shown *shown = &scene->now;
    struct found *found = &shown->messages[shown->count++];

    assert_true(shown->count < MESSAGES_MAX);
    if (state->message_id == 0 || state->message_id > scene->ledger.message_count ||
        state->accepted_us != state->message_id * 7 ||
        state->rcpt_count != scene->ledger.messages[state->message_id - 1]->rcpt_count)
        shown->invented++;
    found->id = state->message_id;
    found->digest = hash_bytes(state->rcpts.data, state->rcpts.len) ^ state->accepted_us;
}

static void on_named(void *context, const struct log_named *named)
{
    struct scene *scene = context;

    scene->now.named += named->value.len > 0;
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    struct scene *scene = context;
    struct shown *shown = &scene->now;

    if (shown->damage < TOLD_MAX) {
        snprintf(shown->told[shown->damage].file, sizeof(shown->told[0].file), "%s", file);
        shown->told[shown->damage].offset = offset;
    }
    shown->damage++;
    if (getenv("TELL") != NULL)
        fprintf(stderr, "    %s at %llu: %s\n", file, (unsigned long long)offset, text);
}

static void open_and_look(void *context)
{
    struct scene *scene = context;
    struct spool_recovery recovery = {scene, on_message, on_named, on_damage};
    struct spool_options options = scene->options.spool;
    struct spool_report report = {0};
    struct spool *spool;

    options.directories[0].path = "/t";
    memset(&scene->now, 0, sizeof(scene->now));
    scene->now.result = spool_open(scene->io, &options, &recovery, &spool, &report);
    scene->now.torn = report.torn_tails_cut;
    scene->now.damage_count = report.damage_count;
}

void scene_look(struct scene *scene)
{
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    assert_true(sim_run_in(scene->process, open_and_look, scene));
    sim_crash(scene->world, scene->process, SIM_KILL);
    sim_run_for(scene->world, 100 * MS);
}

/* Three numbers of the state without the bytes: compared by the test of idempotence. */
bool scene_shows_the_same(const struct shown *a, const struct shown *b)
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

    if ((record->type == RECORD_MESSAGE || record->type == RECORD_COMMIT) &&
        envelope_decode(record->payload, &envelope) == 0)
        return envelope.message_id;
    if (record->type == RECORD_OUTCOME && outcome_decode(record->payload, &outcome) == 0)
        return outcome.message_id;
    if (record->type == RECORD_STATE && log_message_state_decode(record->payload, &state) == 0)
        return state.message_id;
    return 0;
}

static void note_spots(struct scene *scene, const char *directory, const char *name)
{
    char path[64];
    struct peeked peeked = {scene->world, path};
    struct scan_source source = {peek, &peeked};
    uint8_t block[SEGFMT_BLOCK];
    struct segfmt_header header;
    struct scan_record record;
    struct scan scan;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
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
        spot->is_old = strcmp(directory, "/old") == 0;
    }
    scan_fini(&scan);
}

void scene_copy(struct scene *scene)
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

void scene_remove_copy(struct scene *scene)
{
    struct paths paths = {.count = 0};

    sim_disk_list(scene->world, note_trial_file, &paths);
    for (uint32_t i = 0; i < paths.count; i++)
        sim_disk_remove(scene->world, paths.paths[i]);
}

static void make_directories(void *context)
{
    struct scene *scene = context;

    assert_int_equal(io_dir_create(scene->io, "/t"), 0);
    assert_int_equal(io_dir_create(scene->io, "/old"), 0);
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

static void note_first_life(void *context, const char *path)
{
    struct paths *paths = context;

    if (strncmp(path, "/spool/", 7) == 0 && paths->count < FILES_MAX * 2)
        snprintf(paths->paths[paths->count++], 32, "%s", path + 7);
}

static void keep_old(struct scene *scene)
{
    struct paths paths = {.count = 0};
    char from[64];
    char to[64];

    sim_disk_list(scene->world, note_first_life, &paths);
    for (uint32_t i = 0; i < paths.count; i++) {
        snprintf(from, sizeof(from), "/spool/%s", paths.paths[i]);
        snprintf(to, sizeof(to), "/old/%s", paths.paths[i]);
        assert_int_equal(sim_disk_copy(scene->world, from, to), 0);
    }
}

struct scene *scene_make(uint64_t seed, bool with_checkpoints)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct sim_options options = {.fd_count_max = 0};

    assert_non_null(scene);
    scene->spots = calloc(RECORDS_MAX, sizeof(*scene->spots));
    ledger_init(&scene->ledger);
    scene->world = sim_world_create(seed, &options);
    scene->options.spool = (struct spool_options){.directories = {{.path = "/spool"}},
                                                  .segment_bytes = 65536,
                                                  .outcome_hold_ms = 3,
                                                  .segment_count_max = 30,
                                                  .checkpoint_bytes = 150000};
    scene->options.live_max = 60;
    scene->options.burst_max = 8;
    scene->options.large_one_in = 40;
    scene->options.chunked_one_in = 25;
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
        if (lives == 0)
            sim_run_in(scene->process, make_directories, scene);
        sim_crash(scene->world, scene->process, SIM_KILL);
        life_forget(&scene->life);
        sim_run_for(scene->world, 100 * MS);
        if (lives == 0)
            keep_old(scene);
    }
    sim_disk_list(scene->world, note_file, scene);
    for (uint32_t i = 0; i < scene->file_count; i++)
        note_spots(scene, "/spool", scene->files[i]);
    for (uint32_t i = 0; i < scene->file_count; i++)
        note_spots(scene, "/old", scene->files[i]);
    scene_copy(scene);
    scene_look(scene);
    assert_int_equal(scene->now.result, 0);
    assert_int_equal(scene->now.damage, 0);
    assert_int_equal(scene->now.count, scene->ledger.live_count);
    assert_true(scene->now.count > 10 && scene->spot_count > 100);
    scene->whole = scene->now;
    scene_remove_copy(scene);
    return scene;
}

void scene_end(struct scene *scene)
{
    sim_world_destroy(scene->world);
    ledger_fini(&scene->ledger);
    free(scene->spots);
    free(scene);
}

/* ---- Judgement ---------------------------------------------------------------------------------
 */

const struct found *scene_find(const struct shown *shown, uint64_t id)
{
    for (uint32_t i = 0; i < shown->count; i++) {
        if (shown->messages[i].id == id)
            return &shown->messages[i];
    }
    return NULL;
}

void scene_wound(struct scene *scene, const char *name, uint64_t from, uint64_t to, bool brings_old)
{
    struct wound *wound = &scene->wounds[scene->wound_count++];

    assert_true(scene->wound_count <= WOUNDS_MAX);
    snprintf(wound->path, sizeof(wound->path), "%s", name);
    wound->from = from;
    wound->to = to;
    wound->brings_old = brings_old;
}

static bool wound_touches(const struct wound *wound, const struct spot *spot)
{
    if (strcmp(spot->path, wound->path) != 0)
        return false;
    if (spot->is_old)
        return wound->brings_old;
    return spot->from < wound->to && spot->to > wound->from;
}

bool scene_is_touched(const struct scene *scene, uint64_t id)
{
    for (uint32_t i = 0; i < scene->spot_count; i++) {
        for (uint32_t k = 0; k < scene->wound_count && scene->spots[i].message == id; k++) {
            if (wound_touches(&scene->wounds[k], &scene->spots[i]))
                return true;
        }
    }
    return false;
}

uint32_t scene_judge(struct scene *scene, const char *name, uint64_t from, uint64_t to)
{
    uint32_t differences = 0;

    scene->wound_count = 0;
    scene_wound(scene, name, from, to, false);
    for (uint32_t i = 0; i < scene->whole.count; i++) {
        const struct found *before = &scene->whole.messages[i];
        const struct found *after = scene_find(&scene->now, before->id);

        if (after != NULL && after->digest == before->digest)
            continue;
        differences++;
        if (!scene_is_touched(scene, before->id))
            fail_msg("%s [%llu, %llu): message %llu is %s", name, (unsigned long long)from,
                     (unsigned long long)to, (unsigned long long)before->id,
                     after == NULL ? "lost" : "changed");
    }
    for (uint32_t i = 0; i < scene->now.count; i++) {
        uint64_t id = scene->now.messages[i].id;

        if (scene_find(&scene->whole, id) != NULL)
            continue;
        differences++;
        if (!scene_is_touched(scene, id))
            fail_msg("%s [%llu, %llu): message %llu came back", name, (unsigned long long)from,
                     (unsigned long long)to, (unsigned long long)id);
    }
    return differences;
}

void scene_look_again(struct scene *scene)
{
    static struct shown first;

    first = scene->now;
    scene_look(scene);
    assert_int_equal(scene->now.result, 0);
    assert_true(scene_shows_the_same(&first, &scene->now));
}

void scene_flip(struct scene *scene, const char *name, uint64_t at, uint8_t mask)
{
    char path[64];
    uint8_t byte;

    snprintf(path, sizeof(path), "/t/%s", name);
    assert_int_equal(sim_disk_peek(scene->world, path, &byte, 1, at), 1);
    byte ^= mask;
    assert_int_equal(sim_disk_poke(scene->world, path, &byte, 1, at), 1);
}

uint64_t scene_size_of(struct scene *scene, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/spool/%s", name);
    return (uint64_t)sim_disk_size(scene->world, path);
}
