/*
 * args: the command line of one bench command, from a table.
 *
 * Each command lists its options once; parsing and the help text come from that list. Options are
 * written --name VALUE or --name=VALUE, flags --name. Text values point into argv.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum arg_kind {
    ARG_FLAG,   /* bool */
    ARG_COUNT,  /* uint64_t */
    ARG_NUMBER, /* double, not negative */
    ARG_TEXT,   /* const char * */
    ARG_EACH,   /* handed to `take`, once for each time the option is given */
};

struct arg {
    const char *name; /* without the dashes */
    enum arg_kind kind;
    void *into;
    const char *value_name; /* NULL for flags */
    const char *help;
    /* ARG_EACH: 0, or negative for a value that makes no sense. */
    int (*take)(void *into, const char *value);
};

enum args_answer {
    ARGS_GO,    /* all understood */
    ARGS_HELP,  /* help was asked for and printed */
    ARGS_WRONG, /* the reason was printed to standard error */
};

/* argv[0] is the command's name. */
enum args_answer args_parse(const char *summary, const struct arg *table, size_t count, int argc,
                            char **argv);

/* "2048", "2k", "1m": bytes, in steps of 1024. 0, or E_SYNTAX. */
int args_bytes(const char *text, uint64_t *ret_bytes);
