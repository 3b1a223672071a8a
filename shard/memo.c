/*
 * Named states: what of queues and standing orders survives a restart, on its way to the log and
 * back from there.
 */
#include "shard/place.h"
#include "shard/shard_int.h"

#define REST_KEY  "rest/"
#define PAUSE_KEY "pause/"
#define MODE_KEY  "mode/"

/* Named state on its way to the spool and back. */
struct named_record {
    struct log_request request; /* first */
    struct iovec iov;
    struct report *report;    /* waits for it, or NULL */
    struct mode_order *order; /* likewise */
    uint32_t queue;           /* counts it as open; NONE = none does */
    uint32_t index;
    bool is_mode;
    bool is_loosening; /* is_mode: of its end */
    uint32_t cold;     /* the book that it is of; NONE = of none */
    uint32_t warm;     /* likewise, of a <warm-up> */
    uint32_t standing; /* the standing order that it ends; NONE = it does not */
    uint8_t bytes[REPORT_NAME_MAX + ORDER_REASON_MAX + 64];
};

void memo_init(struct shard *shard)
{
    slab_init(&shard->named_records, sizeof(struct named_record), shard->limits.queue_count_max);
}

/* The record on its way; NULL when there is no room, or the key too long. */
static struct named_record *persist_key(struct shard *shard, struct slice key, struct slice value,
                                        uint32_t flags)
{
    struct log_named named = {.key = key, .value = value};
    struct named_record *record;
    uint32_t index;
    int bytes;

    /* Keys are bounded; a longer name (domain of 255 and a long VMTA) does not survive. */
    if (key.len > 255)
        return NULL;
    record = slab_alloc(&shard->named_records, &index);
    if (!record)
        return NULL;
    bytes = log_named_encode(&named, record->bytes, sizeof(record->bytes));
    must(bytes > 0);
    record->index = index;
    record->report = NULL;
    record->order = NULL;
    record->queue = NONE;
    record->is_mode = false;
    record->is_loosening = false;
    record->standing = NONE;
    record->cold = NONE;
    record->warm = NONE;
    record->iov = (struct iovec){record->bytes, (size_t)bytes};
    record->request = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_NAMED, .from = shard->wiring.spool_client},
        .payload = &record->iov,
        .payload_count = 1,
        .payload_bytes = (uint32_t)bytes,
        .flags = flags,
    };
    list_init(&record->request.link);
    mailbox_post(shard->wiring.to_spool, &record->request.parcel);
    return record;
}

/* prefix, domain/vmta. */
static struct named_record *persist(struct shard *shard, const char *prefix, struct slice domain,
                                    uint32_t vmta_id, struct slice value, uint32_t flags)
{
    char room[REPORT_NAME_MAX + 8];
    struct text key = text_in(room, sizeof(room));

    text_put_str(&key, prefix);
    queues_put_name_of(shard, domain, vmta_id, &key);
    return persist_key(shard, text_slice(&key), value, flags);
}

bool queues_persist_order(struct shard *shard, struct slice key, struct slice value, uint32_t order,
                          struct report *report)
{
    uint32_t flags = report || order != NONE ? LOG_WANTS_SYNC : 0;
    struct named_record *record = persist_key(shard, key, value, flags);

    if (!record)
        return false;
    record->standing = order;
    record->report = report;
    if (report)
        report->pending++;
    return true;
}

void queues_persist_pause(struct shard *shard, struct slice domain, uint32_t vmta_id, bool paused,
                          struct report *report)
{
    struct slice value = paused ? SLICE_LITERAL("1") : SLICE_EMPTY;
    struct named_record *record = persist(shard, PAUSE_KEY, domain, vmta_id, value, LOG_WANTS_SYNC);

    if (!record)
        return;
    record->report = report;
    report->pending++;
}

void memo_rest(struct shard *shard, struct queue *queue, bool is_last)
{
    struct named_record *record;
    uint8_t rest[24];
    struct wire_writer w;

    queue->rest_is_logged = queue->rest_until_ns > io_now_ns(shard->io) ||
                            queue->rest_failures > 0 || queue->doubt_ends_ns > 0;
    wire_writer_init(&w, rest, sizeof(rest));
    wire_put_u64(&w, queue->rest_until_us);
    wire_put_u16(&w, queue->rest_failures);
    wire_put_u64(&w, queue->doubt_ends_us);
    record = persist(shard, REST_KEY, names_text(&shard->names, queue->name), queue->vmta_id,
                     queue->rest_is_logged ? slice_of(rest, wire_written(&w)) : SLICE_EMPTY, 0);
    if (!record || is_last)
        return;
    record->queue = queue->index;
    queue->records_open++;
}

bool queues_persist_mode(struct shard *shard, struct queue *queue, struct slice value,
                         struct mode_order *order)
{
    uint32_t flags = order != NULL || value.len == 0 ? LOG_WANTS_SYNC : 0;
    struct named_record *record = persist(shard, MODE_KEY, names_text(&shard->names, queue->name),
                                          queue->vmta_id, value, flags);

    if (!record)
        return false;
    record->order = order;
    record->is_mode = true;
    record->is_loosening = value.len == 0;
    record->queue = queue->index;
    queue->records_open++;
    return true;
}

bool memo_cold(struct shard *shard, struct slice domain, uint32_t vmta_id, struct slice value,
               uint32_t book)
{
    struct named_record *record =
        persist(shard, COLD_LOG_KEY, domain, vmta_id, value, LOG_WANTS_SYNC);

    if (!record)
        return false;
    record->cold = book;
    return true;
}

bool memo_warm(struct shard *shard, struct slice name, struct slice value, uint32_t book)
{
    char room[sizeof(WARM_LOG_KEY) + NAMES_BYTES_MAX];
    struct text key = text_in(room, sizeof(room));
    struct named_record *record;

    text_put_literal(&key, WARM_LOG_KEY);
    text_put(&key, name);
    record = persist_key(shard, text_slice(&key), value, LOG_WANTS_SYNC);
    if (!record)
        return false;
    record->warm = book;
    return true;
}

void queues_on_named_answer(struct shard *shard, struct log_request *request)
{
    struct named_record *record = container_of(request, struct named_record, request);
    struct report *report = record->report;
    struct queue *queue = record->queue == NONE ? NULL : slab_at(&shard->queues, record->queue);
    bool is_mode = record->is_mode, is_loosening = record->is_loosening;
    struct mode_order *order = record->order;
    uint32_t standing = record->standing, cold = record->cold, warm = record->warm;
    int32_t status = request->status;

    if (report && status < 0)
        report->result = status;
    slab_free(&shard->named_records, record->index);
    if (is_mode)
        modes_on_logged(shard, queue, order, is_loosening, status);
    if (standing != NONE)
        orders_on_logged(shard, standing, status);
    if (cold != NONE)
        cold_on_logged(shard, cold, status);
    if (warm != NONE)
        warm_on_logged(shard, warm, status);
    if (report)
        reports_on_persisted(shard, report);
    if (!queue)
        return;
    must(queue->records_open > 0);
    if (--queue->records_open == 0)
        migrate_on_record(shard, queue);
}

/* The queue that a key's name part speaks of, if this shard is its base. */
static struct queue *queue_of_key(struct shard *shard, struct slice name)
{
    size_t slash = slice_find(name, '/');
    struct slice domain = slice_of(name.data, slash);
    uint32_t vmta_id;

    if (slash == name.len)
        return NULL;
    vmta_id = conf_vmta_id(shard->conf, slice_after(name, slash + 1));
    if (place_base(shard->place, domain, vmta_id) != shard->number)
        return NULL;
    return queues_obtain(shard, domain, vmta_id);
}

void shard_recover_named(struct shard *shard, const struct log_named *named)
{
    struct slice rest = SLICE_LITERAL(REST_KEY), pause = SLICE_LITERAL(PAUSE_KEY);
    struct slice mode = SLICE_LITERAL(MODE_KEY), order = SLICE_LITERAL(ORDER_LOG_KEY);
    struct slice cold = SLICE_LITERAL(COLD_LOG_KEY), hold = SLICE_LITERAL(HOLD_LOG_KEY);
    struct slice warm = SLICE_LITERAL(WARM_LOG_KEY);
    struct queue *queue;
    struct wire_reader r;

    if (slice_starts_nocase(named->key, cold)) {
        cold_recover(shard, slice_after(named->key, cold.len), named->value);
        return;
    }
    if (slice_starts_nocase(named->key, hold)) {
        hold_recover(shard, slice_after(named->key, hold.len), named->value);
        return;
    }
    if (slice_starts_nocase(named->key, warm)) {
        warm_recover(shard, slice_after(named->key, warm.len), named->value);
        return;
    }
    if (slice_starts_nocase(named->key, order)) {
        orders_recover(shard, slice_after(named->key, order.len), named->value);
        return;
    }
    if (slice_starts_nocase(named->key, pause)) {
        queue = queue_of_key(shard, slice_after(named->key, pause.len));
        if (queue)
            queue->paused = true;
        return;
    }
    if (slice_starts_nocase(named->key, mode)) {
        queue = queue_of_key(shard, slice_after(named->key, mode.len));
        if (queue)
            modes_recover(shard, queue, named->value);
        return;
    }
    if (!slice_starts_nocase(named->key, rest))
        return;
    queue = queue_of_key(shard, slice_after(named->key, rest.len));
    if (!queue)
        return;
    wire_reader_init(&r, named->value.data, named->value.len);
    queue->rest_until_us = wire_get_u64(&r);
    queue->rest_failures = wire_get_u16(&r);
    queue->doubt_ends_us = wire_get_u64(&r);
    if (queue->doubt_ends_us)
        queue->doubt_ends_ns = queues_monotonic_of(shard, queue->doubt_ends_us);
    queue->rest_is_logged = true;
    queue->reason = WAIT_REST;
    queue->rests_by_dns = queue->doubt_ends_ns > 0;
    queues_wake_at(shard, queue, queues_monotonic_of(shard, queue->rest_until_us));
}
