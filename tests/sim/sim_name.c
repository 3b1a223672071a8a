/*
 * Names of files, twice: as programs see them, and as the disk has them.
 *
 * Each create, rename and unlink is a pending change until its directory is synced. At a power cut
 * a prefix of the pending changes survives, as on a journalling file system, or any subset of them,
 * as the standard allows.
 */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PATH_BYTES_MAX 4096

/* One spelling for each path: no "./" in front, no doubled and no trailing slash; the root and the
 * working directory are "". */
static void spell(const char *path, char *room)
{
    size_t len = 0;

    while (path[0] == '.' && path[1] == '/')
        path += 2;
    if (strcmp(path, ".") == 0)
        path = "";
    for (; *path != '\0'; path++) {
        must(len < PATH_BYTES_MAX - 1);
        if (*path != '/' || len == 0 || room[len - 1] != '/')
            room[len++] = *path;
    }
    if (len > 0 && room[len - 1] == '/')
        len--;
    room[len] = '\0';
}

/* Length of the directory's part of a path in its one spelling. */
static size_t parent_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? (size_t)(slash - path) : 0;
}

static bool is_child_of(const char *path, const char *directory)
{
    size_t len = parent_bytes(path);

    return strlen(directory) == len && memcmp(path, directory, len) == 0;
}

/* ---- Sorted tables --------------------------------------------------------------------------- */

static uint32_t lower_bound(const struct sim_names *names, const char *path)
{
    uint32_t low = 0;
    uint32_t high = names->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (strcmp(names->rows[middle].path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct sim_name *find_row(const struct sim_names *names, const char *path)
{
    uint32_t at = lower_bound(names, path);

    if (at == names->count || strcmp(names->rows[at].path, path) != 0)
        return NULL;
    return &names->rows[at];
}

static void remove_row(struct sim_names *names, struct sim_name *row)
{
    uint32_t at = (uint32_t)(row - names->rows);

    sim_free(row->path);
    names->count--;
    memmove(row, row + 1, (names->count - at) * sizeof(*row));
}

static void add_row(struct sim_names *names, const char *path, struct sim_inode *inode)
{
    uint32_t at = lower_bound(names, path);

    if (names->count == names->capacity) {
        names->capacity = names->capacity != 0 ? names->capacity * 2 : 16;
        names->rows = sim_realloc(names->rows, names->capacity * sizeof(*names->rows));
    }
    memmove(&names->rows[at + 1], &names->rows[at], (names->count - at) * sizeof(*names->rows));
    names->rows[at] = (struct sim_name){.path = sim_strdup(path), .inode = inode};
    names->count++;
}

/* In the table as programs see it. */
static void link_name(struct sim_world *world, const char *path, struct sim_inode *inode)
{
    add_row(&world->disk.names, path, inode);
    inode->name_refs++;
    inode->link_count++;
    sim_inode_tidy(world, inode);
}

static void unlink_name(struct sim_world *world, struct sim_name *row)
{
    struct sim_inode *inode;

    must(row != NULL);
    inode = row->inode;
    remove_row(&world->disk.names, row);
    inode->name_refs--;
    inode->link_count--;
    sim_inode_tidy(world, inode);
}

/* In the table of the disk. */
static void link_durable(struct sim_world *world, const char *path, struct sim_inode *inode)
{
    struct sim_name *old = find_row(&world->disk.durable_names, path);

    inode->name_refs++;
    if (old == NULL) {
        add_row(&world->disk.durable_names, path, inode);
        return;
    }
    old->inode->name_refs--;
    sim_inode_tidy(world, old->inode);
    old->inode = inode;
}

static void unlink_durable(struct sim_world *world, const char *path, const struct sim_inode *inode)
{
    struct sim_name *row = find_row(&world->disk.durable_names, path);

    if (row == NULL || row->inode != inode)
        return;
    row->inode->name_refs--;
    sim_inode_tidy(world, row->inode);
    remove_row(&world->disk.durable_names, row);
}

/* ---- Pending changes ------------------------------------------------------------------------- */

static void push_change(struct sim_world *world, enum sim_change_kind kind, const char *path,
                        const char *to, struct sim_inode *inode)
{
    struct sim_disk *disk = &world->disk;

    if (disk->change_count == disk->change_capacity) {
        disk->change_capacity = disk->change_capacity != 0 ? disk->change_capacity * 2 : 16;
        disk->changes = sim_realloc(disk->changes, disk->change_capacity * sizeof(*disk->changes));
    }
    inode->name_refs++;
    disk->changes[disk->change_count++] = (struct sim_change){
        .kind = kind,
        .path = sim_strdup(path),
        .to = to != NULL ? sim_strdup(to) : NULL,
        .inode = inode,
    };
}

static void drop_change(struct sim_world *world, struct sim_change *change)
{
    change->inode->name_refs--;
    sim_inode_tidy(world, change->inode);
    sim_free(change->path);
    sim_free(change->to);
}

static void apply_change(struct sim_world *world, const struct sim_change *change)
{
    switch (change->kind) {
    case SIM_CHANGE_CREATE:
        link_durable(world, change->path, change->inode);
        break;
    case SIM_CHANGE_RENAME:
        unlink_durable(world, change->path, change->inode);
        link_durable(world, change->to, change->inode);
        break;
    case SIM_CHANGE_UNLINK:
        unlink_durable(world, change->path, change->inode);
        break;
    }
}

/* ---- What programs do ------------------------------------------------------------------------ */

struct sim_inode *sim_name_find(const struct sim_world *world, const char *path)
{
    char room[PATH_BYTES_MAX];
    struct sim_name *row;

    spell(path, room);
    if (room[0] == '\0')
        return world->disk.root;
    row = find_row(&world->disk.names, room);
    return row != NULL ? row->inode : NULL;
}

/* The directory that a new name would stand in: 0, -ENOENT or -ENOTDIR. */
static int check_parent(const struct sim_world *world, const char *path)
{
    char parent[PATH_BYTES_MAX];
    const struct sim_inode *inode;

    snprintf(parent, sizeof(parent), "%.*s", (int)parent_bytes(path), path);
    inode = sim_name_find(world, parent);
    if (inode == NULL)
        return -ENOENT;
    return inode->is_directory ? 0 : -ENOTDIR;
}

int sim_name_create(struct sim_world *world, const char *path, bool is_directory,
                    struct sim_inode **ret_inode)
{
    char room[PATH_BYTES_MAX];
    struct sim_inode *inode;
    int r;

    if (sim_name_find(world, path) != NULL)
        return -EEXIST;
    spell(path, room);
    r = check_parent(world, room);
    if (r < 0)
        return r;
    inode = sim_inode_create(world, is_directory);
    inode->volume = sim_volume_of(world, room);
    inode->changed_us = sim_wall_us(world);
    link_name(world, room, inode);
    push_change(world, SIM_CHANGE_CREATE, room, NULL, inode);
    *ret_inode = inode;
    return 0;
}

int sim_name_rename(struct sim_world *world, const char *from, const char *to)
{
    char from_room[PATH_BYTES_MAX];
    char to_room[PATH_BYTES_MAX];
    struct sim_inode *inode = sim_name_find(world, from);
    struct sim_inode *replaced = sim_name_find(world, to);
    int r;

    if (inode == NULL)
        return -ENOENT;
    /* A directory would take the paths of all its files along; nobody needs that. */
    must(!inode->is_directory);
    if (inode == replaced)
        return 0;
    if (replaced != NULL && replaced->is_directory)
        return -EISDIR;
    spell(from, from_room);
    spell(to, to_room);
    r = check_parent(world, to_room);
    if (r < 0)
        return r;
    push_change(world, SIM_CHANGE_RENAME, from_room, to_room, inode);
    if (replaced != NULL)
        unlink_name(world, find_row(&world->disk.names, to_room));
    unlink_name(world, find_row(&world->disk.names, from_room));
    link_name(world, to_room, inode);
    return 0;
}

int sim_name_unlink(struct sim_world *world, const char *path)
{
    char room[PATH_BYTES_MAX];
    struct sim_inode *inode = sim_name_find(world, path);

    if (inode == NULL)
        return -ENOENT;
    if (inode->is_directory)
        return -EISDIR;
    spell(path, room);
    push_change(world, SIM_CHANGE_UNLINK, room, NULL, inode);
    unlink_name(world, find_row(&world->disk.names, room));
    return 0;
}

int sim_name_sync(struct sim_world *world, const char *directory)
{
    struct sim_disk *disk = &world->disk;
    const struct sim_inode *inode = sim_name_find(world, directory);
    char room[PATH_BYTES_MAX];
    uint32_t left = 0;

    if (inode == NULL)
        return -ENOENT;
    if (!inode->is_directory)
        return -ENOTDIR;
    spell(directory, room);
    for (uint32_t i = 0; i < disk->change_count; i++) {
        struct sim_change *change = &disk->changes[i];

        if (is_child_of(change->path, room) ||
            (change->to != NULL && is_child_of(change->to, room))) {
            apply_change(world, change);
            drop_change(world, change);
        } else {
            disk->changes[left++] = *change;
        }
    }
    disk->change_count = left;
    return 0;
}

void sim_name_settle_last(struct sim_world *world)
{
    struct sim_disk *disk = &world->disk;
    struct sim_change *change = &disk->changes[--disk->change_count];

    apply_change(world, change);
    drop_change(world, change);
}

/* ---- Power cut ------------------------------------------------------------------------------- */

/* What programs see is from now on what the disk has, without names whose directory is gone. */
static void reread_names(struct sim_world *world)
{
    struct sim_disk *disk = &world->disk;
    struct sim_names before = disk->durable_names;

    while (disk->names.count > 0)
        unlink_name(world, &disk->names.rows[disk->names.count - 1]);
    disk->durable_names = (struct sim_names){0};
    /* A directory sorts before what is in it. */
    for (uint32_t i = 0; i < before.count; i++) {
        struct sim_name *row = &before.rows[i];

        if (check_parent(world, row->path) == 0) {
            link_name(world, row->path, row->inode);
            link_durable(world, row->path, row->inode);
        }
        row->inode->name_refs--;
        sim_inode_tidy(world, row->inode);
        sim_free(row->path);
    }
    sim_free(before.rows);
}

void sim_names_power_cut(struct sim_world *world)
{
    struct sim_disk *disk = &world->disk;
    bool any_subset = sim_coin(world);
    uint64_t prefix = rng_below(&world->rng, disk->change_count + 1);

    for (uint32_t i = 0; i < disk->change_count; i++) {
        struct sim_change *change = &disk->changes[i];

        if (any_subset ? sim_coin(world) : i < prefix)
            apply_change(world, change);
        else
            sim_cover(world, SIM_COVER_cut_name_lost);
        drop_change(world, change);
    }
    disk->change_count = 0;
    reread_names(world);
}

/* ---- The world's part ------------------------------------------------------------------------ */

void sim_names_init(struct sim_world *world)
{
    struct sim_inode *root = sim_inode_create(world, true);

    root->name_refs = 1;
    root->link_count = 1;
    world->disk.root = root;
}

void sim_names_fini(struct sim_world *world)
{
    struct sim_disk *disk = &world->disk;

    for (uint32_t i = 0; i < disk->change_count; i++) {
        sim_free(disk->changes[i].path);
        sim_free(disk->changes[i].to);
    }
    for (uint32_t i = 0; i < disk->names.count; i++)
        sim_free(disk->names.rows[i].path);
    for (uint32_t i = 0; i < disk->durable_names.count; i++)
        sim_free(disk->durable_names.rows[i].path);
    sim_free(disk->changes);
    sim_free(disk->names.rows);
    sim_free(disk->durable_names.rows);
    while (!list_empty(&disk->inodes))
        sim_inode_free(world, container_of(disk->inodes.next, struct sim_inode, link));
}

uint32_t sim_disk_dirty_names(const struct sim_world *world)
{
    return world->disk.change_count;
}

void sim_disk_list(struct sim_world *world, void (*each)(void *context, const char *path),
                   void *context)
{
    for (uint32_t i = 0; i < world->disk.names.count; i++)
        each(context, world->disk.names.rows[i].path);
}

int io_dir_list(struct io *io, const char *path, void (*each)(void *context, const char *name),
                void *context)
{
    const struct sim_names *names = &io->world->disk.names;
    const struct sim_inode *inode = sim_name_find(io->world, path);
    char room[PATH_BYTES_MAX];
    size_t len;

    if (inode == NULL)
        return -ENOENT;
    if (!inode->is_directory)
        return -ENOTDIR;
    spell(path, room);
    len = strlen(room);
    for (uint32_t i = lower_bound(names, room); i < names->count; i++) {
        const char *name = names->rows[i].path;

        /* Siblings such as "a-b" stand between "a" and "a/b". */
        if (strncmp(name, room, len) != 0)
            break;
        if (is_child_of(name, room))
            each(context, name + len + (name[len] == '/'));
    }
    return 0;
}
