/* ringpost-bench e2e, ringpost-bench floor */
#include "bench/args.h"
#include "bench/command.h"
#include "bench/process.h"
#include "bench/scenario.h"

#include <linux/magic.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

enum series {
    SERIES_DIRECT,
    SERIES_FLOOR,
    SERIES_DAEMON,
    SERIES_COUNT,
};

struct e2e {
    struct scenario scenario;
    struct command_texts rules;
    char daemon[PATH_MAX];
    uint64_t runs;
    double open_loop_percent;
    bool vs_floor;
    bool no_direct;
    bool no_relay; /* the generator into the sink, nothing else */
    bool json;
    enum relay_kind relay;
    struct figures_series closed[SERIES_COUNT];
    struct figures_series open[SERIES_COUNT];
};

static const char *const closed_names[SERIES_COUNT] = {"direct", "floor", "daemon"};
static const char *const open_names[SERIES_COUNT] = {"direct, open loop", "floor, open loop",
                                                     "daemon, open loop"};
static const enum relay_kind kinds[SERIES_COUNT] = {RELAY_NONE, RELAY_FLOOR, RELAY_DAEMON};

/* ---- The command line ------------------------------------------------------------------------ */

static int parse(struct e2e *e2e, const char *summary, int argc, char **argv)
{
    struct scenario *scenario = &e2e->scenario;
    struct gen_options *gen = &scenario->gen;
    const struct arg table[] = {
        {"daemon", ARG_TEXT, &scenario->daemon, "PATH", "ringpostd (beside this program)", NULL},
        {"spool", ARG_TEXT, &scenario->spool, "DIR", "temporary files go below it (/var/tmp)",
         NULL},
        {"extra", ARG_TEXT, &scenario->extra, "FILE", "lines to end the daemon's configuration",
         NULL},
        {"runs", ARG_COUNT, &e2e->runs, "N", "repetitions; medians and ranges are printed (1)",
         NULL},
        {"messages", ARG_COUNT, &gen->messages, "N", "messages a run (200000)", NULL},
        {"warmup", ARG_COUNT, &scenario->warmup, "N", "messages before the clock runs (20000)",
         NULL},
        {"sessions", ARG_COUNT, &gen->sessions, "N", "injecting sessions (100)", NULL},
        {"sizes", ARG_EACH, gen, "SIZE[:WEIGHT],...", "message sizes (2k)", command_take_sizes},
        {"rcpts", ARG_COUNT, &gen->rcpts, "N", "recipients of each message (1)", NULL},
        {"domains", ARG_COUNT, &gen->domains, "N", "recipient domains (100)", NULL},
        {"pipelining", ARG_EACH, &gen->pipelining, "HOW", "none, envelope or full (envelope)",
         command_take_pipelining},
        {"dots", ARG_FLAG, &gen->dots, NULL, "bodies with lines that begin with dots", NULL},
        {"vmtas", ARG_COUNT, &scenario->vmtas, "N", "source addresses 127.0.0.2 ... (4)", NULL},
        {"connections", ARG_COUNT, &scenario->connections, "N",
         "from each source to each address of the sink; for the daemon max-smtp-out (2)", NULL},
        {"out-max", ARG_COUNT, &scenario->out_max, "N",
         "the daemon's connections altogether (50000)", NULL},
        {"sink-addresses", ARG_COUNT, &scenario->sink_addresses, "N", "the domains share (4)",
         NULL},
        {"sink-workers", ARG_COUNT, &scenario->sink_workers, "N", "processes of the sink (1)",
         NULL},
        {"check-body", ARG_FLAG, &scenario->sink.check_body, NULL,
         "the sink compares bodies byte by byte", NULL},
        {"chunking", ARG_FLAG, &scenario->sink.chunking, NULL, "the sink offers CHUNKING", NULL},
        {"model", ARG_TEXT, &scenario->sink.model, "NAME",
         "what the sink behaves like (sink --list-models)", NULL},
        {"pace", ARG_NUMBER, &scenario->sink.pace, "N",
         "seconds in model and rules pass N times faster (1)", NULL},
        {"rule", ARG_EACH, &e2e->rules, "RULE", "misbehaviour of the sink, repeatable",
         command_take_text},
        {"rules", ARG_TEXT, &scenario->sink.rules_file, "FILE", "a file of such rules", NULL},
        {"lose-every", ARG_COUNT, &scenario->sink.lose_every, "N",
         "fault: the sink's ledger leaves out each N-th recipient", NULL},
        {"double-every", ARG_COUNT, &scenario->sink.double_every, "N",
         "fault: it enters each N-th recipient twice", NULL},
        {"open-loop", ARG_NUMBER, &e2e->open_loop_percent, "PERCENT",
         "then at a fixed schedule of so much of the rate just measured", NULL},
        {"vs-floor", ARG_FLAG, &e2e->vs_floor, NULL, "take turns with the bare relay", NULL},
        {"no-direct", ARG_FLAG, &e2e->no_direct, NULL, "leave out generator to sink", NULL},
        {"direct-only", ARG_FLAG, &e2e->no_relay, NULL, "only generator to sink", NULL},
        {"patience", ARG_NUMBER, &scenario->patience_s, "S",
         "without a delivery for so long, the rest is lost (20)", NULL},
        {"limit", ARG_NUMBER, &scenario->limit_s, "S", "longest time for one run (600)", NULL},
        {"json", ARG_FLAG, &e2e->json, NULL, "print everything as JSON", NULL},
    };

    return args_parse(summary, table, sizeof(table) / sizeof(table[0]), argc, argv);
}

static bool makes_sense(const struct e2e *e2e)
{
    const struct scenario *scenario = &e2e->scenario;
    const struct gen_options *gen = &scenario->gen;

    return e2e->runs > 0 && e2e->runs <= FIGURES_RUNS_MAX && gen->messages > 0 &&
           gen->messages < UINT32_MAX && scenario->warmup < UINT32_MAX && gen->sessions > 0 &&
           gen->sessions <= 60000 && gen->rcpts > 0 && gen->rcpts <= GEN_RCPTS_MAX &&
           gen->domains > 0 && gen->domains <= 1000000 && scenario->vmtas > 0 &&
           scenario->vmtas <= RELAY_SOURCES_MAX && scenario->connections > 0 &&
           scenario->connections < 10000 && scenario->sink_addresses > 0 &&
           scenario->sink_addresses <= 100 && scenario->sink_workers > 0 &&
           scenario->sink_workers <= 64 && e2e->open_loop_percent <= 1000;
}

void command_default_daemon(char *room, size_t room_bytes)
{
    ssize_t len = readlink("/proc/self/exe", room, room_bytes - 1);
    char *slash;

    room[len > 0 ? len : 0] = '\0';
    slash = strrchr(room, '/');
    if (slash != NULL && (size_t)(slash - room) + sizeof("/ringpostd") <= room_bytes)
        memcpy(slash, "/ringpostd", sizeof("/ringpostd"));
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static int run_series(struct e2e *e2e, struct figures_series *series, enum relay_kind relay,
                      double rate)
{
    struct scenario scenario = e2e->scenario;
    struct figures figures;
    int error;

    scenario.relay = relay;
    scenario.gen.rate = rate;
    error = scenario_run(&scenario, &figures);
    if (error < 0)
        return error;
    figures_add(series, &figures);
    if (!e2e->json)
        fprintf(stderr, "  %-18s %8.0f/s  relay %6.2f us  p50 %.3f ms  p99 %.3f ms\n", series->name,
                figures.of[FIGURE_rate], figures.of[FIGURE_relay_cpu_us], figures.of[FIGURE_p50_ms],
                figures.of[FIGURE_p99_ms]);
    return 0;
}

static bool is_wanted(const struct e2e *e2e, enum series which)
{
    if (which == SERIES_DIRECT)
        return e2e->no_relay || !e2e->no_direct;
    if (e2e->no_relay)
        return false;
    return kinds[which] == e2e->relay || (which == SERIES_FLOOR && e2e->vs_floor);
}

/* All kinds take turns, so that what else happens on the machine meets them alike. */
static int run_all(struct e2e *e2e)
{
    for (uint64_t run = 0; run < e2e->runs; run++) {
        for (int which = 0; which < SERIES_COUNT; which++) {
            int error = 0;

            if (is_wanted(e2e, (enum series)which))
                error = run_series(e2e, &e2e->closed[which], kinds[which], 0);
            if (error < 0)
                return error;
        }
    }
    if (e2e->open_loop_percent <= 0)
        return 0;
    for (uint64_t run = 0; run < e2e->runs; run++) {
        for (int which = 0; which < SERIES_COUNT; which++) {
            double rate = figures_median(&e2e->closed[which], FIGURE_rate);
            int error = 0;

            if (is_wanted(e2e, (enum series)which))
                error = run_series(e2e, &e2e->open[which], kinds[which],
                                   rate * e2e->open_loop_percent / 100);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

/* ---- Printing -------------------------------------------------------------------------------- */

static void read_line(const char *path, char *room, size_t room_bytes)
{
    FILE *stream = fopen(path, "re");

    room[0] = '\0';
    if (stream != NULL && fgets(room, (int)room_bytes, stream) != NULL)
        room[strcspn(room, "\n")] = '\0';
    if (stream != NULL)
        fclose(stream);
}

static void print_machine(const struct e2e *e2e, FILE *stream)
{
    const struct gen_options *gen = &e2e->scenario.gen;
    char congestion[64];
    struct utsname name;
    struct statfs fs;
    bool in_memory =
        statfs(e2e->scenario.spool, &fs) == 0 && (unsigned long)fs.f_type == TMPFS_MAGIC;

    uname(&name);
    read_line("/proc/sys/net/ipv4/tcp_congestion_control", congestion, sizeof(congestion));
    fprintf(stream,
            "{\"kernel\":\"%s\",\"cpus\":%ld,\"congestion_control\":\"%s\","
            "\"spool_in_memory\":%s,\"sessions\":%lu,\"messages\":%lu,\"size\":%lu,\"rcpts\":%lu,"
            "\"domains\":%lu,\"vmtas\":%lu,\"sink_addresses\":%lu,\"pipelining\":%d}",
            name.release, sysconf(_SC_NPROCESSORS_ONLN), congestion, in_memory ? "true" : "false",
            gen->sessions, gen->messages, gen->sizes[0].bytes, gen->rcpts, gen->domains,
            e2e->scenario.vmtas, e2e->scenario.sink_addresses, (int)gen->pipelining);
}

/* How much of the yardstick the daemon is. */
static double ratio(const struct figures_series *series, enum figure figure)
{
    return figures_median(&series[SERIES_DAEMON], figure) /
           figures_median(&series[SERIES_FLOOR], figure);
}

static void print_text(const struct e2e *e2e)
{
    printf("machine and load: ");
    print_machine(e2e, stdout);
    printf("\n");
    for (int which = 0; which < SERIES_COUNT; which++) {
        if (e2e->closed[which].count > 0)
            figures_print(&e2e->closed[which], stdout);
        if (e2e->open[which].count > 0)
            figures_print(&e2e->open[which], stdout);
    }
    if (e2e->vs_floor && e2e->closed[SERIES_DAEMON].count > 0)
        printf("daemon / floor: CPU a message %.2f, rate %.2f\n",
               ratio(e2e->closed, FIGURE_relay_cpu_us), ratio(e2e->closed, FIGURE_rate));
}

static void print_json(const struct e2e *e2e)
{
    const char *separator = "";

    printf("{\"setup\":");
    print_machine(e2e, stdout);
    printf(",\"series\":[");
    for (int which = 0; which < SERIES_COUNT; which++) {
        const struct figures_series *series[2] = {&e2e->closed[which], &e2e->open[which]};

        for (int i = 0; i < 2; i++) {
            if (series[i]->count == 0)
                continue;
            printf("%s", separator);
            figures_print_json(series[i], stdout);
            separator = ",";
        }
    }
    printf("]");
    if (e2e->vs_floor && e2e->closed[SERIES_DAEMON].count > 0)
        printf(",\"cpu_ratio\":%.4f,\"rate_ratio\":%.4f", ratio(e2e->closed, FIGURE_relay_cpu_us),
               ratio(e2e->closed, FIGURE_rate));
    printf("}\n");
}

/* ---- The commands ---------------------------------------------------------------------------- */

static int command_measure(enum relay_kind relay, const char *summary, int argc, char **argv)
{
    static struct e2e e2e;
    double faults = 0;
    int error;

    e2e = (struct e2e){.runs = 1, .relay = relay};
    scenario_init(&e2e.scenario);
    command_default_daemon(e2e.daemon, sizeof(e2e.daemon));
    e2e.scenario.daemon = e2e.daemon;
    switch (parse(&e2e, summary, argc, argv)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    e2e.scenario.sink.rules = e2e.rules.list;
    e2e.scenario.sink.rule_count = e2e.rules.count;
    if (!makes_sense(&e2e) || sink_check(&e2e.scenario.sink) != 0) {
        fprintf(stderr, "ringpost-bench %s: these values make no sense\n", argv[0]);
        return COMMAND_USAGE;
    }
    for (int which = 0; which < SERIES_COUNT; which++) {
        e2e.closed[which].name = closed_names[which];
        e2e.open[which].name = open_names[which];
    }
    error = run_all(&e2e);
    if (error < 0)
        return COMMAND_FAILED;
    if (e2e.json)
        print_json(&e2e);
    else
        print_text(&e2e);
    for (int which = 0; which < SERIES_COUNT; which++)
        faults += figures_faults(&e2e.closed[which]) + figures_faults(&e2e.open[which]);
    return faults > 0 ? COMMAND_LOST : COMMAND_OK;
}

int command_e2e(int argc, char **argv)
{
    return command_measure(RELAY_DAEMON,
                           "Generator, daemon and sink on this machine: rate, CPU, latency, loss.",
                           argc, argv);
}

int command_floor(int argc, char **argv)
{
    return command_measure(
        RELAY_FLOOR, "The same as e2e with the bare relay in the daemon's place.", argc, argv);
}
