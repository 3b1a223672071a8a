/* Messages in chunks: what stands in a commit record. */
#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/wire.h"
#include "queue/segfmt.h"
#include "queue/spool.h"

#define CHUNK_IS_FRESH     1u
/* So that a chunk is small beside its segment. */
#define CHUNKS_PER_SEGMENT 16u

uint32_t log_chunk_octets(uint64_t segment_bytes)
{
    uint64_t octets = segment_bytes / CHUNKS_PER_SEGMENT;

    return octets < LOG_CHUNK_OCTETS_MAX ? (uint32_t)octets : LOG_CHUNK_OCTETS_MAX;
}

uint16_t log_large_of(uint64_t content_octets)
{
    uint64_t units = (content_octets + LOG_LARGE_UNIT - 1) / LOG_LARGE_UNIT;

    if (units == 0)
        return 1;
    return units < UINT16_MAX ? (uint16_t)units : UINT16_MAX;
}

void log_chunk_head_put(uint64_t message_id, uint32_t number, uint8_t *room)
{
    struct wire_writer w;

    wire_writer_init(&w, room, LOG_CHUNK_HEAD_BYTES);
    wire_put_u64(&w, message_id);
    wire_put_u32(&w, number);
    must(!w.failed);
}

void log_chunk_put(const struct log_chunk *chunk, uint8_t *entries, uint32_t index)
{
    struct wire_writer w;

    wire_writer_init(&w, entries + (size_t)LOG_CHUNK_BYTES * index, LOG_CHUNK_BYTES);
    wire_put_u32(&w, chunk->serial);
    wire_put_u32(&w, chunk->offset);
    wire_put_u32(&w, chunk->octets);
    wire_put_u32(&w, chunk->crc);
    wire_put_u16(&w, chunk->slot);
    wire_put_u16(&w, chunk->is_fresh ? CHUNK_IS_FRESH : 0);
    must(!w.failed);
}

void log_chunk_get(const uint8_t *entries, uint32_t index, struct log_chunk *ret_chunk)
{
    struct wire_reader r;

    wire_reader_init(&r, entries + (size_t)LOG_CHUNK_BYTES * index, LOG_CHUNK_BYTES);
    ret_chunk->serial = wire_get_u32(&r);
    ret_chunk->offset = wire_get_u32(&r);
    ret_chunk->octets = wire_get_u32(&r);
    ret_chunk->crc = wire_get_u32(&r);
    ret_chunk->slot = wire_get_u16(&r);
    ret_chunk->is_fresh = (wire_get_u16(&r) & CHUNK_IS_FRESH) != 0;
}

int log_commit_decode(struct slice payload, uint64_t content_octets, struct log_commit *ret_commit)
{
    struct log_commit commit;
    struct log_chunk chunk;
    struct wire_reader r;
    uint64_t octets = 0;

    wire_reader_init(&r, payload.data, payload.len);
    commit.chunk_count = wire_get_u32(&r);
    if (r.failed || commit.chunk_count > wire_left(&r) / LOG_CHUNK_BYTES)
        return E_DAMAGED;
    commit.chunks = wire_get_bytes(&r, (size_t)commit.chunk_count * LOG_CHUNK_BYTES).data;
    commit.rest = wire_get_bytes(&r, wire_left(&r));
    for (uint32_t i = 0; i < commit.chunk_count; i++) {
        log_chunk_get(commit.chunks, i, &chunk);
        if (chunk.octets == 0 || chunk.octets > LOG_CHUNK_OCTETS_MAX)
            return E_DAMAGED;
        octets += chunk.octets;
    }
    if (octets + commit.rest.len != content_octets)
        return E_DAMAGED;
    *ret_commit = commit;
    return 0;
}
