#include "bench/relay.h"

#include "bench/process.h"
#include "core/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define START_LIMIT_MS 60000
#define STOP_GRACE_MS  35000
#define ANSWER_BYTES   65536

/* ---- The daemon's configuration -------------------------------------------------------------- */

static void write_routes(FILE *stream, const struct relay_options *options)
{
    for (uint64_t domain = 0; domain <= options->domains; domain++) {
        const struct ipaddr_port *target = &options->targets[domain % options->target_count];
        char ip[IPADDR_TEXT_MAX];

        ipaddr_format(&target->ip, ip);
        /* The last one takes the notices about mail that could not be delivered. */
        if (domain < options->domains)
            fprintf(stream, "<domain d%lu.test>\n", domain);
        else
            fprintf(stream, "<domain sender.test>\n");
        fprintf(stream,
                "    smtp-hosts [%s]:%u\n    max-smtp-out %lu\n    retry-after 2s\n"
                "</domain>\n",
                ip, target->port, options->connections);
    }
}

static void write_vmtas(FILE *stream, const struct relay_options *options)
{
    for (uint32_t i = 0; i < options->source_count; i++) {
        char ip[IPADDR_TEXT_MAX];

        ipaddr_format(&options->sources[i], ip);
        fprintf(stream,
                "<virtual-mta v%u>\n    smtp-source-host %s v%u.sender.test\n</virtual-mta>\n", i,
                ip, i);
    }
    fprintf(stream, "<virtual-mta-pool all>\n");
    for (uint32_t i = 0; i < options->source_count; i++)
        fprintf(stream, "    virtual-mta v%u\n", i);
    fprintf(stream, "</virtual-mta-pool>\n");
}

static int append_extra(FILE *stream, const char *path)
{
    char line[1024];
    FILE *extra;

    if (path == NULL)
        return 0;
    extra = fopen(path, "re");
    if (extra == NULL)
        return -errno;
    while (fgets(line, sizeof(line), extra) != NULL)
        fputs(line, stream);
    fclose(extra);
    return 0;
}

static int write_config(struct relay *relay, const char *path)
{
    const struct relay_options *options = relay->options;
    char listen[IPADDR_TEXT_MAX];
    FILE *stream = fopen(path, "we");
    int error;

    if (stream == NULL)
        return -errno;
    ipaddr_format(&options->listen.ip, listen);
    fprintf(stream,
            "host-name relay.test\n"
            "control-socket %s\n"
            "total-max-smtp-in 50000\n"
            "total-max-smtp-out %lu\n"
            "smtp-listener %s:%u\n"
            "<spool %s/spool>\n</spool>\n"
            "<acct-file %s/acct.csv>\n    records d,b,t\n</acct-file>\n"
            "<source 127.0.0.0/8>\n    always-allow-relaying yes\n    suppress-local-dsn yes\n    "
            "default-virtual-mta all\n"
            "</source>\n",
            relay->control_path, options->out_max, listen, options->listen.port, options->dir,
            options->dir);
    write_vmtas(stream, options);
    write_routes(stream, options);
    error = append_extra(stream, options->extra);
    if (fclose(stream) != 0 && error == 0)
        error = -errno;
    return error;
}

/* ---- Starting -------------------------------------------------------------------------------- */

static void print_log_tail(const struct relay *relay)
{
    char text[4096];
    struct stat stat_of_log;
    int fd = open(relay->log_path, O_RDONLY | O_CLOEXEC);
    ssize_t len = 0;

    if (fd < 0)
        return;
    if (fstat(fd, &stat_of_log) == 0) {
        off_t skip = stat_of_log.st_size - (off_t)sizeof(text);

        len = pread(fd, text, sizeof(text), skip > 0 ? skip : 0);
    }
    close(fd);
    if (len > 0)
        fprintf(stderr, "the relay said last:\n%.*s\n", (int)len, text);
}

static bool log_has_ready(const struct relay *relay)
{
    char line[1024];
    FILE *stream = fopen(relay->log_path, "re");
    bool found = false;

    if (stream == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), stream) != NULL)
        found = strcmp(line, "ready\n") == 0;
    fclose(stream);
    return found;
}

static bool is_ready(const struct relay *relay)
{
    if (relay->options->kind == RELAY_FLOOR)
        return __atomic_load_n(&relay->floor_shared->ready, __ATOMIC_ACQUIRE) != 0;
    return log_has_ready(relay);
}

static int wait_until_ready(struct relay *relay)
{
    uint64_t end_ns = process_now_ns() + START_LIMIT_MS * 1000000ull;

    while (!is_ready(relay)) {
        if (!relay_is_alive(relay))
            return E_CLOSED;
        if (process_stop_asked())
            return -EINTR;
        if (process_now_ns() > end_ns) {
            print_log_tail(relay);
            return -ETIMEDOUT;
        }
        process_sleep_ms(5);
    }
    return 0;
}

static int run_floor(void *context)
{
    struct relay *relay = context;

    return floor_run(&relay->floor, relay->floor_shared);
}

static int start_floor(struct relay *relay)
{
    const struct relay_options *options = relay->options;
    struct floor_options *floor = &relay->floor;
    void *memory = mmap(NULL, sizeof(struct floor_shared), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -ENOMEM;
    relay->floor_shared = memory;
    floor->listen = options->listen;
    floor->spool = options->dir;
    floor->connections = options->connections * options->target_count * options->source_count;
    floor->target_count = options->target_count;
    memcpy(floor->targets, options->targets, options->target_count * sizeof(*options->targets));
    floor->source_count = options->source_count;
    memcpy(floor->sources, options->sources, options->source_count * sizeof(*options->sources));
    relay->pid = process_fork(run_floor, relay);
    return relay->pid < 0 ? (int)relay->pid : 0;
}

static int start_daemon(struct relay *relay)
{
    char path[PATH_MAX];
    char *const argv[] = {(char *)relay->options->daemon, (char *)"--config", path,
                          (char *)"--foreground", NULL};
    int error;

    if (access(relay->options->daemon, X_OK) != 0) {
        fprintf(stderr, "%s: %s\n", relay->options->daemon, strerror(errno));
        return -ENOENT;
    }
    snprintf(path, sizeof(path), "%s/ringpost.conf", relay->options->dir);
    error = write_config(relay, path);
    if (error < 0)
        return error;
    relay->pid = process_run(argv, relay->log_path);
    return relay->pid < 0 ? (int)relay->pid : 0;
}

int relay_start(struct relay *relay, const struct relay_options *options)
{
    int error = 0;

    memset(relay, 0, sizeof(*relay));
    relay->options = options;
    snprintf(relay->log_path, sizeof(relay->log_path), "%s/relay.log", options->dir);
    if (snprintf(relay->control_path, sizeof(relay->control_path), "%s/control", options->dir) >=
        (int)sizeof(relay->control_path))
        error = -ENAMETOOLONG;
    else if (options->kind == RELAY_FLOOR)
        error = start_floor(relay);
    else if (options->kind == RELAY_DAEMON)
        error = start_daemon(relay);
    if (error == 0 && options->kind != RELAY_NONE)
        error = wait_until_ready(relay);
    if (error < 0)
        fprintf(stderr, "the relay did not start: %s\n", err_text(error));
    return error;
}

void relay_stop(struct relay *relay)
{
    if (relay->pid > 0)
        process_end(relay->pid, STOP_GRACE_MS);
    relay->pid = 0;
    if (relay->floor_shared != NULL)
        munmap(relay->floor_shared, sizeof(*relay->floor_shared));
    relay->floor_shared = NULL;
}

bool relay_is_alive(struct relay *relay)
{
    int status;

    if (relay->pid <= 0)
        return relay->options->kind == RELAY_NONE;
    if (process_is_alive(relay->pid, &status))
        return true;
    relay->pid = 0;
    fprintf(stderr, "the relay ended by itself (wait status 0x%x)\n", (unsigned)status);
    print_log_tail(relay);
    return false;
}

/* ---- Figures --------------------------------------------------------------------------------- */

uint64_t relay_cpu_us(const struct relay *relay)
{
    return relay->pid > 0 ? process_cpu_us(relay->pid) : 0;
}

/* One command to the control socket; the answer as text, or -errno. */
static int ask(const char *path, const char *command, char *room, size_t room_bytes)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 5};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t used = 0;
    ssize_t len = 0;

    if (fd < 0)
        return -errno;
    memcpy(at.sun_path, path, strlen(path) + 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        send(fd, command, strlen(command), MSG_NOSIGNAL) < 0) {
        int error = -errno;

        close(fd);
        return error;
    }
    while (used + 1 < room_bytes && (len = read(fd, room + used, room_bytes - 1 - used)) > 0)
        used += (size_t)len;
    room[used] = '\0';
    close(fd);
    return len < 0 ? -errno : 0;
}

int64_t relay_system_calls(const struct relay *relay)
{
    static const char key[] = "\"system_calls\":";
    char *answer;
    const char *value;
    int64_t calls = -1;

    if (relay->options->kind == RELAY_FLOOR)
        return (int64_t)__atomic_load_n(&relay->floor_shared->system_calls, __ATOMIC_RELAXED);
    if (relay->options->kind != RELAY_DAEMON)
        return -1;
    answer = calloc(1, ANSWER_BYTES);
    if (answer != NULL &&
        ask(relay->control_path, "show status --json\n", answer, ANSWER_BYTES) == 0) {
        value = strstr(answer, key);
        if (value != NULL)
            calls = strtoll(value + sizeof(key) - 1, NULL, 10);
    }
    free(answer);
    return calls;
}
