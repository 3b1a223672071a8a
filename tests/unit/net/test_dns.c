/*
 * Lookups of a shard: cache, time to live, coalescing and bounds, against a scripted resolver; and
 * the content of answers, hostile ones above all (A28).
 */
#include "net/dns_answer.h"
#include "tests/unit/net/fake_dns.h"

#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define SECOND_NS 1000000000ull

/* ---- Names and records --------------------------------------------------------------------- */

static void names_take_one_form(void **state)
{
    static const struct {
        const char *name;
        const char *form; /* NULL = refused */
    } rows[] = {
        {"Example.ORG", "example.org"},
        {"example.org.", "example.org"},
        {"a-b_c.9.x", "a-b_c.9.x"},
        {"_dmarc.x", "_dmarc.x"},
        {"x", "x"},
        {"", NULL},
        {".", NULL},
        {"..", NULL},
        {"a..b", NULL},
        {".a", NULL},
        {"a..", NULL},
        {"a b", NULL},
        {"a\tb", NULL},
        {"a\\b", NULL},
        {"a/b", NULL},
        {"a@b", NULL},
        {"[192.0.2.1]", NULL},
        {"b\xc3\xbc"
         "cher.example",
         NULL},
        {"a\x7f", NULL},
        {"*.example", NULL},
        {"123456789012345678901234567890123456789012345678901234567890123.x",
         "123456789012345678901234567890123456789012345678901234567890123.x"},
        {"1234567890123456789012345678901234567890123456789012345678901234.x", NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char room[DNS_NAME_MAX + 1];
        int len = dns_name_normalise(slice_str(rows[i].name), room);

        assert_int_equal(len >= 0, rows[i].form != NULL);
        if (rows[i].form != NULL) {
            assert_string_equal(room, rows[i].form);
            assert_int_equal(len, strlen(rows[i].form));
        }
    }
}

static void long_names_are_refused(void **state)
{
    char room[DNS_NAME_MAX + 1];
    char name[300];

    memset(name, 'a', sizeof(name));
    for (size_t i = 50; i < sizeof(name); i += 50)
        name[i] = '.';
    assert_true(dns_name_normalise(slice_of(name, DNS_NAME_MAX), room) == DNS_NAME_MAX);
    assert_int_equal(dns_name_normalise(slice_of(name, DNS_NAME_MAX + 1), room), E_TOO_LONG);
    assert_int_equal(dns_name_normalise(slice_of("a\0b", 3), room), E_SYNTAX);
}

static void a28_mx_rdata_from_the_wire(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *exchange; /* NULL = refused */
    } rows[] = {
        {"\0\12\2mx\7Example\0", 14, "mx.example"},
        {"\0\0\0", 3, ""}, /* the root: RFC 7505 */
        {"\377\377\1x\0", 5, "x"},
        {"", 0, NULL},
        {"\0", 1, NULL},
        {"\0\12", 2, NULL},     /* no name at all */
        {"\0\12\2mx", 5, NULL}, /* no end */
        {"\0\12\2m", 4, NULL},  /* a label that is cut */
        {"\0\12\77m\0", 5, NULL},
        {"\0\12\300\14", 4, NULL}, /* a pointer */
        {"\0\12\2mx\300\0", 7, NULL},
        {"\0\12\100x\0", 5, NULL},  /* label types that were never used */
        {"\0\12\2mx\0\0", 7, NULL}, /* more behind the end */
        {"\0\12\3a.b\0", 7, NULL},  /* a dot in a label */
        {"\0\12\3a b\0", 7, NULL},
        {"\0\12\3a\0b\0", 7, NULL},
        {"\0\12\2\xc3\xa4\0", 6, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dns_query answer = {.type = DNS_MX};
        /* A copy of exactly this length, so that reading behind it is seen. */
        uint8_t *copy = malloc(rows[i].len + (rows[i].len == 0));
        uint16_t cursor = 0;
        struct slice rdata;
        bool is_put;

        memcpy(copy, rows[i].bytes, rows[i].len);
        is_put = dns_answer_put_wire(&answer, slice_of(copy, rows[i].len));
        free(copy);
        if (is_put != (rows[i].exchange != NULL))
            print_error("row %zu\n", i);
        assert_int_equal(is_put, rows[i].exchange != NULL);
        assert_int_equal(answer.record_count, is_put);
        if (is_put) {
            assert_true(dns_record_next(&answer, &cursor, &rdata));
            assert_true(slice_equal(dns_mx_exchange(rdata), slice_str(rows[i].exchange)));
            assert_false(dns_record_next(&answer, &cursor, &rdata));
        }
    }
}

static void a28_texts_and_names_from_the_wire(void **state)
{
    static const struct {
        enum dns_type type;
        struct slice wire;
        const char *record; /* NULL = refused */
    } cases[] = {
        {DNS_TXT, SLICE_LITERAL("\3v=s\3pf1\0"), "v=spf1"},
        {DNS_TXT, SLICE_LITERAL("\0"), ""},
        {DNS_TXT, SLICE_LITERAL("\4abc"), NULL},
        {DNS_TXT, SLICE_LITERAL("\3abc\1"), NULL},
        {DNS_PTR, SLICE_LITERAL("\1A\7eXample\0"), "a.example"},
        {DNS_PTR, SLICE_LITERAL("\0"), NULL},
        {DNS_PTR, SLICE_LITERAL("\3a(b\0"), NULL},
        {DNS_PTR, SLICE_LITERAL("\1a\300\0"), NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dns_query answer = {.type = (uint16_t)cases[i].type};
        bool is_taken = dns_answer_put_wire(&answer, cases[i].wire);
        uint16_t cursor = 0;
        struct slice record;

        assert_true(is_taken == (cases[i].record != NULL));
        if (!is_taken)
            continue;
        assert_true(dns_record_next(&answer, &cursor, &record));
        assert_true(slice_equal(record, slice_str(cases[i].record)));
    }
}

static void a28_addresses_have_their_length(void **state)
{
    static const uint8_t bytes[32];

    for (size_t len = 0; len <= sizeof(bytes); len++) {
        struct dns_query a = {.type = DNS_A};
        struct dns_query aaaa = {.type = DNS_AAAA};
        struct dns_query other = {.type = 99};

        assert_int_equal(dns_answer_put_wire(&a, slice_of(bytes, len)), len == 4);
        assert_int_equal(dns_answer_put_wire(&aaaa, slice_of(bytes, len)), len == 16);
        assert_false(dns_answer_put_wire(&other, slice_of(bytes, len)));
    }
}

static void a28_a_thousand_records_are_cut(void **state)
{
    struct dns_query answer = {.type = DNS_MX};
    char name[240];
    unsigned taken = 0;

    for (unsigned i = 0; i < 1000; i++) {
        uint8_t rdata[2 + 8];

        snprintf((char *)rdata + 2, 8, "mx%04u", i);
        rdata[0] = rdata[1] = 0;
        taken += dns_answer_put(&answer, slice_of(rdata, 2 + 6));
    }
    assert_int_equal(taken, DNS_RECORD_COUNT_MAX);
    /* Large ones meet the other bound. */
    answer = (struct dns_query){.type = DNS_MX};
    memset(name, 'a', sizeof(name));
    name[0] = name[1] = 0;
    for (size_t i = 50; i < sizeof(name); i += 50)
        name[i] = '.';
    for (taken = 0; dns_answer_put(&answer, slice_of(name, sizeof(name))); taken++)
        ;
    assert_int_equal(taken, DNS_DATA_MAX / (sizeof(name) + 2));
    assert_true(answer.data_bytes <= DNS_DATA_MAX);
}

static void a28_answers_that_contradict_themselves(void **state)
{
    static const struct {
        uint16_t type;
        uint8_t status;
        const char *data;
        uint16_t data_bytes;
        uint8_t expect_status;
        uint16_t expect_count;
    } rows[] = {
        {DNS_A, DNS_OK, "\4\0\1\2\3\4", 6, DNS_OK, 1},
        {DNS_A, DNS_OK, "\5\0\1\2\3\4\5\4\0\1\2\3\4", 13, DNS_OK, 1}, /* one bad, one good */
        {DNS_A, DNS_OK, "", 0, DNS_FAILURE, 0},
        {DNS_A, DNS_OK, "\5\0\1\2\3\4\5", 7, DNS_FAILURE, 0},
        {DNS_A, DNS_OK, "\4", 1, DNS_FAILURE, 0},
        {DNS_A, DNS_OK, "\4\0\1\2", 4, DNS_FAILURE, 0},
        {DNS_A, DNS_OK, "\377\377\1\2", 4, DNS_FAILURE, 0},
        {DNS_A, DNS_OK, "\0\0\4\0\1\2\3\4", 8, DNS_OK, 1},
        {DNS_A, DNS_NO_NAME, "\4\0\1\2\3\4", 6, DNS_NO_NAME, 0},
        {DNS_A, DNS_NO_DATA, "\4\0\1\2\3\4", 6, DNS_NO_DATA, 0},
        {DNS_A, 77, "\4\0\1\2\3\4", 6, DNS_FAILURE, 0},
        {DNS_MX, DNS_OK, "\1\0\0", 3, DNS_FAILURE, 0},
        {DNS_MX, DNS_OK, "\2\0\0\0", 4, DNS_OK, 1},
        {DNS_MX, DNS_OK, "\4\0\0\0MX", 6, DNS_FAILURE, 0}, /* not in our form */
        {DNS_MX, DNS_OK, "\5\0\0\0a.b", 7, DNS_OK, 1},
        {DNS_TLSA, DNS_OK, "\3\0\3\1\1", 5, DNS_FAILURE, 0},
        {DNS_TLSA, DNS_OK, "\4\0\3\1\1\0", 6, DNS_OK, 1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct dns_query answer = {
            .type = rows[i].type,
            .status = rows[i].status,
            .data_bytes = rows[i].data_bytes,
            .record_count = 60000,
        };
        uint16_t cursor = 0;
        struct slice rdata;
        unsigned count = 0;

        memcpy(answer.data, rows[i].data, rows[i].data_bytes);
        dns_answer_check(&answer);
        while (dns_record_next(&answer, &cursor, &rdata))
            count++;
        if (answer.status != rows[i].expect_status || count != rows[i].expect_count)
            print_error("row %zu\n", i);
        assert_int_equal(answer.status, rows[i].expect_status);
        assert_int_equal(answer.record_count, rows[i].expect_count);
        assert_int_equal(count, rows[i].expect_count);
    }
}

/* ---- Lookups ------------------------------------------------------------------------------- */

struct asker {
    struct dns_lookup lookup;
    struct scene_dns *scene;
    unsigned told;
    uint8_t status;
    uint16_t record_count;
    uint32_t ttl_s;
    char name[DNS_NAME_MAX + 1];
    uint8_t first[16]; /* bytes of the first record */
    void (*then)(struct asker *asker);
};

struct scene_dns {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct fake_dns fake;
    struct dns *dns;
    struct asker askers[64];
};

static void on_answer(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct asker *asker = container_of(lookup, struct asker, lookup);
    uint16_t cursor = 0;
    struct slice rdata;

    asker->told++;
    asker->status = answer->status;
    asker->record_count = answer->record_count;
    asker->ttl_s = answer->ttl_s;
    memcpy(asker->name, answer->name, sizeof(asker->name));
    if (dns_record_next(answer, &cursor, &rdata))
        memcpy(asker->first, rdata.data, rdata.len < 16 ? rdata.len : 16);
    if (asker->then != NULL)
        asker->then(asker);
}

static void start(struct scene_dns *scene, const struct fake_record *records, uint32_t cache_max,
                  uint32_t in_flight_max)
{
    memset(scene, 0, sizeof(*scene));
    scene->world = sim_world_create(7, NULL);
    scene->process = sim_process_create(scene->world);
    sim_io_create(scene->world, scene->process, &scene->io);
    fake_dns_init(&scene->fake, scene->world, scene->process, scene->io, records);
    sim_enter(scene->process);
    scene->dns = dns_create(scene->io, scene->fake.questions, scene->fake.answers, 3, cache_max,
                            in_flight_max);
    sim_leave(scene->process);
    for (unsigned i = 0; i < 64; i++) {
        scene->askers[i].scene = scene;
        scene->askers[i].lookup.on_answer = on_answer;
    }
}

static void stop(struct scene_dns *scene)
{
    sim_enter(scene->process);
    dns_destroy(scene->dns);
    fake_dns_fini(&scene->fake);
    sim_leave(scene->process);
    sim_world_destroy(scene->world);
}

static void ask(struct scene_dns *scene, unsigned number, const char *name, enum dns_type type)
{
    unsigned told = scene->askers[number].told;

    sim_enter(scene->process);
    dns_ask(scene->dns, &scene->askers[number].lookup, slice_str(name), type);
    sim_leave(scene->process);
    assert_int_equal(scene->askers[number].told, told);
}

static void nothing(void *context)
{
}

static void run(struct scene_dns *scene, double seconds)
{
    sim_run_for(scene->world, (uint64_t)(seconds * 1e9));
    /* One more turn, for the loop to read the clock: the test speaks between turns. */
    sim_run_in(scene->process, nothing, NULL);
    sim_run_for(scene->world, 1000000);
}

static const struct fake_record zone[] = {
    {"one.example", DNS_A, "192.0.2.1", 0, 100},
    {"one.example", DNS_A, "192.0.2.2", 0, 100},
    {"one.example", DNS_AAAA, "2001:db8::1", 0, 0},
    {"short.example", DNS_A, "192.0.2.3", 0, 1},
    {"long.example", DNS_A, "192.0.2.4", 0, 1000000},
    {"broken.example", DNS_A, NULL, DNS_FAILURE, 1000},
    {"late.example", DNS_A, NULL, DNS_TIMEOUT, 1000},
    {"none.example", DNS_A, NULL, DNS_NO_DATA, 60},
    {"gone.example", DNS_A, NULL, DNS_NO_NAME, 60},
    {NULL, 0, NULL, 0, 0},
};

static void answers_come_and_are_kept(void **state)
{
    static struct scene_dns scene;

    start(&scene, zone, 16, 4);
    ask(&scene, 0, "ONE.example.", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.askers[0].told, 1);
    assert_int_equal(scene.askers[0].status, DNS_OK);
    assert_int_equal(scene.askers[0].record_count, 2);
    assert_string_equal(scene.askers[0].name, "one.example");
    assert_int_equal(scene.fake.asked_count, 1);
    /* Another type is another question, another spelling is not. */
    ask(&scene, 1, "one.EXAMPLE", DNS_A);
    ask(&scene, 2, "one.example", DNS_AAAA);
    run(&scene, 50);
    assert_int_equal(scene.askers[1].told, 1);
    assert_int_equal(scene.askers[2].record_count, 1);
    assert_int_equal(scene.fake.asked_count, 2);
    /* What is left of the time is told. */
    ask(&scene, 3, "one.example", DNS_A);
    run(&scene, 1);
    assert_in_range(scene.askers[3].ttl_s, 48, 50);
    run(&scene, 60);
    ask(&scene, 4, "one.example", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.askers[4].told, 1);
    assert_int_equal(scene.fake.asked_count, 3);
    stop(&scene);
}

/* Times to live are held between 30 s and an hour; failures are kept 5 s (A29). */
static void a29_times_to_live_are_clamped(void **state)
{
    static const struct {
        const char *name;
        enum dns_status status;
        double kept_s;
    } rows[] = {
        {"short.example", DNS_OK, 30},
        {"long.example", DNS_OK, 3600},
        {"broken.example", DNS_FAILURE, 5},
        {"late.example", DNS_TIMEOUT, 5},
        {"none.example", DNS_NO_DATA, 60},
        {"gone.example", DNS_NO_NAME, 60},
        {"unheard-of.example", DNS_NO_NAME, 300},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct scene_dns scene;

        start(&scene, zone, 16, 4);
        ask(&scene, 0, rows[i].name, DNS_A);
        run(&scene, 1);
        assert_int_equal(scene.askers[0].status, rows[i].status);
        run(&scene, rows[i].kept_s - 3);
        ask(&scene, 1, rows[i].name, DNS_A);
        run(&scene, 1);
        assert_int_equal(scene.askers[1].status, rows[i].status);
        assert_int_equal(scene.fake.asked_count, 1);
        run(&scene, 3);
        ask(&scene, 2, rows[i].name, DNS_A);
        run(&scene, 1);
        assert_int_equal(scene.askers[2].told, 1);
        assert_int_equal(scene.fake.asked_count, 2);
        stop(&scene);
    }
}

static void equal_questions_travel_once(void **state)
{
    static struct scene_dns scene;

    start(&scene, zone, 16, 4);
    scene.fake.delay_ns = 5 * SECOND_NS;
    for (unsigned i = 0; i < 20; i++)
        ask(&scene, i, "one.example", DNS_A);
    run(&scene, 1);
    for (unsigned i = 20; i < 40; i++)
        ask(&scene, i, "one.example", DNS_A);
    run(&scene, 10);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(scene.askers[i].told, 1);
    assert_int_equal(scene.fake.asked_count, 1);
    stop(&scene);
}

static void questions_beyond_the_limit_wait_their_turn(void **state)
{
    static struct scene_dns scene;

    start(&scene, zone, 64, 4);
    scene.fake.delay_ns = SECOND_NS;
    for (unsigned i = 0; i < 40; i++) {
        char name[32];

        snprintf(name, sizeof(name), "n%u.example", i);
        ask(&scene, i, name, DNS_A);
    }
    run(&scene, 30);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(scene.askers[i].told, 1);
        assert_int_equal(scene.askers[i].status, DNS_NO_NAME);
    }
    assert_int_equal(scene.fake.asked_count, 40);
    assert_true(scene.fake.held_max <= 4);
    stop(&scene);
}

/* The cache forgets what was used longest ago; what is waited for is never forgotten. */
static void the_cache_is_bounded(void **state)
{
    static struct scene_dns scene;
    char name[32];

    start(&scene, zone, 8, 8);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "n%u.example", i);
        ask(&scene, i, name, DNS_A);
    }
    run(&scene, 1);
    ask(&scene, 10, "n0.example", DNS_A); /* used again: the last to go now */
    run(&scene, 1);
    ask(&scene, 11, "new.example", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.fake.asked_count, 9);
    ask(&scene, 12, "n0.example", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.fake.asked_count, 9);
    ask(&scene, 13, "n1.example", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.fake.asked_count, 10);
    /* All are waited for: one more finds no room, and is told so. */
    scene.fake.holds = true;
    for (unsigned i = 20; i < 29; i++) {
        snprintf(name, sizeof(name), "w%u.example", i);
        ask(&scene, i, name, DNS_A);
    }
    run(&scene, 1);
    assert_int_equal(scene.askers[28].told, 1);
    assert_int_equal(scene.askers[28].status, DNS_FAILURE);
    assert_int_equal(scene.askers[27].told, 0);
    scene.fake.holds = false;
    sim_enter(scene.process);
    fake_dns_release(&scene.fake);
    sim_leave(scene.process);
    run(&scene, 1);
    assert_int_equal(scene.askers[27].told, 1);
    stop(&scene);
}

static void forget_neighbour(struct asker *asker)
{
    dns_forget(asker->scene->dns, &asker->scene->askers[1].lookup);
}

static void ask_again(struct asker *asker)
{
    asker->then = NULL;
    dns_ask(asker->scene->dns, &asker->lookup, slice_str("one.example"), DNS_A);
}

static void forgotten_lookups_are_not_told(void **state)
{
    static struct scene_dns scene;

    start(&scene, zone, 16, 4);
    dns_forget(scene.dns, &scene.askers[5].lookup); /* never asked */
    ask(&scene, 0, "one.example", DNS_A);
    ask(&scene, 1, "one.example", DNS_A);
    ask(&scene, 2, "one.example", DNS_A);
    ask(&scene, 3, "one.example", DNS_A);
    scene.askers[0].then = forget_neighbour; /* while all are being told */
    scene.askers[2].then = ask_again;
    sim_enter(scene.process);
    dns_forget(scene.dns, &scene.askers[3].lookup);
    sim_leave(scene.process);
    run(&scene, 1);
    assert_int_equal(scene.askers[0].told, 1);
    assert_int_equal(scene.askers[1].told, 0);
    assert_int_equal(scene.askers[2].told, 2);
    assert_int_equal(scene.askers[3].told, 0);
    /* Told once more: nothing is left over. */
    dns_forget(scene.dns, &scene.askers[0].lookup);
    ask(&scene, 0, "one.example", DNS_A);
    run(&scene, 1);
    assert_int_equal(scene.askers[0].told, 2);
    assert_int_equal(scene.fake.asked_count, 1);
    stop(&scene);
}

static void impossible_names_are_not_asked(void **state)
{
    static struct scene_dns scene;
    static char long_name[400];

    memset(long_name, 'x', sizeof(long_name) - 1);
    start(&scene, zone, 16, 4);
    ask(&scene, 0, "", DNS_MX);
    ask(&scene, 1, "[192.0.2.1]", DNS_MX);
    ask(&scene, 2, long_name, DNS_MX);
    ask(&scene, 3, "a..b", DNS_MX);
    run(&scene, 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(scene.askers[i].told, 1);
        assert_int_equal(scene.askers[i].status, DNS_NO_NAME);
    }
    assert_int_equal(scene.fake.asked_count, 0);
    stop(&scene);
}

/* Answers of all sizes find a block, and come out as they went in. */
static void large_answers_are_kept_whole(void **state)
{
    static struct fake_record records[DNS_RECORD_COUNT_MAX + 1];
    static char texts[DNS_RECORD_COUNT_MAX][64];

    for (unsigned count = 1; count <= DNS_RECORD_COUNT_MAX; count += 9) {
        static struct scene_dns scene;

        memset(records, 0, sizeof(records));
        for (unsigned i = 0; i < count; i++) {
            snprintf(texts[i], sizeof(texts[i]), "%u mail-exchanger-number-%u.example", i + 1, i);
            records[i] = (struct fake_record){"large.example", DNS_MX, texts[i], 0, 0};
        }
        start(&scene, records, 4, 4);
        ask(&scene, 0, "large.example", DNS_MX);
        run(&scene, 1);
        ask(&scene, 1, "large.example", DNS_MX);
        run(&scene, 1);
        assert_int_equal(scene.askers[0].record_count, count);
        assert_int_equal(scene.askers[1].record_count, count);
        assert_memory_equal(scene.askers[1].first, "\0\1mail-exchanger", 16);
        assert_int_equal(scene.fake.asked_count, 1);
        stop(&scene);
    }
}

/* Whatever memory there is: each lookup is told once. */
static void without_memory_lookups_fail_softly(void **state)
{
    unsigned failures = 0;

    for (uint32_t rate = 1; rate <= 5; rate++) {
        static struct scene_dns scene;

        start(&scene, zone, 4096, 64);
        sim_faults(scene.world)->alloc_failed = rate;
        for (unsigned i = 0; i < 64; i++) {
            char name[32];

            snprintf(name, sizeof(name), i % 2 == 0 ? "one.example" : "n%u.example", i);
            ask(&scene, i, name, i % 4 == 0 ? DNS_AAAA : DNS_A);
        }
        sim_faults(scene.world)->alloc_failed = 0;
        run(&scene, 60);
        for (unsigned i = 0; i < 64; i++) {
            assert_int_equal(scene.askers[i].told, 1);
            failures += scene.askers[i].status == DNS_FAILURE;
        }
        stop(&scene);
    }
    assert_true(failures > 0);
}

/* ---- What fuzzing found -------------------------------------------------------------------- */

static void fuzz_corpus_is_survived(void **state)
{
    DIR *folder = opendir(DNS_CORPUS);
    unsigned count = 0;

    assert_non_null(folder);
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        static const uint16_t types[] = {DNS_A, DNS_MX, DNS_AAAA};
        char path[1024];
        uint8_t *bytes = malloc(65536);
        FILE *file;
        size_t len;

        if (entry->d_name[0] == '.') {
            free(bytes);
            continue;
        }
        snprintf(path, sizeof(path), "%s/%s", DNS_CORPUS, entry->d_name);
        file = fopen(path, "rb");
        assert_non_null(file);
        len = fread(bytes, 1, 65536, file);
        fclose(file);
        bytes = realloc(bytes, len + (len == 0));
        for (unsigned i = 0; i < 3; i++) {
            struct dns_query answer = {.type = types[i], .status = DNS_OK};

            dns_answer_put_wire(&answer, slice_of(bytes, len));
            answer.data_bytes = (uint16_t)(len < DNS_DATA_MAX ? len : DNS_DATA_MAX);
            memcpy(answer.data, bytes, answer.data_bytes);
            dns_answer_check(&answer);
        }
        free(bytes);
        count++;
    }
    closedir(folder);
    assert_true(count > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_take_one_form),
        cmocka_unit_test(long_names_are_refused),
        cmocka_unit_test(a28_mx_rdata_from_the_wire),
        cmocka_unit_test(a28_texts_and_names_from_the_wire),
        cmocka_unit_test(a28_addresses_have_their_length),
        cmocka_unit_test(a28_a_thousand_records_are_cut),
        cmocka_unit_test(a28_answers_that_contradict_themselves),
        cmocka_unit_test(answers_come_and_are_kept),
        cmocka_unit_test(a29_times_to_live_are_clamped),
        cmocka_unit_test(equal_questions_travel_once),
        cmocka_unit_test(questions_beyond_the_limit_wait_their_turn),
        cmocka_unit_test(the_cache_is_bounded),
        cmocka_unit_test(forgotten_lookups_are_not_told),
        cmocka_unit_test(impossible_names_are_not_asked),
        cmocka_unit_test(large_answers_are_kept_whole),
        cmocka_unit_test(without_memory_lookups_fail_softly),
        cmocka_unit_test(fuzz_corpus_is_survived),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
