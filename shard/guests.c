#include "shard/guests.h"

#include "core/base/must.h"

static uint64_t read_count(const _Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* One more, unless there are max already. */
static bool take(_Atomic uint64_t *count, uint64_t max)
{
    uint64_t seen = read_count(count);

    do {
        if (seen >= max)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(count, &seen, seen + 1, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

static void give(_Atomic uint64_t *count)
{
    uint64_t before = atomic_fetch_sub_explicit(count, 1, memory_order_relaxed);

    must(before > 0);
}

/* Where nothing is reserved, total-max-smtp-in is counted by its lease alone. */
static uint64_t common_max(const struct conf *conf)
{
    const struct conf_global *global = conf_global(conf);

    return global->reserved_smtp_in > 0 ? global->total_max_smtp_in - global->reserved_smtp_in
                                        : CONF_UNLIMITED;
}

bool guests_enter(struct guests *guests, const struct conf *conf, uint32_t group_id,
                  struct guest *ret_guest)
{
    const struct conf_source_group *group =
        group_id == CONF_NONE ? NULL : conf_source_group(conf, group_id);

    *ret_guest = (struct guest){.group_id = group_id};
    if (group_id != CONF_NONE &&
        !take(&guests->groups[group_id].all, group ? group->max_smtp_in : CONF_UNLIMITED))
        return false;
    if (group && take(&guests->groups[group_id].reserved, group->reserved_smtp_in))
        ret_guest->is_reserved = true;
    else if (!take(&guests->common, common_max(conf))) {
        if (group_id != CONF_NONE)
            give(&guests->groups[group_id].all);
        return false;
    }
    return true;
}

void guests_leave(struct guests *guests, struct guest guest)
{
    if (guest.group_id != CONF_NONE)
        give(&guests->groups[guest.group_id].all);
    give(guest.is_reserved ? &guests->groups[guest.group_id].reserved : &guests->common);
}

bool guests_have_place(const struct guests *guests, const struct conf *conf, uint32_t group_id)
{
    const struct conf_source_group *group =
        group_id == CONF_NONE ? NULL : conf_source_group(conf, group_id);

    if (group && read_count(&guests->groups[group_id].all) >= group->max_smtp_in)
        return false;
    if (group && read_count(&guests->groups[group_id].reserved) < group->reserved_smtp_in)
        return true;
    return read_count(&guests->common) < common_max(conf);
}

uint64_t guests_count(const struct guests *guests)
{
    uint64_t sum = read_count(&guests->common);

    for (uint32_t i = 0; i < CONF_SOURCE_GROUPS_MAX; i++)
        sum += read_count(&guests->groups[i].reserved);
    return sum;
}
