/*
 * What a cold virtual MTA gets of a day, with a shard that is nothing but that: the log answers at
 * once, and the clock is the test's.
 */
#include "shard/planted.h"
#include "shard/shard_int.h"
#include "tests/unit/core_conf/unit.h"

#include <stdlib.h>

#define DAY_S      86400
#define MIDNIGHT_S (100 * (int64_t)DAY_S)
#define DAY_COUNT  128u /* blocks of two */

static struct stage {
    struct shard *shard;
    struct conf *conf;
    struct route route;
    int64_t wall_s;
    uint32_t writes;
} stage;

bool planted_active(const char *name)
{
    return false;
}

/* ---- What is not there ----------------------------------------------------------------------- */

void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel)
{
    fail_msg("there is one shard");
}

uint64_t io_wall_us(const struct io *io)
{
    return (uint64_t)stage.wall_s * 1000000;
}

bool memo_cold(struct shard *shard, struct slice domain, uint32_t vmta_id, struct slice value,
               uint32_t book)
{
    stage.writes++;
    return true;
}

/* ---- The stage ------------------------------------------------------------------------------- */

static int raise(void **state)
{
    struct shard *shard = calloc(1, sizeof(*shard));

    stage = (struct stage){.shard = shard};
    stage.conf = load("<virtual-mta warm>\nsmtp-source-host 192.0.2.1 a\ncold-virtual-mta cold\n"
                      "<domain *>\nmax-cold-virtual-mta-msg 128/d\n</domain>\n</virtual-mta>\n"
                      "<virtual-mta cold>\nsmtp-source-host 192.0.2.2 b\n</virtual-mta>\n");
    shard->conf = stage.conf;
    shard->count = 1;
    names_init(&shard->names, 100);
    cold_init(shard);
    stage.route = (struct route){
        .name = names_get(&shard->names, SLICE_LITERAL("example.com")),
        .vmta_id = conf_vmta_id(stage.conf, SLICE_LITERAL("warm")),
    };
    return 0;
}

static int strike(void **state)
{
    cold_fini(stage.shard);
    names_fini(&stage.shard->names);
    conf_unref(stage.conf);
    free(stage.shard);
    return 0;
}

/* How many of so many recipients go the cold way; the log has answered before the next one. */
static uint32_t take(uint32_t count)
{
    uint32_t taken = 0, answered;

    for (uint32_t i = 0; i < count; i++) {
        answered = stage.writes;
        taken += cold_take(stage.shard, &stage.route);
        if (stage.writes > answered)
            cold_on_logged(stage.shard, 0, 0);
    }
    return taken;
}

static void a_day_has_its_count(void **state)
{
    stage.wall_s = MIDNIGHT_S;
    assert_int_equal(take(1000), DAY_COUNT);
    stage.wall_s = MIDNIGHT_S + DAY_S - 1;
    assert_int_equal(take(1000), 0);
    stage.wall_s = MIDNIGHT_S + DAY_S;
    assert_int_equal(take(1000), DAY_COUNT);
}

/* What the clock calls the day before is still the day that has begun: its count is neither given
 * twice nor in vain. */
static void a_clock_that_goes_back_over_midnight_spends_nothing_in_vain(void **state)
{
    uint32_t taken;

    stage.wall_s = MIDNIGHT_S - 2;
    assert_int_equal(take(1000), DAY_COUNT);
    stage.wall_s = MIDNIGHT_S + 1;
    taken = take(10);
    assert_true(taken > 0);
    stage.wall_s = MIDNIGHT_S - 1;
    taken += take(10);
    stage.wall_s = MIDNIGHT_S + 2;
    assert_int_equal(taken + take(1000), DAY_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_day_has_its_count, raise, strike),
        cmocka_unit_test_setup_teardown(a_clock_that_goes_back_over_midnight_spends_nothing_in_vain,
                                        raise, strike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
