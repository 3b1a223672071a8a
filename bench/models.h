/*
 * models: receivers that ship with the program, described in the language of rules.h.
 *
 * Their figures and replies follow what large providers publish or were seen to do, rounded; they
 * are for testing how a sender behaves, not for tuning one. Times are those of life: rules_set_pace
 * makes them pass faster. Pure data and one function that hands it to the parser.
 */
#pragma once

#include "bench/rules.h"

#include <stddef.h>

struct model {
    const char *name;
    const char *summary; /* one line */
    const char *text;
};

extern const struct model models[];
extern const size_t model_count;

/* NULL when there is none of that name. */
const struct model *model_find(const char *name);
/* Adds the model's rules behind those that there are. */
void model_add(const struct model *model, struct rules *rules);
