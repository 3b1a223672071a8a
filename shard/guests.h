/*
 * guests: how many sessions there are of each source group, over all shards.
 *
 * A group may have max-smtp-in sessions, and of total-max-smtp-in as many as its reserved-smtp-in
 * are nobody else's. A session takes a reserved place of its group while there is one, else one of
 * those that are for all, of which there are total-max-smtp-in less everything reserved. Sessions
 * begin seldom beside what they do, so these are plain atomic counters that all shards share:
 * exact, and never passed by one. Any thread; nothing waits.
 */
#pragma once

#include "core/conf/conf.h"

#include <stdalign.h>
#include <stdatomic.h>

struct guests {
    alignas(128) _Atomic uint64_t common; /* without a reserved place */
    struct {
        _Atomic uint64_t all;
        _Atomic uint64_t reserved; /* of these, on reserved places */
    } groups[CONF_SOURCE_GROUPS_MAX];
};

/* What one session has taken. */
struct guest {
    uint32_t group_id; /* or CONF_NONE */
    bool is_reserved;
};

/* group_id: or CONF_NONE; that of a group which the snapshot does not have counts, without bound.
 * False when there is no place. */
bool guests_enter(struct guests *guests, const struct conf *conf, uint32_t group_id,
                  struct guest *ret_guest);
void guests_leave(struct guests *guests, struct guest guest);
/* Whether guests_enter would succeed now, as far as others leave it so. */
bool guests_have_place(const struct guests *guests, const struct conf *conf, uint32_t group_id);
/* All sessions there are. */
uint64_t guests_count(const struct guests *guests);
