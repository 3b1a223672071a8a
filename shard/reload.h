/*
 * reload: a new snapshot of the configuration on its way to every shard.
 *
 * Who reloads (control) publishes the snapshot and sends each shard an order. A shard takes the
 * published snapshot between two parcels, when the order comes or sooner: parcels from shard to
 * shard carry the version that their sender works with, and one of a newer version makes it load
 * the pointer first. It keeps the old snapshot until none of its objects holds anything of it, and
 * sends the order back then. When all orders are home the publisher lets go of the old one, and it
 * is freed. One reload at a time, so that what is published never changes while somebody loads it.
 */
#pragma once

#include "core/conf/conf.h"
#include "core/io/mailbox.h"

#include <stdatomic.h>

enum reload_parcel_kind {
    RELOAD_ORDER = 0x600, /* to a shard, and back */
};

/* Written by the publisher, read by shards. Holds a reference. */
struct published {
    _Atomic(struct conf *) conf;
    _Atomic(uint32_t) version;
};

struct reload {
    struct published *published;
    struct mailbox *const *to_shards; /* [count] */
    struct parcel *orders;            /* [count] */
    uint16_t count;
    uint16_t waiting; /* orders that are not home */
    struct conf *old; /* until then */
    void (*done)(void *context);
    void *context;
};

/* done: every shard works with the new snapshot, and the old one is let go. */
void reload_init(struct reload *reload, struct published *published,
                 struct mailbox *const *to_shards, uint16_t count, void (*done)(void *context),
                 void *context);
/* May end a reload that is under way: shards are at an end too. */
void reload_fini(struct reload *reload);
static inline bool reload_is_under_way(const struct reload *reload)
{
    return reload->waiting > 0;
}
/* Takes over the caller's reference. None may be under way. */
void reload_start(struct reload *reload, struct conf *next);
/* The same in steps, for the simulator, where shards hear of it one after the other. */
void reload_publish(struct reload *reload, struct conf *next);
void reload_tell(struct reload *reload, uint16_t shard);
/* An order that has come home. */
void reload_on_parcel(struct reload *reload, struct parcel *parcel);
