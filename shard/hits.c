#include "shard/hits.h"

#include "shard/shard_int.h"

void hits_init(struct shard *shard)
{
    slab_init(&shard->hits.slab, sizeof(struct hit_parcel), HITS_OPEN_MAX);
}

void hits_fini(struct shard *shard)
{
    slab_fini(&shard->hits.slab);
}

static uint64_t key_of(const struct conf_reply_rule *rule, uint64_t value)
{
    return hash_combine(hash_u64(rule->id), value);
}

static uint16_t owner_of(const struct shard *shard, const struct conf_reply_rule *rule,
                         uint64_t value)
{
    if (rule->scope == CONF_REPLY_OF_QUEUE)
        return shard->number;
    return (uint16_t)(key_of(rule, value) % shard->count);
}

/* NULL when too many are open. */
static struct hit_parcel *prepare(struct shard *shard, const struct conf_reply_rule *rule,
                                  uint64_t value)
{
    uint32_t index;
    struct hit_parcel *hit = slab_alloc_unset(&shard->hits.slab, &index);

    if (!hit)
        return NULL;
    hit->parcel = (struct parcel){.kind = SHARD_HIT_TELL, .from = shard->number};
    hit->index = index;
    hit->rule_id = rule->id;
    hit->trigger = rule->trigger;
    hit->value = value;
    hit->attempts = 0;
    hit->is_hit = false;
    hit->fires = false;
    return hit;
}

static struct hits_due *due_of(struct shard *shard, uint64_t key)
{
    return &shard->hits.due[key % HITS_DUE_COUNT];
}

/* The owner hears of the attempts that stand there. Where too many parcels are open they wait. */
static void tell_attempts(struct shard *shard, struct hits_due *due)
{
    const struct conf_reply_rule rule = {.id = due->rule_id, .trigger = due->trigger};
    struct hit_parcel *hit = prepare(shard, &rule, due->value);

    if (!hit)
        return;
    hit->attempts = due->count;
    due->count = 0;
    shard_post(shard, (uint16_t)(key_of(&rule, due->value) % shard->count), &hit->parcel);
}

void hits_attempt(struct shard *shard, const struct conf_reply_rule *rule, uint64_t value)
{
    struct hits_due *due = due_of(shard, key_of(rule, value));

    if (owner_of(shard, rule, value) == shard->number) {
        triggers_attempt(&shard->triggers, rule, value, 1, io_now_ns(shard->io));
        return;
    }
    if (due->count > 0 && (due->rule_id != rule->id || due->value != value))
        tell_attempts(shard, due);
    if (due->count > 0 && (due->rule_id != rule->id || due->value != value))
        return;
    due->rule_id = rule->id;
    due->trigger = rule->trigger;
    due->value = value;
    if (++due->count >= HITS_ATTEMPTS)
        tell_attempts(shard, due);
}

bool hits_count(struct shard *shard, const struct conf_reply_rule *rule, uint64_t value,
                hits_fill_fn *fill, const void *context)
{
    uint16_t owner = owner_of(shard, rule, value);
    struct hits_due *due = due_of(shard, key_of(rule, value));
    struct hit_parcel *hit = NULL;

    if (rule->trigger.count <= 1 && rule->trigger.percent == 0)
        return true;
    if (owner != shard->number)
        hit = prepare(shard, rule, value);
    if (!hit)
        return triggers_hit(&shard->triggers, rule, value, io_now_ns(shard->io));
    if (due->count > 0 && due->rule_id == rule->id && due->value == value) {
        hit->attempts = due->count;
        due->count = 0;
    }
    hit->is_hit = true;
    fill(context, rule, &hit->facts);
    shard_post(shard, owner, &hit->parcel);
    return false;
}

/* At the owner. */
static void on_told(struct shard *shard, struct hit_parcel *hit)
{
    const struct conf_reply_rule rule = {.id = hit->rule_id, .trigger = hit->trigger};
    uint64_t now_ns = io_now_ns(shard->io);

    if (hit->attempts > 0)
        triggers_attempt(&shard->triggers, &rule, hit->value, hit->attempts, now_ns);
    if (hit->is_hit)
        hit->fires = triggers_hit(&shard->triggers, &rule, hit->value, now_ns);
    hit->parcel.kind = SHARD_HIT_TOLD;
    shard_post(shard, hit->parcel.from, &hit->parcel);
}

void hits_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct hit_parcel *hit = container_of(parcel, struct hit_parcel, parcel);

    if (parcel->kind == SHARD_HIT_TELL) {
        on_told(shard, hit);
        return;
    }
    if (hit->fires)
        replies_on_fired(shard, &hit->facts);
    slab_free(&shard->hits.slab, hit->index);
}
