#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/base/regex.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <pcre2.h>
#include <stdio.h>

#define RUN_LETTERS_MIN 3 /* one group */
#define RUN_LETTERS_MAX 8 /* more would not rule out more */
#define GRAMS_MAX       600
#define DEPTH_MAX       8 /* of groups in groups */

/* Runs one of which any match contains: of each the number of its groups of letters, then those. */
struct needles {
    uint16_t used;     /* 0: nothing is known */
    uint16_t shortest; /* groups of the least telling run */
    uint16_t grams[GRAMS_MAX];
};

struct regex {
    pcre2_code *code;
    struct needles needles;
};

struct regex_scratch {
    pcre2_match_context *context;
    pcre2_match_data *data;
};

static uint16_t gram_of(uint8_t a, uint8_t b, uint8_t c)
{
    uint32_t mixed = (uint32_t)a << 16 | (uint32_t)b << 8 | c;

    return (uint16_t)((mixed * 2654435761u >> 16) % REGEX_GRAM_BITS);
}

/* ---- The filter ----------------------------------------------------------------------------- */

/* One walk through a pattern. */
struct filter {
    struct slice rest;
    unsigned depth;
};

/* What is known of one sequence of a pattern, from a bar or bracket to the next. */
struct sequence {
    uint8_t run[RUN_LETTERS_MAX]; /* of plain letters, still growing */
    size_t run_letters;
    struct needles best;
};

static bool take_alternatives(struct filter *filter, struct needles *ret_needles);

/* Whether a rules out more than b. */
static bool is_more_telling(const struct needles *a, const struct needles *b)
{
    if (a->used == 0 || b->used == 0)
        return a->used > 0;
    return a->shortest != b->shortest ? a->shortest > b->shortest : a->used < b->used;
}

static void end_run(struct sequence *sequence)
{
    struct needles needles = {0};

    if (sequence->run_letters >= RUN_LETTERS_MIN) {
        needles.shortest = (uint16_t)(sequence->run_letters - 2);
        needles.grams[needles.used++] = needles.shortest;
        for (size_t i = 0; i < needles.shortest; i++)
            needles.grams[needles.used++] =
                gram_of(sequence->run[i], sequence->run[i + 1], sequence->run[i + 2]);
        if (is_more_telling(&needles, &sequence->best))
            sequence->best = needles;
    }
    sequence->run_letters = 0;
}

/* Behind the bracket that closes what the rest begins with; false when it is not plain to see. */
static bool skip_bracket(struct filter *filter)
{
    struct slice s = filter->rest;
    size_t at = 1;

    /* "[]" and "[^]" hold the bracket itself, and classes may hold names: left to PCRE2. */
    if (s.len > at && s.data[at] == '^')
        at++;
    if (s.len > at && s.data[at] == ']')
        return false;
    for (; at < s.len && s.data[at] != ']'; at++) {
        if (s.data[at] == '[')
            return false;
        if (s.data[at] == '\\')
            at++;
    }
    if (at >= s.len)
        return false;
    filter->rest = slice_after(s, at + 1);
    return true;
}

enum quantifier {
    QUANTIFIER_NONE,
    QUANTIFIER_SOME,     /* at least once */
    QUANTIFIER_OPTIONAL, /* perhaps never */
    QUANTIFIER_STRANGE,
};

static enum quantifier take_quantifier(struct filter *filter)
{
    uint8_t c = filter->rest.len > 0 ? filter->rest.data[0] : 0;
    size_t end = 1;

    if (c != '?' && c != '*' && c != '+' && c != '{')
        return QUANTIFIER_NONE;
    if (c == '{') {
        while (end < filter->rest.len && memchr("0123456789,", filter->rest.data[end], 11) != NULL)
            end++;
        if (end == filter->rest.len || filter->rest.data[end++] != '}')
            return QUANTIFIER_STRANGE;
    }
    filter->rest = slice_after(filter->rest, end);
    /* Lazy and possessive ones have a second mark. */
    if (filter->rest.len > 0 && (filter->rest.data[0] == '?' || filter->rest.data[0] == '+'))
        filter->rest = slice_after(filter->rest, 1);
    return c == '+' ? QUANTIFIER_SOME : QUANTIFIER_OPTIONAL;
}

static bool take_letter(struct filter *filter, struct sequence *sequence)
{
    uint8_t c = slice_lower_octet(filter->rest.data[0]);
    enum quantifier quantifier;

    filter->rest = slice_after(filter->rest, 1);
    quantifier = take_quantifier(filter);
    if (sequence->run_letters == RUN_LETTERS_MAX)
        end_run(sequence);
    if (quantifier != QUANTIFIER_OPTIONAL)
        sequence->run[sequence->run_letters++] = c;
    if (quantifier != QUANTIFIER_NONE)
        end_run(sequence);
    return quantifier != QUANTIFIER_STRANGE;
}

/* Something that is no plain letter and length octets long. */
static bool take_other(struct filter *filter, struct sequence *sequence, size_t length)
{
    end_run(sequence);
    filter->rest = slice_after(filter->rest, length);
    return take_quantifier(filter) != QUANTIFIER_STRANGE;
}

/* A backslash and what it protects, or stands for. False when it is not known here. */
static bool take_escape(struct filter *filter, struct sequence *sequence)
{
    uint8_t c;

    if (filter->rest.len < 2)
        return false;
    c = slice_lower_octet(filter->rest.data[1]);
    if (memchr("dswbhvraz", c, 9) != NULL)
        return take_other(filter, sequence, 2);
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
        return false;
    filter->rest = slice_after(filter->rest, 1);
    return take_letter(filter, sequence);
}

/* (?i), (?x), (*VERB) and comments change what the rest means: not known here. */
static bool take_group(struct filter *filter, struct sequence *sequence)
{
    struct slice inside = slice_after(filter->rest, 1);
    struct needles needles;
    bool counts = true; /* what is within has to be there */
    enum quantifier quantifier;

    end_run(sequence);
    if (inside.len >= 2 && inside.data[0] == '?') {
        if (memchr(":=!<>", inside.data[1], 5) == NULL)
            return false;
        counts = inside.data[1] == ':';
        inside = slice_after(inside, 2);
    } else if (inside.len >= 1 && inside.data[0] == '*') {
        return false;
    }
    filter->rest = inside;
    if (++filter->depth > DEPTH_MAX || !take_alternatives(filter, &needles))
        return false;
    filter->depth--;
    if (filter->rest.len == 0)
        return false;
    filter->rest = slice_after(filter->rest, 1);
    quantifier = take_quantifier(filter);
    if (counts && quantifier < QUANTIFIER_OPTIONAL && is_more_telling(&needles, &sequence->best))
        sequence->best = needles;
    return quantifier != QUANTIFIER_STRANGE;
}

static bool take_part(struct filter *filter, struct sequence *sequence)
{
    struct slice before = filter->rest;

    switch (before.data[0]) {
    case '\\':
        return take_escape(filter, sequence);
    case '(':
        return take_group(filter, sequence);
    case '[':
        return skip_bracket(filter) && take_other(filter, sequence, 0);
    case '.':
    case '^':
    case '$':
        return take_other(filter, sequence, 1);
    case '{':
    case '?':
    case '*':
    case '+':
        return false;
    default:
        return take_letter(filter, sequence);
    }
}

/* Adds what one alternative needs to what the others need: if that is nothing, all need nothing. */
static void add_alternative(struct needles *all, const struct needles *one, bool is_first)
{
    if (is_first) {
        *all = *one;
    } else if (all->used == 0 || one->used == 0 || all->used + one->used > GRAMS_MAX) {
        all->used = 0;
    } else {
        memcpy(all->grams + all->used, one->grams, one->used * sizeof(one->grams[0]));
        all->used += one->used;
        if (one->shortest < all->shortest)
            all->shortest = one->shortest;
    }
}

/* Up to the end of the pattern or of the group. False when something is not understood. */
static bool take_alternatives(struct filter *filter, struct needles *ret_needles)
{
    bool is_first = true;

    for (;;) {
        struct sequence sequence = {0};

        while (filter->rest.len > 0 && memchr("|)", filter->rest.data[0], 2) == NULL) {
            if (!take_part(filter, &sequence))
                return false;
        }
        end_run(&sequence);
        add_alternative(ret_needles, &sequence.best, is_first);
        is_first = false;
        if (filter->rest.len == 0 || filter->rest.data[0] == ')')
            return true;
        filter->rest = slice_after(filter->rest, 1);
    }
}

static void make_filter(struct regex *regex, struct slice pattern)
{
    struct filter filter = {.rest = pattern};

    if (!take_alternatives(&filter, &regex->needles) || filter.rest.len > 0)
        regex->needles.used = 0;
}

static bool is_ruled_out(const struct regex *regex, const struct regex_subject *subject)
{
    const struct needles *needles = &regex->needles;

    for (uint32_t at = 0; at < needles->used; at += 1u + needles->grams[at]) {
        uint32_t count = needles->grams[at], found = 0;

        while (found < count) {
            uint16_t gram = needles->grams[at + 1 + found];

            if ((subject->grams[gram / 64] >> gram % 64 & 1) == 0)
                break;
            found++;
        }
        if (found == count)
            return false;
    }
    return regex->needles.used > 0;
}

/* ---- Compiling ------------------------------------------------------------------------------ */

static void *on_alloc(size_t bytes, void *context)
{
    return mem_try_alloc(bytes);
}

static void *on_alloc_at_boot(size_t bytes, void *context)
{
    return mem_alloc(bytes);
}

static void on_free(void *block, void *context)
{
    mem_free(block);
}

static pcre2_compile_context *new_compile_context(pcre2_general_context **ret_general)
{
    *ret_general = pcre2_general_context_create(on_alloc, on_free, NULL);
    return *ret_general == NULL ? NULL : pcre2_compile_context_create(*ret_general);
}

int regex_compile(struct slice pattern, struct regex **ret_regex, char *why)
{
    pcre2_general_context *general = NULL;
    pcre2_compile_context *context;
    struct regex *regex;
    PCRE2_SIZE at = 0;
    int code = 0;

    if (pattern.len > REGEX_BYTES_MAX) {
        snprintf(why, REGEX_WHY_MAX, "the pattern is longer than %d octets", REGEX_BYTES_MAX);
        return E_TOO_LONG;
    }
    context = new_compile_context(&general);
    regex = mem_try_alloc(sizeof(*regex));
    if (context != NULL && regex != NULL)
        regex->code = pcre2_compile(pattern.data, pattern.len, PCRE2_CASELESS, &code, &at, context);
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    if (regex == NULL || regex->code == NULL) {
        char text[120] = "no memory";

        mem_free(regex);
        if (code != 0)
            pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof(text));
        snprintf(why, REGEX_WHY_MAX, "%s at octet %zu of the pattern", text, (size_t)at);
        return code != 0 ? E_SYNTAX : -ENOMEM;
    }
    /* Where no machine code can be made, it is interpreted. */
    pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    make_filter(regex, pattern);
    *ret_regex = regex;
    return 0;
}

void regex_free(struct regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    mem_free(regex);
}

bool regex_has_filter(const struct regex *regex)
{
    return regex->needles.used > 0;
}

/* ---- Matching ------------------------------------------------------------------------------- */

struct regex_scratch *regex_scratch_new(void)
{
    struct regex_scratch *scratch = mem_alloc(sizeof(*scratch));
    pcre2_general_context *general = pcre2_general_context_create(on_alloc_at_boot, on_free, NULL);

    must(general != NULL);
    scratch->context = pcre2_match_context_create(general);
    scratch->data = pcre2_match_data_create(1, general);
    must(scratch->context != NULL && scratch->data != NULL);
    pcre2_general_context_free(general);
    pcre2_set_match_limit(scratch->context, REGEX_STEPS_MAX);
    pcre2_set_depth_limit(scratch->context, REGEX_DEPTH_MAX);
    pcre2_set_heap_limit(scratch->context, REGEX_HEAP_KB_MAX);
    return scratch;
}

void regex_scratch_free(struct regex_scratch *scratch)
{
    if (scratch == NULL)
        return;
    pcre2_match_data_free(scratch->data);
    pcre2_match_context_free(scratch->context);
    mem_free(scratch);
}

void regex_subject_set(struct regex_subject *subject, struct slice text)
{
    uint8_t a = 0, b = 0;

    subject->text = text;
    memset(subject->grams, 0, sizeof(subject->grams));
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = slice_lower_octet(text.data[i]);
        uint16_t gram = gram_of(a, b, c);

        if (i >= 2)
            subject->grams[gram / 64] |= UINT64_C(1) << gram % 64;
        a = b;
        b = c;
    }
}

enum regex_result regex_match(const struct regex *regex, const struct regex_subject *subject,
                              struct regex_scratch *scratch)
{
    int rc;

    if (is_ruled_out(regex, subject))
        return REGEX_NO;
    rc = pcre2_match(regex->code, subject->text.data, subject->text.len, 0, 0, scratch->data,
                     scratch->context);
    if (rc >= 0)
        return REGEX_YES;
    return rc == PCRE2_ERROR_NOMATCH ? REGEX_NO : REGEX_GAVE_UP;
}
