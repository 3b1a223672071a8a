#include "shard/heading.h"

#include "core/base/err.h"
#include "core/mail/header_scan.h"
#include "shard/shard_int.h"

/* A header is smaller, as a rule. */
#define FIRST_LOOK_BYTES 4096u

bool heading_is_edited(const struct queue *queue)
{
    return queue->settings.signing.removed != NULL;
}

bool heading_is_removed(const struct queue *queue, struct slice name)
{
    return conf_is_listed(queue->settings.signing.removed, name);
}

/* The header is whole in these octets, or they are the whole content. Returns how many are left. */
static uint32_t edit(const struct queue *queue, uint8_t *data, uint32_t octets)
{
    struct header_walk walk;
    struct header_field field;
    size_t kept = 0, behind = 0;

    /* Where the header ends these octets say, however many follow. */
    header_walk_init(&walk, slice_of(data, octets), true);
    while (header_walk_next(&walk, &field)) {
        /* Fields follow each other without a gap, and what is moved lies in front of the walk. */
        behind = field.offset + field.octets;
        if (heading_is_removed(queue, field.name))
            continue;
        if (kept < field.offset)
            memmove(data + kept, data + field.offset, field.octets);
        kept += field.octets;
    }
    if (kept < behind)
        memmove(data + kept, data + behind, octets - behind);
    return (uint32_t)(octets - behind + kept);
}

static bool has_whole_header(const uint8_t *data, uint32_t octets)
{
    struct header_edge edge = {0};

    return header_edge_find(&edge, slice_of(data, octets));
}

int heading_room(struct shard *shard, struct message_buffer *buffer, uint32_t bytes)
{
    struct message_buffer larger;

    if (buffer->size >= bytes)
        return 0;
    if (message_pool_owe(&shard->pool, bytes, &larger) < 0)
        return E_FULL;
    larger.used = buffer->used;
    if (buffer->used > 0)
        memcpy(larger.data, buffer->data, buffer->used);
    if (buffer->size > 0)
        message_pool_give(&shard->pool, buffer);
    *buffer = larger;
    return 0;
}

int heading_copy(struct delivery *delivery)
{
    const struct envelope *envelope = &delivery->message->envelope;
    uint32_t whole = envelope->prefix_bytes + envelope->body_bytes;
    struct heading *heading = &delivery->heading;
    struct message_buffer *octets = &heading->octets;
    uint32_t look = FIRST_LOOK_BYTES;

    if (whole == 0)
        return 0;
    do {
        look = look < whole ? look : whole;
        octets->used = 0;
        if (heading_room(delivery->shard, octets, look) < 0)
            return E_FULL;
        octets->used = (uint32_t)message_copy(
            delivery->message, delivery->message->payload_offset + envelope->encoded_bytes,
            octets->data, look);
        heading->replaced = octets->used;
        look *= 4;
    } while (heading->replaced < whole && !has_whole_header(octets->data, octets->used));
    return 0;
}

int heading_make(const struct queue *queue, struct delivery *delivery)
{
    struct message_buffer *octets = &delivery->heading.octets;

    if (heading_copy(delivery) < 0)
        return E_FULL;
    if (octets->used > 0)
        octets->used = edit(queue, octets->data, octets->used);
    return 0;
}

void heading_replace(struct delivery *delivery, const struct message_buffer *octets,
                     uint32_t replaced)
{
    heading_reset(delivery);
    delivery->heading.octets = *octets;
    delivery->heading.replaced = replaced;
    delivery->heading.is_signed = true;
}

bool heading_is_there(const struct delivery *delivery)
{
    return delivery->heading.replaced > 0 || delivery->heading.is_signed;
}

uint32_t heading_growth(const struct delivery *delivery)
{
    const struct heading *heading = &delivery->heading;

    return heading->is_signed && heading->octets.used > heading->replaced
               ? heading->octets.used - heading->replaced
               : 0;
}

void heading_free(struct delivery *delivery)
{
    heading_reset(delivery);
}

void heading_reset(struct delivery *delivery)
{
    if (delivery->heading.octets.size > 0)
        message_pool_give(&delivery->shard->pool, &delivery->heading.octets);
    delivery->heading = (struct heading){0};
}

uint32_t heading_content(const struct delivery *delivery, struct iovec *iov)
{
    const struct message_buffer *octets = &delivery->heading.octets;
    uint32_t count = message_content(delivery->message, iov + 1);
    size_t skip = delivery->heading.replaced;
    uint32_t to = 0;

    if (octets->used > 0)
        iov[to++] = (struct iovec){octets->data, octets->used};
    for (uint32_t from = 1; from <= count; from++) {
        size_t part = skip < iov[from].iov_len ? skip : iov[from].iov_len;

        skip -= part;
        if (part < iov[from].iov_len)
            iov[to++] =
                (struct iovec){(uint8_t *)iov[from].iov_base + part, iov[from].iov_len - part};
    }
    return to;
}

int heading_feed(const struct queue *queue, struct delivery *delivery, uint8_t *data,
                 uint32_t octets, bool is_last, struct iovec *ret_part)
{
    struct heading *heading = &delivery->heading;
    struct message_buffer *gathered = &heading->octets;

    *ret_part = (struct iovec){data, octets};
    if (heading->is_over)
        return 0;
    if (heading->replaced > 0 || (!is_last && !has_whole_header(data, octets))) {
        if (octets > HEADING_BYTES_MAX - gathered->used)
            return E_TOO_LONG;
        if (heading_room(delivery->shard, gathered, gathered->used + octets) < 0)
            return E_FULL;
        memcpy(gathered->data + gathered->used, data, octets);
        gathered->used += octets;
        heading->replaced += octets;
        *ret_part = (struct iovec){gathered->data, 0};
        if (!is_last && !has_whole_header(gathered->data, gathered->used))
            return 0;
        ret_part->iov_len = gathered->used;
    }
    heading->is_over = true;
    ret_part->iov_len = edit(queue, ret_part->iov_base, (uint32_t)ret_part->iov_len);
    return 0;
}

int heading_feed_signed(struct delivery *delivery, uint8_t *data, uint32_t octets,
                        struct iovec ret_parts[2])
{
    struct heading *heading = &delivery->heading;
    uint32_t left = heading->replaced - heading->skipped;
    uint32_t skip = octets < left ? octets : left;
    int count = 0;

    if (!heading->is_over)
        ret_parts[count++] = (struct iovec){heading->octets.data, heading->octets.used};
    heading->is_over = true;
    heading->skipped += skip;
    if (skip < octets)
        ret_parts[count++] = (struct iovec){data + skip, octets - skip};
    return count;
}
