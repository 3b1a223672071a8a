/*
 * The log file's turn at midnight: FILE.1 becomes FILE.2 and so on, FILE becomes FILE.1, and lines
 * go to a new FILE. Whoever reads on in a file that was renamed finds its last line there.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/control_int.h"

#include <errno.h>
#include <stdio.h>

#define DAY_US        86400000000ull
#define LOG_PATH_MAX  4096
#define TRY_AGAIN_MAX 3 /* times a day, when it cannot be done */

static void put_path(char room[LOG_PATH_MAX], const char *path, uint32_t number)
{
    if (number == 0)
        snprintf(room, LOG_PATH_MAX, "%s", path);
    else
        snprintf(room, LOG_PATH_MAX, "%s.%u", path, number);
}

static bool is_there(struct io *io, const char *path)
{
    int fd, result = io_file_open(io, path, IO_FILE_READ, &fd);

    if (result >= 0)
        io_close_now(io, fd);
    return result != -ENOENT;
}

/* Makes room for FILE.1 among as many old files as are kept. 0 or negative. */
static int shift(struct io *io, const char *path, uint32_t kept)
{
    char from[LOG_PATH_MAX], to[LOG_PATH_MAX];
    uint32_t gap = 0;
    int result = 0;

    do
        put_path(to, path, ++gap);
    while (gap < kept && is_there(io, to));
    for (; gap > 0 && result >= 0; gap--) {
        put_path(from, path, gap - 1);
        put_path(to, path, gap);
        result = io_file_rename(io, from, to);
    }
    return result;
}

static int rotate(struct io *io, const struct conf_global *global)
{
    unsigned flags = IO_FILE_WRITE | IO_FILE_CREATE | IO_FILE_APPEND |
                     (global->log_world_readable ? IO_FILE_WORLD_READABLE : 0);
    int fd, result = global->log_rotate > 0 ? shift(io, global->log_file, global->log_rotate)
                                            : io_file_unlink(io, global->log_file);

    if (result < 0)
        return result;
    result = io_file_open(io, global->log_file, flags, &fd);
    if (result < 0)
        return result;
    if (!log_move(fd))
        result = -errno;
    io_close_now(io, fd);
    return result;
}

void control_log_look(struct control *control)
{
    const struct conf_global *global = conf_global(control->conf);
    uint64_t day = io_wall_us(control->io) / DAY_US;
    int result;

    if (control->log_day == 0 || !global->log_auto_rotation || !global->log_file || !log_has_file())
        control->log_day = day;
    if (day <= control->log_day)
        return;
    result = rotate(control->io, global);
    if (result >= 0 || ++control->log_failures == TRY_AGAIN_MAX) {
        control->log_day = day;
        control->log_failures = 0;
    }
    if (result < 0)
        log_error("log-auto-rotation: %s: %s", global->log_file, err_text(result));
}
