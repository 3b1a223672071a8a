#include "core/conf/provider.h"

#include "core/base/regex.h"
#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/provider_build.h"
#include "core/conf/show.h"

#include <stdio.h>

#define SITE_BIT (UINT64_C(1) << 63)

/* ---- Identity ------------------------------------------------------------------------------ */

static bool match_number(uint32_t value, const void *key, void *context)
{
    const struct provider *items = context;

    return items[value].number == *(const uint64_t *)key;
}

const struct provider *provider_find(const struct conf *conf, uint64_t number)
{
    const struct provider_table *table = &conf->providers;
    uint32_t position =
        table_find(&table->by_number, hash_u64(number), match_number, &number, table->items);

    return position == TABLE_NONE ? NULL : &table->items[position];
}

static bool match_name(uint32_t value, const void *key, void *context)
{
    const struct provider_host *hosts = context;

    return slice_equal_nocase(hosts[value].name, *(const struct slice *)key);
}

/* From the whole name down to its last label: the longest one that is named decides. */
static uint64_t find_host(const struct provider_table *providers, const struct table *table,
                          struct provider_host *hosts, struct slice name)
{
    bool is_whole = true;

    if (name.len > 0 && name.data[name.len - 1] == '.')
        name.len--;
    while (name.len > 0) {
        uint64_t hash = hash_bytes_nocase(name.data, name.len);
        uint32_t position = table_find(table, hash, match_name, &name, hosts);
        size_t dot;

        if (position != TABLE_NONE && (is_whole || hosts[position].with_subdomains))
            return providers->items[hosts[position].provider].number;
        dot = slice_find(name, '.');
        name = slice_after(name, dot < name.len ? dot + 1 : dot);
        is_whole = false;
    }
    return CONF_PROVIDER_NONE;
}

uint64_t conf_provider_of_host(const struct conf *conf, struct slice host)
{
    return find_host(&conf->providers, &conf->providers.by_host, conf->providers.hosts, host);
}

uint64_t conf_provider_of_domain(const struct conf *conf, struct slice domain)
{
    return find_host(&conf->providers, &conf->providers.by_domain, conf->providers.domains, domain);
}

uint64_t conf_provider_of_site(uint64_t site_hash)
{
    return SITE_BIT | site_hash;
}

bool conf_provider_is_site(uint64_t provider)
{
    return (provider & SITE_BIT) != 0;
}

uint64_t conf_provider_named(struct slice name)
{
    uint32_t id;

    return intern_name(INTERN_PROVIDER, name, &id) < 0 ? CONF_PROVIDER_NONE : (uint64_t)id + 1;
}

const char *conf_provider_name(uint64_t provider)
{
    if (provider == CONF_PROVIDER_NONE || conf_provider_is_site(provider))
        return NULL;
    return intern_text(INTERN_PROVIDER, (uint32_t)(provider - 1));
}

bool conf_provider_has_tenants(const struct conf *conf, uint64_t provider)
{
    const struct provider *found = provider_find(conf, provider);

    return found != NULL && ((found->own != NULL && found->own->has_tenants) ||
                             (found->shipped != NULL && found->shipped->has_tenants));
}

/* ---- Limits -------------------------------------------------------------------------------- */

static const struct provider_limit *limit_in(const struct provider_rules *rules,
                                             const char *keyword)
{
    const struct provider_limit *found = NULL;

    for (uint32_t i = 0; rules != NULL && i < rules->limit_count; i++)
        if (strcmp(rules->limits[i].keyword, keyword) == 0)
            found = &rules->limits[i];
    return found;
}

const struct conf_limit *provider_bound(const struct conf *conf, uint64_t number, uint32_t tier,
                                        enum conf_provider_bound bound, bool is_beaten)
{
    const struct provider *chain[2] = {provider_find(conf, number), &conf->providers.items[0]};
    const struct conf_limit *limit = NULL;

    for (unsigned i = 0; limit == NULL && i < 2; i++)
        limit = chain[i] == NULL ? NULL : chain[i]->own_bounds[tier][bound];
    for (unsigned i = 0; limit == NULL && !is_beaten && i < 2; i++)
        limit = chain[i] == NULL ? NULL : chain[i]->shipped_bounds[tier][bound];
    return limit;
}

static const char *const bound_keywords[CONF_PROVIDER_BOUNDS] = {
    [CONF_PROVIDER_CONNECTIONS] = "max-smtp-out",
    [CONF_PROVIDER_RECIPIENTS] = "max-msg-rate",
    [CONF_PROVIDER_CONNECTS] = "max-connect-rate",
    [CONF_PROVIDER_TENANT_CONNECTIONS] = "tenant-max-smtp-out",
};

static const enum conf_quantity bound_quantities[CONF_PROVIDER_BOUNDS] = {
    [CONF_PROVIDER_CONNECTIONS] = CONF_OF_CONNECTIONS,
    [CONF_PROVIDER_RECIPIENTS] = CONF_OF_RECIPIENTS,
    [CONF_PROVIDER_CONNECTS] = CONF_OF_CONNECTS,
    [CONF_PROVIDER_TENANT_CONNECTIONS] = CONF_OF_CONNECTIONS,
};

/* Its name tells the tier, as a meter counts for one bound. */
static const struct conf_limit *make_bound(struct build *build, const struct provider_rules *rules,
                                           const struct provider_limit *limit, uint32_t tier,
                                           enum conf_provider_bound bound)
{
    static const char *const tiers[CONF_TIERS] = {"new", "warming", "established", "high"};
    bool is_for_all = limit->texts[1] == limit->texts[0];
    char name[200];

    snprintf(name, sizeof(name), "<provider %.*s> %s%s%s", SHOW(rules->name), limit->keyword,
             is_for_all ? "" : " of tier ", is_for_all ? "" : tiers[tier]);
    return build_limit_by_provider(build, name, limit->file, limit->line,
                                   bound == CONF_PROVIDER_TENANT_CONNECTIONS ? CONF_SCOPE_TENANT
                                                                             : CONF_SCOPE_PROVIDER,
                                   bound_quantities[bound], &limit->tiers[tier]);
}

static void make_bounds(struct build *build, const struct provider_rules *rules,
                        const struct conf_limit *bounds[CONF_TIERS][CONF_PROVIDER_BOUNDS])
{
    for (unsigned i = 0; rules != NULL && i < CONF_PROVIDER_BOUNDS; i++) {
        const struct provider_limit *limit = limit_in(rules, bound_keywords[i]);

        for (uint32_t tier = 0; limit != NULL && tier < CONF_TIERS; tier++)
            bounds[tier][i] = tier > 0 && limit->texts[tier] == limit->texts[0]
                                  ? bounds[0][i]
                                  : make_bound(build, rules, limit, tier, i);
    }
}

void build_provider_limits(struct build *build)
{
    struct provider_table *table = &build->conf->providers;
    bool is_on = build->conf->global.provider_pack == CONF_PACK_ON;

    /* The pack is read once: numbers given to it would make a first snapshot unlike all others. */
    if (build->options->is_pack)
        return;
    for (uint32_t i = 0; i < table->count; i++) {
        make_bounds(build, table->items[i].own, table->items[i].own_bounds);
        if (is_on)
            make_bounds(build, table->items[i].shipped, table->items[i].shipped_bounds);
    }
}

bool conf_providers_act(const struct conf *conf)
{
    return conf->providers.has_own || conf->global.provider_pack == CONF_PACK_ON;
}

/* What a section says of a queue, where that is no limit of the provider as a whole. */
static void apply_rules(struct conf_queue *queue, const struct provider_rules *rules, uint32_t tier)
{
    for (uint32_t i = 0; rules != NULL && i < rules->limit_count; i++) {
        const struct provider_limit *limit = &rules->limits[i];

        if (limit->domain != NULL && !provider_limit_is_shared(limit))
            field_store(queue, limit->domain, &limit->tiers[tier]);
    }
}

void provider_apply(const struct conf *conf, uint64_t number, uint32_t tier,
                    struct conf_queue *queue)
{
    const struct provider *everybody = &conf->providers.items[0], *provider;
    bool is_on = conf->global.provider_pack == CONF_PACK_ON;

    if (!conf_providers_act(conf))
        return;
    provider = provider_find(conf, number);
    if (is_on)
        apply_rules(queue, everybody->shipped, tier);
    if (is_on && provider != NULL)
        apply_rules(queue, provider->shipped, tier);
    apply_rules(queue, everybody->own, tier);
    if (provider != NULL)
        apply_rules(queue, provider->own, tier);
}

/* ---- Replies ------------------------------------------------------------------------------- */

static const struct conf_reply_rule *match(const struct provider_rules *rules,
                                           const struct regex_subject *subject,
                                           struct regex_scratch *scratch)
{
    for (uint32_t i = 0; rules != NULL && i < rules->replies.rule_count; i++)
        if (regex_match(rules->replies.rules[i].regex, subject, scratch) == REGEX_YES)
            return &rules->replies.rules[i];
    return NULL;
}

const struct conf_reply_rule *conf_provider_reply(const struct conf *conf, uint64_t number,
                                                  struct slice text, struct regex_scratch *scratch)
{
    bool is_on = conf->global.provider_pack == CONF_PACK_ON;
    const struct provider *chain[2] = {provider_find(conf, number), &conf->providers.items[0]};
    const struct conf_reply_rule *rule = NULL;
    struct regex_subject subject;

    if (!conf_providers_act(conf))
        return NULL;
    regex_subject_set(&subject, text);
    for (unsigned i = 0; rule == NULL && i < 2; i++)
        rule = chain[i] == NULL ? NULL : match(chain[i]->own, &subject, scratch);
    for (unsigned i = 0; rule == NULL && is_on && i < 2; i++)
        rule = chain[i] == NULL ? NULL : match(chain[i]->shipped, &subject, scratch);
    return rule;
}

bool conf_provider_heeds_success(const struct conf *conf, uint64_t number)
{
    const struct provider *chain[2] = {provider_find(conf, number), &conf->providers.items[0]};
    bool heeds = false;

    for (unsigned i = 0; i < 2 && conf->providers.has_own; i++)
        heeds |= chain[i] != NULL && chain[i]->own != NULL && chain[i]->own->heeds_success;
    return heeds;
}

static void tell_shares(const struct provider_rules *rules, conf_provider_share_fn *tell,
                        void *context)
{
    for (uint32_t i = 0; rules != NULL && i < rules->share_count; i++)
        tell(context, rules->shares[i]);
}

void conf_provider_shares(const struct conf *conf, uint64_t number, conf_provider_share_fn *tell,
                          void *context)
{
    const struct provider *chain[2] = {NULL, &conf->providers.items[0]};

    if (!conf_providers_act(conf))
        return;
    chain[0] = provider_find(conf, number);
    for (unsigned i = 0; i < 2; i++) {
        if (chain[i] == NULL)
            continue;
        tell_shares(chain[i]->own, tell, context);
        if (conf->global.provider_pack == CONF_PACK_ON)
            tell_shares(chain[i]->shipped, tell, context);
    }
}

const struct conf_reply_rule *conf_provider_reaction(const struct conf *conf, bool hold,
                                                     enum conf_reply_scope scope)
{
    const struct provider *everybody = &conf->providers.items[0];
    const struct conf_reply_rule *rule = NULL;

    if (everybody->own != NULL)
        rule = everybody->own->reactions[hold][scope];
    if (rule == NULL && everybody->shipped != NULL && conf->global.provider_pack == CONF_PACK_ON)
        rule = everybody->shipped->reactions[hold][scope];
    return rule;
}
