/* One spool in several directories: which sets of them open, what each of them holds, and what
 * goes on when one of them cannot take mail. */
#include "core/base/hash.h"
#include "tests/unit/queue/spool_scene.h"

#define SEGMENT 65536u

static void name_directories(struct scene *scene, const char *first, const char *second,
                             const char *third)
{
    const char *paths[] = {first, second, third};

    memset(scene->options.spool.directories, 0, sizeof(scene->options.spool.directories));
    for (uint32_t i = 0; i < 3; i++)
        scene->options.spool.directories[i].path = paths[i];
}

/* A life with these directories, behind the one that is under way. */
static void begin_with(struct scene *scene, const char *first, const char *second,
                       const char *third)
{
    if (scene->process != NULL)
        crash(scene, SIM_KILL);
    name_directories(scene, first, second, third);
    begin(scene);
}

/* Every file of the world with its content, in one number; `but` is not looked at. */
struct print {
    struct scene *scene;
    uint64_t sum;
};

static void print_one(void *context, const char *path)
{
    struct print *print = context;
    int64_t size = sim_disk_size(print->scene->world, path);
    uint8_t *bytes;

    print->sum += hash_bytes(path, strlen(path)) ^ (uint64_t)size;
    if (size <= 0)
        return;
    bytes = malloc((size_t)size);
    must(bytes != NULL);
    must(sim_disk_peek(print->scene->world, path, bytes, (size_t)size, 0) == size);
    print->sum += hash_bytes(bytes, (size_t)size);
    free(bytes);
}

static uint64_t print_of(struct scene *scene)
{
    struct print print = {.scene = scene};

    sim_disk_list(scene->world, print_one, &print);
    return print.sum;
}

/* The directories do not open, for this reason, and nothing on the disk is touched. */
static void refuses(struct scene *scene, const char *first, const char *second, const char *third,
                    const char *why)
{
    uint64_t before;

    if (scene->process != NULL)
        crash(scene, SIM_KILL);
    before = print_of(scene);
    name_directories(scene, first, second, third);
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    assert_true(sim_run_in(scene->process, open_life, scene));
    assert_int_equal(scene->result, E_FOREIGN);
    assert_string_equal(scene->life.refusal, why);
    sim_crash(scene->world, scene->process, SIM_KILL);
    scene->process = NULL;
    life_forget(&scene->life);
    sim_run_for(scene->world, 100 * MS);
    assert_true(print_of(scene) == before);
}

static struct spool_device_stats device_of(struct scene *scene, uint32_t index)
{
    struct spool_device_stats stats;

    spool_device_read(scene->life.spool, index, &stats);
    return stats;
}

static bool exists(struct scene *scene, const char *path)
{
    return sim_disk_size(scene->world, path) >= 0;
}

static int super_version(struct scene *scene, const char *path, uint32_t block)
{
    uint8_t bytes[8];

    must(sim_disk_peek(scene->world, path, bytes, sizeof(bytes), block * SEGFMT_BLOCK) == 8);
    return memcmp(bytes, "RPSB", 4) == 0 ? bytes[4] : 0;
}

/* Bursts that both get something of. */
static void send_to_both(struct scene *scene)
{
    for (int i = 0; i < 6; i++) {
        in_process(scene, send_five);
        sim_run_for(scene->world, MS / 20);
    }
    settle(scene);
}

/* ---- Which directories ------------------------------------------------------------------------
 */

/* What an older build made and reads: nothing in it tells that there could be more. */
static void one_directory_is_what_it_always_was(void **state)
{
    struct scene *scene = scene_make();

    in_process(scene, send_five);
    settle(scene);
    for (int life = 0; life < 3; life++)
        begin_with(scene, "/spool", NULL, NULL);
    assert_int_equal(scene->life.report.messages_live, 5);
    assert_int_equal(super_version(scene, "/spool/super", 0), 1);
    assert_int_equal(super_version(scene, "/spool/super", 1), 1);
    assert_false(exists(scene, "/spool/device"));
    scene_end(scene);
}

static void a_directory_is_added_and_holds_its_part(void **state)
{
    struct scene *scene = scene_make();

    in_process(scene, send_five);
    settle(scene);
    begin_with(scene, "/spool", "/b", NULL);
    assert_int_equal(scene->life.report.devices_added, 1);
    assert_int_equal(scene->life.report.messages_live, 5);
    assert_int_equal(device_of(scene, 1).number, 1);
    assert_true(exists(scene, "/b/device") && exists(scene, "/b/00000.seg"));
    send_to_both(scene);
    assert_true(device_of(scene, 0).messages > 0 && device_of(scene, 1).messages > 0);
    assert_int_equal(device_of(scene, 0).messages + device_of(scene, 1).messages, 30);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.devices_added, 0);
    assert_int_equal(scene->life.report.messages_live, 35);
    assert_int_equal(scene->life.report.damage_count, 0);
    /* Both copies of the superblock now tell an older build to stay away. */
    assert_int_equal(super_version(scene, "/spool/super", 0), 2);
    assert_int_equal(super_version(scene, "/spool/super", 1), 2);
    scene_end(scene);
}

static void behind_the_first_any_order_will_do(void **state)
{
    struct scene *scene = scene_make();

    begin_with(scene, "/spool", "/b", "/c");
    send_to_both(scene);
    begin_with(scene, "/spool", "/c", "/b");
    assert_int_equal(scene->life.report.messages_live, 30);
    assert_int_equal(device_of(scene, 1).number, 2);
    assert_int_equal(device_of(scene, 2).number, 1);
    send_to_both(scene);
    begin_with(scene, "/spool", "/b", "/c");
    assert_int_equal(scene->life.report.messages_live, 60);
    scene_end(scene);
}

static void what_is_missing_or_exchanged_is_refused(void **state)
{
    struct scene *scene = scene_make();

    begin_with(scene, "/other", "/other-b", NULL);
    begin_with(scene, "/spool", "/b", NULL);
    send_to_both(scene);
    refuses(scene, "/spool", NULL, NULL,
            "/spool: directory number 1 of this spool is missing: no <spool> section names it, and "
            "it was not emptied (deliver-only) before it was left out");
    refuses(scene, "/spool", "/not-mounted", NULL,
            "/not-mounted: directory number 1 of the spool is missing, and this one is empty: is "
            "its disk mounted here?");
    refuses(scene, "/spool", "/other-b", NULL, "/other-b: this directory belongs to another spool");
    refuses(scene, "/other", "/b", NULL, "/b: this directory belongs to another spool");
    refuses(scene, "/spool", "/other", NULL,
            "/other: this is the first directory of a spool by itself");
    refuses(scene, "/b", "/spool", NULL,
            "/b: this is a further directory of a spool: the <spool> section of its first one must "
            "come first");
    /* And with all of it as it was, all is there. */
    begin_with(scene, "/spool", "/b", NULL);
    assert_int_equal(scene->life.report.messages_live, 30);
    assert_int_equal(scene->life.report.damage_count, 0);
    scene_end(scene);
}

static void make_mount_point(void *context)
{
    struct scene *scene = context;

    must(io_dir_create(scene->io, "/empty") == 0 && io_dir_sync(scene->io, "/") == 0);
}

static void the_first_one_that_is_not_mounted_is_refused(void **state)
{
    struct scene *scene = scene_make();

    begin_with(scene, "/spool", "/b", NULL);
    send_to_both(scene);
    in_process(scene, make_mount_point);
    refuses(scene, "/empty", "/b", NULL,
            "/empty: this first directory is empty, but another one of the spool is not: is its "
            "disk mounted here?");
    begin_with(scene, "/spool", "/b", NULL);
    assert_int_equal(scene->life.report.messages_live, 30);
    scene_end(scene);
}

static bool is_second_empty(void *context)
{
    return device_of(context, 1).state == SPOOL_DEVICE_EMPTY;
}

/* Deliver-only moves everything away; then the section may be left out, and older builds may open
 * what is left. */
static void an_emptied_directory_may_be_left_out(void **state)
{
    struct scene *scene = scene_make();

    begin_with(scene, "/spool", "/b", NULL);
    send_to_both(scene);
    assert_true(device_of(scene, 1).messages > 0);
    crash(scene, SIM_KILL);
    name_directories(scene, "/spool", "/b", NULL);
    scene->options.spool.directories[1].deliver_only = true;
    begin(scene);
    assert_true(sim_run_until(scene->world, is_second_empty, scene, 60000 * MS, 5000000));
    assert_false(exists(scene, "/b/00000.seg"));
    for (int life = 0; life < 2; life++)
        begin_with(scene, "/spool", NULL, NULL);
    assert_int_equal(scene->life.report.messages_live, 30);
    assert_int_equal(scene->life.report.damage_count, 0);
    assert_int_equal(super_version(scene, "/spool/super", 0), 1);
    assert_int_equal(super_version(scene, "/spool/super", 1), 1);
    scene_end(scene);
}

/* ---- One of them cannot ------------------------------------------------------------------------
 */

static void fill_up(struct scene *scene, uint32_t full, uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds && device_of(scene, full).state != SPOOL_DEVICE_LOW_SPACE;
         i++) {
        in_process(scene, send_one_big);
        in_process(scene, send_one_big);
        settle(scene);
        sim_run_for(scene->world, 3 * MS);
    }
    assert_int_equal(device_of(scene, full).state, SPOOL_DEVICE_LOW_SPACE);
}

static void a_full_disk_leaves_the_mail_to_the_other(void **state)
{
    struct scene *scene = scene_make();
    uint64_t there;
    uint64_t elsewhere;

    scene->options.spool.segment_count_max = 60;
    crash(scene, SIM_KILL);
    sim_disk_limit_at(scene->world, "/b", 4 * SEGMENT);
    begin_with(scene, "/spool", "/b", NULL);
    fill_up(scene, 1, 40);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    there = device_of(scene, 1).messages;
    elsewhere = device_of(scene, 0).messages;
    in_process(scene, send_five);
    settle(scene);
    assert_int_equal(device_of(scene, 1).messages, there);
    assert_int_equal(device_of(scene, 0).messages, elsewhere + 5);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), 0);
    scene_end(scene);
}

/* Outcomes go on from the reserve. */
static void a_full_first_disk_leaves_the_mail_to_the_other(void **state)
{
    struct scene *scene = scene_make();
    uint64_t there;

    scene->options.spool.segment_count_max = 60;
    crash(scene, SIM_KILL);
    sim_disk_limit_at(scene->world, "/spool", 7 * SEGMENT);
    begin_with(scene, "/spool", "/b", NULL);
    fill_up(scene, 0, 60);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    there = device_of(scene, 0).messages;
    in_process(scene, send_five);
    in_process(scene, finish_all_synced);
    settle(scene);
    assert_int_equal(device_of(scene, 0).messages, there);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), 0);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    scene_end(scene);
}

/* Only what was in the commit that failed is refused. */
static void a_failing_disk_leaves_the_mail_to_the_other(void **state)
{
    struct scene *scene = scene_make();
    uint32_t refused;

    begin_with(scene, "/spool", "/b", NULL);
    send_to_both(scene);
    for (int i = 0; i < 3; i++)
        sim_disk_script(scene->world, SIM_DISK_WRITE, "/b/", 1, -EIO);
    for (int i = 0; i < 50 && device_of(scene, 1).failed_commits == 0; i++)
        send_to_both(scene);
    assert_int_equal(device_of(scene, 1).state, SPOOL_DEVICE_RESTING);
    assert_int_equal(spool_health(scene->life.spool), SPOOL_HEALTHY);
    refused = count_standing(scene, LEDGER_REFUSED);
    assert_in_range(refused, 1, 10);
    for (int i = 0; i < 10; i++)
        send_to_both(scene);
    assert_int_equal(count_standing(scene, LEDGER_REFUSED), refused);
    crash(scene, SIM_POWER_CUT);
    begin(scene);
    assert_int_equal(scene->life.report.messages_live, scene->ledger.live_count);
    scene_end(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_directory_is_what_it_always_was),
        cmocka_unit_test(a_directory_is_added_and_holds_its_part),
        cmocka_unit_test(behind_the_first_any_order_will_do),
        cmocka_unit_test(what_is_missing_or_exchanged_is_refused),
        cmocka_unit_test(the_first_one_that_is_not_mounted_is_refused),
        cmocka_unit_test(an_emptied_directory_may_be_left_out),
        cmocka_unit_test(a_full_disk_leaves_the_mail_to_the_other),
        cmocka_unit_test(a_full_first_disk_leaves_the_mail_to_the_other),
        cmocka_unit_test(a_failing_disk_leaves_the_mail_to_the_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
