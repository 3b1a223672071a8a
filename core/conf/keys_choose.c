#include "core/conf/keys.h"

#include "core/base/hash.h"

/* ---- Whose key ------------------------------------------------------------------------------- */

/* The key of the line that signs now, by that selector unless it is empty; or NULL. */
static const struct conf_domain_key *key_of_line(const struct conf_domain_key *line,
                                                 struct slice selector)
{
    if (selector.len == 0)
        return line->before != NULL ? line->before : line;
    if (slice_equal_nocase(slice_str(line->selector), selector))
        return line;
    if (line->before != NULL && slice_equal_nocase(slice_str(line->before->selector), selector))
        return line->before;
    return NULL;
}

struct wanted_key {
    struct slice domain;
    uint32_t algorithm;
};

static uint64_t hash_wanted(const struct wanted_key *wanted)
{
    return hash_combine(hash_bytes(wanted->domain.data, wanted->domain.len), wanted->algorithm);
}

static bool is_wanted(uint32_t value, const void *key, void *context)
{
    const struct conf_key_list *list = context;
    const struct wanted_key *wanted = key;

    return list->items[value].algorithm == wanted->algorithm &&
           slice_equal(list->items[value].domain, wanted->domain);
}

/* The first line of exactly that domain. */
static struct conf_domain_key *first_of(const struct conf_key_list *list, struct slice domain,
                                        uint32_t algorithm)
{
    const struct wanted_key wanted = {domain, algorithm};
    uint32_t index = table_find(&list->by_domain, hash_wanted(&wanted), is_wanted, &wanted,
                                (void *)(uintptr_t)list);

    return index != TABLE_NONE ? &list->items[index] : NULL;
}

static const struct conf_domain_key *line_of(const struct conf_key_list *list, struct slice domain,
                                             uint32_t algorithm, struct slice selector)
{
    const struct conf_domain_key *line = first_of(list, domain, algorithm);

    while (line != NULL && key_of_line(line, selector) == NULL)
        line = line->next;
    return line;
}

/* The domain's own, else that of the nearest one above it, else one for any. */
static const struct conf_domain_key *find_line(const struct conf_key_list *list,
                                               struct slice domain, uint32_t algorithm,
                                               struct slice selector)
{
    if (list == NULL || list->count == 0)
        return NULL;
    while (domain.len > 0) {
        const struct conf_domain_key *line = line_of(list, domain, algorithm, selector);
        size_t dot = slice_find(domain, '.');

        if (line != NULL)
            return line;
        domain = slice_after(domain, dot < domain.len ? dot + 1 : dot);
    }
    return line_of(list, SLICE_LITERAL("*"), algorithm, selector);
}

static const struct conf_domain_key *find_in(const struct conf_key_list *list, struct slice domain,
                                             uint32_t algorithm, struct slice selector)
{
    const struct conf_domain_key *line = find_line(list, domain, algorithm, selector);

    return line != NULL ? key_of_line(line, selector) : NULL;
}

const struct conf_domain_key *conf_domain_key(const struct conf *conf, uint32_t vmta_id,
                                              struct slice domain, uint32_t algorithm,
                                              struct slice selector)
{
    const struct vmta_slot *slot = vmta_slot_of(conf, vmta_id);
    const struct conf_domain_key *key = NULL;

    if (slot != NULL)
        key = find_in(slot->keys, domain, algorithm, selector);
    if (key == NULL && slot != NULL)
        key = find_in(slot->pool_keys, domain, algorithm, selector);
    return key != NULL ? key : find_in(conf->keys, domain, algorithm, selector);
}

const struct conf_key_place *keys_find_list(const struct conf *conf, struct slice name)
{
    for (const struct conf_key_place *at = conf->key_lists; at != NULL; at = at->next_list) {
        if (slice_equal_nocase(slice_str(at->name), name))
            return at;
    }
    return NULL;
}

const struct conf_domain_key *conf_domain_key_listed(const struct conf *conf, struct slice list,
                                                     struct slice domain, uint32_t algorithm,
                                                     struct slice selector)
{
    const struct conf_key_place *place = keys_find_list(conf, list);

    return place != NULL ? find_in(&place->keys, domain, algorithm, selector) : NULL;
}

/* ---- All of them ----------------------------------------------------------------------------- */

const struct conf_key_place *conf_key_places(const struct conf *conf)
{
    return conf->key_places;
}

bool conf_key_is_first(const struct conf_key_place *place, const struct conf_domain_key *key)
{
    return find_line(&place->keys, key->domain, key->algorithm, SLICE_EMPTY) == key;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return hash_combine(hash, text != NULL ? hash_bytes(text, strlen(text)) : 1);
}

static uint64_t hash_key(uint64_t hash, const struct conf_domain_key *key)
{
    hash = hash_combine(hash, key->id);
    hash = hash_combine(hash, key->algorithm);
    hash = hash_combine(hash, hash_bytes(key->domain.data, key->domain.len));
    return hash_text(hash, key->selector);
}

static void hash_list(struct conf_key_list *list)
{
    list->hash = list->count;
    for (uint32_t i = 0; i < list->count; i++) {
        list->hash = hash_key(list->hash, &list->items[i]);
        if (list->items[i].before != NULL)
            list->hash = hash_key(list->hash, list->items[i].before);
    }
}

bool keys_list_seal(struct conf_key_list *list)
{
    table_init(&list->by_domain);
    for (uint32_t i = 0; i < list->count; i++) {
        struct conf_domain_key *key = &list->items[i];
        const struct wanted_key wanted = {key->domain, key->algorithm};
        struct conf_domain_key *first = first_of(list, key->domain, key->algorithm);

        if (key->key == NULL)
            continue;
        if (first == NULL) {
            if (!table_insert(&list->by_domain, hash_wanted(&wanted), i))
                return false;
            first = key;
        } else {
            first->last->next = key;
        }
        first->last = key;
    }
    hash_list(list);
    return true;
}

void keys_list_fini(struct conf_key_list *list)
{
    table_fini(&list->by_domain);
}

void keys_seal_lists(struct conf *conf)
{
    conf->key_lists_hash = 0;
    for (const struct conf_key_place *at = conf->key_lists; at != NULL; at = at->next_list)
        conf->key_lists_hash =
            hash_combine(conf->key_lists_hash, hash_text(at->keys.hash, at->name));
}

uint64_t conf_keys_hash(const struct conf *conf, uint32_t vmta_id)
{
    const struct vmta_slot *slot = vmta_slot_of(conf, vmta_id);
    uint64_t hash = hash_combine(conf->keys->hash, conf->key_lists_hash);

    if (slot != NULL && slot->keys != NULL)
        hash = hash_combine(hash, slot->keys->hash);
    return slot != NULL && slot->pool_keys != NULL ? hash_combine(hash, slot->pool_keys->hash)
                                                   : hash;
}

static uint64_t hash_dkim(uint64_t hash, const struct conf_dkim *dkim)
{
    const uint64_t numbers[] = {dkim->sign,          dkim->algorithm,       dkim->body_canon,
                                dkim->header_canon,  dkim->expire_after_ms, dkim->add_timestamp,
                                dkim->add_body_limit};

    hash = hash_combine(hash, hash_bytes(numbers, sizeof(numbers)));
    hash = hash_text(hash, dkim->headers);
    hash = hash_text(hash, dkim->closed);
    hash = hash_text(hash, dkim->identity);
    hash = hash_text(hash, dkim->fallback);
    return hash_text(hash, dkim->query_method);
}

uint64_t conf_signing_hash(const struct conf_signing *signing)
{
    uint64_t hash = hash_text(2, signing->removed);

    hash = hash_dkim(hash, &signing->each[0]);
    hash = hash_dkim(hash, &signing->each[1]);
    return hash_combine(hash, signing->missing_key);
}

/* ---- Rotation -------------------------------------------------------------------------------- */

struct lists {
    const struct conf_key_list *at[3]; /* in the order in which they are asked */
};

static struct lists lists_of_vmta(const struct conf *conf, uint32_t position)
{
    if (position == TABLE_NONE)
        return (struct lists){{conf->keys}};
    return (struct lists){
        {conf->vmtas[position].keys, conf->vmtas[position].pool_keys, conf->keys}};
}

/* Where mail that this place is asked about found its keys in another snapshot. */
static struct lists lists_of(const struct conf *conf, const struct conf_key_place *place)
{
    if (strcmp(place->kind, "virtual-mta") == 0)
        return lists_of_vmta(conf, vmta_find(conf, slice_str(place->name)));
    if (strcmp(place->kind, CONF_KEY_LIST_TAG) == 0) {
        place = keys_find_list(conf, slice_str(place->name));
        return (struct lists){{place != NULL ? &place->keys : NULL}};
    }
    for (const struct conf_key_place *at = conf->key_places; at != NULL; at = at->next) {
        if (strcmp(at->kind, place->kind) == 0 && strcmp(at->name, place->name) == 0)
            return (struct lists){{&at->keys, conf->keys}};
    }
    return (struct lists){{conf->keys}};
}

static bool is_same(const struct conf_domain_key *a, const struct conf_domain_key *b)
{
    return a->id == b->id && strcmp(a->selector, b->selector) == 0 &&
           slice_equal(a->domain, b->domain);
}

/* A copy of another snapshot's key that lives as long as this one. */
static const struct conf_domain_key *keep_key(struct conf *conf, const struct conf_domain_key *key,
                                              const struct conf_key_ops *ops)
{
    struct conf_domain_key *copy = arena_alloc(&conf->arena, sizeof(*copy));
    struct loaded_key *loaded = arena_alloc(&conf->arena, sizeof(*loaded));

    *loaded = (struct loaded_key){.key = ops->share(key->key), .next = conf->loaded_keys};
    conf->loaded_keys = loaded;
    *copy = *key;
    copy->before = copy->next = copy->last = NULL;
    copy->selector = arena_strdup(&conf->arena, key->selector);
    copy->domain = arena_copy(&conf->arena, key->domain);
    copy->path = arena_strdup(&conf->arena, key->path);
    return copy;
}

static uint32_t hold_place(struct conf *next, struct conf_key_place *place, struct lists running,
                           conf_key_seen_fn *is_seen, void *context)
{
    uint32_t held = 0;

    for (uint32_t i = 0; i < place->keys.count; i++) {
        struct conf_domain_key *key = &place->keys.items[i];
        const struct conf_domain_key *before = NULL;

        if (key->key == NULL || slice_equal(key->domain, SLICE_LITERAL("*")) ||
            !conf_key_is_first(place, key))
            continue;
        for (size_t j = 0; j < 3 && before == NULL; j++)
            before = find_in(running.at[j], key->domain, key->algorithm, SLICE_EMPTY);
        if (before == NULL || is_same(before, key) || is_seen(context, key))
            continue;
        key->before = keep_key(next, before, next->key_ops);
        held++;
    }
    if (held > 0)
        hash_list(&place->keys);
    return held;
}

uint32_t conf_keys_hold(struct conf *next, const struct conf *running, conf_key_seen_fn *is_seen,
                        void *context)
{
    uint32_t held = 0;

    if (!conf_global(next)->dkim_wait_for_record || next->key_ops == NULL)
        return 0;
    for (struct conf_key_place *place = next->key_places; place != NULL; place = place->next)
        held += hold_place(next, place, lists_of(running, place), is_seen, context);
    keys_seal_lists(next);
    return held;
}
