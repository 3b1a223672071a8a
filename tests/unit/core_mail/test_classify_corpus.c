/*
 * The shipped rules against replies whose meaning others have judged (shared/corpora/replies). The
 * corpus is not part of the tree: without it the test says so and is skipped. That the measure
 * itself can fail is shown by rules with a mistake planted in them.
 */
#include "core/mail/classify.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define FIELDS_MAX 8

struct figures {
    unsigned strong;
    unsigned agree;
    unsigned dead;       /* strong rows whose address is dead */
    unsigned dead_found; /* of those, classified as hard */
    unsigned alive;
    unsigned false_hard;
    unsigned grave; /* replies that should slow or hold something */
    unsigned grave_found;
};

static void unescape(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        char c = *text;

        if (c == '\\' && text[1] != '\0') {
            text++;
            c = *text == 't' || *text == 'r' || *text == 'n' ? ' ' : *text;
        }
        *to++ = c;
    }
    *to = '\0';
}

static void split(char *line, char *fields[FIELDS_MAX])
{
    static char empty[] = "";
    char *rest = line;

    line[strcspn(line, "\n")] = '\0';
    for (int i = 0; i < FIELDS_MAX; i++) {
        fields[i] = rest != NULL ? strsep(&rest, "\t") : empty;
        unescape(fields[i]);
    }
}

static bool is_in_list(const char *list, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = strstr(list, word); at != NULL; at = strstr(at + 1, word)) {
        if ((at == list || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

static void put_status(const char *text, uint16_t status[3])
{
    unsigned parts[3];

    if (sscanf(text, "%u.%u.%u", &parts[0], &parts[1], &parts[2]) == 3) {
        for (int i = 0; i < 3; i++)
            status[i] = (uint16_t)parts[i];
    }
}

static struct classify_answer answer_of(const struct classify_rules *rules, const char *text,
                                        const char *host, const char *status)
{
    struct regex_scratch *scratch = regex_scratch_new();
    struct classify_reply reply = {
        .text = slice_str(text), .host = slice_str(host), .stage = CLASSIFY_STAGE_UNKNOWN};
    struct classify_answer answer;

    put_status(status, reply.enhanced);
    classify(rules, &reply, scratch, &answer);
    regex_scratch_free(scratch);
    return answer;
}

/* id, status, text, remote MTA, reason, hard, accepted categories, strength */
static void measure_bounces(const struct classify_rules *rules, FILE *file, bool tell,
                            struct figures *figures)
{
    char line[8192];

    assert_non_null(fgets(line, sizeof(line), file));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *f[FIELDS_MAX];
        struct classify_answer answer;
        bool is_dead, agrees;

        split(line, f);
        if (strcmp(f[7], "strong") != 0)
            continue;
        answer = answer_of(rules, f[2], f[3], f[1]);
        is_dead = strcmp(f[5], "1") == 0;
        agrees = is_in_list(f[6], answer.category);
        figures->strong++;
        figures->agree += agrees;
        figures->dead += is_dead;
        figures->dead_found += is_dead && answer.class == CLASSIFY_HARD;
        figures->alive += !is_dead;
        figures->false_hard += !is_dead && answer.class == CLASSIFY_HARD;
        if (tell && (!agrees || is_dead != (answer.class == CLASSIFY_HARD)))
            print_message("  %s: %s %s by %s, judged %s %s: %.150s\n", f[0], answer.category,
                          classify_class_text(answer.class), answer.rule, f[6],
                          is_dead ? "hard" : "not hard", f[2]);
    }
}

/* id, source, provider, code, status, text, kind of label, label */
static void measure_severity(const struct classify_rules *rules, FILE *file, bool tell,
                             struct figures *figures)
{
    char line[8192];

    assert_non_null(fgets(line, sizeof(line), file));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *f[FIELDS_MAX];
        char text[8192];
        struct classify_answer answer;

        split(line, f);
        if (strcmp(f[6], "severity") != 0 || atoi(f[7]) < 3)
            continue;
        snprintf(text, sizeof(text), "%s %s", f[3], f[5]);
        answer = answer_of(rules, text, "", f[4]);
        figures->grave++;
        figures->grave_found += answer.reaction != CLASSIFY_NO_REACTION;
        if (tell && answer.reaction == CLASSIFY_NO_REACTION)
            print_message("  %s: nothing reacts (%s): %.150s\n", f[0], answer.rule, f[5]);
    }
}

static struct figures measure(const struct classify_rules *rules, bool tell)
{
    FILE *bounces = fopen(REPLY_LABELS "/bounce-replies.tsv", "r");
    FILE *grave = fopen(REPLY_LABELS "/provider-replies.tsv", "r");
    struct figures figures = {0};

    if (bounces == NULL || grave == NULL) {
        print_message("SKIPPED: no corpus of replies at %s\n", REPLY_LABELS);
        skip();
    }
    measure_bounces(rules, bounces, tell, &figures);
    measure_severity(rules, grave, tell, &figures);
    fclose(bounces);
    fclose(grave);
    return figures;
}

static bool is_good(const struct figures *f)
{
    return f->agree * 100 >= f->strong * 92 && f->false_hard * 100 <= f->alive &&
           f->dead_found * 100 >= f->dead * 90 && f->grave_found == f->grave;
}

static void shipped_rules_agree_with_the_labels(void **state)
{
    struct figures f = measure(classify_shipped(), true);

    print_message("agrees %u of %u, false hard %u of %u, hard found %u of %u, reacts %u of %u\n",
                  f.agree, f.strong, f.false_hard, f.alive, f.dead_found, f.dead, f.grave_found,
                  f.grave);
    assert_in_range(f.strong, 100, 100000);
    assert_in_range(f.grave, 20, 100000);
    assert_true(is_good(&f));
}

/* ---- Mistakes that the measure must notice --------------------------------------------------- */

static const struct {
    const char *before; /* first occurrence in the rules … */
    const char *after;  /* … as many octets, in its place */
} mistakes[] = {
    {"\nno-user-plainly bad-mailbox hard ", "\nno-user-plainly bad-mailbox soft "},
    {"\nno-user-plainly bad-mailbox hard ", "\nno-user-plainly bad-domain  hard "},
    {"\nmailbox-full-plainly quota-issues soft ", "\nmailbox-full-plainly quota-issues hard "},
    {"\nauthentication policy-related soft hold:sender-domain ",
     "\nauthentication policy-related soft -                  "},
    {"\nsender-rejected invalid-sender soft ", "\nsender-rejected invalid-sender hard "},
};

static void planted_mistakes_are_noticed(void **state)
{
    struct slice shipped = classify_shipped_text();

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        char *text = calloc(1, shipped.len + 1);
        struct classify_rules *rules = NULL;
        char why[CLASSIFY_WHY_MAX];
        struct figures figures;
        unsigned line;
        char *at;

        memcpy(text, shipped.data, shipped.len);
        at = strstr(text, mistakes[i].before);
        assert_non_null(at);
        assert_int_equal(strlen(mistakes[i].before), strlen(mistakes[i].after));
        memcpy(at, mistakes[i].after, strlen(mistakes[i].after));
        assert_int_equal(classify_rules_new("planted", slice_str(text), &rules, &line, why), 0);
        figures = measure(rules, false);
        if (is_good(&figures))
            fail_msg("not noticed:%s", mistakes[i].after);
        classify_rules_free(rules);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_rules_agree_with_the_labels),
        cmocka_unit_test(planted_mistakes_are_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
