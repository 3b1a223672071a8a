#include "bench/scene.h"

#include "bench/process.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct scene_kind scene_kinds[] = {
    {"connections", "10,000 connections to receivers 200 ms away, against 1,000 and against none",
     scene_connections},
    {"hot", "one receiver gets 40 % of all mail, against mail spread evenly", scene_hot},
    {"tail", "100,000 domains with few messages each", scene_tail},
    {"queues", "100,000 queues and 500 virtual MTAs, against one of each", scene_queues},
    {"down-and-back", "a receiver that goes away and comes back, second by second",
     scene_down_and_back},
    {"pipelining", "one connection to a receiver 50 ms away", scene_pipelining},
    {"phpmailer", "50 clients that wait for every reply, 60 KB messages", scene_phpmailer},
};
const size_t scene_kind_count = sizeof(scene_kinds) / sizeof(scene_kinds[0]);

struct scene_run *scene_run_create(void)
{
    return mem_alloc(sizeof(struct scene_run));
}

void scene_run_destroy(struct scene_run *run)
{
    mem_free(run);
}

static uint64_t read_count(const uint64_t *count)
{
    return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void on_progress(void *context, const struct scenario_look *look)
{
    struct scene_run *run = context;

    if (run->sample_count == SCENE_SAMPLES_MAX)
        return;
    run->samples[run->sample_count++] = (struct scene_sample){
        .seconds = look->seconds,
        .accepted = read_count(&look->gen->accepted),
        .delivered = read_count(&look->ledger->arrived_different),
        .open = read_count(&look->sink->counters.open),
        .connections = read_count(&look->sink->counters.connections),
        .rss_bytes = look->relay > 0 ? process_rss_bytes(look->relay) : 0,
        .cpu_us = look->relay > 0 ? process_cpu_us(look->relay) : 0,
    };
}

int scene_play_run(struct scene *scene, const char *label, const struct scenario *scenario,
                   struct scene_run *ret_run)
{
    struct scenario watched = *scenario;
    const double *of = ret_run->figures.of;
    int error;

    watched.progress = on_progress;
    watched.progress_s = SCENE_SAMPLE_S;
    watched.context = ret_run;
    ret_run->sample_count = 0;
    error = scenario_run(&watched, &ret_run->figures);
    if (error < 0)
        return error;
    scene->faults += of[FIGURE_lost] + of[FIGURE_duplicates] + of[FIGURE_damaged];
    if (!scene->json)
        fprintf(stderr, "  %-24s %8.0f/s  relay %6.2f us  %6.0f connections  %5.1f s\n", label,
                of[FIGURE_rate], of[FIGURE_relay_cpu_us], of[FIGURE_connections],
                of[FIGURE_seconds]);
    return 0;
}

/* ---- Figures --------------------------------------------------------------------------------- */

void scene_put(struct scene *scene, const char *prefix, const char *name, const char *unit,
               double value)
{
    struct scene_figure *figure = &scene->list[scene->count++];

    must(scene->count <= SCENE_FIGURES_MAX);
    snprintf(figure->name, sizeof(figure->name), "%s%s%s", prefix != NULL ? prefix : "",
             prefix != NULL ? "_" : "", name);
    figure->unit = unit;
    figure->value = value;
}

void scene_put_run(struct scene *scene, const char *prefix, const struct scene_run *run)
{
    const double *of = run->figures.of;

    scene_put(scene, prefix, "rate", "messages/s delivered", of[FIGURE_rate]);
    scene_put(scene, prefix, "relay_cpu_us", "us CPU a message, daemon", of[FIGURE_relay_cpu_us]);
    scene_put(scene, prefix, "open_max", "connections at once", scene_open_max(run));
    if (run->sample_count > 0)
        scene_put(scene, prefix, "connects", "connections opened in all",
                  (double)run->samples[run->sample_count - 1].connections);
    scene_put(scene, prefix, "seconds", "s until the last delivery", of[FIGURE_seconds]);
}

double scene_open_max(const struct scene_run *run)
{
    return run->figures.of[FIGURE_connections];
}

/* Sums over neighbouring samples that both have enough connections. */
struct span {
    double seconds;
    double delivered;
    double cpu_us;
};

static struct span span_with(const struct scene_run *run, double open_min)
{
    struct span span = {0};

    for (uint32_t i = 1; i < run->sample_count; i++) {
        const struct scene_sample *before = &run->samples[i - 1];
        const struct scene_sample *sample = &run->samples[i];

        if ((double)before->open < open_min || (double)sample->open < open_min)
            continue;
        span.seconds += sample->seconds - before->seconds;
        span.delivered += (double)(sample->delivered - before->delivered);
        span.cpu_us += (double)(sample->cpu_us - before->cpu_us);
    }
    return span;
}

double scene_rate_with(const struct scene_run *run, double open_min)
{
    struct span span = span_with(run, open_min);

    return span.seconds > 0 ? span.delivered / span.seconds : NAN;
}

double scene_cpu_with(const struct scene_run *run, double open_min)
{
    struct span span = span_with(run, open_min);

    return span.delivered > 0 ? span.cpu_us / span.delivered : NAN;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return (x > y) - (x < y);
}

const struct scene_sample *scene_sample_at(const struct scene_run *run, double seconds)
{
    const struct scene_sample *at = &run->samples[0];

    must(run->sample_count > 0);
    for (uint32_t i = 0; i < run->sample_count && run->samples[i].seconds <= seconds; i++)
        at = &run->samples[i];
    return at;
}

double scene_rss_between(const struct scene_run *run, double from, double until)
{
    static double values[SCENE_SAMPLES_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < run->sample_count; i++) {
        if (run->samples[i].seconds >= from && run->samples[i].seconds <= until)
            values[count++] = (double)run->samples[i].rss_bytes;
    }
    qsort(values, count, sizeof(values[0]), compare_doubles);
    return count > 0 ? values[count / 2] : NAN;
}
