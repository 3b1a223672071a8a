/*
 * Programs that are started. posix_spawn makes the child share our memory until it runs the other
 * program, so its cost does not grow with ours and no thread's lock is left behind in a copy.
 */
#include "core/io/io_uring_impl.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static char *const environment[] = {
    (char[]){"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, NULL};

/* Signals as the system gives them, a process group of its own. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t all, none;
    int error = posix_spawnattr_init(attributes);

    if (error != 0)
        return error;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(attributes, &all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setpgroup(attributes, 0);
    return posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETPGROUP);
}

/* Nothing of ours is open there but the socket. */
static int set_actions(posix_spawn_file_actions_t *actions, int socket)
{
    int error = posix_spawn_file_actions_init(actions);

    for (int fd = 0; fd <= 2 && error == 0; fd++)
        error = posix_spawn_file_actions_adddup2(actions, socket, fd);
    return error == 0 ? posix_spawn_file_actions_addclosefrom_np(actions, 3) : error;
}

static int spawn(char *const arguments[], int socket, int *ret_process)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    pid_t process = -1;
    int error = set_attributes(&attributes);

    if (error == 0)
        error = set_actions(&actions, socket);
    if (error == 0)
        error = posix_spawn(&process, arguments[0], &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    *ret_process = process;
    return -error;
}

int io_program_start(struct io *io, char *const arguments[], int *ret_fd, int *ret_process)
{
    int ends[2];
    int code;

    io_count_call(io);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    code = spawn(arguments, ends[1], ret_process);
    close(ends[1]);
    if (code < 0)
        close(ends[0]);
    else
        *ret_fd = ends[0];
    return code;
}

void io_program_end_input(struct io *io, int fd)
{
    io_count_call(io);
    (void)shutdown(fd, SHUT_WR);
}

uint64_t io_program_unread(struct io *io, int fd)
{
    struct pollfd look = {.fd = fd};
    int octets = 0;

    io_count_call(io);
    if (ioctl(fd, SIOCOUTQ, &octets) == 0 && octets > 0)
        return (uint64_t)octets;
    /* What a program has left unread goes with it, which is seen only in this order. */
    io_count_call(io);
    return poll(&look, 1, 0) == 0 ? 0 : UINT64_MAX;
}

bool io_program_has_ended(struct io *io, int process, int *ret_status)
{
    int status = 0;

    io_count_call(io);
    if (waitpid(process, &status, WNOHANG) != process)
        return false;
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return true;
}

void io_program_kill(struct io *io, int process, bool at_once)
{
    io_count_call(io);
    (void)kill(-process, at_once ? SIGKILL : SIGTERM);
}
