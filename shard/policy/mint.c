#include "shard/policy/mint.h"

#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/policy/volume.h"

void mint_init(struct mint *mint, uint64_t step_ns, uint16_t shard_count, uint64_t now_ns)
{
    must(step_ns > 0 && shard_count > 0);
    *mint = (struct mint){
        .step_ns = step_ns,
        .next_ns = now_ns + step_ns,
        .shards = mem_alloc(shard_count * sizeof(*mint->shards)),
        .line = mem_alloc(shard_count * sizeof(*mint->line)),
        .count = shard_count,
    };
}

uint64_t mint_limit_step_ns(const struct mint_limit *limit)
{
    uint64_t step_ns = rate_step_ns(limit->count, limit->interval_ms);

    must(limit->count != UINT64_MAX);
    return step_ns > 0 ? step_ns : 1;
}

void mint_set_volume(struct mint *mint, const struct mint_limit *limit, uint64_t now_ns)
{
    uint64_t burst = limit->is_octets ? 0 : limit->burst;

    if (mint_limit_is_row(limit)) {
        mem_free(mint->volume);
        mint->volume = NULL;
    } else if (mint->volume) {
        volume_change(mint->volume, limit->count, limit->interval_ms, burst, now_ns);
    } else {
        mint->volume = mem_alloc(sizeof(*mint->volume));
        volume_init(mint->volume, limit->count, limit->interval_ms, burst, now_ns);
    }
}

void mint_fini(struct mint *mint)
{
    mem_free(mint->volume);
    mem_free(mint->shards);
    mem_free(mint->line);
}

void mint_change(struct mint *mint, uint64_t step_ns)
{
    uint64_t struck_ns = mint->next_ns > mint->step_ns ? mint->next_ns - mint->step_ns : 0;

    must(step_ns > 0);
    mint->next_ns = struck_ns + step_ns;
    mint->step_ns = step_ns;
    for (uint16_t i = 0; i < mint->count; i++)
        mint->shards[i].batch = (struct mint_batch){0};
}

bool mint_is_owed(const struct mint *mint, uint64_t now_ns)
{
    if (mint->volume)
        return volume_is_owed(mint->volume, now_ns);
    /* A batch that was given out may come back, or is used within its time. */
    return mint->next_ns + 2 * RATE_LATE_NS > now_ns;
}

void mint_clear_line(struct mint *mint)
{
    for (uint16_t i = 0; i < mint->count; i++)
        mint->shards[i].wanted = 0;
    mint->line_count = 0;
}

static void take_back(struct mint *mint, const struct mint_batch *batch, uint32_t unused)
{
    uint64_t end_ns = batch->first_ns + batch->count * mint->step_ns;

    if (unused == 0 || unused > batch->count)
        return;
    if (mint->volume && batch->step_ns == 0)
        volume_give_back(mint->volume, unused, batch->first_ns);
    /* Only what was struck last can be struck again: the times of tokens ascend. */
    else if (!mint->volume && end_ns == mint->next_ns)
        mint->next_ns -= unused * mint->step_ns;
}

void mint_ask(struct mint *mint, uint16_t shard, uint32_t wanted, uint32_t need, uint32_t unused)
{
    struct mint_shard *asker = &mint->shards[shard];

    must(shard < mint->count && asker->wanted == 0 && need <= wanted);
    take_back(mint, &asker->batch, unused);
    asker->batch.count = 0;
    if (wanted == 0)
        return;
    asker->wanted = wanted;
    asker->need = need > 0 ? need : 1;
    mint->line[(mint->line_first + mint->line_count++) % mint->count] = shard;
}

void mint_give_back(struct mint *mint, uint64_t amount)
{
    if (mint->volume && amount > 0)
        volume_give_back(mint->volume, amount, 0);
}

/* The same of a volume: what the first in line needs, and of the rest its part. */
static bool volume_batch(struct mint *mint, uint64_t now_ns, struct mint_batch *ret_batch)
{
    const struct mint_shard *head = &mint->shards[mint->line[mint->line_first]];
    uint64_t amount;

    if (volume_due_ns(mint->volume, head->need) > now_ns)
        return false;
    amount = volume_allowed(mint->volume, now_ns, MINT_AHEAD_NS) / mint->line_count;
    if (amount < head->need)
        amount = head->need;
    if (amount > head->wanted)
        amount = head->wanted;
    volume_use(mint->volume, amount, now_ns);
    /* If a row comes after it, that counts from here. */
    mint->next_ns = now_ns + mint->step_ns;
    *ret_batch = (struct mint_batch){now_ns, 0, (uint32_t)amount};
    return true;
}

static uint16_t leave_line(struct mint *mint)
{
    uint16_t shard = mint->line[mint->line_first];

    mint->line_first = (uint16_t)((mint->line_first + 1) % mint->count);
    mint->line_count--;
    mint->shards[shard].wanted = 0;
    return shard;
}

/* The same of a row. */
static bool row_batch(struct mint *mint, uint64_t now_ns, struct mint_batch *ret_batch)
{
    uint64_t floor_ns = now_ns > MINT_AHEAD_NS ? now_ns - MINT_AHEAD_NS : 0;
    uint64_t first_ns = mint->next_ns > floor_ns ? mint->next_ns : floor_ns;
    uint32_t wanted = mint->shards[mint->line[mint->line_first]].wanted;
    uint64_t count, part;

    if (first_ns > now_ns + MINT_AHEAD_NS)
        return false;
    count = (now_ns + MINT_AHEAD_NS - first_ns) / mint->step_ns + 1;
    part = count / mint->line_count > 1 ? count / mint->line_count : 1;
    *ret_batch =
        (struct mint_batch){first_ns, mint->step_ns, part < wanted ? (uint32_t)part : wanted};
    mint->next_ns = first_ns + ret_batch->count * mint->step_ns;
    return true;
}

bool mint_next_batch(struct mint *mint, uint64_t now_ns, uint16_t *ret_shard,
                     struct mint_batch *ret_batch)
{
    struct mint_batch batch;

    if (mint->line_count == 0 ||
        !(mint->volume ? volume_batch(mint, now_ns, &batch) : row_batch(mint, now_ns, &batch)))
        return false;
    *ret_shard = leave_line(mint);
    mint->shards[*ret_shard].batch = batch;
    *ret_batch = batch;
    return true;
}

uint64_t mint_due_ns(const struct mint *mint)
{
    if (mint->line_count == 0)
        return UINT64_MAX;
    if (mint->volume)
        return volume_due_ns(mint->volume, mint->shards[mint->line[mint->line_first]].need);
    return mint->next_ns > MINT_AHEAD_NS ? mint->next_ns - MINT_AHEAD_NS : 0;
}
