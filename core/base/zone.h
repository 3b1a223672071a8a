/*
 * zone: local time of a place, from the system's table of time zones (TZif, RFC 8536).
 *
 * libc knows one zone for a whole process, by a variable of its environment; this knows as many as
 * are loaded, is never altered afterwards and may be read by any thread. Seconds of UTC go in, days
 * (of the place, since 1970-01-01 there) and seconds of them come out. What the table does not
 * reach counts as its last entry; a file without a table for the years to come is refused (those of
 * Debian reach to 2037).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct zone_change {
    int64_t at_s;     /* UTC; from then on */
    int32_t offset_s; /* local time minus UTC */
};

#define ZONE_CHANGES_MAX 2048u

struct zone {
    int32_t first_offset_s; /* before the first change */
    uint32_t count;
    struct zone_change *changes; /* ascending */
};

/* UTC itself, which needs no file. */
void zone_init_utc(struct zone *zone);
/* 0, E_DAMAGED, or E_VERSION for one without a table. */
int zone_parse(struct zone *zone, const void *data, size_t len);
/* By its name ("Europe/Berlin"), from /usr/share/zoneinfo with plain system calls: at start-up and
 * reload only. Also E_UNKNOWN for what is no such name, or -errno. */
int zone_load(struct zone *zone, const char *name);
void zone_fini(struct zone *zone);

/* Day of the place; *ret_second (may be NULL): of that day, 0 … 86399, by the clock on the wall. */
int32_t zone_day(const struct zone *zone, int64_t utc_s, uint32_t *ret_second);
/* The first moment (UTC) at which the clock of the place shows that day and second or later. */
int64_t zone_moment(const struct zone *zone, int32_t day, uint32_t second);
