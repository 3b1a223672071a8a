/* Reading messages back: descriptors by slot, and the check of what came. */
#include "core/base/crc32c.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include "queue/spool_int.h"

#include <errno.h>

/*
 * A slot's file stays the same for a whole life of the spool (a file that is unlinked takes its
 * slot with it), so a descriptor once opened is right for every later use of the slot.
 */
struct spool_reader {
    struct io *io;
    int *fds; /* by slot, plus 1; 0 = not open */
    uint32_t slots;
    const struct spool *spool;
};

struct spool_reader *spool_reader_create(struct io *io, const struct spool *spool)
{
    struct spool_reader *reader = mem_alloc(sizeof(*reader));

    reader->io = io;
    reader->spool = spool;
    return reader;
}

void spool_reader_destroy(struct spool_reader *reader)
{
    if (reader == NULL)
        return;
    for (uint32_t i = 0; i < reader->slots; i++) {
        if (reader->fds[i] != 0)
            io_close_now(reader->io, reader->fds[i] - 1);
    }
    mem_free(reader->fds);
    mem_free(reader);
}

static int reader_grow(struct spool_reader *reader, uint16_t slot)
{
    uint32_t slots = reader->slots == 0 ? 64 : reader->slots;
    int *fds;

    while (slots <= slot)
        slots *= 2;
    fds = mem_try_alloc(slots * sizeof(*fds));
    if (fds == NULL)
        return -ENOMEM;
    if (reader->slots > 0)
        memcpy(fds, reader->fds, reader->slots * sizeof(*fds));
    mem_free(reader->fds);
    reader->fds = fds;
    reader->slots = slots;
    return 0;
}

int spool_reader_fd(struct spool_reader *reader, const struct log_place *place)
{
    char path[SPOOL_PATH_MAX + 32];
    const struct segpool *pool;
    int result = 0;
    int fd;

    if (place->slot >= reader->slots)
        result = reader_grow(reader, place->slot);
    if (result < 0)
        return result;
    if (reader->fds[place->slot] != 0)
        return reader->fds[place->slot] - 1;
    pool = spool_pool_of_slot(reader->spool, place->slot);
    if (pool == NULL)
        return E_NOT_FOUND;
    segpool_path(pool, place->slot, path);
    result = io_file_open(reader->io, path, IO_FILE_READ, &fd);
    if (result < 0)
        return result;
    reader->fds[place->slot] = fd + 1;
    return fd;
}

/* The first len bytes of scattered ones; false when there are fewer. */
static bool gather(const struct iovec *iov, uint32_t iov_count, uint8_t *room, size_t len)
{
    for (uint32_t i = 0; i < iov_count && len > 0; i++) {
        size_t piece = iov[i].iov_len < len ? iov[i].iov_len : len;

        memcpy(room, iov[i].iov_base, piece);
        room += piece;
        len -= piece;
    }
    return len == 0;
}

int spool_reader_check(const struct log_place *place, uint64_t message_id, const struct iovec *iov,
                       uint32_t iov_count)
{
    /* Header, then of the envelope its length, version and message id. */
    uint8_t front[SEGFMT_RECORD_BYTES + 4 + 1 + 8];
    size_t skip = SEGFMT_RECORD_BYTES;
    enum record_type type = place->large > 0 ? RECORD_COMMIT : RECORD_MESSAGE;
    struct wire_reader r;
    uint64_t total = 0;
    uint32_t crc;

    for (uint32_t i = 0; i < iov_count; i++)
        total += iov[i].iov_len;
    if (total < place->bytes || !gather(iov, iov_count, front, sizeof(front)))
        return E_DAMAGED;
    wire_reader_init(&r, front, sizeof(front));
    if (wire_get_u32(&r) != SEGFMT_MAGIC_RECORD || wire_get_u8(&r) != type)
        return E_DAMAGED;
    wire_get_bytes(&r, 3);
    if (wire_get_u32(&r) != place->bytes - SEGFMT_RECORD_BYTES || wire_get_u32(&r) != place->serial)
        return E_DAMAGED;
    wire_get_bytes(&r, 12);
    crc = segfmt_record_head_crc(front);
    total = place->bytes;
    for (uint32_t i = 0; i < iov_count && total > 0; i++) {
        size_t len = iov[i].iov_len < total ? iov[i].iov_len : (size_t)total;
        size_t from = skip < len ? skip : len;

        crc = crc32c(crc, (const uint8_t *)iov[i].iov_base + from, len - from);
        skip -= from;
        total -= len;
    }
    if (wire_get_u32(&r) != crc)
        return E_DAMAGED;
    wire_get_bytes(&r, 5);
    return wire_get_u64(&r) == message_id ? 0 : E_DAMAGED;
}
