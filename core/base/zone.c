#include "core/base/zone.h"

#include "core/base/err.h"
#include "core/base/mem.h"

#include <errno.h>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define DIRECTORY    "/usr/share/zoneinfo"
#define FILE_MAX     65536
#define DAY_S        86400
#define HEADER_BYTES 44
#define TYPE_BYTES   6
#define OFFSET_MAX_S (26 * 3600)
#define NEEDED_UNTIL                                                                               \
    2145916800 /* 2038-01-01: a table that has changes ends there at the earliest,                 \
                  less the half-year since the last one */
#define HALF_YEAR_S (200ll * DAY_S)

void zone_init_utc(struct zone *zone)
{
    *zone = (struct zone){0};
}

void zone_fini(struct zone *zone)
{
    mem_free(zone->changes);
    *zone = (struct zone){0};
}

/* ---- The file -------------------------------------------------------------------------------- */

struct counts {
    uint32_t utc_marks, std_marks, leaps, times, types, letters;
};

struct bytes {
    const uint8_t *data;
    size_t len;
};

static uint64_t big_endian(const uint8_t *data, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | data[i];
    return value;
}

/* Takes a header; its version, or negative. */
static int take_header(struct bytes *rest, struct counts *counts)
{
    uint32_t *fields[] = {&counts->utc_marks, &counts->std_marks, &counts->leaps,
                          &counts->times,     &counts->types,     &counts->letters};
    int version;

    if (rest->len < HEADER_BYTES || memcmp(rest->data, "TZif", 4) != 0)
        return E_DAMAGED;
    version = rest->data[4];
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        *fields[i] = (uint32_t)big_endian(rest->data + 20 + i * 4, 4);
        if (*fields[i] > FILE_MAX)
            return E_DAMAGED;
    }
    rest->data += HEADER_BYTES;
    rest->len -= HEADER_BYTES;
    return version;
}

static size_t body_bytes(const struct counts *counts, size_t time_bytes)
{
    return counts->times * (time_bytes + 1) + counts->types * TYPE_BYTES + counts->letters +
           counts->leaps * (time_bytes + 4) + counts->std_marks + counts->utc_marks;
}

static int read_body(struct zone *zone, const uint8_t *data, const struct counts *counts)
{
    const uint8_t *numbers = data + counts->times * 8, *types = numbers + counts->times;

    if (counts->types == 0 || counts->times > ZONE_CHANGES_MAX)
        return E_DAMAGED;
    zone->first_offset_s = (int32_t)big_endian(types, 4);
    zone->changes = mem_alloc((counts->times + 1) * sizeof(*zone->changes));
    for (uint32_t i = 0; i < counts->times; i++) {
        struct zone_change *change = &zone->changes[i];

        if (numbers[i] >= counts->types)
            return E_DAMAGED;
        change->at_s = (int64_t)big_endian(data + i * 8, 8);
        change->offset_s = (int32_t)big_endian(types + numbers[i] * TYPE_BYTES, 4);
        if (change->offset_s > OFFSET_MAX_S || change->offset_s < -OFFSET_MAX_S ||
            (i > 0 && change->at_s <= zone->changes[i - 1].at_s))
            return E_DAMAGED;
        zone->count++;
    }
    return 0;
}

/* Behind the table stands a rule for the time after; one with a comma changes twice a year. */
static bool reaches_far(const struct zone *zone, struct bytes rule)
{
    int64_t last_s = zone->count > 0 ? zone->changes[zone->count - 1].at_s : INT64_MIN;

    return memchr(rule.data, ',', rule.len) == NULL || last_s >= NEEDED_UNTIL - HALF_YEAR_S;
}

int zone_parse(struct zone *zone, const void *data, size_t len)
{
    struct bytes rest = {data, len};
    struct counts counts;
    size_t bytes;
    int result = take_header(&rest, &counts);

    *zone = (struct zone){0};
    if (result < 0)
        return result;
    bytes = body_bytes(&counts, 4);
    if (result < '2')
        return E_VERSION;
    if (bytes > rest.len)
        return E_DAMAGED;
    rest.data += bytes;
    rest.len -= bytes;
    result = take_header(&rest, &counts);
    if (result >= 0 && body_bytes(&counts, 8) > rest.len)
        result = E_DAMAGED;
    if (result >= 0)
        result = read_body(zone, rest.data, &counts);
    bytes = result >= 0 ? body_bytes(&counts, 8) : 0;
    if (result >= 0 && !reaches_far(zone, (struct bytes){rest.data + bytes, rest.len - bytes}))
        result = E_VERSION;
    if (result < 0)
        zone_fini(zone);
    return result < 0 ? result : 0;
}

/* Names lead nowhere but below the folder. */
static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789+-_/";

    return *name != '\0' && *name != '/' && strlen(name) < 64 &&
           name[strspn(name, letters)] == '\0';
}

int zone_load(struct zone *zone, const char *name)
{
    char path[sizeof(DIRECTORY) + 65];
    uint8_t *data;
    ssize_t len;
    int fd, result;

    if (!is_name(name))
        return E_UNKNOWN;
    snprintf(path, sizeof(path), DIRECTORY "/%s", name);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return errno == ENOENT ? E_UNKNOWN : -errno;
    data = mem_alloc(FILE_MAX);
    len = read(fd, data, FILE_MAX);
    result = len < 0 ? -errno : zone_parse(zone, data, (size_t)len);
    mem_free(data);
    close(fd);
    return result;
}

/* ---- Days ------------------------------------------------------------------------------------ */

static int32_t offset_at(const struct zone *zone, int64_t utc_s)
{
    uint32_t low = 0, high = zone->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (zone->changes[middle].at_s <= utc_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? zone->first_offset_s : zone->changes[low - 1].offset_s;
}

int32_t zone_day(const struct zone *zone, int64_t utc_s, uint32_t *ret_second)
{
    int64_t local_s = utc_s + offset_at(zone, utc_s);
    int64_t day = local_s / DAY_S - (local_s % DAY_S < 0);

    if (ret_second != NULL)
        *ret_second = (uint32_t)(local_s - day * DAY_S);
    return (int32_t)day;
}

int64_t zone_moment(const struct zone *zone, int32_t day, uint32_t second)
{
    int64_t local_s = (int64_t)day * DAY_S + second;
    int64_t low = local_s - OFFSET_MAX_S, high = local_s + OFFSET_MAX_S;

    /* The clock on the wall jumps, so it is asked for the first change after which it is late
     * enough, or for the moment before that. */
    for (uint32_t i = 0; i <= zone->count; i++) {
        int64_t from_s = i == 0 ? INT64_MIN : zone->changes[i - 1].at_s;
        int64_t until_s = i < zone->count ? zone->changes[i].at_s : INT64_MAX;
        int32_t offset_s = i == 0 ? zone->first_offset_s : zone->changes[i - 1].offset_s;
        int64_t moment_s = local_s - offset_s;

        if (until_s < low || from_s > high)
            continue;
        if (moment_s < from_s)
            return from_s;
        if (moment_s < until_s)
            return moment_s;
    }
    return local_s - offset_at(zone, local_s);
}
