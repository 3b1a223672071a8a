/*
 * chain: which line of the file each keyword of a queue or a virtual MTA comes from; private to
 * core/conf.
 *
 * conf_queue answers the same question for the values alone and is made for speed; this is for
 * people: `show settings` and the checks of `test config`. Two names of one thing count as one
 * keyword, the first in the table. One thread for each chain; nothing is written to the snapshot.
 */
#pragma once

#include "core/conf/snapshot.h"

/* The block that decides a keyword, and the last line in it that does; NULL: the default counts. */
struct chain_link {
    const struct settings *block;
    const struct setting *setting;
};

struct chain {
    uint16_t *canonical;      /* by row: the row that stands for it */
    struct chain_link *links; /* by row */
};

void chain_init(struct chain *chain);
void chain_fini(struct chain *chain);
/* Forgets what was decided before. */
void chain_reset(struct chain *chain);
/* Adds what the blocks of a layer say of a domain, over what was added before. */
void chain_add_layer(struct chain *chain, const struct conf *conf, uint32_t layer,
                     struct slice domain);
/* Adds one block's lines that may stand in the scope; NULL adds nothing. */
void chain_add(struct chain *chain, const struct settings *block, enum scope scope);
/* All that the file and overrides say of a queue, in the order of the merge; slot may be NULL. */
void chain_add_layers(struct chain *chain, const struct conf *conf, struct slice domain,
                      const struct vmta_slot *slot);
/* Every keyword of a queue, as conf_queue has them. */
void chain_of_queue(struct chain *chain, const struct conf *conf, struct slice domain,
                    const struct vmta_slot *slot);
/* Every keyword of the virtual MTA itself: its own, its pools', the top level's. */
void chain_of_vmta(struct chain *chain, const struct conf *conf, const struct vmta_slot *slot);
/* False for another name of a keyword that is listed already. */
bool chain_is_listed(const struct chain *chain, const struct directive *row);
/* Whether both are names of one keyword. */
bool chain_is_about(const struct chain *chain, const struct directive *row,
                    const struct directive *other);
struct chain_link chain_at(const struct chain *chain, const struct directive *row);
