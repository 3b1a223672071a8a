/*
 * rules_int: the inside of the rules, shared by their parser (rules_parse.c) and the engine
 * (rules.c).
 */
#pragma once

#include "bench/rules.h"
#include "bench/rules_memory.h"

/* Whom rate= counts for. */
enum rule_whom {
    RULE_PER_CLIENT,
    RULE_PER_DOMAIN,
    RULE_PER_RCPT,
    RULE_PER_SENDER,
    RULE_PER_ALL,
};

struct rule {
    uint32_t index;
    enum rule_action action;
    bool decides; /* an action or cut= was given */
    bool ends;
    uint32_t cut;
    char *reply;
    size_t reply_len;
    char *to;
    char *sender;
    struct cidr from;
    struct cidr at;
    bool has_from;
    bool has_at;
    bool has_connections;
    bool has_total;
    double percent; /* < 0: no matter */
    uint64_t every;
    uint64_t first;
    uint64_t connections;
    uint64_t total;
    uint64_t messages;
    uint64_t commands;
    uint64_t recipients;
    uint64_t after_ns;
    uint64_t until_ns;
    uint64_t period_ns;  /* 0 = none */
    uint64_t rate_count; /* 0 = no rate= */
    uint64_t rate_span_ns;
    enum rule_whom per;
    uint64_t penalty_ns;
    uint64_t grey_ns; /* 0 = no grey= */
    uint64_t delay_low_ms;
    uint64_t delay_high_ms;
    uint64_t met; /* events that met the conditions before every= and first= */
    uint64_t played;
};

#define RULES_MAX 256

struct rules {
    struct rule *list[RULES_MAX];
    uint32_t count;
    /* Indices into the list, in its order. */
    uint16_t by_stage[RULE_STAGE_COUNT][RULES_MAX];
    uint32_t stage_counts[RULE_STAGE_COUNT];
    struct rules_memory memory;
    double pace;
    uint64_t lag_ms;
    bool wants_sender;
    bool has_offers;
    uint32_t offers;
};

/* rules_parse.c: frees what the parser allocated for it. */
void rule_free(struct rule *rule);
