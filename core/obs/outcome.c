#include "core/obs/outcome.h"

#include "core/base/err.h"
#include "core/base/wire.h"

/*
 * Encoding: u8 version (1), u8 kind, u8 flags, u16 attempts, u32 recipient ordinal, u64 message id,
 * due, logged, queued, size, the two addresses (u8 family, then 0, 4 or 16 bytes), then the slices
 * in the order of the struct, each as str16. Version 2 has u64 first attempt and str16 headers
 * behind that, and is written only where one of them is there; version 3 has str16 user behind
 * these, version 4 str16 protocol and cipher of TLS behind that.
 */
#define OUTCOME_VERSION       1
#define OUTCOME_VERSION_EXTRA 2
#define OUTCOME_VERSION_USER  3
#define OUTCOME_VERSION_TLS   4

static struct slice cut(struct slice text)
{
    if (text.len > OUTCOME_TEXT_MAX)
        text.len = OUTCOME_TEXT_MAX;
    return text;
}

static bool kind_is_known(uint8_t kind)
{
    return kind == OUTCOME_DELIVERED || kind == OUTCOME_BOUNCED || kind == OUTCOME_TRANSIENT ||
           kind == OUTCOME_RECEIVED;
}

int outcome_encode(const struct outcome *o, void *room, size_t room_bytes)
{
    struct wire_writer w;
    size_t behind_bytes;
    bool has_tls = o->tls_protocol.len > 0;
    bool has_user = o->user.len > 0 || has_tls;
    bool has_extra = o->first_attempt_us != 0 || o->headers.len > 0 || has_user;

    wire_writer_init(&w, room, room_bytes < OUTCOME_BYTES_MAX ? room_bytes : OUTCOME_BYTES_MAX);
    wire_put_u8(&w, has_tls     ? OUTCOME_VERSION_TLS
                    : has_user  ? OUTCOME_VERSION_USER
                    : has_extra ? OUTCOME_VERSION_EXTRA
                                : OUTCOME_VERSION);
    wire_put_u8(&w, o->kind);
    wire_put_u8(&w, o->flags);
    wire_put_u16(&w, o->attempts);
    wire_put_u32(&w, o->rcpt_ordinal);
    wire_put_u64(&w, o->message_id);
    wire_put_u64(&w, o->due_us);
    wire_put_u64(&w, o->logged_us);
    wire_put_u64(&w, o->queued_us);
    wire_put_u64(&w, o->size_bytes);
    ipaddr_put(&w, &o->source_ip);
    ipaddr_put(&w, &o->destination_ip);
    wire_put_str16(&w, o->orig);
    wire_put_str16(&w, o->rcpt);
    wire_put_str16(&w, o->orcpt);
    wire_put_str16(&w, cut(o->status));
    wire_put_str16(&w, cut(o->diag));
    wire_put_str16(&w, cut(o->dsn_mta));
    wire_put_str16(&w, cut(o->bounce_category));
    wire_put_str16(&w, cut(o->source_type));
    wire_put_str16(&w, cut(o->source_mta));
    wire_put_str16(&w, cut(o->esmtp));
    wire_put_str16(&w, cut(o->vmta));
    wire_put_str16(&w, cut(o->pool));
    wire_put_str16(&w, cut(o->job_id));
    wire_put_str16(&w, cut(o->envelope_id));
    wire_put_str16(&w, cut(o->queue));
    if (has_extra) {
        wire_put_u64(&w, o->first_attempt_us);
        /* The rest is what recovery needs; these are left out where there is too little room. */
        behind_bytes = (has_user ? 2 + o->user.len : 0) +
                       (has_tls ? 4 + cut(o->tls_protocol).len + cut(o->tls_cipher).len : 0);
        wire_put_str16(&w, (size_t)(w.end - w.at) < 2 + o->headers.len + behind_bytes ? SLICE_EMPTY
                                                                                      : o->headers);
        if (has_user)
            wire_put_str16(&w, o->user);
        if (has_tls) {
            wire_put_str16(&w, cut(o->tls_protocol));
            wire_put_str16(&w, cut(o->tls_cipher));
        }
    }
    return w.failed ? E_TOO_LONG : (int)wire_written(&w);
}

int outcome_decode(struct slice data, struct outcome *ret_outcome)
{
    struct outcome o = {0};
    struct wire_reader r;
    uint8_t version;

    wire_reader_init(&r, data.data, data.len);
    version = wire_get_u8(&r);
    if (version < OUTCOME_VERSION || version > OUTCOME_VERSION_TLS)
        return E_DAMAGED;
    o.kind = wire_get_u8(&r);
    o.flags = wire_get_u8(&r);
    o.attempts = wire_get_u16(&r);
    o.rcpt_ordinal = wire_get_u32(&r);
    o.message_id = wire_get_u64(&r);
    o.due_us = wire_get_u64(&r);
    o.logged_us = wire_get_u64(&r);
    o.queued_us = wire_get_u64(&r);
    o.size_bytes = wire_get_u64(&r);
    ipaddr_get(&r, &o.source_ip);
    ipaddr_get(&r, &o.destination_ip);
    o.orig = wire_get_str16(&r);
    o.rcpt = wire_get_str16(&r);
    o.orcpt = wire_get_str16(&r);
    o.status = wire_get_str16(&r);
    o.diag = wire_get_str16(&r);
    o.dsn_mta = wire_get_str16(&r);
    o.bounce_category = wire_get_str16(&r);
    o.source_type = wire_get_str16(&r);
    o.source_mta = wire_get_str16(&r);
    o.esmtp = wire_get_str16(&r);
    o.vmta = wire_get_str16(&r);
    o.pool = wire_get_str16(&r);
    o.job_id = wire_get_str16(&r);
    o.envelope_id = wire_get_str16(&r);
    o.queue = wire_get_str16(&r);
    if (version >= OUTCOME_VERSION_EXTRA) {
        o.first_attempt_us = wire_get_u64(&r);
        o.headers = wire_get_str16(&r);
        if (version >= OUTCOME_VERSION_USER)
            o.user = wire_get_str16(&r);
        if (version == OUTCOME_VERSION_TLS) {
            o.tls_protocol = wire_get_str16(&r);
            o.tls_cipher = wire_get_str16(&r);
        }
    }
    if (r.failed || wire_left(&r) != 0 || !kind_is_known(o.kind))
        return E_DAMAGED;
    *ret_outcome = o;
    return 0;
}
