/* How much of the machine's memory is in use, as Linux tells it. */
#include "core/base/err.h"
#include "core/io/io_uring_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The figure behind a name at the start of a line. */
static bool find_kib(const char *text, const char *name, unsigned long long *ret_kib)
{
    const char *line = strstr(text, name);

    return line && sscanf(line + strlen(name), " %llu", ret_kib) == 1;
}

int io_memory_used(struct io *io, uint32_t *ret_percent)
{
    char text[1024]; /* both lines are among the first three */
    unsigned long long total, available;
    int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t len;

    io_count_call(io);
    if (fd < 0)
        return -errno;
    len = read(fd, text, sizeof(text) - 1);
    close(fd);
    io_count_call(io);
    io_count_call(io);
    if (len < 0)
        return E_UNKNOWN;
    text[len] = '\0';
    if (!find_kib(text, "MemTotal:", &total) || !find_kib(text, "MemAvailable:", &available) ||
        total == 0 || available > total)
        return E_UNKNOWN;
    *ret_percent = (uint32_t)((total - available) * 100 / total);
    return 0;
}
