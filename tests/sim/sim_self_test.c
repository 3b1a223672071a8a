/* Tests of the simulator itself: the same seed gives the same history, and lives end cleanly. */
#include "core/base/mem.h"
#include "tests/sim/sim_self.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t coverage_total[SIM_COVER_KINDS];
static const char *coverage_names[SIM_COVER_KINDS];

void coverage_add(const struct sim_world *world)
{
    const struct sim_coverage *rows = sim_coverage(world);

    for (int i = 0; i < SIM_COVER_KINDS; i++) {
        coverage_total[i] += rows[i].count;
        coverage_names[i] = rows[i].name;
    }
}

static void on_waited(struct io_op *op, int32_t result)
{
    struct waited *waited = container_of(op, struct waited, op);

    waited->result = result;
    waited->is_done = true;
}

void waited_init(struct waited *waited)
{
    memset(waited, 0, sizeof(*waited));
    io_op_init(&waited->op, on_waited);
}

static bool is_done(void *context)
{
    return ((const struct waited *)context)->is_done;
}

int32_t waited_wait(struct sim_world *world, struct waited *waited)
{
    assert_true(sim_run_until(world, is_done, waited, 10 * MINUTE_NS, 1000000));
    return waited->result;
}

int32_t write_wait(struct sim_world *world, struct io *io, int fd, const void *data, uint32_t len,
                   uint64_t offset, bool durable)
{
    struct waited waited;

    waited_init(&waited);
    io_write(io, &waited.op, fd, data, len, offset, durable);
    return waited_wait(world, &waited);
}

int32_t sync_wait(struct sim_world *world, struct io *io, int fd)
{
    struct waited waited;

    waited_init(&waited);
    io_sync(io, &waited.op, fd);
    return waited_wait(world, &waited);
}

/* ---- Determinism ----------------------------------------------------------------------------- */

static void same_seed_gives_the_same_history(void **state)
{
    struct sim_options options = {.faults = sim_faults_mild()};

    for (uint64_t seed = 1; seed <= 5; seed++) {
        struct storm_result first = storm_run(seed, &options, 40, 7);
        struct storm_result second = storm_run(seed, &options, 40, 7);

        assert_int_equal(first.hash, second.hash);
        assert_int_equal(first.steps, second.steps);
        assert_int_equal(first.virtual_ns, second.virtual_ns);
    }
}

static void different_seeds_give_different_histories(void **state)
{
    struct sim_options options = {0};
    uint64_t hashes[20];

    for (unsigned i = 0; i < 20; i++) {
        hashes[i] = storm_run(i, &options, 5, 2).hash;
        for (unsigned k = 0; k < i; k++)
            assert_true(hashes[i] != hashes[k]);
    }
}

static void storms_of_all_faults_pass_over(void **state)
{
    struct sim_options options = {.faults = sim_faults_mild()};

    /* Rare by default, or a matter of the storm's disk. */
    options.faults.wall_jumped = 1000;
    options.faults.write_failed = 20;
    options.faults.write_no_space = 20;
    options.faults.sync_failed = 20;
    options.faults.open_failed = 3;
    for (uint64_t seed = 100; seed < 130; seed++)
        assert_int_equal(storm_run(seed, &options, 60, 12).delivered, 60);
}

static void thousand_messages_are_quick(void **state)
{
    struct sim_options options = {0};
    struct timespec begun;
    struct timespec ended;
    struct storm_result result;
    double ms;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begun);
    result = storm_run(7, &options, 1000, 20);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
    ms =
        (double)(ended.tv_sec - begun.tv_sec) * 1e3 + (double)(ended.tv_nsec - begun.tv_nsec) / 1e6;
    print_message(
        "1000 messages: %.1f ms of CPU, %llu steps, %.1f s of virtual time, trace %016llx\n", ms,
        (unsigned long long)result.steps, (double)result.virtual_ns / 1e9,
        (unsigned long long)result.hash);
    /* The aim is 100 ms; the limit leaves room for sanitizers and busy machines. */
    assert_true(ms < 3000);
}

/* ---- Clock and loops ------------------------------------------------------------------------- */

struct alarm {
    struct io_timer timer;
    struct io *io;
    uint64_t fired_at_ns;
    uint64_t fired_wall_us;
};

static void on_alarm(struct io_timer *timer)
{
    struct alarm *alarm = container_of(timer, struct alarm, timer);

    alarm->fired_at_ns = io_now_ns(alarm->io);
    alarm->fired_wall_us = io_wall_us(alarm->io);
}

static void wall_clock_jumps_and_monotonic_does_not(void **state)
{
    struct sim_world *world = sim_world_create(1, NULL);
    struct sim_process *process = sim_process_create(world);
    struct alarm alarm = {0};
    uint64_t begun_ns = sim_now_ns(world);
    uint64_t begun_us = sim_wall_us(world);

    sim_io_create(world, process, &alarm.io);
    io_timer_init(&alarm.timer, on_alarm);
    io_timer_arm(alarm.io, &alarm.timer, begun_ns + 3600 * SECOND_NS);
    sim_wall_jump(world, -7200ll * 1000000);
    assert_int_equal(sim_wall_us(world), begun_us - 7200ull * 1000000);
    sim_run_for(world, 3601 * SECOND_NS);
    assert_in_range(alarm.fired_at_ns, begun_ns + 3600 * SECOND_NS,
                    begun_ns + 3600 * SECOND_NS + 2000000);
    assert_in_range(alarm.fired_wall_us, begun_us - 3600ull * 1000000,
                    begun_us - 3600ull * 1000000 + 2000);
    assert_int_equal(sim_now_ns(world), begun_ns + 3601 * SECOND_NS);
    sim_world_destroy(world);
}

static void world_without_events_says_so(void **state)
{
    struct sim_world *world = sim_world_create(1, NULL);
    struct io *io;

    sim_io_create(world, sim_process_create(world), &io);
    while (sim_step(world))
        assert_true(sim_step_count(world) < 100);
    sim_world_destroy(world);
}

/* ---- Lives ----------------------------------------------------------------------------------- */

struct holder {
    struct io *io;
    void *blocks[10];
    unsigned calls;
    bool told;
};

static void allocate_some(void *context)
{
    struct holder *holder = context;

    for (unsigned i = 0; i < 10; i++)
        holder->blocks[i] = mem_alloc_aligned(100 + i, 64);
    mem_free(holder->blocks[3]);
}

static void memory_of_a_crashed_life_is_freed(void **state)
{
    struct sim_world *world = sim_world_create(1, NULL);
    struct sim_process *process = sim_process_create(world);
    struct sim_process *other = sim_process_create(world);
    struct holder holder = {0};
    struct holder kept = {0};
    uint64_t allocations = mem_alloc_count();

    assert_true(sim_run_in(process, allocate_some, &holder));
    assert_true(sim_run_in(other, allocate_some, &kept));
    assert_int_equal(mem_alloc_count() - allocations, 20);
    assert_int_equal(sim_mem_blocks(process), 9);
    assert_true(sim_mem_bytes(process) > 900);
    sim_crash(world, process, SIM_KILL);
    /* Only the crashed life's: these are still there to be read and freed. */
    assert_int_equal(sim_mem_blocks(other), 9);
    memset(kept.blocks[4], 1, 100);
    mem_free(kept.blocks[4]);
    assert_int_equal(sim_mem_blocks(other), 8);
    sim_world_destroy(world);
}

static void touch_disk(void *context)
{
    struct holder *holder = context;

    allocate_some(holder);
    for (;;) {
        io_dir_create(holder->io, "/somewhere");
        holder->calls++;
    }
}

static void on_crash(void *context)
{
    ((struct holder *)context)->told = true;
}

static void crash_can_be_ordered_inside_of_a_call(void **state)
{
    struct sim_world *world = sim_world_create(1, NULL);
    struct sim_process *process = sim_process_create(world);
    struct holder holder = {0};

    sim_io_create(world, process, &holder.io);
    sim_crash_after(process, SIM_KILL, 5, on_crash, &holder);
    assert_false(sim_run_in(process, touch_disk, &holder));
    assert_int_equal(holder.calls, 4);
    assert_true(holder.told);
    coverage_add(world);
    sim_world_destroy(world);
}

static void fail_now_and_then(void *context)
{
    unsigned *failures = context;

    for (unsigned i = 0; i < 1000; i++) {
        void *block = mem_try_alloc(10);

        *failures += block == NULL;
        mem_free(block);
    }
}

static void memory_can_run_short(void **state)
{
    struct sim_options options = {.faults.alloc_failed = 10};
    struct sim_world *world = sim_world_create(1, &options);
    unsigned failures = 0;

    assert_true(sim_run_in(sim_process_create(world), fail_now_and_then, &failures));
    assert_in_range(failures, 50, 200);
    coverage_add(world);
    sim_world_destroy(world);
}

/* ---- Everything was seen --------------------------------------------------------------------- */

static void every_kind_of_event_was_met(void **state)
{
    bool all = true;

    for (int i = 0; i < SIM_COVER_KINDS; i++) {
        if (coverage_total[i] == 0) {
            print_error("never happened: %s\n", coverage_names[i]);
            all = false;
        }
    }
    assert_true(all);
}

int main(void)
{
    const struct CMUnitTest world_tests[] = {
        cmocka_unit_test(same_seed_gives_the_same_history),
        cmocka_unit_test(different_seeds_give_different_histories),
        cmocka_unit_test(storms_of_all_faults_pass_over),
        cmocka_unit_test(thousand_messages_are_quick),
        cmocka_unit_test(wall_clock_jumps_and_monotonic_does_not),
        cmocka_unit_test(world_without_events_says_so),
        cmocka_unit_test(memory_of_a_crashed_life_is_freed),
        cmocka_unit_test(crash_can_be_ordered_inside_of_a_call),
        cmocka_unit_test(memory_can_run_short),
    };
    const struct CMUnitTest last_tests[] = {
        cmocka_unit_test(every_kind_of_event_was_met),
    };
    int failed = cmocka_run_group_tests_name("world", world_tests, NULL, NULL);

    failed += _cmocka_run_group_tests("disk", disk_tests, disk_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("lives", lives_tests, lives_test_count, NULL, NULL);
    failed += _cmocka_run_group_tests("net", net_tests, net_test_count, NULL, NULL);
    return failed + cmocka_run_group_tests_name("coverage", last_tests, NULL, NULL);
}
