/*
 * command: the commands of ringpost-bench, and what their command lines have in common.
 */
#pragma once

#include "bench/gen.h"
#include "bench/sink.h"

/* Exit codes of every command. */
enum command_exit {
    COMMAND_OK = 0,
    COMMAND_FAILED = 1, /* could not run */
    COMMAND_USAGE = 2,
    COMMAND_LOST = 3, /* ran, and mail was lost, doubled, damaged or mixed up */
};

/* The whole program: argv[1] names the command. */
int command_main(int argc, char **argv);

int command_sink(int argc, char **argv);
int command_gen(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_e2e(int argc, char **argv);
int command_floor(int argc, char **argv);
int command_scenario(int argc, char **argv);
int command_demo(int argc, char **argv);

/* For tables of options (args.h): each takes one value more. */

/* struct command_addresses: ADDRESS:PORT */
struct command_addresses {
    struct ipaddr_port *list;
    uint32_t *count;
    uint32_t room;
};

int command_take_address(void *into, const char *value);
/* struct gen_options: a source address */
int command_take_source(void *into, const char *value);
/* struct gen_options: SIZE[:WEIGHT],… replaces the sizes */
int command_take_sizes(void *into, const char *value);
/* enum gen_pipelining */
int command_take_pipelining(void *into, const char *value);
/* uint32_t: run id, hexadecimal */
int command_take_run(void *into, const char *value);

/* struct command_texts: keeps the pointer. */
struct command_texts {
    const char *list[64];
    uint32_t count;
};

int command_take_text(void *into, const char *value);

/* ringpostd in the directory of the running program. */
void command_default_daemon(char *room, size_t room_bytes);

/* "VALUE of UNIT" figures of a histogram of nanoseconds, in a line. */
void command_print_latency(const char *label, const struct histogram *latency);
