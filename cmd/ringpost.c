/*
 * ringpost: the command line. Sends one verb to the daemon's control socket and prints its answer;
 * "test config", "classify" and "dkim-sign" need no daemon. Exit code: 0 done, 1 the daemon (or the
 * check) says no, 2 usage or no daemon to talk to.
 */
#include "cmd/classify.h"
#include "cmd/dkim_sign.h"
#include "cmd/sample.h"
#include "core/conf/conf.h"
#include "net/sign.h"
#include "net/tls.h"
#include "shard/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/ringpost/control"

enum exit_code {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1,
    EXIT_USAGE = 2,
};

static void usage(FILE *to)
{
    char help[VERB_HELP_MAX];

    verbs_help(help, sizeof(help));
    fprintf(to,
            "usage: ringpost [--socket PATH] [--json|--dom] VERB...\n"
            "       ringpost classify [--help] ...\n"
            "       ringpost dkim-sign [--help] ...\n"
            "       ringpost --help | --version\n"
            "\n%s  %-24s %s\n",
            help, "--socket PATH", "the daemon's control socket, " DEFAULT_SOCKET " otherwise");
}

/* ---- The daemon ------------------------------------------------------------------------------ */

/* What may help where the daemon cannot be reached. */
static const char *advice(int error)
{
    if (error == ENOENT || error == ECONNREFUSED)
        return "; is ringpostd running, and is this its control-socket (--socket PATH)?";
    return error == EACCES ? "; only root and the daemon's own user may ask it" : "";
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        fprintf(stderr, "ringpost: %s: longer than a socket's path may be\n", path);
        return -1;
    }
    strcpy(address.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        fprintf(stderr, "ringpost: %s: %s%s\n", path, strerror(errno), advice(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

static ssize_t receive(int fd, char *room, size_t room_bytes)
{
    ssize_t got;

    do {
        got = read(fd, room, room_bytes);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* The answer's first line, without its LF; what came behind it stays in room. */
struct first_line {
    char room[65536];
    size_t used;
    size_t len;
};

static bool read_first_line(int fd, struct first_line *first)
{
    const char *end = NULL;

    first->used = 0;
    while (end == NULL && first->used < sizeof(first->room)) {
        ssize_t got = receive(fd, first->room + first->used, sizeof(first->room) - first->used);

        if (got <= 0)
            return false;
        first->used += (size_t)got;
        end = memchr(first->room, '\n', first->used);
    }
    if (end == NULL)
        return false;
    first->len = (size_t)(end - first->room);
    return true;
}

/* The rest of the answer. False when it could not be read or written whole. */
static bool copy_rest(int fd, const struct first_line *first, FILE *to, size_t *ret_bytes)
{
    static char room[65536];
    size_t rest = first->used - first->len - 1;
    ssize_t got;

    *ret_bytes = rest;
    if (fwrite(first->room + first->len + 1, 1, rest, to) != rest)
        return false;
    while ((got = receive(fd, room, sizeof(room))) > 0) {
        *ret_bytes += (size_t)got;
        if (fwrite(room, 1, (size_t)got, to) != (size_t)got)
            return false;
    }
    return got == 0 && fflush(to) == 0;
}

static int print_answer(int fd, FILE *to)
{
    static struct first_line first;
    size_t bytes = 0;
    bool is_ok;

    if (!read_first_line(fd, &first)) {
        fprintf(stderr,
                "ringpost: the daemon closed the connection without an answer: it is ending, or "
                "others ask it already, or you are neither root nor its own user\n");
        return EXIT_USAGE;
    }
    is_ok = first.len == 2 && memcmp(first.room, "ok", 2) == 0;
    if (!copy_rest(fd, &first, to, &bytes)) {
        fprintf(stderr, "ringpost: the answer broke off\n");
        return EXIT_USAGE;
    }
    if (is_ok)
        return EXIT_DONE;
    /* In JSON the refusal is told on standard output already. */
    if (bytes == 0)
        fprintf(stderr, "ringpost: %.*s\n", (int)first.len, first.room);
    return EXIT_REFUSED;
}

/* The answer goes to `to`. */
static int ask_daemon(const char *socket_path, const char *line, FILE *to)
{
    int fd = connect_to(socket_path);
    int code;

    if (fd < 0)
        return EXIT_USAGE;
    if (!send_all(fd, line, strlen(line)) || !send_all(fd, "\n", 1)) {
        fprintf(stderr, "ringpost: %s: %s\n", socket_path, strerror(errno));
        close(fd);
        return EXIT_USAGE;
    }
    code = print_answer(fd, to);
    close(fd);
    return code;
}

/* The same, and what of a sample's header is missing. */
static int ask_with_sample(const char *socket_path, const char *line,
                           const struct verb_request *request)
{
    struct bulk_header header;
    char *answer = NULL;
    size_t bytes = 0;
    FILE *to;
    int code;

    if (request->format == FORMAT_DOM) {
        fprintf(stderr, "ringpost: --sample goes with --json, or without either\n");
        return EXIT_USAGE;
    }
    if (!sample_read(request->file, &header))
        return EXIT_USAGE;
    to = open_memstream(&answer, &bytes);
    if (to == NULL)
        return EXIT_USAGE;
    code = ask_daemon(socket_path, line, to);
    fclose(to);
    if (code != EXIT_USAGE && request->format == FORMAT_JSON) {
        sample_print_json(&header, answer, stdout);
    } else if (code != EXIT_USAGE) {
        fputs(answer, stdout);
        sample_print(&header, stdout);
    }
    free(answer);
    return code == EXIT_DONE && header.faults != 0 ? EXIT_REFUSED : code;
}

/* ---- test config ----------------------------------------------------------------------------- */

struct findings {
    unsigned errors;
    unsigned without_effect;
    unsigned warnings; /* all others */
    unsigned notes;
};

/* core/conf's words for keywords that load but do nothing, now or ever. */
static bool is_without_effect(const char *text)
{
    return strstr(text, " is accepted but ") != NULL || strstr(text, " is accepted and ") != NULL;
}

static void on_finding(void *context, enum conf_severity severity, const char *file, unsigned line,
                       const char *text)
{
    struct findings *findings = context;
    const char *what = severity == CONF_ERROR  ? "Error"
                       : severity == CONF_NOTE ? "Note"
                                               : "Warning";

    if (severity == CONF_ERROR)
        findings->errors++;
    else if (severity == CONF_NOTE)
        findings->notes++;
    else if (is_without_effect(text))
        findings->without_effect++;
    else
        findings->warnings++;
    if (line == 0)
        printf("%s in %s: %s\n", what, file, text);
    else
        printf("%s in line %u of %s: %s\n", what, line, file, text);
}

static int test_config(const struct verb_request *request)
{
    const struct conf_load_options options = {
        .lint = true,
        .key_ops = &sign_key_ops,
        .tls_ops = &tls_conf_ops,
        .syntax_only = (request->given & VERB_BIT(OPTION_SYNTAX)) != 0,
    };
    struct findings findings = {0};
    struct conf *conf = NULL;
    int result = conf_load(request->file, &options, on_finding, &findings, &conf);

    printf("%s is %s: %u errors, %u accepted without effect, %u other warnings, %u notes\n",
           request->file, result < 0 ? "refused" : "accepted", findings.errors,
           findings.without_effect, findings.warnings, findings.notes);
    if (result < 0)
        return EXIT_REFUSED;
    conf_unref(conf);
    return EXIT_DONE;
}

/* ---- Arguments ------------------------------------------------------------------------------- */

struct arguments {
    const char *socket_path;
    const char *words[VERB_WORDS_MAX];
    uint32_t count;
};

/* False when the program is to end with *ret_code. */
static bool take_arguments(int argc, char **argv, struct arguments *arguments, int *ret_code)
{
    *ret_code = EXIT_USAGE;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            *ret_code = EXIT_DONE;
            return false;
        }
        if (strcmp(argv[i], "--version") == 0) {
            printf("ringpost %s\n", RINGPOST_VERSION);
            *ret_code = EXIT_DONE;
            return false;
        }
        if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            arguments->socket_path = argv[++i];
        } else if (strncmp(argv[i], "--socket=", strlen("--socket=")) == 0) {
            arguments->socket_path = argv[i] + strlen("--socket=");
        } else if (arguments->count == VERB_WORDS_MAX) {
            fprintf(stderr, "ringpost: too many words\n");
            return false;
        } else {
            arguments->words[arguments->count++] = argv[i];
        }
    }
    if (arguments->count == 0)
        usage(stderr);
    return arguments->count > 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {.socket_path = DEFAULT_SOCKET};
    static struct verb_request request;
    char line[VERB_LINE_MAX + 1];
    char error[VERB_ERROR_MAX];
    int code;

    if (argc > 1 && strcmp(argv[1], "classify") == 0)
        return classify_run(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "dkim-sign") == 0)
        return dkim_sign_run(argc - 2, argv + 2);
    if (!take_arguments(argc, argv, &arguments, &code))
        return code;
    if (verbs_quote(arguments.words, arguments.count, line, sizeof(line)) < 0) {
        fprintf(stderr, "ringpost: the command line is too long\n");
        return EXIT_USAGE;
    }
    if (verbs_parse(slice_str(line), &request, error) < 0) {
        fprintf(stderr, "ringpost: %s\n", error);
        return EXIT_USAGE;
    }
    if (request.verb == VERB_TEST_CONFIG)
        return test_config(&request);
    if (request.verb == VERB_HELP) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (request.given & VERB_BIT(OPTION_SAMPLE))
        return ask_with_sample(arguments.socket_path, line, &request);
    return ask_daemon(arguments.socket_path, line, stdout);
}
