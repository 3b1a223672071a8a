/* Witnesses of the DNS: who becomes one, what they say, and that they are asked again. */
#include "net/dns_outlook.h"
#include "tests/unit/net/fake_dns.h"

#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <string.h>

#define MINUTE_NS (60 * 1000000000ull)

static void note(struct dns_witnesses *witnesses, const char *name, enum dns_status status,
                 uint64_t minute)
{
    dns_witnesses_note(witnesses, slice_str(name), status, minute * MINUTE_NS);
}

static enum dns_outlook judge(const struct dns_witnesses *witnesses, const char *except,
                              uint64_t minute)
{
    return dns_witnesses_judge(witnesses, slice_str(except), minute * MINUTE_NS);
}

/* A domain that never was good proves nothing, however often it is denied (A29). */
static void a29_only_domains_known_good_are_witnesses(void **state)
{
    struct dns_witnesses witnesses = {0};

    for (unsigned i = 0; i < 100; i++)
        note(&witnesses, "dead.example", i % 2 ? DNS_NO_NAME : DNS_TIMEOUT, i);
    assert_int_equal(judge(&witnesses, "d.example", 100), DNS_OUTLOOK_UNKNOWN);
    note(&witnesses, "a.example", DNS_OK, 100);
    assert_int_equal(judge(&witnesses, "d.example", 100), DNS_OUTLOOK_GOOD);
    /* Not about itself. */
    assert_int_equal(judge(&witnesses, "a.example", 100), DNS_OUTLOOK_UNKNOWN);
}

static void a29_most_must_be_good(void **state)
{
    static const enum dns_status bad[] = {DNS_NO_NAME, DNS_NO_DATA, DNS_FAILURE, DNS_TIMEOUT};
    struct dns_witnesses witnesses = {0};
    char names[5][16];

    for (unsigned i = 0; i < 5; i++) {
        snprintf(names[i], sizeof(names[i]), "w%u.example", i);
        note(&witnesses, names[i], DNS_OK, 0);
    }
    note(&witnesses, names[0], bad[0], 1);
    note(&witnesses, names[1], bad[1], 1);
    assert_int_equal(judge(&witnesses, "d.example", 1), DNS_OUTLOOK_GOOD);
    note(&witnesses, names[2], bad[2], 1);
    assert_int_equal(judge(&witnesses, "d.example", 1), DNS_OUTLOOK_BAD);
    note(&witnesses, names[1], DNS_OK, 2);
    note(&witnesses, names[3], bad[3], 2);
    assert_int_equal(judge(&witnesses, "d.example", 2), DNS_OUTLOOK_BAD);
    note(&witnesses, names[0], DNS_OK, 3);
    assert_int_equal(judge(&witnesses, "d.example", 3), DNS_OUTLOOK_GOOD);
    /* Half is not most. */
    assert_int_equal(judge(&witnesses, "w4.example", 3), DNS_OUTLOOK_BAD);
}

static void answers_count_for_half_an_hour(void **state)
{
    struct dns_witnesses witnesses = {0};

    note(&witnesses, "a.example", DNS_OK, 5);
    assert_int_equal(judge(&witnesses, "d.example", 35), DNS_OUTLOOK_GOOD);
    assert_int_equal(judge(&witnesses, "d.example", 36), DNS_OUTLOOK_UNKNOWN);
    assert_false(dns_witness_is_stale(&witnesses.places[0], 5 * MINUTE_NS + MINUTE_NS / 2 - 1));
    assert_true(dns_witness_is_stale(&witnesses.places[0], 5 * MINUTE_NS + MINUTE_NS / 2));
    assert_false(dns_witness_is_stale(&witnesses.places[1], 15 * MINUTE_NS));
}

/* New good domains do not push out those that went bad, except those bad for a day. */
static void the_set_is_stable(void **state)
{
    struct dns_witnesses witnesses = {0};
    char name[32];

    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++) {
        snprintf(name, sizeof(name), "w%u.example", i);
        note(&witnesses, name, DNS_OK, 0);
        note(&witnesses, name, DNS_FAILURE, 10);
    }
    note(&witnesses, "new.example", DNS_OK, 10);
    assert_int_equal(judge(&witnesses, "d.example", 10), DNS_OUTLOOK_BAD);
    assert_int_equal(judge(&witnesses, "d.example", 40), DNS_OUTLOOK_BAD);
    note(&witnesses, "new.example", DNS_OK, 24 * 60 - 1);
    assert_int_equal(judge(&witnesses, "d.example", 24 * 60 - 1), DNS_OUTLOOK_UNKNOWN);
    note(&witnesses, "new.example", DNS_OK, 24 * 60);
    assert_int_equal(judge(&witnesses, "d.example", 24 * 60), DNS_OUTLOOK_GOOD);
}

/* ---- Asking again, through the dns module ---------------------------------------------------- */

struct scene_outlook {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    struct dns_lookup lookups[3];
    unsigned told;
    enum dns_outlook outlook;
};

static struct scene_outlook scene;

static void on_answer(struct dns_lookup *lookup, const struct dns_query *answer)
{
    scene.told++;
}

static void nothing(void *context)
{
}

static void look(void *context)
{
    scene.outlook = dns_outlook(scene.dns, SLICE_LITERAL("d.example"));
}

static void ask_all(void *context)
{
    dns_ask(scene.dns, &scene.lookups[0], SLICE_LITERAL("a.example"), DNS_MX);
    dns_ask(scene.dns, &scene.lookups[1], SLICE_LITERAL("b.example"), DNS_MX);
    dns_ask(scene.dns, &scene.lookups[2], SLICE_LITERAL("dead.example"), DNS_MX);
}

static void run(void (*function)(void *context), double seconds)
{
    /* A turn first, for the loop to read the clock: the test speaks between turns. */
    assert_true(sim_run_in(scene.process, nothing, NULL));
    sim_run_for(scene.world, 1000000);
    assert_true(sim_run_in(scene.process, function, NULL));
    sim_run_for(scene.world, (uint64_t)(seconds * 1e9));
}

static void a29_witnesses_are_asked_again(void **state)
{
    static const struct fake_record before[] = {
        {"a.example", DNS_MX, "10 mx.example", 0, 3600},
        {"b.example", DNS_MX, "10 mx.example", 0, 3600},
        {NULL, 0, NULL, 0, 0},
    };
    static const struct fake_record after[] = {{NULL, 0, NULL, 0, 0}};

    memset(&scene, 0, sizeof(scene));
    scene.world = sim_world_create(7, NULL);
    scene.process = sim_process_create(scene.world);
    sim_io_create(scene.world, scene.process, &scene.io);
    fake_dns_init(&scene.fake, scene.world, scene.process, scene.io, before);
    sim_enter(scene.process);
    scene.dns = dns_create(scene.io, scene.fake.questions, scene.fake.answers, 0, 16, 4);
    sim_leave(scene.process);
    for (unsigned i = 0; i < 3; i++)
        scene.lookups[i].on_answer = on_answer;
    run(ask_all, 1);
    assert_int_equal(scene.told, 3);
    assert_int_equal(scene.fake.asked_count, 3);
    run(look, 1);
    assert_int_equal(scene.outlook, DNS_OUTLOOK_GOOD);
    assert_int_equal(scene.fake.asked_count, 3);
    /* The resolver denies everything from now on. The answers kept for an hour do not hide it. */
    scene.fake.records = after;
    sim_run_for(scene.world, 11 * MINUTE_NS);
    run(look, 1);
    assert_int_equal(scene.fake.asked_count, 5);
    run(look, 1);
    assert_int_equal(scene.outlook, DNS_OUTLOOK_BAD);
    assert_int_equal(scene.fake.asked_count, 5);
    /* What was not looked at for a while is unknown at first, and known a moment later. */
    scene.fake.records = before;
    sim_run_for(scene.world, 31 * MINUTE_NS);
    run(look, 1);
    assert_int_equal(scene.outlook, DNS_OUTLOOK_UNKNOWN);
    run(look, 1);
    assert_int_equal(scene.outlook, DNS_OUTLOOK_GOOD);
    assert_int_equal(scene.told, 3);
    sim_enter(scene.process);
    dns_destroy(scene.dns);
    fake_dns_fini(&scene.fake);
    sim_leave(scene.process);
    sim_world_destroy(scene.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a29_only_domains_known_good_are_witnesses),
        cmocka_unit_test(a29_most_must_be_good),
        cmocka_unit_test(answers_count_for_half_an_hour),
        cmocka_unit_test(the_set_is_stable),
        cmocka_unit_test(a29_witnesses_are_asked_again),
    };

    return cmocka_run_group_tests_name("dns outlook", tests, NULL, NULL);
}
