#include "shard/policy/outage.h"

#include "core/base/hash.h"

static uint32_t hash_of(const struct ipaddr *source)
{
    return (uint32_t)hash_bytes(source->bytes, sizeof(source->bytes)) ^ source->family;
}

/* Where the source is noted; OUTAGE_SOURCES when it is not. */
static unsigned find(const struct outage *outage, const struct ipaddr *source)
{
    uint32_t hash = hash_of(source);
    unsigned at = 0;

    while (at < OUTAGE_SOURCES && (outage->until_ns[at] == 0 || outage->sources[at] != hash))
        at++;
    return at;
}

void outage_note(struct outage *outage, const struct ipaddr *source, uint64_t until_ns)
{
    unsigned at = find(outage, source);

    if (until_ns == 0)
        return;
    if (at == OUTAGE_SOURCES) {
        at = 0;
        for (unsigned i = 1; i < OUTAGE_SOURCES; i++)
            if (outage->until_ns[i] < outage->until_ns[at])
                at = i;
    }
    if (outage->latest_ns < until_ns)
        outage->latest_ns = until_ns;
    outage->until_ns[at] = until_ns;
    outage->sources[at] = hash_of(source);
}

void outage_end(struct outage *outage, const struct ipaddr *source)
{
    unsigned at = find(outage, source);

    if (at < OUTAGE_SOURCES)
        outage->until_ns[at] = 0;
}

uint64_t outage_until_ns(const struct outage *outage, const struct ipaddr *source)
{
    unsigned at = find(outage, source);

    return at < OUTAGE_SOURCES ? outage->until_ns[at] : 0;
}
