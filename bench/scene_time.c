/* Scenes about time: a receiver that goes and comes back, a long way, clients that wait. */
#include "bench/scene.h"

#include <math.h>

/* ---- down-and-back --------------------------------------------------------------------------- */

#define RATE    2000.0
#define SECONDS 30
#define DOWN_S  8
#define BACK_S  16

/* Sums between two times. */
static double rate_between(const struct scene_run *run, double from, double to)
{
    const struct scene_sample *first = NULL;
    const struct scene_sample *last = NULL;

    for (uint32_t i = 0; i < run->sample_count; i++) {
        const struct scene_sample *sample = &run->samples[i];

        if (sample->seconds < from || sample->seconds > to)
            continue;
        first = first == NULL ? sample : first;
        last = sample;
    }
    if (first == NULL || last->seconds <= first->seconds)
        return NAN;
    return (double)(last->delivered - first->delivered) / (last->seconds - first->seconds);
}

/* When so many had been delivered, from the given time on; NAN = never. */
static double time_of(const struct scene_run *run, double from, uint64_t delivered)
{
    for (uint32_t i = 0; i < run->sample_count; i++) {
        if (run->samples[i].seconds >= from && run->samples[i].delivered >= delivered)
            return run->samples[i].seconds;
    }
    return NAN;
}

/* When what waits is no more than what half a second brings in. */
static double time_caught_up(const struct scene_run *run, double back_s)
{
    for (uint32_t i = 0; i < run->sample_count; i++) {
        const struct scene_sample *sample = &run->samples[i];

        if (sample->seconds > back_s && (double)(sample->accepted - sample->delivered) < RATE / 2)
            return sample->seconds;
    }
    return NAN;
}

static double fastest_second(const struct scene_run *run)
{
    double fastest = 0;

    for (double second = 0; second < run->figures.of[FIGURE_seconds]; second += 0.5) {
        double rate = rate_between(run, second, second + 1);

        fastest = rate > fastest ? rate : fastest;
    }
    return fastest;
}

int scene_down_and_back(struct scene *scene)
{
    static const char *const rules[] = {
        "connect after=8 until=16 reset",
        "any after=8 until=16 drop",
    };
    struct scenario scenario = scene->base;
    struct scene_run *run = scene_run_create();
    const struct scene_sample *down;
    const struct scene_sample *back;
    double pace = scene->base.sink.pace > 1 ? scene->base.sink.pace : 1;
    double down_s = DOWN_S / pace;
    double back_s = BACK_S / pace;
    int error;

    scenario.vmtas = 4;
    scenario.sink_addresses = 1;
    scenario.gen.domains = 10;
    scenario.gen.rate = RATE;
    scenario.gen.messages = (uint64_t)(RATE * SECONDS / pace);
    scenario.warmup = 0;
    scenario.connections = scene->connections > 0 ? scene->connections : 20;
    scenario.sink.rules = rules;
    scenario.sink.rule_count = sizeof(rules) / sizeof(rules[0]);
    error = scene_play_run(scene, "down and back", &scenario, run);
    if (error < 0 || run->sample_count == 0) {
        scene_run_destroy(run);
        return error;
    }
    down = scene_sample_at(run, down_s + 0.5);
    back = scene_sample_at(run, back_s);
    scene_put_run(scene, NULL, run);
    scene_put(scene, NULL, "before_rate", "messages/s before it went",
              rate_between(run, down_s / 4, down_s));
    scene_put(scene, NULL, "connects_while_down", "connections tried while it was away",
              (double)(back->connections - down->connections));
    scene_put(scene, NULL, "waiting_at_return", "messages that waited when it came back",
              (double)(back->accepted - back->delivered));
    scene_put(scene, NULL, "first_after_s", "s from its return to the first delivery",
              time_of(run, back_s, back->delivered + 1) - back_s);
    scene_put(scene, NULL, "caught_up_s", "s from its return until nothing old waited",
              time_caught_up(run, back_s) - back_s);
    scene_put(scene, NULL, "fastest_rate", "messages/s in the fastest second", fastest_second(run));
    scene->series = run;
    return 0;
}

/* ---- pipelining ------------------------------------------------------------------------------ */

#define LAG_S 0.05

int scene_pipelining(struct scene *scene)
{
    static const char *const rules[] = {"lag 50"};
    struct scenario scenario = scene->base;
    struct scene_run *run = scene_run_create();
    double rate;
    int error;

    scenario.vmtas = 1;
    scenario.sink_addresses = 1;
    scenario.gen.domains = 1;
    scenario.gen.messages = scene->messages > 0 ? scene->messages : 300;
    scenario.warmup = 0;
    scenario.connections = scene->connections > 0 ? scene->connections : 1;
    scenario.sink.rules = rules;
    scenario.sink.rule_count = 1;
    error = scene_play_run(scene, "50 ms away", &scenario, run);
    if (error == 0) {
        rate = run->figures.of[FIGURE_rate] / (double)scenario.connections;
        scene_put_run(scene, NULL, run);
        scene_put(scene, NULL, "rate_per_connection", "messages/s on each connection", rate);
        scene_put(scene, NULL, "round_trips", "round trips a message", 1 / (rate * LAG_S));
    }
    scene_run_destroy(run);
    return error;
}

/* ---- phpmailer ------------------------------------------------------------------------------- */

int scene_phpmailer(struct scene *scene)
{
    struct scenario scenario = scene->base;
    struct scene_run *run = scene_run_create();
    const double *of = run->figures.of;
    int error;

    scenario.gen.sessions = 50;
    scenario.gen.pipelining = GEN_LOCKSTEP;
    scenario.gen.sizes[0].bytes = 60 * 1024;
    scenario.gen.messages = scene->messages > 0 ? scene->messages : 15000;
    scenario.warmup = 1000;
    error = scene_play_run(scene, "clients that wait", &scenario, run);
    if (error == 0) {
        scene_put_run(scene, NULL, run);
        scene_put(scene, NULL, "accept_rate", "messages/s accepted", of[FIGURE_accept_rate]);
        scene_put(scene, NULL, "p50_ms", "ms from the final dot to the 250, median",
                  of[FIGURE_p50_ms]);
        scene_put(scene, NULL, "p99_ms", "ms, 99 %", of[FIGURE_p99_ms]);
        scene_put(scene, NULL, "p999_ms", "ms, 99.9 %", of[FIGURE_p999_ms]);
        scene_put(scene, NULL, "max_ms", "ms, longest", of[FIGURE_max_ms]);
    }
    scene_run_destroy(run);
    return error;
}
