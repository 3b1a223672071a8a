/*
 * The whole product in the simulated world, seed by seed.
 *
 * One seed is one history: a number of shards, a configuration, faults, at least three lives that
 * end by a kill or a power cut, then a last life in a quiet world that must bring everything to an
 * end. The ledger outside says whether anything was lost, doubled without excuse, changed or tried
 * too early; after the end every pool must be empty, and one more start must find nothing.
 *
 *   product_test FIRST COUNT [MESSAGES]     seeds FIRST … FIRST+COUNT-1
 *   product_test planted                    every planted bug must be found
 *   product_test trace SEED                 one seed, with its text trace
 */
#include "core/base/log.h"
#include "core/base/planted.h"
#include "shard/planted.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES_DEFAULT 1000
#define CRASHES_MIN      3
#define SECOND_NS        1000000000ull
#define REPEAT_EVERY     20 /* seeds that are run twice for the hash */
#define PLANTED_SEEDS    60 /* a bug must be found within so many */
#define PLANTED_MESSAGES 400

/* Sums over all seeds. */
struct totals {
    uint64_t coverage[SIM_COVER_KINDS];
    const char *coverage_names[SIM_COVER_KINDS];
    struct remote_faults remote_hits;
    struct remote_models remote_models;
    uint64_t lives;
    uint64_t crashes;
    uint64_t torn_tails;
    uint64_t damages;
    uint64_t voids;
    uint64_t evacuations;
    uint64_t recovered;
    uint64_t answered;
    uint64_t taken;
    uint64_t doubles;
    uint64_t dns_failures;
    uint64_t dns_denials;
    uint64_t poisons;
    uint64_t refused_starts;
};

struct history {
    struct sim_world *world;
    struct rng rng;
    struct ledger ledger;
    struct remote remote;
    struct product product;
    char config[2048];
    struct conf *conf;
    uint32_t crashes_left;
    uint32_t refused_starts;
    uint32_t poisons;
    bool poison_noted; /* in this life */
    bool audit_failed; /* said once */
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

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

/* Few connections for a whole virtual MTA, so that shards have to share them. */
static const char *draw_vmta_limit(struct history *h)
{
    static const char *const limits[] = {"", "", " max-smtp-out 1\n", " max-smtp-out 2\n",
                                         " max-smtp-out 5\n"};

    return limits[rng_below(&h->rng, sizeof(limits) / sizeof(limits[0]))];
}

static void draw_config(struct history *h)
{
    char *at = h->config;
    char *end = h->config + sizeof(h->config);

    at += snprintf(at, (size_t)(end - at),
                   "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n"
                   "smtp-source-host 10.9.0.1 mta.test\nhot-set-size %llu\n"
                   "total-max-smtp-out %llu\n"
                   "<spool /spool>\n</spool>\n"
                   "<source 127.0.0.1>\n always-allow-relaying yes\n default-virtual-mta pool\n"
                   "</source>\n",
                   rng_one_in(&h->rng, 2) ? 4ull << 20 : 64ull << 20,
                   rng_one_in(&h->rng, 2) ? (unsigned long long)rng_between(&h->rng, 1, 8) : 1200);
    for (int i = 1; i <= 3; i++)
        at += snprintf(
            at, (size_t)(end - at),
            "<virtual-mta v%d>\n smtp-source-host 10.9.0.%d v%d.test\n%s%s</virtual-mta>\n", i, i,
            i, i == 3 ? " smtp-source-host 10.9.0.4 v4.test\n" : "", draw_vmta_limit(h));
    at += snprintf(at, (size_t)(end - at),
                   "<virtual-mta-pool pool>\n virtual-mta v1\n virtual-mta v2\n virtual-mta v3\n"
                   "</virtual-mta-pool>\n"
                   "<domain *>\n max-smtp-out %llu\n retry-after 10m,20m,40m\n"
                   " pipeline-across-messages %s\n</domain>\n",
                   (unsigned long long)rng_between(&h->rng, 1, 20),
                   rng_one_in(&h->rng, 3) ? "auto" : "yes");
    if (rng_one_in(&h->rng, 2))
        at += snprintf(at, (size_t)(end - at),
                       "<domain d0.test>\n smtp-hosts [10.0.0.1]:25;[10.0.1.1]:25\n</domain>\n");
    if (at >= end || conf_load_text("sim", h->config, NULL, report, NULL, &h->conf) < 0)
        abort();
}

static void on_ordered_crash(void *context)
{
    struct history *h = context;

    ledger_crash(&h->ledger, sim_now_ns(h->world));
}

static void draw_setup(struct history *h, struct product_setup *setup)
{
    *setup = (struct product_setup){
        .shard_count = (uint16_t)rng_between(&h->rng, 1, 4),
        .committer_alone = rng_one_in(&h->rng, 3),
        .conf = h->conf,
        .segment_bytes = 256 << 10,
        .segment_count_max = rng_one_in(&h->rng, 3) ? (uint32_t)rng_between(&h->rng, 8, 12) : 512,
        .checkpoint_bytes = (uint32_t)rng_between(&h->rng, 64, 512) << 10,
        .on_crash = on_ordered_crash,
        .crash_context = h,
    };
    /* Half of the crashes are aimed at a disk call: of recovery too, when it comes early. */
    if (h->crashes_left > 0 && rng_one_in(&h->rng, 2)) {
        setup->crash_after = rng_between(&h->rng, 1, rng_one_in(&h->rng, 2) ? 60 : 1500);
        setup->crash_is_power_cut = rng_one_in(&h->rng, 2);
    }
}

static void draw_world(struct history *h, uint64_t seed, bool trace)
{
    struct sim_options options = {
        .trace_text = trace, .latency_max_ns = 5000000, .faults = sim_faults_mild()};

    /* Rare faults that cost a run a minute of virtual time each, and those of the medium. */
    options.faults.sync_failed = rng_one_in(&h->rng, 3) ? 400 : 0;
    options.faults.write_failed = rng_one_in(&h->rng, 3) ? 400 : 0;
    options.faults.alloc_failed = rng_one_in(&h->rng, 4) ? 50 : 0;
    options.faults.wall_jumped = rng_one_in(&h->rng, 4) ? 100000 : 0;
    /* Due times survive a restart as wall clock times: a jump between two lives moves them. Within
     * a life they stand on the monotonic clock. */
    if (!options.faults.wall_jumped)
        h->ledger.retry_min_ns = 540 * SECOND_NS; /* 10m less 10 % jitter */
    h->world = sim_world_create(seed, &options);
}

/* Work goes on until so many further messages were answered, or time is over. */
struct until {
    struct history *history;
    uint32_t answered;
};

/* A log that is given up is an end too: outcomes on their way to it are never durable. */
static void note_poison(struct history *h)
{
    if (h->poison_noted || !h->product.process || !h->product.assembly ||
        spool_health(assembly_spool(h->product.assembly)) != SPOOL_POISONED)
        return;
    h->poison_noted = true;
    h->poisons++;
    ledger_crash(&h->ledger, sim_now_ns(h->world));
}

/* What must hold after every step of every life. */
static void audit(struct history *h)
{
    const char *text = h->audit_failed ? NULL : product_audit(&h->product);

    note_poison(h);
    if (!text)
        return;
    h->audit_failed = true;
    ledger_violation(&h->ledger, 0, text);
}

static bool only_time(void *context)
{
    audit(context);
    return false;
}

static bool enough_answered(void *context)
{
    struct until *until = context;

    audit(until->history);
    remote_tend(&until->history->remote);
    return !until->history->product.process || until->history->ledger.answered >= until->answered;
}

static bool all_done(void *context)
{
    struct history *h = context;

    audit(h);
    remote_tend(&h->remote);
    return h->ledger.next == h->ledger.count && ledger_is_complete(&h->ledger) &&
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

/* A life that refuses to start (a failing disk) is tried again; the disk heals in the end. */
static bool start_life(struct history *h)
{
    struct product_setup setup;

    for (int attempt = 0; attempt < 20; attempt++) {
        draw_setup(h, &setup);
        h->poison_noted = false;
        if (product_start(&h->product, &setup) == 0)
            return true;
        if (!setup.crash_after)
            h->refused_starts++;
        sim_run_for(h->world, SECOND_NS);
        if (attempt > 10)
            *sim_faults(h->world) = sim_faults_none();
    }
    ledger_violation(&h->ledger, 0, "the product does not start");
    return false;
}

static bool life_until_crash(struct history *h)
{
    struct until until = {h, 0};

    if (!start_life(h))
        return false;
    until.answered =
        h->ledger.answered + (uint32_t)rng_between(&h->rng, 1, h->ledger.count / (CRASHES_MIN + 1));
    sim_run_until(h->world, enough_answered, &until, 4000 * SECOND_NS, 400000);
    /* Some crashes hit the queue while nothing comes in. */
    if (rng_one_in(&h->rng, 4))
        sim_run_until(h->world, only_time, h, rng_between(&h->rng, 1, 1000 * SECOND_NS), 400000);
    if (h->product.process)
        ledger_crash(&h->ledger, sim_now_ns(h->world));
    product_crash(&h->product, rng_one_in(&h->rng, 2));
    return true;
}

/* The last life, in a world without faults, brings everything to an end and stops in order. */
static void last_life(struct history *h)
{
    *sim_faults(h->world) = sim_faults_none();
    memset(&h->remote.rates, 0, sizeof(h->remote.rates));
    h->product.zone.failure_rate = 0;
    h->product.zone.denial_rate = 0;
    sim_run_for(h->world, SECOND_NS);
    if (!start_life(h))
        return;
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

static void add_totals(const struct history *h, struct totals *totals)
{
    const struct sim_coverage *coverage = sim_coverage(h->world);

    for (int i = 0; i < SIM_COVER_KINDS; i++) {
        totals->coverage[i] += coverage[i].count;
        totals->coverage_names[i] = coverage[i].name;
    }
#define ADD_HITS(name, text) totals->remote_hits.name += h->remote.hits.name;
    REMOTE_FAULTS(ADD_HITS)
#undef ADD_HITS
    totals->lives += h->product.lives;
    totals->crashes += h->ledger.crash_count;
    totals->torn_tails += h->product.torn_tails;
    totals->damages += h->product.damages;
    totals->voids += h->product.voids;
    totals->evacuations += h->product.evacuations;
    totals->recovered += h->product.recovered_messages;
    totals->answered += h->ledger.answered;
    totals->taken += h->remote.transactions;
    totals->doubles += h->ledger.doubles_excused;
    totals->poisons += h->poisons;
    totals->refused_starts += h->refused_starts;
    totals->dns_failures += h->product.zone.failures;
    totals->dns_denials += h->product.zone.denials;
}

/* Violations of one seed; *ret_hash is the trace's. */
static uint32_t run_history(uint64_t seed, uint32_t messages, bool trace, struct totals *totals,
                            uint64_t *ret_hash)
{
    struct history *h = calloc(1, sizeof(*h));
    uint32_t violations;

    rng_init(&h->rng, seed);
    draw_config(h);
    ledger_init(&h->ledger, messages, 12, &h->rng);
    draw_world(h, seed, trace);
    h->ledger.is_quiet = planted_on != NULL;
    /* An outcome waits for the commit before it and for its own; each may meet two stalls of two
     * seconds. */
    h->ledger.crash_window_ns = 10 * SECOND_NS;
    h->remote.rates = remote_faults_some(&h->rng);
    h->remote.session_count = (uint32_t)rng_between(&h->rng, 1, 12);
    h->remote.inject = true;
    h->remote.product = (struct ipaddr_port){{IPADDR_V4, {127, 0, 0, 1}}, 2525};
    remote_start(&h->remote, h->world, &h->ledger, 4);
    h->product.world = h->world;
    h->product.zone.receiver_count = 4;
    h->product.zone.failure_rate = (uint32_t)rng_between(&h->rng, 5, 50);
    h->product.zone.denial_rate = (uint32_t)rng_between(&h->rng, 5, 50);
    h->crashes_left = (uint32_t)rng_between(&h->rng, CRASHES_MIN, CRASHES_MIN + 2);
    for (; h->crashes_left > 0; h->crashes_left--)
        if (!life_until_crash(h))
            break;
    last_life(h);
    violations = ledger_check(&h->ledger);
    *ret_hash = sim_trace_hash(h->world);
    if (totals)
        add_totals(h, totals);
    remote_end(&h->remote, totals ? &totals->remote_models : NULL);
    sim_world_destroy(h->world);
    conf_unref(h->conf);
    ledger_fini(&h->ledger);
    free(h);
    return violations;
}

/* ---- Many -------------------------------------------------------------------------------------
 */

static bool print_totals(const struct totals *totals, uint64_t seeds)
{
    bool all_hit = true;

    printf("lives %llu, crashes %llu, answered %llu, taken %llu, recovered %llu, excused doubles "
           "%llu\n",
           (unsigned long long)totals->lives, (unsigned long long)totals->crashes,
           (unsigned long long)totals->answered, (unsigned long long)totals->taken,
           (unsigned long long)totals->recovered, (unsigned long long)totals->doubles);
    printf("recovery: torn tails %llu, damages %llu, voids %llu, evacuations %llu, refused starts "
           "%llu; logs given up "
           "%llu; DNS failures %llu, denials %llu\n",
           (unsigned long long)totals->torn_tails, (unsigned long long)totals->damages,
           (unsigned long long)totals->voids, (unsigned long long)totals->evacuations,
           (unsigned long long)totals->refused_starts, (unsigned long long)totals->poisons,
           (unsigned long long)totals->dns_failures, (unsigned long long)totals->dns_denials);
    for (int i = 0; i < SIM_COVER_KINDS; i++)
        printf("  world  %-22s %llu\n", totals->coverage_names[i],
               (unsigned long long)totals->coverage[i]);
#define PRINT_HIT(name, text)                                                                      \
    printf("  remote %-22s %llu\n", #name, (unsigned long long)totals->remote_hits.name);          \
    all_hit &= totals->remote_hits.name >= 20;
    REMOTE_FAULTS(PRINT_HIT)
#undef PRINT_HIT
    for (size_t i = 0; i < model_count; i++) {
        printf("  model  %-22s %llu receivers, %llu times its rules\n", models[i].name,
               (unsigned long long)totals->remote_models.drawn[i],
               (unsigned long long)totals->remote_models.played[i]);
        all_hit &= totals->remote_models.drawn[i] >= 20;
        /* The first does nothing but say yes. */
        all_hit &= i == 0 || totals->remote_models.played[i] >= 20;
    }
    all_hit &= totals->torn_tails >= 20 && totals->voids >= 20 && totals->dns_denials >= 20;
    /* Few seeds cannot hit everything; the full run must. */
    return all_hit || seeds < 500;
}

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
    if (!print_totals(&totals, count)) {
        fprintf(stderr, "some fault or branch was hit fewer than 20 times\n");
        bad++;
    }
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
    return status != 0;
}

static int run_planted(void)
{
    static const char *const names[] = {
#define PLANTED_NAME(name) name,
        SHARD_PLANTED_BUGS(PLANTED_NAME)
#undef PLANTED_NAME
        /* The other bugs of the queue need the disk games of its own property test. */
        "queue/answer-before-sync",
        "queue/outcome-dropped",
        "queue/crc-without-serial",
        "queue/end-before-done",
    };
    uint32_t missed = 0, count = sizeof(names) / sizeof(names[0]);

    if (is_caught("none", 1)) {
        printf("the history without a bug fails by itself\n");
        return 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t seed = 1;

        while (seed <= PLANTED_SEEDS && !is_caught(names[i], seed))
            seed++;
        printf("%-36s %s", names[i], seed <= PLANTED_SEEDS ? "caught by seed" : "MISSED\n");
        if (seed <= PLANTED_SEEDS)
            printf(" %llu\n", (unsigned long long)seed);
        else
            missed++;
        fflush(stdout);
    }
    printf("%u planted bugs, %u missed\n", count, missed);
    return missed ? 1 : 0;
}

int main(int argc, char **argv)
{
    uint64_t hash;

    log_set_sink(drop_log, NULL);
    if (argc == 2 && strcmp(argv[1], "planted") == 0)
        return run_planted();
    if (argc == 3 && strcmp(argv[1], "trace") == 0)
        return run_history(strtoull(argv[2], NULL, 0), MESSAGES_DEFAULT, true, NULL, &hash) != 0;
    if (argc < 3) {
        fprintf(stderr, "usage: product_test FIRST COUNT [MESSAGES] | planted | trace SEED\n");
        return 2;
    }
    return run_seeds(strtoull(argv[1], NULL, 0), strtoull(argv[2], NULL, 0),
                     argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 0) : MESSAGES_DEFAULT);
}
