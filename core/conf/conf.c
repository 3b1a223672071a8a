#include "core/conf/conf.h"
#include "core/conf/aliases.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/regex.h"
#include "core/conf/build.h"
#include "core/conf/certificates.h"
#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/keys.h"
#include "core/conf/limit.h"
#include "core/conf/override.h"
#include "core/conf/pattern_list.h"
#include "core/conf/provider_build.h"
#include "core/conf/reply_list.h"

#include <errno.h>
#include <stdio.h>

#define RECORD_KINDS 4 /* that disable-acct-records names */

static atomic_uint live_count;

/* ---- Loading ------------------------------------------------------------------------------- */

static struct conf *conf_new(void)
{
    struct conf *conf = mem_alloc(sizeof(*conf));

    atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    atomic_init(&conf->references, 1);
    arena_init(&conf->arena);
    pattern_index_init(&conf->domains, &conf->arena);
    provider_table_init(&conf->providers);
    table_init(&conf->vmta_by_name);
    table_init(&conf->rollup_by_name);
    table_init(&conf->user_by_name);
    table_init(&conf->vmta_by_address);
    table_init(&conf->pool_by_name);
    table_init(&conf->pool_by_id);
    table_init(&conf->limit_by_id);
    table_init(&conf->sources.by_block);
    table_init(&conf->sources.by_name);
    return conf;
}

static void conf_free(struct conf *conf)
{
    pattern_index_fini(&conf->domains);
    zone_fini(&conf->zone);
    provider_table_fini(&conf->providers);
    table_fini(&conf->vmta_by_name);
    table_fini(&conf->rollup_by_name);
    table_fini(&conf->user_by_name);
    for (const struct conf_regex *at = conf->regexes; at != NULL; at = at->next)
        regex_free(at->regex);
    aliases_fini(conf);
    keys_fini(conf);
    certificates_fini(conf);
    address_lists_fini(conf);
    table_fini(&conf->vmta_by_address);
    table_fini(&conf->pool_by_name);
    table_fini(&conf->pool_by_id);
    table_fini(&conf->limit_by_id);
    table_fini(&conf->sources.by_block);
    table_fini(&conf->sources.by_name);
    arena_fini(&conf->arena);
    mem_free(conf);
    atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
}

uint32_t conf_live_count(void)
{
    return atomic_load_explicit(&live_count, memory_order_relaxed);
}

/* The common end of both ways to load; rc is what parsing returned. */
static int finish(struct conf *conf, struct tree *tree, int rc, const char *name,
                  const struct conf_load_options *options, struct report *report,
                  struct conf **ret_conf)
{
    if (rc == 0)
        rc = build_snapshot(conf, tree, options, report);
    tree_fini(tree);
    if (rc < 0 && report->errors == 0)
        report_error(report, name, 0, "%s", err_text(rc));
    if (rc == 0 && report->errors > 0)
        rc = E_SYNTAX;
    if (rc < 0) {
        conf_free(conf);
        return rc;
    }
    *ret_conf = conf;
    if (options != NULL && options->is_pack)
        atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
    return 0;
}

int conf_load(const char *path, const struct conf_load_options *options, conf_report_fn *report_fn,
              void *context, struct conf **ret_conf)
{
    struct report report = {.fn = report_fn, .context = context};
    struct conf *conf = conf_new();
    struct tree tree;
    int rc = tree_parse_file(&tree, path, options, &conf->arena, &report);

    return finish(conf, &tree, rc, path, options, &report, ret_conf);
}

int conf_load_text(const char *name, const char *text, const struct conf_load_options *options,
                   conf_report_fn *report_fn, void *context, struct conf **ret_conf)
{
    struct report report = {.fn = report_fn, .context = context};
    struct conf *conf = conf_new();
    struct tree tree;
    int rc = tree_parse_text(&tree, name, slice_str(text), options, &conf->arena, &report);

    return finish(conf, &tree, rc, name, options, &report, ret_conf);
}

struct conf *conf_ref(struct conf *conf)
{
    must(atomic_fetch_add_explicit(&conf->references, 1, memory_order_relaxed) > 0);
    return conf;
}

void conf_unref(struct conf *conf)
{
    unsigned before;

    if (conf == NULL)
        return;
    /* Release what this holder read, and let the one that frees see all of it. */
    before = atomic_fetch_sub_explicit(&conf->references, 1, memory_order_acq_rel);
    must(before > 0);
    if (before == 1)
        conf_free(conf);
}

/* ---- Looking up ---------------------------------------------------------------------------- */

const struct zone *conf_zone(const struct conf *conf)
{
    return &conf->zone;
}

const struct conf_global *conf_global(const struct conf *conf)
{
    return &conf->global;
}

const struct vmta_slot *vmta_slot_of(const struct conf *conf, uint32_t id)
{
    uint32_t position = id < conf->vmta_id_end ? conf->vmta_position[id] : CONF_NONE;

    return position == CONF_NONE ? NULL : &conf->vmtas[position];
}

static bool match_pool_id(uint32_t value, const void *key, void *context)
{
    const struct conf *conf = context;

    return conf->pools[value].id == *(const uint32_t *)key;
}

uint32_t conf_vmta_count(const struct conf *conf)
{
    return conf->vmta_count;
}

uint32_t conf_vmta_id_end(const struct conf *conf)
{
    return conf->vmta_id_end;
}

const struct conf_vmta *conf_vmta_at(const struct conf *conf, uint32_t position)
{
    must(position < conf->vmta_count);
    return &conf->vmtas[position].vmta;
}

const struct conf_vmta *conf_vmta(const struct conf *conf, uint32_t id)
{
    const struct vmta_slot *slot = vmta_slot_of(conf, id);

    return slot == NULL ? NULL : &slot->vmta;
}

bool conf_next_name(struct slice *rest, struct slice *ret_name)
{
    return value_next_item(rest, ret_name);
}

bool conf_is_listed(const char *list, struct slice name)
{
    struct slice rest = list ? slice_str(list) : SLICE_EMPTY, listed;

    while (conf_next_name(&rest, &listed)) {
        if (slice_equal_nocase(listed, name))
            return true;
    }
    return false;
}

const struct conf_vmta *conf_vmta_named(const struct conf *conf, struct slice name)
{
    uint32_t position = vmta_find(conf, name);

    return position == TABLE_NONE ? NULL : &conf->vmtas[position].vmta;
}

/* What the snapshot itself knows needs no lock. */
const char *conf_vmta_name(const struct conf *conf, uint32_t id)
{
    const struct conf_vmta *vmta = conf_vmta(conf, id);
    const char *name = vmta != NULL ? vmta->name : intern_text(INTERN_VMTA, id);

    must(name != NULL);
    return name;
}

uint32_t conf_vmta_id(const struct conf *conf, struct slice name)
{
    const struct conf_vmta *vmta = name.len == 0 ? NULL : conf_vmta_named(conf, name);
    uint32_t id;

    if (vmta != NULL)
        return vmta->id;
    if (name.len == 0 || intern_name(INTERN_VMTA, name, &id) < 0)
        return CONF_VMTA_DEFAULT;
    return id;
}

uint32_t conf_pool_count(const struct conf *conf)
{
    return conf->pool_count;
}

const struct conf_pool *conf_pool_at(const struct conf *conf, uint32_t position)
{
    must(position < conf->pool_count);
    return &conf->pools[position];
}

const struct conf_pool *conf_pool(const struct conf *conf, uint32_t id)
{
    uint32_t position =
        table_find(&conf->pool_by_id, hash_u64(id), match_pool_id, &id, (void *)(uintptr_t)conf);

    return position == TABLE_NONE ? NULL : &conf->pools[position];
}

const struct conf_pool *conf_pool_named(const struct conf *conf, struct slice name)
{
    uint32_t position = pool_find(conf, name);

    return position == TABLE_NONE ? NULL : &conf->pools[position];
}

void conf_vmta_missing(const struct conf *conf, const char *name, bool takes_all,
                       char room[CONF_VMTA_MISSING_MAX])
{
    if (conf_pool_named(conf, slice_str(name)) != NULL)
        snprintf(room, CONF_VMTA_MISSING_MAX, "\"%.64s\" is a pool: name one of its virtual MTAs%s",
                 name, takes_all ? ", or * for all" : "");
    else
        snprintf(room, CONF_VMTA_MISSING_MAX, "there is no virtual MTA \"%.64s\"", name);
}

static void apply_block(void *context, const struct settings *settings)
{
    struct conf_queue *queue = context;

    for (uint32_t i = 0; i < settings->count; i++)
        field_store(queue, settings->items[i].row, &settings->items[i].value);
    if (settings->categories != NULL)
        queue->categories[0] = settings->categories;
    for (unsigned i = 0; settings->source_limits != NULL && i < CONF_QUANTITIES; i++)
        if (settings->source_limits[i].items != NULL)
            queue->source_limits[i] = settings->source_limits[i];
}

static void visit_blocks(const struct conf *conf, const struct vmta_slot *slot, struct slice domain,
                         pattern_visit_fn *visit, void *context)
{
    pattern_index_visit(&conf->domains, LAYER_GLOBAL, domain, visit, context);
    if (slot != NULL && slot->pool_layer != LAYER_NONE)
        pattern_index_visit(&conf->domains, slot->pool_layer, domain, visit, context);
    if (slot != NULL && slot->layer != LAYER_NONE)
        pattern_index_visit(&conf->domains, slot->layer, domain, visit, context);
    override_visit(conf, domain, slot != NULL ? slot->vmta.id : CONF_NONE, visit, context);
}

void conf_visit_blocks(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                       pattern_visit_fn *visit, void *context)
{
    visit_blocks(conf, vmta_slot_of(conf, vmta_id), domain, visit, context);
}

static const struct conf_category_list *categories_of_way(const struct vmta_slot *slot)
{
    if (slot != NULL && slot->own != NULL && slot->own->categories != NULL)
        return slot->own->categories;
    return slot != NULL && slot->pool != NULL ? slot->pool->categories : NULL;
}

/* Hosts without a port go to the queue's own, which makes it part of the route. */
static void finish_route(struct conf_queue *queue)
{
    for (uint32_t i = 0; i < queue->route_count; i++) {
        if (queue->route[i].port == 0) {
            queue->route_hash = hash_combine(queue->route_hash, queue->default_port);
            break;
        }
    }
    if (queue->route_count > 0 && queue->route_hash == 0)
        queue->route_hash = 1;
}

/* A pause between connections is a rate of one connection in that time. */
static void finish_pace(struct conf_queue *queue)
{
    const struct conf_rate *rate = &queue->max_connect_rate;
    uint64_t pause_ms = queue->rampup_ms;

    if (pause_ms > 0 && (rate->count == CONF_UNLIMITED ||
                         (rate->count > 0 && rate->interval_ms / rate->count < pause_ms)))
        queue->max_connect_rate = (struct conf_rate){.count = 1, .interval_ms = pause_ms};
}

/* Records have long names too, which stand behind the short ones. */
static void finish_records(struct conf_queue *queue)
{
    queue->unwanted_records |= queue->unwanted_records >> RECORD_KINDS;
    queue->unwanted_records &= (1u << RECORD_KINDS) - 1;
}

/* No rate that was written has neither a count nor a span. */
static bool is_given(const struct conf_rate *rate)
{
    return rate->count != 0 || rate->interval_ms != 0;
}

static void finish_backoff(struct conf_queue *queue)
{
    if (!is_given(&queue->backoff_max_msg_rate))
        queue->backoff_max_msg_rate = queue->max_msg_rate;
    if (!is_given(&queue->backoff_max_connect_rate))
        queue->backoff_max_connect_rate = queue->max_connect_rate;
    if (!is_given(&queue->backoff_max_data_volume_rate))
        queue->backoff_max_data_volume_rate = queue->max_data_volume_rate;
}

/* Which bounds of providers a queue's blocks speak of themselves. */
static void note_given(void *context, const struct settings *settings)
{
    bool *given = context;

    for (uint32_t i = 0; i < settings->count; i++) {
        size_t offset = settings->items[i].row->offset;

        given[CONF_PROVIDER_CONNECTIONS] |= offset == offsetof(struct conf_queue, max_smtp_out);
        given[CONF_PROVIDER_RECIPIENTS] |= offset == offsetof(struct conf_queue, max_msg_rate);
        given[CONF_PROVIDER_CONNECTS] |= offset == offsetof(struct conf_queue, max_connect_rate);
    }
}

/* A bound of connections to the provider takes the place of the default that each queue has. */
static void find_provider_limits(const struct conf *conf, const struct vmta_slot *slot,
                                 struct slice domain, uint64_t provider, uint32_t tier,
                                 struct conf_queue *queue)
{
    bool given[CONF_PROVIDER_BOUNDS] = {0};

    if (!conf_providers_act(conf) || provider == CONF_PROVIDER_NONE)
        return;
    visit_blocks(conf, slot, domain, note_given, given);
    given[CONF_PROVIDER_TENANT_CONNECTIONS] = given[CONF_PROVIDER_CONNECTIONS];
    for (unsigned i = 0; i < CONF_PROVIDER_BOUNDS; i++)
        queue->provider_limits[i] = provider_bound(conf, provider, tier, i, given[i]);
    if (queue->provider_limits[CONF_PROVIDER_CONNECTIONS] != NULL &&
        !given[CONF_PROVIDER_CONNECTIONS])
        queue->max_smtp_out = CONF_UNLIMITED;
}

void conf_queue(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                struct conf_queue *ret_queue)
{
    conf_queue_at(conf, domain, vmta_id, CONF_PROVIDER_NONE, ret_queue);
}

void conf_queue_at(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                   uint64_t provider, struct conf_queue *ret_queue)
{
    const struct vmta_slot *slot = vmta_slot_of(conf, vmta_id);
    uint32_t tier = slot != NULL ? slot->vmta.provider_tier : conf->global.provider_tier;

    *ret_queue = conf->queue_preset;
    provider_apply(conf, provider, tier, ret_queue);
    visit_blocks(conf, slot, domain, apply_block, ret_queue);
    find_provider_limits(conf, slot, domain, provider, tier, ret_queue);
    if (conf->rollup_count > 0)
        rollup_apply(conf, domain, ret_queue);
    if (ret_queue->reply_list_name != NULL)
        ret_queue->replies = reply_list_find(conf, slice_str(ret_queue->reply_list_name));
    ret_queue->categories[1] = categories_of_way(slot);
    ret_queue->categories[2] = conf->top->categories;
    finish_route(ret_queue);
    finish_pace(ret_queue);
    finish_backoff(ret_queue);
    finish_records(ret_queue);
}

uint32_t conf_acct_file_count(const struct conf *conf)
{
    return conf->acct_file_count;
}

const struct conf_acct_file *conf_acct_file_at(const struct conf *conf, uint32_t position)
{
    must(position < conf->acct_file_count);
    return &conf->acct_files[position];
}

const struct slice *conf_noted_headers(const struct conf *conf, uint32_t *ret_count)
{
    *ret_count = conf->noted_header_count;
    return conf->noted_headers;
}
