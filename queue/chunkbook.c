#include "queue/chunkbook.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "queue/spool_int.h"

#include <stdlib.h>

#define RUNS_MAX (1u << 22)

void chunkbook_init(struct chunkbook *book, struct spool *spool)
{
    book->spool = spool;
    table_init(&book->by_id);
}

void chunkbook_fini(struct chunkbook *book)
{
    if (book->spool == NULL)
        return;
    slab_fini(&book->runs);
    table_fini(&book->by_id);
}

static struct chunk_run *run_at(const struct chunkbook *book, uint32_t index)
{
    return slab_at(&book->runs, index);
}

static struct segment *segment_of(const struct chunkbook *book, const struct log_chunk *chunk)
{
    struct segment *segment;

    must(chunk->slot < book->spool->segment_count);
    segment = &book->spool->segments[chunk->slot];
    must(segment->serial == chunk->serial && segment->stream == STREAM_MESSAGES);
    return segment;
}

static uint32_t bytes_of(const struct log_chunk *chunk)
{
    return SEGFMT_RECORD_BYTES + LOG_CHUNK_HEAD_BYTES + chunk->octets;
}

/* ---- Entries --------------------------------------------------------------------------------- */

uint32_t chunkbook_enter(struct chunkbook *book, uint64_t message_id)
{
    struct chunk_run *run;
    uint32_t index;

    /* With the first large message: what the slab takes for itself is 8 MB. */
    if (book->runs.count_max == 0)
        slab_init(&book->runs, sizeof(struct chunk_run), RUNS_MAX);
    run = slab_alloc(&book->runs, &index);
    if (run == NULL)
        return CHUNKBOOK_NONE;
    run->message_id = message_id;
    run->next = CHUNKBOOK_NONE;
    if (table_insert(&book->by_id, hash_u64(message_id), index))
        return index;
    slab_free(&book->runs, index);
    return CHUNKBOOK_NONE;
}

bool chunkbook_add(struct chunkbook *book, uint32_t entry, const struct log_chunk *chunk)
{
    struct chunk_run *first = run_at(book, entry);
    struct chunk_run *run = first;
    uint32_t index;

    while (run->count > 0 && run->segment_serial != chunk->serial && run->next != CHUNKBOOK_NONE)
        run = run_at(book, run->next);
    if (run->count > 0 && run->segment_serial != chunk->serial) {
        run = slab_alloc(&book->runs, &index);
        if (run == NULL)
            return false;
        run->message_id = first->message_id;
        run->next = first->next;
        first->next = index;
    }
    run->segment_serial = chunk->serial;
    run->slot = chunk->slot;
    run->count++;
    run->bytes += bytes_of(chunk);
    return true;
}

static void free_chain(struct chunkbook *book, uint32_t index)
{
    while (index != CHUNKBOOK_NONE) {
        uint32_t next = run_at(book, index)->next;

        slab_free(&book->runs, index);
        index = next;
    }
}

void chunkbook_forget(struct chunkbook *book, uint32_t entry)
{
    table_remove(&book->by_id, hash_u64(run_at(book, entry)->message_id), entry);
    free_chain(book, entry);
}

uint32_t chunkbook_enter_all(struct chunkbook *book, const struct log_request *request)
{
    uint32_t entry = chunkbook_enter(book, request->message_id);
    struct log_chunk chunk;

    for (uint32_t i = 0; entry != CHUNKBOOK_NONE && i < request->chunk_count; i++) {
        log_chunk_get(request->chunks, i, &chunk);
        segment_of(book, &chunk);
        if (chunkbook_add(book, entry, &chunk))
            continue;
        chunkbook_forget(book, entry);
        return CHUNKBOOK_NONE;
    }
    return entry;
}

void chunkbook_place(struct chunkbook *book, uint32_t entry, uint32_t serial, uint32_t offset)
{
    run_at(book, entry)->serial = serial;
    run_at(book, entry)->offset = offset;
}

struct place_key {
    uint64_t message_id;
    uint32_t serial;
    uint32_t offset;
};

static bool place_matches(uint32_t value, const void *key, void *context)
{
    const struct chunk_run *run = run_at(context, value);
    const struct place_key *wanted = key;

    return run->message_id == wanted->message_id && run->serial == wanted->serial &&
           run->offset == wanted->offset;
}

uint32_t chunkbook_find(const struct chunkbook *book, uint64_t message_id, uint32_t serial,
                        uint32_t offset)
{
    struct place_key key = {message_id, serial, offset};
    uint32_t found =
        table_find(&book->by_id, hash_u64(message_id), place_matches, &key, (void *)book);

    return found == TABLE_NONE ? CHUNKBOOK_NONE : found;
}

/* ---- What is live ---------------------------------------------------------------------------- */

void chunkbook_commit(struct chunkbook *book, const struct log_request *request)
{
    struct log_chunk chunk;

    chunkbook_place(book, request->book, request->place.serial, request->place.offset);
    for (uint32_t i = 0; i < request->chunk_count; i++) {
        struct segment *segment;

        log_chunk_get(request->chunks, i, &chunk);
        segment = segment_of(book, &chunk);
        if (chunk.is_fresh) {
            must(segment->open > 0);
            segment->open--;
        } else {
            segment->live++;
            segment->live_bytes += bytes_of(&chunk);
        }
    }
}

void chunkbook_drop(struct chunkbook *book, const struct log_request *request)
{
    struct log_chunk chunk;

    for (uint32_t i = 0; i < request->chunk_count; i++) {
        struct segment *segment;

        log_chunk_get(request->chunks, i, &chunk);
        if (!chunk.is_fresh)
            continue;
        segment = segment_of(book, &chunk);
        must(segment->open > 0);
        segment->open--;
        segpool_records_done(spool_pool_of(book->spool, segment), segment, 1, bytes_of(&chunk));
    }
}

uint32_t chunkbook_detach(struct chunkbook *book, const struct log_request *request,
                          uint32_t others)
{
    uint32_t entry =
        chunkbook_find(book, request->message_id, request->place.serial, request->place.offset);
    struct chunk_run *last = NULL;

    if (entry == CHUNKBOOK_NONE)
        return others;
    table_remove(&book->by_id, hash_u64(request->message_id), entry);
    for (uint32_t at = entry; at != CHUNKBOOK_NONE; at = last->next) {
        last = run_at(book, at);
        if (last->count > 0)
            segpool_records_leave(&book->spool->segments[last->slot], last->count, last->bytes);
    }
    must(last != NULL);
    last->next = others;
    return entry;
}

void chunkbook_done(struct chunkbook *book, uint32_t chain)
{
    for (uint32_t at = chain; at != CHUNKBOOK_NONE; at = run_at(book, at)->next) {
        const struct chunk_run *run = run_at(book, at);
        struct segment *segment = &book->spool->segments[run->slot];

        if (run->count == 0)
            continue;
        must(segment->serial == run->segment_serial);
        segpool_records_left(spool_pool_of(book->spool, segment), segment, run->count, run->bytes);
    }
    free_chain(book, chain);
}

/* ---- Compaction ------------------------------------------------------------------------------ */

static bool has_chunk_in(const struct chunkbook *book, const struct chunk_run *first,
                         const struct segment *segment)
{
    const struct chunk_run *run = first;

    for (;;) {
        if (run->count > 0 && run->segment_serial == segment->serial)
            return true;
        if (run->next == CHUNKBOOK_NONE)
            return false;
        run = run_at(book, run->next);
    }
}

static int ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;

    return a < b ? -1 : a > b;
}

/* Fills `places` unless it is NULL; returns how many there are. */
static uint32_t collect(const struct chunkbook *book, const struct segment *segment,
                        uint64_t *places)
{
    uint32_t cursor = 0, count = 0, value;

    while ((value = table_next(&book->by_id, &cursor)) != TABLE_NONE) {
        const struct chunk_run *first = run_at(book, value);

        if (first->serial == 0 || !has_chunk_in(book, first, segment))
            continue;
        if (places != NULL)
            places[count] = (uint64_t)first->serial << 32 | first->offset;
        count++;
    }
    return count;
}

uint64_t *chunkbook_commits_of(const struct chunkbook *book, const struct segment *segment,
                               uint32_t *ret_count)
{
    uint64_t *places;

    *ret_count = collect(book, segment, NULL);
    if (*ret_count == 0)
        return NULL;
    places = mem_try_alloc(*ret_count * sizeof(*places));
    if (places == NULL)
        return NULL;
    collect(book, segment, places);
    qsort(places, *ret_count, sizeof(*places), ascending);
    return places;
}
