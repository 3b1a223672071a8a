#include "queue/devices.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/planted.h"
#include "queue/recover.h"

#include <errno.h>
#include <stdio.h>

#define IDENTITY_BYTES (2 * SEGFMT_BLOCK)

int opening_refuse(const struct opening *opening, const char *path, const char *text)
{
    if (opening->recovery->on_refusal != NULL)
        opening->recovery->on_refusal(opening->recovery->context, path, text);
    return E_FOREIGN;
}

void opening_fini(struct opening *opening)
{
    for (uint32_t i = 0; i < SPOOL_DEVICES_MAX; i++)
        mem_free(opening->seen[i].listing.slots);
}

int devices_directory_make(struct spool *spool, const char *path)
{
    char parent[SPOOL_PATH_MAX];
    char *slash;
    int result = io_dir_create(spool->io, path);

    if (result < 0)
        return result;
    snprintf(parent, sizeof(parent), "%s", path);
    slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof(parent), ".");
    else
        slash[slash == parent ? 1 : 0] = 0;
    result = io_dir_sync(spool->io, parent);
    /* A parent that we may not even read was made by somebody who saw to that. */
    return result == -EACCES || result == -EPERM ? 0 : result;
}

/* ---- What is there --------------------------------------------------------------------------- */

/* 1 when there is such a file, 0 when not, or negative. */
static int is_there(struct spool *spool, const char *path, const char *name)
{
    char whole[SPOOL_PATH_MAX + 32];
    int fd;
    int result;

    spool_file_path(path, name, whole);
    result = io_file_open(spool->io, whole, IO_FILE_READ, &fd);
    if (result == -ENOENT)
        return 0;
    if (result < 0)
        return result;
    io_close_now(spool->io, fd);
    return 1;
}

static void note_name(void *context, const char *name)
{
    struct listing *listing = context;
    uint16_t slot;

    listing->has_identity |= strcmp(name, "device") == 0;
    if (!segfmt_name_parse(name, &slot))
        return;
    if (listing->count == listing->room) {
        listing->room = listing->room == 0 ? 256 : listing->room * 2;
        listing->slots = mem_alloc_larger(listing->slots, listing->count * sizeof(*listing->slots),
                                          listing->room * sizeof(*listing->slots));
    }
    listing->slots[listing->count++] = slot;
    if (slot > listing->highest)
        listing->highest = slot;
}

static int identity_read(struct opening *opening, uint32_t index)
{
    struct device_seen *seen = &opening->seen[index];
    uint8_t *blocks = mem_alloc(IDENTITY_BYTES);
    int64_t got = recover_read(opening->spool->io, opening->spool->devices[index].fd, blocks,
                               IDENTITY_BYTES, 0, opening->report);
    int result = got < 0 ? (int)got : 0;

    for (uint32_t at = 0; at < IDENTITY_BYTES && result == 0 && !seen->is_good;
         at += SEGFMT_BLOCK) {
        result = segfmt_device_decode(blocks + at, &seen->identity);
        seen->is_good = result == 0;
        if (result == E_DAMAGED)
            result = 0;
    }
    mem_free(blocks);
    return result;
}

static int identity_open(struct opening *opening, uint32_t index)
{
    struct spool *spool = opening->spool;
    struct spool_device *device = &spool->devices[index];
    char path[SPOOL_PATH_MAX + 32];
    int result;

    spool_file_path(device->path, "device", path);
    result = io_file_open(spool->io, path, IO_FILE_READ | IO_FILE_WRITE, &device->fd);
    if (result == -ENOENT)
        return 0;
    if (result < 0) {
        device->fd = -1;
        return result;
    }
    opening->seen[index].has_file = true;
    result = opening_lock(opening, device->fd);
    if (result == 0)
        result = io_file_sync_now(spool->io, device->fd);
    return result < 0 ? result : identity_read(opening, index);
}

static int look_at(struct opening *opening, uint32_t index)
{
    struct spool *spool = opening->spool;
    const char *path = spool->devices[index].path;
    int result = io_dir_list(spool->io, path, note_name, &opening->seen[index].listing);

    if (result == -ENOENT && index > 0)
        return 0;
    if (result == 0 && index == 0 && opening->seen[0].listing.has_identity)
        return opening_refuse(opening, path,
                              "this is a further directory of a spool: the <spool> section of its "
                              "first one must come first");
    if (result < 0 || index == 0)
        return result;
    result = is_there(spool, path, "super");
    if (result > 0)
        return opening_refuse(opening, path, "this is the first directory of a spool by itself");
    return result < 0 ? result : identity_open(opening, index);
}

int devices_look(struct opening *opening)
{
    int result = 0;

    for (uint32_t i = 0; i < opening->spool->device_count && result == 0; i++) {
        result = look_at(opening, i);
        if (result < 0 && result != E_FOREIGN)
            opening_refuse(opening, opening->spool->devices[i].path, err_text(result));
    }
    return result;
}

/* ---- Who is who ------------------------------------------------------------------------------ */

static bool number_is_taken(const struct opening *opening, uint32_t number, uint32_t but_for)
{
    const struct spool *spool = opening->spool;

    for (uint32_t i = 1; i < spool->device_count; i++) {
        if (i != but_for && spool->devices[i].pool.number == number)
            return true;
    }
    return false;
}

/* Of a directory whose identity is damaged: its segments bear the same number. */
static bool identity_from_segment(struct opening *opening, uint32_t index)
{
    struct spool *spool = opening->spool;
    const struct listing *listing = &opening->seen[index].listing;
    struct segfmt_device *identity = &opening->seen[index].identity;
    struct segfmt_header header = {.device = 0};
    uint8_t *block = mem_alloc(SEGFMT_BLOCK);

    for (uint32_t i = 0; i < listing->count && header.device == 0; i++) {
        char name[SEGFMT_NAME_BYTES];
        char path[SPOOL_PATH_MAX + 32];
        int fd;

        segfmt_name(listing->slots[i], name);
        spool_file_path(spool->devices[index].path, name, path);
        if (io_file_open(spool->io, path, IO_FILE_READ, &fd) < 0)
            continue;
        if (recover_read(spool->io, fd, block, SEGFMT_BLOCK, 0, opening->report) == SEGFMT_BLOCK &&
            segfmt_header_decode(block, &header) < 0)
            header.device = 0;
        io_close_now(spool->io, fd);
    }
    mem_free(block);
    if (header.device == 0 || header.device >= SEGFMT_DEVICES)
        return false;
    identity->number = header.device;
    memcpy(identity->uuid, header.uuid, SEGFMT_UUID_BYTES);
    memcpy(identity->id, opening->super.super.ids[header.device], SEGFMT_ID_BYTES);
    return true;
}

/* The device says who it is, and holds segments: is it so? */
static int match_full(struct opening *opening, uint32_t index)
{
    struct spool_device *device = &opening->spool->devices[index];
    const struct segfmt_device *identity = &opening->seen[index].identity;
    const uint8_t *listed = opening->super.super.ids[identity->number];

    if (opening->super.found &&
        memcmp(identity->uuid, opening->super.super.uuid, SEGFMT_UUID_BYTES) != 0)
        return opening_refuse(opening, device->path, "this directory belongs to another spool");
    if (number_is_taken(opening, identity->number, index) ||
        (!segfmt_id_is_none(listed) && memcmp(listed, identity->id, SEGFMT_ID_BYTES) != 0))
        return opening_refuse(opening, device->path,
                              "another directory has this one's place in the spool");
    device->pool.number = identity->number;
    memcpy(device->id, identity->id, SEGFMT_ID_BYTES);
    device->is_unlisted = segfmt_id_is_none(listed);
    return 0;
}

static int match_one(struct opening *opening, uint32_t index)
{
    struct spool_device *device = &opening->spool->devices[index];
    struct device_seen *seen = &opening->seen[index];
    const struct segfmt_super *super = &opening->super.super;

    if (seen->listing.count > 0) {
        if (!seen->has_file)
            return opening_refuse(
                opening, device->path,
                "there are segment files, but no identity of a spool's directory");
        if (!seen->is_good && !identity_from_segment(opening, index))
            return opening_refuse(opening, device->path,
                                  "its identity is damaged, and no segment tells it");
        return match_full(opening, index);
    }
    /* Nothing but an identity: of one that is listed, or of a start that was cut short, of
     * whichever spool: that counts for nothing. */
    if (seen->is_good && opening->super.found &&
        memcmp(seen->identity.uuid, super->uuid, SEGFMT_UUID_BYTES) == 0 &&
        memcmp(seen->identity.id, super->ids[seen->identity.number], SEGFMT_ID_BYTES) == 0)
        return match_full(opening, index);
    device->is_new = true;
    return 0;
}

static const char *first_new_path(const struct opening *opening)
{
    for (uint32_t i = 1; i < opening->spool->device_count; i++) {
        if (opening->spool->devices[i].is_new)
            return opening->spool->devices[i].path;
    }
    return NULL;
}

/* What is listed must be here: mail lies there, and outcomes speak of it. */
static int check_missing(struct opening *opening)
{
    const char *empty = first_new_path(opening);
    char text[256];

    for (uint32_t number = 1; number < SEGFMT_DEVICES; number++) {
        if (segfmt_id_is_none(opening->super.super.ids[number]) ||
            number_is_taken(opening, number, 0) || planted("queue/device-not-missed"))
            continue;
        if (empty != NULL)
            snprintf(text, sizeof(text),
                     "directory number %u of the spool is missing, and this one is empty: is its "
                     "disk mounted here?",
                     number);
        else
            snprintf(text, sizeof(text),
                     "directory number %u of this spool is missing: no <spool> section names it, "
                     "and it was not emptied (deliver-only) before it was left out",
                     number);
        return opening_refuse(opening, empty != NULL ? empty : opening->spool->devices[0].path,
                              text);
    }
    return 0;
}

static void id_make(struct spool *spool, struct spool_device *device)
{
    for (uint32_t i = 0; i < SEGFMT_ID_BYTES; i++)
        device->id[i] = (uint8_t)rng_between(io_rng(spool->io), 1, 255);
}

static int number_new(struct opening *opening, struct spool_device *device)
{
    uint32_t number = 1;

    /* What only delivers and holds nothing need not be taken in. */
    if (!device->pool.takes_mail) {
        device->pool.is_retired = true;
        return 0;
    }
    while (number < SEGFMT_DEVICES && number_is_taken(opening, number, 0))
        number++;
    if (number == SEGFMT_DEVICES)
        return E_RANGE;
    device->pool.number = (uint8_t)number;
    id_make(opening->spool, device);
    opening->report->devices_added++;
    return 0;
}

int devices_match(struct opening *opening)
{
    struct spool *spool = opening->spool;
    int result = 0;

    for (uint32_t i = 1; i < spool->device_count && result == 0; i++) {
        /* The outcomes of what lies there would be lost. */
        if (!opening->super.found && opening->seen[0].listing.count == 0 &&
            opening->seen[i].listing.count > 0)
            return opening_refuse(opening, spool->devices[0].path,
                                  "this first directory is empty, but another one of the spool is "
                                  "not: is its disk mounted here?");
        result = match_one(opening, i);
    }
    if (result == 0)
        result = check_missing(opening);
    for (uint32_t i = 1; i < spool->device_count && result == 0; i++) {
        if (spool->devices[i].is_new)
            result = number_new(opening, &spool->devices[i]);
    }
    return result;
}

int devices_match_uuid(struct opening *opening)
{
    struct spool *spool = opening->spool;

    for (uint32_t i = 1; i < spool->device_count; i++) {
        struct spool_device *device = &spool->devices[i];

        if (device->is_new)
            continue;
        if (memcmp(opening->seen[i].identity.uuid, spool->uuid, SEGFMT_UUID_BYTES) != 0)
            return opening_refuse(opening, device->path, "this directory belongs to another spool");
        if (device->is_unlisted)
            opening_damage(opening, device->path, "the superblock does not list this directory");
        if (!opening->seen[i].is_good)
            opening_damage(opening, device->path, "the directory's identity is damaged");
    }
    return 0;
}

/* ---- New ones -------------------------------------------------------------------------------- */

static int identity_write(struct opening *opening, struct spool_device *device)
{
    struct spool *spool = opening->spool;
    struct segfmt_device identity = {.number = device->pool.number};
    uint8_t *blocks = mem_alloc(IDENTITY_BYTES);
    int64_t written;

    memcpy(identity.uuid, spool->uuid, SEGFMT_UUID_BYTES);
    memcpy(identity.id, device->id, SEGFMT_ID_BYTES);
    segfmt_device_encode(&identity, blocks);
    segfmt_device_encode(&identity, blocks + SEGFMT_BLOCK);
    written = io_file_write_now(spool->io, device->fd, blocks, IDENTITY_BYTES, 0);
    mem_free(blocks);
    if (written != IDENTITY_BYTES)
        return written < 0 ? (int)written : -EIO;
    return io_file_sync_now(spool->io, device->fd);
}

static int make_one(struct opening *opening, struct spool_device *device)
{
    struct spool *spool = opening->spool;
    char path[SPOOL_PATH_MAX + 32];
    int result = 0;

    if (device->is_new)
        result = devices_directory_make(spool, device->path);
    if (result == 0 && device->fd < 0) {
        spool_file_path(device->path, "device", path);
        result = io_file_open(spool->io, path, IO_FILE_READ | IO_FILE_WRITE | IO_FILE_CREATE,
                              &device->fd);
        if (result < 0)
            device->fd = -1;
        else
            result = opening_lock(opening, device->fd);
    }
    /* After a failed sync the system may show what the disk does not have: written anew. */
    if (result == 0)
        result = io_file_truncate(spool->io, device->fd, 0);
    if (result == 0)
        result = identity_write(opening, device);
    if (result == 0)
        result = io_dir_sync(spool->io, device->path);
    return result;
}

int devices_make(struct opening *opening)
{
    struct spool *spool = opening->spool;

    for (uint32_t i = 1; i < spool->device_count; i++) {
        struct spool_device *device = &spool->devices[i];
        int result;

        if (device->pool.is_retired || (!device->is_new && opening->seen[i].is_good))
            continue;
        /* Of one whose id nobody knows any more it is made anew. */
        if (segfmt_id_is_none(device->id))
            id_make(spool, device);
        result = make_one(opening, device);
        if (result < 0) {
            opening_refuse(opening, device->path, err_text(result));
            return result;
        }
    }
    return 0;
}
