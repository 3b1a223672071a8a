/* The committer's role: parcels in, answers out, and the turn that drives everything else. */
#include "queue/spool.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/spool_int.h"
#include "queue/state.h"

#include <errno.h>
#include <stdio.h>

#define NAMED_BYTES_MAX 1500u
#define CLOSE_WAIT_NS   5000000000ull

void spool_file_path(const char *path, const char *name, char *room)
{
    int written = snprintf(room, SPOOL_PATH_MAX + 32, "%s/%s", path, name);

    must(written > 0 && written < SPOOL_PATH_MAX + 32);
}

void spool_segment_path(const char *path, uint16_t slot, char *room)
{
    char name[SEGFMT_NAME_BYTES];

    segfmt_name(slot, name);
    spool_file_path(path, name, room);
}

/* ---- Answers ------------------------------------------------------------------------------- */

static void answer_self(struct spool *spool, struct log_request *request)
{
    if (request->parcel.kind != SPOOL_OWN_VOID)
        checkpoint_on_answer(spool, request);
    else if (request->status == 0)
        seglog_on_void_durable(container_of(request, struct seglog, void_request));
}

void spool_answer(struct spool *spool, struct log_request *request, int status)
{
    request->status = status;
    if (request->parcel.from == SPOOL_FROM_SELF) {
        answer_self(spool, request);
        return;
    }
    must(request->parcel.from < spool->client_count);
    mailbox_post(spool->clients[request->parcel.from]->answers, &request->parcel);
}

/* ---- Health -------------------------------------------------------------------------------- */

static enum spool_health judge(const struct spool *spool, enum spool_health before)
{
    bool is_low = !route_takes_mail(spool);

    if (seglog_is_failing(&spool->outcomes))
        return SPOOL_STALLED;
    /* Once stalled it stays so until all that waits has found its place: a file that is tried to be
     * made is not one that is there. */
    if (seglog_is_waiting(&spool->outcomes) &&
        (before == SPOOL_STALLED || !segpool_can_serve(&spool->devices[0].pool, STREAM_OUTCOMES)))
        return SPOOL_STALLED;
    if (seglog_is_late(&spool->outcomes))
        return is_low ? SPOOL_STALLED : SPOOL_LATE;
    return is_low ? SPOOL_LOW_SPACE : SPOOL_HEALTHY;
}

/* Why the health is as it is. */
static int trouble_of(const struct spool *spool, enum spool_health health)
{
    if (health == SPOOL_HEALTHY)
        return 0;
    if (health == SPOOL_POISONED)
        return E_POISONED;
    if (health == SPOOL_LATE)
        return E_LATE;
    return route_refusal(spool);
}

static void health_set(struct spool *spool, enum spool_health health)
{
    if (spool_health(spool) == health && trouble_of(spool, health) == spool->trouble)
        return;
    atomic_store_explicit(&spool->trouble, trouble_of(spool, health), memory_order_relaxed);
    if (spool_health(spool) == SPOOL_HEALTHY || health == SPOOL_HEALTHY)
        atomic_store_explicit(&spool->trouble_since_ns, io_now_ns(spool->io), memory_order_relaxed);
    atomic_store_explicit(&spool->health, health, memory_order_release);
}

void spool_poison(struct spool *spool)
{
    health_set(spool, SPOOL_POISONED);
    for (uint32_t i = 0; i < spool->device_count; i++)
        seglog_kill(&spool->devices[i].messages, E_POISONED);
    seglog_kill(&spool->outcomes, E_POISONED);
}

/* ---- Parcels ------------------------------------------------------------------------------- */

/* The table follows the log: what is appended later wins in both. */
static int named_note(struct spool *spool, const struct log_request *request)
{
    uint8_t bytes[NAMED_BYTES_MAX];
    struct wire_writer w;
    struct log_named named;
    int result;

    wire_writer_init(&w, bytes, sizeof(bytes));
    for (uint32_t i = 0; i < request->payload_count; i++)
        wire_put_bytes(&w, request->payload[i].iov_base, request->payload[i].iov_len);
    if (w.failed)
        return E_TOO_LONG;
    result = log_named_decode(slice_of(bytes, wire_written(&w)), &named);
    if (result < 0)
        return result;
    return named_set(&spool->named, &named);
}

static void take_request(struct spool *spool, struct log_request *request)
{
    int result = 0;

    if (spool_is_poisoned(spool))
        result = E_POISONED;
    else if (spool->closing)
        result = E_CLOSED;
    else if (request->parcel.kind == SPOOL_APPEND_NAMED)
        result = named_note(spool, request);
    if (result < 0)
        spool_answer(spool, request, result);
    else if (batch_request_is_mail(request))
        route_message(spool, request);
    else
        seglog_append(&spool->outcomes, request);
}

static void drop_chunks(struct spool *spool, struct log_request *request)
{
    must(request->parcel.from < spool->client_count);
    chunkbook_drop(&spool->chunks, request);
    spool_answer(spool, request, 0);
}

struct spool_pin *spool_pin_get(struct spool *spool, uint64_t number)
{
    for (int i = 0; i < SPOOL_PINS_MAX; i++) {
        if (atomic_load_explicit(&spool->pins[i].number, memory_order_acquire) == number + 1)
            return &spool->pins[i];
    }
    for (int i = 0; i < SPOOL_PINS_MAX; i++) {
        uint64_t none = 0;

        if (atomic_compare_exchange_strong(&spool->pins[i].number, &none, number + 1))
            return &spool->pins[i];
    }
    return NULL;
}

static void take_cursor(struct spool *spool, struct spool_client *client,
                        struct spool_notice *notice)
{
    struct spool_pin *pin = spool_pin_get(spool, notice->number);

    must(pin != NULL);
    if (atomic_load_explicit(&pin->serial, memory_order_relaxed) != notice->place.serial)
        spool->pins_moved = true;
    atomic_store_explicit(&pin->serial, notice->place.serial, memory_order_release);
    mailbox_post(client->answers, &notice->parcel);
}

static void on_parcel(void *context, struct parcel *parcel)
{
    struct spool_client *client = context;
    struct spool *spool = client->spool;

    switch (parcel->kind) {
    case SPOOL_APPEND_MESSAGE:
    case SPOOL_APPEND_CHUNK:
    case SPOOL_APPEND_COMMIT:
    case SPOOL_APPEND_OUTCOME:
    case SPOOL_APPEND_STATE:
    case SPOOL_APPEND_NAMED:
        must(parcel->from < spool->client_count);
        take_request(spool, container_of(parcel, struct log_request, parcel));
        break;
    case SPOOL_DROP_CHUNKS:
        drop_chunks(spool, container_of(parcel, struct log_request, parcel));
        break;
    case SPOOL_CHECKPOINT_DONE:
        checkpoint_on_done(spool, client, container_of(parcel, struct spool_notice, parcel));
        break;
    case SPOOL_EVACUATE_DONE:
        compaction_on_done(spool, client, container_of(parcel, struct spool_notice, parcel));
        break;
    default:
        must(parcel->kind == SPOOL_CURSOR_AT);
        take_cursor(spool, client, container_of(parcel, struct spool_notice, parcel));
        break;
    }
}

uint16_t spool_client_add(struct spool *spool, struct mailbox *requests, struct mailbox *answers,
                          bool wants_checkpoints)
{
    struct spool_client *client = mem_alloc(sizeof(*client));
    uint16_t number = spool->client_count;

    must(number < SPOOL_CLIENTS_MAX);
    client->spool = spool;
    client->requests = requests;
    client->answers = answers;
    client->wants_checkpoints = wants_checkpoints;
    if (wants_checkpoints)
        spool->checkpoint_client_count++;
    spool->clients[number] = client;
    spool->client_count++;
    mailbox_listen(requests, on_parcel, client);
    return number;
}

/* ---- The turn ------------------------------------------------------------------------------ */

static void health_update(struct spool *spool)
{
    enum spool_health before = spool_health(spool);
    bool is_stalled;

    if (before == SPOOL_POISONED)
        return;
    health_set(spool, judge(spool, before));
    is_stalled = spool_health(spool) == SPOOL_STALLED;
    /* A disk may take as long as it likes to work again: no client waits for that. */
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct seglog *log = &spool->devices[i].messages;

        if (is_stalled || seglog_is_resting(log))
            seglog_release_waiting(log, is_stalled);
    }
}

static bool is_at_rest(const struct spool *spool)
{
    for (uint32_t i = 0; i < spool->device_count; i++) {
        const struct spool_device *device = &spool->devices[i];

        if (!seglog_is_idle(&device->messages) || !segpool_is_idle(&device->pool))
            return false;
    }
    return seglog_is_idle(&spool->outcomes);
}

void spool_turn(struct io_actor *actor)
{
    struct spool *spool = container_of(actor, struct spool, actor);

    if (spool->closed)
        return;
    /* A closing spool makes no more segments than its last records need. */
    for (uint32_t i = 0; i < spool->device_count && (!spool->closing || !is_at_rest(spool)); i++)
        segpool_turn(&spool->devices[i].pool);
    checkpoint_turn(spool);
    compaction_turn(spool);
    for (uint32_t i = 0; i < spool->device_count; i++)
        seglog_turn(&spool->devices[i].messages);
    seglog_turn(&spool->outcomes);
    health_update(spool);
    route_publish(spool);
    /* What a crash would have done as well. */
    if (spool->closing && spool_health(spool) == SPOOL_STALLED &&
        io_now_ns(spool->io) >= spool->close_until_ns)
        spool_poison(spool);
    if (spool->closing && is_at_rest(spool)) {
        spool->closed = true;
        spool->on_closed(spool->on_closed_context);
    }
}

bool spool_is_busy(struct io_actor *actor)
{
    struct spool *spool = container_of(actor, struct spool, actor);

    if (spool->closed)
        return false;
    for (uint32_t i = 0; i < spool->device_count; i++) {
        if (seglog_is_busy(&spool->devices[i].messages))
            return true;
    }
    return seglog_is_busy(&spool->outcomes) || checkpoint_is_busy(spool) ||
           (spool->closing && is_at_rest(spool));
}

void spool_close(struct spool *spool, void (*done)(void *context), void *context)
{
    must(!spool->closing && done != NULL);
    spool->on_closed = done;
    spool->on_closed_context = context;
    spool->closing = true;
    spool->close_until_ns = io_now_ns(spool->io) + CLOSE_WAIT_NS;
}

/* ---- What others may look at --------------------------------------------------------------- */

enum spool_health spool_health(const struct spool *spool)
{
    return (enum spool_health)atomic_load_explicit(&spool->health, memory_order_relaxed);
}

void spool_trouble_read(const struct spool *spool, struct spool_trouble *ret_trouble)
{
    ret_trouble->health = spool_health(spool);
    ret_trouble->error = atomic_load_explicit(&spool->trouble, memory_order_relaxed);
    ret_trouble->since_ns = atomic_load_explicit(&spool->trouble_since_ns, memory_order_relaxed);
}

void spool_stats_read(const struct spool *spool, struct spool_stats *ret_stats)
{
    const struct spool_counters *c = &spool->counters;

    memset(ret_stats, 0, sizeof(*ret_stats));
    for (uint32_t i = 0; i < spool->device_count; i++) {
        struct spool_device_stats device;

        spool_device_read(spool, i, &device);
        ret_stats->message_commits += device.commits;
        ret_stats->messages += device.messages;
        ret_stats->segments_total += device.segments_total;
        ret_stats->segments_free += device.segments_free;
    }
#define READ(field) ret_stats->field = atomic_load_explicit(&c->field, memory_order_relaxed)
    READ(outcome_commits);
    READ(outcomes);
    READ(bytes_written);
    READ(commit_ns_total);
    READ(failed_commits);
    READ(voids);
    READ(checkpoints);
    READ(recycled);
    READ(evacuations);
#undef READ
}

uint32_t spool_device_count(const struct spool *spool)
{
    return spool->device_count;
}

void spool_device_read(const struct spool *spool, uint32_t index,
                       struct spool_device_stats *ret_stats)
{
    const struct spool_device *device = &spool->devices[index];

    must(index < spool->device_count);
#define READ(field) atomic_load_explicit(&device->field, memory_order_relaxed)
    *ret_stats = (struct spool_device_stats){
        .path = device->path,
        .commit_mode = device->commit_mode,
        .number = device->pool.number,
        .state = (enum spool_device_state)READ(state),
        .commits = READ(commits),
        .messages = READ(messages_kept),
        .bytes_written = READ(bytes_written),
        .failed_commits = READ(failed_commits),
        .segments_total = READ(segments_total),
        .segments_free = READ(segments_free),
    };
#undef READ
}
