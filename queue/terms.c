#include "queue/terms.h"

#include "core/base/err.h"
#include "core/base/must.h"

/*
 * Encoding: for each thing that is said one octet that names it and its value. Expiry: u64.
 * Windows: u8 count, then u64 from and u64 until of each. Waits: u8 count, then u32 seconds of
 * each. TLS: u8.
 */
enum terms_tag {
    TERMS_EXPIRES = 1,
    TERMS_WINDOWS = 2,
    TERMS_RETRIES = 3,
    TERMS_TLS = 4,
};

uint64_t terms_next_us(const struct terms *terms, uint64_t now_us)
{
    uint64_t next_us = terms->window_count > 0 ? TERMS_NEVER : now_us;

    for (uint32_t i = 0; i < terms->window_count; i++) {
        const struct terms_window *window = &terms->windows[i];
        uint64_t from_us = now_us > window->from_us ? now_us : window->from_us;

        if (from_us < window->until_us && from_us < next_us)
            next_us = from_us;
    }
    return terms->expires_us > 0 && next_us >= terms->expires_us ? TERMS_NEVER : next_us;
}

void terms_encode(const struct terms *terms, struct wire_writer *w)
{
    must(terms->window_count <= TERMS_WINDOWS_MAX && terms->retry_count <= TERMS_RETRIES_MAX);
    if (terms->expires_us > 0) {
        wire_put_u8(w, TERMS_EXPIRES);
        wire_put_u64(w, terms->expires_us);
    }
    if (terms->window_count > 0) {
        wire_put_u8(w, TERMS_WINDOWS);
        wire_put_u8(w, (uint8_t)terms->window_count);
    }
    for (uint32_t i = 0; i < terms->window_count; i++) {
        wire_put_u64(w, terms->windows[i].from_us);
        wire_put_u64(w, terms->windows[i].until_us);
    }
    if (terms->retry_count > 0) {
        wire_put_u8(w, TERMS_RETRIES);
        wire_put_u8(w, (uint8_t)terms->retry_count);
    }
    for (uint32_t i = 0; i < terms->retry_count; i++)
        wire_put_u32(w, terms->retry_s[i]);
    if (terms->tls != TERMS_TLS_ANY) {
        wire_put_u8(w, TERMS_TLS);
        wire_put_u8(w, (uint8_t)terms->tls);
    }
}

static bool get_windows(struct wire_reader *r, struct terms *terms)
{
    terms->window_count = wire_get_u8(r);
    if (terms->window_count == 0 || terms->window_count > TERMS_WINDOWS_MAX)
        return false;
    for (uint32_t i = 0; i < terms->window_count; i++) {
        terms->windows[i].from_us = wire_get_u64(r);
        terms->windows[i].until_us = wire_get_u64(r);
        if (terms->windows[i].from_us >= terms->windows[i].until_us)
            return false;
    }
    return true;
}

static bool get_retries(struct wire_reader *r, struct terms *terms)
{
    terms->retry_count = wire_get_u8(r);
    if (terms->retry_count == 0 || terms->retry_count > TERMS_RETRIES_MAX)
        return false;
    for (uint32_t i = 0; i < terms->retry_count; i++)
        terms->retry_s[i] = wire_get_u32(r);
    return true;
}

static bool get_tls(struct wire_reader *r, struct terms *terms)
{
    uint8_t tls = wire_get_u8(r);

    terms->tls = (enum terms_tls)tls;
    return tls == TERMS_TLS_REQUIRED || tls == TERMS_TLS_VERIFIED;
}

int terms_decode(struct slice data, struct terms *ret_terms)
{
    struct terms terms = {0};
    struct wire_reader r;
    bool is_right = true;

    wire_reader_init(&r, data.data, data.len);
    while (is_right && !r.failed && wire_left(&r) > 0) {
        switch (wire_get_u8(&r)) {
        case TERMS_EXPIRES:
            terms.expires_us = wire_get_u64(&r);
            break;
        case TERMS_WINDOWS:
            is_right = get_windows(&r, &terms);
            break;
        case TERMS_RETRIES:
            is_right = get_retries(&r, &terms);
            break;
        case TERMS_TLS:
            is_right = get_tls(&r, &terms);
            break;
        default:
            is_right = false;
        }
    }
    if (!is_right || r.failed)
        return E_DAMAGED;
    *ret_terms = terms;
    return 0;
}
