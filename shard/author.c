#include "shard/author.h"

#include "core/mail/header_scan.h"
#include "shard/message.h"

/* A From that stands behind so much of the header is not looked for. */
#define LOOK_OCTETS 16384u

/* What stands behind the last '@' of an address, whether or not that is in angle brackets. */
static struct slice domain_of(struct slice address)
{
    size_t at = address.len;

    while (at > 0 && address.data[at - 1] != '@')
        at--;
    return at > 0 ? slice_after(address, at) : SLICE_EMPTY;
}

struct slice author_mailbox(struct slice from)
{
    bool is_quoted = false;
    size_t open = from.len;
    size_t brackets = 0;
    size_t commas = 0;

    for (size_t i = 0; i < from.len; i++) {
        uint8_t octet = from.data[i];

        if (is_quoted && octet == '\\')
            i++;
        else if (octet == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && octet == ',')
            commas++;
        else if (!is_quoted && octet == '<' && ++brackets > 0)
            open = i + 1;
    }
    if (brackets > 1 || commas > 0)
        return SLICE_EMPTY;
    from = brackets == 1 ? slice_after(from, open) : from;
    from.len = slice_find(from, brackets == 1 ? '>' : ' ');
    return from;
}

struct slice author_of_from(struct slice from)
{
    return domain_of(author_mailbox(from));
}

static struct slice lower_case(struct slice name, uint8_t room[AUTHOR_BYTES_MAX])
{
    return slice_lower(
        slice_of(name.data, name.len < AUTHOR_BYTES_MAX ? name.len : AUTHOR_BYTES_MAX), room);
}

struct slice author_of(const struct message *message, uint8_t room[AUTHOR_BYTES_MAX])
{
    size_t skip = message->payload_offset + message->envelope.encoded_bytes;
    uint8_t header[LOOK_OCTETS];
    size_t len = message_copy(message, skip, header, sizeof(header));
    struct slice domain = SLICE_EMPTY;
    struct header_walk walk;
    struct header_field field;
    uint32_t count = 0;

    header_walk_init(&walk, slice_of(header, len), len < sizeof(header));
    while (header_walk_next(&walk, &field)) {
        if (!slice_equal_nocase(field.name, SLICE_LITERAL("from")))
            continue;
        count++;
        domain = author_of_from(field.value);
    }
    return lower_case(count == 1 && domain.len > 0 ? domain : domain_of(message->envelope.sender),
                      room);
}
