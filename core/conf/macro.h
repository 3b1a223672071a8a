/*
 * macro: lists of domains by name, and the patterns that a text with $NAME in it stands for.
 *
 * Macros may name other macros; loops are refused. Expansion is bounded in depth, in length and in
 * number. One thread.
 */
#pragma once

#include "core/base/arena.h"
#include "core/base/hash.h"

#define MACRO_WHY_MAX       160
#define MACRO_EXPANSION_MAX 1000000

struct macro_set {
    struct arena *arena;
    struct table by_name;
    struct macro **macros;
    uint32_t count;
    uint32_t capacity;
    uint32_t left; /* expansions that are still allowed */
    unsigned depth;
    char why[MACRO_WHY_MAX];
    bool is_unknown; /* what `why` tells is that a macro of that name is not there */
};

void macro_set_init(struct macro_set *set, struct arena *arena);
void macro_set_fini(struct macro_set *set);
/* A name that is given again gets the later list: 0, or E_EXISTS then, or -ENOMEM. */
int macro_set_add(struct macro_set *set, struct slice name, struct slice items);

/* Negative ends the expansion and is what macro_expand returns. */
typedef int macro_emit_fn(void *context, struct slice text, bool from_macro);
/*
 * Calls emit for each text that text stands for; for itself when it holds no macro. 0, or E_SYNTAX
 * with the reason in set->why, or what emit returned.
 */
int macro_expand(struct macro_set *set, struct slice text, macro_emit_fn *emit, void *context);
/* Notes the macros that text names, and those that these name. */
void macro_mark_used(struct macro_set *set, struct slice text);
bool macro_is_used(struct macro_set *set, struct slice name);
/* Checks a macro that nothing uses: the same returns. */
int macro_check(struct macro_set *set, struct slice name);
