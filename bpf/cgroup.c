#include "bpf/cgroup.h"

#include "core/base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_PREFIX       "ringpost-"
#define ENTER_ATTEMPTS    16
#define STALE_LOOKS_MAX   4096
#define MOUNTS_FILE       "/proc/self/mountinfo"
#define OWN_CGROUP_FILE   "/proc/self/cgroup"
#define PROC_LINE_MAX     4096
#define MOUNT_FIELD_MAX   256
#define MOUNT_FIELD_MAX_S "255"

__attribute__((format(printf, 3, 4))) static int refuse(char *why, int code, const char *format,
                                                        ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, CGROUP_WHY_MAX, format, arguments);
    va_end(arguments);
    return code;
}

/* ---- Where we stand -------------------------------------------------------------------------- */

/* The mount point of the whole cgroup 2 tree as this process sees it; E_NOT_FOUND without one. */
static int find_mount(char room[MOUNT_FIELD_MAX])
{
    FILE *mounts = fopen(MOUNTS_FILE, "re");
    char line[PROC_LINE_MAX];
    int result = E_NOT_FOUND;

    if (mounts == NULL)
        return -errno;
    while (result < 0 && fgets(line, sizeof(line), mounts) != NULL) {
        const char *rest = strstr(line, " - ");
        char root[MOUNT_FIELD_MAX];

        if (rest == NULL || strncmp(rest, " - cgroup2 ", 11) != 0)
            continue;
        if (sscanf(line, "%*s %*s %*s %" MOUNT_FIELD_MAX_S "s %" MOUNT_FIELD_MAX_S "s", root,
                   room) == 2 &&
            strcmp(root, "/") == 0)
            result = 0;
    }
    fclose(mounts);
    return result;
}

/* Our path in that tree: the line "0::/system.slice/ringpost.service". */
static int find_own(char room[PROC_LINE_MAX])
{
    FILE *file = fopen(OWN_CGROUP_FILE, "re");
    char line[PROC_LINE_MAX];
    int result = E_NOT_FOUND;

    if (file == NULL)
        return -errno;
    while (result < 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        /* "/" is the root itself, which needs no name behind the mount point. */
        strcpy(room, line[4] == '\0' ? "" : line + 3);
        result = 0;
    }
    fclose(file);
    return result;
}

static int find_parent(char room[CGROUP_PATH_MAX], char *why)
{
    char mount[MOUNT_FIELD_MAX], own[PROC_LINE_MAX];
    int result = find_mount(mount);

    if (result < 0)
        return refuse(why, result, "no cgroup version 2 is mounted");
    result = find_own(own);
    if (result < 0)
        return refuse(why, result, "this process has no cgroup of version 2");
    if (snprintf(room, CGROUP_PATH_MAX, "%s%s", mount, own) >= CGROUP_PATH_MAX)
        return refuse(why, E_TOO_LONG, "the path of this process's cgroup is too long");
    return 0;
}

/* ---- Making one ------------------------------------------------------------------------------ */

/* Removes what ended daemons left behind. The kernel keeps every cgroup with a process in it. */
static void remove_stale(const char *parent)
{
    DIR *dir = opendir(parent);
    const struct dirent *entry;

    for (int i = 0; dir != NULL && i < STALE_LOOKS_MAX && (entry = readdir(dir)) != NULL; i++)
        if (strncmp(entry->d_name, NAME_PREFIX, strlen(NAME_PREFIX)) == 0)
            unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
    if (dir != NULL)
        closedir(dir);
}

static int open_below(const char *path, const char *name, int flags)
{
    char room[CGROUP_PATH_MAX + 32];
    int fd;

    snprintf(room, sizeof(room), "%s/%s", path, name);
    fd = open(room, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* "0" stands for the process that writes, with all its threads. */
static int move_here(int procs_fd)
{
    return write(procs_fd, "0", 1) == 1 ? 0 : -errno;
}

/* One attempt at a name. Another daemon's start may take an empty cgroup for a stale one. */
static int try_enter(struct cgroup *cgroup, const char *parent, int attempt)
{
    int procs_fd, result;

    if (snprintf(cgroup->path, sizeof(cgroup->path), "%s/" NAME_PREFIX "%ld-%d", parent,
                 (long)getpid(), attempt) >= (int)sizeof(cgroup->path))
        return -ENAMETOOLONG;
    if (mkdir(cgroup->path, 0755) < 0)
        return -errno;
    procs_fd = open_below(cgroup->path, "cgroup.procs", O_WRONLY);
    cgroup->dir_fd = open_below(cgroup->path, ".", O_RDONLY | O_DIRECTORY);
    result = procs_fd < 0 ? procs_fd : cgroup->dir_fd;
    if (result >= 0)
        result = move_here(procs_fd);
    if (procs_fd >= 0)
        close(procs_fd);
    if (result >= 0)
        return 0;
    if (cgroup->dir_fd >= 0)
        close(cgroup->dir_fd);
    rmdir(cgroup->path);
    return result;
}

int cgroup_enter(struct cgroup *ret_cgroup, char *why)
{
    char parent[CGROUP_PATH_MAX];
    struct cgroup cgroup = {.dir_fd = -1};
    int result = find_parent(parent, why);

    if (result < 0)
        return result;
    remove_stale(parent);
    cgroup.parent_procs_fd = open_below(parent, "cgroup.procs", O_WRONLY);
    if (cgroup.parent_procs_fd < 0)
        return refuse(why, cgroup.parent_procs_fd, "cannot write to %s: %s", parent,
                      err_text(cgroup.parent_procs_fd));
    result = -EEXIST;
    for (int i = 0; i < ENTER_ATTEMPTS; i++) {
        result = try_enter(&cgroup, parent, i);
        if (result != -EEXIST && result != -ENOENT && result != -ENODEV)
            break;
    }
    if (result < 0) {
        close(cgroup.parent_procs_fd);
        return refuse(why, result, "cannot make a cgroup in %s: %s", parent, err_text(result));
    }
    *ret_cgroup = cgroup;
    return 0;
}

void cgroup_leave(struct cgroup *cgroup)
{
    close(cgroup->dir_fd);
    if (move_here(cgroup->parent_procs_fd) == 0)
        rmdir(cgroup->path);
    close(cgroup->parent_procs_fd);
}
