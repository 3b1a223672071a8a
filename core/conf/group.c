#include "core/conf/group.h"

#include "core/conf/field.h"
#include "core/conf/intern.h"
#include "core/conf/show.h"

uint32_t group_find(const struct conf *conf, struct slice name)
{
    for (uint32_t i = 0; i < conf->group_count; i++)
        if (slice_equal_nocase(slice_str(conf->groups[i].name), name))
            return conf->groups[i].id;
    return CONF_NONE;
}

void group_check(struct build *build, const struct entry *entry, struct slice name)
{
    if (group_find(build->conf, name) == CONF_NONE)
        build_missing_name(build, entry->file, entry->line, "there is no <source-group %.*s>",
                           SHOW(name));
}

static int add_group(struct build *build, const struct section *section)
{
    struct conf *conf = build->conf;
    struct conf_source_group group = {.name = (const char *)section->name.data};
    int rc = intern_name(INTERN_SOURCE_GROUP, section->name, &group.id);

    if (rc < 0)
        return rc;
    if (group_find(conf, section->name) != CONF_NONE)
        report_error(build->report, section->file, section->line,
                     "<source-group %.*s> is given twice", SHOW(section->name));
    if (group.id >= CONF_SOURCE_GROUPS_MAX)
        report_error(build->report, section->file, section->line,
                     "at most %u source groups can be used in the life of a process",
                     CONF_SOURCE_GROUPS_MAX);
    field_store_presets(&group, SCOPE_SOURCE_GROUP, conf->presets);
    build_fields(build, section, &group);
    conf->global.reserved_smtp_in += group.reserved_smtp_in;
    conf->groups[conf->group_count++] = group;
    return 0;
}

int build_groups(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    uint32_t most = build_count_children(top, SCOPE_SOURCE_GROUP);
    const struct section *last = NULL;
    int rc = 0;

    conf->groups = arena_alloc(&conf->arena, most * sizeof(*conf->groups));
    for (const struct section *at = top->children; rc == 0 && at != NULL; at = at->next) {
        if (at->kind->scope != SCOPE_SOURCE_GROUP)
            continue;
        last = at;
        rc = add_group(build, at);
    }
    if (last != NULL && conf->global.reserved_smtp_in > conf->global.total_max_smtp_in)
        report_error(build->report, last->file, last->line,
                     "reserved-smtp-in of all groups is %llu, more than total-max-smtp-in %llu",
                     (unsigned long long)conf->global.reserved_smtp_in,
                     (unsigned long long)conf->global.total_max_smtp_in);
    return rc;
}

const struct conf_source_group *conf_source_group(const struct conf *conf, uint32_t id)
{
    for (uint32_t i = 0; i < conf->group_count; i++)
        if (conf->groups[i].id == id)
            return &conf->groups[i];
    return NULL;
}

static bool is_any(const struct ipaddr *ip)
{
    static const struct ipaddr zero;

    return memcmp(ip->bytes, zero.bytes, sizeof(zero.bytes)) == 0;
}

/* NULL when there is none. */
static const struct conf_listener *listener_of(const struct conf *conf,
                                               const struct ipaddr_port *local)
{
    const struct conf_listener *best = NULL;

    for (uint32_t i = 0; i < conf->global.listener_count; i++) {
        const struct conf_listener *listener = &conf->global.listeners[i];

        if (listener->at.port != local->port)
            continue;
        if (ipaddr_equal(&listener->at.ip, &local->ip))
            return listener;
        if (is_any(&listener->at.ip))
            best = listener;
    }
    return best;
}

bool conf_awaits_slot(const struct conf *conf, const struct ipaddr_port *local)
{
    const struct conf_listener *listener = listener_of(conf, local);

    return listener ? listener->awaits_slot : conf->global.await_slot;
}

const struct conf_tls_in *conf_tls_in(const struct conf *conf, const struct ipaddr_port *local)
{
    const struct conf_listener *listener = listener_of(conf, local);

    return listener ? &listener->tls : &conf->global.tls_in;
}

uint32_t conf_tls_versions(const struct conf_tls_in *tls)
{
    uint32_t versions = 0;

    for (uint32_t i = 0; i < 4; i++)
        versions |= tls->allows[i] ? 1u << i : 0;
    return versions;
}
