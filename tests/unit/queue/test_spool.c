/* The spool in single situations, on the simulator's disk. */
#include "tests/unit/queue/spool_scene.h"

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
    segment = scene->life.spool->devices[0].messages.active;
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

/* The states of what is queued are more than a checkpoint is due after. */
static void checkpoints_do_not_feed_on_themselves(void **state)
{
    struct scene *scene = scene_make();
    uint64_t first;

    for (int i = 0; i < 20; i++) {
        in_process(scene, send_five);
        settle(scene);
    }
    in_process(scene, begin_checkpoint);
    assert_true(sim_run_until(scene->world, has_checkpoint, scene, 1000 * MS, 100000));
    first = stats_of(scene).checkpoints;
    sim_run_for(scene->world, 5000 * MS);
    assert_in_range(stats_of(scene).checkpoints, first, first + 1);
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
    for (uint32_t i = 0; i < scene->life.spool->devices[0].pool.slot_count; i++) {
        if (scene->life.spool->devices[0].pool.slots[i].serial == from.serial)
            first = &scene->life.spool->devices[0].pool.slots[i];
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
    segment = scene->life.spool->devices[0].messages.active;
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
    for (uint32_t i = 0; i < scene->life.spool->devices[0].pool.slot_count; i++)
        odd += scene->life.spool->devices[0].pool.slots[i].odd_size &&
               scene->life.spool->devices[0].pool.slots[i].stream == STREAM_MESSAGES &&
               scene->life.spool->devices[0].pool.slots[i].state != SEGMENT_GONE;
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
    const struct segpool *pool = &scene->life.spool->devices[0].pool;
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
        cmocka_unit_test(a_segment_is_recycled_in_the_promised_order),
        cmocka_unit_test(checkpoints_do_not_feed_on_themselves),
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
