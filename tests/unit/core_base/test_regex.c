#include "core/base/regex.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

static struct regex *compiled(const char *pattern)
{
    struct regex *regex = NULL;
    char why[REGEX_WHY_MAX];

    assert_int_equal(regex_compile(slice_str(pattern), &regex, why), 0);
    return regex;
}

static enum regex_result match(const char *pattern, const char *text)
{
    struct regex *regex = compiled(pattern);
    struct regex_scratch *scratch = regex_scratch_new();
    struct regex_subject subject;
    enum regex_result result;

    regex_subject_set(&subject, slice_str(text));
    result = regex_match(regex, &subject, scratch);
    regex_scratch_free(scratch);
    regex_free(regex);
    return result;
}

static void case_is_ignored_unless_asked_for(void **state)
{
    assert_int_equal(match("user unknown", "550 5.1.1 USER Unknown"), REGEX_YES);
    assert_int_equal(match("(?-i)user unknown", "550 5.1.1 USER Unknown"), REGEX_NO);
    assert_int_equal(match("", ""), REGEX_YES);
    assert_int_equal(match("^5\\.1\\.\\d;", "5.1.1;no"), REGEX_YES);
    assert_int_equal(match("^5\\.1\\.\\d;", "4.1.1;no"), REGEX_NO);
}

static void what_is_no_pattern_is_refused_with_its_place(void **state)
{
    static uint8_t long_one[REGEX_BYTES_MAX + 1];
    struct regex *regex = NULL;
    char why[REGEX_WHY_MAX];

    assert_int_equal(regex_compile(SLICE_LITERAL("user (unknown"), &regex, why), E_SYNTAX);
    assert_non_null(strstr(why, "at octet 13"));
    memset(long_one, 'a', sizeof(long_one));
    assert_int_equal(regex_compile(slice_of(long_one, sizeof(long_one)), &regex, why), E_TOO_LONG);
    assert_null(regex);
}

/* Without its bound this one takes longer than the universe lasts. */
static void evil_patterns_give_up(void **state)
{
    char text[512];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(match("^(a+)+$|^(aa|a)*b", text), REGEX_YES);
    text[sizeof(text) - 2] = '!';
    assert_int_equal(match("^(a+)+$", text), REGEX_GAVE_UP);
}

static const struct {
    const char *pattern;
    bool has_filter;
} filter_cases[] = {
    {"user unknown", true},
    {"user unknown|no such user", true},
    {"user unknown|\\d+", false},
    {"^5\\.7\\.\\d+ deferred", true},
    {"bad (address|host) given", true},
    {"(one|two)", true},
    {"(one|to)", false},
    {"(one|two|)", false},
    {"(one|two)? x", false},
    {"(one (two|three)|four)+", true},
    {"(?!one)", false},
    {"(?<!one)", false},
    {"user( unknown)?", true},
    {"ab?c?", false},
    {"x{2,3}abc", true},
    {"a{b|c}def", false},
    {"[abc]def", true},
    {"[]abc]def", false},
    {"(?i)user unknown", false},
    {"\\Quser|unknown\\E", false},
    {"\\x23abc", false},
    {"(*UTF)abc", false},
    {"", false},
};

static void filters_are_made_where_they_are_safe(void **state)
{
    for (size_t i = 0; i < sizeof(filter_cases) / sizeof(filter_cases[0]); i++) {
        struct regex *regex = compiled(filter_cases[i].pattern);

        if (regex_has_filter(regex) != filter_cases[i].has_filter)
            fail_msg("filter of /%s/", filter_cases[i].pattern);
        regex_free(regex);
    }
}

static void put_random(struct rng *rng, const char *const *parts, size_t count, char *room,
                       size_t most)
{
    room[0] = '\0';
    for (uint64_t left = rng_between(rng, 1, most); left > 0; left--)
        strcat(room, parts[rng_between(rng, 0, count - 1)]);
}

/* "(?i)" takes the filter away and changes nothing else: both must always agree. */
static void a_filter_never_rules_out_a_match(void **state)
{
    static const char *const parts[] = {"abc",
                                        "ABCD",
                                        "cab",
                                        "a",
                                        "b?",
                                        "c*",
                                        "d+",
                                        "|",
                                        "(ab)?",
                                        "(cd|abc)",
                                        "[abc]",
                                        "[^a]",
                                        ".",
                                        "\\.",
                                        "\\d",
                                        "a{0,2}",
                                        "b{2}",
                                        "^",
                                        "(abc|bcd|(ABC|x)d)",
                                        "(cab|a)?",
                                        "(abc)*",
                                        "(?!abc)",
                                        "$",
                                        "\\b",
                                        "(?:a)",
                                        "(?!bcd)",
                                        "(?=ab)",
                                        "+?"};
    static const char *const words[] = {"abc", "ABCD", "cab", "a", "b", "bb", "cd", "d", ".", "1"};
    struct regex_scratch *scratch = regex_scratch_new();
    struct rng rng;
    uint32_t matches = 0, filters = 0;

    rng_init(&rng, 4711);
    for (int round = 0; round < 20000; round++) {
        char pattern[128] = "(?i)", text[128], why[REGEX_WHY_MAX];
        struct regex *plain, *filtered;
        struct regex_subject subject;

        put_random(&rng, parts, sizeof(parts) / sizeof(parts[0]), pattern + 4, 8);
        if (regex_compile(slice_str(pattern + 4), &filtered, why) < 0)
            continue;
        plain = compiled(pattern);
        filters += regex_has_filter(filtered);
        for (int i = 0; i < 20; i++) {
            put_random(&rng, words, sizeof(words) / sizeof(words[0]), text, 10);
            regex_subject_set(&subject, slice_str(text));
            if (regex_match(filtered, &subject, scratch) != regex_match(plain, &subject, scratch))
                fail_msg("the filter of /%s/ rules out \"%s\"", pattern + 4, text);
            matches += regex_match(plain, &subject, scratch) == REGEX_YES;
        }
        regex_free(plain);
        regex_free(filtered);
    }
    assert_in_range(filters, 1000, 20000);
    assert_in_range(matches, 10000, 400000);
    regex_scratch_free(scratch);
}

static void matching_allocates_nothing(void **state)
{
    struct regex *regex = compiled("mailbox (is )?full");
    struct regex_scratch *scratch = regex_scratch_new();
    struct regex_subject subject;
    uint64_t before;

    regex_subject_set(&subject, SLICE_LITERAL("552 5.2.2 the mailbox is full"));
    assert_int_equal(regex_match(regex, &subject, scratch), REGEX_YES);
    before = mem_alloc_count();
    for (int i = 0; i < 100; i++)
        assert_int_equal(regex_match(regex, &subject, scratch), REGEX_YES);
    assert_int_equal(mem_alloc_count(), before);
    regex_scratch_free(scratch);
    regex_free(regex);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_is_ignored_unless_asked_for),
        cmocka_unit_test(what_is_no_pattern_is_refused_with_its_place),
        cmocka_unit_test(evil_patterns_give_up),
        cmocka_unit_test(filters_are_made_where_they_are_safe),
        cmocka_unit_test(a_filter_never_rules_out_a_match),
        cmocka_unit_test(matching_allocates_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
