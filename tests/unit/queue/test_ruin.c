/*
 * A spool that was hurt in many places at once and in any way: flipped bytes, zeroed blocks, noise,
 * files cut off, missing, foreign, copied, swapped, or of an older time than the others. For each
 * seed: it opens, whatever it tells was really sent, every live message that no wound touched is
 * told, and what costs something is reported, in few lines.
 *
 *   test_queue_ruin              the seeds of every build
 *   test_queue_ruin FIRST COUNT  others
 */
#include "tests/unit/core_base/unit.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "queue/spool_int.h"
#include "tests/unit/queue/scene.h"

#include <stdio.h>
#include <stdlib.h>

#define SCENES 6u
#define SEEDS  900u

static const char *trial_path(const char *name)
{
    static char path[64];

    snprintf(path, sizeof(path), "/t/%s", name);
    return path;
}

static bool is_segment(const char *name)
{
    return strstr(name, ".seg") != NULL;
}

static const char *pick(struct scene *scene, struct rng *rng)
{
    return scene->files[rng_below(rng, scene->file_count)];
}

/* ---- Wounds ---------------------------------------------------------------------------------- */

static void overwrite(struct scene *scene, struct rng *rng, const char *name, bool with_noise)
{
    uint8_t bytes[SEGFMT_BLOCK * 8] = {0};
    uint64_t size = scene_size_of(scene, name);
    uint64_t unit = rng_one_in(rng, 2) ? 512 : SEGFMT_BLOCK;
    uint64_t at = rng_below(rng, size / unit + 1) * unit;
    uint64_t len = rng_between(rng, 1, 8) * unit;

    /* Most of what is written lies in the front. */
    if (rng_one_in(rng, 2) && at > 16384)
        at = at % 16384 & ~(unit - 1);
    if (at + len > size)
        len = size - at;
    for (uint64_t i = 0; with_noise && i < len; i++)
        bytes[i] = (uint8_t)rng_u64(rng);
    sim_disk_poke(scene->world, trial_path(name), bytes, len, at);
    scene_wound(scene, name, at, at + len, false);
}

static void flip_some(struct scene *scene, struct rng *rng, const char *name)
{
    uint64_t size = scene_size_of(scene, name);

    for (uint64_t left = rng_between(rng, 1, 6); left > 0; left--) {
        uint64_t at = rng_below(rng, rng_one_in(rng, 2) && size > 16384 ? 16384 : size);

        if (sim_disk_size(scene->world, trial_path(name)) <= (int64_t)at)
            continue;
        scene_flip(scene, name, at, (uint8_t)rng_between(rng, 1, 255));
        scene_wound(scene, name, at, at + 1, false);
    }
}

static void resize(struct scene *scene, struct rng *rng, const char *name)
{
    uint64_t size = scene_size_of(scene, name);
    uint64_t wanted = rng_below(rng, size * 3 / 2);

    sim_disk_resize(scene->world, trial_path(name), wanted);
    if (wanted < size)
        scene_wound(scene, name, wanted, size, false);
}

static void replace(struct scene *scene, const char *name, const char *directory, const char *by)
{
    char from[64];

    snprintf(from, sizeof(from), "%s/%s", directory, by);
    sim_disk_remove(scene->world, trial_path(name));
    sim_disk_copy(scene->world, from, trial_path(name));
    scene_wound(scene, name, 0, UINT32_MAX, strcmp(directory, "/old") == 0);
}

/* All files of one stream, or the superblock, as they were long ago. */
static void all_old(struct scene *scene, uint8_t stream)
{
    for (uint32_t i = 0; i < scene->file_count; i++) {
        struct segfmt_header header = {.stream = 0};
        uint8_t block[SEGFMT_BLOCK];
        char path[64];

        snprintf(path, sizeof(path), "/spool/%s", scene->files[i]);
        if (sim_disk_peek(scene->world, path, block, sizeof(block), 0) == SEGFMT_BLOCK)
            (void)segfmt_header_decode(block, &header);
        if (header.stream == stream)
            replace(scene, scene->files[i], "/old", scene->files[i]);
    }
}

static void rewrite_header(struct scene *scene, const char *name, bool as_foreign)
{
    uint8_t block[SEGFMT_BLOCK];
    struct segfmt_header header;

    if (sim_disk_peek(scene->world, trial_path(name), block, sizeof(block), 0) != SEGFMT_BLOCK ||
        segfmt_header_decode(block, &header) < 0)
        return;
    memset(block, 0, sizeof(block));
    header.uuid[3] ^= 1;
    if (as_foreign)
        segfmt_header_encode(&header, block);
    sim_disk_poke(scene->world, trial_path(name), block, sizeof(block), 0);
    scene_wound(scene, name, 0, as_foreign ? UINT32_MAX : SEGFMT_BLOCK, false);
}

/* A copy under a name of its own, with a header that does not tell. */
static void copy_astray(struct scene *scene, const char *name)
{
    sim_disk_copy(scene->world, trial_path(name), "/t/00029.seg");
    rewrite_header(scene, "00029.seg", false);
}

static void hurt(struct scene *scene, struct rng *rng)
{
    const char *name = pick(scene, rng);
    const char *other = pick(scene, rng);

    switch (rng_below(rng, 16)) {
    case 0:
    case 1:
    case 2:
        overwrite(scene, rng, name, false);
        break;
    case 3:
    case 4:
        overwrite(scene, rng, name, true);
        break;
    case 5:
        resize(scene, rng, name);
        break;
    case 6:
        sim_disk_remove(scene->world, trial_path(name));
        scene_wound(scene, name, 0, UINT32_MAX, false);
        break;
    case 7:
        rewrite_header(scene, name, rng_one_in(rng, 2));
        break;
    case 8:
        copy_astray(scene, name);
        break;
    case 9:
        replace(scene, name, "/old", name);
        break;
    case 10:
        all_old(scene, (uint8_t)rng_below(rng, 3));
        break;
    case 11:
        replace(scene, name, "/spool", other);
        replace(scene, other, "/spool", name);
        break;
    default:
        flip_some(scene, rng, name);
        break;
    }
}

/* ---- Judgement ------------------------------------------------------------------------------- */

static bool fails(const struct scene *scene, uint64_t seed, const char *text, uint64_t id)
{
    fprintf(stderr, "seed %llu: %s (message %llu)\n", (unsigned long long)seed, text,
            (unsigned long long)id);
    for (uint32_t i = 0; i < scene->wound_count; i++)
        fprintf(stderr, "    %s [%llu, %llu)%s\n", scene->wounds[i].path,
                (unsigned long long)scene->wounds[i].from, (unsigned long long)scene->wounds[i].to,
                scene->wounds[i].brings_old ? " old" : "");
    for (uint32_t i = 0; i < scene->spot_count; i++) {
        const struct spot *spot = &scene->spots[i];

        if (spot->message == id)
            fprintf(stderr, "    its record of type %u: %s [%u, %u)%s\n", spot->type, spot->path,
                    spot->from, spot->to, spot->is_old ? " old" : "");
    }
    return false;
}

static bool is_good(struct scene *scene, uint64_t seed)
{
    uint32_t segments = 0;
    bool lost = false;

    if (scene->now.result != 0)
        return fails(scene, seed, "does not open", (uint64_t)-scene->now.result);
    if (scene->now.invented > 0)
        return fails(scene, seed, "a message was invented", scene->now.invented);
    for (uint32_t i = 0; i < scene->whole.count; i++) {
        uint64_t id = scene->whole.messages[i].id;

        if (scene_find(&scene->now, id) != NULL)
            continue;
        if (!scene_is_touched(scene, id))
            return fails(scene, seed, "a message is lost that nothing touched", id);
        lost = true;
    }
    for (uint32_t i = 1; i < scene->now.count; i++)
        for (uint32_t k = 0; k < i; k++)
            if (scene->now.messages[k].id == scene->now.messages[i].id)
                return fails(scene, seed, "a message was told twice", scene->now.messages[i].id);
    for (uint32_t i = 0; i < scene->file_count; i++)
        segments += is_segment(scene->files[i]);
    /* Eight lines of a file, its summary, what its header had to say, and the superblock. */
    if (scene->now.damage > (segments + 1) * 12)
        return fails(scene, seed, "damage is told without bound", scene->now.damage);
    if (lost && scene->now.damage == 0 && scene->now.torn == 0 && !scene->may_be_silent)
        return fails(scene, seed, "nothing was said of a loss", 0);
    return true;
}

static bool is_wounded(const struct scene *scene, const char *name, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < scene->wound_count; i++) {
        const struct wound *wound = &scene->wounds[i];

        if (strcmp(wound->path, name) == 0 && wound->from < to && wound->to > from)
            return true;
    }
    return false;
}

/* Who has neither a header nor a first batch, which repeats it, cannot be told from rubbish. */
static void note_headless(struct scene *scene)
{
    for (uint32_t i = 0; i < scene->file_count; i++) {
        const char *name = scene->files[i];

        if (is_wounded(scene, name, 0, SEGFMT_BLOCK) &&
            is_wounded(scene, name, SEGFMT_BLOCK, SEGFMT_BLOCK + SEGFMT_BATCH_BYTES))
            scene_wound(scene, name, 0, UINT32_MAX, false);
    }
}

/* Where nothing follows, damage is like a commit that never came. */
static bool is_at_the_end(const struct scene *scene, const struct wound *wound)
{
    for (uint32_t i = 0; i < scene->spot_count; i++) {
        const struct spot *spot = &scene->spots[i];

        if (!spot->is_old && strcmp(spot->path, wound->path) == 0 && spot->from >= wound->to)
            return false;
    }
    return true;
}

static bool run_seed(struct scene *scene, uint64_t seed, uint64_t *lost, uint64_t *told)
{
    struct rng rng;

    rng_init(&rng, seed);
    scene->wound_count = 0;
    scene->may_be_silent = false;
    scene_copy(scene);
    for (uint64_t left = rng_between(&rng, 1, 5); left > 0; left--)
        hurt(scene, &rng);
    for (uint32_t i = 0; i < scene->wound_count; i++)
        scene->may_be_silent |= is_at_the_end(scene, &scene->wounds[i]);
    note_headless(scene);
    scene_look(scene);
    if (!is_good(scene, seed))
        return false;
    *lost += scene->whole.count > scene->now.count ? scene->whole.count - scene->now.count : 0;
    *told += scene->now.damage;
    scene_look(scene);
    if (scene->now.result != 0)
        return fails(scene, seed, "does not open again", (uint64_t)-scene->now.result);
    scene_remove_copy(scene);
    return true;
}

static uint64_t first = 1;
static uint64_t count = SEEDS;

static void a_ruined_spool_opens_and_tells_what_is_left(void **state)
{
    uint64_t lost = 0;
    uint64_t told = 0;

    for (uint64_t i = 0; i < SCENES; i++) {
        struct scene *scene = scene_make(100 + i, i % 3 > 0);

        for (uint64_t seed = first; seed < first + count; seed++) {
            if (seed % SCENES == i)
                assert_true(run_seed(scene, seed, &lost, &told));
        }
        scene_end(scene);
    }
    fprintf(stderr, "%llu ruins opened, %llu messages lost, %llu lines of damage\n",
            (unsigned long long)count, (unsigned long long)lost, (unsigned long long)told);
    assert_true(lost > 0 && told > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ruined_spool_opens_and_tells_what_is_left),
    };

    if (argc == 3) {
        first = strtoull(argv[1], NULL, 10);
        count = strtoull(argv[2], NULL, 10);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
