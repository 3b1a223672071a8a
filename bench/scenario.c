#include "bench/scenario.h"

#include "bench/process.h"
#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SINK_PORT      2525
#define RELAY_PORT     2526
#define PORT_TURNS     1000
#define START_LIMIT_MS 10000
#define LOOK_MS        1
/* After the last expected arrival: time for one too many to show up, and for the relay to finish
 * what it put off; that work counts. */
#define AFTERMATH_MS   100

struct run {
    const struct scenario *scenario;
    struct sink_options sink_options;
    struct gen_options gen_options;
    struct relay_options relay_options;
    struct relay relay;
    struct sink_shared *sink;
    struct gen_shared *gen;
    struct ledger *ledger;
    pid_t sink_pids[64];
    char dir[PATH_MAX];
    uint64_t limit_ns;
    uint64_t delivered_ns; /* when the last expected recipient had arrived */
};

/* What is read before and after. */
struct clocks {
    uint64_t relay_cpu_us;
    uint64_t sink_cpu_us;
    int64_t relay_calls;
    int64_t flushes;
    uint64_t refused_4xx;
};

void scenario_init(struct scenario *scenario)
{
    memset(scenario, 0, sizeof(*scenario));
    gen_options_init(&scenario->gen);
    scenario->relay = RELAY_DAEMON;
    scenario->gen.messages = 200000;
    scenario->warmup = 20000;
    scenario->sink = (struct sink_options){
        .host_name = "sink.test", .size_max = 100000000, .sessions_max = 20000};
    scenario->sink_addresses = 4;
    scenario->sink_workers = 1;
    scenario->connections = 2;
    scenario->out_max = 50000;
    scenario->vmtas = 4;
    scenario->spool = "/var/tmp";
    scenario->patience_s = 20;
    scenario->limit_s = 600;
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static struct ipaddr own_address(uint32_t which)
{
    uint32_t pid = (uint32_t)getpid();
    struct ipaddr ip = {.family = IPADDR_V4};

    ip.bytes[0] = 127;
    ip.bytes[1] = (uint8_t)which;
    ip.bytes[2] = (uint8_t)(pid >> 8);
    ip.bytes[3] = (uint8_t)pid;
    return ip;
}

static void fill_in(struct run *run)
{
    /* A ring outlives its process for a moment, and its listening sockets with it: they would take
     * connections from the next run if that used the same ports. */
    static uint16_t turn;
    const struct scenario *scenario = run->scenario;
    uint16_t port_add = (uint16_t)(turn++ % PORT_TURNS * 2);

    run->sink_options = scenario->sink;
    run->sink_options.address_count = (uint32_t)scenario->sink_addresses;
    for (uint32_t i = 0; i < scenario->sink_addresses; i++)
        run->sink_options.addresses[i] = (struct ipaddr_port){
            .ip = own_address(100 + i), .port = (uint16_t)(SINK_PORT + port_add)};
    run->relay_options = (struct relay_options){
        .kind = scenario->relay,
        .daemon = scenario->daemon,
        .dir = run->dir,
        .extra = scenario->extra,
        .listen = {.ip = own_address(99), .port = (uint16_t)(RELAY_PORT + port_add)},
        .targets = run->sink_options.addresses,
        .target_count = run->sink_options.address_count,
        .source_count = (uint32_t)scenario->vmtas,
        .domains = scenario->gen.domains,
        .connections = scenario->connections,
        .out_max = scenario->out_max,
    };
    for (uint32_t i = 0; i < scenario->vmtas; i++)
        run->relay_options.sources[i] =
            (struct ipaddr){.family = IPADDR_V4, .bytes = {127, 0, 0, (uint8_t)(2 + i)}};
    run->gen_options = scenario->gen;
    run->gen_options.run = (uint32_t)(process_now_ns() / 1000) | 1;
    run->gen_options.target_count = 1;
    run->gen_options.targets[0] = run->relay_options.listen;
    if (scenario->relay == RELAY_NONE) {
        run->gen_options.target_count = run->sink_options.address_count;
        if (run->gen_options.target_count > GEN_ADDRESSES_MAX)
            run->gen_options.target_count = GEN_ADDRESSES_MAX;
        memcpy(run->gen_options.targets, run->sink_options.addresses,
               run->gen_options.target_count * sizeof(struct ipaddr_port));
    }
}

/* ---- The sink -------------------------------------------------------------------------------- */

static int run_sink(void *context)
{
    struct run *run = context;

    return sink_work(&run->sink_options, run->sink, run->ledger);
}

static int start_sink(struct run *run)
{
    uint64_t end_ns = process_now_ns() + START_LIMIT_MS * 1000000ull;

    for (uint64_t i = 0; i < run->scenario->sink_workers; i++) {
        run->sink_pids[i] = process_fork(run_sink, run);
        if (run->sink_pids[i] < 0)
            return (int)run->sink_pids[i];
    }
    while (__atomic_load_n(&run->sink->ready, __ATOMIC_ACQUIRE) < run->scenario->sink_workers) {
        int32_t error = __atomic_load_n(&run->sink->error, __ATOMIC_ACQUIRE);

        if (error != 0)
            return error;
        if (process_now_ns() > end_ns || process_stop_asked())
            return -ETIMEDOUT;
        process_sleep_ms(LOOK_MS);
    }
    return 0;
}

static void stop_sink(struct run *run)
{
    __atomic_store_n(&run->sink->stop, 1, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < run->scenario->sink_workers; i++) {
        if (run->sink_pids[i] > 0)
            process_end(run->sink_pids[i], 2000);
    }
}

static uint64_t sink_cpu_us(const struct run *run)
{
    uint64_t sum = 0;

    for (uint64_t i = 0; i < run->scenario->sink_workers; i++)
        sum += process_cpu_us(run->sink_pids[i]);
    return sum;
}

/* ---- One load -------------------------------------------------------------------------------- */

static int run_gen(void *context)
{
    struct run *run = context;

    return gen_run(&run->gen_options, run->gen, run->ledger);
}

static uint64_t arrived(const struct run *run)
{
    return __atomic_load_n(&run->ledger->arrived_different, __ATOMIC_ACQUIRE) +
           __atomic_load_n(&run->ledger->refused_different, __ATOMIC_ACQUIRE);
}

static void show_progress(const struct run *run, uint64_t *next_ns)
{
    uint64_t now = process_now_ns();
    uint64_t start = __atomic_load_n(&run->gen->start_ns, __ATOMIC_RELAXED);

    if (run->scenario->progress == NULL || now < *next_ns || start == 0 || start > now)
        return;
    *next_ns += (uint64_t)(run->scenario->progress_s * 1e9);
    run->scenario->progress(run->scenario->context, &(struct scenario_look){
                                                        .gen = run->gen,
                                                        .sink = run->sink,
                                                        .ledger = run->ledger,
                                                        .relay = run->relay.pid,
                                                        .seconds = (double)(now - start) / 1e9,
                                                    });
}

/* A reason to give the run up, or 0. */
static int is_over(struct run *run)
{
    if (process_stop_asked())
        return -EINTR;
    if (!relay_is_alive(&run->relay))
        return E_CLOSED;
    return process_now_ns() > run->limit_ns ? -ETIMEDOUT : 0;
}

/* Until the generator has ended. */
static int wait_for_gen(struct run *run, pid_t gen, uint64_t *next_progress_ns)
{
    int status;

    while (process_is_alive(gen, &status)) {
        int error = is_over(run);

        if (error < 0) {
            process_end(gen, 3000);
            return error;
        }
        show_progress(run, next_progress_ns);
        process_sleep_ms(LOOK_MS);
    }
    return status == 0 ? 0 : E_CLOSED;
}

/* Until all that was accepted has arrived, or nothing has for a while. */
static int wait_for_arrivals(struct run *run, uint64_t *next_progress_ns)
{
    struct ledger_sums sums;
    uint64_t last = arrived(run);
    uint64_t last_ns = process_now_ns();

    ledger_sum(run->ledger, 0, run->gen_options.first_number + run->gen_options.messages, &sums);
    while (arrived(run) < sums.accepted) {
        uint64_t now = process_now_ns();
        int error = is_over(run);

        if (error < 0)
            return error;
        if (arrived(run) != last) {
            last = arrived(run);
            last_ns = now;
        }
        if ((double)(now - last_ns) > run->scenario->patience_s * 1e9)
            break;
        show_progress(run, next_progress_ns);
        process_sleep_ms(LOOK_MS);
    }
    run->delivered_ns = __atomic_load_n(&run->sink->last_arrival_ns, __ATOMIC_RELAXED);
    return 0;
}

/* Messages [first, first + count) through everything. */
static int load(struct run *run, uint64_t first, uint64_t count)
{
    uint64_t next_progress_ns = process_now_ns();
    pid_t gen;
    int error;

    memset(run->gen, 0, sizeof(*run->gen));
    run->gen_options.first_number = first;
    run->gen_options.messages = count;
    gen = process_fork(run_gen, run);
    if (gen < 0)
        return (int)gen;
    error = wait_for_gen(run, gen, &next_progress_ns);
    if (error < 0)
        return error;
    return wait_for_arrivals(run, &next_progress_ns);
}

/* ---- Measuring ------------------------------------------------------------------------------- */

static void read_clocks(const struct run *run, struct clocks *clocks)
{
    clocks->relay_cpu_us = relay_cpu_us(&run->relay);
    clocks->sink_cpu_us = sink_cpu_us(run);
    clocks->relay_calls = relay_system_calls(&run->relay);
    clocks->flushes = process_device_flushes(run->dir);
    clocks->refused_4xx = __atomic_load_n(&run->sink->counters.refused_4xx, __ATOMIC_RELAXED);
}

static double per(double value, double count)
{
    return count > 0 ? value / count : NAN;
}

static void fill_figures(const struct run *run, const struct clocks *before,
                         const struct clocks *after, struct figures *figures)
{
    const struct scenario *scenario = run->scenario;
    const struct gen_shared *gen = run->gen;
    double messages = (double)gen->accepted;
    double seconds = (double)(run->delivered_ns - gen->start_ns) / 1e9;
    double *of = figures->of;
    struct ledger_sums sums;

    ledger_sum(run->ledger, scenario->warmup, run->gen_options.messages, &sums);
    figures_clear(figures);
    of[FIGURE_messages] = messages;
    of[FIGURE_seconds] = seconds;
    of[FIGURE_rate] = per((double)sums.arrived / (double)run->gen_options.rcpts, seconds);
    of[FIGURE_accept_rate] = per(messages, (double)(gen->end_ns - gen->start_ns) / 1e9);
    if (scenario->relay != RELAY_NONE) {
        of[FIGURE_relay_cpu_us] =
            per((double)(after->relay_cpu_us - before->relay_cpu_us), messages);
        of[FIGURE_flushes] = after->flushes < 0 ? NAN : (double)(after->flushes - before->flushes);
    }
    if (before->relay_calls >= 0 && after->relay_calls >= 0)
        of[FIGURE_relay_calls] = per((double)(after->relay_calls - before->relay_calls), messages);
    of[FIGURE_sink_cpu_us] = per((double)(after->sink_cpu_us - before->sink_cpu_us), messages);
    of[FIGURE_gen_cpu_us] = per((double)gen->cpu_us, messages);
    of[FIGURE_p50_ms] = (double)histogram_quantile(&gen->latency, 0.5) / 1e6;
    of[FIGURE_p99_ms] = (double)histogram_quantile(&gen->latency, 0.99) / 1e6;
    of[FIGURE_p999_ms] = (double)histogram_quantile(&gen->latency, 0.999) / 1e6;
    of[FIGURE_max_ms] = (double)gen->latency.max / 1e6;
    of[FIGURE_connections] = (double)run->sink->counters.open_max;
    of[FIGURE_arrived] = (double)sums.arrived;
    of[FIGURE_bounced] = (double)sums.bounced;
    of[FIGURE_deferrals] = (double)(after->refused_4xx - before->refused_4xx);
    of[FIGURE_lost] = (double)sums.lost;
    of[FIGURE_duplicates] = (double)(sums.duplicates + sums.unexpected);
    of[FIGURE_damaged] = (double)(run->sink->counters.damaged + run->sink->counters.mixed_up +
                                  run->sink->counters.other_run);
}

/* What is left behind once the work is done. */
static void stay(struct run *run)
{
    uint64_t next_ns = process_now_ns();
    uint64_t end_ns = next_ns + (uint64_t)(run->scenario->idle_s * 1e9);

    while (process_now_ns() < end_ns && is_over(run) == 0) {
        show_progress(run, &next_ns);
        process_sleep_ms(LOOK_MS);
    }
}

static int measure(struct run *run, struct figures *ret_figures)
{
    const struct scenario *scenario = run->scenario;
    struct clocks before;
    struct clocks after;
    double rate = run->gen_options.rate;
    int error;

    if (scenario->warmup > 0) {
        run->gen_options.rate = 0;
        error = load(run, 0, scenario->warmup);
        run->gen_options.rate = rate;
        if (error < 0)
            return error;
    }
    read_clocks(run, &before);
    /* The rules' after= and until= count from the load on, unless they were at work already. */
    if (scenario->warmup == 0)
        __atomic_store_n(&run->sink->age_from_ns, process_now_ns(), __ATOMIC_RELAXED);
    error = load(run, scenario->warmup, scenario->gen.messages);
    if (error < 0)
        return error;
    process_sleep_ms(AFTERMATH_MS);
    read_clocks(run, &after);
    fill_figures(run, &before, &after, ret_figures);
    stay(run);
    return 0;
}

static int start_and_measure(struct run *run, struct figures *ret_figures)
{
    int error = process_temp_dir(run->scenario->spool, run->dir);

    if (error < 0) {
        fprintf(stderr, "%s: %s\n", run->scenario->spool, err_text(error));
        return error;
    }
    fill_in(run);
    run->limit_ns = process_now_ns() + (uint64_t)(run->scenario->limit_s * 1e9);
    run->ledger =
        ledger_create(run->gen_options.run, run->scenario->warmup + run->scenario->gen.messages,
                      (uint32_t)run->gen_options.rcpts);
    run->sink = sink_shared_create();
    run->gen = gen_shared_create();
    if (run->ledger == NULL || run->sink == NULL || run->gen == NULL)
        return -ENOMEM;
    process_raise_files();
    error = start_sink(run);
    if (error == 0)
        error = relay_start(&run->relay, &run->relay_options);
    if (error == 0)
        error = measure(run, ret_figures);
    /* The relay first: it must not see its receivers vanish. */
    relay_stop(&run->relay);
    stop_sink(run);
    return error;
}

int scenario_run(const struct scenario *scenario, struct figures *ret_figures)
{
    struct run *run = mem_alloc(sizeof(*run));
    int error;

    run->scenario = scenario;
    error = start_and_measure(run, ret_figures);
    if (error < 0)
        fprintf(stderr, "the run failed: %s\n", err_text(error));
    if (run->dir[0] != '\0')
        process_temp_dir_remove(run->dir);
    ledger_destroy(run->ledger);
    sink_shared_destroy(run->sink);
    gen_shared_destroy(run->gen);
    mem_free(run);
    return error;
}
