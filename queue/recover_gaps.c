/*
 * Damage as recovery reports it, and what gaps mean: a torn tail, a void, or damage.
 *
 * A bad disk can hurt every record of a segment. What is kept in memory is bounded by the number of
 * batch headers, what is told by a few lines a file.
 */
#include "core/base/mem.h"
#include "queue/recover.h"

#include <errno.h>
#include <stdio.h>

#define DAMAGE_LINES_MAX 8u /* of one file */

static void tell(struct recover *recover, uint16_t slot, uint64_t offset, const char *text)
{
    struct segment *segment = &recover->spool->segments[slot];
    char room[SPOOL_PATH_MAX + 32];

    recover->callbacks->on_damage(
        recover->callbacks->context,
        segpool_told_name(spool_pool_of(recover->spool, segment), segment, room), offset, text);
}

static void keep_untold(struct recover *recover, uint16_t slot, uint64_t count, uint64_t first,
                        uint64_t last)
{
    struct recover_untold *untold = &recover->untold[slot];

    if (untold->count == 0 || first < untold->first)
        untold->first = first;
    if (last > untold->last)
        untold->last = last;
    untold->count += count;
}

void recover_damage(struct recover *recover, uint16_t slot, uint64_t offset, const char *text)
{
    recover->report->damage_count++;
    if (recover->untold[slot].told++ < DAMAGE_LINES_MAX)
        tell(recover, slot, offset, text);
    else
        keep_untold(recover, slot, 1, offset, offset);
}

void recover_damage_end(struct recover *recover)
{
    for (uint32_t slot = 0; slot < recover->spool->segment_count; slot++) {
        const struct recover_untold *untold = &recover->untold[slot];
        char text[128];

        if (untold->count == 0)
            continue;
        snprintf(text, sizeof(text), "%llu more damaged places, from this offset to %llu",
                 (unsigned long long)untold->count, (unsigned long long)untold->last);
        tell(recover, (uint16_t)slot, untold->first, text);
    }
}

int recover_gap_note(struct recover *recover, struct segment *segment,
                     const struct scan_record *found)
{
    struct recover_gap *gap =
        recover->gap_count > 0 ? &recover->gaps[recover->gap_count - 1] : NULL;

    if (gap != NULL && gap->segment == segment && gap->batch == found->batch) {
        gap->last = found->offset;
        gap->count++;
        return 0;
    }
    if (recover->gap_count == recover->gap_room) {
        uint32_t room = recover->gap_room == 0 ? 64 : recover->gap_room * 2;
        struct recover_gap *larger = mem_try_alloc(room * sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        if (recover->gap_count > 0)
            memcpy(larger, recover->gaps, recover->gap_count * sizeof(*larger));
        mem_free(recover->gaps);
        recover->gaps = larger;
        recover->gap_room = room;
    }
    gap = &recover->gaps[recover->gap_count++];
    gap->segment = segment;
    gap->offset = found->offset;
    gap->last = found->offset;
    gap->count = 1;
    gap->batch = found->batch;
    gap->text = found->text;
    return 0;
}

/* What a void covers was never told to anybody: no damage. */
static bool is_void(const struct recover_gap *gap)
{
    return gap->segment->has_void && gap->offset >= gap->segment->gone.offset;
}

static bool is_behind(uint32_t serial, uint32_t offset, uint32_t than_serial, uint32_t than_offset)
{
    return serial > than_serial || (serial == than_serial && offset >= than_offset);
}

bool recover_gaps_spare(const struct recover *recover, const struct recover_checkpoint *point)
{
    for (uint32_t i = 0; i < recover->gap_count; i++) {
        const struct recover_gap *gap = &recover->gaps[i];
        uint32_t serial = gap->segment->serial;

        if (gap->segment->stream == STREAM_OUTCOMES && !is_void(gap) &&
            is_behind(serial, gap->last, point->begin_serial, point->begin_offset) &&
            !is_behind(serial, gap->offset, point->end_serial, point->end_offset))
            return false;
    }
    return true;
}

/*
 * A gap that no batch header follows, in the last segment of its stream and life that was written,
 * is a commit that never finished: nobody was told that it had. Any other is damage.
 */
static bool is_torn_tail(const struct recover *recover, const struct recover_gap *gap)
{
    const struct segment *segment = gap->segment;
    const struct recover_order *order = recover_order_of(recover, segment);

    if (gap->batch != recover->seen[segment->slot].batches)
        return false;
    for (uint32_t i = 0; i < order->count; i++) {
        const struct segment *other = order->segments[i];

        if (other->serial > segment->serial && other->life == segment->life &&
            recover->seen[other->slot].batches > 0)
            return false;
    }
    return true;
}

void recover_gaps_judge(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->gap_count; i++) {
        const struct recover_gap *gap = &recover->gaps[i];

        if (is_void(gap))
            continue;
        if (is_torn_tail(recover, gap)) {
            recover->report->torn_tails_cut++;
            continue;
        }
        recover_damage(recover, gap->segment->slot, gap->offset, gap->text);
        recover->report->damage_count += gap->count - 1;
        if (gap->count > 1)
            keep_untold(recover, gap->segment->slot, gap->count - 1, gap->offset, gap->last);
    }
}
