#include "core/conf/build.h"

#include "core/base/err.h"
#include "core/conf/field.h"
#include "core/conf/show.h"

#include <errno.h>
#include <ifaddrs.h>
#include <sys/socket.h>
#include <unistd.h>

#define EDNS_BYTES_MIN 512u
#define HOST_NAME_ROOM 256

/* ---- Addresses of this machine ------------------------------------------------------------- */

/* Link-local IPv6 addresses mean nothing without an interface, so they do not count. */
static bool read_interface(const struct ifaddrs *interface, struct ipaddr *ret_ip)
{
    struct ipaddr_port at;

    if (interface->ifa_addr == NULL || ipaddr_from_sockaddr(interface->ifa_addr, &at) < 0)
        return false;
    *ret_ip = at.ip;
    return at.ip.family == IPADDR_V4 ||
           !(at.ip.bytes[0] == 0xfe && (at.ip.bytes[1] & 0xc0) == 0x80);
}

/* Without any list, blocks simply hold no address of the machine. */
static void learn_addresses(struct build *build)
{
    struct ifaddrs *interfaces = NULL;
    uint32_t most = 0;

    build->addresses_known = true;
    if (getifaddrs(&interfaces) < 0)
        return;
    for (const struct ifaddrs *at = interfaces; at != NULL; at = at->ifa_next)
        most++;
    build->addresses = arena_alloc(&build->conf->arena, most * sizeof(*build->addresses));
    for (const struct ifaddrs *at = interfaces; at != NULL; at = at->ifa_next) {
        if (read_interface(at, &build->addresses[build->address_count]))
            build->address_count++;
    }
    freeifaddrs(interfaces);
}

/* The addresses that a block stands for, in the arena. */
struct ip_list {
    struct ipaddr *items;
    uint32_t count;
};

/*
 * One address stands for itself, whether the machine has it or not; 0/0 for "any"; a block for
 * those of its addresses that the machine has. When only the syntax counts, the block's own first
 * address takes the place of those.
 */
static struct ip_list expand_block(struct build *build, const struct cidr *block)
{
    uint8_t full = block->ip.family == IPADDR_V4 ? 32 : 128;
    struct ip_list list = {0};

    if (block->prefix_bits == full || block->prefix_bits == 0 || build->options->syntax_only) {
        list.items = arena_alloc(&build->conf->arena, sizeof(*list.items));
        list.items[list.count++] = block->ip;
        return list;
    }
    if (!build->addresses_known)
        learn_addresses(build);
    list.items = arena_alloc(&build->conf->arena, build->address_count * sizeof(*list.items));
    for (uint32_t i = 0; i < build->address_count; i++) {
        if (cidr_contains(block, &build->addresses[i]))
            list.items[list.count++] = build->addresses[i];
    }
    return list;
}

static bool is_unspecified(const struct ipaddr *ip)
{
    static const struct ipaddr zero;

    return memcmp(ip->bytes, zero.bytes, sizeof(zero.bytes)) == 0;
}

/* Whether a socket of ours could ever have the address. */
static bool can_be_local(const struct ipaddr *ip)
{
    return is_unspecified(ip) || !ipaddr_is_never_unicast(ip);
}

/* ---- Source addresses ---------------------------------------------------------------------- */

const struct conf_source_address *build_source_hosts(struct build *build,
                                                     const struct section *section,
                                                     enum directive_store store, const char *helo,
                                                     uint32_t *ret_count)
{
    struct entry_list entries = build_entries(build, section, store);
    struct ip_list *lists =
        arena_alloc(&build->conf->arena, entries.count * sizeof(struct ip_list));
    struct conf_source_address *addresses;
    uint32_t total = 0;

    *ret_count = 0;
    for (uint32_t i = 0; i < entries.count; i++) {
        const struct entry *entry = entries.items[i];

        lists[i] = expand_block(build, &entry->value.block->block);
        total += lists[i].count;
        if (lists[i].count == 0)
            report_error(build->report, entry->file, entry->line,
                         "%s: this machine has no address in that block", entry->row->name);
        else if (!can_be_local(&lists[i].items[0]))
            report_error(build->report, entry->file, entry->line,
                         "%s: nobody can connect from that address", entry->row->name);
    }
    if (total == 0)
        return NULL;
    addresses = arena_alloc(&build->conf->arena, total * sizeof(*addresses));
    for (uint32_t i = 0; i < entries.count; i++) {
        const char *own = entries.items[i]->value.block->name;

        for (uint32_t j = 0; j < lists[i].count; j++)
            addresses[(*ret_count)++] = (struct conf_source_address){
                .ip = lists[i].items[j], .helo = own != NULL ? own : helo};
    }
    return addresses;
}

/* ---- Listeners ----------------------------------------------------------------------------- */

struct listener_list {
    struct conf_listener *items;
    uint32_t count;
    uint32_t capacity;
};

static void push_listener(struct build *build, struct listener_list *list,
                          const struct conf_listener *listener)
{
    if (list->count == list->capacity) {
        uint32_t bigger = list->capacity == 0 ? 8 : list->capacity * 2;
        struct conf_listener *items = arena_alloc(&build->conf->arena, bigger * sizeof(*items));

        if (list->count > 0)
            memcpy(items, list->items, list->count * sizeof(*items));
        list->items = items;
        list->capacity = bigger;
    }
    list->items[list->count++] = *listener;
}

static bool is_same_tls(const struct conf_tls_in *a, const struct conf_tls_in *b)
{
    return a->certificate == b->certificate && a->authorities == b->authorities &&
           (a->ciphers == NULL) == (b->ciphers == NULL) &&
           (a->ciphers == NULL || strcmp(a->ciphers, b->ciphers) == 0) &&
           conf_tls_versions(a) == conf_tls_versions(b) && a->is_immediate == b->is_immediate;
}

/* One that is there already: harmless where both say the same, as files of tools often do. */
static bool is_there(const struct build *build, const struct listener_list *list,
                     const struct conf_listener *listener, const char *file, unsigned line)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct conf_listener *other = &list->items[i];
        bool is_same =
            (other->source_name == NULL) == (listener->source_name == NULL) &&
            (!other->source_name || strcmp(other->source_name, listener->source_name) == 0) &&
            is_same_tls(&other->tls, &listener->tls);

        if (other->at.port != listener->at.port || !ipaddr_equal(&other->at.ip, &listener->at.ip))
            continue;
        if (is_same)
            report_warning(build->report, file, line,
                           "smtp-listener: address and port are given twice; once is enough");
        else
            report_error(build->report, file, line,
                         "smtp-listener: address and port are given twice, with another source "
                         "or other terms of TLS");
        return true;
    }
    return false;
}

static void add_listener(struct build *build, struct listener_list *list,
                         const struct value_block *at, const struct conf_listener *like,
                         const char *file, unsigned line)
{
    struct ip_list addresses = expand_block(build, &at->block);

    if (addresses.count == 0)
        report_error(build->report, file, line,
                     "smtp-listener: this machine has no address in that block");
    for (uint32_t i = 0; i < addresses.count; i++) {
        struct conf_listener listener = *like;

        listener.at = (struct ipaddr_port){addresses.items[i], at->port};
        if (!can_be_local(&listener.at.ip))
            report_error(build->report, file, line,
                         "smtp-listener: nobody can listen on that address");
        if (!is_there(build, list, &listener, file, line))
            push_listener(build, list, &listener);
    }
}

/* What says that TLS is spoken, and with which versions, must leave something to be spoken. */
static void check_tls(struct build *build, const struct conf_tls_in *tls, const char *file,
                      unsigned line)
{
    uint32_t versions = conf_tls_versions(tls);
    uint32_t run = versions;

    while (run != 0 && (run & 1) == 0)
        run >>= 1;
    if (versions == 0)
        report_error(build->report, file, line,
                     "no version of TLS is left to speak with injectors; allow 1.2 or 1.3");
    else if ((run & (run + 1)) != 0)
        report_error(build->report, file, line,
                     "the versions of TLS that injectors may use have a gap, which TLS cannot say");
    if (tls->is_immediate && tls->certificate == NULL)
        report_error(build->report, file, line,
                     "immediate-tls needs a certificate: tls-certificate here, or "
                     "smtp-server-tls-certificate");
}

/* What a section does not say, or takes back by "", is as the top level has it. */
static void build_listener_tls(struct build *build, const struct section *section,
                               struct conf_listener *listener)
{
    const struct conf_listener like = *listener;

    for (const struct entry *entry = section->entries; entry != NULL; entry = entry->next) {
        if (!field_is_set_by(entry->row))
            continue;
        if (entry->cleared)
            field_take(listener, &like, entry->row, &build->conf->arena);
        else
            build_field(build, entry, listener);
    }
    check_tls(build, &listener->tls, section->file, section->line);
}

/* <smtp-listener CIDR:PORT>, the long form with directives inside. */
static void add_listener_section(struct build *build, struct listener_list *list,
                                 const struct section *section)
{
    static const struct directive row = {.name = "smtp-listener", .type = TYPE_LISTENER};
    struct entry_list sources = build_entries(build, section, STORE_LISTENER_SOURCE);
    struct entry_list awaits = build_entries(build, section, STORE_LISTENER_AWAITS);
    struct conf_listener like = {.tls = build->conf->global.tls_in};
    struct value value;
    char why[VALUE_WHY_MAX];

    if (value_parse(&row, section->name, &build->conf->arena, &value, why) < 0) {
        report_error(build->report, section->file, section->line, "<smtp-listener>: %s", why);
        return;
    }
    build_listener_tls(build, section, &like);
    like.source_name =
        sources.count > 0 ? sources.items[sources.count - 1]->value.text : value.block->name;
    like.awaits_slot = awaits.count > 0 ? awaits.items[awaits.count - 1]->value.number != 0
                                        : build->conf->global.await_slot;
    add_listener(build, list, value.block, &like, section->file, section->line);
}

/* smtp-ip and smtp-port, which all listeners of old files come from: every address at every port.
 */
static void add_old_listeners(struct build *build, struct listener_list *list,
                              struct conf_listener *like)
{
    const struct section *top = &build->tree->top;
    struct entry_list addresses = build_entries(build, top, STORE_OLD_ADDRESS);
    struct entry_list ports = build_entries(build, top, STORE_OLD_PORT);
    uint32_t count = addresses.count > 0 ? addresses.count : 1;

    if (addresses.count + ports.count == 0)
        return;
    if (list->count > 0) {
        const struct entry *entry = addresses.count > 0 ? addresses.items[0] : ports.items[0];

        report_warning(build->report, entry->file, entry->line,
                       "%s counts only where there is no smtp-listener", entry->row->name);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = addresses.count > 0 ? addresses.items[i] : ports.items[0];
        struct value_block at = {.block = {.ip = {.family = IPADDR_V4}}, .port = 25};

        if (addresses.count > 0 && cidr_parse(slice_str(entry->value.text), &at.block) < 0)
            report_error(build->report, entry->file, entry->line,
                         "smtp-ip: \"%.80s\" is not an address", entry->value.text);
        if (ports.count == 0)
            add_listener(build, list, &at, like, entry->file, entry->line);
        for (uint32_t j = 0; j < ports.count; j++) {
            at.port = (uint16_t)ports.items[j]->value.number;
            add_listener(build, list, &at, like, ports.items[j]->file, ports.items[j]->line);
        }
    }
}

static void build_listeners(struct build *build)
{
    const struct section *top = &build->tree->top;
    struct entry_list entries = build_entries(build, top, STORE_LISTENER);
    struct conf_listener like = {.awaits_slot = build->conf->global.await_slot,
                                 .tls = build->conf->global.tls_in};
    struct listener_list list = {0};

    for (uint32_t i = 0; i < entries.count; i++) {
        const struct entry *entry = entries.items[i];

        like.source_name = entry->value.block->name;
        add_listener(build, &list, entry->value.block, &like, entry->file, entry->line);
    }
    for (const struct section *child = top->children; child != NULL; child = child->next) {
        if (child->kind->scope == SCOPE_SMTP_LISTENER)
            add_listener_section(build, &list, child);
    }
    like.source_name = NULL;
    add_old_listeners(build, &list, &like);
    if (list.count == 0 && build->report->errors == 0) {
        like.at = (struct ipaddr_port){.ip = {.family = IPADDR_V4}, .port = 25};
        push_listener(build, &list, &like);
    }
    build->conf->global.listeners = list.items;
    build->conf->global.listener_count = list.count;
}

/* ---- The rest of the top level ------------------------------------------------------------- */

static const char *machine_name(struct build *build)
{
    char room[HOST_NAME_ROOM];

    if (gethostname(room, sizeof(room)) < 0 || room[0] == '\0')
        return "localhost";
    room[sizeof(room) - 1] = '\0';
    return arena_strdup(&build->conf->arena, room);
}

static void build_names(struct build *build)
{
    struct conf_global *global = &build->conf->global;
    struct entry_list hosts = build_entries(build, &build->tree->top, STORE_HOST_NAME);
    struct entry_list servers = build_entries(build, &build->tree->top, STORE_NAME_SERVER);
    struct entry_list cpus = build_entries(build, &build->tree->top, STORE_SHARD_CPUS);
    const char **texts = arena_alloc(&build->conf->arena, servers.count * sizeof(*texts));

    global->host_name = hosts.count > 0 ? hosts.items[0]->value.text : machine_name(build);
    for (uint32_t i = 0; i < servers.count; i++)
        texts[i] = servers.items[i]->value.text;
    global->name_servers = texts;
    global->name_server_count = servers.count;
    if (cpus.count > 0) {
        const struct value *last = &cpus.items[cpus.count - 1]->value;

        global->shard_cpus = last->cpus;
        global->shard_cpu_count = (uint32_t)last->number;
    }
}

/* It becomes part of Message-ID headers (RFC 5322 3.6.4). */
static void check_host_id(struct build *build)
{
    struct slice id = SLICE_EMPTY;

    if (build->conf->global.host_id != NULL)
        id = slice_str(build->conf->global.host_id);
    for (size_t i = 0; i < id.len; i++) {
        uint8_t c = id.data[i] | 0x20;

        if ((c >= 'a' && c <= 'z') || (id.data[i] >= '0' && id.data[i] <= '9') || id.data[i] == '-')
            continue;
        report_error(build->report, build->tree->top.file, 0,
                     "host-id: only letters, digits and hyphens can be in it");
        return;
    }
    if (id.len > 32)
        report_error(build->report, build->tree->top.file, 0, "host-id: at most 32 octets");
}

/* A machine that only checks the file need not have the table. */
static void build_zone(struct build *build)
{
    const char *name = build->conf->global.warm_up_time_zone;
    int rc;

    zone_init_utc(&build->conf->zone);
    if (strcmp(name, "UTC") == 0)
        return;
    rc = zone_load(&build->conf->zone, name);
    if (rc >= 0)
        return;
    if (build->options->syntax_only && rc == E_UNKNOWN)
        report_warning(build->report, build->tree->top.file, 0,
                       "warm-up-time-zone: this machine has no time zone \"%.64s\"", name);
    else
        report_error(build->report, build->tree->top.file, 0, "warm-up-time-zone: \"%.64s\": %s",
                     name, err_text(rc));
}

static const char *take_path(struct build *build, const struct entry *entry, struct slice *rest)
{
    struct slice word = SLICE_EMPTY;
    char *path;

    if (value_next_word(rest, &word) <= 0 || word.len == 0 || word.data[0] != '/') {
        report_error(build->report, entry->file, entry->line,
                     "pickup: \"%.*s\" is no absolute path, as both folders have to be",
                     SHOW(word));
        return NULL;
    }
    path = arena_alloc(&build->conf->arena, word.len + 1);
    memcpy(path, word.data, word.len);
    return path;
}

static void build_pickup(struct build *build)
{
    struct entry_list lines = build_entries(build, &build->tree->top, STORE_PICKUP);
    struct conf_global *global = &build->conf->global;
    const struct entry *entry;
    struct slice rest;

    if (lines.count == 0)
        return;
    entry = lines.items[lines.count - 1];
    rest = slice_str(entry->text);
    global->pickup_folder = take_path(build, entry, &rest);
    if (global->pickup_folder != NULL)
        global->pickup_bad_folder = take_path(build, entry, &rest);
    if (global->pickup_folder && global->pickup_bad_folder &&
        strcmp(global->pickup_folder, global->pickup_bad_folder) == 0)
        report_error(build->report, entry->file, entry->line, "pickup: both folders are the same");
}

/* Less is no value of the protocol (RFC 6891 6.2.3), and PowerMTA says nothing of it. */
static void lift_edns(struct build *build)
{
    struct conf_global *global = &build->conf->global;

    if (global->edns_udp_bytes >= EDNS_BYTES_MIN)
        return;
    report_warning(build->report, build->tree->top.file, 0, "edns-udp-length %u counts as %u",
                   global->edns_udp_bytes, EDNS_BYTES_MIN);
    global->edns_udp_bytes = EDNS_BYTES_MIN;
}

void build_global(struct build *build)
{
    struct conf_global *global = &build->conf->global;

    field_store_presets(global, SCOPE_GLOBAL, build->conf->presets);
    build_fields(build, &build->tree->top, global);
    check_host_id(build);
    lift_edns(build);
    build_zone(build);
    build_names(build);
    check_tls(build, &global->tls_in, build->tree->top.file, 0);
    build_listeners(build);
    build_pickup(build);
    if (global->shard_count > 0 && global->shard_cpu_count > 0 &&
        global->shard_count != global->shard_cpu_count)
        report_error(build->report, build->tree->top.file, 0,
                     "shards is %u but shard-cpus names %u CPUs", global->shard_count,
                     global->shard_cpu_count);
}
