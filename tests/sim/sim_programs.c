/* The simulated world has files and peers, and no programs. */
#include "core/base/must.h"
#include "core/io/io.h"

#include <errno.h>

int io_program_start(struct io *io, char *const arguments[], int *ret_fd, int *ret_process)
{
    (void)io;
    (void)arguments;
    (void)ret_fd;
    (void)ret_process;
    return -ENOENT;
}

void io_program_end_input(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    must(false);
}

uint64_t io_program_unread(struct io *io, int fd)
{
    (void)io;
    (void)fd;
    must(false);
    return 0;
}

bool io_program_has_ended(struct io *io, int process, int *ret_status)
{
    (void)io;
    (void)process;
    (void)ret_status;
    must(false);
    return false;
}

void io_program_kill(struct io *io, int process, bool at_once)
{
    (void)io;
    (void)process;
    (void)at_once;
    must(false);
}
