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
/* Where a limit comes from: the user's sections, or the pack's. The last line of that keyword in
 * the provider's section, else in that of <provider *>; NULL when there is none. */
const struct provider_limit *provider_limit_of(const struct conf *conf, uint64_t number,
                                               const char *keyword, bool of_pack);
/* Writes what stands beneath a queue's <domain> blocks. */
void provider_apply(const struct conf *conf, uint64_t number, uint32_t tier,
                    struct conf_queue *queue);
