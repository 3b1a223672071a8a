#include "shard/provider.h"

#include "core/conf/provider.h"
#include "shard/shard_int.h"

/* That which all hosts of the best preference have in common, or NONE. */
static uint64_t common_provider(const struct shard *shard, const struct site *site)
{
    uint64_t common = CONF_PROVIDER_NONE;

    for (uint32_t i = 0; i < site->target_count; i++) {
        const struct site_target *target = &site->targets[i];
        uint64_t provider;

        if (target->preference != site->targets[0].preference)
            break;
        provider = conf_provider_of_host(shard->conf, slice_str(site->host_names[target->host]));
        if (provider == CONF_PROVIDER_NONE || (i > 0 && provider != common))
            return CONF_PROVIDER_NONE;
        common = provider;
    }
    return common;
}

void provider_set(const struct shard *shard, struct site *site)
{
    site->provider = common_provider(shard, site);
    if (site->provider == CONF_PROVIDER_NONE)
        site->provider = conf_provider_of_site(site->site_hash);
    site->tenant = conf_provider_has_tenants(shard->conf, site->provider) ? site->site_hash : 0;
}

uint64_t provider_of_queue(const struct queue *queue)
{
    return queue->site != NULL ? queue->site->provider : CONF_PROVIDER_NONE;
}
