#include "shard/verbs.h"

#include "core/base/err.h"
#include "core/base/rng.h"
#include "tests/unit/core_base/unit.h"

#include <ctype.h>
#include <stdio.h>

static const char *const all_words[] = {
#define WORDS(name, words, argument, options, required, help) words,
    VERBS(WORDS)
#undef WORDS
};

static const struct {
    const char *word;
    const char *value;
} all_options[] = {
#define OPTIONS(name, word, kind, value, help) {word, value},
    VERB_OPTIONS(OPTIONS)
#undef OPTIONS
};

static const uint32_t verb_options[] = {
#define OPTIONS_OF(name, words, argument, options, required, help) options,
    VERBS(OPTIONS_OF)
#undef OPTIONS_OF
};

static char error[VERB_ERROR_MAX];
static struct verb_request request;

static int parse(const char *line)
{
    memset(error, 'Z', sizeof(error));
    return verbs_parse(slice_str(line), &request, error);
}

static void assert_verb(const char *line, enum verb verb)
{
    if (parse(line) < 0)
        fail_msg("%s: %s", line, error);
    assert_int_equal(request.verb, verb);
}

static void assert_refused(const char *line, const char *wanted)
{
    assert_int_equal(parse(line), E_SYNTAX);
    if (strstr(error, wanted) == NULL)
        fail_msg("%s: %s", line, error);
}

/* What a verb must have besides its words. */
static const char *needed_by(enum verb verb)
{
    switch (verb) {
    case VERB_PAUSE_QUEUE:
    case VERB_RESUME_QUEUE:
    case VERB_SCHEDULE:
    case VERB_SHOW_SETTINGS:
    case VERB_EXPLAIN:
        return " a.example/mta1";
    case VERB_DISABLE_SOURCE:
    case VERB_ENABLE_SOURCE:
        return " 192.0.2.1 a.example/mta1";
    case VERB_SET_QUEUE:
        return " a.example/mta1 --mode=backoff";
    case VERB_LIST:
    case VERB_DELETE:
        return " --queue=a.example/mta1";
    case VERB_ENABLE_SENDER:
    case VERB_ENABLE_JOB:
        return " a.example";
    case VERB_BREAKER_RELEASE:
    case VERB_BREAKER_BOUNCE:
    case VERB_BREAKER_RECLASSIFY:
        return " sender/a.example";
    case VERB_CHECK_DOMAIN:
        return " a.example";
    case VERB_TEST_CONFIG:
        return " file.conf";
    case VERB_OVERRIDE:
        return " a.example/mta1 max-smtp-out=3 --for=2h --reason=x";
    case VERB_CONFIG_ROLLBACK:
        return " 3";
    default:
        return "";
    }
}

static const char *value_of(enum verb_option option)
{
    switch (option) {
    case OPTION_MAXITEMS:
        return "=5";
    case OPTION_PAUSED:
    case OPTION_CONNECTED:
        return "=no";
    case OPTION_MODE:
        return "=normal";
    case OPTION_SORT:
        return "=kb";
    case OPTION_QUEUE:
        return "=b.example/*";
    case OPTION_OLDER_THAN:
    case OPTION_GRACE:
    case OPTION_REENABLE_AFTER:
    case OPTION_FOR:
        return "=1d2s";
    case OPTION_REASON:
        return "=why";
    case OPTION_SENDER:
        return "=a.example";
    case OPTION_SAMPLE:
        return "=mail.eml";
    default:
        return "";
    }
}

static void every_verb_is_found_by_its_words(void **state)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        char line[256];

        snprintf(line, sizeof(line), "%s%s", all_words[i], needed_by((enum verb)i));
        assert_verb(line, (enum verb)i);
        assert_string_equal(verbs_words((enum verb)i), all_words[i]);
        for (char *c = line; *c != '\0' && *c != 'a'; c++)
            *c = (char)toupper((unsigned char)*c);
        assert_verb(line, (enum verb)i);
    }
}

/* Beginnings of each word: those that name one verb find it, and no other verb is ever found. */
static void beginnings_find_their_verb_or_none(void **state)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        const char *blank = strchr(all_words[i], ' ');
        size_t first = blank != NULL ? (size_t)(blank - all_words[i]) : strlen(all_words[i]);
        size_t second = blank != NULL ? strlen(blank + 1) : 0;

        for (size_t a = 1; a <= first; a++) {
            for (size_t b = second > 0 ? 1 : 0; b <= second; b++) {
                char line[256];

                snprintf(line, sizeof(line), "%.*s %.*s%s", (int)a, all_words[i], (int)b,
                         blank != NULL ? blank + 1 : "", needed_by((enum verb)i));
                if (parse(line) == 0)
                    assert_int_equal(request.verb, i);
                else
                    assert_non_null(strstr(error, "ambiguous"));
            }
        }
    }
}

static void usual_abbreviations_work(void **state)
{
    assert_verb("show dom", VERB_SHOW_DOMAINS);
    assert_verb("sho st", VERB_SHOW_STATUS);
    assert_verb("show q gmail.com", VERB_SHOW_QUEUES);
    assert_verb("show top", VERB_SHOW_TOPQUEUES);
    assert_verb("p q */*", VERB_PAUSE_QUEUE);
    assert_verb("res q */mta1", VERB_RESUME_QUEUE);
    assert_verb("sched gmail.com/*", VERB_SCHEDULE);
    assert_verb("--json show status", VERB_SHOW_STATUS);
    assert_int_equal(request.format, FORMAT_JSON);
    assert_verb("show queues --max=3 --dom", VERB_SHOW_QUEUES);
    assert_int_equal(request.maxitems, 3);
    assert_int_equal(request.format, FORMAT_DOM);
}

static void one_queue_is_no_pattern(void **state)
{
    assert_verb("show settings Gmail.com/mta1", VERB_SHOW_SETTINGS);
    assert_string_equal(request.domain, "gmail.com");
    assert_string_equal(request.vmta, "mta1");
    assert_verb("show set gmail.com", VERB_SHOW_SETTINGS);
    assert_string_equal(request.vmta, "{default}");
    assert_refused("show settings", "show settings wants one queue");
    assert_refused("show settings */mta1", "wants one queue");
    assert_refused("show settings gmail.com/*", "wants one queue");
}

static void every_option_is_taken_where_it_belongs_only(void **state)
{
    for (int i = 0; i < VERB_COUNT; i++) {
        for (int k = 0; k < VERB_OPTION_COUNT; k++) {
            bool belongs =
                (verb_options[i] & VERB_BIT(k)) != 0 || k == OPTION_JSON || k == OPTION_DOM;
            /* What is taken away gets no value. */
            bool clears = i == VERB_OVERRIDE && k == OPTION_CLEAR;
            char line[256];

            snprintf(line, sizeof(line), "--%s%s %s%s", all_options[k].word,
                     value_of((enum verb_option)k), all_words[i],
                     clears ? " a.example/mta1" : needed_by((enum verb)i));
            if (belongs) {
                assert_verb(line, (enum verb)i);
                assert_true((request.given & VERB_BIT(k)) != 0);
            } else {
                assert_refused(line, "has no option");
            }
        }
    }
}

static void a_setting_has_a_queue_a_keyword_and_a_value(void **state)
{
    assert_verb("override A.test/V1 max-msg-rate=100/h --for 1h30m --reason \"two words\"",
                VERB_OVERRIDE);
    assert_string_equal(request.domain, "a.test");
    assert_string_equal(request.vmta, "V1");
    assert_string_equal(request.keyword, "max-msg-rate");
    assert_string_equal(request.value, "100/h");
    assert_string_equal(request.reason, "two words");
    assert_int_equal(request.for_ms, 5400000);
    assert_verb("override */* --clear max-msg-rate", VERB_OVERRIDE);
    assert_string_equal(request.keyword, "max-msg-rate");
    assert_refused("override */* max-msg-rate --for=1h --reason=x", "KEYWORD=VALUE");
    assert_refused("override */* =3 --for=1h --reason=x", "KEYWORD=VALUE");
    assert_refused("override */* a=3 --for --reason=x", "--for wants TIME");
    assert_refused("override */* a=3 --for=0s --reason=x", "--for wants TIME, longer than 0");
    assert_refused("override */* a=3 --reason=x", "override wants --for=TIME and --reason=TEXT");
    assert_refused("override */* a=3 --clear", "--clear");
    assert_refused("override a.test --clear", "DOMAIN/VMTA");
}

static void assert_reason(size_t octets, bool is_taken)
{
    char line[VERB_TEXT_MAX + 128];
    int len = snprintf(line, sizeof(line), "override */* a=3 --for=1h --reason=");

    memset(line + len, 'x', octets);
    line[(size_t)len + octets] = '\0';
    if (is_taken)
        assert_verb(line, VERB_OVERRIDE);
    else
        assert_refused(line, "--reason wants TEXT of 1 to 1023 octets");
}

static void a_reason_has_its_length(void **state)
{
    assert_reason(0, false);
    assert_reason(1, true);
    assert_reason(1023, true);
    assert_reason(1024, false);
}

/* Counted in nanoseconds from now on they must not come round. */
static void times_have_bounds(void **state)
{
    static const char *const too_long[] = {"213525d", "36601d", "3162240001s", "1w36600d"};
    char line[128];

    assert_verb("disable source 192.0.2.1 a/b --reenable-after=36600d", VERB_DISABLE_SOURCE);
    assert_true(request.reenable_after_ms < UINT64_MAX / 1000000);
    for (size_t i = 0; i < sizeof(too_long) / sizeof(too_long[0]); i++) {
        snprintf(line, sizeof(line), "disable source 192.0.2.1 a/b --reenable-after=%s",
                 too_long[i]);
        assert_refused(line, "--reenable-after wants TIME");
    }
    assert_refused("disable source 192.0.2.1 a/b --reenable-after=0s",
                   "--reenable-after wants TIME, longer than 0");
    assert_refused("disable source 192.0.2.1 a/b --reenable-after=soon",
                   "--reenable-after wants TIME, longer than 0");
    assert_verb("delete --queue=a/b --older-than=0s", VERB_DELETE);
}

static void values_are_read(void **state)
{
    assert_verb("show queues --paused --connected=FALSE --sort=conn --maxitems=0 GMail.com/Mta1",
                VERB_SHOW_QUEUES);
    assert_true(request.paused);
    assert_false(request.connected);
    assert_int_equal(request.sort, SORT_CONN);
    assert_int_equal(request.maxitems, 0);
    assert_string_equal(request.domain, "gmail.com");
    assert_string_equal(request.vmta, "Mta1");
    assert_verb("show queues", VERB_SHOW_QUEUES);
    assert_string_equal(request.domain, "*");
    assert_string_equal(request.vmta, "*");
    assert_int_equal(request.given, 0);
    assert_verb("delete --queue=*/{default} --older-than=1w2d3h4m5s", VERB_DELETE);
    assert_string_equal(request.vmta, "{default}");
    assert_true(request.older_than_ms == 788645000);
    assert_verb("set queue */* --mode=BACKOFF", VERB_SET_QUEUE);
    assert_true(request.backoff);
    assert_verb("show queues --mode=normal", VERB_SHOW_QUEUES);
    assert_false(request.backoff);
    assert_verb("shutdown --grace=0s", VERB_SHUTDOWN);
    assert_true(request.grace_ms == 0 && (request.given & VERB_BIT(OPTION_GRACE)) != 0);
    assert_verb("test config \"/a b/\\\"c\\\".conf\" --syntax", VERB_TEST_CONFIG);
    assert_string_equal(request.file, "/a b/\"c\".conf");
    assert_verb("'test' 'con'fig '\\'", VERB_TEST_CONFIG);
    assert_string_equal(request.file, "\\");
}

static void mistakes_are_named(void **state)
{
    assert_refused("", "one of these words is missing: show");
    assert_refused("show", "missing: status, topqueues");
    assert_refused("frobnicate", "unknown: \"frobnicate\"");
    assert_refused("show jobs", "unknown: \"jobs\"");
    assert_refused("s st", "ambiguous: \"s\"; one of: show, set, schedule, shutdown");
    assert_refused("sh", "show, shutdown");
    assert_refused("show status now", "one word too many");
    assert_refused("pause queue", "DOMAIN/VMTA");
    assert_refused("pause queue gmail.com", "DOMAIN/VMTA");
    assert_refused("pause queue *", "DOMAIN/VMTA");
    assert_refused("pause queue *.com/mta1", "DOMAIN/VMTA");
    assert_refused("pause queue a/b/c", "DOMAIN/VMTA");
    assert_refused("pause queue /mta1", "DOMAIN/VMTA");
    assert_refused("pause queue a.example/", "DOMAIN/VMTA");
    assert_refused("pause queue \"a b/c\"", "DOMAIN/VMTA");
    assert_refused("delete", "--queue=DOMAIN/VMTA");
    assert_refused("delete --queue=a", "--queue wants");
    assert_refused("delete --queue=*/* --older-than=5", "--older-than wants TIME");
    assert_refused("delete --queue=*/* --older-than=99999999999999999999s", "--older-than");
    assert_refused("delete --queue=*/* --older-than=", "--older-than");
    assert_refused("show queues --maxitems", "--maxitems wants N");
    assert_refused("show queues --maxitems=-1", "--maxitems wants N");
    assert_refused("show queues --sort=age", "name|rcpt|kb|conn");
    assert_refused("disable source 192.0.2.1", "an address and a queue");
    assert_refused("disable source 192.0.2.1 a/*", "an address and a queue");
    assert_refused("enable source 192.0.2.300 a/b", "an address and a queue");
    assert_verb("enable source 192.0.2.1 */*", VERB_ENABLE_SOURCE);
    assert_verb("enable job *", VERB_ENABLE_JOB);
    assert_refused("enable sender-domain", "enable sender-domain wants a name");
    assert_refused("enable job a b", "one word too many");
    assert_verb("breaker release resolver/*", VERB_BREAKER_RELEASE);
    assert_refused("breaker release resolver",
                   "breaker release wants provider/NAME, sender/DOMAIN or resolver/SHARD");
    assert_verb("breaker reclassify provider/google", VERB_BREAKER_RECLASSIFY);
    assert_refused("breaker reclassify google",
                   "breaker reclassify wants provider/NAME or sender/DOMAIN");
    assert_refused("breaker reclassify resolver/0", "breaker reclassify: of a resolver there is "
                                                    "nothing to reclassify; release or bounce it");
    assert_refused("set queue a/b", "set queue wants --mode=normal|backoff");
    assert_refused("set queue a/b --mode=slow", "normal|backoff");
    assert_refused("show queues --json=1", "no value");
    assert_refused("show queues --nonsense", "unknown option --nonsense");
    assert_refused("show queues --", "without the name");
    assert_refused("show queues --s=kb", "--sort or --sender");
    assert_refused("show \"queues", "quote");
    assert_refused("show queues \\", "quote");
    assert_refused("show\aqueues", "control bytes");
    assert_refused("a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9",
                   "too many words");
}

static void json_is_known_also_when_the_rest_is_wrong(void **state)
{
    assert_refused("--json frobnicate", "unknown");
    assert_int_equal(request.format, FORMAT_JSON);
}

static void names_that_are_too_long_are_refused(void **state)
{
    char line[1024];
    char name[512];

    memset(name, 'x', sizeof(name));
    snprintf(line, sizeof(line), "pause queue %.*s/mta", VERB_DOMAIN_MAX - 1, name);
    assert_verb(line, VERB_PAUSE_QUEUE);
    snprintf(line, sizeof(line), "pause queue %.*s/mta", VERB_DOMAIN_MAX, name);
    assert_refused(line, "DOMAIN/VMTA");
    snprintf(line, sizeof(line), "pause queue a/%.*s", VERB_VMTA_MAX - 1, name);
    assert_verb(line, VERB_PAUSE_QUEUE);
    snprintf(line, sizeof(line), "pause queue a/%.*s", VERB_VMTA_MAX, name);
    assert_refused(line, "DOMAIN/VMTA");
}

/* The help names every verb and option, and nothing that looks like an option and is none. */
static void help_and_table_agree_both_ways(void **state)
{
    static char help[VERB_HELP_MAX];
    size_t len = verbs_help(help, sizeof(help));

    assert_true(len == strlen(help) && len < sizeof(help) - 1);
    assert_null(strstr(help, "(null)"));
    for (int i = 0; i < VERB_COUNT; i++) {
        char line[256];

        snprintf(line, sizeof(line), "\n  %s", all_words[i]);
        assert_non_null(strstr(help, line));
    }
    for (int i = 0; i < VERB_OPTION_COUNT; i++) {
        char line[256];

        snprintf(line, sizeof(line), "\n  --%s", all_options[i].word);
        assert_non_null(strstr(help, line));
    }
    for (const char *at = strstr(help, "--"); at != NULL; at = strstr(at + 2, "--")) {
        size_t word = strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-");
        bool known = false;

        for (int i = 0; i < VERB_OPTION_COUNT; i++)
            known |= strlen(all_options[i].word) == word &&
                     memcmp(all_options[i].word, at + 2, word) == 0;
        assert_true(known);
    }
    assert_non_null(strstr(help, "\n  override DOMAIN/VMTA KEYWORD=VALUE --for=TIME --reason=TEXT\n"
                                 "  override DOMAIN/VMTA --clear [KEYWORD]\n      "));
    assert_non_null(
        strstr(help, "\n  breaker release provider/NAME|sender/DOMAIN|resolver/SHARD\n"));
    assert_int_equal(verbs_help(help, 10), 9);
    assert_int_equal(strlen(help), 9);
}

static void random_word(struct rng *rng, char *room, size_t len)
{
    static const char letters[] = "ab c\t\"'\\*/-=\xc3\xa4\xff";

    for (size_t i = 0; i < len; i++)
        room[i] = letters[rng_below(rng, sizeof(letters) - 1)];
    room[len] = '\0';
}

static void quoted_words_come_back(void **state)
{
    struct rng rng;

    rng_init(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        char file[64];
        const char *words[] = {"test", "config", file};
        char line[512];

        random_word(&rng, file, rng_between(&rng, 1, 40));
        if (strncmp(file, "--", 2) == 0)
            continue;
        assert_true(verbs_quote(words, 3, line, sizeof(line)) > 0);
        assert_verb(line, VERB_TEST_CONFIG);
        assert_string_equal(request.file, file);
    }
}

static void a_short_room_for_quoting_is_refused(void **state)
{
    const char *words[] = {"pause", "queue", "a \"b\""};
    char room[64];
    int len = verbs_quote(words, 3, room, sizeof(room));

    assert_string_equal(room, "pause queue \"a \\\"b\\\"\"");
    for (size_t size = 0; size <= (size_t)len; size++) {
        memset(room, 'Z', sizeof(room));
        assert_int_equal(verbs_quote(words, 3, room, size), E_TOO_LONG);
        for (size_t i = size; i < sizeof(room); i++)
            assert_int_equal(room[i], 'Z');
    }
}

/* Whatever comes: an answer, and a printable sentence where it is a refusal. */
static void a34_garbage_is_refused_with_a_sentence(void **state)
{
    static uint8_t line[VERB_LINE_MAX + 100];
    struct rng rng;

    rng_init(&rng, 34);
    for (int round = 0; round < 20000; round++) {
        size_t len = rng_one_in(&rng, 100) ? rng_below(&rng, sizeof(line)) : rng_below(&rng, 60);
        uint64_t mode = rng_below(&rng, 3);

        for (size_t i = 0; i < len; i++)
            line[i] = mode == 0   ? (uint8_t)rng_u64(&rng)
                      : mode == 1 ? (uint8_t)rng_between(&rng, ' ', '~')
                                  : (uint8_t) "show queues --sort=\"'\\ "[rng_below(&rng, 23)];
        memset(error, 'Z', sizeof(error));
        if (verbs_parse(slice_of(line, len), &request, error) == 0)
            continue;
        assert_non_null(memchr(error, '\0', sizeof(error)));
        assert_true(strlen(error) > 5);
        for (const char *c = error; *c != '\0'; c++)
            assert_true((uint8_t)*c >= ' ' && *c != 0x7f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_is_found_by_its_words),
        cmocka_unit_test(beginnings_find_their_verb_or_none),
        cmocka_unit_test(usual_abbreviations_work),
        cmocka_unit_test(one_queue_is_no_pattern),
        cmocka_unit_test(every_option_is_taken_where_it_belongs_only),
        cmocka_unit_test(a_setting_has_a_queue_a_keyword_and_a_value),
        cmocka_unit_test(a_reason_has_its_length),
        cmocka_unit_test(times_have_bounds),
        cmocka_unit_test(values_are_read),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(json_is_known_also_when_the_rest_is_wrong),
        cmocka_unit_test(names_that_are_too_long_are_refused),
        cmocka_unit_test(help_and_table_agree_both_ways),
        cmocka_unit_test(quoted_words_come_back),
        cmocka_unit_test(a_short_room_for_quoting_is_refused),
        cmocka_unit_test(a34_garbage_is_refused_with_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
