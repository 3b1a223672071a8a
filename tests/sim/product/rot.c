#include "tests/sim/product/rot.h"

#include "queue/scan.h"

#include <stdio.h>
#include <stdlib.h>

#define SEGMENTS_MAX 512
#define ROT_PATH_MAX 128

/* A segment file with a good header. */
struct found {
    char path[ROT_PATH_MAX];
    struct segfmt_header header;
};

struct survey {
    struct sim_world *world;
    struct found segments[SEGMENTS_MAX];
    uint32_t count;
};

struct place {
    const struct found *segment;
    uint32_t offset;
    uint32_t bytes;
};

static int64_t peek(struct sim_world *world, const char *path, uint8_t *block, uint64_t offset)
{
    return sim_disk_peek(world, path, block, SEGFMT_BLOCK, offset);
}

static void flip(struct sim_world *world, const char *path, uint64_t offset)
{
    uint8_t byte = 0;

    sim_disk_peek(world, path, &byte, 1, offset);
    byte ^= (uint8_t)rng_between(sim_rng(world), 1, 255);
    sim_disk_poke(world, path, &byte, 1, offset);
}

static void note_file(void *context, const char *path)
{
    struct survey *survey = context;
    const char *name = strrchr(path, '/');
    struct found *found = &survey->segments[survey->count];
    uint8_t block[SEGFMT_BLOCK];
    uint16_t slot;

    if (!name || !segfmt_name_parse(name + 1, &slot) || survey->count == SEGMENTS_MAX ||
        peek(survey->world, path, block, 0) != SEGFMT_BLOCK ||
        segfmt_header_decode(block, &found->header) < 0 || found->header.slot != slot)
        return;
    snprintf(found->path, sizeof(found->path), "%s", path);
    survey->count++;
}

static int by_serial(const void *left, const void *right)
{
    const struct found *a = left, *b = right;

    return a->header.serial < b->header.serial ? -1 : a->header.serial > b->header.serial;
}

static bool rot_super(struct sim_world *world, const char *directory)
{
    uint8_t blocks[SEGFMT_SUPER_BYTES];
    struct segfmt_super super;
    char path[ROT_PATH_MAX];

    snprintf(path, sizeof(path), "%s/super", directory);
    if (sim_disk_peek(world, path, blocks, sizeof(blocks), 0) != (int64_t)sizeof(blocks) ||
        segfmt_super_decode(blocks, &super) < 0 ||
        segfmt_super_decode(blocks + SEGFMT_BLOCK, &super) < 0)
        return false;
    flip(world, path, rng_below(sim_rng(world), 2) * SEGFMT_BLOCK + rng_below(sim_rng(world), 32));
    return true;
}

static bool rot_header(struct survey *survey)
{
    struct rng *rng = sim_rng(survey->world);
    uint32_t from = (uint32_t)rng_below(rng, survey->count + 1);

    for (uint32_t i = 0; i < survey->count; i++) {
        const struct found *found = &survey->segments[(from + i) % survey->count];
        uint8_t block[SEGFMT_BLOCK];
        struct segfmt_batch batch;

        if (found->header.stream != STREAM_MESSAGES ||
            peek(survey->world, found->path, block, SEGFMT_BLOCK) != SEGFMT_BLOCK ||
            !segfmt_batch_decode(block, found->header.uuid, &batch) ||
            batch.serial != found->header.serial)
            continue;
        flip(survey->world, found->path, rng_below(rng, SEGFMT_HEADER_BYTES));
        flip(survey->world, found->path, SEGFMT_HEADER_COPY + rng_below(rng, SEGFMT_HEADER_BYTES));
        return true;
    }
    return false;
}

struct source {
    struct sim_world *world;
    const struct found *segment;
};

static int64_t read_source(void *context, void *data, size_t len, uint64_t offset)
{
    const struct source *source = context;

    return sim_disk_peek(source->world, source->segment->path, data, len, offset);
}

/* One state record of the newest complete checkpoint, each as likely as the others. */
struct choice {
    struct place begun;    /* since the last BEGIN */
    struct place complete; /* of the last checkpoint that has its END */
    uint32_t states;
    bool is_open;
};

static void consider(struct choice *choice, struct rng *rng, const struct found *segment,
                     const struct scan_record *record)
{
    if (record->type == RECORD_CHECKPOINT_BEGIN) {
        choice->is_open = true;
        choice->states = 0;
        choice->begun = (struct place){0};
    } else if (record->type == RECORD_CHECKPOINT_END && choice->is_open) {
        choice->is_open = false;
        choice->complete = choice->begun;
    } else if (record->type == RECORD_STATE && choice->is_open &&
               rng_one_in(rng, ++choice->states)) {
        choice->begun = (struct place){segment, record->offset, record->payload_bytes};
    }
}

static bool rot_state(struct survey *survey)
{
    struct rng *rng = sim_rng(survey->world);
    struct choice choice = {0};

    for (uint32_t i = 0; i < survey->count; i++) {
        const struct found *found = &survey->segments[i];
        struct source context = {survey->world, found};
        struct scan_source source = {read_source, &context};
        struct scan_record record;
        enum scan_event event;
        struct scan scan;

        if (found->header.stream != STREAM_OUTCOMES)
            continue;
        scan_init(&scan, &source, found->header.uuid, found->header.serial, SEGFMT_BLOCK,
                  found->header.segment_bytes);
        while ((event = scan_next(&scan, &record)) != SCAN_END)
            if (event == SCAN_RECORD)
                consider(&choice, rng, found, &record);
        scan_fini(&scan);
    }
    if (!choice.complete.segment)
        return false;
    flip(survey->world, choice.complete.segment->path,
         choice.complete.offset + SEGFMT_RECORD_BYTES + rng_below(rng, choice.complete.bytes));
    return true;
}

void rot_somewhere(struct rot *rot, struct sim_world *world, const char *directory)
{
    struct survey *survey = calloc(1, sizeof(*survey));

    survey->world = world;
    sim_disk_list(world, note_file, survey);
    qsort(survey->segments, survey->count, sizeof(survey->segments[0]), by_serial);
    switch (rng_below(sim_rng(world), 3)) {
    case 0:
        rot->super += rot_super(world, directory);
        break;
    case 1:
        rot->header += survey->count > 0 && rot_header(survey);
        break;
    default:
        /* Two damaged checkpoints in a row are more than the spool promises to stand. */
        if (rot->state == 0)
            rot->state += rot_state(survey);
        break;
    }
    free(survey);
}
