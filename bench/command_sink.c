/* ringpost-bench sink */
#include "bench/args.h"
#include "bench/command.h"
#include "bench/models.h"
#include "bench/process.h"

#include <stdio.h>

#define ADDRESS_DEFAULT  "127.0.0.1:2525"
#define MESSAGES_DEFAULT 16000000u
#define WORKERS_MAX      64

struct sink_command {
    struct sink_options options;
    struct command_addresses addresses;
    struct command_texts rules;
    uint64_t workers;
    uint64_t messages;
    uint64_t rcpts;
    uint32_t run;
    bool json;
    bool quiet;
    bool list_models;
    struct sink_shared *shared;
    struct ledger *ledger;
};

static int parse(struct sink_command *command, int argc, char **argv)
{
    struct sink_options *options = &command->options;
    const struct arg table[] = {
        {"listen", ARG_EACH, &command->addresses, "ADDRESS:PORT",
         "where to listen, repeatable (" ADDRESS_DEFAULT ")", command_take_address},
        {"workers", ARG_COUNT, &command->workers, "N", "processes that share the addresses (1)",
         NULL},
        {"model", ARG_TEXT, &options->model, "NAME",
         "a receiver that ships with the program, before the rules (--list-models)", NULL},
        {"pace", ARG_NUMBER, &options->pace, "N",
         "seconds in model and rules pass N times faster (1)", NULL},
        {"list-models", ARG_FLAG, &command->list_models, NULL, "print them and end", NULL},
        {"rule", ARG_EACH, &command->rules, "RULE",
         "one rule, repeatable: STAGE [CONDITION ...] [MODIFIER ...] [ACTION], rules.h",
         command_take_text},
        {"rules", ARG_TEXT, &options->rules_file, "FILE", "a file of rules", NULL},
        {"ledger", ARG_TEXT, &options->ledger_path, "FILE", "append what arrived to this file",
         NULL},
        {"ledger-sync", ARG_FLAG, &options->ledger_sync, NULL,
         "make the file durable before the reply leaves", NULL},
        {"times", ARG_TEXT, &options->times_path, "FILE",
         "append when each recipient was asked for: nanoseconds of the monotonic clock, and the "
         "address that was called (one worker)",
         NULL},
        {"check-body", ARG_FLAG, &options->check_body, NULL, "compare bodies byte by byte (CRC)",
         NULL},
        {"chunking", ARG_FLAG, &options->chunking, NULL, "offer CHUNKING and take BDAT", NULL},
        {"size-max", ARG_COUNT, &options->size_max, "BYTES", "largest message (100 MB)", NULL},
        {"sessions-max", ARG_COUNT, &options->sessions_max, "N", "connections a worker (20000)",
         NULL},
        {"host-name", ARG_TEXT, &options->host_name, "NAME", "in greeting and EHLO", NULL},
        {"messages", ARG_COUNT, &command->messages, "N", "numbers the ledger holds (16000000)",
         NULL},
        {"rcpts", ARG_COUNT, &command->rcpts, "N", "recipients of each number (1)", NULL},
        {"run", ARG_EACH, &command->run, "HEX", "the run to count (the first that comes)",
         command_take_run},
        {"lose-every", ARG_COUNT, &options->lose_every, "N",
         "fault: leave each N-th recipient out of the ledger", NULL},
        {"double-every", ARG_COUNT, &options->double_every, "N",
         "fault: enter each N-th recipient twice", NULL},
        {"quiet", ARG_FLAG, &command->quiet, NULL, "no line a second", NULL},
        {"json", ARG_FLAG, &command->json, NULL, "print the sums as JSON", NULL},
    };

    return args_parse("Receives mail, counts it exactly, and misbehaves by script (rules.h).\n"
                      "Ends on SIGINT or SIGTERM and prints its sums.",
                      table, sizeof(table) / sizeof(table[0]), argc, argv);
}

static int work(void *context)
{
    struct sink_command *command = context;

    return sink_work(&command->options, command->shared, command->ledger);
}

static uint64_t read_count(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static void print_json(const struct sink_command *command, uint64_t duplicates)
{
    const struct sink_counters *counters = &command->shared->counters;
    const char *separator = "";

    printf("{");
#define SINK_PRINT(name) printf("\"" #name "\":%lu,", counters->name);
    SINK_COUNTERS(SINK_PRINT)
#undef SINK_PRINT
    printf("\"arrived\":%lu,\"duplicates\":%lu,\"peers\":[", command->ledger->arrived_different,
           duplicates);
    for (int i = 0; i < SINK_PEERS_MAX; i++) {
        const struct sink_peer *peer = &command->shared->peers[i];
        char ip[IPADDR_TEXT_MAX];

        if (!peer->in_use)
            continue;
        ipaddr_format(&peer->ip, ip);
        printf("%s{\"ip\":\"%s\",\"connections\":%lu,\"open_max\":%lu,\"messages\":%lu,"
               "\"recipients\":%lu}",
               separator, ip, peer->connections, peer->open_max, peer->messages, peer->recipients);
        separator = ",";
    }
    printf("]}\n");
}

static void print_text(const struct sink_command *command, uint64_t duplicates)
{
    const struct sink_counters *counters = &command->shared->counters;

#define SINK_PRINT(name) printf("%-14s %lu\n", #name, counters->name);
    SINK_COUNTERS(SINK_PRINT)
#undef SINK_PRINT
    printf("%-14s %lu\n%-14s %lu\n", "arrived", command->ledger->arrived_different, "duplicates",
           duplicates);
    for (int i = 0; i < SINK_PEERS_MAX; i++) {
        const struct sink_peer *peer = &command->shared->peers[i];
        char ip[IPADDR_TEXT_MAX];

        if (!peer->in_use)
            continue;
        ipaddr_format(&peer->ip, ip);
        printf("from %-15s connections %lu (at once %lu)  messages %lu  recipients %lu\n", ip,
               peer->connections, peer->open_max, peer->messages, peer->recipients);
    }
}

/* A line a second while mail comes in. */
static void watch(const struct sink_command *command, pid_t *workers)
{
    const struct sink_counters *counters = &command->shared->counters;
    uint64_t before = 0;

    while (!process_stop_asked()) {
        uint64_t now;
        int status;

        process_sleep_ms(1000);
        now = read_count(&counters->messages);
        if (!command->quiet && now != before)
            fprintf(stderr, "%lu messages, %lu/s, %lu open\n", now, now - before,
                    read_count(&counters->open));
        before = now;
        for (uint64_t i = 0; i < command->workers; i++) {
            if (!process_is_alive(workers[i], &status))
                return;
        }
    }
}

static int run(struct sink_command *command)
{
    pid_t workers[WORKERS_MAX];
    struct ledger_sums sums;

    for (uint64_t i = 0; i < command->workers; i++) {
        workers[i] = process_fork(work, command);
        if (workers[i] < 0)
            return COMMAND_FAILED;
    }
    while (__atomic_load_n(&command->shared->ready, __ATOMIC_ACQUIRE) < command->workers) {
        if (__atomic_load_n(&command->shared->error, __ATOMIC_ACQUIRE) != 0 || process_stop_asked())
            return COMMAND_FAILED;
        process_sleep_ms(2);
    }
    fprintf(stderr, "ready\n");
    watch(command, workers);
    __atomic_store_n(&command->shared->stop, 1, __ATOMIC_RELAXED);
    for (uint64_t i = 0; i < command->workers; i++)
        process_end(workers[i], 5000);
    ledger_sum(command->ledger, 0, command->messages, &sums);
    if (command->json)
        print_json(command, sums.duplicates);
    else
        print_text(command, sums.duplicates);
    return COMMAND_OK;
}

static void list_models(void)
{
    for (size_t i = 0; i < model_count; i++)
        printf("# %s: %s\n%s\n", models[i].name, models[i].summary, models[i].text);
}

int command_sink(int argc, char **argv)
{
    struct sink_command command = {
        .options = {.host_name = "sink.test", .size_max = 100000000, .sessions_max = 20000},
        .workers = 1,
        .messages = MESSAGES_DEFAULT,
        .rcpts = 1,
    };
    int code = COMMAND_FAILED;

    command.addresses = (struct command_addresses){
        command.options.addresses, &command.options.address_count, SINK_ADDRESSES_MAX};
    switch (parse(&command, argc, argv)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    if (command.list_models) {
        list_models();
        return COMMAND_OK;
    }
    if (command.options.address_count == 0)
        command_take_address(&command.addresses, ADDRESS_DEFAULT);
    command.options.rules = command.rules.list;
    command.options.rule_count = command.rules.count;
    if (command.workers == 0 || command.workers > WORKERS_MAX ||
        (command.options.times_path != NULL && command.workers > 1) || command.rcpts == 0 ||
        command.rcpts > UINT32_MAX || command.messages > UINT32_MAX ||
        sink_check(&command.options) != 0)
        return COMMAND_USAGE;
    command.shared = sink_shared_create();
    command.ledger = ledger_create(command.run, command.messages, (uint32_t)command.rcpts);
    if (command.shared != NULL && command.ledger != NULL)
        code = run(&command);
    ledger_destroy(command.ledger);
    sink_shared_destroy(command.shared);
    return code;
}
