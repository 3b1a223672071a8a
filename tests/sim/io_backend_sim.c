/* The conformance suite of core/io in the simulator: one process, its loops, and what it needs. */
#include "tests/sim/sim.h"
#include "tests/unit/core_io/io_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY    "/suite"
#define MS           1000000ull
#define PATIENCE_NS  (300000 * MS)
#define PATIENCE     2000000u
#define PORT_FIRST   2000
#define SILENT_BLOCK 99 /* 10.99/16 */

struct backend {
    struct sim_world *world;
    struct sim_process *process;
    struct io **loops;
    uint16_t next_port;
    unsigned next_path;
    char paths[4][128];
};

static uint64_t seed = 1;
static bool with_faults;

bool backend_configure(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "faults") == 0)
            with_faults = true;
        else if (argv[i][0] >= '0' && argv[i][0] <= '9')
            seed = strtoull(argv[i], NULL, 10);
        else
            return false;
    }
    return true;
}

/* What the suite takes for granted: a small send finds room and arrives as one piece, later than
 * the sender hears of it, and 100 ms are enough for anything. */
static struct sim_options suite_options(void)
{
    struct sim_options options = {
        .window_min_bytes = 65536,
        .segment_bytes_min = 16384,
        .latency_min_ns = 200000,
        .latency_max_ns = 5 * MS,
        .loop_stall_max_ns = 2 * MS,
        .disk_stall_max_ns = 20 * MS,
    };

    /* Faults that io.h says nobody may notice. Those that cut the stream into small pieces are not
     * among them here: the suite counts pieces. */
    if (with_faults) {
        options.faults.receive_shortage = 10;
        options.faults.loop_stalled = 20;
        options.faults.turn_spurious = 5;
        options.faults.disk_stalled = 20;
        options.faults.page_written_early = 3;
    }
    return options;
}

struct backend *backend_create(unsigned loop_count)
{
    struct backend *backend = calloc(1, sizeof(*backend));
    struct sim_options options = suite_options();
    struct cidr silent = {.ip = {.family = IPADDR_V4, .bytes = {10, SILENT_BLOCK}},
                          .prefix_bits = 16};

    if (backend == NULL)
        return NULL;
    backend->world = sim_world_create(seed++, &options);
    backend->process = sim_process_create(backend->world);
    backend->loops = calloc(loop_count, sizeof(struct io *));
    for (unsigned i = 0; i < loop_count; i++)
        sim_io_create(backend->world, backend->process, &backend->loops[i]);
    backend->next_port = PORT_FIRST;
    sim_route(backend->world, &silent, SIM_ROUTE_DROP);
    io_dir_create(backend->loops[0], DIRECTORY);
    return backend;
}

void backend_destroy(struct backend *backend)
{
    sim_world_destroy(backend->world);
    free(backend->loops);
    free(backend);
}

struct io *backend_loop(struct backend *backend, unsigned number)
{
    return backend->loops[number];
}

/* What the test has started since the last run is seen. */
static void look_at_all(struct backend *backend)
{
    sim_enter(backend->process);
    sim_leave(backend->process);
}

bool backend_run(struct backend *backend, bool (*until)(void *context), void *context)
{
    look_at_all(backend);
    return sim_run_until(backend->world, until, context, PATIENCE_NS, PATIENCE);
}

void backend_run_for(struct backend *backend, uint64_t ns)
{
    look_at_all(backend);
    sim_run_for(backend->world, ns);
}

uint16_t backend_free_port(struct backend *backend)
{
    return backend->next_port++;
}

struct ipaddr_port backend_silent_address(struct backend *backend)
{
    return (struct ipaddr_port){
        .ip = {.family = IPADDR_V4, .bytes = {10, SILENT_BLOCK, 0, 1}},
        .port = 25,
    };
}

const char *backend_path(struct backend *backend, const char *name)
{
    char *room = backend->paths[backend->next_path++ % 4];

    snprintf(room, sizeof(backend->paths[0]), "%s/%s", DIRECTORY, name);
    return room;
}

uint64_t backend_lateness_ns(void)
{
    return with_faults ? 20 * MS : 2 * MS;
}
