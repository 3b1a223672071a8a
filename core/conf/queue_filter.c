#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/conf/conf.h"
#include "core/conf/pattern.h"
#include "core/conf/value.h"

#define FILTER_ITEMS_MAX 256

struct filter_item {
    struct pattern pattern; /* its name lies in room */
    char room[PATTERN_TEXT_MAX];
    char vmta[128]; /* "*" = any */
    bool excludes;
};

struct conf_queue_filter {
    uint32_t count;
    bool has_included; /* some item does not exclude */
    struct filter_item items[];
};

static size_t last_slash(struct slice text)
{
    size_t at = text.len;

    while (at > 0 && text.data[at - 1] != '/')
        at--;
    return at == 0 ? text.len : at - 1;
}

static bool parse_item(struct slice text, struct filter_item *item)
{
    struct slice vmta;
    size_t slash;

    item->excludes = text.len > 0 && text.data[0] == '!';
    if (item->excludes)
        text = slice_after(text, 1);
    slash = last_slash(text);
    if (slash == text.len)
        return false;
    vmta = slice_after(text, slash + 1);
    if (vmta.len == 0 || vmta.len >= sizeof(item->vmta))
        return false;
    memcpy(item->vmta, vmta.data, vmta.len);
    item->vmta[vmta.len] = '\0';
    return pattern_parse(slice_of(text.data, slash), item->room, &item->pattern) == 0;
}

int conf_queue_filter_new(const char *text, struct conf_queue_filter **ret_filter,
                          char why[CONF_FILTER_WHY_MAX])
{
    struct slice rest = slice_str(text), name;
    struct conf_queue_filter *filter;
    uint32_t count = 0;

    while (value_next_item(&rest, &name))
        count++;
    if (count > FILTER_ITEMS_MAX) {
        snprintf(why, CONF_FILTER_WHY_MAX, "at most %d patterns", FILTER_ITEMS_MAX);
        return E_SYNTAX;
    }
    filter = mem_alloc(sizeof(*filter) + count * sizeof(filter->items[0]));
    rest = slice_str(text);
    while (value_next_item(&rest, &name)) {
        struct filter_item *item = &filter->items[filter->count++];

        if (parse_item(name, item)) {
            filter->has_included |= !item->excludes;
            continue;
        }
        snprintf(why, CONF_FILTER_WHY_MAX,
                 "\"%.*s\" is not DOMAIN/VMTA, with * for any of them and ! in front of what is "
                 "left out",
                 (int)(name.len < 80 ? name.len : 80), (const char *)name.data);
        mem_free(filter);
        return E_SYNTAX;
    }
    *ret_filter = filter;
    return 0;
}

void conf_queue_filter_free(struct conf_queue_filter *filter)
{
    mem_free(filter);
}

static bool ends_below(struct slice domain, struct slice name)
{
    size_t at;

    if (domain.len <= name.len)
        return false;
    at = domain.len - name.len;
    return domain.data[at - 1] == '.' && slice_equal_nocase(slice_after(domain, at), name);
}

/* "[192.0.2.1]", "[IPv6:2001:db8::1]". */
static bool is_in_block(struct slice domain, const struct cidr *block)
{
    static const struct slice prefix = {(const uint8_t *)"IPv6:", 5};
    struct ipaddr ip;

    if (domain.len < 3 || domain.data[0] != '[' || domain.data[domain.len - 1] != ']')
        return false;
    domain = slice_of(domain.data + 1, domain.len - 2);
    if (slice_starts_nocase(domain, prefix))
        domain = slice_after(domain, prefix.len);
    return ipaddr_parse(domain, &ip) == 0 && cidr_contains(block, &ip);
}

static bool is_met(const struct filter_item *item, struct slice domain, struct slice vmta)
{
    const struct pattern *pattern = &item->pattern;

    if (strcmp(item->vmta, "*") != 0 && !slice_equal_nocase(slice_str(item->vmta), vmta))
        return false;
    switch (pattern->kind) {
    case PATTERN_ANY:
        return true;
    case PATTERN_ADDRESSES:
        return is_in_block(domain, &pattern->block);
    case PATTERN_WITH_SUBDOMAINS:
        return slice_equal_nocase(domain, pattern->name) || ends_below(domain, pattern->name);
    case PATTERN_SUBDOMAINS:
        return ends_below(domain, pattern->name);
    default:
        return slice_equal_nocase(domain, pattern->name);
    }
}

bool conf_queue_filter_has(const struct conf_queue_filter *filter, struct slice queue)
{
    size_t slash = last_slash(queue);
    struct slice domain = slice_of(queue.data, slash);
    struct slice vmta = slash < queue.len ? slice_after(queue, slash + 1) : SLICE_EMPTY;
    bool is_included = !filter->has_included;

    for (uint32_t i = 0; i < filter->count; i++) {
        if (!is_met(&filter->items[i], domain, vmta))
            continue;
        if (filter->items[i].excludes)
            return false;
        is_included = true;
    }
    return is_included;
}
