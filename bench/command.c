#include "bench/command.h"

#include "bench/args.h"
#include "bench/process.h"
#include "core/base/err.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"sink", command_sink, "receives, counts, and misbehaves by script"},
    {"gen", command_gen, "injects messages and times their acceptance"},
    {"e2e", command_e2e, "generator, daemon and sink on one machine, measured"},
    {"floor", command_floor, "the same with a bare relay, as the yardstick"},
    {"scenario", command_scenario, "measures one situation: many connections, a long tail, ..."},
    {"demo", command_demo, "a short show with a verdict"},
    {"verify", command_verify, "compares ledger files: loss and duplicates"},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

int command_main(int argc, char **argv)
{
    process_init();
    for (size_t i = 0; argc >= 2 && i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            int code = commands[i].run(argc - 1, argv + 1);

            process_clean_up();
            return code;
        }
    }
    fprintf(stderr, "usage: ringpost-bench COMMAND [options]   (COMMAND --help lists them)\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(stderr, "  %-8s %s\n", commands[i].name, commands[i].help);
    return COMMAND_USAGE;
}

int command_take_address(void *into, const char *value)
{
    struct command_addresses *addresses = into;
    const char *colon = strrchr(value, ':');
    struct ipaddr_port at;
    uint64_t port;
    int error;

    if (colon == NULL || *addresses->count == addresses->room)
        return E_SYNTAX;
    /* An IPv6 address stands in brackets. */
    if (value[0] == '[' && colon > value + 1 && colon[-1] == ']')
        error = ipaddr_parse(slice_of(value + 1, (size_t)(colon - value) - 2), &at.ip);
    else
        error = ipaddr_parse(slice_of(value, (size_t)(colon - value)), &at.ip);
    if (error == 0)
        error = slice_to_u64(slice_str(colon + 1), UINT16_MAX, &port);
    if (error != 0)
        return error;
    at.port = (uint16_t)port;
    addresses->list[(*addresses->count)++] = at;
    return 0;
}

int command_take_source(void *into, const char *value)
{
    struct gen_options *options = into;
    int error;

    if (options->source_count == GEN_ADDRESSES_MAX)
        return E_FULL;
    error = ipaddr_parse(slice_str(value), &options->sources[options->source_count]);
    if (error == 0)
        options->source_count++;
    return error;
}

static int take_size(struct gen_size *size, char *text)
{
    char *colon = strchr(text, ':');
    uint64_t weight = 1;
    int error;

    if (colon != NULL) {
        *colon = '\0';
        error = slice_to_u64(slice_str(colon + 1), 1000000, &weight);
        if (error != 0 || weight == 0)
            return E_SYNTAX;
    }
    size->weight = (uint32_t)weight;
    error = args_bytes(text, &size->bytes);
    return error == 0 && size->bytes > 1u << 30 ? E_RANGE : error;
}

int command_take_sizes(void *into, const char *value)
{
    struct gen_options *options = into;
    char room[256];
    char *rest = room;
    char *text;

    if (strlen(value) >= sizeof(room))
        return E_TOO_LONG;
    memcpy(room, value, strlen(value) + 1);
    options->size_count = 0;
    while ((text = strsep(&rest, ",")) != NULL) {
        int error = E_FULL;

        if (options->size_count < GEN_SIZES_MAX)
            error = take_size(&options->sizes[options->size_count], text);
        if (error != 0)
            return error;
        options->size_count++;
    }
    return 0;
}

int command_take_pipelining(void *into, const char *value)
{
    static const char *const names[] = {"none", "envelope", "full"};

    for (int i = 0; i < 3; i++) {
        if (strcmp(value, names[i]) == 0) {
            *(enum gen_pipelining *)into = (enum gen_pipelining)i;
            return 0;
        }
    }
    return E_UNKNOWN;
}

int command_take_run(void *into, const char *value)
{
    char rest;

    return sscanf(value, "%8x%c", (uint32_t *)into, &rest) == 1 ? 0 : E_SYNTAX;
}

int command_take_text(void *into, const char *value)
{
    struct command_texts *texts = into;

    if (texts->count == sizeof(texts->list) / sizeof(texts->list[0]))
        return E_FULL;
    texts->list[texts->count++] = value;
    return 0;
}

void command_print_latency(const char *label, const struct histogram *latency)
{
    printf("%-22s p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms\n", label,
           (double)histogram_quantile(latency, 0.5) / 1e6,
           (double)histogram_quantile(latency, 0.99) / 1e6,
           (double)histogram_quantile(latency, 0.999) / 1e6, (double)latency->max / 1e6);
}
