/*
 * provider_build: the <provider> sections of a file as they stand in the snapshot; private to
 * core/conf.
 *
 * The shipped ones are read once in a process, at its first snapshot, and never freed; every
 * snapshot refers to them. One thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"
#include "core/conf/provider_table.h"

#include <stddef.h>

/* Whether it bounds all queues of the provider together, rather than each. */
static inline bool provider_limit_is_shared(const struct provider_limit *limit)
{
    const struct directive *row = limit->domain;

    return row == NULL || row->offset == offsetof(struct conf_queue, max_smtp_out) ||
           row->offset == offsetof(struct conf_queue, max_msg_rate) ||
           row->offset == offsetof(struct conf_queue, max_connect_rate);
}

/* 0, or -ENOMEM. */
int build_providers(struct build *build);
void provider_table_init(struct provider_table *table);
void provider_table_fini(struct provider_table *table);
/* NULL when the snapshot has none of that number. */
const struct provider *provider_find(const struct conf *conf, uint64_t number);
/* The bound on all mail to the provider that counts: of the user's sections, or, unless it is
 * beaten, of the pack's. NULL when there is none. */
const struct conf_limit *provider_bound(const struct conf *conf, uint64_t number, uint32_t tier,
                                        enum conf_provider_bound bound, bool is_beaten);
/* Makes the bounds of all sections that have a say; before the limits get their ids. */
void build_provider_limits(struct build *build);
/* Writes what stands beneath a queue's <domain> blocks. */
void provider_apply(const struct conf *conf, uint64_t number, uint32_t tier,
                    struct conf_queue *queue);
