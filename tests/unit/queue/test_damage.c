/*
 * Bit rot and torn tails: a spool with a history is copied, hurt in one place, and opened. What is
 * missing then must be what the wound touched, it must be reported, and opening again must show
 * the same. Runs on the simulator's disk.
 */
#include "tests/unit/core_base/unit.h"

#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/must.h"
#include "queue/spool_int.h"
#include "tests/unit/queue/scene.h"

#include <stdio.h>

#define TRIALS 700

/* ---- Tests -------------------------------------------------------------------------------------
 */

/* record_at: where the record begins that is hurt, UINT32_MAX = it need not be one. */
static void flip_one(struct scene *scene, const char *name, uint64_t at, uint8_t mask,
                     uint32_t record_at)
{
    uint32_t differences;

    scene_copy(scene);
    scene_flip(scene, name, at, mask);
    scene_look(scene);
    assert_int_equal(scene->now.result, 0);
    differences = scene_judge(scene, name, at, at + 1);
    if (differences > 0)
        assert_true(scene->now.damage > 0 || scene->now.torn > 0);
    /* Of whatever is told, the place is where the record that was hurt begins. */
    if (record_at != UINT32_MAX && scene->now.damage > 0) {
        assert_string_equal(scene->now.told[0].file, name);
        assert_int_equal(scene->now.told[0].offset, record_at);
    }
    scene_look_again(scene);
    scene_remove_copy(scene);
}

static void flipped_bytes(struct scene *scene)
{
    struct rng rng;

    rng_init(&rng, 5);
    for (uint32_t i = 0; i < TRIALS; i++) {
        const char *name = scene->files[rng_below(&rng, scene->file_count)];
        uint64_t size = scene_size_of(scene, name);

        /* Half of them in the front, where headers are. */
        if (rng_one_in(&rng, 2) && size > 16384)
            size = 16384;
        flip_one(scene, name, rng_below(&rng, size), (uint8_t)(1u << rng_below(&rng, 8)),
                 UINT32_MAX);
    }
    for (uint32_t i = 0; i < TRIALS; i++) {
        const struct spot *spot = &scene->spots[rng_below(&rng, scene->spot_count)];

        if (spot->is_old)
            continue;
        flip_one(scene, spot->path, spot->from + rng_below(&rng, spot->to - spot->from),
                 (uint8_t)rng_between(&rng, 1, 255), spot->from);
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

        if (spot->is_old)
            continue;
        for (size_t k = 0; k < sizeof(noise); k++)
            noise[k] = (uint8_t)rng_u64(&rng);
        scene_copy(scene);
        snprintf(path, sizeof(path), "/t/%s", spot->path);
        assert_int_equal(sim_disk_poke(scene->world, path, noise, sizeof(noise), at), 512);
        scene_look(scene);
        assert_int_equal(scene->now.result, 0);
        scene_judge(scene, spot->path, at, at + sizeof(noise));
        scene_remove_copy(scene);
    }
    scene_end(scene);
}

static void truncated_files_cost_what_was_cut_off(void **state)
{
    struct scene *scene = scene_make(31, false);
    char path[64];

    for (uint32_t i = 0; i < scene->file_count; i++) {
        uint64_t size = scene_size_of(scene, scene->files[i]);

        if (strstr(scene->files[i], ".seg") == NULL)
            continue;
        for (uint64_t at = 0; at < size; at += 2560) {
            scene_copy(scene);
            snprintf(path, sizeof(path), "/t/%s", scene->files[i]);
            assert_int_equal(sim_disk_resize(scene->world, path, at), 0);
            scene_look(scene);
            assert_int_equal(scene->now.result, 0);
            /* An empty file looks as if its making had been cut short. */
            if (scene_judge(scene, scene->files[i], at, size) > 0 && at > 0)
                assert_true(scene->now.damage > 0);
            scene_remove_copy(scene);
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
        if (scene->spots[i].is_old)
            continue;
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

            scene_copy(scene);
            snprintf(path, sizeof(path), "/t/%s", scene->files[i]);
            assert_int_equal(sim_disk_remove(scene->world, path), 0);
            scene_look(scene);
            assert_int_equal(scene->now.result, 0);
            differences = scene_judge(scene, scene->files[i], 0, 1ull << 40);
            /* The newest of its stream leaves no trace when it is gone. */
            if (differences > 0 && is_followed(scene, scene->files[i]))
                assert_true(scene->now.damage > 0);
            scene_look_again(scene);
            scene_remove_copy(scene);
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
        scene_copy(scene);
        snprintf(path, sizeof(path), "/spool/%s", scene->files[i]);
        assert_int_equal(sim_disk_copy(scene->world, path, "/t/00029.seg"), 0);
        scene_look(scene);
        assert_int_equal(scene->now.result, 0);
        assert_true(scene_shows_the_same(&scene->whole, &scene->now));
        scene_remove_copy(scene);
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

        if (spot->type != RECORD_MESSAGE || spot->is_old)
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
        scene_copy(scene);
        snprintf(path, sizeof(path), "/t/%s", last->path);
        assert_int_equal(sim_disk_poke(scene->world, path, zeros, end - at, at), end - at);
        scene_look(scene);
        assert_int_equal(scene->now.result, 0);
        scene_judge(scene, last->path, at, end);
        assert_int_equal(scene->now.damage, 0);
        scene_look_again(scene);
        scene_remove_copy(scene);
    }
    scene_end(scene);
}

static void an_unknown_record_type_refuses_and_touches_nothing(void **state)
{
    struct scene *scene = scene_make(71, false);
    const struct spot *spot = &scene->spots[0];
    struct segfmt_record record;
    struct segfmt_header header;
    uint8_t block[SEGFMT_BLOCK];
    uint8_t bytes[SEGFMT_SUPER_BYTES];
    uint8_t again[SEGFMT_SUPER_BYTES];
    uint8_t data[65536];
    uint32_t len = spot->to - spot->from;
    char path[64];

    scene_copy(scene);
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
    scene_look(scene);
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

    scene_copy(scene);
    sim_disk_peek(scene->world, "/t/00000.seg", block, sizeof(block), 0);
    block[4] = SEGFMT_VERSION + 1;
    crc = crc32c(0, block, 60);
    memcpy(block + 60, &crc, 4);
    sim_disk_poke(scene->world, "/t/00000.seg", block, sizeof(block), 0);
    scene_look(scene);
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
