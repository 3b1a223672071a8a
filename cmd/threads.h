/*
 * threads: which cores the shards get, and how a thread becomes one core's own.
 *
 * hwloc names the cores this process may use (cpusets respected): one per physical core, SMT
 * siblings only when asked for, or the processors that shard-cpus lists. After pinning, the thread
 * gets a jemalloc arena of its own, so that what it allocates from then on is local to it.
 */
#pragma once

#include "core/conf/conf.h"

#define THREADS_MAX 256

struct threads_plan {
    uint16_t count;
    uint16_t cpus[THREADS_MAX]; /* system processor numbers */
};

/* 0, or negative with a line logged: a listed processor that may not be used. */
int threads_plan(const struct conf_global *global, struct threads_plan *ret_plan);
/* Binds the calling thread to the processor and gives it an arena. A failure is logged and the
 * thread goes on unpinned. */
void threads_settle(uint16_t cpu, const char *name);
/* From here on the calling thread gives way to others of this process where they want the same
 * processor. It cannot be taken back without a privilege. A failure is logged. */
void threads_stand_back(const char *name);
