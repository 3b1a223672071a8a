/*
 * pattern: domain patterns and the index that finds all blocks that match a domain.
 *
 * A pattern is `*`, `dom`, `*.dom` (subdomains only), `[*.]dom` (both) or `[ip/mask]` for address
 * literals. The index is filled by one thread and then only read, by any thread. A look-up costs
 * two hash probes for each label of the domain, however many patterns there are.
 */
#pragma once

#include "core/base/arena.h"
#include "core/base/hash.h"
#include "core/base/ipaddr.h"

#define PATTERN_TEXT_MAX 256

enum pattern_kind {
    PATTERN_ANY,
    PATTERN_ADDRESSES,
    PATTERN_WITH_SUBDOMAINS,
    PATTERN_SUBDOMAINS,
    PATTERN_EXACT,
};

struct pattern {
    enum pattern_kind kind;
    struct slice name; /* lower case, without the wildcard */
    struct cidr block; /* of PATTERN_ADDRESSES */
};

/* room receives the name. 0, or E_SYNTAX. */
int pattern_parse(struct slice text, char room[PATTERN_TEXT_MAX], struct pattern *ret_pattern);
/* Whether c may occur in the name of a macro. */
bool pattern_is_macro_octet(uint8_t c);

/* Whether the pattern stands for a domain in lower case. */
bool pattern_matches(const struct pattern *pattern, struct slice domain);
/* A domain that it stands for, as are most of those that it stands for: `?` is a label that no
 * other pattern names. Into room of PATTERN_SAMPLE_MAX bytes. */
#define PATTERN_SAMPLE_MAX (PATTERN_TEXT_MAX + 8)
struct slice pattern_sample(const struct pattern *pattern, char room[PATTERN_SAMPLE_MAX]);

struct settings;

/*
 * Patterns live in layers (the top level, a pool, a virtual MTA), which do not see each other.
 * Within a layer a more specific pattern beats a less specific one, and of two equal patterns the
 * literal one beats the one that came out of a macro.
 */
struct pattern_index {
    struct arena *arena;
    struct table table;
    struct pattern_entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint64_t prefixes[2][3]; /* bit n: some block of n prefix bits, for IPv4 and IPv6 */
};

/* Names and links go into the arena, which must outlive the index. */
void pattern_index_init(struct pattern_index *index, struct arena *arena);
void pattern_index_fini(struct pattern_index *index);
/* settings must outlive the index; of equal patterns the one added later wins. 0, or -ENOMEM. */
int pattern_index_add(struct pattern_index *index, uint32_t layer, const struct pattern *pattern,
                      const struct settings *settings, bool from_macro);

typedef void pattern_visit_fn(void *context, const struct settings *settings);
/* Visits what matches domain in the layer, the most specific last. */
void pattern_index_visit(const struct pattern_index *index, uint32_t layer, struct slice domain,
                         pattern_visit_fn *visit, void *context);
