/*
 * value: what stands behind a keyword, parsed by the type of its row.
 *
 * Text and lists go into the arena that the caller names and live as long as it does. A refusal
 * leaves a clear text and nothing else. Any thread.
 */
#pragma once

#include "core/base/arena.h"
#include "core/base/ipaddr.h"
#include "core/conf/conf.h"
#include "core/conf/directives.h"

#define VALUE_WHY_MAX 256

/* Of TYPE_LISTENER and TYPE_SOURCE_HOST. */
struct value_block {
    struct cidr block;
    uint16_t port;
    const char *name; /* named source or HELO name; NULL when not given */
};

/* Of TYPE_ROUTE_LIST. */
struct value_route {
    const struct conf_route_host *hosts;
    uint32_t count;
    uint64_t hash; /* of the normal form, without the port that hosts leave to default-smtp-port */
};

/* Of TYPE_MACRO: the items are split and expanded once all macros are known. */
struct value_macro {
    struct slice name;
    struct slice items;
};

struct value {
    uint64_t number; /* boolean, ms, bytes, count, choice, bits of choices, length of a list */
    uint64_t burst;  /* of a rate */
    union {
        uint64_t interval_ms; /* of a rate; of "no, yes or time" the time */
        const char *text;     /* without quotes */
        const uint64_t *times;
        const uint16_t *cpus;
        const struct value_block *block;
        const struct value_route *route;
        const struct value_macro *macro;
        /* These two once certificates_resolve has seen the text. */
        const struct conf_certificate *certificate;
        const struct conf_authorities *authorities;
    };
};

/*
 * text: what stands behind the keyword, without comment and outer blanks, not empty. 0, or
 * E_SYNTAX or E_RANGE with a text in why.
 */
int value_parse(const struct directive *row, struct slice text, struct arena *arena,
                struct value *ret_value, char why[VALUE_WHY_MAX]);

/* "1s to 1h" where the row bounds its numbers; false where it does not. */
bool value_range(const struct directive *row, char *room, size_t size);

/* True when the type is a list whose items may stand on several lines, cut after a comma. */
bool value_may_wrap(enum directive_type type);

/* What words stand apart by. */
bool value_is_blank(uint8_t c);

/*
 * Takes the next word off *rest, without its quotes. 1, or 0 when only blanks are left, or
 * E_SYNTAX when a quote is not closed or something sticks to the closing one.
 */
int value_next_word(struct slice *rest, struct slice *ret_word);

/* Takes the next item off a comma-separated list, trimmed, perhaps empty. False at the end. */
bool value_next_item(struct slice *rest, struct slice *ret_item);
