/*
 * Lives that end at any disk call: a journal of durable records is written over many lives, each
 * ended by an ordered crash, in its own code or between its turns. What a life was told to be
 * durable is there in all later ones.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "tests/sim/sim_self.h"

#include <string.h>

#define SEEDS        20
#define LIVES        40
#define CALLS_MAX    60 /* besides those that read the journal */
#define RECORD_BYTES 700
#define IN_FLIGHT    4
#define LOCK_WAIT_NS (2ull * 1000000)

/* What only the test knows: it outlives the lives. */
struct ledger {
    struct sim_world *world;
    struct sim_process *process; /* NULL: the life has ended */
    uint64_t durable_max;        /* records below were reported durable */
    uint64_t lock_refusals;
    bool is_short; /* a life found fewer */
};

struct writer {
    struct io_op op;
    struct life *life;
    uint64_t number;
    bool is_durable;
    uint8_t record[RECORD_BYTES];
};

struct life {
    struct ledger *ledger;
    struct io *io;
    struct io_timer retry;
    int fd;
    uint64_t next; /* record */
    struct writer writers[IN_FLIGHT];
};

static uint8_t record_byte(uint64_t number)
{
    return (uint8_t)(1 + number % 255);
}

static void write_next(struct writer *writer)
{
    struct life *life = writer->life;

    writer->number = life->next++;
    writer->is_durable = false;
    memset(writer->record, record_byte(writer->number), RECORD_BYTES);
    io_write(life->io, &writer->op, life->fd, writer->record, RECORD_BYTES,
             writer->number * RECORD_BYTES, true);
}

/* Durable up to the first record that is not. */
static void report(struct life *life)
{
    uint64_t first = life->next;

    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        if (!life->writers[i].is_durable && life->writers[i].number < first)
            first = life->writers[i].number;
    }
    if (first > life->ledger->durable_max)
        life->ledger->durable_max = first;
}

static void on_written(struct io_op *op, int32_t result)
{
    struct writer *writer = container_of(op, struct writer, op);

    must(result == RECORD_BYTES);
    writer->is_durable = true;
    report(writer->life);
    write_next(writer);
}

/* Records that are there without a gap. */
static uint64_t count_records(struct life *life)
{
    uint8_t record[RECORD_BYTES];
    uint64_t count = 0;

    while (io_file_read_now(life->io, life->fd, record, RECORD_BYTES, count * RECORD_BYTES) ==
           RECORD_BYTES) {
        for (unsigned i = 0; i < RECORD_BYTES; i++) {
            if (record[i] != record_byte(count))
                return count;
        }
        count++;
    }
    return count;
}

static void recover(struct life *life)
{
    if (io_file_lock(life->io, life->fd) == E_LOCKED) {
        life->ledger->lock_refusals++;
        io_timer_arm(life->io, &life->retry, io_now_ns(life->io) + LOCK_WAIT_NS);
        return;
    }
    life->next = count_records(life);
    if (life->next < life->ledger->durable_max)
        life->ledger->is_short = true;
    must(io_file_truncate(life->io, life->fd, life->next * RECORD_BYTES) == 0);
    must(io_file_sync_now(life->io, life->fd) == 0);
    must(io_dir_sync(life->io, "/") == 0);
    for (unsigned i = 0; i < IN_FLIGHT; i++)
        write_next(&life->writers[i]);
}

static void on_retry(struct io_timer *timer)
{
    recover(container_of(timer, struct life, retry));
}

static void begin_life(void *context)
{
    struct ledger *ledger = context;
    struct life *life = mem_alloc(sizeof(*life));

    life->ledger = ledger;
    sim_io_create(ledger->world, ledger->process, &life->io);
    io_timer_init(&life->retry, on_retry);
    for (unsigned i = 0; i < IN_FLIGHT; i++) {
        life->writers[i].life = life;
        io_op_init(&life->writers[i].op, on_written);
    }
    must(io_file_open(life->io, "/journal", IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE,
                      &life->fd) == 0);
    recover(life);
}

static void on_crash(void *context)
{
    ((struct ledger *)context)->process = NULL;
}

static bool is_dead(void *context)
{
    return ((const struct ledger *)context)->process == NULL;
}

static void durable_records_survive_many_crashes(void **state)
{
    uint64_t most = 0;
    uint64_t lock_refusals = 0;

    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct sim_options options = {.faults = sim_faults_mild()};
        struct ledger ledger = {.world = sim_world_create(seed, &options)};
        struct rng *rng = sim_rng(ledger.world);

        for (unsigned i = 0; i < LIVES; i++) {
            ledger.process = sim_process_create(ledger.world);
            sim_crash_after(ledger.process, rng_one_in(rng, 2) ? SIM_KILL : SIM_POWER_CUT,
                            rng_between(rng, 1, CALLS_MAX + ledger.durable_max), on_crash, &ledger);
            if (sim_run_in(ledger.process, begin_life, &ledger))
                assert_true(sim_run_until(ledger.world, is_dead, &ledger, MINUTE_NS, 1000000));
            assert_null(ledger.process);
            assert_false(ledger.is_short);
        }
        most = ledger.durable_max > most ? ledger.durable_max : most;
        lock_refusals += ledger.lock_refusals;
        coverage_add(ledger.world);
        sim_world_destroy(ledger.world);
    }
    assert_true(most > 50 && lock_refusals > 0);
}

/* ---- Crashes from within --------------------------------------------------------------------- */

struct last_moment {
    struct sim_world *world;
    struct sim_process *process;
    struct io_timer timer;
    bool returned;
};

static void on_last_moment(struct io_timer *timer)
{
    struct last_moment *last = container_of(timer, struct last_moment, timer);

    mem_alloc(100);
    sim_crash(last->world, last->process, SIM_KILL);
    last->returned = true;
}

static void crash_inside_of_a_turn_does_not_return(void **state)
{
    struct last_moment last = {.world = sim_world_create(1, NULL)};
    struct io *io;

    last.process = sim_process_create(last.world);
    sim_io_create(last.world, last.process, &io);
    io_timer_init(&last.timer, on_last_moment);
    io_timer_arm(io, &last.timer, sim_now_ns(last.world) + SECOND_NS);
    sim_run_for(last.world, 2 * SECOND_NS);
    assert_false(last.returned);
    assert_false(sim_step(last.world));
    assert_int_equal(sim_coverage(last.world)[SIM_COVER_process_killed].count, 1);
    sim_world_destroy(last.world);
}

const struct CMUnitTest lives_tests[] = {
    cmocka_unit_test(durable_records_survive_many_crashes),
    cmocka_unit_test(crash_inside_of_a_turn_does_not_return),
};
const size_t lives_test_count = sizeof(lives_tests) / sizeof(lives_tests[0]);
