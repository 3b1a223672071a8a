/*
 * triggers: how often a reply line was hit lately, for lines that ask for more than one hit.
 *
 * Counted at one shard (hits.h), per line and value of its scope, in tenths of the line's span: N
 * hits count as N within TIME when they lie in at most TIME, and as N within 9/10 of it at least. A
 * line that fired begins anew. Of more than TRIGGER_COUNT_MAX the one that was hit longest ago is
 * forgotten. For lines that ask for a share (PCT) the attempts are counted besides, in the same
 * tenths; they fire with a hit that makes the share, of so many attempts at least as the line says.
 *
 * All of it belongs to the shard's thread; times are nanoseconds of its clock.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/conf/reply_rule.h"

#define TRIGGER_COUNT_MAX 4096u
#define TRIGGER_PARTS     10u

struct triggers {
    struct slab slab;
    struct table table;
    struct list by_age; /* the one that was hit longest ago first */
};

void triggers_init(struct triggers *triggers);
void triggers_fini(struct triggers *triggers);
/* So many attempts were made for that value of the line's scope; for lines that ask for a share,
 * ahead of the hit that it may be. */
void triggers_attempt(struct triggers *triggers, const struct conf_reply_rule *rule, uint64_t value,
                      uint32_t count, uint64_t now_ns);
/* The line was hit for that value of its scope: whether what it says is to be done now. */
bool triggers_hit(struct triggers *triggers, const struct conf_reply_rule *rule, uint64_t value,
                  uint64_t now_ns);
