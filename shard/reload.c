#include "shard/reload.h"

#include "core/base/mem.h"
#include "core/base/must.h"

void reload_init(struct reload *reload, struct published *published,
                 struct mailbox *const *to_shards, uint16_t count, void (*done)(void *context),
                 void *context)
{
    *reload = (struct reload){
        .published = published,
        .to_shards = to_shards,
        .orders = mem_alloc(count * sizeof(*reload->orders)),
        .count = count,
        .done = done,
        .context = context,
    };
}

void reload_fini(struct reload *reload)
{
    conf_unref(reload->old);
    mem_free(reload->orders);
}

void reload_publish(struct reload *reload, struct conf *next)
{
    struct published *published = reload->published;
    uint32_t version = atomic_load_explicit(&published->version, memory_order_relaxed) + 1;

    must(!reload_is_under_way(reload) && !reload->old);
    reload->old = atomic_load_explicit(&published->conf, memory_order_relaxed);
    atomic_store_explicit(&published->conf, next, memory_order_release);
    atomic_store_explicit(&published->version, version, memory_order_release);
    reload->waiting = reload->count;
}

void reload_tell(struct reload *reload, uint16_t shard)
{
    uint32_t version = atomic_load_explicit(&reload->published->version, memory_order_relaxed);

    reload->orders[shard] = (struct parcel){.kind = RELOAD_ORDER, .stamp = version};
    mailbox_post(reload->to_shards[shard], &reload->orders[shard]);
}

void reload_start(struct reload *reload, struct conf *next)
{
    reload_publish(reload, next);
    for (uint16_t i = 0; i < reload->count; i++)
        reload_tell(reload, i);
}

void reload_on_parcel(struct reload *reload, struct parcel *parcel)
{
    must(parcel->kind == RELOAD_ORDER && reload->waiting > 0);
    if (--reload->waiting > 0)
        return;
    conf_unref(reload->old);
    reload->old = NULL;
    reload->done(reload->context);
}
