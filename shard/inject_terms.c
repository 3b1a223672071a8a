/* What a message's header says of when and how it is to be tried: x-schedule and x-ringpost-set. */
#include "core/base/err.h"
#include "shard/inject_int.h"

#define RETRY_MS_MAX (30ull * 86400000)

static const char bad_schedule[] =
    "x-schedule is not of the form START/END,... with times like 2026-01-31T08:00+01:00";

/* ---- Times ----------------------------------------------------------------------------------- */

/* So many digits off the front of *rest. */
static bool take_digits(struct slice *rest, size_t count, uint64_t max, uint64_t *ret_value)
{
    if (rest->len < count || slice_to_u64(slice_of(rest->data, count), max, ret_value) < 0)
        return false;
    *rest = slice_after(*rest, count);
    return true;
}

static bool take_octet(struct slice *rest, const char *one_of)
{
    if (rest->len == 0 || rest->data[0] == '\0' || !strchr(one_of, rest->data[0]))
        return false;
    *rest = slice_after(*rest, 1);
    return true;
}

/* Days since 1970 of a date in the Gregorian calendar; false when there is no such day. */
static bool days_of(uint64_t year, uint64_t month, uint64_t day, uint64_t *ret_days)
{
    static const uint16_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    uint64_t last = year - 1;

    if (year < 1970 || month < 1 || month > 12 || day < 1)
        return false;
    if (day > (uint64_t)(before[month] - before[month - 1]) + (is_leap && month == 2))
        return false;
    *ret_days = (year - 1970) * 365 + last / 4 - last / 100 + last / 400 - 477 + before[month - 1] +
                (is_leap && month > 2) + day - 1;
    return true;
}

/* "Z", "+01:00", "-0500". */
static bool take_zone(struct slice *rest, int64_t *ret_seconds)
{
    bool is_west = rest->len > 0 && rest->data[0] == '-';
    uint64_t hours, minutes;

    *ret_seconds = 0;
    if (take_octet(rest, "Zz"))
        return true;
    if (!take_octet(rest, "+-") || !take_digits(rest, 2, 14, &hours))
        return false;
    take_octet(rest, ":");
    if (!take_digits(rest, 2, 59, &minutes))
        return false;
    *ret_seconds = (int64_t)(hours * 3600 + minutes * 60) * (is_west ? -1 : 1);
    return true;
}

/* RFC 3339, seconds optional, a blank for the T allowed; or seconds since 1970. A time without its
 * zone would be somebody else's. */
static bool parse_moment(struct slice text, uint64_t *ret_us)
{
    uint64_t year, month, day, hour, minute, second = 0, days;
    int64_t zone;

    if (slice_to_u64(text, 253402300799ull, &second) == 0) {
        *ret_us = second * 1000000;
        return true;
    }
    second = 0;
    if (!take_digits(&text, 4, 9999, &year) || !take_octet(&text, "-") ||
        !take_digits(&text, 2, 12, &month) || !take_octet(&text, "-") ||
        !take_digits(&text, 2, 31, &day) || !take_octet(&text, "Tt ") ||
        !take_digits(&text, 2, 23, &hour) || !take_octet(&text, ":") ||
        !take_digits(&text, 2, 59, &minute))
        return false;
    if (take_octet(&text, ":") && !take_digits(&text, 2, 59, &second))
        return false;
    text = slice_trim(text);
    if (!take_zone(&text, &zone) || text.len > 0 || !days_of(year, month, day, &days))
        return false;
    *ret_us =
        (uint64_t)((int64_t)(((days * 24 + hour) * 60 + minute) * 60 + second) - zone) * 1000000;
    return days > 0;
}

/* ---- x-schedule ------------------------------------------------------------------------------ */

const char *inject_schedule_parse(struct slice value, uint64_t now_us, struct terms *terms)
{
    uint64_t last_us = 0;

    do {
        size_t end = slice_find(value, ',');
        struct slice item = slice_trim(slice_of(value.data, end));
        size_t slash = slice_find(item, '/');
        struct terms_window window;

        if (terms->window_count == TERMS_WINDOWS_MAX)
            return "x-schedule has more than 16 spans of time";
        if (slash == item.len ||
            !parse_moment(slice_trim(slice_of(item.data, slash)), &window.from_us) ||
            !parse_moment(slice_trim(slice_after(item, slash + 1)), &window.until_us))
            return bad_schedule;
        if (window.from_us >= window.until_us)
            return "a span of time in x-schedule ends before it begins";
        last_us = window.until_us > last_us ? window.until_us : last_us;
        terms->windows[terms->window_count++] = window;
        value = slice_after(value, end + (end < value.len));
    } while (value.len > 0);
    if (last_us <= now_us)
        return "what x-schedule says is past";
    if (terms->expires_us == 0 || last_us < terms->expires_us)
        terms->expires_us = last_us;
    return NULL;
}

/* ---- x-ringpost-set -------------------------------------------------------------------------- */

static const char *set_expiry(struct slice value, uint64_t now_us, struct terms *terms)
{
    uint64_t ms;

    if (!conf_parse_time(value, &ms) || ms < 1000 || ms > 366ull * 86400000)
        return "x-ringpost-set: expiry is a time from 1s to 366d";
    terms->expires_us = now_us + ms * 1000;
    return NULL;
}

static const char *set_retry(struct slice value, struct terms *terms)
{
    static const char why[] = "x-ringpost-set: retry is 1 to 16 times from 1s to 30d, with commas";
    struct slice item;
    uint64_t ms;

    while (conf_next_name(&value, &item)) {
        if (terms->retry_count == TERMS_RETRIES_MAX || !conf_parse_time(item, &ms) || ms < 1000 ||
            ms > RETRY_MS_MAX)
            return why;
        terms->retry_s[terms->retry_count++] = (uint32_t)(ms / 1000);
    }
    return terms->retry_count > 0 ? NULL : why;
}

static const char *set_way(struct slice value, struct inject_settings *settings)
{
    struct text room = text_in(settings->way_room, sizeof(settings->way_room));

    text_put(&room, value);
    if (room.is_cut || value.len == 0)
        return "x-ringpost-set: the name of the virtual MTA is missing or too long";
    settings->way = text_slice(&room);
    return NULL;
}

/* It asks for more than the queue does, never for less: the first two ask for nothing. */
static const char *set_tls(struct slice value, struct terms *terms)
{
    static const struct {
        const char *name;
        enum terms_tls tls;
    } levels[] = {
        {"none", TERMS_TLS_ANY},
        {"opportunistic", TERMS_TLS_ANY},
        {"required", TERMS_TLS_REQUIRED},
        {"verified", TERMS_TLS_VERIFIED},
    };

    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (slice_equal_nocase(value, slice_str(levels[i].name))) {
            terms->tls = levels[i].tls;
            return NULL;
        }
    }
    return "x-ringpost-set: tls is none, opportunistic, required or verified";
}

static const char *set_priority(struct slice value, struct inject_settings *settings)
{
    uint64_t priority;

    if (slice_to_u64(value, ENVELOPE_PRIORITY_MAX, &priority) < 0)
        return "x-ringpost-set: priority is a number from 0 to 100";
    settings->priority = (uint8_t)priority;
    return NULL;
}

static const char *set_one(struct slice key, struct slice value, unsigned allowed, uint64_t now_us,
                           struct inject_settings *settings)
{
    static const struct {
        const char *name;
        unsigned bits; /* one of them must be allowed */
    } keys[] = {
        {"expiry", CONF_SET_EXPIRY}, {"retry", CONF_SET_RETRY}, {"virtual-mta", CONF_SET_WAY},
        {"source", CONF_SET_WAY},    {"tls", CONF_SET_TLS},     {"priority", CONF_SET_PRIORITY},
    };
    size_t count = sizeof(keys) / sizeof(keys[0]), at = 0;

    while (at < count && !slice_equal_nocase(key, slice_str(keys[at].name)))
        at++;
    if (at == count)
        return "x-ringpost-set: there is no such setting";
    if ((allowed & keys[at].bits) == 0)
        return "x-ringpost-set: this source may not set that (allow-message-settings)";
    if (settings->seen & keys[at].bits)
        return NULL;
    settings->seen |= keys[at].bits;
    switch (keys[at].bits) {
    case CONF_SET_EXPIRY:
        return set_expiry(value, now_us, &settings->terms);
    case CONF_SET_RETRY:
        return set_retry(value, &settings->terms);
    case CONF_SET_TLS:
        return set_tls(value, &settings->terms);
    case CONF_SET_PRIORITY:
        return set_priority(value, settings);
    default:
        return set_way(value, settings);
    }
}

const char *inject_settings_parse(struct slice value, unsigned allowed, uint64_t now_us,
                                  struct inject_settings *settings)
{
    while (value.len > 0) {
        size_t end = slice_find(value, ';');
        struct slice item = slice_trim(slice_of(value.data, end));
        size_t equals = slice_find(item, '=');
        const char *why;

        value = slice_trim(slice_after(value, end + (end < value.len)));
        if (equals == item.len)
            return "x-ringpost-set is not of the form KEY=VALUE; ...";
        why = set_one(slice_trim(slice_of(item.data, equals)),
                      slice_trim(slice_after(item, equals + 1)), allowed, now_us, settings);
        if (why)
            return why;
    }
    return NULL;
}
