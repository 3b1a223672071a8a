/*
 * classify_rules: the rules of the classifier as they stand in memory; private to core/mail.
 *
 * Built by classify_rules.c, matched by classify.c, never altered in between.
 */
#pragma once

#include "core/base/arena.h"
#include "core/mail/classify.h"

#define CLASSIFY_CODES_MAX     8
#define CLASSIFY_STATUSES_MAX  12
#define CLASSIFY_SUFFIXES_MAX  16
#define CLASSIFY_PROVIDERS_MAX 64
#define CLASSIFY_RULES_MAX     1000
#define CLASSIFY_PART_ANY      (-1)

/* Reply codes from low to high: "5" is 500-599, "55" 550-559, "552" itself. */
struct classify_code {
    uint16_t low;
    uint16_t high;
};

struct classify_status {
    int16_t part[3]; /* CLASSIFY_PART_ANY, or the number */
};

struct classify_provider {
    struct slice name;
    struct slice suffixes[CLASSIFY_SUFFIXES_MAX];
    uint32_t suffix_count;
};

struct classify_rule {
    const char *id;
    const char *category;
    uint8_t class;    /* enum classify_class */
    uint8_t reaction; /* enum classify_reaction */
    uint8_t scope;    /* enum classify_scope */
    bool has_stage;
    uint16_t stages; /* bit of each enum verdict_stage */
    uint32_t code_count;
    uint32_t status_count;
    unsigned line;
    uint64_t providers; /* bit of each that it may come from; 0 = any, or none known */
    struct classify_code codes[CLASSIFY_CODES_MAX];
    struct classify_status statuses[CLASSIFY_STATUSES_MAX];
    struct regex *regex; /* NULL = any text */
};

struct classify_rules {
    struct arena arena;
    const char *file;
    struct classify_provider *providers;
    uint32_t provider_count;
    struct classify_rule *rules;
    uint32_t rule_count;
};
