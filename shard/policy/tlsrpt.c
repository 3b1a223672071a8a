#include "shard/policy/tlsrpt.h"

#include "core/base/hash.h"
#include "core/base/must.h"

/* A record in a batch: u64 count, u16 octets, then what tlsrpt_encode wrote. */
#define HEAD_BYTES 10u

_Static_assert(TLSRPT_BATCH_BYTES < UINT16_MAX, "a slot holds a place + 1");

const char *tlsrpt_type_text(enum tlsrpt_type type)
{
    static const char *const texts[] = {
#define TYPE_TEXT(name, text) [name] = text,
        TLSRPT_TYPES(TYPE_TEXT)
#undef TYPE_TEXT
    };

    must(type < TLSRPT_TYPE_COUNT);
    return texts[type];
}

const char *tlsrpt_result_text(enum tlsrpt_result result)
{
    static const char *const texts[] = {
#define RESULT_TEXT(name, text) [name] = text,
        TLSRPT_RESULTS(RESULT_TEXT)
#undef RESULT_TEXT
    };

    must(result < TLSRPT_RESULT_COUNT);
    return texts[result];
}

/* ---- Records --------------------------------------------------------------------------------- */

static struct slice cut(struct slice text, size_t bytes_max)
{
    return slice_of(text.data, text.len < bytes_max ? text.len : bytes_max);
}

/* Whole lines only: half a record would be another policy. */
static struct slice cut_lines(struct slice text)
{
    size_t len = TLSRPT_POLICY_MAX;

    if (text.len <= len)
        return text;
    while (len > 0 && text.data[len] != '\n')
        len--;
    return slice_of(text.data, len);
}

size_t tlsrpt_encode(const struct tlsrpt_count *count, uint8_t room[TLSRPT_RECORD_MAX])
{
    bool is_failure = count->result != TLSRPT_SUCCESS;
    bool has_host = is_failure || count->type == TLSRPT_TLSA;
    const struct ipaddr nobody = {.family = IPADDR_NONE};
    struct wire_writer w;

    wire_writer_init(&w, room, TLSRPT_RECORD_MAX);
    wire_put_u8(&w, count->type);
    wire_put_u8(&w, count->result);
    ipaddr_put(&w, is_failure ? &count->source : &nobody);
    wire_put_str8(&w, cut(count->domain, TLSRPT_NAME_MAX));
    wire_put_str8(&w, has_host ? cut(count->host, TLSRPT_NAME_MAX) : SLICE_EMPTY);
    wire_put_str8(&w, is_failure ? cut(count->reason, TLSRPT_REASON_MAX) : SLICE_EMPTY);
    wire_put_str16(&w, cut_lines(count->policy));
    must(!w.failed);
    return wire_written(&w);
}

void tlsrpt_decode(struct wire_reader *r, struct tlsrpt_count *ret_count)
{
    *ret_count = (struct tlsrpt_count){.type = wire_get_u8(r), .result = wire_get_u8(r)};
    ipaddr_get(r, &ret_count->source);
    ret_count->domain = wire_get_str8(r);
    ret_count->host = wire_get_str8(r);
    ret_count->reason = wire_get_str8(r);
    ret_count->policy = wire_get_str16(r);
    if (ret_count->type >= TLSRPT_TYPE_COUNT || ret_count->result >= TLSRPT_RESULT_COUNT)
        r->failed = true;
}

/* ---- Batches --------------------------------------------------------------------------------- */

void tlsrpt_batch_init(struct tlsrpt_batch *batch, int32_t day)
{
    batch->day = day;
    batch->used = 0;
    batch->record_count = 0;
    memset(batch->slots, 0, sizeof(batch->slots));
}

/* What stands at a place; the number's octets in *ret_number. */
static struct slice record_at(const struct tlsrpt_batch *batch, uint32_t place,
                              uint64_t *ret_number)
{
    struct wire_reader r;

    wire_reader_init(&r, batch->room + place, batch->used - place);
    *ret_number = wire_get_u64(&r);
    return wire_get_str16(&r);
}

static void put_number(struct tlsrpt_batch *batch, uint32_t place, uint64_t number)
{
    struct wire_writer w;

    wire_writer_init(&w, batch->room + place, sizeof(number));
    wire_put_u64(&w, number);
}

static bool append(struct tlsrpt_batch *batch, uint32_t slot, struct slice record, uint64_t number)
{
    struct wire_writer w;

    /* A quarter stays free, so that probing is short and always ends. */
    if (batch->record_count >= TLSRPT_SLOTS / 4 * 3 ||
        record.len + HEAD_BYTES > sizeof(batch->room) - batch->used)
        return false;
    wire_writer_init(&w, batch->room + batch->used, sizeof(batch->room) - batch->used);
    wire_put_u64(&w, number);
    wire_put_str16(&w, record);
    must(!w.failed);
    batch->slots[slot] = (uint16_t)(batch->used + 1);
    batch->used += (uint32_t)wire_written(&w);
    batch->record_count++;
    return true;
}

bool tlsrpt_batch_add(struct tlsrpt_batch *batch, const struct tlsrpt_count *count)
{
    uint8_t room[TLSRPT_RECORD_MAX];
    struct slice record = slice_of(room, tlsrpt_encode(count, room));
    uint32_t slot = (uint32_t)hash_bytes(record.data, record.len) % TLSRPT_SLOTS;
    uint64_t number;

    for (; batch->slots[slot] != 0; slot = (slot + 1) % TLSRPT_SLOTS) {
        uint32_t place = batch->slots[slot] - 1u;

        if (!slice_equal(record_at(batch, place, &number), record))
            continue;
        put_number(batch, place, number + count->count);
        return true;
    }
    return append(batch, slot, record, count->count);
}

bool tlsrpt_batch_next(const struct tlsrpt_batch *batch, uint32_t *place,
                       struct tlsrpt_count *ret_count)
{
    struct wire_reader r;
    struct slice record;
    uint64_t number;

    if (*place >= batch->used)
        return false;
    record = record_at(batch, *place, &number);
    wire_reader_init(&r, record.data, record.len);
    tlsrpt_decode(&r, ret_count);
    must(!r.failed);
    ret_count->count = number;
    *place += HEAD_BYTES + (uint32_t)record.len;
    return true;
}
