/*
 * limits_audit: whether limits of connections hold, counted by what each connection is at.
 *
 * Knows nothing of leases and meters: for every `<limit>` block of the configuration, and every
 * line that counts by address, it looks at the queue that each connection of any shard serves, or
 * is opened for, and counts those that agree in the limit's scopes. Where a limit counts by mail,
 * it looks at the messages under way instead: what their envelopes say. Connections that were
 * opened before all shards worked with the configuration are left out: of them there may be more
 * than it allows, until they have ended.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct shard;

struct limits_audit {
    uint32_t version;          /* of the first shard's configuration at the last look */
    uint64_t since_ns;         /* the last time at which some shard had another one too */
    uint64_t at_bound;         /* looks at which some count was at its bound */
    uint64_t at_bound_by_mail; /* of these, of a limit that counts by mail */
};

/* now_ns: of the simulated clock. NULL, or what is wrong. */
const char *limits_look(struct limits_audit *audit, struct shard *const *shards, uint16_t count,
                        uint64_t now_ns);
