/* The world itself: seed, clock, faults, trace, and the choice of what happens next. */
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MILLISECOND_NS 1000000ull
#define SECOND_NS      1000000000ull

struct sim_faults sim_faults_none(void)
{
    return (struct sim_faults){0};
}

struct sim_faults sim_faults_mild(void)
{
    return (struct sim_faults){
#define SIM_FAULT_MILD(name, mild, text) .name = mild,
        SIM_FAULT_TABLE(SIM_FAULT_MILD)
#undef SIM_FAULT_MILD
    };
}

struct sim_faults *sim_faults(struct sim_world *world)
{
    return &world->faults;
}

/* Rates by coverage number: the table of faults comes first in the enumeration. */
static uint32_t fault_rate(const struct sim_world *world, enum sim_coverage_kind kind)
{
    switch (kind) {
#define SIM_FAULT_RATE(name, mild, text)                                                           \
    case SIM_COVER_##name:                                                                         \
        return world->faults.name;
        SIM_FAULT_TABLE(SIM_FAULT_RATE)
#undef SIM_FAULT_RATE
    default:
        return 0;
    }
}

bool sim_fault(struct sim_world *world, enum sim_coverage_kind kind)
{
    uint32_t rate = fault_rate(world, kind);

    if (rate == 0 || !rng_one_in(&world->rng, rate))
        return false;
    sim_cover(world, kind);
    return true;
}

void sim_cover(struct sim_world *world, enum sim_coverage_kind kind)
{
    world->coverage[kind].count++;
    sim_trace(world, world->coverage[kind].name, world->coverage[kind].count, 0, 0);
}

const struct sim_coverage *sim_coverage(const struct sim_world *world)
{
    return world->coverage;
}

void sim_coverage_print(const struct sim_world *world, bool all)
{
    for (int i = 0; i < SIM_COVER_KINDS; i++) {
        if (all || world->coverage[i].count > 0)
            fprintf(stderr, "%12" PRIu64 " %s\n", world->coverage[i].count,
                    world->coverage[i].name);
    }
}

static bool alloc_fails(void *context)
{
    return sim_fault(context, SIM_COVER_alloc_failed);
}

/* Log lines are part of the history. */
static void take_log_line(void *context, enum log_level level, const char *text)
{
    struct sim_world *world = context;

    sim_trace_bytes(world, "log", text, strlen(text));
    if (world->options.trace_text)
        fprintf(stderr, "%40s %s\n", "|", text);
}

static void set_default(uint64_t *value, uint64_t standard)
{
    if (*value == 0)
        *value = standard;
}

static void set_default32(uint32_t *value, uint32_t standard)
{
    if (*value == 0)
        *value = standard;
}

static void fill_options(struct sim_options *options)
{
    set_default(&options->start_ns, 1000 * SECOND_NS);
    set_default(&options->start_wall_us, 1767225600000000ull);
    set_default32(&options->turn_min_ns, 300);
    set_default32(&options->turn_max_ns, 6000);
    set_default32(&options->submit_max_ns, 20000);
    set_default(&options->latency_min_ns, 20000);
    set_default(&options->latency_max_ns, 40 * MILLISECOND_NS);
    set_default32(&options->jitter_percent, 20);
    set_default32(&options->segment_bytes_min, 1);
    set_default32(&options->segment_bytes_max, 16384);
    set_default32(&options->window_min_bytes, 2048);
    set_default32(&options->window_max_bytes, 65536);
    set_default(&options->connect_timeout_ns, 127 * SECOND_NS);
    set_default(&options->loop_stall_max_ns, 200 * MILLISECOND_NS);
    set_default(&options->wall_jump_max_us, 3600ull * 1000000);
    set_default32(&options->fd_count_max, 65536);
    set_default(&options->disk_min_ns, 5000);
    set_default(&options->disk_max_ns, 300000);
    set_default(&options->disk_stall_max_ns, 2 * SECOND_NS);
    set_default(&options->disk_bytes, 1ull << 40);
    set_default(&options->late_max_ns, 65 * MILLISECOND_NS);
    /* A bound given alone moves the other one with it. */
    if (options->turn_max_ns < options->turn_min_ns)
        options->turn_max_ns = options->turn_min_ns;
    if (options->latency_max_ns < options->latency_min_ns)
        options->latency_max_ns = options->latency_min_ns;
    if (options->segment_bytes_max < options->segment_bytes_min)
        options->segment_bytes_max = options->segment_bytes_min;
    if (options->window_max_bytes < options->window_min_bytes)
        options->window_max_bytes = options->window_min_bytes;
    if (options->disk_max_ns < options->disk_min_ns)
        options->disk_max_ns = options->disk_min_ns;
}

struct sim_world *sim_world_create(uint64_t seed, const struct sim_options *options)
{
    static const char *const names[SIM_COVER_KINDS] = {
#define SIM_FAULT_NAME(name, mild, text) #name,
#define SIM_EVENT_NAME(name)             #name,
        SIM_FAULT_TABLE(SIM_FAULT_NAME) SIM_EVENT_TABLE(SIM_EVENT_NAME)
#undef SIM_FAULT_NAME
#undef SIM_EVENT_NAME
    };
    struct sim_world *world = sim_alloc(sizeof(*world));

    world->seed = seed;
    if (options != NULL)
        world->options = *options;
    fill_options(&world->options);
    world->faults = world->options.faults;
    for (int i = 0; i < SIM_COVER_KINDS; i++)
        world->coverage[i].name = names[i];
    rng_init(&world->rng, seed);
    rng_init(&world->test_rng, hash_combine(seed, 1));
    world->now_ns = world->options.start_ns;
    world->trace_hash = hash_u64(seed);
    list_init(&world->processes);
    sim_net_init(world);
    sim_disk_init(world);
    sim_mem_set_failure(alloc_fails, world);
    log_set_sink(take_log_line, world);
    return world;
}

void sim_world_destroy(struct sim_world *world)
{
    if (world == NULL)
        return;
    must(world->entered == NULL);
    while (!list_empty(&world->processes))
        sim_crash(world, container_of(world->processes.next, struct sim_process, link), SIM_KILL);
    sim_net_fini(world);
    sim_disk_fini(world);
    must(world->queue.count == 0);
    sim_mem_set_failure(NULL, NULL);
    log_set_sink(NULL, NULL);
    sim_free(world->queue.heap);
    sim_free(world->runnable);
    sim_free(world);
}

uint64_t sim_now_ns(const struct sim_world *world)
{
    return world->now_ns;
}

uint64_t sim_wall_us(const struct sim_world *world)
{
    uint64_t elapsed_us = (world->now_ns - world->options.start_ns) / 1000;

    return world->options.start_wall_us + elapsed_us + (uint64_t)world->wall_offset_us;
}

void sim_wall_jump(struct sim_world *world, int64_t by_us)
{
    world->wall_offset_us += by_us;
    sim_trace(world, "wall", (uint64_t)by_us, 0, 0);
}

uint64_t sim_step_count(const struct sim_world *world)
{
    return world->step_count;
}

struct rng *sim_rng(struct sim_world *world)
{
    return &world->test_rng;
}

/* ---- Trace ----------------------------------------------------------------------------------- */

void sim_trace(struct sim_world *world, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t hash = world->trace_hash;

    for (const char *at = what; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 0x100000001b3ull;
    hash = (hash ^ a) * 0x9e3779b97f4a7c15ull;
    hash = (hash ^ (hash >> 32) ^ b) * 0xbf58476d1ce4e5b9ull;
    hash = (hash ^ (hash >> 29) ^ c) * 0x94d049bb133111ebull;
    world->trace_hash = hash ^ (hash >> 31) ^ world->now_ns;
    if (world->options.trace_text)
        fprintf(stderr, "%14" PRIu64 " %-18s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                (world->now_ns - world->options.start_ns) / 1000, what, a, b, c);
}

void sim_trace_bytes(struct sim_world *world, const char *what, const void *data, size_t len)
{
    sim_trace(world, what, len, hash_bytes(data, len), 0);
}

uint64_t sim_trace_hash(const struct sim_world *world)
{
    return world->trace_hash;
}

/* ---- Steps ----------------------------------------------------------------------------------- */

void sim_clock_move(struct sim_world *world, uint64_t to_ns)
{
    if (to_ns <= world->now_ns)
        return;
    world->now_ns = to_ns;
    if (sim_fault(world, SIM_COVER_wall_jumped)) {
        int64_t by_us = (int64_t)rng_below(&world->rng, world->options.wall_jump_max_us);

        sim_wall_jump(world, sim_coin(world) ? by_us : -by_us);
    }
}

/* A loop that may be asleep gets a turn: completions, parcels and timers must stand that. */
static void wake_somebody(struct sim_world *world)
{
    uint32_t left = 0;

    list_for_each (node, &world->processes) {
        struct sim_process *process = container_of(node, struct sim_process, link);

        list_for_each (io_node, &process->loops)
            left++;
    }
    if (left == 0)
        return;
    left = (uint32_t)rng_below(&world->rng, left);
    list_for_each (node, &world->processes) {
        struct sim_process *process = container_of(node, struct sim_process, link);

        list_for_each (io_node, &process->loops) {
            if (left-- == 0)
                sim_io_ready(container_of(io_node, struct io, link));
        }
    }
}

/*
 * Timers armed and parcels posted by a test outside of sim_enter are seen here, before the world
 * is declared dead. False when there are none.
 */
static bool find_forgotten(struct sim_world *world)
{
    list_for_each (node, &world->processes) {
        struct sim_process *process = container_of(node, struct sim_process, link);

        list_for_each (io_node, &process->loops) {
            struct io *io = container_of(io_node, struct io, link);

            if (io_loop_has_work(&io->loop) || io_loop_next_timer_ns(&io->loop) != UINT64_MAX)
                sim_io_ready(io);
        }
    }
    return world->runnable_count > 0;
}

static void run_turn(struct sim_world *world)
{
    struct io *io = world->runnable[rng_below(&world->rng, world->runnable_count)];

    sim_trace(world, "turn", io->number, world->runnable_count, 0);
    if (sim_fault(world, SIM_COVER_loop_stalled)) {
        uint64_t stall_ns = rng_below(&world->rng, world->options.loop_stall_max_ns);

        sim_event_at(world, &io->stall, world->now_ns + stall_ns);
        sim_io_asleep(io);
        return;
    }
    if (setjmp(world->crash_jump) == 0) {
        world->crash_jump_set = true;
        io_turn(io, 0);
        world->crash_jump_set = false;
    } else {
        sim_crash_landed(world);
    }
}

/* When nothing runs before limit_ns the clock stops there. */
static bool step_within(struct sim_world *world, uint64_t limit_ns)
{
    must(world->entered == NULL);
    world->step_count++;
    sim_events_fire(world);
    if (sim_fault(world, SIM_COVER_turn_spurious))
        wake_somebody(world);
    if (world->runnable_count > 0) {
        run_turn(world);
        return true;
    }
    if (world->queue.count == 0 && !find_forgotten(world))
        return false;
    if (world->queue.count > 0) {
        uint64_t next_ns = world->queue.heap[0]->at_ns;

        sim_clock_move(world, next_ns < limit_ns ? next_ns : limit_ns);
        sim_events_fire(world);
    }
    return true;
}

bool sim_step(struct sim_world *world)
{
    return step_within(world, UINT64_MAX);
}

bool sim_run_until(struct sim_world *world, bool (*done)(void *context), void *context,
                   uint64_t max_ns, uint64_t max_steps)
{
    uint64_t end_ns = max_ns < UINT64_MAX - world->now_ns ? world->now_ns + max_ns : UINT64_MAX;

    for (uint64_t step = 0; step < max_steps; step++) {
        if (done != NULL && done(context))
            return true;
        /* The last event of all may have been the one that was waited for. */
        if (world->now_ns >= end_ns || !step_within(world, end_ns))
            break;
    }
    return done != NULL && done(context);
}

void sim_run_for(struct sim_world *world, uint64_t ns)
{
    uint64_t end_ns = world->now_ns + ns;

    while (world->now_ns < end_ns && step_within(world, end_ns))
        continue;
    sim_clock_move(world, end_ns);
}
