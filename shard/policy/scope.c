#include "shard/policy/scope.h"

#include "core/base/hash.h"

uint64_t scope_value(struct slice name)
{
    return hash_bytes_nocase(name.data, name.len);
}

static uint64_t value_of(uint32_t scope, const struct scope_facts *facts)
{
    switch (scope) {
    case CONF_SCOPE_VMTA:
        return facts->vmta_id;
    case CONF_SCOPE_POOL:
        return facts->pool_id;
    case CONF_SCOPE_SOURCE_IP:
        return ipaddr_hash(facts->source);
    case CONF_SCOPE_PROVIDER:
        return facts->provider;
    case CONF_SCOPE_TENANT:
        return facts->tenant;
    case CONF_SCOPE_DOMAIN:
        return scope_value(facts->domain);
    case CONF_SCOPE_JOB:
        return facts->mail.job;
    case CONF_SCOPE_SENDER_DOMAIN:
        return facts->mail.sender_domain;
    default:
        return facts->mail.user;
    }
}

struct meter_key scope_key(const struct conf_limit *limit, const struct scope_facts *facts)
{
    struct meter_key key = {.limit_id = limit->id, .scopes = limit->scopes};

    for (uint32_t scope = 1; scope < 1u << CONF_SCOPES; scope <<= 1)
        if ((limit->scopes & scope) != 0)
            key.values = hash_combine(key.values, hash_u64(value_of(scope, facts) + scope));
    return key;
}

struct meter_key scope_key_of_vmta(uint32_t vmta_id)
{
    return (struct meter_key){SCOPE_OF_VMTA, CONF_SCOPE_VMTA, vmta_id};
}

bool scope_key_equal(const struct meter_key *a, const struct meter_key *b)
{
    return a->limit_id == b->limit_id && a->scopes == b->scopes && a->values == b->values;
}

uint64_t scope_key_hash(const struct meter_key *key)
{
    return hash_combine(hash_u64((uint64_t)key->limit_id << 32 | key->scopes), key->values);
}

bool scope_key_is_before(const struct meter_key *a, const struct meter_key *b)
{
    if (a->scopes != b->scopes)
        return a->scopes > b->scopes;
    return a->limit_id != b->limit_id ? a->limit_id < b->limit_id : a->values < b->values;
}

bool scope_add(struct scope_list *list, const struct meter_key *key)
{
    uint32_t at = 0;

    while (at < list->count && scope_key_is_before(&list->keys[at], key))
        at++;
    if (at < list->count && scope_key_equal(&list->keys[at], key))
        return true;
    if (list->count == SCOPE_METERS_MAX)
        return false;
    for (uint32_t i = list->count++; i > at; i--)
        list->keys[i] = list->keys[i - 1];
    list->keys[at] = *key;
    return true;
}

uint64_t scope_list_hash(const struct scope_list *list)
{
    uint64_t hash = 0;

    for (uint32_t i = 0; i < list->count; i++)
        hash = hash_combine(hash, scope_key_hash(&list->keys[i]));
    return hash == 0 && list->count > 0 ? 1 : hash;
}
