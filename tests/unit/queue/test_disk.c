/* The spool on a disk that fails or is full, in single situations. */
#include "tests/unit/queue/spool_scene.h"

/* ---- Failures -------------------------------------------------------------------------------- */

static void a_failed_message_commit_is_void(void **state)
{
    for (int by_sync = 0; by_sync <= 1; by_sync++) {
        struct scene *scene = scene_make();
        struct segment *active;

        scene->life.spool->devices[0].pool.by_sync = by_sync;
        in_process(scene, send_five);
        settle(scene);
        assert_int_equal(scene->ledger.live_count, 5);
        active = scene->life.spool->devices[0].messages.active;
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

        scene->life.spool->devices[0].pool.by_sync = by_sync;
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

/* Who waits gets no answer while nobody can say what is on the disk; the void follows when the disk
 * works again, and the log goes on without a restart. */
static void without_a_void_nothing_is_answered(void **state)
{
    for (int by_sync = 0; by_sync <= 1; by_sync++) {
        enum sim_disk_call call = by_sync ? SIM_DISK_SYNC : SIM_DISK_WRITE;
        struct scene *scene = scene_make();

        scene->life.spool->devices[0].pool.by_sync = by_sync;
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
    for (uint32_t i = 0; i < scene->life.spool->devices[0].pool.slot_count; i++)
        gone += scene->life.spool->devices[0].pool.slots[i].state == SEGMENT_GONE;
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
        const struct segpool *pool = &spool->devices[0].pool;
        const struct segment *next = spool->devices[0].messages.active;

        /* Its header is written: the next write there is a commit of messages. */
        if (next == NULL)
            next = pool->ready[STREAM_MESSAGES];
        if (next != NULL && sim_disk_scripts_left(scene->world) == 0) {
            char name[SEGFMT_NAME_BYTES];

            segfmt_name(next->slot, name);
            sim_disk_script(scene->world, SIM_DISK_WRITE, name, 1, -EIO);
        }
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
    assert_true(scene->life.spool->devices[0].pool.free_count >= SEGPOOL_RESERVE);
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
    assert_non_null(spool->devices[0].messages.active);
    assert_true(spool->devices[0].messages.write_end + 5 * 4096 <
                spool->devices[0].messages.active->bytes);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
