/*
 * droppable: a file system that forgets what was not synced and fails when it is told to, for tests
 * of power cuts and of disks that are full, read-only, broken or slow.
 *
 * Everything lives in memory, twice: as programs see it now, and as it would be after a power cut.
 * A sync copies from the one to the other: fsync and fdatasync a file's bytes and size, fsync of a
 * directory its names; a write with O_DSYNC or O_SYNC its own bytes. The order "cut" makes the
 * present fail with EIO and brings back the kept state; "on" lets programs in again. With "cut
 * SEED" the cut tears: each 512-byte sector that was written but not synced survives or not, by
 * chance, and so does each file's new size and each directory's new names.
 *
 * How the kinds of durable writes arrive here was found by experiment (`self_test` in
 * test_powercut.py keeps it true): files are opened with direct_io, so the page cache holds nothing
 * back, and O_DIRECT makes no difference. A descriptor's O_DSYNC and a single write's RWF_DSYNC
 * both arrive as O_DSYNC in the flags of the write request; no fsync request follows either.
 *
 * The file .control in the root reads as counters and takes these orders:
 *
 *   cut, cut SEED, on      see above
 *   lie, honest            syncs are answered with success and do nothing
 *   room BYTES             so much space is left, over all files; more is ENOSPC, also in statfs
 *   fail CALLS FILES ERROR COUNT
 *                          the next COUNT of these calls fail. CALLS: sync (fsync, fdatasync,
 *                          durable writes, and of directories where FILES is all) or change
 *                          (everything that writes). FILES: all, messages, outcomes (segments, by
 *                          the stream in their header), other. ERROR: a number of errno
 *   slow MILLISECONDS      each sync takes so long, of which it says a line, and everybody else
 *                          waits
 *   well                   none of these three any more
 *
 * A sync that fails keeps nothing, and no later one does: as Linux has it, what was dirty counts as
 * clean from then on, can be read, and is gone after a cut.
 *
 * One thread, so nothing here is locked and every request is atomic towards a cut.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define SECTOR        512u
#define NAMES_MAX     4096u
#define FILE_MAX      (256ull << 20)
#define CONTROL       "/.control"
#define PRETEND_BYTES (64ull << 30) /* the size of the disk that statfs tells of */

/* Of queue/segfmt.h: where a segment's header says of which stream it is. */
#define SEGMENT_STREAM_AT 6

/* One state of a file's bytes. */
struct image {
    uint8_t *bytes;
    size_t size;
    size_t room;
};

struct node {
    struct image now;
    struct image kept;
    uint8_t *dirty; /* one byte for each sector of now that was written since the last sync */
    size_t dirty_room;
    mode_t mode;
    uint32_t references; /* names in either table, and open descriptors */
    struct timespec changed;
    ino_t number;
};

struct name {
    char *path; /* NULL: free */
    struct node *node;
};

struct names {
    struct name list[NAMES_MAX];
};

static struct {
    struct names now;
    struct names kept;
    bool off;
    bool lies;
    struct {
        bool changes; /* all that writes, not only syncs */
        char files;   /* first letter of FILES */
        int error;
        uint64_t left;
    } fault;
    uint64_t space; /* for all files together; 0 = PRETEND_BYTES */
    unsigned slow_ms;
    ino_t next_number;
    uint64_t random;
    /* counters */
    uint64_t cuts, writes, durable_writes, syncs, directory_syncs, lied_about, dropped, torn;
    uint64_t faults, refused_space;
} disk;

/* ---- Images and nodes ------------------------------------------------------------------------ */

static uint64_t chance(void)
{
    disk.random ^= disk.random << 13;
    disk.random ^= disk.random >> 7;
    disk.random ^= disk.random << 17;
    return disk.random;
}

static int image_reserve(struct image *image, size_t bytes)
{
    size_t room = bytes < image->room * 2 ? image->room * 2 : bytes;
    uint8_t *larger;

    if (bytes <= image->room)
        return 0;
    if (bytes > FILE_MAX)
        return -EFBIG;
    larger = realloc(image->bytes, room);
    if (!larger)
        return -ENOSPC;
    memset(larger + image->room, 0, room - image->room);
    image->bytes = larger;
    image->room = room;
    return 0;
}

/* Bytes beyond the size are always zero, so that growing shows none of what was cut off. */
static int image_resize(struct image *image, size_t size)
{
    int result = image_reserve(image, size);

    if (result < 0)
        return result;
    if (size < image->size)
        memset(image->bytes + size, 0, image->size - size);
    image->size = size;
    return 0;
}

static int node_mark(struct node *node, size_t offset, size_t len)
{
    size_t first = offset / SECTOR, end = (offset + len + SECTOR - 1) / SECTOR;

    if (len == 0)
        return 0;
    if (end > node->dirty_room) {
        size_t room = end * 2;
        uint8_t *larger = realloc(node->dirty, room);

        if (!larger)
            return -ENOSPC;
        memset(larger + node->dirty_room, 0, room - node->dirty_room);
        node->dirty = larger;
        node->dirty_room = room;
    }
    memset(node->dirty + first, 1, end - first);
    return 0;
}

/* One sector of now becomes what is kept; the part of it that lies within the kept size. */
static void keep_sector(struct node *node, size_t sector)
{
    size_t offset = sector * SECTOR;
    size_t end = offset + SECTOR;

    if (end > node->kept.size)
        end = node->kept.size;
    if (offset >= end)
        return;
    if (offset >= node->now.size) {
        memset(node->kept.bytes + offset, 0, end - offset);
        return;
    }
    if (end > node->now.size) {
        memset(node->kept.bytes + node->now.size, 0, end - node->now.size);
        end = node->now.size;
    }
    memcpy(node->kept.bytes + offset, node->now.bytes + offset, end - offset);
}

static int node_keep_all(struct node *node)
{
    int result = image_resize(&node->kept, node->now.size);

    if (result < 0)
        return result;
    for (size_t i = 0; i < node->dirty_room; i++) {
        if (node->dirty[i])
            keep_sector(node, i);
        node->dirty[i] = 0;
    }
    return 0;
}

/* A durable write keeps its own sectors, and the size when it grew the file. */
static int node_keep_part(struct node *node, size_t offset, size_t len)
{
    size_t end = (offset + len + SECTOR - 1) / SECTOR;
    int result = 0;

    if (node->kept.size < offset + len)
        result = image_resize(&node->kept, offset + len);
    for (size_t i = offset / SECTOR; result == 0 && i < end; i++) {
        keep_sector(node, i);
        node->dirty[i] = 0;
    }
    return result;
}

/* What is left of a file after the power came back. */
static int node_cut(struct node *node, bool tears)
{
    size_t size = node->kept.size;
    int result = 0;

    if (tears && node->now.size != size && (chance() & 1))
        result = image_resize(&node->kept, node->now.size);
    for (size_t i = 0; result == 0 && i < node->dirty_room; i++) {
        if (!node->dirty[i])
            continue;
        disk.dropped++;
        if (tears && (chance() & 1)) {
            keep_sector(node, i);
            disk.torn++;
        }
        node->dirty[i] = 0;
    }
    if (result == 0)
        result = image_resize(&node->now, node->kept.size);
    if (result == 0 && node->kept.size > 0)
        memcpy(node->now.bytes, node->kept.bytes, node->kept.size);
    return result;
}

static struct node *node_create(mode_t mode)
{
    struct node *node = calloc(1, sizeof(*node));

    if (node) {
        node->mode = mode;
        node->number = ++disk.next_number;
        clock_gettime(CLOCK_REALTIME, &node->changed);
    }
    return node;
}

static void node_leave(struct node *node)
{
    if (--node->references > 0)
        return;
    free(node->now.bytes);
    free(node->kept.bytes);
    free(node->dirty);
    free(node);
}

/* ---- Names ----------------------------------------------------------------------------------- */

static struct name *name_find(struct names *names, const char *path)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (names->list[i].path && strcmp(names->list[i].path, path) == 0)
            return &names->list[i];
    }
    return NULL;
}

static void name_drop(struct name *name)
{
    if (!name)
        return;
    node_leave(name->node);
    free(name->path);
    name->path = NULL;
}

static int name_put(struct names *names, const char *path, struct node *node)
{
    struct name *name = name_find(names, path);

    node->references++;
    if (name) {
        node_leave(name->node);
        name->node = node;
        return 0;
    }
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        name = &names->list[i];
        if (name->path)
            continue;
        name->path = strdup(path);
        name->node = node;
        if (name->path)
            return 0;
        break;
    }
    node_leave(node);
    return -ENOSPC;
}

static bool is_in(const char *path, const char *directory)
{
    size_t len = strcmp(directory, "/") == 0 ? 0 : strlen(directory);

    return strncmp(path, directory, len) == 0 && path[len] == '/' && path[len + 1] != '\0' &&
           !strchr(path + len + 1, '/');
}

/* The names in one directory as `from` has them, in `to`; only the names, not what is in them. */
static int names_copy(struct names *from, struct names *to, const char *directory)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        struct name *name = &to->list[i];

        if (name->path && is_in(name->path, directory) && !name_find(from, name->path))
            name_drop(name);
    }
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        struct name *name = &from->list[i];
        int result;

        if (!name->path || !is_in(name->path, directory))
            continue;
        result = name_put(to, name->path, name->node);
        if (result < 0)
            return result;
    }
    return 0;
}

/* Where a name's directory did not survive, neither did the name: the order is parents first. */
static void names_drop_orphans(struct names *names)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        struct name *name = &names->list[i];
        char parent[4096];

        if (!name->path || strcmp(name->path, "/") == 0)
            continue;
        snprintf(parent, sizeof(parent), "%s", name->path);
        *strrchr(parent, '/') = '\0';
        if (parent[0] != '\0' && !name_find(names, parent))
            name_drop(name);
    }
}

/* ---- Faults ---------------------------------------------------------------------------------- */

static uint64_t bytes_used(void)
{
    uint64_t used = 0;

    for (uint32_t i = 0; i < NAMES_MAX; i++)
        used += disk.now.list[i].path ? disk.now.list[i].node->now.size : 0;
    return used;
}

static uint64_t bytes_free(void)
{
    uint64_t space = disk.space > 0 ? disk.space : PRETEND_BYTES;
    uint64_t used = bytes_used();

    return used < space ? space - used : 0;
}

/* Space is taken when a file grows: what was written once can be written again. */
static int node_grow(struct node *node, size_t size)
{
    if (size > node->now.size && disk.space > 0 && size - node->now.size > bytes_free()) {
        disk.refused_space++;
        return -ENOSPC;
    }
    return image_resize(&node->now, size);
}

/* What lies, or is about to be put, at the start of a segment says of which stream it is. */
static char kind_of(const char *path, const struct node *node, const uint8_t *start, size_t len)
{
    const char *dot = path ? strrchr(path, '.') : NULL;

    if (!dot || strcmp(dot, ".seg") != 0)
        return 'o';
    if (len <= SEGMENT_STREAM_AT) {
        start = node->now.bytes;
        len = node->now.size;
    }
    if (len <= SEGMENT_STREAM_AT)
        return '-';
    return start[SEGMENT_STREAM_AT] == 1 ? 'm' : start[SEGMENT_STREAM_AT] == 2 ? 's' : '-';
}

/* 0, or the error that is due; kind 0 = of no file. */
static int fault(bool is_sync, char kind)
{
    if (disk.fault.left == 0 || (!is_sync && !disk.fault.changes))
        return 0;
    if (disk.fault.files != 'a' && disk.fault.files != kind)
        return 0;
    disk.fault.left--;
    disk.faults++;
    return -disk.fault.error;
}

static void take_time(void)
{
    struct timespec pause = {disk.slow_ms / 1000, (long)(disk.slow_ms % 1000) * 1000000};

    if (disk.slow_ms == 0)
        return;
    fprintf(stderr, "a sync takes its time\n");
    nanosleep(&pause, NULL);
}

/* After a failed sync nothing is dirty any more: no later one brings it to the disk. */
static void node_forget_dirty(struct node *node)
{
    if (node->dirty_room > 0)
        memset(node->dirty, 0, node->dirty_room);
}

static int order_fault(const char *order)
{
    char calls[16], files[16];
    unsigned long long count;
    int error;

    if (sscanf(order, "fail %15s %15s %d %llu", calls, files, &error, &count) != 4)
        return -EINVAL;
    disk.fault.changes = strcmp(calls, "change") == 0;
    disk.fault.files = strcmp(files, "outcomes") == 0 ? 's' : files[0];
    disk.fault.error = error;
    disk.fault.left = count;
    return 0;
}

/* ---- Power ----------------------------------------------------------------------------------- */

static void cut_names(bool tears)
{
    for (uint32_t i = 0; tears && i < NAMES_MAX; i++) {
        const struct name *name = &disk.now.list[i];

        if (name->path && S_ISDIR(name->node->mode) && (chance() & 1))
            names_copy(&disk.now, &disk.kept, name->path);
    }
    names_drop_orphans(&disk.kept);
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        name_drop(disk.now.list[i].path && strcmp(disk.now.list[i].path, "/") != 0
                      ? &disk.now.list[i]
                      : NULL);
    }
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (disk.kept.list[i].path)
            name_put(&disk.now, disk.kept.list[i].path, disk.kept.list[i].node);
    }
}

static int cut(bool tears)
{
    disk.off = true;
    disk.cuts++;
    cut_names(tears);
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        int result = disk.now.list[i].path ? node_cut(disk.now.list[i].node, tears) : 0;

        if (result < 0)
            return result;
    }
    return 0;
}

static int obey(const char *order)
{
    if (strncmp(order, "cut", 3) == 0) {
        disk.random = strtoull(order + 3, NULL, 10);
        return cut(disk.random != 0);
    }
    if (strncmp(order, "on", 2) == 0)
        disk.off = false;
    else if (strncmp(order, "lie", 3) == 0)
        disk.lies = true;
    else if (strncmp(order, "honest", 6) == 0)
        disk.lies = false;
    else if (strncmp(order, "room", 4) == 0)
        disk.space = bytes_used() + strtoull(order + 4, NULL, 10);
    else if (strncmp(order, "slow", 4) == 0)
        disk.slow_ms = (unsigned)strtoul(order + 4, NULL, 10);
    else if (strncmp(order, "fail", 4) == 0)
        return order_fault(order);
    else if (strncmp(order, "well", 4) == 0)
        disk.fault.left = disk.space = disk.slow_ms = 0;
    else
        return -EINVAL;
    return 0;
}

static int tell(char *room, size_t bytes)
{
    return snprintf(room, bytes,
                    "{\"cuts\":%llu,\"writes\":%llu,\"durable_writes\":%llu,\"syncs\":%llu,"
                    "\"directory_syncs\":%llu,\"lied_about\":%llu,\"dropped_sectors\":%llu,"
                    "\"torn_sectors\":%llu,\"faults\":%llu,\"refused_space\":%llu,"
                    "\"used\":%llu}\n",
                    (unsigned long long)disk.cuts, (unsigned long long)disk.writes,
                    (unsigned long long)disk.durable_writes, (unsigned long long)disk.syncs,
                    (unsigned long long)disk.directory_syncs, (unsigned long long)disk.lied_about,
                    (unsigned long long)disk.dropped, (unsigned long long)disk.torn,
                    (unsigned long long)disk.faults, (unsigned long long)disk.refused_space,
                    (unsigned long long)bytes_used());
}

/* ---- Requests -------------------------------------------------------------------------------- */

static bool is_control(const char *path)
{
    return path && strcmp(path, CONTROL) == 0;
}

static struct node *node_at(const char *path)
{
    struct name *name = name_find(&disk.now, path);

    return name ? name->node : NULL;
}

/* An open descriptor's own node, which may have no name any more. */
static struct node *node_of(const struct fuse_file_info *info, const char *path)
{
    return info && info->fh ? (struct node *)(uintptr_t)info->fh : node_at(path);
}

static int do_getattr(const char *path, struct stat *stat, struct fuse_file_info *info)
{
    const struct node *node;

    memset(stat, 0, sizeof(*stat));
    if (is_control(path)) {
        stat->st_mode = S_IFREG | 0600;
        stat->st_nlink = 1;
        return 0;
    }
    if (disk.off)
        return -EIO;
    node = node_of(info, path);
    if (!node)
        return -ENOENT;
    stat->st_ino = node->number;
    stat->st_mode = node->mode;
    stat->st_nlink = S_ISDIR(node->mode) ? 2 : 1;
    stat->st_size = (off_t)node->now.size;
    stat->st_blksize = 4096;
    stat->st_blocks = (blkcnt_t)((node->now.size + SECTOR - 1) / SECTOR);
    stat->st_mtim = stat->st_ctim = stat->st_atim = node->changed;
    stat->st_uid = fuse_get_context()->uid;
    stat->st_gid = fuse_get_context()->gid;
    return 0;
}

static int do_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
                      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
    (void)offset, (void)info, (void)flags;
    if (disk.off)
        return -EIO;
    fill(buffer, ".", NULL, 0, 0);
    fill(buffer, "..", NULL, 0, 0);
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        const char *name = disk.now.list[i].path;

        if (name && is_in(name, path))
            fill(buffer, strrchr(name, '/') + 1, NULL, 0, 0);
    }
    return 0;
}

static int make(const char *path, mode_t mode, struct node **ret_node)
{
    struct node *node;
    int result;

    if (disk.off)
        return -EIO;
    if (node_at(path))
        return -EEXIST;
    result = fault(false, 0);
    if (result < 0)
        return result;
    node = node_create(mode);
    if (!node)
        return -ENOSPC;
    result = name_put(&disk.now, path, node);
    *ret_node = node;
    return result;
}

static int do_mkdir(const char *path, mode_t mode)
{
    struct node *node;

    return make(path, S_IFDIR | mode, &node);
}

static void remember_open(struct node *node, struct fuse_file_info *info)
{
    node->references++;
    info->fh = (uint64_t)(uintptr_t)node;
    info->direct_io = 1;
}

static int do_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    struct node *node;
    int result = make(path, S_IFREG | mode, &node);

    if (result == 0)
        remember_open(node, info);
    return result;
}

static int do_open(const char *path, struct fuse_file_info *info)
{
    struct node *node;
    int result = 0;

    info->direct_io = 1;
    if (is_control(path))
        return 0;
    if (disk.off)
        return -EIO;
    node = node_at(path);
    if (!node)
        return -ENOENT;
    if ((info->flags & O_ACCMODE) != O_RDONLY)
        result = fault(false, 0);
    if (result == 0)
        remember_open(node, info);
    return result;
}

static int do_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    if (info->fh)
        node_leave((struct node *)(uintptr_t)info->fh);
    return 0;
}

static int do_unlink(const char *path)
{
    struct name *name;
    int result;

    if (disk.off)
        return -EIO;
    name = name_find(&disk.now, path);
    if (!name)
        return -ENOENT;
    result = fault(false, 0);
    if (result == 0)
        name_drop(name);
    return result;
}

static int do_rmdir(const char *path)
{
    for (uint32_t i = 0; i < NAMES_MAX; i++) {
        if (disk.now.list[i].path && is_in(disk.now.list[i].path, path))
            return -ENOTEMPTY;
    }
    return do_unlink(path);
}

static int do_rename(const char *from, const char *to, unsigned flags)
{
    struct name *name;
    int result;

    if (disk.off)
        return -EIO;
    name = name_find(&disk.now, from);
    if (!name)
        return -ENOENT;
    /* Names are whole paths, so a directory would have to take its content along. */
    if (flags != 0 || S_ISDIR(name->node->mode))
        return -EINVAL;
    result = fault(false, 0);
    if (result == 0)
        result = name_put(&disk.now, to, name->node);
    if (result == 0)
        name_drop(name);
    return result;
}

static int do_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    struct node *node;
    size_t before;
    int result;

    if (is_control(path))
        return 0;
    if (disk.off)
        return -EIO;
    node = node_of(info, path);
    if (!node)
        return -ENOENT;
    before = node->now.size;
    result = fault(false, kind_of(path, node, NULL, 0));
    if (result == 0)
        result = node_grow(node, (size_t)size);
    /* What was cut off is gone for certain only after the next sync. */
    if (result == 0 && (size_t)size < before)
        result = node_mark(node, (size_t)size, before - (size_t)size);
    return result;
}

static int do_fallocate(const char *path, int mode, off_t offset, off_t len,
                        struct fuse_file_info *info)
{
    struct node *node = node_of(info, path);
    int result;

    if (disk.off)
        return -EIO;
    if (mode != 0)
        return -EOPNOTSUPP;
    if (!node)
        return -ENOENT;
    if ((size_t)(offset + len) <= node->now.size)
        return 0;
    result = fault(false, kind_of(path, node, NULL, 0));
    return result < 0 ? result : node_grow(node, (size_t)(offset + len));
}

static int do_read(const char *path, char *room, size_t len, off_t offset,
                   struct fuse_file_info *info)
{
    const struct node *node = node_of(info, path);
    size_t at = (size_t)offset;

    if (is_control(path)) {
        char text[512];
        size_t bytes = (size_t)tell(text, sizeof(text));

        len = at >= bytes ? 0 : len < bytes - at ? len : bytes - at;
        memcpy(room, text + at, len);
        return (int)len;
    }
    if (disk.off || !node)
        return -EIO;
    if (at >= node->now.size)
        return 0;
    if (len > node->now.size - at)
        len = node->now.size - at;
    memcpy(room, node->now.bytes + at, len);
    return (int)len;
}

static int store(struct node *node, const char *data, size_t len, size_t offset)
{
    int result = 0;

    if (offset + len > node->now.size)
        result = node_grow(node, offset + len);
    if (result == 0)
        result = node_mark(node, offset, len);
    if (result < 0)
        return result;
    memcpy(node->now.bytes + offset, data, len);
    clock_gettime(CLOCK_REALTIME, &node->changed);
    disk.writes++;
    return 0;
}

static int make_durable(struct node *node, size_t len, size_t offset, char kind)
{
    int result = fault(true, kind);

    take_time();
    disk.durable_writes++;
    if (result < 0) {
        node_forget_dirty(node);
        return result;
    }
    if (!disk.lies)
        return node_keep_part(node, offset, len);
    disk.lied_about++;
    return 0;
}

static int do_write(const char *path, const char *data, size_t len, off_t offset,
                    struct fuse_file_info *info)
{
    struct node *node = node_of(info, path);
    bool durable = (info->flags & (O_DSYNC | O_SYNC)) != 0;
    int result;
    char kind;

    if (is_control(path)) {
        char order[64];

        snprintf(order, sizeof(order), "%.*s", (int)len, data);
        result = obey(order);
        return result < 0 ? result : (int)len;
    }
    if (disk.off || !node)
        return -EIO;
    kind = kind_of(path, node, (const uint8_t *)data, offset == 0 ? len : 0);
    result = fault(false, kind);
    if (result == 0)
        result = store(node, data, len, (size_t)offset);
    if (result == 0 && durable)
        result = make_durable(node, len, (size_t)offset, kind);
    return result < 0 ? result : (int)len;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
    struct node *node = node_of(info, path);
    int result;

    (void)data_only; /* the size is part of what fdatasync must keep, and times matter to nobody */
    if (is_control(path))
        return 0;
    if (disk.off || !node)
        return -EIO;
    disk.syncs++;
    take_time();
    result = fault(true, kind_of(path, node, NULL, 0));
    if (result < 0) {
        node_forget_dirty(node);
        return result;
    }
    if (disk.lies) {
        disk.lied_about++;
        return 0;
    }
    return node_keep_all(node);
}

static int do_fsyncdir(const char *path, int data_only, struct fuse_file_info *info)
{
    int result;

    (void)data_only, (void)info;
    if (disk.off)
        return -EIO;
    disk.directory_syncs++;
    take_time();
    result = fault(true, 0);
    if (result < 0)
        return result;
    if (disk.lies) {
        disk.lied_about++;
        return 0;
    }
    return names_copy(&disk.now, &disk.kept, path);
}

static int do_statfs(const char *path, struct statvfs *stat)
{
    (void)path;
    memset(stat, 0, sizeof(*stat));
    stat->f_bsize = stat->f_frsize = 4096;
    stat->f_blocks = (disk.space > 0 ? disk.space : PRETEND_BYTES) / 4096;
    stat->f_bfree = stat->f_bavail = bytes_free() / 4096;
    stat->f_files = stat->f_ffree = stat->f_favail = NAMES_MAX;
    stat->f_namemax = 255;
    return 0;
}

/* Programs that set modes, owners or times are content to hear that it was done. */
static int do_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    struct node *node = node_of(info, path);

    if (disk.off)
        return -EIO;
    if (!node)
        return -ENOENT;
    node->mode = (node->mode & S_IFMT) | (mode & 07777);
    return 0;
}

static int do_chown(const char *path, uid_t user, gid_t group, struct fuse_file_info *info)
{
    (void)path, (void)user, (void)group, (void)info;
    return disk.off ? -EIO : 0;
}

static int do_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
    (void)path, (void)times, (void)info;
    return disk.off ? -EIO : 0;
}

/* Nothing is remembered by the kernel: after a cut all of it would be wrong. */
static void *do_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->entry_timeout = 0;
    config->attr_timeout = 0;
    config->negative_timeout = 0;
    config->hard_remove = 1;
    config->nullpath_ok = 0;
    config->use_ino = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    static const struct fuse_operations operations = {
        .init = do_init,
        .getattr = do_getattr,
        .readdir = do_readdir,
        .mkdir = do_mkdir,
        .create = do_create,
        .open = do_open,
        .release = do_release,
        .unlink = do_unlink,
        .rmdir = do_rmdir,
        .rename = do_rename,
        .truncate = do_truncate,
        .fallocate = do_fallocate,
        .read = do_read,
        .write = do_write,
        .fsync = do_fsync,
        .fsyncdir = do_fsyncdir,
        .statfs = do_statfs,
        .chmod = do_chmod,
        .chown = do_chown,
        .utimens = do_utimens,
    };
    /* In the foreground and on one thread, whatever the caller says. */
    char *arguments[] = {argv[0], (char *)"-f", (char *)"-s", argc > 1 ? argv[1] : NULL, NULL};
    struct node *root = node_create(S_IFDIR | 0755);

    if (argc != 2) {
        fputs(
            "usage: droppable DIRECTORY\n"
            "Mounts a file system there that loses what was not synced; see DIRECTORY/.control.\n",
            stderr);
        return 2;
    }
    if (!root || name_put(&disk.now, "/", root) < 0 || name_put(&disk.kept, "/", root) < 0)
        return 1;
    return fuse_main(4, arguments, &operations, NULL);
}
