#include "shard/spf_known.h"

#include "core/base/must.h"

#include <stdio.h>

void spf_known_init(struct spf_known *known, uint32_t count_max)
{
    slab_init(&known->slab, sizeof(struct spf_fact), count_max);
    table_init(&known->table);
    list_init(&known->by_use);
}

void spf_known_fini(struct spf_known *known)
{
    table_fini(&known->table);
    slab_fini(&known->slab);
}

static bool is_of(uint32_t value, const void *key, void *context)
{
    const struct spf_fact *fact = slab_at(context, value);

    return fact->hash == *(const uint64_t *)key;
}

static bool forget_one(struct spf_known *known)
{
    for (struct list *link = known->by_use.next; link != &known->by_use; link = link->next) {
        struct spf_fact *fact = container_of(link, struct spf_fact, link);

        if (fact->is_open)
            continue;
        list_remove(&fact->link);
        table_remove(&known->table, fact->hash, fact->index);
        slab_free(&known->slab, fact->index);
        return true;
    }
    return false;
}

static struct spf_fact *create(struct spf_known *known, uint64_t hash)
{
    struct spf_fact *fact;
    uint32_t index;

    if (known->slab.count_used == known->slab.count_max && !forget_one(known))
        return NULL;
    fact = slab_alloc(&known->slab, &index);
    if (!fact)
        return NULL;
    if (!table_insert(&known->table, hash, index)) {
        slab_free(&known->slab, index);
        return NULL;
    }
    fact->hash = hash;
    fact->index = index;
    list_init(&fact->link);
    return fact;
}

struct spf_fact *spf_known_obtain(struct spf_known *known, uint64_t hash)
{
    uint32_t index = table_find(&known->table, hash, is_of, &hash, &known->slab);
    struct spf_fact *fact =
        index == TABLE_NONE ? create(known, hash) : slab_at(&known->slab, index);

    if (!fact)
        return NULL;
    list_remove(&fact->link);
    list_push_back(&known->by_use, &fact->link);
    return fact;
}

bool spf_fact_is_due(const struct spf_fact *fact, uint64_t now_ns)
{
    /* What could not be found out is asked for when it is wanted next. */
    uint64_t ahead_ns = fact->result == SPF_TEMPERROR ? 0 : SPF_KNOWN_AHEAD_NS;

    return !fact->is_open && now_ns + ahead_ns >= fact->until_ns;
}

void spf_fact_open(struct spf_fact *fact, uint64_t now_ns)
{
    must(!fact->is_open);
    fact->is_open = true;
    fact->began_ns = now_ns;
}

void spf_fact_close(struct spf_fact *fact, const struct spf_answer *answer, uint64_t now_ns)
{
    bool is_error = answer->result == SPF_TEMPERROR;

    must(fact->is_open);
    fact->is_open = false;
    if (is_error && spf_fact_counts(fact, now_ns))
        return;
    fact->result = (uint8_t)answer->result;
    fact->is_of_sender = answer->is_of_sender;
    fact->until_ns = now_ns + (is_error ? SPF_KNOWN_KEEP_ERR_NS : SPF_KNOWN_KEEP_NS);
    snprintf(fact->why, sizeof(fact->why), "%s",
             answer->why[0] != '\0' ? answer->why : answer->mechanism);
}
