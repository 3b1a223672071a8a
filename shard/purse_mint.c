#include "shard/purse_mint.h"

#include "core/base/mem.h"
#include "shard/shard_int.h"

#define TIDY_STEPS 16u

static void on_mint_timer(struct io_timer *timer);

/* ---- Bounds ---------------------------------------------------------------------------------- */

static const struct conf_rate *rate_of_vmta(const struct conf_vmta *vmta,
                                            enum purse_quantity quantity)
{
    if (!vmta || quantity == PURSE_CONNECTS)
        return NULL;
    return quantity == PURSE_OCTETS ? &vmta->max_smtp_data_volume_rate : &vmta->max_smtp_msg_rate;
}

static const struct conf_rate *rate_of_limit(const struct conf_limit *limit,
                                             enum purse_quantity quantity)
{
    if (!limit)
        return NULL;
    return quantity == PURSE_OCTETS     ? &limit->max_data_volume_rate
           : quantity == PURSE_CONNECTS ? &limit->max_connect_rate
                                        : &limit->max_msg_rate;
}

struct mint_limit purse_mint_limit(const struct shard *shard, const struct meter_key *key,
                                   enum purse_quantity quantity)
{
    const struct conf_limit *limit = meters_limit(shard->conf, key);
    const struct conf_rate *rate =
        key->limit_id == SCOPE_OF_VMTA
            ? rate_of_vmta(conf_vmta(shard->conf, (uint32_t)key->values), quantity)
            : rate_of_limit(limit, quantity);

    /* A block whose scopes were changed counts by other keys. */
    if (!rate || rate->count == CONF_UNLIMITED || (limit && limit->scopes != key->scopes))
        return (struct mint_limit){.count = UINT64_MAX};
    return (struct mint_limit){rate->count, rate->interval_ms, rate->burst,
                               quantity == PURSE_OCTETS};
}

bool purse_mint_is_bound(const struct mint_limit *limit)
{
    return limit->count != UINT64_MAX;
}

bool purse_mint_limits_equal(const struct mint_limit *a, const struct mint_limit *b)
{
    return a->count == b->count && a->interval_ms == b->interval_ms && a->burst == b->burst;
}

/* ---- Making and freeing ------------------------------------------------------------------------
 */

uint64_t purse_mint_hash(const struct meter_key *key, uint16_t quantity)
{
    return hash_combine(scope_key_hash(key), quantity);
}

struct question {
    const struct meter_key *key;
    const struct slab *slab;
    uint16_t quantity;
};

static bool match_mint(uint32_t value, const void *key, void *context)
{
    const struct question *question = key;
    const struct purse_mint *mint = slab_at(question->slab, value);

    (void)context;
    return mint->quantity == question->quantity && scope_key_equal(&mint->key, question->key);
}

static struct purse_mint *find_mint(const struct purses *purses, const struct meter_key *key,
                                    uint16_t quantity)
{
    struct question question = {key, &purses->mints, quantity};
    uint32_t index = table_find(&purses->mint_by_key, purse_mint_hash(key, quantity), match_mint,
                                &question, NULL);

    return index == TABLE_NONE ? NULL : slab_at(&purses->mints, index);
}

static void mint_free(struct shard *shard, struct purse_mint *mint)
{
    io_timer_stop(shard->io, &mint->timer);
    mint_fini(&mint->mint);
    mem_free(mint->asked);
    table_remove(&shard->purses.mint_by_key, purse_mint_hash(&mint->key, mint->quantity),
                 mint->index);
    slab_free(&shard->purses.mints, mint->index);
}

/* A rate begins with the process, whenever it is met first. NULL when there is no bound, or when
 * memory is short. */
static struct purse_mint *mint_obtain(struct shard *shard, const struct meter_key *key,
                                      uint16_t quantity)
{
    struct purse_mint *mint = find_mint(&shard->purses, key, quantity);
    struct mint_limit limit = purse_mint_limit(shard, key, quantity);
    uint64_t began_ns = shard->rates.began_ns;
    uint32_t index;

    if (mint || !purse_mint_is_bound(&limit))
        return mint;
    mint = slab_alloc(&shard->purses.mints, &index);
    if (!mint)
        return NULL;
    if (!table_insert(&shard->purses.mint_by_key, purse_mint_hash(key, quantity), index)) {
        slab_free(&shard->purses.mints, index);
        return NULL;
    }
    mint_init(&mint->mint, mint_limit_step_ns(&limit), shard->count, began_ns);
    mint_set_volume(&mint->mint, &limit, began_ns);
    mint->limit = limit;
    mint->shard = shard;
    mint->key = *key;
    mint->index = index;
    mint->quantity = quantity;
    io_timer_init(&mint->timer, on_mint_timer);
    mint->asked = mem_alloc(shard->count * sizeof(struct purse_parcel *));
    return mint;
}

static void adopt_mint(struct shard *shard, struct purse_mint *mint)
{
    struct mint_limit limit = purse_mint_limit(shard, &mint->key, mint->quantity);

    mint->is_closed = !purse_mint_is_bound(&limit);
    if (mint->is_closed || purse_mint_limits_equal(&mint->limit, &limit))
        return;
    mint->limit = limit;
    mint_change(&mint->mint, mint_limit_step_ns(&limit));
    mint_set_volume(&mint->mint, &limit, io_now_ns(shard->io));
}

void purse_mint_adopt(struct shard *shard)
{
    const struct slab *mints = &shard->purses.mints;

    for (uint32_t i = 0; i < mints->count_grown; i++)
        if (slab_is_live(mints, i))
            adopt_mint(shard, slab_at(mints, i));
}

void purse_mint_tidy(struct shard *shard)
{
    struct purses *purses = &shard->purses;
    uint64_t now_ns = io_now_ns(shard->io);

    for (uint32_t i = 0; i < TIDY_STEPS && i < purses->mints.count_grown; i++) {
        uint32_t at = purses->mint_hand++ % purses->mints.count_grown;
        struct purse_mint *mint =
            slab_is_live(&purses->mints, at) ? slab_at(&purses->mints, at) : NULL;

        if (mint && mint->asked_count == 0 && !mint_is_owed(&mint->mint, now_ns))
            mint_free(shard, mint);
    }
}

void purse_mint_init(struct shard *shard, uint32_t count_max)
{
    slab_init(&shard->purses.mints, sizeof(struct purse_mint), count_max);
    table_init(&shard->purses.mint_by_key);
}

void purse_mint_fini(struct shard *shard)
{
    struct purses *purses = &shard->purses;

    for (uint32_t i = 0; i < purses->mints.count_grown; i++)
        if (slab_is_live(&purses->mints, i))
            mint_free(shard, slab_at(&purses->mints, i));
    table_fini(&purses->mint_by_key);
    slab_fini(&purses->mints);
}

/* ---- Speaking -------------------------------------------------------------------------------- */

/* Nothing to give: the bound is gone, or nothing was wanted. */
static void send_empty(struct shard *shard, uint16_t to, struct purse_parcel *ask)
{
    ask->batch = (struct mint_batch){.step_ns = 1};
    purse_send(shard, to, ask, PURSE_GRANT);
}

/* There is no bound any more: whoever stands in line need not. */
static void send_away(struct shard *shard, struct purse_mint *mint)
{
    mint_clear_line(&mint->mint);
    for (uint16_t i = 0; i < shard->count; i++) {
        struct purse_parcel *ask = mint->asked[i];

        mint->asked[i] = NULL;
        mint->asked_count -= ask != NULL;
        if (ask)
            send_empty(shard, i, ask);
    }
}

/* Gives out what falls due; the rest of the line waits for the timer. */
static void mint_speak(struct shard *shard, struct purse_mint *mint)
{
    struct mint_batch batch;
    uint16_t to;

    if (mint->is_closed)
        send_away(shard, mint);
    while (mint_next_batch(&mint->mint, io_now_ns(shard->io), &to, &batch)) {
        struct purse_parcel *ask = mint->asked[to];

        must(ask);
        mint->asked[to] = NULL;
        mint->asked_count--;
        ask->batch = batch;
        ask->limit = mint->limit;
        purse_send(shard, to, ask, PURSE_GRANT);
    }
    if (mint_due_ns(&mint->mint) != UINT64_MAX)
        io_timer_arm(shard->io, &mint->timer, mint_due_ns(&mint->mint));
}

static void on_mint_timer(struct io_timer *timer)
{
    struct purse_mint *mint = container_of(timer, struct purse_mint, timer);

    mint_speak(mint->shard, mint);
}

void purse_mint_on_ask(struct shard *shard, struct purse_parcel *ask)
{
    struct purse_mint *mint = mint_obtain(shard, &ask->key, ask->quantity);
    uint16_t from = ask->parcel.from;

    /* No bound, or no memory: in that case it comes again. */
    if (!mint) {
        send_empty(shard, from, ask);
        return;
    }
    must(!mint->asked[from]);
    mint_ask(&mint->mint, from, ask->wanted, ask->need, ask->unused);
    mint_give_back(&mint->mint, ask->returned);
    if (ask->wanted == 0) {
        send_empty(shard, from, ask);
    } else {
        mint->asked[from] = ask;
        mint->asked_count++;
    }
    mint_speak(shard, mint);
}

void purse_mint_speak(struct shard *shard)
{
    const struct slab *mints = &shard->purses.mints;

    for (uint32_t i = 0; i < mints->count_grown; i++)
        if (slab_is_live(mints, i))
            mint_speak(shard, slab_at(mints, i));
}
