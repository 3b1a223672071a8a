/*
 * Addresses for list: rows of messages that are not in memory get theirs from the log.
 *
 * Shards answer with the record's place; control reads the records back on its own loop, off the
 * shards, a bounded number and a bounded sum of bytes at once. Rows of one message that stand side
 * by side share a read. A record that cannot be had any more (recycled since the shard answered,
 * damaged, no memory for it, too late) leaves its rows without addresses and is no error.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/control_int.h"

#define READS_MAX         16
#define BYTES_MAX         (8u << 20) /* in flight; a single record may be larger */
#define LOOKUP_TIMEOUT_NS 10000000000ull

struct lookup_read {
    struct io_op op;
    struct lookup *lookup;
    struct rcpt_row *rows; /* of one message */
    uint32_t row_count;
    uint8_t *bytes;
};

struct lookup {
    struct gather *gather;               /* whose rows these are; left at the end */
    void (*done)(struct lookup *lookup); /* NULL once nobody waits */
    void *context;
    struct io_timer timer;
    uint32_t rows_left; /* not looked at yet, of those that will be shown */
    uint32_t row;       /* the next one, in this part */
    uint16_t part;
    uint32_t reads_in_flight;
    uint64_t bytes_in_flight;
    struct lookup_read reads[READS_MAX]; /* bytes NULL = free */
};

static void lookup_free(struct lookup *lookup)
{
    gather_leave(lookup->gather);
    mem_free(lookup);
}

static void finish(struct lookup *lookup)
{
    void (*done)(struct lookup * lookup) = lookup->done;

    io_timer_stop(lookup->gather->control->io, &lookup->timer);
    if (done != NULL)
        done(lookup);
    else if (lookup->reads_in_flight == 0)
        lookup_free(lookup);
}

void lookup_leave(struct lookup *lookup)
{
    lookup->done = NULL;
    finish(lookup);
}

/* ---- Rows ------------------------------------------------------------------------------------ */

/* The next row that lacks its addresses, or NULL; every recipient has one, never an empty one. */
static struct rcpt_row *next_row(struct lookup *lookup)
{
    const struct gather *gather = lookup->gather;

    while (lookup->rows_left > 0 && lookup->part < gather->control->shard_count) {
        const struct report *report = &gather->parts[lookup->part].report;
        struct rcpt_row *rows = report->rows;

        if (lookup->row == report->row_count) {
            lookup->part++;
            lookup->row = 0;
            continue;
        }
        if (rows[lookup->row].rcpt[0] == '\0')
            return &rows[lookup->row];
        lookup->row++;
        lookup->rows_left--;
    }
    return NULL;
}

/* Steps over this row and those of the same message behind it; how many they are. */
static uint32_t take_rows(struct lookup *lookup)
{
    const struct report *report = &lookup->gather->parts[lookup->part].report;
    const struct rcpt_row *rows = report->rows;
    uint64_t message_id = rows[lookup->row].message_id;
    uint32_t count = 0;

    while (lookup->rows_left > 0 && lookup->row < report->row_count &&
           rows[lookup->row].message_id == message_id) {
        lookup->row++;
        lookup->rows_left--;
        count++;
    }
    return count;
}

/* ---- Reading --------------------------------------------------------------------------------- */

static struct lookup_read *free_read(struct lookup *lookup)
{
    for (uint32_t i = 0; i < READS_MAX; i++) {
        if (lookup->reads[i].bytes == NULL)
            return &lookup->reads[i];
    }
    return NULL;
}

/* False when the record cannot even be asked for. */
static bool start_read(struct lookup_read *read, const struct log_place *place)
{
    struct control *control = read->lookup->gather->control;
    int fd;

    if (place->bytes <= LOG_RECORD_HEADER_BYTES)
        return false;
    fd = spool_reader_fd(control->reader, place);
    if (fd < 0)
        return false;
    read->bytes = mem_try_alloc(place->bytes);
    if (read->bytes == NULL)
        return false;
    read->lookup->reads_in_flight++;
    read->lookup->bytes_in_flight += place->bytes;
    control->lookup_reads++;
    io_read(control->io, &read->op, fd, read->bytes, place->bytes, place->offset);
    return true;
}

static void start_reads(struct lookup *lookup)
{
    struct lookup_read *read = free_read(lookup);
    struct rcpt_row *row = next_row(lookup);

    while (read != NULL && row != NULL) {
        if (lookup->reads_in_flight > 0 && lookup->bytes_in_flight + row->place.bytes > BYTES_MAX)
            return;
        read->rows = row;
        read->row_count = take_rows(lookup);
        if (start_read(read, &row->place))
            read = free_read(lookup);
        row = next_row(lookup);
    }
}

static void fill(const struct lookup_read *read, int32_t result)
{
    const struct log_place *place = &read->rows[0].place;
    const struct iovec iov = {read->bytes, place->bytes};
    struct envelope envelope;

    if (result < 0 || (uint32_t)result < place->bytes ||
        spool_reader_check(place, read->rows[0].message_id, &iov, 1) < 0 ||
        envelope_decode(
            slice_of(read->bytes + LOG_RECORD_HEADER_BYTES, place->bytes - LOG_RECORD_HEADER_BYTES),
            &envelope) < 0)
        return;
    rcpt_rows_fill(read->rows, read->row_count, &envelope);
}

static void on_read(struct io_op *op, int32_t result)
{
    struct lookup_read *read = container_of(op, struct lookup_read, op);
    struct lookup *lookup = read->lookup;

    must(lookup->reads_in_flight > 0);
    fill(read, result);
    mem_free(read->bytes);
    read->bytes = NULL;
    lookup->reads_in_flight--;
    lookup->bytes_in_flight -= read->rows[0].place.bytes;
    lookup->gather->control->lookup_reads--;
    if (lookup->done != NULL)
        start_reads(lookup);
    if (lookup->reads_in_flight == 0)
        finish(lookup);
}

static void on_timeout(struct io_timer *timer)
{
    finish(container_of(timer, struct lookup, timer));
}

struct lookup *lookup_start(struct gather *gather, uint32_t row_count_max,
                            void (*done)(struct lookup *lookup), void *context)
{
    struct io *io = gather->control->io;
    struct lookup *lookup = mem_try_alloc(sizeof(*lookup));

    if (lookup == NULL)
        return NULL;
    lookup->gather = gather;
    lookup->done = done;
    lookup->context = context;
    lookup->rows_left = row_count_max;
    for (uint32_t i = 0; i < READS_MAX; i++) {
        lookup->reads[i].lookup = lookup;
        io_op_init(&lookup->reads[i].op, on_read);
    }
    io_timer_init(&lookup->timer, on_timeout);
    start_reads(lookup);
    if (lookup->reads_in_flight == 0) {
        mem_free(lookup);
        return NULL;
    }
    io_timer_arm(io, &lookup->timer, io_now_ns(io) + LOOKUP_TIMEOUT_NS);
    return lookup;
}

struct gather *lookup_gather(const struct lookup *lookup)
{
    return lookup->gather;
}

void *lookup_context(const struct lookup *lookup)
{
    return lookup->context;
}
