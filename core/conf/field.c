#include "core/conf/field.h"

#include "core/base/must.h"

static void store_bool(void *field, const struct value *value)
{
    *(bool *)field = value->number != 0;
}

static void store_u16(void *field, const struct value *value)
{
    *(uint16_t *)field = (uint16_t)value->number;
}

static void store_u32(void *field, const struct value *value)
{
    *(uint32_t *)field = (uint32_t)value->number;
}

static void store_u64(void *field, const struct value *value)
{
    *(uint64_t *)field = value->number;
}

static void store_text(void *field, const struct value *value)
{
    *(const char **)field = value->text;
}

/* The compound values fill neighbours too, so they go from the field back to its struct. */
#define QUEUE_OF(field, member)                                                                    \
    ((struct conf_queue *)((char *)(field)-offsetof(struct conf_queue, member)))

static void store_route(void *field, const struct value *value)
{
    struct conf_queue *queue = QUEUE_OF(field, route);
    const struct value_route *route = value->route;

    queue->route = route != NULL ? route->hosts : NULL;
    queue->route_count = route != NULL ? route->count : 0;
    queue->route_hash = route != NULL ? route->hash : 0;
}

static void store_retry(void *field, const struct value *value)
{
    struct conf_queue *queue = QUEUE_OF(field, retry_ms);

    must(value->number >= 1 && value->number <= CONF_RETRY_STEPS_MAX);
    memcpy(queue->retry_ms, value->times, value->number * sizeof(*value->times));
    queue->retry_count = (uint32_t)value->number;
}

static void store_rcpt_retry(void *field, const struct value *value)
{
    struct conf_queue *queue = QUEUE_OF(field, rcpt_retry_ms);

    queue->rcpt_retry_ms = value->times;
    queue->rcpt_retry_count = value->times != NULL ? (uint32_t)value->number : 0;
}

static void store_backoff_retry(void *field, const struct value *value)
{
    struct conf_queue *queue = QUEUE_OF(field, backoff_retry_ms);

    must(value->number >= 1 && value->number <= CONF_RETRY_STEPS_MAX);
    memcpy(queue->backoff_retry_ms, value->times, value->number * sizeof(*value->times));
    queue->backoff_retry_count = (uint32_t)value->number;
}

static void store_no_mx(void *field, const struct value *value)
{
    struct conf_queue *queue = QUEUE_OF(field, bounce_upon_no_mx);

    queue->bounce_upon_no_mx = value->number != 0;
    queue->bounce_upon_no_mx_after_ms = value->interval_ms;
}

static void store_rate(void *field, const struct value *value)
{
    *(struct conf_rate *)field =
        (struct conf_rate){value->number, value->interval_ms, value->burst};
}

static void store_certificate(void *field, const struct value *value)
{
    *(const struct conf_certificate **)field = value->certificate;
}

static void store_authorities(void *field, const struct value *value)
{
    *(const struct conf_authorities **)field = value->authorities;
}

typedef void store_fn(void *field, const struct value *value);

static store_fn *const stores[STORE_COUNT] = {
    [STORE_BOOL] = store_bool,
    [STORE_U16] = store_u16,
    [STORE_U32] = store_u32,
    [STORE_U64] = store_u64,
    [STORE_TEXT] = store_text,
    [STORE_ROUTE] = store_route,
    [STORE_RETRY] = store_retry,
    [STORE_NO_MX] = store_no_mx,
    [STORE_RATE] = store_rate,
    [STORE_RCPT_RETRY] = store_rcpt_retry,
    [STORE_BACKOFF_RETRY] = store_backoff_retry,
    [STORE_CERTIFICATE] = store_certificate,
    [STORE_USER_CERTIFICATE] = store_certificate,
    [STORE_AUTHORITIES] = store_authorities,
    [STORE_CIPHERS] = store_text,
};

bool field_is_set_by(const struct directive *row)
{
    return stores[row->store] != NULL;
}

void field_store(void *target, const struct directive *row, const struct value *value)
{
    must(field_is_set_by(row));
    stores[row->store]((char *)target + row->offset, value);
}

static size_t plain_bytes(enum directive_store store)
{
    switch (store) {
    case STORE_BOOL:
        return sizeof(bool);
    case STORE_U16:
        return sizeof(uint16_t);
    case STORE_U32:
        return sizeof(uint32_t);
    case STORE_U64:
        return sizeof(uint64_t);
    case STORE_CERTIFICATE:
    case STORE_USER_CERTIFICATE:
    case STORE_AUTHORITIES:
    case STORE_CIPHERS:
        return sizeof(void *);
    default:
        must(false);
        return 0;
    }
}

static const char *text_of(const void *struct_, const struct directive *row)
{
    return *(const char *const *)((const char *)struct_ + row->offset);
}

bool field_is_equal(const void *a, const void *b, const struct directive *row)
{
    if (row->store == STORE_TEXT) {
        const char *text = text_of(a, row), *other = text_of(b, row);

        return text == NULL || other == NULL ? text == other : strcmp(text, other) == 0;
    }
    return memcmp((const char *)a + row->offset, (const char *)b + row->offset,
                  plain_bytes(row->store)) == 0;
}

void field_take(void *target, const void *from, const struct directive *row, struct arena *arena)
{
    if (row->store == STORE_TEXT) {
        const char *text = text_of(from, row);

        *(const char **)((char *)target + row->offset) =
            text != NULL ? arena_strdup(arena, text) : NULL;
        return;
    }
    memcpy((char *)target + row->offset, (const char *)from + row->offset, plain_bytes(row->store));
}

void field_store_presets(void *target, enum scope scope, const struct value *presets)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(scope)) != 0 && field_is_set_by(row))
            field_store(target, row, &presets[i]);
    }
}
