/*
 * The whole product in the simulated world, seed by seed.
 *
 * One seed is one history: a number of shards, a configuration, faults, at least three lives that
 * end by a kill or a power cut, reloads in between, then a last life in a quiet world that must
 * bring everything to an end. The ledger outside says whether anything was lost, doubled without
 * excuse, changed or tried too early; after the end every pool must be empty, and one more start
 * must find nothing.
 *
 *   product_test FIRST COUNT [MESSAGES]     seeds FIRST … FIRST+COUNT-1
 *   product_test planted [NAME|K/N]         every planted bug must be found, or this one, or the
 *                                           K-th of each N
 *   product_test trace SEED                 one seed, with its text trace
 */
#include "core/base/log.h"
#include "core/base/planted.h"
#include "core/conf/intern.h"
#include "shard/planted.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/remote.h"
#include "tests/sim/product/renewal.h"
#include "tests/sim/product/rot.h"
#include "tests/sim/product/tally.h"
#include "tests/sim/product/watch.h"
#include "tests/sim/product/weather.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES_DEFAULT  1000
#define CRASHES_MIN       3
#define SECOND_NS         1000000000ull
#define RECEIVERS         4
#define SOURCES           4
#define SEGMENT_BYTES_MIN (64ull << 10)
#define DISK_BYTES        (1ull << 30)
/* Mail is accepted again so long after the disk has room. */
#define SPACE_BACK_NS     (300 * SECOND_NS)
#define REPEAT_EVERY      20  /* seeds that are run twice for the hash */
#define TALLY_SEEDS       600 /* a run of so many must meet everything */
#define PLANTED_SEEDS     600 /* a bug must be found within so many */
#define PLANTED_MESSAGES  400

/* Sums over all seeds. */
struct totals {
    struct tally tally;
    struct remote_models remote_models;
    uint64_t lives;
    uint64_t crashes;
    uint64_t taken;
    uint64_t doubles;
    uint64_t notices;
    uint64_t notices_doubled;
    uint32_t longest_wait_percent;
};

struct history {
    struct sim_world *world;
    struct rng rng;
    struct ledger ledger;
    struct remote remote;
    struct product product;
    struct weather weather;
    struct rot rot;
    struct renewal renewal;
    struct watch watch;
    uint32_t crashes_left;
    uint64_t low_from_ns; /* no mail is accepted since then; UINT64_MAX = it is */
    uint64_t poisoned_ns;
    uint64_t stalled_from_ns; /* the log takes no outcomes since then; UINT64_MAX = it does */
    uint64_t stall_ended_ns;  /* it does again since then, but may not have written them; 0 = not */
    bool poison_noted;        /* in this life */
    uint32_t device_count;    /* directories of the spool */
    bool is_alone_noted;
    bool low_space_noted; /* in this life */
    bool is_tight;        /* a disk of a few segments, until the last life */
    bool audit_failed;    /* said once */
};

static const char *planted_on;

bool planted_active(const char *name)
{
    return planted_on && strcmp(planted_on, name) == 0;
}

static void drop_log(void *context, enum log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

/* ---- One history ------------------------------------------------------------------------------
 */

static void on_ordered_crash(void *context)
{
    struct history *h = context;

    ledger_crash(&h->ledger, sim_now_ns(h->world), h->stalled_from_ns);
}

/* Mostly few, but each life draws anew, and every tenth has all that fit. */
static uint16_t draw_shard_count(struct rng *rng)
{
    if (rng_one_in(rng, 10))
        return PRODUCT_SHARDS_MAX;
    return (uint16_t)rng_between(rng, 1, rng_one_in(rng, 3) ? PRODUCT_SHARDS_MAX : 4);
}

/* One or the other pool of a shard may be small. A life must find room for what its predecessors
 * took, else it does not start: the last one has room for everything. */
static void draw_limits(struct rng *rng, bool is_last, struct shard_limits *ret_limits)
{
    *ret_limits = (struct shard_limits){
        .session_count_max = (uint32_t)rng_between(rng, 1, rng_one_in(rng, 3) ? 3 : 64),
        .connection_count_max = (uint32_t)rng_between(rng, 1, rng_one_in(rng, 3) ? 3 : 256),
        .queue_count_max = (uint32_t)rng_between(rng, 36, 200),
        .dns_in_flight_max = (uint32_t)rng_between(rng, 1, 16),
    };
    if (is_last || !rng_one_in(rng, 4))
        return;
    ret_limits->message_count_max = (uint32_t)rng_between(rng, 20, 500);
    ret_limits->rcpt_count_max = (uint32_t)rng_between(rng, 40, 1000);
    ret_limits->queue_count_max = (uint32_t)rng_between(rng, 4, 36);
}

static void draw_setup(struct history *h, struct product_setup *setup)
{
    *setup = (struct product_setup){
        .shard_count = draw_shard_count(&h->rng),
        .backlog = (uint16_t)rng_between(&h->rng, 1, rng_one_in(&h->rng, 3) ? 3 : 64),
        .committer_alone = rng_one_in(&h->rng, 3),
        .config = h->renewal.text,
        .segment_bytes = SEGMENT_BYTES_MIN << (h->is_tight ? 0 : rng_below(&h->rng, 3)),
        .segment_count_max = 512,
        .checkpoint_bytes = (uint32_t)rng_between(&h->rng, 64, 512) << 10,
        .device_count = h->device_count,
        .on_crash = on_ordered_crash,
        .crash_context = h,
    };
    draw_limits(&h->rng, h->crashes_left == 0, &setup->limits);
    /* Few segments: space is the pool's business then, not the disk's. */
    if (!h->is_tight && rng_one_in(&h->rng, 3)) {
        setup->segment_bytes = 256 << 10;
        setup->segment_count_max = (uint32_t)rng_between(&h->rng, 8, 12);
    }
    /* Half of the crashes are aimed at a disk call: of recovery too, when it comes early. */
    if (h->crashes_left > 0 && rng_one_in(&h->rng, 2)) {
        setup->crash_after = rng_between(&h->rng, 1, rng_one_in(&h->rng, 2) ? 60 : 500);
        setup->crash_is_power_cut = rng_one_in(&h->rng, 2);
    }
}

static void draw_world(struct history *h, uint64_t seed, bool trace)
{
    struct sim_options options = {
        .trace_text = trace,
        .latency_max_ns = 5000000,
        .disk_bytes = DISK_BYTES,
        .faults = sim_faults_mild(),
    };

    /* Rare faults that cost a run a minute of virtual time each, and those of the medium. */
    options.faults.sync_failed = rng_one_in(&h->rng, 3) ? 400 : 0;
    options.faults.write_failed = rng_one_in(&h->rng, 3) ? 400 : 0;
    options.faults.write_no_space = rng_one_in(&h->rng, 3) ? 400 : 0;
    options.faults.open_failed = rng_one_in(&h->rng, 4) ? 100 : 0;
    options.faults.read_failed = rng_one_in(&h->rng, 3) ? 60 : 0;
    options.faults.name_failed = rng_one_in(&h->rng, 4) ? 30 : 0;
    options.faults.alloc_failed = rng_one_in(&h->rng, 4) ? 50 : 0;
    options.faults.wall_jumped = rng_one_in(&h->rng, 4) ? 100000 : 0;
    /* Due times survive a restart as wall clock times: a jump between two lives moves them. Within
     * a life they stand on the monotonic clock. */
    if (!options.faults.wall_jumped)
        h->ledger.retry_min_ns = 540 * SECOND_NS; /* 10m less 10 % jitter */
    h->world = sim_world_create(seed, &options);
}

/* Half of the histories have one directory; with several, one may fail or fill by itself. */
static void draw_devices(struct history *h)
{
    uint32_t odd;

    h->device_count = rng_one_in(&h->rng, 2) ? 1 : (uint32_t)rng_between(&h->rng, 2, 3);
    odd = (uint32_t)rng_below(&h->rng, h->device_count);
    if (h->device_count > 1 && rng_one_in(&h->rng, 3))
        sim_disk_faults_at(h->world, product_directory(odd));
    if (odd > 0 && rng_one_in(&h->rng, 2))
        sim_disk_limit_at(h->world, product_directory(odd),
                          rng_between(&h->rng, 2, 12) * SEGMENT_BYTES_MIN);
}

/* Work goes on until so many further messages were answered, or time is over. */
struct until {
    struct history *history;
    uint32_t answered;
};

/* A log that is given up is an end too: outcomes on their way to it are never durable. */
static void note_poison(struct history *h)
{
    if (h->poison_noted)
        return;
    h->poison_noted = true;
    h->poisoned_ns = sim_now_ns(h->world);
    ledger_crash(&h->ledger, sim_now_ns(h->world), h->stalled_from_ns);
}

/* A life without space accepts mail again soon after there is space. */
static void check_recovers(struct history *h)
{
    uint64_t good_from_ns = h->weather.disk_good_from_ns;

    if (h->low_from_ns > good_from_ns)
        good_from_ns = h->low_from_ns;
    if (h->is_tight || h->product.setup.segment_count_max < 512 || good_from_ns == UINT64_MAX ||
        sim_now_ns(h->world) < good_from_ns + SPACE_BACK_NS)
        return;
    ledger_violation(&h->ledger, 0, "no mail is accepted though the disk has room again");
    h->weather.disk_good_from_ns = UINT64_MAX;
}

static void note_stall(struct history *h)
{
    if (h->stalled_from_ns == UINT64_MAX) {
        h->stalled_from_ns = sim_now_ns(h->world);
        h->product.events.logs_stalled++;
    }
    h->stall_ended_ns = 0;
    check_recovers(h);
}

/* What waited while the log was stalled is written in the commits that follow: until then a crash
 * loses outcomes as old as the stall. */
static void note_no_stall(struct history *h)
{
    uint64_t now_ns = sim_now_ns(h->world);

    if (h->stalled_from_ns == UINT64_MAX)
        return;
    if (h->stall_ended_ns == 0)
        h->stall_ended_ns = now_ns;
    if (now_ns - h->stall_ended_ns > h->ledger.crash_window_ns)
        h->stalled_from_ns = UINT64_MAX;
}

static void note_low_space(struct history *h)
{
    h->product.events.space_low += !h->low_space_noted;
    h->low_space_noted = true;
    check_recovers(h);
}

/* What must hold after every step of every life. */
static void audit(struct history *h)
{
    const char *text = h->audit_failed ? NULL : product_audit(&h->product);

    if (!text && h->product.process && !h->audit_failed &&
        h->remote.rcpts_seen > product_rcpts_let_through(&h->product))
        text = "a recipient was tried that no rate had let through";
    if (!text)
        return;
    h->audit_failed = true;
    ledger_violation(&h->ledger, 0, text);
}

/* One directory takes no mail, and others do. */
static void note_alone(struct history *h, const struct spool *spool)
{
    for (uint32_t i = 0; i < spool_device_count(spool) && !h->is_alone_noted; i++) {
        struct spool_device_stats stats;

        spool_device_read(spool, i, &stats);
        h->is_alone_noted =
            stats.state == SPOOL_DEVICE_LOW_SPACE || stats.state == SPOOL_DEVICE_RESTING;
        h->product.events.devices_failed_alone += h->is_alone_noted;
    }
}

/* Between steps: the weather, and what the product says of itself. */
static void look(struct history *h)
{
    enum spool_health health;

    audit(h);
    weather_tend(&h->weather);
    renewal_tend(&h->renewal, &h->product, h->crashes_left == 0);
    if (!h->product.process || !h->product.assembly)
        return;
    health = spool_health(assembly_spool(h->product.assembly));
    if (health == SPOOL_HEALTHY)
        h->low_from_ns = UINT64_MAX;
    else if (h->low_from_ns == UINT64_MAX)
        h->low_from_ns = sim_now_ns(h->world);
    if (health == SPOOL_POISONED)
        note_poison(h);
    else if (health == SPOOL_STALLED)
        note_stall(h);
    else
        note_no_stall(h);
    if (health == SPOOL_LOW_SPACE)
        note_low_space(h);
    if (health == SPOOL_HEALTHY && h->product.setup.device_count > 1 && !h->is_alone_noted)
        note_alone(h, assembly_spool(h->product.assembly));
}

static bool only_time(void *context)
{
    look(context);
    return false;
}

static bool enough_answered(void *context)
{
    const struct until *until = context;
    struct history *h = until->history;

    look(h);
    remote_tend(&h->remote);
    return !h->product.process || h->ledger.answered >= until->answered ||
           (h->poison_noted && sim_now_ns(h->world) >= h->poisoned_ns + 30 * SECOND_NS);
}

static bool all_done(void *context)
{
    struct history *h = context;

    look(h);
    watch_turns(&h->watch);
    remote_tend(&h->remote);
    return ledger_all_sent(&h->ledger) && ledger_is_complete(&h->ledger) &&
           product_is_empty(&h->product);
}

static bool is_stopped(void *context)
{
    return product_is_stopped(context);
}

static bool is_closed(void *context)
{
    return ((struct product *)context)->spool_closed;
}

static void calm_down(struct history *h)
{
    /* A dead disk that ends brings the former rate of failures back. */
    weather_end(&h->weather);
    *sim_faults(h->world) = sim_faults_none();
    sim_disk_script_clear(h->world);
    h->is_tight = false;
    h->weather.disk_bytes = DISK_BYTES;
    sim_disk_limit(h->world, DISK_BYTES);
    sim_disk_faults_at(h->world, NULL);
    for (uint32_t i = 0; i < h->device_count; i++)
        sim_disk_limit_at(h->world, product_directory(i), DISK_BYTES);
}

/* A single failure, ordered for one of the next disk calls. */
static void draw_script(struct history *h)
{
    enum sim_disk_call call = (enum sim_disk_call)rng_below(&h->rng, SIM_DISK_NAME + 1);
    uint64_t nth = rng_between(&h->rng, 1, rng_one_in(&h->rng, 2) ? 20 : 200);

    sim_disk_script(h->world, call, rng_one_in(&h->rng, 2) ? "/spool" : NULL, nth,
                    call == SIM_DISK_WRITE && rng_one_in(&h->rng, 2) ? -ENOSPC : -EIO);
}

/* A life that refuses to start (a failing disk) is tried again; the disk heals in the end. */
static bool start_life(struct history *h)
{
    struct product_setup setup;

    if (h->device_count < PRODUCT_DEVICES_MAX && rng_one_in(&h->rng, 12))
        h->device_count++;
    for (int attempt = 0; attempt < 60; attempt++) {
        draw_setup(h, &setup);
        renewal_begin(&h->renewal, h->world);
        h->poison_noted = false;
        h->low_space_noted = false;
        h->is_alone_noted = false;
        h->stalled_from_ns = UINT64_MAX;
        h->low_from_ns = UINT64_MAX;
        h->remote.rcpts_since_ns = sim_now_ns(h->world);
        h->remote.rcpts_seen = 0;
        if (product_start(&h->product, &setup) == 0) {
            watch_life(&h->watch);
            return true;
        }
        sim_run_for(h->world, SECOND_NS);
        weather_tend(&h->weather);
        if (attempt > 10)
            calm_down(h);
    }
    ledger_violation(&h->ledger, 0, "the product does not start");
    return false;
}

static bool is_reloading(void *context)
{
    const struct history *h = context;

    return !h->product.process || reload_is_under_way(&h->product.reload);
}

/* The crash to come is to hit a reload. */
static void begin_reload(struct history *h)
{
    h->renewal.next_ns = 0;
    renewal_tend(&h->renewal, &h->product, false);
    sim_run_until(h->world, is_reloading, h, SECOND_NS, 10000);
    sim_run_for(h->world, rng_below(&h->rng, 100000));
}

static bool life_until_crash(struct history *h)
{
    struct until until = {h, 0};

    if (rng_one_in(&h->rng, 3))
        draw_script(h);
    if (rng_one_in(&h->rng, 4))
        rot_somewhere(&h->rot, h->world, product_directory(0));
    if (rng_one_in(&h->rng, 3))
        weather_bring(&h->weather, WEATHER_disk_full, rng_between(&h->rng, 1, 300) * SECOND_NS);
    if (!start_life(h))
        return false;
    until.answered =
        h->ledger.answered + (uint32_t)rng_between(&h->rng, 1, h->ledger.count / (CRASHES_MIN + 1));
    sim_run_until(h->world, enough_answered, &until, 4000 * SECOND_NS, 400000);
    /* Some crashes hit the queue while nothing comes in. */
    if (rng_one_in(&h->rng, 4))
        sim_run_until(h->world, only_time, h, rng_between(&h->rng, 1, 1000 * SECOND_NS), 400000);
    if (rng_one_in(&h->rng, 4))
        begin_reload(h);
    if (h->product.process)
        ledger_crash(&h->ledger, sim_now_ns(h->world), h->stalled_from_ns);
    product_crash(&h->product, rng_one_in(&h->rng, 2));
    return true;
}

/* The last life, in a world without faults, brings everything to an end and stops in order. */
static void last_life(struct history *h)
{
    calm_down(h);
    memset(&h->remote.rates, 0, sizeof(h->remote.rates));
    h->product.zone.failure_rate = 0;
    h->product.zone.denial_rate = 0;
    /* Limits that are small beside the work: who does not get its turn has long to wait. */
    h->remote.pace_ms = rng_one_in(&h->rng, 2) ? rng_between(&h->rng, 200, 1000) : 0;
    sim_run_for(h->world, SECOND_NS);
    renewal_draw(&h->renewal, true);
    if (!start_life(h))
        return;
    watch_begin(&h->watch);
    if (!sim_run_until(h->world, all_done, h, 72 * 3600 * SECOND_NS, 20000000)) {
        ledger_violation(&h->ledger, 0, "work does not come to an end");
        if (!h->ledger.is_quiet)
            product_print(&h->product);
        return;
    }
    h->remote.inject = false;
    product_stop(&h->product);
    if (!sim_run_until(h->world, is_stopped, &h->product, 600 * SECOND_NS, 2000000)) {
        ledger_violation(&h->ledger, 0, "the shards do not stop");
        return;
    }
    product_end(&h->product);
    if (!sim_run_until(h->world, is_closed, &h->product, 600 * SECOND_NS, 2000000))
        ledger_violation(&h->ledger, 0, "the spool does not close");
    product_crash(&h->product, false);
    sim_run_for(h->world, SECOND_NS);
    if (start_life(h) && h->product.report.messages_live != 0)
        ledger_violation(&h->ledger, 0, "what was finished came back after a restart");
    product_crash(&h->product, false);
}

/* The one table of all that a run of many seeds must have met, see TALLY_MIN. */
static void add_totals(const struct history *h, struct totals *totals)
{
    const struct sim_coverage *coverage = sim_coverage(h->world);
    struct tally *tally = &totals->tally;

    for (int i = 0; i < SIM_COVER_KINDS; i++)
        tally_add(tally, "world", coverage[i].name, coverage[i].count);
#define ADD(name, text) tally_add(tally, "weather", #name, h->weather.counts[WEATHER_##name]);
    WEATHER_SPELLS(ADD)
#undef ADD
#define ADD(name, text) tally_add(tally, "receiver", #name, h->remote.hits.name);
    REMOTE_FAULTS(ADD)
#undef ADD
#define ADD(name, text) tally_add(tally, "rot", #name, h->rot.name);
    ROT_PLACES(ADD)
#undef ADD
    tally_add(tally, "names", "failures", h->product.zone.failures);
    tally_add(tally, "names", "denials", h->product.zone.denials);
    tally_add(tally, "names", "changes", h->product.zone.changes);
#define ADD(name, text) tally_add(tally, "injector", #name, h->remote.answers.name);
    REMOTE_ANSWERS(ADD)
#undef ADD
#define ADD(name, text) tally_add(tally, "recovery", #name, h->product.branches.name);
    SPOOL_RECOVERY_BRANCHES(ADD)
#undef ADD
#define ADD(name, text) tally_add(tally, "product", #name, h->product.events.name);
    PRODUCT_EVENTS(ADD)
#undef ADD
    tally_add(tally, "limit", "reached_by_all", h->watch.reached_by_all);
    tally_add(tally, "limit", "reached_by_vmta", h->watch.reached_by_vmta);
    if (totals->longest_wait_percent < h->watch.worst_percent)
        totals->longest_wait_percent = h->watch.worst_percent;
    totals->lives += h->product.lives;
    totals->crashes += h->ledger.crash_count;
    totals->taken += h->remote.transactions;
    totals->doubles += h->ledger.doubles_excused;
    totals->notices += h->ledger.notices;
    totals->notices_doubled += h->ledger.notices_doubled;
}

/* What receivers' models did; the first one does nothing but say yes. */
static void add_models(const struct remote_models *remote_models, struct tally *tally)
{
    for (size_t i = 0; i < model_count; i++)
        tally_add(tally, "model", models[i].name, remote_models->drawn[i]);
    for (size_t i = 1; i < model_count; i++)
        tally_add(tally, "spoke", models[i].name, remote_models->played[i]);
}

/* Violations of one seed; *ret_hash is the trace's. */
static uint32_t run_history(uint64_t seed, uint32_t messages, bool trace, struct totals *totals,
                            uint64_t *ret_hash)
{
    struct history *h = calloc(1, sizeof(*h));
    uint32_t violations;

    rng_init(&h->rng, seed);
    /* Numbers of virtual MTAs place queues on shards: they may not depend on earlier seeds. */
    intern_forget();
    renewal_init(&h->renewal, &h->rng, seed);
    ledger_init(&h->ledger, messages, 12, &h->rng);
    if (rng_one_in(&h->rng, 2))
        ledger_heat(&h->ledger, &h->rng);
    draw_world(h, seed, trace);
    h->ledger.is_quiet = planted_on != NULL;
    /* An outcome waits for the commit before it and for its own; each may meet two stalls of two
     * seconds. */
    h->ledger.crash_window_ns = 10 * SECOND_NS;
    h->remote.rates = remote_faults_some(&h->rng);
    h->remote.session_count = (uint32_t)rng_between(&h->rng, 1, 12);
    h->remote.inject = true;
    h->remote.clients_leave = true;
    h->remote.has_jobs = h->renewal.has_jobs;
    h->remote.is_signed = h->renewal.is_signed;
    h->remote.product = (struct ipaddr_port){{IPADDR_V4, {127, 0, 0, 1}}, 2525};
    remote_start(&h->remote, h->world, &h->ledger, RECEIVERS);
    h->remote.watch = &h->watch;
    h->watch.world = h->world;
    h->watch.product = &h->product;
    h->watch.ledger = &h->ledger;
    h->watch.remote = &h->remote;
    h->product.world = h->world;
    h->product.zone.receiver_count = RECEIVERS;
    h->weather = (struct weather){.world = h->world,
                                  .receiver_count = RECEIVERS,
                                  .source_count = SOURCES,
                                  .disk_bytes = DISK_BYTES};
    h->is_tight = rng_one_in(&h->rng, 8);
    if (h->is_tight)
        h->weather.disk_bytes = rng_between(&h->rng, 5, 16) * SEGMENT_BYTES_MIN;
    sim_disk_limit(h->world, h->weather.disk_bytes);
    draw_devices(h);
    weather_begin(&h->weather);
    h->product.zone.failure_rate = (uint32_t)rng_between(&h->rng, 5, 50);
    h->product.zone.denial_rate = (uint32_t)rng_between(&h->rng, 5, 50);
    h->product.zone.change_rate = (uint32_t)rng_between(&h->rng, 2, 20);
    h->crashes_left = (uint32_t)rng_between(&h->rng, CRASHES_MIN, CRASHES_MIN + 2);
    for (; h->crashes_left > 0; h->crashes_left--)
        if (!life_until_crash(h))
            break;
    last_life(h);
    h->ledger.notices_given_up = h->product.events.notices_given_up;
    violations = ledger_check(&h->ledger);
    *ret_hash = sim_trace_hash(h->world);
    if (totals)
        add_totals(h, totals);
    remote_end(&h->remote, totals ? &totals->remote_models : NULL);
    sim_world_destroy(h->world);
    ledger_fini(&h->ledger);
    free(h);
    return violations;
}

/* ---- Many -------------------------------------------------------------------------------------
 */

static int run_seeds(uint64_t first, uint64_t count, uint32_t messages)
{
    struct totals totals = {0};
    uint32_t bad = 0;

    for (uint64_t seed = first; seed < first + count; seed++) {
        uint64_t hash, again;
        uint32_t violations = run_history(seed, messages, false, &totals, &hash);

        if (violations == 0 && seed % REPEAT_EVERY == 0) {
            run_history(seed, messages, false, NULL, &again);
            if (again != hash) {
                fprintf(stderr, "seed %llu: not the same history twice\n",
                        (unsigned long long)seed);
                violations++;
            }
        }
        if (violations) {
            bad++;
            fprintf(stderr, "seed %llu: %u violations\n", (unsigned long long)seed, violations);
        }
    }
    printf("lives %llu, crashes %llu, transactions taken %llu, excused doubles %llu\n",
           (unsigned long long)totals.lives, (unsigned long long)totals.crashes,
           (unsigned long long)totals.taken, (unsigned long long)totals.doubles);
    printf("failures told to their senders %llu, %llu of them again after a crash\n",
           (unsigned long long)totals.notices, (unsigned long long)totals.notices_doubled);
    printf("longest wait for a connection: %u %% of its bound\n", totals.longest_wait_percent);
    add_models(&totals.remote_models, &totals.tally);
    tally_print(&totals.tally);
    /* A few seeds cannot meet everything; a full run must. */
    if (count >= TALLY_SEEDS && tally_complain(&totals.tally) > 0)
        bad++;
    printf("%llu seeds, %u bad\n", (unsigned long long)count, bad);
    return bad ? 1 : 0;
}

/* ---- Planted bugs -----------------------------------------------------------------------------
 */

/* One seed in a process of its own: a planted bug may stop it (must) or hang it. */
static bool is_caught(const char *name, uint64_t seed)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        uint64_t hash;

        fclose(stderr);
        alarm(60);
        planted_on = name;
        _exit(run_history(seed, PLANTED_MESSAGES, false, NULL, &hash) ? 1 : 0);
    }
    waitpid(child, &status, 0);
    /* A history that was merely slow proves nothing. */
    return status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
}

/* only: the name of one, or NULL. */
/* "3/4" is the third of each four. */
static bool is_chosen(const char *only, const char *name, uint32_t position)
{
    unsigned k, n;

    if (only && sscanf(only, "%u/%u", &k, &n) == 2)
        return n > 0 && position % n + 1 == k;
    return !only || strcmp(only, name) == 0;
}

/* Where the search begins: a rare bug where it was caught last, one that makes histories long where
 * it was caught soonest. From the first seed on these took most of the time of all. */
static uint64_t first_seed(const char *name)
{
    static const struct {
        const char *name;
        uint64_t seed;
    } known[] = {
        {"shard/outcome-not-logged", 24},       {"shard/restart-releases-early", 7},
        {"shard/no-delay-before-retry", 10},    {"shard/recipient-not-handed-out", 13},
        {"shard/recipient-lost-on-the-way", 2}, {"shard/ends-while-it-moves", 23},
        {"shard/newer-version-overlooked", 92}, {"shard/turn-never-ends", 68},
        {"shard/last-comes-first", 182},        {"shard/message-uses-no-octets", 320},
        {"shard/backoff-order-overlooked", 16}, {"shard/outcome-before-notice", 22},
        {"queue/end-before-done", 23},
    };

    for (uint32_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].seed;
    return 1;
}

static int run_planted(const char *only)
{
    static const char *const names[] = {
#define PLANTED_NAME(name) name,
        SHARD_PLANTED_BUGS(PLANTED_NAME)
#undef PLANTED_NAME
        /* The other bugs of the queue need the disk games of its own property test. */
        "queue/answer-before-sync",
        "queue/chunk-answered-early",
        "queue/outcome-dropped",
        "queue/crc-without-serial",
        "queue/end-before-done",
    };
    uint32_t missed = 0, tried = 0;

    if (is_caught("none", 1)) {
        printf("the history without a bug fails by itself\n");
        return 1;
    }
    for (uint32_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t seed = first_seed(names[i]), end = seed + PLANTED_SEEDS;

        if (!is_chosen(only, names[i], i))
            continue;
        tried++;
        while (seed < end && !is_caught(names[i], seed))
            seed++;
        printf("%-36s %s", names[i], seed < end ? "caught by seed" : "MISSED\n");
        if (seed < end)
            printf(" %llu\n", (unsigned long long)seed);
        else
            missed++;
        fflush(stdout);
    }
    printf("%u planted bugs, %u missed\n", tried, missed);
    return missed || tried == 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    uint64_t hash;

    log_set_sink(drop_log, NULL);
    if ((argc == 2 || argc == 3) && strcmp(argv[1], "planted") == 0)
        return run_planted(argv[2]);
    if (argc == 3 && strcmp(argv[1], "trace") == 0)
        return run_history(strtoull(argv[2], NULL, 0), MESSAGES_DEFAULT, true, NULL, &hash) != 0;
    if (argc < 3) {
        fprintf(stderr,
                "usage: product_test FIRST COUNT [MESSAGES] | planted [NAME|K/N] | trace SEED\n");
        return 2;
    }
    return run_seeds(strtoull(argv[1], NULL, 0), strtoull(argv[2], NULL, 0),
                     argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : MESSAGES_DEFAULT);
}
