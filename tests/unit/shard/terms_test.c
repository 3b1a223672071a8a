/* x-schedule and x-ringpost-set: what they may say, and what comes of it over time. */
#include "core/base/err.h"
#include "shard/inject_int.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define NOW_S 1767225600ull /* 2026-01-01T00:00Z */
#define NOW   (NOW_S * 1000000)

static const char *schedule(const char *text, struct terms *terms)
{
    *terms = (struct terms){0};
    return inject_schedule_parse(slice_str(text), NOW, terms);
}

static void times_are_read_with_their_zone(void **state)
{
    static const struct {
        const char *text;
        uint64_t from_s;
        uint64_t until_s;
    } rows[] = {
        {"2026-01-01T00:00Z/2026-01-01T00:00:01Z", NOW_S, NOW_S + 1},
        {" 2026-01-02 00:00 +0100 / 2026-01-02 00:00 -05:30 ", NOW_S + 82800, NOW_S + 106200},
        {"2028-02-29T23:59:59z/2028-03-01T00:00:00Z", 1835481599, 1835481600},
        {"2000-02-29T00:00Z/2100-03-01T00:00Z", 951782400, 4107542400},
        {"1767225700/1767225800", 1767225700, 1767225800},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct terms terms;

        if (schedule(rows[i].text, &terms))
            fail_msg("%s: %s", rows[i].text, schedule(rows[i].text, &terms));
        assert_int_equal(terms.window_count, 1);
        assert_int_equal(terms.windows[0].from_us, rows[i].from_s * 1000000);
        assert_int_equal(terms.windows[0].until_us, rows[i].until_s * 1000000);
        assert_int_equal(terms.expires_us, rows[i].until_s * 1000000);
    }
}

static void bad_schedules_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        ",",
        "/",
        "tomorrow",
        "2026-02-01T00:00Z",
        "2026-02-01T00:00Z/",
        "/2026-02-01T00:00Z",
        "2026-02-01/2026-02-02",
        "2026-02-01T00:00/2026-02-02T00:00Z",
        "2026-02-29T00:00Z/2026-03-02T00:00Z",
        "2026-13-01T00:00Z/2027-03-02T00:00Z",
        "2026-02-01T24:00Z/2026-03-02T00:00Z",
        "2026-02-01T00:00Z x/2026-03-02T00:00Z",
        "2026-02-01T00:00+1/2026-03-02T00:00Z",
        "2026-02-02T00:00Z/2026-02-01T00:00Z",
        "2026-02-01T00:00Z/2026-02-01T00:00Z",
        "2025-01-01T00:00Z/2026-01-01T00:00Z",
        "99999999999999/999999999999999",
    };
    char many[17 * 30] = "";
    struct terms terms;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (!schedule(rows[i], &terms))
            fail_msg("%s is taken", rows[i]);
    }
    for (int i = 0; i < 17; i++)
        strcat(many, i > 0 ? ",1767225700/1767225800" : "1767225700/1767225800");
    assert_non_null(schedule(many, &terms));
    many[strlen(many) - strlen(",1767225700/1767225800")] = '\0';
    assert_null(schedule(many, &terms));
}

static void attempts_within_the_windows_only(void **state)
{
    struct terms terms;

    assert_null(schedule("1767225900/1767226000,1767225700/1767225800", &terms));
    assert_int_equal(terms.expires_us, 1767226000000000);
    assert_int_equal(terms_next_us(&terms, NOW), 1767225700000000);
    assert_int_equal(terms_next_us(&terms, 1767225700000000), 1767225700000000);
    assert_int_equal(terms_next_us(&terms, 1767225799999999), 1767225799999999);
    assert_int_equal(terms_next_us(&terms, 1767225800000000), 1767225900000000);
    assert_int_equal(terms_next_us(&terms, 1767226000000000), TERMS_NEVER);
    /* A shorter life of its own ends it before. */
    terms = (struct terms){.expires_us = NOW + 1000000};
    assert_null(inject_schedule_parse(SLICE_LITERAL("1767225700/1767225800"), NOW, &terms));
    assert_int_equal(terms.expires_us, NOW + 1000000);
    assert_int_equal(terms_next_us(&terms, NOW), TERMS_NEVER);
    terms = (struct terms){0};
    assert_int_equal(terms_next_us(&terms, NOW), NOW);
}

static void settings_of_a_message(void **state)
{
    const unsigned all =
        CONF_SET_EXPIRY | CONF_SET_RETRY | CONF_SET_WAY | CONF_SET_TLS | CONF_SET_PRIORITY;
    struct inject_settings settings = {0};
    static const char *const bad[] = {
        "expiry",
        "=",
        "expiry=",
        "expiry=5",
        "expiry=0",
        "expiry=999ms",
        "expiry=1x",
        "retry=",
        "retry=5m,x",
        "retry=31d",
        "tls=require",
        "priority=101",
        "priority=-1",
        "priority=",
        "priority=high",
        "size=5",
        "virtual-mta=",
        "expiry=1h retry=5m",
        "retry=1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m,1m",
    };

    assert_null(inject_settings_parse(SLICE_LITERAL("Expiry = 1h30m ; retry=5m,1h; source=w;"), all,
                                      NOW, &settings));
    assert_null(
        inject_settings_parse(SLICE_LITERAL("expiry=2h; virtual-mta=x"), all, NOW, &settings));
    assert_int_equal(settings.terms.expires_us, NOW + 5400000000);
    assert_int_equal(settings.terms.retry_count, 2);
    assert_int_equal(settings.terms.retry_s[0], 300);
    assert_int_equal(settings.terms.retry_s[1], 3600);
    assert_true(slice_equal(settings.way, SLICE_LITERAL("w")));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        settings = (struct inject_settings){0};
        if (!inject_settings_parse(slice_str(bad[i]), all, NOW, &settings))
            fail_msg("%s is taken", bad[i]);
    }
    settings = (struct inject_settings){0};
    assert_non_null(
        inject_settings_parse(SLICE_LITERAL("retry=5m"), CONF_SET_EXPIRY, NOW, &settings));
    assert_null(inject_settings_parse(SLICE_LITERAL("source=w"), 8, NOW, &settings));
}

static void tls_of_a_message(void **state)
{
    static const struct {
        const char *text;
        enum terms_tls tls;
    } rows[] = {
        {"tls=none", TERMS_TLS_ANY},
        {"tls=Opportunistic", TERMS_TLS_ANY},
        {"tls=required", TERMS_TLS_REQUIRED},
        {"TLS = verified", TERMS_TLS_VERIFIED},
        {"tls=none; tls=verified", TERMS_TLS_ANY},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct inject_settings settings = {0};

        assert_null(inject_settings_parse(slice_str(rows[i].text), CONF_SET_TLS, NOW, &settings));
        assert_int_equal(settings.terms.tls, rows[i].tls);
        assert_non_null(
            inject_settings_parse(slice_str(rows[i].text), CONF_SET_WAY, NOW, &settings));
    }
}

static void priority_of_a_message(void **state)
{
    static const struct {
        const char *text;
        uint8_t priority;
    } rows[] = {
        {"priority=0", 0},
        {"Priority = 100", 100},
        {"priority=60; priority=70", 60},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct inject_settings settings = {0};

        assert_null(
            inject_settings_parse(slice_str(rows[i].text), CONF_SET_PRIORITY, NOW, &settings));
        assert_int_equal(settings.seen, CONF_SET_PRIORITY);
        assert_int_equal(settings.priority, rows[i].priority);
        assert_non_null(
            inject_settings_parse(slice_str(rows[i].text), CONF_SET_TLS, NOW, &settings));
    }
}

static void terms_come_back(void **state)
{
    struct terms in = {.expires_us = NOW,
                       .window_count = TERMS_WINDOWS_MAX,
                       .tls = TERMS_TLS_VERIFIED},
                 out;
    uint8_t room[TERMS_BYTES_MAX], other[TERMS_BYTES_MAX];
    struct wire_writer w;
    size_t len;

    for (uint32_t i = 0; i < TERMS_WINDOWS_MAX; i++)
        in.windows[i] = (struct terms_window){NOW + i, NOW + i + 1};
    in.retry_count = TERMS_RETRIES_MAX;
    for (uint32_t i = 0; i < TERMS_RETRIES_MAX; i++)
        in.retry_s[i] = i + 1;
    wire_writer_init(&w, room, sizeof(room));
    terms_encode(&in, &w);
    assert_false(w.failed);
    len = wire_written(&w);
    assert_int_equal(terms_decode(slice_of(room, len), &out), 0);
    assert_memory_equal(&in, &out, sizeof(in));
    /* No cut and no other octet is more than a refusal. */
    for (size_t at = 0; at < len; at++) {
        memcpy(other, room, len);
        other[at] ^= 0xff;
        terms_decode(slice_of(other, len), &out);
        memcpy(other, room, at);
        if (at != 0 && at != 9 && at != 11 + 16 * TERMS_WINDOWS_MAX && at != len - 2)
            assert_int_equal(terms_decode(slice_of(other, at), &out), E_DAMAGED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_with_their_zone),
        cmocka_unit_test(bad_schedules_are_refused),
        cmocka_unit_test(attempts_within_the_windows_only),
        cmocka_unit_test(settings_of_a_message),
        cmocka_unit_test(tls_of_a_message),
        cmocka_unit_test(priority_of_a_message),
        cmocka_unit_test(terms_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
