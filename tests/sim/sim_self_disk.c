/* What the simulated disk must never do, and what it must do now and then. */
#include "core/base/err.h"
#include "tests/sim/sim_self.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>

#define SEEDS      200
#define FILE_BYTES 16384

/* A process with a file of its own, and what was written to it. */
struct bench {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    int fd;
    alignas(4096) uint8_t old_bytes[FILE_BYTES];
    alignas(4096) uint8_t new_bytes[FILE_BYTES];
    alignas(4096) uint8_t found[FILE_BYTES];
};

static void bench_begin(struct bench *bench, uint64_t seed, const struct sim_options *options)
{
    bench->world = sim_world_create(seed, options);
    bench->process = sim_process_create(bench->world);
    sim_io_create(bench->world, bench->process, &bench->io);
    for (size_t i = 0; i < FILE_BYTES; i++) {
        bench->old_bytes[i] = (uint8_t)(1 + i % 100);
        bench->new_bytes[i] = (uint8_t)(101 + i % 100);
    }
    assert_int_equal(io_dir_create(bench->io, "/d"), 0);
    assert_int_equal(io_dir_sync(bench->io, "/"), 0);
    assert_int_equal(io_file_open(bench->io, "/d/file",
                                  IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE, &bench->fd),
                     0);
    assert_int_equal(io_dir_sync(bench->io, "/d"), 0);
}

/* The old content is durable; the new one is written over it but not synced. */
static void bench_overwrite(struct bench *bench)
{
    assert_int_equal(io_file_write_now(bench->io, bench->fd, bench->old_bytes, FILE_BYTES, 0),
                     FILE_BYTES);
    assert_int_equal(io_file_sync_now(bench->io, bench->fd), 0);
    assert_int_equal(
        write_wait(bench->world, bench->io, bench->fd, bench->new_bytes, FILE_BYTES, 0, false),
        FILE_BYTES);
}

static void bench_crash(struct bench *bench, enum sim_crash_kind kind)
{
    sim_crash(bench->world, bench->process, kind);
    bench->process = NULL;
}

static void bench_end(struct bench *bench)
{
    coverage_add(bench->world);
    sim_world_destroy(bench->world);
}

/* How much of the file is new, in sectors of 512 bytes; every sector must be old or new. */
static unsigned new_sectors(struct bench *bench)
{
    unsigned count = 0;

    assert_int_equal(sim_disk_peek(bench->world, "/d/file", bench->found, FILE_BYTES, 0),
                     FILE_BYTES);
    for (size_t at = 0; at < FILE_BYTES; at += 512) {
        bool is_new = memcmp(bench->found + at, bench->new_bytes + at, 512) == 0;

        assert_true(is_new || memcmp(bench->found + at, bench->old_bytes + at, 512) == 0);
        count += is_new;
    }
    return count;
}

static void synced_writes_survive_a_power_cut(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;

        bench_begin(&bench, seed, NULL);
        bench_overwrite(&bench);
        assert_int_equal(sync_wait(bench.world, bench.io, bench.fd), 0);
        bench_crash(&bench, SIM_POWER_CUT);
        assert_int_equal(new_sectors(&bench), FILE_BYTES / 512);
        bench_end(&bench);
    }
}

static void durable_writes_survive_a_power_cut(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        int fd = -1;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_open(bench.io, "/d/file", IO_FILE_WRITE | IO_FILE_DIRECT, &fd), 0);
        assert_int_equal(
            write_wait(bench.world, bench.io, fd, bench.new_bytes, FILE_BYTES, 0, true),
            FILE_BYTES);
        bench_crash(&bench, SIM_POWER_CUT);
        assert_int_equal(new_sectors(&bench), FILE_BYTES / 512);
        bench_end(&bench);
    }
}

static void unsynced_writes_are_kept_lost_or_torn(void **state)
{
    unsigned kept = 0;
    unsigned lost = 0;
    unsigned torn_pages = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        unsigned count;

        bench_begin(&bench, seed, NULL);
        bench_overwrite(&bench);
        assert_int_equal(sim_disk_dirty_bytes(bench.world), FILE_BYTES);
        bench_crash(&bench, SIM_POWER_CUT);
        assert_int_equal(sim_disk_dirty_bytes(bench.world), 0);
        count = new_sectors(&bench);
        kept += count == FILE_BYTES / 512;
        lost += count == 0;
        torn_pages += count % 8 != 0;
        bench_end(&bench);
    }
    assert_true(kept > SEEDS / 10 && lost > SEEDS / 10 && torn_pages > SEEDS / 10);
}

static void unsynced_writes_survive_a_kill(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;

        bench_begin(&bench, seed, NULL);
        bench_overwrite(&bench);
        bench_crash(&bench, SIM_KILL);
        assert_int_equal(new_sectors(&bench), FILE_BYTES / 512);
        bench_end(&bench);
    }
}

/* Writes that were only started when the life ended. */
static void start_writes(struct bench *bench, struct waited *writes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        waited_init(&writes[i]);
        io_write(bench->io, &writes[i].op, bench->fd, bench->new_bytes + i * 4096ul, 4096,
                 i * 4096ul, false);
    }
}

/* Opens the file as another life, once it has the lock; returns how often that was refused. */
static unsigned lock_as_next_life(struct bench *bench)
{
    struct sim_process *next = sim_process_create(bench->world);
    unsigned refused = 0;
    struct io *io;
    int fd = -1;

    sim_io_create(bench->world, next, &io);
    assert_int_equal(io_file_open(io, "/d/file", IO_FILE_WRITE, &fd), 0);
    while (io_file_lock(io, fd) == E_LOCKED) {
        refused++;
        sim_run_for(bench->world, 1000000);
    }
    return refused;
}

static void locks_are_released_after_the_last_late_write(void **state)
{
    unsigned landed = 0;
    unsigned refused = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        struct waited writes[4];
        uint64_t killed_ns;
        unsigned before;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_lock(bench.io, bench.fd), 0);
        assert_int_equal(io_file_write_now(bench.io, bench.fd, bench.old_bytes, FILE_BYTES, 0),
                         FILE_BYTES);
        start_writes(&bench, writes, 4);
        bench_crash(&bench, SIM_KILL);
        killed_ns = sim_now_ns(bench.world);
        before = new_sectors(&bench);
        refused += lock_as_next_life(&bench) > 0;
        assert_true(sim_now_ns(bench.world) - killed_ns <= 70 * 1000000ull);
        landed += new_sectors(&bench) > before;
        before = new_sectors(&bench);
        sim_run_for(bench.world, SECOND_NS);
        assert_int_equal(new_sectors(&bench), before);
        bench_end(&bench);
    }
    assert_true(landed > SEEDS / 2 && refused > SEEDS / 2);
}

static void writes_in_flight_are_torn_by_a_power_cut(void **state)
{
    unsigned torn = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        struct waited writes[4];
        unsigned count;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_write_now(bench.io, bench.fd, bench.old_bytes, FILE_BYTES, 0),
                         FILE_BYTES);
        assert_int_equal(io_file_sync_now(bench.io, bench.fd), 0);
        start_writes(&bench, writes, 4);
        bench_crash(&bench, SIM_POWER_CUT);
        count = new_sectors(&bench);
        torn += count % 8 != 0;
        /* Nobody holds the lock after a power cut. */
        assert_int_equal(lock_as_next_life(&bench), 0);
        bench_end(&bench);
    }
    assert_true(torn > SEEDS / 10);
}

/* Killed first, and the power goes while its last writes are still under way. */
static void power_cut_after_a_kill(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        struct waited writes[4];

        bench_begin(&bench, seed, NULL);
        bench_overwrite(&bench);
        assert_int_equal(io_file_sync_now(bench.io, bench.fd), 0);
        memcpy(bench.old_bytes, bench.new_bytes, FILE_BYTES);
        memset(bench.new_bytes, 255, FILE_BYTES);
        start_writes(&bench, writes, 4);
        bench_crash(&bench, SIM_KILL);
        sim_run_for(bench.world, rng_below(sim_rng(bench.world), 70 * 1000000));
        bench.process = sim_process_create(bench.world);
        bench_crash(&bench, SIM_POWER_CUT);
        new_sectors(&bench);
        bench_end(&bench);
    }
}

static void size_is_lost_without_sync(void **state)
{
    unsigned lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        int64_t size;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_write_now(bench.io, bench.fd, bench.old_bytes, 8192, 0), 8192);
        assert_int_equal(io_file_sync_now(bench.io, bench.fd), 0);
        assert_int_equal(io_file_write_now(bench.io, bench.fd, bench.old_bytes, 1000, 8192), 1000);
        bench_crash(&bench, SIM_POWER_CUT);
        size = sim_disk_size(bench.world, "/d/file");
        assert_true(size == 8192 || size == 9192);
        lost += size == 8192;
        bench_end(&bench);
    }
    assert_in_range(lost, SEEDS / 10, SEEDS * 9 / 10);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static void names_need_a_sync_of_their_directory(void **state)
{
    unsigned created = 0;
    unsigned renamed = 0;
    unsigned removed = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        bool has_new;
        bool has_old;
        int fd = -1;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_open(bench.io, "/d/new", IO_FILE_WRITE | IO_FILE_CREATE, &fd), 0);
        if (seed % 2 == 0)
            assert_int_equal(io_file_rename(bench.io, "/d/file", "/d/moved"), 0);
        else
            assert_int_equal(io_file_unlink(bench.io, "/d/file"), 0);
        if (seed % 4 >= 2)
            assert_int_equal(io_dir_sync(bench.io, "/d"), 0);
        bench_crash(&bench, SIM_POWER_CUT);
        has_new = sim_disk_size(bench.world, "/d/new") >= 0;
        has_old = sim_disk_size(bench.world, "/d/file") >= 0;
        if (seed % 4 >= 2)
            assert_true(has_new && !has_old);
        if (seed % 2 == 0)
            assert_true(has_old != (sim_disk_size(bench.world, "/d/moved") >= 0));
        created += seed % 4 < 2 && has_new;
        renamed += seed % 4 == 0 && !has_old;
        removed += seed % 4 == 1 && !has_old;
        bench_end(&bench);
    }
    assert_in_range(created, SEEDS / 20, SEEDS / 2 - SEEDS / 20);
    assert_in_range(renamed, SEEDS / 40, SEEDS / 4 - SEEDS / 40);
    assert_in_range(removed, SEEDS / 40, SEEDS / 4 - SEEDS / 40);
}

static void collect(void *context, const char *name)
{
    strcat(context, name);
    strcat(context, " ");
}

static void directories_list_their_own_names(void **state)
{
    static const char *const paths[] = {"/d/b", "/d/a", "/d-e", "/d/sub/x", "/dz", "/d/sub-y"};
    struct bench bench;
    char names[256] = "";
    int fd = -1;

    bench_begin(&bench, 1, NULL);
    assert_int_equal(io_dir_create(bench.io, "/d/sub"), 0);
    assert_int_equal(io_dir_create(bench.io, "/d/sub/"), 0);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(io_file_open(bench.io, paths[i], IO_FILE_WRITE | IO_FILE_CREATE, &fd), 0);
    assert_int_equal(io_dir_list(bench.io, "/d/", collect, names), 0);
    assert_string_equal(names, "a b file sub sub-y ");
    names[0] = '\0';
    assert_int_equal(io_dir_list(bench.io, "/", collect, names), 0);
    assert_string_equal(names, "d d-e dz ");
    assert_int_equal(io_dir_list(bench.io, "/nowhere", collect, names), -ENOENT);
    assert_int_equal(io_file_open(bench.io, "/x/y", IO_FILE_WRITE | IO_FILE_CREATE, &fd), -ENOENT);
    assert_int_equal(
        io_file_open(bench.io, "/d/a", IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_EXCLUSIVE, &fd),
        -EEXIST);
    assert_int_equal(io_file_unlink(bench.io, "/d/none"), -ENOENT);
    bench_end(&bench);
}

/* ---- Failures -------------------------------------------------------------------------------- */

/* What fsync does on Linux: the error is told once, the pages count as clean, the data are gone. */
static void sync_after_a_failed_one_is_a_lie(void **state)
{
    unsigned lost = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;

        bench_begin(&bench, seed, NULL);
        bench_overwrite(&bench);
        sim_disk_script(bench.world, SIM_DISK_SYNC, "file", 1, -EIO);
        assert_int_equal(sync_wait(bench.world, bench.io, bench.fd), -EIO);
        assert_int_equal(sim_disk_scripts_left(bench.world), 0);
        assert_int_equal(sync_wait(bench.world, bench.io, bench.fd), 0);
        assert_int_equal(new_sectors(&bench), FILE_BYTES / 512);
        bench_crash(&bench, SIM_POWER_CUT);
        lost += new_sectors(&bench) < FILE_BYTES / 512;
        bench_end(&bench);
    }
    assert_true(lost > SEEDS / 2);
}

/* The file system writes the size along with the first page behind the old end that it writes. */
static void size_follows_later_durable_writes(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;

        bench_begin(&bench, seed, NULL);
        assert_int_equal(io_file_write_now(bench.io, bench.fd, bench.old_bytes, FILE_BYTES, 0),
                         FILE_BYTES);
        sim_disk_script(bench.world, SIM_DISK_SYNC, NULL, 1, -EIO);
        assert_int_equal(io_file_sync_now(bench.io, bench.fd), -EIO);
        assert_int_equal(
            write_wait(bench.world, bench.io, bench.fd, bench.new_bytes + 4096, 4096, 4096, true),
            4096);
        bench_crash(&bench, SIM_POWER_CUT);
        assert_true(sim_disk_size(bench.world, "/d/file") >= 8192);
        assert_int_equal(sim_disk_peek(bench.world, "/d/file", bench.found, 4096, 4096), 4096);
        assert_memory_equal(bench.found, bench.new_bytes + 4096, 4096);
        bench_end(&bench);
    }
}

static void directories_fail_apart(void **state)
{
    struct bench bench;
    uint64_t free_bytes = 0;

    bench_begin(&bench, 1, NULL);
    sim_disk_limit_at(bench.world, "/other", 4096);
    sim_faults(bench.world)->write_failed = 1;
    sim_disk_faults_at(bench.world, "/other");
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 100, 0, false),
                     100);
    sim_disk_faults_at(bench.world, "/d/");
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 100, 0, false),
                     -EIO);
    sim_disk_faults_at(bench.world, "/other");
    assert_int_equal(io_dir_create(bench.io, "/other"), 0);
    assert_int_equal(io_space_free(bench.io, "/other", &free_bytes), 0);
    assert_int_equal(free_bytes, 4096);
    assert_int_equal(io_space_free(bench.io, "/d", &free_bytes), 0);
    assert_true(free_bytes > 4096);
    bench_end(&bench);
}

static void failures_come_as_scripted(void **state)
{
    struct bench bench;
    uint64_t free_bytes = 0;

    bench_begin(&bench, 1, NULL);
    sim_disk_script(bench.world, SIM_DISK_WRITE, "fil", 2, -EIO);
    sim_disk_script(bench.world, SIM_DISK_WRITE, "elsewhere", 1, -EIO);
    sim_disk_script(bench.world, SIM_DISK_READ, NULL, 1, -EIO);
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 100, 0, false),
                     100);
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 100, 0, false),
                     -EIO);
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 100, 0, false),
                     100);
    assert_int_equal(io_file_read_now(bench.io, bench.fd, bench.found, 100, 0), -EIO);
    assert_int_equal(io_file_read_now(bench.io, bench.fd, bench.found, 100, 50), 50);
    assert_int_equal(sim_disk_scripts_left(bench.world), 1);
    /* A disk with room for one more page. */
    sim_disk_limit(bench.world, sim_disk_used(bench.world) + 4096);
    assert_int_equal(io_space_free(bench.io, "/d", &free_bytes), 0);
    assert_int_equal(free_bytes, 4096);
    assert_int_equal(
        write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, FILE_BYTES, 4096, true),
        -ENOSPC);
    assert_int_equal(io_file_truncate(bench.io, bench.fd, 0), 0);
    assert_int_equal(sim_disk_used(bench.world), 0);
    assert_int_equal(write_wait(bench.world, bench.io, bench.fd, bench.old_bytes, 8192, 0, true),
                     8192);
    bench_end(&bench);
}

static void rot_can_be_planted(void **state)
{
    struct bench bench;
    uint8_t byte = 7;

    bench_begin(&bench, 1, NULL);
    bench_overwrite(&bench);
    assert_int_equal(sim_disk_copy(bench.world, "/d/file", "/d/copy"), 0);
    assert_int_equal(sim_disk_poke(bench.world, "/d/copy", &byte, 1, 5000), 1);
    assert_int_equal(sim_disk_resize(bench.world, "/d/copy", 6000), 0);
    assert_int_equal(sim_disk_remove(bench.world, "/d/file"), 0);
    bench_crash(&bench, SIM_POWER_CUT);
    assert_int_equal(sim_disk_size(bench.world, "/d/file"), -ENOENT);
    assert_int_equal(sim_disk_peek(bench.world, "/d/copy", bench.found, FILE_BYTES, 0), 6000);
    assert_int_equal(bench.found[5000], 7);
    bench.found[5000] = bench.new_bytes[5000];
    assert_memory_equal(bench.found, bench.new_bytes, 6000);
    bench_end(&bench);
}

/* ---- Order ----------------------------------------------------------------------------------- */

struct numbered {
    struct io_op op;
    unsigned number;
    unsigned *done;
    bool *overtook;
};

static void on_numbered(struct io_op *op, int32_t result)
{
    struct numbered *numbered = container_of(op, struct numbered, op);

    *numbered->overtook = *numbered->overtook || *numbered->done != numbered->number;
    (*numbered->done)++;
}

static void operations_overtake_each_other(void **state)
{
    struct bench bench;
    struct numbered ops[16];
    bool overtook = false;
    unsigned done = 0;

    bench_begin(&bench, 1, NULL);
    for (unsigned i = 0; i < 16; i++) {
        ops[i] = (struct numbered){.number = i, .done = &done, .overtook = &overtook};
        io_op_init(&ops[i].op, on_numbered);
        io_write(bench.io, &ops[i].op, bench.fd, bench.old_bytes, 512, i * 512ul, i % 2 == 0);
    }
    sim_run_for(bench.world, SECOND_NS);
    assert_int_equal(done, 16);
    assert_true(overtook);
    bench_end(&bench);
}

/* Cancelled or not, an operation comes back once, and a file closes only after that. */
static void cancelled_operations_come_back_once(void **state)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct bench bench;
        struct numbered ops[8];
        struct waited closed;
        bool overtook = false;
        unsigned done = 0;

        bench_begin(&bench, seed, NULL);
        for (unsigned i = 0; i < 8; i++) {
            ops[i] = (struct numbered){.number = i, .done = &done, .overtook = &overtook};
            io_op_init(&ops[i].op, on_numbered);
            io_write(bench.io, &ops[i].op, bench.fd, bench.old_bytes, 512, i * 512ul, true);
        }
        sim_run_for(bench.world, rng_below(sim_rng(bench.world), 400000));
        io_cancel(bench.io, &ops[0].op);
        waited_init(&closed);
        io_close(bench.io, &closed.op, bench.fd);
        assert_int_equal(waited_wait(bench.world, &closed), 0);
        assert_int_equal(done, 8);
        assert_int_equal(sim_fd_count(bench.process), 0);
        bench_end(&bench);
    }
}

/* Every failure by rate, on all calls at once. */
static void rates_hit_every_call(void **state)
{
    struct sim_options options = {.faults = {.open_failed = 3,
                                             .read_failed = 3,
                                             .write_failed = 3,
                                             .write_no_space = 3,
                                             .sync_failed = 3,
                                             .name_failed = 3,
                                             .disk_stalled = 3}};
    struct sim_world *world = sim_world_create(3, &options);
    struct io *io;
    uint8_t bytes[5000] = {1};
    unsigned failures = 0;
    int fd = -1;

    sim_io_create(world, sim_process_create(world), &io);
    while (io_file_open(io, "/f", IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE, &fd) < 0)
        failures++;
    for (unsigned i = 0; i < 100; i++) {
        failures += write_wait(world, io, fd, bytes, sizeof(bytes), i * 100, false) < 0;
        failures += io_file_read_now(io, fd, bytes, sizeof(bytes), 0) < 0;
        failures += io_dir_sync(io, "/") < 0;
        failures += sync_wait(world, io, fd) < 0;
    }
    assert_in_range(failures, 100, 300);
    coverage_add(world);
    sim_world_destroy(world);
}

const struct CMUnitTest disk_tests[] = {
    cmocka_unit_test(synced_writes_survive_a_power_cut),
    cmocka_unit_test(durable_writes_survive_a_power_cut),
    cmocka_unit_test(unsynced_writes_are_kept_lost_or_torn),
    cmocka_unit_test(unsynced_writes_survive_a_kill),
    cmocka_unit_test(locks_are_released_after_the_last_late_write),
    cmocka_unit_test(writes_in_flight_are_torn_by_a_power_cut),
    cmocka_unit_test(power_cut_after_a_kill),
    cmocka_unit_test(size_is_lost_without_sync),
    cmocka_unit_test(names_need_a_sync_of_their_directory),
    cmocka_unit_test(directories_list_their_own_names),
    cmocka_unit_test(sync_after_a_failed_one_is_a_lie),
    cmocka_unit_test(size_follows_later_durable_writes),
    cmocka_unit_test(directories_fail_apart),
    cmocka_unit_test(failures_come_as_scripted),
    cmocka_unit_test(rot_can_be_planted),
    cmocka_unit_test(operations_overtake_each_other),
    cmocka_unit_test(cancelled_operations_come_back_once),
    cmocka_unit_test(rates_hit_every_call),
};
const size_t disk_test_count = sizeof(disk_tests) / sizeof(disk_tests[0]);
