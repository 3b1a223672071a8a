#include "core/conf/limit.h"

#include "core/base/must.h"
#include "core/conf/intern.h"
#include "core/conf/pattern.h"
#include "core/conf/snapshot.h"

uint32_t conf_limit_block_count(const struct conf *conf)
{
    return conf->limit_block_count;
}

const struct conf_limit *conf_limit_block_at(const struct conf *conf, uint32_t position)
{
    must(position < conf->limit_block_count);
    return conf->limit_blocks[position];
}

uint32_t conf_limit_host_count(const struct conf *conf)
{
    return conf->limit_host_count;
}

const struct conf_limit *conf_limit_host_at(const struct conf *conf, uint32_t position)
{
    must(position < conf->limit_host_count);
    return conf->limit_hosts[position];
}

static bool match_id(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;

    return conf->limits[value]->id == *(const uint32_t *)key;
}

const struct conf_limit *conf_limit(const struct conf *conf, uint32_t id)
{
    uint32_t position =
        table_find(&conf->limit_by_id, hash_u64(id), match_id, &id, (void *)(uintptr_t)conf);

    return position == TABLE_NONE ? NULL : conf->limits[position];
}

const char *conf_limit_name(const struct conf *conf, uint32_t id)
{
    const struct conf_limit *limit = conf_limit(conf, id);

    return limit != NULL ? limit->name : intern_text(INTERN_LIMIT, id);
}

/* ---- What a limit fits ----------------------------------------------------------------------- */

static bool has_id(const uint32_t *ids, uint32_t count, uint32_t id)
{
    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool has_domain(const struct conf_limit *limit, struct slice domain)
{
    for (uint32_t i = 0; i < limit->domain_count; i++)
        if (pattern_matches(&limit->domains[i], domain))
            return true;
    return limit->domain_count == 0;
}

static bool has_name(const struct conf_names *names, struct slice name)
{
    for (uint32_t i = 0; i < names->count; i++) {
        struct slice item = slice_str(names->items[i]);

        if (item.data[item.len - 1] == '*'
                ? slice_starts_nocase(name, slice_of(item.data, item.len - 1))
                : slice_equal_nocase(name, item))
            return true;
    }
    return names->count == 0;
}

static bool has_vmta(const struct conf_limit *limit, uint32_t vmta_id)
{
    return (limit->vmta_text == NULL || has_id(limit->vmta_ids, limit->vmta_count, vmta_id)) &&
           (limit->pool_text == NULL ||
            has_id(limit->pool_vmta_ids, limit->pool_vmta_count, vmta_id));
}

bool conf_limit_fits(const struct conf_limit *limit, struct slice domain, uint32_t vmta_id)
{
    return has_vmta(limit, vmta_id) && has_domain(limit, domain);
}

bool conf_limit_fits_message(const struct conf_limit *limit, struct slice job, struct slice user)
{
    return has_name(&limit->jobs, job) && has_name(&limit->users, user);
}

bool conf_limit_is_block(const struct conf_limit *limit)
{
    return strchr(limit->name, ' ') == NULL;
}

bool conf_limit_is_of_message(const struct conf_limit *limit)
{
    return (limit->scopes & CONF_SCOPES_OF_MESSAGE) != 0 || limit->jobs.count > 0 ||
           limit->users.count > 0;
}

bool conf_limit_fits_host(const struct conf_limit *limit, struct slice host,
                          const struct ipaddr *ip)
{
    return limit->domain_count > 0 ? has_domain(limit, host) : cidr_contains(&limit->block, ip);
}

const struct conf_limit *conf_limit_of_source(const struct conf_queue *queue,
                                              enum conf_quantity quantity,
                                              const struct ipaddr *source)
{
    const struct conf_limit_list *list = &queue->source_limits[quantity];
    const struct conf_limit *best = NULL;

    for (uint32_t i = 0; i < list->count; i++)
        if (cidr_contains(&list->items[i]->block, source) &&
            (best == NULL || list->items[i]->block.prefix_bits >= best->block.prefix_bits))
            best = list->items[i];
    return best;
}

uint64_t conf_limit_mask(const struct conf *conf, struct slice domain, uint32_t vmta_id)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < conf->limit_block_count; i++)
        if (conf_limit_fits(conf->limit_blocks[i], domain, vmta_id))
            mask |= 1ull << i;
    return mask;
}

uint64_t conf_limit_mask_of_domain(const struct conf *conf, struct slice domain)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < conf->limit_block_count; i++)
        if (has_domain(conf->limit_blocks[i], domain))
            mask |= 1ull << i;
    return mask;
}

uint64_t conf_limit_mask_of_vmta(const struct conf *conf, uint32_t vmta_id)
{
    uint64_t mask = 0;

    for (uint32_t i = 0; i < conf->limit_block_count; i++)
        if (has_vmta(conf->limit_blocks[i], vmta_id))
            mask |= 1ull << i;
    return mask;
}
