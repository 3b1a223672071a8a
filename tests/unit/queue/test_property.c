/*
 * The spool's promises under power cuts, kills, failed writes and syncs, and full disks, on the
 * simulator's disk: for each seed a history of several lives, judged by the ledger after each. The
 * spool has one to three devices, of which some fail or fill by themselves; between lives one may
 * be added, or set to deliver only and, once it is empty, left out.
 *
 *   test_queue_property              the seeds of every build
 *   test_queue_property FIRST COUNT  others; a third argument tells their course
 *   test_queue_property planted      every planted bug must be found
 */
#include "core/base/err.h"
#include "core/base/must.h"
#include "queue/envelope.h"
#include "queue/planted.h"
#include "queue/scan.h"
#include "queue/spool_int.h"
#include "tests/sim/sim.h"
#include "tests/unit/queue/life.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS             1000000ull
#define SEEDS          400
#define PLANTED_SEEDS  4000
#define PATIENCE_STEPS 2000000ull

static const char *planted_name;

bool planted_active(const char *name)
{
    return planted_name != NULL && strcmp(planted_name, name) == 0;
}

/* ---- One history ---------------------------------------------------------------------------- */

struct history {
    uint64_t seed;
    struct rng rng;
    struct sim_world *world;
    struct sim_process *process; /* NULL after its crash */
    struct io *spool_io;
    struct io *client_io;
    struct ledger ledger;
    struct life life;
    struct life_options options;
    uint32_t device_count; /* directories named */
    uint32_t priorities[3];
    uint32_t drained;   /* index of the one that only delivers; 0 = none */
    bool lists_all;     /* the superblock knows all of them */
    bool may_leave_out; /* ... and it was seen to be empty */
    bool two_loops;
    bool by_sync;
    bool has_faults;
    bool has_limit;
    bool is_in_doubt; /* a batch of messages failed, its void is not durable yet */
    bool is_mending;  /* ... and the commit that it waits for failed too */
    bool cut_is_due;  /* the next crash is a power cut */
    int open_result;
    uint64_t lives;
    uint64_t checkpoints;
    uint64_t recycled;
    uint64_t voids;
    uint64_t poisoned;
    uint64_t refused_low;
};

struct totals {
    uint64_t histories;
    uint64_t lives;
    uint64_t messages;
    uint64_t recovered;
    uint64_t checkpoints;
    uint64_t recycled;
    uint64_t voids;
    uint64_t poisoned;
    uint64_t low;
    uint64_t voids_mended; /* the commit that a void of messages waited for failed as well */
    uint64_t killed_in_doubt;
    uint64_t evacuations;
    uint64_t chunked_kept;
    uint64_t chunked_moved;
    uint64_t chunked_dropped;
    uint64_t chunked_read;
    uint64_t by_devices[4]; /* lives with so many */
    uint64_t added;
    uint64_t left_out;
    uint64_t refused; /* openings without one of the devices */
    uint64_t rested;  /* lives in which a device rested while another took mail */
};

static struct totals totals;
static bool is_told; /* the course of the history goes to standard error */

#define tell(...)                                                                                  \
    do {                                                                                           \
        if (is_told)                                                                               \
            fprintf(stderr, __VA_ARGS__);                                                          \
    } while (0)

static void on_crash(void *context)
{
    struct history *h = context;

    h->process = NULL;
    tell("  crashed at a disk call\n");
}

static const char *const paths[] = {"/spool", "/second", "/third"};
#define DEVICES_MAX 3u

/* As the operator would write them down for the next life. */
static void name_devices(struct history *h)
{
    memset(h->options.spool.directories, 0, sizeof(h->options.spool.directories));
    for (uint32_t i = 0; i < h->device_count; i++) {
        h->options.spool.directories[i].path = paths[i];
        h->options.spool.directories[i].priority = h->priorities[i];
        h->options.spool.directories[i].deliver_only = i > 0 && i == h->drained;
    }
}

static void choose_devices(struct history *h)
{
    bool ranks = rng_one_in(&h->rng, 4);

    h->device_count = (uint32_t)rng_between(&h->rng, 1, DEVICES_MAX);
    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        h->priorities[i] = ranks ? (uint32_t)rng_between(&h->rng, 1, 2) : 1;
    name_devices(h);
}

/* Between two lives: one more, the last one to be emptied, or, once it is, to be left out. */
static void change_devices(struct history *h)
{
    if (h->may_leave_out) {
        h->device_count--;
        h->drained = 0;
        totals.left_out++;
    } else if (h->drained == 0 && h->device_count > 1 && rng_one_in(&h->rng, 6)) {
        h->drained = h->device_count - 1;
    } else if (h->drained == 0 && h->device_count < DEVICES_MAX && rng_one_in(&h->rng, 6)) {
        h->device_count++;
        h->lists_all = false;
        totals.added++;
    } else if (h->drained != 0 && rng_one_in(&h->rng, 6)) {
        h->drained = 0;
        h->lists_all = false;
    }
    h->may_leave_out = false;
    name_devices(h);
}

static void choose_options(struct history *h)
{
    struct rng *rng = &h->rng;
    uint64_t kind = rng_below(rng, 4);

    h->options.spool = (struct spool_options){
        .segment_bytes = rng_one_in(rng, 4) ? 131072 : 65536,
        .outcome_hold_ms = (uint32_t)rng_below(rng, 8),
        .segment_count_max = (uint32_t)rng_between(rng, 10, 24),
        .checkpoint_bytes = (uint32_t)rng_between(rng, 50000, 400000),
    };
    choose_devices(h);
    h->options.live_max = (uint32_t)rng_between(rng, 5, 50);
    h->options.large_one_in = rng_one_in(rng, 2) ? 30 : 0;
    h->options.chunked_one_in = rng_one_in(rng, 2) ? (uint32_t)rng_between(rng, 3, 20) : 0;
    h->options.burst_max = (uint32_t)rng_between(rng, 1, 25);
    h->options.no_cursor = rng_one_in(rng, 4);
    h->two_loops = rng_one_in(rng, 2);
    h->by_sync = rng_one_in(rng, 2);
    h->has_faults = kind >= 2;
    h->has_limit = kind == 1 || kind == 3;
    h->ledger.doubts_recovery = h->has_faults;
    h->ledger.doubts_messages = h->has_faults && h->has_limit;
}

static void set_faults(struct history *h, bool on)
{
    struct sim_faults *faults = sim_faults(h->world);

    *faults = on ? sim_faults_mild() : sim_faults_none();
    sim_disk_script_clear(h->world);
    faults->disk_stalled = 0;
    faults->loop_stalled = 0;
    if (on && h->has_faults) {
        faults->write_failed = (uint32_t)rng_between(&h->rng, 30, 400);
        faults->sync_failed = (uint32_t)rng_between(&h->rng, 30, 400);
        faults->write_no_space = rng_one_in(&h->rng, 3) ? 300 : 0;
        faults->name_failed = rng_one_in(&h->rng, 3) ? 100 : 0;
    }
    /* One of them by itself, or all alike. */
    sim_disk_faults_at(
        h->world, on && rng_one_in(&h->rng, 2) ? paths[rng_below(&h->rng, h->device_count)] : NULL);
    for (uint32_t i = 0; i < DEVICES_MAX; i++)
        sim_disk_limit_at(h->world, paths[i],
                          on && h->has_limit && !rng_one_in(&h->rng, 3)
                              ? rng_between(&h->rng, 6, 14) * 65536
                              : 1ull << 40);
}

static void set_by_sync(struct history *h)
{
    for (uint32_t i = 0; i < h->life.spool->device_count; i++)
        h->life.spool->devices[i].pool.by_sync = h->by_sync;
}

static void open_life(void *context)
{
    struct history *h = context;

    h->open_result =
        life_open(&h->life, &h->options, &h->ledger, h->spool_io, h->client_io, rng_u64(&h->rng));
    tell("  open %d: life %llu, %llu messages, %llu torn, %llu voids\n", h->open_result,
         (unsigned long long)h->life.report.life, (unsigned long long)h->life.report.messages_live,
         (unsigned long long)h->life.report.torn_tails_cut,
         (unsigned long long)h->life.report.voids_applied);
    if (h->open_result == 0)
        set_by_sync(h);
}

static void close_life(void *context)
{
    struct history *h = context;

    life_close(&h->life);
}

static void destroy_life(void *context)
{
    struct history *h = context;

    life_destroy(&h->life);
}

static void read_cursor(void *context)
{
    struct history *h = context;

    life_read_cursor(&h->life);
    ledger_cursor_end(&h->ledger);
}

static void count_life(struct history *h)
{
    struct spool_stats stats;

    spool_stats_read(h->life.spool, &stats);
    totals.checkpoints += stats.checkpoints;
    totals.recycled += stats.recycled;
    totals.evacuations += stats.evacuations;
    totals.voids += stats.voids;
    totals.by_devices[h->device_count]++;
    h->lists_all = true;
    for (uint32_t i = 0; i < h->life.spool->device_count; i++) {
        struct spool_device_stats device;

        spool_device_read(h->life.spool, i, &device);
        totals.rested +=
            device.state == SPOOL_DEVICE_RESTING && spool_health(h->life.spool) == SPOOL_HEALTHY;
        h->may_leave_out |= i == h->drained && i > 0 && i + 1 == h->device_count &&
                            device.state == SPOOL_DEVICE_EMPTY;
    }
    totals.poisoned += spool_health(h->life.spool) == SPOOL_POISONED;
    totals.low += spool_health(h->life.spool) == SPOOL_LOW_SPACE;
}

/* Looks at each step: true in the moment in which a batch of messages has failed. */
static bool begins_to_doubt(void *context)
{
    struct history *h = context;
    const struct spool *spool = h->process != NULL ? h->life.spool : NULL;
    bool was_in_doubt = h->is_in_doubt;
    bool was_mending = h->is_mending;

    h->is_in_doubt = false;
    for (uint32_t i = 0; spool != NULL && i < spool->device_count; i++)
        h->is_in_doubt |= spool->devices[i].messages.state == SEGLOG_VOID_WAITS;
    h->is_mending = h->is_in_doubt && spool->outcomes.state >= SEGLOG_VOID_DUE &&
                    spool->outcomes.state <= SEGLOG_REDO_DUE;
    totals.voids_mended += h->is_mending && !was_mending;
    return h->is_in_doubt && !was_in_doubt;
}

/* Ends the life without asking it. */
static void crash(struct history *h)
{
    enum sim_crash_kind kind = rng_one_in(&h->rng, 2) && !h->cut_is_due ? SIM_KILL : SIM_POWER_CUT;

    if (h->process != NULL) {
        tell("  %s\n", kind == SIM_KILL ? "kill" : "power cut");
        sim_crash(h->world, h->process, kind);
    }
    h->cut_is_due = false;
    h->process = NULL;
    ledger_crashed(&h->ledger);
    life_forget(&h->life);
}

/* What the failed sync left can be read by the next life, and is gone after the power cut that ends
 * it. */
static void kill_in_doubt(struct history *h)
{
    tell("  killed in doubt\n");
    count_life(h);
    totals.killed_in_doubt++;
    sim_crash(h->world, h->process, SIM_KILL);
    h->process = NULL;
    crash(h);
    h->cut_is_due = true;
}

static bool is_settled(void *context)
{
    struct history *h = context;

    return h->process == NULL || life_is_settled(&h->life) || ledger_has_failed(&h->ledger);
}

static bool is_closed(void *context)
{
    struct history *h = context;

    return h->process == NULL || h->life.is_closed;
}

/* With nothing under way, what counts as live in each segment is what the messages that are left
 * have there: nothing is used again too early, and nothing is kept for ever. */
static void check_live(struct history *h)
{
    const struct spool *spool = h->life.spool;

    for (uint32_t i = 0; i < spool->segment_count; i++) {
        const struct segment *segment = &spool->segments[i];
        uint32_t live = 0;

        if (segment->stream != STREAM_MESSAGES || segment->serial == 0)
            continue;
        list_for_each (node, &h->ledger.live) {
            const struct ledger_message *message = container_of(node, struct ledger_message, link);

            live += message->place.serial == segment->serial;
            for (uint32_t chunk = 0; chunk < message->chunk_count; chunk++)
                live += message->chunks[chunk].serial == segment->serial;
        }
        if (live != segment->live || segment->open != 0)
            ledger_fail(&h->ledger, "segment %u: %u records count as live, %u are, %u open",
                        segment->serial, segment->live, live, segment->open);
    }
}

/* Everything answered, committed and closed; false when that does not come about, or when a crash
 * that was ordered comes first. */
static bool end_in_order(struct history *h, bool reads_to_the_end)
{
    h->life.is_quiet = true;
    if (!sim_run_until(h->world, is_settled, h, 20000 * MS, PATIENCE_STEPS) || h->process == NULL)
        return false;
    if (reads_to_the_end) {
        sim_run_for(h->world, 100 * MS);
        ledger_sure(&h->ledger, h->ledger.step_next - 1);
        if (h->life.cursor != NULL)
            sim_run_in(h->process, read_cursor, h);
        if (!sim_run_until(h->world, is_settled, h, 20000 * MS, PATIENCE_STEPS))
            return false;
        check_live(h);
    }
    sim_run_in(h->process, close_life, h);
    if (!sim_run_until(h->world, is_closed, h, 20000 * MS, PATIENCE_STEPS) || h->process == NULL)
        return false;
    if (spool_health(h->life.spool) == SPOOL_POISONED)
        ledger_crashed(&h->ledger);
    else
        ledger_closed(&h->ledger);
    sim_run_in(h->process, destroy_life, h);
    sim_crash(h->world, h->process, SIM_KILL);
    h->process = NULL;
    return true;
}

/* A new process with an open spool. False when it crashed or could not open. */
static bool begin_life(struct history *h, bool may_crash)
{
    h->process = sim_process_create(h->world);
    sim_io_create(h->world, h->process, &h->spool_io);
    h->client_io = h->spool_io;
    if (h->two_loops)
        sim_io_create(h->world, h->process, &h->client_io);
    if (may_crash && rng_one_in(&h->rng, 4))
        sim_crash_after(h->process, rng_one_in(&h->rng, 2) ? SIM_KILL : SIM_POWER_CUT,
                        rng_between(&h->rng, 1, 120), on_crash, h);
    totals.lives++;
    tell("life, %u loops, by %s\n", h->two_loops ? 2 : 1, h->by_sync ? "sync" : "dsync");
    if (!sim_run_in(h->process, open_life, h)) {
        h->process = NULL;
        ledger_crashed(&h->ledger);
        life_forget(&h->life);
        return false;
    }
    if (h->open_result == 0)
        return true;
    tell("  %s\n", h->life.refusal);
    if (!may_crash || (!h->has_faults && !h->has_limit))
        ledger_fail(&h->ledger, "open: %d %s", h->open_result, h->life.refusal);
    crash(h);
    return false;
}

/* Without one of the devices, in which mail may lie, nothing opens. */
static void try_without_one(struct history *h)
{
    struct spool_directory *directories = h->options.spool.directories;
    uint32_t without = (uint32_t)rng_between(&h->rng, 1, h->device_count - 1);

    if (!h->lists_all || h->drained != 0)
        return;
    set_faults(h, false);
    for (uint32_t i = without; i + 1 < SPOOL_DEVICES_MAX; i++)
        directories[i] = directories[i + 1];
    h->process = sim_process_create(h->world);
    sim_io_create(h->world, h->process, &h->spool_io);
    h->client_io = h->spool_io;
    must(sim_run_in(h->process, open_life, h));
    if (h->open_result != E_FOREIGN)
        ledger_fail(&h->ledger, "opened without a device: %d", h->open_result);
    else
        totals.refused++;
    sim_crash(h->world, h->process, SIM_KILL);
    h->process = NULL;
    life_forget(&h->life);
    name_devices(h);
    set_faults(h, true);
}

static void live(struct history *h)
{
    struct rng *rng = &h->rng;

    if (h->device_count > 1 && rng_one_in(rng, 8))
        try_without_one(h);
    change_devices(h);
    if (!begin_life(h, true))
        return;
    if (rng_one_in(rng, 2))
        sim_crash_after(h->process, rng_one_in(rng, 2) ? SIM_KILL : SIM_POWER_CUT,
                        rng_between(rng, 1, 600), on_crash, h);
    for (uint64_t left = rng_between(rng, 1, 120); left > 0 && h->process != NULL; left--) {
        if (!sim_run_until(h->world, begins_to_doubt, h, MS, PATIENCE_STEPS) || rng_one_in(rng, 3))
            continue;
        if (rng_one_in(rng, 2)) {
            kill_in_doubt(h);
            return;
        }
        /* The commit that carries the void fails as well. */
        sim_disk_script(h->world, SIM_DISK_WRITE, ".seg", 1, -EIO);
    }
    if (h->process != NULL)
        count_life(h);
    if (h->process != NULL && rng_one_in(rng, 5)) {
        set_faults(h, false);
        if (end_in_order(h, false))
            return;
    }
    crash(h);
}

static void last_lives(struct history *h)
{
    h->has_limit = false;
    h->has_faults = false;
    for (int i = 0; i < 2 && !ledger_has_failed(&h->ledger); i++) {
        set_faults(h, false);
        if (!begin_life(h, false))
            return;
        if (i == 0)
            sim_run_for(h->world, 30 * MS);
        count_life(h);
        if (!ledger_has_failed(&h->ledger) && !end_in_order(h, true))
            ledger_fail(&h->ledger,
                        "the last life does not end: %u requests, checkpoint %d, messages %d, "
                        "outcomes %d, job %d, files %u, free %u",
                        h->life.request_count, h->life.spool->checkpoint.state,
                        h->life.spool->devices[0].messages.state, h->life.spool->outcomes.state,
                        h->life.spool->devices[0].pool.job,
                        h->life.spool->devices[0].pool.file_count,
                        h->life.spool->devices[0].pool.free_count);
    }
}

/* ---- A look at the disk, for whoever hunts a failure ----------------------------------------- */

struct dump {
    struct history *h;
    const char *path;
};

static int64_t dump_read(void *context, void *data, size_t len, uint64_t offset)
{
    struct dump *dump = context;

    return sim_disk_peek(dump->h->world, dump->path, data, len, offset);
}

/* What tells the record from others: its message, for checkpoints a place. */
static uint64_t dump_id(const struct scan_record *record)
{
    struct segfmt_checkpoint point;
    struct log_message_state state;
    struct envelope envelope;
    struct outcome outcome;

    if (segfmt_checkpoint_decode(record->payload, &point) == 0 && record->type >= RECORD_VOID)
        return (uint64_t)point.serial * 1000000 + point.offset;
    if ((record->type == RECORD_MESSAGE || record->type == RECORD_COMMIT) &&
        envelope_decode(record->payload, &envelope) == 0)
        return envelope.message_id;
    if (record->type == RECORD_OUTCOME && outcome_decode(record->payload, &outcome) == 0)
        return outcome.message_id * 1000000 + outcome.logged_us;
    if (record->type == RECORD_STATE && log_message_state_decode(record->payload, &state) == 0)
        return state.message_id * 10000000000ull + state.place.serial * 1000000ull +
               state.place.offset;
    return 0;
}

static void dump_file(void *context, const char *path)
{
    struct dump dump = {.h = context, .path = path};
    struct scan_source source = {dump_read, &dump};
    uint8_t block[SEGFMT_BLOCK] = {0};
    struct segfmt_header header;
    struct scan_record record;
    enum scan_event event;
    struct scan scan;

    if (strstr(path, ".seg") == NULL)
        return;
    dump_read(&dump, block, sizeof(block), 0);
    if (segfmt_header_decode(block, &header) < 0) {
        fprintf(stderr, "%s: no header, %lld bytes, words at sectors", path,
                (long long)sim_disk_size(dump.h->world, path));
        for (uint32_t at = 0; at < sizeof(block); at += 512)
            fprintf(stderr, " %02x%02x%02x%02x", block[at], block[at + 1], block[at + 2],
                    block[at + 3]);
        fprintf(stderr, "\n");
        return;
    }
    fprintf(stderr, "%s: SERIAL %u stream %u life %llu former %u\n", path, header.serial,
            header.stream, (unsigned long long)header.life, header.former);
    scan_init(&scan, &source, header.uuid, header.serial, SEGFMT_BLOCK, header.segment_bytes);
    while ((event = scan_next(&scan, &record)) != SCAN_END) {
        if (event == SCAN_GAP)
            fprintf(stderr, "  %u gap: %s\n", record.offset, record.text);
        else
            fprintf(stderr, "  %u batch %u type %u flags %u sequence %llu id %llu\n", record.offset,
                    scan.batches, record.type, record.flags, (unsigned long long)record.sequence,
                    (unsigned long long)dump_id(&record));
    }
    scan_fini(&scan);
}

/* True when every promise was kept; the reason else in text. */
static bool run_history(uint64_t seed, char *text, size_t text_bytes)
{
    struct history *h = calloc(1, sizeof(*h));
    struct sim_options options = {.fd_count_max = 0};
    bool good;

    must(h != NULL);
    h->seed = seed;
    rng_init(&h->rng, seed * 2 + 1);
    ledger_init(&h->ledger);
    h->world = sim_world_create(seed, &options);
    choose_options(h);
    for (uint64_t lives = rng_between(&h->rng, 2, 7); lives > 0; lives--) {
        set_faults(h, true);
        live(h);
        if (ledger_has_failed(&h->ledger))
            break;
    }
    if (!ledger_has_failed(&h->ledger))
        last_lives(h);
    good = !ledger_has_failed(&h->ledger);
    if (!good && is_told)
        sim_disk_list(h->world, dump_file, h);
    snprintf(text, text_bytes, "seed %llu: %s", (unsigned long long)seed, h->ledger.failure);
    totals.histories++;
    totals.messages += h->ledger.message_count;
    totals.recovered += h->ledger.checked;
    totals.chunked_kept += h->ledger.chunked_kept;
    totals.chunked_moved += h->ledger.chunked_moved;
    totals.chunked_dropped += h->ledger.chunked_dropped;
    totals.chunked_read += h->ledger.chunked_read;
    if (h->process != NULL)
        crash(h);
    sim_world_destroy(h->world);
    ledger_fini(&h->ledger);
    free(h);
    return good;
}

/* ---- The runs ------------------------------------------------------------------------------- */

static int run_seeds(uint64_t first, uint64_t count)
{
    char text[400];
    int bad = 0;

    for (uint64_t seed = first; seed < first + count && bad < 5; seed++) {
        if (run_history(seed, text, sizeof(text)))
            continue;
        fprintf(stderr, "%s\n", text);
        bad++;
    }
    fprintf(stderr,
            "%llu histories, %llu lives, %llu messages, %llu recovered, %llu checkpoints, %llu "
            "recycled, %llu voids (%llu mended), %llu poisoned, %llu low on space, %llu killed in "
            "doubt, %llu evacuations; in chunks %llu kept, %llu moved, %llu dropped, %llu read "
            "back\nlives with one device %llu, two %llu, three %llu; %llu added, %llu left out, "
            "%llu rested, %llu refused\n",
            (unsigned long long)totals.histories, (unsigned long long)totals.lives,
            (unsigned long long)totals.messages, (unsigned long long)totals.recovered,
            (unsigned long long)totals.checkpoints, (unsigned long long)totals.recycled,
            (unsigned long long)totals.voids, (unsigned long long)totals.voids_mended,
            (unsigned long long)totals.poisoned, (unsigned long long)totals.low,
            (unsigned long long)totals.killed_in_doubt, (unsigned long long)totals.evacuations,
            (unsigned long long)totals.chunked_kept, (unsigned long long)totals.chunked_moved,
            (unsigned long long)totals.chunked_dropped, (unsigned long long)totals.chunked_read,
            (unsigned long long)totals.by_devices[1], (unsigned long long)totals.by_devices[2],
            (unsigned long long)totals.by_devices[3], (unsigned long long)totals.added,
            (unsigned long long)totals.left_out, (unsigned long long)totals.rested,
            (unsigned long long)totals.refused);
    return bad > 0;
}

/* In a child, since a bug may also run into an assertion, which counts as found. */
static bool finds(const char *name, uint64_t *ret_seed)
{
    int pipes[2];
    uint64_t seed = 0;
    pid_t child;
    int status = 0;

    must(pipe(pipes) == 0);
    child = fork();
    must(child >= 0);
    if (child == 0) {
        char text[400];

        planted_name = name;
        for (seed = 1; seed <= PLANTED_SEEDS; seed++) {
            must(write(pipes[1], &seed, sizeof(seed)) == sizeof(seed));
            if (!run_history(seed, text, sizeof(text))) {
                fprintf(stderr, "  %s\n", text);
                _exit(1);
            }
        }
        _exit(0);
    }
    close(pipes[1]);
    while (read(pipes[0], &seed, sizeof(seed)) == sizeof(seed))
        *ret_seed = seed;
    close(pipes[0]);
    must(waitpid(child, &status, 0) == child);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static int run_planted(void)
{
    static const char *const names[] = {
#define NAME(name) name,
        QUEUE_PLANTED_BUGS(NAME)
#undef NAME
    };
    int missed = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t seed = 0;
        bool found = finds(names[i], &seed);

        fprintf(stderr, "%-32s %s %llu\n", names[i], found ? "found by seed" : "NOT FOUND after",
                (unsigned long long)seed);
        missed += !found;
    }
    return missed > 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "planted") == 0)
        return run_planted();
    is_told = argc == 4;
    if (argc >= 3)
        return run_seeds(strtoull(argv[1], NULL, 10), strtoull(argv[2], NULL, 10));
    if (run_seeds(1, SEEDS) != 0)
        return 1;
    /* The cases that matter most must have come up. */
    must(totals.voids_mended > 0 && totals.killed_in_doubt > 0 && totals.evacuations > 0);
    must(totals.chunked_moved > 0 && totals.chunked_dropped > 0 && totals.chunked_read > 0);
    must(totals.by_devices[1] > 0 && totals.by_devices[2] > 0 && totals.by_devices[3] > 0);
    must(totals.added > 0 && totals.left_out > 0 && totals.rested > 0 && totals.refused > 0);
    return 0;
}
