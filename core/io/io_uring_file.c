/* Files: opened and arranged by plain system calls, read, written and synced through the ring. */
#include "core/io/io_uring_impl.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The result of a system call that returns 0 or -1. */
static int result_of(struct io *io, int returned)
{
    io_count_call(io);
    return returned < 0 ? -errno : 0;
}

/* ---- Synchronous --------------------------------------------------------------------------- */

/* Of a file that was opened without waiting for it: 0 when it is an ordinary one, which io_uring
 * then serves as any other; else negative. */
static int make_regular(struct io *io, int fd, bool is_alone)
{
    struct stat about;
    int code = result_of(io, fstat(fd, &about));

    if (code == 0 && (!S_ISREG(about.st_mode) || (is_alone && about.st_nlink > 1)))
        code = E_UNKNOWN;
    return code < 0 ? code : result_of(io, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK));
}

int io_file_open(struct io *io, const char *path, unsigned flags, int *ret_fd)
{
    int how = O_CLOEXEC | O_NOCTTY;
    int fd;

    if ((flags & IO_FILE_READ) && (flags & IO_FILE_WRITE))
        how |= O_RDWR;
    else if (flags & IO_FILE_WRITE)
        how |= O_WRONLY;
    else
        how |= O_RDONLY;
    how |= flags & IO_FILE_CREATE ? O_CREAT : 0;
    how |= flags & IO_FILE_EXCLUSIVE ? O_EXCL : 0;
    how |= flags & IO_FILE_DIRECT ? O_DIRECT : 0;
    how |= flags & IO_FILE_APPEND ? O_APPEND : 0;
    how |= flags & IO_FILE_REGULAR ? O_NONBLOCK : 0;
    how |= flags & IO_FILE_ALONE ? O_NOFOLLOW : 0;
    io_count_call(io);
    fd = open(path, how, flags & IO_FILE_WORLD_READABLE ? 0644 : 0600);
    if (fd < 0)
        return -errno;
    if (flags & IO_FILE_REGULAR) {
        int code = make_regular(io, fd, flags & IO_FILE_ALONE);

        if (code < 0) {
            close(fd);
            return code;
        }
    }
    *ret_fd = fd;
    return 0;
}

int io_file_size(struct io *io, int fd, uint64_t *ret_bytes)
{
    struct stat about;
    int code = result_of(io, fstat(fd, &about));

    if (code == 0)
        *ret_bytes = (uint64_t)about.st_size;
    return code;
}

int io_file_is_named(struct io *io, int fd, const char *path)
{
    struct stat file, named;
    int code = result_of(io, fstat(fd, &file));

    if (code == 0)
        code = result_of(io, lstat(path, &named));
    if (code < 0)
        return code == -ENOENT ? 0 : code;
    return file.st_dev == named.st_dev && file.st_ino == named.st_ino;
}

int io_file_changed(struct io *io, int fd, uint64_t *ret_us)
{
    struct stat about;
    int code = result_of(io, fstat(fd, &about));

    if (code == 0)
        *ret_us = (uint64_t)about.st_mtim.tv_sec * 1000000 + (uint64_t)about.st_mtim.tv_nsec / 1000;
    return code;
}

int io_file_truncate(struct io *io, int fd, uint64_t bytes)
{
    return result_of(io, ftruncate(fd, (off_t)bytes));
}

int io_file_lock(struct io *io, int fd)
{
    int code = result_of(io, flock(fd, LOCK_EX | LOCK_NB));

    return code == -EWOULDBLOCK ? E_LOCKED : code;
}

int64_t io_file_read_now(struct io *io, int fd, void *data, size_t len, uint64_t offset)
{
    size_t total = 0;

    while (total < len) {
        ssize_t count;

        io_count_call(io);
        count = pread(fd, (char *)data + total, len - total, (off_t)(offset + total));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (count == 0)
            break;
        total += (size_t)count;
    }
    return (int64_t)total;
}

int64_t io_file_write_now(struct io *io, int fd, const void *data, size_t len, uint64_t offset)
{
    size_t total = 0;

    while (total < len) {
        ssize_t count;

        io_count_call(io);
        count = pwrite(fd, (const char *)data + total, len - total, (off_t)(offset + total));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -errno;
        if (count == 0)
            return -EIO;
        total += (size_t)count;
    }
    return (int64_t)total;
}

int io_file_sync_now(struct io *io, int fd)
{
    return result_of(io, fdatasync(fd));
}

int io_file_rename(struct io *io, const char *from, const char *to)
{
    return result_of(io, rename(from, to));
}

int io_file_rename_new(struct io *io, const char *from, const char *to)
{
    return result_of(io, renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE));
}

int io_file_unlink(struct io *io, const char *path)
{
    return result_of(io, unlink(path));
}

int io_dir_create(struct io *io, const char *path)
{
    struct stat about;
    int code = result_of(io, mkdir(path, 0700));

    if (code != -EEXIST)
        return code;
    code = result_of(io, stat(path, &about));
    if (code == 0 && !S_ISDIR(about.st_mode))
        code = -ENOTDIR;
    return code;
}

int io_dir_sync(struct io *io, const char *path)
{
    int fd;
    int code;

    io_count_call(io);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    code = result_of(io, fsync(fd));
    io_count_call(io);
    close(fd);
    return code;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **grow_names(char **names, size_t count, size_t capacity)
{
    char **more = mem_alloc(capacity * sizeof(*more));

    if (count != 0)
        memcpy(more, names, count * sizeof(*more));
    mem_free(names);
    return more;
}

static int read_names(DIR *dir, char ***ret_names, size_t *ret_count)
{
    char **names = NULL;
    size_t count = 0;
    size_t capacity = 0;
    struct dirent *entry;

    errno = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (count == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            names = grow_names(names, count, capacity);
        }
        names[count++] = mem_strdup(entry->d_name);
        errno = 0;
    }
    *ret_names = names;
    *ret_count = count;
    return -errno;
}

int io_dir_list(struct io *io, const char *path, void (*each)(void *context, const char *name),
                void *context)
{
    DIR *dir = opendir(path);
    char **names = NULL;
    size_t count = 0;
    int code;

    io_count_call(io);
    if (dir == NULL)
        return -errno;
    code = read_names(dir, &names, &count);
    io_count_call(io);
    closedir(dir);
    if (code == 0 && count > 0)
        qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 0; i < count; i++) {
        if (code == 0)
            each(context, names[i]);
        mem_free(names[i]);
    }
    mem_free(names);
    return code;
}

int io_space_free(struct io *io, const char *path, uint64_t *ret_bytes)
{
    struct statvfs about;
    int code = result_of(io, statvfs(path, &about));

    if (code == 0)
        *ret_bytes = (uint64_t)about.f_bavail * about.f_frsize;
    return code;
}

/* ---- Asynchronous -------------------------------------------------------------------------- */

static void start_transfer(struct io *io, struct io_op *op, enum io_kind kind, int fd, void *data,
                           uint32_t len, uint64_t offset)
{
    must(!op->in_flight && len <= INT32_MAX);
    op->single.iov_base = data;
    op->single.iov_len = len;
    op->iov = &op->single;
    op->iov_count = 1;
    op->offset = offset;
    if (len == 0) {
        io_op_start(io, op, IO_KIND_NOTHING, fd);
        io_op_finish_later(io, op, 0);
        return;
    }
    io_op_start(io, op, kind, fd);
}

void io_read(struct io *io, struct io_op *op, int fd, void *data, uint32_t len, uint64_t offset)
{
    start_transfer(io, op, IO_KIND_READ, fd, data, len, offset);
}

void io_write(struct io *io, struct io_op *op, int fd, const void *data, uint32_t len,
              uint64_t offset, bool durable)
{
    start_transfer(io, op, durable ? IO_KIND_WRITE_DURABLE : IO_KIND_WRITE, fd, (void *)data, len,
                   offset);
}

void io_sync(struct io *io, struct io_op *op, int fd)
{
    io_op_start(io, op, IO_KIND_SYNC, fd);
}
