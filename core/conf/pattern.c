#include "core/conf/pattern.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/conf/block.h"

#include <errno.h>
#include <stdio.h>

#define DOMAIN_MAX 253
#define LABEL_MAX  63

/* One block's settings under a pattern. */
struct pattern_use {
    const struct settings *settings;
    struct pattern_use *next;
};

struct use_list {
    struct pattern_use *first;
    struct pattern_use *last;
};

struct pattern_entry {
    uint32_t layer;
    struct pattern pattern;
    struct use_list from_macros;
    struct use_list literal;
};

/* ---- Reading ------------------------------------------------------------------------------- */

static bool is_name_octet(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool pattern_is_macro_octet(uint8_t c)
{
    return is_name_octet(c) || (c >= 'A' && c <= 'Z');
}

static bool is_domain(struct slice name)
{
    size_t label = 0;

    if (name.len == 0 || name.len > DOMAIN_MAX)
        return false;
    /* Queues of our own making, such as {bounce}, are named in braces. */
    if (name.len > 2 && name.data[0] == '{' && name.data[name.len - 1] == '}')
        name = slice_of(name.data + 1, name.len - 2);
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] == '.') {
            if (label == 0)
                return false;
            label = 0;
        } else if (!is_name_octet(name.data[i]) || ++label > LABEL_MAX) {
            return false;
        }
    }
    return label > 0;
}

static struct slice lower_into(char room[PATTERN_TEXT_MAX], struct slice text)
{
    room[text.len] = '\0';
    return slice_lower(text, room);
}

/* "[192.0.2.0/24]", "[IPv6:2001:db8::1]"; text is without the brackets. */
static int parse_addresses(struct slice text, struct pattern *pattern)
{
    const struct slice tag = SLICE_LITERAL("IPv6:");

    if (slice_starts_nocase(text, tag))
        text = slice_after(text, tag.len);
    pattern->kind = PATTERN_ADDRESSES;
    return cidr_parse(text, &pattern->block);
}

int pattern_parse(struct slice text, char room[PATTERN_TEXT_MAX], struct pattern *ret_pattern)
{
    const struct slice both = SLICE_LITERAL("[*.]");
    const struct slice below = SLICE_LITERAL("*.");
    struct pattern pattern = {.kind = PATTERN_EXACT, .name = SLICE_EMPTY};

    if (slice_equal(text, SLICE_LITERAL("*"))) {
        pattern.kind = PATTERN_ANY;
        *ret_pattern = pattern;
        return 0;
    }
    if (slice_starts_nocase(text, both)) {
        pattern.kind = PATTERN_WITH_SUBDOMAINS;
        text = slice_after(text, both.len);
    } else if (slice_starts_nocase(text, below)) {
        pattern.kind = PATTERN_SUBDOMAINS;
        text = slice_after(text, below.len);
    } else if (text.len > 2 && text.data[0] == '[' && text.data[text.len - 1] == ']') {
        int rc = parse_addresses(slice_of(text.data + 1, text.len - 2), &pattern);

        if (rc == 0)
            *ret_pattern = pattern;
        return rc < 0 ? E_SYNTAX : 0;
    }
    if (text.len > 1 && text.data[text.len - 1] == '.')
        text.len--;
    if (text.len >= PATTERN_TEXT_MAX)
        return E_SYNTAX;
    pattern.name = lower_into(room, text);
    if (!is_domain(pattern.name))
        return E_SYNTAX;
    *ret_pattern = pattern;
    return 0;
}

/* Below the name, not the name itself. */
static bool is_below(struct slice domain, struct slice name)
{
    return domain.len > name.len + 1 && domain.data[domain.len - name.len - 1] == '.' &&
           slice_equal(slice_after(domain, domain.len - name.len), name);
}

static bool is_address_of(struct slice domain, const struct cidr *block)
{
    char room[PATTERN_TEXT_MAX];
    struct pattern literal;

    return domain.len > 0 && domain.data[0] == '[' && pattern_parse(domain, room, &literal) == 0 &&
           literal.kind == PATTERN_ADDRESSES && cidr_contains(block, &literal.block.ip);
}

bool pattern_matches(const struct pattern *pattern, struct slice domain)
{
    switch (pattern->kind) {
    case PATTERN_ANY:
        return true;
    case PATTERN_ADDRESSES:
        return is_address_of(domain, &pattern->block);
    case PATTERN_WITH_SUBDOMAINS:
        return slice_equal(domain, pattern->name) || is_below(domain, pattern->name);
    case PATTERN_SUBDOMAINS:
        return is_below(domain, pattern->name);
    case PATTERN_EXACT:
        return slice_equal(domain, pattern->name);
    }
    return false;
}

struct slice pattern_sample(const struct pattern *pattern, char room[PATTERN_SAMPLE_MAX])
{
    char ip[IPADDR_TEXT_MAX];
    int bytes = 0;

    switch (pattern->kind) {
    case PATTERN_ANY:
        return SLICE_LITERAL("?");
    case PATTERN_ADDRESSES:
        ipaddr_format(&pattern->block.ip, ip);
        bytes = snprintf(room, PATTERN_SAMPLE_MAX, "[%s]", ip);
        break;
    case PATTERN_WITH_SUBDOMAINS:
    case PATTERN_SUBDOMAINS:
        bytes = snprintf(room, PATTERN_SAMPLE_MAX, "?.%.*s", (int)pattern->name.len,
                         (const char *)pattern->name.data);
        break;
    case PATTERN_EXACT:
        return pattern->name;
    }
    return slice_of(room, (size_t)bytes);
}

/* ---- The index ----------------------------------------------------------------------------- */

struct pattern_key {
    uint32_t layer;
    struct pattern pattern;
};

static bool match_entry(uint32_t value, const void *key, void *context)
{
    const struct pattern_index *index = context;
    const struct pattern_entry *entry = &index->entries[value];
    const struct pattern_key *wanted = key;

    return entry->layer == wanted->layer && entry->pattern.kind == wanted->pattern.kind &&
           entry->pattern.block.prefix_bits == wanted->pattern.block.prefix_bits &&
           ipaddr_equal(&entry->pattern.block.ip, &wanted->pattern.block.ip) &&
           slice_equal_nocase(entry->pattern.name, wanted->pattern.name);
}

static uint64_t hash_key(const struct pattern_key *key)
{
    const struct pattern *pattern = &key->pattern;
    uint64_t place =
        (uint64_t)key->layer << 16 | (uint64_t)pattern->kind << 8 | pattern->block.prefix_bits;
    uint64_t what = pattern->kind == PATTERN_ADDRESSES
                        ? ipaddr_hash(&pattern->block.ip)
                        : hash_bytes_nocase(pattern->name.data, pattern->name.len);

    return hash_combine(place, what);
}

static struct pattern_entry *find_entry(const struct pattern_index *index,
                                        const struct pattern_key *key)
{
    uint32_t position =
        table_find(&index->table, hash_key(key), match_entry, key, (void *)(uintptr_t)index);

    return position == TABLE_NONE ? NULL : &index->entries[position];
}

void pattern_index_init(struct pattern_index *index, struct arena *arena)
{
    *index = (struct pattern_index){.arena = arena};
    table_init(&index->table);
}

void pattern_index_fini(struct pattern_index *index)
{
    table_fini(&index->table);
    mem_free(index->entries);
}

static int make_room(struct pattern_index *index)
{
    uint32_t capacity = index->capacity == 0 ? 64 : index->capacity * 2;
    struct pattern_entry *entries;

    if (index->count < index->capacity)
        return 0;
    entries = mem_try_alloc(capacity * sizeof(*entries));
    if (entries == NULL)
        return -ENOMEM;
    if (index->count > 0)
        memcpy(entries, index->entries, index->count * sizeof(*entries));
    mem_free(index->entries);
    index->entries = entries;
    index->capacity = capacity;
    return 0;
}

static struct pattern_entry *add_entry(struct pattern_index *index, const struct pattern_key *key)
{
    struct pattern_entry *entry;

    if (make_room(index) < 0 || !table_insert(&index->table, hash_key(key), index->count))
        return NULL;
    entry = &index->entries[index->count++];
    *entry = (struct pattern_entry){.layer = key->layer, .pattern = key->pattern};
    entry->pattern.name = arena_copy(index->arena, key->pattern.name);
    return entry;
}

int pattern_index_add(struct pattern_index *index, uint32_t layer, const struct pattern *pattern,
                      const struct settings *settings, bool from_macro)
{
    struct pattern_key key = {layer, *pattern};
    struct pattern_entry *entry = find_entry(index, &key);
    struct pattern_use *use;
    struct use_list *list;

    if (entry == NULL)
        entry = add_entry(index, &key);
    if (entry == NULL)
        return -ENOMEM;
    if (pattern->kind == PATTERN_ADDRESSES) {
        bool v6 = pattern->block.ip.family == IPADDR_V6;

        index->prefixes[v6][pattern->block.prefix_bits / 64] |=
            1ull << (pattern->block.prefix_bits % 64);
    }
    use = arena_alloc(index->arena, sizeof(*use));
    use->settings = settings;
    list = from_macro ? &entry->from_macros : &entry->literal;
    if (list->last != NULL)
        list->last->next = use;
    else
        list->first = use;
    list->last = use;
    return 0;
}

/* ---- Looking up ---------------------------------------------------------------------------- */

struct visit {
    const struct pattern_index *index;
    uint32_t layer;
    pattern_visit_fn *visit;
    void *context;
};

static void visit_list(const struct visit *visit, const struct use_list *list)
{
    for (const struct pattern_use *use = list->first; use != NULL; use = use->next)
        visit->visit(visit->context, use->settings);
}

static void visit_pattern(const struct visit *visit, const struct pattern *pattern)
{
    struct pattern_key key = {visit->layer, *pattern};
    const struct pattern_entry *entry = find_entry(visit->index, &key);

    if (entry == NULL)
        return;
    visit_list(visit, &entry->from_macros);
    visit_list(visit, &entry->literal);
}

static void visit_name(const struct visit *visit, enum pattern_kind kind, struct slice name)
{
    struct pattern pattern = {.kind = kind, .name = name};

    visit_pattern(visit, &pattern);
}

/* From the top-level label down; at each suffix the narrower of the two wildcards comes last. */
static void visit_suffixes(const struct visit *visit, struct slice domain)
{
    for (size_t at = domain.len; at > 0; at--) {
        struct slice suffix = slice_after(domain, at);

        if (domain.data[at - 1] != '.' || suffix.len == 0)
            continue;
        visit_name(visit, PATTERN_WITH_SUBDOMAINS, suffix);
        visit_name(visit, PATTERN_SUBDOMAINS, suffix);
    }
    visit_name(visit, PATTERN_WITH_SUBDOMAINS, domain);
    visit_name(visit, PATTERN_EXACT, domain);
}

/* From the widest block to the narrowest, skipping sizes that no pattern has. */
static void visit_addresses(const struct visit *visit, const struct ipaddr *ip)
{
    const uint64_t *prefixes = visit->index->prefixes[ip->family == IPADDR_V6];
    unsigned most = ip->family == IPADDR_V6 ? 128 : 32;

    for (unsigned bits = 0; bits <= most; bits++) {
        struct pattern pattern = {.kind = PATTERN_ADDRESSES, .name = SLICE_EMPTY};

        if ((prefixes[bits / 64] >> (bits % 64) & 1) == 0)
            continue;
        pattern.block = cidr_of(ip, (uint8_t)bits);
        visit_pattern(visit, &pattern);
    }
}

void pattern_index_visit(const struct pattern_index *index, uint32_t layer, struct slice domain,
                         pattern_visit_fn *visit_fn, void *context)
{
    struct visit visit = {index, layer, visit_fn, context};
    char room[PATTERN_TEXT_MAX];
    struct pattern literal;

    visit_name(&visit, PATTERN_ANY, SLICE_EMPTY);
    if (domain.len > 0 && domain.data[0] == '[') {
        if (pattern_parse(domain, room, &literal) == 0 && literal.kind == PATTERN_ADDRESSES)
            visit_addresses(&visit, &literal.block.ip);
        return;
    }
    visit_suffixes(&visit, domain);
}
