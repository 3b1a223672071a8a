#include "net/dns_answer.h"

#include "core/base/err.h"

#define LABEL_MAX     63
#define MX_PREFERENCE 2 /* bytes in front of the exchange */
#define RECORD_HEAD   2 /* length in front of each record */
#define WIRE_NAME_MAX 255
#define TLSA_HEAD     3 /* usage, selector, matching type */

/* ---- Names --------------------------------------------------------------------------------- */

/* The byte in lower case, or 0 when it has no place in a label. */
static uint8_t label_byte(uint8_t byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return byte | 0x20;
    if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_')
        return byte;
    return 0;
}

int dns_name_normalise(struct slice name, char *room)
{
    size_t label_len = 0;

    if (name.len > 0 && name.data[name.len - 1] == '.')
        name.len--;
    if (name.len > DNS_NAME_MAX)
        return E_TOO_LONG;
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = name.data[i];

        if (byte == '.') {
            if (label_len == 0)
                return E_SYNTAX;
            label_len = 0;
        } else {
            byte = label_byte(byte);
            if (byte == 0 || ++label_len > LABEL_MAX)
                return E_SYNTAX;
        }
        room[i] = (char)byte;
    }
    if (label_len == 0)
        return E_SYNTAX;
    room[name.len] = '\0';
    return (int)name.len;
}

/* A name of a message, labels with their lengths, into text; the root is "". Negative when wrong.
 */
static int name_from_wire(struct slice wire, char *room)
{
    size_t at = 0;
    size_t used = 0;

    if (wire.len == 0 || wire.len > WIRE_NAME_MAX)
        return E_SYNTAX;
    while (wire.data[at] != 0) {
        size_t len = wire.data[at++];

        /* A pointer has no meaning outside its message, and could loop. */
        if (len > LABEL_MAX || at + len >= wire.len)
            return E_SYNTAX;
        if (used > 0)
            room[used++] = '.';
        /* A dot within a label would make another name of it. */
        if (memchr(wire.data + at, '.', len) != NULL)
            return E_SYNTAX;
        memcpy(room + used, wire.data + at, len);
        used += len;
        at += len;
    }
    if (at + 1 != wire.len)
        return E_SYNTAX;
    if (used == 0) {
        room[0] = '\0';
        return 0;
    }
    return dns_name_normalise(slice_of(room, used), room);
}

/* ---- Records ------------------------------------------------------------------------------- */

/* A name in the form that dns_name_normalise makes. */
static bool is_good_name(struct slice name)
{
    char room[DNS_NAME_MAX + 1];
    int len = dns_name_normalise(name, room);

    return len >= 0 && slice_equal(slice_of(room, (size_t)len), name);
}

static bool is_good_mx(struct slice rdata)
{
    if (rdata.len < MX_PREFERENCE)
        return false;
    rdata = dns_mx_exchange(rdata);
    return rdata.len == 0 || is_good_name(rdata);
}

static bool is_good(uint16_t type, struct slice rdata)
{
    switch (type) {
    case DNS_A:
        return rdata.len == 4;
    case DNS_AAAA:
        return rdata.len == 16;
    case DNS_MX:
        return is_good_mx(rdata);
    case DNS_TLSA:
        return rdata.len > TLSA_HEAD;
    case DNS_CNAME:
    case DNS_PTR:
        return is_good_name(rdata);
    case DNS_TXT:
        return true;
    default:
        return false;
    }
}

static bool has_room(const struct dns_query *answer, size_t len)
{
    return answer->record_count < DNS_RECORD_COUNT_MAX &&
           len + RECORD_HEAD <= (size_t)(DNS_DATA_MAX - answer->data_bytes);
}

/* The bytes may be those of the answer itself, at this place or behind it. */
static void append(struct dns_query *answer, struct slice rdata)
{
    uint8_t *at = answer->data + answer->data_bytes;

    memmove(at + RECORD_HEAD, rdata.data, rdata.len);
    at[0] = (uint8_t)(rdata.len & 0xff);
    at[1] = (uint8_t)(rdata.len >> 8);
    answer->data_bytes = (uint16_t)(answer->data_bytes + RECORD_HEAD + rdata.len);
    answer->record_count++;
}

bool dns_answer_put(struct dns_query *answer, struct slice rdata)
{
    if (!is_good(answer->type, rdata) || !has_room(answer, rdata.len))
        return false;
    append(answer, rdata);
    return true;
}

static bool put_wire_mx(struct dns_query *answer, struct slice rdata)
{
    uint8_t record[MX_PREFERENCE + DNS_NAME_MAX + 1];
    int len;

    if (rdata.len < MX_PREFERENCE)
        return false;
    len = name_from_wire(slice_after(rdata, MX_PREFERENCE), (char *)record + MX_PREFERENCE);
    if (len < 0)
        return false;
    memcpy(record, rdata.data, MX_PREFERENCE);
    return dns_answer_put(answer, slice_of(record, MX_PREFERENCE + (size_t)len));
}

static bool put_wire_name(struct dns_query *answer, struct slice rdata)
{
    char name[DNS_NAME_MAX + 1];
    int len = name_from_wire(rdata, name);

    return len > 0 && dns_answer_put(answer, slice_of(name, (size_t)len));
}

/* RFC 1035 3.3.14: strings with their lengths. What they say together counts (RFC 7208 3.3). */
static bool put_wire_text(struct dns_query *answer, struct slice rdata)
{
    uint8_t joined[DNS_DATA_MAX];
    size_t used = 0;

    while (rdata.len > 0) {
        size_t len = rdata.data[0];

        if (len >= rdata.len || used + len > sizeof(joined))
            return false;
        memcpy(joined + used, rdata.data + 1, len);
        used += len;
        rdata = slice_after(rdata, 1 + len);
    }
    return dns_answer_put(answer, slice_of(joined, used));
}

bool dns_answer_put_wire(struct dns_query *answer, struct slice rdata)
{
    switch (answer->type) {
    case DNS_MX:
        return put_wire_mx(answer, rdata);
    case DNS_CNAME:
    case DNS_PTR:
        return put_wire_name(answer, rdata);
    case DNS_TXT:
        return put_wire_text(answer, rdata);
    default:
        return dns_answer_put(answer, rdata);
    }
}

/* False at the end, or where lengths make no sense. */
bool dns_records_next(struct slice data, uint16_t *cursor, struct slice *ret_rdata)
{
    size_t left = *cursor <= data.len ? data.len - *cursor : 0;
    const uint8_t *at = data.data + *cursor;
    size_t len;

    if (left < RECORD_HEAD)
        return false;
    len = (size_t)at[0] | (size_t)at[1] << 8;
    if (len > left - RECORD_HEAD)
        return false;
    *ret_rdata = slice_of(at + RECORD_HEAD, len);
    *cursor = (uint16_t)(*cursor + RECORD_HEAD + len);
    return true;
}

bool dns_record_next(const struct dns_query *answer, uint16_t *cursor, struct slice *ret_rdata)
{
    return dns_records_next(slice_of(answer->data, answer->data_bytes), cursor, ret_rdata);
}

void dns_answer_check(struct dns_query *answer)
{
    uint16_t bytes = answer->data_bytes <= DNS_DATA_MAX ? answer->data_bytes : DNS_DATA_MAX;
    uint16_t cursor = 0;
    struct slice rdata;

    /* Good records move up to the front: the writer never overtakes the reader. */
    answer->record_count = 0;
    answer->data_bytes = 0;
    while (answer->status == DNS_OK &&
           dns_records_next(slice_of(answer->data, bytes), &cursor, &rdata))
        dns_answer_put(answer, rdata);
    if (answer->status > DNS_TIMEOUT || (answer->status == DNS_OK && answer->record_count == 0))
        answer->status = DNS_FAILURE;
}

uint16_t dns_mx_preference(struct slice rdata)
{
    return (uint16_t)(rdata.data[0] << 8 | rdata.data[1]);
}

struct slice dns_mx_exchange(struct slice rdata)
{
    return slice_after(rdata, MX_PREFERENCE);
}
