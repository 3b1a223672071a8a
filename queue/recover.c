#include "queue/recover.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/state.h"

#include <errno.h>
#include <stdlib.h>

#define READ_TRIES 4u /* of one read, before what lies there counts as damaged */

/* ---- Reading one segment ------------------------------------------------------------------- */

struct segment_reader {
    struct io *io;
    struct spool_report *report;
    int fd;
};

int64_t recover_read(struct io *io, int fd, void *data, size_t len, uint64_t offset,
                     struct spool_report *report)
{
    int64_t got = io_file_read_now(io, fd, data, len, offset);

    for (uint32_t again = 1; got < 0 && again < READ_TRIES; again++) {
        got = io_file_read_now(io, fd, data, len, offset);
        report->reads_repeated += got >= 0 ? 1 : 0;
    }
    return got;
}

static int64_t read_segment(void *context, void *data, size_t len, uint64_t offset)
{
    struct segment_reader *reader = context;

    return recover_read(reader->io, reader->fd, data, len, offset, reader->report);
}

static bool is_void(const struct segment *segment, const struct scan_record *record)
{
    const struct segfmt_void *gone = &segment->gone;

    return segment->has_void && record->offset >= gone->offset && record->sequence >= gone->first &&
           record->sequence <= gone->last;
}

typedef int on_record_fn(struct recover *recover, struct segment *segment,
                         const struct scan_record *record);

/* Calls on_record for each valid record from `from` on; gaps are noted when note_gaps. */
static int read_records(struct recover *recover, struct segment *segment, uint32_t from,
                        bool note_gaps, on_record_fn *on_record)
{
    struct segment_reader reader = {recover->spool->io, recover->report, segment->fd};
    struct scan_source source = {read_segment, &reader};
    struct scan_record record;
    enum scan_event event;
    struct scan scan;
    int result = 0;

    scan_init(&scan, &source, recover->spool->uuid, segment->serial, from, segment->bytes);
    while (result == 0 && (event = scan_next(&scan, &record)) != SCAN_END) {
        if (event == SCAN_GAP) {
            if (note_gaps)
                result = recover_gap_note(recover, segment, &record);
            continue;
        }
        if (!segfmt_type_is_known(record.type))
            result = E_VERSION;
        if (record.sequence > recover->sequence_max)
            recover->sequence_max = record.sequence;
        if (note_gaps) {
            recover->report->records_read++;
            recover->seen[segment->slot].records++;
        }
        if (result == 0)
            result = on_record(recover, segment, &record);
    }
    recover->report->bytes_read += scan.bytes_read;
    if (note_gaps) {
        recover->seen[segment->slot].batches = scan.batches;
        recover->seen[segment->slot].tail = scan.batches > 0 ? (uint32_t)scan.batch_at : from;
        recover->seen[segment->slot].from_start = from <= SEGFMT_BLOCK;
        segment->end = (uint32_t)scan.end;
    }
    if (scan.read_errors > 0 && note_gaps)
        recover_damage(recover, segment->slot, 0, "parts of the file cannot be read");
    scan_fini(&scan);
    return result;
}

/* ---- First pass: voids and checkpoints ----------------------------------------------------- */

static struct segment *find_serial(const struct recover_order *order, uint32_t serial)
{
    uint32_t low = 0;
    uint32_t high = order->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (order->segments[middle]->serial < serial)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < order->count && order->segments[low]->serial == serial)
        return order->segments[low];
    return NULL;
}

struct segment *recover_segment(struct recover *recover, uint32_t serial)
{
    struct segment *found = NULL;

    for (uint32_t i = 0; i < recover->spool->device_count && found == NULL; i++)
        found = find_serial(&recover->messages[i], serial);
    return found != NULL ? found : find_serial(&recover->outcomes, serial);
}

static int note_void(struct recover *recover, const struct scan_record *record)
{
    struct segfmt_void gone;
    struct segment *segment;

    if (segfmt_void_decode(record->payload, &gone) < 0)
        return E_DAMAGED;
    segment = recover_segment(recover, gone.serial);
    if (segment == NULL || segment->has_void)
        return 0;
    segment->gone = gone;
    segment->has_void = true;
    recover->report->voids_applied++;
    return 0;
}

static struct recover_checkpoint *point_new(struct recover *recover)
{
    if (recover->point_count == recover->point_room) {
        uint32_t room = recover->point_room == 0 ? 16 : recover->point_room * 2;
        struct recover_checkpoint *larger = mem_try_alloc(room * sizeof(*larger));

        if (larger == NULL)
            return NULL;
        if (recover->point_count > 0)
            memcpy(larger, recover->points, recover->point_count * sizeof(*larger));
        mem_free(recover->points);
        recover->points = larger;
        recover->point_room = room;
    }
    return &recover->points[recover->point_count++];
}

static int note_begin(struct recover *recover, const struct segment *segment,
                      const struct scan_record *record)
{
    struct recover_checkpoint *point;
    struct segfmt_begin decoded;

    if (segfmt_begin_decode(record->payload, &decoded) < 0)
        return E_DAMAGED;
    point = point_new(recover);
    if (point == NULL)
        return -ENOMEM;
    memset(point, 0, sizeof(*point));
    point->number = decoded.number;
    point->begin_serial = segment->serial;
    point->begin_offset = record->offset;
    point->point = decoded;
    return 0;
}

/* An END counts for the BEGIN whose place it names: a BEGIN that was voided and written again has
 * another place than the void one. */
static int note_end(struct recover *recover, const struct segment *segment,
                    const struct scan_record *record)
{
    struct segfmt_checkpoint decoded;

    if (segfmt_checkpoint_decode(record->payload, &decoded) < 0)
        return E_DAMAGED;
    for (uint32_t i = 0; i < recover->point_count; i++) {
        struct recover_checkpoint *point = &recover->points[i];

        if (point->number != decoded.number || point->begin_serial != decoded.serial ||
            point->begin_offset != decoded.offset)
            continue;
        point->end_serial = segment->serial;
        point->end_offset = record->offset;
    }
    return 0;
}

static int first_pass_record(struct recover *recover, struct segment *segment,
                             const struct scan_record *record)
{
    int result = 0;

    if (record->type == RECORD_VOID)
        result = note_void(recover, record);
    else if (record->type == RECORD_CHECKPOINT_BEGIN)
        result = note_begin(recover, segment, record);
    else if (record->type == RECORD_CHECKPOINT_END)
        result = note_end(recover, segment, record);
    if (result != E_DAMAGED)
        return result;
    recover_damage(recover, segment->slot, record->offset,
                   "a record's content is not as it must be");
    return 0;
}

/* ---- Choosing where to start --------------------------------------------------------------- */

/* Whether a void took the place away again. */
static bool place_is_void(struct recover *recover, uint32_t serial, uint32_t offset)
{
    struct segment *segment = recover_segment(recover, serial);

    must(segment != NULL);
    return segment->has_void && offset >= segment->gone.offset;
}

static bool point_is_good(struct recover *recover, const struct recover_checkpoint *point)
{
    return point->end_serial != 0 &&
           !place_is_void(recover, point->begin_serial, point->begin_offset) &&
           !place_is_void(recover, point->end_serial, point->end_offset);
}

/* A segment that was prepared, but that no commit reached: the one before it may never have held
 * anything either. */
static bool is_unused(const struct recover *recover, const struct segment *segment)
{
    const struct recover_seen *seen = &recover->seen[segment->slot];

    return seen->from_start && seen->batches == 0 && seen->records == 0;
}

/* Damage between BEGIN and END may have cost STATE records. */
static bool point_is_whole(struct recover *recover, const struct recover_checkpoint *point)
{
    if (!recover_gaps_spare(recover, point))
        return false;
    for (uint32_t i = 0; i < recover->outcomes.count; i++) {
        const struct segment *segment = recover->outcomes.segments[i];

        if (segment->serial > point->begin_serial && segment->serial <= point->end_serial &&
            !is_unused(recover, segment) && recover_segment(recover, segment->former) == NULL)
            return false;
    }
    return true;
}

/*
 * The newest complete checkpoint, unless damage touched it: then the one before, whose segments are
 * kept for that. With no complete one nothing was ever recycled that is not done, so everything is
 * read.
 */
static void choose(struct recover *recover)
{
    struct checkpoint *checkpoint = &recover->spool->checkpoint;
    const struct recover_checkpoint *newest = NULL;
    const struct recover_checkpoint *before = NULL;

    for (uint32_t i = 0; i < recover->point_count; i++) {
        const struct recover_checkpoint *point = &recover->points[i];

        if (point->number > checkpoint->number)
            checkpoint->number = point->number;
        if (!point_is_good(recover, point))
            continue;
        before = newest;
        newest = point;
    }
    recover->newest = newest;
    recover->chosen = newest;
    if (newest != NULL && !point_is_whole(recover, newest)) {
        recover->chosen = before;
        recover->is_fallback = true;
    }
    if (recover->chosen != NULL) {
        checkpoint->last.number = recover->chosen->number;
        checkpoint->last.serial = recover->chosen->begin_serial;
        checkpoint->last.offset = recover->chosen->begin_offset;
    }
    if (recover->chosen == NULL)
        recover->report->starts_whole++;
    else if (recover->is_fallback)
        recover->report->starts_at_older++;
    else
        recover->report->starts_at_newest++;
    if (before != NULL && !recover->is_fallback) {
        checkpoint->before.number = before->number;
        checkpoint->before.serial = before->begin_serial;
        checkpoint->before.offset = before->begin_offset;
    }
}

/* ---- Second pass: messages, then what became of them --------------------------------------- */

static int message_record(struct recover *recover, struct segment *segment,
                          const struct scan_record *record)
{
    struct log_place place = {.serial = segment->serial,
                              .offset = record->offset,
                              .bytes = SEGFMT_RECORD_BYTES + record->payload_bytes,
                              .slot = segment->slot};
    struct envelope envelope;
    int result = E_DAMAGED;

    if (is_void(segment, record) || record->type == RECORD_CHUNK)
        return 0;
    if ((record->type == RECORD_MESSAGE || record->type == RECORD_COMMIT) &&
        envelope_decode(record->payload, &envelope) == 0) {
        if (record->type == RECORD_COMMIT)
            place.large = log_large_of((uint64_t)envelope.prefix_bytes + envelope.body_bytes);
        result = recover_table_message(&recover->table, &envelope, &place,
                                       (record->flags & RECORD_RELOGGED) != 0);
    }
    if (result != E_DAMAGED)
        return result;
    recover_damage(recover, segment->slot, record->offset,
                   "a message's envelope is not as it must be");
    return 0;
}

/* A state that names a segment that is not there. After a fall back to an older checkpoint that is
 * how a message looks that was done since. */
static bool state_is_lost(struct recover *recover, struct segment *at, uint32_t offset,
                          const struct log_message_state *state)
{
    struct segment *segment = recover_segment(recover, state->place.serial);

    if (segment != NULL && segment->stream == STREAM_MESSAGES)
        return false;
    if (recover->is_fallback || recover->lost_serial == state->place.serial)
        return true;
    recover->lost_serial = state->place.serial;
    recover_damage(recover, at->slot, offset,
                   "messages lie in a segment that is missing: they are lost");
    return true;
}

static int outcome_stream_record(struct recover *recover, struct segment *segment,
                                 const struct scan_record *record)
{
    struct log_message_state state;
    struct log_named named;
    struct outcome outcome;
    int result = 0;

    if (is_void(segment, record))
        return 0;
    switch (record->type) {
    case RECORD_OUTCOME:
        result = outcome_decode(record->payload, &outcome);
        if (result == 0)
            result = recover_table_outcome(&recover->table, &outcome,
                                           (record->flags & RECORD_MESSAGE_DONE) != 0);
        break;
    case RECORD_STATE:
        result = log_message_state_decode(record->payload, &state);
        if (result == 0 && !state_is_lost(recover, segment, record->offset, &state))
            result = recover_table_state(&recover->table, &state);
        break;
    case RECORD_NAMED:
        result = log_named_decode(record->payload, &named);
        if (result == 0)
            result = named_set(recover->named, &named);
        break;
    case RECORD_MESSAGE:
    case RECORD_CHUNK:
    case RECORD_COMMIT:
        result = E_DAMAGED;
        break;
    default:
        break;
    }
    if (result != E_DAMAGED)
        return result;
    recover_damage(recover, segment->slot, record->offset,
                   "a record's content is not as it must be");
    return 0;
}

/* Where a checkpoint begins in the device's log; a device that it does not know is read whole. */
static struct segfmt_place place_on(const struct recover *recover,
                                    const struct recover_checkpoint *point, uint32_t device)
{
    struct segfmt_place none = {0};

    return point != NULL ? point->point.places[recover->spool->devices[device].pool.number] : none;
}

static int read_messages(struct recover *recover, uint32_t device)
{
    struct segfmt_place place = place_on(recover, recover->chosen, device);
    const struct recover_order *order = &recover->messages[device];
    int result = 0;

    for (uint32_t i = 0; i < order->count && result == 0; i++) {
        struct segment *segment = order->segments[i];
        uint32_t from = segment->serial == place.serial ? place.offset : SEGFMT_BLOCK;

        if (segment->serial < place.serial)
            continue;
        result = read_records(recover, segment, from, true, message_record);
    }
    return result;
}

static int read_outcomes(struct recover *recover)
{
    uint32_t serial = recover->chosen != NULL ? recover->chosen->begin_serial : 0;
    uint32_t offset = recover->chosen != NULL ? recover->chosen->begin_offset : 0;
    int result = 0;

    for (uint32_t i = 0; i < recover->outcomes.count && result == 0; i++) {
        struct segment *segment = recover->outcomes.segments[i];
        uint32_t from = segment->serial == serial ? offset : SEGFMT_BLOCK;

        if (segment->serial >= serial)
            result = read_records(recover, segment, from, false, outcome_stream_record);
    }
    return result;
}

/* ---- What is missing ------------------------------------------------------------------------ */

/* Every segment names the one before it; behind the checkpoint none may be missing. */
static void check_chain(struct recover *recover, const struct recover_order *order,
                        uint32_t from_serial)
{
    for (uint32_t i = 0; i < order->count; i++) {
        const struct segment *segment = order->segments[i];

        if (segment->former < from_serial || segment->former == 0 || is_unused(recover, segment))
            continue;
        if (recover_segment(recover, segment->former) == NULL)
            recover_damage(recover, segment->slot, 0,
                           "the segment before this one is missing: its records are lost");
    }
}

/* Of two files with one serial the one whose header is whole comes first. */
static int by_serial(const void *left, const void *right)
{
    const struct segment *a = *(struct segment *const *)left;
    const struct segment *b = *(struct segment *const *)right;

    if (a->serial != b->serial)
        return a->serial < b->serial ? -1 : 1;
    if (a->is_rebuilt != b->is_rebuilt)
        return a->is_rebuilt ? 1 : -1;
    return a->slot < b->slot ? -1 : a->slot > b->slot;
}

static void order_put(struct recover *recover, struct segment *segment)
{
    struct recover_order *order = segment->stream == STREAM_OUTCOMES
                                      ? &recover->outcomes
                                      : &recover->messages[segment->device];

    order->segments[order->count++] = segment;
}

/* A serial names one segment. A second file that bears it is a copy whose header rotted away. */
static void order_segments(struct recover *recover)
{
    struct spool *spool = recover->spool;
    struct segment **all = mem_alloc((spool->segment_count + 1) * sizeof(struct segment *));
    uint32_t count = 0;

    recover->outcomes.segments =
        mem_alloc((spool->devices[0].pool.slot_count + 1) * sizeof(struct segment *));
    for (uint32_t i = 0; i < spool->device_count; i++)
        recover->messages[i].segments =
            mem_alloc((spool->devices[i].pool.slot_count + 1) * sizeof(struct segment *));
    for (uint32_t i = 0; i < spool->segment_count; i++) {
        if (spool->segments[i].state == SEGMENT_SEALED)
            all[count++] = &spool->segments[i];
    }
    qsort(all, count, sizeof(struct segment *), by_serial);
    for (uint32_t i = 0; i < count; i++) {
        struct segment *segment = all[i];

        if (i > 0 && all[i - 1]->serial == segment->serial) {
            segment->state = SEGMENT_FOREIGN;
            recover_damage(recover, segment->slot, 0,
                           "another file has this segment's serial: file left alone");
        } else if (segment->stream == STREAM_MESSAGES || segment->stream == STREAM_OUTCOMES) {
            order_put(recover, segment);
        }
    }
    mem_free(all);
}

/* Where each stream's chain must be whole. What was emptied before the newest checkpoint may be
 * recycled, also when an older one is read. */
static void check_chains(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->spool->device_count; i++)
        check_chain(recover, &recover->messages[i], place_on(recover, recover->newest, i).serial);
    check_chain(recover, &recover->outcomes,
                recover->chosen != NULL ? recover->chosen->begin_serial : 0);
}

/* Each live message keeps its segment, and remembers its slot: the order by serial is gone once
 * segments are prepared for new use. */
static int count_live(struct recover *recover)
{
    int result = 0;

    for (uint32_t i = 0; i < recover->table.message_count && result == 0; i++) {
        struct recover_message *message = &recover->table.messages[i];
        struct segment *segment;

        if (!recover_message_is_live(message))
            continue;
        segment = recover_segment(recover, message->serial);
        must(segment != NULL && segment->stream == STREAM_MESSAGES);
        message->slot = segment->slot;
        if (message->large > 0)
            result = recover_chunks(recover, message);
        if (message->is_done)
            continue;
        segment->live++;
        segment->live_bytes += message->bytes;
    }
    return result;
}

int recover_run(struct recover *recover, struct spool *spool,
                const struct spool_recovery *callbacks, struct spool_report *report)
{
    int result = 0;

    memset(recover, 0, sizeof(*recover));
    recover->spool = spool;
    recover->callbacks = callbacks;
    recover->report = report;
    recover->named = &spool->named;
    recover->seen = mem_alloc(spool->segment_count * sizeof(*recover->seen));
    recover->untold = mem_alloc(spool->segment_count * sizeof(*recover->untold));
    recover_table_init(&recover->table);
    order_segments(recover);
    for (uint32_t i = 0; i < recover->outcomes.count && result == 0; i++)
        result = read_records(recover, recover->outcomes.segments[i], SEGFMT_BLOCK, true,
                              first_pass_record);
    if (result < 0)
        return result;
    choose(recover);
    for (uint32_t i = 0; i < spool->device_count && result == 0; i++)
        result = read_messages(recover, i);
    if (result == 0)
        result = read_outcomes(recover);
    if (result < 0)
        return result;
    recover_gaps_judge(recover);
    check_chains(recover);
    result = count_live(recover);
    recover_damage_end(recover);
    return result;
}

void recover_fini(struct recover *recover)
{
    recover_table_fini(&recover->table);
    mem_free(recover->outcomes.segments);
    for (uint32_t i = 0; i < SPOOL_DEVICES_MAX; i++)
        mem_free(recover->messages[i].segments);
    mem_free(recover->seen);
    mem_free(recover->untold);
    mem_free(recover->gaps);
    mem_free(recover->points);
    mem_free(recover->record);
}

/* ---- The outcome --------------------------------------------------------------------------- */

/*
 * Whether the segment may look unused to the next start: all it holds is one commit, the last of
 * its life, whose sync may have failed. The next segment does not name such a one as the one before
 * it, or it would later seem to be missing.
 */
static bool may_vanish(const struct recover *recover, const struct segment *segment)
{
    const struct recover_seen *seen = &recover->seen[segment->slot];
    const struct recover_order *order = recover_order_of(recover, segment);

    if (!seen->from_start || seen->batches > 1)
        return false;
    for (uint32_t i = 0; i < order->count; i++) {
        const struct segment *other = order->segments[i];

        if (other->life == segment->life && other->serial > segment->serial &&
            recover->seen[other->slot].batches > 0)
            return false;
    }
    return true;
}

/* What holds no record at all is free. */
static void settle_segment(struct recover *recover, struct segment *segment)
{
    struct segpool *pool = spool_pool_of(recover->spool, segment);

    if (is_unused(recover, segment) && segment->live == 0 && !segment->has_void) {
        segpool_release(pool, segment);
        return;
    }
    if (segment->serial > pool->newest[segment->stream] && !may_vanish(recover, segment))
        pool->newest[segment->stream] = segment->serial;
    if (segment->has_void)
        segment->state = SEGMENT_POISONED;
    if (segment->stream == STREAM_OUTCOMES) {
        if (segment->has_void && segment->end > segment->gone.offset)
            segment->end = segment->gone.offset;
        segpool_publish(pool, segment);
        return;
    }
    if (segment->end > segment->live_bytes)
        segment->ended_bytes = segment->end - segment->live_bytes;
    if (segment->live == 0)
        segpool_note_empty(pool, segment);
}

static int tell_message(struct recover *recover, const struct recover_message *message,
                        uint8_t **scratch, size_t *scratch_bytes)
{
    size_t need = recover_table_rcpts_max(&recover->table, message);
    struct log_message_state state = {
        .message_id = message->id,
        .accepted_us = message->accepted_us,
        .place = {message->serial, message->offset, message->bytes, message->slot, message->large},
        .vmta = recover->table.names[message->vmta],
        .rcpt_count = message->rcpt_count,
        .flow = message->flow,
        .expires_us = (uint64_t)message->expires_s * 1000000,
        .priority = message->priority,
    };
    struct wire_writer w;

    must(recover->spool->segments[message->slot].serial == message->serial);
    if (need > *scratch_bytes) {
        mem_free(*scratch);
        *scratch_bytes = need * 2;
        *scratch = mem_try_alloc(*scratch_bytes);
        if (*scratch == NULL)
            return -ENOMEM;
    }
    wire_writer_init(&w, *scratch, *scratch_bytes);
    recover_table_rcpts_put(&recover->table, message, &w);
    must(!w.failed);
    state.rcpts = slice_of(*scratch, wire_written(&w));
    recover->report->messages_live++;
    recover->report->rcpts_live += message->rcpt_count - message->final_count;
    recover->callbacks->on_message(recover->callbacks->context, &state);
    return 0;
}

static int tell_messages(struct recover *recover)
{
    uint32_t count = 0;
    uint32_t *sorted = recover_table_sorted(&recover->table, &count);
    uint8_t *scratch = NULL;
    size_t scratch_bytes = 0;
    int result = 0;

    if (count > 0 && sorted == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count && result == 0; i++)
        result =
            tell_message(recover, &recover->table.messages[sorted[i]], &scratch, &scratch_bytes);
    mem_free(scratch);
    mem_free(sorted);
    return result;
}

int recover_tell(struct recover *recover)
{
    struct log_named named;
    int result = tell_messages(recover);

    if (result < 0)
        return result;
    for (uint32_t i = 0; named_at(recover->named, &i, &named); i++)
        recover->callbacks->on_named(recover->callbacks->context, &named);
    return 0;
}

static void settle_order(struct recover *recover, const struct recover_order *order)
{
    for (uint32_t i = 0; i < order->count; i++)
        settle_segment(recover, order->segments[i]);
}

void recover_settle(struct recover *recover)
{
    for (uint32_t i = 0; i < recover->spool->device_count; i++)
        settle_order(recover, &recover->messages[i]);
    settle_order(recover, &recover->outcomes);
}
