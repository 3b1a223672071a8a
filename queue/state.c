/* Codecs of what clients put into the outcome stream besides outcomes: named and message state. */
#include "queue/state.h"
#include "core/base/err.h"
#include "core/base/must.h"
#include "queue/envelope.h"

#define NAMED_KEY_MAX   255
#define NAMED_VALUE_MAX 1024

enum rcpt_bits {
    RCPT_FINAL = 1,
    RCPT_HAS_DOMAIN = 2, /* else the same as the recipient before */
    RCPT_TRIED = 4,      /* attempts and due time follow */
};

int log_named_encode(const struct log_named *named, void *room, size_t room_bytes)
{
    struct wire_writer w;

    if (named->key.len == 0 || named->key.len > NAMED_KEY_MAX || named->value.len > NAMED_VALUE_MAX)
        return E_RANGE;
    wire_writer_init(&w, room, room_bytes);
    wire_put_str8(&w, named->key);
    wire_put_str16(&w, named->value);
    return w.failed ? E_TOO_LONG : (int)wire_written(&w);
}

int log_named_decode(struct slice data, struct log_named *ret_named)
{
    struct log_named named;
    struct wire_reader r;

    wire_reader_init(&r, data.data, data.len);
    named.key = wire_get_str8(&r);
    named.value = wire_get_str16(&r);
    if (r.failed || wire_left(&r) != 0 || named.key.len == 0 || named.value.len > NAMED_VALUE_MAX)
        return E_DAMAGED;
    *ret_named = named;
    return 0;
}

void log_state_rcpt_put(struct wire_writer *w, const struct log_state_rcpt *rcpt)
{
    bool tried = !rcpt->is_final && (rcpt->attempts > 0 || rcpt->due_us > 0);
    uint8_t bits = 0;

    if (rcpt->is_final)
        bits |= RCPT_FINAL;
    if (rcpt->domain.len > 0)
        bits |= RCPT_HAS_DOMAIN;
    if (tried)
        bits |= RCPT_TRIED;
    wire_put_u8(w, bits);
    if (rcpt->domain.len > 0)
        wire_put_str8(w, rcpt->domain);
    if (tried) {
        wire_put_u16(w, rcpt->attempts);
        wire_put_u64(w, rcpt->due_us);
    }
}

bool log_state_rcpt_next(struct wire_reader *r, struct log_state_rcpt *ret_rcpt)
{
    struct log_state_rcpt rcpt = {.domain = SLICE_EMPTY};
    uint8_t bits;

    if (r->failed || wire_left(r) == 0)
        return false;
    bits = wire_get_u8(r);
    if ((bits & ~(RCPT_FINAL | RCPT_HAS_DOMAIN | RCPT_TRIED)) != 0)
        r->failed = true;
    if ((bits & RCPT_HAS_DOMAIN) != 0)
        rcpt.domain = wire_get_str8(r);
    if ((bits & RCPT_TRIED) != 0) {
        rcpt.attempts = wire_get_u16(r);
        rcpt.due_us = wire_get_u64(r);
    }
    rcpt.is_final = (bits & RCPT_FINAL) != 0;
    if (r->failed)
        return false;
    *ret_rcpt = rcpt;
    return true;
}

/* In the bytes of a place: u16 large follows its slot. */
#define PLACE_IS_LARGE 0x80000000u

static void place_put(struct wire_writer *w, const struct log_place *place)
{
    wire_put_u32(w, place->serial);
    wire_put_u32(w, place->offset);
    wire_put_u32(w, place->bytes | (place->large > 0 ? PLACE_IS_LARGE : 0));
    wire_put_u16(w, place->slot);
    if (place->large > 0)
        wire_put_u16(w, place->large);
}

static void place_get(struct wire_reader *r, struct log_place *ret_place)
{
    ret_place->serial = wire_get_u32(r);
    ret_place->offset = wire_get_u32(r);
    ret_place->bytes = wire_get_u32(r);
    ret_place->slot = wire_get_u16(r);
    ret_place->large = 0;
    if ((ret_place->bytes & PLACE_IS_LARGE) == 0)
        return;
    ret_place->bytes &= ~PLACE_IS_LARGE;
    ret_place->large = wire_get_u16(r);
    if (ret_place->large == 0)
        r->failed = true;
}

/* u64 message id, u64 accepted_us, u32 serial, u32 offset, u32 bytes, u16 slot (and, with the
 * highest bit of bytes, u16 large), str16 vmta, u32 recipients, u32 bytes of the table, the table,
 * u32 flow (absent in logs of earlier versions); where the message says itself when it expires, or
 * has another priority than the normal one, u64 its expiry, or 0; then its priority in u8. */
int log_message_state_encode(const struct log_message_state *state, void *room, size_t room_bytes)
{
    struct wire_writer w;

    if (state->rcpts.len > UINT32_MAX)
        return E_TOO_LONG;
    wire_writer_init(&w, room, room_bytes);
    wire_put_u64(&w, state->message_id);
    wire_put_u64(&w, state->accepted_us);
    place_put(&w, &state->place);
    wire_put_str16(&w, state->vmta);
    wire_put_u32(&w, state->rcpt_count);
    wire_put_u32(&w, (uint32_t)state->rcpts.len);
    wire_put_bytes(&w, state->rcpts.data, state->rcpts.len);
    wire_put_u32(&w, state->flow);
    if (state->expires_us > 0 || state->priority != ENVELOPE_PRIORITY_NORMAL)
        wire_put_u64(&w, state->expires_us);
    if (state->priority != ENVELOPE_PRIORITY_NORMAL)
        wire_put_u8(&w, state->priority);
    return w.failed ? E_TOO_LONG : (int)wire_written(&w);
}

int log_message_state_decode(struct slice data, struct log_message_state *ret_state)
{
    struct log_message_state state;
    struct log_state_rcpt rcpt;
    struct wire_reader r;
    uint32_t count = 0;

    wire_reader_init(&r, data.data, data.len);
    state.message_id = wire_get_u64(&r);
    state.accepted_us = wire_get_u64(&r);
    place_get(&r, &state.place);
    state.vmta = wire_get_str16(&r);
    state.rcpt_count = wire_get_u32(&r);
    state.rcpts = wire_get_bytes(&r, wire_get_u32(&r));
    state.flow = !r.failed && wire_left(&r) > 0 ? wire_get_u32(&r) : 0;
    state.expires_us = !r.failed && wire_left(&r) > 0 ? wire_get_u64(&r) : 0;
    state.priority =
        !r.failed && wire_left(&r) > 0 ? wire_get_u8(&r) : (uint8_t)ENVELOPE_PRIORITY_NORMAL;
    if (r.failed || wire_left(&r) != 0 || state.priority > ENVELOPE_PRIORITY_MAX)
        return E_DAMAGED;
    wire_reader_init(&r, state.rcpts.data, state.rcpts.len);
    while (log_state_rcpt_next(&r, &rcpt))
        count++;
    if (r.failed || count != state.rcpt_count)
        return E_DAMAGED;
    *ret_state = state;
    return 0;
}
