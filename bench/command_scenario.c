/* ringpost-bench scenario */
#include "bench/args.h"
#include "bench/command.h"
#include "bench/scene.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define LIMIT_S 60

static int parse(struct scene *scene, int argc, char **argv)
{
    struct scenario *base = &scene->base;
    const struct arg table[] = {
        {"daemon", ARG_TEXT, &base->daemon, "PATH", "ringpostd (beside this program)", NULL},
        {"spool", ARG_TEXT, &base->spool, "DIR", "temporary files go below it (/var/tmp)", NULL},
        {"extra", ARG_TEXT, &base->extra, "FILE", "lines to end the daemon's configuration", NULL},
        {"messages", ARG_COUNT, &scene->messages, "N", "a run (the scenario's own number)", NULL},
        {"connections", ARG_COUNT, &scene->connections, "N",
         "connections: 10000 at once; hot, down-and-back: 20 a queue; pipelining: 1", NULL},
        {"pace", ARG_NUMBER, &base->sink.pace, "N", "down-and-back: N times shorter (1)", NULL},
        {"limit", ARG_NUMBER, &base->limit_s, "S", "longest time for one run (60)", NULL},
        {"json", ARG_FLAG, &scene->json, NULL, "print everything as JSON", NULL},
    };

    return args_parse("Measures one situation; NAME is the first argument.", table,
                      sizeof(table) / sizeof(table[0]), argc, argv);
}

/* ---- Printing -------------------------------------------------------------------------------- */

/* One sample a second, with what happened since the one before. */
static void print_series(const struct scene *scene, bool json)
{
    const struct scene_run *run = scene->series;
    const struct scene_sample *before = NULL;
    const char *separator = "";

    if (!json)
        printf("%8s %10s %10s %10s %10s\n", "second", "accepted/s", "delivered/s", "open",
               "connects/s");
    for (uint32_t i = 0; i < run->sample_count; i++) {
        const struct scene_sample *sample = &run->samples[i];
        double span = before == NULL ? 0 : sample->seconds - before->seconds;

        if (before != NULL && span < 1)
            continue;
        if (before != NULL)
            printf(json ? "%s{\"second\":%.2f,\"accepted_rate\":%.0f,\"delivered_rate\":%.0f,"
                          "\"open\":%lu,\"connect_rate\":%.0f}"
                        : "%s%8.1f %10.0f %10.0f %10lu %10.0f\n",
                   separator, sample->seconds, (double)(sample->accepted - before->accepted) / span,
                   (double)(sample->delivered - before->delivered) / span, sample->open,
                   (double)(sample->connections - before->connections) / span);
        if (json && before != NULL)
            separator = ",";
        before = sample;
    }
}

static void print_text(const struct scene *scene)
{
    if (scene->series != NULL)
        print_series(scene, false);
    for (uint32_t i = 0; i < scene->count; i++) {
        const struct scene_figure *figure = &scene->list[i];

        printf("%14.2f  %-28s %s\n", figure->value, figure->name, figure->unit);
    }
    printf("%14.0f  %-28s %s\n", scene->faults, "faults", "recipients lost, doubled or damaged");
}

static void print_json(const struct scene *scene)
{
    printf("{\"scenario\":\"%s\",\"faults\":%.0f,\"figures\":{", scene->name, scene->faults);
    for (uint32_t i = 0; i < scene->count; i++) {
        const struct scene_figure *figure = &scene->list[i];

        printf("%s\"%s\":", i > 0 ? "," : "", figure->name);
        if (isfinite(figure->value))
            printf("%.4f", figure->value);
        else
            printf("null");
    }
    printf("}");
    if (scene->series != NULL) {
        printf(",\"series\":[");
        print_series(scene, true);
        printf("]");
    }
    printf("}\n");
}

/* ---- The command ----------------------------------------------------------------------------- */

static int usage(void)
{
    fprintf(stderr, "usage: ringpost-bench scenario NAME [options]   (NAME --help lists them)\n");
    for (size_t i = 0; i < scene_kind_count; i++)
        fprintf(stderr, "  %-14s %s\n", scene_kinds[i].name, scene_kinds[i].summary);
    return COMMAND_USAGE;
}

static const struct scene_kind *find_kind(const char *name)
{
    for (size_t i = 0; i < scene_kind_count; i++) {
        if (strcmp(scene_kinds[i].name, name) == 0)
            return &scene_kinds[i];
    }
    return NULL;
}

int command_scenario(int argc, char **argv)
{
    static struct scene scene;
    static char daemon[PATH_MAX];
    const struct scene_kind *kind = argc >= 2 ? find_kind(argv[1]) : NULL;
    int error;

    if (kind == NULL)
        return usage();
    scene = (struct scene){.name = kind->name};
    scenario_init(&scene.base);
    scene.base.limit_s = LIMIT_S;
    command_default_daemon(daemon, sizeof(daemon));
    scene.base.daemon = daemon;
    switch (parse(&scene, argc - 1, argv + 1)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    if (scene.messages >= UINT32_MAX || scene.connections > 50000) {
        fprintf(stderr, "ringpost-bench scenario: these values make no sense\n");
        return COMMAND_USAGE;
    }
    error = kind->play(&scene);
    if (error == 0 && scene.json)
        print_json(&scene);
    else if (error == 0)
        print_text(&scene);
    scene_run_destroy(scene.series);
    if (error < 0)
        return COMMAND_FAILED;
    return scene.faults > 0 ? COMMAND_LOST : COMMAND_OK;
}
