/* Days of places: changes of the clock, days of 23 and 25 hours, files that are damaged. */
#include "core/base/zone.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_S 3600

static struct zone berlin;

static int load(void **state)
{
    return zone_load(&berlin, "Europe/Berlin");
}

static int unload(void **state)
{
    zone_fini(&berlin);
    return 0;
}

static int64_t utc(const char *text)
{
    struct tm tm = {0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    return timegm(&tm);
}

static int32_t day_of(const char *date)
{
    char text[32];

    snprintf(text, sizeof(text), "%s 00:00:00", date);
    return (int32_t)(utc(text) / 86400);
}

static void utc_needs_no_file(void **state)
{
    struct zone zone;
    uint32_t second;

    zone_init_utc(&zone);
    assert_int_equal(zone_day(&zone, 86399, &second), 0);
    assert_int_equal(second, 86399);
    assert_int_equal(zone_day(&zone, -1, &second), -1);
    assert_int_equal(second, 86399);
    assert_int_equal(zone_moment(&zone, 3, 5), 3 * 86400 + 5);
    zone_fini(&zone);
}

static void days_have_their_hours(void **state)
{
    int32_t spring = day_of("2026-03-29"), autumn = day_of("2026-10-25");

    assert_int_equal(zone_moment(&berlin, spring, 0), utc("2026-03-28 23:00:00"));
    assert_int_equal(zone_moment(&berlin, spring + 1, 0) - zone_moment(&berlin, spring, 0),
                     23 * HOUR_S);
    assert_int_equal(zone_moment(&berlin, autumn + 1, 0) - zone_moment(&berlin, autumn, 0),
                     25 * HOUR_S);
    /* The clock on the wall goes from 2 to 3 o'clock: half past two is three. */
    assert_int_equal(zone_moment(&berlin, spring, 5 * HOUR_S / 2), utc("2026-03-29 01:00:00"));
    /* And from 3 back to 2: half past two is the first one. */
    assert_int_equal(zone_moment(&berlin, autumn, 5 * HOUR_S / 2), utc("2026-10-25 00:30:00"));
    assert_int_equal(zone_day(&berlin, utc("2026-10-25 22:59:59"), NULL), autumn);
    assert_int_equal(zone_day(&berlin, utc("2026-10-25 23:00:00"), NULL), autumn + 1);
}

/* The same as libc says, which knows one zone for the whole process. */
static void libc_agrees(void **state)
{
    static const char *const names[] = {"Europe/Berlin", "America/New_York", "Asia/Kathmandu",
                                        "Pacific/Apia", "Australia/Lord_Howe"};
    struct rng rng;

    rng_init(&rng, 3);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct zone zone;

        setenv("TZ", names[i], 1);
        tzset();
        assert_int_equal(zone_load(&zone, names[i]), 0);
        for (int round = 0; round < 2000; round++) {
            time_t at = (time_t)rng_below(&rng, (uint64_t)utc("2037-06-01 00:00:00"));
            struct tm tm;
            uint32_t second;
            int32_t day = zone_day(&zone, at, &second);

            localtime_r(&at, &tm);
            assert_int_equal(second, tm.tm_hour * HOUR_S + tm.tm_min * 60 + tm.tm_sec);
            assert_int_equal(day, timegm(&tm) / 86400);
            assert_true(zone_moment(&zone, day, second) <= at);
            assert_true(zone_moment(&zone, day, 0) <= zone_moment(&zone, day, second));
            assert_true(zone_moment(&zone, day + 1, 0) > at);
        }
        zone_fini(&zone);
    }
}

static void what_is_no_zone_is_refused(void **state)
{
    struct zone zone;

    assert_int_equal(zone_load(&zone, "Europe/Nowhere"), E_UNKNOWN);
    assert_int_equal(zone_load(&zone, "../../../etc/passwd"), E_UNKNOWN);
    assert_int_equal(zone_load(&zone, "/etc/passwd"), E_UNKNOWN);
    assert_int_equal(zone_load(&zone, ""), E_UNKNOWN);
    assert_true(zone_load(&zone, "Europe") < 0);
    assert_int_equal(zone_load(&zone, "tzdata.zi"), E_UNKNOWN);
    assert_int_equal(zone_load(&zone, "zone1970"), E_UNKNOWN);
}

/* Any octet of a file may be another one: it is read or refused, and answers stay near. */
static void damaged_files_do_no_harm(void **state)
{
    static uint8_t good[65536], bad[65536];
    FILE *file = fopen("/usr/share/zoneinfo/Europe/Berlin", "r");
    struct rng rng;
    size_t len;

    assert_non_null(file);
    len = fread(good, 1, sizeof(good), file);
    fclose(file);
    rng_init(&rng, 9);
    for (int round = 0; round < 3000; round++) {
        struct zone zone;
        size_t bytes = round % 3 == 0 ? rng_below(&rng, len) : len;

        memcpy(bad, good, len);
        for (int i = 0; i < round % 4; i++)
            bad[rng_below(&rng, len)] = (uint8_t)rng_u64(&rng);
        if (zone_parse(&zone, bad, bytes) < 0)
            continue;
        assert_true(labs(zone_day(&zone, 0, NULL)) <= 1);
        zone_moment(&zone, 20000, 0);
        zone_fini(&zone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utc_needs_no_file),
        cmocka_unit_test(days_have_their_hours),
        cmocka_unit_test(libc_agrees),
        cmocka_unit_test(what_is_no_zone_is_refused),
        cmocka_unit_test(damaged_files_do_no_harm),
    };

    return cmocka_run_group_tests(tests, load, unload);
}
