#include "cmd/classify.h"

#include "core/base/text.h"
#include "core/conf/conf.h"
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
    const char *config; /* NULL = none */
    const char *queue;  /* "domain/vmta" */
    bool show_reaction;
    bool show_rules;
};

void classify_usage(FILE *to)
{
    fprintf(to, "usage: ringpost classify [--config FILE [--queue DOMAIN/VMTA]] [--reaction]\n"
                "       ringpost classify --rules\n"
                "  reads replies on standard input, one a line: TEXT [TAB MX-HOST [TAB STATUS]]\n"
                "  prints for each: CATEGORY TAB CLASS TAB RULE TAB FILE:LINE\n"
                "  --config FILE    its <bounce-category-patterns> come first\n"
                "  --queue D/VMTA   with those of this queue's domain and virtual MTA\n"
                "  --reaction       and TAB what should happen to other mail\n"
                "  --rules          prints the rules instead\n");
}

/* The value of "--name VALUE" or "--name=VALUE" at argv[*at]; NULL when it is another option. */
static const char *take_value(int argc, char **argv, int *at, const char *name)
{
    size_t len = strlen(name);

    if (strcmp(argv[*at], name) == 0 && *at + 1 < argc)
        return argv[++*at];
    return strncmp(argv[*at], name, len) == 0 && argv[*at][len] == '=' ? argv[*at] + len + 1 : NULL;
}

static bool take_options(int argc, char **argv, struct options *options)
{
    for (int i = 0; i < argc; i++) {
        const char *value;

        if ((value = take_value(argc, argv, &i, "--config")) != NULL) {
            options->config = value;
        } else if ((value = take_value(argc, argv, &i, "--queue")) != NULL) {
            options->queue = value;
        } else if (strcmp(argv[i], "--reaction") == 0) {
            options->show_reaction = true;
        } else if (strcmp(argv[i], "--rules") == 0) {
            options->show_rules = true;
        } else {
            fprintf(stderr, "ringpost classify: unknown word \"%s\"\n", argv[i]);
            return false;
        }
    }
    if (options->queue == NULL)
        return true;
    if (options->config == NULL || strchr(options->queue, '/') == NULL) {
        fprintf(stderr, "ringpost classify: --queue wants DOMAIN/VMTA, and --config beside it\n");
        return false;
    }
    return true;
}

/* ---- The configuration ---------------------------------------------------------------------- */

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    if (severity == CONF_ERROR)
        fprintf(stderr, "ringpost classify: %s:%u: %s\n", file, line, text);
}

/* The lists that the queue has; without one, those of no particular domain and virtual MTA. */
static bool load_lists(const struct options *options, struct conf **ret_conf,
                       struct conf_queue *ret_queue)
{
    static const struct conf_load_options load_options = {.syntax_only = true};
    const char *slash = options->queue != NULL ? strchr(options->queue, '/') : NULL;
    struct slice domain = SLICE_EMPTY;
    uint32_t vmta = CONF_VMTA_DEFAULT;

    if (conf_load(options->config, &load_options, on_finding, NULL, ret_conf) < 0)
        return false;
    if (slash != NULL) {
        const struct conf_vmta *named = conf_vmta_named(*ret_conf, slice_str(slash + 1));

        domain = slice_of(options->queue, (size_t)(slash - options->queue));
        if (named == NULL) {
            fprintf(stderr, "ringpost classify: %s has no virtual MTA \"%s\"\n", options->config,
                    slash + 1);
            conf_unref(*ret_conf);
            return false;
        }
        vmta = named->id;
    }
    conf_queue(*ret_conf, domain, vmta, ret_queue);
    return true;
}

/* A user's pattern names the category; what it means for the address the rules know. */
static void ask_lists(const struct conf_queue *queue, const struct classify_reply *reply,
                      struct regex_scratch *scratch, struct classify_answer *answer)
{
    static char room[LINE_BYTES_MAX + 64];
    struct text subject = text_in(room, sizeof(room));
    struct conf_category category;
    uint16_t code, status[3];

    classify_codes(reply, &code, status);
    text_put_u64(&subject, status[0] != 0 ? status[0] : code / 100, 0);
    text_put_char(&subject, '.');
    text_put_u64(&subject, status[1], 0);
    text_put_char(&subject, '.');
    text_put_u64(&subject, status[2], 0);
    text_put_char(&subject, ';');
    text_put(&subject, reply->text);
    if (!conf_category_ask(queue->categories, text_slice(&subject), scratch, &category))
        return;
    answer->category = category.name;
    answer->rule = "bounce-category-patterns";
    answer->file = category.file;
    answer->line = category.line;
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

static int classify_lines(const struct options *options, const struct conf_queue *queue)
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
            ask_lists(queue, &reply, scratch, &answer);
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
    struct conf_queue queue = {0};
    struct conf *conf = NULL;
    struct options options = {0};
    int code;
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
    if (options.config != NULL && !load_lists(&options, &conf, &queue))
        return EXIT_REFUSED;
    code = classify_lines(&options, &queue);
    conf_unref(conf);
    return code;
}
