#include "shard/kept_file.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>
#include <stdio.h>

static char *path_of(const char *directory, const char *name, const char *suffix)
{
    size_t bytes = strlen(directory) + strlen(name) + strlen(suffix) + 2;
    char *path = mem_alloc(bytes);

    snprintf(path, bytes, "%s/%s%s", directory, name, suffix);
    return path;
}

static int write_whole(struct io *io, const char *path, struct slice head, struct slice body)
{
    int64_t result;
    int fd;

    result = io_file_open(io, path, IO_FILE_WRITE | IO_FILE_CREATE, &fd);
    if (result < 0)
        return (int)result;
    result = io_file_truncate(io, fd, 0);
    if (result >= 0 && head.len > 0)
        result = io_file_write_now(io, fd, head.data, head.len, 0);
    if (result >= 0 && body.len > 0)
        result = io_file_write_now(io, fd, body.data, body.len, head.len);
    if (result >= 0)
        result = io_file_sync_now(io, fd);
    io_close_now(io, fd);
    return result < 0 ? (int)result : 0;
}

int kept_file_store(struct io *io, const char *directory, const char *name, struct slice head,
                    struct slice body)
{
    char *path = path_of(directory, name, ""), *draft = path_of(directory, name, ".new");
    int result = write_whole(io, draft, head, body);

    if (result >= 0)
        result = io_file_rename(io, draft, path);
    if (result >= 0)
        result = io_dir_sync(io, directory);
    if (result < 0)
        io_file_unlink(io, draft);
    mem_free(draft);
    mem_free(path);
    return result;
}

int64_t kept_file_load(struct io *io, const char *directory, const char *name, uint64_t bytes_max,
                       char **ret_text)
{
    char *path = path_of(directory, name, ""), *text = NULL;
    uint64_t bytes = 0;
    int64_t result;
    int fd;

    result = io_file_open(io, path, IO_FILE_READ, &fd);
    mem_free(path);
    if (result < 0)
        return result;
    result = io_file_size(io, fd, &bytes);
    if (result >= 0 && bytes > bytes_max)
        result = E_DAMAGED;
    if (result >= 0) {
        text = mem_try_alloc(bytes + 1);
        result = text ? io_file_read_now(io, fd, text, bytes, 0) : -ENOMEM;
    }
    io_close_now(io, fd);
    if (result < 0)
        mem_free(text);
    else
        *ret_text = text;
    return result;
}
