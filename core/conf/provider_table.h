/*
 * provider_table: what a snapshot knows of providers; private to core/conf.
 *
 * Filled by provider_build.c in one thread, then never altered.
 */
#pragma once

#include "core/base/hash.h"
#include "core/conf/provider.h"
#include "core/conf/value.h"

/* One limit of one section, for every tier. */
struct provider_limit {
    const char *keyword;
    const struct directive *domain;    /* of the same name in <domain>, or NULL */
    const struct directive *beaten_by; /* a <domain> that says it takes this one out of the pack */
    struct value tiers[CONF_TIERS];
    const char *texts[CONF_TIERS];
    const char *file;
    unsigned line;
};

/* One <provider> section. */
struct provider_rules {
    struct slice name;
    const char *file;
    unsigned line;
    struct provider_limit *limits;
    uint32_t limit_count;
    struct conf_reply_list replies;
    const struct conf_reply_rule *reactions[2][CONF_REPLY_SCOPES]; /* [hold], or NULL */
    const struct conf_reply_rule **shares; /* of both kinds, those with trigger=PCT */
    uint32_t share_count;
    bool heeds_success; /* a reply line asks for mode=normal */
    const char *const *hosts;
    uint32_t host_count;
    const char *const *domains;
    uint32_t domain_count;
    bool has_tenants;
};

/* Of one name: what the user says of it and what the pack does; one of them may be NULL. */
struct provider {
    uint64_t number;
    const struct provider_rules *own;
    const struct provider_rules *shipped;
    /* Of the same two, for each source address: what bounds all mail to the provider. */
    const struct conf_limit *own_bounds[CONF_TIERS][CONF_PROVIDER_BOUNDS];
    const struct conf_limit *shipped_bounds[CONF_TIERS][CONF_PROVIDER_BOUNDS];
};

/* Of a snapshot. `*` is at position 0: the pack speaks of it first. */
struct provider_table {
    struct provider *items;
    uint32_t count;
    bool has_own; /* a section of the user's */
    struct table by_number;
    struct table by_host;
    struct table by_domain;
    struct provider_host *hosts; /* what the two tables name */
    struct provider_host *domains;
};

struct provider_host {
    struct slice name; /* without the dot */
    bool with_subdomains;
    uint32_t provider; /* position */
};
