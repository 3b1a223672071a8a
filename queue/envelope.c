#include "queue/envelope.h"

#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/must.h"
#include "queue/signatures.h"
#include "queue/terms.h"

/*
 * Encoding: u32 bytes of the whole envelope, u8 version (1), u64 message id, u64 accepted_us,
 * u32 flags, u32 stuffed dots, u32 prefix bytes, u32 body bytes, u32 recipients, the two addresses
 * (u8 family, then 0, 4 or 16 bytes), seven str16 (sender, vmta, pool, job id, envelope id, source
 * type, client helo), u32 bytes of the recipient table, the table. A recipient: str16 address,
 * str16 orcpt, str8 host. The length comes first so that a reader knows how much of a record it
 * must fetch. Version 2 has str16 headers at the end and is written only where there are any;
 * version 3, of messages with terms, has str16 headers and str16 terms. Version 4, where NOTIFY or
 * RET was said, is like 3, and terms may be empty; the upper four bits of the length of an orcpt
 * are that recipient's NOTIFY. Version 5, of messages of users
 * who logged in, is like 4, with str16 user behind that. Version 6, of messages that say how they
 * were signed, is like 5, where the user may be empty, with str16 signatures behind that. Bits 8 to
 * 14 of the flags are one more than the priority, 0 for the normal one.
 */
#define ENVELOPE_VERSION         1
#define ENVELOPE_VERSION_HEADERS 2
#define ENVELOPE_VERSION_TERMS   3
#define ENVELOPE_VERSION_NOTIFY  4
#define ENVELOPE_VERSION_USER    5
#define ENVELOPE_VERSION_SIGNED  6
#define NOTIFY_SHIFT             12
#define PRIORITY_SHIFT           8
#define PRIORITY_MASK            0x7fu
#define ENVELOPE_FIXED_BYTES     (4 + 1 + 8 + 8 + 5 * 4 + 2 * 17 + 7 * 2 + 4 + 2 + 2 + 2 + 2)

void envelope_put_rcpt(struct wire_writer *w, const struct envelope_rcpt *rcpt)
{
    wire_put_str16(w, rcpt->address);
    must(rcpt->orcpt.len <= ENVELOPE_ORCPT_MAX && rcpt->notify < 16);
    wire_put_u16(w, (uint16_t)(rcpt->orcpt.len | (unsigned)rcpt->notify << NOTIFY_SHIFT));
    wire_put_bytes(w, rcpt->orcpt.data, rcpt->orcpt.len);
    wire_put_str8(w, rcpt->host);
}

/* As the flags have it. */
static uint32_t coded_priority(uint32_t flags)
{
    return flags >> PRIORITY_SHIFT & PRIORITY_MASK;
}

uint32_t envelope_priority_flags(uint8_t priority)
{
    must(priority <= ENVELOPE_PRIORITY_MAX);
    return priority == ENVELOPE_PRIORITY_NORMAL ? 0 : (priority + 1u) << PRIORITY_SHIFT;
}

uint8_t envelope_priority(const struct envelope *envelope)
{
    uint32_t coded = coded_priority(envelope->flags);

    return (uint8_t)(coded == 0 ? ENVELOPE_PRIORITY_NORMAL : coded - 1);
}

struct slice envelope_rcpt_host(const struct envelope_rcpt *rcpt)
{
    size_t at = rcpt->address.len;

    if (rcpt->host.len > 0)
        return rcpt->host;
    while (at > 0 && rcpt->address.data[at - 1] != '@')
        at--;
    return slice_after(rcpt->address, at);
}

uint32_t envelope_flow(const struct envelope *envelope)
{
    const struct slice *sender = &envelope->sender;
    uint64_t hash = hash_bytes(envelope->job_id.data, envelope->job_id.len);
    size_t at = sender->len;
    uint32_t flow;

    if (envelope->job_id.len == 0) {
        while (at > 0 && sender->data[at - 1] != '@')
            at--;
        hash = hash_combine(hash_bytes_nocase(sender->data + at, sender->len - at),
                            ipaddr_hash(&envelope->client_ip));
    }
    flow = (uint32_t)(hash ^ hash >> 32);
    return flow > 0 ? flow : 1;
}

bool envelope_rcpt_next(struct wire_reader *r, struct envelope_rcpt *ret_rcpt)
{
    struct envelope_rcpt rcpt;
    uint16_t orcpt;

    if (r->failed || wire_left(r) == 0)
        return false;
    rcpt.address = wire_get_str16(r);
    orcpt = wire_get_u16(r);
    rcpt.notify = (uint8_t)(orcpt >> NOTIFY_SHIFT);
    rcpt.orcpt = wire_get_bytes(r, orcpt & ENVELOPE_ORCPT_MAX);
    rcpt.host = wire_get_str8(r);
    if (r->failed)
        return false;
    *ret_rcpt = rcpt;
    return true;
}

size_t envelope_bytes_max(const struct envelope *envelope)
{
    return ENVELOPE_FIXED_BYTES + envelope->sender.len + envelope->vmta.len + envelope->pool.len +
           envelope->job_id.len + envelope->envelope_id.len + envelope->source_type.len +
           envelope->client_helo.len + envelope->rcpts.len + envelope->headers.len +
           envelope->terms.len + envelope->user.len + envelope->signatures.len;
}

static uint8_t version_of(const struct envelope *envelope)
{
    if (envelope->signatures.len > 0)
        return ENVELOPE_VERSION_SIGNED;
    if (envelope->user.len > 0)
        return ENVELOPE_VERSION_USER;
    if (envelope->flags & (ENVELOPE_NOTIFY | ENVELOPE_RETURN_SAID))
        return ENVELOPE_VERSION_NOTIFY;
    if (envelope->terms.len > 0)
        return ENVELOPE_VERSION_TERMS;
    return envelope->headers.len > 0 ? ENVELOPE_VERSION_HEADERS : ENVELOPE_VERSION;
}

void envelope_encode(const struct envelope *envelope, struct wire_writer *w)
{
    uint8_t *start = w->at;
    struct wire_writer front;
    size_t bytes;

    must(envelope->rcpt_count <= ENVELOPE_RCPT_COUNT_MAX);
    wire_put_u32(w, 0);
    wire_put_u8(w, version_of(envelope));
    wire_put_u64(w, envelope->message_id);
    wire_put_u64(w, envelope->accepted_us);
    wire_put_u32(w, envelope->flags);
    wire_put_u32(w, envelope->stuffed_dots);
    wire_put_u32(w, envelope->prefix_bytes);
    wire_put_u32(w, envelope->body_bytes);
    wire_put_u32(w, envelope->rcpt_count);
    ipaddr_put(w, &envelope->client_ip);
    ipaddr_put(w, &envelope->local_ip);
    wire_put_str16(w, envelope->sender);
    wire_put_str16(w, envelope->vmta);
    wire_put_str16(w, envelope->pool);
    wire_put_str16(w, envelope->job_id);
    wire_put_str16(w, envelope->envelope_id);
    wire_put_str16(w, envelope->source_type);
    wire_put_str16(w, envelope->client_helo);
    if (envelope->rcpts.len > UINT32_MAX)
        w->failed = true;
    wire_put_u32(w, (uint32_t)envelope->rcpts.len);
    wire_put_bytes(w, envelope->rcpts.data, envelope->rcpts.len);
    if (version_of(envelope) != ENVELOPE_VERSION)
        wire_put_str16(w, envelope->headers);
    if (version_of(envelope) >= ENVELOPE_VERSION_TERMS)
        wire_put_str16(w, envelope->terms);
    if (version_of(envelope) >= ENVELOPE_VERSION_USER)
        wire_put_str16(w, envelope->user);
    if (version_of(envelope) >= ENVELOPE_VERSION_SIGNED)
        wire_put_str16(w, envelope->signatures);
    if (w->failed)
        return;
    bytes = (size_t)(w->at - start);
    wire_writer_init(&front, start, sizeof(uint32_t));
    wire_put_u32(&front, (uint32_t)bytes);
}

void envelope_encode_counts(const struct envelope *envelope, struct wire_writer *w)
{
    /* Length, version, message id and time of acceptance stand in front and stay. */
    const size_t front_bytes = 4 + 1 + 8 + 8;

    if ((size_t)(w->end - w->at) < front_bytes + 4 * sizeof(uint32_t)) {
        w->failed = true;
        return;
    }
    w->at += front_bytes;
    wire_put_u32(w, envelope->flags);
    wire_put_u32(w, envelope->stuffed_dots);
    wire_put_u32(w, envelope->prefix_bytes);
    wire_put_u32(w, envelope->body_bytes);
}

/* The table must hold exactly the count it claims, or a walk would end early or late. */
static bool rcpts_fit(const struct envelope *envelope)
{
    struct wire_reader r;
    struct envelope_rcpt rcpt;
    uint32_t count = 0;

    wire_reader_init(&r, envelope->rcpts.data, envelope->rcpts.len);
    while (envelope_rcpt_next(&r, &rcpt))
        count++;
    return !r.failed && count == envelope->rcpt_count;
}

int envelope_decode(struct slice data, struct envelope *ret_envelope)
{
    struct envelope e = {0};
    struct wire_reader r;
    struct signatures signatures;
    struct terms terms;
    uint8_t version;

    wire_reader_init(&r, data.data, data.len);
    e.encoded_bytes = wire_get_u32(&r);
    if (r.failed || e.encoded_bytes > data.len || e.encoded_bytes < sizeof(uint32_t))
        return E_DAMAGED;
    wire_reader_init(&r, data.data + 4, e.encoded_bytes - 4);
    version = wire_get_u8(&r);
    if (version < ENVELOPE_VERSION || version > ENVELOPE_VERSION_SIGNED)
        return E_DAMAGED;
    e.message_id = wire_get_u64(&r);
    e.accepted_us = wire_get_u64(&r);
    e.flags = wire_get_u32(&r);
    e.stuffed_dots = wire_get_u32(&r);
    e.prefix_bytes = wire_get_u32(&r);
    e.body_bytes = wire_get_u32(&r);
    e.rcpt_count = wire_get_u32(&r);
    ipaddr_get(&r, &e.client_ip);
    ipaddr_get(&r, &e.local_ip);
    e.sender = wire_get_str16(&r);
    e.vmta = wire_get_str16(&r);
    e.pool = wire_get_str16(&r);
    e.job_id = wire_get_str16(&r);
    e.envelope_id = wire_get_str16(&r);
    e.source_type = wire_get_str16(&r);
    e.client_helo = wire_get_str16(&r);
    e.rcpts = wire_get_bytes(&r, wire_get_u32(&r));
    if (version != ENVELOPE_VERSION)
        e.headers = wire_get_str16(&r);
    if (version >= ENVELOPE_VERSION_TERMS)
        e.terms = wire_get_str16(&r);
    if (version >= ENVELOPE_VERSION_USER)
        e.user = wire_get_str16(&r);
    if (version >= ENVELOPE_VERSION_SIGNED)
        e.signatures = wire_get_str16(&r);
    if (r.failed || wire_left(&r) != 0)
        return E_DAMAGED;
    if (e.rcpt_count > ENVELOPE_RCPT_COUNT_MAX || !rcpts_fit(&e))
        return E_DAMAGED;
    if (coded_priority(e.flags) > ENVELOPE_PRIORITY_MAX + 1)
        return E_DAMAGED;
    if (e.terms.len > 0 && terms_decode(e.terms, &terms) < 0)
        return E_DAMAGED;
    if (e.signatures.len > 0 && signatures_decode(e.signatures, &signatures) < 0)
        return E_DAMAGED;
    if (e.stuffed_dots > (uint64_t)e.prefix_bytes + e.body_bytes)
        return E_DAMAGED;
    *ret_envelope = e;
    return 0;
}
