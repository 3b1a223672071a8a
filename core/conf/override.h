/*
 * override: single keywords of queues that an operator has set for a time: the last layer of the
 * merge; private to core/conf.
 *
 * Values are parsed and checked as a line of a <domain> block would be. What stands in the way of
 * a new one is an error of the load; an older one that does not fit the configuration any more is
 * told as a warning and passed by. One thread while building, any afterwards.
 */
#pragma once

#include "core/conf/build.h"

/* Needs virtual MTAs and lists. 0 or -errno. */
int build_overrides(struct build *build);
/* Calls visit with each that holds for the queue, the most general ones first. */
void override_visit(const struct conf *conf, struct slice domain, uint32_t vmta_id,
                    void (*visit)(void *context, const struct settings *settings), void *context);
