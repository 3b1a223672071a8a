#include "cmd/classify.h"

#include "core/mail/classify.h"

#include <errno.h>
#include <stdlib.h>

#define LINE_BYTES_MAX 65536

enum exit_code {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1,
    EXIT_USAGE = 2,
};

struct options {
    bool show_reaction;
    bool show_rules;
};

void classify_usage(FILE *to)
{
    fprintf(to, "usage: ringpost classify [--reaction] [--rules]\n"
                "  reads replies on standard input, one a line: TEXT [TAB MX-HOST [TAB STATUS]]\n"
                "  prints for each: CATEGORY TAB CLASS TAB RULE TAB FILE:LINE\n"
                "  --reaction       and TAB what should happen to other mail\n"
                "  --rules          prints the rules instead\n");
}

static bool take_options(int argc, char **argv, struct options *options)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--reaction") == 0) {
            options->show_reaction = true;
        } else if (strcmp(argv[i], "--rules") == 0) {
            options->show_rules = true;
        } else {
            fprintf(stderr, "ringpost classify: unknown word \"%s\"\n", argv[i]);
            return false;
        }
    }
    return true;
}

/* ---- Lines ---------------------------------------------------------------------------------- */

/* "X.Y.Z", whole; an empty field is no status. */
static bool parse_status(struct slice field, uint16_t ret_status[3])
{
    memset(ret_status, 0, 3 * sizeof(*ret_status));
    if (field.len == 0)
        return true;
    for (int part = 0; part < 3; part++) {
        size_t len = part < 2 ? slice_find(field, '.') : field.len;
        uint64_t number;

        if (slice_to_u64(slice_of(field.data, len), 999, &number) < 0)
            return false;
        ret_status[part] = (uint16_t)number;
        field = slice_after(field, len < field.len ? len + 1 : len);
    }
    return ret_status[0] == 2 || ret_status[0] == 4 || ret_status[0] == 5;
}

/* NULL, or what is wrong with the line. */
static const char *parse_line(struct slice line, struct classify_reply *reply)
{
    struct slice fields[3] = {SLICE_EMPTY, SLICE_EMPTY, SLICE_EMPTY};

    *reply = (struct classify_reply){.stage = CLASSIFY_STAGE_UNKNOWN};
    if (line.len > LINE_BYTES_MAX)
        return "longer than 65536 octets";
    if (slice_find(line, '\0') < line.len)
        return "holds a NUL";
    for (int i = 0; i < 3; i++) {
        size_t len = slice_find(line, '\t');

        fields[i] = slice_trim(slice_of(line.data, len));
        if (len < line.len && i == 2)
            return "more than three fields: text, MX host, status";
        line = slice_after(line, len < line.len ? len + 1 : len);
    }
    if (fields[0].len == 0)
        return "no text";
    if (!parse_status(fields[2], reply->enhanced))
        return "the third field is no status like 5.1.1";
    reply->text = fields[0];
    reply->host = fields[1];
    return NULL;
}

static void print_answer(const struct classify_answer *answer, const struct options *options)
{
    printf("%s\t%s\t%s\t%s:%u", answer->category, classify_class_text(answer->class), answer->rule,
           answer->file, answer->line);
    if (options->show_reaction && answer->reaction == CLASSIFY_NO_REACTION)
        printf("\t%s", classify_reaction_text(answer->reaction));
    else if (options->show_reaction)
        printf("\t%s:%s", classify_reaction_text(answer->reaction),
               classify_scope_text(answer->scope));
    printf("\n");
}

static int classify_lines(const struct options *options)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct classify_answer answer;
    struct classify_reply reply;
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    unsigned long number = 0;
    int code = EXIT_DONE;

    while ((len = getline(&line, &room, stdin)) >= 0) {
        const char *fault;

        number++;
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            len--;
        fault = parse_line(slice_of(line, (size_t)len), &reply);
        if (fault == NULL) {
            classify(classify_shipped(), &reply, scratch, &answer);
            print_answer(&answer, options);
            continue;
        }
        /* The answers stay beside their lines. */
        printf("-\t-\t-\t-%s\n", options->show_reaction ? "\t-" : "");
        fprintf(stderr, "ringpost classify: line %lu: %s\n", number, fault);
        code = EXIT_REFUSED;
    }
    if (ferror(stdin) || fflush(stdout) != 0) {
        fprintf(stderr, "ringpost classify: %s\n", strerror(errno));
        code = EXIT_USAGE;
    }
    free(line);
    regex_scratch_free(scratch);
    return code;
}

int classify_run(int argc, char **argv)
{
    struct options options = {0};
    struct slice rules = classify_shipped_text();

    if (argc == 1 && strcmp(argv[0], "--help") == 0) {
        classify_usage(stdout);
        return EXIT_DONE;
    }
    if (!take_options(argc, argv, &options)) {
        classify_usage(stderr);
        return EXIT_USAGE;
    }
    if (options.show_rules)
        return fwrite(rules.data, 1, rules.len, stdout) == rules.len && fflush(stdout) == 0
                   ? EXIT_DONE
                   : EXIT_USAGE;
    return classify_lines(&options);
}
