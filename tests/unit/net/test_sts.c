/* Records and policies of MTA-STS: what is one, what is none, and which hosts it names. */
#include "net/sts.h"

#include "core/base/err.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define GOOD "version: STSv1\nmode: enforce\nmax_age: 604800\n"

static void records(void **state)
{
    static const struct {
        const char *texts[3];
        const char *id; /* NULL = no policy */
    } rows[] = {
        {{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
        {{"v=STSv1;id=a"}, "a"},
        {{"v=STSv1; later=x; id=abc ; more=y;"}, "abc"},
        {{"v=spf1 -all", "v=STSv1; id=1;", "v=STSv10; id=2"}, "1"},
        {{NULL}, NULL},
        {{"v=STSv1; id=1;", "v=STSv1; id=1;"}, NULL},
        {{"v=STSv1; id=1; id=2"}, NULL},
        {{"v=STSv1;"}, NULL},
        {{"v=STSv1; id="}, NULL},
        {{"v=STSv1; id=a b"}, NULL},
        {{"v=STSv1; id=a-b"}, NULL},
        {{"V=STSv1; id=1"}, NULL},
        {{" v=STSv1; id=1"}, NULL},
        {{"v=STSv1; id=12345678901234567890123456789012"}, "12345678901234567890123456789012"},
        {{"v=STSv1; id=123456789012345678901234567890123"}, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct slice texts[3];
        struct slice id = SLICE_EMPTY;
        uint32_t count = 0;
        bool is_there;

        while (count < 3 && rows[i].texts[count] != NULL) {
            texts[count] = slice_str(rows[i].texts[count]);
            count++;
        }
        is_there = sts_id_find(texts, count, &id);
        if (is_there != (rows[i].id != NULL))
            print_error("row %zu\n", i);
        assert_int_equal(is_there, rows[i].id != NULL);
        if (is_there)
            assert_true(slice_equal(id, slice_str(rows[i].id)));
    }
}

static void policies(void **state)
{
    static const struct {
        const char *text;
        int rc;
        enum sts_mode mode;
        uint32_t max_age_s;
        uint32_t mx_count;
    } rows[] = {
        {GOOD "mx: a.example\nmx: *.b.example\n", 0, STS_ENFORCE, 604800, 2},
        {"version: STSv1\r\nmode: testing\r\nmx: a.example\r\nmax_age: 1\r\n", 0, STS_TESTING, 1,
         1},
        {"mx:a.example\nmax_age:0\nmode:enforce\nversion:STSv1", 0, STS_ENFORCE, 0, 1},
        {"version: STSv1 \nmode: none\nmax_age: 86400\n\n", 0, STS_NONE, 86400, 0},
        {GOOD "mx: a.example\nmode: none\nmax_age: 5\nversion: STSv2\n", 0, STS_ENFORCE, 604800, 1},
        {GOOD "mx: a.example\nlater: thing: more\n", 0, STS_ENFORCE, 604800, 1},
        {"version: STSv1\nmode: enforce\nmx: a\nmax_age: 99999999999\n", 0, STS_ENFORCE,
         STS_MAX_AGE_MAX_S, 1},
        {"", E_SYNTAX, 0, 0, 0},
        {GOOD, E_SYNTAX, 0, 0, 0},
        {"mode: enforce\nmax_age: 1\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv1\nmax_age: 1\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv1\nmode: enforce\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv2\nmode: enforce\nmax_age: 1\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv1\nmode: Enforce\nmax_age: 1\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv1\nmode: enforce\nmax_age: -1\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {"version: STSv1\nmode: enforce\nmax_age: 1d\nmx: a.example\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx: a..example\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx: a.*.example\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx: *\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx: *.\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx:\n", E_SYNTAX, 0, 0, 0},
        {GOOD "mx: a.example b.example\n", E_SYNTAX, 0, 0, 0},
        {"<html>\n" GOOD "mx: a.example\n", E_SYNTAX, 0, 0, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sts_policy policy;
        int rc = sts_policy_parse(slice_str(rows[i].text), &policy);

        if (rc != rows[i].rc)
            print_error("row %zu\n", i);
        assert_int_equal(rc, rows[i].rc);
        if (rc < 0)
            continue;
        assert_int_equal(policy.mode, rows[i].mode);
        assert_int_equal(policy.max_age_s, rows[i].max_age_s);
        assert_int_equal(policy.mx_count, rows[i].mx_count);
    }
}

static void bounds(void **state)
{
    static char text[STS_POLICY_BYTES_MAX + 2];
    struct sts_policy policy;
    size_t len = (size_t)snprintf(text, sizeof(text), GOOD);

    for (unsigned i = 0; i < STS_MX_COUNT_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "mx: h%u.example\n", i);
    assert_int_equal(sts_policy_parse(slice_of(text, len), &policy), 0);
    assert_int_equal(policy.mx_count, STS_MX_COUNT_MAX);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "mx: more.example\n");
    assert_int_equal(sts_policy_parse(slice_of(text, len), &policy), E_RANGE);
    len = (size_t)snprintf(text, sizeof(text), GOOD "mx: a.example\n");
    memset(text + len, '\n', sizeof(text) - len);
    assert_int_equal(sts_policy_parse(slice_of(text, STS_POLICY_BYTES_MAX), &policy), 0);
    assert_int_equal(sts_policy_parse(slice_of(text, STS_POLICY_BYTES_MAX + 1), &policy),
                     E_TOO_LONG);
}

static void hosts_that_are_named(void **state)
{
    static const struct {
        const char *host;
        bool is_named;
    } rows[] = {{"a.example", true},
                {"A.Example", true},
                {"x.b.example", true},
                {"X.B.EXAMPLE", true},
                {"b.example", false},
                {"x.y.b.example", false},
                {"xb.example", false},
                {"a.example.org", false},
                {"c.a.example", false},
                {".b.example", false},
                {"", false},
                {"example", false}};
    struct sts_policy policy;

    assert_int_equal(
        sts_policy_parse(SLICE_LITERAL(GOOD "mx: a.example\nmx: *.b.example\n"), &policy), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (sts_policy_names(&policy, slice_str(rows[i].host)) != rows[i].is_named)
            print_error("%s\n", rows[i].host);
        assert_int_equal(sts_policy_names(&policy, slice_str(rows[i].host)), rows[i].is_named);
    }
}

static void what_is_printed_is_read_again(void **state)
{
    static char text[STS_POLICY_BYTES_MAX];
    char room[STS_TEXT_BYTES_MAX];
    struct sts_policy policy, again;
    size_t len = (size_t)sprintf(text, GOOD "later: thing\n");

    for (unsigned i = 0; i < STS_MX_COUNT_MAX; i++)
        len += (size_t)sprintf(text + len, "mx: *.%0253u\n", i);
    assert_int_equal(sts_policy_parse(slice_of(text, len), &policy), 0);
    len = sts_policy_print(&policy, room);
    assert_true(len < sizeof(room) - 1);
    assert_int_equal(sts_policy_parse(slice_of(room, len), &again), 0);
    assert_int_equal(again.mode, policy.mode);
    assert_int_equal(again.max_age_s, policy.max_age_s);
    assert_int_equal(again.mx_count, policy.mx_count);
    for (unsigned i = 0; i < STS_MX_COUNT_MAX; i++)
        assert_true(slice_equal(again.mx[i], policy.mx[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),
        cmocka_unit_test(policies),
        cmocka_unit_test(bounds),
        cmocka_unit_test(hosts_that_are_named),
        cmocka_unit_test(what_is_printed_is_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
