#include "shard/policy/tlsrpt_book.h"

#include "core/base/mem.h"

void tlsrpt_book_init(struct tlsrpt_book *book, int32_t day, int64_t from_s)
{
    *book = (struct tlsrpt_book){.day = day, .from_s = from_s};
    slab_init(&book->domains, sizeof(struct tlsrpt_domain), TLSRPT_DOMAINS_MAX);
    table_init(&book->by_name);
}

void tlsrpt_book_fini(struct tlsrpt_book *book)
{
    for (uint32_t i = 0; i < tlsrpt_book_places(book); i++) {
        struct tlsrpt_domain *domain = tlsrpt_book_at(book, i);

        if (domain)
            tlsrpt_book_drop(book, domain);
    }
    table_fini(&book->by_name);
    slab_fini(&book->domains);
}

/* ---- Domains --------------------------------------------------------------------------------- */

static struct slice name_of(const struct tlsrpt_domain *domain)
{
    return slice_of(domain->name, domain->name_bytes);
}

static bool matches(uint32_t value, const void *key, void *context)
{
    const struct tlsrpt_book *book = context;

    return slice_equal(name_of(slab_at(&book->domains, value)), *(const struct slice *)key);
}

struct tlsrpt_domain *tlsrpt_book_find(const struct tlsrpt_book *book, struct slice name)
{
    uint32_t index = table_find(&book->by_name, hash_bytes(name.data, name.len), matches, &name,
                                (void *)(uintptr_t)book);

    return index != TABLE_NONE ? slab_at(&book->domains, index) : NULL;
}

struct tlsrpt_domain *tlsrpt_book_at(const struct tlsrpt_book *book, uint32_t place)
{
    return slab_is_live(&book->domains, place) ? slab_at(&book->domains, place) : NULL;
}

static struct tlsrpt_domain *obtain_domain(struct tlsrpt_book *book, struct slice name)
{
    struct tlsrpt_domain *domain = tlsrpt_book_find(book, name);
    uint32_t index;

    if (domain || name.len == 0 || name.len > TLSRPT_NAME_MAX)
        return domain;
    domain = slab_alloc(&book->domains, &index);
    if (!domain)
        return NULL;
    if (!table_insert(&book->by_name, hash_bytes(name.data, name.len), index)) {
        slab_free(&book->domains, index);
        return NULL;
    }
    domain->index = index;
    domain->name_bytes = (uint8_t)name.len;
    memcpy(domain->name, name.data, name.len);
    return domain;
}

static void free_policy(struct tlsrpt_book *book, struct tlsrpt_policy *policy)
{
    while (policy->details) {
        struct tlsrpt_detail *detail = policy->details;

        policy->details = detail->next;
        book->detail_count--;
        mem_free(detail);
    }
    book->policy_count--;
    mem_free(policy);
}

void tlsrpt_book_drop(struct tlsrpt_book *book, struct tlsrpt_domain *domain)
{
    struct slice name = name_of(domain);

    while (domain->policies) {
        struct tlsrpt_policy *policy = domain->policies;

        domain->policies = policy->next;
        free_policy(book, policy);
    }
    mem_free(domain->why);
    table_remove(&book->by_name, hash_bytes(name.data, name.len), domain->index);
    slab_free(&book->domains, domain->index);
}

bool tlsrpt_domain_has_taken(const struct tlsrpt_domain *domain, uint64_t address_hash)
{
    for (uint32_t i = 0; i < domain->taken_count; i++)
        if (domain->taken[i] == address_hash)
            return true;
    return false;
}

void tlsrpt_domain_note_taken(struct tlsrpt_domain *domain, uint64_t address_hash)
{
    if (tlsrpt_domain_has_taken(domain, address_hash))
        return;
    if (domain->taken_count == TLSRPT_TAKEN_MAX)
        memmove(domain->taken, domain->taken + 1, --domain->taken_count * sizeof(domain->taken[0]));
    domain->taken[domain->taken_count++] = address_hash;
}

/* ---- Policies and details -------------------------------------------------------------------- */

static struct slice keep(uint8_t **room, struct slice text)
{
    struct slice kept = slice_of(*room, text.len);

    if (text.len > 0)
        memcpy(*room, text.data, text.len);
    *room += text.len;
    return kept;
}

static struct tlsrpt_policy *find_policy(const struct tlsrpt_domain *domain, uint8_t type,
                                         struct slice text, struct slice host)
{
    for (struct tlsrpt_policy *policy = domain->policies; policy; policy = policy->next)
        if (policy->type == type && slice_equal(policy->text, text) &&
            slice_equal(policy->host, host))
            return policy;
    return NULL;
}

/* The one of no text and no host is for all for which there is no room. It comes behind the others,
 * here and in a walk, so that they have theirs again when the walk's counts are added. */
static struct tlsrpt_policy *obtain_policy(struct tlsrpt_book *book, struct tlsrpt_domain *domain,
                                           const struct tlsrpt_count *count)
{
    struct slice host = count->type == TLSRPT_TLSA ? count->host : SLICE_EMPTY,
                 text = count->policy;
    struct tlsrpt_policy *policy = find_policy(domain, count->type, text, host);
    struct tlsrpt_policy **end = &domain->policies;
    uint8_t *room;

    if (!policy && (domain->policy_count >= TLSRPT_POLICIES_EACH_DOMAIN ||
                    book->policy_count >= TLSRPT_POLICIES_MAX)) {
        host = text = SLICE_EMPTY;
        policy = find_policy(domain, count->type, text, host);
    }
    if (policy)
        return policy;
    policy = mem_alloc(sizeof(*policy) + text.len + host.len);
    room = policy->texts;
    policy->type = count->type;
    policy->text = keep(&room, text);
    policy->host = keep(&room, host);
    while (*end)
        end = &(*end)->next;
    *end = policy;
    domain->policy_count++;
    book->policy_count++;
    return policy;
}

static struct tlsrpt_detail *find_detail(const struct tlsrpt_policy *policy,
                                         const struct tlsrpt_count *count)
{
    for (struct tlsrpt_detail *detail = policy->details; detail; detail = detail->next)
        if (detail->result == count->result && ipaddr_equal(&detail->source, &count->source) &&
            slice_equal(detail->host, count->host) && slice_equal(detail->reason, count->reason))
            return detail;
    return NULL;
}

static struct tlsrpt_detail *obtain_detail(struct tlsrpt_book *book, struct tlsrpt_policy *policy,
                                           const struct tlsrpt_count *count)
{
    struct tlsrpt_detail *detail = find_detail(policy, count), **end = &policy->details;
    struct tlsrpt_count rest = {.result = count->result, .host = policy->host};
    uint8_t *room;

    if (!detail && (policy->detail_count >= TLSRPT_DETAILS_EACH_POLICY ||
                    book->detail_count >= TLSRPT_DETAILS_MAX)) {
        count = &rest;
        detail = find_detail(policy, count);
    }
    if (detail)
        return detail;
    detail = mem_alloc(sizeof(*detail) + count->host.len + count->reason.len);
    room = detail->texts;
    detail->result = count->result;
    detail->source = count->source;
    detail->host = keep(&room, count->host);
    detail->reason = keep(&room, count->reason);
    while (*end)
        end = &(*end)->next;
    *end = detail;
    policy->detail_count++;
    book->detail_count++;
    return detail;
}

void tlsrpt_book_add(struct tlsrpt_book *book, const struct tlsrpt_count *count)
{
    struct tlsrpt_domain *domain = obtain_domain(book, count->domain);
    struct tlsrpt_count detail = *count;
    struct tlsrpt_policy *policy;

    if (!domain) {
        book->left_out += count->count;
        return;
    }
    policy = obtain_policy(book, domain, count);
    if (count->result == TLSRPT_SUCCESS) {
        policy->successes += count->count;
        return;
    }
    policy->failures += count->count;
    if (policy->type == TLSRPT_TLSA)
        detail.host = policy->host;
    obtain_detail(book, policy, &detail)->count += count->count;
}

/* ---- The walk -------------------------------------------------------------------------------- */

void tlsrpt_domain_walk(const struct tlsrpt_domain *domain,
                        void (*each)(void *context, const struct tlsrpt_count *count),
                        void *context)
{
    for (const struct tlsrpt_policy *policy = domain->policies; policy; policy = policy->next) {
        struct tlsrpt_count count = {
            .type = policy->type,
            .domain = name_of(domain),
            .policy = policy->text,
            .host = policy->host,
            .count = policy->successes,
        };

        if (count.count > 0)
            each(context, &count);
        for (const struct tlsrpt_detail *detail = policy->details; detail; detail = detail->next) {
            count.result = detail->result;
            count.source = detail->source;
            count.host = detail->host;
            count.reason = detail->reason;
            count.count = detail->count;
            each(context, &count);
        }
    }
}
