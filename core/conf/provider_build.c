/* Reading of <provider> sections, and their tables in a snapshot. */
#include "core/conf/provider_build.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/conf/intern.h"
#include "core/conf/reply_list.h"
#include "core/conf/show.h"
#include "core/pack/pack.h"

#include <errno.h>
#include <pthread.h>

#define EVERYBODY "*"

static bool is_row(const struct entry *entry, const char *name)
{
    return strcmp(entry->row->name, name) == 0;
}

/* ---- One section ----------------------------------------------------------------------------- */

/* The words of all lines of a keyword; those before a "" do not count. */
static const char *const *read_words(struct build *build, const struct section *section,
                                     const char *keyword, uint32_t *ret_count)
{
    const char **words;
    uint32_t most = 0, count = 0;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        most += is_row(entry, keyword) ? (uint32_t)entry->value.number : 0;
    words = arena_alloc(&build->conf->arena, most * sizeof(*words));
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        struct slice rest, word;

        if (!is_row(entry, keyword))
            continue;
        if (entry->cleared)
            count = 0;
        rest = entry->cleared ? SLICE_EMPTY : slice_str(entry->value.text);
        while (value_next_word(&rest, &word) > 0)
            words[count++] = (const char *)arena_copy(&build->conf->arena, word).data;
    }
    *ret_count = count;
    return words;
}

static const struct directive *domain_row(const char *name)
{
    for (uint32_t i = 0; i < directive_count(); i++) {
        const struct directive *row = directive_at(i);

        if ((row->scopes & SCOPE_BIT(SCOPE_DOMAIN)) != 0 && strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

/* One value for all tiers, or one for each. False after an error. */
static bool read_limit(struct build *build, const struct entry *entry, struct provider_limit *limit)
{
    struct directive form = {
        .name = entry->row->name, .type = TYPE_COUNT, .max = BOUND_COUNT, .flags = FLAG_UNLIMITED};
    struct slice rest = slice_str(entry->value.text), word;
    char why[VALUE_WHY_MAX];
    uint32_t count = 0;

    *limit = (struct provider_limit){.keyword = entry->row->name,
                                     .domain = domain_row(entry->row->name),
                                     .file = entry->file,
                                     .line = entry->line};
    limit->beaten_by = limit->domain != NULL ? limit->domain : domain_row("max-smtp-out");
    if (limit->domain != NULL)
        form = *limit->domain;
    while (value_next_word(&rest, &word) > 0) {
        must(count < CONF_TIERS);
        limit->texts[count] = (const char *)arena_copy(&build->conf->arena, word).data;
        if (value_parse(&form, word, &build->conf->arena, &limit->tiers[count], why) < 0) {
            report_error(build->report, entry->file, entry->line, "%s: %s", form.name, why);
            return false;
        }
        count++;
    }
    if (count != 1 && count != CONF_TIERS) {
        report_error(build->report, entry->file, entry->line,
                     "%s: one value, or four: new, warming, established, high", form.name);
        return false;
    }
    for (uint32_t tier = count; tier < CONF_TIERS; tier++) {
        limit->tiers[tier] = limit->tiers[0];
        limit->texts[tier] = limit->texts[0];
    }
    return true;
}

/* Those of the lines before a "" do not count, as of every keyword. */
static void drop_limits(struct provider_rules *rules, const char *keyword)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < rules->limit_count; i++)
        if (strcmp(rules->limits[i].keyword, keyword) != 0)
            rules->limits[kept++] = rules->limits[i];
    rules->limit_count = kept;
}

static void read_limits(struct build *build, const struct section *section,
                        struct provider_rules *rules)
{
    uint32_t most = 0;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        most += entry->row->store == STORE_PROVIDER_LIMIT;
    rules->limits = arena_alloc(&build->conf->arena, most * sizeof(*rules->limits));
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (entry->row->store != STORE_PROVIDER_LIMIT)
            continue;
        if (entry->cleared)
            drop_limits(rules, entry->row->name);
        else
            rules->limit_count += read_limit(build, entry, &rules->limits[rules->limit_count]);
    }
}

/* The entry as the line that it stood in. */
static struct list_line line_of(struct build *build, const struct entry *entry)
{
    size_t bytes = strlen(entry->row->name) + strlen(entry->text) + 2;
    char *text = arena_alloc(&build->conf->arena, bytes);

    snprintf(text, bytes, "%s %s", entry->row->name, entry->text);
    return (struct list_line){.text = slice_str(text), .file = entry->file, .line = entry->line};
}

static void read_replies(struct build *build, const struct section *section,
                         const struct provider_rules *shipped, struct provider_rules *rules)
{
    const char *name = (const char *)section->name.data;
    struct conf_reply_rule *list;
    uint32_t most = 0, count = 0;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        most += is_row(entry, "reply") || is_row(entry, "reaction");
    list = arena_alloc(&build->conf->arena, most * sizeof(*list));
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        struct conf_reply_rule *rule = &list[count];
        struct list_line line;
        bool hold;

        if (!(is_row(entry, "reply") || is_row(entry, "reaction")))
            continue;
        if (entry->cleared) {
            count = is_row(entry, "reply") ? 0 : count;
            if (is_row(entry, "reaction"))
                memset(rules->reactions, 0, sizeof(rules->reactions));
            continue;
        }
        line = line_of(build, entry);
        if (is_row(entry, "reply") && reply_rule_read(build, name, &line, rule)) {
            rule->file = entry->file;
            count++;
        } else if (is_row(entry, "reaction") &&
                   reply_rule_read_reaction(build, name, &line, rule, &hold)) {
            struct conf_reply_rule *copy = arena_alloc(&build->conf->arena, sizeof(*copy));

            rule->file = entry->file;
            *copy = *rule;
            rules->reactions[hold][rule->scope] = copy;
        }
    }
    reply_rules_tell_apart(&build->conf->arena, shipped != NULL ? &shipped->replies : NULL, list,
                           count);
    rules->replies = (struct conf_reply_list){.name = name, .rules = list, .rule_count = count};
}

static void note_share(struct provider_rules *rules, const struct conf_reply_rule *rule)
{
    if (rule != NULL && rule->trigger.percent > 0)
        rules->shares[rules->share_count++] = rule;
}

static void collect_shares(struct build *build, struct provider_rules *rules)
{
    uint32_t most = rules->replies.rule_count + 2 * CONF_REPLY_SCOPES;

    rules->shares = arena_alloc(&build->conf->arena, most * sizeof(*rules->shares));
    for (uint32_t i = 0; i < rules->replies.rule_count; i++) {
        note_share(rules, &rules->replies.rules[i]);
        rules->heeds_success |= (rules->replies.rules[i].actions & CONF_REPLY_NORMAL) != 0;
    }
    for (unsigned i = 0; i < CONF_REPLY_SCOPES; i++) {
        note_share(rules, rules->reactions[false][i]);
        note_share(rules, rules->reactions[true][i]);
    }
}

static void check_place(struct build *build, const struct section *section,
                        const struct provider_rules *rules)
{
    bool is_everybody = slice_equal(section->name, SLICE_LITERAL(EVERYBODY));

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        bool is_general = is_row(entry, "reaction");
        bool is_single = is_row(entry, "mx") || is_row(entry, "domain") || is_row(entry, "tenants");

        if (is_everybody ? is_single : is_general)
            report_error(build->report, entry->file, entry->line, "%s stands %s <provider *>",
                         entry->row->name, is_everybody ? "in any but" : "in no provider but");
    }
    for (uint32_t i = 0; i < rules->host_count + rules->domain_count; i++) {
        const char *host =
            i < rules->host_count ? rules->hosts[i] : rules->domains[i - rules->host_count];

        if (host[host[0] == '.'] == '\0')
            report_error(build->report, section->file, section->line,
                         "<provider %.*s>: \"%.80s\" is no name", SHOW(section->name), host);
    }
}

/* shipped: what the pack says of the provider, or NULL. */
static const struct provider_rules *read_section(struct build *build, const struct section *section,
                                                 const struct provider_rules *shipped)
{
    struct provider_rules *rules = arena_alloc(&build->conf->arena, sizeof(*rules));

    *rules = (struct provider_rules){
        .name = section->name, .file = section->file, .line = section->line};
    rules->file = arena_strdup(&build->conf->arena, section->file);
    rules->hosts = read_words(build, section, "mx", &rules->host_count);
    rules->domains = read_words(build, section, "domain", &rules->domain_count);
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next)
        if (is_row(entry, "tenants"))
            rules->has_tenants = !entry->cleared && entry->value.number != 0;
    read_limits(build, section, rules);
    read_replies(build, section, shipped, rules);
    collect_shares(build, rules);
    check_place(build, section, rules);
    return rules;
}

/* ---- The pack -------------------------------------------------------------------------------- */

static struct conf *shipped;

static void report_must(void *context, enum conf_severity severity, const char *file, unsigned line,
                        const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void read_shipped(void)
{
    const struct conf_load_options options = {.is_pack = true};
    struct slice text = pack_text();
    char *copy = mem_strndup(text.data, text.len);

    must(conf_load_text(PACK_FILE, copy, &options, report_must, NULL, &shipped) == 0);
    mem_free(copy);
}

static const struct provider_table *shipped_table(const struct build *build)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    if (build->options->is_pack)
        return NULL;
    must(pthread_once(&once, read_shipped) == 0);
    return &shipped->providers;
}

/* ---- The tables ------------------------------------------------------------------------------ */

void provider_table_init(struct provider_table *table)
{
    table_init(&table->by_number);
    table_init(&table->by_host);
    table_init(&table->by_domain);
}

void provider_table_fini(struct provider_table *table)
{
    table_fini(&table->by_number);
    table_fini(&table->by_host);
    table_fini(&table->by_domain);
}

static struct slice name_of(const struct provider *provider)
{
    return provider->own != NULL ? provider->own->name : provider->shipped->name;
}

static struct provider *find_name(struct provider_table *table, struct slice name)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (slice_equal_nocase(name_of(&table->items[i]), name))
            return &table->items[i];
    return NULL;
}

static void add_own(struct build *build, struct provider_table *table,
                    const struct section *section)
{
    struct provider *provider = find_name(table, section->name);

    if (provider == NULL)
        provider = &table->items[table->count++];
    else if (provider->own != NULL)
        report_error(build->report, section->file, section->line, "<provider %.*s> is given twice",
                     SHOW(section->name));
    provider->own = read_section(build, section, provider->shipped);
}

static bool match_host(uint32_t value, const void *key, void *context)
{
    const struct provider_host *hosts = context;

    return slice_equal_nocase(hosts[value].name, *(const struct slice *)key);
}

/* The first one to name a host has it: the user's before the pack's. */
static int add_hosts(struct table *table, struct provider_host *hosts, uint32_t *count,
                     const char *const *names, uint32_t name_count, uint32_t provider)
{
    for (uint32_t i = 0; i < name_count; i++) {
        struct slice name = slice_after(slice_str(names[i]), names[i][0] == '.');
        uint64_t hash = hash_bytes_nocase(name.data, name.len);

        if (table_find(table, hash, match_host, &name, hosts) != TABLE_NONE)
            continue;
        hosts[*count] = (struct provider_host){
            .name = name, .with_subdomains = names[i][0] == '.', .provider = provider};
        if (!table_insert(table, hash, (*count)++))
            return -ENOMEM;
    }
    return 0;
}

static int index_hosts(struct build *build, struct provider_table *table)
{
    uint32_t hosts = 0, domains = 0;
    int rc = 0;

    for (uint32_t i = 0; i < table->count; i++) {
        const struct provider *at = &table->items[i];

        hosts += (at->own ? at->own->host_count : 0) + (at->shipped ? at->shipped->host_count : 0);
        domains +=
            (at->own ? at->own->domain_count : 0) + (at->shipped ? at->shipped->domain_count : 0);
    }
    table->hosts = arena_alloc(&build->conf->arena, hosts * sizeof(*table->hosts));
    table->domains = arena_alloc(&build->conf->arena, domains * sizeof(*table->domains));
    hosts = domains = 0;
    for (uint32_t i = 0; rc == 0 && i < 2 * table->count; i++) {
        uint32_t position = i % table->count;
        const struct provider *at = &table->items[position];
        const struct provider_rules *rules = i < table->count ? at->own : at->shipped;

        if (rules == NULL)
            continue;
        rc = add_hosts(&table->by_host, table->hosts, &hosts, rules->hosts, rules->host_count,
                       position);
        if (rc == 0)
            rc = add_hosts(&table->by_domain, table->domains, &domains, rules->domains,
                           rules->domain_count, position);
    }
    return rc;
}

static int number_all(struct provider_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        table->items[i].number = conf_provider_named(name_of(&table->items[i]));
        if (table->items[i].number == CONF_PROVIDER_NONE ||
            !table_insert(&table->by_number, hash_u64(table->items[i].number), i))
            return -ENOMEM;
    }
    return 0;
}

int build_providers(struct build *build)
{
    const struct provider_table *from = shipped_table(build);
    struct provider_table *table = &build->conf->providers;
    const struct section *top = &build->tree->top;
    uint32_t most = build_count_children(top, SCOPE_PROVIDER) + (from != NULL ? from->count : 0);
    int rc;

    table->items = arena_alloc(&build->conf->arena, most * sizeof(*table->items));
    for (uint32_t i = 0; from != NULL && i < from->count; i++)
        table->items[table->count++] = (struct provider){.shipped = from->items[i].own};
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        if (at->kind->scope != SCOPE_PROVIDER)
            continue;
        add_own(build, table, at);
        table->has_own = true;
    }
    rc = index_hosts(build, table);
    return rc == 0 && !build->options->is_pack ? number_all(table) : rc;
}
