#include "shard/place.h"

#include "core/base/hash.h"

uint16_t place_owner(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                     uint16_t shard_count)
{
    struct conf_queue settings;
    uint64_t site;

    if (shard_count <= 1)
        return 0;
    conf_queue(conf, domain, vmta_id, &settings);
    site = settings.route_count > 0 ? settings.route_hash : hash_bytes(domain.data, domain.len);
    /* Adding the VMTA's number rather than hashing it deals a site's VMTAs out in turn, so that a
     * handful of them never all falls on one shard. */
    return (uint16_t)((site + vmta_id) % shard_count);
}
