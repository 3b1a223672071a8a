/*
 * Accounting files on a real spool in the simulated world. Lives end at any disk call; whatever
 * happens, every outcome that was answered as durable has exactly one row, no outcome has two, and
 * rows stand in the order of the log. Segments are small, so that the spool recycles what the
 * cursor has passed.
 */
#include "shard/account.h"

#include "core/base/log.h"
#include "core/base/mem.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define OUTCOMES_MAX 200000u
#define CURSOR       1u

struct life {
    struct io *spool_io;
    struct io *io;
    struct spool *spool;
    struct mailbox *to_spool;
    struct mailbox *from_spool;
    uint16_t client;
    struct account *account;
    struct spool_notice notice;
    bool notice_is_out;
    bool is_quiet; /* sends nothing new */
    uint32_t unanswered;
    struct io_timer timer;
};

/* Survives the lives. */
static struct {
    struct sim_world *world;
    struct sim_process *process;
    struct rng rng;
    uint64_t sent;              /* outcomes handed to the spool, numbered from 1 */
    bool durable[OUTCOMES_MAX]; /* answered so */
    uint64_t recycled;          /* the most that any life saw */
} test;

static struct life *life; /* of the process */

static const struct conf_acct_file settings = {
    .path = "/acct/acct.csv",
    .records = CONF_ACCT_DELIVERED,
    .move_to = "/acct/done",
    .move_interval_ms = 300,
    .max_size_bytes = 20000,
    .delete_after_ms = CONF_UNLIMITED,
};

static void quiet(void *context, enum log_level level, const char *text)
{
}

/* ---- Outcomes in ----------------------------------------------------------------------------- */

struct sent {
    struct log_request request; /* first */
    struct iovec iov;
    uint64_t number;
    uint8_t bytes[512];
};

static void send_outcome(void)
{
    struct sent *sent = mem_alloc(sizeof(*sent));
    struct outcome outcome = {.kind = OUTCOME_DELIVERED, .message_id = 1};
    char rcpt[64];
    int len;

    assert_true(test.sent + 1 < OUTCOMES_MAX);
    sent->number = ++test.sent;
    snprintf(rcpt, sizeof(rcpt), "u%llu@example.net", (unsigned long long)sent->number);
    outcome.rcpt = slice_str(rcpt);
    outcome.logged_us = sent->number;
    len = outcome_encode(&outcome, sent->bytes, sizeof(sent->bytes));
    assert_true(len > 0);
    sent->iov = (struct iovec){sent->bytes, (size_t)len};
    sent->request.parcel.kind = SPOOL_APPEND_OUTCOME;
    sent->request.parcel.from = life->client;
    sent->request.payload = &sent->iov;
    sent->request.payload_count = 1;
    sent->request.payload_bytes = (uint32_t)len;
    sent->request.flags = LOG_WANTS_SYNC;
    life->unanswered++;
    mailbox_post(life->to_spool, &sent->request.parcel);
}

static void on_parcel(void *context, struct parcel *parcel)
{
    struct sent *sent;

    if (parcel->kind == SPOOL_CURSOR_AT) {
        life->notice_is_out = false;
        return;
    }
    assert_int_equal(parcel->kind, SPOOL_APPEND_OUTCOME);
    sent = container_of(parcel, struct sent, request.parcel);
    assert_int_equal(sent->request.status, 0);
    test.durable[sent->number] = true;
    life->unanswered--;
    mem_free(sent);
}

/* ---- Rows out -------------------------------------------------------------------------------- */

static void tell_spool(const struct log_place *done)
{
    if (life->notice_is_out)
        return;
    life->notice.parcel.kind = SPOOL_CURSOR_AT;
    life->notice.parcel.from = life->client;
    life->notice.number = CURSOR;
    life->notice.place = *done;
    life->notice_is_out = true;
    mailbox_post(life->to_spool, &life->notice.parcel);
}

static void on_wake(struct io_timer *timer)
{
    struct log_place done;
    struct spool_stats stats;

    for (uint64_t i = rng_below(&test.rng, 30); i > 0 && !life->is_quiet; i--)
        send_outcome();
    if (rng_one_in(&test.rng, 2))
        assert_true(account_advance(life->account, (uint32_t)rng_between(&test.rng, 1, 60)) >= 0);
    if (rng_one_in(&test.rng, 3)) {
        assert_int_equal(account_settle(life->account, &done), 0);
        tell_spool(&done);
    }
    spool_stats_read(life->spool, &stats);
    if (stats.recycled > test.recycled)
        test.recycled = stats.recycled;
    io_timer_arm(life->io, timer, io_now_ns(life->io) + 3000000);
}

/* ---- Lives ----------------------------------------------------------------------------------- */

static void on_message(void *context, const struct log_message_state *state)
{
}

static void on_named(void *context, const struct log_named *named)
{
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    fail_msg("%s:%llu: %s", file, (unsigned long long)offset, text);
}

static void start(void *context)
{
    const struct spool_options options = {
        .directories = {{.path = "/spool"}},
        .segment_bytes = 65536,
        .outcome_hold_ms = 5,
        .segment_count_max = 64,
    };
    const struct spool_recovery recovery = {
        .on_message = on_message,
        .on_named = on_named,
        .on_damage = on_damage,
    };
    struct spool_report report;

    life = mem_alloc(sizeof(*life));
    sim_io_create(test.world, test.process, &life->spool_io);
    sim_io_create(test.world, test.process, &life->io);
    assert_int_equal(io_dir_create(life->io, "/acct"), 0);
    assert_int_equal(io_dir_create(life->io, "/acct/done"), 0);
    assert_int_equal(io_dir_create(life->io, "/spool"), 0);
    assert_int_equal(io_dir_sync(life->io, "/acct"), 0);
    assert_int_equal(io_dir_sync(life->io, "/"), 0);
    /* A killed life's lock on the spool stands for a moment. */
    if (spool_open(life->spool_io, &options, &recovery, &life->spool, &report) < 0) {
        life->spool = NULL;
        return;
    }
    life->to_spool = mailbox_create(64, life->io, life->spool_io);
    life->from_spool = mailbox_create(64, life->spool_io, life->io);
    life->client = spool_client_add(life->spool, life->to_spool, life->from_spool, false);
    mailbox_listen(life->from_spool, on_parcel, NULL);
    assert_int_equal(
        account_open(life->io, life->spool, &settings, "/spool", CURSOR, &life->account), 0);
    io_timer_init(&life->timer, on_wake);
    io_timer_arm(life->io, &life->timer, io_now_ns(life->io) + 1000000);
}

static void on_crash(void *context)
{
    test.process = NULL;
    life = NULL;
}

static void begin_life(void)
{
    while (life == NULL || life->spool == NULL) {
        if (test.process != NULL)
            sim_crash(test.world, test.process, SIM_KILL);
        test.process = sim_process_create(test.world);
        life = NULL;
        assert_true(sim_run_in(test.process, start, NULL));
        if (life->spool == NULL)
            sim_run_for(test.world, 100000000);
    }
}

/* ---- Judgement ------------------------------------------------------------------------------- */

struct reading {
    uint64_t last;
    uint64_t rows;
    char *text;
    char names[4096][64];
    uint32_t count;
};

static void on_path(void *context, const char *path)
{
    struct reading *reading = context;

    if (strstr(path, ".csv") == NULL)
        return;
    assert_true(reading->count < 4096);
    snprintf(reading->names[reading->count++], sizeof(reading->names[0]), "%s", path);
}

static int by_base_name(const void *a, const void *b)
{
    return strcmp(strrchr(a, '/'), strrchr(b, '/'));
}

static void read_rows(struct reading *reading, const char *path)
{
    int64_t len = sim_disk_size(test.world, path);
    char *text = malloc((size_t)len + 1);
    char *line = text;

    assert_int_equal(sim_disk_peek(test.world, path, text, (size_t)len, 0), len);
    text[len] = '\0';
    assert_memory_equal(text, "type,", 5);
    while ((line = strstr(line, "\r\n")) != NULL && line[2] != '\0') {
        unsigned long long number;

        line += 2;
        assert_int_equal(sscanf(line, "d,0,0,,u%llu@example.net,", &number), 1);
        assert_true(number > reading->last);
        /* Whatever is left out between two rows was never promised. */
        for (uint64_t i = reading->last + 1; i < number; i++)
            assert_false(test.durable[i]);
        reading->last = number;
        reading->rows++;
    }
    free(text);
}

static void judge(void)
{
    static struct reading reading;

    reading = (struct reading){0};
    sim_disk_list(test.world, on_path, &reading);
    qsort(reading.names, reading.count, sizeof(reading.names[0]), by_base_name);
    for (uint32_t i = 0; i < reading.count; i++)
        read_rows(&reading, reading.names[i]);
    for (uint64_t i = reading.last + 1; i <= test.sent; i++)
        assert_false(test.durable[i]);
    assert_true(reading.rows > 0);
}

static void settle_all(void)
{
    struct log_place done;

    life->is_quiet = true;
    for (int i = 0; life->unanswered > 0; i++) {
        assert_true(i < 1000);
        sim_run_for(test.world, 10000000);
    }
    sim_run_for(test.world, 200000000);
    sim_enter(test.process);
    while (account_advance(life->account, 1000) > 0)
        continue;
    assert_int_equal(account_settle(life->account, &done), 0);
    sim_leave(test.process);
}

static void many_lives(uint64_t seed)
{
    struct sim_options options = {0};

    memset(&test, 0, sizeof(test));
    rng_init(&test.rng, seed);
    test.world = sim_world_create(seed, &options);
    life = NULL;
    for (int i = 0; i < 12; i++) {
        enum sim_crash_kind kind = rng_one_in(&test.rng, 2) ? SIM_KILL : SIM_POWER_CUT;

        begin_life();
        sim_crash_after(test.process, kind, rng_between(&test.rng, 1, 1500), on_crash, NULL);
        for (int k = 0; k < 1500 && test.process != NULL; k++)
            sim_run_for(test.world, 5000000);
        if (test.process != NULL)
            sim_crash(test.world, test.process, kind);
        on_crash(NULL);
    }
    begin_life();
    settle_all();
    judge();
    sim_world_destroy(test.world);
}

static void durable_outcomes_have_one_row_whatever_ends_a_life(void **state)
{
    uint64_t recycled = 0;

    log_set_sink(quiet, NULL);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        many_lives(seed);
        recycled += test.recycled;
    }
    log_set_sink(NULL, NULL);
    assert_true(recycled > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durable_outcomes_have_one_row_whatever_ends_a_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
