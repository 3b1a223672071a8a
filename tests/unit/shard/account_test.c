/*
 * Accounting files in the simulated world, on a log that is only an array here: every life may end
 * between any two disk calls, consumers take finished files away, and in the end each outcome must
 * stand in the files exactly once and in order.
 */
#include "shard/account.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"

#include <errno.h>
#include <stdio.h>

#define OUTCOME_COUNT 400u
#define FILE_COUNT    1024
#define HEADER_START  "type,timeLogged,"

/* ---- The log -------------------------------------------------------------------------------- */

struct spool {
    uint8_t records[OUTCOME_COUNT][512];
    uint32_t lens[OUTCOME_COUNT];
    uint32_t durable;  /* outcomes that a cursor may see */
    uint32_t released; /* before this one the log may have forgotten everything */
};

struct spool_cursor {
    struct spool *spool;
    uint32_t at;
};

static struct spool the_log;

struct spool_cursor *spool_cursor_create(struct spool *spool, struct io *io, uint64_t number,
                                         const struct log_place *from)
{
    struct spool_cursor *cursor = mem_alloc(sizeof(*cursor));

    cursor->spool = spool;
    cursor->at = from->serial == 0 ? 0 : from->offset;
    assert_true(cursor->at >= spool->released);
    return cursor;
}

void spool_cursor_destroy(struct spool_cursor *cursor)
{
    mem_free(cursor);
}

int spool_cursor_next(struct spool_cursor *cursor, struct slice *ret_outcome,
                      struct log_place *ret_after)
{
    struct spool *spool = cursor->spool;

    if (cursor->at == spool->durable)
        return 0;
    *ret_outcome = slice_of(spool->records[cursor->at], spool->lens[cursor->at]);
    cursor->at++;
    *ret_after = (struct log_place){.serial = 1, .offset = cursor->at};
    return 1;
}

/* Every third outcome is transient, one in eleven is for recovery only. */
static void fill_log(void)
{
    memset(&the_log, 0, sizeof(the_log));
    for (uint32_t i = 0; i < OUTCOME_COUNT; i++) {
        char rcpt[64];
        char diag[256];
        struct outcome outcome = {
            .kind = i % 3 == 0 ? OUTCOME_TRANSIENT : OUTCOME_DELIVERED,
            .flags = i % 11 == 0 ? OUTCOME_NO_ACCOUNTING : 0,
            .logged_us = 1700000000000000ull + i,
        };
        int len;

        snprintf(rcpt, sizeof(rcpt), "u%u@example.net", i);
        snprintf(diag, sizeof(diag), "250 %0*u", (int)(i % 200) + 1, i);
        outcome.rcpt = slice_str(rcpt);
        outcome.diag = slice_str(diag);
        len = outcome_encode(&outcome, the_log.records[i], sizeof(the_log.records[i]));
        assert_true(len > 0);
        the_log.lens[i] = (uint32_t)len;
    }
    the_log.durable = OUTCOME_COUNT;
}

static bool has_row(uint32_t i, unsigned records)
{
    unsigned record = i % 3 == 0 ? CONF_ACCT_TRANSIENT : CONF_ACCT_DELIVERED;

    return i % 11 != 0 && (records & record) != 0;
}

/* ---- The world ------------------------------------------------------------------------------ */

struct taken_file {
    char name[128];
    char *text;
    size_t len;
};

struct fixture {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct account *account;
    struct conf_acct_file settings;
    struct rng rng;
    uint64_t calls; /* disk calls of the life that just ended */
    uint32_t settled;
    uint32_t file_count;
    struct taken_file files[FILE_COUNT];
};

static void quiet(void *context, enum log_level level, const char *text)
{
}

static void prepare(void *context)
{
    struct fixture *f = context;

    assert_int_equal(io_dir_create(f->io, "/spool"), 0);
    assert_int_equal(io_dir_create(f->io, "/acct"), 0);
    assert_int_equal(io_dir_create(f->io, "/acct/done"), 0);
    assert_int_equal(io_dir_sync(f->io, "/"), 0);
    assert_int_equal(io_dir_sync(f->io, "/acct"), 0);
}

static void start_life(struct fixture *f)
{
    f->process = sim_process_create(f->world);
    sim_io_create(f->world, f->process, &f->io);
    f->account = NULL;
}

static void fixture_open(struct fixture *f, uint64_t seed, const struct sim_faults *faults)
{
    struct sim_options options = {0};

    fill_log();
    log_set_sink(quiet, NULL);
    memset(f, 0, sizeof(*f));
    rng_init(&f->rng, seed);
    f->settings = (struct conf_acct_file){
        .path = "/acct/acct.csv",
        .records = CONF_ACCT_DELIVERED | CONF_ACCT_BOUNCED | CONF_ACCT_TRANSIENT,
        .move_to = "/acct/done",
        .move_interval_ms = 60000,
        .max_size_bytes = 4000,
        .delete_after_ms = CONF_UNLIMITED,
        .iso_times = true,
    };
    f->world = sim_world_create(seed, &options);
    start_life(f);
    assert_true(sim_run_in(f->process, prepare, f));
    if (faults != NULL)
        *sim_faults(f->world) = *faults;
}

static void free_account(void *context)
{
    struct fixture *f = context;

    account_close(f->account);
    f->account = NULL;
}

static void fixture_close(struct fixture *f)
{
    if (f->account != NULL)
        sim_run_in(f->process, free_account, f);
    sim_world_destroy(f->world);
    for (uint32_t i = 0; i < f->file_count; i++)
        free(f->files[i].text);
    log_set_sink(NULL, NULL);
}

static void on_crash(void *context)
{
    struct fixture *f = context;

    f->process = NULL;
    f->account = NULL;
}

static void on_settled(void *context, const struct log_place *done)
{
    struct fixture *f = context;

    f->settled = done->serial == 0 ? 0 : done->offset;
    assert_true(f->settled >= the_log.released);
    the_log.released = f->settled;
}

static void settle(struct fixture *f)
{
    struct log_place done;

    if (account_settle(f->account, &done) >= 0)
        on_settled(f, &done);
}

static void one_step(void *context)
{
    struct fixture *f = context;

    if (f->account == NULL) {
        account_open(f->io, &the_log, &f->settings, "/spool", 1, &f->account);
        return;
    }
    if (account_is_settling(f->account))
        assert_int_equal(account_advance(f->account, 1), 0);
    else if (rng_one_in(&f->rng, 6))
        settle(f);
    else if (rng_one_in(&f->rng, 3))
        account_settle_begin(f->account, on_settled, f);
    else
        account_advance(f->account, (uint32_t)rng_between(&f->rng, 1, 30));
}

/* False when the life ended inside. */
static bool step(struct fixture *f)
{
    bool lived = sim_run_in(f->process, one_step, f);

    sim_run_for(f->world, rng_below(&f->rng, 12) * 1000000000ull);
    return lived;
}

/* ---- Consumers ------------------------------------------------------------------------------ */

static void take_file(struct fixture *f, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    struct taken_file *file = &f->files[f->file_count];
    int64_t len = sim_disk_size(f->world, path);

    assert_true(f->file_count < FILE_COUNT && len >= 0);
    for (uint32_t i = 0; i < f->file_count; i++)
        assert_string_not_equal(f->files[i].name, name);
    snprintf(file->name, sizeof(file->name), "%s", name);
    file->text = malloc((size_t)len + 1);
    file->len = (size_t)len;
    assert_int_equal(sim_disk_peek(f->world, path, file->text, file->len, 0), len);
    file->text[len] = '\0';
    f->file_count++;
}

struct listing {
    const char *directory;
    char paths[FILE_COUNT][128];
    uint32_t count;
};

static void on_path(void *context, const char *path)
{
    struct listing *listing = context;
    size_t len = strlen(listing->directory);

    if (strncmp(path, listing->directory, len) == 0 && strstr(path, ".csv") != NULL)
        snprintf(listing->paths[listing->count++], sizeof(listing->paths[0]), "%s", path);
}

static void take_files(struct fixture *f, const char *directory)
{
    static struct listing listing;

    listing = (struct listing){.directory = directory};
    sim_disk_list(f->world, on_path, &listing);
    for (uint32_t i = 0; i < listing.count; i++) {
        take_file(f, listing.paths[i]);
        assert_int_equal(sim_disk_remove(f->world, listing.paths[i]), 0);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct taken_file *)a)->name, ((const struct taken_file *)b)->name);
}

/* The number in "uNNN@example.net" of the row at text; moves *text behind the row. */
static uint32_t next_row(char **text)
{
    char *end = strstr(*text, "\r\n");
    char *rcpt = strstr(*text, ",u");
    uint32_t number;

    assert_non_null(end);
    assert_non_null(rcpt);
    assert_true(rcpt < end);
    assert_int_equal(sscanf(rcpt, ",u%u@example.net,", &number), 1);
    *text = end + 2;
    return number;
}

/* Every file begins with a header; all rows together are what the log holds, once and in order. */
static void assert_exact(struct fixture *f)
{
    uint32_t wanted = 0;

    take_files(f, "/acct/");
    qsort(f->files, f->file_count, sizeof(f->files[0]), compare_names);
    for (uint32_t i = 0; i < f->file_count; i++) {
        char *text = f->files[i].text;

        assert_int_equal(strlen(text), f->files[i].len);
        assert_memory_equal(text, HEADER_START, strlen(HEADER_START));
        text = strstr(text, "\r\n") + 2;
        assert_true(*text != '\0');
        while (*text != '\0') {
            while (wanted < OUTCOME_COUNT && !has_row(wanted, f->settings.records))
                wanted++;
            assert_int_equal(next_row(&text), wanted);
            wanted++;
        }
    }
    while (wanted < OUTCOME_COUNT && !has_row(wanted, f->settings.records))
        wanted++;
    assert_int_equal(wanted, OUTCOME_COUNT);
}

static void run_to_the_end(struct fixture *f)
{
    for (int i = 0; f->settled < OUTCOME_COUNT; i++) {
        assert_true(i < 10000);
        assert_true(step(f));
    }
}

/* ---- Tests ---------------------------------------------------------------------------------- */

static void rows_stand_once_without_any_trouble(void **state)
{
    static struct fixture f;

    fixture_open(&f, 1, NULL);
    run_to_the_end(&f);
    assert_exact(&f);
    assert_true(f.file_count > 5);
    assert_string_equal(f.files[0].name, "acct-2026-01-01-0000.csv");
    assert_string_equal(f.files[1].name, "acct-2026-01-01-0001.csv");
    for (uint32_t i = 0; i < f.file_count; i++)
        assert_true(f.files[i].len <= f.settings.max_size_bytes);
    fixture_close(&f);
}

static void only_wanted_records_get_rows(void **state)
{
    static struct fixture f;

    fixture_open(&f, 2, NULL);
    f.settings.records = CONF_ACCT_TRANSIENT;
    f.settings.max_size_bytes = 1000000;
    f.settings.move_to = NULL;
    run_to_the_end(&f);
    assert_exact(&f);
    assert_int_equal(f.file_count, 1);
    fixture_close(&f);
}

/* One life ends before the nth disk call, a second one brings it to the end. */
static bool crash_once(enum sim_crash_kind kind, uint64_t nth)
{
    static struct fixture f;
    bool crashed = false;

    fixture_open(&f, 1000 + nth, NULL);
    f.settings.move_interval_ms = 20000;
    sim_crash_after(f.process, kind, nth, on_crash, &f);
    for (int i = 0; i < 10000 && f.settled < OUTCOME_COUNT && !crashed; i++) {
        crashed = !step(&f) || f.process == NULL;
        if (f.account != NULL && !crashed && rng_one_in(&f.rng, 4))
            take_files(&f, "/acct/done/");
    }
    if (crashed)
        start_life(&f);
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
    return crashed;
}

static void every_end_between_two_steps_is_survived(enum sim_crash_kind kind)
{
    uint64_t nth = 1;

    while (crash_once(kind, nth))
        nth++;
    assert_true(nth > 100);
}

static void a_kill_between_any_two_steps_loses_and_doubles_nothing(void **state)
{
    every_end_between_two_steps_is_survived(SIM_KILL);
}

static void a_power_cut_between_any_two_steps_loses_and_doubles_nothing(void **state)
{
    every_end_between_two_steps_is_survived(SIM_POWER_CUT);
}

/*
 * Many short lives in a row, on a disk that fails in every way a call can tell. Where names fail a
 * consumer could take a file whose move is undone by a power cut, so there is none then.
 */
static void live_dangerously(uint64_t seed)
{
    struct sim_faults faults = sim_faults_none();
    bool has_consumer = seed % 2 == 0;
    static struct fixture f;

    faults.open_failed = 20;
    faults.write_failed = 20;
    faults.write_no_space = 20;
    faults.sync_failed = 20;
    faults.name_failed = has_consumer ? 0 : 20;
    faults.page_written_early = 3;
    fixture_open(&f, seed, &faults);
    for (int life = 0; life < 30 && f.settled < OUTCOME_COUNT; life++) {
        enum sim_crash_kind kind = rng_one_in(&f.rng, 2) ? SIM_KILL : SIM_POWER_CUT;

        sim_crash_after(f.process, kind, rng_between(&f.rng, 1, 150), on_crash, &f);
        while (f.settled < OUTCOME_COUNT && f.process != NULL) {
            step(&f);
            if (has_consumer && f.account != NULL && rng_one_in(&f.rng, 5))
                take_files(&f, "/acct/done/");
        }
        if (f.process == NULL)
            start_life(&f);
    }
    *sim_faults(f.world) = sim_faults_none();
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
}

static void a_failing_disk_and_many_lives_lose_and_double_nothing(void **state)
{
    for (uint64_t seed = 1; seed <= 400; seed++)
        live_dangerously(seed);
}

static void a_full_disk_stops_the_cursor_and_shows(void **state)
{
    struct account_status status;
    static struct fixture f;

    fixture_open(&f, 5, NULL);
    step(&f);
    assert_non_null(f.account);
    sim_disk_limit(f.world, sim_disk_used(f.world));
    for (int i = 0; i < 100; i++)
        step(&f);
    account_status_read(f.account, &status);
    assert_true(status.stalled_ns > 60000000000ull);
    assert_int_equal(status.error, -ENOSPC);
    assert_int_equal(f.settled, 0);
    sim_disk_limit(f.world, 1000000000);
    run_to_the_end(&f);
    account_status_read(f.account, &status);
    assert_int_equal(status.stalled_ns, 0);
    assert_int_equal(status.error, 0);
    assert_int_equal(status.skipped, 0);
    assert_exact(&f);
    fixture_close(&f);
}

static void a_quiet_file_is_moved_after_its_interval(void **state)
{
    static struct fixture f;

    fixture_open(&f, 6, NULL);
    f.settings.max_size_bytes = 1000000;
    the_log.durable = 10;
    for (int i = 0; i < 100; i++)
        step(&f);
    assert_int_equal(f.settled, 10);
    take_files(&f, "/acct/done/");
    assert_int_equal(f.file_count, 1);
    the_log.durable = OUTCOME_COUNT;
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
}

/* How many files of the day, and how many in all, are in the directory. */
static uint32_t count_files(struct fixture *f, const char *directory, const char *day,
                            uint32_t *ret_all)
{
    static struct listing listing;
    uint32_t count = 0;

    listing = (struct listing){.directory = directory};
    sim_disk_list(f->world, on_path, &listing);
    *ret_all = listing.count;
    for (uint32_t i = 0; i < listing.count; i++)
        count += strstr(listing.paths[i], day) != NULL;
    return count;
}

/* Half of the rows on one day, half on the next; then these days go by, and it is looked after. */
static void write_and_wait(struct fixture *f, uint64_t days)
{
    f->settings.delete_after_ms = 2 * 86400000ull;
    the_log.durable = 200;
    for (int i = 0; i < 300; i++)
        step(f);
    sim_run_for(f->world, 86400000000000ull);
    the_log.durable = OUTCOME_COUNT;
    run_to_the_end(f);
    sim_run_for(f->world, days * 86400000000000ull);
    for (int i = 0; i < 10; i++)
        step(f);
}

static void old_files_are_removed(void **state)
{
    static struct fixture f;
    uint32_t all, first_day;

    /* After two days the first day's files are old, but for the last one: rows of the second day
     * may have come to it. */
    fixture_open(&f, 7, NULL);
    f.settings.move_to = NULL;
    write_and_wait(&f, 2);
    first_day = count_files(&f, "/acct/acct", "acct-2026-01-01-", &all);
    assert_int_equal(first_day, 1);
    assert_true(all > 3);
    /* After many, all are but the one that is being written. */
    sim_run_for(f.world, 20 * 86400000000000ull);
    for (int i = 0; i < 10; i++)
        step(&f);
    count_files(&f, "/acct/acct", "acct-2026-01-01-", &all);
    assert_int_equal(all, 1);
    fixture_close(&f);
}

static void files_that_were_moved_stay(void **state)
{
    static struct fixture f;
    uint32_t all;

    fixture_open(&f, 7, NULL);
    write_and_wait(&f, 20);
    assert_true(count_files(&f, "/acct/done/", "acct-2026-01-01-", &all) > 2);
    fixture_close(&f);
}

static void find_state(void *context, const char *path)
{
    char *room = context;

    if (strncmp(path, "/spool/accounting-", strlen("/spool/accounting-")) == 0)
        strcpy(room, path);
}

/* Either slot alone is enough: with the newer one gone, the older one tells where to go on. */
static void one_damaged_slot_costs_nothing(void **state)
{
    static struct fixture f;
    char path[128] = "";

    for (uint64_t slot = 0; slot < 2; slot++) {
        fixture_open(&f, 8 + slot, NULL);
        the_log.durable = 300;
        while (f.settled < 300)
            step(&f);
        assert_true(sim_run_in(f.process, free_account, &f));
        sim_disk_list(f.world, find_state, path);
        assert_int_equal(sim_disk_poke(f.world, path, "x", 1, slot * 4096 + 100), 1);
        the_log.durable = OUTCOME_COUNT;
        the_log.released = 0;
        f.settled = 0;
        run_to_the_end(&f);
        assert_exact(&f);
        fixture_close(&f);
    }
}

/* ---- Situations that chance seldom brings about ---------------------------------------------- */

static void open_account(void *context)
{
    struct fixture *f = context;

    assert_int_equal(account_open(f->io, &the_log, &f->settings, "/spool", 1, &f->account), 0);
}

static void take_rows(void *context)
{
    struct fixture *f = context;

    while (account_advance(f->account, 1000) > 0)
        continue;
}

static void rewind_only(void *context)
{
    struct fixture *f = context;

    account_advance(f->account, 0);
}

static void settle_once(void *context)
{
    settle(context);
}

static void end_life(struct fixture *f, enum sim_crash_kind kind)
{
    if (f->process != NULL)
        sim_crash(f->world, f->process, kind);
    start_life(f);
}

/*
 * A state whose store failed may be what the next life finds. When the file is cut back in between,
 * that state must not count on rows that are gone.
 */
static void an_uncertain_state_is_settled_before_rows_are_taken_back(void **state)
{
    static struct fixture f;

    fixture_open(&f, 9, NULL);
    f.settings.max_size_bytes = 1000000;
    the_log.durable = 50;
    sim_run_in(f.process, open_account, &f);
    sim_run_in(f.process, take_rows, &f);
    sim_run_in(f.process, settle_once, &f);
    assert_int_equal(f.settled, 50);
    the_log.durable = 100;
    sim_run_in(f.process, take_rows, &f);
    sim_disk_script(f.world, SIM_DISK_SYNC, "accounting-", 1, -EIO);
    sim_run_in(f.process, settle_once, &f);
    the_log.durable = 150;
    sim_run_in(f.process, take_rows, &f);
    sim_disk_script(f.world, SIM_DISK_SYNC, ".csv", 1, -EIO);
    sim_run_in(f.process, settle_once, &f);
    assert_int_equal(f.settled, 50);
    assert_int_equal(sim_disk_scripts_left(f.world), 0);
    sim_run_in(f.process, rewind_only, &f);
    end_life(&f, SIM_KILL);
    the_log.durable = OUTCOME_COUNT;
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
}

/* What a killed life left in memory only is found by the next one, but no power cut spares it. */
static bool cut_after_unsynced_state(uint64_t first_sync, uint64_t nth)
{
    static struct fixture f;
    bool crashed;

    fixture_open(&f, 10, NULL);
    sim_run_in(f.process, open_account, &f);
    sim_disk_script(f.world, SIM_DISK_SYNC, "accounting-", first_sync, -EIO);
    for (int i = 0; i < 200 && sim_disk_scripts_left(f.world) > 0; i++)
        step(&f);
    end_life(&f, SIM_KILL);
    sim_crash_after(f.process, SIM_POWER_CUT, nth, on_crash, &f);
    for (int i = 0; i < 1000 && f.process != NULL && f.settled < OUTCOME_COUNT; i++)
        step(&f);
    crashed = f.process == NULL;
    if (crashed)
        start_life(&f);
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
    return crashed;
}

static void a_state_of_a_killed_life_is_made_durable_first(void **state)
{
    for (uint64_t first_sync = 1; first_sync <= 6; first_sync++) {
        uint64_t nth = 1;

        while (nth < 60 && cut_after_unsynced_state(first_sync, nth))
            nth++;
        assert_true(nth > 20);
    }
}

static void try_to_open(void *context)
{
    struct fixture *f = context;

    account_open(f->io, &the_log, &f->settings, "/spool", 1, &f->account);
}

/* A size that a failed sync forgot is not made good by writing inside it. */
static void the_slots_exist_durably_before_they_are_used(void **state)
{
    static struct fixture f;

    fixture_open(&f, 11, NULL);
    sim_disk_script(f.world, SIM_DISK_SYNC, "accounting-", 1, -EIO);
    sim_run_in(f.process, try_to_open, &f);
    the_log.durable = 200;
    while (f.settled < 200)
        step(&f);
    assert_int_equal(sim_disk_scripts_left(f.world), 0);
    end_life(&f, SIM_POWER_CUT);
    the_log.durable = OUTCOME_COUNT;
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
}

/* Killed between the move and its sync, then a consumer, then a power cut. */
static bool cut_after_kill(uint64_t nth)
{
    static struct fixture f;
    bool crashed;

    fixture_open(&f, 12, NULL);
    f.settings.move_interval_ms = 20000;
    sim_crash_after(f.process, SIM_KILL, nth, on_crash, &f);
    for (int i = 0; i < 1000 && f.process != NULL && f.settled < OUTCOME_COUNT; i++)
        step(&f);
    crashed = f.process == NULL;
    if (crashed)
        start_life(&f);
    if (f.account == NULL)
        sim_run_in(f.process, open_account, &f);
    take_files(&f, "/acct/done/");
    end_life(&f, SIM_POWER_CUT);
    f.account = NULL;
    run_to_the_end(&f);
    assert_exact(&f);
    fixture_close(&f);
    return crashed;
}

static void what_a_consumer_took_stays_taken(void **state)
{
    uint64_t nth = 1;

    while (cut_after_kill(nth))
        nth++;
    assert_true(nth > 100);
}

/* Somebody else's file of that name is in the way: both stay. */
static void a_move_replaces_nothing(void **state)
{
    static const char taken[] = "/acct/done/acct-2026-01-01-0000.csv";
    static struct fixture f;
    int64_t len;

    fixture_open(&f, 13, NULL);
    the_log.durable = 10;
    sim_run_in(f.process, open_account, &f);
    sim_run_in(f.process, take_rows, &f);
    sim_run_in(f.process, settle_once, &f);
    len = sim_disk_size(f.world, "/acct/acct-2026-01-01-0000.csv");
    assert_true(len > 0);
    assert_int_equal(sim_disk_copy(f.world, "/acct/acct-2026-01-01-0000.csv", taken), 0);
    the_log.durable = OUTCOME_COUNT;
    run_to_the_end(&f);
    assert_int_equal(sim_disk_size(f.world, taken), len);
    assert_int_equal(sim_disk_remove(f.world, taken), 0);
    assert_exact(&f);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_stand_once_without_any_trouble),
        cmocka_unit_test(only_wanted_records_get_rows),
        cmocka_unit_test(a_kill_between_any_two_steps_loses_and_doubles_nothing),
        cmocka_unit_test(a_power_cut_between_any_two_steps_loses_and_doubles_nothing),
        cmocka_unit_test(a_failing_disk_and_many_lives_lose_and_double_nothing),
        cmocka_unit_test(a_full_disk_stops_the_cursor_and_shows),
        cmocka_unit_test(a_quiet_file_is_moved_after_its_interval),
        cmocka_unit_test(old_files_are_removed),
        cmocka_unit_test(files_that_were_moved_stay),
        cmocka_unit_test(one_damaged_slot_costs_nothing),
        cmocka_unit_test(an_uncertain_state_is_settled_before_rows_are_taken_back),
        cmocka_unit_test(a_state_of_a_killed_life_is_made_durable_first),
        cmocka_unit_test(the_slots_exist_durably_before_they_are_used),
        cmocka_unit_test(what_a_consumer_took_stays_taken),
        cmocka_unit_test(a_move_replaces_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
