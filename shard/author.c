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

/* What is seen of a From outside of its comments. */
struct from_look {
    size_t open;  /* behind the bracket that opens; 0 = there is none */
    size_t close; /* the one that closes; 0 likewise */
    size_t start; /* of the first word */
    size_t end;
    uint32_t words;
    bool is_odd; /* several addresses, or something behind the one in brackets */
};

static void look_at(struct from_look *look, uint8_t octet, size_t at, bool is_quoted)
{
    bool is_white = !is_quoted && header_is_white(octet);

    look->is_odd |= look->close > 0 && !is_white;
    if (!is_quoted && octet == ',')
        look->is_odd = true;
    else if (!is_quoted && octet == '<' && look->open == 0)
        look->open = at + 1;
    else if (!is_quoted && octet == '<')
        look->is_odd = true;
    else if (!is_quoted && octet == '>')
        look->close = at;
    if (is_white)
        return;
    if (look->words == 0 || look->end < at) {
        look->words++;
        look->start = look->words == 1 ? at : look->start;
    }
    look->end = at + 1;
}

struct slice author_mailbox(struct slice from)
{
    struct from_look look = {0};
    bool is_quoted = false;
    unsigned depth = 0;

    for (size_t i = 0; i < from.len; i++) {
        uint8_t octet = from.data[i];
        bool is_comment = depth > 0 || (!is_quoted && octet == '(');

        if (is_comment)
            depth = depth + (octet == '(') - (octet == ')');
        else if (octet == '"')
            is_quoted = !is_quoted;
        if (!is_comment)
            look_at(&look, octet, i, is_quoted || octet == '"');
        i += (is_quoted || is_comment) && octet == '\\';
    }
    if (look.is_odd)
        return SLICE_EMPTY;
    if (look.open > 0)
        return look.close > look.open ? slice_of(from.data + look.open, look.close - look.open)
                                      : SLICE_EMPTY;
    return look.words == 1 ? slice_of(from.data + look.start, look.end - look.start) : SLICE_EMPTY;
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
