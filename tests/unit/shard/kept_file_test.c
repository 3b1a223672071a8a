/* Small files on a simulated disk that fills up, or loses its power. */
#include "shard/kept_file.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BODY_BYTES 20000u

static struct sim_world *world;
static struct sim_process *process;
static struct io *io;

/* What one life does. */
struct order {
    unsigned number;
    int result;
};

static void begin_life(void)
{
    process = sim_process_create(world);
    sim_io_create(world, process, &io);
    sim_enter(process);
    io_dir_create(io, "/kept");
    io_dir_sync(io, "/");
    sim_leave(process);
}

static void forget_process(void *context)
{
    process = NULL;
}

/* Head and body say the same number from the first octet to the last. */
static void store(void *context)
{
    struct order *order = context;
    char head[16], *body = mem_alloc(BODY_BYTES);
    int len = snprintf(head, sizeof(head), "%04u\n", order->number);

    memset(body, (int)('a' + order->number % 26), BODY_BYTES);
    order->result =
        kept_file_store(io, "/kept", "it", slice_of(head, (size_t)len), slice_of(body, BODY_BYTES));
    mem_free(body);
}

/* The number of the file that is there, all of it; negative as kept_file_load. */
static int64_t loaded(uint64_t bytes_max)
{
    char *text = NULL;
    unsigned number = 0;
    int64_t len;

    sim_enter(process);
    len = kept_file_load(io, "/kept", "it", bytes_max, &text);
    if (len >= 0) {
        assert_int_equal(len, 5 + BODY_BYTES);
        assert_int_equal(sscanf(text, "%4u", &number), 1);
        for (uint32_t i = 5; i < len; i++)
            assert_int_equal(text[i], 'a' + number % 26);
        len = number;
    } else {
        assert_null(text);
    }
    mem_free(text);
    sim_leave(process);
    return len;
}

static bool has_draft(void)
{
    int fd;

    sim_enter(process);
    if (io_file_open(io, "/kept/it.new", IO_FILE_READ, &fd) < 0)
        fd = -1;
    else
        io_close_now(io, fd);
    sim_leave(process);
    return fd >= 0;
}

static void what_is_stored_is_loaded(void **state)
{
    struct order order = {.number = 1};

    world = sim_world_create(1, &(struct sim_options){0});
    begin_life();
    assert_int_equal(loaded(UINT32_MAX), -ENOENT);
    sim_run_in(process, store, &order);
    assert_int_equal(order.result, 0);
    assert_int_equal(loaded(5 + BODY_BYTES), 1);
    assert_int_equal(loaded(4 + BODY_BYTES), E_DAMAGED);
    sim_crash(world, process, SIM_KILL);
    sim_world_destroy(world);
}

/* The file of before stays whole, and what was begun takes no room. */
static void a_full_disk_leaves_the_older_file(void **state)
{
    struct order first = {.number = 1}, second = {.number = 2};

    world = sim_world_create(2, &(struct sim_options){0});
    begin_life();
    sim_run_in(process, store, &first);
    sim_disk_limit(world, BODY_BYTES + 16384);
    sim_run_in(process, store, &second);
    assert_int_equal(second.result, -ENOSPC);
    assert_int_equal(loaded(UINT32_MAX), 1);
    assert_false(has_draft());
    sim_disk_limit(world, 1 << 20);
    sim_run_in(process, store, &second);
    assert_int_equal(second.result, 0);
    assert_int_equal(loaded(UINT32_MAX), 2);
    sim_crash(world, process, SIM_KILL);
    sim_world_destroy(world);
}

/* Power fails before each disk call: one of the two is there, and the new one once that was said.
 */
static void a_power_cut_leaves_one_of_both(void **state)
{
    unsigned before = 0, newer = 0;

    for (uint64_t nth = 1; nth <= 24; nth++) {
        struct order first = {.number = 1}, second = {.number = 2, .result = -1};
        int64_t found;

        world = sim_world_create(nth, &(struct sim_options){0});
        begin_life();
        sim_run_in(process, store, &first);
        sim_crash_after(process, SIM_POWER_CUT, 1 + (nth - 1) % 8, forget_process, NULL);
        sim_run_in(process, store, &second);
        if (process != NULL)
            sim_crash(world, process, SIM_POWER_CUT);
        begin_life();
        found = loaded(UINT32_MAX);
        assert_true(found == 2 || (found == 1 && second.result != 0));
        before += found == 1;
        newer += found == 2;
        sim_crash(world, process, SIM_KILL);
        sim_world_destroy(world);
    }
    assert_true(before >= 3 && newer >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_stored_is_loaded),
        cmocka_unit_test(a_full_disk_leaves_the_older_file),
        cmocka_unit_test(a_power_cut_leaves_one_of_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
