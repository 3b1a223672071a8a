/* Source addresses that live on proxies: smtp-proxy-source-host, and use-proxy with <proxy>. */
#include "core/conf/build.h"
#include "core/conf/show.h"

static const struct section *proxy_section(const struct build *build, struct slice name)
{
    const struct section *at = build->tree->top.children;

    while (at != NULL && !(at->kind->scope == SCOPE_PROXY && slice_equal_nocase(at->name, name)))
        at = at->next;
    return at;
}

static void wrong(struct build *build, const struct entry *entry, const char *what)
{
    report_error(build->report, entry->file, entry->line, "%s: \"%.80s\" has no %s",
                 entry->row->name, entry->text, what);
}

static bool next_ip(struct slice *rest, struct ipaddr *ret_ip)
{
    struct slice word;

    return value_next_word(rest, &word) > 0 && ipaddr_parse(word, ret_ip) == 0;
}

/* ADDRESS:PORT, an IPv6 address in brackets. */
static bool next_server(struct slice *rest, struct ipaddr_port *ret_at)
{
    struct slice word, ip;
    uint64_t port = 0;
    size_t colon;

    if (value_next_word(rest, &word) <= 0)
        return false;
    for (colon = word.len; colon > 0 && word.data[colon - 1] != ':'; colon--)
        ;
    if (colon < 2 || colon == word.len || word.len - colon > 5)
        return false;
    for (size_t i = colon; i < word.len; i++) {
        if (word.data[i] < '0' || word.data[i] > '9')
            return false;
        port = port * 10 + (word.data[i] - '0');
    }
    ip = slice_of(word.data, colon - 1);
    if (ip.len > 2 && ip.data[0] == '[' && ip.data[ip.len - 1] == ']')
        ip = slice_of(ip.data + 1, ip.len - 2);
    ret_at->port = (uint16_t)port;
    return port > 0 && port <= 65535 && ipaddr_parse(ip, &ret_at->ip) == 0;
}

/* ADDRESS, or ADDRESS:PORT, whose port tells receivers nothing. */
static bool next_client(struct slice *rest, struct ipaddr *ret_ip)
{
    struct slice word, text;
    size_t colon;

    if (value_next_word(rest, &word) <= 0)
        return false;
    if (ipaddr_parse(word, ret_ip) == 0)
        return true;
    for (colon = word.len; colon > 0 && word.data[colon - 1] != ':'; colon--)
        ;
    for (size_t i = colon; i < word.len; i++)
        if (word.data[i] < '0' || word.data[i] > '9')
            return false;
    text = slice_of(word.data, colon > 0 ? colon - 1 : 0);
    if (text.len > 2 && text.data[0] == '[' && text.data[text.len - 1] == ']')
        text = slice_of(text.data + 1, text.len - 2);
    return ipaddr_parse(text, ret_ip) == 0;
}

static const char *next_helo(struct build *build, struct slice *rest, const char *fallback)
{
    struct slice word;
    char *helo;

    if (value_next_word(rest, &word) <= 0)
        return fallback;
    helo = arena_alloc(&build->conf->arena, word.len + 1);
    memcpy(helo, word.data, word.len);
    return helo;
}

struct address_list {
    struct conf_source_address *items;
    uint32_t count;
};

/* LOCAL-IP PROXY:PORT CLIENT-IP HELO */
static void add_source(struct build *build, const struct entry *entry, uint8_t version,
                       struct address_list *list)
{
    struct conf_proxy *proxy = arena_alloc(&build->conf->arena, sizeof(*proxy));
    struct slice rest = slice_str(entry->text);
    struct conf_source_address *address = &list->items[list->count];

    proxy->version = version;
    address->proxy = proxy;
    address->rank = 0;
    if (!next_ip(&rest, &proxy->local) || !next_server(&rest, &proxy->server))
        wrong(build, entry, "LOCAL-IP and PROXY:PORT");
    else if (!next_client(&rest, &address->ip))
        wrong(build, entry, "CLIENT-IP");
    else if (proxy->local.family != proxy->server.ip.family)
        wrong(build, entry, "LOCAL-IP of the proxy's family");
    address->helo = next_helo(build, &rest, build->conf->global.host_name);
    list->count++;
}

/* The address that a connection to the server comes from where the proxy does not say: the virtual
 * MTA's own of that family, else any. */
static struct ipaddr local_for(const struct conf_vmta *vmta, const struct ipaddr_port *server)
{
    for (uint32_t i = 0; i < vmta->address_count; i++)
        if (vmta->addresses[i].ip.family == server->ip.family && vmta->addresses[i].proxy == NULL)
            return vmta->addresses[i].ip;
    return (struct ipaddr){.family = server->ip.family};
}

/* The clients of one <proxy>; each takes the next of its servers. */
static void add_clients(struct build *build, const struct conf_vmta *vmta,
                        const struct section *section, uint32_t rank, struct address_list *list)
{
    struct entry_list servers = build_entries(build, section, STORE_PROXY_SERVER);
    struct entry_list clients = build_entries(build, section, STORE_PROXY_CLIENT);
    struct entry_list versions = build_entries(build, section, STORE_PROXY_VERSION);

    for (uint32_t i = 0; servers.count > 0 && i < clients.count; i++) {
        const struct entry *server = servers.items[i % servers.count];
        struct conf_proxy *proxy = arena_alloc(&build->conf->arena, sizeof(*proxy));
        struct slice rest = slice_str(server->text);
        struct conf_source_address *address = &list->items[list->count++];

        address->proxy = proxy;
        address->rank = rank;
        proxy->version = vmta->proxy_protocol > 0 ? (uint8_t)vmta->proxy_protocol : 1;
        if (vmta->proxy_protocol == 0 && versions.count > 0)
            proxy->version = (uint8_t)versions.items[versions.count - 1]->value.number;
        if (!next_server(&rest, &proxy->server))
            wrong(build, server, "ADDRESS:PORT");
        if (!next_ip(&rest, &proxy->local))
            proxy->local = local_for(vmta, &proxy->server);
        rest = slice_str(clients.items[i]->text);
        if (!next_client(&rest, &address->ip))
            wrong(build, clients.items[i], "ADDRESS");
        address->helo = next_helo(build, &rest, build->conf->global.host_name);
    }
    if ((servers.count == 0 || clients.count == 0) && !section->has_errors)
        report_error(build->report, section->file, section->line,
                     "<proxy %.*s> needs a server and a client", SHOW(section->name));
}

static bool is_any(const struct ipaddr *ip)
{
    static const struct ipaddr zero;

    return memcmp(ip->bytes, zero.bytes, sizeof(zero.bytes)) == 0;
}

/* So many addresses the proxies of a list have. */
static uint32_t count_clients(struct build *build, const struct section *user, const char *names)
{
    struct slice rest = names ? slice_str(names) : SLICE_EMPTY, name;
    uint32_t count = 0;

    while (names != NULL && value_next_item(&rest, &name)) {
        const struct section *section = proxy_section(build, name);

        if (section != NULL)
            count += build_entries(build, section, STORE_PROXY_CLIENT).count;
        else
            build_missing_name(build, user->file, user->line, "use-proxy: there is no <proxy %.*s>",
                               SHOW(name));
    }
    return count;
}

/* The addresses of a virtual MTA, once it and its pools are read. section: what it may have
 * smtp-proxy-source-host in. */
static void compose(struct build *build, struct conf_vmta *vmta, const struct section *section)
{
    struct entry_list sources = build_entries(build, section, STORE_PROXY_SOURCE);
    const char *names = vmta->use_proxy ? vmta->use_proxy : build->conf->global.use_proxy;
    uint32_t clients = count_clients(build, section, names);
    struct slice rest = names ? slice_str(names) : SLICE_EMPTY, name;
    bool has_own = section->kind == NULL || build_entries(build, section, STORE_SOURCE_HOST).count;
    bool keeps = names == NULL && (has_own || sources.count == 0);
    struct address_list list = {0};

    vmta->rank_count = 1;
    if (names == NULL && sources.count == 0)
        return;
    list.items = arena_alloc(&build->conf->arena,
                             (vmta->address_count + clients + sources.count) * sizeof(*list.items));
    /* What the system would choose is no address beside one that was named. */
    for (uint32_t i = 0; keeps && i < vmta->address_count; i++)
        if (!(sources.count > 0 && is_any(&vmta->addresses[i].ip)))
            list.items[list.count++] = vmta->addresses[i];
    for (uint32_t i = 0; i < sources.count; i++)
        add_source(build, sources.items[i],
                   vmta->proxy_protocol > 0 ? (uint8_t)vmta->proxy_protocol : 1, &list);
    for (uint32_t rank = 0; names != NULL && value_next_item(&rest, &name); rank++) {
        const struct section *proxy = proxy_section(build, name);

        if (proxy != NULL)
            add_clients(build, vmta, proxy, rank, &list);
        vmta->rank_count = rank + 1;
    }
    if (list.count == 0)
        return;
    vmta->addresses = list.items;
    vmta->address_count = list.count;
}

static struct conf_vmta *vmta_of(struct conf *conf, const struct section *section)
{
    uint32_t position = vmta_find(conf, section->name);

    return position == TABLE_NONE ? NULL : &conf->vmtas[position].vmta;
}

void build_proxies(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct conf *conf = build->conf;
    struct conf_vmta *first = &conf->vmtas[0].vmta;
    const struct conf_source_address *before = first->addresses;

    compose(build, first, top);
    for (const struct section *at = top->children; at != NULL; at = at->next) {
        struct conf_vmta *vmta = at->kind->scope == SCOPE_VMTA ? vmta_of(conf, at) : NULL;

        if (vmta == NULL)
            continue;
        /* Those without addresses of their own share the top level's, the proxies' included. */
        if (vmta->addresses == before && vmta->use_proxy == NULL &&
            build_entries(build, at, STORE_PROXY_SOURCE).count == 0) {
            vmta->addresses = first->addresses;
            vmta->address_count = first->address_count;
            vmta->rank_count = first->rank_count;
        } else {
            compose(build, vmta, at);
        }
    }
}
