#include "core/conf/build.h"

#include "core/base/mem.h"
#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/show.h"

#include <errno.h>
#include <stdio.h>

#define COLD_SUFFIX   "-cold"
#define COLD_NAME_MAX (CONF_VMTA_NAME_MAX + sizeof(COLD_SUFFIX))

static const char default_name[] = "{default}";

static struct slice vmta_name_at(const struct conf *conf, uint32_t position)
{
    return slice_str(conf->vmtas[position].vmta.name);
}

static uint64_t hash_name(struct slice name)
{
    return hash_bytes_nocase(name.data, name.len);
}

static bool match_vmta(uint32_t value, const void *key, void *context)
{
    return slice_equal_nocase(vmta_name_at(context, value), *(const struct slice *)key);
}

static bool match_pool(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;

    return slice_equal_nocase(slice_str(conf->pools[value].name), *(const struct slice *)key);
}

uint32_t vmta_find(const struct conf *conf, struct slice name)
{
    return table_find(&conf->vmta_by_name, hash_name(name), match_vmta, &name,
                      (void *)(uintptr_t)conf);
}

uint32_t pool_find(const struct conf *conf, struct slice name)
{
    return table_find(&conf->pool_by_name, hash_name(name), match_pool, &name,
                      (void *)(uintptr_t)conf);
}

/* A section without <domain> blocks needs no layer, so that queues do not look into it. */
static int take_layer(struct build *build, const struct section *section, uint32_t *ret_layer)
{
    *ret_layer = LAYER_NONE;
    if (build_count_children(section, SCOPE_DOMAIN) == 0)
        return 0;
    *ret_layer = build->layers++;
    return build_blocks(build, section, *ret_layer);
}

/* Verbs can name it: as half of DOMAIN/VMTA, where * stands for all. */
static bool is_sayable(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] <= ' ' || name.data[i] == '/' || name.data[i] == '*')
            return false;
    }
    return name.len <= CONF_VMTA_NAME_MAX;
}

/* Virtual MTAs and pools share one set of names; those in braces are ours. */
static bool name_is_free(struct build *build, const struct section *section)
{
    struct slice name = section->name;
    bool taken =
        vmta_find(build->conf, name) != TABLE_NONE || pool_find(build->conf, name) != TABLE_NONE;

    if (name.data[0] == '{')
        report_error(build->report, section->file, section->line,
                     "<%s %.*s>: names in braces are reserved", section->kind->tag, SHOW(name));
    else if (taken)
        report_error(build->report, section->file, section->line,
                     "<%s %.*s>: there is a virtual MTA or pool of that name already",
                     section->kind->tag, SHOW(name));
    else if (!is_sayable(name))
        report_error(build->report, section->file, section->line,
                     "<%s %.*s>: a name has at most %d octets, and no blanks, slashes or asterisks",
                     section->kind->tag, SHOW(name), CONF_VMTA_NAME_MAX);
    else
        return true;
    return false;
}

/* ---- Virtual MTAs -------------------------------------------------------------------------- */

/* Where mail goes out that names no virtual MTA: the addresses of the top level, or any. */
static int add_default(struct build *build)
{
    struct conf *conf = build->conf;
    struct vmta_slot *slot = &conf->vmtas[0];
    const char *helo = conf->global.host_name;

    *slot = (struct vmta_slot){.layer = LAYER_NONE, .pool_layer = LAYER_NONE};
    slot->vmta.name = default_name;
    field_store_presets(&slot->vmta, SCOPE_VMTA, conf->presets);
    slot->vmta.addresses = build_source_hosts(build, &build->tree->top, STORE_SOURCE_HOST, helo,
                                              &slot->vmta.address_count);
    build->has_source_hosts = slot->vmta.address_count > 0;
    if (!build->has_source_hosts) {
        struct conf_source_address *any = arena_alloc(&conf->arena, sizeof(*any));

        *any = (struct conf_source_address){.ip = {.family = IPADDR_V4}, .helo = helo};
        slot->vmta.addresses = any;
        slot->vmta.address_count = 1;
    }
    conf->vmta_count = 1;
    return table_insert(&conf->vmta_by_name, hash_name(slice_str(default_name)), 0) ? 0 : -ENOMEM;
}

/* Whether the section itself sets the field at this offset. */
static bool sets_field(const struct section *section, size_t offset)
{
    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (field_is_set_by(entry->row) && entry->row->offset == offset)
            return true;
    }
    return false;
}

static void fill_addresses(struct build *build, const struct section *section,
                           struct conf_vmta *vmta)
{
    struct entry_list hosts = build_entries(build, section, STORE_HOST_NAME);
    const struct conf *conf = build->conf;

    vmta->addresses = build_source_hosts(build, section, STORE_SOURCE_HOST,
                                         hosts.count > 0 ? hosts.items[hosts.count - 1]->value.text
                                                         : conf->global.host_name,
                                         &vmta->address_count);
    if (vmta->address_count > 0)
        return;
    vmta->addresses = conf->vmtas[0].vmta.addresses;
    vmta->address_count = conf->vmtas[0].vmta.address_count;
    /* What was refused may be the very line. */
    if (section->has_errors || build->tree->top.has_errors)
        return;
    if (!build->has_source_hosts && vmta->use_proxy == NULL && conf->global.use_proxy == NULL &&
        build_entries(build, section, STORE_PROXY_SOURCE).count == 0)
        report_warning(build->report, section->file, section->line,
                       "<virtual-mta %.*s> has no smtp-source-host, nor has the top level; the "
                       "system chooses the address it sends from",
                       SHOW(section->name));
}

/* A virtual MTA of a section's auto-cold-virtual-mta lines, which has the settings of `like` but
 * for its addresses. Its name, or NULL when there are no such lines. */
static int add_auto_cold(struct build *build, const struct section *section,
                         const struct vmta_slot *like, const char **ret_name)
{
    struct conf *conf = build->conf;
    struct vmta_slot *slot = &conf->vmtas[conf->vmta_count];
    char name[COLD_NAME_MAX];
    int len = snprintf(name, sizeof(name), "%.*s" COLD_SUFFIX, SHOW(section->name));
    struct conf_vmta cold = {0};

    *ret_name = NULL;
    cold.addresses = build_source_hosts(build, section, STORE_AUTO_COLD, conf->global.host_name,
                                        &cold.address_count);
    if (cold.address_count == 0)
        return 0;
    if (len > CONF_VMTA_NAME_MAX) {
        report_error(build->report, section->file, section->line,
                     "auto-cold-virtual-mta: the name %.80s has more than %d octets", name,
                     CONF_VMTA_NAME_MAX);
        return 0;
    }
    if (vmta_find(conf, slice_str(name)) != TABLE_NONE ||
        pool_find(conf, slice_str(name)) != TABLE_NONE) {
        report_error(build->report, section->file, section->line,
                     "auto-cold-virtual-mta: there is a virtual MTA or pool %.80s already", name);
        return 0;
    }
    *slot = *like;
    slot->made_by = (const char *)section->name.data;
    slot->vmta.addresses = cold.addresses;
    slot->vmta.address_count = cold.address_count;
    slot->vmta.name = (const char *)arena_copy(&conf->arena, slice_of(name, (size_t)len + 1)).data;
    /* The addresses are what it is about: those of the proxies are warm. */
    slot->vmta.use_proxy = NULL;
    slot->vmta.cold_names = NULL;
    slot->vmta.cold_count = 0;
    if (!table_insert(&conf->vmta_by_name, hash_name(slice_str(slot->vmta.name)), conf->vmta_count))
        return -ENOMEM;
    conf->vmta_count++;
    *ret_name = slot->vmta.name;
    return 0;
}

/* The names of a section's cold virtual MTAs, with the one that it makes itself (or NULL); what
 * they stand for is looked up when mail goes. */
static void take_cold(struct build *build, const struct section *section, const char *own,
                      struct conf_vmta *vmta)
{
    struct entry_list list = build_entries(build, section, STORE_COLD_MEMBER);
    const char **names = arena_alloc(&build->conf->arena, (list.count + 1) * sizeof(*names));

    if (list.count == 0 && own == NULL)
        return;
    for (uint32_t i = 0; i < list.count; i++)
        names[i] = list.items[i]->value.text;
    if (own != NULL)
        names[list.count] = own;
    vmta->cold_names = names;
    vmta->cold_count = list.count + (own != NULL);
}

static int add_vmta(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct vmta_slot *slot = &conf->vmtas[conf->vmta_count];
    const char *cold;
    int rc;

    if (!name_is_free(build, section))
        return 0;
    *slot = (struct vmta_slot){.pool_layer = LAYER_NONE};
    slot->vmta.name = (const char *)section->name.data;
    slot->has_own_connections = sets_field(section, offsetof(struct conf_vmta, max_smtp_out));
    slot->has_own_headers = sets_field(section, offsetof(struct conf_vmta, include_headers_from));
    slot->has_own_rewrites = sets_field(section, offsetof(struct conf_vmta, rewrite_list));
    slot->has_own_rate = sets_field(section, offsetof(struct conf_vmta, max_smtp_msg_rate));
    slot->has_own_tier = sets_field(section, offsetof(struct conf_vmta, provider_tier));
    slot->has_own_volume =
        sets_field(section, offsetof(struct conf_vmta, max_smtp_data_volume_rate));
    field_store_presets(&slot->vmta, SCOPE_VMTA, conf->presets);
    build_fields(build, section, &slot->vmta);
    slot->own = build_settings(build, section, STORE_NOTHING);
    fill_addresses(build, section, &slot->vmta);
    rc = take_layer(build, section, &slot->layer);
    if (rc < 0)
        return rc;
    if (!table_insert(&conf->vmta_by_name, hash_name(section->name), conf->vmta_count))
        return -ENOMEM;
    conf->vmta_count++;
    rc = add_auto_cold(build, section, slot, &cold);
    if (rc == 0)
        take_cold(build, section, cold, &slot->vmta);
    return rc;
}

/* ---- Pools --------------------------------------------------------------------------------- */

/* How long so many take at least: the greater, the tighter. */
static bool is_tighter(const struct conf_rate *a, const struct conf_rate *b)
{
    if (a->count == CONF_UNLIMITED || b->count == CONF_UNLIMITED)
        return b->count == CONF_UNLIMITED && a->count != CONF_UNLIMITED;
    return (double)a->count * (double)b->interval_ms < (double)b->count * (double)a->interval_ms;
}

/* A pool's limits hold for each member that has none; of several pools the tightest. */
static void inherit_limits(struct vmta_slot *slot, const struct conf_vmta *limits,
                           const struct settings *settings)
{
    slot->pool = settings;
    if (!slot->has_own_headers && slot->vmta.include_headers_from == NULL)
        slot->vmta.include_headers_from = limits->include_headers_from;
    if (slot->vmta.use_proxy == NULL)
        slot->vmta.use_proxy = limits->use_proxy;
    if (slot->vmta.proxy_protocol == 0)
        slot->vmta.proxy_protocol = limits->proxy_protocol;
    if (!slot->has_own_rewrites && slot->vmta.rewrite_list == NULL)
        slot->vmta.rewrite_list = limits->rewrite_list;
    if (!slot->has_own_connections && limits->max_smtp_out < slot->vmta.max_smtp_out) {
        slot->vmta.max_smtp_out = limits->max_smtp_out;
        slot->connections_from = settings;
    }
    if (!slot->has_own_rate &&
        is_tighter(&limits->max_smtp_msg_rate, &slot->vmta.max_smtp_msg_rate)) {
        slot->vmta.max_smtp_msg_rate = limits->max_smtp_msg_rate;
        slot->rate_from = settings;
    }
    if (!slot->has_own_volume &&
        is_tighter(&limits->max_smtp_data_volume_rate, &slot->vmta.max_smtp_data_volume_rate)) {
        slot->vmta.max_smtp_data_volume_rate = limits->max_smtp_data_volume_rate;
        slot->volume_from = settings;
    }
}

/* Likewise; of several pools that say one the first. */
static void inherit_tier(struct vmta_slot *slot, const struct section *section,
                         const struct conf_vmta *limits)
{
    if (slot->has_own_tier || !sets_field(section, offsetof(struct conf_vmta, provider_tier)))
        return;
    slot->vmta.provider_tier = limits->provider_tier;
    slot->has_own_tier = true;
}

static void inherit_layer(struct build *build, const struct entry *entry, struct vmta_slot *slot,
                          uint32_t layer)
{
    if (layer == LAYER_NONE)
        return;
    if (slot->pool_layer != LAYER_NONE && slot->pool_layer != layer)
        report_error(build->report, entry->file, entry->line,
                     "virtual-mta %s is in two pools with <domain> blocks; only one may have them",
                     slot->vmta.name);
    slot->pool_layer = layer;
}

/* The one that a pool makes has the pool's settings, as a member without any of its own. */
static int add_pool_cold(struct build *build, const struct section *section,
                         const struct conf_vmta *limits, uint32_t layer, const char **ret_name)
{
    struct vmta_slot like = {.layer = LAYER_NONE, .pool_layer = layer};

    field_store_presets(&like.vmta, SCOPE_VMTA, build->conf->presets);
    inherit_limits(&like, limits, build_settings(build, section, STORE_NOTHING));
    inherit_tier(&like, section, limits);
    return add_auto_cold(build, section, &like, ret_name);
}

static int add_members(struct build *build, const struct section *section, struct conf_pool *pool,
                       uint32_t layer)
{
    struct conf *conf = build->conf;
    struct entry_list members = build_entries(build, section, STORE_POOL_MEMBER);
    uint32_t *ids = arena_alloc(&conf->arena, members.count * sizeof(*ids));
    const struct settings *settings = build_settings(build, section, STORE_NOTHING);
    struct conf_vmta limits = {0};
    const char *cold;
    int rc;

    field_store_presets(&limits, SCOPE_POOL, conf->presets);
    build_fields(build, section, &limits);
    rc = add_pool_cold(build, section, &limits, layer, &cold);
    pool->vmta_ids = ids;
    for (uint32_t i = 0; i < members.count; i++) {
        const struct entry *entry = members.items[i];
        uint32_t position = vmta_find(conf, slice_str(entry->value.text));

        if (position == TABLE_NONE) {
            build_missing_name(build, entry->file, entry->line, "there is no <virtual-mta %.80s>",
                               entry->value.text);
            continue;
        }
        /* Positions for now; build_intern turns them into ids. */
        ids[pool->vmta_count++] = position;
        inherit_limits(&conf->vmtas[position], &limits, settings);
        inherit_tier(&conf->vmtas[position], section, &limits);
        if (conf->vmtas[position].vmta.cold_count == 0)
            take_cold(build, section, cold, &conf->vmtas[position].vmta);
        inherit_layer(build, entry, &conf->vmtas[position], layer);
    }
    if (members.count == 0 && !section->has_errors)
        report_error(build->report, section->file, section->line,
                     "<virtual-mta-pool %.*s> has no virtual-mta", SHOW(section->name));
    return rc;
}

static int add_pool(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_pool *pool = &conf->pools[conf->pool_count];
    uint32_t layer;
    int rc;

    if (!name_is_free(build, section))
        return 0;
    rc = take_layer(build, section, &layer);
    if (rc < 0)
        return rc;
    *pool = (struct conf_pool){.name = (const char *)section->name.data};
    rc = add_members(build, section, pool, layer);
    if (rc < 0)
        return rc;
    if (!table_insert(&conf->pool_by_name, hash_name(section->name), conf->pool_count))
        return -ENOMEM;
    conf->pool_count++;
    return 0;
}

int build_vmtas(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t pools = build_count_children(top, SCOPE_POOL);
    /* Each section may make a cold one besides. */
    uint32_t vmtas = 2 * build_count_children(top, SCOPE_VMTA) + pools + 1;
    int rc;

    conf->vmtas = arena_alloc(&conf->arena, vmtas * sizeof(*conf->vmtas));
    conf->pools = arena_alloc(&conf->arena, pools * sizeof(*conf->pools));
    rc = add_default(build);
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_VMTA)
            rc = add_vmta(build, at);
    }
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope == SCOPE_POOL)
            rc = add_pool(build, at);
    }
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        if (!conf->vmtas[i].has_own_tier)
            conf->vmtas[i].vmta.provider_tier = conf->global.provider_tier;
    }
    return rc;
}

/* ---- Ids ----------------------------------------------------------------------------------- */

/* Connections and sessions hold these texts longer than any snapshot lives. */
static int intern_host(const char **name)
{
    uint32_t id;
    int rc = intern_name(INTERN_HOST, slice_str(*name), &id);

    if (rc == 0)
        *name = intern_text(INTERN_HOST, id);
    return rc;
}

static int intern_hosts(struct conf *conf)
{
    int rc = intern_host(&conf->global.host_name);

    for (uint32_t i = 0; rc == 0 && i < conf->vmta_count; i++) {
        const struct conf_vmta *vmta = &conf->vmtas[i].vmta;
        struct conf_source_address *addresses =
            (struct conf_source_address *)(uintptr_t)vmta->addresses;

        /* Those without addresses of their own share the top level's. */
        for (uint32_t j = 0; rc == 0 && j < vmta->address_count; j++)
            rc = i > 0 && vmta->addresses == conf->vmtas[0].vmta.addresses
                     ? 0
                     : intern_host(&addresses[j].helo);
    }
    return rc;
}

static bool match_address(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;
    const struct conf_vmta *vmta = &conf->vmtas[value].vmta;

    for (uint32_t i = 0; i < vmta->address_count; i++) {
        if (ipaddr_equal(&vmta->addresses[i].ip, key))
            return true;
    }
    return false;
}

const struct conf_vmta *conf_vmta_of_address(const struct conf *conf, const struct ipaddr *ip)
{
    uint32_t position = table_find(&conf->vmta_by_address, ipaddr_hash(ip), match_address, ip,
                                   (void *)(uintptr_t)conf);

    return position == TABLE_NONE ? NULL : &conf->vmtas[position].vmta;
}

/* {default} comes last: what a section names itself says more than what the top level has. */
static int index_addresses(struct conf *conf)
{
    for (uint32_t i = 1; i <= conf->vmta_count; i++) {
        uint32_t position = i % conf->vmta_count;
        const struct conf_vmta *vmta = &conf->vmtas[position].vmta;

        if (position != 0 && vmta->addresses == conf->vmtas[0].vmta.addresses)
            continue;
        for (uint32_t j = 0; j < vmta->address_count; j++) {
            const struct ipaddr *ip = &vmta->addresses[j].ip;

            if (conf_vmta_of_address(conf, ip) == NULL &&
                !table_insert(&conf->vmta_by_address, ipaddr_hash(ip), position))
                return -ENOMEM;
        }
    }
    return 0;
}

static int index_ids(struct conf *conf)
{
    uint32_t end = 0;

    for (uint32_t i = 0; i < conf->vmta_count; i++)
        if (conf->vmtas[i].vmta.id >= end)
            end = conf->vmtas[i].vmta.id + 1;
    conf->vmta_position = arena_alloc(&conf->arena, end * sizeof(*conf->vmta_position));
    if (conf->vmta_position == NULL)
        return -ENOMEM;
    for (uint32_t id = 0; id < end; id++)
        conf->vmta_position[id] = CONF_NONE;
    for (uint32_t i = 0; i < conf->vmta_count; i++)
        conf->vmta_position[conf->vmtas[i].vmta.id] = i;
    conf->vmta_id_end = end;
    return 0;
}

int build_intern(struct build *build)
{
    struct conf *conf = build->conf;

    if (intern_hosts(conf) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < conf->vmta_count; i++) {
        struct conf_vmta *vmta = &conf->vmtas[i].vmta;
        int rc = intern_name(INTERN_VMTA, slice_str(vmta->name), &vmta->id);

        vmta->pool_id = CONF_NONE;
        if (rc < 0)
            return -ENOMEM;
    }
    if (index_ids(conf) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < conf->pool_count; i++) {
        struct conf_pool *pool = &conf->pools[i];
        uint32_t *ids = (uint32_t *)(uintptr_t)pool->vmta_ids;
        int rc = intern_name(INTERN_POOL, slice_str(pool->name), &pool->id);

        if (rc < 0 || !table_insert(&conf->pool_by_id, hash_u64(pool->id), i))
            return -ENOMEM;
        for (uint32_t member = 0; member < pool->vmta_count; member++) {
            struct conf_vmta *vmta = &conf->vmtas[ids[member]].vmta;

            vmta->pool_id = pool->id;
            ids[member] = vmta->id;
        }
    }
    return index_addresses(conf);
}
