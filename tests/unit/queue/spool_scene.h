/*
 * spool_scene: one spool on the simulator's disk, a client that keeps a ledger of it, and the few
 * things that tests of single situations do to both.
 *
 * A life begins with scene_make or begin and ends with crash; scene_end judges the ledger.
 * Functions with a void pointer run inside the simulated process, by in_process. One thread; sizes
 * in bytes, times in nanoseconds of the world. It never fails a disk by itself: tests do.
 */
#pragma once

#include "tests/unit/core_base/unit.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/spool_int.h"
#include "tests/sim/sim.h"
#include "tests/unit/queue/large.h"

#include <errno.h>
#include <stdio.h>

#define MS 1000000ull

struct scene {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct ledger ledger;
    struct life life;
    struct life_options options;
    int result;
};

static inline void open_life(void *context)
{
    struct scene *scene = context;

    scene->result = life_open(&scene->life, &scene->options, &scene->ledger, scene->io, scene->io,
                              sim_now_ns(scene->world));
    scene->life.is_quiet = true;
}

static inline void begin(struct scene *scene)
{
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    assert_true(sim_run_in(scene->process, open_life, scene));
    assert_int_equal(scene->result, 0);
    assert_string_equal(scene->ledger.failure, "");
    /* The segments that are kept ready are made before anything else touches the disk. */
    sim_run_for(scene->world, 500 * MS);
}

static inline void crash(struct scene *scene, enum sim_crash_kind kind)
{
    sim_crash(scene->world, scene->process, kind);
    scene->process = NULL;
    ledger_crashed(&scene->ledger);
    life_forget(&scene->life);
    sim_run_for(scene->world, 100 * MS);
}

static inline struct scene *scene_make(void)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct sim_options options = {.fd_count_max = 0};

    must(scene != NULL);
    ledger_init(&scene->ledger);
    scene->world = sim_world_create(7, &options);
    scene->options.spool = (struct spool_options){.directories = {{.path = "/spool"}},
                                                  .segment_bytes = 65536,
                                                  .outcome_hold_ms = 4,
                                                  .segment_count_max = 12,
                                                  .checkpoint_bytes = 1u << 30};
    scene->options.live_max = 1000;
    scene->options.burst_max = 10;
    begin(scene);
    return scene;
}

static inline void scene_end(struct scene *scene)
{
    assert_string_equal(scene->ledger.failure, "");
    if (scene->process != NULL)
        crash(scene, SIM_KILL);
    sim_world_destroy(scene->world);
    ledger_fini(&scene->ledger);
    free(scene);
}

static inline bool is_settled(void *context)
{
    struct scene *scene = context;

    return life_is_settled(&scene->life);
}

static inline void settle(struct scene *scene)
{
    assert_true(sim_run_until(scene->world, is_settled, scene, 30000 * MS, 5000000));
}

/* The nth write or sync of a segment from now on fails; nothing of the spool's own is under way. */
static inline void fail_later(struct scene *scene, enum sim_disk_call call, uint64_t nth)
{
    if (sim_disk_scripts_left(scene->world) == 0)
        sim_run_for(scene->world, 100 * MS);
    sim_disk_script(scene->world, call, ".seg", nth, -EIO);
}

static inline void in_process(struct scene *scene, void (*function)(void *context))
{
    assert_true(sim_run_in(scene->process, function, scene));
}

static inline struct spool_stats stats_of(struct scene *scene)
{
    struct spool_stats stats;

    spool_stats_read(scene->life.spool, &stats);
    return stats;
}

static inline uint32_t count_standing(const struct scene *scene, enum ledger_standing standing)
{
    uint32_t count = 0;

    for (uint64_t i = 0; i < scene->ledger.message_count; i++)
        count += scene->ledger.messages[i]->standing == standing;
    return count;
}

static inline void send_five(void *context)
{
    struct scene *scene = context;

    for (int i = 0; i < 5; i++)
        life_send_message(&scene->life, 2, 500);
}

static inline void send_named(void *context)
{
    struct scene *scene = context;

    life_send_named(&scene->life, 0, true);
}

/* The first recipient of each live message, without waiting for the disk. */
static inline void finish_first(void *context)
{
    struct scene *scene = context;

    list_for_each (node, &scene->ledger.live)
        life_send_outcome(&scene->life, container_of(node, struct ledger_message, link), true,
                          false);
}

static inline void finish_all_synced(void *context)
{
    struct scene *scene = context;

    while (!list_empty(&scene->ledger.live))
        life_send_outcome(&scene->life,
                          container_of(scene->ledger.live.next, struct ledger_message, link), true,
                          true);
}

static inline void close_life(void *context)
{
    struct scene *scene = context;

    life_close(&scene->life);
}

static inline bool is_closed(void *context)
{
    struct scene *scene = context;

    return scene->life.is_closed;
}

static inline bool is_healthy(void *context)
{
    return spool_health(((struct scene *)context)->life.spool) == SPOOL_HEALTHY;
}

static inline struct spool_trouble trouble_of(struct scene *scene)
{
    struct spool_trouble trouble;

    spool_trouble_read(scene->life.spool, &trouble);
    return trouble;
}

static inline void send_one_big(void *context)
{
    struct scene *scene = context;

    life_send_message(&scene->life, 1, 9000);
}

static inline void fill_segment(struct scene *scene)
{
    const struct segment *first = scene->life.spool->devices[0].messages.active;

    do {
        in_process(scene, send_one_big);
        settle(scene);
    } while (first == NULL ? scene->life.spool->devices[0].messages.active == NULL
                           : scene->life.spool->devices[0].messages.active == first);
}
