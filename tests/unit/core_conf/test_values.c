#include "core/conf/value.h"

#include "tests/unit/core_conf/unit.h"

#define SECOND 1000ull
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

static struct arena arena;

static int parse(const struct directive *row, const char *text, struct value *value,
                 char why[VALUE_WHY_MAX])
{
    why[0] = '\0';
    *value = (struct value){0};
    return value_parse(row, slice_str(text), &arena, value, why);
}

struct good {
    const char *text;
    uint64_t number;
    uint64_t interval_ms;
};

static void accept_all(const struct directive *row, const struct good *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char why[VALUE_WHY_MAX];
        struct value value;

        if (parse(row, cases[i].text, &value, why) != 0)
            fail_msg("\"%s\" is refused: %s", cases[i].text, why);
        if (value.number != cases[i].number)
            fail_msg("\"%s\" reads as %llu", cases[i].text, (unsigned long long)value.number);
        if (cases[i].interval_ms != 0 && value.interval_ms != cases[i].interval_ms)
            fail_msg("\"%s\" counts in %llu ms", cases[i].text,
                     (unsigned long long)value.interval_ms);
    }
}

/* Every refusal has a text. */
static void refuse_all(const struct directive *row, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char why[VALUE_WHY_MAX];
        struct value value;

        if (parse(row, texts[i], &value, why) >= 0)
            fail_msg("\"%s\" is taken", texts[i]);
        assert_true(strlen(why) > 0);
    }
}

static void times(void **state)
{
    static const struct directive row = {.type = TYPE_TIME, .max = 366 * DAY};
    static const struct directive ours = {.type = TYPE_TIME, .max = 366 * DAY, .flags = FLAG_OURS};
    static const struct directive open = {
        .type = TYPE_TIME, .max = 366 * DAY, .flags = FLAG_UNLIMITED};
    static const struct good good[] = {
        {"0", 0},
        {"5s", 5 * SECOND},
        {"1m", MINUTE},
        {"1w2d12h30m5s", 7 * DAY + 2 * DAY + 12 * HOUR + 30 * MINUTE + 5 * SECOND},
        {"4D12H", 4 * DAY + 12 * HOUR},
        {"30m1h", HOUR + 30 * MINUTE},
        {"\"10m\"", 10 * MINUTE},
        {"0s", 0},
    };
    static const struct good good_ours[] = {{"20ms", 20}, {"1s500ms", 1500}, {"1m1ms", MINUTE + 1}};
    static const struct good good_open[] = {
        {"never", CONF_UNLIMITED}, {"Unlimited", CONF_UNLIMITED}, {"8d", 8 * DAY}};
    static const char *const bad[] = {
        "10",     "m",   "10x", "-5s",  "5s5s",  "1.5h",  "10 m", "1h 30m",
        "never",  "5ms", "\"5", "5s\"", "1hour", "5s\"x", "367d", "99999999999999999999w",
        "\"5s\"x"};

    accept_all(&row, good, COUNT_OF(good));
    accept_all(&ours, good_ours, COUNT_OF(good_ours));
    accept_all(&open, good_open, COUNT_OF(good_open));
    refuse_all(&row, bad, COUNT_OF(bad));
}

static void time_lists(void **state)
{
    static const struct directive row = {.type = TYPE_TIME_LIST, .min = SECOND, .max = 30 * DAY};
    static const char *const bad[] = {",",
                                      "10m,",
                                      "10m,,5m",
                                      "0",
                                      "10m,31d",
                                      "1s,2s,3s,4s,5s,6s,7s,8s,9s,10s,11s,12s,13s,14s,15s,16s,17s,"
                                      "18s,19s,20s,21s,22s,23s,24s,25s,26s,27s,28s,29s,30s,31s",
                                      "10m 20m"};
    char why[VALUE_WHY_MAX];
    struct value value;

    assert_int_equal(parse(&row, "10m, 20m ,1h", &value, why), 0);
    assert_int_equal(value.number, 3);
    assert_int_equal(value.times[0], 10 * MINUTE);
    assert_int_equal(value.times[2], HOUR);
    assert_int_equal(parse(&row,
                           "1s,2s,3s,4s,5s,6s,7s,8s,9s,10s,11s,12s,13s,14s,15s,16s,17s,18s,19s,"
                           "20s,21s,22s,23s,24s,25s,26s,27s,28s,29s,30s",
                           &value, why),
                     0);
    assert_int_equal(value.number, CONF_RETRY_STEPS_MAX);
    refuse_all(&row, bad, COUNT_OF(bad));
}

static void sizes(void **state)
{
    static const struct directive row = {.type = TYPE_SIZE, .min = 10, .max = 1ull << 50};
    static const struct directive open = {
        .type = TYPE_SIZE, .max = 1ull << 50, .flags = FLAG_UNLIMITED | FLAG_ZERO_UNLIMITED};
    static const struct good good[] = {{"10", 10},           {"10b", 10},        {"1k", 1024},
                                       {"250M", 250 << 20},  {"2g", 2ull << 30}, {"1T", 1ull << 40},
                                       {"1024t", 1ull << 50}};
    static const struct good good_open[] = {
        {"0", CONF_UNLIMITED}, {"unlimited", CONF_UNLIMITED}, {"5k", 5120}};
    static const char *const bad[] = {"9",
                                      "k",
                                      "10kb",
                                      "1.5m",
                                      "-1",
                                      "1 m",
                                      "1025t",
                                      "1m1k",
                                      "unlimited",
                                      "99999999999999999999999",
                                      "18446744073709551615t"};

    accept_all(&row, good, COUNT_OF(good));
    accept_all(&open, good_open, COUNT_OF(good_open));
    refuse_all(&row, bad, COUNT_OF(bad));
}

static void rates(void **state)
{
    static const struct directive row = {
        .type = TYPE_RATE, .max = 1000000, .flags = FLAG_UNLIMITED};
    static const struct directive auth = {
        .type = TYPE_RATE, .max = 1000000, .flags = FLAG_UNLIMITED | FLAG_ZERO_UNLIMITED};
    static const struct directive volume = {
        .type = TYPE_VOLUME_RATE, .max = 1ull << 50, .flags = FLAG_UNLIMITED};
    static const struct good good[] = {{"100/h", 100, HOUR},
                                       {"100/hr", 100, HOUR},
                                       {"5/15min", 5, 15 * MINUTE},
                                       {"1/5m", 1, 5 * MINUTE},
                                       {"10/s", 10, SECOND},
                                       {"10/2sec", 10, 2 * SECOND},
                                       {"1000/d", 1000, DAY},
                                       {"1000/7day", 1000, 7 * DAY},
                                       {"unlimited", CONF_UNLIMITED},
                                       {"0", 0},
                                       {"0/h", 0, HOUR},
                                       {"100/s burst=20", 100, SECOND},
                                       {"7/Min", 7, MINUTE}};
    static const struct good good_auth[] = {{"0", CONF_UNLIMITED}, {"3/h", 3, HOUR}};
    static const struct good good_volume[] = {{"20m/h", 20 << 20, HOUR},
                                              {"500k/10min", 500 << 10, 10 * MINUTE},
                                              {"1024/s", 1024, SECOND}};
    static const char *const bad[] = {"100",
                                      "100/",
                                      "/h",
                                      "100/x",
                                      "100/0h",
                                      "k/h",
                                      "1k/h",
                                      "100/hh",
                                      "1/1/h",
                                      "1000001/h",
                                      "100 /h",
                                      "1/h2",
                                      "100/s burst",
                                      "100/s burst=101",
                                      "100/s 20",
                                      "0 burst=1",
                                      "unlimited burst=5",
                                      "100/s burst=5 x"};
    struct value value;
    char why[VALUE_WHY_MAX];

    accept_all(&row, good, COUNT_OF(good));
    accept_all(&auth, good_auth, COUNT_OF(good_auth));
    accept_all(&volume, good_volume, COUNT_OF(good_volume));
    refuse_all(&row, bad, COUNT_OF(bad));
    assert_int_equal(parse(&row, "100/s burst=20", &value, why), 0);
    assert_int_equal(value.burst, 20);
}

static void counts_and_choices(void **state)
{
    static const struct directive count = {.type = TYPE_COUNT, .min = 1, .max = 100};
    static const struct directive free = {
        .type = TYPE_COUNT, .max = 100, .flags = FLAG_UNLIMITED | FLAG_ZERO_UNLIMITED};
    static const struct directive shards = {
        .type = TYPE_COUNT, .min = 1, .max = 100, .flags = FLAG_AUTO};
    static const struct directive boolean = {.type = TYPE_BOOLEAN};
    static const struct directive choice = {.type = TYPE_ENUM, .choices = "no|yes|override"};
    static const struct directive set = {.type = TYPE_ENUM_LIST, .choices = "d|b|t|tq"};
    static const struct good counts[] = {{"1", 1}, {"100", 100}, {"007", 7}};
    static const struct good frees[] = {
        {"0", CONF_UNLIMITED}, {"unlimited", CONF_UNLIMITED}, {"9", 9}};
    static const struct good autos[] = {{"auto", 0}, {"AUTO", 0}, {"4", 4}};
    static const struct good booleans[] = {{"yes", 1},   {"no", 0},  {"true", 1},
                                           {"false", 0}, {"YES", 1}, {"\"no\"", 0}};
    static const struct good choices[] = {{"no", 0}, {"yes", 1}, {"Override", 2}};
    static const struct good sets[] = {{"d", 1}, {"d,b", 3}, {"tq, t", 12}, {"\"b,t\"", 6}};
    static const char *const bad_counts[] = {"0",    "101",       "-1",  "1x",
                                             "auto", "unlimited", "1 2", "99999999999999999999999"};
    static const char *const bad_booleans[] = {"1", "y", "yes no", "yess"};
    static const char *const bad_sets[] = {"x", "d,", "d,,b", "d b", "D|b"};

    accept_all(&count, counts, COUNT_OF(counts));
    accept_all(&free, frees, COUNT_OF(frees));
    accept_all(&shards, autos, COUNT_OF(autos));
    accept_all(&boolean, booleans, COUNT_OF(booleans));
    accept_all(&choice, choices, COUNT_OF(choices));
    accept_all(&set, sets, COUNT_OF(sets));
    refuse_all(&count, bad_counts, COUNT_OF(bad_counts));
    refuse_all(&boolean, bad_booleans, COUNT_OF(bad_booleans));
    refuse_all(&set, bad_sets, COUNT_OF(bad_sets));
}

/* Types whose values are looked at elsewhere, or only once they have an effect. */
static void other_types(void **state)
{
    static const struct {
        enum directive_type type;
        const char *good[6];
        const char *bad[8];
    } cases[] = {
        {TYPE_STRING, {"a", "\"a b\""}, {"a b", "\"a", "\"a\"b"}},
        {TYPE_NAME, {"mta1", "{auth}", "\"x\""}, {"a b", "a,b", "\"a b\""}},
        {TYPE_NAME_LIST, {"a,b", "a, b", "\"a,b\""}, {"a b", "a,,b", ","}},
        {TYPE_TEXT, {"a b c", "\"a b c\"", "/usr/bin/x -f \"$from\""}, {"\"a", "\"a\" b"}},
        {TYPE_PATH, {"/a", "\"/a b\"", "/"}, {"a", "./a", "/a /b"}},
        {TYPE_ADDRESS,
         {"a@example.com", "\"a+b@example.com\""},
         {"a", "@example.com", "a@", "<a@example.com>", "\"a b@example.com\""}},
        {TYPE_ADDRESS_LIST, {"a@b", "a@b,c@d", "a@b, c@d"}, {"a@b,", "a@b c@d", "a"}},
        {TYPE_HOST,
         {"mail.example.com", "a_b", "[192.0.2.1]", "[IPv6:2001:db8::1]"},
         {"a..b", ".a", "a b", "a/b", "[192.0.2]", "[]"}},
        {TYPE_DOMAIN_LIST,
         {"example.com", "a.example,[*.]b.example", "*.c.example", "[192.0.2.1]"},
         {"a..b", "a b", "a.*.b", "*a.example", "[192.0.2.300]"}},
        {TYPE_IP_PORT,
         {"192.0.2.1", "192.0.2.1:53", "[2001:db8::1]:53", "2001:db8::1", "[2001:db8::1]"},
         {"192.0.2", "192.0.2.1:0", "192.0.2.1:65536", "ns.example.com", "192.0.2.1:"}},
        {TYPE_LISTENER,
         {"0.0.0.0:25", "0/0:25", "[::1]:2525", "::/0:25", "127.0.0.1:25 source=local"},
         {"25", "0.0.0.0", "0.0.0.0:0", "a:25", "0/0:25 x", "0/0:25 source=", "0/0:25 source=a b",
          ":25"}},
        {TYPE_SOURCE_HOST,
         {"192.0.2.1 mail.example.com", "10/8 a", "192.0.2.1", "2001:db8::1 a"},
         {"mail.example.com 192.0.2.1", "192.0.2.1 a/b", "192.0.2.1 a b"}},
        {TYPE_CIDR_ACCESS,
         {"10/8 none", "::1 Monitor", "10/8 monitor,deny-logs", "10/8 monitor, deny-logs",
          "192.0.2.1 operator", "0/0 admin"},
         {"10/8", "10/8 superuser", "foo admin", "admin 10/8", "10/8 monitor deny-logs",
          "10/8 admin,deny-logs", "10/8 monitor,deny-logs,none", "10/8 admin x"}},
        {TYPE_CIDR_COUNT, {"10/8 20", "0/0 1"}, {"10/8", "a 20", "10/8 x", "10/8 1 2"}},
        {TYPE_CIDR_RATE, {"10/8 20/h"}, {"10/8", "10/8 20", "a 20/h"}},
        {TYPE_CIDR_VOLUME_RATE, {"10/8 20k/h"}, {"10/8", "10/8 20k", "a 20/h"}},
        {TYPE_CPU_LIST,
         {"0", "0-3,8", "1, 3,5-7"},
         {"a", "3-1", "0,0", "1-3,2", "0-65535", "-", "1-", "65536"}},
        {TYPE_ROUTE_LIST,
         {"a", "a:25", "[192.0.2.1]:25,b;c", "lookup-mx:a", "192.0.2.1", "192.0.2.1:25"},
         {"a:", "a:0", "[a]", "a;;b", ",a", "a b", "[192.0.2.1", "[192.0.2.1]x"}},
        {TYPE_MACRO,
         {"m a", "m a,b", "m a, b ,c", "$m a.$x"},
         {"m", "m ,", "m a b", "m.x a", "m a,,b", "\"\" a", "$ a"}},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct directive row = {.type = cases[i].type, .max = 1 << 20};

        for (size_t j = 0; j < COUNT_OF(cases[i].good) && cases[i].good[j] != NULL; j++) {
            char why[VALUE_WHY_MAX];
            struct value value;

            if (parse(&row, cases[i].good[j], &value, why) != 0)
                fail_msg("%s \"%s\" is refused: %s", type_title(row.type), cases[i].good[j], why);
        }
        for (size_t j = 0; j < COUNT_OF(cases[i].bad) && cases[i].bad[j] != NULL; j++)
            refuse_all(&row, &cases[i].bad[j], 1);
    }
}

static void texts_lose_their_quotes(void **state)
{
    static const struct directive path = {.type = TYPE_PATH, .max = 10};
    static const struct directive words = {
        .type = TYPE_WORDS, .min = 2, .max = 3, .choices = "A B [C]"};
    static const char *const bad_words[] = {"a", "a b c d", "\"a b\"", "a \"b"};
    char why[VALUE_WHY_MAX];
    struct value value;

    assert_int_equal(parse(&path, "\"/a b\"", &value, why), 0);
    assert_string_equal(value.text, "/a b");
    assert_true(parse(&path, "/1234567890", &value, why) < 0);
    assert_int_equal(parse(&words, "a \"b c\"", &value, why), 0);
    assert_int_equal(value.number, 2);
    refuse_all(&words, bad_words, COUNT_OF(bad_words));
}

static int begin(void **state)
{
    arena_init(&arena);
    return 0;
}

static int end(void **state)
{
    arena_fini(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times),
        cmocka_unit_test(time_lists),
        cmocka_unit_test(sizes),
        cmocka_unit_test(rates),
        cmocka_unit_test(other_types),
        cmocka_unit_test(counts_and_choices),
        cmocka_unit_test(texts_lose_their_quotes),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
