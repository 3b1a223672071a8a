/* A spool on a disk of the real world: open, append, answer, close, recover. */
#include "tests/unit/core_base/unit.h"

#include "core/base/err.h"
#include "core/io/io_uring.h"
#include "tests/unit/queue/life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct place {
    struct io *io;
    struct ledger ledger;
    struct life life;
    struct life_options options;
    char path[64];
};

static int place_set_up(void **state)
{
    static struct place place;
    struct io_options options = {.name = "test"};

    memset(&place, 0, sizeof(place));
    ledger_init(&place.ledger);
    snprintf(place.path, sizeof(place.path), "/tmp/spool-test-XXXXXX");
    assert_non_null(mkdtemp(place.path));
    assert_int_equal(io_create(&options, &place.io), 0);
    place.options.spool = (struct spool_options){
        .directories = {{.path = place.path}},
        .segment_bytes = 1 << 20,
        .outcome_hold_ms = 5,
        .segment_count_max = 32,
        .checkpoint_bytes = 1 << 20,
    };
    place.options.live_max = 100;
    place.options.burst_max = 20;
    *state = &place;
    return 0;
}

static int place_tear_down(void **state)
{
    struct place *place = *state;
    char command[128];

    io_destroy(place->io);
    ledger_fini(&place->ledger);
    snprintf(command, sizeof(command), "rm -rf %s", place->path);
    return system(command);
}

static void open_it(struct place *place, uint64_t seed)
{
    assert_int_equal(
        life_open(&place->life, &place->options, &place->ledger, place->io, place->io, seed), 0);
    assert_string_equal(place->ledger.failure, "");
}

static void close_it(struct place *place)
{
    place->life.is_quiet = true;
    for (int i = 0; i < 10000 && !life_is_settled(&place->life); i++)
        io_turn(place->io, 1000000);
    assert_true(life_is_settled(&place->life));
    life_close(&place->life);
    for (int i = 0; i < 10000 && !place->life.is_closed; i++)
        io_turn(place->io, 1000000);
    assert_true(place->life.is_closed);
    ledger_closed(&place->ledger);
    life_destroy(&place->life);
    assert_string_equal(place->ledger.failure, "");
}

static void what_was_answered_is_there_again(void **state)
{
    struct place *place = *state;

    open_it(place, 1);
    assert_int_equal(place->life.report.life, 1);
    place->life.is_quiet = true;
    for (uint32_t i = 0; i < 20; i++)
        life_send_message(&place->life, 1 + i % 5, 100 + i * 100);
    close_it(place);
    assert_int_equal(place->ledger.live_count, 20);

    open_it(place, 2);
    assert_int_equal(place->life.report.life, 2);
    assert_int_equal(place->life.report.messages_live, 20);
    close_it(place);
}

static void many_lives_with_work_in_between(void **state)
{
    struct place *place = *state;
    uint64_t until_ns;

    for (uint64_t seed = 1; seed <= 6; seed++) {
        place->options.spool.calibrate_ms = seed == 3 ? 20 : 0;
        open_it(place, seed);
        until_ns = io_now_ns(place->io) + 300 * 1000000ull;
        while (io_now_ns(place->io) < until_ns)
            io_turn(place->io, 1000000);
        assert_string_equal(place->ledger.failure, "");
        close_it(place);
    }
    assert_true(place->ledger.message_count > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_answered_is_there_again, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(many_lives_with_work_in_between, place_set_up,
                                        place_tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
