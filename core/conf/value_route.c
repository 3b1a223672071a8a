#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#define ROUTE_HOSTS_MAX 64
#define HOST_TEXT_MAX   253

/*
 * smtp-hosts: groups between ';', most preferred first; within a group equals between ','. The
 * hash does not depend on the order of equals nor on the case of names, so two ways of writing
 * one route share their connections.
 */
struct route_read {
    struct value_parse *parse;
    struct conf_route_host hosts[ROUTE_HOSTS_MAX];
    uint32_t count;
    uint16_t preference;
};

static const char *lower_copy(struct arena *arena, struct slice text)
{
    char *copy = arena_alloc(arena, text.len + 1);

    slice_lower(text, copy);
    return copy;
}

/* "[address]" or "[address]:port" */
static bool read_literal(struct slice item, struct conf_route_host *host)
{
    const struct slice tag = SLICE_LITERAL("IPv6:");
    size_t end = slice_find(item, ']');
    struct slice address;

    if (end == item.len)
        return false;
    address = slice_of(item.data + 1, end - 1);
    if (slice_starts_nocase(address, tag))
        address = slice_after(address, tag.len);
    host->kind = CONF_ROUTE_ADDRESS;
    if (ipaddr_parse(address, &host->ip) < 0)
        return false;
    item = slice_after(item, end + 1);
    return item.len == 0 ||
           (item.data[0] == ':' && value_read_port(slice_after(item, 1), &host->port));
}

static bool read_host(struct arena *arena, struct slice item, struct conf_route_host *host)
{
    const struct slice lookup = SLICE_LITERAL("lookup-mx:");
    size_t colon;

    if (item.len > 0 && item.data[0] == '[')
        return read_literal(item, host);
    if (slice_starts_nocase(item, lookup)) {
        host->kind = CONF_ROUTE_LOOKUP_MX;
        item = slice_after(item, lookup.len);
    } else if (ipaddr_parse(item, &host->ip) == 0) {
        host->kind = CONF_ROUTE_ADDRESS;
        return true;
    }
    colon = slice_find(item, ':');
    if (colon < item.len && !value_read_port(slice_after(item, colon + 1), &host->port))
        return false;
    item = slice_of(item.data, colon);
    if (host->kind == CONF_ROUTE_HOST && ipaddr_parse(item, &host->ip) == 0) {
        host->kind = CONF_ROUTE_ADDRESS;
        return true;
    }
    if (!value_is_host_name(item))
        return false;
    host->name = lower_copy(arena, item);
    return true;
}

static int read_group(struct route_read *read, struct slice group)
{
    struct slice item;

    while (value_next_item(&group, &item)) {
        struct conf_route_host host = {.preference = read->preference};

        if (!read_host(read->parse->arena, item, &host))
            return value_refuse(read->parse,
                                "\"%.*s\" is neither a host nor [address]:port nor "
                                "lookup-mx:domain",
                                SHOW(item));
        if (read->count == ROUTE_HOSTS_MAX)
            return value_refuse(read->parse, "more than %d hosts", ROUTE_HOSTS_MAX);
        read->hosts[read->count++] = host;
    }
    return 0;
}

static uint64_t hash_host(const struct conf_route_host *host)
{
    uint64_t place =
        (uint64_t)host->preference << 32 | (uint64_t)host->port << 8 | (uint64_t)host->kind;
    uint64_t what = host->kind == CONF_ROUTE_ADDRESS ? ipaddr_hash(&host->ip)
                                                     : hash_bytes(host->name, strlen(host->name));

    return hash_combine(place, what);
}

int value_parse_route_list(struct value_parse *parse)
{
    struct route_read read = {.parse = parse};
    struct value_route *route;
    struct conf_route_host *hosts;
    struct slice list;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    for (;;) {
        size_t end = slice_find(list, ';');

        rc = read_group(&read, slice_of(list.data, end));
        if (rc < 0)
            return rc;
        if (end == list.len)
            break;
        list = slice_after(list, end + 1);
        read.preference++;
    }
    hosts = arena_alloc(parse->arena, read.count * sizeof(*hosts));
    memcpy(hosts, read.hosts, read.count * sizeof(*hosts));
    route = arena_alloc(parse->arena, sizeof(*route));
    *route = (struct value_route){.hosts = hosts, .count = read.count};
    /* A sum does not depend on the order; the preference is part of each summand. */
    for (uint32_t i = 0; i < read.count; i++)
        route->hash += hash_host(&hosts[i]);
    parse->value.route = route;
    return 0;
}
