/* The spool in single situations, on the simulator's disk. */
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

static void open_life(void *context)
{
    struct scene *scene = context;

    scene->result = life_open(&scene->life, &scene->options, &scene->ledger, scene->io, scene->io,
                              sim_now_ns(scene->world));
    scene->life.is_quiet = true;
}

static void begin(struct scene *scene)
{
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    assert_true(sim_run_in(scene->process, open_life, scene));
    assert_int_equal(scene->result, 0);
    assert_string_equal(scene->ledger.failure, "");
    /* The segments that are kept ready are made before anything else touches the disk. */
    sim_run_for(scene->world, 500 * MS);
}

static void crash(struct scene *scene, enum sim_crash_kind kind)
{
    sim_crash(scene->world, scene->process, kind);
    scene->process = NULL;
    ledger_crashed(&scene->ledger);
    life_forget(&scene->life);
    sim_run_for(scene->world, 100 * MS);
}

static struct scene *scene_make(void)
{
    struct scene *scene = calloc(1, sizeof(*scene));
    struct sim_options options = {.fd_count_max = 0};

    must(scene != NULL);
    ledger_init(&scene->ledger);
    scene->world = sim_world_create(7, &options);
    scene->options.spool = (struct spool_options){.path = "/spool",
                                                  .segment_bytes = 65536,
                                                  .outcome_hold_ms = 4,
                                                  .segment_count_max = 12,
                                                  .checkpoint_bytes = 1u << 30};
    scene->options.live_max = 1000;
    scene->options.burst_max = 10;
    begin(scene);
    return scene;
}

static void scene_end(struct scene *scene)
{
    assert_string_equal(scene->ledger.failure, "");
    if (scene->process != NULL)
        crash(scene, SIM_KILL);
    sim_world_destroy(scene->world);
    ledger_fini(&scene->ledger);
    free(scene);
}

static bool is_settled(void *context)
{
    struct scene *scene = context;

    return life_is_settled(&scene->life);
}

static void settle(struct scene *scene)
{
    assert_true(sim_run_until(scene->world, is_settled, scene, 30000 * MS, 5000000));
}

/* The nth write or sync of a segment from now on fails; nothing of the spool's own is under way. */
static void fail_later(struct scene *scene, enum sim_disk_call call, uint64_t nth)
{
    if (sim_disk_scripts_left(scene->world) == 0)
        sim_run_for(scene->world, 100 * MS);
    sim_disk_script(scene->world, call, ".seg", nth, -EIO);
}

static void in_process(struct scene *scene, void (*function)(void *context))
{
    assert_true(sim_run_in(scene->process, function, scene));
}

static struct spool_stats stats_of(struct scene *scene)
{
    struct spool_stats stats;

    spool_stats_read(scene->life.spool, &stats);
    return stats;
}

static uint32_t count_standing(const struct scene *scene, enum ledger_standing standing)
{
    uint32_t count = 0;

    for (uint64_t i = 0; i < scene->ledger.message_count; i++)
        count += scene->ledger.messages[i]->standing == standing;
    return count;
}

static void send_five(void *context)
{
    struct scene *scene = context;

    for (int i = 0; i < 5; i++)
        life_send_message(&scene->life, 2, 500);
}

static void send_named(void *context)
{
    struct scene *scene = context;

    life_send_named(&scene->life, 0, true);
}

/* The first recipient of each live message, without waiting for the disk. */
static void finish_first(void *context)
{
    struct scene *scene = context;

    list_for_each (node, &scene->ledger.live)
        life_send_outcome(&scene->life, container_of(node, struct ledger_message, link), true,
                          false);
}

static void finish_all_synced(void *context)
{
    struct scene *scene = context;

    while (!list_empty(&scene->ledger.live))
        life_send_outcome(&scene->life,
                          container_of(scene->ledger.live.next, struct ledger_message, link), true,
                          true);
}

static void close_life(void *context)
{
    struct scene *scene = context;

    life_close(&scene->life);
}

static bool is_closed(void *context)
{
    struct scene *scene = context;

    return scene->life.is_closed;
}

/* ---- Failures -------------------------------------------------------------------------------- */

static void a_failed_message_commit_is_void(void **state)
{
    for (int by_sync = 0; by_sync <= 1; by_sync++) {
        struct scene *scene = scene_make();
        struct segment *active;

        scene->life.spool->commit_by_sync = by_sync;
        in_process(scene, send_five);
        settle(scene);
        assert_int_equal(scene->ledger.live_count, 5);
        active = scene->life.spool->messages.active;
        fail_later(scene, by_sync ? SIM_DISK_SYNC : SIM_DISK_WRITE, 1);
        in_process(scene, send_five);
        settle(scene);
        assert_int_equal(count_standing(scene, LEDGER_REFUSED), 5);
        assert_int_equal(stats_of(scene).voids, 1);
        assert_int_equal(active->state, SEGMENT_POISONED);
        assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
        in_process(scene, send_five);
        settle(scene);
        assert_int_equal(scene->ledger.live_count, 10);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 10);
        assert_int_equal(scene->life.report.voids_applied, 1);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 10);
        scene_end(scene);
    }
}

static void outcomes_of_a_failed_commit_are_written_again(void **state)
{
    for (int by_sync = 0; by_sync <= 1; by_sync++) {
        struct scene *scene = scene_make();

        scene->life.spool->commit_by_sync = by_sync;
        in_process(scene, send_five);
        in_process(scene, send_named);
        settle(scene);
        fail_later(scene, by_sync ? SIM_DISK_SYNC : SIM_DISK_WRITE, 1);
        in_process(scene, finish_first);
        sim_run_for(scene->world, 30 * MS);
        assert_int_equal(sim_disk_scripts_left(scene->world), 0);
        assert_int_equal(stats_of(scene).voids, 1);
        assert_int_equal(stats_of(scene).failed_commits, 1);
        ledger_sure(&scene->ledger, scene->ledger.step_next - 1);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.rcpts_live, 5);
        scene_end(scene);
    }
}

static bool is_healthy(void *context)
{
    return spool_health(((struct scene *)context)->life.spool) == SPOOL_HEALTHY;
}

static struct spool_trouble trouble_of(struct scene *scene)
{
    struct spool_trouble trouble;

    spool_trouble_read(scene->life.spool, &trouble);
    return trouble;
}

/* Who waits gets no answer while nobody can say what is on the disk; the void follows when the disk
 * works again, and the log goes on without a restart. */
static void without_a_void_nothing_is_answered(void **state)
{
    for (int by_sync = 0; by_sync <= 1; by_sync++) {
        enum sim_disk_call call = by_sync ? SIM_DISK_SYNC : SIM_DISK_WRITE;
        struct scene *scene = scene_make();

        scene->life.spool->commit_by_sync = by_sync;
        in_process(scene, send_five);
        settle(scene);
        /* The commit of messages, the void, the void of the void, and headers of new segments. */
        for (uint64_t nth = 1; nth <= 8; nth++)
            fail_later(scene, call, nth);
        in_process(scene, send_five);
        sim_run_for(scene->world, 100 * MS);
        assert_int_equal(trouble_of(scene).health, SPOOL_STALLED);
        assert_int_equal(trouble_of(scene).error, -EIO);
        assert_int_equal(count_standing(scene, LEDGER_UNKNOWN), 5);
        /* What comes now is refused, at once; outcomes wait. */
        in_process(scene, send_five);
        in_process(scene, finish_first);
        sim_run_for(scene->world, 100 * MS);
        assert_int_equal(count_standing(scene, LEDGER_REFUSED), 5);
        assert_true(sim_run_until(scene->world, is_healthy, scene, 60000 * MS, 5000000));
        assert_int_equal(sim_disk_scripts_left(scene->world), 0);
        assert_int_equal(trouble_of(scene).error, 0);
        in_process(scene, send_five);
        settle(scene);
        sim_run_for(scene->world, 50 * MS);
        ledger_sure(&scene->ledger, scene->ledger.step_next - 1);
        assert_int_equal(scene->ledger.live_count, 10);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 10);
        assert_int_equal(scene->life.report.rcpts_live, 15);
        assert_int_equal(scene->life.report.damage_count, 0);
        /* Nothing seems to be missing later either, when unused segments have been used again. */
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 10);
        assert_int_equal(scene->life.report.damage_count, 0);
        scene_end(scene);
    }
}

/* A disk that takes nothing for minutes costs neither slots nor files, and no outcome. */
static void a_dead_disk_is_waited_for(void **state)
{
    struct scene *scene = scene_make();
    uint32_t gone = 0;

    in_process(scene, send_five);
    settle(scene);
    sim_faults(scene->world)->write_failed = 1;
    in_process(scene, finish_first);
    sim_run_for(scene->world, 600000 * MS);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_STALLED);
    in_process(scene, send_five);
    sim_run_for(scene->world, 10 * MS);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), 5);
    sim_faults(scene->world)->write_failed = 0;
    assert_true(sim_run_until(scene->world, is_healthy, scene, 20000 * MS, 5000000));
    ledger_sure(&scene->ledger, scene->ledger.step_next - 1);
    in_process(scene, send_five);
    settle(scene);
    assert_int_equal(scene->ledger.live_count, 10);
    for (uint32_t i = 0; i < scene->life.spool->pool.slot_count; i++)
        gone += scene->life.spool->pool.slots[i].state == SEGMENT_GONE;
    assert_true(gone <= 2);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.rcpts_live, 15);
    assert_int_equal(scene->life.report.damage_count, 0);
    scene_end(scene);
}

/* A disk that takes headers and no commits of messages: each try costs a file, so they are few. */
static void commits_that_fail_again_and_again_are_rare(void **state)
{
    struct scene *scene = scene_make();
    const struct spool *spool = scene->life.spool;
    uint64_t failed;

    in_process(scene, send_five);
    settle(scene);
    for (int i = 0; i < 3000; i++) {
        /* Then the next write is the commit of what is sent here. */
        bool is_quiet = spool->pool.job == JOB_NONE && spool->pool.ready[STREAM_MESSAGES] != NULL &&
                        seglog_is_idle(&spool->messages) && seglog_is_idle(&spool->outcomes) &&
                        spool_health(spool) == SPOOL_HEALTHY;

        if (is_quiet)
            sim_disk_script(scene->world, SIM_DISK_WRITE, ".seg", 1, -EIO);
        in_process(scene, send_five);
        sim_run_for(scene->world, 10 * MS);
    }
    failed = stats_of(scene).failed_commits;
    assert_in_range(failed, 3, 40);
    sim_disk_script_clear(scene->world);
    assert_true(sim_run_until(scene->world, is_healthy, scene, 20000 * MS, 5000000));
    settle(scene);
    in_process(scene, send_five);
    settle(scene);
    scene_end(scene);
}

/* The voids of voids end somewhere: then only a restart helps. */
static void what_cannot_be_mended_poisons(void **state)
{
    struct scene *scene = scene_make();

    in_process(scene, send_five);
    in_process(scene, send_named);
    settle(scene);
    scene->life.spool->outcomes.void_count = SEGLOG_VOIDS_MAX;
    fail_later(scene, SIM_DISK_WRITE, 1);
    in_process(scene, finish_first);
    sim_run_for(scene->world, 100 * MS);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_POISONED);
    assert_int_equal(trouble_of(scene).error, E_POISONED);
    in_process(scene, send_five);
    settle(scene);
    assert_int_equal(count_standing(scene, LEDGER_UNKNOWN), 5);
    in_process(scene, close_life);
    assert_true(sim_run_until(scene->world, is_closed, scene, 1000 * MS, 100000));
    scene_end(scene);
}

/* A close waits for a failing disk, but not for ever. */
static void a_close_gives_a_failing_disk_up(void **state)
{
    struct scene *scene = scene_make();

    in_process(scene, send_five);
    settle(scene);
    sim_faults(scene->world)->write_failed = 1;
    in_process(scene, finish_first);
    sim_run_for(scene->world, 2000 * MS);
    in_process(scene, close_life);
    assert_true(sim_run_until(scene->world, is_closed, scene, 30000 * MS, 1000000));
    sim_faults(scene->world)->write_failed = 0;
    scene_end(scene);
}

/* ---- Space ------------------------------------------------------------------------------------
 */

static void send_one_big(void *context)
{
    struct scene *scene = context;

    life_send_message(&scene->life, 1, 9000);
}

static void low_space_refuses_mail_and_passes_by_itself(void **state)
{
    struct scene *scene = scene_make();
    uint32_t refused;

    for (int i = 0; i < 200 && spool_health(scene->life.spool) == SPOOL_HEALTHY; i++) {
        in_process(scene, send_one_big);
        settle(scene);
        sim_run_for(scene->world, 3 * MS);
    }
    assert_int_equal(spool_health(scene->life.spool), SPOOL_LOW_SPACE);
    assert_true(scene->life.spool->pool.free_count >= SEGPOOL_RESERVE);
    /* What was under way may still find room; then it is refused, at once and for good. */
    for (int i = 0; i < 20; i++) {
        in_process(scene, send_one_big);
        settle(scene);
    }
    refused = count_standing(scene, LEDGER_REFUSED);
    assert_true(refused > 0);
    /* Outcomes still commit; two checkpoints later there is room again. */
    in_process(scene, finish_all_synced);
    settle(scene);
    sim_run_for(scene->world, 3000 * MS);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    assert_true(stats_of(scene).checkpoints >= 1);
    in_process(scene, send_one_big);
    settle(scene);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), refused);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, 1);
    scene_end(scene);
}

/* New mail is refused and segments are emptied in both; a dead log is a matter of its own. */
static void short_of_space_is_low_or_stalled(void **state)
{
    assert_true(spool_health_is_short(SPOOL_LOW_SPACE));
    assert_true(spool_health_is_short(SPOOL_STALLED));
    assert_false(spool_health_is_short(SPOOL_HEALTHY));
    assert_false(spool_health_is_short(SPOOL_POISONED));
}

static void a_full_disk_is_low_space_too(void **state)
{
    struct scene *scene = scene_make();

    scene->options.spool.segment_count_max = 100;
    crash(scene, SIM_KILL);
    sim_disk_limit(scene->world, 10 * 65536);
    begin(scene);
    for (int i = 0; i < 200 && spool_health(scene->life.spool) == SPOOL_HEALTHY; i++) {
        in_process(scene, send_one_big);
        settle(scene);
        sim_run_for(scene->world, 3 * MS);
    }
    assert_int_equal(spool_health(scene->life.spool), SPOOL_LOW_SPACE);
    in_process(scene, finish_all_synced);
    settle(scene);
    sim_disk_limit(scene->world, 1u << 30);
    sim_run_for(scene->world, 3000 * MS);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    scene_end(scene);
}

static void fill_segment(struct scene *scene)
{
    const struct segment *first = scene->life.spool->messages.active;

    do {
        in_process(scene, send_one_big);
        settle(scene);
    } while (first == NULL ? scene->life.spool->messages.active == NULL
                           : scene->life.spool->messages.active == first);
}

/* Every second message is done. */
static void finish_every_second(void *context)
{
    struct scene *scene = context;
    bool is_second = false;

    for (uint64_t i = 0; i < scene->ledger.message_count; i++) {
        struct ledger_message *message = scene->ledger.messages[i];

        if (message->standing != LEDGER_KEPT)
            continue;
        if (is_second)
            life_send_outcome(&scene->life, message, true, true);
        is_second = !is_second;
    }
}

static void note_everything(void *context)
{
    struct scene *scene = context;

    for (uint32_t key = 0; key < LEDGER_KEYS; key++)
        life_send_named(&scene->life, key, true);
}

/* Outcomes find no segment: a full disk, and a cursor that needs all there are. New mail must not
 * take what the message stream has left, which is for stragglers, and those are moved. */
static void a_stalled_log_refuses_mail_and_moves_stragglers(void **state)
{
    struct scene *scene = scene_make();
    struct spool *spool = scene->life.spool;
    uint64_t evacuations;
    uint64_t live;

    for (int i = 0; i < 4; i++)
        fill_segment(scene);
    in_process(scene, finish_every_second);
    settle(scene);
    atomic_store(&spool_pin_get(spool, 99)->serial, 0);
    sim_disk_limit(scene->world, sim_disk_used(scene->world));
    for (int i = 0; i < 3000 && spool_health(spool) != SPOOL_STALLED; i++) {
        in_process(scene, note_everything);
        sim_run_for(scene->world, MS / 10);
    }
    assert_int_equal(trouble_of(scene).health, SPOOL_STALLED);
    assert_int_equal(trouble_of(scene).error, E_LOW_SPACE);
    assert_non_null(spool->messages.active);
    assert_true(spool->messages.write_end + 5 * 4096 < spool->messages.active->bytes);
    evacuations = stats_of(scene).evacuations;
    in_process(scene, send_five);
    sim_run_for(scene->world, 10 * MS);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), 5);
    sim_run_for(scene->world, 5000 * MS);
    assert_int_equal(spool_health(spool), SPOOL_STALLED);
    assert_true(stats_of(scene).evacuations > evacuations);
    /* With space everything goes on. */
    sim_disk_limit(scene->world, 1u << 30);
    atomic_store(&spool_pin_get(spool, 99)->serial, UINT32_MAX);
    assert_true(sim_run_until(scene->world, is_healthy, scene, 10000 * MS, 5000000));
    settle(scene);
    in_process(scene, send_five);
    settle(scene);
    live = scene->ledger.live_count;
    assert_in_range(live, 6, 30);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, live);
    scene_end(scene);
}

/* ---- Recycling --------------------------------------------------------------------------------
 */

static void begin_checkpoint(void *context)
{
    struct scene *scene = context;

    scene->life.spool->options.checkpoint_bytes = 1;
}

static bool has_checkpoint(void *context)
{
    struct scene *scene = context;

    return stats_of(scene).checkpoints > 0;
}

static void a_segment_is_recycled_in_the_promised_order(void **state)
{
    struct scene *scene = scene_make();
    struct segment *segment;
    uint32_t serial;

    in_process(scene, send_one_big);
    settle(scene);
    segment = scene->life.spool->messages.active;
    serial = segment->serial;
    fill_segment(scene);
    assert_int_equal(segment->state, SEGMENT_SEALED);
    assert_true(segment->live > 1);
    /* Outcomes are copied but not durable: nothing is empty yet. */
    scene->life.spool->options.outcome_hold_ms = 1000;
    in_process(scene, finish_first);
    sim_run_for(scene->world, 2 * MS);
    assert_true(segment->live > 0);
    scene->life.spool->options.outcome_hold_ms = 1;
    sim_run_for(scene->world, 20 * MS);
    assert_int_equal(segment->live, 0);
    /* Empty, but no checkpoint began since. */
    assert_int_equal(segment->state, SEGMENT_SEALED);
    sim_run_for(scene->world, 1000 * MS);
    assert_int_equal(segment->state, SEGMENT_SEALED);
    assert_int_equal(segment->serial, serial);
    in_process(scene, begin_checkpoint);
    assert_true(sim_run_until(scene->world, has_checkpoint, scene, 1000 * MS, 100000));
    assert_true(segment->state != SEGMENT_SEALED);
    scene_end(scene);
}

static void an_outcome_segment_waits_for_its_cursor(void **state)
{
    struct scene *scene = scene_make();
    struct log_place from = {0};
    struct segment *first;

    scene->life.spool->options.checkpoint_bytes = 20000;
    sim_enter(scene->process);
    spool_pin_get(scene->life.spool, 99);
    sim_leave(scene->process);
    for (int i = 0; i < 400; i++) {
        in_process(scene, send_five);
        settle(scene);
        in_process(scene, finish_all_synced);
        settle(scene);
        if (i == 1)
            from.serial = scene->life.spool->outcomes.active->serial;
        if (stats_of(scene).checkpoints > 20)
            break;
    }
    first = NULL;
    for (uint32_t i = 0; i < scene->life.spool->pool.slot_count; i++) {
        if (scene->life.spool->pool.slots[i].serial == from.serial)
            first = &scene->life.spool->pool.slots[i];
    }
    must(first != NULL);
    assert_int_equal(first->state, SEGMENT_SEALED);
    /* The cursor tells that it has passed everything. */
    atomic_store(&spool_pin_get(scene->life.spool, 99)->serial, UINT32_MAX);
    scene->life.spool->pins_moved = true;
    in_process(scene, send_five);
    settle(scene);
    in_process(scene, finish_all_synced);
    sim_run_for(scene->world, 500 * MS);
    assert_true(first->state != SEGMENT_SEALED || first->serial != from.serial);
    scene_end(scene);
}

/* ---- Sizes ------------------------------------------------------------------------------------
 */

static void send_sizes(void *context)
{
    struct scene *scene = context;

    /* Around the batch buffer (16 KiB), and up to what a segment holds. */
    for (uint32_t bytes = 15500; bytes < 17000; bytes += 100)
        life_send_message(&scene->life, 1, bytes);
    life_send_message(&scene->life, 3, 40000);
    life_send_message(&scene->life, 3, 100);
    life_send_message(&scene->life, 1, 61000);
    life_send_message(&scene->life, 1, 100);
}

static void send_too_long(void *context)
{
    struct scene *scene = context;

    life_send_message(&scene->life, 1, 61440);
}

static void messages_of_every_size_come_back(void **state)
{
    struct scene *scene = scene_make();
    uint64_t count;

    scene->options.spool.segment_count_max = 40;
    crash(scene, SIM_KILL);
    begin(scene);
    in_process(scene, send_sizes);
    settle(scene);
    count = scene->ledger.message_count;
    assert_int_equal(count_standing(scene, LEDGER_KEPT), count);
    in_process(scene, send_too_long);
    settle(scene);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), 1);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, count);
    scene_end(scene);
}

static void a_failed_large_message_is_void(void **state)
{
    for (uint64_t nth = 1; nth <= 4; nth++) {
        struct scene *scene = scene_make();

        in_process(scene, send_five);
        settle(scene);
        fail_later(scene, nth == 4 ? SIM_DISK_SYNC : SIM_DISK_WRITE, nth == 4 ? 1 : nth);
        sim_enter(scene->process);
        life_send_message(&scene->life, 1, 50000);
        sim_leave(scene->process);
        in_process(scene, send_five);
        settle(scene);
        assert_int_equal(count_standing(scene, LEDGER_REFUSED), 1);
        assert_int_equal(count_standing(scene, LEDGER_KEPT), 10);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 10);
        scene_end(scene);
    }
}

/* ---- Time, memory, order ----------------------------------------------------------------------
 */

static void outcomes_wait_no_longer_than_told(void **state)
{
    struct scene *scene = scene_make();
    struct spool_stats before;

    in_process(scene, send_five);
    settle(scene);
    before = stats_of(scene);
    in_process(scene, finish_first);
    sim_run_for(scene->world, 2 * MS);
    assert_int_equal(stats_of(scene).outcome_commits, before.outcome_commits);
    sim_run_for(scene->world, 6 * MS);
    assert_int_equal(stats_of(scene).outcome_commits, before.outcome_commits + 1);
    assert_int_equal(stats_of(scene).outcomes, before.outcomes + 5);
    scene_end(scene);
}

static void a_steady_turn_allocates_nothing(void **state)
{
    struct scene *scene = scene_make();
    uint64_t blocks;
    uint64_t count = 0;

    /* Checkpoints, recycling and new segments included. */
    scene->life.spool->options.checkpoint_bytes = 100000;
    for (int i = 0; i < 300; i++) {
        if (i == 100)
            count = mem_alloc_count();
        in_process(scene, send_five);
        settle(scene);
        in_process(scene, finish_all_synced);
        settle(scene);
    }
    blocks = mem_alloc_count() - count;
    assert_true(stats_of(scene).checkpoints > 3 && stats_of(scene).recycled > 3);
    assert_int_equal(blocks, 0);
    scene_end(scene);
}

static void a_close_commits_what_waits(void **state)
{
    struct scene *scene = scene_make();

    in_process(scene, send_five);
    settle(scene);
    scene->life.spool->options.outcome_hold_ms = 100000;
    in_process(scene, finish_first);
    sim_run_for(scene->world, 5 * MS);
    in_process(scene, close_life);
    assert_true(sim_run_until(scene->world, is_closed, scene, 1000 * MS, 100000));
    ledger_closed(&scene->ledger);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.rcpts_live, 5);
    scene_end(scene);
}

static void open_second(void *context)
{
    struct scene *scene = context;
    struct ledger nobody;
    struct life second;
    struct io *io = scene->io;

    ledger_init(&nobody);
    scene->result = life_open(&second, &scene->options, &nobody, io, io, 1);
    life_forget(&second);
    ledger_fini(&nobody);
}

static void one_spool_one_process(void **state)
{
    struct scene *scene = scene_make();
    struct sim_process *first = scene->process;
    struct sim_process *second = sim_process_create(scene->world);
    struct io *first_io = scene->io;
    uint64_t before_ns = sim_now_ns(scene->world);

    sim_io_create(scene->world, second, &scene->io);
    assert_true(sim_run_in(second, open_second, scene));
    assert_int_equal(scene->result, E_LOCKED);
    assert_true(sim_now_ns(scene->world) - before_ns >= 4000 * MS);
    sim_crash(scene->world, second, SIM_KILL);
    scene->process = first;
    scene->io = first_io;
    scene_end(scene);
}

/* A message that was appended again elsewhere, its old copy given free: nothing of it is lost, and
 * nothing that was final comes back. */
static void move_first(void *context)
{
    struct scene *scene = context;
    struct ledger_message *message =
        container_of(scene->ledger.live.next, struct ledger_message, link);

    life_move_message(&scene->life, message);
}

static void a_message_can_be_moved(void **state)
{
    struct scene *scene = scene_make();
    struct segment *segment;
    struct ledger_message *message;

    in_process(scene, send_five);
    settle(scene);
    in_process(scene, finish_first);
    settle(scene);
    segment = scene->life.spool->messages.active;
    message = container_of(scene->ledger.live.next, struct ledger_message, link);
    assert_int_equal(segment->live, 5);
    fill_segment(scene);
    in_process(scene, move_first);
    settle(scene);
    sim_run_for(scene->world, 20 * MS);
    assert_true(message->place.serial != segment->serial);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(message->standing, LEDGER_KEPT);
    assert_true(message->rcpts[0].is_final && !message->rcpts[1].is_final);
    assert_true(message->place.serial > 2);
    scene_end(scene);
}

/* Files of the old size are read as long as something in them lives, and go when nothing does. */
static void another_segment_size_takes_over(void **state)
{
    static const uint64_t sizes[] = {131072, 65536, 262144};
    struct scene *scene = scene_make();
    uint32_t odd = 0;

    in_process(scene, send_five);
    settle(scene);
    for (int i = 0; i < 3; i++) {
        crash(scene, SIM_POWER_CUT);
        scene->options.spool.segment_bytes = sizes[i];
        scene->options.spool.segment_count_max = 40;
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 5 * (i + 1));
        in_process(scene, send_five);
        settle(scene);
    }
    in_process(scene, finish_all_synced);
    settle(scene);
    for (int i = 0; i < 3; i++) {
        scene->life.spool->options.checkpoint_bytes = 1;
        in_process(scene, send_named);
        settle(scene);
        sim_run_for(scene->world, 500 * MS);
    }
    for (uint32_t i = 0; i < scene->life.spool->pool.slot_count; i++)
        odd += scene->life.spool->pool.slots[i].odd_size &&
               scene->life.spool->pool.slots[i].stream == STREAM_MESSAGES &&
               scene->life.spool->pool.slots[i].state != SEGMENT_GONE;
    assert_int_equal(odd, 0);
    scene_end(scene);
}

/* ---- Messages in chunks ----------------------------------------------------------------------
 */

static void send_in_chunks(void *context)
{
    struct scene *scene = context;

    large_send(&scene->life, 2, 90000, 4000, false);
}

static uint32_t records_live(const struct scene *scene, uint32_t *ret_open)
{
    const struct segpool *pool = &scene->life.spool->pool;
    uint32_t live = 0;

    *ret_open = 0;
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        live += pool->slots[i].live;
        *ret_open += pool->slots[i].open;
    }
    return live;
}

static void a_message_larger_than_a_segment_comes_back(void **state)
{
    struct scene *scene = scene_make();
    const struct ledger_message *message;
    uint32_t open;

    in_process(scene, send_in_chunks);
    settle(scene);
    assert_int_equal(count_standing(scene, LEDGER_KEPT), 1);
    message = scene->ledger.messages[0];
    assert_int_equal(message->chunk_count, 22);
    assert_true(message->chunks[0].serial != message->chunks[21].serial);
    assert_int_equal(records_live(scene, &open), 23);
    assert_int_equal(open, 0);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->ledger.chunked_read, 1);
    assert_int_equal(records_live(scene, &open), 23);
    in_process(scene, finish_all_synced);
    settle(scene);
    assert_int_equal(records_live(scene, &open), 0);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, 0);
    scene_end(scene);
}

/* Whatever the crash cut short: without the commit record there is nothing, and nothing is kept. */
static void chunks_without_a_commit_are_nothing(void **state)
{
    for (uint32_t steps = 1; steps <= 10; steps++) {
        struct scene *scene = scene_make();
        uint32_t open;

        in_process(scene, send_in_chunks);
        sim_run_until(scene->world, is_settled, scene, 30000 * MS, steps * 10);
        assert_true(scene->ledger.messages[0]->is_uncommitted);
        crash(scene, SIM_KILL);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, 0);
        assert_int_equal(records_live(scene, &open), 0);
        scene_end(scene);
    }
}

static void a_failed_chunk_fails_its_message(void **state)
{
    uint32_t refused = 0;

    /* Now and then it is not a commit that fails, but a file that is being made. */
    for (uint64_t nth = 1; nth <= 8; nth++) {
        struct scene *scene = scene_make();
        uint32_t open, kept;

        fail_later(scene, SIM_DISK_WRITE, nth);
        in_process(scene, send_in_chunks);
        settle(scene);
        kept = count_standing(scene, LEDGER_KEPT);
        refused += count_standing(scene, LEDGER_REFUSED);
        assert_int_equal(records_live(scene, &open), kept * 23);
        assert_int_equal(open, 0);
        crash(scene, SIM_POWER_CUT);
        begin(scene);
        assert_int_equal(scene->life.report.messages_live, kept);
        scene_end(scene);
    }
    assert_true(refused >= 4);
}

static void chunk_path(const struct log_chunk *chunk, char *room, size_t room_bytes)
{
    snprintf(room, room_bytes, "/spool/%05u.seg", chunk->slot);
}

/* It is told: the delivery finds out, and says so to whoever asks what became of the message. */
static void a_damaged_chunk_is_seen_when_it_is_read(void **state)
{
    struct scene *scene = scene_make();
    struct log_message_state told = {.message_id = 1};
    char path[32];
    const char *text;

    in_process(scene, send_in_chunks);
    settle(scene);
    told.place = scene->ledger.messages[0]->place;
    chunk_path(&scene->ledger.messages[0]->chunks[3], path, sizeof(path));
    crash(scene, SIM_POWER_CUT);
    sim_disk_poke(scene->world, path, "?", 1,
                  log_chunk_octets_at(&scene->ledger.messages[0]->chunks[3]) + 100);
    scene->ledger.expects_damage = true;
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, 1);
    assert_int_equal(scene->life.report.damage_count, 1);
    sim_enter(scene->process);
    text = large_read_back(&scene->life, &told);
    sim_leave(scene->process);
    assert_string_equal(text, "has a chunk that does not sum up");
    scene_end(scene);
}

static void a_missing_segment_of_chunks_is_told(void **state)
{
    struct scene *scene = scene_make();
    char path[32];

    in_process(scene, send_in_chunks);
    settle(scene);
    chunk_path(&scene->ledger.messages[0]->chunks[0], path, sizeof(path));
    crash(scene, SIM_POWER_CUT);
    assert_int_equal(sim_disk_remove(scene->world, path), 0);
    scene->ledger.expects_damage = true;
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, 1);
    assert_true(scene->life.report.damage_count >= 1);
    in_process(scene, finish_all_synced);
    settle(scene);
    scene_end(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failed_message_commit_is_void),
        cmocka_unit_test(outcomes_of_a_failed_commit_are_written_again),
        cmocka_unit_test(without_a_void_nothing_is_answered),
        cmocka_unit_test(a_dead_disk_is_waited_for),
        cmocka_unit_test(commits_that_fail_again_and_again_are_rare),
        cmocka_unit_test(what_cannot_be_mended_poisons),
        cmocka_unit_test(a_close_gives_a_failing_disk_up),
        cmocka_unit_test(low_space_refuses_mail_and_passes_by_itself),
        cmocka_unit_test(short_of_space_is_low_or_stalled),
        cmocka_unit_test(a_full_disk_is_low_space_too),
        cmocka_unit_test(a_stalled_log_refuses_mail_and_moves_stragglers),
        cmocka_unit_test(a_segment_is_recycled_in_the_promised_order),
        cmocka_unit_test(an_outcome_segment_waits_for_its_cursor),
        cmocka_unit_test(messages_of_every_size_come_back),
        cmocka_unit_test(a_failed_large_message_is_void),
        cmocka_unit_test(outcomes_wait_no_longer_than_told),
        cmocka_unit_test(a_steady_turn_allocates_nothing),
        cmocka_unit_test(a_close_commits_what_waits),
        cmocka_unit_test(one_spool_one_process),
        cmocka_unit_test(a_message_can_be_moved),
        cmocka_unit_test(another_segment_size_takes_over),
        cmocka_unit_test(a_message_larger_than_a_segment_comes_back),
        cmocka_unit_test(chunks_without_a_commit_are_nothing),
        cmocka_unit_test(a_failed_chunk_fails_its_message),
        cmocka_unit_test(a_damaged_chunk_is_seen_when_it_is_read),
        cmocka_unit_test(a_missing_segment_of_chunks_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
