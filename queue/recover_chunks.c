/* Live messages in chunks: what their commit records name. */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/recover.h"

#include <errno.h>

int recover_record(struct recover *recover, const struct recover_message *message, uint8_t **room,
                   size_t *room_bytes)
{
    struct log_place place = {message->serial, message->offset, message->bytes, message->slot,
                              message->large};
    uint64_t from = message->offset & ~(uint64_t)(SEGFMT_BLOCK - 1);
    uint64_t len = segfmt_align((uint64_t)message->offset + message->bytes, SEGFMT_BLOCK) - from;
    struct iovec iov;
    int64_t got;

    if (*room_bytes < len) {
        mem_free(*room);
        *room_bytes = len * 2;
        *room = mem_alloc_aligned(*room_bytes, SEGFMT_BLOCK);
    }
    got = recover_read(recover->spool->io, recover->spool->segments[message->slot].fd, *room, len,
                       from, recover->report);
    if (got < (int64_t)(message->offset - from + message->bytes))
        return got < 0 ? (int)got : E_DAMAGED;
    memmove(*room, *room + (message->offset - from), message->bytes);
    iov = (struct iovec){*room, message->bytes};
    return spool_reader_check(&place, message->id, &iov, 1);
}

static int read_commit(struct recover *recover, struct recover_message *message,
                       struct log_commit *ret_commit)
{
    struct envelope envelope;
    struct slice payload;
    uint64_t content;
    int result = recover_record(recover, message, &recover->record, &recover->record_room);

    if (result < 0)
        return result;
    payload = slice_of(recover->record + SEGFMT_RECORD_BYTES, message->bytes - SEGFMT_RECORD_BYTES);
    result = envelope_decode(payload, &envelope);
    if (result < 0)
        return result;
    content = (uint64_t)envelope.prefix_bytes + envelope.body_bytes;
    message->large = log_large_of(content);
    return log_commit_decode(slice_after(payload, envelope.encoded_bytes), content, ret_commit);
}

/* The segments of all chunks are there. */
static bool chunks_are_there(struct recover *recover, const struct log_commit *commit)
{
    struct log_chunk chunk;

    for (uint32_t i = 0; i < commit->chunk_count; i++) {
        const struct segment *segment;

        log_chunk_get(commit->chunks, i, &chunk);
        segment = recover_segment(recover, chunk.serial);
        if (segment == NULL || segment->stream != STREAM_MESSAGES)
            return false;
    }
    return true;
}

/* 0 or -ENOMEM. */
static int keep_chunks(struct recover *recover, const struct recover_message *message,
                       const struct log_commit *commit)
{
    struct chunkbook *book = &recover->spool->chunks;
    uint32_t entry = chunkbook_enter(book, message->id);
    struct log_chunk chunk;

    if (entry == CHUNKBOOK_NONE)
        return -ENOMEM;
    chunkbook_place(book, entry, message->serial, message->offset);
    for (uint32_t i = 0; i < commit->chunk_count; i++) {
        struct segment *segment;

        log_chunk_get(commit->chunks, i, &chunk);
        segment = recover_segment(recover, chunk.serial);
        if (segment == NULL || segment->stream != STREAM_MESSAGES)
            continue;
        chunk.slot = segment->slot;
        if (!chunkbook_add(book, entry, &chunk))
            return -ENOMEM;
        segment->live++;
        segment->live_bytes += SEGFMT_RECORD_BYTES + LOG_CHUNK_HEAD_BYTES + chunk.octets;
    }
    return 0;
}

int recover_chunks(struct recover *recover, struct recover_message *message)
{
    struct log_commit commit;

    if (read_commit(recover, message, &commit) < 0) {
        recover_damage(recover, message->slot, message->offset,
                       "a commit record cannot be read: its message is lost");
        return 0;
    }
    if (!chunks_are_there(recover, &commit)) {
        message->is_done = recover->is_fallback;
        if (message->is_done)
            return 0;
        recover_damage(recover, message->slot, message->offset,
                       "a chunk lies in a segment that is missing: its message is lost");
    }
    return keep_chunks(recover, message, &commit);
}
