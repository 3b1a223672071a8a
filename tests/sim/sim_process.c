/* Processes: loops, descriptors, and the end of a life without a callback. */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#define FIRST_FD 3

struct sim_process *sim_process_create(struct sim_world *world)
{
    struct sim_process *process = sim_alloc(sizeof(*process));

    process->world = world;
    process->number = ++world->next_process;
    process->desc_lowest = FIRST_FD;
    sim_mem_tag_init(&process->memory);
    list_init(&process->loops);
    list_init(&process->strays);
    list_push_back(&world->processes, &process->link);
    sim_trace(world, "process", process->number, 0, 0);
    return process;
}

uint64_t sim_mem_bytes(const struct sim_process *process)
{
    return process->memory.byte_count;
}

uint64_t sim_mem_blocks(const struct sim_process *process)
{
    return process->memory.block_count;
}

uint32_t sim_fd_count(const struct sim_process *process)
{
    return process->desc_count;
}

uint64_t sim_disk_calls(const struct sim_process *process)
{
    return process->disk_calls;
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

struct sim_desc *sim_desc_find(struct sim_process *process, int fd)
{
    return fd >= 0 && (uint32_t)fd < process->desc_capacity ? process->descs[fd] : NULL;
}

struct sim_desc *sim_desc_get(struct sim_process *process, int fd, enum sim_desc_kind kind)
{
    struct sim_desc *desc = sim_desc_find(process, fd);

    must(desc != NULL && desc->kind == kind);
    return desc;
}

struct sim_desc *sim_desc_create(struct sim_process *process, enum sim_desc_kind kind)
{
    struct sim_desc *desc;
    uint32_t fd = process->desc_lowest;

    if (process->desc_count >= process->world->options.fd_count_max)
        return NULL;
    /* The lowest free number, as the system does it: a stale number is soon somebody else's. */
    while (fd < process->desc_capacity && process->descs[fd] != NULL)
        fd++;
    if (fd >= process->desc_capacity) {
        uint32_t capacity = process->desc_capacity != 0 ? process->desc_capacity * 2 : 64;

        process->descs = sim_realloc(process->descs, capacity * sizeof(struct sim_desc *));
        for (uint32_t i = process->desc_capacity; i < capacity; i++)
            process->descs[i] = NULL;
        process->desc_capacity = capacity;
    }
    desc = sim_alloc(sizeof(*desc));
    desc->process = process;
    desc->fd = (int)fd;
    desc->kind = kind;
    list_init(&desc->ops);
    process->descs[fd] = desc;
    process->desc_lowest = fd + 1;
    process->desc_count++;
    return desc;
}

void sim_desc_free(struct sim_desc *desc)
{
    struct sim_process *process = desc->process;

    must(list_empty(&desc->ops));
    process->descs[desc->fd] = NULL;
    process->desc_count--;
    if ((uint32_t)desc->fd < process->desc_lowest)
        process->desc_lowest = (uint32_t)desc->fd;
    sim_free(desc);
}

/* ---- Loops ----------------------------------------------------------------------------------- */

void sim_io_ready(struct io *io)
{
    struct sim_world *world = io->world;

    if (io->runnable_slot != 0 || sim_event_is_set(&io->stall))
        return;
    if (world->runnable_count == world->runnable_capacity) {
        world->runnable_capacity =
            world->runnable_capacity != 0 ? world->runnable_capacity * 2 : 16;
        world->runnable =
            sim_realloc(world->runnable, world->runnable_capacity * sizeof(struct io *));
    }
    world->runnable[world->runnable_count++] = io;
    io->runnable_slot = world->runnable_count;
}

void sim_io_asleep(struct io *io)
{
    struct sim_world *world = io->world;
    struct io *last;

    if (io->runnable_slot == 0)
        return;
    last = world->runnable[--world->runnable_count];
    world->runnable[io->runnable_slot - 1] = last;
    last->runnable_slot = io->runnable_slot;
    io->runnable_slot = 0;
}

static void timer_is_due(struct sim_world *world, struct sim_event *event)
{
    sim_io_ready(container_of(event, struct io, timer));
}

static void stall_is_over(struct sim_world *world, struct sim_event *event)
{
    sim_io_ready(container_of(event, struct io, stall));
}

void sim_io_create(struct sim_world *world, struct sim_process *process, struct io **ret_io)
{
    struct io *io = sim_alloc(sizeof(*io));

    io_loop_init(&io->loop, world->now_ns, sim_wall_us(world), rng_u64(&world->rng));
    io->world = world;
    io->process = process;
    io->number = ++world->next_io;
    list_init(&io->completed);
    list_init(&io->ready_ends);
    list_init(&io->batch_ends);
    list_init(&io->ready_accepts);
    io->timer.fire = timer_is_due;
    io->stall.fire = stall_is_over;
    list_push_back(&process->loops, &io->link);
    sim_io_ready(io);
    *ret_io = io;
}

static void free_loop(struct io *io)
{
    sim_io_asleep(io);
    sim_event_stop(io->world, &io->timer);
    sim_event_stop(io->world, &io->stall);
    list_remove(&io->link);
    sim_free(io);
}

void sim_io_destroy(struct io *io)
{
    must(list_empty(&io->completed) && list_empty(&io->ready_ends));
    must(list_empty(&io->ready_accepts));
    free_loop(io);
}

/* ---- Entering -------------------------------------------------------------------------------- */

void sim_enter(struct sim_process *process)
{
    struct sim_world *world = process->world;

    must(world->entered == NULL);
    world->entered = process;
    world->outer_memory = sim_mem_switch(&process->memory);
}

void sim_leave(struct sim_process *process)
{
    struct sim_world *world = process->world;

    must(world->entered == process);
    world->entered = NULL;
    sim_mem_switch(world->outer_memory);
    list_for_each (node, &process->loops)
        sim_io_ready(container_of(node, struct io, link));
}

bool sim_run_in(struct sim_process *process, void (*function)(void *context), void *context)
{
    struct sim_world *world = process->world;

    if (setjmp(world->crash_jump) != 0) {
        sim_crash_landed(world);
        return false;
    }
    world->crash_jump_set = true;
    sim_enter(process);
    function(context);
    sim_leave(process);
    world->crash_jump_set = false;
    return true;
}

/* ---- Crash ----------------------------------------------------------------------------------- */

static void drop_ops(struct sim_world *world, struct list *ops)
{
    while (!list_empty(ops))
        sim_op_free(world, container_of(ops->next, struct sim_op, desc_link));
}

static void vanish_desc(struct sim_world *world, struct sim_desc *desc, enum sim_crash_kind kind)
{
    if (desc->kind == SIM_DESC_FILE && kind == SIM_KILL)
        sim_file_abandon(desc);
    drop_ops(world, &desc->ops);
    desc->op_count = 0;
    if (desc->kind == SIM_DESC_SOCKET)
        sim_end_close(desc->end, kind == SIM_KILL ? SIM_CLOSE_KILLED : SIM_CLOSE_POWER_CUT);
    else if (desc->kind == SIM_DESC_LISTENER)
        sim_listener_close(desc->listener);
    else if (desc->kind == SIM_DESC_FILE && kind == SIM_POWER_CUT)
        sim_file_close(desc->file);
    sim_desc_free(desc);
}

static void end_life(struct sim_process *process, enum sim_crash_kind kind)
{
    struct sim_world *world = process->world;

    sim_trace(world, "crash", process->number, kind, process->desc_count);
    sim_cover(world, kind == SIM_KILL ? SIM_COVER_process_killed : SIM_COVER_power_cut);
    sim_event_stop(world, &process->crash);
    if (kind == SIM_POWER_CUT)
        sim_disk_power_cut(world, process);
    for (uint32_t fd = 0; fd < process->desc_capacity; fd++) {
        if (process->descs[fd] != NULL)
            vanish_desc(world, process->descs[fd], kind);
    }
    drop_ops(world, &process->strays);
    while (!list_empty(&process->loops))
        free_loop(container_of(process->loops.next, struct io, link));
    sim_mem_free_all(&process->memory);
    list_remove(&process->link);
    sim_free(process->descs);
    sim_free(process);
}

void sim_crash_landed(struct sim_world *world)
{
    struct sim_process *process = world->entered;

    world->entered = NULL;
    world->crash_jump_set = false;
    sim_mem_switch(world->outer_memory);
    if (process->on_crash != NULL)
        process->on_crash(process->crash_context);
    end_life(process, world->jumped_kind);
}

void sim_crash(struct sim_world *world, struct sim_process *process, enum sim_crash_kind kind)
{
    if (world->entered == process) {
        /* Its own code is on the stack: leave it where it stands. */
        must(world->crash_jump_set);
        world->jumped_kind = kind;
        longjmp(world->crash_jump, 1);
    }
    end_life(process, kind);
}

static void ordered_crash(struct sim_world *world, struct sim_event *event)
{
    struct sim_process *process = container_of(event, struct sim_process, crash);

    if (process->on_crash != NULL)
        process->on_crash(process->crash_context);
    end_life(process, process->crash_kind);
}

void sim_crash_after(struct sim_process *process, enum sim_crash_kind kind, uint64_t nth,
                     void (*on_crash)(void *context), void *context)
{
    must(nth > 0);
    process->crash_kind = kind;
    process->crash_at_call = process->disk_calls + nth;
    process->on_crash = on_crash;
    process->crash_context = context;
    process->crash.fire = ordered_crash;
}

bool sim_disk_call_counted(struct sim_process *process)
{
    struct sim_world *world = process->world;

    process->disk_calls++;
    if (process->crash_at_call == 0 || process->disk_calls < process->crash_at_call)
        return true;
    if (world->entered == process && world->crash_jump_set)
        sim_crash(world, process, process->crash_kind);
    /* In the middle of the world's events, or called by a test without a way back: the life ends
     * when those have run. */
    if (!sim_event_is_set(&process->crash))
        sim_event_at(world, &process->crash, world->now_ns);
    return false;
}
