/*
 * The shipped rules against replies.tsv: what a person says of replies, in two halves. Rules are
 * made from one half; the other tells what they are worth for words that nobody has seen. That the
 * measure can fail is shown by rules with a mistake planted in them.
 */
#include "core/mail/classify.h"
#include "tests/unit/core_base/unit.h"

#include <stdio.h>

#define FIELDS 4

struct figures {
    unsigned rows;
    unsigned agree; /* the category is one of those that fit */
    unsigned dead;
    unsigned dead_found;
    unsigned alive;
    unsigned false_hard;
    unsigned grave; /* should slow or hold other mail */
    unsigned grave_found;
    unsigned calm; /* should not */
    unsigned calm_found;
};

static bool is_held_out(const char *text)
{
    uint32_t hash = 2166136261;

    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 16777619;
    return (hash >> 16 & 1) != 0;
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

static void count(struct figures *figures, char *fields[FIELDS],
                  const struct classify_answer *answer, bool tell)
{
    bool is_dead = strcmp(fields[0], "hard") == 0;
    bool agrees = is_in_list(fields[2], answer->category);
    bool hard = answer->class == CLASSIFY_HARD;
    bool reacts = answer->reaction != CLASSIFY_NO_REACTION;
    bool grave = strcmp(fields[1], "yes") == 0;
    bool calm = strcmp(fields[1], "no") == 0;

    figures->rows++;
    figures->agree += agrees;
    figures->dead += is_dead;
    figures->dead_found += is_dead && hard;
    figures->alive += !is_dead;
    figures->false_hard += !is_dead && hard;
    figures->grave += grave;
    figures->grave_found += grave && reacts;
    figures->calm += calm;
    figures->calm_found += calm && !reacts;
    if (tell && (!agrees || hard != is_dead || (grave && !reacts) || (calm && reacts)))
        print_message("  %s %s %s by %s, judged %s %s, reacts: %s: %s\n", answer->category,
                      classify_class_text(answer->class), classify_reaction_text(answer->reaction),
                      answer->rule, fields[2], fields[0], fields[1], fields[3]);
}

static void measure(const struct classify_rules *rules, bool tell, struct figures figures[2])
{
    struct regex_scratch *scratch = regex_scratch_new();
    FILE *file = fopen(REPLIES, "r");
    char line[2048];

    assert_non_null(file);
    memset(figures, 0, 2 * sizeof(*figures));
    while (fgets(line, sizeof(line), file) != NULL) {
        struct classify_reply reply = {.stage = CLASSIFY_STAGE_UNKNOWN};
        struct classify_answer answer;
        char *fields[FIELDS];
        char *rest = line;

        if (line[0] == '#')
            continue;
        line[strcspn(line, "\n")] = '\0';
        for (int i = 0; i < FIELDS; i++) {
            fields[i] = strsep(&rest, "\t");
            assert_non_null(fields[i]);
        }
        reply.text = slice_str(fields[3]);
        classify(rules, &reply, scratch, &answer);
        count(&figures[is_held_out(fields[3])], fields, &answer, tell);
    }
    fclose(file);
    regex_scratch_free(scratch);
}

static bool is_good(const struct figures *f)
{
    return f->agree * 100 >= f->rows * 96 && f->false_hard * 100 <= f->alive &&
           f->dead_found * 100 >= f->dead * 96 && f->grave_found == f->grave &&
           f->calm_found * 100 >= f->calm * 98;
}

static void shipped_rules_agree_with_what_people_say(void **state)
{
    struct figures figures[2];

    measure(classify_shipped(), true, figures);
    for (int i = 0; i < 2; i++) {
        const struct figures *f = &figures[i];

        print_message("%s: agrees %u of %u, false hard %u of %u, hard found %u of %u, reacts %u of "
                      "%u, keeps calm %u of %u\n",
                      i == 0 ? "for making rules" : "held out", f->agree, f->rows, f->false_hard,
                      f->alive, f->dead_found, f->dead, f->grave_found, f->grave, f->calm_found,
                      f->calm);
        assert_in_range(f->rows, 300, 100000);
        assert_true(is_good(f));
    }
}

/* ---- Mistakes that the measure must notice --------------------------------------------------- */

static const struct {
    const char *before; /* first occurrence in the rules … */
    const char *after;  /* … as many octets, in its place */
} mistakes[] = {
    {"\nno-user-turned bad-mailbox hard ", "\nno-user-turned bad-mailbox soft "},
    {"\nmailbox-full-plainly quota-issues soft ", "\nmailbox-full-plainly quota-issues hard "},
    {"\nsender-rejected invalid-sender soft ", "\nsender-rejected invalid-sender hard "},
    {"\nspam spam-related soft slow:job ", "\nspam spam-related soft -        "},
    {"\ndisabled inactive-mailbox soft ", "\ndisabled inactive-mailbox hard "},
};

static void planted_mistakes_are_noticed(void **state)
{
    struct slice shipped = classify_shipped_text();

    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        char *text = calloc(1, shipped.len + 1);
        struct classify_rules *rules = NULL;
        char why[CLASSIFY_WHY_MAX];
        struct figures figures[2];
        unsigned line;
        char *at;

        memcpy(text, shipped.data, shipped.len);
        at = strstr(text, mistakes[i].before);
        assert_non_null(at);
        assert_int_equal(strlen(mistakes[i].before), strlen(mistakes[i].after));
        memcpy(at, mistakes[i].after, strlen(mistakes[i].after));
        assert_int_equal(classify_rules_new("planted", slice_str(text), &rules, &line, why), 0);
        measure(rules, false, figures);
        if (is_good(&figures[0]) && is_good(&figures[1]))
            fail_msg("not noticed:%s", mistakes[i].after);
        classify_rules_free(rules);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_rules_agree_with_what_people_say),
        cmocka_unit_test(planted_mistakes_are_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
