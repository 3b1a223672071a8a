/* The real world: loops of io_uring, loopback sockets, a temporary directory. */
#include "tests/unit/core_io/io_backend.h"

#include "core/base/must.h"
#include "core/io/io_uring.h"

#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOPS_MAX = 2,
    PATHS = 4,
    PATIENCE_S = 30,
    SILENT_FDS = 3,
};

struct backend {
    struct io *loops[LOOPS_MAX];
    unsigned loop_count;
    char directory[64];
    char paths[PATHS][256];
    unsigned path_count;
    int silent_fds[SILENT_FDS];
};

static struct io_options options = {.name = "test"};

/*
 * baseline: nothing that is probed at creation. tight: so few slots and buffers that every queue
 * overflows all the time.
 */
bool backend_configure(int argc, char **argv)
{
    const char *variant = argc > 1 ? argv[1] : "default";

    if (strcmp(variant, "default") == 0)
        return true;
    if (strcmp(variant, "baseline") == 0) {
        options.forbid_features = true;
        return true;
    }
    if (strcmp(variant, "tight") == 0) {
        options.submit_entries = 4;
        options.recv_buffer_count = 8;
        options.recv_buffer_bytes = 512;
        return true;
    }
    return false;
}

struct backend *backend_create(unsigned loop_count)
{
    struct backend *backend = calloc(1, sizeof(*backend));

    must(backend != NULL && loop_count <= LOOPS_MAX);
    for (unsigned i = 0; i < SILENT_FDS; i++)
        backend->silent_fds[i] = -1;
    strcpy(backend->directory, "/var/tmp/ringpost-io-XXXXXX");
    must(mkdtemp(backend->directory) != NULL);
    backend->loop_count = loop_count;
    for (unsigned i = 0; i < loop_count; i++)
        must(io_create(&options, &backend->loops[i]) == 0);
    return backend;
}

static int remove_entry(const char *path, const struct stat *about, int kind, struct FTW *where)
{
    return remove(path);
}

void backend_destroy(struct backend *backend)
{
    for (unsigned i = 0; i < backend->loop_count; i++)
        io_destroy(backend->loops[i]);
    for (unsigned i = 0; i < SILENT_FDS; i++) {
        if (backend->silent_fds[i] >= 0)
            close(backend->silent_fds[i]);
    }
    must(nftw(backend->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
    free(backend);
}

struct io *backend_loop(struct backend *backend, unsigned number)
{
    return backend->loops[number];
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A single loop may sleep; of two, none may keep the other waiting for long. */
static void turn_all(struct backend *backend, uint64_t wait_ns)
{
    if (backend->loop_count > 1 && wait_ns > 100000)
        wait_ns = 100000;
    for (unsigned i = 0; i < backend->loop_count; i++)
        io_turn(backend->loops[i], wait_ns);
}

bool backend_run(struct backend *backend, bool (*until)(void *context), void *context)
{
    uint64_t end_ns = clock_ns() + PATIENCE_S * 1000000000ull;

    while (!until(context)) {
        if (clock_ns() > end_ns)
            return false;
        /* Short: a turn that made it true sleeps all the same. */
        turn_all(backend, 1000000);
    }
    return true;
}

void backend_run_for(struct backend *backend, uint64_t ns)
{
    uint64_t end_ns = clock_ns() + ns;
    uint64_t now_ns;

    while ((now_ns = clock_ns()) < end_ns)
        turn_all(backend, end_ns - now_ns);
}

/* A bound socket that does not listen keeps the port; the address is given to somebody else only
 * after it is closed. */
static int bind_somewhere(struct sockaddr_in *at)
{
    socklen_t len = sizeof(*at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    memset(at, 0, sizeof(*at));
    at->sin_family = AF_INET;
    at->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(fd >= 0 && bind(fd, (struct sockaddr *)at, sizeof(*at)) == 0);
    must(getsockname(fd, (struct sockaddr *)at, &len) == 0);
    return fd;
}

uint16_t backend_free_port(struct backend *backend)
{
    struct sockaddr_in at;

    close(bind_somewhere(&at));
    return ntohs(at.sin_port);
}

/* A listener whose queue is full drops what asks for a connection. */
struct ipaddr_port backend_silent_address(struct backend *backend)
{
    struct ipaddr_port silent = {.ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}}};
    struct sockaddr_in at;

    backend->silent_fds[0] = bind_somewhere(&at);
    must(listen(backend->silent_fds[0], 0) == 0);
    for (unsigned i = 1; i < SILENT_FDS; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        must(fd >= 0);
        must(connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0 || errno == EINPROGRESS);
        backend->silent_fds[i] = fd;
    }
    silent.port = ntohs(at.sin_port);
    return silent;
}

const char *backend_path(struct backend *backend, const char *name)
{
    char *path = backend->paths[backend->path_count++ % PATHS];

    snprintf(path, sizeof(backend->paths[0]), "%s/%s", backend->directory, name);
    return path;
}

uint64_t backend_lateness_ns(void)
{
    return 30000000000; /* a busy machine may keep a thread waiting: a bound for what hangs */
}
