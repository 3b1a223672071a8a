/* ringpost-bench demo */
#include "bench/args.h"
#include "bench/command.h"
#include "bench/scenario.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

struct demo {
    struct scenario scenario;
    struct command_texts rules;
    char daemon[PATH_MAX];
    char bounce_rule[96];
    char defer_rule[96];
    double bounce_percent;
    double defer_percent;
    bool use_floor;
};

static int parse(struct demo *demo, int argc, char **argv)
{
    struct scenario *scenario = &demo->scenario;
    const struct arg table[] = {
        {"daemon", ARG_TEXT, &scenario->daemon, "PATH", "ringpostd (beside this program)", NULL},
        {"spool", ARG_TEXT, &scenario->spool, "DIR", "temporary files go below it (/var/tmp)",
         NULL},
        {"messages", ARG_COUNT, &scenario->gen.messages, "N", "how many (20000)", NULL},
        {"bounce", ARG_NUMBER, &demo->bounce_percent, "PERCENT",
         "recipients that the receiver refuses for good (0)", NULL},
        {"defer", ARG_NUMBER, &demo->defer_percent, "PERCENT",
         "recipients it puts off, each time anew (0)", NULL},
        {"floor", ARG_FLAG, &demo->use_floor, NULL, "with the bare relay instead of the daemon",
         NULL},
    };

    return args_parse("A short show: 20,000 messages to 100 domains over 4 source addresses, into\n"
                      "the built-in receiver. Exit code 0 when every one arrived exactly once.",
                      table, sizeof(table) / sizeof(table[0]), argc, argv);
}

static void on_progress(void *context, const struct scenario_look *look)
{
    uint64_t accepted = __atomic_load_n(&look->gen->accepted, __ATOMIC_RELAXED);
    uint64_t arrived = __atomic_load_n(&look->ledger->arrived_different, __ATOMIC_RELAXED);
    uint64_t open = __atomic_load_n(&look->sink->counters.open, __ATOMIC_RELAXED);

    /* On a terminal one line that changes, in a log one line each time. */
    printf("%s%6.1f s  accepted %7lu  delivered %7lu  connections to receivers %4lu%s",
           isatty(1) ? "\r" : "", look->seconds, accepted, arrived, open, isatty(1) ? "" : "\n");
    fflush(stdout);
}

static void set_rules(struct demo *demo)
{
    if (demo->bounce_percent > 0) {
        snprintf(demo->bounce_rule, sizeof(demo->bounce_rule),
                 "rcpt percent=%.4f 550 5.1.1 No such user here", demo->bounce_percent);
        command_take_text(&demo->rules, demo->bounce_rule);
    }
    if (demo->defer_percent > 0) {
        snprintf(demo->defer_rule, sizeof(demo->defer_rule),
                 "rcpt percent=%.4f 451 4.2.1 Mailbox busy, try again", demo->defer_percent);
        command_take_text(&demo->rules, demo->defer_rule);
    }
    demo->scenario.sink.rules = demo->rules.list;
    demo->scenario.sink.rule_count = demo->rules.count;
}

static int report(const struct figures *figures)
{
    const double *of = figures->of;
    double wrong = of[FIGURE_lost] + of[FIGURE_duplicates] + of[FIGURE_damaged];

    printf("%sdelivered  %.0f\nbounced    %.0f\ndeferred   %.0f (and sent again)\nlost       %.0f\n"
           "duplicates %.0f\ndamaged    %.0f\nrate       %.0f messages/s, each on disk before its "
           "250\n",
           isatty(1) ? "\n" : "", of[FIGURE_arrived], of[FIGURE_bounced], of[FIGURE_deferrals],
           of[FIGURE_lost], of[FIGURE_duplicates], of[FIGURE_damaged], of[FIGURE_rate]);
    return wrong > 0 ? COMMAND_LOST : COMMAND_OK;
}

int command_demo(int argc, char **argv)
{
    struct demo demo = {0};
    struct figures figures;

    scenario_init(&demo.scenario);
    demo.scenario.gen.messages = 20000;
    demo.scenario.gen.sessions = 20;
    demo.scenario.warmup = 0;
    demo.scenario.sink.check_body = true;
    demo.scenario.progress = on_progress;
    demo.scenario.progress_s = isatty(1) ? 0.1 : 1;
    command_default_daemon(demo.daemon, sizeof(demo.daemon));
    demo.scenario.daemon = demo.daemon;
    switch (parse(&demo, argc, argv)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    if (demo.scenario.gen.messages == 0 || demo.scenario.gen.messages >= UINT32_MAX)
        return COMMAND_USAGE;
    demo.scenario.relay = demo.use_floor ? RELAY_FLOOR : RELAY_DAEMON;
    set_rules(&demo);
    printf("%lu messages to %lu domains over %lu source addresses\n", demo.scenario.gen.messages,
           demo.scenario.gen.domains, demo.scenario.vmtas);
    if (scenario_run(&demo.scenario, &figures) < 0)
        return COMMAND_FAILED;
    return report(&figures);
}
