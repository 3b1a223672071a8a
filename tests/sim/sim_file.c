/*
 * Contents of files, twice: as programs see them (cached) and as the disk has them (durable).
 *
 * A page whose two contents differ stands in the inode's list of unsynced pages. It is dirty while
 * the system still means to write it; a failed sync forgets that, which is how Linux behaves, and
 * then only a new write makes it dirty again.
 */
#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <string.h>

#define SECTORS_PER_PAGE (SIM_PAGE_BYTES / SIM_SECTOR_BYTES)

static const uint8_t zeros[SIM_PAGE_BYTES];

static uint64_t pages_of(uint64_t bytes)
{
    return (bytes + SIM_PAGE_BYTES - 1) / SIM_PAGE_BYTES;
}

struct sim_inode *sim_inode_create(struct sim_world *world, bool is_directory)
{
    struct sim_inode *inode = sim_alloc(sizeof(*inode));

    inode->number = ++world->disk.next_inode;
    inode->is_directory = is_directory;
    list_push_back(&world->disk.inodes, &inode->link);
    return inode;
}

void sim_inode_free(struct sim_world *world, struct sim_inode *inode)
{
    for (uint64_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];

        if (page->durable != page->cached)
            sim_free(page->durable);
        sim_free(page->cached);
    }
    list_remove(&inode->link);
    sim_free(inode->pages);
    sim_free(inode->unsynced);
    sim_free(inode);
}

void sim_inode_tidy(struct sim_world *world, struct sim_inode *inode)
{
    bool in_use = inode->link_count > 0 || inode->open_count > 0;

    if (in_use != inode->charged) {
        uint64_t bytes = inode->allocated_pages * SIM_PAGE_BYTES;

        world->disk.used_bytes += in_use ? bytes : -bytes;
        inode->charged = in_use;
    }
    if (!in_use && inode->name_refs == 0)
        sim_inode_free(world, inode);
}

/* ---- Pages ----------------------------------------------------------------------------------- */

static struct sim_page *page_at(struct sim_inode *inode, uint64_t index)
{
    if (index >= inode->page_count) {
        uint64_t count = inode->page_count != 0 ? inode->page_count : 16;

        while (count <= index)
            count *= 2;
        inode->pages = sim_realloc(inode->pages, count * sizeof(*inode->pages));
        memset(inode->pages + inode->page_count, 0,
               (count - inode->page_count) * sizeof(*inode->pages));
        inode->page_count = count;
    }
    return &inode->pages[index];
}

static void list_unsynced(struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = &inode->pages[index];

    if (page->unsynced_slot != 0)
        return;
    if (inode->unsynced_count == inode->unsynced_capacity) {
        inode->unsynced_capacity =
            inode->unsynced_capacity != 0 ? inode->unsynced_capacity * 2 : 16;
        inode->unsynced =
            sim_realloc(inode->unsynced, inode->unsynced_capacity * sizeof(*inode->unsynced));
    }
    inode->unsynced[inode->unsynced_count++] = index;
    page->unsynced_slot = (uint32_t)inode->unsynced_count;
}

/* The contents are the same again. */
static void unlist_unsynced(struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = &inode->pages[index];
    uint64_t last = inode->unsynced[--inode->unsynced_count];

    inode->unsynced[page->unsynced_slot - 1] = last;
    inode->pages[last].unsynced_slot = page->unsynced_slot;
    page->unsynced_slot = 0;
    page->dirty_since = 0;
}

static void flush_page(struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = &inode->pages[index];

    if (page->unsynced_slot == 0)
        return;
    sim_free(page->durable);
    page->durable = page->cached;
    unlist_unsynced(inode, index);
}

/* The cached content becomes what is on the disk. */
static void revert_page(struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = &inode->pages[index];

    sim_free(page->cached);
    page->cached = page->durable;
    unlist_unsynced(inode, index);
}

/* A cached content of its own, to be changed. */
static uint8_t *own_page(struct sim_world *world, struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = &inode->pages[index];

    if (page->unsynced_slot == 0) {
        uint8_t *copy = sim_alloc(SIM_PAGE_BYTES);

        if (page->durable != NULL)
            memcpy(copy, page->durable, SIM_PAGE_BYTES);
        page->cached = copy;
        list_unsynced(inode, index);
    }
    if (page->dirty_since == 0)
        page->dirty_since = world->disk.write_number;
    return page->cached;
}

static bool allocate_page(struct sim_world *world, struct sim_inode *inode, uint64_t index)
{
    struct sim_page *page = page_at(inode, index);

    if (page->allocated)
        return true;
    if (world->disk.used_bytes + SIM_PAGE_BYTES > world->disk.limit_bytes ||
        world->disk.used_bytes + SIM_PAGE_BYTES > world->disk.quota_bytes ||
        sim_volume_left(world, inode->volume) < SIM_PAGE_BYTES)
        return false;
    page->allocated = true;
    inode->allocated_pages++;
    world->disk.used_bytes += SIM_PAGE_BYTES;
    return true;
}

/* ---- Reading and writing --------------------------------------------------------------------- */

size_t sim_inode_read(const struct sim_inode *inode, void *data, size_t len, uint64_t offset)
{
    uint8_t *out = data;
    size_t done = 0;

    if (offset >= inode->size)
        return 0;
    if (len > inode->size - offset)
        len = inode->size - offset;
    while (done < len) {
        uint64_t index = (offset + done) / SIM_PAGE_BYTES;
        size_t at = (offset + done) % SIM_PAGE_BYTES;
        size_t piece = len - done < SIM_PAGE_BYTES - at ? len - done : SIM_PAGE_BYTES - at;
        const uint8_t *bytes = index < inode->page_count ? inode->pages[index].cached : NULL;

        memcpy(out + done, bytes != NULL ? bytes + at : zeros, piece);
        done += piece;
    }
    return done;
}

size_t sim_inode_write(struct sim_world *world, struct sim_inode *inode, const void *data,
                       size_t len, uint64_t offset)
{
    const uint8_t *from = data;
    size_t done = 0;

    world->disk.write_number++;
    while (done < len) {
        uint64_t index = (offset + done) / SIM_PAGE_BYTES;
        size_t at = (offset + done) % SIM_PAGE_BYTES;
        size_t piece = len - done < SIM_PAGE_BYTES - at ? len - done : SIM_PAGE_BYTES - at;
        struct sim_page *page;

        if (!allocate_page(world, inode, index))
            break;
        page = &inode->pages[index];
        /* Zeros on zeros, as files are preallocated: no page of our own is needed for that. */
        if (page->cached != NULL || memcmp(from + done, zeros, piece) != 0)
            memcpy(own_page(world, inode, index) + at, from + done, piece);
        done += piece;
    }
    inode->changed_us = sim_wall_us(world);
    if (done > 0 && offset + done > inode->size) {
        inode->size = offset + done;
        inode->size_dirty = true;
    }
    return done;
}

void sim_inode_truncate(struct sim_world *world, struct sim_inode *inode, uint64_t bytes)
{
    size_t tail = bytes % SIM_PAGE_BYTES;

    world->disk.write_number++;
    for (uint64_t index = pages_of(bytes); index < inode->page_count; index++) {
        struct sim_page *page = &inode->pages[index];

        if (page->allocated) {
            page->allocated = false;
            inode->allocated_pages--;
            world->disk.used_bytes -= SIM_PAGE_BYTES;
        }
        if (page->cached == NULL)
            continue;
        memset(own_page(world, inode, index), 0, SIM_PAGE_BYTES);
    }
    if (tail != 0 && bytes < inode->size && bytes / SIM_PAGE_BYTES < inode->page_count &&
        inode->pages[bytes / SIM_PAGE_BYTES].cached != NULL)
        memset(own_page(world, inode, bytes / SIM_PAGE_BYTES) + tail, 0, SIM_PAGE_BYTES - tail);
    inode->size_dirty = inode->size_dirty || inode->size != bytes;
    inode->size = bytes;
    inode->changed_us = sim_wall_us(world);
}

/* ---- Sync ------------------------------------------------------------------------------------ */

/*
 * What was written reaches as far as `end`. A size that a failed sync has forgotten follows as soon
 * as a page behind the old end is really written.
 */
static void sync_size(struct sim_inode *inode, uint64_t end)
{
    if (end > inode->size)
        end = inode->size;
    if (inode->size_dirty)
        inode->durable_size = inode->size;
    else if (inode->durable_size < end)
        inode->durable_size = end;
    inode->size_dirty = false;
}

void sim_inode_sync(struct sim_inode *inode, uint64_t up_to)
{
    uint64_t end = 0;

    /* From the end: flushing moves the last one into the gap. */
    for (uint64_t i = inode->unsynced_count; i > 0; i--) {
        uint64_t index = inode->unsynced[i - 1];
        uint64_t since = inode->pages[index].dirty_since;

        if (since == 0 || since > up_to)
            continue;
        flush_page(inode, index);
        if (end < (index + 1) * SIM_PAGE_BYTES)
            end = (index + 1) * SIM_PAGE_BYTES;
    }
    sync_size(inode, end);
}

void sim_inode_sync_range(struct sim_inode *inode, uint64_t offset, uint64_t len)
{
    for (uint64_t index = offset / SIM_PAGE_BYTES; index < pages_of(offset + len); index++) {
        if (index < inode->page_count)
            flush_page(inode, index);
    }
    sync_size(inode, offset + len);
}

void sim_inode_sync_fails(struct sim_world *world, struct sim_inode *inode, uint64_t up_to)
{
    for (uint64_t i = inode->unsynced_count; i > 0; i--) {
        uint64_t index = inode->unsynced[i - 1];
        struct sim_page *page = &inode->pages[index];

        if (page->dirty_since == 0 || page->dirty_since > up_to)
            continue;
        if (rng_one_in(&world->rng, 3)) {
            flush_page(inode, index);
        } else {
            page->dirty_since = 0;
            sim_cover(world, SIM_COVER_sync_lost_page);
        }
    }
    inode->size_dirty = false;
}

void sim_inode_write_back(struct sim_world *world, struct sim_inode *inode)
{
    uint64_t index;

    if (inode->unsynced_count == 0)
        return;
    index = inode->unsynced[rng_below(&world->rng, inode->unsynced_count)];
    if (inode->pages[index].dirty_since != 0)
        flush_page(inode, index);
}

void sim_inode_settle(struct sim_inode *inode)
{
    while (inode->unsynced_count > 0)
        flush_page(inode, inode->unsynced[0]);
    inode->durable_size = inode->size;
    inode->size_dirty = false;
}

/* ---- Power cut ------------------------------------------------------------------------------- */

enum cut_mode {
    CUT_LOSES_ALL,
    CUT_KEEPS_ALL,
    CUT_BY_PAGE,
    CUT_BY_SECTOR,
    CUT_MODES,
};

/* Old and new sectors of one page side by side. */
static void tear_page(struct sim_world *world, struct sim_page *page)
{
    uint64_t kept = sim_between(world, 1, (1u << SECTORS_PER_PAGE) - 2);

    for (unsigned sector = 0; sector < SECTORS_PER_PAGE; sector++) {
        size_t at = (size_t)sector * SIM_SECTOR_BYTES;

        if ((kept & (1ull << sector)) == 0)
            memcpy(page->cached + at, page->durable != NULL ? page->durable + at : zeros,
                   SIM_SECTOR_BYTES);
    }
    sim_cover(world, SIM_COVER_cut_page_torn);
}

static void cut_page(struct sim_world *world, struct sim_inode *inode, uint64_t index,
                     enum cut_mode mode)
{
    struct sim_page *page = &inode->pages[index];
    bool keep = mode == CUT_KEEPS_ALL || (mode == CUT_BY_PAGE && sim_coin(world));

    /* What a failed sync marked clean nobody would have written any more. */
    if (page->dirty_since == 0)
        mode = CUT_LOSES_ALL;
    if (mode == CUT_BY_SECTOR && !rng_one_in(&world->rng, 4)) {
        tear_page(world, page);
        keep = true;
    }
    if (keep && page->dirty_since != 0) {
        sim_cover(world, SIM_COVER_cut_page_kept);
        flush_page(inode, index);
    } else {
        sim_cover(world, SIM_COVER_cut_page_lost);
        revert_page(inode, index);
    }
}

void sim_inode_power_cut(struct sim_world *world, struct sim_inode *inode)
{
    enum cut_mode mode = (enum cut_mode)rng_below(&world->rng, CUT_MODES);

    while (inode->unsynced_count > 0)
        cut_page(world, inode, inode->unsynced[inode->unsynced_count - 1], mode);
    if (inode->size != inode->durable_size &&
        (!inode->size_dirty || mode == CUT_LOSES_ALL || sim_coin(world))) {
        sim_cover(world, SIM_COVER_cut_size_lost);
        sim_inode_truncate(world, inode, inode->durable_size);
    }
    sim_inode_settle(inode);
}
