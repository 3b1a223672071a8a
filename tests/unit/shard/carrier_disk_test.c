/* Files of the carrier on the simulator's disk: what counts as delivered outlives a power cut,
 * whatever went wrong before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/mem.h"
#include "core/conf/conf.h"
#include "core/io/io.h"
#include "shard/carrier.h"
#include "shard/carry.h"
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CALLS_MAX 12
#define SEEDS     5

static char content[] = "Subject: x\r\n\r\nbody\r\n";

struct scene {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    uint8_t format;
    bool is_delivered;
};

static void start_life(struct scene *scene)
{
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
}

static void prepare(void *context)
{
    struct scene *scene = context;

    assert_int_equal(io_dir_create(scene->io, "/out"), 0);
    assert_int_equal(io_dir_sync(scene->io, "/"), 0);
}

static void attempt(void *context)
{
    struct scene *scene = context;
    struct iovec part = {content, sizeof(content) - 1};
    struct mailbox *home = mailbox_create(4, scene->io, NULL);
    struct carrier *carrier = carrier_create(scene->io, &home);
    struct carry *carry = mem_alloc(sizeof(*carry));

    carry->parcel.kind = CARRY_START;
    carry->format = scene->format;
    carry->message_id = 7;
    carry->values.to = SLICE_LITERAL("b@x.test");
    carry->values.from = SLICE_LITERAL("a@x.test");
    carry->parts = &part;
    carry->part_count = 1;
    snprintf(carry->way, sizeof(carry->way), "%s",
             scene->format == CONF_FILE_MBOX ? "/out/box" : "/out");
    carrier_take(carrier, &carry->parcel);
    assert_false(carrier_turn(carrier));
    assert_int_equal(carry->parcel.kind, CARRY_DONE);
    scene->is_delivered = carry->verdict.class == VERDICT_SUCCESS;
}

static void on_crash(void *context)
{
    ((struct scene *)context)->process = NULL;
}

struct found {
    struct sim_world *world;
    uint32_t files;
    uint32_t copies; /* of the message, whole */
};

static void look_into(void *context, const char *path)
{
    struct found *found = context;
    char text[1024] = "";
    int64_t len;

    if (strncmp(path, "/out/", 5) != 0 || path[5] == '.')
        return;
    found->files++;
    len = sim_disk_peek(found->world, path, text, sizeof(text) - 1, 0);
    assert_true(len >= 0);
    text[len] = '\0';
    /* A message of a mailbox begins behind an empty line, whatever stands before it. */
    for (const char *at = text; (at = strstr(at, "From a@x.test ")) != NULL; at++)
        assert_true(at == text || (at >= text + 2 && at[-1] == '\n' && at[-2] == '\n'));
    for (const char *at = text; (at = strstr(at, "Subject: x")) != NULL; at++)
        found->copies += strstr(at, "body\r\n") != NULL || strstr(at, "body\n\n") != NULL;
}

/* The first attempt meets a failure, or the end of its life; the second one neither. */
static void play(struct scene *scene, int call, enum sim_crash_kind kind, uint64_t nth,
                 uint64_t seed)
{
    struct sim_options options = {0};
    struct found found;

    scene->world = sim_world_create(seed, &options);
    start_life(scene);
    assert_true(sim_run_in(scene->process, prepare, scene));
    if (call >= 0)
        sim_disk_script(scene->world, (enum sim_disk_call)call, NULL, nth, -5);
    else
        sim_crash_after(scene->process, kind, nth, on_crash, scene);
    scene->is_delivered = false;
    sim_run_in(scene->process, attempt, scene);
    sim_disk_script_clear(scene->world);
    if (scene->process == NULL) {
        sim_run_for(scene->world, 10000000000ull);
        start_life(scene);
    }
    if (!scene->is_delivered)
        sim_run_in(scene->process, attempt, scene);
    assert_true(scene->is_delivered);
    sim_crash(scene->world, scene->process, SIM_POWER_CUT);
    found = (struct found){.world = scene->world};
    sim_disk_list(scene->world, look_into, &found);
    assert_int_equal(found.files, 1);
    if (scene->format == CONF_FILE_MBOX)
        assert_true(found.copies >= 1);
    else
        assert_int_equal(found.copies, 1);
    sim_world_destroy(scene->world);
}

static void what_is_delivered_is_durable(void **state)
{
    static const uint8_t formats[] = {CONF_FILE_MBOX, CONF_FILE_PLAIN, CONF_FILE_PICKUP};
    struct scene scene;

    for (size_t i = 0; i < sizeof(formats); i++) {
        scene = (struct scene){.format = formats[i]};
        for (uint64_t nth = 1; nth <= CALLS_MAX; nth++)
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                for (int call = SIM_DISK_OPEN; call <= SIM_DISK_NAME; call++)
                    play(&scene, call, SIM_KILL, nth, seed);
                play(&scene, -1, SIM_KILL, nth, seed);
                play(&scene, -1, SIM_POWER_CUT, nth, seed);
            }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_delivered_is_durable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
