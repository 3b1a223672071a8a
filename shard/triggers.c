#include "shard/triggers.h"

#include <string.h>

struct trigger {
    struct list link;
    uint64_t key;
    uint64_t newest; /* part of time that hits[newest % TRIGGER_PARTS] counts */
    uint32_t hits[TRIGGER_PARTS];
    uint32_t attempts[TRIGGER_PARTS]; /* of lines that ask for a share */
    uint32_t index;
};

void triggers_init(struct triggers *triggers)
{
    slab_init(&triggers->slab, sizeof(struct trigger), TRIGGER_COUNT_MAX);
    table_init(&triggers->table);
    list_init(&triggers->by_age);
}

void triggers_fini(struct triggers *triggers)
{
    table_fini(&triggers->table);
    slab_fini(&triggers->slab);
}

static bool is_of(uint32_t value, const void *key, void *context)
{
    const struct trigger *trigger = slab_at(context, value);

    return trigger->key == *(const uint64_t *)key;
}

static void forget(struct triggers *triggers, struct trigger *trigger)
{
    table_remove(&triggers->table, trigger->key, trigger->index);
    list_remove(&trigger->link);
    slab_free(&triggers->slab, trigger->index);
}

static struct trigger *obtain(struct triggers *triggers, uint64_t key)
{
    uint32_t index = table_find(&triggers->table, key, is_of, &key, &triggers->slab);
    struct trigger *trigger;

    if (index != TABLE_NONE)
        return slab_at(&triggers->slab, index);
    if (triggers->slab.count_used == TRIGGER_COUNT_MAX)
        forget(triggers, container_of(triggers->by_age.next, struct trigger, link));
    trigger = slab_alloc(&triggers->slab, &index);
    if (trigger == NULL)
        return NULL;
    if (!table_insert(&triggers->table, key, index)) {
        slab_free(&triggers->slab, index);
        return NULL;
    }
    trigger->key = key;
    trigger->index = index;
    list_init(&trigger->link);
    return trigger;
}

/* Parts of time that are over count no more. */
static void move_on(struct trigger *trigger, uint64_t part)
{
    if (part >= trigger->newest + TRIGGER_PARTS) {
        memset(trigger->hits, 0, sizeof(trigger->hits));
        memset(trigger->attempts, 0, sizeof(trigger->attempts));
    }
    for (; trigger->newest < part && trigger->newest + TRIGGER_PARTS > part; trigger->newest++) {
        trigger->hits[(trigger->newest + 1) % TRIGGER_PARTS] = 0;
        trigger->attempts[(trigger->newest + 1) % TRIGGER_PARTS] = 0;
    }
    trigger->newest = part;
}

static uint64_t sum(const uint32_t parts[TRIGGER_PARTS])
{
    uint64_t count = 0;

    for (unsigned i = 0; i < TRIGGER_PARTS; i++)
        count += parts[i];
    return count;
}

/* What is counted for the line and value, up to now; NULL when there is no room. */
static struct trigger *touch(struct triggers *triggers, const struct conf_reply_rule *rule,
                             uint64_t value, uint64_t part)
{
    struct trigger *trigger = obtain(triggers, hash_combine(hash_u64(rule->id), value));

    if (trigger == NULL)
        return NULL;
    move_on(trigger, part);
    list_remove(&trigger->link);
    list_push_back(&triggers->by_age, &trigger->link);
    return trigger;
}

void triggers_attempt(struct triggers *triggers, const struct conf_reply_rule *rule, uint64_t value,
                      uint32_t count, uint64_t now_ns)
{
    uint64_t part_ns = rule->trigger.interval_ms * 1000000 / TRIGGER_PARTS;
    struct trigger *trigger = part_ns == 0 ? NULL : touch(triggers, rule, value, now_ns / part_ns);

    if (trigger)
        trigger->attempts[trigger->newest % TRIGGER_PARTS] += count;
}

bool triggers_hit(struct triggers *triggers, const struct conf_reply_rule *rule, uint64_t value,
                  uint64_t now_ns)
{
    uint64_t part_ns = rule->trigger.interval_ms * 1000000 / TRIGGER_PARTS;
    struct trigger *trigger;
    uint64_t count, attempts;

    if (part_ns == 0 || (rule->trigger.count <= 1 && rule->trigger.percent == 0))
        return true;
    trigger = touch(triggers, rule, value, now_ns / part_ns);
    if (trigger == NULL)
        return false;
    trigger->hits[trigger->newest % TRIGGER_PARTS]++;
    count = sum(trigger->hits);
    attempts = sum(trigger->attempts);
    if (rule->trigger.percent > 0
            ? attempts < rule->trigger.count || count * 100 < attempts * rule->trigger.percent
            : count < rule->trigger.count)
        return false;
    forget(triggers, trigger);
    return true;
}
