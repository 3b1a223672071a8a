#include "core/conf/build.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/conf/block.h"
#include "core/conf/field.h"
#include "core/conf/group.h"
#include "core/conf/included.h"
#include "core/conf/pattern_list.h"
#include "core/conf/rewrite_list.h"
#include "core/conf/show.h"

#include <errno.h>

/* Blocks times names, each worked out twice; beyond this a configuration is a mistake. */
#define COMBINATIONS_MAX 1000000

/* ---- Numbers of blocks and names ----------------------------------------------------------- */

static uint64_t hash_block(const struct cidr *block)
{
    return hash_combine(ipaddr_hash(&block->ip),
                        (uint64_t)block->ip.family << 8 | block->prefix_bits);
}

static bool match_block(uint32_t value, const void *key, void *context)
{
    const struct source_table *sources = context;
    const struct cidr *block = key;

    return sources->blocks[value].block.prefix_bits == block->prefix_bits &&
           ipaddr_equal(&sources->blocks[value].block.ip, &block->ip);
}

static uint32_t find_exactly(const struct source_table *sources, const struct cidr *block)
{
    uint32_t number = table_find(&sources->by_block, hash_block(block), match_block, block,
                                 (void *)(uintptr_t)sources);

    return number == TABLE_NONE ? 0 : number;
}

/* The narrowest block of at most max_bits prefix bits that holds ip, or 0. */
uint32_t source_find_block(const struct source_table *sources, const struct ipaddr *ip,
                           unsigned max_bits)
{
    const uint64_t *prefixes = sources->prefixes[ip->family == IPADDR_V6];

    for (unsigned bits = max_bits + 1; bits-- > 0;) {
        struct cidr block;
        uint32_t number;

        if ((prefixes[bits / 64] >> (bits % 64) & 1) == 0)
            continue;
        block = cidr_of(ip, (uint8_t)bits);
        number = find_exactly(sources, &block);
        if (number != 0)
            return number;
    }
    return ip->family == IPADDR_V6 ? sources->everything : 0;
}

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct source_table *sources = context;

    return slice_equal_nocase(sources->names[value], *(const struct slice *)key);
}

uint32_t source_find_name(const struct source_table *sources, struct slice name)
{
    uint32_t number = table_find(&sources->by_name, hash_bytes_nocase(name.data, name.len),
                                 match_name, &name, (void *)(uintptr_t)sources);

    return number == TABLE_NONE ? 0 : number;
}

static int add_block(struct source_table *sources, const struct cidr *block)
{
    bool v6 = block->ip.family == IPADDR_V6;

    if (find_exactly(sources, block) != 0)
        return 0;
    if (!table_insert(&sources->by_block, hash_block(block), sources->block_count + 1))
        return -ENOMEM;
    sources->blocks[++sources->block_count].block = *block;
    sources->prefixes[v6][block->prefix_bits / 64] |= 1ull << (block->prefix_bits % 64);
    if (!v6 && block->prefix_bits == 0)
        sources->everything = sources->block_count;
    return 0;
}

static int add_name(struct source_table *sources, struct slice name)
{
    if (source_find_name(sources, name) != 0)
        return 0;
    if (!table_insert(&sources->by_name, hash_bytes_nocase(name.data, name.len),
                      sources->name_count + 1))
        return -ENOMEM;
    sources->names[++sources->name_count] = name;
    return 0;
}

/* What only digits, dots, colons and slashes make up was meant as an address. */
static bool looks_like_address(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];

        if (!(c >= '0' && c <= '9') && c != '.' && c != ':' && c != '/')
            return false;
    }
    return true;
}

static int add_source(struct build *build, const struct section *section)
{
    struct source_table *sources = &build->conf->sources;
    struct cidr block;
    int rc = cidr_parse(section->name, &block);

    if (rc == 0)
        return add_block(sources, &block);
    if (section->name.data[0] == '{')
        return add_name(sources, section->name);
    if (looks_like_address(section->name) || slice_find(section->name, '/') < section->name.len)
        report_error(build->report, section->file, section->line, "<source>: \"%.*s\" %s",
                     SHOW(section->name), cidr_why(rc));
    return add_name(sources, section->name);
}

/* ---- Checks -------------------------------------------------------------------------------- */

static bool is_by_address(struct slice name)
{
    return slice_equal_nocase(name, SLICE_LITERAL("by-smtp-source-ip"));
}

static void check_way(struct build *build, const struct entry *entry, struct slice name)
{
    if (vmta_find(build->conf, name) == TABLE_NONE && pool_find(build->conf, name) == TABLE_NONE)
        build_missing_name(build, entry->file, entry->line,
                           "%s: there is no virtual MTA or pool \"%.*s\"", entry->row->name,
                           SHOW(name));
}

void source_check_ways(struct build *build, const struct entry *entry)
{
    struct slice rest = slice_str(entry->value.text);
    struct slice name;

    while (value_next_item(&rest, &name))
        check_way(build, entry, name);
}

static void check_remove_header(struct build *build, const struct entry *entry)
{
    struct slice rest = slice_str(entry->value.text);
    struct slice name;
    uint32_t count = 0;

    while (value_next_item(&rest, &name))
        count++;
    if (count > CONF_REMOVE_HEADERS_MAX)
        report_error(build->report, entry->file, entry->line,
                     "remove-header: at most %u names, not %u", CONF_REMOVE_HEADERS_MAX, count);
}

static bool is_place(struct slice text)
{
    static const struct slice places[] = {SLICE_LITERAL("{job}"), SLICE_LITERAL("{vmta}"),
                                          SLICE_LITERAL("{pool}")};
    bool is_one = false;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        is_one |= slice_starts_nocase(text, places[i]);
    return is_one;
}

/* What stands for nothing is written as it is, which is hardly meant. */
static void check_template(struct build *build, const struct entry *entry, struct slice text)
{
    size_t at = slice_find(text, '{');

    while (at < text.len && is_place(slice_after(text, at)))
        at += 1 + slice_find(slice_after(text, at + 1), '{');
    if (at < text.len)
        report_warning(build->report, entry->file, entry->line,
                       "feedback-id: only {job}, {vmta} and {pool} stand for something; \"%.*s\" "
                       "is written as it is",
                       SHOW(slice_after(text, at)));
}

static void check_list(struct build *build, const struct entry *entry, struct slice name,
                       bool is_there)
{
    if (!is_there)
        build_missing_name(build, entry->file, entry->line, "%s: there is no list \"%.*s\"",
                           entry->row->name, SHOW(name));
}

/* Names of virtual MTAs and pools that settings of sources give must exist. */
static void check_entry(struct build *build, const struct entry *entry)
{
    struct slice rest;
    struct slice name;

    if (entry->cleared || (entry->row->scopes & SCOPE_BIT(SCOPE_SOURCE)) == 0)
        return;
    if (entry->row->store == STORE_DEFAULT_VMTA) {
        if (!is_by_address(slice_str(entry->value.text)))
            check_way(build, entry, slice_str(entry->value.text));
        return;
    }
    if (entry->row->store != STORE_TEXT)
        return;
    rest = slice_str(entry->value.text);
    if (entry->row->offset == offsetof(struct conf_source, invalid_vmta_fallback))
        check_way(build, entry, rest);
    else if (entry->row->offset == offsetof(struct conf_source, allow_virtual_mta))
        source_check_ways(build, entry);
    else if (entry->row->offset == offsetof(struct conf_source, feedback_id))
        check_template(build, entry, rest);
    else if (entry->row->offset == offsetof(struct conf_source, pattern_list))
        check_list(build, entry, rest, pattern_list_find(build->conf, rest) != NULL);
    else if (entry->row->offset == offsetof(struct conf_source, rewrite_list))
        check_list(build, entry, rest, rewrite_list_find(build->conf, rest) != NULL);
    else if (entry->row->offset == offsetof(struct conf_source, suppression_lists))
        while (value_next_item(&rest, &name))
            check_list(build, entry, name, address_list_find(build->conf, name) != NULL);
    else if (entry->row->offset == offsetof(struct conf_source, source_group))
        group_check(build, entry, rest);
    else if (entry->row->offset == offsetof(struct conf_source, remove_header))
        check_remove_header(build, entry);
}

bool source_is_built_in(struct slice name)
{
    static const char *const names[] = {"{auth}", "{pickup}", "{transmissions-api}"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_equal_nocase(name, slice_str(names[i])))
            return true;
    }
    return false;
}

/* A wrong name would quietly leave out what the source is to forbid. */
void source_check_name(struct build *build, const char *name, const char *file, unsigned line)
{
    if (name != NULL && !source_is_built_in(slice_str(name)) &&
        source_find_name(&build->conf->sources, slice_str(name)) == 0)
        build_missing_name(build, file, line, "there is no <source %.80s>", name);
}

/* Both ways of writing a listener may name a source. */
static void check_listeners(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct entry_list listeners = build_entries(build, top, STORE_LISTENER);

    for (uint32_t i = 0; i < listeners.count; i++) {
        const struct entry *entry = listeners.items[i];

        source_check_name(build, entry->value.block->name, entry->file, entry->line);
    }
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        struct entry_list sources = build_entries(build, at, STORE_LISTENER_SOURCE);

        for (uint32_t i = 0; i < sources.count; i++)
            source_check_name(build, sources.items[i]->value.text, sources.items[i]->file,
                              sources.items[i]->line);
    }
}

/* Of the top level. */
static void check_fallback(struct build *build)
{
    for (const struct entry *entry = build->tree->top.entries; entry != NULL; entry = entry->next) {
        if (!entry->cleared && strcmp(entry->row->name, "invalid-virtual-mta-fallback") == 0)
            check_way(build, entry, slice_str(entry->value.text));
    }
}

int build_sources(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    struct source_table *sources = &conf->sources;
    uint32_t most = build_count_children(top, SCOPE_SOURCE) + 1;
    int rc = 0;

    sources->blocks = arena_alloc(&conf->arena, most * sizeof(*sources->blocks));
    sources->names = arena_alloc(&conf->arena, most * sizeof(*sources->names));
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope != SCOPE_SOURCE)
            continue;
        rc = add_source(build, at);
        for (const struct entry *entry = at->entries; entry != NULL; entry = entry->next)
            check_entry(build, entry);
    }
    check_listeners(build);
    check_fallback(build);
    if ((uint64_t)(sources->block_count + 1) * (sources->name_count + 1) > COMBINATIONS_MAX)
        report_error(build->report, top->file, 0,
                     "%u address blocks times %u named sources are too many combinations",
                     sources->block_count, sources->name_count);
    return rc;
}

/* ---- Effects ------------------------------------------------------------------------------- */

static void apply_default_vmta(const struct conf *conf, const char *text,
                               struct conf_source *source)
{
    uint32_t vmta = TABLE_NONE;
    uint32_t pool = TABLE_NONE;

    if (text != NULL) {
        vmta = vmta_find(conf, slice_str(text));
        pool = pool_find(conf, slice_str(text));
    }
    source->default_virtual_mta = vmta != TABLE_NONE ? conf->vmtas[vmta].vmta.id : CONF_NONE;
    source->default_pool = pool != TABLE_NONE ? conf->pools[pool].id : CONF_NONE;
    source->default_by_local_ip = text != NULL && is_by_address(slice_str(text));
}

/* key: of the section. Those who share its settings share what they count. */
static void apply(const struct conf *conf, const struct settings *settings, uint64_t key,
                  struct conf_source *source)
{
    for (uint32_t i = 0; i < settings->count; i++) {
        const struct setting *setting = &settings->items[i];

        if (setting->row->store == STORE_DEFAULT_VMTA)
            apply_default_vmta(conf, setting->value.text, source);
        else
            field_store(source, setting->row, &setting->value);
        if (field_is_set_by(setting->row) &&
            setting->row->offset == offsetof(struct conf_source, dedup_window_ms))
            source->dedup_key = key;
        if (field_is_set_by(setting->row) &&
            setting->row->offset == offsetof(struct conf_source, max_rcpt_in_rate))
            source->rcpt_in_key = key;
    }
}

/* The blocks of the file that belong to one number, in its order. */
struct source_use {
    const struct settings *settings;
    uint64_t key; /* of the section's name */
    struct source_use *next;
};

struct source_uses {
    struct source_use *first;
    struct source_use *last;
};

static bool needs_header(const struct conf_source *source)
{
    return source->check_spf || source->check_dkim || source->check_iprev || source->check_mfrom ||
           source->process_x_virtual_mta || source->process_x_job || source->process_x_envid ||
           source->process_x_schedule || source->process_x_dkim_options ||
           source->process_x_dkim_key || source->dedup_window_ms > 0 ||
           source->allow_message_settings != 0 || source->remove_received_headers ||
           source->remove_header != NULL || source->require_list_unsubscribe != CONF_REQUIRE_OFF ||
           source->require_from_alignment != CONF_REQUIRE_OFF ||
           source->require_message_id != CONF_REQUIRE_OFF || source->feedback_id != NULL ||
           source->add_message_id_header || source->add_date_header != CONF_ADD_DATE_NO ||
           (source->patterns != NULL && conf_patterns_use_header(source->patterns));
}

static void find_lists(struct conf *conf, struct conf_source *source)
{
    struct slice rest =
        source->suppression_lists ? slice_str(source->suppression_lists) : SLICE_EMPTY;
    const struct conf_address_list **lists;
    struct slice name;

    source->patterns =
        source->pattern_list ? pattern_list_find(conf, slice_str(source->pattern_list)) : NULL;
    source->rewrites =
        source->rewrite_list ? rewrite_list_find(conf, slice_str(source->rewrite_list)) : NULL;
    source->included = included_find(conf, source->include_headers_from);
    source->group_id =
        source->source_group ? group_find(conf, slice_str(source->source_group)) : CONF_NONE;
    source->suppression_count = 0;
    if (source->suppression_lists != NULL) {
        lists = arena_alloc(&conf->arena, conf->address_list_count * sizeof(*lists));
        while (source->suppression_count < conf->address_list_count &&
               value_next_item(&rest, &name)) {
            lists[source->suppression_count] = address_list_find(conf, name);
            source->suppression_count += lists[source->suppression_count] != NULL;
        }
        source->suppressions = lists;
    }
    source->has_lists = source->patterns != NULL || source->suppression_count > 0;
}

static void apply_all(struct conf *conf, const struct source_uses *uses, struct conf_source *source)
{
    for (const struct source_use *use = uses->first; use != NULL; use = use->next)
        apply(conf, use->settings, use->key, source);
    find_lists(conf, source);
    source->needs_header = needs_header(source);
}

struct effects {
    struct build *build;
    struct source_uses *by_block;
    struct source_uses *by_name;
};

static void collect(struct effects *effects, const struct section *section)
{
    struct source_table *sources = &effects->build->conf->sources;
    struct source_use *use = arena_alloc(&effects->build->conf->arena, sizeof(*use));
    struct source_uses *uses;
    struct cidr block;

    use->key = hash_bytes_nocase(section->name.data, section->name.len);
    use->settings = build_settings(effects->build, section, STORE_DEFAULT_VMTA);
    if (cidr_parse(section->name, &block) == 0)
        uses = &effects->by_block[find_exactly(sources, &block)];
    else
        uses = &effects->by_name[source_find_name(sources, section->name)];
    if (uses->last != NULL)
        uses->last->next = use;
    else
        uses->first = use;
    uses->last = use;
}

static struct conf_source *effective_at(const struct source_table *sources, bool loopback,
                                        uint32_t block, uint32_t name)
{
    size_t row = (size_t)(loopback ? sources->block_count + 1 : 0) + block;

    return &sources->effective[row * (sources->name_count + 1) + name];
}

static void find_parents(struct source_table *sources)
{
    for (uint32_t i = 1; i <= sources->block_count; i++) {
        struct source_block *block = &sources->blocks[i];

        if (block->block.prefix_bits > 0)
            block->parent =
                source_find_block(sources, &block->block.ip, block->block.prefix_bits - 1u);
        else if (i != sources->everything)
            block->parent = sources->everything;
    }
}

/* A block's settings upon those of the next wider one, then each name's upon both. */
static void fill_block(struct effects *effects, bool loopback, uint32_t block)
{
    struct conf *conf = effects->build->conf;
    const struct source_table *sources = &conf->sources;
    struct conf_source *plain = effective_at(sources, loopback, block, 0);

    if (block != 0) {
        *plain = *effective_at(sources, loopback, sources->blocks[block].parent, 0);
        apply_all(conf, &effects->by_block[block], plain);
    }
    for (uint32_t name = 1; name <= sources->name_count; name++) {
        struct conf_source *named = effective_at(sources, loopback, block, name);

        *named = *plain;
        apply_all(conf, &effects->by_name[name], named);
    }
}

/* Wider blocks first, so that every parent is ready before its children. */
static void fill_all(struct effects *effects, bool loopback)
{
    const struct source_table *sources = &effects->build->conf->sources;

    fill_block(effects, loopback, 0);
    if (sources->everything != 0)
        fill_block(effects, loopback, sources->everything);
    for (unsigned bits = 0; bits <= 128; bits++) {
        for (uint32_t block = 1; block <= sources->block_count; block++) {
            if (sources->blocks[block].block.prefix_bits == bits && block != sources->everything)
                fill_block(effects, loopback, block);
        }
    }
}

void build_source_effects(struct build *build)
{
    struct conf *conf = build->conf;
    struct source_table *sources = &conf->sources;
    size_t blocks = sources->block_count + 1;
    size_t names = sources->name_count + 1;
    struct effects effects = {.build = build};
    struct conf_source preset = {.group_id = CONF_NONE};

    effects.by_block = arena_alloc(&conf->arena, blocks * sizeof(*effects.by_block));
    effects.by_name = arena_alloc(&conf->arena, names * sizeof(*effects.by_name));
    sources->effective =
        arena_alloc(&conf->arena, 2 * blocks * names * sizeof(*sources->effective));
    for (const struct section *at = build->tree->top.children; at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_SOURCE)
            collect(&effects, at);
    }
    find_parents(sources);
    field_store_presets(&preset, SCOPE_SOURCE, conf->presets);
    apply_default_vmta(conf, NULL, &preset);
    preset.check_mfrom = conf->global.check_mfrom;
    preset.needs_header = needs_header(&preset);
    *effective_at(sources, false, 0, 0) = preset;
    fill_all(&effects, false);
    /* What runs on this machine may send, until a source that matches it says otherwise. */
    preset.always_allow_relaying = true;
    *effective_at(sources, true, 0, 0) = preset;
    fill_all(&effects, true);
    for (size_t i = 0; i < 2 * blocks * names; i++)
        sources->effective[i].offers_auth =
            sources->effective[i].allow_auth && conf->user_count > 0;
}

const struct conf_source *conf_source(const struct conf *conf, const struct ipaddr *peer,
                                      const char *name)
{
    const struct source_table *sources = &conf->sources;
    unsigned most = peer->family == IPADDR_V6 ? 128 : 32;
    uint32_t block = peer->family == IPADDR_NONE ? 0 : source_find_block(sources, peer, most);
    uint32_t number = name == NULL ? 0 : source_find_name(sources, slice_str(name));

    return effective_at(sources, ipaddr_is_loopback(peer), block, number);
}
