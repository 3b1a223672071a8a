/*
 * What a message costs in instructions, for a profiler to count (ci/cost): mail for so many queues,
 * every one of which stands from earlier mail, beside 500 virtual MTAs.
 *
 *   cost QUEUES MESSAGES     prints how many messages measured_phase() delivered
 */
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXTRA_VMTAS  500
#define A_TENTH      100 /* messages in a tenth of a second, of each of two injecting connections */
#define CONFIG_BYTES (128 * EXTRA_VMTAS)

/* As many virtual MTAs, with settings of their own, as a large sender has. */
static char *extra_vmtas(void)
{
    char *text = calloc(1, CONFIG_BYTES);
    int len = 0;

    for (unsigned i = 0; i < EXTRA_VMTAS; i++)
        len += snprintf(text + len, CONFIG_BYTES - (size_t)len,
                        "<virtual-mta e%u>\n smtp-source-host 10.8.%u.%u e%u.test\n"
                        " <domain x%u.test>\n  max-msg-rate 100/h\n </domain>\n</virtual-mta>\n",
                        i, i / 250, 1 + i % 250, i, i);
    return text;
}

static void deliver(struct stage *stage, uint32_t messages)
{
    uint64_t wanted = stage_taken(stage, 0, 1) + messages;

    for (uint32_t left = messages; left > 0;) {
        uint32_t more = left < 2 * A_TENTH ? (left + 1) / 2 : A_TENTH;

        stage_run(stage, 1, more, left - more < more ? left - more : more);
        left -= left < 2 * more ? left : 2 * more;
    }
    for (unsigned i = 0; i < 30000 && stage_taken(stage, 0, 1) < wanted; i++)
        stage_run(stage, 1, 0, 0);
    stage_check(stage, stage_taken(stage, 0, 1) == wanted, "everything arrives");
}

/* The profiler counts what happens in here. */
__attribute__((noinline, noclone)) static void measured_phase(struct stage *stage,
                                                              uint32_t messages)
{
    deliver(stage, messages);
}

int main(int argc, char **argv)
{
    static struct stage stage;
    unsigned long queues = argc == 3 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned long messages = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    char *vmtas = extra_vmtas();

    if (queues == 0 || messages == 0 || queues > 10000000 || messages > 10000000) {
        fprintf(stderr, "usage: cost QUEUES MESSAGES\n");
        return 2;
    }
    quiet_log();
    stage_raise(&stage, "cost",
                &(struct stage_options){.shard_count = 1,
                                        .latency_ns = 100000,
                                        .global = queues > 1 ? vmtas : NULL,
                                        .domain = " smtp-hosts [10.1.0.1]:25\n"});
    free(vmtas);
    stage_add_receiver(&stage, 0, KIND_SERVES, 0);
    stage_inject(&stage, 0, 0, (uint32_t)(queues + 1) / 2);
    stage_inject(&stage, 1, (uint32_t)(queues / 2), (uint32_t)(queues + 1) / 2);
    deliver(&stage, (uint32_t)queues);
    measured_phase(&stage, (uint32_t)messages);
    printf("%lu messages to %lu queues\n", messages, queues);
    return stage_strike(&stage) ? 0 : 1;
}
