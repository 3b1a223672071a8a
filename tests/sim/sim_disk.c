/*
 * Calls and operations on files, their failures, and what crashes do to them.
 *
 * An asynchronous operation has two moments: the disk acts (bytes are taken from or put into the
 * cache), and later the disk is done (what was to be durable is). Their distances are drawn for
 * each operation, so operations overtake each other.
 */
#include "core/base/err.h"
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <errno.h>
#include <string.h>

#define DIRECT_ALIGNMENT 4096u

void sim_disk_init(struct sim_world *world)
{
    list_init(&world->disk.inodes);
    list_init(&world->disk.lingering);
    world->disk.limit_bytes = world->options.disk_bytes;
    world->disk.quota_bytes = UINT64_MAX;
    sim_names_init(world);
}

void sim_disk_fini(struct sim_world *world)
{
    while (!list_empty(&world->disk.lingering))
        sim_file_close(container_of(world->disk.lingering.next, struct sim_file, link));
    sim_disk_script_clear(world);
    sim_free(world->disk.scripts);
    sim_names_fini(world);
}

/* ---- Failures -------------------------------------------------------------------------------- */

void sim_disk_script(struct sim_world *world, enum sim_disk_call call, const char *path,
                     uint64_t nth, int error)
{
    struct sim_disk *disk = &world->disk;

    must(nth > 0 && error < 0);
    disk->scripts = sim_realloc(disk->scripts, (disk->script_count + 1) * sizeof(*disk->scripts));
    disk->scripts[disk->script_count++] = (struct sim_script){
        .call = call,
        .path = path != NULL ? sim_strdup(path) : NULL,
        .left = nth,
        .error = error,
    };
}

uint32_t sim_disk_scripts_left(const struct sim_world *world)
{
    return world->disk.script_count;
}

void sim_disk_script_clear(struct sim_world *world)
{
    while (world->disk.script_count > 0)
        sim_free(world->disk.scripts[--world->disk.script_count].path);
}

static int scripted_error(struct sim_world *world, enum sim_disk_call call, const char *path)
{
    struct sim_disk *disk = &world->disk;
    int error = 0;

    for (uint32_t i = 0; i < disk->script_count; i++) {
        struct sim_script *script = &disk->scripts[i];

        if (script->call != call || (script->path != NULL && strstr(path, script->path) == NULL) ||
            --script->left > 0)
            continue;
        sim_cover(world, SIM_COVER_disk_scripted);
        error = script->error;
        sim_free(script->path);
        *script = disk->scripts[--disk->script_count];
        i--;
    }
    return error;
}

/* 0, or how this call fails. */
static int disk_error(struct sim_world *world, enum sim_disk_call call, const char *path)
{
    int error = scripted_error(world, call, path);

    if (error != 0)
        return error;
    if (world->disk.faults_at != NULL && strstr(path, world->disk.faults_at) == NULL)
        return 0;
    switch (call) {
    case SIM_DISK_OPEN:
        return sim_fault(world, SIM_COVER_open_failed) ? -EMFILE : 0;
    case SIM_DISK_READ:
        return sim_fault(world, SIM_COVER_read_failed) ? -EIO : 0;
    case SIM_DISK_WRITE:
        if (sim_fault(world, SIM_COVER_write_no_space))
            return -ENOSPC;
        return sim_fault(world, SIM_COVER_write_failed) ? -EIO : 0;
    case SIM_DISK_SYNC:
        return sim_fault(world, SIM_COVER_sync_failed) ? -EIO : 0;
    case SIM_DISK_NAME:
        return sim_fault(world, SIM_COVER_name_failed) ? -EIO : 0;
    }
    return 0;
}

static uint64_t disk_delay(struct sim_world *world)
{
    if (sim_fault(world, SIM_COVER_disk_stalled))
        return sim_between(world, 0, world->options.disk_stall_max_ns);
    return sim_between(world, world->options.disk_min_ns, world->options.disk_max_ns);
}

/* A synchronous call holds up the loop. */
static int begin_call(struct io *io, enum sim_disk_call call, const char *path)
{
    struct sim_world *world = io->world;

    if (!sim_disk_call_counted(io->process))
        return -EIO;
    sim_trace(world, "disk_call", io->number, call, 0);
    sim_clock_move(world, world->now_ns + disk_delay(world));
    return disk_error(world, call, path);
}

/* ---- Open files ------------------------------------------------------------------------------ */

static struct sim_file *file_at(struct io *io, int fd)
{
    return sim_desc_get(io->process, fd, SIM_DESC_FILE)->file;
}

static void release_file(struct sim_world *world, struct sim_event *event)
{
    sim_file_close(container_of(event, struct sim_file, release));
}

static int find_or_create(struct sim_world *world, const char *path, unsigned flags,
                          struct sim_inode **ret_inode)
{
    struct sim_inode *inode = sim_name_find(world, path);

    if (inode == NULL) {
        if (!(flags & IO_FILE_CREATE))
            return -ENOENT;
        return sim_name_create(world, path, false, ret_inode);
    }
    if (inode->is_directory)
        return -EISDIR;
    if ((flags & IO_FILE_CREATE) && (flags & IO_FILE_EXCLUSIVE))
        return -EEXIST;
    *ret_inode = inode;
    return 0;
}

int io_file_open(struct io *io, const char *path, unsigned flags, int *ret_fd)
{
    struct sim_world *world = io->world;
    struct sim_inode *inode = NULL;
    struct sim_file *file;
    struct sim_desc *desc;
    int r = begin_call(io, SIM_DISK_OPEN, path);

    must((flags & (IO_FILE_READ | IO_FILE_WRITE)) != 0);
    if (r == 0)
        r = find_or_create(world, path, flags, &inode);
    if (r < 0)
        return r;
    desc = sim_desc_create(io->process, SIM_DESC_FILE);
    if (desc == NULL)
        return -EMFILE;
    file = sim_alloc(sizeof(*file));
    file->world = world;
    file->inode = inode;
    file->path = sim_strdup(path);
    file->flags = flags;
    file->release.fire = release_file;
    list_init(&file->link);
    list_init(&file->late);
    inode->open_count++;
    desc->file = file;
    *ret_fd = desc->fd;
    return 0;
}

void sim_file_close(struct sim_file *file)
{
    struct sim_world *world = file->world;

    sim_trace(world, "file_close", file->inode->number, 0, 0);
    sim_event_stop(world, &file->release);
    while (!list_empty(&file->late))
        sim_op_free(world, container_of(file->late.next, struct sim_op, desc_link));
    list_remove(&file->link);
    if (file->inode->lock_holder == file)
        file->inode->lock_holder = NULL;
    file->inode->open_count--;
    sim_inode_tidy(world, file->inode);
    sim_free(file->path);
    sim_free(file);
}

int io_file_lock(struct io *io, int fd)
{
    struct sim_file *file = file_at(io, fd);
    struct sim_file *holder = file->inode->lock_holder;

    if (holder != NULL && holder != file) {
        if (sim_event_is_set(&holder->release))
            sim_cover(io->world, SIM_COVER_lock_outlived);
        return E_LOCKED;
    }
    file->inode->lock_holder = file;
    return 0;
}

int io_file_size(struct io *io, int fd, uint64_t *ret_bytes)
{
    *ret_bytes = file_at(io, fd)->inode->size;
    return 0;
}

int io_file_is_named(struct io *io, int fd, const char *path)
{
    const struct sim_file *file = file_at(io, fd);
    struct sim_inode *inode = NULL;
    int r = find_or_create(io->world, path, IO_FILE_READ, &inode);

    return r < 0 ? (r == -ENOENT ? 0 : r) : inode == file->inode;
}

int io_file_changed(struct io *io, int fd, uint64_t *ret_us)
{
    *ret_us = file_at(io, fd)->inode->changed_us;
    return 0;
}

/* ---- What calls and operations do to the file ------------------------------------------------ */

static void check_alignment(const struct sim_file *file, const void *data, size_t len,
                            uint64_t offset)
{
    if (!(file->flags & IO_FILE_DIRECT))
        return;
    must((uintptr_t)data % DIRECT_ALIGNMENT == 0);
    must(len % DIRECT_ALIGNMENT == 0);
    must(offset % DIRECT_ALIGNMENT == 0);
}

static int32_t do_read(struct sim_file *file, void *data, size_t len, uint64_t offset)
{
    int error = disk_error(file->world, SIM_DISK_READ, file->path);

    if (!(file->flags & IO_FILE_READ))
        return -EBADF;
    return error != 0 ? error : (int32_t)sim_inode_read(file->inode, data, len, offset);
}

static int32_t do_write(struct sim_file *file, const uint8_t *data, size_t len, uint64_t offset)
{
    struct sim_world *world = file->world;
    int error = disk_error(world, SIM_DISK_WRITE, file->path);

    if (!(file->flags & IO_FILE_WRITE))
        return -EBADF;
    if (file->flags & IO_FILE_APPEND)
        offset = file->inode->size;
    if (error != 0) {
        size_t part = rng_below(&world->rng, len + 1);

        if (part > 0 && sim_coin(world)) {
            sim_cover(world, SIM_COVER_write_partial);
            sim_inode_write(world, file->inode, data, part, offset);
        }
        return error;
    }
    if (sim_inode_write(world, file->inode, data, len, offset) < len) {
        sim_cover(world, SIM_COVER_disk_full);
        return -ENOSPC;
    }
    if (sim_fault(world, SIM_COVER_page_written_early))
        sim_inode_write_back(world, file->inode);
    return (int32_t)len;
}

static int do_sync(struct sim_file *file, uint64_t up_to)
{
    int error = disk_error(file->world, SIM_DISK_SYNC, file->path);

    if (error != 0)
        sim_inode_sync_fails(file->world, file->inode, up_to);
    else
        sim_inode_sync(file->inode, up_to);
    return error;
}

int64_t io_file_read_now(struct io *io, int fd, void *data, size_t len, uint64_t offset)
{
    struct sim_file *file = file_at(io, fd);

    check_alignment(file, data, len, offset);
    must(len <= INT32_MAX);
    if (!sim_disk_call_counted(io->process))
        return -EIO;
    sim_clock_move(io->world, io->world->now_ns + disk_delay(io->world));
    return do_read(file, data, len, offset);
}

int64_t io_file_write_now(struct io *io, int fd, const void *data, size_t len, uint64_t offset)
{
    struct sim_file *file = file_at(io, fd);

    check_alignment(file, data, len, offset);
    must(len <= INT32_MAX);
    if (!sim_disk_call_counted(io->process))
        return -EIO;
    sim_clock_move(io->world, io->world->now_ns + disk_delay(io->world));
    sim_trace_bytes(io->world, "write_now", data, len);
    return do_write(file, data, len, offset);
}

int io_file_sync_now(struct io *io, int fd)
{
    struct sim_file *file = file_at(io, fd);

    if (!sim_disk_call_counted(io->process))
        return -EIO;
    sim_clock_move(io->world, io->world->now_ns + disk_delay(io->world));
    return do_sync(file, UINT64_MAX);
}

int io_file_truncate(struct io *io, int fd, uint64_t bytes)
{
    struct sim_file *file = file_at(io, fd);
    int r = begin_call(io, SIM_DISK_WRITE, file->path);

    if (r == 0)
        sim_inode_truncate(io->world, file->inode, bytes);
    return r;
}

/* ---- Names ----------------------------------------------------------------------------------- */

int io_file_rename(struct io *io, const char *from, const char *to)
{
    int r = begin_call(io, SIM_DISK_NAME, from);

    return r == 0 ? sim_name_rename(io->world, from, to) : r;
}

int io_file_rename_new(struct io *io, const char *from, const char *to)
{
    int r = begin_call(io, SIM_DISK_NAME, from);

    if (r == 0 && sim_name_find(io->world, from) != NULL && sim_name_find(io->world, to) != NULL)
        r = -EEXIST;
    return r == 0 ? sim_name_rename(io->world, from, to) : r;
}

int io_file_unlink(struct io *io, const char *path)
{
    int r = begin_call(io, SIM_DISK_NAME, path);

    return r == 0 ? sim_name_unlink(io->world, path) : r;
}

int io_dir_create(struct io *io, const char *path)
{
    struct sim_inode *inode = NULL;
    int r = begin_call(io, SIM_DISK_NAME, path);

    if (r < 0)
        return r;
    r = sim_name_create(io->world, path, true, &inode);
    if (r == -EEXIST && sim_name_find(io->world, path)->is_directory)
        return 0;
    return r;
}

int io_dir_sync(struct io *io, const char *path)
{
    int r = begin_call(io, SIM_DISK_NAME, path);

    return r == 0 ? sim_name_sync(io->world, path) : r;
}

int io_space_free(struct io *io, const char *path, uint64_t *ret_bytes)
{
    const struct sim_disk *disk = &io->world->disk;
    uint64_t left = disk->limit_bytes > disk->used_bytes ? disk->limit_bytes - disk->used_bytes : 0;
    uint64_t left_there;

    if (sim_name_find(io->world, path) == NULL)
        return -ENOENT;
    left_there = sim_volume_left(io->world, sim_volume_of(io->world, path));
    *ret_bytes = left < left_there ? left : left_there;
    return 0;
}

void sim_memory(struct sim_world *world, uint32_t percent)
{
    world->memory_percent = percent;
}

int io_memory_used(struct io *io, uint32_t *ret_percent)
{
    *ret_percent = io->world->memory_percent;
    return 0;
}

/* ---- Operations ------------------------------------------------------------------------------ */

static void disk_is_done(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_file *file = record->disk.file;
    int32_t result = record->result;

    if (record->kind == SIM_OP_SYNC) {
        result = do_sync(file, record->disk.began);
    } else if (record->kind == SIM_OP_WRITE && record->disk.durable && result >= 0) {
        int error = disk_error(world, SIM_DISK_SYNC, file->path);

        if (error != 0) {
            sim_inode_sync_fails(world, file->inode, UINT64_MAX);
            result = error;
        } else {
            sim_inode_sync_range(file->inode, record->disk.offset, record->disk.len);
        }
    }
    sim_op_end(world, record, result, 0);
}

static void disk_acts(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_file *file = record->disk.file;

    if (!sim_disk_call_counted(record->desc->process))
        return;
    if (record->kind == SIM_OP_READ) {
        record->result = do_read(file, record->disk.data, record->disk.len, record->disk.offset);
    } else if (record->kind == SIM_OP_WRITE) {
        sim_trace_bytes(world, "write", record->disk.data, record->disk.len);
        if (file->flags & IO_FILE_APPEND)
            record->disk.offset = file->inode->size;
        record->result = do_write(file, record->disk.data, record->disk.len, record->disk.offset);
    } else {
        record->disk.began = world->disk.write_number;
    }
    record->phase = SIM_PHASE_UNDER_WAY;
    event->fire = disk_is_done;
    sim_event_at(world, event, world->now_ns + disk_delay(world));
}

static void start(struct io *io, struct io_op *op, int fd, enum sim_op_kind kind,
                  const struct iovec *what, uint64_t offset, bool durable)
{
    struct sim_world *world = io->world;
    struct sim_op *record = sim_op_begin(io, op, fd, kind, disk_acts);

    if (record == NULL)
        return;
    must(record->desc->kind == SIM_DESC_FILE);
    record->disk.file = record->desc->file;
    record->disk.data = what->iov_base;
    record->disk.len = (uint32_t)what->iov_len;
    record->disk.offset = offset;
    record->disk.durable = durable;
    check_alignment(record->disk.file, what->iov_base, what->iov_len, offset);
    sim_event_at(world, &record->event,
                 world->now_ns + sim_submit_delay(world) + disk_delay(world));
}

void io_read(struct io *io, struct io_op *op, int fd, void *data, uint32_t len, uint64_t offset)
{
    start(io, op, fd, SIM_OP_READ, &(struct iovec){data, len}, offset, false);
}

void io_write(struct io *io, struct io_op *op, int fd, const void *data, uint32_t len,
              uint64_t offset, bool durable)
{
    start(io, op, fd, SIM_OP_WRITE, &(struct iovec){(void *)(uintptr_t)data, len}, offset, durable);
}

void io_sync(struct io *io, struct io_op *op, int fd)
{
    start(io, op, fd, SIM_OP_SYNC, &(struct iovec){NULL, 0}, 0, false);
}

/* ---- Crashes --------------------------------------------------------------------------------- */

static void late_write_lands(struct sim_world *world, struct sim_event *event)
{
    struct sim_op *record = sim_op_of_event(event);
    struct sim_file *file = record->disk.file;
    uint64_t offset = file->flags & IO_FILE_APPEND ? file->inode->size : record->disk.offset;

    sim_cover(world, SIM_COVER_late_write);
    sim_inode_write(world, file->inode, record->disk.copy, record->disk.len, offset);
    sim_op_free(world, record);
}

/* The process is gone, its ring is not: the kernel goes on with what it had been given. */
static void make_late(struct sim_file *file, struct sim_op *record, uint64_t latest_ns)
{
    struct sim_world *world = file->world;

    record->disk.copy = sim_alloc(record->disk.len);
    memcpy(record->disk.copy, record->disk.data, record->disk.len);
    record->op = NULL;
    record->io = NULL;
    record->desc = NULL;
    record->event.fire = late_write_lands;
    list_remove(&record->desc_link);
    list_push_back(&file->late, &record->desc_link);
    sim_event_at(world, &record->event, sim_between(world, world->now_ns, latest_ns));
}

void sim_file_abandon(struct sim_desc *desc)
{
    struct sim_file *file = desc->file;
    struct sim_world *world = file->world;
    uint64_t latest_ns = world->now_ns + rng_below(&world->rng, world->options.late_max_ns);

    list_for_each (node, &desc->ops) {
        struct sim_op *record = container_of(node, struct sim_op, desc_link);

        if (record->kind != SIM_OP_WRITE || record->phase != SIM_PHASE_SUBMITTED ||
            !(file->flags & IO_FILE_WRITE))
            continue;
        if (sim_coin(world))
            make_late(file, record, latest_ns);
        else
            sim_cover(world, SIM_COVER_late_write_never);
    }
    desc->file = NULL;
    list_push_back(&world->disk.lingering, &file->link);
    /* Scheduled after the writes, so it comes after them at the same moment too. */
    sim_event_at(world, &file->release, latest_ns);
}

/* Of a write in flight any of its sectors may have reached the disk. */
static void tear_flight(struct sim_world *world, struct sim_op *record)
{
    const uint8_t *data = record->disk.copy != NULL ? record->disk.copy : record->disk.data;
    struct sim_file *file = record->disk.file;
    uint64_t offset = file->flags & IO_FILE_APPEND ? file->inode->size : record->disk.offset;
    uint32_t done = 0;

    if (record->kind != SIM_OP_WRITE || record->phase != SIM_PHASE_SUBMITTED ||
        !(file->flags & IO_FILE_WRITE) || !sim_coin(world))
        return;
    sim_cover(world, SIM_COVER_cut_flight_torn);
    while (done < record->disk.len) {
        uint32_t piece = SIM_SECTOR_BYTES - (uint32_t)((offset + done) % SIM_SECTOR_BYTES);

        if (piece > record->disk.len - done)
            piece = record->disk.len - done;
        if (sim_coin(world))
            sim_inode_write(world, file->inode, data + done, piece, offset + done);
        done += piece;
    }
}

static uint32_t tear_flights(struct sim_world *world, struct sim_process *process)
{
    uint32_t files = 0;

    for (uint32_t fd = 0; fd < process->desc_capacity; fd++) {
        struct sim_desc *desc = process->descs[fd];

        if (desc == NULL || desc->kind != SIM_DESC_FILE)
            continue;
        files++;
        list_for_each (node, &desc->ops) {
            struct sim_op *record = container_of(node, struct sim_op, desc_link);

            if (record->kind == SIM_OP_WRITE)
                tear_flight(world, record);
        }
    }
    list_for_each (file_node, &world->disk.lingering) {
        struct sim_file *file = container_of(file_node, struct sim_file, link);

        list_for_each (node, &file->late)
            tear_flight(world, container_of(node, struct sim_op, desc_link));
    }
    return files;
}

void sim_disk_power_cut(struct sim_world *world, struct sim_process *process)
{
    struct sim_disk *disk = &world->disk;
    uint32_t own_files = tear_flights(world, process);
    uint32_t open_files = 0;

    while (!list_empty(&disk->lingering))
        sim_file_close(container_of(disk->lingering.next, struct sim_file, link));
    list_for_each (node, &disk->inodes) {
        struct sim_inode *inode = container_of(node, struct sim_inode, link);

        open_files += inode->open_count;
        sim_inode_power_cut(world, inode);
    }
    /* The machine of another living process cannot have lost its power. */
    must(open_files == own_files);
    sim_names_power_cut(world);
    disk->used_bytes = 0;
    list_for_each (node, &disk->inodes) {
        struct sim_inode *inode = container_of(node, struct sim_inode, link);

        if (inode->charged)
            disk->used_bytes += inode->allocated_pages * SIM_PAGE_BYTES;
    }
}

/* ---- The test's own hand --------------------------------------------------------------------- */

void sim_disk_limit(struct sim_world *world, uint64_t bytes)
{
    world->disk.limit_bytes = bytes;
}

uint32_t sim_volume_of(const struct sim_world *world, const char *path)
{
    for (uint32_t i = 0; i < world->disk.volume_count; i++) {
        size_t len = strlen(world->disk.volumes[i].directory);

        if (strncmp(path, world->disk.volumes[i].directory, len) == 0 &&
            (path[len] == '/' || path[len] == 0))
            return i + 1;
    }
    return 0;
}

uint64_t sim_volume_left(const struct sim_world *world, uint32_t volume)
{
    uint64_t used = 0;
    uint64_t limit;

    if (volume == 0)
        return UINT64_MAX;
    list_for_each (node, &world->disk.inodes) {
        const struct sim_inode *inode = container_of(node, struct sim_inode, link);

        if (inode->charged && inode->volume == volume)
            used += inode->allocated_pages * SIM_PAGE_BYTES;
    }
    limit = world->disk.volumes[volume - 1].limit_bytes;
    return limit > used ? limit - used : 0;
}

void sim_disk_limit_at(struct sim_world *world, const char *directory, uint64_t bytes)
{
    struct sim_disk *disk = &world->disk;
    uint32_t volume = sim_volume_of(world, directory);

    if (volume == 0) {
        must(disk->volume_count < SIM_VOLUMES_MAX);
        disk->volumes[disk->volume_count].directory = directory;
        volume = ++disk->volume_count;
    }
    disk->volumes[volume - 1].limit_bytes = bytes;
}

void sim_disk_faults_at(struct sim_world *world, const char *path)
{
    world->disk.faults_at = path;
}

void sim_disk_quota(struct sim_world *world, uint64_t bytes)
{
    world->disk.quota_bytes = bytes;
}

uint64_t sim_disk_used(const struct sim_world *world)
{
    return world->disk.used_bytes;
}

uint64_t sim_disk_dirty_bytes(const struct sim_world *world)
{
    uint64_t pages = 0;

    list_for_each (node, &world->disk.inodes)
        pages += container_of(node, struct sim_inode, link)->unsynced_count;
    return pages * SIM_PAGE_BYTES;
}

int64_t sim_disk_peek(struct sim_world *world, const char *path, void *data, size_t len,
                      uint64_t offset)
{
    const struct sim_inode *inode = sim_name_find(world, path);

    return inode != NULL ? (int64_t)sim_inode_read(inode, data, len, offset) : -ENOENT;
}

int64_t sim_disk_poke(struct sim_world *world, const char *path, const void *data, size_t len,
                      uint64_t offset)
{
    struct sim_inode *inode = sim_name_find(world, path);
    size_t written;

    if (inode == NULL)
        return -ENOENT;
    written = sim_inode_write(world, inode, data, len, offset);
    sim_inode_sync_range(inode, offset, written);
    return (int64_t)written;
}

int sim_disk_resize(struct sim_world *world, const char *path, uint64_t bytes)
{
    struct sim_inode *inode = sim_name_find(world, path);

    if (inode == NULL)
        return -ENOENT;
    sim_inode_truncate(world, inode, bytes);
    sim_inode_settle(inode);
    return 0;
}

int64_t sim_disk_size(struct sim_world *world, const char *path)
{
    const struct sim_inode *inode = sim_name_find(world, path);

    return inode != NULL ? (int64_t)inode->size : -ENOENT;
}

int sim_disk_copy(struct sim_world *world, const char *from, const char *to)
{
    struct sim_inode *source = sim_name_find(world, from);
    struct sim_inode *copy = NULL;
    uint8_t page[SIM_PAGE_BYTES];
    int r;

    if (source == NULL)
        return -ENOENT;
    r = sim_name_create(world, to, false, &copy);
    if (r < 0)
        return r;
    sim_name_settle_last(world);
    for (uint64_t at = 0; at < source->size; at += sizeof(page)) {
        size_t len = sim_inode_read(source, page, sizeof(page), at);

        sim_inode_write(world, copy, page, len, at);
    }
    sim_inode_settle(copy);
    return 0;
}

int sim_disk_remove(struct sim_world *world, const char *path)
{
    int r = sim_name_unlink(world, path);

    if (r == 0)
        sim_name_settle_last(world);
    return r;
}
