/*
 * cgroup: a cgroup (version 2) of this process's own, below the one it stands in.
 *
 * Programs attached to it see our sockets and nobody else's, so daemons side by side do not disturb
 * one another. Sockets keep the cgroup they were made in: enter before the first one. Called by one
 * thread, at start with root's privileges and at the end with whatever is left of them; makes plain
 * system calls. A directory that could not be removed at the end (privileges are gone, or the
 * process was killed) is removed by the next start of any daemon in the same place; the kernel
 * refuses that while processes are inside.
 */
#pragma once

#include <stddef.h>

#define CGROUP_PATH_MAX 512
#define CGROUP_WHY_MAX  256

struct cgroup {
    char path[CGROUP_PATH_MAX];
    int dir_fd;          /* for attaching */
    int parent_procs_fd; /* opened with the privileges of the start */
};

/* Makes one and moves the whole process into it. 0; or negative with a sentence in why
 * (CGROUP_WHY_MAX bytes), and nothing has changed. */
int cgroup_enter(struct cgroup *ret_cgroup, char *why);
/* Back to where we came from; removes it as far as we still may. */
void cgroup_leave(struct cgroup *cgroup);
