/* Scenes about how much at once: many connections, one hot receiver, a long tail. */
#include "bench/scene.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST 0.9 /* of the connections wanted count as all of them */

/* ---- connections ----------------------------------------------------------------------------- */

#define FAR_RULE  "lag 200"
#define FEW       1000
#define EACH      20   /* messages for each of the many connections */
#define EACH_FEW  30   /* and for each of the few */
#define FILES_ADD 1000 /* descriptors that a process needs besides connections */

/* Connections are spread over 8 source addresses and 50 receivers with two domains each. */
static struct scenario many_connections(const struct scene *scene, uint64_t connections,
                                        uint64_t messages)
{
    struct scenario scenario = scene->base;

    scenario.vmtas = 8;
    scenario.sink_addresses = 50;
    scenario.gen.domains = 100;
    scenario.gen.messages = messages;
    scenario.warmup = 0;
    scenario.out_max = connections;
    scenario.connections = 2 * connections / (scenario.vmtas * scenario.gen.domains) + 1;
    scenario.sink.sessions_max = connections + FILES_ADD;
    return scenario;
}

/*
 * What one connection more costs in memory. In both runs the same messages wait before the first is
 * delivered, since the receivers greet nobody for a while: once they go out over many connections
 * and once over few. Looked at when all is done and the connections are idle; structures are kept
 * then at the size that they had at the most.
 */
static int measure_memory(struct scene *scene, uint64_t connections)
{
    static const char *const rules[] = {"connect until=3 delay=3000", FAR_RULE};
    uint64_t limits[2] = {connections, FEW};
    struct scene_run *run = scene_run_create();
    double open[2] = {NAN, NAN};
    double rss[2] = {NAN, NAN};
    double idle = NAN;
    int error = 0;

    for (int i = 0; i < 2 && error == 0; i++) {
        struct scenario scenario = many_connections(scene, limits[i], 5 * connections / 2);

        scenario.sink.rules = rules;
        scenario.sink.rule_count = 2;
        scenario.gen.sizes[0].bytes = 512;
        scenario.idle_s = 4;
        error = scene_play_run(scene, i == 0 ? "memory, many" : "memory, 1,000", &scenario, run);
        if (error < 0 || run->sample_count == 0)
            break;
        open[i] = scene_open_max(run);
        rss[i] = (double)run->samples[run->sample_count - 1].rss_bytes;
        if (i == 0)
            idle = (double)run->samples[run->sample_count - 1].open;
    }
    scene_run_destroy(run);
    if (error < 0)
        return error;
    scene_put(scene, "memory", "open_max", "connections at once", open[0]);
    scene_put(scene, "memory", "open_idle", "of them still open, idle", idle);
    scene_put(scene, "memory", "bytes_per_connection",
              "bytes of RAM for each beyond 1,000, once busy",
              (rss[0] - rss[1]) / (open[0] - open[1]));
    return 0;
}

static int play_connections(struct scene *scene, uint64_t connections, struct scene_run *near,
                            struct scene_run *few, struct scene_run *many)
{
    static const char *const far[] = {FAR_RULE};
    uint64_t messages = scene->messages > 0 ? scene->messages : EACH * connections;
    struct scenario scenario = many_connections(scene, connections, messages);
    int error = scene_play_run(scene, "no delay", &scenario, near);

    if (error < 0)
        return error;
    scenario.sink.rules = far;
    scenario.sink.rule_count = 1;
    error = scene_play_run(scene, "200 ms, many connections", &scenario, many);
    if (error < 0)
        return error;
    scenario = many_connections(scene, FEW, EACH_FEW * FEW);
    scenario.sink.rules = far;
    scenario.sink.rule_count = 1;
    return scene_play_run(scene, "200 ms, 1,000", &scenario, few);
}

int scene_connections(struct scene *scene)
{
    uint64_t connections = scene->connections > FEW ? scene->connections : 10000;
    struct scene_run *near = scene_run_create();
    struct scene_run *few = scene_run_create();
    struct scene_run *many = scene_run_create();
    double most = MOST * (double)connections;
    int error;

    error = play_connections(scene, connections, near, few, many);
    if (error == 0) {
        scene_put_run(scene, "near", near);
        scene_put_run(scene, "few", few);
        scene_put_run(scene, "many", many);
        scene_put(scene, "few", "full_rate", "messages/s while all connections are open",
                  scene_rate_with(few, MOST * FEW));
        scene_put(scene, "many", "full_rate", "messages/s while all connections are open",
                  scene_rate_with(many, most));
        scene_put(scene, "many", "full_cpu_us", "us CPU a message then",
                  scene_cpu_with(many, most));
        scene_put(scene, NULL, "rate_ratio", "rate with many to rate with 1,000",
                  many->figures.of[FIGURE_rate] / few->figures.of[FIGURE_rate]);
        scene_put(scene, NULL, "cpu_ratio", "CPU a message with many to that without delay",
                  many->figures.of[FIGURE_relay_cpu_us] / near->figures.of[FIGURE_relay_cpu_us]);
        scene_put(scene, NULL, "full_cpu_ratio", "the same while all connections are open",
                  scene_cpu_with(many, most) / near->figures.of[FIGURE_relay_cpu_us]);
        error = measure_memory(scene, connections);
    }
    scene_run_destroy(near);
    scene_run_destroy(few);
    scene_run_destroy(many);
    return error;
}

/* ---- hot ------------------------------------------------------------------------------------- */

int scene_hot(struct scene *scene)
{
    struct scenario even = scene->base;
    struct scenario hot;
    struct scene_run *run = scene_run_create();
    double rates[2] = {0, 0};
    int error = 0;

    even.vmtas = 8;
    even.sink_addresses = 101;
    even.gen.domains = 101;
    even.gen.messages = scene->messages > 0 ? scene->messages : 60000;
    even.warmup = 5000;
    even.connections = scene->connections > 0 ? scene->connections : 20;
    hot = even;
    hot.gen.hot_percent = 40;
    /* Twice in turns, so that what else happens on the machine meets both. */
    for (int turn = 0; turn < 2 && error == 0; turn++) {
        error = scene_play_run(scene, "spread evenly", &even, run);
        rates[0] += run->figures.of[FIGURE_rate] / 2;
        if (error == 0 && turn == 1)
            scene_put_run(scene, "even", run);
        if (error == 0)
            error = scene_play_run(scene, "40 % to one receiver", &hot, run);
        rates[1] += run->figures.of[FIGURE_rate] / 2;
        if (error == 0 && turn == 1)
            scene_put_run(scene, "hot", run);
    }
    if (error == 0) {
        scene_put(scene, "even", "mean_rate", "messages/s, mean of both turns", rates[0]);
        scene_put(scene, "hot", "mean_rate", "messages/s, mean of both turns", rates[1]);
        scene_put(scene, NULL, "ratio", "rate with a hot receiver to that without",
                  rates[1] / rates[0]);
    }
    scene_run_destroy(run);
    return error;
}

/* ---- tail ------------------------------------------------------------------------------------ */

#define TAIL_DOMAINS     100000
#define TAIL_EACH        2
#define TAIL_BODY_DOMAIN 100

int scene_tail(struct scene *scene)
{
    struct scenario tail = scene->base;
    struct scenario head;
    struct scene_run *run = scene_run_create();
    double rates[2] = {NAN, NAN};
    int error;

    tail.sink_addresses = 100;
    tail.gen.domains = TAIL_DOMAINS;
    tail.gen.messages = scene->messages > 0 ? scene->messages : TAIL_DOMAINS * TAIL_EACH;
    tail.warmup = 0;
    tail.connections = 2;
    head = tail;
    head.gen.domains = TAIL_BODY_DOMAIN;
    error = scene_play_run(scene, "100,000 domains", &tail, run);
    if (error == 0) {
        rates[0] = run->figures.of[FIGURE_rate];
        scene_put_run(scene, "tail", run);
        scene_put(scene, "tail", "rss_mb", "MB of RAM, daemon, in the middle",
                  scene_rss_between(run, 0, run->figures.of[FIGURE_seconds]) / 1e6);
        error = scene_play_run(scene, "100 domains", &head, run);
    }
    if (error == 0) {
        rates[1] = run->figures.of[FIGURE_rate];
        scene_put_run(scene, "head", run);
        scene_put(scene, NULL, "ratio", "rate with 100,000 domains to that with 100",
                  rates[0] / rates[1]);
    }
    scene_run_destroy(run);
    return error;
}

/* ---- queues ---------------------------------------------------------------------------------- */

#define QUEUES_DOMAINS 100000
#define QUEUES_VMTAS   500
#define QUEUES_PAIRS   10

/* Virtual MTAs, and a block of settings for each, that the mail of the run does not use. */
static int write_vmtas(char *path)
{
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

    if (!file)
        return -errno;
    for (unsigned i = 0; i < QUEUES_VMTAS; i++)
        fprintf(file,
                "<virtual-mta extra%u>\n smtp-source-host 127.0.%u.%u extra%u.test\n"
                " <domain x%u.test>\n  max-msg-rate 100/h\n </domain>\n</virtual-mta>\n",
                i, 10 + i / 250, 1 + i % 250, i, i);
    return fclose(file) == 0 ? 0 : -EIO;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Pairs of runs in turns; the median of what the many cost a message to what the one does. */
int scene_queues(struct scene *scene)
{
    char path[] = "/tmp/ringpost-bench-vmtas-XXXXXX";
    struct scenario one = scene->base, many;
    struct scene_run *run = scene_run_create();
    double ratios[QUEUES_PAIRS], cpu_us;
    int error = write_vmtas(path);

    one.vmtas = 1;
    one.gen.domains = 1;
    one.gen.messages = scene->messages > 0 ? scene->messages : QUEUES_DOMAINS;
    one.warmup = QUEUES_DOMAINS;
    one.connections = scene->connections > 0 ? scene->connections : 20;
    many = one;
    many.gen.domains = QUEUES_DOMAINS;
    many.extra = path;
    for (uint32_t pair = 0; pair < QUEUES_PAIRS && error == 0; pair++) {
        error = scene_play_run(scene, "one queue", &one, run);
        cpu_us = run->figures.of[FIGURE_relay_cpu_us];
        if (error == 0 && pair == QUEUES_PAIRS - 1)
            scene_put_run(scene, "one", run);
        if (error == 0)
            error = scene_play_run(scene, "100,000 queues", &many, run);
        ratios[pair] = run->figures.of[FIGURE_relay_cpu_us] / cpu_us;
    }
    unlink(path);
    if (error == 0) {
        scene_put_run(scene, "many", run);
        qsort(ratios, QUEUES_PAIRS, sizeof(ratios[0]), by_value);
        scene_put(scene, NULL, "cpu_ratio", "CPU a message with 100,000 queues to that with one",
                  (ratios[(QUEUES_PAIRS - 1) / 2] + ratios[QUEUES_PAIRS / 2]) / 2);
        scene_put(scene, NULL, "cpu_ratio_min", "the same, the lowest pair", ratios[0]);
        scene_put(scene, NULL, "cpu_ratio_max", "the same, the highest", ratios[QUEUES_PAIRS - 1]);
    }
    scene_run_destroy(run);
    return error;
}
