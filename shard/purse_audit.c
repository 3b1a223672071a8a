/*
 * What must hold between the purses of a rate and its mint, for the simulator.
 */
#include "shard/purse_mint.h"
#include "shard/shard_int.h"

/* What one shard has of its last grant, in its purse or on the way to it. */
static const char *audit_purse(const struct purse *purse, const struct mint_shard *book)
{
    uint64_t book_end_ns = book->batch.first_ns + book->batch.count * purse->step_ns;

    if (purse->is_asking && purse->ask.parcel.kind == PURSE_ASK && purse->held > 0)
        return "tokens are held that were given back";
    /* Struck before the rate was changed: the book is not about it. */
    if (purse->step_ns != book->batch.step_ns ||
        (purse->step_ns == 0 && purse->first_ns != book->batch.first_ns) ||
        (purse->step_ns != 0 && purse->limit_ns != purse->step_ns))
        return NULL;
    if (purse->is_asking && purse->ask.parcel.kind == PURSE_GRANT)
        return purse->ask.batch.count == book->batch.count ? NULL : "a grant is not in the book";
    if (purse->is_asking)
        return purse->held == 0 ? NULL : "tokens are held that were given back";
    if (purse->held > purse->tail || purse->tail > book->batch.count)
        return "more tokens are held than were granted";
    if (purse->step_ns != 0 && purse->held > 0 &&
        purse->first_ns + purse->held * purse->step_ns != book_end_ns)
        return "tokens are held that another shard may have";
    return NULL;
}

/* No token is in two batches, nor to be struck again while it is in one. */
static bool batches_are_apart(const struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count && !mint->volume; i++) {
        const struct mint_batch *a = &mint->shards[i].batch;
        uint64_t end_ns = a->first_ns + a->count * mint->step_ns;

        if (a->count > 0 && end_ns > mint->next_ns)
            return false;
        for (uint16_t j = 0; j < i && a->count > 0; j++) {
            const struct mint_batch *b = &mint->shards[j].batch;

            if (b->count > 0 && a->first_ns < b->first_ns + b->count * mint->step_ns &&
                b->first_ns < end_ns)
                return false;
        }
    }
    return true;
}

static const char *audit_mint(struct shard *const *shards, uint16_t count,
                              const struct purse_mint *mint)
{
    const char *text = NULL;

    if (mint->is_closed)
        return NULL;
    if (!batches_are_apart(&mint->mint))
        return "a token was given out twice";
    for (uint16_t i = 0; i < count && !text; i++) {
        const struct purse *purse = purse_find(shards[i], &mint->key, mint->quantity);

        if (purse)
            text = audit_purse(purse, &mint->mint.shards[i]);
    }
    return text;
}

const char *purse_audit(struct shard *const *shards, uint16_t count, uint16_t which)
{
    const struct slab *mints = &shards[which]->purses.mints;
    const char *text = NULL;

    for (uint32_t at = 0; at < mints->count_grown && !text; at++)
        if (slab_is_live(mints, at))
            text = audit_mint(shards, count, slab_at(mints, at));
    return text;
}
