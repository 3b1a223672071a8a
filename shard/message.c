#include "shard/message.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

static const uint32_t class_bytes[MESSAGE_BUFFER_CLASSES] = {4096, 16384, 65536, 262144};

void message_pool_init(struct message_pool *pool, uint64_t bytes_max, uint32_t message_count_max)
{
    *pool = (struct message_pool){.bytes_max = bytes_max, .bytes_soft = bytes_max / 4 * 3};
    slab_init(&pool->messages, sizeof(struct message), message_count_max);
    for (int i = 0; i < MESSAGE_BUFFER_CLASSES; i++) {
        uint64_t count = bytes_max / class_bytes[i];

        slab_init(&pool->buffers[i], class_bytes[i],
                  count < 16               ? 16
                  : count > UINT32_MAX / 2 ? UINT32_MAX / 2
                                           : (uint32_t)count);
    }
}

void message_pool_fini(struct message_pool *pool)
{
    for (int i = 0; i < MESSAGE_BUFFER_CLASSES; i++)
        slab_fini(&pool->buffers[i]);
    slab_fini(&pool->messages);
}

struct message *message_alloc(struct message_pool *pool)
{
    uint32_t index;
    struct message *message = slab_alloc(&pool->messages, &index);

    if (!message)
        return NULL;
    message->pool = pool;
    message->index = index;
    return message;
}

void message_pool_give(struct message_pool *pool, struct message_buffer *buffer)
{
    must(pool->bytes_used >= buffer->size);
    pool->bytes_used -= buffer->size;
    if (buffer->class == MESSAGE_BUFFER_CLASSES)
        mem_free(buffer->data);
    else
        slab_free(&pool->buffers[buffer->class], buffer->index);
}

void message_free(struct message *message)
{
    if (!message)
        return;
    for (uint32_t i = 0; i < message->buffer_count; i++)
        message_pool_give(message->pool, &message->buffers[i]);
    message->pool->is_overdrawn &= !message->has_overdrawn;
    slab_free(&message->pool->messages, message->index);
}

static int take(struct message_pool *pool, struct message_buffer *buffer, uint8_t class,
                uint32_t size)
{
    *buffer = (struct message_buffer){.size = size, .class = class};
    /* Only messages far above the usual size come to the heap. */
    buffer->data = class < MESSAGE_BUFFER_CLASSES
                       ? slab_alloc_unset(&pool->buffers[class], &buffer->index)
                       : mem_try_alloc(size);
    if (!buffer->data)
        return E_FULL;
    pool->bytes_used += size;
    return 0;
}

static int add_buffer(struct message *message, uint8_t class, uint32_t size)
{
    int result = take(message->pool, &message->buffers[message->buffer_count], class, size);

    message->buffer_count += result == 0;
    return result;
}

/* The class of a buffer with room for min_bytes, and its size. */
static uint8_t class_of(uint32_t min_bytes, uint32_t *ret_size)
{
    uint8_t class = 0;

    while (class < MESSAGE_BUFFER_CLASSES && class_bytes[class] < min_bytes)
        class ++;
    *ret_size = class < MESSAGE_BUFFER_CLASSES ? class_bytes[class] : min_bytes;
    return class;
}

int message_buffer_add(struct message *message, uint32_t min_bytes)
{
    const struct message_pool *pool = message->pool;
    uint32_t size;
    uint8_t class = class_of(min_bytes, &size);

    if (message->buffer_count == MESSAGE_IOV_MAX)
        return E_TOO_LONG;
    if (pool->bytes_used + size > pool->bytes_max)
        return E_FULL;
    return add_buffer(message, class, size);
}

int message_pool_take(struct message_pool *pool, uint32_t min_bytes,
                      struct message_buffer *ret_buffer)
{
    uint32_t size;
    uint8_t class = class_of(min_bytes, &size);

    if (pool->bytes_used + size > pool->bytes_max)
        return E_FULL;
    return take(pool, ret_buffer, class, size);
}

int message_buffer_need(struct message *message, uint32_t min_bytes)
{
    struct message_pool *pool = message->pool;
    int result = message_buffer_add(message, min_bytes);
    uint32_t size;
    uint8_t class = class_of(min_bytes, &size);

    if (result != E_FULL || (pool->is_overdrawn && !message->has_overdrawn))
        return result;
    result = add_buffer(message, class, size);
    if (result == 0) {
        message->has_overdrawn = true;
        pool->is_overdrawn = true;
    }
    return result;
}

int message_pool_owe(struct message_pool *pool, uint32_t min_bytes,
                     struct message_buffer *ret_buffer)
{
    uint32_t size;
    uint8_t class = class_of(min_bytes, &size);
    int result = take(pool, ret_buffer, class, size);

    return result == 0 ? 0 : take(pool, ret_buffer, MESSAGE_BUFFER_CLASSES, size);
}

int message_buffer_owe(struct message *message, uint32_t min_bytes)
{
    int result =
        message_pool_owe(message->pool, min_bytes, &message->buffers[message->buffer_count]);

    message->buffer_count += result == 0;
    return result;
}

void message_buffers_drop(struct message *message, uint32_t first, uint32_t count)
{
    must(first + count <= message->buffer_count);
    for (uint32_t i = first; i < first + count; i++)
        message_pool_give(message->pool, &message->buffers[i]);
    message->buffer_count -= count;
    memmove(&message->buffers[first], &message->buffers[first + count],
            (message->buffer_count - first) * sizeof(message->buffers[0]));
}

int message_append(struct message *message, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        struct message_buffer *last =
            message->buffer_count ? &message->buffers[message->buffer_count - 1] : NULL;
        uint32_t room = last ? last->size - last->used : 0;
        size_t part = len < room ? len : room;

        if (part == 0) {
            /* Each buffer is four times the one before, up to a chunk. */
            uint64_t next = last ? (uint64_t)last->size * 4 : class_bytes[0];
            int result = message_buffer_add(
                message, next > LOG_CHUNK_OCTETS_MAX ? LOG_CHUNK_OCTETS_MAX : (uint32_t)next);

            if (result < 0)
                return result;
            continue;
        }
        memcpy(last->data + last->used, from, part);
        last->used += (uint32_t)part;
        message->bytes += (uint32_t)part;
        from += part;
        len -= part;
    }
    return 0;
}

uint32_t message_payload(struct message *message)
{
    uint32_t skip = message->payload_offset;

    for (uint32_t i = 0; i < message->buffer_count; i++) {
        message->payload[i] =
            (struct iovec){message->buffers[i].data + skip, message->buffers[i].used - skip};
        skip = 0;
    }
    return message->buffer_count;
}

uint32_t message_content(const struct message *message, struct iovec *iov)
{
    uint32_t skip = message->payload_offset + message->envelope.encoded_bytes;
    uint32_t count = 0;

    must(message->buffer_count > 0 && skip <= message->buffers[0].used);
    for (uint32_t i = 0; i < message->buffer_count; i++) {
        const struct message_buffer *buffer = &message->buffers[i];

        if (buffer->used > skip)
            iov[count++] = (struct iovec){buffer->data + skip, buffer->used - skip};
        skip = 0;
    }
    return count;
}

size_t message_copy(const struct message *message, size_t offset, uint8_t *room, size_t room_bytes)
{
    size_t copied = 0;

    for (uint32_t i = 0; i < message->buffer_count && copied < room_bytes; i++) {
        const struct message_buffer *buffer = &message->buffers[i];
        size_t part;

        if (offset >= buffer->used) {
            offset -= buffer->used;
            continue;
        }
        part = buffer->used - offset;
        if (part > room_bytes - copied)
            part = room_bytes - copied;
        memcpy(room + copied, buffer->data + offset, part);
        copied += part;
        offset = 0;
    }
    return copied;
}

void message_overwrite(struct message *message, size_t offset, const void *data, size_t len)
{
    const uint8_t *from = data;

    for (uint32_t i = 0; i < message->buffer_count && len > 0; i++) {
        struct message_buffer *buffer = &message->buffers[i];
        size_t part;

        if (offset >= buffer->used) {
            offset -= buffer->used;
            continue;
        }
        part = buffer->used - offset < len ? buffer->used - offset : len;
        memcpy(buffer->data + offset, from, part);
        from += part;
        len -= part;
        offset = 0;
    }
    must(len == 0);
}
