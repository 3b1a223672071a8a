#include "bench/args.h"

#include "core/base/err.h"
#include "core/base/slice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_help(const char *summary, const struct arg *table, size_t count,
                       const char *command)
{
    printf("usage: ringpost-bench %s [options]\n%s\n\n", command, summary);
    for (size_t i = 0; i < count; i++) {
        char head[64];

        snprintf(head, sizeof(head), "--%s %s", table[i].name,
                 table[i].value_name != NULL ? table[i].value_name : "");
        printf("  %-28s %s\n", head, table[i].help);
    }
}

int args_bytes(const char *text, uint64_t *ret_bytes)
{
    struct slice digits = slice_str(text);
    uint64_t unit = 1;
    uint64_t value;
    int error;

    if (digits.len == 0)
        return E_SYNTAX;
    switch (digits.data[digits.len - 1] | 0x20) {
    case 'k':
        unit = 1024;
        break;
    case 'm':
        unit = 1024 * 1024;
        break;
    default:
        break;
    }
    if (unit != 1)
        digits.len--;
    error = slice_to_u64(digits, UINT64_MAX / unit, &value);
    if (error != 0)
        return error;
    *ret_bytes = value * unit;
    return 0;
}

static int store(const struct arg *arg, const char *value)
{
    char *end;
    double number;

    switch (arg->kind) {
    case ARG_FLAG:
        *(bool *)arg->into = true;
        return 0;
    case ARG_COUNT:
        return slice_to_u64(slice_str(value), UINT64_MAX, arg->into);
    case ARG_NUMBER:
        number = strtod(value, &end);
        if (end == value || *end != '\0' || !(number >= 0))
            return E_SYNTAX;
        *(double *)arg->into = number;
        return 0;
    case ARG_TEXT:
        *(const char **)arg->into = value;
        return 0;
    case ARG_EACH:
        return arg->take(arg->into, value);
    }
    return E_UNKNOWN;
}

static const struct arg *find(const struct arg *table, size_t count, const char *name, size_t len)
{
    for (size_t i = 0; i < count; i++) {
        if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
            return &table[i];
    }
    return NULL;
}

static enum args_answer wrong(const char *command, const char *option, const char *what)
{
    fprintf(stderr, "ringpost-bench %s: %s: %s (--help lists the options)\n", command, option,
            what);
    return ARGS_WRONG;
}

enum args_answer args_parse(const char *summary, const struct arg *table, size_t count, int argc,
                            char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i];
        const char *name = option + 2;
        const char *value = strchr(option, '=');
        const struct arg *arg;

        if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            print_help(summary, table, count, argv[0]);
            return ARGS_HELP;
        }
        if (strncmp(option, "--", 2) != 0)
            return wrong(argv[0], option, "not an option");
        arg = find(table, count, name, value != NULL ? (size_t)(value - name) : strlen(name));
        if (arg == NULL)
            return wrong(argv[0], option, "unknown option");
        if (arg->kind == ARG_FLAG) {
            if (value != NULL)
                return wrong(argv[0], option, "takes no value");
        } else if (value != NULL) {
            value++;
        } else if (i + 1 < argc) {
            value = argv[++i];
        } else {
            return wrong(argv[0], option, "a value is missing");
        }
        if (store(arg, value) != 0)
            return wrong(argv[0], option, "this value makes no sense");
    }
    return ARGS_GO;
}
