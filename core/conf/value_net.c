#include "core/base/err.h"
#include "core/conf/show.h"
#include "core/conf/value_parse.h"

#define HOST_NAME_MAX_OCTETS 253
#define CPUS_MAX             4096

bool value_is_host_name(struct slice text)
{
    if (text.len == 0 || text.len > HOST_NAME_MAX_OCTETS)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
        if (c == '.' && (i == 0 || text.data[i - 1] == '.'))
            return false;
    }
    return true;
}

/* A name for HELO: a host name, or an address literal in brackets. */
static bool is_helo(struct slice text)
{
    struct ipaddr ip;

    if (value_is_host_name(text))
        return true;
    if (text.len < 3 || text.data[0] != '[' || text.data[text.len - 1] != ']')
        return false;
    text = slice_of(text.data + 1, text.len - 2);
    if (slice_starts_nocase(text, SLICE_LITERAL("IPv6:")))
        text = slice_after(text, 5);
    return ipaddr_parse(text, &ip) == 0;
}

int value_parse_host(struct value_parse *parse)
{
    struct slice word;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    if (!is_helo(word))
        return value_refuse(parse, "\"%.*s\" is not a host name", SHOW(word));
    parse->value.text = value_copy_text(parse, word);
    parse->value.number = word.len;
    return 0;
}

static int store_block(struct value_parse *parse, const struct value_block *block)
{
    struct value_block *copy = arena_alloc(parse->arena, sizeof(*copy));

    *copy = *block;
    parse->value.block = copy;
    return 0;
}

/* Splits "what:port" at the last colon; brackets around what are taken off. False: no port. */
static bool split_port(struct slice text, struct slice *ret_what, struct slice *ret_port)
{
    size_t colon = text.len;

    while (colon > 0 && text.data[colon - 1] != ':' && text.data[colon - 1] != ']')
        colon--;
    if (colon == 0 || text.data[colon - 1] != ':')
        return false;
    *ret_what = slice_of(text.data, colon - 1);
    *ret_port = slice_after(text, colon);
    if (ret_what->len >= 2 && ret_what->data[0] == '[' && ret_what->data[ret_what->len - 1] == ']')
        *ret_what = slice_of(ret_what->data + 1, ret_what->len - 2);
    return true;
}

bool value_read_port(struct slice text, uint16_t *ret_port)
{
    uint64_t port;

    if (slice_to_u64(text, UINT16_MAX, &port) < 0 || port == 0)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

/* A word behind address and port of a listener. */
static int read_listener_option(struct value_parse *parse, struct slice word,
                                struct value_block *block)
{
    const struct slice source = SLICE_LITERAL("source=");
    const struct slice tls = SLICE_LITERAL("tls=");

    if (slice_starts_nocase(word, source) && word.len > source.len) {
        block->name = value_copy_text(parse, slice_after(word, source.len));
        return 0;
    }
    if (!slice_starts_nocase(word, tls))
        return value_refuse(parse, "unexpected \"%.*s\"; only source=NAME may stand here",
                            SHOW(word));
    /* Some files say it, and do not tell which of two things yes would mean. */
    if (value_find_choice("no|false", slice_after(word, tls.len)) < 0)
        return value_refuse(parse,
                            "\"%.*s\": immediate-tls in <smtp-listener> speaks TLS from the "
                            "start, allow-starttls in <source> offers it",
                            SHOW(word));
    return 0;
}

/* "CIDR:PORT [source=NAME] [tls=no]" */
int value_parse_listener(struct value_parse *parse)
{
    struct value_block block = {0};
    struct slice words[3];
    struct slice address;
    struct slice port;
    uint32_t count = 0;
    int rc = value_words(parse, words, 3, &count);

    if (rc < 0)
        return rc;
    if (count == 0 || !split_port(words[0], &address, &port))
        return value_refuse(parse, "needs an address and a port, as in 0.0.0.0:25");
    rc = cidr_parse(address, &block.block);
    if (rc < 0)
        return value_refuse(parse, "\"%.*s\" %s", SHOW(address), cidr_why(rc));
    if (!value_read_port(port, &block.port))
        return value_refuse(parse, "\"%.*s\" is not a port", SHOW(port));
    for (uint32_t i = 1; i < count; i++) {
        rc = read_listener_option(parse, words[i], &block);
        if (rc < 0)
            return rc;
    }
    return store_block(parse, &block);
}

/* "IP [HELO]" */
int value_parse_source_host(struct value_parse *parse)
{
    struct value_block block = {0};
    struct slice words[2];
    uint32_t count = 0;
    int rc = value_words(parse, words, 2, &count);

    if (rc < 0)
        return rc;
    if (count == 2 && cidr_parse(words[0], &block.block) < 0 &&
        cidr_parse(words[1], &block.block) == 0)
        return value_refuse(parse, "the address stands in front of the host name");
    if (count == 0)
        return value_refuse(parse, "needs an address and a host name");
    rc = cidr_parse(words[0], &block.block);
    if (rc < 0)
        return value_refuse(parse, "\"%.*s\" %s", SHOW(words[0]), cidr_why(rc));
    if (count == 2) {
        if (!is_helo(words[1]))
            return value_refuse(parse, "\"%.*s\" is not a host name", SHOW(words[1]));
        block.name = value_copy_text(parse, words[1]);
    }
    return store_block(parse, &block);
}

/* The block before a limit; the limit goes to *ret_limit, a word behind it to *ret_more if that is
 * not NULL. */
static int split_block(struct value_parse *parse, struct slice *ret_limit, struct slice *ret_more)
{
    struct slice words[3];
    struct cidr block;
    uint32_t count = 0;
    int rc = value_words(parse, words, ret_more != NULL ? 3 : 2, &count);

    if (rc < 0)
        return rc;
    if (count < 2)
        return value_refuse(parse, "needs an address block and a limit");
    rc = cidr_parse(words[0], &block);
    if (rc < 0)
        return value_refuse(parse, "\"%.*s\" %s", SHOW(words[0]), cidr_why(rc));
    *ret_limit = words[1];
    if (ret_more != NULL)
        *ret_more = count == 3 ? words[2] : SLICE_EMPTY;
    return 0;
}

/* Kept as it is written: a blank may stand behind the comma. */
int value_parse_cidr_access(struct value_parse *parse)
{
    static const char *const accesses[] = {"none", "monitor", "operator", "admin"};
    struct slice access, more, item = SLICE_EMPTY;
    int rc = split_block(parse, &access, &more);
    bool is_known = false, may_deny;

    if (rc < 0)
        return rc;
    if (more.len > 0)
        access = slice_of(access.data, (size_t)(more.data - access.data) + more.len);
    parse->value.text = value_copy_text(parse, slice_trim(parse->rest));
    value_next_item(&access, &item);
    for (size_t i = 0; i < sizeof(accesses) / sizeof(accesses[0]); i++)
        is_known |= slice_equal_nocase(item, slice_str(accesses[i]));
    may_deny = slice_equal_nocase(item, SLICE_LITERAL("monitor"));
    if (is_known && value_next_item(&access, &item))
        is_known = may_deny && slice_equal_nocase(item, SLICE_LITERAL("deny-logs"));
    if (!is_known || value_next_item(&access, &item))
        return value_refuse(parse,
                            "behind the block stands none, monitor, monitor,deny-logs, operator or "
                            "admin");
    return 0;
}

int value_parse_cidr_count(struct value_parse *parse)
{
    struct slice limit;
    int rc = split_block(parse, &limit, NULL);

    return rc < 0 ? rc : value_count(parse, limit);
}

int value_parse_cidr_rate(struct value_parse *parse)
{
    struct slice limit;
    struct slice burst;
    int rc = split_block(parse, &limit, &burst);

    if (rc == 0)
        rc = value_rate(parse, limit, false);
    return rc < 0 || burst.len == 0 ? rc : value_burst(parse, burst);
}

int value_parse_cidr_volume_rate(struct value_parse *parse)
{
    struct slice limit;
    int rc = split_block(parse, &limit, NULL);

    return rc < 0 ? rc : value_rate(parse, limit, true);
}

/* Kept as "address" or "address@port". */
int value_parse_ip_port(struct value_parse *parse)
{
    char room[IPADDR_TEXT_MAX + 8];
    struct slice address;
    struct slice port_text;
    struct ipaddr ip;
    struct slice word;
    uint16_t port = 0;
    size_t len;
    int rc = value_only_word(parse, &word);

    if (rc < 0)
        return rc;
    address = word;
    if (word.len > 2 && word.data[0] == '[' && word.data[word.len - 1] == ']')
        address = slice_of(word.data + 1, word.len - 2);
    if (ipaddr_parse(address, &ip) < 0) {
        if (!split_port(word, &address, &port_text) || ipaddr_parse(address, &ip) < 0 ||
            !value_read_port(port_text, &port))
            return value_refuse(parse, "\"%.*s\" is not an IP address", SHOW(word));
    }
    len = ipaddr_format(&ip, room);
    if (port != 0)
        len += (size_t)snprintf(room + len, sizeof(room) - len, "@%u", port);
    parse->value.text = value_copy_text(parse, slice_of(room, len));
    return 0;
}

/* "3" or "0-7" */
static bool read_cpu_range(struct slice item, uint64_t *ret_first, uint64_t *ret_last)
{
    size_t dash = slice_find(item, '-');

    if (slice_to_u64(slice_of(item.data, dash), UINT16_MAX, ret_first) < 0)
        return false;
    *ret_last = *ret_first;
    if (dash == item.len)
        return true;
    return slice_to_u64(slice_after(item, dash + 1), UINT16_MAX, ret_last) == 0 &&
           *ret_last >= *ret_first;
}

int value_parse_cpu_list(struct value_parse *parse)
{
    uint16_t cpus[CPUS_MAX];
    uint16_t *copy;
    struct slice list;
    struct slice item;
    uint32_t count = 0;
    int rc = value_list_text(parse, &list);

    if (rc < 0)
        return rc;
    while (value_next_item(&list, &item)) {
        uint64_t first;
        uint64_t last;

        if (!read_cpu_range(item, &first, &last))
            return value_refuse(parse, "\"%.*s\" is not a CPU number or range", SHOW(item));
        for (uint64_t cpu = first; cpu <= last; cpu++) {
            for (uint32_t i = 0; i < count; i++) {
                if (cpus[i] == cpu)
                    return value_refuse(parse, "CPU %llu is given twice", (unsigned long long)cpu);
            }
            if (count == CPUS_MAX)
                return value_refuse(parse, "more than %d CPUs", CPUS_MAX);
            cpus[count++] = (uint16_t)cpu;
        }
    }
    copy = arena_alloc(parse->arena, count * sizeof(*copy));
    memcpy(copy, cpus, count * sizeof(*copy));
    parse->value.cpus = copy;
    parse->value.number = count;
    return 0;
}
