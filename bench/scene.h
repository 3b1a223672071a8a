/*
 * scene: situations that the product is measured in, each by one or several runs (scenario.h).
 *
 * A scene sets runs up, watches them by samples, and reports named figures; text and JSON come from
 * the same list. It judges nothing but loss, doubles and damage: whether a figure is good enough is
 * for whoever knows the machine.
 */
#pragma once

#include "bench/scenario.h"

#define SCENE_FIGURES_MAX 64
#define SCENE_SAMPLES_MAX 4096
#define SCENE_SAMPLE_S    0.1

struct scene_figure {
    char name[48]; /* also the key in JSON */
    const char *unit;
    double value; /* NAN = not known */
};

/* What a run looked like at one time; the counts have run since its start. */
struct scene_sample {
    double seconds;
    uint64_t accepted;
    uint64_t delivered;
    uint64_t open;        /* connections to the sink now */
    uint64_t connections; /* so far */
    uint64_t rss_bytes;   /* of the daemon */
    uint64_t cpu_us;      /* of the daemon */
};

struct scene_run {
    struct figures figures;
    struct scene_sample samples[SCENE_SAMPLES_MAX];
    uint32_t sample_count;
};

struct scene {
    const char *name;
    struct scenario base; /* what all runs of the scene begin with */
    /* From the command line; 0 = the scene's own choice. */
    uint64_t messages;
    uint64_t connections;
    bool json;

    struct scene_figure list[SCENE_FIGURES_MAX];
    uint32_t count;
    double faults;            /* lost, doubled or damaged, over all runs */
    struct scene_run *series; /* printed second by second when not NULL; the scene frees it */
};

struct scene_kind {
    const char *name;
    const char *summary;
    int (*play)(struct scene *scene);
};

extern const struct scene_kind scene_kinds[];
extern const size_t scene_kind_count;

/* scene.c: what the scenes share. */

/* One run, sampled; tells on standard error how it went. 0, or negative: the scene is over. */
int scene_play_run(struct scene *scene, const char *label, const struct scenario *scenario,
                   struct scene_run *ret_run);
struct scene_run *scene_run_create(void);
void scene_run_destroy(struct scene_run *run);
/* "PREFIX_NAME" when prefix is not NULL. */
void scene_put(struct scene *scene, const char *prefix, const char *name, const char *unit,
               double value);
/* Rate, CPU and the like of a run under its prefix. */
void scene_put_run(struct scene *scene, const char *prefix, const struct scene_run *run);
/* Most connections open at once. */
double scene_open_max(const struct scene_run *run);
/* Messages delivered a second over the samples with at least so many connections open; NAN = none.
 */
double scene_rate_with(const struct scene_run *run, double open_min);
/* Microseconds of the daemon's CPU for each message delivered over the same samples. */
double scene_cpu_with(const struct scene_run *run, double open_min);
/* The daemon's memory in the middle of the samples between two times; NAN = none. */
double scene_rss_between(const struct scene_run *run, double from, double until);
/* The sample at a time: the last one that is not later. There must be one. */
const struct scene_sample *scene_sample_at(const struct scene_run *run, double seconds);

/* scene_load.c, scene_time.c */
int scene_connections(struct scene *scene);
int scene_hot(struct scene *scene);
int scene_tail(struct scene *scene);
int scene_queues(struct scene *scene);
int scene_down_and_back(struct scene *scene);
int scene_pipelining(struct scene *scene);
int scene_phpmailer(struct scene *scene);
