/*
 * regex: Perl-like patterns (PCRE2, compiled to machine code where that is possible), each with a
 * filter that spares most of the work.
 *
 * A pattern is compiled once and then never altered: any thread may match it, each with a scratch
 * of its own. ASCII case is ignored unless the pattern says (?-i); subjects are bytes, not UTF-8.
 * Matching is bounded (REGEX_STEPS_MAX and the depth and heap below): a pattern that takes longer
 * gives up, which counts as no match, and never hangs its caller.
 *
 * The filter: from the pattern the runs of plain letters are taken that any match must contain, one
 * for each alternative. A subject knows which groups of three letters occur in it, so most patterns
 * are ruled out by a few bit tests. A pattern from which nothing can be taken is always tried; what
 * is not understood is left out, so the filter never rules out a match.
 *
 * Compiling allocates (mem.h); matching does not where machine code could be made, and otherwise
 * only until the scratch has grown to what the patterns need.
 */
#pragma once

#include "core/base/slice.h"

#define REGEX_STEPS_MAX   100000
#define REGEX_DEPTH_MAX   2000
#define REGEX_HEAP_KB_MAX 1024
#define REGEX_BYTES_MAX   4096 /* of a pattern */
#define REGEX_WHY_MAX     160

struct regex;
struct regex_scratch;

#define REGEX_GRAM_BITS 4096u /* power of two */

/* What is matched, with the groups of three letters that occur in it. Holds no memory. */
struct regex_subject {
    struct slice text;
    uint64_t grams[REGEX_GRAM_BITS / 64];
};

enum regex_result {
    REGEX_NO,
    REGEX_YES,
    REGEX_GAVE_UP, /* a bound was met; to be taken for no match */
};

/* 0, or E_SYNTAX or E_TOO_LONG with the reason in why (REGEX_WHY_MAX bytes), or -ENOMEM. */
int regex_compile(struct slice pattern, struct regex **ret_regex, char *why);
void regex_free(struct regex *regex); /* NULL is fine */
/* Whether subjects can be ruled out without matching. */
bool regex_has_filter(const struct regex *regex);

struct regex_scratch *regex_scratch_new(void); /* never NULL */
void regex_scratch_free(struct regex_scratch *scratch);

/* text must stay while the subject is used. */
void regex_subject_set(struct regex_subject *subject, struct slice text);
enum regex_result regex_match(const struct regex *regex, const struct regex_subject *subject,
                              struct regex_scratch *scratch);
