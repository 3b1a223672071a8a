#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/base/regex.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>
#include <pcre2.h>
#include <stdio.h>

#define RUN_LETTERS_MIN  3 /* one group */
#define RUN_LETTERS_MAX  34
#define ALTERNATIVES_MAX 24
#define GRAMS_MAX        240

struct regex {
    pcre2_code *code;
    uint16_t gram_count; /* 0: no filter */
    /* For each alternative the number of its groups, then those. */
    uint16_t grams[GRAMS_MAX];
};

struct regex_scratch {
    pcre2_match_context *context;
    pcre2_match_data *data;
};

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static uint16_t gram_of(uint8_t a, uint8_t b, uint8_t c)
{
    uint32_t mixed = (uint32_t)a << 16 | (uint32_t)b << 8 | c;

    return (uint16_t)((mixed * 2654435761u >> 16) % REGEX_GRAM_BITS);
}

/* ---- The filter ----------------------------------------------------------------------------- */

/* A walk through a pattern that gathers, for each alternative, its longest run of plain letters. */
struct filter {
    struct slice rest;
    uint8_t run[RUN_LETTERS_MAX];
    size_t run_letters;
    uint8_t best[RUN_LETTERS_MAX];
    size_t best_letters;
    struct regex *regex;
    uint32_t alternatives;
};

static void end_run(struct filter *filter)
{
    if (filter->run_letters > filter->best_letters) {
        memcpy(filter->best, filter->run, filter->run_letters);
        filter->best_letters = filter->run_letters;
    }
    filter->run_letters = 0;
}

/* False when the alternative has no run, or there is no more room: then there is no filter. */
static bool end_alternative(struct filter *filter)
{
    struct regex *regex = filter->regex;
    size_t grams;

    end_run(filter);
    if (filter->best_letters < RUN_LETTERS_MIN || ++filter->alternatives > ALTERNATIVES_MAX)
        return false;
    grams = filter->best_letters - 2;
    if (regex->gram_count + 1 + grams > GRAMS_MAX)
        return false;
    regex->grams[regex->gram_count++] = (uint16_t)grams;
    for (size_t i = 0; i < grams; i++)
        regex->grams[regex->gram_count++] =
            gram_of(filter->best[i], filter->best[i + 1], filter->best[i + 2]);
    filter->best_letters = 0;
    return true;
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

static bool skip_group(struct filter *filter)
{
    unsigned depth = 0;

    while (filter->rest.len > 0) {
        uint8_t c = filter->rest.data[0];

        if (c == '[') {
            if (!skip_bracket(filter))
                return false;
            continue;
        }
        if (c == '\\') {
            /* \Q would end the meaning of brackets. */
            if (filter->rest.len < 2 || filter->rest.data[1] == 'Q')
                return false;
            filter->rest = slice_after(filter->rest, 2);
            continue;
        }
        /* (?i), (?x), (*VERB) and comments change what the rest means; (?: (?= (?! (?< do not. */
        if (c == '(' && filter->rest.len > 2 && filter->rest.data[1] == '*')
            return false;
        if (c == '(' && filter->rest.len > 2 && filter->rest.data[1] == '?' &&
            memchr(":=!<>", filter->rest.data[2], 5) == NULL)
            return false;
        depth += c == '(';
        filter->rest = slice_after(filter->rest, 1);
        if (c == ')' && --depth == 0)
            return true;
    }
    return false;
}

/* The quantifier that the rest begins with, if any: what it may leave out is no part of a run.
 * False for a brace that is no quantifier. */
static bool take_quantifier(struct filter *filter)
{
    uint8_t c = filter->rest.len > 0 ? filter->rest.data[0] : 0;
    size_t end = 1;

    if (c != '?' && c != '*' && c != '+' && c != '{')
        return true;
    if (c != '+' && filter->run_letters > 0)
        filter->run_letters--;
    end_run(filter);
    if (c == '{') {
        while (end < filter->rest.len && memchr("0123456789,", filter->rest.data[end], 11) != NULL)
            end++;
        if (end == filter->rest.len || filter->rest.data[end++] != '}')
            return false;
    }
    filter->rest = slice_after(filter->rest, end);
    /* Lazy and possessive ones have a second mark. */
    if (filter->rest.len > 0 && (filter->rest.data[0] == '?' || filter->rest.data[0] == '+'))
        filter->rest = slice_after(filter->rest, 1);
    return true;
}

static bool add_letter(struct filter *filter, uint8_t c)
{
    if (filter->run_letters == RUN_LETTERS_MAX)
        end_run(filter);
    filter->run[filter->run_letters++] = lower(c);
    filter->rest = slice_after(filter->rest, 1);
    return take_quantifier(filter);
}

/* A backslash and what it protects, or stands for. False when it is not known here. */
static bool take_escape(struct filter *filter)
{
    uint8_t c;

    if (filter->rest.len < 2)
        return false;
    c = filter->rest.data[1];
    filter->rest = slice_after(filter->rest, 1);
    if (strchr("dDsSwWbBhHvVRAzZ", c) != NULL && c != 0) {
        end_run(filter);
        filter->rest = slice_after(filter->rest, 1);
        return take_quantifier(filter);
    }
    if ((lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9'))
        return false;
    return add_letter(filter, c);
}

static bool take_part(struct filter *filter)
{
    uint8_t c = filter->rest.data[0];

    switch (c) {
    case '\\':
        return take_escape(filter);
    case '|':
        filter->rest = slice_after(filter->rest, 1);
        return end_alternative(filter);
    case '(':
    case '[':
        end_run(filter);
        if (!(c == '(' ? skip_group(filter) : skip_bracket(filter)))
            return false;
        return take_quantifier(filter);
    case '.':
    case '^':
    case '$':
        end_run(filter);
        filter->rest = slice_after(filter->rest, 1);
        return take_quantifier(filter);
    case ')':
    case '{':
    case '?':
    case '*':
    case '+':
        return false;
    default:
        return add_letter(filter, c);
    }
}

static void make_filter(struct regex *regex, struct slice pattern)
{
    struct filter filter = {.rest = pattern, .regex = regex};

    while (filter.rest.len > 0) {
        if (!take_part(&filter)) {
            regex->gram_count = 0;
            return;
        }
    }
    if (!end_alternative(&filter))
        regex->gram_count = 0;
}

static bool is_ruled_out(const struct regex *regex, const struct regex_subject *subject)
{
    for (uint32_t at = 0; at < regex->gram_count; at += 1u + regex->grams[at]) {
        uint32_t count = regex->grams[at], found = 0;

        while (found < count) {
            uint16_t gram = regex->grams[at + 1 + found];

            if ((subject->grams[gram / 64] >> gram % 64 & 1) == 0)
                break;
            found++;
        }
        if (found == count)
            return false;
    }
    return regex->gram_count > 0;
}

/* ---- Compiling ------------------------------------------------------------------------------ */

static void *on_alloc(size_t bytes, void *context)
{
    return mem_try_alloc(bytes);
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
    return regex->gram_count > 0;
}

/* ---- Matching ------------------------------------------------------------------------------- */

struct regex_scratch *regex_scratch_new(void)
{
    struct regex_scratch *scratch = mem_alloc(sizeof(*scratch));
    /* At boot, so the same holds as for mem_alloc. */
    pcre2_general_context *general = pcre2_general_context_create(on_alloc, on_free, NULL);

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
        uint8_t c = lower(text.data[i]);
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
