/*
 * purse_mint: the mints of rates that this shard owns.
 *
 * Purses of all shards (purse.h) ask here, each with one parcel that is also the answer; questions
 * stand in line until tokens fall due. The book of what was struck is policy/mint.h. A mint is made
 * when it is first asked and freed when nobody asks and nothing is owed; without memory, or where
 * the snapshot has no bound, a question is answered with nothing.
 *
 * Belongs to the shard's thread.
 */
#pragma once

#include "shard/purse.h"

/* The mint of one rate, at its owner. */
struct purse_mint {
    struct mint mint;
    struct mint_limit limit;
    bool is_closed; /* there is no bound any more */
    struct meter_key key;
    uint32_t index;
    uint16_t quantity;
    uint16_t asked_count;
    struct purse_parcel **asked; /* [shard count]: questions that stand in line here */
    struct io_timer timer;       /* the next token can be given out */
    struct shard *shard;
};

void purse_mint_init(struct shard *shard, uint32_t count_max);
void purse_mint_fini(struct shard *shard);
void purse_mint_on_ask(struct shard *shard, struct purse_parcel *ask);
/* The shard works with another snapshot. Who stands in line hears of it by purse_mint_speak, not
 * before the purses here know it, which would ask again at once. */
void purse_mint_adopt(struct shard *shard);
void purse_mint_speak(struct shard *shard);
/* Frees a few that are of no use any more. */
void purse_mint_tidy(struct shard *shard);

uint64_t purse_mint_hash(const struct meter_key *key, uint16_t quantity);
/* What bounds the rate by the shard's snapshot; purse_mint_is_bound: something does. */
struct mint_limit purse_mint_limit(const struct shard *shard, const struct meter_key *key,
                                   enum purse_quantity quantity);
bool purse_mint_is_bound(const struct mint_limit *limit);
bool purse_mint_limits_equal(const struct mint_limit *a, const struct mint_limit *b);
