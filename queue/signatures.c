#include "queue/signatures.h"

#include "core/base/err.h"
#include "core/base/must.h"

/*
 * Encoding: u8 room for rules, u8 rules, u8 room for ids, u8 ids, u32 expiry, u64 for each rule and
 * each id that there is room for, u8 whether there are options, str16 options.
 */
#define FRONT_BYTES 8u

static void put_numbers(const uint64_t *numbers, uint32_t count, uint32_t room,
                        struct wire_writer *w)
{
    for (uint32_t i = 0; i < room; i++)
        wire_put_u64(w, i < count ? numbers[i] : 0);
}

void signatures_encode(const struct signatures *signatures, struct wire_writer *w)
{
    must(signatures->rule_count <= signatures->rule_room && signatures->count <= signatures->room);
    must(signatures->rule_room <= SIGNATURES_RULES_MAX && signatures->room <= SIGNATURES_COUNT_MAX);
    wire_put_u8(w, (uint8_t)signatures->rule_room);
    wire_put_u8(w, (uint8_t)signatures->rule_count);
    wire_put_u8(w, (uint8_t)signatures->room);
    wire_put_u8(w, (uint8_t)signatures->count);
    wire_put_u32(w, signatures->expires_s);
    put_numbers(signatures->rules, signatures->rule_count, signatures->rule_room, w);
    put_numbers(signatures->ids, signatures->count, signatures->room, w);
    wire_put_u8(w, signatures->has_options);
    wire_put_str16(w, signatures->options);
}

int signatures_decode(struct slice data, struct signatures *ret_signatures)
{
    struct signatures s = {0};
    struct wire_reader r;

    wire_reader_init(&r, data.data, data.len);
    s.rule_room = wire_get_u8(&r);
    s.rule_count = wire_get_u8(&r);
    s.room = wire_get_u8(&r);
    s.count = wire_get_u8(&r);
    s.expires_s = wire_get_u32(&r);
    if (s.rule_room > SIGNATURES_RULES_MAX || s.rule_count > s.rule_room ||
        s.room > SIGNATURES_COUNT_MAX || s.count > s.room)
        return E_DAMAGED;
    for (uint32_t i = 0; i < s.rule_room; i++)
        s.rules[i] = wire_get_u64(&r);
    for (uint32_t i = 0; i < s.room; i++)
        s.ids[i] = wire_get_u64(&r);
    s.has_options = wire_get_u8(&r) != 0;
    s.options = wire_get_str16(&r);
    if (r.failed || wire_left(&r) != 0)
        return E_DAMAGED;
    *ret_signatures = s;
    return 0;
}

bool signatures_hold(struct slice data, uint64_t rules, uint64_t now_s)
{
    struct wire_reader r;
    uint32_t expires_s;

    if (data.len == 0)
        return true;
    must(data.len > FRONT_BYTES);
    wire_reader_init(&r, data.data + sizeof(uint32_t), data.len - sizeof(uint32_t));
    expires_s = wire_get_u32(&r);
    if (expires_s > 0 && now_s >= expires_s)
        return false;
    for (uint8_t left = data.data[1]; left > 0; left--) {
        if (wire_get_u64(&r) == rules)
            return !r.failed;
    }
    return false;
}
