#include "cmd/threads.h"

#include "core/base/err.h"
#include "core/base/log.h"

#include <errno.h>
#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A third of the weight of a shard: a reload or a long answer slows no delivery, and is not
 * starved. */
#define STAND_BACK_NICE 5

/* jemalloc's control call; absent where the program runs on another allocator (sanitizers). */
extern int mallctl(const char *name, void *old, size_t *old_len, void *new_value, size_t new_len)
    __attribute__((weak));

/* The first processor of each core this process may use, or all of them. */
static void plan_by_topology(bool smt, struct threads_plan *plan)
{
    hwloc_topology_t topology;
    hwloc_obj_t object = NULL;
    hwloc_obj_type_t type = smt ? HWLOC_OBJ_PU : HWLOC_OBJ_CORE;

    hwloc_topology_init(&topology);
    hwloc_topology_load(topology);
    while (plan->count < THREADS_MAX &&
           (object = hwloc_get_next_obj_by_type(topology, type, object))) {
        hwloc_bitmap_t allowed = hwloc_bitmap_dup(object->cpuset);
        int cpu;

        hwloc_bitmap_and(allowed, allowed, hwloc_topology_get_allowed_cpuset(topology));
        cpu = hwloc_bitmap_first(allowed);
        if (cpu >= 0)
            plan->cpus[plan->count++] = (uint16_t)cpu;
        hwloc_bitmap_free(allowed);
    }
    hwloc_topology_destroy(topology);
}

static int plan_by_list(const struct conf_global *global, struct threads_plan *plan)
{
    cpu_set_t allowed;

    sched_getaffinity(0, sizeof(allowed), &allowed);
    for (uint32_t i = 0; i < global->shard_cpu_count && plan->count < THREADS_MAX; i++) {
        uint16_t cpu = global->shard_cpus[i];

        if (!CPU_ISSET(cpu, &allowed)) {
            log_error("shard-cpus: processor %u may not be used by this process", cpu);
            return E_RANGE;
        }
        plan->cpus[plan->count++] = cpu;
    }
    return 0;
}

int threads_plan(const struct conf_global *global, struct threads_plan *ret_plan)
{
    struct threads_plan plan = {0};
    uint16_t available;
    int result = 0;

    if (global->shard_cpu_count > 0)
        result = plan_by_list(global, &plan);
    else
        plan_by_topology(global->shard_smt, &plan);
    if (result < 0)
        return result;
    available = plan.count;
    if (available == 0)
        plan.cpus[available++] = 0;
    plan.count = global->shard_count ? (uint16_t)global->shard_count : available;
    if (plan.count > THREADS_MAX)
        plan.count = THREADS_MAX;
    /* More shards than processors share them in turn. */
    for (uint16_t i = available; i < plan.count; i++)
        plan.cpus[i] = plan.cpus[i % available];
    *ret_plan = plan;
    return 0;
}

void threads_settle(uint16_t cpu, const char *name)
{
    unsigned arena;
    size_t len = sizeof(arena);
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0)
        log_warn("%s: cannot be pinned to processor %u", name, cpu);
    pthread_setname_np(pthread_self(), name);
    if (mallctl && (mallctl("arenas.create", &arena, &len, NULL, 0) != 0 ||
                    mallctl("thread.arena", NULL, NULL, &arena, sizeof(arena)) != 0))
        log_warn("%s: no memory arena of its own", name);
}

void threads_stand_back(const char *name)
{
    /* On Linux the niceness that setpriority() sets is the calling thread's alone. */
    if (setpriority(PRIO_PROCESS, 0, STAND_BACK_NICE) != 0)
        log_warn("%s: cannot stand back: %s", name, err_text(-errno));
}
