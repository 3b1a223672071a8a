/* ringpost-bench gen, ringpost-bench verify */
#include "bench/args.h"
#include "bench/command.h"
#include "bench/message.h"
#include "bench/process.h"
#include "core/base/err.h"

#include <stdio.h>
#include <unistd.h>

struct gen_command {
    struct gen_options options;
    struct command_addresses targets;
    struct command_texts headers;
    char extra_headers[1024];
    bool json;
};

static int parse(struct gen_command *command, int argc, char **argv)
{
    struct gen_options *options = &command->options;
    const struct arg table[] = {
        {"to", ARG_EACH, &command->targets, "ADDRESS:PORT",
         "the server, repeatable (127.0.0.1:2525)", command_take_address},
        {"source", ARG_EACH, options, "ADDRESS", "call from this address, repeatable",
         command_take_source},
        {"sessions", ARG_COUNT, &options->sessions, "N", "connections at once (100)", NULL},
        {"messages", ARG_COUNT, &options->messages, "N", "messages at most (100000)", NULL},
        {"first", ARG_COUNT, &options->first_number, "N", "number of the first message (0)", NULL},
        {"seconds", ARG_NUMBER, &options->seconds, "S", "stop after this time (0 = no limit)",
         NULL},
        {"rate", ARG_NUMBER, &options->rate, "N",
         "open loop: N messages a second, timed from the schedule", NULL},
        {"rcpts", ARG_COUNT, &options->rcpts, "N", "recipients of each message (1)", NULL},
        {"domains", ARG_COUNT, &options->domains, "N", "recipient domains d0.test ... (100)", NULL},
        {"sizes", ARG_EACH, options, "SIZE[:WEIGHT],...",
         "message sizes, e.g. 2k:90,20k:9,100k:1 (2k)", command_take_sizes},
        {"pipelining", ARG_EACH, &options->pipelining, "HOW",
         "none, envelope (MAIL, RCPT, DATA at once), full (with the message before)",
         command_take_pipelining},
        {"per-connection", ARG_COUNT, &options->per_connection, "N",
         "reconnect after N messages (0 = never)", NULL},
        {"dots", ARG_FLAG, &options->dots, NULL, "bodies with lines that begin with dots", NULL},
        {"header", ARG_EACH, &command->headers, "LINE", "a further header line, repeatable",
         command_take_text},
        {"survive", ARG_FLAG, &options->survive, NULL, "reconnect when the server goes away", NULL},
        {"give-up", ARG_NUMBER, &options->give_up_s, "S", "stop when nothing was answered (30)",
         NULL},
        {"run", ARG_EACH, &options->run, "HEX", "id of the run (of the process)", command_take_run},
        {"ledger", ARG_TEXT, &options->ledger_path, "FILE", "append what was accepted", NULL},
        {"ledger-sync", ARG_FLAG, &options->ledger_sync, NULL, "make the file durable each time",
         NULL},
        {"json", ARG_FLAG, &command->json, NULL, "print the sums as JSON", NULL},
    };

    return args_parse("Injects numbered messages and times their acceptance.", table,
                      sizeof(table) / sizeof(table[0]), argc, argv);
}

static void print_text(const struct gen_shared *shared)
{
    double seconds = (double)(shared->end_ns - shared->start_ns) / 1e9;

    printf("%lu accepted in %.2f s = %.0f/s, %lu refused, %lu in doubt, %lu deferrals\n",
           shared->accepted, seconds, seconds > 0 ? (double)shared->accepted / seconds : 0,
           shared->refused, shared->in_doubt, shared->deferred);
    printf("%lu connections, %lu lost; CPU %.1f us and %.2f system calls a message\n",
           shared->connections, shared->lost_connections,
           shared->accepted > 0 ? (double)shared->cpu_us / (double)shared->accepted : 0,
           shared->accepted > 0 ? (double)shared->system_calls / (double)shared->accepted : 0);
    command_print_latency("acceptance", &shared->latency);
}

static void print_json(const struct gen_shared *shared)
{
    printf("{\"accepted\":%lu,\"refused\":%lu,\"in_doubt\":%lu,\"deferred\":%lu,\"issued\":%lu,"
           "\"connections\":%lu,\"lost_connections\":%lu,\"seconds\":%.6f,\"cpu_us\":%lu,"
           "\"system_calls\":%lu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"p999_ms\":%.3f,"
           "\"max_ms\":%.3f}\n",
           shared->accepted, shared->refused, shared->in_doubt, shared->deferred, shared->issued,
           shared->connections, shared->lost_connections,
           (double)(shared->end_ns - shared->start_ns) / 1e9, shared->cpu_us, shared->system_calls,
           (double)histogram_quantile(&shared->latency, 0.5) / 1e6,
           (double)histogram_quantile(&shared->latency, 0.99) / 1e6,
           (double)histogram_quantile(&shared->latency, 0.999) / 1e6,
           (double)shared->latency.max / 1e6);
}

static int join_headers(struct gen_command *command)
{
    struct smtp_text text = {command->extra_headers,
                             command->extra_headers + sizeof(command->extra_headers) - 1, false};

    for (uint32_t i = 0; i < command->headers.count; i++) {
        smtp_put_str(&text, command->headers.list[i]);
        smtp_put_literal(&text, "\r\n");
    }
    *text.at = '\0';
    command->options.extra_headers = command->extra_headers;
    return text.failed ? E_TOO_LONG : 0;
}

static bool makes_sense(const struct gen_options *options)
{
    return options->sessions > 0 && options->sessions <= 60000 && options->rcpts > 0 &&
           options->rcpts <= GEN_RCPTS_MAX && options->domains > 0 &&
           options->domains <= UINT32_MAX && options->size_count > 0 &&
           options->first_number < UINT32_MAX && options->messages < UINT32_MAX;
}

int command_gen(int argc, char **argv)
{
    struct gen_command command = {0};
    struct gen_options *options = &command.options;
    struct gen_shared *shared;
    struct ledger *ledger;
    int error = -1;

    gen_options_init(options);
    options->run = (uint32_t)(process_now_ns() / 1000) ^ (uint32_t)getpid() << 20;
    command.targets =
        (struct command_addresses){options->targets, &options->target_count, GEN_ADDRESSES_MAX};
    switch (parse(&command, argc, argv)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    if (options->target_count == 0)
        command_take_address(&command.targets, "127.0.0.1:2525");
    if (join_headers(&command) != 0 || !makes_sense(options)) {
        fprintf(stderr, "ringpost-bench gen: these numbers make no sense\n");
        return COMMAND_USAGE;
    }
    shared = gen_shared_create();
    ledger = ledger_create(options->run, options->first_number + options->messages,
                           (uint32_t)options->rcpts);
    if (shared != NULL && ledger != NULL) {
        error = gen_run(options, shared, ledger);
        if (command.json)
            print_json(shared);
        else
            print_text(shared);
    }
    ledger_destroy(ledger);
    gen_shared_destroy(shared);
    return error < 0 ? COMMAND_FAILED : COMMAND_OK;
}

int command_verify(int argc, char **argv)
{
    struct command_texts files = {0};
    struct ledger_sums sums;
    bool json = false;
    const struct arg table[] = {
        {"file", ARG_EACH, &files, "FILE", "a ledger of gen or sink, repeatable",
         command_take_text},
        {"json", ARG_FLAG, &json, NULL, "print the sums as JSON", NULL},
    };
    int error;

    switch (args_parse("Compares ledger files: what was accepted must have arrived, once.", table,
                       sizeof(table) / sizeof(table[0]), argc, argv)) {
    case ARGS_HELP:
        return COMMAND_OK;
    case ARGS_WRONG:
        return COMMAND_USAGE;
    default:
        break;
    }
    error = ledger_files_sum(files.list, files.count, &sums);
    if (error < 0) {
        fprintf(stderr, "ringpost-bench verify: %s\n", err_text(error));
        return COMMAND_FAILED;
    }
    printf(json ? "{\"accepted\":%lu,\"in_doubt\":%lu,\"arrived\":%lu,\"bounced\":%lu,"
                  "\"lost\":%lu,\"duplicates\":%lu,\"unexpected\":%lu}\n"
                : "accepted %lu  in doubt %lu  arrived %lu  bounced %lu  lost %lu  "
                  "duplicates %lu  unexpected %lu\n",
           sums.accepted, sums.in_doubt, sums.arrived, sums.bounced, sums.lost, sums.duplicates,
           sums.unexpected);
    return sums.lost + sums.duplicates > 0 ? COMMAND_LOST : COMMAND_OK;
}
